//! Deepgram's streaming recogniser (`wss://api.deepgram.com/v1/listen`): linear PCM at 16 kHz.
//!
//! At our own end of the utterance `Finalize` asks for the rest at once. It is confirmed by `from_finalize`, but only when something was
//! left to recognise. Not implemented: Flux, several channels, word times, diarisation.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use serde::Deserialize;

use super::Settings;
use super::driver::{Got, Interface, Protocol, Wire};
use crate::gemini::live::provider::Provider;
use crate::http::BaseUrl;
use crate::model::{Fault, FaultClass, Fut, Stage};
use crate::pcm::RATE;
use crate::privacy::Secret;
use crate::websocket::{Broken, Message, Socket};

/// A connection on which nothing is said for 10 s is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Most words that it is told to expect.
const MOST_KEYTERMS: usize = 100;

/// Deepgram.
#[derive(Debug)]
pub struct Deepgram {
    base: BaseUrl,
    provider: Provider,
    settings: Settings,
}

impl Deepgram {
    pub(super) fn new(base: BaseUrl, key: Secret, settings: Settings) -> Self {
        Self { base, provider: Provider { name: "deepgram".into(), key }, settings }
    }

    fn path(&self) -> String {
        let language = self.settings.language().map_or("multi", |language| language.code());
        let rate = RATE.to_string();
        let mut query = vec![
            ("model", self.settings.model.as_str()),
            ("language", language),
            ("encoding", "linear16"),
            ("sample_rate", &rate),
            ("channels", "1"),
            ("interim_results", "true"),
            ("endpointing", "300"),
            ("utterance_end_ms", "1000"),
        ];
        query.extend(self.settings.vocabulary.iter().take(MOST_KEYTERMS).map(|word| ("keyterm", word.as_str())));
        let url = Url::parse_with_params("ws://host/v1/listen", query).expect("the URL is one");
        format!("{}?{}", url.path(), url.query().unwrap_or_default())
    }
}

impl Interface for Deepgram {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn connect(&self) -> Fut<'_, Result<Wire, Broken>> {
        Box::pin(async {
            let token = format!("Token {}", self.provider.key.reveal());
            let headers = [("authorization", token.as_str())];
            let socket = Socket::connect(&self.base, &self.path(), &headers, self.settings.connect).await?;
            Ok(Wire::WebSocket(Box::new(socket)))
        })
    }

    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(Speaking { provider: self.provider.clone() })
    }
}

struct Speaking {
    provider: Provider,
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    from_finalize: bool,
    #[serde(default)]
    channel: serde_json::Value,
    #[serde(default)]
    description: Option<String>,
}

fn control(kind: &str) -> Message {
    Message::Text(format!("{{\"type\":\"{kind}\"}}"))
}

impl Protocol for Speaking {
    fn opening(&mut self, _: &mut Vec<Message>) {}

    fn greets(&self) -> bool {
        false
    }

    fn started(&mut self, _: &mut Vec<Message>) {}

    fn audio(&mut self, samples: &[i16], out: &mut Vec<Message>) {
        // An empty message closes the stream.
        if !samples.is_empty() {
            // An utterance that is said again is long.
            for piece in samples.chunks(RATE as usize) {
                let bytes: Vec<u8> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                out.push(Message::Binary(Bytes::from(bytes)));
            }
        }
    }

    fn ended(&mut self, out: &mut Vec<Message>) {
        out.push(control("Finalize"));
    }

    fn keep_alive(&self) -> Option<(Duration, Message)> {
        Some((KEEP_ALIVE, control("KeepAlive")))
    }

    fn is_spent(&self) -> bool {
        false
    }

    fn take(&mut self, message: &Message, out: &mut Vec<Got>) -> Result<(), Fault> {
        let fault = |class, note: &str| Err(self.provider.fault(class, Stage::Waiting, None, note));
        let Ok(told) = serde_json::from_slice::<Told>(message.bytes()) else {
            return fault(FaultClass::Protocol, "a message is not the JSON of Deepgram's interface");
        };
        match told.kind.as_str() {
            "Results" => {
                // The form of `alternatives` is theirs; one that is not there is no words.
                let best = &told.channel["alternatives"][0];
                let text = best["transcript"].as_str().unwrap_or_default().to_owned();
                let language = best["languages"][0].as_str().map(str::to_owned);
                match told.is_final {
                    true => out.push(Got::Settled { text, language }),
                    false if text.is_empty() => {}
                    false => out.push(Got::Interim(text)),
                }
                if told.from_finalize {
                    out.push(Got::Confirmed);
                }
            }
            "Error" => return fault(FaultClass::Overloaded, told.description.as_deref().unwrap_or("an error")),
            // Metadata, SpeechStarted, UtteranceEnd: our own ear knows.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaking() -> Speaking {
        Speaking { provider: Provider { name: "deepgram".into(), key: Secret::new("k") } }
    }

    fn taken(json: &str) -> Result<Vec<Got>, Fault> {
        let mut got = Vec::new();
        speaking().take(&Message::Text(json.into()), &mut got).map(|()| got)
    }

    #[test]
    fn results_are_interim_settled_or_confirm_the_end() {
        let results = |transcript: &str, flags: &str| {
            format!(
                r#"{{"type":"Results","channel":{{"alternatives":[{{"transcript":"{transcript}","confidence":0.9}}]}},{flags}}}"#
            )
        };
        let interim = taken(&results("where is", r#""is_final":false,"speech_final":false"#)).unwrap();
        assert_eq!(interim, [Got::Interim("where is".into())]);
        let settled = Got::Settled { text: "where".into(), language: None };
        assert_eq!(taken(&results("where", r#""is_final":true"#)).unwrap(), [settled]);
        let last = taken(&results("", r#""is_final":true,"from_finalize":true"#)).unwrap();
        assert_eq!(last, [Got::Settled { text: String::new(), language: None }, Got::Confirmed]);
        for quiet in [r#"{"type":"UtteranceEnd","last_word_end":2.1}"#, r#"{"type":"Metadata"}"#, "{}"] {
            assert_eq!(taken(quiet).unwrap(), []);
        }
        assert_eq!(taken("not json, but what he said").unwrap_err().class, FaultClass::Protocol);
        assert!(taken(r#"{"type":"Results","channel":{"alternatives":[]}}"#).is_ok());
    }

    #[test]
    fn the_end_is_asked_for_and_silence_is_kept_alive() {
        let mut out = Vec::new();
        let mut speaking = speaking();
        speaking.audio(&[], &mut out);
        assert!(out.is_empty(), "an empty message would close the stream");
        speaking.audio(&[0; 160], &mut out);
        speaking.ended(&mut out);
        assert_eq!(out[0], Message::Binary(Bytes::from(vec![0; 320])));
        assert_eq!(out[1], Message::Text("{\"type\":\"Finalize\"}".into()));
        assert!(speaking.keep_alive().unwrap().0 < Duration::from_secs(10));
    }

    #[test]
    fn several_languages_are_asked_for_as_such_and_words_are_escaped() {
        use crate::config::Language;
        let settings = Settings {
            model: "nova-3".into(),
            languages: vec![Language::He],
            vocabulary: vec!["R&D=1".into()],
            connect: Duration::from_secs(1),
        };
        let base = BaseUrl::parse("recogniser.base_url", "http://127.0.0.1:1").unwrap();
        let mut deepgram = Deepgram::new(base, Secret::new("k"), settings);
        assert!(deepgram.path().contains("language=he&") && deepgram.path().ends_with("keyterm=R%26D%3D1"));
        deepgram.settings.languages.push(Language::Ru);
        assert!(deepgram.path().contains("language=multi&"), "{}", deepgram.path());
    }
}
