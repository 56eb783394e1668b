//! What the turns of a call have cost: requests to the model, and those that were thrown away.

use crate::timeline::TurnReport;

/// The sums of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Turns that were reported.
    pub turns: u32,
    /// Requests to the model.
    pub requests: u32,
    /// Those that were taken back because the caller went on.
    pub wasted: u32,
    /// Turns whose answer came from a request that left before the soft end.
    pub speculative: u32,
}

impl Tally {
    pub fn add(&mut self, turn: &TurnReport) {
        self.turns += 1;
        self.requests += turn.requests;
        self.wasted += turn.requests_wasted;
        self.speculative += u32::from(turn.speculative);
    }
}
