//! The UDP socket as the stack sees it: every datagram has passed the wire gate, under a limit of how many a second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::addresses::Addresses;
use super::stamp::Stamp;
use super::wire::{Verdict, WireGate};
use super::{Counter, Counters, Transport};

/// Datagrams a second from allowed peers that are looked at, and how many may come at once. A finished transaction
/// stays in the stack's memory for 32 s at about 1.7 kB: this bounds it.
const DATAGRAMS_PER_SECOND: f64 = 1000.0;
const DATAGRAM_BURST: f64 = 2000.0;
/// The same for everybody else: strangers, and callees that answer our INVITEs from outside the allowed peers.
const STRANGERS_PER_SECOND: f64 = 200.0;
const STRANGER_BURST: f64 = 400.0;
/// INVITEs a second, retransmissions included, and how many may come at once. Each refused one stays in the stack's memory for 32 s at
/// about 23 kB; one that is dropped here is sent again by a peer that means it.
const INVITES_PER_SECOND: f64 = 30.0;
const INVITE_BURST: f64 = 150.0;
/// Stateless answers a second: enough for a misconfigured peer, too few to be of use for reflection.
const ANSWERS_PER_SECOND: f64 = 20.0;
const ANSWER_BURST: f64 = 50.0;
/// One warning a reason in this time; those in between are counted in the next.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// A socket with the wire gate before it.
pub(super) struct GuardedSocket {
    /// Taken out when the agent stops: transactions in the stack hold on to `Self`, but must not hold the port.
    socket: StdMutex<Option<Arc<UdpSocket>>>,
    /// What the stack takes for its own address, never `0.0.0.0`.
    local: SocketAddr,
    /// Where it listens, perhaps on every address.
    listen: SocketAddr,
    addresses: Arc<Addresses>,
    gate: Arc<WireGate>,
    counters: Arc<Counters>,
    buffer: Mutex<Box<[u8]>>,
    limits: StdMutex<Limits>,
    #[cfg(test)]
    pub(super) sent: StdMutex<Vec<Vec<u8>>>,
}

impl GuardedSocket {
    pub(super) fn new(
        socket: UdpSocket,
        (listen, local): (SocketAddr, SocketAddr),
        addresses: Arc<Addresses>,
        gate: Arc<WireGate>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            socket: StdMutex::new(Some(Arc::new(socket))),
            local,
            listen,
            addresses,
            gate,
            counters,
            buffer: Mutex::new(vec![0; 65_536].into_boxed_slice()),
            limits: StdMutex::new(Limits::new(Instant::now())),
            #[cfg(test)]
            sent: StdMutex::default(),
        }
    }

    /// Frees the port. What is sent afterwards is an error.
    pub(super) fn close(&self) {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn open_socket(&self) -> std::io::Result<Arc<UdpSocket>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.clone().ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }

    async fn send(&self, message: &[u8], peer: SocketAddr) -> std::io::Result<usize> {
        self.open_socket()?.send_to(message, peer).await
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, why: Counter, what: &str, peer: SocketAddr) {
        let since = self.limits().warnings.entry(why.name()).or_default().due(Instant::now());
        match since {
            Some(suppressed) => warn!(%peer, reason = why.name(), suppressed, "SIP datagram refused: {what}"),
            None => debug!(%peer, reason = why.name(), "SIP datagram refused: {what}"),
        }
    }

    /// Handles one datagram; the length when the stack shall have what is then in `out`.
    async fn admit(&self, datagram: &[u8], peer: SocketAddr, out: &mut [u8]) -> Option<usize> {
        self.counters.count(Counter::Received);
        let allowed = self.gate.allows(peer);
        if !self.limits().admit(allowed, Instant::now()) {
            self.counters.count(Counter::Flood);
            self.warn(Counter::Flood, "too many datagrams", peer);
            return None;
        }
        match self.gate.inspect(datagram, peer) {
            Verdict::Pass { message, .. }
                if message.starts_with(b"INVITE ") && !self.limits().invites.take(Instant::now()) =>
            {
                self.counters.count(Counter::Flood);
                self.warn(Counter::Flood, "too many INVITEs", peer);
                None
            }
            Verdict::Pass { message, repairs } => {
                repairs.iter().for_each(|&repair| self.counters.count(repair));
                let room = out.get_mut(..message.len())?;
                room.copy_from_slice(&message);
                Some(message.len())
            }
            Verdict::Answer { response, why } => {
                self.counters.count(why);
                if why != Counter::Keepalive {
                    self.warn(why, first_line(&response), peer);
                }
                if self.limits().answers.take(Instant::now()) {
                    if let Err(error) = self.send(&response, peer).await {
                        debug!(%peer, %error, "a stateless SIP response could not be sent");
                    }
                } else {
                    self.counters.count(Counter::Unanswered);
                }
                None
            }
            Verdict::Drop { why, what } => {
                self.counters.count(why);
                if why != Counter::Keepalive {
                    self.warn(why, what, peer);
                }
                None
            }
        }
    }
}

fn first_line(response: &[u8]) -> &str {
    std::str::from_utf8(response).ok().and_then(|text| text.lines().next()).unwrap_or("answered")
}

#[async_trait::async_trait]
impl rsipstack::platform::net::UdpSocket for GuardedSocket {
    async fn recv_from(&self, out: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        let mut buffer = self.buffer.lock().await;
        let socket = self.open_socket()?;
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, peer)) => {
                    if let Some(len) = self.admit(&buffer[..len], peer, out).await {
                        return Ok((len, peer));
                    }
                }
                Err(error) => {
                    self.counters.count(Counter::SocketError);
                    self.warn(Counter::SocketError, &error.to_string(), self.local);
                    // An error that stays must not become a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn send_to(&self, message: &[u8], peer: SocketAddr) -> rsipstack::Result<usize> {
        let shown = peer.ip().to_canonical();
        let stamp = Stamp {
            placeholder: self.local,
            transport: Transport::Udp,
            sent_by: self.addresses.sent_by(shown, self.listen, None),
            contact: self.addresses.shown_to(shown, Transport::Udp),
        };
        let message = stamp.apply(message);
        #[cfg(test)]
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_vec());
        Ok(self.send(&message, peer).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.local)
    }
}

#[derive(Debug)]
struct Limits {
    allowed: TokenBucket,
    invites: TokenBucket,
    strangers: TokenBucket,
    answers: TokenBucket,
    /// By the reason's name.
    warnings: HashMap<&'static str, RareWarning>,
}

impl Limits {
    fn new(now: Instant) -> Self {
        Self {
            allowed: TokenBucket::new(now, DATAGRAMS_PER_SECOND, DATAGRAM_BURST),
            invites: TokenBucket::new(now, INVITES_PER_SECOND, INVITE_BURST),
            strangers: TokenBucket::new(now, STRANGERS_PER_SECOND, STRANGER_BURST),
            answers: TokenBucket::new(now, ANSWERS_PER_SECOND, ANSWER_BURST),
            warnings: HashMap::new(),
        }
    }

    /// Strangers have a bucket of their own, so that their flood takes nothing from the peers.
    fn admit(&mut self, allowed: bool, now: Instant) -> bool {
        if allowed { self.allowed.take(now) } else { self.strangers.take(now) }
    }
}

/// Lets `rate` a second through, and `burst` at once.
#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    filled_at: Instant,
    rate: f64,
    burst: f64,
}

impl TokenBucket {
    fn new(now: Instant, rate: f64, burst: f64) -> Self {
        Self { tokens: burst, filled_at: now, rate, burst }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now.max(self.filled_at);
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// A warning that is logged once an interval.
#[derive(Debug, Default)]
pub(super) struct RareWarning {
    last: Option<Instant>,
    suppressed: u64,
}

impl RareWarning {
    /// How many were suppressed since the last one when this one is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < WARNING_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10.0, 3.0);
        let granted = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!(granted, 3);
        let later = start + Duration::from_millis(100);
        assert!(bucket.take(later));
        assert!(!bucket.take(later));
        // A clock that stands still or an old instant gives nothing.
        assert!(!bucket.take(start));
    }

    #[test]
    fn a_flood_of_strangers_takes_nothing_from_the_peers() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        let admitted = (0..10_000).filter(|_| limits.admit(false, start)).count();
        assert_eq!(admitted, STRANGER_BURST as usize);
        assert!(limits.admit(true, start));
    }

    #[test]
    fn a_warning_comes_once_an_interval_and_tells_how_many_did_not() {
        let start = Instant::now();
        let mut warning = RareWarning::default();
        assert_eq!(warning.due(start), Some(0));
        assert_eq!(warning.due(start + Duration::from_secs(1)), None);
        assert_eq!(warning.due(start + Duration::from_secs(9)), None);
        assert_eq!(warning.due(start + Duration::from_secs(10)), Some(2));
        assert_eq!(warning.due(start + Duration::from_secs(20)), Some(0));
    }
}
