//! `[log]`: what is written down.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use super::validate::Complaints;

/// `[log]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A file that gets one JSON object a turn, appended.
    pub timeline_file: Option<PathBuf>,
    /// A file that gets one JSON object a call, appended.
    pub calls_file: Option<PathBuf>,
    /// When it is so large, it becomes FILE.1 in place of the one before.
    pub calls_file_mb: u32,
    /// Others' numbers stand there whole.
    pub calls_file_numbers: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { timeline_file: None, calls_file: None, calls_file_mb: 16, calls_file_numbers: false }
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    let mb = config.log.calls_file_mb;
    found.unless((1..=4096).contains(&mb), "log", "calls_file_mb", || {
        format!("{mb} is out of range; take 1 to 4096 (megabytes)")
    });
    let log = &config.log;
    let same = log.calls_file.is_some() && log.calls_file == log.timeline_file;
    found.unless(!same, "log", "calls_file", || "calls and turns go to files of their own; take another name".into());
}
