//! Raised-cosine ramps, so that nothing begins or stops with a step.

use crate::pcm::{FRAME_SAMPLES, Frame, RATE, SILENCE};
use crate::tts::shape::{CEILING, EDGE};

/// Length of the ramp where something stops or goes on at once, in samples: 5 ms.
pub(super) const FADE_SAMPLES: usize = RATE as usize / 200;
/// Length of the ramp behind a cut point, in samples: 8 ms.
pub(super) const CUT_FADE_SAMPLES: usize = RATE as usize / 125;

/// From 1 to 0 over `length` samples.
fn ramp(n: usize, length: usize) -> f32 {
    0.5 + 0.5 * (std::f32::consts::PI * (n + 1) as f32 / length as f32).cos()
}

/// Lets a frame begin without a step.
pub(super) fn fade_in(frame: &mut Frame) {
    for (n, sample) in frame.iter_mut().take(FADE_SAMPLES).enumerate() {
        *sample = (f32::from(*sample) * (1.0 - ramp(n, FADE_SAMPLES))) as i16;
    }
}

/// A frame that takes over from `last` without a step and is silent after the ramp: its end, mirrored.
pub(super) fn fade_out_after(last: &Frame) -> Frame {
    let mut frame = SILENCE;
    for (n, sample) in frame.iter_mut().take(FADE_SAMPLES).enumerate() {
        *sample = (f32::from(last[FRAME_SAMPLES - 1 - n]) * ramp(n, FADE_SAMPLES)) as i16;
    }
    frame
}

/// Whether it would be a step to silence before or behind this sample.
pub(super) fn is_loud(sample: i16) -> bool {
    sample.unsigned_abs() > EDGE
}

/// Has `last` die away under a frame that begins.
pub(super) fn mix_in_end_of(last: &Frame, frame: &mut Frame) {
    for (sample, dying) in frame.iter_mut().zip(fade_out_after(last)).take(FADE_SAMPLES) {
        *sample = sample.saturating_add(dying).clamp(-CEILING, CEILING);
    }
}

/// Fades the sound behind a cut that lies `to_cut` samples after the frame's first one, or before it when negative.
pub(super) fn fade_behind_cut(frame: &mut Frame, to_cut: isize) {
    for (n, sample) in frame.iter_mut().enumerate() {
        match usize::try_from(n as isize - to_cut) {
            Ok(behind) if behind < CUT_FADE_SAMPLES => {
                *sample = (f32::from(*sample) * ramp(behind, CUT_FADE_SAMPLES)) as i16
            }
            Ok(_) => *sample = 0,
            Err(_) => {}
        }
    }
}
