//! One phrase brought to the level that all sounds of the box have: without direct current, with one gain from its first sample to its last,
//! and no sample above [`CEILING`](super::shape::CEILING).
//!
//! Where the gain comes from, in this order:
//!
//! 1. From the phrase itself, when it is whole by the time it is decided: while an earlier phrase of the same answer lasts, and for a voice
//!    whose last phrase was quickly whole (a program on this machine, a server that answers with the whole sound) 50 ms from its first sound.
//! 2. From what the voice's other phrases taught ([`Loudness`]).
//! 3. From the first 200 ms that sound, for a voice of which nothing is known.
//!
//! Sans-IO. Not implemented: a change of the gain within a phrase, whatever its level turns out to be.

use std::time::{Duration, Instant};

use super::loudness::Loudness;
use super::shape::{Gain, Limiter};
use crate::pcm::{FRAME_SAMPLES, RATE, duration, level, samples_in};

/// How long the whole of a phrase is waited for, from its first sound.
const GATHER: Duration = Duration::from_millis(50);
/// So long before a phrase can be needed its gain is decided.
const AHEAD: Duration = Duration::from_millis(200);
/// So much sound decides on the gain of a voice that is not known.
const FIRST_SOUND: Duration = Duration::from_millis(200);
/// More sound is not held back, however faint it is.
const MOST_GATHERED: Duration = Duration::from_secs(2);
/// How long that is waited for, from the first sample.
const GATHER_FIRST: Duration = Duration::from_millis(400);
/// A phrase's own level is matched so far from the voice's at most, in dB: what is almost silent is meant to be.
const MOST_APART_DB: f32 = 20.0;
/// More of a phrase is not measured.
const MOST_MEASURED: Duration = Duration::from_secs(20);
/// Of the level before, so much is left with each sample in what takes direct current away: −3 dB at 13 Hz.
const DIRECT_CURRENT_KEPT: f32 = 1.0 - 80.0 / RATE as f32;

/// Takes direct current out of a sound that arrives in parts.
#[derive(Debug, Default)]
struct DirectCurrent {
    /// The last sample, and what was made of it; `None` before the first one, whose level is no step.
    last: Option<(f32, f32)>,
}

impl DirectCurrent {
    fn remove(&mut self, samples: &mut [i16]) {
        for sample in samples {
            let x = f32::from(*sample);
            let (before, made) = self.last.unwrap_or((x, 0.0));
            let y = x - before + DIRECT_CURRENT_KEPT * made;
            self.last = Some((x, y));
            *sample = y.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
        }
    }
}

/// The level of one phrase that arrives in parts.
#[derive(Debug)]
pub struct Levelling {
    loudness: Loudness,
    level_dbfs: f32,
    direct_current: DirectCurrent,
    /// What has come, without direct current; at most [`MOST_MEASURED`] once the gain is decided.
    came: Vec<i16>,
    begun: Option<Instant>,
    /// The whole of a phrase may be waited for.
    waits: bool,
    /// Before that nothing is wanted of it.
    decides_from: Option<Instant>,
    /// `None` while the gain is not decided.
    limiter: Option<Limiter>,
}

impl Levelling {
    /// A phrase of the voice that `loudness` is of, to be brought to `level_dbfs`.
    pub fn new(loudness: &Loudness, level_dbfs: f32) -> Self {
        Self {
            loudness: loudness.clone(),
            level_dbfs,
            direct_current: DirectCurrent::default(),
            came: Vec::new(),
            begun: None,
            waits: true,
            decides_from: None,
            limiter: None,
        }
    }

    /// Of a phrase that nobody needs before this instant.
    pub fn needed_at(self, needed_at: Option<Instant>) -> Self {
        Self { decides_from: needed_at.and_then(|at| at.checked_sub(AHEAD)), ..self }
    }

    /// Which does not wait for the whole of a phrase, for whoever does not ask when it [`decides_at`](Self::decides_at).
    pub fn without_waiting(self) -> Self {
        Self { waits: false, ..self }
    }

    /// Takes sound; appends to `out` what is ready.
    pub fn push(&mut self, now: Instant, mut samples: Vec<i16>, out: &mut Vec<i16>) {
        if samples.is_empty() {
            return;
        }
        self.begun.get_or_insert(now);
        self.direct_current.remove(&mut samples);
        match &mut self.limiter {
            Some(limiter) => {
                limiter.push(&samples, out);
                if (self.came.len() as u64) < samples_in(MOST_MEASURED) {
                    self.came.append(&mut samples);
                }
            }
            None => {
                self.came.append(&mut samples);
                if self.decides_from.is_none_or(|at| at <= now) && self.is_enough() {
                    self.decide(out);
                }
            }
        }
    }

    /// By when the gain is to be [decided](Self::decide), while sound is held back for that.
    pub fn decides_at(&self) -> Option<Instant> {
        let begun = self.begun.filter(|_| self.limiter.is_none())?;
        let gathers = match self.loudness.known() {
            Some(_) if !self.loudness.comes_whole() => Duration::ZERO,
            Some(_) => GATHER,
            None => GATHER_FIRST,
        };
        Some(self.decides_from.map_or(begun + gathers, |at| at.max(begun + gathers)))
    }

    /// Whether what has come is enough to decide by.
    fn is_enough(&self) -> bool {
        match self.loudness.known() {
            Some(_) => !self.waits || !self.loudness.comes_whole(),
            None => voiced(&self.came) >= FIRST_SOUND || self.came.len() as u64 >= samples_in(MOST_GATHERED),
        }
    }

    /// Decides on the gain with what is known by now; appends to `out` what was held back.
    pub fn decide(&mut self, out: &mut Vec<i16>) {
        if self.limiter.is_none() {
            let known = self.loudness.known().map(|known| self.level_dbfs - known);
            let first = || Gain::matching(&self.came, self.level_dbfs).map(Gain::in_db);
            let db = known.or_else(first).unwrap_or(0.0);
            self.begin(db, out);
        }
    }

    fn begin(&mut self, db: f32, out: &mut Vec<i16>) {
        let mut limiter = Limiter::new(Gain::db(db));
        limiter.push(&self.came, out);
        self.limiter = Some(limiter);
    }

    /// The end of the phrase: appends the rest to `out`. Its level is learned. False when there was nothing to learn: it was silent.
    pub fn finish(&mut self, now: Instant, out: &mut Vec<i16>) -> bool {
        let measured = &self.came[..self.came.len().min(samples_in(MOST_MEASURED) as usize)];
        let own = Gain::matching(measured, self.level_dbfs).map(Gain::in_db);
        let length = voiced(measured);
        if self.limiter.is_none() {
            let known = self.loudness.known().map(|known| self.level_dbfs - known);
            let near = |own: f32| known.map_or(own, |db| own.clamp(db - MOST_APART_DB, db + MOST_APART_DB));
            self.begin(own.map(near).or(known).unwrap_or(0.0), out);
        }
        if let Some(limiter) = &mut self.limiter {
            limiter.finish(out);
        }
        let Some(own) = own else { return false };
        let came_whole = self.begun.is_none_or(|begun| now.saturating_duration_since(begun) <= GATHER);
        self.loudness.learn(self.level_dbfs - own, length, came_whole);
        self.came.clear();
        true
    }
}

/// How much of a sound is voiced, whatever its level: within 25 dB of its loudest frame, and not noise of a few bits.
fn voiced(samples: &[i16]) -> Duration {
    const FAINTEST_DBFS: f32 = -65.0;
    const WITHIN_DB: f32 = 25.0;
    let levels = || samples.chunks(FRAME_SAMPLES).map(level::rms_dbfs);
    let bound = levels().fold(FAINTEST_DBFS, |loudest, dbfs| loudest.max(dbfs - WITHIN_DB));
    duration((levels().filter(|&dbfs| dbfs > bound).count() * FRAME_SAMPLES) as u64)
}

#[cfg(test)]
mod tests;
