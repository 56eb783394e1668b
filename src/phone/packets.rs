//! What the received RTP packets say about the network and the far side's clock (RFC 3550 §6.4.1, appendix A.8).
//!
//! Not implemented: RTCP. Everything is taken from the packets' own headers and their time of arrival.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::report::PacketReport;
use crate::pcm::telephone;

/// A pause between two packets from which on a caller hears a hole.
const HOLE: Duration = Duration::from_millis(40);
/// A sequence number so far away is another stream of numbers, not a late packet (RFC 3550 appendix A.1).
const SEQUENCE_JUMP: i32 = 3000;

/// What a packet's header says, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When the kernel received it.
    pub at: Instant,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp, 8 kHz clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Timestamp units that its payload lasts, by which the next timestamp should be higher.
    pub units: u32,
}

/// How a packet stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Later in time than the packet with the highest timestamp by so many timestamp units (negative: reordered).
    Continues(i32),
    /// The first one, or its numbers have nothing to do with those before.
    Restarts,
    /// It was here before.
    Duplicate,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    arrival: Arrival,
    /// Extended sequence number.
    extended: i64,
    /// Sequence numbers below `extended` that were seen: bit 0 is `extended` itself.
    seen: u64,
}

/// Counts and distributions over all packets of a call.
#[derive(Debug)]
pub struct Packets {
    newest: Option<Newest>,
    last_at: Option<Instant>,
    /// Extended sequence number of the first packet since the last restart.
    first: i64,
    /// Packets that should have come before the last restart.
    expected_before: u64,
    received: u64,
    duplicates: u64,
    reordered: u64,
    restarts: u64,
    ssrc_changes: u64,
    timestamp_jumps: u64,
    holes: u64,
    longest_hole: Duration,
    jitter: f64,
    deviation: Histogram<u64>,
}

impl Default for Packets {
    fn default() -> Self {
        Self {
            newest: None,
            last_at: None,
            first: 0,
            expected_before: 0,
            received: 0,
            duplicates: 0,
            reordered: 0,
            restarts: 0,
            ssrc_changes: 0,
            timestamp_jumps: 0,
            holes: 0,
            longest_hole: Duration::ZERO,
            jitter: 0.0,
            deviation: Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid"),
        }
    }
}

impl Packets {
    /// Takes one packet in the order of arrival.
    pub fn take(&mut self, arrival: Arrival) -> Place {
        let gap = self.last_at.map(|last| arrival.at.saturating_duration_since(last));
        let place = self.place(arrival);
        if place == Place::Duplicate {
            self.duplicates += 1;
            return place;
        }
        self.received += 1;
        self.last_at = Some(self.last_at.map_or(arrival.at, |last| last.max(arrival.at)));
        if let Some(gap) = gap {
            if gap > HOLE {
                self.holes += 1;
            }
            self.longest_hole = self.longest_hole.max(gap);
        }
        place
    }

    fn place(&mut self, arrival: Arrival) -> Place {
        let Some(newest) = &mut self.newest else {
            self.restart(arrival);
            return Place::Restarts;
        };
        let step = i32::from(arrival.sequence.wrapping_sub(newest.arrival.sequence) as i16);
        let ticks = arrival.timestamp.wrapping_sub(newest.arrival.timestamp) as i32;
        if arrival.ssrc != newest.arrival.ssrc || step.abs() > SEQUENCE_JUMP {
            if arrival.ssrc != newest.arrival.ssrc {
                self.ssrc_changes += 1;
            }
            self.expected_before += (newest.extended - self.first + 1) as u64;
            self.restarts += 1;
            self.restart(arrival);
            return Place::Restarts;
        }
        if step <= 0 {
            let bit = 1u64.checked_shl(step.unsigned_abs()).unwrap_or(0);
            if bit == 0 || newest.seen & bit != 0 {
                return Place::Duplicate;
            }
            newest.seen |= bit;
            self.first = self.first.min(newest.extended + i64::from(step));
            self.reordered += 1;
            return Place::Continues(ticks);
        }
        let passed = arrival.at.saturating_duration_since(newest.arrival.at);
        let jumped = i64::from(ticks) != i64::from(step) * i64::from(newest.arrival.units);
        if step == 1 {
            let ideal = telephone::duration(u64::from(newest.arrival.units));
            let off = passed.abs_diff(ideal).as_micros() as u64;
            self.deviation.saturating_record(off.max(1));
        }
        if jumped {
            self.timestamp_jumps += 1;
        } else {
            let transit = passed.as_secs_f64() * f64::from(telephone::RATE) - f64::from(ticks);
            self.jitter += (transit.abs() - self.jitter) / 16.0;
        }
        let seen = newest.seen.checked_shl(step as u32).unwrap_or(0) | 1;
        *newest = Newest { arrival, extended: newest.extended + i64::from(step), seen };
        Place::Continues(ticks)
    }

    fn restart(&mut self, arrival: Arrival) {
        let extended = i64::from(arrival.sequence);
        self.first = extended;
        self.newest = Some(Newest { arrival, extended, seen: 1 });
    }

    /// The figures so far.
    pub fn report(&self) -> PacketReport {
        let expected = self.expected_before + self.newest.map_or(0, |newest| (newest.extended - self.first + 1) as u64);
        let ms = |micros: u64| if self.deviation.is_empty() { 0.0 } else { micros as f64 / 1000.0 };
        PacketReport {
            received: self.received,
            lost: expected.saturating_sub(self.received),
            duplicates: self.duplicates,
            reordered: self.reordered,
            restarts: self.restarts,
            ssrc_changes: self.ssrc_changes,
            timestamp_jumps: self.timestamp_jumps,
            holes: self.holes,
            longest_hole_ms: self.longest_hole.as_secs_f64() * 1000.0,
            jitter_ms: self.jitter / f64::from(telephone::RATE) * 1000.0,
            interval_deviation_p50_ms: ms(self.deviation.value_at_quantile(0.5)),
            interval_deviation_p99_ms: ms(self.deviation.value_at_quantile(0.99)),
            interval_deviation_p999_ms: ms(self.deviation.value_at_quantile(0.999)),
            interval_deviation_max_ms: ms(self.deviation.max()),
            ..PacketReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(start: Instant, n: u32, late_micros: u64) -> Arrival {
        Arrival {
            at: start + crate::pcm::PTIME * n + Duration::from_micros(late_micros),
            sequence: 65_530u16.wrapping_add(n as u16),
            timestamp: 0xffff_fc00u32.wrapping_add(160 * n),
            ssrc: 7,
            units: 160,
        }
    }

    #[test]
    fn a_clean_stretch_over_the_wrap_of_both_counters_is_clean() {
        let (start, mut packets) = (Instant::now(), Packets::default());
        for n in 0..100 {
            let place = packets.take(packet(start, n, 0));
            assert_eq!(place, if n == 0 { Place::Restarts } else { Place::Continues(160) });
        }
        let report = packets.report();
        assert_eq!((report.received, report.lost, report.duplicates, report.reordered), (100, 0, 0, 0));
        assert_eq!((report.timestamp_jumps, report.ssrc_changes, report.holes), (0, 0, 0));
        assert!(report.jitter_ms < 0.001 && report.interval_deviation_max_ms < 0.01);
    }

    #[test]
    fn loss_duplicates_and_reordering_are_told_apart() {
        let (start, mut packets) = (Instant::now(), Packets::default());
        for n in [0, 1, 2, 4, 3, 5, 5, 4, 7, 8, 9] {
            packets.take(packet(start, n, 0));
        }
        let report = packets.report();
        assert_eq!((report.received, report.lost, report.duplicates, report.reordered), (9, 1, 2, 1));
    }

    #[test]
    fn a_late_packet_shows_in_the_deviation_and_a_long_pause_is_a_hole() {
        let (start, mut packets) = (Instant::now(), Packets::default());
        for n in 0..200 {
            packets.take(packet(start, n, if n == 100 { 30_000 } else { 0 }));
        }
        let report = packets.report();
        assert!((report.interval_deviation_max_ms - 30.0).abs() < 0.1, "{report:?}");
        assert!(report.interval_deviation_p50_ms < 0.01);
        assert_eq!(report.holes, 1);
        assert!((report.longest_hole_ms - 50.0).abs() < 0.1);
        assert!(report.jitter_ms > 0.0 && report.jitter_ms < 2.0);
    }

    #[test]
    fn another_source_and_a_jump_of_the_timestamp_are_counted() {
        let (start, mut packets) = (Instant::now(), Packets::default());
        packets.take(packet(start, 0, 0));
        let mut jumped = packet(start, 1, 0);
        jumped.timestamp = jumped.timestamp.wrapping_add(8000);
        assert_eq!(packets.take(jumped), Place::Continues(8160));
        let mut other = packet(start, 2, 0);
        other.ssrc = 8;
        other.sequence = 12;
        assert_eq!(packets.take(other), Place::Restarts);
        let report = packets.report();
        assert_eq!((report.timestamp_jumps, report.ssrc_changes, report.restarts, report.lost), (1, 1, 1, 0));
    }

    #[test]
    fn any_header_is_survived() {
        let (start, mut packets) = (Instant::now(), Packets::default());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            packets.take(Arrival {
                at: start + Duration::from_micros(random.u64(..10_000_000)),
                sequence: random.u16(..),
                timestamp: random.u32(..),
                ssrc: random.u32(..2),
                units: random.u32(..2000),
            });
        }
        packets.report();
    }
}
