//! The box's own voice comes back to it: from a handset, or a bad hybrid. Needs espeak-ng; `cargo bench --bench echo` measures more.

use std::time::Duration;

#[path = "support/returning.rs"]
mod returning;

use returning::{CutIn, FarEnd, LINES, Sounds, call};

const DELAYS_MS: [u64; 5] = [20, 60, 120, 200, 350];
const LOSSES_DB: [f32; 3] = [12.0, 18.0, 25.0];

/// Of every way back, with every voice: what `of` makes of it, one thread for each delay.
fn every_way<T: Send>(sounds: &[Sounds], of: impl Fn(&Sounds, Duration, f32, usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads = DELAYS_MS.map(|delay_ms| {
            let of = &of;
            scope.spawn(move || {
                let mut outcomes = Vec::new();
                for loss_db in LOSSES_DB {
                    // All voices where the echo is loudest.
                    let voices = if loss_db == LOSSES_DB[0] { sounds.len() } else { 1 };
                    for (voice, sounds) in sounds.iter().enumerate().take(voices) {
                        outcomes.push(of(sounds, Duration::from_millis(delay_ms), loss_db, voice));
                    }
                }
                outcomes
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn no_answer_is_ended_or_broken_off_by_its_own_echo_and_the_caller_is_heard_between() {
    let sounds = LINES.each_ref().map(|lines| Sounds::speak(lines, -20.0));
    let bad: Vec<String> = every_way(&sounds, |sounds, delay, loss_db, voice| {
        let far = FarEnd { delay, loss_db: Some(loss_db), cut_in: CutIn::Never, shift: 0 };
        let outcome = call(sounds, far);
        let good =
            outcome.false_starts == 0 && !outcome.question_missed && outcome.false_pause <= Duration::from_millis(250);
        (!good).then(|| format!("{delay:?} {loss_db} dB, voice {voice}: {outcome:?}"))
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_caller_who_cuts_in_is_heard_within_a_quarter_of_a_second_beside_the_echo() {
    let sounds = [Sounds::speak(&LINES[0], -20.0)];
    let bad: Vec<String> = every_way(&sounds, |sounds, delay, loss_db, _| {
        let far = FarEnd { delay, loss_db: Some(loss_db), cut_in: CutIn::Greeting, shift: 31 };
        let outcome = call(sounds, far);
        let within = |after: Option<Duration>, ms| after.is_some_and(|after| after <= Duration::from_millis(ms));
        let good = outcome.false_starts == 0 && within(outcome.silent_after, 150) && within(outcome.taken_after, 250);
        (!good).then(|| format!("{delay:?} {loss_db} dB: {outcome:?}"))
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
