//! A call's RTCP: reports every five seconds, what the far side reports, and the BYE at the end (RFC 3550 §6).
//!
//! Runs on tokio; the figures come from the media thread through a ring. Not implemented: scaling the interval to the bandwidth
//! (§6.3), which two parties do not need, and `rtcp-mux`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use ringbuf::HeapCons;
use ringbuf::traits::Consumer;
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
    remote: SocketAddr,
    reports: HeapCons<LegReport>,
    reporter: Reporter,
    latest: Option<LegReport>,
}

impl RtcpLink {
    /// Reports to `remote`. What comes is taken from any address: behind a NAT it is another one than SDP says.
    pub fn new(socket: UdpSocket, remote: SocketAddr, reports: HeapCons<LegReport>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket)?,
            remote,
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
        if let Err(error) = self.socket.send_to(bytes, self.remote).await {
            trace!(%error, remote = %self.remote, "RTCP send");
        }
    }

    fn receive(&mut self, bytes: &[u8], from: SocketAddr) {
        self.take_figures();
        let ours = self.latest.map_or(0, |latest| latest.sent.ssrc);
        match self.reporter.handle_datagram(Instant::now(), SystemTime::now(), ours, bytes) {
            Ok(incoming) => {
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
