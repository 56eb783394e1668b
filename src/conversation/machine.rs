//! The machine: what happened goes in, what to do comes out.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::answer::{Answer, PLAYOUT_PATIENCE};
use super::floor::{Floor, Hold, Phase, Timer};
use super::interruption::Interruption;
use super::ladder::{Ladder, Trouble};
use super::reciting::{Afterwards, OVERTIME};
use super::{Command, Ending, Exchange, Generation, Input, Limits, Outcome, Remedy, Turn};
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
    pub(super) ladder: Ladder,
    /// When the call is too long.
    too_long_at: Option<Instant>,
    /// It has lasted as long as it may.
    pub(super) time_is_up: bool,
    /// We take our leave, whatever the caller says.
    pub(super) parting: bool,
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
            ladder: Ladder::default(),
            too_long_at: None,
            time_is_up: false,
            parting: false,
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

    /// Whether a sound of the caller's is heard of which it is not known yet whether it is meant.
    pub fn is_in_doubt(&self) -> bool {
        self.interruption.deadline().is_some()
    }

    /// From now on an answer is asked for early, or not.
    pub fn speculate(&mut self, early: bool) {
        self.limits.speculation = early;
    }

    /// Takes what happened. What belongs to a cancelled answer, or comes after the call's end, is ignored.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Answered => self.answered(now),
            Input::HungUp => self.hung_up(),
            Input::MessageTaken => self.message_taken(now),
            _ if matches!(self.floor, Floor::Messaging) => {}
            Input::Held => self.held(now),
            Input::Retrieved => self.retrieved(now),
            Input::TransferFailed => self.transfer_failed(now),
            _ if matches!(self.floor, Floor::Ringing | Floor::HangingUp | Floor::Ended) => {}
            // The caller is not ours at present.
            _ if matches!(self.floor, Floor::Transferring { .. }) => {}
            Input::PersonWanted if self.hold != Hold::None => {}
            Input::PersonWanted => self.person_wanted(now),
            Input::GreetingEnded => {
                if matches!(self.floor, Floor::Greeting { .. }) && self.limits.messages_only {
                    self.ask_for_message(now);
                } else if matches!(self.floor, Floor::Greeting { .. }) {
                    let answered = self.interruption.take_answer(now, |_| true);
                    self.said(now, answered);
                }
            }
            // What the media thread told before it knew of the hold.
            Input::CallerStarted { .. } | Input::Resumed if self.hold != Hold::None => self.turn_open = true,
            Input::ProbableEnd { .. } | Input::SoftEnd { .. } if self.hold != Hold::None => {}
            Input::HardEnd if self.hold != Hold::None => self.hold = Hold::Answer,
            Input::CallerStarted { .. } if self.recital_is_cut(now) => {}
            Input::CallerStarted { .. } if self.parting => self.commands.push_back(Command::ResumePlayout),
            _ if self.parting && input.is_of_caller() => {}
            Input::CallerStarted { onset } => self.caller_started(now, onset),
            Input::Resumed => self.caller_resumed(now),
            Input::ProbableEnd { speech_end } => self.probable_end(now, speech_end),
            Input::SoftEnd { speech_end } => self.soft_end(now, speech_end),
            Input::HardEnd => self.hard_end(now),
            Input::HeardOtherwise { generation } => self.ask_again(now, generation, true),
            Input::AnswererLost { generation } => self.ask_again(now, generation, false),
            Input::KeyPressed => self.key_pressed(now),
            Input::KeysEntered if self.hold != Hold::None => {}
            Input::KeysEntered => self.keys_entered(now),
            Input::Token { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.text_arrived(now);
                }
            }
            Input::Clause { generation, text } => self.clause(now, generation, text, false),
            Input::Aside { generation, text } => self.clause(now, generation, text, true),
            Input::Sound { generation, length } => self.sound(now, generation, length),
            Input::Said { generation, text } => {
                if let Some(answer) = self.current(generation) {
                    answer.said(&text);
                }
            }
            Input::EndCallWanted { generation } => self.wanted(generation, Afterwards::HangUp(Ending::Goodbye)),
            Input::TransferWanted { generation, to } => self.wanted(generation, Afterwards::Transfer(to)),
            Input::MessageWanted { generation } if self.limits.voicemail => {
                self.wanted(generation, Afterwards::Remedy(Remedy::Voicemail));
            }
            Input::MessageWanted { .. } => {}
            Input::ToolsRun { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.tools_run(now);
                }
            }
            Input::ToolsDone { generation } => {
                if let Some(answer) = self.current(generation) {
                    answer.tools_done(now);
                }
            }
            Input::BridgeStarted | Input::BridgeEnded => {
                if let Floor::Answering(answer) = &mut self.floor {
                    answer.bridge(now, input == Input::BridgeStarted);
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
                self.apologised(now);
            }
            Input::PromptEnded => {
                if matches!(self.floor, Floor::Prompting { .. }) {
                    self.said(now, None);
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
            Floor::Ringing | Floor::HangingUp | Floor::Transferring { .. } | Floor::Messaging | Floor::Ended => None,
        };
        let too_long = self.is_too_long().map(|at| (at, Timer::LongestCall));
        barge_in.into_iter().chain(floor).chain(too_long).min_by_key(|(at, _)| *at)
    }

    /// Does what is due at `now`; a call too many is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((_, timer)) = self.poll_timeout().filter(|(at, _)| *at <= now) else { return };
        match (&mut self.floor, timer) {
            (_, Timer::BargeIn) => self.barged_in(now),
            (_, Timer::Silence) => self.silence(now),
            (_, Timer::LastWord) => self.leave(),
            (_, Timer::Commit) => self.hard_end(now),
            (_, Timer::LongestCall) => self.time_is_up(now),
            (Floor::Answering(answer), Timer::Quiet) => {
                answer.promise(now);
                self.commands.push_back(Command::Bridge);
            }
            (Floor::Answering(answer), Timer::FirstSound) => {
                answer.end(Outcome::Failed, now);
                answer.abandon_queued();
                let generation = answer.generation;
                self.commands.extend([Command::Cancel { generation }, Command::FlushPlayout]);
                self.settle(now);
            }
            (Floor::Answering(answer), Timer::Playout) => {
                answer.abandon_queued();
                let generation = answer.generation;
                self.commands.extend([Command::Cancel { generation }, Command::FlushPlayout]);
                self.settle(now);
            }
            (Floor::Answering(_), _) => self.cut_model_off(now),
            (floor, Timer::Playout) => {
                let (apology, goodbye) =
                    (matches!(floor, Floor::Apologising { .. }), matches!(floor, Floor::Goodbye { .. }));
                self.commands.push_back(Command::FlushPlayout);
                match (apology, goodbye) {
                    (true, _) => self.apologised(now),
                    (_, true) => self.goodbye_over(now),
                    _ if self.limits.messages_only => self.ask_for_message(now),
                    _ => self.listen(now),
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant) {
        if !matches!(self.floor, Floor::Ringing) {
            return;
        }
        self.too_long_at =
            Some(self.limits.longest_call).filter(|longest| !longest.is_zero()).and_then(|l| now.checked_add(l));
        if self.limits.messages_only {
            // Whoever speaks into the greeting hears the rest of it.
            self.parting = true;
            match self.limits.greeting {
                true => {
                    self.floor = Floor::Greeting { since: now };
                    self.commands.push_back(Command::Greet);
                }
                false => self.ask_for_message(now),
            }
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
        let unanswered = matches!(&self.floor, Floor::Answering(answer)
            if answer.committed && !answer.recital && !answer.is_said());
        if !matches!(self.floor, Floor::Ringing | Floor::Listening | Floor::Transferring { .. }) {
            self.fall_silent(now);
        }
        self.interruption.settle();
        self.hold = if unanswered { Hold::Answer } else { Hold::Held };
        // Silencing the playout may have spent the one that was armed.
        if !matches!(self.floor, Floor::Ringing | Floor::Transferring { .. })
            && !matches!(self.commands.back(), Some(Command::ArmPlaceholder { .. }))
        {
            self.arm_placeholder();
        }
    }

    fn retrieved(&mut self, now: Instant) {
        match mem::replace(&mut self.hold, Hold::None) {
            _ if matches!(
                self.floor,
                Floor::Ringing | Floor::Transferring { .. } | Floor::HangingUp | Floor::Ended
            ) => {}
            Hold::None => {}
            // A caller who was heard before is heard again when going on, or has ended soon.
            Hold::Held if self.turn_open => {}
            Hold::Held => self.said(now, None),
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
        self.hand_over(to, false);
    }

    /// What the model wants to follow upon its answer. The first wish counts.
    fn wanted(&mut self, generation: Generation, then: Afterwards) {
        if let Some(answer) = self.current(generation) {
            answer.then.get_or_insert(then);
        }
    }

    /// When the call is to end for its length; a machine that takes messages, and a person, have their own limits.
    fn is_too_long(&self) -> Option<Instant> {
        let at = self.too_long_at?;
        match (&self.floor, self.time_is_up) {
            (Floor::Ringing | Floor::HangingUp | Floor::Transferring { .. } | Floor::Messaging | Floor::Ended, _) => {
                None
            }
            (_, false) => Some(at),
            (_, true) => at.checked_add(OVERTIME),
        }
    }

    fn apologised(&mut self, now: Instant) {
        let Floor::Apologising { for_turn, then, .. } = self.floor else { return };
        self.apology_over(now, for_turn);
        match then {
            Some(remedy) => self.remedy(now, remedy),
            None if self.time_is_up => self.in_trouble(now, now, false, Trouble::TimeIsUp),
            None => {}
        }
    }

    fn transfer_failed(&mut self, now: Instant) {
        let Floor::Transferring { helping } = self.floor else { return };
        self.arm_placeholder();
        if self.hold == Hold::None {
            let then = if helping { self.ladder.step(Trouble::NobodyThere, &self.limits) } else { None };
            self.commands.push_back(Command::Apologise);
            self.floor = Floor::Apologising { since: now, speech_end: now, for_turn: false, then };
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
