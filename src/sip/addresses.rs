//! Under which of our addresses a peer reaches us: what it or the configuration says, else the address its route leaves from.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};

use super::Transport;
use super::peers::Peers;

/// Routes that are remembered; the box talks to few hosts, and a scanner must not fill memory.
const ROUTES: usize = 256;

/// Our addresses, as each peer sees them. Cheap to ask; forgets when the interfaces change.
#[derive(Debug)]
pub(super) struct Addresses {
    /// For everybody, by configuration.
    public: Option<IpAddr>,
    /// Who belongs to which trunk, and the public address of each by configuration.
    peers: Arc<Peers>,
    of_trunks: Vec<Option<IpAddr>>,
    /// Where we listen: the port is ours, the address may be unspecified.
    listen: SocketAddr,
    known: RwLock<Known>,
}

/// A peer, and what carries messages to it: for a stream the connection, by its local port, since each has a mapping of its own in a NAT.
type Way = (IpAddr, Transport, u16);

fn way(peer: IpAddr, transport: Transport, local: SocketAddr) -> Way {
    (peer, transport, if transport == Transport::Udp { 0 } else { local.port() })
}

#[derive(Debug, Default)]
struct Known {
    /// What a peer said it sees us as (`received` and `rport`), or the configuration says it does.
    seen_as: HashMap<Way, SocketAddr>,
    routes: HashMap<IpAddr, IpAddr>,
}

impl Addresses {
    /// `of_trunks`: the public address of each trunk, in the order of `peers`.
    pub(super) fn new(
        listen: SocketAddr,
        public: Option<IpAddr>,
        peers: Arc<Peers>,
        of_trunks: Vec<Option<IpAddr>>,
    ) -> Self {
        Self { public, peers, of_trunks, listen, known: RwLock::default() }
    }

    /// The address that the configuration says `peer` reaches us at: its trunk's, else everybody's.
    fn public_for(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_loopback() {
            return None;
        }
        let of_trunk = |trunk: usize| self.of_trunks.get(trunk).copied().flatten();
        self.peers.trunks_of(peer).find_map(of_trunk).or(self.public)
    }

    /// What another server of the same trunk sees us as, over the one UDP socket.
    fn seen_by_its_like(&self, peer: IpAddr) -> Option<SocketAddr> {
        let trunk = self.peers.trunks_of(peer).next()?;
        let known = self.read();
        let alike = |address: IpAddr| self.peers.trunks_of(address).any(|other| other == trunk);
        known
            .seen_as
            .iter()
            .find(|((address, transport, _), _)| *transport == Transport::Udp && alike(*address))
            .map(|(_, seen)| *seen)
    }

    /// The address and port to show to `peer` (Via and Contact) for `transport`.
    pub(super) fn shown_to(&self, peer: IpAddr, transport: Transport) -> SocketAddr {
        let seen_as = self.read().seen_as.get(&way(peer, transport, self.listen)).copied();
        let configured = || self.public_for(peer).map(|public| SocketAddr::new(public, self.listen.port()));
        let seen_as = seen_as.or_else(configured).or_else(|| self.seen_by_its_like(peer));
        seen_as.unwrap_or_else(|| SocketAddr::new(self.local_address(peer), self.listen.port()))
    }

    /// The same for a connection of a stream, which leaves from `local`: `listening` is our port for that transport.
    pub(super) fn shown_on(
        &self,
        peer: IpAddr,
        transport: Transport,
        local: SocketAddr,
        listening: Option<u16>,
    ) -> SocketAddr {
        let seen_as = self.read().seen_as.get(&way(peer, transport, local)).copied();
        seen_as.unwrap_or_else(|| self.sent_by(peer, local, listening))
    }

    /// Where a message to `peer` comes from by all that we know without asking the peer: it does not change under way.
    pub(super) fn sent_by(&self, peer: IpAddr, local: SocketAddr, listening: Option<u16>) -> SocketAddr {
        let address = self.public_for(peer);
        let local_ip = if local.ip().is_unspecified() { self.local_address(peer) } else { local.ip() };
        SocketAddr::new(address.unwrap_or(local_ip), listening.unwrap_or(local.port()))
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

    /// `peer` sees us as `address`, on what leaves from `local`; none: as we see ourselves. Says whether that is news.
    pub(super) fn seen_by(
        &self,
        peer: IpAddr,
        transport: Transport,
        local: SocketAddr,
        address: Option<SocketAddr>,
    ) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = match address {
            Some(address) => known.seen_as.insert(way(peer, transport, local), address),
            None => known.seen_as.remove(&way(peer, transport, local)),
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

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 5070);

    fn addresses(trunks: Vec<Vec<ipnet::IpNet>>, of_trunks: Vec<Option<IpAddr>>) -> Addresses {
        Addresses::new(ANY, None, Arc::new(Peers::new(vec![], trunks)), of_trunks)
    }

    #[test]
    fn every_server_of_a_trunk_is_shown_its_public_address_or_what_another_one_sees() {
        let servers = || vec!["198.51.100.0/24".parse().unwrap()];
        let [first, second] = [7, 8].map(|last| IpAddr::from([198, 51, 100, last]));
        let public = IpAddr::from([203, 0, 113, 9]);
        let configured = addresses(vec![servers()], vec![Some(public)]);
        assert_eq!(configured.shown_to(second, Transport::Udp), SocketAddr::new(public, 5070));
        assert_eq!(configured.sent_by(second, ANY, None), SocketAddr::new(public, 5070));
        let learned = addresses(vec![servers()], vec![None]);
        let seen: SocketAddr = "203.0.113.9:61000".parse().unwrap();
        learned.seen_by(first, Transport::Udp, ANY, Some(seen));
        assert_eq!(learned.shown_to(second, Transport::Udp), seen);
        // Two connections to one server have a mapping each.
        let [one, other] = [40000, 40001].map(|port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port));
        learned.seen_by(first, Transport::Tcp, one, Some(seen));
        assert_eq!(learned.shown_on(first, Transport::Tcp, one, None), seen);
        assert_eq!(learned.shown_on(first, Transport::Tcp, other, None), other);
    }

    #[test]
    fn a_peer_is_shown_what_it_sees_and_else_where_the_route_leaves() {
        let addresses = addresses(vec![], vec![]);
        let peer = IpAddr::from([127, 0, 0, 9]);
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "127.0.0.1:5070".parse().unwrap());
        let seen = Some("203.0.113.5:61000".parse().unwrap());
        assert!(addresses.seen_by(peer, Transport::Udp, ANY, seen));
        assert!(!addresses.seen_by(peer, Transport::Udp, ANY, seen), "no news");
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "203.0.113.5:61000".parse().unwrap());
        assert_eq!(addresses.shown_to(peer, Transport::Tcp), "127.0.0.1:5070".parse().unwrap());
        assert!(addresses.seen_by(peer, Transport::Udp, ANY, None));
        assert_eq!(addresses.shown_to(peer, Transport::Udp), "127.0.0.1:5070".parse().unwrap());
    }
}
