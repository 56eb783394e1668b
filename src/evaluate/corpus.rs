//! The corpus: which callers say what, with which pauses, in which noise. The same seed gives the same corpus.
//!
//! First a plan, in which nothing sounds yet; then [`Case::render`] makes the sound of one case and the truth about it.

use std::ops::Range;

use crate::config::Language;
use crate::pcm::level;
use crate::pcm::telephone::{Frame, RATE};

use super::noise::{self, Noise};
use super::texts::{self, Texts};
use super::voice::{self, HOP, LEVEL_DBFS, Voices, Words};
use super::{EvaluationError, line};

/// Ratios of voice to noise, in dB; `None`: no noise at all.
pub const SNRS_DB: [Option<u32>; 5] = [None, Some(30), Some(20), Some(10), Some(5)];
/// Pauses between the halves of a sentence, in ms.
const PAUSES_MS: [u32; 9] = [100, 200, 300, 400, 500, 600, 700, 800, 900];
/// Pauses between the groups of a dictated number.
const NUMBER_PAUSES_MS: [u32; 6] = [300, 500, 700, 900, 1200, 1500];
/// Pauses after a sound of hesitation.
const HESITATION_PAUSES_MS: [u32; 4] = [300, 500, 700, 900];
/// Pauses of a caller who speaks briskly, and of one who thinks while speaking: one for each turn.
const BRISK_MS: [u32; 5] = [100, 200, 100, 300, 200];
const SLOW_MS: [u32; 5] = [600, 700, 600, 800, 600];
/// Words a minute.
const RATES: [u32; 4] = [130, 150, 175, 200];
/// Sounds of hesitation are stretched: so slow.
const HESITATION_RATE: u32 = 90;
/// Noise, or nothing, before the first turn; a little more, so that turns begin anywhere in a frame.
const LEAD: usize = 2 * RATE as usize;
/// After a turn: long enough to see that no end comes.
const TAIL: usize = 17 * RATE as usize / 5;
/// People who speak at once in [`Noise::Babble`], and how much of them is kept.
const BABBLING: usize = 6;
const BABBLE: usize = 40 * RATE as usize;

/// What a turn is about, as far as its pauses go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A sentence without a pause.
    Whole,
    /// A word.
    Short,
    /// A sentence with a pause in its middle.
    Sentence,
    /// A number in groups of digits.
    Number,
    /// A sentence in which the caller searches for a word.
    Hesitation,
    /// One of several turns of a caller whose pauses are always short.
    Brisk,
    /// One of several turns of a caller whose pauses are always long.
    Slow,
}

impl Kind {
    /// As reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Short => "short",
            Self::Sentence => "sentence",
            Self::Number => "number",
            Self::Hesitation => "hesitation",
            Self::Brisk => "brisk caller",
            Self::Slow => "slow caller",
        }
    }

    /// Whether it is one of several turns of the same caller.
    pub const fn is_caller(self) -> bool {
        matches!(self, Self::Brisk | Self::Slow)
    }
}

/// Words, and the pause behind them in ms (0 behind the last).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    words: Words,
    pause_ms: u32,
}

/// One recording of the corpus, planned: a caller who says one turn or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name, also of its file.
    pub name: String,
    /// What is spoken.
    pub language: Language,
    /// What the turns are about.
    pub kind: Kind,
    /// Ratio of voice to noise, in dB.
    pub snr_db: Option<u32>,
    /// The noise, if there is any.
    pub noise: Option<Noise>,
    gain_db: f32,
    seed: u64,
    turns: Vec<Vec<Piece>>,
}

/// A pause within a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// How long it was meant to be.
    pub ms: u32,
    /// Where it lies, in samples.
    pub samples: Range<usize>,
}

/// The truth about a turn. Positions are samples of the clean sound, by its level over 10 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// From the first to the last voiced 10 ms.
    pub samples: Range<usize>,
    /// The pauses in it.
    pub pauses: Vec<Pause>,
}

impl Truth {
    /// The longest pause in it, in ms.
    pub fn longest_pause_ms(&self) -> u32 {
        self.pauses.iter().map(|pause| pause.ms).max().unwrap_or(0)
    }
}

/// A case as the box hears it.
#[derive(Debug)]
pub struct Recording {
    /// The sound.
    pub frames: Vec<Frame>,
    /// The turns in it, in order.
    pub turns: Vec<Truth>,
}

/// Plans the corpus: several hundred cases, or a few for `quick`.
pub fn plan(seed: u64, quick: bool) -> Vec<Case> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cases = Vec::new();
    for language in Language::ALL {
        for snr_db in SNRS_DB {
            for (index, kind, pauses) in kinds(quick) {
                let texts = texts::of(language);
                let mut speaker = Speaker {
                    texts,
                    voice: texts.voices[random.usize(..texts.voices.len())],
                    rate: RATES[random.usize(..RATES.len())],
                    random: &mut random,
                };
                let turns = speaker.turns(kind, pauses);
                // Of as many cases with the same pause, each has another noise.
                let noise = Noise::ALL[(index + index / 9 + cases.len() / 7) % Noise::ALL.len()];
                let snr = snr_db.map_or("clean".to_owned(), |db| format!("{db}dB-{}", noise.name()));
                let number = cases.len() + 1;
                cases.push(Case {
                    name: format!("{number:04}-{}-{}-{snr}", language.code(), kind.name().replace(' ', "-")),
                    language,
                    kind,
                    snr_db,
                    noise: snr_db.map(|_| noise),
                    gain_db: random.f32() * 7.0 - 4.0,
                    seed: random.u64(..),
                    turns,
                });
            }
        }
    }
    cases
}

/// What is said in each language and noise: a running number, the kind, and the pauses, one for each turn of a caller.
fn kinds(quick: bool) -> Vec<(usize, Kind, &'static [u32])> {
    let one = |kind, pauses: &'static [u32]| pauses.chunks(1).map(move |pause| (kind, pause));
    let kinds: Vec<(Kind, &[u32])> = if quick {
        one(Kind::Sentence, &PAUSES_MS[4..5])
            .chain(one(Kind::Sentence, &PAUSES_MS[8..]))
            .chain(one(Kind::Number, &NUMBER_PAUSES_MS[1..2]))
            .chain([(Kind::Short, &[0][..]), (Kind::Brisk, &BRISK_MS[..2])])
            .collect()
    } else {
        one(Kind::Sentence, &PAUSES_MS)
            .chain(one(Kind::Sentence, &PAUSES_MS))
            .chain(one(Kind::Number, &NUMBER_PAUSES_MS))
            .chain(one(Kind::Hesitation, &HESITATION_PAUSES_MS))
            .chain(one(Kind::Whole, &[0; 4]))
            .chain(one(Kind::Short, &[0; 3]))
            .chain([(Kind::Brisk, &BRISK_MS[..]), (Kind::Slow, &SLOW_MS[..])])
            .collect()
    };
    kinds.into_iter().enumerate().map(|(index, (kind, pauses))| (index, kind, pauses)).collect()
}

/// Puts words into somebody's mouth.
struct Speaker<'a> {
    texts: &'static Texts,
    voice: &'static str,
    rate: u32,
    random: &'a mut fastrand::Rng,
}

impl Speaker<'_> {
    fn turns(&mut self, kind: Kind, pauses_ms: &[u32]) -> Vec<Vec<Piece>> {
        pauses_ms
            .iter()
            .map(|&pause_ms| match kind {
                Kind::Whole => vec![self.one_of(self.texts.whole, 0)],
                Kind::Short => vec![self.one_of(self.texts.short, 0)],
                Kind::Number => self.number(pause_ms),
                Kind::Hesitation => {
                    let [first, second] = self.halves(pause_ms);
                    let before = Piece { pause_ms: 200, ..first };
                    let mut hesitation = self.one_of(self.texts.hesitations, pause_ms);
                    hesitation.words.rate = HESITATION_RATE;
                    vec![before, hesitation, second]
                }
                Kind::Sentence | Kind::Brisk | Kind::Slow => self.halves(pause_ms).into(),
            })
            .collect()
    }

    fn halves(&mut self, pause_ms: u32) -> [Piece; 2] {
        let [first, second] = self.texts.halves[self.random.usize(..self.texts.halves.len())];
        [self.piece(first, pause_ms), self.piece(second, 0)]
    }

    /// Three groups of digits with nearly the same pause between them.
    fn number(&mut self, pause_ms: u32) -> Vec<Piece> {
        let mut pieces = vec![self.piece(self.texts.number_is, 200)];
        for (group, pause_ms) in [(3, pause_ms), (3, pause_ms), (2, 0)] {
            let digits: Vec<&str> = (0..group).map(|_| self.texts.digits[self.random.usize(..10)]).collect();
            pieces.push(self.piece(&digits.join(" "), pause_ms));
        }
        pieces
    }

    fn one_of(&mut self, texts: &[&str], pause_ms: u32) -> Piece {
        let text = texts[self.random.usize(..texts.len())];
        self.piece(text, pause_ms)
    }

    fn piece(&self, text: &str, pause_ms: u32) -> Piece {
        Piece { words: Words { voice: self.voice, rate: self.rate, text: self.texts.written(text) }, pause_ms }
    }
}

/// The sound of several people who speak at once, for [`Case::render`].
pub(super) fn babble(seed: u64, voices: &Voices) -> Result<Vec<i16>, EvaluationError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut people = Vec::new();
    for index in 0..BABBLING {
        let texts = texts::of(Language::ALL[index % Language::ALL.len()]);
        let voice = texts.voices[(index * 2 + 1) % texts.voices.len()];
        let mut sound = Vec::new();
        for &text in texts.whole.iter().chain(texts.halves.iter().flatten()) {
            let speech = voices.speak(&Words { voice, rate: 160, text: texts.written(text) })?;
            sound.extend_from_slice(&speech.samples);
            sound.resize(sound.len() + random.usize(400..3200), 0);
        }
        people.push(sound);
    }
    Ok(noise::mixed(&people, BABBLE, &mut random))
}

impl Case {
    /// Makes the sound, of which `loss_percent` of the packets are lost. Blocks while espeak-ng speaks.
    pub(super) fn render(
        &self,
        voices: &Voices,
        babble: &[i16],
        loss_percent: f32,
    ) -> Result<Recording, EvaluationError> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (mut sound, turns) = self.clean(voices, &mut random)?;
        if let (Some(noise), Some(snr_db)) = (self.noise, self.snr_db) {
            let dbfs = level::active_dbfs_at(RATE, &sound).unwrap_or(LEVEL_DBFS) - snr_db as f32;
            let noise = noise::make(noise, sound.len(), dbfs, babble, &mut random);
            for (sample, noise) in sound.iter_mut().zip(noise) {
                *sample = sample.saturating_add(noise);
            }
        }
        Ok(Recording { frames: line::over_the_line(&sound, loss_percent, &mut random), turns })
    }

    /// The voice alone, and where it is.
    fn clean(&self, voices: &Voices, random: &mut fastrand::Rng) -> Result<(Vec<i16>, Vec<Truth>), EvaluationError> {
        let mut sound: Vec<i16> = Vec::new();
        let mut spans = Vec::new();
        let mut at = 0;
        for turn in &self.turns {
            at += LEAD + random.usize(..1600);
            let mut ends: Vec<(Range<usize>, u32)> = Vec::new();
            for piece in turn {
                let speech = voices.speak(&piece.words)?;
                let from = at - speech.voiced.start;
                sound.resize(sound.len().max(from + speech.samples.len()), 0);
                for (sum, &sample) in sound[from..].iter_mut().zip(&speech.samples) {
                    *sum = sum.saturating_add(sample);
                }
                ends.push((at..at + speech.voiced.len(), piece.pause_ms));
                at += speech.voiced.len() + piece.pause_ms as usize * RATE as usize / 1000;
            }
            spans.push(ends);
            at += TAIL.saturating_sub(if spans.len() < self.turns.len() { LEAD } else { 0 });
        }
        sound.resize(sound.len().max(at), 0);
        level::apply_gain(&mut sound, self.gain_db);
        let turns = spans.iter().map(|pieces| truth(&sound, pieces)).collect();
        Ok((sound, turns))
    }
}

/// Where a turn begins, pauses and ends by level; `pieces` say about where.
fn truth(sound: &[i16], pieces: &[(Range<usize>, u32)]) -> Truth {
    // The gain of the case moves the level's crossing a little.
    let slack = RATE as usize / 10;
    let voiced = |range: Range<usize>| {
        let from = range.start.saturating_sub(slack) / HOP;
        let to = ((range.end + slack) / HOP).min(sound.len() / HOP);
        let hops = || (from..to).filter(|hop| voice::is_voiced(&sound[hop * HOP..(hop + 1) * HOP]));
        match (hops().next(), hops().next_back()) {
            (Some(first), Some(last)) => first * HOP..(last + 1) * HOP,
            _ => range,
        }
    };
    let halved = |range: &Range<usize>, ms: u32| {
        // Neighbours closer than the slack must not be taken for one another.
        if ms < 250 { range.clone() } else { voiced(range.clone()) }
    };
    let begin = pieces.first().map_or(0, |(range, _)| voiced(range.start..range.end).start);
    let end = pieces.last().map_or(0, |(range, _)| voiced(range.start..range.end).end);
    let pauses = pieces
        .windows(2)
        .map(|pair| Pause {
            ms: pair[0].1,
            samples: halved(&pair[0].0, pair[0].1).end..halved(&pair[1].0, pair[0].1).start,
        })
        .collect();
    Truth { samples: begin..end, pauses }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_plan_has_every_language_noise_and_pause_and_only_the_seed_changes_it() {
        let cases = plan(1, false);
        let turns: usize = cases.iter().map(|case| case.turns.len()).sum();
        assert!((500..900).contains(&turns), "{turns}");
        for language in Language::ALL {
            for snr_db in SNRS_DB {
                let here = || cases.iter().filter(|case| case.language == language && case.snr_db == snr_db);
                let pauses: HashSet<u32> =
                    here().flat_map(|case| case.turns.iter().flatten()).map(|piece| piece.pause_ms).collect();
                assert!(PAUSES_MS.iter().chain(&NUMBER_PAUSES_MS).all(|ms| pauses.contains(ms)));
                let noises: HashSet<_> = here().map(|case| case.noise).collect();
                assert_eq!(noises.len(), if snr_db.is_some() { 3 } else { 1 });
                assert!(here().any(|case| case.kind.is_caller() && case.turns.len() > 3));
            }
        }
        assert!(cases == plan(1, false) && cases != plan(2, false));
        assert!(plan(1, true).len() < 100);
    }

    #[test]
    fn a_case_sounds_where_its_truth_says_and_the_pauses_are_as_long_as_they_were_meant_to_be() {
        let voices = Voices::default();
        for case in plan(7, false).iter().filter(|case| case.snr_db.is_none()).step_by(9) {
            let recording = case.render(&voices, &[], 0.0).unwrap();
            let sound = recording.frames.concat();
            assert_eq!(recording.turns.len(), case.turns.len());
            for turn in &recording.turns {
                let at = |sample: usize| level::rms_dbfs(&sound[sample..sample + HOP]);
                assert!(at(turn.samples.start) > -46.0 && at(turn.samples.end - HOP) > -46.0, "{}", case.name);
                assert!(at(turn.samples.end) < -44.0 && at(turn.samples.start - HOP) < -44.0, "{}", case.name);
                for pause in &turn.pauses {
                    let ms = pause.samples.len() as f64 / 8.0;
                    assert!((ms - f64::from(pause.ms)).abs() < 75.0, "{}: {ms} for {}", case.name, pause.ms);
                }
                assert!(sound.len() >= turn.samples.end + 3 * RATE as usize);
            }
            for pair in recording.turns.windows(2) {
                assert!(pair[1].samples.start >= pair[0].samples.end + 3 * RATE as usize, "{}", case.name);
            }
        }
    }
}
