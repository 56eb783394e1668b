//! Recognisers over real sockets, with faces that check what the real ones check and do what they are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use offhook::config::{Config, Engine, Language};
use offhook::http::Http;
use offhook::model::FaultClass;
use offhook::pcm::FRAME_SAMPLES;
use offhook::recogniser::{self, Listening, Recognised, Recogniser, Recognition};
use offhook::simulator::faces::ears::{EarFault, Ears};
use offhook::simulator::faces::wyoming_asr::WyomingEars;
use offhook::simulator::faces::{FaceOptions, Faces};
use tokio::sync::mpsc;

/// Long enough for a loaded machine; nothing here waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const TEXT: &str = "where is my order";
const STREAMING: [Engine; 3] = [Engine::Gemini, Engine::Deepgram, Engine::Wyoming];
const ALL: [Engine; 4] = [Engine::Gemini, Engine::Deepgram, Engine::Wyoming, Engine::Openai];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A recogniser in a call, and the face behind it.
struct Ear {
    engine: Arc<dyn Recogniser>,
    listening: Box<dyn Listening>,
    told: mpsc::Receiver<Recognition>,
    ears: Ears,
    _faces: (Option<Faces>, Option<WyomingEars>),
}

fn ears(texts: &[&str]) -> Ears {
    Ears { texts: texts.iter().map(|&text| text.into()).collect(), final_after: Duration::ZERO, ..Ears::default() }
}

impl Ear {
    async fn open(engine: Engine, ears: Ears) -> Self {
        Self::open_with(engine, ears, |_| {}).await
    }

    async fn open_with(engine: Engine, ears: Ears, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.recogniser.engine = engine;
        config.recogniser.connect = PATIENCE / 2;
        let faces = if engine == Engine::Wyoming {
            let server = WyomingEars::start(ANY_PORT, ears.clone()).await.unwrap();
            config.recogniser.address = Some(server.address().to_string());
            (None, Some(server))
        } else {
            let options = FaceOptions { ears: ears.clone(), ..FaceOptions::default() };
            let faces = Faces::start(ANY_PORT, options).await.unwrap();
            config.recogniser.base_url = Some(format!("http://{}", faces.address()));
            (Some(faces), None)
        };
        change(&mut config);
        let engine = made(&config);
        let (out, told) = mpsc::channel(recogniser::WAITING);
        Self { listening: engine.open(out), engine, told, ears, _faces: faces }
    }

    /// So much sound, in frames.
    fn speak(&mut self, sound: Duration) {
        for _ in 0..sound.as_millis() / 20 {
            self.listening.audio(&[1000; FRAME_SAMPLES]);
        }
    }

    async fn next(&mut self) -> Recognition {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("nothing was recognised").unwrap()
    }

    /// The words that come until a whole text, and that.
    async fn whole(&mut self) -> (Vec<String>, Recognition) {
        let mut words = Vec::new();
        loop {
            let recognition = self.next().await;
            match recognition.what {
                Recognised::Interim(text) => words.push(text),
                _ => return (words, recognition),
            }
        }
    }

    async fn text(&mut self) -> String {
        match self.whole().await.1.what {
            Recognised::Final { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }
}

fn made(config: &Config) -> Arc<dyn Recogniser> {
    recogniser::from_config(config, &Http::new(ms(5000)).unwrap()).unwrap().unwrap()
}

/// A key file with this in it.
fn key(config: &mut Config, key: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, key).unwrap();
    config.recogniser.api_key_file = Some(file.path().to_owned());
    file
}

#[tokio::test]
async fn words_are_told_while_they_are_spoken_and_the_whole_at_the_end_of_each_utterance() {
    for engine in STREAMING {
        let mut ear = Ear::open(engine, ears(&[TEXT, "thank you"])).await;
        assert_eq!(ear.listening.started(), 1);
        ear.speak(ms(240));
        let interim = ear.next().await;
        assert_eq!(interim, Recognition { utterance: 1, what: Recognised::Interim("where".into()) }, "{engine:?}");
        ear.speak(ms(760));
        ear.listening.ended();
        let (words, whole) = ear.whole().await;
        assert!(words.contains(&TEXT.to_owned()), "{engine:?}: {words:?}");
        assert!(matches!(&whole.what, Recognised::Final { text, .. } if text == TEXT), "{engine:?}: {whole:?}");
        assert_eq!(ear.listening.started(), 2);
        ear.speak(ms(500));
        ear.listening.ended();
        let (_, whole) = ear.whole().await;
        assert_eq!(whole.utterance, 2);
        assert!(matches!(&whole.what, Recognised::Final { text, .. } if text == "thank you"), "{engine:?}: {whole:?}");
        let heard: Duration = ear.ears.seen().iter().map(|seen| seen.sound).sum();
        assert!((ms(1490)..ms(1510)).contains(&heard), "{engine:?} heard {heard:?}");
        assert_eq!(ear.listening.dropped(), 0);
    }
}

#[tokio::test]
async fn an_engine_for_whole_utterances_is_given_the_sound_and_told_the_language_and_the_words() {
    let mut ear = Ear::open_with(Engine::Openai, ears(&[TEXT]), |config| {
        config.conversation.language = Language::He;
        config.recogniser.vocabulary = vec!["Levi".into(), "Cohen".into()];
    })
    .await;
    ear.listening.started();
    ear.speak(ms(1000));
    ear.listening.ended();
    let (words, whole) = ear.whole().await;
    assert!(words.is_empty());
    assert!(matches!(&whole.what, Recognised::Final { text, .. } if text == TEXT), "{whole:?}");
    let seen = ear.ears.seen();
    assert_eq!(seen[0].opening, "model=whisper-1&language=he&prompt=Levi, Cohen&response_format=json");
    assert_eq!(seen[0].sound, ms(1000));
}

#[tokio::test]
async fn each_engine_is_told_language_and_words_as_it_wants_them() {
    for (engine, told) in [
        (Engine::Gemini, r#""languageCodes":["he-IL"]"#),
        (Engine::Gemini, r#""customVocabulary":["Levi"]"#),
        (
            Engine::Deepgram,
            "encoding=linear16&endpointing=300&interim_results=true&keyterm=Levi&language=he&model=nova-3",
        ),
        (Engine::Wyoming, r#"{"language":"he"}"#),
    ] {
        let mut ear = Ear::open_with(engine, ears(&["yes"]), |config| {
            config.conversation.language = Language::He;
            config.recogniser.vocabulary = vec!["Levi".into()];
        })
        .await;
        ear.listening.started();
        ear.speak(ms(300));
        ear.listening.ended();
        assert_eq!(ear.text().await, "yes");
        let opening = &ear.ears.seen()[0].opening;
        assert!(opening.contains(told), "{engine:?}: {opening}");
    }
}

#[tokio::test]
async fn an_utterance_that_goes_on_after_its_end_is_one_text() {
    for engine in [Engine::Gemini, Engine::Deepgram] {
        let mut ear = Ear::open(engine, ears(&["my number is", "five five five"])).await;
        ear.listening.started();
        ear.speak(ms(600));
        ear.listening.ended();
        assert_eq!(ear.text().await, "my number is", "{engine:?}");
        ear.speak(ms(600));
        ear.listening.ended();
        assert_eq!(ear.text().await, "my number is five five five", "{engine:?}");
    }
    // Engines of one utterance a connection or request are given the whole again, whether the next connection stands already or not.
    for (engine, stands) in [(Engine::Wyoming, false), (Engine::Wyoming, true), (Engine::Openai, false)] {
        let mut ear = Ear::open(engine, ears(&["my number is", "my number is five"])).await;
        ear.listening.started();
        ear.speak(ms(600));
        ear.listening.ended();
        assert_eq!(ear.text().await, "my number is", "{engine:?}");
        if stands {
            // A connection of its own takes longer than the one that was begun before.
            ear.engine.warm().await.unwrap();
        }
        ear.speak(ms(600));
        ear.listening.ended();
        assert_eq!(ear.text().await, "my number is five", "{engine:?}");
        assert_eq!(ear.ears.seen()[1].sound, ms(1200), "{engine:?}");
    }
}

#[tokio::test]
async fn a_refused_key_is_told_once_without_it_and_not_tried_again() {
    for engine in [Engine::Gemini, Engine::Deepgram, Engine::Openai] {
        let mut file = None;
        let mut ear = Ear::open_with(engine, ears(&[TEXT]), |config| file = Some(key(config, "invalid"))).await;
        let fault = ear.engine.warm().await;
        if engine != Engine::Openai {
            assert_eq!(fault.unwrap_err().class, FaultClass::Auth, "{engine:?}");
        }
        ear.listening.started();
        ear.speak(ms(300));
        ear.listening.ended();
        let (_, lost) = ear.whole().await;
        let Recognised::Lost(fault) = lost.what else { panic!("{lost:?}") };
        assert_eq!(fault.class, FaultClass::Auth, "{engine:?}: {fault}");
        assert!(fault.permanent() && !format!("{fault} {fault:?}").contains("invalid"), "{engine:?}: {fault}");
        assert_eq!(ear.ears.seen().len(), 0);
    }
}

#[tokio::test]
async fn what_can_be_reached_is_warm_and_what_cannot_says_why() {
    for engine in ALL {
        let ear = Ear::open(engine, ears(&[])).await;
        ear.engine.warm().await.unwrap();
        let mut config = Config::default();
        config.recogniser.engine = engine;
        config.recogniser.base_url = Some("http://127.0.0.1:9".into());
        config.recogniser.address = Some("127.0.0.1:9".into());
        let fault = made(&config).warm().await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Network, "{engine:?}: {fault}");
        assert!(!fault.to_string().contains("key="), "{fault}");
    }
}

#[tokio::test]
async fn an_utterance_that_a_broken_connection_cuts_is_said_again_on_the_next() {
    for engine in STREAMING {
        for code in [1006, 1011] {
            let fault = EarFault::Close { code, after: ms(500) };
            let mut ear = Ear::open(engine, Ears { fault, fault_times: 1, ..ears(&[TEXT]) }).await;
            ear.listening.started();
            ear.speak(ms(1000));
            ear.listening.ended();
            assert_eq!(ear.text().await, TEXT, "{engine:?} {code}");
            let seen = ear.ears.seen();
            assert!(seen[0].sound >= ms(500) && (ms(990)..ms(1010)).contains(&seen[1].sound), "{engine:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn nonsense_and_an_engine_that_closes_again_and_again_are_lost_with_their_kind_and_come_back() {
    for engine in STREAMING {
        for (fault, class) in [
            (EarFault::Garbage, FaultClass::Protocol),
            (EarFault::Close { code: 1011, after: ms(100) }, FaultClass::Overloaded),
        ] {
            // Closed sockets have no code.
            let class =
                if engine == Engine::Wyoming && class == FaultClass::Overloaded { FaultClass::Network } else { class };
            let mut ear = Ear::open(engine, Ears { fault, fault_times: 2, ..ears(&[TEXT]) }).await;
            ear.listening.started();
            ear.speak(ms(1000));
            ear.listening.ended();
            let (_, lost) = ear.whole().await;
            let Recognised::Lost(fault) = lost.what else { panic!("{engine:?}: {lost:?}") };
            assert_eq!(fault.class, class, "{engine:?}: {fault}");
            assert_eq!(ear.text().await, TEXT, "{engine:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_engine_that_fails_is_asked_once_more_and_then_lost_for_the_utterance() {
    for (fault, times, class) in [
        (EarFault::Refuse(503), 1, None),
        (EarFault::Refuse(503), 2, Some(FaultClass::Overloaded)),
        (EarFault::Refuse(429), 2, Some(FaultClass::RateLimited { retry_after: None })),
        (EarFault::Garbage, 2, Some(FaultClass::Protocol)),
    ] {
        let mut ear = Ear::open(Engine::Openai, Ears { fault, fault_times: times, ..ears(&[TEXT, TEXT]) }).await;
        for expected in [class, None] {
            ear.listening.started();
            ear.speak(ms(500));
            ear.listening.ended();
            let lost = match ear.whole().await.1.what {
                Recognised::Lost(fault) => Some(fault.class),
                other => {
                    assert!(matches!(&other, Recognised::Final { text, .. } if text == TEXT), "{other:?}");
                    None
                }
            };
            assert_eq!(lost, expected);
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_to_be_left_is_left_between_two_utterances() {
    let mut ear = Ear::open(Engine::Gemini, Ears { fault: EarFault::GoAway, ..ears(&["one", "two"]) }).await;
    for (number, text) in ["one", "two"].into_iter().enumerate() {
        ear.listening.started();
        ear.speak(ms(300));
        ear.listening.ended();
        assert_eq!(ear.text().await, text);
        let connected = async {
            while ear.ears.seen().len() < number + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("no new connection was made");
    }
}

#[tokio::test]
async fn what_is_said_before_the_connection_stands_is_not_lost() {
    // The first connection is refused, so that sound comes before there is one.
    for engine in [Engine::Gemini, Engine::Deepgram] {
        let mut ear = Ear::open(engine, Ears { fault: EarFault::Refuse(1011), fault_times: 1, ..ears(&[TEXT]) }).await;
        ear.listening.started();
        ear.speak(ms(800));
        ear.listening.ended();
        assert_eq!(ear.text().await, TEXT, "{engine:?}");
        assert!(ear.ears.seen()[1].sound >= ms(790), "{engine:?}");
    }
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_late() {
    let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let mut config = Config::default();
    config.recogniser.engine = Engine::Gemini;
    config.recogniser.connect = ms(100);
    config.recogniser.base_url = Some(format!("http://{}", listener.local_addr().unwrap()));
    let fault = made(&config).warm().await.unwrap_err();
    assert_eq!((fault.class.clone(), fault.note.as_str()), (FaultClass::Timeout, "no connection within 100 ms"));
}
