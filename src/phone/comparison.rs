//! What was said against what came back of it from a far side that echoes: damage anywhere on the way there and back shows.
//!
//! Each 100 ms of what was said, if voiced, are looked for in what was heard within a second by normalised correlation. How alike the two
//! are where they fit best, and how much later that is, are the figures. A window that is not found counts as missing, not as late.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pcm::{FRAME_SAMPLES, PTIME, duration, level, samples_in};
use crate::timeline::{Percentiles, nearest_rank};

/// A window: 100 ms.
const WINDOW: usize = 1600;
/// The longest delay that is looked for.
const FARTHEST: Duration = Duration::from_millis(1000);
/// How far the delay may move from one window to the next.
const NEAR: Duration = Duration::from_millis(80);
/// Less alike is not the same sound.
const FOUND: f64 = 0.5;

/// What an echo says about the way there and back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EchoReport {
    /// Windows of 100 ms that were said.
    pub windows: usize,
    /// Those that did not come back.
    pub missing: usize,
    /// How alike what was said and what came back are, 0 to 1: mean over all windows, a missing one counts 0.
    pub match_mean: f64,
    /// 10th percentile.
    pub match_p10: f64,
    /// From a sample's packet leaving to its packet coming back: median. The caller's own ptime comes on top of it.
    pub delay_p50_ms: f64,
    /// 95th percentile.
    pub delay_p95_ms: f64,
    /// Longest.
    pub delay_max_ms: f64,
    /// How much louder it came back; null when nothing did.
    pub gain_db: Option<f32>,
}

/// Compares. `said` began to leave at `first_sent`, a frame a ptime; `heard` is what arrived, frame by frame, at `arrived`. `None` when nothing
/// voiced was said.
pub fn compare(said: &[i16], first_sent: Instant, heard: &[i16], arrived: &[Instant]) -> Option<EchoReport> {
    let heard = &heard[..heard.len().min(arrived.len() * FRAME_SAMPLES)];
    let energies = Energies::new(heard);
    let (mut matches, mut delays) = (Vec::new(), Vec::new());
    let mut last: Option<Duration> = None;
    for (n, window) in said.chunks_exact(WINDOW).enumerate() {
        if level::rms_dbfs(window) <= level::VOICED_DBFS {
            continue;
        }
        let first = n * WINDOW;
        let left = first_sent + PTIME * (first / FRAME_SAMPLES) as u32;
        let (from, to) = match last {
            Some(last) => (last.saturating_sub(NEAR), (last + NEAR).min(FARTHEST)),
            None => (Duration::ZERO, FARTHEST),
        };
        let place = |delay: Duration| sample_at(arrived, left + delay) + first % FRAME_SAMPLES;
        let best = best(window, heard, &energies, place(from), place(to));
        matches.push(best.map_or(0.0, |(alike, _)| alike));
        let Some((_, at)) = best.filter(|(alike, _)| *alike >= FOUND) else { continue };
        let came = arrived[at / FRAME_SAMPLES] + duration((at % FRAME_SAMPLES) as u64);
        let delay = came.saturating_duration_since(left + duration((first % FRAME_SAMPLES) as u64));
        last = Some(delay);
        delays.push(delay.as_secs_f64() * 1e3);
    }
    if matches.is_empty() {
        return None;
    }
    let missing = matches.len() - delays.len();
    let mean = matches.iter().sum::<f64>() / matches.len() as f64;
    matches.sort_by(f64::total_cmp);
    let delays = Percentiles::of(delays);
    let delay = |of: fn(Percentiles) -> f64| delays.map_or(0.0, of);
    Some(EchoReport {
        windows: matches.len(),
        missing,
        match_mean: mean,
        match_p10: nearest_rank(&matches, 10)?,
        delay_p50_ms: delay(|delays| delays.p50),
        delay_p95_ms: delay(|delays| delays.p95),
        delay_max_ms: delay(|delays| delays.max),
        gain_db: level::active_dbfs(heard).zip(level::active_dbfs(said)).map(|(heard, said)| heard - said),
    })
}

/// The sample that arrived at `at`, by the frames' times of arrival.
fn sample_at(arrived: &[Instant], at: Instant) -> usize {
    let frame = arrived.partition_point(|arrival| *arrival < at);
    let early = arrived.get(frame).map_or(Duration::ZERO, |arrival| arrival.saturating_duration_since(at));
    (frame * FRAME_SAMPLES).saturating_sub(samples_in(early.min(PTIME)) as usize)
}

/// Sums of squares from the beginning, so that the energy of any window is a difference.
struct Energies(Vec<f64>);

impl Energies {
    fn new(samples: &[i16]) -> Self {
        let mut sum = 0.0;
        let sums = samples.iter().map(|&sample| {
            sum += f64::from(sample) * f64::from(sample);
            sum
        });
        Self(std::iter::once(0.0).chain(sums).collect())
    }

    fn of(&self, from: usize, length: usize) -> f64 {
        self.0[from + length] - self.0[from]
    }
}

/// Where in `heard`, beginning between two places, a window fits best, and how well.
fn best(window: &[i16], heard: &[i16], energies: &Energies, from: usize, to: usize) -> Option<(f64, usize)> {
    let energy: f64 = window.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum();
    let last = heard.len().checked_sub(window.len())?;
    (from..=to.min(last))
        .filter_map(|at| {
            let other = energies.of(at, window.len());
            let product: i64 =
                window.iter().zip(&heard[at..]).map(|(&a, &b)| i64::from(i32::from(a) * i32::from(b))).sum();
            (other > 0.0).then(|| (product as f64 / (energy * other).sqrt(), at))
        })
        .max_by(|one, other| one.0.total_cmp(&other.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::testing::voice;

    /// What comes back `delay` later, after a mistreatment of its frames.
    fn echo(delay: Duration, mistreat: impl Fn(usize, &mut [i16])) -> EchoReport {
        let said = [vec![0; 10 * FRAME_SAMPLES], voice(1, 200), vec![0; 10 * FRAME_SAMPLES]].concat();
        let start = Instant::now();
        let mut heard = said.clone();
        heard.chunks_mut(FRAME_SAMPLES).enumerate().for_each(|(n, frame)| mistreat(n, frame));
        let arrived: Vec<Instant> =
            (0..heard.len() / FRAME_SAMPLES).map(|n| start + PTIME * n as u32 + delay).collect();
        compare(&said, start, &heard, &arrived).unwrap()
    }

    #[test]
    fn a_clean_echo_is_alike_and_its_delay_is_found() {
        for ms in [0, 27, 63, 400] {
            let report = echo(Duration::from_millis(ms), |_, _| {});
            assert_eq!(report.missing, 0);
            assert!(
                report.windows >= 35 && report.match_p10 > 0.999 && report.gain_db.unwrap().abs() < 0.01,
                "{report:?}"
            );
            let ms = ms as f64;
            assert!((report.delay_p50_ms - ms).abs() < 0.2 && (report.delay_max_ms - ms).abs() < 0.2, "{report:?}");
        }
    }

    #[test]
    fn damage_shows_in_the_match_and_a_cut_as_missing() {
        let delay = Duration::from_millis(40);
        let holes = echo(delay, |n, frame| {
            if n % 10 == 3 {
                frame.fill(0)
            }
        });
        assert!(holes.match_mean < 0.97 && holes.match_mean > 0.9, "{holes:?}");
        let cut = echo(delay, |n, frame| {
            if (60..90).contains(&n) {
                frame.fill(0)
            }
        });
        assert!(cut.missing >= 5 && cut.match_p10 < 0.1 && (cut.delay_p95_ms - 40.0).abs() < 1.0, "{cut:?}");
        let quiet = echo(delay, |_, frame| frame.iter_mut().for_each(|sample| *sample /= 4));
        assert!((quiet.gain_db.unwrap() + 12.0).abs() < 0.3 && quiet.match_p10 > 0.99, "{quiet:?}");
    }

    #[test]
    fn nothing_said_and_nothing_heard_are_no_panic() {
        let now = Instant::now();
        assert_eq!(compare(&[0; 4000], now, &[0; 4000], &[now; 25]), None);
        let deaf = compare(&voice(1, 50), now, &[], &[]).unwrap();
        assert_eq!((deaf.missing, deaf.match_mean, deaf.delay_p50_ms), (deaf.windows, 0.0, 0.0));
    }
}
