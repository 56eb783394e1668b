//! The Live API's face as a speech-to-speech dialogue: scripted answers of tones, interruption, functions, resumption.
//!
//! Sound outside of an activity is discarded, as the real one does when its own detection is off. An activity within an activity, and an
//! end without a beginning, close the connection: what the real one does then is not known, and nobody should rely on it.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use tokio::time::Instant;

use super::FaceOptions;
use super::ears::{Connection, EarFault, Say};
use super::live::{Closing, Speaker, invalid, only, sound};

/// Samples of a second of the answer.
const RATE: usize = 24_000;
/// Sound of a word.
const WORD: Duration = Duration::from_millis(200);

/// What it says.
#[derive(Debug, Clone, Default)]
pub struct Mouth {
    /// The answers of the conversation.
    pub answers: Vec<String>,
    /// Before this answer, from 0, a function is called: its name.
    pub calls: Option<(usize, String)>,
    /// Between two words.
    pub word_every: Duration,
    /// The pitch of all words, in Hz; 0: each is higher than the one before.
    pub pitch_hz: f64,
    /// In place of the answer to this end of an activity, from 0, and to all after it, the connection is closed with this code, so often.
    pub close_before: Option<(usize, u16, u32)>,
    /// The connection is closed with this code after so many words of an answer, once.
    pub close_after_words: Option<(u16, usize)>,
    /// What has happened; clones share it.
    pub spoken: Arc<Spoken>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Spoken {
    answered: AtomicUsize,
    closed: AtomicU32,
    thoughts: AtomicUsize,
    closed_before: AtomicU32,
    handles: Mutex<Vec<String>>,
    results: Mutex<Vec<Value>>,
}

impl Mouth {
    /// What came of functions so far.
    pub fn results(&self) -> Vec<Value> {
        self.spoken.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Checks the setup; gives the handle in it.
pub(super) fn check(setup: &Value, mouth: &Mouth) -> Result<(), Closing> {
    let known = [
        "model",
        "generationConfig",
        "systemInstruction",
        "tools",
        "inputAudioTranscription",
        "outputAudioTranscription",
        "realtimeInputConfig",
        "sessionResumption",
        "contextWindowCompression",
    ];
    only(setup, &known)?;
    if setup["generationConfig"]["responseModalities"] != json!(["AUDIO"]) {
        return Err((1007, "Request contains an invalid argument.".into()));
    }
    let Some(handle) = setup["sessionResumption"]["handle"].as_str() else { return Ok(()) };
    let handles = mouth.spoken.handles.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match handles.iter().any(|known| known == handle) {
        true => Ok(()),
        false => Err((1008, "BidiGenerateContent session not found".into())),
    }
}

fn content(value: Value) -> Value {
    json!({"serverContent": value})
}

/// An answer, message by message: each word is a tone of its own and its text.
fn answer(text: &str, pitch_hz: f64) -> VecDeque<Value> {
    let mut messages = VecDeque::new();
    for (number, word) in text.split_whitespace().enumerate() {
        let hz = if pitch_hz > 0.0 { pitch_hz } else { 400.0 + 100.0 * number as f64 };
        let samples = (0..WORD.as_millis() as usize * RATE / 1000)
            .map(|n| ((n as f64 * hz * TAU / RATE as f64).sin() * 8000.0) as i16);
        let bytes: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
        let blob = json!({"mimeType": "audio/pcm;rate=24000", "data": STANDARD.encode(bytes)});
        messages.push_back(content(json!({"modelTurn": {"parts": [{"inlineData": blob}]}})));
        messages.push_back(content(json!({"outputTranscription": {"text": format!("{word} ")}})));
    }
    messages.push_back(content(json!({"generationComplete": true})));
    messages.push_back(json!({"serverContent": {"turnComplete": true}, "usageMetadata": {"totalTokenCount": 322}}));
    messages
}

/// What a conversation is at.
struct State<'o> {
    mouth: &'o Mouth,
    connection: Connection,
    fault: EarFault,
    active: bool,
    /// What is still to be said.
    saying: VecDeque<Value>,
    words: usize,
    called: Option<String>,
    /// When it has thought, and what it has heard.
    thinking: Option<(Instant, String)>,
}

pub(super) async fn talk(
    speaker: &mut Speaker,
    options: &FaceOptions,
    connection: Connection,
    fault: EarFault,
) -> Result<(), Closing> {
    let mouth = &options.mouth;
    let mut state = State {
        mouth,
        connection,
        fault,
        active: false,
        saying: VecDeque::new(),
        words: 0,
        called: None,
        thinking: None,
    };
    loop {
        let thought = state.thinking.as_ref().map_or_else(Instant::now, |(at, _)| *at);
        tokio::select! {
            message = speaker.hear() => state.hear(speaker, &message?).await?,
            () = tokio::time::sleep_until(thought), if state.thinking.is_some() => state.thought(speaker).await?,
            () = tokio::time::sleep(mouth.word_every), if !state.saying.is_empty() => state.say(speaker).await?,
        }
    }
}

impl State<'_> {
    async fn hear(&mut self, speaker: &mut Speaker, message: &Value) -> Result<(), Closing> {
        only(message, &["realtimeInput", "toolResponse"])?;
        if let Some(response) = message.get("toolResponse") {
            return self.result(only(response, &["functionResponses"])?);
        }
        let input = only(&message["realtimeInput"], &["activityStart", "activityEnd", "audio"])?;
        if input.get("activityStart").is_some() {
            self.connection.control("activityStart");
            if std::mem::replace(&mut self.active, true) {
                return Err(invalid("The activity has begun."));
            }
            self.thinking = None;
            if let Some(id) = self.called.take() {
                speaker.say(&json!({"toolCallCancellation": {"ids": [id]}})).await?;
            }
            if !self.saying.is_empty() {
                self.saying.clear();
                speaker.say(&content(json!({"interrupted": true}))).await?;
                speaker.say(&content(json!({"turnComplete": true}))).await?;
            }
        } else if input.get("activityEnd").is_some() {
            self.connection.control("activityEnd");
            if !std::mem::take(&mut self.active) {
                return Err(invalid("There is no activity."));
            }
            self.thinking = self.connection.whole().map(|(words, after)| (Instant::now() + after, words));
        } else {
            let sound = sound(&input["audio"])?;
            if !self.active {
                self.connection.discarded(sound);
            } else if let Say::Close(code) = self.connection.heard(sound) {
                return Err((code, "Internal error encountered.".into()));
            }
        }
        Ok(())
    }

    async fn thought(&mut self, speaker: &mut Speaker) -> Result<(), Closing> {
        let Some((_, words)) = self.thinking.take() else { return Ok(()) };
        let number = self.mouth.spoken.answered.load(SeqCst);
        if let Some((before, code, times)) = self.mouth.close_before
            && self.mouth.spoken.thoughts.fetch_add(1, SeqCst) >= before
            && self.mouth.spoken.closed_before.fetch_add(1, SeqCst) < times
        {
            return Err((code, "Internal error encountered.".into()));
        }
        speaker.say(&content(json!({"inputTranscription": {"text": words}}))).await?;
        match &self.mouth.calls {
            Some((before, name)) if *before == number => {
                let id = format!("f{number}");
                let args = if name == "end_call" { json!({}) } else { json!({"order": "4721"}) };
                let call = json!({"id": id, "name": name, "args": args});
                self.called = Some(id);
                speaker.say(&json!({"toolCall": {"functionCalls": [call]}})).await
            }
            _ => {
                self.begin();
                Ok(())
            }
        }
    }

    fn begin(&mut self) {
        let number = self.mouth.spoken.answered.load(SeqCst);
        self.words = 0;
        self.saying = answer(self.mouth.answers.get(number).map_or("", String::as_str), self.mouth.pitch_hz);
    }

    fn result(&mut self, response: &Value) -> Result<(), Closing> {
        let responses = response["functionResponses"].as_array().ok_or_else(|| invalid("A list is expected."))?;
        for response in responses {
            only(response, &["id", "name", "response"])?;
            if self.called.take_if(|called| response["id"] == **called).is_none() {
                return Err(invalid("No such function call."));
            }
            self.mouth.spoken.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(response.clone());
        }
        self.begin();
        Ok(())
    }

    async fn say(&mut self, speaker: &mut Speaker) -> Result<(), Closing> {
        let Some(message) = self.saying.pop_front() else { return Ok(()) };
        if message["serverContent"].get("modelTurn").is_some() {
            self.words += 1;
            if let Some((code, words)) = self.mouth.close_after_words
                && self.words > words
                && self.mouth.spoken.closed.fetch_add(1, SeqCst) == 0
            {
                // A half-said answer counts.
                self.mouth.spoken.answered.fetch_add(1, SeqCst);
                return Err((code, "Internal error encountered.".into()));
            }
        }
        speaker.say(&message).await?;
        if self.saying.is_empty() {
            let number = self.mouth.spoken.answered.fetch_add(1, SeqCst);
            let handle = format!("handle-{number}");
            self.mouth.spoken.handles.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(handle.clone());
            let update = json!({"sessionResumptionUpdate": {"newHandle": handle, "resumable": true}});
            speaker.say(&update).await?;
            if self.fault == EarFault::GoAway {
                speaker.say(&json!({"goAway": {"timeLeft": "10s"}})).await?;
            }
        }
        Ok(())
    }
}
