//! Noise of the callers' surroundings and lines, seeded: other voices, mains hum, a street.

use crate::pcm::level;
use crate::pcm::telephone::RATE;

use super::line;

/// A kind of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Noise {
    /// Several voices at once, each of them speech.
    Babble,
    /// 50 Hz and its harmonics, as much of them as a telephone passes, with a little hiss.
    Hum,
    /// A road: shaped noise whose level comes and goes.
    Street,
}

impl Noise {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Babble, Self::Hum, Self::Street];

    /// As reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Babble => "babble",
            Self::Hum => "hum",
            Self::Street => "street",
        }
    }
}

/// So many samples of a noise at `dbfs`, in the telephone's band. `voices`: sound of several people who speak at once, of which a place is taken.
pub(super) fn make(noise: Noise, samples: usize, dbfs: f32, voices: &[i16], random: &mut fastrand::Rng) -> Vec<i16> {
    let mut sound = match noise {
        Noise::Babble => {
            let from = random.usize(..voices.len().max(1));
            voices.iter().cycle().skip(from).take(samples).copied().collect()
        }
        Noise::Hum => line::telephone_band(&hum(samples, random)),
        Noise::Street => line::telephone_band(&street(samples, random)),
    };
    let gain = dbfs - level::rms_dbfs(&sound);
    level::apply_gain(&mut sound, gain);
    sound
}

/// Several sounds at once, each repeated from its own place on, for so many samples.
pub(super) fn mixed(sounds: &[Vec<i16>], samples: usize, random: &mut fastrand::Rng) -> Vec<i16> {
    let mut sum = vec![0i32; samples];
    for sound in sounds {
        let from = random.usize(..sound.len().max(1));
        for (sum, &sample) in sum.iter_mut().zip(sound.iter().cycle().skip(from)) {
            *sum += i32::from(sample);
        }
    }
    sum.into_iter().map(|sum| (sum / 2).clamp(-32768, 32767) as i16).collect()
}

fn hum(samples: usize, random: &mut fastrand::Rng) -> Vec<i16> {
    // Odd harmonics are stronger, as rectifiers and transformers make them.
    let harmonics: Vec<(f32, f32, f32)> = (1..=24)
        .map(|n| {
            let amplitude = if n % 2 == 1 { 1.0 } else { 0.4 } / n as f32;
            (50.0 * n as f32, amplitude * (0.7 + 0.6 * random.f32()), random.f32())
        })
        .collect();
    (0..samples)
        .map(|at| {
            let seconds = at as f32 / RATE as f32;
            let tones: f32 = harmonics
                .iter()
                .map(|(hz, amplitude, phase)| {
                    amplitude * (std::f32::consts::TAU * (hz * seconds + phase).fract()).sin()
                })
                .sum();
            let hiss = (random.f32() - 0.5) * 0.04;
            (8000.0 * (tones + hiss)) as i16
        })
        .collect()
}

fn street(samples: usize, random: &mut fastrand::Rng) -> Vec<i16> {
    // Two poles make the rumble; half of the hiss of tyres stays. Cars pass every few seconds.
    let (mut low, mut lower) = (0.0f32, 0.0f32);
    let (mut level, mut wanted, mut left) = (0.6f32, 0.6f32, 0usize);
    (0..samples)
        .map(|_| {
            if left == 0 {
                left = random.usize(RATE as usize..4 * RATE as usize);
                wanted = 0.4 + 1.2 * random.f32() * random.f32();
            }
            left -= 1;
            level += (wanted - level) / RATE as f32;
            let white = random.f32() + random.f32() + random.f32() - 1.5;
            low += (white - low) * 0.35;
            lower += (white - lower) * 0.06;
            (4000.0 * level * (0.5 * low + 3.0 * lower + 0.15 * white)) as i16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noise_has_its_level_and_its_seed() {
        let voices = crate::pcm::tone::sine(500.0, -10.0, 4000);
        for noise in Noise::ALL {
            let make = |seed| make(noise, 40_000, -33.0, &voices, &mut fastrand::Rng::with_seed(seed));
            let sound = make(1);
            assert_eq!(sound.len(), 40_000);
            assert!((level::rms_dbfs(&sound) + 33.0).abs() < 0.3, "{noise:?} {}", level::rms_dbfs(&sound));
            assert!(sound == make(1) && sound != make(2), "{noise:?}");
        }
    }

    #[test]
    fn a_street_comes_and_goes_and_hum_stays() {
        let swing = |noise| {
            let sound = make(noise, 160_000, -30.0, &[], &mut fastrand::Rng::with_seed(3));
            let levels = sound.chunks(8000).map(level::rms_dbfs);
            let (low, high) = levels.fold((0.0f32, -120.0f32), |(low, high), level| (low.min(level), high.max(level)));
            high - low
        };
        assert!(swing(Noise::Street) > 3.0, "{}", swing(Noise::Street));
        assert!(swing(Noise::Hum) < 0.5, "{}", swing(Noise::Hum));
    }
}
