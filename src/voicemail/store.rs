//! Messages on disk: written so that a power cut leaves all of one or nothing of it, listed, bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::recorder::{Ended, Recording};
use super::time::utc;
use crate::config;
use crate::hearing::to_wav;

/// Larger JSON files are none of ours.
const LONGEST_JSON_BYTES: u64 = 64 * 1024;
/// The ending of a file that is being written.
const PART: &str = "part";

/// A message that cannot be kept or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder or a file in it.
    #[error("{}: {source}; [voicemail] folder must be a folder that the service may write to", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: not a message's description ({problem}); remove it, or restore it from a backup", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        problem: String,
    },
    /// There is no such message.
    #[error("there is no message {id}; `offhook messages list` shows all of them")]
    Unknown {
        /// What was asked for.
        id: String,
    },
}

/// What was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A recorded message.
    Message,
    /// The wish to be called back.
    CallBack,
}

/// Whether somebody else is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Post {
    /// Nobody.
    None,
    /// It was not taken yet.
    Wanted,
    /// It was taken.
    Done,
}

/// A message without its sound. Not `Debug`: it names its caller.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Its name, and that of its files.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// When it was left, in UTC.
    pub at: String,
    /// The same in seconds since 1970.
    pub at_unix_s: u64,
    /// The number that called, as signalling told it.
    pub caller: String,
    /// Call-ID of the call.
    pub call: String,
    /// Its length.
    pub seconds: f64,
    /// What ended it.
    pub ended: Option<Ended>,
    /// What was said in it, where somebody wrote it down.
    pub transcript: Option<String>,
    /// When the caller wants to be called back, and what about.
    pub wish: Option<String>,
    /// Whether somebody else is to be told.
    pub post: Post,
}

/// Who left something, in which call.
#[derive(Clone)]
pub struct Note {
    /// The number that called.
    pub caller: String,
    /// Call-ID of the call.
    pub call: String,
}

/// The folder of messages.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    keep_messages: usize,
    keep: Option<Duration>,
    keep_bytes: u64,
    posts: bool,
    /// One writer at a time.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the folder, makes it if there is none, and removes what a power cut left half written.
    ///
    /// # Errors
    /// When it cannot be made, or not be written to.
    pub fn open(config: &config::Voicemail) -> Result<Self, StoreError> {
        let store = Self::new(config);
        let failed = |source| store.failed(source);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&store.folder).map_err(failed)?;
        store.sweep().map_err(failed)?;
        Ok(store)
    }

    /// The same for somebody who only reads.
    pub fn new(config: &config::Voicemail) -> Self {
        Self {
            folder: config.folder.clone(),
            keep_messages: config.keep_messages,
            keep: Some(u64::from(config.keep_days)).filter(|days| *days > 0).map(|d| Duration::from_secs(d * 86_400)),
            keep_bytes: u64::from(config.keep_megabytes) * 1_000_000,
            posts: config.webhook_url.is_some(),
            writing: Mutex::new(()),
        }
    }

    /// Keeps a message. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, at: SystemTime, from: Note, recording: &Recording) -> Result<Message, StoreError> {
        let mut message = self.message(at, from, Kind::Message);
        message.seconds = recording.duration().as_secs_f64();
        message.ended = Some(recording.ended);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&format!("{}.wav", message.id), &to_wav(&recording.samples, recording.wide))?;
        self.describe(&message)?;
        self.retain(at);
        Ok(message)
    }

    /// Keeps the wish to be called back. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, at: SystemTime, from: Note, wish: &str) -> Result<Message, StoreError> {
        let mut message = self.message(at, from, Kind::CallBack);
        message.wish = Some(wish.to_owned());
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.describe(&message)?;
        self.retain(at);
        Ok(message)
    }

    fn message(&self, at: SystemTime, from: Note, kind: Kind) -> Message {
        let shown = utc(at);
        let stamp: String = shown.chars().filter(|c| !"-:".contains(*c)).collect();
        Message {
            id: format!("{stamp}-{:08x}", fastrand::u32(..)),
            kind,
            at: shown,
            at_unix_s: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            caller: from.caller,
            call: from.call,
            seconds: 0.0,
            ended: None,
            transcript: None,
            wish: None,
            post: if self.posts { Post::Wanted } else { Post::None },
        }
    }

    /// All messages, oldest first; files that are not understood are left out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Message>, StoreError> {
        let mut ids = self.ids().map_err(|source| self.failed(source))?;
        ids.sort();
        Ok(ids.iter().filter_map(|id| self.get(id).ok()).collect())
    }

    /// One message.
    ///
    /// # Errors
    /// When there is none of that name, or it is not readable.
    pub fn get(&self, id: &str) -> Result<Message, StoreError> {
        let path = self.path(id, "json")?;
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Unknown { id: id.to_owned() },
            _ => StoreError::Io { path: path.clone(), source },
        };
        let malformed = |problem: String| StoreError::Malformed { path: path.clone(), problem };
        if fs::metadata(&path).map_err(io)?.len() > LONGEST_JSON_BYTES {
            return Err(malformed(format!("larger than {LONGEST_JSON_BYTES} bytes")));
        }
        let message: Message =
            serde_json::from_slice(&fs::read(&path).map_err(io)?).map_err(|error| malformed(error.to_string()))?;
        if message.id != id {
            return Err(malformed("it is another's".into()));
        }
        Ok(message)
    }

    /// The sound of a message: a WAV file.
    ///
    /// # Errors
    /// When there is none.
    pub fn sound(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(id, "wav")?;
        fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Unknown { id: id.to_owned() },
            _ => StoreError::Io { path, source },
        })
    }

    /// Somebody else has taken it.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn posted(&self, id: &str) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = self.get(id)?;
        message.post = Post::Done;
        self.describe(&message)
    }

    /// Removes a message and its sound.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (description, sound) = (self.path(id, "json")?, self.path(id, "wav")?);
        // The description first: without it the sound is swept.
        fs::remove_file(&description).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Unknown { id: id.to_owned() },
            _ => StoreError::Io { path: description, source },
        })?;
        match fs::remove_file(&sound) {
            // A wish has no sound.
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { path: sound, source }),
            _ => Ok(()),
        }
    }

    fn describe(&self, message: &Message) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(message).expect("strings and numbers are always JSON");
        self.write(&format!("{}.json", message.id), &json)
    }

    /// Writes a file whole, makes it durable, and only then gives it its name.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let part = self.folder.join(format!("{name}.{PART}"));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|source| {
            // What is left of it is swept at the next start.
            let _ = fs::remove_file(&part);
            StoreError::Io { path, source }
        })
    }

    /// Removes the oldest until what is left is within its bounds; the newest always stays.
    fn retain(&self, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let Ok(messages) = self.list() else { return };
        let bytes = |id: &str, ending: &str| {
            fs::metadata(self.folder.join(format!("{id}.{ending}"))).map_or(0, |metadata| metadata.len())
        };
        let (mut kept, mut used) = (0, 0);
        for message in messages.iter().rev() {
            used += bytes(&message.id, "wav") + bytes(&message.id, "json");
            kept += 1;
            let old = self.keep.is_some_and(|keep| now.as_secs().saturating_sub(message.at_unix_s) > keep.as_secs());
            if kept > 1 && (kept > self.keep_messages || used > self.keep_bytes || old) {
                // The description first: without it the sound is swept.
                let _ = fs::remove_file(self.folder.join(format!("{}.json", message.id)));
                let _ = fs::remove_file(self.folder.join(format!("{}.wav", message.id)));
            }
        }
    }

    /// Removes what has no description, or was not finished.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is = |ending: &str| path.extension().is_some_and(|extension| extension == ending);
            if is(PART) || (is("wav") && !path.with_extension("json").exists()) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                ids.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
            }
        }
        Ok(ids)
    }

    /// A name that leads nowhere else.
    fn path(&self, id: &str, ending: &str) -> Result<PathBuf, StoreError> {
        let good = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        good.then(|| self.folder.join(format!("{id}.{ending}")))
            .ok_or_else(|| StoreError::Unknown { id: id.to_owned() })
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.folder.clone(), source }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(folder: &Path) -> config::Voicemail {
        config::Voicemail { enabled: true, folder: folder.join("messages"), ..Default::default() }
    }

    fn from() -> Note {
        Note { caller: "+972501234567".into(), call: "a@b".into() }
    }

    fn recording(samples: usize) -> Recording {
        Recording { samples: vec![1000; samples], ended: Ended::Silence, wide: false }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_374_900 + seconds)
    }

    #[test]
    fn a_message_is_found_again_with_its_sound_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&config(folder.path())).unwrap();
        let message = store.save(at(0), from(), &recording(16_000)).unwrap();
        store.note(at(1), from(), "tomorrow morning").unwrap();
        let all = Store::new(&config(folder.path())).list().unwrap();
        assert!(all.len() == 2 && all[0] == message, "{}", all.len());
        assert_eq!((all[0].seconds, all[0].kind, all[1].kind), (1.0, Kind::Message, Kind::CallBack));
        assert_eq!(all[1].wish.as_deref(), Some("tomorrow morning"));
        assert!(all[0].id.starts_with("20261122T191500Z-"), "{}", all[0].id);
        let sound = crate::pcm::wav::read(&store.sound(&message.id).unwrap()).unwrap();
        assert_eq!((sound.rate, sound.samples.len()), (8000, 8000));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.folder().to_owned()), 0o700);
        for entry in fs::read_dir(store.folder()).unwrap() {
            assert_eq!(mode(entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn what_a_power_cut_left_half_written_is_gone_at_the_next_start_and_the_rest_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&config(folder.path())).unwrap();
        let message = store.save(at(0), from(), &recording(160)).unwrap();
        for name in ["20261122T191501Z-1.wav", "20261122T191501Z-1.json.part", "20261122T191502Z-2.wav.part"] {
            fs::write(store.folder().join(name), b"{\"id\"").unwrap();
        }
        fs::write(store.folder().join("20261122T191503Z-3.json"), b"{\"id\"").unwrap();
        let store = Store::open(&config(folder.path())).unwrap();
        let ids: Vec<_> = store.list().unwrap().into_iter().map(|message| message.id).collect();
        assert_eq!(ids, [message.id]);
        assert_eq!(fs::read_dir(store.folder()).unwrap().count(), 3);
        assert!(matches!(store.get("20261122T191503Z-3"), Err(StoreError::Malformed { .. })));
    }

    #[test]
    fn the_oldest_go_first_by_count_by_age_and_by_size_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let bounded = |messages, days, megabytes| config::Voicemail {
            keep_messages: messages,
            keep_days: days,
            keep_megabytes: megabytes,
            ..config(folder.path())
        };
        let seconds = |store: &Store| -> Vec<u64> {
            store.list().unwrap().iter().map(|message| message.at_unix_s - 1_795_374_900).collect()
        };
        let store = Store::open(&bounded(3, 0, 500)).unwrap();
        for n in 0..5 {
            store.save(at(n), from(), &recording(160)).unwrap();
        }
        assert_eq!(seconds(&store), [2, 3, 4]);
        let store = Store::open(&bounded(3, 1, 500)).unwrap();
        store.save(at(86_404), from(), &recording(160)).unwrap();
        assert_eq!(seconds(&store), [4, 86_404]);
        let store = Store::open(&bounded(9, 0, 1)).unwrap();
        store.save(at(86_405), from(), &recording(450_000)).unwrap();
        assert_eq!(seconds(&store), [4, 86_404, 86_405]);
        store.save(at(86_406), from(), &recording(600_000)).unwrap();
        assert_eq!(seconds(&store), [86_406]);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret.wav"), b"x").unwrap();
        let store = Store::open(&config(folder.path())).unwrap();
        for id in ["../secret", "", "/etc/passwd", "a/../../secret", "."] {
            assert!(matches!(store.sound(id), Err(StoreError::Unknown { .. })), "{id}");
        }
    }
}
