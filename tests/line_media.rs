//! What a telephone does to the media of a call, against the whole appliance: late offers, hold, codec and address changes, early media.
//!
//! The telephone is a socket that sends the SIP messages a test writes, and an ear and a mouth beside it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use offhook::call::{self, Parts, Unanswered};
use offhook::clips::Library;
use offhook::codec::{Codec, HouseDecoder};
use offhook::config::{Answering, Keepalive, Policy, Trunk, TrunkMode};
use offhook::gemini::Gemini;
use offhook::http::Http;
use offhook::limits::Day;
use offhook::media::MediaThread;
use offhook::pcm::{FRAME_SAMPLES, Frame, PTIME, SILENCE, level, tone};
use offhook::playout::SharedForecast;
use offhook::playout::clips::Clips;
use offhook::rtp::packet::PacketView;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::srtp::{Inbound, Protocol};
use offhook::sdp;
use offhook::sip::{Dial, EndReason, OutgoingTrunk, Rejection, SipError, UserAgent, UserAgentOptions};
use offhook::timeline::TurnOutcome;
use offhook::tools::Toolbox;
use offhook::tts::CommandSynthesizer;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{self, Answer, Greeting, Placeholder, Second};
use house::{House, LOOPBACK, samples, say, soon, until};

const QUESTION: &str = "Are you open on Friday afternoon?";
const BOTH: &str = "0 8 101";

/// What came over the line, and what is said into it.
struct Voice {
    heard: Vec<i16>,
    payload_types: Vec<u8>,
    /// Packets without sound.
    empty: usize,
    to_say: VecDeque<Frame>,
    codec: Codec,
    /// Where the house listens; nothing is sent before it is known.
    remote: Option<SocketAddr>,
}

impl Voice {
    fn new() -> Self {
        Self {
            heard: Vec::new(),
            payload_types: Vec::new(),
            empty: 0,
            to_say: VecDeque::new(),
            codec: Codec::Pcmu,
            remote: None,
        }
    }
}

/// One telephone and its one call.
struct Phone {
    sip: UdpSocket,
    house: SocketAddr,
    to_tag: String,
    /// The last final response was no 2xx: its ACK belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
    refused: bool,
    sequence: u32,
    rtp_port: u16,
    voice: Arc<Mutex<Voice>>,
    talking: AbortHandle,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.talking.abort();
    }
}

/// Sends a frame every 20 ms and takes what comes, for ever.
async fn talk(rtp: UdpSocket, voice: Arc<Mutex<Voice>>, ssrc: u32) {
    let mut every = tokio::time::interval(PTIME);
    let mut sender = Sender::starting_at(Codec::Pcmu, Some(101.into()), ssrc, 1, 1);
    let mut decoder = HouseDecoder::new(Codec::Pcmu);
    let mut packet = [0; MAX_PACKET_BYTES];
    loop {
        every.tick().await;
        let (remote, length) = {
            let mut voice = voice.lock().unwrap();
            sender.renegotiate(voice.codec, Some(101.into()));
            let frame = voice.to_say.pop_front().unwrap_or(SILENCE);
            (voice.remote, sender.packet(&frame, false, &mut packet))
        };
        if let Some(remote) = remote {
            rtp.send_to(&packet[..length], remote).await.unwrap();
        }
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = rtp.try_recv_from(&mut buffer) {
            let packet = PacketView::parse(&buffer[..length]).unwrap();
            let mut voice = voice.lock().unwrap();
            let mut frame = SILENCE;
            if packet.payload.is_empty() {
                voice.empty += 1;
                continue;
            }
            let codec = Codec::from_payload_type(packet.payload_type).unwrap();
            decoder.decode(codec, packet.payload, &mut frame);
            voice.payload_types.push(packet.payload_type);
            voice.heard.extend(frame);
        }
    }
}

impl Phone {
    async fn new(house: &House) -> Self {
        let sip = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        sip.connect(house.address).await.unwrap();
        let voice = Arc::new(Mutex::new(Voice::new()));
        let (rtp_port, talking) = Self::line(&voice, 7).await;
        Self { sip, house: house.address, to_tag: String::new(), refused: false, sequence: 0, rtp_port, voice, talking }
    }

    async fn line(voice: &Arc<Mutex<Voice>>, ssrc: u32) -> (u16, AbortHandle) {
        let rtp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let port = rtp.local_addr().unwrap().port();
        (port, tokio::spawn(talk(rtp, voice.clone(), ssrc)).abort_handle())
    }

    /// Sends and listens from another port on.
    async fn moves(&mut self) {
        let (port, talking) = Self::line(&self.voice, 8).await;
        std::mem::replace(&mut self.talking, talking).abort();
        self.rtp_port = port;
    }

    fn voice(&self) -> MutexGuard<'_, Voice> {
        self.voice.lock().unwrap()
    }

    /// Our description; the version is that of the next request, `codecs` are payload types.
    fn sdp(&self, codecs: &str, direction: &str) -> String {
        format!(
            "v=0\r\no=- 5 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP {codecs}\r\n\
             a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n",
            self.sequence + 1,
            self.rtp_port
        )
    }

    async fn send(&mut self, method: &str, body: &str) {
        if method != "ACK" {
            self.sequence += 1;
        }
        let (from, to, n) = (self.sip.local_addr().unwrap(), self.house, self.sequence);
        let branch = if method == "ACK" && self.refused { "INVITE" } else { method };
        let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let message = format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{branch}-{n};rport\r\n\
             From: <sip:raw@{from}>;tag=raw\r\nTo: <sip:620@{to}>{}\r\nCall-ID: line-media@{from}\r\nCSeq: {n} {method}\r\n\
             Contact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\n{content_type}Content-Length: {}\r\n\r\n{body}",
            self.to_tag,
            body.len()
        );
        self.sip.send(message.as_bytes()).await.unwrap();
    }

    /// Waits for a message that begins so and has this in it; passes over the others.
    async fn hears(&self, begins: &str, has: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = soon(begins, self.sip.recv(&mut buffer)).await.unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]);
            if message.starts_with(begins) && message.contains(has) {
                return message.into_owned();
            }
        }
    }

    /// Sends a request and takes its final response; where the house listens is noted from it.
    async fn asks(&mut self, method: &str, body: &str) -> String {
        self.send(method, body).await;
        self.outcome(method).await
    }

    async fn outcome(&mut self, method: &str) -> String {
        let sequence = format!("CSeq: {} {method}", self.sequence);
        loop {
            let response = self.hears("SIP/2.0", &sequence).await;
            if response.starts_with("SIP/2.0 1") {
                continue;
            }
            self.refused = !response.starts_with("SIP/2.0 2");
            if let Some(to) = response.lines().find(|line| line.starts_with("To:")) {
                self.to_tag = to[to.find(";tag").unwrap()..].to_owned();
            }
            if let Some(remote) = media_port(&response) {
                self.voice().remote = Some((LOOPBACK, remote).into());
            }
            return response;
        }
    }

    /// An INVITE, its answer and the ACK.
    async fn invites(&mut self, body: &str) -> String {
        let response = self.asks("INVITE", body).await;
        self.send("ACK", "").await;
        // An offer on the heels of the ACK may overtake it within the agent, and is then told to come again (500).
        pass(50).await;
        response
    }

    /// Answers a request with 200.
    async fn agrees_to(&self, request: &str) {
        let echoed = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let echoed = request.lines().filter(|line| echoed.iter().any(|name| line.starts_with(name)));
        let echoed: String = echoed.map(|line| format!("{}\r\n", line.trim_end())).collect();
        self.sip.send(format!("SIP/2.0 200 OK\r\n{echoed}Content-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    }

    fn says(&self, sound: &[i16]) {
        self.voice().to_say.extend(sound.as_chunks::<FRAME_SAMPLES>().0);
    }

    /// Asks something by voice, and hears the placeholder and then the answer, whose sound is known, to its end.
    async fn is_answered(&self, answer: Sound) {
        self.asks_and_waits_for(answer).await;
        until("the answer is over", || self.is_quiet()).await;
        assert_eq!(self.sounds(), [Placeholder, answer]);
    }

    async fn asks_and_waits_for(&self, answer: Sound) {
        self.voice().heard.clear();
        self.says(&samples(&say(QUESTION)));
        until("the answer is heard", || self.sounds().contains(&answer)).await;
    }

    /// Whether the last second was silent.
    fn is_quiet(&self) -> bool {
        let voice = self.voice();
        voice.heard.len() > 8000 && level::rms_dbfs(&voice.heard[voice.heard.len() - 8000..]) < level::VOICED_DBFS
    }

    fn sounds(&self) -> Vec<Sound> {
        house::stretches(&self.voice().heard).iter().map(|stretch| stretch.sound).collect()
    }
}

/// The port of the audio line in a message's body.
fn media_port(message: &str) -> Option<u16> {
    message.split("m=audio ").nth(1)?.split(' ').next()?.parse().ok()
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_offer_is_offered_all_codecs_and_greeted_when_the_ack_has_answered() {
    let house = House::open(|config, _| config.conversation.greeting = true).await;
    let mut phone = Phone::new(&house).await;
    let offer = phone.asks("INVITE", "").await;
    assert!(offer.starts_with("SIP/2.0 200") && offer.contains(" RTP/AVP 9 111 0 8 101 110\r\n"), "{offer}");
    assert!(offer.contains("a=sendrecv"), "{offer}");
    pass(300).await;
    assert!(phone.voice().heard.is_empty(), "nobody has said where to send to");
    phone.voice().codec = Codec::Pcma;
    let answer = phone.sdp("8 101", "sendrecv");
    phone.send("ACK", &answer).await;
    until("the greeting is heard", || phone.voice().heard.len() > 17_600).await;
    let greeting = house::stretches(&phone.voice().heard)[0];
    assert!(greeting.sound == Greeting && greeting.frames >= 48, "{greeting:?}");
    assert!(phone.voice().payload_types.iter().all(|&payload_type| payload_type == 8));
    phone.is_answered(Answer).await;
    phone.asks("BYE", "").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_that_does_not_answer_our_offer_ends_the_call_with_a_reason() {
    let house = House::open(|_, _| {}).await;
    let unusable = |phone: &Phone| phone.sdp("18", "sendrecv");
    for answer in [|_: &Phone| String::new(), unusable] {
        let mut phone = Phone::new(&house).await;
        phone.asks("INVITE", "").await;
        let answer = answer(&phone);
        phone.send("ACK", &answer).await;
        let bye = phone.hears("BYE ", "Reason: SIP;cause=488;text=").await;
        phone.agrees_to(&bye).await;
    }
    house.is_empty().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_held_in_every_form_and_taken_back() {
    let house = House::open(|config, _| config.conversation.greeting = true).await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.invites(&sdp).await;
    until("the greeting has begun", || phone.sounds() == [Greeting]).await;

    let zero = |sdp: String| sdp.replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    for (form, answered) in [("sendonly", "a=recvonly"), ("inactive", "a=inactive"), ("sendrecv", "a=recvonly")] {
        let held = phone.sdp(BOTH, form);
        let held = if form == "sendrecv" { zero(held) } else { held };
        let answer = phone.invites(&held).await;
        assert!(answer.starts_with("SIP/2.0 200") && answer.contains(answered), "{answer}");
        // A tick, and what is on its way.
        pass(60).await;
        let before = std::mem::take(&mut phone.voice().heard).len();
        assert!(before < 8000, "the greeting was not cut off");
        // Music on hold with a voice in it.
        phone.says(&samples(&say(QUESTION)));
        pass(1500).await;
        phone.voice().to_say.clear();
        assert_eq!(phone.voice().heard.len(), 0, "{form}: something was said into the hold");
        let sdp = phone.sdp(BOTH, "sendrecv");
        let answer = phone.invites(&sdp).await;
        assert!(answer.contains("a=sendrecv"), "{answer}");
        until("we are heard again", || !phone.voice().heard.is_empty()).await;
    }
    assert_eq!(phone.voice().empty, 3, "one packet to keep the way open for each hold");
    assert_eq!(house.simulator.counts().requests, 0, "music on hold was answered");
    phone.is_answered(Answer).await;
    phone.asks("BYE", "").await;
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_hold_cuts_off_is_not_taken_up_again() {
    let house = House::open(|_, _| {}).await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.invites(&sdp).await;
    phone.asks_and_waits_for(Answer).await;
    let held = phone.sdp(BOTH, "sendonly");
    phone.asks("UPDATE", &held).await;
    pass(60).await;
    phone.voice().heard.clear();
    pass(500).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.asks("UPDATE", &sdp).await;
    pass(700).await;
    assert_eq!(phone.sounds(), []);
    assert!(phone.voice().heard.len() > 4000, "silence is sent again");
    phone.asks("BYE", "").await;
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Interrupted]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codec_and_address_change_within_the_call_and_a_refused_offer_changes_nothing() {
    let house = House::open(|_, _| {}).await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    let first = phone.invites(&sdp).await;
    phone.is_answered(Answer).await;
    assert!(phone.voice().payload_types.iter().all(|&payload_type| payload_type == 0));

    let version = |answer: &str| answer.split("\no=- ").nth(1).unwrap().split(' ').nth(1).unwrap().to_owned();
    let refused = phone.sdp("18 101", "sendrecv");
    let refusal = phone.invites(&refused).await;
    assert!(refusal.starts_with("SIP/2.0 488"), "{refusal}");
    assert!(refusal.contains("Warning: 305 ") && refusal.contains("enable G.711 at the peer"), "{refusal}");

    // The same once more is no change.
    let sdp = phone.sdp(BOTH, "sendrecv");
    assert_eq!(version(&phone.invites(&sdp).await), version(&first));

    phone.moves().await;
    phone.voice().codec = Codec::Pcma;
    let sdp = phone.sdp("8 0 101", "sendrecv");
    let answer = phone.invites(&sdp).await;
    assert!(answer.contains(" RTP/AVP 8 101\r\n"), "{answer}");
    assert_eq!((media_port(&answer), version(&answer)), (media_port(&first), "2".to_owned()));
    until("we are heard at the new port", || phone.voice().payload_types.last() == Some(&8)).await;
    phone.voice().payload_types.clear();
    phone.is_answered(Second).await;
    assert!(phone.voice().payload_types.iter().all(|&payload_type| payload_type == 8));
    phone.asks("BYE", "").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_an_offer_within_the_call_is_answered_with_ours_and_the_ack_decides() {
    let house = House::open(|_, _| {}).await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp("8 0 101", "sendrecv");
    phone.voice().codec = Codec::Pcma;
    phone.invites(&sdp).await;
    let offer = phone.asks("INVITE", "").await;
    assert!(offer.contains(" RTP/AVP 8 9 0 101\r\n") && offer.contains("a=sendrecv"), "{offer}");
    phone.voice().codec = Codec::Pcmu;
    let answer = phone.sdp("0 101", "sendrecv");
    phone.send("ACK", &answer).await;
    until("the other codec is heard", || phone.voice().payload_types.last() == Some(&0)).await;
    phone.is_answered(Answer).await;
    // A refresh whose ACK answers nothing leaves the call as it was.
    phone.invites("").await;
    phone.is_answered(Second).await;
    phone.asks("BYE", "").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_call_is_not_missed_and_one_that_is_taken_back_and_silent_is_hung_up_with_a_reason() {
    let house = House::open(|config, _| config.rtp.media_timeout = Duration::from_millis(600)).await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "inactive");
    phone.invites(&sdp).await;
    // Nothing is ever sent.
    phone.talking.abort();
    pass(1500).await;
    assert!(phone.asks("OPTIONS", "").await.starts_with("SIP/2.0 200"), "the call is still there");
    assert_eq!(house.media.lines.load(std::sync::atomic::Ordering::Relaxed), 1);
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.invites(&sdp).await;
    let bye = phone.hears("BYE ", "Reason: Q.850;cause=102;text=").await;
    phone.agrees_to(&bye).await;
    house.is_empty().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_taken_is_told_why() {
    let house = House::open(|_, _| {}).await;
    let mut phone = Phone::new(&house).await;
    for (offer, warning) in [
        (phone.sdp("4 18", "sendrecv"), "Warning: 305 "),
        (phone.sdp(BOTH, "sendrecv").replace("RTP/AVP", "UDP/TLS/RTP/SAVPF"), "Warning: 302 "),
        (phone.sdp(BOTH, "sendrecv").replace("RTP/AVP", "RTP/SAVP"), "Warning: 302 offhook \"the SDP asks for SRTP"),
        (phone.sdp(BOTH, "sendrecv").replace("m=audio", "m=video"), "Warning: 304 "),
        ("nonsense".to_owned(), "Warning: 399 "),
    ] {
        phone.to_tag.clear();
        let refusal = phone.invites(&offer).await;
        assert!(refusal.starts_with("SIP/2.0 488") && refusal.contains(warning), "{refusal}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_media_ring_in_the_tone_of_the_country_and_the_greeting_follows_the_answer() {
    let house = House::open(|config, _| {
        config.conversation.greeting = true;
        let ring = Duration::from_millis(800);
        let trunk = Trunk {
            mode: TrunkMode::IpAuth,
            domain: "127.0.0.1".into(),
            keepalive: Keepalive::Off,
            answer: Answering::EarlyMedia,
            ring,
            country: Some("IL".into()),
            ..Trunk::default()
        };
        config.trunk.insert("pbx".into(), trunk);
    })
    .await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.send("INVITE", &sdp).await;
    let progress = phone.hears("SIP/2.0 183", "m=audio").await;
    // A voice before the answer is not heard.
    phone.voice().remote = media_port(&progress).map(|port| (LOOPBACK, port).into());
    phone.says(&samples(&say(QUESTION))[..30 * FRAME_SAMPLES]);
    pass(600).await;
    let rung = phone.voice().heard.clone();
    assert!(rung.len() > 20 * FRAME_SAMPLES && tone::share_of(400.0, &rung) > 0.9, "{}", tone::share_of(400.0, &rung));
    let answer = phone.outcome("INVITE").await;
    phone.voice().heard.clear();
    phone.send("ACK", "").await;
    let body = |message: &str| message.split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert_eq!(body(&answer), body(&progress));
    until("the greeting is heard", || {
        house::stretches(&phone.voice().heard).iter().any(|s| s.sound == Greeting && s.frames >= 48)
    })
    .await;
    assert_eq!(house.simulator.counts().requests, 0, "what was said before the answer was answered");
    phone.asks("BYE", "").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_up_in_early_media_leaves_nothing_behind() {
    let house = House::open(|config, _| {
        let trunk = Trunk {
            mode: TrunkMode::IpAuth,
            domain: "127.0.0.1".into(),
            keepalive: Keepalive::Off,
            answer: Answering::EarlyMedia,
            ring: Duration::from_secs(30),
            ..Trunk::default()
        };
        config.trunk.insert("pbx".into(), trunk);
    })
    .await;
    let mut phone = Phone::new(&house).await;
    let sdp = phone.sdp(BOTH, "sendrecv");
    phone.send("INVITE", &sdp).await;
    phone.hears("SIP/2.0 183", "m=audio").await;
    until("it is served", || house.media.lines.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    // A BYE in the early dialog needs the tag; CANCEL has the INVITE's branch.
    let (from, to, n) = (phone.sip.local_addr().unwrap(), phone.house, phone.sequence);
    let cancel = format!(
        "CANCEL sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-INVITE-{n};rport\r\n\
         From: <sip:raw@{from}>;tag=raw\r\nTo: <sip:620@{to}>\r\nCall-ID: line-media@{from}\r\nCSeq: {n} CANCEL\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    phone.sip.send(cancel.as_bytes()).await.unwrap();
    let outcome = phone.outcome("INVITE").await;
    assert!(outcome.starts_with("SIP/2.0 487"), "{outcome}");
    house.is_empty().await;
    house.close().await;
}

/// What all calls share, with nothing behind it that is not needed to greet.
async fn parts(folder: &std::path::Path) -> Arc<Parts> {
    let mut config = house::tone_config(folder);
    (config.rtp.port_min, config.rtp.port_max) = (0, 0);
    config.gemini.base_url = "http://127.0.0.1:9".into();
    Arc::new(Parts {
        clips: Arc::new(Library::new(Clips::configured(&config).unwrap())),
        greeting_desk: None,
        model: Arc::new(Gemini::new(&config.gemini, None, &Http::new(config.gemini.connect).unwrap()).unwrap()),
        tools: Arc::new(Toolbox::new(&config, &Http::new(config.gemini.connect).unwrap(), None, None).unwrap()),
        voicemail: None,
        day: Day::open(None).unwrap(),
        voice: Arc::new(CommandSynthesizer::new(&config.voice).unwrap()),
        sources: Arc::default(),
        media: Arc::new(MediaThread::start(1).unwrap()),
        media_address: LOOPBACK,
        bind_address: LOOPBACK,
        forecast: SharedForecast::default(),
        end_of_turn: None,
        recogniser: None,
        speech: None,
        speech_loudness: Default::default(),
        reports: tokio::sync::mpsc::channel(8).0,
        records: offhook::record::Ledger::new(8, false).0,
        config,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_we_place_listens_to_early_media_and_greets_after_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(folder.path()).await;
    let options = || UserAgentOptions::new((LOOPBACK, 0).into());
    let (agent, _incoming) = UserAgent::start(options()).await.unwrap();
    let (callee, mut calls) = UserAgent::start(options()).await.unwrap();
    let dial = Dial { to: format!("sip:callee@{}", callee.local_addr()), ..Dial::default() };
    let stop = CancellationToken::new();
    let placed = parts.clone();
    let placing = tokio::spawn(async move { call::place(placed, Arc::new(agent), dial, LOOPBACK, stop).await });

    let incoming = soon("the call", calls.recv()).await.unwrap();
    let offer = String::from_utf8(incoming.offer.clone()).unwrap();
    let voice = Arc::new(Mutex::new(Voice::new()));
    let (port, talking) = Phone::line(&voice, 9).await;
    let media = sdp::LocalMedia { address: LOOPBACK, port, session_id: 3, version: 1 };
    let (answer, _) =
        sdp::Offer::parse(offer.as_bytes()).unwrap().answer(&media, &Codec::ALL, &sdp::MediaSecurity::OFF).unwrap();
    voice.lock().unwrap().remote = media_port(&offer).map(|port| (LOOPBACK, port).into());
    // A ringing tone, and an announcement in which somebody speaks.
    voice.lock().unwrap().to_say.extend(samples(&say(QUESTION)).as_chunks::<FRAME_SAMPLES>().0);
    incoming.early_media(answer.clone());
    until("packets come before the answer", || voice.lock().unwrap().heard.len() > 4000).await;
    assert!(house::stretches(&voice.lock().unwrap().heard).is_empty(), "the greeting came before the answer");
    voice.lock().unwrap().to_say.clear();
    // What is under way of it would stop the greeting.
    pass(300).await;
    let mut dialog = incoming.answer(answer).await.unwrap();
    let greeted =
        || house::stretches(&voice.lock().unwrap().heard).iter().any(|s| s.sound == Greeting && s.frames >= 48);
    until("the greeting is heard", greeted).await;
    dialog.hang_up().await;
    let ended = soon("the end of the placed call", placing).await.unwrap().unwrap();
    assert_eq!(ended, EndReason::ByPeer);
    talking.abort();
    assert_eq!(house::stretches(&voice.lock().unwrap().heard)[0].sound, Greeting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_we_place_through_a_trunk_is_secured_as_the_trunk_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = parts(folder.path()).await;
    let options = || UserAgentOptions::new((LOOPBACK, 0).into());
    let (agent, _incoming) = UserAgent::start(options()).await.unwrap();
    let agent = Arc::new(agent);
    let (callee, mut calls) = UserAgent::start(options()).await.unwrap();
    for (name, srtp, srtp_over_clear_signalling) in
        [("plain", Policy::Off, false), ("secure", Policy::Required, true), ("careful", Policy::Required, false)]
    {
        let trunk = Trunk {
            mode: TrunkMode::IpAuth,
            domain: callee.local_addr().to_string(),
            srtp,
            srtp_over_clear_signalling,
            ..Trunk::default()
        };
        agent.add_trunk(OutgoingTrunk::new(name, &trunk, None).unwrap());
        Arc::get_mut(&mut parts).unwrap().config.trunk.insert(name.into(), trunk);
    }
    let place = |trunk: &str, stop| {
        let dial = Dial { to: "620".into(), trunk: Some(trunk.to_owned()), ..Dial::default() };
        call::place(parts.clone(), agent.clone(), dial, LOOPBACK, stop)
    };

    let careful = soon("the refusal", place("careful", CancellationToken::new())).await;
    assert!(matches!(careful, Err(Unanswered::Sdp(sdp::SdpError::SrtpInClear))), "{careful:?}");
    let unknown = soon("the refusal", place("none", CancellationToken::new())).await;
    assert!(matches!(unknown, Err(Unanswered::Sip(SipError::UnknownTrunk { .. }))), "{unknown:?}");

    let (refused, _) = tokio::join!(place("plain", CancellationToken::new()), async {
        let incoming = soon("the plain call", calls.recv()).await.unwrap();
        let offer = String::from_utf8(incoming.offer.clone()).unwrap();
        assert!(offer.contains(" RTP/AVP ") && !offer.contains("crypto"), "{offer}");
        incoming.reject(Rejection::Busy);
    });
    assert_eq!(refused.unwrap_err().status(), Some(486));

    let rtp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let media =
        sdp::LocalMedia { address: LOOPBACK, port: rtp.local_addr().unwrap().port(), session_id: 3, version: 1 };
    let security = sdp::MediaSecurity::new(Policy::Required, false, true).unwrap();
    let (ended, _) = tokio::join!(place("secure", CancellationToken::new()), async {
        let incoming = soon("the secure call", calls.recv()).await.unwrap();
        assert!(String::from_utf8_lossy(&incoming.offer).contains(" RTP/SAVP "));
        let (answer, agreed) =
            sdp::Offer::parse(&incoming.offer).unwrap().answer(&media, &Codec::ALL, &security).unwrap();
        let mut dialog = incoming.answer(answer).await.unwrap();
        let mut inbound = Inbound::new(Protocol::Rtp, &agreed.srtp.unwrap());
        let mut packet = [0; 2048];
        for _ in 0..10 {
            let length = soon("a packet", rtp.recv(&mut packet)).await.unwrap();
            let length = inbound.unprotect(&mut packet[..length]).unwrap();
            assert_eq!(PacketView::parse(&packet[..length]).unwrap().payload_type, agreed.codec.payload_type());
        }
        dialog.hang_up().await;
    });
    assert_eq!(ended.unwrap(), EndReason::ByPeer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_we_place_may_be_refused_or_cancelled_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(folder.path()).await;
    let options = || UserAgentOptions::new((LOOPBACK, 0).into());
    let (agent, _incoming) = UserAgent::start(options()).await.unwrap();
    let agent = Arc::new(agent);
    let (callee, mut calls) = UserAgent::start(options()).await.unwrap();
    let dial = Dial { to: format!("sip:callee@{}", callee.local_addr()), ..Dial::default() };
    let place = |stop| call::place(parts.clone(), agent.clone(), dial.clone(), LOOPBACK, stop);
    let (refused, _) = tokio::join!(place(CancellationToken::new()), async {
        soon("the call", calls.recv()).await.unwrap().reject(Rejection::Busy);
    });
    assert_eq!(refused.unwrap_err().status(), Some(486));
    let stop = CancellationToken::new();
    let (cancelled, _) = tokio::join!(place(stop.clone()), async {
        let ringing = soon("the call", calls.recv()).await.unwrap();
        ringing.ring();
        stop.cancel();
        ringing.cancelled().await;
    });
    assert!(matches!(cancelled, Err(Unanswered::Sip(SipError::Cancelled))), "{cancelled:?}");
    assert_eq!(parts.media.counters().lines.load(std::sync::atomic::Ordering::Relaxed), 0);
}
