//! The Replaces header of an INVITE: which dialog it is to take the place of (RFC 3891 §6.1).
//!
//! Not implemented: replacing a call of ours that is not answered yet, which is refused with 481.

use rsipstack::rsip::Headers;

use super::fields;

/// A dialog, from our point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaces {
    pub(super) call_id: String,
    /// Our tag.
    pub(super) to_tag: String,
    /// The peer's tag.
    pub(super) from_tag: String,
    /// Only while it is not answered.
    pub(super) early_only: bool,
}

/// A Replaces header that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Replaces {
    /// The dialog that an INVITE wants to replace, if it wants to.
    ///
    /// # Errors
    /// When there are several, or one that cannot be read; the INVITE gets 400.
    pub(super) fn of(headers: &Headers) -> Result<Option<Self>, Malformed> {
        let mut values = fields::values(headers, "Replaces");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Self::read(value).map(Some).ok_or(Malformed),
            (Some(_), Some(_)) => Err(Malformed),
        }
    }

    fn read(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|id| !id.is_empty() && !id.contains([',', ' ']))?;
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let tag = match name.trim().to_ascii_lowercase().as_str() {
                "to-tag" => &mut to_tag,
                "from-tag" => &mut from_tag,
                "early-only" => {
                    early_only = true;
                    continue;
                }
                _ => continue,
            };
            if tag.replace(value.trim()).is_some() {
                return None;
            }
        }
        let tag = |tag: Option<&str>| tag.filter(|tag| !tag.is_empty()).map(str::to_owned);
        Some(Self { call_id: call_id.to_owned(), to_tag: tag(to_tag)?, from_tag: tag(from_tag)?, early_only })
    }
}

#[cfg(test)]
mod tests {
    use rsipstack::rsip::Header;

    use super::*;

    fn of(values: &[&str]) -> Result<Option<Replaces>, Malformed> {
        let headers: Vec<Header> =
            values.iter().map(|value| Header::Other("replaces".into(), (*value).to_owned())).collect();
        Replaces::of(&headers.into())
    }

    #[test]
    fn the_dialog_is_named_with_its_tags_in_any_order() {
        let dialog = |early_only| Replaces {
            call_id: "98732@sip.example.com".into(),
            to_tag: "ff87ff".into(),
            from_tag: "r33th4x0r".into(),
            early_only,
        };
        assert_eq!(of(&["98732@sip.example.com ;from-tag=r33th4x0r; To-Tag=ff87ff"]), Ok(Some(dialog(false))));
        assert_eq!(
            of(&["98732@sip.example.com;to-tag=ff87ff;from-tag=r33th4x0r;early-only;x=1"]),
            Ok(Some(dialog(true)))
        );
        assert_eq!(of(&[]), Ok(None));
    }

    #[test]
    fn a_header_without_sense_or_twice_is_malformed() {
        let good = "a;to-tag=1;from-tag=2";
        let cases: [&[&str]; 8] = [
            &[""],
            &["a"],
            &["a;to-tag=1"],
            &["a;to-tag=;from-tag=2"],
            &["a;to-tag=1;to-tag=1;from-tag=2"],
            &[";to-tag=1;from-tag=2"],
            &["a, b;to-tag=1;from-tag=2"],
            &[good, good],
        ];
        for case in cases {
            assert_eq!(of(case), Err(Malformed), "{case:?}");
        }
    }
}
