//! What answers a caller: clips, voice, models, knowledge, functions, recogniser. Built as a whole from a configuration, at the start and
//! when the configuration is read again.

use std::sync::Arc;

use tracing::{debug, warn};

use crate::call::prompt;
use crate::chat::{self, Chat};
use crate::clips::Library;
use crate::config::{Config, Language, SecretError, VoicePreset};
use crate::context::Sources;
use crate::gemini::live::SpeechDialogue;
use crate::gemini::{self, Gemini, SetupError};
use crate::http::Http;
use crate::model::{Declining, FirstOf, LanguageModel};
use crate::privacy::Secret;
use crate::recogniser::{self, Recogniser};
use crate::tools::{self, Toolbox};
use crate::tts::{self, Cached, Loudness, Synthesizer, Voices};
use crate::voicemail::Store;

use super::StartError;

/// Everything of a call that is neither line nor media.
pub(super) struct Answering {
    pub(super) http: Http,
    pub(super) clips: Arc<Library>,
    pub(super) voice: Arc<dyn Synthesizer>,
    pub(super) model: Arc<dyn LanguageModel>,
    pub(super) speech: Option<Arc<dyn SpeechDialogue>>,
    pub(super) speech_loudness: Loudness,
    pub(super) sources: Arc<Sources>,
    pub(super) recogniser: Option<Arc<dyn Recogniser>>,
    pub(super) tools: Arc<Toolbox>,
}

impl Answering {
    /// Checks everything that can be checked before a call. Where `running` answers already, nothing of what the configuration asks for may
    /// be missing; a box that starts does so without its own clips, too.
    pub(super) async fn build(
        config: &Config,
        store: Option<Arc<Store>>,
        running: Option<&Library>,
    ) -> Result<Self, StartError> {
        let language = config.conversation.language;
        let library = match running {
            Some(running) => running.successor(config)?,
            None => Library::open_at_start(config)?,
        };
        let clips = library.current();
        let key = gemini::key(&config.gemini)?;
        let http = Http::new(config.gemini.connect)?;
        let Voices { voice, cache } = tts::open(config, voice_key(config, key.as_ref())?, &http)?;
        voice.check(language).await?;
        if let Some(cache) = cache {
            let texts = clips.iter().filter(|clip| clip.language == language).map(|clip| clip.text.clone());
            let meanwhile = config.tools.values().filter_map(|tool| tool.say.clone());
            let phrases = texts.chain(meanwhile).chain(config.voice.cache_phrases.iter().cloned());
            keep_phrases(cache, language, phrases.collect());
        }
        let speech = gemini::live::from_config(config, key.clone())?;
        let model = model(config, key, &http)?;
        let sources = Arc::new(Sources::open(config, &http).await?);
        let recogniser = recogniser::from_config(config, &http)?;
        let tools = Toolbox::new(config, &http, store, search(&sources))?;
        let speaks = format!("{} {:?}", config.live.model, config.live.voice);
        Ok(Self {
            speech_loudness: Loudness::of(&config.voice, &speaks),
            speech: speech.map(|speech| Arc::new(speech) as Arc<dyn SpeechDialogue>),
            tools: Arc::new(tools),
            http,
            clips: Arc::new(library),
            voice,
            model,
            sources,
            recogniser,
        })
    }
}

/// The models of the configuration as one, each asked when those before it do not answer.
fn model(config: &Config, key: Option<Secret>, http: &Http) -> Result<Arc<dyn LanguageModel>, StartError> {
    let chat = Chat::new(&config.chat, chat::key(&config.chat)?, http)?;
    let gemini = Gemini::with_prices(&config.gemini, &config.price, key, http);
    let mut candidates = match (gemini, &chat) {
        (Ok(gemini), _) => gemini.candidates(),
        (Err(SetupError::NoKey), Some(_)) => {
            warn!("there is no Gemini API key: only the model of [chat] is asked");
            Vec::new()
        }
        (Err(error), _) => return Err(error.into()),
    };
    if let Some(chat) = chat {
        let at = if config.chat.first { 0 } else { candidates.len() };
        candidates.insert(at, chat.candidate());
    }
    let language = config.conversation.language;
    let models = FirstOf::new(candidates, gemini::patience(&config.gemini));
    Ok(Arc::new(Declining::new(Arc::new(models), Arc::new(move |ask| prompt::refusal(ask, language)))))
}

/// What the model searches the business's texts with; nothing where there are none.
fn search(sources: &Arc<Sources>) -> Option<tools::Search> {
    let sources = sources.has_knowledge().then(|| sources.clone())?;
    Some(Arc::new(move |question: &str| sources.look_up(question).into_iter().collect()))
}

/// The key of the voice over the network; Gemini's voices take the key of its models, too.
pub(crate) fn voice_key(config: &Config, gemini: Option<&Secret>) -> Result<Option<Secret>, SecretError> {
    let gemini = gemini.filter(|_| config.network_voice.preset == Some(VoicePreset::Gemini));
    Ok(config.network_voice.key()?.or_else(|| gemini.cloned()))
}

/// Fills the voice's cache, in the background.
fn keep_phrases(cache: Cached, language: Language, phrases: Vec<String>) {
    tokio::spawn(async move {
        match cache.fill(language, &phrases).await {
            Ok(there) => debug!(there, "phrases are kept"),
            Err(fault) => warn!(%fault, "not all phrases could be kept; they are spoken when they are needed"),
        }
    });
}
