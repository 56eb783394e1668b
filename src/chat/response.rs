//! Reading what `/v1/chat/completions` answers: chunks of a stream, a whole answer, and error bodies in their several forms.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Finish, Usage};

/// One chunk, or a whole answer from a server that does not stream. Every field may be missing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Tokens>,
    /// An error inside a successful response.
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Choice {
    delta: Option<Message>,
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Message {
    content: Option<Value>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

/// A piece of a call: the first has the name, all have a part of the arguments.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct CallPiece {
    pub(super) index: Option<usize>,
    pub(super) id: Option<String>,
    pub(super) function: Option<FunctionPiece>,
}

#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct FunctionPiece {
    pub(super) name: Option<String>,
    /// A piece of JSON as text; some servers send the object itself.
    pub(super) arguments: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Tokens {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    prompt_tokens_details: Option<PromptTokens>,
    completion_tokens_details: Option<CompletionTokens>,
}

#[derive(Debug, Default, Deserialize)]
struct PromptTokens {
    cached_tokens: Option<u32>,
    audio_tokens: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
struct CompletionTokens {
    reasoning_tokens: Option<u32>,
}

impl Chunk {
    /// Reads one JSON text.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    fn choice(&self) -> Option<&Choice> {
        self.choices.as_ref()?.first()
    }

    fn message(&self) -> Option<&Message> {
        let choice = self.choice()?;
        choice.delta.as_ref().or(choice.message.as_ref())
    }

    /// The text in it.
    pub(super) fn text(&self) -> &str {
        self.message().and_then(|message| message.content.as_ref()?.as_str()).unwrap_or_default()
    }

    /// Whether the model says that it will not answer.
    pub(super) fn refuses(&self) -> bool {
        self.message().is_some_and(|message| message.refusal.as_deref().is_some_and(|text| !text.is_empty()))
    }

    /// The pieces of calls in it.
    pub(super) fn calls(&self) -> &[CallPiece] {
        self.message().and_then(|message| message.tool_calls.as_deref()).unwrap_or_default()
    }

    /// Why the answer is at its end, when it is.
    pub(super) fn finish(&self) -> Option<Finish> {
        Some(match self.choice()?.finish_reason.as_deref()? {
            "" => return None,
            "stop" | "tool_calls" | "function_call" | "eos" => Finish::Stop,
            "length" => Finish::MaxTokens,
            "content_filter" => Finish::Safety,
            other => Finish::Other(other.to_owned()),
        })
    }

    /// What it cost.
    pub(super) fn usage(&self) -> Option<Usage> {
        let tokens = self.usage.as_ref()?;
        let prompt = tokens.prompt_tokens_details.as_ref();
        let thoughts =
            tokens.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens).unwrap_or(0);
        Some(Usage {
            prompt: tokens.prompt_tokens.unwrap_or(0),
            audio: prompt.and_then(|details| details.audio_tokens).unwrap_or(0),
            cached: prompt.and_then(|details| details.cached_tokens).unwrap_or(0),
            answer: tokens.completion_tokens.unwrap_or(0).saturating_sub(thoughts),
            thoughts,
            micros: 0,
        })
    }

    /// An error that came in place of a piece.
    pub(super) fn error(&self) -> Option<Trouble> {
        self.error.as_ref().filter(|error| !error.is_null()).map(Trouble::of)
    }
}

/// What an error body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) message: String,
    /// `code` or `type`, whichever there is.
    pub(super) code: String,
}

impl Trouble {
    /// Reads an error body: `{"error": {…}}`, `{"error": "…"}`, `{"detail": …}`, `{"message": …}`; `None` for anything else.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let body = body.as_array().and_then(|list| list.first()).unwrap_or(&body);
        let inner = ["error", "detail"].iter().find_map(|name| body.get(name)).unwrap_or(body);
        Some(Self::of(inner)).filter(|trouble| !trouble.message.is_empty() || !trouble.code.is_empty())
    }

    fn of(error: &Value) -> Self {
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let code = text(error.get("code").filter(|code| !code.is_null()).or(error.get("type")));
        match error {
            Value::String(message) => Self { message: message.clone(), code },
            other => Self { message: text(other.get("message")), code },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Chunk {
        Chunk::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn text_calls_and_ends_are_read_from_chunks_and_from_whole_answers() {
        let chunk =
            read(json!({"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Sure, "}}]}));
        assert_eq!((chunk.text(), chunk.finish()), ("Sure, ", None));
        let whole = read(json!({"choices": [{"message": {"content": "Sure."}, "finish_reason": "stop"}]}));
        assert_eq!((whole.text(), whole.finish()), ("Sure.", Some(Finish::Stop)));
        for (reason, finish) in [
            ("tool_calls", Finish::Stop),
            ("length", Finish::MaxTokens),
            ("content_filter", Finish::Safety),
            ("abort", Finish::Other("abort".into())),
        ] {
            assert_eq!(read(json!({"choices": [{"delta": {}, "finish_reason": reason}]})).finish(), Some(finish));
        }
    }

    #[test]
    fn everything_may_be_missing_or_null() {
        for value in [
            json!({}),
            json!({"choices": [], "usage": null, "error": null}),
            json!({"choices": [{"delta": null, "finish_reason": null}]}),
            json!({"choices": [{"delta": {"content": null, "tool_calls": null, "reasoning_content": "hm"}}]}),
        ] {
            let chunk = read(value);
            assert_eq!((chunk.text(), chunk.finish(), chunk.calls().len()), ("", None, 0));
            assert!(chunk.usage().is_none() && chunk.error().is_none() && !chunk.refuses());
        }
    }

    #[test]
    fn the_cost_is_read_with_its_details() {
        let chunk = read(json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 10}}}));
        let usage = Usage { prompt: 100, audio: 5, cached: 64, answer: 20, thoughts: 10, micros: 0 };
        assert_eq!(chunk.usage(), Some(usage));
    }

    #[test]
    fn error_bodies_of_several_servers_are_understood() {
        for (body, message, code) in [
            (json!({"error": {"message": "no", "type": "x", "code": "model_not_found"}}), "no", "model_not_found"),
            (json!({"error": {"message": "no", "type": "server_error", "code": null}}), "no", "server_error"),
            (json!({"error": "model 'x' not found"}), "model 'x' not found", ""),
            (json!({"detail": "Not Found"}), "Not Found", ""),
            (json!({"object": "error", "message": "too long", "code": 400}), "too long", "400"),
        ] {
            let trouble = Trouble::read(body.to_string().as_bytes()).unwrap();
            assert_eq!((trouble.message.as_str(), trouble.code.as_str()), (message, code), "{body}");
        }
        for body in ["", "<html></html>", "{}", "[]", "5"] {
            assert_eq!(Trouble::read(body.as_bytes()), None, "{body}");
        }
    }
}
