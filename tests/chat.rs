//! A model behind the chat-completions interface asked over real sockets, and what happens when Gemini is gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use offhook::chat::Chat;
use offhook::config::{self, Language};
use offhook::gemini::{self, Gemini};
use offhook::http::Http;
use offhook::model::{
    Ask, Content, Delta, Event, Fault, FaultClass, Finish, FirstOf, Function, FunctionCall, FunctionResult,
    LanguageModel, Mark, Stage, Usage,
};
use offhook::privacy::Secret;
use offhook::simulator::faces::chat::{ChatFault, ChatOptions};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::simulator::{self, Options, Simulator};
use offhook::timeline::TurnOutcome;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Placeholder};
use house::{House, say};

/// Long enough for a loaded machine; nothing here waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a model, and how it is asked.
struct Server {
    faces: Faces,
    options: ChatOptions,
}

impl Server {
    async fn with(options: ChatOptions) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let faces =
            Faces::start(listen, FaceOptions { chat: options.clone(), ..FaceOptions::default() }).await.unwrap();
        Self { faces, options }
    }

    async fn failing(faults: &[ChatFault]) -> Self {
        Self::with(ChatOptions { faults: faults.to_vec(), ..ChatOptions::default() }).await
    }

    fn config(&self) -> config::Chat {
        config::Chat {
            base_url: Some(format!("http://{}", self.faces.address())),
            model: Some(self.options.model.clone()),
            ..config::Chat::default()
        }
    }

    fn model(&self, config: &config::Chat, key: Option<&str>) -> Chat {
        let http = Http::new(Duration::from_secs(5)).unwrap();
        Chat::new(config, key.map(Secret::new), &http).unwrap().unwrap()
    }

    async fn ask(&self, ask: Ask) -> Came {
        asked(&self.model(&self.config(), None), ask).await
    }

    fn seen(&self) -> Vec<Value> {
        self.options.seen.lock().unwrap().clone()
    }
}

/// What a request came to.
#[derive(Debug)]
struct Came {
    result: Result<Finish, Fault>,
    text: String,
    calls: Vec<FunctionCall>,
    marks: Vec<Mark>,
    usage: Option<Usage>,
}

impl Came {
    fn class(&self) -> FaultClass {
        self.result.clone().unwrap_err().class
    }
}

async fn asked(model: &dyn LanguageModel, ask: Ask) -> Came {
    let (out, mut events) = mpsc::channel(64);
    let asking = model.ask(ask, out, CancellationToken::new());
    let reading = async {
        let mut came =
            Came { result: Ok(Finish::Stop), text: String::new(), calls: vec![], marks: vec![], usage: None };
        while let Some(event) = events.recv().await {
            match event {
                Event::Mark(mark, _) => came.marks.push(mark),
                Event::Delta(Delta::Text(text)) => came.text += &text,
                Event::Delta(Delta::Call(call)) => came.calls.push(call),
                Event::Delta(Delta::Usage(usage)) => came.usage = Some(usage),
                Event::Delta(Delta::Finished(_)) => {}
            }
        }
        came
    };
    let (result, came) = tokio::time::timeout(PATIENCE, async { tokio::join!(asking, reading) }).await.unwrap();
    Came { result, ..came }
}

fn said(text: &str) -> Ask {
    let order_status = Function {
        name: "order_status".into(),
        description: "Looks up where an order is.".into(),
        parameters: Some(json!({"type": "object", "properties": {"order": {"type": "string"}}})),
    };
    Ask {
        system: "You answer the telephone.".into(),
        contents: vec![Content::Caller { audio: vec![], text: Some(text.into()) }],
        functions: [order_status].into(),
    }
}

fn sound() -> Ask {
    let wav = offhook::pcm::wav::write(8000, 1, &[0; 8000]);
    Ask { contents: vec![Content::Caller { audio: vec![wav.into()], text: None }], ..said("") }
}

fn first_answer() -> &'static str {
    simulator::answers(Language::En)[0]
}

#[tokio::test]
async fn an_answer_arrives_whole_in_every_form_that_servers_give_it() {
    for fault in [ChatFault::None, ChatFault::Thinks, ChatFault::Whole, ChatFault::NoDone] {
        let came = Server::failing(&[fault]).await.ask(said("Hello")).await;
        assert_eq!((&came.result, came.text.as_str()), (&Ok(Finish::Stop), first_answer()), "{fault:?}");
        assert_eq!(came.marks, [Mark::RequestSent, Mark::FirstToken, Mark::FullResponse], "{fault:?}");
        assert_eq!(came.usage, None, "nobody asked for it");
    }
}

#[tokio::test]
async fn the_cost_is_told_when_it_is_asked_for() {
    let server = Server::failing(&[]).await;
    let config = config::Chat { usage: true, ..server.config() };
    let usage = asked(&server.model(&config, None), said("Hello")).await.usage.unwrap();
    assert_eq!((usage.prompt, usage.answer, usage.micros), (100, 20, 0));
}

#[tokio::test]
async fn calls_come_in_pieces_and_their_results_are_answered() {
    for how_many in [1, 3] {
        let server = Server::failing(&[ChatFault::Calls(how_many)]).await;
        let ask = said("Where is it?");
        let came = server.ask(ask.clone()).await;
        assert_eq!((&came.result, came.calls.len(), came.text.as_str()), (&Ok(Finish::Stop), how_many, ""));
        assert!(came.calls.iter().all(|call| call.args == json!({"order": "test"})));
        let results = came.calls.iter().map(|call| FunctionResult {
            id: call.id.clone(),
            name: call.name.clone(),
            response: json!({"output": "It left yesterday."}),
        });
        let results = Content::Results(results.collect());
        let mut contents = ask.contents.clone();
        contents.extend([Content::Calls { text: String::new(), calls: came.calls }, results]);
        let came = server.ask(Ask { contents, ..ask }).await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()));
    }
}

#[tokio::test]
async fn every_refusal_has_its_class() {
    let seven = Some(Duration::from_secs(7));
    for (fault, class, http) in [
        (ChatFault::Status(400), FaultClass::Config, Some(400)),
        (ChatFault::Status(401), FaultClass::Auth, Some(401)),
        (ChatFault::Status(403), FaultClass::Auth, Some(403)),
        (ChatFault::Status(404), FaultClass::Gone, Some(404)),
        (ChatFault::BareStatus(404), FaultClass::Gone, Some(404)),
        (ChatFault::Status(408), FaultClass::Timeout, Some(408)),
        (ChatFault::Status(422), FaultClass::Config, Some(422)),
        (ChatFault::Status(429), FaultClass::RateLimited { retry_after: seven }, Some(429)),
        (ChatFault::Status(500), FaultClass::Overloaded, Some(500)),
        (ChatFault::BareStatus(503), FaultClass::Overloaded, Some(503)),
        (ChatFault::Status(504), FaultClass::Timeout, Some(504)),
        (ChatFault::Filtered, FaultClass::Blocked("content_filter".into()), None),
    ] {
        let came = Server::failing(&[fault]).await.ask(said("Hello")).await;
        let fault = came.result.unwrap_err();
        assert_eq!((&fault.class, fault.http), (&class, http), "{fault}");
        assert!(fault.stage < Stage::Answering && came.text.is_empty(), "{fault}");
    }
}

#[tokio::test]
async fn what_breaks_off_says_how_far_it_came() {
    for (fault, class) in
        [(ChatFault::EndsEarly, FaultClass::Truncated), (ChatFault::ErrorInStream, FaultClass::Overloaded)]
    {
        let came = Server::failing(&[fault]).await.ask(said("Hello")).await;
        let fault = came.result.unwrap_err();
        assert_eq!((&fault.class, fault.stage), (&class, Stage::Answering));
        assert!(!came.text.is_empty() && first_answer().starts_with(&came.text));
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_when_nobody_wants_the_answer() {
    let server = Server::failing(&[ChatFault::Hang]).await;
    let model = server.model(&server.config(), None);
    let (out, mut events) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let asking = tokio::spawn(model.ask(said("Hello"), out, stop.clone()));
    assert!(matches!(events.recv().await, Some(Event::Mark(Mark::RequestSent, _))));
    stop.cancel();
    assert_eq!(asking.await.unwrap().unwrap_err().class, FaultClass::Cancelled);
}

#[tokio::test]
async fn the_key_is_sent_and_shown_to_nobody() {
    let server = Server::with(ChatOptions { key: Some("sk-right".into()), ..ChatOptions::default() }).await;
    let right = server.model(&server.config(), Some("sk-right"));
    assert!(right.warm().await.is_ok() && asked(&right, said("Hello")).await.result.is_ok());
    let wrong = server.model(&server.config(), Some("sk-wrong"));
    let fault = wrong.warm().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Auth);
    assert_eq!(asked(&wrong, said("Hello")).await.class(), FaultClass::Auth);
    assert!(!format!("{wrong:?} {fault:?}").contains("sk-wrong"));
}

#[tokio::test]
async fn sound_goes_to_a_model_that_hears_and_no_request_leaves_for_one_that_does_not() {
    let deaf = Server::failing(&[]).await;
    assert_eq!((deaf.ask(sound()).await.class(), deaf.seen().len()), (FaultClass::NoText, 0));
    let hears = Server::with(ChatOptions { hears: true, ..ChatOptions::default() }).await;
    let config = config::Chat { audio: true, ..hears.config() };
    let came = asked(&hears.model(&config, None), sound()).await;
    assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()));
}

/// Gemini, and the model on the customer's own network after it, as the service has them.
fn both(gemini: &Simulator, own: &Server, hedge: Duration) -> FirstOf {
    let config = config::Gemini { base_url: gemini.base_url(), hedge, ..config::Gemini::default() };
    let http = Http::new(Duration::from_secs(5)).unwrap();
    let mut candidates = Gemini::new(&config, None, &http).unwrap().candidates();
    candidates.push(own.model(&own.config(), None).candidate());
    FirstOf::new(candidates, gemini::patience(&config))
}

async fn gemini_failing(fault: &str) -> Simulator {
    let faults = vec![fault.parse().unwrap()];
    let options =
        Options { first_token: Duration::ZERO, tokens_per_second: f64::INFINITY, faults, ..Options::default() };
    Simulator::start(options).await.unwrap()
}

#[tokio::test]
async fn the_own_model_answers_whatever_has_become_of_gemini() {
    for fault in ["400-key", "403", "404", "429", "500", "503", "503-html", "reset", "200-html", "empty", "hang"] {
        let (gemini, own) = (gemini_failing(fault).await, Server::failing(&[]).await);
        let hedge = if fault == "hang" { Duration::from_millis(50) } else { Duration::ZERO };
        let came = asked(&both(&gemini, &own, hedge), said("Hello")).await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()), "{fault}");
        assert_eq!((gemini.counts().requests, own.seen().len()), (1, 1), "{fault}");
    }
    let (gemini, own) = (gemini_failing("S1").await, Server::failing(&[]).await);
    let models = both(&gemini, &own, Duration::ZERO);
    gemini.shutdown().await;
    let came = asked(&models, said("Hello")).await;
    assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()), "the internet is gone");
}

#[tokio::test]
async fn a_call_that_gemini_made_can_be_answered_by_the_own_model() {
    let (gemini, own) = (gemini_failing("2:503").await, Server::failing(&[]).await);
    let models = both(&gemini, &own, Duration::ZERO);
    let call = FunctionCall {
        id: "call-1".into(),
        name: "order_status".into(),
        args: json!({"order": "test"}),
        raw: json!({"functionCall": {"id": "call-1", "name": "order_status", "args": {"order": "test"}}, "thoughtSignature": "EjQK"}),
    };
    let result =
        FunctionResult { id: "call-1".into(), name: "order_status".into(), response: json!({"output": "shipped"}) };
    let mut ask = said("Where is it?");
    ask.contents.extend([Content::Calls { text: String::new(), calls: vec![call] }, Content::Results(vec![result])]);
    for _ in 0..2 {
        let came = asked(&models, ask.clone()).await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()));
    }
    assert_eq!((gemini.counts().requests, own.seen().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_answered_by_the_own_model_when_gemini_is_gone() {
    let own = Server::with(ChatOptions { hears: true, ..ChatOptions::default() }).await;
    let chat = config::Chat { audio: true, ..own.config() };
    let house = House::open(|config, cloud| {
        config.chat = chat;
        cloud.faults = vec!["503".parse().unwrap()];
    })
    .await;
    let call = house.call(house.options(vec![say("Are you open on Friday afternoon?")])).await.unwrap();
    // It answers at once, so that a placeholder may not be needed.
    let answers = call.sounds().into_iter().filter(|sound| *sound != Placeholder);
    assert_eq!(answers.collect::<Vec<_>>(), [Answer], "{:?}", call.heard);
    let outcomes: Vec<TurnOutcome> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Answered]);
    assert!(!own.seen().is_empty());
}
