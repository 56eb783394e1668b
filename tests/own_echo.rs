//! The box's own voice comes back to it: from a handset, or a bad hybrid. Needs espeak-ng; `cargo bench --bench echo` measures more.

use std::time::Duration;

#[path = "support/returning.rs"]
mod returning;

use returning::{CutIn, FarEnd, LINES, Sounds, call};

/// The way back that is worst, and how long it may take.
const LOUDEST_DB: f32 = 12.0;
const DELAYS_MS: [u64; 5] = [20, 60, 120, 200, 350];

fn far(delay_ms: u64, loss_db: f32, cut_in: CutIn) -> FarEnd {
    FarEnd { delay: Duration::from_millis(delay_ms), loss_db: Some(loss_db), greeted: true, cut_in, shift: 31 }
}

fn within(after: Option<Duration>, ms: u64) -> bool {
    after.is_some_and(|after| after <= Duration::from_millis(ms))
}

#[test]
fn no_answer_is_ended_or_broken_off_by_its_own_echo_and_the_caller_is_heard_between() {
    let ways = [[20, 350], [120, 200], [60, 350]];
    for (lines, delays_ms) in LINES.iter().zip(ways) {
        let sounds = Sounds::speak(lines, -20.0);
        for (delay_ms, loss_db) in delays_ms.into_iter().zip([LOUDEST_DB, 18.0]) {
            let outcome = call(&sounds, far(delay_ms, loss_db, CutIn::Never));
            let heard = outcome.false_starts + outcome.false_resumptions;
            let good = heard == 0 && !outcome.question_missed && outcome.false_pause <= Duration::from_millis(250);
            assert!(good, "{delay_ms} ms, {loss_db} dB: {outcome:?}");
        }
    }
}

#[test]
fn a_caller_who_cuts_in_is_heard_within_a_quarter_of_a_second_beside_the_echo() {
    let sounds = Sounds::speak(&LINES[0], -20.0);
    for delay_ms in DELAYS_MS {
        let outcome = call(&sounds, far(delay_ms, LOUDEST_DB, CutIn::Greeting));
        let good = outcome.false_starts == 0 && within(outcome.silent_after, 150) && within(outcome.taken_after, 250);
        assert!(good, "{delay_ms} ms: {outcome:?}");
    }
}

#[test]
fn a_soft_caller_who_goes_on_over_the_first_placeholder_is_heard_at_once_on_a_line_that_is_not_known() {
    let sounds = Sounds::speak(&LINES[0], -29.0);
    let far = FarEnd { loss_db: None, greeted: false, ..far(20, LOUDEST_DB, CutIn::Placeholder) };
    let outcome = call(&sounds, far);
    assert!(within(outcome.taken_after, 150), "{outcome:?}");
}
