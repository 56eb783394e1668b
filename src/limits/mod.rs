//! What calls may cost: requests and tokens of a call, and the tokens of a day.
//!
//! A budget is looked at before each request: the one that passes it is still paid for. Days are those of UTC. The day's sum is written to a
//! file of its own after each request, whole, so that a restart does not begin a new day. Not implemented: prices.

mod day;

pub use day::{Day, DayError};

use crate::config;
use crate::model::Usage;

/// What a call has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests to the model.
    pub requests: u32,
    /// Tokens of all of them.
    pub tokens: u64,
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `requests_per_call`.
    Requests,
    /// `tokens_per_call`.
    CallTokens,
    /// `tokens_per_day`.
    DayTokens,
}

impl Spent {
    /// A request leaves.
    pub fn request(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// What one has cost.
    pub fn add(&mut self, usage: &Usage) {
        self.tokens = self.tokens.saturating_add(tokens(usage));
    }

    /// Why there may be no further request. `today`: what all calls of the day have cost.
    pub fn bound(&self, limits: &config::Limits, today: u64) -> Option<Bound> {
        let reached = |bound: u64, spent: u64| bound > 0 && spent >= bound;
        if reached(limits.requests_per_call.into(), self.requests.into()) {
            Some(Bound::Requests)
        } else if reached(limits.tokens_per_call, self.tokens) {
            Some(Bound::CallTokens)
        } else if reached(limits.tokens_per_day, today) {
            Some(Bound::DayTokens)
        } else {
            None
        }
    }
}

/// Everything that a request is billed for.
pub fn tokens(usage: &Usage) -> u64 {
    u64::from(usage.prompt) + u64::from(usage.answer) + u64::from(usage.thoughts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_reached_and_zero_is_none() {
        let none = config::Limits { requests_per_call: 0, ..Default::default() };
        let spent = Spent { requests: 10, tokens: 1000 };
        assert_eq!(spent.bound(&none, 1_000_000), None);
        let with = |change: fn(&mut config::Limits)| {
            let mut limits = none.clone();
            change(&mut limits);
            limits
        };
        assert_eq!(spent.bound(&with(|l| l.requests_per_call = 10), 0), Some(Bound::Requests));
        assert_eq!(spent.bound(&with(|l| l.requests_per_call = 11), 0), None);
        assert_eq!(spent.bound(&with(|l| l.tokens_per_call = 1000), 0), Some(Bound::CallTokens));
        assert_eq!(spent.bound(&with(|l| l.tokens_per_day = 5000), 4999), None);
        assert_eq!(spent.bound(&with(|l| l.tokens_per_day = 5000), 5000), Some(Bound::DayTokens));
    }
}
