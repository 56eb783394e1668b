//! Who is asked, and how its failures read: sorted, in one line, without the key.

use std::sync::Arc;

use crate::model::{Fault, FaultClass, Stage};
use crate::privacy::Secret;
use crate::websocket::Broken;

/// Longest note of a fault, in characters.
const LONGEST_NOTE: usize = 240;

/// An outside interface as its faults name it.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) name: Arc<str>,
    pub(crate) key: Secret,
}

impl Provider {
    pub(crate) fn fault(&self, class: FaultClass, stage: Stage, http: Option<u16>, note: &str) -> Fault {
        let note = match self.key.is_empty() {
            true => note.to_owned(),
            false => note.replace(self.key.reveal(), "[key]"),
        };
        let line = note.chars().map(|char| if char.is_control() { ' ' } else { char });
        Fault { class, stage, model: self.name.clone(), http, note: line.take(LONGEST_NOTE).collect() }
    }

    /// What a broken connection means.
    pub(crate) fn broken(&self, stage: Stage, broken: &Broken) -> Fault {
        match broken {
            Broken::Refused { status, body } => self.refused(stage, *status, body),
            Broken::Closed { code, reason } => {
                let note = format!("{broken}{}{reason}", if reason.is_empty() { "" } else { ": " });
                self.fault(of_close(*code, reason), stage, None, &note)
            }
            Broken::Late { .. } => self.fault(FaultClass::Timeout, stage, None, &broken.to_string()),
            Broken::Network(note) => self.fault(FaultClass::Network, stage, None, note),
            Broken::Protocol(note) => self.fault(FaultClass::Protocol, stage, None, note),
        }
    }

    /// What an HTTP status means.
    pub(crate) fn refused(&self, stage: Stage, status: u16, body: &str) -> Fault {
        let class = match status {
            // An invalid key of Gemini's is a 400.
            400 if body.contains("API_KEY_INVALID") => FaultClass::Auth,
            401..=403 => FaultClass::Auth,
            404 => FaultClass::Gone,
            408 | 504 => FaultClass::Timeout,
            429 => FaultClass::RateLimited { retry_after: None },
            500..=599 => FaultClass::Overloaded,
            200..=399 => FaultClass::Protocol,
            _ => FaultClass::Config,
        };
        self.fault(class, stage, Some(status), &message(body))
    }
}

/// What a close code and its words mean. Google says with 1008 that the key is wrong or the model gone, and with 1011 that the quota is used
/// up; Deepgram closes with 1011 when it hears nothing for 10 s.
fn of_close(code: u16, reason: &str) -> FaultClass {
    let says = |words: &[&str]| words.iter().any(|word| reason.to_ascii_lowercase().contains(word));
    match code {
        1000 | 1001 | 1005 | 1006 => FaultClass::Network,
        1008 if says(&["not found", "not supported for bidi"]) => FaultClass::Gone,
        1008 if says(&["key", "auth", "permission", "credential"]) => FaultClass::Auth,
        1008 | 1003 | 1007 => FaultClass::Config,
        1011 if says(&["quota", "rate limit"]) => FaultClass::RateLimited { retry_after: None },
        1011 if says(&["timeout window", "deadline"]) => FaultClass::Timeout,
        1011..=1014 => FaultClass::Overloaded,
        _ => FaultClass::Protocol,
    }
}

/// The message in an error body, wherever the interface puts it; otherwise only how much there was.
fn message(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let places = ["/error/message", "/err_msg", "/message", "/detail", "/error"];
    let found = json.and_then(|json| places.iter().find_map(|place| json.pointer(place)?.as_str().map(str::to_owned)));
    found.unwrap_or_else(|| format!("no error message in {} bytes", body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        Provider { name: "deepgram".into(), key: Secret::new("hunter2") }
    }

    #[test]
    fn a_closed_connection_says_whose_fault_it_is() {
        for (code, reason, class) in [
            (1006, "", FaultClass::Network),
            (1008, "API key not valid. Please pass a valid API key.", FaultClass::Auth),
            (1008, "models/x is not found for API version v1beta", FaultClass::Gone),
            (1008, "DATA-0000: the payload is not audio", FaultClass::Config),
            (1007, "Invalid JSON payload received", FaultClass::Config),
            (1011, "You exceeded your current quota", FaultClass::RateLimited { retry_after: None }),
            (1011, "Internal error encountered.", FaultClass::Overloaded),
            (1011, "NET-0001: no audio within the timeout window", FaultClass::Timeout),
            (4000, "", FaultClass::Protocol),
        ] {
            let fault = provider().broken(Stage::Waiting, &Broken::Closed { code, reason: reason.into() });
            assert_eq!(fault.class, class, "{code} {reason}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_its_body_without_the_key() {
        let body = r#"{"err_code":"INVALID_AUTH","err_msg":"Invalid credentials: hunter2"}"#;
        let fault = provider().broken(Stage::Request, &Broken::Refused { status: 401, body: body.into() });
        assert!(fault.permanent());
        assert_eq!(fault.to_string(), "deepgram: key refused on request (HTTP 401): Invalid credentials: [key]");
        let fault = provider().refused(Stage::Request, 503, "<html>");
        assert_eq!((fault.class, fault.note.as_str()), (FaultClass::Overloaded, "no error message in 6 bytes"));
    }
}
