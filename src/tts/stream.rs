//! From the bytes of a sound, as they arrive, to pieces for the line: 16 kHz, level-matched, silence trimmed.

use std::time::Instant;

use crate::codec::g711::Law;
use crate::config::Coding;
use crate::pcm::resample::StreamResampler;
use crate::pcm::wav::{self, Header, WavError};
use crate::pcm::{FRAME_SAMPLES, RATE, telephone};

use super::levelling::Levelling;
use super::loudness::Loudness;
use super::shape::{self, EDGE, MARGIN};

/// A header that is not complete by then is garbage.
const MAX_HEADER: usize = 64 * 1024;
/// Samples in a piece; the last one takes what would be less than a frame behind it.
const PIECE: usize = 2 * FRAME_SAMPLES;

/// Reads a sound that arrives in parts.
pub(super) struct Reader {
    /// Bytes of the header, later those of a sample that is not whole yet.
    bytes: Vec<u8>,
    coding: Coding,
    body: Option<Body>,
}

struct Body {
    channels: u16,
    /// One byte a sample.
    companded: Option<Law>,
    /// Bytes of samples that may still come.
    left: usize,
    resampler: StreamResampler,
}

impl Reader {
    /// A reader of what is written so. A WAV file is known for one whatever was announced.
    pub fn new(coding: Coding) -> Self {
        Self { bytes: Vec::new(), coding, body: None }
    }

    /// Takes bytes, appends to `out` the samples at the line's rate.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<i16>) -> Result<(), WavError> {
        self.bytes.extend_from_slice(bytes);
        if self.body.is_none() && !self.begin()? {
            return Ok(());
        }
        if let Some(body) = &mut self.body {
            let group = if body.companded.is_some() { 1 } else { 2 * usize::from(body.channels) };
            let usable = self.bytes.len().min(body.left) / group * group;
            let mixed: Vec<i16> = match body.companded {
                Some(law) => {
                    let mut samples = vec![0; usable];
                    law.decode(&self.bytes[..usable], &mut samples);
                    samples
                }
                None => self.bytes[..usable].chunks_exact(group).map(mix).collect(),
            };
            body.resampler.push(&mixed, out);
            body.left -= usable;
            self.bytes.drain(..usable);
            if body.left < group {
                self.bytes.clear();
            }
        }
        Ok(())
    }

    /// Whether the samples have begun.
    fn begin(&mut self) -> Result<bool, WavError> {
        const RIFF: &[u8] = b"RIFF";
        let may_be_wav = RIFF.starts_with(&self.bytes[..self.bytes.len().min(RIFF.len())]);
        let (rate, companded) = match self.coding {
            _ if may_be_wav && self.bytes.len() < RIFF.len() => return Ok(false),
            Coding::Raw { rate } if !may_be_wav => (rate, None),
            Coding::Ulaw if !may_be_wav => (telephone::RATE, Some(Law::Mu)),
            Coding::Alaw if !may_be_wav => (telephone::RATE, Some(Law::A)),
            _ => return self.begin_wav(),
        };
        let resampler = StreamResampler::new(rate, RATE);
        self.body = Some(Body { channels: 1, companded, left: usize::MAX, resampler });
        Ok(true)
    }

    fn begin_wav(&mut self) -> Result<bool, WavError> {
        let Some(Header { rate, channels, data_at, data_bytes }) = wav::header(&self.bytes)? else {
            return if self.bytes.len() > MAX_HEADER { Err(WavError::Missing("data")) } else { Ok(false) };
        };
        // A data chunk of size 0 is what a pipe writer leaves that meant to come back.
        let left = if data_bytes == 0 { usize::MAX } else { data_bytes };
        self.bytes.drain(..data_at.min(self.bytes.len()));
        self.body = Some(Body { channels, companded: None, left, resampler: StreamResampler::new(rate, RATE) });
        Ok(true)
    }

    /// Appends the last samples. An error when a WAV file had not even a header.
    pub fn finish(&mut self, out: &mut Vec<i16>) -> Result<(), WavError> {
        match &mut self.body {
            Some(body) => body.resampler.finish(out),
            None if self.bytes.starts_with(b"RIFF") => return Err(WavError::Missing("data")),
            None if self.coding == Coding::Wav => return Err(WavError::NotWav),
            None => {}
        }
        Ok(())
    }
}

/// One sample of each channel, mixed.
fn mix(group: &[u8]) -> i16 {
    let sum: i32 = group.chunks_exact(2).map(|s| i32::from(i16::from_le_bytes([s[0], s[1]]))).sum();
    (sum / (group.len() as i32 / 2)) as i16
}

/// Levels a sound that arrives in parts and trims silence at both ends: silence is held back until sound follows it. The ends are faded, as
/// [`shape::fade_edges`] does it.
pub(super) struct Trimmer {
    levelling: Levelling,
    /// Nothing audible yet.
    leading: bool,
    /// Silence that may be the end.
    held: Vec<i16>,
    /// What is ready and not yet taken.
    ready: Vec<i16>,
    /// Samples at the beginning that are still to be faded in.
    begin: usize,
}

impl Trimmer {
    pub fn new(levelling: Levelling) -> Self {
        Self { levelling, leading: true, held: Vec::new(), ready: Vec::new(), begin: 0 }
    }

    /// Takes samples.
    pub fn push(&mut self, now: Instant, samples: Vec<i16>) {
        let mut levelled = Vec::with_capacity(samples.len());
        self.levelling.push(now, samples, &mut levelled);
        self.trim(levelled);
    }

    /// By when [`decide`](Self::decide) is to be called, while sound is held back until the gain is decided.
    pub fn decides_at(&self) -> Option<Instant> {
        self.levelling.decides_at()
    }

    /// Decides on the gain with what has come.
    pub fn decide(&mut self) {
        let mut levelled = Vec::new();
        self.levelling.decide(&mut levelled);
        self.trim(levelled);
    }

    fn trim(&mut self, samples: Vec<i16>) {
        let Some(last) = samples.iter().rposition(|s| s.unsigned_abs() > EDGE) else {
            self.held.extend(samples);
            if self.leading {
                let surplus = self.held.len().saturating_sub(MARGIN);
                self.held.drain(..surplus);
            }
            return;
        };
        self.held.extend(&samples[..=last]);
        if self.leading {
            let first = self.held.iter().position(|s| s.unsigned_abs() > EDGE).unwrap_or(0);
            self.held.drain(..first.saturating_sub(MARGIN));
            self.begin = MARGIN;
            self.leading = false;
        }
        self.fade_in();
        self.ready.append(&mut self.held);
        self.held.extend(&samples[last + 1..]);
    }

    /// Fades what is held in, as far as it belongs to the beginning.
    fn fade_in(&mut self) {
        let done = MARGIN - self.begin;
        let fading = self.begin.min(self.held.len());
        for (n, sample) in self.held[..fading].iter_mut().enumerate() {
            *sample = (f32::from(*sample) * shape::ramp(done + n, MARGIN)) as i16;
        }
        self.begin -= fading;
    }

    /// The next whole piece. One more frame stays behind it, so that the last piece is never shorter than a frame.
    pub fn piece(&mut self) -> Option<Vec<i16>> {
        (self.ready.len() >= PIECE + FRAME_SAMPLES).then(|| self.ready.drain(..PIECE).collect())
    }

    /// The rest in pieces, with `pause` samples of silence behind; `None` when nothing audible came.
    pub fn finish(mut self, now: Instant, pause: usize) -> Option<Vec<Vec<i16>>> {
        let mut levelled = Vec::new();
        self.levelling.finish(now, &mut levelled);
        self.trim(levelled);
        if self.leading {
            return None;
        }
        self.held.truncate(MARGIN);
        self.fade_in();
        self.ready.append(&mut self.held);
        let end = self.ready.len();
        shape::fade_out(&mut self.ready[end - MARGIN.min(end)..]);
        self.ready.resize(self.ready.len() + pause, 0);
        let mut pieces: Vec<Vec<i16>> = self.ready.chunks(PIECE).map(<[i16]>::to_vec).collect();
        if pieces.len() > 1
            && let Some(short) = pieces.pop_if(|piece| piece.len() < FRAME_SAMPLES)
            && let Some(last) = pieces.last_mut()
        {
            last.extend(short);
        }
        Some(pieces)
    }
}

/// Levels a sound that arrives in its own time, and lets it begin and end without a step. Silence within it stays where it is.
pub struct Levelled {
    levelling: Levelling,
    /// Samples at the beginning that have been faded in.
    faded: usize,
    /// What may be the end.
    held: Vec<i16>,
}

impl Levelled {
    /// A sound of the voice that `loudness` is of, to be brought to `level_dbfs`.
    pub fn new(loudness: &Loudness, level_dbfs: f32) -> Self {
        Self { levelling: Levelling::new(loudness, level_dbfs).without_waiting(), faded: 0, held: Vec::new() }
    }

    /// Takes samples; gives those that are ready: all but the last 10 ms, or none yet of a voice that is not known.
    pub fn push(&mut self, now: Instant, samples: Vec<i16>) -> Vec<i16> {
        let before = self.held.len();
        self.levelling.push(now, samples, &mut self.held);
        self.fade_in(before);
        let ready = self.held.len().saturating_sub(MARGIN);
        self.held.drain(..ready).collect()
    }

    /// The end of it: the rest.
    pub fn finish(&mut self, now: Instant) -> Vec<i16> {
        let before = self.held.len();
        self.levelling.finish(now, &mut self.held);
        self.fade_in(before);
        let end = self.held.len();
        shape::fade_out(&mut self.held[end - MARGIN.min(end)..]);
        std::mem::take(&mut self.held)
    }

    /// Fades in what came behind the first `before` samples that are held, as far as it belongs to the beginning.
    fn fade_in(&mut self, before: usize) {
        for sample in self.held[before..].iter_mut().take(MARGIN - self.faded) {
            *sample = (f32::from(*sample) * shape::ramp(self.faded, MARGIN)) as i16;
            self.faded += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pcm::tone;

    fn read(bytes: &[u8], step: usize) -> Result<Vec<i16>, WavError> {
        let mut reader = Reader::new(Coding::Wav);
        let mut out = Vec::new();
        for part in bytes.chunks(step) {
            reader.push(part, &mut out)?;
        }
        reader.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn a_wav_gives_the_same_samples_however_its_bytes_are_cut() {
        let samples: Vec<i16> = (0..3000).map(|n| ((n * 37) % 4001) as i16).collect();
        for (rate, channels) in [(RATE, 1), (22050, 1), (24000, 2)] {
            let mut bytes = wav::write(rate, channels, &samples);
            bytes[40..44].copy_from_slice(&0x7fff_f000u32.to_le_bytes());
            let whole = read(&bytes, usize::MAX).unwrap();
            for step in [1, 3, 7, 44, 45, 1000] {
                assert!(read(&bytes, step).unwrap() == whole, "{rate} Hz, {step} bytes at a time");
            }
        }
        assert_eq!(read(&wav::write(RATE, 1, &samples), 5).unwrap(), samples);
    }

    #[test]
    fn what_stands_behind_the_samples_is_not_played() {
        let mut bytes = wav::write(RATE, 1, &[7; 100]);
        bytes.extend(b"LIST\x04\0\0\0junk");
        assert_eq!(read(&bytes, 9).unwrap(), [7; 100]);
    }

    #[test]
    fn garbage_and_nothing_are_errors() {
        assert_eq!(read(b"Usage: voice [options]", 5), Err(WavError::NotWav));
        assert_eq!(read(b"", 5), Err(WavError::NotWav));
        assert_eq!(read(b"RIFF", 5), Err(WavError::Missing("data")));
        let mut endless = b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f".to_vec();
        endless.resize(200_000, 0);
        assert_eq!(read(&endless, 4096), Err(WavError::Missing("data")));
    }

    /// Of a voice whose level is known, so that its gain is `db`.
    fn trimmer(db: f32) -> Trimmer {
        let loudness = Loudness::default();
        loudness.learn(-20.0 - db, Duration::from_secs(1), false);
        Trimmer::new(Levelling::new(&loudness, -20.0))
    }

    fn seconds(seconds: f32) -> usize {
        (seconds * RATE as f32) as usize
    }

    /// Some 400 Hz, whatever the rate is.
    fn sine(dbfs: f32, samples: usize) -> Vec<i16> {
        tone::sine(400.0, dbfs, samples)
    }

    #[test]
    fn trimming_piece_by_piece_gives_what_trimming_the_whole_gives() {
        let mut sound = vec![0i16; seconds(0.125)];
        sound.extend(sine(-10.0, seconds(0.1125)));
        sound.extend(vec![40; seconds(0.25)]);
        sound.extend(sine(-10.0, seconds(0.0875)));
        sound.extend(vec![0; seconds(0.375)]);
        let mut expected = sound[shape::audible(&sound)].to_vec();
        shape::fade_edges(&mut expected);
        let mut whole = None;
        let now = Instant::now();
        for step in [1, 50, FRAME_SAMPLES, 999, 10_000] {
            let mut trimmer = trimmer(0.0);
            let mut pieces = Vec::new();
            for part in sound.chunks(step) {
                trimmer.push(now, part.to_vec());
                while let Some(piece) = trimmer.piece() {
                    pieces.push(piece);
                }
            }
            pieces.extend(trimmer.finish(now, 0).unwrap());
            assert!(pieces.iter().all(|piece| (FRAME_SAMPLES..=3 * FRAME_SAMPLES).contains(&piece.len())));
            let joined = pieces.concat();
            // What takes direct current away dies away a little behind a sound that breaks off.
            assert!(joined.len().abs_diff(expected.len()) < 2 * MARGIN, "{step}");
            let body = expected.len() - 2 * MARGIN;
            assert!(joined[..body].iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 900), "{step}");
            assert!(joined[0].abs() < 50 && joined[joined.len() - 1].abs() < 50, "it begins and ends without a step");
            assert_eq!(*whole.get_or_insert_with(|| joined.clone()), joined, "{step}");
        }
    }

    #[test]
    fn the_pause_comes_behind_the_sound_and_silence_alone_gives_nothing() {
        let now = Instant::now();
        let mut sounding = trimmer(0.0);
        sounding.push(now, sine(-15.0, seconds(0.0375)));
        let pause = seconds(0.08);
        let joined = sounding.finish(now, pause).unwrap().concat();
        assert_eq!(joined.len(), seconds(0.0375) + pause);
        assert!(joined[seconds(0.0375)..].iter().all(|&sample| sample == 0));
        let mut silent = trimmer(0.0);
        silent.push(now, vec![100; 30_000]);
        assert!(silent.finish(now, pause).is_none());
    }

    #[test]
    fn direct_current_is_gone_after_a_moment_and_the_sound_is_not() {
        let now = Instant::now();
        let mut trimmer = trimmer(0.0);
        let sound: Vec<i16> = sine(-16.0, seconds(1.0)).iter().map(|sample| sample + 3000).collect();
        sound.chunks(333).for_each(|part| trimmer.push(now, part.to_vec()));
        let heard = trimmer.finish(now, 0).unwrap().concat();
        let heard = &heard[seconds(0.1)..seconds(0.9)];
        let mean = heard.iter().map(|&s| f64::from(s)).sum::<f64>() / heard.len() as f64;
        assert!(mean.abs() < 20.0, "{mean}");
        assert!((crate::pcm::level::rms_dbfs(heard) + 19.0).abs() < 0.2);
    }

    #[test]
    fn a_sound_in_its_own_time_keeps_its_silence_and_its_length_and_begins_and_ends_without_a_step() {
        let now = Instant::now();
        let sound = [sine(-23.0, seconds(0.3)), vec![0; seconds(0.3)], sine(-23.0, seconds(0.3))].concat();
        let loudness = Loudness::default();
        loudness.learn(-26.0, Duration::from_secs(1), true);
        for step in [1, 100, 777, 100_000] {
            let mut levelled = Levelled::new(&loudness, -20.0);
            let mut out: Vec<i16> = sound.chunks(step).flat_map(|part| levelled.push(now, part.to_vec())).collect();
            assert!(sound.len() - out.len() <= 2 * MARGIN, "{step}");
            out.extend(levelled.finish(now));
            assert_eq!(out.len(), sound.len());
            assert!(out[0].abs() < 50 && out[out.len() - 1].abs() < 50);
            assert!(out[seconds(0.35)..seconds(0.55)].iter().all(|sample| sample.abs() < 3));
            assert!((crate::pcm::level::active_dbfs(&out).unwrap() + 20.0).abs() < 0.3);
        }
    }
}
