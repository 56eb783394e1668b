//! How loud a voice is by itself: learned from what it speaks, and remembered on disk where phrases are kept.
//!
//! One figure for each voice and language: the level (as [`crate::pcm::level::active_dbfs`] measures it) that its phrases have without a
//! gain, in the mean over about the last 20 s of voiced sound. Not implemented: a figure for each manner of speaking.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config;

/// How much sound the mean remembers.
const MEMORY: Duration = Duration::from_secs(20);
/// A level that has moved by less is not written again, in dB.
const WORTH_WRITING_DB: f32 = 0.2;
/// Voices in the file; those that were written longest ago go first.
const MOST_KEPT: usize = 64;
/// The file's name in the folder of kept phrases.
const FILE: &str = "levels";

/// The level of one voice in one language. Cheap to clone; clones learn together.
#[derive(Debug, Clone, Default)]
pub struct Loudness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    learned: Mutex<Learned>,
    kept: Option<Kept>,
}

/// What is known of a voice.
#[derive(Debug, Clone, Copy, Default)]
struct Learned {
    dbfs: Option<f32>,
    /// From how much sound, at most [`MEMORY`].
    from: Duration,
    /// The last phrase was whole within a moment of its first sound.
    comes_whole: bool,
    /// It has spoken since the service was started.
    here: bool,
    written: Option<f32>,
}

/// Where it is remembered.
#[derive(Debug)]
struct Kept {
    file: PathBuf,
    key: String,
}

impl Loudness {
    /// The level of the voice that `identity` describes, remembered where `[voice]` keeps phrases, if it does. Reads a small file.
    pub fn of(voice: &config::Voice, identity: &str) -> Self {
        match super::kept_in(voice) {
            Some(folder) => Self::kept(&folder, identity),
            None => Self::default(),
        }
    }

    fn kept(folder: &Path, identity: &str) -> Self {
        let digest = Sha256::digest(identity.as_bytes());
        let key: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let file = folder.join(FILE);
        let dbfs = read(&file).into_iter().rev().find(|(known, _)| *known == key).map(|(_, dbfs)| dbfs);
        let from = if dbfs.is_some() { MEMORY } else { Duration::ZERO };
        let learned = Learned { dbfs, from, written: dbfs, ..Learned::default() };
        Self(Arc::new(Shared { learned: Mutex::new(learned), kept: Some(Kept { file, key }) }))
    }

    /// The voice's level in dBFS, as far as it is known.
    pub fn known(&self) -> Option<f32> {
        self.learned().dbfs
    }

    /// Whether it has spoken since the service was started.
    pub fn was_heard(&self) -> bool {
        self.learned().here
    }

    /// Whether its phrases come at once, so that it is worth waiting a moment for the whole of one.
    pub(super) fn comes_whole(&self) -> bool {
        self.learned().comes_whole
    }

    /// A phrase had `dbfs` without a gain in `voiced` of sound.
    pub(crate) fn learn(&self, dbfs: f32, voiced: Duration, came_whole: bool) {
        let mut learned = self.learned();
        let (before, now) = (learned.from.as_secs_f32(), voiced.as_secs_f32());
        let mean = learned.dbfs.map_or(dbfs, |known| known + (dbfs - known) * now / (before + now).max(0.001));
        let from = (learned.from + voiced).min(MEMORY);
        *learned = Learned { dbfs: Some(mean), from, comes_whole: came_whole, here: true, ..*learned };
        let moved = learned.written.is_none_or(|written| (written - mean).abs() > WORTH_WRITING_DB);
        if let (true, Some(kept)) = (moved, &self.0.kept) {
            learned.written = Some(mean);
            let (file, key) = (kept.file.clone(), kept.key.clone());
            let writing = move || {
                if let Err(error) = write(&file, &key, mean) {
                    tracing::warn!(%error, "a voice's level could not be kept; is the disk full?");
                }
            };
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(writing)),
                Err(_) => writing(),
            }
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the file: a voice and its level a line. What cannot be read is left out.
fn read(file: &Path) -> Vec<(String, f32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (key, dbfs) = line.split_once(' ')?;
        let dbfs = dbfs.trim().parse::<f32>().ok().filter(|dbfs| (-100.0..=20.0).contains(dbfs))?;
        Some((key.to_owned(), dbfs))
    };
    text.lines().filter_map(line).take(MOST_KEPT).collect()
}

/// Writes one voice's level beside those of the others. Blocks.
fn write(file: &Path, key: &str, dbfs: f32) -> io::Result<()> {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = read(file);
    all.retain(|(known, _)| known != key);
    let surplus = (all.len() + 1).saturating_sub(MOST_KEPT);
    all.drain(..surplus);
    all.push((key.to_owned(), dbfs));
    let aside = file.with_extension("unfinished");
    let mut written = std::fs::File::create(&aside)?;
    for (key, dbfs) in all {
        writeln!(written, "{key} {dbfs:.2}")?;
    }
    written.sync_all()?;
    std::fs::rename(&aside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_level_is_the_mean_of_the_last_twenty_seconds() {
        let loudness = Loudness::default();
        assert!(loudness.known().is_none() && !loudness.was_heard());
        loudness.learn(-30.0, 3 * SECOND, true);
        assert_eq!(loudness.known(), Some(-30.0));
        loudness.clone().learn(-26.0, SECOND, false);
        assert_eq!(loudness.known(), Some(-29.0));
        assert!(loudness.was_heard() && !loudness.comes_whole());
        (0..60).for_each(|_| loudness.learn(-12.0, 2 * SECOND, false));
        assert!((loudness.known().unwrap() + 12.0).abs() < 0.1);
    }

    #[test]
    fn what_was_learned_is_known_after_the_next_start_and_the_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let start = |identity: &str| Loudness::kept(folder.path(), identity);
        start("one").learn(-31.25, SECOND, true);
        start("two").learn(-9.0, SECOND, true);
        assert_eq!((start("one").known(), start("two").known()), (Some(-31.25), Some(-9.0)));
        assert!(start("three").known().is_none() && !start("one").was_heard());
        start("one").learn(-31.26, SECOND, true);
        let before = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(before.lines().count(), 2);
        (0..2 * MOST_KEPT).for_each(|n| start(&n.to_string()).learn(-20.0, SECOND, true));
        assert_eq!(read(&folder.path().join(FILE)).len(), MOST_KEPT);
        assert!(start("one").known().is_none());
    }

    #[test]
    fn a_file_with_anything_in_it_is_read_as_far_as_it_makes_sense() {
        let folder = tempfile::tempdir().unwrap();
        let key = "7692c3ad3540bb80"; // of "one"
        for (text, known) in [
            (format!("{key} -20.50\n"), Some(-20.5)),
            (format!("{key} NaN\n{key}\n\0\n {key} 3"), None),
            (format!("{key} -1e30\n"), None),
            (String::new(), None),
        ] {
            std::fs::write(folder.path().join(FILE), &text).unwrap();
            assert_eq!(Loudness::kept(folder.path(), "one").known(), known, "{text:?}");
        }
        std::fs::write(folder.path().join(FILE), [0xff; 300]).unwrap();
        assert_eq!(Loudness::kept(folder.path(), "one").known(), None);
    }
}
