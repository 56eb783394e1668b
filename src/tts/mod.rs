//! Text to speech: what a voice is to the rest of the house, voices that are programs on this machine, and voices over the network.
//!
//! ```text
//! Fallback ─┬─ Cached ─ HttpVoice | WyomingVoice      the better voice, while it works
//!           └─ CommandSynthesizer                     the rest of an answer in which it failed
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Language};
use crate::http::Http;
pub use crate::model::Fut;
use crate::pcm::wav::WavError;
use crate::privacy::Secret;
use crate::sentence::Ends;

mod breaker;
pub mod cache;
pub mod command;
mod fallback;
mod levelling;
mod loudness;
pub mod network;
mod pace;
pub mod shape;
mod stream;

pub use cache::{Cached, Store};
pub use command::CommandSynthesizer;
pub use fallback::Fallback;
pub use loudness::Loudness;
pub use network::{HttpVoice, NetworkFault, WyomingVoice};
pub use stream::Levelled;

/// A phrase to be spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Say {
    /// The phrase as it is displayed; the voice itself makes it [speakable](crate::sentence::speakable).
    pub text: Arc<str>,
    /// The language that it is in.
    pub language: Language,
    /// How it ends: decides the pause behind it.
    pub ends: Ends,
    /// Which answer it belongs to.
    pub answer: AnswerId,
}

/// Which answer of which call a phrase belongs to: an answer is spoken in one voice, as far as that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AnswerId {
    /// The call, by a number that no other has; 0 is what nobody hears.
    pub call: u64,
    /// Its answer.
    pub answer: u64,
}

impl AnswerId {
    /// A number for a call, which no other has.
    pub fn new_call() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Relaxed) + 1
    }
}

/// A voice.
pub trait Synthesizer: Send + Sync {
    /// Speaks a phrase into `out`: mono, 16 kHz, pieces of 20–60 ms (a shorter phrase is one shorter piece), level-matched, silence
    /// trimmed, the pause behind the phrase included. Waits when `out` is full; a closed `out` or `stop` ends it, without a fault.
    /// A phrase with nothing to speak gives no sound and no fault.
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>>;

    /// How many phrases it may speak at the same time.
    fn parallel(&self) -> usize {
        1
    }

    /// Whether the answer has been given to another voice than it began with. What was synthesised ahead in the first one is stale.
    fn changed_voice(&self, _answer: AnswerId) -> bool {
        false
    }

    /// Everything but the text that decides how a phrase in `language` sounds, in one line, if its sound is worth keeping.
    fn identity(&self, _language: Language) -> Option<String> {
        None
    }

    /// Speaks a known sentence to nobody: proves that the voice works.
    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        self.warm(language)
    }

    /// Makes the first phrase in `language` as quick as the others, and finds out whether the voice works at all.
    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>>;
}

/// The voices of a configuration, put together.
pub struct Voices {
    /// What speaks.
    pub voice: Arc<dyn Synthesizer>,
    /// What is to be filled with phrases, if anything is kept.
    pub cache: Option<Cached>,
}

/// Puts together what `[voice]` and `[network_voice]` describe. `key` is the network voice's. Speaks to nobody yet; opens the cache.
///
/// # Errors
/// When one of them cannot be used as it is configured. A cache that cannot be opened is only logged.
pub fn open(config: &Config, key: Option<Secret>, http: &Http) -> Result<Voices, Fault> {
    let store = store(&config.voice);
    let level = config.voice.level_dbfs;
    let keep = |voice: Arc<dyn Synthesizer>| store.clone().map(|store| Cached::new(voice, store).matched_to(level));
    let command: Arc<dyn Synthesizer> = Arc::new(CommandSynthesizer::new(&config.voice)?);
    let Some(network) = network::open(&config.network_voice, &config.voice, key, http)? else {
        let cache = keep(command.clone());
        return Ok(Voices { voice: cache.clone().map_or(command, |cached| Arc::new(cached)), cache });
    };
    let cache = keep(network.clone());
    let first = cache.clone().map_or(network, |cached| Arc::new(cached));
    Ok(Voices { voice: Arc::new(Fallback::new(first, command, config.network_voice.rest)), cache })
}

/// Where phrases and levels are kept: the configured folder, or one in what systemd gives to the service.
fn kept_in(voice: &config::Voice) -> Option<PathBuf> {
    let of_systemd = || std::env::var_os("CACHE_DIRECTORY").map(|folder| PathBuf::from(folder).join("voice"));
    voice.cache_dir.clone().or_else(of_systemd).filter(|_| voice.cache_mb > 0)
}

/// The folder of kept phrases.
fn store(voice: &config::Voice) -> Option<Store> {
    let folder = kept_in(voice)?;
    match Store::open(&folder, u64::from(voice.cache_mb) << 20) {
        Ok(store) => Some(store),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "no phrases are kept: check voice.cache_dir and who may write there");
            None
        }
    }
}

/// Why a phrase was not spoken. Never holds the phrase.
#[derive(Debug, Error)]
pub enum Fault {
    /// `voice.command` is empty.
    #[error(
        "voice.command is empty; leave the key out to use espeak-ng, or name a program that reads text and writes WAV"
    )]
    NoCommand,
    /// A voice over the network failed.
    #[error(transparent)]
    Network(#[from] NetworkFault),
    /// `[network_voice]` cannot be used as it is.
    #[error("network_voice.{key}: {problem}")]
    Setup {
        /// The key of the configuration.
        key: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The program is not on this machine.
    #[error("voice.command: the program {program:?} is not installed{}", remedy(.program))]
    Missing {
        /// Its name.
        program: String,
    },
    /// The program could not be started.
    #[error("voice.command: {program:?} could not be started: {cause}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The program could not be talked to.
    #[error("the voice {program:?} broke off: {cause}")]
    Pipe {
        /// Its name.
        program: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The program gave up.
    #[error("the voice {program:?} ended with {status} and said: {note:?}; try its command line by hand")]
    Exit {
        /// Its name.
        program: String,
        /// Exit status.
        status: String,
        /// The end of its standard error.
        note: String,
    },
    /// What it wrote is not sound.
    #[error("the voice {program:?} wrote no usable WAV to standard output ({cause}); check `voice.command`")]
    NotSound {
        /// Its name.
        program: String,
        /// Why.
        cause: WavError,
    },
    /// What it wrote was silent or empty.
    #[error("the voice {program:?} made no sound for a phrase with letters; does its voice know the language?")]
    Silent {
        /// Its name.
        program: String,
    },
    /// No first sound in time.
    #[error("the voice {program:?} made no sound within {} ms (voice.first_audio_ms)", .limit.as_millis())]
    Late {
        /// Its name.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It went quiet inside a phrase.
    #[error("the voice {program:?} wrote nothing for {} ms inside a phrase (voice.stall_ms)", .limit.as_millis())]
    Stalled {
        /// Its name.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It would not stop speaking.
    #[error("the voice {program:?} spoke for more than {} s and was stopped", .limit.as_secs())]
    TooLong {
        /// Its name.
        program: String,
        /// The limit.
        limit: Duration,
    },
}

fn remedy(program: &str) -> String {
    match program.rsplit('/').next() {
        Some(name @ ("espeak-ng" | "flite" | "festival")) => format!("; install it: `apt-get install {name}`"),
        _ => "; install it, or change `voice.command`".into(),
    }
}

/// A sentence by which a voice's level is measured; written as a model writes, in Hebrew without vowel points.
const fn known_sentence(language: Language) -> &'static str {
    match language {
        Language::En => "Good morning, how can I help you today?",
        Language::He => "שלום, רגע אחד בבקשה, אני כבר בודק.",
        Language::Ru => "Доброе утро, чем я могу вам помочь сегодня?",
    }
}
