//! Phrases that are spoken again and again, kept on disk: found by what decides their sound, and played from there at once.
//!
//! Only sound is kept, under a digest of the text and the voice. Kept are the phrases that somebody configured, and those that were
//! spoken in two calls or more: what is said to one caller alone (an order, a name) does not get there, unless the same words are said
//! in another call. A file is whole or not there: written aside, synced, renamed; its content is checked by a digest when it is read.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::shape::Gain;
use super::{AnswerId, Fault, Fut, Say, Synthesizer};
use crate::config::Language;
use crate::pcm::{FRAME_SAMPLES, RATE};
use crate::sentence::{Digits, Ends, language_of, speakable_with};

/// What a file begins with; another version is another sound.
const MAGIC: &[u8; 8] = b"OHVOICE3";
/// Behind it the digest of the samples.
const HEAD: usize = MAGIC.len() + 32;
/// No phrase is larger: a minute.
const MAX_SAMPLES: usize = 60 * RATE as usize;
/// Phrases of which it is remembered in which call they were spoken.
const SEEN: usize = 4096;
/// Samples in a piece.
const PIECE: usize = 2 * FRAME_SAMPLES;
/// What files are named that are not finished.
const UNFINISHED: &str = "unfinished";

type Key = [u8; 32];

/// The folder with the phrases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    most_bytes: u64,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    files: HashMap<Key, Entry>,
    bytes: u64,
    /// Counts uses; the smallest is the one that was used longest ago.
    clock: u64,
    written: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl Store {
    /// Opens the folder, and makes it if need be. Blocks.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(folder: &Path, most_bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut found: Vec<(SystemTime, Key, u64)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(UNFINISHED) {
                // Nobody writes it any more: the service runs once.
                let _ = fs::remove_file(entry.path());
            } else if let (Some(key), Ok(metadata)) = (key_of(name), entry.metadata()) {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), key, metadata.len()));
            }
        }
        found.sort();
        let mut index = Index::default();
        for (_, key, bytes) in found {
            index.add(key, bytes);
        }
        let store = Self(Arc::new(Shelf { folder: folder.to_owned(), most_bytes, index: Mutex::new(index) }));
        store.make_room();
        Ok(store)
    }

    /// Bytes that are in use.
    pub fn bytes(&self) -> u64 {
        self.index().bytes
    }

    /// Phrases that are kept.
    pub fn len(&self) -> usize {
        self.index().files.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn holds(&self, key: &Key) -> bool {
        self.index().files.contains_key(key)
    }

    /// The samples of a phrase. A file that is damaged is removed. Blocks.
    fn read(&self, key: &Key) -> Option<Vec<i16>> {
        if !self.holds(key) {
            return None;
        }
        let path = self.path(key);
        match read_file(&path) {
            Ok(Some((file, samples))) => {
                // The next start knows by it what was used lately.
                let _ = file.set_modified(SystemTime::now());
                self.index().touch(key);
                Some(samples)
            }
            result => {
                if let Ok(None) = result {
                    tracing::warn!("a phrase in the voice's cache was damaged and is dropped");
                }
                let _ = fs::remove_file(&path);
                self.index().remove(key);
                None
            }
        }
    }

    /// Keeps the samples of a phrase. Blocks.
    fn write(&self, key: &Key, samples: &[i16]) -> io::Result<()> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let whole = (HEAD + bytes.len()) as u64;
        if samples.is_empty() || samples.len() > MAX_SAMPLES || whole > self.0.most_bytes {
            return Ok(());
        }
        let number = {
            let mut index = self.index();
            index.written += 1;
            index.written
        };
        let aside = self.0.folder.join(format!("{}-{number}.{UNFINISHED}", std::process::id()));
        let written = || -> io::Result<()> {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(&bytes))?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&aside, self.path(key))?;
            File::open(&self.0.folder)?.sync_all()
        };
        if let Err(error) = written() {
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        self.index().add(*key, whole);
        self.make_room();
        Ok(())
    }

    /// Removes what was used longest ago.
    fn make_room(&self) {
        loop {
            let mut index = self.index();
            if index.bytes <= self.0.most_bytes {
                return;
            }
            let Some(oldest) = index.files.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else {
                return;
            };
            index.remove(&oldest);
            drop(index);
            let _ = fs::remove_file(self.path(&oldest));
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.folder.join(name + ".voice")
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn add(&mut self, key: Key, bytes: u64) {
        self.clock += 1;
        let entry = Entry { bytes, used: self.clock };
        let before = self.files.insert(key, entry).map_or(0, |entry| entry.bytes);
        self.bytes = self.bytes + bytes - before;
    }

    fn touch(&mut self, key: &Key) {
        self.clock += 1;
        if let Some(entry) = self.files.get_mut(key) {
            entry.used = self.clock;
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.files.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

fn key_of(name: &str) -> Option<Key> {
    let digits = name.strip_suffix(".voice").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut key = [0; 32];
    for (n, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(key)
}

/// The samples of a file; `None` when it is damaged.
fn read_file(path: &Path) -> io::Result<Option<(File, Vec<i16>)>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    (&file).take((HEAD + 2 * MAX_SAMPLES + 1) as u64).read_to_end(&mut bytes)?;
    let Some((head, sound)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
    let whole = head[..MAGIC.len()] == *MAGIC && head[MAGIC.len()..] == *Sha256::digest(sound);
    let samples = || sound.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    Ok(whole.then(|| (file, samples())))
}

/// A voice whose phrases are kept.
#[derive(Clone)]
pub struct Cached {
    voice: Arc<dyn Synthesizer>,
    store: Store,
    seen: Arc<Mutex<Seen>>,
    level_dbfs: Option<f32>,
}

/// In which call phrases were spoken, the latest last.
#[derive(Default)]
struct Seen {
    calls: HashMap<Key, u64>,
    order: VecDeque<Key>,
}

impl Seen {
    /// Whether the phrase was spoken in another call before.
    fn in_two_calls(&mut self, key: Key, call: u64) -> bool {
        match self.calls.get(&key) {
            Some(before) => *before != call,
            None => {
                if self.order.len() == SEEN
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.calls.remove(&oldest);
                }
                self.order.push_back(key);
                self.calls.insert(key, call);
                false
            }
        }
    }
}

impl Cached {
    /// `voice`, with its phrases kept in `store`.
    pub fn new(voice: Arc<dyn Synthesizer>, store: Store) -> Self {
        Self { voice, store, seen: Arc::default(), level_dbfs: None }
    }

    /// What is kept has exactly this level: a whole phrase can be measured, however it came.
    pub fn matched_to(self, level_dbfs: f32) -> Self {
        Self { level_dbfs: Some(level_dbfs), ..self }
    }

    /// Speaks phrases to nobody, so that they are there when they are needed; those that are there already cost nothing. Ends at the
    /// first failure, and says how many are there.
    ///
    /// # Errors
    /// What kept the voice from speaking.
    pub async fn fill(&self, language: Language, phrases: &[String]) -> Result<usize, Fault> {
        let (mut there, mut warmed) = (0, false);
        for phrase in phrases {
            let (text, language) = (phrase.as_str().into(), language_of(phrase, language));
            let say = Say { text, language, ends: Ends::Sentence, answer: AnswerId::default() };
            let Some(key) = self.key(&say).filter(|key| !self.store.holds(key)) else {
                there += 1;
                continue;
            };
            // A level that was not measured would be kept, too.
            if !std::mem::replace(&mut warmed, true) {
                self.voice.warm(language).await?;
            }
            let (nobody, mut heard) = mpsc::channel::<Vec<i16>>(PIECES);
            let speaking = self.voice.say(say, nobody, CancellationToken::new());
            let listening = async {
                let mut sound = Vec::new();
                while let Some(piece) = heard.recv().await {
                    sound.extend(piece);
                }
                sound
            };
            let (spoken, sound) = tokio::join!(speaking, listening);
            spoken?;
            self.keep(key, sound).await;
            there += 1;
        }
        Ok(there)
    }

    /// What decides how a phrase sounds, in a digest.
    fn key(&self, say: &Say) -> Option<Key> {
        let identity = self.voice.identity(say.language)?;
        let text = speakable_with(&say.text, say.language, Digits::Kept)?;
        let parts = format!("{identity}\n{}\n{:?}\n{text}", say.language.code(), say.ends);
        Some(Sha256::digest(parts.as_bytes()).into())
    }

    async fn keep(&self, key: Key, mut sound: Vec<i16>) {
        let (store, level_dbfs) = (self.store.clone(), self.level_dbfs);
        let keeping = move || {
            if let Some(gain) = level_dbfs.and_then(|level| Gain::matching(&sound, level)) {
                gain.apply(&mut sound);
            }
            store.write(&key, &sound)
        };
        let written = tokio::task::spawn_blocking(keeping).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "a phrase could not be kept; is the disk full?");
        }
    }
}

/// Pieces between the voice and whoever plays or keeps them.
const PIECES: usize = 16;

impl Synthesizer for Cached {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let cached = self.clone();
        Box::pin(async move {
            let Some(key) = cached.key(&say) else { return cached.voice.say(say, out, stop).await };
            if cached.store.holds(&key) {
                let store = cached.store.clone();
                let read = tokio::task::spawn_blocking(move || store.read(&key)).await;
                if let Ok(Some(sound)) = read {
                    for piece in pieces(&sound) {
                        if stop.is_cancelled() || out.send(piece.to_vec()).await.is_err() {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
            let call = say.answer.call;
            let often = {
                let mut seen = cached.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.in_two_calls(key, call)
            };
            if !often {
                return cached.voice.say(say, out, stop).await;
            }
            let (piece_in, mut pieces) = mpsc::channel::<Vec<i16>>(PIECES);
            let speaking = cached.voice.say(say, piece_in, stop.clone());
            let player = &out;
            let passing = async move {
                let mut sound = Vec::new();
                while let Some(piece) = pieces.recv().await {
                    sound.extend_from_slice(&piece);
                    if player.send(piece).await.is_err() {
                        return None;
                    }
                }
                Some(sound)
            };
            let (spoken, sound) = tokio::join!(speaking, passing);
            spoken?;
            drop(out);
            if let Some(sound) = sound.filter(|_| !stop.is_cancelled()) {
                cached.keep(key, sound).await;
            }
            Ok(())
        })
    }

    fn parallel(&self) -> usize {
        self.voice.parallel()
    }

    fn changed_voice(&self, answer: AnswerId) -> bool {
        self.voice.changed_voice(answer)
    }

    fn identity(&self, language: Language) -> Option<String> {
        self.voice.identity(language)
    }

    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        self.voice.check(language)
    }

    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        self.voice.warm(language)
    }
}

/// Pieces of two frames; the last takes what would be less than a frame behind it.
fn pieces(sound: &[i16]) -> impl Iterator<Item = &[i16]> {
    let whole = sound.len() / PIECE;
    let short = sound.len() % PIECE < FRAME_SAMPLES && whole > 0;
    let count = if short { whole } else { sound.len().div_ceil(PIECE) };
    (0..count).map(move |n| if n + 1 == count { &sound[n * PIECE..] } else { &sound[n * PIECE..(n + 1) * PIECE] })
}

#[cfg(test)]
mod tests;
