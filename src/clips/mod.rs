//! Clips of one's own: read from any recording, kept in a folder, swapped while calls go on, and recorded by telephone.
//!
//! A set is a folder as [`playout::clips`](crate::playout::clips) reads it; what is put into it is whole or not there, whenever the power fails
//! and whoever reads meanwhile.

pub mod by_phone;
mod library;
mod own;
mod recording;
mod speaking;

pub use library::Library;
pub use own::{About, OwnClips, OwnError};
pub use recording::{RecordingError, read_recording};
pub use speaking::spoken;
