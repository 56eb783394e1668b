//! SRTP: what was not protected with the key does not come in, and what does comes in once.

use arbitrary::{Arbitrary, Unstructured};
use offhook::rtp::srtp::{Inbound, MAX_TRAILER_BYTES, Outbound, Protocol, SrtpCounters};
use offhook::sdp::SrtpKeys;
use offhook::sdp::crypto::{KeyParameters, MasterKey, Mki, Suite};

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// A packet of the peer's, cut, changed and sent again as this says.
    Packet { payload: &'a [u8], sequence: u16, ssrc: u8, change: Option<(u8, u8)>, cut: u8, again: bool },
    /// Bytes of anybody.
    Bytes { bytes: &'a [u8] },
    /// Both change to another key.
    Rekey { key: u8 },
    /// The peer changes over later.
    Promised { key: u8 },
}

fn keys(suite: Suite, key: u8, mki: Option<u8>) -> SrtpKeys {
    let parameters = |salt: u8| KeyParameters {
        mki: mki.map(|bytes| Mki { value: 1, bytes: 1 + bytes % 128 }),
        ..KeyParameters::new(MasterKey::new([key; 16], [salt; 14]))
    };
    SrtpKeys { suite, local: parameters(1), remote: parameters(2) }
}

/// The same keys, seen by the far side.
fn mirrored(keys: SrtpKeys) -> SrtpKeys {
    SrtpKeys { local: keys.remote, remote: keys.local, ..keys }
}

fn sum(counters: SrtpCounters) -> u64 {
    counters.malformed + counters.forged + counters.replayed + counters.expired
}

/// Serves the inbound side what the bytes say.
pub fn fuzz(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let protocol = if input.arbitrary().unwrap_or(false) { Protocol::Rtcp } else { Protocol::Rtp };
    let suite = Suite::ALL[usize::from(input.arbitrary().unwrap_or(false))];
    let mki: Option<u8> = input.arbitrary().unwrap_or(None);
    let ours = keys(suite, 0, mki);
    let (mut inbound, mut peer) = (Inbound::new(protocol, &ours), Outbound::new(protocol, &mirrored(ours)));
    let (mut refused, mut agreed) = (0, true);
    while !input.is_empty() {
        let Ok(step) = input.arbitrary::<Step>() else { break };
        let mut offer = |bytes: &mut Vec<u8>| {
            let before = bytes.clone();
            match inbound.unprotect(bytes) {
                Ok(length) => {
                    assert!(length < before.len());
                    bytes.truncate(length);
                    true
                }
                Err(_) => {
                    assert_eq!(*bytes, before, "what is refused is left alone");
                    refused += 1;
                    false
                }
            }
        };
        match step {
            Step::Packet { payload, sequence, ssrc, change, cut, again } => {
                let payload = &payload[..payload.len().min(1000)];
                let clear = packet(protocol, payload, sequence, ssrc);
                let mut bytes = clear.clone();
                bytes.resize(clear.len() + MAX_TRAILER_BYTES, 0);
                let Ok(length) = peer.protect(&mut bytes, clear.len()) else { continue };
                assert!(length > clear.len() && length <= bytes.len());
                bytes.truncate(length);
                let whole = bytes.clone();
                if let Some((at, by)) = change {
                    bytes[usize::from(at) % length] ^= by;
                }
                bytes.truncate(length - usize::from(cut % 16).min(length));
                let harmed = bytes != whole;
                let taken = offer(&mut bytes);
                assert!(!(harmed && taken), "a damaged packet came in");
                if taken {
                    assert_eq!(bytes, clear);
                } else if agreed && !harmed {
                    // Its sender counts up, so that only a source that is one too many or too far behind is not taken.
                    continue;
                }
                if again && taken {
                    assert!(!offer(&mut whole.clone()), "a packet came in twice");
                }
            }
            Step::Bytes { bytes } => drop(offer(&mut bytes.to_vec())),
            Step::Rekey { key } => {
                let keys = keys(suite, key, mki);
                inbound.rekey(&keys);
                peer.rekey(&mirrored(keys));
                agreed = true;
            }
            Step::Promised { key } => {
                inbound.rekey(&keys(suite, key, mki));
                agreed = false;
            }
        }
    }
    assert_eq!(sum(inbound.counters()), refused);
}

fn packet(protocol: Protocol, payload: &[u8], sequence: u16, ssrc: u8) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut bytes = match protocol {
        Protocol::Rtp => vec![0x80, 0, high, low, 0, 0, 0, 0, 0, 0, 0, ssrc],
        Protocol::Rtcp => vec![0x80, 201, 0, 1, 0, 0, 0, ssrc],
    };
    bytes.extend(payload);
    bytes
}
