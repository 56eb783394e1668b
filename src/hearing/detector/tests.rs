use super::*;
use crate::config;
use crate::pcm::PTIME;
use crate::pcm::telephone::FRAME_SAMPLES;

mod order;
mod silence;

const LOUD: i16 = 3000;
const QUIET: i16 = 3;

fn limits() -> Limits {
    Limits::from(&config::Hearing::default())
}

/// A detector in virtual time, and what it has told with the milliseconds since the start.
struct Ear {
    detector: TurnDetector,
    start: Instant,
    now: Instant,
    frames: u64,
    told: Vec<(u64, Heard)>,
    draining: bool,
}

impl Ear {
    fn new(limits: Limits) -> Self {
        let start = Instant::now();
        Self { detector: TurnDetector::new(limits), start, now: start, frames: 0, told: Vec::new(), draining: true }
    }

    /// One chunk of 32 ms after another, in frames of 20 ms, each so probable and loud.
    fn hear(&mut self, chunks: u64, probability: f32, amplitude: i16) {
        let until = self.detector.chunked + chunks * 256;
        while self.detector.chunked < until {
            self.now += PTIME;
            self.frame(probability, amplitude);
        }
    }

    fn frame(&mut self, probability: f32, amplitude: i16) {
        self.frames += 1;
        self.detector.handle_frame(self.now, &[amplitude; FRAME_SAMPLES]);
        if self.detector.chunked + 256 <= self.frames * 160 {
            self.detector.handle_probability(self.now, probability);
        }
        self.detector.decide(self.now);
        self.drain();
    }

    /// No frame comes for so long; timeouts are handled when they are due.
    fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(due) = self.detector.poll_timeout().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.detector.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.detector.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        if !self.draining {
            return;
        }
        let ms = (self.now - self.start).as_millis() as u64;
        self.told.extend(std::iter::from_fn(|| self.detector.poll()).map(|event| (ms, event)));
    }

    /// What was told, in order, but for the probable ends.
    fn names(&self) -> Vec<&'static str> {
        self.all().into_iter().filter(|name| *name != "probable end").collect()
    }

    fn all(&self) -> Vec<&'static str> {
        let name = |(_, event): &(u64, Heard)| match event {
            Heard::Onset { .. } => "onset",
            Heard::Started { .. } => "started",
            Heard::Dismissed { .. } => "dismissed",
            Heard::ProbableEnd { .. } => "probable end",
            Heard::SoftEnd { .. } => "soft end",
            Heard::Resumed { .. } => "resumed",
            Heard::HardEnd { .. } => "hard end",
            Heard::TooLong { .. } => "too long",
        };
        self.told.iter().map(name).collect()
    }

    /// When the `nth` event of a name was told, counted from 0.
    fn at(&self, name: &str, nth: usize) -> u64 {
        self.all().iter().zip(&self.told).filter(|(told, _)| **told == name).nth(nth).expect(name).1.0
    }

    fn ms(&self, at: Instant) -> u64 {
        (at - self.start).as_millis() as u64
    }

    /// Time of telling, speech end and end sample of the `nth` probable or soft end.
    fn end(&self, name: &str, nth: usize) -> (u64, u64, u64) {
        let told = self.all().into_iter().zip(&self.told).filter(|(told, _)| *told == name).nth(nth).expect(name).1;
        let (Heard::ProbableEnd { speech_end, end_sample } | Heard::SoftEnd { speech_end, end_sample }) = told.1 else {
            panic!("{told:?}")
        };
        (told.0, self.ms(speech_end), end_sample)
    }

    /// 320 ms of a quiet line, 640 ms of voice.
    fn speaking() -> Self {
        let mut ear = Self::new(limits());
        ear.hear(10, 0.02, QUIET);
        ear.hear(20, 0.95, LOUD);
        ear
    }
}

#[test]
fn an_utterance_starts_with_its_second_voiced_chunk_and_is_suspected_with_the_first() {
    let mut ear = Ear::new(limits());
    ear.hear(10, 0.02, QUIET);
    ear.hear(2, 0.9, LOUD);
    // Chunks end at 352 and 384 ms; the frames that complete them at 360 and 400.
    let at = |ms| ear.start + Duration::from_millis(ms);
    assert_eq!(
        ear.told,
        [
            (360, Heard::Onset { at: at(360), sample: 2560 }),
            (400, Heard::Started { onset_sample: 2560, onset: at(340), at: at(400) })
        ]
    );
}

#[test]
fn a_click_is_not_an_utterance() {
    let mut ear = Ear::new(limits());
    ear.hear(10, 0.02, QUIET);
    for _ in 0..5 {
        ear.hear(1, 0.9, LOUD);
        ear.hear(2, 0.1, QUIET);
    }
    ear.hear(40, 0.02, QUIET);
    assert_eq!(ear.names(), ["onset", "dismissed"].repeat(5));
}

#[test]
fn a_gap_of_one_chunk_does_not_end_an_onset() {
    let mut ear = Ear::new(limits());
    ear.hear(1, 0.9, LOUD);
    ear.hear(1, 0.2, QUIET);
    ear.hear(1, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started"]);
}

#[test]
fn the_minimum_speech_is_reached_with_a_whole_chunk() {
    let mut ear = Ear::new(Limits { minimum_speech: Duration::from_millis(100), ..limits() });
    ear.hear(3, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset"]);
    ear.hear(1, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started"]);
}

#[test]
fn the_ends_count_from_the_fall_of_the_level_and_not_from_the_probabilities() {
    let mut ear = Ear::speaking();
    // The voice ends at 960 ms, the probabilities 160 ms later.
    ear.hear(5, 0.8, QUIET);
    ear.hear(30, 0.05, QUIET);
    assert_eq!(ear.all(), ["onset", "started", "probable end", "soft end", "hard end"]);
    assert_eq!(ear.end("probable end", 0), (1080, 960, 960 * 8));
    let (soft_at, speech_end, end_sample) = ear.end("soft end", 0);
    assert_eq!((speech_end, end_sample), (960, 960 * 8));
    assert_eq!(soft_at, 960 + 240);
    let (hard_at, hard) = ear.told[4];
    assert_eq!(hard, Heard::HardEnd { onset_sample: 2560, end_sample });
    assert_eq!(hard_at, 960 + 760);
}

#[test]
fn a_pause_inside_a_number_is_not_an_end() {
    let mut ear = Ear::speaking();
    for _ in 0..4 {
        ear.hear(5, 0.05, QUIET);
        ear.hear(10, 0.95, LOUD);
    }
    assert_eq!(ear.all()[..2], ["onset", "started"]);
    assert_eq!(ear.all()[2..], ["probable end", "resumed"].repeat(4), "what was prepared is thrown away at once");
}

#[test]
fn the_end_is_where_the_level_falls_into_the_noise() {
    let mut ear = Ear::new(limits());
    ear.hear(30, 0.02, 1000);
    ear.hear(20, 0.95, LOUD);
    ear.hear(5, 0.8, 1000);
    ear.hear(30, 0.05, 1000);
    let (_, _, end_sample) = ear.end("soft end", 0);
    assert_eq!(end_sample, (30 + 20) * 256);
}

#[test]
fn voice_that_wavers_below_the_threshold_is_still_voice_but_does_not_begin_there() {
    let mut ear = Ear::new(limits());
    ear.hear(10, 0.02, QUIET);
    ear.hear(2, 0.4, LOUD);
    assert!(ear.told.is_empty());
    ear.hear(3, 0.9, LOUD);
    ear.hear(40, 0.4, LOUD);
    assert_eq!(ear.names(), ["onset", "started"]);
    ear.hear(12, 0.3, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end"]);
    ear.hear(4, 0.4, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end"]);
}

#[test]
fn the_sound_before_the_first_probable_chunk_belongs_to_the_utterance() {
    let mut ear = Ear::new(limits());
    ear.hear(10, 0.02, QUIET);
    ear.hear(2, 0.1, LOUD);
    ear.hear(1, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started"]);
    // 320 ms, to the frame.
    assert!(matches!(ear.told[1].1, Heard::Started { onset_sample: 2560, .. }), "{:?}", ear.told[1]);
}

#[test]
fn nothing_before_the_end_of_an_utterance_belongs_to_the_next() {
    let mut ear = Ear::new(Limits { max_utterance: Duration::from_secs(1), ..limits() });
    ear.hear(40, 0.95, LOUD);
    let (_, Heard::TooLong { end_sample, .. }) = ear.told[2] else { unreachable!() };
    let (_, Heard::Started { onset_sample, .. }) = ear.told[4] else { unreachable!() };
    assert!(onset_sample >= end_sample - 256, "{onset_sample} after {end_sample}");
}

#[test]
fn in_the_pause_a_rising_level_with_a_first_sign_of_voice_is_enough() {
    let mut ear = Ear::speaking();
    ear.hear(13, 0.05, QUIET);
    ear.hear(1, 0.3, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end"]);
    ear.hear(1, 0.3, LOUD);
    ear.hear(2, 0.2, LOUD);
    ear.hear(10, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed"]);
}

#[test]
fn the_hard_end_waits_for_the_probability_of_a_sound_that_has_just_begun() {
    let mut ear = Ear::speaking();
    ear.hear(21, 0.05, QUIET);
    ear.hear(3, 0.1, LOUD);
    ear.hear(10, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed"]);
    let mut noise = Ear::speaking();
    noise.hear(21, 0.05, QUIET);
    noise.hear(10, 0.1, LOUD);
    assert_eq!(noise.names(), ["onset", "started", "soft end", "hard end"]);
    assert!((960 + 750 + 200..=960 + 750 + 250 + 20).contains(&noise.at("hard end", 0)));
}

#[test]
fn one_voiced_chunk_takes_a_soft_end_back_and_the_utterance_is_one() {
    let mut ear = Ear::speaking();
    ear.hear(15, 0.05, QUIET);
    let before = ear.frames * 20;
    ear.hear(20, 0.95, LOUD);
    ear.hear(40, 0.05, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed", "soft end", "hard end"]);
    assert!(ear.at("resumed", 0) <= before + 40);
    assert!(matches!(ear.told.last().unwrap().1, Heard::HardEnd { onset_sample: 2560, .. }));
}

#[test]
fn a_pause_as_long_as_the_hard_end_is_not_one_when_the_voice_comes_back() {
    let mut ear = Ear::speaking();
    // 700 ms by level; the probabilities fall 160 ms late and rise at once.
    ear.hear(5, 0.8, QUIET);
    ear.hear(17, 0.05, QUIET);
    ear.hear(10, 0.95, LOUD);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed"]);
}

#[test]
fn a_click_in_the_pause_gives_the_soft_end_back_and_does_not_move_the_hard_end() {
    let hear = |click: f32| {
        let mut ear = Ear::speaking();
        ear.hear(14, 0.05, QUIET);
        ear.hear(1, click, LOUD);
        ear.hear(30, 0.05, QUIET);
        ear
    };
    let (silence, click) = (hear(0.05), hear(0.9));
    assert_eq!(click.names(), ["onset", "started", "soft end", "resumed", "soft end", "hard end"]);
    let ((_, speech_end, end_sample), (_, again, same)) = (click.end("soft end", 0), click.end("soft end", 1));
    assert_eq!((speech_end, end_sample), (again, same));
    assert_eq!(click.at("hard end", 0), silence.at("hard end", 0));
    assert!(click.at("soft end", 1) - click.at("resumed", 0) <= 140);
}

#[test]
fn a_click_at_the_hard_end_delays_it_only_until_it_is_known_to_be_one() {
    let mut ear = Ear::speaking();
    ear.hear(20, 0.05, QUIET);
    ear.hear(1, 0.9, LOUD);
    ear.hear(4, 0.05, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed", "soft end", "hard end"]);
}

#[test]
fn when_media_stops_the_wall_clock_ends_the_turn() {
    let mut ear = Ear::speaking();
    let last = ear.frames * 20;
    ear.wait(2000);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "hard end"]);
    assert_eq!((ear.at("soft end", 0), ear.at("hard end", 0)), (last + 240, last + 750));
    assert_eq!(ear.end("soft end", 0).1, last);
    assert_eq!(ear.detector.poll_timeout(), None);
}

#[test]
fn the_wall_clock_does_not_overtake_frames_that_come() {
    let mut ear = Ear::speaking();
    for _ in 0..10 {
        ear.now += PTIME;
        ear.frame(0.05, QUIET);
    }
    ear.now += Duration::from_millis(50);
    ear.detector.handle_timeout(ear.now);
    ear.drain();
    assert_eq!(ear.names(), ["onset", "started"]);
    assert!(ear.detector.poll_timeout().unwrap() > ear.now);
}

#[test]
fn an_onset_that_media_leaves_alone_is_forgotten() {
    let mut ear = Ear::new(limits());
    ear.hear(10, 0.02, QUIET);
    ear.hear(1, 0.9, LOUD);
    ear.wait(1000);
    assert_eq!(ear.detector.poll_timeout(), None);
    ear.hear(1, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "dismissed", "onset"]);
}

#[test]
fn a_burst_of_late_frames_decides_as_the_same_frames_at_their_pace() {
    let run = |burst: bool| {
        let mut ear = Ear::speaking();
        for frame in 0..60 {
            if !burst {
                ear.now += PTIME;
            }
            ear.frame(if frame < 3 { 0.8 } else { 0.05 }, QUIET);
        }
        let positions: Vec<_> = ear
            .told
            .iter()
            .map(|(_, event)| match *event {
                Heard::SoftEnd { end_sample, .. } | Heard::HardEnd { end_sample, .. } => end_sample,
                _ => 0,
            })
            .collect();
        (ear.names(), positions)
    };
    assert_eq!(run(true), run(false));
    assert_eq!(run(true).0.len(), 4);
}

#[test]
fn keys_keep_an_utterance_open() {
    let mut ear = Ear::speaking();
    for _ in 0..10 {
        ear.hear(6, 0.05, QUIET);
        ear.detector.keep_open(ear.now);
        ear.drain();
    }
    assert_eq!(ear.all()[..2], ["onset", "started"]);
    assert_eq!(ear.all()[2..], ["probable end", "resumed"].repeat(10));
    ear.told.truncate(2);
    ear.hear(12, 0.05, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end"]);
    ear.detector.keep_open(ear.now);
    ear.drain();
    ear.hear(30, 0.05, QUIET);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "resumed", "soft end", "hard end"]);
    ear.detector.keep_open(ear.now);
    ear.hear(60, 0.05, QUIET);
    assert_eq!(ear.names().len(), 6, "keys alone are not an utterance");
}

#[test]
fn while_the_box_is_heard_speech_must_be_clearer_than_its_first_sign() {
    let mut ear = Ear::new(limits());
    ear.detector.set_playing(true);
    ear.hear(20, 0.55, LOUD);
    assert!(ear.names().contains(&"onset") && !ear.names().contains(&"started"), "{:?}", ear.names());
    ear.hear(2, 0.65, LOUD);
    assert_eq!(ear.names().last(), Some(&"started"));
    let mut quiet = Ear::new(limits());
    quiet.detector.set_playing(true);
    quiet.detector.set_playing(false);
    quiet.hear(2, 0.55, LOUD);
    assert_eq!(quiet.names(), ["onset", "started"]);
}

#[test]
fn while_the_box_is_heard_a_rising_sound_pauses_it_before_it_sounds_like_voice() {
    let mut ear = Ear::new(limits());
    ear.detector.set_playing(true);
    ear.hear(60, 0.02, QUIET);
    ear.hear(3, 0.05, 300);
    assert_eq!(ear.names(), ["onset"], "a consonant");
    ear.detector.set_playing(false);
    ear.hear(2, 0.9, LOUD);
    assert_eq!(ear.names(), ["onset", "started"]);
    let mut noisy = Ear::new(limits());
    noisy.detector.set_playing(true);
    noisy.hear(60, 0.02, QUIET);
    noisy.hear(12, 0.05, 300);
    assert_eq!(
        noisy.names(),
        ["onset", "dismissed"],
        "what goes on without sounding like voice is none, and is known from then on"
    );
    let mut heard_alone = Ear::new(limits());
    heard_alone.hear(60, 0.02, QUIET);
    heard_alone.hear(12, 0.05, 300);
    assert!(heard_alone.names().is_empty(), "nothing is to be paused");
}

#[test]
fn the_boxs_own_voice_that_comes_back_does_not_make_it_pause() {
    let mut ear = Ear::new(limits());
    ear.hear(40, 0.02, QUIET);
    ear.detector.set_playing(true);
    ear.hear(200, 0.05, 300);
    assert!(ear.names().is_empty(), "{:?}", ear.names());
    ear.hear(3, 0.05, LOUD);
    assert_eq!(ear.names(), ["onset"], "a louder one is another's");
}

#[test]
fn an_endless_utterance_is_cut_and_goes_on_as_another() {
    let mut ear = Ear::new(Limits { max_utterance: Duration::from_secs(2), ..limits() });
    ear.hear(130, 0.95, LOUD);
    assert_eq!(ear.names()[..6], ["onset", "started", "too long", "onset", "started", "too long"]);
    let (_, Heard::TooLong { onset_sample, end_sample }) = ear.told[2] else { unreachable!() };
    assert_eq!((onset_sample, end_sample), (0, 16_000));
}

#[test]
fn what_nobody_drains_is_bounded_and_counted() {
    let mut ear = Ear::new(limits());
    for _ in 0..100 {
        ear.draining = false;
        ear.hear(1, 0.9, LOUD);
        ear.hear(4, 0.0, QUIET);
    }
    ear.draining = true;
    ear.drain();
    assert_eq!(ear.told.len(), EVENTS);
    assert_eq!(ear.detector.dropped_events(), 200 - EVENTS as u64);
}

#[test]
fn nonsense_is_not_speech_and_never_a_panic() {
    let mut ear = Ear::new(Limits { hard_end: Duration::ZERO, ..limits() });
    for probability in [f32::NAN, f32::NEG_INFINITY, -1.0] {
        ear.hear(20, probability, i16::MIN);
    }
    assert!(ear.told.is_empty());
    ear.hear(3, f32::INFINITY, i16::MIN);
    ear.hear(40, f32::NAN, 0);
    ear.detector.handle_timeout(ear.start);
    assert_eq!(ear.names(), ["onset", "started", "soft end", "hard end"]);
}
