//! The whole appliance: simulator, service and test phone in one process, over real SIP, RTP and HTTP on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::pcm::FRAME_SAMPLES;
use offhook::phone::caller::{Agreed, Caller};
use offhook::phone::mouth::Utterance;
use offhook::phone::run::Wires;
use offhook::phone::{self, PhoneError};
use offhook::rtp::impairment::Profile;
use offhook::rtp::socket;
use offhook::sdp::{self, LocalMedia, MediaSecurity};
use offhook::simulator::Counts;
use offhook::sip::{Progress, UserAgent, UserAgentOptions};
use offhook::timeline::TurnOutcome;
use tokio::task::JoinSet;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
#[path = "support/relay.rs"]
mod relay;
use house::Sound::{self, Answer, Apology, Greeting, Placeholder, Second};
use house::{House, LOOPBACK, free_ports, samples, say, soon, until};
use relay::Relay;

const QUESTION: &str = "Are you open on Friday afternoon?";
const ANOTHER: &str = "How do I find you in the city?";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_greeted_and_answered_turn_by_turn_in_one_unbroken_stream() {
    let house = House::open(|config, _| config.conversation.greeting = true).await;
    let call = house.call(house.options(vec![say(QUESTION), say(ANOTHER)])).await.unwrap();
    assert_eq!(call.sounds(), [Greeting, Placeholder, Answer, Placeholder, Second], "{:?}", call.heard);
    let report = &call.report;
    assert_eq!((report.ended_by, report.turns.len()), ("caller", 2));
    assert!(report.greeting_start_ms.is_some());
    for turn in &report.turns {
        assert_eq!(turn.placeholder.as_deref(), Some("placeholder"));
        assert!(turn.first_sound_ms == turn.placeholder_start_ms && turn.answer_start_ms > turn.placeholder_end_ms);
        // No answer is heard before the turn is committed.
        assert!(turn.answer_start_ms >= Some(650.0), "{turn:?}");
        assert_eq!((turn.spoke_over_caller_ms, turn.answer_interrupted), (0.0, false));
    }

    // One source, numbered without a gap. A ptime that the machine did not grant has no packet, and its timestamp is left out.
    let packets = &report.packets;
    let skipped = house.media.skipped.load(Relaxed);
    assert_eq!((packets.lost, packets.duplicates, packets.restarts, packets.ssrc_changes), (0, 0, 0, 0), "{packets:?}");
    assert!(packets.timestamp_jumps <= skipped, "{packets:?}, {skipped} skipped");
    let ptimes = (report.duration_ms / 20.0) as u64;
    assert!((packets.received + skipped).abs_diff(ptimes) <= 3 + ptimes / 50, "{packets:?} in {ptimes} ptimes");

    let seen = house.simulator.seen();
    let shape: Vec<_> = seen.iter().map(|seen| (seen.contents, seen.caller_turns, seen.audio.len())).collect();
    assert_eq!(shape, [(1, 1, 1), (3, 2, 2)]);
    for (seen, turn) in seen.iter().zip(&report.turns) {
        let said = Duration::from_secs_f64(turn.spoken_ms / 1000.0);
        let sent = seen.audio.last().unwrap().duration;
        assert!(sent >= said && sent <= said + Duration::from_millis(800), "{said:?} came as {sent:?}");
    }
    assert!(seen[1].json.contains("Good day") && seen[1].json.contains("before you called"), "{}", seen[1].json);
    assert_eq!((house.simulator.counts().requests, house.simulator.counts().cancelled), (2, 0));

    let turns = house.close().await;
    assert_eq!(turns.iter().map(|turn| turn.outcome).collect::<Vec<_>>(), [TurnOutcome::Answered; 2]);
    for turn in &turns {
        let marks = serde_json::to_value(turn).unwrap();
        let absent: Vec<_> = marks.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).collect();
        assert!(absent.is_empty(), "{absent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_speaks_over_the_answer_silences_it_and_the_model_learns_what_was_heard() {
    let house = House::open(|_, _| {}).await;
    let mut options = house.options(vec![say(QUESTION), say(ANOTHER)]);
    options.script.barge_in = Some((1, Duration::from_millis(400)));
    let call = house.call(options).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer, Placeholder, Second]);
    let [first, second] = &call.report.turns[..] else { panic!("{:?}", call.report) };
    assert!(first.answer_interrupted && !second.answer_interrupted);
    // 150 ms are promised; a machine that is busy takes longer, but not as long as the phrase has left.
    assert!(second.barge_in_stop_ms.is_some_and(|ms| ms < 400.0), "{second:?}");

    let seen = house.simulator.seen();
    let heard = &seen.last().unwrap().json;
    assert!(!heard.contains("before you called"), "the model believes that all of its answer was heard: {heard}");
    let turns = house.close().await;
    let outcomes: Vec<_> = turns.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Interrupted, TurnOutcome::Answered]);
    assert!(turns[0].answer_end_ms > turns[0].answer_start_ms, "{:?}", turns[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_700_ms_inside_a_sentence_is_not_answered() {
    let house = House::open(|_, cloud| cloud.first_token = Duration::from_millis(900)).await;
    let pause = vec![0; 35 * FRAME_SAMPLES];
    let sentence =
        [samples(&say("I would like to order a taxi")), pause, samples(&say("for tomorrow morning"))].concat();
    let sentence = Utterance::from_sound(&sentence, "a sentence with a pause").unwrap();
    assert_eq!(sentence.pauses.len(), 1);
    let call = house.call(house.options(vec![sentence])).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    let [turn] = &call.report.turns[..] else { panic!("{:?}", call.report) };
    assert_eq!(turn.spoke_over_caller_ms, 0.0, "half a sentence was answered: {turn:?} {:?}", call.heard);
    assert!(turn.placeholder_stop_after_resume_ms.is_none_or(|ms| ms < 300.0), "{turn:?}");

    let counts = house.simulator.reached(|counts| counts.in_flight == 0).await;
    assert_eq!((counts.requests, counts.cancelled), (2, 1), "the request for half a sentence is taken back");
    let seen = house.simulator.seen();
    let sound = |n: usize| seen[n].audio.iter().map(|heard| heard.duration).sum::<Duration>();
    assert_eq!((seen[0].caller_turns, seen[1].caller_turns), (1, 1));
    assert!(sound(1) > sound(0) + Duration::from_millis(700), "{:?} and {:?}", sound(0), sound(1));
    let turns = house.close().await;
    assert_eq!(turns.iter().map(|turn| (turn.outcome, turn.resumed)).collect::<Vec<_>>(), [(TurnOutcome::Answered, 1)]);
}

/// A call of two turns; the model does to the first what `orders` say, and the voice thinks for so many seconds.
async fn call_while_the_model_fails(orders: &[&str], voice_seconds: u32) -> (Vec<Sound>, Vec<TurnOutcome>, Counts) {
    let house = House::open(|config, cloud| {
        let speak = config.voice.command.last_mut().unwrap();
        *speak = speak.replace(" cat ", &format!(" sleep {voice_seconds}; cat "));
        cloud.faults = orders.iter().map(|order| order.parse().unwrap()).collect();
        config.gemini.first_token = Duration::from_millis(900);
        config.gemini.between_tokens = Duration::from_millis(500);
    })
    .await;
    let mut options = house.options(vec![say(QUESTION), say(ANOTHER)]);
    options.script.answer_wait = Duration::from_millis(2500);
    let call = house.call(options).await.unwrap();
    let counts = house.simulator.reached(|counts| counts.in_flight == 0).await;
    (call.sounds(), house.close().await.iter().map(|turn| turn.outcome).collect(), counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_is_apologised_for_and_the_next_turn_is_answered() {
    // What may be over in a moment is tried once more: the request at the soft end is that after an early one. A text that has begun and a
    // silence are not.
    let often = ["429", "503", "reset"].map(|fault| [1, 2].map(|request| format!("{request}:{fault}")));
    let once = ["1:S8", "1:hang"].map(|order| (vec![order], 2));
    let orders = often.iter().map(|orders| (orders.iter().map(String::as_str).collect(), 3)).chain(once);
    let mut calls = JoinSet::new();
    for (orders, requests) in orders {
        let orders: Vec<String> = orders.into_iter().map(str::to_owned).collect();
        calls.spawn(async move {
            let named: Vec<&str> = orders.iter().map(String::as_str).collect();
            let (sounds, outcomes, counts) = call_while_the_model_fails(&named, 0).await;
            assert_eq!(outcomes, [TurnOutcome::Apologised, TurnOutcome::Answered], "{orders:?}");
            assert_eq!(sounds[..3], [Placeholder, Apology, Placeholder], "{orders:?}: {sounds:?}");
            assert!(matches!(sounds[3..], [Answer | Second]), "{orders:?}: {sounds:?}");
            assert_eq!(counts.requests, requests, "{orders:?}");
            assert_eq!(counts.cancelled, u32::from(orders == ["1:hang"]), "{orders:?}");
        });
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_spoken_as_an_answer_and_not_apologised_for() {
    let (sounds, outcomes, counts) = call_while_the_model_fails(&["1:S5"], 0).await;
    assert_eq!(outcomes, [TurnOutcome::Answered, TurnOutcome::Answered]);
    assert_eq!(sounds[..3], [Placeholder, Answer, Placeholder], "{sounds:?}");
    assert_eq!(counts.requests, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_of_an_answer_that_stops_stands_and_the_next_turn_is_answered() {
    // A voice that is slower than our patience with the model still says what there is.
    for voice_seconds in [0, 1] {
        let (sounds, outcomes, counts) = call_while_the_model_fails(&["1:S11=60000"], voice_seconds).await;
        assert_eq!(sounds, [Placeholder, Answer, Placeholder, Second]);
        assert_eq!(outcomes, [TurnOutcome::Truncated, TurnOutcome::Answered]);
        assert_eq!((counts.requests, counts.cancelled), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_may_hang_up_at_any_time_and_everything_is_free_within_a_second() {
    let (first, last) = free_ports(1);
    // One call and one pair of ports: whatever is left of a call keeps the next one out.
    let house = House::open(|config, cloud| {
        config.sip.max_calls = 1;
        (config.rtp.port_min, config.rtp.port_max) = (first, last);
        config.conversation.greeting = true;
        cloud.tokens_per_second = 15.0;
        cloud.faults = vec!["1:hang".parse().unwrap()];
    })
    .await;
    let free = async || {
        let since = Instant::now();
        house.is_empty().await;
        let port = |port| std::net::UdpSocket::bind((LOOPBACK, port)).is_ok();
        until("the call's ports are free", || port(first) && port(last)).await;
        assert!(since.elapsed() < Duration::from_secs(1), "only after {:?}", since.elapsed());
    };

    // As it rings: the CANCEL may cross the 200, and then the call is hung up as it is answered.
    for _ in 0..5 {
        let (caller, _incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
        let media = LocalMedia { address: LOOPBACK, port: 9, session_id: 1, version: 1 };
        let mut call =
            caller.invite(&house.uri(), sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).await.unwrap();
        // The 200 may be on the heels of the 180.
        let rings = soon("the ringing", call.progress()).await;
        assert!(matches!(rings, Some(Progress::Ringing) | None), "{rings:?}");
        call.cancel();
        if let Ok((mut dialog, _)) = soon("the end", call.answered()).await {
            soon("the answered BYE", dialog.hang_up()).await;
        }
        free().await;
    }

    // In the greeting.
    let mut options = house.options(vec![]);
    options.script.longest_sound = Duration::from_millis(500);
    let call = house.call(options).await.unwrap();
    free().await;
    assert_eq!(call.sounds(), [Greeting]);
    assert!(call.heard[0].frames < 40, "{:?}", call.heard);

    // While the model is silent.
    let mut options = house.options(vec![say(QUESTION)]);
    options.script.answer_wait = Duration::from_millis(1200);
    let call = house.call(options).await.unwrap();
    free().await;
    assert_eq!(call.sounds(), [Greeting, Placeholder]);
    assert_eq!(
        soon("the cancelled request", house.simulator.reached(|counts| counts.in_flight == 0)).await.cancelled,
        1
    );

    // In the answer, of which the model still has some to write.
    let mut options = house.options(vec![say(QUESTION)]);
    options.script.longest_sound = Duration::from_millis(1600);
    let call = house.call(options).await.unwrap();
    free().await;
    assert_eq!(call.sounds(), [Greeting, Placeholder, Answer]);
    let counts = soon("the cancelled request", house.simulator.reached(|counts| counts.in_flight == 0)).await;
    assert_eq!((counts.requests, counts.cancelled), (2, 2));
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::HungUp; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_gone_without_a_word_is_hung_up_on_and_everything_is_free_within_a_second() {
    let (first, last) = free_ports(1);
    let house = House::open(|config, _| {
        (config.rtp.port_min, config.rtp.port_max) = (first, last);
        config.rtp.media_timeout = Duration::from_millis(600);
    })
    .await;
    // It answers nothing, and sends no sound.
    let peer = RawPeer::new(house.address).await;
    peer.invite().await;
    let since = Instant::now();
    peer.hears("BYE sip:raw@").await;
    assert!(since.elapsed() > Duration::from_millis(500), "hung up too early: {:?}", since.elapsed());
    let since = Instant::now();
    house.is_empty().await;
    let port = |port| std::net::UdpSocket::bind((LOOPBACK, port)).is_ok();
    until("the call's ports are free", || port(first) && port(last)).await;
    assert!(since.elapsed() < Duration::from_secs(1), "only after {:?}", since.elapsed());
    peer.hears("BYE sip:raw@").await;
    house.close().await;
}

/// A peer that sends what it is told to and answers nothing.
struct RawPeer {
    socket: tokio::net::UdpSocket,
}

impl RawPeer {
    async fn new(house: SocketAddr) -> Self {
        let socket = tokio::net::UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        socket.connect(house).await.unwrap();
        Self { socket }
    }

    /// Waits for a message that begins so; passes over the others.
    async fn hears(&self, begins: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = soon(begins, self.socket.recv(&mut buffer)).await.unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]);
            if message.starts_with(begins) {
                return message.into_owned();
            }
        }
    }

    async fn send(&self, method: &str, to_tag: &str, body: &str) {
        let (from, to) = (self.socket.local_addr().unwrap(), self.socket.peer_addr().unwrap());
        let message = format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method};rport\r\n\
             From: <sip:raw@{from}>;tag=raw\r\nTo: <sip:620@{to}>{to_tag}\r\nCall-ID: gone\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send(message.as_bytes()).await.unwrap();
    }

    /// Is answered, and acknowledges that.
    async fn invite(&self) {
        let media = LocalMedia { address: LOOPBACK, port: 9, session_id: 1, version: 1 };
        let offer = String::from_utf8(sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).unwrap();
        self.send("INVITE", "", &offer).await;
        let answer = self.hears("SIP/2.0 200").await;
        let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
        self.send("ACK", &to[to.find(";tag").unwrap()..], "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_behind_a_bad_network_is_still_answered() {
    let house = House::open(|_, _| {}).await;
    let (rtp, rtcp) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let profile = Profile {
        loss: 0.05,
        reorder: 0.05,
        reorder_by: Duration::from_millis(30),
        duplicate: 0.03,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        ..Profile::default()
    };
    let relay = Relay::start(None, rtp.local_addr().unwrap(), profile, 11);
    let (agent, _incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
    let media = LocalMedia { address: LOOPBACK, port: relay.near.port(), session_id: 1, version: 1 };
    let mut call = agent.invite(&house.uri(), sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).await.unwrap();
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    let agreed = sdp::parse_answer(&answer, &Codec::ALL, &MediaSecurity::OFF).unwrap();
    let wires = Wires { rtp, rtcp, remote: relay.far, remote_rtcp: agreed.remote_rtcp, keys: None };
    let agreed = Agreed { codec: agreed.codec, events: agreed.telephone_event };
    let options = house.options(vec![say(QUESTION)]);
    let caller = Caller::new(Instant::now(), agreed, options.utterances, options.clips, options.script);
    let talking = phone::run::start(wires, caller, Arc::default()).unwrap();
    let talked = soon("the end of the talk", talking).await.unwrap().talked;
    soon("the answered BYE", dialog.hang_up()).await;

    let network = relay.stop();
    assert!(network.lost > 3 && network.reordered > 3 && network.duplicated > 1, "{network:?}");
    let sounds: Vec<_> = house::stretches(talked.ear.samples()).iter().map(|stretch| stretch.sound).collect();
    assert_eq!(sounds, [Placeholder, Answer]);
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Answered]);
}

/// Throws garbage at UDP ports, a round every few milliseconds, until it is dropped.
struct Garbage(Arc<AtomicBool>);

impl Garbage {
    fn at(ports: Vec<SocketAddr>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let stop = over.clone();
        std::thread::spawn(move || {
            let socket = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap();
            let mut random = fastrand::Rng::with_seed(3);
            while !stop.load(Relaxed) {
                for port in &ports {
                    let mut bytes: Vec<u8> = (0..random.usize(..400)).map(|_| random.u8(..)).collect();
                    // Some of it looks like RTP of a codec in use, like RTCP, or like SIP.
                    match (random.u8(..6), bytes.as_mut_slice()) {
                        (0, [version, kind, ..]) => (*version, *kind) = (0x80, 0),
                        (1, [version, kind, ..]) => (*version, *kind) = (0x81, 200 + random.u8(..5)),
                        (2, _) => bytes = b"INVITE sip:x SIP/2.0\r\nVia: \r\nContent-Length: 99999\r\n\r\n".to_vec(),
                        _ => {}
                    }
                    let _ = socket.send_to(&bytes, port);
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        Self(over)
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_at_once_do_not_hear_each_other_nor_garbage_and_a_third_is_busy() {
    let (first, last) = free_ports(2);
    let house = House::open(|config, _| {
        config.sip.max_calls = 2;
        (config.rtp.port_min, config.rtp.port_max) = (first, last);
    })
    .await;
    let ports = (first..=last).map(|port| (LOOPBACK, port).into()).chain([house.address]);
    let garbage = Garbage::at(ports.collect());
    let long = || house.options(vec![say("I wanted to ask whether you are open on Friday afternoon"), say(ANOTHER)]);
    let short = || house.options(vec![say("Are you there?"), say(ANOTHER)]);
    let third = async {
        until("two calls are up", || house.media.lines.load(Relaxed) == 2).await;
        house.call(short()).await.err()
    };
    let (one, other, third) = tokio::join!(house.call(long()), house.call(short()), third);
    drop(garbage);
    assert!(matches!(third, Some(PhoneError::Busy { code: 486, .. })), "{third:?}");
    let mut spoken = Vec::new();
    for call in [one.unwrap(), other.unwrap()] {
        assert_eq!(call.sounds(), [Placeholder, Answer, Placeholder, Second], "{:?}", call.heard);
        let packets = &call.report.packets;
        assert_eq!((packets.lost, packets.ssrc_changes, packets.restarts), (0, 0, 0), "{packets:?}");
        spoken.push(call.report.turns[0].spoken_ms);
    }
    // The model was sent what each of them had said, and nothing of what the other had.
    let seen = house.simulator.seen();
    let mut sent: Vec<_> = seen.iter().filter(|seen| seen.contents == 1).map(|seen| seen.audio[0].duration).collect();
    sent.sort();
    spoken.sort_by(f64::total_cmp);
    assert_eq!((sent.len(), house.simulator.counts().requests), (2, 4));
    for (sent, spoken) in sent.iter().zip(spoken) {
        let more = sent.as_secs_f64() * 1000.0 - spoken;
        assert!((0.0..800.0).contains(&more), "{spoken} ms came as {sent:?}");
    }
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Answered; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_allowed_gets_403_when_strangers_are_told() {
    let house = House::open(|config, _| {
        config.sip.allowed_peers = vec!["192.0.2.0/24".parse().unwrap()];
        config.sip.silent_to_strangers = false;
    })
    .await;
    let error = house.call(house.options(vec![])).await.err().unwrap();
    assert!(matches!(error, PhoneError::Refused { code: 403, .. }), "{error}");
    assert!(error.to_string().contains("allowed peers"), "{error}");
    house.close().await;
}
