//! The machine: what happened goes in, what to do comes out.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::answer::{Answer, PLAYOUT_PATIENCE};
use super::floor::{Floor, Hold, Phase, Timer};
use super::interruption::Interruption;
use super::{Command, Exchange, Generation, Input, Limits, Turn};
use crate::timeline::TurnOutcome;

/// How long after a probable end its confirmation may take; the longest that can be configured is 5 s, and a caller's pauses may stretch it.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// The dialogue of one call.
#[derive(Debug)]
pub struct Conversation {
    pub(super) limits: Limits,
    pub(super) floor: Floor,
    /// The caller's turn that is open, or comes next.
    pub(super) turn: Turn,
    /// Whether the caller was heard in this turn.
    pub(super) turn_open: bool,
    /// Requests of this turn that left before the soft end.
    pub(super) speculations: u32,
    pub(super) hold: Hold,
    pub(super) interruption: Interruption,
    /// From when on the caller's silence counts, while listening.
    pub(super) silent_since: Option<Instant>,
    /// Whether the caller was asked for a word since the last one.
    pub(super) prompted: bool,
    pub(super) last_generation: Generation,
    pub(super) history: VecDeque<Exchange>,
    /// The answer that the caller cut off last, for reports of its phrases that come after the cut.
    pub(super) cut_off: Option<(Turn, Answer)>,
    pub(super) commands: VecDeque<Command>,
}

impl Conversation {
    /// A conversation before its call is answered.
    pub fn new(limits: Limits) -> Self {
        Self {
            interruption: Interruption::new(limits.barge_in),
            limits,
            floor: Floor::Ringing,
            turn: 1,
            turn_open: false,
            speculations: 0,
            hold: Hold::None,
            silent_since: None,
            prompted: false,
            last_generation: 0,
            history: VecDeque::new(),
            cut_off: None,
            commands: VecDeque::new(),
        }
    }

    /// Who has the floor.
    pub fn phase(&self) -> Phase {
        self.floor.phase()
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
            Input::Answered => self.answered(now),
            Input::HungUp => self.hung_up(),
            Input::Held => self.held(now),
            Input::Retrieved => self.retrieved(now),
            Input::TransferFailed => self.transfer_failed(now),
            _ if matches!(self.floor, Floor::Ringing | Floor::HangingUp | Floor::Ended) => {}
            // The caller is not ours at present.
            _ if matches!(self.floor, Floor::Transferring) => {}
            Input::PersonWanted if self.hold != Hold::None => {}
            Input::PersonWanted => self.person_wanted(now),
            Input::GreetingEnded => {
                if matches!(self.floor, Floor::Greeting { .. }) {
                    let answered = self.interruption.take_answer(now, |_| true);
                    self.said(now, answered);
                }
            }
            // What the media thread told before it knew of the hold.
            Input::CallerStarted { .. } | Input::Resumed if self.hold != Hold::None => self.turn_open = true,
            Input::ProbableEnd { .. } | Input::SoftEnd { .. } if self.hold != Hold::None => {}
            Input::HardEnd if self.hold != Hold::None => self.hold = Hold::Answer,
            Input::CallerStarted { onset } => self.caller_started(now, onset),
            Input::Resumed => self.caller_resumed(now),
            Input::ProbableEnd { speech_end } => self.probable_end(now, speech_end),
            Input::SoftEnd { speech_end } => self.soft_end(now, speech_end),
            Input::HardEnd => self.hard_end(now),
            Input::HeardOtherwise { generation } => self.heard_otherwise(now, generation),
            Input::KeyPressed => self.key_pressed(now),
            Input::Token { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.text_arrived(now);
                }
            }
            Input::Clause { generation, text } => self.clause(now, generation, text),
            Input::EndCallWanted { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.ends_call = true;
                }
            }
            Input::GenerationEnded { generation, outcome } => {
                if let Some(answer) = self.current(generation) {
                    answer.end(outcome, now);
                    self.settle(now);
                }
            }
            Input::AnswerStarted { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.sounds(now);
                }
            }
            Input::PhraseHeard { generation, seq, share } => self.phrase_reported(now, generation, seq, Some(share)),
            Input::PhraseFailed { generation, seq } => self.phrase_reported(now, generation, seq, None),
            Input::ApologyEnded => {
                if let Floor::Apologising { for_turn, .. } = self.floor {
                    self.apology_over(now, for_turn);
                }
            }
            Input::PromptEnded => {
                if matches!(self.floor, Floor::Prompting { .. }) {
                    self.listen(now);
                }
            }
            Input::GoodbyeEnded => self.goodbye_over(now),
        }
    }

    /// The next thing to do; drain until `None` after each input and timeout.
    pub fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next deadline and what it is for. It changes with every input and timeout.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let barge_in = self.interruption.deadline().map(|at| (at, Timer::BargeIn));
        let heard_out = |since: &Instant| since.checked_add(PLAYOUT_PATIENCE).map(|at| (at, Timer::Playout));
        let floor = match &self.floor {
            Floor::Answering(answer) => answer.deadline(&self.limits).or_else(|| {
                let unsure = Some(answer.reported).filter(|_| !answer.committed);
                unsure.and_then(|since| since.checked_add(COMMIT_PATIENCE)).map(|at| (at, Timer::Commit))
            }),
            Floor::Greeting { since }
            | Floor::Apologising { since, .. }
            | Floor::Prompting { since }
            | Floor::Goodbye { since, .. } => heard_out(since),
            // Whether it is silence is in doubt.
            Floor::Listening | Floor::Leaving { .. } if barge_in.is_some() => None,
            Floor::Listening => self.silence_is_too_long().map(|at| (at, Timer::Silence)),
            Floor::Leaving { at, .. } => Some((*at, Timer::LastWord)),
            Floor::Ringing | Floor::HangingUp | Floor::Transferring | Floor::Ended => None,
        };
        barge_in.into_iter().chain(floor).min_by_key(|(at, _)| *at)
    }

    /// Does what is due at `now`; a call too many is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((_, timer)) = self.poll_timeout().filter(|(at, _)| *at <= now) else { return };
        match (&mut self.floor, timer) {
            (_, Timer::BargeIn) => self.barged_in(now),
            (_, Timer::Silence) => self.silence(now),
            (_, Timer::LastWord) => self.leave(),
            (_, Timer::Commit) => self.hard_end(now),
            (Floor::Answering(answer), Timer::Playout) => {
                answer.abandon_queued();
                let generation = answer.generation;
                self.commands.extend([Command::Cancel { generation }, Command::FlushPlayout]);
                self.settle(now);
            }
            (Floor::Answering(_), _) => self.cut_model_off(now),
            (floor, Timer::Playout) => {
                let apology = if let Floor::Apologising { for_turn, .. } = floor { Some(*for_turn) } else { None };
                self.commands.push_back(Command::FlushPlayout);
                match (apology, &self.floor) {
                    (Some(for_turn), _) => self.apology_over(now, for_turn),
                    (None, Floor::Goodbye { .. }) => self.goodbye_over(now),
                    (None, _) => self.listen(now),
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant) {
        if !matches!(self.floor, Floor::Ringing) {
            return;
        }
        match (self.limits.greeting, self.hold) {
            (true, Hold::None) => {
                self.floor = Floor::Greeting { since: now };
                self.commands.push_back(Command::Greet);
            }
            (true, _) => {
                self.listen(now);
                self.hold = Hold::Greet;
            }
            (false, _) => self.listen(now),
        }
        self.arm_placeholder();
    }

    fn held(&mut self, now: Instant) {
        if self.hold != Hold::None || matches!(self.floor, Floor::HangingUp | Floor::Ended) {
            return;
        }
        // Its end, soft or hard, was heard, or else the media thread will tell of it after the hold.
        let unanswered = matches!(&self.floor, Floor::Answering(answer) if answer.committed && !answer.is_said());
        if !matches!(self.floor, Floor::Ringing | Floor::Listening | Floor::Transferring) {
            self.fall_silent(now);
        }
        self.interruption.settle();
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
            _ if matches!(self.floor, Floor::Ringing | Floor::Transferring | Floor::HangingUp | Floor::Ended) => {}
            Hold::None => {}
            // A caller who was heard before is heard again when going on, or has ended soon.
            Hold::Held if self.turn_open => {}
            Hold::Held => self.listen(now),
            Hold::Greet => {
                self.floor = Floor::Greeting { since: now };
                self.commands.push_back(Command::Greet);
            }
            Hold::Answer => self.hard_end(now),
        }
    }

    fn person_wanted(&mut self, now: Instant) {
        let Some(to) = self.limits.transfer_to.clone() else { return };
        self.fall_silent(now);
        self.interruption.settle();
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
            self.listen(now);
        }
    }

    fn hung_up(&mut self) {
        self.interruption.settle();
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
    pub(super) fn turn_over(&mut self, outcome: TurnOutcome) {
        self.commands.push_back(Command::TurnEnded { turn: self.turn, outcome });
        self.turn += 1;
        self.turn_open = false;
        self.speculations = 0;
        self.arm_placeholder();
    }

    pub(super) fn arm_placeholder(&mut self) {
        if self.limits.placeholder {
            self.commands.push_back(Command::ArmPlaceholder { turn: self.turn });
        }
    }

    /// Writes the turn's answer into the history, as far as it was heard.
    pub(super) fn remember(&mut self, answer: Answer, interrupted: bool) {
        self.push_exchange(Exchange { turn: self.turn, heard: answer.heard(), interrupted });
        self.cut_off = interrupted.then_some((self.turn, answer));
    }

    pub(super) fn push_exchange(&mut self, exchange: Exchange) {
        self.history.push_back(exchange);
        while self.history.len() > self.limits.history_exchanges {
            self.history.pop_front();
        }
    }

    /// The answer that is wanted, if `generation` names it.
    pub(super) fn current(&mut self, generation: Generation) -> Option<&mut Answer> {
        match &mut self.floor {
            Floor::Answering(answer) if answer.generation == generation => Some(answer),
            _ => None,
        }
    }
}
