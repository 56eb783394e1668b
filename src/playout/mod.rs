//! Playout: what the caller hears, decided frame by frame on the media thread.

pub mod clips;
mod fade;
mod hold;
pub mod mixer;
mod placeholder;
mod played;

pub use clips::ClipKind;
pub use mixer::Mixer;
pub use placeholder::Arming;
pub use played::{PlayableClip, Played, SpeechFrame};
