//! RTCP: any datagrams, and reports of ours that anybody can read.

use std::time::{Duration, Instant, SystemTime};

use arbitrary::{Arbitrary, Unstructured};
use offhook::rtp::rtcp::{MAX_BYTES, Reporter};
use offhook::rtp::sender::SenderFigures;
use offhook::rtp::statistics::ReceptionFigures;

const OURS: u32 = 7;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// A datagram as it is.
    Datagram {
        bytes: &'a [u8],
    },
    /// Packets whose headers are right, of any type.
    Packets {
        packets: Vec<(u8, u8, &'a [u8])>,
    },
    /// A report of ours, damaged at one place.
    Returned {
        at: u8,
        by: u8,
    },
    Wait {
        ms: u32,
    },
    Report {
        packets: u32,
        octets: u32,
        received: Option<(u32, u32, u32, u32)>,
        goodbye: bool,
    },
}

/// Serves a reporter what the bytes say.
pub fn fuzz(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let (mut reporter, mut far) = (Reporter::new("near"), Reporter::new("far"));
    let (mut now, mut wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
    let (mut handled, mut last) = (0, Vec::new());
    while !input.is_empty() {
        let Ok(step) = input.arbitrary::<Step>() else { break };
        let bytes = match step {
            Step::Datagram { bytes } => bytes.to_vec(),
            Step::Packets { packets } => packets.iter().take(40).flat_map(|packet| framed(*packet)).collect(),
            Step::Returned { at, by } => {
                let mut bytes = last.clone();
                if let Some(byte) = bytes.get_mut(usize::from(at)) {
                    *byte ^= by;
                }
                bytes
            }
            Step::Wait { ms } => {
                let by = Duration::from_millis(ms.into());
                (now, wall) = (now + by, wall + by);
                continue;
            }
            Step::Report { packets, octets, received, goodbye } => {
                let sent = SenderFigures { ssrc: OURS, packets, octets, timestamp: packets, clock_rate: 48_000 };
                let received = received.map(|(highest_sequence, received, expected, jitter)| ReceptionFigures {
                    ssrc: 9,
                    highest_sequence,
                    received,
                    expected,
                    jitter,
                    clock_rate: 48_000,
                });
                let received = received.as_ref();
                last = if goodbye {
                    reporter.goodbye(now, wall, &sent, received)
                } else {
                    reporter.report(now, wall, &sent, received)
                };
                assert!(last.len() <= MAX_BYTES && last.len() % 4 == 0, "{} bytes", last.len());
                let read = far.handle_datagram(now, wall, 9, &last).expect("what we say can be read");
                assert_eq!((read.goodbye, read.report.is_some()), (goodbye, received.is_some()));
                continue;
            }
        };
        handled += 1;
        if let Ok(incoming) = reporter.handle_datagram(now, wall, OURS, &bytes)
            && let Some(report) = incoming.report
        {
            assert!((0.0..=1.0).contains(&report.fraction_lost), "{report:?}");
        }
    }
    let counters = reporter.counters();
    assert_eq!(counters.received + counters.malformed, handled, "{counters:?}");
}

fn framed((count, kind, body): (u8, u8, &[u8])) -> Vec<u8> {
    let words = body.len() / 4;
    let [high, low] = (words as u16).to_be_bytes();
    let mut bytes = vec![0x80 | (count & 0x1f), 199 + kind % 10, high, low];
    bytes.extend(&body[..words * 4]);
    bytes
}
