//! As much of XML 1.0 as it takes to say whether SSML is well-formed, and what is in it. Not implemented: comments, processing
//! instructions, CDATA, document types: nobody sends them here.

/// An element, when it was closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub name: String,
    attributes: Vec<(String, String)>,
    /// The text in it, without that of the elements inside.
    pub text: String,
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The elements of a document, inner ones first.
pub(super) fn read(text: &str) -> Result<Vec<Element>, &'static str> {
    let (mut open, mut closed): (Vec<Element>, Vec<Element>) = (Vec::new(), Vec::new());
    let mut rest = text.trim();
    while !rest.is_empty() {
        if closed.len() > 100 || open.len() > 100 {
            return Err("too large");
        }
        if open.is_empty() && !closed.is_empty() {
            return Err("something behind the last element");
        }
        let Some(tag) = rest.strip_prefix('<') else {
            let (text, behind) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            open.last_mut().ok_or("text outside of an element")?.text.push_str(&unescape(text)?);
            rest = behind;
            continue;
        };
        let (tag, behind) = tag.split_once('>').ok_or("a tag is not closed")?;
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().filter(|element| element.name == name.trim_end());
            closed.push(element.ok_or("an end tag without its start tag")?);
            continue;
        }
        let alone = tag.ends_with('/');
        let element = start_tag(tag.trim_end_matches('/'))?;
        if alone { closed.push(element) } else { open.push(element) }
    }
    if open.is_empty() && !closed.is_empty() { Ok(closed) } else { Err("an element is not closed") }
}

fn start_tag(tag: &str) -> Result<Element, &'static str> {
    let (name, mut rest) = tag.split_at(tag.find(char::is_whitespace).unwrap_or(tag.len()));
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || ":-_.".contains(c)) {
        return Err("a tag without a name");
    }
    let mut element = Element { name: name.to_owned(), ..Element::default() };
    while !rest.trim_start().is_empty() {
        let (name, behind) = rest.trim_start().split_once('=').ok_or("an attribute without a value")?;
        let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("a value without quotes")?;
        let (value, behind) = behind[1..].split_once(quote).ok_or("a value without its second quote")?;
        element.attributes.push((name.to_owned(), unescape(value)?));
        rest = behind;
    }
    Ok(element)
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('&') {
        let (name, behind) = from.split_once(';').ok_or("an ampersand that is not escaped")?;
        out.push_str(before);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return Err("an unknown entity"),
        });
        rest = behind;
    }
    out.push_str(rest);
    match out.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        true => Err("a control character"),
        false => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_formed_is_read_and_what_is_not_is_refused() {
        let elements = read("<speak a='1' xml:lang=\"he-IL\"><voice name='x'>a &amp; b</voice></speak>").unwrap();
        assert_eq!(elements[0].text, "a & b");
        assert_eq!(elements[1].attribute("xml:lang"), Some("he-IL"));
        for text in [
            "",
            "a",
            "<a>",
            "<a></b>",
            "<a>&</a>",
            "<a>&x;</a>",
            "<a b=1></a>",
            "<a><b></a></b>",
            "<a></a><b></b>",
            "<a>\u{1}</a>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
