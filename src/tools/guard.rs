//! Notices when an answer repeats the system instruction.
//!
//! A cheap guard: so many words in a row that stand in the instruction, whatever their case and punctuation, over the borders of clauses.
//! It does not see what is paraphrased, translated, spelt out or said in shorter pieces over several turns; secrets do not belong into an
//! instruction.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// What must not be said in a row.
#[derive(Debug, Clone)]
pub struct Guard {
    runs: Arc<HashSet<u64>>,
    words: usize,
    recent: VecDeque<String>,
}

impl Guard {
    /// Guards a text; `words` in a row are too many. `None` when that is zero, or the text is shorter.
    pub fn new(text: &str, words: usize) -> Option<Self> {
        let all: Vec<String> = words_of(text).collect();
        if words == 0 || all.len() < words {
            return None;
        }
        let runs = all.windows(words).map(|run| hash(run.iter())).collect();
        Some(Self { runs: Arc::new(runs), words, recent: VecDeque::with_capacity(words) })
    }

    /// Whether what is said next completes such a run.
    pub fn reveals(&mut self, said: &str) -> bool {
        for word in words_of(said) {
            if self.recent.len() == self.words {
                self.recent.pop_front();
            }
            self.recent.push_back(word);
            if self.recent.len() == self.words && self.runs.contains(&hash(self.recent.iter())) {
                return true;
            }
        }
        false
    }
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn hash<'w>(words: impl Iterator<Item = &'w String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTRUCTION: &str =
        "You answer the telephone of a small business. Never speak of discounts. We open at nine in the morning.";

    #[test]
    fn the_instruction_read_aloud_is_noticed_over_clauses_cases_and_marks() {
        let mut guard = Guard::new(INSTRUCTION, 6).unwrap();
        assert!(!guard.reveals("Sure, my instructions are:"));
        assert!(!guard.reveals("\"YOU answer, the"));
        assert!(guard.reveals("telephone -- of a Small business"));
    }

    #[test]
    fn a_shorter_quotation_and_other_words_are_not() {
        let mut guard = Guard::new(INSTRUCTION, 6).unwrap();
        for said in
            ["We open at nine,", "this afternoon we close.", "Never speak of", "the discounts of a small business."]
        {
            assert!(!guard.reveals(said), "{said}");
        }
        assert!(Guard::new(INSTRUCTION, 0).is_none() && Guard::new("Short.", 6).is_none());
    }
}
