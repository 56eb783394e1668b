//! When a turn begins, has probably ended, goes on, and has ended: the decisions, from speech probabilities.
//!
//! A sans-IO machine on two clocks. Silence is counted in heard samples, so that a burst of frames decides as the same
//! frames at their pace would; when frames stop altogether, it is counted on the wall clock. Everything here runs on the
//! media thread: no allocation after [`TurnDetector::new`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hangover::{Hangover, Silence};
use super::heard::Heard;
use super::hint::Hint;
use super::levels::{Levels, db};
use super::limits::Limits;
use super::recent::{HOP_SAMPLES, Recent};
use super::returned::{Moment, Returned};
use super::vad::CHUNK_SAMPLES;
use crate::pcm::telephone::{FRAME_SAMPLES, Frame, duration, samples_in};

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
/// On a line with noise above −60 dBFS a sound that stands out of it by so many dB needs only this share of the threshold.
const NOISY_DB: f32 = 30.3;
const STANDING_OUT_DB: f32 = 10.0;
const SHARE_IN_NOISE: f32 = 0.6;
/// While the box is heard, this share of the threshold makes playout pause: a weak consonant comes before the first vowel, and what came to
/// nothing goes on where it was.
const PAUSING_SHARE: f32 = 0.6;
/// Where the line is known, a sound that rises above it and above what comes back of the box's own voice makes playout pause, too: at most
/// so many chunks are waited for its probability.
const RISING_CHUNKS: u32 = 5;
/// In the pause of a turn this share of the threshold is a first sign of voice, when the level rises too.
const RESUMPTION_SHARE: f32 = 0.5;
/// A sound that begins just before the hard end keeps it waiting for its probability, at most so long.
const HARD_END_DELAY: Duration = Duration::from_millis(250);
/// Silence, by level, after which an end is probable enough to prepare for it.
const PROBABLE_END: Duration = Duration::from_millis(120);
/// Without a frame for so long, media has stopped and the wall clock decides.
const STALL: Duration = Duration::from_millis(60);
/// Silence so far behind the voice is noise, also while it is still probable.
const NOISE_AFTER: Duration = Duration::from_millis(100);
/// Without a syllable for so long it is other voices that are heard, when little is known of the line without voice…
const OTHERS_AFTER: Duration = Duration::from_millis(350);
/// …and when it is known to be without them.
const OTHERS_AFTER_QUIET: Duration = Duration::from_millis(1600);
/// A hint speaks of what was said so long ago; voice after that is not in it.
const HINT_LAG: Duration = Duration::from_millis(300);
/// What noise hides of the voice's fall makes the ends later, in ms for each dB: the soft one so little that it still comes no later after
/// the true end than on a quiet line.
const SOFT_END_FOR_HIDDEN: f32 = 3.0;
const HARD_END_FOR_HIDDEN: f32 = 14.0;
/// Undelivered events that are kept; no input makes more than three.
const EVENTS: usize = 16;

/// Voice that has not yet lasted for the minimum speech.
#[derive(Debug, Clone, Copy)]
struct Onset {
    sample: u64,
    gap_chunks: u32,
    /// It is only as loud as a voice so far; for how many chunks.
    rising_chunks: u32,
}

/// An utterance that has started.
#[derive(Debug, Clone, Copy)]
struct Turn {
    onset_sample: u64,
    /// Just behind the last voiced sample so far.
    end_sample: u64,
    /// When that sample arrived.
    end_at: Instant,
    /// Just behind the last sound that was as loud as a syllable.
    syllable_sample: u64,
    /// A probable end at `end_sample` was told and not taken back.
    suspected: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Silent,
    Speaking {
        turn: Turn,
    },
    /// After the soft end.
    Pausing {
        turn: Turn,
    },
}

/// Decides on turns. Fed with every frame, and with the probability of every chunk of 256 samples as it becomes complete.
#[derive(Debug)]
pub struct TurnDetector {
    hangover: Hangover,
    max_samples: u64,
    minimum_samples: u64,
    threshold: f32,
    playing: bool,
    /// What is known about the utterance so far, and where it was said.
    hint: Hint,
    hinted_sample: u64,
    recent: Recent,
    returned: Returned,
    levels: Levels,
    state: State,
    onset: Option<Onset>,
    /// Just behind the last utterance, or a gap in the media: nothing before belongs to the next utterance.
    ended_sample: u64,
    /// Just behind the voice of an utterance that ended by itself.
    hard_ended_sample: Option<u64>,
    /// Whether the last chunk was probably speech.
    lively: bool,
    /// Samples that are part of a chunk already.
    chunked: u64,
    events: VecDeque<Heard>,
    dropped_events: u64,
}

impl TurnDetector {
    /// A detector that has heard nothing.
    pub fn new(limits: Limits) -> Self {
        let soft = Silence { start: limits.soft_end, min: limits.soft_end_min, max: limits.soft_end_max };
        let hard = Silence { start: limits.hard_end, min: limits.hard_end_min, max: limits.hard_end_max };
        Self {
            hangover: Hangover::new(soft, hard),
            max_samples: samples_in(limits.max_utterance),
            minimum_samples: samples_in(limits.minimum_speech),
            threshold: limits.vad_threshold,
            playing: false,
            hint: Hint::Unknown,
            hinted_sample: 0,
            recent: Recent::new(),
            returned: Returned::new(),
            levels: Levels::default(),
            state: State::Silent,
            onset: None,
            ended_sample: 0,
            hard_ended_sample: None,
            lively: false,
            chunked: 0,
            events: VecDeque::with_capacity(EVENTS),
            dropped_events: 0,
        }
    }

    /// Takes the next frame, without a decision: the chunks that it completes come first, then [`TurnDetector::decide`].
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        let moment = match self.state {
            State::Silent if self.onset.is_none() => Moment::Quiet,
            State::Pausing { .. } if self.onset.is_none() => Moment::Pause,
            _ => Moment::Voice,
        };
        self.recent.push(now, frame, |power| self.returned.hear(power, moment));
    }

    /// Takes what the box sends in this ptime, silence too, behind the frame that was heard in it.
    pub fn handle_sent(&mut self, frame: &Frame) {
        self.returned.send(frame);
    }

    /// Takes the speech probability, 0 to 1, of the next 256 samples; anything else counts as 0.
    pub fn handle_probability(&mut self, now: Instant, probability: f32) {
        let from = self.chunked;
        self.chunked += CHUNK_SAMPLES as u64;
        self.lively = probability >= if self.lively { self.threshold - HYSTERESIS } else { self.threshold };
        match self.state {
            State::Silent => {
                self.look_for_onset(now, probability, from, None);
                if self.playing && self.onset.is_none() {
                    self.learn_return(from);
                }
            }
            State::Pausing { turn } => self.look_for_onset(now, probability, from, Some(turn)),
            State::Speaking { .. } => {
                self.follow(now, from, self.chunked);
                if probability >= self.threshold {
                    self.learn_voice(from);
                }
            }
        }
        self.learn_noise(from);
    }

    /// Decides what the silence so far means; after each frame.
    pub fn decide(&mut self, now: Instant) {
        let heard = self.recent.heard();
        self.follow(now, self.chunked, heard);
        match &mut self.state {
            State::Speaking { turn } if heard.saturating_sub(turn.onset_sample) >= self.max_samples => {
                let onset_sample = turn.onset_sample;
                self.state = State::Silent;
                self.hint = Hint::Unknown;
                self.ended_sample = heard;
                self.hard_ended_sample = None;
                self.tell(Heard::TooLong { onset_sample, end_sample: heard });
            }
            State::Speaking { turn } => {
                let silence = heard.saturating_sub(turn.end_sample);
                let hidden = self.levels.hidden();
                let later = samples_in(Duration::from_secs_f32(hidden * SOFT_END_FOR_HIDDEN / 1000.0));
                let suspect = !turn.suspected && silence >= samples_in(PROBABLE_END) + later;
                turn.suspected |= suspect;
                let turn = *turn;
                if suspect {
                    self.tell(Heard::ProbableEnd { speech_end: turn.end_at, end_sample: turn.end_sample });
                }
                if silence >= samples_in(self.hangover.soft_end(self.hint)) + later {
                    self.pause(turn);
                }
            }
            State::Pausing { turn } if self.onset.is_none() => {
                let turn = *turn;
                // The longer of the two: frames may have been missing for a while.
                let silence =
                    duration(heard.saturating_sub(turn.end_sample)).max(now.saturating_duration_since(turn.end_at));
                let least = self.hangover.hard_end(self.hint) + self.uncertainty();
                if silence >= least + HARD_END_DELAY || silence >= least && !self.may_begin() {
                    self.end(turn);
                }
            }
            _ => {}
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
        if let State::Speaking { turn } = self.state
            && now >= turn.end_at + self.hangover.soft_end(self.hint)
        {
            self.pause(turn);
        }
        if let State::Pausing { turn } = self.state
            && now >= turn.end_at + self.hangover.hard_end(self.hint)
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
            State::Speaking { turn } => Some(stopped.max(turn.end_at + self.hangover.soft_end(self.hint))),
            State::Pausing { turn } => Some(stopped.max(turn.end_at + self.hangover.hard_end(self.hint))),
        }
    }

    /// What was heard, in order; to be drained after every input.
    pub fn poll(&mut self) -> Option<Heard> {
        self.events.pop_front()
    }

    /// The caller does something other than speaking, presses a key: an utterance goes on, and its silence counts from here.
    pub fn keep_open(&mut self, now: Instant) {
        if let State::Speaking { turn } | State::Pausing { turn } = self.state {
            let silent = turn.suspected || matches!(self.state, State::Pausing { .. });
            if silent && self.onset.take().is_none() {
                self.tell(Heard::Resumed { at: now });
            }
            let here = self.recent.heard();
            let turn = Turn { end_sample: here, end_at: now, syllable_sample: here, suspected: false, ..turn };
            self.state = State::Speaking { turn };
        }
    }

    /// What is known about the utterance so far from elsewhere, such as its text.
    /// It holds until the next one, and no longer than the silence in which it is said.
    pub fn hint(&mut self, hint: Hint) {
        if !matches!(self.state, State::Silent) {
            self.hint = hint;
            self.hinted_sample = self.recent.heard();
        }
    }

    /// Whether the box itself is audible on the line, and may hear its own echo.
    pub fn set_playing(&mut self, playing: bool) {
        self.playing = playing;
    }

    /// Events lost because nobody drained [`TurnDetector::poll`].
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// Moves the end of the voice to the last 10 ms between two positions that are as loud as voice, if it is probable.
    fn follow(&mut self, now: Instant, from: u64, to: u64) {
        let State::Speaking { turn } = &mut self.state else { return };
        let voice = self.levels.voice();
        let Some((end, _)) = self.recent.levels(from, to).find(|&(_, power)| self.lively && db(power) >= voice) else {
            return;
        };
        let end = end.min(to);
        let syllable = self.levels.syllable();
        if let Some((end, _)) = self.recent.levels(from, to).find(|&(_, power)| db(power) >= syllable) {
            turn.syllable_sample = turn.syllable_sample.max(end.min(to));
        }
        if end > turn.end_sample {
            let pause = from.max(turn.end_sample) - turn.end_sample;
            turn.end_sample = end;
            turn.end_at = self.recent.arrival(end).unwrap_or(now);
            let suspected = std::mem::take(&mut turn.suspected);
            if end > self.hinted_sample + samples_in(HINT_LAG) {
                self.hint = Hint::Unknown;
            }
            if suspected {
                self.resumed(pause);
                self.tell(Heard::Resumed { at: now });
            }
        }
    }

    /// One chunk in silence, or in the pause of a turn.
    fn look_for_onset(&mut self, now: Instant, probability: f32, from: u64, pausing: Option<Turn>) {
        // Noise makes voice less probable; there it is known by its level, too.
        let stands_out = self
            .levels
            .noise()
            .is_some_and(|noise| noise > NOISY_DB && self.is_as_loud_as(noise + STANDING_OUT_DB, from));
        let usual = if stands_out && !self.playing { self.threshold * SHARE_IN_NOISE } else { self.threshold };
        let threshold = if self.playing { self.threshold.max(PLAYING_THRESHOLD) } else { usual };
        let loud = self.is_as_loud_as(self.levels.onset(), from);
        let voiced = loud && probability >= threshold;
        // Playout that has paused is not heard any more, but the sound that made it pause may still rise.
        let rises = pausing.is_none()
            && (self.playing || self.onset.is_some_and(|onset| onset.rising_chunks > 0))
            && self.levels.rise().is_some_and(|level| self.is_as_loud_as(level, from));
        // A sign is enough for what can be taken back: a placeholder that stops, playout that pauses.
        let sign = match pausing {
            Some(_) => probability >= threshold * RESUMPTION_SHARE && self.is_as_loud_as(self.audible(), from),
            None => rises || loud && probability >= if self.playing { usual * PAUSING_SHARE } else { usual },
        };
        if (voiced || sign) && self.onset.is_none() {
            let audible = self.audible();
            let within =
                self.recent.levels(from, self.chunked).filter(|&(_, power)| rises && db(power) >= audible).last();
            let from = within.map_or(from, |(end, _)| (end - HOP_SAMPLES).max(from));
            let sample = self.rise(from, pausing.map_or(self.ended_sample, |turn| turn.end_sample));
            self.onset = Some(Onset { sample, gap_chunks: 0, rising_chunks: 0 });
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
                let onset_sample = pausing.map_or(sample, |turn| turn.onset_sample);
                match (pausing, self.hard_ended_sample) {
                    (Some(turn), _) => self.resumed(sample.saturating_sub(turn.end_sample)),
                    (None, Some(ended)) => self.spoke_again(sample.saturating_sub(ended)),
                    (None, None) => {}
                }
                self.state = State::Speaking {
                    turn: Turn {
                        onset_sample,
                        end_sample: self.chunked,
                        end_at: now,
                        syllable_sample: self.chunked,
                        suspected: false,
                    },
                };
                if pausing.is_none() {
                    let onset = self.recent.arrival(sample + 1).unwrap_or(now);
                    self.tell(Heard::Started { onset_sample: sample, onset, at: now });
                }
                self.learn_voice(sample);
            }
        } else if rises && onset.rising_chunks < RISING_CHUNKS {
            onset.rising_chunks += 1;
        } else {
            onset.gap_chunks += 1;
            let allowed = if pausing.is_some() { RESUMPTION_GAP_CHUNKS } else { ONSET_GAP_CHUNKS };
            if onset.gap_chunks > allowed {
                let sample = onset.sample;
                self.onset = None;
                match pausing {
                    Some(turn) => self.pause(turn),
                    None => {
                        self.learn_return(sample);
                        self.tell(Heard::Dismissed { at: now });
                    }
                }
            }
        }
    }

    /// Takes the sound since a position, to the end of the last chunk, as what comes back while the box is heard.
    fn learn_return(&mut self, from: u64) {
        for (_, power) in self.recent.levels(from, self.chunked) {
            self.levels.hear_return(db(power));
        }
    }

    /// Weak ends and beginnings drown in noise, so that a pause seems to be longer than it is.
    fn uncertainty(&self) -> Duration {
        Duration::from_secs_f32(self.levels.hidden() * HARD_END_FOR_HIDDEN / 1000.0)
    }

    /// Whether the last 40 ms may be the beginning of voice: a consonant, whose probability is still to rise.
    fn may_begin(&self) -> bool {
        let heard = self.recent.heard();
        let consonant = self.levels.consonant();
        let mut last = self.recent.levels(heard.saturating_sub(2 * FRAME_SAMPLES as u64), heard);
        last.any(|(_, power)| db(power) >= consonant)
    }

    /// Level that only voice or another sound on the line reaches.
    fn audible(&self) -> f32 {
        self.levels.noise().map_or(ONSET_LEVEL_DB, |level| (level + ONSET_ABOVE_NOISE_DB).max(ONSET_LEVEL_DB))
    }

    /// Whether any of the sound since a position, to the end of the last chunk, reaches a level.
    fn is_as_loud_as(&self, level: f32, from: u64) -> bool {
        self.recent.levels(from, self.chunked).any(|(_, power)| db(power) >= level)
    }

    /// Where the sound began that is audible without a break up to the chunk at `from`, which itself counts in any case.
    fn rise(&self, from: u64, not_before: u64) -> u64 {
        let audible = self.audible();
        let earliest = from.saturating_sub(samples_in(ONSET_LOOK_BACK)).max(not_before);
        let before = self.recent.levels(earliest, from).take_while(|&(_, power)| db(power) >= audible);
        before.last().map_or(from, |(end, _)| end - HOP_SAMPLES).clamp(earliest.min(from), from)
    }

    /// Takes what is as loud as voice since a position, to the end of the last chunk, as voice.
    fn learn_voice(&mut self, from: u64) {
        for (_, power) in self.recent.levels(from, self.chunked) {
            if db(power) >= self.levels.voice() {
                self.levels.hear_voice(db(power));
            }
        }
    }

    /// Takes what cannot be voice in the last chunk as noise: all of it if it is not probable, else what is soft and far from voice.
    fn learn_noise(&mut self, from: u64) {
        let mut others = false;
        if let State::Speaking { turn } | State::Pausing { turn } = self.state {
            let patience = if self.levels.knows_noise() { OTHERS_AFTER_QUIET } else { OTHERS_AFTER };
            others = from >= turn.syllable_sample + samples_in(patience);
            if !others && from < turn.end_sample + samples_in(NOISE_AFTER) {
                return;
            }
        }
        for (_, power) in self.recent.foreign(from, self.chunked) {
            if others && self.lively && matches!(self.state, State::Speaking { .. }) {
                self.levels.hear_others(db(power));
            } else if others || !self.lively || db(power) < self.levels.voice() {
                self.levels.hear_noise(db(power), self.lively);
            }
        }
        if let State::Speaking { turn } = &mut self.state
            && others
            && !turn.suspected
        {
            let voice = self.levels.voice();
            let last = self.recent.levels(turn.syllable_sample, self.chunked).find(|&(_, power)| db(power) >= voice);
            let end = last.map_or(turn.syllable_sample, |(end, _)| end);
            if end < turn.end_sample {
                turn.end_sample = end;
                turn.end_at = self.recent.arrival(end).unwrap_or(turn.end_at);
            }
        }
    }

    /// Learns from a pause of so many samples, unless other people's voices may have ended it.
    fn resumed(&mut self, pause: u64) {
        self.hint = Hint::Unknown;
        if !self.levels.lively() {
            self.hangover.paused(duration(pause).saturating_sub(self.uncertainty()));
        }
    }

    /// Learns from an utterance that began so many samples after the end of the one before.
    fn spoke_again(&mut self, after: u64) {
        if !self.levels.lively() {
            self.hangover.spoke_again(duration(after));
        }
    }

    fn pause(&mut self, turn: Turn) {
        self.state = State::Pausing { turn };
        self.tell(Heard::SoftEnd { speech_end: turn.end_at, end_sample: turn.end_sample });
    }

    fn end(&mut self, turn: Turn) {
        self.state = State::Silent;
        self.hint = Hint::Unknown;
        self.hangover.ended();
        self.hard_ended_sample = Some(turn.end_sample);
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

#[cfg(test)]
mod tests;
