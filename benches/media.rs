//! The figures of docs/media.md on the wire: delay and damage through the box, the send clock under load, and what a call costs. Prints a
//! Markdown table.
//!
//! `cargo bench --bench media` runs all parts (about five minutes); `-- echo`, `clock`, `calls`, `cost` one of them. `offhook run` and
//! `offhook call` are processes of their own on loopback; what is said is noise with a slow swell, which is nowhere like itself, or speech by
//! espeak-ng where the box has to listen. Real-time priority has to be granted, as the unit does: the table says whether it was.
//!
//! Beside what the wire shows stand what the box's media thread counted itself, and a bare clock: a thread that does nothing but wake every
//! 5 ms, at a higher priority. What that is late by is the machine's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use offhook::media::{Lateness, realtime};
use offhook::pcm::{RATE, wav};
use offhook::timeline::Percentiles;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};
use serde_json::Value;

#[path = "support/processes.rs"]
#[allow(dead_code)]
mod processes;
use processes::{Appliance, OFFHOOK, Process, call, cost, start, start_as};
#[path = "support/heap.rs"]
mod heap;

fn main() -> ExitCode {
    if let Some(code) = heap::run_as_offhook() {
        return code;
    }
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
        for codec in ["pcmu", "g722"] {
            [1, 8, 32].into_iter().for_each(|calls| costs(folder.path(), codec, calls));
        }
    }
    ExitCode::SUCCESS
}

/// The box, for as many calls as wanted, and the model behind it.
fn appliance(folder: &Path, calls: usize) -> (Appliance, Process) {
    let (appliance, simulator, _) = appliance_with_status(folder, calls);
    (appliance, simulator)
}

/// The same, and where it tells its state.
fn appliance_with_status(folder: &Path, calls: usize) -> (Appliance, Process, SocketAddr) {
    appliance_as(Command::new(OFFHOOK), folder, calls)
}

/// The same as another program that is `offhook`.
fn appliance_as(program: Command, folder: &Path, calls: usize) -> (Appliance, Process, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let status = free.expect("loopback has a free port");
    let (simulator, url) = start(&["simulator"], "listening on ", false);
    let config = folder.join("offhook.toml");
    let text = format!(
        "[sip]\nlisten = \"127.0.0.1:0\"\nmax_calls = {calls}\nmax_calls_per_second = 1000\necho_number = \"echo\"\n\
         [rtp]\nport_min = 20000\nport_max = 21999\n[gemini]\nbase_url = \"{url}\"\n[conversation]\nspeculation = false\n[status]\nlisten = \"{status}\"\n"
    );
    std::fs::write(&config, text).expect("the temporary folder takes a file");
    let (process, address) = start_as(program, &["run", "--config", &config.display().to_string()], "ready sip=", true);
    (Appliance { process, uri: format!("sip:echo@{address}"), timeline: PathBuf::new() }, simulator, status)
}

/// What the box's media thread has counted: how late it woke, and how late it served a call; upper bounds in seconds, and counts up to there.
struct Counted([Vec<(f64, u64)>; 2]);

impl Counted {
    fn now(status: SocketAddr) -> Self {
        let mut text = String::new();
        let asked = TcpStream::connect(status).and_then(|mut stream| {
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        asked.expect("the box tells its state");
        Self(["wake", "tick"].map(|what| {
            let buckets = format!("offhook_media_{what}_lateness_seconds_bucket{{le=\"");
            let bucket = |line: &str| {
                let (bound, count) = line.strip_prefix(&buckets)?.split_once("\"} ")?;
                Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
            };
            text.lines().filter_map(bucket).collect()
        }))
    }

    /// Rows of what was counted since.
    fn tell(&self, now: &Self, what: &str) {
        for (n, counted) in ["woke", "served a call"].into_iter().enumerate() {
            let since: Vec<(f64, u64)> = now.0[n].iter().zip(&self.0[n]).map(|(a, b)| (a.0, a.1 - b.1)).collect();
            row(&format!("{what}: the media thread {counted} late by, ms"), "", up_to(&since));
        }
    }
}

/// Percentiles of cumulated buckets, as the bound that is not exceeded.
fn up_to(buckets: &[(f64, u64)]) -> String {
    let all = buckets.last().map_or(0, |last| last.1);
    let bound = |part: f64| {
        let found = buckets.iter().find(|(_, count)| *count as f64 >= part * all as f64);
        found.map_or(f64::NAN, |(bound, _)| bound * 1e3)
    };
    format!("p50 ≤ {} / p99 ≤ {} / p99.9 ≤ {} / max ≤ {} (n {all})", bound(0.5), bound(0.99), bound(0.999), bound(1.0))
}

/// A thread that only wakes.
struct BareClock {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Lateness>,
}

impl BareClock {
    const PERIOD: Duration = Duration::from_millis(5);
    /// Above the box's media thread.
    const PRIORITY: u8 = 60;

    fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let _ = realtime::request(Self::PRIORITY);
            realtime::touch_stack();
            let lateness = Lateness::default();
            let (start, start_clock) = (Instant::now(), clock_gettime(ClockId::Monotonic));
            let mut due = Duration::ZERO;
            while !stopped.load(Relaxed) {
                due += Self::PERIOD;
                let nanoseconds = start_clock.tv_nsec as u128 + due.as_nanos();
                let at = Timespec {
                    tv_sec: start_clock.tv_sec + (nanoseconds / 1_000_000_000) as i64,
                    tv_nsec: (nanoseconds % 1_000_000_000) as _,
                };
                let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
                lateness.record(start.elapsed().saturating_sub(due));
            }
            lateness
        });
        Self { stop, thread }
    }

    fn stop(self, what: &str) {
        self.stop.store(true, Relaxed);
        let lateness = self.thread.join().expect("the bare clock does not panic");
        let cumulated = lateness.buckets().scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        });
        row(&format!("{what}: a bare clock woke late by, ms"), "", up_to(&cumulated.collect::<Vec<_>>()));
    }
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
    let (appliance, _simulator, status) = appliance_with_status(folder, many);
    let sound = noise(folder, length);
    for loaded in [false, true] {
        let _burning: Vec<Burning> = (0..if loaded { cores() } else { 0 }).map(|_| Burning::start()).collect();
        let (before, bare) = (Counted::now(status), BareClock::start());
        let report = call(&appliance.uri, &["--echo", "--play", &sound, "--calls", &many.to_string()]);
        let what = if loaded { "every core busy" } else { "nothing else to do" };
        bare.stop(&format!("{many} calls, {what}"));
        before.tell(&Counted::now(status), &format!("{many} calls, {what}"));
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
    let (appliance, _simulator, status) = appliance_with_status(folder, many);
    let sound = noise(folder, length);
    let (counted, bare) = (Counted::now(status), BareClock::start());
    let before = (Instant::now(), cost(appliance.process.id()));
    let report = call(&appliance.uri, &["--echo", "--play", &sound, "--calls", &many.to_string()]);
    bare.stop(&format!("{many} calls"));
    counted.tell(&Counted::now(status), &format!("{many} calls"));
    let (seconds, used) = (before.0.elapsed().as_secs_f64(), cost(appliance.process.id()).0 - before.1.0);
    let figure = |figure| percentiles(figures(&report, "packets", figure));
    row(
        &format!("{many} calls: send interval off 20 ms, p99.9 of a call, ms"),
        "5",
        figure("interval_deviation_p999_ms"),
    );
    row(&format!("{many} calls: packets lost"), "0", figure("lost"));
    row(
        &format!("{many} calls: the phones' own lateness p99, ms"),
        "",
        percentiles(figures(&report, "own", "late_p99_ms")),
    );
    row(&format!("{many} calls: calls that failed"), "0", report["failed"].as_array().map_or(0, Vec::len));
    row(
        &format!("{many} calls: percent of a core a call, echo only"),
        "",
        format!("{:.2}", used / seconds * 100.0 / many as f64),
    );
}

/// What a call costs while its caller speaks: hearing, buffer, codec, everything. All callers begin and end at the same time, so that all requests
/// leave at once.
fn costs(folder: &Path, codec: &'static str, many: usize) {
    let heap_file = folder.join(format!("heap-{codec}-{many}"));
    let (appliance, _simulator, _) = appliance_as(heap::offhook(&heap_file), folder, many.max(8));
    let uri = appliance.uri.replace("echo@", "620@");
    let pid = appliance.process.id();
    // The first calls find caches empty.
    call(&uri, &["--codec", codec, "--dtmf", "1", "--answer-wait-ms", "500"]);
    std::thread::sleep(Duration::from_secs(1));
    let memory = || [cost(pid).1, heap::in_use(&heap_file)];
    let (idle, processor, faults) = (memory(), cost(pid).0, page_faults(pid));
    let began = Instant::now();
    let calls = many.to_string();
    let arguments = ["--codec", codec, "--say", LONG, "--answer-wait-ms", "300", "--answer-quiet-ms", "100"];
    let placed = std::thread::spawn(move || call(&uri, &[&arguments[..], &["--calls", &calls]].concat()));
    let (mut talking, mut peak) = (idle, idle);
    while !placed.is_finished() {
        let used = memory();
        for (most, used) in peak.iter_mut().zip(used) {
            *most = most.max(used);
        }
        if began.elapsed() < TALKING {
            talking = used;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = placed.join().expect("the calls give a report");
    let (used, faults) = (cost(pid).0 - processor, page_faults(pid) - faults);
    let up: f64 =
        report["calls"].as_array().into_iter().flatten().filter_map(|call| call["duration_ms"].as_f64()).sum::<f64>()
            / 1e3;
    let what = format!("{many} calls in {codec} whose caller speaks");
    row(&format!("{what}: percent of a core a call"), "0.5", format!("{:.2}", used / up * 100.0));
    for (when, used) in [("15 s into it", talking), ("at the peak", peak)] {
        let [resident, heap] = [0, 1].map(|n| (used[n] - idle[n]) / many as f64);
        row(&format!("{what}: memory a call {when}, MB"), "1", format!("{resident:.2} resident, {heap:.2} of heap"));
    }
    row(&format!("{what}: page faults of the media thread a call"), "", format!("{:.1}", faults / many as f64));
    row(&format!("{what}: calls that failed"), "0", report["failed"].as_array().map_or(0, Vec::len));
}

/// How often the media thread of the box had to wait for a page of memory.
fn page_faults(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let media = stats.filter(|stat| stat.contains("(offhook-media)"));
    let faults = media.filter_map(|stat| {
        let fields: Vec<f64> = stat.rsplit(')').next()?.split_whitespace().map(|n| n.parse().unwrap_or(0.0)).collect();
        // minflt and majflt, proc(5)
        Some(fields.get(7)? + fields.get(9)?)
    });
    faults.sum()
}

/// About 20 s.
const LONG: &str = "I would like to know whether you are open on Friday afternoon and how I find you from the station please because I \
    have never been there before and I do not know the town at all so it would be kind if you told me the way from the \
    station and where I can leave my car when I come by car and whether there is anything to eat nearby for my children";
/// When everybody speaks, and nobody has finished.
const TALKING: Duration = Duration::from_secs(15);

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
