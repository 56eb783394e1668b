//! How much is taken on: rates for each peer and for all together, and which requests were seen a moment ago.
//!
//! Everything has a fixed size and is allocated once. Pure: `now` is an argument.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One warning a reason in this time; those in between are counted in the next.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// 64·T1 (RFC 3261 §17): so long a request may be sent again.
const RETRANSMISSION: Duration = Duration::from_secs(32);
/// Peers whose rates are remembered, in sets of [`WAYS`]. The one heard least recently makes room.
const SOURCES: usize = 1024;
const WAYS: usize = 4;

/// What a message costs, and how much it matters when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Responses to what we asked.
    Response,
    /// Requests of a call in progress, ACK and CANCEL.
    Dialog,
    /// Whatever else is asked: INVITE, OPTIONS, REGISTER.
    New,
    /// Empty lines.
    Keepalive,
}

const CLASSES: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    const fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst }
    }

    fn times(self, factor: f64) -> Self {
        Self::new(self.per_second * factor, self.burst * factor)
    }
}

/// The rates that follow from how many calls a second are wanted.
///
/// A call costs its peer one INVITE, an ACK and a BYE, each perhaps sent several times, and us a few responses.
fn rates(calls_per_second: f64) -> [Rate; CLASSES] {
    let twice = |rate: f64| Rate::new(rate, rate * 2.0);
    let dialog = twice(8.0 * calls_per_second + 100.0);
    [dialog, dialog, twice(4.0 * calls_per_second + 20.0), Rate::new(10.0, 20.0)]
}

/// Strangers: callees that answer our INVITEs from outside the allowed peers, and who is told 403.
const STRANGERS: Rate = Rate::new(200.0, 400.0);
/// 403 a second: enough for a misconfigured peer, too few to be of use for reflection.
const STRANGER_ANSWERS: Rate = Rate::new(20.0, 50.0);

/// All limits of one user agent.
#[derive(Debug)]
pub(super) struct Limits {
    sources: Sources,
    overall: [TokenBucket; CLASSES],
    calls: TokenBucket,
    transactions: TokenBucket,
    strangers: TokenBucket,
    stranger_answers: TokenBucket,
    /// Requests that the stack has got: what is sent again must reach it again.
    pub(super) passed: Recent,
    /// Calls that were refused: the same INVITE must get the same answer.
    pub(super) refused: Recent,
}

impl Limits {
    pub(super) fn new(now: Instant, calls_per_second: u32) -> Self {
        let wanted = f64::from(calls_per_second);
        let rates = rates(wanted);
        let bucket = |rate| TokenBucket::new(now, rate);
        Self {
            sources: Sources::new(now, rates),
            // Two peers at full rate, and no flood of forged addresses that is more.
            overall: rates.map(|rate| bucket(rate.times(2.0))),
            calls: bucket(Rate::new(wanted, wanted.max(1.0))),
            // Each takes 1.7 kB of the stack's memory for 32 s.
            transactions: bucket(Rate::new(3.0 * wanted + 50.0, 6.0 * wanted + 100.0)),
            strangers: bucket(STRANGERS),
            stranger_answers: bucket(STRANGER_ANSWERS),
            // INVITE, BYE and one more for each call.
            passed: Recent::new(now, calls_per_second as usize * 3 * RETRANSMISSION.as_secs() as usize + 1024),
            refused: Recent::new(now, 2048),
        }
    }

    /// Whether another message of this class from a peer is looked at.
    pub(super) fn admit(&mut self, peer: IpAddr, class: Class, now: Instant) -> bool {
        // The source's own limit comes first, so that a flood from one takes little from the others.
        self.sources.take(peer, class, now) && self.overall[class as usize].take(now)
    }

    /// Whether another message of a stranger is looked at.
    pub(super) fn admit_stranger(&mut self, now: Instant) -> bool {
        self.strangers.take(now)
    }

    /// Whether another stranger gets an answer.
    pub(super) fn answer_stranger(&mut self, now: Instant) -> bool {
        self.stranger_answers.take(now)
    }

    /// Whether another call is taken on.
    pub(super) fn take_call(&mut self, now: Instant) -> bool {
        self.calls.take(now)
    }

    /// Whether the stack gets another request of a call in progress.
    pub(super) fn take_transaction(&mut self, now: Instant) -> bool {
        self.transactions.take(now)
    }
}

/// Lets a rate a second through, and a burst at once.
#[derive(Debug, Clone, Copy)]
struct TokenBucket {
    tokens: f64,
    filled_at: Instant,
    rate: Rate,
}

impl TokenBucket {
    fn new(now: Instant, rate: Rate) -> Self {
        Self { tokens: rate.burst, filled_at: now, rate }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now.max(self.filled_at);
        self.tokens = (self.tokens + elapsed * self.rate.per_second).min(self.rate.burst);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The buckets of each peer, in sets of [`WAYS`] of which one is replaced when a new peer comes.
#[derive(Debug)]
struct Sources {
    rates: [Rate; CLASSES],
    sources: Box<[Source]>,
    keys: std::hash::RandomState,
}

#[derive(Debug, Clone)]
struct Source {
    key: Option<u128>,
    heard_at: Instant,
    buckets: [TokenBucket; CLASSES],
}

impl Sources {
    fn new(now: Instant, rates: [Rate; CLASSES]) -> Self {
        let source = Source { key: None, heard_at: now, buckets: rates.map(|rate| TokenBucket::new(now, rate)) };
        Self { rates, sources: vec![source; SOURCES].into(), keys: Default::default() }
    }

    fn take(&mut self, peer: IpAddr, class: Class, now: Instant) -> bool {
        use std::hash::BuildHasher;
        let key = source_key(peer);
        let set = self.keys.hash_one(key) as usize % (SOURCES / WAYS) * WAYS;
        let set = &mut self.sources[set..set + WAYS];
        let at = set.iter().position(|source| source.key == Some(key)).unwrap_or_else(|| {
            let (at, _) = set
                .iter()
                .enumerate()
                .min_by_key(|(_, source)| (source.key.is_some(), source.heard_at))
                .unwrap_or((0, &set[0]));
            set[at] =
                Source { key: Some(key), heard_at: now, buckets: self.rates.map(|rate| TokenBucket::new(now, rate)) };
            at
        });
        let source = &mut set[at];
        source.heard_at = now;
        source.buckets[class as usize].take(now)
    }
}

/// An IPv4 address, or the network of an IPv6 one: who has one address of a /64 has them all.
fn source_key(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64 | 1 << 63,
    }
}

/// Requests seen in the last 32 s, by a hash, each with a status (0: passed on). The oldest make room.
#[derive(Debug)]
pub(super) struct Recent {
    epoch: Instant,
    entries: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    hash: u64,
    /// In units of 10 ms since the epoch, from 1; 0: empty.
    at: u32,
    status: u16,
}

impl Recent {
    fn new(now: Instant, capacity: usize) -> Self {
        Self { epoch: now, entries: vec![Entry::default(); capacity.next_power_of_two()].into() }
    }

    fn set(&mut self, hash: u64) -> &mut [Entry] {
        let at = hash as usize % (self.entries.len() / WAYS) * WAYS;
        &mut self.entries[at..at + WAYS]
    }

    fn tick(&self, now: Instant) -> u32 {
        // After 497 days it begins again; entries of the last 32 s are then forgotten once.
        (now.saturating_duration_since(self.epoch).as_millis() / 10 + 1) as u32
    }

    /// The status of a request that was seen.
    pub(super) fn get(&mut self, hash: u64, now: Instant) -> Option<u16> {
        let life = (RETRANSMISSION.as_millis() / 10) as u32;
        let tick = self.tick(now);
        let fresh = |entry: &&Entry| entry.hash == hash && entry.at != 0 && tick.wrapping_sub(entry.at) < life;
        self.set(hash).iter().find(|entry| fresh(entry)).map(|entry| entry.status)
    }

    pub(super) fn insert(&mut self, hash: u64, status: u16, now: Instant) {
        let at = self.tick(now);
        let set = self.set(hash);
        let same = set.iter().position(|entry| entry.hash == hash && entry.at != 0);
        let oldest = || (0..WAYS).min_by_key(|&index| set[index].at).unwrap_or(0);
        let place = same.unwrap_or_else(oldest);
        set[place] = Entry { hash, at, status };
    }
}

/// A warning that is logged once an interval.
#[derive(Debug, Default, Clone, Copy)]
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

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, Rate::new(10.0, 3.0));
        let granted = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!(granted, 3);
        let later = start + Duration::from_millis(100);
        assert!(bucket.take(later));
        assert!(!bucket.take(later));
        // A clock that stands still or an old instant gives nothing.
        assert!(!bucket.take(start));
    }

    #[test]
    fn a_flood_from_one_peer_takes_nothing_from_another_nor_from_its_own_calls() {
        let start = Instant::now();
        let mut limits = Limits::new(start, 30);
        for packet in 0..40_000 {
            limits.admit(PEER, Class::New, start + Duration::from_micros(packet * 25));
        }
        let end = start + Duration::from_secs(1);
        assert!(!limits.admit(PEER, Class::New, end));
        assert!(limits.admit(PEER, Class::Dialog, end));
        assert!(limits.admit(PEER, Class::Response, end));
        assert!(limits.admit(IpAddr::from([10, 0, 0, 8]), Class::New, end));
    }

    #[test]
    fn forged_addresses_get_no_more_than_two_peers() {
        let start = Instant::now();
        let mut limits = Limits::new(start, 30);
        let flood = (0..100_000_u32).map(|index| IpAddr::from((0x0a00_0000 + index).to_be_bytes()));
        let admitted = flood.filter(|&peer| limits.admit(peer, Class::New, start)).count();
        let [_, _, new, _] = rates(30.0);
        assert_eq!(admitted, (new.burst * 2.0) as usize);
    }

    #[test]
    fn two_hundred_calls_a_second_are_no_flood() {
        let start = Instant::now();
        let mut limits = Limits::new(start, 200);
        for call in 0..12_000 {
            let now = start + Duration::from_millis(5) * call;
            assert!(limits.admit(PEER, Class::New, now) && limits.take_call(now), "call {call}");
            for _ in 0..2 {
                assert!(limits.admit(PEER, Class::Dialog, now), "call {call}");
            }
            assert!(limits.take_transaction(now), "call {call}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let source = |text: &str| source_key(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.7"), source("10.0.0.7"));
        assert_ne!(source("::1"), source("0.0.0.0"));
    }

    #[test]
    fn a_request_is_remembered_for_half_a_minute_and_the_oldest_make_room() {
        let start = Instant::now();
        let mut recent = Recent::new(start, 8);
        recent.insert(7, 486, start);
        assert_eq!(recent.get(7, start + Duration::from_secs(31)), Some(486));
        assert_eq!(recent.get(7, start + Duration::from_secs(33)), None);
        assert_eq!(recent.get(9, start), None);
        for hash in 0..1000 {
            recent.insert(hash, 0, start + Duration::from_millis(10) * (hash as u32 + 1));
        }
        let now = start + Duration::from_secs(11);
        assert_eq!((0..1000).filter(|&hash| recent.get(hash, now).is_some()).count(), 8);
        assert_eq!(recent.get(999, now), Some(0));
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
