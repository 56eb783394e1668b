//! Keys that we press: one after another towards the far side, in a pause of our own speech, which waits until they are through.
//!
//! Each tone lasts as long as the silence behind it, 100 ms; ITU-T Q.24 wants 40 of both. Time is counted in ptimes, nothing is allocated.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::leg::Dtmf;
use crate::pcm::PTIME;
use crate::rtp::dtmf::DIGITS;

/// Keys that may wait in a call.
const WAITING: usize = 64;
/// How long a key is held.
const HELD: Duration = Duration::from_millis(100);
/// Ptimes from one key to the next.
const TICKS_PER_KEY: u16 = (2 * HELD.as_millis() / PTIME.as_millis()) as u16;
/// Ptimes for which keys wait for our own speech to pause: 10 s.
const PATIENCE_TICKS: u16 = 500;

/// Keys to be pressed one after another. Plain values, so that the media thread takes them on without allocating.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    keys: [u8; Self::MOST],
    length: u8,
}

/// What cannot be pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeysError {
    /// Nothing, or too much.
    #[error("{0} keys cannot be pressed at once; take 1 to {most}", most = Keys::MOST)]
    Length(usize),
    /// A telephone has no such key.
    #[error("{0:?} is no key; take 0 to 9, *, # and A to D")]
    Key(char),
}

impl Keys {
    /// The most that are pressed at once.
    pub const MOST: usize = 32;

    /// Reads keys: `0`–`9`, `*`, `#`, `A`–`D`.
    ///
    /// # Errors
    /// When there are none, too many, or other characters.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let length = text.chars().count();
        if !(1..=Self::MOST).contains(&length) {
            return Err(KeysError::Length(length));
        }
        let mut keys = [0; Self::MOST];
        for (place, key) in keys.iter_mut().zip(text.chars()) {
            let known = DIGITS.iter().find(|&&known| char::from(known) == key.to_ascii_uppercase());
            *place = *known.ok_or(KeysError::Key(key))?;
        }
        Ok(Self { keys, length: length as u8 })
    }

    fn as_slice(&self) -> &[u8] {
        &self.keys[..usize::from(self.length)]
    }
}

/// They may be a secret.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.length)
    }
}

/// What a ptime is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// Speech, as ever.
    Speech,
    /// A key, which begins now; no speech.
    Press(Dtmf),
    /// A key, or the silence behind it; no speech.
    Quiet,
}

/// The keys of one call that wait, and the one that is pressed.
#[derive(Debug)]
pub(super) struct Dialling {
    waiting: [u8; WAITING],
    length: usize,
    /// Ptimes that the key being pressed still takes, with its silence.
    busy: u16,
    /// Ptimes for which the first key has waited for a pause.
    waited: u16,
}

impl Dialling {
    pub fn new() -> Self {
        Self { waiting: [0; WAITING], length: 0, busy: 0, waited: 0 }
    }

    /// Has keys pressed behind those that wait; gives how many found no room, which are all of them or none.
    pub fn dial(&mut self, keys: &Keys) -> usize {
        let keys = keys.as_slice();
        let Some(room) = self.waiting.get_mut(self.length..self.length + keys.len()) else { return keys.len() };
        room.copy_from_slice(keys);
        self.length += keys.len();
        0
    }

    /// What the next ptime is for; `speaking`: something of ours is being heard.
    pub fn tick(&mut self, speaking: bool) -> Tick {
        if self.busy > 0 {
            self.busy -= 1;
            if self.busy > 0 {
                return Tick::Quiet;
            }
        } else if self.length > 0 && speaking && self.waited < PATIENCE_TICKS {
            self.waited += 1;
            return Tick::Speech;
        }
        self.waited = 0;
        if self.length == 0 {
            return Tick::Speech;
        }
        let digit = char::from(self.waiting[0]);
        self.waiting.copy_within(1..self.length, 0);
        self.length -= 1;
        self.busy = TICKS_PER_KEY;
        Tick::Press(Dtmf { digit, duration: HELD })
    }

    /// The caller is with somebody else: what waits was not meant for them.
    pub fn forget(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of so many ptimes, in their places; `.` is speech, `-` is neither.
    fn pressed(dialling: &mut Dialling, ticks: usize, speaking: impl Fn(usize) -> bool) -> String {
        let sign = |tick| match tick {
            Tick::Speech => '.',
            Tick::Press(dtmf) => dtmf.digit,
            Tick::Quiet => '-',
        };
        (0..ticks).map(|n| sign(dialling.tick(speaking(n)))).collect()
    }

    #[test]
    fn keys_are_pressed_one_after_another_with_silence_between_and_then_speech_goes_on() {
        let mut dialling = Dialling::new();
        assert_eq!(dialling.dial(&Keys::parse("1*").unwrap()), 0);
        assert_eq!(dialling.dial(&Keys::parse("d").unwrap()), 0);
        assert_eq!(pressed(&mut dialling, 33, |_| false), "1---------*---------D---------...");
    }

    #[test]
    fn keys_wait_for_a_pause_of_our_speech_but_not_for_ever() {
        let mut dialling = Dialling::new();
        dialling.dial(&Keys::parse("12").unwrap());
        // What is paused by a key is still there while it lasts.
        assert_eq!(pressed(&mut dialling, 24, |n| n != 2), "..1---------2---------..");
        dialling.dial(&Keys::parse("3").unwrap());
        let waited = pressed(&mut dialling, 1000, |_| true).find('3').unwrap();
        assert_eq!(PTIME * waited as u32, Duration::from_secs(10));
    }

    #[test]
    fn what_finds_no_room_is_left_out_whole_and_told() {
        let mut dialling = Dialling::new();
        let many = Keys::parse(&"5".repeat(Keys::MOST)).unwrap();
        assert_eq!((dialling.dial(&many), dialling.dial(&many), dialling.dial(&many)), (0, 0, Keys::MOST));
        dialling.tick(false);
        assert_eq!(dialling.dial(&Keys::parse("12").unwrap()), 2);
        dialling.forget();
        assert_eq!((dialling.tick(false), dialling.dial(&many)), (Tick::Speech, 0));
    }

    #[test]
    fn what_no_telephone_can_press_is_refused_and_what_it_can_is_not_shown() {
        assert_eq!(Keys::parse("").unwrap_err(), KeysError::Length(0));
        assert_eq!(Keys::parse(&"1".repeat(33)).unwrap_err(), KeysError::Length(33));
        for (text, key) in [("1,2", ','), ("12 ", ' '), ("1e", 'e'), ("١", '١'), ("1\n", '\n')] {
            assert_eq!(Keys::parse(text).unwrap_err(), KeysError::Key(key));
        }
        assert_eq!(format!("{:?}", Keys::parse("0123456789*#abcD").unwrap()), "16 keys");
    }
}
