//! What holds whatever happens, in whichever order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;

/// Something that happens, and how long after what happened before. Generations are counted backwards from the latest.
fn happening() -> impl Strategy<Value = (u16, Option<Input>)> {
    let generation = prop_oneof![8 => Just(0u32), 1 => 1..3u32];
    let outcome = prop_oneof![Just(Outcome::Complete), Just(Outcome::Truncated), Just(Outcome::Failed)];
    let share = prop_oneof![3 => Just(1.0f32), 1 => -0.5f32..1.5, 1 => Just(f32::NAN)];
    let input = prop_oneof![
        1 => Just(Answered),
        1 => Just(GreetingEnded),
        3 => Just(CallerStarted),
        2 => Just(Resumed),
        6 => Just(Input::SoftEnd { speech_end: Instant::now() }),
        6 => Just(HardEnd),
        2 => generation.clone().prop_map(token),
        6 => generation.clone().prop_map(|g| clause(g, "one two")),
        4 => (generation.clone(), outcome).prop_map(|(g, o)| ended(g, o)),
        6 => (generation.clone(), 0..3u32, share).prop_map(|(g, seq, share)| heard(g, seq, share)),
        1 => (generation, 0..3u32).prop_map(|(g, seq)| failed(g, seq)),
        2 => Just(ApologyEnded),
        2 => Just(Held),
        2 => Just(Retrieved),
        1 => Just(Input::PersonWanted),
        1 => Just(Input::TransferFailed),
    ];
    (0..3000u16, prop_oneof![9 => input.prop_map(Some), 1 => Just(None)])
}

/// The input as the machine gets it: with real generations, and the time.
fn made_real(input: Input, latest: Generation, now: Instant) -> Input {
    let real = |back: Generation| latest.saturating_sub(back);
    match input {
        Input::SoftEnd { .. } => Input::SoftEnd { speech_end: now },
        Input::Clause { generation, text } => Input::Clause { generation: real(generation), text },
        Input::Token { generation } => token(real(generation)),
        Input::GenerationEnded { generation, outcome } => ended(real(generation), outcome),
        Input::PhraseHeard { generation, seq, share } => heard(real(generation), seq, share),
        Input::PhraseFailed { generation, seq } => failed(real(generation), seq),
        other => other,
    }
}

/// Watches the commands for what must never be.
#[derive(Default)]
struct Watch {
    open: Option<Generation>,
    current: Option<Generation>,
    last_generation: Generation,
    committed: Option<Generation>,
    next_seq: Seq,
    hard_end: bool,
    ever_ended: bool,
    apologising: bool,
    transferring: bool,
    transfer_failed: bool,
    turns_ended: BTreeSet<Turn>,
    armed: Turn,
}

impl Watch {
    fn input(&mut self, input: &Input) {
        self.transfer_failed = false;
        match input {
            Input::TransferFailed => self.transfer_failed = std::mem::take(&mut self.transferring),
            HardEnd => (self.hard_end, self.ever_ended) = (true, true),
            // What was over before or during the hold is answered after it.
            Retrieved => self.hard_end |= self.ever_ended,
            Input::GenerationEnded { generation, .. } if self.open == Some(*generation) => self.open = None,
            _ => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Generate { generation, turn, history } => {
                assert_eq!(self.open, None, "two generations at once");
                assert!(generation > self.last_generation && !self.apologising);
                assert!(!self.turns_ended.contains(&turn), "an answer to a turn that is over");
                assert!(history.len() <= LIMITS.history_exchanges);
                assert!(
                    history.is_sorted_by_key(|e| e.turn) && history.iter().all(|e| self.turns_ended.contains(&e.turn))
                );
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
                assert!(self.hard_end, "committed without a hard end");
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
                assert!(!self.apologising && (self.hard_end || self.committed == Some(self.last_generation)));
                self.apologising = true;
            }
            Command::TurnEnded { turn, .. } => {
                assert!(self.turns_ended.insert(turn), "turn {turn} ended twice");
                assert_eq!(self.turns_ended.len(), turn as usize, "a turn was left out");
                self.apologising = false;
                self.current = None;
                assert_eq!(self.open, None, "a turn is over and its answer is not");
            }
            Command::ArmPlaceholder { turn } => {
                assert!(turn >= self.armed && !self.turns_ended.contains(&turn));
                self.armed = turn;
            }
            Command::FlushPlayout | Command::Greet | Command::DisarmPlaceholder => {}
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 3000, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_one_speaks_at_a_time_and_each_turn_ends_once(
        happenings in prop::collection::vec(happening(), 0..80),
        answered in prop::bool::weighted(0.95),
        hang_up_at in 0..90usize,
    ) {
        let mut conversation = Conversation::new(Limits { transfer_to: Some("620".into()), ..LIMITS });
        let mut watch = Watch::default();
        let mut now = Instant::now();
        if answered {
            conversation.handle(now, Answered);
        }
        for (index, (after, input)) in happenings.into_iter().enumerate() {
            now += Duration::from_millis(after.into());
            watch.hard_end = false;
            match input {
                _ if index == hang_up_at => {
                    conversation.handle(now, HungUp);
                    while let Some(command) = conversation.poll() {
                        watch.command(command);
                    }
                    prop_assert_eq!(watch.open, None);
                }
                Some(input) => {
                    let input = made_real(input, watch.last_generation, now);
                    watch.input(&input);
                    conversation.handle(now, input);
                }
                None => {
                    now = now.max(conversation.poll_timeout().map_or(now, |(at, _)| at));
                    conversation.handle_timeout(now);
                    prop_assert!(conversation.poll_timeout().is_none_or(|(at, _)| at > now));
                }
            }
            while let Some(command) = conversation.poll() {
                prop_assert!(index <= hang_up_at, "spoke after the hang-up: {:?}", command);
                watch.command(command);
            }
            prop_assert!(conversation.history().count() <= LIMITS.history_exchanges);
        }
    }
}
