//! The figures of docs/media.md on the wire: delay and damage through the box, the send clock under load, and what a call costs. Prints a
//! Markdown table.
//!
//! `cargo bench --bench media` runs all parts (about five minutes); `-- echo`, `clock`, `calls`, `cost` one of them. `offhook run` and
//! `offhook call` are processes of their own on loopback; what is said is noise with a slow swell, which is nowhere like itself, or speech by
//! espeak-ng where the box has to listen. Real-time priority has to be granted, as the unit does: the table says whether it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use offhook::pcm::{RATE, wav};
use offhook::timeline::Percentiles;
use serde_json::Value;

#[path = "support/processes.rs"]
#[allow(dead_code)]
mod processes;
use processes::{Appliance, Process, call, cost, start};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--burn") {
        loop {
            std::hint::spin_loop();
        }
    }
    let part = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("| figure | goal | measured |\n|---|---|---|");
    if part("echo") {
        echo(folder.path());
    }
    if part("clock") {
        clock(folder.path(), 50, Duration::from_secs(20));
    }
    if part("calls") {
        calls(folder.path(), 200, Duration::from_secs(20));
    }
    if part("cost") {
        [1, 32].into_iter().for_each(|calls| costs(folder.path(), calls));
    }
}

/// The box, for as many calls as wanted, and the model behind it.
fn appliance(folder: &Path, calls: usize) -> (Appliance, Process) {
    let (simulator, url) = start(&["simulator"], "listening on ", false);
    let config = folder.join("offhook.toml");
    let text = format!(
        "[sip]\nlisten = \"127.0.0.1:0\"\nmax_calls = {calls}\nmax_calls_per_second = 1000\necho_number = \"echo\"\n\
         [rtp]\nport_min = 20000\nport_max = 21999\n[gemini]\nbase_url = \"{url}\"\n[conversation]\nspeculation = false\n"
    );
    std::fs::write(&config, text).expect("the temporary folder takes a file");
    let (process, address) = start(&["run", "--config", &config.display().to_string()], "ready sip=", true);
    (Appliance { process, uri: format!("sip:echo@{address}"), timeline: PathBuf::new() }, simulator)
}

/// Noise with a slow swell, so long.
fn noise(folder: &Path, length: Duration) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut low = 0.0f32;
    let samples: Vec<i16> = (0..length.as_secs() as u32 * RATE)
        .map(|n| {
            low += 0.3 * (random.f32() * 2.0 - 1.0 - low);
            (low * (0.7 + 0.3 * (n as f32 / 900.0).sin()) * 12_000.0) as i16
        })
        .collect();
    let file = folder.join("noise.wav");
    std::fs::write(&file, wav::write(RATE, 1, &samples)).expect("the temporary folder takes a file");
    file.display().to_string()
}

fn figures(report: &Value, part: &str, figure: &str) -> Vec<f64> {
    report["calls"].as_array().into_iter().flatten().filter_map(|call| call[part][figure].as_f64()).collect()
}

fn percentiles(values: Vec<f64>) -> String {
    match Percentiles::of(values) {
        Some(p) => format!("p50 {:.2} / p95 {:.2} / max {:.2} (n {})", p.p50, p.p95, p.max, p.count),
        None => "–".into(),
    }
}

fn row(figure: &str, goal: &str, measured: impl std::fmt::Display) {
    println!("| {figure} | {goal} | {measured} |");
}

/// One call at a time: how much later a sample comes back than it left, and how alike.
fn echo(folder: &Path) {
    let (appliance, _simulator) = appliance(folder, 8);
    let sound = noise(folder, Duration::from_secs(8));
    let report = call(&appliance.uri, &["--echo", "--play", &sound, "--repeat", "12"]);
    row(
        "mouth to ear through the box, median of a call, ms (the sender's ptime left out)",
        "45",
        percentiles(figures(&report, "echo", "delay_p50_ms")),
    );
    row("the same, longest of a call", "45", percentiles(figures(&report, "echo", "delay_max_ms")));
    row(
        "match of 100 ms windows with what was said, mean of a call",
        "",
        percentiles(figures(&report, "echo", "match_mean")),
    );
    row("windows that did not come back", "0", percentiles(figures(&report, "echo", "missing")));
    row("under way from the box, p99 of a call, ms", "", percentiles(figures(&report, "packets", "one_way_p99_ms")));
}

/// Many calls while something else wants both cores.
fn clock(folder: &Path, many: usize, length: Duration) {
    let (appliance, _simulator) = appliance(folder, many);
    let sound = noise(folder, length);
    for loaded in [false, true] {
        let _burning: Vec<Burning> = (0..if loaded { cores() } else { 0 }).map(|_| Burning::start()).collect();
        let report = call(&appliance.uri, &["--echo", "--play", &sound, "--calls", &many.to_string()]);
        let what = if loaded { "every core busy" } else { "nothing else to do" };
        let figure = |figure| percentiles(figures(&report, "packets", figure));
        row(
            &format!("{many} calls, {what}: send interval off 20 ms, p99.9 of a call, ms"),
            "1",
            figure("interval_deviation_p999_ms"),
        );
        row(&format!("{many} calls, {what}: longest gap between two packets, ms"), "25", figure("longest_hole_ms"));
        row(&format!("{many} calls, {what}: packets lost"), "0", figure("lost"));
        row(
            &format!("{many} calls, {what}: the phones' own lateness p99, ms"),
            "",
            percentiles(figures(&report, "own", "late_p99_ms")),
        );
        row(&format!("{many} calls, {what}: calls that failed"), "0", report["failed"].as_array().map_or(0, Vec::len));
    }
}

/// As many calls as the box takes at most, near enough: how late the media thread wakes is what its packets show.
fn calls(folder: &Path, many: usize, length: Duration) {
    let (appliance, _simulator) = appliance(folder, many);
    let sound = noise(folder, length);
    let before = (Instant::now(), cost(appliance.process.id()));
    let report = call(&appliance.uri, &["--echo", "--play", &sound, "--calls", &many.to_string()]);
    let (seconds, used) = (before.0.elapsed().as_secs_f64(), cost(appliance.process.id()).0 - before.1.0);
    let figure = |figure| percentiles(figures(&report, "packets", figure));
    row(
        &format!("{many} calls: send interval off 20 ms, p99.9 of a call, ms"),
        "5",
        figure("interval_deviation_p999_ms"),
    );
    row(&format!("{many} calls: packets lost"), "0", figure("lost"));
    row(&format!("{many} calls: calls that failed"), "0", report["failed"].as_array().map_or(0, Vec::len));
    row(
        &format!("{many} calls: percent of a core a call, echo only"),
        "",
        format!("{:.2}", used / seconds * 100.0 / many as f64),
    );
}

/// What a call costs while its caller speaks: hearing, buffer, codec, everything.
fn costs(folder: &Path, many: usize) {
    let (appliance, _simulator) = appliance(folder, many.max(8));
    let uri = appliance.uri.replace("echo@", "620@");
    // The first calls find caches empty.
    call(&uri, &["--dtmf", "1", "--answer-wait-ms", "500"]);
    let idle = cost(appliance.process.id());
    let began = Instant::now();
    let text = "I would like to know whether you are open on Friday afternoon and how I find you from the station please because I \
                have never been there before and I do not know the town at all so it would be kind if you told me the way from the \
                station and where I can leave my car when I come by car and whether there is anything to eat nearby for my children";
    let report = call(
        &uri,
        &["--say", text, "--answer-wait-ms", "300", "--answer-quiet-ms", "100", "--calls", &many.to_string()],
    );
    let (seconds, now) = (began.elapsed().as_secs_f64(), cost(appliance.process.id()));
    let up: f64 =
        report["calls"].as_array().into_iter().flatten().filter_map(|call| call["duration_ms"].as_f64()).sum::<f64>()
            / 1e3;
    row(
        &format!("{many} calls whose caller speaks: percent of a core a call ({seconds:.0} s)"),
        "0.5",
        format!("{:.2}", (now.0 - idle.0) / up * 100.0),
    );
    row(
        &format!("{many} calls: resident memory a call at the peak, MB"),
        "1",
        format!("{:.2}", (now.2 - idle.1) / many as f64),
    );
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Another process that never rests.
struct Burning(std::process::Child);

impl Burning {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        Self(command.arg("--burn").stdout(Stdio::null()).spawn().expect("the bench starts itself"))
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
