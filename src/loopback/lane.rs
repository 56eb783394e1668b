//! One direction between a card and the media thread: the ring, when each side was last there, and what is counted. All of it lock-free.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use ringbuf::traits::{Observer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::pcm::RATE;

use super::card::Fault;

/// Sound that a ring may hold. More waits only while one side has stopped.
const LONGEST: Duration = Duration::from_millis(500);

/// What both sides of a direction share.
#[derive(Debug)]
pub struct Lane {
    epoch: Instant,
    /// Microseconds to the media thread's last tick, from 1; 0 before the first.
    ticked: AtomicU64,
    /// … to the card's last callback.
    served: AtomicU64,
    /// Samples that the media thread is to leave out.
    surplus: AtomicU32,
    fault: AtomicU8,
    /// Frames that were not there in time.
    starved: AtomicU32,
    /// Samples that found no room.
    overrun: AtomicU64,
    /// Times that the delay was set anew by silence or by leaving sound out.
    jumps: AtomicU32,
    /// Xruns that the card told of.
    xruns: AtomicU32,
    delay_us: AtomicU32,
    correction_ppm: AtomicI32,
}

/// A lane at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct LaneFigures {
    /// Sound between card and media thread, in milliseconds: the mean of the last second.
    pub delay_ms: f64,
    /// By how much the card's clock is corrected at present.
    pub correction_ppm: i32,
    /// Times that sound was not there in time.
    pub starved: u32,
    /// Samples that found no room.
    pub overrun: u64,
    /// Times that the delay was set anew, besides the first.
    pub jumps: u32,
    /// Xruns that the card told of.
    pub xruns: u32,
}

impl Lane {
    /// A lane with its ring, at the time `now`.
    pub fn new(now: Instant) -> (Arc<Self>, HeapProd<i16>, HeapCons<i16>) {
        let (ring_in, ring_out) = HeapRb::new(crate::pcm::samples_in(LONGEST) as usize).split();
        let lane = Self {
            epoch: now,
            ticked: AtomicU64::new(0),
            served: AtomicU64::new(0),
            surplus: AtomicU32::new(0),
            fault: AtomicU8::new(0),
            starved: AtomicU32::new(0),
            overrun: AtomicU64::new(0),
            jumps: AtomicU32::new(0),
            xruns: AtomicU32::new(0),
            delay_us: AtomicU32::new(0),
            correction_ppm: AtomicI32::new(0),
        };
        (Arc::new(lane), ring_in, ring_out)
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64 + 1
    }

    /// The media thread was there.
    pub(super) fn tick(&self, now: Instant) {
        self.ticked.store(self.since_epoch(now), Release);
    }

    /// The card was there.
    pub(super) fn serve(&self, now: Instant) {
        self.served.store(self.since_epoch(now), Relaxed);
    }

    /// When the card was last there.
    pub fn last_served(&self) -> Option<Instant> {
        let served = self.served.load(Relaxed);
        (served > 0).then(|| self.epoch + Duration::from_micros(served - 1))
    }

    /// Samples in `ring`, and the time since the media thread's last tick in samples; `None` before the first one. The media thread may tick
    /// between the two readings: then they are read again.
    pub(super) fn position(&self, now: Instant, ring: &impl Observer) -> Option<(f64, f64)> {
        let mut ticked = self.ticked.load(Acquire);
        for _ in 0..3 {
            let held = ring.occupied_len();
            let again = self.ticked.load(Acquire);
            if again == ticked {
                let since = self.since_epoch(now).saturating_sub(ticked) as f64 * f64::from(RATE) / 1e6;
                return (ticked > 0).then_some((held as f64, since));
            }
            ticked = again;
        }
        None
    }

    /// The media thread is to leave out so many samples.
    pub(super) fn leave_out(&self, samples: u32) {
        self.surplus.fetch_add(samples, Relaxed);
    }

    pub(super) fn take_surplus(&self) -> u32 {
        self.surplus.swap(0, Relaxed)
    }

    pub(super) fn starve(&self) {
        self.starved.fetch_add(1, Relaxed);
    }

    pub(super) fn starved(&self) -> u32 {
        self.starved.load(Relaxed)
    }

    pub(super) fn overrun(&self, samples: usize) {
        self.overrun.fetch_add(samples as u64, Relaxed);
    }

    pub(super) fn jumped(&self) {
        self.jumps.fetch_add(1, Relaxed);
    }

    /// The card told of an xrun.
    pub fn xrun(&self) {
        self.xruns.fetch_add(1, Relaxed);
    }

    pub(super) fn regulated(&self, delay: f64, ratio: f64) {
        self.delay_us.store((delay.max(0.0) * 1e6) as u32, Relaxed);
        self.correction_ppm.store(((ratio - 1.0) * 1e6).round() as i32, Relaxed);
    }

    /// Something is wrong with the card; the first that is told counts.
    pub fn fail(&self, fault: Fault) {
        let _ = self.fault.compare_exchange(0, fault as u8, Relaxed, Relaxed);
    }

    /// What is wrong with the card, if something is; it is forgotten by this.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        Fault::from_code(self.fault.swap(0, Relaxed))
    }

    /// What is counted.
    pub fn figures(&self) -> LaneFigures {
        LaneFigures {
            delay_ms: f64::from(self.delay_us.load(Relaxed) / 10) / 100.0,
            correction_ppm: self.correction_ppm.load(Relaxed),
            starved: self.starved(),
            overrun: self.overrun.load(Relaxed),
            jumps: self.jumps.load(Relaxed),
            xruns: self.xruns.load(Relaxed),
        }
    }
}
