//! REGISTER and OPTIONS as text, and what a registration wants to know of a response (RFC 3261 §10.2, §11.1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rsipstack::rsip::{self, Header};

use super::super::registration::{Kind, Request, Response};
use super::super::shared::ALLOW;
use super::super::{Target, Transport};

/// Longest list of one header that is read.
const MAX_LIST: usize = 32;

/// What all requests of a trunk have in common.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The Request-URI.
    pub(super) uri: String,
    /// Our address of record.
    pub(super) address_of_record: String,
    /// Call-ID of the registrations.
    pub(super) call_id: String,
    /// Our tag.
    pub(super) tag: String,
    /// The outbound proxy, as a Route.
    pub(super) route: Option<String>,
}

impl Identity {
    /// The request as the stack takes it; `sent_by` is our end of the way to the target.
    #[expect(clippy::result_large_err, reason = "the stack's own error")]
    pub(super) fn write(&self, request: &Request, sent_by: SocketAddr) -> rsipstack::Result<rsip::Request> {
        let Identity { uri, address_of_record, tag, .. } = self;
        let random = || format!("{:016x}", fastrand::u64(..));
        let (method, call_id) = match request.kind {
            Kind::Register => ("REGISTER", self.call_id.clone()),
            Kind::Options => ("OPTIONS", random()),
        };
        let transport = match request.target.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {sent_by};branch=z9hG4bK{};rport\r\nMax-Forwards: 70\r\n\
             From: <{address_of_record}>;tag={tag}\r\nCall-ID: {call_id}\r\nCSeq: {} {method}\r\n",
            random(),
            request.sequence,
        );
        let mut push = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        };
        if let Some(route) = &self.route {
            push("Route", route);
        }
        match request.kind {
            Kind::Register => {
                push("To", &format!("<{address_of_record}>"));
                push("Supported", "path, outbound");
            }
            Kind::Options => {
                push("To", &format!("<{uri}>"));
                push("Accept", "application/sdp");
            }
        }
        request.contacts.iter().for_each(|contact| push("Contact", contact));
        if let Some(expires) = request.expires {
            push("Expires", &expires.to_string());
        }
        request.authorization.iter().for_each(|(name, value)| push(name, value));
        push("Allow", ALLOW);
        push("User-Agent", concat!("offhook/", env!("CARGO_PKG_VERSION")));
        text.push_str("Content-Length: 0\r\n\r\n");
        Ok(rsip::Request::try_from(text)?)
    }
}

/// What a registration wants to know of a response.
pub(super) fn read(response: &rsip::Response) -> Response {
    let mut read = Response { status: response.status_code.code(), ..Response::default() };
    let mut via_seen = false;
    for header in response.headers.iter() {
        let Some((name, value)) = name_and_value(header) else { continue };
        let seconds =
            || value.split([';', ' ', '(']).next().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        match name.to_ascii_lowercase().as_str() {
            "via" | "v" if !via_seen => {
                via_seen = true;
                read.seen_as = seen_as(&value);
            }
            "contact" | "m" => extend(&mut read.contacts, &value),
            "service-route" => extend(&mut read.service_route, &value),
            "p-associated-uri" => extend(&mut read.associated_uris, &value),
            "expires" => read.expires = seconds(),
            "min-expires" => read.min_expires = seconds(),
            "retry-after" => read.retry_after = seconds(),
            "www-authenticate" | "proxy-authenticate" | "authentication-info" | "proxy-authentication-info"
                if read.authentication.len() < MAX_LIST =>
            {
                read.authentication.push((name, value));
            }
            _ => {}
        }
    }
    read
}

fn name_and_value(header: &Header) -> Option<(String, String)> {
    let line = header.to_string();
    let (name, value) = line.split_once(':')?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

fn extend(list: &mut Vec<String>, value: &str) {
    let room = MAX_LIST.saturating_sub(list.len());
    list.extend(split_list(value).into_iter().take(room).map(str::to_owned));
}

/// The parts of a list: commas within quotes or angle brackets divide nothing.
fn split_list(value: &str) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            ',' if !quoted && !bracketed => {
                parts.push(value[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(value[from..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Where the other side says that we come from: `received` and `rport` of our Via (RFC 3581 §4). Without `rport` it says
/// nothing of the port, and nothing is known.
fn seen_as(via: &str) -> Option<SocketAddr> {
    let own = split_list(via).into_iter().next()?;
    let mut parameters = own.split(';');
    let sent_by = parameters.next()?.split_whitespace().last()?;
    let (mut received, mut port) = (None, None);
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "received" => received = value.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
            "rport" => port = value.parse::<u16>().ok(),
            _ => {}
        }
    }
    let written = || sent_by.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| sent_by.parse()).ok();
    Some(SocketAddr::new(received.or_else(written)?.to_canonical(), port?))
}

/// The outbound proxy as a Route, when there is one.
pub(super) fn route_to(proxy: &str, transport: Transport) -> String {
    let transport = match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    };
    format!("<sip:{proxy}{transport};lr>")
}

/// Escapes what a user part may not hold as it is (RFC 3261 §25.1).
pub(super) fn escaped_user(user: &str) -> String {
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The addresses that targets have, each once.
pub(super) fn addresses_of(targets: &[Target]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = targets.iter().map(|target| target.address.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            uri: "sip:example.org".into(),
            address_of_record: "sip:620@example.org".into(),
            call_id: "c".into(),
            tag: "t".into(),
            route: Some(route_to("edge.example.org:5070", Transport::Tcp)),
        }
    }

    fn request(kind: Kind) -> Request {
        Request {
            attempt: 1,
            kind,
            target: Target { address: ([192, 0, 2, 1], 5060).into(), transport: Transport::Tcp, name: "x".into() },
            sequence: 7,
            contacts: vec!["<sip:620@192.0.2.9:5060;transport=tcp>;expires=60".into()],
            expires: Some(60),
            authorization: vec![(
                "Authorization",
                "Digest username=\"620\", realm=\"r\", uri=\"sip:example.org\"".into(),
            )],
        }
    }

    #[test]
    fn a_register_has_what_it_must_have_and_another_parser_reads_it() {
        use ::rsip::prelude::*;
        let written = identity().write(&request(Kind::Register), ([192, 0, 2, 9], 40_000).into()).unwrap();
        let text = written.to_string();
        let read = ::rsip::Request::try_from(text.as_str()).unwrap();
        assert_eq!(read.method, ::rsip::Method::Register);
        assert!(
            text.starts_with("REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9:40000;branch=z9hG4bK")
        );
        assert!(read.via_header().unwrap().typed().is_ok(), "{text}");
        assert_eq!(read.cseq_header().unwrap().typed().unwrap().seq, 7);
        assert!(read.contact_header().unwrap().typed().is_ok(), "{text}");
        for line in [
            "Route: <sip:edge.example.org:5070;transport=tcp;lr>",
            "From: <sip:620@example.org>;tag=t",
            "To: <sip:620@example.org>",
            "Call-ID: c",
            "Contact: <sip:620@192.0.2.9:5060;transport=tcp>;expires=60",
            "Expires: 60",
            "Authorization: Digest username=\"620\", realm=\"r\", uri=\"sip:example.org\"",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} is missing in {text}");
        }
    }

    #[test]
    fn an_options_is_outside_the_registration() {
        let bare = Request { contacts: vec![], expires: None, authorization: vec![], ..request(Kind::Options) };
        let text = identity().write(&bare, ([192, 0, 2, 9], 40_000).into()).unwrap().to_string();
        assert!(text.starts_with("OPTIONS sip:example.org SIP/2.0\r\n") && !text.contains("Call-ID: c\r\n"), "{text}");
        assert!(!text.contains("Contact:") && !text.contains("Expires:"), "{text}");
    }

    fn response(headers: &str) -> Response {
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1;rport=40000;received=203.0.113.7\r\n\
             From: <sip:620@x>;tag=1\r\nTo: <sip:620@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        match rsip::SipMessage::try_from(text.as_str()).unwrap() {
            rsip::SipMessage::Response(response) => read(&response),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_response_is_read_list_by_list() {
        let read = response(
            "Contact: \"a, <b\" <sip:620@192.0.2.9:5060;x=\",\">;expires=60, <sip:621@x>\r\nm: <sip:622@x>\r\nExpires: 90\r\n\
             Min-Expires: 120\r\nRetry-After: 18 (in a meeting);duration=3600\r\nService-Route: <sip:a;lr>,<sip:b;lr>\r\n\
             P-Associated-URI: <sip:+9723@x>, <tel:+9723>\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"1\", algorithm=SHA-256\r\n\
             WWW-Authenticate: Digest realm=\"r\", nonce=\"1\", qop=\"auth,auth-int\"\r\nProxy-Authenticate: Digest realm=\"p\", nonce=\"2\"\r\n",
        );
        assert_eq!((read.status, read.seen_as), (401, Some("203.0.113.7:40000".parse().unwrap())));
        assert_eq!(read.contacts.len(), 3, "{:?}", read.contacts);
        assert_eq!(read.contacts[2], "<sip:622@x>");
        let seconds = |value: Option<Duration>| value.unwrap().as_secs();
        assert_eq!((seconds(read.expires), seconds(read.min_expires), seconds(read.retry_after)), (90, 120, 18));
        assert_eq!(read.service_route, ["<sip:a;lr>", "<sip:b;lr>"]);
        assert_eq!(read.associated_uris, ["<sip:+9723@x>", "<tel:+9723>"]);
        assert_eq!(read.authentication.len(), 3, "{:?}", read.authentication);
        assert!(read.authentication[0].1.contains("algorithm=SHA-256"), "{:?}", read.authentication);
    }

    #[test]
    fn our_address_is_known_only_with_the_port() {
        let seen = |via: &str| seen_as(via).map(|address| address.to_string());
        assert_eq!(seen("SIP/2.0/UDP 192.0.2.9:5060;rport=40000;branch=x").as_deref(), Some("192.0.2.9:40000"));
        assert_eq!(
            seen("SIP/2.0/UDP 192.0.2.9;rport=40000;received=::ffff:203.0.113.7").as_deref(),
            Some("203.0.113.7:40000")
        );
        assert_eq!(
            seen("SIP/2.0/TCP [2001:db8::1]:5060;received=2001:db8::2;RPORT=7").as_deref(),
            Some("[2001:db8::2]:7")
        );
        for via in
            ["", "SIP/2.0/UDP box;rport=40000", "SIP/2.0/UDP 192.0.2.9;rport;received=203.0.113.7", "x;rport=99999"]
        {
            assert_eq!(seen(via), None, "{via}");
        }
    }

    #[test]
    fn a_user_part_is_escaped_where_it_must_be() {
        assert_eq!(escaped_user("+972 3@#\u{5d0}"), "+972%203%40%23%D7%90");
    }
}
