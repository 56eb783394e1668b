//! Hearing: voice activity, end of turn, the utterance.

mod vad;
mod weights;

pub use vad::{CHUNK_SAMPLES, SileroVad};

mod stand_in;
pub use stand_in::{Endpointer, Heard};
