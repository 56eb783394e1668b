//! One message as it is spoken: what belongs to it, and when it is over.
//!
//! A sans-IO machine: sound, the ear's reports of voice, keys and time go in, the recording comes out, once.

use std::time::{Duration, Instant};

use crate::pcm::{Frame, RATE, samples_in};

/// Silence that is kept behind the last word.
const TAIL: Duration = Duration::from_millis(300);
/// The ear tells of an end of speech later than it is; so much earlier it was.
const REPORTED_AFTER: Duration = Duration::from_millis(750);

/// How long a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All of it.
    pub longest: Duration,
    /// Silence that ends it.
    pub silence_end: Duration,
}

/// What ended a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The caller pressed `#`.
    Key,
    /// Nothing more was said.
    Silence,
    /// It was as long as a message may be.
    Longest,
    /// The call ended.
    HungUp,
}

/// A message that was left. Not `Debug`: it is what somebody said.
pub struct Recording {
    /// The caller's sound, at 16 kHz.
    pub samples: Vec<i16>,
    /// Whether it has more than the telephone band.
    pub wide: bool,
    /// What ended it.
    pub ended: Ended,
}

/// Takes one message down.
pub struct Recorder {
    limits: Limits,
    began: Instant,
    /// Since when nobody speaks; `None` while somebody does.
    silent_since: Option<Instant>,
    samples: Vec<i16>,
    wide: bool,
    /// Where the sound begins on the time line of what is heard, once something was.
    first: Option<u64>,
    /// Samples up to the last word.
    spoken: usize,
    heard_voice: bool,
    ended: Option<Ended>,
    taken: bool,
}

impl Recorder {
    /// Listens from `now` on. `spoken`: what the caller has said of it already, who still speaks then; empty when the caller is to begin.
    pub fn new(now: Instant, limits: Limits, mut spoken: Vec<i16>) -> Self {
        spoken.truncate(samples_in(limits.longest) as usize);
        let speaks = !spoken.is_empty();
        Self {
            limits,
            began: now,
            silent_since: (!speaks).then_some(now),
            first: None,
            spoken: spoken.len(),
            samples: spoken,
            wide: false,
            heard_voice: speaks,
            ended: None,
            taken: false,
        }
    }

    /// Some of it has more than the telephone band.
    pub fn set_wide(&mut self, wide: bool) {
        self.wide |= wide;
    }

    /// A frame of the caller's sound, with its place on the time line of what is heard. What was lost before it is silence.
    pub fn push(&mut self, first_sample: u64, frame: &Frame) {
        if self.ended.is_some() {
            return;
        }
        let room = samples_in(self.limits.longest) as usize;
        let before = self.samples.len() as u64;
        let first = *self.first.get_or_insert(first_sample.saturating_sub(before));
        let at = usize::try_from(first_sample.saturating_sub(first)).unwrap_or(usize::MAX).min(room);
        if at >= self.samples.len() {
            self.samples.resize(at, 0);
            self.samples.extend_from_slice(&frame[..frame.len().min(room - at)]);
        }
        if self.silent_since.is_none() {
            self.spoken = self.samples.len();
        }
    }

    /// The caller speaks, or has ended.
    pub fn voice(&mut self, now: Instant, speaks: bool) {
        self.heard_voice |= speaks;
        match (speaks, self.silent_since) {
            (true, _) => self.silent_since = None,
            (false, None) => self.silent_since = Some(now.checked_sub(REPORTED_AFTER).unwrap_or(now)),
            (false, Some(_)) => {}
        }
    }

    /// The caller pressed a key.
    pub fn key(&mut self, digit: char) {
        if digit == '#' {
            self.end(Ended::Key);
        }
    }

    /// The call is over.
    pub fn hung_up(&mut self) {
        self.end(Ended::HungUp);
    }

    /// When it ends by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let longest = self.began.checked_add(self.limits.longest);
        let silence = self.silent_since.and_then(|since| since.checked_add(self.limits.silence_end));
        longest.into_iter().chain(silence).min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let longest = self.began.checked_add(self.limits.longest).is_some_and(|at| at <= now);
        self.end(if longest { Ended::Longest } else { Ended::Silence });
    }

    /// The message, when it is over; once. `samples` is empty when nobody spoke.
    pub fn poll(&mut self) -> Option<Recording> {
        let ended = self.ended.filter(|_| !self.taken)?;
        self.taken = true;
        let mut samples = std::mem::take(&mut self.samples);
        if self.heard_voice {
            samples.truncate(self.spoken + samples_in(TAIL) as usize);
        } else {
            samples.clear();
        }
        Some(Recording { samples, ended, wide: self.wide })
    }

    fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }
}

impl Recording {
    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.samples.len() as f64 / f64::from(RATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::FRAME_SAMPLES;

    const LIMITS: Limits = Limits { longest: Duration::from_secs(60), silence_end: Duration::from_secs(5) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A caller who speaks for so long from the beginning, at every frame; the frames are numbered.
    fn spoken(recorder: &mut Recorder, start: Instant, frames: u64, speaks: bool) -> Instant {
        let mut now = start;
        recorder.voice(now, speaks);
        for n in 0..frames {
            recorder.push(1_000_000 + n * FRAME_SAMPLES as u64, &[n as i16; FRAME_SAMPLES]);
            now += ms(20);
        }
        now
    }

    fn ends(recorder: &mut Recorder) -> Instant {
        let at = recorder.poll_timeout().unwrap();
        recorder.handle_timeout(at - ms(1));
        assert!(recorder.poll().is_none());
        recorder.handle_timeout(at);
        assert!(recorder.poll_timeout().is_none());
        at
    }

    #[test]
    fn a_message_ends_after_five_seconds_of_silence_and_keeps_its_words() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, LIMITS, Vec::new());
        let now = spoken(&mut recorder, start, 100, true);
        recorder.voice(now + ms(750), false);
        assert_eq!(ends(&mut recorder), now + ms(5000));
        let recording = recorder.poll().unwrap();
        assert_eq!((recording.ended, recording.duration()), (Ended::Silence, ms(2000)));
        assert!(
            recording.samples[..FRAME_SAMPLES].iter().all(|sample| *sample == 0)
                && recording.samples[100 * FRAME_SAMPLES - 1] == 99
        );
        assert!(recorder.poll().is_none());
    }

    #[test]
    fn the_hash_key_ends_it_and_others_do_not() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, LIMITS, Vec::new());
        spoken(&mut recorder, start, 50, true);
        "0123456789*".chars().for_each(|key| recorder.key(key));
        assert!(recorder.poll().is_none());
        recorder.key('#');
        recorder.hung_up();
        assert_eq!(recorder.poll().unwrap().ended, Ended::Key);
    }

    #[test]
    fn who_talks_without_end_is_cut_at_the_longest_and_memory_is_bounded() {
        let start = Instant::now();
        let limits = Limits { longest: Duration::from_secs(10), ..LIMITS };
        let mut recorder = Recorder::new(start, limits, Vec::new());
        spoken(&mut recorder, start, 700, true);
        // A time line that jumps does not make a message longer.
        recorder.push(u64::MAX, &[1; FRAME_SAMPLES]);
        assert_eq!(ends(&mut recorder), start + ms(10_000));
        let recording = recorder.poll().unwrap();
        assert_eq!((recording.ended, recording.samples.len()), (Ended::Longest, 10 * RATE as usize));
    }

    #[test]
    fn who_says_nothing_leaves_nothing() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, LIMITS, Vec::new());
        spoken(&mut recorder, start, 50, false);
        assert_eq!(ends(&mut recorder), start + ms(5000));
        assert!(recorder.poll().unwrap().samples.is_empty());
    }

    #[test]
    fn what_was_lost_on_the_way_is_silence_in_its_place() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, LIMITS, vec![5; 80]);
        recorder.push(1000, &[7; FRAME_SAMPLES]);
        recorder.push(1000 + 3 * FRAME_SAMPLES as u64, &[8; FRAME_SAMPLES]);
        recorder.hung_up();
        let samples = recorder.poll().unwrap().samples;
        assert_eq!([0, 79, 80, 80 + FRAME_SAMPLES, 80 + 3 * FRAME_SAMPLES].map(|n| samples[n]), [5, 5, 7, 0, 8]);
        assert_eq!(samples.len(), 80 + 4 * FRAME_SAMPLES);
    }
}
