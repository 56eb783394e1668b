//! WebSockets to outside interfaces (RFC 6455): one connection, opened within a limit, with bounded messages.
//!
//! The URL may hold a key, so it is in no error. Not implemented: proxies, extensions, TLS roots other than the system's.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reqwest::Url;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::http::{BaseUrl, chain};

/// Longest message taken: a second of sound at 24 kHz in base64 is 64 kB.
const LONGEST_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// How long a peer may take to acknowledge that we close.
const FAREWELL: Duration = Duration::from_millis(500);
/// Longest part of a refusal's body that is kept.
const LONGEST_BODY_BYTES: usize = 4096;

/// A message, whole.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

/// What people say stands in messages.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

impl Message {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// Why there is no connection, or none any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// The other side answered the upgrade with something else.
    #[error("refused with HTTP {status}")]
    Refused {
        /// Its status.
        status: u16,
        /// The beginning of its body. It is the peer's, and may repeat what we sent.
        body: String,
    },
    /// The connection was closed, by whichever side.
    #[error("closed with code {code}")]
    Closed {
        /// The code (RFC 6455 §7.4.1); 1005 when there was none, 1006 when the connection just ended.
        code: u16,
        /// The peer's words.
        reason: String,
    },
    /// It took too long.
    #[error("no connection within {} ms", limit.as_millis())]
    Late {
        /// The limit.
        limit: Duration,
    },
    /// The network or TLS failed.
    #[error("{0}")]
    Network(String),
    /// What came is not WebSocket, or too large.
    #[error("{0}")]
    Protocol(String),
}

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects to a path below a base URL; `path_and_query` begins with a slash. Header values are kept out of `Debug`.
    ///
    /// # Errors
    /// When there is no connection within `limit`.
    pub async fn connect(
        base: &BaseUrl,
        path_and_query: &str,
        headers: &[(&'static str, &str)],
        limit: Duration,
    ) -> Result<Self, Broken> {
        let connecting = Self::open(base, path_and_query, headers);
        tokio::time::timeout(limit, connecting).await.unwrap_or(Err(Broken::Late { limit }))
    }

    async fn open(base: &BaseUrl, path_and_query: &str, headers: &[(&'static str, &str)]) -> Result<Self, Broken> {
        let unusable = |what: &str| Broken::Protocol(format!("the {what} cannot be used for a WebSocket"));
        let url = base.at(path_and_query).replacen("http", "ws", 1);
        let parsed = Url::parse(&url).map_err(|_| unusable("URL"))?;
        let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
            return Err(unusable("URL"));
        };
        let mut request = url.as_str().into_client_request().map_err(|_| unusable("URL"))?;
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| unusable("key"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let network = |error: std::io::Error| Broken::Network(error.to_string());
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(network)?;
        tcp.set_nodelay(true).map_err(network)?;
        let connector = match parsed.scheme() {
            "wss" => Connector::Rustls(tls()?),
            _ => Connector::Plain,
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_MESSAGE_BYTES))
            .max_frame_size(Some(LONGEST_MESSAGE_BYTES));
        let (stream, _) =
            client_async_tls_with_config(request, tcp, Some(config), Some(connector)).await.map_err(broken)?;
        Ok(Self { stream })
    }

    /// Sends a message. Not cancel-safe: a connection that was given up here is to be dropped.
    ///
    /// # Errors
    /// When the connection is none any more.
    pub async fn send(&mut self, message: Message) -> Result<(), Broken> {
        let message = match message {
            Message::Text(text) => tungstenite::Message::text(text),
            Message::Binary(bytes) => tungstenite::Message::binary(bytes),
        };
        self.stream.send(message).await.map_err(broken)
    }

    /// The next message; pings are answered meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is none any more, a close by the peer included.
    pub async fn receive(&mut self) -> Result<Message, Broken> {
        loop {
            match self.stream.next().await {
                Some(Ok(tungstenite::Message::Text(text))) => return Ok(Message::Text(text.to_string())),
                Some(Ok(tungstenite::Message::Binary(bytes))) => return Ok(Message::Binary(bytes)),
                Some(Ok(tungstenite::Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(Broken::Closed { code: 1006, reason: String::new() }),
            }
        }
    }

    /// Takes leave, and does not wait for long.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(FAREWELL, self.stream.close(None)).await;
    }
}

fn closed(frame: Option<CloseFrame>) -> Broken {
    match frame {
        Some(CloseFrame { code, reason }) => Broken::Closed { code: code.into(), reason: reason.to_string() },
        None => Broken::Closed { code: CloseCode::Status.into(), reason: String::new() },
    }
}

fn broken(error: tungstenite::Error) -> Broken {
    use tungstenite::Error::{AlreadyClosed, ConnectionClosed, Http, Io, Protocol, Tls, Url};
    match error {
        Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(LONGEST_BODY_BYTES)]).into_owned();
            Broken::Refused { status: response.status().as_u16(), body }
        }
        ConnectionClosed | AlreadyClosed => Broken::Closed { code: 1006, reason: String::new() },
        Io(error) => Broken::Network(chain(&error)),
        Tls(error) => Broken::Network(chain(&error)),
        // It would show the URL.
        Url(_) => Broken::Protocol("the URL cannot be used for a WebSocket".into()),
        Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Broken::Closed { code: 1006, reason: String::new() }
        }
        other => Broken::Protocol(chain(&other)),
    }
}

/// The system's roots; reading them takes time, so it is done once.
fn tls() -> Result<Arc<ClientConfig>, Broken> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, Broken>> = OnceLock::new();
    let make = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let remedy = "the system has no trusted certificates; install the package ca-certificates";
            return Err(Broken::Network(remedy.into()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Broken::Network(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone()
}
