//! What a line is worth to who listens at its end, in one number: the E-model (ITU-T G.107) from loss, delay and codec.
//!
//! Of the model's many inputs those are taken that a box can know; the others have their default values, which leave 93.2 of a rating of
//! 100. The impairment of delay is the piecewise fit of Cole and Rosenbluth (2001). The loss is that at the decoder's input, of random
//! packets and with concealment after G.711 Appendix I (G.113 Appendix I: Ie 0, Bpl 25.1). Not taken: bursts of loss (BurstR), echo, noise
//! and level, wideband (G.107.1): it is an estimate for comparing lines, and no listening test.

use std::time::Duration;

/// What the default values leave (G.107 §7.8).
const UNIMPAIRED: f32 = 93.2;
/// Robustness of G.711 with concealment against random loss, in percent.
const ROBUSTNESS: f32 = 25.1;

/// One direction of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// Share of the packets that could not be played, 0 to 1.
    pub loss: f32,
    /// From mouth to ear.
    pub delay: Duration,
}

impl Way {
    /// The transmission rating R, 0 to 93.2.
    pub fn rating(&self) -> f32 {
        let delay = self.delay.as_secs_f32() * 1e3;
        let of_delay = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
        let loss = self.loss.clamp(0.0, 1.0) * 100.0;
        let of_loss = 95.0 * loss / (loss + ROBUSTNESS);
        (UNIMPAIRED - of_delay - of_loss).clamp(0.0, UNIMPAIRED)
    }

    /// The mean opinion score that listeners would give, 1 to 4.41 (G.107 Annex B).
    pub fn opinion(&self) -> f32 {
        let r = self.rating();
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(loss: f32, delay_ms: u64) -> Way {
        Way { loss, delay: Duration::from_millis(delay_ms) }
    }

    #[test]
    fn a_clean_line_has_the_rating_of_the_recommendation() {
        assert!((way(0.0, 0).rating() - 93.2).abs() < 0.01);
        assert!((way(0.0, 0).opinion() - 4.41).abs() < 0.01);
        // G.107 figure B.2: R 80 is 4.03, R 70 is 3.60, R 50 is 2.58.
        for (r, opinion) in [(80.0, 4.03), (70.0, 3.60), (50.0, 2.58)] {
            let loss = ROBUSTNESS * (93.2 - r) / (95.0 - (93.2 - r)) / 100.0;
            assert!((way(loss, 0).opinion() - opinion).abs() < 0.02, "{r}");
        }
    }

    #[test]
    fn loss_and_delay_cost_what_the_model_says() {
        // 5 % of random loss: 95 × 5 / 30.1.
        assert!((way(0.05, 0).rating() - (93.2 - 15.78)).abs() < 0.05);
        // 150 ms are hardly noticed, 300 ms are.
        assert!((way(0.0, 150).rating() - 89.6).abs() < 0.05);
        assert!((way(0.0, 300).rating() - (93.2 - 7.2 - 13.5)).abs() < 0.05);
    }

    #[test]
    fn the_worst_line_is_one_and_never_less() {
        for line in [way(1.0, 5000), way(f32::INFINITY, 0), way(0.9, 0)] {
            let (rating, opinion) = (line.rating(), line.opinion());
            assert!((0.0..=93.2).contains(&rating) && (1.0..=4.5).contains(&opinion), "{line:?} {rating} {opinion}");
        }
    }
}
