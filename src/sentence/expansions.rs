//! Times, dates, units and abbreviations in words, for voices that read them sign by sign.
//!
//! Not implemented: ordinals, cases (the Russian genitive of dates is there, other cases are not), dates without a year.

use crate::config::Language;

/// Words of a text in which times, dates, units and abbreviations are words.
pub(super) fn expand(text: &str, language: Language) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let (word, next) = (words[at], words.get(at + 1).copied());
        at += 1;
        if let Some(words) = abbreviation(word, language, out.last().map(String::as_str), next) {
            out.push(words);
            continue;
        }
        let (lead, number, tail) = parts(word);
        let expanded = if number.is_empty() {
            None
        } else if let Some(date) = date(number, language).filter(|_| !tail.starts_with(char::is_alphanumeric)) {
            // "2026 г." and "2026 года" say themselves what they are.
            if language == Language::Ru
                && next.is_some_and(|next| matches!(next.trim_matches(['.', ',']), "г" | "года"))
            {
                at += 1;
            }
            Some(date)
        } else if let Some(time) = times(number, language, half_of_day(tail, next)) {
            Some(if tail.starts_with(char::is_alphabetic) { time + " " } else { time })
        } else if let Some((unit, rest)) = unit(number, tail, language) {
            out.push(format!("{lead}{number} {unit}{rest}"));
            continue;
        } else if let Some((unit, rest)) =
            next.filter(|_| tail.is_empty()).and_then(|next| unit(number, next, language))
        {
            at += 1;
            out.push(format!("{lead}{number} {unit}{rest}"));
            continue;
        } else {
            None
        };
        out.push(match expanded {
            Some(words) => format!("{lead}{words}{tail}"),
            None => word.to_owned(),
        });
    }
    out.join(" ")
}

/// What stands before the first digit of a word, the digits with what joins them, and what stands behind.
fn parts(word: &str) -> (&str, &str, &str) {
    let start = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
    let (lead, rest) = word.split_at(start);
    let joins = |c: char| matches!(c, '.' | ',' | ':' | '/' | '-' | '–');
    let mut end = 0;
    let mut characters = rest.char_indices().peekable();
    while let Some((n, c)) = characters.next() {
        let followed = characters.peek().is_some_and(|(_, c)| c.is_ascii_digit());
        if !(c.is_ascii_digit() || joins(c) && followed) {
            break;
        }
        end = n + c.len_utf8();
    }
    let (number, tail) = rest.split_at(end);
    (lead, number, tail)
}

/// Whether "am" or "pm" follows.
fn half_of_day(tail: &str, next: Option<&str>) -> bool {
    let first = if tail.is_empty() { next.unwrap_or_default() } else { tail };
    let letters: String = first.chars().filter(|c| c.is_alphabetic()).collect();
    matches!(letters.to_ascii_lowercase().as_str(), "am" | "pm")
}

/// A time, or two of them with a dash between.
fn times(number: &str, language: Language, half_of_day: bool) -> Option<String> {
    match number.split_once(['-', '–']) {
        None => time(number, language, half_of_day),
        Some((from, to)) => {
            let between = match language {
                Language::En => "to",
                Language::Ru => "до",
                Language::He => "עד",
            };
            Some(format!("{} {between} {}", time(from, language, true)?, time(to, language, half_of_day)?))
        }
    }
}

fn time(number: &str, language: Language, half_of_day: bool) -> Option<String> {
    let (hours, minutes) = number.split_once(':').filter(|(hours, minutes)| hours.len() <= 2 && minutes.len() == 2)?;
    let (h, m): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if h > 24 || m > 59 {
        return None;
    }
    Some(match language {
        // Voices read it, or get words of the digits.
        Language::He => number.to_owned(),
        Language::Ru if m == 0 => format!("{h} {}", plural(h, ["час", "часа", "часов"])),
        Language::Ru => {
            let (hours, minutes) = (plural(h, ["час", "часа", "часов"]), plural(m, ["минута", "минуты", "минут"]));
            format!("{h} {hours} {m} {minutes}")
        }
        Language::En => match m {
            0 if half_of_day => h.to_string(),
            0 if h > 12 => format!("{h} hundred"),
            0 => format!("{h} o'clock"),
            1..=9 => format!("{h} oh {m}"),
            _ => format!("{h} {m}"),
        },
    })
}

const EN_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const RU_MONTHS: [&str; 12] = [
    "января",
    "февраля",
    "марта",
    "апреля",
    "мая",
    "июня",
    "июля",
    "августа",
    "сентября",
    "октября",
    "ноября",
    "декабря",
];
const HE_MONTHS: [&str; 12] =
    ["ינואר", "פברואר", "מרץ", "אפריל", "מאי", "יוני", "יולי", "אוגוסט", "ספטמבר", "אוקטובר", "נובמבר", "דצמבר"];

/// A date with its year: year-month-day, day.month.year, and with slashes where only one reading is possible or usual.
fn date(number: &str, language: Language) -> Option<String> {
    let mark = number.chars().find(|c| !c.is_ascii_digit())?;
    let fields: Vec<&str> = number.split(mark).collect();
    let [first, second, third] = fields[..] else { return None };
    let value = |field: &str| field.parse::<u32>().ok();
    let (a, b, c) = (value(first)?, value(second)?, value(third)?);
    let (day, month, year) = match mark {
        '-' if first.len() == 4 => (c, b, a),
        '.' | '/' | '-' if third.len() != 4 => return None,
        '.' | '-' => (a, b, c),
        // American and European habits cannot be told apart.
        '/' if language == Language::En && a <= 12 && b <= 12 && a != b => return None,
        '/' if language == Language::En && b > 12 => (b, a, c),
        '/' => (a, b, c),
        _ => return None,
    };
    if !(1..=31).contains(&day) || !(1000..=2999).contains(&year) {
        return None;
    }
    let name = |months: [&'static str; 12]| months.get((month as usize).wrapping_sub(1)).copied();
    Some(match language {
        Language::En => format!("{} {day} {year}", name(EN_MONTHS)?),
        Language::Ru => format!("{day} {} {year} года", name(RU_MONTHS)?),
        Language::He => format!("{day} ב{} {year}", name(HE_MONTHS)?),
    })
}

/// The unit that `text` begins with, in words, and what stands behind it.
fn unit<'t>(number: &str, text: &'t str, language: Language) -> Option<(&'static str, &'t str)> {
    let end = text.trim_end_matches(['.', ',', '!', '?', ';', ':', ')']).len();
    let (name, mut rest) = text.split_at(end);
    let en = |one: &'static str, many: &'static str| if number == "1" { one } else { many };
    let whole = number.parse::<u32>();
    let ru = |forms: [&'static str; 3]| whole.as_ref().map_or(forms[1], |n| plural(*n, forms));
    let words = match (language, name) {
        (Language::En, "km") => en("kilometre", "kilometres"),
        (Language::En, "cm") => en("centimetre", "centimetres"),
        (Language::En, "mm") => en("millimetre", "millimetres"),
        (Language::En, "m²" | "sqm") => en("square metre", "square metres"),
        (Language::En, "kg") => en("kilogram", "kilograms"),
        (Language::En, "ml") => en("millilitre", "millilitres"),
        (Language::En, "km/h") => "kilometres an hour",
        (Language::En, "GB") => en("gigabyte", "gigabytes"),
        (Language::En, "MB") => en("megabyte", "megabytes"),
        (Language::En, "hr" | "hrs") => en("hour", "hours"),
        (Language::En, "min" | "mins") => en("minute", "minutes"),
        (Language::En, "°C") => en("degree", "degrees"),
        (Language::Ru, "км") => ru(["километр", "километра", "километров"]),
        (Language::Ru, "см") => ru(["сантиметр", "сантиметра", "сантиметров"]),
        (Language::Ru, "м²" | "кв.м") => ru(["квадратный метр", "квадратных метра", "квадратных метров"]),
        (Language::Ru, "кг") => ru(["килограмм", "килограмма", "килограммов"]),
        (Language::Ru, "мл") => ru(["миллилитр", "миллилитра", "миллилитров"]),
        (Language::Ru, "мин") => ru(["минута", "минуты", "минут"]),
        (Language::Ru, "ч") => ru(["час", "часа", "часов"]),
        (Language::Ru, "шт") => ru(["штука", "штуки", "штук"]),
        (Language::Ru, "млн") => ru(["миллион", "миллиона", "миллионов"]),
        (Language::Ru, "млрд") => ru(["миллиард", "миллиарда", "миллиардов"]),
        (Language::Ru, "тыс") => ru(["тысяча", "тысячи", "тысяч"]),
        (Language::Ru, "руб") => ru(["рубль", "рубля", "рублей"]),
        (Language::Ru, "коп") => ru(["копейка", "копейки", "копеек"]),
        (Language::Ru, "°C" | "°С") => ru(["градус", "градуса", "градусов"]),
        (Language::He, "ק\"מ" | "ק״מ") => "קילומטר",
        (Language::He, "ס\"מ" | "ס״מ") => "סנטימטר",
        (Language::He, "מ\"ר" | "מ״ר") => "מטר רבוע",
        (Language::He, "ק\"ג" | "ק״ג") => "קילוגרם",
        (Language::He, "מ\"ל" | "מ״ל") => "מיליליטר",
        (Language::He, "דק'" | "דק׳") => "דקות",
        _ => return None,
    };
    // The full stop of an abbreviation is none of the sentence, unless more follows it.
    if language == Language::Ru && matches!(name, "мин" | "ч" | "шт" | "тыс" | "руб" | "коп") {
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    Some((words, rest))
}

/// An abbreviation in words. Its full stop goes; behind the last word one stays.
fn abbreviation(word: &str, language: Language, before: Option<&str>, next: Option<&str>) -> Option<String> {
    let after_digit = before.is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()));
    let name_follows = next.is_some_and(|next| next.starts_with(char::is_uppercase));
    let number_follows = next.is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()));
    let bare = word.trim_end_matches([',', '!', '?', ';', ':', ')']);
    let words = match (language, bare) {
        (Language::En, "e.g.") => "for example",
        (Language::En, "i.e.") => "that is",
        (Language::En, "etc.") => "et cetera",
        (Language::En, "approx.") => "approximately",
        (Language::En, "vs.") => "versus",
        (Language::En, "No.") if number_follows => "number",
        (Language::En, "ext.") if number_follows => "extension",
        (Language::Ru, "т.е.") => "то есть",
        (Language::Ru, "т.к.") => "так как",
        (Language::Ru, "т.д.") => "так далее",
        (Language::Ru, "т.п.") => "тому подобное",
        (Language::Ru, "руб.") => "рублей",
        (Language::Ru, "тыс.") => "тысяч",
        (Language::Ru, "др.") => "другие",
        (Language::Ru, "тел.") => "телефон",
        (Language::Ru, "доб.") => "добавочный",
        (Language::Ru, "ул.") => "улица",
        (Language::Ru, "пр.") if name_follows => "проспект",
        (Language::Ru, "пер.") if name_follows => "переулок",
        (Language::Ru, "пл.") if name_follows => "площадь",
        (Language::Ru, "д.") if number_follows => "дом",
        (Language::Ru, "кв.") if number_follows => "квартира",
        (Language::Ru, "стр.") if number_follows => "строение",
        (Language::Ru, "эт.") => "этаж",
        (Language::Ru, "обл.") => "область",
        (Language::Ru, "г.") if after_digit => "года",
        (Language::Ru, "г.") if name_follows => "город",
        (Language::Ru, "им.") if name_follows => "имени",
        (Language::Ru, "проф.") => "профессор",
        (Language::Ru, "д-р" | "Д-р") => "доктор",
        (Language::Ru, "напр.") => "например",
        (Language::He, "ת.ד." | "ת\"ד" | "ת״ד") => "תיבת דואר",
        (Language::He, "וכו'" | "וכו׳") => "וכולי",
        (Language::He, "רח'" | "רח׳") => "רחוב",
        (Language::He, "שד'" | "שד׳") => "שדרות",
        (Language::He, "מס'" | "מס׳") => "מספר",
        (Language::He, "טל'" | "טל׳") => "טלפון",
        (Language::He, "עמ'" | "עמ׳") => "עמוד",
        (Language::He, "ע\"י" | "ע״י") => "על ידי",
        (Language::He, "בע\"מ" | "בע״מ") => "בערבון מוגבל",
        (Language::He, "אח\"כ" | "אח״כ") => "אחר כך",
        _ => return None,
    };
    let tail = &word[bare.len()..];
    let stop = if next.is_none() && bare.ends_with('.') && tail.is_empty() { "." } else { tail };
    Some(format!("{words}{stop}"))
}

/// The Russian form for a number: one, two to four, more.
fn plural(n: u32, forms: [&'static str; 3]) -> &'static str {
    match (n % 10, n / 10 % 10) {
        (1, tens) if tens != 1 => forms[0],
        (2..=4, tens) if tens != 1 => forms[1],
        _ => forms[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{En, He, Ru};

    #[test]
    fn times_dates_units_and_abbreviations_become_words() {
        for (language, text, expected) in [
            (En, "at 5:30 pm, or 17:00.", "at 5 30 pm, or 17 hundred."),
            (En, "from 9:00-17:30", "from 9 to 17 30"),
            (En, "(9:05am)", "(9 oh 5 am)"),
            (En, "at 8:00.", "at 8 o'clock."),
            (En, "on 2026-11-05, 5.11.2026 and 11/25/2026", "on November 5 2026, November 5 2026 and November 25 2026"),
            (En, "03/04/2026 stays", "03/04/2026 stays"),
            (En, "5 km, 1kg and 2.5 cm.", "5 kilometres, 1 kilogram and 2.5 centimetres."),
            (En, "Shoes, hats, etc.", "Shoes, hats, et cetera."),
            (En, "No. 5, ext. 12, e.g. this", "number 5, extension 12, for example this"),
            (En, "No. That is all.", "No. That is all."),
            (En, "ratio 16:9, 25:61, v1.2.3", "ratio 16:9, 25:61, v1.2.3"),
            (Ru, "в 14:30 или 17:00, в 1:01", "в 14 часов 30 минут или 17 часов, в 1 час 1 минута"),
            (Ru, "с 9:00–18:00.", "с 9 часов до 18 часов."),
            (Ru, "05.11.2026 г. и 2026-01-02", "5 ноября 2026 года и 2 января 2026 года"),
            (Ru, "в 2026 г. в г. Хайфа", "в 2026 года в город Хайфа"),
            (Ru, "21 руб. 50 коп. за 3 кг", "21 рубль 50 копеек за 3 килограмма"),
            (Ru, "2,5 км, 5 мин.", "2,5 километра, 5 минут"),
            (Ru, "ул. Ленина, д. 5, кв. 12", "улица Ленина, дом 5, квартира 12"),
            (Ru, "Д-р Иванов, напр.", "доктор Иванов, например."),
            (He, "ב-5.11.2026 בשעה 9:00-17:00", "ב-5 בנובמבר 2026 בשעה 9:00 עד 17:00"),
            (He, "3 ק\"מ, רח' הרצל מס' 5", "3 קילומטר, רחוב הרצל מספר 5"),
        ] {
            assert_eq!(expand(text, language), expected);
            assert_eq!(expand(expected, language), expected, "said twice");
        }
    }
}
