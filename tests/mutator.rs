//! Damaged messages by the thousand, at our edge: none makes anything panic, none takes long.
//!
//! In CI a fixed number from a fixed seed; `OFFHOOK_MUTATIONS=10000000 cargo test --release --test mutator` for more, with
//! `OFFHOOK_MUTATION_SEED` for others. Tests are built with overflow checks.

mod torture;

use std::time::Duration;

use fastrand::Rng;
use offhook::sdp;
use offhook::sip::edge::{self, Edge, Outcome};

/// About ten seconds of a debug build.
const MUTATIONS: u64 = 1_000_000;
/// What parsers trip over.
const DICTIONARY: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\\"",
    b"<",
    b">",
    b"<>",
    b";",
    b";;",
    b",",
    b",,",
    b"=",
    b":",
    b"::",
    b"@",
    b"%",
    b"%00",
    b"%4",
    b" ",
    b"\t",
    b"\r\n ",
    b"SIP/2.0",
    b"SIP/2.0/UDP ",
    b";tag=",
    b";branch=",
    b";rport",
    b";received=",
    b"Via: ",
    b"l: ",
    b"Content-Length: 18446744073709551615\r\n",
    b"CSeq: 4294967295 ",
    b"-1",
    b"99999999999999999999",
    b"[::1]",
    b"\xff\xfe",
    b"\xd7\xa9",
    b"Authorization: Digest username=\"anna\", realm=\"offhook\", nonce=\"x\", nc=ffffffff, qop=auth, response=\"",
];

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 8 0 9 101\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n";

const IDENTITY: &str = "From: \"Doe, \\\"J\\\"\" <sip:0501234567@pbx;user=phone>;tag=1\r\n\
    P-Asserted-Identity: \"Bank, Ltd\" <sip:+97235551234@gw>, <tel:03-5551234;phone-context=+972>\r\n\
    Remote-Party-ID: <sip:1@x>;party=calling;screen=yes;privacy=full\r\nPrivacy: id;critical\r\n\
    Diversion: <sip:620@pbx>;reason=no-answer, <tel:03-5559999>;counter=2\r\n\
    History-Info: <sip:620@pbx?Reason=SIP%3Bcause%3D302>;index=1, <sip:700@box>;index=1.1\r\n";

const CHALLENGE: &str = "Digest realm=\"offhook\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth,auth-int\", opaque=\"x\", stale=TRUE, \
    Digest realm=\"b\", nonce=\"d\\\"e\", algorithm=MD5-sess";

const ANSWER: &str = "Digest username=\"anna\", realm=\"offhook\", nonce=\"0123456789abcdef\", uri=\"sip:620@box\", \
    response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, cnonce=\"x\", qop=auth, nc=00000001";

/// Damages a message one to six times.
fn mutate(message: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Rng) {
    for _ in 0..random.usize(1..=6) {
        let at = random.usize(..=message.len());
        let end = (at + random.usize(..40)).min(message.len());
        match random.u8(..8) {
            0 if at < message.len() => message[at] = random.u8(..),
            1 if at < message.len() => message[at] ^= 1 << random.u8(..8),
            2 => message.insert(at, random.u8(..)),
            3 => drop(message.drain(at..end)),
            4 => message.truncate(at.max(1)),
            5 => {
                let piece = message[at..end].to_vec();
                let times = random.usize(1..20);
                message.splice(at..at, piece.repeat(times));
            }
            6 => {
                let other = &others[random.usize(..others.len())];
                let from = random.usize(..other.len());
                let to = (from + random.usize(..200)).min(other.len());
                message.splice(at..end, other[from..to].iter().copied());
            }
            _ => drop(message.splice(at..end, DICTIONARY[random.usize(..DICTIONARY.len())].iter().copied())),
        }
    }
}

/// Mutates seeds and shows each to `target`; says which took longest.
fn run(name: &str, share: u64, seeds: &[Vec<u8>], mut target: impl FnMut(&[u8], &mut Rng)) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|number| number.parse().ok());
    let mutations = number("OFFHOOK_MUTATIONS").unwrap_or(MUTATIONS) * share / 100;
    let mut random = Rng::with_seed(number("OFFHOOK_MUTATION_SEED").unwrap_or(4475));
    let mut slowest = (Duration::ZERO, Vec::new());
    for _ in 0..mutations {
        let mut message = seeds[random.usize(..seeds.len())].clone();
        mutate(&mut message, seeds, &mut random);
        let start = thread_time();
        target(&message, &mut random);
        let took = thread_time() - start;
        if took > slowest.0 {
            slowest = (took, message);
        }
    }
    let shown = slowest.1.len().min(400);
    println!(
        "{name}: {mutations} inputs, the slowest took {:?}: {:?}",
        slowest.0,
        String::from_utf8_lossy(&slowest.1[..shown])
    );
    // Far from what a debug build does to an honest message, near to what an input that is quadratic takes.
    assert!(slowest.0 < Duration::from_millis(50), "{name}: one input took {:?}", slowest.0);
}

/// What this thread has worked; what others take from it does not count.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn seed(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn damaged_messages_pass_the_gate_only_when_the_stack_can_read_them() {
    let messages = torture::rfc4475().into_iter().chain(torture::rfc5118());
    let seeds: Vec<_> = messages.map(|(_, message)| message).collect();
    let mut edge = Edge::default();
    run("gate", 40, &seeds, |message, random| {
        let peer = if random.bool() { Edge::TRUNK } else { Edge::PEER };
        match edge.judge(message, peer) {
            Outcome::Delivered(message) => {
                let head = message.windows(4).position(|four| four == b"\r\n\r\n").expect("an end of the head");
                assert!(std::str::from_utf8(&message[..head]).is_ok());
            }
            Outcome::Answered(status, response) => {
                assert!(status >= 200 || response == b"\r\n", "{}", text(&response));
                assert!(response.ends_with(b"\r\n"));
            }
            Outcome::Dropped(_) => {}
        }
    });
}

#[test]
fn damaged_identities_name_somebody_or_nobody() {
    run("identity", 25, &[seed(IDENTITY)], |lines, _| {
        let lines = text(lines);
        let caller = edge::caller(&lines, "IL");
        if let Some(number) = caller.number {
            let digits = number.strip_prefix('+').unwrap_or(&number);
            assert!(
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || b"*#".contains(&byte)),
                "{number}"
            );
        }
        edge::values(&lines);
    });
}

#[test]
fn damaged_challenges_and_credentials_are_refused() {
    run("digest", 15, &[seed(CHALLENGE), seed(ANSWER)], |value, _| {
        let value = text(value);
        edge::digest(&value, &value);
    });
}

#[test]
fn damaged_descriptions_of_media_are_refused() {
    run("sdp", 20, &[seed(SDP)], |description, _| {
        let _ = sdp::Offer::parse(description);
        let _ = sdp::parse_answer(description, &offhook::codec::Codec::ALL, &sdp::MediaSecurity::OFF);
    });
}
