//! What a jitter buffer did in a call: how long it held sound back, and how much sound it put in and left out.

use std::time::Duration;

use crate::pcm;
use crate::rtp::jitter::JitterCounters;

/// A jitter buffer over a call.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Buffering {
    /// From the arrival of the fastest packet to its playing: the mean.
    pub delay: Duration,
    /// The most that the network asked for.
    pub target: Duration,
    /// Times that sound was played again, so that the delay grew.
    pub stretched: u64,
    /// How much sound that was.
    pub stretched_by: Duration,
    /// Times that sound was left out, so that the delay shrank.
    pub shortened: u64,
    /// How much sound that was.
    pub shortened_by: Duration,
}

/// Makes [`Buffering`] of figures that are looked at again and again.
#[derive(Debug, Clone, Copy, Default)]
pub struct BufferGathering {
    delays: Duration,
    looks: u32,
    target: Duration,
    counters: JitterCounters,
}

impl BufferGathering {
    /// What the buffer has counted until now, and its present delay and target.
    pub fn look(&mut self, counters: JitterCounters, delay: Duration, target: Duration) {
        self.delays += delay;
        self.looks += 1;
        self.target = self.target.max(target);
        self.counters = counters;
    }

    /// What it came to; `None` when no packet came.
    pub fn buffering(&self) -> Option<Buffering> {
        let JitterCounters { received, stretched, shortened, stretched_samples, shortened_samples, .. } = self.counters;
        (received > 0).then(|| Buffering {
            delay: self.delays / self.looks.max(1),
            target: self.target,
            stretched,
            stretched_by: pcm::duration(stretched_samples),
            shortened,
            shortened_by: pcm::duration(shortened_samples),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_delay_is_a_mean_the_target_the_largest_and_what_was_changed_a_time() {
        let mut gathering = BufferGathering::default();
        gathering.look(JitterCounters::default(), MS, MS);
        assert_eq!(gathering.buffering(), None);
        let stretched_samples = pcm::samples_in(MS * 25);
        let counters = JitterCounters { received: 9, stretched: 2, stretched_samples, ..JitterCounters::default() };
        gathering.look(counters, MS * 30, MS * 80);
        gathering.look(counters, MS * 59, MS * 40);
        let expected =
            Buffering { delay: MS * 30, target: MS * 80, stretched: 2, stretched_by: MS * 25, ..Buffering::default() };
        assert_eq!(gathering.buffering(), Some(expected));
    }
}
