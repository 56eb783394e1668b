//! What the turns of a call have cost: requests to the model, and those that were thrown away.

use crate::model::Usage;
use crate::timeline::TurnReport;

/// Turns of a call whose first sounds are kept.
const FIRST_SOUNDS: usize = 1000;

/// The sums of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tally {
    /// Turns that were reported.
    pub turns: u32,
    /// Requests to the model.
    pub requests: u32,
    /// Those that were taken back because the caller went on.
    pub wasted: u32,
    /// Turns whose answer came from a request that left before the soft end.
    pub speculative: u32,
    /// What the answers cost, as far as the models told. A request that was taken back tells nothing, and is charged all the same.
    pub usage: Usage,
    /// What voice and recogniser cost, in millionths of the currency of `[price]`.
    pub speech_micros: u64,
    /// How long each turn was without a sound, of the first thousand.
    pub first_sounds_ms: Vec<f64>,
    /// Messages that the caller left.
    pub messages: u32,
}

impl Tally {
    pub fn add(&mut self, turn: &TurnReport) {
        self.turns += 1;
        self.requests += turn.requests;
        self.wasted += turn.requests_wasted;
        self.speculative += u32::from(turn.speculative);
        let has_room = self.first_sounds_ms.len() < FIRST_SOUNDS;
        self.first_sounds_ms.extend(turn.first_sound_ms.filter(|_| has_room));
    }

    /// What all of it comes to by the configured prices; `None` when none is configured.
    pub fn price(&self) -> Option<f64> {
        let micros = self.usage.micros.saturating_add(self.speech_micros);
        (micros > 0).then_some(micros as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_told_only_when_prices_are_known() {
        let mut tally = Tally::default();
        tally.usage.add(Usage { prompt: 1000, answer: 40, ..Usage::default() });
        assert_eq!(tally.price(), None);
        tally.usage.add(Usage { micros: 1500, ..Usage::default() });
        tally.usage.add(Usage { micros: 500, ..Usage::default() });
        assert_eq!(tally.price(), Some(0.002));
        tally.speech_micros = 3000;
        assert_eq!(tally.price(), Some(0.005));
    }
}
