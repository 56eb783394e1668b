//! Conversations as scripts in virtual time: when, what happened, what is done about it.

use std::time::{Duration, Instant};

use super::Input::{Answered, ApologyEnded, GreetingEnded, HardEnd, Held, HungUp, Resumed, Retrieved};
use super::*;

mod barge_in;
mod ending;
mod hold;
mod invariants;
mod keys;
mod ladder;
mod speculation;
mod speech;
mod transfer;

pub(super) const LIMITS: Limits = Limits {
    first_token: Duration::from_millis(4000),
    between_tokens: Duration::from_millis(3000),
    whole_answer: Duration::from_millis(20_000),
    history_exchanges: 3,
    greeting: true,
    placeholder: true,
    speculation: false,
    barge_in: Duration::ZERO,
    silence_prompt: Duration::ZERO,
    transfer_to: None,
    first_sound: Duration::from_secs(60),
    quiet: Duration::from_secs(60),
    tools: Duration::from_millis(5000),
    longest_answer: Duration::ZERO,
    longest_call: Duration::ZERO,
    apologies: 2,
    remedies: [None; 3],
    voicemail: false,
    messages_only: false,
};

/// A call that is played from a script. Deadlines fire by themselves on the way from one line to the next.
struct Script {
    conversation: Conversation,
    start: Instant,
    history: Vec<Exchange>,
}

impl Script {
    fn with(limits: Limits) -> Self {
        Self { conversation: Conversation::new(limits), start: Instant::now(), history: Vec::new() }
    }

    /// A call after its greeting.
    fn listening() -> Self {
        let mut call = Self::with(LIMITS);
        call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
        call
    }

    /// A call whose caller has asked something: ended at 1000 ms, soft at 1300, hard at 1700.
    fn asked() -> Self {
        let mut call = Self::listening();
        call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
        call
    }

    /// The same, and "Sure, we open at nine." is being said.
    fn answering() -> Self {
        let mut call = Self::asked();
        call.at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
            .at(1900, clause(1, "we open at nine."), "speak 1.1 we open at nine.")
            .at(1910, ended(1, Outcome::Complete), "")
            .at(1920, Input::AnswerStarted { generation: 1 }, "");
        call
    }

    fn at(&mut self, ms: u64, input: Input, commands: &str) -> &mut Self {
        let now = self.run_to(ms);
        let shown = format!("{ms} ms: {input:?}");
        self.conversation.handle(now, input);
        self.expect(&shown, commands)
    }

    /// The caller's voice, from just before.
    fn starts(&mut self, ms: u64, commands: &str) -> &mut Self {
        let onset = self.start + Duration::from_millis(ms);
        self.at(ms, Input::CallerStarted { onset }, commands)
    }

    /// The endpointer's first sign of an end, 120 ms after the caller's last voiced sample.
    fn probable(&mut self, ms: u64, commands: &str) -> &mut Self {
        let speech_end = self.start + Duration::from_millis(ms.saturating_sub(120));
        self.at(ms, Input::ProbableEnd { speech_end }, commands)
    }

    /// The endpointer's soft end, 300 ms after the caller's last voiced sample.
    fn soft(&mut self, ms: u64, commands: &str) -> &mut Self {
        let speech_end = self.start + Duration::from_millis(ms.saturating_sub(300));
        self.at(ms, Input::SoftEnd { speech_end }, commands)
    }

    fn wait_until(&mut self, ms: u64, commands: &str) -> &mut Self {
        self.run_to(ms);
        self.expect(&format!("until {ms} ms"), commands)
    }

    fn remembers(&mut self, exchanges: &[(Turn, &str, bool)]) -> &mut Self {
        let history: Vec<_> = self.conversation.history().map(|e| (e.turn, e.heard.as_str(), e.interrupted)).collect();
        assert_eq!(history, exchanges);
        self
    }

    fn run_to(&mut self, ms: u64) -> Instant {
        let now = self.start + Duration::from_millis(ms);
        while let Some((at, _)) = self.conversation.poll_timeout().filter(|(at, _)| *at <= now) {
            self.conversation.handle_timeout(at);
            assert_ne!(
                self.conversation.poll_timeout().map(|(at, _)| at),
                Some(at),
                "a deadline that does not go away"
            );
        }
        now
    }

    fn expect(&mut self, step: &str, commands: &str) -> &mut Self {
        let mut done = Vec::new();
        while let Some(command) = self.conversation.poll() {
            if let Command::Generate { history, .. } = &command {
                self.history = history.to_vec();
            }
            done.push(brief(&command));
        }
        assert_eq!(done.join(", "), commands, "{step}");
        self
    }
}

fn brief(command: &Command) -> String {
    match command {
        Command::Greet => "greet".into(),
        Command::ArmPlaceholder { turn } => format!("arm {turn}"),
        Command::DisarmPlaceholder => "disarm".into(),
        Command::Generate { generation, turn, speculative: false, .. } => format!("generate {generation} for {turn}"),
        Command::Generate { generation, turn, .. } => format!("speculate {generation} for {turn}"),
        Command::Cancel { generation } => format!("cancel {generation}"),
        Command::StopAsking { generation } => format!("stop asking {generation}"),
        Command::Commit { generation } => format!("commit {generation}"),
        Command::Speak { generation, seq, text } => format!("speak {generation}.{seq} {text}"),
        Command::FlushPlayout => "flush".into(),
        Command::ResumePlayout => "resume".into(),
        Command::Prompt => "prompt".into(),
        Command::SayGoodbye => "goodbye".into(),
        Command::HangUp { why } => format!("hang up: {why:?}"),
        Command::Apologise => "apologise".into(),
        Command::Recite { generation, sentence } => format!("recite {generation} {sentence:?}"),
        Command::Bridge => "bridge".into(),
        Command::TakeMessage { tone } => format!("take a message{}", if *tone { " after a tone" } else { "" }),
        Command::Transfer { to } => format!("transfer to {to}"),
        Command::TurnEnded { turn, outcome } => format!("turn {turn} {outcome:?}"),
    }
}

fn clause(generation: Generation, text: &str) -> Input {
    Input::Clause { generation, text: text.into() }
}

fn token(generation: Generation) -> Input {
    Input::Token { generation }
}

fn ended(generation: Generation, outcome: Outcome) -> Input {
    Input::GenerationEnded { generation, outcome }
}

fn heard(generation: Generation, seq: Seq, share: f32) -> Input {
    Input::PhraseHeard { generation, seq, share }
}

fn failed(generation: Generation, seq: Seq) -> Input {
    Input::PhraseFailed { generation, seq }
}

#[test]
fn a_caller_asks_twice_and_hears_two_answers() {
    let mut call = Script::with(LIMITS);
    call.at(0, Answered, "greet, arm 1")
        .at(1500, GreetingEnded, "")
        .starts(2000, "")
        .soft(3300, "generate 1 for 1")
        .at(3700, HardEnd, "commit 1")
        .at(3800, token(1), "")
        .at(3850, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(3900, clause(1, "we open at nine."), "speak 1.1 we open at nine.")
        .at(3910, ended(1, Outcome::Complete), "")
        .at(4500, heard(1, 0, 1.0), "")
        .at(5600, heard(1, 1, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Sure, we open at nine.", false)])
        .starts(6000, "")
        .soft(7300, "generate 2 for 2");
    assert_eq!(call.history, [Exchange { turn: 1, heard: "Sure, we open at nine.".into(), interrupted: false }]);
    call.at(7400, clause(2, "Goodbye."), "speak 2.0 Goodbye.")
        .at(7410, ended(2, Outcome::Complete), "")
        .at(7700, HardEnd, "commit 2")
        .at(8500, heard(2, 0, 1.0), "turn 2 Answered, arm 3");
}

#[test]
fn without_greeting_and_placeholder_the_call_opens_silently() {
    let mut call = Script::with(Limits { greeting: false, placeholder: false, ..LIMITS });
    call.at(0, Answered, "")
        .at(100, Answered, "")
        .starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1700, HardEnd, "commit 1")
        .at(1800, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(1810, ended(1, Outcome::Complete), "")
        .at(2400, heard(1, 0, 1.0), "turn 1 Answered")
        .at(2500, HungUp, "flush");
}

#[test]
fn a_caller_who_speaks_into_the_greeting_stops_it() {
    Script::with(LIMITS)
        .at(0, Answered, "greet, arm 1")
        .starts(700, "flush")
        .at(710, GreetingEnded, "")
        .soft(1600, "generate 1 for 1");
}

#[test]
fn a_caller_who_pauses_700_ms_gets_exactly_one_committed_answer() {
    Script::listening()
        .starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1500, clause(1, "Which"), "speak 1.0 Which")
        .at(1690, Resumed, "cancel 1")
        .at(1700, clause(1, "one?"), "")
        .soft(3300, "generate 2 for 1")
        .at(3310, ended(1, Outcome::Complete), "")
        .at(3700, HardEnd, "commit 2")
        .at(3800, clause(2, "Sure."), "speak 2.0 Sure.")
        .at(3810, ended(2, Outcome::Complete), "")
        .at(4600, heard(2, 0, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Sure.", false)]);
}

#[test]
fn a_turn_can_be_resumed_twice() {
    Script::listening()
        .starts(600, "")
        .soft(1300, "generate 1 for 1")
        .at(1400, Resumed, "cancel 1")
        .soft(2300, "generate 2 for 1")
        .at(2400, Resumed, "cancel 2")
        .at(2410, Resumed, "")
        .soft(3300, "generate 3 for 1")
        .at(3700, HardEnd, "commit 3");
}

#[test]
fn what_is_late_of_a_cancelled_answer_is_ignored() {
    Script::listening()
        .soft(1300, "generate 1 for 1")
        .at(1350, clause(1, "Well,"), "speak 1.0 Well,")
        .at(1400, Resumed, "cancel 1")
        .soft(2300, "generate 2 for 1")
        .at(2310, token(1), "")
        .at(2320, clause(1, "yes."), "")
        .at(2330, failed(1, 0), "")
        .at(2340, ended(1, Outcome::Failed), "")
        .at(2700, HardEnd, "commit 2")
        .at(2710, heard(1, 0, 1.0), "")
        .at(2720, clause(2, "No."), "speak 2.0 No.")
        .at(2730, ended(2, Outcome::Complete), "")
        .at(2740, clause(2, "Or maybe."), "")
        .at(3300, heard(2, 0, 1.0), "turn 1 Answered, arm 2")
        .at(3310, heard(2, 0, 1.0), "")
        .at(3320, ended(2, Outcome::Failed), "")
        .at(3330, ApologyEnded, "")
        .remembers(&[(1, "No.", false)]);
}

#[test]
fn a_hard_end_alone_asks_and_commits() {
    Script::listening().starts(600, "").at(1700, HardEnd, "generate 1 for 1, commit 1").at(1710, HardEnd, "");
    Script::with(LIMITS).at(0, Answered, "greet, arm 1").at(900, HardEnd, "flush, generate 1 for 1, commit 1");
}

#[test]
fn lost_reports_of_the_callers_voice_are_made_up_for() {
    // The resumption was lost.
    Script::listening().soft(1300, "generate 1 for 1").soft(1310, "cancel 1, generate 2 for 1");
    // The start of a barge-in was lost; a soft end that is only late is none.
    let mut call = Script::answering();
    let late = Input::SoftEnd { speech_end: call.start + Duration::from_millis(1000) };
    call.at(2000, late, "").soft(3000, "flush, cancel 1, turn 1 Interrupted, arm 2, generate 2 for 2");
}

#[test]
fn a_barge_in_silences_at_once_and_keeps_what_was_heard() {
    Script::answering()
        .at(2300, heard(1, 0, 1.0), "")
        .starts(2800, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .remembers(&[(1, "Sure,", true)])
        .at(2801, heard(1, 1, 0.5), "")
        .remembers(&[(1, "Sure, we open", true)])
        .soft(4000, "generate 2 for 2")
        .at(4400, HardEnd, "commit 2");
}

#[test]
fn a_report_of_the_cut_may_come_before_the_barge_in() {
    Script::answering()
        .at(2300, heard(1, 0, 1.0), "")
        .at(2800, heard(1, 1, 0.5), "turn 1 Interrupted, arm 2")
        .starts(2801, "")
        .remembers(&[(1, "Sure, we open", true)])
        .at(4400, HardEnd, "generate 2 for 2, commit 2");
    Script::answering()
        .at(2400, heard(1, 0, 0.0), "")
        .starts(2401, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .remembers(&[(1, "", true)]);
}

#[test]
fn an_answer_that_had_just_ended_was_not_interrupted() {
    Script::answering()
        .at(2300, heard(1, 0, 1.0), "")
        .starts(3000, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .at(3001, heard(1, 1, 1.0), "")
        .remembers(&[(1, "Sure, we open at nine.", false)]);
}

#[test]
fn a_barge_in_stops_the_model_as_well() {
    Script::asked()
        .at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(1850, Input::AnswerStarted { generation: 1 }, "")
        .starts(2300, "flush, cancel 1, turn 1 Interrupted, arm 2")
        .at(2310, clause(1, "we open at nine."), "")
        .at(2320, ended(1, Outcome::Complete), "")
        .wait_until(60_000, "");
}

#[test]
fn a_caller_who_goes_on_before_anything_is_said_is_still_in_the_same_turn() {
    Script::asked()
        .at(1800, token(1), "")
        .starts(1900, "flush, cancel 1, arm 1")
        .soft(3300, "generate 2 for 1")
        .at(3700, HardEnd, "commit 2")
        .at(3800, clause(2, "Sure."), "speak 2.0 Sure.")
        .at(3810, ended(2, Outcome::Complete), "")
        .at(4500, heard(2, 0, 1.0), "turn 1 Answered, arm 2")
        .remembers(&[(1, "Sure.", false)]);
}

#[test]
fn a_silent_model_is_given_up_after_its_time_to_the_first_token() {
    let mut call = Script::asked();
    assert_eq!(call.conversation.poll_timeout(), Some((call.start + Duration::from_millis(5300), Timer::FirstToken)));
    call.wait_until(5299, "")
        .wait_until(5300, "cancel 1, apologise")
        .at(5400, clause(1, "Sorry, I was asleep."), "")
        .at(7000, ApologyEnded, "turn 1 Apologised, arm 2")
        .remembers(&[(1, "", false)]);
}

#[test]
fn a_model_that_falls_silent_is_not_waited_for_but_what_it_said_is_heard() {
    Script::asked()
        .at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(2500, heard(1, 0, 1.0), "")
        .at(4000, token(1), "")
        .wait_until(6999, "")
        .wait_until(7000, "stop asking 1, turn 1 Truncated, arm 2")
        .remembers(&[(1, "Sure,", false)]);
    Script::asked()
        .at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
        .wait_until(4800, "stop asking 1")
        .at(4850, ended(1, Outcome::Complete), "")
        .at(4900, heard(1, 0, 1.0), "turn 1 Truncated, arm 2");
    Script::asked().at(1800, token(1), "").wait_until(4800, "cancel 1, apologise");
}

#[test]
fn a_clip_over_the_wait_promises_the_rest_from_when_it_was_ordered() {
    let mut call = Script::with(Limits { quiet: Duration::from_millis(4490), ..LIMITS });
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
    call.at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
        .at(2500, heard(1, 0, 1.0), "")
        .at(4000, token(1), "")
        .wait_until(6990, "bridge")
        .wait_until(7000, "stop asking 1, turn 1 Truncated, arm 2, apologise")
        .at(7010, Input::BridgeStarted, "");
}

#[test]
fn a_model_that_never_ends_is_stopped() {
    let mut call = Script::asked();
    for second in 2..=21 {
        call.at(second * 1000, token(1), "");
    }
    call.wait_until(21_300, "cancel 1, apologise");
}

#[test]
fn a_failure_before_the_commit_waits_for_it() {
    Script::listening()
        .soft(1300, "generate 1 for 1")
        .at(1400, ended(1, Outcome::Failed), "")
        .at(1700, HardEnd, "apologise")
        .at(3000, ApologyEnded, "turn 1 Apologised, arm 2");
    Script::listening()
        .soft(1300, "generate 1 for 1")
        .at(1400, ended(1, Outcome::Failed), "")
        .at(1500, Resumed, "")
        .soft(2500, "generate 2 for 1");
}

#[test]
fn a_failure_after_the_commit_is_apologised_for_at_once() {
    for outcome in [Outcome::Failed, Outcome::Complete, Outcome::Truncated] {
        Script::asked().at(1800, token(1), "").at(1900, ended(1, outcome), "apologise").at(
            3000,
            ApologyEnded,
            "turn 1 Apologised, arm 2",
        );
    }
}

#[test]
fn a_cut_off_answer_stands_as_far_as_it_went() {
    for outcome in [Outcome::Failed, Outcome::Truncated] {
        Script::asked()
            .at(1800, clause(1, "Sure,"), "speak 1.0 Sure,")
            .at(1900, ended(1, outcome), "")
            .at(2500, heard(1, 0, 1.0), "turn 1 Truncated, arm 2")
            .remembers(&[(1, "Sure,", false)]);
    }
}

#[test]
fn nothing_counts_as_heard_before_the_commit() {
    Script::listening()
        .soft(1300, "generate 1 for 1")
        .at(1400, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(1410, ended(1, Outcome::Complete), "")
        .at(1500, heard(1, 0, 0.2), "")
        .at(1700, HardEnd, "commit 1")
        .at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn a_phrase_that_fails_is_skipped() {
    Script::answering().at(2000, failed(1, 0), "").at(3000, heard(1, 1, 1.0), "turn 1 Answered, arm 2").remembers(&[(
        1,
        "we open at nine.",
        false,
    )]);
}

#[test]
fn an_answer_that_cannot_be_spoken_is_apologised_for() {
    Script::answering().at(2000, failed(1, 0), "").at(2010, failed(1, 1), "apologise");
    // Before the commit, too; and then the caller's voice finds nothing that was said.
    Script::listening()
        .soft(1300, "generate 1 for 1")
        .at(1400, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(1410, failed(1, 0), "")
        .at(1420, ended(1, Outcome::Complete), "")
        .at(1700, HardEnd, "apologise");
}

#[test]
fn a_caller_stops_the_apology() {
    Script::asked()
        .at(1900, ended(1, Outcome::Failed), "apologise")
        .at(2000, HardEnd, "")
        .starts(2500, "flush, turn 1 Apologised, arm 2")
        .at(2501, ApologyEnded, "")
        .soft(4000, "generate 2 for 2");
}

#[test]
fn a_lost_report_of_the_playout_does_not_hold_the_turn_for_ever() {
    Script::answering().at(2300, heard(1, 0, 1.0), "").wait_until(32_300, "cancel 1, flush, turn 1 Answered, arm 2");
    Script::asked()
        .at(1900, ended(1, Outcome::Failed), "apologise")
        .wait_until(31_900, "flush, turn 1 Apologised, arm 2");
}

#[test]
fn blank_clauses_are_not_spoken() {
    Script::asked()
        .at(1800, clause(1, " \n"), "")
        .at(1900, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(1910, ended(1, Outcome::Complete), "")
        .at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let mut call = Script::asked();
    for seq in 0..128 {
        call.at(1800, clause(1, "la"), &format!("speak 1.{seq} la"));
    }
    call.at(1900, clause(1, "la"), "stop asking 1").at(1910, clause(1, "la"), "");
}

#[test]
fn old_exchanges_are_forgotten() {
    let mut call = Script::listening();
    for turn in 1..=5 {
        let at = u64::from(turn) * 10_000;
        call.soft(at, &format!("generate {turn} for {turn}"))
            .at(at + 400, HardEnd, &format!("commit {turn}"))
            .at(at + 500, clause(turn, "Yes."), &format!("speak {turn}.0 Yes."))
            .at(at + 510, ended(turn, Outcome::Complete), "")
            .at(at + 900, heard(turn, 0, 1.0), &format!("turn {turn} Answered, arm {}", turn + 1));
    }
    call.remembers(&[(3, "Yes.", false), (4, "Yes.", false), (5, "Yes.", false)]);
    let mut forgetful = Script::with(Limits { history_exchanges: 0, greeting: false, ..LIMITS });
    forgetful.at(0, Answered, "arm 1").at(500, HardEnd, "generate 1 for 1, commit 1");
    forgetful.at(600, ended(1, Outcome::Failed), "apologise").at(900, ApologyEnded, "turn 1 Apologised, arm 2");
    forgetful.remembers(&[]);
}

#[test]
fn a_hang_up_ends_everything_in_every_state() {
    let speculative = || {
        let mut call = Script::listening();
        call.soft(1300, "generate 1 for 1");
        call
    };
    let apologising = || {
        let mut call = Script::asked();
        call.at(1900, ended(1, Outcome::Failed), "apologise");
        call
    };
    let ringing = Script::with(LIMITS);
    let mut greeting = Script::with(LIMITS);
    greeting.at(0, Answered, "greet, arm 1");
    let mut speaking_caller = Script::listening();
    speaking_caller.starts(600, "");
    let mut failed_early = speculative();
    failed_early.at(1400, ended(1, Outcome::Failed), "");
    let mut barged_in = Script::answering();
    barged_in.starts(2500, "flush, cancel 1, turn 1 Interrupted, arm 2");
    let mut between = Script::answering();
    between.at(2300, heard(1, 0, 1.0), "").at(3000, heard(1, 1, 1.0), "turn 1 Answered, arm 2");

    for (phase, mut call, commands) in [
        (Phase::Ringing, ringing, "flush, disarm"),
        (Phase::Greeting, greeting, "flush, disarm"),
        (Phase::Listening, Script::listening(), "flush, disarm"),
        (Phase::Listening, speaking_caller, "flush, disarm, turn 1 HungUp"),
        (Phase::Thinking, speculative(), "cancel 1, flush, disarm, turn 1 HungUp"),
        (Phase::Thinking, failed_early, "flush, disarm, turn 1 HungUp"),
        (Phase::Thinking, Script::asked(), "cancel 1, flush, disarm, turn 1 HungUp"),
        (Phase::Speaking, Script::answering(), "cancel 1, flush, disarm, turn 1 HungUp"),
        (Phase::Listening, barged_in, "flush, disarm, turn 2 HungUp"),
        (Phase::Listening, between, "flush, disarm"),
        (Phase::Apologising, apologising(), "flush, disarm, turn 1 HungUp"),
    ] {
        assert_eq!(call.conversation.phase(), phase);
        call.at(3000, HungUp, commands);
        assert_eq!((call.conversation.phase(), call.conversation.poll_timeout()), (Phase::Ended, None));
        let everything = [
            Answered,
            GreetingEnded,
            Input::CallerStarted { onset: call.start },
            Resumed,
            HardEnd,
            token(1),
            clause(1, "Hello?"),
            heard(1, 1, 1.0),
            failed(1, 0),
            ended(1, Outcome::Complete),
            ApologyEnded,
            Held,
            Retrieved,
            HungUp,
        ];
        for input in everything {
            call.at(3001, input, "");
        }
        call.soft(3100, "").wait_until(90_000, "");
    }
}
