//! Why a voice over the network did not speak, sorted by what can be done about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// Longest note that is kept of what the other side says.
const MAX_NOTE: usize = 200;

/// A phrase that a voice over the network did not speak. Never holds the phrase or the key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("voice {voice}: {kind}{}{}", http.map(|status| format!(" (HTTP {status})")).unwrap_or_default(), colon(note))]
pub struct NetworkFault {
    /// The voice, by its preset.
    pub voice: Arc<str>,
    /// What kind of failure it is.
    pub kind: NetworkFaultKind,
    /// Status of the answer.
    pub http: Option<u16>,
    /// What the other side or the system said, in one line.
    pub note: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkFaultKind {
    /// The key is missing, wrong, or not allowed to do this.
    Auth,
    /// There is no such voice, model or path.
    Gone,
    /// The request is not one that it accepts.
    Refused,
    /// Too many requests.
    RateLimited {
        /// When the other side wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The other side is overloaded or broken.
    Overloaded,
    /// No first sound in time.
    Late(Duration),
    /// Silence inside a phrase.
    Stalled(Duration),
    /// The sound ended before its end.
    Broken,
    /// What came is not sound, or not as it was announced.
    NotSound,
    /// What came was silent or empty.
    Silent,
    /// It would not stop speaking.
    TooLong,
    /// The connection failed.
    Unreachable,
    /// No voice is configured for the language.
    NoVoice,
}

impl fmt::Display for NetworkFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth => f.write_str("key refused; check network_voice.api_key_file and what the key may do"),
            Self::Gone => f.write_str("no such voice, model or address; check [network_voice]"),
            Self::Refused => f.write_str("request refused"),
            Self::RateLimited { retry_after: Some(after) } => write!(f, "rate limited for {} s", after.as_secs()),
            Self::RateLimited { retry_after: None } => f.write_str("rate limited"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::Late(limit) => write!(f, "no sound within {} ms (network_voice.first_audio_ms)", limit.as_millis()),
            Self::Stalled(limit) => {
                write!(f, "silence of {} ms inside a phrase (network_voice.stall_ms)", limit.as_millis())
            }
            Self::Broken => f.write_str("the sound broke off"),
            Self::NotSound => f.write_str("what came is not the sound that was expected"),
            Self::Silent => f.write_str("no sound for a phrase with letters"),
            Self::TooLong => f.write_str("spoke for more than a minute and was stopped"),
            Self::Unreachable => f.write_str("not reachable"),
            Self::NoVoice => f.write_str("no voice is configured for the language"),
        }
    }
}

impl NetworkFault {
    /// Whether it will fail again until somebody changes the configuration, the key or the account.
    pub fn permanent(&self) -> bool {
        matches!(self.kind, NetworkFaultKind::Auth | NetworkFaultKind::Gone)
    }

    /// What an HTTP status says.
    pub(super) fn kind_of(status: u16, retry_after: Option<Duration>) -> NetworkFaultKind {
        match status {
            401 | 403 => NetworkFaultKind::Auth,
            404 | 410 => NetworkFaultKind::Gone,
            429 => NetworkFaultKind::RateLimited { retry_after },
            500.. => NetworkFaultKind::Overloaded,
            _ => NetworkFaultKind::Refused,
        }
    }
}

fn colon(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(": {note}") }
}

/// What the other side says in an error's body, without what must not be repeated.
pub(super) fn note(body: &[u8], secret: &str, phrase: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let places = ["/error/message", "/detail/message", "/detail/0/msg", "/message", "/detail", "/error"];
    let said = json.as_ref().and_then(|json| places.iter().find_map(|place| json.pointer(place)?.as_str()));
    let text = match said {
        Some(said) => said.to_owned(),
        // A page says nothing that helps.
        None if body.trim_ascii_start().starts_with(b"<") => String::new(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    clean(&text, secret, phrase)
}

/// One short line without the key and the phrase.
pub(super) fn clean(text: &str, secret: &str, phrase: &str) -> String {
    let mut text = text.to_owned();
    for (hidden, shown) in [(secret, "[key]"), (phrase, "[phrase]")] {
        if hidden.len() > 3 {
            text = text.replace(hidden, shown);
        }
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NOTE).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_is_kept_without_key_and_phrase() {
        let body = br#"{"detail":{"status":"invalid_api_key","message":"Key k-12345 is bad\nfor \"Hello Dana.\""}}"#;
        assert_eq!(note(body, "k-12345", "Hello Dana."), "Key [key] is bad for \"[phrase]\"");
        assert_eq!(note(b"<html>k-12345</html>", "k-12345", "x"), "");
        assert_eq!(note(&[b'a'; 999], "", "").len(), MAX_NOTE);
        assert_eq!(note(b"", "", ""), "");
    }

    #[test]
    fn only_what_a_person_must_put_right_is_permanent() {
        let fault = |status| NetworkFault {
            voice: "azure".into(),
            kind: NetworkFault::kind_of(status, None),
            http: Some(status),
            note: String::new(),
        };
        assert!([401, 403, 404].into_iter().all(|status| fault(status).permanent()));
        assert!([400, 408, 429, 500, 503].into_iter().all(|status| !fault(status).permanent()));
        assert!(fault(401).to_string().contains("api_key_file"));
    }
}
