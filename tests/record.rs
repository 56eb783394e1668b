//! What is written down of a call, and what is told of all of them: whole calls, and the files and pages that they leave.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use offhook::codec::Codec;
use offhook::config::{Answering, Keepalive, Trunk, TrunkMode};
use offhook::phone::PhoneError;
use offhook::record::{CallRecord, Cause, Direction, EndedBy, Kind, Outcome};
use offhook::sdp::{self, LocalMedia, MediaSecurity};
use offhook::sip::{Dial, Dialog, DialogEvent, OutgoingCall, SipError, UserAgent, UserAgentOptions};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::{House, LOOPBACK, say, soon, until};

const QUESTION: &str = "Are you open on Friday afternoon?";

/// What the file holds; each line is a record.
fn records(file: &Path) -> Vec<CallRecord> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A phone that signals, and neither speaks nor listens.
struct Mute(Arc<UserAgent>);

impl Mute {
    async fn new() -> Self {
        Self(Arc::new(UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap().0))
    }

    async fn dials(&self, house: &House) -> OutgoingCall {
        let media = LocalMedia { address: LOOPBACK, port: 9, session_id: 1, version: 1 };
        let offer = sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF);
        self.0.dial(Dial { to: house.uri(), offer, ..Dial::default() }).await.unwrap()
    }

    async fn is_answered(&self, house: &House) -> Dialog {
        soon("the answer", self.dials(house).await.answered()).await.unwrap().0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_call_leaves_one_line_with_its_turns_and_its_line_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let house = House::open(|config, _| {
        config.log.calls_file = Some(file.clone());
    })
    .await;
    let before = std::time::SystemTime::now();
    let call = house.call(house.options(vec![say(QUESTION)])).await.unwrap();
    house.is_empty().await;
    let turns = house.close().await;
    let [record] = &records(&file)[..] else { panic!("{:?}", records(&file)) };
    assert_eq!((record.version, record.direction, record.kind), (1, Direction::In, Kind::Conversation));
    assert_eq!((record.outcome, record.ended_by, record.cause), (Outcome::Answered, EndedBy::Peer, Cause::HungUp));
    assert_eq!((record.called.as_str(), record.trunk.as_deref(), record.status), ("620", None, None));
    assert!(record.start >= offhook::record::rfc3339(before) && record.call == turns[0].call, "{record:?}");
    assert_eq!(record.duration_ms, record.ring_ms + record.talk_ms.unwrap());
    assert!((call.report.duration_ms - record.talk_ms.unwrap() as f64).abs() < 500.0, "{record:?}");
    assert_eq!((record.turns, record.requests), (1, turns[0].requests));
    assert!(record.prompt_tokens > 0 && record.answer_tokens > 0, "{record:?}");
    assert_eq!(
        (record.first_sound_p50_ms, record.first_sound_max_ms),
        (turns[0].first_sound_ms, turns[0].first_sound_ms)
    );
    assert!(!record.srtp && record.codec.is_some());
    let line = record.line.as_ref().unwrap();
    let (heard, sent) = (line.heard.unwrap(), call.report.sent.packets);
    assert!(heard.packets.abs_diff(sent) <= 5 && line.received.abs_diff(sent) <= 5, "{line:?}, {sent} sent");
    assert!(heard.mos > 4.0 && heard.r > 80.0 && heard.loss_percent < 1.0, "{line:?}");
    let buffer = line.buffer.unwrap();
    assert!(
        buffer.delay_ms > 0.0 && buffer.delay_ms < 150.0 && (1.0..=200.0).contains(&buffer.target_ms),
        "{buffer:?}"
    );
    assert_eq!((buffer.stretched > 0, buffer.shortened > 0), (buffer.stretched_ms > 0.0, buffer.shortened_ms > 0.0));
    assert!(line.sent.abs_diff(call.report.packets.received) <= 5, "{line:?}, {:?}", call.report.packets);
    assert_eq!(line.dropped.by_ring().map(|(_, count)| count), [0; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_full_house_and_one_whose_media_stop_are_recorded_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let house = House::open(|config, _| {
        config.log.calls_file = Some(file.clone());
        config.sip.max_calls = 1;
        config.rtp.media_timeout = Duration::from_millis(1500);
    })
    .await;
    let phone = Mute::new().await;
    let mut dialog = phone.is_answered(&house).await;
    let refused = house.call(house.options(vec![say(QUESTION)])).await;
    assert!(matches!(refused, Err(PhoneError::Busy { code: 486, .. })), "{:?}", refused.err());
    while !matches!(soon("the end", dialog.event()).await, DialogEvent::Ended(_)) {}
    house.is_empty().await;
    until("both calls are recorded", || records(&file).len() == 2).await;
    house.close().await;
    let [busy, silent] = &records(&file)[..] else { panic!("{:?}", records(&file)) };
    assert_eq!((busy.outcome, busy.ended_by, busy.cause), (Outcome::Refused, EndedBy::Us, Cause::Busy));
    assert_eq!((busy.status, busy.talk_ms, busy.line.as_ref()), (Some(486), None, None));
    assert!(!busy.call.is_empty() && busy.called == "620");
    assert_eq!((silent.outcome, silent.ended_by, silent.cause), (Outcome::Answered, EndedBy::Us, Cause::MediaTimeout));
    assert!(silent.talk_ms >= Some(1400) && silent.call == dialog.id(), "{silent:?}");
    let line = silent.line.as_ref().unwrap();
    assert!(line.heard.is_none() && line.buffer.is_none() && line.sent.abs_diff(line.frames) <= 2, "{line:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_the_echo_number_and_one_that_is_cancelled_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let house = House::open(|config, _| {
        config.log.calls_file = Some(file.clone());
        config.sip.echo_number = Some("echo".into());
        let trunk = Trunk {
            mode: TrunkMode::IpAuth,
            domain: "127.0.0.1".into(),
            keepalive: Keepalive::Off,
            answer: Answering::Ring,
            ring: Duration::from_millis(700),
            ..Trunk::default()
        };
        config.trunk.insert("pbx".into(), trunk);
    })
    .await;
    let mut options = house.options(vec![say(QUESTION)]);
    options.uri = house.uri().replace("620", "echo");
    options.script.answer_wait = Duration::from_millis(600);
    house.call(options).await.unwrap();
    until("the echo is recorded", || records(&file).len() == 1).await;
    let phone = Mute::new().await;
    let mut ringing = phone.dials(&house).await;
    soon("ringing", ringing.progress()).await.unwrap();
    ringing.cancel();
    assert!(matches!(soon("the end", ringing.answered()).await, Err(SipError::Cancelled)));
    until("both calls are recorded", || records(&file).len() == 2).await;
    house.close().await;
    let [echo, cancelled] = &records(&file)[..] else { panic!("{:?}", records(&file)) };
    assert_eq!((echo.kind, echo.outcome, echo.cause), (Kind::Echo, Outcome::Answered, Cause::HungUp));
    assert_eq!((echo.trunk.as_deref(), echo.turns, echo.requests), (Some("pbx"), 0, 0));
    assert!(echo.ring_ms >= 690 && echo.line.as_ref().unwrap().heard.unwrap().mos > 4.0, "{echo:?}");
    assert_eq!(
        (cancelled.outcome, cancelled.ended_by, cancelled.cause),
        (Outcome::Cancelled, EndedBy::Peer, Cause::Cancelled)
    );
    assert_eq!((cancelled.status, cancelled.talk_ms, cancelled.line.as_ref()), (Some(487), None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_whole_calls_are_read_by_an_http_client_and_hold_to_the_format() {
    let house = House::open(|config, _| {
        config.status.listen = Some((LOOPBACK, 0).into());
        config.sip.max_calls = 1;
    })
    .await;
    let page = |path: &str| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("http://{}{path}", house.status.unwrap()));
        async move { request.send().await.unwrap() }
    };
    assert_eq!(page("/healthz").await.status(), 200);
    let during = async {
        until("the call is up", || house.media.lines.load(Relaxed) == 1).await;
        let text = page("/metrics").await.text().await.unwrap();
        let refused = house.call(house.options(vec![say(QUESTION)])).await;
        assert!(matches!(refused, Err(PhoneError::Busy { code: 486, .. })), "{:?}", refused.err());
        text
    };
    let (call, text) = tokio::join!(house.call(house.options(vec![say(QUESTION)])), during);
    let sent = call.unwrap().report.sent.packets;
    assert_eq!(value(&text, "offhook_calls_now"), Some(1.0), "{text}");
    house.is_empty().await;
    let answered = "offhook_calls_total{direction=\"in\",outcome=\"answered\",cause=\"hung_up\"}";
    let mut text = String::new();
    while value(&text, answered).is_none() {
        let response = soon("metrics", page("/metrics")).await;
        assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        text = response.text().await.unwrap();
    }
    holds_to_the_format(&text);
    let is = |name: &str| value(&text, name).unwrap_or_else(|| panic!("{name} in {text}"));
    assert_eq!(is(answered), 1.0);
    assert_eq!(is("offhook_calls_total{direction=\"in\",outcome=\"refused\",cause=\"busy\"}"), 1.0);
    assert_eq!(is("offhook_turns_total{outcome=\"answered\"}"), 1.0);
    assert_eq!(is("offhook_first_sound_seconds_count"), 1.0);
    assert!((0.1..3.0).contains(&is("offhook_first_sound_seconds_sum")), "{text}");
    assert!(is("offhook_answer_start_seconds_sum") >= is("offhook_first_sound_seconds_sum"));
    assert!(is("offhook_mos_sum{heard_by=\"us\"}") > 4.0 && is("offhook_tokens_total{kind=\"prompt\"}") > 0.0);
    assert!((is("offhook_rtp_packets_total{what=\"received\"}") - sent as f64).abs() <= 5.0, "{sent} sent, {text}");
    assert!(is("offhook_media_wakes_total") > 100.0 && is("offhook_media_worst_lateness_seconds") < 5.0);
    assert_eq!((is("offhook_ring_dropped_total{ring=\"heard\"}"), is("offhook_sip_total{what=\"busy\"}")), (0.0, 1.0));
    house.close().await;
}

/// What a line of metrics says.
fn value(text: &str, name: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of)
}

/// The rules of OpenMetrics text that a careless exporter breaks: every line is a sample of the family above it or says what that is;
/// names, suffixes and labels are such, and all ends with the mark of the end.
fn holds_to_the_format(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("the mark of the end");
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let (mut family, mut kind, mut families, mut samples) = ("", "", BTreeSet::new(), BTreeSet::new());
    for line in body.lines() {
        let mut words = line.splitn(4, ' ');
        match [words.next(), words.next(), words.next(), words.next()] {
            [Some("#"), Some("HELP"), Some(name), Some(help)] => {
                assert!(is_name(name) && !help.is_empty() && families.insert(name), "{line}");
                family = name;
            }
            [Some("#"), Some("TYPE"), Some(name), Some(of)] => {
                assert!(name == family && ["counter", "gauge", "histogram"].contains(&of), "{line}");
                kind = of;
            }
            [Some("#"), Some("UNIT"), Some(name), Some(unit)] => {
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
            }
            [Some(sample), Some(number), None, None] => {
                assert!(samples.insert(sample) && number.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                let (name, labels) = sample.split_once('{').map_or((sample, None), |(name, rest)| (name, Some(rest)));
                let suffixes: &[&str] = match kind {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix)), "{line}");
                for label in labels.iter().flat_map(|labels| labels.strip_suffix('}').expect(line).split(',')) {
                    let (key, value) = label.split_once("=\"").expect(line);
                    assert!(
                        is_name(key) && value.strip_suffix('"').is_some_and(|value| !value.contains('"')),
                        "{line}"
                    );
                }
            }
            _ => panic!("no line of metrics: {line}"),
        }
    }
    assert!(families.len() > 15, "{families:?}");
}
