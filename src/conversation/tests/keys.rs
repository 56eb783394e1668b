//! A caller who presses keys: what is keyed in is a turn.

use super::Input::{KeyPressed, KeysEntered};
use super::*;

#[test]
fn what_is_keyed_in_is_asked_for_and_answered_at_once() {
    let mut call = Script::listening();
    call.at(2000, KeyPressed, "")
        .at(2300, KeyPressed, "")
        .at(2300, KeysEntered, "generate 1 for 1, commit 1")
        .at(2900, clause(1, "Thank you."), "speak 1.0 Thank you.")
        .at(2950, ended(1, Outcome::Complete), "")
        .at(3900, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn keys_into_the_greeting_or_an_answer_silence_it() {
    let mut call = Script::with(LIMITS);
    call.at(0, Answered, "greet, arm 1").at(700, KeysEntered, "flush, generate 1 for 1, commit 1");
    let mut call = Script::answering();
    call.at(2800, KeysEntered, "flush, cancel 1, turn 1 Interrupted, arm 2, generate 2 for 2, commit 2");
}

#[test]
fn keys_replace_an_answer_that_was_asked_without_them() {
    let mut call = Script::listening();
    call.starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1400, KeysEntered, "cancel 1, generate 2 for 1, commit 2")
        .at(1700, HardEnd, "");
}

#[test]
fn keys_before_the_answer_and_after_the_end_are_nothing() {
    let mut call = Script::with(LIMITS);
    call.at(0, KeysEntered, "").at(100, Answered, "greet, arm 1").at(200, HungUp, "flush, disarm");
    call.at(300, KeysEntered, "");
}
