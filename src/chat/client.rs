//! One model of such a server, ready to be asked.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::reading::Reading;
use super::request;
use super::response::Trouble;
use crate::config::{self, SecretError, Wanted};
use crate::http::{BaseUrl, CurrentKey, Http, HttpError, Stamped, chain};
use crate::model::{Ask, Candidate, Event, Fault, FaultClass, Finish, Fut, LanguageModel, Mark, Stage};
use crate::privacy::Secret;

/// Longest error body that is read.
const LONGEST_ERROR_BYTES: usize = 64 * 1024;
/// After the end, how long the end of the body is waited for, so that the connection can be used again.
const DRAIN: Duration = Duration::from_millis(250);

/// A configuration with which nobody can be asked.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The base URL cannot be used.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No model is named.
    #[error("chat.model is missing; write it as the server lists it under /v1/models")]
    NoModel,
    /// The key cannot be sent.
    #[error("the key of [chat] has characters that no HTTP header takes; copy it again")]
    Key,
}

/// Finds the key. `None` when there is none anywhere, which is enough for most servers of one's own.
///
/// # Errors
/// When there is one that cannot be used.
pub fn key(config: &config::Chat) -> Result<Option<Secret>, SecretError> {
    Wanted {
        what: "key of [chat]",
        key: "api_key_file",
        file: config.api_key_file.as_deref(),
        credential: "chat.key",
        variable: "OFFHOOK_CHAT_API_KEY",
        ascii: true,
    }
    .find()
}

/// A model behind the chat-completions interface. Cheap to clone.
#[derive(Clone)]
pub struct Chat(Arc<Inner>);

struct Inner {
    config: config::Chat,
    base: BaseUrl,
    model: Arc<str>,
    key: Option<CurrentKey>,
    client: reqwest::Client,
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("base", &self.0.base).field("model", &self.0.model).finish_non_exhaustive()
    }
}

impl Chat {
    /// Checks the configuration; `None` when there is no such server in it. Does not touch the network.
    ///
    /// # Errors
    /// When what is configured cannot be used.
    pub fn new(config: &config::Chat, key: Option<Secret>, http: &Http) -> Result<Option<Self>, SetupError> {
        let Some(url) = &config.base_url else { return Ok(None) };
        // Both ways of writing it are about.
        let url = url.trim_end_matches('/');
        let base = BaseUrl::parse_private("chat.base_url", url.strip_suffix("/v1").unwrap_or(url))?;
        let model =
            config.model.as_deref().map(str::trim).filter(|model| !model.is_empty()).ok_or(SetupError::NoModel)?;
        let key = key.filter(|key| !key.is_empty()).map(|key| CurrentKey::new("Bearer ", key));
        let key = key.transpose().map_err(|_| SetupError::Key)?;
        let client = http.to(&base)?;
        Ok(Some(Self(Arc::new(Inner { config: config.clone(), base, model: model.into(), key, client }))))
    }

    /// The model, to be put into a list with others.
    pub fn candidate(&self) -> Candidate {
        Candidate { name: self.0.model.clone(), account: "chat".into(), model: Arc::new(self.clone()) }
    }
}

impl Inner {
    fn fault(&self, class: FaultClass, stage: Stage, http: Option<u16>, note: &str) -> Fault {
        let key = self.key.as_ref().map_or_else(|| Secret::new(""), |key| key.get().secret.clone());
        Fault { class, stage, model: self.model.clone(), http, note: Fault::note_without(&key, note) }
    }

    fn network(&self, stage: Stage, error: reqwest::Error) -> Fault {
        let class = if error.is_timeout() { FaultClass::Timeout } else { FaultClass::Network };
        self.fault(class, stage, None, &chain(&error.without_url()))
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.base.at(path));
        match &self.key {
            Some(key) => request.header(AUTHORIZATION, key.get().header.clone()),
            None => request,
        }
    }

    /// Reads the refusal out of a response that is none of success.
    async fn refused(&self, mut response: reqwest::Response) -> Fault {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        // An error body that does not come whole is as good as none.
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > LONGEST_ERROR_BYTES {
                break;
            }
        }
        let trouble = Trouble::read(&body);
        let code = trouble.as_ref().map(|trouble| trouble.code.as_str()).unwrap_or_default();
        let class = match (status, code) {
            (400, "content_filter" | "content_policy_violation") => FaultClass::Blocked(code.to_owned()),
            (401 | 403, _) => FaultClass::Auth,
            (404, _) => FaultClass::Gone,
            (408 | 504, _) => FaultClass::Timeout,
            (429, _) => FaultClass::RateLimited { retry_after: retry_after.map(Duration::from_secs) },
            (500..=599, _) => FaultClass::Overloaded,
            (300..=399, _) => FaultClass::Protocol,
            _ => FaultClass::Config,
        };
        match trouble {
            Some(trouble) => self.fault(class, Stage::Request, Some(status), &trouble.message),
            None => {
                self.fault(class, Stage::Request, Some(status), &format!("no error message in {} bytes", body.len()))
            }
        }
    }

    async fn run(&self, ask: &Ask, out: &mpsc::Sender<Event>) -> Result<Finish, Fault> {
        let body = request::request(&self.config, &self.model, ask).map_err(|request::Unheard| {
            let note = "there is sound and no text of it; set chat.audio if the model hears, or configure a recogniser";
            self.fault(FaultClass::NoText, Stage::Request, None, note)
        })?;
        let sent = out.clone();
        // It is the first event of a request, so there is room for it.
        let body = Stamped::new(body, move || {
            let _ = sent.try_send(Event::Mark(Mark::RequestSent, Instant::now()));
        });
        let request = self
            .request(reqwest::Method::POST, "/v1/chat/completions")
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(reqwest::Body::wrap(body));
        let mut response = request.send().await.map_err(|error| self.network(Stage::Request, error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let mut reading = Reading::new(&ask.functions, out);
        loop {
            let bytes = match reading.done {
                false => response.chunk().await,
                // Nothing that happens after the end is a fault.
                true => tokio::time::timeout(DRAIN, response.chunk()).await.unwrap_or(Ok(None)).or(Ok(None)),
            };
            match bytes.map_err(|error| self.network(reading.stage, error))? {
                Some(bytes) => reading
                    .take(&bytes)
                    .await
                    .map_err(|(class, code, note)| self.fault(class, reading.stage, code, &note))?,
                None => {
                    let ended = reading.end().await;
                    return ended.map_err(|((class, code, note), stage)| self.fault(class, stage, code, &note));
                }
            }
        }
    }
}

impl LanguageModel for Chat {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let note = tokio::select! {
                biased;
                () = stop.cancelled() => "stopped",
                result = inner.run(&ask, &out) => return result,
                () = out.closed() => "nobody listens",
            };
            Err(inner.fault(FaultClass::Cancelled, Stage::Request, None, note))
        })
    }

    /// `GET /v1/models`, which some servers do not have: then it is enough that they answer.
    fn has_new_key(&self) -> bool {
        let (Some(_), Some(current)) = (&self.0.config.api_key_file, &self.0.key) else { return false };
        key(&self.0.config).ok().flatten().is_some_and(|key| current.replace(key))
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            let inner = &*self.0;
            let response = inner.request(reqwest::Method::GET, "/v1/models").send().await;
            let mut response = response.map_err(|error| inner.network(Stage::Request, error))?;
            if !response.status().is_success() && response.status().as_u16() != 404 {
                return Err(inner.refused(response).await);
            }
            // Read to the end, or the connection could not be used again.
            while response.chunk().await.map_err(|error| inner.network(Stage::Request, error))?.is_some() {}
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(url: &str, key: Option<&str>) -> Result<Option<Chat>, SetupError> {
        let config =
            config::Chat { base_url: Some(url.into()), model: Some("gemma3:12b".into()), ..Default::default() };
        Chat::new(&config, key.map(Secret::new), &Http::new(Duration::from_secs(1)).unwrap())
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let http = Http::new(Duration::from_secs(1)).unwrap();
        assert!(Chat::new(&config::Chat::default(), None, &http).unwrap().is_none());
        let nameless = config::Chat { base_url: Some("http://127.0.0.1:9".into()), ..Default::default() };
        assert!(matches!(Chat::new(&nameless, None, &http), Err(SetupError::NoModel)));
    }

    #[test]
    fn the_version_may_stand_in_the_url_or_not() {
        for url in ["http://127.0.0.1:9", "http://127.0.0.1:9/", "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/"] {
            let chat = made(url, None).unwrap().unwrap();
            assert_eq!(chat.0.base.at("/v1/models"), "http://127.0.0.1:9/v1/models", "{url}");
        }
        assert!(matches!(made("http://example.com", None), Err(SetupError::Http(HttpError::Plain { .. }))));
    }

    #[test]
    fn nothing_prints_the_key() {
        let chat = made("http://127.0.0.1:9", Some("sk-secret")).unwrap().unwrap();
        let fault = chat.0.fault(FaultClass::Auth, Stage::Request, None, "wrong key sk-secret");
        assert!(!format!("{chat:?} {fault} {fault:?}").contains("sk-secret"));
        assert!(matches!(made("http://127.0.0.1:9", Some("sk\u{1}")), Err(SetupError::Key)));
    }
}
