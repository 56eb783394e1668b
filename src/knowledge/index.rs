//! Passages by their words: BM25 over every form of a word, of which the best counts.
//!
//! A question's score is given as a share of what it would be if a passage had each of its words once: so one floor serves short
//! and long questions, and small and large folders.

use std::collections::{BTreeMap, HashMap, HashSet};

use bm25::{EmbedderBuilder, Embedding, Scorer, TokenEmbedding, Tokenizer};

use super::Passage;
use super::words::{Script, Word, Words};

/// Words of a question that are looked for; the first ones.
const MAX_QUESTION: usize = 24;
/// Forms of one word that are looked for; the surest.
const MAX_FORMS: usize = 12;
/// How much a long passage is held against it. Passages are of one size already.
const LENGTH_WEIGHT: f32 = 0.4;

/// A passage that fits, and how well.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The passage.
    pub passage: Passage,
    /// From 0 to about 1: the share of the question's weight that it has. A word that is frequent in it may make it more.
    pub score: f32,
}

/// Passages that can be found.
#[derive(Default)]
pub struct Index {
    passages: Vec<Passage>,
    scorer: Scorer<u32, u64>,
    /// How many passages have a form.
    frequency: HashMap<u64, u32>,
    words: Words,
    languages: BTreeMap<&'static str, usize>,
    characters: usize,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("passages", &self.passages.len()).finish_non_exhaustive()
    }
}

/// Forms that were found before, one a line.
#[derive(Default)]
struct Lines;

impl Tokenizer for Lines {
    fn tokenize(&self, text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }
}

fn form_id(form: &str) -> u64 {
    <u64 as bm25::TokenEmbedder>::embed(form)
}

impl Index {
    /// Indexes passages.
    pub fn new(passages: Vec<Passage>) -> Self {
        let words = Words::default();
        let mut languages = BTreeMap::new();
        let mut characters = 0;
        let mut texts: Vec<(String, Vec<f32>)> = Vec::with_capacity(passages.len());
        for passage in &passages {
            let text = format!("{}\n{}", passage.heading, passage.text);
            characters += text.chars().count();
            let found = words.of(&text);
            if let Some(language) = prevailing(&found) {
                *languages.entry(language).or_default() += 1;
            }
            let forms = found.iter().flat_map(|word| &word.forms);
            let (lines, sure): (Vec<&str>, Vec<f32>) = forms.map(|(form, sure)| (form.as_str(), *sure)).unzip();
            texts.push((lines.join("\n"), sure));
        }
        let all: usize = texts.iter().map(|(_, sure)| sure.len()).sum();
        let average = all as f32 / texts.len().max(1) as f32;
        let embedder = EmbedderBuilder::<u64, Lines>::with_avgdl(average).b(LENGTH_WEIGHT).build();
        let mut scorer = Scorer::new();
        let mut frequency: HashMap<u64, u32> = HashMap::new();
        for (number, (lines, sure)) in (0u32..).zip(&texts) {
            let mut embedding = embedder.embed(lines);
            // A guessed form weighs less. The embedder keeps the order of the forms.
            for (form, sure) in embedding.0.iter_mut().zip(sure) {
                form.value *= sure;
            }
            let forms: HashSet<u64> = embedding.indices().copied().collect();
            for form in forms {
                *frequency.entry(form).or_default() += 1;
            }
            scorer.upsert(&number, embedding);
        }
        Self { passages, scorer, frequency, words, languages, characters }
    }

    /// All passages, in the order of their files.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// Characters of all passages and their headings.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// Passages by the language that most of their words are written in.
    pub fn languages(&self) -> &BTreeMap<&'static str, usize> {
        &self.languages
    }

    /// The best passages for a question, best first; at most `most`, none with a score below `floor`.
    pub fn search(&self, question: &str, most: usize, floor: f32) -> Vec<Found> {
        let mut wanted = 0.0;
        let mut scores: HashMap<u32, f32> = HashMap::new();
        let mut words = self.words.of(question);
        words.dedup();
        words.truncate(MAX_QUESTION);
        let having = |form: &str| self.frequency.get(&form_id(form)).copied().unwrap_or(0);
        // What very many passages have tells none of them from another, and takes the longest to look up; unless there is nothing else.
        let known =
            words.iter().flat_map(|word| &word.forms).map(|(form, _)| having(form)).filter(|having| *having > 0);
        let most_having = known.min().unwrap_or(0).max(FREQUENT);
        for word in &words {
            let mut best: HashMap<u32, f32> = HashMap::new();
            let mut rarest: f32 = 0.0;
            let mut known = false;
            for (form, sure) in word.forms.iter().take(MAX_FORMS) {
                let having = having(form);
                known |= having > 0;
                if !(1..=most_having).contains(&having) {
                    continue;
                }
                rarest = rarest.max(sure * self.rarity(having));
                let asked = Embedding(vec![TokenEmbedding { index: form_id(form), value: 1.0 }]);
                for scored in self.scorer.matches(&asked) {
                    let score = best.entry(scored.id).or_default();
                    *score = score.max(sure * scored.score);
                }
            }
            // A word that no passage has may be the caller's manner of speaking as well as the point of the question.
            wanted += if known { rarest } else { self.rarity(1) * UNKNOWN };
            for (passage, score) in best {
                *scores.entry(passage).or_default() += score;
            }
        }
        if wanted <= 0.0 {
            return Vec::new();
        }
        let mut found: Vec<(u32, f32)> = scores.into_iter().map(|(passage, score)| (passage, score / wanted)).collect();
        found.retain(|(_, score)| *score >= floor);
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(most);
        let passage = |number: u32| self.passages.get(number as usize).cloned();
        found.into_iter().filter_map(|(number, score)| Some(Found { passage: passage(number)?, score })).collect()
    }

    /// The weight of a word that so many passages have (the inverse document frequency of BM25).
    fn rarity(&self, having: u32) -> f32 {
        let (all, having) = (self.passages.len() as f32, having as f32);
        (1.0 + (all - having + 0.5).max(0.0) / (having + 0.5)).ln()
    }
}

/// A form that more passages have is not looked up, if there is a rarer one.
const FREQUENT: u32 = 500;
/// What a word that no passage has weighs, as a part of the weight of one that a single passage has.
const UNKNOWN: f32 = 0.6;

/// The language of most words.
fn prevailing(words: &[Word]) -> Option<&'static str> {
    let mut counts: BTreeMap<Script, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word.script).or_default() += 1;
    }
    counts
        .into_iter()
        .filter_map(|(script, count)| Some((count, script.language()?)))
        .max()
        .map(|(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(texts: &[&str]) -> Index {
        let passage = |text: &&str| Passage { source: "a.md".into(), heading: "".into(), text: (*text).into() };
        Index::new(texts.iter().map(passage).collect())
    }

    fn first(index: &Index, question: &str) -> Option<String> {
        index.search(question, 3, 0.3).first().map(|found| found.passage.text.to_string())
    }

    #[test]
    fn an_empty_index_and_an_empty_question_find_nothing() {
        assert_eq!(first(&index(&[]), "cake"), None);
        assert_eq!(first(&index(&["A cake."]), ""), None);
        assert_eq!(first(&index(&["A cake."]), "do you have a"), None);
        assert_eq!(first(&index(&["!"]), "cake"), None);
    }

    #[test]
    fn a_question_of_which_hardly_a_word_is_known_finds_nothing() {
        let index = index(&["A cake.", "A bicycle."]);
        assert_eq!(first(&index, "cake").as_deref(), Some("A cake."));
        assert_eq!(first(&index, "cake zebra unicorn giraffe walrus penguin lizard"), None);
    }

    #[test]
    fn the_word_itself_goes_before_a_guess() {
        let index = index(&["לוח חגים", "משלוח חינם", "בית קפה", "ספר ילדים"]);
        assert_eq!(first(&index, "המשלוח").as_deref(), Some("משלוח חינם"));
        assert_eq!(index.languages().get("he"), Some(&4));
    }

    #[test]
    fn a_word_that_every_passage_has_finds_them_only_when_there_is_no_rarer_one() {
        let texts: Vec<String> = (0..600).map(|number| format!("bicycle number{number}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let index = index(&texts);
        assert_eq!(first(&index, "bicycle number77").as_deref(), Some("bicycle number77"));
        assert_eq!(index.search("bicycle", 3, 0.3).len(), 3);
    }
}
