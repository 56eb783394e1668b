//! Stateless responses (RFC 3261 §8.2.6, §8.2.7): the same request gets the same one each time, and nothing is remembered.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

use super::head::Head;
use super::wire::Source;

/// Makes the responses of one user agent.
#[derive(Debug)]
pub(super) struct Answers {
    user_agent: String,
    /// Our To-tags cannot be guessed, so that an ACK with one is known to be the ACK of such a response.
    key: RandomState,
}

impl Answers {
    pub(super) fn new(user_agent: impl Into<String>) -> Self {
        Self { user_agent: user_agent.into(), key: RandomState::new() }
    }

    /// A response and where it goes; none when there is no Via to send it by. `headers` are whole lines.
    pub(super) fn make(
        &self,
        head: &Head<'_>,
        (code, reason): (u16, &str),
        headers: &[String],
        from: Source,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        let mut response = format!("SIP/2.0 {code} {reason}\r\n").into_bytes();
        let mut push = |name: &str, value: &[u8]| {
            response.extend_from_slice(name.as_bytes());
            response.extend_from_slice(b": ");
            // A fold that is copied is one space (§7.3.1).
            response.extend(value.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
            response.extend_from_slice(b"\r\n");
        };
        let mut vias = head.values("via");
        let top = vias.next().filter(|via| !via.is_empty())?;
        push("Via", &stamp_via(top, from.peer));
        vias.for_each(|via| push("Via", via));
        // What a broken request does not have cannot be copied.
        if let Some(from) = head.first("from") {
            push("From", from);
        }
        if let Some(to) = head.first("to") {
            match tag_of(to) {
                Some(_) => push("To", to),
                None => push("To", &[to, b";tag=", self.tag(head).as_bytes()].concat()),
            }
        }
        for (name, long) in [("Call-ID", "call-id"), ("CSeq", "cseq")] {
            if let Some(value) = head.first(long) {
                push(name, value);
            }
        }
        push("User-Agent", self.user_agent.as_bytes());
        for line in headers {
            response.extend_from_slice(line.as_bytes());
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        Some((response, destination(top, from.peer)))
    }

    /// Whether an ACK acknowledges a response that was made here (§17.1.1.3: its Via, From, Call-ID and CSeq number are the INVITE's).
    pub(super) fn is_ack_of_ours(&self, head: &Head<'_>) -> bool {
        head.method() == b"ACK" && head.first("to").and_then(tag_of).is_some_and(|tag| tag == self.tag(head))
    }

    fn tag(&self, head: &Head<'_>) -> String {
        format!("{:016x}", self.key.hash_one(request_identity(head)))
    }

    /// Tells requests apart; the same for a request that is sent again. CANCEL and ACK have that of their INVITE.
    pub(super) fn identity(&self, head: &Head<'_>) -> u64 {
        let method = match head.method() {
            b"CANCEL" | b"ACK" => b"INVITE",
            method => method,
        };
        self.key.hash_one((request_identity(head), method))
    }
}

/// Sent-by and branch of the top Via, tag of the From, Call-ID and number of the CSeq (§17.2.3): what a CANCEL and the ACK of a
/// refusal have in common with their INVITE, however differently they are written.
type Identity<'a> = (&'a [u8], &'a [u8], Option<String>, Option<&'a [u8]>, Option<&'a [u8]>);

fn request_identity<'a>(head: &Head<'a>) -> Identity<'a> {
    let mut via = head.first("via").map(top_of).unwrap_or_default().split(|&byte| byte == b';');
    let sent_by = via.next().unwrap_or_default().trim_ascii();
    let branch = via.find_map(|part| {
        let equals = part.iter().position(|&byte| byte == b'=')?;
        part[..equals].trim_ascii().eq_ignore_ascii_case(b"branch").then(|| part[equals + 1..].trim_ascii())
    });
    let number = head.first("cseq").and_then(|cseq| cseq.split(u8::is_ascii_whitespace).next());
    (sent_by, branch.unwrap_or_default(), head.first("from").and_then(tag_of), head.first("call-id"), number)
}

/// The first of several Vias on one line.
fn top_of(via: &[u8]) -> &[u8] {
    let end = via.iter().position(|&byte| byte == b',').unwrap_or(via.len());
    via[..end].trim_ascii()
}

/// The tag of a From or To that has one.
pub(super) fn tag_of(value: &[u8]) -> Option<String> {
    let value = String::from_utf8_lossy(value);
    super::nameaddr::NameAddr::read(&value)?.parameter("tag").filter(|tag| !tag.is_empty())
}

/// Where the response to a request over UDP goes: the address it came from, and its port with `rport`, else that of the Via
/// (RFC 3261 §18.2.2, RFC 3581 §4). There are gateways that listen on another port than they send from.
fn destination(via: &[u8], peer: SocketAddr) -> SocketAddr {
    let mut parts = top_of(via).split(|&byte| byte == b';');
    let sent_by = parts.next().unwrap_or_default();
    if parts.any(|part| part.trim_ascii().get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"rport"))) {
        return peer;
    }
    let host = String::from_utf8_lossy(sent_by.trim_ascii());
    let host = host.rsplit(char::is_whitespace).next().unwrap_or_default();
    let port = match host.rsplit_once(':') {
        // The colon of an IPv6 literal.
        Some((_, tail)) if tail.contains(']') => None,
        Some((_, port)) => port.parse().ok().filter(|&port| port != 0),
        None => None,
    };
    SocketAddr::new(peer.ip(), port.unwrap_or(5060))
}

/// The top Via with `received` and `rport` (RFC 3261 §18.2.1, RFC 3581 §4).
fn stamp_via(via: &[u8], peer: SocketAddr) -> Vec<u8> {
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
mod tests {
    use super::*;

    #[test]
    fn a_response_goes_to_the_port_of_the_via_unless_rport_asks_for_the_source() {
        let peer: SocketAddr = "10.0.0.7:40000".parse().unwrap();
        let to = |via: &str| destination(via.as_bytes(), peer).port();
        assert_eq!(to("SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1"), 5070);
        assert_eq!(to("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"), 5060);
        assert_eq!(to("SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1"), 5060);
        assert_eq!(to("SIP/2.0/UDP [2001:db8::1]:5071"), 5071);
        assert_eq!(to("SIP/2.0/UDP pbx;RPORT;branch=z9hG4bK1"), 40000);
        assert_eq!(to("SIP/2.0/UDP pbx:99999"), 5060);
        assert_eq!(to("SIP/2.0/UDP pbx:1, SIP/2.0/UDP b;rport"), 1);
    }

    #[test]
    fn a_request_is_told_from_another_and_not_from_itself() {
        let answers = Answers::new("test");
        let identity = |text: &str| answers.identity(&Head::split(text.as_bytes()));
        let invite = "INVITE x SIP/2.0\r\nv: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b\r\nf: <x>;tag=1\r\ni: c\r\nCSeq: 1 INVITE\r\n\r\n";
        let cancel = "CANCEL x SIP/2.0\r\nVia: SIP/2.0/UDP a;rport;branch = 1\r\nCall-ID: c\r\nFrom: \"X\" <x>;tag=1\r\nCSeq: 1 CANCEL\r\n\r\n";
        assert_eq!(identity(invite), identity(invite));
        assert_eq!(identity(invite), identity(cancel));
        assert_ne!(identity(invite), identity(&invite.replace("branch=1", "branch=2")));
        assert_ne!(identity(invite), identity(&invite.replace("INVITE", "OPTIONS")));
        assert_ne!(
            Answers::new("test").identity(&Head::split(invite.as_bytes())),
            identity(invite),
            "it can be guessed"
        );
    }
}
