//! The ear of one call on the media thread: voice activity and turn detection, fed with the caller's frames.
//!
//! Allocates in [`Endpointer::new`] only.

use std::time::Instant;

use super::detector::TurnDetector;
use super::heard::Heard;
use super::hint::Hint;
use super::limits::Limits;
use super::vad::{CHUNK_SAMPLES, SileroVad};
use crate::pcm::telephone::{FRAME_SAMPLES, Frame};

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

    /// Takes what the box sends in this ptime, silence too, behind the frame that was heard in it: what comes back of it is not the caller.
    pub fn handle_sent(&mut self, frame: &Frame) {
        self.detector.handle_sent(frame);
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

    /// What is known about the utterance so far from elsewhere, such as its text. It holds until the next one, and no longer
    /// than the silence in which it is said, or which follows within 300 ms. Without an utterance it is lost.
    pub fn hint(&mut self, hint: Hint) {
        self.detector.hint(hint);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::pcm::telephone::SILENCE;
    use crate::pcm::{PTIME, level, wav};

    /// What is told of `lead` samples of silence, the reference sound and 1.2 s of silence.
    fn hear(lead: usize, playing: bool) -> Vec<(Duration, Heard)> {
        let mut sound = vec![0; lead];
        sound.extend(wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap().samples);
        sound.resize(sound.len() + 9600, 0);
        let mut endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        endpointer.set_playing(playing);
        let start = Instant::now();
        let mut told = Vec::new();
        for (index, frame) in sound.as_chunks().0.iter().enumerate() {
            let heard = PTIME * (index as u32 + 1);
            endpointer.handle_frame(start + heard, frame);
            told.extend(std::iter::from_fn(|| endpointer.poll()).map(|event| (heard, event)));
        }
        told
    }

    #[test]
    fn speech_is_heard_from_its_first_to_its_last_sound() {
        for (lead, playing) in [(8000, false), (8037, true), (8120, false)] {
            let told = hear(lead, playing);
            // The first utterance begins 2400 samples into the sound, the last ends some 1200 before its end.
            let Some((_, Heard::Started { onset_sample, .. })) =
                told.iter().find(|(_, event)| matches!(event, Heard::Started { .. }))
            else {
                panic!("nothing started: {told:?}")
            };
            assert!((lead + 2400..lead + 3200).contains(&(*onset_sample as usize)), "{onset_sample}");
            let Some((_, Heard::HardEnd { end_sample, .. })) = told.last() else { panic!("no end: {told:?}") };
            assert!((lead + 36_000..lead + 38_700).contains(&(*end_sample as usize)), "{end_sample}");
        }
    }

    #[test]
    fn a_pause_of_700_ms_is_never_an_end_wherever_it_lies_in_the_frames() {
        let sound = wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap().samples;
        // What lies between the first and the last voiced 10 ms, twice.
        let voiced = |hop: &[i16]| level::rms_dbfs(hop) > level::VOICED_DBFS;
        let first = sound.chunks(80).position(voiced).unwrap() * 80;
        let last = sound.chunks(80).rposition(voiced).unwrap() * 80 + 80;
        let mut ended = Vec::new();
        for lead in (8000..8000 + 256 * 5).step_by(31) {
            let speech = &sound[first..last];
            let sound = [vec![0; lead], speech.to_vec(), vec![0; 5600], speech.to_vec(), vec![0; 12_000]].concat();
            let mut endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
            let start = Instant::now();
            for (index, frame) in sound.as_chunks().0.iter().enumerate() {
                endpointer.handle_frame(start + PTIME * (index as u32 + 1), frame);
                while let Some(heard) = endpointer.poll() {
                    if matches!(heard, Heard::HardEnd { .. }) {
                        ended.push((index + 1) * FRAME_SAMPLES - (lead + 2 * speech.len() + 5600));
                    }
                }
            }
        }
        assert_eq!(ended.len(), 42, "one end each, behind the second half");
    }

    #[test]
    fn an_empty_line_says_nothing() {
        let mut endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        let start = Instant::now();
        for index in 0..500 {
            endpointer.handle_frame(start + PTIME * index, &SILENCE);
        }
        endpointer.handle_timeout(start + Duration::from_secs(60));
        assert_eq!(endpointer.poll(), None);
        assert_eq!(endpointer.poll_timeout(), None);
    }
}
