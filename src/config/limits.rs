//! `[limits]`: what a call, and a day, may cost.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::validate::Complaints;
use super::{Config, seconds};

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A call is ended after so long; 0: never.
    #[serde(rename = "longest_call_s", with = "seconds")]
    pub longest_call: Duration,
    /// An answer is cut off at about so much speech; 0: never.
    #[serde(rename = "longest_answer_s", with = "seconds")]
    pub longest_answer: Duration,
    /// Requests to the model in a call; 0: no bound.
    pub requests_per_call: u32,
    /// Functions with side effects that may run in a call.
    pub side_effects_per_call: u32,
    /// Tokens of a call; 0: no bound.
    pub tokens_per_call: u64,
    /// Tokens of all calls of a day; 0: no bound.
    pub tokens_per_day: u64,
    /// Money that a call may cost, in the currency of `[price]`; 0: no bound.
    pub money_per_call: f64,
    /// Money that all calls of a day may cost; 0: no bound.
    pub money_per_day: f64,
    /// The file that keeps the day's sum over a restart; absent: it is kept in memory only.
    pub state_file: Option<PathBuf>,
    /// An answer is cut off where it repeats so many words in a row of the system instruction; 0: never.
    pub guarded_words: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            longest_call: Duration::from_secs(3600),
            longest_answer: Duration::from_secs(60),
            requests_per_call: 300,
            side_effects_per_call: 5,
            tokens_per_call: 0,
            tokens_per_day: 0,
            money_per_call: 0.0,
            money_per_day: 0.0,
            state_file: None,
            guarded_words: 16,
        }
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    let limits = &config.limits;
    if !limits.longest_call.is_zero() {
        found.within("limits", "longest_call_s", limits.longest_call, 30_000..=86_400_000);
    }
    if !limits.longest_answer.is_zero() {
        found.within("limits", "longest_answer_s", limits.longest_answer, 5_000..=600_000);
    }
    let effects = limits.side_effects_per_call;
    found.unless(effects <= 100, "limits", "side_effects_per_call", || {
        format!("{effects} is too many; take at most 100")
    });
    for (key, money) in [("money_per_call", limits.money_per_call), ("money_per_day", limits.money_per_day)] {
        let good = money == 0.0 || (0.0001..=1e9).contains(&money);
        found.unless(good, "limits", key, || {
            format!("{money} is out of range; take 0.0001 to 1000000000 in the currency of [price], or 0 for no bound")
        });
        found.unless(money == 0.0 || !config.price.is_unknown(), "limits", key, || {
            "nothing has a price, so this bound would never be reached; write what the model costs into [price]".into()
        });
    }
    let words = limits.guarded_words;
    found.unless(words == 0 || (6..=100).contains(&words), "limits", "guarded_words", || {
        format!("{words} is out of range; take 6 to 100, or 0 for none")
    });
}
