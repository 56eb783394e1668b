//! Messages made to break SIP stacks, at our edge: RFC 4475, RFC 5118 and our own, each with its outcome pinned.

mod torture;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook::sip::edge::{Edge, Outcome, caller};
use offhook::sip::{Counter, Timers, UserAgent, UserAgentOptions};
use tokio::net::UdpSocket;

/// What a message comes to, in one word.
fn outcome(message: &[u8]) -> String {
    match Edge::default().judge(message, Edge::TRUNK) {
        Outcome::Delivered(_) => "delivered".into(),
        Outcome::Answered(status, response) => {
            assert!(response.ends_with(b"\r\n\r\n"), "the response ends");
            status.to_string()
        }
        Outcome::Dropped(_) => "dropped".into(),
    }
}

fn check(messages: Vec<torture::Named>, expected: &[(&str, &str)]) {
    let outcomes: BTreeMap<String, String> =
        messages.iter().map(|(name, message)| (name.clone(), outcome(message))).collect();
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect();
    assert_eq!(outcomes, expected);
}

#[test]
fn each_message_of_rfc_4475_has_its_outcome() {
    check(
        torture::rfc4475(),
        &[
            // Valid (3.1.1). `wsinv` has a To tag: it belongs to a dialog that there is not.
            ("wsinv", "481"),
            ("intmeth", "501"),
            ("esc01", "delivered"),
            ("escnull", "405"),
            ("esc02", "501"),
            ("lwsdisp", "200"),
            ("longreq", "delivered"),
            ("dblreq", "405"),
            ("semiuri", "200"),
            ("transports", "200"),
            ("mpart01", "405"),
            ("unreason", "delivered"),
            ("noreason", "delivered"),
            // Invalid (3.1.2).
            ("badinv01", "400"),
            ("clerr", "400"),
            ("ncl", "400"),
            ("scalar02", "400"),
            ("scalarlg", "dropped"),
            ("quotbal", "400"),
            ("ltgtruri", "400"),
            ("lwsruri", "400"),
            ("lwsstart", "400"),
            // The blanks behind the version do no harm.
            ("trws", "200"),
            ("escruri", "400"),
            // Nobody here reads the date.
            ("baddate", "delivered"),
            ("regbadct", "405"),
            ("badaspec", "200"),
            // A name with a comma is a name, as for who calls.
            ("baddn", "200"),
            ("badvers", "505"),
            ("mismatch01", "400"),
            ("mismatch02", "501"),
            ("bigcode", "dropped"),
            // Transaction layer (3.2).
            ("badbranch", "200"),
            // Application layer (3.3).
            ("insuf", "400"),
            ("unkscm", "416"),
            ("novelsc", "416"),
            ("unksm2", "405"),
            ("bext01", "420"),
            ("invut", "415"),
            ("regaut01", "405"),
            ("multi01", "400"),
            ("mcl01", "400"),
            // Belongs to no transaction: the stack drops it.
            ("bcast", "delivered"),
            ("zeromf", "200"),
            ("cparam01", "405"),
            ("cparam02", "405"),
            ("regescrt", "405"),
            ("sdp01", "406"),
            // Backward compatibility (3.4): without tag and branch no transaction can be made of it.
            ("inv2543", "400"),
        ],
    );
}

#[test]
fn each_message_of_rfc_5118_has_its_outcome() {
    check(
        torture::rfc5118(),
        &[
            ("ipv6-good", "405"),
            // Whatever its address: there is no registrar.
            ("ipv6-bad", "405"),
            ("port-ambiguous", "405"),
            ("port-unambiguous", "405"),
            ("via-received-param-with-delim", "481"),
            ("via-received-param-no-delim", "200"),
            ("ipv6-in-sdp", "delivered"),
            ("mult-ip-in-header", "481"),
            ("mult-ip-in-sdp", "delivered"),
            ("ipv4-mapped-ipv6", "delivered"),
            // The mistake in the grammar of RFC 3261 is forgiven nobody.
            ("ipv6-bug-abnf-3-colons", "400"),
            ("ipv6-correct-abnf-2-colons", "200"),
        ],
    );
}

/// An ordinary INVITE.
fn invite() -> String {
    "INVITE sip:620@box SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK-own\r\nMax-Forwards: 70\r\n\
     From: \"Anna\" <sip:0501112222@pbx>;tag=a\r\nTo: <sip:620@box>\r\nCall-ID: own\r\nCSeq: 7 INVITE\r\n\
     Contact: <sip:100@192.0.2.1>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        .into()
}

/// `Anna` in place of which `name` stands, as bytes.
fn named(name: &[u8]) -> Vec<u8> {
    let text = invite();
    let (before, after) = text.split_once("Anna").unwrap();
    [before.as_bytes(), name, after.as_bytes()].concat()
}

fn delivered(message: &[u8]) -> String {
    match Edge::default().judge(message, Edge::TRUNK) {
        Outcome::Delivered(message) => String::from_utf8(message).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hebrew_name_in_windows_1255_is_read_in_every_header() {
    let shalom = [0xf9, 0xec, 0xe5, 0xed];
    assert_eq!(caller(&delivered(&named(&shalom)), "IL").display.as_deref(), Some("שלום"));
    let mut asserted = b"\" <sip:1@x>;tag=a\r\nP-Asserted-Identity: \"".to_vec();
    asserted.extend_from_slice(&shalom);
    let caller = caller(&delivered(&named(&asserted)), "IL");
    assert_eq!(caller.display.as_deref(), Some("שלום"));
    assert!(caller.asserted);
}

#[test]
fn a_bracket_in_a_quoted_name_is_not_the_address() {
    let caller = caller(&delivered(&named(b"a<sip:boss@bank>b")), "IL");
    assert_eq!(caller.number.as_deref(), Some("+972501112222"));
    assert_eq!(caller.display.as_deref(), Some("a<sip:boss@bank>b"));
}

#[test]
fn an_escaped_blank_is_a_blank_of_the_user() {
    let message = delivered(invite().replace("0501112222", "1%2000").as_bytes());
    assert_eq!(caller(&message, "IL").user, "1 00");
    assert_eq!(caller(&message, "IL").number.as_deref(), Some("100"));
}

#[test]
fn a_body_without_content_length_is_kept() {
    let message = delivered(invite().replace("Content-Length: 5\r\n", "").as_bytes());
    assert!(message.ends_with("\r\nContent-Length: 5\r\n\r\nv=0\r\n"), "{message}");
}

#[test]
fn what_is_out_of_all_proportion_is_refused() {
    assert_eq!(outcome(&named("x".repeat(64 * 1024).as_bytes())), "513");
    assert_eq!(outcome(invite().replace("Via:", &"v: SIP/2.0/UDP a\r\n".repeat(300)).as_bytes()), "400");
    assert_eq!(outcome(invite().replace("Via:", &"Via: SIP/2.0/UDP a\r\n".repeat(1000)).as_bytes()), "513");
    assert_eq!(outcome(&named(b"An\0na")), "400");
    assert_eq!(outcome(&[0; 2000]), "dropped");
    assert_eq!(outcome(&invite().replace("\r\n", "\n").into_bytes()), "400");
    assert_eq!(outcome(invite().replace("To: <sip:620@box>", "To: <sip:620@box").as_bytes()), "400");
}

#[test]
fn no_message_takes_long() {
    let mut edge = Edge::default();
    for (name, message) in torture::rfc4475().into_iter().chain(torture::rfc5118()) {
        // The fastest of a few, since the machine may be doing something else.
        let times = (0..20).map(|_| {
            let start = Instant::now();
            edge.judge(&message, Edge::TRUNK);
            start.elapsed()
        });
        let fastest = times.min().unwrap();
        assert!(fastest < Duration::from_millis(1), "{name} takes {fastest:?}");
    }
}

#[tokio::test]
async fn the_agent_outlives_all_of_them() {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.timers = Timers { t1: Duration::from_millis(5), ..options.timers };
    let (agent, mut incoming) = UserAgent::start(options).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(agent.local_addr()).await.unwrap();
    let messages: Vec<_> = torture::rfc4475().into_iter().chain(torture::rfc5118()).collect();
    for (_, message) in &messages {
        socket.send(message).await.unwrap();
    }
    let own = socket.local_addr().unwrap();
    let options = invite().replace("INVITE", "OPTIONS").replace("192.0.2.1;rport", &format!("{own};rport"));
    socket.send(options.as_bytes()).await.unwrap();
    // Those that ask for `rport` get their answers here too.
    let answer = async {
        let mut answer = [0; 2048];
        loop {
            let length = socket.recv(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]);
            if answer.contains("Call-ID: own") {
                return answer.into_owned();
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("an answer");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    assert_eq!(agent.counters().of(Counter::Received), messages.len() as u64 + 1);
    // The six INVITEs that any user agent takes.
    let mut calls = Vec::new();
    while calls.len() < 6 {
        let call = tokio::time::timeout(Duration::from_secs(5), incoming.recv()).await.expect("a call").unwrap();
        calls.push(call.id.clone());
        drop(call);
    }
    assert_eq!(
        calls[..3].iter().map(|id| id.split('.').next().unwrap()).collect::<Vec<_>>(),
        ["esc01", "longreq", "baddate"]
    );
    assert!(incoming.try_recv().is_err());
}
