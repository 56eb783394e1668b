//! SRTP against another implementation (`webrtc-srtp`), against attackers, and in whole calls.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use offhook::codec::{Codec, Encoder, HouseDecoder};
use offhook::config::{Policy, Trunk, TrunkMode};
use offhook::leg::rtp::RtpLeg;
use offhook::leg::{Leg, LegMedia};
use offhook::pcm::{FRAME_SAMPLES, SILENCE};
use offhook::phone::caller::{Agreed, Caller};
use offhook::phone::mouth::{Sent, Utterance};
use offhook::phone::run::Wires;
use offhook::phone::{self, PhoneError};
use offhook::rtp::packet::{PacketView, write_packet};
use offhook::rtp::socket;
use offhook::rtp::srtp::{Inbound, MAX_TRAILER_BYTES, Outbound, Protocol, SrtpCounters, SrtpError};
use offhook::sdp::crypto::{KeyParameters, MasterKey, Mki, Suite};
use offhook::sdp::{self, Direction, LocalMedia, MediaSecurity, Negotiated, SrtpKeys};
use offhook::sip::{TlsSettings, UserAgent, UserAgentOptions};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

// It has more than these calls need.
#[allow(dead_code)]
#[path = "support/house.rs"]
mod house;
use house::Sound::{Answer, Placeholder};
use house::{House, LOOPBACK, say, soon};

const QUESTION: &str = "Are you open on Friday afternoon?";
/// Whom a test sends as.
const SSRC: u32 = 0x0fee_1bad;

fn random_key(random: &mut fastrand::Rng) -> MasterKey {
    MasterKey::new(std::array::from_fn(|_| random.u8(..)), std::array::from_fn(|_| random.u8(..)))
}

/// Keys of a loop: what is sent with them is received with them.
fn keys(suite: Suite, master: MasterKey) -> SrtpKeys {
    SrtpKeys { suite, local: KeyParameters::new(master), remote: KeyParameters::new(master) }
}

fn loop_of(protocol: Protocol, keys: &SrtpKeys) -> (Outbound, Inbound) {
    (Outbound::new(protocol, keys), Inbound::new(protocol, keys))
}

fn oracle(suite: Suite, master: &MasterKey) -> Context {
    let profile = match suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    Context::new(master.key(), master.salt(), profile, None, None).unwrap()
}

/// A packet of random length, now and then with contributing sources and a header extension.
fn rtp(random: &mut fastrand::Rng, ssrc: u32, sequence: u16) -> Vec<u8> {
    let sources = if random.u8(..4) == 0 { random.u8(..16) } else { 0 };
    let extension = random.u8(..4) == 0;
    let mut packet = vec![0x80 | u8::from(extension) << 4 | sources, random.u8(..)];
    packet.extend(sequence.to_be_bytes());
    packet.extend(random.u32(..).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..4 * usize::from(sources)).map(|_| random.u8(..)));
    if extension {
        let words = random.u8(..8);
        packet.extend([0x12, 0x34, 0, words]);
        packet.extend((0..4 * usize::from(words)).map(|_| random.u8(..)));
    }
    packet.extend((0..random.usize(..1200)).map(|_| random.u8(..)));
    packet
}

/// One that a telephone sends: 160 bytes.
fn speech(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0; 172];
    let view = PacketView { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc, payload: &[0x55; 160] };
    assert_eq!(write_packet(&mut packet, &view), 172);
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

fn protect(outbound: &mut Outbound, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = [packet, &[0; MAX_TRAILER_BYTES]].concat();
    let length = outbound.protect(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn unprotect(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = packet.to_vec();
    match inbound.unprotect(&mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) => {
            assert_eq!(buffer, packet, "a packet that is refused is left as it is");
            Err(error)
        }
    }
}

#[test]
fn both_implementations_read_what_the_other_writes_through_many_wraps_of_the_sequence() {
    let mut random = fastrand::Rng::with_seed(1);
    for suite in Suite::ALL {
        let master = random_key(&mut random);
        let (mut outbound, mut inbound) = loop_of(Protocol::Rtp, &keys(suite, master));
        let (mut theirs_out, mut theirs_in) = (oracle(suite, &master), oracle(suite, &master));
        let mut index = u64::from(random.u16(..1 << 15));
        for _ in 0..3000 {
            let packet = rtp(&mut random, SSRC, index as u16);
            let ours = protect(&mut outbound, &packet).unwrap();
            let theirs = theirs_out.encrypt_rtp(&packet).unwrap();
            assert_eq!(ours, theirs, "index {index}");
            assert_eq!(theirs_in.decrypt_rtp(&ours).unwrap(), packet);
            assert_eq!(unprotect(&mut inbound, &theirs).unwrap(), packet);
            index += if random.u8(..4) == 0 { random.u64(1..20_000) } else { 1 };
        }
        assert!(index >> 16 > 50, "{index}");
        assert_eq!(inbound.counters(), SrtpCounters::default());
    }
}

#[test]
fn both_implementations_read_the_others_srtcp() {
    let mut random = fastrand::Rng::with_seed(2);
    for suite in Suite::ALL {
        let master = random_key(&mut random);
        let (mut outbound, mut inbound) = loop_of(Protocol::Rtcp, &keys(suite, master));
        let (mut theirs_out, mut theirs_in) = (oracle(suite, &master), oracle(suite, &master));
        for n in 0..500 {
            let words = random.u8(..200);
            let mut packet = vec![0x80, 200, 0, words + 1];
            packet.extend(SSRC.to_be_bytes());
            packet.extend((0..4 * usize::from(words)).map(|_| random.u8(..)));
            let ours = protect(&mut outbound, &packet).unwrap();
            assert_eq!(ours.len(), packet.len() + 4 + 10);
            assert_eq!(theirs_in.decrypt_rtcp(&ours).unwrap(), packet, "packet {n}");
            let theirs = theirs_out.encrypt_rtcp(&packet).unwrap();
            assert_eq!(unprotect(&mut inbound, &theirs).unwrap(), packet, "packet {n}");
        }
    }
}

#[test]
fn a_packet_with_any_bit_changed_is_refused_and_the_true_one_is_still_taken() {
    let mut random = fastrand::Rng::with_seed(3);
    for (protocol, suite) in [Protocol::Rtp, Protocol::Rtcp].into_iter().flat_map(|p| Suite::ALL.map(|s| (p, s))) {
        let (mut outbound, mut inbound) = loop_of(protocol, &keys(suite, random_key(&mut random)));
        let plain = if protocol == Protocol::Rtp { speech(SSRC, 7) } else { rtcp(SSRC) };
        let packet = protect(&mut outbound, &plain).unwrap();
        for bit in 0..packet.len() * 8 {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect(&mut inbound, &forged).is_err(), "{protocol:?}, bit {bit}");
        }
        for length in 0..packet.len() {
            assert!(unprotect(&mut inbound, &packet[..length]).is_err());
        }
        assert_eq!(unprotect(&mut inbound, &packet).unwrap(), plain);
        let counters = inbound.counters();
        assert!(counters.forged > 100 && counters.malformed > 5 && counters.replayed == 0, "{counters:?}");
    }
}

#[test]
fn a_flood_of_forged_sources_leaves_no_trace() {
    let mut random = fastrand::Rng::with_seed(4);
    let (mut outbound, mut inbound) =
        loop_of(Protocol::Rtp, &keys(Suite::AesCm128HmacSha1_32, random_key(&mut random)));
    let known: Vec<_> = (0..8u32).map(|ssrc| protect(&mut outbound, &speech(ssrc, 9)).unwrap()).collect();
    for packet in &known {
        unprotect(&mut inbound, packet).unwrap();
    }
    let flood = allocation_counter::measure(|| {
        let mut packet = [0x80; 176];
        for _ in 0..20_000 {
            random.fill(&mut packet[2..]);
            assert_eq!(inbound.unprotect(&mut packet), Err(SrtpError::Forged));
        }
    });
    assert_eq!((flood.count_total, flood.count_current), (0, 0));
    // All that were known are known still: their packets are recognised as old.
    for packet in &known {
        assert_eq!(unprotect(&mut inbound, packet), Err(SrtpError::Replayed));
    }
    assert_eq!(inbound.counters(), SrtpCounters { forged: 20_000, replayed: 8, ..SrtpCounters::default() });
}

#[test]
fn each_packet_is_taken_once_in_any_order_and_not_when_it_is_too_old() {
    let mut random = fastrand::Rng::with_seed(5);
    for protocol in [Protocol::Rtp, Protocol::Rtcp] {
        let (mut outbound, mut inbound) = loop_of(protocol, &keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
        let plain =
            |n: u16| if protocol == Protocol::Rtp { speech(SSRC, 65_400u16.wrapping_add(n)) } else { rtcp(SSRC) };
        let mut packets: Vec<_> = (0..1000).map(|n| protect(&mut outbound, &plain(n)).unwrap()).collect();
        let newest = packets.split_off(900);
        for some in packets.chunks_mut(64) {
            random.shuffle(some);
        }
        for packet in &packets {
            unprotect(&mut inbound, packet).unwrap();
        }
        for packet in &packets {
            assert_eq!(unprotect(&mut inbound, packet), Err(SrtpError::Replayed));
        }
        assert!(unprotect(&mut inbound, &newest[99]).is_ok());
        assert!(unprotect(&mut inbound, &newest[0]).is_ok(), "99 packets late is within the window");
        let (_, mut other) = loop_of(protocol, &keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
        assert_eq!(unprotect(&mut other, &newest[1]), Err(SrtpError::Forged), "another key");
    }
}

#[test]
fn what_was_heard_of_one_source_is_not_forgotten_while_another_speaks() {
    let mut random = fastrand::Rng::with_seed(6);
    let (mut outbound, mut inbound) =
        loop_of(Protocol::Rtp, &keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
    let first = protect(&mut outbound, &speech(1, 65_535)).unwrap();
    let second = protect(&mut outbound, &speech(2, 10)).unwrap();
    let wrapped = protect(&mut outbound, &speech(1, 0)).unwrap();
    for packet in [&first, &second, &wrapped] {
        unprotect(&mut inbound, packet).unwrap();
    }
    for packet in [&first, &second, &wrapped] {
        assert_eq!(unprotect(&mut inbound, packet), Err(SrtpError::Replayed));
    }
}

#[test]
fn a_source_whose_first_packets_were_lost_is_understood_after_its_sequence_has_wrapped() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut outbound, mut inbound) =
        loop_of(Protocol::Rtp, &keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
    let late = protect(&mut outbound, &speech(SSRC, 65_534)).unwrap();
    protect(&mut outbound, &speech(SSRC, 65_535)).unwrap();
    for sequence in 0..3 {
        let packet = protect(&mut outbound, &speech(SSRC, sequence)).unwrap();
        assert_eq!(unprotect(&mut inbound, &packet).unwrap(), speech(SSRC, sequence));
    }
    assert_eq!(unprotect(&mut inbound, &late).unwrap(), speech(SSRC, 65_534));
}

#[test]
fn a_forged_goodbye_in_the_clear_is_refused() {
    let mut random = fastrand::Rng::with_seed(8);
    let master = random_key(&mut random);
    let suite = Suite::AesCm128HmacSha1_80;
    let mut inbound = Inbound::new(Protocol::Rtcp, &keys(suite, master));
    let mut forged = vec![0x81, 203, 0, 1];
    forged.extend(SSRC.to_be_bytes());
    // The flag of encryption is cleared, and the tag is junk.
    forged.extend([0, 0, 0, 5]);
    forged.extend([0xaa; 10]);
    assert_eq!(unprotect(&mut inbound, &forged), Err(SrtpError::Forged));
    assert!(oracle(suite, &master).decrypt_rtcp(&forged).is_ok(), "the other implementation is taken in by this");
}

#[test]
fn a_new_key_takes_over_with_its_first_packet_and_the_old_one_is_good_until_then() {
    let mut random = fastrand::Rng::with_seed(9);
    let suite = Suite::AesCm128HmacSha1_80;
    let (old, new) = (keys(suite, random_key(&mut random)), keys(Suite::AesCm128HmacSha1_32, random_key(&mut random)));
    let (mut outbound, mut inbound) = loop_of(Protocol::Rtp, &old);
    let send = |outbound: &mut Outbound, sequence| protect(outbound, &speech(SSRC, sequence)).unwrap();
    for sequence in [65_000, 200, 201] {
        unprotect(&mut inbound, &send(&mut outbound, sequence)).unwrap();
    }
    // The same keys again, as a re-INVITE repeats them, change nothing.
    let before = send(&mut outbound, 202);
    unprotect(&mut inbound, &before).unwrap();
    inbound.rekey(&old);
    outbound.rekey(&old);
    assert_eq!(unprotect(&mut inbound, &before), Err(SrtpError::Replayed));

    inbound.rekey(&new);
    let under_way = [send(&mut outbound, 203), send(&mut outbound, 204)];
    unprotect(&mut inbound, &under_way[0]).unwrap();
    outbound.rekey(&new);
    // The roll-over counter goes on (RFC 3711 §3.3.1).
    unprotect(&mut inbound, &send(&mut outbound, 205)).unwrap();
    assert_eq!(unprotect(&mut inbound, &under_way[1]), Err(SrtpError::Forged), "the old key is gone");

    // A peer that counts anew with a new key is understood as well.
    let third = keys(suite, random_key(&mut random));
    inbound.rekey(&third);
    let mut anew = Outbound::new(Protocol::Rtp, &third);
    for sequence in [206, 207] {
        unprotect(&mut inbound, &send(&mut anew, sequence)).unwrap();
    }
}

#[test]
fn srtcp_goes_on_counting_under_a_new_key() {
    let mut random = fastrand::Rng::with_seed(10);
    let [old, new] = std::array::from_fn(|_| keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
    let (mut outbound, mut inbound) = loop_of(Protocol::Rtcp, &old);
    let index = |packet: &[u8]| u32::from_be_bytes(packet[8..12].try_into().unwrap());
    for n in 0..6 {
        if n == 3 {
            outbound.rekey(&new);
            inbound.rekey(&new);
        }
        let packet = protect(&mut outbound, &rtcp(SSRC)).unwrap();
        assert_eq!(index(&packet), 1 << 31 | n);
        unprotect(&mut inbound, &packet).unwrap();
    }
}

#[test]
fn a_key_serves_for_its_lifetime_and_no_longer() {
    let mut random = fastrand::Rng::with_seed(11);
    let master = random_key(&mut random);
    let endless = keys(Suite::AesCm128HmacSha1_80, master);
    let short = KeyParameters { lifetime: Some(3), ..KeyParameters::new(master) };
    let mut outbound = Outbound::new(Protocol::Rtp, &endless);
    let mut inbound = Inbound::new(Protocol::Rtp, &SrtpKeys { remote: short, ..endless });
    let outcomes: Vec<_> =
        (0..5).map(|n| unprotect(&mut inbound, &protect(&mut outbound, &speech(SSRC, n)).unwrap()).map(drop)).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Err(SrtpError::Expired), Err(SrtpError::Expired)]);
    let mut outbound = Outbound::new(Protocol::Rtp, &SrtpKeys { local: short, ..endless });
    let outcomes: Vec<_> = (0..5).map(|n| protect(&mut outbound, &speech(SSRC, n)).map(drop)).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Err(SrtpError::Expired), Err(SrtpError::Expired)]);
    assert_eq!((inbound.counters().expired, outbound.counters().expired), (2, 2));
}

#[test]
fn no_index_is_used_twice_to_encrypt() {
    let mut random = fastrand::Rng::with_seed(12);
    let mut outbound = Outbound::new(Protocol::Rtp, &keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
    protect(&mut outbound, &speech(1, 100)).unwrap();
    protect(&mut outbound, &speech(2, 100)).unwrap();
    for again in [speech(1, 100), speech(1, 99), speech(2, 100)] {
        assert_eq!(protect(&mut outbound, &again), Err(SrtpError::Replayed));
    }
    let mut no_room = speech(1, 101);
    assert_eq!(outbound.protect(&mut no_room, 172), Err(SrtpError::Malformed));
    assert_eq!(no_room, speech(1, 101));
}

#[test]
fn the_identifier_of_a_key_is_written_and_skipped_and_another_is_refused() {
    let mut random = fastrand::Rng::with_seed(13);
    for (protocol, bytes) in [(Protocol::Rtp, 1), (Protocol::Rtp, 4), (Protocol::Rtp, 128), (Protocol::Rtcp, 4)] {
        let master = random_key(&mut random);
        let with = |value| KeyParameters { mki: Some(Mki { value, bytes }), ..KeyParameters::new(master) };
        let marked = SrtpKeys { suite: Suite::AesCm128HmacSha1_80, local: with(0x7f), remote: with(0x7f) };
        let (mut outbound, mut inbound) = loop_of(protocol, &marked);
        let plain = if protocol == Protocol::Rtp { speech(SSRC, 5) } else { rtcp(SSRC) };
        let packet = protect(&mut outbound, &plain).unwrap();
        let bare = protect(&mut Outbound::new(protocol, &keys(marked.suite, master)), &plain).unwrap();
        assert_eq!(packet.len(), bare.len() + usize::from(bytes));
        let (body, tag) = packet.split_at(packet.len() - 10);
        assert_eq!((body.last(), tag), (Some(&0x7f), &bare[bare.len() - 10..]), "the tag does not cover it");
        let mut other = Inbound::new(protocol, &SrtpKeys { remote: with(0x7e), ..marked });
        assert_eq!(unprotect(&mut other, &packet), Err(SrtpError::Forged));
        assert_eq!(unprotect(&mut inbound, &packet).unwrap(), plain);
    }
}

#[test]
fn no_input_panics() {
    let mut random = fastrand::Rng::with_seed(14);
    let mut suite = keys(Suite::AesCm128HmacSha1_80, random_key(&mut random));
    suite.remote.mki = Some(Mki { value: 1, bytes: 4 });
    for protocol in [Protocol::Rtp, Protocol::Rtcp] {
        let (mut outbound, mut inbound) = loop_of(protocol, &suite);
        for _ in 0..200_000 {
            let mut bytes = [0; 64];
            random.fill(&mut bytes);
            if random.bool() {
                bytes[0] = 0x80 | bytes[0] & 0x3f;
            }
            let length = random.usize(..=64);
            let _ = inbound.unprotect(&mut bytes[..length]);
            let _ = outbound.protect(&mut bytes, random.usize(..100));
        }
    }
}

#[test]
fn the_leg_does_not_see_what_is_not_authentic_and_does_not_turn_to_who_sent_it() {
    let mut random = fastrand::Rng::with_seed(15);
    let (ours, _) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let (peer, stranger) = (UdpSocket::bind((LOOPBACK, 0)).unwrap(), UdpSocket::bind((LOOPBACK, 0)).unwrap());
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = ours.local_addr().unwrap();
    let remote = peer.local_addr().unwrap();
    let [first, second] = std::array::from_fn(|_| keys(Suite::AesCm128HmacSha1_80, random_key(&mut random)));
    let agreed = Negotiated {
        codec: Codec::Pcmu,
        telephone_event: None,
        remote,
        remote_rtcp: remote,
        rtcp_mux: false,
        ptime: Duration::from_millis(20),
        direction: Direction::SendRecv,
        srtp: Some(first),
        secure_profile: true,
    };
    let (mut leg, _reports) = RtpLeg::new(ours, &agreed, Duration::ZERO, Instant::now()).unwrap();
    let (mut outbound, mut inbound) = loop_of(Protocol::Rtp, &first);
    let mut frame = SILENCE;
    // Plain RTP from elsewhere, which would be latched onto.
    for n in 0..5 {
        stranger.send_to(&speech(5, n), to).unwrap();
    }
    let mut sequence = 0;
    let mut heard_and_spoken = |leg: &mut RtpLeg, outbound: &mut Outbound, inbound: &mut Inbound| {
        for _ in 0..3 {
            peer.send_to(&protect(outbound, &speech(SSRC, sequence)).unwrap(), to).unwrap();
            sequence += 1;
            leg.hear(Instant::now(), &mut frame);
            leg.speak(Instant::now(), &SILENCE, false);
            let mut buffer = [0; 500];
            let length = peer.recv(&mut buffer).unwrap();
            assert_eq!(length, 182);
            let packet = unprotect(inbound, &buffer[..length]).unwrap();
            assert_eq!(PacketView::parse(&packet).unwrap().payload, [offhook::codec::g711::Law::Mu.silence(); 160]);
        }
    };
    heard_and_spoken(&mut leg, &mut outbound, &mut inbound);
    assert_eq!(leg.remote(), remote);
    let before = leg.last_received();
    leg.renegotiate(&LegMedia::from(&Negotiated { srtp: Some(second), ..agreed }));
    outbound.rekey(&second);
    inbound.rekey(&second);
    heard_and_spoken(&mut leg, &mut outbound, &mut inbound);
    assert!(leg.last_received() > before);
    leg.renegotiate(&LegMedia::from(&Negotiated { srtp: None, ..agreed }));
    stranger.send_to(&speech(SSRC, 99), to).unwrap();
    leg.speak(Instant::now(), &SILENCE, false);
    let mut buffer = [0; 500];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 172, "in the clear again, when that is agreed on");
}

/// A pair of sockets between two others that keeps a copy of everything.
struct Wire {
    near: SocketAddr,
    far: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
}

impl Wire {
    fn to(far_side: SocketAddr) -> Self {
        let [near, far] = std::array::from_fn(|_| UdpSocket::bind((LOOPBACK, 0)).unwrap());
        let wire = Self {
            near: near.local_addr().unwrap(),
            far: far.local_addr().unwrap(),
            seen: Arc::default(),
            over: Arc::default(),
        };
        let (seen, over) = (wire.seen.clone(), wire.over.clone());
        std::thread::spawn(move || {
            let mut near_side = None;
            let mut buffer = [0; 2048];
            for socket in [&near, &far] {
                socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            }
            while !over.load(Ordering::Relaxed) {
                while let Ok((length, from)) = near.recv_from(&mut buffer) {
                    near_side = Some(from);
                    seen.lock().unwrap().push(buffer[..length].to_vec());
                    let _ = far.send_to(&buffer[..length], far_side);
                }
                while let Ok(length) = far.recv(&mut buffer) {
                    seen.lock().unwrap().push(buffer[..length].to_vec());
                    let _ = near_side.map(|near_side| near.send_to(&buffer[..length], near_side));
                }
            }
        });
        wire
    }

    /// How many of the packets that passed hold a frame that the caller says, or a tone or silence of the box.
    fn in_the_clear(self, utterance: &Utterance) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let mut known: Vec<Vec<u8>> = Vec::new();
        let mut encoder = Encoder::new(Codec::Pcmu);
        for n in 0..utterance.len() {
            if let Some(Sent::Sound(frame)) = utterance.at(n) {
                let mut payload = [0; 160];
                encoder.encode(Codec::Pcmu, frame, &mut payload);
                known.push(payload.to_vec());
            }
        }
        let is_clear = |packet: &&Vec<u8>| {
            let payload = packet.get(12..172).unwrap_or_default();
            let mut sound = [0; FRAME_SAMPLES];
            HouseDecoder::new(Codec::Pcmu).decode(Codec::Pcmu, payload, &mut sound);
            let tone = !house::stretches(&sound.repeat(3)).iter().all(|stretch| stretch.sound == house::Sound::Other);
            tone || known.iter().any(|known| known == payload) || payload.iter().all(|byte| *byte == payload[0])
        };
        (seen.iter().filter(is_clear).count(), seen.len())
    }
}

fn trunk(srtp: Policy) -> Trunk {
    Trunk {
        mode: TrunkMode::IpAuth,
        domain: "pbx.example".into(),
        allowed_peers: vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()],
        srtp,
        srtp_over_clear_signalling: true,
        ..Trunk::default()
    }
}

/// A question is asked of `uri` and answered over a wire that is listened to: who was heard, and what the wire showed.
async fn overheard(
    house: &House,
    uri: &str,
    options: UserAgentOptions,
    security: MediaSecurity,
) -> (Vec<house::Sound>, (usize, usize)) {
    let (rtp, rtcp) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let wire = Wire::to(rtp.local_addr().unwrap());
    let (agent, _incoming) = UserAgent::start(options).await.unwrap();
    let media = LocalMedia { address: LOOPBACK, port: wire.near.port(), session_id: 1, version: 1 };
    let offer = sdp::make_offer(&media, &[Codec::Pcmu], &security);
    let mut call = agent.invite(uri, offer).await.unwrap();
    let (mut dialog, answer) = soon("the answer", call.answered()).await.unwrap();
    let agreed = sdp::parse_answer(&answer, &Codec::ALL, &security).unwrap();
    let question = say(QUESTION);
    let sound = Agreed { codec: agreed.codec, events: agreed.telephone_event };
    let options = house.options(vec![question.clone()]);
    let caller = Caller::new(Instant::now(), sound, options.utterances, options.clips, options.script);
    let wires = Wires { rtp, rtcp, remote: wire.far, remote_rtcp: agreed.remote_rtcp, keys: agreed.srtp };
    let talking = phone::run::start(wires, caller, Arc::default()).unwrap();
    let talked = soon("the end of the talk", talking).await.unwrap().talked;
    soon("the answered BYE", dialog.hang_up()).await;
    agent.shutdown().await;
    let sounds = house::stretches(talked.ear.samples()).iter().map(|stretch| stretch.sound).collect();
    (sounds, wire.in_the_clear(&question))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_srtp_is_heard_both_ways_and_the_wire_shows_nothing_of_it() {
    let house = House::open(|config, _| {
        config.trunk.insert("pbx".into(), trunk(Policy::Optional));
    })
    .await;
    let options = || UserAgentOptions::new((LOOPBACK, 0).into());
    let (sounds, (clear, packets)) = overheard(&house, &house.uri(), options(), MediaSecurity::OFF).await;
    assert_eq!(sounds, [Placeholder, Answer]);
    assert!(clear > packets / 2, "{clear} of {packets} packets of a plain call are known");
    let (sounds, (clear, packets)) =
        overheard(&house, &house.uri(), options(), MediaSecurity::new(Policy::Required, false, true).unwrap()).await;
    assert_eq!(sounds, [Placeholder, Answer]);
    assert!(clear == 0 && packets > 200, "{clear} of {packets} packets are in the clear");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_over_tls_that_requires_srtp_has_it_and_keys_in_the_clear_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let house = House::open(|config, _| {
        config.sip.listen_tls = Some((LOOPBACK, 0).into());
        (config.sip.tls_certificate_file, config.sip.tls_key_file) = (Some(certificate.clone()), Some(key));
        let trunk = Trunk { srtp_over_clear_signalling: false, ..trunk(Policy::Required) };
        config.trunk.insert("pbx".into(), trunk);
    })
    .await;
    let mut options = UserAgentOptions::new((LOOPBACK, 0).into());
    options.trunk_tls = vec![TlsSettings { ca_file: Some(certificate), ..TlsSettings::default() }];
    let uri = format!("sip:620@{};transport=tls", house.tls.unwrap());
    let security = MediaSecurity::new(Policy::Required, true, false).unwrap();
    let (sounds, (clear, packets)) = overheard(&house, &uri, options, security).await;
    assert_eq!(sounds, [Placeholder, Answer]);
    assert!(clear == 0 && packets > 200, "{clear} of {packets} packets are in the clear");
    let refused = house.call(phone::CallOptions { srtp: true, ..house.options(vec![]) }).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, PhoneError::Refused { code: 488, .. }), "{refused}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_phone_calls_over_srtp_where_that_is_required_and_is_refused_where_it_is_off() {
    let house = House::open(|config, _| {
        // Both from the same address: the number called says which trunk it is.
        config.trunk.insert("other".into(), Trunk { user: "100".into(), ..trunk(Policy::Off) });
        config.trunk.insert("pbx".into(), Trunk { user: "620".into(), ..trunk(Policy::Required) });
    })
    .await;
    let call = house.call(phone::CallOptions { srtp: true, ..house.options(vec![say(QUESTION)]) }).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer]);
    assert_eq!((call.report.packets.lost, call.report.own.unusable), (0, 0));
    let refused = house.call(house.options(vec![])).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, PhoneError::Refused { code: 488, .. }), "{refused}");
    let other = format!("sip:100@{}", house.address);
    let call = house.call(phone::CallOptions { uri: other, ..house.options(vec![say(QUESTION)]) }).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer]);
    house.close().await;

    let house = House::open(|_, _| {}).await;
    let refused = house.call(phone::CallOptions { srtp: true, ..house.options(vec![]) }).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, PhoneError::Refused { code: 488, .. }), "{refused}");
    assert!(refused.to_string().contains("SRTP"), "{refused}");
    house.close().await;
}
