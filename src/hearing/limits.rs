//! What the decisions on turns are bounded by.

use std::time::Duration;

use crate::config;

/// The times and the threshold of the decisions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Silence after which the turn has probably ended, until more is known of the caller.
    pub soft_end: Duration,
    /// At least.
    pub soft_end_min: Duration,
    /// At most.
    pub soft_end_max: Duration,
    /// Silence after which it has ended, until more is known of the caller. Never before the soft end.
    pub hard_end: Duration,
    /// At least.
    pub hard_end_min: Duration,
    /// At most.
    pub hard_end_max: Duration,
    /// Shorter sounds are not speech. Counted from where the level rose to the end of a voiced chunk.
    pub minimum_speech: Duration,
    /// A longer utterance is cut.
    pub max_utterance: Duration,
    /// Probability from which a chunk is voiced, 0 to 1.
    pub vad_threshold: f32,
}

impl From<&config::Hearing> for Limits {
    fn from(hearing: &config::Hearing) -> Self {
        Self {
            soft_end: hearing.soft_end,
            soft_end_min: hearing.soft_end_min,
            soft_end_max: hearing.soft_end_max,
            hard_end: hearing.hard_end,
            hard_end_min: hearing.hard_end_min,
            hard_end_max: hearing.hard_end_max,
            minimum_speech: hearing.minimum_speech,
            max_utterance: hearing.max_utterance,
            vad_threshold: hearing.vad_threshold,
        }
    }
}
