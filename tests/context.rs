//! Who calls and what the business knows, looked up from the INVITE on: over real SIP and HTTP, and whatever the CRM does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook::config::{self, Config};
use offhook::context::{Briefing, Sources};
use offhook::crm::Answer;
use offhook::http::Http;
use offhook::simulator::faces::crm::{CrmFault, CrmOptions};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::sip::Caller;
use offhook::timeline::{Percentiles, TurnOutcome};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::{House, LOOPBACK, say, soon, until};

const QUESTION: &str = "Are you open on Friday afternoon?";
const DANA: &str = "+972501234567";

/// A CRM that knows Dana and Avi.
async fn crm(change: impl FnOnce(&mut CrmOptions)) -> (Faces, CrmOptions) {
    let mut crm = CrmOptions { key: "s3cret".into(), ..CrmOptions::default() };
    crm.customers.insert(
        DANA.into(),
        json!({ "name": "Dana Levi", "phone": "050-123-4567", "orders": [{ "state": "shipped" }] }),
    );
    crm.customers.insert("+972521112222".into(), json!({ "name": "Avi Cohen", "phone": "052-111-2222" }));
    change(&mut crm);
    #[allow(clippy::needless_update, reason = "other faces may have options of their own")]
    let options = FaceOptions { crm: crm.clone(), ..FaceOptions::default() };
    (Faces::start((LOOPBACK, 0).into(), options).await.unwrap(), crm)
}

fn asks(faces: &Faces, folder: &std::path::Path) -> config::Crm {
    let key_file = folder.join("crm.key");
    std::fs::write(&key_file, "s3cret\n").unwrap();
    let fields = [("name", "/data/0/name"), ("order", "/data/0/orders/0/state")];
    config::Crm {
        url: Some(format!("http://{}/crm/customers?phone={{{{caller.e164}}}}", faces.address())),
        headers: BTreeMap::from([("Authorization".into(), "Bearer {{key}}".into())]),
        fields: fields.map(|(name, pointer)| (name.to_owned(), pointer.to_owned())).into(),
        key_file: Some(key_file),
        country: Some("IL".into()),
        test_number: Some("050-123-4567".into()),
        ..config::Crm::default()
    }
}

async fn sources(crm: config::Crm, knowledge: config::Knowledge) -> Arc<Sources> {
    let config = Config { crm, knowledge, ..Config::default() };
    let http = Http::new(Duration::from_millis(800)).unwrap();
    Arc::new(Sources::open(&config, &http).await.unwrap())
}

fn texts(folder: &std::path::Path) -> config::Knowledge {
    let folder = folder.join("texts");
    std::fs::create_dir_all(&folder).unwrap();
    let hours = "# Hours\nOn Friday we close at two in the afternoon.\n# Shipping\nAn order that is shipped arrives within four days.\n";
    std::fs::write(folder.join("shop.md"), hours).unwrap();
    config::Knowledge { folder: Some(folder), ..config::Knowledge::default() }
}

fn caller(number: &str) -> Caller {
    Caller { number: Some(number.into()), user: number.into(), ..Caller::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_told_of_the_customer_and_of_the_business_with_the_first_request() {
    let folder = tempfile::tempdir().unwrap();
    let (faces, crm) = crm(|_| {}).await;
    let (crm_config, texts) = (asks(&faces, folder.path()), texts(folder.path()));
    let house = House::open(|config, _| (config.crm, config.knowledge) = (crm_config, texts)).await;
    let mut options = house.options(vec![say(QUESTION), say(QUESTION)]);
    options.from = DANA.into();
    house.call(options).await.unwrap();
    let numbers: Vec<String> = crm.seen.all().into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, [DANA], "asked once a call, with the plus encoded");
    let seen = house.simulator.seen();
    for request in [seen.first().unwrap(), seen.last().unwrap()] {
        for fact in
            ["[customer] name: \\\"Dana Levi\\\"", "[customer] order: \\\"shipped\\\"", "close at two in the afternoon"]
        {
            assert!(request.json.contains(fact), "{fact} is not in {}", request.json);
        }
        assert_eq!(request.json.matches("[customer] name").count(), 1, "only with the caller's last words");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_customer_goes_into_the_next_turn_and_delays_none() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (faces, _) = crm(|crm| crm.gate = Some(gate.clone())).await;
    let mut crm_config = asks(&faces, folder.path());
    crm_config.give_up = Duration::from_secs(60);
    let house = House::open(|config, _| config.crm = crm_config).await;
    let mut options = house.options(vec![say(QUESTION), say(QUESTION)]);
    options.from = DANA.into();
    let opened = async {
        until("the first turn's request has left", || house.simulator.counts().requests > 0).await;
        gate.add_permits(1);
    };
    let (call, ()) = tokio::join!(house.call(options), opened);
    call.unwrap();
    let seen = house.simulator.seen();
    assert!(!seen.first().unwrap().json.contains("Dana"), "{}", seen[0].json);
    assert!(seen.last().unwrap().json.contains("Dana Levi"), "{}", seen.last().unwrap().json);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crm_that_never_answers_is_noticed_by_no_caller() {
    let folder = tempfile::tempdir().unwrap();
    let (faces, crm) = crm(|crm| crm.fault = Some(CrmFault::Hang)).await;
    let crm_config = asks(&faces, folder.path());
    let house = House::open(|config, _| config.crm = crm_config).await;
    let mut options = house.options(vec![say(QUESTION)]);
    options.from = DANA.into();
    let call = house.call(options).await.unwrap();
    assert_eq!(crm.seen.all().len(), 1);
    let turn = &call.report.turns[0];
    assert!(
        turn.first_sound_ms.is_some_and(|ms| ms < 600.0) && turn.answer_start_ms.is_some_and(|ms| ms < 3000.0),
        "{turn:?}"
    );
    let reports = house.close().await;
    assert_eq!(reports[0].outcome, TurnOutcome::Answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_crm_is_told_by_its_name_and_gives_no_facts() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, told) in [
        (CrmFault::ServerError, "HTTP 500"),
        (CrmFault::Garbage, "not JSON: line 1"),
        (CrmFault::Huge, "longer than [crm] max_bytes (65536)"),
        (CrmFault::Hang, "give_up_ms"),
        (CrmFault::NotFound, "unknown"),
        (CrmFault::Empty, "unknown"),
        (CrmFault::Everybody, "unsure"),
    ] {
        let (faces, crm) = crm(|crm| crm.fault = Some(fault)).await;
        let mut config = asks(&faces, folder.path());
        config.give_up = Duration::from_millis(1500);
        let sources = sources(config, config::Knowledge::default()).await;
        let said = match sources.try_crm().await.unwrap() {
            Ok(Answer::Known(_)) => "known".into(),
            Ok(Answer::Unknown) => "unknown".into(),
            Ok(Answer::Unsure) => "unsure".into(),
            Err(fault) => fault.to_string(),
        };
        assert!(said.contains(told), "{fault:?}: {said}");
        assert!(!said.contains("972") && !said.contains("s3cret") && !said.contains("Dana"), "{said}");
        let briefing = Briefing::begin(&sources, &caller(DANA), Instant::now());
        until("the CRM is asked again", || crm.seen.all().len() == 2).await;
        assert_eq!(briefing.facts(Some(QUESTION)), None, "{fault:?}");
    }
    let fault = |answer: Option<Result<Answer, _>>| answer.and_then(Result::err).map(|fault| format!("{fault}"));
    let (faces, _) = crm(|crm| crm.key = "another".into()).await;
    let address = faces.address();
    let sources = self::sources(asks(&faces, folder.path()), config::Knowledge::default()).await;
    assert!(fault(sources.try_crm().await).unwrap().contains("refuses the key (HTTP 401)"));
    drop(faces);
    until("nobody is there", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(fault(sources.try_crm().await).unwrap().contains("cannot be reached"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_about_who_is_withheld_or_has_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let (faces, crm) = crm(|_| {}).await;
    let sources = sources(asks(&faces, folder.path()), config::Knowledge::default()).await;
    let withheld = Caller { private: true, ..caller(DANA) };
    let alice = Caller { number: None, user: "alice".into(), ..Caller::default() };
    let _not_asked = [&withheld, &alice].map(|caller| Briefing::begin(&sources, caller, Instant::now()));
    let asked = Briefing::begin(&sources, &caller("+972521112222"), Instant::now());
    until("Avi is known", || asked.facts(None).is_some_and(|facts| facts.contains("Avi Cohen"))).await;
    assert_eq!(crm.seen.all().len(), 1);

    let mut config = asks(&faces, folder.path());
    config.require_asserted = true;
    let strict = self::sources(config, config::Knowledge::default()).await;
    let _not_asked = Briefing::begin(&strict, &caller(DANA), Instant::now());
    let asked = Briefing::begin(&strict, &Caller { asserted: true, ..caller(DANA) }, Instant::now());
    until("Dana is known", || asked.facts(None).is_some()).await;
    assert_eq!(crm.seen.all().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_takes_along_follows_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let (faces, _) = crm(|_| {}).await;
    let mut config = asks(&faces, folder.path());
    config.topics = vec!["order".into()];
    let mut knowledge = texts(folder.path());
    knowledge.whole_up_to_chars = 0;
    let sources = sources(config, knowledge).await;
    let briefing = Briefing::begin(&sources, &caller(DANA), Instant::now());
    // Nothing was said yet: what the customer's order is about.
    until("the topics are prepared", || briefing.facts(None).is_some_and(|facts| facts.contains("within four days")))
        .await;
    let facts = |said| briefing.facts(said).unwrap();
    assert!(facts(Some(QUESTION)).contains("close at two") && !facts(Some(QUESTION)).contains("four days"));
    // Nobody wrote down what was said next, or it says nothing by itself.
    assert!(facts(None).contains("close at two"));
    assert!(facts(Some("And then?")).contains("close at two"));
    assert!(facts(Some("When does my order come?")).contains("four days"));
    assert!(sources.look_up("Friday").unwrap().contains("close at two") && sources.look_up("zebra").is_none());
}

/// An INVITE by hand, so that its instant is known; hangs up when it is answered and the CRM was asked. Gives when it left and how long the 200 took.
async fn ring(phone: &UdpSocket, house: &House, crm: &CrmOptions, n: usize) -> (Instant, Duration) {
    let (me, to) = (phone.local_addr().unwrap(), house.address);
    let head = |method: &str, tag: &str, sequence: u32, rest: &str| {
        format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{method}{n};rport\r\n\
             From: <sip:+97250{n:07}@{me}>;tag=from{n}\r\nTo: <sip:620@{to}>{tag}\r\nCall-ID: ring{n}@{me}\r\n\
             CSeq: {sequence} {method}\r\nContact: <sip:raw@{me}>\r\nMax-Forwards: 70\r\n{rest}"
        )
    };
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n", me.ip());
    let body = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
    let invite = head("INVITE", "", 1, &body);
    let left = Instant::now();
    phone.send_to(invite.as_bytes(), to).await.unwrap();
    let mut buffer = [0; 4096];
    let mut hears = async |start: &str, method: &str| loop {
        let length = soon("an answer", phone.recv(&mut buffer)).await.unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.starts_with(start) && message.contains(&format!("ring{n}@")) && message.contains(method) {
            return message;
        }
    };
    let ok = hears("SIP/2.0 200", "1 INVITE").await;
    let answered = left.elapsed();
    until("the CRM is asked", || crm.seen.all().iter().any(|(_, number)| *number == format!("+97250{n:07}"))).await;
    let tag = ok.lines().find(|line| line.starts_with("To:")).and_then(|line| line.split(";tag=").nth(1)).unwrap();
    let tag = format!(";tag={}", tag.trim());
    phone.send_to(head("ACK", &tag, 1, "Content-Length: 0\r\n\r\n").as_bytes(), to).await.unwrap();
    phone.send_to(head("BYE", &tag, 2, "Content-Length: 0\r\n\r\n").as_bytes(), to).await.unwrap();
    hears("SIP/2.0 200", "2 BYE").await;
    (left, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crm_is_asked_within_20_ms_of_the_invite_and_the_200_does_not_wait_for_it() {
    const CALLS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let (faces, crm) = crm(|crm| crm.fault = Some(CrmFault::Hang)).await;
    let crm_config = asks(&faces, folder.path());
    // The media thread lets go of a call up to 30 ms after its end; by then others have come.
    let house = House::open(|config, _| {
        config.crm = crm_config;
        (config.sip.max_calls_per_second, config.sip.max_calls) = (1000, 64);
    })
    .await;
    let phone = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let mut asked = Vec::new();
    let mut answered = Vec::new();
    for n in 0..CALLS {
        let (left, took) = ring(&phone, &house, &crm, n).await;
        let of_this_call = || crm.seen.all().into_iter().find(|(_, number)| *number == format!("+97250{n:07}"));
        asked.push(of_this_call().unwrap().0.duration_since(left).as_secs_f64() * 1000.0);
        answered.push(took.as_secs_f64() * 1000.0);
        house.is_empty().await;
    }
    let (asked, answered) = (Percentiles::of(asked).unwrap(), Percentiles::of(answered).unwrap());
    for (what, ms) in [("INVITE to CRM request", asked), ("INVITE to 200", answered)] {
        println!("{what}: p50 {:.1} ms, p95 {:.1} ms, max {:.1} ms of {CALLS}", ms.p50, ms.p95, ms.max);
    }
    assert!(asked.p50 <= 20.0, "{asked:?}");
    assert!(answered.p50 <= 200.0, "{answered:?}");
    house.close().await;
}
