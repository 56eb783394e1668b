//! Counts of what the SIP room refused, repaired and dropped, one reason each.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// One reason why a datagram or a request did not go the ordinary way, or one kind of call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[$doc])* $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of the declaration.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)+];

            /// The name under which a metric shows it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// Datagrams read from the socket.
    Received => "received",
    /// CRLF keepalives (RFC 5626 §4.4.1) and NAT fillers, answered or ignored.
    Keepalive => "keepalive",
    /// Datagrams without a byte.
    Empty => "empty",
    /// Datagrams that are not SIP at all.
    Garbage => "garbage",
    /// Datagrams longer than the stack takes.
    Oversized => "oversized",
    /// Datagrams over the rate that the agent takes on.
    Flood => "flood",
    /// Messages that break the grammar where it matters; answered 400 when the request allows it.
    Malformed => "malformed",
    /// Requests of another SIP version, answered 505.
    BadVersion => "bad_version",
    /// Requests from outside the allowed peers, answered 403 or not at all.
    RejectedPeer => "rejected_peer",
    /// Strangers who did not even get their 403, since too many were due at once.
    Unanswered => "unanswered",
    /// Messages whose header bytes were not UTF-8 and were read in the legacy charset.
    RepairedCharset => "repaired_charset",
    /// Messages without Content-Length, which was put in (RFC 3261 §18.3).
    RepairedLength => "repaired_length",
    /// Messages with blanks and folds that had to go before the stack could read them.
    RepairedBlanks => "repaired_blanks",
    /// Requests outside of any call that were answered as they should, OPTIONS above all.
    Answered => "answered",
    /// ACKs of answers for which nothing was remembered.
    StatelessAck => "stateless_ack",
    /// INVITEs from peers that are no trunk's, answered 401 until they show a password.
    Challenged => "challenged",
    /// INVITEs over the number of calls a second or of unacknowledged ones, answered 503 with Retry-After.
    Overload => "overload",
    /// Requests whose method is unknown (501) or not served (405).
    Method => "method",
    /// Requests that require an extension that is not there, answered 420.
    Extension => "extension",
    /// Requests whose body or Request-URI scheme is not understood, or that take no SDP; answered 415, 416 or 406.
    Unsupported => "unsupported",
    /// Requests for a dialog that does not exist, answered 481.
    NoDialog => "no_dialog",
    /// INVITEs that arrived twice on different paths, answered 482.
    Merged => "merged",
    /// INVITEs refused since all call permits were taken, answered 486.
    Busy => "busy",
    /// INVITEs refused since the agent shuts down or nobody takes calls, answered 503.
    Closing => "closing",
    /// In-dialog requests older than the last one, or more than the dialog can queue, answered 500.
    OutOfOrder => "out_of_order",
    /// Calls offered to the owner of the agent.
    CallsIn => "calls_in",
    /// Calls placed.
    CallsOut => "calls_out",
    /// Calls that ended since no ACK came for the 200.
    NoAck => "no_ack",
    /// Errors that the socket reported.
    SocketError => "socket_error",
    /// TCP and TLS connections taken from peers.
    ConnectionsIn => "connections_in",
    /// TCP and TLS connections made to peers.
    ConnectionsOut => "connections_out",
    /// Connections closed at once, since they came from outside the allowed peers.
    RejectedConnection => "rejected_connection",
    /// Connections closed at once, since there were as many as may be, in all or from one address.
    ConnectionLimit => "connection_limit",
    /// TLS handshakes that failed or took too long, either way.
    Handshake => "handshake",
    /// Connections closed since what came was not SIP or broke the framing.
    Framing => "framing",
    /// Connections closed since a message did not end in time.
    SlowMessage => "slow_message",
    /// Connections closed since the peer did not take what was sent.
    Congested => "congested",
    /// Connections closed since the peer no longer answered pings.
    NoPong => "no_pong",
    /// Requests answered by ourselves with 503, since their connection ended and there was no other.
    FlowFailed => "flow_failed",
}

impl Counter {
    /// Whether it is nothing that anybody should look at.
    pub(super) fn is_ordinary(self) -> bool {
        matches!(self, Counter::Keepalive | Counter::Answered | Counter::StatelessAck | Counter::Challenged)
    }
}

/// The counts of one user agent; all start at nought and never fall.
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; Counter::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Counters {
    /// The present value.
    pub fn of(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }

    /// Every counter with its present value.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.of(counter)))
    }

    pub(super) fn count(&self, counter: Counter) {
        self.values[counter as usize].fetch_add(1, Ordering::Relaxed);
    }
}
