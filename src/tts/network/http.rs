//! A voice over HTTP: a request by template, and an answer whose sound is read while it arrives.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, AnswerForm, Language, VoicePreset};
use crate::http::{BaseUrl, Http, chain};
use crate::privacy::Secret;
use crate::sentence::{Digits, Ends, speakable_with};

use super::super::{Fault, Fut, Say, Synthesizer, known_sentence};
use super::answer::Body;
use super::delivery::{Delivery, Manners, Player};
use super::fault::{self, NetworkFault, NetworkFaultKind};
use super::recipe::{self, Recipe};
use super::template::{Place, Values, fill};

/// What is sent to a simulator when there is no key.
const NO_KEY: &str = "simulated";
/// How much is read of an error's body.
const MAX_ERROR: usize = 16 * 1024;
/// How long a connection may take to be made ready.
const WARM: Duration = Duration::from_secs(2);

/// A voice over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct HttpVoice(Arc<Shared>);

struct Shared {
    manners: Manners,
    config: config::NetworkVoice,
    recipe: &'static Recipe,
    base: BaseUrl,
    /// What stands behind the host, a template.
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Option<String>,
    place: Place,
    form: AnswerForm,
    events: Option<AnswerForm>,
    key: Option<Secret>,
    client: reqwest::Client,
    parallel: usize,
}

impl HttpVoice {
    /// Checks the configuration. Does not touch the network.
    ///
    /// # Errors
    /// When something is missing, or cannot stand where it is to stand.
    pub fn new(
        preset: VoicePreset,
        config: &config::NetworkVoice,
        voice: &config::Voice,
        key: Option<Secret>,
        http: &Http,
    ) -> Result<Self, Fault> {
        let setup = |key: &'static str, problem: String| Fault::Setup { key, problem };
        let recipe = Recipe::of(preset);
        recipe::check(preset, config)?;
        let url = config.url.as_deref().or(recipe.url).ok_or_else(|| setup("url", "missing".into()))?;
        let region = Values { region: config.region.as_deref().unwrap_or_default(), ..Values::default() };
        let host_ends = url.find("://").map_or(0, |at| at + 3);
        let host_ends = url[host_ends..].find(['/', '?']).map_or(url.len(), |at| host_ends + at);
        let (origin, path) = url.split_at(host_ends);
        let origin = origin.replace("{{region}}", region.region);
        let base = BaseUrl::parse_private("network_voice.url", &origin)
            .map_err(|error| setup("url", error.to_string().trim_start_matches("network_voice.url: ").to_owned()))?;
        let key = match key.filter(|key| !key.is_empty()) {
            Some(key) => Some(key),
            None if base.is_near() => Some(Secret::new(NO_KEY)),
            None if recipe.key_needed => {
                let problem =
                    "no key: set api_key_file, the systemd credential voice.key, or OFFHOOK_VOICE_KEY".to_owned();
                return Err(setup("api_key_file", problem));
            }
            None => None,
        };
        let mut headers = Vec::new();
        let own = config.headers.iter().filter_map(|header| header.split_once(':'));
        let of_preset = recipe.headers.iter().copied();
        for (name, value) in own.chain(of_preset) {
            let name = HeaderName::from_bytes(name.trim().as_bytes())
                .map_err(|_| setup("headers", format!("{:?} is not the name of a header", name.trim())))?;
            if headers.iter().any(|(known, _)| *known == name) || key.is_none() && value.contains("{{key}}") {
                continue;
            }
            headers.push((name, value.trim().to_owned()));
        }
        let content_type = headers.iter().find(|(name, _)| *name == CONTENT_TYPE);
        let body = config.body.clone().or_else(|| recipe.body.map(str::to_owned));
        let form = config.answer.clone().map_or_else(|| recipe.answer.parse(), Ok);
        let client = http.to(&base).map_err(|error| setup("url", error.to_string()))?;
        Ok(Self(Arc::new(Shared {
            manners: Manners::new(preset.name(), config, voice),
            recipe,
            path: path.to_owned(),
            place: Place::of_body(content_type.map_or("", |(_, value)| value)),
            headers,
            body,
            form: form.map_err(|problem| setup("answer", problem))?,
            events: recipe.events.and_then(|events| events.parse().ok()),
            key,
            client,
            base,
            parallel: config.parallel,
            config: config.clone(),
        })))
    }
}

impl Synthesizer for HttpVoice {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let Some(text) = speakable_with(&say.text, say.language, Digits::Kept) else { return Ok(()) };
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                spoken = shared.speak(&text, say.language, say.ends, Some((&out, say.answer))) => Ok(spoken?),
            }
        })
    }

    fn parallel(&self) -> usize {
        self.0.parallel
    }

    fn identity(&self, language: Language) -> Option<String> {
        let shared = &self.0;
        let voice = shared.recipe.voice(&shared.config, language)?;
        let model = shared.recipe.model(&shared.config, language);
        Some(format!(
            "{} {} {voice} {model} {:?}",
            shared.manners.identity(),
            shared.base.at(&shared.path),
            shared.body
        ))
    }

    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        let known = known_sentence(language);
        Box::pin(async move { Ok(self.0.speak(known, language, Ends::Sentence, None).await?) })
    }

    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        if !self.0.manners.measured(language) {
            return self.check(language);
        }
        Box::pin(async move {
            // Any answer leaves a connection behind; whether the voice is well shows when it speaks.
            let asking = self.0.client.head(self.0.base.at("/")).send();
            match tokio::time::timeout(WARM, asking).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(self.0.unreachable(error, "").into()),
                Err(_) => Err(self.0.manners.fault(NetworkFaultKind::Unreachable, "no answer").into()),
            }
        })
    }
}

impl Shared {
    async fn speak(
        &self,
        text: &str,
        language: Language,
        ends: Ends,
        player: Option<Player<'_>>,
    ) -> Result<(), NetworkFault> {
        let mut delivery = Delivery::new(&self.manners, language, ends, player);
        let request = self.request(text, language)?;
        let response = delivery.in_time(request.send()).await?;
        let mut response = response.map_err(|error| self.unreachable(error, text))?;
        if !response.status().is_success() {
            return Err(self.refused(response, text, &mut delivery).await);
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let wrong = |(kind, note): (NetworkFaultKind, String)| NetworkFault {
            http: None,
            ..self.manners.fault(kind, fault::clean(&note, self.secret(), text))
        };
        let mut body = Body::new(&self.form, self.events.as_ref(), content_type).map_err(wrong)?;
        loop {
            let chunk = delivery.in_time(response.chunk()).await?;
            let chunk = chunk.map_err(|error| {
                let note = fault::clean(&chain(&error.without_url()), self.secret(), text);
                self.manners.fault(NetworkFaultKind::Broken, note)
            })?;
            let mut samples = Vec::new();
            let Some(bytes) = chunk else {
                body.finish(&mut samples).map_err(wrong)?;
                delivery.take(samples).await?;
                return delivery.finish().await;
            };
            body.push(&bytes, &mut samples).map_err(wrong)?;
            if !delivery.take(samples).await? {
                return Ok(());
            }
        }
    }

    fn request(&self, text: &str, language: Language) -> Result<reqwest::RequestBuilder, NetworkFault> {
        let voice = self.recipe.voice(&self.config, language);
        let voice = voice.ok_or_else(|| {
            let note = format!("set network_voice.{}", language.code());
            self.manners.fault(NetworkFaultKind::NoVoice, note)
        })?;
        let locale = recipe::locale(voice, language);
        let values = Values {
            text,
            voice,
            language: language.code(),
            locale: &locale,
            model: self.recipe.model(&self.config, language),
            key: self.secret(),
            region: self.config.region.as_deref().unwrap_or_default(),
        };
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let unsendable = || {
                let note = format!("the header {name} cannot hold what is filled in");
                self.manners.fault(NetworkFaultKind::Refused, note)
            };
            let filled = fill(template, &values, Place::Plain);
            let mut value = HeaderValue::from_bytes(filled.as_bytes()).map_err(|_| unsendable())?;
            value.set_sensitive(template.contains("{{key}}"));
            headers.insert(name.clone(), value);
        }
        let url = self.base.at(&fill(&self.path, &values, Place::Url));
        let method = if self.body.is_some() { Method::POST } else { Method::GET };
        let request = self.client.request(method, url).headers(headers);
        Ok(match &self.body {
            Some(body) => request.body(fill(body, &values, self.place)),
            None => request,
        })
    }

    fn secret(&self) -> &str {
        self.key.as_ref().map_or("", Secret::reveal)
    }

    fn unreachable(&self, error: reqwest::Error, text: &str) -> NetworkFault {
        // The URL may have the key in it.
        let note = fault::clean(&chain(&error.without_url()), self.secret(), text);
        self.manners.fault(NetworkFaultKind::Unreachable, note)
    }

    async fn refused(&self, mut response: Response, text: &str, delivery: &mut Delivery<'_>) -> NetworkFault {
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Ok(Ok(Some(bytes))) = delivery.in_time(response.chunk()).await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ERROR {
                break;
            }
        }
        NetworkFault {
            voice: self.manners.name.clone(),
            kind: NetworkFault::kind_of(status, after.map(Duration::from_secs)),
            http: Some(status),
            note: fault::note(&body, self.secret(), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(preset: VoicePreset, config: config::NetworkVoice, key: Option<&str>) -> Result<HttpVoice, Fault> {
        let http = Http::new(Duration::from_secs(1)).unwrap();
        HttpVoice::new(preset, &config, &config::Voice::default(), key.map(Secret::new), &http)
    }

    fn problem(preset: VoicePreset, config: config::NetworkVoice) -> String {
        made(preset, config, None).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_told() {
        let none = config::NetworkVoice::default;
        assert!(problem(VoicePreset::GoogleCloud, none()).contains("network_voice.api_key_file: no key"));
        assert!(problem(VoicePreset::Azure, none()).contains("network_voice.region"));
        let plain = config::NetworkVoice { url: Some("http://203.0.113.9:8880/v1".into()), ..none() };
        assert!(problem(VoicePreset::OpenAi, plain).starts_with("network_voice.url: plain http to 203.0.113.9"));
        assert!(made(VoicePreset::PiperHttp, none(), None).is_ok());
    }

    #[tokio::test]
    async fn a_key_in_a_url_is_in_no_error() {
        let url = Some("http://127.0.0.1:1/tts?key={{key}}&text={{text}}".into());
        let voice =
            made(VoicePreset::Custom, config::NetworkVoice { url, ..Default::default() }, Some("hunter2")).unwrap();
        let error = voice.check(Language::En).await.unwrap_err();
        assert!(matches!(&error, Fault::Network(fault) if fault.kind == NetworkFaultKind::Unreachable), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
