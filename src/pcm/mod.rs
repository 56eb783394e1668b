//! Sound as the house moves it: 16-bit linear PCM, mono, 16 kHz, in frames of one ptime (20 ms, 320 samples).
//!
//! One rate for narrow lines and wide ones: a leg whose codec has 8 kHz converts at its edge (see [`half_band`]). What listens for turns
//! needs no more than the [`telephone`] band.

use std::time::Duration;

pub mod half_band;
pub mod keypad;
pub mod level;
pub mod resample;
pub mod telephone;
pub mod tone;
pub mod wav;

/// Samples a second inside the house.
pub const RATE: u32 = 16_000;
/// Samples in one frame.
pub const FRAME_SAMPLES: usize = 320;
/// The time one frame lasts.
pub const PTIME: Duration = Duration::from_millis(20);

/// One ptime of sound: 320 samples, mono, 16 kHz.
pub type Frame = [i16; FRAME_SAMPLES];

/// A frame of digital silence.
pub const SILENCE: Frame = [0; FRAME_SAMPLES];

/// How long `samples` samples last at [`RATE`].
pub const fn duration(samples: u64) -> Duration {
    duration_at(RATE, samples)
}

/// How many samples at [`RATE`] last `duration`.
pub const fn samples_in(duration: Duration) -> u64 {
    samples_at(RATE, duration)
}

/// How long `samples` samples last at `rate` a second.
pub const fn duration_at(rate: u32, samples: u64) -> Duration {
    Duration::from_micros(samples * 1_000_000 / rate as u64)
}

/// How many samples at `rate` a second last `duration`.
pub const fn samples_at(rate: u32, duration: Duration) -> u64 {
    duration.as_micros() as u64 * rate as u64 / 1_000_000
}
