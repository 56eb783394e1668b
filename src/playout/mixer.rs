//! The playout mixer: one frame every ptime out of the answer's speech, a clip from RAM, or silence.
//!
//! A sans-IO machine that runs on the media thread: nothing here allocates, locks or logs. Speech comes through a ring and is
//! tagged with its generation; what belongs to a generation that was flushed is thrown away when it is popped. Speech is audible
//! only after its generation was released (the caller's turn is committed). The armed placeholder starts by itself when the
//! endpointer reports a probable end, unless speech is queued by then; it gives way to the answer at the end of a word.
//!
//! When the caller cuts in, what plays is held where it is, until it is decided whether it goes on or is flushed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringbuf::traits::Consumer;

use crate::conversation::{Generation, Seq};
use crate::pcm::{FRAME_SAMPLES, Frame, SILENCE, level, samples_in};

use super::fade::{CUT_FADE_SAMPLES, fade_behind_cut, fade_in, fade_out_after, is_loud, mix_in_end_of};
use super::hold::Hold;
use super::placeholder::{Arming, Placeholder};
use super::played::{PlayableClip, Played, SpeechFrame};

/// Least silence between a clip's last word and the answer that follows it; up to a ptime more.
const PAUSE_AFTER_CLIP: Duration = Duration::from_millis(60);
/// Results that may wait to be polled; a tick makes at most a handful.
const PLAYED_SLOTS: usize = 32;

struct PlayingClip {
    clip: PlayableClip,
    /// Frames that have left.
    next: usize,
    /// The sample at which the answer takes over, once it is there.
    cut: Option<usize>,
}

impl PlayingClip {
    fn new(clip: PlayableClip) -> Self {
        Self { clip, next: 0, cut: None }
    }

    /// Samples of sound: a last cut within the last frame is where the filling begins.
    fn samples(&self) -> usize {
        let filled = self.clip.frames.len() * FRAME_SAMPLES;
        let last = self.clip.cuts.last().map_or(filled, |&cut| cut as usize);
        if last + FRAME_SAMPLES > filled { last.min(filled) } else { filled }
    }

    /// The next place from here on where no word is cut.
    fn next_cut(&self) -> usize {
        let (from, end) = (self.next * FRAME_SAMPLES, self.samples());
        self.clip.cuts.iter().map(|&cut| cut as usize).find(|&cut| cut >= from).unwrap_or(end).min(end)
    }

    /// Whether nothing of it is left.
    fn is_over(&self) -> bool {
        let end = self.cut.map_or(usize::MAX, |cut| cut + CUT_FADE_SAMPLES);
        self.next >= self.clip.frames.len() || self.next * FRAME_SAMPLES >= end
    }

    /// Ticks of silence behind it, when it has ended where it should.
    fn ticks_of_pause(&self) -> usize {
        let end = self.cut.unwrap_or_else(|| self.samples());
        let behind = (self.next * FRAME_SAMPLES).saturating_sub(end);
        (samples_in(PAUSE_AFTER_CLIP) as usize).saturating_sub(behind).div_ceil(FRAME_SAMPLES)
    }
}

/// Phrase that is being played.
struct Phrase {
    generation: Generation,
    seq: Seq,
    frames: u32,
    last_voiced: Option<Instant>,
}

/// Whose frame leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Clip,
    Phrase { generation: Generation, seq: Seq },
}

/// A frame that is to leave.
struct Sounding {
    frame: Frame,
    origin: Origin,
    /// It is the first of its origin.
    first: bool,
}

/// Decides what leaves in each ptime.
pub struct Mixer {
    placeholder: Placeholder,
    hold: Hold,
    clip: Option<PlayingClip>,
    phrase: Option<Phrase>,
    answer_started: Generation,
    await_first_sound: bool,
    /// The caller's end to which no frame of an answer has come yet.
    unanswered: Option<Instant>,
    flushed: Generation,
    released: Generation,
    /// Ticks of silence that are left between a clip and the answer.
    pause: usize,
    /// A clip was replaced: one frame lets it fade before the next begins.
    give_way: bool,
    fade_out: bool,
    /// Whose frame left last; `None`: silence.
    last: Option<Origin>,
    tail: Frame,
    played: VecDeque<Played>,
    underruns: u64,
}

impl Mixer {
    /// A mixer whose placeholder starts at most `grace` after the probable end is told, unless the answer is due soon.
    pub fn new(grace: Duration) -> Self {
        Self {
            placeholder: Placeholder::new(grace),
            hold: Hold::new(),
            clip: None,
            phrase: None,
            answer_started: 0,
            await_first_sound: false,
            unanswered: None,
            flushed: 0,
            released: 0,
            pause: 0,
            give_way: false,
            fade_out: false,
            last: None,
            tail: SILENCE,
            played: VecDeque::with_capacity(PLAYED_SLOTS),
            underruns: 0,
        }
    }

    /// Arms the placeholders for the turn that comes, or for a probable end that was told and not decided on.
    pub fn arm(&mut self, now: Instant, arming: Arming) {
        self.placeholder.arm(now, arming);
    }

    /// Takes the placeholders back, and stops one that plays.
    pub fn disarm(&mut self) {
        self.placeholder.disarm();
        self.stop_placeholder();
    }

    /// The caller may have begun to speak: whatever plays pauses for a moment.
    pub fn onset(&mut self, now: Instant) {
        if self.audible() && self.hold.onset(now) {
            self.fade_out = true;
        }
    }

    /// That came to nothing: what paused goes on where it was.
    pub fn onset_dismissed(&mut self) {
        self.hold.dismissed();
    }

    /// The caller speaks: a placeholder stops, and whatever else plays is held where it is until [`Mixer::resume`] or [`Mixer::flush`].
    /// What becomes ready meanwhile is held as well.
    pub fn utterance_started(&mut self) {
        self.unanswered = None;
        self.placeholder.started();
        self.stop_placeholder();
        let sounding = self.clip.is_some() || self.phrase.is_some();
        if self.hold.started(sounding, self.released) {
            self.fade_out = true;
            if let Some(&Phrase { generation, seq, frames, last_voiced }) = self.phrase.as_ref() {
                self.note(Played::PhraseHeld { generation, seq, frames, last_voiced });
            }
        }
    }

    /// The caller has probably ended, at `speech_end`, what lasted for `utterance`: the armed placeholder starts after the grace, unless something
    /// is held. An end that is reported once more, because what seemed to be its resumption was only a click, starts no second one.
    pub fn utterance_ended(&mut self, now: Instant, speech_end: Instant, utterance: Duration) {
        self.hold.ended(now);
        let interrupting = self.hold.is_interrupted();
        self.await_first_sound = !interrupting;
        self.unanswered = Some(speech_end).filter(|_| !interrupting);
        self.placeholder.ended(now, speech_end, utterance, interrupting);
    }

    /// The caller went on: a placeholder that waits or plays is taken back, and armed again for the real end.
    pub fn utterance_resumed(&mut self) {
        self.await_first_sound = false;
        self.unanswered = None;
        self.hold.resumed();
        self.placeholder.resumed();
        self.stop_placeholder();
        // A sound that was passed over goes on: what it had interrupted waits again.
        if self.audible() {
            self.utterance_started();
        }
    }

    /// The caller's utterance was cut for its length: a hold is not endless.
    pub fn utterance_cut(&mut self, now: Instant) {
        self.hold.ended(now);
    }

    /// What the caller cut in on goes on where it was, and what became ready meanwhile may be heard: that was no barge-in.
    pub fn resume(&mut self) {
        if self.hold.is_interrupted() {
            self.await_first_sound = false;
            self.placeholder.overheard();
        }
        self.hold.over();
    }

    /// Plays a greeting, a prompt, an apology, a goodbye; as soon as the caller has ended. Armed placeholders stay armed.
    pub fn play(&mut self, clip: PlayableClip) {
        self.placeholder.answered();
        if let Some(old) = self.clip.take() {
            self.give_way |= old.next > 0;
            self.note(Played::ClipEnded { kind: old.clip.kind, whole: false });
        }
        self.clip = Some(PlayingClip::new(clip));
    }

    /// The answer may be heard.
    pub fn release(&mut self, generation: Generation) {
        self.hold.newer_release(generation);
        self.released = self.released.max(generation);
    }

    /// Forgets everything up to and including `generation`, silencing it if it plays.
    pub fn cancel(&mut self, generation: Generation) {
        self.flushed = self.flushed.max(generation);
        if self.phrase.as_ref().is_some_and(|phrase| phrase.generation <= generation) {
            self.end_phrase(false);
            self.fade_out = true;
        }
        if self.clip.is_none() && self.phrase.is_none() {
            self.hold.nothing_interrupted();
        }
    }

    /// Silences whatever plays or is held, within the next frame, and forgets every answer that was audible or might become so.
    pub fn flush(&mut self, now: Instant) {
        // The sound that the caller waits for is still to come.
        self.await_first_sound |= self.hold.is_over_for_the_caller();
        self.cancel(self.released);
        if let Some(playing) = self.clip.take() {
            self.fade_out |= playing.next > 0;
            self.note(Played::ClipEnded { kind: playing.clip.kind, whole: false });
        }
        self.hold.over();
        self.placeholder.flush(now);
    }

    /// True while something other than silence is being played, or pauses for a moment.
    pub fn audible(&self) -> bool {
        (self.clip.is_some() || self.phrase.is_some()) && !self.hold.is_held()
    }

    /// True while something that the caller cut in on waits to be resumed or flushed.
    pub fn is_holding(&self) -> bool {
        self.hold.is_interrupted()
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
        if self.hold.expire(now) {
            self.placeholder.overheard();
        }
        let give_way = std::mem::take(&mut self.give_way);
        self.fade_out |= give_way;
        let source = if give_way { None } else { self.source(now, speech) };
        let (frame, sounding) = match source {
            Some(sounding) => (self.join(sounding), true),
            None => {
                self.last = None;
                // After silence there is nothing to fade out of.
                let last = std::mem::replace(&mut self.tail, SILENCE);
                let fading = last != SILENCE && (self.fade_out || is_loud(last[FRAME_SAMPLES - 1]));
                (if fading { fade_out_after(&last) } else { SILENCE }, fading)
            }
        };
        self.fade_out = false;
        if sounding && self.await_first_sound && level::rms_dbfs(&frame) > level::VOICED_DBFS {
            self.await_first_sound = false;
            self.note(Played::FirstSound { at: now });
        }
        (frame, sounding)
    }

    /// The frame as it leaves: where it does not go on with what left before it, that dies away under it, and it begins without a step.
    fn join(&mut self, Sounding { mut frame, origin, first }: Sounding) -> Frame {
        if first || self.last != Some(origin) {
            // What was shaped for the line begins softly by itself.
            if !first || is_loud(frame[0]) {
                fade_in(&mut frame);
            }
            if self.tail != SILENCE && (self.fade_out || is_loud(self.tail[FRAME_SAMPLES - 1])) {
                mix_in_end_of(&self.tail, &mut frame);
            }
        }
        self.last = Some(origin);
        self.tail = frame;
        frame
    }

    fn source(&mut self, now: Instant, speech: &mut impl Consumer<Item = SpeechFrame>) -> Option<Sounding> {
        let queued = self.speech_queued(speech);
        if queued && let Some(speech_end) = self.unanswered.take() {
            self.note(Played::AnswerQueued { after: now.saturating_duration_since(speech_end) });
        }
        let audible = queued && self.front_is_released(speech);
        if !self.hold.holds_clips()
            && let Some(clip) = self.placeholder.take(now, queued, audible, self.clip.is_some())
        {
            self.clip = Some(PlayingClip::new(clip));
        }
        let held = if self.clip.is_some() { self.hold.holds_clips() } else { self.hold.holds_speech() };
        if held {
            // Silence is silence, whatever it is for.
            self.pause = self.pause.saturating_sub(1);
            return None;
        }
        let answer_ready = audible && !self.hold.holds_speech();
        if let Some(frame) = self.clip_frame(now, answer_ready) {
            return Some(frame);
        }
        if self.pause > 0 {
            // This tick is one of them.
            self.pause -= 1;
            return None;
        }
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

    fn clip_frame(&mut self, now: Instant, answer_ready: bool) -> Option<Sounding> {
        let playing = self.clip.as_mut()?;
        let kind = playing.clip.kind;
        if answer_ready && kind.is_placeholder() && playing.cut.is_none() {
            playing.cut = Some(playing.next_cut());
        }
        if playing.is_over() {
            self.pause = playing.ticks_of_pause();
            self.clip = None;
            self.note(Played::ClipEnded { kind, whole: true });
            return None;
        }
        let from = playing.next * FRAME_SAMPLES;
        let mut frame = playing.clip.frames[playing.next];
        if let Some(cut) = playing.cut {
            fade_behind_cut(&mut frame, cut as isize - from as isize);
        }
        let (first, index) = (playing.next == 0, playing.clip.index);
        playing.next += 1;
        if first {
            self.note(Played::ClipStarted { kind, index, at: now });
        }
        Some(Sounding { frame, origin: Origin::Clip, first })
    }

    fn speech_frame(&mut self, now: Instant, speech: &mut impl Consumer<Item = SpeechFrame>) -> Option<Sounding> {
        while let Some(next) = speech.try_pop() {
            if next.generation <= self.flushed {
                continue;
            }
            let (generation, seq) = (next.generation, next.seq);
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
            self.placeholder.answered();
            if voiced && self.answer_started < generation {
                self.answer_started = generation;
                self.note(Played::AnswerStarted { generation, at: now });
            }
            return Some(Sounding { frame: next.samples, origin: Origin::Phrase { generation, seq }, first: !same });
        }
        None
    }

    fn starved(&mut self, queued: bool) -> Option<Sounding> {
        if !queued && self.phrase.is_some() {
            self.underruns += 1;
        }
        None
    }

    fn stop_placeholder(&mut self) {
        if let Some(playing) = self.clip.take_if(|playing| playing.clip.kind.is_placeholder()) {
            self.fade_out |= playing.next > 0;
            self.note(Played::ClipEnded { kind: playing.clip.kind, whole: false });
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

#[cfg(test)]
#[path = "mixer_tests.rs"]
mod tests;
