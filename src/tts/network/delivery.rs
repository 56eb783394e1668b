//! One phrase on its way from a network to whoever plays it: the level, the pieces, and the deadlines for more.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{self, Language};
use crate::pcm;
use crate::sentence::Ends;
use crate::tts::shape::Gain;
use crate::tts::stream::Trimmer;

use super::fault::{NetworkFault, NetworkFaultKind};

/// No phrase of a telephone answer is longer.
const MAX_PHRASE: Duration = Duration::from_secs(60);
/// The gain before a voice was measured.
const UNMEASURED_DB: f32 = 0.0;

/// What the voices of all kinds have to know.
#[derive(Debug)]
pub(super) struct Manners {
    /// The name in faults.
    pub name: Arc<str>,
    pub level_dbfs: f32,
    pub pause_after_clause: Duration,
    pub pause_after_sentence: Duration,
    pub first_audio: Duration,
    pub stall: Duration,
    gains: [OnceLock<Gain>; Language::ALL.len()],
}

impl Manners {
    pub fn new(name: &str, config: &config::NetworkVoice, voice: &config::Voice) -> Self {
        Self {
            name: name.into(),
            level_dbfs: voice.level_dbfs,
            pause_after_clause: voice.pause_after_clause,
            pause_after_sentence: voice.pause_after_sentence,
            first_audio: config.first_audio,
            stall: config.stall,
            gains: Default::default(),
        }
    }

    pub fn fault(&self, kind: NetworkFaultKind, note: impl Into<String>) -> NetworkFault {
        NetworkFault { voice: self.name.clone(), kind, http: None, note: note.into() }
    }

    pub fn measured(&self, language: Language) -> bool {
        self.gains[language as usize].get().is_some()
    }

    /// What all voices' identities end with.
    pub fn identity(&self) -> String {
        let pauses = (self.pause_after_clause.as_millis(), self.pause_after_sentence.as_millis());
        format!("{} {} {pauses:?}", self.name, self.level_dbfs)
    }

    fn pause(&self, ends: Ends) -> Duration {
        match ends {
            Ends::Clause => self.pause_after_clause,
            Ends::Sentence => self.pause_after_sentence,
        }
    }
}

/// A phrase on its way.
pub(super) struct Delivery<'a> {
    manners: &'a Manners,
    language: Language,
    pause: Duration,
    /// Absent: nobody hears it, and the level is measured.
    out: Option<&'a mpsc::Sender<Vec<i16>>>,
    trimmer: Trimmer,
    /// Everything, while the level is to be measured.
    measured: Vec<i16>,
    begun: Instant,
    /// When the first sound came.
    sounded: Option<Instant>,
    last: Instant,
    samples: u64,
}

impl<'a> Delivery<'a> {
    pub fn new(manners: &'a Manners, language: Language, ends: Ends, out: Option<&'a mpsc::Sender<Vec<i16>>>) -> Self {
        let gain = manners.gains[language as usize].get().copied().unwrap_or_else(|| Gain::db(UNMEASURED_DB));
        let now = Instant::now();
        Self {
            manners,
            language,
            pause: manners.pause(ends),
            out,
            trimmer: Trimmer::new(gain),
            measured: Vec::new(),
            begun: now,
            sounded: None,
            last: now,
            samples: 0,
        }
    }

    /// By when more must have come, and what it is called when it has not. What was delivered lasts for a while.
    pub fn deadline(&self) -> (Instant, NetworkFaultKind) {
        match self.sounded {
            None => {
                let limit = self.manners.first_audio;
                (self.begun + limit, NetworkFaultKind::Late(limit))
            }
            Some(sounded) => {
                let limit = self.manners.stall;
                let heard_until = sounded + pcm::duration(self.samples);
                (self.last.max(heard_until) + limit, NetworkFaultKind::Stalled(limit))
            }
        }
    }

    /// Awaits what must come by the deadline.
    pub async fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, NetworkFault> {
        let (by, kind) = self.deadline();
        tokio::time::timeout_at(by, what).await.map_err(|_| self.manners.fault(kind, ""))
    }

    /// Passes on what came; false when nobody wants more.
    pub async fn take(&mut self, samples: Vec<i16>) -> Result<bool, NetworkFault> {
        if samples.is_empty() {
            return Ok(true);
        }
        let now = Instant::now();
        self.sounded.get_or_insert(now);
        self.last = now;
        self.samples += samples.len() as u64;
        if self.samples > pcm::samples_in(MAX_PHRASE) {
            return Err(self.manners.fault(NetworkFaultKind::TooLong, ""));
        }
        if !self.manners.measured(self.language) {
            self.measured.extend_from_slice(&samples);
        }
        let Some(out) = self.out else { return Ok(true) };
        self.trimmer.push(samples);
        while let Some(piece) = self.trimmer.piece() {
            if out.send(piece).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The end of the phrase: the rest, and the pause. The level that was heard is that of the next phrases.
    pub async fn finish(self) -> Result<(), NetworkFault> {
        let silent = || self.manners.fault(NetworkFaultKind::Silent, "");
        if !self.measured.is_empty() {
            let gain = Gain::matching(&self.measured, self.manners.level_dbfs).ok_or_else(silent)?;
            // Another phrase may have been quicker.
            let _ = self.manners.gains[self.language as usize].set(gain);
        }
        let Some(out) = self.out else {
            return if self.samples > 0 { Ok(()) } else { Err(silent()) };
        };
        if !self.trimmer.heard() {
            return Err(silent());
        }
        for piece in self.trimmer.finish(pcm::samples_in(self.pause) as usize) {
            if out.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
