//! G.711 (ITU-T), the companding laws of the telephone: one byte a sample, 8000 samples a second, no memory.
//!
//! The companding itself is `audio-codec-algorithms`, bit exact with G.191.

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

/// A companding law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// µ-law.
    Mu,
    /// A-law.
    A,
}

impl Law {
    /// The byte that stands for no sound.
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mu => 0xff,
            Self::A => 0xd5,
        }
    }

    /// Decodes one byte a sample; returns how many samples were written (the shorter of both lengths).
    pub fn decode(self, payload: &[u8], samples: &mut [i16]) -> usize {
        let decode = match self {
            Self::Mu => decode_ulaw,
            Self::A => decode_alaw,
        };
        for (sample, &byte) in samples.iter_mut().zip(payload) {
            *sample = decode(byte);
        }
        payload.len().min(samples.len())
    }

    /// Encodes one byte a sample; returns how many bytes were written (the shorter of both lengths).
    pub fn encode(self, samples: &[i16], payload: &mut [u8]) -> usize {
        let encode = match self {
            Self::Mu => encode_ulaw,
            Self::A => encode_alaw,
        };
        for (byte, &sample) in payload.iter_mut().zip(samples) {
            *byte = encode(sample);
        }
        payload.len().min(samples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoding law of G.711 table 2, by formula.
    fn ulaw_value(code: u8) -> i16 {
        let code = !code;
        let magnitude = ((i32::from(code & 0x0f) * 2 + 33) << ((code >> 4) & 7)) - 33;
        (if code & 0x80 != 0 { -4 * magnitude } else { 4 * magnitude }) as i16
    }

    /// The decoding law of G.711 table 1, by formula.
    fn alaw_value(code: u8) -> i16 {
        let code = code ^ 0x55;
        let (segment, step) = ((code >> 4) & 7, i32::from(code & 0x0f) * 2 + 1);
        let magnitude = if segment == 0 { step } else { (step + 32) << (segment - 1) } * 8;
        (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16
    }

    /// The compression of G.191 `ulaw_compress`: 14 bits, ones' complement for negative numbers.
    fn ulaw_code(sample: i16) -> u8 {
        let fourteen = sample >> 2;
        let biased = i32::from(if fourteen < 0 { !fourteen } else { fourteen }) + 33;
        let biased = biased.min(0x1fff);
        let segment = (0..8).rev().find(|n| biased >> (n + 5) != 0).unwrap_or(0);
        let code = (segment << 4) as u8 | (biased >> (segment + 1) & 0x0f) as u8;
        !(code | if sample < 0 { 0x80 } else { 0 })
    }

    /// The compression of G.191 `alaw_compress`: 11 bits and sign, ones' complement for negative numbers.
    fn alaw_code(sample: i16) -> u8 {
        let eleven = i32::from((if sample < 0 { !sample } else { sample }) >> 4);
        let code = if eleven < 32 {
            eleven as u8
        } else {
            let segment = (1..8).rev().find(|n| eleven >> (n + 3) != 0).unwrap_or(1);
            (segment << 4) as u8 | (eleven >> (segment - 1) & 0x0f) as u8
        };
        (code | if sample >= 0 { 0x80 } else { 0 }) ^ 0x55
    }

    #[test]
    fn every_code_decodes_as_the_recommendation_says() {
        for code in 0..=255u8 {
            let mut sample = [0];
            assert_eq!(Law::Mu.decode(&[code], &mut sample), 1);
            assert_eq!(sample[0], ulaw_value(code), "µ-law {code:#x}");
            Law::A.decode(&[code], &mut sample);
            assert_eq!(sample[0], alaw_value(code), "A-law {code:#x}");
        }
    }

    #[test]
    fn every_sample_encodes_as_the_recommendation_says() {
        for sample in i16::MIN..=i16::MAX {
            let mut code = [0];
            assert_eq!(Law::Mu.encode(&[sample], &mut code), 1);
            assert_eq!(code[0], ulaw_code(sample), "µ-law {sample}");
            Law::A.encode(&[sample], &mut code);
            assert_eq!(code[0], alaw_code(sample), "A-law {sample}");
        }
    }

    #[test]
    fn the_shorter_side_limits_both_directions() {
        let mut samples = [7; 3];
        assert_eq!(Law::Mu.decode(&[0xff; 5], &mut samples), 3);
        assert_eq!(Law::A.decode(&[0xd5; 2], &mut samples), 2);
        let mut bytes = [0; 4];
        assert_eq!(Law::Mu.encode(&[0; 9], &mut bytes), 4);
    }

    #[test]
    fn silence_is_what_silence_encodes_to() {
        for law in [Law::Mu, Law::A] {
            let mut byte = [0];
            law.encode(&[0], &mut byte);
            assert_eq!(byte[0], law.silence());
        }
    }
}
