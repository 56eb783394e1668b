//! What the ear tells: beginnings, pauses and ends of turns.

use std::time::Instant;

use crate::pcm::telephone;

/// What was heard. Positions are samples since the first frame: those of the ear, in the [`telephone`] band, or those of the house after
/// [`Heard::in_house`], so that the sound can be cut out of an [`Utterance`](super::Utterance).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The first voiced chunk of what may become an utterance. [`Heard::Started`] or [`Heard::Dismissed`] follows, with the
    /// minimum speech of 64 ms within 100 ms.
    Onset {
        /// When it was decided.
        at: Instant,
        /// Where the sound begins.
        sample: u64,
    },
    /// The [`Heard::Onset`] came to nothing: a click, a knock, an echo.
    Dismissed {
        /// When it was decided.
        at: Instant,
    },
    /// The caller speaks: the minimum speech is reached. While the box speaks this is barge-in.
    Started {
        /// Where the utterance begins; the first syllable may lie in the pre-roll before it.
        onset_sample: u64,
        /// Arrival of the first sample of it.
        onset: Instant,
        /// When it was decided.
        at: Instant,
    },
    /// Silence has begun that may become the end: time to prepare what can be thrown away unheard. At most once for each
    /// stretch of silence, and not at all when noise hides where the level falls. [`Heard::Resumed`] takes it back; a
    /// [`Heard::SoftEnd`] confirms it, with the same values.
    ProbableEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// The caller has probably finished. Comes again, with the same values, when a [`Heard::Resumed`] was only a click.
    SoftEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// Voice within the pause after a probable or a soft end: the first sign is enough, so that what was begun can stop at once.
    Resumed {
        /// When it was decided.
        at: Instant,
    },
    /// The caller has finished.
    HardEnd {
        /// Where the utterance begins.
        onset_sample: u64,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// The utterance reached its greatest length and ends here, in the middle of speech. What follows is another one.
    TooLong {
        /// Where the utterance begins.
        onset_sample: u64,
        /// Where it was cut.
        end_sample: u64,
    },
}

impl Heard {
    /// The same with positions at the house's rate.
    pub fn in_house(self) -> Self {
        let wide = |sample: u64| sample * telephone::WIDER;
        match self {
            Self::Onset { at, sample } => Self::Onset { at, sample: wide(sample) },
            Self::Started { onset_sample, onset, at } => Self::Started { onset_sample: wide(onset_sample), onset, at },
            Self::ProbableEnd { speech_end, end_sample } => {
                Self::ProbableEnd { speech_end, end_sample: wide(end_sample) }
            }
            Self::SoftEnd { speech_end, end_sample } => Self::SoftEnd { speech_end, end_sample: wide(end_sample) },
            Self::HardEnd { onset_sample, end_sample } => {
                Self::HardEnd { onset_sample: wide(onset_sample), end_sample: wide(end_sample) }
            }
            Self::TooLong { onset_sample, end_sample } => {
                Self::TooLong { onset_sample: wide(onset_sample), end_sample: wide(end_sample) }
            }
            Self::Dismissed { .. } | Self::Resumed { .. } => self,
        }
    }
}
