//! The folder of texts: which files there are, whether one has changed, and what is in them; all of it bounded.
//!
//! `.md`, `.markdown` and `.txt` are read as they are; `.pdf` through a program (`pdftotext`), one after the other, each with a time
//! limit: a parser of strange files is better not in the process that takes calls.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Passage, split};
use crate::config;

/// Folders within folders are looked into this deep.
const DEEPEST: usize = 4;
/// No single text is larger.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Time for the program that reads one PDF.
const PDF_PATIENCE: Duration = Duration::from_secs(20);

/// A folder that cannot be read.
#[derive(Debug, Error)]
pub enum KnowledgeError {
    /// It is not there, or not ours to read.
    #[error("[knowledge] folder {}: {source}; check the path and that the service may read it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A text that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its path within the folder.
    pub file: String,
    /// Why.
    pub why: String,
}

/// What tells one state of the folder from another: paths, sizes, times of change.
pub(super) type Fingerprint = [u8; 32];

/// The texts of a folder.
pub(super) struct Listed {
    pub print: Fingerprint,
    /// When a text was last changed.
    pub newest: SystemTime,
    files: Vec<(String, PathBuf, u64)>,
    left: Vec<Left>,
}

/// What was read.
pub(super) struct Texts {
    pub passages: Vec<Passage>,
    pub files: usize,
    pub left: Vec<Left>,
}

/// Looks which texts there are, in the order of their names.
pub(super) fn list(folder: &Path, config: &config::Knowledge) -> Result<Listed, KnowledgeError> {
    let mut listed = Listed { print: Fingerprint::default(), newest: UNIX_EPOCH, files: Vec::new(), left: Vec::new() };
    let mut hash = Sha256::new();
    let failed = |source| KnowledgeError::Folder { path: folder.into(), source };
    let mut todo = vec![(folder.to_owned(), 0)];
    while let Some((place, depth)) = todo.pop() {
        let entries = match std::fs::read_dir(&place) {
            Err(error) if depth == 0 => return Err(failed(error)),
            entries => entries.into_iter().flatten().flatten(),
        };
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let Ok(about) = std::fs::metadata(&path) else { continue };
            if about.is_dir() && depth < DEEPEST && !hidden {
                todo.push((path, depth + 1));
            } else if about.is_file() && !hidden && kind(&path).is_some() {
                let modified = about.modified().unwrap_or(UNIX_EPOCH);
                listed.newest = listed.newest.max(modified);
                let changed = modified.duration_since(UNIX_EPOCH);
                hash.update(name.as_bytes());
                hash.update(about.len().to_le_bytes());
                hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
                if listed.files.len() < config.max_files {
                    listed.files.push((name, path, about.len()));
                } else {
                    listed.left.push(Left { file: name, why: format!("more than max_files ({})", config.max_files) });
                }
            }
        }
    }
    listed.files.sort();
    listed.print = hash.finalize().into();
    Ok(listed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Pdf,
}

fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension()?.to_string_lossy().to_lowercase();
    match &*extension {
        "md" | "markdown" | "txt" => Some(Kind::Text),
        "pdf" => Some(Kind::Pdf),
        _ => None,
    }
}

/// Reads the texts and cuts them into passages.
pub(super) fn read(listed: &Listed, config: &config::Knowledge) -> Texts {
    let mut read = Texts { passages: Vec::new(), files: 0, left: listed.left.clone() };
    let mut bytes = 0;
    for (name, path, size) in &listed.files {
        let mut leave = |why: String| read.left.push(Left { file: name.clone(), why });
        if *size > MAX_FILE_BYTES {
            leave(format!("larger than {MAX_FILE_BYTES} bytes"));
            continue;
        }
        let text = match kind(path) {
            Some(Kind::Pdf) => pdf(path, &config.pdf_command),
            _ => std::fs::File::open(path).map_err(|error| error.to_string()).and_then(text),
        };
        match text {
            Err(why) => leave(why),
            Ok(text) if bytes + text.len() > config.max_bytes => {
                leave(format!("with it the texts are larger than max_bytes ({})", config.max_bytes));
            }
            Ok(text) => {
                bytes += text.len();
                read.files += 1;
                read.passages.extend(split::passages(name, &text, config.max_passage_chars));
            }
        }
    }
    read
}

/// UTF-8 of bounded length.
fn text(from: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("more than {MAX_FILE_BYTES} bytes of text"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8; save it as UTF-8".to_owned())
}

/// The text of a PDF, as the configured program gives it.
fn pdf(path: &Path, command: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("PDFs are not read: pdf_command is empty".into());
    };
    let arguments = arguments.iter().map(|argument| match argument.as_str() {
        "{file}" => path.as_os_str().to_owned(),
        other => other.into(),
    });
    let started =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = started.map_err(|error| {
        format!("{program}: {error}; install the package poppler-utils, or put the text beside it as .txt")
    })?;
    let stdout = child.stdout.take();
    let reading = std::thread::spawn(move || stdout.map_or_else(|| Ok(String::new()), text));
    let deadline = Instant::now() + PDF_PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let text = reading.join().unwrap_or_else(|_| Err("its output could not be read".into()));
    match status {
        None => Err(format!("{program} took longer than {} s", PDF_PATIENCE.as_secs())),
        Some(status) if !status.success() => Err(format!("{program}: {status}")),
        Some(_) => text.map(|text| text.replace('\u{c}', "\n\n")),
    }
}
