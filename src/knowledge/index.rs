//! Passages by their words: BM25 over every form of a word, of which the best counts.
//!
//! A question's score is given as a share of what it would be if a passage had each of its words once: so one floor serves short
//! and long questions, and small and large folders.

use std::collections::{BTreeMap, HashMap};

use bm25::{EmbedderBuilder, Embedding, Scorer, TokenEmbedding, Tokenizer};

use super::Passage;
use super::words::{Script, Words};

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
    words: Words,
    languages: BTreeMap<&'static str, usize>,
    characters: usize,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("passages", &self.passages.len()).finish_non_exhaustive()
    }
}

/// Every form of every word.
struct Forms<'w>(&'w Words);

impl Tokenizer for Forms<'_> {
    fn tokenize(&self, text: &str) -> Vec<String> {
        self.0.of(text).into_iter().flat_map(|word| word.forms).map(|(form, _)| form).collect()
    }
}

fn form_id(form: &str) -> u64 {
    <u64 as bm25::TokenEmbedder>::embed(form)
}

impl Index {
    /// Indexes passages.
    pub fn new(passages: Vec<Passage>) -> Self {
        let words = Words::default();
        let texts: Vec<String> =
            passages.iter().map(|passage| format!("{}\n{}", passage.heading, passage.text)).collect();
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder = EmbedderBuilder::<u64, Forms<'_>>::with_tokenizer_and_fit_to_corpus(Forms(&words), &borrowed);
        let embedder = embedder.b(LENGTH_WEIGHT).build();
        let mut scorer = Scorer::new();
        let mut languages = BTreeMap::new();
        for (number, text) in (0u32..).zip(&texts) {
            let mut embedding = embedder.embed(text);
            // A guessed form weighs less. The embedder keeps the order of the forms.
            let sure = words.of(text).into_iter().flat_map(|word| word.forms).map(|(_, sure)| sure);
            for (form, sure) in embedding.0.iter_mut().zip(sure) {
                form.value *= sure;
            }
            scorer.upsert(&number, embedding);
            if let Some(language) = prevailing(&words, text) {
                *languages.entry(language).or_default() += 1;
            }
        }
        drop(embedder);
        let characters = texts.iter().map(|text| text.chars().count()).sum();
        Self { passages, scorer, words, languages, characters }
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
        for word in words.into_iter().take(MAX_QUESTION) {
            let mut best: HashMap<u32, f32> = HashMap::new();
            let mut rarest: f32 = 0.0;
            for (form, sure) in word.forms.iter().take(MAX_FORMS) {
                let asked = Embedding(vec![TokenEmbedding { index: form_id(form), value: 1.0 }]);
                let found = self.scorer.matches(&asked);
                if !found.is_empty() {
                    rarest = rarest.max(sure * self.rarity(found.len()));
                }
                for scored in found {
                    let score = best.entry(scored.id).or_default();
                    *score = score.max(sure * scored.score);
                }
            }
            // A word that no passage has may be the caller's manner of speaking as well as the point of the question.
            wanted += if best.is_empty() { self.rarity(1) * UNKNOWN } else { rarest };
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
    fn rarity(&self, having: usize) -> f32 {
        let (all, having) = (self.passages.len() as f32, having as f32);
        (1.0 + (all - having + 0.5).max(0.0) / (having + 0.5)).ln()
    }
}

/// What a word that no passage has weighs, as a part of the weight of one that a single passage has.
const UNKNOWN: f32 = 0.6;

fn prevailing(words: &Words, text: &str) -> Option<&'static str> {
    let mut counts: BTreeMap<Script, usize> = BTreeMap::new();
    for word in words.of(text) {
        *counts.entry(word.script).or_default() += 1;
    }
    counts
        .into_iter()
        .filter_map(|(script, count)| Some((count, script.language()?)))
        .max()
        .map(|(_, language)| language)
}
