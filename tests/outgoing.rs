//! Calls that we place through a trunk: SIPp plays the provider's server.

#[path = "support/sipp.rs"]
mod sipp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook::config::Trunk;
use offhook::privacy::Secret;
use offhook::sip::{
    Dial, EndReason, OutgoingCall, OutgoingTrunk, Progress, SipError, Timers, UserAgent, UserAgentOptions,
};
use sipp::{Sipp, free_port, soon};
use tokio::net::UdpSocket;

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";

/// An agent with the trunk `main`, whose servers are these.
async fn agent(servers: &[SocketAddr], timers: Timers) -> UserAgent {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers = timers;
    let (agent, _incoming) = UserAgent::start(options).await.expect("a free port on loopback");
    let trunk = Trunk {
        // Names that no DNS knows: whatever goes there by the Request-URI is lost.
        domain: "trunk.invalid".into(),
        user: "100".into(),
        auth_id: Some("alice".into()),
        servers: servers.iter().enumerate().map(|(n, server)| format!("{server};priority={n}")).collect(),
        ..Trunk::default()
    };
    agent.add_trunk(OutgoingTrunk::new("main", &trunk, Some(Secret::new("secret"))).unwrap());
    agent
}

fn fast() -> Timers {
    Timers { t1: Duration::from_millis(40), t2: Duration::from_millis(160), t4: Duration::from_millis(160) }
}

async fn dial(agent: &UserAgent) -> OutgoingCall {
    let dial = Dial { to: "620".into(), trunk: Some("main".into()), offer: OFFER.to_vec(), ..Dial::default() };
    agent.dial(dial).await.unwrap()
}

/// Calls, is answered, hangs up, and SIPp has seen all that it wants to see.
async fn call_goes_through(sipp: Sipp) {
    let agent = agent(&[sipp.address()], fast()).await;
    let mut call = dial(&agent).await;
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    assert!(answer.starts_with(b"v=0"));
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn a_challenge_of_every_kind_is_answered() {
    let challenges = [
        (
            "md5",
            "Digest realm=\"r\", nonce=\"n\"",
            "username=.alice..*uri=.sip:620@trunk.invalid..*response=.[0-9a-f]{32}.",
        ),
        ("sha256", "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"", "response=.[0-9a-f]{64}."),
        (
            "both",
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"m\", algorithm=MD5",
            "nonce=.n..*algorithm=SHA-256",
        ),
        ("authint", "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"", "qop=auth-int"),
        (
            "sess",
            "Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess, qop=\"auth,auth-int\"",
            "algorithm=MD5-sess.*|MD5-sess",
        ),
    ];
    for (name, challenge, answer) in challenges {
        let challenge = format!("WWW-Authenticate: {challenge}");
        let replaced = [("@CHALLENGE@", challenge.as_str()), ("@ANSWER@", answer)];
        call_goes_through(Sipp::serve_filled("uas_401", name, &replaced)).await;
    }
}

#[tokio::test]
async fn a_proxy_and_the_server_behind_it_each_get_their_answer() {
    call_goes_through(Sipp::serve("uas_407")).await;
}

#[tokio::test]
async fn a_stale_nonce_is_no_wrong_password() {
    call_goes_through(Sipp::serve("uas_stale_nonce")).await;
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_tried_for_ever() {
    let sipp = Sipp::serve("uas_wrong_password");
    let agent = agent(&[sipp.address()], fast()).await;
    let error = soon("the refusal", dial(&agent).await.answered()).await.unwrap_err();
    assert!(error.to_string().contains("password is wrong"), "{error}");
    sipp.succeeds().await;
}

#[tokio::test]
async fn of_two_branches_with_early_media_the_last_one_is_heard() {
    let sipp = Sipp::serve("uas_183_early_media");
    let agent = agent(&[sipp.address()], fast()).await;
    let mut call = dial(&agent).await;
    let mut heard = Vec::new();
    while let Some(progress) = soon("progress", call.progress()).await {
        let Progress::EarlyMedia(sdp) = progress else { continue };
        heard.push(String::from_utf8(sdp).unwrap());
    }
    assert!(heard.len() == 2 && heard[0].contains("s=one") && heard[1].contains("s=two"), "{heard:?}");
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("s=two"));
    soon("the end", dialog.hang_up()).await;
    sipp.succeeds().await;
}

#[tokio::test]
async fn the_second_of_two_answers_is_acknowledged_and_ended() {
    let sipp = Sipp::serve("uas_forked_2xx");
    let agent = agent(&[sipp.address()], fast()).await;
    let mut call = dial(&agent).await;
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("s=one"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    sipp.succeeds().await;
}

#[tokio::test]
async fn the_only_server_is_asked_again_when_it_wants_to_be() {
    call_goes_through(Sipp::serve("uas_503_retry_after")).await;
}

#[tokio::test]
async fn a_hang_up_that_is_challenged_is_answered_with_the_trunks_password() {
    call_goes_through(Sipp::serve("uas_challenged_bye")).await;
}

#[tokio::test]
async fn a_callee_who_has_moved_is_followed_within_the_trunk() {
    call_goes_through(Sipp::serve("uas_302")).await;
}

#[tokio::test]
async fn a_dead_server_costs_less_than_8_s() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sipp = Sipp::start(free_port(), &["-sn", "uas"]);
    let agent = agent(&[dead.local_addr().unwrap(), sipp.address()], Timers::default()).await;
    let began = Instant::now();
    let mut call = dial(&agent).await;
    let (mut dialog, _) = soon("the answer", call.answered()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    soon("the end", dialog.hang_up()).await;
    sipp.succeeds().await;
}

#[tokio::test]
async fn a_cancel_goes_where_the_invite_went_and_not_where_its_uri_points() {
    let sipp = Sipp::serve("uas_cancelled");
    let agent = agent(&[sipp.address()], fast()).await;
    let mut call = dial(&agent).await;
    assert_eq!(soon("the 180", call.progress()).await, Some(Progress::Ringing));
    call.cancel();
    assert!(matches!(soon("the end", call.answered()).await, Err(SipError::Cancelled)));
    sipp.succeeds().await;
}

/// The value of a header in a message.
fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {message}"));
    line[name.len()..].trim()
}

#[tokio::test]
async fn attempts_have_the_call_id_and_the_tag_in_common_and_count_up() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let agent = agent(&[server.local_addr().unwrap()], Timers::default()).await;
    let call = dial(&agent).await;
    let mut seen = Vec::new();
    for (sequence, status) in
        [(1, "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\""), (2, "486 Busy Here")]
    {
        let (invite, from) = loop {
            let mut datagram = [0; 4096];
            let (length, from) = soon("an INVITE", server.recv_from(&mut datagram)).await.unwrap();
            let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
            if text.starts_with("INVITE") && header(&text, "CSeq:") == format!("{sequence} INVITE") {
                break (text, from);
            }
        };
        assert!(invite.starts_with("INVITE sip:620@trunk.invalid SIP/2.0"), "{invite}");
        assert!(header(&invite, "From:").starts_with("<sip:100@trunk.invalid>;tag="), "{invite}");
        assert_eq!(header(&invite, "To:"), "<sip:620@trunk.invalid>");
        let parts = ["Via:", "From:", "Call-ID:", "CSeq:"].map(|name| format!("{name} {}", header(&invite, name)));
        let to = format!("To: {};tag=x", header(&invite, "To:"));
        let response = format!("SIP/2.0 {status}\r\n{}\r\n{to}\r\nContent-Length: 0\r\n\r\n", parts.join("\r\n"));
        server.send_to(response.as_bytes(), from).await.unwrap();
        seen.push((header(&invite, "Call-ID:").to_owned(), header(&invite, "From:").to_owned()));
    }
    let mut call = call;
    assert!(matches!(soon("the end", call.answered()).await, Err(SipError::Refused { code: 486, .. })));
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_server_was_given_up_is_ended() {
    let late = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let busy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let agent = agent(&[late.local_addr().unwrap(), busy.local_addr().unwrap()], Timers::default()).await;
    let mut call = dial(&agent).await;
    let mut datagram = [0; 4096];
    let (length, from) = soon("the first INVITE", late.recv_from(&mut datagram)).await.unwrap();
    let first = String::from_utf8(datagram[..length].to_vec()).unwrap();
    soon("the second INVITE", busy.recv_from(&mut datagram)).await.unwrap();
    call.cancel();
    assert!(matches!(soon("the end", call.answered()).await, Err(SipError::Cancelled)));
    let parts = ["Via:", "From:", "Call-ID:", "CSeq:"].map(|name| format!("{name} {}", header(&first, name)));
    let (to, contact) = (header(&first, "To:"), late.local_addr().unwrap());
    let ok = format!(
        "SIP/2.0 200 OK\r\n{}\r\nTo: {to};tag=late\r\nContact: <sip:{contact}>\r\nContent-Length: 0\r\n\r\n",
        parts.join("\r\n")
    );
    late.send_to(ok.as_bytes(), from).await.unwrap();
    let mut methods = Vec::new();
    while !methods.contains(&"BYE".to_owned()) {
        let (length, _) = soon("ACK and BYE", late.recv_from(&mut datagram)).await.unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        methods.push(text.split(' ').next().unwrap().to_owned());
        if methods.last().unwrap() != "INVITE" {
            assert!(header(&text, "To:").ends_with("tag=late"), "{text}");
        }
    }
    assert!(methods.contains(&"ACK".to_owned()), "{methods:?}");
}

#[tokio::test]
async fn what_cannot_be_called_is_named_before_anything_is_sent() {
    let agent = agent(&[], fast()).await;
    let error = |to: &str, trunk: Option<&str>| {
        let dial = Dial { to: to.into(), trunk: trunk.map(Into::into), ..Dial::default() };
        let agent = &agent;
        async move { agent.dial(dial).await.unwrap_err().to_string() }
    };
    assert!(error("620", Some("spare")).await.contains("\"spare\"; the configuration has main"));
    assert!(error("620", None).await.contains("sip:user@host"));
    assert!(error("", Some("main")).await.contains("neither a number"));
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_named() {
    let agent = agent(&[], fast()).await;
    let error = soon("the end", dial(&agent).await.answered()).await.unwrap_err();
    assert!(matches!(error, SipError::NoTarget { .. }), "{error}");
}

#[tokio::test]
async fn the_test_phone_calls_a_number_through_a_trunk_of_the_configuration() {
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
    let answer = "username=.100..*uri=.sip:.97235551234@trunk.invalid.";
    let sipp = Sipp::serve_filled("uas_401", "phone", &[("@CHALLENGE@", challenge), ("@ANSWER@", answer)]);
    let folder = tempfile::tempdir().unwrap();
    let (config, password) = (folder.path().join("offhook.toml"), folder.path().join("password"));
    std::fs::write(&password, "secret\n").unwrap();
    let text = format!(
        "[trunk.main]\ndomain = \"trunk.invalid\"\nuser = \"100\"\nservers = [\"{}\"]\npassword_file = {password:?}\n",
        sipp.address()
    );
    std::fs::write(&config, text).unwrap();
    let phone = tokio::process::Command::new(env!("CARGO_BIN_EXE_offhook"))
        .args(["call", "+972 3-555-1234", "--trunk", "main", "--greeting-wait-ms", "100", "--config"])
        .arg(&config)
        .output();
    let output = soon("the call", phone).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sipp.succeeds().await;
}
