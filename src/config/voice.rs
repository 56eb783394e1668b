//! `[voice]`, the voice that is a program on this machine, and `[network_voice]`, a better one that is reached over the network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Language, SecretError, Wanted, ms};
use crate::privacy::Secret;

/// `[voice]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Voice {
    /// A program that reads text on standard input and writes sound to standard output; `{voice}` becomes the voice's name.
    pub command: Vec<String>,
    /// What it writes.
    pub command_answer: Coding,
    /// Voice for English.
    pub en: String,
    /// Voice for Hebrew.
    pub he: String,
    /// Voice for Russian.
    pub ru: String,
    /// Level that speech and clips are matched to, in dBFS over the voiced parts.
    pub level_dbfs: f32,
    /// Silence after a clause.
    #[serde(rename = "pause_after_clause_ms", with = "ms")]
    pub pause_after_clause: Duration,
    /// Silence after a sentence.
    #[serde(rename = "pause_after_sentence_ms", with = "ms")]
    pub pause_after_sentence: Duration,
    /// Time from the text to the first sound.
    #[serde(rename = "first_audio_ms", with = "ms")]
    pub first_audio: Duration,
    /// Time between two pieces of sound.
    #[serde(rename = "stall_ms", with = "ms")]
    pub stall: Duration,
    /// Where phrases are kept that are spoken again and again; absent: systemd's cache folder, and without that nowhere.
    pub cache_dir: Option<PathBuf>,
    /// How much of the disk they may take; 0: nothing is kept.
    pub cache_mb: u32,
    /// Phrases that are put there when the service starts.
    pub cache_phrases: Vec<String>,
}

impl Default for Voice {
    fn default() -> Self {
        Self {
            command: ["espeak-ng", "-v", "{voice}", "-z", "--stdin", "--stdout"].map(String::from).to_vec(),
            command_answer: Coding::Wav,
            en: "en-us".into(),
            he: "he".into(),
            ru: "ru".into(),
            level_dbfs: -20.0,
            pause_after_clause: Duration::from_millis(80),
            pause_after_sentence: Duration::from_millis(200),
            first_audio: Duration::from_millis(1500),
            stall: Duration::from_millis(400),
            cache_dir: None,
            cache_mb: 64,
            cache_phrases: Vec::new(),
        }
    }
}

impl Voice {
    /// The name of the voice for a language.
    pub fn name(&self, language: Language) -> &str {
        match language {
            Language::En => &self.en,
            Language::He => &self.he,
            Language::Ru => &self.ru,
        }
    }
}

/// `[network_voice]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkVoice {
    /// Whose interface it is; absent: there is none, and the voice of `[voice]` speaks everything.
    pub preset: Option<VoicePreset>,
    /// Where it is; absent: where the preset's maker has it.
    pub url: Option<String>,
    /// A file that holds the key. Otherwise the systemd credential `voice.key`, then the variable `OFFHOOK_VOICE_KEY`.
    pub api_key_file: Option<PathBuf>,
    /// `{{region}}` of the URL.
    pub region: Option<String>,
    /// `{{model}}`; absent: the preset's for the language.
    pub model: Option<String>,
    /// Voice for English; absent: the preset's.
    pub en: Option<String>,
    /// Voice for Hebrew; absent: the preset's.
    pub he: Option<String>,
    /// Voice for Russian; absent: the preset's.
    pub ru: Option<String>,
    /// Headers beside the preset's, as `Name: value`; one of the same name goes before the preset's.
    pub headers: Vec<String>,
    /// Body of the request; absent: the preset's. Without any it is a GET.
    pub body: Option<String>,
    /// Where the sound is in the answer; absent: the preset's.
    pub answer: Option<AnswerForm>,
    /// Phrases that it may speak at the same time.
    pub parallel: usize,
    /// Time from the text to the first sound, the connection included.
    #[serde(rename = "first_audio_ms", with = "ms")]
    pub first_audio: Duration,
    /// Silence inside a phrase.
    #[serde(rename = "stall_ms", with = "ms")]
    pub stall: Duration,
    /// How long it is left alone after a failure.
    #[serde(rename = "rest_ms", with = "ms")]
    pub rest: Duration,
}

impl Default for NetworkVoice {
    fn default() -> Self {
        Self {
            preset: None,
            url: None,
            api_key_file: None,
            region: None,
            model: None,
            en: None,
            he: None,
            ru: None,
            headers: Vec::new(),
            body: None,
            answer: None,
            parallel: 2,
            first_audio: Duration::from_millis(1500),
            stall: Duration::from_millis(400),
            rest: Duration::from_secs(30),
        }
    }
}

impl NetworkVoice {
    /// The configured name of the voice for a language.
    pub fn name(&self, language: Language) -> Option<&str> {
        match language {
            Language::En => self.en.as_deref(),
            Language::He => self.he.as_deref(),
            Language::Ru => self.ru.as_deref(),
        }
    }

    /// Its key. `None` when there is none anywhere.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn key(&self) -> Result<Option<Secret>, SecretError> {
        Wanted {
            what: "voice key",
            key: "api_key_file",
            file: self.api_key_file.as_deref(),
            credential: "voice.key",
            variable: "OFFHOOK_VOICE_KEY",
            ascii: true,
        }
        .find()
    }
}

/// Interfaces of voices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoicePreset {
    /// Google Cloud Text-to-Speech.
    GoogleCloud,
    /// Azure AI Speech.
    Azure,
    /// ElevenLabs.
    #[serde(rename = "elevenlabs")]
    ElevenLabs,
    /// OpenAI, and what speaks like it: Kokoro-FastAPI, speaches, LocalAI.
    #[serde(rename = "openai")]
    OpenAi,
    /// Piper's own HTTP server.
    PiperHttp,
    /// Gemini's speech models.
    Gemini,
    /// A Wyoming server, such as wyoming-piper.
    Wyoming,
    /// Any other HTTP interface, by `url`, `headers`, `body` and `answer`.
    Custom,
}

impl VoicePreset {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GoogleCloud => "google-cloud",
            Self::Azure => "azure",
            Self::ElevenLabs => "elevenlabs",
            Self::OpenAi => "openai",
            Self::PiperHttp => "piper-http",
            Self::Gemini => "gemini",
            Self::Wyoming => "wyoming",
            Self::Custom => "custom",
        }
    }
}

/// How samples are written as bytes: mono, or a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Coding {
    /// A WAV file; sizes in its header may be wrong.
    #[default]
    Wav,
    /// 16-bit little-endian samples without a header.
    Raw {
        /// Samples a second.
        rate: u32,
    },
    /// G.711 µ-law at 8 kHz.
    Ulaw,
    /// G.711 A-law at 8 kHz.
    Alaw,
}

/// Where the sound is in the answer of a voice over HTTP, and how it is written there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum AnswerForm {
    /// The body is the sound.
    Body(Coding),
    /// The body is JSON; a string in it is the sound in base64.
    Json {
        /// Where (RFC 6901).
        pointer: String,
        /// What it decodes to.
        sound: JsonSound,
    },
    /// The body is a stream of events, whose data are JSON; a string in each is a part of the sound in base64.
    Sse {
        /// Where (RFC 6901). Events without it are passed over.
        pointer: String,
        /// What it decodes to.
        sound: JsonSound,
    },
}

/// How sound inside of JSON is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonSound {
    /// Always so.
    Coding(Coding),
    /// 16-bit little-endian samples, whose rate is in a media type beside them (`audio/L16;rate=24000`): where that is.
    MimeAt(String),
}

impl FromStr for Coding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("raw:").map(str::parse)) {
            ("wav", _) => Ok(Self::Wav),
            ("ulaw", _) => Ok(Self::Ulaw),
            ("alaw", _) => Ok(Self::Alaw),
            (_, Some(Ok(rate @ 4000..=192_000))) => Ok(Self::Raw { rate }),
            _ => Err(format!(
                "{text:?} is no way to write sound; take wav, raw:RATE (16-bit little-endian, such as raw:24000), ulaw or alaw"
            )),
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wav => f.write_str("wav"),
            Self::Raw { rate } => write!(f, "raw:{rate}"),
            Self::Ulaw => f.write_str("ulaw"),
            Self::Alaw => f.write_str("alaw"),
        }
    }
}

impl FromStr for AnswerForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((how, rest)) = text.split_once(':').filter(|(how, _)| matches!(*how, "json" | "sse")) else {
            return text.parse().map(Self::Body).map_err(|error: String| {
                format!("{error}, or json:/POINTER and sse:/POINTER with one of them behind a blank")
            });
        };
        let (pointer, sound) = rest.split_once(' ').unwrap_or((rest, "wav"));
        if !pointer.starts_with('/') {
            return Err(format!("{pointer:?} is not a JSON pointer; write it as in json:/audioContent wav"));
        }
        let sound = match sound.strip_prefix("mime:") {
            Some(at) if at.starts_with('/') => JsonSound::MimeAt(at.to_owned()),
            _ => JsonSound::Coding(sound.parse()?),
        };
        let pointer = pointer.to_owned();
        Ok(if how == "json" { Self::Json { pointer, sound } } else { Self::Sse { pointer, sound } })
    }
}

impl fmt::Display for AnswerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, pointer, sound) = match self {
            Self::Body(coding) => return coding.fmt(f),
            Self::Json { pointer, sound } => ("json", pointer, sound),
            Self::Sse { pointer, sound } => ("sse", pointer, sound),
        };
        match sound {
            JsonSound::Coding(coding) => write!(f, "{how}:{pointer} {coding}"),
            JsonSound::MimeAt(at) => write!(f, "{how}:{pointer} mime:{at}"),
        }
    }
}

/// Through its text, for the configuration.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(Coding);
as_text!(AnswerForm);

/// What may stand in double braces in the URL, the headers and the body of `[network_voice]`.
pub const PLACEHOLDERS: [&str; 8] = ["text", "xml_text", "voice", "language", "locale", "model", "key", "region"];

/// What is wrong with the placeholders of a template.
pub(super) fn template_fault(template: &str) -> Option<String> {
    let mut rest = template;
    while let Some((_, from)) = rest.split_once("{{") {
        let Some((name, behind)) = from.split_once("}}").filter(|(name, _)| name.len() <= 40) else {
            return Some("\"{{\" is not closed; write a placeholder as in {{text}}".into());
        };
        if !PLACEHOLDERS.contains(&name) {
            let like = |known: &&&str| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
            let near = PLACEHOLDERS.iter().max_by_key(like).filter(|known| like(known) > 700);
            let remedy = match near {
                Some(near) => format!("did you mean {{{{{near}}}}}?"),
                None => format!("there are {}", PLACEHOLDERS.map(|name| format!("{{{{{name}}}}}")).join(", ")),
            };
            return Some(format!("{{{{{name}}}}} is unknown; {remedy}"));
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_answers_are_read_and_written_alike() {
        for text in [
            "wav",
            "raw:24000",
            "ulaw",
            "json:/audioContent wav",
            "sse:/audio raw:24000",
            "sse:/candidates/0/content/parts/0/inlineData/data mime:/candidates/0/content/parts/0/inlineData/mimeType",
        ] {
            assert_eq!(text.parse::<AnswerForm>().unwrap().to_string(), text);
        }
        assert_eq!("json:/a".parse::<AnswerForm>().unwrap().to_string(), "json:/a wav");
        for text in ["", "mp3", "raw", "raw:0", "raw:fast", "json:", "json:a", "sse:/a mp3", "json:/a mime:b"] {
            assert!(text.parse::<AnswerForm>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_told_with_what_may_be_meant() {
        assert_eq!(template_fault("{\"a\":{\"b\":\"{{text}}\"}} {{voice}}"), None);
        assert_eq!(template_fault("{{tekst}}").unwrap(), "{{tekst}} is unknown; did you mean {{text}}?");
        assert!(template_fault("{{q}}").unwrap().contains("there are {{text}}, {{xml_text}}"));
        assert!(template_fault("x {{text").unwrap().contains("not closed"));
    }
}
