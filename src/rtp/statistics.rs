//! What a receiver knows about its source: sequence numbers with cycles, loss, interarrival jitter (RFC 3550 §A.1, §A.3, §A.8).
//!
//! Unlike §A.1 the first packet of a source counts at once: the address was agreed by SDP. Figures leave as plain copies, so that
//! RTCP can work elsewhere.

use std::time::{Duration, Instant};

use crate::pcm::{duration_at, samples_at};

/// A sequence number further ahead than this is a restart, not a loss (§A.1).
pub const MAX_DROPOUT: u16 = 3000;
/// A sequence number further back than this is a restart, not a late packet (§A.1).
pub const MAX_MISORDER: u16 = 100;

/// Running figures about one synchronization source.
#[derive(Debug, Clone)]
pub struct Reception {
    ssrc: u32,
    base: u16,
    highest: u16,
    cycles: u32,
    /// One after a sequence number that was far off; a second packet there proves a restart.
    restart_at: Option<u16>,
    received: u32,
    transit: Option<u32>,
    /// Jitter × 16, in timestamp units.
    jitter: u32,
    clock_rate: u32,
    epoch: Instant,
}

/// What a packet's sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It continues the sequence, with or without a gap.
    Continues,
    /// It confirms that the source numbers anew; the figures begin anew too.
    Restarts,
    /// It is so far off that only the next one can tell what it means; not counted.
    Unconfirmed,
}

/// A copy of the figures at one moment, the stuff of an RTCP report block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionFigures {
    /// The source.
    pub ssrc: u32,
    /// Highest sequence number received, cycles in the upper half.
    pub highest_sequence: u32,
    /// Packets received, duplicates included.
    pub received: u32,
    /// Packets that a perfect network would have delivered.
    pub expected: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Timestamp units a second.
    pub clock_rate: u32,
}

impl ReceptionFigures {
    /// Packets lost since the beginning; negative when duplicates outnumber the losses.
    pub fn lost(&self) -> i64 {
        i64::from(self.expected) - i64::from(self.received)
    }

    /// Interarrival jitter.
    pub fn jitter_time(&self) -> Duration {
        duration_at(self.clock_rate, u64::from(self.jitter))
    }
}

impl Reception {
    /// Begins with the first packet of `ssrc`, which has yet to be counted by [`Self::packet`].
    pub fn new(ssrc: u32, sequence: u16, arrival: Instant) -> Self {
        Self {
            ssrc,
            base: sequence,
            highest: sequence,
            cycles: 0,
            restart_at: None,
            received: 0,
            transit: None,
            jitter: 0,
            clock_rate: 8000,
            epoch: arrival,
        }
    }

    /// The source these figures are about.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Counts a packet.
    pub fn packet(&mut self, sequence: u16) -> Standing {
        let mut standing = Standing::Continues;
        let ahead = sequence.wrapping_sub(self.highest);
        if ahead < MAX_DROPOUT {
            if sequence < self.highest {
                self.cycles = self.cycles.wrapping_add(1 << 16);
            }
            self.highest = sequence;
        } else if ahead <= (u16::MAX - MAX_MISORDER) {
            if self.restart_at != Some(sequence) {
                self.restart_at = Some(sequence.wrapping_add(1));
                return Standing::Unconfirmed;
            }
            standing = Standing::Restarts;
            let (jitter, clock_rate) = (self.jitter, self.clock_rate);
            *self = Self { jitter, clock_rate, ..Self::new(self.ssrc, sequence, self.epoch) };
        }
        self.restart_at = None;
        self.received = self.received.wrapping_add(1);
        standing
    }

    /// Takes the spacing of a packet, whose timestamps count `clock_rate` a second, into the jitter estimate. Only for packets whose timestamp
    /// is that of their sending: not for telephone events.
    pub fn timing(&mut self, timestamp: u32, clock_rate: u32, arrival: Instant) {
        if clock_rate != self.clock_rate {
            // What was estimated is the same time in other units, and what was sent last is on another clock (RFC 7160 §4.2).
            self.jitter = (u64::from(self.jitter) * u64::from(clock_rate) / u64::from(self.clock_rate)) as u32;
            self.clock_rate = clock_rate;
            self.transit = None;
        }
        // Both clocks wrap alike.
        let arrival = samples_at(clock_rate, arrival.saturating_duration_since(self.epoch)) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(previous) = self.transit {
            let difference = (transit.wrapping_sub(previous) as i32).unsigned_abs();
            // A talkspurt that restarts its timestamps says nothing about the network.
            if difference < clock_rate {
                self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
            }
        }
        self.transit = Some(transit);
    }

    /// The figures so far.
    pub fn figures(&self) -> ReceptionFigures {
        let highest_sequence = self.cycles.wrapping_add(u32::from(self.highest));
        ReceptionFigures {
            ssrc: self.ssrc,
            highest_sequence,
            received: self.received,
            expected: highest_sequence.wrapping_sub(u32::from(self.base)).wrapping_add(1),
            jitter: self.jitter >> 4,
            clock_rate: self.clock_rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_of_the_sequence_number_is_a_cycle_and_a_gap_is_a_loss() {
        let mut reception = Reception::new(1, 65534, Instant::now());
        for sequence in [65534, 65535, 0, 1, 3, 2, 2, 6] {
            assert_eq!(reception.packet(sequence), Standing::Continues);
        }
        let figures = reception.figures();
        assert_eq!(figures.highest_sequence, 0x1_0006);
        assert_eq!((figures.expected, figures.received, figures.lost()), (9, 8, 1));
    }

    #[test]
    fn a_far_jump_counts_only_when_a_second_packet_confirms_it() {
        let mut reception = Reception::new(1, 10, Instant::now());
        assert_eq!(reception.packet(10), Standing::Continues);
        assert_eq!(reception.packet(30_000), Standing::Unconfirmed);
        assert_eq!(reception.packet(11), Standing::Continues);
        assert_eq!(reception.figures().expected, 2);
        assert_eq!(reception.packet(40_000), Standing::Unconfirmed);
        assert_eq!(reception.packet(40_001), Standing::Restarts);
        assert_eq!((reception.figures().expected, reception.figures().received), (1, 1));
    }

    #[test]
    fn even_spacing_has_no_jitter_and_uneven_spacing_converges_to_its_deviation() {
        let start = Instant::now();
        let mut reception = Reception::new(1, 0, start);
        for n in 0..100u32 {
            reception.timing(n.wrapping_mul(160), 8000, start + Duration::from_millis(20) * n);
        }
        assert_eq!(reception.figures().jitter, 0);
        for n in 100..400u32 {
            let late = Duration::from_millis(if n % 2 == 0 { 5 } else { 0 });
            reception.timing(n * 160, 8000, start + Duration::from_millis(20) * n + late);
        }
        // Every packet differs from its neighbour by 5 ms: 40 units.
        assert!((36..=40).contains(&reception.figures().jitter), "{}", reception.figures().jitter);
    }
    #[test]
    fn jitter_is_a_time_whatever_the_clock_and_goes_on_over_a_change_of_it() {
        let start = Instant::now();
        let mut reception = Reception::new(1, 0, start);
        for n in 0..800u32 {
            let clock_rate = if n < 400 { 8000 } else { 48_000 };
            let late = Duration::from_millis(if n % 2 == 0 { 5 } else { 0 });
            reception.timing(n * (clock_rate / 50), clock_rate, start + Duration::from_millis(20) * n + late);
            if n > 100 {
                let jitter = reception.figures().jitter_time();
                assert!((Duration::from_micros(4300)..=Duration::from_millis(5)).contains(&jitter), "{n}: {jitter:?}");
            }
        }
    }
}
