use super::*;
use crate::pcm::SILENCE;
use crate::playout::ClipKind;

const FIRST: u16 = 1;
const INSTEAD: u16 = 2;
const SECOND: u16 = 3;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn clip(index: u16) -> Option<PlayableClip> {
    Some(PlayableClip { kind: ClipKind::Placeholder, index, frames: [SILENCE].into(), cuts: [].into() })
}

/// First and second clip.
fn arming() -> Arming {
    Arming { first: clip(FIRST), second: clip(SECOND), ..Arming::nothing() }
}

/// The machine under a virtual clock that starts at the caller's last voiced sample.
struct Bench {
    placeholder: Placeholder,
    speech_end: Instant,
    now: Instant,
}

impl Bench {
    fn new(arming: Arming) -> Self {
        let now = Instant::now();
        let mut placeholder = Placeholder::new(ms(150));
        placeholder.arm(now, arming);
        Self { placeholder, speech_end: now, now }
    }

    /// The end is told so many milliseconds after it.
    fn ended_after(&mut self, told_ms: u64) {
        self.now = self.speech_end + ms(told_ms);
        self.placeholder.ended(self.now, self.speech_end, ms(2000), false);
    }

    /// What starts, and how many milliseconds after the caller's end, in ticks up to `until_ms`. An answer is queued from `answer_ms` on.
    fn run(&mut self, until_ms: u64, answer_ms: u64) -> Vec<(u128, u16)> {
        self.run_to_the_commit(until_ms, answer_ms, NEVER)
    }

    /// The same, when an answer may be heard from `commit_ms` on.
    fn run_to_the_commit(&mut self, until_ms: u64, answer_ms: u64, commit_ms: u64) -> Vec<(u128, u16)> {
        let mut started = Vec::new();
        while self.now <= self.speech_end + ms(until_ms) {
            let queued = self.now >= self.speech_end + ms(answer_ms);
            let audible = queued && self.now >= self.speech_end + ms(commit_ms);
            if let Some(clip) = self.placeholder.take(self.now, queued, audible, false) {
                started.push(((self.now - self.speech_end).as_millis(), clip.index));
            }
            self.now += PTIME;
        }
        started
    }
}

const NEVER: u64 = 100_000;

#[test]
fn the_grace_is_what_the_half_second_leaves_at_most_a_hundred_and_fifty() {
    for (told_ms, starts_ms) in
        [(120, 280), (200, 360), (280, 440), (300, 460), (320, 460), (400, 460), (460, 460), (700, 700)]
    {
        let mut bench = Bench::new(arming());
        bench.ended_after(told_ms);
        assert_eq!(bench.run(1000, NEVER), [(starts_ms, FIRST)], "told after {told_ms} ms");
    }
    // Between two ticks: rather in the one before the limit than in the one behind it.
    let mut bench = Bench::new(arming());
    bench.ended_after(310);
    assert_eq!(bench.run(1000, NEVER), [(450, FIRST)]);
}

#[test]
fn an_answer_that_is_queued_within_the_grace_needs_no_clip_and_later_has_one_before_it() {
    for answer_ms in (0..=2000).step_by(10) {
        let mut bench = Bench::new(arming());
        bench.ended_after(240);
        let started = bench.run(2000, answer_ms);
        if answer_ms <= 390 {
            assert_eq!(started, [], "{answer_ms}");
        } else if answer_ms > 400 {
            assert_eq!(started, [(400, FIRST)], "{answer_ms}");
        }
    }
}

#[test]
fn an_answer_that_is_due_soon_is_waited_for_up_to_the_limit() {
    let soon = |expected_ms| Arming { expected: Some(ms(expected_ms)), earliest: Some(ms(100)), ..arming() };
    for (expected_ms, starts_ms) in [(100, 460), (350, 460), (360, 360), (540, 360), (5000, 360)] {
        let mut bench = Bench::new(soon(expected_ms));
        bench.ended_after(200);
        assert_eq!(bench.run(1000, NEVER), [(starts_ms, FIRST)], "expected after {expected_ms} ms");
    }
    // What came behind the grace must be heard by the limit: one that still waits for the commit is silence.
    for (commit_ms, started) in [(440, vec![]), (700, vec![(460, FIRST)])] {
        let mut bench = Bench::new(soon(300));
        bench.ended_after(200);
        assert_eq!(bench.run_to_the_commit(1000, 400, commit_ms), started, "committed after {commit_ms} ms");
    }
}

#[test]
fn where_no_answer_can_come_in_time_the_clip_does_not_wait_for_one() {
    let late = || Arming { expected: Some(ms(900)), earliest: Some(ms(600)), ..arming() };
    for (told_ms, starts_ms) in [(120, 280), (240, 340), (300, 340), (400, 400)] {
        let mut bench = Bench::new(late());
        bench.ended_after(told_ms);
        assert_eq!(bench.run(1000, NEVER), [(starts_ms, FIRST)], "told after {told_ms} ms");
    }
    let mut bench = Bench::new(Arming { expected: Some(Duration::MAX), earliest: Some(Duration::MAX), ..arming() });
    bench.ended_after(300);
    assert_eq!(bench.run(1000, NEVER), [(340, FIRST)]);
}

#[test]
fn a_second_clip_comes_after_four_seconds_if_nothing_of_an_answer_is_heard_and_no_third() {
    let mut bench = Bench::new(arming());
    bench.ended_after(300);
    assert_eq!(bench.run(20_000, NEVER), [(460, FIRST), (4000, SECOND)]);
    // Also where the first was not wanted.
    let mut bench = Bench::new(Arming { first: None, ..arming() });
    bench.ended_after(300);
    assert_eq!(bench.run(20_000, NEVER), [(4000, SECOND)]);
    for end_the_wait in [Placeholder::answered, Placeholder::disarm, Placeholder::started] {
        let mut bench = Bench::new(arming());
        bench.ended_after(300);
        assert_eq!(bench.run(2000, NEVER), [(460, FIRST)]);
        end_the_wait(&mut bench.placeholder);
        assert_eq!(bench.run(20_000, NEVER), []);
    }
}

#[test]
fn the_next_turns_arming_ends_the_wait_of_this_one() {
    let mut bench = Bench::new(arming());
    bench.ended_after(300);
    assert_eq!(bench.run(2000, NEVER), [(460, FIRST)]);
    bench.placeholder.arm(bench.now, arming());
    assert_eq!(bench.run(20_000, NEVER), []);
}

#[test]
fn a_short_utterance_and_a_phrase_too_soon_get_what_is_meant_instead() {
    for instead in [None, clip(INSTEAD)] {
        let choosy = Arming { instead: instead.clone(), minimum_utterance: ms(700), ..arming() };
        let mut bench = Bench::new(choosy.clone());
        bench.now += ms(300);
        bench.placeholder.ended(bench.now, bench.speech_end, ms(699), false);
        let expected: Vec<_> = instead.iter().map(|clip| (460, clip.index)).collect();
        assert_eq!(bench.run(1000, NEVER), expected);
        let mut bench = Bench::new(choosy.clone());
        bench.ended_after(300);
        assert_eq!(bench.run(1000, NEVER), [(460, FIRST)]);
        let now = Instant::now();
        let mut bench = Bench::new(Arming { not_before: Some(now + ms(8000)), ..choosy });
        bench.ended_after(300);
        assert_eq!(bench.run(1000, NEVER), expected);
    }
}

#[test]
fn what_the_caller_takes_back_is_armed_for_the_real_end() {
    let mut bench = Bench::new(arming());
    bench.ended_after(300);
    assert_eq!(bench.run(600, NEVER), [(460, FIRST)]);
    bench.placeholder.resumed();
    assert_eq!(bench.run(6000, NEVER), []);
    bench.speech_end = bench.now;
    bench.ended_after(300);
    assert_eq!(bench.run(5000, NEVER), [(460, FIRST), (4000, SECOND)]);
}

#[test]
fn an_end_that_nobody_decided_on_is_bridged_by_what_is_armed_after_it_but_not_forever() {
    for (armed_ms, starts) in [(320, vec![(460, FIRST)]), (900, vec![(900, FIRST)]), (2000, vec![])] {
        let mut bench = Bench::new(arming());
        bench.placeholder.disarm();
        bench.ended_after(300);
        bench.now = bench.speech_end + ms(armed_ms);
        bench.placeholder.arm(bench.now, arming());
        assert_eq!(bench.run(3000, NEVER), starts, "armed after {armed_ms} ms");
    }
}

#[test]
fn an_end_after_which_something_was_heard_is_not_bridged_any_more() {
    for decided in [Placeholder::answered, Placeholder::overheard, Placeholder::resumed, Placeholder::started] {
        let mut bench = Bench::new(arming());
        bench.placeholder.disarm();
        bench.ended_after(300);
        decided(&mut bench.placeholder);
        bench.placeholder.arm(bench.now, arming());
        assert_eq!(bench.run(3000, NEVER), []);
    }
}
