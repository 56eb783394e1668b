//! Carries out what the conversation commands, and tells it what the media thread and the call's tasks report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{Instrument, debug, error_span, warn};

use crate::context::Briefing;
use crate::conversation::{
    Command, Conversation, Ending, Generation, Input, Limits, MAX_PHRASES, Outcome, Phase, Seq, Turn,
};
use crate::hearing::{Heard, Hint, Spoken};
use crate::leg::LegMedia;
use crate::limits::Allowance;
use crate::media::{self, Event, Occurrence, Ports};
use crate::model::{self, Ask, Content};
use crate::playout::clips::Clips;
use crate::playout::{ClipKind, Forecast, Occasion, PlaceholderPolicy, Played};
use crate::sdp;
use crate::timeline::{Mark, TurnOutcome, TurnTimeline};
use crate::tools::{self, Control, Doings, Guard};
use crate::tts::{AnswerId, Say};
use crate::voicemail::{Note, Recorder};

use super::keypad::{self, Keypad, Way};
use super::listening::Ear;
use super::open::Open;
use super::recordings::Recordings;
use super::speaker::Phrase;
use super::speech::Speech;
use super::tally::Tally;
use super::{Parts, Work, answer, briefing, prompt};

mod messages;
mod performing;
mod reciting;
mod recognising;
mod sentences;
mod speech;
mod spending;
mod work;

/// Phrases that may wait to be spoken: an answer has no more.
pub(super) const PHRASES: usize = MAX_PHRASES;
/// How long the media thread may take to let go of a call; it needs a ptime, unless the order or its answer found a ring full.
const LET_GO: Duration = Duration::from_millis(500);
/// The driver of one call's conversation.
pub(super) struct Dialogue {
    parts: Arc<Parts>,
    /// Those that there were when the call began.
    clips: Arc<Clips>,
    call: String,
    briefing: Briefing,
    ports: Ports,
    conversation: Conversation,
    recordings: Recordings,
    ear: Ear,
    speech: Speech,
    open: Option<Open>,
    /// The one before it that was heard: how much of it was may be told late.
    closed: Option<Open>,
    timeline: Option<TurnTimeline>,
    placeholders: PlaceholderPolicy,
    /// The turn that comes begins with the caller cutting us off.
    cut_off: bool,
    /// The end-of-turn model is at work.
    judging: bool,
    phrases: mpsc::Sender<Phrase>,
    work: mpsc::Sender<Work>,
    system: Arc<str>,
    /// Who calls.
    from: Note,
    /// What was done for the caller.
    doings: Arc<Doings>,
    guard: Option<Guard>,
    allowance: Allowance,
    /// An early request of this turn has failed.
    asked_in_vain: bool,
    /// Characters that were spoken since they were last charged.
    characters: u64,
    /// A message that is being left.
    message: Option<Recorder>,
    keypad: Keypad,
    saving: Option<tokio::task::JoinHandle<()>>,
    /// How often a wait was bridged.
    bridges: usize,
    /// What was said of a placeholder in this turn.
    acknowledged: Option<String>,
    tally: Tally,
    /// To whom the caller is to be handed over.
    transfer: Option<Arc<str>>,
    /// Why the call is to end.
    hang_up: Option<Ending>,
}

impl Dialogue {
    pub fn new(
        parts: Arc<Parts>,
        call: String,
        caller: String,
        briefing: Briefing,
        ports: Ports,
        phrases: mpsc::Sender<Phrase>,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let config = &parts.config;
        let system = prompt::system_instruction(config);
        let clips = parts.clips.current();
        let mut conversation = Conversation::new(Limits::from(config));
        let speech = Speech::open(Instant::now(), &parts, &work);
        // A model that speaks is told of an end once.
        conversation.speculate(config.conversation.speculation && !speech.is_there());
        Self {
            clips,
            conversation,
            speech,
            recordings: Recordings::new(config),
            ear: Ear::open(&parts, &work),
            guard: Guard::new(prompt::confidential(&system), config.limits.guarded_words),
            system: system.into(),
            from: Note { caller, call: call.clone() },
            doings: Doings::new(config.limits.side_effects_per_call),
            allowance: Allowance::new(&config.limits, parts.day.clone()),
            asked_in_vain: false,
            characters: 0,
            message: None,
            keypad: Keypad::default(),
            saving: None,
            bridges: 0,
            acknowledged: None,
            tally: Tally::default(),
            transfer: None,
            hang_up: None,
            open: None,
            closed: None,
            timeline: None,
            placeholders: PlaceholderPolicy::new(config, Forecast::new(parts.forecast.clone())),
            cut_off: false,
            judging: false,
            call,
            briefing,
            ports,
            phrases,
            work,
            parts,
        }
    }

    /// Waits until the media thread has something to tell. Cancel-safe.
    pub async fn woken(&mut self) -> std::io::Result<()> {
        self.ports.woken().await
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let message = self.message.as_ref().and_then(Recorder::poll_timeout);
        let conversation = self.conversation.poll_timeout().map(|(at, _)| at);
        let spoken = self.ear.poll_timeout().into_iter().chain(self.speech.poll_timeout());
        conversation.into_iter().chain(spoken).chain(message).chain(self.keypad.poll_timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.message_timeout(now);
        self.keys_entered(now);
        self.ear.handle_timeout(now);
        self.listened(now);
        self.speech_timeout(now);
        if let Some((_, timer)) =
            self.conversation.poll_timeout().filter(|(at, timer)| *at <= now && timer.is_in_vain())
        {
            warn!(?timer, "waited in vain");
        }
        self.conversation.handle_timeout(now);
        self.carry_out();
    }

    pub fn answered(&mut self, now: Instant) {
        self.ports.command(media::Command::Answered);
        self.tell(now, Input::Answered);
    }

    /// Ends everything that belongs to the call, and waits until the media thread has let go of it.
    pub async fn hung_up(&mut self, now: Instant) {
        self.take_sound();
        self.speech.leave();
        self.message_over(now, Recorder::hung_up);
        self.tell(now, Input::HungUp);
        self.speech_used();
        self.ports.command(media::Command::Stop);
        if tokio::time::timeout(LET_GO, self.stopped()).await.is_err() {
            warn!("the media thread does not let go of the call");
        }
        self.saved().await;
    }

    async fn stopped(&mut self) {
        loop {
            while let Some(event) = self.ports.event() {
                if event.what == Occurrence::Stopped {
                    return;
                }
            }
            if self.ports.woken().await.is_err() {
                return;
            }
        }
    }

    /// Whether the media thread's part of the call is dropped, and with it the sockets.
    pub fn is_freed(&self) -> bool {
        self.ports.is_orphaned()
    }

    /// Both sides have agreed on the media anew: the call may be held by it, or retrieved.
    pub fn described(&mut self, now: Instant, media: &sdp::Negotiated) {
        let held = !media.direction.sends();
        if held {
            self.tell(now, Input::Held);
        }
        self.ports.command(media::Command::Described(LegMedia::from(media)));
        if !held {
            self.tell(now, Input::Retrieved);
        }
    }

    /// The caller pressed a key, and signalling tells of it (INFO): the media thread does not know.
    pub fn key_by_signalling(&mut self, digit: char) {
        self.ports.command(media::Command::KeepOpen);
        self.key(Instant::now(), digit, Way::Signalling);
    }

    fn key(&mut self, now: Instant, digit: char, way: Way) {
        if !self.keypad.counts(now, digit, way) {
            return;
        }
        debug!(%digit, "key");
        self.tell(now, Input::KeyPressed);
        if self.message.is_some() {
            self.message_over(now, |message| message.key(digit));
            return;
        }
        self.keypad.press(now, digit);
        self.keys_entered(now);
    }

    /// Makes a turn of the keys that were pressed, once the caller has pressed them all. What is being said goes with them, unless the last
    /// key says that this was all.
    fn keys_entered(&mut self, now: Instant) {
        let Some(keys) = self.keypad.take(now) else { return };
        let conversation = &self.parts.config.conversation;
        if conversation.transfer_to.is_some() && keypad::is_alone(&keys, conversation.transfer_key) {
            self.tell(now, Input::PersonWanted);
            return;
        }
        let over = keys.ends_with('#') || !self.recordings.is_within_utterance();
        self.recordings.keyed(&keys);
        if over {
            self.tell(now, Input::KeysEntered);
        }
    }

    /// To whom the caller is to be handed over now; nothing is said meanwhile.
    pub fn take_transfer(&mut self) -> Option<Arc<str>> {
        self.transfer.take()
    }

    /// Why the call is to be ended by us now.
    pub fn take_hang_up(&mut self) -> Option<Ending> {
        self.hang_up.take()
    }

    /// What the turns have cost so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Where the conversation stands.
    pub fn phase(&self) -> Phase {
        self.conversation.phase()
    }

    /// The caller is with us again.
    pub fn transfer_failed(&mut self, now: Instant) {
        self.tell(now, Input::TransferFailed);
    }

    /// For whoever takes the call's media over.
    pub fn ports(&mut self) -> &mut Ports {
        &mut self.ports
    }

    /// Takes what the media thread has to tell. True when the call has to end because nothing is received any more.
    pub fn take_events(&mut self) -> bool {
        let mut timed_out = false;
        self.take_sound();
        while let Some(event) = self.ports.event() {
            timed_out |= event.what == Occurrence::MediaTimeout;
            self.event(event);
        }
        timed_out
    }

    fn take_sound(&mut self) {
        while let Some(frame) = self.ports.heard() {
            self.recordings.push(&frame);
            if let Some(message) = &mut self.message {
                message.set_wide(frame.wide);
                message.push(frame.first_sample, &frame.samples);
            }
            self.speech.hear(&frame);
            self.ear.hear(frame);
        }
    }

    fn tell(&mut self, now: Instant, input: Input) {
        self.conversation.handle(now, input);
        self.carry_out();
    }

    fn event(&mut self, Event { at, what }: Event) {
        match what {
            Occurrence::Heard(heard) => self.heard(at, heard),
            Occurrence::Played(played) => self.played(at, played),
            Occurrence::Dtmf(dtmf) => self.key(at, dtmf.digit, Way::Media),
            Occurrence::MediaTimeout | Occurrence::Stopped => {}
        }
    }

    fn heard(&mut self, at: Instant, heard: Heard) {
        self.message_heard(at, &heard);
        match heard {
            Heard::Onset { .. } | Heard::Dismissed { .. } => {}
            Heard::Started { onset_sample, onset, .. } => {
                self.recordings.began(onset_sample);
                self.ear.began(onset_sample);
                self.speech.began(onset_sample);
                self.tell(at, Input::CallerStarted { onset });
            }
            Heard::ProbableEnd { speech_end, end_sample } => {
                self.recordings.ended(end_sample);
                self.ear.paused();
                self.tell(at, Input::ProbableEnd { speech_end });
                self.have_judged();
            }
            Heard::SoftEnd { speech_end, end_sample } => {
                self.recordings.ended(end_sample);
                self.ear.ended();
                self.tell(at, Input::SoftEnd { speech_end });
                if self.conversation.expects_answer_to(speech_end) {
                    self.mark(Mark::EndOfUtterance, at);
                }
            }
            Heard::Resumed { .. } => {
                self.recordings.resumed();
                self.ear.resumed();
                self.speech.resumed();
                self.tell(at, Input::Resumed);
            }
            Heard::HardEnd { onset_sample, end_sample } | Heard::TooLong { onset_sample, end_sample } => {
                self.recordings.finished(onset_sample, end_sample);
                self.ear.finished(onset_sample);
                self.tell(at, Input::HardEnd);
                self.recordings.utterance_over();
                self.ear.utterance_over();
                self.speech.utterance_over();
            }
        }
        self.listened(at);
    }

    /// Asks whether the caller sounds finished, if there is somebody to ask and no question is open.
    fn have_judged(&mut self) {
        let Some(model) = self.parts.end_of_turn.clone().filter(|_| !self.judging) else { return };
        self.judging = true;
        let (samples, text) = (self.recordings.utterance(), self.ear.text());
        let language = self.parts.config.conversation.language;
        let work = self.work.clone();
        tokio::task::spawn_blocking(move || {
            let hint = model.judge(Spoken { samples: &samples, text: text.as_deref(), language });
            // The call may be over.
            let _ = work.blocking_send(Work::Judged { hint });
        });
    }

    fn played(&mut self, at: Instant, played: Played) {
        self.bridging(at, &played);
        match played {
            Played::ClipStarted { kind: kind @ ClipKind::Placeholder, index, at } => {
                self.placeholders.clip_started(kind, index, at);
                let language = self.parts.config.conversation.language;
                let clip = self.clips.placeholders(language).get(usize::from(index));
                self.acknowledged = clip.map(|clip| clip.text.clone()).filter(|text| !text.is_empty());
                if let Some(timeline) = &mut self.timeline {
                    timeline.mark(Mark::PlaceholderStart, at);
                    if let Some(clip) = clip {
                        timeline.placeholder(&*clip.name);
                    }
                }
            }
            Played::ClipStarted { kind, index, at } => self.placeholders.clip_started(kind, index, at),
            Played::ClipEnded { kind: ClipKind::Greeting, .. } => self.tell(at, Input::GreetingEnded),
            Played::ClipEnded { kind: ClipKind::Apology, .. } => self.tell(at, Input::ApologyEnded),
            Played::ClipEnded { kind: ClipKind::Prompt, .. } => self.tell(at, Input::PromptEnded),
            Played::ClipEnded { kind: ClipKind::Goodbye, .. } => self.tell(at, Input::GoodbyeEnded),
            Played::ClipEnded { kind: ClipKind::Placeholder | ClipKind::Still, .. } => {
                self.mark(Mark::PlaceholderEnd, at);
            }
            Played::AnswerQueued { after } => self.placeholders.answer_queued(after),
            Played::FirstSound { at } => self.mark(Mark::FirstSound, at),
            Played::AnswerStarted { generation, at } => {
                self.mark(Mark::AnswerStart, at);
                self.tell(at, Input::AnswerStarted { generation });
            }
            Played::PhraseHeld { last_voiced, .. } => {
                if let Some(last_voiced) = last_voiced {
                    self.mark(Mark::AnswerEnd, last_voiced);
                }
            }
            Played::PhraseEnded { generation, seq, frames, whole, last_voiced } => {
                if let Some(last_voiced) = last_voiced {
                    self.mark(Mark::AnswerEnd, last_voiced);
                }
                let share = if whole { 1.0 } else { self.share(generation, seq, frames) };
                self.tell(at, Input::PhraseHeard { generation, seq, share });
            }
        }
    }

    /// What part of a phrase `frames` frames are.
    fn share(&self, generation: Generation, seq: Seq, frames: u32) -> f32 {
        let open = self.open.iter().chain(&self.closed).find(|open| open.generation == generation);
        open.map_or(0.0, |open| open.share(seq, frames))
    }

    fn open_answer(&mut self, generation: Generation, early: bool) {
        self.close_answer();
        self.open = Some(Open::new(generation, early));
    }

    fn close_answer(&mut self) {
        self.closed = self.open.take().filter(Open::is_committed).or(self.closed.take());
    }

    fn mark_open(&mut self, generation: Generation, mark: Mark, at: Instant) {
        if self.is_open(generation) {
            self.mark(mark, at);
        }
    }

    fn mark(&mut self, mark: Mark, at: Instant) {
        if let Some(timeline) = &mut self.timeline {
            timeline.mark(mark, at);
        }
    }

    fn carry_out(&mut self) {
        while let Some(command) = self.conversation.poll() {
            self.perform(command);
        }
        self.speech_settles();
    }
}

#[cfg(test)]
mod tests;
