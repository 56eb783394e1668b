//! `[greeting_by_phone]`: how a greeting is recorded by telephone.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::validate::Complaints;
use super::{Config, SecretError, Wanted, seconds};
use crate::privacy::Secret;

/// `[greeting_by_phone]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GreetingByPhone {
    /// Who dials this may record the greeting; absent: nobody.
    pub number: Option<String>,
    /// A file that holds the digits that he has to know.
    pub pin_file: Option<PathBuf>,
    /// The longest greeting.
    #[serde(rename = "longest_s", with = "seconds")]
    pub longest: Duration,
}

impl Default for GreetingByPhone {
    fn default() -> Self {
        Self { number: None, pin_file: None, longest: Duration::from_secs(30) }
    }
}

impl GreetingByPhone {
    /// The digits that have to be known. `None` when there are none anywhere.
    ///
    /// # Errors
    /// When there are some that cannot be used.
    pub fn pin(&self) -> Result<Option<Secret>, SecretError> {
        let pin = Wanted {
            what: "PIN of [greeting_by_phone]",
            key: "pin_file",
            file: self.pin_file.as_deref(),
            credential: "greeting.pin",
            variable: "OFFHOOK_GREETING_PIN",
            ascii: true,
        }
        .find()?;
        let good = |pin: &Secret| {
            let pin = pin.reveal();
            (4..=12).contains(&pin.len()) && pin.bytes().all(|byte| byte.is_ascii_digit())
        };
        match pin {
            Some(pin) if !good(&pin) => Err(SecretError::Malformed {
                what: "PIN of [greeting_by_phone]".into(),
                origin: "pin_file, the credential greeting.pin or OFFHOOK_GREETING_PIN".into(),
                form: "4 to 12 digits",
            }),
            pin => Ok(pin),
        }
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    let by_phone = &config.greeting_by_phone;
    found.within("greeting_by_phone", "longest_s", by_phone.longest, 3_000..=55_000);
    let Some(number) = &by_phone.number else { return };
    let dialled = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_graphic());
    found.unless(dialled, "greeting_by_phone", "number", || {
        "nobody can dial this; write it as the trunk or PBX sends it, such as \"*45\"".into()
    });
    found.unless(config.sip.echo_number.as_ref() != Some(number), "greeting_by_phone", "number", || {
        "it is sip.echo_number already; take another".into()
    });
    found.unless(config.clips.folder.is_some(), "greeting_by_phone", "number", || {
        "there is nowhere to keep what is recorded; set folder in [clips]".into()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_digits_and_what_is_not_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pin");
        let pin = |content: &str| {
            std::fs::write(&file, content).unwrap();
            GreetingByPhone { pin_file: Some(file.clone()), ..GreetingByPhone::default() }.pin()
        };
        assert_eq!(pin("473920\n").unwrap().unwrap().reveal(), "473920");
        for wrong in ["123", "1234567890123", "12a4", "12 34"] {
            let error = pin(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(wrong), "{error}");
        }
    }
}
