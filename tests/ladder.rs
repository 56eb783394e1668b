//! What becomes of a caller whom nobody can answer: on the wire, with the simulator ill and the test phone before the appliance.

use std::path::Path;
use std::time::Duration;

use offhook::config::{Config, Remedy};
use offhook::pcm::{RATE, level, wav};
use offhook::phone::mouth::Utterance;
use offhook::simulator;
use offhook::voicemail::{Ended, Kind, Store};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Apology, Goodbye, Placeholder};
use house::{House, samples, say};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A box that takes messages, and a model that is ill.
fn ill(folder: &Path, fault: &str) -> impl FnOnce(&mut Config, &mut simulator::Options) {
    let (folder, fault) = (folder.join("messages"), fault.parse().unwrap());
    move |config, cloud| {
        config.voicemail.enabled = true;
        config.voicemail.folder = folder;
        config.voicemail.silence_end = ms(4000);
        config.ladder.remedies = vec![Remedy::Voicemail];
        config.ladder.apologies = 1;
        cloud.faults = vec![fault];
    }
}

/// Words for the machine.
fn message() -> Utterance {
    let message = samples(&say("This is Dana, please call me back about my order."));
    Utterance::from_sound(&message, "a message").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_a_dead_model_leaves_a_message_and_it_holds_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(ill(folder.path(), "503")).await;
    let mut options = house.options(vec![say("Are you open on Friday afternoon?"), message()]);
    options.script.answer_quiet = ms(1500);
    options.script.answer_wait = Duration::from_secs(20);
    let call = house.call(options).await.unwrap();
    house.is_empty().await;
    assert_eq!(house.simulator.counts().requests, 2, "the turn is asked early, and once more");
    let config = offhook::config::Voicemail {
        enabled: true,
        folder: folder.path().join("messages"),
        ..offhook::config::Voicemail::default()
    };
    house.close().await;
    assert_eq!(call.report.ended_by, "callee", "{:?}", call.heard);
    let sounds = call.sounds();
    assert!(sounds.starts_with(&[Placeholder, Apology]) && sounds.ends_with(&[Goodbye]), "{:?}", call.heard);
    let store = Store::new(&config);
    let messages = store.list().unwrap();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!((message.kind, message.ended), (Kind::Message, Some(Ended::Silence)));
    let sound = wav::read(&store.sound(&message.id).unwrap()).unwrap();
    let said = samples(&say("This is Dana, please call me back about my order."));
    let seconds = |samples: usize| samples as f64 / f64::from(RATE);
    let (kept, spoken) = (seconds(sound.samples.len()), seconds(said.len()));
    assert!(kept > spoken - 0.4 && kept < spoken + 5.0, "{kept} s kept of {spoken} s");
    let (heard, sent) = (level::active_dbfs(&sound.samples).unwrap(), level::active_dbfs(&said).unwrap());
    assert!((heard - sent).abs() < 3.0, "{heard} dBFS kept, {sent} dBFS said");
    assert!((message.seconds - kept).abs() < 0.01);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_whose_key_is_refused_apologises_and_takes_its_leave() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(|config, cloud| {
        ill(folder.path(), "403")(config, cloud);
        config.voicemail.enabled = false;
    })
    .await;
    let mut options = house.options(vec![say("Are you open on Friday afternoon?")]);
    options.script.answer_quiet = Duration::from_secs(10);
    options.script.answer_wait = Duration::from_secs(20);
    let call = house.call(options).await.unwrap();
    house.close().await;
    assert_eq!(
        (call.sounds(), call.report.ended_by),
        (vec![Placeholder, Apology, Goodbye], "callee"),
        "{:?}",
        call.heard
    );
}
