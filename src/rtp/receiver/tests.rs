//! The receiver in virtual time, fed by [`Sender`].

use super::*;
use crate::codec::{Encoder, HouseDecoder, TelephoneEvents};
use crate::pcm::level::rms_dbfs;
use crate::pcm::tone::{share_of, sine};
use crate::pcm::{FRAME_SAMPLES, PTIME, SILENCE};
use crate::rtp::impairment::{Impairment, Profile};
use crate::rtp::sender::{MAX_PACKET_BYTES, Sender};

const JITTER: Duration = Duration::from_millis(20);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4000))
}

fn receiver() -> Receiver {
    Receiver::new(Codec::Pcma, Some(101.into()), address(1), JITTER)
}

fn sender() -> Sender {
    Sender::starting_at(Codec::Pcma, Some(101.into()), 0xabcd, 65_530, u32::MAX - 1000)
}

/// The sender's next packet.
fn packet(sender: &mut Sender, frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let length = sender.packet(frame, false, &mut bytes);
    bytes.truncate(length);
    bytes
}

fn tone(hz: f32, frames: usize) -> Vec<Frame> {
    sine(hz, -10.0, frames * FRAME_SAMPLES).chunks_exact(FRAME_SAMPLES).map(|frame| frame.try_into().unwrap()).collect()
}

/// Sends `frames` through a network, 5 ms before each pull; what was heard, and of which kind.
fn call(receiver: &mut Receiver, sender: &mut Sender, frames: &[Frame], profile: Profile) -> Vec<(FrameKind, Frame)> {
    let (start, mut network) = (Instant::now(), Impairment::new(profile, 11));
    let mut heard = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let now = start + PTIME * n as u32;
        network.handle_packet(now, packet(sender, frame));
        let tick = now + Duration::from_millis(5);
        while let Some((arrival, bytes)) = network.poll(tick) {
            receiver.datagram(&bytes, address(1), arrival);
        }
        let mut out = [1; FRAME_SAMPLES];
        heard.push((receiver.pull(tick, &mut out), out));
    }
    heard
}

#[test]
fn what_is_spoken_is_heard_sample_for_sample_across_both_wraps() {
    let (mut receiver, mut sender, frames) = (receiver(), sender(), tone(440.0, 100));
    let (mut encoder, mut decoder) = (Encoder::new(Codec::Pcma), HouseDecoder::new(Codec::Pcma));
    for ((kind, heard), frame) in call(&mut receiver, &mut sender, &frames, Profile::default()).iter().zip(&frames) {
        let mut bytes = [0; 160];
        let mut expected = [0; FRAME_SAMPLES];
        encoder.encode(Codec::Pcma, frame, &mut bytes);
        decoder.decode(Codec::Pcma, &bytes, &mut expected);
        assert_eq!((*kind, *heard), (FrameKind::Speech, expected));
    }
    let figures = receiver.reception().unwrap();
    assert_eq!((figures.ssrc, figures.lost(), figures.expected, figures.jitter), (0xabcd, 0, 100, 0));
    assert_eq!(figures.highest_sequence >> 16, 1);
}

#[test]
fn a_tone_stays_a_tone_with_one_packet_in_twenty_lost() {
    let (mut receiver, mut sender, frames) = (receiver(), sender(), tone(200.0, 1000));
    let profile = Profile { loss: 0.05, ..Profile::default() };
    let heard = call(&mut receiver, &mut sender, &frames, profile);
    let samples: Vec<i16> = heard.iter().flat_map(|(_, frame)| *frame).collect();
    assert!(samples.chunks(800).all(|piece| rms_dbfs(piece) > -20.0));
    let share = samples.chunks(800).map(|piece| share_of(200.0, piece)).sum::<f32>() / (samples.len() / 800) as f32;
    assert!(share > 0.93, "{share}");
    let concealed = heard.iter().filter(|(kind, _)| *kind == FrameKind::Concealed).count() as i64;
    let lost = receiver.reception().unwrap().lost();
    assert!((30..70).contains(&lost) && (lost - concealed).abs() <= 2, "lost {lost}, concealed {concealed}");
}

#[test]
fn when_the_media_stops_there_is_silence_after_a_short_fade() {
    let (mut receiver, mut sender) = (receiver(), sender());
    call(&mut receiver, &mut sender, &tone(200.0, 10), Profile::default());
    let last = receiver.last_heard().unwrap();
    let mut kinds = Vec::new();
    for n in 1..10 {
        let mut out = [1; FRAME_SAMPLES];
        kinds.push(receiver.pull(last + PTIME * n, &mut out));
        // The filter to 16 kHz has an end of its own.
        assert!(n <= 4 || out == SILENCE);
    }
    assert_eq!(kinds[..3], [FrameKind::Concealed; 3]);
    assert_eq!(kinds[3..], [FrameKind::Silence; 6]);
}

#[test]
fn every_digit_is_heard_once_on_a_bad_line_and_is_not_speech() {
    let (mut receiver, mut sender) = (receiver(), sender());
    for digit in "1234567890".chars() {
        assert!(sender.dial(digit, Duration::from_millis(100)));
    }
    let profile = Profile {
        loss: 0.1,
        duplicate: 0.1,
        reorder: 0.05,
        reorder_by: Duration::from_millis(45),
        ..Profile::default()
    };
    let heard = call(&mut receiver, &mut sender, &tone(400.0, 120), profile);
    let digits: String = std::iter::from_fn(|| receiver.poll_dtmf()).map(|dtmf| dtmf.digit).collect();
    assert_eq!(digits, "1234567890");
    assert!(heard.iter().any(|(kind, _)| *kind == FrameKind::Silence));
    assert_eq!(receiver.counters().bad_events, 0);
}

#[test]
fn the_first_valid_source_is_latched_and_strangers_are_ignored_until_it_is_silent() {
    let (mut receiver, now) = (receiver(), Instant::now());
    let (mut behind_nat, mut stranger) = (sender(), Sender::starting_at(Codec::Pcma, None, 9, 0, 0));
    assert_eq!(receiver.remote(), address(1));
    assert_eq!(receiver.datagram(&packet(&mut behind_nat, &SILENCE), address(7), now), Received::Speech);
    assert_eq!(receiver.remote(), address(7));
    let foreign = packet(&mut stranger, &SILENCE);
    assert_eq!(receiver.datagram(&foreign, address(8), now + PTIME), Received::Stranger);
    assert_eq!(receiver.remote(), address(7));
    let later = now + Duration::from_millis(2100);
    // Of a new SSRC the second packet is believed.
    assert_eq!(receiver.datagram(&foreign, address(8), later), Received::Unconfirmed);
    assert_eq!(receiver.datagram(&packet(&mut stranger, &SILENCE), address(8), later), Received::Speech);
    assert_eq!((receiver.remote(), receiver.counters().strangers), (address(8), 1));
}

#[test]
fn the_address_of_sdp_may_always_speak_and_a_new_one_unlatches() {
    let (mut receiver, now) = (receiver(), Instant::now());
    let mut peer = sender();
    receiver.datagram(&packet(&mut peer, &SILENCE), address(7), now);
    receiver.datagram(&packet(&mut peer, &SILENCE), address(1), now + PTIME);
    assert_eq!(receiver.remote(), address(1));
    assert_eq!(receiver.datagram(&packet(&mut peer, &SILENCE), address(7), now + PTIME), Received::Stranger);
    receiver.set_remote(address(2));
    assert_eq!(receiver.remote(), address(2));
}

#[test]
fn what_is_not_for_this_call_latches_nobody() {
    let (mut receiver, now) = (receiver(), Instant::now());
    assert_eq!(receiver.datagram(b"GET / HTTP/1.1", address(7), now), Received::Malformed);
    let wrong_codec = packet(&mut Sender::new(Codec::Pcmu, None), &SILENCE);
    assert_eq!(receiver.datagram(&wrong_codec, address(7), now), Received::UnknownPayload);
    assert_eq!(receiver.remote(), address(1));
    let counters = receiver.counters();
    assert_eq!((counters.datagrams, counters.malformed, counters.unknown_payload), (2, 1, 1));
    assert_eq!(receiver.last_heard(), None);
}

#[test]
fn a_new_synchronization_source_takes_over_with_its_second_packet() {
    let (mut receiver, mut old) = (receiver(), sender());
    call(&mut receiver, &mut old, &tone(400.0, 50), Profile::default());
    // Its numbers lie just behind the old ones, which reached 43.
    let mut new = Sender::starting_at(Codec::Pcma, Some(101.into()), 0x1234, 20, 5);
    let heard = call(&mut receiver, &mut new, &tone(800.0, 50), Profile::default());
    assert_eq!(receiver.counters().ssrc_changes, 1);
    assert_eq!(receiver.reception().unwrap().ssrc, 0x1234);
    assert!(share_of(800.0, &heard[10].1) > 0.95);
}

#[test]
fn one_foreign_ssrc_in_the_stream_changes_nothing() {
    let (mut receiver, mut peer, now) = (receiver(), sender(), Instant::now());
    let mut foreign = Sender::starting_at(Codec::Pcma, None, 5, 0, 0);
    for n in 0..20 {
        receiver.datagram(&packet(&mut peer, &SILENCE), address(1), now + PTIME * n);
        receiver.datagram(&packet(&mut foreign, &SILENCE), address(1), now + PTIME * n);
    }
    assert_eq!((receiver.counters().ssrc_changes, receiver.counters().unconfirmed), (0, 20));
}

#[test]
fn a_source_that_numbers_anew_is_followed_from_its_second_packet_and_a_stray_number_is_not() {
    let (mut receiver, now) = (receiver(), Instant::now());
    let mut numbered = |sequence: u16, n: u32| {
        let mut peer = Sender::starting_at(Codec::Pcma, None, 5, sequence, n * 160);
        let received = receiver.datagram(&packet(&mut peer, &[8000; FRAME_SAMPLES]), address(1), now + PTIME * n);
        let mut out = SILENCE;
        (received, receiver.pull(now + PTIME * n + Duration::from_millis(5), &mut out))
    };
    for n in 0..5 {
        assert_eq!(numbered(n as u16, n), (Received::Speech, FrameKind::Speech));
    }
    assert_eq!(numbered(30_000, 5), (Received::Unconfirmed, FrameKind::Concealed));
    assert_eq!(numbered(6, 6), (Received::Speech, FrameKind::Speech));
    assert_eq!(numbered(40_000, 7), (Received::Unconfirmed, FrameKind::Concealed));
    for n in 1..5 {
        assert_eq!(numbered(40_000 + n as u16, 7 + n), (Received::Speech, FrameKind::Speech));
    }
    assert_eq!((receiver.counters().restarts, receiver.counters().unconfirmed), (1, 2));
}

#[test]
fn comfort_noise_is_heard_at_its_level_and_is_not_speech() {
    let (mut receiver, mut peer) = (receiver(), sender());
    call(&mut receiver, &mut peer, &tone(400.0, 10), Profile::default());
    let now = receiver.last_heard().unwrap() + PTIME;
    let mut noise = packet(&mut peer, &SILENCE);
    noise[1] = COMFORT_NOISE;
    noise[12] = 60;
    noise.truncate(13);
    assert_eq!(receiver.datagram(&noise, address(1), now), Received::ComfortNoise);
    let mut heard = Vec::new();
    for n in 0..50 {
        let mut out = [1; FRAME_SAMPLES];
        assert_eq!(receiver.pull(now + PTIME * n, &mut out), FrameKind::Silence);
        heard.extend(out);
    }
    let level = rms_dbfs(&heard[10 * FRAME_SAMPLES..]);
    assert!((level + 60.0).abs() < 1.5, "{level}");
    assert_eq!(receiver.counters().jitter.lost, 0);
}

#[test]
fn a_change_of_the_codec_is_heard_without_a_seam_and_what_is_under_way_in_the_old_one_too() {
    let (mut receiver, mut peer, frames) = (receiver(), sender(), tone(400.0, 60));
    let start = Instant::now();
    for (n, frame) in frames.iter().enumerate() {
        let now = start + PTIME * n as u32;
        // We change at once, with a packet waiting; the peer two packets later.
        receiver.datagram(&packet(&mut peer, frame), address(1), now);
        match n {
            30 => receiver.renegotiate(Codec::Pcmu, Some(96.into())),
            32 => peer.renegotiate(Codec::Pcmu, Some(96.into())),
            _ => {}
        }
        let mut out = [1; FRAME_SAMPLES];
        let kind = receiver.pull(now + Duration::from_millis(5), &mut out);
        assert_eq!(kind, FrameKind::Speech, "tick {n}");
        assert!(n == 0 || share_of(400.0, &out) > 0.99, "tick {n}: {}", share_of(400.0, &out));
    }
    assert_eq!((receiver.counters().unknown_payload, receiver.counters().restarts), (0, 0));
    peer.dial('7', Duration::from_millis(60));
    for n in 60..70 {
        receiver.datagram(&packet(&mut peer, &SILENCE), address(1), start + PTIME * n);
    }
    assert_eq!(receiver.poll_dtmf().map(|dtmf| dtmf.digit), Some('7'));
}

#[test]
fn after_a_move_the_new_source_is_latched_and_what_is_under_way_from_the_old_one_is_not_followed() {
    let (mut receiver, now) = (receiver(), Instant::now());
    let (mut old, mut new) = (sender(), Sender::starting_at(Codec::Pcma, None, 9, 0, 0));
    receiver.datagram(&packet(&mut old, &SILENCE), address(7), now);
    assert_eq!(receiver.remote(), address(7));
    receiver.set_remote(address(2));
    assert_eq!(receiver.datagram(&packet(&mut old, &SILENCE), address(7), now + PTIME), Received::Speech);
    assert_eq!(receiver.remote(), address(2), "the old source was latched again");
    // Behind a NAT the new source is neither the old nor the announced one.
    receiver.datagram(&packet(&mut new, &SILENCE), address(8), now + PTIME * 2);
    receiver.datagram(&packet(&mut new, &SILENCE), address(8), now + PTIME * 3);
    assert_eq!(receiver.remote(), address(8));
    assert_eq!(receiver.datagram(&packet(&mut old, &SILENCE), address(7), now + PTIME * 4), Received::Stranger);
}

#[test]
fn a_peer_whose_sdp_moves_and_whose_packets_do_not_is_followed_after_a_moment() {
    let (mut receiver, now) = (receiver(), Instant::now());
    let mut peer = sender();
    receiver.datagram(&packet(&mut peer, &SILENCE), address(7), now);
    receiver.set_remote(address(2));
    for n in 1..40 {
        receiver.datagram(&packet(&mut peer, &SILENCE), address(7), now + PTIME * n);
        let expected = if n <= 25 { address(2) } else { address(7) };
        assert_eq!(receiver.remote(), expected, "packet {n}");
    }
}

#[test]
fn a_wide_codec_is_heard_wide_and_a_change_to_it_and_back_has_no_hole() {
    let (mut receiver, mut peer, frames) = (receiver(), sender(), tone(700.0, 90));
    let start = Instant::now();
    for (n, frame) in frames.iter().enumerate() {
        let now = start + PTIME * n as u32;
        receiver.datagram(&packet(&mut peer, frame), address(1), now);
        match n {
            30 => receiver.renegotiate(Codec::G722, Some(101.into())),
            32 => peer.renegotiate(Codec::G722, Some(101.into())),
            60 => receiver.renegotiate(Codec::Pcmu, Some(101.into())),
            63 => peer.renegotiate(Codec::Pcmu, Some(101.into())),
            _ => {}
        }
        let mut out = [1; FRAME_SAMPLES];
        let kind = receiver.pull(now + Duration::from_millis(5), &mut out);
        assert_eq!(kind, FrameKind::Speech, "tick {n}");
        assert_eq!(receiver.is_wide(), (33..64).contains(&n), "tick {n}");
        assert!([0, 33, 64].contains(&n) || share_of(700.0, &out) > 0.98, "tick {n}: {}", share_of(700.0, &out));
    }
    assert_eq!((receiver.counters().jitter.lost, receiver.counters().jitter.received), (0, 90));
}

#[test]
fn packets_of_any_length_are_heard_without_a_hole() {
    for ms in [10, 20, 30, 40, 60] {
        for codec in [Codec::Pcma, Codec::G722, Codec::ALL[1]] {
            let mut receiver = Receiver::new(codec, None, address(1), JITTER);
            let mut peer = Sender::starting_at(codec, None, 9, 65_500, u32::MAX - 5000);
            peer.set_ptime(Duration::from_millis(ms));
            let (start, mut kinds) = (Instant::now(), Vec::new());
            for (n, frame) in tone(440.0, 300).iter().enumerate() {
                let now = start + PTIME * n as u32;
                let mut bytes = [0; MAX_PACKET_BYTES];
                let mut length = peer.packet(frame, false, &mut bytes);
                while length > 0 {
                    receiver.datagram(&bytes[..length], address(1), now);
                    length = peer.poll(&mut bytes);
                }
                let mut out = [1; FRAME_SAMPLES];
                kinds.push(receiver.pull(now + Duration::from_millis(5), &mut out));
                assert!(n < 20 || share_of(440.0, &out) > 0.98, "{codec:?}, {ms} ms, tick {n}");
            }
            assert!(kinds[20..].iter().all(|kind| *kind == FrameKind::Speech), "{codec:?}, {ms} ms");
        }
    }
}

#[test]
fn a_peer_that_sends_another_codec_of_its_answer_is_followed_and_a_stranger_is_not() {
    let mut receiver = Receiver::new(Codec::G722, None, address(1), JITTER);
    let (start, frames) = (Instant::now(), tone(500.0, 60));
    let mut peer = Sender::starting_at(Codec::G722, None, 9, 0, 0);
    for (n, frame) in frames.iter().enumerate() {
        let now = start + PTIME * n as u32;
        if n == 20 {
            peer.renegotiate(Codec::Pcma, None);
        }
        let stranger = packet(&mut Sender::new(Codec::Pcmu, None), &SILENCE);
        assert_ne!(receiver.datagram(&stranger, address(7), now), Received::Speech);
        receiver.datagram(&packet(&mut peer, frame), address(1), now);
        let mut out = [1; FRAME_SAMPLES];
        receiver.pull(now + Duration::from_millis(5), &mut out);
        assert_eq!(receiver.is_wide(), n < 22, "tick {n}");
        assert!(n == 0 || (20..25).contains(&n) || share_of(500.0, &out) > 0.98, "tick {n}: {}", share_of(500.0, &out));
    }
    // One that comes late from before is heard by nobody.
    peer.renegotiate(Codec::G722, None);
    receiver.renegotiate(Codec::Pcma, None);
    let late = packet(&mut peer, &frames[0]);
    assert_eq!(receiver.datagram(&late, address(1), start + PTIME * 60), Received::UnknownPayload);
}

#[test]
fn what_is_under_way_in_opus_is_heard_and_keys_count_in_either_payload_type_of_events() {
    let opus = Codec::named("opus").unwrap();
    let events = TelephoneEvents { payload_type: 110, clock_rate: 48_000, narrow: Some(101) };
    let mut receiver = Receiver::new(opus, Some(events), address(1), JITTER);
    let mut peer = Sender::starting_at(opus, Some(events), 9, 0, 0);
    let (start, frames) = (Instant::now(), tone(500.0, 80));
    let mut keys = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let now = start + PTIME * n as u32;
        match n {
            // Keys at either clock.
            10 => assert!(peer.dial('1', Duration::from_millis(100))),
            25 => peer.renegotiate(opus, Some(101.into())),
            26 => assert!(peer.dial('2', Duration::from_millis(100))),
            // We change over with our answer, and the peer when it has it.
            50 => receiver.renegotiate(Codec::Pcma, Some(101.into())),
            55 => peer.renegotiate(Codec::Pcma, Some(101.into())),
            _ => {}
        }
        let received = receiver.datagram(&packet(&mut peer, frame), address(1), now);
        assert!([Received::Speech, Received::Digit].contains(&received), "tick {n}: {received:?}");
        let mut out = [1; FRAME_SAMPLES];
        receiver.pull(now + Duration::from_millis(5), &mut out);
        keys.extend(std::iter::from_fn(|| receiver.poll_dtmf()));
        let heard = (45..55).contains(&n) || n > 60;
        assert!(!heard || share_of(500.0, &out) > 0.95, "tick {n}: {}", share_of(500.0, &out));
        assert_eq!(receiver.is_wide(), n < 55, "tick {n}");
    }
    let told: Vec<_> = keys.iter().map(|key| (key.digit, key.duration)).collect();
    assert_eq!(told, [('1', Duration::from_millis(100)), ('2', Duration::from_millis(100))]);
}
