//! From the body of an answer, as it arrives, to samples: the sound itself, or base64 in JSON or in events.
//!
//! Events are those of `text/event-stream` (WHATWG HTML §9.2) as far as voices send them: `data:` lines, closed by an empty line.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::config::{AnswerForm, Coding, JsonSound};
use crate::tts::stream::Reader;

use super::fault::NetworkFaultKind;

/// The longest phrase at 48 kHz in base64, and something.
const MAX_JSON: usize = 9 << 20;

/// What is wrong with a body: the kind of failure, and what was seen.
pub(super) type Wrong = (NetworkFaultKind, String);

/// A body that arrives in parts.
pub(super) struct Body {
    place: Place,
    /// Made when the coding is known.
    reader: Option<Reader>,
}

enum Place {
    Whole,
    Json { pointer: String, sound: JsonSound, bytes: Vec<u8> },
    Sse { pointer: String, sound: JsonSound, line: Vec<u8>, data: Vec<u8>, seen: bool },
}

impl Body {
    /// A body of this media type where `form` was expected, or `events` if it is a stream of events.
    pub fn new(form: &AnswerForm, events: Option<&AnswerForm>, content_type: Option<&str>) -> Result<Self, Wrong> {
        let media = Media::of(content_type.unwrap_or_default());
        let form = match (form, events, &media) {
            (AnswerForm::Body(_), Some(events), Media::Events) => events,
            _ => form,
        };
        Ok(match form {
            AnswerForm::Body(expected) => {
                let coding = match media {
                    Media::Unknown => *expected,
                    Media::Sound(coding) => coding,
                    Media::Rate(rate) => match expected {
                        Coding::Raw { rate: usual } => Coding::Raw { rate: rate.unwrap_or(*usual) },
                        _ => rate.map_or(*expected, |rate| Coding::Raw { rate }),
                    },
                    Media::Events | Media::Json | Media::Other => {
                        return Err(not_sound(format!("an answer of type {}", content_type.unwrap_or_default())));
                    }
                };
                Self { place: Place::Whole, reader: Some(Reader::new(coding)) }
            }
            AnswerForm::Json { pointer, sound } => {
                let place = Place::Json { pointer: pointer.clone(), sound: sound.clone(), bytes: Vec::new() };
                Self { place, reader: None }
            }
            AnswerForm::Sse { pointer, sound } => {
                let (line, data) = (Vec::new(), Vec::new());
                let place = Place::Sse { pointer: pointer.clone(), sound: sound.clone(), line, data, seen: false };
                Self { place, reader: None }
            }
        })
    }

    /// Takes bytes of the body, appends to `out` the samples that they complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<i16>) -> Result<(), Wrong> {
        match &mut self.place {
            Place::Whole => return sound(self.reader.as_mut(), bytes, out),
            Place::Json { bytes: body, .. } => {
                if body.len() + bytes.len() > MAX_JSON {
                    return Err((NetworkFaultKind::TooLong, String::new()));
                }
                body.extend_from_slice(bytes);
            }
            Place::Sse { pointer, sound: coded, line, data, seen } => {
                for &byte in bytes {
                    if !matches!(byte, b'\n' | b'\r') {
                        line.push(byte);
                        if line.len() + data.len() > MAX_JSON {
                            return Err((NetworkFaultKind::TooLong, String::new()));
                        }
                        continue;
                    }
                    // Of CR LF the LF ends an empty line, which would end the event too early: only behind a line it is none.
                    if byte == b'\n' && std::mem::replace(seen, false) && line.is_empty() {
                        continue;
                    }
                    *seen = byte == b'\r';
                    if line.is_empty() {
                        event(data, pointer, coded, &mut self.reader, out)?;
                        data.clear();
                    } else {
                        field(line, data);
                        line.clear();
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends the last samples.
    pub fn finish(mut self, out: &mut Vec<i16>) -> Result<(), Wrong> {
        match &mut self.place {
            Place::Whole => {}
            Place::Json { pointer, sound: coded, bytes } => {
                let json: Value = serde_json::from_slice(bytes).map_err(|error| not_sound(error.to_string()))?;
                if !piece(&json, pointer, coded, &mut self.reader, out)? {
                    return Err(not_sound(format!("there is no string at {pointer}")));
                }
            }
            Place::Sse { pointer, sound: coded, line, data, .. } => {
                field(line, data);
                event(data, pointer, coded, &mut self.reader, out)?;
            }
        }
        match &mut self.reader {
            Some(reader) => reader.finish(out).map_err(|error| not_sound(error.to_string())),
            None => Ok(()),
        }
    }
}

/// What a media type says of the sound.
enum Media {
    Sound(Coding),
    /// Samples, with their rate if it is told.
    Rate(Option<u32>),
    Events,
    Json,
    /// A page, or sound that nobody here can read.
    Other,
    Unknown,
}

impl Media {
    fn of(content_type: &str) -> Self {
        let lower = content_type.to_ascii_lowercase();
        let (kind, parameters) = lower.split_once(';').unwrap_or((&lower, ""));
        match kind.trim() {
            "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => Self::Sound(Coding::Wav),
            "audio/l16" | "audio/pcm" | "audio/x-pcm" | "audio/raw" => Self::Rate(rate(parameters)),
            "text/event-stream" => Self::Events,
            "application/json" | "application/problem+json" => Self::Json,
            "text/html" | "text/plain" | "audio/mpeg" | "audio/mp3" | "audio/ogg" | "audio/opus" | "audio/flac"
            | "audio/aac" => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// The rate among the parameters of a media type: `codec=pcm;rate=24000`.
fn rate(parameters: &str) -> Option<u32> {
    let value = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("rate="))?;
    value.trim_matches('"').parse().ok().filter(|rate| (4000..=192_000).contains(rate))
}

fn not_sound(note: String) -> Wrong {
    (NetworkFaultKind::NotSound, note)
}

fn sound(reader: Option<&mut Reader>, bytes: &[u8], out: &mut Vec<i16>) -> Result<(), Wrong> {
    reader.map_or(Ok(()), |reader| reader.push(bytes, out).map_err(|error| not_sound(error.to_string())))
}

/// A line of an event: only data count. A bare object is an error inside a success.
fn field(line: &[u8], data: &mut Vec<u8>) {
    if let Some(value) = line.strip_prefix(b"data:") {
        data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    } else if line.starts_with(b"{") {
        data.extend_from_slice(line);
    }
}

fn event(
    data: &[u8],
    pointer: &str,
    coded: &JsonSound,
    reader: &mut Option<Reader>,
    out: &mut Vec<i16>,
) -> Result<(), Wrong> {
    if data.is_empty() || data == b"[DONE]" {
        return Ok(());
    }
    let json: Value = serde_json::from_slice(data).map_err(|error| not_sound(error.to_string()))?;
    if !piece(&json, pointer, coded, reader, out)?
        && let Some(error) = json.get("error")
    {
        let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let kind = code.map_or(NetworkFaultKind::Broken, |code| super::NetworkFault::kind_of(code, None));
        let said = error.get("message").and_then(Value::as_str).unwrap_or("an error inside of the answer");
        return Err((kind, said.to_owned()));
    }
    Ok(())
}

/// The sound of one JSON text; false when there is none in it.
fn piece(
    json: &Value,
    pointer: &str,
    coded: &JsonSound,
    reader: &mut Option<Reader>,
    out: &mut Vec<i16>,
) -> Result<bool, Wrong> {
    let Some(text) = json.pointer(pointer).and_then(Value::as_str) else { return Ok(false) };
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| not_sound(format!("no base64 at {pointer}: {error}")))?;
    if reader.is_none() {
        let coding = match coded {
            JsonSound::Coding(coding) => *coding,
            JsonSound::MimeAt(at) => {
                let mime = json.pointer(at).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
                match (Media::of(&mime), rate(mime.split_once(';').map_or("", |(_, parameters)| parameters))) {
                    (Media::Sound(coding), _) => coding,
                    (_, Some(rate)) => Coding::Raw { rate },
                    _ => return Err(not_sound(format!("no rate in the media type at {at}"))),
                }
            }
        };
        *reader = Some(Reader::new(coding));
    }
    sound(reader.as_mut(), &bytes, out)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::wav;

    fn read(form: &str, content_type: &str, body: &[u8], step: usize) -> Result<Vec<i16>, Wrong> {
        let form: AnswerForm = form.parse().unwrap();
        let events = "sse:/audio raw:16000".parse().unwrap();
        let mut answer = Body::new(&form, Some(&events), Some(content_type))?;
        let mut out = Vec::new();
        for bytes in body.chunks(step) {
            answer.push(bytes, &mut out)?;
        }
        answer.finish(&mut out)?;
        Ok(out)
    }

    fn raw(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    #[test]
    fn every_form_gives_the_same_samples_however_the_bytes_are_cut() {
        let samples: Vec<i16> = (0..700).map(|n| (n * 41 % 3001) as i16).collect();
        let file = wav::write(16000, 1, &samples);
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let (one, two) = samples.split_at(333);
        let events = |end: &str| {
            let part = |samples| format!("event: x{end}data: {{\"audio\":\"{}\"}}{end}{end}", base64(&raw(samples)));
            format!(": hi{end}{end}{}{}data: [DONE]{end}{end}", part(one), part(two)).into_bytes()
        };
        let unended = format!("data:{{\"audio\":\"{}\"}}", base64(&raw(&samples))).into_bytes();
        let mime = |mime: &str| {
            let part = |samples| format!("{{\"data\":\"{}\",\"mime\":\"{mime}\"}}", base64(&raw(samples)));
            format!("data: {}\n\ndata: {{}}\n\ndata: {}\n\n", part(one), part(two)).into_bytes()
        };
        let json = format!("{{\"audioContent\":\"{}\"}}", base64(&file)).into_bytes();
        for (form, content_type, body) in [
            ("raw:16000", "audio/pcm", raw(&samples)),
            ("raw:24000", "audio/pcm;rate=16000", raw(&samples)),
            ("raw:24000", "audio/wav", file.clone()),
            ("raw:24000", "application/octet-stream", file.clone()),
            ("wav", "", file.clone()),
            ("raw:24000", "text/event-stream", events("\n")),
            ("raw:24000", "text/event-stream", events("\r\n")),
            ("raw:24000", "text/event-stream; charset=utf-8", events("\r")),
            ("sse:/audio raw:16000", "text/event-stream", unended),
            ("sse:/data mime:/mime", "text/event-stream", mime("audio/L16;codec=pcm;rate=16000")),
            ("json:/audioContent wav", "application/json; charset=UTF-8", json),
        ] {
            for step in [1, 2, 7, 100, usize::MAX] {
                assert!(read(form, content_type, &body, step).unwrap() == samples, "{form} {content_type} {step}");
            }
        }
    }

    #[test]
    fn companded_sound_is_expanded() {
        let constant = |form: &str, byte: u8| read(form, "", &[byte; 800], 7).unwrap()[800];
        assert_eq!([0xff, 0x9f, 0x1f].map(|byte| constant("ulaw", byte)), [0, 8316, -8316]);
        assert_eq!([0xd5, 0xb5, 0x35].map(|byte| constant("alaw", byte)), [8, 8448, -8448]);
    }

    #[test]
    fn what_is_no_sound_is_told() {
        for (form, content_type, body) in [
            ("raw:16000", "text/html", &b"<html>"[..]),
            ("raw:16000", "application/json", b"{}"),
            ("wav", "audio/mpeg", b"ID3"),
            ("wav", "", b"Usage: voice"),
            ("json:/audioContent wav", "application/json", b"{\"audio\":1}"),
            ("json:/audioContent wav", "application/json", b"{\"audioContent\":\"***\"}"),
            ("json:/audioContent wav", "text/html", b"<html>"),
            ("sse:/audio raw:16000", "text/event-stream", b"data: {\n\n"),
        ] {
            let wrong = read(form, content_type, body, 3).unwrap_err();
            assert_eq!(wrong.0, NetworkFaultKind::NotSound, "{form} {content_type}");
        }
        let error = b"{\"error\":{\"code\":503,\"message\":\"overloaded\"}}";
        let wrong = read("sse:/audio raw:16000", "text/event-stream", error, 5).unwrap_err();
        assert_eq!(wrong, (NetworkFaultKind::Overloaded, "overloaded".into()));
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_taken(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), step in 1usize..50) {
            for form in ["wav", "raw:24000", "ulaw", "json:/a wav", "sse:/a raw:16000"] {
                let _ = read(form, "application/octet-stream", &body, step);
            }
        }
    }
}
