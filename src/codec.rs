//! Codecs of speech on the line: what stands for them in SDP and RTP, and what turns their payloads into sound and back.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod coder;
pub mod g711;
pub mod opus;

pub use coder::{Decoder, Encoder, HouseDecoder, LONGEST_SOUND};
use g711::Law;

use crate::pcm;

/// An encoding of speech on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.722 at 64 kbit/s: the voice up to 7 kHz.
    G722,
    /// G.711 µ-law: North America, Japan, and the common ground of all VoIP.
    Pcmu,
    /// G.711 A-law: the rest of the world.
    Pcma,
    /// Opus (RFC 6716), mono up to 8 kHz, as two sides agree on it (RFC 7587).
    Opus(opus::Format),
}

impl Codec {
    /// All codecs, in order of our own preference, as we offer them.
    pub const ALL: [Self; 4] = [Self::G722, Self::Opus(opus::Format::OURS), Self::Pcmu, Self::Pcma];

    /// The codec of this name, in letters of any case, as we offer it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is the same one, whatever payload type and parameters were agreed on.
    pub fn is_kind_of(self, other: Self) -> bool {
        self.name() == other.name()
    }

    /// The encoding name of RFC 3551, as it stands in `a=rtpmap`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::Opus(_) => "opus",
        }
    }

    /// The static payload type of RFC 3551 table 4, or the one that was agreed on.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
            Self::Opus(format) => format.payload_type,
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

    /// Timestamp units a second. That of G.722 is half its sampling rate, by an error that became the rule (RFC 3551 §4.5.2); that of Opus
    /// is the same whatever it carries (RFC 7587 §4.1).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8000,
            Self::Opus(_) => 48_000,
        }
    }

    /// Timestamp units of `time`.
    pub fn units(self, time: Duration) -> u32 {
        pcm::samples_at(self.clock_rate(), time) as u32
    }

    /// What stands behind the payload type in `a=rtpmap`.
    pub fn rtpmap(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU/8000",
            Self::Pcma => "PCMA/8000",
            Self::G722 => "G722/8000",
            Self::Opus(_) => "opus/48000/2",
        }
    }

    /// Samples a second of its sound.
    pub const fn rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8000,
            Self::G722 | Self::Opus(_) => 16_000,
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
            Self::G722 | Self::Opus(_) => None,
        }
    }
}

/// By its name; what was agreed on is not told.
impl Serialize for Codec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name().to_ascii_lowercase())
    }
}

/// By its name, as we offer it.
impl<'de> Deserialize<'de> for Codec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let known = Self::ALL.map(|codec| codec.name().to_ascii_lowercase()).join(", ");
            D::Error::custom(format!("{name:?} is no codec that is spoken; take some of {known}"))
        })
    }
}

/// Telephone events (RFC 4733) as two sides agree on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvents {
    /// Their payload type.
    pub payload_type: u8,
    /// Units of their durations a second: the clock rate of the codec, unless the far side knows no other than 8000.
    pub clock_rate: u32,
    /// Another payload type, whose durations count 8000 a second, that the far side may use as well.
    pub narrow: Option<u8>,
}

impl TelephoneEvents {
    /// The clock rate that durations of this payload type count, if it is one of theirs.
    pub fn clock_rate_of(self, payload_type: u8) -> Option<u32> {
        if payload_type == self.payload_type {
            return Some(self.clock_rate);
        }
        (self.narrow == Some(payload_type)).then_some(8000)
    }
}

impl From<u8> for TelephoneEvents {
    /// Of the clock rate that all had before Opus.
    fn from(payload_type: u8) -> Self {
        Self { payload_type, clock_rate: 8000, narrow: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_payload_types_are_those_of_rfc_3551() {
        for codec in [Codec::G722, Codec::Pcmu, Codec::Pcma] {
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
            assert_eq!(codec.clock_rate(), 8000);
            assert_eq!(codec.is_wide(), codec == Codec::G722);
        }
        assert_eq!(Codec::from_payload_type(18), None);
        assert_eq!(Codec::from_payload_type(opus::Format::OURS.payload_type), None);
    }

    #[test]
    fn units_are_those_of_the_clock() {
        let ptime = Duration::from_millis(20);
        for codec in Codec::ALL {
            let units = if codec.clock_rate() == 48_000 { 960 } else { 160 };
            assert_eq!(codec.units(ptime), units);
            assert!(codec.rtpmap().starts_with(&format!("{}/{}", codec.name(), codec.clock_rate())));
            assert_eq!(Codec::named(&codec.name().to_ascii_lowercase()), Some(codec));
        }
        assert_eq!(Codec::named("G729"), None);
    }
}
