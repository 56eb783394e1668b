//! Questions to a server that change nothing there: does it answer (OPTIONS, RFC 3261 §11), does it take our password (REGISTER
//! without Contact, §10.2.3: what is registered stays as it is), and from where it sees us (RFC 3581).
//!
//! Pure: text in, text out; who sends it and how often is another's business. Not implemented: bodies.

use std::net::{IpAddr, SocketAddr};

use super::Transport;
use super::digest::{Challenged, Credentials, Exchange};
use crate::privacy::{Secret, redact_number};

/// Header lines of an answer that are looked at.
const MAX_HEADERS: usize = 128;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Options,
    Register,
}

/// What a 401 or 407 comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again: the next request answers the challenge.
    AskAgain,
    /// User or password is wrong.
    Refused,
    /// Nothing that the server asks for is known here.
    Unsupported,
    /// There is no password to answer with, or no challenge that can be read.
    Unanswerable,
}

/// One question to one server, with as many requests as its challenges take.
#[derive(Debug)]
pub struct Probe {
    method: Method,
    /// Host part of the address that is asked about.
    domain: String,
    user: String,
    transport: Transport,
    call_id: String,
    tag: String,
    branch: String,
    sent_by: String,
    sequence: u32,
    credentials: Option<Credentials>,
    exchange: Exchange,
}

impl Probe {
    /// Asks whether a server answers.
    pub fn options(domain: &str, user: &str, transport: Transport) -> Self {
        let user = if user.is_empty() { "doctor" } else { user };
        Self {
            method: Method::Options,
            domain: in_uri(domain),
            user: user.to_owned(),
            transport,
            call_id: token(),
            tag: token(),
            branch: String::new(),
            sent_by: String::new(),
            sequence: 0,
            credentials: None,
            exchange: Exchange::default(),
        }
    }

    /// Asks what is registered under our address, which only who knows the password is told.
    pub fn bindings(domain: &str, user: &str, transport: Transport, credentials: Option<(&str, Secret)>) -> Self {
        let credentials = credentials.map(|(name, password)| Credentials::new(name, password));
        Self { method: Method::Register, credentials, ..Self::options(domain, user, transport) }
    }

    /// The next request, as it goes on the wire from `local`. What is sent again is sent as it was.
    pub fn request(&mut self, local: SocketAddr) -> Vec<u8> {
        self.sequence += 1;
        self.branch = format!("z9hG4bK{}", token());
        self.sent_by = local.to_string();
        let Self { domain, user, call_id, tag, branch, sent_by, sequence, .. } = self;
        let (transport, parameter) = match self.transport {
            Transport::Udp => ("UDP", ""),
            Transport::Tcp => ("TCP", ";transport=tcp"),
            Transport::Tls => ("TLS", ";transport=tls"),
        };
        let uri = format!("sip:{domain}{parameter}");
        let (method, to) = match self.method {
            Method::Options => ("OPTIONS", format!("<sip:{domain}>")),
            Method::Register => ("REGISTER", format!("<sip:{user}@{domain}>")),
        };
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {sent_by};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} {method}\r\n\
             User-Agent: offhook/{}\r\n",
            env!("CARGO_PKG_VERSION"),
        );
        if let Some(credentials) = &mut self.credentials {
            for (name, value) in credentials.authorize(&mut self.exchange, method, &uri, b"") {
                text += &format!("{name}: {value}\r\n");
            }
        }
        text += "Content-Length: 0\r\n\r\n";
        text.into_bytes()
    }

    /// The mark by which the answers to the last request are known.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Reads a final answer to the last request. `None`: it is something else.
    pub fn answer(&self, bytes: &[u8]) -> Option<Answer> {
        let message = Message::read(bytes)?;
        let via = Via::read(message.header("via", "v")?)?;
        if via.branch != self.branch || message.code < 200 {
            return None;
        }
        let mut altered = Vec::new();
        if !via.sent_by.eq_ignore_ascii_case(&self.sent_by) {
            altered.push("Via");
        }
        if message.header("call-id", "i") != Some(&self.call_id) {
            altered.push("Call-ID");
        }
        let from = message.header("from", "f").unwrap_or_default();
        if !from.contains(&format!("{}@{}", self.user, self.domain)) || !from.contains(&self.tag) {
            altered.push("From");
        }
        let local = self.sent_by.parse().ok();
        let seen_as = local.map(|local: SocketAddr| {
            SocketAddr::new(via.received.unwrap_or(local.ip()), via.rport.unwrap_or(local.port()))
        });
        Some(Answer {
            code: message.code,
            reason: without_numbers(&message.reason),
            seen_as,
            says_received: via.received.is_some(),
            altered,
            bindings: message.headers.iter().filter(|(name, _)| is(name, "contact", "m")).count(),
            date: message.header("date", "date").map(str::to_owned),
            headers: message.headers,
        })
    }

    /// Takes the challenges of a 401 or 407.
    pub fn challenged(&mut self, answer: &Answer) -> Verdict {
        let Some(credentials) = &mut self.credentials else { return Verdict::Unanswerable };
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        match credentials.challenged(&mut self.exchange, headers) {
            Challenged::Retry => Verdict::AskAgain,
            Challenged::Rejected => Verdict::Refused,
            Challenged::Unsupported(_) => Verdict::Unsupported,
            Challenged::Unanswerable => Verdict::Unanswerable,
        }
    }
}

/// A final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The reason phrase; numbers in it are shortened.
    pub reason: String,
    /// The address that the server had the request from, as it says.
    pub seen_as: Option<SocketAddr>,
    /// Whether it said that this was another one than the request said.
    pub says_received: bool,
    /// Headers that did not come back as they left.
    pub altered: Vec<&'static str>,
    /// Contact headers in it.
    pub bindings: usize,
    /// The Date header.
    pub date: Option<String>,
    headers: Vec<(String, String)>,
}

/// The branch of an answer's topmost Via, by which it finds its request.
pub fn branch_of(bytes: &[u8]) -> Option<String> {
    let message = Message::read(bytes)?;
    Some(Via::read(message.header("via", "v")?)?.branch)
}

struct Message {
    code: u16,
    reason: String,
    headers: Vec<(String, String)>,
}

impl Message {
    /// Reads a response, leniently: what is not a header line is passed over.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let head = text.split("\r\n\r\n").next()?;
        let mut lines = head.split("\r\n");
        let mut status = lines.next()?.strip_prefix("SIP/2.0 ")?.splitn(2, ' ');
        let code = status.next()?.parse().ok().filter(|code| (100..700).contains(code))?;
        let reason = status.next().unwrap_or_default().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines.take(MAX_HEADERS) {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => *value = format!("{value} {}", line.trim()),
                _ => {
                    headers.extend(line.split_once(':').map(|(name, value)| (name.trim().into(), value.trim().into())))
                }
            }
        }
        Some(Self { code, reason, headers })
    }

    fn header(&self, name: &str, short: &str) -> Option<&str> {
        self.headers.iter().find(|(written, _)| is(written, name, short)).map(|(_, value)| value.as_str())
    }
}

fn is(written: &str, name: &str, short: &str) -> bool {
    written.eq_ignore_ascii_case(name) || written.eq_ignore_ascii_case(short)
}

struct Via {
    sent_by: String,
    branch: String,
    received: Option<IpAddr>,
    rport: Option<u16>,
}

impl Via {
    /// Reads the first value of a Via header.
    fn read(value: &str) -> Option<Self> {
        let mut parts = value.split(',').next()?.split(';').map(str::trim);
        let sent_by = parts.next()?.split_whitespace().last()?.to_owned();
        let mut via = Self { sent_by, branch: String::new(), received: None, rport: None };
        for part in parts {
            match part.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())) {
                Some((name, value)) if name == "branch" => via.branch = value.to_owned(),
                Some((name, value)) if name == "received" => via.received = value.trim_matches(['[', ']']).parse().ok(),
                Some((name, value)) if name == "rport" => via.rport = value.parse().ok(),
                _ => {}
            }
        }
        Some(via)
    }
}

fn in_uri(domain: &str) -> String {
    match domain.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => domain.to_owned(),
    }
}

fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// A peer's words as they may be shown: short, printable, and without a caller's number.
fn without_numbers(text: &str) -> String {
    let printable: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    let words = printable.split(' ').map(|word| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if digits > 4 { redact_number(word) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> SocketAddr {
        "192.168.1.20:5071".parse().unwrap()
    }

    /// A server's answer to a request: its Via, From, To, Call-ID and CSeq given back, with changes.
    fn reply(request: &[u8], status: &str, via: &str, more: &str) -> Vec<u8> {
        let request = String::from_utf8(request.to_vec()).unwrap();
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in
            request.lines().filter(|line| ["From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(name)))
        {
            text += &format!("{line}\r\n");
        }
        let branch = request.split("branch=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        text += &format!("v: SIP/2.0/UDP {via};branch={branch}\r\n{more}Content-Length: 0\r\n\r\n");
        text.into_bytes()
    }

    #[test]
    fn an_answer_says_from_where_the_server_sees_us() {
        let mut probe = Probe::options("provider.test", "620", Transport::Udp);
        let request = probe.request(local());
        let seen = reply(&request, "200 OK", "192.168.1.20:5071;received=203.0.113.5;rport=61000", "");
        let answer = probe.answer(&seen).unwrap();
        assert_eq!((answer.code, answer.seen_as), (200, Some("203.0.113.5:61000".parse().unwrap())));
        assert_eq!((answer.says_received, answer.altered.as_slice()), (true, [].as_slice()));
        assert_eq!(branch_of(&seen).as_deref(), Some(probe.branch()));
        let direct = probe.answer(&reply(&request, "404 Not Found", "192.168.1.20:5071;rport=5071", "")).unwrap();
        assert_eq!((direct.code, direct.seen_as, direct.says_received), (404, Some(local()), false));
    }

    #[test]
    fn what_a_router_altered_is_named() {
        let mut probe = Probe::options("provider.test", "620", Transport::Udp);
        let request = probe.request(local());
        let answer = probe.answer(&reply(&request, "200 OK", "203.0.113.5:61000;rport=61000", "")).unwrap();
        assert_eq!(answer.altered, ["Via"]);
        let swapped = String::from_utf8(request.clone()).unwrap().replace("620@provider.test", "620@203.0.113.5");
        let answer = probe.answer(&reply(swapped.as_bytes(), "200 OK", "192.168.1.20:5071", "")).unwrap();
        assert_eq!(answer.altered, ["From"]);
    }

    #[test]
    fn a_challenge_is_answered_once_and_a_second_one_means_the_password_is_wrong() {
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"1\"\r\n";
        let mut probe = Probe::bindings("provider.test", "620", Transport::Udp, Some(("id", Secret::new("hunter2"))));
        let request = probe.request(local());
        assert!(!String::from_utf8_lossy(&request).contains("Contact"), "nothing is registered");
        let answer = probe.answer(&reply(&request, "401 Unauthorized", "192.168.1.20:5071", challenge)).unwrap();
        assert_eq!(probe.challenged(&answer), Verdict::AskAgain);
        let request = probe.request(local());
        let text = String::from_utf8(request.clone()).unwrap();
        assert!(text.contains("Authorization: Digest username=\"id\"") && text.contains("CSeq: 2 REGISTER"), "{text}");
        assert!(!text.contains("hunter2") && !format!("{probe:?}").contains("hunter2"));
        let answer = probe.answer(&reply(&request, "401 Unauthorized", "192.168.1.20:5071", challenge)).unwrap();
        assert_eq!(probe.challenged(&answer), Verdict::Refused);
        let mut without = Probe::bindings("provider.test", "620", Transport::Udp, None);
        let request = without.request(local());
        let answer = without.answer(&reply(&request, "401 Unauthorized", "192.168.1.20:5071", challenge)).unwrap();
        assert_eq!(without.challenged(&answer), Verdict::Unanswerable);
    }

    #[test]
    fn what_is_no_answer_of_ours_is_passed_over_and_a_reason_shows_no_number() {
        let mut probe = Probe::options("provider.test", "620", Transport::Udp);
        let request = probe.request(local());
        let other = Probe::options("provider.test", "620", Transport::Udp).request(local());
        for bytes in [
            reply(&other, "200 OK", "192.168.1.20:5071", ""),
            reply(&request, "100 Trying", "192.168.1.20:5071", ""),
            reply(&request, "999 Much", "192.168.1.20:5071", ""),
            request.clone(),
            b"\r\n\r\n".to_vec(),
            b"SIP/2.0 200 OK\r\n :\r\nVia\r\nVia: ,;\r\n".to_vec(),
        ] {
            assert_eq!(probe.answer(&bytes), None, "{}", String::from_utf8_lossy(&bytes));
        }
        let answer = probe.answer(&reply(&request, "404 No +972501234567 here", "192.168.1.20:5071", "")).unwrap();
        assert_eq!(answer.reason, "No …67 here");
    }
}
