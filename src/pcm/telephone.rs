//! Sound in the telephone band, 16-bit linear PCM, mono, 8 kHz: what narrow codecs carry, and all that turns are heard by.

use std::time::Duration;

/// Samples a second.
pub const RATE: u32 = 8000;
/// Samples in one frame.
pub const FRAME_SAMPLES: usize = 160;
/// Samples of the house to one of these.
pub const WIDER: u64 = (super::RATE / RATE) as u64;

/// One ptime of sound: 160 samples, mono, 8 kHz.
pub type Frame = [i16; FRAME_SAMPLES];

/// A frame of digital silence.
pub const SILENCE: Frame = [0; FRAME_SAMPLES];

/// How long `samples` samples last at [`RATE`].
pub const fn duration(samples: u64) -> Duration {
    super::duration_at(RATE, samples)
}

/// How many samples at [`RATE`] last `duration`.
pub const fn samples_in(duration: Duration) -> u64 {
    super::samples_at(RATE, duration)
}

#[cfg(test)]
pub(crate) use testing::{share_of, sine};

#[cfg(test)]
mod testing {
    use crate::pcm::tone;

    /// [`tone::sine`] at this rate.
    pub(crate) fn sine(hz: f32, dbfs: f32, samples: usize) -> Vec<i16> {
        tone::sine_at(super::RATE, hz, dbfs, samples)
    }

    /// [`tone::share_of`] at this rate.
    pub(crate) fn share_of(hz: f32, samples: &[i16]) -> f32 {
        tone::share_at(super::RATE, hz, samples)
    }
}
