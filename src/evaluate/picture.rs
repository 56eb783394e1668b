//! The report as one picture: what waiting longer would buy, what a pause costs, what noise costs.

use std::fmt::Write as _;

use super::Report;
use super::chart::{self, BLUE, Chart, FAINT, GREEN, INK, Line, ORANGE, PAPER, Point};
use super::figures::PausePoint;
use super::policy::Waits;
use super::sweep::Tried;

const WIDTH: f64 = 1000.0;
const HEAD: f64 = 70.0;
const CHART: (f64, f64) = (480.0, 330.0);

/// Draws the trade-off curves, the cut-offs by length of pause and the delays by noise, as SVG.
pub fn picture(report: &Report) -> String {
    let charts =
        [hard_end(report), soft_end(report), by_pause(report), by_snr(report), first_sound(report), added(report)];
    let height = HEAD + CHART.1 * (charts.len() / 2) as f64 + 20.0;
    let setting = &report.setting;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <title>End of turn: soon, or never wrong</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n\
         <text x=\"20\" y=\"32\" font-size=\"18\" font-weight=\"600\">End of turn: soon, or never wrong</text>\n"
    );
    let about = format!(
        "{} turns in {:.0} minutes of sound, seed {}; soft end {:.0} ms, hard end {:.0} ms. Delays from the caller's true end; a cut-off: committed while \
         the caller had more to say",
        setting.turns, setting.minutes, setting.seed, setting.soft_end_ms, setting.hard_end_ms
    );
    let _ = writeln!(svg, "<text x=\"20\" y=\"50\" fill=\"{FAINT}\">{about}</text>");
    for (index, chart) in charts.iter().enumerate() {
        let at = (12.0 + (index % 2) as f64 * (CHART.0 + 12.0), HEAD + (index / 2) as f64 * CHART.1);
        chart::draw(&mut svg, chart, at, CHART);
    }
    svg.push_str("</svg>\n");
    svg
}

fn tried(tried: &[Tried], x: fn(&Tried) -> Option<f64>, y: fn(&Tried) -> f64, labels: bool) -> Vec<Point> {
    let point = |tried: &Tried| {
        let label = if labels { format!("{:.0}", tried.limit_ms) } else { String::new() };
        Some(Point { x: x(tried)?, y: y(tried), label, marked: tried.configured })
    };
    tried.iter().filter_map(point).collect()
}

fn hard_end(report: &Report) -> Chart {
    let all = &report.sweep.hard_end;
    let delay = |tried: &Tried| tried.figures.hard_end_p50_ms;
    let line = |name, colour, y, labels| Line { name, colour, points: tried(all, delay, y, labels) };
    Chart {
        title: "Hard end: delay against cut-offs",
        x_name: "hard end after, p50, ms (beside the points: the limit)",
        y_name: "turns cut off, %",
        lines: vec![
            line("any pause", ORANGE, |tried| tried.cut_offs_of_all_pauses_percent, true),
            line("pauses ≤ 600 ms", BLUE, |tried| tried.figures.cut_offs_percent, false),
        ],
        reach: (1000.0, 10.0),
        places: Vec::new(),
        goals: (Vec::new(), vec![(2.0, "goal for pauses ≤ 600 ms: 2 %")]),
    }
}

fn soft_end(report: &Report) -> Chart {
    let all = &report.sweep.soft_end;
    let line = |name, colour, x, labels| Line {
        name,
        colour,
        points: tried(all, x, |tried| tried.figures.soft_ends_taken_back_percent, labels),
    };
    Chart {
        title: "Soft end: delay against what is taken back",
        x_name: "soft end after, ms (beside the points: the limit)",
        y_name: "soft ends taken back, %",
        lines: vec![
            line("p50 of the delay", BLUE, |tried| tried.figures.decision_p50_ms, true),
            line("p90", ORANGE, |tried| tried.figures.decision_p90_ms, false),
        ],
        reach: (500.0, 50.0),
        places: Vec::new(),
        goals: (vec![(320.0, "p50 ≤ 320"), (450.0, "p90 ≤ 450")], Vec::new()),
    }
}

fn by_pause(report: &Report) -> Chart {
    let line = |name, colour, points: &[PausePoint]| Line {
        name,
        colour,
        points: points
            .iter()
            .map(|point| Point {
                x: f64::from(point.pause_ms),
                y: point.cut_offs_percent,
                label: if point.cut_offs_percent > 0.0 {
                    format!("{:.0}", point.cut_offs_percent)
                } else {
                    String::new()
                },
                marked: false,
            })
            .collect(),
    };
    Chart {
        title: "Cut-offs by length of the pause",
        x_name: "pause within the turn, ms (above 900: only in dictated numbers)",
        y_name: "pauses that ended the turn, %",
        lines: vec![
            line("SNR ≥ 10 dB", BLUE, &report.endpointing.pauses),
            line("SNR 5 dB", ORANGE, &report.endpointing.pauses_at_5_db),
        ],
        reach: (1500.0, 100.0),
        places: Vec::new(),
        goals: (vec![(600.0, "goals hold up to here")], Vec::new()),
    }
}

fn by_snr(report: &Report) -> Chart {
    let order = ["clean", "30", "20", "10", "5"];
    let here: Vec<_> =
        order.iter().filter_map(|name| Some((*name, report.endpointing.snr.get(*name)?))).enumerate().collect();
    let line = |name, colour, y: fn(&super::Figures) -> Option<f64>| Line {
        name,
        colour,
        points: here
            .iter()
            .filter_map(|(place, (_, figures))| {
                let y = y(figures)?;
                Some(Point { x: *place as f64 + 1.0, y, label: format!("{y:.0}"), marked: false })
            })
            .collect(),
    };
    Chart {
        title: "Delays by noise (pauses ≤ 600 ms)",
        x_name: "ratio of voice to noise, dB",
        y_name: "after the true end, ms",
        lines: vec![
            line("soft end p50", BLUE, |figures| figures.decision_p50_ms),
            line("soft end p90", ORANGE, |figures| figures.decision_p90_ms),
            line("hard end p50", GREEN, |figures| figures.hard_end_p50_ms),
        ],
        reach: (here.len() as f64 + 0.5, 1000.0),
        places: here.iter().map(|(_, (name, _))| (*name).to_owned()).collect(),
        goals: (Vec::new(), vec![(320.0, "p50 ≤ 320"), (450.0, "p90 ≤ 450")]),
    }
}

/// The answer times that are the same in every turn, in order.
fn answer_times(report: &Report) -> Vec<&Waits> {
    report.policy.answers.iter().filter(|waits| waits.answer_after.parse::<u32>().is_ok()).collect()
}

fn over_answers(
    times: &[&Waits],
    name: &'static str,
    colour: &'static str,
    y: impl Fn(&Waits) -> Option<f64>,
    labels: bool,
) -> Line {
    let points = (1..).zip(times).filter_map(|(place, waits)| {
        let y = y(waits)?;
        let label = if labels && y > 0.0 { format!("{y:.0}") } else { String::new() };
        Some(Point { x: f64::from(place), y, label, marked: false })
    });
    Line { name, colour, points: points.collect() }
}

fn first_sound(report: &Report) -> Chart {
    let times = answer_times(report);
    let shown = |ms: Option<f64>| ms.filter(|&ms| ms <= 1600.0);
    Chart {
        title: "What the caller hears first, by when the answer is ready",
        x_name: "answer ready after, ms, in every turn",
        y_name: "after the true end, ms",
        lines: vec![
            over_answers(&times, "first sound p50", BLUE, |waits| shown(waits.first_sound_p50_ms), false),
            over_answers(&times, "first sound p95", ORANGE, |waits| shown(waits.first_sound_p95_ms), false),
            over_answers(&times, "answer p50 (to 1.6 s)", GREEN, |waits| shown(waits.answer_p50_ms), false),
        ],
        reach: (times.len() as f64 + 0.5, 1000.0),
        places: times.iter().map(|waits| waits.answer_after.clone()).collect(),
        goals: (Vec::new(), vec![(400.0, "p50 ≤ 400"), (500.0, "p99 ≤ 500")]),
    }
}

fn added(report: &Report) -> Chart {
    let times = answer_times(report);
    Chart {
        title: "What the clip costs the answer",
        x_name: "answer ready after, ms, in every turn",
        y_name: "the answer is later by, ms",
        lines: vec![
            over_answers(&times, "mean", BLUE, |waits| waits.added_mean_ms, true),
            over_answers(&times, "p95", ORANGE, |waits| waits.added_p95_ms, false),
        ],
        reach: (times.len() as f64 + 0.5, 400.0),
        places: times.iter().map(|waits| waits.answer_after.clone()).collect(),
        goals: (Vec::new(), vec![(130.0, "mean ≤ 130"), (350.0, "p95 ≤ 350")]),
    }
}
