//! Changing the sample rate, by `rubato`'s FFT resampler.
//!
//! Works in chunks of 10 ms where the two rates allow it, and of the next larger size where they do not (22 050 → 8000 Hz share
//! only 50 Hz, so a chunk is 441 → 160 samples, 20 ms; 11 025 → 8000 Hz: 40 ms). The filter's delay, half a chunk, is taken out
//! of the result; it stays as latency. Not for the media thread: `push` grows the caller's vector.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler};

/// Converts a whole sound from `from` to `to` samples a second: delay removed, `round(n · to / from)` samples long.
pub fn resample(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    let mut resampler = StreamResampler::new(from, to);
    let mut out = Vec::with_capacity(scaled(samples.len() as u64, from.max(1), to.max(1)) as usize);
    resampler.push(samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// `samples` at `from` Hz as a count at `to` Hz, rounded.
fn scaled(samples: u64, from: u32, to: u32) -> u64 {
    (samples * u64::from(to) + u64::from(from) / 2) / u64::from(from)
}

/// Converts a sound that arrives piece by piece. What comes out does not depend on how the pieces are cut.
pub struct StreamResampler {
    from: u32,
    to: u32,
    /// `None` when both rates are the same.
    filter: Option<Filter>,
    /// Samples pushed since the start.
    taken: u64,
    /// Samples given since the start.
    given: u64,
}

struct Filter {
    fft: Fft<f32>,
    /// Input that does not yet fill a chunk.
    input: Vec<f32>,
    /// Samples in one input chunk.
    chunk: usize,
    output: Vec<f32>,
    /// Output samples still to be dropped from the front: the filter's delay.
    lead: usize,
}

impl StreamResampler {
    /// A resampler from `from` to `to` samples a second. A rate of 0 counts as 1.
    pub fn new(from: u32, to: u32) -> Self {
        let (from, to) = (from.max(1), to.max(1));
        let filter = (from != to).then(|| Filter::new(from, to));
        Self { from, to, filter, taken: 0, given: 0 }
    }

    /// Takes samples; appends to `out` what they complete.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.taken += samples.len() as u64;
        let Some(filter) = &mut self.filter else {
            out.extend_from_slice(samples);
            return;
        };
        let mut rest = samples;
        while !rest.is_empty() {
            let room = filter.chunk - filter.input.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            filter.input.extend(now.iter().map(|&s| f32::from(s)));
            rest = later;
            if filter.input.len() == filter.chunk {
                self.given += filter.run(u64::MAX, out);
            }
        }
    }

    /// Appends the tail to `out`, so that all of it is `round(n · to / from)` samples long, and begins anew.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if let Some(filter) = &mut self.filter {
            let due = scaled(self.taken, self.from, self.to);
            while self.given < due {
                self.given += filter.run(due - self.given, out);
            }
            filter.reset();
        }
        self.taken = 0;
        self.given = 0;
    }
}

impl Filter {
    fn new(from: u32, to: u32) -> Self {
        let fft = Fft::new(from as usize, to as usize, (from as usize / 100).max(1), 1, FixedSync::Both)
            .expect("rates and chunk are not zero");
        let chunk = fft.input_frames_next();
        let output = vec![0.0; fft.output_frames_next()];
        let lead = fft.output_delay();
        Self { fft, input: Vec::with_capacity(chunk), chunk, output, lead }
    }

    /// Converts what is in the input buffer, silence behind it if it is short; gives at most `most` samples and says how many.
    fn run(&mut self, most: u64, out: &mut Vec<i16>) -> u64 {
        let partial = (self.input.len() < self.chunk).then_some(self.input.len());
        self.input.resize(self.chunk, 0.0);
        let frames = self.output.len();
        let source = InterleavedSlice::new(&self.input, 1, self.chunk).expect("the buffer holds a chunk");
        let mut sink = InterleavedSlice::new_mut(&mut self.output, 1, frames).expect("the buffer holds a chunk");
        let indexing = Indexing { partial_len: partial, ..Indexing::default() };
        self.fft
            .process_into_buffer(&source, &mut sink, Some(&indexing))
            .expect("the buffers have the sizes asked for");
        self.input.clear();
        let ready = &self.output[self.lead.min(frames)..];
        self.lead -= self.lead.min(frames);
        let ready = &ready[..ready.len().min(usize::try_from(most).unwrap_or(usize::MAX))];
        out.extend(ready.iter().map(|s| s.round().clamp(-32768.0, 32767.0) as i16));
        ready.len() as u64
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.input.clear();
        self.lead = self.fft.output_delay();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::telephone::RATE;
    use crate::pcm::{level, tone};

    fn sine(hz: f32, rate: u32, samples: usize) -> Vec<i16> {
        tone::sine_at(rate, hz, -6.0, samples)
    }

    /// The middle of a sound, without its first and last 50 ms at 8 kHz.
    fn middle(samples: &[i16]) -> &[i16] {
        &samples[400..samples.len() - 400]
    }

    const RATES: [u32; 9] = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000];

    #[test]
    fn a_tone_keeps_its_pitch_level_and_length() {
        for from in RATES {
            for samples in [from as usize, from as usize + 7, from as usize - 3] {
                let out = resample(&sine(1000.0, from, samples), from, RATE);
                let expected = (samples as f64 * f64::from(RATE) / f64::from(from)).round() as usize;
                assert_eq!(out.len(), expected, "from {from}");
                assert!(tone::share_at(RATE, 1000.0, middle(&out)) > 0.999, "from {from}");
                assert!((level::rms_dbfs(middle(&out)) + 9.03).abs() < 0.1, "from {from}");
            }
        }
        let up = resample(&sine(1000.0, RATE, 8000), RATE, 16000);
        assert_eq!(up.len(), 16000);
        assert!(tone::share_at(16000, 1000.0, middle(&up)) > 0.999);
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_removed_and_does_not_fold_back() {
        for (from, hz) in [(16000, 5000.0), (22050, 5000.0), (24000, 7000.0), (48000, 4600.0)] {
            let out = resample(&sine(hz, from, from as usize), from, RATE);
            assert!(level::rms_dbfs(middle(&out)) < -60.0, "{hz} Hz from {from}: {}", level::rms_dbfs(middle(&out)));
        }
    }

    #[test]
    fn the_delay_is_taken_out() {
        for from in RATES {
            let mut click = vec![0i16; from as usize / 5];
            click[from as usize / 10] = 30000;
            let out = resample(&click, from, RATE);
            let peak = (0..out.len()).max_by_key(|&n| out[n].unsigned_abs()).unwrap();
            assert!(peak.abs_diff(800) <= 1, "from {from}: at {peak}");
        }
    }

    #[test]
    fn the_last_ten_milliseconds_are_not_lost() {
        for from in [16000, 22050, 24000] {
            let mut sound = vec![0i16; from as usize / 2];
            let tail = sine(1000.0, from, from as usize / 100);
            sound.extend(&tail);
            let out = resample(&sound, from, RATE);
            assert!(level::rms_dbfs(&out[out.len() - 80..]) > -11.0, "from {from}");
        }
    }

    #[test]
    fn the_sizes_of_the_pieces_do_not_matter_and_a_finished_resampler_begins_anew() {
        for from in RATES {
            let sound = sine(700.0, from, from as usize / 3 + 11);
            let whole = resample(&sound, from, RATE);
            let mut resampler = StreamResampler::new(from, RATE);
            for size in [1, 7, 160, 441, 1000, 100_000] {
                let mut out = Vec::new();
                for piece in sound.chunks(size) {
                    resampler.push(piece, &mut out);
                }
                resampler.finish(&mut out);
                assert!(out == whole, "from {from} in pieces of {size}");
            }
        }
    }

    #[test]
    fn odd_rates_and_no_samples_work_too() {
        assert_eq!(resample(&[], 22050, RATE), Vec::<i16>::new());
        assert_eq!(resample(&[5; 3], 16000, RATE).len(), 2);
        assert_eq!(resample(&[5; 8001], 8001, RATE).len(), 8000);
        assert_eq!(resample(&[5; 12_345], 12_345, RATE).len(), 8000);
        assert_eq!(resample(&[1, 2, 3], RATE, RATE), [1, 2, 3]);
        resample(&[1, 2, 3], 0, 0);
    }
}
