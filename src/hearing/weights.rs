//! The weights of the voice activity detector, laid out for the order in which inference reads them.
//!
//! They come from the Silero model by way of `build.rs` and are shared by all calls: 0.94 MB.

use std::sync::OnceLock;

/// The tensors in the order of `TENSORS` in `build.rs`, little-endian `f32`.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/silero_8k.f32"));

/// Rows computed together: as many accumulators as fit into the vector registers, for one or two time steps.
pub(super) const BLOCK: usize = 16;

/// A matrix whose rows are computed [`BLOCK`] at a time, so that the inner loop runs along memory.
///
/// `blocks[column + block * columns][lane]` is the weight of `column` for row `block * BLOCK + lane`.
pub(super) struct Matrix {
    columns: usize,
    blocks: Box<[[f32; BLOCK]]>,
}

impl Matrix {
    /// Lays out `rows` × `columns` weights; rows that do not fill the last block are padded with zeros.
    fn new(rows: usize, columns: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let blocks = (0..rows.div_ceil(BLOCK) * columns)
            .map(|index| {
                let (block, column) = (index / columns, index % columns);
                std::array::from_fn(|lane| {
                    let row = block * BLOCK + lane;
                    if row < rows { weight(row, column) } else { 0.0 }
                })
            })
            .collect();
        Self { columns, blocks }
    }

    /// Adds the product with each of `N` column vectors to `N` results, each as long as the (padded) rows.
    pub(super) fn multiply_add<const N: usize>(&self, columns: [&[f32]; N], mut results: [&mut [f32]; N]) {
        for (block, weights) in self.blocks.chunks_exact(self.columns).enumerate() {
            let mut sums = [[0.0f32; BLOCK]; N];
            for (index, weight) in weights.iter().enumerate() {
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    let value = column[index];
                    for (lane, weight) in sum.iter_mut().zip(weight) {
                        *lane += weight * value;
                    }
                }
            }
            for (result, sum) in results.iter_mut().zip(&sums) {
                for (lane, sum) in result[block * BLOCK..(block + 1) * BLOCK].iter_mut().zip(sum) {
                    *lane += sum;
                }
            }
        }
    }
}

/// A convolution over time with three taps: one matrix a tap, and the bias of each output channel.
pub(super) struct Convolution {
    pub(super) taps: [Matrix; 3],
    pub(super) bias: Box<[f32]>,
}

/// Everything inference reads.
pub(super) struct Weights {
    /// 130 × 128: 65 cosine rows (padded to 80), the windowed samples.
    pub(super) cosine: Matrix,
    /// The 65 sine rows, likewise.
    pub(super) sine: Matrix,
    /// Four convolutions with ReLU.
    pub(super) encoder: [Convolution; 4],
    /// LSTM, rows by gate: input, forget, cell, output, 128 each.
    pub(super) from_input: Matrix,
    pub(super) from_hidden: Matrix,
    pub(super) gate_bias: Box<[f32]>,
    /// The last layer.
    pub(super) output: Box<[f32]>,
    pub(super) output_bias: f32,
}

impl Weights {
    /// The one copy of this process; the first call reads and lays out (a few milliseconds, so not on the media thread).
    pub(super) fn shared() -> &'static Self {
        static SHARED: OnceLock<Weights> = OnceLock::new();
        SHARED.get_or_init(Self::read)
    }

    fn read() -> Self {
        let mut rest = BYTES;
        let mut take = |count: usize| -> Box<[f32]> {
            let (tensor, after) = rest.split_at(count * 4);
            rest = after;
            tensor.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let basis = take(130 * 128);
        let encoder = [(65, 128), (128, 64), (64, 64), (64, 128)].map(|(inputs, outputs)| {
            let weight = take(outputs * inputs * 3);
            let taps = [0, 1, 2]
                .map(|tap| Matrix::new(outputs, inputs, |output, input| weight[(output * inputs + input) * 3 + tap]));
            Convolution { taps, bias: take(outputs) }
        });
        let from_input = take(512 * 128);
        let from_hidden = take(512 * 128);
        let (input_bias, hidden_bias) = (take(512), take(512));
        Self {
            cosine: Matrix::new(65, 128, |row, column| basis[row * 128 + column]),
            sine: Matrix::new(65, 128, |row, column| basis[(65 + row) * 128 + column]),
            encoder,
            from_input: Matrix::new(512, 128, |row, column| from_input[row * 128 + column]),
            from_hidden: Matrix::new(512, 128, |row, column| from_hidden[row * 128 + column]),
            gate_bias: input_bias.iter().zip(&hidden_bias).map(|(a, b)| a + b).collect(),
            output: take(128),
            output_bias: take(1)[0],
        }
    }
}
