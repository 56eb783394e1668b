//! Between a card's rate and the house's, by a ratio that follows the card's clock: `rubato`'s asynchronous sinc resampler.
//!
//! Works in pieces of a millisecond, so that hardly anything waits for the rest of its piece. The filter is 48 samples of the lower rate long,
//! 40 where that is a telephone's: half of that is its delay, 1.5 and 2.5 ms. Allocates nothing after construction.

use crate::pcm::RATE;
use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Adjustable, Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};

/// Pieces a second.
const PIECES: u32 = 1000;
/// Length of the filter in samples of the lower rate, …
const FILTER: u32 = 48;
/// … and where that is lower than the house's, to save time at the cost of the last kilohertz.
const NARROW_FILTER: u32 = 40;
/// The most by which a ratio is changed, either way.
const MOST: f64 = 1.03;

/// What a resampler is asked to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A piece of what comes in.
    In,
    /// A piece of what comes out.
    Out,
}

/// A resampler of one channel.
pub struct Converter {
    resampler: Async<f32>,
    ratio: f64,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
}

impl Converter {
    /// From `from` to `to` samples a second, in pieces of a millisecond on the side that `piece` says. A rate of 0 counts as the
    /// smallest that works.
    pub fn new(from: u32, to: u32, piece: Piece) -> Self {
        let (from, to) = (from.max(PIECES), to.max(PIECES));
        let (fixed, rate) = match piece {
            Piece::In => (FixedAsync::Input, from),
            Piece::Out => (FixedAsync::Output, to),
        };
        let lower = from.min(to);
        let filter = if lower < RATE { NARROW_FILTER } else { FILTER };
        let length = (filter * from / lower) as usize;
        let parameters = SincInterpolationParameters::new(length, WindowFunction::Hann2);
        let ratio = f64::from(to) / f64::from(from);
        let resampler = Async::new_sinc(ratio, MOST, &parameters, (rate / PIECES) as usize, 1, fixed)
            .expect("rates, ratio and piece are in range");
        let input = vec![0.0; resampler.input_frames_max()];
        let output = vec![0.0; resampler.output_frames_max()];
        Self { resampler, ratio, input, filled: 0, output }
    }

    /// Off its nominal ratio by this factor from the next piece on, without a step.
    pub fn set_ratio(&mut self, relative: f64) {
        // Only a ratio out of range is refused, and the regulator keeps far from that.
        let _ = self
            .resampler
            .set_resample_ratio((self.ratio * relative).clamp(self.ratio / MOST, self.ratio * MOST), true);
    }

    /// Samples that are missing for the next piece.
    pub fn wants(&self) -> usize {
        self.resampler.input_frames_next().saturating_sub(self.filled)
    }

    /// Samples that wait for the rest of their piece.
    pub fn waiting(&self) -> usize {
        self.filled
    }

    /// Takes one sample; what a whole piece comes to, when it is one.
    pub fn push(&mut self, sample: f32) -> Option<&[f32]> {
        if let Some(place) = self.input.get_mut(self.filled) {
            *place = sample;
            self.filled += 1;
        }
        if self.wants() > 0 {
            return None;
        }
        let (frames, room) = (self.filled, self.output.len());
        self.filled = 0;
        let source = InterleavedSlice::new(&self.input[..frames], 1, frames).ok()?;
        let mut sink = InterleavedSlice::new_mut(&mut self.output, 1, room).ok()?;
        let (_, made) = self.resampler.process_into_buffer(&source, &mut sink, None).ok()?;
        Some(&self.output[..made])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    fn converted(converter: &mut Converter, sound: &[i16]) -> Vec<i16> {
        let mut out = Vec::new();
        for &sample in sound {
            if let Some(piece) = converter.push(f32::from(sample)) {
                out.extend(piece.iter().map(|sample| sample.round() as i16));
            }
        }
        out
    }

    #[test]
    fn a_tone_keeps_pitch_and_level_at_every_rate_both_ways_and_is_delayed_by_little() {
        for rate in [8000, 16_000, 44_100, 48_000, 96_000] {
            for (from, to, piece) in [(rate, RATE, Piece::In), (RATE, rate, Piece::Out)] {
                let mut click = vec![0; from as usize / 10];
                click[from as usize / 20] = 30_000;
                let out = converted(&mut Converter::new(from, to, piece), &click);
                let peak = (0..out.len()).max_by_key(|&n| out[n].unsigned_abs()).unwrap();
                let delay_ms = peak as f64 * 1e3 / f64::from(to) - 50.0;
                assert!((0.0..4.5).contains(&delay_ms), "{from} to {to}: {delay_ms} ms");
                for hz in [300.0, 1000.0, 3000.0] {
                    let sound = tone::sine_at(from, hz, -6.0, from as usize / 2);
                    let out = converted(&mut Converter::new(from, to, piece), &sound);
                    let middle = &out[to as usize / 10..];
                    assert!(tone::share_at(to, hz, middle) > 0.999, "{hz} Hz, {from} to {to}");
                    let level = crate::pcm::level::rms_dbfs(middle);
                    assert!(
                        (level + 9.03).abs() < if hz < 2000.0 { 0.2 } else { 1.5 },
                        "{hz} Hz, {from} to {to}: {level}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_the_house_cannot_hold_does_not_fold_back() {
        for from in [44_100, 48_000, 96_000] {
            let sound = tone::sine_at(from, 11_000.0, -6.0, from as usize / 2);
            let out = converted(&mut Converter::new(from, RATE, Piece::In), &sound);
            let level = crate::pcm::level::rms_dbfs(&out[RATE as usize / 10..]);
            assert!(level < -60.0, "from {from}: {level}");
        }
    }

    #[test]
    fn nothing_is_allocated_once_it_is_made_also_while_the_ratio_changes() {
        let mut converter = Converter::new(48_000, RATE, Piece::In);
        let counted = allocation_counter::measure(|| {
            for n in 0..4800u32 {
                converter.push((n % 100) as f32);
                if n % 480 == 0 {
                    converter.set_ratio(1.0 + f64::from(n) * 1e-7);
                }
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
