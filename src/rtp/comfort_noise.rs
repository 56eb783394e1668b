//! Comfort noise (RFC 3389): a level and the shape of a spectrum become noise for as long as the sender is silent.
//!
//! The spectrum's reflection coefficients drive an all-pole lattice; without them the noise is softly low-passed. No more than
//! [`MAX_ORDER`] coefficients are used, and no noise is louder than −30 dBov: it is a background, whatever the sender says.

use fastrand::Rng;

/// Coefficients beyond these are ignored; RFC 3389 lets a receiver do so.
const MAX_ORDER: usize = 12;
/// The loudest level, in −dBov.
const LOUDEST: u8 = 30;
/// The level moves to a new one over about so long.
const GLIDE_MS: f32 = 50.0;

/// A source of noise.
#[derive(Debug, Clone)]
pub(super) struct ComfortNoise {
    random: Rng,
    /// In samples.
    glide: f32,
    reflection: [f32; MAX_ORDER],
    order: usize,
    state: [f32; MAX_ORDER],
    /// Standard deviation that is wanted, and the one that is heard.
    wanted: f32,
    heard: f32,
    /// What the filter makes white noise louder by.
    gain: f32,
}

impl ComfortNoise {
    /// Noise at `rate` samples a second. The spectrum of RFC 3389 is that of the sender's rate; one of another moves with it.
    pub(super) fn new(rate: u32) -> Self {
        let mut noise = Self {
            random: Rng::with_seed(3389),
            glide: rate as f32 * GLIDE_MS / 1000.0,
            reflection: [0.0; MAX_ORDER],
            order: 0,
            state: [0.0; MAX_ORDER],
            wanted: 0.0,
            heard: 0.0,
            gain: 1.0,
        };
        noise.shape(&[]);
        noise
    }

    /// Takes the payload of a comfort noise packet: a level in −dBov, then coefficients. An empty one changes nothing.
    pub(super) fn handle_payload(&mut self, payload: &[u8]) {
        let Some((&level, coefficients)) = payload.split_first() else { return };
        self.set_level(deviation(level & 0x7f));
        self.shape(coefficients);
    }

    /// The noise's standard deviation from now on, in sample values.
    pub(super) fn set_level(&mut self, deviation: f32) {
        self.wanted = deviation.min(self::deviation(LOUDEST));
    }

    /// Fills `out` with noise.
    pub(super) fn fill(&mut self, out: &mut [i16]) {
        if self.wanted == 0.0 && self.heard < 0.5 {
            self.heard = 0.0;
            out.fill(0);
            return;
        }
        for sample in out {
            self.heard += (self.wanted - self.heard) / self.glide;
            // Uniform noise of deviation 1.
            let white = (self.random.f32() * 2.0 - 1.0) * 3f32.sqrt();
            *sample = (self.filter(white) * self.gain * self.heard).clamp(-32768.0, 32767.0) as i16;
        }
    }

    /// §3.1: a byte N stands for (N − 127) / 128.
    fn shape(&mut self, coefficients: &[u8]) {
        // Without a spectrum: one pole, as rooms and lines sound.
        let default = [-0.5f32];
        self.order = coefficients.len().clamp(1, MAX_ORDER);
        for n in 0..self.order {
            let given = coefficients.get(n).map(|&byte| (f32::from(byte) - 127.0) / 128.0);
            self.reflection[n] = given.or(default.get(n).copied()).unwrap_or(0.0).clamp(-0.98, 0.98);
        }
        self.state = [0.0; MAX_ORDER];
        // An all-pole lattice is louder than what drives it by the product of 1 / (1 − k²).
        let power: f32 = self.reflection[..self.order].iter().map(|k| 1.0 - k * k).product();
        self.gain = power.sqrt();
    }

    /// One sample through the lattice.
    fn filter(&mut self, input: f32) -> f32 {
        let mut forward = input;
        for n in (0..self.order).rev() {
            let k = self.reflection[n];
            forward -= k * self.state[n];
            let backward = self.state[n] + k * forward;
            if n + 1 < self.order {
                self.state[n + 1] = backward;
            }
        }
        self.state[0] = forward;
        forward
    }
}

/// The standard deviation of noise of so many −dBov; 0 dBov is the power of a square wave at full scale.
fn deviation(level: u8) -> f32 {
    32767.0 * 10f32.powf(-f32::from(level) / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::level::rms_dbfs;
    use crate::pcm::telephone::share_of;

    fn heard(payload: &[u8]) -> Vec<i16> {
        let mut noise = ComfortNoise::new(8000);
        noise.handle_payload(payload);
        let mut out = vec![0; 80_000];
        noise.fill(&mut out);
        out.split_off(8000)
    }

    #[test]
    fn the_level_is_the_one_that_was_sent_with_and_without_a_spectrum() {
        for level in [30u8, 45, 60, 70] {
            for coefficients in [&[][..], &[90], &[200, 60, 140], &[100, 150, 110, 140, 120, 130, 127, 127, 127, 127]] {
                let found = rms_dbfs(&heard(&[&[level], coefficients].concat()));
                assert!((found + f32::from(level)).abs() < 1.0, "{level} {coefficients:?}: {found}");
            }
        }
    }

    #[test]
    fn a_coefficient_below_the_middle_makes_low_noise_and_one_above_it_high_noise() {
        let power = |samples: &[i16], hz: [f32; 4]| -> f32 {
            samples.chunks(8000).map(|piece| hz.iter().map(|&hz| share_of(hz, piece)).sum::<f32>()).sum()
        };
        for (byte, low_is_louder) in [(20, true), (235, false)] {
            let noise = heard(&[40, byte]);
            let (low, high) =
                (power(&noise, [200.0, 300.0, 400.0, 500.0]), power(&noise, [3500.0, 3600.0, 3700.0, 3800.0]));
            assert_eq!(low > 4.0 * high, low_is_louder, "{byte}: {low} {high}");
            assert_eq!(high > 4.0 * low, !low_is_louder, "{byte}: {low} {high}");
        }
    }

    #[test]
    fn no_payload_makes_it_loud_or_unstable() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let payload: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            let mut noise = ComfortNoise::new(8000);
            noise.handle_payload(&payload);
            let mut out = [0; 4000];
            noise.fill(&mut out);
            assert!(rms_dbfs(&out) < -20.0, "{payload:?}");
        }
        let mut out = [1; 160];
        ComfortNoise::new(8000).fill(&mut out);
        assert_eq!(out, [0; 160]);
    }
}
