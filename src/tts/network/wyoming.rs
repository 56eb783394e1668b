//! A voice that is a Wyoming server (such as wyoming-piper): JSON lines with payloads over TCP.
//!
//! Source: the `wyoming` package's protocol. Events are read in both forms, with their data in the line or behind it. One connection
//! a phrase, as the servers expect. Not implemented: text in parts (`synthesize-start`), description of the server's voices.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Coding, Language, VoicePreset, is_near};
use crate::sentence::{Digits, Ends, speakable_with};
use crate::tts::stream::Reader;

use super::super::{Fault, Fut, Say, Synthesizer, known_sentence};
use super::delivery::{Delivery, Manners, Player};
use super::fault::{self, NetworkFault, NetworkFaultKind};
use super::recipe::Recipe;

/// No line and no part of an event is longer.
const MAX_PART: usize = 1 << 20;

/// A voice that is a Wyoming server. Cheap to clone.
#[derive(Clone)]
pub struct WyomingVoice(Arc<Shared>);

struct Shared {
    manners: Manners,
    config: config::NetworkVoice,
    /// `host:port`
    address: String,
}

impl WyomingVoice {
    /// Checks the configuration. Does not touch the network.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn new(config: &config::NetworkVoice, voice: &config::Voice) -> Result<Self, Fault> {
        let setup = |problem: &str| Fault::Setup { key: "url", problem: problem.into() };
        let url = config.url.as_deref().unwrap_or_default();
        let address = url.strip_prefix("tcp://").unwrap_or(url).trim_end_matches('/');
        let (host, port) =
            address.rsplit_once(':').ok_or_else(|| setup("write host and port, as in \"tcp://127.0.0.1:10200\""))?;
        let host = host.trim_matches(['[', ']']);
        if port.parse::<u16>().is_err() || host.is_empty() {
            return Err(setup("write host and port, as in \"tcp://127.0.0.1:10200\""));
        }
        if host != "localhost" && !host.parse().is_ok_and(is_near) {
            return Err(setup(
                "Wyoming is not encrypted: the address must be of this machine or of a private network, such as tcp://192.168.1.9:10200",
            ));
        }
        let manners = Manners::new(VoicePreset::Wyoming.name(), config, voice);
        Ok(Self(Arc::new(Shared { manners, config: config.clone(), address: address.into() })))
    }
}

impl Synthesizer for WyomingVoice {
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
        self.0.config.parallel
    }

    fn identity(&self, language: Language) -> Option<String> {
        let voice = Recipe::of(VoicePreset::Wyoming).voice(&self.0.config, language)?;
        Some(format!("{} {} {voice}", self.0.manners.identity(), self.0.address))
    }

    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        let known = known_sentence(language);
        Box::pin(async move { Ok(self.0.speak(known, language, Ends::Sentence, None).await?) })
    }

    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        if self.0.manners.measured(language) { Box::pin(async { Ok(()) }) } else { self.check(language) }
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
        let network = |kind: NetworkFaultKind, note: String| self.manners.fault(kind, fault::clean(&note, "", text));
        let unreachable = |error: std::io::Error| network(NetworkFaultKind::Unreachable, error.to_string());
        let mut stream = delivery.in_time(TcpStream::connect(&self.address)).await?.map_err(unreachable)?;
        let voice = match Recipe::of(VoicePreset::Wyoming).voice(&self.config, language).unwrap_or_default() {
            "" => json!({"language": language.code()}),
            name => json!({"name": name, "language": language.code()}),
        };
        let event = json!({"type": "synthesize", "data": {"text": text, "voice": voice}});
        let line = format!("{event}\n");
        delivery.in_time(stream.write_all(line.as_bytes())).await?.map_err(unreachable)?;
        let mut stream = BufReader::new(stream);
        let mut reader: Option<Reader> = None;
        loop {
            let event = delivery.in_time(read_event(&mut stream)).await?;
            let event = event.map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => network(NetworkFaultKind::NotSound, error.to_string()),
                _ => network(NetworkFaultKind::Broken, error.to_string()),
            })?;
            let mut samples = Vec::new();
            match event.kind.as_str() {
                "audio-start" | "audio-chunk" => {
                    if reader.is_none() {
                        let number = |name| event.data.get(name).and_then(Value::as_u64);
                        let shape = (number("rate"), number("width"), number("channels"));
                        let (Some(rate @ 4000..=192_000), Some(2), Some(1)) = shape else {
                            let note = format!("rate, width and channels are {shape:?}; only 16-bit mono is read");
                            return Err(network(NetworkFaultKind::NotSound, note));
                        };
                        reader = Some(Reader::new(Coding::Raw { rate: rate as u32 }));
                    }
                    if let Some(reader) = &mut reader {
                        let pushed = reader.push(&event.payload, &mut samples);
                        pushed.map_err(|error| network(NetworkFaultKind::NotSound, error.to_string()))?;
                    }
                    if !delivery.take(samples).await? {
                        return Ok(());
                    }
                }
                "audio-stop" => {
                    if let Some(reader) = &mut reader {
                        let finished = reader.finish(&mut samples);
                        finished.map_err(|error| network(NetworkFaultKind::NotSound, error.to_string()))?;
                    }
                    delivery.take(samples).await?;
                    return delivery.finish().await;
                }
                "error" => {
                    let said = event.data.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                    return Err(network(NetworkFaultKind::Refused, said));
                }
                // Servers tell more than is asked.
                _ => {}
            }
        }
    }
}

/// An event.
struct Event {
    kind: String,
    data: serde_json::Map<String, Value>,
    payload: Vec<u8>,
}

async fn read_event(stream: &mut BufReader<TcpStream>) -> std::io::Result<Event> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = Vec::new();
    (&mut *stream).take(MAX_PART as u64).read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(match line.len() {
            MAX_PART.. => bad("a line without an end"),
            _ => std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server closed the connection"),
        });
    }
    let mut head: Value = serde_json::from_slice(&line).map_err(|_| bad("a line that is not JSON"))?;
    let kind = head.get("type").and_then(Value::as_str).ok_or_else(|| bad("an event without a type"))?.to_owned();
    let mut data = match head.get_mut("data").map(Value::take) {
        Some(Value::Object(data)) => data,
        _ => serde_json::Map::new(),
    };
    let length = |name| head.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (data_length, payload_length) = (length("data_length"), length("payload_length"));
    if data_length.max(payload_length) > MAX_PART as u64 {
        return Err(bad("an event of more than a megabyte"));
    }
    let mut more = vec![0; data_length as usize];
    stream.read_exact(&mut more).await?;
    if !more.is_empty()
        && let Value::Object(more) = serde_json::from_slice(&more).map_err(|_| bad("data that are not JSON"))?
    {
        data.extend(more);
    }
    let mut payload = vec![0; payload_length as usize];
    stream.read_exact(&mut payload).await?;
    Ok(Event { kind, data, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_nearby_is_taken() {
        let made = |url: &str| {
            let config = config::NetworkVoice { url: Some(url.into()), ..Default::default() };
            WyomingVoice::new(&config, &config::Voice::default()).map(|voice| voice.0.address.clone())
        };
        for url in ["tcp://127.0.0.1:10200", "tcp://192.168.1.9:10200/", "localhost:10200", "tcp://[fd00::1]:10200"] {
            assert!(made(url).is_ok(), "{url}");
        }
        for url in ["tcp://8.8.8.8:10200", "tcp://piper.example.com:10200", "tcp://127.0.0.1", "", "http://127.0.0.1:x"]
        {
            let error = made(url).unwrap_err().to_string();
            assert!(error.starts_with("network_voice.url: "), "{url}: {error}");
        }
    }
}
