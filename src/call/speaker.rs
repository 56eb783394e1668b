//! Speaks an answer: phrase after phrase through the synthesizer into the speech ring, in order, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbuf::HeapProd;
use ringbuf::traits::Producer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::conversation::{Generation, Seq};
use crate::pcm::{FRAME_SAMPLES, Frame, SILENCE, level};
use crate::playout::SpeechFrame;
use crate::tts::{Fault, Say, Synthesizer};

use super::Work;

/// Pieces of sound between the synthesizer and the ring.
const PIECES: usize = 16;
/// How long to wait for room in a full speech ring: it empties one frame every ptime.
const ROOM_AFTER: Duration = Duration::from_millis(20);

/// A phrase to be spoken.
pub(super) struct Phrase {
    pub generation: Generation,
    pub seq: Seq,
    pub say: Say,
    /// Ends with its answer.
    pub stop: CancellationToken,
}

/// Speaks what comes through `phrases` until that is closed.
pub(super) async fn speak(
    voice: Arc<dyn Synthesizer>,
    mut phrases: mpsc::Receiver<Phrase>,
    mut ring: HeapProd<SpeechFrame>,
    work: mpsc::Sender<Work>,
) {
    while let Some(phrase) = phrases.recv().await {
        if phrase.stop.is_cancelled() {
            continue;
        }
        let (generation, seq) = (phrase.generation, phrase.seq);
        let _ = work.send(Work::PhraseStarted { generation, at: Instant::now() }).await;
        let report = match speak_phrase(&*voice, &phrase, &mut ring, &work).await {
            Ok(Length { voiced, .. }) => Work::PhraseSpoken { generation, seq, voiced },
            Err(_) if phrase.stop.is_cancelled() => continue,
            Err(fault) => Work::PhraseFailed { generation, seq, fault },
        };
        if work.send(report).await.is_err() {
            return;
        }
    }
}

/// How long a phrase is, in frames.
#[derive(Debug, Clone, Copy, Default)]
struct Length {
    queued: u32,
    /// Without the silence behind its last word.
    voiced: u32,
}

impl Length {
    fn add(&mut self, frame: &Frame) {
        self.queued += 1;
        if level::rms_dbfs(frame) > level::VOICED_DBFS {
            self.voiced = self.queued;
        }
    }
}

/// What was queued, the end of the phrase behind it.
async fn speak_phrase(
    voice: &dyn Synthesizer,
    phrase: &Phrase,
    ring: &mut HeapProd<SpeechFrame>,
    work: &mpsc::Sender<Work>,
) -> Result<Length, Fault> {
    let (piece_in, mut piece_out) = mpsc::channel::<Vec<i16>>(PIECES);
    let synthesis = voice.say(phrase.say.clone(), piece_in, phrase.stop.clone());
    let queueing = async {
        let mut frame = SILENCE;
        let (mut filled, mut length, mut sounds) = (0, Length::default(), false);
        while let Some(piece) = piece_out.recv().await {
            if !std::mem::replace(&mut sounds, true) {
                let _ = work.send(Work::PhraseSounds { generation: phrase.generation, at: Instant::now() }).await;
            }
            for sample in piece {
                frame[filled] = sample;
                filled += 1;
                if filled == FRAME_SAMPLES {
                    filled = 0;
                    queue(ring, SpeechFrame::speech(phrase.generation, phrase.seq, frame), &phrase.stop).await;
                    length.add(&frame);
                }
            }
        }
        if filled > 0 {
            frame[filled..].fill(0);
            queue(ring, SpeechFrame::speech(phrase.generation, phrase.seq, frame), &phrase.stop).await;
            length.add(&frame);
        }
        length
    };
    let (synthesised, length) = tokio::join!(synthesis, queueing);
    match synthesised {
        Err(fault) if length.queued == 0 => return Err(fault),
        // What was queued before the failure is heard, and ends there.
        Err(fault) => warn!(%fault, "a phrase broke off"),
        Ok(()) => {}
    }
    // Also of a phrase with nothing to speak: it counts as heard when its turn to be heard comes.
    queue(ring, SpeechFrame::end_of_phrase(phrase.generation, phrase.seq), &phrase.stop).await;
    Ok(length)
}

/// Puts a frame into the ring, waiting for room as long as its answer is wanted.
async fn queue(ring: &mut HeapProd<SpeechFrame>, frame: SpeechFrame, stop: &CancellationToken) {
    while !stop.is_cancelled() && ring.try_push(frame).is_err() {
        tokio::time::sleep(ROOM_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use ringbuf::HeapRb;
    use ringbuf::traits::{Consumer, Split};

    use super::*;
    use crate::config::Language;
    use crate::sentence::Ends;
    use crate::tts::Fut;

    /// Makes no sound; while `waits`, it only ends when it is stopped.
    struct Mute {
        waits: bool,
    }

    impl Synthesizer for Mute {
        fn say(&self, _: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
            let waits = self.waits;
            Box::pin(async move {
                if waits {
                    stop.cancelled().await;
                }
                drop(out);
                Ok(())
            })
        }

        fn warm(&self, _: Language) -> Fut<'_, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }
    }

    /// What comes into the ring of one phrase for a mute voice.
    async fn queued(waits: bool) -> Vec<SpeechFrame> {
        let (ring_in, mut ring_out) = HeapRb::new(8).split();
        let (work_in, mut work_out) = mpsc::channel(8);
        let (phrases_in, phrases_out) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let say = Say { text: "\u{1f44d}".into(), language: Language::En, ends: Ends::Sentence };
        phrases_in.send(Phrase { generation: 3, seq: 1, say, stop: stop.clone() }).await.ok();
        drop(phrases_in);
        let speaking = tokio::spawn(speak(Arc::new(Mute { waits }), phrases_out, ring_in, work_in));
        assert!(matches!(work_out.recv().await, Some(Work::PhraseStarted { .. })));
        if waits {
            stop.cancel();
        }
        speaking.await.unwrap();
        ring_out.pop_iter().collect()
    }

    #[tokio::test]
    async fn a_phrase_with_nothing_to_speak_ends_in_its_place() {
        let queued = queued(false).await;
        let [mark] = &queued[..] else { panic!("{queued:?}") };
        assert!((mark.generation, mark.seq, mark.end_of_phrase) == (3, 1, true));
    }

    #[tokio::test]
    async fn a_phrase_that_is_stopped_before_its_first_sound_leaves_nothing() {
        assert!(queued(true).await.is_empty());
    }
}
