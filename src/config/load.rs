//! Reading and checking a configuration file, with every problem found at once, each with its line and a remedy.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{Config, HttpTool, Trunk};

/// No configuration is larger; more is a wrong file.
const MAX_BYTES: u64 = 1 << 20;

/// What somebody may want to write into the file, and must not.
const TEMPTING_SECRETS: [&str; 1] = ["password"];

/// Lines of a text that is not TOML that are worth showing.
const MAX_SYNTAX_PROBLEMS: usize = 5;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; check the path and that the file is readable UTF-8 text", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is far too large to be a configuration.
    #[error("{}: larger than {MAX_BYTES} bytes; this is not a configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what it should be. Each problem is shown on a line of its own, as `FILE:LINE: …`.
    #[error("{}", located(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problems: Problems,
    },
}

/// What is wrong in a configuration text, and what to do about it.
#[derive(Debug, Clone, Error, PartialEq, Eq, PartialOrd, Ord)]
#[error("{line}: {message}")]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Section, key, complaint and remedy.
    pub message: String,
}

/// All that is wrong in a configuration text, from top to bottom; at least one problem.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn located(path: &Path, problems: &Problems) -> String {
    let lines: Vec<String> = problems.0.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}

/// Reads a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.into() });
    }
    parse(&text).map_err(|problems| ConfigError::Invalid { path: path.into(), problems })
}

/// Reads a configuration text.
pub fn parse(text: &str) -> Result<Config, Problems> {
    let text = Text(text);
    let document = text.document()?;
    let mut problems = text.check_shape(document.get_ref());
    // With a value of the wrong type there is no whole configuration to look at.
    if problems.is_empty() {
        match Config::deserialize(Deserializer::from(document.clone())) {
            Ok(config) => {
                problems = text.check_meaning(&config, document.get_ref());
                if problems.is_empty() {
                    return Ok(config);
                }
            }
            Err(error) => problems.push(Problem { line: text.line(error.span()), message: error.message().to_owned() }),
        }
    }
    problems.sort();
    Err(Problems(problems))
}

/// A configuration text, for finding lines in it.
struct Text<'t>(&'t str);

impl<'t> Text<'t> {
    fn line(&self, span: Option<Range<usize>>) -> usize {
        let before = span.map_or(0, |span| span.start).min(self.0.len());
        1 + self.0.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count()
    }

    fn document(&self) -> Result<Spanned<DeTable<'t>>, Problems> {
        let (document, errors) = DeTable::parse_recoverable(self.0);
        if errors.is_empty() {
            return Ok(document);
        }
        let mut problems: Vec<Problem> = Vec::new();
        for error in errors {
            let line = self.line(error.span());
            if problems.iter().any(|problem| problem.line == line) {
                continue;
            }
            let section = self.section_above(line).map(|section| format!("[{section}] ")).unwrap_or_default();
            let complaint = error.message().replace('\n', ", ");
            problems.push(Problem {
                line,
                message: format!("{section}not TOML: {complaint}; write `key = value`, with text in double quotes"),
            });
        }
        problems.sort();
        problems.truncate(MAX_SYNTAX_PROBLEMS);
        Err(Problems(problems))
    }

    /// The section that a line stands in, as far as that can be said of a text that is not TOML.
    fn section_above(&self, line: usize) -> Option<&'t str> {
        let heads = self.0.lines().take(line).filter_map(|line| line.trim().strip_prefix('[')?.split(']').next());
        heads
            .last()
            .filter(|name| name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    }

    /// Unknown names and wrong types.
    fn check_shape(&self, document: &DeTable<'t>) -> Vec<Problem> {
        let known = known_keys();
        let mut problems = Vec::new();
        for (name, content) in document.iter() {
            let section = name.get_ref().as_ref();
            if let Some(named) = NAMED.iter().find(|named| named.section == section) {
                self.check_named(named, name, content.get_ref(), &known, &mut problems);
                continue;
            }
            let Some((_, defaults)) = known.iter().find(|(known, _)| known == section) else {
                let message = unknown_section(section, content.get_ref(), &known);
                problems.push(Problem { line: self.line(Some(name.span())), message });
                continue;
            };
            let place = Place { section, home: section, path: &[name] };
            self.check_keys(place, content.get_ref(), defaults, &known, &mut problems);
        }
        problems
    }

    /// `[trunk.NAME]` and the like: the names are the installer's, the keys are ours.
    fn check_named(
        &self,
        Named { section: outer, home, what }: &Named,
        name: &Spanned<Cow<'t, str>>,
        content: &DeValue<'t>,
        known: &Keys,
        problems: &mut Vec<Problem>,
    ) {
        let line = self.line(Some(name.span()));
        let DeValue::Table(all) = content else {
            let message = format!(
                "{outer}: each {what} is a section of its own; write [{home}] on a line of its own and its keys below"
            );
            problems.push(Problem { line, message });
            return;
        };
        let defaults = known.iter().find(|(section, _)| section == home).map(|(_, keys)| keys.as_slice());
        for (one, content) in all.iter() {
            let shown = one.get_ref().as_ref();
            let line = self.line(Some(one.span()));
            if !content.get_ref().is_table() {
                let message = format!("[{outer}] key {shown}: a {what} needs a name; write [{home}] above its keys");
                problems.push(Problem { line, message });
                continue;
            }
            let good = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == if *outer == TRUNK { b'-' } else { b'_' }
            };
            if shown.is_empty() || shown.len() > 32 || !shown.bytes().all(good) {
                let joints = if *outer == TRUNK { "hyphens" } else { "underscores" };
                let message =
                    format!("[{outer}.…]: a {what}'s name is 1 to 32 lower-case letters, digits and {joints}");
                problems.push(Problem { line, message });
                continue;
            }
            let section = format!("{outer}.{shown}");
            let place = Place { section: &section, home, path: &[name, one] };
            self.check_keys(place, content.get_ref(), defaults.unwrap_or_default(), known, problems);
        }
    }

    /// The keys of one section.
    fn check_keys(
        &self,
        Place { section, home, path }: Place<'_, 't>,
        content: &DeValue<'t>,
        defaults: &[(String, Value)],
        known: &Keys,
        problems: &mut Vec<Problem>,
    ) {
        let DeValue::Table(keys) = content else {
            let line = self.line(path.last().map(|name| name.span()));
            let message =
                format!("{section}: this is a section; write [{section}] on a line of its own and its keys below");
            problems.push(Problem { line, message });
            return;
        };
        for (key, value) in keys.iter() {
            let shown = key.get_ref().as_ref();
            match defaults.iter().find(|(known, _)| known == shown) {
                None => {
                    let message = unknown_key(section, home, shown, known);
                    problems.push(Problem { line: self.line(Some(key.span())), message });
                }
                Some((_, default)) => {
                    if let Err(error) = deserialize_alone(path, key, value) {
                        let line = self.line(error.span().filter(|span| *span != (0..0)).or(Some(value.span())));
                        let complaint = in_plain_words(error.message());
                        let remedy = remedy(shown, default);
                        problems
                            .push(Problem { line, message: format!("[{section}] key {shown}: {complaint}; {remedy}") });
                    }
                }
            }
        }
    }

    /// Values that are what they should be and still cannot be used.
    fn check_meaning(&self, config: &Config, document: &DeTable<'t>) -> Vec<Problem> {
        let place = |section: &str, key: &str| {
            let (head, content) = match section.split_once('.') {
                None => document.get_key_value(section)?,
                Some((outer, name)) => document.get(outer)?.get_ref().as_table()?.get_key_value(name)?,
            };
            let key = content.get_ref().as_table().and_then(|keys| keys.get_key_value(key)).map(|(key, _)| key.span());
            key.or(Some(head.span()))
        };
        let complaints = super::validate::complaints(config).into_iter();
        let located = complaints.map(|complaint| Problem {
            line: self.line(place(&complaint.section, complaint.key)),
            message: format!("[{}] key {}: {}", complaint.section, complaint.key, complaint.message),
        });
        located.collect()
    }
}

/// A section: how the file calls it, how [`known_keys`] does, and the names that lead to it.
#[derive(Clone, Copy)]
struct Place<'p, 't> {
    section: &'p str,
    home: &'p str,
    path: &'p [&'p Spanned<Cow<'t, str>>],
}

/// A section that holds sections with the installer's names.
struct Named {
    section: &'static str,
    /// How such a one is called among the known ones.
    home: &'static str,
    what: &'static str,
}

const TRUNK: &str = "trunk";
const NAMED: [Named; 2] = [
    Named { section: TRUNK, home: "trunk.NAME", what: "trunk" },
    Named { section: "tools", home: "tools.NAME", what: "tool" },
];

type Keys = Vec<(String, Vec<(String, Value)>)>;

/// Every section with its keys and their defaults.
pub(super) fn known_keys() -> Keys {
    let Ok(Value::Object(mut sections)) = serde_json::to_value(Config::default()) else { return Vec::new() };
    for Named { section, home, .. } in NAMED {
        sections.remove(section);
        let one = if section == TRUNK {
            serde_json::to_value(Trunk::default())
        } else {
            serde_json::to_value(HttpTool::default())
        };
        sections.insert(home.into(), one.unwrap_or_default());
    }
    let keys = |section| match section {
        Value::Object(keys) => keys.into_iter().collect(),
        _ => Vec::new(),
    };
    sections.into_iter().map(|(name, section)| (name, keys(section))).collect()
}

/// Reads one key as if it were the whole file, so that it cannot hide behind another's error.
fn deserialize_alone<'t>(
    path: &[&Spanned<Cow<'t, str>>],
    key: &Spanned<Cow<'t, str>>,
    value: &Spanned<DeValue<'t>>,
) -> Result<Config, toml::de::Error> {
    let mut document = DeTable::new();
    document.insert(key.clone(), value.clone());
    for section in path.iter().rev() {
        let mut outer = DeTable::new();
        outer.insert((*section).clone(), Spanned::new(value.span(), DeValue::Table(document)));
        document = outer;
    }
    Config::deserialize(Deserializer::from(Spanned::new(value.span(), document)))
}

/// A type error without the names of Rust's types.
fn in_plain_words(message: &str) -> String {
    let (complaint, wanted) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let wanted = match wanted {
        "" => return message.replace('\n', ", "),
        "u64" | "usize" => "a whole number, not negative",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "f32" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a string" | "path string" => "text in double quotes",
        other => other,
    };
    format!("{complaint}expected {wanted}").replace('\n', ", ")
}

fn remedy(key: &str, default: &Value) -> String {
    if default.is_null() {
        format!("write {key} = \"…\" or leave the line out")
    } else {
        format!("the default is {key} = {}", literal(default))
    }
}

/// A default as the file would have it. JSON's numbers, strings and lists are TOML's, too.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn unknown_section(name: &str, content: &DeValue<'_>, known: &Keys) -> String {
    let home = known.iter().find(|(_, keys)| keys.iter().any(|(key, _)| key == name));
    match (content, home) {
        (DeValue::Table(_), _) => {
            let names = || known.iter().map(|(section, _)| section.as_str());
            let remedy =
                nearest(name, names()).map(|section| format!("did you mean [{section}]?")).unwrap_or_else(|| {
                    format!("the sections are {}", names().map(|s| format!("[{s}]")).collect::<Vec<_>>().join(", "))
                });
            format!("unknown section [{name}]; {remedy}")
        }
        (_, Some((section, _))) => format!("key {name}: outside of any section; it belongs under [{section}]"),
        (_, None) => format!("key {name}: unknown, and outside of any section; remove it"),
    }
}

fn unknown_key(section: &str, home: &str, key: &str, known: &Keys) -> String {
    if TEMPTING_SECRETS.contains(&key) {
        return format!(
            "[{section}] key {key}: secrets are not in this file; write {key}_file, or leave it to the systemd credential"
        );
    }
    let here = known.iter().find(|(name, _)| name == home).map(|(_, keys)| keys.as_slice()).unwrap_or_default();
    let names = || here.iter().map(|(name, _)| name.as_str());
    let remedy = if let Some((home, _)) = known.iter().find(|(_, keys)| keys.iter().any(|(name, _)| name == key)) {
        format!("it belongs under [{home}]")
    } else if let Some(near) = nearest(key, names()) {
        format!("did you mean {near}?")
    } else {
        format!("the keys here are {}", names().collect::<Vec<_>>().join(", "))
    };
    format!("[{section}] key {key}: unknown; {remedy}")
}

/// The known name that a misspelt one is most like, if it is like any.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let like = |known: &'k str| (strsim::jaro_winkler(name, known), known);
    known.map(like).filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
