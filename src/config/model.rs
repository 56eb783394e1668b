//! `[chat]`, `[price]`, `[persona]`: a language model besides Gemini, what models cost, and what they are told.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which of Gemini's two interfaces is spoken with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GeminiApi {
    /// `models/{model}:streamGenerateContent`.
    #[default]
    Generate,
    /// `interactions`.
    Interactions,
}

/// `[chat]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chat {
    /// Where it is; absent: there is none. Plain `http` on loopback and in private networks.
    pub base_url: Option<String>,
    /// The model's name there.
    pub model: Option<String>,
    /// A file that holds the API key. Otherwise the systemd credential `chat.key`, then the variable `OFFHOOK_CHAT_API_KEY`, then none.
    pub api_key_file: Option<PathBuf>,
    /// Whether it is asked before Gemini.
    pub first: bool,
    /// Whether it takes sound.
    pub audio: bool,
    /// Whether it takes functions.
    pub functions: bool,
    /// Whether it is asked what the answer cost.
    pub usage: bool,
    /// Longest answer, in tokens.
    pub max_output_tokens: u32,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            base_url: None,
            model: None,
            api_key_file: None,
            first: false,
            audio: false,
            functions: true,
            usage: false,
            max_output_tokens: 300,
        }
    }
}

/// `[price]`: of a million tokens, of the voice and of the recogniser, in any one currency; 0 is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Text that is sent.
    pub input_per_million: f64,
    /// Sound that is sent.
    pub audio_per_million: f64,
    /// What the server remembered of it.
    pub cached_per_million: f64,
    /// The answer, thoughts included.
    pub output_per_million: f64,
    /// A million characters that are spoken.
    pub voice_per_million_characters: f64,
    /// An hour of sound that a recogniser is given.
    pub recogniser_per_hour: f64,
}

impl Price {
    /// Whether nothing has a price.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// `[persona]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Persona {
    /// Name of the business.
    pub business: String,
    /// Who answers, and how.
    pub character: String,
    /// What callers ask for.
    pub facts: String,
    /// A file with more of it.
    pub facts_file: Option<PathBuf>,
    /// Longest text of both.
    pub facts_max_chars: usize,
}

impl Default for Persona {
    fn default() -> Self {
        Self {
            business: String::new(),
            character: "You answer the telephone of a small business. You are friendly, brief and to the point.".into(),
            facts: String::new(),
            facts_file: None,
            facts_max_chars: 8000,
        }
    }
}

/// Whether an address is of this machine, of a private network (RFC 1918, RFC 4193) or of the same link.
pub(crate) fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether a host can only be on this machine or in a private network (RFC 1918, RFC 4193, link-local), by its address or its name.
pub(crate) fn is_private_host(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => is_near(address),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            !name.contains('.') || [".local", ".lan", ".home.arpa", ".internal"].iter().any(|end| name.ends_with(end))
        }
    }
}
