//! Deepgram's face: `GET /v1/listen`, with the checks of query and key, and what it says to silence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::FaceOptions;
use super::ears::{Connection, EarFault, Ears, Say};

/// Silence on the connection that ends it.
const QUIET: Duration = Duration::from_secs(10);
const KEYS: [&str; 10] = [
    "model",
    "language",
    "encoding",
    "sample_rate",
    "channels",
    "interim_results",
    "endpointing",
    "utterance_end_ms",
    "keyterm",
    "vad_events",
];

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new().route("/v1/listen", get(listen))
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"err_code": code, "err_msg": message, "request_id": "00000000-0000-0000-0000-000000000000"});
    (status, axum::Json(body)).into_response()
}

async fn listen(
    State(options): State<Arc<FaceOptions>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Token "));
    if token.is_none_or(|token| token.is_empty() || token == "invalid") {
        return refusal(StatusCode::UNAUTHORIZED, "INVALID_AUTH", "Invalid credentials.");
    }
    let bad = |message: &str| refusal(StatusCode::BAD_REQUEST, "Bad Request", message);
    if let Some(odd) = query.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return bad(&format!("Unexpected query parameter: {odd}"));
    }
    let is = |key: &str, one_of: &[&str]| query.get(key).is_some_and(|value| one_of.contains(&value.as_str()));
    if !is("language", &["en", "he", "ru", "multi"]) {
        return bad("No such model/language/tier combination found.");
    }
    if !is("encoding", &["mulaw", "linear16"]) || !is("sample_rate", &["8000", "16000"]) {
        return bad("encoding and sample_rate go together.");
    }
    if query.contains_key("utterance_end_ms") && !is("interim_results", &["true"]) {
        return bad("utterance_end_ms needs interim_results.");
    }
    let rate = if is("sample_rate", &["8000"]) { 8000 } else { 16_000 };
    let bytes_a_second = if is("encoding", &["mulaw"]) { rate } else { 2 * rate };
    let mut opening: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    opening.sort();
    let ears = options.ears.clone();
    upgrade.on_upgrade(move |socket| serve(socket, ears, opening.join("&"), bytes_a_second))
}

fn results(text: &str, is_final: bool, from_finalize: bool) -> Message {
    let told = json!({"type": "Results", "channel_index": [0, 1], "duration": 1.0, "start": 0.0, "is_final": is_final,
        "speech_final": is_final, "from_finalize": from_finalize,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.98, "words": []}]}});
    Message::Text(told.to_string().into())
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    // The peer may be gone.
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.to_owned().into() }))).await;
}

async fn serve(mut socket: WebSocket, ears: Ears, opening: String, bytes_a_second: u64) {
    let (mut connection, fault) = ears.connected(opening);
    if let EarFault::Refuse(code) = fault {
        return close(&mut socket, code, "Internal error").await;
    }
    loop {
        let message = match tokio::time::timeout(QUIET, socket.recv()).await {
            Err(_) => {
                let reason =
                    "NET-0001: Deepgram did not receive audio data or a text message within the timeout window.";
                return close(&mut socket, 1011, reason).await;
            }
            Ok(Some(Ok(message))) => message,
            Ok(_) => return,
        };
        let sent = match message {
            Message::Binary(bytes) if bytes.is_empty() => return,
            Message::Binary(bytes) => {
                let sound = Duration::from_micros(bytes.len() as u64 * 1_000_000 / bytes_a_second);
                match connection.heard(sound) {
                    Say::Nothing => Ok(()),
                    Say::Words(words) => socket.send(results(&words, false, false)).await,
                    Say::Garbage => socket.send(Message::Text("{\"type\":".into())).await,
                    Say::Close(code) => return close(&mut socket, code, "").await,
                }
            }
            Message::Text(text) => match control(&mut socket, &mut connection, &text).await {
                Some(sent) => sent,
                None => return,
            },
            Message::Close(_) => return,
            _ => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// `None`: the connection ends.
async fn control(socket: &mut WebSocket, connection: &mut Connection, text: &str) -> Option<Result<(), axum::Error>> {
    let kind = serde_json::from_str::<Value>(text).ok().and_then(|json| json["type"].as_str().map(str::to_owned));
    let kind = kind.unwrap_or_default();
    connection.control(kind.clone());
    match kind.as_str() {
        "KeepAlive" => Some(Ok(())),
        // When there is nothing left, nothing is said.
        "Finalize" if !connection.heard_anything() => Some(Ok(())),
        "Finalize" => {
            let Some((text, after)) = connection.whole() else { return Some(Ok(())) };
            tokio::time::sleep(after).await;
            Some(socket.send(results(&text, true, true)).await)
        }
        "CloseStream" => None,
        _ => {
            close(socket, 1008, "DATA-0000: unparsable message").await;
            None
        }
    }
}
