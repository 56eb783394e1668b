//! One whole line, ticked 10,000 times: a bad network, digits, turns, placeholders, answers, barge-in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use offhook::codec::Codec;
use offhook::config::Config;
use offhook::hearing::{Endpointer, Heard, Limits};
use offhook::leg::{Dtmf, FrameKind, Leg, LegMedia};
use offhook::media::{Command, Event, Join, Keys, Line, Occurrence, Ports};
use offhook::pcm::tone::Ringback;
use offhook::pcm::{FRAME_SAMPLES, Frame, PTIME, RATE, SILENCE, resample, tone, wav};
use offhook::playout::{Arming, ClipKind, Mixer, PlayableClip, Played, SpeechFrame};
use offhook::rtp::receiver::Receiver;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol};
use offhook::sdp::Direction;
use ringbuf::traits::Producer;

use super::srtp::keys;

/// Room for a packet with its protection.
const ROOM: usize = MAX_PACKET_BYTES + MAX_TRAILER_BYTES;

/// A caller at the far end of a bad line over SRTP, in virtual time: speaks the same sound over and over, and presses keys.
struct BadLine {
    receiver: Receiver,
    ours: Sender,
    theirs: Sender,
    /// Ours, and theirs.
    srtp: [Option<Protection>; 2],
    sound: Vec<Frame>,
    ticks: usize,
    random: fastrand::Rng,
    held_back: Option<([u8; ROOM], usize)>,
    from: SocketAddr,
    arrived: Instant,
}

impl Leg for BadLine {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        let sound = self.sound[self.ticks % self.sound.len()];
        self.ticks += 1;
        if self.ticks.is_multiple_of(700) {
            self.theirs.dial('5', Duration::from_millis(100));
        }
        let mut packet = [0; ROOM];
        let length = self.theirs.packet(&sound, false, &mut packet);
        let length = self.srtp[1].as_mut().unwrap().protect(&mut packet, length).unwrap();
        match self.random.u8(..100) {
            0..5 => {}
            5..10 if self.held_back.is_none() => self.held_back = Some((packet, length)),
            _ => {
                self.take(packet, length, now);
                if let Some((late, length)) = self.held_back.take() {
                    self.take(late, length, now);
                }
            }
        }
        self.arrived = now;
        self.receiver.pull(now, frame)
    }

    fn speak(&mut self, _now: Instant, frame: &Frame, sounding: bool) {
        let mut packet = [0; ROOM];
        let length = self.ours.packet(frame, sounding, &mut packet);
        self.srtp[0].as_mut().unwrap().protect(&mut packet, length).unwrap();
    }

    fn dial(&mut self, key: Dtmf) {
        assert!(self.ours.dial(key.digit, key.duration));
    }

    fn skip(&mut self) {
        self.ours.skip();
    }

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        self.receiver.poll_dtmf()
    }

    fn renegotiate(&mut self, media: &LegMedia) {
        for (sender, theirs) in [(&mut self.ours, false), (&mut self.theirs, true)] {
            // The far side goes on in the codec before for a while.
            if !theirs || self.ticks.is_multiple_of(2) {
                sender.renegotiate(media.codec, media.telephone_event);
            }
        }
        self.receiver.renegotiate(media.codec, media.telephone_event);
        if let Some(remote) = media.remote {
            self.receiver.set_remote(remote);
            self.from = remote;
        }
        for srtp in &mut self.srtp {
            Protection::renew(srtp, Protocol::Rtp, media.srtp.as_ref());
        }
    }

    fn last_received(&self) -> Instant {
        self.arrived
    }
}

impl BadLine {
    fn take(&mut self, mut packet: [u8; ROOM], length: usize, now: Instant) {
        if let Ok(length) = self.srtp[0].as_mut().unwrap().unprotect(&mut packet[..length]) {
            self.receiver.datagram(&packet[..length], self.from, now);
        }
    }
}

fn bad_line(now: Instant) -> BadLine {
    let speech = wav::read(include_bytes!("../data/vad.wav")).unwrap();
    assert_eq!(speech.rate, 8000);
    let mut samples = resample::resample(&speech.samples, speech.rate, RATE);
    // A second of silence, so that turns end.
    samples.resize(samples.len().next_multiple_of(FRAME_SAMPLES) + 50 * FRAME_SAMPLES, 0);
    let from = SocketAddr::from(([127, 0, 0, 1], 4000));
    let opus = Codec::named("opus").unwrap();
    BadLine {
        receiver: Receiver::new(opus, Some(101.into()), from, Duration::from_millis(20)),
        ours: Sender::new(opus, Some(101.into())),
        srtp: [(); 2].map(|()| Some(Protection::new(Protocol::Rtp, &keys(0)))),
        theirs: Sender::starting_at(opus, Some(101.into()), 7, 65_500, u32::MAX - 5000),
        sound: samples.chunks_exact(FRAME_SAMPLES).map(|frame| frame.try_into().unwrap()).collect(),
        ticks: 0,
        random: fastrand::Rng::with_seed(4),
        held_back: None,
        from,
        arrived: now,
    }
}

fn clip(frames: usize) -> PlayableClip {
    let sound = tone::sine(600.0, -12.0, frames * FRAME_SAMPLES);
    PlayableClip {
        kind: ClipKind::Placeholder,
        index: 0,
        frames: sound.chunks_exact(FRAME_SAMPLES).map(|frame| frame.try_into().unwrap()).collect(),
        cuts: Arc::new([20 * FRAME_SAMPLES as u32]),
    }
}

/// What happened on the way, to show that it did.
#[derive(Default)]
struct Seen {
    barge_ins: u32,
    soft_ends: u32,
    placeholders: u32,
    answers: u32,
    held: u32,
    second_clips: u32,
    keys: u32,
}

impl Seen {
    fn take(&mut self, event: Event) -> Option<Heard> {
        match event.what {
            Occurrence::Heard(heard) => {
                self.soft_ends += u32::from(matches!(heard, Heard::SoftEnd { .. }));
                return Some(heard);
            }
            Occurrence::Played(Played::PhraseEnded { whole: false, .. }) => self.barge_ins += 1,
            Occurrence::Played(Played::PhraseHeld { .. }) => self.held += 1,
            Occurrence::Played(Played::ClipStarted { kind: ClipKind::Still, .. }) => self.second_clips += 1,
            Occurrence::Played(Played::ClipStarted { .. }) => self.placeholders += 1,
            Occurrence::Played(Played::AnswerStarted { .. }) => self.answers += 1,
            Occurrence::Dtmf(dtmf) => self.keys += u32::from(dtmf.digit == '5'),
            _ => {}
        }
        None
    }
}

/// The call's task in short: arms, and answers most turns with ten seconds of speech, so that the next turn barges in; every other time that was none.
fn react(
    ports: &mut Ports,
    speech: &mut impl Producer<Item = SpeechFrame>,
    heard: Heard,
    generation: &mut u32,
    clip: &PlayableClip,
) {
    if let Heard::SoftEnd { .. } = heard {
        ports.command(if generation.is_multiple_of(2) { Command::Resume } else { Command::Flush });
    }
    if let Heard::HardEnd { .. } | Heard::TooLong { .. } = heard {
        *generation += 1;
        let answer = if generation.is_multiple_of(5) { 0 } else { 400 };
        for n in 0..answer {
            let samples = if n % 50 == 49 { SILENCE } else { [2000; FRAME_SAMPLES] };
            let _ = speech.try_push(SpeechFrame::speech(*generation, 0, samples));
        }
        ports.command(Command::Release(*generation));
        let second = Some(PlayableClip { kind: ClipKind::Still, ..clip.clone() });
        let second_after = Duration::from_millis(800);
        ports.command(Command::Arm(Arming { second, second_after, ..Arming::first(clip.clone()) }));
    }
}

/// Now and then both sides agree anew: on hold and off it, on the other codec, on other ports, and on other keys.
fn described(tick: u32) -> Option<LegMedia> {
    let at = tick % 1000;
    (at == 600 || at == 650).then(|| LegMedia {
        codec: Codec::ALL[(tick / 1000 % 4) as usize],
        telephone_event: Some(101.into()),
        remote: Some(SocketAddr::from(([127, 0, 0, 1], 4000 + (tick / 1000) as u16))),
        direction: if at == 600 { Direction::RecvOnly } else { Direction::SendRecv },
        srtp: Some(keys((tick / 3000) as u8 + 1)),
        rtcp_mux: at == 600,
        ptime: PTIME * (1 + tick / 1000 % 3),
    })
}

#[tokio::test]
async fn ten_thousand_ticks_of_a_bad_line_allocate_nothing() {
    let start = Instant::now();
    let config = Config::default();
    let (mut line, mut ports) = Line::new(
        Box::new(bad_line(start)),
        Endpointer::new(Limits::from(&config.hearing)),
        Mixer::new(Duration::from_millis(40)),
        config.rtp.media_timeout,
    )
    .unwrap();
    let mut speech = ports.take_speech().unwrap();
    // As in the program, somebody else holds the clip as well: dropping it on the media thread frees nothing.
    let clip = clip(30);
    ports.command(Command::Arm(Arming::first(clip.clone())));
    ports.command(Command::Ring(Ringback::of_country(Some("GB"))));
    let (mut seen, mut generation, mut allocated) = (Seen::default(), 0, (0, 0));
    for n in 0..10_000u32 {
        let now = start + PTIME * n;
        if n == 100 {
            ports.command(Command::Answered);
        }
        if n % 500 == 250 {
            ports.command(Command::Dial(Keys::parse("0159#").unwrap()));
        }
        if let Some(media) = described(n) {
            // Every third of them takes no telephone events: keys are tones.
            let telephone_event = media.telephone_event.filter(|_| n / 1000 % 3 != 0);
            ports.command(Command::Described(LegMedia { telephone_event, ..media }));
        }
        let counted = measure(|| assert!(line.tick(now)));
        allocated = (allocated.0 + counted.count_total, allocated.1 + counted.count_current);
        while ports.heard().is_some() {}
        while let Some(event) = ports.event() {
            if let Some(heard) = seen.take(event) {
                react(&mut ports, &mut speech, heard, &mut generation, &clip);
            }
        }
    }
    assert_eq!(allocated, (0, 0), "allocations, and what they outnumber frees by, in 10,000 ticks");
    assert!(seen.soft_ends > 10, "{} soft ends", seen.soft_ends);
    assert!(seen.placeholders > 5, "{} placeholders", seen.placeholders);
    assert!(seen.answers > 5, "{} answers", seen.answers);
    assert!(seen.barge_ins > 5, "{} barge-ins", seen.barge_ins);
    assert!(seen.held > 5, "{} held", seen.held);
    assert!(seen.keys > 5, "{} keys", seen.keys);
    assert!(ports.counters().concealed.load(std::sync::atomic::Ordering::Relaxed) > 50);
    drop(speech);
}

#[tokio::test]
async fn ringing_talking_and_taking_a_call_over_allocate_nothing() {
    let start = Instant::now();
    let config = Config::default();
    let (mut line, mut ports) = Line::new(
        Box::new(bad_line(start)),
        Endpointer::new(Limits::from(&config.hearing)),
        Mixer::new(Duration::from_millis(40)),
        config.rtp.media_timeout,
    )
    .unwrap();
    let (mut keys, mut allocated) = (0, (0, 0));
    for n in 0..5000u32 {
        let now = start + PTIME * n;
        let join = match n % 1000 {
            100 => Some(Join::Ringing(Ringback::of_country(Some("GB")))),
            200 => Some(Join::Leg(Box::new(bad_line(now)))),
            900 => Some(Join::Nobody),
            950 => Some(Join::Successor(Box::new(bad_line(now)))),
            // The last two of five have no leg left.
            _ => described(n).map(|media| Join::Described { media, answered: true }),
        };
        if let Some(join) = join {
            let _ = ports.join(join);
        }
        let counted = measure(|| assert!(line.tick(now)));
        allocated = (allocated.0 + counted.count_total, allocated.1 + counted.count_current);
        while ports.heard().is_some() {}
        keys += std::iter::from_fn(|| ports.event()).filter(|event| matches!(event.what, Occurrence::Dtmf(_))).count();
    }
    assert_eq!(allocated, (0, 0), "allocations, and what they outnumber frees by, in 5,000 ticks");
    assert!(keys > 3, "{keys} keys");
}
