//! `offhook knowledge`: what a caller's question finds in the folder of texts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::knowledge::Knowledge;

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The question, as a caller would ask it
    question: String,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Show what stays below min_score_percent, too
    #[arg(long)]
    all: bool,
}

/// Shows the passages that a request would take along, with their scores.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = super::check::load(&arguments.config)?.knowledge;
    let Some(folder) = &config.folder else {
        return Err(Failure::new(Exit::Config, "[knowledge] folder is not set: there is nothing to search"));
    };
    let index = Knowledge::open(&config).index();
    if index.passages().is_empty() {
        return Err(Failure::new(Exit::NoInput, format!("{}: no text in it could be read", folder.display())));
    }
    let floor = if arguments.all { 0.0 } else { config.min_score() };
    let begun = Instant::now();
    let found = index.search(&arguments.question, config.passages, floor);
    let took = begun.elapsed();
    for found in &found {
        let passage = &found.passage;
        println!("{:.2}  {} › {}\n      {}", found.score, passage.source, passage.heading, passage.text);
    }
    println!("{} of {} passages, in {:.1} ms", found.len(), index.passages().len(), took.as_secs_f64() * 1000.0);
    Ok(if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
