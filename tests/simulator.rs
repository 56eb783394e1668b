//! The simulator as any program sees it: bytes on a socket.

use std::time::{Duration, Instant};

use offhook::config::Language;
use offhook::simulator::{Options, Simulator, answers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STREAM: &str = "/v1beta/models/gemini-3.5-flash-lite:streamGenerateContent";
const HELLO: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#;

async fn simulator(faults: &[&str]) -> Simulator {
    let options = Options {
        first_token: Duration::ZERO,
        tokens_per_second: f64::INFINITY,
        faults: faults.iter().map(|order| order.parse().unwrap()).collect(),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

fn post(target: &str, headers: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Sends bytes on a connection of their own, and reads until the other side closes it.
async fn exchange(simulator: &Simulator, request: &str) -> String {
    let mut stream = TcpStream::connect(simulator.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// One request with a key, the connection closed after it.
async fn generate(simulator: &Simulator, target: &str, body: &str) -> String {
    exchange(simulator, &post(target, "x-goog-api-key: k\r\nconnection: close\r\n", body)).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// The body out of its chunks.
fn joined(answer: &str) -> String {
    let (mut rest, mut whole) = (body(answer).as_bytes(), Vec::new());
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return String::from_utf8(whole).unwrap();
        }
        whole.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

fn texts(events: impl Iterator<Item = serde_json::Value>) -> String {
    events
        .filter_map(|event| Some(event["candidates"][0]["content"]["parts"][0]["text"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn a_stream_is_what_the_interface_sends() {
    let simulator = simulator(&[]).await;
    let answer = generate(&simulator, &format!("{STREAM}?alt=sse"), HELLO).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{answer}");
    let body = joined(&answer);
    let events = body.strip_suffix("\r\n\r\n").unwrap().split("\r\n\r\n");
    let events: Vec<serde_json::Value> =
        events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect();
    assert_eq!(texts(events.iter().cloned()), answers(Language::En)[0]);
    assert_eq!(events[0]["modelVersion"], "gemini-3.5-flash-lite");
    let last = &events.last().unwrap()["candidates"][0];
    assert_eq!(last["finishReason"], "STOP");
    assert!(last["content"]["parts"][0]["thoughtSignature"].is_string());
}

#[tokio::test]
async fn without_alt_sse_the_body_is_an_array() {
    let answer = generate(&simulator(&[]).await, STREAM, HELLO).await;
    assert!(answer.contains("content-type: application/json"));
    let events: Vec<serde_json::Value> = serde_json::from_str(&joined(&answer)).unwrap();
    assert_eq!(texts(events.into_iter()), answers(Language::En)[0]);
}

#[tokio::test]
async fn answers_follow_the_number_of_the_callers_turns() {
    let simulator = simulator(&[]).await;
    for turn in 1..=7 {
        let user = r#"{"role":"user","parts":[{"text":"a"}]}"#;
        let turns = vec![user; turn].join(r#",{"role":"model","parts":[{"text":"b"}]},"#);
        let answer = generate(&simulator, STREAM, &format!(r#"{{"contents":[{turns}]}}"#)).await;
        let events: Vec<serde_json::Value> = serde_json::from_str(&joined(&answer)).unwrap();
        assert_eq!(texts(events.into_iter()), answers(Language::En)[(turn - 1) % 6], "turn {turn}");
    }
}

#[tokio::test]
async fn keys_models_and_routes_are_checked() {
    let simulator = simulator(&[]).await;
    let close = "connection: close\r\n";
    let answer = exchange(&simulator, &post(STREAM, close, HELLO)).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("unregistered callers"), "{answer}");
    let answer = exchange(&simulator, &post(STREAM, &format!("x-goog-api-key: invalid\r\n{close}"), HELLO)).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("API_KEY_INVALID"), "{answer}");
    let answer = generate(&simulator, "/v1beta/models/gemini-1.5-pro:streamGenerateContent", HELLO).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("ListModels"), "{answer}");
    assert!(generate(&simulator, "/v1/anything", HELLO).await.starts_with("HTTP/1.1 404"));
    let get = "GET /v1beta/models/gemini-3.5-flash-lite HTTP/1.1\r\nx-goog-api-key: k\r\nconnection: close\r\n\r\n";
    let answer = exchange(&simulator, get).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("models/gemini-3.5-flash-lite"), "{answer}");
    assert_eq!(simulator.counts().requests, 0);
}

#[tokio::test]
async fn a_bad_request_is_counted_and_the_connection_goes_on() {
    let simulator = simulator(&[]).await;
    let bad = post(STREAM, "x-goog-api-key: k\r\n", r#"{"contents":[],"stream":true}"#);
    let good = post(STREAM, "x-goog-api-key: k\r\nconnection: close\r\n", HELLO);
    let answers = exchange(&simulator, &format!("{bad}{good}")).await;
    assert!(answers.starts_with("HTTP/1.1 400") && answers.contains(r#"Unknown name \"stream\""#), "{answers}");
    assert!(answers.contains("HTTP/1.1 200"), "{answers}");
    let counts = simulator.counts();
    assert_eq!((counts.requests, counts.in_flight, counts.cancelled, counts.connections), (2, 0, 0, 1));
    assert_eq!(simulator.seen().len(), 1);
}

#[tokio::test]
async fn a_function_call_is_answered_after_its_result_came_back_signed() {
    let simulator = simulator(&["S4"]).await;
    let answer = generate(&simulator, STREAM, HELLO).await;
    let events: Vec<serde_json::Value> = serde_json::from_str(&joined(&answer)).unwrap();
    let call = &events[0]["candidates"][0]["content"];
    assert!(call["parts"][0]["functionCall"]["name"].is_string() && call["parts"][0]["thoughtSignature"].is_string());
    let result = r#"{"role":"user","parts":[{"functionResponse":{"name":"order_status","response":{"output":"x"}}}]}"#;
    let user = r#"{"role":"user","parts":[{"text":"hello"}]}"#;
    let echo = |call: &serde_json::Value| format!(r#"{{"contents":[{user},{call},{result}]}}"#);
    let answer = generate(&simulator, STREAM, &echo(call)).await;
    let events: Vec<serde_json::Value> = serde_json::from_str(&joined(&answer)).unwrap();
    assert_eq!(texts(events.into_iter()), answers(Language::En)[0]);
    let mut unsigned = call.clone();
    unsigned["parts"][0].as_object_mut().unwrap().remove("thoughtSignature");
    assert!(generate(&simulator, STREAM, &echo(&unsigned)).await.contains("missing a thought_signature"));
}

#[tokio::test]
async fn garbage_gets_a_status_and_hurts_nobody() {
    let simulator = simulator(&[]).await;
    assert!(exchange(&simulator, "\u{1}\u{2}\u{3} garbage\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(70_000));
    assert!(exchange(&simulator, &endless).await.starts_with("HTTP/1.1 431"));
    let huge = "POST / HTTP/1.1\r\ncontent-length: 1000000000\r\n\r\n";
    assert!(exchange(&simulator, huge).await.starts_with("HTTP/1.1 413"));
    assert!(generate(&simulator, STREAM, "{\"contents\":").await.contains("Invalid JSON payload"));
    assert!(generate(&simulator, STREAM, HELLO).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn first_token_and_token_rate_are_kept() {
    let options = Options { first_token: Duration::from_millis(80), tokens_per_second: 400.0, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let start = Instant::now();
    let mut stream = TcpStream::connect(simulator.local_addr()).await.unwrap();
    let request = post(&format!("{STREAM}?alt=sse"), "x-goog-api-key: k\r\nconnection: close\r\n", HELLO);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 100];
    stream.read_exact(&mut answer).await.unwrap();
    let first = start.elapsed();
    stream.read_to_end(&mut answer).await.unwrap();
    let whole = start.elapsed();
    let tokens = String::from_utf8(answer).unwrap().matches("\"text\"").count() as u32 - 1;
    // Never early; how late depends on the machine.
    assert!(first >= Duration::from_millis(80), "{first:?}");
    assert!(
        whole >= Duration::from_millis(80) + Duration::from_micros(2500) * (tokens - 1),
        "{whole:?}, {tokens} tokens"
    );
}

#[tokio::test]
async fn shutting_down_closes_the_connections() {
    let simulator = simulator(&["hang"]).await;
    let mut stream = TcpStream::connect(simulator.local_addr()).await.unwrap();
    stream.write_all(post(STREAM, "x-goog-api-key: k\r\n", HELLO).as_bytes()).await.unwrap();
    simulator.reached(|counts| counts.in_flight == 1).await;
    let address = simulator.local_addr();
    simulator.shutdown().await;
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
