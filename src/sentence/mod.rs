//! From the model's token stream to phrases that can be spoken: cutting, and making text speakable.

use crate::config::Language;

/// How a piece ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Within a sentence: more of it follows.
    Clause,
    /// With a sentence.
    Sentence,
}

/// stub
pub fn speakable(text: &str, _language: Language) -> Option<String> {
    Some(text.to_owned())
}
