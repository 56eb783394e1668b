//! Comfort noise (RFC 3389): a level and the shape of a spectrum become noise for as long as the sender is silent.
//!
//! The spectrum's reflection coefficients drive an all-pole lattice; without them the noise is softly low-passed. No more than
//! [`MAX_ORDER`] coefficients are used, and no noise is louder than −30 dBov: it is a background, whatever the sender says.

use fastrand::Rng;

/// Coefficients beyond these are ignored; RFC 3389 lets a receiver do so.
const MAX_ORDER: usize = 12;
/// The loudest level, in −dBov.
const LOUDEST: u8 = 30;
/// The level moves to a new one over about so many samples.
const GLIDE: f32 = 400.0;

/// A source of noise.
#[derive(Debug, Clone)]
pub(super) struct ComfortNoise {
    random: Rng,
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
    pub(super) fn new() -> Self {
        let mut noise = Self {
            random: Rng::with_seed(3389),
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
            self.heard += (self.wanted - self.heard) / GLIDE;
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
