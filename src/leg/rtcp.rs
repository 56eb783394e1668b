//! A call's RTCP: reports every five seconds, what the far side reports, and the BYE at the end (RFC 3550 §6).
//!
//! Runs on tokio; the figures come from the media thread through a ring. Goes to where SDP says, and once the far side was heard from its own
//! address, there (RFC 4961): behind a NAT SDP is wrong for RTCP as it is for RTP. With keys all of it is SRTCP, and what is not authentic
//! is not looked at (RFC 3711). Where both sides agreed on it, RTCP shares the port of RTP (RFC 5761): it is sent from there, and what comes
//! there is passed on by the media thread. Not implemented: scaling the interval to the bandwidth (§6.3), which two parties do not need.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use ringbuf::traits::Consumer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use crate::rtp::rtcp::{Reporter, RtcpCounters};
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol, SrtpCounters};
use crate::sdp::{Negotiated, SrtpKeys};

use super::quality::{Gathering, LineQuality};
use super::rtp::Outlets;

/// Time between two reports (§6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// Time to the first one: half of it.
const FIRST: Duration = Duration::from_millis(2500);
/// How often it is looked whether RTCP came on the port of RTP: its time of arrival comes with it.
const LOOK: Duration = Duration::from_millis(500);
/// Longest datagram that is read.
const DATAGRAM_BYTES: usize = 1500;

/// The RTCP of one call.
pub struct RtcpLink {
    socket: tokio::net::UdpSocket,
    /// What is agreed on; changes when both sides agree anew.
    agreed: watch::Receiver<RtcpMedia>,
    /// Where the far side was said to be when its reports were last looked at.
    announced: SocketAddr,
    /// Where reports of the far side come from.
    latched: Option<SocketAddr>,
    leg: Outlets,
    reporter: Reporter,
    gathering: Gathering,
    srtp: Option<Protection>,
}

/// What a call's RTCP came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// What became of the datagrams received.
    pub counters: RtcpCounters,
    /// What of them SRTCP did not let in.
    pub srtp: SrtpCounters,
    /// What the line was worth.
    pub quality: LineQuality,
}

/// What both sides have agreed on, as far as RTCP must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpMedia {
    /// Where the far side wants its reports; unspecified: nowhere yet.
    pub remote: SocketAddr,
    /// The keys of SRTCP; `None`: plain RTCP.
    pub srtp: Option<SrtpKeys>,
    /// It shares the port of RTP.
    pub mux: bool,
}

impl From<&Negotiated> for RtcpMedia {
    fn from(negotiated: &Negotiated) -> Self {
        Self { remote: negotiated.remote_rtcp, srtp: negotiated.srtp, mux: negotiated.rtcp_mux }
    }
}

impl RtcpLink {
    /// Reports as `agreed` says at any time. What comes is taken from any address.
    pub fn new(socket: UdpSocket, agreed: watch::Receiver<RtcpMedia>, leg: Outlets) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let announced = agreed.borrow().remote;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket)?,
            announced,
            agreed,
            latched: None,
            leg,
            reporter: Reporter::anonymous(),
            gathering: Gathering::default(),
            srtp: None,
        })
    }

    /// Reports until `stop`, then says goodbye.
    pub async fn run(mut self, stop: CancellationToken) -> Outcome {
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, INTERVAL);
        let mut look = tokio::time::interval(LOOK);
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            tokio::select! {
                _ = every.tick() => self.report().await,
                _ = look.tick() => self.receive_muxed(),
                received = self.socket.recv_from(&mut datagram) => match received {
                    Ok((length, from)) => self.receive(Instant::now(), &mut datagram[..length], from),
                    // An ICMP error of an earlier report; the next one may arrive.
                    Err(error) => trace!(%error, "RTCP receive"),
                },
                () = stop.cancelled() => break,
            }
        }
        self.receive_muxed();
        self.goodbye().await;
        Outcome {
            counters: self.reporter.counters(),
            srtp: self.srtp.as_ref().map_or_else(SrtpCounters::default, |srtp| srtp.counters().0),
            quality: self.gathering.quality(),
        }
    }

    fn take_figures(&mut self) {
        while let Some(report) = self.leg.reports.try_pop() {
            self.gathering.figures(report);
        }
    }

    fn receive_muxed(&mut self) {
        while let Some(mut datagram) = self.leg.rtcp.try_pop() {
            let (arrival, from) = (datagram.arrival, datagram.from);
            self.receive(arrival, datagram.bytes_mut(), from);
        }
    }

    async fn report(&mut self) {
        self.take_figures();
        let Some(latest) = self.gathering.latest().copied() else { return };
        let now = Instant::now();
        let sent = latest.sent_by(now);
        let bytes = self.reporter.report(now, SystemTime::now(), &sent, latest.reception.as_ref());
        self.send(bytes).await;
    }

    async fn goodbye(&mut self) {
        self.take_figures();
        let Some(latest) = self.gathering.latest().copied() else { return };
        let now = Instant::now();
        let sent = latest.sent_by(now);
        let bytes = self.reporter.goodbye(now, SystemTime::now(), &sent, latest.reception.as_ref());
        self.send(bytes).await;
    }

    async fn send(&mut self, mut bytes: Vec<u8>) {
        self.take_agreed();
        let mux = self.agreed.borrow().mux;
        let remote = match (mux, self.gathering.latest()) {
            (true, Some(latest)) => latest.remote,
            _ => self.latched.unwrap_or(self.announced),
        };
        // Held in the manner of RFC 2543 from the beginning: there is no address yet.
        if remote.ip().is_unspecified() {
            return;
        }
        if let Some(srtp) = &mut self.srtp {
            let length = bytes.len();
            bytes.resize(length + MAX_TRAILER_BYTES, 0);
            match srtp.protect(&mut bytes, length) {
                Ok(length) => bytes.truncate(length),
                Err(error) => return debug!(%error, "RTCP is not sent"),
            }
        }
        let sent = match mux {
            // The media thread's socket does not wait.
            true => self.leg.socket.send_to(&bytes, remote),
            false => self.socket.send_to(&bytes, remote).await,
        };
        if let Err(error) = sent {
            trace!(%error, %remote, "RTCP send");
        }
    }

    fn take_agreed(&mut self) {
        // Whoever tells of changes is gone when the call is over; what was said last stands.
        let RtcpMedia { remote, srtp, .. } = *self.agreed.borrow();
        if std::mem::replace(&mut self.announced, remote) != remote {
            self.latched = None;
        }
        Protection::renew(&mut self.srtp, Protocol::Rtcp, srtp.as_ref());
    }

    fn receive(&mut self, arrival: Instant, bytes: &mut [u8], from: SocketAddr) {
        self.take_figures();
        self.take_agreed();
        let length = match self.srtp.as_mut().map_or(Ok(bytes.len()), |srtp| srtp.unprotect(bytes)) {
            Ok(length) => length,
            Err(error) => return debug!(%from, %error, "no SRTCP"),
        };
        let latest = self.gathering.latest().copied();
        let ours = latest.map_or(0, |latest| latest.sent.ssrc);
        let wall = SystemTime::now().checked_sub(arrival.elapsed()).unwrap_or_else(SystemTime::now);
        match self.reporter.handle_datagram(arrival, wall, ours, &bytes[..length]) {
            Ok(incoming) => {
                // Only from the host that the sound comes from: a stranger's report must not draw ours away.
                if latest.is_some_and(|latest| latest.remote.ip() == from.ip()) {
                    self.latched = Some(from);
                }
                if let Some(report) = incoming.report {
                    self.gathering.told(report);
                    debug!(
                        fraction_lost = report.fraction_lost,
                        lost = report.cumulative_lost,
                        jitter_ms = latest.map(|latest| report.jitter_time(latest.sent.clock_rate).as_secs_f32() * 1e3),
                        round_trip_ms = report.round_trip.map(|trip| trip.as_secs_f32() * 1e3),
                        "the far side reports"
                    );
                }
            }
            Err(error) => debug!(%from, %error, "no RTCP"),
        }
    }
}
