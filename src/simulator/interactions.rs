//! The Interactions API: its requests checked and read as those of `streamGenerateContent`, and the events of an answer in its form.
//!
//! What the real one refuses beyond that, and in which words, is not known. Not implemented: what it remembers, answers in one piece.

use serde_json::{Map, Value, json};

use super::check::{self, Accepted};
use super::refusal::Refusal;

/// Where it is.
pub(super) const PATH: &str = "/v1beta/interactions";

const REQUEST: &[&str] =
    &["model", "input", "system_instruction", "tools", "generation_config", "service_tier", "stream", "store"];
const GENERATION_CONFIG: &[&str] = &[
    "max_output_tokens",
    "seed",
    "stop_sequences",
    "temperature",
    "thinking_level",
    "thinking_summaries",
    "tool_choice",
    "top_p",
];
const TOOL: &[&str] = &["type", "name", "description", "parameters"];
/// The fields of each kind of step, and of what is said in it.
const KINDS: [(&str, &[&str]); 7] = [
    ("user_input", &["type", "content"]),
    ("model_output", &["type", "content"]),
    ("thought", &["type", "signature", "summary"]),
    ("function_call", &["type", "id", "name", "arguments", "signature"]),
    ("function_result", &["type", "call_id", "name", "result", "is_error", "signature"]),
    ("text", &["type", "text"]),
    ("audio", &["type", "data", "mime_type", "sample_rate", "channels"]),
];

/// The model that a request is for; empty when it names none.
pub(super) fn model(body: &[u8]) -> String {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    request["model"].as_str().unwrap_or_default().to_owned()
}

/// Reads a request body.
pub(super) fn check(model: &str, body: &[u8]) -> Result<Accepted, Refusal> {
    let mut request: Value =
        serde_json::from_slice(body).map_err(|_| Refusal::bad_request("Invalid JSON payload received."))?;
    known(&request, REQUEST, "the request")?;
    if request["stream"] != true {
        return Err(Refusal::bad_request("This simulator only streams: stream must be true."));
    }
    if request["store"] != false {
        tracing::warn!("the request does not say store: false; the real interface would keep what is said");
    }
    let config = request.get("generation_config").cloned().unwrap_or_else(|| json!({}));
    known(&config, GENERATION_CONFIG, "generation_config")?;
    let mut generation = Map::new();
    if let Some(tokens) = config.get("max_output_tokens") {
        generation.insert("maxOutputTokens".into(), tokens.clone());
    }
    // Levels are taken from the first model on.
    if let Some(level) = config.get("thinking_level").filter(|_| check::version(model).is_none_or(|v| v >= (3, 0))) {
        generation.insert("thinkingConfig".into(), json!({"thinkingLevel": level}));
    }
    let mut same = json!({"contents": contents(&request["input"])?, "generationConfig": generation,
        "tools": [{"functionDeclarations": declarations(&request["tools"])?}]});
    if let Some(system) = request["system_instruction"].as_str() {
        same["systemInstruction"] = json!({"parts": [{"text": system}]});
    }
    if let Some(tier) = request.get("service_tier") {
        same["serviceTier"] = tier.clone();
    }
    let mut accepted = check::check(model, same.to_string().as_bytes())?;
    let steps = request["input"].as_array_mut().into_iter().flatten();
    for said in steps.filter_map(|step| step.get_mut("content")?.as_array_mut()).flatten() {
        if let Some(data) = said.get_mut("data") {
            *data = format!("[{} characters]", data.as_str().map_or(0, str::len)).into();
        }
    }
    accepted.json = request.to_string();
    Ok(accepted)
}

fn known(value: &Value, fields: &[&str], place: &str) -> Result<(), Refusal> {
    let Some(object) = value.as_object() else {
        return Err(Refusal::bad_request(format!("Invalid value at {place}: an object is expected.")));
    };
    match object.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(Refusal::unknown_parameter(name, place)),
        None => Ok(()),
    }
}

/// The kind of a step or of what is said in it.
fn kind<'a>(value: &'a Value, kinds: &[&str]) -> Result<&'a str, Refusal> {
    let kind = value["type"].as_str().unwrap_or_default();
    match KINDS.iter().find(|(name, _)| *name == kind && kinds.contains(name)) {
        Some((name, fields)) => known(value, fields, name).map(|()| kind),
        None => Err(Refusal::bad_request(format!("Invalid type '{kind}' in input."))),
    }
}

fn declarations(tools: &Value) -> Result<Vec<Value>, Refusal> {
    let declared = |tool: &Value| {
        known(tool, TOOL, "tools")?;
        let fits = tool.get("parameters").is_none_or(|schema| schema["type"] == "object");
        if tool["type"] != "function" || !fits {
            return Err(Refusal::bad_request("A tool must be a function whose parameters are an object."));
        }
        Ok(json!({"name": tool["name"], "description": tool["description"]}))
    };
    tools.as_array().into_iter().flatten().map(declared).collect()
}

/// The conversation as contents: what the model did in one go is one of them, and so is what came of it.
fn contents(input: &Value) -> Result<Vec<Value>, Refusal> {
    let mut contents: Vec<Value> = Vec::new();
    let mut signature = Value::Null;
    for step in input.as_array().into_iter().flatten() {
        let (role, parts) =
            match kind(step, &["user_input", "model_output", "thought", "function_call", "function_result"])? {
                "thought" => {
                    signature = step["signature"].clone();
                    continue;
                }
                "function_call" => {
                    if step["id"].as_str().is_none_or(str::is_empty) || !step["arguments"].is_object() {
                        return Err(Refusal::bad_request("A function_call needs an id, a name and arguments."));
                    }
                    let call = json!({"id": step["id"], "name": step["name"], "args": step["arguments"]});
                    ("model", vec![json!({"functionCall": call, "thoughtSignature": signature.take()})])
                }
                "function_result" => {
                    let response = json!({"output": step["result"]});
                    let result = json!({"id": step["call_id"], "name": step["name"], "response": response});
                    ("function", vec![json!({"functionResponse": result})])
                }
                from => {
                    let said = step["content"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let parts = said.iter().map(|said| {
                        Ok(match kind(said, &["text", "audio"])? {
                            "text" => json!({"text": said["text"]}),
                            _ => json!({"inlineData": {"mimeType": said["mime_type"], "data": said["data"]}}),
                        })
                    });
                    (if from == "user_input" { "user" } else { "model" }, parts.collect::<Result<_, Refusal>>()?)
                }
            };
        match contents.last_mut().filter(|last| role != "user" && last["role"] == role) {
            Some(last) => last["parts"].as_array_mut().expect("it was made as a list").extend(parts),
            None => contents.push(json!({"role": role, "parts": parts})),
        }
    }
    Ok(contents)
}

/// An answer's events so far.
#[derive(Default)]
pub(super) struct Telling {
    begun: bool,
    called: bool,
    /// Whether the text's step is open.
    speaking: bool,
    index: u64,
    /// Whether all is said.
    pub(super) completed: bool,
}

impl Telling {
    /// The events that stand for one of the other interface.
    pub(super) fn events(&mut self, event: &Value) -> Vec<Value> {
        let mut out = Vec::new();
        let (id, model) = (&event["responseId"], &event["modelVersion"]);
        if !std::mem::replace(&mut self.begun, true) {
            out.push(json!({"event_type": "interaction.created",
                "interaction": {"id": id, "status": "in_progress", "object": "interaction", "model": model}}));
            out.push(json!({"event_type": "interaction.status_update", "interaction_id": id, "status": "in_progress"}));
        }
        if let Some(reason) = event["promptFeedback"]["blockReason"].as_str() {
            out.push(error(&reason.to_ascii_lowercase(), "The request was blocked."));
        }
        let candidate = &event["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, &mut out);
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.close(&mut out);
            if reason == "SAFETY" {
                out.push(error("safety", "The answer was blocked."));
                return out;
            }
            let status = match reason {
                "STOP" if self.called => "requires_action",
                "STOP" => "completed",
                _ => "incomplete",
            };
            self.completed = true;
            out.push(json!({"event_type": "interaction.completed", "interaction": {"id": id, "status": status,
                "object": "interaction", "model": model, "usage": usage(&event["usageMetadata"])}}));
        }
        out
    }

    fn part(&mut self, part: &Value, out: &mut Vec<Value>) {
        let text = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            let summary = json!({"type": "thought_summary", "content": {"type": "text", "text": text}});
            return self.step(json!({"type": "thought"}), vec![summary], out);
        }
        if !text.is_empty() {
            if !std::mem::replace(&mut self.speaking, true) {
                out.push(json!({"event_type": "step.start", "index": self.index, "step": {"type": "model_output"}}));
            }
            out.push(json!({"event_type": "step.delta", "index": self.index, "delta": {"type": "text", "text": text}}));
        }
        if let Some(signature) = part["thoughtSignature"].as_str() {
            let signature = json!({"type": "thought_signature", "signature": signature});
            self.step(json!({"type": "thought"}), vec![signature], out);
        }
        if let Some(call) = part.get("functionCall") {
            self.called = true;
            let mut step = json!({"type": "function_call", "name": call["name"], "arguments": {}});
            if let Some(id) = call.get("id") {
                step["id"] = id.clone();
            }
            let arguments: Vec<char> = call["args"].to_string().chars().collect();
            let halves = [&arguments[..arguments.len() / 2], &arguments[arguments.len() / 2..]];
            let pieces =
                halves.map(|half| json!({"type": "arguments_delta", "arguments": half.iter().collect::<String>()}));
            self.step(step, pieces.into(), out);
        }
    }

    fn step(&mut self, step: Value, deltas: Vec<Value>, out: &mut Vec<Value>) {
        self.close(out);
        out.push(json!({"event_type": "step.start", "index": self.index, "step": step}));
        out.extend(
            deltas.into_iter().map(|delta| json!({"event_type": "step.delta", "index": self.index, "delta": delta})),
        );
        self.speaking = true;
        self.close(out);
    }

    fn close(&mut self, out: &mut Vec<Value>) {
        if std::mem::take(&mut self.speaking) {
            out.push(json!({"event_type": "step.stop", "index": self.index}));
            self.index += 1;
        }
    }
}

/// The event of an error.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({"event_type": "error", "error": {"code": code, "message": message}})
}

fn usage(usage: &Value) -> Value {
    let details = usage["promptTokensDetails"].as_array().into_iter().flatten();
    let modality = |detail: &Value| {
        let name = detail["modality"].as_str().unwrap_or_default().to_ascii_lowercase();
        json!({"modality": name, "tokens": detail["tokenCount"]})
    };
    json!({"total_input_tokens": usage["promptTokenCount"], "total_output_tokens": usage["candidatesTokenCount"].as_u64().unwrap_or(0),
        "total_thought_tokens": 0, "total_cached_tokens": 0, "total_tokens": usage["totalTokenCount"],
        "input_tokens_by_modality": details.map(modality).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "gemini-3.8-flash";

    fn request(input: Value) -> Value {
        json!({"model": MODEL, "input": input, "stream": true, "store": false})
    }

    fn refused(request: &Value) -> String {
        check(MODEL, request.to_string().as_bytes()).unwrap_err().in_words().body
    }

    fn hello() -> Value {
        json!({"type": "user_input", "content": [{"type": "text", "text": "Hello"}]})
    }

    #[test]
    fn a_name_that_is_not_known_is_refused_wherever_it_stands() {
        assert!(check(MODEL, request(json!([hello()])).to_string().as_bytes()).is_ok());
        for path in ["/x", "/generation_config/x", "/tools/0/x", "/input/0/x", "/input/0/content/0/x"] {
            let mut request = request(json!([hello()]));
            request["generation_config"] = json!({"thinking_level": "low"});
            request["tools"] = json!([{"type": "function", "name": "a"}]);
            let above = request.pointer_mut(path.strip_suffix("/x").unwrap()).unwrap();
            above["x"] = 1.into();
            let body = refused(&request);
            assert!(body.contains("Unknown parameter 'x'") && body.contains("\"parameter_unknown\""), "{path}: {body}");
        }
    }

    #[test]
    fn what_the_other_interface_refuses_is_refused_here() {
        let call = json!({"type": "function_call", "id": "a", "name": "b", "arguments": {}});
        let thought = json!({"type": "thought", "signature": "EjQK"});
        let result = json!({"type": "function_result", "call_id": "a", "name": "b", "result": "c"});
        let answer = json!({"type": "model_output", "content": [{"type": "text", "text": "Hi"}]});
        for (input, said) in [
            (json!([]), "not specified"),
            (json!([hello(), answer]), "role user"),
            (json!([hello(), call, result]), "thought_signature"),
            (json!([hello(), thought, call, hello()]), "followed immediately"),
            (json!([hello(), result]), "immediately after"),
            (json!([{"type": "system"}]), "Invalid type"),
        ] {
            let body = refused(&request(input));
            assert!(body.contains(said), "{said}: {body}");
        }
        let accepted = check(MODEL, request(json!([hello(), thought, call, result])).to_string().as_bytes()).unwrap();
        assert_eq!((accepted.contents, accepted.caller_turns, accepted.function_result), (3, 1, true));
    }
}
