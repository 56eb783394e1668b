//! When a turn begins, has probably ended, goes on, and has ended: the decisions, from speech probabilities.
//!
//! A sans-IO machine on two clocks. Silence is counted in heard samples, so that a burst of frames decides as the same
//! frames at their pace would; when frames stop altogether, it is counted on the wall clock. Everything here runs on the
//! media thread: no allocation after [`TurnDetector::new`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hint::Hint;
use super::recent::{HOP_SAMPLES, Recent};
use super::vad::CHUNK_SAMPLES;
use crate::config;
use crate::pcm::{FRAME_SAMPLES, Frame, duration, samples_in};

/// Voice stays voice down to so far below the threshold, as in Silero's own post-processing.
const HYSTERESIS: f32 = 0.15;
/// While the box itself is heard, a chunk must be at least so probable to count as the caller's voice. For the first sign of it, which only
/// makes playout pause, the ordinary threshold is enough.
///
/// Its own voice comes back attenuated and mostly below; a stricter gate, or more than two chunks, would
/// make barge-in slower than 150 ms.
const PLAYING_THRESHOLD: f32 = 0.6;
/// Chunks in a row without voice that an onset may contain, and one in the pause of a turn, where taking back what was
/// taken back costs more than waiting.
const ONSET_GAP_CHUNKS: u32 = 1;
const RESUMPTION_GAP_CHUNKS: u32 = 3;
/// Probabilities rise only with the first vowel; the sound before it belongs to the voice, at most so far back…
const ONSET_LOOK_BACK: Duration = Duration::from_millis(160);
/// …where the level is so many dB above the line's noise…
const ONSET_ABOVE_NOISE_DB: f32 = 10.0;
/// …and above −50 dBFS, in dB over a mean square of 1.
const ONSET_LEVEL_DB: f32 = 40.3;
/// In the pause of a turn this share of the threshold is a first sign of voice, when the level rises too.
const RESUMPTION_SHARE: f32 = 0.5;
/// A sound that begins just before the hard end keeps it waiting for its probability, at most so long.
const HARD_END_DELAY: Duration = Duration::from_millis(160);
/// Silence, by level, after which an end is probable enough to prepare for it.
const PROBABLE_END: Duration = Duration::from_millis(120);
/// Without a frame for so long, media has stopped and the wall clock decides.
const STALL: Duration = Duration::from_millis(60);
/// Probabilities stay high for 100 to 250 ms after the last voiced sample; the end is looked for so far back.
const LOOK_BACK: Duration = Duration::from_millis(320);
/// The voice has ended where the level stays so many dB below the utterance's.
const FALL_DB: f32 = 22.0;
/// What is not so many dB above the line's noise is not voice either…
const ABOVE_NOISE_DB: f32 = 3.0;
/// …but weak syllables drown in it, so that the end is looked for no farther back than this…
const LOOK_BACK_IN_NOISE: Duration = Duration::from_millis(100);
/// …and not at all when this is all that is left between noise and voice.
const SMALLEST_FALL_DB: f32 = 8.0;
/// Share of a new 10 ms in the running levels.
const LEVEL_SHARE: f32 = 1.0 / 40.0;
/// Undelivered events that are kept; no input makes more than three.
const EVENTS: usize = 16;

/// The times and the threshold of the decisions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Silence after which the turn has probably ended.
    pub soft_end: Duration,
    /// Silence after which it has ended.
    pub hard_end: Duration,
    /// Shorter sounds are not speech. Counted from where the level rose to the end of a voiced chunk.
    pub minimum_speech: Duration,
    /// A longer utterance is cut.
    pub max_utterance: Duration,
    /// Probability from which a chunk is voiced, 0 to 1.
    pub vad_threshold: f32,
}

impl From<&config::Hearing> for Limits {
    fn from(hearing: &config::Hearing) -> Self {
        Self {
            soft_end: hearing.soft_end,
            hard_end: hearing.hard_end,
            minimum_speech: hearing.minimum_speech,
            max_utterance: hearing.max_utterance,
            vad_threshold: hearing.vad_threshold,
        }
    }
}

/// What was heard. Positions are samples since the first frame, so that the sound can be cut out of an [`Utterance`](super::Utterance).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The first voiced chunk of what may become an utterance. [`Heard::Started`] or [`Heard::Dismissed`] follows, with the
    /// minimum speech of 64 ms within 100 ms.
    Onset {
        /// When it was decided.
        at: Instant,
        /// Where the sound begins.
        sample: u64,
    },
    /// The [`Heard::Onset`] came to nothing: a click, a knock, an echo.
    Dismissed {
        /// When it was decided.
        at: Instant,
    },
    /// The caller speaks: the minimum speech is reached. While the box speaks this is barge-in.
    Started {
        /// Where the utterance begins; the first syllable may lie in the pre-roll before it.
        onset_sample: u64,
        /// Arrival of the first sample of it.
        onset: Instant,
        /// When it was decided.
        at: Instant,
    },
    /// Silence has begun that may become the end: time to prepare what can be thrown away unheard. At most once for each
    /// stretch of silence, and not at all when noise hides where the level falls. [`Heard::Resumed`] takes it back; a
    /// [`Heard::SoftEnd`] confirms it, with the same values.
    ProbableEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// The caller has probably finished. Comes again, with the same values, when a [`Heard::Resumed`] was only a click.
    SoftEnd {
        /// Arrival of the last voiced sample.
        speech_end: Instant,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// Voice within the pause after a probable or a soft end: the first sign is enough, so that what was begun can stop at once.
    Resumed {
        /// When it was decided.
        at: Instant,
    },
    /// The caller has finished.
    HardEnd {
        /// Where the utterance begins.
        onset_sample: u64,
        /// Just behind the last voiced sample.
        end_sample: u64,
    },
    /// The utterance reached its greatest length and ends here, in the middle of speech. What follows is another one.
    TooLong {
        /// Where the utterance begins.
        onset_sample: u64,
        /// Where it was cut.
        end_sample: u64,
    },
}

/// Voice that has not yet lasted for the minimum speech.
#[derive(Debug, Clone, Copy)]
struct Onset {
    sample: u64,
    gap_chunks: u32,
}

/// An utterance that has started.
#[derive(Debug, Clone, Copy)]
struct Turn {
    onset_sample: u64,
    /// Just behind the last voiced sample so far, by level.
    end_sample: u64,
    /// When that sample arrived.
    end_at: Instant,
    /// Just behind the last voiced chunk, by probability: from here the hard end is counted.
    probable_end_sample: u64,
    /// When that chunk arrived.
    probable_end_at: Instant,
    /// A probable end at `end_sample` was told and not taken back.
    suspected: bool,
}

impl Turn {
    /// An utterance whose voice lasts to `sample`, which arrived at `at`.
    fn until(onset_sample: u64, sample: u64, at: Instant) -> Self {
        Self {
            onset_sample,
            end_sample: sample,
            end_at: at,
            probable_end_sample: sample,
            probable_end_at: at,
            suspected: false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Silent,
    /// `voiced`: the last chunk was.
    Speaking {
        turn: Turn,
        voiced: bool,
    },
    /// After the soft end.
    Pausing {
        turn: Turn,
    },
}

/// Decides on turns. Fed with every frame, and with the probability of every chunk of 256 samples as it becomes complete.
#[derive(Debug)]
pub struct TurnDetector {
    soft_end: Duration,
    hard_end: Duration,
    max_samples: u64,
    minimum_samples: u64,
    threshold: f32,
    playing: bool,
    hint: Hint,
    recent: Recent,
    state: State,
    onset: Option<Onset>,
    /// Just behind the last utterance, or a gap in the media: nothing before belongs to the next utterance.
    ended_sample: u64,
    /// Mean square of the voice; 0: not known.
    speech_power: f32,
    /// Mean level of the line without voice, in dB over a mean square of 1.
    noise_db: Option<f32>,
    /// Samples that are part of a chunk already.
    chunked: u64,
    events: VecDeque<Heard>,
    dropped_events: u64,
}

impl TurnDetector {
    /// A detector that has heard nothing. A hard end before the soft end is taken as equal to it.
    pub fn new(limits: Limits) -> Self {
        Self {
            soft_end: limits.soft_end,
            hard_end: limits.hard_end.max(limits.soft_end),
            max_samples: samples_in(limits.max_utterance),
            minimum_samples: samples_in(limits.minimum_speech),
            threshold: limits.vad_threshold,
            playing: false,
            hint: Hint::Unknown,
            recent: Recent::new(),
            state: State::Silent,
            onset: None,
            ended_sample: 0,
            speech_power: 0.0,
            noise_db: None,
            chunked: 0,
            events: VecDeque::with_capacity(EVENTS),
            dropped_events: 0,
        }
    }

    /// Takes the next frame, without a decision: the chunks that it completes come first, then [`TurnDetector::decide`].
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        self.recent.push(now, frame);
    }

    /// Takes the speech probability, 0 to 1, of the next 256 samples; anything else counts as 0.
    pub fn handle_probability(&mut self, now: Instant, probability: f32) {
        let from = self.chunked;
        self.chunked += CHUNK_SAMPLES as u64;
        let to = self.chunked;
        if probability < self.threshold - HYSTERESIS {
            self.follow_noise(from, to);
        }
        match self.state {
            State::Silent => self.look_for_onset(now, probability, from, None),
            State::Pausing { turn } => self.look_for_onset(now, probability, from, Some(turn)),
            State::Speaking { mut turn, voiced } => {
                let threshold = if voiced { self.threshold - HYSTERESIS } else { self.threshold };
                let still = probability >= threshold;
                if still {
                    if !turn.suspected {
                        turn = Turn::until(turn.onset_sample, to, now);
                    } else if !voiced || self.is_voice(turn.end_sample, to) {
                        self.tell(Heard::Resumed { at: now });
                        turn = Turn::until(turn.onset_sample, to, now);
                    } else {
                        (turn.probable_end_sample, turn.probable_end_at) = (to, now);
                    }
                    if probability >= self.threshold {
                        self.follow_speech(from, to);
                    }
                } else if voiced && !turn.suspected {
                    turn.end_sample = self.last_voiced(turn.onset_sample, turn.end_sample).unwrap_or(turn.end_sample);
                    turn.end_at = self.recent.arrival(turn.end_sample).unwrap_or(now);
                }
                self.state = State::Speaking { turn, voiced: still };
            }
        }
    }

    /// Decides what the silence so far means; after each frame.
    pub fn decide(&mut self, now: Instant) {
        let heard = self.recent.heard();
        self.suspect(now);
        match self.state {
            State::Speaking { turn, .. } if heard.saturating_sub(turn.onset_sample) >= self.max_samples => {
                self.state = State::Silent;
                self.ended_sample = heard;
                self.tell(Heard::TooLong { onset_sample: turn.onset_sample, end_sample: heard });
            }
            State::Speaking { turn, voiced: false }
                if heard.saturating_sub(turn.end_sample) >= samples_in(self.soft_end) =>
            {
                self.pause(turn);
            }
            State::Pausing { turn } if self.onset.is_none() => {
                // The longer of the two: frames may have been missing for a while.
                let silence = duration(heard.saturating_sub(turn.probable_end_sample))
                    .max(now.saturating_duration_since(turn.probable_end_at));
                let limit = if self.is_audible(heard.saturating_sub(FRAME_SAMPLES as u64), heard) {
                    self.hard_end + HARD_END_DELAY
                } else {
                    self.hard_end
                };
                if silence >= limit {
                    self.end(turn);
                }
            }
            _ => {}
        }
    }

    /// Tells of a probable end as soon as the level, or the probability that fell, lets it be known.
    fn suspect(&mut self, now: Instant) {
        let heard = self.recent.heard();
        let State::Speaking { turn, voiced } = &mut self.state else { return };
        if turn.suspected {
            return;
        }
        let (mut turn, voiced) = (*turn, *voiced);
        if voiced {
            let Some(end) = self.last_voiced(turn.onset_sample, heard) else { return };
            turn.end_sample = end;
            turn.end_at = self.recent.arrival(end).unwrap_or(now);
        }
        if heard.saturating_sub(turn.end_sample) >= samples_in(PROBABLE_END) {
            turn.suspected = true;
            self.state = State::Speaking { turn, voiced };
            self.tell(Heard::ProbableEnd { speech_end: turn.end_at, end_sample: turn.end_sample });
        }
    }

    /// Ends by the wall clock what no frame will end. A call too many is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let stopped = self.recent.last_arrival().is_some_and(|last| now >= last + STALL);
        if !stopped {
            return;
        }
        // Sound from before the gap is not the beginning of what comes after it.
        self.ended_sample = self.recent.heard();
        if self.onset.take().is_some() {
            match self.state {
                State::Pausing { turn } => self.pause(turn),
                _ => self.tell(Heard::Dismissed { at: now }),
            }
        }
        if let State::Speaking { turn, .. } = self.state
            && now >= turn.end_at + self.soft_end
        {
            self.pause(turn);
        }
        if let State::Pausing { turn } = self.state
            && now >= turn.probable_end_at + self.hard_end
        {
            self.end(turn);
        }
    }

    /// When [`TurnDetector::handle_timeout`] is due if no frame comes before. Changes with every input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stopped = self.recent.last_arrival()? + STALL;
        match self.state {
            _ if self.onset.is_some() => Some(stopped),
            State::Silent => None,
            State::Speaking { turn, .. } => Some(stopped.max(turn.end_at + self.soft_end)),
            State::Pausing { turn } => Some(stopped.max(turn.probable_end_at + self.hard_end)),
        }
    }

    /// What was heard, in order; to be drained after every input.
    pub fn poll(&mut self) -> Option<Heard> {
        self.events.pop_front()
    }

    /// The caller does something other than speaking, presses a key: an utterance goes on, and its silence counts from here.
    pub fn keep_open(&mut self, now: Instant) {
        if let State::Speaking { turn, .. } | State::Pausing { turn } = self.state {
            let silent = turn.suspected || matches!(self.state, State::Pausing { .. });
            if silent && self.onset.take().is_none() {
                self.tell(Heard::Resumed { at: now });
            }
            let turn = Turn::until(turn.onset_sample, self.recent.heard(), now);
            self.state = State::Speaking { turn, voiced: false };
        }
    }

    /// What is known about the utterance so far from elsewhere, such as its text.
    pub fn hint(&mut self, hint: Hint) {
        self.hint = hint;
    }

    /// Whether the box itself is audible on the line, and may hear its own echo.
    pub fn set_playing(&mut self, playing: bool) {
        self.playing = playing;
    }

    /// Events lost because nobody drained [`TurnDetector::poll`].
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// One chunk in silence, or in the pause of a turn.
    fn look_for_onset(&mut self, now: Instant, probability: f32, from: u64, pausing: Option<Turn>) {
        let threshold = if self.playing { self.threshold.max(PLAYING_THRESHOLD) } else { self.threshold };
        let voiced = probability >= threshold;
        // A sign is enough for what can be taken back: a placeholder that stops, playout that pauses.
        let sign = match pausing {
            Some(_) => probability >= threshold * RESUMPTION_SHARE && self.is_audible(from, self.chunked),
            None => probability >= self.threshold,
        };
        if (voiced || sign) && self.onset.is_none() {
            let sample = self.rise(from, pausing.map_or(self.ended_sample, |turn| turn.end_sample));
            self.onset = Some(Onset { sample, gap_chunks: 0 });
            self.tell(match pausing {
                None => Heard::Onset { at: now, sample },
                Some(_) => Heard::Resumed { at: now },
            });
        }
        let Some(onset) = &mut self.onset else { return };
        if voiced {
            onset.gap_chunks = 0;
            let sample = onset.sample;
            if self.chunked - sample >= self.minimum_samples {
                self.onset = None;
                let turn = Turn::until(pausing.map_or(sample, |turn| turn.onset_sample), self.chunked, now);
                self.state = State::Speaking { turn, voiced: true };
                if pausing.is_none() {
                    self.speech_power = 0.0;
                    let onset = self.recent.arrival(sample + 1).unwrap_or(now);
                    self.tell(Heard::Started { onset_sample: sample, onset, at: now });
                }
                self.follow_speech(sample, self.chunked);
            }
        } else {
            onset.gap_chunks += 1;
            let allowed = if pausing.is_some() { RESUMPTION_GAP_CHUNKS } else { ONSET_GAP_CHUNKS };
            if onset.gap_chunks > allowed {
                self.onset = None;
                match pausing {
                    Some(turn) => self.pause(turn),
                    None => self.tell(Heard::Dismissed { at: now }),
                }
            }
        }
    }

    /// Mean square that only voice or another sound on the line reaches.
    fn audible(&self) -> f32 {
        ratio(self.noise_db.map_or(ONSET_LEVEL_DB, |level| (level + ONSET_ABOVE_NOISE_DB).max(ONSET_LEVEL_DB)))
    }

    /// Whether any of the sound between two positions is audible.
    fn is_audible(&self, from: u64, to: u64) -> bool {
        let audible = self.audible();
        self.recent.levels(from, to).any(|(_, power)| power >= audible)
    }

    /// Where the sound began that is audible without a break up to the chunk at `from`, which itself counts in any case.
    fn rise(&self, from: u64, not_before: u64) -> u64 {
        let audible = self.audible();
        let earliest = from.saturating_sub(samples_in(ONSET_LOOK_BACK)).max(not_before);
        let before = self.recent.levels(earliest, from).take_while(|&(_, power)| power >= audible);
        before.last().map_or(from, |(end, _)| end - HOP_SAMPLES).clamp(earliest.min(from), from)
    }

    /// The mean square from which sound is voice, and how far back its end may lie; nothing when noise hides it.
    fn quietest_voice(&self) -> Option<(f32, Duration)> {
        let fallen = self.speech_power * ratio(-FALL_DB);
        let noise = self.noise_db.map_or(0.0, |level| ratio(level + ABOVE_NOISE_DB));
        let quietest = if noise > fallen { (noise, LOOK_BACK_IN_NOISE) } else { (fallen, LOOK_BACK) };
        (quietest.0 <= self.speech_power * ratio(-SMALLEST_FALL_DB)).then_some(quietest)
    }

    /// Whether any of the sound between two positions is as loud as voice.
    fn is_voice(&self, from: u64, to: u64) -> bool {
        self.quietest_voice()
            .is_none_or(|(quietest, _)| self.recent.levels(from, to).any(|(_, power)| power >= quietest))
    }

    /// Just behind the last sample before `to` that is as loud as voice; nothing when noise hides it.
    fn last_voiced(&self, from: u64, to: u64) -> Option<u64> {
        let (quietest, look_back) = self.quietest_voice()?;
        let earliest = to.saturating_sub(samples_in(look_back)).max(from);
        let mut levels = self.recent.levels(earliest, to);
        Some(levels.find(|&(_, power)| power >= quietest).map_or(earliest, |(end, _)| end.min(to)))
    }

    /// A mean of powers, so that the silence behind the voice, still probable, hardly lowers it.
    fn follow_speech(&mut self, from: u64, to: u64) {
        for (_, power) in self.recent.levels(from, to) {
            let known = if self.speech_power == 0.0 { power } else { self.speech_power };
            self.speech_power = known + (power - known) * LEVEL_SHARE;
        }
    }

    /// A mean of decibels, so that the voice before its onset is noticed hardly raises it.
    fn follow_noise(&mut self, from: u64, to: u64) {
        for (_, power) in self.recent.levels(from, to) {
            let level = 10.0 * power.max(1.0).log10();
            let known = self.noise_db.unwrap_or(level);
            self.noise_db = Some(known + (level - known) * LEVEL_SHARE);
        }
    }

    fn pause(&mut self, turn: Turn) {
        self.state = State::Pausing { turn };
        self.tell(Heard::SoftEnd { speech_end: turn.end_at, end_sample: turn.end_sample });
    }

    fn end(&mut self, turn: Turn) {
        self.state = State::Silent;
        self.ended_sample = turn.end_sample;
        self.tell(Heard::HardEnd { onset_sample: turn.onset_sample, end_sample: turn.end_sample });
    }

    fn tell(&mut self, event: Heard) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.dropped_events += 1;
        }
    }
}

/// Decibels as a ratio of powers.
fn ratio(db: f32) -> f32 {
    10f32.powf(db / 10.0)
}

#[cfg(test)]
mod tests;
