//! Telephone events: any payloads under any timestamps, and no key that nobody pressed.

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use offhook::rtp::dtmf::DtmfDetector;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// A packet of a key that is held, or of another.
    Event {
        event: u8,
        end: bool,
        duration: u16,
        timestamp: u8,
    },
    /// Any payload.
    Payload {
        timestamp: u32,
        payload: &'a [u8],
    },
    /// Nothing happens for so long.
    Wait {
        ms: u8,
    },
    Timeout,
    Poll,
    Reset,
}

/// Serves a detector what the bytes say.
pub fn fuzz(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let (mut detector, mut now) = (DtmfDetector::default(), Instant::now());
    // Whatever is reported was pressed: one packet a key at least.
    let (mut taken, mut reported) = ([0u32; 256], [0u32; 256]);
    let mut poll = |detector: &mut DtmfDetector, taken: &[u32; 256]| {
        let Some(key) = detector.poll() else { return false };
        let event = "0123456789*#ABCD".find(key.digit).expect("a digit");
        reported[event] += 1;
        assert!(reported[event] <= taken[event], "{} was reported oftener than it came", key.digit);
        assert!(key.duration <= Duration::from_secs(9));
        true
    };
    while !input.is_empty() {
        let Ok(step) = input.arbitrary::<Step>() else { break };
        let mut packet = |payload: &[u8], timestamp: u32, detector: &mut DtmfDetector| {
            let good = payload.len() >= 4 && payload[0] < 16;
            assert_eq!(detector.handle_packet(now, timestamp, payload), good);
            if good {
                taken[usize::from(payload[0])] += 1;
            }
        };
        match step {
            Step::Event { event, end, duration, timestamp } => {
                let [high, low] = duration.to_be_bytes();
                let payload = [event % 18, if end { 0x80 } else { 0 }, high, low];
                packet(&payload, u32::from(timestamp).wrapping_sub(128).wrapping_mul(80), &mut detector);
            }
            Step::Payload { timestamp, payload } => packet(payload, timestamp, &mut detector),
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Timeout => detector.handle_timeout(now),
            Step::Poll => drop(poll(&mut detector, &taken)),
            Step::Reset => detector.reset(),
        }
    }
    detector.handle_timeout(now + Duration::from_secs(1));
    while poll(&mut detector, &taken) {}
    detector.handle_timeout(now + Duration::from_secs(2));
    assert!(detector.poll().is_none(), "what is over is over");
}
