//! The leg of a SIP call: a socket, the receiving and the sending half of RTP, and a report for RTCP once a second.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringbuf::traits::{Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::pcm::Frame;
use crate::rtp::receiver::{Receiver, ReceiverCounters};
use crate::rtp::sender::{MAX_PACKET_BYTES, Sender, SenderFigures};
use crate::rtp::socket;
use crate::rtp::statistics::ReceptionFigures;
use crate::sdp::Negotiated;

use super::{Dtmf, FrameKind, Leg};

/// Datagrams taken in one tick; a peer sends one or two. More wait in the kernel, and are dropped there.
const DATAGRAMS_PER_TICK: usize = 32;
/// A datagram that is longer is no RTP of ours; its rest is cut off and its payload type or length gives it away.
const DATAGRAM_BYTES: usize = 2048;
/// Ticks between two reports.
const TICKS_PER_REPORT: u32 = 50;
/// Reports that may wait.
const REPORTS: usize = 8;

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
}

/// One call's RTP.
pub struct RtpLeg {
    socket: UdpSocket,
    receiver: Receiver,
    sender: Sender,
    began: Instant,
    sounding: bool,
    ticks: u32,
    reports: HeapProd<LegReport>,
    send_errors: Arc<AtomicU64>,
}

impl RtpLeg {
    /// A leg on a non-blocking socket, as negotiated; and where its reports come out.
    pub fn new(
        socket: UdpSocket,
        negotiated: &Negotiated,
        jitter: Duration,
        now: Instant,
    ) -> io::Result<(Self, HeapCons<LegReport>)> {
        socket.set_nonblocking(true)?;
        let (report_in, report_out) = HeapRb::new(REPORTS).split();
        let leg = Self {
            socket,
            receiver: Receiver::new(negotiated.codec, negotiated.telephone_event, negotiated.remote, jitter),
            sender: Sender::new(negotiated.codec, negotiated.telephone_event),
            began: now,
            sounding: false,
            ticks: 0,
            reports: report_in,
            send_errors: Arc::default(),
        };
        Ok((leg, report_out))
    }

    /// Packets that the kernel would not send.
    pub fn send_errors(&self) -> Arc<AtomicU64> {
        self.send_errors.clone()
    }

    /// Where packets go.
    pub fn remote(&self) -> SocketAddr {
        self.receiver.remote()
    }
}

impl Leg for RtpLeg {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        let mut datagram = [0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS_PER_TICK {
            match socket::receive(&self.socket, &mut datagram) {
                Ok(Some((length, from, arrival))) => {
                    self.receiver.datagram(&datagram[..length], from, arrival);
                }
                // An ICMP error of an earlier packet is no reason to stop listening.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.receiver.pull(now, frame)
    }

    fn speak(&mut self, now: Instant, frame: &Frame, sounding: bool) {
        let mut packet = [0; MAX_PACKET_BYTES];
        let length = self.sender.packet(frame, sounding && !self.sounding, &mut packet);
        self.sounding = sounding;
        if self.socket.send_to(&packet[..length], self.receiver.remote()).is_err() {
            self.send_errors.fetch_add(1, Relaxed);
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
            // A reader that is late misses a report, not the count: the figures are sums.
            let _ = self.reports.try_push(LegReport {
                at: now,
                sent: self.sender.figures(),
                reception: self.receiver.reception(),
                counters: self.receiver.counters(),
            });
        }
    }

    fn skip(&mut self) {
        self.sender.skip();
    }

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        self.receiver.poll_dtmf()
    }

    fn dial(&mut self, key: Dtmf) {
        self.sender.dial(key.digit, key.duration);
    }

    fn redirect(&mut self, remote: SocketAddr) {
        self.receiver.set_remote(remote);
    }

    fn last_received(&self) -> Instant {
        self.receiver.last_heard().unwrap_or(self.began)
    }
}
