//! The answer that is being asked for or spoken: what ends it, and how long its phrases are.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::conversation::{Generation, Seq};
use crate::pcm::{FRAME_SAMPLES, level};
use crate::sentence::{Ends, Piece};

/// Speech a voice makes of a character, for a phrase whose length is not known yet.
const FRAMES_PER_CHARACTER: f32 = 3.5;

/// The answer that is being asked for or spoken.
pub(super) struct Open {
    pub generation: Generation,
    /// It was asked for on the chance that the caller has finished.
    pub early: bool,
    /// Ends the asking and the speaking.
    pub stop: CancellationToken,
    /// Ends the asking alone.
    pub stop_asking: CancellationToken,
    committed: watch::Sender<bool>,
    phrases: Vec<Phrase>,
    /// Samples of the last piece, where they come by themselves.
    sounded: u64,
}

/// A phrase of the open answer.
struct Phrase {
    ends: Ends,
    characters: usize,
    /// Its frames up to its last sound, once it is synthesised.
    voiced: Option<u32>,
}

impl Open {
    pub fn new(generation: Generation, early: bool) -> Self {
        let stop = CancellationToken::new();
        let stop_asking = stop.child_token();
        let committed = watch::Sender::new(false);
        Self { generation, early, stop, stop_asking, committed, phrases: Vec::new(), sounded: 0 }
    }

    /// It may be heard, and what it wants done may be done.
    pub fn commit(&mut self) {
        self.committed.send_replace(true);
    }

    /// Whether it may be heard.
    pub fn is_committed(&self) -> bool {
        *self.committed.borrow()
    }

    /// Tells when it may.
    pub fn commitment(&self) -> watch::Receiver<bool> {
        self.committed.subscribe()
    }

    /// The next piece of text that is to be spoken.
    pub fn add(&mut self, piece: &Piece) {
        self.phrases.push(Phrase { ends: piece.ends, characters: piece.text.chars().count(), voiced: None });
    }

    /// The next piece is sound that the model makes by itself.
    pub fn add_sound(&mut self) {
        self.phrases.push(Phrase { ends: Ends::Sentence, characters: 0, voiced: Some(0) });
        self.sounded = 0;
    }

    /// Sound of the last piece.
    pub fn sounded(&mut self, samples: &[i16]) {
        let Some(phrase) = self.phrases.last_mut() else { return };
        for frame in samples.chunks(FRAME_SAMPLES) {
            self.sounded += frame.len() as u64;
            if level::rms_dbfs(frame) > level::VOICED_DBFS {
                phrase.voiced = Some(u32::try_from(self.sounded.div_ceil(FRAME_SAMPLES as u64)).unwrap_or(u32::MAX));
            }
        }
    }

    /// How many pieces there are.
    pub fn phrases(&self) -> Seq {
        Seq::try_from(self.phrases.len()).unwrap_or(Seq::MAX)
    }

    /// How a phrase ends.
    pub fn ends(&self, seq: Seq) -> Ends {
        self.phrases.get(seq as usize).map_or(Ends::Sentence, |phrase| phrase.ends)
    }

    /// A phrase has been synthesised, and is so long without the silence behind it.
    pub fn spoken(&mut self, seq: Seq, voiced: u32) {
        if let Some(phrase) = self.phrases.get_mut(seq as usize) {
            phrase.voiced = Some(voiced);
        }
    }

    /// What part of a phrase's sound is in its first `frames` frames.
    pub fn share(&self, seq: Seq, frames: u32) -> f32 {
        self.phrases.get(seq as usize).map_or(0.0, |phrase| {
            let guess = phrase.characters as f32 * FRAMES_PER_CHARACTER;
            let whole = phrase.voiced.map_or(guess, |voiced| voiced as f32);
            (frames as f32 / whole.max(1.0)).min(1.0)
        })
    }
}
