//! Building the body of `/v1/chat/completions` (OpenAI API reference; Ollama, llama.cpp, vLLM and LocalAI take the same).

use serde_json::{Value, json};

use crate::config;
use crate::http::{RequestBody, Sounds};
use crate::model::{Ask, Content, Function, FunctionCall};

/// Stands for an earlier utterance of which there is only sound.
const NOT_WRITTEN: &str = "(What the caller said here was not written down.)";

/// There is sound and no text, and the model takes no sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unheard;

/// The body of a request.
pub(super) fn request(config: &config::Chat, model: &str, ask: &Ask) -> Result<RequestBody, Unheard> {
    let mut sounds = Sounds::new();
    let mut messages = Messages(Vec::with_capacity(ask.contents.len() + 1));
    if !ask.system.trim().is_empty() {
        messages.add("system", Value::from(&*ask.system));
    }
    let utterance = ask.contents.iter().rposition(|content| matches!(content, Content::Caller { .. }));
    for (at, content) in ask.contents.iter().enumerate() {
        match content {
            Content::Caller { audio, text } if config.audio && !audio.is_empty() => {
                let sound = audio.iter().map(|wav| {
                    json!({"type": "input_audio", "input_audio": {"data": sounds.stand_in(wav), "format": "wav"}})
                });
                let text = text.iter().filter(|text| !text.is_empty());
                let text = text.map(|text| json!({"type": "text", "text": text}));
                messages.add("user", sound.chain(text).collect());
            }
            // What stands beside a sound is not what was said.
            Content::Caller { audio, .. } if !audio.is_empty() && Some(at) == utterance => return Err(Unheard),
            Content::Caller { audio, text } => {
                let said = if audio.is_empty() { text.as_deref().unwrap_or_default() } else { NOT_WRITTEN };
                messages.add("user", said.into());
            }
            Content::Model { text } => messages.add("assistant", text.as_str().into()),
            Content::Calls { text, calls } => messages.0.push(json!({
                "role": "assistant",
                "content": Some(text).filter(|text| !text.is_empty()),
                "tool_calls": calls.iter().map(call).collect::<Value>(),
            })),
            Content::Results(results) => messages.0.extend(results.iter().map(
                |result| json!({"role": "tool", "tool_call_id": result.id, "content": result.response.to_string()}),
            )),
        }
    }
    let mut request = json!({
        "model": model,
        "messages": messages.0,
        "stream": true,
        "max_tokens": config.max_output_tokens,
    });
    if config.usage {
        request["stream_options"] = json!({"include_usage": true});
    }
    if config.functions && !ask.functions.is_empty() {
        request["tools"] = ask.functions.iter().map(function).collect();
    }
    Ok(sounds.within(request.to_string()))
}

/// The conversation. Many templates of local models want the caller and the model to take turns.
struct Messages(Vec<Value>);

impl Messages {
    fn add(&mut self, role: &str, content: Value) {
        if content.as_str().is_some_and(str::is_empty) {
            return;
        }
        if let (Some(last), Some(more)) = (self.0.last_mut(), content.as_str())
            && last["role"] == role
            && last.get("tool_calls").is_none()
            && let Some(before) = last["content"].as_str()
        {
            last["content"] = format!("{before}\n{more}").into();
            return;
        }
        self.0.push(json!({"role": role, "content": content}));
    }
}

fn call(call: &FunctionCall) -> Value {
    let args = if call.args.is_null() { "{}".to_owned() } else { call.args.to_string() };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": args}})
}

fn function(function: &Function) -> Value {
    let nothing = || json!({"type": "object", "properties": {}});
    json!({"type": "function", "function": {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters.clone().unwrap_or_else(nothing),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{END_CALL, FunctionResult};

    fn said(text: &str) -> Content {
        Content::Caller { audio: vec![], text: Some(text.into()) }
    }

    fn sound() -> Content {
        Content::Caller { audio: vec![b"RIFF".to_vec().into()], text: Some("[facts] Dana".into()) }
    }

    fn ask(contents: Vec<Content>) -> Ask {
        Ask { system: "You answer the telephone.".into(), contents, functions: [].into() }
    }

    fn built(config: &config::Chat, ask: &Ask) -> Value {
        serde_json::from_slice(&request(config, "gemma", ask).unwrap().whole()).unwrap()
    }

    #[test]
    fn a_request_is_what_the_interface_documents_and_nothing_more() {
        let ask = ask(vec![said("שלום"), Content::Model { text: "שלום, איך אפשר לעזור?".into() }, said("מה השעה?")]);
        assert_eq!(
            built(&config::Chat::default(), &ask),
            json!({"model": "gemma", "stream": true, "max_tokens": 300, "messages": [
                {"role": "system", "content": "You answer the telephone."},
                {"role": "user", "content": "שלום"},
                {"role": "assistant", "content": "שלום, איך אפשר לעזור?"},
                {"role": "user", "content": "מה השעה?"}]})
        );
    }

    #[test]
    fn the_caller_and_the_model_take_turns() {
        let ask = ask(vec![said("Hello."), said("Are you there?"), Content::Model { text: "".into() }, said("Well?")]);
        let messages = built(&config::Chat::default(), &ask)["messages"].take();
        assert_eq!(messages[1], json!({"role": "user", "content": "Hello.\nAre you there?\nWell?"}));
        assert_eq!(messages.as_array().unwrap().len(), 2);
    }

    #[test]
    fn sound_without_its_text_is_told_at_once_unless_the_model_hears() {
        assert_eq!(request(&config::Chat::default(), "m", &ask(vec![sound()])).err(), Some(Unheard));
        let earlier = built(&config::Chat::default(), &ask(vec![sound(), said("Hello?")]));
        assert_eq!(earlier["messages"][1]["content"], format!("{NOT_WRITTEN}\nHello?"));
        let hears = config::Chat { audio: true, ..Default::default() };
        assert_eq!(
            built(&hears, &ask(vec![sound()]))["messages"][1]["content"],
            json!([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}, {"type": "text", "text": "[facts] Dana"}])
        );
    }

    #[test]
    fn calls_and_results_go_back_by_their_ids_whoever_made_them() {
        let call = FunctionCall {
            id: "a1".into(),
            name: "order_status".into(),
            args: json!({"order": "4721"}),
            raw: json!({"functionCall": {}, "thoughtSignature": "EjQK"}),
        };
        let result =
            FunctionResult { id: "a1".into(), name: "order_status".into(), response: json!({"output": "shipped"}) };
        let calls = Content::Calls { text: String::new(), calls: vec![call] };
        let messages =
            built(&config::Chat::default(), &ask(vec![said("Where is it?"), calls, Content::Results(vec![result])]));
        assert_eq!(
            messages["messages"][2],
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a1", "type": "function",
                "function": {"name": "order_status", "arguments": "{\"order\":\"4721\"}"}}]})
        );
        assert_eq!(
            messages["messages"][3],
            json!({"role": "tool", "tool_call_id": "a1", "content": "{\"output\":\"shipped\"}"})
        );
    }

    #[test]
    fn functions_and_the_question_for_the_cost_are_sent_only_to_those_who_take_them() {
        let ask = Ask { functions: [END_CALL].into(), ..ask(vec![said("Bye.")]) };
        let request = built(&config::Chat { usage: true, ..Default::default() }, &ask);
        assert_eq!(request["tools"][0]["function"]["parameters"], json!({"type": "object", "properties": {}}));
        assert_eq!(request["stream_options"], json!({"include_usage": true}));
        let request = built(&config::Chat { functions: false, ..Default::default() }, &ask);
        assert!(request.get("tools").is_none() && request.get("stream_options").is_none());
    }
}
