//! `offhook evaluate`: how well turns are heard, over a corpus of callers that it makes itself.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use crate::config::Config;
use crate::evaluate::{self, EvaluationError, Options};

use super::{Exit, Failure, check};

/// What `--help` says below the options.
const ABOUT: &str = "\
Makes some 700 turns by itself: callers in English, Hebrew and Russian (spoken by espeak-ng) who pause inside their sentences, \
dictate numbers and hesitate, in noise, over a telephone line that loses packets; and runs them, faster than real time, through the code that \
hears a call. Then it lets answers come sooner or later, and measures what a caller hears until then. No network and no telephone line is used. \
Takes two or three minutes.

  offhook evaluate --out evaluation          table, JSON and picture in ./evaluation
  offhook evaluate --json | jq .goals        which goals are met
  offhook evaluate --recordings calls/       your own recordings; labels beside them say what was right

What each figure means: docs/evaluation.md";

/// What the user typed.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT)]
pub struct Arguments {
    /// Where evaluation.txt, evaluation.json and evaluation.svg are written; without it nothing is
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the JSON report in place of the table
    #[arg(long)]
    json: bool,
    /// A small corpus: half a minute, coarse figures
    #[arg(long)]
    quick: bool,
    /// Evaluate the WAV files in DIR in place of the corpus; docs/evaluation.md says how to label them
    #[arg(long, value_name = "DIR", conflicts_with_all = ["quick", "keep", "seed", "loss"])]
    recordings: Option<PathBuf>,
    /// Evaluate with the sections hearing and placeholder of this configuration in place of the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the corpus too, as WAV files with their truth, into DIR/corpus (some 100 MB)
    #[arg(long, requires = "out")]
    keep: bool,
    /// Decides on everything that is random
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Packets lost on the line, in percent
    #[arg(long, default_value_t = 3.0, value_name = "PERCENT", value_parser = percent)]
    loss: f32,
    /// Threads that work [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn percent(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(percent) if (0.0..=50.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to 50 is needed".into()),
    }
}

impl From<EvaluationError> for Failure {
    fn from(error: EvaluationError) -> Self {
        let exit = match error {
            EvaluationError::NoVoice(_) | EvaluationError::Voice { .. } => Exit::Unavailable,
            EvaluationError::Folder { .. } | EvaluationError::NoRecordings(_) | EvaluationError::Clips(_) => {
                Exit::NoInput
            }
            EvaluationError::Write { .. } => Exit::CannotCreate,
        };
        Self::new(exit, error)
    }
}

/// Evaluates, prints, writes.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = match &arguments.config {
        Some(path) => check::load(path)?,
        None => Config::default(),
    };
    let keep = arguments.out.as_ref().filter(|_| arguments.keep).map(|out| out.join("corpus"));
    if let Some(directory) = keep.as_ref().or(arguments.out.as_ref()) {
        std::fs::create_dir_all(directory)
            .map_err(|cause| EvaluationError::Write { path: directory.clone(), cause })?;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        config,
        seed: arguments.seed,
        quick: arguments.quick,
        loss_percent: arguments.loss,
        threads: arguments.threads.unwrap_or(processors),
        keep,
    };
    let bar = Bar::default();
    let progress = |what: &str, done, all| bar.show(what, done, all);
    let (table, json, picture) = match &arguments.recordings {
        Some(folder) => {
            let report = evaluate::recordings(folder, &options, &progress)?;
            if report.files.is_empty() {
                return Err(Failure::new(Exit::NoInput, evaluate::recordings_table(&report).trim()));
            }
            (evaluate::recordings_table(&report), json(&report), None)
        }
        None => {
            let report = evaluate::evaluate(&options, &progress)?;
            (evaluate::table(&report), json(&report), Some(evaluate::picture(&report)))
        }
    };
    if let Some(out) = &arguments.out {
        let files =
            [("evaluation.txt", Some(&table)), ("evaluation.json", Some(&json)), ("evaluation.svg", picture.as_ref())];
        for (name, text) in files.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(|cause| EvaluationError::Write { path, cause })?;
        }
    }
    let mut stdout = std::io::stdout().lock();
    // A reader that has closed its end has read enough.
    let _ = writeln!(stdout, "{}", if arguments.json { json.trim_end() } else { table.trim_end() });
    Ok(ExitCode::SUCCESS)
}

fn json(report: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(report).expect("a report is plain numbers and names")
}

/// A progress bar on standard error, if that is a terminal.
#[derive(Default)]
pub(super) struct Bar {
    /// What is shown: the work and how many of its 40 parts are done.
    shown: Mutex<(String, usize)>,
}

impl Bar {
    const WIDTH: usize = 40;

    /// Shows how much of the work is done; all of it takes the bar away.
    pub(super) fn show(&self, what: &str, done: usize, all: usize) {
        let mut stderr = std::io::stderr();
        if !stderr.is_terminal() {
            return;
        }
        let Ok(mut shown) = self.shown.lock() else { return };
        let parts = done * Self::WIDTH / all.max(1);
        if (shown.0.as_str(), shown.1) == (what, parts) {
            return;
        }
        *shown = (what.to_owned(), parts);
        let (full, empty) = ("━".repeat(parts), "─".repeat(Self::WIDTH - parts));
        let end = if done == all { "\r\x1b[K" } else { "" };
        let _ = write!(stderr, "\r{what:<14}{full}{empty} {done}/{all} {end}");
        let _ = stderr.flush();
    }
}
