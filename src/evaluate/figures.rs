//! Outcomes of turns, counted: the figures of a group of turns, and the goals that they have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::config::Language;

use super::corpus::{Case, Kind, SNRS_DB};
use super::noise::Noise;
use super::run;

/// The goals are for this much noise at most…
pub const LOWEST_SNR_DB: u32 = 10;
/// …and for pauses no longer than this.
pub const LONGEST_PAUSE_MS: u32 = 600;

/// The figures of a group of turns; times in ms from the true end.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Figures {
    /// How many turns.
    pub turns: usize,
    /// Turns that were committed while the caller had more to say, in percent.
    pub cut_offs_percent: f64,
    /// Turns without a soft and a hard end within 3 s, or not heard at all, in percent.
    pub misses_percent: f64,
    /// Among them: not heard at all.
    pub not_heard: usize,
    /// Soft ends that were taken back, in percent of all soft ends.
    pub soft_ends_taken_back_percent: f64,
    /// Soft ends that were taken back after the caller's last word: noise reopened the turn; in percent of turns.
    pub reopened_by_noise_percent: f64,
    /// Requests that speculation would throw away: probable ends that were taken back, a turn.
    pub probable_ends_taken_back_per_turn: f64,
    /// All probable ends, a turn.
    pub probable_ends_per_turn: f64,
    /// The soft end that stood: half of the turns are decided by then.
    pub decision_p50_ms: Option<f64>,
    /// 90 of 100 turns.
    pub decision_p90_ms: Option<f64>,
    /// 99 of 100 turns.
    pub decision_p99_ms: Option<f64>,
    /// The hard end: half of the turns.
    pub hard_end_p50_ms: Option<f64>,
    /// 90 of 100 turns.
    pub hard_end_p90_ms: Option<f64>,
    /// 99 of 100 turns.
    pub hard_end_p99_ms: Option<f64>,
    /// Starts where nobody spoke, a minute of that.
    pub spurious_starts_per_minute: f64,
}

/// Cut-offs at one length of pause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PausePoint {
    /// The pause.
    pub pause_ms: u32,
    /// How many there were.
    pub pauses: usize,
    /// How many of them ended the turn, in percent.
    pub cut_offs_percent: f64,
}

/// The figures of the endpointer over a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endpointing {
    /// What the goals are for: SNR ≥ 10 dB, pauses ≤ 600 ms.
    pub overall: Figures,
    /// Every turn of the corpus, also what nobody promises.
    pub everything: Figures,
    /// Like `overall`, by language.
    pub languages: BTreeMap<String, Figures>,
    /// Pauses ≤ 600 ms, by ratio of voice to noise in dB, and `clean`.
    pub snr: BTreeMap<String, Figures>,
    /// Pauses ≤ 600 ms, all ratios, by kind of noise.
    pub noise: BTreeMap<String, Figures>,
    /// SNR ≥ 10 dB, all pauses, by what the turn is about.
    pub kinds: BTreeMap<String, Figures>,
    /// SNR ≥ 10 dB: the first turn of callers who speak several times (`brisk`, `slow`), and the later ones.
    pub callers: BTreeMap<String, Figures>,
    /// SNR ≥ 10 dB: cut-offs by length of pause.
    pub pauses: Vec<PausePoint>,
    /// The same at 5 dB.
    pub pauses_at_5_db: Vec<PausePoint>,
}

/// A turn that went wrong, so that it can be found and listened to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// The recording; `--keep` writes it.
    pub recording: String,
    /// Which turn in it, from 1.
    pub turn: usize,
    /// `cut_off`, `not_heard`, `no_soft_end` or `no_hard_end`.
    pub fault: &'static str,
    /// The longest pause in the turn, in ms.
    pub longest_pause_ms: u32,
    /// Where the turn ends in the recording, in ms.
    pub true_end_ms: u64,
}

/// Every turn that was cut off or missed.
pub fn faults(cases: &[Case], results: &[run::Result]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (case, result) in cases.iter().zip(results) {
        for turn in &result.turns {
            let what = [
                ("cut_off", turn.cut_offs > 0),
                ("not_heard", !turn.heard),
                ("no_soft_end", turn.heard && turn.soft.is_none()),
                ("no_hard_end", turn.heard && turn.soft.is_some() && turn.hard.is_none()),
            ];
            faults.extend(what.into_iter().filter(|(_, is)| *is).map(|(fault, _)| Fault {
                recording: case.name.clone(),
                turn: turn.index + 1,
                fault,
                longest_pause_ms: turn.longest_pause_ms,
                true_end_ms: turn.true_end.as_millis() as u64,
            }));
        }
    }
    faults
}

/// Which turns belong to a group.
type Of<'a> = (&'a Case, &'a run::Outcome);

/// Counts what became of the cases.
pub fn endpointing(cases: &[Case], results: &[run::Result]) -> Endpointing {
    let quiet = |case: &Case| case.snr_db.is_none_or(|db| db >= LOWEST_SNR_DB);
    let short = |outcome: &run::Outcome| outcome.longest_pause_ms <= LONGEST_PAUSE_MS;
    let group = |case: &dyn Fn(&Case) -> bool, turn: &dyn Fn(Of) -> bool| figures(cases, results, case, turn);
    let groups = |names: Vec<(String, Figures)>| names.into_iter().filter(|(_, figures)| figures.turns > 0).collect();
    let kinds = [Kind::Whole, Kind::Short, Kind::Sentence, Kind::Number, Kind::Hesitation, Kind::Brisk, Kind::Slow];
    let callers = [(Kind::Brisk, "brisk"), (Kind::Slow, "slow")].into_iter().flat_map(|(kind, name)| {
        [(false, "first"), (true, "later")].map(|(later, which)| {
            let turns = group(&|case| quiet(case) && case.kind == kind, &|(_, turn)| (turn.index > 0) == later);
            (format!("{name}_{which}"), turns)
        })
    });
    Endpointing {
        overall: group(&quiet, &|(_, turn)| short(turn)),
        everything: group(&|_| true, &|_| true),
        languages: groups(
            Language::ALL
                .iter()
                .map(|&language| {
                    let cases = |case: &Case| quiet(case) && case.language == language;
                    (language.code().to_owned(), group(&cases, &|(_, turn)| short(turn)))
                })
                .collect(),
        ),
        snr: groups(
            SNRS_DB
                .iter()
                .map(|&snr_db| {
                    let name = snr_db.map_or("clean".to_owned(), |db| db.to_string());
                    (name, group(&|case| case.snr_db == snr_db, &|(_, turn)| short(turn)))
                })
                .collect(),
        ),
        noise: groups(
            Noise::ALL
                .iter()
                .map(|&noise| {
                    let cases = |case: &Case| case.noise == Some(noise);
                    (noise.name().to_owned(), group(&cases, &|(_, turn)| short(turn)))
                })
                .collect(),
        ),
        kinds: groups(
            kinds
                .iter()
                .map(|&kind| (kind.name().to_owned(), group(&|case| quiet(case) && case.kind == kind, &|_| true)))
                .collect(),
        ),
        callers: groups(callers.collect()),
        pauses: pauses(cases, results, quiet),
        pauses_at_5_db: pauses(cases, results, |case| !quiet(case)),
    }
}

/// The figures of the turns that `turn` selects from the cases that `case` selects; spurious starts are those of the cases.
pub(super) fn figures(
    cases: &[Case],
    results: &[run::Result],
    case: &dyn Fn(&Case) -> bool,
    turn: &dyn Fn(Of) -> bool,
) -> Figures {
    let selected = || cases.iter().zip(results).filter(|(of, _)| case(of));
    let turns: Vec<&run::Outcome> = selected()
        .flat_map(|(case, result)| result.turns.iter().map(move |turn| (case, turn)))
        .filter(|&of| turn(of))
        .map(|(_, turn)| turn)
        .collect();
    let starts: usize = selected().map(|(_, result)| result.spurious_starts).sum();
    let quiet: Duration = selected().map(|(_, result)| result.quiet).sum();
    of_turns(&turns, starts, quiet)
}

/// The figures of these turns, and of starts where nobody spoke for so long.
pub(super) fn of_turns(turns: &[&run::Outcome], starts: usize, quiet: Duration) -> Figures {
    let count = |which: &dyn Fn(&run::Outcome) -> bool| turns.iter().filter(|turn| which(turn)).count();
    let sum = |what: &dyn Fn(&run::Outcome) -> usize| turns.iter().map(|turn| what(turn)).sum::<usize>() as f64;
    let all = turns.len() as f64;
    let [decision_p50_ms, decision_p90_ms, decision_p99_ms] = delays(turns.iter().filter_map(|turn| turn.soft));
    let [hard_end_p50_ms, hard_end_p90_ms, hard_end_p99_ms] = delays(turns.iter().filter_map(|turn| turn.hard));
    Figures {
        turns: turns.len(),
        cut_offs_percent: percent(count(&|turn| turn.cut_offs > 0) as f64, all),
        misses_percent: percent(count(&run::Outcome::missed) as f64, all),
        not_heard: count(&|turn| !turn.heard),
        soft_ends_taken_back_percent: percent(sum(&|turn| turn.taken_back), sum(&|turn| turn.soft_ends)),
        reopened_by_noise_percent: percent(count(&|turn| turn.resumed_by_noise) as f64, all),
        probable_ends_taken_back_per_turn: ratio(sum(&|turn| turn.probable_taken_back), all),
        probable_ends_per_turn: ratio(sum(&|turn| turn.probable_ends), all),
        decision_p50_ms,
        decision_p90_ms,
        decision_p99_ms,
        hard_end_p50_ms,
        hard_end_p90_ms,
        hard_end_p99_ms,
        spurious_starts_per_minute: ratio(starts as f64, quiet.as_secs_f64() / 60.0),
    }
}

fn pauses(cases: &[Case], results: &[run::Result], which: impl Fn(&Case) -> bool) -> Vec<PausePoint> {
    let mut counts: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for (_, result) in cases.iter().zip(results).filter(|(case, _)| which(case)) {
        for &(ms, cut) in result.turns.iter().flat_map(|turn| &turn.pauses) {
            let counted = counts.entry(ms).or_default();
            counted.0 += 1;
            counted.1 += usize::from(cut);
        }
    }
    let point = |(pause_ms, (pauses, cut)): (u32, (usize, usize))| PausePoint {
        pause_ms,
        pauses,
        cut_offs_percent: percent(cut as f64, pauses as f64),
    };
    counts.into_iter().map(point).collect()
}

/// p50, p90 and p99 in ms, each a value that was measured (nearest rank).
pub(super) fn delays(delays: impl Iterator<Item = Duration>) -> [Option<f64>; 3] {
    let mut sorted: Vec<Duration> = delays.collect();
    sorted.sort();
    [50, 90, 99].map(|percent| percentile(&sorted, percent).map(|delay| tenths(delay.as_secs_f64() * 1000.0)))
}

/// Of sorted values, by nearest rank.
pub(super) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

fn percent(part: f64, whole: f64) -> f64 {
    (if whole > 0.0 { 10_000.0 * part / whole } else { 0.0 }).round() / 100.0
}

fn ratio(part: f64, whole: f64) -> f64 {
    (if whole > 0.0 { 100.0 * part / whole } else { 0.0 }).round() / 100.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A figure that has a goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// The figure's key in the JSON report.
    pub figure: &'static str,
    /// At most so much.
    pub at_most: f64,
    /// What it is; absent when there is nothing to measure it by.
    pub measured: Option<f64>,
    /// Whether the goal is met.
    pub met: bool,
}

impl Goal {
    /// Compares a figure with its goal.
    pub fn new(figure: &'static str, at_most: f64, measured: Option<f64>) -> Self {
        Self { figure, at_most, measured, met: measured.is_some_and(|measured| measured <= at_most) }
    }
}

/// The goals of the endpointer.
pub fn goals(overall: &Figures) -> Vec<Goal> {
    vec![
        Goal::new("overall.cut_offs_percent", 2.0, Some(overall.cut_offs_percent)),
        Goal::new("overall.misses_percent", 0.0, Some(overall.misses_percent)),
        Goal::new("overall.decision_p50_ms", 320.0, overall.decision_p50_ms),
        Goal::new("overall.decision_p90_ms", 450.0, overall.decision_p90_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::corpus;

    fn outcome(cut_offs: usize, soft_ms: Option<u64>) -> run::Outcome {
        run::Outcome {
            longest_pause_ms: 400,
            cut_offs,
            pauses: vec![(400, cut_offs > 0)],
            heard: true,
            soft: soft_ms.map(Duration::from_millis),
            hard: Some(Duration::from_millis(700)),
            soft_ends: 2,
            taken_back: 1,
            ..run::Outcome::default()
        }
    }

    #[test]
    fn percentages_and_percentiles_are_of_the_turns() {
        let turns: Vec<run::Outcome> = (1..=10).map(|n| outcome(usize::from(n == 1), Some(n * 10))).collect();
        let mut turns: Vec<&run::Outcome> = turns.iter().collect();
        let missed = outcome(0, None);
        turns.extend([&missed; 10]);
        let figures = of_turns(&turns, 0, Duration::ZERO);
        assert_eq!((figures.turns, figures.cut_offs_percent, figures.misses_percent), (20, 5.0, 50.0));
        assert_eq!((figures.decision_p50_ms, figures.decision_p90_ms), (Some(50.0), Some(90.0)));
        assert_eq!((figures.soft_ends_taken_back_percent, figures.hard_end_p99_ms), (50.0, Some(700.0)));
    }

    #[test]
    fn only_what_the_goals_are_for_counts_as_overall() {
        let cases = corpus::plan(1, true);
        let results: Vec<run::Result> = cases
            .iter()
            .map(|case| {
                let bad = case.snr_db == Some(5);
                let turns = vec![
                    outcome(usize::from(bad), Some(300)),
                    run::Outcome { longest_pause_ms: 700, ..outcome(1, None) },
                ];
                run::Result { turns, spurious_starts: usize::from(bad), quiet: Duration::from_secs(60) }
            })
            .collect();
        let report = endpointing(&cases, &results);
        assert_eq!((report.overall.cut_offs_percent, report.overall.spurious_starts_per_minute), (0.0, 0.0));
        assert_eq!((report.snr["5"].cut_offs_percent, report.snr["5"].spurious_starts_per_minute), (100.0, 1.0));
        assert_eq!(report.everything.cut_offs_percent, 60.0);
        assert!(goals(&report.overall).iter().all(|goal| goal.met));
        assert!(goals(&report.everything).iter().take(2).all(|goal| !goal.met));
        assert_eq!(goals(&of_turns(&[], 0, Duration::ZERO))[2].measured, None);
    }
}
