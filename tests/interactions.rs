//! Gemini asked over its Interactions API, over real sockets, with a simulator that does what it is told.

use std::time::{Duration, Instant};

use offhook::config::{self, GeminiApi, Language};
use offhook::gemini::Gemini;
use offhook::http::Http;
use offhook::model::{
    Ask, Content, Delta, END_CALL, Event, Fault, FaultClass, Finish, Function, FunctionCall, FunctionResult, Mark,
    Stage, Usage,
};
use offhook::privacy::Secret;
use offhook::sentence::{Cutter, Ends};
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
const MODELS: [&str; 2] = ["gemini-3.5-flash-lite", "gemini-3.6-flash"];

struct Asking {
    simulator: Simulator,
    gemini: Gemini,
}

/// What a request came to.
struct Came {
    result: Result<Finish, Fault>,
    text: String,
    calls: Vec<FunctionCall>,
    marks: Vec<Mark>,
    usage: Option<Usage>,
}

fn gemini(base_url: String, models: &[&str], key: Option<&str>) -> Gemini {
    let models = models.iter().map(|&model| model.into()).collect();
    let config = config::Gemini { base_url, models, api: GeminiApi::Interactions, ..Default::default() };
    Gemini::new(&config, key.map(Secret::new), &Http::new(PATIENCE).unwrap()).unwrap()
}

async fn asking(faults: &[&str], models: &[&str], key: Option<&str>) -> Asking {
    let options = Options {
        first_token: Duration::ZERO,
        tokens_per_second: f64::INFINITY,
        faults: faults.iter().map(|order| order.parse().unwrap()).collect(),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let gemini = gemini(simulator.base_url(), models, key);
    Asking { simulator, gemini }
}

/// The same with one model.
async fn asking_one(fault: &str) -> Asking {
    asking(&[fault], &MODELS[..1], None).await
}

fn question() -> Ask {
    let wav = offhook::pcm::wav::write(8000, 1, &[0; 8000]);
    Ask {
        system: "You answer the telephone.".into(),
        contents: vec![Content::Caller { audio: vec![wav.into()], text: None }],
        functions: [].into(),
    }
}

async fn asked(gemini: &Gemini, ask: Ask) -> Came {
    let (out, mut events) = mpsc::channel(64);
    let request = gemini.ask(ask, out, CancellationToken::new());
    let reading = async {
        let (mut text, mut calls, mut marks, mut usage) = (String::new(), vec![], vec![], None);
        while let Some(event) = events.recv().await {
            match event {
                Event::Mark(mark, _) => marks.push(mark),
                Event::Delta(Delta::Text(more)) => text += &more,
                Event::Delta(Delta::Call(call)) => calls.push(call),
                Event::Delta(Delta::Usage(cost)) => usage = Some(cost),
                Event::Delta(Delta::Finished(_)) => {}
            }
        }
        (text, calls, marks, usage)
    };
    let (result, (text, calls, marks, usage)) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(request, reading) }).await.unwrap();
    Came { result, text, calls, marks, usage }
}

impl Asking {
    async fn ask(&self) -> Came {
        asked(&self.gemini, question()).await
    }

    fn requests(&self) -> u32 {
        self.simulator.counts().requests
    }

    fn models(&self) -> Vec<String> {
        self.simulator.seen().into_iter().map(|seen| seen.model).collect()
    }

    /// The last request.
    fn last(&self) -> Value {
        serde_json::from_str(&self.simulator.seen().pop().unwrap().json).unwrap()
    }
}

impl Came {
    fn fault(&self) -> &Fault {
        self.result.as_ref().unwrap_err()
    }
}

fn first_answer() -> &'static str {
    simulator::answers(Language::En)[0]
}

#[tokio::test]
async fn an_answer_arrives_whole_in_every_form_that_the_wire_may_have() {
    for scenario in ["S1", "S2", "S3", "S10", "S11=1", "S12", "S13", "S14"] {
        let asking = asking_one(scenario).await;
        let came = asking.ask().await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()), "{scenario}");
        assert_eq!(came.marks, [Mark::RequestSent, Mark::FirstToken, Mark::FullResponse], "{scenario}");
        let usage = came.usage.unwrap();
        assert!(usage.audio == 32 && usage.prompt == 32 && usage.answer > 10, "{scenario}: {usage:?}");
        assert_eq!(asking.requests(), 1, "{scenario}");
    }
}

#[tokio::test]
async fn the_caller_is_heard_and_nothing_is_left_on_the_other_side() {
    let asking = asking_one("S1").await;
    let contents = vec![
        question().contents.remove(0),
        Content::Model { text: "Hello".into() },
        Content::Caller { audio: vec![], text: Some("facts".into()) },
    ];
    let ask = Ask { contents, functions: [END_CALL].into(), ..question() };
    assert_eq!(asked(&asking.gemini, ask).await.result, Ok(Finish::Stop));
    let seen = asking.simulator.seen().remove(0);
    assert_eq!((seen.contents, seen.caller_turns, seen.audio.len()), (3, 2, 1));
    assert_eq!(seen.audio[0].duration, Duration::from_secs(1));
    let request = asking.last();
    assert_eq!((&request["store"], &request["stream"]), (&json!(false), &json!(true)));
    assert_eq!(request["model"], MODELS[0]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_how_and_is_not_asked_for_again() {
    let withheld = asking_one("S6").await.ask().await;
    assert_eq!(withheld.result, Ok(Finish::Safety));
    assert!(!withheld.text.is_empty() && first_answer().starts_with(&withheld.text));
    let refused = asking_one("S5").await;
    assert_eq!(refused.ask().await.fault().class, FaultClass::Blocked("SAFETY".into()));
    assert_eq!(refused.requests(), 1);
    let came = asking_one("S7").await.ask().await;
    assert_eq!(came.result, Ok(Finish::MaxTokens));
    assert!(!came.text.ends_with('.') && first_answer().starts_with(&came.text));
    for (scenario, class) in
        [("S8", FaultClass::Truncated), ("S8b", FaultClass::Network), ("S9", FaultClass::Overloaded)]
    {
        let asking = asking_one(scenario).await;
        let came = asking.ask().await;
        assert_eq!((&came.fault().class, came.fault().stage), (&class, Stage::Answering), "{scenario}");
        assert!(!came.text.is_empty() && first_answer().starts_with(&came.text), "{scenario}");
        assert_eq!(asking.requests(), 1, "{scenario}");
    }
}

#[tokio::test]
async fn trouble_before_the_first_text_gets_one_immediate_try_more() {
    for (scenario, class, http) in [
        ("429", FaultClass::RateLimited { retry_after: None }, Some(429)),
        ("500", FaultClass::Overloaded, Some(500)),
        ("503", FaultClass::Overloaded, Some(503)),
        ("503-empty", FaultClass::Overloaded, Some(503)),
        ("503-html", FaultClass::Overloaded, Some(503)),
        ("504", FaultClass::Timeout, Some(504)),
        ("200-error", FaultClass::Overloaded, Some(503)),
        ("200-html", FaultClass::Protocol, None),
        ("empty", FaultClass::Empty, None),
        ("S4", FaultClass::Empty, None),
        ("reset", FaultClass::Network, None),
    ] {
        let once = asking_one(&format!("1:{scenario}")).await;
        let came = once.ask().await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()), "{scenario} once");
        assert_eq!(once.requests(), 2, "{scenario} once");
        let always = asking_one(scenario).await;
        let came = always.ask().await;
        let fault = came.fault();
        assert_eq!((&fault.class, fault.http, always.requests()), (&class, http, 2), "{scenario} always: {fault}");
        assert_eq!(came.text, "", "{scenario}");
    }
}

#[tokio::test]
async fn the_next_model_answers_for_one_that_is_ill_or_gone() {
    for scenario in ["1:404", "1:429", "1:503", "1:400-country", "1:200-error"] {
        let asking = asking(&[scenario], &MODELS, None).await;
        let came = asking.ask().await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()), "{scenario}");
        assert_eq!(asking.models(), MODELS, "{scenario}");
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_tried_again_and_stands_nowhere() {
    const KEY: &str = "AIzaSyVerySecret";
    for (scenario, http) in [("400-key", 401), ("403", 403)] {
        let asking = asking(&[scenario], &MODELS, Some(KEY)).await;
        let came = asking.ask().await;
        assert_eq!((&came.fault().class, came.fault().http), (&FaultClass::Auth, Some(http)), "{scenario}");
        assert_eq!(asking.requests(), 1, "{scenario}");
        let seen = asking.simulator.seen().remove(0);
        assert!(!seen.key_in_url && !seen.json.contains(KEY) && !format!("{:?}", came.result).contains(KEY));
    }
}

#[tokio::test]
async fn warming_up_asks_for_the_model_over_the_connection_that_the_request_then_uses() {
    let asking = asking_one("S1").await;
    asking.gemini.warm().await.unwrap();
    assert_eq!(asking.ask().await.result, Ok(Finish::Stop));
    assert_eq!(asking.simulator.counts().connections, 1);
    let unknown = gemini(asking.simulator.base_url(), &["gemini-2.0-flash"], None);
    let faults = [unknown.warm().await.unwrap_err(), asked(&unknown, question()).await.result.unwrap_err()];
    assert!(faults.iter().all(|fault| (&fault.class, fault.http) == (&FaultClass::Gone, Some(404))), "{faults:?}");
}

fn order_status() -> Function {
    Function {
        name: "order_status".into(),
        description: "Looks up where an order is.".into(),
        parameters: Some(json!({"type": "object", "additionalProperties": false, "required": ["order"],
            "properties": {"order": {"type": "string", "description": "The order's number"}}})),
    }
}

#[tokio::test]
async fn what_a_function_came_to_goes_back_behind_the_call_as_it_was_signed_and_is_answered() {
    for (scenario, how_many, speaks) in
        [("S4", 1, false), ("S4-two", 2, false), ("S4-text", 1, true), ("S4-no-id", 1, false)]
    {
        let asking = asking_one(scenario).await;
        let ask = Ask { functions: [order_status(), END_CALL].into(), ..question() };
        let came = asked(&asking.gemini, ask.clone()).await;
        assert_eq!((came.result, came.calls.len(), !came.text.is_empty()), (Ok(Finish::Stop), how_many, speaks));
        assert!(came.calls.iter().all(|call| call.args == json!({"order": "test"}) && !call.id.is_empty()));
        let results = came.calls.iter().map(|call| FunctionResult {
            id: call.id.clone(),
            name: call.name.clone(),
            response: json!({"output": "It left yesterday."}),
        });
        let results = Content::Results(results.collect());
        let mut contents = ask.contents.clone();
        contents.extend([Content::Calls { text: came.text, calls: came.calls }, results]);
        let came = asked(&asking.gemini, Ask { contents, ..ask }).await;
        assert_eq!((came.result, came.text.as_str(), came.calls), (Ok(Finish::Stop), first_answer(), vec![]));
        assert_eq!(asking.requests(), 2, "{scenario}: the simulator refused what went back");
        let input = asking.last()["input"].take();
        let kinds: Vec<&str> = input.as_array().unwrap().iter().map(|step| step["type"].as_str().unwrap()).collect();
        let said = if speaks { &["model_output"][..] } else { &[] };
        let expected = [
            &["user_input"],
            said,
            &["thought"],
            &["function_call"].repeat(how_many),
            &["function_result"].repeat(how_many),
        ];
        assert_eq!(kinds, expected.concat(), "{scenario}");
        assert_eq!(input[1 + said.len()]["signature"], "EjQKMgEM", "{scenario}");
    }
}

#[tokio::test]
async fn a_call_that_another_interface_made_can_be_answered() {
    let asking = asking_one("S1").await;
    let call = FunctionCall {
        id: "chat-7".into(),
        name: "order_status".into(),
        args: json!({"order": "4721"}),
        raw: Value::Null,
    };
    let result = FunctionResult { id: call.id.clone(), name: call.name.clone(), response: "shipped".into() };
    let mut ask = Ask { functions: [order_status()].into(), ..question() };
    ask.contents.extend([Content::Calls { text: String::new(), calls: vec![call] }, Content::Results(vec![result])]);
    let came = asked(&asking.gemini, ask).await;
    assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), first_answer()));
}

/// Serves one recorded stream to whoever asks, and gives the pieces that are spoken: `clause|`, `sentence/`.
async fn spoken(stream: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 65536];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        for piece in stream.as_bytes().chunks(7) {
            socket.write_all(piece).await.unwrap();
        }
    });
    let came = asked(&gemini(format!("http://{address}"), &MODELS[..1], None), question()).await;
    assert_eq!(came.result, Ok(Finish::Stop));
    let mut cutter = Cutter::new(Default::default());
    // Decisions depend on the text alone, so the letters may come one by one.
    let now = Instant::now();
    for letter in came.text.chars() {
        cutter.push(now, letter.encode_utf8(&mut [0; 4]));
    }
    cutter.finish();
    let pieces = std::iter::from_fn(|| cutter.poll());
    pieces.map(|piece| piece.text + if piece.ends == Ends::Clause { "|" } else { "/" }).collect()
}

#[tokio::test]
async fn what_streams_say_in_three_languages_is_cut_where_people_pause() {
    for (stream, expected) in [
        (
            include_str!("data/interactions/en.sse"),
            "Sure, let me look./Dr. Levi's order left at 3.30 p.m yesterday, and it costs twelve dollars fifty./It should arrive on \
             Tuesday!/Anything else?/",
        ),
        (
            include_str!("data/interactions/he.sse"),
            "בטח, אני בודק./ההזמנה של ד\"ר כהן יצאה אתמול, ב-12.5, והיא תגיע ביום שלישי./יש עוד משהו?/",
        ),
        (
            include_str!("data/interactions/ru.sse"),
            "Да, сейчас посмотрю./Ваш заказ на ул. Ленина отправлен в 2024 г., то есть вовремя./Он придёт во вторник…/Что-нибудь ещё?/",
        ),
    ] {
        assert_eq!(spoken(stream).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_answered_over_the_interactions_api_by_the_next_model() {
    let house = House::open(|config, cloud| {
        config.gemini.api = GeminiApi::Interactions;
        config.gemini.models = MODELS.map(String::from).into();
        cloud.faults = vec!["1:503".parse().unwrap()];
    })
    .await;
    let call = house.call(house.options(vec![say("Are you open on Friday afternoon?")])).await.unwrap();
    let answers = call.sounds().into_iter().filter(|sound| *sound != Placeholder);
    assert_eq!(answers.collect::<Vec<_>>(), [Answer], "{:?}", call.heard);
    let seen = house.simulator.seen();
    assert!(seen.iter().all(|seen| seen.json.contains("\"user_input\"") && !seen.audio.is_empty()));
    assert_eq!(seen.last().unwrap().model, MODELS[1]);
    let outcomes: Vec<TurnOutcome> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Answered]);
}
