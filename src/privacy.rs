//! What must not be read in a log: secrets and callers' numbers.

use std::fmt;

/// A secret. `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret; surrounding white space (a file's last line end) is removed.
    pub fn new(secret: impl AsRef<str>) -> Self {
        Self(secret.as_ref().trim().to_owned())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A telephone number or SIP user as a log may show it: the last two characters behind an ellipsis.
pub fn redact_number(number: &str) -> String {
    let tail: Vec<char> = number.chars().rev().take(2).collect();
    if number.chars().count() <= 4 {
        number.to_owned()
    } else {
        format!("…{}", tail.into_iter().rev().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let key = Secret::new("AIza-very-secret\n");
        assert_eq!(key.reveal(), "AIza-very-secret");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "[secret] Some([secret])");
    }

    #[test]
    fn a_number_shows_its_last_two_digits_and_an_extension_stays() {
        assert_eq!(redact_number("+972501234567"), "…67");
        assert_eq!(redact_number("620"), "620");
    }
}
