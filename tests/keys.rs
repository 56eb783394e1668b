//! A caller who keys something in: on the wire, as telephone events and as tones, with the simulator for a model.

use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::phone::mouth::{Turn, Utterance};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::House;
use house::Sound::Answer;

/// What the model was told in the last request of a call in which `keys` were pressed, how long after the last key, and what the caller heard.
async fn pressed(keys: &str, tone_keys: bool) -> (String, Duration, Vec<house::Sound>) {
    let house = House::open(|_, _| {}).await;
    let mut options = house.options(vec![Utterance::prepare(&Turn::Dtmf(keys.into()), "en-us").unwrap()]);
    options.codecs = vec![Codec::Pcma];
    options.tone_keys = tone_keys;
    options.script.answer_wait = Duration::from_secs(8);
    let began = Instant::now();
    let call = house.call(options).await.unwrap();
    house.is_empty().await;
    let seen = house.simulator.seen();
    house.close().await;
    let request = seen.last().expect("the model is asked");
    (request.json.clone(), request.received - began, call.sounds())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_keyed_in_by_telephone_events_is_told_to_the_model_and_answered() {
    let (json, _, sounds) = pressed("1204#", false).await;
    assert!(json.contains("(The caller pressed: 1204#)"), "{json}");
    assert!(sounds.contains(&Answer), "{sounds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_keyed_in_by_tones_is_told_to_the_model_and_a_number_sign_ends_it_sooner_than_a_pause() {
    let (json, at_once, sounds) = pressed("77#", true).await;
    assert!(json.contains("(The caller pressed: 77#)"), "{json}");
    assert!(sounds.contains(&Answer), "{sounds:?}");
    let (json, after_pause, _) = pressed("773", true).await;
    assert!(json.contains("(The caller pressed: 773)"), "{json}");
    assert!(after_pause > at_once + Duration::from_millis(1200), "{at_once:?} {after_pause:?}");
}
