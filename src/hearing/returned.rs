//! What may come back of the box's own voice, from a handset or a bad hybrid: how loud each 10 ms of the line can be without anybody speaking.
//!
//! What was sent is known by its power over 10 ms, for half a second. Two things are learned of the way back while the caller is not heard: the
//! loudest return of anything that was sent within that time, and, from the correlation of both envelopes, the delay and the loss of
//! an echo that follows what was sent. Sound is the caller's when it is louder than the softer of the two predictions. Nothing is
//! subtracted: this is a gate, and no canceller. Allocates nothing.
//!
//! Before anything is learned, during the greeting, a loud return is taken for granted: the answer that breaks itself off is worse than a
//! caller who has to speak up. In the pause of a turn it is the other way round: what begins over the first placeholder is most likely the caller who
//! goes on, and the weak consonant with which he does must keep the turn from ending.

use crate::pcm::telephone::{FRAME_SAMPLES, Frame};

use super::recent::HOP_SAMPLES;

/// Longest delay of an echo, in hops of 10 ms: 350 ms on the way, and the jitter buffer.
const DELAYS: usize = 52;
const HOPS: usize = 80;
/// What is heard is learned from only after so many hops, if nobody's voice has come of it by then: a caller must not hide himself.
const LAG: u64 = 16;
/// Until the line is known, an echo is taken to be at most so much softer than what was sent, and never louder: −6 dB, as a power.
const LOUDEST_RETURN: f32 = 0.25;
/// In the pause of a turn nothing is taken for granted until so many hops were sent that were loud enough to learn from: a placeholder.
const FIRST_SENT_HOPS: u32 = 100;
/// Softer than −56 dBFS is nothing that was sent.
const SENT_POWER: f32 = 2700.0;
/// Louder than −30 dBFS must be what is learned from: beside softer sounds noise would be taken for a loud return.
const TEACHING_POWER: f32 = 1e6;
/// Sent sound that must have had the time to come back before anything is believed of the line.
const KNOWN_HOPS: u32 = 60;
/// The loudest return is forgotten by this factor with each 10 ms: 2 dB a second.
const FORGOTTEN: f32 = 0.9954;
/// Share of the past in what is learned of the envelopes: 1.5 s.
const PAST: f32 = 0.9933;
/// Envelopes that follow each other so closely are an echo.
const ALIKE: f32 = 0.6;
/// A return may be so much louder than the loudest that was observed, as a power: 6 dB.
const ABOVE_LOUDEST: f32 = 4.0;
/// A way back does not treat all sounds alike. An echo may be so much louder than the loudest that was observed beside its prediction, as a
/// power (2 dB), which is taken to be so much at first (5 dB), and forgotten by so much with each 10 ms (0.9 dB a second).
const ABOVE_EXCESS: f32 = 1.6;
const FIRST_EXCESS: f32 = 3.2;
const EXCESS_FORGOTTEN: f32 = 0.998;
const EXCESSES: [f32; 2] = [1.6, 8.0];
/// How much of a hop's power the way back still holds in the next one: rooms and handsets ring.
const RINGING: f32 = 0.4;

/// What the caller does while a hop is heard, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nobody is known to speak: what is heard teaches.
    Quiet,
    /// His turn pauses.
    Pause,
    /// He speaks, or may have begun to.
    Voice,
}

/// Sums over pairs of envelopes at one delay.
#[derive(Debug, Clone, Copy, Default)]
struct Pairs {
    sent: f32,
    sent_squares: f32,
    products: f32,
}

/// The way back of one call.
#[derive(Debug, Clone)]
pub(super) struct Returned {
    /// Power of each sent hop, with the ringing of those before it.
    sent: [f32; HOPS],
    sent_hops: u64,
    /// Power of what was heard and is still to be learned from.
    unlearned: [f32; LAG as usize],
    heard_hops: u64,
    /// Sent hops that were loud enough to learn from.
    loud_hops: u32,
    /// Heard hops for which something was sent long enough before.
    known_hops: u32,
    /// Loudest return, as a share of the loudest that was sent before it.
    loudest: f32,
    pairs: [Pairs; DELAYS],
    weight: f32,
    heard: f32,
    heard_squares: f32,
    /// Delay in hops, and share of the power that comes back.
    echo: Option<(usize, f32)>,
    /// How much louder than predicted it has been.
    excess: f32,
}

impl Returned {
    pub(super) fn new() -> Self {
        Self {
            sent: [0.0; HOPS],
            sent_hops: 0,
            unlearned: [0.0; LAG as usize],
            heard_hops: 0,
            loud_hops: 0,
            known_hops: 0,
            loudest: 0.0,
            pairs: [Pairs::default(); DELAYS],
            weight: 0.0,
            heard: 0.0,
            heard_squares: 0.0,
            echo: None,
            excess: FIRST_EXCESS,
        }
    }

    /// Takes what leaves in this ptime, behind what was heard in it.
    pub(super) fn send(&mut self, frame: &Frame) {
        // What was heard without anything being sent beside it moves the time on.
        let behind = self.heard_hops.saturating_sub((FRAME_SAMPLES as u64) / HOP_SAMPLES);
        if self.sent_hops < behind {
            for hop in self.sent_hops.max(behind.saturating_sub(HOPS as u64))..behind {
                self.sent[hop as usize % HOPS] = 0.0;
            }
            self.sent_hops = behind;
        }
        for hop in frame.chunks_exact(HOP_SAMPLES as usize) {
            let power =
                hop.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum::<f32>() / HOP_SAMPLES as f32;
            self.loud_hops = self.loud_hops.saturating_add(u32::from(power >= TEACHING_POWER));
            let before = self.at(self.sent_hops.wrapping_sub(1));
            self.sent[self.sent_hops as usize % HOPS] = power.max(before * RINGING);
            self.sent_hops += 1;
        }
    }

    /// Takes the power of the next heard hop; gives the power up to which it may be the box's own voice, 0 if none can come back.
    pub(super) fn hear(&mut self, power: f32, moment: Moment) -> f32 {
        let hop = self.heard_hops;
        self.heard_hops += 1;
        if self.sent_hops == 0 {
            return 0.0;
        }
        let earlier = std::mem::replace(&mut self.unlearned[(hop % LAG) as usize], power);
        if moment == Moment::Quiet
            && let Some(hop) = hop.checked_sub(LAG)
        {
            let loudest_sent = self.loudest_before(hop);
            if loudest_sent >= TEACHING_POWER {
                self.learn(hop, earlier.min(loudest_sent * LOUDEST_RETURN), loudest_sent);
            }
        }
        let loudest_sent = self.loudest_before(hop);
        if loudest_sent < SENT_POWER { 0.0 } else { self.predict(hop, loudest_sent, moment) }
    }

    /// Loudest that was sent long enough before a hop to come back in it.
    fn loudest_before(&self, hop: u64) -> f32 {
        (1..=DELAYS as u64).map(|delay| self.at(hop.wrapping_sub(delay))).fold(0.0, f32::max)
    }

    /// Up to which power a hop may be the box's own voice.
    fn predict(&self, hop: u64, loudest_sent: f32, moment: Moment) -> f32 {
        if self.known_hops < KNOWN_HOPS {
            let first = moment == Moment::Pause && self.loud_hops < FIRST_SENT_HOPS;
            return if first { 0.0 } else { loudest_sent * LOUDEST_RETURN };
        }
        let any = loudest_sent * (self.loudest * ABOVE_LOUDEST).min(LOUDEST_RETURN);
        self.predict_echo(hop).map_or(any, |echo| any.min(echo * self.excess * ABOVE_EXCESS))
    }

    /// The power of the echo in a hop, if there is one.
    fn predict_echo(&self, hop: u64) -> Option<f32> {
        let (delay, share) = self.echo?;
        let around = (delay.saturating_sub(2)..=delay + 2).map(|delay| self.at(hop.wrapping_sub(delay as u64)));
        Some(around.fold(0.0, f32::max) * share)
    }

    fn learn(&mut self, hop: u64, power: f32, loudest_sent: f32) {
        let long_ago = self.at(hop.wrapping_sub(DELAYS as u64)) >= SENT_POWER;
        self.known_hops = self.known_hops.saturating_add(u32::from(long_ago || self.known_hops > 0));
        self.loudest = (self.loudest * FORGOTTEN).max(power / loudest_sent);
        if let Some(echo) = self.predict_echo(hop).filter(|echo| *echo > SENT_POWER) {
            let [least, most] = EXCESSES;
            self.excess = (self.excess * EXCESS_FORGOTTEN).max(power / echo).clamp(least, most);
        }
        let heard = power.sqrt();
        self.weight = self.weight * PAST + 1.0;
        self.heard = self.heard * PAST + heard;
        self.heard_squares = self.heard_squares * PAST + power;
        for delay in 0..DELAYS {
            let power = self.at(hop.wrapping_sub(delay as u64 + 1));
            let sent = power.sqrt();
            let pairs = &mut self.pairs[delay];
            pairs.sent = pairs.sent * PAST + sent;
            pairs.sent_squares = pairs.sent_squares * PAST + power;
            pairs.products = pairs.products * PAST + sent * heard;
        }
        self.echo = self.find();
    }

    /// The delay at which both envelopes are most alike, if they are.
    fn find(&self) -> Option<(usize, f32)> {
        let heard_variance = self.heard_squares - self.heard * self.heard / self.weight;
        let (mut most, mut best) = (ALIKE, None);
        for (delay, pairs) in self.pairs.iter().enumerate() {
            let variance = pairs.sent_squares - pairs.sent * pairs.sent / self.weight;
            let likeness = pairs.products - pairs.sent * self.heard / self.weight;
            let norm = (heard_variance * variance).max(1.0).sqrt();
            if likeness > most * norm {
                most = likeness / norm;
                best = Some((delay + 1, (pairs.products / pairs.sent_squares.max(1.0)).powi(2)));
            }
        }
        best
    }

    /// Power of what was sent in a hop; 0 for what is forgotten or still to come.
    fn at(&self, hop: u64) -> f32 {
        if hop < self.sent_hops && hop + HOPS as u64 >= self.sent_hops { self.sent[hop as usize % HOPS] } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeded syllables: frames of noise whose level changes every 60 ms.
    fn syllables(frames: usize) -> Vec<Frame> {
        let mut random = fastrand::Rng::with_seed(6);
        let mut level = 0.0;
        (0..frames)
            .map(|index| {
                if index % 3 == 0 {
                    level = [0.0, 300.0, 1500.0, 5000.0][random.usize(..4)];
                }
                std::array::from_fn(|_| ((random.f32() * 2.0 - 1.0) * level) as i16)
            })
            .collect()
    }

    fn power(hop: &[i16]) -> f32 {
        hop.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum::<f32>() / hop.len() as f32
    }

    /// What becomes of `sound` whose echo comes back after so many hops, with a factor: hops that are louder than predicted, in all and in the last
    /// second, and the mean of what is predicted then.
    fn echo_of(sound: &[Frame], delay: usize, factor: f32) -> (usize, usize, f32) {
        let flat: Vec<i16> = sound.as_flattened().to_vec();
        let mut returned = Returned::new();
        let (mut louder, mut late, mut predicted) = (0, 0, 0.0);
        for (index, frame) in sound.iter().enumerate() {
            for hop in [index * 2, index * 2 + 1] {
                let echo = hop.checked_sub(delay).map_or(0.0, |from| power(&flat[from * 80..from * 80 + 80]))
                    * factor
                    * factor;
                let own = returned.hear(echo, Moment::Quiet);
                let unexplained = echo > own;
                louder += usize::from(unexplained);
                if index + 50 >= sound.len() {
                    late += usize::from(unexplained);
                    predicted += own / 100.0;
                }
            }
            returned.send(frame);
        }
        (louder, late, predicted)
    }

    #[test]
    fn an_echo_is_explained_from_its_first_sound_on_whatever_its_delay() {
        let sound = syllables(400);
        for delay in [2, 6, 12, 20, 35, 45] {
            for factor in [0.25, 0.126, 0.056] {
                let (louder, late, _) = echo_of(&sound, delay, factor);
                assert!(louder == 0 && late == 0, "{delay} {factor}: {louder} {late}");
            }
        }
    }

    #[test]
    fn the_less_comes_back_the_softer_a_caller_is_heard() {
        let sound = syllables(400);
        let predicted = [0.25, 0.056, 0.003].map(|factor| echo_of(&sound, 12, factor).2);
        assert!(predicted.is_sorted_by(|louder, softer| *louder > 10.0 * softer), "{predicted:?}");
        assert!(predicted[2] < 1500.0, "below -60 dBFS on a line without echo: {predicted:?}");
    }

    #[test]
    fn where_nothing_was_sent_nothing_comes_back() {
        let mut returned = Returned::new();
        assert_eq!(returned.hear(1e6, Moment::Quiet), 0.0);
        (0..100).for_each(|_| {
            returned.send(&[0; FRAME_SAMPLES]);
            assert_eq!(returned.hear(1e6, Moment::Quiet) + returned.hear(1e6, Moment::Quiet), 0.0);
        });
        // A frame that is sent beside heard ones that had none.
        (0..500).for_each(|_| assert_eq!(returned.hear(1e6, Moment::Quiet), 0.0));
        returned.send(&[3000; FRAME_SAMPLES]);
        assert!(returned.hear(1e6, Moment::Quiet) > 0.0);
        (0..60).for_each(|_| _ = returned.hear(1e6, Moment::Quiet));
        assert_eq!(returned.hear(1e6, Moment::Quiet), 0.0, "it has died away");
    }

    #[test]
    fn over_the_first_placeholder_everything_is_the_callers_and_in_a_greeting_only_what_is_loud() {
        let mut returned = Returned::new();
        let heard = |returned: &mut Returned, moment| [returned.hear(1e5, moment), returned.hear(1e5, moment)];
        for sent in 0..100 {
            let [_, own] = heard(&mut returned, Moment::Pause);
            assert_eq!(own > 0.0, sent >= 50, "{sent} frames were sent");
            returned.send(&[3000; FRAME_SAMPLES]);
        }
        let mut returned = Returned::new();
        returned.send(&[3000; FRAME_SAMPLES]);
        let [_, own] = heard(&mut returned, Moment::Quiet);
        assert!((own - 9e6 * LOUDEST_RETURN).abs() < 1.0, "{own}");
    }
}
