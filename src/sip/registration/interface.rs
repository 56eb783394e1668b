//! What a registration is told, and what it wants done.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Target;
use crate::config::Keepalive;

/// How a trunk registers.
#[derive(Debug, Clone)]
pub(in crate::sip) struct RegistrationOptions {
    /// False: `ip-auth`; the other side knows our address.
    pub(in crate::sip) registers: bool,
    /// The Request-URI: the domain as `sip:DOMAIN`.
    pub(in crate::sip) uri: String,
    /// The user part of our Contact, escaped as a URI wants it.
    pub(in crate::sip) contact_user: String,
    /// `+sip.instance`: a URN that stays the same over restarts.
    pub(in crate::sip) instance: String,
    /// Asked for.
    pub(in crate::sip) expires: Duration,
    /// What is sent between registrations.
    pub(in crate::sip) keepalive: Keepalive,
    /// How often.
    pub(in crate::sip) keepalive_interval: Duration,
    /// Whether Contact follows what the other side sees (`received` and `rport`); false with a configured address.
    pub(in crate::sip) learns_address: bool,
    /// Of the jitter.
    pub(in crate::sip) seed: u64,
}

/// What is in a response that a registration looks at.
#[derive(Debug, Clone, Default)]
pub(in crate::sip) struct Response {
    /// The status code; provisional responses are not told.
    pub(in crate::sip) status: u16,
    /// `received` and `rport` of the top Via.
    pub(in crate::sip) seen_as: Option<SocketAddr>,
    /// The values of the Contact headers, one for each address, each with its URI's parameters and its own.
    pub(in crate::sip) contacts: Vec<String>,
    /// Expires.
    pub(in crate::sip) expires: Option<Duration>,
    /// Min-Expires.
    pub(in crate::sip) min_expires: Option<Duration>,
    /// Retry-After.
    pub(in crate::sip) retry_after: Option<Duration>,
    /// Service-Route, in order.
    pub(in crate::sip) service_route: Vec<String>,
    /// P-Associated-URI.
    pub(in crate::sip) associated_uris: Vec<String>,
    /// WWW-Authenticate, Proxy-Authenticate, Authentication-Info: name and value.
    pub(in crate::sip) authentication: Vec<(String, String)>,
}

/// What happens to a registration.
#[derive(Debug, Clone)]
pub(in crate::sip) enum Input {
    /// What the trunk's names stand for, the best first.
    Targets(Vec<Target>),
    /// They stand for nothing, or nobody says for what.
    NotResolved,
    /// The target of [`Output::Reach`] is reached; `shown` is our address as it is to see it.
    Reached { attempt: u64, shown: SocketAddr },
    /// The target cannot be reached, or the transport lost the request.
    Failed { attempt: u64 },
    /// The final response.
    Response { attempt: u64, response: Response },
    /// The connection to a target is gone.
    FlowLost(Target),
    /// Our interfaces or addresses have changed.
    AddressesChanged,
    /// Remove the binding and end.
    Stop,
}

/// Which request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sip) enum Kind {
    Register,
    Options,
}

/// One request, all but the headers that every request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sip) struct Request {
    pub(in crate::sip) attempt: u64,
    pub(in crate::sip) kind: Kind,
    pub(in crate::sip) target: Target,
    /// The number in CSeq.
    pub(in crate::sip) sequence: u32,
    /// Values for Contact headers.
    pub(in crate::sip) contacts: Vec<String>,
    /// Expires in seconds.
    pub(in crate::sip) expires: Option<u64>,
    /// Authorization and Proxy-Authorization.
    pub(in crate::sip) authorization: Vec<(&'static str, String)>,
}

/// The line is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sip) struct Up {
    /// Which target has us.
    pub(in crate::sip) target: Target,
    /// When the registration ends if it is not refreshed; none without one.
    pub(in crate::sip) until: Option<Instant>,
    /// The route for requests that leave over this trunk (RFC 3608).
    pub(in crate::sip) service_route: Vec<String>,
    /// The addresses of record that are ours (RFC 7315 §4.1).
    pub(in crate::sip) associated_uris: Vec<String>,
}

/// Why the line is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sip) enum Why {
    /// The answer to a fresh challenge was refused.
    WrongPassword,
    /// The other side asks for a password, and none is configured.
    NoPassword,
    /// It asks for what is not known here: the algorithms or schemes.
    Unsupported(Vec<String>),
    /// Another refusal.
    Refused(u16),
    /// A server is there and does not serve: it says this status.
    Unserved(u16),
    /// No target answers, or all of them are out of service.
    Unreachable,
    /// The names stand for nothing.
    NotResolved,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sip) enum Output {
    /// Look the trunk's names up; what is still under way of an earlier look-up is void.
    Resolve,
    /// Find or make a connection.
    Reach {
        attempt: u64,
        target: Target,
    },
    /// Send over what was reached.
    Send(Request),
    /// The attempt is over for the machine, whatever still comes of it.
    Abandon {
        attempt: u64,
    },
    /// A connection on which nothing was answered is not to be used again.
    Discard(Target),
    /// A target did not do its service: others are to come before it for a while.
    Penalise(Target),
    /// How a target sees us.
    SeenAs {
        target: Target,
        address: SocketAddr,
    },
    /// An empty line to this target.
    Keepalive(Target),
    Up(Up),
    /// Said once for each reason.
    Down(Why),
    /// The end.
    Stopped,
}
