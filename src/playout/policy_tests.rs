use std::sync::Arc;

use super::*;
use crate::config::Language;
use crate::pcm::{FRAME_SAMPLES, SILENCE};
use crate::playout::SharedForecast;

const SHORT: u64 = 400;
const MIDDLE: u64 = 900;
const LONG: u64 = 1500;

fn clips(kind: ClipKind, lengths_ms: &[u64]) -> Vec<Clip> {
    let clip = |&ms: &u64| {
        let samples = ms as usize * 16;
        Clip {
            name: ms.to_string(),
            language: Language::En,
            kind,
            text: "x".into(),
            frames: vec![SILENCE; samples.div_ceil(FRAME_SAMPLES)].into(),
            voiced_samples: samples,
            cuts: Arc::new([]),
        }
    };
    lengths_ms.iter().map(clip).collect()
}

/// A policy with three short clips, two middle ones and a long one.
struct Bench {
    policy: PlaceholderPolicy,
    placeholders: Vec<Clip>,
    stills: Vec<Clip>,
    now: Instant,
}

impl Bench {
    fn new(preset: Preset, answers_ms: &[u64]) -> Self {
        let mut config = Config::default();
        config.placeholder.preset = preset;
        let mut forecast = Forecast::new(SharedForecast::default());
        answers_ms.iter().for_each(|&ms| forecast.observe(Some(Duration::from_millis(ms))));
        Self {
            policy: PlaceholderPolicy::new(&config, forecast),
            placeholders: clips(ClipKind::Placeholder, &[SHORT, LONG, MIDDLE, SHORT + 10, MIDDLE + 10, SHORT + 20]),
            stills: clips(ClipKind::Still, &[LONG, LONG + 10]),
            now: Instant::now(),
        }
    }

    fn arm(&mut self, occasion: Occasion) -> Arming {
        self.policy.arm(occasion, &self.placeholders, &self.stills)
    }

    fn length(&self, clip: &Option<PlayableClip>) -> Option<u64> {
        clip.as_ref().map(|clip| self.placeholders[usize::from(clip.index)].voiced_samples as u64 / 16)
    }

    /// Plays the first clip of an ordinary turn, and lets the answer come as before.
    fn turn(&mut self) -> u64 {
        let first = self.arm(Occasion::default()).first;
        self.policy.clip_started(ClipKind::Placeholder, first.as_ref().unwrap().index, self.now);
        let expected = self.policy.forecast.expected().unwrap_or(Duration::from_millis(900));
        self.policy.answer_queued(expected);
        self.length(&first).unwrap()
    }
}

#[test]
fn the_shortest_kind_that_covers_the_wait_is_chosen() {
    for (answers_ms, length) in [(900, SHORT), (1500, MIDDLE), (2100, LONG), (9000, LONG)] {
        let mut bench = Bench::new(Preset::Instant, &[answers_ms; 3]);
        let first = bench.arm(Occasion::default()).first;
        assert_eq!(bench.length(&first), Some(length), "answers after {answers_ms} ms");
    }
    // Nothing is known: the shortest.
    let mut bench = Bench::new(Preset::Instant, &[]);
    let arming = bench.arm(Occasion::default());
    assert_eq!(bench.length(&arming.first), Some(SHORT));
    assert_eq!((arming.expected, arming.earliest), (None, None));
}

#[test]
fn clips_rotate_and_none_comes_twice_in_a_row() {
    let mut bench = Bench::new(Preset::Instant, &[900; 3]);
    let heard: Vec<_> = (0..6).map(|_| bench.turn()).collect();
    assert_eq!(heard, [SHORT, SHORT + 10, SHORT + 20, SHORT, SHORT + 10, SHORT + 20]);
    // There is one long clip only.
    let mut bench = Bench::new(Preset::Instant, &[3000; 3]);
    let heard: Vec<_> = (0..6).map(|_| bench.turn()).collect();
    assert!(heard.windows(2).all(|pair| pair[0] != pair[1]) && heard[0] == LONG, "{heard:?}");
}

#[test]
fn a_clip_that_was_armed_and_not_heard_is_not_used_up() {
    let mut bench = Bench::new(Preset::Instant, &[900; 3]);
    for _ in 0..3 {
        let first = bench.arm(Occasion::default()).first;
        assert_eq!(bench.length(&first), Some(SHORT));
    }
}

#[test]
fn where_a_phrase_would_tire_instant_gives_an_acknowledgement() {
    let mut bench = Bench::new(Preset::Instant, &[1500; 3]);
    bench.turn();
    let arming = bench.arm(Occasion::default());
    assert!(bench.length(&arming.first).unwrap() >= MIDDLE);
    assert_eq!(bench.length(&arming.instead), Some(SHORT));
    assert_eq!(arming.not_before, Some(bench.now + Duration::from_secs(8)));
    assert_eq!(arming.minimum_utterance, SHORT_UTTERANCE);
}

#[test]
fn instant_has_a_sound_for_every_turn_that_is_not_the_last() {
    let mut bench = Bench::new(Preset::Instant, &[900; 3]);
    for (first_reply, after_barge_in) in [(true, false), (false, true), (true, true)] {
        let arming = bench.arm(Occasion { first_reply, after_barge_in, closing: false });
        assert!(arming.first.is_some() && arming.minimum_utterance.is_zero() && arming.not_before.is_none());
    }
    let arming = bench.arm(Occasion { closing: true, ..Default::default() });
    assert!(arming.first.is_none() && arming.second.is_none());
}

#[test]
fn sparing_is_silent_on_the_first_reply_and_after_a_barge_in_but_not_in_a_long_wait() {
    let mut bench = Bench::new(Preset::Sparing, &[900; 3]);
    for (first_reply, after_barge_in) in [(true, false), (false, true)] {
        let arming = bench.arm(Occasion { first_reply, after_barge_in, closing: false });
        assert!(arming.first.is_none() && arming.instead.is_none() && arming.second.is_some());
    }
}

#[test]
fn sparing_leaves_yes_and_no_alone_and_eight_seconds_between_clips() {
    let mut bench = Bench::new(Preset::Sparing, &[900; 3]);
    assert_eq!(bench.arm(Occasion::default()).not_before, None);
    bench.turn();
    let arming = bench.arm(Occasion::default());
    assert!(arming.first.is_some() && arming.instead.is_none());
    assert_eq!(arming.minimum_utterance, SHORT_UTTERANCE);
    assert_eq!(arming.not_before, Some(bench.now + Duration::from_secs(8)));
}

#[test]
fn a_turn_that_was_bridged_and_never_answered_teaches_that_no_answer_is_to_be_expected() {
    let mut bench = Bench::new(Preset::Instant, &[]);
    for _ in 0..3 {
        let first = bench.arm(Occasion::default()).first.unwrap();
        bench.policy.clip_started(ClipKind::Placeholder, first.index, bench.now);
    }
    let arming = bench.arm(Occasion::default());
    assert_eq!((arming.expected, arming.earliest), (Some(Duration::MAX), Some(Duration::MAX)));
    assert_eq!(bench.length(&arming.first), Some(LONG));
}

#[test]
fn second_clips_rotate_too_and_can_be_off() {
    let mut bench = Bench::new(Preset::Instant, &[]);
    assert_eq!(bench.arm(Occasion::default()).second.unwrap().index, 0);
    bench.policy.clip_started(ClipKind::Still, 0, bench.now);
    assert_eq!(bench.arm(Occasion::default()).second.unwrap().index, 1);
    bench.policy.second_after = Duration::ZERO;
    assert!(bench.arm(Occasion::default()).second.is_none());
}

#[test]
fn a_set_without_clips_arms_nothing() {
    let mut bench = Bench::new(Preset::Instant, &[900; 3]);
    let arming = bench.policy.arm(Occasion::default(), &[], &[]);
    assert!(arming.first.is_none() && arming.instead.is_none() && arming.second.is_none());
}
