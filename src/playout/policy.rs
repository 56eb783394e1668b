//! Which placeholders a turn gets: the preset's rules, the length that covers the wait, and none twice in a row.
//!
//! A sans-IO machine on the tokio side. It decides ahead of the turn; what is known only when the caller has ended (how long the
//! utterance was, how long ago the phrase before it) goes into the [`Arming`] as a condition for the media thread.

use std::time::{Duration, Instant};

use crate::config::{self, Config, Preset};
use crate::pcm;

use super::clips::{Clip, ClipKind};
use super::forecast::Forecast;
use super::placeholder::Arming;
use super::played::PlayableClip;

/// Phrases come no closer than this: more of them tire.
const BETWEEN_PHRASES: Duration = Duration::from_secs(8);
/// A shorter utterance is a yes, a no, a name; a phrase would be longer than what it answers.
const SHORT_UTTERANCE: Duration = Duration::from_millis(700);
/// A clip begins about so long after the caller's last voiced sample.
const CLIP_START: Duration = Duration::from_millis(400);
/// So much silence between a clip and the answer is no wait.
const NATURAL_SILENCE: Duration = Duration::from_millis(350);
/// Shorter clips are a word ("okay"), for an answer that is nearly there.
const WORD: Duration = Duration::from_millis(348);
/// Shorter clips are acknowledgements ("one sec"), longer ones phrases.
const ACKNOWLEDGEMENT: Duration = Duration::from_millis(600);
/// Phrases from here on are long ones.
const LONG_PHRASE: Duration = Duration::from_millis(1200);

/// What is known of a turn before it begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Occasion {
    /// It is the caller's first: what follows is our first reply.
    pub first_reply: bool,
    /// It begins with the caller cutting us off.
    pub after_barge_in: bool,
    /// The call is coming to its end: nothing bridges to a goodbye.
    pub closing: bool,
}

/// Decides on the placeholders of one call.
#[derive(Debug)]
pub struct PlaceholderPolicy {
    preset: Preset,
    second_after: Duration,
    /// No answer is audible sooner after the caller's last voiced sample.
    commit: Duration,
    forecast: Forecast,
    /// When each clip was played last, counted in clips; by kind and place.
    played: Vec<(ClipKind, u16, u64)>,
    count: u64,
    last_clip: Option<Instant>,
    last_phrase: Option<Instant>,
    /// Places of the clips that are phrases.
    phrases: Vec<u16>,
    /// A placeholder was heard, and its answer is still to come.
    waiting: bool,
}

impl PlaceholderPolicy {
    /// The policy that the configuration asks for.
    pub fn new(config: &Config, forecast: Forecast) -> Self {
        let config::Placeholder { preset, second_after, .. } = config.placeholder;
        Self {
            preset,
            second_after,
            commit: config.hearing.hard_end,
            forecast,
            played: Vec::new(),
            count: 0,
            last_clip: None,
            last_phrase: None,
            phrases: Vec::new(),
            waiting: false,
        }
    }

    /// What the next turn gets, out of a language's placeholders and second placeholders.
    pub fn arm(&mut self, occasion: Occasion, placeholders: &[Clip], stills: &[Clip]) -> Arming {
        if std::mem::take(&mut self.waiting) {
            self.forecast.observe(None);
        }
        if occasion.closing {
            return Arming::nothing();
        }
        self.phrases = (0u16..).zip(placeholders).filter(|(_, clip)| is_phrase(clip)).map(|(index, _)| index).collect();
        let wait = self.wait();
        let covering = self.covering(wait, placeholders);
        let second = self.rotate(ClipKind::Still, stills, |_| true).filter(|_| !self.second_after.is_zero());
        let common = Arming {
            second,
            second_after: self.second_after,
            expected: self.forecast.expected(),
            earliest: self.forecast.earliest(),
            ..Arming::nothing()
        };
        match self.preset {
            Preset::Sparing if occasion.first_reply || occasion.after_barge_in => common,
            Preset::Sparing => Arming {
                first: covering,
                minimum_utterance: SHORT_UTTERANCE,
                not_before: self.last_clip.map(|at| at + BETWEEN_PHRASES),
                ..common
            },
            Preset::Instant => {
                let acknowledgement = self.rotate(ClipKind::Placeholder, placeholders, |clip| !is_phrase(clip));
                match covering {
                    Some(phrase) if self.phrases.contains(&phrase.index) => Arming {
                        instead: acknowledgement.or_else(|| Some(phrase.clone())),
                        first: Some(phrase),
                        minimum_utterance: SHORT_UTTERANCE,
                        not_before: self.last_phrase.map(|at| at + BETWEEN_PHRASES),
                        ..common
                    },
                    first => Arming { first, ..common },
                }
            }
        }
    }

    /// A clip was heard.
    pub fn clip_started(&mut self, kind: ClipKind, index: u16, at: Instant) {
        if !kind.is_placeholder() {
            return;
        }
        self.count += 1;
        self.played.retain(|&(other, place, _)| (other, place) != (kind, index));
        self.played.push((kind, index, self.count));
        self.last_clip = Some(at);
        if kind == ClipKind::Still || self.phrases.contains(&index) {
            self.last_phrase = Some(at);
        }
        self.waiting |= kind == ClipKind::Placeholder;
    }

    /// An answer's first frame was queued so long after the caller's last voiced sample.
    pub fn answer_queued(&mut self, after: Duration) {
        self.waiting = false;
        self.forecast.observe(Some(after));
    }

    /// How long the silence would be, from where a clip begins.
    fn wait(&self) -> Duration {
        self.forecast.expected().map_or(Duration::ZERO, |expected| expected.max(self.commit).saturating_sub(CLIP_START))
    }

    /// The shortest kind of clip that covers the wait, or else the longest there is; of it the one that was not heard for the longest time.
    fn covering(&self, wait: Duration, clips: &[Clip]) -> Option<PlayableClip> {
        let covers = |clip: &&Clip| length(clip) + NATURAL_SILENCE >= wait;
        let class = match clips.iter().filter(covers).map(Class::of).min() {
            Some(class) => class,
            None => clips.iter().map(Class::of).max()?,
        };
        let last = self.played.last().filter(|(kind, ..)| *kind == ClipKind::Placeholder).map(|(_, index, _)| *index);
        let chosen = self.rotate(ClipKind::Placeholder, clips, |clip| Class::of(clip) == class);
        match chosen {
            Some(clip) if Some(clip.index) == last => self
                .rotate(ClipKind::Placeholder, clips, |_| true)
                .filter(|other| other.index != clip.index)
                .or(Some(clip)),
            chosen => chosen,
        }
    }

    /// The clip that was not heard for the longest time, of those that `fit`.
    fn rotate(&self, kind: ClipKind, clips: &[Clip], fit: impl Fn(&Clip) -> bool) -> Option<PlayableClip> {
        let played = |index: u16| self.played.iter().find(|(of, place, _)| (*of, *place) == (kind, index));
        let (index, clip) = (0u16..)
            .zip(clips)
            .filter(|(_, clip)| fit(clip))
            .min_by_key(|(index, _)| played(*index).map_or(0, |(.., count)| *count))?;
        Some(clip.playable(index))
    }
}

/// How long a clip is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Word,
    Acknowledgement,
    Phrase,
    LongPhrase,
}

impl Class {
    fn of(clip: &Clip) -> Self {
        match length(clip) {
            word if word < WORD => Self::Word,
            short if short < ACKNOWLEDGEMENT => Self::Acknowledgement,
            middle if middle < LONG_PHRASE => Self::Phrase,
            _ => Self::LongPhrase,
        }
    }
}

fn is_phrase(clip: &Clip) -> bool {
    Class::of(clip) > Class::Acknowledgement
}

fn length(clip: &Clip) -> Duration {
    pcm::duration(clip.voiced_samples as u64)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
