//! Gemini's Live API: one WebSocket for sound in and text or sound out (`BidiGenerateContent`, Gemini API v1beta).
//!
//! [`SpeechDialogue`] is a model that hears and speaks by itself: no recogniser, no cutter, no voice of ours. Where the caller begins and
//! ends is told by our own ear. [`Live`] is it over this API; `wire` is the API's JSON, shared with the recogniser of the same name.
//! The key stands in the URL, as the API wants it, and the URL is never shown.
//!
//! Not implemented: ephemeral tokens, video, text input, the API's own voice activity detection.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::SetupError;
use super::client::NO_KEY;
use crate::config::Config;
use crate::http::BaseUrl;
use crate::model::{Fault, Function, FunctionCall, FunctionResult, Fut, Usage};
use crate::privacy::Secret;

mod dialogue;
pub(crate) mod provider;
pub(crate) mod wire;

pub use dialogue::Live;

/// The dialogue of a configuration, if it has one.
///
/// # Errors
/// When there is no key, or the address cannot be used.
pub fn from_config(config: &Config, key: Option<Secret>) -> Result<Option<Live>, SetupError> {
    if !config.live.enabled {
        return Ok(None);
    }
    let base = match &config.live.base_url {
        Some(url) => BaseUrl::parse("live.base_url", url)?,
        None => BaseUrl::parse("gemini.base_url", &config.gemini.base_url)?,
    };
    let key = match key {
        Some(key) => key,
        None if base.is_loopback() => Secret::new(NO_KEY),
        None => return Err(SetupError::NoKey),
    };
    Ok(Some(Live::new(base, key, &config.live.model)))
}

/// What is told of a dialogue that may wait to be taken; then the connection is not read any further.
pub const WAITING: usize = 64;

/// A model that hears and speaks.
pub trait SpeechDialogue: Send + Sync {
    /// Begins a conversation; what happens in it goes to `out`, which should have [`WAITING`] places. Returns at once: the connection is made
    /// meanwhile. It ends when the [`Talking`] is dropped, or with [`Told::Lost`].
    fn open(&self, opening: Opening, out: mpsc::Sender<Told>) -> Box<dyn Talking>;

    /// Finds out whether it can be reached and takes our key and model: for doctors.
    fn warm(&self) -> Fut<'_, Result<(), Fault>>;
}

/// With what a conversation begins.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The model.
    pub model: String,
    /// Its voice; absent: its own choice.
    pub voice: Option<String>,
    /// Who the box is and what it knows.
    pub system: Arc<str>,
    /// What the model may want to be done.
    pub functions: Arc<[Function]>,
}

/// One call's side of a dialogue. Nothing here waits or fails: what finds no room is dropped and counted.
pub trait Talking: Send {
    /// The caller begins to speak; the sound follows, from before the first syllable. What the model is saying ends.
    fn started(&mut self);

    /// The next sound: mono, 16 kHz. Outside of an utterance it is not sent.
    fn audio(&mut self, samples: &[i16]);

    /// The caller has finished: the model answers.
    fn ended(&mut self);

    /// What came of functions that were called.
    fn results(&mut self, results: Vec<FunctionResult>);

    /// Orders and sounds that were dropped so far.
    fn dropped(&self) -> u64;
}

/// What happens in a dialogue. Not to be shown above DEBUG: it holds what people said.
#[derive(Clone, PartialEq)]
pub enum Told {
    /// It can be spoken to.
    Ready,
    /// The caller begins to speak, as [`Talking::started`] said: what is told from here on is not about what was said before. Once for each.
    Listening,
    /// A piece of what the caller was heard to say.
    Heard(String),
    /// Sound of the answer: mono, 16 kHz.
    Sound(Vec<i16>),
    /// A piece of what the answer says.
    Said(String),
    /// The model wants functions called.
    Calls(Vec<FunctionCall>),
    /// And does not any more.
    Withdrawn(Vec<String>),
    /// The caller was heard to interrupt, and that turn is over: what was not played yet is not to be.
    Interrupted,
    /// The answer is whole.
    Complete,
    /// The answer was cut off by a broken connection; the conversation goes on.
    CutOff,
    /// The turn is over.
    TurnOver,
    /// What has been used.
    Used(Usage),
    /// The dialogue is over: the call goes on with text.
    Lost(Fault),
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Heard(text) => write!(f, "Heard({} bytes)", text.len()),
            Self::Said(text) => write!(f, "Said({} bytes)", text.len()),
            Self::Sound(samples) => write!(f, "Sound({})", samples.len()),
            Self::Calls(calls) => f.debug_tuple("Calls").field(calls).finish(),
            Self::Withdrawn(ids) => f.debug_tuple("Withdrawn").field(ids).finish(),
            Self::Lost(fault) => write!(f, "Lost({fault})"),
            Self::Used(usage) => f.debug_tuple("Used").field(usage).finish(),
            Self::Ready => f.write_str("Ready"),
            Self::Listening => f.write_str("Listening"),
            Self::Interrupted => f.write_str("Interrupted"),
            Self::Complete => f.write_str("Complete"),
            Self::CutOff => f.write_str("CutOff"),
            Self::TurnOver => f.write_str("TurnOver"),
        }
    }
}
