//! What is asked, and what comes back of it while the model is still writing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::config::Price;
use crate::pcm::wav::WavFile;

/// One request for an answer.
#[derive(Clone)]
pub struct Ask {
    /// Who the box is and what it knows.
    pub system: Arc<str>,
    /// The conversation so far; the last entry is the caller's.
    pub contents: Vec<Content>,
    /// What the model may want to be done.
    pub functions: Arc<[Function]>,
}

/// Something that the model may want to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: Cow<'static, str>,
    /// When the model should want it.
    pub description: Cow<'static, str>,
    /// What it is to be told: a JSON Schema of type "object". `None`: nothing.
    pub parameters: Option<Value>,
}

/// The call is to end.
pub const END_CALL: Function = Function {
    name: Cow::Borrowed("end_call"),
    description: Cow::Borrowed(
        "Hangs up when what you say in the same answer has been heard. Call it only when the caller has said goodbye, or has made \
         clear that there is nothing more to talk about; say a short goodbye in the same answer.",
    ),
    parameters: None,
};

/// A function as the model wants it called. Not `Debug`: the arguments hold what people said.
#[derive(Clone, PartialEq, Eq)]
pub struct FunctionCall {
    /// Its name among the calls of the conversation: given by the interface, or by us where it gives none.
    pub id: String,
    /// The function's name; it need not be one that was offered.
    pub name: String,
    /// Its arguments: a JSON object, `Null` for none.
    pub args: Value,
    /// The call as the interface wants it back, with what it signed; `Null` where that is the same as the rest.
    pub raw: Value,
}

impl std::fmt::Debug for FunctionCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionCall").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of a function. Not `Debug`: it holds customer data.
#[derive(Clone)]
pub struct FunctionResult {
    /// The call that it answers.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// What the model is told: a JSON object, `{"output": …}` or `{"error": …}`.
    pub response: Value,
}

/// One contribution to the conversation. Not `Debug`: it holds what people said.
#[derive(Clone)]
pub enum Content {
    /// The caller.
    Caller {
        /// What was said, as whole WAV files.
        audio: Vec<WavFile>,
        /// Text beside it: what a recogniser heard, or facts about the caller.
        text: Option<String>,
    },
    /// The model, as far as the caller heard it.
    Model {
        /// What was said.
        text: String,
    },
    /// Functions that the model wanted called, in the turn that is being answered.
    Calls {
        /// What it said before them in the same answer.
        text: String,
        /// In their order.
        calls: Vec<FunctionCall>,
    },
    /// What came of them, in the same order.
    Results(Vec<FunctionResult>),
}

/// What arrives while a request runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A moment for the timeline.
    Mark(Mark, Instant),
    /// A piece of the answer.
    Delta(Delta),
}

/// Moments of a request. Each is given once, also when a second model had to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The connection stands and the request's bytes go to the socket.
    RequestSent,
    /// The first text arrived.
    FirstToken,
    /// The answer is whole.
    FullResponse,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Text to be spoken; cut anywhere, never empty.
    Text(String),
    /// The model wants something done.
    Call(FunctionCall),
    /// What it cost; at most once, before the end.
    Usage(Usage),
    /// The end; the last thing of a request that did not fail.
    Finished(Finish),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model had nothing more to say.
    Stop,
    /// The longest answer is reached: only what is before the last sentence end can be spoken.
    MaxTokens,
    /// The rest was withheld for its content.
    Safety,
    /// Another reason, in the words of the interface.
    Other(String),
}

/// What a request cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Everything that was sent, sound included.
    pub prompt: u32,
    /// The part of it that was sound.
    pub audio: u32,
    /// The part of it that the server remembered.
    pub cached: u32,
    /// The answer.
    pub answer: u32,
    /// Thinking that is not part of the answer.
    pub thoughts: u32,
    /// What that comes to by the configured prices, in millionths of their currency; 0: not known.
    pub micros: u64,
}

impl Usage {
    /// Adds what another request cost.
    pub fn add(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.audio = self.audio.saturating_add(other.audio);
        self.cached = self.cached.saturating_add(other.cached);
        self.answer = self.answer.saturating_add(other.answer);
        self.thoughts = self.thoughts.saturating_add(other.thoughts);
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The same with what it comes to. What was remembered is taken from the text first, since sound is the newest part of a request.
    #[must_use]
    pub fn priced(self, price: &Price) -> Self {
        let cached = self.cached.min(self.prompt);
        let audio = self.audio.min(self.prompt - cached);
        let text = self.prompt - cached - audio;
        let output = f64::from(self.answer) + f64::from(self.thoughts);
        // A price a million is a millionth of it each.
        let micros = f64::from(text) * price.input_per_million
            + f64::from(audio) * price.audio_per_million
            + f64::from(cached) * price.cached_per_million
            + output * price.output_per_million;
        Self { micros: micros.round() as u64, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_costs_what_its_kind_does_and_is_counted_once() {
        let price = Price {
            input_per_million: 0.1,
            audio_per_million: 0.3,
            cached_per_million: 0.01,
            output_per_million: 0.4,
            ..Price::default()
        };
        let usage = Usage { prompt: 1000, audio: 300, cached: 200, answer: 40, thoughts: 10, micros: 0 };
        assert_eq!(usage.priced(&price).micros, 50 + 90 + 2 + 20);
        assert_eq!(usage.priced(&Price::default()).micros, 0);
        let strange = Usage { prompt: 10, audio: 50, cached: 50, ..Usage::default() };
        assert_eq!(strange.priced(&Price { cached_per_million: 1.0, ..price }).micros, 10);
    }

    #[test]
    fn what_requests_cost_adds_up() {
        let usage = Usage { prompt: 1, audio: 2, cached: 3, answer: 4, thoughts: 5, micros: 6 };
        let mut sum = Usage { prompt: u32::MAX, ..usage };
        sum.add(usage);
        assert_eq!(sum, Usage { prompt: u32::MAX, audio: 4, cached: 6, answer: 8, thoughts: 10, micros: 12 });
    }
}
