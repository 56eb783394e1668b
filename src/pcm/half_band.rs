//! Between 8 kHz and 16 kHz, one frame at a time: a half-band filter of 55 taps, flat to 3.4 kHz (−0.3 dB at 3.6), 67 dB down from 4.6 kHz on.
//!
//! Every other tap of such a filter is zero, and it delays by 27 samples at 16 kHz, 1.7 ms. For the media thread: nothing is allocated, and
//! what comes out does not depend on how the sound is cut into pieces. Other rates are for [`resample`](super::resample).

/// The taps on one side of the middle one that are not zero, from the middle outwards, for a passband of 2: a sinc in a Kaiser window, β = 6.
const TAPS: [f32; 14] = [
    0.634_303_1,
    -0.205_158_96,
    0.115_844_23,
    -0.075_454_83,
    0.051_776_707,
    -0.036_079_78,
    0.025_021_347,
    -0.017_026_875,
    0.011_228_358,
    -0.007_077_851_3,
    0.004_187_305,
    -0.002_257_415,
    0.001_045_397_4,
    -0.000_350_729_7,
];
const SIDE: usize = TAPS.len();
/// Samples before the newest one that the filter reaches.
const REACH: usize = 2 * SIDE - 1;
/// Samples at 8 kHz that are converted at a time.
const BLOCK: usize = 160;

/// The filter over a stretch of `2 * SIDE` samples.
fn filtered(around: &[f32]) -> f32 {
    let (before, behind) = around.split_at(SIDE);
    TAPS.iter().zip(before.iter().rev()).zip(behind).map(|((tap, before), behind)| tap * (before + behind)).sum()
}

fn sample(value: f32) -> i16 {
    value.round().clamp(-32768.0, 32767.0) as i16
}

/// Makes 16 kHz of 8 kHz.
#[derive(Debug, Clone)]
pub struct Doubler {
    past: [f32; REACH],
}

impl Default for Doubler {
    fn default() -> Self {
        Self { past: [0.0; REACH] }
    }
}

impl Doubler {
    /// Takes the next samples, and fills `wide`, which is twice as long; what is longer on either side is not looked at.
    pub fn double(&mut self, narrow: &[i16], wide: &mut [i16]) {
        for (narrow, wide) in narrow.chunks(BLOCK).zip(wide.chunks_mut(2 * BLOCK)) {
            let mut sound = [0.0; REACH + BLOCK];
            sound[..REACH].copy_from_slice(&self.past);
            for (to, &sample) in sound[REACH..].iter_mut().zip(narrow) {
                *to = f32::from(sample);
            }
            for (around, pair) in sound[..REACH + narrow.len()].windows(2 * SIDE).zip(wide.chunks_exact_mut(2)) {
                pair[0] = sample(filtered(around));
                pair[1] = sample(around[SIDE]);
            }
            self.past.copy_from_slice(&sound[narrow.len()..narrow.len() + REACH]);
        }
    }
}

/// Makes 8 kHz of 16 kHz.
#[derive(Debug, Clone)]
pub struct Halver {
    /// Of the samples that the filter's taps and its middle fall on.
    past: [[f32; REACH]; 2],
}

impl Default for Halver {
    fn default() -> Self {
        Self { past: [[0.0; REACH]; 2] }
    }
}

impl Halver {
    /// Takes the next samples, an even number, and fills `narrow`, which is half as long; what is longer on either side is not looked at.
    pub fn halve(&mut self, wide: &[i16], narrow: &mut [i16]) {
        for (wide, narrow) in wide.chunks(2 * BLOCK).zip(narrow.chunks_mut(BLOCK)) {
            let mut sounds = [[0.0; REACH + BLOCK]; 2];
            for (side, (sound, past)) in sounds.iter_mut().zip(&self.past).enumerate() {
                sound[..REACH].copy_from_slice(past);
                for (to, pair) in sound[REACH..].iter_mut().zip(wide.chunks_exact(2)) {
                    *to = f32::from(pair[side]);
                }
            }
            let [tapped, middle] = &sounds;
            for (n, to) in narrow.iter_mut().enumerate() {
                *to = sample((filtered(&tapped[n..n + 2 * SIDE]) + middle[n + SIDE - 1]) / 2.0);
            }
            let taken = wide.len() / 2;
            for (past, sound) in self.past.iter_mut().zip(&sounds) {
                past.copy_from_slice(&sound[taken..taken + REACH]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::{level, telephone, tone};

    fn doubled(narrow: &[i16]) -> Vec<i16> {
        let mut wide = vec![0; 2 * narrow.len()];
        Doubler::default().double(narrow, &mut wide);
        wide
    }

    fn halved(wide: &[i16]) -> Vec<i16> {
        let mut narrow = vec![0; wide.len() / 2];
        Halver::default().halve(wide, &mut narrow);
        narrow
    }

    #[test]
    fn the_telephone_band_passes_both_ways_and_nothing_else_appears() {
        for hz in [100.0, 300.0, 1000.0, 2400.0, 3400.0] {
            let wide = doubled(&telephone::sine(hz, -6.0, 8000));
            assert!(tone::share_of(hz, &wide[200..]) > 0.9999, "{hz} Hz doubled");
            assert!((level::rms_dbfs(&wide[200..]) + 9.03).abs() < 0.05, "{hz} Hz doubled");
            let narrow = halved(&tone::sine(hz, -6.0, 16_000));
            assert!(telephone::share_of(hz, &narrow[200..]) > 0.9999, "{hz} Hz halved");
            assert!((level::rms_dbfs(&narrow[200..]) + 9.03).abs() < 0.05, "{hz} Hz halved");
        }
        for hz in [4600.0, 5000.0, 6500.0, 7900.0] {
            let narrow = halved(&tone::sine(hz, -6.0, 16_000));
            assert!(level::rms_dbfs(&narrow[200..]) < -64.0, "{hz} Hz: {}", level::rms_dbfs(&narrow[200..]));
        }
    }

    #[test]
    fn there_and_back_is_the_same_sound_27_samples_later() {
        let sound: Vec<i16> = telephone::sine(440.0, -6.0, 4000)
            .iter()
            .zip(telephone::sine(2900.0, -6.0, 4000))
            .map(|(a, b)| a / 2 + b / 2)
            .collect();
        let back = halved(&doubled(&sound));
        let off = sound.iter().zip(&back[REACH..]).skip(100).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off < 20, "{off}");
    }

    #[test]
    fn pieces_make_no_difference() {
        let sound = telephone::sine(700.0, -6.0, 1000);
        let whole = doubled(&sound);
        let (mut doubler, mut halver) = (Doubler::default(), Halver::default());
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        for piece in sound.chunks(37) {
            let mut out = vec![0; 2 * piece.len()];
            doubler.double(piece, &mut out);
            wide.extend(out);
        }
        assert_eq!(wide, whole);
        for piece in whole.chunks(46) {
            let mut out = vec![0; piece.len() / 2];
            halver.halve(piece, &mut out);
            narrow.extend(out);
        }
        assert_eq!(narrow, halved(&whole));
    }

    #[test]
    fn the_loudest_sound_is_clipped_and_does_not_wrap() {
        let square: Vec<i16> = (0..400).map(|n| if n / 4 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let wide = doubled(&square);
        assert!(wide.contains(&i16::MAX) && wide.contains(&i16::MIN));
        assert!(wide[100..].windows(2).all(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs() < 60_000));
    }
}
