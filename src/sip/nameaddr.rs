//! Reads a name-addr (`"Display" <sip:user@host>;params`), quote-aware (RFC 3261 §20.10, §25.1).
//!
//! The stack's own reader takes the first `<` even inside a quoted display name, so that a caller could choose
//! whose number is shown. Not implemented: header parameters other than by skipping them; `tel:` parameters.

/// Who is at one end of a call, as the peer's header says; nothing of it is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// The display name without quotes and escapes; none when absent or empty.
    pub display: Option<String>,
    /// The user part of the URI (a number as a rule) with `%` escapes resolved; empty when the URI has none.
    pub user: String,
}

/// Reads a From, To or P-Asserted-Identity value. Whatever cannot be read is left out; never fails.
pub(super) fn parse_party(value: &str) -> Party {
    let value = value.trim();
    let (display, rest) = match value.strip_prefix('"') {
        Some(quoted) => match unquote(quoted) {
            Some((display, rest)) => (display, rest),
            // A quote that never closes: nothing in it can be trusted to be the address.
            None => return Party::default(),
        },
        None => match value.find('<') {
            Some(at) => (value[..at].trim().to_owned(), &value[at..]),
            None => (String::new(), value),
        },
    };
    let rest = rest.trim_start();
    let uri = match rest.strip_prefix('<') {
        Some(inside) => inside.split('>').next().unwrap_or(""),
        // Without brackets every parameter belongs to the header (§20).
        None => rest.split(';').next().unwrap_or(""),
    };
    Party { display: Some(display.trim().to_owned()).filter(|display| !display.is_empty()), user: uri_user(uri) }
}

/// The user part of a SIP, SIPS or tel URI, `%` escapes resolved; empty when there is none.
pub(super) fn uri_user(uri: &str) -> String {
    let uri = uri.trim();
    let Some((scheme, rest)) = uri.split_once(':') else {
        return String::new();
    };
    let user = if scheme.eq_ignore_ascii_case("tel") {
        rest.split([';', '?']).next().unwrap_or("")
    } else {
        match rest.split_once('@') {
            // `user:password` and user parameters (`;phone-context=`) are not the user.
            Some((user_info, _)) => user_info.split([':', ';']).next().unwrap_or(""),
            None => "",
        }
    };
    percent_decode(user)
}

/// Resolves `%41` escapes; what is not an escape, or would not be UTF-8, stays as it is.
pub(super) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// The text up to the closing quote with escapes resolved, and what follows the quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(chars.next()?.1),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn party(value: &str) -> (Option<String>, String) {
        let party = parse_party(value);
        (party.display, party.user)
    }

    #[test]
    fn a_bracket_inside_quotes_is_not_the_address() {
        assert_eq!(party(r#""a<sip:boss@bank>b" <sip:1@x>;tag=7"#), (Some("a<sip:boss@bank>b".into()), "1".into()));
        assert_eq!(party(r#""she said \"<\"" <sip:2@x>"#), (Some(r#"she said "<""#.into()), "2".into()));
    }

    #[test]
    fn every_shape_of_an_address_is_read() {
        assert_eq!(party("<sip:+972501234567@10.0.0.1:5060;user=phone>;tag=1"), (None, "+972501234567".into()));
        assert_eq!(party("sip:620@fritz.box;tag=1"), (None, "620".into()));
        assert_eq!(party("Front Desk <sip:100:secret@pbx>"), (Some("Front Desk".into()), "100".into()));
        assert_eq!(party("\"שלום\" <sip:03;phone-context=+972@pbx>"), (Some("שלום".into()), "03".into()));
        assert_eq!(party("<tel:+972-3-555;ext=2>"), (None, "+972-3-555".into()));
        assert_eq!(party("\"\" <sip:10%30%2a@pbx>"), (None, "100*".into()));
        assert_eq!(party("<sip:pbx.example>"), (None, String::new()));
    }

    #[test]
    fn an_open_quote_gives_nobody() {
        assert_eq!(party(r#""boss <sip:1@x>"#), (None, String::new()));
        assert_eq!(party(r#""boss\"#), (None, String::new()));
    }

    #[test]
    fn an_escape_that_is_none_stays() {
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(percent_decode("%ff"), "%ff");
        assert_eq!(percent_decode("%+1"), "%+1");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(value in "\\PC{0,80}") {
            parse_party(&value);
        }
    }
}
