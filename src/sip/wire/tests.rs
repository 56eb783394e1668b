//! The wire gate against the cases of RFC 4475 that a server must answer, repairs, and anything at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::super::inbound::InboundUsers;
use super::*;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)), 5062);

/// Calls as a test sets them.
#[derive(Default)]
struct Line {
    closing: AtomicBool,
    rings: AtomicBool,
    /// How many more calls there is room for; not counted down.
    room: AtomicUsize,
    /// How many calls were refused for want of it.
    refused: AtomicUsize,
}

impl Calls for Line {
    fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn has_dialog(&self, call_id: &str, local_tag: &str) -> bool {
        (call_id, local_tag) == ("c1", "ours")
    }

    fn has_invite(&self, call_id: &str, from_tag: &str, sequence: u32) -> bool {
        (call_id, from_tag, sequence) == ("c1", "a", 7) && self.rings.load(Ordering::Relaxed)
    }

    fn judge(&self, _peer: IpAddr, request: &Request) -> gate::Verdict {
        gate::judge(request, &super::super::DialogRules::default())
    }

    fn room(&self, _peer: IpAddr, _request: &Request) -> Room {
        if self.room.load(Ordering::Relaxed) > 0 { Room::Free } else { Room::Busy }
    }

    fn refused(&self, _peer: SocketAddr, _request: &Request) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// A gate with its calls and its clock.
struct Bench {
    gate: WireGate,
    line: Arc<Line>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(None, false)
    }

    fn with(users: Option<&str>, silent_to_strangers: bool) -> Self {
        let rules = Rules {
            silent_to_strangers,
            calls_per_second: 30,
            charset: HeaderCharset::Windows1255,
            charsets: vec![HeaderCharset::Windows1251],
            user_agent: "offhook/test".into(),
        };
        let net = |text: &str| text.parse().unwrap();
        let peers = Peers::new(vec![net("10.0.0.0/24")], vec![vec![net("10.1.0.0/24")]]);
        let now = Instant::now();
        let inbound = users.map(|users| Inbound::new(InboundUsers::parse(users).unwrap(), "offhook", now));
        let gate = WireGate::new(rules, Arc::new(peers), Arc::default(), inbound, now);
        let line = Arc::new(Line { room: AtomicUsize::new(1), ..Line::default() });
        let calls: Weak<dyn Calls> = Arc::downgrade(&line) as _;
        gate.attach(calls);
        Self { gate, line, now }
    }

    fn inspect_from<'a>(&self, message: &'a [u8], peer: SocketAddr) -> Verdict<'a> {
        self.gate.inspect(message, Source { peer, transport: Transport::Udp }, self.now)
    }

    fn inspect<'a>(&self, message: &'a [u8]) -> Verdict<'a> {
        self.inspect_from(message, PEER)
    }

    /// The answer as text.
    fn answer(&self, message: impl AsRef<[u8]>) -> Option<String> {
        match self.inspect(message.as_ref()) {
            Verdict::Answer { response, .. } => Some(String::from_utf8_lossy(&response).into_owned()),
            _ => None,
        }
    }

    fn status(&self, message: impl AsRef<[u8]>) -> Option<u16> {
        self.answer(message).map(|answer| answer.split(' ').nth(1).unwrap().parse().unwrap())
    }

    fn passes(&self, message: impl AsRef<[u8]>) -> bool {
        matches!(self.inspect(message.as_ref()), Verdict::Pass { .. })
    }
}

fn status(message: impl AsRef<[u8]>) -> Option<u16> {
    Bench::new().status(message)
}

fn passes(message: impl AsRef<[u8]>) -> bool {
    Bench::new().passes(message)
}

/// An ordinary INVITE, one line a header.
fn invite() -> String {
    "INVITE sip:620@box SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.7:5062;rport;branch=z9hG4bK-1\r\n\
     From: \"Anna\" <sip:100@pbx>;tag=a\r\nTo: <sip:620@box>\r\nCall-ID: c1\r\nCSeq: 7 INVITE\r\n\
     Contact: <sip:100@10.0.0.7:5062>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        .into()
}

#[test]
fn an_ordinary_request_passes_untouched() {
    let invite = invite();
    match Bench::new().inspect(invite.as_bytes()) {
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
        ("quotbal: a quote that does not close", invite().replace("To: <", "To: \"Mr. <")),
        ("a To without its bracket", invite().replace("620@box>\r\nCall", "620@box\r\nCall")),
        ("badinv01: separators with nothing between", invite().replace(";rport;", ";;rport;;,;,,")),
        ("ltgtruri: brackets around the Request-URI", invite().replacen("sip:620@box", "<sip:620@box>", 1)),
        ("escruri: headers in the Request-URI", invite().replacen("sip:620@box", "sip:620@box?Route=%3Csip:x%3E", 1)),
        ("two Max-Forwards", invite().replace("Contact:", "Max-Forwards: 70\r\nMax-Forwards: 5\r\nContact:")),
        ("two Content-Types", invite().replace("Contact:", "c: application/sdp\r\nContact:")),
        (
            "a hundred and fifty short Vias too many",
            invite().replace("Via:", &"v: SIP/2.0/UDP x\r\n".repeat(201)).replace("UDP x", "UDP y"),
        ),
        ("a NUL in a header", invite().replace("\"Anna\"", "\"An\0na\"")),
        ("a thousand Vias", invite().replace("Via:", &"Via: SIP/2.0/UDP x\r\n".repeat(1000)).replace("UDP x", "UDP y")),
    ];
    for (what, message) in cases {
        let expected = if what == "a thousand Vias" { 513 } else { 400 };
        assert_eq!(status(&message), Some(expected), "{what}");
    }
}

#[test]
fn another_version_gets_505_and_an_unknown_method_501() {
    assert_eq!(status(invite().replace("box SIP/2.0", "box SIP/7.0")), Some(505));
    assert_eq!(status(invite().replace("INVITE", "NEWMETHOD")), Some(501));
    let answer = Bench::new().answer(invite().replace("INVITE", "NEWMETHOD")).unwrap();
    assert!(answer.contains("\r\nAllow: INVITE, ACK"), "{answer}");
    assert_eq!(status(invite().replace("INVITE", "!interesting-Method0123456789_*+`.%indeed'~")), Some(501));
    // Methods are case-sensitive (§7.1).
    assert_eq!(status(invite().replace("INVITE", "Invite")), Some(501));
}

#[test]
fn a_response_mirrors_the_request_and_says_where_it_came_from() {
    let bench = Bench::new();
    let bye = invite().replace("7 INVITE", "7 BYE");
    let Verdict::Answer { response, to, why } = bench.inspect(bye.as_bytes()) else { panic!() };
    assert_eq!((to, why), (PEER, Counter::Malformed));
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
    assert_eq!(bench.answer(&bye), Some(response));
    // What is missing in the request cannot be copied, but an answer it gets.
    let answer = bench.answer(invite().replace("Call-ID: c1\r\n", "").replace("To: <sip:620@box>\r\n", "")).unwrap();
    assert!(answer.starts_with("SIP/2.0 400") && !answer.contains("To:"), "{answer}");
}

#[test]
fn an_ack_is_never_answered_and_a_bad_response_is_dropped() {
    let bench = Bench::new();
    let ack = invite().replace("INVITE", "ACK").replace("Length: 5", "Length: x");
    assert!(matches!(bench.inspect(ack.as_bytes()), Verdict::Drop { why: Counter::Malformed, .. }));
    let response = invite().replacen("INVITE sip:620@box SIP/2.0", "SIP/2.0 200 OK", 1);
    assert!(passes(&response));
    for bad in [response.replace("Length: 5", "Length: 50"), response.replace("SIP/2.0 200 OK", "SIP/2.0 x OK")] {
        assert!(matches!(bench.inspect(bad.as_bytes()), Verdict::Drop { why: Counter::Malformed, .. }));
    }
}

#[test]
fn outside_the_allowed_peers_a_request_gets_403_or_nothing_at_all() {
    let stranger = SocketAddr::from(([192, 0, 2, 9], 5060));
    let (bench, invite) = (Bench::new(), invite());
    let verdict = bench.inspect_from(invite.as_bytes(), stranger);
    assert!(
        matches!(verdict, Verdict::Answer { why: Counter::RejectedPeer, response, .. } if response.starts_with(b"SIP/2.0 403"))
    );
    assert!(matches!(bench.inspect_from(b"\r\n\r\n", stranger), Verdict::Drop { .. }));
    assert!(matches!(bench.inspect_from(b"rubbish", stranger), Verdict::Drop { why: Counter::Garbage, .. }));
    let mapped = SocketAddr::new("::ffff:10.0.0.7".parse().unwrap(), 5060);
    assert!(matches!(bench.inspect_from(invite.as_bytes(), mapped), Verdict::Pass { .. }));
    let silent = Bench::with(None, true);
    for message in [invite.clone(), invite.replace("INVITE", "OPTIONS"), invite.replace("box SIP/2.0", "box SIP/7.0")] {
        let verdict = silent.inspect_from(message.as_bytes(), stranger);
        assert!(matches!(verdict, Verdict::Drop { why: Counter::RejectedPeer, .. }), "{verdict:?}");
    }
    // Whom we call may answer from anywhere.
    let response = invite.replacen("INVITE sip:620@box SIP/2.0", "SIP/2.0 200 OK", 1);
    assert!(matches!(silent.inspect_from(response.as_bytes(), stranger), Verdict::Pass { .. }));
}

#[test]
fn options_are_answered_without_state_until_the_agent_closes() {
    let bench = Bench::new();
    let options = invite().replace("INVITE", "OPTIONS");
    let answer = bench.answer(&options).unwrap();
    assert!(answer.starts_with("SIP/2.0 200 OK"), "{answer}");
    for header in ["\r\nAllow: INVITE, ", "\r\nAccept: application/sdp", "\r\nSupported:"] {
        assert!(answer.contains(header), "{header} is missing in {answer}");
    }
    assert!(rsip::SipMessage::try_from(answer.as_str()).is_ok());
    assert_eq!(bench.gate.counters.of(Counter::Answered), 1);
    bench.line.closing.store(true, Ordering::Relaxed);
    assert_eq!(bench.status(&options), Some(503));
    assert_eq!(bench.status(invite()), Some(503));
}

#[test]
fn what_a_refused_call_got_it_gets_again_and_its_ack_ends_here() {
    let bench = Bench::new();
    bench.line.room.store(0, Ordering::Relaxed);
    let answer = bench.answer(invite()).unwrap();
    assert!(answer.starts_with("SIP/2.0 486"), "{answer}");
    bench.line.room.store(1, Ordering::Relaxed);
    assert_eq!(bench.answer(invite()), Some(answer.clone()), "there is room, but this one was refused");
    assert_eq!(bench.line.refused.load(Ordering::Relaxed), 1, "one call, however often it asks");
    assert!(bench.passes(invite().replace("z9hG4bK-1", "z9hG4bK-2")));
    let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
    let ack = invite().replace("INVITE", "ACK").replace("To: <sip:620@box>", to);
    assert!(matches!(bench.inspect(ack.as_bytes()), Verdict::Drop { why: Counter::StatelessAck, .. }));
    // The ACK of a call that was taken has another tag.
    assert!(bench.passes(ack.replace(to, "To: <sip:620@box>;tag=ours")));
}

#[test]
fn an_invite_that_is_sent_again_passes_though_all_calls_are_taken() {
    let bench = Bench::new();
    assert!(bench.passes(invite()));
    bench.line.room.store(0, Ordering::Relaxed);
    assert!(bench.passes(invite()));
    let cancel = invite().replace("INVITE", "CANCEL");
    assert!(bench.passes(&cancel));
    assert_eq!(bench.status(cancel.replace("z9hG4bK-1", "z9hG4bK-2")), Some(481));
}

#[test]
fn a_call_that_rings_for_long_can_still_be_cancelled() {
    let mut bench = Bench::new();
    assert!(bench.passes(invite()));
    bench.now += Duration::from_secs(60);
    let cancel = invite().replace("INVITE", "CANCEL");
    assert_eq!(bench.status(&cancel), Some(481), "it does not ring");
    bench.line.rings.store(true, Ordering::Relaxed);
    assert!(bench.passes(cancel));
}

#[test]
fn calls_over_the_rate_are_told_when_to_come_again() {
    let mut bench = Bench::new();
    let nth =
        |call: usize| invite().replace("z9hG4bK-1", &format!("z9hG4bK-x{call}")).replace("c1", &format!("c{call}"));
    let passed = (0..100).filter(|&call| bench.passes(nth(call))).count();
    assert_eq!(passed, 30);
    let answer = bench.answer(nth(100)).unwrap();
    assert!(answer.starts_with("SIP/2.0 503") && answer.contains("\r\nRetry-After: 2\r\n"), "{answer}");
    assert_eq!(bench.gate.counters.of(Counter::Overload), 71);
    bench.now += Duration::from_secs(1);
    assert!(bench.passes(nth(101)));
}

#[test]
fn only_requests_of_a_known_dialog_reach_the_stack() {
    let bench = Bench::new();
    let bye = invite().replace("INVITE", "BYE").replace("To: <sip:620@box>", "To: <sip:620@box>;tag=ours");
    assert!(bench.passes(&bye));
    let next = bye.replace("z9hG4bK-1", "z9hG4bK-2");
    for stray in [next.replace("tag=ours", "tag=other"), next.replace("Call-ID: c1", "Call-ID: c2")] {
        assert_eq!(bench.status(stray), Some(481));
    }
    assert_eq!(bench.gate.counters.of(Counter::NoDialog), 2);
}

#[test]
fn a_bye_that_is_sent_again_passes_though_its_dialog_is_over() {
    let bench = Bench::new();
    let bye = invite().replace("INVITE", "BYE").replace("To: <sip:620@box>", "To: <sip:620@box>;tag=ours");
    assert!(bench.passes(&bye));
    let ended = Bench { gate: bench.gate, line: Arc::default(), now: bench.now + Duration::from_secs(16) };
    assert!(ended.passes(&bye));
}

#[test]
fn forty_thousand_requests_a_second_do_not_keep_a_call_from_ending() {
    let mut bench = Bench::new();
    let options = invite().replace("INVITE", "OPTIONS");
    let mut answered = 0;
    for _ in 0..40_000 {
        bench.now += Duration::from_micros(25);
        answered += usize::from(bench.status(&options).is_some());
    }
    assert!(answered < 1000, "{answered}");
    assert!(bench.gate.counters.of(Counter::Flood) > 39_000);
    let bye = invite().replace("INVITE", "BYE").replace("To: <sip:620@box>", "To: <sip:620@box>;tag=ours");
    assert!(bench.passes(bye));
    assert!(bench.passes(invite().replacen("INVITE sip:620@box SIP/2.0", "SIP/2.0 200 OK", 1)));
}

#[test]
fn a_flood_within_a_dialog_is_bounded() {
    let bench = Bench::new();
    let info = invite().replace("To: <sip:620@box>", "To: <sip:620@box>;tag=ours");
    let nth = |nth: usize| info.replace("7 INVITE", &format!("{nth} INFO")).replace("INVITE", "INFO");
    assert_eq!((0..2000).filter(|&count| bench.passes(nth(count))).count(), 280);
}

#[test]
fn a_peer_that_is_no_trunk_shows_a_password() {
    use super::super::digest::{Credentials, Exchange};
    let bench = Bench::with(Some("anna:secret"), true);
    let challenge = bench.answer(invite()).unwrap();
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let authorized = |password: &str| {
        let mut credentials = Credentials::new("anna", crate::privacy::Secret::new(password));
        let mut exchange = Exchange::default();
        let headers = challenge.lines().filter_map(|line| line.split_once(": "));
        credentials.challenged(&mut exchange, headers);
        let lines = credentials.authorize(&mut exchange, "INVITE", "sip:620@box", b"v=0\r\n");
        let (name, value) = &lines[0];
        let again = invite().replace("7 INVITE", "8 INVITE").replace("z9hG4bK-1", "z9hG4bK-2");
        again.replace("Contact:", &format!("{name}: {value}\r\nContact:"))
    };
    assert_eq!(bench.status(authorized("wrong")), Some(401));
    let right = authorized("secret");
    assert!(bench.passes(&right));
    assert!(bench.passes(&right), "sent again");
    let shown_twice = right.replace("z9hG4bK-2", "z9hG4bK-3").replace("8 INVITE", "9 INVITE");
    assert!(bench.answer(shown_twice).unwrap().contains("stale=true"));
    assert_eq!(bench.gate.counters.of(Counter::Challenged), 3);
    // A trunk's address is known for a trunk's.
    let trunk = SocketAddr::from(([10, 1, 0, 1], 5060));
    assert!(matches!(bench.inspect_from(invite().as_bytes(), trunk), Verdict::Pass { .. }));
}

#[test]
fn blanks_and_folds_that_the_stack_cannot_read_are_taken_out() {
    let loose = invite()
        .replace("From: \"Anna\" <sip:100@pbx>;tag=a", "from  : \"Anna ; = \"   <sip:100@pbx>\r\n  ;\r\n  tag = a");
    let bench = Bench::new();
    let Verdict::Pass { message, repairs } = bench.inspect(loose.as_bytes()) else { panic!() };
    assert_eq!(repairs, [Counter::RepairedBlanks]);
    let message = String::from_utf8_lossy(&message).into_owned();
    assert!(message.contains("from: \"Anna ; = \" <sip:100@pbx>;tag=a\r\n"), "{message}");
}

#[test]
fn what_follows_the_body_in_a_datagram_is_cut_off() {
    let long = invite() + "rubbish";
    let bench = Bench::new();
    assert!(
        matches!(bench.inspect(long.as_bytes()), Verdict::Pass { message, .. } if *message == *invite().as_bytes())
    );
}

#[test]
fn a_missing_length_is_put_in_and_the_body_kept() {
    let bare = invite().replace("Content-Length: 5\r\n", "");
    let bench = Bench::new();
    let Verdict::Pass { message, repairs } = bench.inspect(bare.as_bytes()) else { panic!() };
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
    let bench = Bench::new();
    let Verdict::Pass { message, repairs } = bench.inspect(&foreign) else { panic!() };
    assert_eq!(repairs, [Counter::RepairedCharset]);
    assert!(message.windows(8).any(|bytes| bytes == "שלום".as_bytes()));
    assert_eq!(message.last(), Some(&0xff));
    // Each trunk has its own charset.
    let trunk = SocketAddr::from(([10, 1, 0, 1], 5060));
    let Verdict::Pass { message, .. } = bench.inspect_from(&foreign, trunk) else { panic!() };
    assert!(message.windows(8).any(|bytes| bytes == "щмен".as_bytes()));
}

#[test]
fn what_is_too_long_gets_513() {
    let long = invite().replace("v=0\r\n", &"x".repeat(MAX_DATAGRAM_BYTES));
    assert_eq!(status(long), Some(513));
    // A repair must not make it too long for the stack either.
    let bare = invite().replace("Content-Length: 5\r\n", "");
    let filled = bare.replace("v=0\r\n", &"x".repeat(MAX_DATAGRAM_BYTES - bare.len() + 5));
    assert_eq!(filled.len(), MAX_DATAGRAM_BYTES);
    assert_eq!(status(filled), Some(513));
}

#[test]
fn keepalives_are_answered_or_ignored() {
    let bench = Bench::new();
    assert!(matches!(bench.inspect(b"\r\n\r\n"), Verdict::Answer { response, .. } if response == b"\r\n"));
    for ignored in [&b"\r\n"[..], b"\0", b"    "] {
        assert!(matches!(bench.inspect(ignored), Verdict::Drop { why: Counter::Keepalive, .. }));
    }
    assert!(matches!(bench.inspect(b""), Verdict::Drop { why: Counter::Empty, .. }));
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
        match Bench::new().inspect(&message) {
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
        Bench::new().inspect(&message);
    }
}
