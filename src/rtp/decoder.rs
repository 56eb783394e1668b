//! From payloads to samples, in order: the one place of the receiving side that knows how a codec counts time.
//!
//! G.711 has no memory and one byte a timestamp unit and sample. A codec with memory keeps it here; packets come in the order of their
//! sequence, and one that is lost does not come.

use crate::codec::Codec;

/// Decodes the packets of one source to one sample rate.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    rate: u32,
}

impl Decoder {
    /// Makes samples at `rate` a second.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate }
    }

    /// How long a payload lasts, in timestamp units.
    pub(super) fn units(&self, codec: Codec, payload: &[u8]) -> u32 {
        match codec {
            Codec::Pcmu | Codec::Pcma => payload.len() as u32,
        }
    }

    /// Samples that `units` of the timestamp last.
    pub(super) fn samples(&self, codec: Codec, units: u32) -> usize {
        (u64::from(units) * u64::from(self.rate) / u64::from(codec.clock_rate())) as usize
    }

    /// Decodes the next packet into `out`, which has room for it.
    pub(super) fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut [i16]) {
        codec.decode(payload, out);
    }
}
