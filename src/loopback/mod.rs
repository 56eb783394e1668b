//! Microphone and loudspeaker as a way in: a sound card of any rate and any number of channels as a [`crate::leg::Leg`].
//!
//! ```text
//!  card's thread                     ring        media thread
//!  microphone ─► mix ─► resample ──► ▒▒▒▒ ──► hear ─┐
//!                          ▲ ratio    │ fill        ├─► endpointer, mixer, as on any call
//!                          └─ PI ◄────┘             │
//!  loudspeaker ◄──── resample ◄───── ▒▒▒▒ ◄── speak ┘
//!                          ▲ ratio    │ fill
//!                          └─ PI ◄────┘
//! ```
//!
//! The media thread's clock is the box's; each device has one of its own. Their difference is made good by the ratio of a resampler that
//! works on the card's side ([`convert`]), led by a slow loop over the delay ([`regulator`]), so that nothing clicks and no delay grows. The
//! media thread only moves frames. [`card::Card`] is what the machine's cards and the one of the tests have in common; [`keeper`] opens, watches
//! and takes up again. [`files`] is another leg, for tests and installers: questions and answers as WAV files. [`duplex`] keeps a loudspeaker's sound from being taken for the caller's.

use std::sync::Arc;

pub mod audition;
pub mod capture;
pub mod card;
pub mod convert;
pub mod desk;
pub mod duplex;
pub mod files;
mod home;
mod keeping;
pub mod keeper;
pub mod lane;
pub mod leg;
pub mod margin;
#[cfg(feature = "local-audio")]
pub mod native;
pub mod playback;
pub mod regulator;
pub mod script;
pub mod speed;
pub mod tape;
pub mod virtual_card;

#[cfg(test)]
mod tests;

pub use audition::Audition;
pub use card::{Card, CardError, Choice, Device, Direction, Shape};
pub use desk::{Desk, Keys};
pub use duplex::Duplex;
pub use keeper::{Keeper, Notice, OpenDevice};
pub use keeping::Keeping;
pub use lane::{Lane, LaneFigures};
pub use leg::{CardSide, LoopbackLeg};

/// The sound cards of this machine.
///
/// # Errors
/// When this program was built without them.
#[cfg(feature = "local-audio")]
pub fn cards() -> Result<Box<dyn Card>, CardError> {
    Ok(Box::new(native::NativeCard::new()))
}

/// The sound cards of this machine.
///
/// # Errors
/// Always: this program was built without them.
#[cfg(not(feature = "local-audio"))]
pub fn cards() -> Result<Box<dyn Card>, CardError> {
    Err(CardError::NotBuilt)
}

/// What a call's card and its leg share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The microphone's direction.
    pub input: Arc<Lane>,
    /// The loudspeaker's.
    pub output: Arc<Lane>,
    /// Levels and switches.
    pub desk: Arc<Desk>,
}
