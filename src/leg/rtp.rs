//! The leg of a SIP call: a socket, the receiving and the sending half of RTP, and a report for RTCP once a second.
//!
//! RTCP that comes on the same port (RFC 5761) is passed on as it is: what it says is none of the media thread's business.
//!
//! From a peer without telephone events keys are heard as tones, which then are no part of the caller's sound.
//!
//! While the far side holds the call (RFC 3264 §8.4) nothing is sent but a packet without payload every 15 s, the interval of RFC 6263 §4: RTCP
//! keeps only its own port open, and behind a NAT the way for the sound would be gone at the retrieval. It is an RTP header, and not an
//! empty datagram, since relays that latch follow nothing else; it is no sound, so that the direction agreed on is kept.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringbuf::traits::{Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::codec::Codec;
use crate::pcm::half_band::Halver;
use crate::pcm::keypad::KeyTones;
use crate::pcm::{self, Frame, PTIME, SILENCE, telephone};
use crate::rtp::packet;
use crate::rtp::receiver::{Receiver, ReceiverCounters};
use crate::rtp::sender::{MAX_PACKET_BYTES, Sender, SenderFigures};
use crate::rtp::socket;
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol, SrtpCounters};
use crate::rtp::statistics::ReceptionFigures;
use crate::sdp::Negotiated;

use super::{Dtmf, FrameKind, Leg, LegMedia};

/// Datagrams taken in one tick; a peer sends one or two. More wait in the kernel, and are dropped there.
const DATAGRAMS_PER_TICK: usize = 32;
/// A datagram that is longer is no RTP of ours; its rest is cut off and its payload type or length gives it away.
const DATAGRAM_BYTES: usize = 2048;
/// Ticks between two reports.
const TICKS_PER_REPORT: u32 = 50;
/// Reports that may wait.
const REPORTS: usize = 8;

/// Our own tones may come back for so many ticks behind them.
const DEAF_TICKS: u32 = 30;

/// Ticks between two packets that keep the way open: 15 s.
const TICKS_PER_KEEPALIVE: u32 = 750;

/// RTCP that may wait: one datagram every five seconds.
const RTCP: usize = 8;
/// Longest RTCP that is passed on.
const RTCP_BYTES: usize = 512;

/// What both halves have counted, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LegReport {
    /// When.
    pub at: Instant,
    /// What was sent.
    pub sent: SenderFigures,
    /// What was received of the present source.
    pub reception: Option<ReceptionFigures>,
    /// What was not taken, and why.
    pub counters: ReceiverCounters,
    /// Where packets go: the source that is latched, or what SDP says.
    pub remote: SocketAddr,
    /// What SRTP did not let in, which the receiver has not seen.
    pub srtp: SrtpCounters,
    /// Sound that waits to be played.
    pub depth: Duration,
    /// RTCP that came on the port of RTP and found no room.
    pub rtcp_dropped: u64,
}

impl LegReport {
    /// What was sent, with the timestamp of the moment `now`: a sender report names both of one moment (RFC 3550 §6.4.1).
    pub fn sent_by(&self, now: Instant) -> SenderFigures {
        let passed = pcm::samples_at(self.sent.clock_rate, now.saturating_duration_since(self.at)) as u32;
        SenderFigures { timestamp: self.sent.timestamp.wrapping_add(passed), ..self.sent }
    }
}

/// A datagram of RTCP that came on the port of RTP.
#[derive(Clone, Copy)]
pub struct MuxedRtcp {
    /// When the kernel received it.
    pub arrival: Instant,
    /// Its source.
    pub from: SocketAddr,
    length: usize,
    bytes: [u8; RTCP_BYTES],
}

impl MuxedRtcp {
    /// The datagram.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

/// What a leg gives to whoever does its RTCP.
pub struct Outlets {
    /// A report a second.
    pub reports: HeapCons<LegReport>,
    /// RTCP that came on the port of RTP.
    pub rtcp: HeapCons<MuxedRtcp>,
    /// The port of RTP, to send RTCP from.
    pub socket: UdpSocket,
}

/// One call's RTP.
pub struct RtpLeg {
    socket: UdpSocket,
    receiver: Receiver,
    sender: Sender,
    /// Keys heard as tones, where there are no telephone events.
    tones: Option<KeyTones>,
    /// … in the telephone band.
    halver: Halver,
    toned: Option<Dtmf>,
    deaf_ticks: u32,
    srtp: Option<Protection>,
    began: Instant,
    sounding: bool,
    /// Whether the far side wants to hear us.
    sends: bool,
    /// Ticks since the last packet.
    silent_ticks: u32,
    ticks: u32,
    reports: HeapProd<LegReport>,
    /// RTCP comes here too.
    rtcp_mux: bool,
    rtcp: HeapProd<MuxedRtcp>,
    rtcp_dropped: u64,
    send_errors: Arc<AtomicU64>,
}

impl RtpLeg {
    /// A leg on a non-blocking socket, as negotiated; and what its RTCP needs.
    pub fn new(
        socket: UdpSocket,
        negotiated: &Negotiated,
        jitter: Duration,
        now: Instant,
    ) -> io::Result<(Self, Outlets)> {
        socket.set_nonblocking(true)?;
        let (report_in, reports) = HeapRb::new(REPORTS).split();
        let (rtcp_in, rtcp) = HeapRb::new(RTCP).split();
        let outlets = Outlets { reports, rtcp, socket: socket.try_clone()? };
        let mut sender = Sender::new(negotiated.codec, negotiated.telephone_event);
        sender.set_ptime(negotiated.ptime);
        let leg = Self {
            socket,
            receiver: Receiver::new(negotiated.codec, negotiated.telephone_event, negotiated.remote, jitter),
            sender,
            tones: negotiated.telephone_event.is_none().then(KeyTones::new),
            halver: Halver::default(),
            toned: None,
            deaf_ticks: 0,
            srtp: negotiated.srtp.map(|keys| Protection::new(Protocol::Rtp, &keys)),
            began: now,
            sounding: false,
            sends: negotiated.direction.sends(),
            silent_ticks: 0,
            ticks: 0,
            reports: report_in,
            rtcp_mux: negotiated.rtcp_mux,
            rtcp: rtcp_in,
            rtcp_dropped: 0,
            send_errors: Arc::default(),
        };
        Ok((leg, outlets))
    }

    /// Makes what `codec` takes, should it be agreed on later. Allocates for Opus.
    pub fn prepare(&mut self, codec: Codec) {
        self.receiver.prepare(codec);
        self.sender.prepare(codec);
    }

    /// Packets that the kernel would not send, or that must not be sent because the key is used up.
    pub fn send_errors(&self) -> Arc<AtomicU64> {
        self.send_errors.clone()
    }

    /// Where packets go.
    pub fn remote(&self) -> SocketAddr {
        self.receiver.remote()
    }

    /// Hears keys in a frame, and leaves of it what the caller says.
    fn hear_keys(&mut self, frame: &mut Frame) {
        let Some(tones) = &mut self.tones else { return };
        if self.deaf_ticks > 0 {
            self.deaf_ticks -= 1;
            *tones = KeyTones::new();
        } else {
            let mut narrow = telephone::SILENCE;
            self.halver.halve(frame, &mut narrow);
            self.toned = tones.hear(&narrow).map(|(digit, duration)| Dtmf { digit, duration }).or(self.toned);
            if tones.is_held() {
                *frame = SILENCE;
            }
        }
    }

    /// Leaves RTCP to whoever reads it.
    fn pass_on(&mut self, packet: &[u8], from: SocketAddr, arrival: Instant) {
        let mut muxed = MuxedRtcp { arrival, from, length: packet.len(), bytes: [0; RTCP_BYTES] };
        let taken = muxed.bytes.get_mut(..packet.len()).map(|bytes| bytes.copy_from_slice(packet));
        if taken.is_none() || self.rtcp.try_push(muxed).is_err() {
            self.rtcp_dropped += 1;
        }
    }

    /// Sends the packet at the front of `buffer`, which has room for what SRTP adds.
    fn transmit(&mut self, buffer: &mut [u8; MAX_PACKET_BYTES + MAX_TRAILER_BYTES], length: usize) {
        self.silent_ticks = 0;
        let remote = self.receiver.remote();
        // Held in the manner of RFC 2543 from the beginning: there is no address yet.
        if remote.ip().is_unspecified() {
            return;
        }
        let sent = match self.srtp.as_mut().map_or(Ok(length), |srtp| srtp.protect(buffer, length)) {
            Ok(length) => self.socket.send_to(&buffer[..length], remote).is_ok(),
            Err(_) => false,
        };
        if !sent {
            self.send_errors.fetch_add(1, Relaxed);
        }
    }
}

impl RtpLeg {
    /// Tells what is counted so far. A reader that is late misses a report, not the count: the figures are sums.
    fn report(&mut self, now: Instant) {
        let _ = self.reports.try_push(LegReport {
            at: now,
            sent: self.sender.figures(),
            reception: self.receiver.reception(),
            counters: self.receiver.counters(),
            remote: self.receiver.remote(),
            srtp: self.srtp.as_ref().map_or_else(SrtpCounters::default, |srtp| srtp.counters().0),
            depth: self.receiver.depth(),
            rtcp_dropped: self.rtcp_dropped,
        });
    }
}

impl Leg for RtpLeg {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        let mut datagram = [0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS_PER_TICK {
            match socket::receive(&self.socket, &mut datagram) {
                Ok(Some((length, from, arrival))) => {
                    let packet = &mut datagram[..length];
                    if self.rtcp_mux && packet::is_rtcp(packet) {
                        self.pass_on(packet, from, arrival);
                        continue;
                    }
                    // What is not authentic is not seen by the receiver, and so is not latched onto.
                    let plain = self.srtp.as_mut().map_or(Ok(length), |srtp| srtp.unprotect(packet));
                    if let Ok(length) = plain {
                        self.receiver.datagram(&packet[..length], from, arrival);
                    }
                }
                // An ICMP error of an earlier packet is no reason to stop listening.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(None) | Err(_) => break,
            }
        }
        let kind = self.receiver.pull(now, frame);
        self.hear_keys(frame);
        kind
    }

    fn is_wide(&self) -> bool {
        self.receiver.is_wide()
    }

    fn speak(&mut self, now: Instant, frame: &Frame, sounding: bool) {
        let mut packet = [0; MAX_PACKET_BYTES + MAX_TRAILER_BYTES];
        let mut length = if self.sends {
            self.sender.packet(frame, sounding && !self.sounding, &mut packet[..MAX_PACKET_BYTES])
        } else if self.silent_ticks >= TICKS_PER_KEEPALIVE {
            self.sender.keepalive(&mut packet[..MAX_PACKET_BYTES])
        } else {
            self.sender.skip();
            0
        };
        self.sounding = sounding && self.sends;
        self.silent_ticks += 1;
        while length > 0 {
            self.transmit(&mut packet, length);
            length = self.sender.poll(&mut packet[..MAX_PACKET_BYTES]);
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
            self.report(now);
        }
    }

    fn leave(&mut self, now: Instant) {
        self.report(now);
    }

    fn skip(&mut self) {
        self.sender.skip();
    }

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        self.receiver.poll_dtmf().or_else(|| self.toned.take())
    }

    fn dial(&mut self, key: Dtmf) {
        self.sender.dial(key.digit, key.duration);
        if self.tones.is_some() {
            self.deaf_ticks = self.deaf_ticks.max(DEAF_TICKS) + (key.duration.as_millis() / PTIME.as_millis()) as u32;
        }
    }

    fn renegotiate(&mut self, media: &LegMedia) {
        self.receiver.renegotiate(media.codec, media.telephone_event);
        self.sender.renegotiate(media.codec, media.telephone_event);
        self.sender.set_ptime(media.ptime);
        self.tones = match (media.telephone_event, self.tones.take()) {
            (None, tones) => Some(tones.unwrap_or_default()),
            (Some(_), _) => None,
        };
        self.rtcp_mux = media.rtcp_mux;
        Protection::renew(&mut self.srtp, Protocol::Rtp, media.srtp.as_ref());
        if let Some(remote) = media.remote {
            self.receiver.set_remote(remote);
        }
        // A call that is held at once, or retrieved, opens the way with its first tick.
        if self.sends != media.direction.sends() {
            self.silent_ticks = TICKS_PER_KEEPALIVE;
        }
        self.sends = media.direction.sends();
    }

    fn last_received(&self) -> Instant {
        self.receiver.last_heard().unwrap_or(self.began)
    }
}
