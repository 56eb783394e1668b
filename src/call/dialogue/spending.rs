//! What the call may still cost.

use std::time::SystemTime;

use super::*;

impl Dialogue {
    /// Counts a request that is about to leave. False when there is no budget left for it.
    pub(super) fn afford(&mut self) -> bool {
        let today = self.parts.day.tokens(SystemTime::now());
        let bound = self.spent.bound(&self.parts.config.limits, today);
        if let Some(bound) = bound
            && self.bound.replace(bound).is_none()
        {
            warn!(?bound, "the budget is used up: [limits]");
        }
        if bound.is_none() {
            self.spent.request();
        }
        bound.is_none()
    }

    /// A request has cost so much.
    pub(super) fn used(&mut self, usage: &model::Usage) {
        self.spent.add(usage);
        self.tally.usage.add(*usage);
        self.parts.day.add(SystemTime::now(), limits::tokens(usage));
    }
}
