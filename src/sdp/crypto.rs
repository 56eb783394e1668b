//! Keys for SRTP in SDP (RFC 4568, SDES): `a=crypto` read and written, and what may be agreed to under a trunk's policy.
//!
//! ```text
//! a=crypto:TAG SUITE inline:KEY||SALT[|LIFETIME][|MKI:LENGTH] [SESSION-PARAMETER …]
//! ```
//!
//! An offer that leaves the choice to the peer is RTP/AVP with `a=crypto` (RFC 8643). Not implemented, and a line that wants it is not
//! used: other suites than the two of [`Suite`], several keys in a line, key derivation rates, forward error correction, media without
//! encryption or authentication.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::SdpError;
use crate::config::{Policy, Transport, Trunk};

/// Bytes of a master key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a master salt.
pub const SALT_BYTES: usize = 14;
/// `a=crypto` lines of a media line that are looked at.
const MAX_LINES: usize = 16;
/// The longest lifetime a key may be given, in packets (RFC 3711 §9.2).
const LONGEST_LIFETIME: u64 = 1 << 48;
/// The longest master key identifier (RFC 4568 §6.1).
const LONGEST_MKI: u8 = 128;

/// Suites that others offer, so that an error can name them. What else stands in their place is not repeated: it may be the key.
const OTHER_SUITES: [&str; 9] = [
    "F8_128_HMAC_SHA1_80",
    "AES_192_CM_HMAC_SHA1_80",
    "AES_192_CM_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_256_CM_HMAC_SHA1_32",
    "AES_CM_256_HMAC_SHA1_80",
    "AES_CM_256_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
];

/// How media are encrypted and authenticated (RFC 4568 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES_CM_128_HMAC_SHA1_80: a tag of 10 bytes.
    AesCm128HmacSha1_80,
    /// AES_CM_128_HMAC_SHA1_32: a tag of 4 bytes, of 10 in SRTCP.
    AesCm128HmacSha1_32,
}

impl Suite {
    /// All suites, in order of our own preference; we offer them with the tags from 1 on.
    pub const ALL: [Self; 2] = [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32];

    /// Its name in `a=crypto`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Length of the authentication tag of an RTP packet.
    pub const fn rtp_tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
        }
    }

    /// Length of the authentication tag of an RTCP packet.
    pub const fn rtcp_tag_bytes(self) -> usize {
        10
    }
}

/// A master key and its salt. `Debug` never shows them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    key: [u8; KEY_BYTES],
    salt: [u8; SALT_BYTES],
}

impl MasterKey {
    /// A key that is known already.
    pub const fn new(key: [u8; KEY_BYTES], salt: [u8; SALT_BYTES]) -> Self {
        Self { key, salt }
    }

    /// A new one, of the cryptographic random numbers that TLS uses as well.
    ///
    /// # Errors
    /// The system gives none.
    pub fn generate() -> Result<Self, SdpError> {
        let (mut key, mut salt) = ([0; KEY_BYTES], [0; SALT_BYTES]);
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut key).and_then(|()| random.fill(&mut salt)).map_err(|_| SdpError::NoRandomness)?;
        Ok(Self { key, salt })
    }

    /// The key itself, for the one place that derives from it.
    pub const fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    /// The salt itself.
    pub const fn salt(&self) -> &[u8; SALT_BYTES] {
        &self.salt
    }

    fn parse(text: &str) -> Option<Self> {
        let mut both = [0; KEY_BYTES + SALT_BYTES + 3];
        let length = BASE64_STANDARD.decode_slice(text, &mut both).ok()?;
        let (key, salt) = both.get(..length)?.split_first_chunk()?;
        Some(Self { key: *key, salt: salt.try_into().ok()? })
    }

    fn write(&self) -> String {
        let mut both = [0; KEY_BYTES + SALT_BYTES];
        both[..KEY_BYTES].copy_from_slice(&self.key);
        both[KEY_BYTES..].copy_from_slice(&self.salt);
        BASE64_STANDARD.encode(both)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A master key identifier: so many bytes of each packet, before the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mki {
    /// Its value.
    pub value: u64,
    /// Its length on the wire, 1 to 128 bytes; the value stands in the last ones.
    pub bytes: u8,
}

/// The key of one direction, and what was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyParameters {
    /// The key.
    pub master: MasterKey,
    /// For how many packets it is good, when that is less than RFC 3711 allows.
    pub lifetime: Option<u64>,
    /// Its identifier in each packet.
    pub mki: Option<Mki>,
}

impl KeyParameters {
    /// A key of which nothing more was said.
    pub const fn new(master: MasterKey) -> Self {
        Self { master, lifetime: None, mki: None }
    }

    /// `inline:…`
    fn parse(text: &str) -> Result<Self, &'static str> {
        let inline = text.split_once(':').filter(|(method, _)| method.eq_ignore_ascii_case("inline"));
        let (_, text) = inline.ok_or("its key method is not inline")?;
        if text.contains(';') {
            return Err("it has several keys");
        }
        let mut fields = text.split('|');
        let master = fields.next().and_then(MasterKey::parse).ok_or("its key is not 30 bytes in base64")?;
        let mut parameters = Self::new(master);
        for (n, field) in fields.enumerate() {
            match field.split_once(':') {
                Some((value, bytes)) if parameters.mki.is_none() => {
                    parameters.mki = Some(mki(value, bytes).ok_or("its MKI is not valid")?);
                }
                None if n == 0 => parameters.lifetime = Some(lifetime(field).ok_or("its key's lifetime is not valid")?),
                _ => return Err("its key has too many parameters"),
            }
        }
        Ok(parameters)
    }
}

/// `2^31` or a number of packets.
fn lifetime(text: &str) -> Option<u64> {
    let packets = match text.strip_prefix("2^") {
        Some(exponent) => 1u64.checked_shl(exponent.parse().ok()?),
        None => text.parse().ok(),
    };
    packets.filter(|packets| (1..=LONGEST_LIFETIME).contains(packets))
}

fn mki(value: &str, bytes: &str) -> Option<Mki> {
    let (value, bytes): (u64, u8) = (value.parse().ok()?, bytes.parse().ok()?);
    let fits = bytes >= 8 || value >> (8 * u32::from(bytes)) == 0;
    ((1..=LONGEST_MKI).contains(&bytes) && fits).then_some(Mki { value, bytes })
}

/// Both directions' keys of a call's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpKeys {
    /// The suite of both directions.
    pub suite: Suite,
    /// What we send with.
    pub local: KeyParameters,
    /// What the peer sends with.
    pub remote: KeyParameters,
}

/// An `a=crypto` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CryptoLine {
    tag: u32,
    suite: Suite,
    key: KeyParameters,
}

impl CryptoLine {
    /// Reads the attribute's value; else why it cannot be used, with nothing of its key.
    fn parse(value: &str) -> Result<Self, String> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9 && tag.bytes().all(|byte| byte.is_ascii_digit()));
        let tag = tag.and_then(|tag| tag.parse().ok()).ok_or("its tag is no number")?;
        let name = words.next().unwrap_or_default();
        let Some(suite) = Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name)) else {
            let other = OTHER_SUITES.iter().find(|other| other.eq_ignore_ascii_case(name));
            return Err(format!("its suite is {}", other.unwrap_or(&"none that is known")));
        };
        let key = KeyParameters::parse(words.next().unwrap_or_default())?;
        // WSH is a hint about the replay window; ours is twice the least that is allowed. What begins with a hyphen may be ignored.
        if words.any(|parameter| !parameter.starts_with('-') && !parameter.starts_with("WSH=")) {
            return Err("it has a session parameter that is not known".into());
        }
        Ok(Self { tag, suite, key })
    }

    /// Whether it can stand where it does, beside our keys.
    fn checked(self, described: Described, ours: &[MasterKey]) -> Result<Self, String> {
        let offered = Suite::ALL.into_iter().zip(1..).any(|offered| offered == (self.suite, self.tag));
        if described == Described::Answer && !offered {
            return Err("it was not offered".into());
        }
        // With a peer that repeats our key we would take our own packets for its.
        if ours.contains(&self.key.master) { Err("its key is ours".into()) } else { Ok(self) }
    }
}

/// What a received description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Described {
    /// An offer, to be answered.
    Offer,
    /// The answer to our offer.
    Answer,
}

/// The value of an `a=crypto` line of ours.
pub(super) fn crypto_value(tag: u32, suite: Suite, master: &MasterKey) -> String {
    format!("{tag} {} inline:{}", suite.name(), master.write())
}

/// What may be agreed about the security of a call's media, and our keys for it. Made once for a call, so that a later description
/// repeats the keys of the first: none is ever used for two things.
#[derive(Debug, Clone, Copy)]
pub struct MediaSecurity {
    policy: Policy,
    /// One key for each suite; `None` when no keys may be exchanged.
    ours: Option<[MasterKey; Suite::ALL.len()]>,
}

impl MediaSecurity {
    /// No SRTP.
    pub const OFF: Self = Self { policy: Policy::Off, ours: None };

    /// Security by a policy. Keys are only exchanged when the signalling is encrypted (`secure_signalling`) or the installer takes
    /// them in the clear.
    ///
    /// # Errors
    /// SRTP is required over signalling that is not encrypted, or the system has no random numbers.
    pub fn new(policy: Policy, secure_signalling: bool, over_clear_signalling: bool) -> Result<Self, SdpError> {
        let ours = match policy {
            Policy::Off => None,
            _ if secure_signalling || over_clear_signalling => Some([MasterKey::generate()?, MasterKey::generate()?]),
            Policy::Required => return Err(SdpError::SrtpInClear),
            Policy::Optional => None,
        };
        Ok(Self { policy, ours })
    }

    /// Security as a trunk wants it, and none without a trunk. `secure` says whether the call's signalling is encrypted.
    ///
    /// # Errors
    /// As [`MediaSecurity::new`].
    pub fn on(trunk: Option<&Trunk>, secure: bool) -> Result<Self, SdpError> {
        trunk.map_or(Ok(Self::OFF), |trunk| Self::new(trunk.srtp, secure, trunk.srtp_over_clear_signalling))
    }

    /// The same for a call that we place.
    ///
    /// # Errors
    /// As [`MediaSecurity::new`].
    pub fn through(trunk: Option<&Trunk>) -> Result<Self, SdpError> {
        Self::on(trunk, trunk.is_some_and(|trunk| trunk.transport == Transport::Tls))
    }

    /// The profile of a media line that we offer, and its `a=crypto` lines. `in_use` says whether the profile of the call so far is the
    /// secure one; at first it is when SRTP is required (RFC 8643 when the choice is the peer's).
    pub(super) fn offer(&self, in_use: Option<bool>) -> (&'static str, Vec<String>) {
        let secure = in_use.unwrap_or(self.policy == Policy::Required);
        let profile = if secure { "RTP/SAVP" } else { "RTP/AVP" };
        let keys = self.ours.iter().flatten();
        let lines = Suite::ALL.into_iter().zip(keys).zip(1..);
        (profile, lines.map(|((suite, master), tag)| crypto_value(tag, suite, master)).collect())
    }

    /// What can be agreed about a media line with these `a=crypto` lines: SRTP under one line's keys and tag, or (`None`) plain RTP.
    pub(super) fn agree<'a>(
        &self,
        described: Described,
        secure_profile: bool,
        lines: impl Iterator<Item = &'a str>,
    ) -> Result<Option<(SrtpKeys, u32)>, SdpError> {
        if self.policy == Policy::Off {
            return if secure_profile { Err(SdpError::SrtpOff) } else { Ok(None) };
        }
        let mut unusable = None;
        if let Some(ours) = &self.ours {
            for value in lines.take(MAX_LINES) {
                match CryptoLine::parse(value).and_then(|line| line.checked(described, ours)) {
                    Ok(CryptoLine { tag, suite, key }) => {
                        let local = KeyParameters::new(ours[suite as usize]);
                        return Ok(Some((SrtpKeys { suite, local, remote: key }, tag)));
                    }
                    Err(why) => unusable = unusable.or(Some(why)),
                }
            }
        }
        match (secure_profile, self.ours) {
            (true, None) => Err(SdpError::SrtpInClear),
            (true, Some(_)) => Err(SdpError::NoCrypto { why: unusable.unwrap_or_else(|| "there is none".to_owned()) }),
            (false, _) if self.policy == Policy::Required => Err(SdpError::SrtpRequired),
            (false, _) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
