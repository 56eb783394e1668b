//! Turn-taking: who has the floor, what is asked, what is said, and what was heard of it.
//!
//! A sans-IO machine: [`Conversation::handle`] takes what happened and when, [`Conversation::poll`] gives what to do,
//! [`Conversation::poll_timeout`] the next deadline with its reason. It knows nothing of Gemini, voices or RTP.
//!
//! ```text
//! Answered ─► greeting ─► listening ──SoftEnd──► thinking ──HardEnd (Commit), first clause──► speaking ─► listening …
//!                 │           ▲ ▲                   │ │                                          │
//!                 └─ caller ──┘ └── Resumed (Cancel) ┘ └── nothing to say ─► apologising ─► listening, next turn
//!                                                    barge-in: listening, next turn ◄───────────┘
//! ```
//!
//! Hold ends what is being said as a barge-in does; a question whose answer had not begun is asked again at the retrieval, and a greeting
//! that had not begun is played then.
//!
//! A caller who wants a person is handed over when there is somebody to hand over to: what is said gives way, and nothing is heard or said by
//! the conversation until that has failed, which is apologised for, or the call is over.
//!
//! An answer is asked for at the soft end and may be synthesised at once; the media thread holds it back until the hard end commits it.
//! Not implemented: taking an interruption back when it was only a cough, and a second placeholder in a long wait.

use std::sync::Arc;
use std::time::Instant;

use crate::timeline::TurnOutcome;

mod answer;
mod limits;
mod machine;
#[cfg(test)]
mod tests;

pub use limits::Limits;
pub use machine::{Conversation, Phase, Timer};

/// Counts the caller's turns in a call, from 1.
pub type Turn = u32;

/// Counts requests for an answer in a call, from 1. Everything that belongs to an answer carries it, so that what is late can be told from what is wanted.
/// It is also the epoch of the speech frames in the playout ring.
pub type Generation = u32;

/// The place of a phrase in its answer, from 0.
pub type Seq = u32;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The call is up and media flows both ways.
    Answered,
    /// The greeting has been played to its end, or was cut off.
    GreetingEnded,
    /// The caller has begun to speak (confirmed onset). The media thread has already silenced the playout.
    CallerStarted,
    /// The caller has probably finished. `speech_end` is when the last voiced sample arrived.
    SoftEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
    },
    /// The caller went on within the pause: the soft end is taken back.
    Resumed,
    /// The caller has finished.
    HardEnd,
    /// A piece of the answer, ready to be spoken.
    Clause {
        /// The answer it belongs to.
        generation: Generation,
        /// What the history shows.
        text: String,
    },
    /// Text arrived from the model (whether or not it completed a clause).
    Token {
        /// The answer it belongs to.
        generation: Generation,
    },
    /// The model has finished, or failed. All its clauses were reported before.
    GenerationEnded {
        /// The answer.
        generation: Generation,
        /// Whether it was whole.
        outcome: Outcome,
    },
    /// A phrase has left the box, to its end or to where it was cut.
    PhraseHeard {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
        /// Share of it that was played, 0 to 1.
        share: f32,
    },
    /// A phrase could not be synthesised.
    PhraseFailed {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
    },
    /// The apology clip was played to its end, or cut off.
    ApologyEnded,
    /// The caller has put the call on hold: nothing of ours is heard, and what comes is not meant for us. The media thread has already
    /// silenced the playout.
    Held,
    /// The hold is over.
    Retrieved,
    /// The caller is to talk to a person: a key asks for it, or a rule of ours.
    PersonWanted,
    /// The caller could not be handed over and is with us again.
    TransferFailed,
    /// The call is over, from whichever side.
    HungUp,
}

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model finished its answer.
    Complete,
    /// It was cut off after some text: what was said stands.
    Truncated,
    /// There was no usable answer.
    Failed,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Play the greeting clip.
    Greet,
    /// Let the media thread start a placeholder by itself when the caller's next utterance ends.
    ArmPlaceholder {
        /// The turn it is for.
        turn: Turn,
    },
    /// Take the armed placeholder back, and stop one that plays.
    DisarmPlaceholder,
    /// Ask the model.
    Generate {
        /// Name of the answer.
        generation: Generation,
        /// The turn that is answered. Its sound is every utterance of this turn.
        turn: Turn,
        /// What was said before.
        history: Arc<[Exchange]>,
    },
    /// Stop asking, and speaking, and forget what is queued of it.
    Cancel {
        /// The answer.
        generation: Generation,
    },
    /// Stop asking; what was said of it, and what is queued, stands.
    StopAsking {
        /// The answer.
        generation: Generation,
    },
    /// The answer may be heard from now on. Not sent for one that has failed already.
    Commit {
        /// The answer.
        generation: Generation,
    },
    /// Synthesise and queue a phrase.
    Speak {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
        /// What to say.
        text: String,
    },
    /// Silence everything that plays or is queued, at once.
    FlushPlayout,
    /// Play the apology clip.
    Apologise,
    /// Hand the caller over.
    Transfer {
        /// The person.
        to: Arc<str>,
    },
    /// A turn is over: its timeline can be written.
    TurnEnded {
        /// The turn.
        turn: Turn,
        /// How it went.
        outcome: TurnOutcome,
    },
}

/// A turn as the history keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The caller's turn; whoever asks the model knows its sound.
    pub turn: Turn,
    /// What the caller heard of the answer; empty when nothing.
    pub heard: String,
    /// Whether the caller cut it off.
    pub interrupted: bool,
}
