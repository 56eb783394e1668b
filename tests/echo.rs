//! The echo number: what a caller says comes back through the whole way in and out, and the test phone says how it fared.

use std::time::Duration;

use offhook::pcm::RATE;
use offhook::phone::mouth::Utterance;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::House;

/// Eight seconds that are nowhere like themselves: noise with a slow swell, so that a window fits one place only.
fn sound() -> Utterance {
    let mut random = fastrand::Rng::with_seed(7);
    let mut low = 0.0f32;
    let samples: Vec<i16> = (0..8 * RATE)
        .map(|n| {
            low += 0.3 * (random.f32() * 2.0 - 1.0 - low);
            (low * (0.7 + 0.3 * (n as f32 / 900.0).sin()) * 12_000.0) as i16
        })
        .collect();
    Utterance::from_sound(&samples, "noise").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_the_echo_number_comes_back_and_both_directions_are_told_of() {
    let house = House::open(|config, _| config.sip.echo_number = Some("echo".into())).await;
    let mut options = house.options(vec![sound()]);
    options.uri = house.uri().replace("620", "echo");
    options.echo = true;
    options.script.answer_wait = Duration::from_millis(600);
    let report = house.call(options).await.unwrap().report;
    let turns = house.close().await;
    assert!(turns.is_empty(), "nobody holds a conversation with an echo: {turns:?}");
    let echo = report.echo.unwrap();
    assert!(echo.windows > 75 && echo.match_mean > 0.9, "{echo:?}");
    assert!(echo.gain_db.unwrap().abs() < 1.0, "{echo:?}");
    let sent = report.sent;
    assert!(sent.packets > 400 && sent.lost == Some(0) && sent.round_trip_ms.unwrap() < 1000.0, "{sent:?}");
    let (packets, level) = (report.packets, sent.level_dbfs.unwrap());
    assert!((packets.level_dbfs.unwrap() - level).abs() < 1.0, "{packets:?}");
    assert!(packets.one_way_p50_ms.is_some(), "{packets:?}");
}
