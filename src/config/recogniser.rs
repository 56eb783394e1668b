//! `[recogniser]`: who turns the caller's words into text.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::validate::Complaints;
use super::{Language, ms};

/// `[recogniser]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recogniser {
    /// Which one; with `none` the model is given the sound.
    pub engine: Engine,
    /// Where its API is; plain `http` only on loopback. Absent: the engine's own place, for `gemini` that of `[gemini]`.
    pub base_url: Option<String>,
    /// Host and port of a Wyoming server.
    pub address: Option<String>,
    /// Its model; absent: the engine's usual one.
    pub model: Option<String>,
    /// A file that holds the key. Otherwise the systemd credential `recogniser.key`, then the engine's variable; for `gemini` then the key of
    /// `[gemini]`.
    pub api_key_file: Option<PathBuf>,
    /// Languages that callers speak; empty: that of the conversation alone.
    pub languages: Vec<Language>,
    /// Names and words that it is told to expect.
    pub vocabulary: Vec<String>,
    /// Time for a connection.
    #[serde(rename = "connect_ms", with = "ms")]
    pub connect: Duration,
    /// How long after the caller's last sound the request waits for the text at most.
    #[serde(rename = "final_ms", with = "ms")]
    pub final_: Duration,
}

impl Default for Recogniser {
    fn default() -> Self {
        Self {
            engine: Engine::None,
            base_url: None,
            address: None,
            model: None,
            api_key_file: None,
            languages: Vec::new(),
            vocabulary: Vec::new(),
            connect: Duration::from_millis(1000),
            final_: Duration::from_millis(700),
        }
    }
}

/// A recogniser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The model is given the sound.
    #[default]
    None,
    /// Gemini's, over the Live API.
    Gemini,
    /// Deepgram's.
    Deepgram,
    /// OpenAI's, or a server that answers as it does.
    Openai,
    /// A Wyoming server on the premises.
    Wyoming,
}

impl Engine {
    /// As the file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gemini => "gemini",
            Self::Deepgram => "deepgram",
            Self::Openai => "openai",
            Self::Wyoming => "wyoming",
        }
    }

    /// The environment variable that may hold its key.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Deepgram => "DEEPGRAM_API_KEY",
            Self::Openai => "OPENAI_API_KEY",
            Self::None | Self::Gemini | Self::Wyoming => "OFFHOOK_RECOGNISER_KEY",
        }
    }
}

/// What cannot be used.
pub(super) fn check(found: &mut Complaints, recogniser: &Recogniser) {
    const SECTION: &str = "recogniser";
    if let Some(Err(message)) = recogniser.base_url.as_deref().map(|url| super::validate::base_url(url, true)) {
        found.unless(false, SECTION, "base_url", || message);
    }
    let engine = recogniser.engine;
    found.unless(engine != Engine::Wyoming || recogniser.address.is_some(), SECTION, "engine", || {
        "wyoming needs a server; write its host and port, as in address = \"127.0.0.1:10300\"".into()
    });
    let address = recogniser.address.as_deref();
    let is_good = |address: &str| {
        address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    found.unless(address.is_none_or(is_good), SECTION, "address", || {
        "not host and port; write it as in \"127.0.0.1:10300\"".into()
    });
    let plain = |model: &str| {
        !model.is_empty() && model.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte))
    };
    found.unless(recogniser.model.as_deref().is_none_or(plain), SECTION, "model", || {
        "not a model's name; write it as in \"nova-3\", or leave the line out".into()
    });
    let words = &recogniser.vocabulary;
    found.unless(words.len() <= 100, SECTION, "vocabulary", || {
        format!("{} are too many; take at most 100", words.len())
    });
    found.unless(words.iter().all(|word| (1..=100).contains(&word.trim().len())), SECTION, "vocabulary", || {
        "each is a word or name of 1 to 100 bytes".into()
    });
    found.within(SECTION, "connect_ms", recogniser.connect, 50..=10_000);
    found.within(SECTION, "final_ms", recogniser.final_, 0..=5000);
}
