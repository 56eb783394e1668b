//! What the mixer is given to play, and what it tells of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conversation::{Generation, Seq};
use crate::pcm::{Frame, SILENCE};

use super::clips::ClipKind;

/// One element of the speech ring.
#[derive(Debug, Clone, Copy)]
pub struct SpeechFrame {
    /// The answer it belongs to.
    pub generation: Generation,
    /// The phrase it belongs to.
    pub seq: Seq,
    /// True for the mark behind a phrase's last frame; its samples mean nothing.
    pub end_of_phrase: bool,
    /// One ptime of speech.
    pub samples: Frame,
}

impl SpeechFrame {
    /// A frame of a phrase.
    pub fn speech(generation: Generation, seq: Seq, samples: Frame) -> Self {
        Self { generation, seq, end_of_phrase: false, samples }
    }

    /// The mark behind the last frame of a phrase.
    pub fn end_of_phrase(generation: Generation, seq: Seq) -> Self {
        Self { generation, seq, end_of_phrase: true, samples: SILENCE }
    }
}

/// A clip ready to be played: frames and the places where it may be cut, in RAM. To copy or drop one neither allocates nor frees
/// while its library lives.
#[derive(Debug, Clone)]
pub struct PlayableClip {
    /// What it is for.
    pub kind: ClipKind,
    /// Its place in the list that its owner keeps.
    pub index: u16,
    /// Its sound.
    pub frames: Arc<[Frame]>,
    /// Samples after which a word has ended and the next has not begun, ascending; the end of the clip needs no entry.
    pub cuts: Arc<[u32]>,
}

/// Something that was played, or stopped being played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Played {
    /// The first frame of a clip leaves.
    ClipStarted {
        /// What it is for.
        kind: ClipKind,
        /// Which one.
        index: u16,
        /// When the frame left.
        at: Instant,
    },
    /// A clip has ended, or was cut.
    ClipEnded {
        /// What it is for.
        kind: ClipKind,
        /// Whether it was played to its end, or gave way to an answer.
        whole: bool,
    },
    /// The first voiced frame of anything since the caller's probable end leaves.
    FirstSound {
        /// When the frame left.
        at: Instant,
    },
    /// The first frame of an answer is there, whether or not it may be heard yet: how long since the caller's last voiced sample.
    AnswerQueued {
        /// The wait.
        after: Duration,
    },
    /// The first voiced frame of an answer leaves.
    AnswerStarted {
        /// The answer.
        generation: Generation,
        /// When the frame left.
        at: Instant,
    },
    /// The caller has cut in, and a phrase is held where it was: it goes on, or a [`Played::PhraseEnded`] with the same figures follows.
    PhraseHeld {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
        /// Frames of it that left so far.
        frames: u32,
        /// When its last voiced frame left.
        last_voiced: Option<Instant>,
    },
    /// A phrase has been played to its end, or was cut.
    PhraseEnded {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
        /// Frames of it that left.
        frames: u32,
        /// Whether that was all of it.
        whole: bool,
        /// When its last voiced frame left.
        last_voiced: Option<Instant>,
    },
}
