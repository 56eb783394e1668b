use ringbuf::traits::{Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::*;
use crate::pcm::{PTIME, tone};

const CLIP_HZ: f32 = 500.0;
const ANSWER_HZ: f32 = 1000.0;

/// A mixer under a virtual clock, with the speech ring's other end.
struct Bench {
    mixer: Mixer,
    now: Instant,
    push: HeapProd<SpeechFrame>,
    pop: HeapCons<SpeechFrame>,
}

impl Bench {
    fn new(grace_ms: u64) -> Self {
        let (push, pop) = HeapRb::new(500).split();
        Self { mixer: Mixer::new(Duration::from_millis(grace_ms)), now: Instant::now(), push, pop }
    }

    fn say(&mut self, generation: Generation, seq: Seq, frames: usize) {
        let sound = tone_frames(ANSWER_HZ, frames);
        for frame in sound.iter() {
            self.push.try_push(SpeechFrame::speech(generation, seq, *frame)).ok().unwrap();
        }
        self.push.try_push(SpeechFrame::end_of_phrase(generation, seq)).ok().unwrap();
    }

    /// Who is heard in each of the next `ticks`: `c` the clip, `a` the answer, `f` the fade at a cut, `.` nobody.
    fn hear(&mut self, ticks: usize) -> String {
        (0..ticks)
            .map(|_| {
                let (frame, _) = self.mixer.tick(self.now, &mut self.pop);
                self.now += PTIME;
                match &frame {
                    frame if *frame == SILENCE => '.',
                    frame if tone::share_of(CLIP_HZ, frame) > 0.9 => 'c',
                    frame if tone::share_of(ANSWER_HZ, frame) > 0.9 => 'a',
                    _ => 'f',
                }
            })
            .collect()
    }

    fn played(&mut self) -> Vec<Played> {
        std::iter::from_fn(|| self.mixer.poll()).collect()
    }
}

fn tone_frames(hz: f32, frames: usize) -> Arc<[Frame]> {
    tone::sine(hz, -10.0, frames * FRAME_SAMPLES).chunks(FRAME_SAMPLES).map(|c| c.try_into().unwrap()).collect()
}

fn clip(kind: ClipKind, frames: usize, cuts: &[u16]) -> PlayableClip {
    PlayableClip { kind, index: 7, frames: tone_frames(CLIP_HZ, frames), cuts: cuts.into() }
}

fn placeholder(frames: usize, cuts: &[u16]) -> PlayableClip {
    clip(ClipKind::Placeholder, frames, cuts)
}

#[test]
fn the_placeholder_starts_in_the_tick_of_the_decision() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(3, &[]));
    assert_eq!(bench.hear(2), "..");
    bench.mixer.utterance_ended(bench.now, bench.now);
    let decided = bench.now;
    assert_eq!(bench.hear(5), "ccc..");
    assert_eq!(
        bench.played(),
        [
            Played::ClipStarted { kind: ClipKind::Placeholder, index: 7, at: decided },
            Played::FirstSound { at: decided },
            Played::ClipEnded { kind: ClipKind::Placeholder, whole: true },
        ]
    );
}

#[test]
fn the_placeholder_waits_for_its_grace() {
    let mut bench = Bench::new(60);
    bench.mixer.arm(placeholder(2, &[]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    assert_eq!(bench.hear(6), "...cc.");
}

#[test]
fn no_placeholder_over_an_answer_that_is_queued_even_while_that_is_held() {
    let mut bench = Bench::new(40);
    bench.mixer.arm(placeholder(5, &[]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    bench.say(1, 0, 3);
    assert_eq!(bench.hear(4), "....");
    bench.mixer.release(1);
    assert_eq!(bench.hear(5), "aaa..");
}

#[test]
fn one_placeholder_a_turn() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(2, &[]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    assert_eq!(bench.hear(4), "cc..");
    bench.mixer.utterance_ended(bench.now, bench.now);
    assert_eq!(bench.hear(4), "....");
}

#[test]
fn a_resumed_utterance_silences_the_placeholder_in_the_next_frame_and_arms_it_again() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(9, &[]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    assert_eq!(bench.hear(2), "cc");
    bench.mixer.utterance_resumed();
    assert_eq!(bench.hear(3), "f..");
    bench.mixer.utterance_ended(bench.now, bench.now);
    assert_eq!(bench.hear(10), "ccccccccc.");
}

#[test]
fn a_click_that_seemed_to_be_a_resumption_starts_no_second_placeholder() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(9, &[]));
    let speech_end = bench.now;
    bench.mixer.utterance_ended(bench.now, speech_end);
    assert_eq!(bench.hear(2), "cc");
    bench.mixer.utterance_resumed();
    assert_eq!(bench.hear(3), "f..");
    bench.mixer.utterance_ended(bench.now, speech_end);
    assert_eq!(bench.hear(3), "...");
}

#[test]
fn the_answer_takes_over_at_the_next_cut_point_after_a_pause() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(20, &[4, 8]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    bench.mixer.release(1);
    assert_eq!(bench.hear(6), "cccccc");
    bench.say(1, 0, 2);
    assert_eq!(bench.hear(9), "cc...aa..");
}

#[test]
fn an_answer_waits_at_most_a_third_of_a_second_for_the_end_of_a_word() {
    let mut bench = Bench::new(0);
    let mut clip = placeholder(100, &[60]);
    let mut frames = clip.frames.to_vec();
    frames[12] = frames[12].map(|sample| sample / 8);
    clip.frames = frames.into();
    bench.mixer.arm(clip);
    bench.mixer.utterance_ended(bench.now, bench.now);
    bench.mixer.release(1);
    assert_eq!(bench.hear(6), "cccccc");
    bench.say(1, 0, 2);
    assert_eq!(bench.hear(12), "ccccccf..aa.");
}

#[test]
fn an_answer_is_not_heard_before_its_turn_is_committed() {
    let mut bench = Bench::new(0);
    bench.say(3, 0, 2);
    assert_eq!(bench.hear(3), "...");
    bench.mixer.release(3);
    let start = bench.now;
    assert_eq!(bench.hear(4), "aa..");
    assert_eq!(
        bench.played(),
        [
            Played::AnswerStarted { generation: 3, at: start },
            Played::PhraseEnded { generation: 3, seq: 0, frames: 2, whole: true, last_voiced: Some(start + PTIME) },
        ]
    );
}

#[test]
fn barge_in_leaves_one_fading_frame_and_tells_what_was_heard() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 2);
    bench.say(1, 1, 50);
    assert_eq!(bench.hear(5), "aaaaa");
    assert!(bench.mixer.audible());
    bench.mixer.flush();
    assert!(!bench.mixer.audible());
    assert_eq!(bench.hear(3), "f..");
    let cut = bench.played().into_iter().find(|p| matches!(p, Played::PhraseEnded { seq: 1, .. }));
    assert!(matches!(cut, Some(Played::PhraseEnded { frames: 3, whole: false, .. })), "{cut:?}");
}

#[test]
fn an_onset_pauses_the_answer_and_not_a_frame_of_it_is_lost_when_it_was_nothing() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 10);
    assert_eq!(bench.hear(4), "aaaa");
    bench.mixer.duck(bench.now);
    assert_eq!(bench.hear(14), "f.....aaaaaa..");
    assert!(matches!(bench.played().last(), Some(Played::PhraseEnded { frames: 10, whole: true, .. })));
}

#[test]
fn an_onset_that_proves_true_ends_the_answer() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 10);
    bench.hear(4);
    bench.mixer.duck(bench.now);
    assert_eq!(bench.hear(2), "f.");
    bench.mixer.flush();
    assert_eq!(bench.hear(10), "..........");
    assert!(matches!(bench.played().last(), Some(Played::PhraseEnded { frames: 4, whole: false, .. })));
}

#[test]
fn a_noisy_line_does_not_make_the_box_stutter() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 30);
    bench.hear(1);
    bench.mixer.duck(bench.now);
    bench.hear(8);
    bench.mixer.duck(bench.now);
    assert_eq!(bench.hear(8), "aaaaaaaa");
}

#[test]
fn what_arrives_late_for_a_cancelled_answer_is_never_heard_and_the_next_answer_is() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.mixer.cancel(1);
    bench.say(1, 0, 5);
    bench.say(2, 0, 2);
    bench.mixer.release(2);
    assert_eq!(bench.hear(4), "aa..");
}

#[test]
fn phrases_join_without_a_hole() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 3);
    bench.say(1, 1, 3);
    assert_eq!(bench.hear(7), "aaaaaa.");
    assert_eq!(bench.mixer.underruns(), 0);
}

#[test]
fn a_phrase_that_runs_dry_is_counted_and_goes_on() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    for frame in tone_frames(ANSWER_HZ, 2).iter() {
        bench.push.try_push(SpeechFrame::speech(1, 0, *frame)).ok().unwrap();
    }
    assert_eq!(bench.hear(4), "aa..");
    assert_eq!(bench.mixer.underruns(), 2);
    bench.say(1, 0, 1);
    assert_eq!(bench.hear(2), "a.");
    assert_eq!(bench.mixer.underruns(), 2);
}

#[test]
fn an_apology_replaces_a_placeholder_that_plays() {
    let mut bench = Bench::new(0);
    bench.mixer.arm(placeholder(9, &[]));
    bench.mixer.utterance_ended(bench.now, bench.now);
    bench.hear(2);
    bench.mixer.play(clip(ClipKind::Apology, 3, &[]));
    assert_eq!(bench.hear(5), "fccc.");
    let ends: Vec<_> = bench.played().into_iter().filter(|p| matches!(p, Played::ClipEnded { .. })).collect();
    assert_eq!(
        ends,
        [
            Played::ClipEnded { kind: ClipKind::Placeholder, whole: false },
            Played::ClipEnded { kind: ClipKind::Apology, whole: true },
        ]
    );
}

#[test]
fn a_cut_is_a_ramp_and_not_a_step() {
    let mut bench = Bench::new(0);
    bench.mixer.release(1);
    bench.say(1, 0, 10);
    let (before, _) = bench.mixer.tick(bench.now, &mut bench.pop);
    bench.mixer.flush();
    let (after, _) = bench.mixer.tick(bench.now + PTIME, &mut bench.pop);
    let largest_step = tone::sine(ANSWER_HZ, -10.0, 400).windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
    let joined: Vec<i16> = before.iter().chain(&after).copied().collect();
    assert!(joined.windows(2).all(|w| (w[1] - w[0]).abs() <= largest_step));
    assert_eq!(after[FADE_SAMPLES..], SILENCE[FADE_SAMPLES..]);
}
