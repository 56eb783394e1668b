//! `[functions]`, `[tools.NAME]`: what the model may have done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::validate::Complaints;
use super::{Config, ms};

/// Tools that can be configured.
const MOST_TOOLS: usize = 32;

/// `[functions]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Functions {
    /// Whether the model may hand the caller over, to `conversation.transfer_to` and to these.
    pub transfer: bool,
    /// People by the names that the model knows: numbers or SIP URIs.
    pub transfer_targets: BTreeMap<String, String>,
    /// Whether the model may let the caller leave a message, where there is voicemail.
    pub take_message: bool,
    /// Whether the model may note that the caller wants to be called back, where there is voicemail.
    pub call_back: bool,
    /// Whether the model may search the business's texts, where there are any.
    pub look_up: bool,
    /// Whether the model may press keys towards the far side.
    pub send_dtmf: bool,
}

impl Default for Functions {
    fn default() -> Self {
        Self {
            transfer: true,
            transfer_targets: BTreeMap::new(),
            take_message: true,
            call_back: true,
            look_up: true,
            send_dtmf: false,
        }
    }
}

/// `[tools.NAME]`: an HTTP request that the model may have made.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTool {
    /// When the model should want it, and what comes of it.
    pub description: String,
    /// JSON Schema of its arguments, of type "object".
    pub parameters: Map<String, Value>,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Where to; `{{argument}}` may stand in path and query, where it is percent-encoded.
    pub url: String,
    /// Header fields; `{{argument}}` may stand in their values.
    pub headers: BTreeMap<String, String>,
    /// Header fields whose values are secrets: the files that hold them.
    pub secret_header_files: BTreeMap<String, PathBuf>,
    /// A JSON text; `{{argument}}` may stand in its strings, and a string that is nothing else becomes the argument with its type.
    pub body: Option<String>,
    /// How long it may take.
    #[serde(rename = "timeout_ms", with = "ms")]
    pub timeout: Duration,
    /// Whether it changes anything: then it waits until the caller has finished, and is never done twice.
    pub side_effects: bool,
    /// Whether the caller must have agreed to it in a turn of their own.
    pub confirm: bool,
    /// What is said meanwhile when it takes longer than half a second.
    pub say: Option<String>,
    /// JSON pointer (RFC 6901) of the part of the answer that the model is told; empty: all.
    pub result: String,
    /// The most that the model is told of it.
    pub result_bytes: usize,
}

impl Default for HttpTool {
    fn default() -> Self {
        Self {
            description: String::new(),
            parameters: Map::new(),
            method: "GET".into(),
            url: String::new(),
            headers: BTreeMap::new(),
            secret_header_files: BTreeMap::new(),
            body: None,
            timeout: Duration::from_millis(4000),
            side_effects: true,
            confirm: false,
            say: None,
            result: String::new(),
            result_bytes: 4096,
        }
    }
}

impl Config {
    /// How long a round of the model's functions may take.
    pub fn longest_round(&self) -> Duration {
        self.tools.values().map(|tool| tool.timeout).max().unwrap_or_default()
    }
}

pub(super) fn complaints(found: &mut Complaints, config: &Config) {
    for (name, to) in &config.functions.transfer_targets {
        let good = !name.is_empty() && name.chars().count() <= 64 && super::validate::is_dialable(to);
        found.unless(good, "functions", "transfer_targets", || {
            format!(
                "{name:?} leads nowhere; write it as in sales = \"+97235551234\" or sales = \"sip:620@192.168.1.1\""
            )
        });
    }
    found.unless(config.tools.len() <= MOST_TOOLS, "tools", "tools", || {
        format!("{} tools are too many; take at most {MOST_TOOLS}", config.tools.len())
    });
    for (name, tool) in &config.tools {
        let section = || format!("tools.{name}");
        found.unless(!tool.description.trim().is_empty(), section(), "description", || {
            "empty; say when the model should want it, and what comes of it".into()
        });
        let ms = tool.timeout.as_millis();
        found.unless((100..=10_000).contains(&ms), section(), "timeout_ms", || {
            format!("{ms} ms is out of range; take 100 to 10000 (milliseconds)")
        });
        let bytes = tool.result_bytes;
        found.unless((64..=32_768).contains(&bytes), section(), "result_bytes", || {
            format!("{bytes} is out of range; take 64 to 32768")
        });
        found.unless(!tool.confirm || tool.side_effects, section(), "confirm", || {
            "is for what has side effects; set side_effects = true, or leave it out".into()
        });
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&tool.method.as_str());
        found.unless(method, section(), "method", || {
            format!("{:?} is none of GET, POST, PUT, PATCH, DELETE; take one of them", tool.method)
        });
    }
}
