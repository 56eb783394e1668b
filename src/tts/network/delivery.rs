//! One phrase on its way from a network to whoever plays it: the level, the pieces, and the deadlines for more.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{self, Language};
use crate::pcm;
use crate::sentence::Ends;
use crate::tts::levelling::Levelling;
use crate::tts::pace::Pace;
use crate::tts::stream::Trimmer;
use crate::tts::{AnswerId, Loudness};

use super::fault::{NetworkFault, NetworkFaultKind};

/// No phrase of a telephone answer is longer.
const MAX_PHRASE: Duration = Duration::from_secs(60);

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
    loudness: [Loudness; Language::ALL.len()],
    pace: Pace,
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
            loudness: Language::ALL.map(|language| {
                let names = (&config.url, &config.region, &config.model, &config.en, &config.he, &config.ru);
                Loudness::of(voice, &format!("{name} {names:?} {:?} {}", config.body, language.code()))
            }),
            pace: Pace::default(),
        }
    }

    pub fn fault(&self, kind: NetworkFaultKind, note: impl Into<String>) -> NetworkFault {
        NetworkFault { voice: self.name.clone(), kind, http: None, note: note.into() }
    }

    pub fn measured(&self, language: Language) -> bool {
        self.loudness[language as usize].was_heard()
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

/// Who plays a phrase, and of which answer it is.
pub(super) type Player<'a> = (&'a mpsc::Sender<Vec<i16>>, AnswerId);

/// A phrase on its way.
pub(super) struct Delivery<'a> {
    manners: &'a Manners,
    pause: Duration,
    /// Absent: nobody hears it, and the level is learned.
    player: Option<Player<'a>>,
    trimmer: Trimmer,
    begun: Instant,
    /// When the first sound came.
    sounded: Option<Instant>,
    last: Instant,
    samples: u64,
}

impl<'a> Delivery<'a> {
    pub fn new(manners: &'a Manners, language: Language, ends: Ends, player: Option<Player<'a>>) -> Self {
        let needed_at = player.and_then(|(_, answer)| manners.pace.lasts_until(answer));
        let levelling = Levelling::new(&manners.loudness[language as usize], manners.level_dbfs).needed_at(needed_at);
        let now = Instant::now();
        Self {
            manners,
            pause: manners.pause(ends),
            player,
            trimmer: Trimmer::new(levelling),
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

    /// Awaits what must come by the deadline. Sound that is held back until its gain is decided is passed on in time meanwhile.
    pub async fn in_time<T>(&mut self, what: impl Future<Output = T>) -> Result<T, NetworkFault> {
        let (by, kind) = self.deadline();
        let mut what = pin!(what);
        if let Some(at) = self.trimmer.decides_at().map(Instant::from_std) {
            match tokio::time::timeout_at(at.min(by), &mut what).await {
                Ok(came) => return Ok(came),
                Err(_) => {
                    self.trimmer.decide();
                    // Whether anybody wants it shows when more comes.
                    self.pass_on().await;
                }
            }
        }
        tokio::time::timeout_at(by, what).await.map_err(|_| self.manners.fault(kind, ""))
    }

    /// Sends what is ready; false when nobody wants more.
    async fn pass_on(&mut self) -> bool {
        while let Some(piece) = self.trimmer.piece() {
            if let Some((out, answer)) = self.player {
                self.manners.pace.sent(Instant::now().into_std(), answer, piece.len());
                if out.send(piece).await.is_err() {
                    return false;
                }
            }
        }
        true
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
        self.trimmer.push(now.into_std(), samples);
        Ok(self.pass_on().await)
    }

    /// The end of the phrase: the rest, and the pause.
    pub async fn finish(self) -> Result<(), NetworkFault> {
        let pause = pcm::samples_in(self.pause) as usize;
        let rest = self.trimmer.finish(Instant::now().into_std(), pause);
        let rest = rest.ok_or_else(|| self.manners.fault(NetworkFaultKind::Silent, ""))?;
        let Some((out, answer)) = self.player else { return Ok(()) };
        for piece in rest {
            self.manners.pace.sent(Instant::now().into_std(), answer, piece.len());
            if out.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
