//! Answers whose sound a model makes by itself.

use super::*;

fn sound(generation: Generation, ms: u64) -> Input {
    Input::Sound { generation, length: Duration::from_millis(ms) }
}

fn said(generation: Generation, text: &str) -> Input {
    Input::Said { generation, text: text.into() }
}

#[test]
fn sound_is_one_phrase_and_its_words_are_remembered_as_far_as_they_were_heard() {
    let mut call = Script::asked();
    call.at(1800, said(1, "We open "), "")
        .at(1800, sound(1, 400), "speak 1.0 ")
        .at(1810, sound(1, 400), "")
        .at(1820, said(1, "at nine."), "")
        .at(1830, Input::AnswerStarted { generation: 1 }, "")
        .at(1900, ended(1, Outcome::Complete), "")
        .at(1910, said(1, " Come by."), "")
        .starts(2600, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .at(2610, heard(1, 0, 0.45), "")
        .remembers(&[(1, "We open at", true)]);
}

#[test]
fn sound_after_functions_is_another_phrase() {
    let mut call = Script::asked();
    call.at(1800, sound(1, 400), "speak 1.0 ")
        .at(1800, said(1, "Let me see."), "")
        .at(1900, Input::ToolsRun { generation: 1 }, "")
        .at(2000, Input::ToolsDone { generation: 1 }, "")
        .at(2100, sound(1, 400), "speak 1.1 ")
        .at(2110, said(1, "It was shipped."), "")
        .at(2200, ended(1, Outcome::Complete), "")
        .at(2300, heard(1, 0, 1.0), "")
        .at(2800, heard(1, 1, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Let me see. It was shipped.", false)]);
}

#[test]
fn a_long_answer_is_played_to_its_end_and_one_that_is_too_long_is_cut_off() {
    let mut call = Script::asked();
    call.at(1800, sound(1, 50_000), "speak 1.0 ")
        .at(1810, Input::AnswerStarted { generation: 1 }, "")
        .at(1900, ended(1, Outcome::Complete), "")
        .wait_until(51_000, "")
        .at(51_800, heard(1, 0, 1.0), "turn 1 Answered, arm 2");

    let mut call = Script::with(Limits { longest_answer: Duration::from_secs(2), ..LIMITS });
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
    call.at(1800, sound(1, 1500), "speak 1.0 ")
        .at(1810, sound(1, 1500), "")
        .at(1820, sound(1, 1500), "stop asking 1")
        .at(1830, sound(1, 1500), "");
}

#[test]
fn who_is_lost_before_anything_was_heard_is_replaced_within_the_turn() {
    for committed in [false, true] {
        let mut call = Script::listening();
        call.starts(600, "").soft(1300, "generate 1 for 1");
        if committed {
            call.at(1700, HardEnd, "commit 1");
        } else {
            call.at(1500, sound(1, 200), "speak 1.0 ");
        }
        let again = if committed { "cancel 1, generate 2 for 1, commit 2" } else { "cancel 1, generate 2 for 1" };
        call.at(1710, Input::AnswererLost { generation: 1 }, again).at(1710, ended(1, Outcome::Truncated), "").at(
            1720,
            sound(1, 200),
            "",
        );
    }
    let mut call = Script::asked();
    call.at(1800, sound(1, 400), "speak 1.0 ")
        .at(1900, Input::AnswererLost { generation: 1 }, "")
        .at(1900, ended(1, Outcome::Truncated), "")
        .at(2300, heard(1, 0, 1.0), "turn 1 Truncated, arm 2");
}
