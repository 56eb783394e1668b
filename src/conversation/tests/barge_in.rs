//! The caller is heard while something of ours is: what is meant, and what is not.

use super::*;

const UNDO: Limits =
    Limits { barge_in: Duration::from_millis(500), between_tokens: Duration::from_millis(10_000), ..LIMITS };

/// "Sure, we open at nine." is being said, and is heard since 1920 ms.
fn answering() -> Script {
    let mut call = Script::with(Limits { greeting: false, ..UNDO });
    call.at(0, Answered, "arm 1")
        .starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(1900, clause(1, "we open at nine."), "speak 1.1 we open at nine.")
        .at(1920, Input::AnswerStarted { generation: 1 }, "");
    call
}

#[test]
fn a_cough_takes_nothing_of_the_answer_and_is_no_turn() {
    let mut call = answering();
    call.starts(3000, "")
        .probable(3320, "resume")
        .at(3330, ended(1, Outcome::Complete), "")
        .soft(3500, "")
        .at(3900, HardEnd, "")
        .at(4100, heard(1, 0, 1.0), "")
        .at(5000, heard(1, 1, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Sure, we open at nine.", false)])
        .wait_until(60_000, "");
}

#[test]
fn a_short_sound_is_passed_over_at_its_soft_end_at_the_latest() {
    let mut call = Script::with(UNDO);
    call.at(0, Answered, "greet, arm 1").starts(700, "").soft(1300, "resume").at(1700, HardEnd, "").at(
        3000,
        GreetingEnded,
        "",
    );
}

#[test]
fn a_voice_that_lasts_is_a_barge_in_as_soon_as_it_cannot_be_short_any_more() {
    let mut call = answering();
    call.at(2300, heard(1, 0, 1.0), "")
        .starts(3000, "")
        .wait_until(3679, "")
        .wait_until(3680, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .at(3690, heard(1, 1, 0.5), "")
        .remembers(&[(1, "Sure, we open", true)])
        .soft(5000, "generate 2 for 2")
        .at(5400, HardEnd, "commit 2");
    // It lasted, and the report of that came before the deadline.
    answering()
        .starts(3000, "")
        .probable(3640, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .soft(3820, "generate 2 for 2");
}

#[test]
fn a_second_sound_soon_after_one_that_was_passed_over_is_meant() {
    let mut call = answering();
    call.starts(3000, "")
        .probable(3300, "resume")
        .soft(3480, "")
        .at(3880, HardEnd, "")
        .starts(4500, "")
        .probable(4800, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .soft(4980, "generate 2 for 2");
    // Long after it, it is another cough.
    let mut call = answering();
    call.starts(3000, "")
        .probable(3300, "resume")
        .soft(3480, "")
        .at(3880, HardEnd, "")
        .starts(6400, "")
        .probable(6700, "resume");
}

#[test]
fn a_cough_in_two_is_one_and_a_sound_that_goes_on_for_long_is_none() {
    let mut call = answering();
    call.starts(3000, "").probable(3250, "resume").at(3300, Resumed, "").probable(3500, "resume").at(4100, HardEnd, "");
    let mut call = answering();
    call.starts(3000, "")
        .probable(3250, "resume")
        .soft(3430, "")
        .at(3600, Resumed, "")
        .wait_until(3780, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .soft(5000, "generate 2 for 2");
    // A click within the pause does not make it longer.
    let mut call = answering();
    let speech_end = call.start + Duration::from_millis(3130);
    call.starts(3000, "")
        .at(3250, Input::ProbableEnd { speech_end }, "resume")
        .at(3600, Resumed, "")
        .at(3700, Input::SoftEnd { speech_end }, "resume")
        .at(3900, HardEnd, "")
        .wait_until(6000, "");
}

#[test]
fn lost_reports_of_a_sound_in_doubt_lose_no_speech() {
    answering().starts(3000, "").at(
        3400,
        HardEnd,
        "flush, cancel 1, turn 1 Interrupted, arm 2, generate 2 for 2, commit 2",
    );
    // Its resumption was lost.
    answering()
        .starts(3000, "")
        .probable(3250, "resume")
        .soft(5000, "flush, cancel 1, turn 1 Interrupted, arm 2, generate 2 for 2");
}

#[test]
fn the_answer_goes_on_being_made_while_it_is_in_doubt() {
    let mut call = answering();
    call.starts(3000, "")
        .at(3100, clause(1, "And on Friday at ten."), "speak 1.2 And on Friday at ten.")
        .at(3110, ended(1, Outcome::Complete), "")
        .probable(3300, "resume")
        .at(4000, heard(1, 0, 1.0), "")
        .at(5000, heard(1, 1, 1.0), "")
        .at(6000, heard(1, 2, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn a_word_into_our_last_words_answers_them() {
    // It ends before we do, and is confirmed behind our end, or before it.
    for hard_end in [4200, 3950] {
        let mut call = answering();
        call.at(2000, ended(1, Outcome::Complete), "")
            .at(2500, heard(1, 0, 1.0), "")
            .starts(3000, "")
            .probable(3320, "resume");
        let answered = "turn 1 Answered, arm 2, generate 2 for 2";
        if hard_end < 4000 {
            let answered = format!("{answered}, commit 2");
            call.at(hard_end, HardEnd, "").at(4000, heard(1, 1, 1.0), &answered);
        } else {
            call.at(4000, heard(1, 1, 1.0), answered).at(hard_end, HardEnd, "commit 2");
        }
        assert_eq!(call.conversation.phase(), Phase::Thinking);
    }
    // Long before the end it is a cough, and no turn.
    let mut call = answering();
    call.at(2000, ended(1, Outcome::Complete), "")
        .at(2500, heard(1, 0, 1.0), "")
        .starts(3000, "")
        .probable(3320, "resume")
        .at(3950, HardEnd, "")
        .at(4400, heard(1, 1, 1.0), "turn 1 Answered, arm 2");
    assert_eq!(call.conversation.phase(), Phase::Listening);
    // A yes into the end of the greeting's question.
    let mut call = Script::with(UNDO);
    call.at(0, Answered, "greet, arm 1")
        .starts(3000, "")
        .probable(3320, "resume")
        .at(3600, GreetingEnded, "generate 1 for 1")
        .at(3950, HardEnd, "commit 1");
}

#[test]
fn a_cough_while_the_placeholder_plays_does_not_ask_again() {
    let mut call = Script::with(Limits { greeting: false, ..UNDO });
    call.at(0, Answered, "arm 1")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .starts(1800, "")
        .probable(2100, "resume")
        .at(2150, clause(1, "Sure."), "speak 1.0 Sure.")
        .at(2160, ended(1, Outcome::Complete), "")
        .at(2900, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn a_caller_who_goes_on_while_the_placeholder_plays_is_in_the_same_turn() {
    let mut call = Script::with(Limits { greeting: false, ..UNDO });
    call.at(0, Answered, "arm 1")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .starts(1800, "")
        .wait_until(2480, "flush, cancel 1, arm 1")
        .soft(3300, "generate 2 for 1")
        .at(3700, HardEnd, "commit 2");
}

#[test]
fn both_start_together_and_the_caller_is_still_in_the_same_turn() {
    // Queued and not heard, and heard for less than 400 ms: either way nothing was understood.
    for onset in [1910, 2300] {
        let mut call = answering();
        call.starts(onset, "")
            .wait_until(onset + 680, "flush, cancel 1, arm 1")
            .at(onset + 690, heard(1, 0, 0.7), "")
            .remembers(&[])
            .soft(4000, "generate 2 for 1")
            .at(4400, HardEnd, "commit 2")
            .at(4500, clause(2, "Yes."), "speak 2.0 Yes.")
            .at(4510, ended(2, Outcome::Complete), "")
            .at(5000, heard(2, 0, 1.0), "turn 1 Answered, arm 2")
            .remembers(&[(1, "Yes.", false)]);
    }
    let mut call = answering();
    call.starts(2320, "").wait_until(3000, "flush, cancel 1, turn 1 Interrupted, arm 2");
}

#[test]
fn a_barge_in_may_turn_out_to_be_one_when_nothing_plays_any_more() {
    let mut call = answering();
    call.at(2400, ended(1, Outcome::Complete), "")
        .at(2500, heard(1, 0, 1.0), "")
        .starts(3000, "")
        .at(3010, heard(1, 1, 1.0), "turn 1 Answered, arm 2")
        .wait_until(3680, "flush")
        .soft(4500, "generate 2 for 2");
    assert_eq!(call.conversation.phase(), Phase::Thinking);
}

#[test]
fn a_word_into_the_greeting_or_the_apology_is_passed_over_and_more_of_it_stops_them() {
    let mut call = Script::with(UNDO);
    call.at(0, Answered, "greet, arm 1").starts(700, "").probable(1100, "resume").at(1500, HardEnd, "");
    let mut call = Script::with(UNDO);
    call.at(0, Answered, "greet, arm 1").starts(700, "").wait_until(1380, "flush").soft(2500, "generate 1 for 1");
    let mut call = Script::with(Limits { greeting: false, ..UNDO });
    call.at(0, Answered, "arm 1")
        .at(900, HardEnd, "generate 1 for 1, commit 1")
        .at(1000, ended(1, Outcome::Failed), "apologise")
        .starts(1500, "")
        .probable(1800, "resume")
        .starts(5500, "")
        .wait_until(6180, "flush, turn 1 Apologised, arm 2");
}

#[test]
fn hold_hang_up_and_a_person_end_the_doubt() {
    let mut call = answering();
    call.starts(3000, "").at(3100, Held, "flush, cancel 1, turn 1 Interrupted, arm 2").wait_until(9000, "");
    let mut call = answering();
    call.starts(3000, "").at(3100, HungUp, "cancel 1, flush, disarm, turn 1 HungUp").wait_until(9000, "");
    let mut call = Script::with(Limits { transfer_to: Some("620".into()), ..UNDO });
    call.at(0, Answered, "greet, arm 1").starts(500, "").at(600, Input::PersonWanted, "flush, disarm, transfer to 620");
    call.wait_until(9000, "");
}
