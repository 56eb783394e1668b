//! The jitter buffer: from packets at uneven times to one 20 ms frame a tick.
//!
//! It works on encoded payloads of codecs with one byte per timestamp unit (G.711), so a packet of any length can be cut into frames
//! anywhere. Sixty-four slots are indexed by sequence number; the playout position is a timestamp.
//!
//! * A packet that is missing while later ones are there is lost: its time is concealed and passes.
//! * A packet that is missing while nothing later is there is not known to be lost: one frame is concealed and the position waits, so
//!   that the delay grows by exactly what the late packet needs; if a later packet comes, the wait is taken off the loss.
//! * A timestamp that jumps without a gap in the sequence is a new talkspurt: silence, not loss.
//! * After three concealed frames without a packet the talkspurt is over; the next packet begins a new one with the initial delay.
//! * A buffer fuller than its delay + 60 ms, or never needed for four seconds, drops a frame.
//!
//! The delay does not yet adapt to the distribution of the jitter, and frames are dropped whole, wherever they stand.

use std::time::{Duration, Instant};

use super::statistics::{MAX_DROPOUT, MAX_MISORDER};
use crate::pcm::{FRAME_SAMPLES, PTIME};

/// Longest payload that is taken: 60 ms.
pub const MAX_PAYLOAD_BYTES: usize = 480;
/// What is buffered beyond this is dropped, whatever the configured delay: 200 ms.
pub const CAP_BYTES: u32 = 1600;

const SLOTS: usize = 64;
const FRAME: u32 = FRAME_SAMPLES as u32;
/// So much is concealed while waiting for a packet that may be late; then the talkspurt is over.
const PATIENCE: u32 = 3 * FRAME;
/// A buffer that was never needed for so many frames is shortened.
const REVIEW_FRAMES: u32 = 200;

/// What happened to the packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterCounters {
    /// Packets offered.
    pub received: u64,
    /// Packets that did not come, not even late.
    pub lost: u64,
    /// Packets that came after their time had passed.
    pub late: u64,
    /// Packets that had already come.
    pub duplicate: u64,
    /// Packets that came after a later one but in time.
    pub reordered: u64,
    /// Frames dropped because the buffer was too full or fuller than needed, and packets it could not hold.
    pub overflow: u64,
    /// Frames for which concealment was asked.
    pub concealed: u64,
    /// Times the sender's numbering jumped and playout began anew.
    pub restarts: u64,
}

/// One frame's worth of playout.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled<'a> {
    /// 20 ms of encoded speech.
    Audio(&'a [u8; FRAME_SAMPLES]),
    /// Speech was due and is not there: conceal it.
    Lost,
    /// Nothing is due: before the first packet, between talkspurts, after the media stopped.
    Silence,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Extended sequence number of the last packet put here; 0 is none.
    sequence: u64,
    timestamp: u32,
    arrival: Instant,
    length: u16,
    /// Bytes already played.
    played: u16,
    waiting: bool,
    payload: [u8; MAX_PAYLOAD_BYTES],
}

/// The buffer of one source; see the module for its behaviour.
#[derive(Debug)]
pub struct JitterBuffer {
    slots: Box<[Slot; SLOTS]>,
    delay: Duration,
    silence: u8,
    /// Highest extended sequence number so far; `None` before the first packet.
    highest: Option<u64>,
    /// Extended sequence number that is to be played next.
    next: u64,
    playing: bool,
    /// Nothing of this source was played yet: an earlier packet may still become the first.
    fresh: bool,
    /// The timestamp that is to be played next, while playing.
    position: u32,
    /// Concealed without letting the position pass, in timestamp units.
    waited: u32,
    /// Bytes that wait to be played.
    buffered: u32,
    frame: [u8; FRAME_SAMPLES],
    filled: usize,
    /// The frame being filled has a hole left by a lost packet.
    torn: bool,
    longest: u32,
    reviewed: u32,
    spare: u32,
    counters: JitterCounters,
}

impl JitterBuffer {
    /// An empty buffer that holds the first packet of a talkspurt back for at most `delay`; `silence` is the codec's byte for no sound.
    pub fn new(delay: Duration, silence: u8) -> Self {
        let slot = Slot {
            sequence: 0,
            timestamp: 0,
            arrival: Instant::now(),
            length: 0,
            played: 0,
            waiting: false,
            payload: [0; MAX_PAYLOAD_BYTES],
        };
        Self {
            slots: Box::new([slot; SLOTS]),
            delay,
            silence,
            highest: None,
            next: 0,
            playing: false,
            fresh: true,
            position: 0,
            waited: 0,
            buffered: 0,
            frame: [silence; FRAME_SAMPLES],
            filled: 0,
            torn: false,
            longest: 0,
            reviewed: 0,
            spare: u32::MAX,
            counters: JitterCounters::default(),
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> JitterCounters {
        self.counters
    }

    /// Speech that waits to be played.
    pub fn depth(&self) -> Duration {
        crate::pcm::duration(u64::from(self.buffered))
    }

    /// Forgets the source, not the counters: for a new SSRC.
    pub fn reset(&mut self) {
        for slot in self.slots.iter_mut() {
            slot.sequence = 0;
            slot.waiting = false;
        }
        self.highest = None;
        self.fresh = true;
        self.buffered = 0;
        self.longest = 0;
        self.stop();
    }

    /// The codec changes: what waits is turned into the new one, byte by byte; `silence` is the new one's byte for no sound.
    pub fn transcode(&mut self, silence: u8, transcode: impl Fn(u8) -> u8) {
        self.silence = silence;
        for slot in self.slots.iter_mut().filter(|slot| slot.waiting) {
            for byte in &mut slot.payload[..usize::from(slot.length)] {
                *byte = transcode(*byte);
            }
        }
        for byte in &mut self.frame {
            *byte = transcode(*byte);
        }
    }

    /// Takes a packet. An empty payload says that the sequence number was heard but carries no speech (a telephone event, comfort
    /// noise), so that it is not missed. A sequence number far off is believed at once: whoever calls has had it confirmed.
    pub fn insert(&mut self, sequence: u16, timestamp: u32, payload: &[u8], arrival: Instant) {
        self.counters.received += 1;
        let Ok(length) = u16::try_from(payload.len()) else {
            self.counters.overflow += 1;
            return;
        };
        if payload.len() > MAX_PAYLOAD_BYTES {
            self.counters.overflow += 1;
            return;
        }
        let extended = self.extend(sequence);
        if extended < self.next {
            let known = self.slots[index(extended)].sequence == extended;
            if known {
                self.counters.duplicate += 1;
                return;
            }
            if !self.fresh || self.highest.is_some_and(|highest| highest - extended >= SLOTS as u64) {
                self.counters.late += 1;
                self.counters.lost = self.counters.lost.saturating_sub(1);
                let slot = &mut self.slots[index(extended)];
                if !slot.waiting && slot.sequence < extended {
                    // So that a second copy is a duplicate.
                    slot.sequence = extended;
                }
                return;
            }
            self.next = extended;
        } else if extended - self.next >= SLOTS as u64 {
            // Nobody pulled for long, or the sender left a hole that no buffer bridges.
            self.counters.overflow += u64::from(self.buffered / FRAME);
            let waiting = self.slots.iter().filter(|slot| slot.waiting).count() as u64;
            self.counters.lost += extended - self.next - waiting;
            self.restart(extended);
        }
        let slot = &mut self.slots[index(extended)];
        if slot.sequence == extended {
            self.counters.duplicate += 1;
            return;
        }
        if self.highest.is_some_and(|highest| extended < highest) {
            self.counters.reordered += 1;
        }
        slot.sequence = extended;
        slot.timestamp = timestamp;
        slot.arrival = arrival;
        slot.length = length;
        slot.played = 0;
        slot.waiting = true;
        slot.payload[..payload.len()].copy_from_slice(payload);
        self.buffered += u32::from(length);
        self.longest = self.longest.max(u32::from(length));
        self.highest = self.highest.max(Some(extended));
    }

    /// The next 20 ms. To be called every 20 ms.
    pub fn pull(&mut self, now: Instant) -> Pulled<'_> {
        if !self.playing && !self.start(now) {
            return Pulled::Silence;
        }
        self.shorten();
        match self.fill() {
            Filled::Audio => Pulled::Audio(&self.frame),
            Filled::Lost => {
                self.counters.concealed += 1;
                Pulled::Lost
            }
            Filled::Silence => Pulled::Silence,
        }
    }

    /// Widens a sequence number to one that does not wrap. One that is far off begins a new count, above the old one.
    fn extend(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let extended = (1 << 32) | u64::from(sequence);
            self.next = extended;
            return extended;
        };
        let ahead = sequence.wrapping_sub(highest as u16);
        if ahead < MAX_DROPOUT {
            return highest + u64::from(ahead);
        }
        let behind = (highest as u16).wrapping_sub(sequence);
        if behind <= MAX_MISORDER {
            return highest - u64::from(behind);
        }
        let extended = ((highest >> 16) + 2) << 16 | u64::from(sequence);
        self.restart(extended);
        self.highest = None;
        extended
    }

    /// Drops what waits and plays on from `extended`.
    fn restart(&mut self, extended: u64) {
        for slot in self.slots.iter_mut() {
            slot.waiting = false;
        }
        self.buffered = 0;
        self.next = extended;
        self.counters.restarts += 1;
        self.stop();
    }

    fn stop(&mut self) {
        self.playing = false;
        self.waited = 0;
        self.filled = 0;
        self.torn = false;
        self.reviewed = 0;
        self.spare = u32::MAX;
    }

    /// The slot of the earliest packet that waits.
    fn head(&self) -> Option<usize> {
        let highest = self.highest?;
        (self.next..=highest).take(SLOTS).map(index).find(|&n| self.slots[n].waiting)
    }

    /// Marks the packet in slot `n` as played, and those before it that never came as lost.
    fn finish(&mut self, n: usize) {
        let slot = &mut self.slots[n];
        slot.waiting = false;
        self.counters.lost += slot.sequence - self.next;
        self.next = slot.sequence + 1;
        self.fresh = false;
    }

    /// Begins a talkspurt when its first packet has waited long enough.
    fn start(&mut self, now: Instant) -> bool {
        let slot = loop {
            let Some(n) = self.head() else { return false };
            if self.slots[n].length > 0 {
                break &self.slots[n];
            }
            self.finish(n);
        };
        let waited = now.saturating_duration_since(slot.arrival);
        // Frames are pulled at their own pace: the next one may be too late to keep within the delay.
        let due = waited + PTIME > self.delay;
        // Packets that do not divide into frames leave a rest which the following packet must be in time for.
        let rest = crate::pcm::duration(u64::from(u32::from(slot.length) % FRAME));
        if !due || waited < rest {
            return false;
        }
        self.position = slot.timestamp;
        self.playing = true;
        true
    }

    /// Drops frames when more is buffered than the delay can explain.
    fn shorten(&mut self) {
        let delay = crate::pcm::samples_in(self.delay) as u32;
        let limit = (delay.max(FRAME) + 3 * FRAME + self.longest.saturating_sub(FRAME)).min(CAP_BYTES);
        if self.buffered > CAP_BYTES {
            let excess = (self.buffered - limit).next_multiple_of(FRAME);
            self.discard(excess);
        } else if self.buffered > limit {
            self.discard(FRAME);
        } else if self.reviewed >= REVIEW_FRAMES {
            if self.spare >= delay.max(FRAME) + FRAME {
                self.discard(FRAME);
            }
            self.reviewed = 0;
            self.spare = u32::MAX;
        }
    }

    fn discard(&mut self, bytes: u32) {
        self.counters.overflow += u64::from(bytes / FRAME);
        let mut left = bytes.min(self.buffered);
        while let Some(n) = self.head() {
            let slot = &mut self.slots[n];
            let step = u32::from(slot.length - slot.played).min(left);
            slot.played += step as u16;
            left -= step;
            self.buffered -= step;
            self.position = slot.timestamp.wrapping_add(u32::from(slot.played));
            if slot.played < slot.length {
                break;
            }
            self.finish(n);
            if left == 0 {
                if let Some(n) = self.head() {
                    self.position = self.slots[n].timestamp;
                }
                break;
            }
        }
    }

    fn fill(&mut self) -> Filled {
        while self.filled < FRAME_SAMPLES {
            let Some(n) = self.head() else { return self.starve() };
            let slot = &self.slots[n];
            if slot.length == 0 {
                self.finish(n);
                if self.buffered == 0 {
                    // An event or comfort noise ends the talkspurt.
                    self.stop();
                    return Filled::Silence;
                }
                continue;
            }
            let gap = slot.timestamp.wrapping_add(u32::from(slot.played)).wrapping_sub(self.position) as i32;
            if gap > 0 && gap <= CAP_BYTES as i32 {
                let lost = slot.sequence != self.next;
                let waited = self.waited.min(gap as u32);
                self.waited -= waited;
                self.position = self.position.wrapping_add(waited);
                let room = (FRAME_SAMPLES - self.filled).min((gap as u32 - waited) as usize);
                self.position = self.position.wrapping_add(room as u32);
                if room == FRAME_SAMPLES {
                    return if lost { Filled::Lost } else { Filled::Silence };
                }
                self.frame[self.filled..self.filled + room].fill(self.silence);
                self.filled += room;
                self.torn |= lost && room > 0;
                continue;
            }
            // The sender set its timestamps anew, or they overlap: what it sent last is right.
            self.position = self.position.wrapping_add(gap as u32);
            let slot = &mut self.slots[n];
            let from = usize::from(slot.played);
            let step = (usize::from(slot.length) - from).min(FRAME_SAMPLES - self.filled);
            self.frame[self.filled..self.filled + step].copy_from_slice(&slot.payload[from..from + step]);
            slot.played += step as u16;
            let done = slot.played == slot.length;
            self.filled += step;
            self.position = self.position.wrapping_add(step as u32);
            self.buffered -= step as u32;
            self.waited = 0;
            if done {
                self.finish(n);
            }
        }
        self.filled = 0;
        self.reviewed += 1;
        self.spare = self.spare.min(self.buffered);
        if std::mem::take(&mut self.torn) { Filled::Lost } else { Filled::Audio }
    }

    /// Nothing to play: the next packet is late, lost, or will not come.
    fn starve(&mut self) -> Filled {
        if self.waited >= PATIENCE {
            self.stop();
            return Filled::Silence;
        }
        self.waited += FRAME;
        self.reviewed = 0;
        self.spare = u32::MAX;
        Filled::Lost
    }
}

enum Filled {
    Audio,
    Lost,
    Silence,
}

fn index(sequence: u64) -> usize {
    (sequence % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
