//! The error bodies of the interface, in its words.

use serde_json::{Value, json};

use super::fault::Fault;

/// An answer that is none of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

const JSON: &str = "application/json; charset=UTF-8";
const PAGE: &str =
    "<!DOCTYPE html><html><title>Error</title><p>That’s an error. Please try again in 30 seconds.</html>";

impl Refusal {
    fn new(status: u16, name: &str, message: impl Into<String>, details: Value) -> Self {
        let mut error = json!({"code": status, "message": message.into(), "status": name});
        if details.is_array() {
            error["details"] = details;
        }
        Self { status, content_type: JSON, body: format!("{:#}\n", json!({"error": error})) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message, Value::Null)
    }

    pub(super) fn unknown_parameter(name: &str, place: &str) -> Self {
        Self::new(400, "PARAMETER_UNKNOWN", format!("Unknown parameter '{name}' in {place}."), Value::Null)
    }

    pub(super) fn no_model(model: &str) -> Self {
        let message = format!(
            "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the \
             list of available models and their supported methods."
        );
        Self::new(404, "NOT_FOUND", message, Value::Null)
    }

    pub(super) fn not_kept() -> Self {
        Self::new(403, "PERMISSION_DENIED", "CachedContent not found (or permission denied)", Value::Null)
    }

    pub(super) fn no_route() -> Self {
        Self::new(404, "NOT_FOUND", "The requested URL was not found on this server.", Value::Null)
    }

    pub(super) fn no_key() -> Self {
        let message = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other \
            form of API consumer identity to call this API.";
        Self::new(403, "PERMISSION_DENIED", message, Value::Null)
    }

    pub(super) fn invalid_key() -> Self {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}]);
        Self::new(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", details)
    }

    /// The same as the Interactions API says it: with a word for the code, and nothing more.
    pub(super) fn in_words(self) -> Self {
        let Ok(body) = serde_json::from_str::<Value>(&self.body) else { return self };
        let error = &body.get(0).unwrap_or(&body)["error"];
        let message = error["message"].as_str().unwrap_or_default();
        let of_the_key = message.starts_with("API key") || message.contains("unregistered callers");
        let (status, code) = match error["status"].as_str().unwrap_or_default() {
            _ if of_the_key => (401, "authentication"),
            "INVALID_ARGUMENT" => (self.status, "invalid_request"),
            "FAILED_PRECONDITION" => (self.status, "failed_precondition"),
            "PARAMETER_UNKNOWN" => (self.status, "parameter_unknown"),
            "PERMISSION_DENIED" => (self.status, "permission_denied"),
            "NOT_FOUND" => (self.status, "not_found"),
            "RESOURCE_EXHAUSTED" => (self.status, "rate_limit_exceeded"),
            "UNAVAILABLE" => (self.status, "service_unavailable"),
            "DEADLINE_EXCEEDED" => (self.status, "gateway_timeout"),
            _ => (self.status, "api_error"),
        };
        let body = json!({"error": {"code": code, "message": message}}).to_string();
        Self { status, body, ..self }
    }

    /// The refusal that a fault stands for; `None` when the fault is in the stream.
    pub(super) fn ordered(fault: Fault, model: &str) -> Option<Self> {
        Some(match fault {
            Fault::InvalidKey => Self::invalid_key(),
            Fault::Country => {
                let message = "User location is not supported for the API use.";
                Self::new(400, "FAILED_PRECONDITION", message, Value::Null)
            }
            Fault::Forbidden => {
                let message = "Your API key is not allowed to use the Generative Language API.";
                Self::new(403, "PERMISSION_DENIED", message, Value::Null)
            }
            Fault::NotFound => Self::no_model(model),
            Fault::RateLimited => {
                let quota = "generativelanguage.googleapis.com/generate_content_free_tier_requests";
                let details = json!([
                    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": quota,
                        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
                        "quotaDimensions": {"location": "global", "model": model}, "quotaValue": "10"}]},
                    {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "Learn more about Gemini API quotas",
                        "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}]},
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}]);
                let message = "You exceeded your current quota, please check your plan and billing details.";
                Self::new(429, "RESOURCE_EXHAUSTED", message, details)
            }
            Fault::RateLimitedBare => {
                let message = "Resource has been exhausted (e.g. check quota).";
                Self::new(429, "RESOURCE_EXHAUSTED", message, Value::Null)
            }
            Fault::Internal => {
                let mut refusal = Self::new(500, "INTERNAL", "An internal error has occurred.", Value::Null);
                refusal.body = format!("[{}]", refusal.body.trim_end());
                refusal
            }
            Fault::Overloaded => Self::overloaded(),
            Fault::OverloadedEmpty => Self { body: String::new(), ..Self::overloaded() },
            Fault::OverloadedPage => {
                Self { content_type: "text/html; charset=UTF-8", body: PAGE.into(), ..Self::overloaded() }
            }
            Fault::Deadline => {
                let message = "Deadline expired before operation could complete.";
                Self::new(504, "DEADLINE_EXCEEDED", message, Value::Null)
            }
            Fault::Page => Self { status: 200, content_type: "text/html; charset=UTF-8", body: PAGE.into() },
            Fault::ErrorFirst => Self { status: 200, content_type: "text/event-stream", ..Self::overloaded() },
            _ => return None,
        })
    }

    pub(super) fn overloaded() -> Self {
        Self::new(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", Value::Null)
    }
}
