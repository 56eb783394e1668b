//! Why a request to the model failed, sorted by what can be done about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::privacy::Secret;

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{model}: {class} {stage}{}: {note}", http.map(|status| format!(" (HTTP {status})")).unwrap_or_default())]
pub struct Fault {
    /// What kind of failure it is.
    pub class: FaultClass,
    /// How far the request had come.
    pub stage: Stage,
    /// The model that was asked.
    pub model: Arc<str>,
    /// Status of the answer, or the code of an error inside it.
    pub http: Option<u16>,
    /// What the other side or the system said, in one line, without secrets.
    pub note: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultClass {
    /// The key is missing, wrong, or not allowed to do this.
    Auth,
    /// The request is not one that the model accepts.
    Config,
    /// The model does not exist, or not any more.
    Gone,
    /// Too many requests.
    RateLimited {
        /// When the other side wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The other side is overloaded or broken.
    Overloaded,
    /// It took too long.
    Timeout,
    /// The answer ended without saying that it is finished.
    Truncated,
    /// The answer finished without text.
    Empty,
    /// Refused for its content; the reason in the words of the interface.
    Blocked(String),
    /// The model takes no sound, and nobody wrote down what was said.
    NoText,
    /// Not the interface that was expected.
    Protocol,
    /// The connection failed.
    Network,
    /// The asker lost interest.
    Cancelled,
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth => f.write_str("key refused"),
            Self::Config => f.write_str("request refused"),
            Self::Gone => f.write_str("no such model"),
            Self::RateLimited { retry_after: Some(after) } => write!(f, "rate limited for {} s", after.as_secs()),
            Self::RateLimited { retry_after: None } => f.write_str("rate limited"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::Timeout => f.write_str("timeout"),
            Self::Truncated => f.write_str("truncated"),
            Self::Empty => f.write_str("empty answer"),
            Self::Blocked(reason) => write!(f, "blocked as {reason}"),
            Self::NoText => f.write_str("takes no sound"),
            Self::Protocol => f.write_str("not understood"),
            Self::Network => f.write_str("connection failed"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// How far a request had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before the first byte of the answer's body.
    Request,
    /// In the answer, before any text of it was passed on.
    Waiting,
    /// Text was passed on: it may have been spoken, so nobody may ask again.
    Answering,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "on request",
            Self::Waiting => "before the first text",
            Self::Answering => "in mid-answer",
        })
    }
}

/// Longest note, in characters.
const LONGEST_NOTE: usize = 240;

impl Fault {
    /// What somebody said, as a note: one line, not too long, and without the key, which some servers repeat.
    pub fn note_without(key: &Secret, said: &str) -> String {
        let said = match key.is_empty() {
            true => said.to_owned(),
            false => said.replace(key.reveal(), "[key]"),
        };
        said.chars().map(|char| if char.is_control() { ' ' } else { char }).take(LONGEST_NOTE).collect()
    }

    /// Whether asking once more, here or elsewhere, may help.
    pub fn retryable(&self) -> bool {
        use FaultClass::*;
        matches!(self.class, RateLimited { .. } | Overloaded | Timeout | Truncated | Empty | Protocol | Network)
            && self.stage < Stage::Answering
    }

    /// Whether it will fail again until somebody changes the configuration, the key or the account.
    pub fn permanent(&self) -> bool {
        matches!(self.class, FaultClass::Auth | FaultClass::Config | FaultClass::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(class: FaultClass, stage: Stage) -> Fault {
        Fault { class, stage, model: "gemini-x".into(), http: Some(429), note: "quota".into() }
    }

    #[test]
    fn nothing_is_retried_once_text_was_passed_on() {
        assert!(fault(FaultClass::Truncated, Stage::Waiting).retryable());
        assert!(!fault(FaultClass::Truncated, Stage::Answering).retryable());
        assert!(!fault(FaultClass::Cancelled, Stage::Request).retryable());
    }

    #[test]
    fn what_needs_a_person_is_permanent_and_not_retried() {
        for class in [FaultClass::Auth, FaultClass::Config, FaultClass::Gone] {
            let fault = fault(class, Stage::Request);
            assert!(fault.permanent() && !fault.retryable());
        }
        assert!(!fault(FaultClass::Overloaded, Stage::Request).permanent());
    }

    #[test]
    fn a_fault_reads_as_one_line() {
        let class = FaultClass::RateLimited { retry_after: Some(Duration::from_secs(31)) };
        assert_eq!(
            fault(class, Stage::Request).to_string(),
            "gemini-x: rate limited for 31 s on request (HTTP 429): quota"
        );
    }
}
