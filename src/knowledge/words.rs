//! Words as they are found: each as the forms under which it may stand in a text, by the script it is written in.
//!
//! Russian and English words become their Snowball stems. A Hebrew word stands for itself and for what is left of it without its
//! prefix letters (ו ה ב כ ל מ ש and their pairs) and its endings; which of them were part of the word nobody knows without a
//! dictionary, so each is a form, and a guess weighs less. Not implemented: Hebrew roots, synonyms.

use rust_stemmers::{Algorithm, Stemmer};

use super::stop_words::STOP_WORDS;

/// Words that are looked at of one text; a question is shorter.
const MAX_WORDS: usize = 2000;
/// A longer word is none.
const LONGEST: usize = 40;

/// How a word is written, which says how it is inflected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Script {
    /// Latin letters, taken for English.
    Latin,
    /// Hebrew letters.
    Hebrew,
    /// Cyrillic letters, taken for Russian.
    Cyrillic,
    /// Digits, or anything else.
    Other,
}

impl Script {
    fn of(word: &str) -> Self {
        match word.chars().find(|char| char.is_alphabetic()) {
            Some('\u{590}'..='\u{5ff}') => Self::Hebrew,
            Some('\u{400}'..='\u{4ff}') => Self::Cyrillic,
            Some(char) if char.is_ascii() || ('\u{c0}'..='\u{24f}').contains(&char) => Self::Latin,
            _ => Self::Other,
        }
    }

    /// The language that it is taken for; none for digits.
    pub fn language(self) -> Option<&'static str> {
        match self {
            Self::Latin => Some("en"),
            Self::Hebrew => Some("he"),
            Self::Cyrillic => Some("ru"),
            Self::Other => None,
        }
    }
}

/// A word of a text or question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub script: Script,
    /// Under which it may be found, and how sure that is: 1 for the word itself.
    pub forms: Vec<(String, f32)>,
}

/// Stems words. One serves all texts.
pub(super) struct Words {
    english: Stemmer,
    russian: Stemmer,
}

impl Default for Words {
    fn default() -> Self {
        Self { english: Stemmer::create(Algorithm::English), russian: Stemmer::create(Algorithm::Russian) }
    }
}

impl Words {
    /// The words of a text that say what it is about, in their order.
    pub fn of(&self, text: &str) -> Vec<Word> {
        let words = split(text).into_iter().take(MAX_WORDS);
        words.filter(|word| !is_stop_word(word)).map(|word| self.word(&word)).collect()
    }

    fn word(&self, word: &str) -> Word {
        let script = Script::of(word);
        let forms = match script {
            Script::Latin => inflected(word, &self.english.stem(word.strip_suffix("'s").unwrap_or(word))),
            Script::Cyrillic => inflected(word, &self.russian.stem(word)),
            Script::Hebrew => hebrew(word),
            Script::Other => vec![(word.to_owned(), 1.0)],
        };
        Word { script, forms }
    }
}

/// Lower-case words without vowel points; gershayim and geresh stay within a word.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let hebrew_before = word.chars().next_back().is_some_and(is_hebrew);
        match char {
            // Maqaf, paseq, sof pasuq and nun hafukha part words; other marks of this block stand on letters.
            '\u{5be}' | '\u{5c0}' | '\u{5c3}' | '\u{5c6}' => end(&mut words, &mut word),
            '\u{591}'..='\u{5c7}' | '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' => {}
            '"' | '\u{5f4}' | '\u{201d}' | '\u{201c}' | '\u{201e}'
                if hebrew_before && chars.peek().is_some_and(|next| is_hebrew(*next)) =>
            {
                word.push('\u{5f4}');
            }
            '\'' | '\u{5f3}' | '\u{2019}' if hebrew_before => word.push('\u{5f3}'),
            '\'' | '\u{2019}' if !word.is_empty() && chars.peek().is_some_and(|next| next.is_alphabetic()) => {
                word.push('\'');
            }
            'ё' | 'Ё' => word.push('е'),
            char if char.is_alphanumeric() => word.extend(char.to_lowercase()),
            _ => end(&mut words, &mut word),
        }
    }
    end(&mut words, &mut word);
    words
}

fn end(words: &mut Vec<String>, word: &mut String) {
    let word = std::mem::take(word);
    if !word.is_empty() && word.chars().count() <= LONGEST {
        words.push(word);
    }
}

fn is_hebrew(char: char) -> bool {
    ('\u{5d0}'..='\u{5ea}').contains(&char)
}

/// The stem, and the beginning that a family of long words has in common (доставка, доставить; deliver, delivery).
fn inflected(word: &str, stem: &str) -> Vec<(String, f32)> {
    let mut forms = vec![(stem.to_owned(), 1.0)];
    if word.chars().count() > BEGINNING {
        forms.push((format!("{}…", word.chars().take(BEGINNING).collect::<String>()), 0.5));
    }
    forms
}

const BEGINNING: usize = 5;

/// What may stand before a Hebrew word; longest first.
const PREFIXES: [(&str, f32); 30] = [
    ("וכשה", 0.7),
    ("וכש", 0.7),
    ("שכש", 0.7),
    ("כשה", 0.7),
    ("מכה", 0.6),
    ("וה", 0.8),
    ("וב", 0.8),
    ("ול", 0.8),
    ("ומ", 0.8),
    ("וכ", 0.8),
    ("וש", 0.8),
    ("שה", 0.8),
    ("שב", 0.7),
    ("של", 0.7),
    ("שמ", 0.7),
    ("שכ", 0.7),
    ("כש", 0.7),
    ("לכ", 0.7),
    ("מה", 0.8),
    ("מש", 0.6),
    ("בה", 0.6),
    ("לה", 0.6),
    ("כה", 0.6),
    ("ו", 0.9),
    ("ה", 0.9),
    ("ב", 0.9),
    ("ל", 0.9),
    ("מ", 0.85),
    ("כ", 0.8),
    ("ש", 0.85),
];

/// Endings of number, gender and possession, with final letters made plain.
const ENDINGS: [(&str, f32); 13] = [
    ("ימ", 0.9),
    ("ות", 0.9),
    ("יות", 0.85),
    ("יה", 0.75),
    ("ת", 0.8),
    ("ה", 0.8),
    ("י", 0.75),
    ("ית", 0.8),
    ("נו", 0.75),
    ("יימ", 0.85),
    ("כמ", 0.75),
    ("המ", 0.7),
    ("ו", 0.7),
];

/// Letters that have to be left without a prefix, and without an ending.
const WITHOUT_PREFIX: usize = 3;
const WITHOUT_ENDING: usize = 2;

fn hebrew(word: &str) -> Vec<(String, f32)> {
    // Final letters are the same letters; full and defective spelling differ in doubled ones.
    let mut plain = String::with_capacity(word.len());
    for char in word.chars() {
        let char = match char {
            'ך' => 'כ',
            'ם' => 'מ',
            'ן' => 'נ',
            'ף' => 'פ',
            'ץ' => 'צ',
            char => char,
        };
        if !(matches!(char, 'י' | 'ו') && plain.ends_with(char)) {
            plain.push(char);
        }
    }
    let letters = |text: &str| text.chars().filter(|char| is_hebrew(*char)).count();
    let mut forms: Vec<(String, f32)> = vec![(plain.clone(), 1.0)];
    // An abbreviation (ש"ח) is not inflected, but takes prefixes.
    let inflects = !plain.contains('\u{5f4}');
    for (prefix, weight) in PREFIXES {
        if let Some(rest) = plain.strip_prefix(prefix)
            && (letters(rest) >= WITHOUT_PREFIX || !inflects && letters(rest) >= 2)
        {
            forms.push((rest.to_owned(), weight));
        }
    }
    if inflects {
        for at in 0..forms.len() {
            for (ending, weight) in ENDINGS {
                let (form, sure) = &forms[at];
                if let Some(stem) = form.strip_suffix(ending).filter(|stem| letters(stem) >= WITHOUT_ENDING) {
                    forms.push((stem.to_owned(), sure * weight));
                }
            }
        }
    }
    forms.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    forms.dedup_by(|later, first| later.0 == first.0);
    forms.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    forms
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(text: &str) -> Vec<String> {
        Words::default().of(text).into_iter().flat_map(|word| word.forms).map(|(form, _)| form).collect()
    }

    fn share_a_form(one: &str, other: &str) -> bool {
        let forms = (forms(one), forms(other));
        forms.0.iter().any(|form| forms.1.contains(form))
    }

    #[test]
    fn hebrew_words_are_found_behind_their_prefixes_and_endings() {
        for (one, other) in [
            ("משלוח", "והמשלוחים"),
            ("חניה", "בחנייה"),
            ("שעות", "שעה"),
            ("החזר", "להחזרים"),
            ("ילדים", "לילדים"),
            ("תשלום", "בתשלומים"),
            ("ש\"ח", "בש״ח"),
            ("עוּגָה", "עוגה"),
        ] {
            assert!(share_a_form(one, other), "{one} {other}: {:?} {:?}", forms(one), forms(other));
        }
        assert!(!share_a_form("משלוח", "חניה"));
        // Two letters are too few to be left of a word without its prefix, and one without its ending.
        assert!(!share_a_form("הבן", "בן") && !forms("בת").contains(&"ב".to_owned()));
    }

    #[test]
    fn gershayim_stay_in_the_word_and_a_quotation_ends_it() {
        assert_eq!(split("ד\"ר כהן אמר \"שלום\""), ["ד״ר", "כהן", "אמר", "שלום"]);
        assert_eq!(split("בית־ספר, ג'ירפה"), ["בית", "ספר", "ג׳ירפה"]);
    }

    #[test]
    fn russian_and_english_words_are_found_in_every_inflection() {
        for (one, other) in [
            ("доставка", "доставкой"),
            ("доставка", "доставляете"),
            ("парковки", "парковка"),
            ("ещё заём", "еще заем"),
            ("delivery", "delivered"),
            ("refunds", "refund"),
            ("shop's", "shops"),
        ] {
            assert!(share_a_form(one, other), "{one} {other}: {:?} {:?}", forms(one), forms(other));
        }
    }

    #[test]
    fn words_that_only_ask_are_left_out() {
        for question in
            ["do you have", "есть ли у вас", "האם יש לכם", "how much is it", "сколько это стоит", "כמה זה עולה"]
        {
            let left = forms(question);
            assert!(left.len() <= 2, "{question}: {left:?}");
        }
        assert!(STOP_WORDS.is_sorted_by(|one, other| one < other), "in order, and none twice");
    }

    #[test]
    fn no_text_is_too_strange() {
        for text in ["", "\"\"\"", "'", "״", "\u{5b0}", "👍 100%", &"א".repeat(500), &"יו ".repeat(5000)] {
            forms(text);
        }
    }
}
