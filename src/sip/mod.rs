//! The SIP user agent: registers trunks, takes and places calls over UDP, TCP and TLS (RFC 3261 and what docs/line.md names), behind a
//! face of our own types.
//!
//! ```text
//!   message ─► wire (peers, rates, grammar, repairs; 4xx and 5xx, and OPTIONS, without state) ─► rsipstack transactions
//!           ─► gate (whose call, 482) ─► one task a call ◄─ channels ─► IncomingCall / Dialog
//! ```
//!
//! [`UserAgent::start`] gives the agent and a bounded channel of [`IncomingCall`]s. An incoming call is rung, answered
//! (which makes it a [`Dialog`]) or rejected; [`UserAgent::invite`] places one. Callers need to know nothing of
//! cancel-safety: each transaction is owned by one task in here, every future of the face may be dropped at any point,
//! and dropping a handle ends what it stands for: an unanswered call is refused with 480, a call being placed is
//! cancelled, a dialog gets its BYE. SDP is carried as opaque bytes.
//!
//! Nothing outside this module names `rsipstack`. That crate logs whole messages, numbers and credentials included, at
//! INFO: **whoever sets up logging must filter the target `rsipstack` to `warn`.**
//!
//! Not implemented: multipart bodies (415). Each peer is shown the address that it sees or that the route to it leaves from (`stamp`).

mod addresses;
mod agent;
mod answer;
mod attempts;
mod authorizer;
mod branch;
mod call;
mod certificate;
mod connection;
mod counters;
mod dialog;
mod digest;
mod error;
mod fields;
mod framing;
mod gate;
mod head;
mod identity;
mod inbound;
mod interfaces;
mod large;
mod limits;
mod nameaddr;
mod outgoing;
mod peers;
mod probe;
mod registration;
mod reliable;
mod repair;
mod replaces;
mod resolve;
mod rules;
mod session_timer;
mod shared;
mod socket;
mod stamp;
mod streams;
mod target;
mod tls;
mod transfer;
mod trunk;
mod warning;
mod wire;

pub mod edge;
pub use agent::{Timers, UserAgent, UserAgentOptions};
pub use certificate::PeerCertificate;
pub use counters::{Counter, Counters};
pub use dialog::{
    ByeReason, Dialog, DialogEvent, EndReason, IncomingCall, Offer, OutgoingCall, Progress, RefusedCall, Rejection,
};
pub use error::SipError;
pub use identity::Caller;
pub use inbound::{InboundUsers, InboundUsersError};
pub use outgoing::{Dial, OutgoingTrunk};
pub use probe::{Answer, Probe, Verdict, branch_of};
pub use resolve::{Query, Record, ResolveError, Resolved, Resolver, ResolverOptions, Source};
pub use rules::DialogRules;
pub use target::{Target, Transport};
pub use tls::{ByteStream, TlsError, TlsSettings, connect as connect_tls, probe as probe_tls};
pub use transfer::{ReferReports, Referred, Transfer, TransferEvent};
pub use trunk::{TrunkHandle, TrunkOptions, TrunkState};
pub use warning::Warning;

#[cfg(test)]
mod tests;
