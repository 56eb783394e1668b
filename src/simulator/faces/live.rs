//! The face of Gemini's Live API: the WebSocket of `BidiGenerateContent` as a recogniser; as a dialogue it is in `live_speech`.
//!
//! What it says goes out in binary frames, and it closes with 1007 what is not of the interface and with 1008 who may not be here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::FaceOptions;
use super::ears::{Connection, EarFault, Say};
use super::live_speech;

const PATH: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new().route(PATH, get(connect))
}

async fn connect(
    State(options): State<Arc<FaceOptions>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let header = headers.get("x-goog-api-key").and_then(|value| value.to_str().ok());
    let key = query.get("key").map(String::as_str).or(header).unwrap_or_default().to_owned();
    upgrade.on_upgrade(move |socket| async move {
        let mut speaker = Speaker(socket);
        if let Err((code, reason)) = serve(&mut speaker, &options, &key).await {
            speaker.close(code, &reason).await;
        }
    })
}

/// Why the connection is closed: the code and its words.
pub(super) type Closing = (u16, String);

/// The peer has gone.
fn gone() -> Closing {
    (1006, String::new())
}

pub(super) fn invalid(what: &str) -> Closing {
    (1007, format!("Invalid JSON payload received. {what}"))
}

pub(super) struct Speaker(WebSocket);

impl Speaker {
    pub(super) async fn say(&mut self, value: &Value) -> Result<(), Closing> {
        self.0.send(Message::Binary(value.to_string().into_bytes().into())).await.map_err(|_| gone())
    }

    /// Cancel-safe.
    pub(super) async fn hear(&mut self) -> Result<Value, Closing> {
        loop {
            let message = self.0.recv().await.ok_or_else(gone)?.map_err(|_| gone())?;
            let bytes = match &message {
                Message::Text(text) => text.as_bytes(),
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return Err(gone()),
                _ => continue,
            };
            return serde_json::from_slice(bytes).map_err(|_| invalid("Unexpected token."));
        }
    }

    async fn close(&mut self, code: u16, reason: &str) {
        // The peer may be gone, and 1006 is never sent.
        if code != 1006 {
            let frame = CloseFrame { code, reason: reason.to_owned().into() };
            let _ = self.0.send(Message::Close(Some(frame))).await;
        }
    }
}

async fn serve(speaker: &mut Speaker, options: &FaceOptions, key: &str) -> Result<(), Closing> {
    if key.is_empty() || key == "invalid" {
        return Err((1008, "API key not valid. Please pass a valid API key.".into()));
    }
    let first = speaker.hear().await?;
    let setup = only(&first, &["setup"])?["setup"].clone();
    let model = setup["model"].as_str().and_then(|model| model.strip_prefix("models/")).unwrap_or_default().to_owned();
    let transcribes = model.ends_with("-transcribe-live");
    if transcribes {
        only(&setup, &["model", "inputAudioTranscription"])?;
        only(&setup["inputAudioTranscription"], &["languageCodes", "customVocabulary", "mode"])?;
    } else if model.ends_with("-live") {
        live_speech::check(&setup, &options.mouth)?;
    } else {
        let reason =
            format!("models/{model} is not found for API version v1beta, or is not supported for bidiGenerateContent.");
        return Err((1008, reason));
    }
    let (connection, fault) = options.ears.connected(setup.to_string());
    if let EarFault::Refuse(code) = fault {
        return Err((code, "Internal error encountered.".into()));
    }
    if fault == EarFault::Mute && !transcribes {
        return std::future::pending().await;
    }
    speaker.say(&json!({"setupComplete": {}})).await?;
    if fault == EarFault::Garbage && !transcribes {
        speaker.say(&json!("what is this")).await?;
    }
    if !transcribes {
        return live_speech::talk(speaker, options, connection, fault).await;
    }
    transcribe(speaker, connection, fault).await
}

/// An object with no other fields.
pub(super) fn only<'v>(value: &'v Value, known: &[&str]) -> Result<&'v Value, Closing> {
    let object = value.as_object().ok_or_else(|| invalid("An object is expected."))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(odd) => Err(invalid(&format!("Unknown name \"{odd}\": Cannot find field."))),
        None => Ok(value),
    }
}

/// How long the sound of a message is.
pub(super) fn sound(audio: &Value) -> Result<Duration, Closing> {
    only(audio, &["data", "mimeType"])?;
    if audio["mimeType"] != "audio/pcm;rate=16000" {
        return Err(invalid("Unsupported mime type."));
    }
    let bytes = STANDARD.decode(audio["data"].as_str().unwrap_or_default());
    let bytes = bytes.ok().filter(|bytes| bytes.len().is_multiple_of(2)).ok_or_else(|| invalid("Invalid audio."))?;
    Ok(Duration::from_micros(bytes.len() as u64 / 2 * 1_000_000 / 16_000))
}

async fn transcribe(speaker: &mut Speaker, mut connection: Connection, fault: EarFault) -> Result<(), Closing> {
    loop {
        let message = speaker.hear().await?;
        let input = &only(&message, &["realtimeInput"])?["realtimeInput"];
        only(input, &["audio", "audioStreamEnd"])?;
        if input["audioStreamEnd"] == true {
            connection.control("audioStreamEnd");
            let Some((text, after)) = connection.whole() else { continue };
            tokio::time::sleep(after).await;
            if !text.is_empty() {
                let words = json!({"text": text, "languageCode": "en-US", "finished": true});
                speaker.say(&json!({"serverContent": {"inputTranscription": words}})).await?;
            }
            speaker.say(&json!({"serverContent": {"turnComplete": true, "interactionStatus": "IDLE"}})).await?;
            if fault == EarFault::GoAway {
                speaker.say(&json!({"goAway": {"timeLeft": "10s"}})).await?;
            }
            continue;
        }
        match connection.heard(sound(&input["audio"])?) {
            Say::Nothing => {}
            Say::Words(words) => {
                speaker.say(&json!({"serverContent": {"interimInputTranscription": {"text": words}}})).await?;
            }
            Say::Garbage => speaker.say(&json!("what is this")).await?,
            Say::Close(code) => return Err((code, "Internal error encountered.".into())),
        }
    }
}
