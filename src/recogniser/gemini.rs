//! Gemini's streaming recogniser (`gemini-3.5-transcribe-live` over the Live API's WebSocket).
//!
//! It tells words while they are spoken, and the whole soon after `audioStreamEnd`. Nothing has to be resumed on a new connection: the
//! utterance is said again.

use std::time::Duration;

use super::Settings;
use super::driver::{Got, Interface, Protocol, Wire};
use crate::gemini::live::provider::Provider;
use crate::gemini::live::wire;
use crate::http::BaseUrl;
use crate::model::{Fault, FaultClass, Fut, Stage};
use crate::pcm::RATE;
use crate::pcm::resample::StreamResampler;
use crate::privacy::Secret;
use crate::websocket::{Broken, Message};

/// Sound of one message, at 16 kHz: 40 ms.
const PIECE_SAMPLES: usize = 640;
/// Most sound in one message when an utterance is said again: 1 s.
const LONGEST_PIECE_SAMPLES: usize = 16_000;

/// Gemini as a recogniser.
#[derive(Debug)]
pub struct Transcribe {
    base: BaseUrl,
    provider: Provider,
    settings: Settings,
}

impl Transcribe {
    pub(super) fn new(base: BaseUrl, key: Secret, settings: Settings) -> Self {
        let name = settings.model.as_str().into();
        Self { base, provider: Provider { name, key }, settings }
    }
}

impl Interface for Transcribe {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn connect(&self) -> Fut<'_, Result<Wire, Broken>> {
        Box::pin(async {
            let socket = wire::connect(&self.base, &self.provider.key, self.settings.connect).await?;
            Ok(Wire::WebSocket(Box::new(socket)))
        })
    }

    fn protocol(&self) -> Box<dyn Protocol> {
        let Settings { model, languages, vocabulary, .. } = &self.settings;
        Box::new(Transcribing {
            provider: self.provider.clone(),
            setup: Some(wire::transcription(model, languages, vocabulary)),
            resampler: StreamResampler::new(RATE, wire::HEARS),
            pending: Vec::new(),
        })
    }
}

struct Transcribing {
    provider: Provider,
    setup: Option<Message>,
    resampler: StreamResampler,
    /// Sound that does not fill a message yet.
    pending: Vec<i16>,
}

impl Protocol for Transcribing {
    fn opening(&mut self, out: &mut Vec<Message>) {
        out.extend(self.setup.take());
    }

    fn greets(&self) -> bool {
        true
    }

    fn started(&mut self, _: &mut Vec<Message>) {
        self.resampler.finish(&mut self.pending);
        self.pending.clear();
    }

    fn audio(&mut self, samples: &[i16], out: &mut Vec<Message>) {
        self.resampler.push(samples, &mut self.pending);
        if self.pending.len() >= PIECE_SAMPLES {
            out.extend(self.pending.chunks(LONGEST_PIECE_SAMPLES).map(wire::audio));
            self.pending.clear();
        }
    }

    fn ended(&mut self, out: &mut Vec<Message>) {
        self.resampler.finish(&mut self.pending);
        if !self.pending.is_empty() {
            out.push(wire::audio(&self.pending));
            self.pending.clear();
        }
        out.push(wire::audio_stream_end());
    }

    fn keep_alive(&self) -> Option<(Duration, Message)> {
        None
    }

    fn is_spent(&self) -> bool {
        false
    }

    fn take(&mut self, message: &Message, out: &mut Vec<Got>) -> Result<(), Fault> {
        let told = wire::Told::read(message)
            .map_err(|note| self.provider.fault(FaultClass::Protocol, Stage::Waiting, None, &note))?;
        if let Some(error) = told.error {
            let status = error.code.unwrap_or(500);
            let body = serde_json::json!({"message": error.message}).to_string();
            return Err(self.provider.refused(Stage::Waiting, status, &body));
        }
        if told.setup_complete.is_some() {
            out.push(Got::Ready);
        }
        if let Some(content) = told.server_content {
            if let Some(words) = content.interim_input_transcription {
                out.push(Got::Interim(words.text));
            }
            if let Some(words) = content.input_transcription {
                out.push(Got::Settled { text: words.text, language: words.language_code });
            }
            if content.turn_complete {
                out.push(Got::Confirmed);
            }
        }
        if let Some(leave) = told.go_away {
            out.push(Got::Leaving(leave.time_left()));
        }
        Ok(())
    }
}
