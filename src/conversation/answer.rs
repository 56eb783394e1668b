//! One answer on its way: what was said of it, what was heard of it, and how long to wait for the rest.

use std::time::{Duration, Instant};

use super::floor::Timer;
use super::reciting::Afterwards;
use super::words::{WHOLE, words_within};
use super::{Generation, Limits, Outcome, Seq};

/// Phrases an answer may have; an answer with more is cut off there.
pub const MAX_PHRASES: usize = 128;

/// How long a queued phrase may take to be reported as heard. A phrase is at most some 20 s of speech, so a longer silence means that the report was lost.
pub(super) const PLAYOUT_PATIENCE: Duration = Duration::from_secs(30);

/// Words of ours that make no sound within this are left out: something else was heard before them, and follows them.
const RECITAL: Duration = Duration::from_millis(1800);

/// Words that are kept of sound that a model made by itself.
const MOST_WORDS_BYTES: usize = 16 * 1024;

/// Speech that a voice makes of a character, about.
const SPEECH_PER_CHARACTER: Duration = Duration::from_millis(65);

#[derive(Debug)]
struct Phrase {
    text: String,
    fate: Fate,
    /// It was said on the way to an answer.
    aside: bool,
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
    committed_at: Instant,
    /// What follows when it was heard.
    pub(super) then: Option<Afterwards>,
    /// Words of ours, which no model writes.
    pub(super) recital: bool,
    /// When the caller's end was last reported.
    pub(super) reported: Instant,
    /// When its first voiced frame left.
    sounds_since: Option<Instant>,
    phrases: Vec<Phrase>,
    /// The phrase whose sound the model makes by itself, while it does.
    sounding: Option<usize>,
    /// What is said in sound that has not come.
    words_ahead: String,
    /// How much sound the model made by itself.
    own_sound: Duration,
    /// When the first of them was wanted.
    first_phrase: Option<Instant>,
    /// About how much speech they are.
    speech: Duration,
    /// When the model was asked, the last time.
    requested: Instant,
    /// Since when functions run that it called.
    tools_since: Option<Instant>,
    /// A clip plays that bridges the wait.
    bridged: bool,
    /// The caller was asked to wait, and has heard nothing of it since.
    promised: bool,
    /// Since when nothing of ours was heard.
    quiet_since: Instant,
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
            committed_at: now,
            then: None,
            recital: false,
            reported: now,
            sounds_since: None,
            phrases: Vec::new(),
            sounding: None,
            words_ahead: String::new(),
            own_sound: Duration::ZERO,
            first_phrase: None,
            speech: Duration::ZERO,
            requested: now,
            tools_since: None,
            bridged: false,
            promised: false,
            quiet_since: now,
            last_text: None,
            ended: None,
            last_progress: now,
        }
    }

    pub(super) fn commit(&mut self, now: Instant) {
        self.committed = true;
        self.committed_at = now;
        self.last_progress = now;
        self.quiet_since = now;
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

    /// Whether the model has finished, or was given up.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The model waits for functions that it called: what it said before was not its answer yet.
    pub(super) fn tools_run(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.tools_since = Some(now);
            self.sounding = None;
            self.phrases.iter_mut().for_each(|phrase| phrase.aside = true);
        }
    }

    /// It was asked again with what came of them.
    pub(super) fn tools_done(&mut self, now: Instant) {
        if self.tools_since.take().is_some() {
            self.requested = now;
            self.last_text = None;
        }
    }

    /// A clip that bridges the wait begins, or ends.
    pub(super) fn bridge(&mut self, now: Instant, plays: bool) {
        self.bridged = plays;
        self.promised |= plays;
        self.quiet_since = now;
    }

    /// A clip over the wait is ordered: until it tells of itself, it is neither playing nor to be ordered again.
    pub(super) fn promise(&mut self, now: Instant) {
        self.bridged = false;
        self.promised = true;
        self.quiet_since = now;
    }

    /// Whether as much speech was asked for as an answer may have.
    pub(super) fn is_too_long(&self, longest: Duration) -> bool {
        !longest.is_zero() && self.speech >= longest
    }

    /// Takes the next phrase; `None` when there is no room for it. `aside`: it is no part of the answer.
    pub(super) fn add_phrase(&mut self, text: String, aside: bool, now: Instant) -> Option<Seq> {
        let seq = Seq::try_from(self.phrases.len()).ok().filter(|_| self.phrases.len() < MAX_PHRASES)?;
        self.speech += SPEECH_PER_CHARACTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        self.phrases.push(Phrase { text, fate: Fate::Queued, aside });
        self.first_phrase.get_or_insert(now);
        Some(seq)
    }

    /// Takes sound that the model made by itself: the number of its phrase if it begins one, `None` when there is no room for that.
    pub(super) fn add_sound(&mut self, length: Duration, now: Instant) -> Option<Option<Seq>> {
        self.speech += length;
        self.own_sound += length;
        if self.sounding.is_some() {
            return Some(None);
        }
        let seq = self.add_phrase(String::new(), false, now)?;
        let words = std::mem::take(&mut self.words_ahead);
        if let Some(phrase) = self.phrases.last_mut() {
            phrase.text = words;
        }
        self.sounding = Some(seq as usize);
        Some(Some(seq))
    }

    /// Words of sound that the model made by itself, or is about to make.
    pub(super) fn said(&mut self, text: &str) {
        let words = match self.sounding.and_then(|seq| self.phrases.get_mut(seq)) {
            Some(phrase) => &mut phrase.text,
            None => &mut self.words_ahead,
        };
        if words.len() + text.len() <= MOST_WORDS_BYTES {
            words.push_str(text);
        }
    }

    /// The model is done. The first end counts.
    pub(super) fn end(&mut self, outcome: Outcome, now: Instant) {
        if self.ended.is_none() {
            self.ended = Some(outcome);
            self.tools_since = None;
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
        self.promised &= heard.is_none();
        self.last_progress = now;
        self.quiet_since = now;
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

    /// Whether something of it is heard or about to be that is more than a word on the way.
    pub(super) fn is_answered(&self) -> bool {
        self.phrases.iter().any(|phrase| phrase.fate != Fate::Failed && !phrase.aside)
    }

    /// Whether it ended without anything to be said, in a way that another request may not.
    pub(super) fn has_failed(&self) -> bool {
        self.ended == Some(Outcome::Failed) && !self.is_said()
    }

    /// How it ended.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.ended
    }

    /// Whether somebody still works on it.
    pub(super) fn is_running(&self) -> bool {
        self.ended.is_none() || self.phrases.iter().any(|phrase| phrase.fate == Fate::Queued)
    }

    pub(super) fn verdict(&self) -> Verdict {
        if !self.committed || self.is_running() {
            Verdict::Open
        } else if self.is_answered() || (self.is_said() && self.is_complete()) {
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

    /// Whether the caller still waits for a rest that will not come.
    pub(super) fn breaks_a_promise(&self) -> bool {
        self.promised && !self.is_complete() && !self.was_cut()
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
        let queued = self.phrases.iter().any(|phrase| phrase.fate == Fate::Queued);
        let heard = || self.phrases.iter().any(|phrase| matches!(phrase.fate, Fate::Heard(_)));
        let silent = (self.committed && self.sounds_since.is_none() && queued && !heard())
            .then(|| self.first_phrase.map(|first| first.max(self.committed_at)))
            .flatten()
            .and_then(|since| {
                since.checked_add(if self.recital { limits.first_sound.min(RECITAL) } else { limits.first_sound })
            })
            .map(|at| (at, Timer::FirstSound));
        let quiet = (limits.placeholder && self.committed && self.ended.is_none() && !queued && !self.bridged)
            .then(|| self.quiet_since.checked_add(limits.quiet))
            .flatten()
            .map(|at| (at, Timer::Quiet));
        silent.into_iter().chain(quiet).chain(self.awaited(limits)).min_by_key(|(at, _)| *at)
    }

    /// How long the model, its functions or the playout are waited for.
    fn awaited(&self, limits: &Limits) -> Option<(Instant, Timer)> {
        if self.ended.is_some() {
            let waiting = self.committed && self.is_running();
            return waiting
                .then(|| self.last_progress.checked_add(PLAYOUT_PATIENCE + self.own_sound))
                .flatten()
                .map(|at| (at, Timer::Playout));
        }
        if let Some(since) = self.tools_since {
            return since.checked_add(limits.tools).map(|at| (at, Timer::Tools));
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
