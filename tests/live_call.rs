//! Whole calls with a model that hears and speaks by itself: what it answers, what interrupts it, and who answers when it is gone.

use std::time::{Duration, Instant};

use offhook::config::Config;
use offhook::phone::mouth::Utterance;
use offhook::simulator;
use offhook::simulator::faces::ears::{EarFault, Ears};
use offhook::simulator::faces::live_speech::Mouth;
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::timeline::TurnOutcome;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Live, Placeholder};
use house::{Call, House, LOOPBACK, samples, say};

const QUESTION: &str = "Are you open on Friday afternoon?";
const ANOTHER: &str = "How do I find you in the city?";
/// The tone by which the face is known.
const PITCH_HZ: f64 = 2430.0;
/// A word of the face's is 200 ms.
const WORD: usize = 10;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A face that needs `after` to answer with these words.
fn face(after: Duration, answers: &[&str]) -> FaceOptions {
    FaceOptions {
        ears: Ears {
            texts: ["are you open on friday", "how do I find you", "really"].map(String::from).to_vec(),
            final_after: after,
            ..Ears::default()
        },
        mouth: Mouth {
            answers: answers.iter().map(|&answer| answer.into()).collect(),
            word_every: ms(20),
            pitch_hz: PITCH_HZ,
            ..Mouth::default()
        },
        ..FaceOptions::default()
    }
}

/// A house whose calls are held with a model that speaks.
struct Talkative {
    house: House,
    options: FaceOptions,
    _faces: Faces,
}

impl Talkative {
    async fn open(options: FaceOptions) -> Self {
        Self::open_with(options, |_, _| {}).await
    }

    async fn open_with(options: FaceOptions, change: impl FnOnce(&mut Config, &mut simulator::Options)) -> Self {
        let faces = Faces::start((LOOPBACK, 0).into(), options.clone()).await.unwrap();
        let house = House::open(|config, cloud| {
            config.live.enabled = true;
            config.live.base_url = Some(format!("http://{}", faces.address()));
            cloud.first_token = ms(900);
            change(config, cloud);
        })
        .await;
        Self { house, options, _faces: faces }
    }

    async fn call(&self, utterances: Vec<Utterance>) -> Call {
        self.house.call(self.house.options(utterances)).await.unwrap()
    }

    /// What the first connection was told besides sound.
    fn control(&self) -> Vec<String> {
        self.options.ears.seen()[0].control.clone()
    }
}

/// How long the model was heard, in frames.
fn spoken(call: &Call) -> usize {
    call.heard.iter().filter(|stretch| stretch.sound == Live).map(|stretch| stretch.frames).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_answered_by_the_model_that_speaks_turn_after_turn() {
    let house = Talkative::open(face(ms(900), &["It left yesterday evening.", "Go to the old market."])).await;
    let call = house.call(vec![say(QUESTION), say(ANOTHER)]).await;
    assert_eq!(call.sounds(), [Placeholder, Live, Placeholder, Live], "{:?}", call.heard);
    assert!(spoken(&call) >= 9 * WORD - 2, "{:?}", call.heard);
    assert_eq!(house.control(), ["activityStart", "activityEnd", "activityStart", "activityEnd"]);
    let seen = house.options.ears.seen();
    assert!(seen[0].discarded.is_zero() && seen[0].opening.contains("You speak with the caller"), "{seen:?}");
    assert_eq!(house.house.simulator.counts().requests, 0);
    let turns = house.house.close().await;
    for turn in &turns {
        assert_eq!((turn.outcome, turn.requests, turn.requests_wasted), (TurnOutcome::Answered, 1, 0), "{turn:?}");
        let first = turn.gemini_first_token_ms.unwrap() - turn.gemini_start_ms.unwrap();
        assert!((880.0..1100.0).contains(&first) && turn.answer_start_ms >= turn.gemini_first_token_ms, "{turn:?}");
    }
    assert_eq!(turns.len(), 2);
}
