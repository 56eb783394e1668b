//! Texts with placeholders in double braces, as requests to a CRM are written: `{{caller.e164}}`, `{{key}}`.

use std::fmt;

use super::load::nearest;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// The secret of `key_file`.
    Key,
    /// The caller's number in international form: `+972501234567`; where there is none, its digits.
    E164,
    /// As it is dialled within the country: `0501234567`.
    National,
    /// International without the plus: `972501234567`.
    Digits,
    /// As the network gave it.
    Raw,
}

const NAMES: [(&str, Placed); 5] = [
    ("key", Placed::Key),
    ("caller.e164", Placed::E164),
    ("caller.national", Placed::National),
    ("caller.digits", Placed::Digits),
    ("caller.raw", Placed::Raw),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placed(Placed),
}

/// A text and its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A placeholder that stands for nothing. The text around it is not repeated: somebody may have put a key into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced(String);

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// When a placeholder has no end or no meaning; with a remedy.
    pub fn parse(text: &str) -> Result<Self, Unplaced> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(Unplaced("a placeholder has no end; write it as in \"{{caller.e164}}\"".into()));
            };
            let name = name.trim();
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, placed) = known.ok_or_else(|| {
                let remedy = match nearest(name, NAMES.iter().map(|(known, _)| *known)) {
                    Some(near) => format!("did you mean {{{{{near}}}}}?"),
                    None => {
                        let all: Vec<String> = NAMES.iter().map(|(known, _)| format!("{{{{{known}}}}}")).collect();
                        format!("there are {}", all.join(", "))
                    }
                };
                let shown: String = name.chars().take(40).collect();
                Unplaced(format!("unknown placeholder {{{{{shown}}}}}; {remedy}"))
            })?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Placed(*placed));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    /// Whether it has this placeholder.
    pub fn has(&self, wanted: Placed) -> bool {
        self.0.contains(&Piece::Placed(wanted))
    }

    /// Whether it names the caller in any form.
    pub fn names_the_caller(&self) -> bool {
        [Placed::E164, Placed::National, Placed::Digits, Placed::Raw].into_iter().any(|placed| self.has(placed))
    }

    /// The text with each placeholder replaced.
    pub fn filled(&self, mut with: impl FnMut(Placed) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Placed(placed) => with(*placed),
        };
        self.0.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_and_the_rest_stays() {
        let template = Template::parse("a{{ key }}b{c}{{caller.digits}}").unwrap();
        assert!(template.has(Placed::Key) && template.names_the_caller() && !template.has(Placed::Raw));
        let filled = template.filled(|placed| if placed == Placed::Key { "K".into() } else { "1".into() });
        assert_eq!(filled, "aKb{c}1");
    }

    #[test]
    fn an_unknown_placeholder_gets_a_suggestion_and_the_text_is_not_repeated() {
        let error = Template::parse("https://x/?token=hunter2&p={{caller.e614}}").unwrap_err().to_string();
        assert!(error.contains("did you mean {{caller.e164}}?") && !error.contains("hunter2"), "{error}");
        assert!(Template::parse("{{zebra}}").unwrap_err().to_string().contains("{{caller.national}}"));
        assert!(Template::parse("{{caller.e164").unwrap_err().to_string().contains("no end"));
    }
}
