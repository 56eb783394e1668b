//! What is said to each interface of a voice: the presets as data.
//!
//! Sources: the vendors' documentation and the sources of their SDKs, as of November 2026; none was tried against the vendor's servers.

use crate::config::{Language, NetworkVoice, VoicePreset};

use super::super::Fault;

/// A preset.
pub(super) struct Recipe {
    /// Absent for what has no address of its own.
    pub url: Option<&'static str>,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: Option<&'static str>,
    /// A form that [`crate::config::AnswerForm`] reads.
    pub answer: &'static str,
    /// The form when the answer is a stream of events although sound was expected.
    pub events: Option<&'static str>,
    /// Whether it refuses to speak without a key.
    pub key_needed: bool,
    /// Voices for English, Hebrew and Russian.
    voices: [Option<&'static str>; 3],
    /// Models for English, Hebrew and Russian.
    models: [&'static str; 3],
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

const GOOGLE_CLOUD: Recipe = Recipe {
    url: Some("https://texttospeech.googleapis.com/v1/text:synthesize"),
    headers: &[JSON, ("X-Goog-Api-Key", "{{key}}")],
    body: Some(
        r#"{"input":{"text":"{{text}}"},"voice":{"languageCode":"{{locale}}","name":"{{voice}}"},"audioConfig":{"audioEncoding":"LINEAR16","sampleRateHertz":16000}}"#,
    ),
    answer: "json:/audioContent wav",
    events: None,
    key_needed: true,
    voices: [Some("en-US-Chirp3-HD-Kore"), Some("he-IL-Chirp3-HD-Kore"), Some("ru-RU-Chirp3-HD-Kore")],
    models: [""; 3],
};

const AZURE: Recipe = Recipe {
    url: Some("https://{{region}}.tts.speech.microsoft.com/cognitiveservices/v1"),
    headers: &[
        ("Content-Type", "application/ssml+xml"),
        ("Ocp-Apim-Subscription-Key", "{{key}}"),
        ("X-Microsoft-OutputFormat", "raw-16khz-16bit-mono-pcm"),
    ],
    body: Some(
        "<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='{{locale}}'><voice name='{{voice}}'>{{xml_text}}</voice></speak>",
    ),
    answer: "raw:16000",
    events: None,
    key_needed: true,
    voices: [Some("en-US-JennyNeural"), Some("he-IL-HilaNeural"), Some("ru-RU-SvetlanaNeural")],
    models: [""; 3],
};

const ELEVENLABS: Recipe = Recipe {
    url: Some("https://api.elevenlabs.io/v1/text-to-speech/{{voice}}/stream?output_format=pcm_16000"),
    headers: &[JSON, ("xi-api-key", "{{key}}")],
    body: Some(r#"{"text":"{{text}}","model_id":"{{model}}","language_code":"{{language}}"}"#),
    answer: "raw:16000",
    events: None,
    key_needed: true,
    // Voices belong to accounts.
    voices: [None; 3],
    // The flash models have no Hebrew and refuse its code.
    models: ["eleven_flash_v2_5", "eleven_v3", "eleven_flash_v2_5"],
};

const OPENAI: Recipe = Recipe {
    url: Some("https://api.openai.com/v1/audio/speech"),
    headers: &[JSON, ("Authorization", "Bearer {{key}}")],
    body: Some(r#"{"model":"{{model}}","input":"{{text}}","voice":"{{voice}}","response_format":"pcm"}"#),
    answer: "raw:24000",
    events: Some("sse:/audio raw:24000"),
    key_needed: false,
    voices: [Some("alloy"); 3],
    models: ["gpt-4o-mini-tts"; 3],
};

const PIPER_HTTP: Recipe = Recipe {
    url: Some("http://127.0.0.1:5000/synthesize"),
    headers: &[JSON],
    body: Some(r#"{"text":"{{text}}","voice":"{{voice}}"}"#),
    answer: "wav",
    events: None,
    key_needed: false,
    voices: [Some("en_US-lessac-medium"), None, Some("ru_RU-irina-medium")],
    models: [""; 3],
};

const GEMINI: Recipe = Recipe {
    url: Some("https://generativelanguage.googleapis.com/v1beta/models/{{model}}:streamGenerateContent?alt=sse"),
    headers: &[JSON, ("x-goog-api-key", "{{key}}")],
    body: Some(
        r#"{"contents":[{"parts":[{"text":"{{text}}"}]}],"generationConfig":{"responseModalities":["AUDIO"],"speechConfig":{"voiceConfig":{"prebuiltVoiceConfig":{"voiceName":"{{voice}}"}}}}}"#,
    ),
    // Little-endian despite the name L16.
    answer: "sse:/candidates/0/content/parts/0/inlineData/data mime:/candidates/0/content/parts/0/inlineData/mimeType",
    events: None,
    key_needed: true,
    voices: [Some("Kore"); 3],
    models: ["gemini-3.8-flash-lite-tts"; 3],
};

const CUSTOM: Recipe = Recipe {
    url: None,
    headers: &[],
    body: None,
    answer: "wav",
    events: None,
    key_needed: false,
    voices: [Some("default"); 3],
    models: [""; 3],
};

const WYOMING: Recipe = Recipe {
    // A server without a voice's name takes its own.
    voices: [Some(""); 3],
    ..CUSTOM
};

impl Recipe {
    pub fn of(preset: VoicePreset) -> &'static Self {
        match preset {
            VoicePreset::GoogleCloud => &GOOGLE_CLOUD,
            VoicePreset::Azure => &AZURE,
            VoicePreset::ElevenLabs => &ELEVENLABS,
            VoicePreset::OpenAi => &OPENAI,
            VoicePreset::PiperHttp => &PIPER_HTTP,
            VoicePreset::Gemini => &GEMINI,
            VoicePreset::Wyoming => &WYOMING,
            VoicePreset::Custom => &CUSTOM,
        }
    }

    /// The voice for a language, the configured one first.
    pub fn voice<'a>(&self, config: &'a NetworkVoice, language: Language) -> Option<&'a str> {
        let place = [Language::En, Language::He, Language::Ru].iter().position(|known| *known == language)?;
        config.name(language).or(self.voices[place])
    }

    /// The model for a language, the configured one first.
    pub fn model<'a>(&self, config: &'a NetworkVoice, language: Language) -> &'a str {
        let place = match language {
            Language::En => 0,
            Language::He => 1,
            Language::Ru => 2,
        };
        config.model.as_deref().unwrap_or(self.models[place])
    }
}

/// The language and country that a voice is of: those that its name begins with (`en-GB-…`), or the usual ones.
pub(super) fn locale(voice: &str, language: Language) -> String {
    let mut parts = voice.split(['-', '_']);
    if let (Some(first), Some(second)) = (parts.next(), parts.next())
        && first == language.code()
        && second.len() == 2
        && second.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        return format!("{first}-{second}");
    }
    match language {
        Language::En => "en-US",
        Language::He => "he-IL",
        Language::Ru => "ru-RU",
    }
    .into()
}

/// What cannot work, before anybody is asked.
pub(super) fn check(preset: VoicePreset, config: &NetworkVoice) -> Result<(), Fault> {
    let hebrew = config.he.is_some();
    let flash = config.model.as_deref().is_some_and(|model| !model.starts_with("eleven_v3"));
    if preset == VoicePreset::ElevenLabs && hebrew && flash {
        let problem = "only eleven_v3 speaks Hebrew; leave model out, or he";
        return Err(Fault::Setup { key: "model", problem: problem.into() });
    }
    if preset == VoicePreset::Azure && config.url.is_none() && config.region.is_none() {
        let problem = "azure needs the region of the account, such as \"westeurope\"";
        return Err(Fault::Setup { key: "region", problem: problem.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AnswerForm;

    const ALL: [VoicePreset; 8] = [
        VoicePreset::GoogleCloud,
        VoicePreset::Azure,
        VoicePreset::ElevenLabs,
        VoicePreset::OpenAi,
        VoicePreset::PiperHttp,
        VoicePreset::Gemini,
        VoicePreset::Wyoming,
        VoicePreset::Custom,
    ];

    #[test]
    fn every_preset_has_an_answer_that_can_be_read() {
        for preset in ALL {
            let recipe = Recipe::of(preset);
            assert!(recipe.answer.parse::<AnswerForm>().is_ok(), "{}", preset.name());
            assert!(recipe.events.is_none_or(|events| events.parse::<AnswerForm>().is_ok()));
            assert!(!recipe.key_needed || recipe.headers.iter().any(|(_, value)| value.contains("{{key}}")));
        }
    }

    #[test]
    fn the_country_of_a_voice_is_in_its_name_or_the_usual_one() {
        for (voice, language, expected) in [
            ("en-GB-Chirp3-HD-Kore", Language::En, "en-GB"),
            ("he-IL-HilaNeural", Language::He, "he-IL"),
            ("ru_RU-irina-medium", Language::Ru, "ru-RU"),
            ("Kore", Language::He, "he-IL"),
            ("en-us", Language::En, "en-US"),
        ] {
            assert_eq!(locale(voice, language), expected);
        }
    }

    #[test]
    fn hebrew_is_spoken_by_the_model_that_has_it() {
        let config = NetworkVoice::default();
        assert_eq!(ELEVENLABS.model(&config, Language::He), "eleven_v3");
        assert_eq!(ELEVENLABS.model(&config, Language::Ru), "eleven_flash_v2_5");
        let flash = NetworkVoice { model: Some("eleven_flash_v2_5".into()), he: Some("v".into()), ..config };
        assert!(matches!(check(VoicePreset::ElevenLabs, &flash), Err(Fault::Setup { key: "model", .. })));
    }
}
