//! A line in virtual time, with a leg of the test's.

use std::sync::Mutex;

use super::*;
use crate::codec::Codec;
use crate::config;
use crate::hearing::Limits;
use crate::leg::{Dtmf, LegMedia};
use crate::pcm::{Frame, PTIME, RATE, resample, tone, wav};
use crate::playout::{Played, SpeechFrame};
use crate::sdp::Direction;

/// A caller who says what is in `frames`, and then nothing is received of.
struct Spoken {
    frames: std::vec::IntoIter<Frame>,
    now: Instant,
    sent: Sent,
}

/// What was sent: the pitch of each frame, 0 for silence.
type Sent = Arc<Mutex<Vec<u32>>>;

/// What the box says in these tests, and rings with.
const PITCHES: [u32; 2] = [700, 425];

/// A call whose caller says `frames`, its rings, and what is sent on it.
fn call(start: Instant, frames: Vec<Frame>, media_timeout: Duration) -> (Line, Ports, Sent) {
    let sent = Sent::default();
    let leg = Box::new(Spoken { frames: frames.into_iter(), now: start, sent: sent.clone() });
    let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
    let (line, ports) = Line::new(leg, endpointer, Mixer::new(Duration::ZERO), media_timeout).unwrap();
    (line, ports, sent)
}

fn described(direction: Direction) -> Command {
    Command::Described(LegMedia {
        codec: Codec::Pcmu,
        telephone_event: None,
        remote: None,
        direction,
        srtp: None,
        rtcp_mux: false,
        ptime: PTIME,
    })
}

/// The reference sound, in which the caller speaks.
fn speech() -> Vec<Frame> {
    let narrow = wav::read(include_bytes!("../../tests/data/vad.wav")).unwrap();
    resample::resample(&narrow.samples, narrow.rate, RATE).as_chunks().0.to_vec()
}

fn marker() -> Frame {
    tone::sine(700.0, -20.0, FRAME_SAMPLES).try_into().unwrap()
}

impl Leg for Spoken {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        let Some(spoken) = self.frames.next() else { return FrameKind::Silence };
        self.now = now;
        *frame = spoken;
        FrameKind::Speech
    }

    fn speak(&mut self, _: Instant, frame: &Frame, sounding: bool) {
        let pitch = PITCHES.into_iter().find(|hz| sounding && tone::share_of(*hz as f32, frame) > 0.8);
        self.sent.lock().unwrap().push(pitch.unwrap_or(0));
    }

    fn skip(&mut self) {}

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        None
    }

    fn renegotiate(&mut self, _: &LegMedia) {}

    fn last_received(&self) -> Instant {
        self.now
    }
}

#[tokio::test]
async fn what_a_barge_in_holds_is_told_before_the_barge_in_and_what_it_cuts_off_when_that_is_decided() {
    let start = Instant::now();
    let ticks = speech().len() as u32;
    let (mut line, mut ports, _) = call(start, speech(), Duration::from_secs(60));
    let mut answer = ports.take_speech().unwrap();
    while answer.try_push(SpeechFrame::speech(1, 0, marker())).is_ok() {}
    ports.command(Command::Release(1));

    let mut told = Vec::new();
    for tick in 0..ticks {
        line.tick(start + PTIME * tick);
        told.extend(std::iter::from_fn(|| ports.event()).map(|event| event.what));
    }
    let place = |what: fn(&Occurrence) -> bool| told.iter().position(what).unwrap();
    let held = place(|what| matches!(what, Occurrence::Played(Played::PhraseHeld { frames: 1.., .. })));
    let started = place(|what| matches!(what, Occurrence::Heard(Heard::Started { .. })));
    assert_eq!(held + 1, started, "{told:?}");
    assert!(!told.iter().any(|what| matches!(what, Occurrence::Played(Played::PhraseEnded { .. }))), "{told:?}");
    let Occurrence::Played(Played::PhraseHeld { frames, .. }) = told[held] else { unreachable!() };
    ports.command(Command::Flush);
    line.tick(start + PTIME * ticks);
    let cut = std::iter::from_fn(|| ports.event()).map(|event| event.what).find_map(|what| match what {
        Occurrence::Played(Played::PhraseEnded { frames, whole: false, .. }) => Some(frames),
        _ => None,
    });
    assert_eq!(cut, Some(frames));
}

#[tokio::test]
async fn a_peer_that_holds_the_call_is_not_missed_and_one_that_is_back_is() {
    let timeout = Duration::from_secs(1);
    let start = Instant::now();
    let (mut line, mut ports, _) = call(start, vec![SILENCE; 10], timeout);
    let mut ticks = 0u32..;
    let mut missed_within = |seconds: u32, ports: &mut Ports| {
        let end = ticks.start + seconds * 50;
        let before = ticks.start;
        while ticks.start < end {
            line.tick(start + PTIME * ticks.next().unwrap());
            while let Some(event) = ports.event() {
                if event.what == Occurrence::MediaTimeout {
                    return Some(PTIME * (ticks.start - before));
                }
            }
        }
        None
    };
    // Held in every form, and a peer that only listens.
    for direction in [Direction::RecvOnly, Direction::Inactive, Direction::SendOnly] {
        ports.command(described(direction));
        assert_eq!(missed_within(60, &mut ports), None, "{direction:?}");
    }
    ports.command(described(Direction::SendRecv));
    let missed = missed_within(60, &mut ports).unwrap();
    assert!((timeout..timeout + 2 * PTIME).contains(&missed), "{missed:?}");
}

#[tokio::test]
async fn on_hold_nothing_is_said_nothing_is_heard_and_what_was_being_said_is_told() {
    let start = Instant::now();
    let (mut line, mut ports, sent) = call(start, [vec![SILENCE; 60], speech()].concat(), Duration::from_secs(60));
    let mut answer = ports.take_speech().unwrap();
    for _ in 0..200 {
        answer.try_push(SpeechFrame::speech(1, 0, marker())).unwrap();
    }
    ports.command(Command::Release(1));
    let mut told = Vec::new();
    let mut heard = 0;
    let mut ticks = 0..;
    let mut run = |count: usize, ports: &mut Ports| {
        for n in ticks.by_ref().take(count) {
            line.tick(start + PTIME * n);
        }
        heard += std::iter::from_fn(|| ports.heard()).count();
        told.extend(std::iter::from_fn(|| ports.event()).map(|event| event.what));
        (heard, std::mem::take(&mut *sent.lock().unwrap()))
    };
    assert_eq!(run(50, &mut ports), (50, vec![700; 50]));
    ports.command(described(Direction::RecvOnly));
    let music_on_hold = speech().len() + 60;
    assert_eq!(run(music_on_hold, &mut ports), (50, vec![0; music_on_hold]), "something was said or heard on hold");
    // What was queued of the answer is not said after the hold either, and no seam of it is heard.
    ports.command(described(Direction::SendRecv));
    assert_eq!(run(50, &mut ports), (100, vec![0; 50]));
    for _ in 0..20 {
        answer.try_push(SpeechFrame::speech(2, 0, marker())).unwrap();
    }
    ports.command(Command::Release(2));
    assert_eq!(run(20, &mut ports), (120, vec![700; 20]));
    let cut = Occurrence::Played(Played::PhraseEnded {
        generation: 1,
        seq: 0,
        frames: 50,
        whole: false,
        last_voiced: Some(start + PTIME * 49),
    });
    assert_eq!(
        told.iter().filter(|what| matches!(what, Occurrence::Played(Played::PhraseEnded { .. }))).collect::<Vec<_>>(),
        [&cut]
    );
    assert!(!told.iter().any(|what| matches!(what, Occurrence::Heard(_))), "{told:?}");
}

#[tokio::test]
async fn an_utterance_that_the_hold_cut_in_two_is_over_after_it() {
    let start = Instant::now();
    let frames = speech();
    // The caller is held in the middle of the first utterance.
    let (mut line, mut ports, _) = call(start, frames[..40].to_vec(), Duration::from_secs(600));
    let mut told = Vec::new();
    for n in 0..4000 {
        match n {
            40 => ports.command(described(Direction::Inactive)),
            3000 => ports.command(described(Direction::SendRecv)),
            _ => true,
        };
        line.tick(start + PTIME * n);
        let heard = std::iter::from_fn(|| ports.event()).filter_map(|event| match event.what {
            Occurrence::Heard(heard) => Some((n, heard)),
            _ => None,
        });
        told.extend(heard);
        while ports.heard().is_some() {}
    }
    assert!(told.iter().any(|(n, heard)| *n < 40 && matches!(heard, Heard::Started { .. })), "{told:?}");
    let ends: Vec<_> = told.iter().filter(|(_, heard)| matches!(heard, Heard::HardEnd { .. })).collect();
    let [(n, Heard::HardEnd { end_sample, .. })] = ends[..] else { panic!("{told:?}") };
    assert!((3000..3060).contains(n) && *end_sample <= 45 * FRAME_SAMPLES as u64, "{told:?}");
}

#[tokio::test]
async fn before_the_answer_it_rings_and_nothing_is_heard_or_missed() {
    let start = Instant::now();
    let (mut line, mut ports, sent) = call(start, speech(), Duration::from_millis(500));
    ports.command(Command::Ring(Ringback::of_country(None)));
    ports.command(described(Direction::SendRecv));
    for n in 0..200 {
        line.tick(start + PTIME * n);
    }
    let rung = std::mem::take(&mut *sent.lock().unwrap());
    assert_eq!(rung, [vec![425; 50], vec![0; 150]].concat());
    assert!(ports.heard().is_none() && ports.event().is_none());
    ports.command(Command::Answered);
    for n in 200..240 {
        line.tick(start + PTIME * n);
    }
    assert_eq!(*sent.lock().unwrap(), [0; 40]);
    assert_eq!(std::iter::from_fn(|| ports.heard()).count(), 40);
    assert!(!std::iter::from_fn(|| ports.event()).any(|event| event.what == Occurrence::MediaTimeout));
}

/// A leg on which keys are seen: of each ptime the key that it began, `~` for our speech, `.` for silence.
struct Keyed {
    key: Option<char>,
    sent: Arc<Mutex<String>>,
}

impl Leg for Keyed {
    fn hear(&mut self, _: Instant, _: &mut Frame) -> FrameKind {
        FrameKind::Silence
    }
    fn speak(&mut self, _: Instant, _: &Frame, sounding: bool) {
        let sign = self.key.take().unwrap_or(if sounding { '~' } else { '.' });
        self.sent.lock().unwrap().push(sign);
    }
    fn skip(&mut self) {}
    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        None
    }
    fn dial(&mut self, key: Dtmf) {
        assert_eq!(self.key.replace(key.digit), None);
    }
    fn renegotiate(&mut self, _: &LegMedia) {}
    fn last_received(&self) -> Instant {
        Instant::now()
    }
}

#[tokio::test]
async fn keys_wait_until_a_phrase_is_through_and_the_next_one_waits_until_they_are() {
    let start = Instant::now();
    let sent = Arc::<Mutex<String>>::default();
    let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
    let leg = Box::new(Keyed { key: None, sent: sent.clone() });
    let (mut line, mut ports) =
        Line::new(leg, endpointer, Mixer::new(Duration::ZERO), Duration::from_secs(3600)).unwrap();
    let mut speech = ports.take_speech().unwrap();
    for _ in 0..5 {
        speech.try_push(SpeechFrame::speech(1, 0, marker())).unwrap();
    }
    speech.try_push(SpeechFrame::end_of_phrase(1, 0)).unwrap();
    for _ in 0..3 {
        speech.try_push(SpeechFrame::speech(1, 1, marker())).unwrap();
    }
    speech.try_push(SpeechFrame::end_of_phrase(1, 1)).unwrap();
    ports.command(Command::Release(1));
    let mut ticks = 0..;
    let mut run = |line: &mut Line, count: usize| {
        ticks.by_ref().take(count).for_each(|n| assert!(line.tick(start + PTIME * n)));
        std::mem::take(&mut *sent.lock().unwrap())
    };
    assert_eq!(run(&mut line, 2), "~~");
    ports.command(Command::Dial(crate::media::Keys::parse("12").unwrap()));
    assert_eq!(run(&mut line, 3), "~~~");
    assert_eq!(run(&mut line, 24), "1.........2.........~~~~");
}
