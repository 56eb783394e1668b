//! What is written down of a call, and what is told of all of them: whole calls, and the files and pages that they leave.

use std::path::Path;
use std::sync::Arc;
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
    assert!(line.heard.is_none() && line.sent.abs_diff(line.frames) <= 2, "{line:?}");
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
