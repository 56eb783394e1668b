//! What other limits would give: the trade-off between deciding soon and cutting nobody off.

use std::time::Duration;

use serde::Serialize;

use crate::hearing::Limits;

use super::EvaluationError;
use super::corpus::{Case, Recording};
use super::figures::{self, Figures, LONGEST_PAUSE_MS, LOWEST_SNR_DB};
use super::parallel::{self, Progress};
use super::run;

/// Hard ends that are tried, in ms.
const HARD_ENDS_MS: [u64; 8] = [300, 400, 500, 600, 700, 850, 1000, 1200];
/// Soft ends that are tried.
const SOFT_ENDS_MS: [u64; 7] = [120, 160, 200, 250, 300, 350, 400];

/// The figures with one of the limits changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// The limit that was tried, in ms.
    pub limit_ms: f64,
    /// Whether it is the one that is configured.
    pub configured: bool,
    /// SNR ≥ 10 dB, pauses ≤ 600 ms.
    pub figures: Figures,
    /// SNR ≥ 10 dB, all pauses: the share of turns that is cut off.
    pub cut_offs_of_all_pauses_percent: f64,
}

/// Both trade-offs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sweep {
    /// The hard end changed, the soft end as configured (or as long as the hard end, if that is shorter).
    pub hard_end: Vec<Tried>,
    /// The soft end changed.
    pub soft_end: Vec<Tried>,
}

/// Tries other limits over a part of the corpus.
pub(super) fn sweep(
    cases: &[(Case, &Recording)],
    limits: Limits,
    threads: usize,
    progress: Progress,
) -> Result<Sweep, EvaluationError> {
    let with = |ms: &[u64], configured: Duration| {
        let mut tried: Vec<Duration> = ms.iter().map(|&ms| Duration::from_millis(ms)).collect();
        tried.push(configured);
        tried.sort();
        tried.dedup();
        tried
    };
    let hard = with(&HARD_ENDS_MS, limits.hard_end)
        .into_iter()
        .map(|hard_end| (true, hard_end, moved(limits, limits.soft_end.min(hard_end), hard_end)));
    let soft = with(&SOFT_ENDS_MS, limits.soft_end)
        .into_iter()
        .filter(|&soft_end| soft_end <= limits.hard_end)
        .map(|soft_end| (false, soft_end, moved(limits, soft_end, limits.hard_end)));
    let tries: Vec<(bool, Duration, Limits)> = hard.chain(soft).collect();
    let work: Vec<(usize, usize)> =
        (0..tries.len()).flat_map(|tried| (0..cases.len()).map(move |case| (tried, case))).collect();
    let results = parallel::each("other limits", &work, threads, progress, |&(tried, case)| {
        let recording = cases[case].1;
        Ok(run::judge(recording, &run::hear(&recording.frames, tries[tried].2)))
    })?;
    let planned: Vec<Case> = cases.iter().map(|(case, _)| case.clone()).collect();
    let mut sweep = Sweep::default();
    for (&(is_hard, limit, _), results) in tries.iter().zip(results.chunks(cases.len().max(1))) {
        let quiet = |case: &Case| case.snr_db.is_none_or(|db| db >= LOWEST_SNR_DB);
        let every = figures::figures(&planned, results, &quiet, &|_| true);
        let tried = Tried {
            limit_ms: limit.as_secs_f64() * 1000.0,
            configured: limit == if is_hard { limits.hard_end } else { limits.soft_end },
            figures: figures::figures(&planned, results, &quiet, &|(_, turn)| {
                turn.longest_pause_ms <= LONGEST_PAUSE_MS
            }),
            cut_offs_of_all_pauses_percent: every.cut_offs_percent,
        };
        if is_hard { sweep.hard_end.push(tried) } else { sweep.soft_end.push(tried) }
    }
    Ok(sweep)
}
/// Other starting values, with as much room to learn in as the configured ones have.
fn moved(limits: Limits, soft_end: Duration, hard_end: Duration) -> Limits {
    let bounds = |to: Duration, from: Duration, min: Duration, max: Duration| {
        (to.saturating_sub(from.saturating_sub(min)), to + max.saturating_sub(from))
    };
    let (soft_end_min, soft_end_max) = bounds(soft_end, limits.soft_end, limits.soft_end_min, limits.soft_end_max);
    let (hard_end_min, hard_end_max) = bounds(hard_end, limits.hard_end, limits.hard_end_min, limits.hard_end_max);
    Limits { soft_end, soft_end_min, soft_end_max, hard_end, hard_end_min, hard_end_max, ..limits }
}
