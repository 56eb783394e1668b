//! What the business knows: a folder of texts, cut into passages that can be found by a caller's words in Hebrew, English and Russian.
//!
//! Found by words, not by meaning: a question in one language finds no passage in another, and a synonym finds nothing. The whole is
//! in RAM; a text that changes is read again at the next call, beside the index in use, which stays until the new one is whole.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::{info, warn};

use crate::config;

mod folder;
mod index;
mod split;
mod stop_words;
mod words;

pub use folder::{KnowledgeError, Left};
pub use index::{Found, Index};
pub use words::Script;

/// A text that changed so recently may still be being written: what was read before is used.
const SETTLED: Duration = Duration::from_secs(1);

/// A few sentences of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Passage {
    /// The file, by its path within the folder.
    pub source: Arc<str>,
    /// The headings above it, outermost first, joined by " › "; empty without any.
    pub heading: Arc<str>,
    /// The text itself, without markup, on one line.
    pub text: Arc<str>,
}

/// The knowledge as calls use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Knowledge(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    config: config::Knowledge,
    folder: Option<PathBuf>,
    current: RwLock<Shelved>,
    reading: AtomicBool,
}

/// An index and the files that it was made of.
#[derive(Debug, Default)]
struct Shelved {
    index: Arc<Index>,
    print: Option<folder::Fingerprint>,
}

impl Knowledge {
    /// Reads the folder that the configuration names; blocks while it does. A folder that cannot be read is an empty one until it
    /// can be, and a warning.
    pub fn open(config: &config::Knowledge) -> Self {
        let shelf = Shelf {
            config: config.clone(),
            folder: config.folder.clone(),
            current: RwLock::default(),
            reading: AtomicBool::new(false),
        };
        let knowledge = Self(Arc::new(shelf));
        knowledge.refresh();
        knowledge
    }

    /// Whether there is a folder at all.
    pub fn is_configured(&self) -> bool {
        self.0.folder.is_some()
    }

    /// The index of this moment; it stays whole while it is held.
    pub fn index(&self) -> Arc<Index> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).index.clone()
    }

    /// The passages that answer a question best, best first; none when nothing fits.
    pub fn search(&self, question: &str) -> Vec<Passage> {
        let found = self.index().search(question, self.0.config.passages, self.0.config.min_score());
        found.into_iter().map(|found| found.passage).collect()
    }

    /// All there is, when that is not more than `whole_up_to_chars`; for a question that nobody wrote down.
    pub fn whole(&self) -> Vec<Passage> {
        let index = self.index();
        if index.characters() <= self.0.config.whole_up_to_chars { index.passages().to_vec() } else { Vec::new() }
    }

    /// Reads the folder again if anything in it has changed; blocks while it does. True when there is a new index.
    pub fn refresh(&self) -> bool {
        let Some(folder) = &self.0.folder else { return false };
        if self.0.reading.swap(true, Ordering::AcqRel) {
            return false;
        }
        let fresh = self.read(folder);
        self.0.reading.store(false, Ordering::Release);
        fresh
    }

    fn read(&self, folder: &std::path::Path) -> bool {
        let listed = match folder::list(folder, &self.0.config) {
            Ok(listed) => listed,
            Err(error) => {
                warn!(%error, "the knowledge folder cannot be read; what was read before stays");
                return false;
            }
        };
        let known = self.0.current.read().unwrap_or_else(PoisonError::into_inner).print;
        let settled = listed.newest.elapsed().is_ok_and(|age| age >= SETTLED);
        if known == Some(listed.print) || known.is_some() && !settled {
            return false;
        }
        let read = folder::read(&listed, &self.0.config);
        for left in &read.left {
            warn!(file = %left.file, why = left.why, "a text of the knowledge folder is left out");
        }
        let index = Index::new(read.passages);
        info!(passages = index.passages().len(), files = read.files, "knowledge read");
        let shelved = Shelved { index: Arc::new(index), print: Some(listed.print) };
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = shelved;
        true
    }
}
