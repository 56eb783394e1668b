//! An installer's own HTTP interface: takes every request below `/tools/`, remembers it, and answers as ordered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::FaceOptions;

/// Requests that are remembered.
const MOST_SEEN: usize = 1000;

/// How it behaves.
#[derive(Debug, Clone)]
pub struct ToolOptions {
    /// Before the answer.
    pub delay: Duration,
    /// Status of the answer.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// What was asked so far. Clones share it.
    pub seen: Arc<Mutex<Vec<ToolRequest>>>,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRequest {
    /// Its method.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// Its body.
    pub body: String,
}

impl Default for ToolOptions {
    fn default() -> Self {
        Self { delay: Duration::ZERO, status: 200, body: r#"{"status":"shipped"}"#.into(), seen: Arc::default() }
    }
}

impl ToolOptions {
    /// What was asked so far.
    pub fn requests(&self) -> Vec<ToolRequest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new().route("/tools/{*path}", any(answer))
}

async fn answer(
    State(options): State<Arc<FaceOptions>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let options = &options.tools;
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = ToolRequest {
        method: method.to_string(),
        target: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        idempotency_key: field("idempotency-key"),
        authorization: field("authorization"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    {
        let mut seen = options.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST_SEEN {
            seen.push(request);
        }
    }
    tokio::time::sleep(options.delay).await;
    let status = StatusCode::from_u16(options.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "application/json")], options.body.clone()).into_response()
}
