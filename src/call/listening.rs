//! The caller's words as text: what the recogniser is given, what it made of the turn, and with which words the model is asked.
//!
//! Sans-IO. A request that is to be made before the whole text is there waits for it, to a limit after the caller's last sound; one that is
//! made early, on the chance that the caller has finished, takes the words so far, and is made again when the whole turns out otherwise.
//! Without words in time, and without a recogniser, the model is given the sound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Parts, Work};
use crate::config::{Config, Language};
use crate::conversation::{Exchange, Generation, Turn};
use crate::hearing::{Hint, hint};
use crate::media::HeardFrame;
use crate::pcm::{FRAME_SAMPLES, PTIME, samples_in};
use crate::recogniser::{self, Listening, Recognised, Recognition};

/// Frames that are kept for the beginning of the next utterance, or for one that goes on: 2 s.
const RECENT: usize = 100;
/// Utterances of a turn; of a turn with more, the first ones are forgotten.
const UTTERANCES: usize = 64;

/// A request to the model. Not `Debug`: it holds what people said.
#[derive(Clone, PartialEq)]
pub(super) struct Wanted {
    pub generation: Generation,
    pub turn: Turn,
    pub speech_end: Instant,
    /// On the chance that the caller has finished.
    pub speculative: bool,
    pub history: Arc<[Exchange]>,
}

/// Something to do. Not `Debug`: it holds what people said.
#[derive(PartialEq)]
pub(super) enum Step {
    /// The ear is to know this of the utterance.
    Hint(Hint),
    /// Make the request: with these words, or with the sound.
    Ask { wanted: Wanted, text: Option<String> },
    /// The words with which this answer was asked for are not what was said.
    Otherwise { generation: Generation },
}

/// An utterance of the turn.
struct Utterance {
    number: u32,
    text: String,
    /// The text is all of it.
    whole: bool,
    /// It has ended for good.
    over: bool,
    /// It was taken for nothing.
    passed_over: bool,
}

/// One call's recogniser, if it has one.
pub(super) struct Ear {
    engine: Option<Box<dyn Listening>>,
    language: Language,
    patience: Duration,
    /// The whole text is wanted at the first sign of an end.
    early: bool,
    pre_roll: u64,
    recent: VecDeque<HeardFrame>,
    /// The engine was given everything before this sample.
    given: u64,
    /// Frames that it was given since somebody asked.
    frames: u32,
    /// An utterance is under way.
    speaking: bool,
    utterances: Vec<Utterance>,
    /// The engine is not there.
    lost: bool,
    waiting: Option<Wanted>,
    /// A request that was made with words that may change.
    made: Option<(Generation, String)>,
    steps: VecDeque<Step>,
}

impl Ear {
    /// An ear with this engine.
    pub fn new(config: &Config, engine: Option<Box<dyn Listening>>) -> Self {
        Self {
            engine,
            language: config.conversation.language,
            patience: config.recogniser.final_,
            early: config.conversation.speculation,
            pre_roll: samples_in(config.hearing.pre_roll),
            recent: VecDeque::new(),
            given: 0,
            frames: 0,
            speaking: false,
            utterances: Vec::new(),
            lost: false,
            waiting: None,
            made: None,
            steps: VecDeque::new(),
        }
    }

    /// The engine that all calls share begins to listen to this one; what it recognises is reported as work.
    pub fn open(parts: &Parts, work: &mpsc::Sender<Work>) -> Self {
        let engine = parts.recogniser.as_ref().map(|engine| {
            let (out, mut told) = mpsc::channel(recogniser::WAITING);
            let work = work.clone();
            tokio::spawn(async move {
                while let Some(recognition) = told.recv().await {
                    // The call may be over.
                    if work.send(Work::Recognised(recognition)).await.is_err() {
                        return;
                    }
                }
            });
            engine.open(out)
        });
        Self::new(&parts.config, engine)
    }

    /// Takes the next sound of the caller, speech or not.
    pub fn hear(&mut self, frame: HeardFrame) {
        let Some(engine) = &mut self.engine else { return };
        if self.speaking {
            engine.audio(&frame.samples);
            self.frames = self.frames.saturating_add(1);
            self.given = frame.first_sample + FRAME_SAMPLES as u64;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(frame);
    }

    /// How much sound the engine was given since the last time.
    pub fn take_given(&mut self) -> Duration {
        PTIME * std::mem::take(&mut self.frames)
    }

    /// The caller speaks, from this sample on.
    pub fn began(&mut self, onset_sample: u64) {
        let Some(engine) = &mut self.engine else { return };
        let number = engine.started();
        if self.utterances.len() == UTTERANCES {
            self.utterances.remove(0);
        }
        self.utterances.push(Utterance { number, text: String::new(), whole: false, over: false, passed_over: false });
        self.given = self.given.max(onset_sample.saturating_sub(self.pre_roll));
        self.catch_up();
    }

    /// The caller goes on within the utterance.
    pub fn resumed(&mut self) {
        if let Some(utterance) = self.utterances.last_mut() {
            (utterance.whole, utterance.passed_over) = (false, false);
            self.catch_up();
        }
    }

    /// Gives the engine what it has not been given yet.
    fn catch_up(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        for frame in self.recent.iter().filter(|frame| frame.first_sample + FRAME_SAMPLES as u64 > self.given) {
            engine.audio(&frame.samples);
            self.frames = self.frames.saturating_add(1);
        }
        if let Some(last) = self.recent.back() {
            self.given = self.given.max(last.first_sample + FRAME_SAMPLES as u64);
        }
        self.speaking = true;
    }

    /// The caller pauses, and may have finished. Each end that an engine is told costs it context, or a request: where nothing is asked
    /// early, the pause is none.
    pub fn paused(&mut self) {
        match self.early {
            true => self.ended(),
            false => self.hint(),
        }
    }

    /// The caller has probably finished.
    pub fn ended(&mut self) {
        let Some(engine) = self.engine.as_mut().filter(|_| self.speaking) else { return };
        self.speaking = false;
        engine.ended();
        self.hint();
    }

    /// What was hinted long before the silence is forgotten by now.
    fn hint(&mut self) {
        if let Some(text) = self.text() {
            self.steps.push_back(Step::Hint(hint::of_text(self.language, &text)));
        }
    }

    /// The caller has finished. `onset_sample`: where the utterance began, if that is news.
    pub fn finished(&mut self, onset_sample: u64) {
        if self.utterances.last().is_none_or(|utterance| utterance.over) {
            self.began(onset_sample);
        }
        self.ended();
    }

    /// What is heard next is another utterance.
    pub fn utterance_over(&mut self) {
        if let Some(utterance) = self.utterances.last_mut() {
            utterance.over = true;
        }
    }

    /// The utterance was nothing that belongs to the turn.
    pub fn forget(&mut self) {
        if let Some(utterance) = self.utterances.last_mut() {
            utterance.passed_over = true;
        }
    }

    /// The turn is over; what was said in it, if that is known. An utterance that has not ended belongs to the next.
    pub fn turn_over(&mut self) -> Option<String> {
        let (text, _) = self.turn_text();
        self.utterances.retain(|utterance| !utterance.over);
        (self.waiting, self.made) = (None, None);
        Some(text).filter(|text| !text.is_empty())
    }

    /// The words of the utterance so far.
    pub fn text(&self) -> Option<String> {
        self.utterances.last().map(|utterance| utterance.text.clone()).filter(|text| !text.is_empty())
    }

    /// The words of the turn, and whether they are all.
    fn turn_text(&self) -> (String, bool) {
        let counts = |utterance: &&Utterance| !utterance.passed_over;
        let mut counted: Vec<&Utterance> = self.utterances.iter().filter(counts).collect();
        if counted.is_empty() {
            // A sound that was passed over may have been the answer after all.
            counted.extend(self.utterances.last());
        }
        let texts: Vec<&str> =
            counted.iter().map(|utterance| utterance.text.as_str()).filter(|text| !text.is_empty()).collect();
        (texts.join(" "), !counted.is_empty() && counted.iter().all(|utterance| utterance.whole))
    }

    /// A request is to be made.
    pub fn ask(&mut self, now: Instant, wanted: Wanted) {
        (self.waiting, self.made) = (None, None);
        let (text, whole) = self.turn_text();
        match self.engine {
            // Nothing was said: there are keys.
            Some(_) if self.utterances.is_empty() => self.make(wanted, text, true),
            Some(_) if whole => self.make(wanted, text, true),
            Some(_) if !self.lost && wanted.speculative && !text.is_empty() => self.make(wanted, text, false),
            Some(_) if !self.lost && now < wanted.speech_end + self.patience => self.waiting = Some(wanted),
            _ => self.make(wanted, String::new(), true),
        }
    }

    /// Makes a request. `stands`: whatever is recognised later.
    fn make(&mut self, wanted: Wanted, text: String, stands: bool) {
        if !stands {
            self.made = Some((wanted.generation, normalised(&text)));
        }
        let text = Some(text).filter(|text| !text.is_empty());
        self.steps.push_back(Step::Ask { wanted, text });
    }

    /// The answer is not wanted any more.
    pub fn cancel(&mut self, generation: Generation) {
        self.waiting.take_if(|wanted| wanted.generation == generation);
        self.made.take_if(|(made, _)| *made == generation);
    }

    /// Takes what the engine tells.
    pub fn recognised(&mut self, recognition: Recognition) {
        let Recognition { utterance: number, what } = recognition;
        let current = self.utterances.last().is_some_and(|utterance| utterance.number == number);
        let (text, whole) = match what {
            Recognised::Lost(fault) => {
                if !std::mem::replace(&mut self.lost, true) {
                    warn!(%fault, "the recogniser is lost: the model is given the sound");
                }
                if let Some(wanted) = self.waiting.take() {
                    self.make(wanted, String::new(), true);
                }
                return;
            }
            Recognised::Interim(text) => (text, false),
            Recognised::Final { text, .. } => (text, true),
        };
        self.lost = false;
        debug!(utterance = number, bytes = text.len(), whole, "recognised");
        let Some(utterance) = self.utterances.iter_mut().find(|utterance| utterance.number == number) else { return };
        // A whole text of what was said before the caller went on is not the whole.
        utterance.whole = whole && !(current && self.speaking);
        if current && !utterance.over {
            // The full stop of an end that we have asked for says nothing.
            let judged = if whole { text.trim_end().trim_end_matches('.') } else { &text };
            self.steps.push_back(Step::Hint(hint::of_text(self.language, judged)));
        }
        utterance.text = text;
        let (text, whole) = self.turn_text();
        if !whole {
            return;
        }
        if let Some(wanted) = self.waiting.take() {
            self.make(wanted, text, true);
        } else if let Some((generation, _)) = self.made.take_if(|(_, made)| *made != normalised(&text)) {
            self.steps.push_back(Step::Otherwise { generation });
        } else {
            self.made = None;
        }
    }

    /// The next thing to do; drain after everything that takes something in.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When the text is not waited for any longer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|wanted| wanted.speech_end + self.patience)
    }

    /// Makes a request that has waited long enough: with the words so far, or with the sound.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now)
            && let Some(wanted) = self.waiting.take()
        {
            let (text, _) = self.turn_text();
            debug!(words = !text.is_empty(), "the whole text is not there in time");
            let stands = text.is_empty();
            self.make(wanted, text, stands);
        }
    }
}

/// Two texts that differ only in case, punctuation, points and blanks are the same.
fn normalised(text: &str) -> String {
    let letters = |char: &char| char.is_alphanumeric() && !matches!(char, '\u{591}'..='\u{5c7}');
    let words = text.split(|char: char| char.is_whitespace() || "-–—־".contains(char));
    let words = words.map(|word| word.chars().filter(letters).flat_map(char::to_lowercase).collect::<String>());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
