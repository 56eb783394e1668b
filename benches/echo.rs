//! What the box does when its own voice comes back from the far end, over delays and losses, with and without a caller who speaks
//! over it: `cargo bench --bench echo`. Needs espeak-ng. `-- quick` takes one language.
//!
//! False barge-ins are utterances that were heard while nobody spoke; false pauses are how long a minute of what the box says was silenced for
//! nothing. False resumptions are calls in which the question seemed to go on in its pause, where a placeholder is said: after a greeting + without one.
//! Of the callers who cut in, 1.8 s into a greeting or an answer: how many silenced the box, and how many were taken as a barge-in, within
//! 150 and 250 ms of their first voiced sample; of those who go on over a placeholder after a greeting: how many were heard to.

use std::time::Duration;

#[path = "../tests/support/returning.rs"]
mod returning;

use returning::{CutIn, FarEnd, LINES, Outcome, Sounds, call};

const DELAYS_MS: [u64; 5] = [20, 60, 120, 200, 350];
const LOSSES_DB: [Option<f32>; 4] = [Some(12.0), Some(18.0), Some(25.0), None];
const SHIFTS: [usize; 2] = [0, 93];
/// The callers' levels.
const LEVELS_DBFS: [f32; 2] = [-20.0, -29.0];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let quick = !whole || arguments.iter().any(|argument| argument == "quick");
    let lines = if quick { &LINES[..1] } else { &LINES[..] };
    let delays = if whole { &DELAYS_MS[..] } else { &DELAYS_MS[..1] };
    let sounds = LEVELS_DBFS.map(|dbfs| lines.iter().map(|lines| Sounds::speak(lines, dbfs)).collect::<Vec<_>>());
    println!(
        "| way back | calls | false barge-ins | false resumptions | false pauses | questions missed | caller at {} dBFS: silent 150/250 ms | taken 150/250 ms | goes on 150/250 ms | at {} dBFS: silent | taken | goes on |",
        LEVELS_DBFS[0], LEVELS_DBFS[1]
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for loss_db in LOSSES_DB {
        // Without an echo there is no delay.
        for &delay_ms in if loss_db.is_some() { delays } else { &delays[..1] } {
            let delay = Duration::from_millis(delay_ms);
            let far = |cut_in, shift| FarEnd { delay, loss_db, greeted: true, cut_in, shift };
            let alone: Vec<Outcome> = sounds[0].iter().map(|sounds| call(sounds, far(CutIn::Never, 0))).collect();
            let double = sounds.each_ref().map(|sounds| {
                let mut outcomes = Vec::new();
                for sounds in sounds {
                    for shift in SHIFTS {
                        outcomes.push(call(sounds, far(CutIn::Greeting, shift)));
                        outcomes.push(call(sounds, far(CutIn::Answer, shift)));
                    }
                }
                outcomes
            });
            let going_on = |greeted| {
                sounds.each_ref().map(|sounds| {
                    let far = |shift| FarEnd { greeted, ..far(CutIn::Placeholder, shift) };
                    sounds.iter().flat_map(|sounds| SHIFTS.map(|shift| call(sounds, far(shift)))).collect::<Vec<_>>()
                })
            };
            let [greeted, ungreeted] = [true, false].map(going_on);
            let known = || alone.iter().chain(double.iter().chain(&greeted).flatten());
            let unknown = || ungreeted.iter().flatten();
            let every = || known().chain(unknown());
            let resumptions = |outcome: &Outcome| usize::from(outcome.false_resumptions > 0);
            let paused: Duration = alone.iter().map(|outcome| outcome.false_pause).sum();
            let way = loss_db.map_or("no echo".to_owned(), |db| format!("{delay_ms} ms, {db} dB"));
            print!(
                "| {way} | {} | {} | {} + {} | {} ms | {} |",
                every().count(),
                every().map(|outcome| outcome.false_starts).sum::<usize>(),
                known().map(resumptions).sum::<usize>(),
                unknown().map(resumptions).sum::<usize>(),
                paused.as_millis() / alone.len() as u128,
                every().filter(|outcome| outcome.question_missed).count(),
            );
            let share = |outcomes: &[Outcome], of: fn(&Outcome) -> Option<Duration>| {
                let within = |ms| {
                    let taken =
                        outcomes.iter().filter(|o| of(o).is_some_and(|after| after <= Duration::from_millis(ms)));
                    100 * taken.count() / outcomes.len()
                };
                format!("{}/{} %", within(150), within(250))
            };
            for (double, going_on) in double.iter().zip(&greeted) {
                let silent = share(double, |outcome| outcome.silent_after);
                let taken = share(double, |outcome| outcome.taken_after);
                print!(" {silent} | {taken} | {} |", share(going_on, |outcome| outcome.taken_after));
            }
            println!();
        }
    }
}
