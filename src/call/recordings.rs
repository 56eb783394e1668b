//! The sound of a call's turns: what is being said, and the last few utterances for the model's memory.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config;
use crate::conversation::{Exchange, Turn};
use crate::hearing::Utterance;
use crate::media::HeardFrame;
use crate::model::Content;
use crate::pcm::samples_in;
use crate::pcm::wav::WavFile;

/// What stands for an utterance whose sound is not kept any more.
const NOT_KEPT: &str = "(The caller said something here that is not kept.)";

/// Of sound that belongs to no turn so much is kept: an onset is told of when the caller has spoken for a while, and late when the call's task
/// is held up.
const KEPT: Duration = Duration::from_secs(6);

/// Heard sound, and the turns that were cut from it.
pub(super) struct Recordings {
    heard: Utterance,
    /// What is heard has more than the telephone band.
    wide: bool,
    /// Where the turn began.
    onset: Option<u64>,
    /// Where the utterance began that has not ended.
    utterance: Option<u64>,
    /// Where the last utterance began that was taken for nothing.
    passed_over: Option<u64>,
    end: u64,
    kept: VecDeque<(Turn, WavFile)>,
    keep: usize,
    /// What was said in turns that are over, where that is known.
    texts: VecDeque<(Turn, String)>,
    keep_texts: usize,
    /// What the caller has keyed in in this turn, and in those that are over.
    keyed: String,
    keyed_before: VecDeque<(Turn, String)>,
}

impl Recordings {
    pub fn new(config: &config::Config) -> Self {
        let hearing = &config.hearing;
        Self {
            heard: Utterance::new(hearing.max_utterance, hearing.pre_roll),
            wide: false,
            onset: None,
            utterance: None,
            passed_over: None,
            end: 0,
            kept: VecDeque::new(),
            keep: config.gemini.history_audio_turns,
            texts: VecDeque::new(),
            keep_texts: config.conversation.history_exchanges,
            keyed: String::new(),
            keyed_before: VecDeque::new(),
        }
    }

    /// Takes in heard sound.
    pub fn push(&mut self, frame: &HeardFrame) {
        self.heard.push(frame.first_sample, &frame.samples, frame.wide);
        if self.onset.or(self.utterance).or(self.passed_over).is_none() {
            self.heard.forget_before(self.heard.end().saturating_sub(samples_in(KEPT)));
        }
        self.wide = frame.wide;
    }

    /// Whether what is heard has more than the telephone band.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// The caller speaks from this sample on; within a turn that goes on, the first onset counts.
    pub fn began(&mut self, onset_sample: u64) {
        self.passed_over = None;
        self.utterance = Some(onset_sample);
        self.onset.get_or_insert(onset_sample);
    }

    /// The caller has spoken up to this sample, perhaps for the last time.
    pub fn ended(&mut self, end_sample: u64) {
        self.end = end_sample;
    }

    /// The utterance as far as it goes, at 8 kHz.
    pub fn utterance(&self) -> Vec<i16> {
        self.heard.take_narrow(self.utterance.unwrap_or(self.end), self.end)
    }

    /// What the caller has said since the utterance began that has not ended.
    pub fn since_began(&self) -> Vec<i16> {
        self.utterance.map(|onset| self.heard.take(onset, self.heard.end())).unwrap_or_default()
    }

    /// The caller goes on within the utterance.
    pub fn resumed(&mut self) {
        self.onset = self.onset.or(self.utterance);
    }

    /// Whether the caller is speaking, or only pauses.
    pub fn is_within_utterance(&self) -> bool {
        self.utterance.is_some()
    }

    /// The caller has keyed this in, in this turn.
    pub fn keyed(&mut self, keys: &str) {
        self.keyed = joined([&self.keyed, &format!("(The caller pressed: {keys})")]);
    }

    /// Whether the caller has keyed something in in this turn.
    pub fn is_keyed(&self) -> bool {
        !self.keyed.is_empty()
    }

    /// The utterance was nothing that belongs to a turn, as far as it goes.
    pub fn forget(&mut self) {
        if self.onset == self.utterance {
            self.onset = None;
        }
        self.passed_over = self.utterance;
    }

    /// The caller has finished. `onset_sample`: where the utterance began, if that is news.
    pub fn finished(&mut self, onset_sample: u64, end_sample: u64) {
        if self.utterance.is_none() {
            self.began(onset_sample);
        }
        self.end = end_sample;
    }

    /// What is heard next is another utterance.
    pub fn utterance_over(&mut self) {
        self.utterance = None;
    }

    /// The turn is over: an utterance that has not ended belongs to the next.
    pub fn turn_over(&mut self, turn: Turn) {
        self.onset = self.utterance;
        if !self.keyed.is_empty() {
            self.keyed_before.push_back((turn, std::mem::take(&mut self.keyed)));
        }
        while self.keyed_before.len() > self.keep_texts {
            self.keyed_before.pop_front();
        }
    }

    /// What was said in a turn that is over.
    pub fn said(&mut self, turn: Turn, text: String) {
        self.texts.push_back((turn, text));
        while self.texts.len() > self.keep_texts {
            self.texts.pop_front();
        }
    }

    /// What was heard from a sample on, and where that ends.
    pub fn since(&self, sample: u64) -> (Vec<i16>, u64) {
        (self.heard.since(sample), self.heard.end())
    }

    /// Where the turn began, as far as is known.
    pub fn turn_onset(&self) -> u64 {
        self.onset.or(self.passed_over).unwrap_or(self.end)
    }

    /// Keeps the sound of the turn for a model that is asked later.
    pub fn keep_turn(&mut self, turn: Turn) -> WavFile {
        let wav = self.heard.take_wav(self.turn_onset(), self.end, self.wide);
        self.kept.retain(|(kept, _)| *kept != turn);
        self.kept.push_back((turn, wav.clone()));
        while self.kept.len() > self.keep + 1 {
            self.kept.pop_front();
        }
        wav
    }

    /// What the model is asked with: the exchanges so far, and the words of this turn, or its sound where there are none.
    pub fn contents(&mut self, turn: Turn, history: &[Exchange], text: Option<String>) -> Vec<Content> {
        let is_keyed = self.is_keyed();
        let is_spoken = self.onset.is_some() || !is_keyed;
        let mut contents = Vec::with_capacity(history.len() * 2 + 1);
        for exchange in history {
            let said = self.texts.iter().find(|(turn, _)| *turn == exchange.turn).map(|(_, text)| text.clone());
            let kept = self.kept.iter().find(|(turn, _)| *turn == exchange.turn).map(|(_, wav)| wav.clone());
            let sound = kept.filter(|_| said.is_none());
            let keyed =
                self.keyed_before.iter().find(|(turn, _)| *turn == exchange.turn).map(|(_, keys)| keys.as_str());
            let text = said.or_else(|| (sound.is_none() && keyed.is_none()).then(|| NOT_KEPT.to_owned()));
            let text = beside(text, keyed);
            contents.push(Content::Caller { audio: sound.into_iter().collect(), text });
            if !exchange.heard.is_empty() {
                contents.push(Content::Model { text: exchange.heard.clone() });
            }
        }
        let wav = is_spoken.then(|| self.keep_turn(turn));
        let audio = if text.is_none() { wav.into_iter().collect() } else { Vec::new() };
        let text = beside(text, Some(self.keyed.as_str()).filter(|_| is_keyed));
        contents.push(Content::Caller { audio, text });
        contents
    }
}

/// What was said, and what was keyed in beside it.
fn beside(said: Option<String>, keyed: Option<&str>) -> Option<String> {
    match (said, keyed) {
        (Some(said), Some(keyed)) => Some(joined([&said, keyed])),
        (said, keyed) => said.or_else(|| keyed.map(str::to_owned)),
    }
}

fn joined(texts: [&str; 2]) -> String {
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}
