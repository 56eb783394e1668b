//! RTCP (RFC 3550 §6): compound reports and BYE out, the far side's report and the round-trip time in.
//!
//! Not for the media thread: it allocates. Packets are made and read by the `rtcp` crate; since that panics on feedback packets
//! (types 205 and 206, eight bytes each), only types 200–203 are let through to it. Interval: fixed, by the caller (5 s is usual); no
//! randomised timing (§6.2), no feedback, no extended reports, no multiplexing with RTP.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rtcp::goodbye::Goodbye;
use rtcp::packet::Packet;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use thiserror::Error;

use super::sender::SenderFigures;
use super::statistics::ReceptionFigures;
use crate::pcm::duration_at;

/// Longer datagrams are refused.
pub const MAX_BYTES: usize = 1500;
/// Seconds from 1900 to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;
/// A round trip beyond this is a wrong echo of our clock.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(30);

/// Why a datagram is not RTCP. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// It is longer than an Ethernet frame or shorter than a header.
    #[error("RTCP datagram of {0} bytes (8 to {MAX_BYTES} are possible)")]
    Length(usize),
    /// The version of a packet in it is not 2.
    #[error("RTCP version {0}, only version 2 is spoken")]
    Version(u8),
    /// A packet announces more bytes than there are.
    #[error("RTCP packet of type {packet_type} is cut short")]
    Truncated {
        /// Its type.
        packet_type: u8,
    },
    /// It does not begin with a report (§6.1).
    #[error("RTCP begins with packet type {0}, not with a sender or receiver report")]
    NoReport(u8),
    /// A packet contradicts itself.
    #[error("malformed RTCP: {0}")]
    Malformed(String),
}

/// What the far side says about what we send, and how far away it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Share of our packets lost since its previous report, 0 to 1.
    pub fraction_lost: f32,
    /// Our packets lost since the beginning.
    pub cumulative_lost: u32,
    /// Interarrival jitter it measures, in timestamp units.
    pub jitter: u32,
    /// Round-trip time, when it echoed one of our sender reports.
    pub round_trip: Option<Duration>,
}

impl Report {
    /// The interarrival jitter, where our timestamps count `clock_rate` a second.
    pub fn jitter_time(&self, clock_rate: u32) -> Duration {
        duration_at(clock_rate, u64::from(self.jitter))
    }
}

/// What the far side's clock showed at one of its timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// Its synchronization source.
    pub ssrc: u32,
    /// The wall clock, as NTP counts.
    pub ntp: u64,
    /// The timestamp of the same moment.
    pub timestamp: u32,
}

impl SenderClock {
    /// The wall clock in seconds since 1970.
    pub fn unix_seconds(&self) -> f64 {
        (self.ntp >> 32) as f64 - NTP_EPOCH as f64 + (self.ntp & 0xffff_ffff) as f64 / (1u64 << 32) as f64
    }
}

/// What a datagram brought.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Incoming {
    /// What its sender's clock shows, if it sends.
    pub clock: Option<SenderClock>,
    /// Its report about us, if it has one.
    pub report: Option<Report>,
    /// It says that it leaves.
    pub goodbye: bool,
}

/// What became of the datagrams received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcpCounters {
    /// Datagrams understood.
    pub received: u64,
    /// Datagrams that were not RTCP.
    pub malformed: u64,
    /// Packets inside them of types that are not read.
    pub skipped: u64,
}

/// The RTCP of one call.
#[derive(Debug)]
pub struct Reporter {
    cname: String,
    /// The last sender report heard: its source, the middle of its NTP time, and when it came.
    last_heard: Option<(u32, u32, Instant)>,
    /// What the last report block said, to tell the loss since then.
    last_block: Option<ReceptionFigures>,
    counters: RtcpCounters,
}

impl Reporter {
    /// Reports under a canonical name that says nothing about people (RFC 7022 wants it random, one per call).
    pub fn new(cname: impl Into<String>) -> Self {
        let mut cname: String = cname.into();
        while cname.len() > 255 {
            cname.pop();
        }
        Self { cname, last_heard: None, last_block: None, counters: RtcpCounters::default() }
    }

    /// Under a random canonical name.
    pub fn anonymous() -> Self {
        Self::new(format!("{:016x}{:08x}", fastrand::u64(..), fastrand::u32(..)))
    }

    /// What became of the datagrams received.
    pub fn counters(&self) -> RtcpCounters {
        self.counters
    }

    /// The compound packet that is due: a sender report when we have sent, else a receiver report, with SDES. `wall` is the same
    /// moment as `now`.
    pub fn report(
        &mut self,
        now: Instant,
        wall: SystemTime,
        sent: &SenderFigures,
        received: Option<&ReceptionFigures>,
    ) -> Vec<u8> {
        compound(&[self.own_report(now, wall, sent, received), self.description(sent.ssrc)])
    }

    /// The compound packet that ends our sending: a report, SDES and BYE.
    pub fn goodbye(
        &mut self,
        now: Instant,
        wall: SystemTime,
        sent: &SenderFigures,
        received: Option<&ReceptionFigures>,
    ) -> Vec<u8> {
        let bye = Goodbye { sources: vec![sent.ssrc], ..Goodbye::default() };
        compound(&[self.own_report(now, wall, sent, received), self.description(sent.ssrc), Box::new(bye)])
    }

    /// Reads a datagram that came at `now`, which is `wall`; `ours` is the SSRC we send as.
    ///
    /// # Errors
    /// What is wrong with it; counted as well. Nothing of such a datagram is taken.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        wall: SystemTime,
        ours: u32,
        bytes: &[u8],
    ) -> Result<Incoming, RtcpError> {
        match self.read(now, wall, ours, bytes) {
            Ok(incoming) => {
                self.counters.received += 1;
                Ok(incoming)
            }
            Err(error) => {
                self.counters.malformed += 1;
                Err(error)
            }
        }
    }

    fn read(&mut self, now: Instant, wall: SystemTime, ours: u32, bytes: &[u8]) -> Result<Incoming, RtcpError> {
        let (known, skipped) = known_packets(bytes)?;
        self.counters.skipped += skipped;
        let packets =
            rtcp::packet::unmarshal(&mut &known[..]).map_err(|fault| RtcpError::Malformed(fault.to_string()))?;
        let mut incoming = Incoming::default();
        for packet in &packets {
            let packet = packet.as_any();
            let blocks = if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.last_heard = Some((report.ssrc, middle(report.ntp_time), now));
                let (ntp, timestamp) = (report.ntp_time, report.rtp_time);
                incoming.clock = Some(SenderClock { ssrc: report.ssrc, ntp, timestamp });
                &report.reports[..]
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                &report.reports[..]
            } else {
                incoming.goodbye |= packet.is::<Goodbye>();
                continue;
            };
            if let Some(block) = blocks.iter().find(|block| block.ssrc == ours) {
                incoming.report = Some(Report {
                    fraction_lost: f32::from(block.fraction_lost) / 256.0,
                    cumulative_lost: block.total_lost,
                    jitter: block.jitter,
                    round_trip: round_trip(wall, block),
                });
            }
        }
        Ok(incoming)
    }

    fn own_report(
        &mut self,
        now: Instant,
        wall: SystemTime,
        sent: &SenderFigures,
        received: Option<&ReceptionFigures>,
    ) -> Box<dyn Packet + Send + Sync> {
        let reports = received.map(|figures| self.block(now, figures)).into_iter().collect();
        if sent.packets == 0 {
            return Box::new(ReceiverReport { ssrc: sent.ssrc, reports, ..ReceiverReport::default() });
        }
        Box::new(SenderReport {
            ssrc: sent.ssrc,
            ntp_time: ntp(wall),
            rtp_time: sent.timestamp,
            packet_count: sent.packets,
            octet_count: sent.octets,
            reports,
            ..SenderReport::default()
        })
    }

    /// The report block about what we receive (§6.4.1, §A.3).
    fn block(&mut self, now: Instant, figures: &ReceptionFigures) -> ReceptionReport {
        let previous = self.last_block.filter(|block| block.ssrc == figures.ssrc && block.expected <= figures.expected);
        let (expected, got) = previous.map_or((figures.expected, figures.received), |previous| {
            (figures.expected - previous.expected, figures.received.wrapping_sub(previous.received))
        });
        self.last_block = Some(*figures);
        let lost = u64::from(expected.saturating_sub(got));
        let fraction = if expected == 0 { 0 } else { (lost * 256 / u64::from(expected)).min(255) };
        let heard = self.last_heard.filter(|heard| heard.0 == figures.ssrc);
        ReceptionReport {
            ssrc: figures.ssrc,
            fraction_lost: fraction as u8,
            // 24 bits, signed on the wire; the crate writes only positive numbers.
            total_lost: figures.lost().clamp(0, 0x7f_ffff) as u32,
            last_sequence_number: figures.highest_sequence,
            jitter: figures.jitter,
            last_sender_report: heard.map_or(0, |heard| heard.1),
            delay: heard.map_or(0, |heard| short(now.saturating_duration_since(heard.2))),
        }
    }

    fn description(&self, ssrc: u32) -> Box<dyn Packet + Send + Sync> {
        let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: self.cname.clone().into() };
        Box::new(SourceDescription { chunks: vec![SourceDescriptionChunk { source: ssrc, items: vec![item] }] })
    }
}

fn compound(packets: &[Box<dyn Packet + Send + Sync>]) -> Vec<u8> {
    rtcp::packet::marshal(packets).expect("one report block, one short name").to_vec()
}

/// Checks the frame of every packet in the datagram and keeps those of types 200–203; also how many were skipped.
fn known_packets(bytes: &[u8]) -> Result<(Vec<u8>, u64), RtcpError> {
    if !(8..=MAX_BYTES).contains(&bytes.len()) {
        return Err(RtcpError::Length(bytes.len()));
    }
    if !matches!(bytes[1], 200 | 201) {
        return Err(RtcpError::NoReport(bytes[1]));
    }
    let (mut known, mut skipped, mut rest) = (Vec::with_capacity(bytes.len()), 0, bytes);
    while !rest.is_empty() {
        let packet_type = rest.get(1).copied().unwrap_or(0);
        let truncated = RtcpError::Truncated { packet_type };
        let Some(&[first, _, high, low]) = rest.first_chunk::<4>() else { return Err(truncated) };
        if first >> 6 != 2 {
            return Err(RtcpError::Version(first >> 6));
        }
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((packet, behind)) = rest.split_at_checked(length) else { return Err(truncated) };
        if (200..=203).contains(&packet_type) {
            known.extend_from_slice(packet);
        } else {
            skipped += 1;
        }
        rest = behind;
    }
    Ok((known, skipped))
}

/// NTP time: seconds since 1900 in the upper half, their fraction in the lower.
fn ntp(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_EPOCH) << 32) | fraction
}

fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A duration in units of 1/65536 s.
fn short(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// §6.4.1: now − LSR − DLSR.
fn round_trip(wall: SystemTime, block: &ReceptionReport) -> Option<Duration> {
    if block.last_sender_report == 0 {
        return None;
    }
    let units = middle(ntp(wall)).wrapping_sub(block.last_sender_report).wrapping_sub(block.delay) as i32;
    // Rounding on both sides can make a short trip look like a negative one.
    let units = if (-16..0).contains(&units) { 0 } else { u64::try_from(units).ok()? };
    Some(Duration::from_nanos((units * 1_000_000_000) >> 16)).filter(|&trip| trip <= MAX_ROUND_TRIP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ssrc: u32, expected: u32, received: u32) -> ReceptionFigures {
        ReceptionFigures { ssrc, highest_sequence: 100 + expected, received, expected, jitter: 16, clock_rate: 8000 }
    }

    fn sent(ssrc: u32, packets: u32) -> SenderFigures {
        SenderFigures { ssrc, packets, octets: packets * 160, timestamp: 77, clock_rate: 8000 }
    }

    #[test]
    fn two_ends_measure_the_round_trip_between_them() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |ms: u64| (now + Duration::from_millis(ms), wall + Duration::from_millis(ms));
        let (mut a, mut b) = (Reporter::anonymous(), Reporter::anonymous());
        let from_a = a.report(at(0).0, at(0).1, &sent(1, 50), None);
        // 30 ms there, 400 ms of thought, 50 ms back. The clock of b is an hour off and need not be right.
        let incoming = b.handle_datagram(at(30).0, at(3_600_030).1, 2, &from_a).unwrap();
        assert_eq!((incoming.report, incoming.goodbye), (None, false));
        let from_b = b.report(at(430).0, at(3_600_430).1, &sent(2, 50), Some(&figures(1, 60, 45)));
        let report = a.handle_datagram(at(480).0, at(480).1, 1, &from_b).unwrap().report.unwrap();
        let trip = report.round_trip.unwrap();
        assert!(trip.abs_diff(Duration::from_millis(80)) < Duration::from_millis(1), "{trip:?}");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0.25, 15));
        assert_eq!(report.jitter_time(8000), Duration::from_millis(2));
    }

    #[test]
    fn the_fraction_lost_is_that_of_the_interval() {
        let mut reporter = Reporter::new("x");
        let now = Instant::now();
        let fractions: Vec<u8> = [(100, 100), (200, 150), (300, 250), (300, 250), (400, 360)]
            .iter()
            .map(|&(expected, received)| reporter.block(now, &figures(1, expected, received)).fraction_lost)
            .collect();
        assert_eq!(fractions, [0, 128, 0, 0, 0]);
        assert_eq!(reporter.block(now, &figures(2, 10, 5)).fraction_lost, 128);
    }

    #[test]
    fn who_has_not_sent_reports_as_a_receiver_and_goodbye_is_understood() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut reporter = Reporter::new("a".repeat(300));
        let quiet = reporter.report(now, wall, &sent(1, 0), Some(&figures(2, 1, 1)));
        assert_eq!((quiet[1], quiet.len() % 4), (201, 0));
        let bye = reporter.goodbye(now, wall, &sent(1, 9), None);
        assert_eq!(bye[1], 200);
        assert!(Reporter::anonymous().handle_datagram(now, wall, 2, &bye).unwrap().goodbye);
    }

    #[test]
    fn feedback_packets_are_skipped_and_what_stands_beside_them_is_read() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut reporter = Reporter::anonymous();
        let mut bytes = Reporter::anonymous().report(now, wall, &sent(9, 5), Some(&figures(1, 4, 4)));
        // Each of these alone panics the rtcp crate.
        bytes.extend([0xa1, 0xcd, 0, 1, 0x70, 0xd6, 0xf5, 0xce]);
        bytes.extend([0x84, 0xce, 0, 1, 0x2e, 0x98, 0xef, 0x2a]);
        assert!(reporter.handle_datagram(now, wall, 1, &bytes).unwrap().report.is_some());
        assert_eq!(reporter.counters(), RtcpCounters { received: 1, malformed: 0, skipped: 2 });
        let alone = [0xa1, 0xcd, 0, 1, 0x70, 0xd6, 0xf5, 0xce];
        assert_eq!(reporter.handle_datagram(now, wall, 1, &alone), Err(RtcpError::NoReport(205)));
        assert_eq!(reporter.counters().malformed, 1);
    }

    #[test]
    fn each_fault_has_its_name_and_no_truncation_or_mutation_panics() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut reporter = Reporter::anonymous();
        let good = Reporter::anonymous().goodbye(now, wall, &sent(9, 5), Some(&figures(1, 4, 4)));
        let mut read = |bytes: &[u8]| reporter.handle_datagram(now, wall, 1, bytes);
        assert_eq!(read(&[]), Err(RtcpError::Length(0)));
        assert_eq!(read(&[0x80; 1501]), Err(RtcpError::Length(1501)));
        assert_eq!(read(&good[..20]), Err(RtcpError::Truncated { packet_type: 200 }));
        assert_eq!(read(&[0x40, 200, 0, 1, 0, 0, 0, 0]), Err(RtcpError::Version(1)));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            bytes.truncate(random.usize(..=good.len()));
            for _ in 0..random.usize(..6) {
                if let Some(byte) = random.choice(&mut bytes) {
                    *byte = random.u8(..);
                }
            }
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_round_trip_that_cannot_be_is_not_reported() {
        let wall = SystemTime::now();
        let block = |age: Duration, delay: Duration| ReceptionReport {
            last_sender_report: middle(ntp(wall - age)),
            delay: short(delay),
            ..ReceptionReport::default()
        };
        let second = Duration::from_secs(1);
        assert_eq!(round_trip(wall, &ReceptionReport::default()), None);
        assert_eq!(round_trip(wall, &block(second, second * 2)), None);
        assert_eq!(round_trip(wall, &block(second * 60, second)), None);
        assert!(round_trip(wall, &block(second, second)).unwrap() < Duration::from_millis(1));
    }
}
