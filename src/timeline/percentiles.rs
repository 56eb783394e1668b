//! Percentiles of a few measured values, by sorting them.

use serde::Serialize;

/// Nearest-rank percentiles: each is a value that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// Half of the values are not above it.
    pub p50: f64,
    /// 95 of 100 values are not above it.
    pub p95: f64,
    /// 99 of 100 values are not above it.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Percentiles of `values`, NaN left out; `None` when there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let rank = |percent| nearest_rank(&sorted, percent);
        Some(Self { count: sorted.len(), min, p50: rank(50)?, p95: rank(95)?, p99: rank(99)?, max })
    }
}

/// The value that `percent` of a hundred values are not above; `None` of nothing.
pub(crate) fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = Percentiles::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!((hundred.min, hundred.p50, hundred.p95, hundred.p99, hundred.max), (1.0, 50.0, 95.0, 99.0, 100.0));
        let three = Percentiles::of([3.0, f64::NAN, 1.0, 2.0]).unwrap();
        assert_eq!((three.count, three.p50, three.p95, three.p99), (3, 2.0, 3.0, 3.0));
    }

    #[test]
    fn one_value_is_every_percentile_and_none_has_none() {
        let one = Percentiles::of([7.0]).unwrap();
        assert_eq!((one.min, one.p50, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
        assert_eq!(Percentiles::of([]), None);
        assert_eq!(Percentiles::of([f64::NAN]), None);
    }
}
