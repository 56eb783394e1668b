//! A call with a recogniser: the model is asked with words, the words move the end of the turn, and without them the sound will do.

use std::net::SocketAddr;
use std::time::Duration;

use offhook::config::{Config, Engine};
use offhook::phone::mouth::Utterance;
use offhook::simulator::faces::ears::{EarFault, Ears};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::simulator::{self, Seen};
use offhook::timeline::TurnReport;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Placeholder};
use house::{Call, House, LOOPBACK, say};

const QUESTION: &str = "Are you open on Friday afternoon?";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ears(texts: &[&str]) -> Ears {
    Ears { texts: texts.iter().map(|&text| text.into()).collect(), final_after: ms(50), ..Ears::default() }
}

/// A call to a house with this recogniser: what was heard, asked and reported.
async fn call(
    engine: Engine,
    ears: Ears,
    utterances: Vec<Utterance>,
    change: impl FnOnce(&mut Config, &mut simulator::Options),
) -> (Call, Vec<Seen>, Vec<TurnReport>) {
    let any = SocketAddr::new(LOOPBACK, 0);
    let faces = Faces::start(any, FaceOptions { ears, ..FaceOptions::default() }).await.unwrap();
    let house = House::open(|config, cloud| {
        config.recogniser.engine = engine;
        config.recogniser.base_url = Some(format!("http://{}", faces.address()));
        cloud.first_token = ms(900);
        change(config, cloud);
    })
    .await;
    let call = house.call(house.options(utterances)).await.unwrap();
    let seen = house.simulator.seen();
    (call, seen, house.close().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_asked_with_the_callers_words_and_told_of_them_in_the_next_turn() {
    for engine in [Engine::Gemini, Engine::Deepgram, Engine::Openai] {
        let ears = Ears { word_every: ms(40), ..ears(&["are you open on friday", "where are you"]) };
        let words = vec![say("Yes"), say("No")];
        let (call, seen, turns) = call(engine, ears, words, |_, _| {}).await;
        assert_eq!(call.sounds()[..2], [Placeholder, Answer], "{engine:?}: {:?}", call.heard);
        assert!(seen.iter().all(|seen| seen.audio.is_empty()), "{engine:?}: sound was sent");
        assert!(seen[0].json.contains("are you open on friday"), "{engine:?}: {}", seen[0].json);
        assert_eq!(turns.len(), 2, "{turns:?}");
        let last = &seen.last().unwrap().json;
        let both = last.contains("are you open on friday") && last.contains("where are you");
        assert!(both, "{engine:?}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_end_in_a_number_make_the_end_of_the_turn_later() {
    let mut committed = Vec::new();
    for text in ["are you open", "my number is five five five"] {
        let ears = Ears { word_every: ms(60), ..ears(&[text]) };
        let (_, _, turns) = call(Engine::Deepgram, ears, vec![say(QUESTION)], |_, _| {}).await;
        committed.push(turns[0].committed_ms.unwrap());
    }
    assert!((700.0..900.0).contains(&committed[0]) && committed[1] >= committed[0] + 400.0, "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_request_with_other_words_than_were_said_is_made_again() {
    // One word a second: the interim text is short of the whole.
    let ears = Ears { word_every: ms(700), final_after: ms(200), ..ears(&["are you open on friday"]) };
    let (call, seen, turns) = call(Engine::Deepgram, ears, vec![say(QUESTION)], |_, _| {}).await;
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    let [early, made_again] = &seen[..] else { panic!("{} requests", seen.len()) };
    assert!(!early.json.contains("friday") && early.audio.is_empty(), "{}", early.json);
    assert!(made_again.json.contains("are you open on friday") && made_again.audio.is_empty(), "{}", made_again.json);
    assert_eq!((turns[0].requests, turns[0].requests_wasted), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_recogniser_the_model_is_given_the_sound() {
    let refused = Ears { fault: EarFault::Refuse(1011), ..ears(&[]) };
    let mute = Ears { fault: EarFault::Mute, ..ears(&["unheard"]) };
    for (engine, ears) in [(Engine::Deepgram, refused.clone()), (Engine::Openai, refused), (Engine::Gemini, mute)] {
        let (call, seen, turns) = call(engine, ears, vec![say(QUESTION)], |_, _| {}).await;
        assert_eq!(call.sounds(), [Placeholder, Answer], "{engine:?}: {:?}", call.heard);
        assert_eq!(seen.last().unwrap().audio.len(), 1, "{engine:?}");
        assert!(turns[0].gemini_start_ms.unwrap() < 850.0, "{engine:?}: {:?}", turns[0]);
    }
}
