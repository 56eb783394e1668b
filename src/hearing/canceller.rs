//! Takes the box's own voice out of what is heard, for the ear only: finds the delay of an echo, and learns its way back.
//!
//! The delay is found by correlating what is heard with half a second of what was sent, at 4 kHz. Around it an adaptive filter of 32 ms
//! (normalised least mean squares, with a bounded error) follows the way back; its copy is used, and is renewed only when it does better
//! (two-path). Until then, and on a line without echo, sound passes as it is. Both signals are whitened by one zero, and what is left is given its
//! spectrum again. Not implemented: several echoes more than 32 ms apart, non-linear echoes, clocks that drift. Allocates nothing.

use crate::pcm::telephone::{FRAME_SAMPLES, Frame};

/// Samples of the adaptive filter: 32 ms.
const TAPS: usize = 256;
/// The filter begins so many samples before the delay that was found: the correlation is widest where the way back is loudest.
const BEFORE: usize = 56;
/// Longest delay, in samples: 520 ms. The shortest is a frame, which no way back undercuts.
const LONGEST: usize = 4160;
const KEPT: usize = LONGEST + TAPS;
/// The same at 4 kHz, for the search.
const HALF_FRAME: usize = FRAME_SAMPLES / 2;
const HALF_KEPT: usize = LONGEST / 2;
/// Delays that are searched.
const LAGS: usize = HALF_KEPT - HALF_FRAME + 1;
/// What both signals are whitened by.
const WHITENING: f32 = 0.9;
/// Softer than −55 dBFS is nothing that was sent, or that came back, as a sum over a whitened frame.
const AUDIBLE: f32 = 160.0 * 60.0 * 60.0;
/// The correlation keeps this share of its past with every frame of 20 ms.
const CORRELATION_PAST: f32 = 0.92;
/// It has found an echo when its peak stands so far above its mean, as a power, and after so many frames.
const PEAK: f32 = 22.0;
const FRAMES_TO_FIND: u32 = 2;
/// A delay that has not proved right is given up for another that was found in so many frames in a row, one that has for another found in so many: the
/// voice of a caller who cuts in resembles the box's somewhere, for a while.
const FRAMES_TO_CORRECT: u32 = 3;
const FRAMES_TO_REPLACE: u32 = 40;
/// A delay that has taken nothing out of so many audible frames was no echo's.
const FRAMES_TO_PROVE: u32 = 50;
/// After so many audible frames without a peak it is no echo.
const FRAMES_TO_DECIDE: u32 = 4;
/// How fast the filter adapts.
const STEP: f32 = 0.7;
/// Keeps soft sounds from moving it: of so much for each tap.
const FLOOR: f32 = 80.0 * 80.0;
/// An error counts as at most so many times what it usually is: a caller who speaks must not be learned.
const ERROR_BOUND: f32 = 2.0;
const ERROR_SHARE: f32 = 0.001;
/// What is kept of the powers behind the choice of filter, with each frame.
const POWER_PAST: f32 = 0.7;

/// What the canceller knows of an echo in one frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Echo {
    /// There is one.
    pub(super) found: bool,
    /// Sound has begun beside the box's own voice, and it is too early to tell whether it is that.
    pub(super) undecided: bool,
    /// The power of what was taken out of each hop, where most of it was.
    pub(super) replica: Option<[f32; 2]>,
}

/// The echo canceller of one call's ear.
pub(super) struct Canceller {
    /// What was sent, whitened; the latest last.
    sent: [f32; KEPT],
    half_sent: [f32; HALF_KEPT],
    /// Frames since something audible was sent.
    since_sent: u32,
    sent_sample: f32,
    half_sent_sample: f32,
    heard_sample: f32,
    half_heard_sample: f32,
    /// What was left last.
    left_sample: f32,
    correlation: [f32; LAGS],
    correlated: u32,
    /// The delay that stood out last, and in how many frames in a row before.
    candidate: usize,
    agreeing: u32,
    /// Whether the filter has taken most of an echo out since the delay was found; until then, in how many audible frames it has not.
    proven: bool,
    unproven_frames: u32,
    /// Frames in a row that were audible beside what was sent.
    audible_frames: u32,
    replica: [f32; 2],
    /// From which delay on the filters reach; `None` while no echo was found.
    delay: Option<usize>,
    /// In the order of `sent`: the longest delay first.
    learning: [f32; TAPS],
    used: [f32; TAPS],
    usual_error: f32,
    /// Mean powers: heard, left by the filter that learns, left by the one that is used.
    powers: [f32; 3],
}

impl Canceller {
    pub(super) fn new() -> Self {
        Self {
            sent: [0.0; KEPT],
            half_sent: [0.0; HALF_KEPT],
            since_sent: u32::MAX,
            sent_sample: 0.0,
            half_sent_sample: 0.0,
            heard_sample: 0.0,
            half_heard_sample: 0.0,
            left_sample: 0.0,
            correlation: [0.0; LAGS],
            correlated: 0,
            candidate: 0,
            agreeing: 0,
            proven: false,
            unproven_frames: 0,
            audible_frames: 0,
            replica: [0.0; 2],
            delay: None,
            learning: [0.0; TAPS],
            used: [0.0; TAPS],
            usual_error: 0.0,
            powers: [0.0; 3],
        }
    }

    /// Takes what leaves in this ptime, behind what was heard in it.
    pub(super) fn send(&mut self, frame: &Frame) {
        let whitened: [f32; FRAME_SAMPLES] = whiten(&mut self.sent_sample, frame.map(f32::from));
        let halved: [f32; HALF_FRAME] = whiten(&mut self.half_sent_sample, halve(frame));
        if energy(&whitened) >= AUDIBLE {
            self.since_sent = 0;
        } else {
            self.since_sent = self.since_sent.saturating_add(1);
        }
        self.sent.copy_within(FRAME_SAMPLES.., 0);
        self.sent[KEPT - FRAME_SAMPLES..].copy_from_slice(&whitened);
        self.half_sent.copy_within(HALF_FRAME.., 0);
        self.half_sent[HALF_KEPT - HALF_FRAME..].copy_from_slice(&halved);
    }

    /// What is left of the next heard frame.
    pub(super) fn cancel(&mut self, frame: &Frame) -> Frame {
        let heard: [f32; FRAME_SAMPLES] = whiten(&mut self.heard_sample, frame.map(f32::from));
        let halved: [f32; HALF_FRAME] = whiten(&mut self.half_heard_sample, halve(frame));
        let last = frame[FRAME_SAMPLES - 1];
        if self.since_sent as usize > (KEPT / FRAME_SAMPLES) + 1 {
            self.left_sample = f32::from(last);
            self.forget_search();
            return *frame;
        }
        let audible = energy(&heard) >= AUDIBLE;
        self.audible_frames = self.audible_frames.saturating_add(u32::from(audible));
        if audible && !self.does_well() {
            self.search(&halved, (energy(&heard) / FRAME_SAMPLES as f32).sqrt());
        }
        let Some(delay) = self.delay else {
            self.left_sample = f32::from(last);
            return *frame;
        };
        let mut left = [0.0; FRAME_SAMPLES];
        let mut sums = [0.0f32; 3];
        // A delay is never shorter than a frame: see `search`.
        let first = KEPT - delay - (TAPS - 1);
        let mut power = energy(&self.sent[first..first + TAPS]);
        for (n, (left, &heard)) in left.iter_mut().zip(&heard).enumerate() {
            let window: &[f32; TAPS] = self.sent[first + n..].first_chunk().unwrap_or(&[0.0; TAPS]);
            *left = heard - dot(&self.used, window);
            let error = heard - dot(&self.learning, window);
            sums[0] += heard * heard;
            sums[1] += error * error;
            sums[2] += *left * *left;
            let [old, new] = [first + n, first + n + TAPS].map(|at| self.sent.get(at).copied().unwrap_or(0.0));
            let at_present = power;
            power = (power + new * new - old * old).max(0.0);
            if at_present > FLOOR * 8.0 {
                let most = self.usual_error * ERROR_BOUND;
                let bounded = error.clamp(-most, most);
                self.usual_error += (bounded.abs() - self.usual_error) * ERROR_SHARE;
                let step = STEP * bounded / (at_present + FLOOR * TAPS as f32 / 8.0);
                for (tap, &sent) in self.learning.iter_mut().zip(window) {
                    *tap += step * sent;
                }
            }
        }
        self.choose(sums);
        if audible && self.does_well() {
            self.proven = true;
        } else if audible && !self.proven {
            self.unproven_frames += 1;
            self.delay = self.delay.filter(|_| self.unproven_frames < FRAMES_TO_PROVE);
        }
        let left = left.map(|left| {
            self.left_sample = left + WHITENING * self.left_sample;
            self.left_sample.round() as i16
        });
        let hops = frame.chunks_exact(FRAME_SAMPLES / 2).zip(left.chunks_exact(FRAME_SAMPLES / 2));
        for (replica, (heard, left)) in self.replica.iter_mut().zip(hops) {
            let squares = heard.iter().zip(left).map(|(&heard, &left)| (f32::from(heard) - f32::from(left)).powi(2));
            *replica = squares.sum::<f32>() / (FRAME_SAMPLES / 2) as f32;
        }
        left
    }

    /// What is known of the echo in the frame that was cancelled last.
    pub(super) fn echo(&self) -> Echo {
        let found = self.delay.is_some();
        let undecided = !found && (1..FRAMES_TO_DECIDE).contains(&self.audible_frames);
        Echo { found, undecided, replica: self.does_well().then_some(self.replica) }
    }

    /// Whether the echo is mostly gone, so that no other delay need be looked for.
    fn does_well(&self) -> bool {
        self.delay.is_some() && self.powers[2] < 0.25 * self.powers[0]
    }

    /// Nothing can come back any more: what was found so far of a delay is of the past.
    fn forget_search(&mut self) {
        self.audible_frames = 0;
        if std::mem::take(&mut self.correlated) > 0 {
            self.correlation = [0.0; LAGS];
            self.agreeing = 0;
        }
    }

    /// Correlates a frame with everything that was sent, and takes the delay that stands out.
    fn search(&mut self, heard: &[f32; HALF_FRAME], level: f32) {
        self.correlation.iter_mut().for_each(|value| *value *= CORRELATION_PAST);
        for (n, &[a, b, c, d]) in heard.as_chunks().0.iter().enumerate() {
            let from = &self.half_sent[4 * n..];
            let lags = self.correlation.iter_mut().zip(from).zip(&from[1..]).zip(&from[2..]).zip(&from[3..]);
            for ((((value, w), x), y), z) in lags {
                *value += a * w + b * x + c * y + d * z;
            }
        }
        self.correlated += 1;
        let mean = energy(&self.correlation) / LAGS as f32;
        let loudest = self.correlation.iter().map(|value| value * value).enumerate();
        let Some((at, peak)) = loudest.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { return };
        let delay = (2 * (HALF_KEPT - at)).saturating_sub(BEFORE).clamp(FRAME_SAMPLES, LONGEST);
        let same = |other: usize| other.abs_diff(delay) <= BEFORE / 2;
        self.agreeing = if peak >= PEAK * mean && same(self.candidate) { self.agreeing + 1 } else { 0 };
        self.candidate = delay;
        let needed = match self.delay {
            _ if peak < PEAK * mean || self.correlated < FRAMES_TO_FIND => return,
            Some(known) if same(known) => return,
            Some(_) if self.proven => FRAMES_TO_REPLACE,
            Some(_) => FRAMES_TO_CORRECT,
            None => 0,
        };
        if self.agreeing >= needed {
            self.delay = Some(delay);
            self.proven = false;
            self.unproven_frames = 0;
            self.learning = [0.0; TAPS];
            self.used = [0.0; TAPS];
            self.usual_error = level;
            self.powers = [0.0; 3];
        }
    }

    /// Uses what was learned if it does better than what is used, and goes back to that if it does worse.
    fn choose(&mut self, sums: [f32; 3]) {
        for (power, sum) in self.powers.iter_mut().zip(sums) {
            *power = *power * POWER_PAST + sum;
        }
        let [heard, learning, used] = self.powers;
        if learning < 0.9 * used && sums[1] < sums[2] {
            self.used = self.learning;
            self.powers[2] = learning;
        } else if used > 1.1 * heard {
            self.used = [0.0; TAPS];
            self.powers[2] = heard;
        } else if learning > 1.25 * used {
            self.learning = self.used;
            self.powers[1] = used;
        }
    }
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller").field("delay", &self.delay).finish_non_exhaustive()
    }
}

fn whiten<const N: usize>(before: &mut f32, samples: [f32; N]) -> [f32; N] {
    samples.map(|sample| sample - WHITENING * std::mem::replace(before, sample))
}

/// The band below 2 kHz, roughly.
fn halve(frame: &Frame) -> [f32; HALF_FRAME] {
    std::array::from_fn(|n| 0.5 * (f32::from(frame[2 * n]) + f32::from(frame[2 * n + 1])))
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum()
}

/// In sixteen sums, so that the processor can add them side by side.
fn dot(a: &[f32; TAPS], b: &[f32; TAPS]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeded syllables of noise with little treble, as a voice has.
    fn voice(seed: u64, frames: usize) -> Vec<Frame> {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut level, mut low) = (0.0, 0.0);
        (0..frames)
            .map(|index| {
                if index % 4 == 0 {
                    level = [300.0, 3000.0, 9000.0, 15_000.0][random.usize(..4)];
                }
                std::array::from_fn(|_| {
                    low += 0.4 * ((random.f32() * 2.0 - 1.0) * level - low);
                    low as i16
                })
            })
            .collect()
    }

    /// Powers of what was heard and of what was left over the frames of a range.
    fn cancel(sent: &[Frame], delay: usize, caller: impl Fn(usize) -> i16, over: std::ops::Range<usize>) -> [f32; 2] {
        let flat = sent.as_flattened();
        let mut canceller = Canceller::new();
        let mut powers = [0.0; 2];
        for (index, frame) in sent.iter().enumerate() {
            let heard: Frame = std::array::from_fn(|n| {
                let at = index * FRAME_SAMPLES + n;
                let back = |later: usize| at.checked_sub(delay + later).map_or(0.0, |from| f32::from(flat[from]));
                (0.2 * back(0) - 0.1 * back(3) + 0.05 * back(40)) as i16 + caller(at)
            });
            let left = canceller.cancel(&heard);
            canceller.send(frame);
            if over.contains(&index) {
                for (power, frame) in powers.iter_mut().zip([heard, left]) {
                    *power += energy(&frame.map(f32::from));
                }
            }
        }
        powers
    }

    #[test]
    fn an_echo_is_gone_after_a_second_whatever_its_delay() {
        let sent = voice(1, 100);
        for delay in [160, 483, 960, 1600, 2801, 3900] {
            let [heard, left] = cancel(&sent, delay, |_| 0, 60..100);
            assert!(left < heard / 100.0, "{delay}: {heard} {left}");
        }
    }

    #[test]
    fn sound_that_is_no_echo_passes_as_it_is() {
        let (sent, caller) = (voice(2, 100), voice(3, 100));
        let mut canceller = Canceller::new();
        for (index, frame) in sent.iter().enumerate() {
            let left = canceller.cancel(&caller[index]);
            let differ = left.iter().zip(&caller[index]).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(differ <= 1, "{index}: {differ}");
            if index < 50 {
                canceller.send(frame);
            }
        }
    }

    #[test]
    fn a_caller_who_speaks_over_it_is_kept_and_does_not_bring_the_echo_back() {
        let (sent, caller) = (voice(4, 160), voice(5, 160));
        let caller = caller.as_flattened();
        let over = 100 * FRAME_SAMPLES..115 * FRAME_SAMPLES;
        let speaks = |at: usize| if over.contains(&at) { caller[at] / 2 } else { 0 };
        let [alone, kept] = cancel(&sent, 960, speaks, 100..115);
        assert!(kept > alone / 2.0, "{alone} {kept}");
        let [heard, left] = cancel(&sent, 960, speaks, 118..160);
        assert!(left < heard / 50.0, "{heard} {left}");
    }

    #[test]
    fn the_loudest_and_the_softest_sound_do_no_harm() {
        let mut canceller = Canceller::new();
        for value in [i16::MIN, i16::MAX, 0, 1] {
            for index in 0..60 {
                let frame = std::array::from_fn(|n| if (n + index) % 7 < 3 { value } else { !value });
                canceller.cancel(&frame);
                canceller.send(&frame);
            }
        }
        assert!(canceller.used.iter().chain(&canceller.learning).all(|tap| tap.is_finite()));
    }
}
