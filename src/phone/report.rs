//! What the test phone found out: one call, or many of them taken together; as JSON and as a table.

use std::fmt;

use serde::Serialize;

use super::comparison::EchoReport;
use crate::timeline::Percentiles;

/// One call as its caller heard it. All `_ms` of a turn count from the caller's last voiced sample (the packet that carries it).
#[derive(Debug, Clone, Default, Serialize)]
pub struct CallReport {
    /// Who was called.
    pub uri: String,
    /// From the INVITE to the 200.
    pub answered_ms: f64,
    /// How long the call was up.
    pub duration_ms: f64,
    /// Who hung up: `caller` or `callee`.
    pub ended_by: &'static str,
    /// First sound after the 200; null when the callee waited.
    pub greeting_start_ms: Option<f64>,
    /// Last sound before the caller's first word.
    pub greeting_end_ms: Option<f64>,
    /// The caller's turns.
    pub turns: Vec<TurnReport>,
    /// The packets received.
    pub packets: PacketReport,
    /// The packets sent, and what became of them.
    pub sent: SentReport,
    /// What was said against what came back; null unless the far side was to echo.
    pub echo: Option<EchoReport>,
    /// How well the phone itself kept time. When this is bad, no figure above means anything.
    pub own: OwnReport,
}

/// One turn: what the caller said, and what came back. Absent is null.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TurnReport {
    /// Number of the turn, from 1.
    pub turn: usize,
    /// How long the caller spoke, from the first to the last voiced sample.
    pub spoken_ms: f64,
    /// First voiced packet of anything.
    pub first_sound_ms: Option<f64>,
    /// Name of the placeholder clip that was heard.
    pub placeholder: Option<String>,
    /// Its first packet.
    pub placeholder_start_ms: Option<f64>,
    /// Its last voiced packet.
    pub placeholder_end_ms: Option<f64>,
    /// First packet of an apology clip.
    pub apology_start_ms: Option<f64>,
    /// First voiced packet of the answer.
    pub answer_start_ms: Option<f64>,
    /// Last voiced packet of the answer.
    pub answer_end_ms: Option<f64>,
    /// Longest silence inside the answer.
    pub answer_longest_gap_ms: Option<f64>,
    /// Level of the answer over its voiced parts.
    pub answer_level_dbfs: Option<f32>,
    /// Whether the answer hits full scale.
    pub answer_clipped: bool,
    /// Whether the caller spoke over the answer.
    pub answer_interrupted: bool,
    /// The caller began this turn over the other side's speech: from the caller's first voiced sample to its last voiced packet.
    pub barge_in_stop_ms: Option<f64>,
    /// A placeholder began in a pause of the caller's: from when the caller went on to its last voiced packet.
    pub placeholder_stop_after_resume_ms: Option<f64>,
    /// How much answer was heard while the caller had not finished.
    pub spoke_over_caller_ms: f64,
}

/// The received packets of a call.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PacketReport {
    /// Packets, without duplicates.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Times the numbering began anew.
    pub restarts: u64,
    /// Changes of the SSRC.
    pub ssrc_changes: u64,
    /// Timestamps that do not follow from the one before.
    pub timestamp_jumps: u64,
    /// Gaps between two arrivals of more than 40 ms.
    pub holes: u64,
    /// The longest gap between two arrivals.
    pub longest_hole_ms: f64,
    /// Interarrival jitter by RFC 3550 at the end of the call.
    pub jitter_ms: f64,
    /// How far the time between two packets is from 20 ms: median.
    pub interval_deviation_p50_ms: f64,
    /// 99th percentile.
    pub interval_deviation_p99_ms: f64,
    /// 99.9th percentile.
    pub interval_deviation_p999_ms: f64,
    /// Worst.
    pub interval_deviation_max_ms: f64,
    /// Level over the voiced parts; null when nothing was heard.
    pub level_dbfs: Option<f32>,
    /// How long packets were under way: median. Null unless the far side's clock is ours, as on one machine.
    pub one_way_p50_ms: Option<f64>,
    /// 99th percentile.
    pub one_way_p99_ms: Option<f64>,
    /// Longest.
    pub one_way_max_ms: Option<f64>,
    /// How long a jitter buffer like the box's held these packets back: the mean. Null when nothing came, as the next ones.
    pub buffer_delay_ms: Option<f64>,
    /// The longest that it thought it had to.
    pub buffer_target_ms: Option<f64>,
    /// How much sound it played again, to hold back longer.
    pub buffer_stretched_ms: Option<f64>,
    /// How much sound it left out, to hold back shorter.
    pub buffer_shortened_ms: Option<f64>,
}

/// What was sent, and what the far side says of it (RTCP).
#[derive(Debug, Clone, Default, Serialize)]
pub struct SentReport {
    /// Packets.
    pub packets: u64,
    /// How far the time between two packets is from 20 ms: median.
    pub interval_deviation_p50_ms: f64,
    /// 99th percentile.
    pub interval_deviation_p99_ms: f64,
    /// 99.9th percentile.
    pub interval_deviation_p999_ms: f64,
    /// Worst.
    pub interval_deviation_max_ms: f64,
    /// Level over the voiced parts; null when nothing was said.
    pub level_dbfs: Option<f32>,
    /// Packets that the far side missed when it last told; null when it did not tell.
    pub lost: Option<u32>,
    /// The jitter that it measured.
    pub jitter_ms: Option<f64>,
    /// There and back.
    pub round_trip_ms: Option<f64>,
}

/// The phone's own timekeeping.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OwnReport {
    /// Whether the system granted real-time scheduling.
    pub realtime: bool,
    /// Packets sent.
    pub sent: u64,
    /// How late packets left: median.
    pub late_p50_ms: f64,
    /// 99th percentile.
    pub late_p99_ms: f64,
    /// Worst.
    pub late_max_ms: f64,
    /// Share of the machine's time that its hypervisor gave to others during the call.
    pub host_steal_percent: f64,
    /// Datagrams that were no RTP of the negotiated kind.
    pub unusable: u64,
}

/// One figure over many turns or calls.
#[derive(Debug, Clone, Serialize)]
pub struct Spread {
    /// Name of the figure.
    pub figure: &'static str,
    /// How many values there are.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Largest.
    pub max: f64,
}

/// All calls of one run of the program.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Each call that was completed.
    pub calls: Vec<CallReport>,
    /// Why the other calls were not.
    pub failed: Vec<String>,
    /// The figures of all of them together.
    pub summary: Vec<Spread>,
}

type Figure<T> = (&'static str, fn(&T) -> Option<f64>);

const OF_A_TURN: [Figure<TurnReport>; 8] = [
    ("first_sound_ms", |t| t.first_sound_ms),
    ("placeholder_start_ms", |t| t.placeholder_start_ms),
    ("answer_start_ms", |t| t.answer_start_ms),
    ("answer_end_ms", |t| t.answer_end_ms),
    ("answer_longest_gap_ms", |t| t.answer_longest_gap_ms),
    ("barge_in_stop_ms", |t| t.barge_in_stop_ms),
    ("placeholder_stop_after_resume_ms", |t| t.placeholder_stop_after_resume_ms),
    ("spoke_over_caller_ms", |t| Some(t.spoke_over_caller_ms)),
];

const OF_A_CALL: [Figure<CallReport>; 18] = [
    ("answered_ms", |c| Some(c.answered_ms)),
    ("greeting_start_ms", |c| c.greeting_start_ms),
    ("lost_packets", |c| Some(c.packets.lost as f64)),
    ("holes", |c| Some(c.packets.holes as f64)),
    ("jitter_ms", |c| Some(c.packets.jitter_ms)),
    ("interval_deviation_p99_ms", |c| Some(c.packets.interval_deviation_p99_ms)),
    ("interval_deviation_p999_ms", |c| Some(c.packets.interval_deviation_p999_ms)),
    ("own_late_p99_ms", |c| Some(c.own.late_p99_ms)),
    ("own_late_max_ms", |c| Some(c.own.late_max_ms)),
    ("host_steal_percent", |c| Some(c.own.host_steal_percent)),
    ("one_way_p99_ms", |c| c.packets.one_way_p99_ms),
    ("buffer_delay_ms", |c| c.packets.buffer_delay_ms),
    ("buffer_target_ms", |c| c.packets.buffer_target_ms),
    ("sent_lost_packets", |c| c.sent.lost.map(f64::from)),
    ("round_trip_ms", |c| c.sent.round_trip_ms),
    ("echo_match_mean", |c| c.echo.as_ref().map(|echo| echo.match_mean)),
    ("echo_delay_p50_ms", |c| c.echo.as_ref().map(|echo| echo.delay_p50_ms)),
    ("echo_delay_max_ms", |c| c.echo.as_ref().map(|echo| echo.delay_max_ms)),
];

impl Report {
    /// Takes the calls together.
    pub fn new(calls: Vec<CallReport>, failed: Vec<String>) -> Self {
        let turns = || calls.iter().flat_map(|call| &call.turns);
        let mut summary: Vec<Spread> = Vec::new();
        summary.extend(OF_A_TURN.iter().filter_map(|(name, of)| spread(name, turns().filter_map(of).collect())));
        summary.extend(OF_A_CALL.iter().filter_map(|(name, of)| spread(name, calls.iter().filter_map(of).collect())));
        Self { calls, failed, summary }
    }
}

/// `None` without values.
fn spread(figure: &'static str, values: Vec<f64>) -> Option<Spread> {
    let Percentiles { count, p50, p95, max, .. } = Percentiles::of(values)?;
    Some(Spread { figure, count, p50, p95, max })
}

/// A figure in a column of nine.
fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| format!("{:>9}", "-"), |value| format!("{value:9.0}"))
}

impl fmt::Display for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, sent, echo, own, .. } = self;
        write!(f, "{}: answered after {:.0} ms", self.uri, self.answered_ms)?;
        match (self.greeting_start_ms, self.greeting_end_ms) {
            (Some(start), Some(end)) => write!(f, ", greeting from {start:.0} to {end:.0} ms")?,
            _ => write!(f, ", no greeting")?,
        }
        writeln!(f, ", {:.1} s, {} hung up", self.duration_ms / 1000.0, self.ended_by)?;
        if !self.turns.is_empty() {
            writeln!(f, "ms from the caller's last voiced sample:")?;
            let columns = ["spoken", "first", "answer", "answer", "longest", "level", "barge-in", "resume", "spoke"];
            let below = ["", "sound", "start", "end", "gap", "dBFS", "stop", "stop", "over"];
            for (turn, columns, placeholder) in [("turn", columns, "placeholder"), ("", below, "")] {
                let line: String = columns.iter().map(|column| format!("{column:>9}")).collect();
                writeln!(f, "  {turn:>4}{line}  {placeholder}")?;
            }
        }
        for turn in &self.turns {
            let cells = [
                Some(turn.spoken_ms),
                turn.first_sound_ms,
                turn.answer_start_ms,
                turn.answer_end_ms,
                turn.answer_longest_gap_ms,
                turn.answer_level_dbfs.map(f64::from),
                turn.barge_in_stop_ms,
                turn.placeholder_stop_after_resume_ms,
                Some(turn.spoke_over_caller_ms),
            ];
            let line: String = cells.into_iter().map(cell).collect();
            writeln!(f, "  {:>4}{line}  {}", turn.turn, turn.placeholder.as_deref().unwrap_or("-"))?;
        }
        writeln!(
            f,
            "packets: {} received, {} lost, {} duplicates, {} reordered, {} holes > 40 ms (longest {:.0} ms), {} SSRC \
             changes, {} timestamp jumps",
            packets.received,
            packets.lost,
            packets.duplicates,
            packets.reordered,
            packets.holes,
            packets.longest_hole_ms,
            packets.ssrc_changes,
            packets.timestamp_jumps
        )?;
        writeln!(
            f,
            "         jitter {:.2} ms; interval off 20 ms by p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
            packets.jitter_ms,
            packets.interval_deviation_p50_ms,
            packets.interval_deviation_p99_ms,
            packets.interval_deviation_p999_ms,
            packets.interval_deviation_max_ms
        )?;
        let told = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.2}"));
        writeln!(
            f,
            "         level {} dBFS; under way p50 {}, p99 {}, max {} ms (where both clocks are one)",
            told(packets.level_dbfs.map(f64::from)),
            told(packets.one_way_p50_ms),
            told(packets.one_way_p99_ms),
            told(packets.one_way_max_ms)
        )?;
        writeln!(
            f,
            "         a jitter buffer would hold back {} ms in the mean, {} ms at most; play {} ms again, leave {} ms out",
            told(packets.buffer_delay_ms),
            told(packets.buffer_target_ms),
            told(packets.buffer_stretched_ms),
            told(packets.buffer_shortened_ms)
        )?;
        writeln!(
            f,
            "sent:    {} packets, of which the far side missed {}; jitter there {} ms, round trip {} ms; level {} dBFS; interval off 20 ms \
             by p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
            sent.packets,
            sent.lost.map_or_else(|| "?".to_owned(), |lost| lost.to_string()),
            told(sent.jitter_ms),
            told(sent.round_trip_ms),
            told(sent.level_dbfs.map(f64::from)),
            sent.interval_deviation_p99_ms,
            sent.interval_deviation_p999_ms,
            sent.interval_deviation_max_ms
        )?;
        if let Some(echo) = echo {
            writeln!(
                f,
                "echo:    {} windows of 100 ms, {} missing; match mean {:.3}, p10 {:.3}; back after p50 {:.1}, p95 {:.1}, max {:.1} ms; \
                 {} dB",
                echo.windows,
                echo.missing,
                echo.match_mean,
                echo.match_p10,
                echo.delay_p50_ms,
                echo.delay_p95_ms,
                echo.delay_max_ms,
                told(echo.gain_db.map(f64::from))
            )?;
        }
        writeln!(
            f,
            "phone:   {} sent, late p50 {:.2}, p99 {:.2}, max {:.2} ms; {}; host steal {:.1} %",
            own.sent,
            own.late_p50_ms,
            own.late_p99_ms,
            own.late_max_ms,
            if own.realtime { "real-time scheduling" } else { "no real-time scheduling" },
            own.host_steal_percent
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in &self.calls {
            writeln!(f, "{call}")?;
        }
        for failed in &self.failed {
            writeln!(f, "failed: {failed}")?;
        }
        if self.calls.len() > 1 {
            writeln!(f, "{} calls, {} failed", self.calls.len(), self.failed.len())?;
            writeln!(f, "  {:34}{:>6}{:>10}{:>10}{:>10}", "figure", "count", "p50", "p95", "max")?;
            for line in &self.summary {
                writeln!(
                    f,
                    "  {:34}{:>6}{:>10.2}{:>10.2}{:>10.2}",
                    line.figure, line.count, line.p50, line.p95, line.max
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank_and_an_absent_figure_is_left_out() {
        let spread = spread("x", (1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.count, spread.p50, spread.p95, spread.max), (100, 50.0, 95.0, 100.0));
        let report = Report::new(vec![CallReport { turns: vec![TurnReport::default()], ..Default::default() }], vec![]);
        assert!(report.summary.iter().all(|line| line.figure != "answer_start_ms"));
        assert!(report.summary.iter().any(|line| line.figure == "spoke_over_caller_ms"));
    }

    #[test]
    fn json_has_the_marks_by_name_and_null_for_what_was_not_heard() {
        let turn = TurnReport { turn: 1, first_sound_ms: Some(401.5), ..Default::default() };
        let json = serde_json::to_value(Report::new(
            vec![CallReport { turns: vec![turn], ..Default::default() }],
            vec!["busy".into()],
        ))
        .unwrap();
        assert_eq!(json["calls"][0]["turns"][0]["first_sound_ms"], 401.5);
        assert!(json["calls"][0]["turns"][0]["answer_start_ms"].is_null());
        assert_eq!(json["failed"][0], "busy");
    }
}
