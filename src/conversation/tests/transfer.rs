//! The caller wants a person.

use super::Input::{PersonWanted, TransferFailed};
use super::*;

fn with_a_person(greeting: bool) -> Script {
    let mut call = Script::with(Limits { greeting, transfer_to: Some("620".into()), ..LIMITS });
    call.at(0, Answered, if greeting { "greet, arm 1" } else { "arm 1" });
    call
}

#[test]
fn the_caller_is_handed_over_in_the_middle_of_the_greeting_and_nothing_more_is_said() {
    let mut call = with_a_person(true);
    call.at(100, PersonWanted, "flush, disarm, transfer to 620")
        .at(110, GreetingEnded, "")
        .at(200, PersonWanted, "")
        .starts(300, "")
        .soft(1000, "")
        .at(1400, HardEnd, "")
        .wait_until(60_000, "")
        .at(60_000, HungUp, "flush, disarm");
}

#[test]
fn what_is_being_said_gives_way_and_counts_as_far_as_it_was_heard() {
    let mut call = with_a_person(false);
    call.starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .at(1800, clause(1, "Sure, we open at nine."), "speak 1.0 Sure, we open at nine.")
        .at(2500, PersonWanted, "flush, cancel 1, turn 1 Interrupted, arm 2, disarm, transfer to 620")
        .at(2520, heard(1, 0, 0.5), "");
}

#[test]
fn a_transfer_that_failed_is_apologised_for_and_is_no_turn() {
    let mut call = with_a_person(false);
    call.at(600, PersonWanted, "disarm, transfer to 620")
        .at(5000, TransferFailed, "arm 1, apologise")
        .at(7000, ApologyEnded, "")
        .remembers(&[])
        .starts(8000, "")
        .soft(9000, "generate 1 for 1");
}

#[test]
fn the_caller_may_speak_into_the_apology_for_a_failed_transfer_and_ask_for_the_person_again() {
    let mut call = with_a_person(false);
    call.at(600, PersonWanted, "disarm, transfer to 620")
        .at(5000, TransferFailed, "arm 1, apologise")
        .starts(5500, "flush")
        .soft(6000, "generate 1 for 1")
        .at(6100, PersonWanted, "cancel 1, disarm, transfer to 620");
}

#[test]
fn who_is_on_hold_after_a_failed_transfer_hears_no_apology() {
    let mut call = with_a_person(false);
    call.at(600, PersonWanted, "disarm, transfer to 620")
        .at(700, Held, "")
        .at(5000, TransferFailed, "arm 1")
        .at(5100, PersonWanted, "")
        .at(9000, Retrieved, "")
        .starts(9100, "");
}

#[test]
fn without_a_person_nothing_happens() {
    let mut call = Script::listening();
    call.at(600, PersonWanted, "").at(700, TransferFailed, "");
    assert_eq!(call.conversation.phase(), Phase::Listening);
}
