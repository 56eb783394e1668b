//! The clips that are played without asking anybody: greeting, placeholders, apology; ready as frames before the first call.
//!
//! A set is a folder with `manifest.toml` and WAV files; one set is built into the program. Where a clip may be cut is what its
//! manifest says, or else what is stored beside the file if that is of the same recording, or else found when it is loaded.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{self, Language};
use crate::pcm::{Frame, wav};

use super::built_in;
use super::cuts::Stored;
use super::played::PlayableClip;
use super::shaped::Shaped;

pub use super::shaped::{MAX_CLIP, Prepared};

/// Larger files are refused; a quarter of an hour at 16 kHz is below.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// What describes a set, in its folder.
const MANIFEST: &str = "manifest.toml";
/// What complaints call the set that is built into the program.
const BUILT_IN: &str = "the built-in set";
/// The level at which cut points are looked for when they are to be stored; where the pauses are does not depend on it much.
pub(super) const FINDING_DBFS: f32 = -20.0;

/// What a clip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ClipKind {
    /// Played when a call is answered.
    Greeting,
    /// Bridges the wait for an answer.
    Placeholder,
    /// Bridges a wait that has become long.
    Still,
    /// Asks a silent caller whether anybody is there.
    Prompt,
    /// Played when there will be no answer.
    Apology,
    /// The last words before we hang up.
    Goodbye,
}

impl ClipKind {
    /// All of them.
    const ALL: [Self; 6] = [Self::Greeting, Self::Placeholder, Self::Still, Self::Prompt, Self::Apology, Self::Goodbye];

    /// As the manifest writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Placeholder => "placeholder",
            Self::Still => "still",
            Self::Prompt => "prompt",
            Self::Apology => "apology",
            Self::Goodbye => "goodbye",
        }
    }

    /// Whether it bridges a wait, and gives way to whatever ends it.
    pub fn is_placeholder(self) -> bool {
        matches!(self, Self::Placeholder | Self::Still)
    }
}

/// A clip, ready to be played.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Its name in logs and timelines.
    pub name: String,
    /// The language that is spoken.
    pub language: Language,
    /// What it is for.
    pub kind: ClipKind,
    /// What is said.
    pub text: String,
    /// The sound, the last frame filled up with silence.
    pub frames: Arc<[Frame]>,
    /// Samples of sound in `frames`, without that filling.
    pub voiced_samples: usize,
    /// Where the clip may be cut without cutting a word, in samples from its start, ascending; the last one is its end.
    pub cuts: Arc<[u32]>,
}

impl Clip {
    /// The clip as the mixer takes it, with its place in the list that its owner keeps. Both share the sound: the library outlives the call, so
    /// that the media thread frees nothing.
    pub fn playable(&self, index: u16) -> PlayableClip {
        PlayableClip { kind: self.kind, index, frames: self.frames.clone(), cuts: self.cuts.clone() }
    }
}

/// What is wrong with a set of clips.
#[derive(Debug, Error)]
pub enum ClipError {
    /// A file cannot be read.
    #[error("cannot read the clip file {path}: {cause}; check `placeholder.clips`, `placeholder.clip` and `clips.folder`, and that the user offhook may read it", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The manifest is not what it should be.
    #[error("{path}: {note}; audio/manifest.toml of the distribution is an example", path = .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line and key.
        note: String,
    },
    /// A file is not usable WAV.
    #[error("{path}: {cause}; convert it with `sox IN -r 16000 -c 1 -b 16 OUT.wav`", path = .path.display())]
    Wav {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: wav::WavError,
    },
    /// A file holds nothing that can be played.
    #[error("{path}: {note}; record or render it again", path = .path.display())]
    Sound {
        /// The file.
        path: PathBuf,
        /// Why.
        note: String,
    },
    /// What is beside a file says nothing about where it may be cut.
    #[error("{path}: {note}; `offhook clips FOLDER --write-cuts` writes it anew", path = .path.display())]
    Cuts {
        /// The file beside the sound.
        path: PathBuf,
        /// Line and key.
        note: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The set lacks a clip that is needed.
    #[error("{set} has no clip with language = \"{language}\" and kind = \"{kind}\"; add one to its manifest.toml, or leave `placeholder.clips` out to use the built-in set", language = .language.code())]
    Missing {
        /// Where the set comes from.
        set: String,
        /// The language.
        language: Language,
        /// The kind, as the manifest writes it.
        kind: &'static str,
    },
}

/// What describes a set.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The clips, in the order in which they are chosen.
    #[serde(default)]
    pub clip: Vec<Entry>,
}

/// A clip as the manifest describes it. The fields behind `cut_points_ms` are for people.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in logs and timelines.
    pub name: String,
    /// Its file, from the manifest's folder.
    pub file: PathBuf,
    /// The language that is spoken.
    pub language: Language,
    /// What it is for.
    pub kind: ClipKind,
    /// What is said.
    pub text: String,
    /// Set by hand; otherwise they are in the file beside, or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_points_ms: Option<Vec<u64>>,
    /// How a synthetic voice was told to say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phonemes: Option<String>,
    /// Who speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// How it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// Who may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Pauses that were put between words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pauses: Option<usize>,
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

impl Manifest {
    /// The file that describes the set in a folder.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(MANIFEST)
    }

    /// What describes the set in a folder.
    ///
    /// # Errors
    /// When it cannot be read, or is not a manifest.
    pub fn read(folder: &Path) -> Result<Self, ClipError> {
        parse_manifest(folder, &read_manifest(folder)?)
    }

    /// What describes the built-in set.
    pub fn built_in() -> Self {
        parse_manifest(Path::new(""), built_in::MANIFEST).expect("a test loads the built-in clips")
    }
}

/// The bytes of a file of the built-in set.
///
/// # Errors
/// When there is none of that name.
pub fn built_in_file(file: &Path) -> std::io::Result<Vec<u8>> {
    built_in::read(file)
}

/// The clips of all languages.
#[derive(Debug, Clone)]
pub struct Clips {
    set: String,
    clips: HashMap<(Language, ClipKind), Vec<Clip>>,
    own: HashSet<(Language, ClipKind)>,
}

impl Clips {
    /// The set that the configuration asks for, matched to `level_dbfs` over the voiced parts.
    pub fn open(placeholder: &config::Placeholder, level_dbfs: f32) -> Result<Self, ClipError> {
        let clips = match &placeholder.clips {
            Some(folder) => Self::load(folder, level_dbfs)?,
            None => Self::embedded(level_dbfs),
        };
        match &placeholder.clip {
            Some(file) => clips.single_placeholder(file, level_dbfs),
            None => Ok(clips),
        }
    }

    /// Everything that the configuration asks for: its set, and in place of each kind that somebody has made clips of his own for, those.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a clip is missing that a call needs.
    pub fn configured(config: &config::Config) -> Result<Self, ClipError> {
        let level_dbfs = config.voice.level_dbfs;
        let clips = Self::open(&config.placeholder, level_dbfs)?;
        let clips = match config.clips.set_folder().filter(|folder| Manifest::path(folder).exists()) {
            Some(folder) => clips.overlaid(Self::load(&folder, level_dbfs)?),
            None => clips,
        };
        clips.check(config.conversation.language)?;
        Ok(clips)
    }

    /// This set, where `own` takes the place of all clips of a language and kind that it has some of: a caller hears one voice.
    pub fn overlaid(mut self, own: Self) -> Self {
        self.own.extend(own.clips.keys());
        self.clips.extend(own.clips);
        self
    }

    /// Whether the clips of a language and kind are somebody's own.
    pub fn is_own(&self, language: Language, kind: ClipKind) -> bool {
        self.own.contains(&(language, kind))
    }

    /// Whether what is not somebody's own was built into the program.
    pub fn is_built_in(&self) -> bool {
        self.set == BUILT_IN
    }

    /// Whether nobody plays anything of it.
    pub fn is_unused(&self) -> bool {
        let unused = |clip: &Clip| Arc::strong_count(&clip.frames) == 1 && Arc::strong_count(&clip.cuts) == 1;
        self.iter().all(unused)
    }

    /// The set built into the program.
    pub fn embedded(level_dbfs: f32) -> Self {
        Self::from_manifest(BUILT_IN, Path::new(""), built_in::MANIFEST, level_dbfs, built_in::read)
            .expect("a test loads the built-in clips")
    }

    /// The set in a folder.
    pub fn load(folder: &Path, level_dbfs: f32) -> Result<Self, ClipError> {
        let manifest = read_manifest(folder)?;
        Self::from_manifest(&folder.display().to_string(), folder, &manifest, level_dbfs, read_file)
    }

    /// This set, with one WAV file in place of the placeholders of every language.
    pub fn single_placeholder(mut self, file: &Path, level_dbfs: f32) -> Result<Self, ClipError> {
        let bytes = read_file(file).map_err(|cause| ClipError::Read { path: file.to_owned(), cause })?;
        let shaped = Shaped::new(file, &bytes, level_dbfs)?;
        let name = file.file_stem().map_or_else(|| "clip".into(), |stem| stem.to_string_lossy().into_owned());
        let stored = stored_cuts(file, shaped.file_samples(), read_file)?;
        for language in Language::ALL {
            let clip = shaped.clip(name.clone(), language, ClipKind::Placeholder, String::new(), stored.as_deref());
            self.clips.insert((language, ClipKind::Placeholder), vec![clip]);
        }
        Ok(self)
    }

    /// Finds where each clip of the set in a folder may be cut, and writes it beside the clip. Gives what was written.
    pub fn write_cuts(folder: &Path) -> Result<Vec<PathBuf>, ClipError> {
        let mut written = Vec::new();
        for entry in parse_manifest(folder, &read_manifest(folder)?)?.clip {
            let file = folder.join(&entry.file);
            let bytes = read_file(&file).map_err(|cause| ClipError::Read { path: file.clone(), cause })?;
            let path = Stored::path(&file);
            let text = Shaped::new(&file, &bytes, FINDING_DBFS)?.found().write();
            std::fs::write(&path, text).map_err(|cause| ClipError::Write { path: path.clone(), cause })?;
            written.push(path);
        }
        Ok(written)
    }

    fn from_manifest(
        set: &str,
        folder: &Path,
        manifest: &str,
        level_dbfs: f32,
        read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, ClipError> {
        let mut clips: HashMap<(Language, ClipKind), Vec<Clip>> = HashMap::new();
        for entry in parse_manifest(folder, manifest)?.clip {
            let path = folder.join(&entry.file);
            let bytes = read(&path).map_err(|cause| ClipError::Read { path: path.clone(), cause })?;
            let shaped = Shaped::new(&path, &bytes, level_dbfs)?;
            let cuts = match entry.cut_points_ms {
                Some(by_hand) => Some(by_hand),
                None => stored_cuts(&path, shaped.file_samples(), &read)?,
            };
            let clip = shaped.clip(entry.name, entry.language, entry.kind, entry.text, cuts.as_deref());
            clips.entry((clip.language, clip.kind)).or_default().push(clip);
        }
        Ok(Self { set: set.to_owned(), clips, own: HashSet::new() })
    }

    /// All clips, by language, kind, and the manifest's order.
    pub fn iter(&self) -> impl Iterator<Item = &Clip> {
        let of = move |language| ClipKind::ALL.into_iter().flat_map(move |kind| self.of(language, kind));
        Language::ALL.into_iter().flat_map(of)
    }

    /// The placeholders of a language, in the order of the manifest; may be empty.
    pub fn placeholders(&self, language: Language) -> &[Clip] {
        self.of(language, ClipKind::Placeholder)
    }

    /// The greeting of a language.
    pub fn greeting(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Greeting).first()
    }

    /// The second placeholders of a language, for a wait that has become long; may be empty.
    pub fn stills(&self, language: Language) -> &[Clip] {
        self.of(language, ClipKind::Still)
    }

    /// What is asked of a silent caller; may be missing.
    pub fn prompt(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Prompt).first()
    }

    /// The last words before we hang up; may be missing.
    pub fn goodbye(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Goodbye).first()
    }

    /// The apology of a language.
    pub fn apology(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Apology).first()
    }

    /// Says which clip is missing that a call in `language` needs.
    pub fn check(&self, language: Language) -> Result<(), ClipError> {
        let kinds =
            [(ClipKind::Greeting, "greeting"), (ClipKind::Placeholder, "placeholder"), (ClipKind::Apology, "apology")];
        match kinds.into_iter().find(|(kind, _)| self.of(language, *kind).is_empty()) {
            Some((_, kind)) => Err(ClipError::Missing { set: self.set.clone(), language, kind }),
            None => Ok(()),
        }
    }

    fn of(&self, language: Language, kind: ClipKind) -> &[Clip] {
        self.clips.get(&(language, kind)).map_or(&[], Vec::as_slice)
    }
}

fn read_manifest(folder: &Path) -> Result<String, ClipError> {
    let path = folder.join(MANIFEST);
    let manifest = read_file(&path).map_err(|cause| ClipError::Read { path: path.clone(), cause })?;
    String::from_utf8(manifest).map_err(|_| ClipError::Manifest { path, note: "not UTF-8".into() })
}

fn parse_manifest(folder: &Path, manifest: &str) -> Result<Manifest, ClipError> {
    let wrong = |note: String| ClipError::Manifest { path: folder.join(MANIFEST), note };
    let manifest: Manifest = toml::from_str(manifest).map_err(|error| wrong(error.to_string().trim().into()))?;
    let unsorted =
        |entry: &&Entry| entry.cut_points_ms.as_ref().is_some_and(|points| !points.is_sorted_by(|a, b| a < b));
    match manifest.clip.iter().find(unsorted) {
        Some(entry) => Err(wrong(format!("clip \"{}\": cut_points_ms must rise", entry.name))),
        None => Ok(manifest),
    }
}

/// The cut points that are stored beside a sound of so many samples; none when there are none, or they belong to another recording.
fn stored_cuts(
    sound: &Path,
    samples: usize,
    read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Option<Vec<u64>>, ClipError> {
    let path = Stored::path(sound);
    let text = match read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ClipError::Read { path, cause }),
    };
    let stored = Stored::parse(&text).map_err(|note| ClipError::Cuts { path, note })?;
    Ok((stored.samples == samples).then_some(stored.cut_points_ms))
}

pub(super) fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("not a regular file of at most {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read(path)
}

#[cfg(test)]
#[path = "clips_tests.rs"]
mod tests;
