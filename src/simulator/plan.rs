//! What is written for a request, and when: the bytes of each scenario (the head, the events, their line ends), without a socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::Accepted;
use super::fault::Fault;
use super::interactions::{self, Telling};
use super::refusal::Refusal;
use super::{Options, script};

/// One thing to do for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait until so long after the request was complete.
    Until(Duration),
    /// Write this, in one write.
    Write(Vec<u8>),
    /// Never go on.
    Hang,
    /// Reset the connection.
    Reset,
}

/// What is asked, as far as the answer depends on it.
pub(super) struct Question<'a> {
    pub(super) number: u32,
    pub(super) model: &'a str,
    pub(super) sse: bool,
    /// Whether it is the Interactions API that is asked.
    pub(super) interacts: bool,
    pub(super) request: &'a Accepted,
}

/// The steps of an answer in the stream.
pub(super) fn answer(options: &Options, fault: Fault, question: &Question<'_>) -> Vec<Step> {
    let mut rng = fastrand::Rng::with_seed(options.seed ^ u64::from(question.number));
    let mut tokens = script::tokens(script::answer(options.language, question.request.caller_turns), &mut rng);
    let whole = tokens.len();
    if fault == Fault::MaxTokens {
        tokens.truncate(whole * 3 / 5);
    }
    tokens.truncate(question.request.max_output_tokens.unwrap_or(whole).min(whole));
    let cut = tokens.len() < whole;
    let first = match fault {
        Fault::HeadFirst(Some(delay)) => delay,
        _ => options.first_token,
    };
    let at = |n: usize| first + Duration::from_secs_f64(n as f64 / options.tokens_per_second.max(0.001));

    let stamp = format!("sim-{:08x}", rng.u32(..));
    let mut out = Writer::new(fault, question, &stamp);
    match fault {
        Fault::Hang => return vec![Step::Hang],
        Fault::Reset => return vec![Step::Reset],
        Fault::HeadFirst(_) => {}
        _ => out.until(first),
    }
    out.head();
    out.until(first);
    let text = |token: &str| json!({"content": {"parts": [{"text": token}], "role": "model"}, "index": 0});
    let thought = || json!({"content": {"parts": [{"text": "Looking into the script…", "thought": true}], "role": "model"}, "index": 0});
    let calls = calls(options, fault, question);
    let end_call = || json!({"functionCall": {"name": "end_call", "args": {}}, "thoughtSignature": "EjQKMgEM"});
    let fault = match fault {
        Fault::EndCall | Fault::EndCallOnly if !question.request.functions.iter().any(|name| name == "end_call") => {
            Fault::None
        }
        other => other,
    };
    let half = tokens.len() / 2;
    let spoken = match fault {
        Fault::PromptBlocked => {
            out.event(json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}));
            return out.end();
        }
        Fault::Empty => {
            out.candidate(thought());
            0
        }
        Fault::TextThenCall if !calls.is_empty() => half,
        _ if !calls.is_empty() => 0,
        Fault::EndCallOnly => {
            out.candidate(json!({"content": {"parts": [end_call()], "role": "model"}, "index": 0}));
            0
        }
        Fault::ThoughtFirst => {
            out.candidate(thought());
            tokens.len()
        }
        Fault::SafetyAfterText => half,
        Fault::EndsEarly | Fault::ResetInStream => 2.min(tokens.len()),
        Fault::ErrorInStream => 1.min(tokens.len()),
        _ => tokens.len(),
    };
    let mut stalled = Duration::ZERO;
    for (n, token) in tokens[..spoken].iter().enumerate() {
        if let (Fault::Stall(stall), true) = (fault, n == half) {
            stalled = stall;
        }
        out.until(at(n) + stalled);
        out.candidate(text(token));
    }
    if !calls.is_empty() {
        out.candidate(json!({"content": {"parts": calls, "role": "model"}, "index": 0}));
    }
    let finish = match fault {
        Fault::EndsEarly => return out.end(),
        Fault::ResetInStream => {
            out.steps.push(Step::Reset);
            return out.steps;
        }
        Fault::ErrorInStream => {
            out.error();
            return out.end();
        }
        Fault::SafetyAfterText => json!({"finishReason": "SAFETY", "index": 0}),
        Fault::EndCall => {
            json!({"content": {"parts": [end_call()], "role": "model"}, "finishReason": "STOP", "index": 0})
        }
        Fault::BareFinish => json!({"finishReason": "STOP", "index": 0}),
        _ => json!({"content": {"parts": [{"text": "", "thoughtSignature": "EjQKMgEM"}], "role": "model"},
            "finishReason": if cut { "MAX_TOKENS" } else { "STOP" }, "index": 0}),
    };
    out.last(finish, spoken);
    out.end()
}

/// The parts that call functions; none in a request that brings their results.
fn calls(options: &Options, fault: Fault, question: &Question<'_>) -> Vec<Value> {
    let how_many = match fault {
        Fault::FunctionCall | Fault::TextThenCall | Fault::CallWithoutId if !question.request.function_result => 1,
        Fault::TwoCalls if !question.request.function_result => 2,
        Fault::CallsWithoutEnd => 1,
        _ => 0,
    };
    let each = options.calls.iter().cycle().take(how_many).enumerate();
    each.map(|(n, (name, args))| {
        let mut call = json!({"functionCall": {"name": name, "args": args}});
        if fault != Fault::CallWithoutId {
            call["functionCall"]["id"] = format!("call-{}-{}", question.number, n + 1).into();
        }
        if n == 0 {
            call["thoughtSignature"] = "EjQKMgEM".into();
        }
        call
    })
    .collect()
}

struct Writer<'a> {
    steps: Vec<Step>,
    question: &'a Question<'a>,
    stamp: &'a str,
    line_end: &'static str,
    field: &'static str,
    write_bytes: usize,
    events: usize,
    telling: Option<Telling>,
}

impl<'a> Writer<'a> {
    fn new(fault: Fault, question: &'a Question<'a>, stamp: &'a str) -> Self {
        Self {
            steps: Vec::new(),
            question,
            stamp,
            line_end: if fault == Fault::LineFeeds { "\n" } else { "\r\n" },
            field: if fault == Fault::NoSpace { "data:" } else { "data: " },
            write_bytes: if fault == Fault::SevenByteWrites { 7 } else { usize::MAX },
            events: 0,
            telling: question.interacts.then(Telling::default),
        }
    }

    fn until(&mut self, at: Duration) {
        self.steps.push(Step::Until(at));
    }

    fn write(&mut self, bytes: &[u8]) {
        self.steps.extend(bytes.chunks(self.write_bytes).map(|piece| Step::Write(piece.to_vec())));
    }

    fn head(&mut self) {
        let kind = if self.question.sse { "text/event-stream" } else { "application/json; charset=UTF-8" };
        self.write(
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")
                .as_bytes(),
        );
    }

    /// One chunk of the body, in one write unless told otherwise.
    fn chunk(&mut self, bytes: &[u8]) {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk);
    }

    fn candidate(&mut self, candidate: Value) {
        let mut event = json!({"candidates": [candidate]});
        if self.events == 0 {
            event["usageMetadata"] = self.usage(0);
        }
        self.event(event);
    }

    fn last(&mut self, candidate: Value, tokens: usize) {
        let usage = self.usage(tokens);
        self.event(json!({"candidates": [candidate], "usageMetadata": usage}));
    }

    fn event(&mut self, mut event: Value) {
        event["modelVersion"] = self.question.model.into();
        event["responseId"] = self.stamp.into();
        if let Some(telling) = &mut self.telling {
            self.events += 1;
            let all = telling.events(&event);
            return all.iter().for_each(|event| self.named(event));
        }
        let text = match (self.question.sse, self.events) {
            (true, _) => format!("{}{event}{end}{end}", self.field, end = self.line_end),
            (false, 0) => format!("[{event}"),
            (false, _) => format!("{end},{end}{event}", end = self.line_end),
        };
        self.events += 1;
        self.chunk(text.as_bytes());
    }

    /// An event of the Interactions API.
    fn named(&mut self, event: &Value) {
        let (name, end) = (event["event_type"].as_str().unwrap_or_default(), self.line_end);
        self.chunk(format!("event: {name}{end}{}{event}{end}{end}", self.field).as_bytes());
    }

    fn error(&mut self) {
        match self.telling {
            Some(_) => self.named(&interactions::error("service_unavailable", "The model is overloaded.")),
            None => self.chunk(Refusal::overloaded().body.as_bytes()),
        }
    }

    /// 4 letters are about a token; a second of sound is 32.
    fn usage(&self, tokens: usize) -> Value {
        let request = self.question.request;
        let text = request.text_chars.div_ceil(4);
        let audio = request.audio.iter().map(|sound| sound.duration.as_secs_f64() * 32.0).sum::<f64>().round() as usize;
        let mut usage = json!({"promptTokenCount": text + audio, "totalTokenCount": text + audio + tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": text}, {"modality": "AUDIO", "tokenCount": audio}]});
        if tokens > 0 {
            usage["candidatesTokenCount"] = tokens.into();
        }
        usage
    }

    fn end(mut self) -> Vec<Step> {
        if self.telling.as_ref().is_some_and(|telling| telling.completed) {
            self.chunk(format!("event: done{end}{}[DONE]{end}{end}", self.field, end = self.line_end).as_bytes());
        }
        if !self.question.sse {
            self.chunk(if self.events == 0 { b"[]" } else { b"\r\n]" });
        }
        self.write(b"0\r\n\r\n");
        self.steps
    }
}
