//! How late packets come, and the delay that this asks for.
//!
//! A packet's transit is its arrival less its timestamp. The fastest transit of the last seconds is the base; what a packet's exceeds it by
//! goes into a histogram that forgets. The target is a high quantile of it plus a margin: it rises with the packets that come late, at once,
//! and falls as the histogram forgets them. All times in µs.

/// Width of a bin: 1 ms.
const BIN_US: i64 = 1_000;
/// The last bin holds all that is later than no buffer would wait: 200 ms.
const BINS: usize = 201;
/// Share of packets that the target is to wait for.
const QUANTILE: f32 = 0.98;
/// Packets that the histogram remembers, when it remembers long: 10 s of 20 ms.
const MEMORY: f32 = 500.0;
/// Packets after which the quantile is looked for in any case.
const REVIEW: u32 = 8;
/// On top of what was measured: ticks and packets are not on time to the µs.
const MARGIN_US: i64 = 2_000;
/// The base is the fastest of so many blocks of packets.
const BLOCKS: usize = 4;
const BLOCK_PACKETS: u32 = 50;
/// After a silence as long the base is no longer believed: the clocks have drifted.
const STALE_US: i64 = 30_000_000;
/// A stall is over when packets are no later than this.
const STALLED_US: i64 = 20_000;
/// A packet that was missed keeps the target up; this much less for each packet that comes.
const RELAX_US: i64 = 200;

/// The distribution of the packets' delays.
#[derive(Debug)]
pub(super) struct Arrivals {
    bins: [f32; BINS],
    total: f32,
    /// What a packet adds; grows instead of the older ones' shrinking.
    weight: f32,
    packets: u32,
    fastest: [i64; BLOCKS],
    block: usize,
    in_block: u32,
    last_us: i64,
    /// What came too late for any buffer has not yet run off.
    stalled: bool,
    /// What packets that were missed ask for.
    held_us: i64,
    quantile_us: i64,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self {
            bins: [0.0; BINS],
            total: 0.0,
            weight: 1.0,
            packets: 0,
            fastest: [i64::MAX; BLOCKS],
            block: 0,
            in_block: 0,
            last_us: 0,
            stalled: false,
            held_us: 0,
            quantile_us: 0,
        }
    }

    /// A new source, or a source that numbers anew: its clock is another, its network is the same. The fastest transit is `fastest`, if
    /// that is known.
    pub(super) fn rebase(&mut self, fastest: Option<i64>) {
        self.fastest = [fastest.unwrap_or(i64::MAX); BLOCKS];
        self.in_block = 0;
    }

    /// The fastest transit; `None` before the first packet.
    pub(super) fn base_us(&self) -> Option<i64> {
        self.fastest.iter().copied().min().filter(|&fastest| fastest != i64::MAX)
    }

    /// Takes a packet's transit and its arrival; returns by how much it was slower than the fastest.
    pub(super) fn packet(&mut self, transit_us: i64, arrival_us: i64) -> i64 {
        if arrival_us.saturating_sub(self.last_us) > STALE_US {
            self.rebase(None);
        }
        self.last_us = arrival_us;
        if self.in_block == BLOCK_PACKETS {
            self.block = (self.block + 1) % BLOCKS;
            self.fastest[self.block] = i64::MAX;
            self.in_block = 0;
        }
        self.in_block += 1;
        let fastest = &mut self.fastest[self.block];
        *fastest = transit_us.min(*fastest);
        let late_us = transit_us.saturating_sub(self.base_us().unwrap_or(transit_us));
        // What piled up while the network stood still for longer than any buffer waits tells nothing about the rest of the time.
        self.stalled = late_us > (BINS as i64 - 1) * BIN_US || (self.stalled && late_us > STALLED_US);
        if !self.stalled {
            self.count(late_us);
        }
        self.held_us = (self.held_us - RELAX_US).max(0);
        late_us
    }

    /// A packet came too late to be played: the target may not fall below what it would have taken for a while.
    pub(super) fn missed(&mut self, late_us: i64) {
        if self.stalled {
            return;
        }
        // One that is far beyond all others is an accident, and the others are not to wait for its like.
        let most = 2 * self.quantile_us + 20_000;
        self.held_us = self.held_us.max(late_us.min(most));
    }

    /// The delay that lets the desired share of packets arrive in time, not less than `least_us`.
    pub(super) fn target_us(&self, least_us: i64) -> i64 {
        (self.quantile_us.max(self.held_us) + MARGIN_US).max(least_us).min((BINS as i64 - 1) * BIN_US)
    }

    fn count(&mut self, late_us: i64) {
        self.packets = self.packets.saturating_add(1);
        let bin = (late_us / BIN_US).clamp(0, BINS as i64 - 1) as usize;
        self.bins[bin] += self.weight;
        self.total += self.weight;
        // Short of memory's length all packets count the same.
        let memory = MEMORY.min(self.packets as f32);
        if self.packets as f32 >= MEMORY {
            self.weight *= 1.0 + 1.0 / memory;
        }
        if self.weight > 1e6 {
            self.bins.iter_mut().for_each(|bin| *bin /= 1e6);
            self.total = self.bins.iter().sum();
            self.weight /= 1e6;
        }
        // An early packet moves the quantile so little that it need not be looked for each time.
        if (bin as i64) * BIN_US < self.quantile_us && !self.packets.is_multiple_of(REVIEW) {
            return;
        }
        if bin == 0 && self.quantile_us == 0 {
            return;
        }
        let late = self.total * (1.0 - QUANTILE);
        let mut beyond = 0.0;
        let mut quantile = 0;
        for (n, bin) in self.bins.iter().enumerate().rev() {
            beyond += bin;
            if beyond > late {
                quantile = n;
                break;
            }
        }
        self.quantile_us = quantile as i64 * BIN_US;
    }
}
