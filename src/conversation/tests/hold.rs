//! The caller puts the call on hold and takes it back.

use super::*;

#[test]
fn what_is_being_said_ends_with_the_hold_and_counts_as_far_as_it_was_heard() {
    let mut call = Script::answering();
    call.at(2500, heard(1, 0, 1.0), "")
        .at(3000, Held, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .at(3020, heard(1, 1, 0.5), "")
        .remembers(&[(1, "Sure, we open", true)])
        .at(3100, Held, "")
        .wait_until(60_000, "")
        .at(60_000, Retrieved, "")
        .starts(60_100, "")
        .soft(61_000, "generate 2 for 2");
}

#[test]
fn what_the_media_thread_told_before_it_knew_of_the_hold_is_not_answered_within_it() {
    let mut call = Script::listening();
    call.starts(600, "").at(1000, Held, "arm 1").soft(1010, "").at(1020, HardEnd, "").wait_until(30_000, "").at(
        30_000,
        Retrieved,
        "generate 1 for 1, commit 1",
    );
}

#[test]
fn a_question_whose_answer_had_not_begun_is_asked_again_at_the_retrieval() {
    let mut call = Script::asked();
    call.at(1750, Held, "flush, cancel 1, arm 1")
        .at(1800, clause(1, "Sure,"), "")
        .at(20_000, Retrieved, "generate 2 for 1, commit 2")
        .at(20_500, clause(2, "Sure."), "speak 2.0 Sure.");
}

#[test]
fn a_question_that_was_not_over_is_ended_by_the_silence_after_the_hold() {
    let mut call = Script::listening();
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1400, Held, "cancel 1, arm 1").at(20_000, Retrieved, "").at(
        20_020,
        HardEnd,
        "generate 2 for 1, commit 2",
    );
}

#[test]
fn a_greeting_waits_for_the_end_of_the_hold_and_one_that_was_begun_is_not_repeated() {
    let mut call = Script::with(LIMITS);
    call.at(0, Held, "")
        .at(10, Answered, "arm 1")
        .wait_until(5000, "")
        .at(5000, Retrieved, "greet")
        .at(5500, Held, "flush, arm 1")
        .at(9000, Retrieved, "")
        .starts(9500, "");
}

#[test]
fn a_hold_ends_the_apology() {
    let mut call = Script::asked();
    call.at(1750, ended(1, Outcome::Failed), "apologise")
        .at(1800, Held, "flush, turn 1 Apologised, arm 2")
        .at(9000, Retrieved, "")
        .wait_until(90_000, "");
}
