//! What the person at the microphone does and sees: the key to talk, keys of a telephone, levels. Shared with the media thread, lock-free.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

use ringbuf::traits::{Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::rtp::dtmf::DIGITS;

/// Keys that may wait.
const KEYS: usize = 32;

/// No key to talk is in use.
const NONE: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Levels and switches of one call.
#[derive(Debug, Default)]
pub struct Desk {
    key: AtomicU8,
    /// Peaks since they were last asked for.
    heard: AtomicU32,
    spoken: AtomicU32,
    /// The microphone is shut.
    shut: AtomicBool,
    full: AtomicBool,
    /// The card was taken anew.
    renewed: AtomicBool,
}

impl Desk {
    /// From now on only what is said while the key is pressed is heard.
    pub fn talk_key(&self, pressed: bool) {
        self.key.store(if pressed { DOWN } else { UP }, Relaxed);
    }

    /// Whether the key to talk is pressed; `None` where none is in use.
    pub fn key(&self) -> Option<bool> {
        match self.key.load(Relaxed) {
            NONE => None,
            key => Some(key == DOWN),
        }
    }

    /// Peaks of microphone and loudspeaker since this was last asked, as samples.
    pub fn take_peaks(&self) -> [u16; 2] {
        [&self.heard, &self.spoken].map(|peak| peak.swap(0, Relaxed) as u16)
    }

    /// Whether what the microphone hears is left out at present.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Relaxed)
    }

    /// Whether both sides may be heard at a time.
    pub fn is_full_duplex(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// The card is another one than before.
    pub fn renew(&self) {
        self.renewed.store(true, Relaxed);
    }

    pub(super) fn take_renewed(&self) -> bool {
        self.renewed.swap(false, Relaxed)
    }

    pub(super) fn heard(&self, frame: &[i16], shut: bool, full: bool) {
        self.heard.fetch_max(peak(frame), Relaxed);
        self.shut.store(shut, Relaxed);
        self.full.store(full, Relaxed);
    }

    pub(super) fn spoken(&self, frame: &[i16]) {
        self.spoken.fetch_max(peak(frame), Relaxed);
    }
}

fn peak(frame: &[i16]) -> u32 {
    frame.iter().map(|sample| u32::from(sample.unsigned_abs())).max().unwrap_or(0)
}

/// Where keys of a telephone are pressed.
pub struct Keys(HeapProd<char>);

impl Keys {
    /// Presses a key; false when it is none, or too many wait.
    pub fn press(&mut self, key: char) -> bool {
        DIGITS.contains(&(key.to_ascii_uppercase() as u8))
            && key.is_ascii()
            && self.0.try_push(key.to_ascii_uppercase()).is_ok()
    }
}

/// The switches of a call, and the keys with their other end.
pub(super) fn desk() -> (Arc<Desk>, Keys, HeapCons<char>) {
    let (key_in, key_out) = HeapRb::new(KEYS).split();
    (Arc::default(), Keys(key_in), key_out)
}
