//! When the next answer is likely to be ready, from how long the last ones took.
//!
//! Runs on the tokio side. A call's own turns count first; until there are enough of them, those of the whole box do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Turns that are remembered.
const TURNS: usize = 16;
/// So few say nothing yet.
const ENOUGH: usize = 3;
/// The last turns, oldest overwritten first. [`Duration::MAX`]: no answer came.
#[derive(Debug, Clone, Default)]
struct Recent {
    turns: [Duration; TURNS],
    count: usize,
}

impl Recent {
    fn push(&mut self, after: Duration) {
        self.turns[self.count % TURNS] = after;
        self.count += 1;
    }

    fn known(&self) -> &[Duration] {
        &self.turns[..self.count.min(TURNS)]
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted = [Duration::ZERO; TURNS];
        let sorted = &mut sorted[..self.known().len()];
        sorted.copy_from_slice(self.known());
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    fn quickest(&self) -> Option<Duration> {
        self.known().iter().min().copied()
    }
}

/// What all calls of a box have seen; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SharedForecast(Arc<Mutex<Recent>>);

/// What one call may expect.
#[derive(Debug)]
pub struct Forecast {
    call: Recent,
    shared: SharedForecast,
}

impl Forecast {
    /// A call that has seen nothing, on a box that has.
    pub fn new(shared: SharedForecast) -> Self {
        Self { call: Recent::default(), shared }
    }

    /// An answer's first frame was queued so long after the caller's last voiced sample; `None`: there was no answer.
    pub fn observe(&mut self, after: Option<Duration>) {
        let after = after.unwrap_or(Duration::MAX);
        self.call.push(after);
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).push(after);
    }

    /// How long after the caller's last voiced sample the next answer's first frame is likely to be queued: the median of late.
    /// [`Duration::MAX`] when there is probably none; `None` when too little is known.
    pub fn expected(&self) -> Option<Duration> {
        self.ask(Recent::median)
    }

    /// The soonest that it may be, a fifth below the quickest of late; `None` when too little is known.
    pub fn earliest(&self) -> Option<Duration> {
        let quickest = self.ask(Recent::quickest)?;
        Some(if quickest == Duration::MAX { quickest } else { quickest - quickest / 5 })
    }

    fn ask(&self, question: impl Fn(&Recent) -> Option<Duration>) -> Option<Duration> {
        if self.call.count >= ENOUGH {
            return question(&self.call);
        }
        let shared = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.count >= ENOUGH { question(&shared) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn too_few_turns_say_nothing_and_then_the_median_counts_with_the_quickest_as_a_bound() {
        let mut forecast = Forecast::new(SharedForecast::default());
        for after in [900, 5000] {
            forecast.observe(Some(ms(after)));
            assert_eq!((forecast.expected(), forecast.earliest()), (None, None));
        }
        forecast.observe(Some(ms(1000)));
        assert_eq!(forecast.expected(), Some(ms(1000)));
        assert!(forecast.earliest().unwrap().abs_diff(ms(720)) < ms(1));
    }

    #[test]
    fn the_box_speaks_for_a_call_that_knows_nothing_and_the_call_for_itself_when_it_does() {
        let shared = SharedForecast::default();
        let mut slow = Forecast::new(shared.clone());
        (0..9).for_each(|_| slow.observe(Some(ms(3000))));
        let mut quick = Forecast::new(shared);
        assert_eq!(quick.expected(), Some(ms(3000)));
        (0..3).for_each(|_| quick.observe(Some(ms(300))));
        assert_eq!(quick.expected(), Some(ms(300)));
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut forecast = Forecast::new(SharedForecast::default());
        (0..50).for_each(|_| forecast.observe(Some(ms(100))));
        (0..TURNS).for_each(|_| forecast.observe(Some(ms(2000))));
        assert_eq!(forecast.earliest(), Some(ms(1600)));
    }

    #[test]
    fn a_cloud_that_answers_nothing_is_expected_never() {
        let mut forecast = Forecast::new(SharedForecast::default());
        (0..4).for_each(|_| forecast.observe(None));
        assert_eq!((forecast.expected(), forecast.earliest()), (Some(Duration::MAX), Some(Duration::MAX)));
    }
}
