//! Calls that are handed on by REFER: SIPp plays the side that does it, or asks for it.

#[path = "support/sipp.rs"]
mod sipp;

use std::net::SocketAddr;
use std::time::Duration;

use offhook::config::Trunk;
use offhook::privacy::Secret;
use offhook::sip::{
    Dial, Dialog, DialogEvent, EndReason, IncomingCall, OutgoingTrunk, Timers, TransferEvent, UserAgent,
    UserAgentOptions,
};
use sipp::{Sipp, soon};
use tokio::sync::mpsc::Receiver;

const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";

async fn agent(server: Option<SocketAddr>) -> (UserAgent, Receiver<IncomingCall>) {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers =
        Timers { t1: Duration::from_millis(40), t2: Duration::from_millis(160), t4: Duration::from_millis(160) };
    let (agent, incoming) = UserAgent::start(options).await.expect("a free port on loopback");
    let trunk = Trunk {
        domain: "trunk.invalid".into(),
        user: "100".into(),
        servers: server.iter().map(SocketAddr::to_string).collect(),
        ..Trunk::default()
    };
    agent.add_trunk(OutgoingTrunk::new("main", &trunk, Some(Secret::new("secret"))).unwrap());
    (agent, incoming)
}

/// A call through the trunk that was answered.
async fn up(agent: &UserAgent) -> Dialog {
    let dial = Dial { to: "620".into(), trunk: Some("main".into()), offer: SDP.to_vec(), ..Dial::default() };
    let mut call = agent.dial(dial).await.unwrap();
    soon("the answer", call.answered()).await.unwrap().0
}

#[tokio::test]
async fn a_transfer_that_works_ends_our_side_at_its_last_report() {
    let sipp = Sipp::serve("uas_refer_notify_terminated");
    let (agent, _incoming) = agent(Some(sipp.address())).await;
    let mut dialog = up(&agent).await;
    let mut transfer = dialog.transfer("sip:900@trunk.invalid", None, Some("sip:100@trunk.invalid"));
    let mut seen = Vec::new();
    while let Some(event) = soon("a report", transfer.event()).await {
        seen.push(event);
    }
    let all = [TransferEvent::Accepted, TransferEvent::Progress(100), TransferEvent::Succeeded];
    assert_eq!(seen, all);
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_transfer_that_fails_leaves_the_call_up() {
    let sipp = Sipp::serve("uas_refer_challenged");
    let (agent, _incoming) = agent(Some(sipp.address())).await;
    let mut dialog = up(&agent).await;
    let outcome = dialog.transfer("sip:900@trunk.invalid", None, None).outcome().await;
    assert_eq!(outcome, TransferEvent::Failed(486));
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn who_knows_no_refer_says_so_and_the_call_goes_on() {
    let sipp = Sipp::serve("uas_refer_405");
    let (agent, _incoming) = agent(Some(sipp.address())).await;
    let mut dialog = up(&agent).await;
    let outcome = dialog.transfer("sip:900@trunk.invalid", None, None).outcome().await;
    assert_eq!(outcome, TransferEvent::Unsupported(Some(405)));
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn an_attended_transfer_names_the_other_call() {
    let sipp = Sipp::serve("uas_refer_replaces");
    let (agent, _incoming) = agent(Some(sipp.address())).await;
    let (other, mut calls) = self::agent(None).await;
    let mut consultation = agent.invite(&format!("sip:900@{}", other.local_addr()), SDP.to_vec()).await.unwrap();
    let mut there = soon("the consultation", calls.recv()).await.unwrap().answer(SDP.to_vec()).await.unwrap();
    let (mut consultation, _) = soon("the answer", consultation.answered()).await.unwrap();
    let mut dialog = up(&agent).await;
    let identity = consultation.identity().await.unwrap();
    assert!(identity.starts_with(consultation.id()), "{identity}");
    let outcome = dialog.transfer(&format!("sip:900@{}", other.local_addr()), Some(&identity), None).outcome().await;
    assert_eq!(outcome, TransferEvent::Succeeded);
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByUs);
    sipp.succeeds().await;
    soon("the end", consultation.hang_up()).await;
    assert_eq!(soon("the end", there.ended()).await, EndReason::ByPeer);
}

#[tokio::test]
async fn a_caller_who_refers_us_hears_how_it_goes() {
    let (agent, mut incoming) = agent(None).await;
    let sipp = Sipp::call("uac_refer_in", agent.local_addr());
    let call = soon("a call", incoming.recv()).await.unwrap();
    let mut dialog = call.answer(SDP.to_vec()).await.unwrap();
    let referred = loop {
        if let DialogEvent::Refer(referred) = soon("the REFER", dialog.event()).await {
            break referred;
        }
    };
    assert!(referred.to.starts_with("sip:900@127.0.0.1:"), "{referred:?}");
    assert_eq!(referred.replaces.as_deref(), Some("a@b;to-tag=1;from-tag=2"));
    assert_eq!(referred.referred_by.as_deref(), Some("<sip:sipp@127.0.0.1>"));
    let reports = referred.accept();
    reports.report(200, "OK");
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_refer_that_nobody_takes_is_declined_and_one_without_sense_refused() {
    let (agent, mut incoming) = agent(None).await;
    let sipp = Sipp::call("uac_refer_declined", agent.local_addr());
    let call = soon("a call", incoming.recv()).await.unwrap();
    let mut dialog = call.answer(SDP.to_vec()).await.unwrap();
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}
