//! The model asked over real sockets, with a simulator that does what it is told.

use std::time::{Duration, Instant};

use offhook::config::{self, Language};
use offhook::gemini::Gemini;
use offhook::http::Http;
use offhook::model::{
    Ask, Content, Delta, END_CALL, Event, Fault, FaultClass, Finish, Function, FunctionCall, FunctionResult, Mark,
    Stage,
};
use offhook::privacy::Secret;
use offhook::sentence::{Cutter, Ends};
use offhook::simulator::{self, Options, Simulator};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; nothing here waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Asking {
    simulator: Simulator,
    gemini: Gemini,
}

/// What a request came to.
struct Outcome {
    result: Result<Finish, Fault>,
    text: String,
    events: Vec<Event>,
}

async fn asking_models(faults: &[&str], models: &[&str], key: Option<&str>) -> Asking {
    let options = Options {
        first_token: Duration::ZERO,
        tokens_per_second: f64::INFINITY,
        faults: faults.iter().map(|order| order.parse().unwrap()).collect(),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let config = config::Gemini {
        base_url: simulator.base_url(),
        models: models.iter().map(|&model| model.into()).collect(),
        ..Default::default()
    };
    let http = Http::new(Duration::from_secs(5)).unwrap();
    let gemini = Gemini::new(&config, key.map(Secret::new), &http).unwrap();
    Asking { simulator, gemini }
}

async fn asking(faults: &[&str]) -> Asking {
    asking_models(faults, &["gemini-3.5-flash-lite"], None).await
}

fn question() -> Ask {
    let wav = offhook::pcm::wav::write(8000, 1, &[0; 8000]);
    Ask {
        system: "You answer the telephone.".into(),
        contents: vec![Content::Caller { audio: vec![wav.into()], text: None }],
        functions: [].into(),
    }
}

impl Asking {
    async fn ask(&self) -> Outcome {
        let (out, mut events) = mpsc::channel(32);
        let request = self.gemini.ask(question(), out, CancellationToken::new());
        let collect = async {
            let mut all = Vec::new();
            while let Some(event) = events.recv().await {
                all.push(event);
            }
            all
        };
        let (result, events) = tokio::time::timeout(PATIENCE, async { tokio::join!(request, collect) }).await.unwrap();
        let text = events.iter().filter_map(|event| match event {
            Event::Delta(Delta::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        Outcome { text: text.collect(), result, events }
    }

    fn requests(&self) -> u32 {
        self.simulator.counts().requests
    }
}

fn first_answer() -> &'static str {
    simulator::answers(Language::En)[0]
}

impl Outcome {
    fn fault(&self) -> &Fault {
        self.result.as_ref().unwrap_err()
    }
}

#[tokio::test]
async fn an_answer_arrives_whole_in_every_form_that_the_wire_may_have() {
    for scenario in ["S1", "S2", "S3", "S10", "S11=1", "S12", "S13", "S14"] {
        let asking = asking(&[scenario]).await;
        let outcome = asking.ask().await;
        assert_eq!((outcome.result, outcome.text.as_str()), (Ok(Finish::Stop), first_answer()), "{scenario}");
        assert_eq!(asking.requests(), 1, "{scenario}");
        let end = outcome.events.last();
        assert_eq!(end, Some(&Event::Delta(Delta::Finished(Finish::Stop))), "{scenario}");
    }
}

#[tokio::test]
async fn the_marks_of_a_request_come_once_and_in_order() {
    let asking = asking(&["S1"]).await;
    let before = Instant::now();
    let outcome = asking.ask().await;
    let marks: Vec<(Mark, Instant)> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Mark(mark, at) => Some((*mark, *at)),
            Event::Delta(_) => None,
        })
        .collect();
    assert_eq!(
        marks.iter().map(|mark| mark.0).collect::<Vec<_>>(),
        [Mark::RequestSent, Mark::FirstToken, Mark::FullResponse]
    );
    assert!(before <= marks[0].1 && marks[0].1 <= marks[1].1 && marks[1].1 <= marks[2].1);
    let received = asking.simulator.seen()[0].received;
    assert!(marks[0].1 <= received && received <= marks[1].1, "the request was stamped after it had arrived");
    assert!(matches!(outcome.events[0], Event::Mark(Mark::RequestSent, _)));
    let usage = outcome.events.iter().find_map(|event| match event {
        Event::Delta(Delta::Usage(usage)) => Some(*usage),
        _ => None,
    });
    assert_eq!(usage.unwrap().audio, 32);
    assert!(usage.unwrap().answer > 10);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_says_how() {
    let outcome = asking(&["S6"]).await.ask().await;
    assert_eq!(outcome.result, Ok(Finish::Safety));
    assert!(!outcome.text.is_empty() && first_answer().starts_with(&outcome.text));
    let outcome = asking(&["S7"]).await.ask().await;
    assert_eq!(outcome.result, Ok(Finish::MaxTokens));
    assert!(!outcome.text.ends_with('.') && first_answer().starts_with(&outcome.text));
}

#[tokio::test]
async fn a_refused_prompt_is_not_asked_again() {
    let asking = asking(&["S5"]).await;
    let outcome = asking.ask().await;
    assert_eq!(outcome.fault().class, FaultClass::Blocked("PROHIBITED_CONTENT".into()));
    assert_eq!((outcome.fault().stage, asking.requests()), (Stage::Waiting, 1));
}

#[tokio::test]
async fn after_text_was_given_nothing_is_asked_again() {
    for (scenario, class) in
        [("S8", FaultClass::Truncated), ("S8b", FaultClass::Network), ("S9", FaultClass::Overloaded)]
    {
        let asking = asking(&[scenario]).await;
        let outcome = asking.ask().await;
        assert_eq!((&outcome.fault().class, outcome.fault().stage), (&class, Stage::Answering), "{scenario}");
        assert!(!outcome.text.is_empty() && first_answer().starts_with(&outcome.text), "{scenario}");
        assert_eq!(asking.requests(), 1, "{scenario}");
    }
}

#[tokio::test]
async fn trouble_before_the_first_text_gets_one_immediate_try_more() {
    for (scenario, class, http) in [
        ("429", FaultClass::RateLimited { retry_after: Some(Duration::from_secs(31)) }, Some(429)),
        ("429-bare", FaultClass::RateLimited { retry_after: None }, Some(429)),
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
        let once = asking(&[&format!("1:{scenario}")]).await;
        let outcome = once.ask().await;
        assert_eq!((outcome.result, outcome.text.as_str()), (Ok(Finish::Stop), first_answer()), "{scenario} once");
        assert_eq!(once.requests(), 2, "{scenario} once");
        let sent = outcome.events.iter().filter(|event| matches!(event, Event::Mark(Mark::RequestSent, _)));
        assert_eq!(sent.count(), 1, "{scenario} once");

        let always = asking(&[scenario]).await;
        let outcome = always.ask().await;
        let fault = outcome.fault();
        assert_eq!((&fault.class, fault.http, always.requests()), (&class, http, 2), "{scenario} always: {fault}");
        assert_eq!(outcome.text, "", "{scenario}");
    }
}

#[tokio::test]
async fn what_a_person_must_mend_is_not_asked_again() {
    for (scenario, class, http) in [("400-key", FaultClass::Auth, 400), ("403", FaultClass::Auth, 403)] {
        let asking = asking_models(&[scenario], &["gemini-3.5-flash-lite", "gemini-3.6-flash"], None).await;
        let outcome = asking.ask().await;
        assert_eq!((&outcome.fault().class, outcome.fault().http), (&class, Some(http)), "{scenario}");
        assert!(outcome.fault().permanent() && asking.requests() == 1, "{scenario}");
    }
}

#[tokio::test]
async fn a_request_that_one_model_refuses_may_suit_the_next_and_is_not_asked_twice() {
    let asking = asking_models(&["1:400-country"], &["gemini-3.5-flash-lite", "gemini-3.6-flash"], None).await;
    assert_eq!((asking.ask().await.result, asking.requests()), (Ok(Finish::Stop), 2));
    let lone = asking_models(&["400-country"], &["gemini-3.5-flash-lite"], None).await;
    let outcome = lone.ask().await;
    assert_eq!((&outcome.fault().class, outcome.fault().http, lone.requests()), (&FaultClass::Config, Some(400), 1));
}

#[tokio::test]
async fn a_model_that_is_gone_is_passed_over_and_not_tried_in_the_next_turn() {
    let asking = asking_models(&["1:404"], &["gemini-3.5-flash-lite", "gemini-3.6-flash"], None).await;
    for _ in 0..2 {
        assert_eq!(asking.ask().await.result, Ok(Finish::Stop));
    }
    let models: Vec<String> = asking.simulator.seen().into_iter().map(|seen| seen.model).collect();
    assert_eq!(models, ["gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.6-flash"]);
    let outcome = asking_models(&["404"], &["gemini-3.5-flash-lite"], None).await.ask().await;
    assert_eq!((&outcome.fault().class, outcome.fault().http), (&FaultClass::Gone, Some(404)));
}

#[tokio::test]
async fn a_limited_model_is_left_alone_while_another_answers() {
    let asking = asking_models(&["1:429"], &["gemini-3.5-flash-lite", "gemini-3.6-flash"], None).await;
    for _ in 0..2 {
        assert_eq!(asking.ask().await.result, Ok(Finish::Stop));
    }
    let models: Vec<String> = asking.simulator.seen().into_iter().map(|seen| seen.model).collect();
    assert_eq!(models, ["gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.6-flash"]);
}

#[tokio::test]
async fn stopping_drops_the_connection_at_once() {
    for scenario in ["hang", "S10=600000", "S11=600000"] {
        let asking = asking(&[scenario]).await;
        let (out, mut events) = mpsc::channel(32);
        let stop = CancellationToken::new();
        let request = tokio::spawn({
            let (gemini, stop) = (asking.gemini.clone(), stop.clone());
            async move { gemini.ask(question(), out, stop).await }
        });
        asking.simulator.reached(|counts| counts.in_flight == 1).await;
        if scenario.starts_with("S11") {
            // Half of the answer is there before it stalls.
            while !matches!(events.recv().await, Some(Event::Delta(Delta::Text(_)))) {}
        }
        let stopped = Instant::now();
        stop.cancel();
        let fault = request.await.unwrap().unwrap_err();
        assert_eq!(fault.class, FaultClass::Cancelled, "{scenario}");
        assert!(!fault.retryable());
        let counts = asking.simulator.reached(|counts| counts.cancelled == 1 && counts.in_flight == 0).await;
        let took = stopped.elapsed();
        println!("{scenario}: the other side knew after {took:?}");
        assert!(took < Duration::from_secs(5), "{scenario}: {took:?}");
        assert_eq!(counts.requests, 1, "{scenario}");
    }
}

#[tokio::test]
async fn a_request_whose_answer_nobody_receives_ends() {
    let asking = asking(&["hang"]).await;
    let (out, events) = mpsc::channel(32);
    let gemini = asking.gemini.clone();
    let request = tokio::spawn(async move { gemini.ask(question(), out, CancellationToken::new()).await });
    asking.simulator.reached(|counts| counts.in_flight == 1).await;
    drop(events);
    assert_eq!(request.await.unwrap().unwrap_err().class, FaultClass::Cancelled);
    asking.simulator.reached(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn a_silent_model_is_given_up_after_the_time_for_a_whole_answer() {
    let simulator =
        Simulator::start(Options { faults: vec!["hang".parse().unwrap()], ..Options::default() }).await.unwrap();
    let config = config::Gemini {
        base_url: simulator.base_url(),
        whole_answer: Duration::from_millis(50),
        ..Default::default()
    };
    let gemini = Gemini::new(&config, None, &Http::new(PATIENCE).unwrap()).unwrap();
    let asking = Asking { simulator, gemini };
    let outcome = asking.ask().await;
    assert_eq!((&outcome.fault().class, asking.requests()), (&FaultClass::Timeout, 1));
}

#[tokio::test]
async fn warming_up_opens_the_connection_that_the_request_then_uses() {
    let asking = asking(&[]).await;
    asking.gemini.warm().await.unwrap();
    for _ in 0..3 {
        assert_eq!(asking.ask().await.result, Ok(Finish::Stop));
    }
    assert_eq!(asking.simulator.counts().connections, 1);
}

#[tokio::test]
async fn warming_up_tells_a_wrong_key_from_a_wrong_model_and_from_no_network() {
    let fault = asking_models(&[], &["gemini-3.5-flash-lite"], Some("invalid")).await.gemini.warm().await.unwrap_err();
    assert_eq!((fault.class, fault.http), (FaultClass::Auth, Some(400)));
    let fault = asking_models(&[], &["gemini-2.0-flash"], None).await.gemini.warm().await.unwrap_err();
    assert_eq!((fault.class, fault.http), (FaultClass::Gone, Some(404)));
    let asking = asking(&[]).await;
    asking.simulator.shutdown().await;
    let fault = asking.gemini.warm().await.unwrap_err();
    assert_eq!((fault.class, fault.http, fault.stage), (FaultClass::Network, None, Stage::Request));
    assert!(fault.note.contains("refused"), "{}", fault.note);
}

#[tokio::test]
async fn the_key_is_in_the_header_and_nowhere_else() {
    const KEY: &str = "AIzaSyVerySecret";
    let asking = asking_models(&["2:403"], &["gemini-3.5-flash-lite"], Some(KEY)).await;
    assert_eq!(asking.ask().await.result, Ok(Finish::Stop));
    let fault = asking.ask().await.result.unwrap_err();
    let seen = asking.simulator.seen();
    assert!(seen.iter().all(|seen| !seen.key_in_url && !seen.json.contains(KEY)));
    asking.simulator.shutdown().await;
    let network = asking.gemini.warm().await.unwrap_err();
    let shown = format!("{:?} {fault} {fault:?} {network} {network:?}", asking.gemini);
    assert!(!shown.contains("AIza"), "{shown}");
    assert!(shown.contains("Sensitive") || shown.contains("[secret]"));
}

#[tokio::test]
async fn the_conversation_goes_with_its_sounds() {
    let asking = asking(&[]).await;
    let wav: offhook::pcm::wav::WavFile = offhook::pcm::wav::write(8000, 1, &[0; 4000]).into();
    let contents = vec![
        Content::Caller { audio: vec![wav.clone()], text: None },
        Content::Model { text: "Hello".into() },
        Content::Caller { audio: vec![wav.clone(), wav], text: Some("facts".into()) },
    ];
    let (out, mut events) = mpsc::channel(64);
    let ask = Ask { system: "Be brief.".into(), contents, functions: [END_CALL].into() };
    let request = asking.gemini.ask(ask, out, CancellationToken::new());
    let (result, ()) = tokio::join!(request, async { while events.recv().await.is_some() {} });
    assert_eq!(result, Ok(Finish::Stop));
    let seen = asking.simulator.seen().remove(0);
    assert_eq!((seen.contents, seen.caller_turns), (3, 2));
    let half_a_second = simulator::Heard { bytes: 8044, duration: Duration::from_millis(500) };
    assert_eq!(seen.audio, [half_a_second; 3]);
}

#[tokio::test]
async fn the_model_may_end_the_call_with_its_answer_or_in_place_of_one() {
    for (order, speaks) in [("end-call", true), ("end-call-only", false)] {
        let asking = asking(&[order]).await;
        let (out, mut events) = mpsc::channel(64);
        let ask = Ask { functions: [END_CALL].into(), ..question() };
        let request = asking.gemini.ask(ask, out, CancellationToken::new());
        let (mut text, mut calls) = (String::new(), Vec::new());
        let reading = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Delta(Delta::Text(more)) => text += &more,
                    Event::Delta(Delta::Call(call)) => calls.push((call.name, call.args)),
                    _ => {}
                }
            }
        };
        let (result, ()) = tokio::join!(request, reading);
        assert_eq!(result, Ok(Finish::Stop), "{order}");
        assert_eq!(
            (!text.is_empty(), calls),
            (speaks, vec![("end_call".to_owned(), serde_json::json!({}))]),
            "{order}"
        );
    }
}

fn order_status() -> Function {
    let parameters = serde_json::json!({"type": "object", "additionalProperties": false, "required": ["order"],
        "properties": {"order": {"type": "string", "description": "The order's number"}}});
    Function {
        name: "order_status".into(),
        description: "Looks up where an order is.".into(),
        parameters: Some(parameters),
    }
}

/// Asks; gives how it ended, what was said, and what was called.
async fn asked(gemini: &Gemini, ask: Ask) -> (Result<Finish, Fault>, String, Vec<FunctionCall>) {
    let (out, mut events) = mpsc::channel(64);
    let request = gemini.ask(ask, out, CancellationToken::new());
    let reading = async {
        let (mut text, mut calls) = (String::new(), Vec::new());
        while let Some(event) = events.recv().await {
            match event {
                Event::Delta(Delta::Text(more)) => text += &more,
                Event::Delta(Delta::Call(call)) => calls.push(call),
                _ => {}
            }
        }
        (text, calls)
    };
    let (result, (text, calls)) = tokio::join!(request, reading);
    (result, text, calls)
}

#[tokio::test]
async fn what_a_function_came_to_goes_back_with_the_call_as_it_was_signed_and_is_answered() {
    for (scenario, how_many, speaks) in
        [("S4", 1, false), ("S4-two", 2, false), ("S4-text", 1, true), ("S4-no-id", 1, false)]
    {
        let asking = asking(&[scenario]).await;
        let ask = Ask { functions: [order_status(), END_CALL].into(), ..question() };
        let (result, text, calls) = asked(&asking.gemini, ask.clone()).await;
        assert_eq!((result, calls.len(), !text.is_empty()), (Ok(Finish::Stop), how_many, speaks), "{scenario}");
        assert!(calls.iter().all(|call| call.args == serde_json::json!({"order": "test"})), "{scenario}");
        assert!(calls.iter().all(|call| !call.id.is_empty()), "{scenario}");
        let results = calls.iter().map(|call| FunctionResult {
            id: call.id.clone(),
            name: call.name.clone(),
            response: serde_json::json!({"output": "It left yesterday."}),
        });
        let results = Content::Results(results.collect());
        let mut contents = ask.contents.clone();
        contents.extend([Content::Calls { text, calls }, results]);
        let (result, text, calls) = asked(&asking.gemini, Ask { contents, ..ask }).await;
        assert_eq!((result, text.as_str(), calls), (Ok(Finish::Stop), first_answer(), vec![]), "{scenario}");
        assert_eq!(asking.requests(), 2, "{scenario}: the simulator refused what went back");
    }
}

#[tokio::test]
async fn a_call_that_another_interface_made_can_be_answered_by_gemini() {
    let asking = asking(&[]).await;
    let call = FunctionCall {
        id: "chat-7".into(),
        name: "order_status".into(),
        args: serde_json::json!({"order": "4721"}),
        raw: serde_json::Value::Null,
    };
    let result = FunctionResult { id: call.id.clone(), name: call.name.clone(), response: "shipped".into() };
    let mut ask = Ask { functions: [order_status()].into(), ..question() };
    ask.contents.extend([Content::Calls { text: String::new(), calls: vec![call] }, Content::Results(vec![result])]);
    let (result, text, _) = asked(&asking.gemini, ask).await;
    assert_eq!((result, text.as_str()), (Ok(Finish::Stop), first_answer()));
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
    let config = config::Gemini { base_url: format!("http://{address}"), ..Default::default() };
    let gemini = Gemini::new(&config, None, &Http::new(PATIENCE).unwrap()).unwrap();
    let (out, mut events) = mpsc::channel(64);
    let asking = gemini.ask(question(), out, CancellationToken::new());
    let cutting = async {
        let mut cutter = Cutter::new(Default::default());
        let now = Instant::now();
        while let Some(event) = events.recv().await {
            if let Event::Delta(Delta::Text(text)) = event {
                cutter.push(now, &text);
            }
        }
        cutter.finish();
        let pieces = std::iter::from_fn(|| cutter.poll());
        pieces.map(|piece| piece.text + if piece.ends == Ends::Clause { "|" } else { "/" }).collect()
    };
    let (result, spoken) = tokio::join!(asking, cutting);
    assert_eq!(result, Ok(Finish::Stop));
    spoken
}

#[tokio::test]
async fn what_streams_say_in_three_languages_is_cut_where_people_pause() {
    for (stream, expected) in [
        (
            include_str!("data/gemini/en.sse"),
            "Sure, let me look./Dr. Levi's order left at 3.30 p.m yesterday, and it costs twelve dollars fifty./It should arrive on \
             Tuesday!/Anything else?/",
        ),
        (
            include_str!("data/gemini/he.sse"),
            "בטח, אני בודק./ההזמנה של ד\"ר כהן יצאה אתמול, ב-12.5, והיא תגיע ביום שלישי./יש עוד משהו?/",
        ),
        (
            include_str!("data/gemini/ru.sse"),
            "Да, сейчас посмотрю./Ваш заказ на ул. Ленина отправлен в 2024 г., то есть вовремя./Он придёт во вторник…/Что-нибудь ещё?/",
        ),
    ] {
        assert_eq!(spoken(stream).await, expected);
    }
}

#[tokio::test]
async fn every_level_of_thinking_suits_every_model() {
    let models =
        ["gemini-2.5-flash", "gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.8-flash", "gemini-flash-latest"];
    for (model, level) in
        models.iter().flat_map(|model| ["minimal", "low", "medium", "high"].map(|level| (model, level)))
    {
        let asking = asking(&[]).await;
        let config = config::Gemini {
            base_url: asking.simulator.base_url(),
            models: vec![model.to_string()],
            thinking_level: Some(level.into()),
            ..Default::default()
        };
        let gemini = Gemini::new(&config, None, &Http::new(PATIENCE).unwrap()).unwrap();
        assert_eq!(asked(&gemini, question()).await.0, Ok(Finish::Stop), "{model} {level}");
        let json = asking.simulator.seen().remove(0).json;
        assert!(json.contains("thinkingLevel") != json.contains("thinkingBudget"), "{json}");
    }
}

/// A model that is told so much that it pays to keep it.
async fn asking_at_length(kept_uses: u32, config: config::Gemini) -> (Asking, Ask) {
    let options =
        Options { first_token: Duration::ZERO, tokens_per_second: f64::INFINITY, kept_uses, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let config = config::Gemini { base_url: simulator.base_url(), ..config };
    let gemini = Gemini::new(&config, None, &Http::new(PATIENCE).unwrap()).unwrap();
    let system = "You answer the telephone of a bakery with many kinds of bread. ".repeat(300);
    let ask = Ask { system: system.into(), functions: [order_status()].into(), ..question() };
    (Asking { simulator, gemini }, ask)
}

#[tokio::test]
async fn a_long_beginning_is_kept_for_the_requests_to_come_and_none_waits_for_it() {
    let (asking, ask) = asking_at_length(u32::MAX, config::Gemini { cache: true, ..Default::default() }).await;
    assert_eq!(asked(&asking.gemini, ask.clone()).await.1, first_answer());
    asking.simulator.reached(|counts| counts.kept == 1).await;
    // Its name is known when its answer was read.
    let kept = async {
        loop {
            assert_eq!(asked(&asking.gemini, ask.clone()).await.1, first_answer());
            let last = asking.simulator.seen().pop().unwrap();
            if last.json.contains("cachedContents/1") {
                break last;
            }
        }
    };
    let kept = tokio::time::timeout(PATIENCE, kept).await.unwrap();
    assert!(!kept.json.contains("bakery") && !kept.json.contains("order_status"), "{}", kept.json);
    assert_eq!(asking.simulator.counts().kept, 1);
    assert!(asking.simulator.seen()[0].json.contains("bakery"));
}

#[tokio::test]
async fn what_the_other_side_has_forgotten_is_sent_again_at_once() {
    let (asking, ask) = asking_at_length(0, config::Gemini { cache: true, ..Default::default() }).await;
    let made_twice = async {
        while asking.simulator.counts().kept < 2 {
            assert_eq!(asked(&asking.gemini, ask.clone()).await.1, first_answer());
        }
    };
    tokio::time::timeout(PATIENCE, made_twice).await.unwrap();
    assert!(asking.simulator.seen().iter().all(|seen| seen.json.contains("bakery")));
}

#[tokio::test]
async fn nothing_is_kept_unless_it_is_configured_and_long_enough() {
    let (asking, ask) = asking_at_length(u32::MAX, config::Gemini::default()).await;
    for _ in 0..3 {
        assert_eq!(asked(&asking.gemini, ask.clone()).await.0, Ok(Finish::Stop));
    }
    assert_eq!(asking.simulator.counts().kept, 0);
    let (asking, ask) = asking_at_length(u32::MAX, config::Gemini { cache: true, ..Default::default() }).await;
    assert_eq!(asked(&asking.gemini, Ask { system: "Be brief.".into(), ..ask }).await.0, Ok(Finish::Stop));
    assert_eq!(asking.simulator.counts().kept, 0);
}
