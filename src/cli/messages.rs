//! `offhook messages`: what callers have left: list it, look at one, take its sound away, delete it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::privacy::redact_number;
use crate::voicemail::{Kind, Message, Store, StoreError};

use super::{Exit, Failure, check};

/// Shows the messages that callers have left, and deletes them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration that names the folder
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One line a message, oldest first
    List {
        /// The descriptions as one JSON list, numbers in full
        #[arg(long)]
        json: bool,
    },
    /// Everything about one message, as JSON
    Show {
        /// The message
        id: String,
    },
    /// Write the sound of a message into a WAV file
    Export {
        /// The message
        id: String,
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Remove a message and its sound for good
    Delete {
        /// The message
        id: String,
    },
}

/// Does what was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = check::load(&arguments.config)?;
    let store = Store::new(&config.voicemail);
    let mut out = io::stdout().lock();
    let written = match arguments.command {
        Command::List { json: true } => writeln!(out, "{}", shown(&store.list()?)),
        Command::List { json: false } => {
            store.list()?.iter().try_for_each(|message| writeln!(out, "{}", line(message)))
        }
        Command::Show { id } => writeln!(out, "{}", shown(&store.get(&id)?)),
        Command::Delete { id } => return Ok(store.remove(&id).map(|()| ExitCode::SUCCESS)?),
        Command::Export { id, file } => {
            let sound = store.sound(&id)?;
            let written = std::fs::File::create_new(&file).and_then(|mut file| file.write_all(&sound));
            return match written {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(Failure::new(Exit::CannotCreate, format!("{}: {error}", file.display()))),
            };
        }
    };
    // Whoever reads may have heard enough.
    drop(written);
    Ok(ExitCode::SUCCESS)
}

fn shown(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn line(message: &Message) -> String {
    let what = match message.kind {
        Kind::Message => format!("{:>5.1} s", message.seconds),
        Kind::CallBack => "wants to be called back".to_owned(),
    };
    format!("{}  {}  {:<8} {what}", message.id, message.at, redact_number(&message.caller))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::NoInput, error)
    }
}
