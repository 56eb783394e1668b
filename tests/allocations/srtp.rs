//! SRTP: packets out and in, forged ones, new sources, new keys.

use allocation_counter::measure;
use offhook::codec::Codec;
use offhook::pcm::SILENCE;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol};
use offhook::sdp::SrtpKeys;
use offhook::sdp::crypto::{KeyParameters, MasterKey, Suite};

/// Keys whose both directions are the same, so that what is sent can be received.
pub fn keys(n: u8) -> SrtpKeys {
    let key = KeyParameters::new(MasterKey::new([n; 16], [!n; 14]));
    SrtpKeys { suite: Suite::ALL[usize::from(n) % 2], local: key, remote: key }
}

#[test]
fn ten_thousand_packets_with_forgeries_new_sources_and_new_keys_allocate_nothing() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut srtp = Some(Protection::new(Protocol::Rtp, &keys(0)));
    let mut sender = Sender::new(Codec::Pcmu, Some(101.into()));
    let (mut taken, mut refused) = (0, 0);
    let counted = measure(|| {
        for n in 0..10_000u32 {
            if n % 500 == 499 {
                Protection::renew(&mut srtp, Protocol::Rtp, Some(&keys((n / 500) as u8)));
            }
            if n % 300 == 299 {
                sender = Sender::new(Codec::Pcmu, Some(101.into()));
            }
            let srtp = srtp.as_mut().unwrap();
            let mut packet = [0; MAX_PACKET_BYTES + MAX_TRAILER_BYTES];
            let length = sender.packet(&SILENCE, false, &mut packet);
            let length = srtp.protect(&mut packet, length).unwrap();
            if n % 7 == 0 {
                packet[random.usize(..length)] ^= 1;
            }
            match srtp.unprotect(&mut packet[..length]) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
    assert_eq!((taken, refused), (10_000 - 1429, 1429));
}
