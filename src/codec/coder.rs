//! Coders with the memory that a codec has from payload to payload. Allocate nothing, panic on no input.
//!
//! G.722 is `audio-codec`'s, whose decoder is bit exact with ffmpeg's once the state that it begins in is forgotten, after half a second.

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

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::pcm::{FRAME_SAMPLES, RATE, level, tone, wav};

    /// Speech with sibilants, and what ffmpeg 5.1 made of it: `ffmpeg -i wideband.wav -acodec g722 -f g722 wideband.g722`.
    const SPEECH: &[u8] = include_bytes!("../../tests/data/wideband.wav");
    const BY_FFMPEG: &[u8] = include_bytes!("../../tests/data/wideband.g722");
    /// `ffmpeg -f g722 -i wideband.g722 -f s16le - | tail -c +16001 | sha256sum`.
    /// The crate's decoder begins in another state, which is forgotten within half a second; until then they differ by 104 at most.
    const DECODED_BY_FFMPEG: &str = "e225557f02f770155a444be19f50626e5f2848d51c32e4df191fa43d622c6216";

    fn decoded(codec: Codec, payloads: &[u8]) -> Vec<i16> {
        let (mut decoder, mut sound) = (HouseDecoder::new(), Vec::new());
        for payload in payloads.chunks(160) {
            let mut frame = [0; FRAME_SAMPLES];
            let length = decoder.decode(codec, payload, &mut frame);
            sound.extend(&frame[..length]);
        }
        sound
    }

    fn encoded(codec: Codec, sound: &[i16]) -> Vec<u8> {
        let (mut encoder, mut payloads) = (Encoder::new(), Vec::new());
        for frame in sound.chunks(FRAME_SAMPLES) {
            let mut payload = [0; 160];
            let length = encoder.encode(codec, frame, &mut payload);
            payloads.extend(&payload[..length]);
        }
        payloads
    }

    /// How far the noise is below the sound, in dB, when `heard` comes `delay` samples later.
    fn snr(said: &[i16], heard: &[i16], delay: usize) -> f32 {
        let noise: Vec<i16> = said.iter().zip(&heard[delay..]).map(|(a, b)| a.saturating_sub(*b)).collect();
        level::rms_dbfs(&said[..noise.len()]) - level::rms_dbfs(&noise)
    }

    #[test]
    fn g722_is_decoded_as_ffmpeg_decodes_it_to_the_bit_once_its_beginning_is_forgotten() {
        let bytes: Vec<u8> = decoded(Codec::G722, BY_FFMPEG).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes[16_000..]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, DECODED_BY_FFMPEG);
    }

    #[test]
    fn g722_is_encoded_no_worse_than_by_ffmpeg() {
        let speech = wav::read(SPEECH).unwrap();
        assert_eq!(speech.rate, RATE);
        // Both quadrature mirror filters together.
        const DELAY: usize = 22;
        let ours = snr(&speech.samples, &decoded(Codec::G722, &encoded(Codec::G722, &speech.samples)), DELAY);
        let theirs = snr(&speech.samples, &decoded(Codec::G722, BY_FFMPEG), DELAY);
        assert!(theirs > 15.0 && ours > theirs - 0.2, "{ours} dB, ffmpeg {theirs} dB");
    }

    #[test]
    fn a_wide_codec_carries_what_a_narrow_one_does_not() {
        let tone = tone::sine(6000.0, -12.0, RATE as usize);
        assert!(tone::share_of(6000.0, &decoded(Codec::G722, &encoded(Codec::G722, &tone))) > 0.95);
        assert!(level::rms_dbfs(&decoded(Codec::Pcmu, &encoded(Codec::Pcmu, &tone))[800..]) < -60.0);
    }

    #[test]
    fn any_bytes_are_sound_and_no_room_is_overrun() {
        let mut random = fastrand::Rng::with_seed(722);
        let (mut decoder, mut encoder) = (HouseDecoder::new(), Encoder::new());
        for _ in 0..2000 {
            let codec = Codec::ALL[random.usize(..Codec::ALL.len())];
            let payload: Vec<u8> = (0..random.usize(..1500)).map(|_| random.u8(..)).collect();
            let mut out = vec![0; random.usize(..2000)];
            assert!(decoder.decode(codec, &payload, &mut out) <= out.len());
            let sound: Vec<i16> = (0..random.usize(..=FRAME_SAMPLES)).map(|_| random.i16(..)).collect();
            let mut room = vec![0; random.usize(..200)];
            assert!(encoder.encode(codec, &sound, &mut room) <= room.len());
        }
    }
}
