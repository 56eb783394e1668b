//! The receiving half of a call's RTP: from datagrams to one frame a tick, digits on the side.
//!
//! Symmetric RTP (RFC 4961) by latching: the address in SDP is believed first, but a peer behind a NAT sends from another; the first
//! source that speaks the negotiated payload types is latched and all others are ignored, until it has been silent for two seconds or
//! the address of SDP speaks itself. When SDP names another address within the call, the source is latched anew, and what is still under
//! way from the old one is heard but not followed. Not implemented: redundancy (RFC 2198).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dtmf::{Dtmf, DtmfDetector};
pub use super::jitter::FrameKind;
use super::jitter::{Content, JitterBuffer, JitterCounters};
use super::packet::PacketView;
use super::statistics::{Reception, ReceptionFigures, Standing};
use crate::codec::{Codec, TelephoneEvents, opus};
use crate::pcm::half_band::Doubler;
use crate::pcm::{self, Frame, telephone};

/// A latched source that is silent for longer may be replaced by another.
const LATCH_EXPIRY: Duration = Duration::from_secs(2);
/// After a move the old source may still be heard for so long; from then on it counts as one that did not move.
const FORMER_GRACE: Duration = Duration::from_millis(500);
/// So many packets in a row of a codec of the other rate are no stragglers.
const CHOSEN: u8 = 3;
/// Static payload type of comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It carries speech.
    Speech,
    /// It belongs to a digit.
    Digit,
    /// It says that there is silence.
    ComfortNoise,
    /// Not RTP.
    Malformed,
    /// From a source that is not the latched one.
    Stranger,
    /// Of a payload type that was not negotiated.
    UnknownPayload,
    /// So far out of sequence, or of so new a source, that a second packet must confirm it.
    Unconfirmed,
}

/// What arrived and was not taken, and what happened to what was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Datagrams offered.
    pub datagrams: u64,
    /// Datagrams that were not RTP.
    pub malformed: u64,
    /// Datagrams from sources other than the latched one.
    pub strangers: u64,
    /// Packets of payload types that are not spoken, and stragglers in a codec of another rate than the present one's.
    pub unknown_payload: u64,
    /// Packets dropped because a second one had to confirm a jump or a new SSRC.
    pub unconfirmed: u64,
    /// Telephone events that were malformed or no digits.
    pub bad_events: u64,
    /// Changes of the synchronization source.
    pub ssrc_changes: u64,
    /// Times the source numbered its packets anew.
    pub restarts: u64,
    /// The jitter buffer's counters.
    pub jitter: JitterCounters,
    /// The delay at the last tick, between the arrival of the fastest packet and its playing.
    pub delay: Duration,
    /// The delay that the network asks for at present.
    pub target: Duration,
}

/// Receives the media of one call. Allocates nothing after construction, panics on no input.
#[derive(Debug)]
pub struct Receiver {
    codec: Codec,
    /// Opus, as it was agreed on before or may be agreed on yet: it is heard when the far side still or already sends it.
    opus: Option<Codec>,
    telephone_event: Option<TelephoneEvents>,
    /// What SDP says.
    announced: SocketAddr,
    latched: Option<SocketAddr>,
    /// Who was latched before the far side moved, and since when it was heard after that.
    former: Option<(SocketAddr, Option<Instant>)>,
    last_heard: Option<Instant>,
    reception: Option<Reception>,
    /// A new SSRC that was seen once.
    candidate: Option<u32>,
    /// At 8 kHz and at 16 kHz; one of them is in use.
    jitter: [JitterBuffer; 2],
    /// Whether the second one is.
    wide: bool,
    doubler: Doubler,
    /// Packets in a row of the rate that is not in use.
    elsewhere: u8,
    dtmf: DtmfDetector,
    counters: ReceiverCounters,
}

impl Receiver {
    /// Expects `codec`, and telephone events as negotiated, from `remote`; the jitter buffer begins with `jitter`. Only one that was made for
    /// Opus hears it.
    pub fn new(codec: Codec, telephone_event: Option<TelephoneEvents>, remote: SocketAddr, jitter: Duration) -> Self {
        let buffers = [telephone::RATE, pcm::RATE].map(|rate| JitterBuffer::new(jitter, rate, codec.clock_rate()));
        let mut receiver = Self {
            codec,
            opus: None,
            telephone_event,
            announced: remote,
            latched: None,
            former: None,
            last_heard: None,
            reception: None,
            candidate: None,
            jitter: buffers,
            wide: codec.is_wide(),
            doubler: Doubler::default(),
            elsewhere: 0,
            dtmf: DtmfDetector::default(),
            counters: ReceiverCounters::default(),
        };
        receiver.prepare(codec);
        receiver
    }

    /// Makes what `codec` takes, should it be agreed on later. Allocates for Opus.
    pub fn prepare(&mut self, codec: Codec) {
        self.jitter[usize::from(codec.is_wide())].prepare(codec);
        if matches!(codec, Codec::Opus(_)) {
            self.opus = Some(codec);
        }
    }

    /// Where to send to: the latched source, or what SDP said as long as nobody was heard.
    pub fn remote(&self) -> SocketAddr {
        self.latched.unwrap_or(self.announced)
    }

    /// A new answer moved the far side (re-INVITE); whoever was latched no longer is.
    pub fn set_remote(&mut self, remote: SocketAddr) {
        if remote != self.announced {
            self.announced = remote;
            self.former = self.latched.take().filter(|former| *former != remote).map(|former| (former, None));
        }
    }

    /// A new answer changed codec or payload type of telephone events. What still comes in the old codec is heard; what waits
    /// is, too, unless the new one has another rate.
    pub fn renegotiate(&mut self, codec: Codec, telephone_event: Option<TelephoneEvents>) {
        if matches!(codec, Codec::Opus(_)) {
            self.opus = Some(codec);
        }
        self.codec = codec;
        self.telephone_event = telephone_event;
    }

    /// When the last packet that was taken arrived.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// What was counted so far.
    pub fn counters(&self) -> ReceiverCounters {
        let buffer = self.buffer();
        let (delay, target) = (buffer.delay(), buffer.target());
        ReceiverCounters { jitter: buffer.counters_at(pcm::RATE), delay, target, ..self.counters }
    }

    /// The figures of the present source, for RTCP; `None` before its first packet.
    pub fn reception(&self) -> Option<ReceptionFigures> {
        self.reception.as_ref().map(Reception::figures)
    }

    /// Speech that waits to be played.
    pub fn depth(&self) -> Duration {
        self.buffer().depth()
    }

    /// Whether what is heard at present has more than the telephone band.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    fn buffer(&self) -> &JitterBuffer {
        &self.jitter[usize::from(self.wide)]
    }

    fn buffer_mut(&mut self) -> &mut JitterBuffer {
        &mut self.jitter[usize::from(self.wide)]
    }

    /// Whether what comes in `codec` is heard. The first that comes in the one agreed on, of other rates than before, is where the far side
    /// has changed over; what still comes in the one before belongs to the past. In any other, several in a row say that the far side
    /// has chosen it: an answer may name more than one.
    fn changes_over(&mut self, codec: Codec) -> bool {
        let same_rate = codec.is_wide() == self.wide;
        if same_rate && codec.clock_rate() == self.buffer().clock_rate() {
            self.elsewhere = 0;
            return true;
        }
        self.elsewhere = self.elsewhere.saturating_add(1);
        let follows = codec == self.codec || self.elsewhere >= CHOSEN;
        if follows {
            self.elsewhere = 0;
            if same_rate {
                self.buffer_mut().set_clock_rate(codec.clock_rate());
                return true;
            }
            let [narrow, wide] = &mut self.jitter;
            let (from, to) = if self.wide { (wide, narrow) } else { (narrow, wide) };
            to.succeed(from, codec.clock_rate());
            self.wide = codec.is_wide();
        }
        follows
    }

    /// What a payload type stands for. An answer that names several codecs lets the peer send any of them (RFC 3264 §6.1), of which those with
    /// static payload types are known; only the one agreed on makes a source known. Opus comes as what the peer calls it or as what we do.
    fn codec_of(&self, payload_type: u8, from: SocketAddr) -> Option<Codec> {
        let ours = matches!(self.codec, Codec::Opus(_)) && payload_type == opus::Format::OURS.payload_type;
        if payload_type == self.codec.payload_type() || ours {
            return Some(self.codec);
        }
        let opus = self.opus.filter(|opus| opus.payload_type() == payload_type);
        opus.or_else(|| Codec::from_payload_type(payload_type)).filter(|_| self.latched == Some(from))
    }

    /// Takes a datagram that came from `from` at `arrival`.
    pub fn datagram(&mut self, bytes: &[u8], from: SocketAddr, arrival: Instant) -> Received {
        self.counters.datagrams += 1;
        let Ok(packet) = PacketView::parse(bytes) else {
            self.counters.malformed += 1;
            return Received::Malformed;
        };
        let event_clock = self.telephone_event.and_then(|events| events.clock_rate_of(packet.payload_type));
        let event = event_clock.is_some();
        let codec = self.codec_of(packet.payload_type, from).filter(|_| !event);
        if codec.is_none() && !event && packet.payload_type != COMFORT_NOISE {
            self.counters.unknown_payload += 1;
            return Received::UnknownPayload;
        }
        if !self.may_speak(from, arrival) {
            self.counters.strangers += 1;
            return Received::Stranger;
        }
        if !self.follow(&packet, arrival) {
            self.counters.unconfirmed += 1;
            return Received::Unconfirmed;
        }
        self.latch(from, arrival);
        self.last_heard = Some(arrival);
        if event {
            self.buffer_mut().insert(packet.sequence, packet.timestamp, Content::Event, arrival);
            self.dtmf.set_clock_rate(event_clock.unwrap_or(telephone::RATE));
            if !self.dtmf.handle_packet(arrival, packet.timestamp, packet.payload) {
                self.counters.bad_events += 1;
            }
            return Received::Digit;
        }
        let clock_rate = codec.map_or(self.buffer().clock_rate(), Codec::clock_rate);
        if let Some(reception) = &mut self.reception {
            reception.timing(packet.timestamp, clock_rate, arrival);
        }
        if codec.is_some_and(|codec| !self.changes_over(codec)) {
            self.counters.unknown_payload += 1;
            return Received::UnknownPayload;
        }
        let (content, received) = match codec {
            Some(codec) => (Content::Speech(codec, packet.payload), Received::Speech),
            None => (Content::ComfortNoise(packet.payload), Received::ComfortNoise),
        };
        self.buffer_mut().insert(packet.sequence, packet.timestamp, content, arrival);
        received
    }

    /// Fills `out` with the next 20 ms. To be called every 20 ms.
    pub fn pull(&mut self, now: Instant, out: &mut Frame) -> FrameKind {
        self.dtmf.handle_timeout(now);
        if self.wide {
            return self.buffer_mut().pull(now, out);
        }
        let mut narrow = telephone::SILENCE;
        let kind = self.buffer_mut().pull(now, &mut narrow);
        self.doubler.double(&narrow, out);
        kind
    }

    /// The next digit that was pressed and released.
    pub fn poll_dtmf(&mut self) -> Option<Dtmf> {
        self.dtmf.poll()
    }

    /// Whether a source may speak, by its address.
    fn may_speak(&self, from: SocketAddr, now: Instant) -> bool {
        match self.latched {
            None => true,
            Some(latched) if latched == from || self.announced == from => true,
            Some(_) => self.last_heard.is_none_or(|heard| now.saturating_duration_since(heard) > LATCH_EXPIRY),
        }
    }

    /// Sends there from now on, unless it is only what is still under way from before a move.
    fn latch(&mut self, from: SocketAddr, now: Instant) {
        if let Some((former, since)) = &mut self.former
            && *former == from
            && now.saturating_duration_since(*since.get_or_insert(now)) < FORMER_GRACE
        {
            return;
        }
        self.former = None;
        self.latched = Some(from);
    }

    /// Follows the sequence of the source; false when a second packet has to confirm what this one says.
    fn follow(&mut self, packet: &PacketView<'_>, arrival: Instant) -> bool {
        match &mut self.reception {
            Some(reception) if reception.ssrc() == packet.ssrc => {
                self.candidate = None;
                let standing = reception.packet(packet.sequence);
                if standing == Standing::Restarts {
                    self.counters.restarts += 1;
                    self.buffer_mut().reset();
                }
                return standing != Standing::Unconfirmed;
            }
            Some(_) if self.candidate != Some(packet.ssrc) => {
                self.candidate = Some(packet.ssrc);
                return false;
            }
            Some(_) => {
                self.counters.ssrc_changes += 1;
                self.buffer_mut().reset();
                self.dtmf.reset();
            }
            None => {}
        }
        self.candidate = None;
        let mut reception = Reception::new(packet.ssrc, packet.sequence, arrival);
        reception.packet(packet.sequence);
        self.reception = Some(reception);
        true
    }
}

#[cfg(test)]
mod tests;
