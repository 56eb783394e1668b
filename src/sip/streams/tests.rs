use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::sip::{UserAgent, UserAgentOptions};

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// An agent for its flows, and a server's socket for them to reach.
async fn flows_and_server() -> (UserAgent, Flows, TcpListener, Target) {
    let (agent, _incoming) = UserAgent::start(UserAgentOptions::new(ANY_PORT)).await.unwrap();
    let flows = agent.flows().clone();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    (agent, flows, listener, Target { address, transport: Transport::Tcp, name: "127.0.0.1".to_owned() })
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("it happens within 10 s")
}

fn register() -> rsip::SipMessage {
    let text = "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n";
    rsip::SipMessage::try_from(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn all_who_ask_for_a_target_get_one_connection() {
    let (_agent, flows, listener, target) = flows_and_server().await;
    let (first, second) = tokio::join!(flows.reach(&target), flows.reach(&target));
    let (first, second, third) = (first.unwrap(), second.unwrap(), flows.reach(&target).await.unwrap());
    assert!(first.local == second.local && second.local == third.local);
    soon(listener.accept()).await.unwrap();
    let none = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(none.is_err(), "there was a second connection");
}

#[tokio::test]
async fn a_connection_that_ends_is_noticed_and_made_anew() {
    let (agent, flows, listener, target) = flows_and_server().await;
    let first = flows.reach(&target).await.unwrap();
    let (accepted, _) = soon(listener.accept()).await.unwrap();
    drop(accepted);
    soon(first.closed.cancelled()).await;
    let second = flows.reach(&target).await.unwrap();
    assert!(second.local != first.local && !second.closed.is_cancelled());
    assert_eq!(agent.counters().of(Counter::ConnectionsOut), 2);
}

#[tokio::test]
async fn a_refused_target_says_so_to_all_and_is_tried_again() {
    let (_agent, flows, listener, target) = flows_and_server().await;
    drop(listener);
    for _ in 0..2 {
        let error = flows.reach(&target).await.unwrap_err();
        assert!(matches!(error, FlowError::Connect { .. }), "{error}");
    }
    let listener = TcpListener::bind(target.address).await.unwrap();
    flows.reach(&target).await.unwrap();
    drop(listener);
}

#[tokio::test]
async fn a_ping_waits_for_its_pong_and_a_peer_that_stops_to_answer_loses_the_connection() {
    let (agent, flows, listener, target) = flows_and_server().await;
    let flow = flows.reach(&target).await.unwrap();
    let (mut peer, _) = soon(listener.accept()).await.unwrap();
    let answered = async {
        let mut ping = [0; 4];
        peer.read_exact(&mut ping).await.unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
        peer.write_all(b"\r\n").await.unwrap();
    };
    let (pong, ()) = soon(async { tokio::join!(flow.ping(), answered) }).await;
    assert!(pong.unwrap());
    tokio::time::pause();
    assert!(matches!(flow.ping().await, Err(FlowError::Lost)));
    assert!(flow.closed.is_cancelled());
    assert_eq!(agent.counters().of(Counter::NoPong), 1);
}

#[tokio::test]
async fn a_peer_that_never_answers_pings_keeps_its_connection() {
    let (_agent, flows, listener, target) = flows_and_server().await;
    let flow = flows.reach(&target).await.unwrap();
    let _peer = soon(listener.accept()).await.unwrap();
    tokio::time::pause();
    assert!(!flow.ping().await.unwrap());
    assert!(!flow.closed.is_cancelled());
}

#[tokio::test]
async fn a_peer_that_takes_nothing_loses_the_connection() {
    let (agent, flows, listener, target) = flows_and_server().await;
    let flow = flows.reach(&target).await.unwrap();
    let _peer = soon(listener.accept()).await.unwrap();
    let mut message = register();
    if let rsip::SipMessage::Request(request) = &mut message {
        request.body = vec![b'x'; 60_000];
    }
    soon(async {
        while !flow.closed.is_cancelled() {
            let _ = flow.connection.send(message.clone(), None).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(agent.counters().of(Counter::Congested), 1);
}

#[tokio::test]
async fn what_leaves_carries_the_class_of_signalling() {
    let (_agent, flows, listener, target) = flows_and_server().await;
    let _flow = flows.reach(&target).await.unwrap();
    let (peer, _) = soon(listener.accept()).await.unwrap();
    mark_signalling(&SockRef::from(&peer), target.address);
    assert_eq!(SockRef::from(&peer).tos_v4().unwrap(), SIGNALLING_TOS);
    assert_eq!(SIGNALLING_TOS >> 2, 24);
}

#[tokio::test]
async fn after_the_end_of_the_agent_nothing_is_reached() {
    let (agent, flows, _listener, target) = flows_and_server().await;
    let flow = flows.reach(&target).await.unwrap();
    agent.shutdown().await;
    soon(flow.closed.cancelled()).await;
    assert!(matches!(flows.reach(&target).await, Err(FlowError::Closing)));
}
