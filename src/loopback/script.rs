//! When each question of a file is said, and when the caller hangs up: a machine that follows the conversation, asked every few ptimes.

use std::time::{Duration, Instant};

use crate::conversation::Phase;

/// The floor must be the caller's for so long before a question, or before he hangs up.
const PAUSE: Duration = Duration::from_millis(700);
/// A question that has left the conversation where it was for so long is not answered any more: longer than any end of a turn takes.
const UNHEARD: Duration = Duration::from_secs(5);
/// Nobody waits longer than this for anything: longer than the ladder of apologies takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Says the question of this number, from 0.
    Say(usize),
    /// Hangs up.
    HangUp,
}

/// The machine.
#[derive(Debug)]
pub struct Script {
    questions: usize,
    asked: usize,
    over: bool,
    /// Since when it is waited for what is next.
    waits: Instant,
    /// Since when the floor is the caller's.
    floor: Option<Instant>,
    /// Something came of the last question.
    heard: bool,
}

impl Script {
    /// Of a call that begins at `now`, with so many questions.
    pub fn new(now: Instant, questions: usize) -> Self {
        Self { questions, asked: 0, over: false, waits: now, floor: None, heard: true }
    }

    /// What to do at `now`, when the conversation is in this phase and so many questions were said to their end.
    pub fn poll(&mut self, now: Instant, phase: Phase, said: usize) -> Option<Step> {
        if self.over {
            return None;
        }
        if said < self.asked {
            // Still speaking.
            (self.waits, self.floor) = (now, None);
            self.heard |= phase != Phase::Listening;
            return None;
        }
        if phase == Phase::Listening {
            self.floor.get_or_insert(now);
        } else {
            (self.floor, self.heard) = (None, true);
        }
        let quiet = self.floor.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let is_due = quiet >= if self.heard { PAUSE } else { UNHEARD };
        let is_late = now.saturating_duration_since(self.waits) >= PATIENCE;
        if !is_due && !is_late && phase != Phase::Ended {
            return None;
        }
        if self.asked < self.questions && is_due {
            self.asked += 1;
            (self.floor, self.heard) = (None, false);
            return Some(Step::Say(self.asked - 1));
        }
        self.over = true;
        Some(Step::HangUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each step is taken, in milliseconds, if each question takes two seconds to say and the phases change at these times.
    fn play(questions: usize, phases: &[(u64, Phase)]) -> Vec<(u64, Step)> {
        let start = Instant::now();
        let mut script = Script::new(start, questions);
        let (mut steps, mut ends) = (Vec::new(), Vec::new());
        for ms in (0..200_000).step_by(50) {
            let phase = phases.iter().rev().find(|(at, _)| *at <= ms).map_or(Phase::Ringing, |(_, phase)| *phase);
            let said = ends.iter().filter(|end| **end <= ms).count();
            if let Some(step) = script.poll(start + Duration::from_millis(ms), phase, said) {
                steps.push((ms, step));
                if step != Step::HangUp {
                    ends.push(ms + 2000);
                }
            }
        }
        steps
    }

    #[test]
    fn each_question_waits_for_the_greeting_and_the_answer_before_it_and_then_the_caller_hangs_up() {
        use Phase::{Greeting, Listening, Speaking, Thinking};
        let phases = [
            (0, Greeting),
            (3000, Listening),
            (6000, Thinking),
            (6500, Speaking),
            (9000, Listening),
            (12_000, Thinking),
            (14_000, Speaking),
            (15_000, Listening),
        ];
        let steps = play(2, &phases);
        assert_eq!(steps, [(3700, Step::Say(0)), (9700, Step::Say(1)), (15_700, Step::HangUp)]);
    }

    #[test]
    fn a_question_that_was_answered_within_its_own_silence_is_over_and_one_that_nobody_hears_is_given_up() {
        use Phase::{Listening, Thinking};
        let steps = play(1, &[(0, Listening), (1500, Thinking), (2500, Listening)]);
        assert_eq!(steps, [(700, Step::Say(0)), (3400, Step::HangUp)]);
        assert_eq!(play(1, &[(0, Listening)]), [(700, Step::Say(0)), (7700, Step::HangUp)]);
    }

    #[test]
    fn nothing_is_waited_for_for_ever() {
        assert_eq!(play(1, &[(0, Phase::Greeting)]), [(60_000, Step::HangUp)]);
        assert_eq!(play(2, &[(0, Phase::Listening), (1000, Phase::Thinking)])[1].1, Step::HangUp);
        assert_eq!(play(2, &[(0, Phase::Listening), (1000, Phase::Ended)]).len(), 2);
    }
}
