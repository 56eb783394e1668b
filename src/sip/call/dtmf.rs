//! Digits in INFO requests: `application/dtmf-relay` (Signal and Duration lines) and `application/dtmf` (the bare digit).
//!
//! Neither has an RFC; Cisco and Asterisk set the forms. Not implemented: RFC 6086 info packages.

use std::time::Duration;

/// What an INFO says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Info {
    /// No body, or a signal that is no digit (a hook flash): nothing to do.
    Nothing,
    Digit(char, Duration),
    /// A body that is not understood.
    Unknown,
}

/// The media types that are understood, as an Accept header lists them.
pub(super) const ACCEPT: &str = "application/dtmf-relay, application/dtmf";

/// How long a key is taken to be pressed when nothing is said.
const USUAL: Duration = Duration::from_millis(160);
const LONGEST: Duration = Duration::from_secs(5);

/// Reads a body.
pub(super) fn read(content_type: &str, body: &[u8]) -> Info {
    if body.is_empty() {
        return Info::Nothing;
    }
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Ok(text) = std::str::from_utf8(body) else { return Info::Unknown };
    match kind.as_str() {
        "application/dtmf" => signal(text, USUAL),
        "application/dtmf-relay" => {
            let line = |name: &str| {
                text.lines()
                    .filter_map(|line| line.split_once('='))
                    .find_map(|(key, value)| key.trim().eq_ignore_ascii_case(name).then(|| value.trim()))
            };
            let duration = line("Duration").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
            line("Signal").map_or(Info::Unknown, |value| signal(value, duration.unwrap_or(USUAL).min(LONGEST)))
        }
        _ => Info::Unknown,
    }
}

fn signal(text: &str, duration: Duration) -> Info {
    let text = text.trim();
    let mut chars = text.chars();
    match (chars.next().map(|digit| digit.to_ascii_uppercase()), chars.next()) {
        (Some(digit @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => Info::Digit(digit, duration),
        // The event numbers of RFC 4733: some send 10 and 11 for the star and the pound key, 16 is the hook flash.
        _ => match text {
            "10" => Info::Digit('*', duration),
            "11" => Info::Digit('#', duration),
            "16" | "!" => Info::Nothing,
            _ => Info::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_their_digit() {
        let relay = |body: &str| read("application/dtmf-relay", body.as_bytes());
        assert_eq!(relay("Signal=5\r\nDuration=250\r\n"), Info::Digit('5', Duration::from_millis(250)));
        assert_eq!(relay("signal= #\nduration = x"), Info::Digit('#', USUAL));
        assert_eq!(relay("Signal=a\r\nDuration=999999"), Info::Digit('A', LONGEST));
        assert_eq!(relay("Signal=11\r\n"), Info::Digit('#', USUAL));
        assert_eq!(read("Application/DTMF; x=y", b" 7\r\n"), Info::Digit('7', USUAL));
    }

    #[test]
    fn nothing_said_is_nothing_and_the_rest_is_unknown() {
        assert_eq!(read("", b""), Info::Nothing);
        assert_eq!(read("application/dtmf", b"16"), Info::Nothing);
        for (kind, body) in [
            ("application/dtmf", &b"55"[..]),
            ("application/dtmf", "٣".as_bytes()),
            ("application/dtmf-relay", b"Duration=5"),
            ("application/dtmf-relay", &[0xff, b'=']),
            ("application/media_control+xml", b"<x/>"),
            ("", b"5"),
        ] {
            assert_eq!(read(kind, body), Info::Unknown, "{kind}");
        }
    }
}
