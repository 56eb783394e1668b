//! Understanding an answer while it arrives: text, calls in pieces, thoughts that must not be spoken, and how it ends.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::mpsc;

use super::response::{CallPiece, Chunk, Trouble};
use crate::http::sse::Decoder;
use crate::model::{Delta, Event, FaultClass, Finish, Function, FunctionCall, Mark, Stage, Usage};

/// Longest event of an answer.
const LONGEST_EVENT_BYTES: usize = 256 * 1024;
/// Most calls of one answer.
const MOST_CALLS: usize = 32;
/// Longest arguments of a call.
const LONGEST_ARGUMENTS_BYTES: usize = 64 * 1024;
/// What encloses thoughts in the text of some local models.
const THOUGHTS: (&str, &str) = ("<think>", "</think>");

/// Numbers of the calls that came without an id.
static CALLS: AtomicU32 = AtomicU32::new(1);

/// What went wrong: its kind, the code of an error inside the answer, and what was said of it.
pub(super) type Wrong = (FaultClass, Option<u16>, String);

/// An answer so far.
pub(super) struct Reading<'a> {
    functions: &'a [Function],
    out: &'a mpsc::Sender<Event>,
    pub(super) stage: Stage,
    decoder: Decoder,
    events: usize,
    bytes: usize,
    thoughts: Thoughts,
    calls: Vec<Building>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    refuses: bool,
    /// `[DONE]` was seen.
    pub(super) done: bool,
}

/// A call whose pieces arrive.
#[derive(Default)]
struct Building {
    index: usize,
    id: String,
    name: String,
    arguments: String,
}

impl<'a> Reading<'a> {
    pub(super) fn new(functions: &'a [Function], out: &'a mpsc::Sender<Event>) -> Self {
        Self {
            functions,
            out,
            stage: Stage::Waiting,
            decoder: Decoder::new(LONGEST_EVENT_BYTES),
            events: 0,
            bytes: 0,
            thoughts: Thoughts::default(),
            calls: Vec::new(),
            finish: None,
            usage: None,
            refuses: false,
            done: false,
        }
    }

    async fn send(&self, event: Event) -> Result<(), Wrong> {
        self.out.send(event).await.map_err(|_| (FaultClass::Cancelled, None, "nobody listens".into()))
    }

    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.bytes += bytes.len();
        let pushed = self.decoder.push(bytes);
        while let Some(text) = self.decoder.poll() {
            self.event(&text).await?;
        }
        pushed.map_err(|error| (FaultClass::Protocol, None, error.to_string()))
    }

    async fn event(&mut self, text: &[u8]) -> Result<(), Wrong> {
        if text.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk = Chunk::read(text).map_err(|error| {
            let place = format!("an event is no chunk ({:?} error in column {})", error.classify(), error.column());
            (FaultClass::Protocol, None, place)
        })?;
        self.chunk(&chunk).await
    }

    async fn chunk(&mut self, chunk: &Chunk) -> Result<(), Wrong> {
        self.events += 1;
        if let (Some(trouble), None) = (chunk.error(), &self.finish) {
            return Err(in_answer(trouble));
        }
        self.refuses |= chunk.refuses();
        let text = self.thoughts.without(chunk.text());
        self.say(text).await?;
        for piece in chunk.calls() {
            self.piece(piece)?;
        }
        self.usage = chunk.usage().or(self.usage);
        self.finish = chunk.finish().or(self.finish.take());
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<(), Wrong> {
        let spoke = self.stage == Stage::Answering;
        // White space before the first word is not an answer yet.
        let text = if spoke { text } else { text.trim_start().to_owned() };
        if text.is_empty() {
            return Ok(());
        }
        self.stage = Stage::Answering;
        if !spoke {
            self.send(Event::Mark(Mark::FirstToken, Instant::now())).await?;
        }
        self.send(Event::Delta(Delta::Text(text))).await
    }

    /// Pieces belong together by their index; a server that gives none sends each call in one piece.
    fn piece(&mut self, piece: &CallPiece) -> Result<(), Wrong> {
        let too_much = || (FaultClass::Protocol, None, "calls without end".to_owned());
        let at = match piece.index {
            Some(index) => self.calls.iter().position(|call| call.index == index),
            None => None,
        };
        let at = match at {
            Some(at) => at,
            None if self.calls.len() == MOST_CALLS => return Err(too_much()),
            None => {
                let index = piece.index.unwrap_or(usize::MAX - self.calls.len());
                self.calls.push(Building { index, ..Building::default() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        if let Some(id) = piece.id.as_ref().filter(|id| !id.is_empty()) {
            call.id.clone_from(id);
        }
        let Some(function) = &piece.function else { return Ok(()) };
        if call.name.is_empty() {
            call.name.push_str(function.name.as_deref().unwrap_or_default());
        }
        match &function.arguments {
            Some(Value::String(part)) => call.arguments.push_str(part),
            Some(object @ Value::Object(_)) => call.arguments = object.to_string(),
            _ => {}
        }
        if call.arguments.len() > LONGEST_ARGUMENTS_BYTES {
            return Err(too_much());
        }
        Ok(())
    }

    /// The body has ended.
    pub(super) async fn end(mut self) -> Result<Finish, (Wrong, Stage)> {
        match self.finished().await {
            Ok(finish) => Ok(finish),
            Err(wrong) => Err((wrong, self.stage)),
        }
    }

    async fn finished(&mut self) -> Result<Finish, Wrong> {
        // The last event may lack its blank line, or its second half.
        if let Some(text) = self.decoder.finish()
            && (text.trim_ascii() == b"[DONE]" || Chunk::read(&text).is_ok())
        {
            self.event(&text).await?;
        }
        let rest = self.thoughts.rest();
        self.say(rest).await?;
        let spoke = self.stage == Stage::Answering;
        let wrong = |class, note: &str| Err((class, None, note.to_owned()));
        let blocked = self.refuses || self.finish == Some(Finish::Safety);
        if blocked && !spoke {
            return wrong(FaultClass::Blocked("content_filter".into()), "the answer was withheld for its content");
        }
        let finish = match self.finish.take() {
            Some(finish) => finish,
            None if self.done && (spoke || !self.calls.is_empty()) => Finish::Stop,
            None if self.done => return wrong(FaultClass::Empty, "it finished without text"),
            None if self.events == 0 && self.bytes > 0 => {
                return wrong(FaultClass::Protocol, &format!("no event in {} bytes", self.bytes));
            }
            None => return wrong(FaultClass::Truncated, "the answer ended without finish_reason"),
        };
        let calls = self.called();
        let known = calls.iter().any(|call| self.functions.iter().any(|function| function.name == call.name));
        if !spoke && !known {
            return match calls.first() {
                Some(call) => wrong(FaultClass::Empty, &format!("it called {}, which nobody offered", call.name)),
                None => wrong(FaultClass::Empty, "it finished without text"),
            };
        }
        let calls = calls.into_iter().map(|call| Event::Delta(Delta::Call(call)));
        let full = Event::Mark(Mark::FullResponse, Instant::now());
        let usage = self.usage.map(|usage| Event::Delta(Delta::Usage(usage)));
        let last = [Some(full), usage, Some(Event::Delta(Delta::Finished(finish.clone())))];
        for event in calls.chain(last.into_iter().flatten()) {
            self.send(event).await?;
        }
        Ok(finish)
    }

    /// The calls whose arguments are JSON.
    fn called(&mut self) -> Vec<FunctionCall> {
        let calls = std::mem::take(&mut self.calls).into_iter();
        calls
            .filter_map(|Building { id, name, arguments, .. }| {
                let args = match arguments.trim() {
                    "" => Value::Null,
                    text => match serde_json::from_str::<Value>(text) {
                        Ok(args) => args,
                        Err(_) => {
                            tracing::warn!(name, "the arguments of a call are not JSON; the call is left out");
                            return None;
                        }
                    },
                };
                let id = match id.is_empty() {
                    true => format!("offhook-chat-{}", CALLS.fetch_add(1, Ordering::Relaxed)),
                    false => id,
                };
                Some(FunctionCall { id, name, args, raw: Value::Null })
            })
            .collect()
    }
}

/// An error inside a successful response.
fn in_answer(Trouble { message, code }: Trouble) -> Wrong {
    let status = code.parse().ok();
    let class = match (status, code.as_str()) {
        (_, "content_filter" | "content_policy_violation") => FaultClass::Blocked(code),
        (Some(429), _) | (_, "rate_limit_exceeded") => FaultClass::RateLimited { retry_after: None },
        (Some(400..=499), _) | (_, "invalid_request_error") => FaultClass::Config,
        _ => FaultClass::Overloaded,
    };
    (class, status, message)
}

/// Takes thoughts out of the text of models that write them into it: what stands between marks at the very beginning.
#[derive(Default)]
struct Thoughts {
    place: Place,
    /// What may be a mark, or the beginning of one.
    held: String,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    After,
}

impl Thoughts {
    fn without(&mut self, text: &str) -> String {
        if self.place == Place::After {
            return text.to_owned();
        }
        self.held.push_str(text);
        if self.place == Place::Before {
            let begun = self.held.trim_start();
            if begun.starts_with(THOUGHTS.0) {
                self.place = Place::Within;
            } else if !THOUGHTS.0.starts_with(begun) {
                self.place = Place::After;
                return std::mem::take(&mut self.held);
            }
        }
        if self.place == Place::Within {
            if let Some(end) = self.held.find(THOUGHTS.1) {
                self.place = Place::After;
                let text = self.held.split_off(end + THOUGHTS.1.len());
                self.held.clear();
                return text.trim_start().to_owned();
            }
            // The end mark may be cut in two: its letters are ASCII, so that what is dropped ends between two characters.
            let keep = self.held.char_indices().rev().nth(THOUGHTS.1.len()).map_or(0, |(at, _)| at);
            let mark = THOUGHTS.0.len() + self.held.len() - self.held.trim_start().len();
            if keep > mark {
                self.held.replace_range(mark..keep, "");
            }
        }
        String::new()
    }

    /// What was held back and is no mark.
    fn rest(&mut self) -> String {
        match self.place {
            Place::Before => std::mem::take(&mut self.held),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::END_CALL;

    /// What a body comes to, cut at a place: how it ended, what was said, what was called.
    async fn read_cut(body: &str, cut: usize) -> (Result<Finish, FaultClass>, String, Vec<(String, Value)>) {
        let (out, mut events) = mpsc::channel(200);
        let functions = [END_CALL];
        let mut reading = Reading::new(&functions, &out);
        let (first, second) = body.as_bytes().split_at(cut);
        let mut result = Ok(());
        for part in [first, second] {
            if result.is_ok() {
                result = reading.take(part).await;
            }
        }
        let result = match result {
            Ok(()) => reading.end().await.map_err(|((class, ..), _)| class),
            Err((class, ..)) => Err(class),
        };
        drop(out);
        let (mut text, mut calls) = (String::new(), Vec::new());
        while let Some(event) = events.recv().await {
            match event {
                Event::Delta(Delta::Text(more)) => text += &more,
                Event::Delta(Delta::Call(call)) => calls.push((call.name, call.args)),
                _ => {}
            }
        }
        (result, text, calls)
    }

    async fn read(body: &str) -> (Result<Finish, FaultClass>, String, Vec<(String, Value)>) {
        let whole = read_cut(body, 0).await;
        for cut in 1..body.len() {
            let cut_anywhere = read_cut(body, cut).await;
            assert_eq!(cut_anywhere, whole, "cut at {cut} of {body}");
        }
        whole
    }

    fn stream(chunks: &[&str]) -> String {
        chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
    }

    const SURE: &str = r#"{"choices":[{"delta":{"content":"בטח, "}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

    #[tokio::test]
    async fn an_answer_is_the_same_wherever_it_is_cut() {
        let (result, text, _) = read(&stream(&[SURE, SURE, STOP, "[DONE]"])).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), "בטח, בטח, "));
        let (result, text, _) = read(&stream(&[SURE, "[DONE]"])).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), "בטח, "));
        let unfinished = stream(&[SURE]) + "data: " + STOP;
        assert_eq!(read(&unfinished).await.0, Ok(Finish::Stop));
        assert_eq!(read(&stream(&[SURE])).await.0, Err(FaultClass::Truncated));
    }

    #[tokio::test]
    async fn calls_arrive_in_pieces_by_their_index() {
        let begin = |index: usize, id: &str| {
            format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index},"id":"{id}","type":"function","function":{{"name":"end_call","arguments":""}}}}]}}}}]}}"#
            )
        };
        let piece = |index: usize, text: &str| {
            let text = Value::from(text);
            format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index},"function":{{"arguments":{text}}}}}]}}}}]}}"#
            )
        };
        let end = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
        let chunks =
            [begin(0, "a"), piece(0, "{\"why\":"), begin(1, "b"), piece(1, "{}"), piece(0, "\"בטח\"}"), end.into()];
        let body = stream(&chunks.each_ref().map(String::as_str));
        let (result, text, calls) = read(&body).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), ""));
        let expected = [
            ("end_call".to_owned(), serde_json::json!({"why": "בטח"})),
            ("end_call".to_owned(), serde_json::json!({})),
        ];
        assert_eq!(calls, expected);
    }

    #[tokio::test]
    async fn a_call_whose_arguments_are_not_json_or_that_nobody_offered_is_no_answer() {
        let call = |name: &str, arguments: &str| {
            let chunk = serde_json::json!({"choices": [{"delta": {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]},
                "finish_reason": "tool_calls"}]});
            stream(&[&chunk.to_string()])
        };
        assert_eq!(read(&call("end_call", "{\"why")).await.0, Err(FaultClass::Empty));
        assert_eq!(read(&call("open_door", "{}")).await.0, Err(FaultClass::Empty));
        assert_eq!(read(&call("end_call", "")).await.2, [("end_call".to_owned(), Value::Null)]);
    }

    #[tokio::test]
    async fn thoughts_between_marks_are_not_spoken() {
        let pieces = ["\\n<th", "ink>What does ", "he want?</thi", "nk>\\n\\nSure, ", "it left."];
        let chunks: Vec<String> =
            pieces.iter().map(|piece| SURE.replace("בטח, ", piece)).chain([STOP.into()]).collect();
        let body = stream(&chunks.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(read(&body).await, (Ok(Finish::Stop), "Sure, it left.".into(), vec![]));
        let less = stream(&[&SURE.replace("בטח, ", "<t"), STOP]);
        assert_eq!(read(&less).await.1, "<t");
        let only = stream(&[&SURE.replace("בטח, ", "<think>hm"), STOP]);
        assert_eq!(read(&only).await.0, Err(FaultClass::Empty));
    }

    #[tokio::test]
    async fn every_other_end_has_its_class() {
        for (chunks, class) in [
            (vec![STOP], FaultClass::Empty),
            (vec!["[DONE]"], FaultClass::Empty),
            (
                vec![r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#],
                FaultClass::Blocked("content_filter".into()),
            ),
            (
                vec![r#"{"choices":[{"delta":{"refusal":"I cannot"},"finish_reason":"stop"}]}"#],
                FaultClass::Blocked("content_filter".into()),
            ),
            (vec![r#"{"error":{"message":"busy","code":503}}"#], FaultClass::Overloaded),
            (
                vec![r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#],
                FaultClass::RateLimited { retry_after: None },
            ),
            (vec![r#"{"choices": 5}"#], FaultClass::Protocol),
        ] {
            assert_eq!(read(&stream(&chunks)).await.0, Err(class), "{chunks:?}");
        }
        assert_eq!(read("<html>busy</html>").await.0, Err(FaultClass::Protocol));
        assert_eq!(read("").await.0, Err(FaultClass::Truncated));
        let whole = r#"{"choices":[{"message":{"content":"Sure."},"finish_reason":"stop"}]}"#;
        assert_eq!(read(whole).await, (Ok(Finish::Stop), "Sure.".into(), vec![]));
    }
}
