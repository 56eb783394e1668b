//! Hearing: voice activity, end of turn, the utterance.
//!
//! On the media thread: an [`Endpointer`] takes each frame of the caller, asks [`SileroVad`] for the probability of
//! speech, and tells through [`Heard`] when a turn begins, has probably ended, goes on, and has ended. On the tokio side an
//! [`Utterance`] keeps the same frames, from which the turn is cut by sample position.

mod detector;
mod end_of_turn;
mod endpointer;
mod hangover;
mod heard;
pub mod hint;
mod levels;
mod limits;
mod recent;
mod returned;
mod utterance;
mod vad;
mod weights;

pub use detector::TurnDetector;
pub use end_of_turn::{EndOfTurn, Spoken};
pub use endpointer::Endpointer;
pub use heard::Heard;
pub use hint::Hint;
pub use limits::Limits;
pub use utterance::{Utterance, to_wav};
pub use vad::{CHUNK_SAMPLES, SileroVad};
