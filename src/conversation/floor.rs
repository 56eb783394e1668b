//! Who has the floor, and what is waited for meanwhile.

use std::time::Instant;

use super::answer::Answer;
use super::{Ending, Remedy};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The model has sent nothing yet.
    FirstToken,
    /// The model fell silent within its answer.
    BetweenTokens,
    /// The answer takes too long as a whole.
    WholeAnswer,
    /// Something was queued and its end was never reported.
    Playout,
    /// The voice has made no sound of the answer.
    FirstSound,
    /// Functions that the model called do not end.
    Tools,
    /// Nothing was heard for a while, and more is to come.
    Quiet,
    /// The call has lasted as long as it may.
    LongestCall,
    /// The caller probably ended, and it was never reported that this was so or was not.
    Commit,
    /// A voice over ours has lasted long enough to be meant.
    BargeIn,
    /// The caller says nothing.
    Silence,
    /// Nothing more was said after the last word.
    LastWord,
}

impl Timer {
    /// Whether something that was due did not come.
    pub fn is_in_vain(self) -> bool {
        !matches!(self, Self::BargeIn | Self::Silence | Self::LastWord | Self::Quiet | Self::LongestCall)
    }
}

/// Who has the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The call is not up.
    Ringing,
    /// The greeting plays.
    Greeting,
    /// The caller's floor, speaking or not.
    Listening,
    /// An answer was asked for, and none of it is queued or it is not committed.
    Thinking,
    /// A committed answer is heard, or about to be.
    Speaking,
    /// The apology plays.
    Apologising,
    /// The caller is asked whether anybody is there.
    Prompting,
    /// The last word is said, or was.
    Closing,
    /// The caller is being handed over.
    Transferring,
    /// The caller leaves a message.
    Messaging,
    /// The call is over.
    Ended,
}

// There is one in each call, and it is an answer most of the time.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Floor {
    Ringing,
    Greeting {
        since: Instant,
    },
    Listening,
    Answering(Answer),
    /// `for_turn`: the caller has asked something; otherwise the transfer has failed.
    Apologising {
        since: Instant,
        speech_end: Instant,
        for_turn: bool,
        then: Option<Remedy>,
    },
    Prompting {
        since: Instant,
    },
    Goodbye {
        since: Instant,
        /// What it is said to in place of an answer.
        speech_end: Option<Instant>,
        why: Ending,
    },
    /// The last word was said: the call ends then, unless the caller has something to add.
    Leaving {
        at: Instant,
        why: Ending,
    },
    /// It is being hung up.
    HangingUp,
    /// `helping`: because we could not answer.
    Transferring {
        helping: bool,
    },
    /// The caller speaks to the machine that takes messages.
    Messaging,
    Ended,
}

impl Floor {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Ringing => Phase::Ringing,
            Self::Greeting { .. } => Phase::Greeting,
            Self::Listening => Phase::Listening,
            Self::Answering(answer) if answer.committed && answer.is_said() => Phase::Speaking,
            Self::Answering(_) => Phase::Thinking,
            Self::Apologising { .. } => Phase::Apologising,
            Self::Prompting { .. } => Phase::Prompting,
            Self::Goodbye { .. } | Self::Leaving { .. } | Self::HangingUp => Phase::Closing,
            Self::Transferring { .. } => Phase::Transferring,
            Self::Messaging => Phase::Messaging,
            Self::Ended => Phase::Ended,
        }
    }

    /// The end of speech that was answered, or is being.
    pub(super) fn answered(&self) -> Option<Instant> {
        match self {
            Self::Answering(answer) => Some(answer.speech_end),
            Self::Apologising { speech_end, .. } => Some(*speech_end),
            Self::Goodbye { speech_end, .. } => *speech_end,
            _ => None,
        }
    }

    /// Whether something of ours is heard, or about to be.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Answering(answer) => answer.committed,
            Self::Greeting { .. } | Self::Apologising { .. } | Self::Prompting { .. } | Self::Goodbye { .. } => true,
            _ => false,
        }
    }
}

/// Whether the call is on hold, and what is due when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    None,
    Held,
    /// The greeting.
    Greet,
    /// An answer to what the caller said before.
    Answer,
}
