//! Words of ours that no model writes, and what follows upon an answer or upon them: the call goes into other hands, to the machine that takes
//! messages, or ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::floor::{Floor, Hold};
use super::ladder::Trouble;
use super::{Command, Conversation, Ending, Remedy};

/// Beyond the longest call, so long is left for an answer that is being given, and for goodbye.
pub(super) const OVERTIME: Duration = Duration::from_secs(30);

/// Words of ours, in the language of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// The call cannot go on for what it costs.
    NoMoreAnswers,
    /// The call has lasted as long as it may.
    TimeIsUp,
    /// A message may be left after the tone.
    LeaveMessage,
}

/// What follows when an answer was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Afterwards {
    HangUp(Ending),
    Transfer(Arc<str>),
    Remedy(Remedy),
    TakeMessage,
}

impl Conversation {
    /// The caller cannot be answered: says so, and then what the ladder says.
    pub(super) fn in_trouble(&mut self, now: Instant, speech_end: Instant, for_turn: bool, trouble: Trouble) {
        let then = self.ladder.step(trouble, &self.limits);
        let sentence = match trouble {
            Trouble::BudgetSpent => Sentence::NoMoreAnswers,
            Trouble::TimeIsUp => Sentence::TimeIsUp,
            _ => {
                self.commands.push_back(Command::Apologise);
                self.floor = Floor::Apologising { since: now, speech_end, for_turn, then };
                return;
            }
        };
        let then = then.unwrap_or(Remedy::Goodbye);
        self.recite(now, sentence, Afterwards::Remedy(then));
    }

    /// Says words of ours. Who speaks over them hears the rest of what follows the sooner.
    pub(super) fn recite(&mut self, now: Instant, sentence: Sentence, then: Afterwards) {
        self.silent_since = None;
        self.last_generation += 1;
        let generation = self.last_generation;
        let mut answer = Answer::new(generation, now, false, now);
        answer.recital = true;
        answer.then = Some(then);
        answer.commit(now);
        self.floor = Floor::Answering(answer);
        self.commands.extend([Command::Recite { generation, sentence }, Command::Commit { generation }]);
    }

    /// Does what was to follow.
    pub(super) fn follow(&mut self, now: Instant, then: Afterwards) {
        match then {
            Afterwards::HangUp(why) => self.await_last_word(now, why),
            Afterwards::Transfer(to) => self.hand_over(to, false),
            Afterwards::TakeMessage => self.take_message(true),
            Afterwards::Remedy(remedy) => self.remedy(now, remedy),
        }
    }

    pub(super) fn remedy(&mut self, now: Instant, remedy: Remedy) {
        match (remedy, self.limits.transfer_to.clone()) {
            (Remedy::Transfer, Some(to)) => self.hand_over(to, true),
            (Remedy::Voicemail, _) => self.ask_for_message(now),
            (Remedy::Goodbye | Remedy::Transfer, _) => self.part(now, Ending::Trouble),
        }
    }

    /// What is said from here on is a message.
    pub(super) fn ask_for_message(&mut self, now: Instant) {
        self.parting = false;
        self.recite(now, Sentence::LeaveMessage, Afterwards::TakeMessage);
    }

    /// Nothing is heard or said until the caller is in other hands. `helping`: because we could not answer.
    pub(super) fn hand_over(&mut self, to: Arc<str>, helping: bool) {
        self.interruption.settle();
        self.parting = false;
        self.disarm_placeholder();
        self.floor = Floor::Transferring { helping };
        self.commands.push_back(Command::Transfer { to });
    }

    /// From now on the caller speaks to the machine. `tone`: it is told so by one.
    fn take_message(&mut self, tone: bool) {
        self.interruption.settle();
        self.disarm_placeholder();
        self.floor = Floor::Messaging;
        self.commands.push_back(Command::TakeMessage { tone });
    }

    pub(super) fn message_taken(&mut self, now: Instant) {
        if matches!(self.floor, Floor::Messaging) {
            self.part(now, Ending::Message);
        }
    }

    /// Says goodbye, and is not held up by anything that is said to it.
    fn part(&mut self, now: Instant, why: Ending) {
        self.parting = true;
        self.say_goodbye(now, None, why);
    }

    /// The caller speaks over words of ours that nobody can answer: whatever follows upon them, follows. True when that was so.
    pub(super) fn recital_is_cut(&mut self, now: Instant) -> bool {
        let Floor::Answering(answer) = &mut self.floor else { return false };
        let Some(then) = answer.then.take_if(|_| answer.recital) else { return false };
        let generation = answer.generation;
        self.commands.extend([Command::FlushPlayout, Command::Cancel { generation }]);
        self.recital_over();
        match then {
            // The message has begun.
            Afterwards::TakeMessage => self.take_message(false),
            then => self.follow(now, then),
        }
        true
    }

    /// A recital stands for the answer of a turn that is open.
    pub(super) fn recital_over(&mut self) {
        if self.turn_open {
            self.unanswered_turn_over();
        }
    }

    /// The call has lasted as long as it may: it ends when nobody is in the middle of something, and soon.
    pub(super) fn time_is_up(&mut self, now: Instant) {
        if std::mem::replace(&mut self.time_is_up, true) {
            self.fall_silent(now);
            self.floor = Floor::HangingUp;
            self.commands.push_back(Command::HangUp { why: Ending::TooLong });
        } else if matches!(self.floor, Floor::Listening) && !self.turn_open && self.hold == Hold::None {
            self.in_trouble(now, now, false, Trouble::TimeIsUp);
        }
    }

    pub(super) fn disarm_placeholder(&mut self) {
        if self.limits.placeholder {
            self.commands.push_back(Command::DisarmPlaceholder);
        }
    }
}
