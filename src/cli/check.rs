//! `offhook check`: whether a configuration can be used.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::http::Http;
use crate::tools::{ToolError, Toolbox};
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
    tools(&config)?;
    println!("{}: good", arguments.config.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether the installer's own functions can be offered. Secrets and certificates are for the service to read.
fn tools(config: &config::Config) -> Result<(), Failure> {
    let Ok(http) = Http::new(config.gemini.connect) else { return Ok(()) };
    match Toolbox::new(config, &http, None, None) {
        Err(error @ (ToolError::Wrong { .. } | ToolError::Taken { .. })) => Err(Failure::new(Exit::Config, error)),
        _ => Ok(()),
    }
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
