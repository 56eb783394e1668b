//! Sine tones: markers by which a test can ask who is heard, the ringing tone of early media, and the tones of keys (ITU-T Q.23).

use std::time::Duration;

use super::{FRAME_SAMPLES, Frame, PTIME, RATE, SILENCE};

/// Level of each component of a ringing tone, as a share of full scale: −23 dBFS.
const RINGBACK_AMPLITUDE: f32 = 0.07 * 32767.0;

/// The ringing tone of a country (ITU-T E.180 supplement 2), frame by frame; a value that makes its frames without allocating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ringback {
    /// Its components in hertz; 0 is none.
    hz: [f32; 2],
    /// Frames of sound, of silence, and so on; they repeat.
    cadence: [u16; 4],
    frame: u16,
}

impl Ringback {
    /// No tone at all.
    pub const SILENT: Self = Self { hz: [0.0; 2], cadence: [0, 50, 0, 0], frame: 0 };

    /// The tone of a country by its ISO 3166 code; of most of Europe (425 Hz, 1 s in 5) for one that is not known here.
    pub fn of_country(code: Option<&str>) -> Self {
        let (hz, cadence_ms) = match code.unwrap_or_default() {
            "US" | "CA" => ([440.0, 480.0], [2000, 4000, 0, 0]),
            "GB" | "IE" | "AU" | "NZ" => ([400.0, 450.0], [400, 200, 400, 2000]),
            "IL" => ([400.0, 0.0], [1000, 3000, 0, 0]),
            "FR" => ([440.0, 0.0], [1500, 3500, 0, 0]),
            "RU" | "UA" => ([425.0, 0.0], [800, 3200, 0, 0]),
            _ => ([425.0, 0.0], [1000, 4000, 0, 0]),
        };
        Self {
            hz,
            cadence: cadence_ms.map(|ms: u64| (Duration::from_millis(ms).as_millis() / PTIME.as_millis()) as u16),
            frame: 0,
        }
    }

    /// The next frame, and whether it is other than silence.
    pub fn frame(&mut self) -> (Frame, bool) {
        let period: u16 = self.cadence.iter().sum();
        let at = self.frame;
        self.frame = (at + 1) % period.max(1);
        let [first, pause, second, _] = self.cadence;
        let sounds = at < first || (first + pause..first + pause + second).contains(&at);
        if !sounds {
            return (SILENCE, false);
        }
        let begin = usize::from(at) * FRAME_SAMPLES;
        let frame = std::array::from_fn(|n| {
            let turns = (begin + n) as f32 / RATE as f32;
            let components =
                self.hz.iter().filter(|hz| **hz > 0.0).map(|hz| (std::f32::consts::TAU * (hz * turns).fract()).sin());
            (RINGBACK_AMPLITUDE * components.sum::<f32>()) as i16
        });
        (frame, true)
    }
}

/// Peak of the lower and the upper component of a key's tone, as shares of full scale: −10 and −8 dBm0, of which 3.14 are full scale. The
/// upper one is louder, since lines dampen it more.
const KEY_AMPLITUDES: [f32; 2] = [0.22 * 32767.0, 0.277 * 32767.0];
/// Rows and columns of the keypad in hertz (ITU-T Q.23).
pub(super) const KEY_ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
pub(super) const KEY_COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
pub(super) const KEYPAD: &[u8; 16] = b"123A456B789C*0#D";

/// The two components of a key's tone in hertz: of `0`–`9`, `*`, `#`, `A`–`D`.
pub fn key_hz(key: char) -> Option<[f32; 2]> {
    let place = KEYPAD.iter().position(|&known| char::from(known) == key)?;
    Some([KEY_ROWS[place / 4], KEY_COLUMNS[place % 4]])
}

/// The frame of a key's tone that begins `first` samples after the tone did, and ends with it after `samples`. Allocates nothing.
pub fn key_frame(key: char, first: usize, samples: usize) -> Frame {
    let Some(hz) = key_hz(key) else { return SILENCE };
    std::array::from_fn(|n| {
        if first + n >= samples {
            return 0;
        }
        let turns = (first + n) as f32 / RATE as f32;
        let components = hz.iter().zip(KEY_AMPLITUDES);
        components.map(|(hz, amplitude)| amplitude * (std::f32::consts::TAU * (hz * turns).fract()).sin()).sum::<f32>()
            as i16
    })
}

/// `samples` samples of a sine of `hz` at `dbfs` peak level, starting at phase 0.
pub fn sine(hz: f32, dbfs: f32, samples: usize) -> Vec<i16> {
    sine_at(RATE, hz, dbfs, samples)
}

/// The same at another rate.
pub fn sine_at(rate: u32, hz: f32, dbfs: f32, samples: usize) -> Vec<i16> {
    let amplitude = 32767.0 * 10f32.powf(dbfs / 20.0);
    let step = std::f32::consts::TAU * hz / rate as f32;
    (0..samples).map(|n| (amplitude * (step * n as f32).sin()) as i16).collect()
}

/// Power of `hz` in `samples` relative to their whole power, 0 to 1 (Goertzel).
pub fn share_of(hz: f32, samples: &[i16]) -> f32 {
    share_at(RATE, hz, samples)
}

/// The same at another rate.
pub fn share_at(rate: u32, hz: f32, samples: &[i16]) -> f32 {
    let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / f64::from(rate)).cos();
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
    fn a_ringing_tone_has_the_pitch_and_the_cadence_of_its_country() {
        for (country, hz, on, off) in
            [(None, 425.0, 50, 200), (Some("IL"), 400.0, 50, 150), (Some("RU"), 425.0, 40, 160)]
        {
            let mut ringback = Ringback::of_country(country);
            let frames: Vec<_> = (0..2 * (on + off)).map(|_| ringback.frame()).collect();
            for (n, (frame, sounding)) in frames.iter().enumerate() {
                assert_eq!(*sounding, n % (on + off) < on, "{country:?} frame {n}");
                assert!(!sounding || share_of(hz, frame) > 0.9, "{country:?} frame {n}");
                assert!(*sounding || *frame == SILENCE);
            }
        }
        let mut british = Ringback::of_country(Some("GB"));
        let sounding = (0..150).map(|_| british.frame().1).collect::<Vec<_>>();
        assert_eq!(
            [0, 19, 20, 29, 30, 49, 50, 149].map(|n| sounding[n]),
            [true, true, false, false, true, true, false, false]
        );
        assert!((0..300).all(|_| Ringback::SILENT.clone().frame() == (SILENCE, false)));
    }

    #[test]
    fn a_key_sounds_in_its_row_and_its_column_and_in_no_other() {
        for key in "0123456789*#ABCD".chars() {
            let sound: Vec<i16> = (0..5).flat_map(|n| key_frame(key, n * FRAME_SAMPLES, 750)).collect();
            let [row, column] = key_hz(key).unwrap();
            // Of the power 39 % is in the lower and 61 % in the upper component.
            let shares = |all: &[f32; 4]| all.map(|hz| share_of(hz, &sound[..750]));
            for (hz, share) in KEY_ROWS.iter().zip(shares(&KEY_ROWS)) {
                assert!(if *hz == row { (0.36..0.42).contains(&share) } else { share < 0.05 }, "{key} {hz}: {share}");
            }
            for (hz, share) in KEY_COLUMNS.iter().zip(shares(&KEY_COLUMNS)) {
                assert!(
                    if *hz == column { (0.58..0.64).contains(&share) } else { share < 0.05 },
                    "{key} {hz}: {share}"
                );
            }
            assert!(sound[750..].iter().all(|&sample| sample == 0), "{key}");
        }
        let some = ['1', '6', '*', '0', 'D'].map(|key| key_hz(key).unwrap());
        assert_eq!(some, [[697.0, 1209.0], [770.0, 1477.0], [941.0, 1209.0], [941.0, 1336.0], [941.0, 1633.0]]);
        assert_eq!((key_hz('x'), key_frame('x', 0, 800)), (None, SILENCE));
    }

    #[test]
    fn a_tone_is_found_and_another_is_not() {
        let tone = sine(700.0, -10.0, 1600);
        assert!(share_of(700.0, &tone) > 0.99);
        assert!(share_of(1100.0, &tone) < 0.01);
        assert_eq!(share_of(700.0, &[0; 160]), 0.0);
    }
}
