//! `offhook clips`: what is in a folder of clips, and where each may be cut.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;
use crate::pcm;
use crate::playout::clips::{ClipError, Clips};

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A folder with manifest.toml and its clips; left out: the clips built into the program
    folder: Option<PathBuf>,
    /// Find where each clip may be cut and write it beside the clip, as NAME.cuts.toml
    #[arg(long, requires = "folder")]
    write_cuts: bool,
}

/// Lists the clips, after writing their cut points if that is asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let level_dbfs = config::Config::default().voice.level_dbfs;
    let clips = match &arguments.folder {
        Some(folder) => {
            if arguments.write_cuts {
                Clips::write_cuts(folder)?;
            }
            Clips::load(folder, level_dbfs)?
        }
        None => Clips::embedded(level_dbfs),
    };
    for clip in clips.iter() {
        let ms = |samples: u64| pcm::duration(samples).as_millis();
        let cuts: Vec<_> = clip.cuts.iter().map(|&cut| ms(u64::from(cut)).to_string()).collect();
        let kind = format!("{:?}", clip.kind).to_lowercase();
        println!(
            "{} {kind:<11} {:<26} {:>5} ms  {}\n    may be cut after {} ms",
            clip.language.code(),
            clip.name,
            ms(clip.voiced_samples as u64),
            clip.text,
            cuts.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl From<ClipError> for Failure {
    fn from(error: ClipError) -> Self {
        let exit = if matches!(error, ClipError::Write { .. }) { Exit::CannotCreate } else { Exit::NoInput };
        Self::new(exit, error)
    }
}
