//! Turn-taking: who has the floor, what is asked, what is said, and what was heard of it.
//!
//! A sans-IO machine: [`Conversation::handle`] takes what happened and when, [`Conversation::poll`] gives what to do,
//! [`Conversation::poll_timeout`] the next deadline with its reason. It knows nothing of Gemini, voices or RTP.
//!
//! ```text
//! Answered ─► greeting ─► listening ─ProbableEnd─► thinking ──HardEnd (Commit), first clause──► speaking ─► listening …
//!                 │           ▲ ▲      or SoftEnd   │ │                                          │
//!                 └─ caller ──┘ └── Resumed (Cancel) ┘ └── nothing to say ─► apologising ─► listening, next turn
//!                                                    barge-in: listening, next turn ◄───────────┘
//!        listening, and silence ─► prompting ─► listening, and silence ─► goodbye ─► hang up
//!        an answer with which the model ends the call ─► a moment for the caller's last word ─► hang up
//! ```
//!
//! A caller who is heard while something of ours is, or is about to be, stops it at once, on the media thread; what that was is decided
//! here. A voice that lasts is a barge-in; a short sound was none, what was said goes on where it was, and the sound is forgotten. Who
//! barges in before enough of the answer was heard to make sense of it was still speaking: the answer is dropped, and the turn goes on.
//!
//! Hold ends what is being said as a barge-in does; a question whose answer had not begun is asked again at the retrieval, and a greeting
//! that had not begun is played then.
//!
//! A caller who wants a person is handed over when there is somebody to hand over to: what is said gives way, and nothing is heard or said by
//! the conversation until that has failed, which is apologised for, or the call is over.
//!
//! A model may want functions called in the middle of its answer: its deadlines rest meanwhile, and whoever hears nothing for long is told
//! that somebody is still there. When there is no answer the ladder decides: an apology, the person of the configuration, a message, goodbye.
//!
//! An answer is asked for at the first probable end, if that is wanted, or else at the soft end, and may be synthesised at once; the media
//! thread holds it back until the hard end commits it. What the model wants to be done takes effect only when its answer was heard.

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::config::Remedy;
use crate::timeline::TurnOutcome;

mod answer;
mod asking;
mod ending;
mod floor;
mod interruption;
mod ladder;
mod limits;
mod machine;
mod reciting;
mod words;
mod yielding;
#[cfg(test)]
mod tests;

pub use answer::MAX_PHRASES;
pub use floor::{Phase, Timer};
pub use limits::Limits;
pub use machine::Conversation;
pub use reciting::Sentence;

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
    /// The caller has begun to speak (confirmed onset). The media thread has already silenced the playout, and keeps its place.
    CallerStarted {
        /// When the sound began.
        onset: Instant,
    },
    /// The caller may have finished: the first sign of it, soon taken back or followed by the soft end.
    ProbableEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
    },
    /// The caller has probably finished. `speech_end` is when the last voiced sample arrived.
    SoftEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
    },
    /// The caller went on within the pause: the soft end is taken back.
    Resumed,
    /// The caller has finished.
    HardEnd,
    /// The words with which an answer was asked for are not what the caller said, as it turned out.
    HeardOtherwise {
        /// The answer.
        generation: Generation,
    },
    /// Who was asked for this answer is gone, and another is to be asked.
    AnswererLost {
        /// The answer.
        generation: Generation,
    },
    /// The caller is there without speaking: a key was pressed.
    KeyPressed,
    /// The caller has keyed something in, and has finished.
    KeysEntered,
    /// The first voiced frame of the answer has left.
    AnswerStarted {
        /// The answer.
        generation: Generation,
    },
    /// The model wants the call to end with this answer.
    EndCallWanted {
        /// The answer.
        generation: Generation,
    },
    /// The model wants the caller handed over when this answer was heard.
    TransferWanted {
        /// The answer.
        generation: Generation,
        /// The person: one of the configuration's.
        to: Arc<str>,
    },
    /// The model wants the caller to leave a message when this answer was heard.
    MessageWanted {
        /// The answer.
        generation: Generation,
    },
    /// The model waits for functions that it called: it writes nothing meanwhile.
    ToolsRun {
        /// The answer.
        generation: Generation,
    },
    /// They are done, and the model is asked again.
    ToolsDone {
        /// The answer.
        generation: Generation,
    },
    /// What is said while a function runs. It is no answer.
    Aside {
        /// The answer it belongs to.
        generation: Generation,
        /// What the history shows.
        text: String,
    },
    /// A placeholder, or a clip that tells that somebody is still there, has begun.
    BridgeStarted,
    /// It has ended, or was cut.
    BridgeEnded,
    /// A message was recorded, or none was left.
    MessageTaken,
    /// A piece of the answer, ready to be spoken.
    Clause {
        /// The answer it belongs to.
        generation: Generation,
        /// What the history shows.
        text: String,
    },
    /// Sound of the answer arrived from a model that speaks by itself. What comes without functions in between is one phrase.
    Sound {
        /// The answer it belongs to.
        generation: Generation,
        /// How long it is.
        length: Duration,
    },
    /// What the sound says, or a part of it; it may come before the sound and after it.
    Said {
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
    /// The clip that asks whether anybody is there was played to its end, or cut off.
    PromptEnded,
    /// The goodbye clip was played to its end, or cut off.
    GoodbyeEnded,
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

impl Input {
    /// Whether it is the caller who speaks, has spoken, or pressed a key.
    fn is_of_caller(&self) -> bool {
        use Input::{CallerStarted, HardEnd, KeyPressed, KeysEntered, ProbableEnd, Resumed, SoftEnd};
        matches!(
            self,
            CallerStarted { .. } | ProbableEnd { .. } | SoftEnd { .. } | Resumed | HardEnd | KeyPressed | KeysEntered
        )
    }
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
    /// There was none, and there will be none until somebody looks after the box: the key is refused, the model is gone.
    Hopeless,
    /// The model will not answer this.
    Refused,
    /// The model was not asked: the budget is used up.
    Unaffordable,
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
        /// When the last voiced sample of it arrived.
        speech_end: Instant,
        /// Asked before the soft end, on the chance that the caller has finished.
        speculative: bool,
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
        /// What to say; empty: the sound that the model makes by itself.
        text: String,
    },
    /// Silence everything that plays or is queued, at once.
    FlushPlayout,
    /// The caller's sound was nothing: go on with what was being played, and forget the sound.
    ResumePlayout,
    /// Say words of ours as an answer; its clauses and its end are reported like a model's.
    Recite {
        /// Name of the answer.
        generation: Generation,
        /// The words.
        sentence: Sentence,
    },
    /// Play the clip that tells that somebody is still there.
    Bridge,
    /// Record what the caller says from now on.
    TakeMessage {
        /// After a tone; without one the caller has begun already.
        tone: bool,
    },
    /// Play the apology clip.
    Apologise,
    /// Play the clip that asks whether anybody is there.
    Prompt,
    /// Play the goodbye clip.
    SayGoodbye,
    /// End the call.
    HangUp {
        /// Why.
        why: Ending,
    },
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

/// Why a call is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The caller said nothing, and nothing to the question whether anybody is there.
    Silence,
    /// Everything is said, in the model's judgement.
    Goodbye,
    /// The caller could not be answered.
    Trouble,
    /// A message was left, or the chance to leave one.
    Message,
    /// The call has lasted as long as it may, and longer.
    TooLong,
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
