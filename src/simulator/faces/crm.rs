//! A CRM: customers by number under `/crm/customers?phone=`, with a key in `Authorization`, and faults to order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::FaceOptions;

/// How the CRM behaves.
#[derive(Debug, Clone, Default)]
pub struct CrmOptions {
    /// Customers by the number as it is asked for.
    pub customers: BTreeMap<String, Value>,
    /// The token that is expected as `Authorization: Bearer`; empty: none is.
    pub key: String,
    /// Time before the answer.
    pub delay: Duration,
    /// Each answer takes a permit of it.
    pub gate: Option<Arc<Semaphore>>,
    /// What goes wrong.
    pub fault: Option<CrmFault>,
    /// What was asked; clones share it.
    pub seen: CrmSeen,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrmFault {
    /// HTTP 500 with a page of HTML.
    ServerError,
    /// HTTP 404 for everybody.
    NotFound,
    /// An empty answer.
    Empty,
    /// Never an answer.
    Hang,
    /// Something that is not JSON.
    Garbage,
    /// An answer that does not end.
    Huge,
    /// Every customer for every number.
    Everybody,
}

/// Numbers that were asked for, and when.
#[derive(Debug, Clone, Default)]
pub struct CrmSeen(Arc<Mutex<Vec<(Instant, String)>>>);

impl CrmSeen {
    /// All of them, first to last.
    pub fn all(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new().route("/crm/customers", get(customers))
}

async fn customers(
    State(options): State<Arc<FaceOptions>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let crm = &options.crm;
    let phone = query.get("phone").cloned().unwrap_or_default();
    crm.seen.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), phone.clone()));
    let key = headers.get(header::AUTHORIZATION).and_then(|key| key.to_str().ok());
    if !crm.key.is_empty() && key.and_then(|key| key.strip_prefix("Bearer ")) != Some(&crm.key) {
        return (StatusCode::UNAUTHORIZED, "{\"error\":\"invalid token\"}").into_response();
    }
    tokio::time::sleep(crm.delay).await;
    if let Some(gate) = &crm.gate
        && let Ok(permit) = gate.acquire().await
    {
        permit.forget();
    }
    let json = |value: Value| ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response();
    match crm.fault {
        Some(CrmFault::ServerError) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "<html>Internal Server Error</html>").into_response()
        }
        Some(CrmFault::NotFound) => (StatusCode::NOT_FOUND, "{\"error\":\"no such customer\"}").into_response(),
        Some(CrmFault::Empty) => StatusCode::OK.into_response(),
        Some(CrmFault::Hang) => std::future::pending().await,
        Some(CrmFault::Garbage) => "{\"data\": [{\"name\": \"Da".into_response(),
        Some(CrmFault::Huge) => Body::from(vec![b' '; 8 << 20]).into_response(),
        Some(CrmFault::Everybody) => json(json!({ "data": crm.customers.values().collect::<Vec<_>>() })),
        None => json(json!({ "data": crm.customers.get(&phone).into_iter().collect::<Vec<_>>() })),
    }
}
