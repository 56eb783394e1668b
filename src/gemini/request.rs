//! Building the body of `models/{model}:streamGenerateContent` (Gemini API v1beta).
//!
//! It holds nothing that was not asked for, since unknown or superfluous fields are refused, and no sampling parameters, which newer
//! models ignore or refuse. Not implemented: safety settings, files.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::schema;
use super::thinking::{self, Thinking};
use crate::config;
use crate::http::{RequestBody, Sounds};
use crate::model::{Ask, Content, Function, FunctionCall, FunctionResult};
use crate::pcm::wav::WavFile;

/// Stands for the signature of a call that another interface's model made: Gemini 3 takes it, and refuses a call without any.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

/// The body of a request to a model.
///
/// `kept`: what stands for its beginning on the other side.
pub(super) fn request(config: &config::Gemini, model: &str, ask: &Ask, kept: Option<&str>) -> RequestBody {
    let mut sounds = Sounds::new();
    let request = Request {
        system_instruction: instruction(ask).filter(|_| kept.is_none()),
        contents: contents(&ask.contents, &mut sounds),
        tools: tools(ask).filter(|_| kept.is_none()),
        generation_config: GenerationConfig {
            max_output_tokens: config.max_output_tokens,
            thinking_config: thinking::wanted(config, model),
        },
        service_tier: config.service_tier.as_deref(),
        cached_content: kept,
    };
    sounds.within(serde_json::to_string(&request).expect("strings and numbers are always JSON"))
}

/// The body of the request that has the beginning of requests kept.
pub(super) fn kept(model: &str, ask: &Ask, ttl: Duration) -> Vec<u8> {
    let keep = Keep {
        model: format!("models/{model}"),
        system_instruction: instruction(ask),
        tools: tools(ask),
        ttl: format!("{}s", ttl.as_secs()),
    };
    serde_json::to_vec(&keep).expect("strings are always JSON")
}

fn instruction(ask: &Ask) -> Option<Instruction<'_>> {
    let text = Some(&*ask.system).filter(|text| !text.trim().is_empty())?;
    Some(Instruction { parts: [Part::Text(text)] })
}

fn tools(ask: &Ask) -> Option<[Tool<'_>; 1]> {
    (!ask.functions.is_empty()).then(|| [Tool { function_declarations: declarations(&ask.functions) }])
}

fn declarations(functions: &[Function]) -> Vec<Declaration<'_>> {
    let declared = |function: &'_ Function| schema::parameters(function.parameters.as_ref()?);
    let each = functions.iter();
    each.map(|function| Declaration {
        name: &function.name,
        description: &function.description,
        parameters: declared(function),
    })
    .collect()
}

/// The conversation, without entries that have nothing in them, which the interface refuses.
fn contents<'a>(contents: &'a [Content], sounds: &mut Sounds) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(contents.len());
    for (at, content) in contents.iter().enumerate() {
        let (role, parts) = match content {
            Content::Caller { audio, text } => ("user", caller(audio, text.as_deref(), sounds)),
            Content::Model { text } => ("model", spoken(text)),
            Content::Calls { text, calls } => {
                let mut parts = spoken(text);
                parts.extend(calls.iter().enumerate().map(|(n, call)| Part::Raw(echo(call, n == 0))));
                ("model", parts)
            }
            Content::Results(results) => {
                let called = match at.checked_sub(1).map(|before| &contents[before]) {
                    Some(Content::Calls { calls, .. }) => calls.as_slice(),
                    _ => &[],
                };
                ("user", results.iter().map(|result| answered(result, called)).collect())
            }
        };
        if !parts.is_empty() {
            entries.push(Entry { role, parts });
        }
    }
    entries
}

fn caller<'a>(audio: &[WavFile], text: Option<&'a str>, sounds: &mut Sounds) -> Vec<Part<'a>> {
    let sound = |wav| Part::InlineData(Blob { mime_type: "audio/wav", data: sounds.stand_in(wav) });
    let sound = audio.iter().map(sound);
    sound.chain(text.filter(|text| !text.is_empty()).map(Part::Text)).collect()
}

fn spoken(text: &str) -> Vec<Part<'_>> {
    Some(text).filter(|text| !text.is_empty()).map(Part::Text).into_iter().collect()
}

/// A call as the model made it, with what it signed. One that another interface's model made is written anew.
fn echo(call: &FunctionCall, first: bool) -> Value {
    if ours(call) {
        return call.raw.clone();
    }
    let args = if call.args.is_object() { call.args.clone() } else { json!({}) };
    let mut part = json!({"functionCall": {"id": call.id, "name": call.name, "args": args}});
    if first {
        part["thoughtSignature"] = FOREIGN_SIGNATURE.into();
    }
    part
}

fn ours(call: &FunctionCall) -> bool {
    call.raw.get("functionCall").is_some_and(Value::is_object)
}

/// What came of a call. Its id is told only where the call is echoed with one.
fn answered<'a>(result: &FunctionResult, called: &[FunctionCall]) -> Part<'a> {
    let response = match &result.response {
        object @ Value::Object(_) => object.clone(),
        other => json!({"output": other}),
    };
    let mut answer = json!({"name": result.name, "response": response});
    let call = called.iter().find(|call| call.id == result.id);
    let id = match call.filter(|call| ours(call)) {
        Some(call) => call.raw["functionCall"].get("id").cloned(),
        None => Some(result.id.as_str().into()),
    };
    if let Some(id) = id {
        answer["id"] = id;
    }
    Part::Raw(json!({"functionResponse": answer}))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    contents: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tool<'a>; 1]>,
    generation_config: GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Keep<'a> {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tool<'a>; 1]>,
    ttl: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
struct Declaration<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

#[derive(Serialize)]
struct Instruction<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Part<'a> {
    Text(&'a str),
    InlineData(Blob),
    #[serde(untagged)]
    Raw(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    mime_type: &'static str,
    data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::END_CALL;

    fn ask() -> Ask {
        Ask {
            system: "You answer the phone of a bakery.".into(),
            contents: vec![
                Content::Caller { audio: vec![], text: Some("שלום".into()) },
                Content::Model { text: "שלום, איך אפשר לעזור?".into() },
                Content::Caller { audio: vec![b"RIFF".to_vec().into()], text: Some("[facts] Dana".into()) },
            ],
            functions: [].into(),
        }
    }

    fn built(config: &config::Gemini, ask: &Ask) -> Value {
        serde_json::from_slice(&request(config, "gemini-3.5-flash-lite", ask, None).whole()).unwrap()
    }

    #[test]
    fn a_request_is_what_the_interface_documents_and_nothing_more() {
        assert_eq!(
            built(&config::Gemini::default(), &ask()),
            json!({
                "systemInstruction": {"parts": [{"text": "You answer the phone of a bakery."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "שלום"}]},
                    {"role": "model", "parts": [{"text": "שלום, איך אפשר לעזור?"}]},
                    {"role": "user", "parts": [
                        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
                        {"text": "[facts] Dana"}]}],
                "generationConfig": {"maxOutputTokens": 300}
            })
        );
    }

    #[test]
    fn thinking_and_tier_are_sent_only_when_configured() {
        let config = config::Gemini {
            thinking_level: Some("low".into()),
            service_tier: Some("priority".into()),
            ..Default::default()
        };
        let request = built(&config, &ask());
        assert_eq!(request["generationConfig"]["thinkingConfig"], json!({"thinkingLevel": "low"}));
        assert_eq!(request["serviceTier"], "priority");
    }

    #[test]
    fn what_may_be_done_is_declared_with_what_it_takes() {
        let order = Function {
            name: "order_status".into(),
            description: "Looks an order up.".into(),
            parameters: Some(json!({"type": "object", "properties": {"order": {"type": "string"}}})),
        };
        let request = built(&config::Gemini::default(), &Ask { functions: [END_CALL, order].into(), ..ask() });
        let declared = json!([{"name": "end_call", "description": &*END_CALL.description},
            {"name": "order_status", "description": "Looks an order up.",
                "parameters": {"type": "OBJECT", "properties": {"order": {"type": "STRING"}}}}]);
        assert_eq!(request["tools"], json!([{"functionDeclarations": declared}]));
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let nothing = Content::Caller { audio: vec![], text: Some(String::new()) };
        let contents = vec![nothing, Content::Model { text: String::new() }, ask().contents.remove(0)];
        let request = built(&config::Gemini::default(), &Ask { system: " ".into(), contents, functions: [].into() });
        assert_eq!(request.get("systemInstruction"), None);
        assert_eq!(request["contents"].as_array().unwrap().len(), 1);
    }

    fn call(id: &str, raw: Value) -> FunctionCall {
        FunctionCall { id: id.into(), name: "order_status".into(), args: json!({"order": "4721"}), raw }
    }

    fn told(calls: Vec<FunctionCall>) -> Value {
        let each = calls.iter().map(|call| FunctionResult {
            id: call.id.clone(),
            name: call.name.clone(),
            response: json!({"output": "shipped"}),
        });
        let results = Content::Results(each.collect());
        let mut contents = vec![ask().contents.remove(0)];
        contents.extend([Content::Calls { text: "One moment.".into(), calls }, results]);
        built(&config::Gemini::default(), &Ask { contents, ..ask() })["contents"].take()
    }

    #[test]
    fn calls_go_back_as_they_came_with_the_signature_of_the_first_and_results_by_their_ids() {
        let signed = json!({"functionCall": {"id": "a1", "name": "order_status", "args": {"order": "4721"}}, "thoughtSignature": "EjQK"});
        let second = json!({"functionCall": {"id": "a2", "name": "order_status", "args": {"order": "4721"}}});
        let contents = told(vec![call("a1", signed.clone()), call("a2", second.clone())]);
        assert_eq!(contents[1], json!({"role": "model", "parts": [{"text": "One moment."}, signed, second]}));
        let response = |id: &str| json!({"functionResponse": {"id": id, "name": "order_status", "response": {"output": "shipped"}}});
        assert_eq!(contents[2], json!({"role": "user", "parts": [response("a1"), response("a2")]}));
    }

    #[test]
    fn an_id_that_we_gave_is_not_told_to_a_model_that_gave_none() {
        let raw = json!({"functionCall": {"name": "order_status", "args": {}}, "thoughtSignature": "EjQK"});
        let contents = told(vec![call("offhook-1", raw.clone())]);
        assert_eq!(contents[1]["parts"][1], raw);
        assert_eq!(
            contents[2]["parts"],
            json!([{"functionResponse": {"name": "order_status", "response": {"output": "shipped"}}}])
        );
    }

    #[test]
    fn a_call_that_another_interfaces_model_made_is_written_anew() {
        let foreign = json!({"type": "function", "function": {"name": "order_status", "arguments": "{}"}});
        let contents = told(vec![call("x1", foreign), call("x2", Value::Null)]);
        let anew = |id: &str| json!({"functionCall": {"id": id, "name": "order_status", "args": {"order": "4721"}}});
        let mut first = anew("x1");
        first["thoughtSignature"] = FOREIGN_SIGNATURE.into();
        assert_eq!(contents[1]["parts"], json!([{"text": "One moment."}, first, anew("x2")]));
        assert_eq!(contents[2]["parts"][1]["functionResponse"]["id"], "x2");
    }
}
