//! What a buffer like the box's makes of the packets that the phone receives: how long it must hold them back, and what it must change.
//!
//! Nobody hears it; the ear takes packets as they come.

use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::leg::buffering::{BufferGathering, Buffering};
use crate::pcm::{self, SILENCE, telephone};
use crate::rtp::jitter::{Content, JitterBuffer};

/// As `[rtp] jitter_ms` is by default.
const DELAY: Duration = Duration::from_millis(20);

/// The buffer, with one source at a time.
#[derive(Debug)]
pub struct Trial {
    codec: Codec,
    buffer: JitterBuffer,
    ssrc: Option<u32>,
    gathering: BufferGathering,
}

impl Trial {
    /// Of a call in `codec`.
    pub fn new(codec: Codec) -> Self {
        let mut buffer = JitterBuffer::new(DELAY, codec.rate(), codec.clock_rate());
        buffer.prepare(codec);
        Self { codec, buffer, ssrc: None, gathering: BufferGathering::default() }
    }

    /// Takes a packet that arrived at `at`.
    pub fn packet(&mut self, ssrc: u32, sequence: u16, timestamp: u32, payload: &[u8], at: Instant) {
        if self.ssrc.replace(ssrc).is_some_and(|before| before != ssrc) {
            self.buffer.reset();
        }
        self.buffer.insert(sequence, timestamp, Content::Speech(self.codec, payload), at);
    }

    /// A ptime has passed.
    pub fn tick(&mut self, now: Instant) {
        let mut frame = SILENCE;
        let samples = if self.codec.is_wide() { frame.len() } else { telephone::FRAME_SAMPLES };
        self.buffer.pull(now, &mut frame[..samples]);
        // Before the first packet there is no delay.
        if self.ssrc.is_some() {
            self.gathering.look(self.buffer.counters_at(pcm::RATE), self.buffer.delay(), self.buffer.target());
        }
    }

    /// What it came to; `None` when nothing came.
    pub fn buffering(&self) -> Option<Buffering> {
        self.gathering.buffering()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::PTIME;

    /// A call of ten seconds in which every fiftieth packet is late.
    fn call(late: Duration) -> Buffering {
        let (mut trial, start) = (Trial::new(Codec::Pcmu), Instant::now());
        let units = Codec::Pcmu.clock_rate() / 50;
        let arrival = |n: u32| start + PTIME * n + if n % 50 == 20 { late } else { Duration::ZERO };
        for n in 0..500u32 {
            let now = start + PTIME * n + PTIME / 2;
            for sent in n.saturating_sub(10)..=n {
                let arrived = arrival(sent);
                if arrived <= now && arrived > now - PTIME {
                    trial.packet(7, sent as u16, sent * units, &vec![0x55; units as usize], arrived);
                }
            }
            trial.tick(now);
        }
        trial.buffering().unwrap()
    }

    #[test]
    fn an_even_line_needs_no_change_and_late_packets_are_waited_for() {
        let even = call(Duration::ZERO);
        assert_eq!((even.stretched, even.shortened), (0, 0));
        assert!(even.delay < PTIME * 2 && even.target < PTIME, "{even:?}");
        let uneven = call(Duration::from_millis(70));
        assert!(uneven.target > Duration::from_millis(60) && uneven.delay > even.delay * 2, "{uneven:?}");
        assert!(uneven.stretched + uneven.shortened > 0, "{uneven:?}");
        assert_eq!(Trial::new(Codec::Pcma).buffering(), None);
    }
}
