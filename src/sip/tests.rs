//! Every message that two agents send one another, read by an independent parser: the crate `rsip`.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;

const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";

fn options() -> UserAgentOptions {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers.t1 = Duration::from_millis(40);
    options
}

async fn agent() -> (UserAgent, tokio::sync::mpsc::Receiver<IncomingCall>) {
    UserAgent::start(options()).await.expect("a free port on loopback")
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

/// The lines of a request that its response repeats.
fn repeated(request: &str) -> String {
    let names = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    request
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

#[tokio::test]
async fn a_bye_that_is_challenged_goes_again_with_the_answer() {
    tokio::time::timeout(Duration::from_secs(10), challenged_bye()).await.expect("the call ends within 10 s");
}

async fn challenged_bye() {
    let config = crate::config::Trunk {
        mode: crate::config::TrunkMode::IpAuth,
        domain: "127.0.0.1".into(),
        user: "620".into(),
        allowed_peers: vec!["127.0.0.1/32".parse().unwrap()],
        keepalive: crate::config::Keepalive::Off,
        ..Default::default()
    };
    let password = Some(crate::privacy::Secret::new("secret"));
    let mut options = options();
    options.trunks = vec![TrunkOptions { name: "pbx".into(), config, password }];
    let (agent, mut incoming) = UserAgent::start(options).await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let from = socket.local_addr().unwrap();
    let receive = async || {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let request = |method: &str, tag: &str, body: &str| {
        format!(
            "{method} sip:620@box SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method};rport\r\n\
             From: <sip:pbx@{from}>;tag=pbx\r\nTo: <sip:620@box>{tag}\r\nCall-ID: challenged\r\nCSeq: 7 {method}\r\n\
             Contact: <sip:pbx@{from}>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    socket.send(request("INVITE", "", std::str::from_utf8(SDP).unwrap()).as_bytes()).await.unwrap();
    let mut dialog = incoming.recv().await.unwrap().answer(SDP.to_vec()).await.unwrap();
    let mut answer = receive().await;
    while !answer.starts_with("SIP/2.0 200") {
        answer = receive().await;
    }
    let tag = answer.lines().find_map(|line| line.strip_prefix("To:")).and_then(|to| to.split(";tag=").nth(1)).unwrap();
    socket.send(request("ACK", &format!(";tag={tag}"), "").as_bytes()).await.unwrap();
    assert!(matches!(dialog.event().await, DialogEvent::Acknowledged { .. }));

    let end = tokio::spawn(async move { dialog.hang_up().await });
    let first = receive().await;
    assert!(first.starts_with("BYE ") && first.contains("CSeq: 8 BYE") && !first.contains("Authorization"), "{first}");
    let challenge = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n1\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n";
    socket.send(format!("SIP/2.0 401 Unauthorized\r\n{}{challenge}", repeated(&first)).as_bytes()).await.unwrap();
    let second = receive().await;
    assert!(second.contains("CSeq: 9 BYE"), "{second}");
    let uri = first.split(' ').nth(1).unwrap();
    let answer = second.lines().find_map(|line| line.strip_prefix("Authorization: Digest ")).expect("credentials");
    for part in ["username=\"620\"", "nonce=\"n1\"", &format!("uri=\"{uri}\""), "response="] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert!(!end.is_finished());
    socket.send(format!("SIP/2.0 200 OK\r\n{}Content-Length: 0\r\n\r\n", repeated(&second)).as_bytes()).await.unwrap();
    assert_eq!(end.await.unwrap(), EndReason::ByUs);
}
