//! One request to one model: sends it, reads the answer, sorts what goes wrong.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::interactions::Steps;
use super::response::{ErrorStatus, Response};
use crate::config::{GeminiApi, Price};
use crate::http::sse::Decoder;
use crate::http::{RequestBody, Stamped, chain};
use crate::model::{Delta, Event, Fault, FaultClass, Finish, Function, Mark, Stage, Usage};
use crate::privacy::Secret;

/// Longest event of an answer. Text comes in pieces of some hundred bytes.
const LONGEST_EVENT_BYTES: usize = 256 * 1024;
/// Longest error body that is read.
const LONGEST_ERROR_BYTES: usize = 64 * 1024;
/// After the finish, how long the end of the body is waited for, so that the connection can be used again.
const DRAIN: Duration = Duration::from_millis(250);

/// Numbers of the calls that came without an id.
static CALLS: AtomicU32 = AtomicU32::new(1);

/// Where an answer goes.
pub(super) struct Answer {
    pub(super) out: mpsc::Sender<Event>,
    pub(super) stage: Stage,
}

impl Answer {
    pub(super) async fn send(&self, event: Event) -> Result<(), FaultClass> {
        self.out.send(event).await.map_err(|_| FaultClass::Cancelled)
    }
}

/// What every fault of a request says about it.
pub(super) struct Asked<'a> {
    pub(super) model: &'a Arc<str>,
    /// What is spoken with it.
    pub(super) api: GeminiApi,
    pub(super) key: &'a Secret,
    /// What the model was offered.
    pub(super) functions: &'a [Function],
    /// What tokens cost.
    pub(super) price: Price,
    /// Whether it was logged which version answers.
    pub(super) introduced: Option<&'a Once>,
}

impl<'a> Asked<'a> {
    pub(super) fn to(model: &'a Arc<str>, key: &'a Secret) -> Self {
        Self { model, api: GeminiApi::default(), key, functions: &[], price: Price::default(), introduced: None }
    }

    /// Says once which version of the model answers, and what its maker says of its future.
    fn introduce(&self, response: &Response) {
        let (Some(introduced), Some(version)) = (self.introduced, response.model_version()) else { return };
        introduced.call_once(|| match response.model_status() {
            Some([stage, retires, message]) => {
                tracing::warn!(model = %self.model, version, stage, retires, message, "the model answers, and its maker says this of its future");
            }
            None => tracing::info!(model = %self.model, version, "the model answers"),
        });
    }

    pub(super) fn fault(&self, class: FaultClass, stage: Stage, http: Option<u16>, note: &str) -> Fault {
        Fault { class, stage, model: self.model.clone(), http, note: Fault::note_without(self.key, note) }
    }

    pub(super) fn network(&self, stage: Stage, error: reqwest::Error) -> Fault {
        let class = if error.is_timeout() { FaultClass::Timeout } else { FaultClass::Network };
        self.fault(class, stage, None, &chain(&error.without_url()))
    }

    /// The fault that a status and its body speak of.
    pub(super) fn refusal(&self, stage: Stage, status: u16, error: Option<&ErrorStatus>, body_bytes: usize) -> Fault {
        let class = match (status, error.and_then(ErrorStatus::reason)) {
            (400, Some("API_KEY_INVALID" | "API_KEY_EXPIRED")) | (401 | 403, _) => FaultClass::Auth,
            (404, _) => FaultClass::Gone,
            (408 | 504, _) => FaultClass::Timeout,
            (429, _) => FaultClass::RateLimited { retry_after: error.and_then(ErrorStatus::retry_after) },
            (500..=599, _) => FaultClass::Overloaded,
            (300..=399, _) => FaultClass::Protocol,
            _ => FaultClass::Config,
        };
        match error.and_then(|error| error.message.as_deref()) {
            Some(message) => self.fault(class, stage, Some(status), message),
            None => self.fault(class, stage, Some(status), &format!("no error message in {body_bytes} bytes")),
        }
    }
}

/// Reads the refusal out of a response that is none of success.
pub(super) async fn refused(asked: &Asked<'_>, mut response: reqwest::Response) -> Fault {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // An error body that does not come whole is as good as none.
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > LONGEST_ERROR_BYTES {
            break;
        }
    }
    asked.refusal(Stage::Request, status, ErrorStatus::read(&body).as_ref(), body.len())
}

/// Sends a request and passes its answer on.
pub(super) async fn run(
    asked: &Asked<'_>,
    request: reqwest::RequestBuilder,
    body: RequestBody,
    answer: &mut Answer,
) -> Result<Finish, Fault> {
    let out = answer.out.clone();
    // It is the first event of a request, so there is room for it.
    let stamped = Stamped::new(body, move || drop(out.try_send(Event::Mark(Mark::RequestSent, Instant::now()))));
    let mut response = request
        .body(reqwest::Body::wrap(stamped))
        .send()
        .await
        .map_err(|error| asked.network(Stage::Request, error))?;
    if !response.status().is_success() {
        return Err(refused(asked, response).await);
    }
    answer.stage = Stage::Waiting;
    let mut reading = Reading::new(asked.api);
    loop {
        let bytes = match reading.finish {
            None => response.chunk().await,
            // Nothing that happens after the finish is a fault.
            Some(_) => tokio::time::timeout(DRAIN, response.chunk()).await.unwrap_or(Ok(None)).or(Ok(None)),
        };
        match bytes.map_err(|error| asked.network(answer.stage, error))? {
            Some(bytes) => reading.take(asked, answer, &bytes).await?,
            None => return reading.end(asked, answer).await,
        }
    }
}

/// What was understood of an answer so far.
struct Reading {
    decoder: Decoder,
    /// Where the events are those of an interaction: what they have come to.
    steps: Option<Steps>,
    events: usize,
    bytes: usize,
    finish: Option<Finish>,
    usage: Option<Usage>,
    /// The last function that was called, and whether any was one that was offered.
    called: Option<(String, bool)>,
}

impl Reading {
    fn new(api: GeminiApi) -> Self {
        Self {
            decoder: Decoder::new(LONGEST_EVENT_BYTES),
            steps: (api == GeminiApi::Interactions).then(Steps::default),
            events: 0,
            bytes: 0,
            finish: None,
            usage: None,
            called: None,
        }
    }
}

impl Reading {
    async fn take(&mut self, asked: &Asked<'_>, answer: &mut Answer, bytes: &[u8]) -> Result<(), Fault> {
        self.bytes += bytes.len();
        let pushed = self.decoder.push(bytes);
        while let Some(text) = self.decoder.poll() {
            let response = self
                .response(&text)
                .map_err(|error| asked.fault(FaultClass::Protocol, answer.stage, None, &not_json(&error)))?;
            self.event(asked, answer, response).await?;
        }
        pushed.map_err(|error| asked.fault(FaultClass::Protocol, answer.stage, None, &error.to_string()))
    }

    fn response(&mut self, text: &[u8]) -> Result<Response, serde_json::Error> {
        match &mut self.steps {
            Some(steps) => steps.read(text),
            None => Response::read(text),
        }
    }

    async fn event(&mut self, asked: &Asked<'_>, answer: &mut Answer, response: Response) -> Result<(), Fault> {
        self.events += 1;
        asked.introduce(&response);
        if let (Some(error), None) = (&response.error, &self.finish) {
            return Err(asked.refusal(answer.stage, error.code.unwrap_or(500), Some(error), 0));
        }
        if let Some(reason) = response.blocked() {
            let note = "the request was refused for its content";
            return Err(asked.fault(FaultClass::Blocked(reason.to_owned()), answer.stage, None, note));
        }
        let text = response.text();
        let spoke = answer.stage == Stage::Answering;
        // White space before the first word is not an answer yet.
        let speaks = if spoke { !text.is_empty() } else { !text.trim().is_empty() };
        if speaks {
            let nobody = |class| asked.fault(class, Stage::Answering, None, "nobody listens");
            answer.stage = Stage::Answering;
            if !spoke {
                answer.send(Event::Mark(Mark::FirstToken, Instant::now())).await.map_err(nobody)?;
            }
            answer.send(Event::Delta(Delta::Text(text))).await.map_err(nobody)?;
        }
        for mut call in response.functions() {
            if call.id.is_empty() {
                call.id = format!("offhook-{}", CALLS.fetch_add(1, Ordering::Relaxed));
            }
            let known = asked.functions.iter().any(|function| function.name == call.name);
            self.called = Some((call.name.clone(), known || self.called.as_ref().is_some_and(|(_, known)| *known)));
            let call = Event::Delta(Delta::Call(call));
            answer.send(call).await.map_err(|class| asked.fault(class, answer.stage, None, "nobody listens"))?;
        }
        self.usage = response.usage().or(self.usage);
        self.finish = response.finish().or(self.finish.take());
        Ok(())
    }

    async fn end(mut self, asked: &Asked<'_>, answer: &mut Answer) -> Result<Finish, Fault> {
        // The last event may lack its blank line, or its second half.
        if let Some(Ok(response)) = self.decoder.finish().map(|text| self.response(&text)) {
            self.event(asked, answer, response).await?;
        }
        let fault = |class, note: &str| Err(asked.fault(class, answer.stage, None, note));
        let spoke = answer.stage == Stage::Answering;
        let finish = match self.finish {
            Some(Finish::Safety) if !spoke => {
                return fault(FaultClass::Blocked("SAFETY".into()), "the answer was withheld for its content");
            }
            Some(finish) if spoke || matches!(self.called, Some((_, true))) => finish,
            Some(_) => {
                return match self.called {
                    Some((name, _)) => fault(FaultClass::Empty, &format!("it called {name}, which nobody offered")),
                    None => fault(FaultClass::Empty, "it finished without text"),
                };
            }
            None if self.events == 0 && self.bytes > 0 => {
                return fault(FaultClass::Protocol, &format!("no event in {} bytes", self.bytes));
            }
            None => return fault(FaultClass::Truncated, "the answer ended without saying that it is finished"),
        };
        let full = Event::Mark(Mark::FullResponse, Instant::now());
        let usage = self.usage.map(|usage| Event::Delta(Delta::Usage(usage.priced(&asked.price))));
        for event in [Some(full), usage, Some(Event::Delta(Delta::Finished(finish.clone())))].into_iter().flatten() {
            answer.send(event).await.map_err(|class| asked.fault(class, Stage::Answering, None, "nobody listens"))?;
        }
        Ok(finish)
    }
}

/// Where the JSON breaks, without what it says.
fn not_json(error: &serde_json::Error) -> String {
    format!("an event is not a response ({:?} error in column {})", error.classify(), error.column())
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::END_CALL;

    const SURE: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Sure."}]}}]}"#;
    const STOP: &str = r#"{"candidates":[{"finishReason":"STOP"}]}"#;
    const USAGE: &str = r#"{"usageMetadata":{"candidatesTokenCount":3}}"#;
    const OVERLOADED: &str = r#"{"error":{"code":503,"message":"overloaded"}}"#;

    /// What a body comes to, and the text and usage that were passed on.
    async fn read(body: &str) -> (Result<Finish, FaultClass>, String, Option<Usage>) {
        let (model, key) = ("gemini-x".into(), Secret::new("k"));
        let asked = Asked { functions: &[END_CALL], ..Asked::to(&model, &key) };
        let (out, mut events) = mpsc::channel(100);
        let mut answer = Answer { out, stage: Stage::Waiting };
        let mut reading = Reading::new(asked.api);
        let result = match reading.take(&asked, &mut answer, body.as_bytes()).await {
            Ok(()) => reading.end(&asked, &mut answer).await,
            Err(fault) => Err(fault),
        };
        let (mut text, mut usage) = (String::new(), None);
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Delta(Delta::Text(more)) => text += &more,
                Event::Delta(Delta::Call(call)) => text += &format!("[{}]", call.name),
                Event::Delta(Delta::Usage(cost)) => usage = Some(cost),
                _ => {}
            }
        }
        (result.map_err(|fault| fault.class), text, usage)
    }

    #[tokio::test]
    async fn the_last_event_needs_no_blank_line() {
        let (result, text, _) = read(&format!("data: {SURE}\n\ndata: {STOP}")).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), "Sure."));
    }

    #[tokio::test]
    async fn half_an_event_at_the_end_is_a_truncated_answer() {
        let (result, text, _) = read(&format!("data: {SURE}\n\ndata: {}", &STOP[..20])).await;
        assert_eq!((result, text.as_str()), (Err(FaultClass::Truncated), "Sure."));
        assert_eq!(read("").await.0, Err(FaultClass::Truncated));
    }

    #[tokio::test]
    async fn the_cost_may_come_after_the_finish_and_an_error_after_it_is_none() {
        let (result, _, usage) = read(&format!("[{SURE},{STOP},{USAGE},{OVERLOADED}]")).await;
        assert_eq!((result, usage.map(|usage| usage.answer)), (Ok(Finish::Stop), Some(3)));
        assert_eq!(read(&format!("[{SURE},{OVERLOADED}]")).await.0, Err(FaultClass::Overloaded));
    }

    #[tokio::test]
    async fn a_function_that_was_offered_is_an_answer_and_another_is_none() {
        let call =
            |name: &str| SURE.replace(r#"{"text":"Sure."}"#, &format!(r#"{{"functionCall":{{"name":"{name}"}}}}"#));
        let (result, text, _) = read(&format!("data: {}\n\ndata: {STOP}\n\n", call("end_call"))).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), "[end_call]"));
        let (result, text, _) = read(&format!("data: {}\n\ndata: {STOP}\n\n", call("open_door"))).await;
        assert_eq!((result, text.as_str()), (Err(FaultClass::Empty), "[open_door]"));
    }

    #[tokio::test]
    async fn white_space_is_no_answer() {
        let blank = SURE.replace("Sure.", " \\n");
        let (result, text, _) = read(&format!("data: {blank}\n\ndata: {STOP}\n\n")).await;
        assert_eq!((result, text.as_str()), (Err(FaultClass::Empty), ""));
        let (result, text, _) = read(&format!("data: {blank}\n\ndata: {SURE}\n\ndata: {STOP}\n\n")).await;
        assert_eq!((result, text.as_str()), (Ok(Finish::Stop), "Sure."));
    }

    #[tokio::test]
    async fn an_event_that_is_no_response_is_named_without_its_text() {
        assert_eq!(read("data: {\"candidates\": \"what he said\"}\n\n").await.0, Err(FaultClass::Protocol));
        let error = Response::read(b"{\"candidates\": \"what he said\"}").unwrap_err();
        assert!(!not_json(&error).contains("said"), "{}", not_json(&error));
        let withheld = STOP.replace("STOP", "SAFETY");
        assert_eq!(read(&format!("data: {withheld}\n\n")).await.0, Err(FaultClass::Blocked("SAFETY".into())));
    }
}
