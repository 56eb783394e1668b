//! The interfaces of voices: each checks what the real one checks, and answers with a tone by which the text is known again.
//!
//! Google Cloud, Azure, ElevenLabs, OpenAI, Piper and Gemini over HTTP; [`WyomingFace`] over TCP. Any key will do, but `invalid`.
//! Tones are of one frequency and length for each text ([`marker`]). Not implemented: other formats than those that offhook asks for.

// What is refused is answered all the same: the error is an answer.
#![allow(clippy::result_large_err)]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::FaceOptions;
use crate::pcm::{RATE, tone, wav};

mod wyoming;
mod xml;

pub use wyoming::WyomingFace;

/// Requests that are remembered.
const MOST_SEEN: usize = 1000;
/// Sound in one piece of a body.
const PIECE: Duration = Duration::from_millis(100);

/// How the voices behave.
#[derive(Debug, Clone)]
pub struct VoiceOptions {
    /// From the request to the first sound.
    pub first_sound: Duration,
    /// How many times as fast as it sounds the rest comes; infinite for all at once.
    pub speed: f64,
    /// What goes wrong, and in which request (from 1); without a number in all.
    pub faults: Vec<(Option<u32>, VoiceFault)>,
    /// OpenAI's answers are events.
    pub events: bool,
    /// What was asked so far.
    pub seen: SeenPhrases,
}

impl Default for VoiceOptions {
    fn default() -> Self {
        Self {
            first_sound: Duration::ZERO,
            speed: f64::INFINITY,
            faults: Vec::new(),
            events: false,
            seen: SeenPhrases::default(),
        }
    }
}

/// How a voice can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoiceFault {
    /// The answer begins so late.
    Late(Duration),
    /// In the middle of the sound nothing comes for so long.
    Stall(Duration),
    /// This status, with an error in the interface's own words; 429 with the wish to be asked again after a minute.
    Status(u16),
    /// The connection ends in the middle of the sound.
    Cut,
    /// A web page instead of the sound.
    Page,
    /// Bytes that are no sound.
    Garbage,
    /// A sound that is silent.
    Silence,
}

/// The phrases that voices were asked for, by whoever holds a clone.
#[derive(Debug, Clone, Default)]
pub struct SeenPhrases(Arc<Mutex<VecDeque<SeenPhrase>>>);

/// A request that was not refused for its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPhrase {
    /// The interface.
    pub face: &'static str,
    /// What was to be spoken.
    pub text: String,
    /// The voice, by its name.
    pub voice: String,
    /// The model, or what else the interface is told: the language.
    pub model: String,
}

impl SeenPhrases {
    /// All so far, oldest first; at most the last thousand.
    pub fn all(&self) -> Vec<SeenPhrase> {
        self.lock().iter().cloned().collect()
    }

    fn push(&self, phrase: SeenPhrase) -> u32 {
        let mut all = self.lock();
        if all.len() == MOST_SEEN {
            all.pop_front();
        }
        all.push_back(phrase);
        all.len() as u32
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<SeenPhrase>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tone for a text: its frequency in hertz, and its length (60 ms a character, at most 4 s).
pub fn marker(text: &str) -> (f32, Duration) {
    let sum = text.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    (
        400.0 + 50.0 * (sum % 24) as f32,
        Duration::from_millis(60 * text.chars().count() as u64).min(Duration::from_secs(4)),
    )
}

/// The tone for a text as samples.
fn samples(text: &str, rate: u32, fault: Option<VoiceFault>) -> Vec<i16> {
    let (hz, length) = marker(text);
    let count = (length.as_secs_f64() * f64::from(rate)) as usize;
    match fault {
        Some(VoiceFault::Silence) => vec![0; count],
        _ => tone::sine(hz * RATE as f32 / rate as f32, -15.0, count),
    }
}

fn raw(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// What each interface serves.
pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new()
        .route("/v1/text:synthesize", post(google_cloud))
        .route("/cognitiveservices/v1", post(azure))
        .route("/v1/text-to-speech/{voice}/stream", post(elevenlabs))
        .route("/v1/audio/speech", post(openai))
        .route("/synthesize", post(piper))
        .route("/v1beta/models/{model}", post(gemini))
}

type Options = State<Arc<FaceOptions>>;
/// An answer, or why there is none.
type Answer = Result<Response, Response>;

async fn google_cloud(State(options): Options, headers: HeaderMap, body: Bytes) -> Answer {
    key(
        &headers,
        "x-goog-api-key",
        |message| json!({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}}),
        403,
    )?;
    let error = |message: String| google_error(400, &message);
    let body = json_body(&headers, &body, error)?;
    only(&body, &["input", "voice", "audioConfig"], error)?;
    only(&body["input"], &["text", "ssml"], error)?;
    only(&body["voice"], &["languageCode", "name", "ssmlGender"], error)?;
    only(&body["audioConfig"], &["audioEncoding", "sampleRateHertz", "speakingRate", "pitch", "volumeGainDb"], error)?;
    let (text, voice) = (string(&body["input"]["text"], error)?, string(&body["voice"]["name"], error)?);
    let locale = string(&body["voice"]["languageCode"], error)?;
    if !voice.starts_with(&locale) {
        return Err(error(format!(
            "Requested language code '{locale}' doesn't match the voice '{voice}''s language code."
        )));
    }
    if body["audioConfig"]["audioEncoding"] != "LINEAR16" {
        return Err(error("audioEncoding must be set".into()));
    }
    let rate = body["audioConfig"]["sampleRateHertz"].as_u64().unwrap_or(24_000) as u32;
    let fault = options.voices.begin("google-cloud", &text, &voice, &locale);
    refuse(fault, |status, message| google_error(status, &message))?;
    let sound = wav::write(rate, 1, &samples(&text, rate, fault));
    let body = format!("{{\n  \"audioContent\": \"{}\"\n}}\n", BASE64_STANDARD.encode(sound));
    Ok(options.voices.answer("application/json; charset=UTF-8", body.into_bytes(), usize::MAX, fault))
}

fn google_error(status: u16, message: &str) -> Response {
    let name = if status == 400 { "INVALID_ARGUMENT" } else { "UNAVAILABLE" };
    error(status, json!({"error": {"code": status, "message": message, "status": name}}))
}

async fn azure(State(options): Options, headers: HeaderMap, body: Bytes) -> Answer {
    let refusal = |status: u16, _: String| plain(status);
    if !has_key(headers.get("ocp-apim-subscription-key")) {
        return Err(plain(401));
    }
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    if !is("content-type", "application/ssml+xml") {
        return Err(plain(415));
    }
    if !is("x-microsoft-outputformat", "raw-16khz-16bit-mono-pcm") || !headers.contains_key(header::USER_AGENT) {
        return Err(plain(400));
    }
    let Ok(elements) = xml::read(&String::from_utf8_lossy(&body)) else { return Err(plain(400)) };
    let speak = elements.iter().find(|element| element.name == "speak");
    let voice = elements.iter().find(|element| element.name == "voice");
    let (Some(speak), Some(voice)) = (speak, voice) else { return Err(plain(400)) };
    let (Some(locale), Some(name)) = (speak.attribute("xml:lang"), voice.attribute("name")) else {
        return Err(plain(400));
    };
    if speak.attribute("version") != Some("1.0") {
        return Err(plain(400));
    }
    let fault = options.voices.begin("azure", &voice.text, name, locale);
    refuse(fault, refusal)?;
    let sound = raw(&samples(&voice.text, 16_000, fault));
    Ok(options.voices.answer("audio/basic", sound, 32_000, fault))
}

async fn elevenlabs(
    State(options): Options,
    Path(voice): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let detail = |status: &str, message: &str| json!({"detail": {"status": status, "message": message}});
    key(&headers, "xi-api-key", |message| detail("invalid_api_key", message), 401)?;
    let refused = |message: String| error(400, detail("invalid_request", &message));
    let body = json_body(&headers, &body, refused)?;
    only(&body, &["text", "model_id", "language_code", "voice_settings", "seed"], refused)?;
    if query != [("output_format".to_owned(), "pcm_16000".to_owned())] {
        return Err(refused("unsupported output_format".into()));
    }
    let (text, model) = (string(&body["text"], refused)?, string(&body["model_id"], refused)?);
    if body["language_code"] == "he" && !model.starts_with("eleven_v3") {
        return Err(refused(format!("Model '{model}' does not support the language_code he.")));
    }
    let fault = options.voices.begin("elevenlabs", &text, &voice, &model);
    refuse(fault, |status, message| error(status, detail("error", &message)))?;
    Ok(options.voices.answer("audio/pcm", raw(&samples(&text, 16_000, fault)), 32_000, fault))
}

async fn openai(State(options): Options, headers: HeaderMap, body: Bytes) -> Answer {
    let body_of = |message: &str| json!({"error": {"message": message, "type": "invalid_request_error", "code": null}});
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !bearer.is_some_and(|key| !key.is_empty() && key != "invalid") {
        return Err(error(401, body_of("Incorrect API key provided.")));
    }
    let refused = |message: String| error(400, body_of(&message));
    let body = json_body(&headers, &body, refused)?;
    let fields = ["model", "input", "voice", "response_format", "speed", "instructions", "stream_format"];
    only(&body, &fields, refused)?;
    let (text, voice) = (string(&body["input"], refused)?, string(&body["voice"], refused)?);
    let model = string(&body["model"], refused)?;
    if body["response_format"] != "pcm" {
        return Err(refused("only pcm is simulated".into()));
    }
    let fault = options.voices.begin("openai", &text, &voice, &model);
    refuse(fault, |status, message| error(status, body_of(&message)))?;
    let sound = samples(&text, 24_000, fault);
    if !options.voices.events {
        return Ok(options.voices.answer("audio/pcm", raw(&sound), 48_000, fault));
    }
    let event = |sound: &[i16]| {
        let delta = json!({"type": "speech.audio.delta", "audio": BASE64_STANDARD.encode(raw(sound))});
        format!("data: {delta}\n\n")
    };
    let mut events: Vec<String> = sound.chunks(2400).map(event).collect();
    events.push("data: {\"type\":\"speech.audio.done\"}\n\n".into());
    Ok(options.voices.paced("text/event-stream", events.into_iter().map(String::into_bytes).collect(), fault))
}

async fn piper(State(options): Options, headers: HeaderMap, body: Bytes) -> Answer {
    let refused = |message: String| error(400, json!({"error": message}));
    let body = json_body(&headers, &body, refused)?;
    let (text, voice) = (string(&body["text"], refused)?, body["voice"].as_str().unwrap_or_default().to_owned());
    let fault = options.voices.begin("piper-http", &text, &voice, "");
    refuse(fault, |status, message| error(status, json!({"error": message})))?;
    let sound = wav::write(22_050, 1, &samples(&text, 22_050, fault));
    Ok(options.voices.answer("audio/wav", sound, usize::MAX, fault))
}

async fn gemini(
    State(options): Options,
    Path(model): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    key(&headers, "x-goog-api-key", |message| json!({"error": {"code": 403, "message": message}}), 403)?;
    let refused = |message: String| google_error(400, &message);
    let Some(model) = model.strip_suffix(":streamGenerateContent").filter(|model| model.ends_with("-tts")) else {
        return Err(google_error(404, "not found"));
    };
    if query != [("alt".to_owned(), "sse".to_owned())] {
        return Err(refused("only alt=sse is simulated".into()));
    }
    let body = json_body(&headers, &body, refused)?;
    only(&body, &["contents", "generationConfig"], refused)?;
    only(&body["generationConfig"], &["responseModalities", "speechConfig"], refused)?;
    let text = string(&body["contents"][0]["parts"][0]["text"], refused)?;
    let configured = &body["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"];
    let voice = string(configured, refused)?;
    if body["generationConfig"]["responseModalities"] != json!(["AUDIO"]) {
        return Err(refused("the model answers in AUDIO only".into()));
    }
    let fault = options.voices.begin("gemini", &text, &voice, model);
    refuse(fault, |status, message| google_error(status, &message))?;
    let event = |sound: &[i16]| {
        let data = json!({"mimeType": "audio/L16;codec=pcm;rate=24000", "data": BASE64_STANDARD.encode(raw(sound))});
        let event =
            json!({"candidates": [{"content": {"parts": [{"inlineData": data}], "role": "model"}, "index": 0}]});
        format!("data: {event}\r\n\r\n").into_bytes()
    };
    let mut events: Vec<Vec<u8>> = samples(&text, 24_000, fault).chunks(2400).map(event).collect();
    let last = json!({"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": {"totalTokenCount": 9}});
    events.push(format!("data: {last}\r\n\r\n").into_bytes());
    Ok(options.voices.paced("text/event-stream", events, fault))
}

impl VoiceOptions {
    /// Notes a request; the fault that it gets.
    fn begin(&self, face: &'static str, text: &str, voice: &str, model: &str) -> Option<VoiceFault> {
        let (text, voice, model) = (text.to_owned(), voice.to_owned(), model.to_owned());
        let number = self.seen.push(SeenPhrase { face, text, voice, model });
        let of = |number| self.faults.iter().find(|(request, _)| *request == number).map(|(_, fault)| *fault);
        of(Some(number)).or_else(|| of(None))
    }

    /// A body of `bytes_per_second` of sound.
    fn answer(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
        bytes_per_second: usize,
        fault: Option<VoiceFault>,
    ) -> Response {
        let piece = (bytes_per_second / 10).clamp(1, body.len().max(1));
        // What is whole only as a whole is cut in its middle, too.
        let piece = if bytes_per_second == usize::MAX { body.len().div_ceil(2).max(1) } else { piece };
        self.paced(content_type, body.chunks(piece).map(<[u8]>::to_vec).collect(), fault)
    }

    /// A body in pieces, each at its time.
    fn paced(&self, content_type: &'static str, pieces: Vec<Vec<u8>>, fault: Option<VoiceFault>) -> Response {
        let (content_type, pieces) = match fault {
            Some(VoiceFault::Page) => ("text/html", vec![b"<!DOCTYPE html><title>Sign in</title>".to_vec()]),
            Some(VoiceFault::Garbage) => (
                if content_type == "audio/wav" { content_type } else { "application/json" },
                vec![b"\x00{garbage".to_vec()],
            ),
            _ => (content_type, pieces),
        };
        let (sender, receiver) = mpsc::channel(1);
        let between = if self.speed.is_finite() { PIECE.div_f64(self.speed) } else { Duration::ZERO };
        let first = match fault {
            Some(VoiceFault::Late(late)) => late,
            _ => self.first_sound,
        };
        let half = pieces.len() / 2;
        tokio::spawn(async move {
            tokio::time::sleep(first).await;
            for (n, piece) in pieces.into_iter().enumerate() {
                if n > 0 {
                    tokio::time::sleep(between).await;
                }
                match fault {
                    Some(VoiceFault::Stall(stall)) if n == half => tokio::time::sleep(stall).await,
                    Some(VoiceFault::Cut) if n == half => {
                        // Whoever asked may be gone.
                        let _ = sender.send(Err(io::Error::from(io::ErrorKind::ConnectionReset))).await;
                        return;
                    }
                    _ => {}
                }
                if sender.send(Ok(Bytes::from(piece))).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(Body::new(Pieces(receiver)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// A body that comes through a channel; an error in it ends the connection.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}

fn refuse(fault: Option<VoiceFault>, refusal: impl Fn(u16, String) -> Response) -> Result<(), Response> {
    let Some(VoiceFault::Status(status)) = fault else { return Ok(()) };
    let mut response = refusal(status, "ordered by whoever runs the simulator".into());
    if status == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    Err(response)
}

fn key(headers: &HeaderMap, name: &str, body: impl Fn(&str) -> Value, status: u16) -> Result<(), Response> {
    match has_key(headers.get(name)) {
        true => Ok(()),
        false => Err(error(status, body("Invalid API key"))),
    }
}

fn has_key(value: Option<&HeaderValue>) -> bool {
    value.is_some_and(|key| !key.is_empty() && key != "invalid")
}

fn json_body(headers: &HeaderMap, body: &[u8], error: impl Fn(String) -> Response) -> Result<Value, Response> {
    if !headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return Err(error("the body must be application/json".into()));
    }
    serde_json::from_slice(body).map_err(|problem| error(format!("Invalid JSON payload received. {problem}")))
}

/// Refuses unknown fields.
fn only(value: &Value, fields: &[&str], error: impl Fn(String) -> Response) -> Result<(), Response> {
    let Some(object) = value.as_object() else { return Err(error("an object is missing".into())) };
    match object.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(error(format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."))),
        None => Ok(()),
    }
}

fn string(value: &Value, error: impl Fn(String) -> Response) -> Result<String, Response> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| error("a text is missing".into()))
}

fn error(status: u16, body: Value) -> Response {
    let mut response = plain(status);
    *response.body_mut() = Body::from(body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
