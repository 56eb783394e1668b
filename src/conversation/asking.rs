//! From the caller's end to the answer: when it is asked for, when it may be heard, and what becomes of it.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Verdict};
use super::floor::Floor;
use super::interruption::PassedOver;
use super::ladder::Trouble;
use super::reciting::Afterwards;
use super::yielding::OVERLAP;
use super::{Command, Conversation, Ending, Exchange, Generation, Outcome};
use crate::timeline::TurnOutcome;

/// Requests of a turn that may leave before the soft end: a caller with many short pauses does not cost more.
const SPECULATIONS: u32 = 3;
/// The soft end may be measured a little otherwise than the probable end before it.
const SAME_END: Duration = Duration::from_millis(60);

impl Conversation {
    /// Whether an answer to the words of the caller that ended then is asked for, or was, and is not to be heard yet.
    pub fn expects_answer_to(&self, speech_end: Instant) -> bool {
        matches!(&self.floor, Floor::Answering(answer) if !answer.committed && speech_end <= answer.speech_end + SAME_END)
    }

    pub(super) fn probable_end(&mut self, now: Instant, speech_end: Instant) {
        if !self.is_meant(now, speech_end) || !self.limits.speculation || self.speculations >= SPECULATIONS {
            return;
        }
        let goes_on = match &self.floor {
            Floor::Listening => true,
            // The resumption was lost.
            Floor::Answering(answer) => !answer.committed && speech_end > answer.speech_end + SAME_END,
            // Something of ours that nobody has interrupted: the soft end decides.
            _ => false,
        };
        if goes_on {
            self.give_way(now, None);
            self.speculations += 1;
            self.generate(now, speech_end, true);
        }
    }

    pub(super) fn soft_end(&mut self, now: Instant, speech_end: Instant) {
        if !self.is_meant(now, speech_end) {
            return;
        }
        if let Floor::Answering(answer) = &mut self.floor
            && !answer.committed
            && speech_end <= answer.speech_end + if answer.speculative { SAME_END } else { Duration::ZERO }
            && !(answer.speculative && answer.has_failed())
        {
            answer.reported = now;
            return;
        }
        let asked_in_vain = matches!(&self.floor, Floor::Answering(answer) if answer.speculative && !answer.committed && answer.has_failed());
        if !asked_in_vain && self.floor.answered().is_some_and(|answered| speech_end <= answered) {
            return;
        }
        // The caller's start may have been lost on the way; while listening this does nothing.
        self.give_way(now, None);
        self.generate(now, speech_end, false);
    }

    pub(super) fn hard_end(&mut self, now: Instant) {
        if !self.was_meant(now) {
            return;
        }
        match &self.floor {
            // It was asked early, in vain: nothing of it was heard, so it may be asked once more.
            Floor::Answering(answer) if !answer.committed && answer.speculative && answer.has_failed() => {
                let speech_end = answer.speech_end;
                self.generate(now, speech_end, false);
            }
            Floor::Answering(answer) if !answer.committed => {}
            Floor::Answering(_) | Floor::Apologising { .. } => return,
            Floor::Goodbye { speech_end: Some(_), .. } => return,
            Floor::Listening => self.generate(now, now, false),
            _ => {
                self.give_way(now, None);
                self.generate(now, now, false);
            }
        }
        if let Floor::Answering(answer) = &mut self.floor {
            answer.commit(now);
            if answer.verdict() != Verdict::Nothing {
                self.commands.push_back(Command::Commit { generation: answer.generation });
            }
        }
        self.settle(now);
    }

    /// What was keyed in is a turn that has ended: whatever is said, asked or prepared gives way to it.
    pub(super) fn keys_entered(&mut self, now: Instant) {
        if matches!(self.floor, Floor::Messaging) {
            return;
        }
        self.interruption.settle();
        self.give_way(now, None);
        if matches!(self.floor, Floor::Listening) {
            self.generate(now, now, false);
            self.hard_end(now);
        }
    }

    /// Asks again in place of an answer that was asked for with other words, or of somebody who is gone, unless something of it may be heard already.
    /// `early`: as early as before, where that was before the soft end.
    pub(super) fn ask_again(&mut self, now: Instant, generation: Generation, early: bool) {
        if !matches!(&self.floor, Floor::Answering(answer)
            if answer.generation == generation && !(answer.committed && answer.is_said()))
        {
            return;
        }
        let Floor::Answering(answer) = mem::replace(&mut self.floor, Floor::Listening) else { return };
        self.cancel(&answer);
        self.generate(now, answer.speech_end, answer.speculative && early);
        if let (true, Floor::Answering(again)) = (answer.committed, &mut self.floor) {
            again.commit(now);
            self.commands.push_back(Command::Commit { generation: again.generation });
        }
    }

    fn generate(&mut self, now: Instant, speech_end: Instant, speculative: bool) {
        self.turn_open = true;
        self.silent_since = None;
        self.last_generation += 1;
        let generation = self.last_generation;
        let history: Arc<[Exchange]> = self.history.iter().cloned().collect();
        self.commands.push_back(Command::Generate { generation, turn: self.turn, speech_end, speculative, history });
        self.floor = Floor::Answering(Answer::new(generation, speech_end, speculative, now));
    }

    /// A piece to be spoken. `aside`: it is said on the way to an answer.
    pub(super) fn clause(&mut self, now: Instant, generation: Generation, text: String, aside: bool) {
        let longest = self.limits.longest_answer;
        let Some(answer) = self.current(generation) else { return };
        let comes_late = if aside { answer.has_ended() } else { !answer.text_arrived(now) };
        if comes_late || text.trim().is_empty() {
            return;
        }
        if answer.is_too_long(longest) {
            self.cut_model_off(now);
            return;
        }
        match answer.add_phrase(text.clone(), aside, now) {
            Some(seq) => self.commands.push_back(Command::Speak { generation, seq, text }),
            None => self.cut_model_off(now),
        }
    }

    /// Sound that a model made by itself.
    pub(super) fn sound(&mut self, now: Instant, generation: Generation, length: Duration) {
        let longest = self.limits.longest_answer;
        let Some(answer) = self.current(generation) else { return };
        if !answer.text_arrived(now) {
            return;
        }
        if answer.is_too_long(longest) {
            self.cut_model_off(now);
            return;
        }
        match answer.add_sound(length, now) {
            Some(None) => {}
            Some(Some(seq)) => self.commands.push_back(Command::Speak { generation, seq, text: String::new() }),
            None => self.cut_model_off(now),
        }
    }

    pub(super) fn phrase_reported(&mut self, now: Instant, generation: Generation, seq: u32, heard: Option<f32>) {
        if let Some(answer) = self.current(generation) {
            // Nothing of it can be heard before the commit; a phrase can fail before it.
            if answer.committed || heard.is_none() {
                answer.report(seq, heard, now);
                self.settle(now);
            }
        } else if let Some((turn, answer)) = self.cut_off.as_mut().filter(|(_, answer)| answer.generation == generation)
        {
            answer.report(seq, heard, now);
            if let Some(exchange) = self.history.iter_mut().rev().find(|exchange| exchange.turn == *turn) {
                exchange.heard = answer.heard();
                exchange.interrupted = !answer.was_heard_whole();
            }
        }
    }

    /// Ends the turn when its answer has come to an end.
    pub(super) fn settle(&mut self, now: Instant) {
        let Floor::Answering(answer) = &self.floor else { return };
        let speech_end = answer.speech_end;
        match answer.verdict() {
            Verdict::Open => {}
            Verdict::Said | Verdict::Nothing if answer.recital => {
                let then = answer.then.clone();
                self.recital_over();
                match then {
                    Some(then) => self.follow(now, then),
                    None => self.listen(now),
                }
            }
            Verdict::Nothing if matches!(answer.then, Some(Afterwards::HangUp(_))) => {
                self.say_goodbye(now, Some(speech_end), Ending::Goodbye);
            }
            Verdict::Nothing if answer.then.is_some() && answer.is_complete() => {
                let then = answer.then.clone();
                self.unanswered_turn_over();
                if let Some(then) = then {
                    self.follow(now, then);
                }
            }
            Verdict::Nothing => {
                let trouble = Trouble::of(answer.outcome());
                self.in_trouble(now, speech_end, true, trouble);
            }
            Verdict::Said => {
                let Floor::Answering(answer) = mem::replace(&mut self.floor, Floor::Listening) else { return };
                let outcome = match (answer.was_cut(), answer.is_complete()) {
                    (true, _) => TurnOutcome::Interrupted,
                    (false, true) => TurnOutcome::Answered,
                    (false, false) => TurnOutcome::Truncated,
                };
                let (interrupted, broken) = (answer.was_cut(), answer.breaks_a_promise());
                let then = answer.then.clone();
                if outcome != TurnOutcome::Truncated {
                    self.ladder.answered();
                }
                let answered = self.interruption.take_answer(now, |onset| answer.was_heard_for(onset) >= OVERLAP);
                self.remember(answer, interrupted);
                self.turn_over(outcome);
                match then.filter(|_| !interrupted) {
                    Some(then) => self.follow(now, then),
                    None if broken && answered.is_none() => {
                        self.commands.push_back(Command::Apologise);
                        self.floor = Floor::Apologising { since: now, speech_end, for_turn: false, then: None };
                    }
                    None => self.said(now, answered),
                }
            }
        }
    }

    /// We have said everything, and listen, unless the caller has `answered` into our last words.
    pub(super) fn said(&mut self, now: Instant, answered: Option<PassedOver>) {
        if self.time_is_up && answered.is_none() {
            self.in_trouble(now, now, false, Trouble::TimeIsUp);
            return;
        }
        self.listen(now);
        let Some(answered) = answered else { return };
        self.give_way(now, None);
        self.generate(now, answered.speech_end, false);
        if answered.is_over {
            self.hard_end(now);
        }
    }

    /// The model is not waited for any longer.
    pub(super) fn cut_model_off(&mut self, now: Instant) {
        let Floor::Answering(answer) = &mut self.floor else { return };
        let generation = answer.generation;
        if answer.is_answered() {
            answer.end(Outcome::Truncated, now);
            self.commands.push_back(Command::StopAsking { generation });
        } else {
            answer.end(Outcome::Failed, now);
            answer.abandon_queued();
            self.commands.push_back(Command::Cancel { generation });
        }
        self.settle(now);
    }

    pub(super) fn cancel(&mut self, answer: &Answer) {
        if answer.is_running() {
            self.commands.push_back(Command::Cancel { generation: answer.generation });
        }
    }

    /// Whether anything more follows is for whoever calls to see to.
    pub(super) fn apology_over(&mut self, now: Instant, for_turn: bool) {
        self.listen(now);
        if for_turn {
            self.unanswered_turn_over();
        }
    }

    /// The turn is over, and nothing of an answer to it was heard.
    pub(super) fn unanswered_turn_over(&mut self) {
        self.push_exchange(Exchange { turn: self.turn, heard: String::new(), interrupted: false });
        self.turn_over(TurnOutcome::Apologised);
    }
}
