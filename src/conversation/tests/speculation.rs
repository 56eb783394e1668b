//! The request leaves at the first sign of an end.

use super::*;

fn speculating() -> Script {
    let mut call = Script::with(Limits { speculation: true, greeting: false, ..LIMITS });
    call.at(0, Answered, "arm 1").starts(600, "");
    call
}

#[test]
fn what_was_asked_at_the_probable_end_is_kept_at_the_soft_end_and_heard_after_the_hard_end() {
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .soft(1300, "")
        .at(1350, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(1700, HardEnd, "commit 1")
        .at(1800, ended(1, Outcome::Complete), "")
        .at(2300, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn a_soft_end_that_is_measured_a_little_later_is_the_same_end() {
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1").soft(1340, "").at(1700, HardEnd, "commit 1");
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1").soft(1400, "cancel 1, generate 2 for 1");
}

#[test]
fn a_caller_who_goes_on_throws_it_away_and_is_speculated_about_three_times_a_turn() {
    let mut call = speculating();
    for generation in 1..=3u64 {
        let at = 1000 + generation * 500;
        call.probable(at, &format!("speculate {generation} for 1")).at(
            at + 100,
            Resumed,
            &format!("cancel {generation}"),
        );
    }
    call.probable(4000, "")
        .soft(4180, "generate 4 for 1")
        .at(4600, HardEnd, "commit 4")
        .at(4700, clause(4, "Yes."), "speak 4.0 Yes.")
        .at(4710, ended(4, Outcome::Complete), "")
        .at(5000, heard(4, 0, 1.0), "turn 1 Answered, arm 2")
        .starts(6000, "")
        .probable(6500, "speculate 5 for 2");
}

#[test]
fn a_lost_resumption_is_made_up_for_at_the_next_probable_end() {
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1").probable(1130, "").probable(2000, "cancel 1, speculate 2 for 1");
}

#[test]
fn a_probable_end_alone_neither_interrupts_nor_commits() {
    let mut call = Script::with(Limits { speculation: true, ..LIMITS });
    call.at(0, Answered, "greet, arm 1").probable(900, "");
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1200, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(1210, ended(1, Outcome::Complete), "")
        .at(1220, heard(1, 0, 1.0), "")
        .wait_until(11_119, "");
    assert_eq!(call.conversation.phase(), Phase::Thinking);
    // Unless its confirmation, or the opposite, never comes.
    call.wait_until(11_120, "commit 1").at(11_500, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn without_speculation_the_soft_end_asks() {
    Script::listening().starts(600, "").probable(1120, "").soft(1300, "generate 1 for 1");
}

#[test]
fn what_the_model_wants_done_waits_for_the_commit_and_is_forgotten_with_its_answer() {
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1200, Input::EndCallWanted { generation: 1 }, "")
        .at(1210, ended(1, Outcome::Complete), "")
        .at(1250, Resumed, "")
        .soft(2300, "generate 2 for 1")
        .at(2700, HardEnd, "commit 2")
        .at(2800, clause(2, "Yes."), "speak 2.0 Yes.")
        .at(2810, ended(2, Outcome::Complete), "")
        .at(3300, heard(2, 0, 1.0), "turn 1 Answered, arm 2")
        .wait_until(60_000, "");
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1200, Input::EndCallWanted { generation: 1 }, "")
        .at(1210, ended(1, Outcome::Complete), "")
        .soft(1300, "")
        .at(1700, HardEnd, "goodbye");
}

#[test]
fn an_answer_to_words_that_were_not_said_is_asked_for_again_as_long_as_none_of_it_may_be_heard() {
    let otherwise = |generation| Input::HeardOtherwise { generation };
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1200, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(1300, otherwise(1), "cancel 1, speculate 2 for 1")
        .at(1310, clause(1, "of course."), "")
        .at(1320, otherwise(1), "")
        .soft(1330, "")
        .at(1700, HardEnd, "commit 2")
        .at(1710, otherwise(2), "cancel 2, speculate 3 for 1, commit 3")
        .at(1800, clause(3, "No."), "speak 3.0 No.")
        .at(1810, otherwise(3), "")
        .at(1820, ended(3, Outcome::Complete), "")
        .at(2300, heard(3, 0, 1.0), "turn 1 Answered, arm 2")
        .at(2310, otherwise(3), "");
}

#[test]
fn a_request_that_failed_early_is_made_once_more_at_the_soft_end_or_at_the_hard_end() {
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1200, ended(1, Outcome::Failed), "")
        .soft(1300, "generate 2 for 1")
        .at(1350, ended(2, Outcome::Failed), "")
        .at(1700, HardEnd, "apologise");
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1").soft(1300, "").at(1500, ended(1, Outcome::Failed), "").at(
        1700,
        HardEnd,
        "generate 2 for 1, commit 2",
    );
    // Not when something was said, and not when it would be refused again.
    let mut call = speculating();
    call.probable(1120, "speculate 1 for 1")
        .at(1150, clause(1, "Yes,"), "speak 1.0 Yes,")
        .at(1200, ended(1, Outcome::Failed), "")
        .soft(1300, "")
        .at(1700, HardEnd, "commit 1");
    for outcome in [Outcome::Refused, Outcome::Hopeless, Outcome::Unaffordable] {
        speculating().probable(1120, "speculate 1 for 1").at(1200, ended(1, outcome), "").soft(1300, "");
    }
}
