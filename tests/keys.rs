//! A caller who keys something in: on the wire, as telephone events and as tones, with the simulator for a model.

use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::phone::mouth::{Turn, Utterance};
use offhook::rtp::sender::Sender;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::House;
use house::Sound::Answer;

#[path = "support/peer.rs"]
#[allow(dead_code)]
mod peer;
use peer::Peer;

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

/// What the model was told of a call in which a peer did this, tick by tick, until four seconds were over.
async fn told(acts: impl FnMut(&mut Peer, u32, &mut Sender)) -> String {
    // Nobody is there, and nobody must be asked for.
    let house = House::open(|config, _| config.conversation.transfer_to = Some("sip:900@127.0.0.1:9".into())).await;
    let mut peer = Peer::of(house.address);
    let port = peer.calls();
    peer.sounds(port, 200, acts);
    peer.hangs_up();
    house.is_empty().await;
    let seen = house.simulator.seen();
    house.close().await;
    seen.last().expect("the model is asked").json.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_as_an_event_and_in_a_request_counts_once() {
    let json = told(|peer, tick, sender| {
        let key = match tick {
            10 | 25 => '5',
            40 => '7',
            55 => '#',
            _ => return,
        };
        sender.dial(key, Duration::from_millis(100));
        // Of some gateways the request overtakes the event, which is told when it ends.
        peer.tells_of(key, tick != 25);
    })
    .await;
    assert!(json.contains("(The caller pressed: 557#)"), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_only_requests_tell_of_are_entered() {
    let json = told(|peer, tick, _| match tick {
        10 => peer.tells_of('4', true),
        20 => peer.tells_of('4', false),
        30 => peer.tells_of('*', true),
        40 => peer.tells_of('#', false),
        _ => {}
    })
    .await;
    assert!(json.contains("(The caller pressed: 44*#)"), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_begins_with_the_key_for_a_person_is_entered() {
    let json = told(|_, tick, sender| {
        if tick == 10 {
            assert!("050#".chars().all(|key| sender.dial(key, Duration::from_millis(100))));
        }
    })
    .await;
    assert!(json.contains("(The caller pressed: 050#)"), "{json}");
}
