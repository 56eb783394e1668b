//! Every face at once, for an installer who wants to try an interface without an account, with the lines that configure it.

use std::io;
use std::net::SocketAddr;

use serde_json::json;

use super::chat::ChatOptions;
use super::crm::{CrmFault, CrmOptions};
use super::ears::Ears;
use super::live_speech::Mouth;
use super::voices::{VoiceOptions, WyomingFace};
use super::wyoming_asr::WyomingEars;
use super::{FaceOptions, Faces};
use crate::config::Language;
use crate::simulator::answers;

/// Utterances that the recognisers have words for; what is said after that is nothing.
const UTTERANCES: usize = 10_000;

/// All faces, until they are dropped.
#[derive(Debug)]
pub struct AllFaces {
    faces: Faces,
    ears: WyomingEars,
    voice: WyomingFace,
    model: String,
}

/// What the recognisers hear, whatever is said.
fn heard(language: Language) -> &'static str {
    match language {
        Language::En => "Are you open on Friday afternoon?",
        Language::He => "האם אתם פתוחים ביום שישי?",
        Language::Ru => "Вы работаете в пятницу?",
    }
}

impl AllFaces {
    /// Listens: at `listen` what is HTTP or WebSocket, and for Wyoming at the two ports above it; all of them are free ones when its port is 0.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub async fn start(listen: SocketAddr, language: Language) -> io::Result<Self> {
        let ears = Ears { texts: vec![heard(language).to_owned(); UTTERANCES], ..Ears::default() };
        let chat = ChatOptions { hears: true, language, ..ChatOptions::default() };
        let model = chat.model.clone();
        let customer = json!({"name": "Dana Levi", "city": "Haifa", "order": "4721, on its way"});
        // One customer, who calls from every number.
        let crm = CrmOptions {
            customers: [("anybody".to_owned(), customer)].into(),
            fault: Some(CrmFault::Everybody),
            ..CrmOptions::default()
        };
        let mouth = Mouth { answers: answers(language).iter().map(|&text| text.into()).collect(), ..Mouth::default() };
        let options = FaceOptions { ears: ears.clone(), chat, crm, mouth, ..FaceOptions::default() };
        let after = |ports: u16| match listen.port() {
            0 => Ok(listen),
            port => match port.checked_add(ports) {
                Some(port) => Ok(SocketAddr::new(listen.ip(), port)),
                None => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no port above it for Wyoming")),
            },
        };
        Ok(Self {
            faces: Faces::start(listen, options).await?,
            ears: WyomingEars::start(after(1)?, ears).await?,
            voice: WyomingFace::start(after(2)?, VoiceOptions::default()).await?,
            model,
        })
    }

    /// Each interface by its name, and the lines of offhook's configuration that use it.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let (faces, ears, voice) = (self.faces.address(), self.ears.address(), self.voice.address());
        let recogniser = |engine: &str| format!("[recogniser]\nengine = \"{engine}\"\nbase_url = \"http://{faces}\"\n");
        let speaks = |preset: &str, path: &str, more: &str| {
            format!("[network_voice]\npreset = \"{preset}\"\nurl = \"http://{faces}{path}\"\n{more}")
        };
        let order = "{ type = \"object\", properties = { order = { type = \"string\" } } }";
        let voices = "en = \"any\"\nhe = \"any\"\nru = \"any\"\n";
        let eleven = "/v1/text-to-speech/{{voice}}/stream?output_format=pcm_16000";
        let gemini = "/v1beta/models/{{model}}:streamGenerateContent?alt=sse";
        vec![
            ("Gemini's Live API as recogniser", recogniser("gemini")),
            ("Deepgram as recogniser", recogniser("deepgram")),
            ("OpenAI as recogniser", recogniser("openai")),
            ("a Wyoming recogniser", format!("[recogniser]\nengine = \"wyoming\"\naddress = \"{ears}\"\n")),
            (
                "a model with OpenAI's chat interface, asked before Gemini",
                format!(
                    "[chat]\nbase_url = \"http://{faces}\"\nmodel = \"{}\"\naudio = true\nfirst = true\n",
                    self.model
                ),
            ),
            ("Google Cloud as voice", speaks("google-cloud", "/v1/text:synthesize", "")),
            ("Azure as voice", speaks("azure", "/cognitiveservices/v1", "")),
            ("ElevenLabs as voice", speaks("elevenlabs", eleven, voices)),
            ("OpenAI as voice", speaks("openai", "/v1/audio/speech", "")),
            ("Piper over HTTP as voice", speaks("piper-http", "/synthesize", "")),
            ("Gemini as voice", speaks("gemini", gemini, "")),
            ("a Wyoming voice", format!("[network_voice]\npreset = \"wyoming\"\nurl = \"tcp://{voice}\"\n")),
            (
                "a CRM",
                format!(
                    "[crm]\nurl = \"http://{faces}/crm/customers?phone={{{{caller.e164}}}}\"\nmatches = \"/data\"\n\
                     fields = {{ name = \"/data/0/name\", city = \"/data/0/city\", order = \"/data/0/order\" }}\n"
                ),
            ),
            (
                "a function of your own (--fault S4 has the model call it)",
                format!(
                    "[tools.order_status]\ndescription = \"the state of an order\"\nside_effects = false\n\
                     url = \"http://{faces}/tools/orders/{{{{order}}}}\"\nparameters = {order}\n"
                ),
            ),
            (
                "a webhook for messages",
                format!("[voicemail]\nenabled = true\nwebhook_url = \"http://{faces}/tools/messages\"\n"),
            ),
        ]
    }
}
