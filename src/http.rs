//! The one shared HTTP client: where it may go, which roots it trusts, and how it keeps connections warm.
//!
//! Plain `http` is for this machine only and needs no certificates; `https` trusts the system's roots and the proxy of the environment.
//! Redirects are not followed: a key must not travel to a host that nobody configured.

mod body;
mod key;
pub mod sse;
mod stamped;

pub(crate) use body::{RequestBody, Sounds};
pub(crate) use key::CurrentKey;
pub(crate) use stamped::Stamped;

use std::net::IpAddr;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use thiserror::Error;

use crate::config::is_private_host;

/// Idle connections stay open for longer than the gap between two turns, or two calls on a busy line.
const POOL_IDLE: Duration = Duration::from_secs(300);
/// Pings on an idle HTTP/2 connection, so that no NAT forgets it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A connection whose peer acknowledges nothing for so long is dead, and must not be taken for the next turn.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// An address or a machine that cannot be used, with the key of the configuration and the remedy.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// Not a URL.
    #[error("{key}: not a URL ({problem}); write it like https://host or http://127.0.0.1:8080")]
    NotAUrl {
        /// Key of the configuration.
        key: &'static str,
        /// What the parser says.
        problem: String,
    },
    /// Plain `http` to another machine.
    #[error(
        "{key}: plain http to {host} would send the caller's voice and the API key unprotected; use https, or a loopback address"
    )]
    Plain {
        /// Key of the configuration.
        key: &'static str,
        /// The host.
        host: String,
    },
    /// Neither `http` nor `https`.
    #[error("{key}: {scheme} is not supported; use https, or http on a loopback address")]
    Scheme {
        /// Key of the configuration.
        key: &'static str,
        /// The scheme.
        scheme: String,
    },
    /// A user name, password, query or fragment in the URL.
    #[error("{key}: a base URL takes no user name, password, query or fragment (keys belong into their own file)")]
    Extra {
        /// Key of the configuration.
        key: &'static str,
    },
    /// TLS is not possible.
    #[error(
        "https is not possible on this machine: {problem}; install the package ca-certificates, or set SSL_CERT_FILE"
    )]
    NoTls {
        /// What the TLS library says.
        problem: String,
    },
}

/// A checked base URL of an outside interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    tls: bool,
    loopback: bool,
}

impl BaseUrl {
    /// Checks a base URL. `key` is its name in the configuration, for the error.
    pub fn parse(key: &'static str, text: &str) -> Result<Self, HttpError> {
        Self::checked(key, text, false)
    }

    /// The same for a server that may stand in the customer's own network: plain `http` is accepted in private networks, too.
    pub fn parse_private(key: &'static str, text: &str) -> Result<Self, HttpError> {
        Self::checked(key, text, true)
    }

    fn checked(key: &'static str, text: &str, private: bool) -> Result<Self, HttpError> {
        let url = Url::parse(text).map_err(|error| HttpError::NotAUrl { key, problem: error.to_string() })?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            scheme => return Err(HttpError::Scheme { key, scheme: scheme.into() }),
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(HttpError::Extra { key });
        }
        let host = url.host_str().unwrap_or_default();
        let loopback = host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let near = loopback || private && is_private_host(host);
        if !tls && !near {
            return Err(HttpError::Plain { key, host: host.into() });
        }
        Ok(Self { text: url.as_str().trim_end_matches('/').into(), tls, loopback })
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether it is on the premises: on this machine, or asked in the clear, which is allowed there only.
    pub fn is_near(&self) -> bool {
        self.loopback || !self.tls
    }

    /// The URL of a path below it; `path` begins with a slash.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

/// The shared client. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Http(Arc<Clients>);

#[derive(Debug)]
struct Clients {
    connect: Duration,
    /// To this machine: no roots, no proxy.
    plain: reqwest::Client,
    /// To the outside; made when the first `https` address is seen, because reading the roots takes time and memory.
    tls: OnceLock<Result<reqwest::Client, HttpError>>,
}

impl Http {
    /// Makes the client; `connect` bounds the time for a cold connection, TLS included.
    pub fn new(connect: Duration) -> Result<Self, HttpError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error says that another part of the program was first; any provider will do.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let plain = builder(connect).no_proxy().tls_certs_only([]).build().map_err(no_tls)?;
        Ok(Self(Arc::new(Clients { connect, plain, tls: OnceLock::new() })))
    }

    /// The client for an address.
    pub(crate) fn to(&self, base: &BaseUrl) -> Result<reqwest::Client, HttpError> {
        if !base.tls {
            return Ok(self.0.plain.clone());
        }
        self.0.tls.get_or_init(|| builder(self.0.connect).https_only(true).build().map_err(no_tls)).clone()
    }
}

fn builder(connect: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("offhook/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        .tcp_user_timeout(DEAD_AFTER)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(DEAD_AFTER)
        .http2_keep_alive_while_idle(true)
}

fn no_tls(error: reqwest::Error) -> HttpError {
    HttpError::NoTls { problem: chain(&error.without_url()) }
}

/// For a path segment, a query value or a form: everything but letters, digits and `-._~` percent-encoded (RFC 3986 §2.3).
pub(crate) fn percent_encoded(text: &str) -> String {
    const REST: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, REST).to_string()
}

/// What stands between the quotation marks of a JSON string.
pub(crate) fn in_json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "gemini.base_url";

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for url in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:9/", "http://127.8.9.10/base"] {
            assert!(BaseUrl::parse(KEY, url).unwrap().is_loopback(), "{url}");
        }
        for url in ["http://example.com", "http://192.168.1.4", "http://localhost.example.com", "http://128.0.0.1"] {
            let error = BaseUrl::parse(KEY, url).unwrap_err();
            assert!(matches!(error, HttpError::Plain { .. }), "{url}: {error}");
            assert!(error.to_string().contains(KEY) && error.to_string().contains("use https"), "{error}");
        }
        assert!(!BaseUrl::parse(KEY, "https://generativelanguage.googleapis.com").unwrap().is_loopback());
    }

    #[test]
    fn a_server_of_the_customers_may_be_asked_in_the_clear_within_private_networks_only() {
        for url in
            ["http://192.168.1.40:11434", "http://10.0.0.1", "http://[fd00::1]:8000", "http://gpu", "http://box.lan"]
        {
            assert!(BaseUrl::parse_private("chat.base_url", url).is_ok(), "{url}");
            assert!(BaseUrl::parse("gemini.base_url", url).is_err(), "{url}");
        }
        for url in ["http://example.com", "http://8.8.8.8", "http://[2001:db8::1]", "http://lan.example.com"] {
            assert!(matches!(BaseUrl::parse_private("chat.base_url", url), Err(HttpError::Plain { .. })), "{url}");
        }
    }

    #[test]
    fn a_base_url_with_a_secret_or_a_strange_scheme_is_refused_and_not_repeated() {
        for url in ["https://user:hunter2@host", "https://host/?key=hunter2", "https://host/#hunter2"] {
            let error = BaseUrl::parse(KEY, url).unwrap_err();
            assert_eq!(error, HttpError::Extra { key: KEY });
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(BaseUrl::parse(KEY, "ftp://host"), Err(HttpError::Scheme { .. })));
        assert!(matches!(BaseUrl::parse(KEY, "generativelanguage"), Err(HttpError::NotAUrl { .. })));
    }

    #[test]
    fn paths_are_joined_with_one_slash() {
        assert_eq!(BaseUrl::parse(KEY, "https://host/").unwrap().at("/v1"), "https://host/v1");
        assert_eq!(BaseUrl::parse(KEY, "https://host/base").unwrap().at("/v1"), "https://host/base/v1");
    }

    #[test]
    fn a_client_for_loopback_needs_no_certificates() {
        let http = Http::new(Duration::from_millis(800)).unwrap();
        assert!(http.to(&BaseUrl::parse(KEY, "http://127.0.0.1:1").unwrap()).is_ok());
        assert!(http.0.tls.get().is_none(), "the roots were read for nothing");
    }
}
