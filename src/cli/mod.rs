//! The command line: one file a subcommand. Here only what they share: arguments, logging, exit codes.

use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use crate::daemon::StartError;
use crate::tts;

mod call;
mod check;
mod clips;
mod completions;
mod demo;
mod doctor;
mod evaluate;
mod journal;
mod knowledge;
mod messages;
mod run;
mod simulator;
mod talk;

/// An embedded voice appliance: answers the telephone on SIP/RTP, makes a sound at once, speaks Gemini's answer while it is written.
#[derive(Debug, Parser)]
#[command(name = "offhook", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a test caller ring the appliance on this machine, with no account and no hardware, and leave the call to listen to
    Demo(demo::Arguments),
    /// Answer calls, as the configuration says
    Run(run::Arguments),
    /// Check a configuration: file, line, key and remedy of whatever is wrong
    Check(check::Arguments),
    /// Look at everything between this box and a caller, and say what to do about what is wrong
    Doctor(doctor::Arguments),
    /// List, check, render and import what is said without asking anybody: greetings, placeholders, apologies
    Clips(clips::Arguments),
    /// Place a call as a test phone, and measure what a caller hears
    Call(Box<call::Args>),
    /// Measure how well turns are heard, over hundreds of callers made for it, and say which goals are met
    Evaluate(evaluate::Arguments),
    /// Talk with the appliance by microphone and loudspeaker, or by files: the main job with no telephone
    Talk(Box<talk::Arguments>),
    /// Search the folder of texts with a caller's question, and show what the model would be told
    Knowledge(knowledge::Arguments),
    /// Show the messages that callers have left, and take them off the box
    Messages(messages::Arguments),
    /// Stand in for the cloud: Gemini's wire format, with delays and faults to order
    Simulator(simulator::Args),
    /// Print what a shell needs to complete these commands
    Completions(completions::Arguments),
    /// Write the pages for man(1) into a folder
    #[command(hide = true)]
    Manual(completions::ManualArguments),
}

/// How a program ends, by sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The other side is not there, or refuses.
    Unavailable = 69,
    /// The command line is wrong.
    Usage = 64,
    /// What a file holds cannot be used.
    Data = 65,
    /// A file that was named cannot be read.
    NoInput = 66,
    /// Something failed inside.
    Software = 70,
    /// The operating system refused: a port in use, a thread that cannot be made.
    Os = 71,
    /// A file cannot be written.
    CannotCreate = 73,
    /// The configuration is wrong.
    Config = 78,
}

/// Why a subcommand could not do its work: one message for a person, one code for a program.
#[derive(Debug)]
pub struct Failure {
    code: ExitCode,
    message: String,
}

impl Failure {
    /// A failure with what a person should read.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { code: ExitCode::from(exit as u8), message: message.to_string() }
    }
}

/// How the program ends when the service cannot start.
fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Clips(_) | StartError::Secret(_) | StartError::InboundUsersFile { .. } => Exit::NoInput,
        StartError::Voice(tts::Fault::Setup { .. }) => Exit::Config,
        StartError::Voice(_) => Exit::Unavailable,
        StartError::Http(_)
        | StartError::Gemini(_)
        | StartError::Chat(_)
        | StartError::Sources(_)
        | StartError::Recogniser(_)
        | StartError::InboundUsers { .. }
        | StartError::Tools(_)
        | StartError::Webhook(_) => Exit::Config,
        StartError::Voicemail(_) | StartError::Day(_) => Exit::CannotCreate,
        StartError::Media(_) | StartError::Sip(_) | StartError::Status(_) => Exit::Os,
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(exit_of(&error), error)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(match arguments.command {
        Command::Run(_) => "info",
        _ => "warn",
    });
    let result = match arguments.command {
        Command::Demo(arguments) => with_runtime(demo::run(arguments)),
        Command::Run(arguments) => with_runtime(run::run(arguments)),
        Command::Check(arguments) => check::run(arguments),
        Command::Clips(arguments) => with_runtime(clips::run(arguments)),
        Command::Doctor(arguments) => with_runtime(doctor::run(arguments)),
        Command::Call(arguments) => with_runtime(async {
            call::run(*arguments).await.map_err(|error| Failure { code: error.exit_code(), message: error.to_string() })
        }),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Talk(arguments) => with_runtime(talk::run(*arguments)),
        Command::Knowledge(arguments) => knowledge::run(arguments),
        Command::Messages(arguments) => messages::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Manual(arguments) => completions::manual(arguments),
        Command::Simulator(arguments) => with_runtime(async {
            let served = simulator::run(arguments).await;
            served.map(|()| ExitCode::SUCCESS).map_err(|error| Failure::new(Exit::Os, error))
        }),
    };
    result.unwrap_or_else(|Failure { code, message }| {
        eprintln!("offhook: {message}");
        code
    })
}

fn with_runtime(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Os, format!("no threads for the work: {error}")))?
        .block_on(work)
}

/// Logs to standard error, or to the journal behind it with fields to choose by. `rsipstack` writes whole messages, credentials included, at
/// INFO: whatever is asked for, it never gets below WARN.
fn log_to_stderr(level: &str) {
    let asked = std::env::var("OFFHOOK_LOG").unwrap_or_else(|_| level.to_owned());
    let quiet = filter_fn(|metadata| !metadata.target().starts_with("rsipstack") || *metadata.level() <= Level::WARN);
    let filter = EnvFilter::try_new(asked).unwrap_or_else(|_| EnvFilter::new("info"));
    if let Some(journal) = journal::Journal::behind_stderr() {
        return tracing_subscriber::registry().with(filter).with(journal.with_filter(quiet)).init();
    }
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(quiet);
    tracing_subscriber::registry().with(filter).with(to_stderr).init();
}
