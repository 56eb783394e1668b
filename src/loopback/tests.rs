//! Both cards, the leg and the media thread's tick together, in virtual time.

use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use super::card::Direction;
use super::keeper::Notice;
use super::virtual_card::{Room, VirtualCard, VirtualDevice};
use super::*;
use crate::leg::{FrameKind, Leg};
use crate::pcm::{FRAME_SAMPLES, Frame, PTIME, RATE, SILENCE};

const MS: Duration = Duration::from_millis(1);
/// The keeper looks once in so many ptimes.
const LOOK: u32 = 3;

/// A leg on a virtual card.
struct Bench {
    start: Instant,
    ticks: u32,
    leg: LoopbackLeg,
    card: VirtualCard,
    keeper: Keeper,
    shared: Shared,
    notices: Vec<Notice>,
}

impl Bench {
    fn new(input: VirtualDevice, output: VirtualDevice, duplex: Duplex) -> Self {
        let start = Instant::now();
        let (leg, side, _) = LoopbackLeg::new(start, duplex, None);
        let shared = side.shared();
        let card = VirtualCard::new(start, input, output);
        let keeper = Keeper::new(Box::new(card.clone()), [Choice::Default, Choice::Default], side, start);
        Self { start, ticks: 0, leg, card, keeper, shared, notices: Vec::new() }
    }

    /// One ptime: what the microphone brings, and the loudspeaker is given. Ticks come 7 ms after the card's grid at first.
    fn tick(&mut self, say: impl FnOnce(&Frame) -> Frame) -> (FrameKind, Frame) {
        let now = self.start + MS * 7 + PTIME * self.ticks;
        if self.ticks.is_multiple_of(LOOK) {
            self.keeper.tick(now);
            self.notices.extend(std::iter::from_fn(|| self.keeper.poll()));
        }
        self.ticks += 1;
        self.card.advance(now);
        let mut frame = SILENCE;
        let kind = self.leg.hear(now, &mut frame);
        let said = say(&frame);
        self.leg.speak(now, &said, said != SILENCE);
        (kind, frame)
    }

    /// What comes in goes out.
    fn echo(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / PTIME.as_millis() {
            self.tick(|heard| *heard);
        }
    }

    fn lost(&self) -> Vec<CardError> {
        let error = |notice: &Notice| match notice {
            Notice::Lost { error, .. } => Some(error.clone()),
            Notice::Opened(_) => None,
        };
        self.notices.iter().filter_map(error).collect()
    }

    fn opened(&self) -> usize {
        self.notices.iter().filter(|notice| matches!(notice, Notice::Opened(_))).count()
    }
}

fn device(rate: u32, channels: u16, ppm: f64) -> VirtualDevice {
    VirtualDevice { ppm, ..VirtualDevice::new("virtual", rate, channels) }
}

fn sine(hz: f64) -> impl FnMut(f64) -> f32 + Send + 'static {
    move |time| (0.3 * (TAU * (hz * time).fract()).sin()) as f32
}

/// From the moment that a click is at the microphone to the moment that it is at the loudspeaker, in milliseconds.
fn path_ms(input: VirtualDevice, output: VirtualDevice) -> f64 {
    let mut bench = Bench::new(input, output, Duplex::Full);
    // Two milliseconds long, so that every rate has some of it.
    bench.card.hears(|time| if (3.0..3.002).contains(&time) { 0.5 } else { 0.0 });
    bench.card.record();
    bench.echo(Duration::from_secs(4));
    let played = bench.card.take_recorded();
    let (mut weight, mut moment) = (0.0, 0.0);
    for (time, sample) in played.into_iter().filter(|(time, _)| *time > 2.9) {
        weight += f64::from(sample.abs());
        moment += f64::from(sample.abs()) * time;
    }
    assert!(weight > 1.0, "the click was played");
    (moment / weight - 3.001) * 1e3
}

#[test]
fn from_microphone_to_loudspeaker_it_takes_less_than_sixty_milliseconds_at_every_rate() {
    for (input, output) in
        [(48_000, 48_000), (44_100, 48_000), (16_000, 44_100), (8000, 8000), (96_000, 96_000), (48_000, 8000)]
    {
        let ms = path_ms(device(input, 1, 40.0), device(output, 2, -40.0));
        println!("{input} to {output}: {ms:.1} ms");
        assert!((30.0..=60.0).contains(&ms), "{input} to {output}: {ms:.1} ms");
    }
}

/// A tone through both cards for so long, once the margins are found out. Gives by how much its delay changed, in milliseconds, and the largest deviation of a sample from
/// the sine that the two before it are part of, as a share of the tone's amplitude.
fn through(input: VirtualDevice, output: VirtualDevice, settling: Duration, time: Duration) -> (f64, f64) {
    const HZ: f64 = 500.0;
    let rate = f64::from(output.shape.rate);
    let mut bench = Bench::new(input, output, Duplex::Full);
    bench.card.hears(sine(HZ));
    bench.card.record();
    bench.echo(settling);
    let missing = |bench: &Bench| {
        [bench.shared.input.figures(), bench.shared.output.figures()]
            .map(|lane| (lane.starved, lane.jumps, lane.overrun))
    };
    let missed = missing(&bench);
    bench.card.take_recorded();
    let (mut last, mut shift, mut range, mut worst) = (None::<f64>, 0.0, (0.0f64, 0.0f64), 0.0f64);
    let turn = 2.0 * (TAU * HZ / rate).cos();
    let mut before = [0.0; 2];
    for _ in 0..time.as_secs() {
        bench.echo(Duration::from_secs(1));
        let played = bench.card.take_recorded();
        let (mut re, mut im) = (0.0, 0.0);
        for (n, (time, sample)) in played.iter().enumerate() {
            let sample = f64::from(*sample);
            let phase = TAU * (HZ * time).fract();
            (re, im) = (re + sample * phase.sin(), im + sample * phase.cos());
            if n >= 2 {
                worst = worst.max((sample + before[0] - turn * before[1]).abs() / 0.3);
            }
            before = [before[1], sample];
        }
        let phase = im.atan2(re);
        if let Some(last) = last.replace(phase) {
            let step = phase - last;
            shift += step - TAU * (step / TAU).round();
        }
        range = (range.0.min(shift), range.1.max(shift));
    }
    assert_eq!(missing(&bench), missed);
    ((range.1 - range.0) / (TAU * HZ) * 1e3, worst)
}

#[test]
fn in_half_an_hour_of_clocks_that_drift_apart_the_delay_stays_and_a_tone_does_not_click() {
    let (change_ms, worst) =
        through(device(8000, 1, 100.0), device(8000, 1, -100.0), Duration::from_secs(2), Duration::from_secs(30 * 60));
    println!("{change_ms} ms, {worst}");
    assert!(change_ms <= 10.0, "{change_ms} ms");
    assert!(worst < 0.01, "{worst}");
}

#[test]
fn rates_channels_and_late_callbacks_do_not_make_a_tone_click() {
    for (input, output) in [((44_100, 2), (48_000, 8)), ((96_000, 1), (44_100, 1)), ((8000, 1), (48_000, 2))] {
        let input = VirtualDevice { jitter: MS, ..device(input.0, input.1, -300.0) };
        let output = VirtualDevice { jitter: MS, ..device(output.0, output.1, 300.0) };
        let rates = (input.shape, output.shape);
        let (change_ms, worst) = through(input, output, Duration::from_secs(60), Duration::from_secs(30));
        assert!(change_ms <= 10.0 && worst < 0.02, "{rates:?}: {change_ms} ms, {worst}");
    }
}

#[test]
fn a_card_that_is_later_than_thought_is_given_more_time_and_then_nothing_is_missing() {
    // The clocks drift, so that every position of the callbacks between the ticks comes.
    let late = |rate| VirtualDevice { jitter: MS * 12, ..device(rate, 1, 400.0) };
    let mut bench = Bench::new(late(48_000), late(48_000), Duplex::Full);
    bench.card.hears(sine(440.0));
    bench.echo(Duration::from_secs(60));
    let before = [bench.shared.input.figures(), bench.shared.output.figures()];
    assert!(before[0].starved > 0, "{before:?}");
    bench.echo(Duration::from_secs(60));
    let after = [bench.shared.input.figures(), bench.shared.output.figures()];
    assert!((0..2).all(|n| after[n].starved - before[n].starved <= 4), "{before:?} {after:?}");
}

#[test]
fn a_card_that_is_unplugged_is_silence_and_goes_on_when_it_is_back() {
    let mut bench = Bench::new(device(48_000, 1, 0.0), device(48_000, 2, 0.0), Duplex::Full);
    bench.card.hears(sine(440.0));
    bench.echo(Duration::from_secs(3));
    assert_eq!((bench.opened(), bench.lost()), (2, vec![]));
    let gone = bench.card.unplug();
    for _ in 0..200 {
        bench.tick(|heard| *heard);
    }
    let (kind, frame) = bench.tick(|heard| *heard);
    assert_eq!((kind, frame), (FrameKind::Silence, SILENCE));
    let missed = (bench.start + PTIME * bench.ticks).saturating_duration_since(bench.leg.last_received());
    assert!(missed > Duration::from_secs(3), "the call may end for want of sound: {missed:?}");
    let lost = bench.lost();
    assert_eq!(lost.len(), 2, "each is told once: {lost:?}");
    assert!(lost.iter().all(|error| error.to_string().contains("plug it in again")));
    // Another one comes back in its place.
    let [inputs, outputs] = gone;
    let other = |mut devices: Vec<VirtualDevice>| {
        devices[0].shape = Shape { rate: 44_100, channels: 1 };
        devices
    };
    bench.card.plug([other(inputs), other(outputs)]);
    bench.card.record();
    bench.echo(Duration::from_secs(4));
    assert_eq!((bench.opened(), bench.lost().len()), (4, 2));
    bench.card.take_recorded();
    bench.echo(Duration::from_secs(1));
    let played: Vec<i16> = bench.card.take_recorded().iter().map(|(_, sample)| (sample * 32767.0) as i16).collect();
    assert!(crate::pcm::tone::share_at(44_100, 440.0, &played) > 0.99);
    assert!(bench.leg.last_received() + MS * 40 > bench.start + PTIME * bench.ticks);
}

#[test]
fn a_card_that_runs_away_is_closed_with_a_message_and_not_opened_again() {
    let mad = VirtualDevice { speed: 900.0, ..device(48_000, 2, 0.0) };
    let mut bench = Bench::new(device(48_000, 1, 0.0), mad, Duplex::Full);
    bench.echo(Duration::from_secs(5));
    let lost = bench.lost();
    assert_eq!(lost, [CardError::Runaway { device: "virtual".into() }]);
    assert_eq!((lost[0].exit_status(), bench.opened()), (78, 2), "opened once, and never again");
    assert!(bench.keeper.is_settled());
}

#[test]
fn what_cannot_be_opened_says_whose_fault_it_is_and_with_which_status_the_program_ends() {
    let device_name = || "virtual".to_owned();
    let refusals = [
        (CardError::Busy { device: device_name() }, 75, "fuser"),
        (CardError::Permission { device: device_name() }, 77, "group audio"),
        (CardError::Unsupported { device: device_name(), what: "f64".into() }, 78, "plughw"),
        (CardError::Other { device: device_name(), what: "I/O error".into() }, 69, "speaker-test"),
    ];
    for (error, status, remedy) in refusals {
        let broken = VirtualDevice { refuses: Some(error.clone()), ..device(48_000, 1, 0.0) };
        let mut bench = Bench::new(broken, device(48_000, 2, 0.0), Duplex::Full);
        bench.echo(Duration::from_secs(3));
        assert_eq!(bench.lost(), std::slice::from_ref(&error));
        assert!(bench.keeper.is_settled());
        assert_eq!(error.exit_status(), status);
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let mut bench = Bench::new(device(4000, 1, 0.0), device(48_000, 64, 0.0), Duplex::Full);
    bench.echo(Duration::from_secs(1));
    assert!(matches!(bench.lost()[..], [CardError::Unsupported { .. }, CardError::Unsupported { .. }]));
    let mut bench = Bench::new(device(48_000, 1, 0.0), device(48_000, 2, 0.0), Duplex::Full);
    bench.card.unplug();
    bench.echo(Duration::from_secs(1));
    let expected = [Direction::Input, Direction::Output].map(|direction| CardError::NoDevice { direction });
    assert_eq!(bench.lost(), expected);
}

#[test]
fn a_media_thread_that_stood_still_makes_no_lasting_delay() {
    let mut bench = Bench::new(device(48_000, 1, 0.0), device(48_000, 2, 0.0), Duplex::Full);
    bench.card.hears(sine(440.0));
    bench.echo(Duration::from_secs(3));
    let before = [bench.shared.input.figures().delay_ms, bench.shared.output.figures().delay_ms];
    // What was missed is not made up for: 300 ms without a tick.
    bench.ticks += 15;
    for _ in 0..15 {
        bench.leg.skip();
    }
    bench.echo(Duration::from_secs(10));
    let after = [bench.shared.input.figures().delay_ms, bench.shared.output.figures().delay_ms];
    assert!((0..2).all(|n| (after[n] - before[n]).abs() < 5.0), "{before:?} {after:?}");
}

#[test]
fn neither_the_media_thread_nor_the_cards_allocate() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    // Counted over the whole of it: the card's own buffers are made when it is opened, and in the first callbacks.
    static ALLOCATED: AtomicU64 = AtomicU64::new(0);
    let mut bench = Bench::new(device(44_100, 2, 100.0), device(48_000, 2, -100.0), Duplex::Automatic);
    bench.card.hears(sine(440.0));
    bench.echo(Duration::from_secs(2));
    for _ in 0..500 {
        let now = bench.start + MS * 7 + PTIME * bench.ticks;
        bench.ticks += 1;
        let counted = allocation_counter::measure(|| {
            bench.card.advance(now);
            let mut frame = SILENCE;
            bench.leg.hear(now, &mut frame);
            bench.leg.speak(now, &frame, true);
        });
        ALLOCATED.fetch_add(counted.count_total, Relaxed);
    }
    assert_eq!(ALLOCATED.load(Relaxed), 0);
}

/// Ptimes of a second of the box's speech in which the leg heard something above −50 dBFS.
fn heard_of_itself(duplex: Duplex, room: Option<Room>, caller: bool) -> usize {
    let mut bench = Bench::new(device(48_000, 1, 0.0), device(48_000, 2, 0.0), duplex);
    if let Some(room) = room {
        bench.card.stands_in(room);
    }
    // The caller speaks after four seconds of the box's speech.
    bench.card.hears(move |time| if caller && time > 5.0 { sine(300.0)(time) } else { 0.0 });
    bench.echo(Duration::from_secs(1));
    let mut heard = 0;
    for tick in 0..300 {
        let speech: Frame = std::array::from_fn(|n| {
            let time = (tick * FRAME_SAMPLES + n) as f64 / f64::from(RATE);
            (6000.0 * (TAU * 700.0 * time).sin()) as i16
        });
        let (_, frame) = bench.tick(|_| speech);
        heard += usize::from(crate::pcm::level::rms_dbfs(&frame) > -50.0);
    }
    heard
}

#[test]
fn a_loudspeaker_louder_than_the_caller_does_not_cut_the_box_off_and_a_headset_lets_the_caller_in() {
    let loudspeaker = Some(Room { delay: MS * 35, gain: 2.0 });
    let headset = Some(Room { delay: MS * 5, gain: 0.01 });
    for duplex in [Duplex::Automatic, Duplex::Half] {
        assert_eq!(heard_of_itself(duplex, loudspeaker, true), 0, "{duplex:?}");
    }
    assert!(heard_of_itself(Duplex::Full, loudspeaker, false) > 200, "what the gate is for");
    assert_eq!(heard_of_itself(Duplex::Automatic, headset, false), 0);
    assert!(heard_of_itself(Duplex::Automatic, headset, true) > 80);
    assert_eq!(heard_of_itself(Duplex::Half, headset, true), 0);
}
