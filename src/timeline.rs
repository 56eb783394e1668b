//! When what happened in a turn.

use serde::{Deserialize, Serialize};

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnOutcome {
    /// The answer was heard to its end.
    Answered,
    /// The model was cut off; what there was of its answer was heard.
    Truncated,
    /// The caller cut the answer off.
    Interrupted,
    /// There was no answer, and an apology in its place.
    Apologised,
    /// The call ended within the turn.
    HungUp,
}
