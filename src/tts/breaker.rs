//! Which of two voices speaks an answer: the better one, unless it failed lately. An answer changes its voice at most once.
//!
//! A machine without a clock. A voice that failed is left alone for a while; then it is tried with a sentence that nobody hears, so
//! that no second caller has to wait for it. A fault that a person must put right leaves it alone until the service is started anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::AnswerId;

/// Answers that are remembered: more than calls can be at once.
const ANSWERS: usize = 256;

/// Who speaks a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The better voice.
    First,
    /// The other one. `probe`: the better one is to be tried meanwhile, by a sentence that nobody hears.
    Second { probe: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    First,
    Second,
    /// To the first, which failed in it.
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Permanent,
}

#[derive(Debug)]
pub(super) struct Breaker {
    rest: Duration,
    state: State,
    answers: VecDeque<(AnswerId, Given)>,
}

impl Breaker {
    /// A voice that failed rests for `rest`.
    pub fn new(rest: Duration) -> Self {
        Self { rest, state: State::Closed, answers: VecDeque::new() }
    }

    /// Who speaks a phrase of an answer.
    pub fn choose(&mut self, now: Instant, answer: AnswerId) -> Speaker {
        match self.given(answer) {
            Some(Given::First) => return Speaker::First,
            Some(_) => return Speaker::Second { probe: self.begin_probe(now) },
            None => {}
        }
        let (given, speaker) = match self.state {
            State::Closed => (Given::First, Speaker::First),
            _ => (Given::Second, Speaker::Second { probe: self.begin_probe(now) }),
        };
        self.give(answer, given);
        speaker
    }

    /// Whether the first voice may be tried by a sentence that nobody hears; then [`probed`](Self::probed) must tell how it went.
    pub fn begin_probe(&mut self, now: Instant) -> bool {
        let due = matches!(self.state, State::Open { until } if until <= now);
        if due {
            // If nobody tells how it went, it is tried again after as long.
            self.state = State::Open { until: now + self.rest };
        }
        due
    }

    /// Whether the first voice is left alone.
    pub fn rests(&self) -> bool {
        self.state != State::Closed
    }

    /// Whether an answer went over from the first voice to the second.
    pub fn changed(&self, answer: AnswerId) -> bool {
        self.given(answer) == Some(Given::Changed)
    }

    /// The first voice failed in an answer. `rest`: for how long it wants to be left alone. True when it was not known to be ill.
    pub fn failed(&mut self, now: Instant, answer: AnswerId, rest: Option<Duration>, permanent: bool) -> bool {
        self.give(answer, Given::Changed);
        let known = self.state != State::Closed;
        self.rest_now(now, rest, permanent);
        !known
    }

    /// How the trial went.
    pub fn probed(&mut self, now: Instant, failed: Option<(Option<Duration>, bool)>) {
        match failed {
            None => self.state = State::Closed,
            Some((rest, permanent)) => self.rest_now(now, rest, permanent),
        }
    }

    fn rest_now(&mut self, now: Instant, rest: Option<Duration>, permanent: bool) {
        if self.state == State::Permanent || permanent {
            self.state = State::Permanent;
        } else {
            let rest = rest.unwrap_or(self.rest).max(self.rest).min(Duration::from_secs(3600));
            self.state = State::Open { until: now + rest };
        }
    }

    fn given(&self, answer: AnswerId) -> Option<Given> {
        self.answers.iter().rev().find(|(known, _)| *known == answer).map(|(_, given)| *given)
    }

    fn give(&mut self, answer: AnswerId, given: Given) {
        // What nobody hears is no answer.
        if answer.call == 0 {
            return;
        }
        match self.answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, known)) => *known = given,
            None => {
                if self.answers.len() == ANSWERS {
                    self.answers.pop_front();
                }
                self.answers.push_back((answer, given));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);
    const OTHER: Speaker = Speaker::Second { probe: false };

    fn answer(call: u64, answer: u64) -> AnswerId {
        AnswerId { call, answer }
    }

    #[test]
    fn an_answer_in_which_the_voice_failed_is_ended_by_the_other_and_so_are_those_that_follow() {
        let (mut breaker, now) = (Breaker::new(REST), Instant::now());
        assert_eq!(breaker.choose(now, answer(1, 1)), Speaker::First);
        assert_eq!(breaker.choose(now, answer(2, 1)), Speaker::First);
        assert!(breaker.failed(now, answer(1, 1), None, false));
        assert_eq!(breaker.choose(now, answer(1, 1)), OTHER);
        assert!(breaker.changed(answer(1, 1)));
        assert_eq!(breaker.choose(now + 29 * SECOND, answer(1, 2)), OTHER);
        assert!(!breaker.changed(answer(1, 2)), "it never had the first");
        assert_eq!(
            breaker.choose(now + SECOND, answer(2, 1)),
            Speaker::First,
            "an answer does not change without need"
        );
    }

    #[test]
    fn after_its_rest_it_is_tried_once_by_nobodys_sentence_and_not_by_a_caller() {
        let (mut breaker, now) = (Breaker::new(REST), Instant::now());
        breaker.failed(now, answer(1, 1), None, false);
        let later = now + REST;
        assert_eq!(breaker.choose(later, answer(1, 2)), Speaker::Second { probe: true });
        assert_eq!(breaker.choose(later, answer(1, 3)), OTHER);
        breaker.probed(later, Some((None, false)));
        assert_eq!(breaker.choose(later + 29 * SECOND, answer(1, 4)), OTHER);
        assert!(breaker.begin_probe(later + REST));
        breaker.probed(later + REST, None);
        assert_eq!(breaker.choose(later + REST, answer(1, 4)), OTHER, "not within an answer");
        assert_eq!(breaker.choose(later + REST, answer(1, 5)), Speaker::First);
    }

    #[test]
    fn who_asks_for_a_longer_rest_gets_it_and_a_fault_for_a_person_lasts() {
        let (mut breaker, now) = (Breaker::new(REST), Instant::now());
        breaker.failed(now, answer(1, 1), Some(60 * SECOND), false);
        assert!(!breaker.begin_probe(now + 59 * SECOND) && breaker.begin_probe(now + 60 * SECOND));
        breaker.probed(now, None);
        breaker.failed(now, answer(1, 1), Some(SECOND), false);
        assert!(!breaker.begin_probe(now + 29 * SECOND), "a rest is never shorter than ours");
        assert!(!breaker.failed(now, answer(1, 2), None, true), "it was known to be ill");
        breaker.failed(now, answer(1, 3), None, false);
        assert!(!breaker.begin_probe(now + 10_000 * SECOND));
    }

    #[test]
    fn the_memory_of_answers_is_bounded() {
        let (mut breaker, now) = (Breaker::new(REST), Instant::now());
        for n in 1..10_000 {
            breaker.choose(now, answer(n, 1));
        }
        assert_eq!(breaker.answers.len(), ANSWERS);
        breaker.choose(now, AnswerId::default());
        assert!(breaker.answers.iter().all(|(answer, _)| answer.call > 0));
    }
}
