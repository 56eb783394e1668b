//! The keys that the caller presses: each once, whichever way it comes, and what they make together.
//!
//! A sans-IO machine. A gateway may tell of one key by RTP and by INFO (or its tone may be heard as well): the second one of a pair is the same
//! press. Keys make an entry, which `#` ends at once, and otherwise a pause.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How a key became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// On the media thread: as a telephone event or a tone.
    Media,
    /// In a request (INFO).
    Signalling,
}

/// The other way's report comes within so long: one may tell of the press, the other of the release.
const SAME_PRESS: Duration = Duration::from_millis(1500);
/// Reports that may still meet theirs.
const UNMATCHED: usize = 8;
/// Without another key for so long the entry has ended.
const PAUSE: Duration = Duration::from_millis(1800);
/// An entry that is longer is ended.
const LONGEST: usize = 64;

/// What was pressed and not yet told.
#[derive(Debug, Default)]
pub(super) struct Keypad {
    unmatched: VecDeque<(char, Way, Instant)>,
    entry: String,
    last: Option<Instant>,
}

impl Keypad {
    /// Whether this report is a press of its own, and not one that the other way has told of already.
    pub fn counts(&mut self, now: Instant, digit: char, way: Way) -> bool {
        self.unmatched.retain(|(.., at)| now.saturating_duration_since(*at) < SAME_PRESS);
        let same = self.unmatched.iter().position(|&(known, by, _)| known == digit && by != way);
        if let Some(same) = same {
            self.unmatched.remove(same);
            return false;
        }
        if self.unmatched.len() == UNMATCHED {
            self.unmatched.pop_front();
        }
        self.unmatched.push_back((digit, way, now));
        true
    }

    /// Takes the next key of an entry.
    pub fn press(&mut self, now: Instant, digit: char) {
        self.entry.push(digit);
        self.last = Some(now);
    }

    /// When the entry ends if no key comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last.filter(|_| !self.entry.is_empty()).map(|last| last + PAUSE)
    }

    /// The entry, once it has ended.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        let over = self.entry.ends_with('#') || self.entry.len() >= LONGEST || self.poll_timeout()? <= now;
        over.then(|| std::mem::take(&mut self.entry))
    }
}

/// Whether an entry is this key and nothing else: not a number that begins with it.
pub(super) fn is_alone(entry: &str, key: char) -> bool {
    let mut keys = entry.strip_suffix('#').filter(|before| !before.is_empty()).unwrap_or(entry).chars();
    keys.next() == Some(key) && keys.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_key_that_comes_two_ways_counts_once_and_a_key_pressed_twice_counts_twice() {
        let start = Instant::now();
        let mut keypad = Keypad::default();
        let told = [
            (0, '5', Way::Signalling),
            (120, '5', Way::Media),
            (300, '5', Way::Media),
            (310, '5', Way::Signalling),
            (600, '5', Way::Media),
            (900, '5', Way::Media),
            (1000, '#', Way::Signalling),
            (1100, '5', Way::Signalling),
            (1200, '5', Way::Signalling),
            (4000, '#', Way::Media),
        ];
        let counted = told.map(|(at, digit, way)| keypad.counts(start + ms(at), digit, way));
        assert_eq!(counted, [true, false, true, false, true, true, true, false, false, true]);
    }

    #[test]
    fn a_number_sign_ends_an_entry_at_once_and_a_pause_ends_any_other() {
        let start = Instant::now();
        let mut keypad = Keypad::default();
        for (at, digit) in [(0, '1'), (500, '2'), (1900, '#')] {
            assert_eq!(keypad.take(start + ms(at)), None);
            keypad.press(start + ms(at), digit);
        }
        assert_eq!(keypad.take(start + ms(1900)).as_deref(), Some("12#"));
        assert_eq!((keypad.poll_timeout(), keypad.take(start + ms(9000))), (None, None));
        keypad.press(start + ms(10_000), '7');
        assert_eq!(keypad.poll_timeout(), Some(start + ms(11_800)));
        assert_eq!(keypad.take(start + ms(11_799)), None);
        assert_eq!(keypad.take(start + ms(11_800)).as_deref(), Some("7"));
    }

    #[test]
    fn a_key_with_a_meaning_of_its_own_means_it_after_a_pause_or_a_number_sign_and_not_within_a_number() {
        let start = Instant::now();
        let entered = |keys: &[(u64, char)], until: u64| {
            let mut keypad = Keypad::default();
            let mut ticks = (0..=until).filter_map(|at| {
                keys.iter().filter(|key| key.0 == at).for_each(|key| keypad.press(start + ms(at), key.1));
                keypad.take(start + ms(at)).map(|entry| (at, is_alone(&entry, '0')))
            });
            ticks.next()
        };
        assert_eq!(entered(&[(0, '0')], 1799), None);
        assert_eq!(entered(&[(0, '0')], 1800), Some((1800, true)));
        assert_eq!(entered(&[(0, '0'), (700, '#')], 3000), Some((700, true)));
        assert_eq!(entered(&[(0, '0'), (700, '5'), (1400, '#')], 3000), Some((1400, false)));
        assert_eq!(entered(&[(0, '0'), (700, '0')], 3000), Some((2500, false)));
        assert_eq!(entered(&[(0, '1'), (700, '0')], 3000), Some((2500, false)));
        assert!(is_alone("#", '#') && is_alone("*#", '*') && !is_alone("##", '0') && !is_alone("", '0'));
    }

    #[test]
    fn keys_without_end_are_bounded() {
        let start = Instant::now();
        let mut keypad = Keypad::default();
        (0..LONGEST - 1).for_each(|_| keypad.press(start, '1'));
        assert_eq!(keypad.take(start), None);
        keypad.press(start, '1');
        assert_eq!(keypad.take(start).map(|entry| entry.len()), Some(LONGEST));
        assert!((0..100).all(|_| keypad.counts(start, '1', Way::Media)));
        assert_eq!(keypad.unmatched.len(), UNMATCHED);
    }
}
