//! How long silence lasts until it is an end: what is learned from the caller, hints, noise.

use super::*;

/// Frames of silence after which the voice comes back, for a pause of about so many ms.
fn pause(ear: &mut Ear, ms: u64) {
    for _ in 0..ms / 20 {
        ear.now += PTIME;
        ear.frame(0.02, QUIET);
    }
    ear.hear(15, 0.95, LOUD);
}

/// Silence until the hard end; how long after the last voiced sample it and the soft end came.
fn end(ear: &mut Ear) -> (u64, u64) {
    ear.told.clear();
    let last = ear.frames * 20;
    while ear.told.last().is_none_or(|(_, event)| !matches!(event, Heard::HardEnd { .. })) {
        ear.now += PTIME;
        ear.frame(0.02, QUIET);
        assert!(ear.frames * 20 < last + 5000, "no end");
    }
    (ear.at("soft end", 0) - last, ear.at("hard end", 0) - last)
}

#[test]
fn long_pauses_of_the_caller_make_his_hard_end_later() {
    let mut ear = Ear::speaking();
    pause(&mut ear, 680);
    let (_, once) = end(&mut ear);
    assert!((800..=860).contains(&once), "{once}");
    ear.hear(15, 0.95, LOUD);
    for _ in 0..6 {
        pause(&mut ear, 780);
    }
    let (_, often) = end(&mut ear);
    assert!((900..=960).contains(&often), "{often}");
    assert!(!ear.names().contains(&"resumed"));
}

#[test]
fn a_caller_without_long_pauses_is_answered_sooner() {
    let mut ear = Ear::speaking();
    for _ in 0..30 {
        pause(&mut ear, 140);
        end(&mut ear);
        ear.hear(50, 0.02, QUIET);
        ear.hear(15, 0.95, LOUD);
    }
    assert_eq!(end(&mut ear), (200, 640));
}

#[test]
fn who_goes_on_soon_after_his_hard_end_is_given_more_time_and_later_he_is_not() {
    let after = |ms: u64| {
        let mut ear = Ear::speaking();
        pause(&mut ear, ms);
        end(&mut ear).1
    };
    assert!((1040..=1080).contains(&after(1000)), "{}", after(1000));
    assert!((760..=770).contains(&after(2000)), "{}", after(2000));
}

#[test]
fn a_pause_that_took_the_soft_end_back_is_waited_for_the_next_times() {
    let mut ear = Ear::speaking();
    for _ in 0..10 {
        pause(&mut ear, 300);
    }
    ear.told.clear();
    pause(&mut ear, 300);
    assert_eq!(ear.all(), ["probable end", "resumed"], "no soft end");
    let (soft, _) = end(&mut ear);
    assert!((320..=360).contains(&soft), "{soft}");
}

#[test]
fn hints_move_the_ends_of_the_silence_in_which_they_are_given() {
    let hinted = |hint| {
        let mut ear = Ear::speaking();
        ear.detector.hint(hint);
        end(&mut ear)
    };
    assert_eq!(hinted(Hint::Unknown), (240, 760));
    assert_eq!(hinted(Hint::Open), (340, 1360));
    assert_eq!(hinted(Hint::Closed), (240, 560));
}

#[test]
fn a_hint_is_forgotten_when_speech_goes_on_and_at_the_end() {
    let mut ear = Ear::speaking();
    ear.detector.hint(Hint::Closed);
    ear.hear(20, 0.95, LOUD);
    assert_eq!(end(&mut ear), (240, 760), "what was said after it is not in it");
    let mut paused = Ear::speaking();
    paused.hear(5, 0.05, QUIET);
    paused.detector.hint(Hint::Open);
    paused.hear(15, 0.95, LOUD);
    assert_eq!(end(&mut paused), (240, 760), "it spoke of the pause");
    let mut ended = Ear::speaking();
    end(&mut ended);
    ended.detector.hint(Hint::Closed);
    ended.hear(50, 0.02, QUIET);
    ended.hear(15, 0.95, LOUD);
    assert_eq!(end(&mut ended), (240, 760), "there was no utterance");
}

#[test]
fn a_hint_holds_for_the_wall_clock_too() {
    let mut ear = Ear::speaking();
    let last = ear.frames * 20;
    ear.detector.hint(Hint::Closed);
    ear.wait(2000);
    assert_eq!((ear.at("soft end", 0), ear.at("hard end", 0)), (last + 240, last + 550));
}

#[test]
fn what_was_prepared_at_the_probable_end_is_thrown_away_before_the_soft_end_or_confirmed_by_it() {
    let mut ear = Ear::speaking();
    ear.hear(5, 0.9, QUIET);
    ear.hear(10, 0.95, LOUD);
    ear.hear(10, 0.05, QUIET);
    ear.hear(10, 0.95, LOUD);
    ear.hear(30, 0.05, QUIET);
    let told = [
        &["onset", "started"][..],
        &["probable end", "resumed"],
        &["probable end", "soft end", "resumed"],
        &["probable end", "soft end", "hard end"],
    ];
    assert_eq!(ear.all(), told.concat());
    for nth in 0..2 {
        let ((_, end_at, end), (_, soft_at, soft)) = (ear.end("probable end", nth + 1), ear.end("soft end", nth));
        assert_eq!((end_at, end), (soft_at, soft));
    }
}

#[test]
fn other_voices_behind_the_caller_do_not_hold_his_turn_open() {
    const BEHIND: i16 = LOUD / 4;
    let mut ear = Ear::new(limits());
    ear.hear(40, 0.9, BEHIND / 2);
    ear.hear(30, 0.95, LOUD);
    let last = ear.frames * 20;
    ear.told.clear();
    ear.hear(70, 0.9, BEHIND);
    assert_eq!(ear.names(), ["soft end", "hard end"]);
    assert!(ear.at("soft end", 0) <= last + 600, "{}", ear.at("soft end", 0) - last);
    ear.hear(100, 0.9, BEHIND);
    assert_eq!(ear.names(), ["soft end", "hard end"], "nor begin one");
    ear.hear(5, 0.95, LOUD);
    assert_eq!(ear.names()[2..], ["onset", "started"]);
}

#[test]
fn other_voices_after_a_moment_of_silence_do_not_hold_a_turn_open_that_they_began() {
    const BEHIND: i16 = LOUD / 4;
    let mut ear = Ear::new(limits());
    ear.hear(5, 0.02, QUIET);
    ear.hear(30, 0.9, BEHIND);
    assert_eq!(ear.names(), ["onset", "started"], "nobody has spoken louder");
    ear.hear(30, 0.95, LOUD);
    let last = ear.frames * 20;
    ear.hear(70, 0.9, BEHIND);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "hard end"]);
    assert!(ear.at("soft end", 0) <= last + 500, "{}", ear.at("soft end", 0) - last);
}

#[test]
fn noise_as_loud_as_a_weak_syllable_neither_delays_the_soft_end_nor_hurries_the_hard_one() {
    // 10 dB.
    const NOISE: i16 = LOUD / 3;
    let mut ear = Ear::new(limits());
    ear.hear(60, 0.02, NOISE);
    ear.hear(30, 0.95, LOUD);
    let last = ear.frames * 20;
    ear.hear(6, 0.8, NOISE);
    ear.hear(60, 0.05, NOISE);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "hard end"]);
    assert!(ear.at("soft end", 0) <= last + 320);
    assert!((last + 900..last + 1200).contains(&ear.at("hard end", 0)), "{}", ear.at("hard end", 0) - last);
}

#[test]
fn a_word_that_stands_out_of_the_noise_needs_less_probability() {
    let begins = |noise| {
        let mut ear = Ear::new(limits());
        ear.hear(60, 0.05, noise);
        ear.hear(8, 0.4, LOUD);
        ear.names().contains(&"started")
    };
    assert!(begins(LOUD / 8));
    assert!(!begins(QUIET), "on a quiet line anything stands out");
    assert!(!begins(LOUD / 2));
}
