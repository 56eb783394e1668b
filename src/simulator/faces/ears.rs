//! What the recognisers among the faces hear, by script: words one after the other while sound comes, and the whole when asked for.
//!
//! They understand nothing: the first utterance that is asked for is the first text, and so on. Without a text nothing was said.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Connections that are remembered.
const MOST_SEEN: usize = 1000;

/// How the recognisers behave.
#[derive(Debug, Clone)]
pub struct Ears {
    /// The texts of the utterances.
    pub texts: Vec<String>,
    /// Sound to each word that is told meanwhile; zero: none is told.
    pub word_every: Duration,
    /// From the end of an utterance to its whole text.
    pub final_after: Duration,
    /// What goes wrong.
    pub fault: EarFault,
    /// In how many connections it goes wrong, the first ones; `u32::MAX`: in all.
    pub fault_times: u32,
    /// What has happened; clones share it.
    pub happened: Arc<Happened>,
}

impl Default for Ears {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            word_every: Duration::from_millis(200),
            final_after: Duration::from_millis(100),
            fault: EarFault::None,
            fault_times: u32::MAX,
            happened: Arc::default(),
        }
    }
}

/// What goes wrong in a recogniser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarFault {
    /// Nothing.
    #[default]
    None,
    /// The connection is closed with this code as soon as it stands.
    Refuse(u16),
    /// The connection is closed with this code after so much sound, in the middle of an utterance.
    Close {
        /// The code.
        code: u16,
        /// How much sound.
        after: Duration,
    },
    /// Nothing is said to what is heard.
    Mute,
    /// Words come, and never the whole.
    NeverFinal,
    /// What comes is not of the interface.
    Garbage,
    /// After each whole text the connection is to be left.
    GoAway,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Happened {
    given: AtomicUsize,
    connections: AtomicU32,
    seen: Mutex<Vec<Seen>>,
}

/// One connection, as the face saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What opened it: the setup, the query, or the fields of the form.
    pub opening: String,
    /// Messages that were no sound, in their order.
    pub control: Vec<String>,
    /// Sound that came.
    pub sound: Duration,
    /// Sound that came where none is heard.
    pub discarded: Duration,
}

impl Ears {
    /// The connections so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// Begins a connection; gives what it is, and how it goes wrong.
    pub(super) fn connected(&self, opening: String) -> (Connection, EarFault) {
        let number = self.happened.connections.fetch_add(1, SeqCst);
        let fault = if number < self.fault_times { self.fault } else { EarFault::None };
        let mut seen = self.lock();
        let index = seen.len().min(MOST_SEEN - 1);
        seen.truncate(index);
        seen.push(Seen { opening, ..Seen::default() });
        (Connection { ears: self.clone(), index, fault, heard: Duration::ZERO, words: 0 }, fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.happened.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One connection to a recogniser.
pub(super) struct Connection {
    ears: Ears,
    index: usize,
    fault: EarFault,
    /// Sound of the utterance.
    heard: Duration,
    /// Words of it that were told.
    words: usize,
}

/// What a connection says to sound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    Nothing,
    Words(String),
    Garbage,
    Close(u16),
}

impl Connection {
    pub(super) fn control(&self, message: impl Into<String>) {
        if let Some(seen) = self.ears.lock().get_mut(self.index) {
            seen.control.push(message.into());
        }
    }

    pub(super) fn discarded(&self, sound: Duration) {
        if let Some(seen) = self.ears.lock().get_mut(self.index) {
            seen.discarded += sound;
        }
    }

    /// Hears sound.
    pub(super) fn heard(&mut self, sound: Duration) -> Say {
        if let Some(seen) = self.ears.lock().get_mut(self.index) {
            seen.sound += sound;
        }
        self.heard += sound;
        match self.fault {
            EarFault::Close { code, after } if self.heard >= after => return Say::Close(code),
            EarFault::Mute => return Say::Nothing,
            _ => {}
        }
        if self.ears.word_every.is_zero() {
            return Say::Nothing;
        }
        let text = self.text();
        let all = text.split_whitespace().count();
        let words = ((self.heard.as_millis() / self.ears.word_every.as_millis()) as usize).min(all);
        if words <= self.words {
            return Say::Nothing;
        }
        self.words = words;
        match self.fault {
            EarFault::Garbage => Say::Garbage,
            _ => Say::Words(text.split_whitespace().take(words).collect::<Vec<_>>().join(" ")),
        }
    }

    /// Whether anything was heard since the last whole text.
    pub(super) fn heard_anything(&self) -> bool {
        !self.heard.is_zero()
    }

    /// The whole text of the utterance, and after what time; `None` when there never is one.
    pub(super) fn whole(&mut self) -> Option<(String, Duration)> {
        if matches!(self.fault, EarFault::Mute | EarFault::NeverFinal | EarFault::Garbage) {
            return None;
        }
        let text = self.text();
        self.ears.happened.given.fetch_add(1, SeqCst);
        (self.heard, self.words) = (Duration::ZERO, 0);
        Some((text, self.ears.final_after))
    }

    fn text(&self) -> String {
        self.ears.texts.get(self.ears.happened.given.load(SeqCst)).cloned().unwrap_or_default()
    }
}
