//! Level of a stretch of sound, in dB relative to full scale.

/// Below this RMS a frame counts as silent to whoever listens on the far side, in dBFS.
pub const VOICED_DBFS: f32 = -45.0;

/// Root mean square of `samples` in dBFS (a full-scale square wave is 0 dB); silence is −120.
pub fn rms_dbfs(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return -120.0;
    }
    let power = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / samples.len() as f64;
    if power < 1.0 { -120.0 } else { (10.0 * (power / (32768.0 * 32768.0)).log10()) as f32 }
}

/// Largest absolute sample in dBFS; silence is −120.
pub fn peak_dbfs(samples: &[i16]) -> f32 {
    match samples.iter().map(|s| s.unsigned_abs()).max() {
        None | Some(0) => -120.0,
        Some(peak) => 20.0 * (f32::from(peak) / 32768.0).log10(),
    }
}

/// Multiplies by a gain in dB, saturating.
pub fn apply_gain(samples: &mut [i16], gain_db: f32) {
    let factor = 10f32.powf(gain_db / 20.0);
    for sample in samples {
        *sample = (f32::from(*sample) * factor).round().clamp(-32768.0, 32767.0) as i16;
    }
}

/// RMS over the voiced 20 ms pieces only, so that pauses do not lower the figure; `None` when all is silent.
pub fn active_dbfs(samples: &[i16]) -> Option<f32> {
    active_dbfs_at(super::RATE, samples)
}

/// The same at another rate.
pub fn active_dbfs_at(rate: u32, samples: &[i16]) -> Option<f32> {
    let mut power = 0.0;
    let mut count = 0usize;
    for piece in samples.chunks((rate as usize / 50).max(1)).filter(|piece| rms_dbfs(piece) > VOICED_DBFS) {
        power += piece.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>();
        count += piece.len();
    }
    (count > 0).then(|| (10.0 * (power / count as f64 / (32768.0 * 32768.0)).log10()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_scale_square_wave_is_zero_db_and_half_is_six_less() {
        assert!(rms_dbfs(&[-32768; 160]).abs() < 0.01);
        assert!((rms_dbfs(&[16384; 160]) + 6.02).abs() < 0.01);
        assert_eq!(rms_dbfs(&[0; 160]), -120.0);
        assert!((peak_dbfs(&[0, -16384, 3]) + 6.02).abs() < 0.01);
    }

    #[test]
    fn pauses_do_not_lower_the_active_level() {
        let mut speech = vec![8000i16; 1600];
        let alone = active_dbfs(&speech).unwrap();
        speech.extend([0; 16000]);
        assert!((active_dbfs(&speech).unwrap() - alone).abs() < 0.01);
        assert_eq!(active_dbfs(&[0; 1600]), None);
    }

    #[test]
    fn gain_saturates() {
        let mut samples = [20000, -20000, 100];
        apply_gain(&mut samples, 6.0206);
        assert_eq!(samples, [32767, -32768, 200]);
    }
}
