//! What the cutter knows of words: abbreviations that do not end a sentence, and words after which nobody pauses.
//!
//! The tables are chosen by the script a word is written in, so that an English name inside a Hebrew answer is treated right.

/// What a full stop behind a word, with white space behind it, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The end of a sentence.
    Ends,
    /// An abbreviation that stands before what it belongs to.
    Never,
    /// The end of a sentence if a capital letter follows.
    BeforeCapital,
    /// An abbreviation if a digit follows, otherwise a word like any other.
    UnlessDigit,
}

const EN_NEVER: &[&str] = &[
    "dr", "mr", "mrs", "ms", "prof", "st", "sen", "rep", "gov", "gen", "capt", "lt", "sgt", "rev", "hon", "vs", "v",
    "approx", "dept", "al", "cf", "eg", "ie", "tel", "ave", "blvd", "apt", "mt", "messrs", "viz",
];
const EN_BEFORE_CAPITAL: &[&str] = &["etc", "inc", "ltd", "co", "corp", "jr", "sr", "bros", "esq", "ph.d"];
const EN_UNLESS_DIGIT: &[&str] = &[
    "no", "nos", "fig", "vol", "p", "pp", "ext", "art", "sec", "ch", "jan", "feb", "mar", "apr", "jun", "jul", "aug",
    "sep", "sept", "oct", "nov", "dec",
];
/// Abbreviations of single letters that may end a sentence; all others do not.
const EN_INITIALISMS: &[&str] = &["a.m", "p.m", "u.s", "u.k", "u.n", "d.c", "e.u"];

const RU_NEVER: &[&str] = &[
    "ул",
    "кв",
    "пр",
    "просп",
    "пер",
    "наб",
    "пл",
    "обл",
    "р-н",
    "стр",
    "корп",
    "тел",
    "доб",
    "им",
    "проф",
    "доц",
    "акад",
    "д-р",
    "гр",
    "напр",
    "см",
    "ср",
    "рис",
    "табл",
    "тов",
    "св",
    "бул",
    "ш",
    "эт",
    "оф",
    "под",
    "гос",
    "зам",
    "зав",
];
const RU_BEFORE_CAPITAL: &[&str] = &["др", "пр", "т.д", "т.п", "н.э"];
/// Units: end a sentence only behind a number.
const RU_UNITS: &[&str] = &[
    "г", "гг", "руб", "р", "коп", "тыс", "млн", "млрд", "ч", "мин", "сек", "кг", "км", "см", "мм", "м", "л", "шт",
    "чел", "в", "вв",
];
/// The one-letter words that a sentence can end with.
const RU_WORDS: &[&str] = &["я", "и", "а", "о", "у", "к", "с"];

const HE_NEVER: &[&str] = &[
    "רח",
    "רח'",
    "שד",
    "שד'",
    "טל",
    "טל'",
    "מס",
    "מס'",
    "עמ",
    "עמ'",
    "גב",
    "גב'",
    "פרופ",
    "פרופ'",
    "אינג",
    "אינג'",
    "ר'",
    "מר",
];

const WEAK: &[&str] = &[
    // en
    "a",
    "an",
    "the",
    "of",
    "to",
    "in",
    "on",
    "at",
    "by",
    "for",
    "from",
    "with",
    "and",
    "or",
    "but",
    "as",
    "if",
    "than",
    "that",
    "this",
    "these",
    "those",
    "my",
    "your",
    "our",
    "their",
    "his",
    "her",
    "its",
    "is",
    "are",
    "was",
    "were",
    "be",
    "will",
    "can",
    "not",
    "no",
    "so",
    "very",
    "about",
    "into",
    "some",
    "any",
    "which",
    "who",
    "when",
    "it's",
    "i'm",
    "i",
    "we",
    "you",
    // ru
    "и",
    "а",
    "но",
    "или",
    "в",
    "во",
    "на",
    "с",
    "со",
    "к",
    "ко",
    "о",
    "об",
    "от",
    "до",
    "из",
    "за",
    "по",
    "под",
    "над",
    "при",
    "для",
    "без",
    "у",
    "не",
    "ни",
    "что",
    "как",
    "если",
    "чтобы",
    "это",
    "этот",
    "эта",
    "ваш",
    "ваша",
    "ваше",
    "наш",
    "мы",
    "вы",
    "я",
    "очень",
    // he
    "של",
    "את",
    "על",
    "אל",
    "עם",
    "מן",
    "כי",
    "אם",
    "או",
    "גם",
    "לא",
    "אין",
    "יש",
    "כל",
    "זה",
    "זו",
    "הוא",
    "היא",
    "אני",
    "אנחנו",
    "בין",
    "עד",
    "לפי",
    "כדי",
    "אבל",
    "רק",
    "מאוד",
    "אשר",
    "ה",
    "ו",
    "ב",
    "ל",
    "מ",
    "ש",
    "כ",
];

pub(super) fn is_hebrew(c: char) -> bool {
    matches!(c, '\u{5d0}'..='\u{5ea}' | '\u{fb1d}'..='\u{fb4f}')
}

fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{4ff}')
}

/// What a full stop behind `word` means. `before` is the word in front of it; `starts` says that the sentence begins with `word`.
pub(super) fn stop_after(word: &str, before: &str, starts: bool) -> Stop {
    let lower = word.to_lowercase();
    let bare = lower.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = bare.len() < lower.len() || before.starts_with(|c: char| c.is_ascii_digit());
    if bare.is_empty() {
        // "1. Milk" is a list; elsewhere a number ends a sentence like a word.
        return if starts && lower.len() <= 2 { Stop::Never } else { Stop::Ends };
    }
    let Some(letter) = bare.chars().find(|c| c.is_alphabetic()) else { return Stop::Ends };
    let single = bare.chars().count() == 1;
    let initials = bare.contains('.') && bare.split('.').all(|part| part.chars().count() == 1);
    let listed = |table: &[&str]| table.contains(&bare);
    if is_hebrew(letter) {
        // A prefix may stand before the first letter: "לת.ד.".
        let initials = bare.contains('.')
            && bare.split('.').enumerate().all(|(n, part)| part.chars().count() <= if n == 0 { 3 } else { 1 });
        return if single || initials || listed(HE_NEVER) { Stop::Never } else { Stop::Ends };
    }
    if is_cyrillic(letter) {
        let tail = matches!(bare, "д" | "п") && before.eq_ignore_ascii_case("т.") || before == "т." && single;
        return match () {
            () if tail || listed(RU_BEFORE_CAPITAL) => Stop::BeforeCapital,
            () if listed(RU_UNITS) && numbered => Stop::BeforeCapital,
            () if listed(RU_NEVER) || listed(RU_UNITS) || initials => Stop::Never,
            () if single && !(listed(RU_WORDS) && word == lower) => Stop::Never,
            () => Stop::Ends,
        };
    }
    match () {
        () if listed(EN_BEFORE_CAPITAL) || listed(EN_INITIALISMS) => Stop::BeforeCapital,
        () if initials || listed(EN_NEVER) => Stop::Never,
        () if listed(EN_UNLESS_DIGIT) => Stop::UnlessDigit,
        // "I" ends sentences; any other single letter is an initial.
        () if single && word != "I" => Stop::Never,
        () => Stop::Ends,
    }
}

/// Whether a forced cut behind `word` would sound broken off: articles, prepositions, abbreviations, numbers (a unit follows).
pub(super) fn is_weak(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    bare.is_empty()
        || WEAK.contains(&bare.as_str())
        || bare.ends_with(|c: char| c.is_ascii_digit())
        || word.ends_with(['.', '-', '־', '\''])
}
