//! Dialogs: early ones, reliable responses, session timers, offers both ways, digits, and callers like those in the field.

use super::*;

/// An agent whose dialogs are led by other rules than usual.
async fn agent_by(rules: impl FnOnce(&mut offhook::sip::DialogRules)) -> (UserAgent, Receiver<IncomingCall>) {
    let mut options = options();
    rules(&mut options.rules);
    agent_with(options).await
}

/// Plays a scenario whose caller hangs up, with nothing special on our side.
async fn answered(scenario: &str) {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play(scenario, agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer, "{scenario}");
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_refresh_by_update_is_answered_with_and_without_sdp() {
    answered("uac_update_refresh").await;
}

#[tokio::test]
async fn a_pbx_that_tells_of_the_connected_line_is_answered() {
    answered("uac_asterisk_connected_line_update").await;
}

#[tokio::test]
async fn a_cancel_that_crosses_the_200_changes_nothing() {
    answered("uac_cancel_2xx_race").await;
}

#[tokio::test]
async fn what_is_not_served_within_a_call_is_refused_and_the_call_goes_on() {
    answered("uac_options_in_dialog").await;
}

#[tokio::test]
async fn compact_names_and_folded_lines_make_a_call() {
    answered("uac_compact_folded").await;
}

#[tokio::test]
async fn options_outside_a_call_says_what_is_served() {
    let (agent, _incoming) = agent().await;
    Sipp::play("uac_options_out_dialog", agent.local_addr()).succeeds().await;
}

#[tokio::test]
async fn a_home_routers_call_is_taken() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_fritzbox_like", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert_eq!((call.caller.user.as_str(), call.caller.display.as_deref()), ("**610", Some("Büro")));
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_providers_call_is_taken_and_hung_up_on_through_its_proxies() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_twilio_like", agent.local_addr());
    let call = next_call(&mut incoming).await;
    assert_eq!((call.called.as_str(), call.caller.user.as_str()), ("+97235551234", "+972501234567"));
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn our_bye_takes_the_way_of_the_record_routes() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_record_route_2hops_local_bye", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_call_over_ipv6_is_taken() {
    let mut options = options();
    options.listen = "[::1]:0".parse().unwrap();
    let (agent, mut incoming) = agent_with(options).await;
    let sipp = Sipp::play("uac_ipv6", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn digits_by_info_are_told() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_info_dtmf", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    let mut digits = vec![];
    let end = loop {
        match soon("an event", dialog.event()).await {
            DialogEvent::Dtmf { digit, duration } => digits.push((digit, duration.as_millis())),
            DialogEvent::Ended(reason) => break reason,
            _ => {}
        }
    };
    assert_eq!((digits, end), (vec![('5', 250), ('#', 160)], EndReason::ByPeer));
    sipp.succeeds().await;
}

#[tokio::test]
async fn the_200_waits_for_the_prack_of_the_answer_in_a_reliable_183() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_100rel_required", agent.local_addr());
    let call = next_call(&mut incoming).await;
    call.early_media(ANSWER.to_vec());
    let mut dialog = soon("the answer", call.answer(ANSWER.to_vec())).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn the_answer_to_an_offer_in_a_reliable_183_comes_with_the_prack() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_100rel_late_offer", agent.local_addr());
    let mut call = next_call(&mut incoming).await;
    call.early_media(OFFER.to_vec());
    match soon("the PRACK", call.event()).await {
        DialogEvent::Acknowledged { sdp } => assert!(sdp.starts_with(b"v=0")),
        other => panic!("{other:?}"),
    }
    let mut dialog = soon("the answer", call.answer(OFFER.to_vec())).await.unwrap();
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { sdp } if sdp.is_empty()));
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_reliable_response_that_is_never_acknowledged_fails_the_invite() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_100rel_never_acknowledged", agent.local_addr());
    let call = next_call(&mut incoming).await;
    call.early_media(ANSWER.to_vec());
    assert!(matches!(
        soon("the failure", call.answer(ANSWER.to_vec())).await,
        Err(SipError::Ended(EndReason::NoAck | EndReason::Failed))
    ));
    sipp.succeeds().await;
    assert_eq!((agent.calls(), agent.counters().of(Counter::NoAck)), (0, 1));
}

#[tokio::test]
async fn a_caller_without_reliable_responses_is_refused_where_they_are_required() {
    let (agent, _incoming) = agent_by(|rules| rules.reliable_provisional = Policy::Required).await;
    Sipp::play("uac_421", agent.local_addr()).succeeds().await;
}

#[tokio::test]
async fn an_offer_before_the_200_is_answered_once_the_first_exchange_is_complete() {
    let (agent, mut incoming) = agent_by(|rules| rules.reliable_provisional = Policy::Required).await;
    let sipp = Sipp::play("uac_early_update", agent.local_addr());
    let mut call = next_call(&mut incoming).await;
    call.early_media(ANSWER.to_vec());
    match soon("the UPDATE", call.event()).await {
        DialogEvent::Offer(offer) => {
            assert!(String::from_utf8_lossy(&offer.sdp).contains("a=sendonly"));
            offer.answer(ANSWER.to_vec());
        }
        other => panic!("{other:?}"),
    }
    // Asked for at once, the 200 waits for the answer to the UPDATE.
    let mut dialog = soon("the answer", call.answer(ANSWER.to_vec())).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    sipp.succeeds().await;
}

#[tokio::test]
async fn early_media_that_is_not_reliable_is_a_plain_183() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "early-media");
    socket.send(&invite).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 100 Trying");
    let call = next_call(&mut incoming).await;
    call.early_media(ANSWER.to_vec());
    let early = message(&socket).await;
    assert!(early.starts_with("SIP/2.0 183 ") && early.contains("m=audio 50000"), "{early}");
    assert!(!early.contains("100rel"), "{early}");
    drop(call);
    assert_eq!(status_line(&socket).await, "SIP/2.0 480 Temporarily Unavailable");
}

#[tokio::test]
async fn too_short_a_session_is_refused_with_our_minimum() {
    answered("uac_session_timer_422").await;
}

fn short_sessions(rules: &mut offhook::sip::DialogRules) {
    rules.session_minimum = Duration::from_secs(1);
}

#[tokio::test]
async fn a_caller_who_stops_refreshing_is_hung_up_on() {
    let (agent, mut incoming) = agent_by(short_sessions).await;
    let sipp = Sipp::play("uac_session_timer_uac", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the end of the session", dialog.ended()).await, EndReason::Expired);
    sipp.succeeds().await;
}

#[tokio::test]
async fn we_refresh_by_update_else_by_re_invite_until_the_dialog_is_unknown() {
    let (agent, mut incoming) = agent_by(short_sessions).await;
    let sipp = Sipp::play("uac_session_timer_uas", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert_eq!(soon("the end of the session", dialog.ended()).await, EndReason::Expired);
    sipp.succeeds().await;
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn our_offer_is_tried_again_after_491_and_its_refusal_is_told() {
    let (agent, mut incoming) = agent().await;
    let sipp = Sipp::play("uac_reinvite_by_us", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { .. }));
    let hold = [ANSWER, b"a=sendonly\r\n"].concat();
    let answer = soon("the answer", dialog.offer(hold)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("a=recvonly"));
    let refused = soon("the refusal", dialog.offer(ANSWER.to_vec())).await.unwrap_err();
    assert!(matches!(refused, SipError::Refused { code: 488, .. }), "{refused}");
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn two_agents_change_the_media_of_their_call() {
    let (callee, mut incoming) = agent().await;
    let (caller, _none) = agent().await;
    let mut outgoing = caller.invite(&format!("sip:620@{}", callee.local_addr()), OFFER.to_vec()).await.unwrap();
    let mut answered = next_call(&mut incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    let (mut dialog, _) = soon("the answer", outgoing.answered()).await.unwrap();
    assert!(matches!(soon("the ACK", answered.event()).await, DialogEvent::Acknowledged { .. }));
    // The callee offers first, then the caller.
    let changed = [ANSWER, b"a=sendonly\r\n"].concat();
    let offer = answered.offer(changed.clone());
    match soon("the offer", dialog.event()).await {
        DialogEvent::Offer(offer) => {
            assert_eq!(offer.sdp, changed);
            offer.answer(OFFER.to_vec());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(soon("the answer", offer).await.unwrap(), OFFER);
    let offer = dialog.offer(OFFER.to_vec());
    match soon("the offer", answered.event()).await {
        DialogEvent::Offer(offer) => offer.refuse(offhook::sip::Warning::new(399, "not now")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(soon("the refusal", offer).await, Err(SipError::Refused { code: 488, .. })));
    assert_eq!(soon("the answered BYE", dialog.hang_up()).await, EndReason::ByUs);
    assert_eq!(soon("the BYE", answered.ended()).await, EndReason::ByPeer);
}

#[tokio::test]
async fn a_caller_who_is_gone_keeps_the_line_for_four_seconds_at_most() {
    let (agent, mut incoming) = agent_with(UserAgentOptions { timers: Timers::default(), ..options() }).await;
    let sipp = Sipp::play("uac_lost_bye", agent.local_addr());
    let mut dialog = answer_next(&mut incoming).await;
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { .. }));
    let asked = std::time::Instant::now();
    let end = soon("the end", dialog.hang_up_because(ByeReason::MediaTimeout)).await;
    assert_eq!((end, agent.calls()), (EndReason::ByUs, 0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    sipp.succeeds().await;
}

/// The next message as text.
async fn message(socket: &UdpSocket) -> String {
    let mut buffer = [0; 4096];
    let len = soon("a message", socket.recv(&mut buffer)).await.unwrap();
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

/// A call from a raw socket that stands: the agent's tag, as a parameter of To.
async fn raw_call(socket: &UdpSocket, incoming: &mut Receiver<IncomingCall>, call_id: &str) -> (Dialog, String) {
    let (from, to) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    socket.send(&raw_invite(from, to, call_id)).await.unwrap();
    assert_eq!(status_line(socket).await, "SIP/2.0 100 Trying");
    let mut dialog = next_call(incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    let answer = message(socket).await;
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
    let to_tag = format!(";tag={}", to.split("tag=").nth(1).unwrap());
    socket.send(&raw_request(socket, "ACK", 1, call_id, &to_tag)).await.unwrap();
    assert!(matches!(soon("the ACK", dialog.event()).await, DialogEvent::Acknowledged { .. }));
    (dialog, to_tag)
}

#[tokio::test]
async fn an_invite_that_comes_again_after_the_answer_is_no_second_call() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let (mut dialog, to_tag) = raw_call(&socket, &mut incoming, "final").await;
    let invite = raw_invite(socket.local_addr().unwrap(), agent.local_addr(), "final");
    socket.send(&invite).await.unwrap();
    socket.send(&raw_request(&socket, "BYE", 2, "final", &to_tag)).await.unwrap();
    let mut heard = status_line(&socket).await;
    while !heard.contains("200") {
        heard = status_line(&socket).await;
    }
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    assert!(incoming.try_recv().is_err());
    assert_eq!(agent.counters().of(Counter::CallsIn), 1);
}

#[tokio::test]
async fn a_bye_from_another_dialog_ends_nothing() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let (mut dialog, to_tag) = raw_call(&socket, &mut incoming, "wrong-tag").await;
    let bye = String::from_utf8(raw_request(&socket, "BYE", 2, "wrong-tag", &to_tag)).unwrap();
    socket.send(bye.replace("tag=raw\r\n", "tag=other\r\n").as_bytes()).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 481 Call/Transaction Does Not Exist");
    socket.send(bye.replace("-BYE-2", "-BYE-2c").as_bytes()).await.unwrap();
    assert_eq!(status_line(&socket).await, "SIP/2.0 200 OK");
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
}

#[tokio::test]
async fn the_bye_is_on_the_wire_within_five_milliseconds() {
    let (agent, mut incoming) = agent().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let mut took = vec![];
    for call in 0..20 {
        let (mut dialog, _) = raw_call(&socket, &mut incoming, &format!("quick-{call}")).await;
        let asked = std::time::Instant::now();
        let end = tokio::spawn(async move { dialog.hang_up().await });
        let bye = message(&socket).await;
        took.push(asked.elapsed());
        assert!(bye.starts_with("BYE ") && bye.contains("Reason: Q.850;cause=16"), "{bye}");
        let lines = bye
            .lines()
            .filter(|line| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)));
        let ok = format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.collect::<Vec<_>>().join("\r\n"));
        socket.send(ok.as_bytes()).await.unwrap();
        assert_eq!(soon("the end", end).await.unwrap(), EndReason::ByUs);
    }
    // The median: this machine may be busy with other tests.
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_millis(5), "{took:?}");
}
