//! What benches on the wire share: the appliance, the simulator and the phone as processes, and rows of a Markdown table.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use offhook::timeline::{Percentiles, TurnReport};
use serde_json::Value;

pub const OFFHOOK: &str = env!("CARGO_BIN_EXE_offhook");

/// A child that ends with us.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `offhook` and waits for the line that holds `mark`; returns what follows it up to white space.
pub fn start(arguments: &[&str], mark: &str, on_stderr: bool) -> (Process, String) {
    start_as(Command::new(OFFHOOK), arguments, mark, on_stderr)
}

/// The same with a program that is `offhook` in another way.
pub fn start_as(mut command: Command, arguments: &[&str], mark: &str, on_stderr: bool) -> (Process, String) {
    command.args(arguments).env("OFFHOOK_LOG", "info");
    if on_stderr {
        command.stderr(Stdio::piped())
    } else {
        command.stdout(Stdio::piped())
    };
    let mut child = Process(command.spawn().expect("offhook starts"));
    let output: Box<dyn std::io::Read + Send> = if on_stderr {
        Box::new(child.0.stderr.take().expect("stderr is piped"))
    } else {
        Box::new(child.0.stdout.take().expect("stdout is piped"))
    };
    let mut lines = BufReader::new(output).lines();
    let found = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once(mark)?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    // Whoever writes on must find a reader.
    std::thread::spawn(move || lines.for_each(drop));
    (child, found.unwrap_or_else(|| panic!("offhook {arguments:?} did not say {mark:?}")))
}

/// Places calls and returns the phone's report.
pub fn call(uri: &str, arguments: &[&str]) -> Value {
    let output =
        Command::new(OFFHOOK).args(["call", uri, "--json"]).args(arguments).output().expect("offhook call runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("offhook call {arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Every value of a turn's figure in a report.
pub fn of_turns(report: &Value, figure: &str) -> Vec<f64> {
    let turns = report["calls"].as_array().into_iter().flatten().flat_map(|call| call["turns"].as_array()).flatten();
    turns.filter_map(|turn| turn[figure].as_f64()).collect()
}

/// Every value of a call's figure in a report.
pub fn of_calls(report: &Value, part: &str, figure: &str) -> Vec<f64> {
    report["calls"].as_array().into_iter().flatten().filter_map(|call| call[part][figure].as_f64()).collect()
}

/// Processor time of a process in seconds, and its resident memory in MB: now, and at its peak.
pub fn cost(pid: u32) -> (f64, f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    ((ticks(11) + ticks(12)) / 100.0, megabytes("VmRSS:"), megabytes("VmHWM:"))
}

pub fn row(name: &str, goal: &str, values: Vec<f64>) {
    match Percentiles::of(values) {
        Some(p) => {
            println!("| {name} | {goal} | {} | {:.1} | {:.1} | {:.1} | {:.1} |", p.count, p.p50, p.p95, p.p99, p.max)
        }
        None => println!("| {name} | {goal} | 0 | – | – | – | – |"),
    }
}

/// The timeline that `offhook run` has written so far.
pub fn timeline(file: &Path) -> Vec<TurnReport> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

pub struct Appliance {
    pub process: Process,
    pub uri: String,
    pub timeline: PathBuf,
}

/// `offhook run` with the defaults, against the simulator.
pub fn run(folder: &Path, simulator: &str, name: &str, extra: &str) -> Appliance {
    let timeline = folder.join(format!("{name}.jsonl"));
    let config = folder.join(format!("{name}.toml"));
    let text = format!(
        "[sip]\nlisten = \"127.0.0.1:0\"\nmax_calls = 16\n[gemini]\nbase_url = \"{simulator}\"\n[log]\ntimeline_file = \"{}\"\n{extra}",
        timeline.display()
    );
    std::fs::write(&config, text).expect("the temporary folder takes a file");
    let (process, address) = start(&["run", "--config", &config.display().to_string()], "ready sip=", true);
    Appliance { process, uri: format!("sip:offhook@{address}"), timeline }
}

/// Calls that go on at the same time, as one report each.
pub fn together(calls: Vec<Vec<String>>, uri: &str) -> Vec<Value> {
    let placed: Vec<_> = calls
        .into_iter()
        .map(|arguments| {
            let uri = uri.to_owned();
            std::thread::spawn(move || call(&uri, &arguments.iter().map(String::as_str).collect::<Vec<_>>()))
        })
        .collect();
    placed.into_iter().map(|call| call.join().expect("a call gives a report")).collect()
}

pub fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

pub fn all(reports: &[Value], figure: &str) -> Vec<f64> {
    reports.iter().flat_map(|report| of_turns(report, figure)).collect()
}
