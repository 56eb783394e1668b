//! OpenAI's face for whole utterances: `POST /v1/audio/transcriptions`, with the checks of the form and the key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;

use super::FaceOptions;
use super::ears::EarFault;
use crate::pcm::wav;

const FIELDS: [&str; 6] = ["file", "model", "language", "prompt", "response_format", "temperature"];

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new().route("/v1/audio/transcriptions", post(transcribe))
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}});
    (status, axum::Json(body)).into_response()
}

async fn transcribe(State(options): State<Arc<FaceOptions>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if key.is_empty() || key == "invalid" {
        let message = format!("Incorrect API key provided: {key}.");
        return refusal(StatusCode::UNAUTHORIZED, "invalid_api_key", &message);
    }
    let bad = |message: &str| refusal(StatusCode::BAD_REQUEST, "invalid_request", message);
    let boundary = header("content-type").strip_prefix("multipart/form-data; boundary=");
    let Some(fields) = boundary.and_then(|boundary| fields(&body, boundary.trim_matches('"'))) else {
        return bad("Could not parse multipart form");
    };
    if let Some((odd, _)) = fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return bad(&format!("Unrecognized request argument supplied: {odd}"));
    }
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let (Some(file), Some(_)) = (field("file"), field("model")) else {
        return bad("you must provide a model parameter and a file");
    };
    let Ok(sound) = wav::read(file) else {
        return bad("Invalid file format. Supported formats: ['flac', 'm4a', 'mp3', 'wav', 'webm']");
    };
    let text = |name: &str| field(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let opening: Vec<String> = FIELDS[1..].iter().filter_map(|name| Some(format!("{name}={}", text(name)?))).collect();
    let (mut connection, fault) = options.ears.connected(opening.join("&"));
    connection.heard(Duration::from_secs_f64(sound.samples.len() as f64 / f64::from(sound.rate)));
    match fault {
        EarFault::Refuse(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refusal(status, "server_error", "The server had an error while processing your request.");
        }
        EarFault::Garbage => return "{\"text\":".into_response(),
        _ => {}
    }
    let Some((whole, after)) = connection.whole() else { return std::future::pending().await };
    tokio::time::sleep(after).await;
    axum::Json(json!({"text": whole})).into_response()
}

/// The fields of a form (RFC 7578).
fn fields<'b>(body: &'b [u8], boundary: &str) -> Option<Vec<(String, &'b [u8])>> {
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(format!("--{boundary}").as_bytes())?;
    let mut found = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&rest[..head_end]);
        let name = head.split("name=\"").nth(1)?.split('"').next()?.to_owned();
        rest = &rest[head_end + 4..];
        let end = find(rest, delimiter.as_bytes())?;
        found.push((name, &rest[..end]));
        rest = &rest[end + delimiter.len()..];
    }
    Some(found)
}
