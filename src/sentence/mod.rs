//! From the model's token stream to phrases that can be spoken: cutting, and making text speakable.
//!
//! [`Cutter`] decides where a phrase ends; a [`Piece`] keeps the text as the model wrote it, for history and logs. What a voice
//! gets is [`speakable()`] of it.

mod cutter;
mod expansions;
mod numbers;
mod script;
mod speakable;
mod words;

pub use cutter::{Cutter, Options, Timer};
pub use script::language_of;
pub use speakable::{Digits, speakable, speakable_with};

/// How a piece ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Within a sentence: more of it follows.
    Clause,
    /// With a sentence.
    Sentence,
}

/// A part of the answer that can be spoken by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// As the model wrote it, white space around it removed.
    pub text: String,
    /// How it ends.
    pub ends: Ends,
}
