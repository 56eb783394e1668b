//! What the line of a call was worth, both ways: loss, jitter, delay, and the estimate that follows (see [`crate::rtp::quality`]).
//!
//! What we hear is what we counted; what the far side hears is what it reports. Delay is half of the round trip and what waits to be played;
//! how long sound waits at the far side is not known and taken for [`THEIR_BUFFER`].

use std::time::Duration;

use crate::rtp::quality::Way;
use crate::rtp::rtcp::Report;

use super::buffering::{BufferGathering, Buffering};
use super::rtp::LegReport;

/// A packet of 20 ms and a buffer of 40 ms, as telephones have.
pub const THEIR_BUFFER: Duration = Duration::from_millis(60);

/// One direction of a call's line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Packets that should have come.
    pub packets: u64,
    /// Share of them that were not played: lost, or too late.
    pub loss: f32,
    /// Interarrival jitter (RFC 3550 §6.4.1) when it was last measured.
    pub jitter: Duration,
    /// The transmission rating R.
    pub rating: f32,
    /// The mean opinion score that follows from it.
    pub opinion: f32,
}

/// A call's line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LineQuality {
    /// What we heard; absent when nothing came.
    pub heard: Option<Side>,
    /// What the far side heard, if it told.
    pub said: Option<Side>,
    /// The mean of the round trips that were measured.
    pub round_trip: Option<Duration>,
    /// What our jitter buffer did; absent when nothing came.
    pub buffering: Option<Buffering>,
    /// Packets, both ways.
    pub counts: Packets,
}

/// Packets that were counted on this side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// They came.
    pub received: u64,
    /// They never came.
    pub lost: u64,
    /// They came after their time.
    pub late: u64,
    /// We sent them.
    pub sent: u64,
}

/// Gathers what becomes [`LineQuality`].
#[derive(Debug, Default)]
pub(super) struct Gathering {
    latest: Option<LegReport>,
    /// What the far side told last, the jitter in it, and how many packets we had sent then.
    told: Option<(Report, Duration, u32)>,
    round_trips: (Duration, u32),
    buffer: BufferGathering,
}

impl Gathering {
    /// Our own figures.
    pub fn figures(&mut self, report: LegReport) {
        if report.reception.is_some() {
            self.buffer.look(report.counters.jitter, report.counters.delay, report.counters.target);
        }
        self.latest = Some(report);
    }

    /// The figures that were given last.
    pub fn latest(&self) -> Option<&LegReport> {
        self.latest.as_ref()
    }

    /// What the far side says of us.
    pub fn told(&mut self, report: Report) {
        if let Some(latest) = &self.latest {
            self.told = Some((report, report.jitter_time(latest.sent.clock_rate), latest.sent.packets));
        }
        if let Some(round_trip) = report.round_trip {
            self.round_trips.0 += round_trip;
            self.round_trips.1 += 1;
        }
    }

    /// What it comes to.
    pub fn quality(&self) -> LineQuality {
        let (sum, count) = self.round_trips;
        let round_trip = (count > 0).then(|| sum / count);
        let way_there = round_trip.unwrap_or_default() / 2;
        let side = |packets: u64, missing: u64, jitter, buffer: Duration| {
            let loss = if packets == 0 { 0.0 } else { (missing as f32 / packets as f32).min(1.0) };
            let way = Way { loss, delay: way_there + buffer };
            Side { packets, loss, jitter, rating: way.rating(), opinion: way.opinion() }
        };
        let heard = self.latest.as_ref().and_then(|latest| {
            let source = latest.reception?;
            let missing = latest.counters.jitter.lost + latest.counters.jitter.late;
            Some(side(source.expected.into(), missing, source.jitter_time(), latest.depth))
        });
        let said = self
            .told
            .map(|(report, jitter, sent)| side(sent.into(), report.cumulative_lost.into(), jitter, THEIR_BUFFER));
        let counts = self.latest.as_ref().map(|latest| {
            let jitter = latest.counters.jitter;
            Packets {
                received: jitter.received,
                lost: jitter.lost,
                late: jitter.late,
                sent: latest.sent.packets.into(),
            }
        });
        let buffering = self.buffer.buffering();
        LineQuality { heard, said, round_trip, buffering, counts: counts.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::rtp::jitter::JitterCounters;
    use crate::rtp::receiver::ReceiverCounters;
    use crate::rtp::sender::SenderFigures;
    use crate::rtp::srtp::SrtpCounters;
    use crate::rtp::statistics::ReceptionFigures;

    use super::*;

    fn figures(expected: u32, lost: u64, late: u64) -> LegReport {
        let jitter = JitterCounters { lost, late, ..JitterCounters::default() };
        LegReport {
            at: Instant::now(),
            sent: SenderFigures { ssrc: 1, packets: 1000, octets: 160_000, timestamp: 0, clock_rate: 8000 },
            reception: Some(ReceptionFigures {
                ssrc: 2,
                highest_sequence: 0,
                received: 0,
                expected,
                jitter: 80,
                clock_rate: 8000,
            }),
            counters: ReceiverCounters { jitter, ..ReceiverCounters::default() },
            remote: "127.0.0.1:9".parse().unwrap(),
            srtp: SrtpCounters::default(),
            depth: Duration::from_millis(40),
            rtcp_dropped: 0,
        }
    }

    fn report(lost: u32, round_trip_ms: Option<u64>) -> Report {
        let round_trip = round_trip_ms.map(Duration::from_millis);
        Report { fraction_lost: 0.0, cumulative_lost: lost, jitter: 24, round_trip }
    }

    #[test]
    fn what_came_too_late_is_lost_to_the_ear() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.quality(), LineQuality::default());
        gathering.figures(figures(1000, 20, 30));
        let heard = gathering.quality().heard.unwrap();
        assert_eq!((heard.packets, heard.jitter), (1000, Duration::from_millis(10)));
        assert!((heard.loss - 0.05).abs() < 1e-6 && (3.5..4.0).contains(&heard.opinion), "{heard:?}");
        assert_eq!(gathering.quality().said, None);
    }

    #[test]
    fn the_far_side_tells_what_it_heard_and_how_far_away_it_is() {
        let mut gathering = Gathering::default();
        gathering.figures(figures(1000, 0, 0));
        gathering.told(report(0, None));
        let near = gathering.quality();
        assert_eq!(near.round_trip, None);
        for (lost, trip) in [(50, 500), (100, 700)] {
            gathering.told(report(lost, Some(trip)));
        }
        let quality = gathering.quality();
        assert_eq!(quality.round_trip, Some(Duration::from_millis(600)));
        let (heard, said) = (quality.heard.unwrap(), quality.said.unwrap());
        assert!((said.loss - 0.1).abs() < 1e-6 && said.jitter == Duration::from_millis(3));
        // 300 ms each way are heard in both directions.
        assert!(heard.rating < near.heard.unwrap().rating - 15.0 && said.opinion < heard.opinion, "{quality:?}");
    }
}
