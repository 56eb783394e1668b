//! How sound repeats itself: the shift at which two stretches of samples look most alike.
//!
//! Shared by concealment and time scaling. Works at any sample rate: above 8 kHz it first looks at every second (third, …) sample and then
//! refines.

use std::ops::RangeInclusive;

/// A shift and how alike the stretches are there: 1 is the same but for loudness, 0 is unrelated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Likeness {
    /// In samples.
    pub shift: usize,
    /// Normalised correlation, −1 to 1.
    pub score: f32,
}

/// A sample as the searches see it.
pub(super) trait Sample: Copy {
    /// Its value.
    fn value(self) -> f32;
}

impl Sample for i16 {
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl Sample for f32 {
    fn value(self) -> f32 {
        self
    }
}

/// The normalised correlation of two stretches, looking at every `stride`th sample.
pub(super) fn likeness<A: Sample, B: Sample>(a: &[A], b: &[B], stride: usize) -> f32 {
    // Below this both are digital silence, which is like itself.
    const FLOOR: f32 = 1.0;
    /// So many sums run side by side, for the sake of vector instructions.
    const LANES: usize = 8;
    let mut sums = [[0.0f32; LANES]; 3];
    let mut add = |lane: usize, a: f32, b: f32| {
        sums[0][lane] += a * b;
        sums[1][lane] += a * a;
        sums[2][lane] += b * b;
    };
    if stride == 1 {
        let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                add(lane, a[lane].value(), b[lane].value());
            }
        }
        rest_of_a.iter().zip(rest_of_b).for_each(|(a, b)| add(0, a.value(), b.value()));
    } else {
        a.iter().zip(b).step_by(stride).for_each(|(a, b)| add(0, a.value(), b.value()));
    }
    let [product, of_a, of_b] = sums.map(|sums| sums.iter().sum::<f32>() + FLOOR);
    product / (of_a * of_b).sqrt()
}

/// Calls `score` for the shifts of `range`, coarsely first, and returns the best; `None` for an empty range.
pub(super) fn best(
    range: RangeInclusive<usize>,
    stride: usize,
    mut score: impl FnMut(usize) -> f32,
) -> Option<Likeness> {
    let mut best: Option<Likeness> = None;
    let mut look = |shift: usize| {
        let score = score(shift);
        if best.is_none_or(|best| score > best.score) {
            best = Some(Likeness { shift, score });
        }
        best
    };
    let mut found = None;
    for shift in range.clone().step_by(stride) {
        found = look(shift);
    }
    if stride > 1
        && let Some(coarse) = found
    {
        let (low, high) = (coarse.shift.saturating_sub(stride - 1), coarse.shift + stride - 1);
        for shift in low.max(*range.start())..=high.min(*range.end()) {
            found = look(shift);
        }
    }
    found
}

/// Every how many samples a search may look at sound of this rate.
pub(super) fn stride(rate: u32) -> usize {
    (rate / 8000).max(1) as usize
}
