//! A recogniser that is given whole utterances (`POST /v1/audio/transcriptions`): OpenAI, and servers that answer as it does, such as
//! speaches, whisper.cpp and LocalAI.
//!
//! There are no interim texts. An utterance that goes on after its end takes the request back, and is asked for as a whole at its next end.
//! Not implemented: streamed answers (`stream=true`), word times.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument, debug, warn};

use super::orders::{Order, orders};
use super::{Listening, Recognised, Recogniser, Recognition, Settings, SetupError};
use crate::gemini::live::provider::Provider;
use crate::http::{BaseUrl, Http, chain};
use crate::model::{Fault, FaultClass, Fut, Stage};
use crate::pcm::{RATE, samples_in, wav};
use crate::privacy::Secret;

/// Nobody waits for longer than that.
const WHOLE: Duration = Duration::from_secs(10);
/// The rest of a longer utterance is not recognised.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest answer.
const LONGEST_ANSWER_BYTES: usize = 256 * 1024;

/// A batch recogniser over HTTP.
pub struct OpenAi(Arc<Inner>);

struct Inner {
    base: BaseUrl,
    provider: Provider,
    authorization: HeaderValue,
    settings: Settings,
    client: reqwest::Client,
}

impl OpenAi {
    pub(super) fn new(base: BaseUrl, key: Secret, settings: Settings, http: &Http) -> Result<Self, SetupError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(|_| SetupError::Key)?;
        authorization.set_sensitive(true);
        let client = http.to(&base)?;
        let provider = Provider { name: settings.model.as_str().into(), key };
        Ok(Self(Arc::new(Inner { base, provider, authorization, settings, client })))
    }
}

impl Recogniser for OpenAi {
    fn open(&self, out: mpsc::Sender<Recognition>) -> Box<dyn Listening> {
        let (listening, orders) = orders();
        tokio::spawn(listen(self.0.clone(), orders, out).in_current_span());
        Box::new(listening)
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(self.0.warm())
    }

    fn name(&self) -> &str {
        &self.0.provider.name
    }
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    #[serde(default)]
    language: Option<String>,
}

impl Inner {
    /// `GET /v1/models` opens the connection and checks the key. Small servers know neither, and are there all the same.
    async fn warm(&self) -> Result<(), Fault> {
        let request = self.client.get(self.base.at("/v1/models")).header(AUTHORIZATION, self.authorization.clone());
        let limit = self.settings.connect * 2;
        let sent = tokio::time::timeout(limit, request.send());
        let late = || self.provider.fault(FaultClass::Timeout, Stage::Request, None, "no answer to the first request");
        let response = sent.await.map_err(|_| late())?.map_err(|error| self.network(Stage::Request, error))?;
        match response.status().as_u16() {
            status @ (401 | 403) => Err(self.provider.refused(Stage::Request, status, "")),
            _ => Ok(()),
        }
    }

    fn network(&self, stage: Stage, error: reqwest::Error) -> Fault {
        let class = if error.is_timeout() { FaultClass::Timeout } else { FaultClass::Network };
        self.provider.fault(class, stage, None, &chain(&error.without_url()))
    }

    async fn recognise(&self, samples: &[i16]) -> Result<Answer, Fault> {
        let wav = wav::write(RATE, 1, samples);
        match self.ask(wav.clone()).await {
            Err(fault) if fault.retryable() && fault.class != FaultClass::Timeout => {
                debug!(%fault, "the recogniser is asked once more");
                self.ask(wav).await
            }
            other => other,
        }
    }

    async fn ask(&self, wav: Vec<u8>) -> Result<Answer, Fault> {
        let file = Part::bytes(wav).file_name("utterance.wav").mime_str("audio/wav");
        let file = file.map_err(|error| self.network(Stage::Request, error))?;
        let mut form =
            Form::new().part("file", file).text("model", self.settings.model.clone()).text("response_format", "json");
        if let Some(language) = self.settings.language() {
            form = form.text("language", language.code());
        }
        if !self.settings.vocabulary.is_empty() {
            form = form.text("prompt", self.settings.vocabulary.join(", "));
        }
        let request = self
            .client
            .post(self.base.at("/v1/audio/transcriptions"))
            .header(AUTHORIZATION, self.authorization.clone())
            .multipart(form);
        let asking = async {
            let mut response = request.send().await.map_err(|error| self.network(Stage::Request, error))?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(bytes) = response.chunk().await.map_err(|error| self.network(Stage::Waiting, error))? {
                body.extend_from_slice(&bytes);
                if body.len() > LONGEST_ANSWER_BYTES {
                    return Err(self.provider.fault(
                        FaultClass::Protocol,
                        Stage::Waiting,
                        None,
                        "the answer has no end",
                    ));
                }
            }
            if !status.is_success() {
                return Err(self.provider.refused(Stage::Request, status.as_u16(), &String::from_utf8_lossy(&body)));
            }
            serde_json::from_slice(&body).map_err(|_| {
                let note = "the answer is not JSON with a text; does the server take response_format=json?";
                self.provider.fault(FaultClass::Protocol, Stage::Waiting, None, note)
            })
        };
        let late = || self.provider.fault(FaultClass::Timeout, Stage::Waiting, None, "no text within 10 s");
        tokio::time::timeout(WHOLE, asking).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Collects utterances and asks for their texts, to the end of the call.
async fn listen(inner: Arc<Inner>, mut orders: mpsc::Receiver<Order>, out: mpsc::Sender<Recognition>) {
    let mut asking: JoinSet<(u32, Result<Answer, Fault>)> = JoinSet::new();
    let mut sound: Vec<i16> = Vec::new();
    let mut utterance = 0;
    // Of the utterance that may still go on.
    let mut asked: Option<AbortHandle> = None;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Started(number)) => {
                    (utterance, asked) = (number, None);
                    sound.clear();
                }
                Some(Order::Audio(samples)) => {
                    if let Some(asked) = asked.take() {
                        asked.abort();
                    }
                    if ((sound.len() + samples.len()) as u64) <= samples_in(LONGEST) {
                        sound.extend_from_slice(&samples);
                    }
                }
                Some(Order::Ended) if utterance == 0 || asked.is_some() => {}
                Some(Order::Ended) => {
                    let (inner, samples) = (inner.clone(), sound.clone());
                    asked = Some(asking.spawn(async move { (utterance, inner.recognise(&samples).await) }));
                }
            },
            Some(done) = asking.join_next() => {
                // The rest were taken back.
                let Ok((utterance, result)) = done else { continue };
                let what = match result {
                    Ok(answer) => Recognised::Final { text: answer.text.trim().to_owned(), language: answer.language },
                    Err(fault) => {
                        warn!(%fault, "an utterance was not recognised");
                        Recognised::Lost(fault)
                    }
                };
                if out.send(Recognition { utterance, what }).await.is_err() {
                    return;
                }
            }
        }
    }
}
