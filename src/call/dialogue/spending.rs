//! What the call may still cost.

use std::time::SystemTime;

use super::*;
use crate::limits::Cost;

impl Dialogue {
    /// Counts a request that is about to leave. False when there is no budget left for it.
    pub(super) fn afford(&mut self) -> bool {
        let today = self.parts.day.cost(SystemTime::now());
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
        self.tally.usage.add(*usage);
        self.charge(Cost::of(usage));
    }

    /// Counts what voice and recogniser have cost since the last time.
    pub(super) fn speech_used(&mut self) {
        let characters = std::mem::take(&mut self.characters);
        let cost = Cost::of_speech(&self.parts.config.price, characters, self.ear.take_given());
        self.tally.speech_micros = self.tally.speech_micros.saturating_add(cost.micros);
        self.charge(cost);
    }

    fn charge(&mut self, cost: Cost) {
        self.spent.add(cost);
        self.parts.day.add(SystemTime::now(), cost);
    }
}
