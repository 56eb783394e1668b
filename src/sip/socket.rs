//! The UDP socket as the stack sees it: every datagram has passed the wire gate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tracing::debug;

use super::addresses::Addresses;
use super::stamp::Stamp;
use super::streams::Locator;
use super::wire::{Source, Verdict, WireGate};
use super::{Counter, Transport};

/// What the kernel should hold for us while we are busy, as far as it allows: 50 ms of a flood.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// A socket with the wire gate before it.
pub(super) struct GuardedSocket {
    /// Taken out when the agent stops: transactions in the stack hold on to `Self`, but must not hold the port.
    socket: StdMutex<Option<Arc<UdpSocket>>>,
    /// What the stack takes for its own address, never `0.0.0.0`.
    local: SocketAddr,
    /// Where it listens, perhaps on every address.
    listen: SocketAddr,
    addresses: Arc<Addresses>,
    /// Where requests go that are too large for a datagram.
    streams: Locator,
    gate: Arc<WireGate>,
    buffer: Mutex<Box<[u8]>>,
    #[cfg(test)]
    pub(super) sent: StdMutex<Vec<Vec<u8>>>,
}

impl GuardedSocket {
    pub(super) fn new(
        socket: UdpSocket,
        (listen, local): (SocketAddr, SocketAddr),
        (addresses, streams): (Arc<Addresses>, Locator),
        gate: Arc<WireGate>,
    ) -> Self {
        // The kernel's default holds a few hundred datagrams: an honest one would be lost among a flood.
        if let Err(error) = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
            debug!(%error, "the receive buffer of the SIP socket stays as it is");
        }
        Self {
            socket: StdMutex::new(Some(Arc::new(socket))),
            local,
            listen,
            addresses,
            streams,
            gate,
            buffer: Mutex::new(vec![0; 65_536].into_boxed_slice()),
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

    /// Handles one datagram; the length when the stack shall have what is then in `out`.
    async fn admit(&self, datagram: &[u8], peer: SocketAddr, out: &mut [u8]) -> Option<usize> {
        let from = Source { peer, transport: Transport::Udp };
        match self.gate.inspect(datagram, from, Instant::now()) {
            Verdict::Pass { message, .. } => {
                let room = out.get_mut(..message.len())?;
                room.copy_from_slice(&message);
                Some(message.len())
            }
            Verdict::Answer { response, to, .. } => {
                if let Err(error) = self.send(&response, to).await {
                    debug!(peer = %to, %error, "a stateless SIP response could not be sent");
                }
                None
            }
            Verdict::Drop { .. } => None,
        }
    }
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
                    self.gate.report(Counter::SocketError, &error.to_string(), self.local, Instant::now());
                    // An error that stays must not become a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn send_to(&self, message: &[u8], peer: SocketAddr) -> rsipstack::Result<usize> {
        if self.streams.send_large(message, peer).await {
            return Ok(message.len());
        }
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
