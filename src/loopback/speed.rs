//! Whether a card moves sound as fast as time passes. ALSA's `null` and `file` do not: they take a thousand times as much as they should, a
//! whole processor, and in the latter's case the disk.

use std::time::{Duration, Instant};

use super::card::Fault;

/// Faster than this is no clock.
const FASTEST: f64 = 1.5;
/// Slower neither.
const SLOWEST: f64 = 0.5;
/// A card may take so much at once, to fill its buffer.
const BURST: Duration = Duration::from_millis(500);
/// It is looked at for so long; slowness is believed only then.
const WINDOW: Duration = Duration::from_secs(5);

/// Counts a card's frames against time.
#[derive(Debug, Clone)]
pub struct SpeedGuard {
    rate: f64,
    began: Option<Instant>,
    frames: u64,
}

impl SpeedGuard {
    /// Of a card with so many frames a second.
    pub fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), began: None, frames: 0 }
    }

    /// So many frames were moved at `now`.
    pub fn count(&mut self, now: Instant, frames: usize) -> Option<Fault> {
        let began = *self.began.get_or_insert(now);
        self.frames += frames as u64;
        let moved = self.frames as f64 / self.rate;
        let passed = now.saturating_duration_since(began);
        if moved > FASTEST * passed.as_secs_f64() + BURST.as_secs_f64() {
            return Some(Fault::Runaway);
        }
        if passed < WINDOW {
            return None;
        }
        (self.began, self.frames) = (Some(now), 0);
        (moved < SLOWEST * passed.as_secs_f64()).then_some(Fault::Sluggish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, and after how long, when a card moves sound at this speed.
    fn found(speed: f64, seconds: u64) -> Option<(Fault, Duration)> {
        let (mut guard, start) = (SpeedGuard::new(48_000), Instant::now());
        let period = Duration::from_millis(10).div_f64(speed);
        (0..seconds * (100.0 * speed) as u64).find_map(|n| {
            let passed = period * n as u32;
            guard.count(start + passed, 480).map(|fault| (fault, passed))
        })
    }

    #[test]
    fn a_card_without_a_clock_is_found_at_once_and_one_that_is_little_off_never() {
        let (fault, after) = found(1000.0, 60).unwrap();
        assert!(fault == Fault::Runaway && after < Duration::from_millis(2), "{after:?}");
        let (fault, after) = found(1.7, 60).unwrap();
        assert!(fault == Fault::Runaway && after < Duration::from_secs(4), "{after:?}");
        let (fault, after) = found(0.36, 60).unwrap();
        assert!(fault == Fault::Sluggish && after < Duration::from_secs(6), "{after:?}");
        for speed in [0.95, 0.9999, 1.0, 1.0001, 1.05] {
            assert_eq!(found(speed, 120), None, "{speed}");
        }
    }
}
