//! The figures of docs/latency.md: `offhook run` as a black box between the simulator and the test phone, all three processes of their own,
//! over real SIP and RTP on loopback. Prints one Markdown table.
//!
//! `cargo bench --bench figures` (about ten minutes); `-- --quick` for a look; `-- questions`, `hesitation`, `barge-in`, `eight-calls` for a part.

use std::time::Instant;

use offhook::timeline::TurnReport;
use serde_json::Value;

#[path = "support/processes.rs"]
mod processes;
use processes::{Appliance, all, call, cost, of_calls, of_turns, row, run, start, timeline, together, words};

/// What callers say: language of the voice, text. Hebrew as phonemes, because espeak-ng 1.51
/// cannot read it.
const QUESTIONS: [(&str, &str); 9] = [
    ("en-us", "Good morning, are you open on Friday afternoon?"),
    ("en-us", "Could you tell me how I find you, please?"),
    ("en-us", "I would like to know what it costs."),
    ("he", "[[Sal'om _: ha?'im ?at'em ptuX'im bej'om SiS'i]]"),
    ("he", "[['ejX ?an'i mag'i?a ?elejX'em bevakaS'a]]"),
    ("he", "[[k'ama ze ?ol'e]]"),
    ("ru", "Доброе утро, вы работаете в пятницу?"),
    ("ru", "А как до вас доехать, скажите пожалуйста?"),
    ("ru", "Сколько это стоит?"),
];

/// The same with a pause of 700 ms inside.
const HESITANT: [(&str, &str); 3] = [
    ("en-us", "I would like to order [700] a taxi for tomorrow morning."),
    ("he", "[[?an'i Q\"ots'e lehazm'in]] [700] [[mon'it lemaX'aQ\" bab'okeQ\"]]"),
    ("ru", "Я хотел бы заказать [700] такси на завтрашнее утро."),
];

/// Milliseconds of an answer's start that are neither the decision's nor the simulator's: from the decision to the request, and from the
/// first clause to its first voiced packet.
fn own_share(turn: &TurnReport) -> Option<f64> {
    Some(turn.gemini_start_ms? - turn.end_of_utterance_ms? + turn.answer_start_ms? - turn.first_clause_ms?)
}

/// Each question twice in a call, three languages at a time.
fn questions(appliance: &Appliance, rounds: usize) {
    let mut reports: Vec<(&str, Value)> = Vec::new();
    for n in 0..3 * rounds {
        let three: Vec<_> = QUESTIONS.iter().skip(n % 3).step_by(3).collect();
        let calls =
            three.iter().map(|(voice, text)| words(&["--voice", voice, "--say", text, "--say", text])).collect();
        reports.extend(three.iter().map(|(voice, _)| *voice).zip(together(calls, &appliance.uri)));
    }
    let of = |voice: &str, figure: &str| {
        let spoken = reports.iter().filter(|(spoken, _)| voice.is_empty() || *spoken == voice);
        spoken.flat_map(|(_, report)| of_turns(report, figure)).collect::<Vec<_>>()
    };
    row("first sound, at the caller's socket", "p50 ≤ 430, p95 ≤ 500", of("", "first_sound_ms"));
    for voice in ["en-us", "he", "ru"] {
        row(&format!("first sound, caller speaks {voice}"), "", of(voice, "first_sound_ms"));
    }
    row("answer start, at the caller's socket", "p50 ≤ 1100", of("", "answer_start_ms"));
    let own = timeline(&appliance.timeline);
    let decided = own.iter().filter_map(|turn| Some(turn.placeholder_start_ms? - turn.end_of_utterance_ms?)).collect();
    row("decision → placeholder packet", "≤ 20", decided);
    row("the box's own share of the answer's start", "p95 ≤ 60", own.iter().filter_map(own_share).collect());
}

fn hesitation(appliance: &Appliance, rounds: usize) {
    let reports: Vec<_> = (0..rounds)
        .flat_map(|_| {
            let calls =
                HESITANT.iter().map(|(voice, text)| words(&["--voice", voice, "--say", text, "--say", text])).collect();
            together(calls, &appliance.uri)
        })
        .collect();
    row(
        "700 ms pause: placeholder stops after speech resumes",
        "≤ 100",
        all(&reports, "placeholder_stop_after_resume_ms"),
    );
    row("700 ms pause: answer over the caller's second half", "0", all(&reports, "spoke_over_caller_ms"));
}

fn barge_in(appliance: &Appliance, rounds: usize) {
    let mut reports = Vec::new();
    for n in 0..3 * rounds {
        let three = QUESTIONS.iter().skip(n % 3).step_by(3);
        let calls = three
            .map(|(voice, text)| words(&["--voice", voice, "--say", text, "--say", text, "--barge-in-ms", "900"]))
            .collect();
        reports.extend(together(calls, &appliance.uri));
    }
    row("barge-in: caller's onset → last voiced packet", "p95 ≤ 150", all(&reports, "barge_in_stop_ms"));
}

fn eight_calls(appliance: &Appliance, rounds: usize) {
    let pid = appliance.process.id();
    let (before, _, _) = cost(pid);
    let began = Instant::now();
    let (voice, text) = QUESTIONS[0];
    let rounds = rounds.to_string();
    let eight = call(
        &appliance.uri,
        &["--voice", voice, "--say", text, "--say", QUESTIONS[1].1, "--calls", "8", "--repeat", &rounds],
    );
    let (after, _, peak) = cost(pid);
    let share = (after - before) / began.elapsed().as_secs_f64() * 100.0;
    row(
        "8 calls: interval off 20 ms, each call's p99.9",
        "≤ 2",
        of_calls(&eight, "packets", "interval_deviation_p999_ms"),
    );
    row(
        "8 calls: interval off 20 ms, each call's largest",
        "",
        of_calls(&eight, "packets", "interval_deviation_max_ms"),
    );
    row("8 calls: packets lost, each call", "0", of_calls(&eight, "packets", "lost"));
    row("8 calls: first sound", "", of_turns(&eight, "first_sound_ms"));
    row("8 calls: answer start", "", of_turns(&eight, "answer_start_ms"));
    row("the phone's own lateness, each call's p99", "< 1", of_calls(&eight, "own", "late_p99_ms"));
    row("the phone's own lateness, each call's largest", "", of_calls(&eight, "own", "late_max_ms"));
    row("host steal in percent, each call", "< 1", of_calls(&eight, "own", "host_steal_percent"));
    println!(
        "| 8 calls: processor of the box in percent of one core (without espeak-ng) | < 10 | 1 | {share:.1} | | | |"
    );
    println!("| resident memory with 8 calls, peak, MB | | 1 | {peak:.1} | | | |");
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--b")).collect();
    let rounds = if asked.iter().any(|argument| argument == "--quick") { 1 } else { 3 };
    let wants = |part: &str| asked.iter().all(|argument| argument.starts_with("--")) || asked.iter().any(|a| a == part);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_simulator, url) =
        start(&["simulator", "--first-token-ms", "500", "--tokens-per-second", "60"], "listening on ", false);
    let appliance = run(folder.path(), &url, "clean", "");
    let (_, idle, _) = cost(appliance.process.id());
    println!("| figure (ms unless said) | goal | n | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|---|");
    if wants("questions") {
        questions(&appliance, rounds);
    }
    if wants("hesitation") {
        hesitation(&appliance, rounds);
    }
    if wants("barge-in") {
        barge_in(&appliance, rounds);
    }
    if wants("eight-calls") {
        eight_calls(&appliance, rounds);
    }
    println!("| resident memory idle, MB | ≤ 25 | 1 | {idle:.1} | | | |");
}
