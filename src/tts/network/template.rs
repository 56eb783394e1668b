//! Requests with places for what is filled in, escaped for where it stands.

use crate::config::PLACEHOLDERS;
use crate::http::{in_json_string, percent_encoded};

/// What is filled in.
#[derive(Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub text: &'a str,
    pub voice: &'a str,
    /// `he`
    pub language: &'a str,
    /// `he-IL`
    pub locale: &'a str,
    pub model: &'a str,
    pub key: &'a str,
    pub region: &'a str,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Inside a JSON string.
    Json,
    /// In XML, between tags or in an attribute.
    Xml,
    /// In a URL or a form.
    Url,
    /// In a header, or in a body of plain text.
    Plain,
}

impl Place {
    /// What a body of this media type is.
    pub fn of_body(content_type: &str) -> Self {
        let content_type = content_type.to_ascii_lowercase();
        match () {
            () if content_type.contains("json") => Self::Json,
            () if content_type.contains("xml") => Self::Xml,
            () if content_type.contains("form-urlencoded") => Self::Url,
            () => Self::Plain,
        }
    }
}

/// Fills in. Unknown names, which the configuration does not let through, stay as they are.
pub(super) fn fill(template: &str, values: &Values<'_>, place: Place) -> String {
    let mut out = String::with_capacity(template.len() + values.text.len());
    let mut rest = template;
    while let Some((before, from)) = rest.split_once("{{") {
        out.push_str(before);
        match from.split_once("}}").filter(|(name, _)| PLACEHOLDERS.contains(name)) {
            Some((name, behind)) => {
                match name {
                    // Inside JSON this is SSML in a string: escaped for both.
                    "xml_text" if place == Place::Xml => escape(values.text, Place::Xml, &mut out),
                    "xml_text" => {
                        let mut xml = String::new();
                        escape(values.text, Place::Xml, &mut xml);
                        escape(&xml, place, &mut out);
                    }
                    "text" => escape(values.text, place, &mut out),
                    "voice" => escape(values.voice, place, &mut out),
                    "language" => escape(values.language, place, &mut out),
                    "locale" => escape(values.locale, place, &mut out),
                    "model" => escape(values.model, place, &mut out),
                    "key" => escape(values.key, place, &mut out),
                    _ => escape(values.region, place, &mut out),
                }
                rest = behind;
            }
            None => {
                out.push_str("{{");
                rest = from;
            }
        }
    }
    out.push_str(rest);
    out
}

fn escape(text: &str, place: Place, out: &mut String) {
    match place {
        Place::Json => {
            out.push_str(&in_json_string(text));
        }
        Place::Xml => {
            for c in text.chars() {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '"' => out.push_str("&quot;"),
                    '\'' => out.push_str("&apos;"),
                    // XML 1.0 §2.2 knows no other controls and neither of these two.
                    '\t' | '\n' | '\r' => out.push(' '),
                    '\u{fffe}' | '\u{ffff}' => {}
                    _ if c.is_control() => {}
                    _ => out.push(c),
                }
            }
        }
        Place::Url => out.push_str(&percent_encoded(text)),
        Place::Plain => out.push_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, text: &str, place: Place) -> String {
        let values = Values { text, voice: "Hila", language: "he", locale: "he-IL", ..Values::default() };
        fill(template, &values, place)
    }

    #[test]
    fn each_place_has_its_own_escapes() {
        let text = "a \"b\" <c> & d's ש\"ח\n";
        assert_eq!(filled("{\"t\":\"{{text}}\"}", text, Place::Json), "{\"t\":\"a \\\"b\\\" <c> & d's ש\\\"ח\\n\"}");
        assert_eq!(
            filled("<v name='{{voice}}'>{{xml_text}}</v>", text, Place::Xml),
            "<v name='Hila'>a &quot;b&quot; &lt;c&gt; &amp; d&apos;s ש&quot;ח </v>"
        );
        assert_eq!(
            filled("{\"ssml\":\"<s>{{xml_text}}</s>\"}", "\"\\", Place::Json),
            "{\"ssml\":\"<s>&quot;\\\\</s>\"}"
        );
        assert_eq!(filled("/tts?text={{text}}&l={{locale}}", "a b&ש", Place::Url), "/tts?text=a%20b%26%D7%A9&l=he-IL");
        assert_eq!(filled("{{text}}{{text}}", "x", Place::Plain), "xx");
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        assert_eq!(filled("{{text}} {{voice}}", "{{key}} }}", Place::Plain), "{{key}} }} Hila");
        assert_eq!(filled("{\"a\":{\"b\":{}}} {{ x", "t", Place::Json), "{\"a\":{\"b\":{}}} {{ x");
    }

    proptest::proptest! {
        #[test]
        fn a_filled_json_template_is_json_that_holds_the_text(text in ".{0,60}") {
            let body: serde_json::Value = serde_json::from_str(&filled("{\"t\":\"{{text}}\"}", &text, Place::Json)).unwrap();
            assert_eq!(body["t"], text);
        }
    }
}
