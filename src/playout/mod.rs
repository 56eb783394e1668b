//! Playout: what the caller hears, decided frame by frame on the media thread.

pub mod clips;
pub mod mixer;

pub use clips::ClipKind;
pub use mixer::{Mixer, PlayableClip, Played, SpeechFrame};
