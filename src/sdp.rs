//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream with telephone events (RFC 4733).
//!
//! `sdp-types` reads and writes the lines; what they mean is decided here. Of the offered audio lines the first acceptable one is
//! taken, every other line is answered with port 0 in its place. The offer's first codec that we speak is chosen, so that both sides
//! send the same. SRTP is agreed on by [`crypto`]; a line that gets it goes before one that does not.
//! Not implemented: ICE, BUNDLE, DTLS-SRTP, host names in `c=`, another packet time than 20 ms in what we ask for.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};
use thiserror::Error;

use crate::codec::{Codec, TelephoneEvents, opus};
use crate::pcm::PTIME;

pub mod crypto;
mod exchange;

use crypto::Described;
pub use crypto::{MediaSecurity, SrtpKeys};
pub use exchange::OfferAnswer;

/// Longer descriptions are refused.
pub const MAX_BYTES: usize = 16 * 1024;
/// Descriptions with more media lines are refused.
pub const MAX_MEDIA: usize = 16;

/// What is wrong with a description, or why it cannot be agreed to. The peer's fault unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SdpError {
    /// It is larger than any telephone sends.
    #[error("SDP of {0} bytes is refused, {MAX_BYTES} are enough for a call")]
    TooLong(usize),
    /// It does not parse.
    #[error("malformed SDP: {0}")]
    Syntax(String),
    /// It has more media lines than any telephone sends.
    #[error("SDP with {0} media lines is refused, {MAX_MEDIA} are enough for a call")]
    TooManyMedia(usize),
    /// The audio line has no usable `c=`.
    #[error("SDP field c= of media line {line}: {fault}; send a unicast IP address")]
    Address {
        /// Which media line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: String,
    },
    /// A field of the audio line is not what it must be.
    #[error("SDP field {field} of media line {line}: {value:?} is not valid")]
    Field {
        /// Which field.
        field: &'static str,
        /// Which media line, from 1.
        line: usize,
        /// Its value, shortened.
        value: String,
    },
    /// No line can be agreed to.
    #[error("{missing} in the SDP ({offered})")]
    NotAcceptable {
        /// What would have to be there.
        missing: Missing,
        /// What was there instead.
        offered: String,
    },
    /// SRTP only, and the configuration has it off.
    #[error(
        "the SDP asks for SRTP (RTP/SAVP) and srtp is off; turn off SRTP at the peer, or set the trunk's srtp to \"optional\""
    )]
    SrtpOff,
    /// SRTP keys would travel in the clear. The configuration's matter.
    #[error(
        "SRTP keys over signalling that is not encrypted are refused; turn off SRTP or use TLS \
         (srtp_over_clear_signalling takes them nevertheless)"
    )]
    SrtpInClear,
    /// The configuration wants SRTP, and there is none.
    #[error(
        "srtp is \"required\" and the SDP is for plain RTP; turn on SRTP (SDES) at the peer, or set srtp to \"optional\""
    )]
    SrtpRequired,
    /// No key for SRTP can be used.
    #[error(
        "no a=crypto line for SRTP can be used: {why}; enable SDES with AES_CM_128_HMAC_SHA1_80 at the peer, or turn off SRTP"
    )]
    NoCrypto {
        /// What is wrong with the first one.
        why: String,
    },
    /// No key for SRTP can be made. The system's fault.
    #[error("the system gives no random numbers for an SRTP key")]
    NoRandomness,
    /// The answer declined the audio line.
    #[error("the peer's answer declines the audio line (port 0)")]
    Declined,
    /// There is no answer to our offer.
    #[error("the peer's ACK has no SDP, but the offer was ours; it must answer in the ACK")]
    NoAnswer,
    /// The two sides have no common version of IP.
    #[error(
        "the peer's media address {remote} and ours, {local}, are of different IP versions; set sip.public_address"
    )]
    IpVersion {
        /// The peer's address.
        remote: IpAddr,
        /// Our address.
        local: IpAddr,
    },
}

/// What an offer has to hold and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Missing {
    /// An audio line with a port.
    #[error("no audio line with a port; offer audio")]
    Audio,
    /// A profile that is spoken.
    #[error("no audio line over RTP/AVP; offer the profile RTP/AVP")]
    Profile,
    /// A codec that is spoken.
    #[error("no audio line with a codec of rtp.codecs; enable G.711 at the peer")]
    Codec,
}

impl SdpError {
    /// The SIP status that refuses an offer with this fault.
    pub fn sip_status(&self) -> u16 {
        match self {
            Self::TooLong(_) => 413,
            Self::Syntax(_) | Self::TooManyMedia(_) | Self::Address { .. } | Self::Field { .. } => 400,
            Self::NotAcceptable { .. } | Self::Declined | Self::NoAnswer | Self::IpVersion { .. } => 488,
            Self::SrtpOff | Self::SrtpInClear | Self::SrtpRequired | Self::NoCrypto { .. } => 488,
            Self::NoRandomness => 500,
        }
    }

    /// The code of the Warning header field that says what is wrong (RFC 3261 §20.43).
    pub fn warning(&self) -> u16 {
        match self {
            Self::Address { .. } => 301,
            Self::IpVersion { .. } => 300,
            Self::NotAcceptable { missing: Missing::Profile, .. } => 302,
            Self::SrtpOff | Self::SrtpInClear | Self::SrtpRequired | Self::NoCrypto { .. } => 302,
            Self::NotAcceptable { missing: Missing::Audio, .. } => 304,
            Self::NotAcceptable { missing: Missing::Codec, .. } => 305,
            _ => 399,
        }
    }
}

/// Who sends, from our point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// Only we.
    SendOnly,
    /// Only the peer.
    RecvOnly,
    /// Nobody: on hold.
    Inactive,
}

impl Direction {
    const ALL: [Self; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The same from the other side's point of view.
    pub const fn mirrored(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            both => both,
        }
    }

    /// Whether we send.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the peer sends.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    const fn without_sending(self) -> Self {
        match self {
            Self::SendRecv | Self::RecvOnly => Self::RecvOnly,
            Self::SendOnly | Self::Inactive => Self::Inactive,
        }
    }
}

/// Our side of the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalMedia {
    /// The address the peer shall send to.
    pub address: IpAddr,
    /// The RTP port there; RTCP is one above.
    pub port: u16,
    /// The number in `o=` that stays the same for the whole call.
    pub session_id: u64,
    /// The number in `o=` that grows by one with every description that differs from the one before.
    pub version: u64,
}

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The codec of both directions, with its payload type.
    pub codec: Codec,
    /// Telephone events, if the peer takes them.
    pub telephone_event: Option<TelephoneEvents>,
    /// Where the peer says it wants RTP; the address is unspecified when it is on hold in the manner of RFC 2543 (`c=0.0.0.0`).
    pub remote: SocketAddr,
    /// Where the peer wants RTCP.
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the port of RTP (RFC 5761).
    pub rtcp_mux: bool,
    /// The packet time the peer asks for, 20 ms when it does not say.
    pub ptime: Duration,
    /// Who sends, from our point of view.
    pub direction: Direction,
    /// The keys of both directions; `None`: plain RTP.
    pub srtp: Option<SrtpKeys>,
    /// SRTP goes under its own profile (RTP/SAVP); else it goes under that of RTP (RFC 8643).
    pub secure_profile: bool,
}

/// A description received as an offer.
#[derive(Debug, Clone)]
pub struct Offer {
    description: Session,
}

impl Offer {
    /// Reads an offer. That it can be parsed does not say that it can be agreed to.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        parse(bytes).map(|description| Self { description })
    }

    /// Answers the offer with the first of its codecs that is among `codecs`: the description for the 200 OK and what was agreed.
    pub fn answer(
        &self,
        local: &LocalMedia,
        codecs: &[Codec],
        security: &MediaSecurity,
    ) -> Result<(Vec<u8>, Negotiated), SdpError> {
        let (chosen, negotiated, tag) = choose(&self.description, Described::Offer, codecs, security)?;
        let remote = negotiated.remote.ip();
        if remote.is_ipv4() != local.address.is_ipv4() && !remote.is_unspecified() {
            return Err(SdpError::IpVersion { remote, local: local.address });
        }
        let mut answer = description(local);
        for (n, offered) in self.description.medias.iter().enumerate() {
            answer.medias.push(if n == chosen {
                let mut media =
                    audio(local, &offered.proto, &[negotiated.codec], negotiated.telephone_event.as_slice());
                media.attributes.push(Attribute::new(negotiated.direction.name()));
                if negotiated.rtcp_mux {
                    media.attributes.push(Attribute::new(RTCP_MUX));
                }
                if let Some((keys, tag)) = negotiated.srtp.zip(tag) {
                    let crypto = crypto::crypto_value(tag, keys.suite, &keys.local.master);
                    media.attributes.push(Attribute::with_value("crypto", crypto));
                }
                media
            } else {
                bare(&offered.media, 0, &offered.proto, &offered.fmt)
            });
        }
        Ok((write(&answer), negotiated))
    }
}

/// Makes an offer of `codecs`, most wanted first, with telephone events for each of their clock rates.
pub fn make_offer(local: &LocalMedia, codecs: &[Codec], security: &MediaSecurity) -> Vec<u8> {
    make_offer_with(local, codecs, None, security)
}

/// The same within a call: under the profile and the payload type for telephone events that are in use.
fn make_offer_with(
    local: &LocalMedia,
    codecs: &[Codec],
    agreed: Option<&Negotiated>,
    security: &MediaSecurity,
) -> Vec<u8> {
    let mut offer = description(local);
    let (profile, crypto) = security.offer(agreed.map(|agreed| agreed.secure_profile));
    let events = offered_events(codecs, agreed);
    let mut media = audio(local, profile, codecs, &events);
    media.attributes.push(Attribute::new(Direction::SendRecv.name()));
    if agreed.is_some_and(|agreed| agreed.rtcp_mux) {
        media.attributes.push(Attribute::new(RTCP_MUX));
    }
    media.attributes.extend(crypto.into_iter().map(|crypto| Attribute::with_value("crypto", crypto)));
    offer.medias.push(media);
    write(&offer)
}

/// Reads the answer to an offer made by [`make_offer`] with the same `codecs` and `security`.
pub fn parse_answer(bytes: &[u8], codecs: &[Codec], security: &MediaSecurity) -> Result<Negotiated, SdpError> {
    if bytes.is_empty() {
        return Err(SdpError::NoAnswer);
    }
    let answer = parse(bytes)?;
    if answer.medias.first().is_some_and(|media| media.port == 0) {
        return Err(SdpError::Declined);
    }
    choose(&answer, Described::Answer, codecs, security).map(|(_, negotiated, _)| negotiated)
}

fn parse(bytes: &[u8]) -> Result<Session, SdpError> {
    if bytes.len() > MAX_BYTES {
        return Err(SdpError::TooLong(bytes.len()));
    }
    let description = Session::parse(bytes).map_err(|fault| SdpError::Syntax(fault.to_string()))?;
    match description.medias.len() {
        count if count > MAX_MEDIA => Err(SdpError::TooManyMedia(count)),
        _ => Ok(description),
    }
}

/// The first media line that can be agreed to, with SRTP if there is one; what it means for us, and the tag of its keys.
fn choose(
    description: &Session,
    described: Described,
    codecs: &[Codec],
    security: &MediaSecurity,
) -> Result<(usize, Negotiated, Option<u32>), SdpError> {
    let (mut plain, mut refused) = (None, None);
    for (n, media) in description.medias.iter().enumerate() {
        if media.port == 0 || !media.media.eq_ignore_ascii_case("audio") || !is_spoken(media) {
            continue;
        }
        let payload_types = || media.fmt.split_ascii_whitespace().filter_map(|fmt| fmt.parse::<u8>().ok());
        let wanted = |codec: &Codec| codecs.iter().any(|ours| ours.is_kind_of(*codec));
        let Some(codec) = payload_types().find_map(|pt| codec_of(media, pt).filter(wanted)) else { continue };
        let crypto = media.get_attribute_values("crypto").flatten();
        let (srtp, tag) = match security.agree(described, is_secure(media), crypto) {
            Ok(agreed) => agreed.unzip(),
            Err(error) => {
                refused = refused.or(Some(error));
                continue;
            }
        };
        if srtp.is_none() && plain.is_some() {
            continue;
        }
        let narrow = events_of(media, 8000);
        let telephone_event = match events_of(media, codec.clock_rate()) {
            Some(events) if events.clock_rate != 8000 => {
                Some(TelephoneEvents { narrow: narrow.map(|narrow| narrow.payload_type), ..events })
            }
            _ => narrow,
        };
        let line = n + 1;
        let address = address_of(description, media, line)?;
        let remote = SocketAddr::new(address, media.port);
        let mut direction = direction_of(description, media).mirrored();
        if address.is_unspecified() {
            direction = direction.without_sending();
        }
        let rtcp_mux = media.has_attribute(RTCP_MUX);
        let negotiated = Negotiated {
            codec,
            telephone_event,
            remote,
            remote_rtcp: if rtcp_mux { remote } else { rtcp_of(media, remote, line)? },
            rtcp_mux,
            ptime: ptime_of(media),
            direction,
            srtp,
            secure_profile: is_secure(media),
        };
        if srtp.is_some() {
            return Ok((n, negotiated, tag));
        }
        plain = Some((n, negotiated, None));
    }
    let not_acceptable = || SdpError::NotAcceptable { missing: missing(description), offered: summary(description) };
    plain.ok_or_else(|| refused.unwrap_or_else(not_acceptable))
}

/// Whether the profile of a media line is spoken.
fn is_spoken(media: &Media) -> bool {
    is_secure(media) || ["RTP/AVP", "RTP/AVPF"].iter().any(|profile| media.proto.eq_ignore_ascii_case(profile))
}

/// Whether the profile of a media line is SRTP with keys in the SDP.
fn is_secure(media: &Media) -> bool {
    ["RTP/SAVP", "RTP/SAVPF"].iter().any(|profile| media.proto.eq_ignore_ascii_case(profile))
}

/// How far the lines of a description are acceptable that is not.
fn missing(description: &Session) -> Missing {
    let is_audio = |media: &&Media| media.port != 0 && media.media.eq_ignore_ascii_case("audio");
    if description.medias.iter().filter(is_audio).any(is_spoken) {
        Missing::Codec
    } else if description.medias.iter().any(|media| is_audio(&media)) {
        Missing::Profile
    } else {
        Missing::Audio
    }
}

/// Telephone events of this clock rate. Those of a codec have its own (RFC 4733 §2.1), but many peers offer 8000 beside any codec.
fn events_of(media: &Media, clock_rate: u32) -> Option<TelephoneEvents> {
    let encoding = format!("telephone-event/{clock_rate}");
    let mut payload_types = media.fmt.split_ascii_whitespace().filter_map(|fmt| fmt.parse::<u8>().ok());
    let payload_type = payload_types.find(|&pt| DYNAMIC.contains(&pt) && is_mapped(media, pt, &encoding))?;
    Some(TelephoneEvents { payload_type, clock_rate, narrow: None })
}

/// Telephone events for the clock rate of each codec; those in use stay what they are.
fn offered_events(codecs: &[Codec], agreed: Option<&Negotiated>) -> Vec<TelephoneEvents> {
    let mut events: Vec<TelephoneEvents> = agreed.and_then(|agreed| agreed.telephone_event).into_iter().collect();
    for clock_rate in codecs.iter().map(|codec| codec.clock_rate()) {
        if events.iter().any(|known| known.clock_rate == clock_rate) {
            continue;
        }
        let usual = if clock_rate == 8000 { 101 } else { 110 };
        let taken = |pt: &u8| {
            events.iter().any(|known| known.payload_type == *pt)
                || codecs.iter().any(|codec| codec.payload_type() == *pt)
        };
        let free = std::iter::once(usual).chain(DYNAMIC).find(|pt| !taken(pt));
        events.extend(free.map(|payload_type| TelephoneEvents { payload_type, clock_rate, narrow: None }));
    }
    events
}

/// The codec of a payload type: a dynamic one as `a=rtpmap` says, a static one unless that gives it another meaning.
fn codec_of(media: &Media, payload_type: u8) -> Option<Codec> {
    if DYNAMIC.contains(&payload_type) {
        // Two channels in any case, whatever is sent (RFC 7587 §7).
        let is_opus = rtpmap(media, payload_type)?.eq_ignore_ascii_case(Codec::Opus(opus::Format::OURS).rtpmap());
        return is_opus
            .then(|| Codec::Opus(opus::Format::parse(payload_type, fmtp(media, payload_type).unwrap_or(""))));
    }
    let codec = Codec::from_payload_type(payload_type)?;
    match rtpmap(media, payload_type) {
        None => Some(codec),
        Some(_) => {
            // Some say the true rate of G.722, which the RFC does not.
            let is = |rate: u32| is_mapped(media, payload_type, &format!("{}/{rate}", codec.name()));
            (is(codec.clock_rate()) || is(codec.rate())).then_some(codec)
        }
    }
}

/// The encoding that `a=rtpmap` gives a payload type.
fn rtpmap(media: &Media, payload_type: u8) -> Option<&str> {
    attribute_of(media, "rtpmap", payload_type)
}

/// The parameters that `a=fmtp` gives a payload type.
fn fmtp(media: &Media, payload_type: u8) -> Option<&str> {
    attribute_of(media, "fmtp", payload_type)
}

/// What an attribute says of a payload type.
fn attribute_of<'a>(media: &'a Media, attribute: &'a str, payload_type: u8) -> Option<&'a str> {
    media.get_attribute_values(attribute).flatten().find_map(|value| {
        let (number, said) = value.trim().split_once(|c: char| c.is_ascii_whitespace())?;
        (number.parse() == Ok(payload_type)).then_some(said.trim())
    })
}

/// Whether `a=rtpmap` maps the payload type to `encoding`, with one channel said or implied.
fn is_mapped(media: &Media, payload_type: u8, encoding: &str) -> bool {
    rtpmap(media, payload_type)
        .is_some_and(|mapped| mapped.strip_suffix("/1").unwrap_or(mapped).eq_ignore_ascii_case(encoding))
}

fn address_of(description: &Session, media: &Media, line: usize) -> Result<IpAddr, SdpError> {
    let fault = |fault: &str| SdpError::Address { line, fault: fault.into() };
    let connection =
        media.connections.first().or(description.connection.as_ref()).ok_or_else(|| fault("it is missing"))?;
    unicast(&connection.connection_address).ok_or_else(|| {
        fault(&format!("{:?} is not an IP address of one host", shortened(&connection.connection_address)))
    })
}

fn unicast(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.trim().parse().ok()?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    (!address.is_multicast() && !broadcast).then_some(address)
}

/// Payload types that `a=rtpmap` gives a meaning (RFC 3551 §6).
const DYNAMIC: std::ops::Range<u8> = 96..128;

/// RFC 5761 §5.1.1.
const RTCP_MUX: &str = "rtcp-mux";

/// `a=rtcp` (RFC 3605), else the port above.
fn rtcp_of(media: &Media, remote: SocketAddr, line: usize) -> Result<SocketAddr, SdpError> {
    let Some(Some(value)) = media.get_first_attribute_value("rtcp") else {
        return Ok(SocketAddr::new(remote.ip(), remote.port().checked_add(1).unwrap_or(remote.port())));
    };
    let invalid = || SdpError::Field { field: "a=rtcp", line, value: shortened(value) };
    let mut words = value.split_ascii_whitespace();
    let port = words.next().and_then(|word| word.parse().ok()).ok_or_else(invalid)?;
    let address = match words.nth(2) {
        Some(word) => unicast(word).ok_or_else(invalid)?,
        None => remote.ip(),
    };
    Ok(SocketAddr::new(address, port))
}

/// `a=ptime` when it is a time that telephones use; gateways send fractions and nonsense, which are no reason to refuse a call.
fn ptime_of(media: &Media) -> Duration {
    media
        .get_first_attribute_value("ptime")
        .flatten()
        .and_then(|value| value.trim().parse::<u64>().ok())
        .filter(|ms| (10..=60).contains(ms))
        .map_or(PTIME, Duration::from_millis)
}

/// The direction of a media line from its author's point of view; what stands at the line counts before what stands above all lines.
fn direction_of(description: &Session, media: &Media) -> Direction {
    let among = |attributes: &[Attribute]| {
        let find = |a: &Attribute| Direction::ALL.into_iter().find(|d| a.attribute.eq_ignore_ascii_case(d.name()));
        attributes.iter().find_map(find)
    };
    among(&media.attributes).or_else(|| among(&description.attributes)).unwrap_or(Direction::SendRecv)
}

/// The media lines in few words, for an error.
fn summary(description: &Session) -> String {
    let mut text = String::new();
    for media in description.medias.iter().take(4) {
        let separator = if text.is_empty() { "" } else { ", " };
        let line = format!("m={} {} {} {}", media.media, media.port, media.proto, media.fmt);
        let _ = write!(text, "{separator}{}", shortened(&line));
    }
    if text.is_empty() { "no media line".into() } else { text }
}

/// At most 60 characters, for an error.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn description(local: &LocalMedia) -> Session {
    let mut description = Session::new(Origin::with_ip_addr(local.session_id, local.version, local.address), "-");
    description.connection = Some(Connection::from_ip_addr(local.address));
    description.times.push(Time { start_time: 0, stop_time: 0, repeats: Vec::new() });
    description
}

fn audio(local: &LocalMedia, proto: &str, codecs: &[Codec], events: &[TelephoneEvents]) -> Media {
    let mut payload_types: Vec<u8> = codecs.iter().map(|codec| codec.payload_type()).collect();
    payload_types.extend(events.iter().map(|events| events.payload_type));
    let payload_types: Vec<String> = payload_types.iter().map(u8::to_string).collect();
    let mut media = bare("audio", local.port, proto, &payload_types.join(" "));
    for codec in codecs {
        let payload_type = codec.payload_type();
        media.attributes.push(Attribute::with_value("rtpmap", format!("{payload_type} {}", codec.rtpmap())));
        if let Codec::Opus(_) = codec {
            let parameters = format!("{payload_type} {}", opus::Format::parameters());
            media.attributes.push(Attribute::with_value("fmtp", parameters));
        }
    }
    for TelephoneEvents { payload_type, clock_rate, .. } in events {
        media.attributes.push(Attribute::with_value("rtpmap", format!("{payload_type} telephone-event/{clock_rate}")));
        media.attributes.push(Attribute::with_value("fmtp", format!("{payload_type} 0-15")));
    }
    media.attributes.push(Attribute::with_value("ptime", PTIME.as_millis()));
    if codecs.iter().any(|codec| matches!(codec, Codec::Opus(_))) {
        // Longer ones would not fit.
        media.attributes.push(Attribute::with_value("maxptime", 60));
    }
    media
}

fn bare(kind: &str, port: u16, proto: &str, fmt: &str) -> Media {
    Media {
        media: kind.to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: fmt.to_owned(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

fn write(description: &Session) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    description.write(&mut bytes).expect("a vector takes every line");
    bytes
}

#[cfg(test)]
mod tests;
