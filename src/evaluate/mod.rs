//! An evaluation that can embarrass us: how well turns are heard, over a corpus of callers that it makes itself.
//!
//! ```text
//! texts ─► voice (espeak-ng) ─┐
//!                noise ───────┴─► corpus ─► line ─► run (the real endpointer, virtual time) ─► figures ─► report, picture
//!                                                             └─► policy (the real mixer, swept answer times) ─┘
//! ```
//!
//! Everything is seeded: the same seed gives the same corpus and the same figures, however many threads work. What a human caller does that
//! espeak-ng does not (breath, laughter, a voice that trails off) is not in it; for that there are one's own recordings.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::config::Config;
use crate::hearing::Limits;
use crate::pcm::{self, wav};
use crate::playout::clips::{ClipError, Clips};

mod chart;
mod corpus;
mod cuts;
mod figures;
mod line;
mod noise;
mod parallel;
mod picture;
mod policy;
mod recordings;
mod report;
mod run;
mod sweep;
mod texts;
mod voice;

pub use corpus::Kind;
pub use figures::{Endpointing, Fault, Figures, Goal, PausePoint};
pub use noise::Noise;
pub use parallel::Progress;
pub use picture::picture;
pub use policy::{Policy, Waits};
pub use recordings::{HeardFile, HeardPause, HeardTurn, Recordings, Unusable, recordings, recordings_table};
pub use report::table;
pub use sweep::{Sweep, Tried};

use corpus::{Case, Recording};
use voice::Voices;

/// Of the turns that have only one speaker and one turn, every so many is heard again with other limits.
const SWEPT: usize = 3;

/// What is to be evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limits of hearing, and the placeholder's settings.
    pub config: Config,
    /// Decides on everything that is random.
    pub seed: u64,
    /// A small corpus, for a quick look.
    pub quick: bool,
    /// Packets lost, in percent.
    pub loss_percent: f32,
    /// Threads that work.
    pub threads: usize,
    /// Where the corpus is kept as WAV files.
    pub keep: Option<PathBuf>,
}

/// Why an evaluation cannot be made.
#[derive(Debug, Error)]
pub enum EvaluationError {
    /// The voice program does not start.
    #[error(
        "espeak-ng, which speaks the corpus, cannot be started ({0}); install it (`apt install espeak-ng`), or evaluate recordings of your own with --recordings DIR"
    )]
    NoVoice(io::Error),
    /// The voice program refuses.
    #[error(
        "espeak-ng failed with voice {voice:?}: {note}; is its voice data installed (`apt install espeak-ng-data`)?"
    )]
    Voice {
        /// The voice asked for.
        voice: String,
        /// What it said.
        note: String,
    },
    /// The folder of recordings cannot be read.
    #[error("--recordings {}: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is nothing in it.
    #[error("--recordings {}: there is no file whose name ends in .wav; WAV files with 16-bit samples are needed", .0.display())]
    NoRecordings(PathBuf),
    /// The clips cannot be used.
    #[error(transparent)]
    Clips(#[from] ClipError),
    /// A file cannot be written.
    #[error("{}: {cause}; choose a directory that can be written with --out DIR", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// What was evaluated, and with which settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Seed of the corpus.
    pub seed: u64,
    /// Recordings.
    pub recordings: usize,
    /// Turns in them.
    pub turns: usize,
    /// Minutes of sound.
    pub minutes: f64,
    /// Packets lost, in percent.
    pub loss_percent: f32,
    /// Silence after which a turn has probably ended, in ms.
    pub soft_end_ms: f64,
    /// Silence after which it has ended.
    pub hard_end_ms: f64,
    /// Probability from which a chunk is voiced.
    pub vad_threshold: f32,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was evaluated.
    pub setting: Setting,
    /// The endpointer's figures.
    #[serde(flatten)]
    pub endpointing: Endpointing,
    /// What other limits would give.
    pub sweep: Sweep,
    /// What the caller hears until the answer comes.
    pub policy: Policy,
    /// The goals, and which of them are met.
    pub goals: Vec<Goal>,
    /// Every turn that was cut off or missed.
    pub faults: Vec<Fault>,
}

/// Makes the corpus, hears it and counts. Blocks, for minutes.
pub fn evaluate(options: &Options, progress: Progress) -> Result<Report, EvaluationError> {
    let clips = Clips::configured(&options.config)?;
    let limits = Limits::from(&options.config.hearing);
    let voices = Voices::default();
    let babble = corpus::babble(options.seed, &voices)?;
    let cases = corpus::plan(options.seed, options.quick);
    let recordings = parallel::each("corpus", &cases, options.threads, progress, |case| {
        let recording = case.render(&voices, &babble, options.loss_percent)?;
        if let Some(directory) = &options.keep {
            keep(directory, case, &recording)?;
        }
        Ok(recording)
    })?;
    let results = parallel::each("hearing", &recordings, options.threads, progress, |recording| {
        Ok(run::judge(recording, &run::hear(&recording.frames, limits)))
    })?;
    let endpointing = figures::endpointing(&cases, &results);
    let part: Vec<(Case, &Recording)> = cases
        .iter()
        .cloned()
        .zip(&recordings)
        .filter(|(case, _)| !case.kind.is_caller() && case.snr_db.is_none_or(|db| db >= figures::LOWEST_SNR_DB))
        .step_by(SWEPT)
        .collect();
    let sweep = sweep::sweep(&part, limits, options.threads, progress)?;
    let frames: usize = recordings.iter().map(|recording| recording.frames.len()).sum();
    let setting = Setting {
        seed: options.seed,
        recordings: recordings.len(),
        turns: endpointing.everything.turns,
        minutes: ((pcm::PTIME.as_secs_f64() * frames as f64) / 6.0).round() / 10.0,
        loss_percent: options.loss_percent,
        soft_end_ms: limits.soft_end.as_secs_f64() * 1000.0,
        hard_end_ms: limits.hard_end.as_secs_f64() * 1000.0,
        vad_threshold: limits.vad_threshold,
    };
    let noisy = |snr_db: u32| snr_db >= figures::LOWEST_SNR_DB;
    let (clean, noisy) =
        (decisions(&cases, &results, Option::is_none), decisions(&cases, &results, |snr_db| snr_db.is_some_and(noisy)));
    let policy = policy::policy(&options.config, &clips, (&clean, &noisy), options.seed, options.threads, progress)?;
    let goals = figures::goals(&endpointing.overall).into_iter().chain(policy::goals(&policy)).collect();
    Ok(Report { setting, endpointing, sweep, policy, goals, faults: figures::faults(&cases, &results) })
}

/// How late the ends of turns were decided in this noise, of turns that were decided well.
fn decisions(cases: &[Case], results: &[run::Result], snr_db: impl Fn(&Option<u32>) -> bool) -> Vec<policy::Decision> {
    let turns =
        cases.iter().zip(results).filter(|(case, _)| snr_db(&case.snr_db)).flat_map(|(_, result)| &result.turns);
    turns
        .filter(|turn| turn.cut_offs == 0 && !turn.missed())
        .filter_map(|turn| Some(policy::Decision { soft: turn.soft?, hard: turn.hard?, believed: turn.believed? }))
        .collect()
}

/// Writes a case as the box hears it, and its truth beside it in the form that `--recordings` reads.
fn keep(directory: &Path, case: &Case, recording: &Recording) -> Result<(), EvaluationError> {
    let write = |extension: &str, bytes: &[u8]| {
        let path = directory.join(&case.name).with_extension(extension);
        std::fs::write(&path, bytes).map_err(|cause| EvaluationError::Write { path, cause })
    };
    write("wav", &wav::write(pcm::telephone::RATE, 1, &recording.frames.concat()))?;
    let ms = |samples: usize| (samples as f64 / f64::from(pcm::telephone::RATE) * 1000.0).round() as u64;
    let turns: Vec<String> =
        recording.turns.iter().map(|turn| format!("[{}, {}]", ms(turn.samples.start), ms(turn.samples.end))).collect();
    write("toml", format!("# begin and end of each turn\nturns_ms = [{}]\n", turns.join(", ")).as_bytes())
}
