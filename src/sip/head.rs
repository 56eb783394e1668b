//! The head of a SIP message as raw bytes: start line and logical header lines (RFC 3261 §7.3), nothing of it understood.

/// The most header lines in a message; honest ones have about twenty.
pub(super) const MAX_HEADERS: usize = 200;

/// Compact names (RFC 3261 §7.3.3, RFC 3515, RFC 3892, RFC 4028, RFC 6665) of the headers that are looked at.
const COMPACT: [(&str, u8); 12] = [
    ("via", b'v'),
    ("from", b'f'),
    ("to", b't'),
    ("call-id", b'i'),
    ("contact", b'm'),
    ("content-length", b'l'),
    ("content-type", b'c'),
    ("content-encoding", b'e'),
    ("supported", b'k'),
    ("session-expires", b'x'),
    ("refer-to", b'r'),
    ("subject", b's'),
];

/// Start line, headers, and where the body begins.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) start: &'a [u8],
    pub(super) lines: Vec<Line<'a>>,
    /// None when no empty line ends the head.
    pub(super) body_at: Option<usize>,
}

/// One logical header line, with its folds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// As written; empty when there is no colon.
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl Line<'_> {
    /// Whether it is the header with this long name, given in lower case.
    pub(super) fn is(&self, name: &str) -> bool {
        match self.name {
            [letter] => {
                COMPACT.iter().any(|(long, compact)| *long == name && letter.eq_ignore_ascii_case(compact))
                    || name.len() == 1 && self.name.eq_ignore_ascii_case(name.as_bytes())
            }
            long => long.eq_ignore_ascii_case(name.as_bytes()),
        }
    }
}

impl<'a> Head<'a> {
    /// Splits a message, which begins with its start line. One more line than [`MAX_HEADERS`] is kept to show that there are too many.
    pub(super) fn split(message: &'a [u8]) -> Self {
        let end = message.windows(4).position(|four| four == b"\r\n\r\n");
        let text = &message[..end.unwrap_or(message.len())];
        let mut head = Head { start: b"", lines: Vec::with_capacity(24), body_at: end.map(|end| end + 4) };
        let mut at = 0;
        while at < text.len() && head.lines.len() <= MAX_HEADERS {
            let from = at;
            // A line goes on while the next one starts with white space.
            loop {
                at += text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len() - at, |newline| newline + 1);
                if from == 0 || !matches!(text.get(at), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let whole = text[from..at].trim_ascii_end();
            if from == 0 {
                head.start = whole;
            } else {
                let colon = whole.iter().position(|&byte| byte == b':');
                let (name, value) = colon.map_or((&b""[..], &b""[..]), |colon| (&whole[..colon], &whole[colon + 1..]));
                head.lines.push(Line { name: name.trim_ascii(), value: value.trim_ascii(), whole });
            }
        }
        head
    }

    /// The values of all headers of this name, given in lower case.
    pub(super) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.lines.iter().filter(move |line| line.is(name)).map(|line| line.value)
    }

    /// The first value.
    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The first value as text.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.first(name)?).ok()
    }

    /// The value of a header that there is exactly one of.
    pub(super) fn single(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The method of a request.
    pub(super) fn method(&self) -> &'a [u8] {
        self.start.split(u8::is_ascii_whitespace).next().unwrap_or_default()
    }
}

/// RFC 3261 §25.1: what methods and header names are made of.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte))
}

/// Whether a first line may be a request line at all: a method first, `SIP/…` last.
pub(super) fn is_request_line(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let Some(at) = line.iter().rposition(|byte| matches!(byte, b' ' | b'\t')) else {
        return false;
    };
    let method = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    line[at + 1..].starts_with(b"SIP/") && is_token(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_and_compact_headers_are_lines() {
        let head = Head::split(b"A b SIP/2.0\r\nv: one\r\nVIA :two\r\n  three\r\nnonsense\r\nL: 3\r\n\r\nabc");
        assert_eq!(head.method(), b"A");
        assert_eq!(head.values("via").collect::<Vec<_>>(), [&b"one"[..], b"two\r\n  three"]);
        assert_eq!((head.single("via"), head.single("content-length")), (None, Some(&b"3"[..])));
        assert_eq!(head.lines[2].name, b"");
        assert_eq!(head.body_at, Some(58));
        assert_eq!(Head::split(b"A b SIP/2.0\r\nv: one\r\n").body_at, None);
        assert_eq!(Head::split(b"").lines.len(), 0);
    }

    #[test]
    fn what_has_no_method_or_no_protocol_is_no_request() {
        assert!(is_request_line(b"INVITE sip:x SIP/2.0\r"));
        assert!(!is_request_line(b"GET / HTTP/1.1"));
        assert!(!is_request_line(b"INV@ITE sip:x SIP/2.0"));
        assert!(!is_request_line(b"hello"));
    }
}
