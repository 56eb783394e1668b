//! Every message that two agents send one another, read by an independent parser: the crate `rsip`.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;

const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";

async fn agent() -> (UserAgent, tokio::sync::mpsc::Receiver<IncomingCall>) {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers.t1 = Duration::from_millis(40);
    UserAgent::start(options).await.expect("a free port on loopback")
}

/// What an agent has sent, as start lines; panics on a message that the other parser does not take.
fn sent(agent: &UserAgent) -> Vec<String> {
    let sent = agent.socket.sent.lock().unwrap();
    let read = |message: &Vec<u8>| {
        let text = std::str::from_utf8(message).expect("UTF-8");
        match rsip::SipMessage::try_from(message.as_slice()) {
            Ok(rsip::SipMessage::Request(request)) => {
                use rsip::prelude::*;
                assert!(request.via_header().unwrap().typed().is_ok(), "{text}");
                assert!(request.from_header().unwrap().typed().is_ok(), "{text}");
                assert!(request.to_header().unwrap().typed().is_ok(), "{text}");
                assert!(request.cseq_header().unwrap().typed().is_ok(), "{text}");
                assert!(request.max_forwards_header().is_ok(), "{text}");
                request.method.to_string()
            }
            Ok(rsip::SipMessage::Response(response)) => {
                use rsip::prelude::*;
                assert!(response.via_header().unwrap().typed().is_ok(), "{text}");
                assert!(response.to_header().unwrap().typed().is_ok(), "{text}");
                if response.status_code.code() == 200 && !response.body.is_empty() {
                    assert!(response.contact_header().unwrap().typed().is_ok(), "{text}");
                }
                response.status_code.code().to_string()
            }
            Err(error) => panic!("{error}: {text}"),
        }
    };
    let mut lines: Vec<String> = sent.iter().map(read).collect();
    // Retransmissions are no news.
    lines.dedup();
    lines
}

#[tokio::test]
async fn an_independent_parser_reads_all_that_we_send() {
    let calls = tokio::time::timeout(Duration::from_secs(10), calls_of_every_kind());
    let (caller, callee) = calls.await.expect("the calls end within 10 s");
    let said = sent(&caller);
    for request in ["INVITE", "ACK", "CANCEL", "BYE", "200"] {
        assert!(said.iter().any(|line| line == request), "{request} is missing in {said:?}");
    }
    let said = sent(&callee);
    for response in ["100", "180", "200", "486", "487", "BYE"] {
        assert!(said.iter().any(|line| line == response), "{response} is missing in {said:?}");
    }
}

/// Two agents, the caller already shut down, after calls that were answered, refused, cancelled and ended by either side.
async fn calls_of_every_kind() -> (UserAgent, UserAgent) {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let uri = format!("sip:6%2020@{}", callee.local_addr());
    // Answered, and ended by the callee.
    let mut outgoing = caller.invite(&uri, SDP.to_vec()).await.unwrap();
    let call = incoming.recv().await.unwrap();
    assert_eq!(call.called, "6 20");
    call.ring();
    assert_eq!(outgoing.progress().await, Some(Progress::Ringing));
    let mut answered = call.answer(SDP.to_vec()).await.unwrap();
    let (mut dialog, _) = outgoing.answered().await.unwrap();
    assert_eq!(answered.hang_up().await, EndReason::ByUs);
    assert_eq!(dialog.ended().await, EndReason::ByPeer);
    // Refused.
    let mut outgoing = caller.invite(&uri, SDP.to_vec()).await.unwrap();
    incoming.recv().await.unwrap().reject(Rejection::Busy);
    assert!(matches!(outgoing.answered().await, Err(SipError::Refused { code: 486, .. })));
    // Cancelled.
    let mut outgoing = caller.invite(&uri, SDP.to_vec()).await.unwrap();
    let call = incoming.recv().await.unwrap();
    call.ring();
    assert_eq!(outgoing.progress().await, Some(Progress::Ringing));
    drop(outgoing);
    call.cancelled().await;
    // Ended by the caller's shutdown.
    let mut outgoing = caller.invite(&uri, SDP.to_vec()).await.unwrap();
    let mut answered = incoming.recv().await.unwrap().answer(SDP.to_vec()).await.unwrap();
    let _dialog = outgoing.answered().await.unwrap();
    caller.shutdown().await;
    assert_eq!(answered.ended().await, EndReason::ByPeer);
    (caller, callee)
}
