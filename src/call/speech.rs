//! A model that hears and speaks by itself, in one call: when it is told that the caller begins and ends, and what of what it says is wanted.
//!
//! Sans-IO. What the model is told of the caller's beginning ends what it says, on its side for good; so while something of ours is heard, the
//! caller's sound waits until the conversation has found that it is meant, and is then told in one go from its onset. A cough is never told.
//! The end is told when an answer is asked for. A caller who goes on after it begins anew: the model remembers the first half.
//!
//! What the model tells comes late by nature: up to its own word that it listens to the new beginning, everything belongs to what was before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::speaker::PIECES;
use super::{Parts, Work, prompt};
use crate::config::Config;
use crate::conversation::{Generation, Outcome};
use crate::gemini::live::{self, Opening, SpeechDialogue, Talking, Told};
use crate::media::HeardFrame;
use crate::model::{Fault, FunctionCall, FunctionResult, Usage};
use crate::pcm::{FRAME_SAMPLES, level, samples_in};
use crate::tools::Guard;
use crate::tts::{Levelled, Loudness};

/// How often an answer may want something done before it is given.
const MOST_ROUNDS: u32 = 4;
/// Words of the caller's that are kept of a turn.
const MOST_HEARD_BYTES: usize = 16 * 1024;
/// Silence before an answer's first word that is left out at most.
const MOST_TRIMMED: Duration = Duration::from_secs(1);

/// What follows from what the model told. Not `Debug`: it holds what people said.
#[derive(PartialEq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Sound of the answer.
    Sound { generation: Generation, samples: Vec<i16> },
    /// What it says.
    Said { generation: Generation, text: String },
    /// It says what nobody is to hear.
    Reveals { generation: Generation },
    /// Functions are to be called.
    Calls { generation: Generation, calls: Vec<FunctionCall> },
    /// The answer is over.
    Ended { generation: Generation, outcome: Outcome },
    /// The model is left: somebody else is to answer.
    Lost { generation: Option<Generation> },
    /// So much was used.
    Used(Usage),
}

/// The answer that is waited for, or made.
struct Asked {
    generation: Generation,
    /// Since when the next sound of it is waited for; while none is, nothing.
    silent_since: Option<Instant>,
    /// Something of it was said.
    sounded: bool,
    /// It wants something done with the call, and may do without words.
    controls: bool,
    /// All of it has come, but perhaps words.
    complete: bool,
    rounds: u32,
    running: bool,
    guard: Option<Guard>,
}

/// Sound on its way to the playout: one phrase.
struct Mouth {
    pieces: mpsc::Sender<Vec<i16>>,
    /// Until somebody plays it.
    sound: Option<mpsc::Receiver<Vec<i16>>>,
    /// Silence that was left out before it; `None`: it has begun.
    trimmed: Option<u64>,
    levelled: Levelled,
}

impl Drop for Mouth {
    /// Whatever ends the phrase, it ends without a step.
    fn drop(&mut self) {
        let rest = self.levelled.finish(Instant::now());
        if !rest.is_empty() {
            // Nobody may want it any more.
            let _ = self.pieces.try_send(rest);
        }
    }
}

/// A conversation with the model that has not begun: what is known of the caller may still come, and cannot be told later.
struct Unopened {
    model: Arc<dyn SpeechDialogue>,
    opening: Opening,
    out: mpsc::Sender<Told>,
    /// When it begins, whatever is known by then.
    at: Instant,
}

/// One call's model that speaks, if it has one.
pub(super) struct Speech {
    unopened: Option<Unopened>,
    talking: Option<Box<dyn Talking>>,
    patience: Duration,
    pre_roll: u64,
    /// The model was given everything before this sample that it is to have.
    given: u64,
    /// The caller's sound waits from this sample on.
    waiting: Option<u64>,
    /// Where the sound began that was taken for nothing last.
    passed_over: Option<u64>,
    /// The model was told that the caller speaks, and not that this is over.
    active: bool,
    /// Beginnings that the model has not taken notice of.
    unnoticed: u32,
    asked: Option<Asked>,
    mouth: Option<Mouth>,
    /// Of the model's voice, and what it is brought to.
    loudness: Loudness,
    level_dbfs: f32,
    /// What the caller was heard to say in this turn.
    heard: String,
    guard: Option<Guard>,
}

impl Speech {
    pub fn new(config: &Config, talking: Option<Box<dyn Talking>>, guard: Option<Guard>) -> Self {
        Self {
            unopened: None,
            talking,
            patience: config.live.first_sound,
            pre_roll: samples_in(config.hearing.pre_roll),
            given: 0,
            waiting: None,
            passed_over: None,
            active: false,
            unnoticed: 0,
            asked: None,
            mouth: None,
            loudness: Loudness::default(),
            level_dbfs: config.voice.level_dbfs,
            heard: String::new(),
            guard,
        }
    }

    /// A conversation with the model that all calls share; what it tells is reported as work. Where the caller is looked up, it begins when
    /// that has had its time, or the caller speaks.
    pub fn open(now: Instant, parts: &Parts, work: &mpsc::Sender<Work>) -> Self {
        let Some(model) = parts.speech.clone() else { return Self::new(&parts.config, None, None) };
        let system = prompt::spoken_instruction(&parts.config);
        let guard = Guard::new(prompt::confidential(&system), parts.config.limits.guarded_words);
        let (out, mut told) = mpsc::channel(live::WAITING);
        let work = work.clone();
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                // The call may be over.
                if work.send(Work::Told(told)).await.is_err() {
                    return;
                }
            }
        });
        let config = &parts.config.live;
        let opening = Opening {
            model: config.model.clone(),
            voice: config.voice.clone(),
            system: system.into(),
            functions: parts.tools.functions(),
        };
        let wait = if parts.sources.has_crm() { parts.config.crm.join } else { Duration::ZERO };
        let mut speech = Self::new(&parts.config, None, guard);
        speech.loudness = parts.speech_loudness.clone();
        speech.unopened = Some(Unopened { model, opening, out, at: now + wait });
        speech
    }

    /// When the conversation is to begin, if it has not.
    pub fn begins_at(&self) -> Option<Instant> {
        self.unopened.as_ref().map(|unopened| unopened.at)
    }

    /// Begins the conversation with what is known by now.
    pub fn begin(&mut self, facts: Option<String>) {
        let Some(Unopened { model, mut opening, out, .. }) = self.unopened.take() else { return };
        if let Some(facts) = facts {
            opening.system = format!("{}\n{facts}", opening.system).into();
        }
        self.talking = Some(model.open(opening, out));
    }

    /// Whether the model answers in this call.
    pub fn is_there(&self) -> bool {
        self.talking.is_some() || self.unopened.is_some()
    }

    /// Takes the next sound of the caller, speech or not.
    pub fn hear(&mut self, frame: &HeardFrame) {
        if self.active
            && let Some(talking) = &mut self.talking
        {
            talking.audio(&frame.samples);
            self.given = frame.first_sample + FRAME_SAMPLES as u64;
        }
    }

    /// The caller speaks, from this sample on.
    pub fn began(&mut self, onset_sample: u64) {
        self.passed_over = None;
        if !self.active {
            self.waiting = Some(self.given.max(onset_sample.saturating_sub(self.pre_roll)));
        }
    }

    /// The caller goes on within the utterance.
    pub fn resumed(&mut self) {
        if !self.active && self.waiting.is_none() {
            self.waiting = Some(self.passed_over.take().unwrap_or(self.given));
        }
    }

    /// The utterance was nothing that belongs to the turn.
    pub fn forget(&mut self) {
        self.passed_over = self.waiting.take().or(self.passed_over);
    }

    /// What is heard next is another utterance.
    pub fn utterance_over(&mut self) {
        self.waiting = None;
    }

    /// From which sample on the model is to be told what the caller says, now that the caller has the floor.
    pub fn is_due(&self) -> Option<u64> {
        self.waiting.filter(|_| self.is_there())
    }

    /// Tells the model that the caller speaks, with the sound so far.
    pub fn start(&mut self, sound: &[i16], end_sample: u64) {
        let Some(talking) = &mut self.talking else { return };
        talking.started();
        for frame in sound.chunks(FRAME_SAMPLES) {
            talking.audio(frame);
        }
        (self.waiting, self.passed_over) = (None, None);
        (self.active, self.given) = (true, self.given.max(end_sample));
        self.unnoticed += 1;
    }

    /// From which sample on the model has to be told before it can be asked; `None`: it knows. `onset`: of the turn.
    pub fn owes(&self, onset: u64) -> Option<u64> {
        let begin = || onset.saturating_sub(self.pre_roll);
        (!self.active).then(|| self.waiting.or(self.passed_over).unwrap_or_else(begin))
    }

    /// The caller has finished: the model is to answer.
    pub fn ask(&mut self, now: Instant, generation: Generation) {
        let Some(talking) = &mut self.talking else { return };
        self.active = false;
        talking.ended();
        self.mouth = None;
        self.asked = Some(Asked {
            generation,
            silent_since: Some(now),
            sounded: false,
            controls: false,
            complete: false,
            rounds: 0,
            running: false,
            guard: self.guard.clone(),
        });
    }

    /// Nothing more is wanted of an answer.
    pub fn stop(&mut self, generation: Generation) {
        if self.asked.take_if(|asked| asked.generation == generation).is_some() {
            self.mouth = None;
        }
    }

    /// The turn is over; what was said in it, if that is known.
    pub fn turn_over(&mut self) -> Option<String> {
        (self.asked, self.mouth) = (None, None);
        Some(std::mem::take(&mut self.heard)).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The call is over, or the model is.
    pub fn leave(&mut self) -> Option<Generation> {
        self.unopened = None;
        if let Some(talking) = self.talking.take() {
            debug!(dropped = talking.dropped(), "the model that speaks is left");
        }
        (self.active, self.waiting, self.mouth) = (false, None, None);
        self.asked.take().map(|asked| asked.generation)
    }

    /// Takes what the model tells.
    pub fn told(&mut self, told: Told) -> Step {
        let told = match told {
            Told::Ready | Told::Withdrawn(_) | Told::Interrupted => return Step::Nothing,
            Told::Listening => {
                self.unnoticed = self.unnoticed.saturating_sub(1);
                self.hears(" ");
                return Step::Nothing;
            }
            Told::Heard(text) => {
                debug!(bytes = text.len(), "heard");
                self.hears(&text);
                return Step::Nothing;
            }
            Told::Used(usage) => return Step::Used(usage),
            Told::Lost(fault) => return self.lost(&fault),
            told => told,
        };
        let is_wanted = !self.active && self.unnoticed == 0 && self.is_there();
        let Some(asked) = self.asked.as_mut().filter(|_| is_wanted) else { return Step::Nothing };
        let generation = asked.generation;
        match told {
            Told::Said(text) => {
                if asked.guard.as_mut().is_some_and(|guard| guard.reveals(&text)) {
                    self.stop(generation);
                    return Step::Reveals { generation };
                }
                Step::Said { generation, text }
            }
            Told::TurnOver if asked.complete => {
                self.asked = None;
                Step::Nothing
            }
            _ if asked.complete || asked.running => Step::Nothing,
            Told::Sound(samples) => {
                (asked.silent_since, asked.sounded) = (None, true);
                Step::Sound { generation, samples }
            }
            Told::Calls(calls) => {
                asked.rounds += 1;
                (asked.silent_since, asked.running) = (None, true);
                self.mouth = None;
                match asked.rounds > MOST_ROUNDS {
                    true => self.over(generation, Outcome::Failed),
                    false => Step::Calls { generation, calls },
                }
            }
            Told::Complete | Told::TurnOver if asked.sounded || asked.controls => {
                (asked.complete, asked.silent_since) = (true, None);
                self.mouth = None;
                Step::Ended { generation, outcome: Outcome::Complete }
            }
            // It may have words still.
            Told::Complete => Step::Nothing,
            Told::CutOff if asked.sounded => self.over(generation, Outcome::Truncated),
            Told::TurnOver | Told::CutOff => {
                warn!("the model that speaks has said nothing: the answer is written");
                Step::Lost { generation: self.leave() }
            }
            _ => Step::Nothing,
        }
    }

    fn over(&mut self, generation: Generation, outcome: Outcome) -> Step {
        (self.asked, self.mouth) = (None, None);
        Step::Ended { generation, outcome }
    }

    fn lost(&mut self, fault: &Fault) -> Step {
        if self.talking.is_some() {
            warn!(%fault, "the model that speaks is lost: answers are written");
        }
        Step::Lost { generation: self.leave() }
    }

    fn hears(&mut self, text: &str) {
        if self.heard.len() + text.len() <= MOST_HEARD_BYTES {
            self.heard.push_str(text);
        }
    }

    /// The model's wishes concern the call itself.
    pub fn controls(&mut self, generation: Generation) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.generation == generation) {
            asked.controls = true;
        }
    }

    /// Tells the model what came of the functions that it called. False when it is not wanted any more.
    pub fn results(&mut self, now: Instant, generation: Generation, results: Vec<FunctionResult>) -> bool {
        let asked = self.asked.as_mut().filter(|asked| asked.generation == generation);
        let (Some(asked), Some(talking)) = (asked, &mut self.talking) else { return false };
        (asked.running, asked.silent_since) = (false, Some(now));
        talking.results(results);
        true
    }

    /// Sound of the answer begins a phrase, unless it goes on with one. True when it does.
    pub fn open_mouth(&mut self) -> bool {
        if self.mouth.is_some() {
            return false;
        }
        let (pieces, sound) = mpsc::channel(PIECES);
        let levelled = Levelled::new(&self.loudness, self.level_dbfs);
        self.mouth = Some(Mouth { pieces, sound: Some(sound), trimmed: Some(0), levelled });
        true
    }

    /// The sound of the phrase that has begun, for whoever plays it.
    pub fn take_sound(&mut self) -> Option<mpsc::Receiver<Vec<i16>>> {
        self.mouth.as_mut()?.sound.take()
    }

    /// Passes sound on at the level of all that is said, without the silence before the first word; `None` when there is no room for it, or nobody plays it.
    pub fn speak(&mut self, mut samples: Vec<i16>) -> Option<Vec<i16>> {
        let mouth = self.mouth.as_mut().filter(|mouth| mouth.sound.is_none())?;
        if let Some(trimmed) = &mut mouth.trimmed {
            let most = samples_in(MOST_TRIMMED).saturating_sub(*trimmed);
            let is_voiced = |frame: &[i16]| level::rms_dbfs(frame) > level::VOICED_DBFS;
            let silent: usize =
                samples.chunks(FRAME_SAMPLES).take_while(|frame| !is_voiced(frame)).map(<[i16]>::len).sum();
            let silent = most.min(silent as u64);
            *trimmed += silent;
            let begins = (silent as usize) < samples.len();
            // A word begins softly.
            samples.drain(..(silent as usize).saturating_sub(if begins { FRAME_SAMPLES } else { 0 }));
            if begins {
                mouth.trimmed = None;
            }
        }
        let samples = mouth.levelled.push(Instant::now(), samples);
        if !samples.is_empty() && mouth.pieces.try_send(samples.clone()).is_err() {
            return None;
        }
        Some(samples)
    }

    /// When the conversation begins, or the answer is not waited for any longer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.begins_at().into_iter().chain(self.gives_up_at()).min()
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.asked.as_ref()?.silent_since?.checked_add(self.patience)
    }

    /// Gives the model up when it has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Step {
        if self.gives_up_at().is_none_or(|at| at > now) {
            return Step::Nothing;
        }
        match &mut self.asked {
            Some(asked) if asked.controls => {
                let generation = asked.generation;
                self.over(generation, Outcome::Complete)
            }
            _ => {
                warn!(waited = ?self.patience, "the model that speaks is silent: answers are written");
                Step::Lost { generation: self.leave() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
