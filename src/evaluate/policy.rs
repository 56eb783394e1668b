//! The placeholder policy over swept answer times: the real policy, forecast and mixer with the real clips, in virtual time.
//!
//! Times are those at which frames leave the box, from the caller's true end; packets and the far side's play-out come on top. The ends of turns are
//! decided as late as the endpointer decided them over the corpus.

use std::time::{Duration, Instant};

use ringbuf::HeapRb;
use ringbuf::traits::{Producer, Split};
use serde::Serialize;

use crate::config::{Config, Language, Preset};
use crate::conversation::Generation;
use crate::pcm::{FRAME_SAMPLES, Frame, PTIME, tone};
use crate::playout::clips::{Clip, Clips};
use crate::playout::{ClipKind, Forecast, Mixer, Occasion, PlaceholderPolicy, Played, SharedForecast, SpeechFrame};

use super::EvaluationError;
use super::cuts::Listener;
use super::figures::{Goal, percentile};
use super::parallel::{self, Progress};

/// Answer times that are the same in every turn of a call, in ms.
const FIXED_MS: [u64; 14] = [100, 200, 300, 400, 500, 600, 700, 800, 1000, 1250, 1500, 2000, 3000, 4000];
/// Medians of answer times that scatter (lognormal).
const MEDIANS_MS: [u64; 4] = [500, 800, 1200, 2000];
const SCATTER: f64 = 0.4;
/// Turns of a call, and calls in each language.
const TURNS: usize = 20;
const CALLS: u64 = 3;
/// How long the callers' turns are, one after another.
const UTTERANCES_MS: [u64; 4] = [2000, 500, 4000, 2500];
/// Where no answer comes, the turn is given up after so long.
const GIVE_UP: Duration = Duration::from_millis(6000);
/// Ticks of an answer, and between a turn's end and the caller's next word.
const ANSWER: usize = 40;
const BETWEEN: usize = 25;
/// Goal for the first sound, the way to the ear, and the longest grace: grace = clamp(500 − elapsed − 40, 0, 150) ms.
const LATEST: Duration = Duration::from_millis(460);
const LONGEST_GRACE: Duration = Duration::from_millis(150);

/// How late a turn's end was decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decision {
    /// From the true end to the soft end.
    pub(super) soft: Duration,
    /// From the true end to the hard end.
    pub(super) hard: Duration,
    /// From where the endpointer sees the end to the soft end.
    pub(super) believed: Duration,
}

/// When answers come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answers {
    /// Always so long after the true end.
    After(Duration),
    /// Around a median.
    Around(Duration),
    /// Not at all: every cloud address is a black hole.
    Never,
}

impl Answers {
    fn all() -> Vec<Self> {
        let fixed = FIXED_MS.iter().map(|&ms| Self::After(Duration::from_millis(ms)));
        let around = MEDIANS_MS.iter().map(|&ms| Self::Around(Duration::from_millis(ms)));
        fixed.chain(around).chain([Self::Never]).collect()
    }

    fn name(self) -> String {
        match self {
            Self::After(after) => after.as_millis().to_string(),
            Self::Around(median) => format!("~{}", median.as_millis()),
            Self::Never => "never".to_owned(),
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> Option<Duration> {
        match self {
            Self::After(after) => Some(after),
            Self::Around(median) => {
                // Twelve uniform numbers are nearly a normal one.
                let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                Some(median.mul_f64((SCATTER * normal).exp()))
            }
            Self::Never => None,
        }
    }
}

/// What the caller hears at one answer time; ms from the true end.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Waits {
    /// When the answers come, in ms: `800` always, `~800` around that median, `never`, or `all` of these together.
    pub answer_after: String,
    /// How many turns.
    pub turns: usize,
    /// The first sound of anything.
    pub first_sound_p50_ms: Option<f64>,
    /// 95 of 100 turns.
    pub first_sound_p95_ms: Option<f64>,
    /// 99 of 100 turns.
    pub first_sound_p99_ms: Option<f64>,
    /// The answer's first sound.
    pub answer_p50_ms: Option<f64>,
    /// How much later the answer is heard than without a clip, on average over the turns that have an answer.
    pub added_mean_ms: Option<f64>,
    /// 95 of 100 of these turns.
    pub added_p95_ms: Option<f64>,
    /// Turns with a clip, in percent.
    pub clips_percent: f64,
    /// Turns with a second clip, in percent.
    pub second_clips_percent: f64,
    /// Turns with a clip although the answer was ready within the grace.
    pub clips_though_ready: usize,
    /// Clips that gave way elsewhere than at the end of a word.
    pub mid_word_cuts: usize,
    /// Clips that gave way where they were loud on both sides: a cut point in a wrong place.
    pub loud_cuts: usize,
}

/// The policy over all answer times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// `instant` or `sparing`.
    pub preset: Preset,
    /// With ends decided as on a clean line: all answer times together.
    pub overall: Waits,
    /// Of these, the turns whose answer was not ready within the grace: what a clip can help.
    pub bridged: Waits,
    /// With ends decided as in noise of 10 to 30 dB.
    pub in_noise: Waits,
    /// On a clean line, each answer time.
    pub answers: Vec<Waits>,
}

/// What became of one turn.
#[derive(Debug, Clone, Default)]
struct Turn {
    first_sound: Option<Duration>,
    answer: Option<Duration>,
    added: Option<Duration>,
    clip: bool,
    second: bool,
    /// The answer was ready within the grace.
    ready: bool,
    though_ready: bool,
    mid_word: usize,
    loud: usize,
}

/// A call to be run.
struct Planned {
    in_noise: bool,
    /// Which of the answer times.
    index: usize,
    language: Language,
    call: u64,
}

/// Runs calls over all answer times, with decisions of a clean line and of noisy ones.
pub(super) fn policy(
    config: &Config,
    clips: &Clips,
    (clean, noisy): (&[Decision], &[Decision]),
    seed: u64,
    threads: usize,
    progress: Progress,
) -> Result<Policy, EvaluationError> {
    let answers = Answers::all();
    let mut calls = Vec::new();
    for in_noise in [false, true] {
        for index in 0..answers.len() {
            for language in Language::ALL {
                calls.extend((0..CALLS).map(|call| Planned { in_noise, index, language, call }));
            }
        }
    }
    let turns = parallel::each("placeholders", &calls, threads, progress, |planned| {
        let decisions = if planned.in_noise { noisy } else { clean };
        let seed = seed ^ (planned.index as u64) << 32 ^ planned.call << 8 ^ planned.language as u64;
        let call = Call::new(config, clips, planned.language, fastrand::Rng::with_seed(seed));
        Ok(call.turns(answers[planned.index], decisions))
    })?;
    let select = |name: &str, which: &dyn Fn(&Planned) -> bool, turn: &dyn Fn(&Turn) -> bool| {
        let selected = calls.iter().zip(&turns).filter(|(planned, _)| which(planned)).flat_map(|(_, turns)| turns);
        waits(name.to_owned(), &selected.filter(|of| turn(of)).collect::<Vec<_>>())
    };
    Ok(Policy {
        preset: config.placeholder.preset,
        overall: select("all", &|planned| !planned.in_noise, &|_| true),
        bridged: select("after the grace", &|planned| !planned.in_noise, &|turn| !turn.ready),
        in_noise: select("all, in noise", &|planned| planned.in_noise, &|_| true),
        answers: (0..answers.len())
            .map(|index| {
                select(&answers[index].name(), &|planned| planned.index == index && !planned.in_noise, &|_| true)
            })
            .collect(),
    })
}

/// The goals of the policy. A sparing box promises no early sound, and none can be promised for an answer that is ready at once but must wait for
/// the hard end.
pub(super) fn goals(policy: &Policy) -> Vec<Goal> {
    let (all, bridged) = (&policy.overall, &policy.bridged);
    let first_sound = [
        Goal::new("policy.bridged.first_sound_p50_ms", 400.0, bridged.first_sound_p50_ms),
        Goal::new("policy.bridged.first_sound_p95_ms", 480.0, bridged.first_sound_p95_ms),
        Goal::new("policy.bridged.first_sound_p99_ms", 500.0, bridged.first_sound_p99_ms),
    ];
    let rest = [
        Goal::new("policy.overall.added_mean_ms", 130.0, all.added_mean_ms),
        Goal::new("policy.overall.added_p95_ms", 350.0, all.added_p95_ms),
        Goal::new("policy.overall.clips_though_ready", 0.0, Some(all.clips_though_ready as f64)),
        Goal::new("policy.overall.mid_word_cuts", 0.0, Some(all.mid_word_cuts as f64)),
    ];
    first_sound.into_iter().filter(|_| policy.preset == Preset::Instant).chain(rest).collect()
}

fn waits(answer_after: String, turns: &[&Turn]) -> Waits {
    let sorted = |what: fn(&Turn) -> Option<Duration>| {
        let mut sorted: Vec<Duration> = turns.iter().filter_map(|turn| what(turn)).collect();
        sorted.sort();
        sorted
    };
    let ms = |duration: Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
    let (first, answer, added) =
        (sorted(|turn| turn.first_sound), sorted(|turn| turn.answer), sorted(|turn| turn.added));
    let count = |which: fn(&Turn) -> bool| turns.iter().filter(|turn| which(turn)).count();
    let percent = |part: usize| (1000.0 * part as f64 / turns.len().max(1) as f64).round() / 10.0;
    Waits {
        answer_after,
        turns: turns.len(),
        first_sound_p50_ms: percentile(&first, 50).map(ms),
        first_sound_p95_ms: percentile(&first, 95).map(ms),
        first_sound_p99_ms: percentile(&first, 99).map(ms),
        answer_p50_ms: percentile(&answer, 50).map(ms),
        added_mean_ms: (!added.is_empty()).then(|| ms(added.iter().sum::<Duration>() / added.len() as u32)),
        added_p95_ms: percentile(&added, 95).map(ms),
        clips_percent: percent(count(|turn| turn.clip)),
        second_clips_percent: percent(count(|turn| turn.second)),
        clips_though_ready: count(|turn| turn.though_ready),
        mid_word_cuts: turns.iter().map(|turn| turn.mid_word).sum(),
        loud_cuts: turns.iter().map(|turn| turn.loud).sum(),
    }
}

/// One call: what the media thread and the dialogue do with mixer and policy, in virtual time.
struct Call<'a> {
    mixer: Mixer,
    policy: PlaceholderPolicy,
    placeholders: &'a [Clip],
    stills: &'a [Clip],
    random: fastrand::Rng,
    now: Instant,
}

impl<'a> Call<'a> {
    fn new(config: &Config, clips: &'a Clips, language: Language, random: fastrand::Rng) -> Self {
        Self {
            mixer: Mixer::new(config.placeholder.grace),
            policy: PlaceholderPolicy::new(config, Forecast::new(SharedForecast::default())),
            placeholders: clips.placeholders(language),
            stills: clips.stills(language),
            random,
            now: Instant::now() + Duration::from_secs(60),
        }
    }

    fn turns(mut self, answers: Answers, decisions: &[Decision]) -> Vec<Turn> {
        if decisions.is_empty() {
            return Vec::new();
        }
        (0..TURNS)
            .map(|index| {
                let decision = decisions[self.random.usize(..decisions.len())];
                let answer = answers.draw(&mut self.random);
                self.turn(index as Generation + 1, decision, answer)
            })
            .collect()
    }

    fn turn(&mut self, number: Generation, decision: Decision, answer: Option<Duration>) -> Turn {
        let (mut push, mut pop) = HeapRb::<SpeechFrame>::new(ANSWER + 1).split();
        let voice = tone::sine(1000.0, -20.0, FRAME_SAMPLES);
        let voice: Frame = std::array::from_fn(|n| voice[n]);
        let occasion = Occasion { first_reply: number == 1, ..Occasion::default() };
        let arming = self.policy.arm(occasion, self.placeholders, self.stills);
        self.mixer.arm(self.now, arming);
        self.mixer.utterance_started();
        let utterance = Duration::from_millis(UTTERANCES_MS[number as usize % UTTERANCES_MS.len()]);
        for _ in 0..utterance.as_millis() / PTIME.as_millis() {
            self.now += PTIME;
            self.mixer.tick(self.now, &mut pop);
        }
        // The soft end falls on a tick, as it did when it was measured.
        let soft_at = self.now + PTIME;
        let true_end = soft_at - decision.soft;
        let grace = LATEST.saturating_sub(decision.believed).min(LONGEST_GRACE);
        let ready_within_grace = answer.is_some_and(|answer| answer <= decision.soft + grace);
        let mut turn = Turn { ready: ready_within_grace, ..Turn::default() };
        let (mut ended, mut released, mut queued) = (false, false, false);
        let mut listener = Listener::default();
        let mut over = false;
        let mut ticks_over = 0;
        while ticks_over < BETWEEN {
            self.now += PTIME;
            let since = self.now.saturating_duration_since(true_end);
            if !ended {
                ended = true;
                self.mixer.utterance_ended(self.now, self.now - decision.believed, utterance);
            }
            if !queued && answer.is_some_and(|answer| since >= answer) {
                queued = true;
                for _ in 0..ANSWER {
                    let _ = push.try_push(SpeechFrame::speech(number, 0, voice));
                }
                let _ = push.try_push(SpeechFrame::end_of_phrase(number, 0));
            }
            if !released && since >= decision.hard {
                released = true;
                self.mixer.release(number);
            }
            if queued && released && turn.added.is_none() {
                turn.added = Some(since);
            }
            let (frame, _) = self.mixer.tick(self.now, &mut pop);
            while let Some(played) = self.mixer.poll() {
                match played {
                    Played::ClipStarted { kind, index, at } => {
                        self.policy.clip_started(kind, index, at);
                        turn.clip |= kind == ClipKind::Placeholder;
                        turn.second |= kind == ClipKind::Still;
                        turn.though_ready |= kind == ClipKind::Placeholder && turn.ready;
                        let clips = if kind == ClipKind::Still { self.stills } else { self.placeholders };
                        listener.follow(clips.get(usize::from(index)));
                    }
                    Played::AnswerQueued { after } => self.policy.answer_queued(after),
                    Played::FirstSound { at } => turn.first_sound = Some(at.saturating_duration_since(true_end)),
                    Played::AnswerStarted { at, .. } => turn.answer = Some(at.saturating_duration_since(true_end)),
                    Played::PhraseEnded { .. } => over = true,
                    _ => {}
                }
            }
            if let Some(cut) = listener.hear(&frame) {
                turn.mid_word += usize::from(cut.mid_word);
                turn.loud += usize::from(cut.loud);
            }
            over |= answer.is_none() && since >= GIVE_UP;
            ticks_over += usize::from(over);
        }
        // Until here it was the moment from which the answer could have been heard.
        turn.added = turn.answer.zip(turn.added).map(|(heard, possible)| heard.saturating_sub(possible));
        self.mixer.disarm();
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        let ms = Duration::from_millis;
        Decision { soft: ms(310), hard: ms(720), believed: ms(300) }
    }

    /// The turns of calls whose answers come like this.
    fn heard(answers: Answers) -> Waits {
        let config = Config::default();
        let clips = Clips::embedded(config.voice.level_dbfs);
        let turns: Vec<Turn> = Language::ALL
            .into_iter()
            .flat_map(|language| {
                Call::new(&config, &clips, language, fastrand::Rng::with_seed(1)).turns(answers, &[decision()])
            })
            .collect();
        waits(answers.name(), &turns.iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_answer_within_the_grace_needs_no_clip_and_waits_for_the_commit_only() {
        let waits = heard(Answers::After(Duration::from_millis(200)));
        assert_eq!((waits.turns, waits.clips_percent, waits.clips_though_ready), (60, 0.0, 0));
        assert!(waits.answer_p50_ms.is_some_and(|ms| (720.0..=740.0).contains(&ms)), "{waits:?}");
        assert_eq!(waits.added_p95_ms, Some(0.0));
    }

    #[test]
    fn a_slow_answer_is_bridged_and_its_clip_ends_with_a_word() {
        let waits = heard(Answers::After(Duration::from_millis(1000)));
        assert_eq!((waits.clips_percent, waits.mid_word_cuts), (100.0, 0), "{waits:?}");
        assert!(waits.first_sound_p99_ms.is_some_and(|ms| ms <= 500.0), "{waits:?}");
        assert!(waits.answer_p50_ms.is_some_and(|ms| ms >= 1000.0));
    }

    #[test]
    fn a_black_hole_is_bridged_too_and_bridged_again() {
        let waits = heard(Answers::Never);
        assert_eq!((waits.clips_percent, waits.answer_p50_ms, waits.added_mean_ms), (100.0, None, None));
        assert!(waits.first_sound_p99_ms.is_some_and(|ms| ms <= 500.0), "{waits:?}");
        assert!(waits.second_clips_percent == 0.0 || waits.second_clips_percent > 90.0, "{waits:?}");
    }
}
