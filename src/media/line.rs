//! One call on the media thread: hear, decide, mix, speak, once every ptime.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer};

use crate::hearing::{Endpointer, Heard};
use crate::leg::{FrameKind, Leg};
use crate::pcm::half_band::Halver;
use crate::pcm::tone::Ringback;
use crate::pcm::{FRAME_SAMPLES, SILENCE, duration, telephone};
use crate::playout::Mixer;

use super::dialling::{Dialling, Tick};
use super::ports::{Command, Event, HeardFrame, Inside, Occurrence, Ports, rings};

/// Heard frames between two wake-ups of the call's task, so that it empties the ring in time.
const HEARD_PER_WAKE: u64 = 25;

/// What is counted for one call on the media thread; shared, read at any time.
#[derive(Debug, Default)]
pub struct LineCounters {
    /// Ticks.
    pub ticks: AtomicU64,
    /// Ptimes in which nothing could be sent because the thread was late.
    pub skipped: AtomicU64,
    /// Frames that were concealed.
    pub concealed: AtomicU64,
    /// Ticks in which a phrase ran dry.
    pub underruns: AtomicU64,
    /// Events dropped because the ring was full.
    pub event_overruns: AtomicU64,
    /// Heard frames dropped because the ring was full.
    pub heard_overruns: AtomicU64,
    /// Commands dropped because the ring was full.
    pub command_overruns: AtomicU64,
    /// Keys to be pressed that were dropped because too many waited.
    pub key_overruns: AtomicU64,
}

/// What keeps a call from being a conversation.
#[derive(Clone, Copy)]
struct Standing {
    /// It is not answered yet; this is what is heard of us.
    early: Option<Ringback>,
    /// The far side does not want to hear us.
    held: bool,
}

impl Standing {
    /// Whether what is heard is meant for us.
    fn listens(&self) -> bool {
        self.early.is_none() && !self.held
    }
}

/// One call as the media thread owns it. Built, and dropped, elsewhere.
pub struct Line {
    leg: Box<dyn Leg>,
    endpointer: Endpointer,
    /// The ear's frames are of the telephone band: what is heard, and what is sent.
    halvers: [Halver; 2],
    mixer: Mixer,
    dialling: Dialling,
    inside: Inside,
    counters: Arc<LineCounters>,
    media_timeout: Duration,
    standing: Standing,
    /// From when on packets are expected; `None` while none need come.
    expected_since: Option<Instant>,
    /// Whether the far side has said that it sends.
    receives: bool,
    timed_out: bool,
    /// The caller hears what he says.
    echoes: bool,
    stopping: bool,
    sample: u64,
    /// Where the caller's utterance began.
    onset_sample: u64,
}

impl Line {
    /// Prepares a call and the rings to it. Needs a tokio runtime for the wake-up descriptor.
    pub fn new(
        leg: Box<dyn Leg>,
        endpointer: Endpointer,
        mixer: Mixer,
        media_timeout: Duration,
    ) -> io::Result<(Self, Ports)> {
        let counters = Arc::new(LineCounters::default());
        let (inside, ports) = rings(counters.clone())?;
        let line = Self {
            leg,
            endpointer,
            halvers: Default::default(),
            mixer,
            dialling: Dialling::new(),
            inside,
            counters,
            media_timeout,
            standing: Standing { early: None, held: false },
            expected_since: Some(Instant::now()),
            receives: true,
            timed_out: false,
            echoes: false,
            stopping: false,
            sample: 0,
            onset_sample: 0,
        };
        Ok((line, ports))
    }

    /// One ptime. False when the call wants to leave the media thread.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.counters.ticks.fetch_add(1, Relaxed);
        self.obey(now);
        let mut wake = if self.inside.bridge.obey(now, &mut self.leg) {
            self.relay(now)
        } else if self.echoes {
            self.echo(now)
        } else {
            let woken = self.hear(now);
            self.speak(now) || woken
        };
        let missed = |since: Instant| now.saturating_duration_since(since.max(self.leg.last_received()));
        let is_missed = self.expected_since.is_some_and(|since| missed(since) >= self.media_timeout);
        if !self.timed_out && (is_missed || self.inside.bridge.misses(now, self.media_timeout)) {
            self.timed_out = true;
            self.tell(now, Occurrence::MediaTimeout);
            wake = true;
        }
        if self.stopping || !self.inside.commands.write_is_held() {
            self.leg.leave(now);
            self.tell(now, Occurrence::Stopped);
            self.wake();
            return false;
        }
        if wake {
            self.wake();
        }
        true
    }

    /// A ptime passed without a tick.
    pub fn skip(&mut self) {
        self.counters.skipped.fetch_add(1, Relaxed);
        self.leg.skip();
        self.inside.bridge.skip();
    }

    /// A ptime in which the caller talks with somebody else.
    fn relay(&mut self, now: Instant) -> bool {
        let Inside { bridge, events, .. } = &mut self.inside;
        let counters = &self.counters;
        let mut wake = false;
        self.dialling.forget();
        let kind = bridge.relay(now, &mut *self.leg, |dtmf| {
            wake = true;
            if events.try_push(Event { at: now, what: Occurrence::Dtmf(dtmf) }).is_err() {
                counters.event_overruns.fetch_add(1, Relaxed);
            }
        });
        if kind == FrameKind::Concealed {
            counters.concealed.fetch_add(1, Relaxed);
        }
        wake
    }

    /// A ptime in which the caller hears what he says.
    fn echo(&mut self, now: Instant) -> bool {
        let mut frame = SILENCE;
        let kind = self.leg.hear(now, &mut frame);
        while self.leg.poll_dtmf().is_some() {}
        if kind == FrameKind::Concealed {
            self.counters.concealed.fetch_add(1, Relaxed);
        }
        self.leg.speak(now, &frame, kind != FrameKind::Silence);
        false
    }

    fn obey(&mut self, now: Instant) {
        while let Some(command) = self.inside.commands.try_pop() {
            match command {
                Command::Arm(arming) => self.mixer.arm(now, arming),
                Command::Disarm => self.mixer.disarm(),
                Command::Play(clip) => self.mixer.play(clip),
                Command::Release(generation) => self.mixer.release(generation),
                Command::Cancel(generation) => self.mixer.cancel(generation),
                Command::Flush => self.mixer.flush(now),
                Command::Resume => self.mixer.resume(),
                Command::Hint(hint) => self.endpointer.hint(hint),
                Command::Dial(keys) => {
                    let dropped = self.dialling.dial(&keys);
                    self.counters.key_overruns.fetch_add(dropped as u64, Relaxed);
                }
                Command::KeepOpen => self.endpointer.keep_open(now),
                Command::Ring(ringback) => {
                    self.standing.early = Some(ringback);
                    self.expected_since = None;
                }
                Command::Answered => {
                    self.standing.early = None;
                    self.expect(now);
                }
                Command::Described(media) => {
                    self.leg.renegotiate(&media);
                    let held = !media.direction.sends();
                    if held && !std::mem::replace(&mut self.standing.held, held) {
                        self.mixer.utterance_resumed();
                        self.mixer.flush(now);
                        // Its last fade goes nowhere, and is not left for the retrieval.
                        let _ = self.mixer.tick(now, &mut self.inside.speech);
                    }
                    self.standing.held = held;
                    self.receives = media.direction.receives();
                    self.expect(now);
                }
                Command::Echo => self.echoes = true,
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// Packets are missed only while they are due.
    fn expect(&mut self, now: Instant) {
        let due = self.standing.listens() && self.receives;
        self.expected_since = due.then(|| self.expected_since.unwrap_or(now));
    }

    fn hear(&mut self, now: Instant) -> bool {
        let mut frame = SILENCE;
        let kind = self.leg.hear(now, &mut frame);
        if !self.standing.listens() {
            // The time of the conversation stands still: an utterance that was cut by the hold goes on after it.
            while self.leg.poll_dtmf().is_some() {}
            return false;
        }
        if kind == FrameKind::Concealed {
            self.counters.concealed.fetch_add(1, Relaxed);
        }
        let heard = HeardFrame { first_sample: self.sample, samples: frame, wide: self.leg.is_wide() };
        if self.inside.heard.try_push(heard).is_err() {
            self.counters.heard_overruns.fetch_add(1, Relaxed);
        }
        self.sample += FRAME_SAMPLES as u64;
        let mut wake = (self.sample / FRAME_SAMPLES as u64).is_multiple_of(HEARD_PER_WAKE);
        while let Some(dtmf) = self.leg.poll_dtmf() {
            self.endpointer.keep_open(now);
            self.tell(now, Occurrence::Dtmf(dtmf));
            wake = true;
        }
        self.endpointer.set_playing(self.mixer.audible());
        let mut narrow = telephone::SILENCE;
        self.halvers[0].halve(&frame, &mut narrow);
        self.endpointer.handle_frame(now, &narrow);
        while let Some(heard) = self.endpointer.poll().map(Heard::in_house) {
            match heard {
                Heard::Onset { .. } => self.mixer.onset(now),
                Heard::Dismissed { .. } => self.mixer.onset_dismissed(),
                Heard::Started { onset_sample, .. } => {
                    self.onset_sample = onset_sample;
                    self.mixer.utterance_started();
                }
                Heard::SoftEnd { speech_end, end_sample } => {
                    let utterance = duration(end_sample.saturating_sub(self.onset_sample));
                    self.mixer.utterance_ended(now, speech_end, utterance);
                }
                Heard::Resumed { .. } => self.mixer.utterance_resumed(),
                Heard::TooLong { .. } => self.mixer.utterance_cut(now),
                Heard::ProbableEnd { .. } | Heard::HardEnd { .. } => {}
            }
            // What the caller cut in on belongs to the turn before.
            self.tell_played(now);
            self.tell(now, Occurrence::Heard(heard));
            wake = true;
        }
        wake
    }

    fn speak(&mut self, now: Instant) -> bool {
        let (frame, sounding) = match &mut self.standing {
            Standing { held: true, .. } => (SILENCE, false),
            Standing { early: Some(ringback), .. } => ringback.frame(),
            Standing { early: None, .. } => match self.dialling.tick(self.is_speaking()) {
                Tick::Speech => self.mixer.tick(now, &mut self.inside.speech),
                Tick::Press(key) => {
                    self.leg.dial(key);
                    (SILENCE, false)
                }
                Tick::Quiet => (SILENCE, false),
            },
        };
        self.leg.speak(now, &frame, sounding);
        if self.standing.listens() {
            let mut narrow = telephone::SILENCE;
            self.halvers[1].halve(&frame, &mut narrow);
            self.endpointer.handle_sent(&narrow);
        }
        self.counters.underruns.store(self.mixer.underruns(), Relaxed);
        self.tell_played(now)
    }

    /// Whether the next frame goes on with what is being said: between two phrases there is a pause, also when both are there already.
    fn is_speaking(&self) -> bool {
        self.mixer.audible() && !self.inside.speech.try_peek().is_some_and(|next| next.end_of_phrase)
    }

    fn tell_played(&mut self, now: Instant) -> bool {
        let mut told = false;
        while let Some(played) = self.mixer.poll() {
            self.tell(now, Occurrence::Played(played));
            told = true;
        }
        told
    }

    fn tell(&mut self, at: Instant, what: Occurrence) {
        if self.inside.events.try_push(Event { at, what }).is_err() {
            self.counters.event_overruns.fetch_add(1, Relaxed);
        }
    }

    fn wake(&self) {
        let wake: &OwnedFd = &self.inside.wake;
        // The only failure is a counter that is full, and then the reader is awake already.
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
