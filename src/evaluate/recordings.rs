//! Recordings of one's own: what the endpointer decides in them, compared with labels where there are some.
//!
//! A folder of WAV files (16-bit PCM, any rate, the caller alone). `NAME.toml` beside `NAME.wav` says where turns end:
//! `turn_ends_ms = [4210, 9800]`, or, where they begin too: `turns_ms = [[1200, 4210], [8020, 9800]]`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hearing::{Heard, Limits};
use crate::pcm::telephone::{FRAME_SAMPLES, RATE};
use crate::pcm::{self, resample, wav};

use super::corpus::{Recording, Truth};
use super::figures::{self, Figures};
use super::parallel::{self, Progress};
use super::run::{self, Told};
use super::{EvaluationError, Options};

/// Larger files are refused: eight hours at 8 kHz.
const LARGEST_BYTES: u64 = 512 * 1024 * 1024;
/// More labels than that are not by hand.
const MOST_LABELS: usize = 10_000;
/// Silence that is heard after a recording, so that its last turn can end.
const TAIL: usize = run::HORIZON;

/// A pause within a turn, as it was heard: a soft end that was taken back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeardPause {
    /// Where the voice stopped, from the beginning of the recording.
    pub from_ms: u64,
    /// Until it was noticed that the voice went on.
    pub ms: u64,
}

/// A turn as it was heard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeardTurn {
    /// Where it begins.
    pub from_ms: u64,
    /// Its last voiced sample, as the endpointer sees it.
    pub to_ms: u64,
    /// From there to the soft end that stood.
    pub soft_end_after_ms: Option<u64>,
    /// From there to the hard end.
    pub hard_end_after_ms: u64,
    /// The pauses in it.
    pub pauses: Vec<HeardPause>,
}

/// What was heard in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeardFile {
    /// Its name.
    pub file: String,
    /// Its length.
    pub seconds: f64,
    /// The turns, in order.
    pub turns: Vec<HeardTurn>,
    /// Compared with the labels, if there are any.
    pub figures: Option<Figures>,
}

/// A file that could not be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unusable {
    /// Its name.
    pub file: String,
    /// Why, and what to do.
    pub why: String,
}

/// What was heard in all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recordings {
    /// Silence after which a turn has probably ended, in ms.
    pub soft_end_ms: f64,
    /// Silence after which it has ended.
    pub hard_end_ms: f64,
    /// Each file.
    pub files: Vec<HeardFile>,
    /// Files that were left out.
    pub unusable: Vec<Unusable>,
    /// The turns that have labels.
    pub overall: Option<Figures>,
}

/// What is wrong with one file.
#[derive(Debug, Error)]
enum FileError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("is larger than {} MB; cut it, for example with `sox IN OUT trim 0 3600`", LARGEST_BYTES / 1024 / 1024)]
    TooLarge,
    #[error(transparent)]
    Wav(#[from] wav::WavError),
    #[error("holds no sound")]
    Empty,
    #[error("{0}; write `turn_ends_ms = [4210, 9800]` or `turns_ms = [[1200, 4210], [8020, 9800]]`")]
    Labels(String),
}

/// The labels of a recording.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    #[serde(default)]
    turn_ends_ms: Vec<u64>,
    #[serde(default)]
    turns_ms: Vec<[u64; 2]>,
}

/// Where a turn begins, if that is known, and where it ends, in samples.
type Label = (Option<usize>, usize);

/// Hears every WAV file of a folder. Bad files are named in the report, and the rest goes on.
pub fn recordings(folder: &Path, options: &Options, progress: Progress) -> Result<Recordings, EvaluationError> {
    let limits = Limits::from(&options.config.hearing);
    let read = |cause| EvaluationError::Folder { path: folder.to_owned(), cause };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav")));
    paths.sort();
    if paths.is_empty() {
        return Err(EvaluationError::NoRecordings(folder.to_owned()));
    }
    let heard = parallel::each("recordings", &paths, options.threads, progress, |path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(hear(path, limits, &file).map_err(|error| Unusable { file, why: error.to_string() }))
    })?;
    let (mut files, mut unusable, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut quiet) = (0, Duration::ZERO);
    for heard in heard {
        match heard {
            Ok((file, result)) => {
                files.push(file);
                if let Some(result) = result {
                    (starts, quiet) = (starts + result.spurious_starts, quiet + result.quiet);
                    outcomes.extend(result.turns);
                }
            }
            Err(bad) => unusable.push(bad),
        }
    }
    let overall =
        (!outcomes.is_empty()).then(|| figures::of_turns(&outcomes.iter().collect::<Vec<_>>(), starts, quiet));
    Ok(Recordings {
        soft_end_ms: limits.soft_end.as_secs_f64() * 1000.0,
        hard_end_ms: limits.hard_end.as_secs_f64() * 1000.0,
        files,
        unusable,
        overall,
    })
}

fn hear(path: &Path, limits: Limits, file: &str) -> Result<(HeardFile, Option<run::Result>), FileError> {
    if std::fs::metadata(path)?.len() > LARGEST_BYTES {
        return Err(FileError::TooLarge);
    }
    let sound = wav::read(&std::fs::read(path)?)?;
    let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
    if samples.is_empty() {
        return Err(FileError::Empty);
    }
    let seconds = (samples.len() as f64 / f64::from(RATE) * 10.0).round() / 10.0;
    let labels = labels(&path.with_extension("toml"), samples.len())?;
    samples.resize((samples.len() + TAIL).next_multiple_of(FRAME_SAMPLES), 0);
    let frames = samples.as_chunks().0.to_vec();
    let told = run::hear(&frames, limits);
    let result = labels.map(|labels| run::judge(&Recording { frames, turns: truth(&labels, &told) }, &told));
    let figures = result.as_ref().map(|result| {
        figures::of_turns(&result.turns.iter().collect::<Vec<_>>(), result.spurious_starts, result.quiet)
    });
    Ok((HeardFile { file: file.to_owned(), seconds, turns: turns(&told), figures }, result))
}

/// Where the turns of a recording of so many samples really are; `None` without a file that says so.
fn labels(path: &Path, samples: usize) -> Result<Option<Vec<Label>>, FileError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let wrong = |note: &str| FileError::Labels(format!("{name}: {note}"));
    let labels: Labels = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim()))?;
    let sample = |ms: u64| {
        usize::try_from(pcm::telephone::samples_in(Duration::from_millis(ms.min(1 << 40)))).unwrap_or(usize::MAX)
    };
    let spans: Vec<Label> = match (labels.turn_ends_ms.as_slice(), labels.turns_ms.as_slice()) {
        (ends, []) => ends.iter().map(|&end| (None, sample(end))).collect(),
        ([], turns) => turns.iter().map(|&[begin, end]| (Some(sample(begin)), sample(end))).collect(),
        _ => return Err(wrong("has both `turn_ends_ms` and `turns_ms`")),
    };
    if spans.is_empty() || spans.len() > MOST_LABELS {
        return Err(wrong("1 to 10000 turns are needed"));
    }
    let mut before = 0;
    for &(begin, end) in &spans {
        let begin = begin.unwrap_or(before);
        if begin < before || end <= begin {
            return Err(wrong("the turns must follow one another, each with its end after its beginning"));
        }
        if end > samples {
            return Err(wrong("a turn ends after the recording does"));
        }
        before = end;
    }
    Ok(Some(spans))
}

/// Turns with their beginnings. One without a label begins where the first voice after the turn before it was heard.
fn truth(labels: &[Label], told: &[Told]) -> Vec<Truth> {
    let mut before = 0;
    labels
        .iter()
        .map(|&(begin, end)| {
            let heard = told.iter().find_map(|told| match told.heard {
                Heard::Started { onset_sample, .. } => {
                    Some(onset_sample as usize).filter(|onset| (before..end).contains(onset))
                }
                _ => None,
            });
            let begin = begin.or(heard).unwrap_or(before);
            before = end;
            Truth { samples: begin..end, pauses: Vec::new() }
        })
        .collect()
}

/// The turns that were heard.
fn turns(told: &[Told]) -> Vec<HeardTurn> {
    let ms = |samples: usize| samples as u64 / (u64::from(RATE) / 1000);
    let mut turns = Vec::new();
    let mut pauses = Vec::new();
    let mut soft: Option<(usize, usize)> = None;
    for &Told { at, heard } in told {
        match heard {
            Heard::SoftEnd { end_sample, .. } => soft = Some((at, end_sample as usize)),
            Heard::Resumed { .. } => {
                if let Some((_, from)) = soft.take() {
                    pauses.push(HeardPause { from_ms: ms(from), ms: ms(at.saturating_sub(from)) });
                }
            }
            Heard::HardEnd { onset_sample, end_sample } | Heard::TooLong { onset_sample, end_sample } => {
                let end = end_sample as usize;
                turns.push(HeardTurn {
                    from_ms: ms(onset_sample as usize),
                    to_ms: ms(end),
                    soft_end_after_ms: soft.take().map(|(at, _)| ms(at.saturating_sub(end))),
                    hard_end_after_ms: ms(at.saturating_sub(end)),
                    pauses: std::mem::take(&mut pauses),
                });
            }
            _ => {}
        }
    }
    turns
}

/// The report for a terminal.
pub fn recordings_table(report: &Recordings) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "soft end {:.0} ms, hard end {:.0} ms; times in seconds from the beginning of each file",
        report.soft_end_ms, report.hard_end_ms
    );
    for file in &report.files {
        let labelled = if file.figures.is_some() { "" } else { ", no labels" };
        let _ = writeln!(out, "\n{} ({:.1} s{labelled})", file.file, file.seconds);
        let seconds = |ms: u64| format!("{:.2}", ms as f64 / 1000.0);
        for turn in &file.turns {
            let soft = turn.soft_end_after_ms.map_or("–".to_owned(), |ms| format!("{ms} ms"));
            let _ = write!(
                out,
                "  {:>8} – {:<8} soft end after {soft}, hard end after {} ms",
                seconds(turn.from_ms),
                seconds(turn.to_ms),
                turn.hard_end_after_ms
            );
            let pauses: Vec<String> =
                turn.pauses.iter().map(|pause| format!("{} ms at {}", pause.ms, seconds(pause.from_ms))).collect();
            let _ = writeln!(out, "{}{}", if pauses.is_empty() { "" } else { "; pauses: " }, pauses.join(", "));
        }
        if file.turns.is_empty() {
            let _ = writeln!(out, "  no turn was heard");
        }
        if let Some(figures) = &file.figures {
            let _ = writeln!(out, "  {}", summary(figures));
        }
    }
    for bad in &report.unusable {
        let _ = writeln!(out, "\n{}: left out: {}", bad.file, bad.why);
    }
    match &report.overall {
        Some(figures) => {
            let _ = writeln!(out, "\nall that has labels: {}", summary(figures));
        }
        None => {
            let _ = writeln!(
                out,
                "\nNo file has labels: cut-offs and misses cannot be told. docs/evaluation.md says how to write them."
            );
        }
    }
    out
}

fn summary(figures: &Figures) -> String {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "{} turns, cut off {:.1} %, missed {:.1} %, soft end p50 {} p90 {} ms and hard end p50 {} p90 {} ms after the labelled end",
        figures.turns,
        figures.cut_offs_percent,
        figures.misses_percent,
        ms(figures.decision_p50_ms),
        ms(figures.decision_p90_ms),
        ms(figures.hard_end_p50_ms),
        ms(figures.hard_end_p90_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn options() -> Options {
        Options { config: Config::default(), seed: 1, quick: true, loss_percent: 0.0, threads: 2, keep: None }
    }

    #[test]
    fn recordings_are_heard_with_and_without_labels_and_bad_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let sound = wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap();
        write("plain.wav", &wav::write(8000, 1, &sound.samples));
        // The same at another rate, as an installer's recorder makes it; its last word ends at about 4.8 s.
        write("labelled.WAV", &wav::write(16000, 1, &resample::resample(&sound.samples, 8000, 16000)));
        write("labelled.toml", b"turn_ends_ms = [4800]");
        write("broken.wav", b"MThd");
        write("unlabelled.wav", &wav::write(8000, 1, &sound.samples));
        write("unlabelled.toml", b"turn_ends_ms = [4800, 4700]");
        write("late.wav", &wav::write(8000, 1, &sound.samples));
        write("late.toml", b"turns_ms = [[0, 600000]]");
        write("notes.txt", b"not a recording");
        let report = recordings(folder.path(), &options(), &|_, _, _| {}).unwrap();
        let [labelled, plain] = report.files.as_slice() else { panic!("{:?}", report.files) };
        assert_eq!((labelled.file.as_str(), plain.file.as_str()), ("labelled.WAV", "plain.wav"));
        assert!(!plain.turns.is_empty() && plain.figures.is_none());
        let last = plain.turns.last().unwrap();
        assert!(last.hard_end_after_ms >= 700 && last.soft_end_after_ms.is_some_and(|ms| ms < 700), "{last:?}");
        let figures = labelled.figures.as_ref().unwrap();
        assert_eq!((figures.turns, figures.misses_percent), (1, 0.0));
        let left_out: Vec<&str> = report.unusable.iter().map(|bad| bad.file.as_str()).collect();
        assert_eq!(left_out, ["broken.wav", "late.wav", "unlabelled.wav"]);
        let table = recordings_table(&report);
        for words in [
            "plain.wav (",
            "no labels",
            "broken.wav: left out: not a WAV",
            "follow one another",
            "after the recording does",
        ] {
            assert!(table.contains(words), "{words} in {table}");
        }
    }

    #[test]
    fn a_folder_without_recordings_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = recordings(folder.path(), &options(), &|_, _, _| {}).unwrap_err().to_string();
        assert!(error.contains("WAV"), "{error}");
        assert!(recordings(&folder.path().join("absent"), &options(), &|_, _, _| {}).is_err());
    }
}
