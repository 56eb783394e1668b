//! Coders with the memory that a codec has from payload to payload. Allocate nothing, panic on no input.
//!
//! G.722 is `audio-codec`'s, whose decoder is bit exact with ffmpeg's.

use std::fmt;

use audio_codec::g722::{G722Decoder, G722Encoder};
use audio_codec::{Decoder as _, Encoder as _};

use super::Codec;
use crate::pcm::half_band::{Doubler, Halver};
use crate::pcm::telephone;

/// Payloads of one source into sound, at the rate of the codec. Packets come in the order of their sequence; one that is lost does not come.
#[derive(Default)]
pub struct Decoder {
    g722: G722Decoder,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a payload lasts, in timestamp units.
    pub fn units(codec: Codec, payload: &[u8]) -> u32 {
        match codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len() as u32,
        }
    }

    /// Decodes the next payload into `out`, as far as it has room; returns how many samples were written, at [`Codec::rate`].
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut [i16]) -> usize {
        match (codec, codec.law()) {
            (_, Some(law)) => law.decode(payload, out),
            (_, None) => {
                let fitting = payload.len().min(out.len() / 2);
                self.g722.decode_into(&payload[..fitting], out).unwrap_or(0)
            }
        }
    }
}

/// Payloads of one source into sound at the house's rate, for a listener without a jitter buffer.
#[derive(Debug, Default)]
pub struct HouseDecoder {
    decoder: Decoder,
    doubler: Doubler,
}

impl HouseDecoder {
    /// A decoder that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the next payload, of 120 ms at most, into `out`, as far as it has room; returns how many samples were written.
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut [i16]) -> usize {
        if codec.is_wide() {
            return self.decoder.decode(codec, payload, out);
        }
        let mut narrow = [0; 6 * telephone::FRAME_SAMPLES];
        let room = narrow.len().min(out.len() / 2);
        let length = self.decoder.decode(codec, payload, &mut narrow[..room]);
        self.doubler.double(&narrow[..length], out);
        2 * length
    }
}

/// The house's sound into payloads of one source.
#[derive(Default)]
pub struct Encoder {
    halver: Halver,
    g722: G722Encoder,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder that has said nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the next sound, at most a frame of 20 ms at 16 kHz, into `payload`, as far as it has room; returns how many bytes were written.
    pub fn encode(&mut self, codec: Codec, sound: &[i16], payload: &mut [u8]) -> usize {
        match codec.law() {
            Some(law) => {
                let mut narrow = telephone::SILENCE;
                let narrow = &mut narrow[..(sound.len() / 2).min(telephone::FRAME_SAMPLES)];
                self.halver.halve(sound, narrow);
                law.encode(narrow, payload)
            }
            None => {
                let fitting = (sound.len() / 2).min(payload.len());
                self.g722.encode_into(&sound[..2 * fitting], payload).unwrap_or(0)
            }
        }
    }
}
