//! The caller's sound on the tokio side: the last frames heard, from which a turn is cut by sample position.
//!
//! Positions are those of [`Heard`](super::Heard). Frames that never came are silence, and counted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::pcm::half_band::Halver;
use crate::pcm::{FRAME_SAMPLES, Frame, RATE, samples_in, telephone, wav};

/// Room beyond the longest utterance for what is heard until somebody cuts it out.
const SLACK: Duration = Duration::from_secs(2);

/// Sound taken from behind the last voiced sample: a weak consonant may follow it.
const POST_ROLL: Duration = Duration::from_millis(160);

/// Sound is kept, and forgotten, in pieces of so many frames: half a second.
const PIECE_FRAMES: usize = 25;
const PIECE_SAMPLES: usize = PIECE_FRAMES * FRAME_SAMPLES;

/// The caller's newest sound: at most the longest utterance, pre-roll and two seconds. It takes memory for what is kept, not for what could be.
#[derive(Debug)]
pub struct Utterance {
    /// The oldest first; all are full but the last.
    pieces: VecDeque<Vec<i16>>,
    /// How many there may be.
    most_pieces: usize,
    /// Position behind the newest sample.
    end: u64,
    pre_roll: u64,
    missing_frames: u64,
}

impl Utterance {
    /// Room for utterances of `max_utterance`, each taken with `pre_roll` before its beginning.
    pub fn new(max_utterance: Duration, pre_roll: Duration) -> Self {
        let samples = samples_in(max_utterance + pre_roll + SLACK) as usize;
        // The oldest piece is given up when a new one is begun.
        let most_pieces = samples.div_ceil(PIECE_SAMPLES) + 1;
        Self { pieces: VecDeque::new(), most_pieces, end: 0, pre_roll: samples_in(pre_roll), missing_frames: 0 }
    }

    /// Takes the frame that begins at `position`. Frames skipped since the one before become silence; one that is out of order is dropped.
    pub fn push(&mut self, position: u64, frame: &Frame) {
        let position = position - position % FRAME_SAMPLES as u64;
        let Some(skipped) = position.checked_sub(self.end) else { return };
        self.missing_frames += skipped / FRAME_SAMPLES as u64;
        let room = (self.most_pieces * PIECE_FRAMES) as u64;
        for _ in 0..(skipped / FRAME_SAMPLES as u64).min(room) {
            self.append(&[0; FRAME_SAMPLES]);
        }
        self.append(frame);
        self.end = position + FRAME_SAMPLES as u64;
    }

    /// Forgets what nobody will ask for: all that was heard before `from_sample` and its pre-roll, in whole pieces.
    pub fn forget_before(&mut self, from_sample: u64) {
        let from = from_sample.saturating_sub(self.pre_roll);
        while self.pieces.front().is_some_and(|piece| self.start() + piece.len() as u64 <= from) {
            self.pieces.pop_front();
        }
    }

    /// The sound between two positions with the pre-roll before it and 160 ms behind it, as far as it is there.
    pub fn take(&self, from_sample: u64, to_sample: u64) -> Vec<i16> {
        let to = to_sample.saturating_add(samples_in(POST_ROLL)).min(self.end);
        self.between(from_sample.saturating_sub(self.pre_roll), to)
    }

    /// The sound from a position on, as far as it is there.
    pub fn since(&self, from_sample: u64) -> Vec<i16> {
        self.between(from_sample, self.end)
    }

    /// Position behind the newest sample.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Frames that never came.
    pub fn missing_frames(&self) -> u64 {
        self.missing_frames
    }

    fn append(&mut self, frame: &Frame) {
        if self.pieces.back().is_none_or(|piece| piece.len() == PIECE_SAMPLES) {
            // Its memory is used again: a call that goes on takes no more.
            let given_up = if self.pieces.len() == self.most_pieces { self.pieces.pop_front() } else { None };
            let mut piece = given_up.unwrap_or_else(|| Vec::with_capacity(PIECE_SAMPLES));
            piece.clear();
            self.pieces.push_back(piece);
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.extend_from_slice(frame);
        }
    }

    /// Position of the oldest sample that is kept.
    fn start(&self) -> u64 {
        self.end - self.kept()
    }

    fn kept(&self) -> u64 {
        let last = self.pieces.back().map_or(0, Vec::len);
        (self.pieces.len().saturating_sub(1) * PIECE_SAMPLES + last) as u64
    }

    fn between(&self, from: u64, to: u64) -> Vec<i16> {
        let start = self.start();
        let (from, to) = (from.max(start), to.min(self.end));
        let mut sound = Vec::with_capacity(to.saturating_sub(from) as usize);
        let mut at = start;
        for piece in &self.pieces {
            let within = |position: u64| (position.saturating_sub(at) as usize).min(piece.len());
            if from < to {
                sound.extend_from_slice(&piece[within(from)..within(to)]);
            }
            at += piece.len() as u64;
        }
        sound
    }
}

/// Samples as a WAV file, 16 bit, mono: at 16 kHz where they are `wide`, and else at 8 kHz, since half of the bytes are half of the upload.
pub fn to_wav(samples: &[i16], wide: bool) -> Vec<u8> {
    if wide {
        return wav::write(RATE, 1, samples);
    }
    let mut narrow = vec![0; samples.len() / 2];
    Halver::default().halve(samples, &mut narrow);
    wav::write(telephone::RATE, 1, &narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = FRAME_SAMPLES as u64;

    fn frame(value: i16) -> Frame {
        [value; FRAME_SAMPLES]
    }

    /// Longest utterance, pre-roll and slack of the following.
    const ROOM: Duration = Duration::from_millis(2440);

    fn utterance() -> Utterance {
        Utterance::new(Duration::from_millis(400), Duration::from_millis(40))
    }

    #[test]
    fn an_utterance_is_cut_out_with_what_is_around_it() {
        let mut utterance = utterance();
        for index in 0..20 {
            utterance.push(index * FRAME, &frame(index as i16));
        }
        let sound = utterance.take(5 * FRAME, 15 * FRAME / 2);
        assert_eq!(sound.len(), 640 + 800 + 2560);
        assert_eq!((sound[0], sound[639], sound[640], sound[1439], sound[3999]), (3, 4, 5, 7, 15));
        assert_eq!(utterance.take(0, FRAME).len(), 320 + 2560, "there is nothing before the beginning");
        assert_eq!(utterance.take(19 * FRAME, 99 * FRAME).len(), 640 + 320, "what has not been heard is not there");
        assert!(utterance.take(u64::MAX, 0).is_empty());
    }

    #[test]
    fn frames_that_never_came_are_silence_and_counted() {
        let mut utterance = utterance();
        for index in 0..200u64 {
            utterance.push(index * FRAME, &frame(7));
        }
        utterance.push(203 * FRAME, &frame(9));
        assert_eq!(utterance.missing_frames(), 3);
        let sound = utterance.take(201 * FRAME, 204 * FRAME);
        let expected = [frame(7), frame(0), frame(0), frame(0), frame(9)].concat();
        assert_eq!(sound, expected);
    }

    #[test]
    fn a_hole_longer_than_the_ring_is_silence_all_through() {
        let mut utterance = utterance();
        for index in 0..200u64 {
            utterance.push(index * FRAME_SAMPLES as u64, &frame(7));
        }
        utterance.push((1 << 40) * FRAME, &frame(9));
        let sound = utterance.take(0, u64::MAX);
        assert!(sound.len() >= samples_in(ROOM) as usize && sound.len() <= utterance.most_pieces * PIECE_SAMPLES);
        let (silence, last) = sound.split_at(sound.len() - FRAME_SAMPLES);
        assert!(silence.iter().all(|&sample| sample == 0));
        assert_eq!(last, frame(9));
    }

    #[test]
    fn a_frame_out_of_order_is_dropped() {
        let mut utterance = utterance();
        utterance.push(FRAME, &frame(1));
        utterance.push(0, &frame(2));
        utterance.push(FRAME, &frame(3));
        assert_eq!(utterance.take(2 * FRAME, 2 * FRAME), [frame(0), frame(1)].concat());
        assert_eq!(utterance.end(), 2 * FRAME);
    }

    #[test]
    fn old_sound_makes_room_for_new() {
        let mut utterance = utterance();
        for index in 0..1000u64 {
            utterance.push(index * FRAME_SAMPLES as u64, &frame(index as i16));
            let sound = utterance.take(0, u64::MAX);
            assert!(utterance.pieces.len() <= utterance.most_pieces);
            assert_eq!(sound.len(), utterance.kept() as usize);
            assert!(sound.len() >= (samples_in(ROOM) as usize).min((index as usize + 1) * FRAME_SAMPLES));
            let first = index + 1 - (sound.len() / FRAME_SAMPLES) as u64;
            assert!(sound.chunks(FRAME_SAMPLES).zip(first..).all(|(heard, index)| heard == frame(index as i16)));
        }
    }

    #[test]
    fn what_is_forgotten_takes_no_memory_and_what_is_kept_stays_in_its_place() {
        let mut utterance = Utterance::new(Duration::from_secs(30), Duration::from_millis(40));
        for index in 0..1000u64 {
            utterance.push(index * FRAME_SAMPLES as u64, &frame(index as i16));
        }
        let at = |index: u64| index * FRAME_SAMPLES as u64;
        let before = utterance.take(at(600), at(620));
        utterance.forget_before(at(600));
        assert_eq!(utterance.take(at(600), at(620)), before);
        assert_eq!(utterance.since(at(999)), frame(999));
        assert!(utterance.kept() >= at(402) && utterance.kept() < at(402) + PIECE_SAMPLES as u64);
        utterance.forget_before(u64::MAX);
        assert!(utterance.pieces.is_empty() && utterance.take(0, u64::MAX).is_empty());
        utterance.push(at(1000), &frame(1000));
        assert_eq!((utterance.take(0, u64::MAX), utterance.missing_frames()), (frame(1000).to_vec(), 0));
    }

    #[test]
    fn the_wav_file_holds_the_samples() {
        let sound = wav::read(&to_wav(&[1, -2, 3], true)).unwrap();
        assert_eq!((sound.rate, sound.samples), (RATE, vec![1, -2, 3]));
    }
}
