//! `offhook check`: whether a configuration can be used.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{config, gemini};

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Reads the configuration and says what is wrong with it.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = load(&arguments.config)?;
    for remark in gemini::remarks(&config.gemini) {
        println!("{}: warning: {remark}", arguments.config.display());
    }
    if config.recogniser.engine != config::Engine::None {
        println!("recogniser: {}", config.recogniser.engine.name());
    }
    println!("{}: good", arguments.config.display());
    Ok(ExitCode::SUCCESS)
}

/// Reads a configuration, or ends with its complaint.
pub(super) fn load(path: &std::path::Path) -> Result<config::Config, Failure> {
    config::load(path).map_err(|error| {
        let exit = match error {
            config::ConfigError::Read { .. } => Exit::NoInput,
            config::ConfigError::TooLarge { .. } | config::ConfigError::Invalid { .. } => Exit::Config,
        };
        Failure::new(exit, error)
    })
}
