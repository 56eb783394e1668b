//! Who may send requests: the configured peers, and per trunk its own peers and the addresses that its names resolve to.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Which configured party an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// One of the trunks, by its place in the options.
    Trunk(usize),
    /// An allowed peer that is no trunk.
    Allowed,
}

/// The addresses of peers; those of trunks change as names are looked up.
#[derive(Debug)]
pub(super) struct Peers {
    allowed: Vec<IpNet>,
    trunks: Vec<TrunkPeers>,
}

#[derive(Debug)]
struct TrunkPeers {
    configured: Vec<IpNet>,
    /// With the time at which each was last among the answers.
    resolved: RwLock<Vec<(IpAddr, Instant)>>,
}

/// How long an address counts after the DNS has named it: names with many servers answer with others each time.
const KEPT: Duration = Duration::from_secs(3600);
/// Addresses of a trunk that are kept.
const MOST: usize = 64;

impl Peers {
    /// `trunks`: each trunk's configured peers, in the order of the trunks.
    pub(super) fn new(allowed: Vec<IpNet>, trunks: Vec<Vec<IpNet>>) -> Self {
        let trunk = |configured| TrunkPeers { configured, resolved: RwLock::default() };
        Self { allowed, trunks: trunks.into_iter().map(trunk).collect() }
    }

    /// What a trunk's names stand for at present, besides what they stood for in the last hour.
    pub(super) fn resolved(&self, trunk: usize, addresses: Vec<IpAddr>, now: Instant) {
        let Some(trunk) = self.trunks.get(trunk) else { return };
        let mut known = trunk.resolved.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(address, seen)| now.saturating_duration_since(*seen) < KEPT && !addresses.contains(address));
        known.extend(addresses.into_iter().map(|address| (address, now)));
        let surplus = known.len().saturating_sub(MOST);
        known.drain(..surplus);
    }

    /// Whose address it is; trunks come before the peers that are merely allowed.
    pub(super) fn of(&self, address: IpAddr) -> Option<Peer> {
        let trunk = self.trunks_of(address).next().map(Peer::Trunk);
        let address = address.to_canonical();
        trunk.or_else(|| self.allowed.iter().any(|net| net.contains(&address)).then_some(Peer::Allowed))
    }

    /// Every trunk whose peer it is.
    pub(super) fn trunks_of(&self, address: IpAddr) -> impl Iterator<Item = usize> {
        let address = address.to_canonical();
        let is_trunk = move |trunk: &TrunkPeers| {
            let resolved = trunk.resolved.read().unwrap_or_else(PoisonError::into_inner);
            resolved.iter().any(|(known, _)| *known == address)
                || trunk.configured.iter().any(|net| net.contains(&address))
        };
        self.trunks.iter().enumerate().filter(move |(_, trunk)| is_trunk(trunk)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunks_address_is_the_trunks_even_within_an_allowed_network() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let peers = Peers::new(vec![net("192.0.2.0/24")], vec![vec![net("198.51.100.7/32")], vec![]]);
        let start = Instant::now();
        peers.resolved(1, vec![ip("192.0.2.9")], start);
        assert_eq!(peers.of(ip("198.51.100.7")), Some(Peer::Trunk(0)));
        assert_eq!(peers.of(ip("::ffff:192.0.2.9")), Some(Peer::Trunk(1)));
        assert_eq!(peers.of(ip("192.0.2.8")), Some(Peer::Allowed));
        assert_eq!(peers.of(ip("203.0.113.1")), None);
        peers.resolved(0, vec![ip("192.0.2.9")], start);
        assert_eq!(peers.trunks_of(ip("192.0.2.9")).collect::<Vec<_>>(), [0, 1]);
        let later = start + KEPT;
        peers.resolved(0, vec![], later);
        peers.resolved(1, vec![], start);
        assert_eq!(peers.of(ip("192.0.2.9")), Some(Peer::Trunk(1)), "another answer of the DNS is no change of mind");
        peers.resolved(1, vec![], later);
        assert_eq!(peers.of(ip("192.0.2.9")), Some(Peer::Allowed));
    }
}
