//! `[ladder]`, `[voicemail]`: what is done for a caller who is not answered.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::validate::Complaints;
use super::{Config, ms, seconds};

/// Something that can be done for a caller who is not answered, besides trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// Hand over to the person of the configuration.
    Transfer,
    /// Let the caller leave a message.
    Voicemail,
    /// Say goodbye and hang up.
    Goodbye,
}

/// `[ladder]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ladder {
    /// Turns in a row without an answer from which on more is done than to apologise.
    pub apologies: u32,
    /// What is done, in its order; what is not set up is passed over.
    pub remedies: Vec<Remedy>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { apologies: 2, remedies: vec![Remedy::Transfer, Remedy::Voicemail] }
    }
}

/// `[voicemail]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Voicemail {
    /// Whether callers can leave messages.
    pub enabled: bool,
    /// The folder that holds them.
    pub folder: PathBuf,
    /// Every call is taken by the machine that takes messages, and nobody is asked for answers.
    pub always: bool,
    /// The longest message.
    #[serde(rename = "longest_s", with = "seconds")]
    pub longest: Duration,
    /// A message ends when nothing was said for so long.
    #[serde(rename = "silence_end_ms", with = "ms")]
    pub silence_end: Duration,
    /// Messages that are kept; the oldest goes first.
    pub keep_messages: usize,
    /// Days for which a message is kept; 0: no bound.
    pub keep_days: u32,
    /// What all messages may take on disk.
    pub keep_megabytes: u32,
    /// Where each message is posted to; absent: nowhere.
    pub webhook_url: Option<String>,
    /// A file that holds the bearer token for it.
    pub webhook_token_file: Option<PathBuf>,
}

impl Default for Voicemail {
    fn default() -> Self {
        Self {
            enabled: false,
            folder: "/var/lib/offhook/messages".into(),
            always: false,
            longest: Duration::from_secs(120),
            silence_end: Duration::from_millis(5000),
            keep_messages: 200,
            keep_days: 30,
            keep_megabytes: 500,
            webhook_url: None,
            webhook_token_file: None,
        }
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    let Ladder { apologies, remedies } = &config.ladder;
    found.unless((1..=10).contains(apologies), "ladder", "apologies", || {
        format!("{apologies} is out of range; take 1 to 10")
    });
    let twice = remedies.iter().enumerate().any(|(n, remedy)| remedies[..n].contains(remedy));
    found.unless(!twice, "ladder", "remedies", || "names one of them twice; each is tried once".into());
    let voicemail = &config.voicemail;
    found.unless(!voicemail.always || voicemail.enabled, "voicemail", "always", || {
        "needs enabled = true; set it, or leave `always` out".into()
    });
    found.within("voicemail", "longest_s", voicemail.longest, 5_000..=600_000);
    found.within("voicemail", "silence_end_ms", voicemail.silence_end, 1000..=30_000);
    let messages = voicemail.keep_messages;
    found.unless((1..=10_000).contains(&messages), "voicemail", "keep_messages", || {
        format!("{messages} is out of range; take 1 to 10000")
    });
    let megabytes = voicemail.keep_megabytes;
    found.unless((10..=100_000).contains(&megabytes), "voicemail", "keep_megabytes", || {
        format!("{megabytes} is out of range; take 10 to 100000")
    });
    if let Some(Err(message)) = voicemail.webhook_url.as_deref().map(|url| super::validate::base_url(url, true)) {
        found.unless(false, "voicemail", "webhook_url", || message);
    }
}
