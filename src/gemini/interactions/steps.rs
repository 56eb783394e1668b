//! Reading the stream of an interaction: each event becomes the event that `streamGenerateContent` would have sent in its place.
//!
//! Documented (ai.google.dev/gemini-api/docs/streaming, api-errors): the names of the events, that `interaction.completed` repeats no
//! steps, `[DONE]` at the end, the words for errors and for content that is withheld. Seen in sources only: `signature` in the delta of
//! a thought, `arguments` in that of a call (`partial_arguments` in python-genai of the spring), text and whole arguments that already
//! stand in `step.start`, `errors` of an interaction that failed. Not known: whether content is withheld by an event, by a status or by
//! both. Not implemented: resuming a stream (`event_id`), summaries of thoughts.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::super::response::Response;

/// Steps of one answer that are remembered at once.
const MOST_STEPS: usize = 64;
/// Longest arguments of a call, as JSON.
const LONGEST_ARGUMENTS_BYTES: usize = 64 * 1024;
/// Words of errors that are finish reasons with the other interface.
const WITHHELD: [&str; 6] = ["safety", "recitation", "language", "prohibited_content", "spii", "blocklist"];

/// What an answer's open steps have come to.
#[derive(Default)]
pub(in crate::gemini) struct Steps {
    /// Thoughts and calls that have begun, by their index.
    open: BTreeMap<u64, Open>,
    /// Thoughts that were signed since the last call, as the other side wants them back with the next.
    thoughts: Vec<Value>,
}

struct Open {
    step: Value,
    arguments: String,
}

impl Steps {
    /// Reads one event.
    ///
    /// # Errors
    /// When it is no JSON object, or calls something with what is none.
    pub(in crate::gemini) fn read(&mut self, text: &[u8]) -> Result<Response, serde_json::Error> {
        if text.trim_ascii() == b"[DONE]" {
            return Ok(Response::default());
        }
        let event: Map<String, Value> = serde_json::from_slice(text)?;
        serde_json::from_value(self.translated(Value::Object(event))?)
    }

    fn translated(&mut self, mut event: Value) -> Result<Value, serde_json::Error> {
        let index = event["index"].as_u64().unwrap_or(0);
        match event["event_type"].as_str().unwrap_or_default() {
            "step.start" => return self.begun(index, event["step"].take()),
            "step.delta" => return self.grown(index, &event["delta"]),
            "step.stop" => return Ok(parts(self.ended(index)?.into_iter().collect())),
            _ => {}
        }
        if event["error"].is_object() {
            return Ok(failed(&event["error"]));
        }
        let interaction = &event["interaction"];
        let status = interaction["status"].as_str().or(event["status"].as_str()).unwrap_or_default();
        let over = event["event_type"] == "interaction.completed";
        let finish = match status {
            "requires_action" => "STOP",
            "completed" | "" if over => "STOP",
            "incomplete" if over => "MAX_TOKENS",
            "failed" | "cancelled" if over => {
                let nothing = json!({"code": 500, "message": format!("the interaction ended as {status}")});
                return Ok(failed(
                    Some(&interaction["errors"][0]).filter(|error| error.is_object()).unwrap_or(&nothing),
                ));
            }
            "budget_exceeded" if over => "BUDGET_EXCEEDED",
            _ => "",
        };
        let mut last = Vec::new();
        if !finish.is_empty() {
            for index in self.open.keys().copied().collect::<Vec<_>>() {
                last.extend(self.ended(index)?);
            }
        }
        let mut response = parts(last);
        response["candidates"][0]["finishReason"] = finish.into();
        response["modelVersion"] = interaction["model"].clone();
        let usage = [&interaction["usage"], &event["metadata"]["usage"]].into_iter().find(|usage| usage.is_object());
        response["usageMetadata"] = usage.map_or(Value::Null, cost);
        Ok(response)
    }

    fn begun(&mut self, index: u64, step: Value) -> Result<Value, serde_json::Error> {
        match step["type"].as_str().unwrap_or_default() {
            "model_output" => {
                let content = step["content"].as_array().into_iter().flatten();
                Ok(parts(content.filter(|content| content["type"] == "text").map(said).collect()))
            }
            "thought" | "function_call" if self.open.len() < MOST_STEPS && self.thoughts.len() < MOST_STEPS => {
                self.open.insert(index, Open { step, arguments: String::new() });
                Ok(json!({}))
            }
            "thought" | "function_call" => Err(serde_json::Error::custom("an answer of too many steps")),
            _ => Ok(json!({})),
        }
    }

    fn grown(&mut self, index: u64, delta: &Value) -> Result<Value, serde_json::Error> {
        match (delta["type"].as_str().unwrap_or_default(), self.open.get_mut(&index)) {
            ("text", open) if open.as_ref().is_none_or(|open| open.step["type"] != "thought") => {
                return Ok(parts(vec![said(delta)]));
            }
            ("thought_signature", Some(open)) => open.step["signature"] = delta["signature"].clone(),
            ("arguments_delta", Some(open)) => {
                let piece = delta["arguments"].as_str().or(delta["partial_arguments"].as_str()).unwrap_or_default();
                if open.arguments.len() + piece.len() > LONGEST_ARGUMENTS_BYTES {
                    return Err(serde_json::Error::custom("a call with too long arguments"));
                }
                open.arguments += piece;
            }
            _ => {}
        }
        Ok(json!({}))
    }

    /// The call that a step was, with all that goes back with it.
    fn ended(&mut self, index: u64) -> Result<Option<Value>, serde_json::Error> {
        let Some(Open { mut step, arguments }) = self.open.remove(&index) else { return Ok(None) };
        if step["type"] == "thought" {
            if step["signature"].as_str().is_some_and(|signature| !signature.is_empty()) {
                self.thoughts.push(json!({"type": "thought", "signature": step["signature"]}));
            }
            return Ok(None);
        }
        if !arguments.trim().is_empty() {
            step["arguments"] = Value::Object(serde_json::from_str(&arguments)?);
        } else if !step["arguments"].is_object() {
            step["arguments"] = json!({});
        }
        let call =
            json!({"id": step["id"].as_str().unwrap_or_default(), "name": step["name"], "args": step["arguments"]});
        self.thoughts.push(step);
        Ok(Some(json!({"functionCall": call, "steps": std::mem::take(&mut self.thoughts)})))
    }
}

fn parts(parts: Vec<Value>) -> Value {
    json!({"candidates": [{"content": {"parts": parts}}]})
}

fn failed(error: &Value) -> Value {
    match error["code"].as_str().unwrap_or_default() {
        "content_blocked" => json!({"candidates": [{"finishReason": "SAFETY"}]}),
        word if WITHHELD.contains(&word) => json!({"candidates": [{"finishReason": word.to_ascii_uppercase()}]}),
        _ => json!({"error": error}),
    }
}

fn said(content: &Value) -> Value {
    json!({"text": content["text"]})
}

/// `usage` as `usageMetadata`.
fn cost(usage: &Value) -> Value {
    let modalities = usage["input_tokens_by_modality"].as_array().into_iter().flatten();
    let modality = |count: &Value| {
        let name = count["modality"].as_str().unwrap_or_default().to_ascii_uppercase();
        json!({"modality": name, "tokenCount": count["tokens"]})
    };
    json!({"promptTokenCount": usage["total_input_tokens"], "candidatesTokenCount": usage["total_output_tokens"],
        "thoughtsTokenCount": usage["total_thought_tokens"], "cachedContentTokenCount": usage["total_cached_tokens"],
        "promptTokensDetails": modalities.map(modality).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Finish;

    fn read(steps: &mut Steps, event: Value) -> Response {
        steps.read(event.to_string().as_bytes()).unwrap()
    }

    fn start(index: u64, step: Value) -> Value {
        json!({"event_type": "step.start", "index": index, "step": step})
    }

    fn delta(index: u64, delta: Value) -> Value {
        json!({"event_type": "step.delta", "index": index, "delta": delta})
    }

    fn completed(status: &str) -> Value {
        json!({"event_type": "interaction.completed", "interaction": {"status": status}})
    }

    #[test]
    fn thoughts_are_not_text_in_whatever_form_they_come() {
        let mut steps = Steps::default();
        for event in [
            start(0, json!({"type": "thought", "summary": [{"type": "text", "text": "Hm."}]})),
            delta(0, json!({"type": "thought_summary", "content": {"type": "text", "text": "Hm."}})),
            delta(0, json!({"type": "text", "text": "Hm."})),
            delta(0, json!({"type": "thought_signature", "signature": "Eq4C"})),
            json!({"event_type": "step.stop", "index": 0}),
        ] {
            assert_eq!(read(&mut steps, event).text(), "");
        }
        assert_eq!(read(&mut steps, delta(1, json!({"type": "text", "text": "Sure."}))).text(), "Sure.");
        let begun = start(2, json!({"type": "model_output", "content": [{"type": "text", "text": "Yes."}]}));
        assert_eq!(read(&mut steps, begun).text(), "Yes.");
    }

    #[test]
    fn arguments_come_in_pieces_at_once_or_not_at_all() {
        let whole =
            json!({"type": "function_call", "id": "a1", "name": "order_status", "arguments": {"order": "4721"}});
        let mut bare = whole.clone();
        bare["arguments"] = json!({});
        for (step, key, pieces, args) in [
            (&bare, "arguments", vec!["{\"order\":", "\"4721\"}"], json!({"order": "4721"})),
            (&bare, "partial_arguments", vec!["{\"order\": \"4721\"}"], json!({"order": "4721"})),
            (&whole, "arguments", vec![], json!({"order": "4721"})),
            (&bare, "arguments", vec![], json!({})),
        ] {
            for last in [json!({"event_type": "step.stop", "index": 3}), completed("requires_action")] {
                let mut steps = Steps::default();
                read(&mut steps, start(3, step.clone()));
                for piece in &pieces {
                    let read = read(&mut steps, delta(3, json!({"type": "arguments_delta", key: piece})));
                    assert_eq!(read.functions().count(), 0);
                }
                let call = read(&mut steps, last).functions().next().unwrap();
                assert_eq!((call.id.as_str(), call.name.as_str(), &call.args), ("a1", "order_status", &args));
                assert_eq!(
                    call.raw,
                    json!([{"type": "function_call", "id": "a1", "name": "order_status", "arguments": args}])
                );
            }
        }
    }

    #[test]
    fn what_is_signed_belongs_to_the_first_call_after_it() {
        let mut steps = Steps::default();
        let call =
            |id: &str| json!({"type": "function_call", "id": id, "name": "x", "arguments": {}, "signature": "Z"});
        read(&mut steps, start(0, json!({"type": "thought", "signature": "Eq4C"})));
        read(&mut steps, json!({"event_type": "step.stop", "index": 0}));
        let mut raws = Vec::new();
        for index in 1..3 {
            read(&mut steps, start(index, call("a")));
            let ended = read(&mut steps, json!({"event_type": "step.stop", "index": index}));
            raws.extend(ended.functions().map(|call| call.raw));
        }
        assert_eq!(raws, [json!([{"type": "thought", "signature": "Eq4C"}, call("a")]), json!([call("a")])]);
    }

    #[test]
    fn the_status_says_how_it_ended_and_only_at_the_end() {
        for (status, finish) in [
            ("completed", Some(Finish::Stop)),
            ("requires_action", Some(Finish::Stop)),
            ("incomplete", Some(Finish::MaxTokens)),
            ("budget_exceeded", Some(Finish::Other("BUDGET_EXCEEDED".into()))),
            ("in_progress", None),
        ] {
            assert_eq!(read(&mut Steps::default(), completed(status)).finish(), finish, "{status}");
        }
        let update = |status: &str| json!({"event_type": "interaction.status_update", "status": status});
        assert_eq!(read(&mut Steps::default(), update("completed")).finish(), None);
        assert_eq!(read(&mut Steps::default(), update("requires_action")).finish(), Some(Finish::Stop));
        for status in ["failed", "cancelled"] {
            assert_eq!(read(&mut Steps::default(), completed(status)).error.unwrap().code, Some(500));
        }
    }

    #[test]
    fn errors_have_words_for_codes() {
        for (word, code) in [
            (json!("not_found"), 404),
            (json!("gateway_timeout"), 504),
            (json!("https://ai.google.dev/errors/quota_exceeded"), 429),
            (json!("service_unavailable"), 503),
            (json!("authentication"), 401),
            (json!("invented_in_2027"), 500),
            (json!(429), 429),
        ] {
            let event = json!({"event_type": "error", "error": {"code": word, "message": "m"}});
            let error = read(&mut Steps::default(), event).error.unwrap();
            assert_eq!((error.code.unwrap_or(500), error.message.as_deref()), (code, Some("m")), "{word}");
        }
    }

    #[test]
    fn content_that_is_withheld_is_no_error_of_the_service() {
        let error = |word: &str| json!({"event_type": "error", "error": {"code": word, "message": "m"}});
        let mut ended = completed("failed");
        ended["interaction"]["errors"] = json!([{"code": "spii", "message": "m"}]);
        for (event, finish) in [
            (error("safety"), Finish::Safety),
            (error("content_blocked"), Finish::Safety),
            (error("recitation"), Finish::Other("RECITATION".into())),
            (ended, Finish::Safety),
        ] {
            let read = read(&mut Steps::default(), event);
            assert!(read.error.is_none() && read.finish() == Some(finish));
        }
    }

    #[test]
    fn what_is_new_or_odd_is_no_harm_and_what_is_no_event_is_an_error() {
        let mut steps = Steps::default();
        for event in [
            json!({}),
            json!({"event_type": "interaction.invented", "interaction": 5, "status": []}),
            json!({"event_type": "step.start", "index": -1, "step": null}),
            json!({"event_type": "step.delta", "delta": {"type": "text", "text": 5}}),
            json!({"event_type": "step.stop", "index": 99}),
            completed("invented"),
        ] {
            let read = read(&mut steps, event);
            assert_eq!((read.text().as_str(), read.finish(), read.functions().count()), ("", None, 0));
        }
        assert!(steps.read(b"[DONE]").is_ok());
        for no_event in ["", "[]", "5", "{\"event_type\":"] {
            assert!(steps.read(no_event.as_bytes()).is_err(), "{no_event}");
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let mut steps = Steps::default();
        let call = |index| start(index, json!({"type": "function_call", "name": "x"})).to_string();
        assert!((0..200).any(|index| steps.read(call(index).as_bytes()).is_err()));
        let mut steps = Steps::default();
        steps.read(call(0).as_bytes()).unwrap();
        let piece = delta(0, json!({"type": "arguments_delta", "arguments": " ".repeat(1000)})).to_string();
        assert!((0..200).any(|_| steps.read(piece.as_bytes()).is_err()));
    }
}
