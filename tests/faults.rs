//! Everything that can go wrong with the model, each in a whole call on the wire: what the caller hears. When is measured by
//! `cargo bench --bench answering -- faults`, and asserted in virtual time by the conversation's tests of the ladder.

use offhook::simulator::NAMES;
use offhook::timeline::TurnOutcome::{self, Answered, Apologised, Truncated};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
#[path = "support/ill.rs"]
#[allow(dead_code)]
mod ill;
use house::Sound::{self, Answer, Apology, Goodbye, Second};
use ill::Illness;

/// A fault; what is heard of the two questions but placeholders, phrases of one answer counted once; phrases of the first answer; how the
/// turns are booked; requests that a turn may cost.
type Row = (&'static str, [&'static [Sound]; 2], usize, TurnOutcome, u32);

/// One question is asked where the box hangs up after it.
const ONE: &[Sound] = &[];
const ANSWER: [&[Sound]; 2] = [&[Answer], &[Second]];
const APOLOGY: [&[Sound]; 2] = [&[Apology], &[Apology]];
const LEAVE: [&[Sound]; 2] = [&[Apology, Goodbye], ONE];

const TABLE: [Row; 38] = [
    // An answer in any form that the wire may have.
    ("S1", ANSWER, 3, Answered, 1),
    ("S2", ANSWER, 3, Answered, 1),
    ("S3", ANSWER, 3, Answered, 1),
    ("S10", ANSWER, 3, Answered, 1),
    ("S12", ANSWER, 3, Answered, 1),
    ("S13", ANSWER, 3, Answered, 1),
    ("S14", ANSWER, 3, Answered, 1),
    // Functions: the answer is that to their results, even when another one was begun before them.
    ("S4", ANSWER, 3, Answered, 2),
    ("S4-two", ANSWER, 3, Answered, 2),
    ("S4-text", ANSWER, 6, Answered, 2),
    ("S4-no-id", ANSWER, 3, Answered, 2),
    // Three rounds, and a last request without functions, which a lone model is asked twice.
    ("S4-again", APOLOGY, 0, Apologised, 5),
    // A polite refusal, in the voice of the answers; after half of an answer, behind it.
    ("S5", [&[Answer], &[Answer]], 3, Answered, 1),
    ("S6", ANSWER, 3, Answered, 1),
    // Half of an answer, to the end of a sentence.
    ("S7", ANSWER, 2, Answered, 1),
    // The same, and the rest was promised by a clip.
    ("S11", [&[Answer, Apology], &[Second, Apology]], 2, Truncated, 1),
    // Less than a sentence: nothing of it is said, and it is not asked for again.
    ("S8", APOLOGY, 0, Apologised, 1),
    ("S8b", APOLOGY, 0, Apologised, 1),
    ("S9", APOLOGY, 0, Apologised, 1),
    // The model takes its leave.
    ("end-call", [&[Answer], ONE], 3, Answered, 1),
    ("end-call-only", [&[Goodbye], ONE], 0, Answered, 1),
    // Nothing came. Twice where it is quick: once early, and once at the soft end.
    ("empty", APOLOGY, 0, Apologised, 2),
    ("hang", APOLOGY, 0, Apologised, 1),
    ("reset", APOLOGY, 0, Apologised, 2),
    ("200-error", APOLOGY, 0, Apologised, 2),
    ("200-html", APOLOGY, 0, Apologised, 2),
    ("400-country", APOLOGY, 0, Apologised, 2),
    ("429", APOLOGY, 0, Apologised, 2),
    ("429-bare", APOLOGY, 0, Apologised, 2),
    ("500", APOLOGY, 0, Apologised, 2),
    ("503", APOLOGY, 0, Apologised, 2),
    ("503-empty", APOLOGY, 0, Apologised, 2),
    ("503-html", APOLOGY, 0, Apologised, 2),
    ("504", APOLOGY, 0, Apologised, 2),
    (ill::REFUSED, APOLOGY, 0, Apologised, 0),
    // Nothing will come until somebody looks after the box.
    ("400-key", LEAVE, 0, Apologised, 1),
    ("403", LEAVE, 0, Apologised, 1),
    ("404", LEAVE, 0, Apologised, 1),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_the_caller_hears_something_sensible() {
    let known = |fault: &str| TABLE.iter().any(|(name, ..)| *name == fault);
    assert!(NAMES.iter().all(|(name, _)| known(name)), "a fault of the simulator is not in the table");
    let ills = ill::calls(&TABLE.map(|(fault, ..)| fault)).await;
    println!("{}", ill::COLUMNS);
    ills.iter().for_each(|ill| println!("{ill}"));
    let judged = TABLE
        .iter()
        .zip(&ills)
        .flat_map(|(row, ill)| judge(row, ill).into_iter().map(move |what| format!("{}: {what}: {ill:#}", ill.fault)));
    let wrong: Vec<String> = judged.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is not as it should be.
fn judge((_, heard, phrases, outcome, requests): &Row, ill: &Illness) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |so: bool, what: String| {
        if !so {
            wrong.push(what)
        }
    };
    let leaves = heard[1].is_empty();
    let questions = if leaves { 1 } else { 2 };
    must(ill.replies.len() == questions, format!("{} questions were asked", ill.replies.len()));
    must(ill.ended_by == if leaves { "callee" } else { "caller" }, format!("the {} hung up", ill.ended_by));
    must(
        ill.turns.iter().map(|turn| turn.outcome).eq(std::iter::repeat_n(*outcome, questions)),
        format!("the turns are {:?}", ill.turns.iter().map(|turn| turn.outcome).collect::<Vec<_>>()),
    );
    let asked = ill.requests;
    // Fewer on a machine so slow that the wait for an answer ends before they were all made.
    must(asked <= requests * questions as u32, format!("{asked} requests"));
    for (reply, heard) in ill.replies.iter().zip(heard) {
        must(reply.kinds() == *heard, format!("heard {:?}", reply.kinds()));
        must(reply.sensible().is_some(), "nothing sensible".into());
        must(reply.sounds.last().is_none_or(|last| last.sound != Sound::Placeholder), "it ends in a promise".into());
        let of_answer = reply.said().filter(|timed| matches!(timed.sound, Answer | Second)).count();
        must(of_answer == *phrases, format!("{of_answer} phrases"));
    }
    wrong
}
