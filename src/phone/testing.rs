//! Sounds for this room's tests.

use crate::pcm::FRAME_SAMPLES;

/// So many frames of something that is voiced throughout and like nothing of another seed: noise, low-passed, swelling slowly.
pub fn voice(seed: u64, frames: usize) -> Vec<i16> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut low = 0.0f32;
    (0..frames * FRAME_SAMPLES)
        .map(|n| {
            low += 0.3 * (random.f32() * 2.0 - 1.0 - low);
            let swell = 0.7 + 0.3 * (n as f32 / 700.0 + seed as f32).sin();
            (low * swell * 12_000.0) as i16
        })
        .collect()
}
