//! Requests that are too large for a datagram go over TCP, and over UDP where TCP is refused (RFC 3261 §18.1.1).
//!
//! The stack knows nothing of it: it sends a datagram, and a request of more than 1300 bytes is put on a connection
//! instead, under the same branch. Its retransmissions are swallowed as long as the connection is up; CANCEL and ACK of
//! the same transaction follow it, since their Via must be the same. A peer that takes no TCP is remembered for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::Flow;

/// A request that is longer goes over TCP.
pub(super) const DATAGRAM_BYTES: usize = 1300;
/// How long a peer that took no TCP is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// How long an answer may take before the request goes out as a datagram, too.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a transaction is remembered, and how many of each kind are.
const REMEMBERED_FOR: Duration = Duration::from_secs(64);
const REMEMBERED: usize = 256;

/// What is known of large requests.
#[derive(Default)]
pub(super) struct LargeRequests {
    refused: HashMap<SocketAddr, Instant>,
    /// By branch.
    sent: HashMap<Vec<u8>, (Instant, Flow)>,
}

/// What becomes of a datagram.
#[expect(clippy::large_enum_variant, reason = "made once for a large request, and not kept")]
pub(super) enum Way {
    /// It stays one.
    Datagram,
    /// It goes over this connection.
    Over(Flow),
    /// It is on its way already.
    Swallowed,
    /// It should go over a connection that is to be made.
    Connect,
}

impl LargeRequests {
    /// How a request to `peer` goes.
    pub(super) fn way(&mut self, request: &[u8], peer: SocketAddr, now: Instant) -> Way {
        if !self.sent.is_empty()
            && let Some((sent_at, flow)) = top_branch(request).and_then(|branch| self.sent.get(branch))
        {
            let live = !flow.closed.is_cancelled();
            let late = now.saturating_duration_since(*sent_at) > ANSWER_PATIENCE;
            let follows = request.starts_with(b"CANCEL ") || request.starts_with(b"ACK ");
            return match (live, follows, late) {
                (true, true, _) => Way::Over(flow.clone()),
                (true, false, false) => Way::Swallowed,
                (true, false, true) | (false, ..) => {
                    self.refused(peer, now);
                    Way::Datagram
                }
            };
        }
        let refused = self.refused.get(&peer).is_some_and(|at| now.saturating_duration_since(*at) < REFUSED_FOR);
        if request.len() > DATAGRAM_BYTES && !refused { Way::Connect } else { Way::Datagram }
    }

    /// A request went over a connection.
    pub(super) fn sent(&mut self, request: &[u8], flow: Flow, now: Instant) {
        self.sent.retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBERED_FOR);
        if let Some(branch) = top_branch(request).filter(|_| self.sent.len() < REMEMBERED) {
            self.sent.insert(branch.to_owned(), (now, flow));
        }
    }

    /// A peer takes no TCP, or does not answer over it.
    pub(super) fn refused(&mut self, peer: SocketAddr, now: Instant) {
        if self.refused.len() >= REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(peer, now);
    }
}

/// The branch of the first Via of a message that the stack has made.
fn top_branch(message: &[u8]) -> Option<&[u8]> {
    let mut lines = message.split(|&byte| byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty());
    let via = lines.find(|line| line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"via:")))?;
    let mut parameters = via.trim_ascii_end().split(|&byte| byte == b';');
    parameters.find_map(|parameter| parameter.trim_ascii().strip_prefix(b"branch="))
}
