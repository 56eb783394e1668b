//! Sine tones: markers by which a test can ask who is heard.

use super::RATE;

/// `samples` samples of a sine of `hz` at `dbfs` peak level, starting at phase 0.
pub fn sine(hz: f32, dbfs: f32, samples: usize) -> Vec<i16> {
    let amplitude = 32767.0 * 10f32.powf(dbfs / 20.0);
    let step = std::f32::consts::TAU * hz / RATE as f32;
    (0..samples).map(|n| (amplitude * (step * n as f32).sin()) as i16).collect()
}

/// Power of `hz` in `samples` relative to their whole power, 0 to 1 (Goertzel).
pub fn share_of(hz: f32, samples: &[i16]) -> f32 {
    let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / f64::from(RATE)).cos();
    let (mut s1, mut s2, mut total) = (0.0f64, 0.0f64, 0.0f64);
    for &sample in samples {
        let x = f64::from(sample);
        let s0 = x + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
        total += x * x;
    }
    if total == 0.0 {
        return 0.0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    (power / (total * samples.len() as f64 / 2.0)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_and_another_is_not() {
        let tone = sine(700.0, -10.0, 1600);
        assert!(share_of(700.0, &tone) > 0.99);
        assert!(share_of(1100.0, &tone) < 0.01);
        assert_eq!(share_of(700.0, &[0; 160]), 0.0);
    }
}
