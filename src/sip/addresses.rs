//! Under which of our addresses a peer reaches us: what it or the configuration says, else the address its route leaves from.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{PoisonError, RwLock};

use super::Transport;

/// Routes that are remembered; the box talks to few hosts, and a scanner must not fill memory.
const ROUTES: usize = 256;

/// Our addresses, as each peer sees them. Cheap to ask; forgets when the interfaces change.
#[derive(Debug)]
pub(super) struct Addresses {
    /// For everybody, by configuration.
    public: Option<IpAddr>,
    /// Where we listen: the port is ours, the address may be unspecified.
    listen: SocketAddr,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What a peer said it sees us as (`received` and `rport`), or the configuration says it does.
    seen_as: HashMap<(IpAddr, Transport), SocketAddr>,
    routes: HashMap<IpAddr, IpAddr>,
}

impl Addresses {
    pub(super) fn new(listen: SocketAddr, public: Option<IpAddr>) -> Self {
        Self { public, listen, known: RwLock::default() }
    }

    /// The address and port to show to `peer` (Via and Contact) for `transport`.
    pub(super) fn shown_to(&self, peer: IpAddr, transport: Transport) -> SocketAddr {
        let seen_as = self.read().seen_as.get(&(peer, transport)).copied();
        seen_as.unwrap_or_else(|| SocketAddr::new(self.media_address(peer), self.listen.port()))
    }

    /// The same for a connection of a stream, which leaves from `local`: `listening` is our port for that transport.
    pub(super) fn shown_on(
        &self,
        peer: IpAddr,
        transport: Transport,
        local: SocketAddr,
        listening: Option<u16>,
    ) -> SocketAddr {
        let seen_as = self.read().seen_as.get(&(peer, transport)).copied();
        seen_as.unwrap_or_else(|| self.sent_by(peer, local, listening))
    }

    /// Where a message to `peer` comes from by all that we know without asking the peer: it does not change under way.
    pub(super) fn sent_by(&self, peer: IpAddr, local: SocketAddr, listening: Option<u16>) -> SocketAddr {
        let address = self.public.filter(|_| !peer.is_loopback());
        let local_ip = if local.ip().is_unspecified() { self.local_address(peer) } else { local.ip() };
        SocketAddr::new(address.unwrap_or(local_ip), listening.unwrap_or(local.port()))
    }

    /// The address to show to `peer` for media.
    pub(super) fn media_address(&self, peer: IpAddr) -> IpAddr {
        if let Some(public) = self.public.filter(|_| !peer.is_loopback()) {
            return public;
        }
        self.local_address(peer)
    }

    /// The local address that packets to `peer` leave from.
    pub(super) fn local_address(&self, peer: IpAddr) -> IpAddr {
        if !self.listen.ip().is_unspecified() {
            return self.listen.ip();
        }
        if let Some(known) = self.read().routes.get(&peer) {
            return *known;
        }
        let Some(local) = route_from(peer) else { return self.listen.ip() };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.routes.len() >= ROUTES {
            known.routes.clear();
        }
        known.routes.insert(peer, local);
        local
    }

    /// `peer` sees us as `address`; none: as we see ourselves. Says whether that is news.
    pub(super) fn seen_by(&self, peer: IpAddr, transport: Transport, address: Option<SocketAddr>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = match address {
            Some(address) => known.seen_as.insert((peer, transport), address),
            None => known.seen_as.remove(&(peer, transport)),
        };
        before != address
    }

    /// Our interfaces have changed.
    pub(super) fn forget_routes(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).routes.clear();
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The local address from which a datagram to `peer` would leave; nothing is sent.
fn route_from(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let probe = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    probe.connect(SocketAddr::new(peer, 9)).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_shown_what_it_sees_and_else_where_the_route_leaves() {
        let addresses = Addresses::new("0.0.0.0:5070".parse().unwrap(), None);
        let peer = IpAddr::from([127, 0, 0, 9]);
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "127.0.0.1:5070".parse().unwrap());
        let seen = Some("203.0.113.5:61000".parse().unwrap());
        assert!(addresses.seen_by(peer, Transport::Udp, seen));
        assert!(!addresses.seen_by(peer, Transport::Udp, seen), "no news");
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "203.0.113.5:61000".parse().unwrap());
        assert_eq!(addresses.shown_to(peer, Transport::Tcp), "127.0.0.1:5070".parse().unwrap());
        assert!(addresses.seen_by(peer, Transport::Udp, None));
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "127.0.0.1:5070".parse().unwrap());
    }
}
