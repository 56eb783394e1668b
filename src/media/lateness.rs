//! How late something was, counted in fixed buckets: written by the media thread without a lock, read by anybody at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Up to how many microseconds each bucket goes; one more takes what is later.
const BOUNDS_US: [u64; 18] =
    [20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 5000, 7000, 10_000, 20_000, 50_000, 100_000];

/// A histogram of lateness.
#[derive(Debug, Default)]
pub struct Lateness {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Lateness {
    /// Something was so late. Neither locks nor allocates.
    pub fn record(&self, late: Duration) {
        let late_us = late.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < late_us);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(late_us, Relaxed);
    }

    /// Each bucket's upper bound in seconds, infinite for the last, with what was counted in it alone.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(&self.counts).map(|(bound, count)| (bound, count.load(Relaxed)))
    }

    /// All of it together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lateness_counts_in_the_bucket_that_it_does_not_exceed() {
        let lateness = Lateness::default();
        for us in [0, 20, 21, 5000, 5001, 100_001, 3_000_000] {
            lateness.record(Duration::from_micros(us));
        }
        let filled: Vec<(f64, u64)> = lateness.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(2e-5, 2), (5e-5, 1), (0.005, 1), (0.007, 1), (f64::INFINITY, 2)]);
        assert_eq!(lateness.sum(), 3.110_043);
    }
}
