//! The jitter buffer: packets in any order, at any time, pulled at any time.

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use offhook::codec::Codec;
use offhook::pcm::{FRAME_SAMPLES, PTIME};
use offhook::rtp::jitter::{CAP, Content, FrameKind, JitterBuffer};

/// Packets that may wait, each of the longest time that is taken, and what is decoded already.
const MOST_WAITING: Duration = Duration::from_millis(64 * 120 + 1000);
/// An hour between two steps at most, and so many steps.
const STEPS: usize = 400;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// The packet that comes next in the stream, so late.
    Next { codec: u8, units: u8, sound: u8, late_ms: u8 },
    /// A packet of the stream that is so many behind or ahead.
    Near { by: i8, late_ms: u8 },
    /// One that nobody sane has sent.
    Any { sequence: u16, timestamp: u32, kind: u8, payload: &'a [u8], early_ms: u16 },
    /// The sender counts on elsewhere.
    Jump { sequence: u16, timestamp: u32 },
    /// The next frames are played on time.
    Pull { frames: u8 },
    /// Nothing happens for so long.
    Wait { ms: u16 },
    /// Nothing happens for so many seconds.
    Sleep { seconds: u16 },
    /// Another source begins.
    Reset,
}

fn content(kind: u8, payload: &[u8]) -> Content<'_> {
    let speech = |codec: Codec| Content::Speech(codec, payload);
    match usize::from(kind) % (Codec::ALL.len() + 2) {
        0 => Content::ComfortNoise(payload),
        1 => Content::Event,
        n => speech(Codec::ALL[n - 2]),
    }
}

/// Two buffers that are served the same: a sample that one leaves unfilled differs from the other's.
struct Twins {
    buffers: [JitterBuffer; 2],
    frame: usize,
}

impl Twins {
    fn insert(&mut self, sequence: u16, timestamp: u32, content: Content<'_>, arrival: Instant) {
        for buffer in &mut self.buffers {
            buffer.insert(sequence, timestamp, content, arrival);
        }
    }

    fn pull(&mut self, now: Instant) {
        let before = self.buffers[0].counters();
        let (mut one, mut other) = ([0x1234; FRAME_SAMPLES], [-0x4321; FRAME_SAMPLES]);
        let (one, other) = (&mut one[..self.frame], &mut other[..self.frame]);
        let kind = self.buffers[0].pull(now, one);
        assert_eq!(kind, self.buffers[1].pull(now, other));
        assert_eq!(one, other, "a frame of {kind:?} was not filled");
        let (buffer, after) = (&self.buffers[0], self.buffers[0].counters());
        assert_eq!(after.concealed - before.concealed, u64::from(kind == FrameKind::Concealed));
        assert!(buffer.depth() <= MOST_WAITING, "{:?} wait", buffer.depth());
        assert!(buffer.target() <= CAP, "a target of {:?}", buffer.target());
        // Not every source of delay is the buffer's: packets that came with old stamps are as old as they are.
        assert!(buffer.delay() <= Duration::from_secs(3600 * STEPS as u64), "a delay of {:?}", buffer.delay());
    }
}

/// Serves a buffer what the bytes say.
pub fn fuzz(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let spoken = Codec::ALL[input.choose_index(Codec::ALL.len()).unwrap_or(0)];
    let delay = Duration::from_millis(u64::from(input.arbitrary::<u8>().unwrap_or(20)));
    let buffers = [(); 2].map(|()| JitterBuffer::new(delay, spoken.rate(), spoken.clock_rate()));
    let mut twins = Twins { buffers, frame: spoken.rate() as usize / 50 };
    let mut offered = 0;
    let (mut now, mut sequence, mut timestamp) = (Instant::now() + Duration::from_secs(60), 0u16, 0u32);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let Ok(step) = input.arbitrary::<Step>() else { break };
        match step {
            Step::Next { codec, units, sound, late_ms } => {
                let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
                let payload = [sound; 512];
                let arrival = now + Duration::from_millis(late_ms.into());
                twins.insert(sequence, timestamp, Content::Speech(codec, &payload[..usize::from(units) * 2]), arrival);
                sequence = sequence.wrapping_add(1);
                timestamp = timestamp.wrapping_add(u32::from(units) * 2);
                offered += 1;
            }
            Step::Near { by, late_ms } => {
                let (by, arrival) = (i32::from(by), now + Duration::from_millis(late_ms.into()));
                let timestamp = timestamp.wrapping_add_signed(by * 160);
                let speech = Content::Speech(spoken, &[0x55; 160]);
                twins.insert(sequence.wrapping_add_signed(by as i16), timestamp, speech, arrival);
                offered += 1;
            }
            Step::Any { sequence, timestamp, kind, payload, early_ms } => {
                // The kernel's stamp may be older than the pull before it.
                let arrival = now.checked_sub(Duration::from_millis(early_ms.into())).unwrap_or(now);
                twins.insert(sequence, timestamp, content(kind, payload), arrival);
                offered += 1;
            }
            Step::Jump { sequence: to, timestamp: at } => (sequence, timestamp) = (to, at),
            Step::Pull { frames } => {
                for _ in 0..frames % 32 + 1 {
                    twins.pull(now);
                    now += PTIME;
                }
            }
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Sleep { seconds } => now += Duration::from_secs(u64::from(seconds % 3600)),
            Step::Reset => twins.buffers.iter_mut().for_each(JitterBuffer::reset),
        }
    }
    twins.pull(now);
    let counters = twins.buffers[0].counters();
    assert_eq!((counters, counters.received), (twins.buffers[1].counters(), offered));
    // What came out of order may yet be too late by its timestamp when it is due.
    assert!(counters.late + counters.duplicate <= offered, "{counters:?}");
    assert!(counters.reordered + counters.duplicate <= offered, "{counters:?}");
}
