//! The machine in virtual time, with a model that writes down what it is told.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::model::{FaultClass, Stage};

/// What a model was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Started,
    /// Samples of one value, so many.
    Audio(i16, usize),
    Ended,
    Results(usize),
}
use Order::{Audio, Ended, Results, Started};

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Order>>>);

impl Diary {
    fn write(&self, order: Order) {
        let mut orders = self.0.lock().unwrap();
        match (orders.last_mut(), order) {
            (Some(Audio(value, samples)), Audio(same, more)) if *value == same => *samples += more,
            _ => orders.push(order),
        }
    }

    fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Talking for Diary {
    fn started(&mut self) {
        self.write(Started);
    }

    fn audio(&mut self, samples: &[i16]) {
        self.write(Audio(samples[0], samples.len()));
    }

    fn ended(&mut self) {
        self.write(Ended);
    }

    fn results(&mut self, results: Vec<FunctionResult>) {
        self.write(Results(results.len()));
    }

    fn dropped(&self) -> u64 {
        0
    }
}

struct Bench {
    speech: Speech,
    told: Diary,
    now: Instant,
}

const FRAME: u64 = FRAME_SAMPLES as u64;

impl Bench {
    fn new() -> Self {
        let told = Diary::default();
        let guard = Guard::new("one two three four five six seven eight", 6);
        let speech = Speech::new(&Config::default(), Some(Box::new(told.clone())), guard);
        Self { speech, told, now: Instant::now() }
    }

    fn hear(&mut self, frame: u64, value: i16) {
        self.speech.hear(&HeardFrame { first_sample: frame * FRAME, samples: [value; FRAME_SAMPLES], wide: false });
    }

    /// Has the caller speak up to `end`, and be answered.
    fn ask(&mut self, generation: Generation, end: u64) {
        if let Some(from) = self.speech.owes(0) {
            self.speech.start(&vec![9; (end * FRAME - from) as usize], end * FRAME);
        }
        self.speech.ask(self.now, generation);
        while self.speech.unnoticed > 0 {
            assert!(self.tell(Told::Listening) == Step::Nothing);
        }
        self.told.take();
    }

    fn tell(&mut self, told: Told) -> Step {
        self.speech.told(told)
    }

    fn sounds(&mut self) -> bool {
        matches!(self.tell(Told::Sound(vec![1; 160])), Step::Sound { .. })
    }

    fn over(&mut self) -> Option<(Generation, Outcome)> {
        match self.tell(Told::TurnOver) {
            Step::Ended { generation, outcome } => Some((generation, outcome)),
            _ => None,
        }
    }
}

fn call() -> FunctionCall {
    FunctionCall { id: "1".into(), name: "f".into(), args: json!({}), raw: json!(null) }
}

fn result() -> FunctionResult {
    FunctionResult { id: "1".into(), name: "f".into(), response: json!({}) }
}

#[test]
fn an_utterance_is_told_from_its_pre_roll_on_and_its_end_when_an_answer_is_asked_for() {
    let mut bench = Bench::new();
    bench.hear(99, 5);
    // 300 ms before the onset.
    bench.speech.began(100 * FRAME);
    assert_eq!(bench.speech.is_due(), Some(85 * FRAME));
    bench.speech.start(&[1; 20 * FRAME_SAMPLES], 105 * FRAME);
    bench.hear(105, 2);
    bench.speech.ask(bench.now, 1);
    bench.hear(106, 3);
    assert_eq!(bench.told.take(), [Started, Audio(1, 20 * FRAME_SAMPLES), Audio(2, FRAME_SAMPLES), Ended]);
}

#[test]
fn who_goes_on_after_the_end_is_told_from_where_the_model_was_left() {
    let mut bench = Bench::new();
    bench.speech.began(100 * FRAME);
    bench.speech.start(&[1; 160], 110 * FRAME);
    bench.speech.ask(bench.now, 1);
    bench.speech.stop(1);
    bench.speech.resumed();
    assert_eq!(bench.speech.is_due(), Some(110 * FRAME));
    // What was told before that of the first half is nobody's.
    assert!(!bench.sounds());
    bench.speech.start(&[2; 160], 130 * FRAME);
    bench.speech.ask(bench.now, 2);
    bench.tell(Told::Listening);
    assert!(!bench.sounds(), "the model does not know of the second beginning");
    bench.tell(Told::Listening);
    assert!(bench.sounds());
    assert_eq!(bench.told.take(), [Started, Audio(1, 160), Ended, Started, Audio(2, 160), Ended]);
}

#[test]
fn a_sound_that_is_passed_over_is_never_told_unless_it_was_the_answer_after_all() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    bench.speech.began(100 * FRAME);
    bench.hear(100, 1);
    bench.speech.forget();
    bench.speech.utterance_over();
    assert_eq!((bench.speech.is_due(), bench.told.take()), (None, vec![]));
    assert!(bench.sounds(), "the answer goes on");
    assert_eq!(bench.speech.owes(7), Some(85 * FRAME));
    bench.speech.began(200 * FRAME);
    assert_eq!(bench.speech.owes(7), Some(185 * FRAME), "another utterance is what counts");
}

#[test]
fn an_answer_is_over_with_its_sound_and_words_may_follow() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    assert!(bench.tell(Told::Complete) == Step::Nothing);
    assert!(bench.sounds());
    assert!(bench.tell(Told::Complete) == Step::Ended { generation: 1, outcome: Outcome::Complete });
    let said = Step::Said { generation: 1, text: "yes".into() };
    assert!(bench.tell(Told::Said("yes".into())) == said);
    assert!(!bench.sounds());
    assert_eq!(bench.over(), None);
    assert!(bench.tell(Told::Said("yes".into())) == Step::Nothing);
}

#[test]
fn a_model_that_is_silent_or_says_nothing_is_left_for_good() {
    let mut silent = Bench::new();
    silent.ask(3, 50);
    let at = silent.speech.poll_timeout().unwrap();
    assert_eq!(at, silent.now + Config::default().live.first_sound);
    assert!(silent.speech.handle_timeout(at - Duration::from_millis(1)) == Step::Nothing);
    assert!(silent.speech.handle_timeout(at) == Step::Lost { generation: Some(3) });
    assert!(!silent.speech.is_there() && silent.speech.poll_timeout().is_none());

    for told in [Told::TurnOver, Told::CutOff] {
        let mut mute = Bench::new();
        mute.ask(3, 50);
        assert!(mute.tell(told) == Step::Lost { generation: Some(3) });
    }
    let mut lost = Bench::new();
    let fault =
        Fault { class: FaultClass::Auth, stage: Stage::Request, model: "m".into(), http: None, note: "".into() };
    assert!(lost.tell(Told::Lost(fault)) == Step::Lost { generation: None });
}

#[test]
fn an_answer_that_breaks_off_stands_and_the_model_stays() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    assert!(bench.sounds());
    assert_eq!(bench.speech.poll_timeout(), None);
    assert!(bench.tell(Told::CutOff) == Step::Ended { generation: 1, outcome: Outcome::Truncated });
    assert!(bench.speech.is_there());
}

#[test]
fn functions_are_waited_for_and_the_sound_after_them_is_another_phrase() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    assert!(bench.sounds() && bench.speech.open_mouth() && !bench.speech.open_mouth());
    assert!(bench.tell(Told::Calls(vec![call()])) == Step::Calls { generation: 1, calls: vec![call()] });
    assert!(bench.over().is_none() && bench.speech.poll_timeout().is_none(), "functions run");
    let later = bench.now + Duration::from_secs(1);
    assert!(!bench.speech.results(later, 2, vec![result()]));
    assert!(bench.speech.results(later, 1, vec![result()]));
    assert_eq!(bench.told.take(), [Results(1)]);
    assert_eq!(bench.speech.poll_timeout(), Some(later + Config::default().live.first_sound));
    assert!(bench.sounds() && bench.speech.open_mouth());
    // A model that never has enough is stopped.
    for _ in 0..3 {
        assert!(matches!(bench.tell(Told::Calls(vec![call()])), Step::Calls { .. }));
        bench.speech.results(later, 1, vec![result()]);
    }
    assert!(bench.tell(Told::Calls(vec![call()])) == Step::Ended { generation: 1, outcome: Outcome::Failed });
}

#[test]
fn a_model_that_only_wants_the_call_to_end_may_be_silent() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    bench.tell(Told::Calls(vec![call()]));
    bench.speech.controls(1);
    bench.speech.results(bench.now, 1, vec![result()]);
    assert_eq!(bench.over(), Some((1, Outcome::Complete)));
}

#[test]
fn an_answer_that_repeats_the_instruction_is_not_spoken_on() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    assert!(
        bench.tell(Told::Said("one two three ".into())) == Step::Said { generation: 1, text: "one two three ".into() }
    );
    assert!(bench.tell(Told::Said("four five six".into())) == Step::Reveals { generation: 1 });
    assert!(!bench.sounds());
}

#[test]
fn silence_before_the_first_word_is_left_out_to_a_limit() {
    let mut bench = Bench::new();
    // A voice that is known is not held back for longer than the 10 ms of its limiter and its end.
    bench.speech.loudness.learn(-20.0, Duration::from_secs(1), false);
    bench.ask(1, 50);
    let voice =
        |silent: usize, voiced: usize| [vec![0; silent * FRAME_SAMPLES], vec![4000; voiced * FRAME_SAMPLES]].concat();
    let mut spoken =
        |samples: Vec<i16>| bench.speech.speak(samples).map(|samples| samples.len().div_ceil(FRAME_SAMPLES));
    assert_eq!(spoken(voice(1, 1)), None, "nobody plays it");
    bench.speech.open_mouth();
    let mut sound = bench.speech.take_sound().unwrap();
    let mut spoken =
        |samples: Vec<i16>| bench.speech.speak(samples).map(|samples| samples.len().div_ceil(FRAME_SAMPLES));
    assert_eq!([spoken(voice(10, 0)), spoken(voice(5, 2)), spoken(voice(3, 1))], [Some(0), Some(3), Some(4)]);
    assert_eq!(sound.try_recv().unwrap().len().div_ceil(FRAME_SAMPLES), 3);
    drop(sound);
    assert_eq!(bench.speech.speak(voice(0, 1)), None);
    bench.speech.stop(1);
    bench.ask(2, 60);
    bench.speech.open_mouth();
    let _sound = bench.speech.take_sound();
    let mut spoken =
        |samples: Vec<i16>| bench.speech.speak(samples).map(|samples| samples.len().div_ceil(FRAME_SAMPLES));
    assert_eq!([spoken(voice(40, 0)), spoken(voice(20, 0))], [Some(0), Some(11)]);
}

#[test]
fn what_the_caller_was_heard_to_say_belongs_to_the_turn() {
    let mut bench = Bench::new();
    bench.ask(1, 50);
    for text in ["a taxi", " for"] {
        bench.tell(Told::Heard(text.into()));
    }
    bench.speech.resumed();
    bench.speech.start(&[1; 160], 60 * FRAME);
    bench.tell(Told::Listening);
    bench.tell(Told::Heard("tomorrow".into()));
    assert_eq!(bench.speech.turn_over().as_deref(), Some("a taxi for tomorrow"));
    assert_eq!(bench.speech.turn_over(), None);
}
