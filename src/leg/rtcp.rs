//! A call's RTCP: reports every five seconds, what the far side reports, and the BYE at the end (RFC 3550 §6).
//!
//! Runs on tokio; the figures come from the media thread through a ring. Goes to where SDP says, and once the far side was heard from its own
//! address, there (RFC 4961): behind a NAT SDP is wrong for RTCP as it is for RTP. Not implemented: scaling the interval to the bandwidth
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
    /// What SDP says; changes when the far side moves.
    announced: watch::Receiver<SocketAddr>,
    /// Where reports of the far side come from.
    latched: Option<SocketAddr>,
    reports: HeapCons<LegReport>,
    reporter: Reporter,
    latest: Option<LegReport>,
}

impl RtcpLink {
    /// Reports to where `remote` says at any time. What comes is taken from any address.
    pub fn new(
        socket: UdpSocket,
        remote: watch::Receiver<SocketAddr>,
        reports: HeapCons<LegReport>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket)?,
            announced: remote,
            latched: None,
            reports,
            reporter: Reporter::anonymous(),
            latest: None,
        })
    }

    /// Reports until `stop`, then says goodbye.
    pub async fn run(mut self, stop: CancellationToken) -> RtcpCounters {
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, INTERVAL);
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            tokio::select! {
                _ = every.tick() => self.report().await,
                received = self.socket.recv_from(&mut datagram) => match received {
                    Ok((length, from)) => self.receive(&datagram[..length], from),
                    // An ICMP error of an earlier report; the next one may arrive.
                    Err(error) => trace!(%error, "RTCP receive"),
                },
                () = stop.cancelled() => break,
            }
        }
        self.goodbye().await;
        self.reporter.counters()
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
        self.send(&bytes).await;
    }

    async fn goodbye(&mut self) {
        self.take_figures();
        let Some(latest) = self.latest else { return };
        let bytes = self.reporter.goodbye(Instant::now(), SystemTime::now(), &latest.sent, latest.reception.as_ref());
        self.send(&bytes).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        let remote = self.remote();
        // Held in the manner of RFC 2543 from the beginning: there is no address yet.
        if !remote.ip().is_unspecified()
            && let Err(error) = self.socket.send_to(bytes, remote).await
        {
            trace!(%error, %remote, "RTCP send");
        }
    }

    fn remote(&mut self) -> SocketAddr {
        // Whoever tells of changes is gone when the call is over; what was said last stands.
        if self.announced.has_changed().unwrap_or(false) {
            self.latched = None;
        }
        let announced = *self.announced.borrow_and_update();
        self.latched.unwrap_or(announced)
    }

    fn receive(&mut self, bytes: &[u8], from: SocketAddr) {
        self.take_figures();
        let ours = self.latest.map_or(0, |latest| latest.sent.ssrc);
        match self.reporter.handle_datagram(Instant::now(), SystemTime::now(), ours, bytes) {
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
