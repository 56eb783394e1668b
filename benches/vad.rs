//! What one 32 ms chunk of voice activity detection costs: `cargo bench --bench vad`.

use std::hint::black_box;
use std::time::Instant;

use offhook::hearing::{CHUNK_SAMPLES, SileroVad};
use offhook::pcm::wav;

fn main() {
    let sound = wav::read(include_bytes!("../tests/data/vad.wav")).expect("the reference sound is a WAV file");
    let chunks: &[[i16; CHUNK_SAMPLES]] = sound.samples.as_chunks().0;
    let mut calls: Vec<SileroVad> = (0..8).map(|_| SileroVad::new()).collect();
    // The best of several rounds: others share this machine.
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        for chunk in chunks {
            for vad in &mut calls {
                black_box(vad.probability(black_box(chunk)));
            }
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / (chunks.len() * calls.len()) as f64);
    }
    let share = best * 1e-6 * 8.0 * 8000.0 / CHUNK_SAMPLES as f64 * 100.0;
    println!("{best:.1} µs a chunk; eight calls take {share:.1} % of one core");
}
