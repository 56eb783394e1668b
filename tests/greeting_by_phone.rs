//! An installer who records the greeting by telephone, in whole calls; the prompts are tones.

use std::path::Path;
use std::time::Duration;

use offhook::phone::PhoneError;
use offhook::phone::mouth::{Turn, Utterance};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Greeting, Other};
use house::{Call, House};

const PIN: &str = "473920";

/// An appliance whose greeting may be recorded by whoever dials 45.
async fn appliance(folder: &Path) -> House {
    let pin = folder.join("pin");
    std::fs::write(&pin, PIN).unwrap();
    House::open(|config, _| {
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
    let mut options = house.options(utterances);
    options.uri = format!("sip:45@{}", house.address);
    options.script.greeting_wait = Duration::from_secs(3);
    options.script.answer_wait = Duration::from_secs(10);
    house.call(options).await
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
