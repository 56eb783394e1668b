//! Keeps the delay between a card and the media thread where it is to be, although both have clocks of their own: a slow PI loop over the
//! delay, whose output is the ratio of the resampler.
//!
//! A sans-IO machine. Slow, since the pitch follows the ratio: 1 ms too much is worth 240 ppm, forgotten within some 10 s. What no pitch
//! can make good, a stop of one of the sides, is a jump.

use std::time::{Duration, Instant};

/// Per second: the loop is critically damped at 0.12 rad/s.
const PROPORTIONAL: f64 = 0.24;
const INTEGRAL: f64 = 0.0144;
/// Memory of the mean over the callbacks, whose times jitter, in seconds.
const SMOOTHED_OVER: f64 = 1.0;
/// The most that a ratio is off 1: a third of a semitone. Crystals are off by a hundredth of that; a sound server on a busy machine is not.
const MOST: f64 = 0.020;
/// The most that is taken for the difference of the clocks.
const MOST_DRIFT: f64 = 0.015;
/// A mean that is off by more than this, in seconds, is not waited for.
const JUMP: f64 = 0.040;
/// After so long without an observation nothing is known of the delay any more.
const GAP: Duration = Duration::from_millis(300);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Regulation {
    /// Convert by this ratio of what comes out to what nominally would.
    Ratio(f64),
    /// The delay is too long by so many seconds, or too short where negative: change it at once.
    Jump(f64),
}

/// The loop of one direction.
#[derive(Debug, Clone)]
pub struct Regulator {
    target: f64,
    mean: Option<f64>,
    drift: f64,
    last: Option<Instant>,
}

impl Regulator {
    /// For a delay of `target` seconds.
    pub fn new(target: f64) -> Self {
        Self { target, mean: None, drift: 0.0, last: None }
    }

    /// What the delay is to be from now on, in seconds.
    pub fn set_target(&mut self, target: f64) {
        self.target = target;
    }

    /// What the delay is to be, in seconds.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// The mean delay, in seconds.
    pub fn mean(&self) -> Option<f64> {
        self.mean
    }

    /// The delay was so many seconds at `now`.
    pub fn observe(&mut self, now: Instant, delay: f64) -> Regulation {
        let passed = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        let (Some(mean), Some(passed)) = (self.mean, passed.filter(|passed| *passed < GAP)) else {
            self.mean = Some(self.target);
            return Regulation::Jump(delay - self.target);
        };
        let passed = passed.as_secs_f64();
        let mean = mean + (delay - mean) * (passed / (passed + SMOOTHED_OVER));
        let error = mean - self.target;
        let present = delay - self.target;
        // One late callback is no stop, and neither is what has just ended.
        if error.abs() > JUMP && present * error.signum() > JUMP / 2.0 {
            self.mean = Some(self.target);
            return Regulation::Jump(present);
        }
        self.mean = Some(mean);
        self.drift = (self.drift - INTEGRAL * error * passed).clamp(-MOST_DRIFT, MOST_DRIFT);
        // A larger ratio fills a ring faster, and empties one more slowly.
        Regulation::Ratio(1.0 + (self.drift - PROPORTIONAL * error).clamp(-MOST, MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e-3;

    /// A ring that a card fills every 10 ms with a clock that is off by `ppm`; gives how far the delay strays, and the last ratio.
    fn run(ppm: f64, seconds: u32, jitter: impl Fn(u32) -> f64) -> (f64, f64) {
        let (mut regulator, start) = (Regulator::new(14.0 * MS), Instant::now());
        let (mut delay, mut ratio, mut strayed) = (14.0 * MS, 1.0, 0f64);
        for n in 0..seconds * 100 {
            delay += 0.01 * ((1.0 + ppm * 1e-6) * ratio - 1.0);
            match regulator.observe(start + Duration::from_millis(10) * n, delay + jitter(n)) {
                Regulation::Ratio(next) => ratio = next,
                Regulation::Jump(by) => delay -= by,
            }
            strayed = strayed.max((delay - 14.0 * MS).abs());
        }
        (strayed, ratio)
    }

    #[test]
    fn a_clock_that_is_off_is_followed_and_the_delay_stays() {
        for ppm in [-500.0, -100.0, 0.0, 100.0, 500.0] {
            let (strayed, ratio) = run(ppm, 120, |_| 0.0);
            assert!(strayed < ppm.abs() * 4e-6 + 1e-6, "{ppm}: {strayed}");
            assert!((ratio - (1.0 - ppm * 1e-6)).abs() < 2e-6, "{ppm}: {ratio}");
        }
    }

    #[test]
    fn callbacks_that_come_unevenly_hardly_move_the_pitch() {
        let (strayed, ratio) = run(100.0, 60, |n| f64::from(n.wrapping_mul(2_654_435_761) % 4001) * 1e-6 - 2.0 * MS);
        assert!(strayed < 2.5 * MS && (ratio - 0.9999).abs() < 100e-6, "{strayed} {ratio}");
    }

    #[test]
    fn a_stop_is_made_good_at_once_and_the_beginning_is_a_jump_too() {
        let (mut regulator, start) = (Regulator::new(20.0 * MS), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let micros = |regulation| match regulation {
            Regulation::Jump(by) => Some((by * 1e6).round()),
            Regulation::Ratio(_) => None,
        };
        assert_eq!(micros(regulator.observe(at(0), 5.0 * MS)), Some(-15_000.0));
        assert_eq!(regulator.observe(at(10), 20.0 * MS), Regulation::Ratio(1.0));
        assert_eq!(micros(regulator.observe(at(400), 90.0 * MS)), Some(70_000.0));
        let jump = (41..300).find_map(|n| match regulator.observe(at(n * 10), 90.0 * MS) {
            Regulation::Jump(by) => Some((n, by)),
            Regulation::Ratio(ratio) => {
                assert!((ratio - 1.0).abs() <= MOST + 1e-9);
                None
            }
        });
        assert!(jump.is_some_and(|(n, by)| n < 150 && (by - 70.0 * MS).abs() < 1e-9), "{jump:?}");
    }
}
