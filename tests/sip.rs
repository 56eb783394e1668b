//! The SIP user agent against real parts: SIPp as a child process, raw sockets, and itself.

use std::net::SocketAddr;
use std::time::Duration;

use offhook::sip::{EndReason, IncomingCall, Timers, UserAgent, UserAgentOptions};
use tokio::sync::mpsc::Receiver;

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
const ANSWER: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50000 RTP/AVP 8\r\n";

fn options() -> UserAgentOptions {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers =
        Timers { t1: Duration::from_millis(40), t2: Duration::from_millis(160), t4: Duration::from_millis(160) };
    options
}

async fn agent() -> (UserAgent, Receiver<IncomingCall>) {
    UserAgent::start(options()).await.expect("a free port on loopback")
}

#[tokio::test]
async fn two_agents_call_each_other_and_hang_up() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:620@{}", callee.local_addr());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let call = incoming.recv().await.unwrap();
    assert_eq!(call.called, "620");
    assert_eq!(call.offer, OFFER);
    call.ring();
    let mut answered = call.answer(ANSWER.to_vec()).await.unwrap();
    let (mut dialog, sdp) = outgoing.answered().await.unwrap();
    assert_eq!(sdp, ANSWER);
    assert_eq!(dialog.hang_up().await, EndReason::ByUs);
    assert_eq!(answered.ended().await, EndReason::ByPeer);
}
