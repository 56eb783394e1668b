//! What voice and recogniser cost the call. What the model costs is counted where it is asked.

use super::*;
use crate::limits::Cost;

impl Dialogue {
    /// Counts what voice and recogniser have cost since the last time.
    pub(super) fn speech_used(&mut self) {
        let characters = std::mem::take(&mut self.characters);
        let cost = Cost::of_speech(&self.parts.config.price, characters, self.ear.take_given());
        self.tally.speech_micros = self.tally.speech_micros.saturating_add(cost.micros);
        self.allowance.charge(cost);
    }
}
