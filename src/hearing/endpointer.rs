//! The ear of one call on the media thread: voice activity and turn detection, fed with the caller's frames.
//!
//! Allocates in [`Endpointer::new`] only.

use std::time::Instant;

use super::detector::{Heard, Limits, TurnDetector};
use super::vad::{CHUNK_SAMPLES, SileroVad};
use crate::pcm::{FRAME_SAMPLES, Frame};

/// Hears turns in a sequence of frames. After every call that takes a `now`, [`Endpointer::poll`] is to be drained.
#[derive(Debug)]
pub struct Endpointer {
    vad: SileroVad,
    detector: TurnDetector,
    chunk: [i16; CHUNK_SAMPLES],
    filled: usize,
}

impl Endpointer {
    /// An ear that has heard nothing. To be made on the tokio side; see [`SileroVad::new`].
    pub fn new(limits: Limits) -> Self {
        Self { vad: SileroVad::new(), detector: TurnDetector::new(limits), chunk: [0; CHUNK_SAMPLES], filled: 0 }
    }

    /// Takes the next frame as the caller is heard: decoded, concealed or silent. Every frame advances the sample positions by 160.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        self.detector.handle_frame(now, frame);
        // A frame is shorter than a chunk, so it completes at most one.
        let space = (CHUNK_SAMPLES - self.filled).min(FRAME_SAMPLES);
        self.chunk[self.filled..self.filled + space].copy_from_slice(&frame[..space]);
        self.filled += space;
        if self.filled == CHUNK_SAMPLES {
            let probability = self.vad.probability(&self.chunk);
            self.detector.handle_probability(now, probability);
            self.filled = FRAME_SAMPLES - space;
            self.chunk[..self.filled].copy_from_slice(&frame[space..]);
        }
        self.detector.decide(now);
    }

    /// Ends by the wall clock what no frame will end: when media stops, for silence suppression or for good. A call too many is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detector.handle_timeout(now);
    }

    /// When [`Endpointer::handle_timeout`] is due if no frame comes before. Changes with every input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.detector.poll_timeout()
    }

    /// What was heard, in order.
    pub fn poll(&mut self) -> Option<Heard> {
        self.detector.poll()
    }

    /// The caller presses a key: an utterance that is open goes on, and its silence counts from here.
    pub fn keep_open(&mut self, now: Instant) {
        self.detector.keep_open(now);
    }

    /// Whether the box itself is audible on the line, which makes the onset of the caller's speech stricter.
    pub fn set_playing(&mut self, playing: bool) {
        self.detector.set_playing(playing);
    }

    /// Events lost because nobody drained [`Endpointer::poll`].
    pub fn dropped_events(&self) -> u64 {
        self.detector.dropped_events()
    }
}
