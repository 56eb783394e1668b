//! What a recogniser's interim text, or a turn model, says about the end of the turn.

/// Whether what the caller has said so far sounds finished. It holds for the utterance and is forgotten when speech goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is known.
    #[default]
    Unknown,
    /// In the middle of something: digits, spelling, a trailing preposition. Silence must last longer.
    Open,
    /// Clearly finished. A shorter silence is enough.
    Closed,
}
