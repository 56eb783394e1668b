//! Packets by their sequence number, in a fixed number of slots: what came, what comes next, what never came.

use super::{JitterCounters, MAX_PAYLOAD_BYTES};
use crate::codec::Codec;
use crate::rtp::statistics::{MAX_DROPOUT, MAX_MISORDER};

/// Packets that can wait.
pub(super) const SLOTS: usize = 64;

/// What a packet is to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sound.
    Speech(Codec),
    /// Comfort noise: from here on the sender is silent.
    Noise,
    /// It carries no sound and says that none is due.
    Event,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Extended sequence number of the last packet put here; 0 is none.
    pub sequence: u64,
    /// Extended timestamp.
    pub time: i64,
    /// Timestamp units that it lasts.
    pub units: u32,
    /// Arrival less timestamp.
    pub transit_us: i64,
    pub kind: Kind,
    length: u16,
    waiting: bool,
    payload: [u8; MAX_PAYLOAD_BYTES],
}

impl Slot {
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.length)]
    }
}

/// Where a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits to be played; `newest` says that none of a higher number came before.
    Waits { newest: bool },
    /// It waits, and nothing that came before it is of any use: the count begins anew.
    WaitsAlone,
    /// It was here before.
    Duplicate,
    /// What it was for has passed.
    Late,
}

/// The packets of one source.
#[derive(Debug)]
pub(super) struct Packets {
    slots: Box<[Slot; SLOTS]>,
    /// Highest extended sequence number so far; `None` before the first packet.
    highest: Option<u64>,
    /// Extended sequence number that is to be played next.
    next: u64,
    /// Nothing of this source was played yet: an earlier packet may still become the first.
    fresh: bool,
    /// Timestamp units that wait to be played.
    waiting_units: u32,
}

impl Packets {
    pub(super) fn new() -> Self {
        let slot = Slot {
            sequence: 0,
            time: 0,
            units: 0,
            transit_us: 0,
            kind: Kind::Event,
            length: 0,
            waiting: false,
            payload: [0; MAX_PAYLOAD_BYTES],
        };
        Self { slots: Box::new([slot; SLOTS]), highest: None, next: 0, fresh: true, waiting_units: 0 }
    }

    /// Forgets all: a new source.
    pub(super) fn clear(&mut self) {
        for slot in self.slots.iter_mut() {
            slot.sequence = 0;
            slot.waiting = false;
        }
        self.highest = None;
        self.fresh = true;
        self.waiting_units = 0;
    }

    /// Timestamp units that wait to be played.
    pub(super) fn waiting_units(&self) -> u32 {
        self.waiting_units
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn fresh(&self) -> bool {
        self.fresh
    }

    /// Finds the place of a packet; its slot is written by [`Self::put`] if it waits.
    pub(super) fn place(&mut self, sequence: u16, counters: &mut JitterCounters) -> (u64, Place) {
        let (extended, mut alone) = self.extend(sequence);
        if alone {
            self.restart(extended, counters);
            self.highest = None;
        } else if extended < self.next {
            let slot = &mut self.slots[index(extended)];
            if slot.sequence == extended {
                return (extended, Place::Duplicate);
            }
            if !self.fresh || self.highest.is_some_and(|highest| highest - extended >= SLOTS as u64) {
                if !slot.waiting && slot.sequence < extended {
                    // So that a second copy is a duplicate.
                    slot.sequence = extended;
                }
                return (extended, Place::Late);
            }
            self.next = extended;
        } else if extended - self.next >= SLOTS as u64 {
            // Nobody pulled for long, or the sender left a hole that no buffer bridges.
            let waiting = self.slots.iter().filter(|slot| slot.waiting).count() as u64;
            counters.overflow += waiting;
            counters.lost += extended - self.next - waiting;
            self.restart(extended, counters);
            alone = true;
        }
        if self.slots[index(extended)].sequence == extended {
            return (extended, Place::Duplicate);
        }
        let newest = self.highest.is_none_or(|highest| extended > highest);
        (extended, if alone { Place::WaitsAlone } else { Place::Waits { newest } })
    }

    /// Puts a packet where [`Self::place`] said it waits.
    pub(super) fn put(&mut self, sequence: u64, time: i64, units: u32, transit_us: i64, kind: Kind, payload: &[u8]) {
        let slot = &mut self.slots[index(sequence)];
        slot.sequence = sequence;
        slot.time = time;
        slot.units = units;
        slot.transit_us = transit_us;
        slot.kind = kind;
        slot.length = payload.len() as u16;
        slot.waiting = true;
        slot.payload[..payload.len()].copy_from_slice(payload);
        self.waiting_units += units;
        self.highest = self.highest.max(Some(sequence));
    }

    /// The earliest packet that waits.
    pub(super) fn head(&self) -> Option<&Slot> {
        let highest = self.highest?;
        (self.next..=highest).take(SLOTS).map(|sequence| &self.slots[index(sequence)]).find(|slot| slot.waiting)
    }

    /// The fastest transit of those that wait.
    pub(super) fn fastest(&self) -> Option<i64> {
        let waiting = self.slots.iter().filter(|slot| slot.waiting && slot.kind != Kind::Event);
        waiting.map(|slot| slot.transit_us).min()
    }

    /// The packet of this number, if it waits.
    pub(super) fn waiting(&self, sequence: u64) -> Option<&Slot> {
        Some(&self.slots[index(sequence)]).filter(|slot| slot.waiting && slot.sequence == sequence)
    }

    /// The packet of this number has been used; returns how many before it never came.
    pub(super) fn finish(&mut self, sequence: u64) -> u64 {
        let slot = &mut self.slots[index(sequence)];
        if slot.waiting {
            slot.waiting = false;
            self.waiting_units -= slot.units;
        }
        let missing = sequence.saturating_sub(self.next);
        self.next = sequence + 1;
        self.fresh = false;
        missing
    }

    /// Widens a sequence number to one that does not wrap. One that is far off begins a new count, above the old one.
    fn extend(&mut self, sequence: u16) -> (u64, bool) {
        let Some(highest) = self.highest else {
            let extended = (1 << 32) | u64::from(sequence);
            self.next = extended;
            return (extended, false);
        };
        let ahead = sequence.wrapping_sub(highest as u16);
        if ahead < MAX_DROPOUT {
            return (highest + u64::from(ahead), false);
        }
        let behind = (highest as u16).wrapping_sub(sequence);
        if behind <= MAX_MISORDER {
            return (highest - u64::from(behind), false);
        }
        (((highest >> 16) + 2) << 16 | u64::from(sequence), true)
    }

    /// Drops what waits and goes on from `sequence`.
    fn restart(&mut self, sequence: u64, counters: &mut JitterCounters) {
        for slot in self.slots.iter_mut() {
            slot.waiting = false;
        }
        self.waiting_units = 0;
        self.next = sequence;
        counters.restarts += 1;
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let waiting = self.slots.iter().filter(|slot| slot.waiting);
        assert_eq!(waiting.map(|slot| slot.units).sum::<u32>(), self.waiting_units);
    }
}

fn index(sequence: u64) -> usize {
    (sequence % SLOTS as u64) as usize
}
