//! The receiving and the sending half of RTP, and the socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use offhook::codec::Codec;
use offhook::pcm::{FRAME_SAMPLES, PTIME, SILENCE, telephone};
use offhook::rtp::jitter::{Content, JitterBuffer};
use offhook::rtp::receiver::{FrameKind, Receiver};
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::socket::{bind_pair, receive};

#[test]
fn ten_thousand_ticks_with_loss_reordering_garbage_and_digits_allocate_nothing() {
    let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
    let mut random = fastrand::Rng::with_seed(1);
    let opus = Codec::named("opus").unwrap();
    let mut receiver = Receiver::new(opus, Some(101.into()), peer, Duration::from_millis(20));
    let mut senders = [1, 2].map(|ssrc| Sender::starting_at(opus, Some(101.into()), ssrc, 65_000, u32::MAX - 50_000));
    let [sender, other] = &mut senders;
    let start = Instant::now();
    let (mut out, mut held, mut kinds, mut digits) = (SILENCE, None, [0u32; 3], 0u32);
    let counted = measure(|| {
        for n in 0..10_000u32 {
            let now = start + PTIME * n;
            let mut bytes = [0; MAX_PACKET_BYTES];
            if n % 97 == 0 {
                sender.dial('#', Duration::from_millis(80));
            }
            if n % 350 == 0 {
                let codec = Codec::ALL[(n / 350 % 4) as usize];
                receiver.renegotiate(codec, Some(101.into()));
                receiver.set_remote(SocketAddr::from(([127, 0, 0, 1], 4000 + (n / 350 % 2) as u16)));
                sender.keepalive(&mut bytes);
                if n % 700 == 0 {
                    // Now and then the peer takes no events, and digits are tones.
                    sender.renegotiate(codec, (n % 1400 != 0).then_some(101.into()));
                }
            }
            if n % 501 == 0 {
                // Another source.
                std::mem::swap(sender, other);
            }
            let length = sender.packet(&[random.i16(..); FRAME_SAMPLES], n % 50 == 0, &mut bytes);
            match random.u8(..20) {
                0 => {}
                1 => held = Some((bytes, length)),
                2 => {
                    random.fill(&mut bytes);
                    receiver.datagram(&bytes, peer, now);
                }
                _ => {
                    receiver.datagram(&bytes[..length], peer, now);
                }
            }
            if let Some((bytes, length)) = held.take_if(|_| random.bool()) {
                receiver.datagram(&bytes[..length], peer, now);
            }
            kinds[match receiver.pull(now + Duration::from_millis(3), &mut out) {
                FrameKind::Speech => 0,
                FrameKind::Concealed => 1,
                FrameKind::Silence => 2,
            }] += 1;
            while receiver.poll_dtmf().is_some() {
                digits += 1;
            }
            let _ = (receiver.counters(), receiver.reception(), sender.figures());
        }
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
    assert!(kinds.iter().all(|&count| count > 100) && digits > 50, "{kinds:?}, {digits} digits");
}

#[test]
fn an_hour_of_everything_a_jitter_buffer_does_allocates_nothing() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut buffer = JitterBuffer::new(Duration::from_millis(20), telephone::RATE, 8000);
    let (start, mut out, mut timestamp, mut delay_ms) = (Instant::now(), telephone::SILENCE, 0u32, 0);
    let mut payload = [0; telephone::FRAME_SAMPLES];
    let counted = measure(|| {
        for n in 0..180_000u32 {
            let now = start + PTIME * n;
            if n % 500 == 0 {
                delay_ms = random.u64(..80);
            }
            // A tone of 250 Hz with pauses, so that there is something to continue and something to change in.
            let loud = if n % 100 < 80 { 8000.0 } else { 10.0 };
            let sound: telephone::Frame =
                std::array::from_fn(|k| (loud * (std::f32::consts::TAU * k as f32 / 32.0).sin()) as i16);
            offhook::codec::g711::Law::Mu.encode(&sound, &mut payload);
            let content = match random.u8(..60) {
                0 => Content::Event,
                1 => Content::ComfortNoise(&[60, 100, 140]),
                _ => Content::Speech(Codec::Pcmu, &payload),
            };
            if random.u8(..20) != 0 {
                let late = Duration::from_millis(random.u64(..=delay_ms));
                buffer.insert(n as u16, timestamp, content, now + late);
            }
            timestamp = timestamp.wrapping_add(if n % 3000 == 0 { 8000 } else { 160 });
            buffer.pull(now + Duration::from_millis(delay_ms), &mut out);
        }
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
    let counters = buffer.counters();
    assert!(counters.stretched > 10 && counters.shortened > 10 && counters.concealed > 100, "{counters:?}");
}

#[test]
fn sending_and_receiving_on_a_socket_allocates_nothing() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (ours, _) = bind_pair(loopback, 0..=0).unwrap();
    let (theirs, _) = bind_pair(loopback, 0..=0).unwrap();
    let to = ours.local_addr().unwrap();
    let mut buffer = [0; 1500];
    let deadline = Instant::now() + Duration::from_secs(10);
    let counted = measure(|| {
        for _ in 0..100 {
            theirs.send_to(&[1; 172], to).unwrap();
            while receive(&ours, &mut buffer).unwrap().is_none() {
                assert!(Instant::now() < deadline, "loopback lost a datagram");
            }
        }
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
}
