//! The messages of the Live API as JSON. The server's come in binary frames as well as in text frames.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Opening;
use crate::config::Language;
use crate::http::BaseUrl;
use crate::model::{Function, FunctionCall, FunctionResult, Usage};
use crate::privacy::Secret;
use crate::websocket::{Broken, Message, Socket};

/// Samples a second that the API hears.
pub(crate) const HEARS: u32 = 16_000;
/// And speaks, when it does not say.
const SPEAKS: u32 = 24_000;
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

/// The first message of a dialogue; our own ear tells it where the caller begins and ends. `handle`: of the conversation to go on with.
pub(crate) fn dialogue(opening: &Opening, handle: Option<&str>) -> Message {
    let resumption = handle.map_or_else(|| json!({}), |handle| json!({"handle": handle}));
    let mut setup = json!({
        "model": format!("models/{}", opening.model),
        "generationConfig": {"responseModalities": ["AUDIO"]},
        "systemInstruction": {"parts": [{"text": &*opening.system}]},
        "inputAudioTranscription": {},
        "outputAudioTranscription": {},
        "realtimeInputConfig": {"automaticActivityDetection": {"disabled": true}},
        "sessionResumption": resumption,
        "contextWindowCompression": {"slidingWindow": {}},
    });
    if let Some(voice) = &opening.voice {
        setup["generationConfig"]["speechConfig"] =
            json!({"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}});
    }
    if !opening.functions.is_empty() {
        let declared: Vec<Value> = opening.functions.iter().map(declaration).collect();
        setup["tools"] = json!([{"functionDeclarations": declared}]);
    }
    text(&json!({"setup": setup}))
}

fn declaration(function: &Function) -> Value {
    let mut declared = json!({"name": function.name, "description": function.description});
    if let Some(parameters) = &function.parameters {
        declared["parameters"] = parameters.clone();
    }
    declared
}

/// The caller begins to speak.
pub(crate) fn activity_start() -> Message {
    text(&json!({"realtimeInput": {"activityStart": {}}}))
}

/// The caller has finished.
pub(crate) fn activity_end() -> Message {
    text(&json!({"realtimeInput": {"activityEnd": {}}}))
}

/// What came of functions.
pub(crate) fn tool_response(results: &[FunctionResult]) -> Message {
    let one = |result: &FunctionResult| json!({"id": result.id, "name": result.name, "response": result.response});
    text(&json!({"toolResponse": {"functionResponses": results.iter().map(one).collect::<Vec<_>>()}}))
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
    pub(crate) tool_call: Option<ToolCall>,
    pub(crate) tool_call_cancellation: Option<Cancellation>,
    pub(crate) session_resumption_update: Option<Resumption>,
    pub(crate) usage_metadata: Option<UsageMetadata>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UsageMetadata {
    prompt_token_count: Option<u32>,
    cached_content_token_count: Option<u32>,
    response_token_count: Option<u32>,
    thoughts_token_count: Option<u32>,
    total_token_count: Option<u32>,
    prompt_tokens_details: Option<Vec<Detail>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    modality: Option<String>,
    token_count: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ToolCall {
    function_calls: Vec<Called>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Called {
    id: String,
    name: String,
    args: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cancellation {
    pub(crate) ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resumption {
    new_handle: Option<String>,
    resumable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelTurn {
    parts: Vec<Part>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    inline_data: Option<Blob>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Blob {
    mime_type: String,
    data: String,
}

impl ToolCall {
    pub(crate) fn calls(self) -> Vec<FunctionCall> {
        let call = |Called { id, name, args }| FunctionCall { id, name, args, raw: Value::Null };
        self.function_calls.into_iter().map(call).collect()
    }
}

impl UsageMetadata {
    /// What was used, without its price. Where only the sum is told, it counts as the prompt.
    pub(crate) fn usage(&self) -> Usage {
        let answer = self.response_token_count.unwrap_or(0);
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let rest = || self.total_token_count.unwrap_or(0).saturating_sub(answer.saturating_add(thoughts));
        let details = self.prompt_tokens_details.iter().flatten();
        let audio = details.filter(|detail| detail.modality.as_deref() == Some("AUDIO"));
        Usage {
            prompt: self.prompt_token_count.unwrap_or_else(rest),
            audio: audio.filter_map(|detail| detail.token_count).fold(0, u32::saturating_add),
            cached: self.cached_content_token_count.unwrap_or(0),
            answer,
            thoughts,
            micros: 0,
        }
    }
}

impl Resumption {
    /// With what a conversation can be gone on with, if it can be now.
    pub(crate) fn handle(self) -> Option<String> {
        self.new_handle.filter(|handle| self.resumable && !handle.is_empty())
    }
}

impl ModelTurn {
    /// The sound in it with its samples a second: 16 bit, little endian, mono.
    pub(crate) fn sounds(&self) -> impl Iterator<Item = Result<(u32, Vec<i16>), &'static str>> {
        self.parts.iter().filter_map(|part| part.inline_data.as_ref()).map(|blob| {
            let rate = blob.mime_type.strip_prefix("audio/pcm").ok_or("the answer is not PCM")?;
            let rate = rate.split(';').find_map(|part| part.trim().strip_prefix("rate="));
            let rate = rate.map_or(Ok(SPEAKS), str::parse).map_err(|_| "the answer has no rate")?;
            let bytes = STANDARD.decode(&blob.data).map_err(|_| "the answer is not base64")?;
            let samples = bytes.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
            // Nothing that speaks is outside of this, and a resampler has its price.
            (8000..=48_000).contains(&rate).then_some((rate, samples)).ok_or("the answer has an impossible rate")
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Content {
    pub(crate) interim_input_transcription: Option<Transcription>,
    pub(crate) input_transcription: Option<Transcription>,
    pub(crate) output_transcription: Option<Transcription>,
    pub(crate) model_turn: Option<ModelTurn>,
    pub(crate) interrupted: bool,
    pub(crate) generation_complete: bool,
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
    fn a_setup_of_a_dialogue_leaves_the_ends_of_turns_to_us_and_resumes_with_a_handle() {
        let opening = Opening {
            model: "gemini-x".into(),
            voice: Some("Kore".into()),
            system: "You answer.".into(),
            functions: [crate::model::END_CALL].into(),
        };
        let Message::Text(setup) = dialogue(&opening, Some("h1")) else { panic!() };
        let setup: Value = serde_json::from_str(&setup).unwrap();
        assert_eq!(setup["setup"]["realtimeInputConfig"]["automaticActivityDetection"]["disabled"], true);
        assert_eq!(setup["setup"]["sessionResumption"]["handle"], "h1");
        assert_eq!(setup["setup"]["tools"][0]["functionDeclarations"][0]["name"], "end_call");
    }

    #[test]
    fn sound_of_an_answer_has_the_rate_it_says_and_nonsense_is_named() {
        let turn = |mime: &str, data: &str| {
            let json = json!({"serverContent": {"modelTurn": {"parts": [{"text": "x"}, {"inlineData": {"mimeType": mime, "data": data}}]}}});
            let content = told(&json.to_string()).server_content.unwrap();
            content.model_turn.unwrap().sounds().next().unwrap()
        };
        assert_eq!(turn("audio/pcm;rate=16000", "AQD+/w=="), Ok((16_000, vec![1, -2])));
        assert_eq!(turn("audio/pcm", "AQD+"), Ok((24_000, vec![1])));
        for (mime, data) in
            [("audio/ogg", "AQA="), ("audio/pcm;rate=x", "AQA="), ("audio/pcm;rate=1", ""), ("audio/pcm", "?")]
        {
            assert!(turn(mime, data).is_err(), "{mime} {data}");
        }
    }

    #[test]
    fn what_was_used_is_read_whole_or_as_a_sum() {
        let usage = |json: &str| told(json).usage_metadata.unwrap().usage();
        let whole = usage(
            r#"{"usageMetadata":{"promptTokenCount":200,"responseTokenCount":120,"thoughtsTokenCount":2,"totalTokenCount":322,
                "promptTokensDetails":[{"modality":"AUDIO","tokenCount":150},{"modality":"TEXT","tokenCount":50}]}}"#,
        );
        assert_eq!(whole, Usage { prompt: 200, audio: 150, answer: 120, thoughts: 2, ..Usage::default() });
        let sum = usage(r#"{"usageMetadata":{"totalTokenCount":322}}"#);
        assert_eq!(sum, Usage { prompt: 322, ..Usage::default() });
    }

    #[test]
    fn a_handle_counts_only_while_the_conversation_can_be_resumed() {
        let handle = |json: &str| told(json).session_resumption_update.unwrap().handle();
        assert_eq!(handle(r#"{"sessionResumptionUpdate":{"newHandle":"h","resumable":true}}"#).as_deref(), Some("h"));
        assert_eq!(handle(r#"{"sessionResumptionUpdate":{"newHandle":"h"}}"#), None);
        assert_eq!(handle(r#"{"sessionResumptionUpdate":{"resumable":true}}"#), None);
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
