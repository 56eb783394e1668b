//! Reads and writes the values of the authentication headers (RFC 7235 §2.1, RFC 3261 §25.1), within bounds.

/// Longest value that is read; a longer one is not looked at.
const MAX_VALUE_BYTES: usize = 4096;
/// Challenges of one response that are looked at.
pub(super) const MAX_CHALLENGES: usize = 8;
/// Parameters of one challenge that are kept.
const MAX_PARAMETERS: usize = 24;

/// The parameters of one challenge or answer, unquoted; of a name that comes twice, the first.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn push(&mut self, name: &str, value: String) {
        let name = name.to_ascii_lowercase();
        if self.0.len() < MAX_PARAMETERS && self.get(&name).is_none() {
            self.0.push((name, value));
        }
    }
}

/// The challenges in one header value, each with its scheme. What cannot be read is left out.
pub(super) fn parse_challenges(value: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    if value.len() > MAX_VALUE_BYTES {
        return challenges;
    }
    let mut reader = Reader { rest: value };
    loop {
        reader.skip(|c| c == ',' || c.is_ascii_whitespace());
        if reader.rest.is_empty() {
            return challenges;
        }
        let word = reader.word();
        match reader.value_after_equals() {
            Some(Some(parameter)) if !word.is_empty() => {
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.push(word, parameter);
                }
            }
            Some(_) => reader.skip_element(),
            // A word without a value opens a challenge.
            None if !word.is_empty() && reader.at_space_or_end() => {
                if challenges.len() >= MAX_CHALLENGES {
                    return challenges;
                }
                challenges.push((word.to_owned(), Parameters::default()));
            }
            None => reader.skip_element(),
        }
    }
}

/// The parameters of an Authorization header, when its scheme is Digest.
pub(super) fn parse_authorization(value: &str) -> Option<Parameters> {
    let mut answers = parse_challenges(value).into_iter();
    let (scheme, parameters) = answers.next()?;
    (scheme.eq_ignore_ascii_case("Digest") && answers.next().is_none()).then_some(parameters)
}

/// The parameters of a value without a scheme, such as Authentication-Info's.
pub(super) fn parse_parameters(value: &str) -> Parameters {
    let mut parameters = Parameters::default();
    if value.len() > MAX_VALUE_BYTES {
        return parameters;
    }
    let mut reader = Reader { rest: value };
    loop {
        reader.skip(|c| c == ',' || c.is_ascii_whitespace());
        if reader.rest.is_empty() {
            return parameters;
        }
        let word = reader.word();
        match reader.value_after_equals() {
            Some(Some(value)) if !word.is_empty() => parameters.push(word, value),
            _ => reader.skip_element(),
        }
    }
}

/// A quoted-string (RFC 3261 §25.1). Control characters, which it cannot hold, are left out.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(unwanted);
    }

    /// A token (RFC 3261 §25.1); empty when there is none.
    fn word(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn at_space_or_end(&self) -> bool {
        self.rest.chars().next().is_none_or(|c| c == ',' || c.is_ascii_whitespace())
    }

    /// `None` without an equals sign; `Some(None)` when what follows it is not a value.
    fn value_after_equals(&mut self) -> Option<Option<String>> {
        let after = self.rest.trim_ascii_start().strip_prefix('=')?;
        self.rest = after.trim_ascii_start();
        if let Some(inside) = self.rest.strip_prefix('"') {
            return Some(self.quoted_string(inside));
        }
        let end = self.rest.find(|c: char| c == ',' || c == '"' || c.is_ascii_whitespace()).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        if value.is_empty() || value.contains(char::is_control) {
            return Some(None);
        }
        self.rest = rest;
        Some(Some(value.to_owned()))
    }

    fn quoted_string(&mut self, inside: &'a str) -> Option<String> {
        let mut value = String::new();
        let mut chars = inside.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &inside[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next().map(|(_, c)| c).filter(|c| !c.is_control())?),
                // It would end up in a header that we write.
                c if c.is_control() && c != '\t' => return None,
                c => value.push(c),
            }
        }
        None
    }

    /// Goes on behind the next comma that no quotes enclose.
    fn skip_element(&mut self) {
        let (mut within, mut escaped) = (false, false);
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if within => escaped = true,
                '"' => within = !within,
                ',' if !within => {
                    self.rest = &self.rest[at + 1..];
                    return;
                }
                _ => {}
            }
        }
        self.rest = "";
    }
}
