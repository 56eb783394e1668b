//! Calls answered by a voice over the network, on the wire: heard while it is well, and replaced within the answer when it is not.

// Other faces have options of their own.
#![allow(clippy::needless_update)]

use std::time::Duration;

use offhook::config::VoicePreset;
use offhook::simulator::faces::voices::{VoiceFault, VoiceOptions};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::timeline::TurnOutcome;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Other, Placeholder};
use house::{Call, House, say};

const QUESTION: &str = "Are you open on Friday afternoon?";

/// A call in a house with a voice over the network, whose offline voice is the tone `Answer`; what was heard, and how often it was asked.
async fn call(voices: VoiceOptions) -> (Call, usize) {
    let seen = voices.seen.clone();
    let faces = Faces::start((house::LOOPBACK, 0).into(), FaceOptions { voices, ..FaceOptions::default() });
    let faces = faces.await.unwrap();
    let house = House::open(|config, _| {
        config.network_voice.preset = Some(VoicePreset::OpenAi);
        config.network_voice.url = Some(format!("http://{}/v1/audio/speech", faces.address()));
    })
    .await;
    let call = house.call(house.options(vec![say(QUESTION)])).await.unwrap();
    let turns = house.close().await;
    assert_eq!(turns.iter().map(|turn| turn.outcome).collect::<Vec<_>>(), [TurnOutcome::Answered]);
    (call, seen.all().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_in_the_voice_over_the_network() {
    let (call, asked) = call(VoiceOptions { speed: 3.0, ..VoiceOptions::default() }).await;
    assert_eq!(call.sounds(), [Placeholder, Other], "{:?}", call.heard);
    // The known sentence at the start, and the phrases.
    assert!(asked >= 2, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_voice_fails_at_its_first_phrase_is_all_in_the_other_voice() {
    for fault in [VoiceFault::Status(503), VoiceFault::Late(Duration::from_secs(30))] {
        let (call, asked) = call(VoiceOptions { faults: vec![(Some(2), fault)], ..VoiceOptions::default() }).await;
        assert_eq!(call.sounds(), [Placeholder, Answer], "{fault:?}: {:?}", call.heard);
        // One more may have been asked for ahead; what came of it was thrown away.
        assert!(asked <= 4, "{fault:?}: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_voice_fails_in_the_middle_changes_its_voice_once() {
    let faults = vec![(Some(3), VoiceFault::Status(503))];
    let (call, _) = call(VoiceOptions { faults, ..VoiceOptions::default() }).await;
    assert_eq!(call.sounds(), [Placeholder, Other, Answer], "{:?}", call.heard);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_that_is_ill_from_the_start_keeps_nobody_from_being_answered() {
    let (call, asked) =
        call(VoiceOptions { faults: vec![(None, VoiceFault::Status(401))], ..VoiceOptions::default() }).await;
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    assert_eq!(asked, 1, "a key that was refused is not tried again");
}
