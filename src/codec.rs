//! Codecs of speech on the line: what stands for them in SDP and RTP, and what turns their payloads into sound and back.

mod coder;
pub mod g711;

pub use coder::{Decoder, Encoder, HouseDecoder};
use g711::Law;

/// An encoding of speech on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.722 at 64 kbit/s: the voice up to 7 kHz.
    G722,
    /// G.711 µ-law: North America, Japan, and the common ground of all VoIP.
    Pcmu,
    /// G.711 A-law: the rest of the world.
    Pcma,
}

impl Codec {
    /// All codecs, in order of our own preference.
    pub const ALL: [Self; 3] = [Self::G722, Self::Pcmu, Self::Pcma];

    /// The encoding name of RFC 3551, as it stands in `a=rtpmap`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// The static payload type of RFC 3551 table 4.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
        }
    }

    /// The codec of a static payload type.
    pub const fn from_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            _ => None,
        }
    }

    /// Timestamp units a second. That of G.722 is half its sampling rate, by an error that became the rule (RFC 3551 §4.5.2).
    pub const fn clock_rate(self) -> u32 {
        8000
    }

    /// Samples a second of its sound.
    pub const fn rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8000,
            Self::G722 => 16_000,
        }
    }

    /// Whether it carries more than the telephone band.
    pub const fn is_wide(self) -> bool {
        self.rate() > 8000
    }

    /// The companding law, if that is all it is.
    pub const fn law(self) -> Option<Law> {
        match self {
            Self::Pcmu => Some(Law::Mu),
            Self::Pcma => Some(Law::A),
            Self::G722 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_payload_types_are_those_of_rfc_3551() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
            assert_eq!(codec.clock_rate(), 8000);
            assert_eq!(codec.is_wide(), codec == Codec::G722);
        }
        assert_eq!(Codec::from_payload_type(18), None);
    }
}
