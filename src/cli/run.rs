//! `offhook run`: the service.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::daemon::Daemon;

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Answers calls until SIGTERM, which lets calls finish, or SIGINT. SIGHUP reads the configuration again.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = super::check::load(&arguments.config)?;
    let daemon = Daemon::start(config).await?.reload_from(arguments.config);
    daemon.serve_until_signal().await.map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(ExitCode::SUCCESS)
}
