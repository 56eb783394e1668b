//! Cuts a model's text, as it arrives, into a first clause and then sentences.
//!
//! A sans-IO machine that reads character by character, so that the pieces cannot depend on how the tokens were cut; only its two
//! timers bring time in. It prefers gluing to splitting: a sentence that is joined to the next costs some waiting, one that is
//! split in the middle sounds broken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::words::{self, Stop};
use super::{Ends, Piece};

/// When the cutter gives up waiting for a better place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Words after which the first piece is cut even within a clause.
    pub first_words: usize,
    /// Time from the first text after which the first piece is cut even within a clause.
    pub first_wait: Duration,
    /// Time without text after which a full stop behind an ordinary word is taken for the end of the sentence.
    pub idle: Duration,
    /// Shorter sentences are glued to the next one, in characters; the first piece is exempt.
    pub min_chars: usize,
    /// Longer sentences are cut, in characters.
    pub max_chars: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            first_words: 12,
            first_wait: Duration::from_millis(400),
            idle: Duration::from_millis(120),
            min_chars: 12,
            max_chars: 240,
        }
    }
}

/// What a deadline of the cutter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The sentence seems to be over and nothing follows.
    Idle,
    /// The first clause is overdue.
    FirstClause,
}

/// The least words of a first clause.
const CLAUSE_WORDS: usize = 2;
/// How far behind an abbreviation the next letter is looked for.
const LOOK_AHEAD: usize = 8;

/// Cuts the text of one answer.
#[derive(Debug)]
pub struct Cutter {
    options: Options,
    /// What has not been given out; never begins with white space, never has two white spaces in a row.
    text: Vec<char>,
    /// Nothing has been cut yet.
    first: bool,
    /// The first clause's time is over: it is cut at the next place that will do.
    overdue: bool,
    first_text: Option<Instant>,
    last_text: Option<Instant>,
    /// The text ends in what may be the end of a sentence.
    may_end: bool,
    pieces: VecDeque<Piece>,
}

enum Verdict {
    /// Cut before this character.
    Cut(usize, Ends),
    /// The next character decides; `true` when silence may decide too.
    Wait(bool),
    /// Nothing to cut.
    More,
}

impl Cutter {
    /// A cutter for one answer.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            text: Vec::new(),
            first: true,
            overdue: false,
            first_text: None,
            last_text: None,
            may_end: false,
            pieces: VecDeque::new(),
        }
    }

    /// Takes the text of a token.
    pub fn push(&mut self, now: Instant, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() || c == '\0' {
                match self.text.last() {
                    None => continue,
                    Some(last) if last.is_whitespace() => {
                        if c == '\n' {
                            self.text.pop();
                        } else {
                            continue;
                        }
                    }
                    Some(_) => {}
                }
            } else {
                self.first_text.get_or_insert(now);
            }
            self.last_text = Some(now);
            self.text.push(if c == '\n' || !c.is_whitespace() { c } else { ' ' });
            self.settle();
        }
    }

    /// The answer is over: what is left is the last piece.
    pub fn finish(&mut self) {
        self.cut(self.text.len(), Ends::Sentence);
    }

    /// The answer was cut off by the model's limit: what is left is given as far as its last whole sentence, the rest dropped.
    pub fn finish_at_sentence(&mut self) {
        let mut end = 0;
        while let Some(next) = self.sentence_end_from(end) {
            end = next;
        }
        self.cut(end, Ends::Sentence);
        self.text.clear();
        self.may_end = false;
    }

    /// The next piece.
    pub fn poll(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// When [`Cutter::handle_timeout`] should be called. Changes with every call of `push`, `finish` and `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let idle = self.last_text.filter(|_| self.may_end).map(|at| (at + self.options.idle, Timer::Idle));
        let waiting = self.first && !self.overdue && !self.text.is_empty();
        let first = self.first_text.filter(|_| waiting).map(|at| (at + self.options.first_wait, Timer::FirstClause));
        [idle, first].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Lets time decide what text has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, timer)) = self.poll_timeout().filter(|(at, _)| *at <= now) {
            match timer {
                Timer::Idle => self.cut(self.text.len(), Ends::Sentence),
                Timer::FirstClause => {
                    self.overdue = true;
                    if let Some(end) = self.word_boundary(self.text.len()) {
                        self.cut(end, Ends::Clause);
                    }
                }
            }
        }
    }

    /// Cuts while there is something to cut.
    fn settle(&mut self) {
        loop {
            match self.scan() {
                Verdict::Cut(end, ends) => self.cut(end, ends),
                Verdict::Wait(may_end) => {
                    self.may_end = may_end;
                    return;
                }
                Verdict::More => {
                    self.may_end = false;
                    return;
                }
            }
        }
    }

    fn cut(&mut self, end: usize, ends: Ends) {
        let text: String = self.text.drain(..end).collect();
        let blank = self.text.iter().take_while(|c| c.is_whitespace()).count();
        self.text.drain(..blank);
        self.may_end = false;
        let text = text.trim();
        if !text.is_empty() {
            self.first = false;
            self.pieces.push_back(Piece { text: text.to_owned(), ends });
        }
    }

    fn scan(&self) -> Verdict {
        let mut at = 0;
        while let Some(&c) = self.text.get(at) {
            if at >= self.options.max_chars {
                return Verdict::Cut(self.emergency(), Ends::Clause);
            }
            if c == '\n' {
                return Verdict::Cut(at + 1, Ends::Sentence);
            }
            if is_terminator(c) {
                let (run, end) = self.run(at);
                let long_enough = self.first || end >= self.options.min_chars;
                if end == self.text.len() {
                    return Verdict::Wait(long_enough && self.ends_if_silent(at, run));
                }
                match self.is_end(at, run, end) {
                    None => return Verdict::Wait(false),
                    Some(true) if long_enough => return Verdict::Cut(end, Ends::Sentence),
                    Some(_) => at = end,
                }
                continue;
            }
            if self.first {
                if self.is_clause_mark(at) && count_words(&self.text[..at]) >= CLAUSE_WORDS {
                    return Verdict::Cut(at + 1, Ends::Clause);
                }
                let enough = self.overdue || count_words(&self.text[..at]) >= self.options.first_words;
                if c == ' ' && enough {
                    // With none but weak words the words' limit holds all the same; an overdue clause may wait for a better one.
                    match self.word_boundary(at + 1) {
                        Some(end) => return Verdict::Cut(end, Ends::Clause),
                        None if !self.overdue => return Verdict::Cut(at, Ends::Clause),
                        None => {}
                    }
                }
            }
            at += 1;
        }
        Verdict::More
    }

    /// The end of the run of terminators that begins at `at`, and of the quotes and brackets behind it.
    fn run(&self, at: usize) -> (usize, usize) {
        let limit = self.text.len().min(self.options.max_chars.max(at + 1));
        let run = (at..limit).find(|&n| !is_terminator(self.text[n])).unwrap_or(limit);
        let end = (run..limit).find(|&n| !is_closer(self.text[n])).unwrap_or(limit);
        (run, end)
    }

    /// Whether a sentence ends with the terminators `at..run`, behind which something stands at `end`; `None`: too early to say.
    fn is_end(&self, at: usize, run: usize, end: usize) -> Option<bool> {
        if self.text[run - 1..run].iter().any(|c| matches!(c, '。' | '？' | '！')) {
            return Some(true);
        }
        let next = self.text[end];
        let word = self.word_before(at);
        let full_stop = run - at == 1 && self.text[at] == '.';
        if !next.is_whitespace() {
            // "sure.Let", "Sure!Let"; but not "3.5", "example.com", "/?Q".
            let plain = end == run && !word.is_empty() && word.chars().all(char::is_alphabetic);
            let lower = word.chars().count() >= 3 && word.chars().all(char::is_lowercase);
            return Some(
                plain
                    && if full_stop {
                        lower && next.is_uppercase()
                    } else {
                        starts_word(next) && !self.is_dots(at, run)
                    },
            );
        }
        if next == '\n' {
            return Some(true);
        }
        let stop = match full_stop {
            true => words::stop_after(&word, &self.word_before(at - word.chars().count()), self.starts_with(at, &word)),
            false if self.is_dots(at, run) => Stop::BeforeCapital,
            false => return Some(true),
        };
        let follows = self.text[end..].iter().take(LOOK_AHEAD).find(|c| c.is_alphanumeric());
        let known = follows.is_some() || self.text.len() - end >= LOOK_AHEAD;
        match stop {
            Stop::Ends => Some(true),
            Stop::Never => Some(false),
            _ if !known => None,
            Stop::BeforeCapital => Some(follows.is_some_and(|&c| starts_word(c))),
            Stop::UnlessDigit => Some(!follows.is_some_and(char::is_ascii_digit)),
        }
    }

    /// Whether the text may be over with the terminators `at..run` at its end: only behind an ordinary word, as "3." may become
    /// "3.5" and "example." may become a host.
    fn ends_if_silent(&self, at: usize, run: usize) -> bool {
        let word = self.word_before(at);
        if !word.ends_with(char::is_alphabetic) || self.is_dots(at, run) {
            return false;
        }
        if self.text[at] != '.' {
            return true;
        }
        let before = self.word_before(at - word.chars().count());
        !word.contains(['.', '/', '@']) && words::stop_after(&word, &before, self.starts_with(at, &word)) == Stop::Ends
    }

    /// "..": an ellipsis written with full stops.
    fn is_dots(&self, at: usize, run: usize) -> bool {
        run - at > 1 && self.text[at..run].iter().all(|&c| c == '.')
    }

    /// The word that ends at `end`, without quotes and brackets in front of it; skips a space behind it.
    fn word_before(&self, end: usize) -> String {
        let text = &self.text[..end];
        let text = &text[..text.iter().rposition(|c| !c.is_whitespace() && !is_opener(*c)).map_or(0, |n| n + 1)];
        let start = text.iter().rposition(|c| c.is_whitespace()).map_or(0, |n| n + 1);
        text[start..].iter().skip_while(|c| is_opener(**c)).collect()
    }

    fn starts_with(&self, at: usize, word: &str) -> bool {
        self.text[..at].iter().skip_while(|c| is_opener(**c)).count() == word.chars().count()
    }

    /// Whether a clause ends with the character at `at`.
    fn is_clause_mark(&self, at: usize) -> bool {
        let before = at.checked_sub(1).map(|n| self.text[n]);
        let spaced = self.text.get(at + 1).is_some_and(|c| c.is_whitespace());
        match self.text[at] {
            // Behind a letter no look at the next character is needed; behind a digit it may be "1,000".
            ',' | ';' | '،' => spaced || before.is_some_and(char::is_alphabetic),
            ':' => spaced,
            '—' => true,
            '–' | '-' => spaced && before.is_some_and(char::is_whitespace),
            _ => false,
        }
    }

    /// The last place before `limit` where a forced cut does not sound broken off.
    fn word_boundary(&self, limit: usize) -> Option<usize> {
        (0..limit.min(self.text.len())).rev().filter(|&n| self.text[n].is_whitespace()).find(|&n| {
            let start = self.text[..n].iter().rposition(|c| c.is_whitespace()).map_or(0, |n| n + 1);
            let word: String = self.text[start..n].iter().collect();
            !words::is_weak(&word) && count_words(&self.text[..n]) >= CLAUSE_WORDS
        })
    }

    /// Where a sentence is cut that is too long: behind its last clause mark, else at its last space, else anywhere.
    fn emergency(&self) -> usize {
        let limit = self.options.max_chars;
        let from = self.options.min_chars.min(limit);
        let mark = (from..limit).rev().find(|&n| self.is_clause_mark(n)).map(|n| n + 1);
        mark.or_else(|| (from..limit).rev().find(|&n| self.text[n].is_whitespace())).unwrap_or(limit)
    }

    /// The first end of a sentence behind `from`, of whatever length; the end of the text may be one.
    fn sentence_end_from(&self, from: usize) -> Option<usize> {
        let mut at = from;
        while at < self.text.len() {
            if is_terminator(self.text[at]) {
                let (run, end) = self.run(at);
                let ends = if end == self.text.len() {
                    self.ends_if_silent(at, run)
                } else {
                    self.is_end(at, run, end) == Some(true)
                };
                if ends {
                    return Some(end);
                }
                at = end;
            } else {
                at += 1;
            }
        }
        None
    }
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '？' | '！' | '؟')
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '}' | '*' | '_' | '`' | '״')
}

fn is_opener(c: char) -> bool {
    matches!(c, '"' | '\'' | '“' | '„' | '‘' | '«' | '(' | '[' | '{' | '*' | '_' | '`' | '#')
}

/// Whether a letter can begin a sentence: a capital, or one of a script without case.
fn starts_word(c: char) -> bool {
    c.is_uppercase() || c.is_alphabetic() && !c.is_lowercase()
}

/// Words with a letter or digit in them.
fn count_words(text: &[char]) -> usize {
    text.split(|c| c.is_whitespace()).filter(|word| word.iter().any(|c| c.is_alphanumeric())).count()
}
