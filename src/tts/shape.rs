//! What is done to every sound before it is spoken on the line: silence trimmed, level matched, edges faded.

use std::collections::VecDeque;
use std::ops::Range;

use crate::pcm::{RATE, level};

/// Samples at or below this size count as silence at the edges of a sound; about −44 dBFS.
pub const EDGE: u16 = 200;

/// Sound kept before the first and behind the last audible sample, so that no consonant is clipped: 5 ms.
pub const MARGIN: usize = RATE as usize / 200;

/// The largest sample that leaves: −1 dBFS.
pub const CEILING: i16 = 29_204;

/// How far the limiter looks ahead, and over how long its gain comes and goes at least: 5 ms.
const LOOK_AHEAD: usize = RATE as usize / 200;

/// Over this time most of a reduction is gone again, in samples: 20 ms.
const RELEASE: f32 = RATE as f32 / 50.0;

/// The part of `samples` between leading and trailing silence, with [`MARGIN`] at both ends; empty when all is silent.
pub fn audible(samples: &[i16]) -> Range<usize> {
    let loud = |s: &i16| s.unsigned_abs() > EDGE;
    match (samples.iter().position(loud), samples.iter().rposition(loud)) {
        (Some(first), Some(last)) => first.saturating_sub(MARGIN)..(last + 1 + MARGIN).min(samples.len()),
        _ => 0..0,
    }
}

/// A constant gain. Where it would lift a peak over [`CEILING`], a [`Limiter`] lowers it around that peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    factor: f32,
}

impl Gain {
    /// A gain in dB.
    pub fn db(db: f32) -> Self {
        Self { factor: 10f32.powf(db.clamp(-60.0, 40.0) / 20.0) }
    }

    /// In dB.
    pub fn in_db(self) -> f32 {
        20.0 * self.factor.log10()
    }

    /// The gain that brings the voiced parts of `samples` to `level_dbfs`, the limiter's own loss counted in;
    /// `None` when nothing in them is voiced.
    pub fn matching(samples: &[i16], level_dbfs: f32) -> Option<Self> {
        let mut db = level_dbfs - level::active_dbfs(samples)?;
        for _ in 0..3 {
            let mut tried = samples.to_vec();
            Self::db(db).apply(&mut tried);
            db += level_dbfs - level::active_dbfs(&tried)?;
        }
        Some(Self::db(db))
    }

    /// Applies it in place.
    pub fn apply(self, samples: &mut [i16]) {
        let peak = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        if f32::from(peak) * self.factor <= f32::from(CEILING) {
            samples.iter_mut().for_each(|sample| *sample = (f32::from(*sample) * self.factor).round() as i16);
            return;
        }
        let mut limiter = Limiter::new(self);
        let mut limited = Vec::with_capacity(samples.len());
        limiter.push(samples, &mut limited);
        limiter.finish(&mut limited);
        samples.copy_from_slice(&limited);
    }
}

/// A gain for a sound that arrives in parts, which looks ahead for peaks: around one that would pass [`CEILING`] the gain sinks within 5 ms to
/// what the peak allows, and comes back over some 20 ms. Everything else has the gain alone, and nothing is bent or cut.
#[derive(Debug)]
pub struct Limiter {
    gain: Gain,
    /// Samples with the gain, of which the reduction is not known yet.
    delayed: VecDeque<f32>,
    /// Reductions that the samples of the look-ahead need, rising: which sample, and its factor.
    lows: VecDeque<(u64, f32)>,
    /// The reduction as it comes back, for each sample of the look-ahead, and their sum: its mean is applied.
    eased: VecDeque<f32>,
    sum: f64,
    taken: u64,
}

impl Limiter {
    /// A limiter behind `gain`.
    pub fn new(gain: Gain) -> Self {
        Self {
            gain,
            delayed: VecDeque::with_capacity(LOOK_AHEAD),
            lows: VecDeque::new(),
            eased: std::iter::repeat_n(1.0, LOOK_AHEAD).collect(),
            sum: LOOK_AHEAD as f64,
            taken: 0,
        }
    }

    /// Takes samples; appends to `out` those of which it has seen what follows.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        for sample in samples {
            self.take(f32::from(*sample) * self.gain.factor, out);
        }
    }

    /// Appends the rest; there are as many samples then as were taken.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        let whole = out.len() + self.delayed.len();
        while out.len() < whole {
            self.take(0.0, out);
        }
        self.delayed.clear();
    }

    fn take(&mut self, sample: f32, out: &mut Vec<i16>) {
        let most = f32::from(CEILING);
        if sample.abs() > most {
            let needs = most / sample.abs();
            while self.lows.back().is_some_and(|&(_, low)| low >= needs) {
                self.lows.pop_back();
            }
            self.lows.push_back((self.taken, needs));
        }
        if self.lows.front().is_some_and(|&(at, _)| at + LOOK_AHEAD as u64 <= self.taken) {
            self.lows.pop_front();
        }
        self.taken += 1;
        let last = self.eased.back().copied().unwrap_or(1.0);
        let back = if last > 0.9999 { 1.0 } else { last + (1.0 - last) / RELEASE };
        let eased = self.lows.front().map_or(back, |&(_, low)| low.min(back));
        self.eased.push_back(eased);
        self.sum += f64::from(eased) - f64::from(self.eased.pop_front().unwrap_or(1.0));
        self.delayed.push_back(sample);
        if self.delayed.len() == LOOK_AHEAD
            && let Some(sample) = self.delayed.pop_front()
        {
            let reduced = sample * (self.sum / LOOK_AHEAD as f64) as f32;
            out.push(reduced.round().clamp(-most, most) as i16);
        }
    }
}

/// Factor of the sample `n` of a fade-in over so many samples.
pub(super) fn ramp(n: usize, length: usize) -> f32 {
    (1.0 - (std::f32::consts::PI * (n as f32 + 0.5) / length as f32).cos()) / 2.0
}

/// Fades all of it out.
pub(super) fn fade_out(samples: &mut [i16]) {
    let length = samples.len();
    for (n, sample) in samples.iter_mut().rev().enumerate() {
        *sample = (f32::from(*sample) * ramp(n, length)) as i16;
    }
}

/// Fades the first and last 5 ms in and out.
pub fn fade_edges(samples: &mut [i16]) {
    let length = MARGIN.min(samples.len() / 2);
    let total = samples.len();
    for n in 0..length {
        let factor = ramp(n, length);
        samples[n] = (f32::from(samples[n]) * factor) as i16;
        samples[total - 1 - n] = (f32::from(samples[total - 1 - n]) * factor) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    #[test]
    fn silence_at_the_edges_goes_and_silence_inside_stays() {
        let mut sound = vec![0i16; 1000];
        sound.extend([5000; 100]);
        sound.extend([100; 3000]);
        sound.extend([-5000; 100]);
        sound.extend([0; 2000]);
        assert_eq!(audible(&sound), 1000 - MARGIN..4200 + MARGIN);
        assert_eq!(audible(&[150; 500]), 0..0);
        assert_eq!(audible(&[]), 0..0);
        assert_eq!(audible(&[9000]), 0..1);
    }

    #[test]
    fn a_loud_and_a_soft_voice_come_out_alike_and_unclipped() {
        for dbfs in [-1.0, -12.0, -35.0] {
            let mut sound = tone::sine(300.0, dbfs, RATE as usize);
            Gain::matching(&sound, -20.0).unwrap().apply(&mut sound);
            assert!((level::active_dbfs(&sound).unwrap() + 20.0).abs() < 0.2, "from {dbfs}");
        }
        assert!(Gain::matching(&[0; 800], -20.0).is_none());
    }

    #[test]
    fn a_peak_is_lowered_without_a_bend_and_what_is_far_from_it_is_not() {
        let mut sound = tone::sine(300.0, -16.0, RATE as usize);
        let peak = RATE as usize / 2;
        sound[peak..peak + 40].iter_mut().for_each(|sample| *sample *= 5);
        let mut whole = sound.clone();
        Gain::db(6.0206).apply(&mut whole);
        let most = whole.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!((CEILING as u16 - 300..=CEILING as u16).contains(&most), "{most}");
        let doubled =
            |range: Range<usize>| sound[range.clone()].iter().zip(&whole[range]).all(|(a, b)| a.abs_diff(b / 2) <= 1);
        assert!(doubled(0..peak - LOOK_AHEAD) && doubled(peak + RATE as usize / 4..sound.len()));
        // Nothing is cut flat: a sample that is larger comes out larger.
        let top = |samples: &[i16]| {
            samples[peak..peak + 40].iter().enumerate().max_by_key(|(_, s)| s.unsigned_abs()).unwrap().0
        };
        assert!(top(&sound).abs_diff(top(&whole)) <= 1);
        for step in [1, 7, 333] {
            let mut limiter = Limiter::new(Gain::db(6.0206));
            let mut out = Vec::new();
            sound.chunks(step).for_each(|part| limiter.push(part, &mut out));
            assert_eq!(sound.len() - out.len(), LOOK_AHEAD - 1);
            limiter.finish(&mut out);
            assert_eq!(out, whole, "{step}");
        }
        let mut loud = [i16::MAX, i16::MIN, 20_000, 100];
        Gain::db(20.0).apply(&mut loud);
        assert!(loud.iter().all(|sample| sample.unsigned_abs() <= CEILING as u16), "{loud:?}");
    }

    #[test]
    fn the_edges_begin_and_end_near_zero_and_the_middle_is_untouched() {
        let mut sound = [10_000i16; 10 * MARGIN];
        fade_edges(&mut sound);
        assert!(sound[0] < 50 && sound[10 * MARGIN - 1] < 50);
        assert_eq!(sound[MARGIN..9 * MARGIN], [10_000; 8 * MARGIN]);
        fade_edges(&mut [1, 2, 3]);
        fade_edges(&mut []);
    }
}
