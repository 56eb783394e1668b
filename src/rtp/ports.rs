//! The ports of calls: a pair each, and none again so soon that what is under way to the call before could be taken for the next one's.
//!
//! A far side that has not heard our BYE sends on until one of its repetitions arrives, for 32 s at most (RFC 3261 §17.1.2.2, timer F). For so
//! long a pair rests after its call. When all that is free rests, the pair that has rested longest is taken: a call with a chance of a
//! stranger's first packets is better than none.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::socket::bind_pair;

/// How long a pair rests after its call.
const REST: Duration = Duration::from_secs(32);

/// The ports of this process's calls.
static TURNS: Mutex<Turns> = Mutex::new(Turns { next: 0, taken: Vec::new(), resting: VecDeque::new() });

/// A pair of ports that is a call's. When this is dropped, it begins to rest.
#[derive(Debug)]
pub struct Lease {
    /// `None`: the system chose the ports, and gives them out at random.
    port: Option<u16>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            turns().give_back(port, Instant::now());
        }
    }
}

/// Binds an even port of `range` for RTP and the one above it for RTCP, both non-blocking, which are a call's as long as the lease is kept.
/// The range `0..=0` takes any ports.
///
/// # Errors
/// `AddrInUse` when no pair of the range is free; whatever else the system says, at once.
pub fn lease_pair(address: IpAddr, range: RangeInclusive<u16>) -> io::Result<(UdpSocket, UdpSocket, Lease)> {
    if range == (0..=0) {
        return bind_pair(address, range).map(|(rtp, rtcp)| (rtp, rtcp, Lease { port: None }));
    }
    let order = turns().order(&range, Instant::now());
    let mut bound = order.into_iter().map(|port| bind_pair(address, port..=port + 1));
    let in_use = |bound: &io::Result<_>| bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    // The whole range once more says that nothing of it is free, if that is still so.
    let (rtp, rtcp) = bound.find(|bound| !in_use(bound)).unwrap_or_else(|| bind_pair(address, range))?;
    let port = rtp.local_addr()?.port();
    turns().give_out(port);
    Ok((rtp, rtcp, Lease { port: Some(port) }))
}

fn turns() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In which order pairs are tried. A pair is named by its even port.
#[derive(Debug)]
struct Turns {
    /// Where the next search begins: behind the last one's, so that a pair is tried again as late as can be.
    next: u32,
    /// Pairs of calls that go on, and those that rest, the longest first. Each once, so that there is an end to them.
    taken: Vec<u16>,
    resting: VecDeque<(u16, Instant)>,
}

impl Turns {
    fn give_out(&mut self, port: u16) {
        self.resting.retain(|&(other, _)| other != port);
        self.taken.retain(|&other| other != port);
        self.taken.push(port);
    }

    fn give_back(&mut self, port: u16, now: Instant) {
        self.taken.retain(|&other| other != port);
        self.resting.retain(|&(other, since)| other != port && now.saturating_duration_since(since) < REST);
        self.resting.push_back((port, now));
    }

    /// The pairs of a range: those that are free, in turn; behind them those that rest, the longest first; and those whose call may have
    /// closed them already, but is not over.
    fn order(&mut self, range: &RangeInclusive<u16>, now: Instant) -> Vec<u16> {
        self.resting.retain(|&(_, since)| now.saturating_duration_since(since) < REST);
        let first = u32::from(*range.start()).next_multiple_of(2).max(2);
        let pairs = (u32::from(*range.end()) + 1).saturating_sub(first) / 2;
        let ports = (0..pairs).map(|n| (first + (self.next.wrapping_add(n) % pairs) * 2) as u16);
        let known = || self.resting.iter().map(|&(port, _)| port).chain(self.taken.iter().copied());
        let mut order: Vec<u16> = ports.filter(|port| known().all(|known| known != *port)).collect();
        order.extend(known().filter(|&port| (first..first + pairs * 2).contains(&u32::from(port))));
        self.next = self.next.wrapping_add(1);
        order
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn turns() -> Turns {
        Turns { next: 0, taken: Vec::new(), resting: VecDeque::new() }
    }

    #[test]
    fn a_pair_is_not_given_to_another_call_while_packets_of_the_last_one_may_come() {
        let (mut turns, start) = (turns(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        // Every call ends a second after it began.
        let given: Vec<u16> = (0..50)
            .map(|n| {
                let port = turns.order(&(20_000..=20_099), after(n))[0];
                turns.give_out(port);
                turns.give_back(port, after(n + 1));
                port
            })
            .collect();
        for (n, port) in given.iter().enumerate() {
            assert!(!given[..n].iter().rev().take(33).any(|before| before == port), "{port} rests: {given:?}");
        }
    }

    #[test]
    fn when_all_rest_the_one_that_has_rested_longest_is_first() {
        let (mut turns, start) = (turns(), Instant::now());
        for (seconds, port) in [(0, 20_004), (1, 20_000), (2, 20_002), (3, 20_004), (4, 30_000)] {
            turns.give_back(port, start + Duration::from_secs(seconds));
        }
        let mut order = |seconds| turns.order(&(20_000..=20_005), start + Duration::from_secs(seconds));
        assert_eq!(order(5), [20_000, 20_002, 20_004]);
        // The first one's rest is over.
        assert_eq!(order(33), [20_000, 20_002, 20_004]);
        assert_eq!(order(34), [20_000, 20_002, 20_004]);
        assert_eq!(order(40).len(), 3);
    }

    #[test]
    fn a_pair_whose_call_has_closed_it_but_is_not_over_is_the_last_one_that_is_tried() {
        let (mut turns, now) = (turns(), Instant::now());
        turns.give_out(20_000);
        turns.give_out(20_002);
        assert_eq!(turns.order(&(20_000..=20_005), now), [20_004, 20_000, 20_002]);
        turns.give_back(20_002, now);
        assert_eq!(turns.order(&(20_000..=20_005), now), [20_004, 20_002, 20_000]);
    }

    #[test]
    fn what_rests_is_bounded_by_what_there_is() {
        let (mut turns, now) = (turns(), Instant::now());
        for n in 0..100_000u32 {
            turns.give_back((2 * (n % 100)) as u16, now);
        }
        assert_eq!(turns.resting.len(), 100);
    }

    /// Four pairs that were free a moment ago.
    fn free_range() -> RangeInclusive<u16> {
        loop {
            let first = bind_pair(LOOPBACK, 0..=0).unwrap().0.local_addr().unwrap().port();
            let pairs = (first..first.saturating_add(8)).step_by(2);
            if first < 60_000 && pairs.clone().all(|port| bind_pair(LOOPBACK, port..=port + 1).is_ok()) {
                return first..=first + 7;
            }
        }
    }

    #[test]
    fn a_range_gives_each_pair_once_and_then_names_the_keys_to_widen() {
        let range = free_range();
        let pairs: Vec<_> = (0..4).map(|_| lease_pair(LOOPBACK, range.clone()).unwrap()).collect();
        assert!(pairs.iter().all(|(rtp, ..)| range.contains(&rtp.local_addr().unwrap().port())));
        let error = lease_pair(LOOPBACK, range.clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("rtp.port_min"), "{error}");
        drop(pairs);
        lease_pair(LOOPBACK, range).unwrap();
    }
}
