//! The same lines with packets of Opus, whose own concealment and redundancy fill the holes.

use super::quality::match_mean;
use super::*;
use crate::codec::{Encoder, HouseDecoder};
use crate::pcm::half_band::{Doubler, Halver};

const OPUS: Codec = Codec::ALL[1];
const WIDE: usize = 2 * FRAME;
/// Timestamp units of 20 ms.
const UNITS: u32 = 960;

/// The voice in packets, and what is heard of it in the telephone band when none is lost.
fn said(samples: usize) -> (Vec<Vec<u8>>, Vec<i16>) {
    let mut sound = vec![0; 2 * samples];
    Doubler::default().double(&voice(samples), &mut sound);
    let (mut encoder, mut decoder) = (Encoder::new(OPUS), HouseDecoder::new(OPUS));
    let (mut packets, mut whole) = (Vec::new(), Vec::new());
    for frame in sound.chunks_exact(WIDE) {
        let (mut payload, mut decoded) = ([0; MAX_PAYLOAD_BYTES], [0; WIDE]);
        let length = encoder.encode(OPUS, frame, &mut payload);
        assert_eq!(decoder.decode(OPUS, &payload[..length], &mut decoded), WIDE);
        packets.push(payload[..length].to_vec());
        whole.extend(decoded);
    }
    (packets, narrow(&whole))
}

fn narrow(wide: &[i16]) -> Vec<i16> {
    let mut sound = vec![0; wide.len() / 2];
    Halver::default().halve(wide, &mut sound);
    sound
}

/// Plays the packets through a network; what is heard in the telephone band, and the kinds of frames.
fn through(profile: Profile, packets: &[Vec<u8>]) -> (Vec<i16>, String, JitterBuffer) {
    let (start, mut network) = (Instant::now(), Impairment::new(profile, 5));
    let mut buffer = JitterBuffer::new(DELAY, 16_000, 48_000);
    buffer.prepare(OPUS);
    for (n, packet) in packets.iter().enumerate() {
        let numbers = (65_500u16.wrapping_add(n as u16), (u32::MAX - 3_000).wrapping_add(n as u32 * UNITS));
        network.handle_packet(start + ms(20 * n as u64), (numbers, packet.clone()));
    }
    let (mut heard, mut kinds) = (Vec::new(), String::new());
    for tick in 0..packets.len() + 20 {
        let now = start + ms(7 + tick as u64 * 20);
        while let Some((arrival, ((sequence, timestamp), payload))) = network.poll(now) {
            buffer.insert(sequence, timestamp, Content::Speech(OPUS, &payload), arrival);
        }
        let mut out = [0; WIDE];
        kinds.push(match buffer.pull(now, &mut out) {
            FrameKind::Speech => 'a',
            FrameKind::Concealed => 'x',
            FrameKind::Silence => '.',
        });
        heard.extend(out);
        buffer.packets.check();
    }
    (narrow(&heard), kinds, buffer)
}

#[test]
fn on_a_clean_line_every_packet_is_played_as_it_was_sent() {
    let (packets, whole) = said(8 * 4800);
    let (heard, kinds, buffer) = through(Profile::default(), &packets);
    // Nobody said that it was over.
    assert_eq!(kinds.trim_end_matches('.'), "a".repeat(packets.len()) + "xxx");
    assert!(heard[..whole.len()] == whole);
    let counters = buffer.counters();
    assert_eq!((counters.lost, counters.overflow, counters.stretched, counters.shortened), (0, 0, 0, 0));
}

#[test]
fn a_voice_in_opus_stays_what_it_is_on_bad_lines() {
    let (packets, whole) = said(8 * 20_000);
    let jitter = Profile { jitter: ms(10), reorder: 0.03, reorder_by: ms(30), ..Profile::default() };
    let mut found = Vec::new();
    for (profile, least) in [
        (Profile { loss: 0.05, ..Profile::default() }, 0.97),
        (Profile { loss: 0.05, burst: 2.5, ..Profile::default() }, 0.95),
        (Profile { loss: 0.2, ..Profile::default() }, 0.90),
        (jitter, 0.96),
        (Profile { loss: 0.05, ..jitter }, 0.95),
    ] {
        let (heard, _, buffer) = through(profile, &packets);
        let alike = match_mean(&whole, &heard);
        assert_eq!(buffer.counters().overflow, 0);
        found.push((alike, least));
    }
    assert!(found.iter().all(|(alike, least)| alike > least), "{found:?}");
}

#[test]
fn what_is_no_opus_is_not_played_and_the_line_goes_on() {
    let (mut packets, whole) = said(8 * 2000);
    packets[50] = vec![0xff; 3];
    let (heard, _, buffer) = through(Profile::default(), &packets);
    assert_eq!((buffer.counters().overflow, buffer.counters().lost), (1, 1));
    assert!(match_mean(&whole, &heard) > 0.97);
}
