//! The caller's sound on the tokio side: the last frames heard, from which a turn is cut by sample position.
//!
//! Positions are those of [`Heard`](super::Heard). Frames that never came are silence, and counted. What has no more than the telephone band is kept
//! at 8 kHz, in half of the memory; its way there, and the way back where the house's rate is asked for, make it 1.7 ms later each.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::pcm::half_band::{Doubler, Halver};
use crate::pcm::wav::{self, WavFile};
use crate::pcm::{FRAME_SAMPLES, Frame, RATE, SILENCE, samples_in, telephone};

/// Room beyond the longest utterance for what is heard until somebody cuts it out.
const SLACK: Duration = Duration::from_secs(2);

/// Sound taken from behind the last voiced sample: a weak consonant may follow it.
const POST_ROLL: Duration = Duration::from_millis(160);

/// Sound is kept, and forgotten, in pieces of so many frames: half a second.
const PIECE_FRAMES: usize = 25;
const PIECE_SAMPLES: usize = PIECE_FRAMES * FRAME_SAMPLES;

/// Sound of one rate, up to half a second, which may be shared.
#[derive(Debug)]
struct Piece<B = Arc<[u8]>> {
    /// At the house's rate, and not at 8 kHz.
    wide: bool,
    /// Samples of 16 bits, little-endian, as WAV files have them.
    bytes: B,
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// How many samples it is on the heard time line.
    fn length(&self) -> u64 {
        (self.bytes.as_ref().len() / SAMPLE_BYTES) as u64 * samples_of_house(self.wide)
    }

    /// Where in it stands what lies between two positions, when it begins at `start`.
    fn between(&self, start: u64, from: u64, to: u64) -> Range<usize> {
        let within = |position: u64| position.saturating_sub(start).min(self.length()) / samples_of_house(self.wide);
        let [from, to] = [from, to].map(|position| within(position) as usize * SAMPLE_BYTES);
        from..to.max(from)
    }
}

const SAMPLE_BYTES: usize = size_of::<i16>();

/// How many samples of the house one of a piece is.
fn samples_of_house(wide: bool) -> u64 {
    if wide { 1 } else { telephone::WIDER }
}

/// The caller's newest sound: at most the longest utterance, pre-roll and two seconds. It takes memory for what is kept, not for what could be.
#[derive(Debug)]
pub struct Utterance {
    /// The oldest first; all are full but those behind which the band changed.
    pieces: VecDeque<Piece>,
    /// What follows them, and is not full.
    newest: Piece<Vec<u8>>,
    /// How many pieces there may be.
    most_pieces: usize,
    /// Position behind the newest sample.
    end: u64,
    pre_roll: u64,
    missing_frames: u64,
    /// Of narrow sound, one frame after another.
    halver: Halver,
}

impl Utterance {
    /// Room for utterances of `max_utterance`, each taken with `pre_roll` before its beginning.
    pub fn new(max_utterance: Duration, pre_roll: Duration) -> Self {
        let samples = samples_in(max_utterance + pre_roll + SLACK) as usize;
        let most_pieces = samples.div_ceil(PIECE_SAMPLES);
        Self {
            pieces: VecDeque::new(),
            newest: Piece { wide: false, bytes: Vec::new() },
            most_pieces,
            end: 0,
            pre_roll: samples_in(pre_roll),
            missing_frames: 0,
            halver: Halver::default(),
        }
    }

    /// Takes the frame that begins at `position`; `wide`: it has more than the telephone band. Frames skipped since the one before become
    /// silence; one that is out of order is dropped.
    pub fn push(&mut self, position: u64, frame: &Frame, wide: bool) {
        let position = position - position % FRAME_SAMPLES as u64;
        let Some(skipped) = position.checked_sub(self.end) else { return };
        self.missing_frames += skipped / FRAME_SAMPLES as u64;
        let room = ((self.most_pieces + 1) * PIECE_FRAMES) as u64;
        for _ in 0..(skipped / FRAME_SAMPLES as u64).min(room) {
            self.append(&SILENCE, wide);
        }
        self.append(frame, wide);
        self.end = position + FRAME_SAMPLES as u64;
    }

    /// Forgets what nobody will ask for: all that was heard before `from_sample` and its pre-roll, in whole pieces.
    pub fn forget_before(&mut self, from_sample: u64) {
        let from = from_sample.saturating_sub(self.pre_roll);
        while self.pieces.front().is_some_and(|piece| self.start() + piece.length() <= from) {
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && self.end <= from {
            self.newest.bytes.clear();
        }
    }

    /// The sound between two positions with the pre-roll before it and 160 ms behind it, as far as it is there, at the house's rate.
    pub fn take(&self, from_sample: u64, to_sample: u64) -> Vec<i16> {
        let (from, to) = self.around(from_sample, to_sample);
        self.between(from, to, true)
    }

    /// The same at 8 kHz.
    pub fn take_narrow(&self, from_sample: u64, to_sample: u64) -> Vec<i16> {
        let (from, to) = self.around(from_sample, to_sample);
        self.between(from, to, false)
    }

    /// The same as a WAV file, at 16 kHz where it is to be `wide`, and else at 8 kHz. Sound that is kept at that rate is shared, and not copied.
    pub fn take_wav(&self, from_sample: u64, to_sample: u64, wide: bool) -> WavFile {
        let (from, to) = self.around(from_sample, to_sample);
        let rate = if wide { RATE } else { telephone::RATE };
        let mut start = self.start();
        let mut parts = Vec::with_capacity(self.pieces.len() + 1);
        for piece in &self.pieces {
            let range = piece.between(start, from, to);
            start += piece.length();
            if !range.is_empty() {
                if piece.wide != wide {
                    return wav::write(rate, 1, &self.between(from, to, wide)).into();
                }
                parts.push((piece.bytes.clone(), range));
            }
        }
        let range = self.newest.between(start, from, to);
        if !range.is_empty() {
            if self.newest.wide != wide {
                return wav::write(rate, 1, &self.between(from, to, wide)).into();
            }
            let bytes: Arc<[u8]> = self.newest.bytes[range].into();
            let range = 0..bytes.len();
            parts.push((bytes, range));
        }
        WavFile::mono(rate, parts)
    }

    /// The sound from a position on, as far as it is there, at the house's rate.
    pub fn since(&self, from_sample: u64) -> Vec<i16> {
        self.between(from_sample, self.end, true)
    }

    /// Position behind the newest sample.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Frames that never came.
    pub fn missing_frames(&self) -> u64 {
        self.missing_frames
    }

    fn append(&mut self, frame: &Frame, wide: bool) {
        let newest = &mut self.newest;
        let is_full = newest.length() >= PIECE_SAMPLES as u64;
        if is_full || newest.wide != wide {
            if newest.wide && !wide {
                self.halver = Halver::default();
            }
            if !newest.bytes.is_empty() {
                self.pieces.push_back(Piece { wide: newest.wide, bytes: newest.bytes.as_slice().into() });
            }
            newest.wide = wide;
            newest.bytes.clear();
            if self.pieces.len() > self.most_pieces {
                self.pieces.pop_front();
            }
        }
        let bytes = &mut newest.bytes;
        if wide {
            bytes.extend(frame.iter().flat_map(|sample| sample.to_le_bytes()));
        } else {
            let mut narrow = telephone::SILENCE;
            self.halver.halve(frame, &mut narrow);
            bytes.extend(narrow.iter().flat_map(|sample| sample.to_le_bytes()));
        }
    }

    /// Position of the oldest sample that is kept.
    fn start(&self) -> u64 {
        self.end - self.kept()
    }

    fn kept(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum::<u64>() + self.newest.length()
    }

    /// With what belongs to the sound between two positions.
    fn around(&self, from_sample: u64, to_sample: u64) -> (u64, u64) {
        let to = to_sample.saturating_add(samples_in(POST_ROLL)).min(self.end);
        (from_sample.saturating_sub(self.pre_roll), to)
    }

    fn between(&self, from: u64, to: u64, wide: bool) -> Vec<i16> {
        let mut start = self.start();
        let (from, to) = (from.max(start), to.min(self.end));
        let length = to.saturating_sub(from) / samples_of_house(wide);
        let mut sound = Vec::with_capacity(length as usize);
        let (mut doubler, mut halver) = (Doubler::default(), Halver::default());
        let mut add = |bytes: &[u8], is_wide: bool| {
            let samples = bytes.chunks_exact(SAMPLE_BYTES).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]));
            if is_wide == wide {
                return sound.extend(samples);
            }
            let (part, done): (Vec<i16>, usize) = (samples.collect(), sound.len());
            if wide {
                sound.resize(done + 2 * part.len(), 0);
                doubler.double(&part, &mut sound[done..]);
            } else {
                sound.resize(done + part.len() / 2, 0);
                halver.halve(&part, &mut sound[done..]);
            }
        };
        for piece in &self.pieces {
            add(&piece.bytes[piece.between(start, from, to)], piece.wide);
            start += piece.length();
        }
        add(&self.newest.bytes[self.newest.between(start, from, to)], self.newest.wide);
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
    use crate::pcm::tone;

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
            utterance.push(index * FRAME, &frame(index as i16), true);
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
            utterance.push(index * FRAME, &frame(7), true);
        }
        utterance.push(203 * FRAME, &frame(9), true);
        assert_eq!(utterance.missing_frames(), 3);
        let sound = utterance.take(201 * FRAME, 204 * FRAME);
        let expected = [frame(7), frame(0), frame(0), frame(0), frame(9)].concat();
        assert_eq!(sound, expected);
    }

    #[test]
    fn a_hole_longer_than_the_ring_is_silence_all_through() {
        let mut utterance = utterance();
        for index in 0..200u64 {
            utterance.push(index * FRAME_SAMPLES as u64, &frame(7), true);
        }
        utterance.push((1 << 40) * FRAME, &frame(9), true);
        let sound = utterance.take(0, u64::MAX);
        assert!(sound.len() >= samples_in(ROOM) as usize && sound.len() <= (utterance.most_pieces + 1) * PIECE_SAMPLES);
        let (silence, last) = sound.split_at(sound.len() - FRAME_SAMPLES);
        assert!(silence.iter().all(|&sample| sample == 0));
        assert_eq!(last, frame(9));
    }

    #[test]
    fn a_frame_out_of_order_is_dropped() {
        let mut utterance = utterance();
        utterance.push(FRAME, &frame(1), true);
        utterance.push(0, &frame(2), true);
        utterance.push(FRAME, &frame(3), true);
        assert_eq!(utterance.take(2 * FRAME, 2 * FRAME), [frame(0), frame(1)].concat());
        assert_eq!(utterance.end(), 2 * FRAME);
    }

    #[test]
    fn old_sound_makes_room_for_new() {
        let mut utterance = utterance();
        for index in 0..1000u64 {
            utterance.push(index * FRAME_SAMPLES as u64, &frame(index as i16), true);
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
            utterance.push(index * FRAME_SAMPLES as u64, &frame(index as i16), true);
        }
        let at = |index: u64| index * FRAME_SAMPLES as u64;
        let before = utterance.take(at(600), at(620));
        utterance.forget_before(at(600));
        assert_eq!(utterance.take(at(600), at(620)), before);
        assert_eq!(utterance.since(at(999)), frame(999));
        assert!(utterance.kept() >= at(402) && utterance.kept() < at(402) + PIECE_SAMPLES as u64);
        utterance.forget_before(u64::MAX);
        assert!(utterance.pieces.is_empty() && utterance.take(0, u64::MAX).is_empty());
        utterance.push(at(1000), &frame(1000), true);
        assert_eq!((utterance.take(0, u64::MAX), utterance.missing_frames()), (frame(1000).to_vec(), 0));
    }

    /// The samples of a WAV file, and its rate.
    fn read(file: &WavFile) -> (u32, Vec<i16>) {
        let mut bytes = Vec::new();
        file.copy_to(&mut bytes, 0, usize::MAX);
        let sound = wav::read(&bytes).unwrap();
        (sound.rate, sound.samples)
    }

    #[test]
    fn narrow_sound_takes_half_the_memory_and_is_what_halving_it_gives() {
        let sound = tone::sine(440.0, -12.0, 200 * FRAME_SAMPLES);
        let (mut narrow, mut wide) = (utterance(), utterance());
        for (index, frame) in sound.chunks_exact(FRAME_SAMPLES).enumerate() {
            let (at, frame) = (index as u64 * FRAME, frame.try_into().unwrap());
            narrow.push(at, frame, false);
            wide.push(at, frame, true);
        }
        let bytes = |utterance: &Utterance| utterance.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        assert_eq!((2 * bytes(&narrow), narrow.kept()), (bytes(&wide), wide.kept()));
        let (from, to) = (120 * FRAME, 150 * FRAME + 62);
        let (rate, samples) = read(&narrow.take_wav(from, to, false));
        assert_eq!((rate, &samples), (telephone::RATE, &narrow.take_narrow(from, to)));
        assert_eq!(samples.len() * 2, narrow.take(from, to).len());
        // Halving it when it is asked for begins with silence before it.
        assert_eq!(samples[27..], read(&wide.take_wav(from, to, false)).1[27..]);
        let (rate, samples) = read(&wide.take_wav(from, to, true));
        assert_eq!((rate, samples), (RATE, wide.take(from, to)));
        assert!((tone::share_of(440.0, &narrow.take(from, to)[60..]) - 1.0).abs() < 0.001);
    }

    #[test]
    fn a_band_that_changes_leaves_everything_in_its_place() {
        let mut utterance = Utterance::new(Duration::from_secs(2), Duration::from_millis(40));
        for index in 0..90u64 {
            utterance.push(index * FRAME, &frame(index as i16 * 100), index / 30 != 1);
        }
        let sound = utterance.take(0, u64::MAX);
        assert_eq!((sound.len() as u64, utterance.kept()), (90 * FRAME, 90 * FRAME));
        for index in (0..90).filter(|index| index % 30 > 1) {
            assert!((sound[index * FRAME_SAMPLES + 160] - index as i16 * 100).abs() < 101, "frame {index}");
        }
        for wide in [false, true] {
            let (rate, samples) = read(&utterance.take_wav(20 * FRAME, 40 * FRAME, wide));
            assert_eq!(samples.len() as u64 * u64::from(RATE / rate), 22 * FRAME + 2560);
        }
        utterance.forget_before(50 * FRAME);
        assert_eq!(utterance.since(60 * FRAME)[..FRAME_SAMPLES], frame(6000));
    }

    #[test]
    fn what_was_taken_as_a_file_stays_when_the_rest_is_forgotten() {
        let mut utterance = utterance();
        for index in 0..100u64 {
            utterance.push(index * FRAME, &frame(index as i16), true);
        }
        let file = utterance.take_wav(10 * FRAME, 90 * FRAME, true);
        let shared = Arc::strong_count(&utterance.pieces[1].bytes);
        utterance.forget_before(u64::MAX);
        assert_eq!((shared, read(&file).1.len() as u64), (2, 82 * FRAME + 2560));
        assert_eq!(read(&utterance.take_wav(0, u64::MAX, true)), (RATE, vec![]));
    }

    #[test]
    fn the_wav_file_holds_the_samples() {
        let sound = wav::read(&to_wav(&[1, -2, 3], true)).unwrap();
        assert_eq!((sound.rate, sound.samples), (RATE, vec![1, -2, 3]));
    }
}
