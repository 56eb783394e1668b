//! A call's RTCP: reports every five seconds, what the far side reports, and the BYE at the end (RFC 3550 §6).
//!
//! Runs on tokio; the figures come from the media thread through a ring. Goes to where SDP says, and once the far side was heard from its own
//! address, there (RFC 4961): behind a NAT SDP is wrong for RTCP as it is for RTP. With keys all of it is SRTCP, and what is not authentic
//! is not looked at (RFC 3711). Not implemented: scaling the interval to the bandwidth
//! (§6.3), which two parties do not need, and `rtcp-mux`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use ringbuf::HeapCons;
use ringbuf::traits::Consumer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use crate::rtp::rtcp::{Reporter, RtcpCounters};
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol, SrtpCounters};
use crate::sdp::{Negotiated, SrtpKeys};

use super::rtp::LegReport;

/// Time between two reports (§6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// Time to the first one: half of it.
const FIRST: Duration = Duration::from_millis(2500);
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
    reports: HeapCons<LegReport>,
    reporter: Reporter,
    latest: Option<LegReport>,
    srtp: Option<Protection>,
}

/// What both sides have agreed on, as far as RTCP must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpMedia {
    /// Where the far side wants its reports; unspecified: nowhere yet.
    pub remote: SocketAddr,
    /// The keys of SRTCP; `None`: plain RTCP.
    pub srtp: Option<SrtpKeys>,
}

impl From<&Negotiated> for RtcpMedia {
    fn from(negotiated: &Negotiated) -> Self {
        Self { remote: negotiated.remote_rtcp, srtp: negotiated.srtp }
    }
}

impl RtcpLink {
    /// Reports as `agreed` says at any time. What comes is taken from any address.
    pub fn new(
        socket: UdpSocket,
        agreed: watch::Receiver<RtcpMedia>,
        reports: HeapCons<LegReport>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let announced = agreed.borrow().remote;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket)?,
            announced,
            agreed,
            latched: None,
            reports,
            reporter: Reporter::anonymous(),
            latest: None,
            srtp: None,
        })
    }

    /// Reports until `stop`, then says goodbye. What became of the datagrams received, and what of them SRTCP did not let in.
    pub async fn run(mut self, stop: CancellationToken) -> (RtcpCounters, SrtpCounters) {
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, INTERVAL);
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            tokio::select! {
                _ = every.tick() => self.report().await,
                received = self.socket.recv_from(&mut datagram) => match received {
                    Ok((length, from)) => self.receive(&mut datagram[..length], from),
                    // An ICMP error of an earlier report; the next one may arrive.
                    Err(error) => trace!(%error, "RTCP receive"),
                },
                () = stop.cancelled() => break,
            }
        }
        self.goodbye().await;
        (self.reporter.counters(), self.srtp.map_or_else(SrtpCounters::default, |srtp| srtp.counters().0))
    }

    fn take_figures(&mut self) {
        while let Some(report) = self.reports.try_pop() {
            self.latest = Some(report);
        }
    }

    async fn report(&mut self) {
        self.take_figures();
        let Some(latest) = self.latest else { return };
        let bytes = self.reporter.report(Instant::now(), SystemTime::now(), &latest.sent, latest.reception.as_ref());
        self.send(bytes).await;
    }

    async fn goodbye(&mut self) {
        self.take_figures();
        let Some(latest) = self.latest else { return };
        let bytes = self.reporter.goodbye(Instant::now(), SystemTime::now(), &latest.sent, latest.reception.as_ref());
        self.send(bytes).await;
    }

    async fn send(&mut self, mut bytes: Vec<u8>) {
        self.take_agreed();
        let remote = self.latched.unwrap_or(self.announced);
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
        if let Err(error) = self.socket.send_to(&bytes, remote).await {
            trace!(%error, %remote, "RTCP send");
        }
    }

    fn take_agreed(&mut self) {
        // Whoever tells of changes is gone when the call is over; what was said last stands.
        let RtcpMedia { remote, srtp } = *self.agreed.borrow();
        if std::mem::replace(&mut self.announced, remote) != remote {
            self.latched = None;
        }
        Protection::renew(&mut self.srtp, Protocol::Rtcp, srtp.as_ref());
    }

    fn receive(&mut self, bytes: &mut [u8], from: SocketAddr) {
        self.take_figures();
        self.take_agreed();
        let length = match self.srtp.as_mut().map_or(Ok(bytes.len()), |srtp| srtp.unprotect(bytes)) {
            Ok(length) => length,
            Err(error) => return debug!(%from, %error, "no SRTCP"),
        };
        let ours = self.latest.map_or(0, |latest| latest.sent.ssrc);
        match self.reporter.handle_datagram(Instant::now(), SystemTime::now(), ours, &bytes[..length]) {
            Ok(incoming) => {
                // Only from the host that the sound comes from: a stranger's report must not draw ours away.
                if self.latest.is_some_and(|latest| latest.remote.ip() == from.ip()) {
                    self.latched = Some(from);
                }
                if let Some(report) = incoming.report {
                    debug!(
                        fraction_lost = report.fraction_lost,
                        lost = report.cumulative_lost,
                        jitter_ms = report.jitter.as_secs_f32() * 1e3,
                        round_trip_ms = report.round_trip.map(|trip| trip.as_secs_f32() * 1e3),
                        "the far side reports"
                    );
                }
            }
            Err(error) => debug!(%from, %error, "no RTCP"),
        }
    }
}
