//! Coders with the memory that a codec has from payload to payload. Allocate nothing, panic on no input.
//!
//! G.722 is `audio-codec`'s, whose decoder is bit exact with ffmpeg's once the state that it begins in is forgotten, after half a second.
//! Opus is libopus.

use std::fmt;

use audio_codec::g722::{G722Decoder, G722Encoder};
use audio_codec::{Decoder as _, Encoder as _};

use super::g711::Law;
use super::{Codec, opus};
use crate::pcm::half_band::{Doubler, Halver};
use crate::pcm::{FRAME_SAMPLES, telephone};

/// Payloads of one source into sound, at the rate of the codec. Packets come in the order of their sequence; one that is lost does not come,
/// and may be told of by [`Self::conceal`].
#[derive(Default)]
pub struct Decoder {
    g722: G722Decoder,
    /// Only where it was asked for: it takes memory.
    opus: Option<opus::Decoder>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder that has heard nothing, for all codecs that need no preparation, and for `codec`.
    pub fn new(codec: Codec) -> Self {
        let mut decoder = Self::default();
        decoder.prepare(codec);
        decoder
    }

    /// Makes what decoding `codec` takes. Allocates for Opus; unless this was done, nothing is heard in it.
    pub fn prepare(&mut self, codec: Codec) {
        if matches!(codec, Codec::Opus(_)) && self.opus.is_none() {
            self.opus = opus::Decoder::new();
        }
    }

    /// Forgets what it has heard.
    pub fn reset(&mut self) {
        self.g722 = G722Decoder::default();
        if let Some(opus) = &mut self.opus {
            opus.reset();
        }
    }

    /// How long a payload lasts, in timestamp units; 0 when it is none of the codec.
    pub fn units(codec: Codec, payload: &[u8]) -> u32 {
        match codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len() as u32,
            Codec::Opus(_) => opus::units(payload),
        }
    }

    /// Whether it conceals by itself what does not come in `codec`, and how many samples it then makes in place of `samples`: as many or a few
    /// more.
    pub fn concealable(&self, codec: Codec, samples: usize) -> Option<usize> {
        let able = matches!(codec, Codec::Opus(_)) && self.opus.is_some();
        able.then(|| opus::Decoder::whole_steps(samples))
    }

    /// Fills `out`, of a length that [`Self::concealable`] gave, in place of what did not come. `next` is the payload behind it, if that came.
    pub fn conceal(&mut self, next: Option<&[u8]>, out: &mut [i16]) {
        if let Some(opus) = &mut self.opus {
            opus.conceal(next, out);
        }
    }

    /// Decodes the next payload into `out`, as far as it has room; returns how many samples were written, at [`Codec::rate`].
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut [i16]) -> usize {
        match codec {
            Codec::Pcmu => Law::Mu.decode(payload, out),
            Codec::Pcma => Law::A.decode(payload, out),
            Codec::G722 => {
                let fitting = payload.len().min(out.len() / 2);
                self.g722.decode_into(&payload[..fitting], out).unwrap_or(0)
            }
            Codec::Opus(_) => self.opus.as_mut().map_or(0, |opus| opus.decode(payload, out)),
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
    /// A decoder that has heard nothing, for all codecs that need no preparation, and for `codec`.
    pub fn new(codec: Codec) -> Self {
        Self { decoder: Decoder::new(codec), doubler: Doubler::default() }
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
    /// Only where it was asked for: it takes memory.
    opus: Option<opus::Encoder>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder that has said nothing, for all codecs that need no preparation, and for `codec`. Allocates for Opus; in an encoder that was
    /// not made for it nothing is said in it.
    pub fn new(codec: Codec) -> Self {
        let mut encoder = Self::default();
        encoder.prepare(codec);
        encoder
    }

    /// Makes what encoding `codec` takes. Allocates for Opus.
    pub fn prepare(&mut self, codec: Codec) {
        if let Codec::Opus(format) = codec
            && self.opus.is_none()
        {
            self.opus = opus::Encoder::new(format);
        }
    }

    /// Encodes the next sound, at most [`LONGEST_SOUND`] samples at 16 kHz, into `payload`, as far as it has room; returns how many bytes were
    /// written. Opus takes 10, 20, 40 or 60 ms and room for all.
    pub fn encode(&mut self, codec: Codec, sound: &[i16], payload: &mut [u8]) -> usize {
        if let Codec::Opus(format) = codec {
            let Some(opus) = &mut self.opus else { return 0 };
            opus.set_format(format);
            return opus.encode(sound, payload);
        }
        let Some(law) = codec.law() else {
            let fitting = (sound.len() / 2).min(payload.len());
            return self.g722.encode_into(&sound[..2 * fitting], payload).unwrap_or(0);
        };
        let mut narrow = [0; LONGEST_SOUND / 2];
        let narrow = &mut narrow[..(sound.len() / 2).min(LONGEST_SOUND / 2)];
        self.halver.halve(sound, narrow);
        law.encode(narrow, payload)
    }
}

/// 60 ms at 16 kHz: what a packet holds at most.
pub const LONGEST_SOUND: usize = 3 * FRAME_SAMPLES;

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::pcm::{RATE, level, tone, wav};

    /// Speech with sibilants, and what ffmpeg 5.1 made of it: `ffmpeg -i wideband.wav -acodec g722 -f g722 wideband.g722`.
    const SPEECH: &[u8] = include_bytes!("../../tests/data/wideband.wav");
    const BY_FFMPEG: &[u8] = include_bytes!("../../tests/data/wideband.g722");
    /// `ffmpeg -f g722 -i wideband.g722 -f s16le - | tail -c +16001 | sha256sum`.
    /// The crate's decoder begins in another state, which is forgotten within half a second; until then they differ by 104 at most.
    const DECODED_BY_FFMPEG: &str = "e225557f02f770155a444be19f50626e5f2848d51c32e4df191fa43d622c6216";

    fn decoded(codec: Codec, payloads: &[u8]) -> Vec<i16> {
        let (mut decoder, mut sound) = (HouseDecoder::new(codec), Vec::new());
        for payload in payloads.chunks(160) {
            let mut frame = [0; FRAME_SAMPLES];
            let length = decoder.decode(codec, payload, &mut frame);
            sound.extend(&frame[..length]);
        }
        sound
    }

    fn encoded(codec: Codec, sound: &[i16]) -> Vec<u8> {
        let (mut encoder, mut payloads) = (Encoder::new(codec), Vec::new());
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
        let opus = Codec::named("opus").unwrap();
        let (mut decoder, mut encoder) = (HouseDecoder::new(opus), Encoder::new(opus));
        for _ in 0..2000 {
            let codec = Codec::ALL[random.usize(..Codec::ALL.len())];
            let payload: Vec<u8> = (0..random.usize(..1500)).map(|_| random.u8(..)).collect();
            let mut out = vec![0; random.usize(..2000)];
            assert!(decoder.decode(codec, &payload, &mut out) <= out.len());
            let sound: Vec<i16> = (0..random.usize(..=LONGEST_SOUND)).map(|_| random.i16(..)).collect();
            let mut room = vec![0; random.usize(..200)];
            assert!(encoder.encode(codec, &sound, &mut room) <= room.len());
        }
    }
}
