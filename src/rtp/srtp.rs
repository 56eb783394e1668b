//! SRTP and SRTCP (RFC 3711) with AES in counter mode and HMAC-SHA1: one direction of one call, in place.
//!
//! ```text
//!  RTP  | header | payload, encrypted | MKI |                tag over header, payload and roll-over counter
//!  RTCP | 8 bytes | rest, encrypted | E, index | MKI |       tag over everything before the MKI
//! ```
//!
//! Nothing a packet says makes or changes state before its tag was found right: not the roll-over counter, not the replay window, not
//! the table of sources, which has a fixed size. Allocates nothing, not even when keys change. Keys come by SDES
//! ([`crate::sdp::crypto`]). Not implemented: other suites, key derivation rates other than 0, `<From, To>` keying.

use aes::Aes128Enc;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use thiserror::Error;

use super::packet::HEADER_BYTES;
use crate::sdp::crypto::{KeyParameters, MasterKey, SrtpKeys, Suite};

/// Room that a packet needs behind it for what is added: index, identifier and tag.
pub const MAX_TRAILER_BYTES: usize = INDEX_BYTES + 128 + 10;

/// The flag of encryption and the index of an SRTCP packet.
const INDEX_BYTES: usize = 4;
/// The part of an RTCP packet that is not encrypted: the first header and its SSRC.
const RTCP_HEADER_BYTES: usize = 8;
/// How far behind the newest packet of its source one may come (at least 64, RFC 3711 §3.3.2).
const WINDOW: u64 = 128;
/// Sources of one direction that are remembered. When one more proves itself, the one heard longest ago is forgotten, and with it which
/// of its packets were here.
const SOURCES: usize = 8;
/// Packets that one key is good for (RFC 3711 §9.2), and the number of indices.
const RTP_PACKETS: u64 = 1 << 48;
const RTCP_PACKETS: u64 = 1 << 31;

/// What is protected. The two have keys, indices and lifetimes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

/// Why a packet was not taken, or not protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// It is too short for what it must have, or its header is malformed; or there is no room for the tag.
    #[error("no SRTP packet: too short, or with a malformed header")]
    Malformed,
    /// Its tag is wrong: forged, damaged, or protected with another key.
    #[error("the authentication tag of an SRTP packet is wrong")]
    Forged,
    /// A packet of this index was here before, or is too old to tell.
    #[error("an SRTP packet came twice or too late")]
    Replayed,
    /// The key has served as many packets as it may.
    #[error("the lifetime of an SRTP key is over")]
    Expired,
}

/// What became of packets that were not taken, or not protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SrtpCounters {
    /// Too short, or with a malformed header.
    pub malformed: u64,
    /// With a wrong tag.
    pub forged: u64,
    /// Come twice or too late.
    pub replayed: u64,
    /// Come after the key's lifetime.
    pub expired: u64,
}

impl SrtpCounters {
    fn count<T>(&mut self, outcome: Result<T, SrtpError>) -> Result<T, SrtpError> {
        match outcome {
            Ok(_) => {}
            Err(SrtpError::Malformed) => self.malformed += 1,
            Err(SrtpError::Forged) => self.forged += 1,
            Err(SrtpError::Replayed) => self.replayed += 1,
            Err(SrtpError::Expired) => self.expired += 1,
        }
        outcome
    }
}

/// Takes the protection off what the peer sends.
pub struct Inbound {
    protocol: Protocol,
    current: Context,
    /// A new key; the old one is good until a packet proves that the peer uses this one.
    next: Option<Context>,
    counters: SrtpCounters,
}

impl Inbound {
    /// With the key that the peer sends with.
    pub fn new(protocol: Protocol, keys: &SrtpKeys) -> Self {
        let current = Context::new(protocol, keys.suite, keys.remote);
        Self { protocol, current, next: None, counters: SrtpCounters::default() }
    }

    /// Takes new keys; the same ones again change nothing.
    pub fn rekey(&mut self, keys: &SrtpKeys) {
        if self.current.is_of(keys.suite, &keys.remote) {
            self.next = None;
        } else if !self.next.as_ref().is_some_and(|next| next.is_of(keys.suite, &keys.remote)) {
            self.next = Some(Context::new(self.protocol, keys.suite, keys.remote));
        }
    }

    /// Checks a packet and decrypts it in place; its length without protection.
    ///
    /// # Errors
    /// What is wrong with it; counted as well. The bytes are as they were.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        if let Some(next) = &mut self.next
            && let Ok(length) = next.unprotect(self.protocol, packet, &self.current.sources)
        {
            if let Some(next) = self.next.take() {
                self.current = next;
            }
            return Ok(length);
        }
        self.counters.count(self.current.unprotect(self.protocol, packet, &Sources::default()))
    }

    /// What was not taken.
    pub fn counters(&self) -> SrtpCounters {
        self.counters
    }
}

/// Protects what we send.
pub struct Outbound {
    protocol: Protocol,
    context: Context,
    counters: SrtpCounters,
}

impl Outbound {
    /// With our own key.
    pub fn new(protocol: Protocol, keys: &SrtpKeys) -> Self {
        let context = Context::new(protocol, keys.suite, keys.local);
        Self { protocol, context, counters: SrtpCounters::default() }
    }

    /// Takes a new key; the same one again changes nothing. Indices go on (RFC 3711 §3.3.1).
    pub fn rekey(&mut self, keys: &SrtpKeys) {
        if !self.context.is_of(keys.suite, &keys.local) {
            let sources = self.context.sources;
            self.context = Context { sources, ..Context::new(self.protocol, keys.suite, keys.local) };
        }
    }

    /// Encrypts the packet of `length` bytes at the front of `buffer`, which needs [`MAX_TRAILER_BYTES`] more, and adds its tag; the
    /// length with both.
    ///
    /// # Errors
    /// Why it must not be sent; counted as well. `Replayed`: its index is not above those before, and what is encrypted twice under
    /// one index is not secret any more.
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        self.counters.count(self.context.protect(self.protocol, buffer, length))
    }

    /// What was not protected.
    pub fn counters(&self) -> SrtpCounters {
        self.counters
    }
}

/// Both directions of a call's RTP, or of its RTCP.
pub struct Protection {
    inbound: Inbound,
    outbound: Outbound,
}

impl Protection {
    /// With the keys that were agreed on.
    pub fn new(protocol: Protocol, keys: &SrtpKeys) -> Self {
        Self { inbound: Inbound::new(protocol, keys), outbound: Outbound::new(protocol, keys) }
    }

    /// What was agreed on anew, in place of what is in `protection`; `None` goes on without.
    pub fn renew(protection: &mut Option<Self>, protocol: Protocol, keys: Option<&SrtpKeys>) {
        match (protection, keys) {
            (Some(protection), Some(keys)) => {
                protection.inbound.rekey(keys);
                protection.outbound.rekey(keys);
            }
            (protection, keys) => *protection = keys.map(|keys| Self::new(protocol, keys)),
        }
    }

    /// As [`Inbound::unprotect`].
    ///
    /// # Errors
    /// As there.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        self.inbound.unprotect(packet)
    }

    /// As [`Outbound::protect`].
    ///
    /// # Errors
    /// As there.
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        self.outbound.protect(buffer, length)
    }

    /// What was not taken, and what was not sent.
    pub fn counters(&self) -> (SrtpCounters, SrtpCounters) {
        (self.inbound.counters(), self.outbound.counters())
    }
}

/// One master key at work.
struct Context {
    suite: Suite,
    parameters: KeyParameters,
    keys: DerivedKeys,
    tag_bytes: usize,
    packets: u64,
    lifetime: u64,
    sources: Sources,
}

impl Context {
    fn new(protocol: Protocol, suite: Suite, parameters: KeyParameters) -> Self {
        let (first_label, tag_bytes, most) = match protocol {
            Protocol::Rtp => (0, suite.rtp_tag_bytes(), RTP_PACKETS),
            Protocol::Rtcp => (3, suite.rtcp_tag_bytes(), RTCP_PACKETS),
        };
        Self {
            suite,
            parameters,
            keys: DerivedKeys::derive(&parameters.master, first_label),
            tag_bytes,
            packets: 0,
            lifetime: parameters.lifetime.map_or(most, |lifetime| lifetime.min(most)),
            sources: Sources::default(),
        }
    }

    fn is_of(&self, suite: Suite, parameters: &KeyParameters) -> bool {
        self.suite == suite && self.parameters == *parameters
    }

    fn mki_bytes(&self) -> usize {
        self.parameters.mki.map_or(0, |mki| usize::from(mki.bytes))
    }

    /// `kept`: where the sources stood under the key before this one.
    fn unprotect(&mut self, protocol: Protocol, packet: &mut [u8], kept: &Sources) -> Result<usize, SrtpError> {
        let tag_at = packet.len().checked_sub(self.tag_bytes).ok_or(SrtpError::Malformed)?;
        let signed = tag_at.checked_sub(self.mki_bytes()).ok_or(SrtpError::Malformed)?;
        let (body, trailer) = packet.split_at_mut(signed);
        let (mki, tag) = trailer.split_at(tag_at - signed);
        let (length, found) = match protocol {
            Protocol::Rtp => (signed, self.find_rtp(body, tag, kept)),
            Protocol::Rtcp => (signed.saturating_sub(INDEX_BYTES), self.find_rtcp(body, tag)),
        };
        let found = found?;
        // The identifier is not authenticated: only a packet whose tag is right says anything by it.
        if !self.is_mki(mki) {
            return Err(SrtpError::Forged);
        }
        if self.packets >= self.lifetime {
            return Err(SrtpError::Expired);
        }
        if found.encrypted {
            self.keys.crypt(found.ssrc, found.index, &mut body[found.clear..length]);
        }
        self.sources.took(found.ssrc, found.index);
        self.packets += 1;
        Ok(length)
    }

    fn find_rtp(&self, body: &[u8], tag: &[u8], kept: &Sources) -> Result<Found, SrtpError> {
        let (clear, ssrc, sequence) = rtp_header(body).ok_or(SrtpError::Malformed)?;
        let guesses = match (self.sources.of(ssrc), kept.of(ssrc)) {
            (Some(source), _) => {
                let index = index_near(source.highest, sequence).ok_or(SrtpError::Expired)?;
                if !source.is_fresh(index) {
                    return Err(SrtpError::Replayed);
                }
                [Some(index), None]
            }
            // A new key does not begin the count anew, but there are peers who do.
            (None, Some(source)) => [index_near(source.highest, sequence), Some(u64::from(sequence))],
            // A new source begins at 0, unless its first packets were lost and its sequence has wrapped since.
            (None, None) => [Some(u64::from(sequence)), Some(1 << 16 | u64::from(sequence))],
        };
        let is_right = |index: &u64| self.keys.is_signed(body, &roll_over(*index), tag);
        let index = guesses.into_iter().flatten().find(is_right).ok_or(SrtpError::Forged)?;
        Ok(Found { ssrc, index, clear, encrypted: true })
    }

    fn find_rtcp(&self, body: &[u8], tag: &[u8]) -> Result<Found, SrtpError> {
        let (packet, index) = body.split_last_chunk::<INDEX_BYTES>().ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_ssrc(packet).ok_or(SrtpError::Malformed)?;
        let word = u32::from_be_bytes(*index);
        let index = u64::from(word & 0x7fff_ffff);
        if self.sources.of(ssrc).is_some_and(|source| !source.is_fresh(index)) {
            return Err(SrtpError::Replayed);
        }
        if !self.keys.is_signed(body, &[], tag) {
            return Err(SrtpError::Forged);
        }
        Ok(Found { ssrc, index, clear: RTCP_HEADER_BYTES, encrypted: word >> 31 == 1 })
    }

    fn protect(&mut self, protocol: Protocol, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        let signed = if protocol == Protocol::Rtp { length } else { length.saturating_add(INDEX_BYTES) };
        let tag_at = signed.saturating_add(self.mki_bytes());
        let packet = buffer.get_mut(..tag_at.saturating_add(self.tag_bytes)).ok_or(SrtpError::Malformed)?;
        if self.packets >= self.lifetime {
            return Err(SrtpError::Expired);
        }
        let (ssrc, index) = match protocol {
            Protocol::Rtp => {
                let (clear, ssrc, sequence) = rtp_header(&packet[..length]).ok_or(SrtpError::Malformed)?;
                let index = match self.sources.of(ssrc) {
                    Some(source) => {
                        let index = index_near(source.highest, sequence).ok_or(SrtpError::Expired)?;
                        if index <= source.highest {
                            return Err(SrtpError::Replayed);
                        }
                        index
                    }
                    None => u64::from(sequence),
                };
                self.keys.crypt(ssrc, index, &mut packet[clear..length]);
                (ssrc, index)
            }
            Protocol::Rtcp => {
                let ssrc = rtcp_ssrc(&packet[..length]).ok_or(SrtpError::Malformed)?;
                let index = self.sources.of(ssrc).map_or(0, |source| source.highest + 1);
                if index >= RTCP_PACKETS {
                    return Err(SrtpError::Expired);
                }
                self.keys.crypt(ssrc, index, &mut packet[RTCP_HEADER_BYTES..length]);
                packet[length..signed].copy_from_slice(&(1 << 31 | index as u32).to_be_bytes());
                (ssrc, index)
            }
        };
        let (body, trailer) = packet.split_at_mut(signed);
        let (mki, tag) = trailer.split_at_mut(tag_at - signed);
        let value = self.parameters.mki.map_or(0, |mki| mki.value);
        mki.fill(0);
        for (byte, of) in mki.iter_mut().rev().zip(value.to_le_bytes()) {
            *byte = of;
        }
        let counter = roll_over(index);
        self.keys.sign(body, if protocol == Protocol::Rtp { &counter } else { &[] }, tag);
        self.sources.took(ssrc, index);
        self.packets += 1;
        Ok(packet.len())
    }

    fn is_mki(&self, bytes: &[u8]) -> bool {
        let value = self.parameters.mki.map_or(0, |mki| mki.value).to_le_bytes();
        bytes.iter().rev().enumerate().all(|(n, byte)| *byte == value.get(n).copied().unwrap_or(0))
    }
}

/// A packet whose tag is right.
struct Found {
    ssrc: u32,
    index: u64,
    /// So many bytes at its beginning are not encrypted.
    clear: usize,
    encrypted: bool,
}

/// What is derived from a master key for RTP or for RTCP (RFC 3711 §4.3).
struct DerivedKeys {
    cipher: Aes128Enc,
    /// With two zero bytes behind it: the first counter block.
    salt: [u8; 16],
    hmac: Hmac<Sha1>,
}

impl DerivedKeys {
    /// The labels of encryption, authentication and salt follow one another.
    fn derive(master: &MasterKey, first_label: u8) -> Self {
        let cipher = Aes128Enc::new(master.key().into());
        let (mut key, mut authentication, mut salt) = ([0; 16], [0; 20], [0; 16]);
        for (label, out) in (first_label..).zip([&mut key[..], &mut authentication, &mut salt[..14]]) {
            derive(&cipher, master, label, out);
        }
        let hmac = <Hmac<Sha1> as Mac>::new_from_slice(&authentication).expect("HMAC takes keys of any length");
        Self { cipher: Aes128Enc::new(&key.into()), salt, hmac }
    }

    /// Encrypts or decrypts (RFC 3711 §4.1.1).
    fn crypt(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let block = u128::from_be_bytes(self.salt) ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        crypt(&self.cipher, &block.to_be_bytes(), bytes);
    }

    fn mac(&self, body: &[u8], counter: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.hmac.clone();
        mac.update(body);
        mac.update(counter);
        mac
    }

    /// In constant time.
    fn is_signed(&self, body: &[u8], counter: &[u8], tag: &[u8]) -> bool {
        self.mac(body, counter).verify_truncated_left(tag).is_ok()
    }

    fn sign(&self, body: &[u8], counter: &[u8], tag: &mut [u8]) {
        let whole = self.mac(body, counter).finalize().into_bytes();
        for (byte, of) in tag.iter_mut().zip(whole) {
            *byte = of;
        }
    }
}

/// The key of a label, its bytes zero before (RFC 3711 §4.3.3).
fn derive(cipher: &Aes128Enc, master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut block = [0; 16];
    block[..14].copy_from_slice(master.salt());
    block[7] ^= label;
    crypt(cipher, &block, out);
}

/// AES in counter mode from a counter block on.
fn crypt(cipher: &Aes128Enc, block: &[u8; 16], bytes: &mut [u8]) {
    Ctr128BE::from_core(CtrCore::inner_iv_init(cipher, block.into())).apply_keystream(bytes);
}

/// Where one source stands.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// The highest index that was taken.
    highest: u64,
    /// Which of the indices up to it were: bit 0 is the highest itself.
    seen: u128,
}

impl Source {
    fn is_fresh(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn took(&mut self, index: u64) {
        match self.highest.checked_sub(index) {
            Some(behind) if behind < WINDOW => self.seen |= 1 << behind,
            Some(_) => {}
            None => {
                let ahead = index - self.highest;
                self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
                self.highest = index;
            }
        }
    }
}

/// The sources that have proved themselves, the one heard last first.
#[derive(Debug, Clone, Copy, Default)]
struct Sources([Option<Source>; SOURCES]);

impl Sources {
    fn of(&self, ssrc: u32) -> Option<&Source> {
        self.0.iter().flatten().find(|source| source.ssrc == ssrc)
    }

    fn took(&mut self, ssrc: u32, index: u64) {
        let known = self.0.iter().position(|source| source.is_some_and(|source| source.ssrc == ssrc));
        let place = known.unwrap_or(SOURCES - 1);
        self.0[..=place].rotate_right(1);
        match &mut self.0[0] {
            Some(source) if known.is_some() => source.took(index),
            first => *first = Some(Source { ssrc, highest: index, seen: 1 }),
        }
    }
}

/// The index of a sequence number that is nearest to `highest` (RFC 3711 §3.3.1, appendix A); `None` beyond the last one.
fn index_near(highest: u64, sequence: u16) -> Option<u64> {
    let step = sequence.wrapping_sub(highest as u16) as i16;
    // Before the first index there is none: so far back is far ahead.
    let index = highest.checked_add_signed(step.into()).unwrap_or(u64::from(sequence));
    (index < RTP_PACKETS).then_some(index)
}

fn roll_over(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// Length of the header with contributing sources and extension, SSRC and sequence number.
fn rtp_header(packet: &[u8]) -> Option<(usize, u32, u16)> {
    let header = packet.first_chunk::<HEADER_BYTES>()?;
    if header[0] >> 6 != 2 {
        return None;
    }
    let mut length = HEADER_BYTES + 4 * usize::from(header[0] & 0x0f);
    if header[0] & 0x10 != 0 {
        let &[_, _, high, low] = packet.get(length..)?.first_chunk()?;
        length += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    (length <= packet.len()).then_some((length, ssrc, u16::from_be_bytes([header[2], header[3]])))
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let header = packet.first_chunk::<RTCP_HEADER_BYTES>()?;
    (header[0] >> 6 == 2).then(|| u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}

#[cfg(test)]
mod tests;
