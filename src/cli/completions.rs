//! `offhook completions` and `offhook manual`: what shells and man(1) are told of the command line, made from its own definition.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// What the user typed for the manual.
#[derive(Debug, clap::Args)]
pub struct ManualArguments {
    /// The folder that the pages are written into
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions for a shell.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "offhook", &mut text);
    // A pipe that closes early is no failure of ours.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

/// Writes one page for the program and one for each subcommand.
pub fn manual(arguments: ManualArguments) -> Result<ExitCode, Failure> {
    let folder = &arguments.folder;
    let cannot = |path: &Path, error| Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    let mut program = super::Arguments::command();
    program.build();
    let subcommands =
        program.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let pages = subcommands.map(|command| (format!("offhook-{}", command.get_name()), command.clone()));
    let all: Vec<_> = pages.chain([("offhook".to_owned(), program.clone())]).collect();
    for (name, command) in all {
        let path = folder.join(format!("{name}.1"));
        page(&name, command).and_then(|text| std::fs::write(&path, text)).map_err(|error| cannot(&path, error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(name: &str, command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let command = command.disable_help_subcommand(true);
    clap_mangen::Man::new(command).title(name.to_uppercase()).manual("offhook").render(&mut text)?;
    Ok(text)
}
