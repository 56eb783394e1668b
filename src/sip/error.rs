//! What can go wrong with a user agent and its calls, and whose fault it is.

use std::net::SocketAddr;

use super::{EndReason, TlsError};

/// Why the user agent or one of its calls could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SipError {
    /// The listening port cannot be had.
    #[error(
        "cannot listen for SIP on UDP {address}: {source}; stop the other SIP program or choose another listen address"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A port for connections cannot be had.
    #[error("cannot listen for SIP on {key} {address}: {source}; stop the other SIP program or choose another address")]
    Listen {
        /// The configuration key that holds the address.
        key: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS cannot be offered to those who connect.
    #[error("cannot listen for SIP over TLS: {0}")]
    Tls(#[from] TlsError),
    /// A trunk's servers cannot be read.
    #[error("trunk {name} cannot be used: {reason}")]
    Trunk {
        /// Its name in the configuration.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The URI to call cannot be read. It is not shown, since it holds a number.
    #[error("the URI to call is not valid ({reason}); it should look like sip:user@host:port")]
    Uri {
        /// What is wrong with it.
        reason: String,
    },
    /// All call permits are taken, or the agent is shutting down.
    #[error("no call can be placed: all {max_calls} permitted calls are in progress, or the agent is shutting down")]
    Full {
        /// The configured limit.
        max_calls: usize,
    },
    /// The peer refused our call.
    #[error("the peer refused the call: {code} {reason}")]
    Refused {
        /// The SIP status code.
        code: u16,
        /// The peer's reason phrase.
        reason: String,
    },
    /// The peer asks who we are, and there is no answer that it takes.
    #[error("the peer does not let us call ({code}): {reason}; check user, auth_id and password of the trunk")]
    Credentials {
        /// 401 or 407.
        code: u16,
        /// What is wrong with the credentials.
        reason: String,
    },
    /// The name of the peer leads nowhere.
    #[error(
        "no server was found to call: {reason}; check domain, registrar and outbound_proxy of the trunk, and the network's DNS"
    )]
    NoTarget {
        /// What was looked up, and what came of it.
        reason: String,
    },
    /// None of the peer's servers could be reached.
    #[error("none of {tried} attempts reached the peer; check the network, the trunk's transport and its port")]
    Unreachable {
        /// INVITEs that were tried.
        tried: usize,
    },
    /// There is no such trunk.
    #[error("there is no trunk named {name:?}; the configuration has {known}")]
    UnknownTrunk {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// Our call was cancelled by ourselves before the answer.
    #[error("the call was cancelled before it was answered")]
    Cancelled,
    /// The call is over; what was asked comes too late.
    #[error("the call is over ({0})")]
    Ended(EndReason),
    /// The stack or the peer's message did not allow to go on.
    #[error("SIP failure: {0}")]
    Failed(String),
}
