//! Keys heard as tones in the sound (ITU-T Q.23), for a line without telephone events.
//!
//! A bank of eight Goertzel filters over windows of 12.5 ms, four a frame. A key is one frequency of each group, both well above the rest of
//! their group, not too far apart in level, for 32 ms: then a tone of 40 ms (Q.24) is found wherever it begins. The whole of these 32 ms is
//! long enough to tell the two frequencies from others beside them: a voice of which two harmonics happen to be those of a key has the rest
//! of its harmonics too, and moves. Not implemented: tones beside speech that is as loud.

use std::time::Duration;

use super::telephone::{FRAME_SAMPLES, Frame, RATE, duration};
use super::tone::{KEY_COLUMNS, KEY_ROWS, KEYPAD};

/// 5 ms.
const HOP: usize = RATE as usize / 200;
/// 12.5 ms.
const WINDOW: usize = RATE as usize / 80;
/// Windows in a row that make a key.
const HITS: u32 = 5;
/// All of them together: 32.5 ms.
const SPAN: usize = WINDOW + (HITS as usize - 1) * HOP;
/// …and that are missed when it is released: Q.24 has a pause of 40 ms between two keys, and lines break a tone for 10 ms.
const MISSES: u32 = 4;
/// Softer than −42 dBFS nothing is a tone: mean square.
const SOFTEST: f32 = 68_000.0;
/// Share of the window's power that both tones have together, down to which they may be 1.5 % off their frequency.
const PURE: f32 = 0.72;
/// …and of the span's, at the frequencies that they have: 11 dB above everything else. Keys reach 0.97 and more, of the voices of
/// `tests/key_talk_off.rs` none more than 0.89.
const PURE_SPAN: f32 = 0.93;
/// A component may be off its frequency by such a share, as its phase tells from window to window: Q.24 takes 1.5 % and refuses 3.5 %.
const OFF: f32 = 0.025;
/// From window to window the level of a component changes by less than this, as a power: 5 dB.
const CHANGE: f32 = 3.0;
/// The others of a group are so much weaker, as a power: 7 dB.
const WEAKER: f32 = 0.2;
/// The column may be so much louder than the row, and so much softer, as powers: 8.5 dB and 10 dB (Q.24 has 4 and 8 at least).
const LOUDER_COLUMN: f32 = 7.1;
const SOFTER_COLUMN: f32 = 0.1;

/// Hears keys in the sound, frame by frame. Allocates nothing.
#[derive(Debug, Clone)]
pub struct KeyTones {
    /// The end of the sound so far, for windows that reach into the next frame.
    before: [i16; BEFORE],
    /// Of the span (Hann), so that what is beside a frequency does not leak into it.
    weights: [f32; SPAN],
    coefficients: [f32; 8],
    /// The key of the last windows, how many there were, and how many were missed since.
    candidate: Option<(usize, u32)>,
    /// Both components of it in the last window, and by how many hertz they were off their frequencies there.
    components: [Component; 2],
    off_hz: [f32; 2],
    misses: u32,
}

const BEFORE: usize = SPAN - HOP;

impl Default for KeyTones {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTones {
    /// An ear that has heard nothing.
    pub fn new() -> Self {
        let groups = [KEY_ROWS, KEY_COLUMNS];
        Self {
            before: [0; BEFORE],
            weights: std::array::from_fn(|n| {
                0.5 - 0.5 * (std::f32::consts::TAU * (n as f32 + 0.5) / SPAN as f32).cos()
            }),
            coefficients: std::array::from_fn(|n| {
                2.0 * (std::f32::consts::TAU * groups[n / 4][n % 4] / RATE as f32).cos()
            }),
            candidate: None,
            components: [Component::default(); 2],
            off_hz: [0.0; 2],
            misses: 0,
        }
    }

    /// Takes the next frame; gives the key that was released in it, and how long it was held.
    pub fn hear(&mut self, frame: &Frame) -> Option<(char, Duration)> {
        let mut sound = [0; BEFORE + FRAME_SAMPLES];
        sound[..BEFORE].copy_from_slice(&self.before);
        sound[BEFORE..].copy_from_slice(frame);
        self.before.copy_from_slice(&sound[FRAME_SAMPLES..]);
        let mut released = None;
        for span in sound.windows(SPAN).step_by(HOP) {
            // No two keys fit into a frame.
            released = self.window(span).or(released);
        }
        released
    }

    /// Whether a key is being held: what is heard is its tone, and not the caller's voice.
    pub fn is_held(&self) -> bool {
        self.candidate.is_some_and(|(_, hits)| hits >= HITS)
    }

    /// Takes the next window, which is the end of `span`.
    fn window(&mut self, span: &[i16]) -> Option<(char, Duration)> {
        let key = self.key(&span[SPAN - WINDOW..]).map(|(key, components)| {
            let before = std::mem::replace(&mut self.components, components);
            let goes_on = self.candidate.is_some_and(|(held, _)| held == key) && self.misses == 0;
            self.off_hz = off_hz(key, before, components);
            (key, !goes_on || is_steady(key, self.off_hz, before, components))
        });
        // A tone that has only begun to sound has not yet its level; one that was steady for long enough is not steady when it ends.
        let restarts = self.candidate.is_none_or(|(_, hits)| hits < HITS);
        if let Some((key, false)) = key
            && restarts
        {
            self.begin(Some(key));
            return None;
        }
        let key = key.and_then(|(key, steady)| steady.then_some(key));
        match (self.candidate, key) {
            (Some((held, hits)), Some(key)) if held == key => {
                let hits_now = hits.saturating_add(1 + self.misses);
                // What is not pure yet may be within a tone's beginning.
                if hits >= HITS || hits_now < HITS || self.is_pure(key, span) {
                    self.candidate = Some((held, hits_now));
                }
                self.misses = 0;
                None
            }
            (Some((_, hits)), Some(key)) if hits < HITS => {
                self.begin(Some(key));
                None
            }
            (Some((held, hits)), other) => {
                self.misses += 1;
                let patience = if hits < HITS { 0 } else { MISSES };
                if self.misses < patience {
                    return None;
                }
                self.begin(other);
                (hits >= HITS).then(|| {
                    let samples = (hits - 1) as u64 * HOP as u64 + WINDOW as u64;
                    (char::from(KEYPAD[held]), duration(samples))
                })
            }
            (None, key) => {
                self.begin(key);
                None
            }
        }
    }

    /// Whether there is next to nothing in a span but the two components of a key, as far off their frequencies as they were in the last window.
    fn is_pure(&self, key: usize, span: &[i16]) -> bool {
        let weighted = || span.iter().zip(&self.weights).map(|(&sample, weight)| f32::from(sample) * weight);
        let total: f32 = weighted().map(|sample| sample * sample).sum();
        let components = [KEY_ROWS[key / 4], KEY_COLUMNS[key % 4]].into_iter().zip(self.off_hz).map(|(hz, off)| {
            let coefficient = 2.0 * (std::f32::consts::TAU * (hz + off) / RATE as f32).cos();
            let (mut s1, mut s2) = (0.0, 0.0);
            for sample in weighted() {
                (s1, s2) = (sample + coefficient * s1 - s2, s1);
            }
            s1 * s1 + s2 * s2 - coefficient * s1 * s2
        });
        // Of a sine; the squared sum of a Hann window is the sum of its squares times 2/3 of its length.
        components.sum::<f32>() * 3.0 >= PURE_SPAN * total * SPAN as f32
    }

    fn begin(&mut self, key: Option<usize>) {
        self.candidate = key.map(|key| (key, 1));
        self.misses = 0;
    }

    /// The key whose tone fills a window, as its place on the keypad, and its components.
    fn key(&self, window: &[i16]) -> Option<(usize, [Component; 2])> {
        let total: f32 = window.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum();
        if total < SOFTEST * WINDOW as f32 {
            return None;
        }
        let (mut powers, mut phases) = ([0.0; 8], [0.0; 8]);
        for ((power, phase), coefficient) in powers.iter_mut().zip(&mut phases).zip(self.coefficients) {
            let (mut s1, mut s2) = (0.0, 0.0);
            for &sample in window {
                let s0 = f32::from(sample) + coefficient * s1 - s2;
                s2 = s1;
                s1 = s0;
            }
            let cosine = coefficient / 2.0;
            *phase = (s2 * (1.0 - cosine * cosine).sqrt()).atan2(s1 - s2 * cosine);
            // As a share of the window's power.
            *power = (s1 * s1 + s2 * s2 - coefficient * s1 * s2) * 2.0 / (WINDOW as f32 * total);
        }
        let strongest = |group: &[f32]| {
            let (place, &power) = group.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
            let alone = group.iter().enumerate().all(|(other, &weak)| other == place || weak < power * WEAKER);
            alone.then_some((place, power))
        };
        let (row, low) = strongest(&powers[..4])?;
        let (column, high) = strongest(&powers[4..])?;
        let balanced = high < low * LOUDER_COLUMN && high > low * SOFTER_COLUMN;
        (balanced && low + high >= PURE).then(|| {
            let component = |n: usize| Component { phase: phases[n], power: powers[n] * total };
            (row * 4 + column, [component(row), component(4 + column)])
        })
    }
}

/// One of the two frequencies in a window.
#[derive(Debug, Clone, Copy, Default)]
struct Component {
    phase: f32,
    power: f32,
}

/// By how many hertz the components of a key are off its frequencies, by their phases a hop apart.
fn off_hz(key: usize, before: [Component; 2], components: [Component; 2]) -> [f32; 2] {
    let hz = [KEY_ROWS[key / 4], KEY_COLUMNS[key % 4]];
    std::array::from_fn(|n| {
        let turned = (components[n].phase - before[n].phase) / std::f32::consts::TAU;
        let turns = turned - hz[n] * HOP as f32 / RATE as f32;
        (turns - turns.round()) * RATE as f32 / HOP as f32
    })
}

/// Whether both components of a key are near their frequencies, and keep their level.
fn is_steady(key: usize, off_hz: [f32; 2], before: [Component; 2], components: [Component; 2]) -> bool {
    let hz = [KEY_ROWS[key / 4], KEY_COLUMNS[key % 4]];
    (0..2).all(|n| {
        let change = components[n].power / before[n].power.max(1.0);
        off_hz[n].abs() <= hz[n] * OFF && change < CHANGE && change > 1.0 / CHANGE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    fn ms(ms: u64) -> usize {
        crate::pcm::telephone::samples_in(Duration::from_millis(ms)) as usize
    }

    /// A key's tone with frequencies that are off by a share, components at levels in dBFS (peak), in seeded noise.
    fn pressed(key: char, off: f32, low: f32, high: f32, samples: usize) -> Vec<i16> {
        let [row, column] = tone::key_hz(key).unwrap().map(|hz| hz * (1.0 + off));
        let low = tone::sine_at(RATE, row, low, samples);
        let high = tone::sine_at(RATE, column, high, samples);
        low.iter().zip(high).map(|(&low, high)| low.saturating_add(high)).collect()
    }

    fn heard(sound: &[i16]) -> Vec<(char, u128)> {
        let mut tones = KeyTones::new();
        let mut random = fastrand::Rng::with_seed(4733);
        let mut sound: Vec<i16> = sound.iter().map(|&sample| sample.saturating_add(random.i16(-20..=20))).collect();
        sound.resize((sound.len() + 4 * FRAME_SAMPLES).next_multiple_of(FRAME_SAMPLES), 0);
        let frames = sound.as_chunks().0;
        frames.iter().filter_map(|frame| tones.hear(frame)).map(|(key, held)| (key, held.as_millis())).collect()
    }

    #[test]
    fn every_key_of_40_ms_is_heard_once_wherever_it_begins() {
        for key in "0123456789*#ABCD".chars() {
            for lead in (0..FRAME_SAMPLES).step_by(FRAME_SAMPLES / 12) {
                let sound = [vec![0; lead], pressed(key, 0.0, -13.0, -11.0, ms(40))].concat();
                let keys = heard(&sound);
                assert!(matches!(keys[..], [(heard, 30..=52)] if heard == key), "{key} {lead}: {keys:?}");
            }
        }
    }

    #[test]
    fn keys_are_told_apart_by_a_pause_of_40_ms_and_held_through_a_break_of_10_ms() {
        let five = || pressed('5', 0.0, -13.0, -11.0, ms(50));
        let twice = [five(), vec![0; ms(40)], five()].concat();
        assert_eq!(heard(&twice).iter().map(|(key, _)| *key).collect::<String>(), "55");
        let broken = [five(), vec![0; ms(10)], five()].concat();
        let keys = heard(&broken);
        assert!(matches!(keys[..], [('5', 95..=125)]), "{keys:?}");
        let number = "17#".chars().flat_map(|key| [pressed(key, 0.0, -13.0, -11.0, ms(50)), vec![0; ms(50)]].concat());
        assert_eq!(heard(&number.collect::<Vec<_>>()).iter().map(|(key, _)| *key).collect::<String>(), "17#");
    }

    #[test]
    fn a_key_may_be_off_by_one_and_a_half_percent_and_twisted_as_lines_do_it_and_soft() {
        for key in "159D*#".chars() {
            for off in [-0.015, 0.0, 0.015] {
                for (low, high) in [(-15.5, -9.5), (-9.0, -17.0), (-33.0, -31.0)] {
                    let keys = heard(&pressed(key, off, low, high, ms(60)));
                    assert!(matches!(keys[..], [(heard, _)] if heard == key), "{key} {off} {low} {high}: {keys:?}");
                }
            }
        }
    }

    #[test]
    fn a_key_is_heard_in_noise_15_db_below_it() {
        // Two sines with peaks at −13 dBFS are −13 dBFS in all; the square root of three is between a uniform noise's peak and its level.
        let peak = (32_767.0 * 10f32.powf((-13.0 - 15.0) / 20.0) * 3f32.sqrt()) as i16;
        let mut random = fastrand::Rng::with_seed(15);
        for key in "0123456789*#ABCD".chars() {
            let tone = pressed(key, 0.0, -13.0, -13.0, ms(60));
            let noisy: Vec<i16> = tone.iter().map(|sample| sample + random.i16(-peak..=peak)).collect();
            let keys = heard(&noisy);
            assert!(matches!(keys[..], [(heard, _)] if heard == key), "{key}: {keys:?}");
        }
    }

    #[test]
    fn two_harmonics_of_a_voice_are_no_key() {
        // A fundamental of 171 Hz has the fifth at 855 and the seventh at 1197 Hz: the key 7, but for its other harmonics.
        for rest_dbfs in [-30.0, -24.0, -18.0] {
            let harmonics = (1..=12).map(|n| {
                let level = if n == 5 || n == 7 { -13.0 } else { rest_dbfs - n as f32 };
                tone::sine_at(RATE, 171.0 * n as f32, level, ms(200))
            });
            let voice = harmonics.reduce(|all, one| all.iter().zip(one).map(|(&a, b)| a.saturating_add(b)).collect());
            let keys = heard(&voice.unwrap());
            assert_eq!(keys.is_empty(), rest_dbfs > -29.0, "{rest_dbfs}: {keys:?}");
        }
    }

    #[test]
    fn what_is_too_short_too_far_off_or_one_sided_is_no_key() {
        assert_eq!(heard(&pressed('5', 0.0, -13.0, -11.0, ms(20))), [], "20 ms");
        for off in [-0.06, -0.035, 0.035, 0.06] {
            assert_eq!(heard(&pressed('5', off, -13.0, -11.0, ms(100))), [], "another frequency");
        }
        assert_eq!(heard(&pressed('5', 0.0, -13.0, -40.0, ms(100))), [], "one component");
        assert_eq!(heard(&tone::sine_at(RATE, 425.0, -10.0, ms(1000))), [], "a dial tone");
        assert_eq!(heard(&tone::sine_at(RATE, 1100.0, -10.0, ms(1000))), [], "a fax machine");
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(heard(&(0..ms(10_000)).map(|_| random.i16(-9000..9000)).collect::<Vec<_>>()), [], "noise");
    }

    #[test]
    fn a_held_key_is_known_while_it_sounds() {
        let mut tones = KeyTones::new();
        let sound = pressed('#', 0.0, -13.0, -11.0, FRAME_SAMPLES * 10);
        let held: Vec<bool> = sound
            .as_chunks()
            .0
            .iter()
            .chain(&[[0; FRAME_SAMPLES]; 3])
            .map(|frame| {
                tones.hear(frame);
                tones.is_held()
            })
            .collect();
        assert_eq!(held[..10], [[false; 1].as_slice(), &[true; 9]].concat());
        assert!(!held[11]);
    }
}
