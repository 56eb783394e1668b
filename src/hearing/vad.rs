//! Voice activity: the speech probability of each 32 ms, by the Silero network at its native 8 kHz.
//!
//! A short-time spectrum (4 windows of 128 samples), four convolutions, an LSTM of 128 cells, one output. Our own
//! inference, so that it neither allocates nor locks; the weights are Silero's (see `build.rs`). Not implemented: the
//! 16 kHz branch.

use super::weights::{Convolution, Weights};

/// Samples that give one probability: 32 ms.
pub const CHUNK_SAMPLES: usize = 256;

/// Samples of the chunk before that the network sees again.
const CONTEXT: usize = 32;
/// Samples mirrored at the end, so that the last window is full.
const MIRRORED: usize = 32;
const WINDOW: usize = 128;
const HOP: usize = 64;
/// Windows in a chunk.
const STEPS: usize = 4;
/// Magnitudes in a window, and as many as the padded matrix gives.
const BINS: usize = 65;
const PADDED_BINS: usize = 80;
/// LSTM cells.
const CELLS: usize = 128;

/// The state of one call's voice activity detector. The weights are shared by all.
pub struct SileroVad {
    weights: &'static Weights,
    context: [f32; CONTEXT],
    hidden: [f32; CELLS],
    cell: [f32; CELLS],
}

impl std::fmt::Debug for SileroVad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SileroVad").finish_non_exhaustive()
    }
}

impl Default for SileroVad {
    fn default() -> Self {
        Self::new()
    }
}

impl SileroVad {
    /// A detector that has heard nothing. The first one of a process lays out the weights; none is to be made on the media thread.
    pub fn new() -> Self {
        Self { weights: Weights::shared(), context: [0.0; CONTEXT], hidden: [0.0; CELLS], cell: [0.0; CELLS] }
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        self.context = [0.0; CONTEXT];
        self.hidden = [0.0; CELLS];
        self.cell = [0.0; CELLS];
    }

    /// How probable it is, 0 to 1, that the chunk is speech, given all chunks before it.
    pub fn probability(&mut self, chunk: &[i16; CHUNK_SAMPLES]) -> f32 {
        let spectrum = self.spectrum(chunk);
        let [first, second, third, fourth] = &self.weights.encoder;
        let mut wide = [[0.0; 128]; STEPS];
        convolve::<BINS, 128, STEPS, STEPS>(first, 1, &spectrum, &mut wide);
        let mut halved = [[0.0; 64]; 2];
        convolve::<128, 64, STEPS, 2>(second, 2, &wide, &mut halved);
        let mut single = [[0.0; 64]; 1];
        convolve::<64, 64, 2, 1>(third, 2, &halved, &mut single);
        let mut features = [[0.0; 128]; 1];
        convolve::<64, 128, 1, 1>(fourth, 1, &single, &mut features);
        self.remember(&features[0]);
        let sum: f32 =
            self.hidden.iter().zip(&self.weights.output).map(|(hidden, weight)| hidden.max(0.0) * weight).sum();
        sigmoid(sum + self.weights.output_bias)
    }

    /// Magnitudes of the four windows.
    fn spectrum(&mut self, chunk: &[i16; CHUNK_SAMPLES]) -> [[f32; BINS]; STEPS] {
        let mut sound = [0.0; CONTEXT + CHUNK_SAMPLES + MIRRORED];
        let end = CONTEXT + CHUNK_SAMPLES;
        sound[..CONTEXT].copy_from_slice(&self.context);
        for (to, &sample) in sound[CONTEXT..end].iter_mut().zip(chunk) {
            *to = f32::from(sample) / 32768.0;
        }
        self.context.copy_from_slice(&sound[end - CONTEXT..end]);
        // Mirrored around the last sample, which is not repeated.
        for index in 0..MIRRORED {
            sound[end + index] = sound[end - 2 - index];
        }
        let mut spectrum = [[0.0; BINS]; STEPS];
        for (pair, magnitudes) in spectrum.chunks_exact_mut(2).enumerate() {
            let at = pair * 2 * HOP;
            let windows = [&sound[at..at + WINDOW], &sound[at + HOP..at + HOP + WINDOW]];
            let mut real = [[0.0; PADDED_BINS]; 2];
            let mut imaginary = [[0.0; PADDED_BINS]; 2];
            self.weights.cosine.multiply_add(windows, real.each_mut().map(|row| &mut row[..]));
            self.weights.sine.multiply_add(windows, imaginary.each_mut().map(|row| &mut row[..]));
            for ((magnitudes, real), imaginary) in magnitudes.iter_mut().zip(&real).zip(&imaginary) {
                for ((magnitude, real), imaginary) in magnitudes.iter_mut().zip(real).zip(imaginary) {
                    *magnitude = (real * real + imaginary * imaginary).sqrt();
                }
            }
        }
        spectrum
    }

    /// One step of the LSTM.
    fn remember(&mut self, input: &[f32; CELLS]) {
        let mut gates = [0.0; 4 * CELLS];
        gates.copy_from_slice(&self.weights.gate_bias);
        self.weights.from_input.multiply_add([input], [&mut gates]);
        self.weights.from_hidden.multiply_add([&self.hidden], [&mut gates]);
        for index in 0..CELLS {
            let [input, forget, candidate, output] = [0, 1, 2, 3].map(|gate| gates[gate * CELLS + index]);
            let cell = sigmoid(forget) * self.cell[index] + sigmoid(input) * candidate.tanh();
            self.cell[index] = cell;
            self.hidden[index] = sigmoid(output) * cell.tanh();
        }
    }
}

/// Three taps over time with one step of padding on either side, then ReLU.
fn convolve<const I: usize, const O: usize, const S: usize, const R: usize>(
    convolution: &Convolution,
    stride: usize,
    steps: &[[f32; I]; S],
    results: &mut [[f32; O]; R],
) {
    for result in results.iter_mut() {
        result.copy_from_slice(&convolution.bias);
    }
    for (tap, matrix) in convolution.taps.iter().enumerate() {
        for (index, result) in results.iter_mut().enumerate() {
            // Outside the chunk there is nothing to add.
            if let Some(step) = (index * stride + tap).checked_sub(1).and_then(|at| steps.get(at)) {
                matrix.multiply_add([step], [result]);
            }
        }
    }
    for value in results.iter_mut().flatten() {
        *value = value.max(0.0);
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::wav;

    /// 32 ms chunks of the sound that `tests/data/make_vad_reference.py` made.
    fn chunks() -> Vec<[i16; CHUNK_SAMPLES]> {
        let sound = wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap();
        assert_eq!(sound.rate, 8000);
        sound.samples.as_chunks().0.to_vec()
    }

    #[test]
    fn probabilities_are_those_of_onnxruntime() {
        let reference: Vec<f32> =
            include_str!("../../tests/data/vad_probabilities.txt").lines().map(|line| line.parse().unwrap()).collect();
        let mut vad = SileroVad::new();
        let chunks = chunks();
        assert_eq!(chunks.len(), reference.len());
        let mut worst = 0.0f32;
        for (chunk, expected) in chunks.iter().zip(&reference) {
            worst = worst.max((vad.probability(chunk) - expected).abs());
        }
        println!("largest difference {worst:e}");
        assert!(worst < 1e-4, "largest difference {worst}");
        // The table proves something only when it holds both speech and silence.
        assert!(
            reference.iter().filter(|&&p| p > 0.9).count() > 20 && reference.iter().filter(|&&p| p < 0.1).count() > 20
        );
    }

    #[test]
    fn after_a_reset_the_same_sound_gives_the_same_probabilities() {
        let chunks = chunks();
        let mut vad = SileroVad::new();
        let first: Vec<f32> = chunks[..60].iter().map(|chunk| vad.probability(chunk)).collect();
        vad.reset();
        let second: Vec<f32> = chunks[..60].iter().map(|chunk| vad.probability(chunk)).collect();
        assert_eq!(first, second);
    }

    #[test]
    fn calls_do_not_hear_each_other() {
        let chunks = chunks();
        let (mut alone, mut beside, mut other) = (SileroVad::new(), SileroVad::new(), SileroVad::new());
        for chunk in &chunks[..60] {
            other.probability(&[12_000; CHUNK_SAMPLES]);
            assert_eq!(alone.probability(chunk), beside.probability(chunk));
        }
    }

    #[test]
    fn the_loudest_input_gives_a_probability() {
        let mut vad = SileroVad::new();
        for value in [i16::MIN, i16::MAX, 0] {
            for _ in 0..50 {
                let p = vad.probability(&std::array::from_fn(|n| if n % 2 == 0 { value } else { !value }));
                assert!((0.0..=1.0).contains(&p), "{p}");
            }
        }
    }
}
