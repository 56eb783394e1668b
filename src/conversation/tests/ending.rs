//! A caller who says nothing, and a call that we end.

use super::Input::{GoodbyeEnded, KeyPressed, PromptEnded};
use super::*;

const PROMPTS: Limits = Limits { silence_prompt: Duration::from_millis(8000), ..LIMITS };

fn greeted() -> Script {
    let mut call = Script::with(PROMPTS);
    call.at(0, Answered, "greet, arm 1").at(1000, GreetingEnded, "");
    call
}

/// The caller has asked something at 1000 ms, and "Goodbye." is being said, with which the model ends the call.
fn dismissed() -> Script {
    let mut call = Script::asked();
    call.at(1800, clause(1, "Goodbye."), "speak 1.0 Goodbye.")
        .at(1805, Input::EndCallWanted { generation: 1 }, "")
        .at(1810, ended(1, Outcome::Complete), "")
        .at(1900, Input::AnswerStarted { generation: 1 }, "");
    call
}

#[test]
fn a_caller_who_says_nothing_is_asked_once_and_then_the_call_ends_politely() {
    let mut call = greeted();
    call.wait_until(8999, "")
        .wait_until(9000, "prompt")
        .at(10_000, PromptEnded, "")
        .wait_until(17_999, "")
        .wait_until(18_000, "goodbye")
        .at(19_000, GoodbyeEnded, "")
        .wait_until(19_800, "hang up: Silence")
        .wait_until(60_000, "")
        .at(60_000, HungUp, "flush, disarm");
}

#[test]
fn silence_counts_from_the_end_of_what_was_heard_of_us_and_not_while_the_caller_speaks() {
    let mut call = greeted();
    call.starts(8900, "")
        .soft(30_000, "generate 1 for 1")
        .at(30_400, HardEnd, "commit 1")
        .at(30_500, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(30_510, ended(1, Outcome::Complete), "")
        .at(50_000, heard(1, 0, 1.0), "turn 1 Answered, arm 2")
        .wait_until(57_999, "")
        .wait_until(58_000, "prompt");
}

#[test]
fn an_answer_to_the_prompt_goes_on_with_the_call_and_may_be_one_word() {
    let mut call = Script::with(Limits { barge_in: Duration::from_millis(500), ..PROMPTS });
    call.at(0, Answered, "greet, arm 1")
        .at(1000, GreetingEnded, "")
        .wait_until(9000, "prompt")
        .starts(9500, "")
        .probable(9800, "flush")
        .soft(9980, "generate 1 for 1")
        .at(10_400, HardEnd, "commit 1")
        .at(10_500, clause(1, "Good."), "speak 1.0 Good.")
        .at(10_510, ended(1, Outcome::Complete), "")
        .at(11_000, heard(1, 0, 1.0), "turn 1 Answered, arm 2")
        // The next silence begins with a prompt again.
        .wait_until(19_000, "prompt");
}

#[test]
fn a_caller_may_speak_into_the_goodbye_and_after_it() {
    let closing = || {
        let mut call = greeted();
        call.wait_until(9000, "prompt").at(10_000, PromptEnded, "").wait_until(18_000, "goodbye");
        call
    };
    let mut call = closing();
    call.starts(18_500, "flush").at(18_510, GoodbyeEnded, "").soft(20_000, "generate 1 for 1");
    let mut call = closing();
    call.at(19_000, GoodbyeEnded, "").starts(19_700, "").wait_until(21_000, "").soft(22_000, "generate 1 for 1");
}

#[test]
fn a_key_is_a_sign_of_life() {
    let mut call = greeted();
    call.at(8000, KeyPressed, "").wait_until(15_999, "").wait_until(16_000, "prompt").at(16_500, PromptEnded, "");
    call.at(20_000, KeyPressed, "").wait_until(28_000, "prompt");
}

#[test]
fn a_call_on_hold_is_not_asked_for_a_word() {
    let mut call = greeted();
    call.at(2000, Held, "arm 1")
        .wait_until(60_000, "")
        .at(60_000, Retrieved, "")
        .wait_until(67_999, "")
        .wait_until(68_000, "prompt");
}

#[test]
fn clips_whose_ends_are_lost_do_not_hold_the_call() {
    let mut call = Script::with(PROMPTS);
    call.at(0, Answered, "greet, arm 1")
        .wait_until(30_000, "flush")
        .wait_until(38_000, "prompt")
        .wait_until(68_000, "flush")
        .wait_until(76_000, "goodbye")
        .wait_until(106_000, "flush")
        .wait_until(106_800, "hang up: Silence");
}

#[test]
fn the_model_ends_the_call_when_its_answer_was_heard_to_the_end() {
    let mut call = dismissed();
    call.wait_until(2500, "")
        .at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Goodbye.", false)])
        .wait_until(3299, "");
    assert_eq!(call.conversation.phase(), Phase::Closing);
    call.wait_until(3300, "hang up: Goodbye").starts(3310, "").soft(4500, "").at(4900, HardEnd, "");
}

#[test]
fn a_caller_who_speaks_before_the_hang_up_keeps_the_call() {
    let mut call = dismissed();
    call.starts(2400, "flush, cancel 1, turn 1 Interrupted, arm 2").soft(3500, "generate 2 for 2");
    let mut call = dismissed();
    call.at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2")
        .starts(3200, "")
        .wait_until(4000, "")
        .soft(4500, "generate 2 for 2");
}

#[test]
fn a_cough_before_the_hang_up_only_delays_it() {
    let mut call = Script::with(Limits { barge_in: Duration::from_millis(500), greeting: false, ..LIMITS });
    call.at(0, Answered, "arm 1")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .at(1800, clause(1, "Goodbye."), "speak 1.0 Goodbye.")
        .at(1805, Input::EndCallWanted { generation: 1 }, "")
        .at(1810, ended(1, Outcome::Complete), "")
        .at(1900, Input::AnswerStarted { generation: 1 }, "")
        .starts(2400, "")
        .at(2405, heard(1, 0, 1.0), "turn 1 Answered, arm 2")
        .probable(2700, "resume")
        .wait_until(3205, "hang up: Goodbye");
}

#[test]
fn a_model_that_only_ends_the_call_lets_the_goodbye_be_said() {
    let mut call = Script::asked();
    call.at(1800, Input::EndCallWanted { generation: 1 }, "")
        .at(1810, ended(1, Outcome::Complete), "goodbye")
        .at(1820, HardEnd, "")
        .soft(1900, "flush, turn 1 Interrupted, arm 2, generate 2 for 2");
    let mut call = Script::asked();
    call.at(1800, Input::EndCallWanted { generation: 1 }, "")
        .at(1810, ended(1, Outcome::Complete), "goodbye")
        .at(3000, GoodbyeEnded, "turn 1 Answered, arm 2")
        .wait_until(3800, "hang up: Goodbye");
}

#[test]
fn who_hangs_up_while_the_call_is_being_closed_ends_everything() {
    let mut call = Script::asked();
    call.at(1800, Input::EndCallWanted { generation: 1 }, "")
        .at(1810, ended(1, Outcome::Complete), "goodbye")
        .at(2000, HungUp, "flush, disarm, turn 1 HungUp")
        .wait_until(60_000, "");
    let mut call = dismissed();
    call.at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2").at(2600, HungUp, "flush, disarm").wait_until(60_000, "");
}
