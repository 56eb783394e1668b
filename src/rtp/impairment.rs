//! A bad network to order: loss, bursts, delay, jitter, reordering and duplication, the same for the same seed.
//!
//! Without IO and without a clock, so that unit tests drive it in virtual time and a UDP relay drives it in real time. No bandwidth
//! limit, no corruption of bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// What a network does to packets. The default does nothing to them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Profile {
    /// Share of packets lost in the long run, 0 to 1.
    pub loss: f64,
    /// Mean number of packets lost in a row (Gilbert's model); below 1 counts as 1, which loses each packet by itself.
    pub burst: f64,
    /// Delay of every packet.
    pub delay: Duration,
    /// Mean of the exponentially distributed delay on top. It keeps the order of packets.
    pub jitter: Duration,
    /// Share of packets that are held back so that later ones overtake them, 0 to 1.
    pub reorder: f64,
    /// How long such a packet is held back.
    pub reorder_by: Duration,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
}

/// What became of the packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImpairmentCounters {
    /// Packets put in.
    pub offered: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets held back behind later ones.
    pub reordered: u64,
    /// Packets that came out twice.
    pub duplicated: u64,
}

/// One direction of a bad network: packets go in, and come out later, or not, or twice.
#[derive(Debug)]
pub struct Impairment<T> {
    profile: Profile,
    random: Rng,
    /// In the losing state of Gilbert's model.
    losing: bool,
    /// When the last packet that keeps its place comes out.
    last: Option<Instant>,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    counters: ImpairmentCounters,
}

impl<T: Clone> Impairment<T> {
    /// A network of this kind; the same seed makes the same faults.
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            random: Rng::with_seed(seed),
            losing: false,
            last: None,
            waiting: BinaryHeap::new(),
            counters: ImpairmentCounters::default(),
        }
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> ImpairmentCounters {
        self.counters
    }

    /// Changes the network; what is under way stays so.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// Puts a packet in.
    pub fn handle_packet(&mut self, now: Instant, packet: T) {
        self.counters.offered += 1;
        if self.loses() {
            self.counters.lost += 1;
            return;
        }
        let jitter = self.profile.jitter.mul_f64(-(1.0 - self.random.f64()).ln());
        let mut due = now + self.profile.delay + jitter;
        if self.happens(self.profile.reorder) {
            self.counters.reordered += 1;
            due += self.profile.reorder_by;
        } else {
            due = self.last.map_or(due, |last| due.max(last));
            self.last = Some(due);
        }
        if self.happens(self.profile.duplicate) {
            self.counters.duplicated += 1;
            self.wait(due, packet.clone());
        }
        self.wait(due, packet);
    }

    /// When the next packet comes out.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }

    /// The next packet that has come out by `now`, and when it did.
    pub fn poll(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(waiting)| (waiting.due, waiting.packet))
    }

    fn wait(&mut self, due: Instant, packet: T) {
        let order = self.counters.offered;
        self.waiting.push(Reverse(Waiting { due, order, packet }));
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }

    /// Gilbert's model: bursts of mean length b, entered so often that the share p is lost in the long run.
    fn loses(&mut self) -> bool {
        let loss = self.profile.loss;
        if loss >= 1.0 {
            return true;
        }
        let burst = self.profile.burst.max(1.0);
        let share = if burst > 1.0 && self.losing {
            1.0 - 1.0 / burst
        } else if burst > 1.0 {
            loss / (burst * (1.0 - loss))
        } else {
            loss
        };
        self.losing = self.happens(share);
        self.losing
    }
}

#[derive(Debug)]
struct Waiting<T> {
    due: Instant,
    order: u64,
    packet: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` packets 20 ms apart and collects what comes out, with its delay.
    fn through(profile: Profile, seed: u64, count: u32) -> (Vec<(u32, Duration)>, ImpairmentCounters) {
        let (mut network, start) = (Impairment::new(profile, seed), Instant::now());
        let sent = |n: u32| start + Duration::from_millis(20) * n;
        for n in 0..count {
            network.handle_packet(sent(n), n);
        }
        let end = start + Duration::from_secs(100_000);
        let out = std::iter::from_fn(|| network.poll(end)).map(|(due, n)| (n, due - sent(n))).collect();
        (out, network.counters())
    }

    #[test]
    fn a_good_network_changes_nothing() {
        let (out, _) = through(Profile::default(), 1, 100);
        assert!(out.iter().enumerate().all(|(n, &packet)| packet == (n as u32, Duration::ZERO)));
    }

    #[test]
    fn the_same_seed_makes_the_same_faults_and_another_makes_others() {
        let profile = Profile {
            loss: 0.1,
            jitter: Duration::from_millis(10),
            reorder: 0.05,
            reorder_by: Duration::from_millis(30),
            duplicate: 0.05,
            ..Profile::default()
        };
        assert_eq!(through(profile, 1, 1000), through(profile, 1, 1000));
        assert_ne!(through(profile, 1, 1000).0, through(profile, 2, 1000).0);
    }

    #[test]
    fn loss_is_as_ordered_alone_and_in_bursts() {
        for burst in [1.0, 4.0] {
            let (out, counters) = through(Profile { loss: 0.2, burst, ..Profile::default() }, 3, 20_000);
            let share = counters.lost as f64 / counters.offered as f64;
            assert!((share - 0.2).abs() < 0.02, "{share} at burst {burst}");
            let gaps: Vec<u32> = out.windows(2).map(|w| w[1].0 - w[0].0 - 1).filter(|&gap| gap > 0).collect();
            let mean = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
            let expected = if burst > 1.0 { burst } else { 1.25 };
            assert!((mean - expected).abs() < 0.3, "mean burst {mean}");
        }
        assert!(through(Profile { loss: 1.0, ..Profile::default() }, 3, 100).0.is_empty());
    }

    #[test]
    fn jitter_keeps_the_order_and_has_the_mean_that_was_asked() {
        let profile =
            Profile { delay: Duration::from_millis(50), jitter: Duration::from_millis(5), ..Profile::default() };
        let (out, _) = through(profile, 4, 5000);
        assert!(out.iter().enumerate().all(|(n, packet)| packet.0 == n as u32));
        let mean = out.iter().map(|packet| packet.1).sum::<Duration>() / 5000;
        assert!(mean.abs_diff(Duration::from_millis(55)) < Duration::from_millis(1), "{mean:?}");
    }

    #[test]
    fn reordered_packets_are_overtaken_and_duplicates_come_twice() {
        let profile =
            Profile { reorder: 0.1, reorder_by: Duration::from_millis(50), duplicate: 0.1, ..Profile::default() };
        let (out, counters) = through(profile, 5, 2000);
        assert_eq!(out.len() as u64, 2000 + counters.duplicated);
        let overtaken = out.windows(2).filter(|w| w[1].0 < w[0].0).count();
        assert!(overtaken > 100, "{overtaken}");
        assert!((150..250).contains(&counters.reordered) && (150..250).contains(&counters.duplicated), "{counters:?}");
    }
}
