//! Tells somebody else of each message: one HTTP POST each, again and again until it was taken.
//!
//! The queue is the folder itself: what is still wanted says so in its description, and so outlives a restart; it is as long as messages are
//! kept. The body is the description as JSON with the sound as `audio_wav_base64`. Redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::store::{Post, Store};
use crate::config::{self, SecretError, Wanted};
use crate::http::{BaseUrl, Http, HttpError, chain};
use crate::privacy::Secret;

/// After a failure, and at most; each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long the other side may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Nobody can be told.
#[derive(Debug, Error)]
pub enum PosterError {
    /// The address cannot be used.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The token cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Posts messages, as long as its task is polled.
pub struct Poster {
    store: Arc<Store>,
    client: reqwest::Client,
    url: String,
    token: Option<Secret>,
    saved: Arc<Notify>,
}

impl Poster {
    /// For the configured address; `None` when there is none. `saved` wakes it.
    ///
    /// # Errors
    /// When the address or the token cannot be used.
    pub fn new(
        config: &config::Voicemail,
        store: Arc<Store>,
        saved: Arc<Notify>,
        http: &Http,
    ) -> Result<Option<Self>, PosterError> {
        let Some(url) = &config.webhook_url else { return Ok(None) };
        let base = BaseUrl::parse_private("voicemail.webhook_url", url)?;
        let token = Wanted {
            what: "webhook token",
            key: "webhook_token_file",
            file: config.webhook_token_file.as_deref(),
            credential: "webhook.token",
            variable: "OFFHOOK_WEBHOOK_TOKEN",
            ascii: true,
        };
        let (client, token) = (http.to(&base)?, token.find()?);
        Ok(Some(Self { store, client, url: base.at(""), token, saved }))
    }

    /// Posts what is wanted, as it comes; never ends.
    pub async fn run(self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.all().await {
                Ok(()) => {
                    wait = FIRST_WAIT;
                    self.saved.notified().await;
                }
                Err(problem) => {
                    warn!(problem, again_in_s = wait.as_secs(), "a message was not taken: [voicemail] webhook_url");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    async fn all(&self) -> Result<(), String> {
        let store = self.store.clone();
        let messages = blocking(move || store.list().map_err(|error| error.to_string())).await?;
        let mut refused = Ok(());
        for message in messages.into_iter().filter(|message| message.post == Post::Wanted) {
            let id = message.id.clone();
            let (store, of) = (self.store.clone(), id.clone());
            // A wish has no sound.
            let sound = blocking(move || Ok(store.sound(&of).ok())).await?;
            let mut body = serde_json::to_value(&message).map_err(|error| error.to_string())?;
            body["audio_wav_base64"] = sound.map(|sound| STANDARD.encode(sound)).into();
            let mut request = self.client.post(&self.url).timeout(TIMEOUT).header("idempotency-key", &id).json(&body);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.reveal());
            }
            let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
            if !response.status().is_success() {
                // It may be this message that is not wanted: the others need not wait for it.
                refused = Err(format!("HTTP {}", response.status().as_u16()));
                continue;
            }
            let store = self.store.clone();
            blocking(move || store.posted(&id).map_err(|error| error.to_string())).await?;
            info!("a message was taken by the webhook");
        }
        refused
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
