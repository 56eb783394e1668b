//! Playout: what the caller hears, decided frame by frame on the media thread.

mod built_in;
pub mod clips;
mod cuts;
mod fade;
mod forecast;
mod hold;
pub mod inspection;
pub mod mixer;
mod placeholder;
mod played;
mod policy;
mod shaped;

pub use clips::ClipKind;
pub use forecast::{Forecast, SharedForecast};
pub use mixer::Mixer;
pub use placeholder::Arming;
pub use played::{PlayableClip, Played, SpeechFrame};
pub use policy::{Occasion, PlaceholderPolicy};
