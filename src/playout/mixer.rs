//! The playout mixer: one frame every ptime out of the answer's speech, a clip from RAM, or silence.
//!
//! A sans-IO machine that runs on the media thread: nothing here allocates, locks or logs. Speech comes through a ring and is
//! tagged with its generation; what belongs to a generation that was flushed is thrown away when it is popped. Speech is audible
//! only after its generation was released (the caller's turn is committed). The armed placeholder starts by itself when the
//! endpointer reports a probable end, unless speech is queued by then.
//!
//! Not here yet: grace predicted from earlier turns, a second clip.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbuf::traits::Consumer;

use crate::conversation::{Generation, Seq};
use crate::pcm::{FRAME_SAMPLES, Frame, SILENCE, level};

use super::clips::ClipKind;

/// Silence between a clip and the answer that follows it.
const PAUSE_AFTER_CLIP: Duration = Duration::from_millis(60);
/// Frames that an answer waits for the end of a word in a clip (340 ms).
const LONGEST_HANDOVER: usize = 17;
/// How long playout pauses when the caller may have begun to speak: a little more than speech needs to be believed.
const DUCK: Duration = Duration::from_millis(120);
/// After such a pause that meant nothing there is none for so long, lest a noisy line make the box stutter.
const DUCK_AGAIN: Duration = Duration::from_millis(1000);
/// Length of the ramp at a cut, in samples (5 ms).
const FADE_SAMPLES: usize = 40;
/// Results that may wait to be polled; a tick makes at most a handful.
const PLAYED_SLOTS: usize = 32;

/// One element of the speech ring.
#[derive(Debug, Clone, Copy)]
pub struct SpeechFrame {
    /// The answer it belongs to.
    pub generation: Generation,
    /// The phrase it belongs to.
    pub seq: Seq,
    /// True for the mark behind a phrase's last frame; its samples mean nothing.
    pub end_of_phrase: bool,
    /// One ptime of speech.
    pub samples: Frame,
}

impl SpeechFrame {
    /// A frame of a phrase.
    pub fn speech(generation: Generation, seq: Seq, samples: Frame) -> Self {
        Self { generation, seq, end_of_phrase: false, samples }
    }

    /// The mark behind the last frame of a phrase.
    pub fn end_of_phrase(generation: Generation, seq: Seq) -> Self {
        Self { generation, seq, end_of_phrase: true, samples: SILENCE }
    }
}

/// A clip ready to be played: frames and the places where it may be cut, in RAM.
#[derive(Debug, Clone)]
pub struct PlayableClip {
    /// What it is for.
    pub kind: ClipKind,
    /// Its place in the list that its owner keeps.
    pub index: u16,
    /// Its sound.
    pub frames: Arc<[Frame]>,
    /// Frame counts after which a word has ended, ascending; the end of the clip needs no entry.
    pub cuts: Arc<[u16]>,
}

/// Something that was played, or stopped being played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Played {
    /// The first frame of a clip leaves.
    ClipStarted {
        /// What it is for.
        kind: ClipKind,
        /// Which one.
        index: u16,
        /// When the frame left.
        at: Instant,
    },
    /// A clip has ended, or was cut.
    ClipEnded {
        /// What it is for.
        kind: ClipKind,
        /// Whether it was played to its end, or gave way to an answer.
        whole: bool,
    },
    /// The first voiced frame of anything since the caller's probable end leaves.
    FirstSound {
        /// When the frame left.
        at: Instant,
    },
    /// The first voiced frame of an answer leaves.
    AnswerStarted {
        /// The answer.
        generation: Generation,
        /// When the frame left.
        at: Instant,
    },
    /// A phrase has been played to its end, or was cut.
    PhraseEnded {
        /// The answer it belongs to.
        generation: Generation,
        /// Its place in the answer.
        seq: Seq,
        /// Frames of it that left.
        frames: u32,
        /// Whether that was all of it.
        whole: bool,
        /// When its last voiced frame left.
        last_voiced: Option<Instant>,
    },
}

struct PlayingClip {
    clip: PlayableClip,
    next: usize,
    /// Where the answer takes over, once it is there.
    handover: Option<Handover>,
}

impl PlayingClip {
    fn new(clip: PlayableClip) -> Self {
        Self { clip, next: 0, handover: None }
    }
}

/// The place in a clip where the answer takes over.
#[derive(Clone, Copy)]
struct Handover {
    at: usize,
    /// No word's end was near enough.
    within_a_word: bool,
}

/// Phrase that is being played.
struct Phrase {
    generation: Generation,
    seq: Seq,
    frames: u32,
    last_voiced: Option<Instant>,
}

/// Where the armed placeholder stands.
enum Placeholder {
    Absent,
    Armed(PlayableClip),
    /// The caller has probably ended; it starts at this moment.
    Due(PlayableClip, Instant),
    /// It is playing, or was played, in this turn; kept to be armed again if the turn is taken back.
    Started(PlayableClip),
}

/// Decides what leaves in each ptime.
pub struct Mixer {
    grace: Duration,
    placeholder: Placeholder,
    clip: Option<PlayingClip>,
    phrase: Option<Phrase>,
    answer_started: Generation,
    await_first_sound: bool,
    /// The end that was reported last.
    speech_end: Option<Instant>,
    /// The end for which a placeholder was started.
    bridged: Option<Instant>,
    flushed: Generation,
    released: Generation,
    silent_until: Option<Instant>,
    ducked_at: Option<Instant>,
    /// A clip was replaced: one frame lets it fade before the next begins.
    give_way: bool,
    fade_in: bool,
    fade_out: bool,
    tail: Frame,
    played: VecDeque<Played>,
    underruns: u64,
}

impl Mixer {
    /// A mixer whose placeholder starts `grace` after the probable end.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            placeholder: Placeholder::Absent,
            clip: None,
            phrase: None,
            answer_started: 0,
            await_first_sound: false,
            speech_end: None,
            bridged: None,
            flushed: 0,
            released: 0,
            silent_until: None,
            ducked_at: None,
            give_way: false,
            fade_in: false,
            fade_out: false,
            tail: SILENCE,
            played: VecDeque::with_capacity(PLAYED_SLOTS),
            underruns: 0,
        }
    }

    /// Arms the placeholder for the turn that comes; it waits for the probable end.
    pub fn arm(&mut self, clip: PlayableClip) {
        if !matches!(self.placeholder, Placeholder::Due(..)) {
            self.placeholder = Placeholder::Armed(clip);
        }
    }

    /// Takes the placeholder back, and stops one that plays.
    pub fn disarm(&mut self) {
        self.placeholder = Placeholder::Absent;
        self.stop_clip(ClipKind::Placeholder);
    }

    /// The caller has probably ended, at `speech_end`: the armed placeholder starts after the grace. An end that is reported once more, because
    /// what seemed to be its resumption was only a click, starts no second one.
    pub fn utterance_ended(&mut self, now: Instant, speech_end: Instant) {
        self.await_first_sound = true;
        self.speech_end = Some(speech_end);
        if self.bridged == self.speech_end {
            return;
        }
        self.placeholder = match std::mem::replace(&mut self.placeholder, Placeholder::Absent) {
            Placeholder::Armed(clip) => Placeholder::Due(clip, now + self.grace),
            other => other,
        };
    }

    /// The caller went on: a placeholder that waits or plays is taken back, and armed again for the real end.
    pub fn utterance_resumed(&mut self) {
        self.await_first_sound = false;
        self.placeholder = match std::mem::replace(&mut self.placeholder, Placeholder::Absent) {
            Placeholder::Due(clip, _) | Placeholder::Started(clip) => Placeholder::Armed(clip),
            other => other,
        };
        self.stop_clip(ClipKind::Placeholder);
    }

    /// Plays a greeting or an apology now; an armed placeholder stays armed.
    pub fn play(&mut self, clip: PlayableClip) {
        if let Some(old) = self.clip.take() {
            self.give_way |= old.next > 0;
            self.note(Played::ClipEnded { kind: old.clip.kind, whole: false });
        }
        self.clip = Some(PlayingClip::new(clip));
    }

    /// The answer may be heard.
    pub fn release(&mut self, generation: Generation) {
        self.released = self.released.max(generation);
    }

    /// Forgets everything up to and including `generation`, silencing it if it plays.
    pub fn cancel(&mut self, generation: Generation) {
        self.flushed = self.flushed.max(generation);
        if self.phrase.as_ref().is_some_and(|phrase| phrase.generation <= generation) {
            self.end_phrase(false);
            self.fade_out = true;
        }
    }

    /// The caller may have begun to speak: whatever plays pauses for a moment. It is flushed if that proves true, and goes on where it was if not.
    pub fn duck(&mut self, now: Instant) {
        let lately = self.ducked_at.is_some_and(|at| now.saturating_duration_since(at) < DUCK_AGAIN);
        if self.audible() && !lately {
            self.ducked_at = Some(now);
            self.fade_out = true;
        }
    }

    fn ducked(&self, now: Instant) -> bool {
        self.audible() && self.ducked_at.is_some_and(|at| now.saturating_duration_since(at) < DUCK)
    }

    /// Silences whatever plays, within the next frame, and forgets every answer that was audible or might become so.
    pub fn flush(&mut self) {
        self.cancel(self.released);
        for kind in [ClipKind::Greeting, ClipKind::Placeholder, ClipKind::Apology] {
            self.stop_clip(kind);
        }
        if let Placeholder::Due(..) = self.placeholder {
            self.placeholder = Placeholder::Absent;
        }
    }

    /// True while something other than silence is being played.
    pub fn audible(&self) -> bool {
        self.clip.is_some() || self.phrase.is_some()
    }

    /// Ticks in which a phrase was being played and its next frame was not there.
    pub fn underruns(&self) -> u64 {
        self.underruns
    }

    /// What was played since the last call.
    pub fn poll(&mut self) -> Option<Played> {
        self.played.pop_front()
    }

    /// The frame that leaves at `now`. Second value: whether it is other than silence.
    pub fn tick(&mut self, now: Instant, speech: &mut impl Consumer<Item = SpeechFrame>) -> (Frame, bool) {
        let ducked = self.ducked(now);
        let give_way = std::mem::take(&mut self.give_way);
        self.fade_out |= give_way;
        let source = if ducked || give_way { None } else { self.source(now, speech) };
        let (frame, sounding) = match source {
            Some(mut frame) => {
                if self.fade_in {
                    fade_in(&mut frame);
                }
                self.tail = frame;
                (frame, true)
            }
            None => {
                // After silence there is nothing to fade out of.
                let last = std::mem::replace(&mut self.tail, SILENCE);
                let fading = self.fade_out && last != SILENCE;
                (if fading { fade_out_after(&last) } else { SILENCE }, fading)
            }
        };
        self.fade_out = false;
        self.fade_in = ducked;
        if sounding && self.await_first_sound && level::rms_dbfs(&frame) > level::VOICED_DBFS {
            self.await_first_sound = false;
            self.note(Played::FirstSound { at: now });
        }
        (frame, sounding)
    }

    fn source(&mut self, now: Instant, speech: &mut impl Consumer<Item = SpeechFrame>) -> Option<Frame> {
        let queued = self.speech_queued(speech);
        if let Placeholder::Due(_, at) = &self.placeholder
            && (queued || now >= *at)
            && let Placeholder::Due(clip, _) = std::mem::replace(&mut self.placeholder, Placeholder::Absent)
        {
            if queued || self.clip.is_some() {
                // The answer is there first: this turn needs no placeholder, unless it is taken back.
                self.placeholder = Placeholder::Started(clip);
            } else {
                self.clip = Some(PlayingClip::new(clip.clone()));
                self.bridged = self.speech_end;
                self.placeholder = Placeholder::Started(clip);
            }
        }
        let answer_ready = queued && self.front_is_released(speech);
        if let Some(frame) = self.clip_frame(now, answer_ready) {
            return Some(frame);
        }
        if self.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        self.silent_until = None;
        if answer_ready { self.speech_frame(now, speech) } else { self.starved(queued) }
    }

    /// Throws away what was flushed, and says whether valid speech is queued.
    fn speech_queued(&mut self, speech: &mut impl Consumer<Item = SpeechFrame>) -> bool {
        while let Some(front) = speech.first() {
            if front.generation > self.flushed {
                return true;
            }
            speech.skip(1);
        }
        false
    }

    fn front_is_released(&self, speech: &impl Consumer<Item = SpeechFrame>) -> bool {
        speech.first().is_some_and(|front| front.generation <= self.released)
    }

    fn clip_frame(&mut self, now: Instant, answer_ready: bool) -> Option<Frame> {
        let playing = self.clip.as_mut()?;
        let kind = playing.clip.kind;
        if answer_ready && kind == ClipKind::Placeholder && playing.handover.is_none() {
            playing.handover = Some(handover(&playing.clip, playing.next));
        }
        let end = playing.handover.map_or(playing.clip.frames.len(), |handover| handover.at);
        if playing.next >= end {
            self.fade_out = playing.handover.is_some_and(|handover| handover.within_a_word);
            self.clip = None;
            self.silent_until = Some(now + PAUSE_AFTER_CLIP);
            self.note(Played::ClipEnded { kind, whole: true });
            return None;
        }
        let frame = playing.clip.frames[playing.next];
        let (first, index) = (playing.next == 0, playing.clip.index);
        playing.next += 1;
        if first {
            self.note(Played::ClipStarted { kind, index, at: now });
        }
        Some(frame)
    }

    fn speech_frame(&mut self, now: Instant, speech: &mut impl Consumer<Item = SpeechFrame>) -> Option<Frame> {
        while let Some(next) = speech.try_pop() {
            if next.generation <= self.flushed {
                continue;
            }
            let same = self.phrase.as_ref().is_some_and(|p| p.generation == next.generation && p.seq == next.seq);
            if !same {
                self.end_phrase(false);
                self.phrase = Some(Phrase { generation: next.generation, seq: next.seq, frames: 0, last_voiced: None });
            }
            if next.end_of_phrase {
                self.end_phrase(true);
                if !self.front_is_released(speech) {
                    return None;
                }
                continue;
            }
            let voiced = level::rms_dbfs(&next.samples) > level::VOICED_DBFS;
            if let Some(phrase) = self.phrase.as_mut() {
                phrase.frames += 1;
                if voiced {
                    phrase.last_voiced = Some(now);
                }
            }
            if voiced && self.answer_started < next.generation {
                self.answer_started = next.generation;
                self.note(Played::AnswerStarted { generation: next.generation, at: now });
            }
            return Some(next.samples);
        }
        None
    }

    fn starved(&mut self, queued: bool) -> Option<Frame> {
        if !queued && self.phrase.is_some() {
            self.underruns += 1;
        }
        None
    }

    fn stop_clip(&mut self, kind: ClipKind) {
        if self.clip.as_ref().is_some_and(|playing| playing.clip.kind == kind) {
            let begun = self.clip.take().is_some_and(|playing| playing.next > 0);
            self.fade_out |= begun;
            self.note(Played::ClipEnded { kind, whole: false });
        }
    }

    fn end_phrase(&mut self, whole: bool) {
        if let Some(Phrase { generation, seq, frames, last_voiced }) = self.phrase.take() {
            self.note(Played::PhraseEnded { generation, seq, frames, whole, last_voiced });
        }
    }

    fn note(&mut self, played: Played) {
        // The queue holds more than a tick can make; it never grows.
        if self.played.len() < PLAYED_SLOTS {
            self.played.push_back(played);
        }
    }
}

/// Where a clip that has been played up to `next` gives way: at the end of a word or of the clip if that is near, else at the quietest place.
fn handover(clip: &PlayableClip, next: usize) -> Handover {
    let last = next + LONGEST_HANDOVER;
    let end = clip.frames.len();
    let word = clip.cuts.iter().map(|&cut| usize::from(cut)).find(|&cut| cut >= next).unwrap_or(end).min(end);
    if word <= last {
        return Handover { at: word, within_a_word: false };
    }
    let level = |at: &usize| clip.frames[*at].iter().map(|&sample| i64::from(sample).pow(2)).sum::<i64>();
    Handover { at: (next..last).min_by_key(level).unwrap_or(next), within_a_word: true }
}

/// Lets a frame begin without a step.
fn fade_in(frame: &mut Frame) {
    for (n, sample) in frame.iter_mut().take(FADE_SAMPLES).enumerate() {
        *sample = (f32::from(*sample) * (1.0 - ramp(n))) as i16;
    }
}

/// From 1 to 0 over the length of a fade.
fn ramp(n: usize) -> f32 {
    0.5 + 0.5 * (std::f32::consts::PI * (n + 1) as f32 / FADE_SAMPLES as f32).cos()
}

/// A frame that takes over from `last` without a step and is silent after the ramp: its end, mirrored.
fn fade_out_after(last: &Frame) -> Frame {
    let mut frame = SILENCE;
    for (n, sample) in frame.iter_mut().take(FADE_SAMPLES).enumerate() {
        *sample = (f32::from(last[FRAME_SAMPLES - 1 - n]) * ramp(n)) as i16;
    }
    frame
}

#[cfg(test)]
#[path = "mixer_tests.rs"]
mod tests;
