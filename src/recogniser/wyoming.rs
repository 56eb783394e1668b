//! A recogniser on the customer's own network that speaks Wyoming (JSON lines with payloads over TCP): faster-whisper and others.
//!
//! One connection an utterance, made beforehand. The protocol knows no TLS, so the server must be on this machine or in a private network.
//! Not implemented: discovery, `describe`.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Settings;
use super::driver::{Got, Interface, Protocol, Wire};
use crate::config::is_near;
use crate::gemini::live::provider::Provider;
use crate::model::{Fault, FaultClass, Fut, Stage};
use crate::pcm::RATE;
use crate::pcm::resample::StreamResampler;
use crate::privacy::Secret;
use crate::websocket::{Broken, Message};

/// Samples a second that recognisers want; sent so, none has to convert.
const HEARS: u32 = 16_000;
/// Sound of one event, at 16 kHz: 40 ms.
const PIECE_SAMPLES: usize = 640;
/// Longest header line, data or payload.
const LONGEST_BYTES: usize = 1 << 20;

/// A Wyoming server.
#[derive(Debug)]
pub struct Wyoming {
    address: String,
    provider: Provider,
    settings: Settings,
}

impl Wyoming {
    pub(super) fn new(address: String, settings: Settings) -> Self {
        Self { address, provider: Provider { name: "wyoming".into(), key: Secret::new("") }, settings }
    }
}

impl Interface for Wyoming {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn connect(&self) -> Fut<'_, Result<Wire, Broken>> {
        let network = |error: std::io::Error| Broken::Network(error.to_string());
        Box::pin(async move {
            let connecting = async {
                let found: Vec<_> = tokio::net::lookup_host(&self.address).await.map_err(network)?.collect();
                let near: Vec<_> = found.into_iter().filter(|address| is_near(address.ip())).collect();
                if near.is_empty() {
                    let note = "recogniser.address is outside of this network, and Wyoming is not encrypted";
                    return Err(Broken::Protocol(note.into()));
                }
                let stream = TcpStream::connect(&near[..]).await.map_err(network)?;
                stream.set_nodelay(true).map_err(network)?;
                Ok(Wire::Tcp(stream))
            };
            let limit = self.settings.connect;
            tokio::time::timeout(limit, connecting).await.unwrap_or(Err(Broken::Late { limit }))
        })
    }

    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(Transcribing {
            provider: self.provider.clone(),
            language: self.settings.language().map(|language| language.code()),
            decoder: Decoder::default(),
            resampler: StreamResampler::new(RATE, HEARS),
            pending: Vec::new(),
            words: String::new(),
            spent: false,
        })
    }
}

struct Transcribing {
    provider: Provider,
    language: Option<&'static str>,
    decoder: Decoder,
    resampler: StreamResampler,
    pending: Vec<i16>,
    /// Pieces of a text that is told while it is made.
    words: String,
    spent: bool,
}

/// An event: its header with the data, then its payload.
fn event(kind: &str, data: Value, payload: &[u8]) -> Message {
    let mut header = json!({"type": kind, "data": data});
    if !payload.is_empty() {
        header["payload_length"] = payload.len().into();
    }
    let mut bytes = header.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    Message::Binary(Bytes::from(bytes))
}

fn format() -> Value {
    json!({"rate": HEARS, "width": 2, "channels": 1})
}

impl Transcribing {
    fn flush(&mut self, out: &mut Vec<Message>) {
        for piece in self.pending.chunks(LONGEST_BYTES / 4) {
            let bytes: Vec<u8> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            out.push(event("audio-chunk", format(), &bytes));
        }
        self.pending.clear();
    }
}

impl Protocol for Transcribing {
    fn opening(&mut self, _: &mut Vec<Message>) {}

    fn greets(&self) -> bool {
        false
    }

    fn started(&mut self, out: &mut Vec<Message>) {
        let data = self.language.map_or_else(|| json!({}), |language| json!({"language": language}));
        out.extend([event("transcribe", data, &[]), event("audio-start", format(), &[])]);
    }

    fn audio(&mut self, samples: &[i16], out: &mut Vec<Message>) {
        self.resampler.push(samples, &mut self.pending);
        if self.pending.len() >= PIECE_SAMPLES {
            self.flush(out);
        }
    }

    fn ended(&mut self, out: &mut Vec<Message>) {
        self.resampler.finish(&mut self.pending);
        self.flush(out);
        out.push(event("audio-stop", json!({}), &[]));
        self.spent = true;
    }

    fn keep_alive(&self) -> Option<(Duration, Message)> {
        None
    }

    fn is_spent(&self) -> bool {
        self.spent
    }

    fn take(&mut self, message: &Message, out: &mut Vec<Got>) -> Result<(), Fault> {
        let odd = |note: &str| self.provider.fault(FaultClass::Protocol, Stage::Waiting, None, note);
        self.decoder.push(message.bytes());
        while let Some((kind, data)) = self.decoder.poll().map_err(odd)? {
            let text = data["text"].as_str().unwrap_or_default();
            match kind.as_str() {
                "transcript-chunk" => {
                    self.words += text;
                    out.push(Got::Interim(self.words.clone()));
                }
                "transcript" => {
                    let language = data["language"].as_str().map(str::to_owned);
                    out.extend([Got::Settled { text: text.to_owned(), language }, Got::Confirmed]);
                }
                "error" => {
                    let note = if text.is_empty() { "an error without words" } else { text };
                    return Err(self.provider.fault(FaultClass::Overloaded, Stage::Waiting, None, note));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads events from bytes that are cut anywhere. Data may stand in the header, behind it, or both.
#[derive(Default)]
struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next event: its type and data. Its payload is passed over.
    fn poll(&mut self) -> Result<Option<(String, Value)>, &'static str> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            return if self.bytes.len() > LONGEST_BYTES { Err("a header without an end") } else { Ok(None) };
        };
        let header: Value = serde_json::from_slice(&self.bytes[..end]).map_err(|_| "a header is not JSON")?;
        let length = |key: &str| match header.get(key) {
            None | Some(Value::Null) => Some(0),
            Some(length) => {
                length.as_u64().and_then(|length| usize::try_from(length).ok()).filter(|n| *n <= LONGEST_BYTES)
            }
        };
        let (Some(data), Some(payload)) = (length("data_length"), length("payload_length")) else {
            return Err("an event is too large");
        };
        let (data_at, payload_at) = (end + 1, end + 1 + data);
        if self.bytes.len() < payload_at + payload {
            return Ok(None);
        }
        let kind = header["type"].as_str().ok_or("an event has no type")?.to_owned();
        let mut merged = header["data"].clone();
        if data > 0 {
            let more: Value =
                serde_json::from_slice(&self.bytes[data_at..payload_at]).map_err(|_| "data is not JSON")?;
            match (merged.as_object_mut(), more) {
                (Some(merged), Value::Object(more)) => merged.extend(more),
                (_, more) => merged = more,
            }
        }
        self.bytes.drain(..payload_at + payload);
        Ok(Some((kind, merged)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_they_are_cut_and_in_both_forms() {
        let bytes = [
            &b"{\"type\":\"audio-chunk\",\"data\":{\"rate\":16000},\"payload_length\":3}\n\n{x"[..],
            b"{\"type\":\"transcript\",\"version\":\"1.5\",\"data_length\":15}\n{\"text\": \"yes\"}",
            b"{\"type\":\"transcript\",\"data\":{\"text\":\"no\"}}\n",
        ]
        .concat();
        let wanted = [("audio-chunk", None), ("transcript", Some("yes")), ("transcript", Some("no"))];
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                decoder.push(piece);
                while let Some((kind, data)) = decoder.poll().unwrap() {
                    read.push((kind, data["text"].as_str().map(str::to_owned)));
                }
            }
            let read: Vec<_> = read.iter().map(|(kind, text)| (kind.as_str(), text.as_deref())).collect();
            assert_eq!(read, wanted, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_event_or_too_large_is_an_error() {
        for odd in [
            "nonsense\n",
            "{}\n",
            "{\"type\":\"x\",\"payload_length\":-1}\n",
            "{\"type\":\"x\",\"data_length\":99999999}\n",
        ] {
            let mut decoder = Decoder::default();
            decoder.push(odd.as_bytes());
            assert!(decoder.poll().is_err(), "{odd}");
        }
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; LONGEST_BYTES + 1]);
        assert!(decoder.poll().is_err());
    }

    #[test]
    fn voices_leave_this_network_only_encrypted() {
        for near in ["127.0.0.1", "192.168.1.5", "10.0.0.1", "::1", "fd00::1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "2001:4860::1", "172.32.0.1"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
