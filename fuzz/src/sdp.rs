//! SDP: any offer and any answer, and a description of ours that is well-formed, bounded, and answers what was offered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use offhook::codec::Codec;
use offhook::config::Policy;
use offhook::sdp::{LocalMedia, MediaSecurity, Offer, OfferAnswer, parse_answer};

/// Keys are random; they are made once.
static SECURITY: LazyLock<[MediaSecurity; 3]> = LazyLock::new(|| {
    let exchanged = |policy| MediaSecurity::new(policy, true, false).expect("a system with random numbers");
    [MediaSecurity::OFF, exchanged(Policy::Optional), exchanged(Policy::Required)]
});

/// The first byte says whose side is answered under which rules; the rest is the peer's description.
pub fn fuzz(input: &[u8]) {
    let Some((&rules, description)) = input.split_first() else { return };
    let address = if rules & 1 == 0 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    let local = LocalMedia { address, port: 4000, session_id: 1, version: 1 };
    let security = SECURITY[usize::from(rules >> 1) % SECURITY.len()];
    let _ = parse_answer(description, &offhook::codec::Codec::ALL, &security);
    let mut exchange = OfferAnswer::new(local, &Codec::ALL, security);
    if let Ok(offer) = Offer::parse(description) {
        match (offer.answer(&local, &offhook::codec::Codec::ALL, &security), exchange.answer(description)) {
            (Ok((answer, agreed)), Ok((same, agreed_too))) => {
                assert_eq!((&answer, agreed), (&same, agreed_too));
                assert!(answer.len() <= 2 * description.len() + 2048, "{} bytes", answer.len());
                // RFC 3264 §6: as many media lines, in the same order.
                assert_eq!(lines(&answer, b"m="), lines(description, b"m="), "{}", String::from_utf8_lossy(&answer));
                Offer::parse(&answer).expect("our answer can be read");
            }
            (Err(_), Err(_)) => assert!(exchange.agreed().is_none()),
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
    let agreed = exchange.agreed().copied();
    let offer = exchange.offer();
    Offer::parse(&offer).expect("our offer can be read");
    if exchange.answered(description).is_err() {
        assert_eq!(exchange.agreed().copied(), agreed, "what cannot be met changes nothing");
    }
}

fn lines(description: &[u8], with: &[u8]) -> usize {
    description.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| line.starts_with(with)).count()
}
