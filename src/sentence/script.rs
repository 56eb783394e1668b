//! Which language a phrase is in, told by the script that it is written in.

use crate::config::Language;

use super::words::is_hebrew;

/// So many times as many Latin words as others make a phrase English: other voices can read Latin names, English ones only Latin.
const LATIN_MAJORITY: usize = 3;

/// The language of a phrase. Without a letter it stays what it was; web and mail addresses do not count.
pub fn language_of(text: &str, before: Language) -> Language {
    let (mut latin, mut hebrew, mut cyrillic) = (0, 0, 0);
    let is_address = |word: &&str| word.contains('@') || word.contains("://") || word.starts_with("www.");
    let words = text.split_whitespace().filter(|word| !is_address(word));
    for word in words.flat_map(|word| word.split(['-', '–', '/'])) {
        // A prefix may be of another script than what it stands before: each word has one vote, its first letter's.
        match word.chars().find(|c| c.is_alphabetic()) {
            Some(c) if is_hebrew(c) => hebrew += 1,
            Some('\u{400}'..='\u{52f}') => cyrillic += 1,
            Some('A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{24f}') => latin += 1,
            _ => {}
        }
    }
    let others = hebrew + cyrillic;
    if latin + others == 0 {
        before
    } else if others == 0 || latin >= LATIN_MAJORITY * others {
        Language::En
    } else if hebrew == cyrillic {
        if before == Language::Ru { Language::Ru } else { Language::He }
    } else if hebrew > cyrillic {
        Language::He
    } else {
        Language::Ru
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{En, He, Ru};

    #[test]
    fn a_phrase_is_in_the_language_of_its_script() {
        for (text, language) in [
            ("Of course, one moment.", En),
            ("בטח, רגע אחד.", He),
            ("Конечно, минуту.", Ru),
            ("ה-iPhone 15 Pro Max שלך מוכן", He),
            ("Ваш iPhone Pro готов.", Ru),
            ("The Hebrew word for peace is שלום.", En),
            ("Café à la carte", En),
            ("כתבו ל support@very-long-name.example.com או www.example.com", He),
            ("ד\"ר Smith", He),
            ("שלום и привет, друг", Ru),
        ] {
            for before in Language::ALL {
                assert_eq!(language_of(text, before), language, "{text}");
            }
        }
    }

    #[test]
    fn without_letters_it_stays_what_it_was() {
        for text in ["", "03-1234567", "14:30.", "₪ 120", "😊", "https://example.com/a"] {
            for before in Language::ALL {
                assert_eq!(language_of(text, before), before, "{text}");
            }
        }
    }
}
