//! The Warning header field (RFC 3261 §20.43): why a description is refused, in words for whoever set up the peer.

/// Longer texts are cut.
const MAX_CHARS: usize = 160;

/// What is wrong with a description, as a Warning header field says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    code: u16,
    text: String,
}

impl Warning {
    /// With a code of RFC 3261 §20.43: 300 to 307 and 399.
    pub fn new(code: u16, text: impl AsRef<str>) -> Self {
        Self { code, text: quotable(text.as_ref()) }
    }

    /// The header field's value. Who warns is the product's name, a pseudonym as §20.43 allows: it tells no address.
    pub(super) fn value(&self) -> String {
        format!("{:03} offhook \"{}\"", self.code, self.text)
    }
}

/// A text that may stand between quotation marks in a header field, shortened. What it quotes of the peer's cannot end the field.
fn quotable(text: &str) -> String {
    let harmless = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(harmless).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_header_field() {
        let warning = Warning::new(305, "no \"PCMU\"\r\nVia: x\\");
        assert_eq!(warning.value(), "305 offhook \"no 'PCMU'  Via: x/\"");
        assert_eq!(Warning::new(399, "x".repeat(500)).value().len(), MAX_CHARS + 14);
    }
}
