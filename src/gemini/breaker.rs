//! Which model may be asked: one that is limited or gone is left alone for a while.

use crate::model::FaultClass;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a model that is limited rests when nobody said how long.
const LIMITED: Duration = Duration::from_secs(30);
/// How long a model that does not exist rests; names come and go.
const GONE: Duration = Duration::from_secs(3600);

/// One entry a model, in the order of the configuration: until when it is left alone.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<Vec<Option<Instant>>>);

impl Breaker {
    pub(super) fn new(models: usize) -> Self {
        Self(Mutex::new(vec![None; models]))
    }

    /// The models to try, in order. When all are to be left alone: the one whose rest ends first, since a request that
    /// is refused costs the caller less than an apology without having asked.
    pub(super) fn order(&self, now: Instant) -> Vec<usize> {
        let open = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let usable: Vec<usize> = open
            .iter()
            .enumerate()
            .filter(|(_, until)| until.is_none_or(|until| until <= now))
            .map(|(n, _)| n)
            .collect();
        match usable.is_empty() {
            false => usable,
            true => open.iter().enumerate().min_by_key(|(_, until)| **until).map(|(n, _)| n).into_iter().collect(),
        }
    }

    /// Notes how a request to a model ended; `None` is success.
    pub(super) fn note(&self, model: usize, now: Instant, failed: Option<&FaultClass>) {
        let rest = match failed {
            None => None,
            Some(FaultClass::RateLimited { retry_after }) => Some(retry_after.unwrap_or(LIMITED).min(GONE)),
            Some(FaultClass::Gone) => Some(GONE),
            Some(_) => return,
        };
        let mut open = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        open[model] = rest.map(|rest| now + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_limited_model_rests_for_as_long_as_it_said_and_thirty_seconds_otherwise() {
        let (breaker, now) = (Breaker::new(2), Instant::now());
        breaker.note(0, now, Some(&FaultClass::RateLimited { retry_after: Some(2 * SECOND) }));
        assert_eq!(breaker.order(now + SECOND), [1]);
        assert_eq!(breaker.order(now + 2 * SECOND), [0, 1]);
        breaker.note(0, now, Some(&FaultClass::RateLimited { retry_after: None }));
        assert_eq!(breaker.order(now + 29 * SECOND), [1]);
        assert_eq!(breaker.order(now + 30 * SECOND), [0, 1]);
    }

    #[test]
    fn a_model_that_answers_is_used_again_at_once() {
        let (breaker, now) = (Breaker::new(2), Instant::now());
        breaker.note(0, now, Some(&FaultClass::Gone));
        assert_eq!(breaker.order(now + 60 * SECOND), [1]);
        breaker.note(0, now, None);
        assert_eq!(breaker.order(now), [0, 1]);
    }

    #[test]
    fn when_all_rest_the_one_that_wakes_first_is_asked() {
        let (breaker, now) = (Breaker::new(3), Instant::now());
        for (model, seconds) in [(0, 40), (1, 20), (2, 50)] {
            breaker.note(model, now, Some(&FaultClass::RateLimited { retry_after: Some(seconds * SECOND) }));
        }
        assert_eq!(breaker.order(now), [1]);
    }

    #[test]
    fn trouble_of_other_kinds_keeps_nobody_from_asking() {
        let (breaker, now) = (Breaker::new(1), Instant::now());
        breaker.note(0, now, Some(&FaultClass::Overloaded));
        breaker.note(0, now, Some(&FaultClass::RateLimited { retry_after: Some(Duration::MAX) }));
        assert_eq!(breaker.order(now + 3600 * SECOND), [0]);
    }
}
