//! The caller is heard: whether that is meant, and what gives way to it.

use std::mem;
use std::time::{Duration, Instant};

use super::floor::Floor;
use super::interruption::Ruling;
use super::{Command, Conversation, Exchange};
use crate::timeline::TurnOutcome;

/// Of an answer that was heard for less, nothing was understood: the caller was still speaking.
pub(super) const OVERLAP: Duration = Duration::from_millis(400);

impl Conversation {
    pub(super) fn caller_started(&mut self, now: Instant, onset: Instant) {
        if !self.floor.is_ours() || self.limits.barge_in.is_zero() {
            self.interruption.settle();
            self.give_way(now, Some(onset));
            return;
        }
        // A question of ours may be answered in a word.
        let meant = matches!(self.floor, Floor::Prompting { .. } | Floor::Goodbye { .. });
        self.interruption.begin(now, onset, meant);
    }

    pub(super) fn caller_resumed(&mut self, now: Instant) {
        if !self.interruption.goes_on(now) {
            self.give_way(now, None);
        }
    }

    /// A voice over ours has lasted.
    pub(super) fn barged_in(&mut self, now: Instant) {
        if let Some(onset) = self.interruption.settle() {
            self.interrupted(now, onset);
        }
    }

    /// Whether the sound that has ended was meant for us; decides it when it is in doubt.
    pub(super) fn is_meant(&mut self, now: Instant, speech_end: Instant) -> bool {
        let ruling = self.interruption.ends(now, speech_end);
        self.rule(now, ruling)
    }

    /// The same when it is not known when it ended.
    pub(super) fn was_meant(&mut self, now: Instant) -> bool {
        let ruling = self.interruption.is_over();
        self.rule(now, ruling)
    }

    fn rule(&mut self, now: Instant, ruling: Ruling) -> bool {
        match ruling {
            Ruling::Undoubted => {}
            Ruling::Meant(onset) => self.interrupted(now, onset),
            Ruling::Nothing => self.commands.push_back(Command::ResumePlayout),
            Ruling::Late => {}
        }
        matches!(ruling, Ruling::Undoubted | Ruling::Meant(_))
    }

    fn interrupted(&mut self, now: Instant, onset: Instant) {
        if !self.floor.is_ours() {
            // It ended of its own accord meanwhile; the media thread still keeps its place.
            self.commands.push_back(Command::FlushPlayout);
        }
        self.give_way(now, Some(onset));
    }

    /// The caller begins, or goes on: whatever is said or prepared gives way.
    pub(super) fn give_way(&mut self, now: Instant, onset: Option<Instant>) {
        self.turn_open = true;
        self.prompted = false;
        match mem::replace(&mut self.floor, Floor::Listening) {
            Floor::Greeting { .. } | Floor::Prompting { .. } => self.commands.push_back(Command::FlushPlayout),
            Floor::Answering(answer)
                if answer.committed
                    && answer.is_said()
                    && onset.is_none_or(|onset| answer.was_heard_for(onset) >= OVERLAP) =>
            {
                self.commands.push_back(Command::FlushPlayout);
                self.cancel(&answer);
                self.remember(answer, true);
                self.turn_over(TurnOutcome::Interrupted);
                self.turn_open = true;
            }
            // As good as nothing was heard: what the caller adds belongs to the same turn, and the wait after it needs its own placeholder.
            Floor::Answering(answer) if answer.committed => {
                self.commands.push_back(Command::FlushPlayout);
                self.cancel(&answer);
                self.arm_placeholder();
            }
            // The media thread has taken its placeholder back by itself.
            Floor::Answering(answer) => self.cancel(&answer),
            Floor::Apologising { for_turn, .. } => {
                self.commands.push_back(Command::FlushPlayout);
                self.apology_over(now, for_turn);
                self.turn_open = true;
            }
            Floor::Goodbye { speech_end, .. } => {
                self.commands.push_back(Command::FlushPlayout);
                if speech_end.is_some() {
                    self.push_exchange(Exchange { turn: self.turn, heard: String::new(), interrupted: true });
                    self.turn_over(TurnOutcome::Interrupted);
                    self.turn_open = true;
                }
            }
            Floor::Listening | Floor::Leaving { .. } => {}
            floor @ (Floor::Ringing
            | Floor::HangingUp
            | Floor::Transferring { .. }
            | Floor::Messaging
            | Floor::Ended) => {
                self.floor = floor;
            }
        }
        self.expect_an_end(now);
    }

    /// Whatever is said or prepared gives way, though nobody has spoken.
    pub(super) fn fall_silent(&mut self, now: Instant) {
        let (was_open, turn) = (self.turn_open, self.turn);
        self.give_way(now, None);
        // A turn that this has begun has not.
        self.turn_open = was_open && self.turn == turn;
    }
}
