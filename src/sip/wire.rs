//! First look at each message, before the stack: what passes, what is repaired, what is answered without state.
//!
//! The stack is lax or silent where RFC 3261 asks for an answer (RFC 4475 names the cases), and keeps whatever it answers for
//! half a minute, 2 to 23 kB each. So only requests of calls in progress and INVITEs that will become calls go on to it; all
//! else is answered here, the same way each time (§8.2.7). No socket, and the clock is an argument. Not implemented: messages
//! whose lines end in a bare LF (400).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use rsipstack::rsip::{Request, SipMessage};
use tracing::{debug, warn};

use super::answer::{Answers, tag_of};
use super::gate;
use super::head::{Head, MAX_HEADERS, is_request_line, is_token};
use super::inbound::Inbound;
use super::limits::{Class, Limits, RareWarning};
use super::nameaddr::NameAddr;
use super::peers::{Peer, Peers};
use super::repair::{Readable, repair};
use super::{Counter, Counters, Transport};
use crate::config::HeaderCharset;

/// The longest datagram that the stack takes in (its receive buffer).
const MAX_DATAGRAM_BYTES: usize = 8192;
/// The longest message on a stream.
const MAX_STREAM_BYTES: usize = 65_536;
/// What is asked for of callers who come too fast; as long as the bucket needs to fill again.
const RETRY_AFTER_SECONDS: u32 = 2;

/// The methods of which the stack knows the names; any other gets 501.
const METHODS: [&str; 14] = [
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
];

/// Headers that a message has at most one of.
const SINGLE: [&str; 6] = ["from", "to", "call-id", "cseq", "max-forwards", "content-type"];

/// Where a message came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
}

/// What becomes of a message. All of it is counted already.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict<'a> {
    /// The stack gets it, with the repairs that were made.
    Pass { message: Cow<'a, [u8]>, repairs: Vec<Counter> },
    /// This is sent: over the connection that the message came by, else to this address.
    Answer { response: Vec<u8>, to: SocketAddr, why: Counter },
    /// Nothing is answered.
    Drop { why: Counter, what: &'static str },
}

/// Whether another call can be taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// All calls, or all of the trunk's, are in progress.
    Busy,
    /// Too many INVITEs are unanswered or unacknowledged.
    Overloaded,
}

/// What is asked of the calls in progress.
pub(super) trait Calls: Send + Sync {
    /// Whether the agent shuts down.
    fn closing(&self) -> bool;
    /// Whether there is a dialog with this Call-ID and this tag of ours.
    fn has_dialog(&self, call_id: &str, local_tag: &str) -> bool;
    /// Whether this INVITE, by Call-ID, From tag and CSeq, is unanswered or unacknowledged.
    fn has_invite(&self, call_id: &str, from_tag: &str, sequence: u32) -> bool;
    /// What a request outside of any dialog gets.
    fn judge(&self, peer: IpAddr, request: &Request) -> gate::Verdict;
    /// Whether an INVITE from there can become a call.
    fn room(&self, peer: IpAddr, request: &Request) -> Room;
    /// An INVITE from there was refused because there is no room.
    fn refused(&self, peer: SocketAddr, request: &Request);
}

/// The rules that messages are held against.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) silent_to_strangers: bool,
    pub(super) calls_per_second: u32,
    /// Of peers that are no trunk's.
    pub(super) charset: HeaderCharset,
    /// Of each trunk.
    pub(super) charsets: Vec<HeaderCharset>,
    pub(super) user_agent: String,
}

/// The gate of one user agent, for all its sockets and connections.
pub(super) struct WireGate {
    rules: Rules,
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    answers: Answers,
    /// Who must know a password.
    inbound: Option<Inbound>,
    limits: Mutex<Limits>,
    warnings: Mutex<[RareWarning; Counter::ALL.len()]>,
    calls: OnceLock<Weak<dyn Calls>>,
}

/// What is wrong with a message: status, reason phrase, and what it is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault(pub(super) u16, pub(super) &'static str, pub(super) Counter);

pub(super) const fn malformed(what: &'static str) -> Fault {
    Fault(400, what, Counter::Malformed)
}

const OVERLOADED: Fault = Fault(503, "Service Unavailable", Counter::Overload);
const NO_DIALOG: Fault = Fault(481, "Call/Transaction Does Not Exist", Counter::NoDialog);

impl WireGate {
    pub(super) fn new(
        rules: Rules,
        peers: Arc<Peers>,
        counters: Arc<Counters>,
        inbound: Option<Inbound>,
        now: Instant,
    ) -> Self {
        Self {
            answers: Answers::new(rules.user_agent.clone()),
            limits: Mutex::new(Limits::new(now, rules.calls_per_second)),
            warnings: Mutex::new([RareWarning::default(); Counter::ALL.len()]),
            calls: OnceLock::new(),
            rules,
            peers,
            counters,
            inbound,
        }
    }

    /// Connects the gate with the calls; until then every new request gets 503.
    pub(super) fn attach(&self, calls: Weak<dyn Calls>) {
        let _ = self.calls.set(calls);
    }

    /// Judges one message, counts it, and says once in a while why some are refused.
    pub(super) fn inspect<'a>(&self, message: &'a [u8], from: Source, now: Instant) -> Verdict<'a> {
        self.counters.count(Counter::Received);
        let verdict = self.judge(message, from, now);
        match &verdict {
            Verdict::Pass { repairs, .. } => repairs.iter().for_each(|&repair| self.counters.count(repair)),
            Verdict::Answer { response, why, .. } => self.report(*why, first_line(response), from.peer, now),
            Verdict::Drop { why, what } => self.report(*why, what, from.peer, now),
        }
        verdict
    }

    /// What becomes of a request on a stream that cannot go on after it; `message` may be incomplete.
    pub(super) fn refusal(&self, message: &[u8], status: (u16, &'static str), from: Source) -> Option<Vec<u8>> {
        match self.refuse(&Head::split(message), Fault(status.0, status.1, Counter::Framing), &[], from) {
            Verdict::Answer { response, .. } => Some(response),
            Verdict::Pass { .. } | Verdict::Drop { .. } => None,
        }
    }

    /// Counts something that went wrong on the wire.
    pub(super) fn report(&self, why: Counter, what: &str, peer: SocketAddr, now: Instant) {
        self.counters.count(why);
        if why.is_ordinary() {
            return;
        }
        let due = self.warnings.lock().unwrap_or_else(PoisonError::into_inner)[why as usize].due(now);
        match due {
            Some(suppressed) => warn!(%peer, reason = why.name(), suppressed, "SIP message refused: {what}"),
            None => debug!(%peer, reason = why.name(), "SIP message refused: {what}"),
        }
    }

    fn judge<'a>(&self, message: &'a [u8], from: Source, now: Instant) -> Verdict<'a> {
        let peer = from.peer.ip();
        if message.is_empty() {
            return Verdict::Drop { why: Counter::Empty, what: "empty datagram" };
        }
        let who = self.peers.of(peer);
        if message.len() <= 16 && message.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)) {
            let asks = message == b"\r\n\r\n" && who.is_some() && self.limits().admit(peer, Class::Keepalive, now);
            return match asks {
                true => Verdict::Answer { response: b"\r\n".to_vec(), to: from.peer, why: Counter::Keepalive },
                false => Verdict::Drop { why: Counter::Keepalive, what: "keepalive" },
            };
        }
        // RFC 3261 §7.5: empty lines before the start line are ignored.
        let blank = message.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let message = &message[blank..];
        let line = message.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let class = match line.starts_with(b"SIP/") {
            true => Class::Response,
            false if is_request_line(line) => class_of(message),
            false => return Verdict::Drop { why: Counter::Garbage, what: "not a SIP message" },
        };
        let Some(who) = who else {
            return self.judge_stranger(message, class, from, now);
        };
        if !self.limits().admit(peer, class, now) {
            return Verdict::Drop { why: Counter::Flood, what: "too many messages" };
        }
        if class == Class::Response {
            return self.judge_response(message, self.charset_of(Some(who)), from);
        }
        let head = Head::split(message);
        self.judge_request(message, &head, who, from, now).unwrap_or_else(|fault| self.refuse(&head, fault, &[], from))
    }

    /// Callees that we call may answer from anywhere, and whoever is in a call with us may go on; nobody else is heard.
    fn judge_stranger<'a>(&self, message: &'a [u8], class: Class, from: Source, now: Instant) -> Verdict<'a> {
        if class == Class::Response {
            return match self.limits().admit_stranger(now) {
                true => self.judge_response(message, self.charset_of(None), from),
                false => Verdict::Drop { why: Counter::Flood, what: "too many responses from strangers" },
            };
        }
        if class == Class::Dialog && self.limits().admit_stranger(now) {
            // Nobody guesses our tag: who names it is the peer of that call, from wherever it sends (a callee of ours, a proxy's other
            // address, a user agent behind a proxy that does not record its route).
            let head = Head::split(message);
            let tag = head.first("to").and_then(tag_of).unwrap_or_default();
            let calls = self.calls.get().and_then(Weak::upgrade);
            if calls.is_some_and(|calls| calls.has_dialog(head.text("call-id").unwrap_or_default(), &tag)) {
                let judged = self.judge_request(message, &head, Peer::Allowed, from, now);
                return judged.unwrap_or_else(|fault| self.refuse(&head, fault, &[], from));
            }
        }
        if self.rules.silent_to_strangers {
            return Verdict::Drop { why: Counter::RejectedPeer, what: "a request from outside the allowed peers" };
        }
        if !self.limits().answer_stranger(now) {
            return Verdict::Drop { why: Counter::Unanswered, what: "too many strangers to answer each" };
        }
        self.refuse(&Head::split(message), Fault(403, "Forbidden", Counter::RejectedPeer), &[], from)
    }

    fn judge_response<'a>(&self, message: &'a [u8], charset: HeaderCharset, from: Source) -> Verdict<'a> {
        let limit = limit_of(from.transport);
        if message.len() > limit {
            return Verdict::Drop { why: Counter::Oversized, what: "response too long" };
        }
        let head = Head::split(message);
        if !head.start.starts_with(b"SIP/2.0 ") {
            return Verdict::Drop { why: Counter::BadVersion, what: "response of another SIP version" };
        }
        match repair(message, &head, charset, limit) {
            Ok(Readable { bytes, repairs, .. }) => Verdict::Pass { message: bytes, repairs },
            Err(fault) => Verdict::Drop { why: fault.2, what: fault.1 },
        }
    }

    fn judge_request<'a>(
        &self,
        message: &'a [u8],
        head: &Head<'a>,
        who: Peer,
        from: Source,
        now: Instant,
    ) -> Result<Verdict<'a>, Fault> {
        let limit = limit_of(from.transport);
        if message.len() > limit {
            return Err(Fault(513, "Message Too Large", Counter::Oversized));
        }
        check_request(head)?;
        let Readable { bytes, message, repairs } = repair(message, head, self.charset_of(Some(who)), limit)?;
        let SipMessage::Request(request) = message else { return Err(malformed("Bad Request")) };
        let pass = Verdict::Pass { message: bytes, repairs };
        if head.method() == b"ACK" {
            // One that belongs to nothing costs the stack nothing.
            return Ok(match self.answers.is_ack_of_ours(head) {
                true => Verdict::Drop { why: Counter::StatelessAck, what: "the ACK of a stateless response" },
                false => pass,
            });
        }
        let identity = self.answers.identity(head);
        let seen = self.limits().passed.get(identity, now).is_some();
        if seen {
            return Ok(pass);
        }
        let calls = self.calls.get().and_then(Weak::upgrade);
        let call_id = head.text("call-id").unwrap_or_default();
        if head.method() == b"CANCEL" {
            // It may have rung for longer than requests are remembered.
            let tag = head.first("from").and_then(tag_of).unwrap_or_default();
            let rings =
                calls.zip(sequence_of(head)).is_some_and(|(calls, number)| calls.has_invite(call_id, &tag, number));
            return if rings { Ok(pass) } else { Err(NO_DIALOG) };
        }
        if let Some(tag) = head.first("to").and_then(tag_of) {
            if !calls.is_some_and(|calls| calls.has_dialog(call_id, &tag)) {
                return Err(NO_DIALOG);
            }
            let mut limits = self.limits();
            if !limits.take_transaction(now) {
                return Ok(Verdict::Drop { why: Counter::Flood, what: "too many requests in a dialog" });
            }
            limits.passed.insert(identity, 0, now);
            return Ok(pass);
        }
        let calls = calls.filter(|calls| !calls.closing());
        let calls = calls.ok_or(Fault(503, "Service Unavailable", Counter::Closing))?;
        match calls.judge(from.peer.ip(), &request) {
            gate::Verdict::NewCall => {}
            gate::Verdict::InDialog => return Ok(pass),
            gate::Verdict::Respond(status, headers, why) => {
                let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
                let why = why.unwrap_or(Counter::Answered);
                return Ok(match self.answers.make(head, (status.code(), status.text()), &headers, from) {
                    Some((response, to)) => Verdict::Answer { response, to, why },
                    None => Verdict::Drop { why, what: "no Via to answer by" },
                });
            }
        }
        let again = self.limits().refused.get(identity, now);
        let refusal = match again {
            Some(486) => Some(Fault(486, "Busy Here", Counter::Busy)),
            Some(_) => Some(OVERLOADED),
            None => {
                if let (Some(inbound), Peer::Allowed) = (&self.inbound, who)
                    && let Err(challenge) = inbound.check(head, now)
                {
                    let fault = Fault(401, "Unauthorized", Counter::Challenged);
                    return Ok(self.refuse(head, fault, &challenge, from));
                }
                match calls.room(from.peer.ip(), &request) {
                    Room::Busy => Some(Fault(486, "Busy Here", Counter::Busy)),
                    Room::Overloaded => Some(OVERLOADED),
                    Room::Free => (!self.limits().take_call(now)).then_some(OVERLOADED),
                }
            }
        };
        let Some(fault) = refusal else {
            self.limits().passed.insert(identity, 0, now);
            return Ok(pass);
        };
        self.limits().refused.insert(identity, fault.0, now);
        if again.is_none() && fault.2 == Counter::Busy {
            calls.refused(from.peer, &request);
        }
        let headers = match fault.0 {
            503 => vec![format!("Retry-After: {RETRY_AFTER_SECONDS}")],
            _ => vec![],
        };
        Ok(self.refuse(head, fault, &headers, from))
    }

    /// The stateless response, or nothing where none can or may be made.
    fn refuse(&self, head: &Head<'_>, fault: Fault, headers: &[String], from: Source) -> Verdict<'static> {
        let Fault(code, reason, why) = fault;
        // §17.1.1.3: an ACK is never answered.
        if head.method() == b"ACK" {
            return Verdict::Drop { why, what: reason };
        }
        let allow = (code == 501).then(|| format!("Allow: {}", super::shared::ALLOW));
        let headers: Vec<String> = headers.iter().cloned().chain(allow).collect();
        match self.answers.make(head, (code, reason), &headers, from) {
            Some((response, to)) => Verdict::Answer { response, to, why },
            None => Verdict::Drop { why, what: reason },
        }
    }

    fn charset_of(&self, who: Option<Peer>) -> HeaderCharset {
        match who {
            Some(Peer::Trunk(trunk)) => self.rules.charsets.get(trunk).copied().unwrap_or(self.rules.charset),
            _ => self.rules.charset,
        }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_line(response: &[u8]) -> &str {
    std::str::from_utf8(response).ok().and_then(|text| text.lines().next()).unwrap_or("answered")
}

fn limit_of(transport: Transport) -> usize {
    match transport {
        Transport::Udp => MAX_DATAGRAM_BYTES,
        Transport::Tcp | Transport::Tls => MAX_STREAM_BYTES,
    }
}

/// What a request costs, at a glance: whether it says that it belongs to a dialog.
fn class_of(message: &[u8]) -> Class {
    if message.starts_with(b"ACK ") || message.starts_with(b"CANCEL ") {
        return Class::Dialog;
    }
    for line in message.split(|&byte| byte == b'\n').skip(1) {
        let line = line.trim_ascii_end();
        let Some(&first) = line.first() else { break };
        if !matches!(first, b'T' | b't') {
            continue;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = line[..colon].trim_ascii();
        if name.eq_ignore_ascii_case(b"to") || name.eq_ignore_ascii_case(b"t") {
            return match line.windows(4).any(|part| part.eq_ignore_ascii_case(b"tag=")) {
                true => Class::Dialog,
                false => Class::New,
            };
        }
    }
    Class::New
}

/// The faults of RFC 4475 that a server must not let pass, in the order of RFC 3261 §8.2.
fn check_request(head: &Head<'_>) -> Result<(), Fault> {
    let mut words = head.start.split(|byte| byte.is_ascii_whitespace());
    let (method, uri, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    if head.start.windows(2).any(|pair| pair.iter().all(u8::is_ascii_whitespace)) || words.next().is_some() {
        return Err(malformed("Bad Request-Line"));
    }
    if version != Some(b"SIP/2.0") {
        return Err(Fault(505, "Version Not Supported", Counter::BadVersion));
    }
    if !std::str::from_utf8(method).is_ok_and(|method| METHODS.contains(&method)) {
        return Err(Fault(501, "Not Implemented", Counter::Method));
    }
    if head.lines.len() > MAX_HEADERS {
        return Err(malformed("Too Many Headers"));
    }
    let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
    if head.lines.iter().any(|line| !is_token(line.name) || line.whole.iter().any(control)) {
        return Err(malformed("Bad Header Line"));
    }
    let scheme = uri.split(|&byte| byte == b':').next().filter(|scheme| scheme.len() < uri.len());
    let scheme = scheme.filter(|scheme| is_token(scheme)).ok_or(malformed("Bad Request-URI"))?;
    if has_headers(uri) {
        return Err(malformed("Bad Request-URI"));
    }
    // The stack finds no scheme in some that it does not know.
    if !["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes())) {
        return Err(Fault(416, "Unsupported URI Scheme", Counter::Unsupported));
    }
    if head.values("via").next().is_none() {
        return Err(malformed("Missing Via"));
    }
    if head.values("via").any(has_empty_part) {
        return Err(malformed("Bad Via"));
    }
    if SINGLE.iter().any(|name| head.values(name).nth(1).is_some()) {
        return Err(malformed("Repeated Header"));
    }
    head.single("call-id").filter(|id| !id.is_empty()).ok_or(malformed("Missing Call-ID"))?;
    let address = |name: &str, missing| head.single(name).map(String::from_utf8_lossy).ok_or(malformed(missing));
    NameAddr::read(&address("to", "Missing To")?).ok_or(malformed("Bad To"))?;
    let from = address("from", "Missing From")?;
    let from = NameAddr::read(&from).ok_or(malformed("Bad From"))?;
    from.parameter("tag").filter(|tag| !tag.is_empty()).ok_or(malformed("Missing From Tag"))?;
    let cseq = head.single("cseq").ok_or(malformed("Missing CSeq"))?;
    let mut cseq = cseq.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    // §8.1.1.5: less than 2^31.
    cseq.next().and_then(decimal).filter(|&number| number < 1 << 31).ok_or(malformed("Bad CSeq Number"))?;
    if cseq.next() != Some(method) {
        return Err(malformed("CSeq Method Does Not Match"));
    }
    content_length(head).map(|_| ())
}

fn sequence_of(head: &Head<'_>) -> Option<u32> {
    let number = head.first("cseq")?.split(u8::is_ascii_whitespace).next().and_then(decimal)?;
    u32::try_from(number).ok()
}

/// §19.1.5: a Request-URI holds no headers. A `?` may stand in the user part.
fn has_headers(uri: &[u8]) -> bool {
    let sip = [&b"sip:"[..], b"sips:"]
        .iter()
        .any(|scheme| uri.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let host = uri.iter().position(|&byte| byte == b'@').unwrap_or(0);
    sip && uri[host..].contains(&b'?')
}

/// Separators with nothing between them, or nothing behind.
fn has_empty_part(value: &[u8]) -> bool {
    let separator = |byte: u8| matches!(byte, b';' | b',');
    let mut last = b',';
    for &byte in value.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        if separator(byte) && separator(last) {
            return true;
        }
        last = byte;
    }
    separator(last)
}

pub(super) fn content_length(head: &Head<'_>) -> Result<Option<usize>, Fault> {
    let mut values = head.values("content-length");
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != value) {
        return Err(malformed("Repeated Content-Length"));
    }
    decimal(value).map(Some).ok_or(malformed("Bad Content-Length"))
}

fn decimal(text: &[u8]) -> Option<usize> {
    // `parse` alone would take a plus sign.
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
