//! Cuts a text into passages of a few sentences, each with the headings above it. Reads Markdown (CommonMark's common parts: ATX
//! headings, lists, tables, emphasis, links, code) and plain text. Not implemented: setext headings, HTML, front matter's fields.

use std::sync::Arc;

use super::Passage;

/// Headings deeper than this are kept as the deepest.
const DEEPEST: usize = 6;
/// A longer heading is cut.
const LONGEST_HEADING: usize = 120;

/// The passages of one file, none longer than `longest` characters.
pub(super) fn passages(source: &str, text: &str, longest: usize) -> Vec<Passage> {
    let mut cut = Cut {
        source: source.into(),
        headings: Vec::new(),
        passage: String::new(),
        chars: 0,
        longest,
        done: Vec::new(),
    };
    let text = without_front_matter(text);
    let mut paragraph = String::new();
    let mut fenced = false;
    for line in text.lines() {
        let line = line.trim_matches(|char: char| char.is_whitespace() || char.is_control() || char == '\u{feff}');
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        let heading = heading(line).filter(|_| !fenced);
        let item = !fenced && is_item(line);
        if line.is_empty() || heading.is_some() || item {
            cut.paragraph(&std::mem::take(&mut paragraph));
        }
        if let Some((depth, text)) = heading {
            cut.heading(depth, text);
        } else if !line.is_empty() && !is_rule(line) {
            let line = plain(if item { line.trim_start_matches(['-', '*', '+', '|', '>', ' ']) } else { line });
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(&line);
        }
    }
    cut.paragraph(&paragraph);
    cut.end();
    cut.done
}

struct Cut {
    source: Arc<str>,
    headings: Vec<(usize, String)>,
    passage: String,
    chars: usize,
    longest: usize,
    done: Vec<Passage>,
}

impl Cut {
    fn heading(&mut self, depth: usize, text: &str) {
        self.end();
        self.headings.retain(|(above, _)| *above < depth);
        self.headings.push((depth, plain(text).chars().take(LONGEST_HEADING).collect()));
    }

    fn paragraph(&mut self, text: &str) {
        for sentence in sentences(text) {
            for piece in pieces(sentence, self.longest) {
                let chars = piece.chars().count();
                if self.chars + chars + 1 > self.longest {
                    self.end();
                }
                if !self.passage.is_empty() {
                    self.passage.push(' ');
                }
                self.passage.push_str(piece);
                self.chars += chars + 1;
            }
        }
    }

    fn end(&mut self) {
        let text = std::mem::take(&mut self.passage);
        self.chars = 0;
        if text.chars().any(char::is_alphanumeric) {
            let headings: Vec<&str> = self.headings.iter().map(|(_, text)| text.as_str()).collect();
            let heading = headings.join(" › ").into();
            self.done.push(Passage { source: self.source.clone(), heading, text: text.into() });
        }
    }
}

/// YAML between two lines of three hyphens at the very top.
fn without_front_matter(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}');
    let inner = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    inner.map_or(text, |(_, rest)| rest)
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let depth = line.chars().take_while(|char| *char == '#').count();
    let text = line[depth..].strip_prefix(' ').filter(|_| (1..=DEEPEST).contains(&depth))?;
    Some((depth, text.trim().trim_end_matches('#').trim()))
}

fn is_item(line: &str) -> bool {
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    ["- ", "* ", "+ ", "|", "> "].iter().any(|mark| line.starts_with(mark))
        || digits > 0 && digits < 4 && [". ", ") "].iter().any(|mark| line[digits..].starts_with(mark))
}

/// A line across, or the line below a table's head.
fn is_rule(line: &str) -> bool {
    line.chars().all(|char| matches!(char, '-' | '*' | '_' | '=' | '|' | ':' | ' '))
}

/// A line without its markup.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['*', '`', '_', '[', '!', '|', '~']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (char, after) = rest.split_at(1);
        let link = rest.trim_start_matches('!').strip_prefix('[').and_then(|inner| {
            let (label, target) = inner.split_once("](")?;
            let (_, after) = target.split_once(')')?;
            (!label.contains('[')).then_some((label, after))
        });
        rest = match (char, link) {
            ("!" | "[", Some((label, after))) => {
                text.push_str(label);
                after
            }
            ("!" | "[", None) => {
                text.push_str(char);
                after
            }
            ("|", _) => {
                let cell = after.trim_start();
                if !cell.is_empty() && !text.is_empty() {
                    text.truncate(text.trim_end().len());
                    text.push_str(", ");
                }
                cell
            }
            // An underscore or tilde within a word is the word's.
            ("_" | "~", _) if text.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric) => {
                text.push_str(char);
                after
            }
            _ => after,
        };
    }
    text.push_str(rest);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sentences, roughly: a passage that ends after "Dr." does no harm.
fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut from = 0;
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        if char == ' ' && matches!(before, '.' | '!' | '?' | '…' | ';') {
            sentences.push(text[from..at].trim());
            from = at;
        }
        before = char;
    }
    sentences.push(text[from..].trim());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// A sentence that is too long, cut between words.
fn pieces(sentence: &str, longest: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = sentence;
    while let Some((limit, _)) = rest.char_indices().nth(longest.max(1)) {
        let at = rest[..limit].rfind(' ').filter(|at| *at > 0).unwrap_or(limit);
        pieces.push(rest[..at].trim());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, longest: usize) -> Vec<String> {
        passages("a.md", text, longest)
            .iter()
            .map(|passage| match &*passage.heading {
                "" => passage.text.to_string(),
                heading => format!("{heading}: {}", passage.text),
            })
            .collect()
    }

    #[test]
    fn a_passage_has_the_headings_above_it_and_no_markup() {
        let text = "---\ntitle: x\n---\n# Shop\nIntro, **bold** and [a link](https://x.example/).\n\n## Hours\n- Monday: `9` to 17\n\
                    - Friday: 9 to 13\n\n## Prices ##\n| what | price |\n|---|---|\n| cake | 40 |\n### Tarts\nnone_left today\n# Contact\nhere\n";
        assert_eq!(
            shown(text, 600),
            [
                "Shop: Intro, bold and a link.",
                "Shop › Hours: Monday: 9 to 17 Friday: 9 to 13",
                "Shop › Prices: what, price cake, 40",
                "Shop › Prices › Tarts: none_left today",
                "Contact: here",
            ]
        );
    }

    #[test]
    fn long_texts_are_cut_between_sentences_and_too_long_sentences_between_words() {
        assert_eq!(shown("One two. Three four! Five six?", 18), ["One two.", "Three four!", "Five six?"]);
        assert_eq!(shown("One two. Three four! Five six?", 22), ["One two. Three four!", "Five six?"]);
        assert_eq!(shown("aaaa bbbb cccc dddd", 10), ["aaaa bbbb", "cccc dddd"]);
        assert_eq!(shown(&"א".repeat(25), 10).len(), 3);
    }

    #[test]
    fn what_has_no_words_is_no_passage() {
        for text in ["", "\n\n", "---\n***\n", "# Only a heading\n", "| |\n", "!\n", "[\n", "```\n```", "\u{feff}"] {
            assert!(shown(text, 100).iter().all(|passage| passage.chars().any(char::is_alphanumeric)), "{text:?}");
        }
    }
}
