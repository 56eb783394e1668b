//! Gemini's models, each one to be asked by itself, and all of them in their order as one.

use std::fmt;
use std::sync::{Arc, Once};
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Answer, Asked};
use super::cache::{self, Cache};
use super::response::ErrorStatus;
use super::{interactions, request, thinking};
use crate::config::{self, GeminiApi};
use crate::http::{BaseUrl, CurrentKey, Http, HttpError, chain};
use crate::model::{Ask, Candidate, Event, Fault, FaultClass, Finish, FirstOf, Fut, LanguageModel, Patience, Stage};
use crate::privacy::Secret;

/// The header of the key; in a URL it would end up in logs.
const KEY_HEADER: &str = "x-goog-api-key";
/// Longest answer to the request that has something kept; it repeats what is kept, in part.
const LONGEST_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// What is sent to a simulator when there is no key.
pub(super) const NO_KEY: &str = "simulated";

/// A configuration with which nobody can be asked.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The base URL cannot be used.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There is no key.
    #[error(
        "no Gemini API key: set gemini.api_key_file, the systemd credential gemini.key, or GEMINI_API_KEY; \
         keys are made at aistudio.google.com"
    )]
    NoKey,
    /// The key cannot be sent.
    #[error("the Gemini API key has characters that no HTTP header takes; copy it again")]
    Key,
    /// No model is named.
    #[error("gemini.models is empty; name at least one, like \"gemini-3.5-flash-lite\"")]
    NoModel,
    /// A model's name cannot stand in a URL.
    #[error("gemini.models: {0:?} is not the name of a model; it takes letters, digits, '-', '.' and '_'")]
    ModelName(String),
}

/// Gemini, ready to be asked: its models in the order of the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Gemini {
    shared: Arc<Shared>,
    models: FirstOf,
}

/// What all models of an account share.
struct Shared {
    config: config::Gemini,
    price: config::Price,
    base: BaseUrl,
    names: Vec<Arc<str>>,
    key: CurrentKey,
    client: reqwest::Client,
}

/// One model.
struct One {
    shared: Arc<Shared>,
    name: Arc<str>,
    /// Says once which version answers, and when it will be shut.
    introduced: Arc<Once>,
    cache: Arc<Cache>,
}

impl fmt::Debug for Gemini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gemini")
            .field("models", &self.shared.names)
            .field("key", &self.shared.key)
            .finish_non_exhaustive()
    }
}

impl Gemini {
    /// Checks the configuration. Does not touch the network: [`warm`](Self::warm) does.
    pub fn new(config: &config::Gemini, key: Option<Secret>, http: &Http) -> Result<Self, SetupError> {
        Self::with_prices(config, &config::Price::default(), key, http)
    }

    /// The same with prices for what answers cost.
    ///
    /// # Errors
    /// As [`Gemini::new`].
    pub fn with_prices(
        config: &config::Gemini,
        price: &config::Price,
        key: Option<Secret>,
        http: &Http,
    ) -> Result<Self, SetupError> {
        let base = BaseUrl::parse("gemini.base_url", &config.base_url)?;
        let key = match key.filter(|key| !key.is_empty()) {
            Some(key) => key,
            None if base.is_loopback() => Secret::new(NO_KEY),
            None => return Err(SetupError::NoKey),
        };
        let key = CurrentKey::new("", key).map_err(|_| SetupError::Key)?;
        if config.models.is_empty() {
            return Err(SetupError::NoModel);
        }
        let nameable = |name: &&String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        if let Some(name) = config.models.iter().find(|name| !nameable(name)) {
            return Err(SetupError::ModelName(name.clone()));
        }
        for remark in thinking::remarks(config) {
            tracing::warn!("{remark}");
        }
        let names: Vec<Arc<str>> = config.models.iter().map(|name| name.as_str().into()).collect();
        let client = http.to(&base)?;
        let shared = Arc::new(Shared { config: config.clone(), price: *price, base, names, key, client });
        let models = FirstOf::new(candidates(&shared), patience(config));
        Ok(Self { shared, models })
    }

    /// The models one by one, to be put into one list with others.
    pub fn candidates(&self) -> Vec<Candidate> {
        candidates(&self.shared)
    }

    /// Opens the connection and checks key and model: `GET models/{model}`. For the moment when the telephone rings, and for doctors.
    pub async fn warm(&self) -> Result<(), Fault> {
        self.models.warm().await
    }

    /// Asks the first of the models that answers, as [`FirstOf`] does.
    pub async fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Result<Finish, Fault> {
        self.models.ask(ask, out, stop).await
    }
}

impl Shared {
    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let json = HeaderValue::from_static("application/json");
        self.client
            .post(self.base.at(path))
            .header(KEY_HEADER, self.key.get().header.clone())
            .header(CONTENT_TYPE, json)
    }

    /// What stands for the beginning of a request on the other side. Has it made when there is nothing, for the requests to come.
    fn kept(self: &Arc<Self>, model: &str, ask: &Ask, cache: &Arc<Cache>) -> Option<String> {
        let ttl = self.config.cache_ttl;
        let caches = self.config.cache && self.config.api == GeminiApi::Generate;
        let prefix = Some(()).filter(|()| caches).and_then(|()| cache::prefix(model, ask, ttl))?;
        let now = Instant::now();
        let kept = cache.name(&prefix, now);
        if cache.is_wanted(&prefix, now) {
            let (shared, cache) = (self.clone(), cache.clone());
            tokio::spawn(async move {
                let made = tokio::time::timeout(shared.config.whole_answer, shared.keep(prefix.body.clone())).await;
                let name = match made.unwrap_or_else(|_| Err("no answer".into())) {
                    Ok(name) => Some(name),
                    Err(note) => {
                        let note = Fault::note_without(&shared.key.get().secret, &note);
                        tracing::warn!(
                            note,
                            "[gemini] key cache: the beginning of requests is not kept; they go whole"
                        );
                        None
                    }
                };
                cache.made(&prefix, name, now, ttl);
            });
        }
        kept
    }

    async fn keep(&self, body: Bytes) -> Result<String, String> {
        let request = self.post("/v1beta/cachedContents").body(body);
        let mut response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| chain(&error.without_url()))? {
            body.extend_from_slice(&bytes);
            if body.len() > LONGEST_KEPT_BYTES {
                return Err("an answer without end".into());
            }
        }
        cache::name_in(&body).ok_or_else(|| {
            let error = ErrorStatus::read(&body).and_then(|error| error.message).unwrap_or_default();
            format!("HTTP {} {error}", response.status().as_u16())
        })
    }
}

/// How long the models are waited for, by the configuration.
pub fn patience(config: &config::Gemini) -> Patience {
    Patience {
        hedge: Some(config.hedge).filter(|hedge| !hedge.is_zero()),
        silent: config.first_token * 3 / 4,
        whole: config.whole_answer,
    }
}

fn candidates(shared: &Arc<Shared>) -> Vec<Candidate> {
    let account: Arc<str> = "gemini".into();
    let one = |name: &Arc<str>| Candidate {
        name: name.clone(),
        account: account.clone(),
        model: Arc::new(One {
            shared: shared.clone(),
            name: name.clone(),
            introduced: Arc::new(Once::new()),
            cache: Arc::default(),
        }),
    };
    shared.names.iter().map(one).collect()
}

impl LanguageModel for Gemini {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        self.models.ask(ask, out, stop)
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        self.models.warm()
    }
}

impl LanguageModel for One {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        let (shared, name, introduced) = (self.shared.clone(), self.name.clone(), self.introduced.clone());
        let cache = self.cache.clone();
        Box::pin(async move {
            let key = shared.key.get();
            let asked = Asked {
                functions: &ask.functions,
                api: shared.config.api,
                price: shared.price,
                introduced: Some(&introduced),
                ..Asked::to(&name, &key.secret)
            };
            let post = |kept: Option<&str>| {
                let (request, body) = match shared.config.api {
                    GeminiApi::Generate => (
                        shared.post(&format!("/v1beta/models/{name}:streamGenerateContent?alt=sse")),
                        request::request(&shared.config, &name, &ask, kept),
                    ),
                    GeminiApi::Interactions => {
                        let (revision, value) = interactions::REVISION;
                        let request = shared.post(interactions::PATH).header(revision, value);
                        (request, interactions::request(&shared.config, &name, &ask))
                    }
                };
                (request, body)
            };
            let kept = shared.kept(&name, &ask, &cache);
            let mut answer = Answer { out: out.clone(), stage: Stage::Request };
            let note = tokio::select! {
                biased;
                () = stop.cancelled() => "stopped",
                result = async {
                    let (request, body) = post(kept.as_deref());
                    match attempt::run(&asked, request, body, &mut answer).await {
                        Err(fault) if kept.is_some() && fault.permanent() && fault.stage == Stage::Request => {
                            tracing::info!(%fault, "what was kept of the requests is gone; asking without it");
                            cache.lost(kept.as_deref().unwrap_or_default());
                            answer.stage = Stage::Request;
                            let (request, body) = post(None);
                            attempt::run(&asked, request, body, &mut answer).await
                        }
                        result => result,
                    }
                } => return result,
                () = out.closed() => "nobody listens",
            };
            Err(asked.fault(FaultClass::Cancelled, Stage::Request, None, note))
        })
    }

    /// A file is looked into again; a credential and a variable stay what they are while the service runs.
    fn has_new_key(&self) -> bool {
        let config = &self.shared.config;
        config.api_key_file.is_some()
            && super::key(config).ok().flatten().is_some_and(|key| self.shared.key.replace(key))
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            let shared = &*self.shared;
            let key = shared.key.get();
            let asked = Asked::to(&self.name, &key.secret);
            let url = shared.base.at(&format!("/v1beta/models/{}", self.name));
            let response = shared.client.get(url).header(KEY_HEADER, key.header.clone()).send().await;
            let mut response = response.map_err(|error| asked.network(Stage::Request, error))?;
            if !response.status().is_success() {
                return Err(attempt::refused(&asked, response).await);
            }
            // Read to the end, or the connection could not be used again.
            while response.chunk().await.map_err(|error| asked.network(Stage::Request, error))?.is_some() {}
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn made(config: config::Gemini, key: Option<&str>) -> Result<Gemini, SetupError> {
        Gemini::new(&config, key.map(Secret::new), &Http::new(Duration::from_secs(1)).unwrap())
    }

    fn local() -> config::Gemini {
        config::Gemini { base_url: "http://127.0.0.1:9".into(), ..Default::default() }
    }

    #[test]
    fn a_key_is_needed_beyond_loopback_only() {
        assert!(made(local(), None).is_ok());
        let error = made(config::Gemini::default(), None).unwrap_err();
        assert!(matches!(error, SetupError::NoKey) && error.to_string().contains("api_key_file"), "{error}");
    }

    #[test]
    fn nothing_prints_the_key() {
        let gemini = made(local(), Some("AIzaSecret")).unwrap();
        assert!(!format!("{gemini:?}").contains("AIza"));
        let key = gemini.shared.key.get();
        let asked = Asked::to(&gemini.shared.names[0], &key.secret);
        let fault = asked.fault(FaultClass::Auth, Stage::Request, None, "bad key AIzaSecret\r\nx");
        assert_eq!(fault.note, "bad key [key]  x");
        let error = made(local(), Some("AIza\u{1}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("AIza"));
    }

    #[test]
    fn a_file_with_another_key_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "AIzaOld\n").unwrap();
        let config = config::Gemini { api_key_file: Some(file.clone()), ..local() };
        let gemini = made(config, Some("AIzaOld")).unwrap();
        let new = || gemini.candidates()[0].model.has_new_key();
        assert!(!new());
        std::fs::write(&file, "AIzaNew\n").unwrap();
        assert_eq!([new(), new()], [true, false]);
        assert_eq!(gemini.shared.key.get().header, "AIzaNew");
        for useless in ["", "AIza\u{1}"] {
            std::fs::write(&file, useless).unwrap();
            assert!(!new());
        }
        std::fs::remove_file(&file).unwrap();
        assert!(!new());
        assert_eq!(gemini.shared.key.get().secret.reveal(), "AIzaNew");
    }

    #[test]
    fn a_model_name_that_would_bend_the_url_is_refused() {
        for name in ["", "a/b", "a?key=1", "../x", "gemini 3"] {
            let config = config::Gemini { models: vec![name.into()], ..local() };
            assert!(matches!(made(config, None), Err(SetupError::ModelName(_))), "{name}");
        }
        assert!(matches!(made(config::Gemini { models: vec![], ..local() }, None), Err(SetupError::NoModel)));
    }
}
