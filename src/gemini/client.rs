//! The language model as the house uses it: models in their order, one more try while nothing was said, never one after.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Answer, Asked};
use super::breaker::Breaker;
use super::request;
use crate::config;
use crate::http::{BaseUrl, Http, HttpError};
use crate::model::{Ask, Event, Fault, FaultClass, Finish, Function, Fut, LanguageModel, Stage};
use crate::privacy::Secret;

/// The header of the key; in a URL it would end up in logs.
const KEY_HEADER: &str = "x-goog-api-key";
/// What is sent to a simulator when there is no key.
const NO_KEY: &str = "simulated";

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

/// Gemini, ready to be asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gemini(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: config::Gemini,
    base: BaseUrl,
    models: Vec<Arc<str>>,
    breaker: Breaker,
    key: Secret,
    header: HeaderValue,
    client: reqwest::Client,
}

impl Gemini {
    /// Checks the configuration. Does not touch the network: [`warm`](Self::warm) does.
    pub fn new(config: &config::Gemini, key: Option<Secret>, http: &Http) -> Result<Self, SetupError> {
        let base = BaseUrl::parse("gemini.base_url", &config.base_url)?;
        let key = match key.filter(|key| !key.is_empty()) {
            Some(key) => key,
            None if base.is_loopback() => Secret::new(NO_KEY),
            None => return Err(SetupError::NoKey),
        };
        let mut header = HeaderValue::from_str(key.reveal()).map_err(|_| SetupError::Key)?;
        header.set_sensitive(true);
        if config.models.is_empty() {
            return Err(SetupError::NoModel);
        }
        let nameable = |name: &&String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        if let Some(name) = config.models.iter().find(|name| !nameable(name)) {
            return Err(SetupError::ModelName(name.clone()));
        }
        let models: Vec<Arc<str>> = config.models.iter().map(|name| name.as_str().into()).collect();
        let (breaker, client) = (Breaker::new(models.len()), http.to(&base)?);
        Ok(Self(Arc::new(Inner { config: config.clone(), base, models, breaker, key, header, client })))
    }

    /// Opens the connection and checks key and model: `GET models/{model}`. For the moment when the telephone rings, and for doctors.
    pub async fn warm(&self) -> Result<(), Fault> {
        let model = self.0.breaker.order(Instant::now()).first().copied().unwrap_or(0);
        let asked = self.asked(model);
        let get = async {
            let url = self.0.base.at(&format!("/v1beta/models/{}", asked.model));
            let response = self.0.client.get(url).header(KEY_HEADER, self.0.header.clone()).send().await;
            let mut response = response.map_err(|error| asked.network(Stage::Request, error))?;
            if !response.status().is_success() {
                return Err(attempt::refused(&asked, response).await);
            }
            // Read to the end, or the connection could not be used again.
            while response.chunk().await.map_err(|error| asked.network(Stage::Request, error))?.is_some() {}
            Ok(())
        };
        let late = || Err(asked.fault(FaultClass::Timeout, Stage::Request, None, "no answer to the first request"));
        let result = tokio::time::timeout(self.0.config.whole_answer, get).await.unwrap_or_else(|_| late());
        self.0.breaker.note(model, Instant::now(), result.as_ref().err().map(|fault| &fault.class));
        result
    }

    /// Asks, and reports what comes to `out` (some tens of places are enough; a full channel holds the answer up).
    ///
    /// When a try fails before any text was passed on, the next model gets one immediate try, or the same when there is no other; a
    /// model that does not exist costs no try. Ends early, with [`FaultClass::Cancelled`], when `stop` is cancelled or nobody receives:
    /// the connection is dropped at once. Time limits for the first and the next text are the asker's, who cancels; the whole is
    /// bounded by `whole_answer_ms` here.
    pub async fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Result<Finish, Fault> {
        let body = Bytes::from(request::request(&self.0.config, &ask));
        let mut answer = Answer { out: out.clone(), stage: Stage::Request, sent: Arc::new(AtomicBool::new(false)) };
        let over = tokio::select! {
            biased;
            () = stop.cancelled() => (FaultClass::Cancelled, "stopped"),
            result = self.tries(body, &ask.functions, &mut answer) => return result,
            () = out.closed() => (FaultClass::Cancelled, "nobody listens"),
            () = tokio::time::sleep(self.0.config.whole_answer) => (FaultClass::Timeout, "the whole answer took too long"),
        };
        Err(self.asked(0).fault(over.0, answer.stage, None, over.1))
    }

    async fn tries(&self, body: Bytes, functions: &[Function], answer: &mut Answer) -> Result<Finish, Fault> {
        let mut order = self.0.breaker.order(Instant::now()).into_iter().peekable();
        let mut again = true;
        let mut next = order.next().unwrap_or(0);
        loop {
            let model = next;
            answer.stage = Stage::Request;
            let result = self.try_one(model, body.clone(), functions, answer).await;
            self.0.breaker.note(model, Instant::now(), result.as_ref().err().map(|fault| &fault.class));
            let fault = match result {
                Ok(finish) => return Ok(finish),
                Err(fault) => fault,
            };
            next = match (&fault.class, order.peek()) {
                (FaultClass::Gone, Some(_)) => order.next().unwrap_or(model),
                _ if fault.retryable() && again => {
                    again = false;
                    order.next().unwrap_or(model)
                }
                _ => return Err(fault),
            };
            tracing::warn!(%fault, next = %self.0.models[next], "the model did not answer; trying once more");
        }
    }

    async fn try_one(
        &self,
        model: usize,
        body: Bytes,
        functions: &[Function],
        answer: &mut Answer,
    ) -> Result<Finish, Fault> {
        let asked = Asked { functions, ..self.asked(model) };
        let url = self.0.base.at(&format!("/v1beta/models/{}:streamGenerateContent?alt=sse", asked.model));
        let request = self
            .0
            .client
            .post(url)
            .header(KEY_HEADER, self.0.header.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        attempt::run(&asked, request, body, answer).await
    }

    fn asked(&self, model: usize) -> Asked<'_> {
        Asked { model: &self.0.models[model], key: &self.0.key, functions: &[] }
    }
}

impl LanguageModel for Gemini {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        let gemini = self.clone();
        Box::pin(async move { Self::ask(&gemini, ask, out, stop).await })
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(Self::warm(self))
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
        let fault = gemini.asked(0).fault(FaultClass::Auth, Stage::Request, None, "bad key AIzaSecret\r\nx");
        assert_eq!(fault.note, "bad key [key]  x");
        let error = made(local(), Some("AIza\u{1}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("AIza"));
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
