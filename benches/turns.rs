//! The figures of turn-taking on the wire: first sound with and without a cloud, speculation, thinking pauses, barge-in, coughs.
//!
//! `offhook run`, `offhook simulator` and `offhook call` are processes of their own, over real SIP and RTP on loopback. Prints one Markdown table.
//! `cargo bench --bench turns` (forty minutes for 1,000 turns a row); `-- --turns 60` for a look; `-- first-sound`, `black-hole`, `speculation`,
//! `thinking`, `barge-in`, `cough` for a part. Needs espeak-ng and sox.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use offhook::pcm::{FRAME_SAMPLES, level, wav};
use offhook::timeline::TurnReport;
use serde_json::Value;

#[path = "support/callers.rs"]
mod callers;
#[path = "support/processes.rs"]
mod processes;
use callers::QUESTIONS;
use processes::{Appliance, all, cost, of_calls, row, run, start, timeline, together, words};

/// A caller who thinks for 700 ms in the middle.
const THINKING: [(&str, &str); 3] = [
    ("en-us", "I would like to order [700] a taxi for tomorrow morning."),
    ("he", "[[?an'i Q\"ots'e lehazm'in]] [700] [[mon'it lemaX'aQ\" bab'okeQ\"]]"),
    ("ru", "Я хотел бы заказать [700] такси на завтрашнее утро."),
];

/// Calls at once.
const AT_ONCE: usize = 16;
/// Turns of one call.
const TURNS_OF_CALL: usize = 8;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--b")).collect();
    let number = asked.iter().position(|argument| argument == "--turns").and_then(|at| asked.get(at + 1)?.parse().ok());
    let turns: usize = number.unwrap_or(1000);
    let parts = ["first-sound", "black-hole", "speculation", "thinking", "barge-in", "cough"];
    let named: Vec<&str> = parts.into_iter().filter(|part| asked.iter().any(|argument| argument == part)).collect();
    let wants = |part: &str| named.is_empty() || named.contains(&part);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // 30 ms a word: the simulator's texts have 1.4 of its tokens a word.
    let (_simulator, url) =
        start(&["simulator", "--first-token-ms", "500", "--tokens-per-second", "47"], "listening on ", false);
    println!("| figure (ms unless said) | goal | n | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|---|");
    if wants("first-sound") {
        first_sound(&run(folder, &url, "clean", &voice(folder, 20, 0.4)), turns, "");
    }
    if wants("black-hole") {
        let (address, _held) = black_hole();
        let hole = run(folder, &format!("http://{address}"), "hole", &voice(folder, 20, 0.4));
        first_sound(&hole, turns, ", every cloud address a black hole");
    }
    if wants("speculation") {
        speculation(folder, &url, turns / 5);
    }
    if wants("thinking") {
        thinking(&run(folder, &url, "thinking", &voice(folder, 20, 0.4)), turns / 5);
    }
    if wants("barge-in") {
        barge_in(&run(folder, &url, "barge-in", ""), turns / 5);
    }
    if wants("cough") {
        cough(folder, &run(folder, &url, "cough", &voice(folder, 20, 6.0)), turns / 25);
    }
}

/// A voice whose every phrase is the same chirp of so many seconds, after so many milliseconds.
fn voice(folder: &Path, first_audio_ms: u64, seconds: f32) -> String {
    let chirp = folder.join(format!("chirp-{seconds}.wav"));
    let to = 300.0 + 300.0 * seconds;
    sox(
        &["-n", "-r", "16000", "-b", "16", &chirp.display().to_string()],
        &format!("synth {seconds} sine 300:{to} gain -6"),
    );
    let script = format!("cat > /dev/null; sleep 0.{first_audio_ms:03}; cat {}", chirp.display());
    format!("[voice]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n[conversation]\ngreeting = false\n")
}

fn sox(files: &[&str], effects: &str) {
    let made = Command::new("sox").arg("-D").args(files).args(effects.split(' ')).status();
    assert!(made.expect("sox is installed").success(), "sox {files:?} {effects}");
}

/// An address on which a connection is never made, as long as what comes with it is held: its queue is full, and more is dropped without a word.
fn black_hole() -> (SocketAddr, Vec<Box<dyn std::any::Any>>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    listener.listen(1).expect("a queue");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let mut held: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(Box::new(connection));
    }
    (address, held)
}

/// So many turns in calls of a few, some at once.
fn turns_of(appliance: &Appliance, turns: usize, more: &[&str]) -> Vec<Value> {
    let mut reports = Vec::new();
    for round in 0..turns.div_ceil(AT_ONCE * TURNS_OF_CALL) {
        let calls = (0..AT_ONCE).map(|n| {
            let (voice, _) = QUESTIONS[(round + n) % QUESTIONS.len()];
            // One voice says all the questions of its language.
            let language = |voice: &str| voice.chars().take(2).collect::<String>();
            let texts = QUESTIONS.iter().filter(|(other, _)| language(other) == language(voice)).map(|(_, text)| *text);
            let mut call = words(&["--voice", voice, "--answer-quiet-ms", "700", "--greeting-wait-ms", "300"]);
            call.extend(texts.cycle().take(TURNS_OF_CALL).flat_map(|text| words(&["--say", text])));
            call.extend(words(more));
            call
        });
        reports.extend(together(calls.collect(), &appliance.uri));
    }
    reports
}

fn first_sound(appliance: &Appliance, turns: usize, condition: &str) {
    let reports = turns_of(appliance, turns, &["--answer-wait-ms", "9000"]);
    row(&format!("first sound{condition}"), "p50 ≤ 400, p95 ≤ 480, p99 ≤ 500", all(&reports, "first_sound_ms"));
    let spoken = reports.iter().flat_map(|report| report["calls"].as_array()).flatten();
    let said = spoken.filter_map(|call| call["turns"].as_array()).map(Vec::len).sum::<usize>();
    let silent = said - all(&reports, "first_sound_ms").len();
    println!("| turns without any sound{condition} | 0 | {said} | {silent} | | | |");
    row(&format!("answer or apology{condition}"), "", answers(&reports));
    let own: Vec<f64> = reports.iter().flat_map(|report| of_calls(report, "own", "late_p99_ms")).collect();
    row("the phone's own lateness, each call's p99", "< 1", own);
    let (seconds, _, peak) = cost(appliance.process.id());
    println!("| processor seconds and peak memory (MB) of the box{condition} | | 1 | {seconds:.1} | {peak:.1} | | |");
}

fn answers(reports: &[Value]) -> Vec<f64> {
    let mut starts = all(reports, "answer_start_ms");
    starts.extend(all(reports, "apology_start_ms"));
    starts
}

fn speculation(folder: &Path, url: &str, turns: usize) {
    let mut medians = Vec::new();
    for (name, on) in [("speculating", true), ("waiting", false)] {
        let extra = format!("{}speculation = {on}\n", voice(folder, 20, 0.4));
        let appliance = run(folder, url, name, &extra);
        let reports = turns_of(&appliance, turns, &[]);
        let mut starts = all(&reports, "answer_start_ms");
        starts.sort_by(f64::total_cmp);
        medians.push(starts.get(starts.len() / 2).copied().unwrap_or(f64::NAN));
        row(&format!("answer start, {name}"), if on { "p50 ≤ 850" } else { "" }, starts);
        let own = timeline(&appliance.timeline);
        let sum = |of: fn(&TurnReport) -> u32| own.iter().map(of).sum::<u32>();
        let (asked, wasted) = (sum(|turn| turn.requests), sum(|turn| turn.requests_wasted));
        let hits = own.iter().filter(|turn| turn.speculative).count();
        println!(
            "| … requests, of them wasted, turns answered by a speculative one, turns | | {} | {asked} | {wasted} | {hits} | |",
            own.len()
        );
    }
    println!("| speculation: answer earlier at the median by | ≥ 150 | 1 | {:.0} | | | |", medians[1] - medians[0]);
}

fn thinking(appliance: &Appliance, turns: usize) {
    let mut reports = Vec::new();
    for round in 0..turns.div_ceil(AT_ONCE) {
        let calls = (0..AT_ONCE).map(|n| {
            let (voice, text) = THINKING[(round + n) % THINKING.len()];
            words(&["--voice", voice, "--say", text, "--answer-quiet-ms", "700"])
        });
        reports.extend(together(calls.collect(), &appliance.uri));
    }
    row("700 ms thinking pause: answer to half a question, ms of it", "0", all(&reports, "spoke_over_caller_ms"));
    let over = all(&reports, "placeholder_stop_after_resume_ms");
    row("700 ms thinking pause: placeholder over the caller", "≤ 100", over);
}

fn barge_in(appliance: &Appliance, turns: usize) {
    let mut reports = Vec::new();
    for round in 0..turns.div_ceil(12) {
        let calls = QUESTIONS.iter().chain(&QUESTIONS).enumerate().map(|(n, (voice, text))| {
            let after = (700 + 130 * ((round + n) % 7)).to_string();
            words(&[
                "--voice",
                voice,
                "--say",
                text,
                "--say",
                text,
                "--barge-in-ms",
                &after,
                "--answer-quiet-ms",
                "700",
            ])
        });
        reports.extend(together(calls.collect(), &appliance.uri));
    }
    row("barge-in: caller's onset → last voiced packet", "p95 ≤ 150", all(&reports, "barge_in_stop_ms"));
}

/// Short sounds over an answer that is one long chirp, so that its frequency tells which part of it is heard.
fn cough(folder: &Path, appliance: &Appliance, rounds: usize) {
    let chirp =
        wav::read(&std::fs::read(folder.join("chirp-6.wav")).expect("the chirp")).expect("sox writes WAV").samples;
    for (name, effects) in [
        ("cough of 200 ms", "synth 0.2 pinknoise band 900 700 fade 0.01 0.2 0.08 gain -n -8"),
        ("voiced cough of 200 ms", "synth 0.2 sawtooth 140:110 band 700 500 fade 0.01 0.2 0.06 gain -n -8"),
        ("\"mm\" of 350 ms", "synth 0.35 triangle 130:115 lowpass 900 fade 0.04 0.35 0.08 gain -n -10"),
    ] {
        let file = folder.join("cough.wav").display().to_string();
        sox(&["-n", "-r", "16000", "-b", "16", &file], effects);
        let rounds = rounds.max(1);
        let records: Vec<String> =
            (0..rounds).map(|round| folder.join(format!("cough-{round}.wav")).display().to_string()).collect();
        for (chunk, records) in records.chunks(8).enumerate() {
            let calls = records.iter().enumerate().map(|(n, record)| {
                let after = (900 + 77 * ((chunk * 8 + n) % 40)).to_string();
                let mut call = words(&["--say", QUESTIONS[0].1, "--play", &file, "--barge-in-ms", &after]);
                call.extend(words(&["--record", record, "--answer-quiet-ms", "900", "--greeting-wait-ms", "300"]));
                call
            });
            together(calls.collect(), &appliance.uri);
        }
        let heard: Vec<Resumption> =
            records.iter().map(|file| resumption(&chirp, &std::fs::read(file).expect("the recording"))).collect();
        let of = |which: fn(&Resumption) -> bool| heard.iter().filter(|heard| which(heard)).count();
        println!(
            "| {name} over the answer: the answer ended by it | 0 | {rounds} | {} | | | |",
            of(|h| *h == Resumption::Cut)
        );
        println!("| … not noticed, the answer went on | | {rounds} | {} | | | |", of(|h| *h == Resumption::None));
        let gaps = |pick: fn(f64, f64) -> f64| {
            let gap = |heard: &Resumption| {
                if let Resumption::Gap { silent, lost } = heard { Some(pick(*silent, *lost)) } else { None }
            };
            heard.iter().filter_map(gap).collect::<Vec<f64>>()
        };
        row(&format!("{name} over the answer: speech lost"), "≤ 20", gaps(|_, lost| lost));
        row(&format!("{name} over the answer: silence"), "", gaps(|silent, _| silent));
    }
}

/// What a sound of the caller's did to an answer; ms.
#[derive(Debug, PartialEq)]
enum Resumption {
    /// It did nothing.
    None,
    /// The answer was silent for so long, and so much of it was never heard.
    Gap { silent: f64, lost: f64 },
    /// The answer did not go on.
    Cut,
}

/// Looks for a silence of at least 60 ms within the first chirp of the answer.
fn resumption(chirp: &[i16], recording: &[u8]) -> Resumption {
    const HOP: usize = FRAME_SAMPLES / 4;
    /// Behind a pause and before it there must be so much to tell the place by; the fades at its edges tell nothing.
    const PIECE: usize = 1600;
    const FADE: usize = 480;
    let header = wav::header(recording).ok().flatten().expect("the phone writes WAV");
    let heard: Vec<i16> =
        recording[header.data_at..].chunks_exact(4).map(|both| i16::from_le_bytes([both[2], both[3]])).collect();
    let voiced: Vec<bool> = heard.chunks(HOP).map(|hop| level::rms_dbfs(hop) > level::VOICED_DBFS).collect();
    let mut at = 0;
    while at < voiced.len() {
        let run = voiced[at..].iter().take_while(|&&v| v == voiced[at]).count();
        let (from, to) = (at * HOP, (at + run) * HOP);
        at += run;
        if voiced[at - run] || to - from < 960 || from < PIECE + FADE {
            continue;
        }
        // Of the sounds before a pause only the answer is from the chirp.
        let Some(left) = place(chirp, &heard[from - PIECE - FADE..from - FADE]) else { continue };
        let last = left + PIECE + FADE;
        if last + 1600 > chirp.len() {
            return Resumption::None;
        }
        let after = heard.get(to + FADE..to + FADE + PIECE).and_then(|after| place(chirp, after));
        return match after.filter(|&right| right + 1600 > last) {
            Some(right) => Resumption::Gap {
                silent: (to - from) as f64 / 16.0,
                lost: (right as f64 - FADE as f64 - last as f64) / 16.0,
            },
            None => Resumption::Cut,
        };
    }
    Resumption::Cut
}

/// Where in the chirp this piece is, if it is from it: the lag with the highest normalised correlation.
fn place(chirp: &[i16], piece: &[i16]) -> Option<usize> {
    let energy = |samples: &[i16]| samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>().sqrt();
    let own = energy(piece);
    let alike = |at: usize| {
        let part = &chirp[at..at + piece.len()];
        let product: f64 = part.iter().zip(piece).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        product / (own * energy(part)).max(1.0)
    };
    let best =
        (0..chirp.len().saturating_sub(piece.len())).map(|at| (at, alike(at))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > 0.9).then_some(best.0)
}
