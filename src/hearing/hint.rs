//! What a recogniser's interim text says about the end of the turn: whether it sounds finished.
//!
//! By the last words alone: digits, single letters, prepositions, conjunctions and hesitations ask for more, terminal punctuation ends.
//! Hebrew mostly writes prepositions together with the word behind them, so that one which stands alone says the more. Not implemented:
//! grammar; for that there is [`EndOfTurn`](super::EndOfTurn).

use crate::config::Language;

/// Whether what the caller has said so far sounds finished. It holds for the utterance and is forgotten when speech goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is known.
    #[default]
    Unknown,
    /// In the middle of something: digits, spelling, a trailing preposition. Silence must last longer.
    Open,
    /// Clearly finished. A shorter silence is enough.
    Closed,
}

/// Texts are judged by their end; no more of it is looked at.
const LOOKED_AT_BYTES: usize = 256;

/// What the text so far, in a language, says about the end of the turn. Hebrew may be pointed. Allocates nothing.
///
/// Words of the text in another of the languages are not known: a number in digits is.
pub fn of_text(language: Language, text: &str) -> Hint {
    let text = text.trim_end();
    let end = &text[text.ceil_char_boundary(text.len().saturating_sub(LOOKED_AT_BYTES))..];
    let closed = matches!(end.chars().rev().find(|char| !"\"'”»)׳״".contains(*char)), Some('.' | '!' | '?' | '…'))
        && !end.ends_with("...")
        && !end.ends_with('…');
    let mut words = end
        .split(|char: char| char.is_whitespace() || "-–—־,;:/".contains(char))
        .map(|word| word.trim_matches(|char: char| !char.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .rev();
    let Some(last) = words.next() else { return Hint::Unknown };
    let before = words.next();
    if last.contains(|char: char| char.is_ascii_digit()) && !closed {
        return Hint::Open;
    }
    let known = Words::of(language);
    // A recogniser that writes "." behind a preposition heard a pause and nothing else.
    if is_one_of(known.trailing, last) {
        return Hint::Open;
    }
    if closed {
        return Hint::Closed;
    }
    let trails_off = end.ends_with(['…', ',', '-', '–', ':', ';']) || end.ends_with("...");
    let letter = letters(last).nth(1).is_none();
    let digit = is_one_of(known.digits, last)
        && (!is_one_of(known.ambiguous, last) || before.is_some_and(|word| is_one_of(known.digits, word)));
    if trails_off || letter || digit { Hint::Open } else { Hint::Unknown }
}

/// Letters without points and case.
fn letters(word: &str) -> impl Iterator<Item = char> {
    word.chars().filter(|char| !matches!(char, '\u{591}'..='\u{5c7}')).flat_map(char::to_lowercase)
}

fn is_one_of(known: &str, word: &str) -> bool {
    known.split(' ').any(|known| letters(word).eq(known.chars()))
}

/// The words of a language that ask for more: lower case, without points, with a space between two.
struct Words {
    /// Prepositions, conjunctions, articles and hesitations.
    trailing: &'static str,
    /// Digits and what is said between them.
    digits: &'static str,
    /// Those of them that are said for other things, too: of digits only behind another one.
    ambiguous: &'static str,
}

impl Words {
    fn of(language: Language) -> &'static Self {
        match language {
            Language::He => &HEBREW,
            Language::En => &ENGLISH,
            Language::Ru => &RUSSIAN,
        }
    }
}

static HEBREW: Words = Words {
    trailing: "של את עם על אל מן בין לפני אחרי בלי כדי בגלל בשביל לגבי אצל ליד מול תחת מעל כמו לפי או אבל כי אם אז גם \
        רק וגם אלא כאשר כש ש ב ל מ ה ו כ שאני שאנחנו שזה אהה אה אמ אמם אממ המ כאילו כלומר בעצם יעני נגיד",
    digits: "אפס אחת אחד שתיים שתים שניים שנים שלוש שלושה ארבע ארבעה חמש חמישה שש שישה ששה שבע שבעה שמונה תשע תשעה \
        עשר עשרה עשרים שלושים ארבעים חמישים שישים שבעים שמונים תשעים מאה מקף נקודה שטרודל כוכבית סולמית אלף בית \
        גימל דלת",
    ambiguous: "אחת אחד נקודה בית דלת אלף",
};

static ENGLISH: Words = Words {
    trailing: "a an the of to in on at for from with without by into onto between until than as and or but because if \
        when while which who whose my your our their its is are was were um uh er erm hmm mm i'm it's i we",
    digits: "zero oh one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty \
        seventy eighty ninety hundred double triple dash dot underscore hash star",
    ambiguous: "one oh dot star double hundred",
};

static RUSSIAN: Words = Words {
    trailing: "в во на с со к ко у о об от до из за по под над при для без про через между перед после около и а но или \
        что чтобы если когда потому который которая как мой моя моё мое ваш ваша не э ээ эээ эм ну мм ммм значит \
        типа",
    digits: "ноль нуль один одна два две три четыре пять шесть семь восемь девять десять одиннадцать двенадцать \
        двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто сто двести триста четыреста \
        пятьсот шестьсот семьсот восемьсот девятьсот тире точка собака дефис решётка",
    ambiguous: "один одна точка собака",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn all(language: Language, hint: Hint, texts: &[&str]) {
        for text in texts {
            assert_eq!(of_text(language, text), hint, "{text:?}");
        }
    }

    #[test]
    fn hebrew_digits_spelling_and_trailing_words_ask_for_more() {
        all(
            Language::He,
            Hint::Open,
            &[
                "המספר שלי הוא אפס חמש ארבע",
                "הַמִּסְפָּר שֶׁלִּי אֶפֶס חָמֵשׁ",
                "המספר שלי 054",
                "הכתובת היא רחוב הרצל 12,",
                "אני צריך לדבר עם",
                "אני רוצה לקבוע תור ל",
                "זה בגלל",
                "אני רוצה, אה",
                "קוראים לי כהן כ׳ ה׳",
                "אני רוצה...",
                "אני גר על־",
                "אני צריך את.",
            ],
        );
    }

    #[test]
    fn a_finished_hebrew_sentence_is_closed_and_one_without_its_end_is_unknown() {
        all(Language::He, Hint::Closed, &["מה שעות הפתיחה שלכם?", "כן.", "תודה רבה!", "הוא אמר \"שלום.\""]);
        all(Language::He, Hint::Unknown, &["מה שעות הפתיחה שלכם", "כן", "", "   ", "?!", "אני רוצה לקבוע תור למחר"]);
    }

    #[test]
    fn english_and_russian_are_judged_alike() {
        all(
            Language::En,
            Hint::Open,
            &[
                "My number is five five",
                "five one",
                "I need an appointment with",
                "It is B",
                "at the",
                "well, um",
                "call me at 555-01",
                "so I…",
            ],
        );
        all(Language::En, Hint::Closed, &["What time do you close?", "My number is 555 0123."]);
        all(
            Language::En,
            Hint::Unknown,
            &["What time do you close", "Yes", "I take the large one", "I have been there before"],
        );
        all(
            Language::Ru,
            Hint::Open,
            &["Мой номер восемь девять", "Мне нужно попасть к", "Я хочу, эээ", "потому ЧТО", "буква Б"],
        );
        all(Language::Ru, Hint::Closed, &["До скольки вы работаете?", "Да."]);
        all(Language::Ru, Hint::Unknown, &["Сколько это стоит", "Да"]);
    }

    #[test]
    fn any_text_is_judged_without_a_panic_however_long() {
        let long = "ש".repeat(100_000);
        for language in Language::ALL {
            assert_eq!(of_text(language, &long), Hint::Unknown);
            for text in ["\u{5c1}", "׳", "-", "\u{202e}", "…", "''''", "🙂", "a\u{301}"] {
                of_text(language, text);
            }
        }
    }
}
