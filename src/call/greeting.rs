//! A call in which an installer records the greeting: asks for the PIN, records, plays back, keeps.
//!
//! [`crate::clips::by_phone`] decides; this speaks, records and stores. Prompts are spoken by the voice; where it fails there is a tone in
//! their place, so that who knows the keys gets on without.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

use crate::clips::by_phone::{self, Brake, Machine, Phrase, Why};
use crate::clips::{About, OwnClips, spoken};
use crate::config::{Config, Language, SecretError};
use crate::hearing::Heard;
use crate::media::{Command, Occurrence, Ports};
use crate::pcm::wav::{self, Sound};
use crate::pcm::{FRAME_SAMPLES, Frame, RATE, SILENCE, samples_in, tone};
use crate::playout::clips::Prepared;
use crate::playout::{ClipKind, PlayableClip, Played};
use crate::privacy::Secret;
use crate::record::{Cause, Draft, EndedBy, Kind};
use crate::sip::{ByeReason, DialogEvent, EndReason, IncomingCall, Rejection};
use crate::voicemail::{Ended, Limits, Recorder};

use super::keypad::{Keypad, Way};
use super::media::StartedMedia;
use super::{Parts, Up, await_freed, end, ending, incoming, log_line, not_answered, until};

/// The tone after which one speaks.
const TONE_HZ: f32 = 1000.0;
const TONE_DBFS: f32 = -20.0;
const TONE: Duration = Duration::from_millis(300);
/// Silence that ends a recording.
const SILENCE_END: Duration = Duration::from_secs(4);
/// The key that ended it may be in the sound for so long.
const KEY_TONE: Duration = Duration::from_millis(160);
/// Shorter is no greeting.
const SHORTEST: Duration = Duration::from_millis(500);
/// Results of tasks that may wait.
const RESULTS: usize = 16;

/// Where the greeting is recorded by telephone, for all calls.
pub struct GreetingDesk {
    number: String,
    pin: Secret,
    own: OwnClips,
    longest: Duration,
    language: Language,
    door: Arc<Door>,
}

/// Who is let in: it outlives what the configuration says of the desk.
#[derive(Default)]
struct Door {
    brake: Mutex<Brake>,
    /// Somebody is at it.
    busy: AtomicBool,
}

impl GreetingDesk {
    /// What `[greeting_by_phone]` asks for; `None` when it asks for nothing.
    ///
    /// # Errors
    /// When there is no PIN, or one that cannot be used.
    pub fn of(config: &Config) -> Result<Option<Self>, SecretError> {
        let by_phone = &config.greeting_by_phone;
        let (Some(number), Some(own)) = (&by_phone.number, OwnClips::of(&config.clips)) else { return Ok(None) };
        let pin = by_phone.pin()?.ok_or_else(|| SecretError::Absent {
            what: "PIN of [greeting_by_phone]".into(),
            remedy: "name a file of 4 to 12 digits in pin_file, or leave number out",
        })?;
        Ok(Some(Self {
            number: number.clone(),
            pin,
            own,
            longest: by_phone.longest,
            language: config.conversation.language,
            door: Arc::default(),
        }))
    }

    /// The desk in place of the one before: who guessed PINs goes on waiting, and who is at it keeps others out.
    pub fn in_place_of(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) => Self { door: before.door.clone(), ..self },
            None => self,
        }
    }

    /// Whether a call to this number is for it.
    pub fn is_for(&self, called: &str) -> bool {
        self.number == called
    }

    fn brake(&self) -> std::sync::MutexGuard<'_, Brake> {
        self.door.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat at the desk, when it is free.
    fn seat(&self) -> Option<Seat<'_>> {
        let free = self.door.busy.compare_exchange(false, true, SeqCst, SeqCst).is_ok();
        free.then(|| Seat(&self.door.busy))
    }
}

/// Frees the desk for the next one.
struct Seat<'a>(&'a AtomicBool);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Takes a call to its end.
pub(super) async fn take(
    parts: &Arc<Parts>,
    desk: &Arc<GreetingDesk>,
    incoming: IncomingCall,
    draft: &mut Draft,
    stop: CancellationToken,
) {
    draft.record().kind = Kind::Greeting;
    let open = desk.brake().is_open(Instant::now());
    let seat = desk.seat();
    if !open || seat.is_none() {
        warn!(too_many_wrong_pins = !open, "the greeting cannot be recorded at the moment");
        incoming.reject(Rejection::Busy);
        return not_answered(draft, &super::Unanswered::NoRoom);
    }
    match incoming::answer(parts, incoming, &stop).await {
        Ok(up) => attend(parts, desk, up, draft, stop).await,
        Err(error) => not_answered(draft, &error),
    }
}

/// What tasks of the call tell it.
enum Told {
    /// The sound of a prompt, and which it is.
    Spoken(u16, Vec<i16>),
    Prepared(Option<Prepared>),
    Kept(bool),
}

async fn attend(parts: &Arc<Parts>, desk: &Arc<GreetingDesk>, up: Up, draft: &mut Draft, stop: CancellationToken) {
    draft.answered(up.since);
    let Up { mut dialog, media: StartedMedia { ports, rtcp, mut agreement }, since } = up;
    let over = CancellationToken::new();
    let over_at_last = over.clone().drop_guard();
    let line = tokio::spawn(rtcp.run(over));
    let mut attending = Attending::new(parts.clone(), desk.clone(), ports);
    let ended: Result<EndReason, ByeReason> = loop {
        if let Some(why) = attending.carry_out() {
            let cause = match why {
                Why::Done => Cause::Goodbye,
                Why::WrongPin => Cause::WrongPin,
                Why::Idle => Cause::Silence,
                Why::TooLong => Cause::TooLong,
            };
            draft.ended(EndedBy::Us, cause);
            break Err(ByeReason::Normal);
        }
        let deadline = attending.poll_timeout();
        tokio::select! {
            woken = attending.ports.woken() => match woken {
                Ok(()) => if attending.take_events() {
                    break Err(ByeReason::MediaTimeout);
                },
                Err(error) => {
                    warn!(%error, "lost the media thread");
                    break Err(ByeReason::Failure);
                }
            },
            Some(told) = attending.told.recv() => attending.hears_of(told),
            () = until(deadline) => attending.handle_timeout(Instant::now()),
            event = dialog.event() => {
                let agreed = match event {
                    DialogEvent::Ended(reason) => break Ok(reason),
                    DialogEvent::Offer(offer) => agreement.reoffered(offer),
                    DialogEvent::Acknowledged { sdp } if !sdp.is_empty() => agreement.answered(&sdp),
                    DialogEvent::Dtmf { digit, .. } => {
                        attending.key(digit, Way::Signalling);
                        None
                    }
                    // Who records is handed over to nobody: dropped, the request is refused.
                    _ => None,
                };
                if let Some(agreed) = agreed {
                    attending.ports.command(Command::Described((&agreed).into()));
                }
            },
            () = stop.cancelled() => break Err(ByeReason::Normal),
        }
    };
    ending::ended(draft, &ended);
    let counters = attending.ports.counters().clone();
    let freed = async {
        attending.ports.command(Command::Stop);
        let attending = &mut attending;
        await_freed(parts, move || attending.ports.is_orphaned()).await;
        drop(over_at_last);
    };
    let reason = end(&mut dialog, ended, freed).await;
    let quality = line.await.unwrap_or_default().quality;
    log_line(quality, &counters);
    ending::line(draft, &quality, &counters, &agreement);
    debug!(?reason, seconds = since.elapsed().as_secs_f32(), "the call to record the greeting ended");
}

/// Which prompt is said: what comes for another one is too late.
#[derive(Debug, Default)]
struct Saying {
    /// It is the index of the clip, too: the media thread tells the beginning of a clip with its index, and the end without.
    which: u16,
    begun: Option<u16>,
}

impl Saying {
    fn next(&mut self) {
        self.which = self.which.wrapping_add(1);
    }

    /// Whether this is the end of the prompt, and not of one before it.
    fn is_ended_by(&mut self, played: &Played) -> bool {
        match played {
            Played::ClipStarted { index, .. } => self.begun = Some(*index),
            Played::ClipEnded { whole, .. } => return self.begun.take() == Some(self.which) && *whole,
            _ => {}
        }
        false
    }
}

/// The driver of one call.
struct Attending {
    parts: Arc<Parts>,
    desk: Arc<GreetingDesk>,
    ports: Ports,
    machine: Machine,
    keypad: Keypad,
    recorder: Option<Recorder>,
    /// The caller speaks at the moment: a recording may begin in the middle of an utterance.
    speaking: bool,
    prepared: Option<Arc<Prepared>>,
    saying: Saying,
    /// What plays, or played last: it outlives the media thread's part of the call.
    sounds: Vec<PlayableClip>,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl Attending {
    fn new(parts: Arc<Parts>, desk: Arc<GreetingDesk>, mut ports: Ports) -> Self {
        ports.command(Command::Answered);
        let (tell, told) = mpsc::channel(RESULTS);
        Self {
            machine: Machine::new(Instant::now(), desk.pin.clone()),
            parts,
            desk,
            ports,
            keypad: Keypad::default(),
            recorder: None,
            speaking: false,
            prepared: None,
            saying: Saying::default(),
            sounds: Vec::new(),
            tell,
            told,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().into_iter().chain(self.recorder.as_ref().and_then(Recorder::poll_timeout)).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        if let Some(recorder) = &mut self.recorder {
            recorder.handle_timeout(now);
        }
        self.take_recording();
    }

    /// Takes what the media thread tells; true when the caller's sound has stopped.
    fn take_events(&mut self) -> bool {
        while let Some(frame) = self.ports.heard() {
            if let Some(recorder) = &mut self.recorder {
                recorder.set_wide(frame.wide);
                recorder.push(frame.first_sample, &frame.samples);
            }
        }
        let mut timed_out = false;
        while let Some(event) = self.ports.event() {
            match event.what {
                Occurrence::MediaTimeout => timed_out = true,
                Occurrence::Dtmf(dtmf) => self.key(dtmf.digit, Way::Media),
                Occurrence::Played(played) => {
                    if self.saying.is_ended_by(&played) {
                        self.machine.said(event.at);
                    }
                }
                Occurrence::Heard(heard) => self.heard(event.at, &heard),
                Occurrence::Stopped => {}
            }
        }
        self.take_recording();
        timed_out
    }

    fn heard(&mut self, at: Instant, heard: &Heard) {
        let Some(speaks) = speaks(heard) else { return };
        self.speaking = speaks;
        match &mut self.recorder {
            Some(recorder) => recorder.voice(at, speaks),
            // Words over a prompt decide nothing: what the mixer holds for them goes on at once.
            None if speaks => drop(self.ports.command(Command::Resume)),
            None => {}
        }
    }

    fn key(&mut self, digit: char, way: Way) {
        let now = Instant::now();
        if !self.keypad.counts(now, digit, way) {
            return;
        }
        match &mut self.recorder {
            Some(recorder) => {
                recorder.key(digit);
                self.take_recording();
            }
            None => self.machine.key(now, digit),
        }
    }

    /// Makes a clip of a recording that is over.
    fn take_recording(&mut self) {
        let Some(recording) = self.recorder.as_mut().and_then(Recorder::poll) else { return };
        self.recorder = None;
        let mut samples = recording.samples;
        if recording.ended == Ended::Key {
            samples.truncate(samples.len().saturating_sub(samples_in(KEY_TONE) as usize));
        }
        let tell = self.tell.clone();
        let prepare = move || {
            let long_enough = samples.len() as u64 >= samples_in(SHORTEST);
            let sound = Sound { rate: RATE, samples };
            let prepared = long_enough.then(|| Prepared::new(Path::new("the recording"), sound));
            let prepared = prepared.transpose().inspect_err(|error| info!(%error, "nothing was said")).ok().flatten();
            let _ = tell.blocking_send(Told::Prepared(prepared));
        };
        tokio::task::spawn_blocking(prepare);
    }

    fn hears_of(&mut self, told: Told) {
        match told {
            Told::Spoken(which, samples) if which == self.saying.which => self.play(&samples),
            Told::Spoken(..) => {}
            Told::Prepared(prepared) => {
                self.prepared = prepared.map(Arc::new);
                self.machine.recorded(self.prepared.is_some());
            }
            Told::Kept(kept) => self.machine.kept(kept),
        }
    }

    /// Does what the machine wants; gives why the call is to end, when it is.
    fn carry_out(&mut self) -> Option<Why> {
        while let Some(command) = self.machine.poll() {
            match command {
                by_phone::Command::Say(phrase) => self.say(phrase),
                by_phone::Command::Hush => self.hush(),
                by_phone::Command::Tried { right } => {
                    let wait = self.desk.brake().tried(Instant::now(), right);
                    if !right {
                        self.machine.refused(wait.is_some());
                    }
                    if let Some(wait) = wait {
                        warn!(
                            wait_s = wait.as_secs(),
                            "wrong PINs for [greeting_by_phone]: nobody is let in meanwhile"
                        );
                    }
                }
                by_phone::Command::Record => {
                    let limits = Limits { longest: self.desk.longest, silence_end: SILENCE_END };
                    // What was heard before is not the greeting's.
                    while self.ports.heard().is_some() {}
                    let mut recorder = Recorder::new(Instant::now(), limits, Vec::new());
                    if self.speaking {
                        recorder.voice(Instant::now(), true);
                    }
                    self.recorder = Some(recorder);
                }
                by_phone::Command::PlayBack => {
                    let sound = self.prepared.as_ref().and_then(|prepared| wav::read(&prepared.wav).ok());
                    self.hush();
                    self.play(&sound.map(|sound| sound.samples).unwrap_or_default());
                }
                by_phone::Command::Keep => self.keep(),
                by_phone::Command::HangUp(why) => return Some(why),
            }
        }
        None
    }

    fn hush(&mut self) {
        self.saying.next();
        self.ports.command(Command::Flush);
    }

    fn say(&mut self, phrase: Phrase) {
        self.hush();
        let (which, language) = (self.saying.which, self.desk.language);
        let (voice, tell) = (self.parts.voice.clone(), self.tell.clone());
        let speaking = async move {
            let said = spoken(&*voice, text(phrase, language), language).await;
            let mut samples = said.unwrap_or_else(|error| {
                warn!(%error, "the voice does not speak: there is a tone in its place");
                beep()
            });
            if phrase == Phrase::Speak || phrase == Phrase::NothingHeard {
                samples.extend([0; samples_in(TONE) as usize]);
                samples.extend(beep());
            }
            let _ = tell.send(Told::Spoken(which, samples)).await;
        };
        tokio::spawn(speaking.in_current_span());
    }

    fn play(&mut self, samples: &[i16]) {
        let frame = |chunk: &[i16]| -> Frame {
            let mut frame = SILENCE;
            frame[..chunk.len()].copy_from_slice(chunk);
            frame
        };
        let mut frames: Vec<Frame> = samples.chunks(FRAME_SAMPLES).map(frame).collect();
        if frames.is_empty() {
            frames.push(SILENCE);
        }
        let clip =
            PlayableClip { kind: ClipKind::Prompt, index: self.saying.which, frames: frames.into(), cuts: [].into() };
        // The media thread has let go of those before by the second one after them.
        if self.sounds.len() > 2 {
            self.sounds.retain(|sound| Arc::strong_count(&sound.frames) > 1);
        }
        self.sounds.push(clip.clone());
        self.ports.command(Command::Play(clip));
    }

    fn keep(&mut self) {
        let Some(prepared) = self.prepared.clone() else { return self.machine.kept(false) };
        let (own, language, tell) = (self.desk.own.clone(), self.desk.language, self.tell.clone());
        let parts = self.parts.clone();
        let keep = move || {
            let about = About {
                id: format!("{}-greeting-by-phone", language.code()),
                language,
                kind: ClipKind::Greeting,
                text: String::new(),
                voice: None,
                made: "recorded by telephone".into(),
            };
            let kept = own.put(&about, &prepared);
            parts.clips.take_up(&parts.config);
            match &kept {
                Ok(_) => info!(seconds = prepared.duration.as_secs_f32(), "a greeting was recorded by telephone"),
                Err(error) => warn!(%error, "a greeting that was recorded cannot be kept"),
            }
            let _ = tell.blocking_send(Told::Kept(kept.is_ok()));
        };
        tokio::task::spawn_blocking(keep);
    }
}

fn speaks(heard: &Heard) -> Option<bool> {
    match heard {
        Heard::Started { .. } | Heard::Resumed { .. } => Some(true),
        Heard::HardEnd { .. } | Heard::TooLong { .. } => Some(false),
        _ => None,
    }
}

fn beep() -> Vec<i16> {
    tone::sine(TONE_HZ, TONE_DBFS, samples_in(TONE) as usize)
}

const fn text(phrase: Phrase, language: Language) -> &'static str {
    use Language::{En, He, Ru};
    match (phrase, language) {
        (Phrase::AskPin, En) => "Please enter your PIN, and then hash.",
        (Phrase::AskPin, He) => "נא להקיש את הקוד הסודי, ואחריו סולמית.",
        (Phrase::AskPin, Ru) => "Введите, пожалуйста, пин-код и нажмите решётку.",
        (Phrase::WrongPin, En) => "That is not the PIN. Please enter it again, and then hash.",
        (Phrase::WrongPin, He) => "הקוד שגוי. נא להקיש שוב, ואחריו סולמית.",
        (Phrase::WrongPin, Ru) => "Неверный пин-код. Введите его ещё раз и нажмите решётку.",
        (Phrase::TooManyWrong, En) => "That is not the PIN. Goodbye.",
        (Phrase::TooManyWrong, He) => "הקוד שגוי. להתראות.",
        (Phrase::TooManyWrong, Ru) => "Неверный пин-код. До свидания.",
        (Phrase::Speak, En) => "Speak the greeting after the tone, and end with hash.",
        (Phrase::Speak, He) => "יש להקליט את הפתיח אחרי הצליל, ולסיים בסולמית.",
        (Phrase::Speak, Ru) => "Произнесите приветствие после сигнала. В конце нажмите решётку.",
        (Phrase::NothingHeard, En) => "I heard nothing. Speak the greeting after the tone, and end with hash.",
        (Phrase::NothingHeard, He) => "לא נשמע דבר. יש להקליט את הפתיח אחרי הצליל, ולסיים בסולמית.",
        (Phrase::NothingHeard, Ru) => "Ничего не слышно. Произнесите приветствие после сигнала.",
        (Phrase::Choose, En) => "To listen, press one. To record again, press two. To accept, press hash.",
        (Phrase::Choose, He) => "להאזנה הקישו אחת. להקלטה חוזרת הקישו שתיים. לאישור הקישו סולמית.",
        (Phrase::Choose, Ru) => "Прослушать: один. Записать снова: два. Принять: решётка.",
        (Phrase::Kept, En) => "The next caller will hear it. Goodbye.",
        (Phrase::Kept, He) => "הפתיח נשמר. להתראות.",
        (Phrase::Kept, Ru) => "Приветствие сохранено. До свидания.",
        (Phrase::NotKept, En) => "It could not be stored. To try again, press hash.",
        (Phrase::NotKept, He) => "לא ניתן לשמור. לניסיון נוסף הקישו סולמית.",
        (Phrase::NotKept, Ru) => "Сохранить не удалось. Чтобы попробовать ещё раз, нажмите решётку.",
        (Phrase::Goodbye, En) => "Goodbye.",
        (Phrase::Goodbye, He) => "להתראות.",
        (Phrase::Goodbye, Ru) => "До свидания.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_in_place_of_another_lets_nobody_in_whom_that_one_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        let mut config = Config::default();
        config.clips.folder = Some(folder.path().join("clips"));
        config.greeting_by_phone.number = Some("45".into());
        config.greeting_by_phone.pin_file = Some(pin.clone());
        let desk = || GreetingDesk::of(&config).unwrap().unwrap();
        std::fs::write(&pin, "473920").unwrap();
        let before = desk();
        let seat = before.seat().unwrap();
        let now = Instant::now();
        let waits = [(); 3].map(|()| before.brake().tried(now, false));
        assert!(waits[2].is_some(), "{waits:?}");
        std::fs::write(&pin, "860042").unwrap();
        let after = desk().in_place_of(Some(&before));
        assert_eq!(after.pin.reveal(), "860042");
        assert!(!after.brake().is_open(now) && after.seat().is_none());
        drop(seat);
        assert!(after.seat().is_some());
        assert!(desk().in_place_of(None).brake().is_open(now));
    }

    #[test]
    fn the_end_of_an_earlier_prompt_is_not_the_end_of_the_next() {
        let mut saying = Saying::default();
        let started = |index| Played::ClipStarted { kind: ClipKind::Prompt, index, at: Instant::now() };
        let ended = |whole| Played::ClipEnded { kind: ClipKind::Prompt, whole };
        saying.next();
        assert!(!saying.is_ended_by(&started(1)));
        assert!(saying.is_ended_by(&ended(true)));
        saying.next();
        assert!(!saying.is_ended_by(&started(2)));
        // It ends on the media thread while the third one is made.
        saying.next();
        assert!(!saying.is_ended_by(&ended(true)));
        assert!(!saying.is_ended_by(&started(3)));
        assert!(!saying.is_ended_by(&ended(false)), "it was silenced");
        saying.next();
        assert!(!saying.is_ended_by(&ended(true)), "its beginning was not told");
        assert!(!saying.is_ended_by(&started(4)));
        assert!(saying.is_ended_by(&ended(true)));
    }
}
