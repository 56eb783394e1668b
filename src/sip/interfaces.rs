//! Tells when the addresses of our interfaces have changed, by netlink.
//!
//! A change comes in pieces (the old address goes, the new one comes, then the IPv6 ones): they are told as one.
//! Loopback and link-local addresses do not count. A cable that is pulled and put back without a change of addresses is
//! not seen here; the registration notices it itself.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use tokio::time::timeout;
use tracing::{info, warn};

/// Pieces of one change come within this time of one another.
const SETTLED: Duration = Duration::from_millis(300);

/// Calls `changed` after each change; ends, with a warning, when the system does not tell of changes.
pub(super) async fn watch(changed: impl Fn()) {
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            warn!(%error, "changes of network addresses go unnoticed until the next registration; netlink must be allowed (AF_NETLINK)");
            return;
        }
    };
    let mut addresses = Addresses::default();
    loop {
        let mut next = poll_fn(|context| watcher.poll_if_event(context)).await;
        loop {
            match next {
                Ok(event) => addresses.take(event),
                Err(error) => {
                    warn!(%error, "changes of network addresses go unnoticed from here on");
                    return;
                }
            }
            match timeout(SETTLED, poll_fn(|context| watcher.poll_if_event(context))).await {
                Ok(another) => next = another,
                Err(_) => break,
            }
        }
        if addresses.settle() {
            info!("our network addresses have changed");
            changed();
        }
    }
}

/// The addresses that count, as they are and as they were told last.
#[derive(Debug, Default)]
struct Addresses {
    present: BTreeSet<IpAddr>,
    told: Option<BTreeSet<IpAddr>>,
}

impl Addresses {
    fn take(&mut self, event: IfEvent) {
        match event {
            IfEvent::Up(net) if counts(net.addr()) => _ = self.present.insert(net.addr()),
            IfEvent::Down(net) => _ = self.present.remove(&net.addr()),
            IfEvent::Up(_) => {}
        }
    }

    /// Whether that is news. What was there at the start is none.
    fn settle(&mut self) -> bool {
        let before = self.told.replace(self.present.clone());
        before.is_some_and(|before| before != self.present)
    }
}

fn counts(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> ipnet::IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_change_is_told_once_and_what_was_there_before_is_none() {
        let mut addresses = Addresses::default();
        addresses.take(IfEvent::Up(net("127.0.0.1/8")));
        addresses.take(IfEvent::Up(net("192.0.2.10/24")));
        assert!(!addresses.settle(), "the start");
        addresses.take(IfEvent::Down(net("192.0.2.10/24")));
        addresses.take(IfEvent::Up(net("192.0.2.11/24")));
        assert!(addresses.settle());
        assert!(!addresses.settle());
    }

    #[test]
    fn an_address_that_comes_back_at_once_and_one_that_reaches_nobody_are_no_change() {
        let mut addresses = Addresses::default();
        addresses.take(IfEvent::Up(net("192.0.2.10/24")));
        addresses.settle();
        addresses.take(IfEvent::Down(net("192.0.2.10/24")));
        addresses.take(IfEvent::Up(net("192.0.2.10/24")));
        addresses.take(IfEvent::Up(net("fe80::1/64")));
        addresses.take(IfEvent::Up(net("169.254.3.4/16")));
        assert!(!addresses.settle());
    }
}
