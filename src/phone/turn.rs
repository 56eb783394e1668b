//! From what the caller said and what was heard to the figures of a turn.

use std::time::{Duration, Instant};

use super::clips::{ClipRole, Label};
use super::ear::{Ear, Heard};
use super::report::TurnReport;
use crate::pcm::{FRAME_SAMPLES, PTIME, level};

/// Silence after which a sound has ended and the next one is another.
const SOUND_GAP: Duration = Duration::from_millis(300);
/// The far side was speaking when its last voiced frame is not longer ago than this.
const STILL_SPEAKING: Duration = Duration::from_millis(200);
/// A sample from here on is full scale: the last step of either law is lower.
const FULL_SCALE: u16 = 32_000;
/// So many full-scale samples in a row are clipping.
const CLIPPED_RUN: usize = 3;

/// One utterance of the caller's, by the times at which its packets were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// First voiced packet.
    pub started: Instant,
    /// Last voiced packet.
    pub stopped: Instant,
    /// Pauses in it: the last voiced packet before, the first voiced packet after.
    pub pauses: Vec<(Instant, Instant)>,
}

/// Milliseconds from one instant to another, negative when it is earlier.
pub fn ms_between(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() * 1000.0 } else { -(from - to).as_secs_f64() * 1000.0 }
}

/// The figures of turn number `turn`: `spoken` and all that was heard until the caller's next word (`until`) or the call's end.
pub fn measure(turn: usize, spoken: &Spoken, until: Option<Instant>, ear: &Ear) -> TurnReport {
    let heard = ear.heard();
    let mut report =
        TurnReport { turn, spoken_ms: ms_between(spoken.started, spoken.stopped), ..TurnReport::default() };
    let ends = heard.partition_point(|h| until.is_none_or(|until| h.at < until));
    let starts = heard.partition_point(|h| h.at < spoken.started).min(ends);

    // Speech of the far side that the caller began to speak over.
    let mut next = starts;
    if before(&heard[..starts], spoken.started).is_some_and(|h| h.label == Label::Speech) {
        let mut last = spoken.started;
        while let Some(h) = heard[..ends].get(next) {
            match h.label {
                Label::Clip(_) => break,
                _ if h.at > last + SOUND_GAP => break,
                Label::Silent => {}
                Label::Speech | Label::Pending => last = h.at,
            }
            next += 1;
        }
        next = heard.partition_point(|h| h.at <= last).clamp(starts, ends);
        report.barge_in_stop_ms = Some(ms_between(spoken.started, last));
    }

    // What began while the caller had not finished.
    let mut still = None;
    let labels = |n: usize| heard[next..ends].get(n).map(|h| h.label);
    for (n, h) in heard[next..ends].iter().enumerate().take_while(|(_, h)| h.at <= spoken.stopped) {
        // The ramp of a clip that was stopped is not in the clip.
        let before = n.checked_sub(1).and_then(labels).filter(|label| matches!(label, Label::Clip(_)));
        let is_ramp = h.label == Label::Speech && labels(n + 1) != Some(Label::Speech);
        let label = before.filter(|_| is_ramp).unwrap_or(h.label);
        match label {
            Label::Speech => report.spoke_over_caller_ms += PTIME.as_secs_f64() * 1000.0,
            Label::Clip(_) => {}
            Label::Silent | Label::Pending => continue,
        }
        still = Some(*h);
        if let Some((_, resumed)) = spoken.pauses.iter().rev().find(|(paused, _)| *paused < h.at)
            && matches!(label, Label::Clip(_))
        {
            report.placeholder_stop_after_resume_ms = Some(ms_between(*resumed, h.at).max(0.0));
        }
    }
    next = heard.partition_point(|h| h.at <= spoken.stopped).clamp(next, ends);
    // A sound that goes on from then is no reply to what was said.
    if let Some(mut last) = still.filter(|h| h.at + STILL_SPEAKING > spoken.stopped) {
        while let Some(h) = heard[..ends].get(next) {
            if h.at > last.at + STILL_SPEAKING {
                break;
            }
            match (h.label, last.label) {
                (Label::Speech, Label::Clip(_)) => break,
                (Label::Silent, _) => {}
                _ => last = *h,
            }
            next += 1;
        }
    }
    reply(&mut report, spoken.stopped, ear, next, ends);
    report.answer_interrupted = until.is_some_and(|until| {
        before(&heard[..ends], until).is_some_and(|h| h.label == Label::Speech && report.answer_end_ms.is_some())
    });
    report
}

/// The last voiced frame, if the far side was still speaking at `now`.
fn before(heard: &[Heard], now: Instant) -> Option<&Heard> {
    heard.iter().rev().take_while(|h| h.at + STILL_SPEAKING > now).find(|h| h.label != Label::Silent)
}

/// What came back, in the frames from `starts` to `ends`.
fn reply(report: &mut TurnReport, zero: Instant, ear: &Ear, starts: usize, ends: usize) {
    let mut placeholder = None;
    let mut answer: Vec<i16> = Vec::new();
    let mut last: Option<Instant> = None;
    for (n, h) in ear.heard().iter().enumerate().take(ends).skip(starts) {
        let at = ms_between(zero, h.at);
        match h.label {
            Label::Silent => continue,
            Label::Clip(clip) => {
                let known = &ear.clips()[clip];
                match known.role {
                    ClipRole::Placeholder => {
                        if placeholder.is_none() {
                            placeholder = Some(clip);
                            report.placeholder = Some(known.name.clone());
                            report.placeholder_start_ms = Some(at);
                        }
                        if placeholder == Some(clip) && report.answer_start_ms.is_none() {
                            report.placeholder_end_ms = Some(at);
                        }
                    }
                    ClipRole::Apology => {
                        report.apology_start_ms.get_or_insert(at);
                    }
                }
            }
            Label::Speech | Label::Pending => {
                report.answer_start_ms.get_or_insert(at);
                report.answer_end_ms = Some(at);
                let gap = last.map_or(0.0, |last| (ms_between(last, h.at) - PTIME.as_secs_f64() * 1000.0).max(0.0));
                report.answer_longest_gap_ms = Some(report.answer_longest_gap_ms.unwrap_or(0.0).max(gap));
                last = Some(h.at);
                answer.extend_from_slice(&ear.samples()[n * FRAME_SAMPLES..(n + 1) * FRAME_SAMPLES]);
            }
        }
        report.first_sound_ms.get_or_insert(at);
    }
    report.answer_level_dbfs = level::active_dbfs(&answer);
    report.answer_clipped =
        answer.windows(CLIPPED_RUN).any(|run| run.iter().all(|sample| sample.unsigned_abs() >= FULL_SCALE));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::phone::clips::KnownClip;
    use crate::phone::ear::Packet;
    use crate::phone::testing::voice;

    const CLIP: usize = 40;

    /// A call in which the far side sends these sounds, each beginning at that frame.
    fn call(sounds: &[(usize, Vec<i16>)]) -> (Instant, Ear) {
        let start = Instant::now();
        let clips: Arc<[KnownClip]> =
            [KnownClip::new("wait", ClipRole::Placeholder, voice(1, CLIP)).unwrap()].into_iter().collect();
        let mut ear = Ear::new(clips, 0);
        let end = sounds.iter().map(|(at, sound)| at + sound.len() / FRAME_SAMPLES).max().unwrap_or(0) + 50;
        let mut line = vec![0i16; end * FRAME_SAMPLES];
        for (at, sound) in sounds {
            line[at * FRAME_SAMPLES..at * FRAME_SAMPLES + sound.len()].copy_from_slice(sound);
        }
        for (n, frame) in line.chunks(FRAME_SAMPLES).enumerate() {
            let at = start + PTIME * n as u32;
            ear.hear(Packet { at, sequence: n as u16, timestamp: 160 * n as u32, ssrc: 1, sound: frame });
        }
        ear.finish();
        (start, ear)
    }

    fn spoken(start: Instant, from: u32, to: u32, pauses: &[(u32, u32)]) -> Spoken {
        Spoken {
            started: start + PTIME * from,
            stopped: start + PTIME * to,
            pauses: pauses.iter().map(|(a, b)| (start + PTIME * *a, start + PTIME * *b)).collect(),
        }
    }

    #[test]
    fn a_placeholder_and_an_answer_with_a_gap_are_measured_from_the_last_word() {
        let (start, ear) = call(&[(120, voice(1, CLIP)), (165, voice(2, 50)), (225, voice(3, 25))]);
        let turn = measure(1, &spoken(start, 10, 100, &[]), None, &ear);
        assert_eq!((turn.first_sound_ms, turn.placeholder.as_deref()), (Some(400.0), Some("wait")));
        assert_eq!((turn.placeholder_start_ms, turn.placeholder_end_ms), (Some(400.0), Some(1180.0)));
        assert_eq!((turn.answer_start_ms, turn.answer_end_ms), (Some(1300.0), Some(2980.0)));
        assert_eq!(turn.answer_longest_gap_ms, Some(200.0));
        assert_eq!((turn.barge_in_stop_ms, turn.spoke_over_caller_ms), (None, 0.0));
        assert!(!turn.answer_clipped && !turn.answer_interrupted);
        assert!((turn.answer_level_dbfs.unwrap() - level::active_dbfs(&voice(2, 75)).unwrap()).abs() < 1.5);
    }

    #[test]
    fn a_barge_in_counts_to_the_last_voiced_packet_and_interrupts_the_turn_before() {
        let (start, ear) = call(&[(50, voice(2, 57)), (160, voice(1, CLIP)), (200, voice(3, 20))]);
        let first = measure(1, &spoken(start, 10, 30, &[]), Some(start + PTIME * 100), &ear);
        assert!(first.answer_interrupted);
        assert_eq!(first.answer_end_ms, Some(69.0 * 20.0));
        let second = measure(2, &spoken(start, 100, 140, &[]), None, &ear);
        assert_eq!(second.barge_in_stop_ms, Some(120.0));
        assert_eq!((second.first_sound_ms, second.answer_start_ms), (Some(400.0), Some(1200.0)));
        assert_eq!(second.spoke_over_caller_ms, 0.0);
    }

    #[test]
    fn an_answer_after_a_barge_in_is_not_the_end_of_the_old_one() {
        let (start, ear) = call(&[(50, voice(2, 57)), (145, voice(3, 20))]);
        let turn = measure(2, &spoken(start, 100, 110, &[]), None, &ear);
        assert_eq!((turn.barge_in_stop_ms, turn.answer_start_ms), (Some(120.0), Some(700.0)));
    }

    #[test]
    fn a_side_that_does_not_stop_is_no_reply() {
        let (start, ear) = call(&[(50, voice(2, 150))]);
        let turn = measure(2, &spoken(start, 100, 140, &[]), None, &ear);
        assert_eq!(turn.barge_in_stop_ms, Some(99.0 * 20.0));
        assert_eq!((turn.first_sound_ms, turn.answer_start_ms), (None, None));
    }

    #[test]
    fn a_placeholder_in_a_pause_is_measured_from_the_resumption() {
        let (start, ear) = call(&[(60, voice(1, CLIP)[..18 * FRAME_SAMPLES].to_vec()), (140, voice(1, CLIP))]);
        let turn = measure(1, &spoken(start, 10, 120, &[(40, 75)]), None, &ear);
        assert_eq!(turn.placeholder_stop_after_resume_ms, Some(40.0));
        assert_eq!(turn.spoke_over_caller_ms, 0.0);
        assert_eq!(turn.first_sound_ms, Some(400.0));
    }

    #[test]
    fn the_ramp_of_a_stopped_clip_is_the_clips() {
        let mut stopped = voice(1, CLIP)[..18 * FRAME_SAMPLES].to_vec();
        stopped.extend(&voice(2, 1)[..60]);
        let (start, ear) = call(&[(60, stopped), (140, voice(3, 20))]);
        let turn = measure(1, &spoken(start, 10, 120, &[(40, 75)]), None, &ear);
        assert_eq!((turn.spoke_over_caller_ms, turn.placeholder_stop_after_resume_ms), (0.0, Some(60.0)));
    }

    #[test]
    fn an_answer_to_half_a_sentence_is_spoken_over_the_caller_and_is_not_the_reply() {
        let (start, ear) = call(&[(70, voice(2, 60)), (160, voice(3, 20))]);
        let turn = measure(1, &spoken(start, 10, 120, &[(40, 75)]), None, &ear);
        assert_eq!(turn.spoke_over_caller_ms, 51.0 * 20.0);
        assert_eq!(turn.answer_start_ms, Some(800.0));
    }

    #[test]
    fn full_scale_is_clipping() {
        let (start, ear) = call(&[(50, vec![32_124; 10 * FRAME_SAMPLES])]);
        assert!(measure(1, &spoken(start, 1, 20, &[]), None, &ear).answer_clipped);
    }
}
