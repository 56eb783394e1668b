//! Numbers as Hebrew words, for voices to which digits are silent.
//!
//! The feminine form, which is the one for counting, prices without a noun, hours and numbers by themselves; it is wrong in
//! gender before a masculine noun, and is understood all the same. Not implemented: ordinals, fractions, construct state.

const UNITS: [&str; 20] = [
    "אפס",
    "אחת",
    "שתיים",
    "שלוש",
    "ארבע",
    "חמש",
    "שש",
    "שבע",
    "שמונה",
    "תשע",
    "עשר",
    "אחת עשרה",
    "שתים עשרה",
    "שלוש עשרה",
    "ארבע עשרה",
    "חמש עשרה",
    "שש עשרה",
    "שבע עשרה",
    "שמונה עשרה",
    "תשע עשרה",
];
/// Thousands are counted in the masculine.
const UNITS_MASCULINE: [&str; 20] = [
    "אפס",
    "אחד",
    "שניים",
    "שלושה",
    "ארבעה",
    "חמישה",
    "שישה",
    "שבעה",
    "שמונה",
    "תשעה",
    "עשרה",
    "אחד עשר",
    "שנים עשר",
    "שלושה עשר",
    "ארבעה עשר",
    "חמישה עשר",
    "שישה עשר",
    "שבעה עשר",
    "שמונה עשר",
    "תשעה עשר",
];
const TENS: [&str; 10] = ["", "", "עשרים", "שלושים", "ארבעים", "חמישים", "שישים", "שבעים", "שמונים", "תשעים"];
/// Three to ten thousand take their own form.
const FEW_THOUSANDS: [&str; 11] = ["", "", "", "שלושת", "ארבעת", "חמשת", "ששת", "שבעת", "שמונת", "תשעת", "עשרת"];

/// A number below one million in words; from there on, and with leading zeros, digit by digit.
pub(super) fn hebrew(digits: &str) -> String {
    let spelled = digits.len() > 1 && digits.starts_with('0');
    match digits.parse::<u32>() {
        Ok(n) if n < 1_000_000 && !spelled => joined(&parts(n)),
        _ => hebrew_digits(digits),
    }
}

/// Digit by digit.
pub(super) fn hebrew_digits(digits: &str) -> String {
    let words: Vec<&str> = digits.chars().filter_map(|c| c.to_digit(10)).map(|d| UNITS[d as usize]).collect();
    words.join(" ")
}

fn parts(n: u32) -> Vec<String> {
    let (thousands, rest) = (n / 1000, n % 1000);
    let mut parts = Vec::new();
    match thousands {
        0 => {}
        1 => parts.push("אלף".into()),
        2 => parts.push("אלפיים".into()),
        3..=10 => parts.push(format!("{} אלפים", FEW_THOUSANDS[thousands as usize])),
        _ => parts.push(format!("{} אלף", joined(&below_thousand(thousands, &UNITS_MASCULINE)))),
    }
    if rest > 0 || n == 0 {
        parts.extend(below_thousand(rest, &UNITS));
    }
    parts
}

fn below_thousand(n: u32, units: &[&str; 20]) -> Vec<String> {
    let mut parts = Vec::new();
    match n / 100 {
        0 => {}
        1 => parts.push("מאה".into()),
        2 => parts.push("מאתיים".into()),
        hundreds => parts.push(format!("{} מאות", UNITS[hundreds as usize])),
    }
    let rest = n % 100;
    match rest {
        0 if n > 0 => {}
        0..20 => parts.push(units[rest as usize].into()),
        _ => {
            parts.push(TENS[(rest / 10) as usize].into());
            if !rest.is_multiple_of(10) {
                parts.push(units[(rest % 10) as usize].into());
            }
        }
    }
    parts
}

/// The last part takes the "and".
fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} ו{last}", front.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hebrew_words() {
        for (digits, words) in [
            ("0", "אפס"),
            ("7", "שבע"),
            ("12", "שתים עשרה"),
            ("20", "עשרים"),
            ("25", "עשרים וחמש"),
            ("100", "מאה"),
            ("105", "מאה וחמש"),
            ("120", "מאה ועשרים"),
            ("121", "מאה עשרים ואחת"),
            ("215", "מאתיים וחמש עשרה"),
            ("340", "שלוש מאות וארבעים"),
            ("1000", "אלף"),
            ("2300", "אלפיים ושלוש מאות"),
            ("2026", "אלפיים עשרים ושש"),
            ("10000", "עשרת אלפים"),
            ("11000", "אחד עשר אלף"),
            ("21500", "עשרים ואחד אלף וחמש מאות"),
            ("999999", "תשע מאות תשעים ותשעה אלף תשע מאות תשעים ותשע"),
            ("1000000", "אחת אפס אפס אפס אפס אפס אפס"),
            ("05", "אפס חמש"),
        ] {
            assert_eq!(hebrew(digits), words, "{digits}");
        }
    }

    #[test]
    fn every_number_has_words_and_no_two_have_the_same() {
        let all: std::collections::HashSet<String> = (0..20_000).map(|n| hebrew(&n.to_string())).collect();
        assert_eq!(all.len(), 20_000);
        assert!(all.iter().all(|words| !words.trim().is_empty() && !words.contains("  ")));
    }
}
