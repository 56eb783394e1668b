//! Makes messages readable that peers send all the same: no Content-Length, another charset than UTF-8, blanks where the stack
//! expects none (RFC 3261 §7.3.1, §18.3). What stays unreadable is refused, since the stack would drop it without a word.

use std::borrow::Cow;

use rsipstack::rsip::SipMessage;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};

use super::Counter;
use super::head::{Head, Line};
use super::wire::{Fault, content_length, malformed};
use crate::config::HeaderCharset;

/// A message that the stack can read, as bytes and as what it reads in them, and what was done to it.
pub(super) struct Readable<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) message: SipMessage,
    pub(super) repairs: Vec<Counter>,
}

/// Text in a legacy charset.
pub(super) fn decode(charset: HeaderCharset, bytes: &[u8]) -> Cow<'_, str> {
    let encoding = match charset {
        HeaderCharset::Windows1255 => encoding_rs::WINDOWS_1255,
        HeaderCharset::Windows1251 => encoding_rs::WINDOWS_1251,
        HeaderCharset::Windows1252 => encoding_rs::WINDOWS_1252,
    };
    encoding.decode_without_bom_handling(bytes).0
}

/// Repairs a message of at most `limit` bytes.
pub(super) fn repair<'a>(
    bytes: &'a [u8],
    head: &Head<'a>,
    charset: HeaderCharset,
    limit: usize,
) -> Result<Readable<'a>, Fault> {
    let body_at = head.body_at.ok_or(malformed("Headers Not Terminated"))?;
    let body = &bytes[body_at..];
    let length = content_length(head)?;
    if length.is_some_and(|length| length > body.len()) {
        return Err(malformed("Body Shorter Than Content-Length"));
    }
    // §18.3: in a datagram, what follows the body is not of the message.
    let body = &body[..length.unwrap_or(body.len())];
    let foreign = std::str::from_utf8(&bytes[..body_at]).is_err();
    let mut repairs = Vec::new();
    if length.is_none() {
        repairs.push(Counter::RepairedLength);
    }
    if foreign {
        repairs.push(Counter::RepairedCharset);
    }
    let mut repaired = match repairs.is_empty() {
        true => Cow::Borrowed(&bytes[..body_at + body.len()]),
        false => Cow::Owned(rewrite(head, body, length.is_none(), charset, false)),
    };
    let mut message = read(&repaired);
    if message.is_none() && has_loose_blanks(head) {
        repairs.push(Counter::RepairedBlanks);
        repaired = Cow::Owned(rewrite(head, body, length.is_none(), charset, true));
        message = read(&repaired);
    }
    if repaired.len() > limit {
        return Err(Fault(513, "Message Too Large", Counter::Oversized));
    }
    let message = message.ok_or(malformed("Bad Request"))?;
    Ok(Readable { bytes: repaired, message, repairs })
}

/// The message as the stack reads it; none when it would drop it.
fn read(bytes: &[u8]) -> Option<SipMessage> {
    let message = SipMessage::try_from(bytes).ok()?;
    let key = match &message {
        SipMessage::Request(request) => TransactionKey::from_request(request, TransactionRole::Server),
        SipMessage::Response(response) => TransactionKey::from_response(response, TransactionRole::Client),
    };
    key.is_ok().then_some(message)
}

fn rewrite(head: &Head<'_>, body: &[u8], add_length: bool, charset: HeaderCharset, tighten: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(head.body_at.unwrap_or(0) + body.len() + 64);
    let mut push = |line: &[u8]| {
        match std::str::from_utf8(line) {
            Ok(_) => text.extend_from_slice(line),
            Err(_) => text.extend_from_slice(decode(charset, line).as_bytes()),
        }
        text.extend_from_slice(b"\r\n");
    };
    push(head.start);
    for line in &head.lines {
        match tighten && is_structured(line) {
            true => push(&tightened(line)),
            false => push(line.whole),
        }
    }
    if add_length {
        push(format!("Content-Length: {}", body.len()).as_bytes());
    }
    push(b"");
    text.extend_from_slice(body);
    text
}

/// The headers whose blanks the stack trips over.
fn is_structured(line: &Line<'_>) -> bool {
    ["via", "from", "to", "cseq"].iter().any(|name| line.is(name))
}

fn has_loose_blanks(head: &Head<'_>) -> bool {
    head.lines.iter().any(|line| is_structured(line) && line.whole.len() != tightened(line).len())
}

/// A header line without folds, and without blanks around `;`, `=`, `,` and `/` outside quotes and brackets.
fn tightened(line: &Line<'_>) -> Vec<u8> {
    let mut tight = [line.name, b": "].concat();
    let from = tight.len();
    let (mut quoted, mut escaped, mut bracket) = (false, false, false);
    for &byte in line.value {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if quoted {
            tight.push(if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        let after_separator = tight.last().is_some_and(|last| b";=,/ ".contains(last));
        if blank && !bracket {
            if !after_separator && tight.len() > from {
                tight.push(b' ');
            }
            continue;
        }
        if b";=,/".contains(&byte) && !bracket && tight.len() > from && tight.last() == Some(&b' ') {
            tight.pop();
        }
        quoted = byte == b'"';
        bracket = (bracket || byte == b'<') && byte != b'>';
        tight.push(byte);
    }
    tight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_where_they_mean_nothing_and_stay_where_they_do() {
        let tight = |text: &str| {
            let message = format!("A b c\r\n{text}\r\n\r\n");
            String::from_utf8(tightened(&Head::split(message.as_bytes()).lines[0])).unwrap()
        };
        assert_eq!(
            tight("f : \"A ; \\\" = B\"  <sip:a;b = c@d>\r\n ;\r\n  tag = 98"),
            "f: \"A ; \\\" = B\" <sip:a;b = c@d>;tag=98"
        );
        assert_eq!(
            tight("Via: SIP  /   2.0\r\n /UDP\r\n   192.0.2.2; branch= z , SIP/2.0/TCP  b"),
            "Via: SIP/2.0/UDP 192.0.2.2;branch=z,SIP/2.0/TCP b"
        );
        assert_eq!(tight("CSeq:  0009\r\n  INVITE"), "CSeq: 0009 INVITE");
    }

    #[test]
    fn each_charset_is_read_as_itself() {
        use HeaderCharset::*;
        for (charset, letter) in [(Windows1255, "ש"), (Windows1251, "щ"), (Windows1252, "ù")] {
            assert_eq!(decode(charset, &[0xf9]), letter);
        }
    }
}
