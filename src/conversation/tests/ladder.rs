//! What a caller hears when the cloud is ill, fault by fault: a mouth that plays what is commanded, and an ear that listens to it.

use super::*;
use crate::config::Config;

/// What the cloud does, in milliseconds after the request.
type Illness = &'static [(u64, Sign)];

#[derive(Debug, Clone, Copy)]
enum Sign {
    Says(&'static str),
    Ends(Outcome),
    Runs,
    Done,
    Aside(&'static str),
}
use Outcome::{Complete, Failed, Hopeless, Refused, Truncated, Unaffordable};
use Sign::{Aside, Done, Ends, Runs, Says};

/// A voice that works, one that fails in its time, one that makes no sound and does not say so.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Voice {
    Well,
    Dead,
    Mute,
}

const PLACEHOLDER_MS: u64 = 900;
const STILL_MS: u64 = 1200;
const CLIP_MS: u64 = 1400;
const PHRASE_MS: u64 = 800;

/// A stretch of sound.
#[derive(Debug, Clone)]
struct Sound {
    from: u64,
    to: u64,
    what: &'static str,
}

struct Call {
    conversation: Conversation,
    start: Instant,
    now: u64,
    illness: Illness,
    voice: Voice,
    due: Vec<(u64, Input)>,
    heard: Vec<Sound>,
    committed: Generation,
    /// Spoken before the commit.
    held: Vec<(Generation, Seq)>,
    asked: Vec<(u64, bool)>,
    ended: bool,
    transferred: bool,
    message: bool,
    turns: Vec<(u64, TurnOutcome)>,
    second_at: Option<u64>,
    speculation: bool,
}

impl Call {
    fn new(limits: Limits, illness: Illness, voice: Voice) -> Self {
        let speculation = limits.speculation;
        let mut call = Self {
            conversation: Conversation::new(limits),
            start: Instant::now(),
            now: 0,
            illness,
            voice,
            due: Vec::new(),
            heard: Vec::new(),
            committed: 0,
            held: Vec::new(),
            asked: Vec::new(),
            ended: false,
            transferred: false,
            message: false,
            turns: Vec::new(),
            second_at: None,
            speculation,
        };
        call.tell(Answered);
        call
    }

    fn tell(&mut self, input: Input) {
        let now = self.start + Duration::from_millis(self.now);
        self.conversation.handle(now, input);
        self.obey();
    }

    /// When the last sound ends.
    fn quiet_from(&self) -> u64 {
        self.heard.iter().map(|sound| sound.to).max().unwrap_or(0).max(self.now)
    }

    fn play(&mut self, what: &'static str, from: u64, ms: u64, end: Input) {
        self.hush(from);
        self.heard.push(Sound { from, to: from + ms, what });
        self.due.push((from + ms, end));
    }

    /// A clip takes the place of the one that plays.
    fn hush(&mut self, at: u64) {
        for sound in &mut self.heard {
            sound.to = sound.to.min(at.max(sound.from));
        }
        for (due, _) in self.due.iter_mut().filter(|(_, input)| *input == Input::BridgeEnded) {
            *due = (*due).min(at);
        }
    }

    fn speak(&mut self, generation: Generation, seq: Seq) {
        match self.voice {
            Voice::Dead => self.due.push((self.now + 1500, failed(generation, seq))),
            Voice::Mute => {}
            Voice::Well if self.committed < generation => self.held.push((generation, seq)),
            Voice::Well => {
                let from = (self.now + 250).max(self.answer_ends());
                self.hush(from);
                self.heard.push(Sound { from, to: from + PHRASE_MS, what: "answer" });
                self.second_at = None;
                self.due.push((from, Input::AnswerStarted { generation }));
                self.due.push((from + PHRASE_MS, heard(generation, seq, 1.0)));
            }
        }
    }

    fn answer_ends(&self) -> u64 {
        self.heard.iter().filter(|sound| sound.what == "answer").map(|sound| sound.to).max().unwrap_or(0)
    }

    fn obey(&mut self) {
        while let Some(command) = self.conversation.poll() {
            match command {
                Command::Generate { generation, speculative, .. } => {
                    self.asked.push((self.now, speculative));
                    for (after, sign) in self.illness {
                        let input = match *sign {
                            Says(text) => clause(generation, text),
                            Ends(outcome) => ended(generation, outcome),
                            Runs => Input::ToolsRun { generation },
                            Done => Input::ToolsDone { generation },
                            Aside(text) => Input::Aside { generation, text: text.into() },
                        };
                        self.due.push((self.now + after, input));
                    }
                }
                Command::Recite { generation, .. } => {
                    self.due.push((self.now, clause(generation, "words of ours")));
                    self.due.push((self.now, ended(generation, Complete)));
                }
                Command::Commit { generation } => {
                    self.committed = generation;
                    for (generation, seq) in std::mem::take(&mut self.held) {
                        self.speak(generation, seq);
                    }
                }
                Command::Speak { generation, seq, .. } => self.speak(generation, seq),
                Command::Cancel { .. } | Command::FlushPlayout => {
                    let now = self.now;
                    self.hush(now);
                    self.held.clear();
                    self.due
                        .retain(|(_, input)| !matches!(input, Input::PhraseHeard { .. } | Input::AnswerStarted { .. }));
                }
                Command::StopAsking { .. } => self.due.retain(|(_, input)| !matches!(input, Input::Clause { .. })),
                Command::Apologise => self.clip("apology", ApologyEnded),
                Command::SayGoodbye => self.clip("goodbye", Input::GoodbyeEnded),
                Command::Bridge => {
                    self.second_at = None;
                    self.play("still", self.now, STILL_MS, Input::BridgeEnded);
                    // Told with the tick that plays it.
                    self.due.push((self.now + 20, Input::BridgeStarted));
                }
                Command::Transfer { .. } => {
                    self.transferred = true;
                    self.play("ringing", self.now, 2000, Input::TransferFailed);
                }
                Command::TakeMessage { .. } => {
                    self.message = true;
                    self.play("message", self.now, 8000, Input::MessageTaken);
                }
                Command::TurnEnded { outcome, .. } => self.turns.push((self.now, outcome)),
                Command::HangUp { .. } => self.ended = true,
                _ => {}
            }
        }
    }

    fn clip(&mut self, what: &'static str, over: Input) {
        self.second_at = None;
        self.play(what, self.now, CLIP_MS, over);
    }

    /// Everything that happens up to then.
    fn run_to(&mut self, until: u64) {
        loop {
            let deadline = self.conversation.poll_timeout().map(|(at, _)| (at - self.start).as_millis() as u64);
            let next = self.due.iter().map(|(at, _)| *at).min();
            if let Some(at) = self
                .second_at
                .filter(|at| *at <= until && deadline.is_none_or(|d| *at < d) && next.is_none_or(|n| *at < n))
            {
                (self.now, self.second_at) = (at, None);
                self.play("still", at, STILL_MS, Input::BridgeEnded);
                self.tell(Input::BridgeStarted);
                continue;
            }
            match (next, deadline) {
                (Some(at), deadline) if at <= until && deadline.is_none_or(|deadline| at <= deadline) => {
                    self.now = self.now.max(at);
                    let place = self.due.iter().position(|(due, _)| *due == at).unwrap();
                    let (_, input) = self.due.remove(place);
                    self.tell(input);
                }
                (_, Some(at)) if at <= until => {
                    self.now = self.now.max(at);
                    self.conversation.handle_timeout(self.start + Duration::from_millis(self.now));
                    self.obey();
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// The caller asks something, and hears what comes of it; judges that.
    fn turn(&mut self, shown: &str) {
        let speech_end = self.quiet_from() + 1000;
        self.run_to(speech_end - 500);
        self.tell(Input::CallerStarted { onset: self.start + Duration::from_millis(speech_end - 500) });
        let end = self.start + Duration::from_millis(speech_end);
        if self.speculation {
            self.run_to(speech_end + 120);
            self.tell(Input::ProbableEnd { speech_end: end });
        }
        self.run_to(speech_end + 240);
        self.tell(Input::SoftEnd { speech_end: end });
        self.run_to(speech_end + 450);
        self.second_at = Some(speech_end + 2900);
        self.tell(Input::BridgeStarted);
        self.heard.push(Sound { from: self.now, to: self.now + PLACEHOLDER_MS, what: "placeholder" });
        self.due.push((self.now + PLACEHOLDER_MS, Input::BridgeEnded));
        self.run_to(speech_end + 750);
        self.tell(HardEnd);
        let turns = self.turns.len();
        for _ in 0..600 {
            if self.ended || (self.turns.len() > turns && self.conversation.phase() == Phase::Listening) {
                break;
            }
            self.run_to(self.now + 100);
        }
        self.second_at = None;
        let over = self.ended || self.conversation.phase() == Phase::Listening;
        assert!(over, "{shown}: stuck in {:?}", self.conversation);
        let mut sounds: Vec<_> =
            self.heard.iter().filter(|sound| sound.from >= speech_end && sound.to > sound.from).cloned().collect();
        sounds.sort_by_key(|sound| sound.from);
        let sensible = sounds.iter().find(|sound| sound.what != "placeholder");
        assert!(
            sensible.is_some_and(|sound| sound.from <= speech_end + 4000),
            "{shown}: {sounds:?} after {speech_end}"
        );
        let mut quiet_since = speech_end;
        for sound in &sounds {
            assert!(sound.from <= quiet_since + 2000, "{shown}: silence from {quiet_since} on, {sounds:?}");
            quiet_since = quiet_since.max(sound.to);
        }
        let last = sounds.last().map(|sound| sound.what);
        assert!(!matches!(last, Some("placeholder" | "still")), "{shown}: a promise is the last word, {sounds:?}");
        // The moment for the caller's last word is silence that is meant.
        let end = self.turns.last().map_or(self.now, |(at, _)| *at);
        assert!(end <= quiet_since + 2000, "{shown}: silence from {quiet_since} to {end}, {sounds:?}");
    }
}

fn limits(speculation: bool, remedies: [Option<Remedy>; 3]) -> Limits {
    let mut config = Config::default();
    config.conversation.greeting = false;
    config.conversation.silence_prompt = Duration::ZERO;
    config.conversation.speculation = speculation;
    config.conversation.transfer_to = Some("sip:620@192.0.2.1".into());
    Limits { remedies, voicemail: true, tools: Duration::from_millis(5000), ..Limits::from(&config) }
}

/// Each fault of the cloud, as the conversation learns of it; how often the model is asked in three turns without speculation, and what the
/// first turn comes to.
const ILLNESSES: [(&str, Illness, Voice, TurnOutcome); 31] = {
    use TurnOutcome::{Answered as Yes, Apologised as No, Truncated as Part};
    use Voice::{Dead, Mute, Well};
    [
        ("S1, S2, S3, S12, S13, S14", &[(500, Says("Yes,")), (600, Says("we do.")), (610, Ends(Complete))], Well, Yes),
        ("S4, a quick function", &[(400, Runs), (500, Done), (900, Says("Ten.")), (910, Ends(Complete))], Well, Yes),
        (
            "S4, a function of 3 s",
            &[(400, Runs), (3400, Done), (3800, Says("Ten.")), (3810, Ends(Complete))],
            Well,
            Yes,
        ),
        (
            "S4, words before a function of 4 s",
            &[(400, Says("One moment,")), (410, Runs), (4400, Done), (4800, Says("Ten.")), (4810, Ends(Complete))],
            Well,
            Yes,
        ),
        (
            "S4, words meanwhile",
            &[(400, Runs), (900, Aside("I look it up.")), (4400, Done), (4900, Says("Ten.")), (4910, Ends(Complete))],
            Well,
            Yes,
        ),
        ("a function that never ends", &[(400, Runs)], Well, No),
        ("words, and a function that never ends", &[(400, Says("One moment,")), (410, Runs)], Well, No),
        ("a function, and no answer upon it", &[(400, Runs), (900, Done)], Well, No),
        (
            "words, a function, and a failure",
            &[(400, Says("One moment,")), (410, Runs), (900, Done), (1300, Ends(Failed))],
            Well,
            No,
        ),
        ("S5", &[(500, Ends(Refused))], Well, No),
        ("S6", &[(500, Says("Yes,")), (700, Ends(Complete))], Well, Yes),
        ("S6 without text", &[(500, Ends(Refused))], Well, No),
        ("S7", &[(500, Says("Yes.")), (700, Ends(Complete))], Well, Yes),
        ("S8, S8b, S9 before text", &[(500, Ends(Failed))], Well, No),
        ("S8, S8b, S9 after text", &[(500, Says("Yes,")), (700, Ends(Truncated))], Well, Part),
        ("S10, 1.5 s", &[(1500, Says("Yes.")), (1510, Ends(Complete))], Well, Yes),
        ("S10, 2.5 s", &[(2500, Says("Yes.")), (2510, Ends(Complete))], Well, Yes),
        ("S10, 3.4 s", &[(3400, Says("Yes.")), (3410, Ends(Complete))], Well, Yes),
        ("S10, never; a hang; black-holed", &[], Well, No),
        ("S11, for ever", &[(500, Says("Yes,"))], Well, Part),
        ("S11, 2.5 s", &[(500, Says("Yes,")), (3000, Says("we do.")), (3010, Ends(Complete))], Well, Yes),
        ("an empty answer", &[(500, Ends(Failed))], Well, No),
        ("400 of the key, 401, 403, 404", &[(150, Ends(Hopeless))], Well, No),
        ("400, 429, 500, 503", &[(150, Ends(Failed))], Well, No),
        ("503 after a second try", &[(900, Ends(Failed))], Well, No),
        ("504 after 3 s", &[(3000, Ends(Failed))], Well, No),
        ("no connection", &[(800, Ends(Failed))], Well, No),
        ("a dead voice", &[(500, Says("Yes,")), (600, Says("we do.")), (610, Ends(Complete))], Dead, No),
        ("a mute voice", &[(500, Says("Yes,")), (600, Says("we do.")), (610, Ends(Complete))], Mute, No),
        ("a late answer and a mute voice", &[(2500, Says("Yes,")), (2610, Ends(Complete))], Mute, No),
        ("no budget", &[(0, Ends(Unaffordable))], Well, No),
    ]
};

#[test]
fn whatever_is_wrong_the_caller_hears_something_within_4_s_and_is_never_left_in_silence() {
    let all = [Some(Remedy::Transfer), Some(Remedy::Voicemail), Some(Remedy::Goodbye)];
    for (name, illness, voice, outcome) in ILLNESSES {
        for speculation in [false, true] {
            for remedies in [[None; 3], [Some(Remedy::Voicemail), None, None], all] {
                let mut call = Call::new(limits(speculation, remedies), illness, voice);
                for turn in 1..=3 {
                    if !call.ended {
                        call.turn(&format!("{name}, speculation {speculation}, {remedies:?}, turn {turn}"));
                    }
                }
                assert_eq!(call.turns[0].1, outcome, "{name}, {remedies:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_mended_leads_to_the_person_then_the_message_then_goodbye() {
    let all = [Some(Remedy::Transfer), Some(Remedy::Voicemail), Some(Remedy::Goodbye)];
    let illness = |name: &str| ILLNESSES.iter().find(|(known, ..)| known.contains(name)).unwrap().1;
    for (name, turns) in [("S8, S8b, S9 before", 2), ("401", 1), ("S10, never", 2), ("no budget", 1)] {
        let mut call = Call::new(limits(true, all), illness(name), Voice::Well);
        for _ in 0..turns {
            assert!(!call.ended && !call.transferred, "{name}: too soon");
            call.turn(name);
        }
        assert!(call.transferred && call.message && call.ended, "{name}: {:?}", call.heard);
        let last: Vec<_> = call.heard.iter().rev().take(2).map(|sound| sound.what).collect();
        assert_eq!(last, ["goodbye", "message"], "{name}");
    }
}

#[test]
fn a_model_that_is_well_again_is_asked_again_and_the_count_begins_anew() {
    let all = [Some(Remedy::Goodbye), None, None];
    let mut call = Call::new(limits(false, all), ILLNESSES[13].1, Voice::Well);
    call.turn("ill");
    call.illness = ILLNESSES[0].1;
    call.turn("well");
    call.illness = ILLNESSES[13].1;
    call.turn("ill again");
    assert!(!call.ended);
    let outcomes: Vec<_> = call.turns.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Apologised, TurnOutcome::Answered, TurnOutcome::Apologised]);
}

#[test]
fn nothing_is_asked_again_once_text_was_spoken() {
    for name in ["after text", "S11, for ever", "S6", "S7"] {
        let illness = ILLNESSES.iter().find(|(known, ..)| known.contains(name)).unwrap().1;
        let mut call = Call::new(limits(true, [None; 3]), illness, Voice::Well);
        call.turn(name);
        assert_eq!(call.asked.len(), 1, "{name}: {:?}", call.asked);
    }
}

#[test]
fn who_speaks_over_the_prompt_for_a_message_has_begun_it_and_who_speaks_over_goodbye_does_not_stop_it() {
    let limits = Limits {
        remedies: [Some(Remedy::Voicemail), None, None],
        voicemail: true,
        barge_in: Duration::from_millis(500),
        apologies: 1,
        ..LIMITS
    };
    let mut call = Script::with(limits);
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
    call.at(1800, ended(1, Failed), "apologise")
        .at(3000, ApologyEnded, "turn 1 Apologised, arm 2, recite 2 LeaveMessage, commit 2")
        .at(3000, clause(2, "Please leave a message."), "speak 2.0 Please leave a message.")
        .at(3000, ended(2, Complete), "")
        .starts(3500, "flush, cancel 2, disarm, take a message")
        .soft(5000, "")
        .at(5500, HardEnd, "")
        .at(9000, Input::MessageTaken, "goodbye")
        .starts(9100, "resume")
        .soft(9900, "")
        .at(9990, HardEnd, "")
        .at(10_000, Input::GoodbyeEnded, "")
        .wait_until(10_800, "hang up: Message");
}

#[test]
fn a_call_that_has_lasted_long_enough_is_ended_politely_and_one_that_goes_on_is_ended_anyway() {
    let limits = Limits { longest_call: Duration::from_secs(60), ..LIMITS };
    let mut call = Script::with(limits.clone());
    call.at(0, Answered, "greet, arm 1")
        .at(500, GreetingEnded, "")
        .wait_until(60_000, "recite 1 TimeIsUp, commit 1")
        .at(60_000, clause(1, "Our time is up."), "speak 1.0 Our time is up.")
        .at(60_010, ended(1, Complete), "")
        .at(61_500, heard(1, 0, 1.0), "goodbye")
        .at(62_500, Input::GoodbyeEnded, "")
        .wait_until(63_300, "hang up: Trouble");
    // In the middle of an answer it is heard to its end.
    let mut call = Script::with(limits);
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(58_000, "").soft(59_300, "generate 1 for 1").at(59_700, HardEnd, "commit 1");
    call.at(59_800, clause(1, "Yes."), "speak 1.0 Yes.")
        .at(59_810, ended(1, Complete), "")
        .wait_until(60_500, "")
        .at(61_000, heard(1, 0, 1.0), "turn 1 Answered, arm 2, recite 2 TimeIsUp, commit 2")
        .wait_until(64_000, "")
        .wait_until(89_999, "cancel 2, goodbye")
        .wait_until(90_000, "flush, hang up: TooLong");
}

#[test]
fn an_answer_that_is_too_long_is_cut_off_at_a_clause() {
    let mut call = Script::with(Limits { longest_answer: Duration::from_secs(2), ..LIMITS });
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
    call.at(1800, clause(1, "A sentence of thirty letters.."), "speak 1.0 A sentence of thirty letters..")
        .at(1810, clause(1, "Another."), "speak 1.1 Another.")
        .at(1820, clause(1, "One more."), "stop asking 1")
        .at(4000, heard(1, 0, 1.0), "")
        .at(5000, heard(1, 1, 1.0), "turn 1 Truncated, arm 2");
}

#[test]
fn the_model_hands_over_and_takes_messages_when_its_words_were_heard() {
    let limits = Limits { voicemail: true, ..LIMITS };
    let mut call = Script::with(limits);
    call.at(0, Answered, "greet, arm 1").at(500, GreetingEnded, "");
    call.starts(600, "").soft(1300, "generate 1 for 1").at(1700, HardEnd, "commit 1");
    call.at(1800, clause(1, "Gladly."), "speak 1.0 Gladly.")
        .at(1810, Input::TransferWanted { generation: 1, to: "sip:621@192.0.2.1".into() }, "")
        .at(1820, ended(1, Complete), "")
        .at(2500, heard(1, 0, 1.0), "turn 1 Answered, arm 2, disarm, transfer to sip:621@192.0.2.1")
        .at(9000, Input::TransferFailed, "arm 2, apologise")
        .at(9900, ApologyEnded, "");
    call.starts(10_600, "").soft(11_300, "generate 2 for 2").at(11_700, HardEnd, "commit 2");
    call.at(11_800, Input::MessageWanted { generation: 2 }, "").at(
        11_820,
        ended(2, Complete),
        "turn 2 Apologised, arm 3, recite 3 LeaveMessage, commit 3",
    );
}

#[test]
fn where_every_call_is_for_the_machine_it_asks_for_a_message_and_nothing_else() {
    let mut call = Script::with(Limits { voicemail: true, messages_only: true, ..LIMITS });
    call.at(0, Answered, "greet")
        .starts(300, "resume")
        .soft(1000, "")
        .at(1500, GreetingEnded, "recite 1 LeaveMessage, commit 1")
        .at(1500, clause(1, "Please."), "speak 1.0 Please.")
        .at(1500, ended(1, Complete), "")
        .at(2500, heard(1, 0, 1.0), "disarm, take a message after a tone")
        .at(9000, Input::MessageTaken, "goodbye")
        .at(9500, Input::GoodbyeEnded, "")
        .wait_until(10_300, "hang up: Message");
}
