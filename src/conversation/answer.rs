//! One answer on its way: what was said of it, what was heard of it, and how long to wait for the rest.

use std::time::{Duration, Instant};

use super::floor::Timer;
use super::words::{WHOLE, words_within};
use super::{Generation, Limits, Outcome, Seq};

/// Phrases an answer may have; an answer with more is cut off there.
const MAX_PHRASES: usize = 128;

/// How long a queued phrase may take to be reported as heard. A phrase is at most some 20 s of speech, so a longer silence means that the report was lost.
pub(super) const PLAYOUT_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Phrase {
    text: String,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Queued,
    Heard(f32),
    Failed,
}

/// What an answer has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More is to come, from the model or from the playout.
    Open,
    /// All that could be said of it was heard.
    Said,
    /// It ended, and nothing of it could be said.
    Nothing,
}

/// An answer from its request to the report of its last phrase.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) generation: Generation,
    /// The end of the utterance that it answers.
    pub(super) speech_end: Instant,
    /// Asked for before the soft end.
    pub(super) speculative: bool,
    /// The caller has finished: it may be heard.
    pub(super) committed: bool,
    /// The call ends with it.
    pub(super) ends_call: bool,
    /// When the caller's end was last reported.
    pub(super) reported: Instant,
    /// When its first voiced frame left.
    sounds_since: Option<Instant>,
    phrases: Vec<Phrase>,
    requested: Instant,
    last_text: Option<Instant>,
    ended: Option<Outcome>,
    /// When something last moved: the end of the text, the commit, or a phrase's report.
    last_progress: Instant,
}

impl Answer {
    pub(super) fn new(generation: Generation, speech_end: Instant, speculative: bool, now: Instant) -> Self {
        Self {
            generation,
            speech_end,
            speculative,
            committed: false,
            ends_call: false,
            reported: now,
            sounds_since: None,
            phrases: Vec::new(),
            requested: now,
            last_text: None,
            ended: None,
            last_progress: now,
        }
    }

    pub(super) fn commit(&mut self, now: Instant) {
        self.committed = true;
        self.last_progress = now;
    }

    /// Its first voiced frame has left.
    pub(super) fn sounds(&mut self, now: Instant) {
        self.sounds_since.get_or_insert(now);
    }

    /// How long it had been heard then.
    pub(super) fn was_heard_for(&self, then: Instant) -> Duration {
        self.sounds_since.map_or(Duration::ZERO, |since| then.saturating_duration_since(since))
    }

    /// Text arrived. False when the answer had ended already.
    pub(super) fn text_arrived(&mut self, now: Instant) -> bool {
        if self.ended.is_none() {
            self.last_text = Some(now);
        }
        self.ended.is_none()
    }

    /// Takes the next phrase; `None` when there is no room for it.
    pub(super) fn add_phrase(&mut self, text: String) -> Option<Seq> {
        let seq = Seq::try_from(self.phrases.len()).ok().filter(|_| self.phrases.len() < MAX_PHRASES)?;
        self.phrases.push(Phrase { text, fate: Fate::Queued });
        Some(seq)
    }

    /// The model is done. The first end counts.
    pub(super) fn end(&mut self, outcome: Outcome, now: Instant) {
        if self.ended.is_none() {
            self.ended = Some(outcome);
            self.last_progress = now;
        }
    }

    /// A phrase's report: what was heard of it, or `None` when it failed.
    pub(super) fn report(&mut self, seq: Seq, heard: Option<f32>, now: Instant) {
        let Some(phrase) = usize::try_from(seq).ok().and_then(|seq| self.phrases.get_mut(seq)) else { return };
        phrase.fate = match (phrase.fate, heard) {
            (Fate::Heard(before), Some(share)) => Fate::Heard(before.max(sane(share))),
            (Fate::Heard(before), None) => Fate::Heard(before),
            (_, Some(share)) => Fate::Heard(sane(share)),
            (_, None) => Fate::Failed,
        };
        self.last_progress = now;
    }

    /// Gives up on phrases that nobody reported.
    pub(super) fn abandon_queued(&mut self) {
        for phrase in &mut self.phrases {
            if phrase.fate == Fate::Queued {
                phrase.fate = Fate::Failed;
            }
        }
    }

    /// Whether something of it is heard or about to be.
    pub(super) fn is_said(&self) -> bool {
        self.phrases.iter().any(|phrase| phrase.fate != Fate::Failed)
    }

    /// Whether somebody still works on it.
    pub(super) fn is_running(&self) -> bool {
        self.ended.is_none() || self.phrases.iter().any(|phrase| phrase.fate == Fate::Queued)
    }

    pub(super) fn verdict(&self) -> Verdict {
        if !self.committed || self.is_running() {
            Verdict::Open
        } else if self.is_said() {
            Verdict::Said
        } else {
            Verdict::Nothing
        }
    }

    /// Whether a phrase was cut short, which only the caller's voice does.
    pub(super) fn was_cut(&self) -> bool {
        self.phrases.iter().any(|phrase| matches!(phrase.fate, Fate::Heard(share) if share < WHOLE))
    }

    /// Whether the caller heard all there is.
    pub(super) fn was_heard_whole(&self) -> bool {
        self.ended.is_some() && !self.was_cut() && !self.is_running()
    }

    /// Whether the model finished it.
    pub(super) fn is_complete(&self) -> bool {
        self.ended == Some(Outcome::Complete)
    }

    /// The words that were heard.
    pub(super) fn heard(&self) -> String {
        let mut text = String::new();
        for phrase in &self.phrases {
            let Fate::Heard(share) = phrase.fate else { continue };
            let heard = words_within(&phrase.text, share);
            if !heard.is_empty() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(heard);
            }
        }
        text
    }

    /// The next deadline.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, Timer)> {
        if self.ended.is_some() {
            let waiting = self.committed && self.is_running();
            return waiting
                .then(|| self.last_progress.checked_add(PLAYOUT_PATIENCE))
                .flatten()
                .map(|at| (at, Timer::Playout));
        }
        let text = match self.last_text {
            None => self.requested.checked_add(limits.first_token).map(|at| (at, Timer::FirstToken)),
            Some(last) => last.checked_add(limits.between_tokens).map(|at| (at, Timer::BetweenTokens)),
        };
        let whole = self.requested.checked_add(limits.whole_answer).map(|at| (at, Timer::WholeAnswer));
        text.into_iter().chain(whole).min_by_key(|(at, _)| *at)
    }
}

fn sane(share: f32) -> f32 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_share_is_brought_into_range() {
        assert_eq!([sane(f32::NAN), sane(-1.0), sane(7.0), sane(f32::INFINITY)], [0.0, 0.0, 1.0, 1.0]);
    }
}
