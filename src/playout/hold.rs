//! Whether the caller has cut in: playout pauses at the first sign of it, and is held while it is decided what the sound meant.
//!
//! A sans-IO machine on the media thread. Nothing is lost by a pause or a hold: the mixer keeps its place.

use std::time::{Duration, Instant};

use crate::conversation::Generation;

/// How long the first sign of speech keeps playout silent at most; the endpointer says sooner what became of it.
const LONGEST_PAUSE: Duration = Duration::from_millis(240);
/// After such a pause there is none for so long, lest a noisy line make the box stutter.
const PAUSE_AGAIN: Duration = Duration::from_secs(1);
/// How long after the caller's end a hold waits for a decision.
const LONGEST_UNDECIDED: Duration = Duration::from_secs(3);

/// What may be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// The caller may have begun to speak.
    Paused {
        until: Instant,
    },
    /// The caller has begun to speak.
    Held {
        /// Something was being played, and waits to go on.
        interrupted: bool,
        /// What was released by then; newer answers were meant to be heard after what the caller says.
        released: Generation,
        /// From when on nobody is expected to decide any more; `None` while the caller speaks.
        until: Option<Instant>,
    },
}

/// Pauses and holds of one call's playout.
#[derive(Debug)]
pub(super) struct Hold {
    state: State,
    paused_at: Option<Instant>,
}

impl Hold {
    pub fn new() -> Self {
        Self { state: State::Free, paused_at: None }
    }

    /// First sign of speech while something is audible. True when playout pauses.
    pub fn onset(&mut self, now: Instant) -> bool {
        let lately = self.paused_at.is_some_and(|at| now.saturating_duration_since(at) < PAUSE_AGAIN);
        if lately || self.state != State::Free {
            return false;
        }
        self.state = State::Paused { until: now + LONGEST_PAUSE };
        self.paused_at = Some(now);
        true
    }

    /// That sign came to nothing.
    pub fn dismissed(&mut self) {
        if let State::Paused { .. } = self.state {
            self.state = State::Free;
        }
    }

    /// The caller speaks. True when something is held by it that was not before.
    pub fn started(&mut self, sounding: bool, released: Generation) -> bool {
        let before = self.is_interrupted();
        self.state = State::Held { interrupted: before || sounding, released, until: None };
        sounding && !before
    }

    /// The caller has ended, probably.
    pub fn ended(&mut self, now: Instant) {
        if let State::Held { until, .. } = &mut self.state {
            *until = Some(now + LONGEST_UNDECIDED);
        }
    }

    /// The caller has not ended.
    pub fn resumed(&mut self) {
        if let State::Held { until, .. } = &mut self.state {
            *until = None;
        }
    }

    /// It is decided.
    pub fn over(&mut self) {
        self.state = State::Free;
    }

    /// A newer answer is to be heard: what became ready before it need not be held, unless it was interrupted.
    pub fn newer_release(&mut self, generation: Generation) {
        if let State::Held { interrupted: false, released, .. } = self.state
            && generation > released
        {
            self.over();
        }
    }

    /// What was interrupted has been given up.
    pub fn nothing_interrupted(&mut self) {
        if let State::Held { interrupted, .. } = &mut self.state {
            *interrupted = false;
        }
    }

    /// Ends by itself what nobody has decided. True when a hold has ended so.
    pub fn expire(&mut self, now: Instant) -> bool {
        let (expired, held) = match self.state {
            State::Paused { until } => (now >= until, false),
            State::Held { until: Some(until), .. } => (now >= until, true),
            _ => (false, false),
        };
        if expired {
            self.over();
        }
        expired && held
    }

    /// Whether the caller has cut in on something.
    pub fn is_interrupted(&self) -> bool {
        matches!(self.state, State::Held { interrupted: true, .. })
    }

    /// Whether the caller has begun to speak, and it is not decided what becomes of what was playing or ready.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Whether the caller has ended, and the decision is still to come.
    pub fn is_over_for_the_caller(&self) -> bool {
        matches!(self.state, State::Held { until: Some(_), .. })
    }

    /// Whether no clip may be heard.
    pub fn holds_clips(&self) -> bool {
        match self.state {
            State::Free => false,
            State::Paused { .. } => true,
            State::Held { interrupted, until, .. } => interrupted || until.is_none(),
        }
    }

    /// Whether no answer may be heard.
    pub fn holds_speech(&self) -> bool {
        self.state != State::Free
    }
}
