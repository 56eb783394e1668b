//! The wire gate against the cases of RFC 4475 that a server must answer, repairs, and anything at all.

use proptest::prelude::*;

use super::*;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)), 5062);

fn gate() -> WireGate {
    WireGate {
        allowed_peers: vec!["10.0.0.0/24".parse().unwrap()],
        charset: HeaderCharset::Windows1255,
        user_agent: "offhook/test".into(),
    }
}

/// An ordinary INVITE, one line a header.
fn invite() -> String {
    "INVITE sip:620@box SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.7:5062;rport;branch=z9hG4bK-1\r\n\
     From: \"Anna\" <sip:100@pbx>;tag=a\r\nTo: <sip:620@box>\r\nCall-ID: c1\r\nCSeq: 7 INVITE\r\n\
     Contact: <sip:100@10.0.0.7:5062>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        .into()
}

fn status(message: impl AsRef<[u8]>) -> Option<u16> {
    match gate().inspect(message.as_ref(), PEER) {
        Verdict::Answer { response, .. } => {
            Some(std::str::from_utf8(&response).unwrap().split(' ').nth(1)?.parse().unwrap())
        }
        _ => None,
    }
}

fn passes(message: impl AsRef<[u8]>) -> bool {
    matches!(gate().inspect(message.as_ref(), PEER), Verdict::Pass { .. })
}

#[test]
fn an_ordinary_request_passes_untouched() {
    let invite = invite();
    match gate().inspect(invite.as_bytes(), PEER) {
        Verdict::Pass { message: Cow::Borrowed(message), repairs } => {
            assert_eq!(message, invite.as_bytes());
            assert!(repairs.is_empty());
        }
        other => panic!("{other:?}"),
    }
    // §7.5: empty lines may precede it.
    assert!(passes(format!("\r\n\r\n{invite}")));
}

#[test]
fn compact_and_folded_headers_are_read() {
    let compact = invite().replace("Via:", "v:").replace("From:", "f:").replace("To:", "t:").replace("Call-ID:", "i:");
    assert!(passes(compact.replace("Content-Length:", "l:")));
    assert!(passes(invite().replace("CSeq: 7 INVITE", "CSeq: 7\r\n   INVITE")));
}

#[test]
fn what_breaks_the_grammar_gets_400() {
    let cases = [
        ("clerr: the body is shorter than promised", invite().replace("Length: 5", "Length: 9999")),
        ("ncl: a negative length", invite().replace("Length: 5", "Length: -999")),
        ("a length that would wrap", invite().replace("Length: 5", "Length: 18446744073709551617")),
        ("mcl01: two lengths", invite().replace("Content-Length: 5", "Content-Length: 5\r\nl: 4")),
        ("mismatch01: the CSeq names another method", invite().replace("7 INVITE", "7 OPTIONS")),
        ("scalar02: a CSeq over 2^31", invite().replace("7 INVITE", "2147483648 INVITE")),
        ("a CSeq that is no number", invite().replace("7 INVITE", "+7 INVITE")),
        ("insuf: no Call-ID", invite().replace("Call-ID: c1\r\n", "Call-ID:\r\n")),
        ("multi01: To twice", invite().replace("To: <sip:620@box>", "To: <sip:620@box>;tag=x\r\nt: <sip:0@box>")),
        ("inv2543: no From tag", invite().replace(";tag=a", "")),
        ("lwsstart: two blanks in the request line", invite().replacen(" sip:620", "  sip:620", 1)),
        ("a header without colon", invite().replace("Contact:", "Contact")),
        ("a NUL in a header", invite().replace("\"Anna\"", "\"An\0na\"")),
        ("a thousand Vias", invite().replace("Via:", &"Via: SIP/2.0/UDP x\r\n".repeat(1000)).replace("UDP x", "UDP y")),
    ];
    for (what, message) in cases {
        // Where the header needed for an answer is missing or double, silence is all that is left.
        let answer = status(&message);
        assert!(!passes(&message), "{what} passed");
        let unanswerable = ["insuf", "multi01", "a thousand"].iter().any(|name| what.starts_with(name));
        assert!(answer == Some(400) || (unanswerable && matches!(answer, None | Some(513))), "{what}: {answer:?}");
    }
}

#[test]
fn another_version_gets_505_and_an_unknown_method_501() {
    assert_eq!(status(invite().replace("box SIP/2.0", "box SIP/7.0")), Some(505));
    assert_eq!(status(invite().replace("INVITE", "NEWMETHOD")), Some(501));
    assert_eq!(status(invite().replace("INVITE", "!interesting-Method0123456789_*+`.%indeed'~")), Some(501));
    // Methods are case-sensitive (§7.1).
    assert_eq!(status(invite().replace("INVITE", "Invite")), Some(501));
}

#[test]
fn a_response_mirrors_the_request_and_says_where_it_came_from() {
    let Verdict::Answer { response, why } = gate().inspect(invite().replace("7 INVITE", "7 BYE").as_bytes(), PEER)
    else {
        panic!()
    };
    assert_eq!(why, Counter::Malformed);
    let response = String::from_utf8(response).unwrap();
    let lines: Vec<&str> = response.split("\r\n").collect();
    assert_eq!(lines[0], "SIP/2.0 400 CSeq Method Does Not Match");
    assert_eq!(lines[1], "Via: SIP/2.0/UDP 10.0.0.7:5062;rport=5062;branch=z9hG4bK-1;received=10.0.0.7");
    assert_eq!(lines[2], "From: \"Anna\" <sip:100@pbx>;tag=a");
    assert!(lines[3].starts_with("To: <sip:620@box>;tag="));
    assert_eq!(&lines[4..6], ["Call-ID: c1", "CSeq: 7 BYE"]);
    assert!(response.ends_with("Content-Length: 0\r\n\r\n"));
    // The independent parser of the `rsip` crate takes it too.
    assert!(rsip::SipMessage::try_from(response.as_str()).is_ok());
    let again = gate().inspect(invite().replace("7 INVITE", "7 BYE").leak().as_bytes(), PEER);
    assert!(matches!(again, Verdict::Answer { response: again, .. } if again == response.as_bytes()));
}

#[test]
fn an_ack_is_never_answered_and_a_bad_response_is_dropped() {
    let ack = invite().replace("INVITE", "ACK").replace("Length: 5", "Length: x");
    assert!(matches!(gate().inspect(ack.as_bytes(), PEER), Verdict::Drop { why: Counter::Malformed, .. }));
    let response = invite().replacen("INVITE sip:620@box SIP/2.0", "SIP/2.0 200 OK", 1);
    assert!(passes(&response));
    for bad in [response.replace("Length: 5", "Length: 50"), response.replace("SIP/2.0 200 OK", "SIP/2.0 x OK")] {
        assert!(matches!(gate().inspect(bad.as_bytes(), PEER), Verdict::Drop { why: Counter::Malformed, .. }));
    }
}

#[test]
fn outside_the_allowed_peers_a_request_gets_403_and_the_rest_nothing() {
    let stranger = SocketAddr::from(([192, 0, 2, 9], 5060));
    let invite = invite();
    let verdict = gate().inspect(invite.as_bytes(), stranger);
    assert!(
        matches!(verdict, Verdict::Answer { why: Counter::RejectedPeer, response } if response.starts_with(b"SIP/2.0 403"))
    );
    assert!(matches!(gate().inspect(b"\r\n\r\n", stranger), Verdict::Drop { .. }));
    assert!(matches!(gate().inspect(b"rubbish", stranger), Verdict::Drop { why: Counter::Garbage, .. }));
    let mapped = SocketAddr::new("::ffff:10.0.0.7".parse().unwrap(), 5060);
    assert!(matches!(gate().inspect(invite.as_bytes(), mapped), Verdict::Pass { .. }));
}

#[test]
fn a_missing_length_is_put_in_and_the_body_kept() {
    let bare = invite().replace("Content-Length: 5\r\n", "");
    let Verdict::Pass { message, repairs } = gate().inspect(bare.as_bytes(), PEER) else { panic!() };
    assert_eq!(repairs, [Counter::RepairedLength]);
    let message = SipMessage::try_from(&message[..]).unwrap();
    assert!(matches!(message, SipMessage::Request(request) if request.body == b"v=0\r\n"));
}

#[test]
fn header_bytes_in_a_legacy_charset_become_utf8_and_the_body_stays() {
    let mut foreign = Vec::new();
    for part in invite().split("Anna") {
        if !foreign.is_empty() {
            // שלום in Windows-1255.
            foreign.extend_from_slice(&[0xf9, 0xec, 0xe5, 0xed]);
        }
        foreign.extend_from_slice(part.as_bytes());
    }
    let last = foreign.len() - 1;
    foreign[last] = 0xff;
    let Verdict::Pass { message, repairs } = gate().inspect(&foreign, PEER) else { panic!() };
    assert_eq!(repairs, [Counter::RepairedCharset]);
    assert!(message.windows(8).any(|bytes| bytes == "שלום".as_bytes()));
    assert_eq!(message.last(), Some(&0xff));
    for (charset, letter) in [(HeaderCharset::Windows1251, "щ"), (HeaderCharset::Windows1252, "ù")] {
        assert_eq!(charset.decode(&[0xf9]), letter);
    }
}

#[test]
fn what_is_too_long_gets_513() {
    let long = invite().replace("v=0\r\n", &"x".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(status(long), Some(513));
    // A repair must not make it too long for the stack either.
    let bare = invite().replace("Content-Length: 5\r\n", "");
    let filled = bare.replace("v=0\r\n", &"x".repeat(MAX_MESSAGE_BYTES - bare.len() + 5));
    assert_eq!(filled.len(), MAX_MESSAGE_BYTES);
    assert_eq!(status(filled), Some(513));
}

#[test]
fn keepalives_are_answered_or_ignored() {
    assert!(matches!(gate().inspect(b"\r\n\r\n", PEER), Verdict::Answer { response, .. } if response == b"\r\n"));
    for ignored in [&b"\r\n"[..], b"\0", b"    "] {
        assert!(matches!(gate().inspect(ignored, PEER), Verdict::Drop { why: Counter::Keepalive, .. }));
    }
    assert!(matches!(gate().inspect(b"", PEER), Verdict::Drop { why: Counter::Empty, .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever happens to an honest message on its way, nothing panics, what passes the stack can read, and every
    /// answer is one that an independent parser reads.
    #[test]
    fn a_damaged_message_is_read_or_answered(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_usize), 1..6),
    ) {
        let mut message = invite().into_bytes();
        for (at, byte, kind) in cuts {
            let at = at.index(message.len().max(1));
            match kind {
                0 if at < message.len() => message[at] = byte,
                1 => message.insert(at.min(message.len()), byte),
                2 => message.truncate(at.max(1)),
                _ => { message.extend_from_within(at..); }
            }
        }
        match gate().inspect(&message, PEER) {
            Verdict::Pass { message, .. } => prop_assert!(SipMessage::try_from(&message[..]).is_ok()),
            Verdict::Answer { response, .. } => {
                prop_assert!(response.ends_with(b"\r\n"));
                prop_assert!(!response.windows(2).any(|two| two == b"\n\n"));
            }
            Verdict::Drop { .. } => {}
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), prefix in 0..3_usize) {
        let mut message = [&b""[..], b"INVITE sip:x SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n"][prefix].to_vec();
        message.extend_from_slice(&bytes);
        gate().inspect(&message, PEER);
    }
}
