//! The speech-to-speech dialogue over real sockets, with a face that checks what the real API checks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use offhook::gemini::live::{self, Live, Opening, SpeechDialogue, Talking, Told};
use offhook::http::{BaseUrl, Http};
use offhook::model::{END_CALL, FaultClass, FunctionResult};
use offhook::pcm::FRAME_SAMPLES;
use offhook::privacy::Secret;
use offhook::simulator::faces::ears::{EarFault, Ears};
use offhook::simulator::faces::live_speech::Mouth;
use offhook::simulator::faces::{FaceOptions, Faces};
use tokio::sync::mpsc;

/// Long enough for a loaded machine; nothing here waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const MODEL: &str = "gemini-3.8-live";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Dialogue {
    live: Live,
    talking: Box<dyn Talking>,
    told: mpsc::Receiver<Told>,
    options: FaceOptions,
    _faces: Faces,
}

/// What is told of an answer until a turn is over: samples of sound, words, and how it went.
#[derive(Debug, Default)]
struct Answer {
    samples: usize,
    words: String,
    heard: String,
    marks: Vec<&'static str>,
}

#[allow(clippy::needless_update, reason = "the other faces have options, too")]
fn options(answers: &[&str]) -> FaceOptions {
    FaceOptions {
        ears: Ears { texts: vec!["where is my order".into(), "and now".into(), "really".into()], ..Ears::default() },
        mouth: Mouth { answers: answers.iter().map(|&answer| answer.into()).collect(), ..Mouth::default() },
        ..FaceOptions::default()
    }
}

impl Dialogue {
    async fn open(options: FaceOptions) -> Self {
        Self::open_with(options, MODEL, "k-secret").await
    }

    async fn open_with(options: FaceOptions, model: &str, key: &str) -> Self {
        // The process-wide provider of TLS.
        Http::new(ms(1000)).unwrap();
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let faces = Faces::start(any, options.clone()).await.unwrap();
        let base = BaseUrl::parse("live.base_url", &format!("http://{}", faces.address())).unwrap();
        let live = Live::new(base, Secret::new(key), model);
        let (out, told) = mpsc::channel(live::WAITING);
        let opening = Opening {
            model: model.into(),
            voice: Some("Kore".into()),
            system: "You answer the telephone.".into(),
            functions: [END_CALL].into(),
        };
        let talking = live.open(opening, out);
        Self { live, talking, told, options, _faces: faces }
    }

    fn say(&mut self, sound: Duration) {
        self.talking.started();
        self.go_on(sound);
        self.talking.ended();
    }

    fn go_on(&mut self, sound: Duration) {
        for _ in 0..sound.as_millis() / 20 {
            self.talking.audio(&[1000; FRAME_SAMPLES]);
        }
    }

    async fn next(&mut self) -> Told {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("nothing was told").unwrap()
    }

    async fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.next().await {
                Told::Ready => answer.marks.push("ready"),
                Told::Heard(text) => answer.heard += &text,
                Told::Sound(samples) => answer.samples += samples.len(),
                Told::Said(text) => answer.words += &text,
                Told::Calls(_) => answer.marks.push("calls"),
                Told::Withdrawn(_) => answer.marks.push("withdrawn"),
                Told::Interrupted => {
                    answer.marks.push("interrupted");
                    return answer;
                }
                Told::Listening | Told::Used(_) => {}
                Told::Complete => answer.marks.push("complete"),
                Told::CutOff => {
                    answer.marks.push("cut off");
                    return answer;
                }
                Told::TurnOver => return answer,
                Told::Lost(fault) => panic!("{fault}"),
            }
        }
    }

    async fn lost(&mut self) -> offhook::model::Fault {
        loop {
            if let Told::Lost(fault) = self.next().await {
                return fault;
            }
        }
    }
}

#[tokio::test]
async fn the_caller_is_answered_with_sound_at_our_rate_and_both_sides_are_written_down() {
    let mut dialogue = Dialogue::open(options(&["It left yesterday.", "It is there."])).await;
    dialogue.say(ms(1000));
    let answer = dialogue.answer().await;
    assert_eq!((answer.heard.as_str(), answer.words.trim()), ("where is my order", "It left yesterday."));
    assert_eq!((answer.samples, answer.marks), (3 * 10 * FRAME_SAMPLES, vec!["ready", "complete"]));
    dialogue.go_on(ms(500));
    dialogue.say(ms(300));
    let answer = dialogue.answer().await;
    assert_eq!((answer.words.trim(), answer.samples), ("It is there.", 3 * 10 * FRAME_SAMPLES));
    let seen = dialogue.options.ears.seen();
    assert_eq!(seen[0].control, ["activityStart", "activityEnd", "activityStart", "activityEnd"]);
    assert!((ms(1290)..ms(1310)).contains(&seen[0].sound) && seen[0].discarded.is_zero(), "{seen:?}");
    assert_eq!(dialogue.talking.dropped(), 0);
}

#[tokio::test]
async fn a_caller_who_speaks_into_the_answer_stops_it() {
    let mut options = options(&["one two three four five six seven eight", "Sorry."]);
    options.mouth.word_every = ms(20);
    let mut dialogue = Dialogue::open(options).await;
    dialogue.say(ms(500));
    while !matches!(dialogue.next().await, Told::Said(_)) {}
    dialogue.talking.started();
    dialogue.go_on(ms(300));
    let rest = dialogue.answer().await;
    assert_eq!(rest.marks, ["interrupted"]);
    assert!(rest.samples < 7 * 10 * FRAME_SAMPLES, "{rest:?}");
    dialogue.talking.ended();
    // The same answer again: the script counts whole ones.
    assert!(dialogue.answer().await.marks.contains(&"complete"));
}

#[tokio::test]
async fn the_end_of_a_turn_that_was_cut_off_is_not_taken_for_the_end_of_the_next() {
    for _ in 0..5 {
        let mut options = options(&["one two three four five six seven eight"]);
        options.mouth.word_every = ms(5);
        let mut dialogue = Dialogue::open(options).await;
        dialogue.say(ms(500));
        while !matches!(dialogue.next().await, Told::Said(_)) {}
        // Said and ended before the server can tell of the interruption.
        dialogue.say(ms(300));
        assert_eq!(dialogue.answer().await.marks, ["interrupted"]);
        assert_eq!(dialogue.answer().await.words.split_whitespace().count(), 8);
    }
}

#[tokio::test]
async fn functions_are_called_and_their_results_are_spoken_of() {
    let mut options = options(&["It was shipped."]);
    options.mouth.calls = Some((0, "order_status".into()));
    let mut dialogue = Dialogue::open(options).await;
    dialogue.say(ms(500));
    let calls = loop {
        if let Told::Calls(calls) = dialogue.next().await {
            break calls;
        }
    };
    assert_eq!((calls[0].name.as_str(), calls[0].args["order"].as_str()), ("order_status", Some("4721")));
    let response = serde_json::json!({"output": "shipped"});
    let result = FunctionResult { id: calls[0].id.clone(), name: calls[0].name.clone(), response };
    dialogue.talking.results(vec![result]);
    assert_eq!(dialogue.answer().await.words.trim(), "It was shipped.");
    assert_eq!(dialogue.options.mouth.results()[0]["response"]["output"], "shipped");
}

#[tokio::test]
async fn a_connection_that_is_to_be_left_is_left_between_turns_and_the_conversation_is_resumed() {
    let mut options = options(&["One.", "Two."]);
    options.ears.fault = EarFault::GoAway;
    let mut dialogue = Dialogue::open(options).await;
    dialogue.say(ms(300));
    assert_eq!(dialogue.answer().await.words.trim(), "One.");
    assert_eq!(dialogue.next().await, Told::Ready);
    dialogue.say(ms(300));
    assert_eq!(dialogue.answer().await.words.trim(), "Two.");
    let seen = dialogue.options.ears.seen();
    assert!(!seen[0].opening.contains("handle-") && seen[1].opening.contains("\"handle\":\"handle-0\""), "{seen:?}");
}

#[tokio::test]
async fn an_utterance_that_a_broken_connection_cuts_is_said_again() {
    let mut options = options(&["One.", "Two."]);
    options.ears.fault = EarFault::Close { code: 1011, after: ms(300) };
    options.ears.fault_times = 1;
    let mut dialogue = Dialogue::open(options).await;
    dialogue.say(ms(1000));
    assert_eq!(dialogue.answer().await.words.trim(), "One.");
    assert!((ms(990)..ms(1010)).contains(&dialogue.options.ears.seen()[1].sound));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_off_and_the_conversation_goes_on_if_it_can_be_resumed() {
    let mut resumable = options(&["One.", "one two three", "Three."]);
    resumable.mouth.close_after_words = Some((1011, 2));
    let mut dialogue = Dialogue::open(resumable).await;
    dialogue.say(ms(300));
    assert_eq!(dialogue.answer().await.words.trim(), "One.");
    dialogue.say(ms(300));
    let cut = dialogue.answer().await;
    assert_eq!((cut.words.trim(), cut.marks.last()), ("one two", Some(&"cut off")));
    dialogue.say(ms(300));
    assert_eq!(dialogue.answer().await.words.trim(), "Three.");

    // In the first answer there is no handle yet: another conversation would know nothing of what was said.
    let mut forgotten = options(&["one two three"]);
    forgotten.mouth.close_after_words = Some((1011, 2));
    let mut dialogue = Dialogue::open(forgotten).await;
    dialogue.say(ms(300));
    assert_eq!(dialogue.lost().await.class, FaultClass::Overloaded);
}

#[tokio::test]
async fn what_cannot_be_helped_ends_the_dialogue_with_its_kind_and_without_the_key() {
    for (model, key, class) in [(MODEL, "invalid", FaultClass::Auth), ("gemini-9-live-x", "k-secret", FaultClass::Gone)]
    {
        let mut dialogue = Dialogue::open_with(options(&[]), model, key).await;
        let fault = dialogue.lost().await;
        assert_eq!(fault.class, class, "{fault}");
        assert!(!format!("{fault:?}").contains(key), "{fault:?}");
        assert_eq!(dialogue.live.warm().await.unwrap_err().class, class);
        assert!(dialogue.told.recv().await.is_none(), "that was the last of it");
    }
    for (fault, class) in [(EarFault::Garbage, FaultClass::Protocol), (EarFault::Refuse(1011), FaultClass::Overloaded)]
    {
        let mut options = options(&["One."]);
        options.ears.fault = fault;
        let mut dialogue = Dialogue::open(options).await;
        dialogue.say(ms(300));
        assert_eq!(dialogue.lost().await.class, class);
    }
    let dialogue = Dialogue::open(options(&[])).await;
    dialogue.live.warm().await.unwrap();
}
