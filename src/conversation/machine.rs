//! The machine: what happened goes in, what to do comes out.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::answer::{Answer, PLAYOUT_PATIENCE, Verdict};
use super::{Command, Exchange, Generation, Input, Limits, Outcome, Turn};
use crate::timeline::TurnOutcome;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The model has sent nothing yet.
    FirstToken,
    /// The model fell silent within its answer.
    BetweenTokens,
    /// The answer takes too long as a whole.
    WholeAnswer,
    /// Something was queued and its end was never reported.
    Playout,
}

/// Who has the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The call is not up.
    Ringing,
    /// The greeting plays.
    Greeting,
    /// The caller's floor, speaking or not.
    Listening,
    /// An answer was asked for, and none of it is queued or it is not committed.
    Thinking,
    /// A committed answer is heard, or about to be.
    Speaking,
    /// The apology plays.
    Apologising,
    /// The caller is being handed over.
    Transferring,
    /// The call is over.
    Ended,
}

#[derive(Debug)]
enum Floor {
    Ringing,
    Greeting,
    Listening,
    Answering(Answer),
    /// `for_turn`: the caller has asked something; otherwise the transfer has failed.
    Apologising {
        since: Instant,
        speech_end: Instant,
        for_turn: bool,
    },
    Transferring,
    Ended,
}

/// Whether the call is on hold, and what is due when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    None,
    Held,
    /// The greeting.
    Greet,
    /// An answer to what the caller said before.
    Answer,
}

/// The dialogue of one call.
#[derive(Debug)]
pub struct Conversation {
    limits: Limits,
    floor: Floor,
    /// The caller's turn that is open, or comes next.
    turn: Turn,
    /// Whether the caller was heard in this turn.
    turn_open: bool,
    hold: Hold,
    last_generation: Generation,
    history: VecDeque<Exchange>,
    /// The answer that the caller cut off last, for reports of its phrases that come after the cut.
    cut_off: Option<(Turn, Answer)>,
    commands: VecDeque<Command>,
}

impl Conversation {
    /// A conversation before its call is answered.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            floor: Floor::Ringing,
            turn: 1,
            turn_open: false,
            hold: Hold::None,
            last_generation: 0,
            history: VecDeque::new(),
            cut_off: None,
            commands: VecDeque::new(),
        }
    }

    /// Who has the floor.
    pub fn phase(&self) -> Phase {
        match &self.floor {
            Floor::Ringing => Phase::Ringing,
            Floor::Greeting => Phase::Greeting,
            Floor::Listening => Phase::Listening,
            Floor::Answering(answer) if answer.committed && answer.is_said() => Phase::Speaking,
            Floor::Answering(_) => Phase::Thinking,
            Floor::Apologising { .. } => Phase::Apologising,
            Floor::Transferring => Phase::Transferring,
            Floor::Ended => Phase::Ended,
        }
    }

    /// The caller's turn that is open, or comes next.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// What is remembered of the turns that are over, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Exchange> {
        self.history.iter()
    }

    /// Takes what happened. What belongs to a cancelled answer, or comes after the call's end, is ignored.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Answered => self.answered(),
            Input::HungUp => self.hung_up(),
            Input::Held => self.held(),
            Input::Retrieved => self.retrieved(now),
            Input::TransferFailed => self.transfer_failed(now),
            _ if matches!(self.floor, Floor::Ringing | Floor::Ended) => {}
            // The caller is not ours at present.
            _ if matches!(self.floor, Floor::Transferring) => {}
            Input::PersonWanted if self.hold != Hold::None => {}
            Input::PersonWanted => self.person_wanted(),
            Input::GreetingEnded => {
                if matches!(self.floor, Floor::Greeting) {
                    self.floor = Floor::Listening;
                }
            }
            // What the media thread told before it knew of the hold.
            Input::CallerStarted | Input::Resumed if self.hold != Hold::None => self.turn_open = true,
            Input::SoftEnd { .. } if self.hold != Hold::None => {}
            Input::HardEnd if self.hold != Hold::None => self.hold = Hold::Answer,
            Input::CallerStarted | Input::Resumed => self.caller_speaks(),
            Input::SoftEnd { speech_end } => self.soft_end(now, speech_end),
            Input::HardEnd => self.hard_end(now),
            Input::Token { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.text_arrived(now);
                }
            }
            Input::Clause { generation, text } => self.clause(now, generation, text),
            Input::GenerationEnded { generation, outcome } => {
                if let Some(answer) = self.current(generation) {
                    answer.end(outcome, now);
                    self.settle(now);
                }
            }
            Input::PhraseHeard { generation, seq, share } => self.phrase_reported(now, generation, seq, Some(share)),
            Input::PhraseFailed { generation, seq } => self.phrase_reported(now, generation, seq, None),
            Input::ApologyEnded => {
                if let Floor::Apologising { for_turn, .. } = self.floor {
                    self.apology_over(for_turn);
                }
            }
        }
    }

    /// The next thing to do; drain until `None` after each input and timeout.
    pub fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next deadline and what it is for. It changes with every input and timeout.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        match &self.floor {
            Floor::Answering(answer) => answer.deadline(&self.limits),
            Floor::Apologising { since, .. } => since.checked_add(PLAYOUT_PATIENCE).map(|at| (at, Timer::Playout)),
            _ => None,
        }
    }

    /// Does what is due at `now`; a call too many is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((_, timer)) = self.poll_timeout().filter(|(at, _)| *at <= now) else { return };
        match (&mut self.floor, timer) {
            (Floor::Answering(answer), Timer::Playout) => {
                answer.abandon_queued();
                let generation = answer.generation;
                self.commands.extend([Command::Cancel { generation }, Command::FlushPlayout]);
                self.settle(now);
            }
            (Floor::Answering(_), _) => self.cut_model_off(now),
            (Floor::Apologising { for_turn, .. }, _) => {
                let for_turn = *for_turn;
                self.commands.push_back(Command::FlushPlayout);
                self.apology_over(for_turn);
            }
            _ => {}
        }
    }

    fn answered(&mut self) {
        if !matches!(self.floor, Floor::Ringing) {
            return;
        }
        match (self.limits.greeting, self.hold) {
            (true, Hold::None) => {
                self.floor = Floor::Greeting;
                self.commands.push_back(Command::Greet);
            }
            (true, _) => {
                self.floor = Floor::Listening;
                self.hold = Hold::Greet;
            }
            (false, _) => self.floor = Floor::Listening,
        }
        self.arm_placeholder();
    }

    fn held(&mut self) {
        if self.hold != Hold::None || matches!(self.floor, Floor::Ended) {
            return;
        }
        // Its end, soft or hard, was heard, or else the media thread will tell of it after the hold.
        let unanswered = matches!(&self.floor, Floor::Answering(answer) if answer.committed && !answer.is_said());
        let was_open = self.turn_open;
        if !matches!(self.floor, Floor::Ringing | Floor::Listening | Floor::Transferring) {
            let turn = self.turn;
            self.caller_speaks();
            // Nobody has spoken: a turn that this has begun has not.
            self.turn_open = was_open && self.turn == turn;
        }
        self.hold = if unanswered { Hold::Answer } else { Hold::Held };
        // Silencing the playout may have spent the one that was armed.
        if !matches!(self.floor, Floor::Ringing | Floor::Transferring)
            && !matches!(self.commands.back(), Some(Command::ArmPlaceholder { .. }))
        {
            self.arm_placeholder();
        }
    }

    fn retrieved(&mut self, now: Instant) {
        match mem::replace(&mut self.hold, Hold::None) {
            _ if matches!(self.floor, Floor::Ringing | Floor::Transferring | Floor::Ended) => {}
            Hold::None | Hold::Held => {}
            Hold::Greet => {
                self.floor = Floor::Greeting;
                self.commands.push_back(Command::Greet);
            }
            Hold::Answer => self.hard_end(now),
        }
    }

    /// The caller begins, or goes on: whatever is said or prepared gives way.
    fn caller_speaks(&mut self) {
        self.turn_open = true;
        match mem::replace(&mut self.floor, Floor::Listening) {
            Floor::Greeting => self.commands.push_back(Command::FlushPlayout),
            Floor::Answering(answer) if answer.committed && answer.is_said() => {
                self.commands.push_back(Command::FlushPlayout);
                self.cancel(&answer);
                self.remember(answer, true);
                self.turn_over(TurnOutcome::Interrupted);
                self.turn_open = true;
            }
            // Nothing was heard: what the caller adds belongs to the same turn, and the wait after it needs its own placeholder.
            Floor::Answering(answer) if answer.committed => {
                self.commands.push_back(Command::FlushPlayout);
                self.cancel(&answer);
                self.arm_placeholder();
            }
            // The media thread has taken its placeholder back by itself.
            Floor::Answering(answer) => self.cancel(&answer),
            Floor::Apologising { for_turn, .. } => {
                self.commands.push_back(Command::FlushPlayout);
                self.apology_over(for_turn);
                self.turn_open = true;
            }
            floor @ (Floor::Listening | Floor::Ringing | Floor::Transferring | Floor::Ended) => self.floor = floor,
        }
    }

    fn soft_end(&mut self, now: Instant, speech_end: Instant) {
        let answered = match &self.floor {
            Floor::Answering(answer) => Some(answer.speech_end),
            Floor::Apologising { speech_end, .. } => Some(*speech_end),
            _ => None,
        };
        if answered.is_some_and(|answered| speech_end <= answered) {
            return;
        }
        // The caller's start may have been lost on the way; while listening this does nothing.
        self.caller_speaks();
        self.generate(now, speech_end);
    }

    fn hard_end(&mut self, now: Instant) {
        match &self.floor {
            Floor::Answering(answer) if !answer.committed => {}
            Floor::Answering(_) | Floor::Apologising { .. } => return,
            Floor::Listening => self.generate(now, now),
            _ => {
                self.caller_speaks();
                self.generate(now, now);
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

    fn generate(&mut self, now: Instant, speech_end: Instant) {
        self.turn_open = true;
        self.last_generation += 1;
        let generation = self.last_generation;
        let history: Arc<[Exchange]> = self.history.iter().cloned().collect();
        self.commands.push_back(Command::Generate { generation, turn: self.turn, history });
        self.floor = Floor::Answering(Answer::new(generation, speech_end, now));
    }

    fn clause(&mut self, now: Instant, generation: Generation, text: String) {
        let Some(answer) = self.current(generation) else { return };
        if !answer.text_arrived(now) || text.trim().is_empty() {
            return;
        }
        match answer.add_phrase(text.clone()) {
            Some(seq) => self.commands.push_back(Command::Speak { generation, seq, text }),
            None => self.cut_model_off(now),
        }
    }

    fn phrase_reported(&mut self, now: Instant, generation: Generation, seq: u32, heard: Option<f32>) {
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
    fn settle(&mut self, now: Instant) {
        let Floor::Answering(answer) = &self.floor else { return };
        let speech_end = answer.speech_end;
        match answer.verdict() {
            Verdict::Open => {}
            Verdict::Nothing => {
                self.commands.push_back(Command::Apologise);
                self.floor = Floor::Apologising { since: now, speech_end, for_turn: true };
            }
            Verdict::Said => {
                let Floor::Answering(answer) = mem::replace(&mut self.floor, Floor::Listening) else { return };
                let outcome = match (answer.was_cut(), answer.is_complete()) {
                    (true, _) => TurnOutcome::Interrupted,
                    (false, true) => TurnOutcome::Answered,
                    (false, false) => TurnOutcome::Truncated,
                };
                let interrupted = answer.was_cut();
                self.remember(answer, interrupted);
                self.turn_over(outcome);
            }
        }
    }

    /// The model is not waited for any longer.
    fn cut_model_off(&mut self, now: Instant) {
        let Floor::Answering(answer) = &mut self.floor else { return };
        let generation = answer.generation;
        if answer.is_said() {
            answer.end(Outcome::Truncated, now);
            self.commands.push_back(Command::StopAsking { generation });
        } else {
            answer.end(Outcome::Failed, now);
            self.commands.push_back(Command::Cancel { generation });
        }
        self.settle(now);
    }

    fn apology_over(&mut self, for_turn: bool) {
        self.floor = Floor::Listening;
        if !for_turn {
            return;
        }
        self.push_exchange(Exchange { turn: self.turn, heard: String::new(), interrupted: false });
        self.turn_over(TurnOutcome::Apologised);
    }

    fn person_wanted(&mut self) {
        let Some(to) = self.limits.transfer_to.clone() else { return };
        let (was_open, turn) = (self.turn_open, self.turn);
        self.caller_speaks();
        // Nobody has spoken: a turn that this has begun has not.
        self.turn_open = was_open && self.turn == turn;
        if self.limits.placeholder {
            self.commands.push_back(Command::DisarmPlaceholder);
        }
        self.floor = Floor::Transferring;
        self.commands.push_back(Command::Transfer { to });
    }

    fn transfer_failed(&mut self, now: Instant) {
        if !matches!(self.floor, Floor::Transferring) {
            return;
        }
        self.arm_placeholder();
        if self.hold == Hold::None {
            self.commands.push_back(Command::Apologise);
            self.floor = Floor::Apologising { since: now, speech_end: now, for_turn: false };
        } else {
            self.floor = Floor::Listening;
        }
    }

    fn hung_up(&mut self) {
        match mem::replace(&mut self.floor, Floor::Ended) {
            Floor::Ended => return,
            Floor::Answering(answer) => {
                self.cancel(&answer);
                if answer.committed && answer.is_said() {
                    self.remember(answer, true);
                }
            }
            _ => {}
        }
        self.commands.push_back(Command::FlushPlayout);
        if self.limits.placeholder {
            self.commands.push_back(Command::DisarmPlaceholder);
        }
        if mem::take(&mut self.turn_open) {
            self.commands.push_back(Command::TurnEnded { turn: self.turn, outcome: TurnOutcome::HungUp });
        }
    }

    /// Reports the turn and goes on to the next.
    fn turn_over(&mut self, outcome: TurnOutcome) {
        self.commands.push_back(Command::TurnEnded { turn: self.turn, outcome });
        self.turn += 1;
        self.turn_open = false;
        self.arm_placeholder();
    }

    fn arm_placeholder(&mut self) {
        if self.limits.placeholder {
            self.commands.push_back(Command::ArmPlaceholder { turn: self.turn });
        }
    }

    fn cancel(&mut self, answer: &Answer) {
        if answer.is_running() {
            self.commands.push_back(Command::Cancel { generation: answer.generation });
        }
    }

    /// Writes the turn's answer into the history, as far as it was heard.
    fn remember(&mut self, answer: Answer, interrupted: bool) {
        self.push_exchange(Exchange { turn: self.turn, heard: answer.heard(), interrupted });
        self.cut_off = interrupted.then_some((self.turn, answer));
    }

    fn push_exchange(&mut self, exchange: Exchange) {
        self.history.push_back(exchange);
        while self.history.len() > self.limits.history_exchanges {
            self.history.pop_front();
        }
    }

    /// The answer that is wanted, if `generation` names it.
    fn current(&mut self, generation: Generation) -> Option<&mut Answer> {
        match &mut self.floor {
            Floor::Answering(answer) if answer.generation == generation => Some(answer),
            _ => None,
        }
    }
}
