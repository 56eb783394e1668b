//! Hostile datagrams against the receiving side of a call: nothing panics, and the call goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use offhook::codec::Codec;
use offhook::pcm::{FRAME_SAMPLES, PTIME};
use offhook::rtp::receiver::{FrameKind, Receiver};
use offhook::rtp::rtcp::Reporter;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};

const PACKETS: u32 = 200_000;

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000))
}

/// A packet of the call with a few bytes changed, cut or added.
fn mutated(random: &mut fastrand::Rng, sender: &mut Sender) -> Vec<u8> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    if random.u8(..4) == 0 {
        sender.dial('5', Duration::from_millis(40));
    }
    let length = sender.packet(&[random.i16(..); FRAME_SAMPLES], random.bool(), &mut bytes);
    bytes.truncate(length);
    for _ in 0..random.usize(..5) {
        // Mostly the header, where it hurts.
        let end = if random.bool() { 20.min(bytes.len()) } else { bytes.len() };
        if let Some(byte) = random.choice(&mut bytes[..end]) {
            *byte = random.u8(..);
        }
    }
    match random.u8(..8) {
        0 => bytes.truncate(random.usize(..=bytes.len())),
        1 => bytes.extend((0..random.usize(..1400)).map(|_| random.u8(..))),
        _ => {}
    }
    bytes
}

#[test]
fn two_hundred_thousand_hostile_datagrams_panic_nobody_and_every_one_is_accounted_for() {
    let mut random = fastrand::Rng::with_seed(2026);
    let mut receiver = Receiver::new(Codec::Pcmu, Some(101.into()), peer(), Duration::from_millis(20));
    let mut sender = Sender::starting_at(Codec::Pcmu, Some(101.into()), 1, 0, 0);
    let (start, mut out) = (Instant::now(), [0; FRAME_SAMPLES]);
    for n in 0..PACKETS {
        let now = start + PTIME * n;
        let bytes = if random.u8(..3) == 0 {
            (0..random.usize(..300)).map(|_| random.u8(..)).collect()
        } else {
            mutated(&mut random, &mut sender)
        };
        let from =
            if random.u8(..10) == 0 { SocketAddr::from(([127, 0, 0, random.u8(..)], random.u16(..))) } else { peer() };
        receiver.datagram(&bytes, from, now + Duration::from_millis(random.u64(..50)));
        if random.u8(..5) != 0 {
            receiver.pull(now, &mut out);
        }
        while receiver.poll_dtmf().is_some() {}
    }
    let counters = receiver.counters();
    let taken = counters.jitter.received;
    let refused = counters.malformed + counters.strangers + counters.unknown_payload + counters.unconfirmed;
    assert_eq!((counters.datagrams, taken + refused), (u64::from(PACKETS), u64::from(PACKETS)), "{counters:?}");
    assert!(counters.malformed > 10_000 && taken > 10_000 && counters.unknown_payload > 1000, "{counters:?}");
}

#[test]
fn an_attacker_who_sends_ten_datagrams_a_tick_takes_nothing_from_the_call() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut receiver = Receiver::new(Codec::Pcmu, Some(101.into()), peer(), Duration::from_millis(20));
    let mut caller = Sender::starting_at(Codec::Pcmu, Some(101.into()), 1, 60_000, 7);
    let mut attacker = Sender::starting_at(Codec::Pcmu, Some(101.into()), 666, 0, 0);
    let (start, mut out) = (Instant::now(), [0; FRAME_SAMPLES]);
    for n in 0..1000 {
        let now = start + PTIME * n;
        let mut bytes = [0; MAX_PACKET_BYTES];
        let length = caller.packet(&[1000; FRAME_SAMPLES], false, &mut bytes);
        receiver.datagram(&bytes[..length], peer(), now);
        for port in 1..=10 {
            let bytes = mutated(&mut random, &mut attacker);
            receiver.datagram(&bytes, SocketAddr::from(([127, 0, 0, 66], port)), now);
        }
        assert_eq!(receiver.pull(now + Duration::from_millis(5), &mut out), FrameKind::Speech);
    }
    assert_eq!((receiver.remote(), receiver.reception().unwrap().lost()), (peer(), 0));
    assert!(receiver.poll_dtmf().is_none());
}

#[test]
fn hostile_rtcp_is_counted_and_panics_nobody() {
    let mut random = fastrand::Rng::with_seed(3);
    let (now, wall) = (Instant::now(), SystemTime::now());
    let mut reporter = Reporter::anonymous();
    let sender = Sender::starting_at(Codec::Pcmu, None, 9, 0, 0);
    let good = Reporter::anonymous().goodbye(now, wall, &sender.figures(), None);
    for n in 0..100_000u32 {
        let mut bytes = if n % 2 == 0 { good.clone() } else { vec![0; random.usize(..64)] };
        if n % 2 == 1 {
            random.fill(&mut bytes);
            // A frame that looks right, of every type there may be.
            let words = (bytes.len() / 4).saturating_sub(1) as u8;
            if let Some(header) = bytes.first_chunk_mut::<4>() {
                *header = [0x80 | (header[0] & 0x3f), random.u8(198..212), 0, words];
            }
        }
        for _ in 0..random.usize(..4) {
            if let Some(byte) = random.choice(&mut bytes) {
                *byte = random.u8(..);
            }
        }
        let _ = reporter.handle_datagram(now, wall, 1, &bytes);
    }
    let counters = reporter.counters();
    assert_eq!(counters.received + counters.malformed, 100_000);
    assert!(counters.received > 10_000 && counters.malformed > 10_000, "{counters:?}");
}
