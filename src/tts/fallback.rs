//! Two voices: the better one, and the one that speaks the rest of an answer in which the better one failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, Speaker};
use super::network::NetworkFaultKind;
use super::{AnswerId, Fault, Fut, Say, Synthesizer};
use crate::config::Language;

/// Pieces between the first voice and whoever plays them.
const PIECES: usize = 8;

/// A voice that is spared while another one works. Cheap to clone.
///
/// A phrase that fails before its first sound is spoken by the second voice; one that breaks off later ends there. Either way the
/// rest of the answer is the second voice's, and so are the answers of the next while.
#[derive(Clone)]
pub struct Fallback {
    first: Arc<dyn Synthesizer>,
    second: Arc<dyn Synthesizer>,
    breaker: Arc<Mutex<Breaker>>,
}

impl Fallback {
    /// `rest`: for how long `first` is left alone after a failure.
    pub fn new(first: Arc<dyn Synthesizer>, second: Arc<dyn Synthesizer>, rest: Duration) -> Self {
        Self { first, second, breaker: Arc::new(Mutex::new(Breaker::new(rest))) }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks by the first voice. `Err`: it failed, and whether anything had been passed on.
    async fn by_first(
        &self,
        say: Say,
        out: &mpsc::Sender<Vec<i16>>,
        stop: CancellationToken,
    ) -> Result<(), (Fault, bool)> {
        let (piece_in, mut pieces) = mpsc::channel(PIECES);
        let speaking = self.first.say(say, piece_in, stop);
        // Whoever passes owns the channel: when nobody plays any more, the voice learns of it.
        let passing = async move {
            let mut passed = false;
            while let Some(piece) = pieces.recv().await {
                passed = true;
                if out.send(piece).await.is_err() {
                    break;
                }
            }
            passed
        };
        let (spoken, passed) = tokio::join!(speaking, passing);
        spoken.map_err(|fault| (fault, passed))
    }

    /// A voice that fails before anybody needs it costs no caller its time.
    fn note_trial(&self, tried: &Result<(), Fault>) {
        if let Err(fault) = tried
            && !is_of_the_language(fault)
        {
            self.breaker().probed(Instant::now(), Some((rest_of(fault), is_permanent(fault))));
        }
    }

    /// Tries the first voice by a sentence that nobody hears.
    async fn probe(self, language: Language) {
        let tried = self.first.check(language).await;
        if tried.is_ok() {
            tracing::info!("the voice speaks again");
        }
        self.breaker().probed(Instant::now(), tried.err().as_ref().map(|fault| (rest_of(fault), is_permanent(fault))));
    }
}

impl Synthesizer for Fallback {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let voices = self.clone();
        Box::pin(async move {
            let speaker = voices.breaker().choose(Instant::now(), say.answer);
            if let Speaker::Second { probe } = speaker {
                if probe {
                    tokio::spawn(voices.clone().probe(say.language));
                }
                return voices.second.say(say, out, stop).await;
            }
            let Err((fault, passed)) = voices.by_first(say.clone(), &out, stop.clone()).await else { return Ok(()) };
            if stop.is_cancelled() {
                return Ok(());
            }
            if !is_of_the_language(&fault) {
                let news = voices.breaker().failed(Instant::now(), say.answer, rest_of(&fault), is_permanent(&fault));
                match (news, is_permanent(&fault)) {
                    (true, true) => {
                        tracing::error!(%fault, "the other voice speaks until the service is started anew");
                    }
                    (true, false) => tracing::warn!(%fault, "the other voice speaks for a while"),
                    (false, _) => tracing::debug!(%fault, "the voice failed once more"),
                }
            }
            if passed {
                return Err(fault);
            }
            voices.second.say(say, out, stop).await
        })
    }

    fn parallel(&self) -> usize {
        self.first.parallel()
    }

    fn changed_voice(&self, answer: AnswerId) -> bool {
        self.breaker().changed(answer)
    }

    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            let (first, second) = tokio::join!(self.first.check(language), self.second.check(language));
            self.note_trial(&first);
            either(first, second)
        })
    }

    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            // A call that rings is the occasion to try a voice that has rested.
            let (probe, rests) = {
                let mut breaker = self.breaker();
                (breaker.begin_probe(Instant::now()), breaker.rests())
            };
            let first = async {
                if probe {
                    self.clone().probe(language).await;
                }
                if rests {
                    return Ok(());
                }
                let warmed = self.first.warm(language).await;
                self.note_trial(&warmed);
                warmed
            };
            let (first, second) = tokio::join!(first, self.second.warm(language));
            either(first, second)
        })
    }
}

/// One voice is enough; which one is missing is logged.
fn either(first: Result<(), Fault>, second: Result<(), Fault>) -> Result<(), Fault> {
    match (first, second) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(fault), Ok(())) => {
            tracing::warn!(%fault, "only the voice of [voice] speaks");
            Ok(())
        }
        (Ok(()), Err(fault)) => {
            tracing::warn!(%fault, "there is no voice for when the one of [network_voice] fails");
            Ok(())
        }
        (Err(fault), Err(_)) => Err(fault),
    }
}

/// That there is no voice for a language says nothing about the voice's health.
fn is_of_the_language(fault: &Fault) -> bool {
    matches!(fault, Fault::Network(fault) if fault.kind == NetworkFaultKind::NoVoice)
}

fn is_permanent(fault: &Fault) -> bool {
    matches!(fault, Fault::Network(fault) if fault.permanent())
}

fn rest_of(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Network(fault) => match fault.kind {
            NetworkFaultKind::RateLimited { retry_after } => retry_after,
            _ => None,
        },
        _ => None,
    }
}
