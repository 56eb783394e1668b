//! A caller who says nothing, and the end of the call by us.

use std::mem;
use std::time::{Duration, Instant};

use super::floor::{Floor, Hold};
use super::{Command, Conversation, Ending, Exchange};
use crate::timeline::TurnOutcome;

/// The caller's last word: so long after ours the call is ended.
const LAST_WORD: Duration = Duration::from_millis(800);
/// A caller who has begun to speak has ended, or was cut short, within this: the longest utterance that can be configured, and its end.
const LONGEST_UTTERANCE: Duration = Duration::from_secs(130);

impl Conversation {
    /// The caller has the floor, and is silent.
    pub(super) fn listen(&mut self, now: Instant) {
        self.floor = Floor::Listening;
        self.silent_since = Some(now);
    }

    /// The caller speaks, and has the floor until the end of that.
    pub(super) fn expect_an_end(&mut self, now: Instant) {
        self.silent_since = now.checked_add(LONGEST_UTTERANCE);
    }

    pub(super) fn key_pressed(&mut self, now: Instant) {
        self.prompted = false;
        if let Some(since) = &mut self.silent_since {
            *since = now.max(*since);
        }
        if let Floor::Leaving { .. } = self.floor {
            self.listen(now);
        }
    }

    /// When the caller's silence is too long.
    pub(super) fn silence_is_too_long(&self) -> Option<Instant> {
        let patience = Some(self.limits.silence_prompt).filter(|patience| !patience.is_zero())?;
        let since = self.silent_since.filter(|_| self.hold == Hold::None)?;
        since.checked_add(patience)
    }

    pub(super) fn silence(&mut self, now: Instant) {
        if mem::replace(&mut self.prompted, true) {
            self.say_goodbye(now, None, Ending::Silence);
        } else {
            self.commands.push_back(Command::Prompt);
            self.floor = Floor::Prompting { since: now };
        }
    }

    /// `speech_end`: what it is said to in place of an answer.
    pub(super) fn say_goodbye(&mut self, now: Instant, speech_end: Option<Instant>, why: Ending) {
        self.commands.push_back(Command::SayGoodbye);
        self.floor = Floor::Goodbye { since: now, speech_end, why };
    }

    pub(super) fn goodbye_over(&mut self, now: Instant) {
        let Floor::Goodbye { speech_end, why, .. } = self.floor else { return };
        if speech_end.is_some() {
            self.push_exchange(Exchange { turn: self.turn, heard: String::new(), interrupted: false });
            self.turn_over(TurnOutcome::Answered);
        }
        self.await_last_word(now, why);
    }

    pub(super) fn await_last_word(&mut self, now: Instant, why: Ending) {
        self.floor = Floor::Leaving { at: now.checked_add(LAST_WORD).unwrap_or(now), why };
    }

    pub(super) fn leave(&mut self) {
        if let Floor::Leaving { why, .. } = mem::replace(&mut self.floor, Floor::HangingUp) {
            self.commands.push_back(Command::HangUp { why });
        }
    }
}
