//! What is done to every sound before it is spoken on the line: silence trimmed, level matched, edges faded.

use std::ops::Range;

use crate::pcm::{RATE, level};

/// Samples at or below this size count as silence at the edges of a sound; about −44 dBFS.
pub const EDGE: u16 = 200;

/// Sound kept before the first and behind the last audible sample, so that no consonant is clipped: 5 ms.
pub const MARGIN: usize = RATE as usize / 200;

/// From this part of full scale on, the limiter bends.
const KNEE: f32 = 0.7;

/// The part of `samples` between leading and trailing silence, with [`MARGIN`] at both ends; empty when all is silent.
pub fn audible(samples: &[i16]) -> Range<usize> {
    let loud = |s: &i16| s.unsigned_abs() > EDGE;
    match (samples.iter().position(loud), samples.iter().rposition(loud)) {
        (Some(first), Some(last)) => first.saturating_sub(MARGIN)..(last + 1 + MARGIN).min(samples.len()),
        _ => 0..0,
    }
}

/// A constant gain with a soft limit: below 70 % of full scale it is linear, above it bends and never clips.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    factor: f32,
}

impl Gain {
    /// A gain in dB.
    pub fn db(db: f32) -> Self {
        Self { factor: 10f32.powf(db.clamp(-60.0, 40.0) / 20.0) }
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
        for sample in samples {
            let x = f32::from(*sample) / 32768.0 * self.factor;
            let size = x.abs();
            let y = if size <= KNEE { size } else { KNEE + (1.0 - KNEE) * ((size - KNEE) / (1.0 - KNEE)).tanh() };
            *sample = (y.copysign(x) * 32767.0).round() as i16;
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
        assert_eq!(audible(&sound), 960..4240);
        assert_eq!(audible(&[150; 500]), 0..0);
        assert_eq!(audible(&[]), 0..0);
        assert_eq!(audible(&[9000]), 0..1);
    }

    #[test]
    fn a_loud_and_a_soft_voice_come_out_alike_and_unclipped() {
        for dbfs in [-1.0, -12.0, -35.0] {
            let mut sound = tone::sine(300.0, dbfs, 8000);
            Gain::matching(&sound, -20.0).unwrap().apply(&mut sound);
            assert!((level::active_dbfs(&sound).unwrap() + 20.0).abs() < 0.2, "from {dbfs}");
        }
        let mut loud = [32767, -32768, 20000, 100];
        Gain::db(20.0).apply(&mut loud);
        assert!(loud[0] == 32767 && loud[1] == -32767 && loud[2] > 25000 && loud[3] == 1000, "{loud:?}");
        assert!(Gain::matching(&[0; 800], -20.0).is_none());
    }

    #[test]
    fn the_edges_begin_and_end_near_zero_and_the_middle_is_untouched() {
        let mut sound = [10_000i16; 400];
        fade_edges(&mut sound);
        assert!(sound[0] < 50 && sound[399] < 50);
        assert_eq!(sound[40..360], [10_000; 320]);
        fade_edges(&mut [1, 2, 3]);
        fade_edges(&mut []);
    }
}
