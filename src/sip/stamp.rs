//! What leaves is stamped with our address as its receiver sees it: the top Via of requests (RFC 3261 §18.1.1, RFC
//! 3581) and the Contact of whatever carries one.
//!
//! The stack knows one address of ours, a placeholder; which one a peer sees depends on the peer and the transport, and
//! is known only where the bytes leave. Pure, and no copy when there is nothing to change. From and To are nobody's
//! address and stay as they are. Not implemented: Contacts that a header name of their own hides, such as Refer-To.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Range;

use super::Transport;

/// What a message is stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The address in Contacts that is to be replaced: what the stack takes for ours.
    pub(super) placeholder: SocketAddr,
    /// What carries the message.
    pub(super) transport: Transport,
    /// Where we send from, for the Via. A transaction must show the same one throughout (§9.1, §17.2.3).
    pub(super) sent_by: SocketAddr,
    /// Where the peer reaches us, for the Contact.
    pub(super) contact: SocketAddr,
}

impl Stamp {
    /// The message as it goes out.
    pub(super) fn apply<'a>(&self, message: &'a [u8]) -> Cow<'a, [u8]> {
        let mut edits = Vec::new();
        let (mut request, mut register) = (false, false);
        let mut via_seen = false;
        let mut from = 0;
        for line in message.split_inclusive(|&byte| byte == b'\n') {
            let at = from;
            from += line.len();
            let line = line.trim_ascii_end();
            if at == 0 {
                request = !line.starts_with(b"SIP/");
                // Its Contacts are right, and one of them may be an old address of ours that is to go.
                register = line.starts_with(b"REGISTER ");
                continue;
            }
            if line.is_empty() {
                break;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value_at) = (line[..colon].trim_ascii_end(), at + colon + 1);
            let value = &line[colon + 1..];
            if request && !via_seen && is_header(name, b"via", b"v") {
                via_seen = true;
                self.stamp_via(value, value_at, &mut edits);
            } else if !register && is_header(name, b"contact", b"m") {
                self.stamp_contacts(value, value_at, &mut edits);
            }
        }
        edits.retain(|edit| message[edit.range.clone()] != *edit.text.as_bytes());
        if edits.is_empty() {
            return Cow::Borrowed(message);
        }
        let mut stamped = Vec::with_capacity(message.len() + 64);
        let mut copied = 0;
        for edit in edits {
            stamped.extend_from_slice(&message[copied..edit.range.start]);
            stamped.extend_from_slice(edit.text.as_bytes());
            copied = edit.range.end;
        }
        stamped.extend_from_slice(&message[copied..]);
        Cow::Owned(stamped)
    }

    /// `SIP/2.0/UDP host:port;params`: the transport and the host with its port.
    fn stamp_via(&self, value: &[u8], value_at: usize, edits: &mut Vec<Edit>) {
        let end = value.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(value.len());
        let top = &value[..end];
        let start = top.len() - top.trim_ascii_start().len();
        let protocol = self.transport_name().to_owned();
        edits.push(Edit {
            range: value_at + start..value_at + end,
            text: format!("SIP/2.0/{protocol} {}", self.sent_by),
        });
    }

    /// Every URI of ours in a list of Contacts.
    fn stamp_contacts(&self, value: &[u8], value_at: usize, edits: &mut Vec<Edit>) {
        let mut quoted = false;
        let mut escaped = false;
        // Where the URI in hand began, and whether it stands in angle brackets.
        let mut open: Option<(usize, bool)> = None;
        for (at, &byte) in value.iter().enumerate() {
            let in_uri = open.is_some_and(|(start, _)| start < value.len());
            match (open, byte) {
                _ if escaped => escaped = false,
                (_, b'\\') if quoted => escaped = true,
                (_, b'"') if !in_uri => quoted = !quoted,
                _ if quoted => {}
                (_, b'<') => open = Some((at + 1, true)),
                (Some((start, true)), b'>') => {
                    self.stamp_uri(&value[start..at], value_at + start, true, edits);
                    // Parameters of the header follow, up to the next comma.
                    open = Some((value.len(), false));
                }
                (Some((start, false)), b';' | b',') if start < at => {
                    self.stamp_uri(&value[start..at], value_at + start, false, edits);
                    open = (byte == b';').then_some((value.len(), false));
                }
                (Some((start, false)), b',') if start == value.len() => open = None,
                (None, _) if starts_with_scheme(&value[at..]) => open = Some((at, false)),
                _ => {}
            }
        }
        if let Some((start, false)) = open.filter(|&(start, _)| start < value.len()) {
            self.stamp_uri(&value[start..], value_at + start, false, edits);
        }
    }

    /// A URI of ours gets the scheme `sip`, the address and the transport that belong to the connection.
    fn stamp_uri(&self, uri: &[u8], uri_at: usize, bracketed: bool, edits: &mut Vec<Edit>) {
        let Some(parts) = split_uri(uri).filter(|parts| parts.names(self.placeholder)) else { return };
        let mut edit = |range: Range<usize>, text: String| {
            edits.push(Edit { range: uri_at + range.start..uri_at + range.end, text });
        };
        edit(0..parts.scheme_end, "sip".to_owned());
        // Outside brackets a parameter would be the header's (§20.10).
        let transport = match self.transport {
            Transport::Tcp if bracketed => ";transport=tcp",
            Transport::Tls if bracketed => ";transport=tls",
            _ => "",
        };
        edit(parts.host, format!("{}{transport}", self.contact));
        if let Some(old) = parts.transport {
            edit(old, String::new());
        }
    }

    fn transport_name(&self) -> &'static str {
        match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }
}

/// One replacement. They come in the order of the message and do not overlap.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// The parts of a `sip:` URI, as places in it.
struct UriParts<'a> {
    scheme_end: usize,
    host: Range<usize>,
    host_text: &'a [u8],
    /// `;transport=…`
    transport: Option<Range<usize>>,
}

impl UriParts<'_> {
    fn names(&self, address: SocketAddr) -> bool {
        let host = std::str::from_utf8(self.host_text).ok();
        host.and_then(|host| host.parse::<SocketAddr>().ok()) == Some(address)
    }
}

fn split_uri(uri: &[u8]) -> Option<UriParts<'_>> {
    let scheme_end = uri.iter().position(|&byte| byte == b':')?;
    if !uri[..scheme_end].eq_ignore_ascii_case(b"sip") && !uri[..scheme_end].eq_ignore_ascii_case(b"sips") {
        return None;
    }
    let from = uri.iter().position(|&byte| byte == b'@').unwrap_or(scheme_end) + 1;
    let after = |at: usize| uri[at..].iter().position(|byte| matches!(byte, b';' | b'?')).map_or(uri.len(), |p| at + p);
    let host = from..after(from);
    let mut transport = None;
    let mut at = host.end;
    while uri.get(at) == Some(&b';') {
        let end = after(at + 1);
        let name = uri[at + 1..end].split(|&byte| byte == b'=').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"transport") {
            transport = Some(at..end);
        }
        at = end;
    }
    Some(UriParts { scheme_end, host_text: &uri[host.clone()], host, transport })
}

fn starts_with_scheme(text: &[u8]) -> bool {
    let starts = |scheme: &[u8]| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    starts(b"sip:") || starts(b"sips:")
}

fn is_header(name: &[u8], long: &[u8], compact: &[u8]) -> bool {
    name.eq_ignore_ascii_case(long) || name.eq_ignore_ascii_case(compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(transport: Transport) -> Stamp {
        Stamp {
            placeholder: "10.0.0.2:5060".parse().unwrap(),
            transport,
            sent_by: "192.0.2.7:5070".parse().unwrap(),
            contact: "203.0.113.9:61000".parse().unwrap(),
        }
    }

    fn stamped(transport: Transport, message: &str) -> String {
        String::from_utf8(stamp(transport).apply(message.as_bytes()).into_owned()).unwrap()
    }

    const INVITE: &str = "INVITE sip:b@10.0.0.2:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1;rport\r\n\
        Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK0\r\n\
        From: <sip:a@10.0.0.2:5060>;tag=1\r\n\
        To: <sip:b@10.0.0.2:5060>\r\n\
        Contact: <sip:a@10.0.0.2:5060>\r\n\r\nContact: <sip:a@10.0.0.2:5060>\r\n";

    #[test]
    fn a_request_shows_its_receiver_where_it_came_from_and_where_we_are_reached() {
        for (transport, via, parameter) in [
            (Transport::Udp, "UDP", ""),
            (Transport::Tcp, "TCP", ";transport=tcp"),
            (Transport::Tls, "TLS", ";transport=tls"),
        ] {
            let expected =
                INVITE.replacen("SIP/2.0/UDP 10.0.0.2:5060", &format!("SIP/2.0/{via} 192.0.2.7:5070"), 1).replacen(
                    "Contact: <sip:a@10.0.0.2:5060>",
                    &format!("Contact: <sip:a@203.0.113.9:61000{parameter}>"),
                    1,
                );
            assert_eq!(stamped(transport, INVITE), expected);
            assert_eq!(stamped(transport, &expected), expected, "stamped twice is stamped once");
        }
    }

    #[test]
    fn a_response_keeps_the_vias_of_others() {
        let response = INVITE.replacen("INVITE sip:b@10.0.0.2:5060 SIP/2.0", "SIP/2.0 200 OK", 1);
        let stamped = stamped(Transport::Tcp, &response);
        let expected =
            response.replacen("Contact: <sip:a@10.0.0.2:5060>", "Contact: <sip:a@203.0.113.9:61000;transport=tcp>", 1);
        assert_eq!(stamped, expected);
    }

    #[test]
    fn only_contacts_of_ours_are_touched_and_the_rest_of_them_is_kept() {
        let contact = |value: &str| {
            let text = stamped(Transport::Tls, &format!("SIP/2.0 200 OK\r\nm: {value}\r\n\r\n"));
            text.split("m: ").nth(1).unwrap().trim_end().to_owned()
        };
        let ours = "sip:a@203.0.113.9:61000;transport=tls";
        for (before, after) in [
            ("<sips:a@10.0.0.2:5060>".to_owned(), format!("<{ours}>")),
            (
                "\"x <sip:a@10.0.0.2:5060> \\\"\" <sip:a@10.0.0.2:5060;ob;transport=tcp;x=1?y=z>;expires=60".to_owned(),
                format!("\"x <sip:a@10.0.0.2:5060> \\\"\" <{ours};ob;x=1?y=z>;expires=60"),
            ),
            (
                "<sip:a@10.0.0.2:5060>;+sip.instance=\"<urn:uuid:1>\", <sip:a@10.0.0.3:5060>".to_owned(),
                format!("<{ours}>;+sip.instance=\"<urn:uuid:1>\", <sip:a@10.0.0.3:5060>"),
            ),
            ("sip:a@10.0.0.2:5060;expires=5".to_owned(), "sip:a@203.0.113.9:61000;expires=5".to_owned()),
            ("sip:10.0.0.2:5060".to_owned(), "sip:203.0.113.9:61000".to_owned()),
            (
                "<sip:a;p=1@10.0.0.2:5060>, sip:10.0.0.2:5060".to_owned(),
                "<sip:a;p=1@203.0.113.9:61000;transport=tls>, sip:203.0.113.9:61000".to_owned(),
            ),
        ] {
            assert_eq!(contact(&before), after);
        }
        for other in [
            "*",
            "<sip:a@10.0.0.2>",
            "<sip:a@10.0.0.2:5061>",
            "<tel:+97235551234>",
            "\"unterminated",
            "<sip:a@10.0.0.2:5060",
            "",
        ] {
            assert_eq!(contact(other), other);
        }
    }

    #[test]
    fn nothing_is_copied_when_nothing_changes() {
        let mut same = stamp(Transport::Udp);
        same.sent_by = same.placeholder;
        same.contact = same.placeholder;
        assert!(matches!(same.apply(INVITE.as_bytes()), Cow::Borrowed(_)));
        for short in ["", "\r\n", "x", "SIP/2.0", "INVITE", "INVITE sip:a SIP/2.0\r\nVia", "A b SIP/2.0\r\nVia:"] {
            stamp(Transport::Tls).apply(short.as_bytes());
        }
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let stamp = Stamp {
            placeholder: "[::1]:5060".parse().unwrap(),
            transport: Transport::Tcp,
            sent_by: "[2001:db8::1]:5060".parse().unwrap(),
            contact: "[2001:db8::2]:5061".parse().unwrap(),
        };
        let message = b"BYE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP [::1]:5060;branch=z\r\nContact: <sip:[::1]:5060>\r\n\r\n";
        let text = String::from_utf8(stamp.apply(message).into_owned()).unwrap();
        assert!(text.contains("Via: SIP/2.0/TCP [2001:db8::1]:5060;branch=z\r\n"), "{text}");
        assert!(text.contains("Contact: <sip:[2001:db8::2]:5061;transport=tcp>\r\n"), "{text}");
    }
}
