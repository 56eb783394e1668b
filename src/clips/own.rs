//! A set of clips of one's own on disk: a clip is put into it whole, or not at all.
//!
//! A sound gets a name of its own each time, so that the manifest alone, written beside and renamed, says what is there: whoever reads
//! meanwhile has either the old set or the new one. Two who write at once wait for each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::config::{self, Language};
use crate::playout::ClipKind;
use crate::playout::clips::{ClipError, Entry, Manifest, Prepared};

/// Clips of one set.
const MOST: usize = 500;
/// Written at the head of the manifest.
const HEAD: &str = "# Clips of one's own, written by `offhook clips`; the box takes up what changes here.\n\n";

/// Why a clip cannot be kept.
#[derive(Debug, Error)]
pub enum OwnError {
    /// The folder or a file in it.
    #[error("{}: {source}; clips.folder must be a folder that may be written to (try as the user offhook)", path.display())]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there already is wrong.
    #[error(transparent)]
    Clips(#[from] ClipError),
    /// Its name cannot be one.
    #[error("{id:?} cannot be a clip's name; take up to 64 of a to z, 0 to 9 and -")]
    Name {
        /// What was wanted.
        id: String,
    },
    /// There are too many.
    #[error("{}: there are {MOST} clips already; remove some", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such clip.
    #[error("there is no clip {id} of your own; `offhook clips list` shows all of them")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// There are several of that name.
    #[error("there is a clip {id} in several languages; say which one with --lang: {languages}")]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Their codes.
        languages: String,
    },
}

/// What is to be known of a clip.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub id: String,
    /// The language that is spoken.
    pub language: Language,
    /// What it is for.
    pub kind: ClipKind,
    /// What is said.
    pub text: String,
    /// Who speaks.
    pub voice: Option<String>,
    /// How it was made.
    pub made: String,
}

/// The folder of a set.
#[derive(Debug, Clone)]
pub struct OwnClips {
    folder: PathBuf,
}

impl OwnClips {
    /// The set that the configuration names; `None` when it names no folder.
    pub fn of(config: &config::OwnClips) -> Option<Self> {
        config.set_folder().map(Self::new)
    }

    /// The set in a folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is in it; nothing when there is no manifest.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn manifest(&self) -> Result<Manifest, ClipError> {
        if Manifest::path(&self.folder).exists() { Manifest::read(&self.folder) } else { Ok(Manifest::default()) }
    }

    /// Puts a clip into the set, in place of one of the same name and language. Of the kinds of which a call plays one, it is the one from now on. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; the set is as it was then.
    pub fn put(&self, about: &About, sound: &Prepared) -> Result<PathBuf, OwnError> {
        let id = &about.id;
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(good) {
            return Err(OwnError::Name { id: id.clone() });
        }
        fs::create_dir_all(&self.folder).map_err(|source| self.failed(&self.folder, source))?;
        let _writing = self.lock()?;
        let mut manifest = self.manifest()?;
        let same = manifest.clip.iter().position(|known| known.name == *id && known.language == about.language);
        if same.is_none() && manifest.clip.len() >= MOST {
            return Err(OwnError::Full { path: self.folder.clone() });
        }
        let digest = Sha256::digest(&sound.wav);
        let name: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let file = PathBuf::from(format!("{id}-{name}.wav"));
        let path = self.folder.join(&file);
        self.write(&path.with_extension("cuts.toml"), sound.cuts.as_bytes())?;
        self.write(&path, &sound.wav)?;
        let entry = Entry {
            name: id.clone(),
            file: file.clone(),
            language: about.language,
            kind: about.kind,
            text: about.text.clone(),
            cut_points_ms: None,
            phonemes: None,
            voice: about.voice.clone(),
            made: Some(about.made.clone()),
            licence: None,
            pauses: None,
            duration_ms: Some(sound.duration.as_millis() as u64),
        };
        let replaced = same.map(|place| manifest.clip.remove(place).file);
        let chosen = matches!(about.kind, ClipKind::Placeholder | ClipKind::Still);
        manifest.clip.insert(if chosen { same.unwrap_or(manifest.clip.len()) } else { 0 }, entry);
        self.describe(&manifest)?;
        if let Some(before) = replaced {
            self.forget(&manifest, &before);
        }
        Ok(path)
    }

    /// Takes a clip out of the set; its language has to be told only where there are several of that name. Blocks.
    ///
    /// # Errors
    /// When there is none or not only one of that name, or the manifest cannot be written.
    pub fn remove(&self, id: &str, language: Option<Language>) -> Result<(), OwnError> {
        let unknown = || OwnError::Unknown { id: id.to_owned() };
        if !self.folder.is_dir() {
            return Err(unknown());
        }
        let _writing = self.lock()?;
        let mut manifest = self.manifest()?;
        let asked = |known: &Entry| known.name == id && language.is_none_or(|language| language == known.language);
        let place = manifest.clip.iter().position(asked).ok_or_else(unknown)?;
        let first = manifest.clip[place].language;
        if manifest.clip.iter().any(|known| asked(known) && known.language != first) {
            let there =
                |language: &Language| manifest.clip.iter().any(|known| asked(known) && known.language == *language);
            let codes: Vec<_> = Language::ALL.into_iter().filter(there).map(Language::code).collect();
            return Err(OwnError::Ambiguous { id: id.to_owned(), languages: codes.join(", ") });
        }
        let removed = manifest.clip.remove(place);
        self.describe(&manifest)?;
        self.forget(&manifest, &removed.file);
        Ok(())
    }

    fn describe(&self, manifest: &Manifest) -> Result<(), OwnError> {
        let text = toml::to_string(manifest).expect("names and numbers are always TOML");
        self.write(&Manifest::path(&self.folder), format!("{HEAD}{text}").as_bytes())
    }

    /// Removes the files of a sound unless the manifest still names it; what lies elsewhere is not ours.
    fn forget(&self, manifest: &Manifest, file: &Path) {
        let path = self.folder.join(file);
        let named = manifest.clip.iter().any(|known| self.folder.join(&known.file) == path);
        if file.components().count() == 1 && !named {
            for path in [path.with_extension("cuts.toml"), path] {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Writes a file whole, makes it durable, and only then gives it its name.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), OwnError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|source| {
            let _ = fs::remove_file(&part);
            self.failed(path, source)
        })
    }

    /// Held by the one who writes.
    fn lock(&self) -> Result<File, OwnError> {
        // The folder itself is what all who may write have in common.
        let folder = File::open(&self.folder).map_err(|source| self.failed(&self.folder, source))?;
        folder.lock().map_err(|source| self.failed(&self.folder, source))?;
        Ok(folder)
    }

    fn failed(&self, path: &Path, source: io::Error) -> OwnError {
        OwnError::Write { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::{RATE, tone, wav};
    use crate::playout::clips::Clips;

    fn about(id: &str, kind: ClipKind) -> About {
        About { id: id.into(), language: Language::En, kind, text: "x".into(), voice: None, made: "a test".into() }
    }

    fn prepared(hz: f32) -> Prepared {
        let sound = wav::Sound { rate: RATE, samples: tone::sine(hz, -10.0, 8000) };
        Prepared::new(Path::new("x.wav"), sound).unwrap()
    }

    fn files(own: &OwnClips) -> usize {
        fs::read_dir(own.folder()).unwrap().count()
    }

    #[test]
    fn a_clip_that_is_put_is_the_one_that_is_played_and_the_one_before_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnClips::new(folder.path().join("sets/default"));
        assert!(own.manifest().unwrap().clip.is_empty());
        own.put(&about("old", ClipKind::Greeting), &prepared(500.0)).unwrap();
        own.put(&about("hello", ClipKind::Greeting), &prepared(700.0)).unwrap();
        assert_eq!(files(&own), 5);
        own.put(&about("hello", ClipKind::Greeting), &prepared(900.0)).unwrap();
        assert_eq!(files(&own), 5, "the sound before it is not kept");
        let greeting = || Clips::load(own.folder(), -20.0).unwrap().greeting(Language::En).unwrap().clone();
        assert_eq!(greeting().name, "hello");
        assert!(tone::share_of(900.0, &greeting().frames.concat()[1600..4800]) > 0.9);
        own.remove("hello", None).unwrap();
        assert_eq!((greeting().name.as_str(), files(&own)), ("old", 3));
        assert!(matches!(own.remove("hello", None), Err(OwnError::Unknown { .. })));
    }

    #[test]
    fn one_name_in_two_languages_is_two_clips_and_a_sound_that_both_share_stays_until_none_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnClips::new(folder.path().to_owned());
        let english = about("hello", ClipKind::Greeting);
        let hebrew = About { language: Language::He, ..english.clone() };
        own.put(&english, &prepared(500.0)).unwrap();
        own.put(&hebrew, &prepared(500.0)).unwrap();
        assert_eq!((own.manifest().unwrap().clip.len(), files(&own)), (2, 3));
        let error = own.remove("hello", None).unwrap_err();
        assert!(error.to_string().ends_with("--lang: en, he"), "{error}");
        own.put(&english, &prepared(700.0)).unwrap();
        assert_eq!(files(&own), 5, "the Hebrew clip has its sound");
        own.put(&english, &prepared(500.0)).unwrap();
        assert!(matches!(own.remove("hello", Some(Language::Ru)), Err(OwnError::Unknown { .. })));
        own.remove("hello", Some(Language::En)).unwrap();
        let clips = Clips::load(own.folder(), -20.0).unwrap();
        assert!(clips.greeting(Language::En).is_none() && clips.greeting(Language::He).is_some());
        own.remove("hello", None).unwrap();
        assert_eq!(files(&own), 1);
    }

    #[test]
    fn a_set_that_is_full_takes_a_clip_in_place_of_another_and_nothing_of_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnClips::new(folder.path().to_owned());
        own.put(&about("a", ClipKind::Still), &prepared(500.0)).unwrap();
        let mut manifest = own.manifest().unwrap();
        let entry = |n| Entry { name: format!("clip-{n}"), ..manifest.clip[0].clone() };
        let more: Vec<_> = (1..MOST).map(entry).collect();
        manifest.clip.extend(more);
        own.describe(&manifest).unwrap();
        assert!(matches!(own.put(&about("new", ClipKind::Still), &prepared(700.0)), Err(OwnError::Full { .. })));
        assert_eq!(files(&own), 3);
        own.put(&about("a", ClipKind::Still), &prepared(700.0)).unwrap();
        assert_eq!((own.manifest().unwrap().clip.len(), files(&own)), (MOST, 5));
    }

    #[test]
    fn two_who_put_clips_at_once_lose_none_and_whoever_reads_meanwhile_has_a_whole_set() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnClips::new(folder.path().to_owned());
        own.put(&about("first", ClipKind::Placeholder), &prepared(500.0)).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let own = own.clone();
                scope.spawn(move || {
                    for n in 0..10 {
                        let sound = prepared(400.0 + n as f32 * 50.0);
                        own.put(&about(&format!("clip-{writer}-{n}"), ClipKind::Placeholder), &sound).unwrap();
                    }
                });
            }
            for _ in 0..20 {
                assert!(!Clips::load(own.folder(), -20.0).unwrap().placeholders(Language::En).is_empty());
            }
        });
        assert_eq!(own.manifest().unwrap().clip.len(), 21);
    }

    #[test]
    fn a_name_leads_nowhere_else_and_what_is_wrong_there_is_told_before_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnClips::new(folder.path().join("set"));
        for id in ["", "../a", "A", "a b", "a/b", &"a".repeat(65)] {
            let put = own.put(&about(id, ClipKind::Greeting), &prepared(500.0));
            assert!(matches!(put, Err(OwnError::Name { .. })), "{id}");
        }
        assert!(!own.folder().exists());
        fs::create_dir(own.folder()).unwrap();
        fs::write(Manifest::path(own.folder()), "[[clip]]\nnaem = 1\n").unwrap();
        let error = own.put(&about("a", ClipKind::Greeting), &prepared(500.0)).unwrap_err().to_string();
        assert!(error.contains("naem") && files(&own) == 1, "{error}");
    }
}
