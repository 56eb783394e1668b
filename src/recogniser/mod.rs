//! Recognisers: the caller's words as text, while they are spoken.
//!
//! A [`Recogniser`] is an engine as configured; it [opens](Recogniser::open) one [`Listening`] a call, which is told where utterances begin
//! and end by our own ear, and tells through a channel what was [`Recognised`]. Nobody waits here: connecting, sending and trying again go
//! on in a task, and an utterance that a broken connection cut is said again on the next one.
//!
//! Without an engine the sound goes to the model. Not implemented: Google's Speech-to-Text (gRPC), Vosk, several speakers, word times.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

use crate::config::{self, Config, Engine, Language, SecretError, Wanted};
use crate::http::{BaseUrl, Http, HttpError};
pub use crate::model::Fut;
use crate::model::{Fault, FaultClass};
use crate::privacy::Secret;

mod deepgram;
mod driver;
mod gemini;
mod openai;
mod orders;

mod transcript;
mod wyoming;

pub use deepgram::Deepgram;
pub use driver::Streaming;
pub use gemini::Transcribe;
pub use openai::OpenAi;
pub use wyoming::Wyoming;

/// What was recognised that may wait to be taken; interim texts that find no room are left out.
pub const WAITING: usize = 32;

/// An engine, ready to listen to calls.
pub trait Recogniser: Send + Sync {
    /// Begins to listen to a call; what is recognised goes to `out`, which should have [`WAITING`] places. Returns at once: the connection is
    /// made meanwhile, and what is told before it stands is not lost. It ends when the [`Listening`] is dropped.
    fn open(&self, out: mpsc::Sender<Recognition>) -> Box<dyn Listening>;

    /// Finds out whether it can be reached and takes our key: for doctors.
    fn warm(&self) -> Fut<'_, Result<(), Fault>>;

    /// Its name, for logs.
    fn name(&self) -> &str;
}

/// An engine that listens to one call. Nothing here waits or fails: what finds no room is dropped and counted.
pub trait Listening: Send {
    /// The caller has begun an utterance; its sound follows, from before its first syllable. Returns its number, from 1.
    fn started(&mut self) -> u32;

    /// The next sound of the utterance: mono, 16 kHz. After [`ended`](Self::ended) it goes on.
    fn audio(&mut self, samples: &[i16]);

    /// The utterance has ended, as far as can be told: its whole text is wanted at once.
    fn ended(&mut self);

    /// Orders and sounds that were dropped so far.
    fn dropped(&self) -> u64;
}

/// Something that was recognised of an utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognition {
    /// The utterance's number.
    pub utterance: u32,
    /// What.
    pub what: Recognised,
}

/// What was recognised. Each text is that of the whole utterance so far.
#[derive(Clone, PartialEq, Eq)]
pub enum Recognised {
    /// The words so far; they may change.
    Interim(String),
    /// The words up to the last end; once for each end that was not taken back. Empty when there were none.
    Final {
        /// The words.
        text: String,
        /// The language that the engine heard, in its own spelling (`he`, `he-IL`).
        language: Option<String>,
    },
    /// The engine is not there at present. It comes back with the next text, if it does.
    Lost(Fault),
}

/// What people say is not shown.
impl std::fmt::Debug for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interim(text) => write!(f, "Interim({} bytes)", text.len()),
            Self::Final { text, language } => write!(f, "Final({} bytes, {language:?})", text.len()),
            Self::Lost(fault) => write!(f, "Lost({fault})"),
        }
    }
}

/// A configuration with which nothing can be recognised.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The address cannot be used.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no key.
    #[error(
        "no key for the recogniser {engine:?}: set recogniser.api_key_file, the systemd credential recogniser.key, or {variable}"
    )]
    NoKey {
        /// The engine.
        engine: Engine,
        /// The environment variable that is looked at.
        variable: &'static str,
    },
    /// The key cannot be sent.
    #[error("the recogniser's key has characters that no HTTP header takes; copy it again")]
    Key,
    /// Where the server is, is not said.
    #[error("recogniser.address is missing; the engine wyoming needs it, as in \"127.0.0.1:10300\"")]
    NoAddress,
}

/// What each engine is told of the calls that it will hear, and how long it may take.
#[derive(Debug, Clone)]
struct Settings {
    model: String,
    languages: Vec<Language>,
    vocabulary: Vec<String>,
    connect: Duration,
}

impl Settings {
    /// The language, when there is only one.
    fn language(&self) -> Option<Language> {
        match self.languages[..] {
            [language] => Some(language),
            _ => None,
        }
    }
}

/// Makes the configured engine; `None` when the model hears the sound itself.
///
/// # Errors
/// When it cannot be used as it is configured. The network is not touched.
pub fn from_config(config: &Config, http: &Http) -> Result<Option<Arc<dyn Recogniser>>, SetupError> {
    let section = &config.recogniser;
    let settings = |model: &str| Settings {
        model: section.model.clone().unwrap_or_else(|| model.into()),
        languages: match section.languages.is_empty() {
            true => vec![config.conversation.language],
            false => section.languages.clone(),
        },
        vocabulary: section.vocabulary.clone(),
        connect: section.connect,
    };
    let base =
        |default: &str| BaseUrl::parse_private("recogniser.base_url", section.base_url.as_deref().unwrap_or(default));
    Ok(Some(match section.engine {
        Engine::None => return Ok(None),
        Engine::Gemini => {
            let base = base(&config.gemini.base_url)?;
            let key = match own_key(section)? {
                Some(key) => Some(key),
                None => crate::gemini::key(&config.gemini)?,
            };
            let key = needed(key, &base, Engine::Gemini)?;
            Arc::new(Streaming::new(Transcribe::new(base, key, settings("gemini-3.5-transcribe-live"))))
        }
        Engine::Deepgram => {
            let base = base("https://api.deepgram.com")?;
            let key = needed(own_key(section)?, &base, Engine::Deepgram)?;
            Arc::new(Streaming::new(Deepgram::new(base, key, settings("nova-3"))))
        }
        Engine::Openai => {
            let base = base("https://api.openai.com")?;
            let key = needed(own_key(section)?, &base, Engine::Openai)?;
            Arc::new(OpenAi::new(base, key, settings("whisper-1"), http)?)
        }
        Engine::Wyoming => {
            let address = section.address.clone().ok_or(SetupError::NoAddress)?;
            Arc::new(Streaming::new(Wyoming::new(address, settings(""))))
        }
    }))
}

/// The key of `[recogniser]`: the configured file, the systemd credential `recogniser.key`, or the engine's variable.
///
/// # Errors
/// When there is one that cannot be used.
pub fn own_key(section: &config::Recogniser) -> Result<Option<Secret>, SecretError> {
    Wanted {
        what: "recogniser key",
        key: "api_key_file",
        file: section.api_key_file.as_deref(),
        credential: "recogniser.key",
        variable: section.engine.variable(),
        ascii: true,
    }
    .find()
}

/// What stands on the premises needs none.
fn needed(key: Option<Secret>, base: &BaseUrl, engine: Engine) -> Result<Secret, SetupError> {
    match key.filter(|key| !key.is_empty()) {
        Some(key) => Ok(key),
        None if base.is_near() => Ok(Secret::new("simulated")),
        None => Err(SetupError::NoKey { engine, variable: engine.variable() }),
    }
}

/// Whether trying again within the call makes sense.
fn hopeless(fault: &Fault) -> bool {
    fault.permanent() || matches!(fault.class, FaultClass::Blocked(_))
}
