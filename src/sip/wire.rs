//! First look at each datagram, before the stack: what passes, what is repaired, what is answered without state.
//!
//! The stack is lax or silent where RFC 3261 asks for an answer (RFC 4475 names the cases), loses a body without
//! Content-Length (§18.3 says: the rest of the datagram), and loses a message whose header bytes are not UTF-8.
//! Pure: no socket, no clock. Not implemented: bare-LF messages and blanks around the `=` of a
//! tag (`wsinv` of RFC 4475), which the stack cannot read: both get 400.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use ipnet::IpNet;
use rsipstack::rsip::SipMessage;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};

use super::Counter;

/// The longest message that the stack takes in (its receive buffer).
pub(super) const MAX_MESSAGE_BYTES: usize = 8192;
/// The most header lines in a message; honest ones have about twenty.
const MAX_HEADERS: usize = 200;

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

/// In which charset header bytes that are not UTF-8 are read; old PBXes send display names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderCharset {
    /// Hebrew.
    #[default]
    Windows1255,
    /// Cyrillic.
    Windows1251,
    /// Western Europe, a superset of Latin-1.
    Windows1252,
}

impl HeaderCharset {
    fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        let encoding = match self {
            HeaderCharset::Windows1255 => encoding_rs::WINDOWS_1255,
            HeaderCharset::Windows1251 => encoding_rs::WINDOWS_1251,
            HeaderCharset::Windows1252 => encoding_rs::WINDOWS_1252,
        };
        encoding.decode_without_bom_handling(bytes).0
    }
}

/// What becomes of a datagram.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict<'a> {
    /// The stack gets it, with the repairs that were made.
    Pass { message: Cow<'a, [u8]>, repairs: Vec<Counter> },
    /// This goes back to where it came from.
    Answer { response: Vec<u8>, why: Counter },
    /// Nothing is answered.
    Drop { why: Counter, what: &'static str },
}

/// The rules that datagrams are held against.
#[derive(Debug)]
pub(super) struct WireGate {
    pub(super) allowed_peers: Vec<IpNet>,
    pub(super) charset: HeaderCharset,
    pub(super) user_agent: String,
}

/// The parts of a message that are looked at, as raw bytes.
#[derive(Default)]
struct Head<'a> {
    start: &'a [u8],
    /// Logical header lines: lower-case long name, value with its folds, the whole line.
    headers: Vec<(String, &'a [u8], &'a [u8])>,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault(u16, &'static str, Counter);

const fn malformed(what: &'static str) -> Fault {
    Fault(400, what, Counter::Malformed)
}

impl WireGate {
    /// Judges one datagram from `peer`.
    pub(super) fn inspect<'a>(&self, datagram: &'a [u8], peer: SocketAddr) -> Verdict<'a> {
        if datagram.is_empty() {
            return Verdict::Drop { why: Counter::Empty, what: "empty datagram" };
        }
        let allowed = self.allows(peer);
        if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)) && datagram.len() <= 16 {
            return match allowed && datagram == b"\r\n\r\n" {
                true => Verdict::Answer { response: b"\r\n".to_vec(), why: Counter::Keepalive },
                false => Verdict::Drop { why: Counter::Keepalive, what: "keepalive" },
            };
        }
        // RFC 3261 §7.5: empty lines before the start line are ignored.
        let blank = datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let message = &datagram[blank..];
        let line = message.split(|&byte| byte == b'\n').next().unwrap_or_default();
        if line.starts_with(b"SIP/") {
            return self.inspect_response(message);
        }
        if !mentions_sip(line) {
            return Verdict::Drop { why: Counter::Garbage, what: "not a SIP message" };
        }
        let (head, body_at) = split_head(message);
        if !allowed {
            let fault = Fault(403, "Forbidden", Counter::RejectedPeer);
            return self.refuse(&head, fault, peer);
        }
        if message.len() > MAX_MESSAGE_BYTES {
            return self.refuse(&head, Fault(513, "Message Too Large", Counter::Oversized), peer);
        }
        let checked = check_request(&head).and_then(|()| self.repair(message, &head, body_at));
        match checked {
            Ok((message, repairs)) => Verdict::Pass { message, repairs },
            Err(fault) => self.refuse(&head, fault, peer),
        }
    }

    /// What becomes of a request on a stream that cannot go on after it; `message` may be incomplete.
    pub(super) fn refusal(&self, message: &[u8], status: (u16, &'static str), peer: SocketAddr) -> Option<Vec<u8>> {
        match self.refuse(&split_head(message).0, Fault(status.0, status.1, Counter::Framing), peer) {
            Verdict::Answer { response, .. } => Some(response),
            Verdict::Pass { .. } | Verdict::Drop { .. } => None,
        }
    }

    /// Whether requests from there are taken at all.
    pub(super) fn allows(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.allowed_peers.iter().any(|net| net.contains(&ip))
    }

    fn inspect_response<'a>(&self, message: &'a [u8]) -> Verdict<'a> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Verdict::Drop { why: Counter::Oversized, what: "response too long" };
        }
        let (head, body_at) = split_head(message);
        if !head.start.starts_with(b"SIP/2.0 ") {
            return Verdict::Drop { why: Counter::BadVersion, what: "response of another SIP version" };
        }
        match self.repair(message, &head, body_at) {
            Ok((message, repairs)) => Verdict::Pass { message, repairs },
            Err(fault) => Verdict::Drop { why: fault.2, what: fault.1 },
        }
    }

    /// Puts Content-Length in and legacy charsets right, and makes sure that the stack will not lose the message.
    fn repair<'a>(
        &self,
        message: &'a [u8],
        head: &Head<'a>,
        body_at: Option<usize>,
    ) -> Result<(Cow<'a, [u8]>, Vec<Counter>), Fault> {
        let body_at = body_at.ok_or(malformed("Headers Not Terminated"))?;
        let body = &message[body_at..];
        let missing_length = match content_length(head)? {
            Some(length) if length > body.len() => return Err(malformed("Body Shorter Than Content-Length")),
            Some(_) => false,
            None => true,
        };
        let foreign = std::str::from_utf8(&message[..body_at]).is_err();
        let mut repairs = Vec::new();
        let mut repaired = Cow::Borrowed(message);
        if missing_length || foreign {
            let mut text = Vec::with_capacity(message.len() + 64);
            for line in std::iter::once(head.start).chain(head.headers.iter().map(|(_, _, line)| *line)) {
                match std::str::from_utf8(line) {
                    Ok(_) => text.extend_from_slice(line),
                    Err(_) => text.extend_from_slice(self.charset.decode(line).as_bytes()),
                }
                text.extend_from_slice(b"\r\n");
            }
            if missing_length {
                text.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
                repairs.push(Counter::RepairedLength);
            }
            if foreign {
                repairs.push(Counter::RepairedCharset);
            }
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(body);
            repaired = Cow::Owned(text);
        }
        if repaired.len() > MAX_MESSAGE_BYTES {
            return Err(Fault(513, "Message Too Large", Counter::Oversized));
        }
        // What the stack cannot read it drops without a word; its own reader has the last say.
        let readable = match SipMessage::try_from(&repaired[..]) {
            Ok(SipMessage::Request(request)) => TransactionKey::from_request(&request, TransactionRole::Server).is_ok(),
            Ok(SipMessage::Response(response)) => {
                TransactionKey::from_response(&response, TransactionRole::Client).is_ok()
            }
            Err(_) => false,
        };
        match readable {
            true => Ok((repaired, repairs)),
            false => Err(malformed("Bad Request")),
        }
    }

    /// The stateless response (RFC 3261 §8.2.7), or nothing where none can or may be made.
    fn refuse(&self, head: &Head<'_>, fault: Fault, peer: SocketAddr) -> Verdict<'static> {
        let Fault(code, reason, why) = fault;
        // §17.1.1.3: an ACK is never answered.
        if head.start.starts_with(b"ACK ") {
            return Verdict::Drop { why, what: reason };
        }
        match self.response(head, code, reason, peer) {
            Some(response) => Verdict::Answer { response, why },
            None => Verdict::Drop { why, what: reason },
        }
    }

    fn response(&self, head: &Head<'_>, code: u16, reason: &str, peer: SocketAddr) -> Option<Vec<u8>> {
        let mut response = format!("SIP/2.0 {code} {reason}\r\n").into_bytes();
        let mut push = |name: &str, value: &[u8]| {
            response.extend_from_slice(name.as_bytes());
            response.extend_from_slice(b": ");
            // A fold that is copied is one space (§7.3.1).
            response.extend(value.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
            response.extend_from_slice(b"\r\n");
        };
        let mut vias = head.values("via");
        push("Via", &stamp_via(vias.next()?, peer));
        vias.for_each(|via| push("Via", via));
        push("From", head.single("from")?);
        let to = head.single("to")?;
        if to.windows(4).any(|part| part.eq_ignore_ascii_case(b"tag=")) {
            push("To", to);
        } else {
            // The same request must get the same tag each time.
            let mut hasher = DefaultHasher::new();
            (head.single("call-id"), head.values("via").next(), head.single("cseq")).hash(&mut hasher);
            push("To", &[to, format!(";tag={:016x}", hasher.finish()).as_bytes()].concat());
        }
        push("Call-ID", head.single("call-id")?);
        push("CSeq", head.single("cseq")?);
        if code == 405 || code == 501 {
            push("Allow", super::shared::ALLOW.as_bytes());
        }
        push("User-Agent", self.user_agent.as_bytes());
        push("Content-Length", b"0");
        response.extend_from_slice(b"\r\n");
        Some(response)
    }
}

impl<'a> Head<'a> {
    fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.headers.iter().filter(move |(header, _, _)| header == name).map(|(_, value, _)| *value)
    }

    /// The value of a header that there is exactly one of.
    fn single(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }
}

/// Whether a first line may be a request line at all: three words, the last of them `SIP/…`.
fn mentions_sip(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let Some(at) = line.iter().rposition(|byte| matches!(byte, b' ' | b'\t')) else {
        return false;
    };
    let method = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    line[at + 1..].starts_with(b"SIP/") && is_token(method)
}

/// RFC 3261 §25.1: what methods and header names are made of.
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte))
}

/// Splits a message into its logical header lines; `None` for the body when the head does not end.
fn split_head(message: &[u8]) -> (Head<'_>, Option<usize>) {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    let text = &message[..end.unwrap_or(message.len())];
    let mut head = Head::default();
    let mut at = 0;
    while at < text.len() && head.headers.len() <= MAX_HEADERS {
        let from = at;
        // A line goes on while the next one starts with white space.
        loop {
            at += text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len() - at, |newline| newline + 1);
            if from == 0 || !matches!(text.get(at), Some(b' ' | b'\t')) {
                break;
            }
        }
        let line = text[from..at].trim_ascii_end();
        if from == 0 {
            head.start = line;
        } else if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            let name = String::from_utf8_lossy(line[..colon].trim_ascii()).to_ascii_lowercase();
            head.headers.push((long_name(name), line[colon + 1..].trim_ascii(), line));
        } else {
            // Without a colon it is no header; the empty name is found by `check_request`.
            head.headers.push((String::new(), b"", line));
        }
    }
    (head, end.map(|end| end + 4))
}

fn long_name(name: String) -> String {
    match name.as_str() {
        "v" => "via".into(),
        "f" => "from".into(),
        "t" => "to".into(),
        "i" => "call-id".into(),
        "l" => "content-length".into(),
        _ => name,
    }
}

/// The faults of RFC 4475 that a server must not let pass.
fn check_request(head: &Head<'_>) -> Result<(), Fault> {
    let mut words = head.start.split(|byte| byte.is_ascii_whitespace());
    let (method, _uri, version) = (words.next(), words.next(), words.next());
    if head.start.windows(2).any(|pair| pair.iter().all(u8::is_ascii_whitespace)) || words.next().is_some() {
        return Err(malformed("Bad Request-Line"));
    }
    if version != Some(b"SIP/2.0") {
        return Err(Fault(505, "Version Not Supported", Counter::BadVersion));
    }
    if head.headers.len() > MAX_HEADERS {
        return Err(malformed("Too Many Headers"));
    }
    let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
    if head.headers.iter().any(|(name, _, line)| !is_token(name.as_bytes()) || line.iter().any(control)) {
        return Err(malformed("Bad Header Line"));
    }
    if head.values("via").next().is_none() {
        return Err(malformed("Missing Via"));
    }
    head.single("to").ok_or(malformed("Missing Or Repeated To"))?;
    head.single("call-id").filter(|id| !id.is_empty()).ok_or(malformed("Missing Or Repeated Call-ID"))?;
    let from = head.single("from").ok_or(malformed("Missing Or Repeated From"))?;
    if !from.windows(3).any(|part| part.eq_ignore_ascii_case(b"tag")) {
        return Err(malformed("Missing From Tag"));
    }
    let cseq = head.single("cseq").ok_or(malformed("Missing Or Repeated CSeq"))?;
    let mut cseq = cseq.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    // §8.1.1.5: less than 2^31.
    cseq.next().and_then(decimal).filter(|&number| number < 1 << 31).ok_or(malformed("Bad CSeq Number"))?;
    if cseq.next() != method {
        return Err(malformed("CSeq Method Does Not Match"));
    }
    content_length(head)?;
    match method.and_then(|method| std::str::from_utf8(method).ok()) {
        Some(method) if METHODS.contains(&method) => Ok(()),
        _ => Err(Fault(501, "Not Implemented", Counter::Method)),
    }
}

fn content_length(head: &Head<'_>) -> Result<Option<usize>, Fault> {
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

/// The top Via with `received` and `rport` (RFC 3261 §18.2.1, RFC 3581 §4) as the stack would set them.
fn stamp_via(via: &[u8], peer: SocketAddr) -> Vec<u8> {
    // Several Vias on one line: only the first is the top one.
    let end = via.iter().position(|&byte| byte == b',').unwrap_or(via.len());
    let (top, rest) = via.split_at(end);
    let mut stamped = Vec::with_capacity(via.len() + 48);
    for (index, part) in top.split(|&byte| byte == b';').enumerate() {
        let name = part.trim_ascii();
        if index > 0 && name.to_ascii_lowercase().starts_with(b"received") {
            continue;
        }
        if index > 0 {
            stamped.push(b';');
        }
        stamped.extend_from_slice(part.trim_ascii_end());
        if index > 0 && name.eq_ignore_ascii_case(b"rport") {
            stamped.extend_from_slice(format!("={}", peer.port()).as_bytes());
        }
    }
    stamped.extend_from_slice(format!(";received={}", peer.ip().to_canonical()).as_bytes());
    stamped.extend_from_slice(rest);
    stamped
}

#[cfg(test)]
mod tests;
