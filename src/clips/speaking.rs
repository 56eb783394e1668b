//! A text as one sound: what a voice makes of it, whole.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Language;
use crate::pcm::samples_in;
use crate::playout::clips::MAX_CLIP;
use crate::sentence::Ends;
use crate::tts::{AnswerId, Fault, Say, Synthesizer};

/// Pieces between the voice and us.
const PIECES: usize = 64;

/// What `voice` makes of a text: mono, 16 kHz, level-matched; no more than a clip may be long.
///
/// # Errors
/// When the voice fails.
pub async fn spoken(voice: &dyn Synthesizer, text: &str, language: Language) -> Result<Vec<i16>, Fault> {
    let (piece_in, mut pieces) = mpsc::channel::<Vec<i16>>(PIECES);
    let stop = CancellationToken::new();
    let answer = AnswerId { call: AnswerId::new_call(), answer: 0 };
    let speaking = voice.say(Say { text: text.into(), language, ends: Ends::Sentence, answer }, piece_in, stop.clone());
    let most = samples_in(MAX_CLIP) as usize;
    let collecting = async {
        let mut sound = Vec::new();
        while let Some(piece) = pieces.recv().await {
            sound.extend(piece);
            if sound.len() >= most {
                sound.truncate(most);
                stop.cancel();
                break;
            }
        }
        sound
    };
    let (said, sound) = tokio::join!(speaking, collecting);
    said.map(|()| sound)
}
