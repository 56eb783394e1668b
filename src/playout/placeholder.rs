//! When a placeholder starts: the first soon after the caller's probable end, the second when the wait becomes long.
//!
//! A sans-IO machine on the media thread: it was told beforehand what to play, so that it needs nobody when the caller has ended.

use std::time::{Duration, Instant};

use crate::pcm::PTIME;

use super::played::PlayableClip;

/// The latest first sound, from the caller's last voiced sample.
const FIRST_SOUND: Duration = Duration::from_millis(500);
/// What of it the way to the caller's ear may take: encoding, the network, the far side's play-out.
const WAY: Duration = Duration::from_millis(40);
/// When no answer of late was as quick as this, none will come within the grace…
const FAR_FROM_READY: Duration = Duration::from_millis(540);
/// …and the clip need not wait for one; this is its moment then, if the end is known by then.
const NATURAL: Duration = Duration::from_millis(340);
/// An end that was left open may be bridged so long after it.
const LATEST_BRIDGE: Duration = Duration::from_secs(2);

/// What to play in the turn that comes, by the media thread alone.
#[derive(Debug, Clone)]
pub struct Arming {
    /// Starts after the grace. `None`: no clip so early in this turn.
    pub first: Option<PlayableClip>,
    /// In place of `first` when the utterance is shorter than `minimum_utterance` or ends before `not_before`.
    pub instead: Option<PlayableClip>,
    /// A shorter utterance (yes, no, a name) does not get `first`.
    pub minimum_utterance: Duration,
    /// Before that, `first` would come too soon after the phrase before it.
    pub not_before: Option<Instant>,
    /// Starts when nothing of an answer is heard by then.
    pub second: Option<PlayableClip>,
    /// How long after the caller's last voiced sample that is.
    pub second_after: Duration,
    /// How long after the caller's last voiced sample an answer's first frame is likely to be queued. An answer that is due soon is waited
    /// for a little longer.
    pub expected: Option<Duration>,
    /// The quickest it has been of late: the clip waits out its grace only if an answer may come in it.
    pub earliest: Option<Duration>,
}

impl Arming {
    /// One clip, after the plain grace, whatever the caller says.
    pub fn first(clip: PlayableClip) -> Self {
        Self { first: Some(clip), ..Self::nothing() }
    }

    /// Nothing at all.
    pub fn nothing() -> Self {
        Self {
            first: None,
            instead: None,
            minimum_utterance: Duration::ZERO,
            not_before: None,
            second: None,
            second_after: Duration::from_secs(4),
            expected: None,
            earliest: None,
        }
    }

    /// What an utterance of that length gets that ends now.
    fn choice(&self, now: Instant, utterance: Duration) -> Option<&PlayableClip> {
        let fits = utterance >= self.minimum_utterance && self.not_before.is_none_or(|at| now >= at);
        if fits { self.first.as_ref() } else { self.instead.as_ref() }
    }
}

/// The caller's probable end.
#[derive(Debug, Clone, Copy)]
struct End {
    speech_end: Instant,
    utterance: Duration,
    /// Nothing has been decided for it: what is armed later is still for it.
    open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the end to come.
    Armed,
    /// The first starts at `at`, or in the last tick before `latest`. An answer that is queued within the `grace` needs none.
    Due { at: Instant, grace: Instant, latest: Instant },
    /// The first is over or not wanted; the second starts at this moment.
    Waiting { second_at: Instant },
    /// This turn needs no more.
    Spent,
}

/// The placeholders of one call.
#[derive(Debug)]
pub(super) struct Placeholder {
    grace: Duration,
    arming: Option<Arming>,
    state: State,
    end: Option<End>,
    /// The end for which a first clip was started.
    bridged: Option<Instant>,
}

impl Placeholder {
    /// None armed. No clip waits longer than `grace` without a reason.
    pub fn new(grace: Duration) -> Self {
        Self { grace, arming: None, state: State::Spent, end: None, bridged: None }
    }

    /// For the end that comes, or for one that nothing was decided for.
    pub fn arm(&mut self, now: Instant, arming: Arming) {
        if matches!(self.state, State::Due { .. }) {
            return;
        }
        self.arming = Some(arming);
        self.state = State::Armed;
        if let Some(end) = self.end.filter(|end| end.open && now < end.speech_end + LATEST_BRIDGE) {
            self.decide(now, end);
        }
    }

    pub fn disarm(&mut self) {
        self.arming = None;
        self.state = State::Spent;
    }

    /// The caller has probably ended; `interrupting`: on top of something that may yet go on, which needs no bridge.
    pub fn ended(&mut self, now: Instant, speech_end: Instant, utterance: Duration, interrupting: bool) {
        let end = End { speech_end, utterance, open: true };
        self.end = Some(end);
        if self.state == State::Armed && !interrupting {
            self.decide(now, end);
        }
    }

    fn decide(&mut self, now: Instant, end: End) {
        let Some(arming) = &self.arming else { return };
        self.end = Some(End { open: false, ..end });
        if self.bridged == Some(end.speech_end) || arming.choice(now, end.utterance).is_none() {
            self.wait(end.speech_end);
            return;
        }
        let latest = end.speech_end + FIRST_SOUND.saturating_sub(WAY);
        let grace = latest.min(now + self.grace).max(now);
        let mut at = grace;
        let is_expected_in_time = || {
            let expected = arming.expected.and_then(|after| end.speech_end.checked_add(after));
            expected.is_some_and(|expected| expected <= grace)
        };
        if arming.earliest.is_some_and(|earliest| earliest >= FAR_FROM_READY) {
            at = at.min(end.speech_end + NATURAL);
        } else if is_expected_in_time() {
            at = latest;
        }
        self.state = State::Due { at: at.max(now), grace, latest };
    }

    fn wait(&mut self, speech_end: Instant) {
        let second_after =
            self.arming.as_ref().filter(|arming| arming.second.is_some()).map(|arming| arming.second_after);
        self.state = second_after.map_or(State::Spent, |after| State::Waiting { second_at: speech_end + after });
    }

    /// The caller went on: what was begun is armed again for the real end.
    pub fn resumed(&mut self) {
        self.end = None;
        if self.arming.is_some() && matches!(self.state, State::Due { .. } | State::Waiting { .. } | State::Spent) {
            self.state = State::Armed;
        }
    }

    /// The caller has begun again.
    pub fn started(&mut self) {
        self.end = None;
        match self.state {
            State::Due { .. } => self.state = State::Armed,
            State::Waiting { .. } => self.answered(),
            State::Armed | State::Spent => {}
        }
    }

    /// Something else is heard: the wait is over.
    pub fn answered(&mut self) {
        self.overheard();
        if self.state != State::Armed {
            self.disarm();
        }
    }

    /// The end that was told was none of a question: what was interrupted by it goes on.
    pub fn overheard(&mut self) {
        if let Some(end) = &mut self.end {
            end.open = false;
        }
    }

    /// Everything that was prepared is dropped. An end that nothing was played for is bridged by what is armed, or comes to be.
    pub fn flush(&mut self, now: Instant) {
        match (self.state, &mut self.end) {
            (State::Due { .. }, Some(end)) => end.open = true,
            (State::Armed, Some(end)) if end.open => {
                let end = *end;
                self.decide(now, end);
                return;
            }
            _ => {}
        }
        if self.state != State::Armed {
            self.disarm();
        }
    }

    /// The clip that starts at `now`. `queued`: there is speech of an answer; `audible`: it may be heard; `playing`: another clip plays.
    pub fn take(&mut self, now: Instant, queued: bool, audible: bool, playing: bool) -> Option<PlayableClip> {
        let end = self.end?;
        match self.state {
            // An answer that came later than the grace, and may not be heard yet, leaves the caller without a sound.
            State::Due { grace, .. } if playing || audible || (queued && now < grace + PTIME) => {
                self.wait(end.speech_end);
                None
            }
            State::Due { at, latest, .. } if now >= at || now + PTIME > latest => {
                self.bridged = Some(end.speech_end);
                self.wait(end.speech_end);
                self.arming.as_ref()?.choice(now, end.utterance).cloned()
            }
            State::Waiting { second_at } if now >= second_at && !queued && !playing => {
                self.state = State::Spent;
                self.arming.as_ref()?.second.clone()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "placeholder_tests.rs"]
mod tests;
