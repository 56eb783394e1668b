//! Reading what `models/{model}:streamGenerateContent` answers (Gemini API v1beta): its events and its error bodies.
//!
//! Every field is optional and reasons are open strings. Not implemented: output that is not text, citations, safety ratings.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Finish, FunctionCall, Usage};

/// One event of the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<PromptFeedback>,
    usage_metadata: Option<UsageMetadata>,
    model_version: Option<String>,
    model_status: Option<ModelStatus>,
    /// An error inside a successful response.
    pub(super) error: Option<ErrorStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<Parts>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Parts {
    /// Kept as they are: what a model said goes back to it with its signatures, which only it understands.
    parts: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModelStatus {
    model_stage: Option<String>,
    retirement_time: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata {
    prompt_token_count: Option<u32>,
    candidates_token_count: Option<u32>,
    thoughts_token_count: Option<u32>,
    cached_content_token_count: Option<u32>,
    prompt_tokens_details: Option<Vec<ModalityCount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModalityCount {
    modality: Option<String>,
    token_count: Option<u32>,
}

impl Response {
    /// Reads one JSON text.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    fn candidate(&self) -> Option<&Candidate> {
        self.candidates.as_ref()?.first()
    }

    /// The model's own parts, as they came.
    pub(super) fn parts(&self) -> &[Value] {
        self.candidate()
            .and_then(|candidate| candidate.content.as_ref())
            .and_then(|content| content.parts.as_deref())
            .unwrap_or_default()
    }

    /// What is to be spoken of it; thoughts are not.
    pub(super) fn text(&self) -> String {
        let spoken = |part: &&Value| part.get("thought").and_then(Value::as_bool) != Some(true);
        self.parts().iter().filter(spoken).filter_map(|part| part.get("text")?.as_str()).collect()
    }

    /// The functions that the model wants to call.
    pub(super) fn functions(&self) -> impl Iterator<Item = FunctionCall> {
        self.parts().iter().filter_map(|part| {
            let call = part.get("functionCall")?;
            Some(FunctionCall {
                id: call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
                name: call.get("name")?.as_str()?.to_owned(),
                args: call.get("args").cloned().unwrap_or_default(),
                // An interaction's call goes back as steps.
                raw: part.get("steps").unwrap_or(part).clone(),
            })
        })
    }

    /// Which version of the model answers.
    pub(super) fn model_version(&self) -> Option<&str> {
        self.model_version.as_deref()
    }

    /// What is said of the model's future: its stage, when it will be shut, a remark.
    pub(super) fn model_status(&self) -> Option<[&str; 3]> {
        let status = self.model_status.as_ref()?;
        Some(
            [&status.model_stage, &status.retirement_time, &status.message]
                .map(|text| text.as_deref().unwrap_or_default()),
        )
    }

    /// Why the answer is at its end, when it is.
    pub(super) fn finish(&self) -> Option<Finish> {
        Some(match self.candidate()?.finish_reason.as_deref()? {
            "" | "FINISH_REASON_UNSPECIFIED" => return None,
            "STOP" => Finish::Stop,
            "MAX_TOKENS" => Finish::MaxTokens,
            "SAFETY" | "PROHIBITED_CONTENT" | "BLOCKLIST" | "SPII" => Finish::Safety,
            other => Finish::Other(other.to_owned()),
        })
    }

    /// Why the request was refused, when it was.
    pub(super) fn blocked(&self) -> Option<&str> {
        self.prompt_feedback.as_ref()?.block_reason.as_deref().filter(|reason| !reason.is_empty())
    }

    /// What it cost up to here.
    pub(super) fn usage(&self) -> Option<Usage> {
        let usage = self.usage_metadata.as_ref()?;
        let audio = usage.prompt_tokens_details.iter().flatten().filter(|d| d.modality.as_deref() == Some("AUDIO"));
        Some(Usage {
            prompt: usage.prompt_token_count.unwrap_or(0),
            audio: audio.filter_map(|detail| detail.token_count).sum(),
            cached: usage.cached_content_token_count.unwrap_or(0),
            answer: usage.candidates_token_count.unwrap_or(0),
            thoughts: usage.thoughts_token_count.unwrap_or(0),
            micros: 0,
        })
    }
}

/// `google.rpc.Status` as JSON.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorStatus {
    /// The number of an HTTP status; the Interactions API has a word for it.
    #[serde(default, deserialize_with = "code")]
    pub(super) code: Option<u16>,
    pub(super) message: Option<String>,
    details: Option<Vec<Value>>,
}

fn code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(word) => {
            // As ai.google.dev/gemini-api/docs/api-errors has them; a URI may stand before it (js-genai).
            let word = word.rsplit(['/', '#']).next().unwrap_or_default().to_ascii_lowercase();
            Some(match word.as_str() {
                "invalid_request" | "parameter_unknown" | "failed_precondition" | "out_of_range" => 400,
                "authentication" => 401,
                "payment_required" => 402,
                "permission_denied" => 403,
                "not_found" | "model_not_found" => 404,
                "rate_limit_exceeded" | "quota_exceeded" => 429,
                "service_unavailable" => 503,
                "gateway_timeout" => 504,
                _ => 500,
            })
        }
        number => number.as_u64().and_then(|number| number.try_into().ok()),
    })
}

impl ErrorStatus {
    /// Reads an error body: `{"error": …}` or `[{"error": …}]`; `None` for anything else (empty, HTML).
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: ErrorStatus,
        }
        // The list first: a struct would take a list as its fields in order.
        match serde_json::from_slice::<Vec<Body>>(body) {
            Ok(list) => list.into_iter().next(),
            Err(_) => serde_json::from_slice::<Body>(body).ok(),
        }
        .map(|body| body.error)
    }

    /// The time after which to ask again (`RetryInfo`).
    pub(super) fn retry_after(&self) -> Option<std::time::Duration> {
        let delay = self.details.iter().flatten().find_map(|detail| detail.get("retryDelay")?.as_str())?;
        let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
        std::time::Duration::try_from_secs_f64(seconds).ok()
    }

    /// The machine-readable reason (`ErrorInfo`).
    pub(super) fn reason(&self) -> Option<&str> {
        self.details.iter().flatten().find_map(|detail| detail.get("reason")?.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Response {
        Response::read(value.to_string().as_bytes()).unwrap()
    }

    fn of_parts(parts: Value) -> Response {
        read(json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}], "surprise": 1}))
    }

    #[test]
    fn thoughts_are_not_text_and_a_signature_beside_text_is_no_harm() {
        let parts = json!([{"text": "Checking the order…", "thought": true}, {"text": "Sure, "},
            {"text": "it left.", "thoughtSignature": "EjQK"}, {"text": "", "thoughtSignature": "x"}]);
        let response = of_parts(parts.clone());
        assert_eq!(response.text(), "Sure, it left.");
        assert_eq!(Value::from(response.parts()), parts);
    }

    #[test]
    fn a_function_call_is_seen_and_kept_whole() {
        let call = json!([{"functionCall": {"name": "order_status", "args": {}}, "thoughtSignature": "EjQK"}]);
        let response = of_parts(call.clone());
        let called: Vec<_> = response.functions().map(|call| (call.name, call.args)).collect();
        assert_eq!((response.text().as_str(), called), ("", vec![("order_status".to_owned(), json!({}))]));
        assert_eq!(Value::from(response.parts()), call);
    }

    #[test]
    fn an_end_needs_no_content_and_its_reason_may_be_new() {
        for (reason, finish) in [
            ("STOP", Some(Finish::Stop)),
            ("MAX_TOKENS", Some(Finish::MaxTokens)),
            ("SAFETY", Some(Finish::Safety)),
            ("PROHIBITED_CONTENT", Some(Finish::Safety)),
            ("INVENTED_IN_2027", Some(Finish::Other("INVENTED_IN_2027".into()))),
            ("FINISH_REASON_UNSPECIFIED", None),
        ] {
            assert_eq!(read(json!({"candidates": [{"finishReason": reason, "index": 0}]})).finish(), finish);
        }
    }

    #[test]
    fn everything_may_be_missing_or_null() {
        for value in [
            json!({}),
            json!({"candidates": []}),
            json!({"candidates": null, "promptFeedback": null, "usageMetadata": null, "error": null}),
            json!({"candidates": [{"content": {"parts": null}, "finishReason": null}], "promptFeedback": {}}),
            json!({"candidates": [{"content": {"parts": [null, 5, {"text": 5}]}}]}),
        ] {
            let response = read(value);
            assert_eq!((response.text().as_str(), response.finish(), response.blocked()), ("", None, None));
        }
    }

    #[test]
    fn a_refusal_and_the_cost_are_read() {
        let response = read(json!({"promptFeedback": {"blockReason": "MODEL_ARMOR"},
            "usageMetadata": {"promptTokenCount": 612, "candidatesTokenCount": 31, "thoughtsTokenCount": 12,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 452}, {"modality": "AUDIO", "tokenCount": 160}]}}));
        assert_eq!(response.blocked(), Some("MODEL_ARMOR"));
        let usage = Usage { prompt: 612, audio: 160, cached: 0, answer: 31, thoughts: 12, micros: 0 };
        assert_eq!(response.usage(), Some(usage));
    }

    #[test]
    fn error_bodies_come_bare_in_a_list_or_not_at_all() {
        let error = json!({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}]}});
        for body in [error.clone(), json!([error])] {
            let status = ErrorStatus::read(body.to_string().as_bytes()).unwrap();
            assert_eq!(
                (status.code, status.message.as_deref(), status.reason()),
                (Some(429), Some("quota"), Some("RATE"))
            );
            assert_eq!(status.retry_after(), Some(Duration::from_secs(31)));
        }
        for body in ["", "<html><h1>503</h1></html>", "[]", "{}", "{\"error\": 5}"] {
            assert!(ErrorStatus::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_retry_delay_that_makes_no_sense_is_no_delay() {
        for (delay, expected) in
            [("0.5s", Some(Duration::from_millis(500))), ("-3s", None), ("1e400s", None), ("soon", None)]
        {
            let body = json!({"error": {"details": [{"retryDelay": delay}]}}).to_string();
            assert_eq!(ErrorStatus::read(body.as_bytes()).unwrap().retry_after(), expected, "{delay}");
        }
    }
}
