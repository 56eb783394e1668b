//! What is done for a caller who cannot be answered: a table of what happened, how often, and what there is to be done.
//!
//! | what happened | how often | is said | then |
//! |---|---|---|---|
//! | no answer came | fewer than `apologies` times in a row | apology | the next turn is asked again |
//! | no answer came | as often, or more | apology | the next remedy, or else the next turn |
//! | no answer can come until somebody looks after the box | – | apology | the next remedy, or else goodbye |
//! | the model will not answer this | – | apology | the next turn |
//! | the budget is used up | – | a sentence | the next remedy, or else goodbye |
//! | the call has lasted long enough | – | a sentence | the next remedy, or else goodbye |
//! | the person whom a remedy called does not answer | – | apology | the next remedy, or else goodbye |
//!
//! What comes before it within a turn (a second clip, another model) is not decided here.

use super::{Limits, Outcome, Remedy};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There will be no answer to this turn.
    NoAnswer,
    /// Nor to any other.
    Hopeless,
    /// Nor to this question, ever; others are welcome.
    Refused,
    /// The budget is used up.
    BudgetSpent,
    /// The call has lasted as long as a call may.
    TimeIsUp,
    /// The remedy was to hand over, and that failed.
    NobodyThere,
}

impl Trouble {
    /// What an answer's end means when nothing of it could be said.
    pub(super) fn of(outcome: Option<Outcome>) -> Self {
        match outcome {
            Some(Outcome::Hopeless) => Self::Hopeless,
            Some(Outcome::Refused) => Self::Refused,
            Some(Outcome::Unaffordable) => Self::BudgetSpent,
            Some(Outcome::Complete | Outcome::Truncated | Outcome::Failed) | None => Self::NoAnswer,
        }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ladder {
    /// Turns in a row that had no answer.
    failures: u32,
    /// Remedies that were tried.
    tried: [bool; 3],
}

impl Ladder {
    /// A turn was answered.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// What follows upon the words that are said of it; `None`: the next turn.
    pub(super) fn step(&mut self, trouble: Trouble, limits: &Limits) -> Option<Remedy> {
        let last = match trouble {
            Trouble::Refused => return None,
            Trouble::NoAnswer => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < limits.apologies {
                    return None;
                }
                None
            }
            Trouble::Hopeless | Trouble::BudgetSpent | Trouble::TimeIsUp | Trouble::NobodyThere => {
                Some(Remedy::Goodbye)
            }
        };
        let untried = limits.remedies.into_iter().flatten().find(|remedy| {
            !self.tried[*remedy as usize]
                && match remedy {
                    Remedy::Transfer => limits.transfer_to.is_some(),
                    Remedy::Voicemail => limits.voicemail,
                    Remedy::Goodbye => true,
                }
        });
        let next = untried.or(last);
        if let Some(remedy) = next {
            self.tried[remedy as usize] = true;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::tests::LIMITS;
    use Remedy::{Goodbye, Transfer, Voicemail};
    use Trouble::{BudgetSpent, Hopeless, NoAnswer, NobodyThere, Refused, TimeIsUp};

    #[test]
    fn every_trouble_has_its_remedy_in_the_order_of_the_configuration() {
        let none = Limits { apologies: 2, ..LIMITS };
        let all =
            Limits { remedies: [Some(Transfer), Some(Voicemail), Some(Goodbye)], voicemail: true, ..none.clone() };
        let somebody = Limits { transfer_to: Some("sip:1@h".into()), ..all.clone() };
        let nobody = Limits { voicemail: false, ..all.clone() };
        let quiet = Limits { remedies: [Some(Voicemail), None, None], ..somebody.clone() };
        for (limits, troubles, remedies) in [
            (&none, &[NoAnswer, NoAnswer, NoAnswer][..], &[None, None, None][..]),
            (&none, &[Hopeless], &[Some(Goodbye)]),
            (&none, &[Refused, Refused, Refused], &[None, None, None]),
            (&all, &[NoAnswer, NoAnswer, NoAnswer], &[None, Some(Voicemail), Some(Goodbye)]),
            (&all, &[NoAnswer, Refused, NoAnswer], &[None, None, Some(Voicemail)]),
            (&somebody, &[NoAnswer, NoAnswer, NobodyThere], &[None, Some(Transfer), Some(Voicemail)]),
            (&somebody, &[Hopeless, NobodyThere, NobodyThere], &[Some(Transfer), Some(Voicemail), Some(Goodbye)]),
            (&somebody, &[BudgetSpent], &[Some(Transfer)]),
            (&nobody, &[BudgetSpent], &[Some(Goodbye)]),
            (&somebody, &[TimeIsUp], &[Some(Transfer)]),
            (&quiet, &[NoAnswer, NoAnswer, NoAnswer], &[None, Some(Voicemail), None]),
            (&quiet, &[BudgetSpent, TimeIsUp], &[Some(Voicemail), Some(Goodbye)]),
        ] {
            let mut ladder = Ladder::default();
            let steps: Vec<_> = troubles.iter().map(|trouble| ladder.step(*trouble, limits)).collect();
            assert_eq!(steps, remedies, "{troubles:?}");
        }
    }

    #[test]
    fn an_answer_between_two_failures_begins_the_count_anew() {
        let limits = Limits { apologies: 2, remedies: [Some(Goodbye), None, None], ..LIMITS };
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(NoAnswer, &limits), None);
        ladder.answered();
        assert_eq!([ladder.step(NoAnswer, &limits), ladder.step(NoAnswer, &limits)], [None, Some(Goodbye)]);
    }
}
