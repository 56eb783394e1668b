//! OpenAI's chat completions (`POST /v1/chat/completions`, `GET /v1/models`), as cloud and local servers have them.
//!
//! It refuses what the real one refuses: unknown arguments, roles and names of functions, a call without its result. It understands
//! nothing: answers follow the number of the caller's turns. Not implemented: several choices, structured output.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body::Frame;
use serde_json::{Value, json};

use super::FaceOptions;
use crate::config::Language;
use crate::simulator::script;

/// Longest request body.
const LONGEST_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Requests that are remembered.
const MOST_SEEN: usize = 1000;

/// How the face behaves.
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// The model that it has.
    pub model: String,
    /// The key that must be sent.
    pub key: Option<String>,
    /// Whether the model takes sound.
    pub hears: bool,
    /// Language of the answers.
    pub language: Language,
    /// The functions that are called where a function is called, with their arguments.
    pub calls: Vec<(String, Value)>,
    /// What goes wrong, request by request; after the last nothing does.
    pub faults: Vec<ChatFault>,
    /// The requests that were understood, oldest first. Clones of the options share it.
    pub seen: Arc<Mutex<Vec<Value>>>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            model: "gemma3:12b".into(),
            key: None,
            hears: false,
            language: Language::En,
            calls: vec![("order_status".into(), json!({"order": "test"}))],
            faults: Vec::new(),
            seen: Arc::default(),
        }
    }
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFault {
    /// As it should be.
    None,
    /// So many functions are called, their arguments in pieces; the request that brings the results is answered.
    Calls(usize),
    /// Thoughts stand between marks before the text.
    Thinks,
    /// The answer comes whole, although a stream was asked for.
    Whole,
    /// The body ends after two events.
    EndsEarly,
    /// After one event an error comes.
    ErrorInStream,
    /// The end comes without `[DONE]`.
    NoDone,
    /// The answer is withheld.
    Filtered,
    /// Nothing comes after the head.
    Hang,
    /// This status, with an error body.
    Status(u16),
    /// This status, with an error that is only a text.
    BareStatus(u16),
}

pub(super) fn routes() -> Router<Arc<FaceOptions>> {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .layer(DefaultBodyLimit::max(LONGEST_BODY_BYTES))
}

fn refusal(status: u16, message: impl Into<String>, code: &str) -> Response {
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    let error = json!({"error": {"message": message.into(), "type": kind, "param": null, "code": code}});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], error.to_string()).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
    }
    response
}

fn key_fault(options: &ChatOptions, headers: &HeaderMap) -> Option<Response> {
    let wanted = format!("Bearer {}", options.key.as_ref()?);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    (given != Some(&wanted)).then(|| refusal(401, "Incorrect API key provided.", "invalid_api_key"))
}

async fn models(State(options): State<Arc<FaceOptions>>, headers: HeaderMap) -> Response {
    let options = &options.chat;
    if let Some(refusal) = key_fault(options, &headers) {
        return refusal;
    }
    let list = json!({"object": "list", "data": [{"id": options.model, "object": "model", "owned_by": "simulator"}]});
    ([(header::CONTENT_TYPE, "application/json")], list.to_string()).into_response()
}

async fn complete(State(options): State<Arc<FaceOptions>>, headers: HeaderMap, body: Bytes) -> Response {
    let options = &options.chat;
    if let Some(refusal) = key_fault(options, &headers) {
        return refusal;
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(_) => return refusal(400, "We could not parse the JSON body of your request.", "invalid_json"),
    };
    if let Err(message) = check(options, &request) {
        return refusal(400, message, "invalid_value");
    }
    if request["model"] != options.model.as_str() {
        return refusal(404, format!("The model `{}` does not exist.", request["model"]), "model_not_found");
    }
    let number = {
        let mut seen = options.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if seen.len() < MOST_SEEN {
            seen.push(request.clone());
        }
        seen.len()
    };
    answer(options, number, &request)
}

/// What the interface would complain of.
fn check(options: &ChatOptions, request: &Value) -> Result<(), String> {
    const KNOWN: [&str; 14] = [
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "user",
        "parallel_tool_calls",
    ];
    let object = request.as_object().ok_or("the body is no object")?;
    if let Some(name) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("Unrecognized request argument supplied: {name}"));
    }
    if object.contains_key("stream_options") && request["stream"] != true {
        return Err("The 'stream_options' parameter is only allowed when 'stream' is enabled.".into());
    }
    let tools = request["tools"].as_array().map(Vec::as_slice);
    if tools.is_some_and(<[Value]>::is_empty) {
        return Err("Invalid 'tools': empty array.".into());
    }
    for tool in tools.unwrap_or_default() {
        let name = tool["function"]["name"].as_str().unwrap_or_default();
        let good = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        if tool["type"] != "function" || name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            return Err("Invalid 'tools[0].function.name': string does not match pattern '^[a-zA-Z0-9_-]+$'.".into());
        }
        if tool["function"].get("parameters").is_some_and(|parameters| parameters["type"] != "object") {
            return Err(format!(
                "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'."
            ));
        }
    }
    messages(options, request["messages"].as_array().map(Vec::as_slice).unwrap_or_default())
}

fn messages(options: &ChatOptions, messages: &[Value]) -> Result<(), String> {
    if messages.is_empty() {
        return Err("Invalid 'messages': empty array.".into());
    }
    // Calls that wait for their results.
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let at = open
                .iter()
                .position(|open| *open == id)
                .ok_or("messages with role 'tool' must be a response to a preceding message with 'tool_calls'.")?;
            open.remove(at);
            continue;
        }
        if !open.is_empty() {
            return Err(format!(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
                 following tool_call_ids did not have response messages: {}",
                open.join(", ")
            ));
        }
        match (role, &message["content"]) {
            ("system" | "user" | "assistant", Value::String(_)) => {}
            ("assistant", Value::Null) if message["tool_calls"].is_array() => {}
            ("user", Value::Array(parts)) => {
                for part in parts {
                    match part["type"].as_str() {
                        Some("text") if part["text"].is_string() => {}
                        Some("input_audio") if !options.hears => {
                            return Err("This model does not support audio inputs.".into());
                        }
                        Some("input_audio") if part["input_audio"]["format"] == "wav" => {}
                        _ => return Err("Invalid value: content part.".into()),
                    }
                }
            }
            ("system" | "user" | "assistant", _) => {
                return Err(format!("Invalid content of a message with role '{role}'."));
            }
            _ => {
                return Err(format!(
                    "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool'."
                ));
            }
        }
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        for call in calls {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            if call["type"] != "function" || serde_json::from_str::<Value>(arguments).is_err() {
                return Err("Invalid value: tool_calls.".into());
            }
        }
        open = calls.iter().filter_map(|call| call["id"].as_str()).collect();
    }
    match open.is_empty() {
        true => Ok(()),
        false => Err("An assistant message with 'tool_calls' must be followed by tool messages.".into()),
    }
}

fn answer(options: &ChatOptions, number: usize, request: &Value) -> Response {
    let fault = options.faults.get(number - 1).copied().unwrap_or(ChatFault::None);
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turns = messages.iter().filter(|message| message["role"] == "user").count();
    let text = script::answer(options.language, turns);
    let chunk = |delta: Value, finish: Value| {
        json!({"id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk", "created": 1, "model": options.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let words = |text: &str| -> Vec<Value> {
        let tokens = script::tokens(text, &mut fastrand::Rng::with_seed(number as u64));
        tokens.iter().map(|token| chunk(json!({"content": token}), Value::Null)).collect()
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    let mut finish = "stop";
    match fault {
        ChatFault::Status(status) => return refusal(status, "The server is told to refuse.", "simulated"),
        ChatFault::BareStatus(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, json!({"error": "the server is told to refuse"}).to_string()).into_response();
        }
        ChatFault::Whole => {
            let whole = json!({"object": "chat.completion", "model": options.model, "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
            return ([(header::CONTENT_TYPE, "application/json")], whole.to_string()).into_response();
        }
        ChatFault::Calls(how_many) if messages.last().is_some_and(|message| message["role"] != "tool") => {
            for (index, (name, args)) in options.calls.iter().cycle().take(how_many).enumerate() {
                let call = |id: Option<String>, name: Option<&str>, arguments: &str| {
                    let mut piece = json!({"index": index, "function": {"arguments": arguments}});
                    if let (Some(id), Some(name)) = (id, name) {
                        piece["id"] = id.into();
                        piece["type"] = "function".into();
                        piece["function"]["name"] = name.into();
                    }
                    chunk(json!({"tool_calls": [piece]}), Value::Null)
                };
                events.push(call(Some(format!("call_{number}_{index}")), Some(name), ""));
                let arguments = args.to_string();
                let half = (0..=arguments.len() / 2).rev().find(|at| arguments.is_char_boundary(*at)).unwrap_or(0);
                let (first, second) = arguments.split_at(half);
                events.extend([first, second].map(|part| call(None, None, part)));
            }
            finish = "tool_calls";
        }
        ChatFault::Thinks => events.extend(words(&format!("<think>What is this about?</think>\n\n{text}"))),
        ChatFault::Filtered => finish = "content_filter",
        _ => events.extend(words(text)),
    }
    events.push(chunk(json!({}), finish.into()));
    if request["stream_options"]["include_usage"] == true {
        events.push(json!({"object": "chat.completion.chunk", "model": options.model, "choices": [],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}}));
    }
    match fault {
        ChatFault::EndsEarly => events.truncate(3),
        ChatFault::ErrorInStream => {
            events.truncate(2);
            events
                .push(json!({"error": {"message": "The server had an error.", "type": "server_error", "code": null}}));
        }
        ChatFault::Hang => events.clear(),
        _ => {}
    }
    let mut pieces: VecDeque<Bytes> = events.iter().map(|event| Bytes::from(format!("data: {event}\n\n"))).collect();
    if !matches!(fault, ChatFault::EndsEarly | ChatFault::NoDone | ChatFault::Hang) {
        pieces.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    }
    let body = Body::new(Pieces { pieces, hangs: fault == ChatFault::Hang });
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// A body in pieces.
struct Pieces {
    pieces: VecDeque<Bytes>,
    hangs: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            // Whoever asks gives up; the connection is closed then.
            None if self.hangs => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
