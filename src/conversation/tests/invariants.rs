//! What holds whatever happens, in whichever order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;

/// Something that happens. Generations are counted backwards from the latest, moments in milliseconds before now.
#[derive(Debug, Clone)]
enum Happening {
    Whatever(Input),
    Started(u64),
    Probable(u64),
    Soft(u64),
    Deadline,
}

/// What happens, and how long after what happened before.
fn happening() -> impl Strategy<Value = (u16, Happening)> {
    let generation = prop_oneof![8 => Just(0u32), 1 => 1..3u32];
    let outcome = prop_oneof![Just(Outcome::Complete), Just(Outcome::Truncated), Just(Outcome::Failed)];
    let share = prop_oneof![3 => Just(1.0f32), 1 => -0.5f32..1.5, 1 => Just(f32::NAN)];
    let special = (generation.clone(), 0..10u8).prop_map(|(generation, which)| match which {
        0 => Input::TransferWanted { generation, to: "621".into() },
        1 => Input::MessageWanted { generation },
        2 => Input::ToolsRun { generation },
        3 => Input::ToolsDone { generation },
        4 => Input::Aside { generation, text: "one moment".into() },
        5 => Input::Sound { generation, length: Duration::from_millis(200) },
        6 => Input::Said { generation, text: "one two".into() },
        7 => Input::AnswererLost { generation },
        8 => ended(generation, Outcome::Unaffordable),
        _ => ended(generation, Outcome::Hopeless),
    });
    let input = prop_oneof![
        1 => Just(Answered),
        1 => Just(GreetingEnded),
        2 => Just(Resumed),
        6 => Just(HardEnd),
        1 => Just(Input::KeyPressed),
        1 => Just(Input::KeysEntered),
        2 => generation.clone().prop_map(token),
        6 => generation.clone().prop_map(|g| clause(g, "one two")),
        4 => (generation.clone(), outcome).prop_map(|(g, o)| ended(g, o)),
        2 => generation.clone().prop_map(|generation| Input::AnswerStarted { generation }),
        2 => generation.clone().prop_map(|generation| Input::EndCallWanted { generation }),
        6 => (generation.clone(), 0..3u32, share).prop_map(|(g, seq, share)| heard(g, seq, share)),
        1 => (generation, 0..3u32).prop_map(|(g, seq)| failed(g, seq)),
        2 => Just(ApologyEnded),
        1 => Just(Input::PromptEnded),
        1 => Just(Input::GoodbyeEnded),
        2 => Just(Held),
        2 => Just(Retrieved),
        1 => Just(Input::PersonWanted),
        1 => Just(Input::TransferFailed),
        1 => Just(Input::MessageTaken),
        1 => Just(Input::BridgeStarted),
        1 => Just(Input::BridgeEnded),
        2 => special,
    ];
    let happening = prop_oneof![
        45 => input.prop_map(Happening::Whatever),
        4 => (0..300u64).prop_map(Happening::Started),
        5 => (0..300u64).prop_map(Happening::Probable),
        6 => (0..600u64).prop_map(Happening::Soft),
        8 => Just(Happening::Deadline),
    ];
    (0..3000u16, happening)
}

/// The input as the machine gets it: with real generations and moments.
fn made_real(happening: Happening, latest: Generation, now: Instant) -> Option<Input> {
    let before = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
    let real = |back: Generation| latest.saturating_sub(back);
    Some(match happening {
        Happening::Started(ms) => Input::CallerStarted { onset: before(ms) },
        Happening::Probable(ms) => Input::ProbableEnd { speech_end: before(ms) },
        Happening::Soft(ms) => Input::SoftEnd { speech_end: before(ms) },
        Happening::Deadline => return None,
        Happening::Whatever(input) => match input {
            Input::Clause { generation, text } => Input::Clause { generation: real(generation), text },
            Input::Token { generation } => token(real(generation)),
            Input::AnswerStarted { generation } => Input::AnswerStarted { generation: real(generation) },
            Input::TransferWanted { generation, to } => Input::TransferWanted { generation: real(generation), to },
            Input::MessageWanted { generation } => Input::MessageWanted { generation: real(generation) },
            Input::ToolsRun { generation } => Input::ToolsRun { generation: real(generation) },
            Input::ToolsDone { generation } => Input::ToolsDone { generation: real(generation) },
            Input::Aside { generation, text } => Input::Aside { generation: real(generation), text },
            Input::Sound { generation, length } => Input::Sound { generation: real(generation), length },
            Input::Said { generation, text } => Input::Said { generation: real(generation), text },
            Input::AnswererLost { generation } => Input::AnswererLost { generation: real(generation) },
            Input::EndCallWanted { generation } => Input::EndCallWanted { generation: real(generation) },
            Input::GenerationEnded { generation, outcome } => ended(real(generation), outcome),
            Input::PhraseHeard { generation, seq, share } => heard(real(generation), seq, share),
            Input::PhraseFailed { generation, seq } => failed(real(generation), seq),
            other => other,
        },
    })
}

/// Watches the commands for what must never be.
#[derive(Default)]
struct Watch {
    speculation: bool,
    speculations: u32,
    open: Option<Generation>,
    current: Option<Generation>,
    last_generation: Generation,
    committed: Option<Generation>,
    next_seq: Seq,
    hard_end: bool,
    ever_ended: bool,
    /// Something is said in place of an answer.
    instead: bool,
    transferring: bool,
    transfer_failed: bool,
    /// A sound that may still turn out to be nothing.
    in_doubt: bool,
    hung_up: bool,
    messaging: bool,
    recital: Option<Generation>,
    turns_ended: BTreeSet<Turn>,
    armed: Turn,
}

impl Watch {
    fn input(&mut self, input: &Input) {
        self.transfer_failed = false;
        match input {
            Input::TransferFailed => self.transfer_failed = std::mem::take(&mut self.transferring),
            HardEnd | Input::KeysEntered => (self.hard_end, self.ever_ended) = (true, true),
            // What was over before or during the hold is answered after it.
            Retrieved => self.hard_end |= self.ever_ended,
            Input::MessageTaken => self.messaging = false,
            // Whoever takes its place stands where it stood.
            Input::AnswererLost { generation } if self.committed == Some(*generation) => self.hard_end = true,
            Input::CallerStarted { .. } | Resumed => self.in_doubt = true,
            Input::GenerationEnded { generation, .. } if self.open == Some(*generation) => self.open = None,
            _ => {}
        }
    }

    fn deadline(&mut self, timer: Timer) {
        // Both stand for a hard end that was lost.
        if timer == Timer::Commit {
            (self.hard_end, self.ever_ended) = (true, true);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Generate { generation, turn, history, speculative, .. } => {
                assert_eq!(self.open, None, "two generations at once");
                assert!(generation > self.last_generation && !self.instead);
                assert!(!self.turns_ended.contains(&turn), "an answer to a turn that is over");
                assert!(history.len() <= LIMITS.history_exchanges);
                assert!(
                    history.is_sorted_by_key(|e| e.turn) && history.iter().all(|e| self.turns_ended.contains(&e.turn))
                );
                self.speculations += u32::from(speculative);
                assert!(self.speculations <= if self.speculation { 3 } else { 0 }, "speculated too often");
                self.open = Some(generation);
                self.current = Some(generation);
                self.last_generation = generation;
                self.next_seq = 0;
            }
            Command::Cancel { generation } => {
                assert_eq!(self.current, Some(generation), "cancelled twice, or never asked for");
                self.open = None;
                self.current = None;
            }
            Command::StopAsking { generation } => {
                assert_eq!(self.open.take(), Some(generation));
            }
            Command::Commit { generation } => {
                assert!(self.hard_end || self.recital == Some(generation), "committed without a hard end");
                assert_eq!(self.current, Some(generation));
                assert_ne!(self.committed.replace(generation), Some(generation), "committed twice");
            }
            Command::Speak { generation, seq, .. } => {
                assert_eq!(self.current, Some(generation), "spoke for an answer that is not wanted");
                assert_eq!(seq, self.next_seq);
                self.next_seq += 1;
            }
            Command::Transfer { .. } => {
                assert!(!self.transferring && self.open.is_none(), "handed over while an answer is asked for");
                self.transferring = true;
            }
            // No turn ends with this apology.
            Command::Apologise if std::mem::take(&mut self.transfer_failed) => {}
            Command::Apologise => {
                assert!(!self.instead && (self.hard_end || self.committed == Some(self.last_generation)));
                self.instead = true;
            }
            Command::Prompt | Command::SayGoodbye => assert!(!self.instead && self.open.is_none()),
            Command::HangUp { .. } => {
                assert!(!std::mem::replace(&mut self.hung_up, true) && self.open.is_none(), "hung up in an answer");
            }
            Command::TurnEnded { turn, .. } => {
                assert!(self.turns_ended.insert(turn), "turn {turn} ended twice");
                assert_eq!(self.turns_ended.len(), turn as usize, "a turn was left out");
                self.instead = false;
                self.current = None;
                self.speculations = 0;
                assert_eq!(self.open, None, "a turn is over and its answer is not");
            }
            Command::ArmPlaceholder { turn } => {
                assert!(turn >= self.armed && !self.turns_ended.contains(&turn));
                self.armed = turn;
            }
            Command::ResumePlayout => {
                assert!(std::mem::take(&mut self.in_doubt), "went on though nothing was in doubt");
            }
            Command::Recite { generation, .. } => {
                assert!(self.open.is_none() && generation > self.last_generation && !self.messaging);
                (self.open, self.current, self.recital) = (Some(generation), Some(generation), Some(generation));
                (self.last_generation, self.next_seq) = (generation, 0);
            }
            Command::TakeMessage { .. } => {
                assert!(!std::mem::replace(&mut self.messaging, true) && self.open.is_none());
            }
            Command::Bridge => assert!(self.current.is_some(), "bridged no wait"),
            Command::FlushPlayout | Command::Greet | Command::DisarmPlaceholder => {}
        }
    }
}

/// Nothing happens any more but deadlines: what comes of it.
fn left_alone(conversation: &mut Conversation, watch: &mut Watch, mut now: Instant) {
    let since = now;
    for input in [Input::TransferFailed, Input::MessageTaken, Retrieved] {
        watch.hard_end = false;
        watch.input(&input);
        conversation.handle(now, input);
        while let Some(command) = conversation.poll() {
            watch.command(command);
        }
    }
    let mut deadlines = 0;
    loop {
        while let Some(command) = conversation.poll() {
            watch.command(command);
        }
        let Some((at, timer)) = conversation.poll_timeout() else { break };
        now = now.max(at);
        watch.hard_end = false;
        watch.deadline(timer);
        conversation.handle_timeout(now);
        while let Some(command) = conversation.poll() {
            watch.command(command);
        }
        deadlines += 1;
        // The driver's part: a transfer comes to an end, and so does a message.
        for input in [Input::TransferFailed, Input::MessageTaken] {
            watch.input(&input);
            conversation.handle(now, input);
            while let Some(command) = conversation.poll() {
                watch.command(command);
            }
        }
        assert!(deadlines < 50, "{conversation:?}");
    }
    assert!(now.duration_since(since) < Duration::from_secs(400), "{:?}", now.duration_since(since));
}

proptest! {
    #![proptest_config(Config { cases: 3000, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_one_speaks_at_a_time_each_turn_ends_once_and_nothing_is_stuck(
        happenings in prop::collection::vec(happening(), 0..80),
        answered in prop::bool::weighted(0.95),
        hang_up_at in 0..120usize,
        speculation: bool,
        undo: bool,
        prompts: bool,
        remedies: bool,
    ) {
        let ms = |yes, ms| Duration::from_millis(if yes { ms } else { 0 });
        let limits = Limits {
            transfer_to: Some("620".into()),
            speculation,
            barge_in: ms(undo, 500),
            silence_prompt: ms(prompts, 8000),
            quiet: Duration::from_millis(1500),
            first_sound: Duration::from_millis(2200),
            longest_call: ms(remedies, 60_000),
            remedies: if remedies { [Some(Remedy::Transfer), Some(Remedy::Voicemail), Some(Remedy::Goodbye)] } else { [None; 3] },
            voicemail: remedies,
            ..LIMITS
        };
        let mut conversation = Conversation::new(limits);
        let mut watch = Watch { speculation, ..Watch::default() };
        let mut now = Instant::now() + Duration::from_secs(10);
        if answered {
            conversation.handle(now, Answered);
        }
        for (index, (after, happening)) in happenings.into_iter().enumerate() {
            now += Duration::from_millis(after.into());
            watch.hard_end = false;
            if index == hang_up_at {
                conversation.handle(now, HungUp);
                while let Some(command) = conversation.poll() {
                    watch.command(command);
                }
                prop_assert_eq!(watch.open, None);
            } else if let Some(input) = made_real(happening, watch.last_generation, now) {
                watch.input(&input);
                conversation.handle(now, input);
            } else {
                if let Some((at, timer)) = conversation.poll_timeout() {
                    now = now.max(at);
                    watch.deadline(timer);
                }
                conversation.handle_timeout(now);
            }
            while let Some(command) = conversation.poll() {
                prop_assert!(index <= hang_up_at, "spoke after the hang-up: {:?}", command);
                watch.command(command);
            }
            prop_assert!(conversation.history().count() <= LIMITS.history_exchanges);
        }
        let was_up = !matches!(conversation.phase(), Phase::Ringing | Phase::Ended);
        left_alone(&mut conversation, &mut watch, now);
        let phase = conversation.phase();
        match (was_up, prompts) {
            (false, _) => prop_assert!(matches!(phase, Phase::Ringing | Phase::Ended)),
            (true, true) => prop_assert!(watch.hung_up, "{:?}", conversation),
            (true, false) => prop_assert!(watch.hung_up || phase == Phase::Listening, "{:?}", conversation),
        }
    }
}
