//! How much sound waits in a ring beyond what must: as little as the callbacks' punctuality allows, which is found out by what goes missing.

use std::time::{Duration, Instant};

/// Callbacks are late by so much at first, in seconds.
const FIRST: f64 = 0.002;
/// For each time that sound was missing so much more, …
const STEP: f64 = 0.002;
/// … up to this.
const MOST: f64 = 0.060;
/// What is missing within this time is one event.
const EVENT: Duration = Duration::from_secs(1);

/// The delay that a direction aims at.
#[derive(Debug, Clone)]
pub struct Margin {
    /// The longest callback so far, in seconds.
    period: f64,
    margin: f64,
    starved: u32,
    raised: Option<Instant>,
}

impl Margin {
    /// When sound was missing `starved` times already.
    pub fn new(starved: u32) -> Self {
        Self { period: 0.0, margin: FIRST, starved, raised: None }
    }

    /// The delay to aim at, when a callback at `now` is `period` seconds and sound was missing `starved` times.
    pub fn with(&mut self, now: Instant, period: f64, starved: u32) -> f64 {
        self.period = self.period.max(period);
        let is_news = std::mem::replace(&mut self.starved, starved) != starved;
        if is_news && self.raised.is_none_or(|raised| now.saturating_duration_since(raised) >= EVENT) {
            self.raised = Some(now);
            self.margin = (self.margin + STEP).min(MOST);
        }
        self.period + self.margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_only_as_sound_goes_missing_and_not_for_ever() {
        let (mut margin, start) = (Margin::new(7), Instant::now());
        let mut aims_at = |after_ms: u64, period: f64, starved: u32| {
            (margin.with(start + Duration::from_millis(after_ms), period, starved) * 1e6).round()
        };
        assert_eq!(aims_at(0, 0.010, 7), 12_000.0);
        assert_eq!(aims_at(10, 0.008, 7), 12_000.0);
        assert_eq!(aims_at(20, 0.010, 9), 14_000.0);
        assert_eq!(aims_at(900, 0.010, 20), 14_000.0, "what goes missing together is one event");
        for n in 1..100 {
            aims_at(2000 * n, 0.010, 20 + n as u32);
        }
        assert_eq!(aims_at(300_000, 0.010, 200), 70_000.0);
    }
}
