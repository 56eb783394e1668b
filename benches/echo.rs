//! What the box does when its own voice comes back from the far end, over delays and losses, with and without a caller who speaks
//! over it: `cargo bench --bench echo`. Needs espeak-ng. `-- quick` takes one language.
//!
//! False barge-ins are utterances that were heard while nobody spoke; false pauses are how long a minute of what the box says was silenced for
//! nothing. False resumptions are calls in which the question seemed to go on in its pause, where a placeholder is said: after a greeting + without one.
//! Of the callers who cut in, 1.8 s into a greeting or an answer, and 0.7 s into a greeting: after how long (median / 95 of 100) the box was silent, and
//! the barge-in taken, from their first voiced sample; of those who go on over a placeholder, after a greeting and without one: after how long they were heard.

use std::time::Duration;

#[path = "../tests/support/returning.rs"]
mod returning;

use returning::{CutIn, FarEnd, LINES, Outcome, Sounds, Way, call};

const DELAYS_MS: [u64; 5] = [20, 60, 120, 200, 350];
const WAYS: [(Way, f32); 5] =
    [(Way::Hybrid, 12.0), (Way::Hybrid, 18.0), (Way::Hybrid, 25.0), (Way::Handset, 12.0), (Way::Handset, 18.0)];
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
        "| way back | calls | false barge-ins | false resumptions | false pauses | questions missed | caller at {} dBFS: silent | taken | early: silent | taken | goes on | at {} dBFS: silent | taken | early: silent | taken | goes on |",
        LEVELS_DBFS[0], LEVELS_DBFS[1]
    );
    println!("|{}", "---|".repeat(16));
    for (way, loss_db) in WAYS {
        for &delay_ms in delays {
            row(&sounds, &format!("{way:?}, {delay_ms} ms, {loss_db} dB"), way, delay_ms, Some(loss_db));
        }
    }
    row(&sounds, "no echo", Way::Hybrid, 0, None);
}

fn row(sounds: &[Vec<Sounds>; 2], name: &str, way: Way, delay_ms: u64, loss_db: Option<f32>) {
    let delay = Duration::from_millis(delay_ms);
    let far = |cut_in, greeted, shift| FarEnd { way, delay, loss_db, greeted, cut_in, shift };
    let alone = |cut_in, greeted| sounds[0].iter().map(move |sounds| call(sounds, far(cut_in, greeted, 0)));
    let quiet: Vec<Outcome> = alone(CutIn::Never, true).collect();
    let unknown: Vec<Outcome> = alone(CutIn::Never, false).collect();
    let overruled: Vec<Outcome> =
        sounds.iter().flatten().map(|sounds| call(sounds, far(CutIn::Overruled, true, 0))).collect();
    let cutting = |cut_ins: &[(CutIn, bool)]| {
        sounds.each_ref().map(|sounds| {
            let mut outcomes = Vec::new();
            for sounds in sounds {
                for shift in SHIFTS {
                    outcomes.extend(cut_ins.iter().map(|&(cut_in, greeted)| call(sounds, far(cut_in, greeted, shift))));
                }
            }
            outcomes
        })
    };
    let double = cutting(&[(CutIn::Greeting, true), (CutIn::Answer, true)]);
    let early = cutting(&[(CutIn::EarlyInGreeting, true)]);
    let [greeted, ungreeted] = [true, false].map(|greeted| cutting(&[(CutIn::Placeholder, greeted)]));
    let first = || unknown.iter().chain(ungreeted.iter().flatten());
    let known = || {
        let cut_in = double.iter().chain(&early).chain(&greeted).flatten();
        quiet.iter().chain(&overruled).chain(cut_in)
    };
    let every = || known().chain(first());
    let resumptions = |outcome: &Outcome| usize::from(outcome.false_resumptions > 0);
    let paused: Duration = quiet.iter().map(|outcome| outcome.false_pause).sum();
    print!(
        "| {name} | {} | {} | {} + {} | {} ms | {} |",
        every().count(),
        every().map(|outcome| outcome.false_starts).sum::<usize>(),
        known().map(resumptions).sum::<usize>(),
        first().map(resumptions).sum::<usize>(),
        paused.as_millis() / quiet.len() as u128,
        every().filter(|outcome| outcome.question_missed).count(),
    );
    for level in 0..sounds.len() {
        for outcomes in [&double, &early] {
            print!(" {} |", spread(&outcomes[level], |outcome| outcome.silent_after));
            print!(" {} |", spread(&outcomes[level], |outcome| outcome.taken_after));
        }
        let going_on = [&greeted[level][..], &ungreeted[level]].concat();
        print!(" {} |", spread(&going_on, |outcome| outcome.taken_after));
    }
    println!();
}

/// Median and 95th percentile, in ms.
fn spread(outcomes: &[Outcome], of: fn(&Outcome) -> Option<Duration>) -> String {
    let mut times: Vec<Option<u128>> =
        outcomes.iter().map(|outcome| of(outcome).map(|after| after.as_millis())).collect();
    // What never came is the longest.
    times.sort_by_key(|after| after.unwrap_or(u128::MAX));
    let at =
        |share: usize| times[(times.len() * share).div_ceil(100) - 1].map_or("never".to_owned(), |ms| ms.to_string());
    format!("{} / {}", at(50), at(95))
}
