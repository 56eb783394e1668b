//! How long silence must last until a turn has ended: learned from the caller's own pauses within the call, within bounds.
//!
//! Method: the hard end keeps a margin from the caller's longest usual pause. That is followed upwards with every pause, quickly, and
//! downwards with every utterance, slowly. An utterance that went on soon after its hard end was a pause, too, which nobody waited for. The soft end follows the short pauses, which
//! it could have waited for without being late. A [`Hint`] moves both for as long as it holds. Sans-IO; allocates nothing.

use std::time::Duration;

use super::hint::Hint;

/// Between the caller's longest usual pause and the hard end: weak ends and beginnings are not heard as voice.
const MARGIN: Duration = Duration::from_millis(150);
/// Shorter silence is not a pause but a consonant.
const SHORTEST_PAUSE: Duration = Duration::from_millis(120);
/// Who speaks again so soon after his hard end was cut off.
const SPEAKS_AGAIN: Duration = Duration::from_millis(1500);
/// The hard end goes this share of the way to where a longer pause wants it, and to where an utterance of short ones does.
const UP: f32 = 0.8;
const DOWN: f32 = 0.08;
/// And this share of the way back to where it started, with every utterance that does not need more.
const BACK: f32 = 0.2;
/// The soft end goes this share of the way to a pause that took it back, and back to where it started after one that stood.
const SOFT_UP: f32 = 0.25;
const SOFT_DOWN: f32 = 0.1;
/// Beyond a pause that would have been waited for.
const SOFT_MARGIN: Duration = Duration::from_millis(50);
/// A hint that the caller is in the middle of something makes the soft end so much later, and the hard end.
const OPEN_SOFT: Duration = Duration::from_millis(100);
const OPEN_HARD: Duration = Duration::from_millis(600);
/// A hint that he has finished makes the hard end so much sooner, but never sooner than this.
const CLOSED_HARD: Duration = Duration::from_millis(200);
const CLOSED_HARD_LEAST: Duration = Duration::from_millis(500);

/// Where a silence begins to count, and between what it is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    /// At the beginning of a call.
    pub(super) start: Duration,
    /// At least; with the same values everywhere nothing is learned.
    pub(super) min: Duration,
    /// At most.
    pub(super) max: Duration,
}

impl Silence {
    fn bounded(self, value: Duration) -> Duration {
        value.clamp(self.min.min(self.start), self.max.max(self.start))
    }
}

/// What is known of one caller.
#[derive(Debug, Clone)]
pub(super) struct Hangover {
    soft: Silence,
    hard: Silence,
    soft_end: Duration,
    hard_end: Duration,
    /// In the utterance.
    longest_pause: Duration,
}

impl Hangover {
    /// A caller of whom nothing is known.
    pub(super) fn new(soft: Silence, hard: Silence) -> Self {
        Self { soft, hard, soft_end: soft.start, hard_end: hard.start, longest_pause: Duration::ZERO }
    }

    /// Silence after which the turn has probably ended.
    pub(super) fn soft_end(&self, hint: Hint) -> Duration {
        match hint {
            Hint::Unknown => self.soft_end,
            Hint::Open => self.soft.bounded(self.soft_end + OPEN_SOFT),
            Hint::Closed => self.soft.bounded(self.soft_end.min(self.soft.start)),
        }
    }

    /// Silence after which it has ended; never before the soft end.
    pub(super) fn hard_end(&self, hint: Hint) -> Duration {
        let hard_end = match hint {
            Hint::Unknown => self.hard_end,
            Hint::Open => self.hard.bounded(self.hard_end + OPEN_HARD),
            Hint::Closed => self.hard_end.saturating_sub(CLOSED_HARD).max(CLOSED_HARD_LEAST).min(self.hard_end),
        };
        hard_end.max(self.soft_end(hint))
    }

    /// The caller went on after so much silence.
    pub(super) fn paused(&mut self, pause: Duration) {
        if pause < SHORTEST_PAUSE {
            return;
        }
        self.longest_pause = self.longest_pause.max(pause);
        let wanted = pause + MARGIN;
        if wanted > self.hard_end {
            self.hard_end = self.hard.bounded(towards(self.hard_end, wanted, UP));
        }
        let soft_wanted = pause + SOFT_MARGIN;
        if soft_wanted > self.soft_end && soft_wanted <= self.soft.max {
            self.soft_end = self.soft.bounded(towards(self.soft_end, soft_wanted, SOFT_UP));
        } else if soft_wanted < self.soft_end {
            self.soft_end = self.soft.bounded(towards(self.soft_end, soft_wanted, DOWN));
        }
    }

    /// The utterance ended, and its soft end stood.
    pub(super) fn ended(&mut self) {
        let longest = std::mem::take(&mut self.longest_pause);
        let wanted = longest + MARGIN;
        if self.hard_end > self.hard.start && wanted < self.hard_end {
            self.hard_end = towards(self.hard_end, wanted, BACK).max(self.hard.start);
        } else if !longest.is_zero() && wanted < self.hard_end {
            self.hard_end = self.hard.bounded(towards(self.hard_end, wanted, DOWN));
        }
        if self.soft_end > self.soft.start {
            self.soft_end = towards(self.soft_end, self.soft.start, SOFT_DOWN);
        }
    }

    /// The next utterance began so long after the end of the one before.
    pub(super) fn spoke_again(&mut self, after: Duration) {
        if after < SPEAKS_AGAIN {
            self.paused(after);
        }
    }
}

/// A share of the way from one duration to another.
fn towards(from: Duration, to: Duration, share: f32) -> Duration {
    if to > from { from + (to - from).mul_f32(share) } else { from - (from - to).mul_f32(share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn hangover() -> Hangover {
        Hangover::new(
            Silence { start: ms(240), min: ms(200), max: ms(400) },
            Silence { start: ms(750), min: ms(700), max: ms(1500) },
        )
    }

    #[test]
    fn nothing_is_learned_before_the_caller_pauses() {
        let mut hangover = hangover();
        (0..50).for_each(|_| hangover.ended());
        hangover.paused(ms(60));
        assert_eq!((hangover.soft_end(Hint::Unknown), hangover.hard_end(Hint::Unknown)), (ms(240), ms(750)));
    }

    #[test]
    fn one_long_pause_makes_the_hard_end_later_and_many_short_ones_sooner_within_the_bounds() {
        let mut slow = hangover();
        slow.paused(ms(740));
        assert!((ms(850)..ms(890)).contains(&slow.hard_end(Hint::Unknown)), "{slow:?}");
        (0..20).for_each(|_| slow.paused(ms(3000)));
        assert_eq!(slow.hard_end(Hint::Unknown), ms(1500));
        let mut quick = hangover();
        quick.paused(ms(200));
        quick.ended();
        assert!(quick.hard_end(Hint::Unknown) > ms(700), "one short pause says little");
        for _ in 0..50 {
            (0..3).for_each(|_| quick.paused(ms(150)));
            quick.ended();
        }
        assert_eq!(quick.hard_end(Hint::Unknown), ms(700));
        assert!((ms(200)..ms(201)).contains(&quick.soft_end(Hint::Unknown)), "{quick:?}");
    }

    #[test]
    fn who_speaks_again_soon_after_his_end_was_pausing_and_later_he_was_not() {
        let mut hangover = hangover();
        hangover.spoke_again(ms(900));
        assert!(hangover.hard_end(Hint::Unknown) > ms(980), "{hangover:?}");
        let known = hangover.clone();
        hangover.spoke_again(ms(1500));
        assert_eq!(hangover.hard_end(Hint::Unknown), known.hard_end(Hint::Unknown));
    }

    #[test]
    fn what_was_learned_of_one_long_pause_is_unlearned_with_utterances_that_do_not_need_it() {
        let mut hangover = hangover();
        hangover.spoke_again(ms(1400));
        hangover.ended();
        assert!(hangover.hard_end(Hint::Unknown) > ms(1300), "the pause was in this one");
        (0..20).for_each(|_| hangover.ended());
        assert_eq!(hangover.hard_end(Hint::Unknown), ms(750));
    }

    #[test]
    fn the_soft_end_waits_for_pauses_that_it_can_wait_for_and_comes_back_when_it_stands() {
        let mut hangover = hangover();
        (0..20).for_each(|_| hangover.paused(ms(320)));
        assert!((ms(350)..=ms(370)).contains(&hangover.soft_end(Hint::Unknown)), "{hangover:?}");
        hangover.paused(ms(700));
        assert!(hangover.soft_end(Hint::Unknown) <= ms(370), "a longer pause is none of its business");
        (0..60).for_each(|_| hangover.ended());
        assert!(hangover.soft_end(Hint::Unknown) < ms(245));
    }

    #[test]
    fn hints_move_both_ends_within_the_bounds_and_leave_what_is_learned_alone() {
        let mut hangover = hangover();
        assert_eq!((hangover.soft_end(Hint::Open), hangover.hard_end(Hint::Open)), (ms(340), ms(1350)));
        assert_eq!((hangover.soft_end(Hint::Closed), hangover.hard_end(Hint::Closed)), (ms(240), ms(550)));
        (0..20).for_each(|_| hangover.paused(ms(1400)));
        assert_eq!(hangover.hard_end(Hint::Open), ms(1500));
        for _ in 0..200 {
            hangover.paused(ms(150));
            hangover.ended();
        }
        assert_eq!(hangover.hard_end(Hint::Closed), ms(500), "never below the bound");
    }

    #[test]
    fn fixed_bounds_learn_nothing_and_a_start_outside_of_them_counts_as_a_bound() {
        let fixed = |ms| Silence { start: ms, min: ms, max: ms };
        let mut hangover = Hangover::new(fixed(ms(300)), fixed(ms(700)));
        (0..20).for_each(|_| hangover.paused(ms(690)));
        (0..20).for_each(|_| hangover.paused(ms(150)));
        assert_eq!((hangover.soft_end(Hint::Unknown), hangover.hard_end(Hint::Unknown)), (ms(300), ms(700)));
        let odd = Hangover::new(Silence { start: ms(500), min: ms(600), max: ms(400) }, fixed(ms(200)));
        assert_eq!((odd.soft_end(Hint::Open), odd.hard_end(Hint::Unknown)), (ms(500), ms(500)));
    }
}
