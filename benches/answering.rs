//! The figures of answering on the wire: how soon the request leaves, how soon a clause is given to the voice, how far apart sentences are heard.
//!
//! `offhook run`, `offhook simulator` and `offhook call` are processes of their own, over real SIP and RTP on loopback. Prints one Markdown table.
//! `cargo bench --bench answering` (three minutes); `-- --turns 24` for a look. Needs espeak-ng and sox. `-- faults` prints instead what a caller hears
//! of every fault that the model can have, and when: whole calls within this process, a minute.

use std::path::Path;
use std::process::Command;

use offhook::simulator::NAMES;
use offhook::timeline::TurnReport;
use serde_json::Value;

#[path = "support/callers.rs"]
mod callers;
#[path = "support/processes.rs"]
#[allow(dead_code)]
mod processes;
#[path = "../tests/support/house.rs"]
#[allow(dead_code)]
mod house;
#[path = "../tests/support/ill.rs"]
#[allow(dead_code)]
mod ill;
use callers::QUESTIONS;
use processes::{Appliance, all, row, run, start, timeline, together, words};

/// Turns of one call.
const TURNS_OF_CALL: usize = 4;
/// Bytes of 8 kHz sound in 100 ms of a voice that is 1.5 times as quick as speech.
const BYTES_EACH_100_MS: usize = 2400;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if asked.iter().any(|argument| argument == "faults") {
        return faults();
    }
    let number = asked.iter().position(|argument| argument == "--turns").and_then(|at| asked.get(at + 1)?.parse().ok());
    let turns: usize = number.unwrap_or(240);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let (_simulator, url) =
        start(&["simulator", "--first-token-ms", "600", "--tokens-per-second", "40"], "listening on ", false);
    println!("| figure (ms) | goal | n | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|---|");
    // Without speculation, so that the decision is the soft end and no hard end hides what is ours.
    let settings = format!("{}speculation = false\n", voice(folder));
    let appliance = run(folder, &url, "answering", &settings);
    let reports = turns_of(&appliance, turns);
    let own = timeline(&appliance.timeline);
    let between = |from: fn(&TurnReport) -> Option<f64>, to: fn(&TurnReport) -> Option<f64>| -> Vec<f64> {
        own.iter().filter_map(|turn| Some(to(turn)? - from(turn)?)).collect()
    };
    let asking = between(|turn| turn.end_of_utterance_ms, |turn| turn.gemini_start_ms);
    row("decision → the request's bytes on the socket", "p99 ≤ 5", asking);
    row("first clause → given to the voice", "≤ 5", between(|turn| turn.first_clause_ms, |turn| turn.tts_start_ms));
    row(
        "own share: both, and from the voice's first sound to its first packet",
        "p95 ≤ 40",
        own.iter().filter_map(share).collect(),
    );
    row(
        "answer audible (600 ms to the first token, 40 tokens/s, a voice of 250 ms)",
        "p95 ≤ 2500",
        all(&reports, "answer_start_ms"),
    );
    row(
        "longest silence within an answer, no pauses asked for, a voice at 1.5 × real time",
        "≤ 120",
        all(&reports, "answer_longest_gap_ms"),
    );
    row("last packet of the answer", "", all(&reports, "answer_end_ms"));
    row("first sound", "p95 ≤ 480", all(&reports, "first_sound_ms"));
}

/// Every fault in a call of its own.
fn faults() {
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).chain([ill::REFUSED]).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    println!("{}", ill::COLUMNS);
    runtime.block_on(ill::calls(&names)).iter().for_each(|ill| println!("{ill}"));
}

/// What of an answer's start is neither the model's nor the voice's.
fn share(turn: &TurnReport) -> Option<f64> {
    Some(
        turn.gemini_start_ms? - turn.end_of_utterance_ms? + turn.tts_start_ms? - turn.first_clause_ms?
            + turn.answer_start_ms?
            - turn.tts_first_audio_ms?,
    )
}

/// A voice that says one second of a tone for each phrase: nothing for 250 ms, then at one and a half times the pace of speech.
fn voice(folder: &Path) -> String {
    let tone = folder.join("tone.wav").display().to_string();
    let made = Command::new("sox")
        .args(["-D", "-n", "-r", "8000", "-b", "16", &tone, "synth", "1.0", "sine", "440", "gain", "-6"])
        .status();
    assert!(made.expect("sox is installed").success(), "sox made no tone");
    let pieces = 16_044_usize.div_ceil(BYTES_EACH_100_MS);
    let script = format!(
        "cat > /dev/null; sleep 0.25; exec < {tone}; for n in $(seq {pieces}); do head -c {BYTES_EACH_100_MS}; sleep 0.1; done"
    );
    format!(
        "[voice]\ncommand = [\"sh\", \"-c\", \"{script}\"]\npause_after_clause_ms = 0\npause_after_sentence_ms = 0\n[conversation]\ngreeting = false\n"
    )
}

/// So many turns in calls of a few, six at once.
fn turns_of(appliance: &Appliance, turns: usize) -> Vec<Value> {
    let mut reports = Vec::new();
    for _ in 0..turns.div_ceil(QUESTIONS.len() * TURNS_OF_CALL) {
        let calls = QUESTIONS.iter().map(|(voice, text)| {
            let mut call = words(&["--voice", voice, "--answer-quiet-ms", "900", "--greeting-wait-ms", "300"]);
            call.extend((0..TURNS_OF_CALL).flat_map(|_| words(&["--say", text])));
            call
        });
        reports.extend(together(calls.collect(), &appliance.uri));
    }
    reports
}
