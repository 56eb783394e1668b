//! Text to speech.

pub mod shape;
