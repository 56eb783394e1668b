//! Reads name-addrs (`"Display" <sip:user@host>;params`) and lists of them, quote-aware (RFC 3261 §20.10, §25.1; RFC 3966).
//!
//! The stack's own reader takes the first `<` even inside a quoted display name, so that a caller could choose
//! whose number is shown. Not implemented: the host and port of the URI beyond finding the host; comments.

/// One address with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NameAddr<'a> {
    /// The display name without quotes and escapes; empty when there is none.
    pub(super) display: String,
    /// What stands in the brackets.
    pub(super) uri: &'a str,
    /// The header's parameters, from the first semicolon.
    pub(super) parameters: &'a str,
}

impl<'a> NameAddr<'a> {
    /// Reads one value. None: a quote or a bracket does not close, so that nothing in it can be trusted to be the address.
    pub(super) fn read(value: &'a str) -> Option<Self> {
        let value = value.trim();
        let (display, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => match value.find('<') {
                Some(at) => (value[..at].trim().to_owned(), &value[at..]),
                None => (String::new(), value),
            },
        };
        let rest = rest.trim_start();
        let (uri, parameters) = match rest.strip_prefix('<') {
            Some(inside) => inside.split_once('>')?,
            // Without brackets every parameter belongs to the header (§20).
            None => rest.split_at(rest.find(';').unwrap_or(rest.len())),
        };
        let parameters = parameters.trim_start();
        Some(Self { display: display.trim().to_owned(), uri: uri.trim(), parameters })
    }

    /// The value of a header parameter, without quotes; empty for one that has none.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.parameters, name)
    }
}

/// Splits a header's value at the commas that are neither quoted nor in brackets.
pub(super) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    split_outside(value, ',').map(str::trim).filter(|part| !part.is_empty())
}

/// The value of a parameter in `;a=b;c="d"`, without quotes; empty for one that has none.
pub(super) fn parameter(parameters: &str, name: &str) -> Option<String> {
    split_outside(parameters, ';').find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        key.trim().eq_ignore_ascii_case(name).then(|| match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted).map(|(text, _)| text).unwrap_or_default(),
            None => value.to_owned(),
        })
    })
}

/// Splits where a separator stands outside quotes and angle brackets.
fn split_outside(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped, mut bracket) = (false, false, false);
        for (at, char) in text.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' if !bracket => quoted = !quoted,
                '<' if !quoted => bracket = true,
                '>' if !quoted => bracket = false,
                _ if char == separator && !quoted && !bracket => {
                    rest = Some(&text[at + char.len_utf8()..]);
                    return Some(&text[..at]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

/// A SIP, SIPS or tel URI in its parts, escapes resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UriParts<'a> {
    /// A number as a rule; empty when there is none.
    pub(super) user: String,
    /// Of a tel URI, or within a SIP URI's user part: what a local number is local to.
    pub(super) phone_context: Option<String>,
    /// Without port; empty for a tel URI.
    pub(super) host: &'a str,
}

impl<'a> UriParts<'a> {
    pub(super) fn read(uri: &'a str) -> Self {
        let Some((scheme, rest)) = uri.trim().split_once(':') else {
            return Self::default();
        };
        let (user, host) = if scheme.eq_ignore_ascii_case("tel") {
            (rest.split('?').next().unwrap_or(""), "")
        } else {
            // §25.1 has no `@` beyond this one that is not escaped.
            rest.split_once('@').unwrap_or(("", rest))
        };
        let parameters = user.find(';').map_or("", |at| &user[at..]);
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or(""),
            None => host.split([':', ';', '?']).next().unwrap_or(""),
        };
        // `user:password` and user parameters (`;phone-context=`) are not the user.
        let user = user.split([':', ';']).next().unwrap_or("");
        Self { user: percent_decode(user), phone_context: parameter(parameters, "phone-context"), host }
    }
}

/// The user part of a SIP, SIPS or tel URI, `%` escapes resolved; empty when there is none.
pub(super) fn uri_user(uri: &str) -> String {
    UriParts::read(uri).user
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

    fn party(value: &str) -> Option<(String, String)> {
        NameAddr::read(value).map(|address| (address.display.clone(), uri_user(address.uri)))
    }

    fn is(display: &str, user: &str) -> Option<(String, String)> {
        Some((display.into(), user.into()))
    }

    #[test]
    fn a_bracket_inside_quotes_is_not_the_address() {
        assert_eq!(party(r#""a<sip:boss@bank>b" <sip:1@x>;tag=7"#), is("a<sip:boss@bank>b", "1"));
        assert_eq!(party(r#""she said \"<\"" <sip:2@x>"#), is(r#"she said "<""#, "2"));
    }

    #[test]
    fn every_shape_of_an_address_is_read() {
        assert_eq!(party("<sip:+972501234567@10.0.0.1:5060;user=phone>;tag=1"), is("", "+972501234567"));
        assert_eq!(party("sip:620@fritz.box;tag=1"), is("", "620"));
        assert_eq!(party("Front Desk <sip:100:secret@pbx>"), is("Front Desk", "100"));
        assert_eq!(party("\"שלום\" <sip:03;phone-context=+972@pbx>"), is("שלום", "03"));
        assert_eq!(party("<tel:+972-3-555;ext=2>"), is("", "+972-3-555"));
        assert_eq!(party("\"\" <sip:10%30%2a@pbx>"), is("", "100*"));
        assert_eq!(party("<sip:pbx.example>"), is("", ""));
    }

    #[test]
    fn what_does_not_close_gives_nobody() {
        assert_eq!(party(r#""boss <sip:1@x>"#), None);
        assert_eq!(party(r#""boss\"#), None);
        assert_eq!(party("<sip:1@x"), None);
    }

    #[test]
    fn a_list_is_split_at_its_own_commas_only() {
        let value = r#""Doe, \"J\", Jr." <sip:1,2@x>;a="b,c", , <tel:+1>,sip:3@y;p=4"#;
        let parts: Vec<_> = split_list(value).collect();
        assert_eq!(parts, [r#""Doe, \"J\", Jr." <sip:1,2@x>;a="b,c""#, "<tel:+1>", "sip:3@y;p=4"]);
    }

    #[test]
    fn parameters_are_found_whatever_their_case_and_quotes() {
        let address = NameAddr::read(r#"<sip:1@x;tag=no> ; Reason="a;tag=no" ;screen ; TAG = z"#).unwrap();
        assert_eq!(address.parameter("tag").as_deref(), Some("z"));
        assert_eq!(address.parameter("reason").as_deref(), Some("a;tag=no"));
        assert_eq!(address.parameter("screen").as_deref(), Some(""));
        assert_eq!(address.parameter("privacy"), None);
    }

    #[test]
    fn a_uri_has_a_user_a_host_and_perhaps_a_context() {
        let parts = UriParts::read("sip:03;phone-context=+972:secret@[2001:db8::1]:5060;x?y=z");
        assert_eq!((parts.user.as_str(), parts.host), ("03", "2001:db8::1"));
        assert_eq!(UriParts::read("tel:0501;phone-context=+972").phone_context.as_deref(), Some("+972"));
        assert_eq!(UriParts::read("sip:a@anonymous.invalid;x").host, "anonymous.invalid");
        assert_eq!(UriParts::read("sip:pbx.example:5060").host, "pbx.example");
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
            for part in split_list(&value) {
                if let Some(address) = NameAddr::read(part) {
                    UriParts::read(address.uri);
                    address.parameter("tag");
                }
            }
        }
    }
}
