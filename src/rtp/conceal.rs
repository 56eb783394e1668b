//! Concealment of lost sound: what was heard goes on with its own pitch and fades; where the sound after the hole is known already, both
//! sides are continued towards each other (in the manner of ITU-T G.711 Appendix I, with a pitch between samples and a second side).
//!
//! The pitch is found once per loss over 50–400 Hz. Works at any sample rate and allocates nothing after construction. Not implemented: a
//! change of pitch within a loss that has only one side; codecs that conceal by themselves.

use super::pitch::{Likeness, best, likeness, stride};

/// What is remembered of the past, in ms: two of the longest periods and what they are compared by.
pub(super) const HISTORY_MS: usize = 52;
/// Longest and shortest pitch period in µs.
const LAG_US: (usize, usize) = (20_000, 2_500);
/// What is compared to find the period, in ms.
const WINDOW_MS: usize = 20;
/// What follows a concealment is mixed with its continuation for so long, in µs.
const OVERLAP_US: usize = 5_000;
/// A side whose period is not known only joins the other one, over so long, in µs.
const JOIN_US: usize = 2_000;
/// The continued sound stays as loud for so long, in ms, and is gone so much later.
const STEADY_MS: usize = 15;
const FADE_MS: usize = 45;
/// Shorter stretches say nothing about what comes before them, in ms.
const LEAST_FUTURE_MS: usize = 5;

/// The two sides of a hole are compared over so long, in ms.
const COMPARED_MS: usize = 10;
/// Sides that are less alike are not shifted.
const LEAST_ALIKE: f32 = 0.3;

/// Where the continued sound has faded away, in ms.
pub const FADED_MS: usize = STEADY_MS + FADE_MS;

/// One side of a hole, repeated with its period.
#[derive(Debug, Clone)]
struct Continuation {
    /// The newest sample last.
    past: Box<[f32]>,
    length: usize,
    /// The period, between whole samples.
    lag: f32,
    /// What the last sample lies above the one a period before it; taken off so that the beginning makes no step.
    step: f32,
    overlap: f32,
    /// How well the period explains the past.
    score: f32,
}

impl Continuation {
    fn new(rate: u32) -> Self {
        let length = rate as usize * HISTORY_MS / 1000;
        let overlap = (rate as usize * OVERLAP_US / 1_000_000) as f32;
        Self { past: vec![0.0; length].into(), length, lag: 1.0, step: 0.0, overlap, score: 0.0 }
    }

    /// Looks at `past`, the newest sample last, for a period within `lags`.
    fn look(&mut self, past: impl ExactSizeIterator<Item = f32>, lags: (usize, usize), window: usize, stride: usize) {
        let (capacity, offered) = (self.past.len(), past.len());
        self.length = offered.min(capacity);
        for (kept, sample) in self.past.iter_mut().zip(past.skip(offered.saturating_sub(capacity))) {
            *kept = sample;
        }
        let past = &self.past[..self.length];
        let end = self.length;
        let window = window.min(end / 2).max(1);
        // Two periods are needed to join the ends of one.
        let longest = lags.1.min(end.saturating_sub(window + 1)).min(end / 2);
        let score = |lag: usize| likeness(&past[end - window..], &past[end - window - lag..end - lag], stride);
        let shortest = lags.0.min(longest).max(1);
        let found = best(shortest..=longest, stride, score);
        let found = found.unwrap_or(Likeness { shift: longest.max(1), score: 0.0 });
        let mut lag = found.shift as f32;
        if found.shift > shortest && found.shift < longest {
            // The top of the parabola through the best and its neighbours.
            let (before, behind) = (score(found.shift - 1), score(found.shift + 1));
            let bend = before - 2.0 * found.score + behind;
            if bend < 0.0 {
                lag += (0.5 * (before - behind) / bend).clamp(-0.5, 0.5);
            }
        }
        (self.lag, self.score) = (lag, found.score);
        self.step = self.past[end - 1] - self.read((end - 1) as f32 - lag);
    }

    /// The past at a place between samples (Catmull-Rom).
    fn read(&self, at: f32) -> f32 {
        let last = self.length - 1;
        let at = at.max(0.0);
        let whole = at.floor();
        let part = at - whole;
        let index = whole as usize;
        let sample = |n: usize| self.past[n.min(last)];
        let (a, b, c, d) = (sample(index.saturating_sub(1)), sample(index), sample(index + 1), sample(index + 2));
        b + 0.5 * part * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)))
    }

    /// The sound `time` samples after the end of the past.
    fn at(&self, time: f32) -> f32 {
        let into = time.max(0.0) % self.lag;
        let place = self.length as f32 - self.lag + into;
        let mut value = self.read(place);
        // The end of the period runs into what stood before its beginning, so that repeating it makes no step; the less it is one, the
        // longer.
        let join = self.lag * (1.0 - 0.75 * self.score.clamp(0.0, 1.0));
        let share = (into - (self.lag - join)) / join;
        if share > 0.0 {
            value += share * (self.read(place - self.lag) - value);
        }
        value + self.step * (1.0 - time / self.overlap).max(0.0)
    }
}

/// Continues sound over holes in a strip of samples.
#[derive(Debug, Clone)]
pub(super) struct Concealment {
    rate: usize,
    ahead: Continuation,
    back: Continuation,
    /// What a side is compared with, and the side as it would sound at all shifts.
    other: Box<[f32]>,
    scratch: Box<[f32]>,
    /// Samples continued so far; 0 also when nothing is being concealed.
    made: usize,
    /// How far it has been mixed into what follows, in samples.
    faded: usize,
    active: bool,
}

impl Concealment {
    pub(super) fn new(rate: u32) -> Self {
        let (ahead, back) = (Continuation::new(rate), Continuation::new(rate));
        let rate = rate as usize;
        let (other, longest) = (rate * COMPARED_MS / 1000, rate * LAG_US.0 / 1_000_000);
        let scratch = vec![0.0; other + longest + 1].into();
        Self { rate, ahead, back, other: vec![0.0; other].into(), scratch, made: 0, faded: 0, active: false }
    }

    /// Forgets what is continued.
    pub(super) fn stop(&mut self) {
        self.active = false;
        self.made = 0;
        self.faded = 0;
    }

    fn samples(&self, us: usize) -> usize {
        self.rate * us / 1_000_000
    }

    /// Whether something is continued and has begun to die away.
    pub(super) fn fading(&self) -> bool {
        self.active && self.faded > 0
    }

    /// Begins to continue what `past` ends with so that it can die away, unless something is continued already.
    pub(super) fn fade_from(&mut self, past: &[i16]) {
        if !self.active {
            self.begin(past);
        }
    }

    /// Begins to continue what `past` ends with, unless something is continued already that has not begun to die away.
    pub(super) fn begin(&mut self, past: &[i16]) {
        if self.active && self.faded == 0 {
            return;
        }
        self.stop();
        let (lags, window) = ((self.samples(LAG_US.1), self.samples(LAG_US.0)), self.samples(WINDOW_MS * 1000));
        self.ahead.look(past.iter().map(|&sample| f32::from(sample)), lags, window, stride(self.rate as u32));
        self.active = true;
        self.made = 0;
    }

    /// How loud the continuation is after so many samples.
    fn gain(&self, samples: usize) -> f32 {
        let steady = self.rate * STEADY_MS / 1000;
        let fade = self.rate * FADE_MS / 1000;
        1.0 - (samples.saturating_sub(steady) as f32 / fade as f32).min(1.0)
    }

    /// Fills `out` with the continuation.
    pub(super) fn extend(&mut self, out: &mut [i16]) {
        for (n, sample) in out.iter_mut().enumerate() {
            let at = self.made + n;
            let gain = self.gain(at);
            *sample = if gain > 0.0 { clamp(self.ahead.at(at as f32) * gain) } else { 0 };
        }
        self.made += out.len();
    }

    /// Lets the continuation die away over a few ms into `out`, which holds what follows; goes on with the next one if it is shorter.
    pub(super) fn fade_into(&mut self, out: &mut [i16]) {
        if !self.active {
            return;
        }
        let overlap = self.samples(OVERLAP_US);
        for sample in out.iter_mut().take(overlap - self.faded) {
            let share = (self.faded as f32 + 0.5) / overlap as f32;
            let continued = self.ahead.at(self.made as f32) * self.gain(self.made);
            *sample = clamp(f32::from(*sample) * share + continued * (1.0 - share));
            self.faded += 1;
            self.made += 1;
        }
        if self.faded >= overlap {
            self.stop();
        }
    }

    /// Fills the hole of `length` samples at `hole` in `strip`, which holds what was before it (or its continuation so far) and what comes
    /// after it.
    pub(super) fn bridge(&mut self, strip: &mut [i16], hole: usize, length: usize) {
        self.begin(&strip[..hole]);
        let (before, rest) = strip.split_at_mut(hole);
        let (gap, future) = rest.split_at_mut(length);
        if gap.is_empty() || future.len() < self.rate * LEAST_FUTURE_MS / 1000 {
            self.extend(gap);
            self.fade_into(future);
            return;
        }
        self.look_back(future);
        let stride = stride(self.rate as u32);
        // How far each side must be shifted at its far end to meet the other in phase.
        let (ahead, forth) = {
            let other = copy(&mut self.other, future.iter());
            align(&self.ahead, self.made + length, length, other, &mut self.scratch, stride)
        };
        let (behind, back) = {
            let other = copy(&mut self.other, before.iter().rev());
            align(&self.back, length, length, other, &mut self.scratch, stride)
        };
        // Too little is known of what follows to repeat it: it is only joined.
        let known = future.len() as f32 >= 2.0 * self.ahead.lag || self.ahead.score < LEAST_ALIKE;
        let reach = if known { length } else { length.min(self.samples(JOIN_US)) };
        let alike = forth.max(back).clamp(0.0, 1.0);
        for (n, sample) in gap.iter_mut().enumerate() {
            let time = n as f32 + 1.0;
            let share = time / (length + 1) as f32;
            let left = self.ahead.at((self.made + n) as f32 + ahead * share) * self.gain(self.made + n);
            let time_back = (length - 1 - n) as f32;
            let right = self.back.at(time_back + behind * (1.0 - share)) * self.gain(length - 1 - n);
            // Unrelated sounds are mixed by power, the same sound by amplitude.
            let right_share = ((n + reach + 1).saturating_sub(length)) as f32 / (reach + 1) as f32;
            let (of_left, of_right) = (1.0 - right_share, right_share);
            let power = (of_left * of_left + of_right * of_right + 2.0 * alike * of_left * of_right).sqrt();
            *sample = clamp((left * of_left + right * of_right) / power);
        }
        self.stop();
    }

    /// Finds the period of what comes after a hole, near the one before it if that one is any good.
    fn look_back(&mut self, future: &[i16]) {
        let (shortest, longest) = (self.samples(LAG_US.1), self.samples(LAG_US.0));
        let near = self.ahead.lag;
        let lags = if self.ahead.score > 0.6 {
            (((near * 0.8) as usize).max(shortest), ((near * 1.25) as usize).min(longest))
        } else {
            (shortest, longest)
        };
        let reversed = future.iter().rev().map(|&sample| f32::from(sample));
        let window =
            self.samples(WINDOW_MS * 1000).min(future.len().saturating_sub(lags.1 + 1)).max(self.samples(5_000));
        self.back.look(reversed, lags, window, stride(self.rate as u32));
    }
}

/// The shift, at most half a period and a quarter of the hole, by which `side` at `time` is most like `other`; and how like.
fn align(
    side: &Continuation,
    time: usize,
    hole: usize,
    other: &[f32],
    scratch: &mut [f32],
    stride: usize,
) -> (f32, f32) {
    let most = ((side.lag * 0.5) as usize).min(hole / 4).min(time);
    let needed = (other.len() + 2 * most).min(scratch.len());
    for (n, sample) in scratch[..needed].iter_mut().enumerate() {
        *sample = side.at((time - most + n) as f32);
    }
    let shifts = 0..=needed.saturating_sub(other.len());
    match best(shifts, stride, |shift| likeness(other, &scratch[shift..needed.min(shift + other.len())], stride)) {
        Some(found) if found.score >= LEAST_ALIKE => (found.shift as f32 - most as f32, found.score),
        found => (0.0, found.map_or(0.0, |found| found.score)),
    }
}

/// Copies as many samples as there is room for.
fn copy<'a, 'b>(room: &'a mut [f32], samples: impl Iterator<Item = &'b i16>) -> &'a [f32] {
    let mut copied = 0;
    for (room, &sample) in room.iter_mut().zip(samples) {
        *room = f32::from(sample);
        copied += 1;
    }
    &room[..copied]
}

fn clamp(sample: f32) -> i16 {
    sample.round().clamp(-32768.0, 32767.0) as i16
}

/// Remembers what was heard last and continues it when frames are missing, one side only. Allocates nothing after construction.
#[derive(Debug, Clone)]
pub struct Concealer {
    heard: Box<[i16]>,
    concealment: Concealment,
}

impl Concealer {
    /// Has heard only silence so far, at `rate` samples a second.
    pub fn new(rate: u32) -> Self {
        let heard = vec![0; rate as usize * HISTORY_MS / 1000].into();
        Self { heard, concealment: Concealment::new(rate) }
    }

    /// Takes sound that was received; after a loss its beginning is mixed with the end of the concealment.
    pub fn good(&mut self, frame: &mut [i16]) {
        self.concealment.fade_into(frame);
        self.remember(frame);
    }

    /// Fills `frame` with a continuation of what was heard; silence once 60 ms have been concealed.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        self.concealment.begin(&self.heard);
        self.concealment.extend(frame);
        self.remember(frame);
    }

    fn remember(&mut self, frame: &[i16]) {
        let new = &frame[frame.len().saturating_sub(self.heard.len())..];
        let kept = self.heard.len() - new.len();
        self.heard.copy_within(new.len().., 0);
        self.heard[kept..].copy_from_slice(new);
    }
}

#[cfg(test)]
mod tests;
