//! The edge of the SIP room without sockets, for tests: what becomes of a message, and who an INVITE says calls.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rsipstack::rsip::Request;

use super::framing::{Frame, Framing};
use super::gate;
use super::identity::Identification;
use super::inbound::{Inbound, InboundUsers};
use super::nameaddr::split_list;
use super::peers::Peers;
use super::wire::{Calls, Room, Rules, Source, Verdict, WireGate};
use super::{Caller, Counter, DialogRules, Transport};
use crate::config::{HeaderCharset, IdentityHeader};
use crate::number::Country;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The stack gets it, repaired.
    Delivered(Vec<u8>),
    /// It is answered without state: the status and the response.
    Answered(u16, Vec<u8>),
    /// Nothing is answered.
    Dropped(Counter),
}

/// A gate with room for calls, one trunk at 192.0.2.0/24, and callers at 198.51.100.0/24 who must know a password.
pub struct Edge {
    gate: WireGate,
    _line: Arc<Line>,
    now: Instant,
}

struct Line;

impl Calls for Line {
    fn closing(&self) -> bool {
        false
    }

    fn has_dialog(&self, _call_id: &str, local_tag: &str) -> bool {
        local_tag == "ours"
    }

    fn has_invite(&self, call_id: &str, _from_tag: &str, _sequence: u32) -> bool {
        call_id == "ours"
    }

    fn judge(&self, _peer: IpAddr, request: &Request) -> gate::Verdict {
        gate::judge(request, &DialogRules::default())
    }

    fn room(&self, _peer: IpAddr, _request: &Request) -> Room {
        Room::Free
    }

    fn refused(&self, _peer: SocketAddr, _request: &Request) {}
}

impl Default for Edge {
    fn default() -> Self {
        let now = Instant::now();
        let net = |text: &str| text.parse().ok().into_iter().collect::<Vec<_>>();
        let peers = Peers::new(net("198.51.100.0/24"), vec![net("192.0.2.0/24")]);
        let rules = Rules {
            silent_to_strangers: true,
            calls_per_second: 30,
            charset: HeaderCharset::Windows1252,
            charsets: vec![HeaderCharset::Windows1255],
            user_agent: "offhook/edge".into(),
        };
        let inbound = InboundUsers::parse("anna:secret").ok().map(|users| Inbound::new(users, "offhook", now));
        let line = Arc::new(Line);
        let gate = WireGate::new(rules, Arc::new(peers), Arc::default(), inbound, now);
        let calls: Weak<dyn Calls> = Arc::downgrade(&line) as _;
        gate.attach(calls);
        Self { gate, _line: line, now }
    }
}

impl Edge {
    /// An address of the trunk.
    pub const TRUNK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5060);
    /// The address of a peer that is allowed and no trunk's.
    pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 5060);

    /// Judges a datagram; a second passes between two, so that no rate is exceeded.
    pub fn judge(&mut self, datagram: &[u8], peer: SocketAddr) -> Outcome {
        self.now += Duration::from_secs(1);
        match self.gate.inspect(datagram, Source { peer, transport: Transport::Udp }, self.now) {
            Verdict::Pass { message, .. } => Outcome::Delivered(message.into_owned()),
            Verdict::Answer { response, .. } => {
                let status = response.get(8..11).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                Outcome::Answered(status.unwrap_or(0), response)
            }
            Verdict::Drop { why, .. } => Outcome::Dropped(why),
        }
    }
}

/// Who calls, as header lines without folds say to a trunk in this country that believes P-Asserted-Identity, Remote-Party-ID
/// and From, in this order.
pub fn caller(lines: &str, country: &str) -> Caller {
    let headers = [IdentityHeader::PAssertedIdentity, IdentityHeader::RemotePartyId, IdentityHeader::From];
    let identification = Identification { headers: &headers, trusted: true, country: Country::find(country) };
    let headers = lines.lines().filter_map(|line| line.split_once(':'));
    identification.caller(headers.map(|(name, value)| (name.trim(), value.trim())))
}

/// What a stream is cut into whose bytes come in these pieces: the messages, keepalives being empty, and the fault that ends it.
pub fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let now = Instant::now();
    let (mut framing, mut messages) = (Framing::new(now), Vec::new());
    for piece in pieces {
        framing.handle_input(now, piece);
        while let Some(frame) = framing.poll(now) {
            match frame {
                Ok(Frame::Message(message)) => messages.push(message),
                Ok(Frame::Ping | Frame::Pong) => messages.push(Vec::new()),
                Err(fault) => return (messages, Some(fault.to_string())),
            }
        }
    }
    (messages, None)
}

/// The values of a list, as the quote-aware reader splits them.
pub fn values(list: &str) -> Vec<&str> {
    split_list(list).collect()
}

/// What the digest client makes of a challenge, and the server of an answer; only that it comes back counts.
pub fn digest(challenge: &str, authorization: &str) {
    use super::digest::{Challenger, Credentials, Exchange};
    let secret = crate::privacy::Secret::new("secret");
    let mut credentials = Credentials::new("anna", secret.clone());
    let mut exchange = Exchange::default();
    for name in ["WWW-Authenticate", "Proxy-Authenticate"] {
        credentials.challenged(&mut exchange, [(name, challenge)]);
        credentials.authorize(&mut exchange, "INVITE", "sip:620@box", b"v=0\r\n");
    }
    credentials.answered([("Authentication-Info", challenge)]);
    let now = Instant::now();
    let mut challenger = Challenger::new("offhook", now);
    challenger.verify(now, "INVITE", "sip:620@box", [authorization], "anna", &secret);
}
