//! What calls may cost: requests, tokens and money of a call, and the tokens and the money of a day.
//!
//! A budget is looked at before each request, each one that follows upon functions or upon a failure included: the one that passes it is still paid for. Days are those of UTC. The day's sum is written to a
//! file of its own after each request, whole, so that a restart does not begin a new day. Not implemented: a day that begins at the local
//! midnight, prices of models besides Gemini.

mod allowance;
mod day;

use std::time::Duration;

pub use allowance::Allowance;
pub use day::{Day, DayError};

use crate::config;
use crate::model::Usage;

/// What something has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens that were billed.
    pub tokens: u64,
    /// Money by the configured prices, in millionths of their currency.
    pub micros: u64,
}

impl Cost {
    /// Everything that a request is billed for.
    pub fn of(usage: &Usage) -> Self {
        let tokens = u64::from(usage.prompt) + u64::from(usage.answer) + u64::from(usage.thoughts);
        Self { tokens, micros: usage.micros }
    }

    /// So many characters were spoken, and so much sound was recognised.
    pub fn of_speech(price: &config::Price, characters: u64, recognised: Duration) -> Self {
        // A price a million is a millionth of it each.
        let voice = characters as f64 * price.voice_per_million_characters;
        let recogniser = recognised.as_secs_f64() / 3600.0 * price.recogniser_per_hour * 1e6;
        Self { tokens: 0, micros: (voice + recogniser).round() as u64 }
    }

    /// Adds what something else has cost.
    pub fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.micros = self.micros.saturating_add(other.micros);
    }
}

/// What a call has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests to the model.
    pub requests: u32,
    /// All of them, voice and recogniser.
    pub cost: Cost,
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
    /// `money_per_call`.
    CallMoney,
    /// `money_per_day`.
    DayMoney,
}

impl Spent {
    /// A request leaves.
    pub fn request(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Something has cost so much.
    pub fn add(&mut self, cost: Cost) {
        self.cost.add(cost);
    }

    /// Why there may be no further request. `today`: what all calls of the day have cost.
    pub fn bound(&self, limits: &config::Limits, today: Cost) -> Option<Bound> {
        [
            (Bound::Requests, limits.requests_per_call.into(), self.requests.into()),
            (Bound::CallTokens, limits.tokens_per_call, self.cost.tokens),
            (Bound::CallMoney, micros(limits.money_per_call), self.cost.micros),
            (Bound::DayTokens, limits.tokens_per_day, today.tokens),
            (Bound::DayMoney, micros(limits.money_per_day), today.micros),
        ]
        .into_iter()
        .find_map(|(which, bound, spent)| (bound > 0 && spent >= bound).then_some(which))
    }
}

/// Millionths of money.
fn micros(money: f64) -> u64 {
    (money * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_reached_and_zero_is_none() {
        let none = config::Limits { requests_per_call: 0, ..Default::default() };
        let spent = Spent { requests: 10, cost: Cost { tokens: 1000, micros: 50_000 } };
        let today = |tokens, micros| Cost { tokens, micros };
        assert_eq!(spent.bound(&none, today(1_000_000, 1_000_000_000)), None);
        let with = |change: fn(&mut config::Limits)| {
            let mut limits = none.clone();
            change(&mut limits);
            limits
        };
        assert_eq!(spent.bound(&with(|l| l.requests_per_call = 10), today(0, 0)), Some(Bound::Requests));
        assert_eq!(spent.bound(&with(|l| l.requests_per_call = 11), today(0, 0)), None);
        assert_eq!(spent.bound(&with(|l| l.tokens_per_call = 1000), today(0, 0)), Some(Bound::CallTokens));
        assert_eq!(spent.bound(&with(|l| l.tokens_per_call = 1001), today(5000, 0)), None);
        assert_eq!(spent.bound(&with(|l| l.money_per_call = 0.05), today(0, 0)), Some(Bound::CallMoney));
        assert_eq!(spent.bound(&with(|l| l.money_per_call = 0.050001), today(0, 60_000)), None);
        assert_eq!(spent.bound(&with(|l| l.tokens_per_day = 5000), today(4999, 0)), None);
        assert_eq!(spent.bound(&with(|l| l.tokens_per_day = 5000), today(5000, 0)), Some(Bound::DayTokens));
        assert_eq!(spent.bound(&with(|l| l.money_per_day = 2.5), today(0, 2_499_999)), None);
        assert_eq!(spent.bound(&with(|l| l.money_per_day = 2.5), today(0, 2_500_000)), Some(Bound::DayMoney));
    }

    #[test]
    fn everything_that_is_billed_is_counted_once() {
        let usage = Usage { prompt: 1000, audio: 300, cached: 200, answer: 40, thoughts: 10, micros: 7 };
        assert_eq!(Cost::of(&usage), Cost { tokens: 1050, micros: 7 });
    }

    #[test]
    fn speech_costs_by_the_character_and_by_the_hour() {
        let price =
            config::Price { voice_per_million_characters: 15.0, recogniser_per_hour: 0.36, ..Default::default() };
        assert_eq!(Cost::of_speech(&price, 40, Duration::from_secs(10)), Cost { tokens: 0, micros: 600 + 1000 });
        assert_eq!(Cost::of_speech(&config::Price::default(), 40, Duration::from_secs(10)), Cost::default());
    }
}
