//! The configuration: one TOML file, each key with a default, unknown keys refused with a suggestion, units in the keys.
//!
//! Secrets are never in the file: a section names a *file* or an environment variable that holds them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::codec::Codec;

mod clips;
mod context;
mod greeting;
mod ladder;
mod limits;
mod live;
mod load;
mod log;
mod recogniser;
mod model;
mod secrets;
mod server;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod tools;
mod trunk;
mod validate;
mod voice;

pub use clips::OwnClips;
pub use context::{Crm, Knowledge};
pub use greeting::GreetingByPhone;
pub use ladder::{Ladder, Remedy, Voicemail};
pub use limits::Limits;
pub use live::Live;
pub use load::{ConfigError, Problem, Problems, load, parse};
pub use log::Log;
pub use model::{Chat, GeminiApi, Persona, Price};
pub(crate) use model::{is_near, is_private_host};
pub use recogniser::{Engine, Recogniser};
pub use secrets::{SecretError, Wanted};
pub use server::{HostPort, ServerEntry, ServerError};
pub use status::Status;
pub use template::{Placed, Template, Unplaced};
pub use tools::{Functions, HttpTool};
pub use trunk::{
    Answering, HeaderCharset, IdentityHeader, Keepalive, Policy, Refresher, Transferring, Transport, Trunk, TrunkMode,
};
pub use voice::{AnswerForm, Coding, JsonSound, NetworkVoice, PLACEHOLDERS, Voice, VoicePreset};

/// A duration written as whole milliseconds.
mod ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A duration written as whole seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }
}

/// Networks, where a lone address stands for itself.
mod networks {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let parse = |text: String| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| {
                D::Error::custom(format!("\"{text}\" is neither an address nor a network such as 192.168.1.0/24"))
            })
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
    }

    pub fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        let short = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        networks.iter().map(short).collect::<Vec<_>>().serialize(serializer)
    }
}

/// Everything an installer can set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The telephone side.
    pub sip: Sip,
    /// The lines, by name.
    pub trunk: BTreeMap<String, Trunk>,
    /// The media side of the line.
    pub rtp: Rtp,
    /// Deciding when the caller has finished.
    pub hearing: Hearing,
    /// The clip that bridges the wait.
    pub placeholder: Placeholder,
    /// Clips that somebody has made for this box.
    pub clips: OwnClips,
    /// How the greeting is recorded by telephone.
    pub greeting_by_phone: GreetingByPhone,
    /// The language model.
    pub gemini: Gemini,
    /// A model that hears and speaks by itself.
    pub live: Live,
    /// The caller's words as text.
    pub recogniser: Recogniser,
    /// A language model with another interface.
    pub chat: Chat,
    /// What the language models cost.
    pub price: Price,
    /// Who the box is, and what it knows of the business.
    pub persona: Persona,
    /// The voice.
    pub voice: Voice,
    /// The voice over the network.
    pub network_voice: NetworkVoice,
    /// The dialogue.
    pub conversation: Conversation,
    /// The business's texts.
    pub knowledge: Knowledge,
    /// Who the caller is.
    pub crm: Crm,
    /// What the model may have done.
    pub functions: Functions,
    /// The installer's own functions, by name.
    pub tools: BTreeMap<String, HttpTool>,
    /// What is done for a caller who is not answered.
    pub ladder: Ladder,
    /// Messages that callers leave.
    pub voicemail: Voicemail,
    /// What a call, and a day, may cost.
    pub limits: Limits,
    /// What is written down.
    pub log: Log,
    /// What is told to whoever asks.
    pub status: Status,
}

/// `[sip]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// UDP address to answer on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address written into Contact and SDP, when it is not the one listened on.
    pub public_address: Option<IpAddr>,
    /// Who may call besides the trunks: addresses or networks.
    #[serde(with = "networks")]
    pub allowed_peers: Vec<IpNet>,
    /// Calls at once; one more gets 486.
    pub max_calls: usize,
    /// New calls a second that are taken on; one more gets 503 with Retry-After.
    pub max_calls_per_second: u32,
    /// TCP address to answer on; absent: none.
    pub listen_tcp: Option<SocketAddr>,
    /// TLS address to answer on; absent: none.
    pub listen_tls: Option<SocketAddr>,
    /// Our certificate chain (PEM) for `listen_tls`.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// TCP and TLS connections at once.
    pub max_connections: usize,
    /// Who dials this hears what he says: an echo, to judge the line by. Absent: nobody does.
    pub echo_number: Option<String>,
    /// Strangers get no answer at all instead of 403.
    pub silent_to_strangers: bool,
    /// A file of `user:password` lines: who calls without being an allowed peer's trunk must know one of them. Absent: none is asked.
    pub inbound_users_file: Option<PathBuf>,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5060)),
            public_address: None,
            allowed_peers: vec![IpNet::from(IpAddr::from([127, 0, 0, 1]))],
            max_calls: 8,
            max_calls_per_second: 30,
            listen_tcp: None,
            listen_tls: None,
            tls_certificate_file: None,
            tls_key_file: None,
            max_connections: 64,
            echo_number: None,
            silent_to_strangers: true,
            inbound_users_file: None,
        }
    }
}

/// `[rtp]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtp {
    /// First port of the range that calls take their RTP (even) and RTCP (odd) ports from.
    pub port_min: u16,
    /// Last port of that range.
    pub port_max: u16,
    /// How long the jitter buffer holds a packet back at the start, and at least; it takes as much more as the network asks for.
    #[serde(rename = "jitter_ms", with = "ms")]
    pub jitter: Duration,
    /// What is spoken, and in what order we offer it. Who calls is answered with the first of what he offers that is among them.
    pub codecs: Vec<Codec>,
    /// A call that hears no packet for so long is ended.
    #[serde(rename = "media_timeout_ms", with = "ms")]
    pub media_timeout: Duration,
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            port_min: 16384,
            port_max: 16639,
            jitter: Duration::from_millis(20),
            codecs: Codec::ALL.to_vec(),
            media_timeout: Duration::from_secs(15),
        }
    }
}

/// `[hearing]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hearing {
    /// Silence after which the placeholder starts and the request leaves; both can be taken back.
    #[serde(rename = "soft_end_ms", with = "ms")]
    pub soft_end: Duration,
    /// It is learned from the caller's pauses, and never becomes shorter than this.
    #[serde(rename = "soft_end_min_ms", with = "ms")]
    pub soft_end_min: Duration,
    /// Nor longer than this.
    #[serde(rename = "soft_end_max_ms", with = "ms")]
    pub soft_end_max: Duration,
    /// Silence after which the turn is committed: no answer is audible before it.
    #[serde(rename = "hard_end_ms", with = "ms")]
    pub hard_end: Duration,
    /// It is learned from the caller's pauses, and never becomes shorter than this, except for a text that is clearly finished.
    #[serde(rename = "hard_end_min_ms", with = "ms")]
    pub hard_end_min: Duration,
    /// Nor longer than this.
    #[serde(rename = "hard_end_max_ms", with = "ms")]
    pub hard_end_max: Duration,
    /// Shorter sounds are not speech.
    #[serde(rename = "minimum_speech_ms", with = "ms")]
    pub minimum_speech: Duration,
    /// Sound kept from before the first voiced chunk.
    #[serde(rename = "pre_roll_ms", with = "ms")]
    pub pre_roll: Duration,
    /// An utterance that is longer is cut and committed.
    #[serde(rename = "max_utterance_ms", with = "ms")]
    pub max_utterance: Duration,
    /// Speech probability from which a chunk counts as voiced, 0 to 1.
    pub vad_threshold: f32,
}

impl Default for Hearing {
    fn default() -> Self {
        Self {
            soft_end: Duration::from_millis(240),
            soft_end_min: Duration::from_millis(200),
            soft_end_max: Duration::from_millis(400),
            hard_end: Duration::from_millis(750),
            hard_end_min: Duration::from_millis(640),
            hard_end_max: Duration::from_millis(1500),
            minimum_speech: Duration::from_millis(64),
            pre_roll: Duration::from_millis(300),
            max_utterance: Duration::from_secs(30),
            vad_threshold: 0.5,
        }
    }
}

/// `[placeholder]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placeholder {
    /// Off: the caller waits in silence.
    pub enabled: bool,
    /// A folder with `manifest.toml` and its clips; absent: those built into the program.
    pub clips: Option<PathBuf>,
    /// One WAV file to play instead of the manifest's placeholder clips.
    pub clip: Option<PathBuf>,
    /// Whether every turn makes a sound soon, or only those that a phrase does not tire.
    pub preset: Preset,
    /// How long after the probable end the clip starts at most, so that a quick answer needs none.
    #[serde(rename = "grace_ms", with = "ms")]
    pub grace: Duration,
    /// How long after the caller's last voiced sample a second clip starts when no answer is heard by then; 0: none.
    #[serde(rename = "second_after_ms", with = "ms")]
    pub second_after: Duration,
}

/// When a placeholder is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Every turn makes a sound within half a second.
    #[default]
    Instant,
    /// Clips come at least 8 s apart, and none on the first reply, after a yes or no, after a barge-in or at the end.
    Sparing,
}

impl Default for Placeholder {
    fn default() -> Self {
        Self {
            enabled: true,
            clips: None,
            clip: None,
            preset: Preset::Instant,
            grace: Duration::from_millis(150),
            second_after: Duration::from_millis(2900),
        }
    }
}

/// `[gemini]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gemini {
    /// Where the API is; plain `http` only on loopback.
    pub base_url: String,
    /// Which of its two interfaces is used.
    pub api: GeminiApi,
    /// Models in the order in which they are tried.
    pub models: Vec<String>,
    /// A file that holds the API key. Otherwise the systemd credential `gemini.key`, then the variable `GEMINI_API_KEY`.
    pub api_key_file: Option<PathBuf>,
    /// `minimal`, `low`, `medium` or `high`; absent: the model's own default.
    pub thinking_level: Option<String>,
    /// The same for single models, by name.
    pub thinking_levels: BTreeMap<String, String>,
    /// Longest answer, in tokens.
    pub max_output_tokens: u32,
    /// `standard`, `flex` or `priority`; absent: not sent.
    pub service_tier: Option<String>,
    /// Whether what all requests begin with is kept by the other side, where it is long enough.
    pub cache: bool,
    /// How long.
    #[serde(rename = "cache_ttl_s", with = "seconds")]
    pub cache_ttl: Duration,
    /// Utterances of earlier turns that are sent again as sound.
    pub history_audio_turns: usize,
    /// Time for a cold connection.
    #[serde(rename = "connect_ms", with = "ms")]
    pub connect: Duration,
    /// Time from the request to the first text.
    #[serde(rename = "first_token_ms", with = "ms")]
    pub first_token: Duration,
    /// When a model has given no text for so long, the next one is asked besides it; 0: never.
    #[serde(rename = "hedge_ms", with = "ms")]
    pub hedge: Duration,
    /// Time between two pieces of text.
    #[serde(rename = "between_tokens_ms", with = "ms")]
    pub between_tokens: Duration,
    /// Time for the whole answer.
    #[serde(rename = "whole_answer_ms", with = "ms")]
    pub whole_answer: Duration,
}

impl Default for Gemini {
    fn default() -> Self {
        Self {
            base_url: "https://generativelanguage.googleapis.com".into(),
            api: GeminiApi::Generate,
            models: vec!["gemini-3.5-flash-lite".into()],
            api_key_file: None,
            thinking_level: None,
            thinking_levels: BTreeMap::new(),
            max_output_tokens: 300,
            service_tier: None,
            cache: false,
            cache_ttl: Duration::from_secs(600),
            history_audio_turns: 3,
            connect: Duration::from_millis(800),
            first_token: Duration::from_millis(3500),
            hedge: Duration::from_millis(1800),
            between_tokens: Duration::from_millis(3000),
            whole_answer: Duration::from_millis(20_000),
        }
    }
}

/// A language that callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Hebrew.
    He,
    /// Russian.
    Ru,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::En, Self::He, Self::Ru];

    /// ISO 639-1 code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::He => "he",
            Self::Ru => "ru",
        }
    }
}

/// `[conversation]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conversation {
    /// Language of the clips and the voice.
    pub language: Language,
    /// Whether the greeting clip is played when a call is answered.
    pub greeting: bool,
    /// Exchanges that the model is told of.
    pub history_exchanges: usize,
    /// The person whom a caller may ask for: a number, or a SIP URI; absent: nobody.
    pub transfer_to: Option<String>,
    /// The key that asks for the person.
    pub transfer_key: char,
    /// A voice over ours that lasts so long is a barge-in; a shorter sound is passed over. Zero: every sound is.
    #[serde(rename = "barge_in_ms", with = "ms")]
    pub barge_in: Duration,
    /// A caller who says nothing for so long is asked whether anybody is there; after as long again the call ends. Zero: never.
    #[serde(rename = "silence_prompt_ms", with = "ms")]
    pub silence_prompt: Duration,
    /// Whether the model may end the call when everything is said.
    pub end_call: bool,
    /// Whether the request leaves at the first sign of an end, which is sooner and costs tokens for those that are taken back.
    pub speculation: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            language: Language::En,
            greeting: true,
            history_exchanges: 12,
            transfer_to: None,
            transfer_key: '0',
            barge_in: Duration::from_millis(500),
            silence_prompt: Duration::from_millis(8000),
            end_call: true,
            speculation: true,
        }
    }
}
