//! Callers who are handed over, and calls that are taken over, against the whole appliance. A user agent plays the PBX: callers and persons.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offhook::codec::{Codec, HouseDecoder};
use offhook::config::{Keepalive, Transferring, Trunk, TrunkMode};
use offhook::pcm::{FRAME_SAMPLES, Frame, PTIME, RATE, SILENCE, tone};
use offhook::rtp::packet::PacketView;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::sdp::{self, LocalMedia};
use offhook::sip::{
    Dial, Dialog, DialogEvent, EndReason, IncomingCall, Rejection, SipError, TransferEvent, UserAgent, UserAgentOptions,
};
use tokio::sync::mpsc::Receiver;
use tokio::task::AbortHandle;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Apology, Placeholder, Second};
use house::{House, LOOPBACK, samples, say, soon, stretches, until};

const QUESTION: &str = "Are you open on Friday afternoon?";
const ANOTHER: &str = "How do I find you in the city?";
const CALLER_HZ: f32 = 1900.0;
const PERSON_HZ: f32 = 2300.0;

/// What a telephone says and hears.
struct Ear {
    heard: Vec<i16>,
    to_say: std::collections::VecDeque<Frame>,
    key: Option<char>,
    remote: Option<SocketAddr>,
}

/// The media of a telephone.
struct Phone {
    ear: Arc<Mutex<Ear>>,
    port: u16,
    talking: AbortHandle,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.talking.abort();
    }
}

async fn talk(socket: UdpSocket, ear: Arc<Mutex<Ear>>) {
    socket.set_nonblocking(true).unwrap();
    let mut every = tokio::time::interval(PTIME);
    let mut sender = Sender::new(Codec::Pcma, Some(101.into()));
    let mut decoder = HouseDecoder::new(Codec::Pcmu);
    loop {
        every.tick().await;
        let mut ear = ear.lock().unwrap();
        let frame = ear.to_say.pop_front().unwrap_or(SILENCE);
        if let Some(key) = ear.key.take() {
            assert!(sender.dial(key, Duration::from_millis(100)));
        }
        let mut packet = [0; MAX_PACKET_BYTES];
        let length = sender.packet(&frame, false, &mut packet);
        if let Some(remote) = ear.remote {
            socket.send_to(&packet[..length], remote).unwrap();
        }
        let mut packet = [0; 2048];
        while let Ok(length) = socket.recv(&mut packet) {
            let view = PacketView::parse(&packet[..length]).unwrap();
            if view.payload_type == Codec::Pcma.payload_type() {
                let mut frame = SILENCE;
                decoder.decode(Codec::Pcma, view.payload, &mut frame);
                ear.heard.extend(frame);
            }
        }
    }
}

impl Phone {
    fn new() -> Self {
        let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let ear = Ear { heard: Vec::new(), to_say: Default::default(), key: None, remote: None };
        let ear = Arc::new(Mutex::new(ear));
        let talking = tokio::spawn(talk(socket, ear.clone())).abort_handle();
        Self { ear, port, talking }
    }

    fn sdp(&self) -> Vec<u8> {
        let local = LocalMedia { address: LOOPBACK, port: self.port, session_id: 1, version: 1 };
        sdp::make_offer(&local, &[Codec::Pcma], &sdp::MediaSecurity::OFF)
    }

    fn described(&self, answer: &[u8]) {
        self.ear.lock().unwrap().remote =
            Some(sdp::parse_answer(answer, &Codec::ALL, &sdp::MediaSecurity::OFF).unwrap().remote);
    }

    fn say(&self, sound: &[i16]) {
        let frames = sound.chunks_exact(FRAME_SAMPLES).map(|frame| Frame::try_from(frame).unwrap());
        self.ear.lock().unwrap().to_say.extend(frames);
    }

    fn hums(&self, hz: f32) {
        self.say(&tone::sine(hz, -17.0, 20 * RATE as usize));
    }

    fn press(&self, key: char) {
        self.ear.lock().unwrap().key = Some(key);
    }

    async fn hears(&self, hz: f32) {
        let is_heard = || {
            let ear = self.ear.lock().unwrap();
            let last = &ear.heard[ear.heard.len().saturating_sub(RATE as usize / 4)..];
            last.len() == RATE as usize / 4 && tone::share_of(hz, last) > 0.8
        };
        until(&format!("{hz} Hz are heard"), is_heard).await;
    }

    /// Waits until the appliance was heard saying this, for 440 ms if it is long enough: of less, a caller who speaks has heard nothing.
    async fn hears_said(&self, sound: house::Sound) {
        let frames = if sound == Placeholder { 15 } else { 22 };
        let is_heard = || {
            stretches(&self.ear.lock().unwrap().heard)
                .iter()
                .any(|stretch| stretch.sound == sound && stretch.frames > frames)
        };
        until(&format!("{sound:?} is heard"), is_heard).await;
    }
}

/// A PBX with the house as an extension.
struct Pbx {
    agent: UserAgent,
    calls: Receiver<IncomingCall>,
    house: House,
}

impl Pbx {
    async fn with(way: Transferring) -> Self {
        let mut options = UserAgentOptions::new((LOOPBACK, 0).into());
        options.allowed_peers = vec!["127.0.0.0/8".parse().unwrap()];
        let (agent, calls) = UserAgent::start(options).await.unwrap();
        let server = agent.local_addr().to_string();
        let house = House::open(|config, _| {
            let trunk = Trunk {
                mode: TrunkMode::IpAuth,
                domain: "127.0.0.1".into(),
                user: "620".into(),
                servers: vec![server],
                allowed_peers: ["127.0.0.1/32", "127.0.0.3/32"].map(|net| net.parse().unwrap()).to_vec(),
                keepalive: Keepalive::Off,
                transfer: way,
                ..Trunk::default()
            };
            config.trunk.insert("pbx".into(), trunk);
            config.conversation.transfer_to = Some("900".into());
            config.sip.max_calls = 2;
            config.sip.allowed_peers = vec!["127.0.0.2/32".parse().unwrap()];
        })
        .await;
        Self { agent, calls, house }
    }

    async fn call(&self, phone: &Phone) -> Dialog {
        self.call_with(phone, vec![]).await.unwrap()
    }

    async fn call_with(&self, phone: &Phone, headers: Vec<(String, String)>) -> Result<Dialog, SipError> {
        let dial = Dial { to: self.house.uri(), offer: phone.sdp(), headers, ..Dial::default() };
        let mut call = self.agent.dial(dial).await?;
        let (dialog, answer) = soon("the answer", call.answered()).await?;
        phone.described(&answer);
        Ok(dialog)
    }

    fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.agent.local_addr())
    }

    async fn rung(&mut self) -> IncomingCall {
        soon("a call to the person", self.calls.recv()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_presses_the_key_hears_it_ring_and_talks_with_the_person() {
    let mut pbx = Pbx::with(Transferring::Bridge).await;
    let (caller, person) = (Phone::new(), Phone::new());
    let mut dialog = pbx.call(&caller).await;
    caller.press('0');
    let ringing = pbx.rung().await;
    assert_eq!((ringing.called.as_str(), ringing.caller.user.as_str()), ("900", "620"));
    ringing.ring();
    caller.hears(425.0).await;
    person.described(&ringing.offer);
    let mut there = ringing.answer(person.sdp()).await.unwrap();
    caller.hums(CALLER_HZ);
    person.hums(PERSON_HZ);
    caller.hears(PERSON_HZ).await;
    person.hears(CALLER_HZ).await;

    // The PBX moves the person to another telephone, as a change of the media within the call.
    let other = Phone::new();
    let answer = soon("the answer", there.offer(other.sdp())).await.unwrap();
    other.described(&answer);
    other.hums(PERSON_HZ);
    other.hears(CALLER_HZ).await;

    assert_eq!(soon("the end", there.hang_up()).await, EndReason::ByUs);
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByPeer);
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_s_hang_up_ends_the_call_to_the_person_while_it_rings_and_afterwards() {
    let mut pbx = Pbx::with(Transferring::Bridge).await;
    let caller = Phone::new();
    let mut dialog = pbx.call(&caller).await;
    caller.press('0');
    let ringing = pbx.rung().await;
    ringing.ring();
    soon("the end", dialog.hang_up()).await;
    soon("the cancellation", ringing.cancelled()).await;

    let (caller, person) = (Phone::new(), Phone::new());
    let mut dialog = pbx.call(&caller).await;
    caller.press('0');
    let ringing = pbx.rung().await;
    person.described(&ringing.offer);
    let mut there = ringing.answer(person.sdp()).await.unwrap();
    caller.hums(CALLER_HZ);
    person.hears(CALLER_HZ).await;
    soon("the end", dialog.hang_up()).await;
    assert_eq!(soon("the end", there.ended()).await, EndReason::ByPeer);
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_refer_the_house_is_out_of_it_at_the_last_report() {
    let pbx = Pbx::with(Transferring::Auto).await;
    let caller = Phone::new();
    let mut dialog = pbx.call(&caller).await;
    caller.press('0');
    let referred = soon("the REFER", async {
        loop {
            if let DialogEvent::Refer(referred) = dialog.event().await {
                break referred;
            }
        }
    })
    .await;
    assert_eq!(referred.to, "sip:900@127.0.0.1");
    let reports = referred.accept();
    reports.report(180, "Ringing");
    reports.report(200, "OK");
    let within = tokio::time::timeout(Duration::from_secs(1), dialog.ended()).await;
    assert_eq!(within.expect("the BYE comes at once"), EndReason::ByPeer);
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refer_that_is_declined_becomes_a_bridge_and_a_busy_person_an_apology() {
    let mut pbx = Pbx::with(Transferring::Auto).await;
    let caller = Phone::new();
    let mut dialog = pbx.call(&caller).await;
    caller.press('0');
    // The REFER is dropped as it comes, and thereby declined.
    let ringing = tokio::select! {
        ringing = pbx.rung() => ringing,
        reason = dialog.ended() => panic!("{reason}"),
    };
    ringing.reject(Rejection::Busy);
    caller.hears_said(Apology).await;
    caller.say(&samples(&say(QUESTION)));
    caller.hears_said(Placeholder).await;
    caller.hears_said(Answer).await;
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_replaces_another_takes_its_conversation_over() {
    let pbx = Pbx::with(Transferring::Auto).await;
    let (first, second) = (Phone::new(), Phone::new());
    let mut before = pbx.call(&first).await;
    first.say(&samples(&say(QUESTION)));
    first.hears_said(Answer).await;
    let identity = before.identity().await.unwrap();
    let replaces = |value: &str| vec![("Replaces".to_owned(), value.to_owned()), ("Require".into(), "replaces".into())];

    let code = |outcome: Result<Dialog, SipError>| match outcome {
        Err(SipError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    for (value, status) in [
        (identity.replace("to-tag=", "to-tag=x"), 481),
        (identity.replace("from-tag=", "from-tag=x"), 481),
        (format!("{identity};early-only"), 486),
        ("nonsense".to_owned(), 400),
    ] {
        assert_eq!(code(pbx.call_with(&second, replaces(&value)).await), status, "{value}");
    }

    // As many calls as there may be: the one that replaces counts as the one that it replaces.
    let third = Phone::new();
    let mut other = pbx.call(&third).await;
    let mut after = pbx.call_with(&second, replaces(&identity)).await.unwrap();
    assert_eq!(soon("the end", before.ended()).await, EndReason::ByPeer);
    second.say(&samples(&say(ANOTHER)));
    second.hears_said(Second).await;
    let seen = pbx.house.simulator.seen();
    assert_eq!(seen.last().unwrap().caller_turns, 2, "the same dialogue goes on");
    soon("the end", after.hang_up()).await;
    soon("the end", other.hang_up()).await;
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_refers_the_house_takes_the_conversation_along() {
    let mut pbx = Pbx::with(Transferring::Auto).await;
    let (first, second) = (Phone::new(), Phone::new());
    let mut before = pbx.call(&first).await;
    let outcome = before.transfer("sip:901@192.0.2.1", None, None).outcome().await;
    assert_eq!(outcome, TransferEvent::Unsupported(Some(603)), "only to the trunk's own hosts");

    let to = pbx.uri("901");
    let mut busy = before.transfer(&to, None, None);
    pbx.rung().await.reject(Rejection::Busy);
    assert_eq!(soon("the outcome", busy.outcome()).await, TransferEvent::Failed(486));
    first.say(&samples(&say(QUESTION)));
    first.hears_said(Answer).await;

    let mut transfer = before.transfer(&to, None, Some("sip:pbx@127.0.0.1"));
    let incoming = pbx.rung().await;
    assert_eq!(incoming.called, "901");
    second.described(&incoming.offer);
    let mut after = incoming.answer(second.sdp()).await.unwrap();
    assert_eq!(soon("the outcome", transfer.outcome()).await, TransferEvent::Succeeded);
    assert_eq!(soon("the end", before.ended()).await, EndReason::ByUs);
    second.say(&samples(&say(ANOTHER)));
    second.hears_said(Second).await;
    assert_eq!(pbx.house.simulator.seen().last().unwrap().caller_turns, 2, "the same dialogue goes on");
    soon("the end", after.hang_up()).await;
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attended_transfer_puts_the_house_in_the_place_of_the_one_who_asked_there() {
    let pbx = Pbx::with(Transferring::Auto).await;
    // Another host of the trunk: what is called at its domain goes to the PBX itself.
    let (person, mut calls) = UserAgent::start(UserAgentOptions::new(([127, 0, 0, 3], 0).into())).await.unwrap();
    let (caller, there, here) = (Phone::new(), Phone::new(), Phone::new());
    let before = pbx.call(&caller).await;
    let to = format!("sip:902@{}", person.local_addr());
    let mut consulting = pbx.agent.invite(&to, here.sdp()).await.unwrap();
    let incoming = soon("the consultation", calls.recv()).await.unwrap();
    let mut consulted = incoming.answer(there.sdp()).await.unwrap();
    let (mut consultation, _) = soon("the answer", consulting.answered()).await.unwrap();

    let identity = consultation.identity().await.unwrap();
    let mut transfer = before.transfer(&to, Some(&identity), None);
    let incoming = soon("the call in its place", async {
        loop {
            if let DialogEvent::Replaced(incoming) = consulted.event().await {
                break incoming;
            }
        }
    })
    .await;
    there.described(&incoming.offer);
    let mut after = incoming.answer(there.sdp()).await.unwrap();
    soon("the end of the consultation", consulted.hang_up()).await;
    assert_eq!(soon("the end of the consultation", consultation.ended()).await, EndReason::ByPeer);
    assert_eq!(soon("the outcome", transfer.outcome()).await, TransferEvent::Succeeded);
    there.say(&samples(&say(QUESTION)));
    there.hears_said(Answer).await;
    soon("the end", after.hang_up()).await;
    pbx.house.is_empty().await;
    pbx.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_of_the_trunk_neither_takes_its_calls_over_nor_sends_the_house_elsewhere() {
    let pbx = Pbx::with(Transferring::Auto).await;
    let (stranger, _calls) = UserAgent::start(UserAgentOptions::new(([127, 0, 0, 2], 0).into())).await.unwrap();
    let (caller, other) = (Phone::new(), Phone::new());
    let mut dialog = pbx.call(&caller).await;
    let identity = dialog.identity().await.unwrap();
    let headers = vec![("Replaces".to_owned(), identity)];
    let dial = Dial { to: pbx.house.uri(), offer: other.sdp(), headers, ..Dial::default() };
    let mut call = stranger.dial(dial).await.unwrap();
    let refused = soon("the refusal", call.answered()).await.unwrap_err();
    assert!(matches!(refused, SipError::Refused { code: 603, .. }), "{refused}");

    let mut call = stranger.invite(&pbx.house.uri(), other.sdp()).await.unwrap();
    let (mut own, _) = soon("the answer", call.answered()).await.unwrap();
    let outcome = own.transfer(&pbx.uri("901"), None, None).outcome().await;
    assert_eq!(outcome, TransferEvent::Unsupported(Some(603)));
    soon("the end", own.hang_up()).await;
    soon("the end", dialog.hang_up()).await;
    pbx.house.close().await;
}
