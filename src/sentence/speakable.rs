//! Makes a piece of the answer speakable: what a voice would spell out, garble or swallow becomes words, or goes.
//!
//! The prompt asks for plain spoken text; this is the net below it. Not implemented: ordinals, inflection beyond the Russian plural.

use crate::config::Language;

use super::{expansions, numbers, words};

/// What a voice should say for `text`; `None` when nothing in it can be said.
///
/// Markdown, emoji, control and direction marks go; addresses of the web become host names; `&`, `%`, currency and number signs
/// become words; the digits of telephone numbers are said one by one. In Hebrew all numbers become words.
pub fn speakable(text: &str, language: Language) -> Option<String> {
    speakable_with(text, language, Digits::Words)
}

/// What a voice makes of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digits {
    /// It is silent where Hebrew has digits, and gets words.
    Words,
    /// It reads them, and in the right gender.
    Kept,
}

/// [`speakable`] for a voice of which it is known what it makes of digits.
pub fn speakable_with(text: &str, language: Language, digits: Digits) -> Option<String> {
    let text: String = text.chars().filter_map(keep).collect();
    let text = links(&text);
    let text: Vec<String> = text.split_whitespace().filter_map(|token| token_words(token, language)).collect();
    let text = expansions::expand(&text.join(" "), language);
    let text = telephone_numbers(&text, language);
    let text = signs(&text, language);
    let text = if language == Language::He && digits == Digits::Words { hebrew_numbers(&text) } else { text };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = tidy(&text);
    text.contains(char::is_alphanumeric).then_some(text)
}

/// The word for the language: English, Russian, Hebrew.
fn word(language: Language, en: &'static str, ru: &'static str, he: &'static str) -> &'static str {
    match language {
        Language::En => en,
        Language::Ru => ru,
        Language::He => he,
    }
}

/// Drops what has no sound: controls, direction marks, emoji, arrows, boxes.
fn keep(c: char) -> Option<char> {
    match c {
        _ if c.is_whitespace() => Some(' '),
        _ if c.is_control() => None,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{20e3}' | '\u{e0000}'..='\u{e0fff}' => None,
        '\u{1f000}'..='\u{1faff}' | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' => {
            Some(' ')
        }
        _ => Some(c),
    }
}

/// `[text](address)` and `![text](address)` become the text.
fn links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open);
        let link = from.find("](").and_then(|middle| {
            let label = &from[1..middle];
            let close = from[middle..].find(')')?;
            (!label.contains(['[', ']'])).then_some((label, middle + close + 1))
        });
        out.push_str(before.strip_suffix('!').filter(|_| link.is_some()).unwrap_or(before));
        match link {
            Some((label, end)) => {
                out.push_str(label);
                rest = &from[end..];
            }
            None => {
                out.push(' ');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A word without markup; web and mail addresses in words. `None` for a list bullet.
fn token_words(token: &str, language: Language) -> Option<String> {
    let is_markup = |c: char| matches!(c, '*' | '_' | '`' | '~' | '#' | '|' | '<' | '>' | '{' | '}' | '\\' | '^' | '=');
    if matches!(token, "-" | "•" | "·" | "+") || token.chars().all(|c| matches!(c, '-' | '|' | ':')) {
        return None;
    }
    let bare = token.trim_matches(|c: char| is_markup(c) || matches!(c, '(' | ')' | '"' | '«' | '»' | '“' | '”' | ']'));
    let address = bare.trim_end_matches(['.', ',', '!', '?', ';', ':', ')', '"', '»']);
    let tail = &bare[address.len()..];
    if let Some(words) = address_words(address, language) {
        return Some(words + tail.trim_end_matches([')', '"', '»']));
    }
    if let Some(tail) = token.strip_prefix("ש\"ח").or_else(|| token.strip_prefix("ש״ח"))
        && !tail.contains(char::is_alphanumeric)
    {
        return Some(format!("שקלים{tail}"));
    }
    let mut out = String::with_capacity(token.len());
    let characters: Vec<char> = token.chars().collect();
    for (n, &c) in characters.iter().enumerate() {
        match c {
            // An underscore inside a word joins two.
            _ if is_markup(c) => out.push_str(if matches!(c, '*' | '`' | '~' | '#') { "" } else { " " }),
            ']' => out.push(' '),
            '«' | '»' | '“' | '”' | '„' => {}
            // Between Hebrew letters it is a gershayim: part of the word.
            '"' => {
                let hebrew = |n: Option<usize>| n.and_then(|n| characters.get(n)).is_some_and(|c| words::is_hebrew(*c));
                if hebrew(n.checked_sub(1)) && hebrew(Some(n + 1)) {
                    out.push(c);
                }
            }
            _ => out.push(c),
        }
    }
    Some(out)
}

/// Endings by which a bare host is told from two sentences without a space.
const TOP_LEVEL: &[&str] = &[
    "com", "org", "net", "info", "biz", "io", "dev", "app", "shop", "edu", "gov", "il", "ru", "uk", "de", "eu", "us",
    "рф",
];

fn address_words(address: &str, language: Language) -> Option<String> {
    let (dot, at) = (word(language, " dot ", " точка ", " נקודה "), word(language, " at ", " собака ", " שטרודל "));
    let lower = address.to_lowercase();
    let explicit = ["https://", "http://", "www."].iter().any(|start| lower.starts_with(start));
    let bare = lower.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("www.");
    let host = bare.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match host.split_once('@') {
        Some((user, host)) if !user.is_empty() => (Some(user), host),
        _ => (None, host),
    };
    let host = host.split(':').next().unwrap_or_default().trim_matches('.');
    let known = host.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && TOP_LEVEL.contains(&end));
    let plain = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-'));
    if !plain || !(explicit || known) {
        return None;
    }
    let host = host.replace('.', dot);
    Some(match user {
        Some(user) => format!("{}{at}{host}", user.replace('.', dot)),
        None => host,
    })
}

/// Spells the digits of telephone numbers and other long numbers, a comma between their groups.
fn telephone_numbers(text: &str, language: Language) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let fresh = at == 0
            || !(characters[at - 1].is_alphanumeric() || matches!(characters[at - 1], '.' | ',' | ':' | '/'))
            || characters[at - 1] == ',' && !characters.get(at).is_some_and(char::is_ascii_digit);
        if fresh && let Some((groups, plus, end)) = telephone_at(&characters, at) {
            if plus {
                out.push_str(word(language, "plus ", "плюс ", "פלוס "));
            }
            let spelled: Vec<String> =
                groups.iter().map(|group| group.chars().map(String::from).collect::<Vec<_>>().join(" ")).collect();
            out.push_str(&spelled.join(", "));
            at = end;
        } else {
            out.push(characters[at]);
            at += 1;
        }
    }
    out
}

/// The groups of a telephone number that begins at `at`, whether it has a plus sign, and where it ends.
fn telephone_at(characters: &[char], at: usize) -> Option<(Vec<String>, bool, usize)> {
    let plus = characters[at] == '+';
    let bracket = characters[at + usize::from(plus)..].first() == Some(&'(');
    let mut next = at + usize::from(plus) + usize::from(bracket);
    let mut groups: Vec<String> = Vec::new();
    let mut separator: Option<char> = None;
    loop {
        let group: String = characters[next..].iter().take_while(|c| c.is_ascii_digit()).collect();
        if group.is_empty() {
            return None;
        }
        next += group.len();
        groups.push(group);
        let gap: String =
            characters[next..].iter().take(2).take_while(|c| matches!(c, '-' | ' ' | '(' | ')')).collect();
        let joins = characters.get(next + gap.len()).is_some_and(char::is_ascii_digit) && !gap.is_empty();
        let kind = if gap.contains(')') { ')' } else { gap.chars().next().unwrap_or('\0') };
        // One kind of separator throughout, unless a plus or a bracket says that this is a telephone number.
        if !joins || !(plus || bracket || separator.is_none_or(|first| first == kind)) {
            break;
        }
        separator = Some(kind);
        next += gap.len();
    }
    let digits: usize = groups.iter().map(String::len).sum();
    let lengths: Vec<usize> = groups.iter().map(String::len).collect();
    let date = lengths == [4, 2, 2];
    let wide = lengths.iter().all(|length| *length >= 2);
    let likely = match separator {
        _ if plus || bracket => true,
        None => true,
        Some('-') => true,
        _ => wide && groups[0].starts_with('0'),
    };
    // Part of a word, or of a decimal number or a time.
    let goes_on = match characters.get(next) {
        Some('.' | ',' | ':') => characters.get(next + 1).is_some_and(char::is_ascii_digit),
        Some(c) => c.is_alphabetic(),
        None => false,
    };
    ((7..=20).contains(&digits) && likely && !date && !goes_on).then_some((groups, plus, next))
}

/// Signs that a voice would name wrongly or not at all.
fn signs(text: &str, language: Language) -> String {
    let characters: Vec<char> = text.chars().collect();
    let digit = |n: Option<usize>| n.and_then(|n| characters.get(n)).is_some_and(char::is_ascii_digit);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let (behind, ahead) = (digit(at.checked_sub(1)), digit(Some(at + 1)));
        let alone = at == 0 || characters[at - 1] == ' ';
        match c {
            '$' | '€' | '₪' | '₽' | '£' => {
                // "$5" is said "5 dollars", "5 $" as it stands.
                let gap = usize::from(characters.get(at + 1) == Some(&' '));
                let amount: String = match number_before(&out) {
                    Some(_) => String::new(),
                    None => characters[at + 1 + gap..]
                        .iter()
                        .enumerate()
                        .take_while(|(n, c)| {
                            c.is_ascii_digit() || matches!(c, '.' | ',') && digit(Some(at + 2 + gap + n))
                        })
                        .map(|(_, c)| c)
                        .collect(),
                };
                let number = number_before(&out).unwrap_or_else(|| amount.clone());
                if !amount.is_empty() {
                    at += gap + amount.chars().count();
                    out.push_str(&amount);
                }
                push_word(&mut out, currency(c, &number, language));
            }
            '%' => {
                let number = number_before(&out).unwrap_or_default();
                let he = if number == "1" { "אחוז" } else { "אחוזים" };
                let ru = plural(&number, ["процент", "процента", "процентов"]);
                push_word(&mut out, word(language, "percent", ru, he));
            }
            '&' => push_word(&mut out, word(language, "and", "и", "וגם")),
            '№' => push_word(&mut out, word(language, "number", "номер", "מספר")),
            '°' => push_word(&mut out, word(language, "degrees", "градусов", "מעלות")),
            '@' => push_word(&mut out, word(language, "at", "собака", "שטרודל")),
            '+' => push_word(&mut out, word(language, "plus", "плюс", "פלוס")),
            '-' | '−' if ahead && alone => push_word(&mut out, word(language, "minus", "минус", "מינוס")),
            '–' | '-' if behind && ahead && is_range(&characters, at) => {
                push_word(&mut out, word(language, "to", "до", "עד"))
            }
            '…' => out.push('.'),
            '.' if out.ends_with('.') => {}
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

/// Whether the hyphen at `at`, between digits, is the only one of its kind: "5-10", but not "2026-11-05".
fn is_range(characters: &[char], at: usize) -> bool {
    let number = |c: &&char| c.is_ascii_digit();
    let before = characters[..at].iter().rev().find(|c| !number(c));
    let behind = characters[at + 1..].iter().find(|c| !number(c));
    !matches!(before, Some('-' | '–')) && !matches!(behind, Some('-' | '–'))
}

fn push_word(out: &mut String, word: &str) {
    out.push(' ');
    out.push_str(word);
    out.push(' ');
}

/// The number that `text` ends with, a space behind it allowed.
fn number_before(text: &str) -> Option<String> {
    let text = text.strip_suffix(' ').unwrap_or(text);
    let start = text
        .rfind(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')))
        .map_or(0, |n| n + text[n..].chars().next().map_or(1, char::len_utf8));
    let number = &text[start..];
    number.ends_with(|c: char| c.is_ascii_digit()).then(|| number.to_owned())
}

fn currency(sign: char, number: &str, language: Language) -> &'static str {
    let one = number == "1";
    match (sign, language) {
        ('$', Language::En) => {
            if one {
                "dollar"
            } else {
                "dollars"
            }
        }
        ('€', Language::En) => {
            if one {
                "euro"
            } else {
                "euros"
            }
        }
        ('₪', Language::En) => {
            if one {
                "shekel"
            } else {
                "shekels"
            }
        }
        ('₽', Language::En) => {
            if one {
                "rouble"
            } else {
                "roubles"
            }
        }
        (_, Language::En) => {
            if one {
                "pound"
            } else {
                "pounds"
            }
        }
        ('$', Language::Ru) => plural(number, ["доллар", "доллара", "долларов"]),
        ('€', Language::Ru) => "евро",
        ('₪', Language::Ru) => plural(number, ["шекель", "шекеля", "шекелей"]),
        ('₽', Language::Ru) => plural(number, ["рубль", "рубля", "рублей"]),
        (_, Language::Ru) => plural(number, ["фунт", "фунта", "фунтов"]),
        ('$', Language::He) => "דולר",
        ('€', Language::He) => "אירו",
        ('₪', Language::He) => {
            if one {
                "שקל"
            } else {
                "שקלים"
            }
        }
        ('₽', Language::He) => "רובל",
        (_, Language::He) => "פאונד",
    }
}

/// The Russian form for a number: one, two to four, more. A fraction takes the second.
fn plural(number: &str, forms: [&'static str; 3]) -> &'static str {
    if number.contains(['.', ',']) && number.rsplit(['.', ',']).next().is_none_or(|tail| tail.len() != 3) {
        return forms[1];
    }
    let digits: Vec<u32> = number.chars().filter_map(|c| c.to_digit(10)).collect();
    let teen = digits.len() >= 2 && digits[digits.len() - 2] == 1;
    match digits.last() {
        Some(1) if !teen => forms[0],
        Some(2..=4) if !teen => forms[1],
        _ => forms[2],
    }
}

/// Numbers, decimals and times as Hebrew words.
fn hebrew_numbers(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() * 2);
    let mut at = 0;
    while at < characters.len() {
        if !characters[at].is_ascii_digit() {
            out.push(characters[at]);
            at += 1;
            continue;
        }
        if out.ends_with(char::is_alphanumeric) {
            out.push(' ');
        }
        // Digits, and marks that stand between two of them.
        let length = characters[at..]
            .iter()
            .enumerate()
            .take_while(|(n, c)| {
                c.is_ascii_digit()
                    || matches!(c, '.' | ',' | ':' | '/')
                        && characters.get(at + n + 1).is_some_and(char::is_ascii_digit)
            })
            .count();
        let number: String = characters[at..at + length].iter().collect();
        out.push_str(&hebrew_number(&number));
        at += length;
        if characters.get(at).is_some_and(|c| c.is_alphanumeric()) {
            out.push(' ');
        }
    }
    out
}

fn hebrew_number(number: &str) -> String {
    if let Some((hours, minutes)) =
        number.split_once(':').filter(|(_, minutes)| !minutes.contains([':', '.', ',', '/']))
    {
        let minutes = if minutes.chars().all(|c| c == '0') { String::new() } else { numbers::hebrew(minutes) };
        return format!("{} {minutes}", numbers::hebrew(hours)).trim_end().to_owned();
    }
    let groups: Vec<&str> = number.split(',').collect();
    if groups.len() > 1 && groups[1..].iter().all(|group| group.len() == 3 && !group.contains(['.', '/', ':'])) {
        return numbers::hebrew(&groups.concat());
    }
    if let Some((whole, fraction)) =
        number.split_once('.').filter(|(_, fraction)| !fraction.contains(['.', ',', '/', ':']))
    {
        let whole = whole.replace(',', "");
        // A long fraction is said digit by digit.
        let fraction = if fraction.len() > 2 { numbers::hebrew_digits(fraction) } else { numbers::hebrew(fraction) };
        return format!("{} נקודה {fraction}", numbers::hebrew(&whole));
    }
    let parts: Vec<String> = number.split(['.', ',', ':', '/']).map(numbers::hebrew).collect();
    parts.join(" ")
}

/// Without white space in front of closing punctuation, and without punctuation at the very front.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '.' | ',' | '!' | '?' | ';' | ':') && out.ends_with(' ') {
            out.pop();
        }
        out.push(c);
    }
    out.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '(' && c != '\'').trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{En, He, Ru};

    #[track_caller]
    fn says(language: Language, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let said = speakable(text, language);
            assert_eq!(said.as_deref(), Some(*expected), "{text}");
            assert_eq!(speakable(expected, language), said, "said twice: {text}");
        }
    }

    #[test]
    fn markup_is_not_read_aloud() {
        says(
            En,
            &[
                ("**Sure**, I can _help_.", "Sure, I can help."),
                ("# Opening hours", "Opening hours"),
                ("- Milk", "Milk"),
                ("• `Bread` and ~~butter~~", "Bread and butter"),
                ("See [our page](https://example.com/a?b=c) now.", "See our page now."),
                ("![logo](x.png) Hello", "logo Hello"),
                ("| a | b |", "a b"),
                ("[[p'ek]] raw phonemes", "p'ek raw phonemes"),
                ("He said “yes”.", "He said yes."),
            ],
        );
    }

    #[test]
    fn emoji_controls_and_direction_marks_have_no_sound() {
        says(En, &[("Great 😊👍🏽! See\u{200f} you\u{7}.", "Great! See you."), ("✅ Done → next", "Done next")]);
        says(He, &[("\u{202b}שלום\u{202c} לך 🙏", "שלום לך")]);
    }

    #[test]
    fn addresses_become_what_a_person_would_say() {
        says(
            En,
            &[
                ("Go to https://www.example.com/orders?id=5.", "Go to example dot com."),
                ("(www.shop.co.il)", "shop dot co dot il"),
                ("Mail info@example.com, please.", "Mail info at example dot com, please."),
            ],
        );
        says(Ru, &[("Сайт example.ru.", "Сайт example точка ru.")]);
        says(He, &[("באתר example.co.il", "באתר example נקודה co נקודה il")]);
    }

    #[test]
    fn signs_become_words_of_the_language() {
        says(
            En,
            &[
                ("Fish & chips, 5% off", "Fish and chips, 5 percent off"),
                ("$5.50 or 1 €", "5.50 dollars or 1 euro"),
                ("It is -5° today", "It is minus 5 degrees today"),
                ("5–10 days", "5 to 10 days"),
                ("Well... yes…", "Well. yes."),
            ],
        );
        says(
            Ru,
            &[
                ("21 ₽, 3 ₽, 15₽ и $100", "21 рубль, 3 рубля, 15 рублей и 100 долларов"),
                ("Скидка 2,5%", "Скидка 2,5 процента"),
                ("т.е. 500 руб. за № 7", "то есть 500 рублей за номер 7"),
            ],
        );
        says(He, &[("₪", "שקלים"), ("מים & לחם", "מים וגם לחם")]);
    }

    #[test]
    fn telephone_numbers_are_spelled_and_dates_and_prices_are_not() {
        says(
            En,
            &[
                ("Call 03-1234567.", "Call 0 3, 1 2 3 4 5 6 7."),
                ("Call +972 50 123 4567 now", "Call plus 9 7 2, 5 0, 1 2 3, 4 5 6 7 now"),
                ("(212) 555-0199", "2 1 2, 5 5 5, 0 1 9 9"),
                ("Order 123456789", "Order 1 2 3 4 5 6 7 8 9"),
                ("On 2026-11-05 it was 1,000,000", "On November 5 2026 it was 1,000,000"),
                ("1 000 000", "1 000 000"),
                ("Order 4721", "Order 4721"),
            ],
        );
    }

    #[test]
    fn hebrew_numbers_are_words_because_digits_are_silent() {
        says(
            He,
            &[
                ("ההזמנה תגיע ב-14 בחודש", "ההזמנה תגיע ב-ארבע עשרה בחודש"),
                ("המחיר 120 ₪", "המחיר מאה ועשרים שקלים"),
                ("המחיר 1,250 ש\"ח.", "המחיר אלף מאתיים וחמישים שקלים."),
                ("בשעה 5:30", "בשעה חמש שלושים"),
                ("בשעה 17:00", "בשעה שבע עשרה"),
                ("בערך 3.5 קילו", "בערך שלוש נקודה חמש קילו"),
                ("03-1234567", "אפס שלוש, אחת שתיים שלוש ארבע חמש שש שבע"),
                ("ד\"ר כהן", "ד\"ר כהן"),
            ],
        );
    }

    #[test]
    fn without_letters_or_digits_there_is_nothing_to_say() {
        for text in ["", "  ", "**", "...", "😊", "—", "\u{200f}", "- ", "|---|"] {
            for language in Language::ALL {
                assert_eq!(speakable(text, language), None, "{text:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in ".{0,80}", signs in "[-+0-9 ()$%.,:@/\\[\\]*\"а-вא-ג]{0,40}") {
            for language in Language::ALL {
                for text in [&text, &signs] {
                    if let Some(said) = speakable(text, language) {
                        assert!(said.contains(char::is_alphanumeric));
                        assert!(!said.contains("[[") && !said.contains('*'));
                    }
                }
            }
        }
    }
}
