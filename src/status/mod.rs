//! What the box tells of itself over HTTP: `/metrics` for Prometheus, `/healthz` for a supervisor.
//!
//! Off unless `[status] listen` says where. It is read-only, asks no password and tells no secret, no number and nothing that was said.
//! Connections are bounded in number and age, and a request must name this machine as its host. Not implemented: a page for people, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::media::MediaCounters;

mod doorway;
mod host;
mod metrics;

use doorway::Doorway;
use host::Hosts;
pub use metrics::{Metrics, Readings};

/// The media thread wakes every 20 ms at the latest; one that has not for so long stands still.
const STANDSTILL: Duration = Duration::from_millis(300);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);
/// How the text is announced: what Prometheus asks for and calls OpenMetrics.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why nothing can be told.
#[derive(Debug, Error)]
#[error(
    "cannot listen for HTTP on [status] listen {address}: {source}; stop the other program or choose another address"
)]
pub struct StatusError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// What answers.
pub struct StatusPage {
    listener: TcpListener,
    address: SocketAddr,
    longest_connection: Duration,
}

impl StatusPage {
    /// Takes the port.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, StatusError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            Ok(Self { address: listener.local_addr()?, listener, longest_connection: doorway::LONGEST })
        };
        bound.await.map_err(|source| StatusError { address, source })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let hosts = Arc::new(Hosts::of_this_machine());
        info!(address = %self.address, "tells its state over HTTP");
        let pages = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(show_health))
            .layer(middleware::from_fn_with_state(hosts, check_host))
            .with_state(metrics);
        let doorway = Doorway::new(self.listener, self.longest_connection);
        let served = axum::serve(doorway, pages).with_graceful_shutdown(async move { stop.cancelled().await }).await;
        if let Err(error) = served {
            warn!(%error, "the state is no longer told");
        }
    }
}

/// A page of another site must not read this through the visitor's browser, by a name that leads here (DNS rebinding).
async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    match host.is_none_or(|host| hosts.are_ours(host)) {
        true => next.run(request).await,
        false => {
            let remedy = "not a name of this machine; ask by its address, as localhost, or by its host name\n";
            (StatusCode::MISDIRECTED_REQUEST, remedy).into_response()
        }
    }
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(header::CONTENT_TYPE, FORMAT)], metrics.text()).into_response()
}

async fn show_health(State(metrics): State<Arc<Metrics>>) -> Response {
    match ticks(metrics.media()).await {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the media thread stands still\n").into_response(),
    }
}

/// Whether the media thread wakes.
async fn ticks(media: &MediaCounters) -> bool {
    let seen = media.wakes.load(Relaxed);
    let wakes = async {
        while media.wakes.load(Relaxed) == seen {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(STANDSTILL, wakes).await.is_ok()
}

#[cfg(test)]
mod tests;
