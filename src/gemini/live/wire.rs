//! The messages of the Live API as JSON. The server's come in binary frames as well as in text frames.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Language;
use crate::http::BaseUrl;
use crate::privacy::Secret;
use crate::websocket::{Broken, Message, Socket};

/// Samples a second that the API hears.
pub(crate) const HEARS: u32 = 16_000;
const PATH: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

/// Opens the socket; nothing is said on it.
pub(crate) async fn connect(base: &BaseUrl, key: &Secret, limit: Duration) -> Result<Socket, Broken> {
    Socket::connect(base, &format!("{PATH}?key={}", key.reveal()), &[], limit).await
}

/// The first message of a recogniser. With a `generationConfig` it would not be one.
pub(crate) fn transcription(model: &str, languages: &[Language], vocabulary: &[String]) -> Message {
    let mut transcription = json!({"mode": "SMART"});
    if !languages.is_empty() {
        transcription["languageCodes"] = languages.iter().map(|language| tag(*language)).collect();
    }
    if !vocabulary.is_empty() {
        transcription["customVocabulary"] = json!(vocabulary);
    }
    text(&json!({"setup": {"model": format!("models/{model}"), "inputAudioTranscription": transcription}}))
}

/// A language with its country, as Google's recognisers name it.
fn tag(language: Language) -> &'static str {
    match language {
        Language::En => "en-US",
        Language::He => "he-IL",
        Language::Ru => "ru-RU",
    }
}

/// Sound: mono, 16 kHz.
pub(crate) fn audio(samples: &[i16]) -> Message {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    text(&json!({"realtimeInput": {"audio": {"data": STANDARD.encode(bytes), "mimeType": "audio/pcm;rate=16000"}}}))
}

/// No more sound for now.
pub(crate) fn audio_stream_end() -> Message {
    text(&json!({"realtimeInput": {"audioStreamEnd": true}}))
}

pub(crate) fn text(value: &Value) -> Message {
    Message::Text(value.to_string())
}

/// A message of the server; what is not known is passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Told {
    pub(crate) setup_complete: Option<Value>,
    pub(crate) server_content: Option<Content>,
    pub(crate) go_away: Option<GoAway>,
    pub(crate) error: Option<Error>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Content {
    pub(crate) interim_input_transcription: Option<Transcription>,
    pub(crate) input_transcription: Option<Transcription>,
    pub(crate) turn_complete: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Transcription {
    pub(crate) text: String,
    pub(crate) language_code: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct GoAway {
    time_left: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Error {
    pub(crate) code: Option<u16>,
    pub(crate) message: String,
}

impl Told {
    /// Reads a message. The error says nothing of what stands in it.
    pub(crate) fn read(message: &Message) -> Result<Self, String> {
        serde_json::from_slice(message.bytes()).map_err(|error| {
            format!("a message is not one of the Live API ({:?} error in column {})", error.classify(), error.column())
        })
    }
}

impl GoAway {
    /// How long the connection still lasts: a duration in protobuf's JSON, `"10s"` or `"9.5s"`.
    pub(crate) fn time_left(&self) -> Duration {
        let seconds = self.time_left.as_deref().and_then(|text| text.strip_suffix('s')?.parse::<f64>().ok());
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Told {
        Told::read(&Message::Binary(json.as_bytes().to_vec().into())).unwrap()
    }

    #[test]
    fn the_setup_of_a_recogniser_names_model_languages_and_words_and_nothing_that_generates() {
        let Message::Text(setup) = transcription("gemini-x", &[Language::He], &["offhook".into()]) else { panic!() };
        let setup: Value = serde_json::from_str(&setup).unwrap();
        let wanted = json!({"setup": {"model": "models/gemini-x", "inputAudioTranscription":
            {"mode": "SMART", "languageCodes": ["he-IL"], "customVocabulary": ["offhook"]}}});
        assert_eq!(setup, wanted);
    }

    #[test]
    fn sound_goes_as_little_endian_bytes() {
        let Message::Text(sound) = audio(&[1, -2]) else { panic!() };
        let sound: Value = serde_json::from_str(&sound).unwrap();
        let data = sound["realtimeInput"]["audio"]["data"].as_str().unwrap();
        assert_eq!(STANDARD.decode(data).unwrap(), [1, 0, 0xfe, 0xff]);
    }

    #[test]
    fn the_servers_messages_are_read_from_binary_frames_and_unknown_fields_are_passed_over() {
        assert!(told(r#"{"setupComplete":{"sessionId":"x"}}"#).setup_complete.is_some());
        let content =
            told(r#"{"serverContent":{"interimInputTranscription":{"text":"where"},"new":1}}"#).server_content;
        assert_eq!(content.unwrap().interim_input_transcription.unwrap().text, "where");
        assert_eq!(told(r#"{"goAway":{"timeLeft":"9.5s"}}"#).go_away.unwrap().time_left(), Duration::from_millis(9500));
        for odd in [r#"{"goAway":{}}"#, r#"{"goAway":{"timeLeft":"-1s"}}"#, r#"{"goAway":{"timeLeft":"soon"}}"#] {
            assert_eq!(told(odd).go_away.unwrap().time_left(), Duration::ZERO);
        }
        let error = Told::read(&Message::Text("{\"serverContent\": \"what he said\"}".into())).err().unwrap();
        assert!(!error.contains("said"), "{error}");
    }
}
