//! The ear in virtual time, with an engine that writes down what it is told.

use std::sync::Mutex;

use super::*;
use crate::model::{Fault, FaultClass, Stage};
use crate::pcm::SILENCE;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the engine was told: `"started"`, `"ended"`, or samples.
type Told = Arc<Mutex<Vec<String>>>;

struct Engine(Told, u32);

impl Engine {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Listening for Engine {
    fn started(&mut self) -> u32 {
        self.note("started");
        self.1 += 1;
        self.1
    }

    fn audio(&mut self, samples: &[i16]) {
        self.note(samples[0].to_string());
    }

    fn ended(&mut self) {
        self.note("ended");
    }

    fn dropped(&self) -> u64 {
        0
    }
}

fn ear() -> (Ear, Told, Instant) {
    let told = Told::default();
    let mut config = Config::default();
    config.hearing.pre_roll = ms(60);
    (Ear::new(&config, Some(Box::new(Engine(told.clone(), 0)))), told, Instant::now())
}

/// Frames `from..to`, each with its number in it.
fn hear(ear: &mut Ear, from: u64, to: u64) {
    for number in from..to {
        let mut samples = SILENCE;
        samples.fill(number as i16);
        ear.hear(HeardFrame { first_sample: number * FRAME_SAMPLES as u64, samples, wide: false });
    }
}

fn wanted(generation: Generation, speech_end: Instant, speculative: bool) -> Wanted {
    Wanted { generation, turn: 1, speech_end, speculative, history: [].into() }
}

fn interim(ear: &mut Ear, utterance: u32, text: &str) {
    ear.recognised(Recognition { utterance, what: Recognised::Interim(text.into()) });
}

fn whole(ear: &mut Ear, utterance: u32, text: &str) {
    ear.recognised(Recognition { utterance, what: Recognised::Final { text: text.into(), language: None } });
}

fn lost(ear: &mut Ear) {
    let fault =
        Fault { class: FaultClass::Network, stage: Stage::Waiting, model: "x".into(), http: None, note: String::new() };
    ear.recognised(Recognition { utterance: 1, what: Recognised::Lost(fault) });
}

/// What is asked, by number and text, `-` for the sound; `!` for an answer that is asked for in vain. Hints are left out.
fn asked(ear: &mut Ear) -> Vec<String> {
    std::iter::from_fn(|| ear.poll())
        .filter_map(|step| match step {
            Step::Hint(_) => None,
            Step::Ask { wanted, text } => Some(format!("{} {}", wanted.generation, text.as_deref().unwrap_or("-"))),
            Step::Otherwise { generation } => Some(format!("{generation} !")),
        })
        .collect()
}

fn hints(ear: &mut Ear) -> Vec<Hint> {
    std::iter::from_fn(|| ear.poll())
        .filter_map(|step| if let Step::Hint(hint) = step { Some(hint) } else { None })
        .collect()
}

/// An ear whose caller has said something and probably finished.
fn spoken() -> (Ear, Told, Instant) {
    let (mut ear, told, now) = ear();
    ear.began(0);
    hear(&mut ear, 0, 50);
    ear.ended();
    (ear, told, now)
}

#[test]
fn an_utterance_is_given_with_what_was_before_it_once_and_without_the_silence_behind_it() {
    let (mut ear, told, _) = ear();
    hear(&mut ear, 0, 20);
    ear.began(15 * FRAME_SAMPLES as u64);
    hear(&mut ear, 20, 22);
    ear.ended();
    ear.ended();
    hear(&mut ear, 22, 25);
    ear.resumed();
    hear(&mut ear, 25, 26);
    ear.finished(15 * FRAME_SAMPLES as u64);
    ear.utterance_over();
    hear(&mut ear, 26, 30);
    ear.began(29 * FRAME_SAMPLES as u64);
    let frames = |range: std::ops::Range<u32>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    let (one, end) = (vec!["started".to_owned()], vec!["ended".to_owned()]);
    let wanted = [&one[..], &frames(12..22), &end, &frames(22..26), &end, &one, &frames(26..30)].concat();
    assert_eq!(*told.lock().unwrap(), wanted);
    assert_eq!([ear.take_given(), ear.take_given()], [ms(18 * 20), ms(0)]);
}

#[test]
fn without_an_engine_the_model_is_given_the_sound_at_once() {
    let mut ear = Ear::new(&Config::default(), None);
    let now = Instant::now();
    ear.began(0);
    hear(&mut ear, 0, 5);
    ear.finished(0);
    ear.ask(now, wanted(1, now, false));
    assert_eq!((asked(&mut ear), ear.poll_timeout(), ear.turn_over()), (vec!["1 -".to_owned()], None, None));
}

#[test]
fn a_request_waits_for_the_whole_text_and_takes_the_words_so_far_and_then_the_sound_when_it_does_not_come() {
    let (mut ear, _, now) = spoken();
    ear.ask(now, wanted(1, now, false));
    assert_eq!((asked(&mut ear).len(), ear.poll_timeout()), (0, Some(now + ms(700))));
    whole(&mut ear, 1, "Where is it?");
    assert_eq!(asked(&mut ear), ["1 Where is it?"]);
    // Asked again, it is there already.
    ear.ask(now, wanted(2, now, false));
    assert_eq!(asked(&mut ear), ["2 Where is it?"]);

    for (words, taken) in [(Some("where is"), "1 where is"), (None, "1 -")] {
        let (mut ear, _, now) = spoken();
        words.into_iter().for_each(|words| interim(&mut ear, 1, words));
        ear.ask(now, wanted(1, now, false));
        ear.handle_timeout(now + ms(699));
        assert!(asked(&mut ear).is_empty());
        ear.handle_timeout(now + ms(700));
        assert_eq!((asked(&mut ear), ear.poll_timeout()), (vec![taken.to_owned()], None));
    }
    let (mut ear, _, now) = spoken();
    ear.ask(now + ms(701), wanted(1, now, false));
    assert_eq!(asked(&mut ear), ["1 -"], "there is no time left");
}

#[test]
fn an_early_request_takes_the_words_so_far_and_is_made_again_when_the_whole_is_otherwise() {
    let (mut ear, _, now) = spoken();
    interim(&mut ear, 1, "where is my order");
    ear.ask(now, wanted(1, now, true));
    assert_eq!(asked(&mut ear), ["1 where is my order"]);
    whole(&mut ear, 1, "Where is my order?");
    assert!(asked(&mut ear).is_empty(), "it is the same");

    let (mut ear, _, now) = spoken();
    interim(&mut ear, 1, "where is my");
    ear.ask(now, wanted(1, now, true));
    whole(&mut ear, 1, "Where is my order?");
    assert_eq!(asked(&mut ear), ["1 where is my", "1 !"]);
    ear.ask(now, wanted(2, now, true));
    assert_eq!(asked(&mut ear), ["2 Where is my order?"]);
    whole(&mut ear, 1, "Where is my border?");
    assert!(asked(&mut ear).is_empty(), "what was asked with a whole text stands");

    let (mut ear, _, now) = spoken();
    ear.ask(now, wanted(1, now, true));
    assert!(asked(&mut ear).is_empty(), "without a word it waits");
    ear.cancel(1);
    whole(&mut ear, 1, "Yes");
    assert!(asked(&mut ear).is_empty() && ear.poll_timeout().is_none());
}

#[test]
fn a_text_from_before_the_caller_went_on_is_not_the_whole() {
    let (mut ear, _, now) = spoken();
    ear.resumed();
    whole(&mut ear, 1, "my number is");
    ear.ended();
    ear.ask(now, wanted(1, now, false));
    assert!(asked(&mut ear).is_empty());
    whole(&mut ear, 1, "my number is five");
    assert_eq!(asked(&mut ear), ["1 my number is five"]);
}

#[test]
fn a_lost_engine_is_not_waited_for_until_it_is_back() {
    let (mut ear, _, now) = spoken();
    interim(&mut ear, 1, "where");
    ear.ask(now, wanted(1, now, false));
    lost(&mut ear);
    assert_eq!(asked(&mut ear), ["1 -"], "words that were cut are none");
    ear.ask(now, wanted(2, now, true));
    assert_eq!(asked(&mut ear), ["2 -"]);
    interim(&mut ear, 1, "where is");
    ear.ask(now, wanted(3, now, false));
    assert!(asked(&mut ear).is_empty());
    whole(&mut ear, 1, "");
    assert_eq!(asked(&mut ear), ["3 -"], "where nothing was recognised, the model may hear something");
}

#[test]
fn a_turn_is_all_its_utterances_but_not_what_was_passed_over_nor_what_belongs_to_the_next() {
    let (mut ear, _, now) = spoken();
    whole(&mut ear, 1, "I need a taxi");
    ear.finished(0);
    ear.utterance_over();
    ear.began(60 * 160);
    ear.ended();
    ear.forget();
    whole(&mut ear, 2, "uh");
    ear.utterance_over();
    ear.began(70 * 160);
    ear.ended();
    whole(&mut ear, 3, "for tomorrow");
    ear.ask(now, wanted(1, now, false));
    assert_eq!(asked(&mut ear), ["1 I need a taxi for tomorrow"]);
    ear.utterance_over();
    ear.began(80 * 160);
    interim(&mut ear, 4, "and");
    assert_eq!(ear.turn_over().as_deref(), Some("I need a taxi for tomorrow and"));
    assert_eq!(ear.text().as_deref(), Some("and"));
    ear.ended();
    ear.utterance_over();
    assert_eq!(ear.turn_over().as_deref(), Some("and"));
    assert_eq!(ear.turn_over(), None);
}

#[test]
fn a_sound_that_was_passed_over_and_was_the_answer_has_its_words() {
    let (mut ear, _, now) = spoken();
    ear.forget();
    whole(&mut ear, 1, "yes");
    ear.ask(now, wanted(1, now, false));
    assert_eq!(asked(&mut ear), ["1 yes"]);
}

#[test]
fn words_say_whether_the_caller_has_finished_as_they_come_and_again_when_silence_begins() {
    let (mut ear, _, _) = ear();
    ear.began(0);
    interim(&mut ear, 1, "My number is five five");
    interim(&mut ear, 1, "My number is five five, thank you");
    ear.ended();
    assert_eq!(hints(&mut ear), [Hint::Open, Hint::Unknown, Hint::Unknown]);
    interim(&mut ear, 1, "What time do you close?");
    whole(&mut ear, 1, "My number is 555.");
    assert_eq!(hints(&mut ear), [Hint::Closed, Hint::Open], "the full stop is of our own making");
}

#[test]
fn texts_are_compared_by_their_words() {
    assert_eq!(normalised(" Where's  my ORDER? "), normalised("wheres my order"));
    assert_eq!(normalised("שָׁלוֹם, מה־נשמע"), normalised("שלום מה נשמע"));
    assert_ne!(normalised("where is my"), normalised("where is my order"));
}

#[test]
fn a_pause_asks_for_the_whole_text_only_where_requests_leave_early() {
    for (early, told_of_the_pause) in [(true, 1), (false, 0)] {
        let (mut ear, told, _) = ear();
        ear.early = early;
        ear.began(0);
        interim(&mut ear, 1, "five five");
        ear.paused();
        let ends = || told.lock().unwrap().iter().filter(|told| *told == "ended").count();
        assert_eq!((ends(), hints(&mut ear)), (told_of_the_pause, vec![Hint::Open, Hint::Open]));
        ear.ended();
        assert_eq!(ends(), 1);
    }
}
