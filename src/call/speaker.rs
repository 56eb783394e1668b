//! Speaks an answer: phrase after phrase through the synthesizer into the speech ring, in order, one or two synthesised ahead.
//!
//! While a phrase goes into the ring, the next is synthesised already: how many at once is the voice's to say. A phrase that was
//! synthesised ahead is thrown away when the answer has meanwhile gone over to another voice. The sound of a model that speaks by itself
//! takes the same way without a synthesizer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringbuf::HeapProd;
use ringbuf::traits::Producer;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, warn};

use crate::config::Language;
use crate::conversation::{Generation, Seq};
use crate::pcm::{FRAME_SAMPLES, Frame, SILENCE, level};
use crate::playout::SpeechFrame;
use crate::sentence::language_of;
use crate::tts::{AnswerId, Fault, Say, Synthesizer};

use super::Work;

/// Pieces of sound between the synthesizer and the ring: the longest phrase, so that no voice has to wait for the ear.
pub(super) const PIECES: usize = 1536;
/// How long to wait for room in a full speech ring: it empties one frame every ptime.
const ROOM_AFTER: Duration = Duration::from_millis(20);

/// A phrase to be spoken.
pub(super) struct Phrase {
    pub generation: Generation,
    pub seq: Seq,
    pub say: Say,
    /// Ends with its answer.
    pub stop: CancellationToken,
    /// Its sound, where no voice of ours is to make it.
    pub sound: Option<mpsc::Receiver<Vec<i16>>>,
}

/// Speaks what comes through `phrases` until that is closed. Each phrase is spoken in the language that it is written in.
pub(super) async fn speak(
    voice: Arc<dyn Synthesizer>,
    mut phrases: mpsc::Receiver<Phrase>,
    ring: HeapProd<SpeechFrame>,
    work: mpsc::Sender<Work>,
) {
    let parallel = voice.parallel().max(1);
    // With one place a phrase is synthesised when the one before it is; with more, while it is.
    let most_ahead = if parallel > 1 { 2 } else { 1 };
    let beginner = Arc::new(Beginner {
        voice,
        call: AnswerId::new_call(),
        places: Arc::new(Semaphore::new(parallel)),
        work,
        language: Mutex::default(),
    });
    let mut speaker = Speaker { beginner: beginner.clone(), ring };
    let mut ahead = VecDeque::new();
    loop {
        let next = match ahead.pop_front() {
            Some(underway) => underway,
            None => match phrases.recv().await {
                Some(phrase) => beginner.begin(phrase),
                None => return,
            },
        };
        let playing = speaker.play(next);
        tokio::pin!(playing);
        let goes_on = loop {
            tokio::select! {
                biased;
                goes_on = &mut playing => break goes_on,
                Some(phrase) = phrases.recv(), if ahead.len() < most_ahead => ahead.push_back(beginner.begin(phrase)),
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Begins syntheses.
struct Beginner {
    voice: Arc<dyn Synthesizer>,
    /// Tells this call's answers from those of others.
    call: u64,
    /// One for each phrase that the voice may speak at the same time.
    places: Arc<Semaphore>,
    work: mpsc::Sender<Work>,
    /// The language of the last phrase.
    language: Mutex<Option<Language>>,
}

struct Speaker {
    beginner: Arc<Beginner>,
    ring: HeapProd<SpeechFrame>,
}

/// A phrase that is being synthesised. Dropping it ends that.
struct Underway {
    phrase: Phrase,
    pieces: mpsc::Receiver<Vec<i16>>,
    /// None where the sound comes by itself.
    synthesis: Option<Synthesis>,
    /// Whether its answer had changed its voice already when it began.
    changed_voice: bool,
}

struct Synthesis(JoinHandle<Result<(), Fault>>);

impl Drop for Synthesis {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Beginner {
    fn begin(&self, mut phrase: Phrase) -> Underway {
        phrase.say.answer = AnswerId { call: self.call, answer: phrase.generation.into() };
        if let Some(pieces) = phrase.sound.take() {
            return Underway { phrase, pieces, synthesis: None, changed_voice: true };
        }
        {
            let mut last = self.language.lock().unwrap_or_else(PoisonError::into_inner);
            phrase.say.language = language_of(&phrase.say.text, last.unwrap_or(phrase.say.language));
            *last = Some(phrase.say.language);
        }
        let changed_voice = self.voice.changed_voice(phrase.say.answer);
        let (piece_in, pieces) = mpsc::channel(PIECES);
        let (voice, places, work) = (self.voice.clone(), self.places.clone(), self.work.clone());
        let (generation, say, stop) = (phrase.generation, phrase.say.clone(), phrase.stop.clone());
        let synthesis = async move {
            // Never closed.
            let _place = places.acquire().await;
            if stop.is_cancelled() {
                return Ok(());
            }
            let _ = work.send(Work::PhraseStarted { generation, at: Instant::now() }).await;
            voice.say(say, piece_in, stop).await
        };
        let synthesis = Some(Synthesis(tokio::spawn(synthesis.in_current_span())));
        Underway { phrase, pieces, synthesis, changed_voice }
    }
}

impl Speaker {
    /// Brings a phrase into the ring and reports it; false when nobody listens to reports any more.
    async fn play(&mut self, mut underway: Underway) -> bool {
        if underway.phrase.stop.is_cancelled() {
            return true;
        }
        if !underway.changed_voice && self.beginner.voice.changed_voice(underway.phrase.say.answer) {
            let Underway { phrase, synthesis, .. } = underway;
            // Its place is free for the new one.
            drop(synthesis);
            underway = self.beginner.begin(phrase);
        }
        let (generation, seq) = (underway.phrase.generation, underway.phrase.seq);
        let stop = underway.phrase.stop.clone();
        let report = match self.queue_phrase(underway).await {
            Ok(Length { voiced, .. }) => Work::PhraseSpoken { generation, seq, voiced },
            Err(_) if stop.is_cancelled() => return true,
            Err(fault) => Work::PhraseFailed { generation, seq, fault },
        };
        self.beginner.work.send(report).await.is_ok()
    }

    /// What was queued, the end of the phrase behind it.
    async fn queue_phrase(&mut self, underway: Underway) -> Result<Length, Fault> {
        let Underway { phrase, mut pieces, mut synthesis, .. } = underway;
        let mut frame = SILENCE;
        let (mut filled, mut length, mut sounds) = (0, Length::default(), false);
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                // A voice ends by itself.
                () = phrase.stop.cancelled(), if synthesis.is_none() => None,
            };
            let Some(piece) = piece.filter(|_| !phrase.stop.is_cancelled()) else { break };
            if !std::mem::replace(&mut sounds, true) && synthesis.is_some() {
                let sounds = Work::PhraseSounds { generation: phrase.generation, at: Instant::now() };
                let _ = self.beginner.work.send(sounds).await;
            }
            for sample in piece {
                frame[filled] = sample;
                filled += 1;
                if filled == FRAME_SAMPLES {
                    filled = 0;
                    self.queue(SpeechFrame::speech(phrase.generation, phrase.seq, frame), &phrase.stop).await;
                    length.add(&frame);
                }
            }
        }
        if filled > 0 {
            frame[filled..].fill(0);
            self.queue(SpeechFrame::speech(phrase.generation, phrase.seq, frame), &phrase.stop).await;
            length.add(&frame);
        }
        drop(pieces);
        let ended = match &mut synthesis {
            Some(synthesis) => (&mut synthesis.0).await,
            None => Ok(Ok(())),
        };
        let synthesised = match ended {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only the end of the call aborts it.
            Err(_) => Ok(()),
        };
        match synthesised {
            Err(fault) if length.queued == 0 => return Err(fault),
            // What was queued before the failure is heard, and ends there.
            Err(fault) => warn!(%fault, "a phrase broke off"),
            Ok(()) => {}
        }
        // Also of a phrase with nothing to speak: it counts as heard when its turn to be heard comes.
        self.queue(SpeechFrame::end_of_phrase(phrase.generation, phrase.seq), &phrase.stop).await;
        Ok(length)
    }

    /// Puts a frame into the ring, waiting for room as long as its answer is wanted.
    async fn queue(&mut self, frame: SpeechFrame, stop: &CancellationToken) {
        while !stop.is_cancelled() && self.ring.try_push(frame).is_err() {
            tokio::time::sleep(ROOM_AFTER).await;
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

#[cfg(test)]
mod tests;
