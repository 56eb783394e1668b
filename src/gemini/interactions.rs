//! Gemini's Interactions API (`POST /v1beta/interactions`, revision 2026-05-20): building its request.
//!
//! Documented (ai.google.dev/gemini-api/docs/interactions, …/thinking): the fields of the request, that `store` is true unless told
//! otherwise, that every `thought` step has a `signature`. Seen in sources only (js-genai 2.18, genai 0.7 beta): a call goes back as a
//! `function_call` step behind the `thought` step that holds its signature, and is refused without one; a `function_result` needs the
//! function's name; `skip_thought_signature_validator` stands for a signature that nobody has. Nothing of it was tried. Not implemented: what the other side remembers
//! (`previous_interaction_id`; what callers say is not left there), thoughts of answers that called nothing, spoken answers, files.

use serde::Serialize;
use serde_json::{Value, json};

use super::{schema, thinking};
use crate::config;
use crate::http::{RequestBody, Sounds};
use crate::model::{Ask, Content, Function, FunctionCall, FunctionResult};

mod steps;
pub(super) use steps::Steps;

/// Where requests go.
pub(super) const PATH: &str = "/v1beta/interactions";
/// The header that holds the interface to what is written here, and its value.
pub(super) const REVISION: (&str, &str) = ("api-revision", "2026-05-20");
/// Stands for the signature of a call that has none, such as one that another interface's model made.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<&'a str>,
    input: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    generation_config: GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    stream: bool,
    store: bool,
}

#[derive(Serialize)]
struct GenerationConfig<'a> {
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'a str>,
}

/// The body of a request to a model.
pub(super) fn request(config: &config::Gemini, model: &str, ask: &Ask) -> RequestBody {
    let mut sounds = Sounds::new();
    let request = Request {
        model,
        system_instruction: Some(&*ask.system).filter(|text| !text.trim().is_empty()),
        input: ask.contents.iter().flat_map(|content| input(content, &mut sounds)).collect(),
        tools: ask.functions.iter().map(declared).collect(),
        generation_config: GenerationConfig {
            max_output_tokens: config.max_output_tokens,
            thinking_level: thinking::level(config, model),
        },
        service_tier: config.service_tier.as_deref(),
        stream: true,
        store: false,
    };
    sounds.within(serde_json::to_string(&request).expect("strings and numbers are always JSON"))
}

fn declared(function: &Function) -> Value {
    let mut tool = json!({"type": "function", "name": function.name, "description": function.description});
    // Here it is JSON Schema as it stands; one that takes nothing is left out, as with the other interface.
    if let Some(parameters) = function.parameters.as_ref().filter(|taken| schema::parameters(taken).is_some()) {
        tool["parameters"] = parameters.clone();
    }
    tool
}

/// The steps of an entry of the conversation; none when there is nothing in it.
fn input(content: &Content, sounds: &mut Sounds) -> Vec<Value> {
    match content {
        Content::Caller { audio, text } => {
            let sound = audio
                .iter()
                .map(|wav| json!({"type": "audio", "mime_type": "audio/wav", "data": sounds.stand_in(wav)}));
            let said: Vec<Value> = sound.chain(text.as_deref().and_then(text_content)).collect();
            said_by("user_input", said).into_iter().collect()
        }
        Content::Model { text } => spoken(text).into_iter().collect(),
        Content::Calls { text, calls } => {
            let each = calls.iter().enumerate().flat_map(|(n, call)| echo(call, n == 0));
            spoken(text).into_iter().chain(each).collect()
        }
        Content::Results(results) => results.iter().map(answered).collect(),
    }
}

fn text_content(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn said_by(step: &str, content: Vec<Value>) -> Option<Value> {
    (!content.is_empty()).then(|| json!({"type": step, "content": content}))
}

fn spoken(text: &str) -> Option<Value> {
    said_by("model_output", text_content(text).into_iter().collect())
}

/// A call with the thoughts before it, as the model made them. One that another interface's model made is written anew.
fn echo(call: &FunctionCall, first: bool) -> Vec<Value> {
    if let Value::Array(steps) = &call.raw {
        let mut steps = steps.clone();
        if let Some(step) = steps.last_mut().filter(|step| step["id"].as_str().is_none_or(str::is_empty)) {
            step["id"] = call.id.as_str().into();
        }
        if first && steps.iter().all(|step| step.get("signature").is_none()) {
            steps.insert(0, unsigned());
        }
        return steps;
    }
    let arguments = if call.args.is_object() { call.args.clone() } else { json!({}) };
    let thought = first.then(unsigned);
    let call = json!({"type": "function_call", "id": call.id, "name": call.name, "arguments": arguments});
    thought.into_iter().chain([call]).collect()
}

fn unsigned() -> Value {
    json!({"type": "thought", "signature": FOREIGN_SIGNATURE})
}

fn answered(result: &FunctionResult) -> Value {
    let text = match &result.response {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    json!({"type": "function_result", "call_id": result.id, "name": result.name, "result": [{"type": "text", "text": text}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::END_CALL;

    fn built(config: &config::Gemini, ask: &Ask) -> Value {
        serde_json::from_slice(&request(config, "gemini-3.8-flash", ask).whole()).unwrap()
    }

    fn ask(contents: Vec<Content>) -> Ask {
        Ask { system: "Be brief.".into(), contents, functions: [].into() }
    }

    fn said(text: &str) -> Content {
        Content::Caller { audio: vec![], text: Some(text.into()) }
    }

    #[test]
    fn nothing_is_left_on_the_other_side_and_nothing_is_sent_that_was_not_asked_for() {
        let request = built(&config::Gemini::default(), &ask(vec![said("Hello")]));
        let input = json!([{"type": "user_input", "content": [{"type": "text", "text": "Hello"}]}]);
        let expected = json!({"model": "gemini-3.8-flash", "system_instruction": "Be brief.", "input": input,
            "generation_config": {"max_output_tokens": 300}, "stream": true, "store": false});
        assert_eq!(request, expected);
    }

    #[test]
    fn levels_and_tier_are_sent_as_the_model_takes_them() {
        let tier = Some("priority".to_owned());
        let config =
            config::Gemini { thinking_level: Some("minimal".into()), service_tier: tier, ..Default::default() };
        let request = built(&config, &ask(vec![said("Hello")]));
        assert_eq!(
            (&request["generation_config"]["thinking_level"], &request["service_tier"]),
            (&json!("low"), &json!("priority"))
        );
    }

    #[test]
    fn the_conversation_is_steps_without_empty_ones() {
        let contents = vec![
            Content::Caller { audio: vec![b"RIFF".to_vec().into()], text: None },
            Content::Model { text: "Hello.".into() },
            said(""),
            Content::Model { text: String::new() },
            Content::Caller { audio: vec![b"RIFF".to_vec().into()], text: Some("facts".into()) },
        ];
        let sound = json!({"type": "audio", "mime_type": "audio/wav", "data": "UklGRg=="});
        let text = |text: &str| json!({"type": "text", "text": text});
        let expected = json!([{"type": "user_input", "content": [sound]},
            {"type": "model_output", "content": [text("Hello.")]},
            {"type": "user_input", "content": [sound, text("facts")]}]);
        assert_eq!(built(&config::Gemini::default(), &ask(contents))["input"], expected);
    }

    #[test]
    fn functions_are_declared_with_their_schema_as_it_is() {
        let schema =
            json!({"type": "object", "additionalProperties": false, "properties": {"order": {"type": "string"}}});
        let order =
            Function { name: "order_status".into(), description: "Looks.".into(), parameters: Some(schema.clone()) };
        let request = built(&config::Gemini::default(), &Ask { functions: [END_CALL, order].into(), ..ask(vec![]) });
        assert_eq!(
            request["tools"],
            json!([
            {"type": "function", "name": "end_call", "description": &*END_CALL.description},
            {"type": "function", "name": "order_status", "description": "Looks.", "parameters": schema}])
        );
    }

    fn told(raw: Value, response: Value) -> Value {
        let call = |id: &str, raw| FunctionCall {
            id: id.into(),
            name: "order_status".into(),
            args: json!({"order": "1"}),
            raw,
        };
        let result = FunctionResult { id: "a1".into(), name: "order_status".into(), response };
        let calls =
            Content::Calls { text: "One moment.".into(), calls: vec![call("a1", raw), call("a2", Value::Null)] };
        built(&config::Gemini::default(), &ask(vec![calls, Content::Results(vec![result])]))["input"].take()
    }

    #[test]
    fn calls_go_back_behind_what_was_signed_and_results_by_their_ids_and_names() {
        let thought = json!({"type": "thought", "signature": "EjQK"});
        let call =
            |id: &str| json!({"type": "function_call", "id": id, "name": "order_status", "arguments": {"order": "1"}});
        let mut unnamed = call("");
        unnamed.as_object_mut().unwrap().remove("id");
        for made in [call("a1"), unnamed] {
            let input = told(json!([thought, made]), json!({"output": "shipped"}));
            let result = json!({"type": "function_result", "call_id": "a1", "name": "order_status",
                "result": [{"type": "text", "text": "{\"output\":\"shipped\"}"}]});
            let text = json!({"type": "model_output", "content": [{"type": "text", "text": "One moment."}]});
            assert_eq!(input, json!([text, thought, call("a1"), call("a2"), result]));
        }
    }

    #[test]
    fn a_call_that_another_interface_made_is_written_anew() {
        let raw = json!({"functionCall": {"name": "order_status"}, "thoughtSignature": "EjQK"});
        let input = told(raw, "shipped".into());
        assert_eq!(input[1], json!({"type": "thought", "signature": FOREIGN_SIGNATURE}));
        assert_eq!((&input[2]["id"], &input[3]["id"]), (&json!("a1"), &json!("a2")));
        assert_eq!(input[4]["result"], json!([{"type": "text", "text": "shipped"}]));
    }

    #[test]
    fn a_call_that_nothing_signed_goes_behind_what_stands_for_it() {
        let call =
            |id: &str| json!({"type": "function_call", "id": id, "name": "order_status", "arguments": {"order": "1"}});
        let input = told(json!([call("a1")]), "shipped".into());
        assert_eq!(input.as_array().unwrap()[1..4], [unsigned(), call("a1"), call("a2")]);
        let mut signed = call("a1");
        signed["signature"] = "EjQK".into();
        assert_eq!(told(json!([signed]), "shipped".into()).as_array().unwrap()[1..3], [signed, call("a2")]);
    }
}
