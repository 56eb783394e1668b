//! Refusing what the real interface refuses: unknown fields, thinking levels a model lacks, a conversation that ends with the model.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::pcm::wav;

/// What a field may hold.
enum Shape {
    Any,
    List(&'static Shape),
    Object(&'static [(&'static str, Shape)]),
    /// What a function takes: `Schema`, which holds itself.
    Schema,
    /// Schemas by the names of properties.
    Schemas,
}
use Shape::{Any, List, Object, Schema, Schemas};

const SCHEMA: Shape = Object(&[
    ("type", Any),
    ("format", Any),
    ("title", Any),
    ("description", Any),
    ("nullable", Any),
    ("enum", Any),
    ("items", Schema),
    ("maxItems", Any),
    ("minItems", Any),
    ("properties", Schemas),
    ("required", Any),
    ("minProperties", Any),
    ("maxProperties", Any),
    ("minimum", Any),
    ("maximum", Any),
    ("minLength", Any),
    ("maxLength", Any),
    ("pattern", Any),
    ("example", Any),
    ("anyOf", List(&Schema)),
    ("propertyOrdering", Any),
    ("default", Any),
]);

const CONTENT: &[(&str, Shape)] = &[("role", Any), ("parts", List(&Object(PART)))];
const PART: &[(&str, Shape)] = &[
    ("text", Any),
    ("thought", Any),
    ("thoughtSignature", Any),
    ("inlineData", Object(&[("mimeType", Any), ("data", Any), ("displayName", Any)])),
    ("fileData", Object(&[("mimeType", Any), ("fileUri", Any)])),
    ("functionCall", Object(&[("id", Any), ("name", Any), ("args", Any)])),
    (
        "functionResponse",
        Object(&[("id", Any), ("name", Any), ("response", Any), ("willContinue", Any), ("scheduling", Any)]),
    ),
    ("mediaResolution", Any),
];
const GENERATION_CONFIG: &[(&str, Shape)] = &[
    ("candidateCount", Any),
    ("stopSequences", Any),
    ("maxOutputTokens", Any),
    ("temperature", Any),
    ("topP", Any),
    ("topK", Any),
    ("seed", Any),
    ("presencePenalty", Any),
    ("frequencyPenalty", Any),
    ("responseMimeType", Any),
    ("responseSchema", Any),
    ("responseJsonSchema", Any),
    ("responseLogprobs", Any),
    ("logprobs", Any),
    ("responseModalities", Any),
    ("speechConfig", Any),
    ("mediaResolution", Any),
    ("thinkingConfig", Object(&[("includeThoughts", Any), ("thinkingBudget", Any), ("thinkingLevel", Any)])),
];
const DECLARATION: &[(&str, Shape)] = &[
    ("name", Any),
    ("description", Any),
    ("behavior", Any),
    ("parameters", Schema),
    ("parametersJsonSchema", Any),
    ("response", Any),
    ("responseJsonSchema", Any),
];
const REQUEST: Shape = Object(&[
    ("model", Any),
    ("contents", List(&Object(CONTENT))),
    ("systemInstruction", Object(CONTENT)),
    (
        "tools",
        List(&Object(&[
            ("functionDeclarations", List(&Object(DECLARATION))),
            ("googleSearch", Any),
            ("codeExecution", Any),
        ])),
    ),
    ("toolConfig", Any),
    ("safetySettings", List(&Object(&[("category", Any), ("threshold", Any)]))),
    ("generationConfig", Object(GENERATION_CONFIG)),
    ("cachedContent", Any),
    ("serviceTier", Any),
    ("store", Any),
]);

/// The fields of what is kept (`cachedContents`).
const KEPT: Shape = Object(&[
    ("model", Any),
    ("displayName", Any),
    ("systemInstruction", Object(CONTENT)),
    ("contents", List(&Object(CONTENT))),
    ("tools", List(&Object(&[("functionDeclarations", List(&Object(DECLARATION)))]))),
    ("toolConfig", Any),
    ("ttl", Any),
    ("expireTime", Any),
]);
const FEWEST_KEPT_TOKENS: usize = 4096;

const AUDIO_TYPES: [&str; 8] =
    ["audio/wav", "audio/x-wav", "audio/mp3", "audio/mpeg", "audio/aiff", "audio/aac", "audio/ogg", "audio/flac"];

/// A sound in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Size of the file.
    pub bytes: usize,
    /// How long it lasts; zero for what is not WAV.
    pub duration: Duration,
}

/// A request that the real interface would take.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Entries of the conversation.
    pub(super) contents: usize,
    /// Those of them that are the caller's; one that brings a function's result is not.
    pub(super) caller_turns: usize,
    pub(super) audio: Vec<Heard>,
    pub(super) text_chars: usize,
    /// Whether it ends with a function's result.
    pub(super) function_result: bool,
    /// Names of the functions that are offered.
    pub(super) functions: Vec<String>,
    pub(super) max_output_tokens: Option<usize>,
    /// What is said to be kept here.
    pub(super) cached: Option<String>,
    /// The request as it came, each sound replaced by its size.
    pub(super) json: String,
}

/// Reads what is to be kept; gives the functions that are offered in it.
pub(super) fn keep(body: &[u8]) -> Result<Vec<String>, Refusal> {
    let raw: Value =
        serde_json::from_slice(body).map_err(|_| Refusal::bad_request("Invalid JSON payload received."))?;
    let kept = shaped(raw, &KEPT, "").map_err(Refusal::bad_request)?;
    let model = kept["model"].as_str().and_then(|model| model.strip_prefix("models/")).unwrap_or_default();
    if !model_exists(model) {
        return Err(Refusal::no_model(model));
    }
    let parts = kept["systemInstruction"]["parts"].as_array().into_iter().flatten();
    let tokens =
        parts.map(|part| part["text"].as_str().map_or(0, |text| text.chars().count())).sum::<usize>().div_ceil(4);
    if tokens < FEWEST_KEPT_TOKENS {
        return Err(Refusal::bad_request(format!(
            "Cached content is too small. total_token_count={tokens}, min_total_token_count={FEWEST_KEPT_TOKENS}"
        )));
    }
    declarations(&kept["tools"])
}

/// Whether the simulator has such a model: Gemini from 2.5 on.
pub(super) fn model_exists(model: &str) -> bool {
    let tail = model.strip_prefix("gemini-").unwrap_or_default();
    tail.starts_with("flash") || version(model).is_some_and(|version| version >= (2, 5))
}

pub(super) fn version(model: &str) -> Option<(u32, u32)> {
    let number = model.strip_prefix("gemini-")?.split('-').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Reads a request body for a model.
pub(super) fn check(model: &str, body: &[u8]) -> Result<Accepted, Refusal> {
    let raw: Value = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(format!(
            "Invalid JSON payload received. Line {}, column {}.",
            error.line(),
            error.column()
        ))
    })?;
    let mut request = shaped(raw, &REQUEST, "").map_err(Refusal::bad_request)?;
    let refuse = |message: &str| Err(Refusal::bad_request(message));

    let config = &request["generationConfig"];
    if model.contains("3.5-flash-lite")
        && ["presencePenalty", "frequencyPenalty"].iter().any(|name| config.get(*name).is_some())
    {
        return refuse("Penalty is not enabled for this model");
    }
    let thinking = &config["thinkingConfig"];
    if thinking.get("thinkingLevel").is_some() && thinking.get("thinkingBudget").is_some() {
        return refuse("You can only set only one of thinking budget and thinking level.");
    }
    if let Some(level) = thinking["thinkingLevel"].as_str() {
        let level = level.to_ascii_lowercase();
        if !["minimal", "low", "medium", "high"].contains(&level.as_str()) {
            return refuse("Invalid value at 'generation_config.thinking_config.thinking_level'");
        }
        let no_minimal = !model.contains("lite") && version(model).is_none_or(|version| version >= (3, 7));
        if level == "minimal" && no_minimal {
            return refuse("Thinking level MINIMAL is not supported for this model.");
        }
        if version(model).is_some_and(|version| version < (3, 0)) {
            return refuse("Thinking level is not supported for this model.");
        }
    }
    if request.get("serviceTier").is_some_and(|tier| !["standard", "flex", "priority"].map(Value::from).contains(tier))
    {
        return refuse("Invalid value at 'service_tier'");
    }
    let max_output_tokens = config.get("maxOutputTokens").map(|max| max.as_u64().unwrap_or(0) as usize);
    if max_output_tokens == Some(0) {
        return refuse("max_output_tokens must be positive");
    }

    let contents = request["contents"].as_array_mut().map(std::mem::take).unwrap_or_default();
    if contents.is_empty() {
        return refuse("* GenerateContentRequest.contents: contents is not specified\n");
    }
    // Older models neither sign nor ask for signatures.
    let signs = version(model).is_none_or(|version| version >= (3, 0));
    let mut accepted = conversation(&contents, signs)?;
    let shown = contents.into_iter().map(|mut content| {
        for part in content["parts"].as_array_mut().into_iter().flatten() {
            if let Some(data) = part.get_mut("inlineData").and_then(|blob| blob.get_mut("data")) {
                *data = format!("[{} characters]", data.as_str().map_or(0, str::len)).into();
            }
        }
        content
    });
    request["contents"] = shown.collect();
    accepted.functions = declarations(&request["tools"])?;
    accepted.cached = request["cachedContent"].as_str().map(str::to_owned);
    if accepted.cached.is_some()
        && ["systemInstruction", "tools", "toolConfig"].iter().any(|name| request.get(*name).is_some())
    {
        return refuse(
            "CachedContent can not be used with GenerateContent request setting system_instruction, tools or tool_config.",
        );
    }
    accepted.json = request.to_string();
    accepted.max_output_tokens = max_output_tokens;
    Ok(accepted)
}

/// Who spoke, what sounds there are, and whether function calls come with what belongs to them.
fn conversation(contents: &[Value], signs: bool) -> Result<Accepted, Refusal> {
    let refuse = |message: String| Err(Refusal::bad_request(message));
    let mut accepted = Accepted {
        contents: contents.len(),
        caller_turns: 0,
        audio: Vec::new(),
        text_chars: 0,
        function_result: false,
        functions: Vec::new(),
        max_output_tokens: None,
        cached: None,
        json: String::new(),
    };
    // What the entry before called.
    let mut called: Vec<&Value> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let role = content["role"].as_str().unwrap_or("user");
        if !["user", "model", "function"].contains(&role) {
            return refuse("Please use a valid role: user, model.".into());
        }
        let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        if parts.is_empty() {
            return refuse(format!(
                "* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.\n"
            ));
        }
        accepted.function_result = parts.iter().any(|part| part.get("functionResponse").is_some());
        if accepted.function_result {
            results(parts, &called)?;
        } else if !called.is_empty() {
            return refuse(
                "Please ensure that function call turn is followed immediately by a function response turn.".into(),
            );
        }
        // Only the first of several calls carries a signature.
        if signs
            && let Some(call) = parts.iter().find(|part| part.get("functionCall").is_some())
            && call["thoughtSignature"].as_str().is_none_or(str::is_empty)
        {
            let name = call["functionCall"]["name"].as_str().unwrap_or_default();
            return refuse(format!(
                "Function call is missing a thought_signature in functionCall parts. Function call `{name}`, position {at}."
            ));
        }
        called = parts.iter().filter_map(|part| part.get("functionCall")).collect();
        if role == "user" && !accepted.function_result {
            accepted.caller_turns += 1;
        }
        for part in parts {
            accepted.text_chars += part["text"].as_str().map_or(0, |text| text.chars().count());
            if let Some(blob) = part.get("inlineData") {
                accepted.audio.push(heard(blob)?);
            }
        }
        if role == "model" && at + 1 == contents.len() {
            return refuse("Please ensure that the last content in the request has role user.".into());
        }
    }
    Ok(accepted)
}

/// Whether the results are those of the calls before them.
fn results(parts: &[Value], called: &[&Value]) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::bad_request(message));
    if called.is_empty() {
        return refuse(
            "Please ensure that function response turn comes immediately after a function call turn.".into(),
        );
    }
    let results: Vec<&Value> = parts.iter().filter_map(|part| part.get("functionResponse")).collect();
    if results.len() != called.len() {
        return refuse(
            "Please ensure that the number of function response parts is equal to the number of function call parts of the function \
             call turn."
                .into(),
        );
    }
    for (at, (result, call)) in results.iter().zip(called).enumerate() {
        let name = result["name"].as_str().unwrap_or_default();
        if name.is_empty() || !result["response"].is_object() {
            return refuse(format!(
                "* GenerateContentRequest.contents.parts[{at}].function_response.name: Name cannot be empty.\n"
            ));
        }
        if result.get("id").is_some_and(|id| Some(id) != call.get("id")) || result["name"] != call["name"] {
            return refuse(format!("Function response `{name}` does not belong to the function call at its place."));
        }
    }
    Ok(())
}

fn heard(blob: &Value) -> Result<Heard, Refusal> {
    let mime = blob["mimeType"].as_str().unwrap_or_default();
    if !AUDIO_TYPES.contains(&mime) {
        return Err(Refusal::bad_request(format!("Unsupported MIME type: {mime}")));
    }
    let data = blob["data"].as_str().and_then(|data| STANDARD.decode(data).ok()).ok_or_else(|| {
        Refusal::bad_request("Invalid value at 'contents.parts.inline_data.data' (TYPE_BYTES), Base64 decoding failed")
    })?;
    let duration = match mime.ends_with("wav") {
        true => {
            let sound = wav::read(&data).map_err(|_| Refusal::bad_request("Request contains an invalid argument."))?;
            Duration::from_secs_f64(sound.samples.len() as f64 / f64::from(sound.rate))
        }
        false => Duration::ZERO,
    };
    Ok(Heard { bytes: data.len(), duration })
}

/// The value with its field names in camel case, or what is wrong with it.
fn shaped(value: Value, shape: &Shape, path: &str) -> Result<Value, String> {
    match (shape, value) {
        (Any, value) => Ok(value),
        (List(item), Value::Array(values)) => {
            let items = values.into_iter().enumerate();
            items.map(|(n, value)| shaped(value, item, &format!("{path}[{n}]"))).collect()
        }
        (Object(fields), Value::Object(object)) => {
            let mut known = Map::new();
            for (name, value) in object {
                let camel = camel_case(&name);
                let Some((_, shape)) = fields.iter().find(|(field, _)| *field == camel) else {
                    let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
                    return Err(format!(
                        "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
                    ));
                };
                let snake = snake_case(&camel);
                let below = if path.is_empty() { snake } else { format!("{path}.{snake}") };
                known.insert(camel, shaped(value, shape, &below)?);
            }
            Ok(Value::Object(known))
        }
        (Schema, value) => {
            let kind = value["type"].as_str().unwrap_or("OBJECT");
            if !TYPES.contains(&kind.to_ascii_uppercase().as_str()) {
                return Err(format!("Invalid value at '{path}.type' (TYPE_ENUM), \"{kind}\""));
            }
            shaped(value, &SCHEMA, path)
        }
        (Schemas, Value::Object(object)) => {
            // Names of properties are the installer's own.
            let each = object.into_iter();
            each.map(|(name, value)| Ok((name, shaped(value, &Schema, &format!("{path}.value"))?)))
                .collect::<Result<Map<_, _>, String>>()
                .map(Value::Object)
        }
        (_, value) => Err(format!("Invalid value at '{path}', {value}")),
    }
}

const TYPES: [&str; 7] = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];

/// Checks what is offered to be done; gives its names.
fn declarations(tools: &Value) -> Result<Vec<String>, Refusal> {
    let refuse = |message: String| Err(Refusal::bad_request(message));
    let mut names: Vec<String> = Vec::new();
    let declared = tools
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    for (at, function) in declared.enumerate() {
        let place = format!("GenerateContentRequest.tools[0].function_declarations[{at}]");
        let name = function["name"].as_str().unwrap_or_default();
        let letters = |char: char| char.is_ascii_alphanumeric() || "_.:-".contains(char);
        if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            || name.len() > 64
            || !name.chars().all(letters)
        {
            return refuse(format!(
                "* {place}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, \
                 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.\n"
            ));
        }
        if names.iter().any(|known| known == name) {
            return refuse(format!("Duplicate function declaration found: {name}"));
        }
        if let Some(parameters) = function.get("parameters") {
            let kind = parameters["type"].as_str().unwrap_or_default().to_ascii_uppercase();
            if kind != "OBJECT" {
                return refuse(format!("* {place}.parameters: schema should be of type OBJECT\n"));
            }
            if parameters["properties"].as_object().is_none_or(Map::is_empty) {
                return refuse(format!("* {place}.parameters.properties: should be non-empty for OBJECT type\n"));
            }
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let mut letters = word.chars();
        camel
            + &letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().collect::<String>()
            + letters.as_str()
    })
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
        snake
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LITE: &str = "gemini-3.5-flash-lite";

    fn with(name: &str, value: Value) -> Value {
        let mut request = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
        request[name] = value;
        request
    }

    fn refused(model: &str, request: &Value) -> String {
        let refusal = check(model, request.to_string().as_bytes()).unwrap_err();
        assert_eq!(refusal.status, 400);
        serde_json::from_str::<Value>(&refusal.body).unwrap()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn accepted(request: &Value) -> Accepted {
        check(LITE, request.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_unknown_field_is_refused_in_the_interfaces_words() {
        assert_eq!(
            refused(LITE, &with("generationConfig", json!({"maxTokens": 5}))),
            "Invalid JSON payload received. Unknown name \"maxTokens\" at 'generation_config': Cannot find field."
        );
        assert_eq!(
            refused(LITE, &with("stream", true.into())),
            "Invalid JSON payload received. Unknown name \"stream\": Cannot find field."
        );
        let content = json!([{"role": "user", "parts": [{"text": "a"}, {"txt": "b"}]}]);
        assert!(refused(LITE, &with("contents", content)).contains("at 'contents[0].parts[1]'"));
        assert!(refused(LITE, &json!([])).starts_with("Invalid value at ''"));
    }

    #[test]
    fn snake_case_is_as_good_as_camel_case() {
        let request = accepted(&with("generation_config", json!({"max_output_tokens": 7})));
        assert_eq!(request.max_output_tokens, Some(7));
    }

    #[test]
    fn thinking_levels_depend_on_the_model() {
        let level = |level: &str| with("generationConfig", json!({"thinkingConfig": {"thinkingLevel": level}}));
        for (model, lowest) in [
            ("gemini-3.5-flash-lite", "minimal"),
            ("gemini-3.6-flash", "minimal"),
            ("gemini-3.7-flash", "low"),
            ("gemini-3.8-flash", "low"),
            ("gemini-flash-latest", "low"),
            ("gemini-flash-lite-latest", "minimal"),
        ] {
            assert!(check(model, level(lowest).to_string().as_bytes()).is_ok(), "{model}");
            if lowest == "low" {
                assert!(refused(model, &level("minimal")).contains("MINIMAL"), "{model}");
            }
        }
        assert!(refused(LITE, &level("loud")).contains("thinking_level"));
        let both = json!({"thinkingConfig": {"thinkingLevel": "low", "thinkingBudget": 0}});
        assert!(refused(LITE, &with("generationConfig", both)).contains("only one"));
    }

    #[test]
    fn penalties_and_strange_tiers_are_refused() {
        assert!(refused(LITE, &with("generationConfig", json!({"presencePenalty": 0.1}))).contains("Penalty"));
        assert!(refused(LITE, &with("serviceTier", "PRIORITY".into())).contains("service_tier"));
        accepted(&with("serviceTier", "priority".into()));
    }

    #[test]
    fn a_conversation_must_have_content_and_end_with_the_caller() {
        let contents = |value: Value| with("contents", value);
        let model = json!({"role": "model", "parts": [{"text": "Hello"}]});
        let user = json!({"role": "user", "parts": [{"text": "Hello"}]});
        assert!(refused(LITE, &contents(json!([user, model]))).contains("last content"));
        assert!(refused(LITE, &contents(json!([]))).contains("not specified"));
        assert!(refused(LITE, &contents(json!([{"role": "user", "parts": []}]))).contains("must not be empty"));
        assert!(refused(LITE, &contents(json!([{"role": "system", "parts": [{"text": "x"}]}]))).contains("valid role"));
        let both = accepted(&contents(json!([user, model, user])));
        assert_eq!((both.contents, both.caller_turns), (3, 2));
    }

    #[test]
    fn an_echoed_function_call_needs_its_signature_and_its_result_a_call() {
        let user = json!({"role": "user", "parts": [{"text": "Where is it?"}]});
        let call = json!({"functionCall": {"name": "order_status", "args": {}}});
        let mut signed = call.clone();
        signed["thoughtSignature"] = "EjQK".into();
        let response = json!({"functionResponse": {"name": "order_status", "response": {}}});
        let result = json!({"role": "user", "parts": [response]});
        let two = json!({"role": "user", "parts": [response, response]});
        let echo =
            |parts: Value, result: &Value| with("contents", json!([user, {"role": "model", "parts": parts}, result]));
        assert!(refused(LITE, &echo(json!([call]), &result)).contains("missing a thought_signature"));
        let old = echo(json!([call]), &result).to_string();
        assert!(check("gemini-2.5-flash", old.as_bytes()).is_ok());
        assert!(refused(LITE, &with("contents", json!([user, result]))).contains("function response turn"));
        assert!(refused(LITE, &echo(json!([signed, call]), &result)).contains("number of function response parts"));
        assert!(refused(LITE, &echo(json!([signed]), &user)).contains("followed immediately"));
        let mut named = signed.clone();
        named["functionCall"]["id"] = "a1".into();
        accepted(&echo(json!([named]), &result));
        let mut other = response.clone();
        other["functionResponse"]["id"] = "a2".into();
        let other = json!({"role": "user", "parts": [other]});
        assert!(refused(LITE, &echo(json!([named]), &other)).contains("does not belong"));
        let whole = accepted(&echo(json!([signed, call]), &two));
        assert!(whole.function_result);
        assert_eq!(whole.caller_turns, 1);
    }

    #[test]
    fn functions_are_declared_by_name() {
        let tools = |tool: Value| with("tools", json!([tool]));
        let declared = json!({"functionDeclarations": [{"name": "end_call", "description": "hangs up"}]});
        assert_eq!(accepted(&tools(declared)).functions, ["end_call"]);
        let wrong = json!({"functionDeclarations": [{"name": "end_call", "when": "never"}]});
        assert!(refused(LITE, &tools(wrong)).contains("\"when\" at 'tools[0].function_declarations[0]'"));
    }

    #[test]
    fn what_a_function_takes_is_a_schema_of_the_interface() {
        let declared = |parameters: Value| {
            let function = json!({"name": "order_status", "parameters": parameters});
            with("tools", json!([{"functionDeclarations": [function]}]))
        };
        let order = json!({"type": "STRING", "enum": ["a"]});
        accepted(&declared(json!({"type": "OBJECT", "properties": {"order": order}, "required": ["order"]})));
        let free = json!({"type": "OBJECT", "properties": {"order": order}, "additionalProperties": false});
        assert!(refused(LITE, &declared(free)).contains("additionalProperties"));
        let deep = json!({"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"const": 1}}}});
        assert!(refused(LITE, &declared(deep)).contains("\"const\""));
        let odd = json!({"type": "OBJECT", "properties": {"a": {"type": "date"}}});
        assert!(refused(LITE, &declared(odd)).contains("TYPE_ENUM"));
        assert!(refused(LITE, &declared(json!({"type": "OBJECT", "properties": {}}))).contains("non-empty"));
        assert!(refused(LITE, &declared(json!({"type": "STRING"}))).contains("type OBJECT"));
        for name in ["", "7up", "order status"] {
            let tools = json!([{"functionDeclarations": [{"name": name}]}]);
            assert!(refused(LITE, &with("tools", tools)).contains("Invalid function name"), "{name}");
        }
        let twice = json!([{"functionDeclarations": [{"name": "a"}, {"name": "a"}]}]);
        assert!(refused(LITE, &with("tools", twice)).contains("Duplicate"));
    }

    #[test]
    fn sounds_are_measured_and_not_kept() {
        let wav = crate::pcm::wav::write(8000, 1, &[0; 4000]);
        let blob = |mime: &str, data: String| {
            let part = json!({"inlineData": {"mimeType": mime, "data": data}});
            with("contents", json!([{"role": "user", "parts": [part]}]))
        };
        let request = accepted(&blob("audio/wav", STANDARD.encode(&wav)));
        assert_eq!(request.audio, [Heard { bytes: 8044, duration: Duration::from_millis(500) }]);
        assert!(request.json.contains("[10728 characters]") && !request.json.contains("UklGR"), "{}", request.json);
        assert!(refused(LITE, &blob("audio/wav", "%%".into())).contains("Base64"));
        assert!(refused(LITE, &blob("audio/wav", STANDARD.encode(b"not a wav"))).contains("invalid argument"));
        assert!(refused(LITE, &blob("audio/l16", String::new())).contains("MIME"));
    }

    #[test]
    fn models_from_two_five_on_exist() {
        for (model, exists) in [
            ("gemini-3.5-flash-lite", true),
            ("gemini-2.5-flash", true),
            ("gemini-flash-latest", true),
            ("gemini-2.0-flash", false),
            ("gemini-1.5-pro", false),
            ("gpt-5", false),
            ("gemini-", false),
        ] {
            assert_eq!(model_exists(model), exists, "{model}");
        }
    }
}
