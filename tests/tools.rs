//! The installer's own functions on the wire: what leaves the box for them, and what comes of it in a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::config::{Config, HttpTool};
use offhook::http::Http;
use offhook::media::Keys;
use offhook::model::FunctionCall;
use offhook::pcm::{FRAME_SAMPLES, tone};
use offhook::phone;
use offhook::phone::caller::{Agreed, Caller, Talked};
use offhook::phone::run::Wires;
use offhook::rtp::socket;
use offhook::sdp::{self, LocalMedia, MediaSecurity};
use offhook::simulator::faces::{FaceOptions, Faces, ToolOptions};
use offhook::sip::{UserAgent, UserAgentOptions};
use offhook::tools::{Doings, Occasion, Toolbox};
use offhook::voicemail::Note;
use serde_json::{Value, json};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Other, Placeholder, Second};
use house::{House, LOOPBACK, say, soon, until};

const CALLER: &str = "+972501234567";

/// An installer's interface, and tools for it.
struct Bench {
    faces: Faces,
    tools: ToolOptions,
    config: Config,
    doings: Arc<Doings>,
    pressed: Arc<Mutex<Vec<Keys>>>,
}

impl Bench {
    async fn open(change: impl FnOnce(&mut ToolOptions)) -> Self {
        let mut tools = ToolOptions::default();
        change(&mut tools);
        let options = FaceOptions { tools: tools.clone(), ..FaceOptions::default() };
        let faces = Faces::start((LOOPBACK, 0).into(), options).await.unwrap();
        Self { faces, tools, config: Config::default(), doings: Doings::new(5), pressed: Arc::default() }
    }

    fn tool(&mut self, name: &str, path: &str, change: impl FnOnce(&mut HttpTool)) {
        let mut tool = HttpTool {
            description: "the state of an order".into(),
            url: format!("http://{}/tools/{path}", self.faces.address()),
            ..HttpTool::default()
        };
        let parameters =
            json!({"type": "object", "properties": {"order": {"type": "string"}, "count": {"type": "integer"}}});
        tool.parameters = parameters.as_object().unwrap().clone();
        change(&mut tool);
        self.config.tools.insert(name.into(), tool);
    }

    async fn run(&self, turn: u32, name: &str, args: Value) -> Value {
        let http = Http::new(Duration::from_millis(800)).unwrap();
        let toolbox = Arc::new(Toolbox::new(&self.config, &http, None, None).unwrap());
        let pressed = self.pressed.clone();
        let occasion = Occasion {
            from: Note { caller: CALLER.into(), call: "a@b".into() },
            turn,
            doings: self.doings.clone(),
            press: Arc::new(move |keys| {
                pressed.lock().unwrap().push(keys);
                true
            }),
        };
        let call = FunctionCall { id: "1".into(), name: name.into(), args, raw: Value::Null };
        toolbox.run(&call, &occasion).await
    }
}

#[tokio::test]
async fn a_request_is_made_as_the_template_says_and_the_model_is_told_the_part_that_was_asked_for() {
    let mut bench = Bench::open(|tools| tools.body = r#"{"order":{"status":"shipped","secret":"x"}}"#.into()).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "Bearer hunter2\n").unwrap();
    bench.tool("orders", "orders/{{order}}?from={{caller}}", |tool| {
        tool.side_effects = false;
        tool.secret_header_files = BTreeMap::from([("Authorization".into(), secret)]);
        tool.result = "/order/status".into();
    });
    bench.tool("book", "book", |tool| {
        tool.method = "POST".into();
        tool.body = Some(r#"{"count":"{{count}}","note":"order {{order}}"}"#.into());
    });
    let told = bench.run(1, "orders", json!({"order": "a/../b?c"})).await;
    assert_eq!(told["output"]["data"], "shipped");
    assert!(!told.to_string().contains("secret") && told.to_string().contains("never instructions"), "{told}");
    bench.run(1, "book", json!({"order": "x\",\"admin\":true,\"", "count": 2})).await;
    let seen = bench.tools.requests();
    assert_eq!(seen[0].target, "/tools/orders/a%2F..%2Fb%3Fc?from=%2B972501234567");
    assert_eq!((seen[0].authorization.as_deref(), &seen[0].idempotency_key), (Some("Bearer hunter2"), &None));
    let body: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(body, json!({"count": 2, "note": "order x\",\"admin\":true,\""}));
    assert!(seen[1].method == "POST" && seen[1].idempotency_key.as_ref().is_some_and(|key| key.len() == 32));
}

#[tokio::test]
async fn what_leads_elsewhere_or_is_not_as_described_never_leaves_the_box() {
    let mut bench = Bench::open(|_| {}).await;
    bench.tool("orders", "orders/{{order}}/lines", |tool| tool.side_effects = false);
    for args in [
        json!({"order": ".."}),
        json!({"order": "."}),
        json!({"order": ""}),
        json!({}),
        json!({"order": 7}),
        json!({"host": "evil"}),
    ] {
        let told = bench.run(1, "orders", args.clone()).await;
        assert!(told["error"].is_string(), "{args}: {told}");
    }
    assert!(bench.tools.requests().is_empty());
}

#[tokio::test]
async fn what_fails_takes_too_long_or_says_too_much_is_told_in_bounds() {
    let mut bench = Bench::open(|tools| tools.delay = Duration::from_secs(30)).await;
    bench.tool("slow", "slow", |tool| (tool.timeout, tool.side_effects) = (Duration::from_millis(150), false));
    assert_eq!(bench.run(1, "slow", json!({})).await, json!({"error": "it took too long"}));
    let mut bench = Bench::open(|tools| (tools.status, tools.body) = (500, "stack trace".into())).await;
    bench.tool("broken", "broken", |tool| tool.side_effects = false);
    assert_eq!(bench.run(1, "broken", json!({})).await, json!({"error": "it answered with HTTP status 500"}));
    let mut bench = Bench::open(|tools| tools.body = format!("\"{}\"", "א".repeat(5000))).await;
    bench.tool("long", "long", |tool| (tool.result_bytes, tool.side_effects) = (101, false));
    let told = bench.run(1, "long", json!({})).await;
    let data = told["output"]["data"].as_str().unwrap();
    assert!(data.starts_with("אא") && data.len() < 140 && data.ends_with("left out)"), "{data}");
    let mut gone = Bench::open(|_| {}).await;
    gone.tool("gone", "gone", |tool| (tool.url, tool.side_effects) = ("http://127.0.0.1:9/".into(), false));
    assert_eq!(gone.run(1, "gone", json!({})).await, json!({"error": "it could not be reached"}));
}

#[tokio::test]
async fn what_needs_a_yes_is_done_in_a_later_turn_and_once() {
    let mut bench = Bench::open(|_| {}).await;
    bench.tool("book", "book", |tool| (tool.method, tool.confirm) = ("POST".into(), true));
    let monday = || json!({"order": "monday"});
    for _ in 0..2 {
        let told = bench.run(1, "book", monday()).await;
        assert!(told["error"].as_str().unwrap().contains("ask whether they agree"), "{told}");
    }
    bench.doings.turn_over(1, true);
    assert_eq!(bench.run(2, "book", monday()).await["output"]["data"]["status"], "shipped");
    assert!(bench.run(3, "book", monday()).await["note"].as_str().unwrap().contains("not again"));
    assert_eq!(bench.tools.requests().len(), 1);
    assert!(bench.doings.so_far().unwrap().contains("book"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_call_the_model_has_a_request_made_and_answers_with_what_came_of_it() {
    let mut bench = Bench::open(|_| {}).await;
    // The simulator's model asks for the state of the order "test" (S4), and answers when it has the result.
    bench.tool("order_status", "orders/{{order}}", |_| {});
    let tools = bench.config.tools.clone();
    let house = House::open(move |config, cloud| {
        config.tools = tools;
        cloud.faults = vec!["S4".parse().unwrap()];
    })
    .await;
    let call = house.call(house.options(vec![say("Where is my order?")])).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    let seen = bench.tools.requests();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].target == "/tools/orders/test" && seen[0].idempotency_key.is_some());
    let asked = house.simulator.seen();
    let told = &asked.last().unwrap().json;
    assert!(told.contains("shipped") && told.contains("never instructions"), "{told}");
    house.close().await;
}

#[tokio::test]
async fn keys_are_pressed_only_where_that_is_allowed_once_a_turn_and_as_often_as_a_call_may_have_things_done() {
    let mut bench = Bench::open(|_| {}).await;
    let told = bench.run(1, "send_dtmf", json!({"digits": "1"})).await;
    assert_eq!(told, json!({"error": "there is no such function"}));
    bench.config.functions.send_dtmf = true;
    for (digits, problem) in [
        (json!("12,3"), "',' is no key"),
        (json!("*31#+49"), "'+' is no key"),
        (json!(""), "too small"),
        (json!("1".repeat(33)), "too large"),
        (json!(12), "must be of type string"),
    ] {
        let told = bench.run(1, "send_dtmf", json!({"digits": digits})).await;
        assert!(told["error"].as_str().unwrap().contains(problem), "{told}");
    }
    assert!(bench.pressed.lock().unwrap().is_empty());
    for (turn, pressed) in [(1, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5)] {
        bench.run(turn, "send_dtmf", json!({"digits": "0*#d"})).await;
        assert_eq!(bench.pressed.lock().unwrap().len(), pressed, "turn {turn}");
    }
    assert_eq!(bench.pressed.lock().unwrap()[4], Keys::parse("0*#D").unwrap());
}

/// What a phone hears of a model that says something, presses keys, and goes on: with telephone events, or without.
async fn pressed(codec: Codec, with_events: bool) -> Talked {
    let house = House::open(|config, cloud| {
        config.functions.send_dtmf = true;
        cloud.calls = vec![("send_dtmf".into(), json!({"digits": KEYS}))];
        cloud.faults = vec!["S4-text".parse().unwrap()];
    })
    .await;
    let sockets = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let (agent, _incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
    let port = sockets.0.local_addr().unwrap().port();
    let media = LocalMedia { address: LOOPBACK, port, session_id: 1, version: 1 };
    let mut offer = String::from_utf8(sdp::make_offer(&media, &[codec], &MediaSecurity::OFF)).unwrap();
    if !with_events {
        let lines = offer.lines().filter(|line| !line.contains(":101 "));
        offer = lines.map(|line| format!("{}\r\n", line.trim_end_matches(" 101"))).collect();
    }
    let mut call = agent.invite(&house.uri(), offer.into_bytes()).await.unwrap();
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    let agreed = sdp::parse_answer(&answer, &Codec::ALL, &MediaSecurity::OFF).unwrap();
    assert_eq!(agreed.telephone_event.is_some(), with_events);
    let sound = Agreed { codec: agreed.codec, events: agreed.telephone_event };
    let mut options = house.options(vec![say("Please press the keys for me.")]);
    // Telephone events are silence to the ear.
    options.script.answer_quiet = Duration::from_secs(3);
    let caller = Caller::new(Instant::now(), sound, options.utterances, options.clips, options.script);
    let talking = phone::run::start(Wires::new(sockets, &agreed), caller, Arc::default()).unwrap();
    let talked = soon("the end of the talk", talking).await.unwrap().talked;
    soon("the answered BYE", dialog.hang_up()).await;
    house.close().await;
    talked
}

const KEYS: &str = "159*0#D";

/// The keys that are heard as tones of at least 60 ms, with 60 ms of silence behind each.
fn tones_of_keys(samples: &[i16]) -> String {
    let key_of = |frame: &[i16]| {
        "0123456789*#ABCD".chars().find(|key| {
            let shares = tone::key_hz(*key).unwrap().map(|hz| tone::share_of(hz, frame));
            shares[0] > 0.2 && shares[1] > 0.3 && shares.iter().sum::<f32>() > 0.9
        })
    };
    let frames: Vec<Option<char>> = samples.chunks_exact(FRAME_SAMPLES).map(key_of).collect();
    let runs = frames.chunk_by(|a, b| a == b).filter(|run| run.len() >= 3);
    runs.filter_map(|run| run[0]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_call_the_model_presses_keys_as_telephone_events_between_what_it_says() {
    let talked = pressed(Codec::Pcmu, true).await;
    let keys: String = talked.keys.iter().map(|key| key.digit).collect();
    assert_eq!(keys, KEYS);
    assert!(talked.keys.iter().all(|key| key.duration == Duration::from_millis(100)), "{:?}", talked.keys);
    assert_eq!((talked.unusable, tones_of_keys(talked.ear.samples()).as_str()), (0, ""));
    let heard = house::stretches(talked.ear.samples());
    assert!(heard.iter().all(|stretch| [Placeholder, Answer].contains(&stretch.sound)), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_telephone_events_hears_the_tones_of_the_keys_and_what_is_said_around_them_whole() {
    let talked = pressed(Codec::Pcma, false).await;
    assert_eq!((tones_of_keys(talked.ear.samples()).as_str(), talked.keys.len()), (KEYS, 0));
    let heard = house::stretches(talked.ear.samples());
    let sounds: Vec<_> = heard.iter().map(|stretch| stretch.sound).collect();
    assert_eq!(sounds, [Placeholder, Answer, Other, Answer], "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_a_function_works_is_spoken_once_before_any_call_and_begins_at_once_in_one() {
    const MEANWHILE: &str = "These words are said meanwhile.";
    let mut bench = Bench::open(|tools| tools.delay = Duration::from_millis(1500)).await;
    bench.tool("order_status", "orders/{{order}}", |tool| tool.say = Some(MEANWHILE.into()));
    let (tools, folder) = (bench.config.tools.clone(), tempfile::tempdir().unwrap());
    let (spoken, kept) = (folder.path().join("spoken"), folder.path().join("kept"));
    let log = spoken.clone();
    let house = House::open(move |config, cloud| {
        config.tools = tools;
        config.voice.cache_dir = Some(kept);
        // Notes what it speaks. The words of what is said meanwhile have the sound of the second answer.
        let speak = config.voice.command[2].replace("$(cat)", "$t");
        config.voice.command[2] = format!("t=$(cat); echo \"$t\" >> {log:?}; {speak}");
        cloud.faults = vec!["S4".parse().unwrap()];
    })
    .await;
    let times = || std::fs::read_to_string(&spoken).unwrap_or_default().matches(MEANWHILE).count();
    until("what is said meanwhile is kept", || times() == 1).await;
    let mut options = house.options(vec![say("Where is my order?")]);
    // The function, and the model after it, take longer than what is said meanwhile.
    options.script.answer_quiet = Duration::from_secs(4);
    let call = house.call(options).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Second, Answer], "{:?}", call.heard);
    assert_eq!(times(), 1, "it was spoken again in the call");
    house.close().await;
}
