//! The caller's sound on the tokio side: the last frames heard, from which a turn is cut by sample position.
//!
//! Positions are those of [`Heard`](super::Heard). Frames that never came are silence, and counted.

use std::time::Duration;

use crate::pcm::{FRAME_SAMPLES, Frame, RATE, samples_in, wav};

/// Room beyond the longest utterance for what is heard until somebody cuts it out.
const SLACK: Duration = Duration::from_secs(2);

/// Sound taken from behind the last voiced sample: a weak consonant may follow it.
const POST_ROLL: Duration = Duration::from_millis(160);

/// A ring of the caller's sound: longest utterance, pre-roll and two seconds.
#[derive(Debug)]
pub struct Utterance {
    ring: Box<[i16]>,
    /// Position behind the newest sample.
    end: u64,
    pre_roll: u64,
    missing_frames: u64,
}

impl Utterance {
    /// Room for utterances of `max_utterance`, each taken with `pre_roll` before its beginning.
    pub fn new(max_utterance: Duration, pre_roll: Duration) -> Self {
        let samples = samples_in(max_utterance + pre_roll + SLACK) as usize;
        let ring = vec![0; samples.next_multiple_of(FRAME_SAMPLES)].into_boxed_slice();
        Self { ring, end: 0, pre_roll: samples_in(pre_roll), missing_frames: 0 }
    }

    /// Takes the frame that begins at `position`. Frames skipped since the one before become silence; one that is out of order is dropped.
    pub fn push(&mut self, position: u64, frame: &Frame) {
        let position = position - position % FRAME_SAMPLES as u64;
        let Some(skipped) = position.checked_sub(self.end) else { return };
        self.missing_frames += skipped / FRAME_SAMPLES as u64;
        let size = self.ring.len() as u64;
        let mut silent = position - skipped.min(size);
        while silent < position {
            self.slot(silent).fill(0);
            silent += FRAME_SAMPLES as u64;
        }
        self.slot(position).copy_from_slice(frame);
        self.end = position + FRAME_SAMPLES as u64;
    }

    /// The sound between two positions with the pre-roll before it and 160 ms behind it, as far as it is there.
    pub fn take(&self, from_sample: u64, to_sample: u64) -> Vec<i16> {
        let size = self.ring.len() as u64;
        let from = from_sample.saturating_sub(self.pre_roll).max(self.end.saturating_sub(size));
        let to = to_sample.saturating_add(samples_in(POST_ROLL)).min(self.end);
        (from..to).map(|position| self.ring[(position % size) as usize]).collect()
    }

    /// The sound from a position on, as far as it is there.
    pub fn since(&self, from_sample: u64) -> Vec<i16> {
        let size = self.ring.len() as u64;
        let from = from_sample.max(self.end.saturating_sub(size));
        (from..self.end).map(|position| self.ring[(position % size) as usize]).collect()
    }

    /// Position behind the newest sample.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Frames that never came.
    pub fn missing_frames(&self) -> u64 {
        self.missing_frames
    }

    fn slot(&mut self, position: u64) -> &mut [i16] {
        let at = (position % self.ring.len() as u64) as usize;
        &mut self.ring[at..at + FRAME_SAMPLES]
    }
}

/// Samples as a WAV file: 16 bit, mono, 8 kHz.
pub fn to_wav(samples: &[i16]) -> Vec<u8> {
    wav::write(RATE, 1, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: i16) -> Frame {
        [value; FRAME_SAMPLES]
    }

    fn utterance() -> Utterance {
        Utterance::new(Duration::from_millis(400), Duration::from_millis(40))
    }

    #[test]
    fn an_utterance_is_cut_out_with_what_is_around_it() {
        let mut utterance = utterance();
        for index in 0..20 {
            utterance.push(index * 160, &frame(index as i16));
        }
        let sound = utterance.take(800, 1200);
        assert_eq!(sound.len(), 320 + 400 + 1280);
        assert_eq!((sound[0], sound[319], sound[320], sound[719], sound[1999]), (3, 4, 5, 7, 15));
        assert_eq!(utterance.take(0, 160).len(), 160 + 1280, "there is nothing before the beginning");
        assert_eq!(utterance.take(3040, 9999).len(), 320 + 160, "what has not been heard is not there");
        assert!(utterance.take(u64::MAX, 0).is_empty());
    }

    #[test]
    fn frames_that_never_came_are_silence_and_counted() {
        let mut utterance = utterance();
        for index in 0..200u64 {
            utterance.push(index * 160, &frame(7));
        }
        utterance.push(203 * 160, &frame(9));
        assert_eq!(utterance.missing_frames(), 3);
        let sound = utterance.take(199 * 160 + 320, 204 * 160);
        let expected = [frame(7), frame(0), frame(0), frame(0), frame(9)].concat();
        assert_eq!(sound, expected);
    }

    #[test]
    fn a_hole_longer_than_the_ring_is_silence_all_through() {
        let mut utterance = utterance();
        let size = utterance.ring.len();
        for index in 0..200u64 {
            utterance.push(index * 160, &frame(7));
        }
        utterance.push(1 << 40, &frame(9));
        let sound = utterance.take(0, u64::MAX);
        assert_eq!(sound.len(), size);
        assert!(sound[..size - 160].iter().all(|&sample| sample == 0));
        assert_eq!(sound[size - 160..], frame(9));
    }

    #[test]
    fn a_frame_out_of_order_is_dropped() {
        let mut utterance = utterance();
        utterance.push(160, &frame(1));
        utterance.push(0, &frame(2));
        utterance.push(160, &frame(3));
        assert_eq!(utterance.take(320, 320), [frame(0), frame(1)].concat());
        assert_eq!(utterance.end(), 320);
    }

    #[test]
    fn old_sound_makes_room_for_new() {
        let mut utterance = utterance();
        for index in 0..1000u64 {
            utterance.push(index * 160, &frame(index as i16));
        }
        let sound = utterance.take(0, u64::MAX);
        assert_eq!(sound.len(), utterance.ring.len());
        assert_eq!(sound.last(), Some(&999));
    }

    #[test]
    fn the_wav_file_holds_the_samples() {
        let sound = wav::read(&to_wav(&[1, -2, 3])).unwrap();
        assert_eq!((sound.rate, sound.samples), (8000, vec![1, -2, 3]));
    }
}
