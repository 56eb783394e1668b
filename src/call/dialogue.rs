//! Carries out what the conversation commands, and tells it what the media thread and the call's tasks report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error_span, warn};

use crate::conversation::{Command, Conversation, Exchange, Generation, Input, Limits, Seq, Turn};
use crate::gemini::{self, Ask};
use crate::hearing::Heard;
use crate::leg::LegMedia;
use crate::media::{self, Event, Occurrence, Ports};
use crate::playout::clips::Clip;
use crate::playout::{ClipKind, Forecast, Occasion, PlaceholderPolicy, PlayableClip, Played};
use crate::sdp;
use crate::sentence::Ends;
use crate::timeline::{Mark, TurnOutcome, TurnTimeline};
use crate::tts::Say;

use super::recordings::Recordings;
use super::speaker::Phrase;
use super::{Parts, Work, answer};

/// Phrases that may wait to be spoken.
pub(super) const PHRASES: usize = 64;
/// How long the media thread may take to let go of a call; it needs a ptime, unless the order or its answer found a ring full.
const LET_GO: Duration = Duration::from_millis(500);
/// Speech a voice makes of a character, for a phrase whose length is not known yet.
const FRAMES_PER_CHARACTER: f32 = 3.5;

/// The answer that is being asked for or spoken.
struct Open {
    generation: Generation,
    /// Ends the asking and the speaking.
    stop: CancellationToken,
    /// Ends the asking alone.
    stop_asking: CancellationToken,
    phrases: Vec<Spoken>,
}

/// A phrase of the open answer.
struct Spoken {
    ends: Ends,
    characters: usize,
    /// Its length, once it is synthesised.
    frames: Option<u32>,
}

/// The driver of one call's conversation.
pub(super) struct Dialogue {
    parts: Arc<Parts>,
    call: String,
    ports: Ports,
    conversation: Conversation,
    recordings: Recordings,
    open: Option<Open>,
    timeline: Option<TurnTimeline>,
    placeholders: PlaceholderPolicy,
    /// The turn that comes begins with the caller cutting us off.
    cut_off: bool,
    phrases: mpsc::Sender<Phrase>,
    work: mpsc::Sender<Work>,
    system: Arc<str>,
    /// To whom the caller is to be handed over.
    transfer: Option<Arc<str>>,
}

impl Dialogue {
    pub fn new(
        parts: Arc<Parts>,
        call: String,
        ports: Ports,
        phrases: mpsc::Sender<Phrase>,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let config = &parts.config;
        Self {
            conversation: Conversation::new(Limits::from(config)),
            recordings: Recordings::new(config),
            system: config.gemini.system_instruction.as_str().into(),
            transfer: None,
            open: None,
            timeline: None,
            placeholders: PlaceholderPolicy::new(config, Forecast::new(parts.forecast.clone())),
            cut_off: false,
            call,
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
        self.conversation.poll_timeout().map(|(at, _)| at)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, timer)) = self.conversation.poll_timeout().filter(|(at, _)| *at <= now) {
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
        self.tell(now, Input::HungUp);
        self.ports.command(media::Command::Stop);
        if tokio::time::timeout(LET_GO, self.stopped()).await.is_err() {
            warn!("the media thread does not let go of the call");
        }
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
        self.key(digit);
    }

    fn key(&mut self, digit: char) {
        debug!(%digit, "key");
        if digit == self.parts.config.conversation.transfer_key {
            self.tell(Instant::now(), Input::PersonWanted);
        }
    }

    /// To whom the caller is to be handed over now; nothing is said meanwhile.
    pub fn take_transfer(&mut self) -> Option<Arc<str>> {
        self.transfer.take()
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
            Occurrence::Dtmf(dtmf) => self.key(dtmf.digit),
            Occurrence::MediaTimeout | Occurrence::Stopped => {}
        }
    }

    fn heard(&mut self, at: Instant, heard: Heard) {
        match heard {
            Heard::Onset { .. } | Heard::Dismissed { .. } | Heard::ProbableEnd { .. } => {}
            Heard::Started { onset_sample, .. } => {
                self.recordings.began(onset_sample);
                self.tell(at, Input::CallerStarted { onset: at });
                // A barge-in ends a turn: its sound is no part of the one that begins.
                self.recordings.began(onset_sample);
            }
            Heard::SoftEnd { speech_end, end_sample } => {
                self.recordings.ended(end_sample);
                self.speech_ended(speech_end);
                self.mark(Mark::EndOfUtterance, at);
                self.tell(at, Input::SoftEnd { speech_end });
            }
            Heard::Resumed { .. } => self.tell(at, Input::Resumed),
            Heard::HardEnd { onset_sample, end_sample } | Heard::TooLong { onset_sample, end_sample } => {
                self.recordings.began(onset_sample);
                self.recordings.ended(end_sample);
                if self.timeline.is_none() {
                    self.speech_ended(at);
                }
                self.tell(at, Input::HardEnd);
            }
        }
    }

    fn speech_ended(&mut self, speech_end: Instant) {
        let turn = self.conversation.turn();
        let timeline = self.timeline.get_or_insert_with(|| TurnTimeline::new(&*self.call, turn));
        timeline.mark(Mark::SpeechEnd, speech_end);
    }

    fn played(&mut self, at: Instant, played: Played) {
        match played {
            Played::ClipStarted { kind: kind @ ClipKind::Placeholder, index, at } => {
                self.placeholders.clip_started(kind, index, at);
                let language = self.parts.config.conversation.language;
                if let Some(timeline) = &mut self.timeline {
                    timeline.mark(Mark::PlaceholderStart, at);
                    if let Some(clip) = self.parts.clips.placeholders(language).get(usize::from(index)) {
                        timeline.placeholder(&*clip.name);
                    }
                }
            }
            Played::ClipStarted { kind, index, at } => self.placeholders.clip_started(kind, index, at),
            Played::ClipEnded { kind: ClipKind::Greeting, .. } => self.tell(at, Input::GreetingEnded),
            Played::ClipEnded { kind: ClipKind::Apology, .. } => self.tell(at, Input::ApologyEnded),
            Played::ClipEnded { kind: ClipKind::Placeholder, .. } => self.mark(Mark::PlaceholderEnd, at),
            Played::ClipEnded { .. } | Played::PhraseHeld { .. } => {}
            Played::AnswerQueued { after } => self.placeholders.answer_queued(after),
            Played::FirstSound { at } => self.mark(Mark::FirstSound, at),
            Played::AnswerStarted { at, .. } => self.mark(Mark::AnswerStart, at),
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
        let phrase = self.open.as_ref().filter(|open| open.generation == generation);
        phrase.and_then(|open| open.phrases.get(seq as usize)).map_or(0.0, |phrase| {
            let guess = phrase.characters as f32 * FRAMES_PER_CHARACTER;
            let whole = phrase.frames.map_or(guess, |frames| frames as f32);
            (frames as f32 / whole.max(1.0)).min(1.0)
        })
    }

    /// Takes what one of the call's tasks reports.
    pub fn work(&mut self, work: Work) {
        let now = Instant::now();
        match work {
            Work::GeminiMark { generation, mark, at } if self.is_open(generation) => self.mark(
                match mark {
                    gemini::Mark::RequestSent => Mark::GeminiStart,
                    gemini::Mark::FirstToken => Mark::GeminiFirstToken,
                    gemini::Mark::FullResponse => Mark::GeminiFullResponse,
                },
                at,
            ),
            Work::GeminiMark { .. } => {}
            Work::Token { generation } => self.tell(now, Input::Token { generation }),
            Work::Clause { generation, at, piece } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) {
                    open.phrases.push(Spoken {
                        ends: piece.ends,
                        characters: piece.text.chars().count(),
                        frames: None,
                    });
                    self.mark(Mark::FirstClause, at);
                    self.tell(at, Input::Clause { generation, text: piece.text });
                }
            }
            Work::AnswerEnded { generation, outcome, fault } => {
                if let Some(fault) = fault {
                    warn!(%fault, ?outcome, "no whole answer");
                }
                self.tell(now, Input::GenerationEnded { generation, outcome });
            }
            Work::PhraseStarted { generation, at } => self.mark_open(generation, Mark::TtsStart, at),
            Work::PhraseSounds { generation, at } => self.mark_open(generation, Mark::TtsFirstAudio, at),
            Work::PhraseSpoken { generation, seq, frames } => {
                if let Some(phrase) = self
                    .open
                    .as_mut()
                    .filter(|open| open.generation == generation)
                    .and_then(|open| open.phrases.get_mut(seq as usize))
                {
                    phrase.frames = Some(frames);
                }
            }
            Work::PhraseFailed { generation, seq, fault } => {
                warn!(%fault, "a phrase was not spoken");
                self.tell(now, Input::PhraseFailed { generation, seq });
            }
        }
    }

    fn is_open(&self, generation: Generation) -> bool {
        self.open.as_ref().is_some_and(|open| open.generation == generation)
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
    }

    fn perform(&mut self, command: Command) {
        let language = self.parts.config.conversation.language;
        match command {
            Command::Greet => {
                if let Some(clip) = self.parts.clips.greeting(language) {
                    let clip = playable(ClipKind::Greeting, 0, clip);
                    self.ports.command(media::Command::Play(clip));
                } else {
                    self.conversation.handle(Instant::now(), Input::GreetingEnded);
                }
            }
            Command::ArmPlaceholder { turn } => {
                let occasion = Occasion { first_reply: turn == 1, after_barge_in: self.cut_off, closing: false };
                let clips = &self.parts.clips;
                let arming = self.placeholders.arm(occasion, clips.placeholders(language), clips.stills(language));
                self.ports.command(media::Command::Arm(arming));
            }
            Command::DisarmPlaceholder => {
                self.ports.command(media::Command::Disarm);
            }
            Command::Generate { generation, turn, history, .. } => self.generate(generation, turn, &history),
            Command::Cancel { generation } => {
                if let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) {
                    open.stop.cancel();
                }
                self.ports.command(media::Command::Cancel(generation));
            }
            Command::StopAsking { generation } => {
                if let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) {
                    open.stop_asking.cancel();
                }
            }
            Command::Commit { generation } => {
                self.mark(Mark::Committed, Instant::now());
                self.ports.command(media::Command::Release(generation));
            }
            Command::Speak { generation, seq, text } => self.speak(generation, seq, text),
            Command::FlushPlayout => {
                self.ports.command(media::Command::Flush);
            }
            Command::Apologise => {
                if let Some(clip) = self.parts.clips.apology(language) {
                    let clip = playable(ClipKind::Apology, 0, clip);
                    self.ports.command(media::Command::Play(clip));
                } else {
                    self.conversation.handle(Instant::now(), Input::ApologyEnded);
                }
            }
            Command::ResumePlayout | Command::Prompt | Command::SayGoodbye | Command::HangUp { .. } => {}
            Command::Transfer { to } => self.transfer = Some(to),
            Command::TurnEnded { turn, outcome } => self.turn_ended(turn, outcome),
        }
    }

    fn generate(&mut self, generation: Generation, turn: Turn, history: &[Exchange]) {
        self.take_sound();
        if let Some(timeline) = &mut self.timeline {
            timeline.asked_again();
        }
        let ask = Ask { system: self.system.clone(), contents: self.recordings.contents(turn, history) };
        let stop = CancellationToken::new();
        let stop_asking = stop.child_token();
        let fetching =
            answer::fetch(self.parts.gemini.clone(), ask, generation, self.work.clone(), stop_asking.clone());
        self.open = Some(Open { generation, stop, stop_asking, phrases: Vec::new() });
        tokio::spawn(fetching.instrument(error_span!("turn", n = turn)));
    }

    fn speak(&mut self, generation: Generation, seq: Seq, text: String) {
        let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) else { return };
        let ends = open.phrases.get(seq as usize).map_or(Ends::Sentence, |phrase| phrase.ends);
        let say = Say { text: text.into(), language: self.parts.config.conversation.language, ends };
        let phrase = Phrase { generation, seq, say, stop: open.stop.clone() };
        if self.phrases.try_send(phrase).is_err() {
            warn!(waiting = PHRASES, "too many phrases wait to be spoken; one is left out");
            self.conversation.handle(Instant::now(), Input::PhraseFailed { generation, seq });
        }
    }

    fn turn_ended(&mut self, turn: Turn, outcome: TurnOutcome) {
        self.cut_off = outcome == TurnOutcome::Interrupted;
        self.recordings.turn_over();
        self.open = None;
        let Some(timeline) = self.timeline.take() else { return };
        let report = timeline.report(outcome);
        report.log();
        if self.parts.reports.try_send(report).is_err() {
            warn!(turn, "the turn's report was dropped: too many wait to be written");
        }
    }
}

/// A clip as the mixer takes it. The library outlives the call, so that the media thread never frees its parts.
fn playable(kind: ClipKind, index: usize, clip: &Clip) -> PlayableClip {
    PlayableClip { kind, index: index as u16, frames: clip.frames.clone(), cuts: clip.cuts.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};
    use crate::gemini::Gemini;
    use crate::hearing::Endpointer;
    use crate::http::Http;
    use crate::leg::{Dtmf, FrameKind, Leg};
    use crate::media::{Line, MediaThread};
    use crate::pcm::Frame;
    use crate::playout::Mixer;
    use crate::playout::clips::Clips;
    use crate::tts::CommandSynthesizer;

    struct Nobody;

    impl Leg for Nobody {
        fn hear(&mut self, _: Instant, _: &mut Frame) -> FrameKind {
            FrameKind::Silence
        }

        fn speak(&mut self, _: Instant, _: &Frame, _: bool) {}

        fn skip(&mut self) {}

        fn poll_dtmf(&mut self) -> Option<Dtmf> {
            None
        }

        fn renegotiate(&mut self, _: &LegMedia) {}

        fn last_received(&self) -> Instant {
            Instant::now()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_even_if_the_media_thread_does_not_answer() {
        let config = Config {
            gemini: config::Gemini { base_url: "http://127.0.0.1:9".into(), ..Default::default() },
            ..Default::default()
        };
        let ip = std::net::IpAddr::from([127, 0, 0, 1]);
        let parts = Parts {
            clips: Clips::open(&config.placeholder, config.voice.level_dbfs).unwrap(),
            gemini: Gemini::new(&config.gemini, None, &Http::new(config.gemini.connect).unwrap()).unwrap(),
            voice: Arc::new(CommandSynthesizer::new(&config.voice).unwrap()),
            media: MediaThread::start(1).unwrap(),
            forecast: crate::playout::SharedForecast::default(),
            media_address: ip,
            bind_address: ip,
            reports: mpsc::channel(1).0,
            config,
        };
        let endpointer = Endpointer::new(crate::hearing::Limits::from(&parts.config.hearing));
        // Kept from the media thread.
        let (_line, ports) = Line::new(Box::new(Nobody), endpointer, Mixer::new(Duration::ZERO), LET_GO).unwrap();
        let (phrases, work) = (mpsc::channel(1).0, mpsc::channel(1).0);
        let mut dialogue = Dialogue::new(Arc::new(parts), "call".into(), ports, phrases, work);
        let ended = tokio::time::timeout(LET_GO * 2, dialogue.hung_up(Instant::now())).await;
        assert!(ended.is_ok());
    }
}
