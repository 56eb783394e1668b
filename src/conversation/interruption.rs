//! Whether a sound that the caller makes while something of ours is heard is meant: a cough, an "mm-hm" or an echo is not.
//!
//! The media thread has fallen silent at the onset and keeps its place. A voice that lasts is meant, and so is a second sound soon after
//! one that was passed over: who says "stop … stop" says it twice. Not implemented: judging by what a recogniser makes of it.

use std::time::{Duration, Instant};

/// From a caller's last voiced sample until its report has surely arrived: the endpointer's first probable end, and a few ticks.
const REPORT: Duration = Duration::from_millis(180);
/// A second sound counts as meant for so long after the first was passed over.
const SECOND: Duration = Duration::from_secs(3);
/// A sound that ended so shortly before we had said everything was an answer to it: yes, no, a name.
const INTO_LAST_WORDS: Duration = Duration::from_millis(1000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It goes on, and is decided at `until` at the latest.
    Open {
        onset: Instant,
        until: Instant,
        /// However short it is.
        meant: bool,
    },
    /// It was nothing. Its last reports are still to come.
    PassedOver {
        onset: Instant,
    },
}

/// What a report of the caller's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// There is no doubt about the sound that has ended.
    Undoubted,
    /// The caller wanted to speak, since then.
    Meant(Instant),
    /// It was nothing, and what was said goes on.
    Nothing,
    /// It belongs to a sound that was nothing.
    Late,
}

/// A sound of which it is not known yet whether it is meant.
#[derive(Debug)]
pub(super) struct Interruption {
    /// A voice of this length is meant.
    long: Duration,
    doubt: Doubt,
    passed_over_at: Option<Instant>,
    /// The last sound that was passed over, while nothing came after it.
    last: Option<PassedOver>,
}

/// A sound that was taken for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassedOver {
    /// Where it began.
    pub(super) onset: Instant,
    /// Arrival of its last voiced sample.
    pub(super) speech_end: Instant,
    /// Whether the caller has finished.
    pub(super) is_over: bool,
}

impl Interruption {
    pub(super) fn new(long: Duration) -> Self {
        Self { long, doubt: Doubt::None, passed_over_at: None, last: None }
    }

    /// A sound has begun. `meant`: however short it turns out.
    pub(super) fn begin(&mut self, now: Instant, onset: Instant, meant: bool) {
        self.last = None;
        let second = self.passed_over_at.is_some_and(|at| now.saturating_duration_since(at) < SECOND);
        self.doubt = Doubt::Open { onset, until: self.latest(now, onset), meant: meant || second };
    }

    /// The caller goes on after a pause. False when that is no matter of doubt.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        self.last = None;
        match self.doubt {
            Doubt::None => return false,
            Doubt::Open { .. } => {}
            // A cough comes in two, so it is the same sound.
            Doubt::PassedOver { onset } => {
                self.doubt = Doubt::Open { onset, until: self.latest(now, onset), meant: false };
            }
        }
        true
    }

    /// The caller is probably silent since `speech_end`.
    pub(super) fn ends(&mut self, now: Instant, speech_end: Instant) -> Ruling {
        let (onset, meant) = match self.doubt {
            Doubt::None => return Ruling::Undoubted,
            Doubt::Open { onset, meant, .. } => (onset, meant),
            Doubt::PassedOver { onset } => (onset, false),
        };
        let was_open = matches!(self.doubt, Doubt::Open { .. });
        if meant || speech_end.saturating_duration_since(onset) >= self.long {
            self.doubt = Doubt::None;
            Ruling::Meant(onset)
        } else if was_open {
            self.doubt = Doubt::PassedOver { onset };
            self.passed_over_at = Some(now);
            self.last = Some(PassedOver { onset, speech_end, is_over: false });
            Ruling::Nothing
        } else {
            Ruling::Late
        }
    }

    /// The caller has finished. Without a report of when, what is in doubt is meant.
    pub(super) fn is_over(&mut self) -> Ruling {
        match std::mem::replace(&mut self.doubt, Doubt::None) {
            Doubt::None => Ruling::Undoubted,
            Doubt::Open { onset, .. } => Ruling::Meant(onset),
            Doubt::PassedOver { .. } => {
                if let Some(last) = &mut self.last {
                    last.is_over = true;
                }
                Ruling::Late
            }
        }
    }

    /// What we said is said to its end: the sound that was passed over in its last words, if it began `into` them, answers it. From now on it
    /// is meant.
    pub(super) fn take_answer(&mut self, now: Instant, into: impl FnOnce(Instant) -> bool) -> Option<PassedOver> {
        let last = self.last.take()?;
        let lately = now.saturating_duration_since(last.speech_end) <= INTO_LAST_WORDS;
        (lately && into(last.onset)).then(|| {
            self.doubt = Doubt::None;
            last
        })
    }

    /// It is decided otherwise. The onset of what was in doubt.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        self.last = None;
        match std::mem::replace(&mut self.doubt, Doubt::None) {
            Doubt::Open { onset, .. } => Some(onset),
            Doubt::None | Doubt::PassedOver { .. } => None,
        }
    }

    /// When it counts as meant if nothing is reported until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.doubt {
            Doubt::Open { until, .. } => Some(until),
            Doubt::None | Doubt::PassedOver { .. } => None,
        }
    }

    fn latest(&self, now: Instant, onset: Instant) -> Instant {
        let long = onset.checked_add(self.long).unwrap_or(now);
        long.max(now).checked_add(REPORT).unwrap_or(now)
    }
}
