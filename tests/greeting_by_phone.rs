//! An installer who records the greeting by telephone, in whole calls; the prompts are tones.

use std::path::Path;
use std::time::Duration;

use offhook::pcm::{FRAME_SAMPLES, RATE, tone, wav};
use offhook::phone::mouth::{Turn, Utterance};
use offhook::phone::{CallOptions, PhoneError};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Greeting, Other};
use house::{Call, House};

const PIN: &str = "473920";
/// The pitch of [`Answer`].
const PROMPT_HZ: f32 = 1130.0;

/// An appliance whose greeting may be recorded by whoever dials 45.
async fn appliance(folder: &Path) -> House {
    appliance_speaking(folder, None).await
}

/// The same; whatever it says is this file.
async fn appliance_speaking(folder: &Path, voice: Option<&Path>) -> House {
    let pin = folder.join("pin");
    std::fs::write(&pin, PIN).unwrap();
    House::open(|config, _| {
        if let Some(voice) = voice {
            config.voice.command = vec!["cat".into(), voice.display().to_string()];
        }
        config.conversation.greeting = true;
        config.clips.folder = Some(folder.join("clips"));
        config.greeting_by_phone.number = Some("45".into());
        config.greeting_by_phone.pin_file = Some(pin);
    })
    .await
}

/// A call to the desk in which this is keyed in and said, each after what is heard before it.
async fn desk(house: &House, turns: &[Turn]) -> Result<Call, PhoneError> {
    let utterances = turns.iter().map(|turn| Utterance::prepare(turn, "en-us").unwrap()).collect();
    house.call(desk_options(house, utterances)).await
}

fn desk_options(house: &House, utterances: Vec<Utterance>) -> CallOptions {
    let mut options = house.options(utterances);
    options.uri = format!("sip:45@{}", house.address);
    options.script.greeting_wait = Duration::from_secs(3);
    options.script.answer_wait = Duration::from_secs(10);
    options
}

fn keys(keys: &str) -> Turn {
    Turn::Dtmf(keys.into())
}

/// What a caller hears who says nothing.
async fn greeted(house: &House) -> Vec<house::Sound> {
    let mut options = house.options(Vec::new());
    options.script.greeting_wait = Duration::from_secs(3);
    house.call(options).await.unwrap().sounds()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_listened_to_and_accepted_is_what_the_next_caller_hears() {
    let folder = tempfile::tempdir().unwrap();
    let house = appliance(folder.path()).await;
    assert_eq!(greeted(&house).await, [Greeting]);
    let words = Turn::Say("Hello, this is the bakery on the corner.".into());
    let unaccepted = desk(&house, &[keys("473920#"), words.clone()]).await.unwrap();
    assert!(unaccepted.sounds().contains(&Answer), "{:?}", unaccepted.sounds());
    assert_eq!(greeted(&house).await, [Greeting], "nothing is kept that was not accepted");
    let call = desk(&house, &[keys("473920#"), words, keys("1"), keys("#")]).await.unwrap();
    assert!(call.sounds().contains(&Other), "he hears what he has said: {:?}", call.sounds());
    let heard = greeted(&house).await;
    assert!(heard.contains(&Other) && !heard.contains(&Greeting), "{heard:?}");
    house.is_empty().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_goes_on_while_the_caller_speaks_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let length = 4 * RATE as usize;
    let prompt = tone::sine(PROMPT_HZ, -17.0, length);
    let voice = folder.path().join("long.wav");
    std::fs::write(&voice, wav::write(RATE, 1, &prompt)).unwrap();
    let house = appliance_speaking(folder.path(), Some(&voice)).await;
    let words = Utterance::prepare(&Turn::Say("Wait, where have I put it, it was here.".into()), "en-us").unwrap();
    let mut options = desk_options(&house, vec![words]);
    options.script.barge_in = Some((0, Duration::from_millis(300)));
    options.script.answer_wait = Duration::from_secs(3);
    let call = house.call(options).await.unwrap();
    let ours: Vec<i16> = call.recording.chunks_exact(2).map(|both| both[1]).collect();
    let of_prompt = |frame: &[i16]| house::sound_of(frame) == Some(Answer);
    let heard: Vec<usize> =
        ours.chunks_exact(FRAME_SAMPLES).enumerate().filter(|(_, frame)| of_prompt(frame)).map(|(n, _)| n).collect();
    let all = length / FRAME_SAMPLES;
    assert!(heard.len() > all * 9 / 10, "{} of {all} frames of the prompt are heard", heard.len());
    let pauses: Vec<usize> = heard.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|pause| *pause > 0).collect();
    assert!(pauses.iter().all(|pause| *pause < 25), "pauses in the prompt, in frames: {pauses:?}");
    house.is_empty().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_before_the_tone_and_goes_on_after_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let house = appliance(folder.path()).await;
    let words = Turn::Say("Hello this is the bakery on the corner and we are glad that you call us today".into());
    let turns = [keys("473920#"), words, keys("#")].map(|turn| Utterance::prepare(&turn, "en-us").unwrap());
    let mut options = desk_options(&house, turns.into());
    options.script.barge_in = Some((1, Duration::from_millis(200)));
    house.call(options).await.unwrap();
    let heard = greeted(&house).await;
    assert!(heard.contains(&Other) && !heard.contains(&Greeting), "{heard:?}");
    house.is_empty().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_wrong_pins_end_the_call_and_the_next_one_finds_it_busy() {
    let folder = tempfile::tempdir().unwrap();
    let house = appliance(folder.path()).await;
    let call = desk(&house, &[keys("111111#"), keys("222222#"), keys("4739#"), keys("473920#")]).await.unwrap();
    assert!(call.sounds().iter().all(|sound| *sound == Answer), "{:?}", call.sounds());
    let again = desk(&house, &[keys("473920#")]).await.err();
    assert!(matches!(again, Some(PhoneError::Busy { .. })), "{again:?}");
    assert_eq!(greeted(&house).await, [Greeting], "callers are served as before");
    house.is_empty().await;
    house.close().await;
}
