//! The phone's RTCP: what the far side says of our sound, how far away it is, and by its clock how long its sound is under way.
//!
//! How long a packet was under way can be told only where both sides have the same clock, as on one machine; the far side's sender reports say
//! what its clock showed at a timestamp (RFC 3550 §6.4.1). Without sockets: datagrams come and go as bytes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::rtp::rtcp::{Report, Reporter, SenderClock};
use crate::rtp::sender::SenderFigures;
use crate::rtp::statistics::{Reception, Standing};

/// Time to the first report, and between two.
const FIRST: Duration = Duration::from_millis(2500);
const INTERVAL: Duration = Duration::from_secs(5);
/// Packets whose times are kept: an hour's.
const MOST_PACKETS: usize = 180_000;
/// Longer under way is another clock, not the network.
const LONGEST_WAY: Duration = Duration::from_secs(5);

/// One call's RTCP.
#[derive(Debug)]
pub struct Rtcp {
    /// Timestamp units a second, both ways.
    clock_rate: u32,
    reporter: Reporter,
    reception: Option<Reception>,
    due: Instant,
    told: Option<Report>,
    round_trips: (Duration, u32),
    /// What the far side's clock showed at a timestamp, and when we learned it by both of our clocks.
    clock: Option<(SenderClock, Instant, SystemTime)>,
    /// Timestamp and time of arrival of each packet.
    packets: Vec<(u32, Instant)>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// What the far side said last of our sound.
    pub report: Option<Report>,
    /// The jitter in it.
    pub jitter: Option<Duration>,
    /// The mean of the round trips measured.
    pub round_trip: Option<Duration>,
    /// How long the far side's packets were under way, in ms: median, 99th percentile, longest. Absent when clocks differ.
    pub one_way_ms: Option<(f64, f64, f64)>,
}

impl Rtcp {
    /// For a call that was answered at `now`, whose timestamps count `clock_rate` a second.
    pub fn new(now: Instant, clock_rate: u32) -> Self {
        Self {
            clock_rate,
            reporter: Reporter::anonymous(),
            reception: None,
            due: now + FIRST,
            told: None,
            round_trips: (Duration::ZERO, 0),
            clock: None,
            packets: Vec::new(),
        }
    }

    /// A packet of sound was received.
    pub fn packet(&mut self, ssrc: u32, sequence: u16, timestamp: u32, arrival: Instant) {
        let reception = self.reception.get_or_insert_with(|| Reception::new(ssrc, sequence, arrival));
        if reception.ssrc() != ssrc {
            *reception = Reception::new(ssrc, sequence, arrival);
            self.packets.clear();
        }
        if reception.packet(sequence) == Standing::Continues {
            reception.timing(timestamp, self.clock_rate, arrival);
        }
        if self.packets.len() < MOST_PACKETS {
            self.packets.push((timestamp, arrival));
        }
    }

    /// The report that is due at `now`, which is `wall`.
    pub fn report(&mut self, now: Instant, wall: SystemTime, sent: &SenderFigures) -> Option<Vec<u8>> {
        if now < self.due {
            return None;
        }
        self.due += INTERVAL;
        let reception = self.reception.as_ref().map(Reception::figures);
        Some(self.reporter.report(now, wall, sent, reception.as_ref()))
    }

    /// Takes a datagram of the far side's that came at `now`, which is `wall`; false when it was no RTCP.
    pub fn handle_datagram(&mut self, now: Instant, wall: SystemTime, ours: u32, bytes: &[u8]) -> bool {
        let Ok(incoming) = self.reporter.handle_datagram(now, wall, ours, bytes) else { return false };
        if let Some(clock) = incoming.clock {
            self.clock = Some((clock, now, wall));
        }
        if let Some(report) = incoming.report {
            self.told = Some(report);
            if let Some(trip) = report.round_trip {
                self.round_trips = (self.round_trips.0 + trip, self.round_trips.1 + 1);
            }
        }
        true
    }

    /// What it comes to.
    pub fn told(&self) -> Told {
        let (sum, count) = self.round_trips;
        Told {
            report: self.told,
            jitter: self.told.map(|report| report.jitter_time(self.clock_rate)),
            round_trip: (count > 0).then(|| sum / count),
            one_way_ms: self.one_way_ms(),
        }
    }

    fn one_way_ms(&self) -> Option<(f64, f64, f64)> {
        let (clock, learned, wall) = self.clock.as_ref()?;
        let learned_s = wall.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        let told_s = clock.unix_seconds();
        let mut ways = Histogram::<u64>::new_with_bounds(1, LONGEST_WAY.as_micros() as u64, 3).ok()?;
        for (timestamp, arrival) in &self.packets {
            let after_clock = f64::from(timestamp.wrapping_sub(clock.timestamp) as i32) / f64::from(self.clock_rate);
            let arrived_s = match arrival.checked_duration_since(*learned) {
                Some(after) => learned_s + after.as_secs_f64(),
                None => learned_s - learned.duration_since(*arrival).as_secs_f64(),
            };
            let way = arrived_s - (told_s + after_clock);
            // A frame's timestamp is that of its first sample, and it leaves at the tick in which it is made: rounding may make it negative.
            if way < -0.005 || way > LONGEST_WAY.as_secs_f64() {
                return None;
            }
            ways.saturating_record(((way * 1e6) as u64).max(1));
        }
        let ms = |quantile| ways.value_at_quantile(quantile) as f64 / 1e3;
        (!ways.is_empty()).then(|| (ms(0.5), ms(0.99), ways.max() as f64 / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(timestamp: u32) -> SenderFigures {
        SenderFigures { ssrc: 5, packets: 100, octets: 16_000, timestamp, clock_rate: 8000 }
    }

    #[test]
    fn by_the_clock_of_the_far_side_it_is_known_how_long_its_packets_were_under_way() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let at = |ms: u64| (start + Duration::from_millis(ms), wall + Duration::from_millis(ms));
        let mut rtcp = Rtcp::new(start, 8000);
        for n in 0..200u32 {
            // 7 ms under way, every tenth 15 ms.
            let late = if n % 10 == 0 { 15 } else { 7 };
            rtcp.packet(9, n as u16, 1000 + 160 * n, at(20 * u64::from(n) + late).0);
        }
        assert_eq!(rtcp.told(), Told::default());
        let mut far = Reporter::anonymous();
        let figures = SenderFigures { ssrc: 9, ..sent(1000 + 8 * 2500) };
        let report = far.report(at(2500).0, at(2500).1, &figures, None);
        assert!(rtcp.handle_datagram(at(2507).0, at(2507).1, 5, &report));
        let (p50, p99, max) = rtcp.told().one_way_ms.unwrap();
        assert!((p50 - 7.0).abs() < 0.1 && (p99 - 15.0).abs() < 0.1 && (max - 15.0).abs() < 0.1, "{p50} {p99} {max}");
        // An hour off is no way.
        let report = far.report(at(2600).0, at(2600).1 - Duration::from_secs(3600), &figures, None);
        rtcp.handle_datagram(at(2607).0, at(2607).1, 5, &report);
        assert_eq!(rtcp.told().one_way_ms, None);
    }

    #[test]
    fn reports_are_due_in_time_and_the_far_side_tells_of_our_loss() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut rtcp = Rtcp::new(start, 8000);
        assert_eq!(rtcp.report(start + Duration::from_secs(2), wall, &sent(0)), None);
        let ours = rtcp.report(start + FIRST, wall, &sent(0)).unwrap();
        assert_eq!(rtcp.report(start + FIRST + Duration::from_secs(1), wall, &sent(0)), None);
        let mut far = Reporter::anonymous();
        far.handle_datagram(start + FIRST, wall, 9, &ours).unwrap();
        let mut reception = Reception::new(5, 0, start);
        for n in [0, 1, 2, 4] {
            reception.packet(n);
        }
        let later = wall + Duration::from_millis(30);
        let report =
            far.report(start + FIRST, later, &SenderFigures { ssrc: 9, ..sent(0) }, Some(&reception.figures()));
        assert!(rtcp.handle_datagram(start + FIRST + Duration::from_millis(30), later, 5, &report));
        let told = rtcp.told();
        assert_eq!(told.report.unwrap().cumulative_lost, 1);
        assert!(told.round_trip.unwrap().abs_diff(Duration::from_millis(30)) < Duration::from_millis(1), "{told:?}");
        assert!(!rtcp.handle_datagram(start, wall, 5, b"nonsense"));
    }
}
