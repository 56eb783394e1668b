//! The SIP user agent against real parts: SIPp as a child process, raw sockets, and itself.
//!
//! Timers are a twelfth of RFC 3261's, so 64·T1 is 2.56 s. SIPp comes from Debian's sip-tester.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use offhook::config::{Keepalive, Policy, Trunk, TrunkMode};
use offhook::sip::{
    ByeReason, Counter, Dialog, DialogEvent, EndReason, IncomingCall, Progress, Rejection, SipError, Timers,
    TrunkOptions, UserAgent, UserAgentOptions, Warning,
};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

#[path = "sip/dialogs.rs"]
mod dialogs;

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
const ANSWER: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50000 RTP/AVP 8\r\n";

fn options() -> UserAgentOptions {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.max_calls_per_second = 1000;
    options.timers =
        Timers { t1: Duration::from_millis(40), t2: Duration::from_millis(160), t4: Duration::from_millis(160) };
    options
}

async fn agent() -> (UserAgent, Receiver<IncomingCall>) {
    agent_with(options()).await
}

async fn agent_with(options: UserAgentOptions) -> (UserAgent, Receiver<IncomingCall>) {
    UserAgent::start(options).await.expect("a free port on loopback")
}

/// Nothing in here may take longer; a hang is a failure with a name.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("{what} did not happen within 10 s"))
}

async fn next_call(incoming: &mut Receiver<IncomingCall>) -> IncomingCall {
    soon("an incoming call", incoming.recv()).await.expect("the agent runs")
}

/// A SIPp child process, killed when dropped.
struct Sipp {
    child: Child,
}

impl Sipp {
    fn start(peer: SocketAddr, arguments: &[&str]) -> Self {
        // SIPp cannot take port 0. The kernel does not give a port that was just free to the next who asks.
        let port = std::net::UdpSocket::bind((peer.ip(), 0)).and_then(|socket| socket.local_addr()).unwrap().port();
        Self::start_on(port, peer, arguments)
    }

    fn start_on(port: u16, peer: SocketAddr, arguments: &[&str]) -> Self {
        let child = Command::new("sipp")
            .args([
                "-i",
                &peer.ip().to_string(),
                "-p",
                &port.to_string(),
                "-nostdin",
                "-timeout",
                "15s",
                "-timeout_error",
            ])
            .args(["-m", "1", "-s", "620"])
            .args(arguments)
            .arg(peer.to_string())
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sipp does not run: apt-get install sip-tester");
        Self { child }
    }

    /// Plays a scenario of `tests/sipp`.
    fn play(scenario: &str, peer: SocketAddr) -> Self {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(scenario).with_extension("xml");
        Self::start(peer, &["-sf", file.to_str().expect("a UTF-8 path")])
    }

    async fn succeeds(self) {
        let output = soon("the end of sipp", self.child.wait_with_output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "sipp: {}\n{said}\n{screen}", output.status);
    }
}

/// Answers the next call with the fixed SDP.
async fn answer_next(incoming: &mut Receiver<IncomingCall>) -> Dialog {
    let call = next_call(incoming).await;
    call.ring();
    soon("the answer", call.answer(ANSWER.to_vec())).await.unwrap()
}

#[tokio::test]
async fn a_caller_is_answered_and_hangs_up() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_basic", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert_eq!(call.caller.user, "sipp");
    assert_eq!(call.caller.display.as_deref(), Some("sipp"));
    assert_eq!(call.called, "620");
    assert_eq!(call.peer.ip().to_string(), "127.0.0.1");
    assert!(call.offer.starts_with(b"v=0"));
    call.ring();
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { sdp } if sdp.is_empty()));
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
    assert_eq!(agent.counters().of(Counter::CallsIn), 1);
}

#[tokio::test]
async fn a_hundred_calls_leave_nothing_behind() {
    let mut options = options();
    options.max_calls = 100;
    let (agent, mut incoming) = agent_with(options).await;
    let sipp = Sipp::start(agent.local_addr(), &["-sn", "uac", "-d", "20", "-m", "100", "-r", "100"]);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut dialog = answer_next(&mut incoming).await;
        calls.spawn(async move { soon("the BYE", dialog.ended()).await });
    }
    let ends = calls.join_all().await;
    assert!(ends.iter().all(|end| *end == EndReason::ByPeer), "{ends:?}");
    sipp.succeeds().await;
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn a_cancelled_call_gets_487_and_the_owner_learns_of_it() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_cancel", agent.local_addr());
    let call = next_call(&mut incoming).await;
    call.ring();
    soon("the CANCEL", call.cancelled()).await;
    assert!(matches!(call.answer(ANSWER.to_vec()).await, Err(SipError::Ended(EndReason::Cancelled))));
    sipp.succeeds().await;
}

#[tokio::test]
async fn an_early_bye_ends_the_invite_with_487() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_early_bye", agent.local_addr());
    let call = next_call(&mut incoming).await;
    call.ring();
    soon("the BYE", call.cancelled()).await;
    assert!(matches!(call.answer(ANSWER.to_vec()).await, Err(SipError::Ended(EndReason::Cancelled))));
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_caller_who_never_acknowledges_gets_a_bye() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_no_ack", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the end of the wait", dialog.ended()).await, EndReason::NoAck);
    sipp.succeeds().await;
    assert_eq!(agent.counters().of(Counter::NoAck), 1);
}

#[tokio::test]
async fn we_hang_up() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_bye_by_us", agent.local_addr());
    // Asked for before the ACK, the BYE waits for it.
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_dropped_dialog_is_hung_up() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_bye_by_us", agent.local_addr());
    drop(answer_next(&mut incoming).await);
    sipp.succeeds().await;
}

#[tokio::test]
async fn shutting_down_hangs_up_every_call_and_frees_the_port() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_bye_by_us", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { .. }));
    let address = agent.local_addr();
    soon("the shutdown", agent.shutdown()).await;
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByUs);
    sipp.succeeds().await;
    drop(agent);
    let rebound = async {
        while UdpSocket::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the free port", rebound).await;
}

#[tokio::test]
async fn a_peer_that_is_not_allowed_gets_403_and_no_call() {
    let mut options = options();
    options.allowed_peers = vec!["192.0.2.0/24".parse().unwrap()];
    options.silent_to_strangers = false;
    let (agent, mut incoming) = agent_with(options).await;
    Sipp::play("uac_forbidden", agent.local_addr()).succeeds().await;
    assert!(incoming.try_recv().is_err());
    assert!(agent.counters().of(Counter::RejectedPeer) >= 1);
}

#[tokio::test]
async fn a_stranger_hears_nothing() {
    let mut options = options();
    options.allowed_peers = vec!["192.0.2.0/24".parse().unwrap()];
    let (agent, mut incoming) = agent_with(options).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "stranger");
    for message in [&invite[..], &raw_request(&socket, "OPTIONS", 1, "stranger", ""), b"\r\n\r\n"] {
        socket.send(message).await.unwrap();
    }
    let received = || agent.counters().of(Counter::Received) == 3;
    soon("the three datagrams", async {
        while !received() {
            tokio::task::yield_now().await
        }
    })
    .await;
    // Nothing is under way: an answer would have been sent before the next datagram was read.
    assert!(socket.try_recv(&mut [0; 64]).is_err());
    assert!(incoming.try_recv().is_err());
    assert_eq!(agent.counters().of(Counter::RejectedPeer), 2);
}

#[tokio::test]
async fn a_trunk_has_its_own_limit_and_says_who_calls() {
    let mut options = options();
    options.allowed_peers = vec![];
    let trunk = Trunk {
        mode: TrunkMode::IpAuth,
        domain: "127.0.0.1".into(),
        keepalive: Keepalive::Off,
        country: Some("IL".into()),
        max_calls: Some(1),
        ..Trunk::default()
    };
    options.trunks = vec![TrunkOptions { name: "provider".into(), config: trunk, password: None }];
    let (agent, mut incoming) = agent_with(options).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let (from, to) = (socket.local_addr().unwrap(), agent.local_addr());
    let identity = "P-Asserted-Identity: \"Bank, Ltd\" <sip:035551234@gw>\r\nContact:";
    let invite = String::from_utf8(raw_invite(from, to, "first")).unwrap().replace("Contact:", identity);
    socket.send(invite.as_bytes()).await.unwrap();
    let call = next_call(&mut incoming).await;
    assert_eq!((call.trunk.as_deref(), call.trunk_index, call.secure), (Some("provider"), Some(0), false));
    assert_eq!(call.caller.number.as_deref(), Some("+97235551234"));
    assert_eq!(call.caller.display.as_deref(), Some("Bank, Ltd"));
    assert!(call.caller.asserted);
    assert_eq!(status_line(&socket).await, "SIP/2.0 100 Trying");
    socket.send(&raw_invite(from, to, "second")).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 486 Busy Here");
    drop(call);
    assert_eq!(status_line(&socket).await, "SIP/2.0 480 Temporarily Unavailable");
}

#[tokio::test]
async fn a_call_over_the_limit_gets_486_and_the_first_goes_on() {
    let mut options = options();
    options.max_calls = 1;
    let (agent, mut incoming) = agent_with(options).await;
    let first = Sipp::play("uac_bye_by_us", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    Sipp::play("uac_busy", agent.local_addr()).succeeds().await;
    assert_eq!(agent.counters().of(Counter::Busy), 1);
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    first.succeeds().await;
    let again = Sipp::play("uac_bye_by_us", agent.local_addr());
    answer_next(&mut incoming).await.hang_up().await;
    again.succeeds().await;
}

#[tokio::test]
async fn a_declined_call_gets_603() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_declined", agent.local_addr());
    next_call(&mut incoming).await.reject(Rejection::Decline);
    sipp.succeeds().await;
}

#[tokio::test]
async fn an_unknown_required_extension_gets_420() {
    let (agent, _incoming) = agent().await;
    Sipp::play("uac_require_unknown_420", agent.local_addr()).succeeds().await;
    assert_eq!(agent.counters().of(Counter::Extension), 1);
}

#[tokio::test]
async fn a_hold_is_offered_and_answered_and_the_rest_gets_200() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_reinvite_hold_resume", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { .. }));
    match soon("the re-INVITE", dialog.event()).await {
        DialogEvent::Offer(offer) => {
            assert!(String::from_utf8_lossy(&offer.sdp).contains("a=sendonly"));
            offer.answer(ANSWER.to_vec());
        }
        other => panic!("{other:?}"),
    }
    // The UPDATE's offer is dropped by `ended`: it is answered with the last SDP at once.
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_bye_ends_a_call_whose_re_invite_was_never_acknowledged() {
    let (agent, mut incoming) = agent_with(UserAgentOptions { timers: Timers::default(), ..options() }).await;
    let sipp = Sipp::play("uac_reinvite_no_ack", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    // Within the 10 s of `soon`; the retransmissions of the 200 last 32 s.
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn the_answer_to_a_late_offer_comes_with_the_ack() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_late_offer", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert!(call.offer.is_empty());
    let mut dialog = call.answer(OFFER.to_vec()).await.unwrap();
    match soon("the ACK", dialog.event()).await {
        DialogEvent::Acknowledged { sdp } => assert!(sdp.starts_with(b"v=0")),
        other => panic!("{other:?}"),
    }
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_display_name_in_windows_1255_is_read() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_hebrew_cp1255", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert_eq!(call.caller.display.as_deref(), Some("שלום"));
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
    assert!(agent.counters().of(Counter::RepairedCharset) >= 1);
}

#[tokio::test]
async fn a_body_without_content_length_is_not_lost() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_no_content_length", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert!(String::from_utf8_lossy(&call.offer).contains("m=audio 40000"));
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
    assert!(agent.counters().of(Counter::RepairedLength) >= 3);
}

/// An INVITE as a raw datagram from `peer`.
fn raw_invite(from: SocketAddr, to: SocketAddr, call_id: &str) -> Vec<u8> {
    format!(
        "INVITE sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{call_id};rport\r\n\
         From: <sip:raw@{from}>;tag=raw\r\nTo: <sip:620@{to}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{}",
        OFFER.len(),
        String::from_utf8_lossy(OFFER)
    )
    .into_bytes()
}

async fn status_line(socket: &UdpSocket) -> String {
    let mut buffer = [0; 4096];
    let len = soon("a response", socket.recv(&mut buffer)).await.unwrap();
    String::from_utf8_lossy(&buffer[..len]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_retransmitted_invite_is_one_call() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "again");
    socket.send(&invite).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 100 Trying");
    let call = next_call(&mut incoming).await;
    call.ring();
    assert_eq!(status_line(&socket).await, "SIP/2.0 180 Ringing");
    for _ in 0..3 {
        socket.send(&invite).await.unwrap();
        assert_eq!(status_line(&socket).await, "SIP/2.0 180 Ringing");
    }
    assert!(incoming.try_recv().is_err());
    drop(call);
    assert_eq!(status_line(&socket).await, "SIP/2.0 480 Temporarily Unavailable");
    // Lost, it comes again (timer G).
    assert_eq!(status_line(&socket).await, "SIP/2.0 480 Temporarily Unavailable");
}

/// A request in or out of a dialog as a raw datagram; `to_tag` starts with a semicolon, or is empty.
fn raw_request(socket: &UdpSocket, method: &str, sequence: u32, call_id: &str, to_tag: &str) -> Vec<u8> {
    let (from, to) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    format!(
        "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method}-{sequence};rport\r\n\
         From: <sip:raw@{from}>;tag=raw\r\nTo: <sip:620@{to}>{to_tag}\r\nCall-ID: {call_id}\r\n\
         CSeq: {sequence} {method}\r\nContact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn requests_outside_a_dialog_get_their_status() {
    let (agent, _incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    for (method, to_tag, status) in [
        ("OPTIONS", "", "SIP/2.0 200 OK"),
        ("REGISTER", "", "SIP/2.0 405 Method Not Allowed"),
        ("BYE", ";tag=nobody", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("TELEPORT", "", "SIP/2.0 501 Not Implemented"),
    ] {
        socket.send(&raw_request(&socket, method, 1, "outside", to_tag)).await.unwrap();
        assert_eq!(status_line(&socket).await, status);
    }
}

#[tokio::test]
async fn an_invite_that_comes_on_two_ways_is_one_call() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "forked");
    socket.send(&invite).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 100 Trying");
    let _call = next_call(&mut incoming).await;
    let other_way = String::from_utf8(invite).unwrap().replace("z9hG4bK-", "z9hG4bK-other-");
    socket.send(other_way.as_bytes()).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 482 Loop Detected");
    assert_eq!(agent.counters().of(Counter::Merged), 1);
}

#[tokio::test]
async fn requests_in_an_early_dialog_are_answered() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "early");
    socket.send(&invite).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 100 Trying");
    let call = next_call(&mut incoming).await;
    call.ring();
    let mut buffer = [0; 4096];
    let len = soon("the 180", socket.recv(&mut buffer)).await.unwrap();
    let ringing = String::from_utf8_lossy(&buffer[..len]).into_owned();
    let to = ringing.lines().find(|line| line.starts_with("To:")).unwrap();
    let to_tag = format!(";tag={}", to.split("tag=").nth(1).unwrap());
    for (method, sequence, status) in [
        ("OPTIONS", 2, "SIP/2.0 200 OK"),
        ("INFO", 3, "SIP/2.0 200 OK"),
        ("UPDATE", 4, "SIP/2.0 200 OK"),
        ("PRACK", 5, "SIP/2.0 481 Call/Transaction Does Not Exist"),
        // Without a Refer-To.
        ("REFER", 6, "SIP/2.0 400 Bad Request"),
        ("SUBSCRIBE", 7, "SIP/2.0 405 Method Not Allowed"),
        // Older than the last one (§12.2.2).
        ("OPTIONS", 4, "SIP/2.0 500 Server Internal Error"),
    ] {
        socket.send(&raw_request(&socket, method, sequence, "early", &to_tag)).await.unwrap();
        assert_eq!(status_line(&socket).await, status, "{method} {sequence}");
    }
    drop(call);
    assert_eq!(status_line(&socket).await, "SIP/2.0 480 Temporarily Unavailable");
}

#[tokio::test]
async fn rubbish_is_counted_and_calls_go_on() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "cut");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for len in [0, 1, 7, 100, 1400, 9000, 60_000] {
        let rubbish: Vec<u8> = (0..len)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        socket.send(&rubbish).await.unwrap();
    }
    for cut in (0..invite.len() - 1).step_by(7) {
        socket.send(&invite[..cut]).await.unwrap();
    }
    let mut long = invite.clone();
    long.resize(20_000, b'x');
    socket.send(&long).await.unwrap();
    socket.send(b"\r\n\r\n").await.unwrap();

    let sipp = Sipp::start(agent.local_addr(), &["-sn", "uac", "-d", "20"]);
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
    let counters = agent.counters();
    assert_eq!(counters.of(Counter::Empty), 2);
    assert_eq!(counters.of(Counter::Oversized), 1);
    assert_eq!(counters.of(Counter::Keepalive), 1);
    assert!(counters.of(Counter::Garbage) >= 6, "{counters:?}");
    assert!(counters.of(Counter::Malformed) > 50, "{counters:?}");
    assert_eq!(counters.of(Counter::CallsIn), 1);
}

#[tokio::test]
async fn a_keepalive_is_answered() {
    let (agent, _incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    socket.send(b"\r\n\r\n").await.unwrap();
    let mut buffer = [0; 64];
    let len = soon("the pong", socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..len], b"\r\n");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (agent, _incoming) = agent().await;
    let mut second = options();
    second.listen = agent.local_addr();
    let error = UserAgent::start(second).await.unwrap_err();
    assert!(matches!(error, SipError::Bind { .. }));
    let said = error.to_string();
    assert!(said.contains(&agent.local_addr().to_string()) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn listening_everywhere_a_concrete_address_is_shown() {
    let mut options = options();
    options.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let (agent, _incoming) = agent_with(options.clone()).await;
    // The first allowed peer is on loopback, and so is the route to it.
    assert_eq!(agent.local_addr().ip().to_string(), "127.0.0.1");
    options.public_address = Some("203.0.113.7".parse().unwrap());
    let (agent, _incoming) = agent_with(options).await;
    assert_eq!(agent.advertised_addr().ip().to_string(), "203.0.113.7");
}

#[tokio::test]
async fn we_call_sipp_and_hang_up() {
    let (agent, _incoming) = agent().await;
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let callee = SocketAddr::from(([127, 0, 0, 1], port));
    let sipp = Sipp::start_on(port, agent.local_addr(), &["-sn", "uas"]);
    // Until SIPp listens the INVITE is lost, and retransmitted.
    let mut call = agent.invite(&format!("sip:620@{callee}"), OFFER.to_vec()).await.unwrap();
    assert_eq!(soon("the ringing", call.progress()).await, Some(Progress::Ringing));
    let (mut dialog, sdp) = soon("the answer", call.answered()).await.unwrap();
    assert!(sdp.starts_with(b"v=0"));
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn two_agents_call_each_other_and_hang_up() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:620@{}", callee.local_addr());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let call = next_call(&mut incoming).await;
    assert_eq!(call.called, "620");
    assert_eq!(call.caller.user, "offhook");
    assert_eq!(call.offer, OFFER);
    call.ring();
    assert_eq!(soon("the ringing", outgoing.progress()).await, Some(Progress::Ringing));
    let mut answered = call.answer(ANSWER.to_vec()).await.unwrap();
    let (mut dialog, sdp) = soon("the answer", outgoing.answered()).await.unwrap();
    assert_eq!(sdp, ANSWER);
    // From the callee's side this time.
    assert_eq!(soon("the answered BYE", answered.hang_up()).await, EndReason::ByUs);
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    assert_eq!((caller.calls(), callee.calls()), (0, 0));
}

#[tokio::test]
async fn a_call_that_we_cancel_is_cancelled_at_the_callee() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:620@{}", callee.local_addr());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let call = next_call(&mut incoming).await;
    call.ring();
    assert_eq!(soon("the ringing", outgoing.progress()).await, Some(Progress::Ringing));
    outgoing.cancel();
    assert!(matches!(soon("the end", outgoing.answered()).await, Err(SipError::Cancelled)));
    soon("the CANCEL", call.cancelled()).await;
}

#[tokio::test]
async fn an_outgoing_call_that_is_dropped_is_cancelled() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:620@{}", callee.local_addr());
    let outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let call = next_call(&mut incoming).await;
    drop(outgoing);
    soon("the CANCEL", call.cancelled()).await;
}

#[tokio::test]
async fn a_refusal_carries_its_status() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:620@{}", callee.local_addr());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    next_call(&mut incoming).await.reject(Rejection::NotAcceptable(Warning::new(305, "no codec in common")));
    let error = soon("the refusal", outgoing.answered()).await.unwrap_err();
    assert!(matches!(error, SipError::Refused { code: 488, .. }), "{error}");
}

#[tokio::test]
async fn a_silent_callee_ends_in_408_and_a_bad_uri_is_named() {
    let (caller, _none) = agent().await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("sip:620@{}", silent.local_addr().unwrap());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let error = soon("the timeout", outgoing.answered()).await.unwrap_err();
    assert!(matches!(error, SipError::Refused { code: 408, .. }), "{error}");
    for uri in ["", "620", "http://x", "sip:", "tel:+972"] {
        assert!(matches!(caller.invite(uri, vec![]).await, Err(SipError::Uri { .. })), "{uri}");
    }
}
