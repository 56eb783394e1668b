//! `[live]`: a model that hears and speaks by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::validate::Complaints;
use super::{Config, ms};

/// `[live]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// Whether calls are held with it; the models that write are asked when it fails.
    pub enabled: bool,
    /// Where its API is; plain `http` only on loopback. Absent: that of `[gemini]`.
    pub base_url: Option<String>,
    /// Its name.
    pub model: String,
    /// The voice it speaks with; absent: its own choice.
    pub voice: Option<String>,
    /// How long after the caller's end its first sound is waited for; then the answer is written.
    #[serde(rename = "first_sound_ms", with = "ms")]
    pub first_sound: Duration,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            enabled: false,
            base_url: None,
            model: "gemini-3.8-live".into(),
            voice: None,
            first_sound: Duration::from_millis(1800),
        }
    }
}

/// What cannot be used.
pub(super) fn check(found: &mut Complaints, config: &Config) {
    const SECTION: &str = "live";
    let live = &config.live;
    if let Some(Err(message)) = live.base_url.as_deref().map(|url| super::validate::base_url(url, false)) {
        found.unless(false, SECTION, "base_url", || message);
    }
    let plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    found.unless(plain(&live.model), SECTION, "model", || {
        "not a model's name; write it as in \"gemini-3.8-live\"".into()
    });
    found.unless(live.voice.as_deref().is_none_or(plain), SECTION, "voice", || {
        "not a voice's name; write it as in \"Kore\", or leave the line out".into()
    });
    found.within(SECTION, "first_sound_ms", live.first_sound, 100..=60_000);
    found.unless(!live.enabled || live.first_sound < config.gemini.first_token, SECTION, "first_sound_ms", || {
        format!(
            "{} ms leaves no time for the models that write; take less than gemini.first_token_ms",
            live.first_sound.as_millis()
        )
    });
}
