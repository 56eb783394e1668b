//! A recording through the real endpointer in virtual time, and what became of each turn in it.

use std::time::{Duration, Instant};

use crate::hearing::{Endpointer, Heard, Limits};
use crate::pcm;
use crate::pcm::telephone::{FRAME_SAMPLES, Frame, RATE};

use super::corpus::{Recording, Truth};

/// Without an end so long after the true one, a turn's end is missed.
pub(super) const HORIZON: usize = 3 * RATE as usize;
/// A start so soon after the true end belongs to the turn: weak last sounds.
const AFTERGLOW: usize = RATE as usize / 2;
/// A resumption so soon after the true end too.
const LAST_SOUND: usize = RATE as usize / 5;
/// From a soft end to the placeholder, during which the box is silent.
const GRACE: usize = 3 * RATE as usize / 20;

/// What the endpointer told, and after how many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: usize,
    pub(super) heard: Heard,
}

/// Feeds the frames at their pace. As in a call, the box is heard from shortly after a soft end until the caller goes on.
pub(super) fn hear(frames: &[Frame], limits: Limits) -> Vec<Told> {
    let mut endpointer = Endpointer::new(limits);
    let start = Instant::now();
    let mut told = Vec::new();
    let mut bridging_from = None;
    for (index, frame) in frames.iter().enumerate() {
        let at = (index + 1) * FRAME_SAMPLES;
        endpointer.set_playing(bridging_from.is_some_and(|from| at >= from));
        endpointer.handle_frame(start + pcm::telephone::duration(at as u64), frame);
        while let Some(heard) = endpointer.poll() {
            match heard {
                Heard::SoftEnd { .. } => bridging_from = Some(at + GRACE),
                Heard::Resumed { .. } | Heard::HardEnd { .. } | Heard::TooLong { .. } => bridging_from = None,
                _ => {}
            }
            told.push(Told { at, heard });
        }
    }
    told
}

/// What became of a turn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The longest pause in it, in ms.
    pub longest_pause_ms: u32,
    /// Where it ends, from the beginning of the recording.
    pub true_end: Duration,
    /// Its place among the caller's turns, from 0.
    pub index: usize,
    /// Committed while the caller had more to say: how often.
    pub cut_offs: usize,
    /// For each pause: how long, and whether the turn was committed in it.
    pub pauses: Vec<(u32, bool)>,
    /// Whether it was noticed at all.
    pub heard: bool,
    /// From the true end to the soft end that stood; 0 when it came before.
    pub soft: Option<Duration>,
    /// From where the endpointer sees the end to that soft end.
    pub believed: Option<Duration>,
    /// From the true end to the hard end.
    pub hard: Option<Duration>,
    /// Soft ends, and how many of them were taken back.
    pub soft_ends: usize,
    /// See above.
    pub taken_back: usize,
    /// Probable ends (a request leaves), and how many of them were taken back (it was for nothing).
    pub probable_ends: usize,
    /// See above.
    pub probable_taken_back: usize,
    /// The soft end was taken back when nobody spoke any more.
    pub resumed_by_noise: bool,
}

impl Outcome {
    /// No end within the horizon, or never heard.
    pub fn missed(&self) -> bool {
        !self.heard || self.soft.is_none() || self.hard.is_none()
    }
}

/// What became of a recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Result {
    /// Of each turn.
    pub turns: Vec<Outcome>,
    /// Starts where nobody spoke.
    pub spurious_starts: usize,
    /// How long nobody spoke.
    pub quiet: Duration,
}

/// Compares what was told with the truth.
pub(super) fn judge(recording: &Recording, told: &[Told]) -> Result {
    let end_of_sound = recording.frames.len() * FRAME_SAMPLES;
    let turns = &recording.turns;
    let outcomes = turns.iter().enumerate().map(|(index, turn)| {
        let until = turns.get(index + 1).map_or(end_of_sound, |next| next.samples.start);
        judge_turn(index, turn, until, told)
    });
    let spoken = |at: usize| turns.iter().any(|turn| (turn.samples.start..turn.samples.end + AFTERGLOW).contains(&at));
    let speech: usize = turns.iter().map(|turn| turn.samples.len() + AFTERGLOW).sum();
    Result {
        turns: outcomes.collect(),
        spurious_starts: told
            .iter()
            .filter(|told| matches!(told.heard, Heard::Started { .. }) && !spoken(told.at))
            .count(),
        quiet: pcm::telephone::duration(end_of_sound.saturating_sub(speech) as u64),
    }
}

fn judge_turn(index: usize, turn: &Truth, until: usize, told: &[Told]) -> Outcome {
    let (begin, end) = (turn.samples.start, turn.samples.end);
    let mut outcome = Outcome {
        longest_pause_ms: turn.longest_pause_ms(),
        true_end: pcm::telephone::duration(end as u64),
        index,
        pauses: turn.pauses.iter().map(|pause| (pause.ms, false)).collect(),
        ..Outcome::default()
    };
    // Noise may have started a turn before the caller did.
    outcome.heard = told.iter().take_while(|told| told.at < begin).fold(false, |open, told| match told.heard {
        Heard::Started { .. } => true,
        Heard::HardEnd { .. } | Heard::TooLong { .. } => false,
        _ => open,
    });
    let mut soft = None;
    let mut probable = false;
    let since_end = |at: usize| pcm::telephone::duration(at.saturating_sub(end) as u64);
    for &Told { at, heard } in told.iter().filter(|told| (begin..until.min(end + HORIZON)).contains(&told.at)) {
        match heard {
            Heard::Started { .. } => outcome.heard |= at < end + AFTERGLOW,
            Heard::ProbableEnd { .. } => {
                outcome.probable_ends += 1;
                probable = true;
            }
            Heard::SoftEnd { end_sample, .. } => {
                outcome.soft_ends += 1;
                outcome.believed = Some(pcm::telephone::duration((at as u64).saturating_sub(end_sample)));
                soft = Some(at);
            }
            Heard::Resumed { .. } => {
                if soft.take().is_some() {
                    outcome.taken_back += 1;
                    outcome.resumed_by_noise |= at > end + LAST_SOUND;
                }
                outcome.probable_taken_back += usize::from(std::mem::take(&mut probable));
            }
            Heard::HardEnd { end_sample, .. } | Heard::TooLong { end_sample, .. } => {
                probable = false;
                if at >= end {
                    outcome.hard = Some(since_end(at));
                    break;
                }
                soft = None;
                // What noise began and ended before the caller spoke cuts nobody off.
                if end_sample > begin as u64 {
                    outcome.cut_offs += 1;
                    let pause = turn.pauses.iter().rposition(|pause| pause.samples.start <= at);
                    if let Some(pause) = pause.filter(|&pause| at < turn.pauses[pause].samples.end + AFTERGLOW) {
                        outcome.pauses[pause].1 = true;
                    }
                }
            }
            _ => {}
        }
    }
    outcome.soft = soft.map(since_end);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::corpus::Pause;

    const SECOND: usize = RATE as usize;

    /// A turn from 1 s to 4 s with a pause from 2.0 s to 2.5 s, and 4 s of nothing behind it.
    fn recording() -> Recording {
        let pauses = vec![Pause { ms: 500, samples: 2 * SECOND..5 * SECOND / 2 }];
        let turns = vec![Truth { samples: SECOND..4 * SECOND, pauses }];
        Recording { frames: vec![pcm::telephone::SILENCE; 400], turns }
    }

    /// The only turn, when this was told at these milliseconds.
    fn judged(told: &[(usize, Heard)]) -> Result {
        let told: Vec<Told> = told.iter().map(|&(ms, heard)| Told { at: ms * 8, heard }).collect();
        judge(&recording(), &told)
    }

    fn started() -> Heard {
        // Made by the endpointer, so that a new field of its events breaks nothing here.
        let tone: Vec<Frame> =
            crate::pcm::wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap().samples.as_chunks().0.to_vec();
        let told = hear(&tone, Limits::from(&crate::config::Hearing::default()));
        told.into_iter().map(|told| told.heard).find(|heard| matches!(heard, Heard::Started { .. })).unwrap()
    }

    fn soft(end_ms: u64) -> Heard {
        Heard::SoftEnd { speech_end: Instant::now(), end_sample: end_ms * 8 }
    }

    fn probable(end_ms: u64) -> Heard {
        Heard::ProbableEnd { speech_end: Instant::now(), end_sample: end_ms * 8 }
    }

    fn resumed() -> Heard {
        Heard::Resumed { at: Instant::now() }
    }

    fn hard(end_ms: u64) -> Heard {
        Heard::HardEnd { onset_sample: 8000, end_sample: end_ms * 8 }
    }

    #[test]
    fn a_turn_that_ends_as_it_should_has_its_delays_and_no_fault() {
        let result = judged(&[
            (1100, started()),
            (1620, probable(1500)),
            (1640, resumed()),
            (2120, probable(2000)),
            (2300, soft(2000)),
            (2550, resumed()),
            (4130, probable(4000)),
            (4310, soft(4000)),
            (4740, hard(4000)),
        ]);
        let turn = &result.turns[0];
        assert_eq!((turn.probable_ends, turn.probable_taken_back), (3, 2));
        assert_eq!((turn.soft, turn.hard), (Some(Duration::from_millis(310)), Some(Duration::from_millis(740))));
        assert_eq!((turn.soft_ends, turn.taken_back, turn.cut_offs), (2, 1, 0));
        assert!(!turn.missed() && !turn.resumed_by_noise && turn.pauses == [(500, false)]);
        assert_eq!((result.spurious_starts, result.quiet), (0, Duration::from_millis(4500)));
    }

    #[test]
    fn a_hard_end_in_a_pause_is_a_cut_off_of_that_pause_and_one_before_the_turn_is_not() {
        let cut = judged(&[
            (1100, started()),
            (2300, soft(2000)),
            (2560, hard(2000)),
            (2600, started()),
            (4300, soft(4000)),
            (4700, hard(4000)),
        ]);
        let turn = &cut.turns[0];
        assert_eq!((turn.cut_offs, turn.pauses.as_slice()), (1, &[(500, true)][..]));
        assert!(!turn.missed());
        let noise = judged(&[
            (500, started()),
            (900, soft(600)),
            (1050, hard(600)),
            (1100, started()),
            (4300, soft(4000)),
            (4700, hard(4000)),
        ]);
        assert_eq!((noise.turns[0].cut_offs, noise.spurious_starts), (0, 1));
        // In the middle of a word there is no pause to blame.
        let deaf = judged(&[(1100, started()), (3300, soft(3000)), (3700, hard(3000)), (4300, soft(4000))]);
        assert_eq!((deaf.turns[0].cut_offs, deaf.turns[0].pauses[0].1), (1, false));
        assert!(deaf.turns[0].missed());
    }

    #[test]
    fn what_never_starts_or_never_ends_is_missed_and_noise_that_reopens_a_turn_is_noticed() {
        assert!(judged(&[]).turns[0].missed());
        assert!(judged(&[(1100, started()), (4300, soft(4000)), (7100, hard(4000))]).turns[0].missed());
        let noisy =
            judged(&[(1100, started()), (4300, soft(4000)), (4500, resumed()), (4800, soft(4000)), (5200, hard(4000))]);
        assert!(noisy.turns[0].resumed_by_noise && !noisy.turns[0].missed());
        assert_eq!(noisy.turns[0].soft, Some(Duration::from_millis(800)));
        assert_eq!(judged(&[(5000, started())]).spurious_starts, 1);
    }
}
