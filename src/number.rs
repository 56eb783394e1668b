//! Telephone numbers as callers' networks write them, made E.164 (ITU-T) where the country's dialling plan allows it.
//!
//! A table of prefixes and lengths. The crate `phonenumber` knows every plan exactly, but its first use takes 6.4 MB and 67 ms,
//! and it makes a number of every extension (`620` becomes `+972620`). Not implemented: numbers whose validity depends on more than
//! their length; countries that are not in the table.

/// How one country dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country {
    /// ISO 3166 code.
    iso: &'static str,
    /// Country code.
    code: &'static str,
    /// Prefixes before a foreign country code.
    international: &'static [&'static str],
    /// Prefix before a national number; empty where there is none.
    trunk: &'static str,
    /// Digits of a national number, without the prefix.
    shortest: usize,
    longest: usize,
}

const fn plan(
    iso: &'static str,
    code: &'static str,
    international: &'static [&'static str],
    trunk: &'static str,
    shortest: usize,
    longest: usize,
) -> Country {
    Country { iso, code, international, trunk, shortest, longest }
}

const ZERO: &[&str] = &["00"];

/// By ISO code. A trunk prefix of 1 in the North American plan, of 8 in Russia and Kazakhstan.
const COUNTRIES: [Country; 50] = [
    plan("AE", "971", ZERO, "0", 8, 9),
    plan("AR", "54", ZERO, "0", 10, 11),
    plan("AT", "43", ZERO, "0", 4, 13),
    plan("AU", "61", &["0011"], "0", 9, 9),
    plan("BE", "32", ZERO, "0", 8, 9),
    plan("BG", "359", ZERO, "0", 7, 9),
    plan("BR", "55", ZERO, "0", 10, 11),
    plan("BY", "375", &["810"], "8", 9, 9),
    plan("CA", "1", &["011"], "1", 10, 10),
    plan("CH", "41", ZERO, "0", 9, 9),
    plan("CN", "86", ZERO, "0", 9, 11),
    plan("CY", "357", ZERO, "", 8, 8),
    plan("CZ", "420", ZERO, "", 9, 9),
    plan("DE", "49", ZERO, "0", 5, 13),
    plan("DK", "45", ZERO, "", 8, 8),
    plan("EE", "372", ZERO, "", 7, 8),
    plan("ES", "34", ZERO, "", 9, 9),
    plan("FI", "358", &["00", "990", "994", "999"], "0", 5, 12),
    plan("FR", "33", ZERO, "0", 9, 9),
    plan("GB", "44", ZERO, "0", 9, 10),
    plan("GE", "995", ZERO, "0", 9, 9),
    plan("GR", "30", ZERO, "", 10, 10),
    plan("HU", "36", ZERO, "06", 8, 9),
    plan("IE", "353", ZERO, "0", 7, 10),
    plan("IL", "972", &["00", "012", "013", "014", "018"], "0", 8, 9),
    plan("IN", "91", ZERO, "0", 10, 10),
    plan("IT", "39", ZERO, "", 6, 11),
    plan("JP", "81", &["010"], "0", 9, 10),
    plan("KZ", "7", &["810"], "8", 10, 10),
    plan("LT", "370", ZERO, "0", 8, 8),
    plan("LV", "371", ZERO, "", 8, 8),
    plan("MD", "373", ZERO, "0", 8, 8),
    plan("MX", "52", ZERO, "", 10, 10),
    plan("NL", "31", ZERO, "0", 9, 9),
    plan("NO", "47", ZERO, "", 8, 8),
    plan("NZ", "64", ZERO, "0", 8, 10),
    plan("PL", "48", ZERO, "", 9, 9),
    plan("PS", "970", ZERO, "0", 8, 9),
    plan("PT", "351", ZERO, "", 9, 9),
    plan("RO", "40", ZERO, "0", 9, 9),
    plan("RS", "381", ZERO, "0", 8, 9),
    plan("RU", "7", &["810"], "8", 10, 10),
    plan("SE", "46", ZERO, "0", 7, 9),
    plan("SG", "65", &["000", "001", "002", "008"], "", 8, 8),
    plan("SI", "386", ZERO, "0", 8, 8),
    plan("SK", "421", ZERO, "0", 9, 9),
    plan("TR", "90", ZERO, "0", 10, 10),
    plan("UA", "380", ZERO, "0", 9, 9),
    plan("US", "1", &["011"], "1", 10, 10),
    plan("ZA", "27", ZERO, "0", 9, 9),
];

/// E.164: at most fifteen digits; with fewer than seven behind the country code it is no subscriber's.
const LONGEST: usize = 15;
const SHORTEST: usize = 7;

impl Country {
    /// The country with this ISO 3166 code, whatever its case; none when the table does not have it.
    pub fn find(iso: &str) -> Option<&'static Self> {
        COUNTRIES.iter().find(|country| country.iso.eq_ignore_ascii_case(iso))
    }

    fn is_national(&self, digits: &str) -> bool {
        (self.shortest..=self.longest).contains(&digits.len())
    }

    /// E.164 of what is dialled as `digits` in this country, where that is certain.
    fn complete(&self, digits: &str) -> Option<String> {
        let abroad = self.international.iter().find_map(|prefix| digits.strip_prefix(prefix));
        if let Some(number) = abroad.filter(|number| (SHORTEST..=LONGEST).contains(&number.len())) {
            return Some(self.without_trunk_prefix(number));
        }
        let national = |number: &str| self.is_national(number).then(|| format!("+{}{number}", self.code));
        if !self.trunk.is_empty()
            && let Some(number) = digits.strip_prefix(self.trunk).and_then(national)
        {
            return Some(number);
        }
        // Where nothing goes before a national number, one that is whole without the country code needs none (Italy: 391…).
        if self.trunk.is_empty() && self.code != "1" && digits.len() <= 10 && self.is_national(digits) {
            return national(digits);
        }
        // A number without its plus, as many networks send it.
        if let Some(number) = digits.strip_prefix(self.code).and_then(national) {
            return Some(number);
        }
        // Where nothing goes before a national number, or the North American plan's ten digits.
        (self.trunk.is_empty() || self.code == "1").then(|| national(digits)).flatten()
    }

    /// `+972 (0)50…`: written by many, dialled by none.
    fn without_trunk_prefix(&self, international: &str) -> String {
        let rest = international.strip_prefix(self.code).filter(|_| self.trunk == "0");
        match rest.and_then(|rest| rest.strip_prefix('0')).filter(|rest| self.is_national(rest)) {
            Some(rest) => format!("+{}{rest}", self.code),
            None => format!("+{international}"),
        }
    }
}

/// The number in a user part: E.164 with a plus where that is certain, else digits as they came (`0501234567`, `620`, `*43`).
/// None when it is no number at all.
pub fn normalise(user: &str, context: Option<&str>, country: Option<&Country>) -> Option<String> {
    let written = |char: &char| !matches!(char, '-' | '.' | '(' | ')' | '/' | ' ' | '\u{a0}');
    let number: String = user.trim().chars().filter(written).collect();
    let (plus, digits) = match number.strip_prefix('+') {
        Some(digits) => (true, digits),
        None => (false, number.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'*' | b'#')) {
        return None;
    }
    if digits.contains(['*', '#']) || digits.len() > LONGEST + 5 {
        return Some(number);
    }
    if plus {
        return Some(country.map_or_else(|| number.clone(), |country| country.without_trunk_prefix(digits)));
    }
    // RFC 3966 §5.1.5: the digits are local to this prefix, or to a domain that says nothing.
    if let Some(prefix) = context.and_then(|context| context.strip_prefix('+'))
        && !prefix.is_empty()
        && prefix.bytes().all(|byte| byte.is_ascii_digit())
    {
        let digits = digits.strip_prefix('0').unwrap_or(digits);
        return Some(format!("+{prefix}{digits}"));
    }
    country.and_then(|country| country.complete(digits)).or(Some(number))
}

/// A number in the forms in which other systems keep it. Not `Debug`: it is a caller's.
#[derive(Clone, PartialEq, Eq)]
pub struct Forms {
    /// International with a plus, where that is certain.
    pub e164: Option<String>,
    /// As it is dialled within its country; international with a plus for any other country's.
    pub national: String,
    /// International without the plus; without an international form, the number as it is.
    pub digits: String,
    /// As the network gave it.
    pub raw: String,
}

impl Forms {
    /// The forms of a number that [`normalise`] gave, for users in `country`; `raw` is what came.
    pub fn of(number: &str, raw: &str, country: Option<&Country>) -> Self {
        // A trunk without a country leaves a number as it came; the CRM's country may make it certain.
        let number = normalise(number, None, country).unwrap_or_else(|| number.to_owned());
        let international = number.strip_prefix('+');
        let home = international.zip(country).and_then(|(digits, country)| {
            let rest = digits.strip_prefix(country.code).filter(|rest| country.is_national(rest))?;
            let trunk = if country.code == "1" { "" } else { country.trunk };
            Some(format!("{trunk}{rest}"))
        });
        Self {
            national: home.unwrap_or_else(|| number.clone()),
            digits: international.unwrap_or(&number).to_owned(),
            e164: international.map(|_| number.clone()),
            raw: raw.to_owned(),
        }
    }

    /// What two numbers have in common when they are the same: the international form, else the digits.
    pub fn key(&self) -> &str {
        self.e164.as_deref().unwrap_or(&self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_country(iso: &str, user: &str) -> String {
        normalise(user, None, Country::find(iso)).unwrap_or_default()
    }

    #[test]
    fn every_way_to_write_an_israeli_number_is_one_number() {
        let written = [
            "050-123-4567",
            "0501234567",
            "00972501234567",
            "972501234567",
            "+972501234567",
            "+972 (0)50-123.4567",
            "012972501234567",
        ];
        for user in written {
            assert_eq!(in_country("IL", user), "+972501234567", "{user}");
        }
        assert_eq!(in_country("il", "03-5551234"), "+97235551234");
    }

    #[test]
    fn extensions_and_codes_stay_as_they_are() {
        for user in ["620", "1234", "100", "*2800", "*43", "1700555", "9725"] {
            assert_eq!(in_country("IL", user), user);
        }
        assert_eq!(in_country("US", "911"), "911");
        assert_eq!(in_country("DE", "110"), "110");
    }

    #[test]
    fn each_country_dials_its_own_way() {
        let cases = [
            ("US", "2125551234", "+12125551234"),
            ("US", "1-212-555-1234", "+12125551234"),
            ("CA", "011972501234567", "+972501234567"),
            ("GB", "020 7946 0018", "+442079460018"),
            ("DE", "030123456", "+4930123456"),
            ("FR", "0142685300", "+33142685300"),
            ("RU", "84951234567", "+74951234567"),
            ("RU", "810972501234567", "+972501234567"),
            ("UA", "0441234567", "+380441234567"),
            ("ES", "912345678", "+34912345678"),
            ("IT", "0612345678", "+390612345678"),
            ("HU", "0612345678", "+3612345678"),
            ("IL", "15551234567", "15551234567"),
        ];
        for (iso, user, number) in cases {
            assert_eq!(in_country(iso, user), number, "{iso} {user}");
        }
    }

    #[test]
    fn without_a_country_only_separators_go() {
        assert_eq!(normalise("050-123", None, None).as_deref(), Some("050123"));
        assert_eq!(normalise("+1 (212) 555", None, None).as_deref(), Some("+1212555"));
        assert_eq!(normalise("alice", None, None), None);
        assert_eq!(normalise("+", None, None), None);
        assert_eq!(normalise("", None, None), None);
    }

    #[test]
    fn a_context_says_what_a_number_is_local_to() {
        assert_eq!(normalise("0501234567", Some("+972"), None).as_deref(), Some("+972501234567"));
        assert_eq!(normalise("620", Some("pbx.example"), None).as_deref(), Some("620"));
    }

    #[test]
    fn a_number_has_the_forms_in_which_others_keep_it() {
        let forms = |iso: &str, number: &str| {
            let Forms { e164, national, digits, .. } = Forms::of(number, "raw", Country::find(iso));
            (e164.unwrap_or_default(), national, digits)
        };
        let all = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(forms("IL", "+972501234567"), all("+972501234567", "0501234567", "972501234567"));
        assert_eq!(forms("IL", "050-1234567"), all("+972501234567", "0501234567", "972501234567"));
        assert_eq!(forms("RU", "+74951234567"), all("+74951234567", "84951234567", "74951234567"));
        assert_eq!(forms("US", "+12125551234"), all("+12125551234", "2125551234", "12125551234"));
        assert_eq!(forms("IL", "+442079460018"), all("+442079460018", "+442079460018", "442079460018"));
        assert_eq!(forms("IL", "620"), all("", "620", "620"));
        assert_eq!(Forms::of("+1", "+1", None).key(), "+1");
    }

    #[test]
    fn the_table_is_in_order_and_has_no_country_twice() {
        assert!(COUNTRIES.is_sorted_by(|one, other| one.iso < other.iso));
        assert!(Country::find("XX").is_none());
    }
}
