//! The receiving half of a call: any datagrams from anywhere at any time, and a call that goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use offhook::codec::{Codec, TelephoneEvents};
use offhook::pcm::{FRAME_SAMPLES, PTIME};
use offhook::rtp::packet::{PacketView, write_packet};
use offhook::rtp::receiver::{Received, Receiver};

const STEPS: usize = 400;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// The peer's next packet.
    Next { payload_type: u8, payload: &'a [u8], late_ms: u8, marker: bool },
    /// A packet from somebody.
    Packet { from: u8, payload_type: u8, sequence: u16, timestamp: u32, ssrc: u8, payload: &'a [u8] },
    /// Bytes from somebody.
    Bytes { from: u8, bytes: &'a [u8] },
    /// The peer leaves out so many.
    Lost { packets: u16 },
    /// The peer numbers anew.
    Jump { sequence: u16, timestamp: u32, ssrc: u8 },
    /// Frames are played.
    Pull { frames: u8 },
    /// Nothing happens for so long.
    Wait { ms: u16 },
    /// The peer described itself anew.
    Described { codec: u8, event: Option<u8>, place: u8 },
}

fn place(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + n % 3], 4000))
}

/// Speech, events, comfort noise and what else there is, each often.
fn payload_type(choice: u8) -> u8 {
    match choice {
        0..=63 => 0,
        64..=127 => 8,
        128..=191 => 101,
        192..=223 => 13,
        other => other & 0x7f,
    }
}

/// What became of the datagrams, by what `datagram` said.
#[derive(Default)]
struct Told {
    taken: u64,
    malformed: u64,
    strangers: u64,
    unknown: u64,
    unconfirmed: u64,
}

/// Serves a receiver what the bytes say.
pub fn fuzz(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut receiver = Receiver::new(Codec::ALL[1], Some(101.into()), place(0), Duration::from_millis(20));
    let (mut now, mut told, mut out) = (Instant::now(), Told::default(), [0; FRAME_SAMPLES]);
    let (mut sequence, mut timestamp, mut ssrc) = (0u16, 0u32, 0u8);
    let (mut datagrams, mut digits) = (0u64, 0u64);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let Ok(step) = input.arbitrary::<Step>() else { break };
        let mut buffer = [0; 2048];
        let mut offer = |bytes: &[u8], from: u8, at: Instant, receiver: &mut Receiver| {
            datagrams += 1;
            match receiver.datagram(bytes, place(from), at) {
                Received::Speech | Received::Digit | Received::ComfortNoise => told.taken += 1,
                Received::Malformed => told.malformed += 1,
                Received::Stranger => told.strangers += 1,
                Received::UnknownPayload => told.unknown += 1,
                Received::Unconfirmed => told.unconfirmed += 1,
            }
        };
        match step {
            Step::Next { payload_type: choice, payload, late_ms, marker } => {
                let payload_type = payload_type(choice);
                let packet = PacketView { marker, payload_type, sequence, timestamp, ssrc: ssrc.into(), payload };
                let length = write_packet(&mut buffer, &packet);
                offer(&buffer[..length], 0, now + Duration::from_millis(late_ms.into()), &mut receiver);
                sequence = sequence.wrapping_add(1);
                timestamp = timestamp.wrapping_add(if payload_type == 101 { 0 } else { payload.len() as u32 });
            }
            Step::Packet { from, payload_type: choice, sequence, timestamp, ssrc, payload } => {
                let (payload_type, ssrc) = (payload_type(choice), ssrc.into());
                let packet = PacketView { marker: false, payload_type, sequence, timestamp, ssrc, payload };
                let length = write_packet(&mut buffer, &packet);
                offer(&buffer[..length], from, now, &mut receiver);
            }
            Step::Bytes { from, bytes } => offer(bytes, from, now, &mut receiver),
            Step::Lost { packets } => {
                sequence = sequence.wrapping_add(packets);
                timestamp = timestamp.wrapping_add(u32::from(packets) * 160);
            }
            Step::Jump { sequence: to, timestamp: at, ssrc: of } => (sequence, timestamp, ssrc) = (to, at, of),
            Step::Pull { frames } => {
                for _ in 0..frames % 32 + 1 {
                    receiver.pull(now, &mut out);
                    now += PTIME;
                }
            }
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Described { codec, event, place: to } => {
                receiver.renegotiate(
                    Codec::ALL[usize::from(codec) % Codec::ALL.len()],
                    event.map(|event| TelephoneEvents::from(event & 0x7f)),
                );
                receiver.set_remote(place(to));
            }
        }
        while let Some(digit) = receiver.poll_dtmf() {
            assert!("0123456789*#ABCD".contains(digit.digit));
            digits += 1;
        }
        if let Some(figures) = receiver.reception() {
            assert!(u64::from(figures.received) <= datagrams, "{figures:?}");
        }
    }
    let counters = receiver.counters();
    assert_eq!(counters.datagrams, datagrams);
    assert_eq!(
        (
            counters.jitter.received,
            counters.malformed,
            counters.strangers,
            counters.unknown_payload,
            counters.unconfirmed
        ),
        (told.taken, told.malformed, told.strangers, told.unknown, told.unconfirmed)
    );
    assert_eq!(datagrams, told.taken + told.malformed + told.strangers + told.unknown + told.unconfirmed);
    assert!(digits + counters.bad_events <= told.taken, "{digits} digits: {counters:?}");
}
