use std::time::Duration;

use super::*;

fn at(zero: Instant, us: u64) -> Instant {
    zero + Duration::from_micros(us)
}

#[test]
fn a_turn_is_reported_in_tenths_of_milliseconds_from_the_end_of_speech() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 2);
    // In no order: each comes from where it happens.
    turn.mark(Mark::GeminiStart, at(zero, 301_260));
    turn.mark(Mark::EndOfUtterance, at(zero, 300_000));
    turn.mark(Mark::SpeechEnd, zero);
    turn.mark(Mark::PlaceholderStart, at(zero, 312_040));
    turn.mark(Mark::AnswerStart, at(zero, 1_010_000));
    turn.placeholder("en-moment");
    let report = turn.report(TurnOutcome::Answered);
    assert_eq!((report.call.as_str(), report.turn, report.placeholder.as_deref()), ("c1", 2, Some("en-moment")));
    assert_eq!(report.end_of_utterance_ms, Some(300.0));
    assert_eq!(report.gemini_start_ms, Some(301.3));
    assert_eq!(report.first_sound_ms, Some(312.0));
    assert_eq!((report.answer_start_ms, report.total_ms), (Some(1010.0), Some(1010.0)));
    assert_eq!(report.answer_end_ms, None);
}

#[test]
fn the_first_time_counts_and_of_ends_the_last() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::SpeechEnd, zero);
    for mark in [Mark::GeminiFirstToken, Mark::GeminiFullResponse, Mark::AnswerStart, Mark::AnswerEnd] {
        for us in [2000, 1000, 3000] {
            turn.mark(mark, at(zero, us));
        }
    }
    let report = turn.report(TurnOutcome::Answered);
    assert_eq!((report.gemini_first_token_ms, report.answer_start_ms), (Some(1.0), Some(1.0)));
    assert_eq!((report.gemini_full_response_ms, report.answer_end_ms), (Some(3.0), Some(3.0)));
}

#[test]
fn a_caller_who_goes_on_starts_the_wait_over() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::SpeechEnd, zero);
    turn.mark(Mark::EndOfUtterance, at(zero, 300_000));
    turn.mark(Mark::PlaceholderStart, at(zero, 310_000));
    turn.placeholder("en-moment");
    turn.mark(Mark::SpeechEnd, at(zero, 2_000_000));
    turn.mark(Mark::SpeechEnd, zero);
    turn.mark(Mark::EndOfUtterance, at(zero, 2_300_000));
    let report = turn.report(TurnOutcome::HungUp);
    assert_eq!((report.resumed, report.end_of_utterance_ms), (1, Some(300.0)));
    assert_eq!((report.placeholder_start_ms, report.placeholder, report.first_sound_ms), (None, None, None));
}

#[test]
fn a_pause_that_was_no_end_is_not_counted_and_its_request_is_wasted() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::SpeechEnd, zero);
    turn.asked(true);
    turn.mark(Mark::GeminiStart, at(zero, 121_000));
    turn.wasted();
    assert!(!turn.report(TurnOutcome::HungUp).speculative);
    turn.mark(Mark::SpeechEnd, at(zero, 2_000_000));
    turn.asked(true);
    // It left before the end was known.
    turn.mark(Mark::GeminiStart, at(zero, 2_121_000));
    turn.mark(Mark::EndOfUtterance, at(zero, 2_300_000));
    let report = turn.report(TurnOutcome::Answered);
    assert_eq!((report.resumed, report.requests, report.requests_wasted, report.speculative), (0, 2, 1, true));
    assert_eq!((report.gemini_start_ms, report.end_of_utterance_ms), (Some(121.0), Some(300.0)));
    assert!(report.summary_line().contains(" requests=2 requests_wasted=1 speculative=true"));
}

#[test]
fn without_an_end_of_speech_there_is_nothing_to_measure_from() {
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::EndOfUtterance, Instant::now());
    assert!(turn.report(TurnOutcome::HungUp).times().iter().all(|(_, ms)| ms.is_none()));
}

#[test]
fn what_happened_before_the_end_of_speech_is_negative() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::SpeechEnd, at(zero, 5000));
    turn.mark(Mark::GeminiStart, zero);
    assert_eq!(turn.report(TurnOutcome::Answered).gemini_start_ms, Some(-5.0));
}

#[test]
fn the_json_of_a_turn_has_every_key_and_null_for_what_did_not_happen() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 1);
    turn.mark(Mark::SpeechEnd, zero);
    turn.mark(Mark::EndOfUtterance, at(zero, 300_000));
    let report = turn.report(TurnOutcome::HungUp);
    let json = serde_json::to_value(&report).unwrap();
    let asked = [
        "end_of_utterance_ms",
        "placeholder_start_ms",
        "gemini_start_ms",
        "gemini_first_token_ms",
        "gemini_full_response_ms",
        "first_clause_ms",
        "tts_start_ms",
        "tts_first_audio_ms",
        "first_sound_ms",
        "answer_start_ms",
        "answer_end_ms",
    ];
    for key in asked {
        assert!(json.as_object().unwrap().contains_key(key), "{key}");
    }
    for (key, ms) in report.times() {
        assert_eq!(json[key].as_f64(), ms, "{key}");
    }
    let times = json.as_object().unwrap().keys().filter(|key| key.ends_with("_ms")).count();
    assert_eq!(times, report.times().len());
    assert_eq!((&json["end_of_utterance_ms"], &json["answer_end_ms"]), (&300.0.into(), &serde_json::Value::Null));
    assert_eq!(json["outcome"], "hung_up");
    assert_eq!(serde_json::from_value::<TurnReport>(json).unwrap(), report);
}

#[test]
fn the_names_of_outcomes_are_the_same_in_the_log_and_in_json() {
    use TurnOutcome::*;
    for outcome in [Answered, Truncated, Interrupted, Apologised, HungUp] {
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
    }
}

#[test]
fn the_summary_is_one_line_of_what_happened() {
    let zero = Instant::now();
    let mut turn = TurnTimeline::new("c1", 3);
    turn.mark(Mark::SpeechEnd, zero);
    turn.mark(Mark::EndOfUtterance, at(zero, 300_040));
    turn.mark(Mark::PlaceholderStart, at(zero, 310_000));
    turn.placeholder("en-moment");
    assert_eq!(
        turn.report(TurnOutcome::HungUp).summary_line(),
        "call=c1 turn=3 outcome=hung_up placeholder=en-moment end_of_utterance_ms=300 placeholder_start_ms=310 first_sound_ms=310"
    );
}

#[test]
fn a_second_request_of_a_turn_keeps_nothing_of_the_first_but_what_was_heard() {
    let zero = Instant::now();
    let after = |ms| zero + Duration::from_millis(ms);
    let mut timeline = TurnTimeline::new("call", 1);
    timeline.mark(Mark::SpeechEnd, zero);
    timeline.mark(Mark::PlaceholderStart, after(300));
    timeline.mark(Mark::GeminiStart, after(301));
    timeline.asked(false);
    timeline.mark(Mark::GeminiStart, after(440));
    let report = timeline.report(TurnOutcome::Answered);
    assert_eq!((report.placeholder_start_ms, report.gemini_start_ms), (Some(300.0), Some(440.0)));
}
