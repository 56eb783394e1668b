//! A strip of samples: what was played a moment ago, and behind it what is to be played next, in one piece of memory.
//!
//! Each sample knows whether it was received, made up, or is nothing. Time is changed here too: a stretch as long as a pitch period is
//! taken out or played twice, mixed where it joins.

use crate::rtp::conceal::HISTORY_MS;
use crate::rtp::pitch::{Likeness, best, likeness, stride};

/// Where a sample comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Origin {
    /// From a packet.
    Received,
    /// Concealment.
    Concealed,
    /// Nothing was due.
    Silence,
}

/// Samples of each origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub received: usize,
    pub concealed: usize,
    pub silence: usize,
}

/// The longest that can wait here: a hole at the cap, and packets of 60 ms around it.
const WAITING_MS: usize = 400;
/// Periods are looked for between these, in µs.
const PERIOD_US: (usize, usize) = (2_500, 20_000);
/// Joins are mixed over so long, in µs.
const JOIN_US: usize = 5_000;
/// The stretches that join must be so alike.
const ALIKE: f32 = 0.9;
/// A period that is a little less alike, but longer, is taken: fewer joins.
const NEARLY: f32 = 0.03;

/// How a stretch may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sound {
    /// Only whole periods.
    Speech,
    /// Speech, but time presses: the best there is.
    Urgent,
    /// Any length.
    Quiet,
}

#[derive(Debug)]
pub(super) struct Strip {
    samples: Box<[i16]>,
    origins: Box<[Origin]>,
    history: usize,
    end: usize,
    rate: u32,
}

impl Strip {
    pub(super) fn new(rate: u32) -> Self {
        let history = rate as usize * HISTORY_MS / 1000;
        let capacity = history + rate as usize * WAITING_MS / 1000;
        Self {
            samples: vec![0; capacity].into(),
            origins: vec![Origin::Silence; capacity].into(),
            history,
            end: history,
            rate,
        }
    }

    /// Samples that wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.history
    }

    /// How many more fit.
    pub(super) fn room(&self) -> usize {
        self.samples.len() - self.end
    }

    /// Whether the last sample is silence, or what went for it.
    pub(super) fn ends_silent(&self) -> bool {
        self.origins[self.end - 1] == Origin::Silence
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.end = self.history;
    }

    /// What was played and what waits, as far as it ends `back` samples before the end.
    pub(super) fn before(&self, back: usize) -> &[i16] {
        &self.samples[..self.end - back]
    }

    /// What waits, and `back` samples before it.
    pub(super) fn around(&self, back: usize) -> &[i16] {
        &self.samples[self.history - back.min(self.history)..self.end]
    }

    /// All samples, played and waiting; the last `len` of them wait.
    pub(super) fn all_mut(&mut self) -> &mut [i16] {
        &mut self.samples[..self.end]
    }

    /// The last `length` samples.
    pub(super) fn tail_mut(&mut self, length: usize) -> &mut [i16] {
        &mut self.samples[self.end - length..self.end]
    }

    /// Appends `length` samples (or as many as there is room for), to be written by the caller.
    pub(super) fn push(&mut self, length: usize, origin: Origin) -> &mut [i16] {
        let begin = self.end;
        self.end += length.min(self.room());
        self.origins[begin..self.end].fill(origin);
        &mut self.samples[begin..self.end]
    }

    /// The last `length` samples were made up, after all.
    pub(super) fn made_up(&mut self, length: usize) {
        self.origins[self.end - length..self.end].fill(Origin::Concealed);
    }

    /// Takes the next samples out; there must be enough.
    pub(super) fn pop(&mut self, out: &mut [i16]) -> Share {
        let length = out.len().min(self.len());
        let taken = self.history..self.history + length;
        out[..length].copy_from_slice(&self.samples[taken.clone()]);
        let mut share = Share::default();
        for origin in &self.origins[taken] {
            match origin {
                Origin::Received => share.received += 1,
                Origin::Concealed => share.concealed += 1,
                Origin::Silence => share.silence += 1,
            }
        }
        self.samples.copy_within(length..self.end, 0);
        self.origins.copy_within(length..self.end, 0);
        self.end -= length;
        share
    }

    /// Remembers samples that were played without having waited here.
    pub(super) fn played(&mut self, out: &[i16]) {
        let length = out.len().min(self.room());
        self.push(length, Origin::Silence).copy_from_slice(&out[out.len() - length..]);
        self.samples.copy_within(length..self.end, 0);
        self.origins.copy_within(length..self.end, 0);
        self.end -= length;
    }

    fn join(&self) -> usize {
        self.rate as usize * JOIN_US / 1_000_000
    }

    /// Takes out up to `most` of the samples that wait; returns how many, 0 when it would be heard.
    pub(super) fn shorten(&mut self, most: usize, sound: Sound) -> usize {
        let (join, first) = (self.join(), self.history);
        let longest = most.min(self.len().saturating_sub(join));
        let alike = |shift: usize| {
            let (here, there) = (first..first + join, first + shift..first + shift + join);
            likeness(&self.samples[here], &self.samples[there], stride(self.rate))
        };
        let Some(period) = self.choose(longest, sound, alike) else { return 0 };
        // From behind, so that a stretch shorter than the join reads what it has not written.
        for n in (0..join).rev() {
            let (from, to) = (self.samples[first + n], self.samples[first + period.shift + n]);
            self.samples[first + period.shift + n] = mix(from, to, n, join, period.score);
        }
        self.samples.copy_within(first + period.shift..self.end, first);
        self.origins.copy_within(first + period.shift..self.end, first);
        self.end -= period.shift;
        period.shift
    }

    /// Plays up to `most` samples of what was played last again, so that what waits comes later; returns how many, 0 when it would be
    /// heard.
    pub(super) fn lengthen(&mut self, most: usize, sound: Sound) -> usize {
        let (join, first) = (self.join(), self.history);
        if self.len() < join {
            return 0;
        }
        let longest = most.min(self.room()).min(first - join);
        let alike = |shift: usize| {
            let (here, there) = (first..first + join, first - shift..first - shift + join);
            likeness(&self.samples[here], &self.samples[there], stride(self.rate))
        };
        let Some(period) = self.choose(longest, sound, alike) else { return 0 };
        let shift = period.shift;
        let join = join.min(shift);
        // ... past | future  becomes  ... past | past again, begun by the future's beginning | future
        self.samples.copy_within(first..self.end, first + shift);
        self.origins.copy_within(first..self.end, first + shift);
        self.end += shift;
        self.origins.copy_within(first - shift..first, first);
        for n in 0..shift {
            let again = self.samples[first - shift + n];
            self.samples[first + n] =
                if n < join { mix(self.samples[first + shift + n], again, n, join, period.score) } else { again };
        }
        shift
    }

    fn choose(&self, longest: usize, sound: Sound, alike: impl Fn(usize) -> f32) -> Option<Likeness> {
        let us = |us: usize| self.rate as usize * us / 1_000_000;
        let (shortest, longest) = (us(PERIOD_US.0), longest.min(us(PERIOD_US.1)));
        if sound == Sound::Quiet {
            return (longest > 0).then(|| Likeness { shift: longest, score: alike(longest) });
        }
        let found = best(shortest..=longest, stride(self.rate), &alike)?;
        if sound == Sound::Speech && found.score < ALIKE {
            return None;
        }
        // Of multiples of a period the longest.
        let nearly = (found.shift + shortest..=longest).rev().find(|&shift| alike(shift) >= found.score - NEARLY);
        Some(nearly.map_or(found, |shift| Likeness { shift, score: alike(shift) }))
    }
}

/// Sample `n` of `length` on the way from one sound to another; unrelated sounds are mixed by power.
fn mix(from: i16, to: i16, n: usize, length: usize, alike: f32) -> i16 {
    let share = (n as f32 + 0.5) / length as f32;
    let rest = 1.0 - share;
    let power = (share * share + rest * rest + 2.0 * alike.clamp(0.0, 1.0) * share * rest).sqrt();
    ((f32::from(from) * rest + f32::from(to) * share) / power).round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests;
