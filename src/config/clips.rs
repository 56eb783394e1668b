//! `[clips]`: clips that somebody has made for this box.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use super::validate::Complaints;

/// `[clips]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnClips {
    /// The folder of sets of clips of one's own; absent: there are none.
    pub folder: Option<PathBuf>,
    /// Which of the sets this persona speaks with.
    pub set: String,
}

impl Default for OwnClips {
    fn default() -> Self {
        Self { folder: None, set: "default".into() }
    }
}

impl OwnClips {
    /// Where the set is that is spoken with.
    pub fn set_folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(&self.set))
    }

    /// Whether a text can be the name of a set.
    pub fn is_name(set: &str) -> bool {
        (1..=32).contains(&set.len())
            && set.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    let set = &config.clips.set;
    found.unless(OwnClips::is_name(set), "clips", "set", || {
        format!("{set:?} is no name of a set; take up to 32 of a to z, 0 to 9 and -")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sets_name_leads_nowhere_else() {
        assert!(["default", "shop-2", "a"].into_iter().all(OwnClips::is_name));
        assert!(!["", "..", "a/b", "Shop", ".", &"a".repeat(33)].into_iter().any(OwnClips::is_name));
    }
}
