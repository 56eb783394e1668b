//! Voices over the network against their faces: what is asked, what is heard, and who speaks when one of them fails.

// Other faces have options of their own.
#![allow(clippy::needless_update)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook::config::{Language, NetworkVoice, Voice, VoicePreset};
use offhook::http::Http;
use offhook::pcm::{self, tone, wav};
use offhook::privacy::Secret;
use offhook::sentence::Ends;
use offhook::simulator::faces::voices::{SeenPhrase, VoiceFault, VoiceOptions, WyomingFace, marker};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::tts::network::{self, NetworkFaultKind};
use offhook::tts::{AnswerId, CommandSynthesizer, Fallback, Fault, Say, Synthesizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PRESETS: [VoicePreset; 7] = [
    VoicePreset::GoogleCloud,
    VoicePreset::Azure,
    VoicePreset::ElevenLabs,
    VoicePreset::OpenAi,
    VoicePreset::PiperHttp,
    VoicePreset::Gemini,
    VoicePreset::Wyoming,
];

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A face and a voice that speaks to it.
struct House {
    voice: Arc<dyn Synthesizer>,
    options: VoiceOptions,
    _faces: Option<Faces>,
    _wyoming: Option<WyomingFace>,
}

impl House {
    async fn of(preset: VoicePreset, options: VoiceOptions) -> Self {
        Self::with(preset, options, NetworkVoice::default(), Some("a-key")).await
    }

    async fn with(preset: VoicePreset, options: VoiceOptions, config: NetworkVoice, key: Option<&str>) -> Self {
        let (mut faces, mut wyoming) = (None, None);
        let url = if preset == VoicePreset::Wyoming {
            let face = wyoming.insert(WyomingFace::start(loopback(), options.clone()).await.unwrap());
            format!("tcp://{}", face.address())
        } else {
            let options = FaceOptions { voices: options.clone(), ..FaceOptions::default() };
            let address = faces.insert(Faces::start(loopback(), options).await.unwrap()).address();
            format!("http://{address}{}", path(preset))
        };
        let names = match preset {
            VoicePreset::ElevenLabs | VoicePreset::PiperHttp => Some("voice-1".to_owned()),
            _ => None,
        };
        let config = NetworkVoice {
            preset: Some(preset),
            url: Some(url),
            en: names.clone(),
            he: names.clone(),
            ru: names,
            ..config
        };
        let http = Http::new(Duration::from_secs(1)).unwrap();
        let voice = network::open(&config, &quiet(), key.map(Secret::new), &http).unwrap().unwrap();
        Self { voice, options, _faces: faces, _wyoming: wyoming }
    }

    fn seen(&self) -> Vec<SeenPhrase> {
        self.options.seen.all()
    }
}

/// The path of a preset's own address.
fn path(preset: VoicePreset) -> &'static str {
    match preset {
        VoicePreset::GoogleCloud => "/v1/text:synthesize",
        VoicePreset::Azure => "/cognitiveservices/v1",
        VoicePreset::ElevenLabs => "/v1/text-to-speech/{{voice}}/stream?output_format=pcm_16000",
        VoicePreset::OpenAi => "/v1/audio/speech",
        VoicePreset::Gemini => "/v1beta/models/{{model}}:streamGenerateContent?alt=sse",
        _ => "/synthesize",
    }
}

/// Without pauses, so that a sound is as long as its tone.
fn quiet() -> Voice {
    Voice { pause_after_clause: Duration::ZERO, pause_after_sentence: Duration::ZERO, ..Voice::default() }
}

fn say(text: &str, language: Language, answer: u64) -> Say {
    Say { text: text.into(), language, ends: Ends::Sentence, answer: AnswerId { call: 1, answer } }
}

struct Heard {
    sound: Vec<i16>,
    first: Option<Duration>,
}

async fn spoken(voice: &Arc<dyn Synthesizer>, say: Say) -> (Result<(), Fault>, Heard) {
    let (sender, mut receiver) = mpsc::channel(2000);
    let begun = Instant::now();
    let speaking = tokio::spawn(voice.say(say, sender, CancellationToken::new()));
    let mut heard = Heard { sound: Vec::new(), first: None };
    while let Some(piece) = receiver.recv().await {
        heard.first.get_or_insert_with(|| begun.elapsed());
        heard.sound.extend(piece);
    }
    (speaking.await.unwrap(), heard)
}

#[track_caller]
fn assert_is_marker(sound: &[i16], text: &str, what: &str) {
    let (hz, length) = marker(text);
    let expected = pcm::samples_in(length) as usize;
    assert!(sound.len().abs_diff(expected) <= 200, "{what}: {} samples for {expected}", sound.len());
    let share = tone::share_of(hz, &sound[200..sound.len() - 200]);
    assert!(share > 0.95, "{what}: {share} of the sound is at {hz} Hz");
}

#[tokio::test]
async fn every_voice_is_asked_as_it_wants_and_its_sound_is_heard() {
    for preset in PRESETS {
        let name = preset.name();
        let house = House::of(preset, VoiceOptions::default()).await;
        for (language, text) in [
            (Language::En, "\"Tom & Jerry's\" <shop>, that is 5 < 6."),
            (Language::He, "ד\"ר כהן, ההזמנה ב-14 בחודש."),
            (Language::Ru, "Ваш заказ уже отправлен."),
        ] {
            let (result, heard) = spoken(&house.voice, say(text, language, 1)).await;
            result.unwrap_or_else(|fault| panic!("{name} {language:?}: {fault}"));
            let seen = house.seen().pop().unwrap();
            assert_eq!(seen.face, name);
            assert!(
                !seen.text.contains("שלוש עשרה") && !seen.text.contains("ארבע עשרה"),
                "digits are the voice's to read"
            );
            let words = text.split(' ').next_back().unwrap();
            assert!(seen.text.ends_with(words), "{name}: {}", seen.text);
            assert_is_marker(&heard.sound, &seen.text, name);
            let (voice, model) = (seen.voice.as_str(), seen.model.as_str());
            match (preset, language) {
                (VoicePreset::GoogleCloud, Language::He) => {
                    assert_eq!((voice, model), ("he-IL-Chirp3-HD-Kore", "he-IL"));
                }
                (VoicePreset::Azure, Language::He) => assert_eq!((voice, model), ("he-IL-HilaNeural", "he-IL")),
                (VoicePreset::ElevenLabs, Language::He) => assert_eq!((voice, model), ("voice-1", "eleven_v3")),
                (VoicePreset::ElevenLabs, _) => assert_eq!(model, "eleven_flash_v2_5"),
                (VoicePreset::Gemini, _) => assert_eq!((voice, model), ("Kore", "gemini-3.8-flash-lite-tts")),
                (VoicePreset::Wyoming, _) => assert_eq!(model, language.code()),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn events_instead_of_samples_are_told_by_their_media_type() {
    let options = VoiceOptions { events: true, ..VoiceOptions::default() };
    let house = House::of(VoicePreset::OpenAi, options).await;
    let (result, heard) = spoken(&house.voice, say("Of course, one moment.", Language::En, 1)).await;
    result.unwrap();
    assert_is_marker(&heard.sound, "Of course, one moment.", "openai");
}

#[tokio::test]
async fn a_voice_is_heard_while_it_still_speaks() {
    for preset in [VoicePreset::Azure, VoicePreset::OpenAi, VoicePreset::Gemini, VoicePreset::Wyoming] {
        let options = VoiceOptions { speed: 2.0, ..VoiceOptions::default() };
        let house = House::of(preset, options).await;
        // Three seconds of sound, of which the last comes after one and a half.
        let text = "The sound of fifty characters is three seconds all";
        let begun = Instant::now();
        let (result, heard) = spoken(&house.voice, say(text, Language::En, 1)).await;
        result.unwrap();
        let (first, whole) = (heard.first.unwrap(), begun.elapsed());
        println!("{}: first piece after {first:?}, whole after {whole:?}", preset.name());
        assert!(first * 3 < whole, "{}: {first:?} of {whole:?}", preset.name());
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_as_such_and_never_shown() {
    for preset in PRESETS {
        if matches!(preset, VoicePreset::PiperHttp | VoicePreset::Wyoming) {
            continue;
        }
        let house = House::with(preset, VoiceOptions::default(), NetworkVoice::default(), Some("invalid")).await;
        let fault = house.voice.check(Language::En).await.unwrap_err();
        let Fault::Network(network) = &fault else { panic!("{fault}") };
        assert_eq!(network.kind, NetworkFaultKind::Auth, "{fault}");
        assert!(network.permanent() && fault.to_string().contains("api_key_file"), "{fault}");
        assert!(house.seen().is_empty());
    }
}

#[tokio::test]
async fn a_custom_interface_is_spoken_to_by_url_alone() {
    let options = VoiceOptions::default();
    let faces = Faces::start(loopback(), FaceOptions { voices: options.clone(), ..FaceOptions::default() });
    let faces = faces.await.unwrap();
    let config = NetworkVoice {
        preset: Some(VoicePreset::Custom),
        url: Some(format!("http://{}/synthesize", faces.address())),
        headers: vec!["Content-Type: application/json".into()],
        body: Some("{\"text\": \"{{text}}\", \"voice\": \"{{voice}}\"}".into()),
        en: Some("amy".into()),
        ..NetworkVoice::default()
    };
    let http = Http::new(Duration::from_secs(1)).unwrap();
    let voice = network::open(&config, &quiet(), None, &http).unwrap().unwrap();
    let (result, heard) = spoken(&voice, say("Good morning.", Language::En, 1)).await;
    result.unwrap();
    assert_is_marker(&heard.sound, "Good morning.", "custom");
    assert_eq!(options.seen.all()[0].voice, "amy");
}

/// A voice on this machine that hums at 300 Hz for half a second.
fn offline(folder: &std::path::Path) -> Arc<dyn Synthesizer> {
    let file = folder.join("hum.wav");
    std::fs::write(&file, wav::write(pcm::RATE, 1, &tone::sine(300.0, -12.0, 8000))).unwrap();
    let command = ["sh", "-c", &format!("cat >/dev/null; cat {}", file.display())].map(String::from).to_vec();
    Arc::new(CommandSynthesizer::new(&Voice { command, ..quiet() }).unwrap())
}

fn is_offline(sound: &[i16]) -> bool {
    sound.len().abs_diff(8000) <= 2 && tone::share_of(300.0, &sound[200..7800]) > 0.95
}

/// What can go wrong before the first sound.
const BEFORE: [VoiceFault; 8] = [
    VoiceFault::Late(Duration::from_secs(30)),
    VoiceFault::Status(400),
    VoiceFault::Status(403),
    VoiceFault::Status(404),
    VoiceFault::Status(429),
    VoiceFault::Status(500),
    VoiceFault::Page,
    VoiceFault::Garbage,
];

#[tokio::test]
async fn a_voice_that_fails_is_replaced_for_the_rest_of_the_answer_and_the_next_ones() {
    let folder = tempfile::tempdir().unwrap();
    let second = offline(folder.path());
    let mut cases = Vec::new();
    for preset in PRESETS {
        for fault in BEFORE.into_iter().chain([VoiceFault::Silence]) {
            let second = second.clone();
            cases.push(tokio::spawn(async move {
                let what = format!("{} {fault:?}", preset.name());
                let options = VoiceOptions { faults: vec![(Some(1), fault)], ..VoiceOptions::default() };
                let house = House::of(preset, options).await;
                let rest = Duration::from_secs(30);
                let voice: Arc<dyn Synthesizer> = Arc::new(Fallback::new(house.voice.clone(), second, rest));
                let begun = Instant::now();
                let (result, heard) = spoken(&voice, say("One moment, please.", Language::En, 1)).await;
                let first = heard.first.unwrap_or(begun.elapsed());
                result.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(is_offline(&heard.sound), "{what}: {} samples", heard.sound.len());
                assert!(first < Duration::from_secs(3), "{what}: {first:?}");
                for (text, answer) in [("It is on its way.", 1), ("Another answer.", 2)] {
                    let (result, heard) = spoken(&voice, say(text, Language::En, answer)).await;
                    result.unwrap();
                    assert!(is_offline(&heard.sound), "{what}: the voice came back within its rest");
                }
                assert_eq!(house.seen().len(), 1, "{what}: it was asked again");
                (first, what)
            }));
        }
    }
    let mut slowest = (Duration::ZERO, String::new());
    for case in cases {
        slowest = slowest.max(case.await.unwrap());
    }
    println!("slowest replacement: {slowest:?}");
}

#[tokio::test]
async fn a_phrase_that_breaks_off_ends_there_and_the_next_is_the_other_voices() {
    let folder = tempfile::tempdir().unwrap();
    let second = offline(folder.path());
    for preset in
        [VoicePreset::Azure, VoicePreset::ElevenLabs, VoicePreset::OpenAi, VoicePreset::Gemini, VoicePreset::Wyoming]
    {
        for fault in [VoiceFault::Cut, VoiceFault::Stall(Duration::from_secs(30))] {
            let what = format!("{} {fault:?}", preset.name());
            let options = VoiceOptions { faults: vec![(Some(1), fault)], ..VoiceOptions::default() };
            let house = House::of(preset, options).await;
            let voice: Arc<dyn Synthesizer> =
                Arc::new(Fallback::new(house.voice.clone(), second.clone(), Duration::from_secs(30)));
            let begun = Instant::now();
            let text = "A second and a half here.";
            let (result, heard) = spoken(&voice, say(text, Language::En, 1)).await;
            let Fault::Network(network) = result.unwrap_err() else { panic!("{what}") };
            assert!(
                matches!(network.kind, NetworkFaultKind::Broken | NetworkFaultKind::Stalled(_)),
                "{what}: {network}"
            );
            let share = tone::share_of(marker(text).0, &heard.sound[200..heard.sound.len() - 200]);
            assert!(share > 0.9 && heard.sound.len() < 16_000, "{what}: {share}, {}", heard.sound.len());
            // What was delivered lasts 0.7 s, and 0.4 s of silence are allowed behind it.
            assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
            assert!(voice.changed_voice(AnswerId { call: 1, answer: 1 }));
            let (result, heard) = spoken(&voice, say("The rest.", Language::En, 1)).await;
            result.unwrap();
            assert!(is_offline(&heard.sound), "{what}");
        }
    }
}

#[tokio::test]
async fn after_its_rest_the_voice_is_tried_by_nobodys_sentence_and_then_speaks_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = VoiceOptions { faults: vec![(Some(1), VoiceFault::Status(500))], ..VoiceOptions::default() };
    let house = House::of(VoicePreset::Azure, options).await;
    let voice: Arc<dyn Synthesizer> =
        Arc::new(Fallback::new(house.voice.clone(), offline(folder.path()), Duration::ZERO));
    for answer in 1..=2 {
        let (result, heard) = spoken(&voice, say("Hello there.", Language::En, answer)).await;
        result.unwrap();
        assert!(is_offline(&heard.sound), "answer {answer}");
    }
    while house.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    // The trial's end is seen by what an answer gets.
    let mut answer = 3;
    loop {
        let (result, heard) = spoken(&voice, say("Hello there.", Language::En, answer)).await;
        result.unwrap();
        if !is_offline(&heard.sound) {
            assert_is_marker(&heard.sound, "Hello there.", "azure");
            break;
        }
        answer += 1;
    }
}

#[tokio::test]
async fn a_language_without_a_voice_is_the_other_voices_and_no_illness() {
    let folder = tempfile::tempdir().unwrap();
    let options = VoiceOptions::default();
    let faces = Faces::start(loopback(), FaceOptions { voices: options.clone(), ..FaceOptions::default() });
    let faces = faces.await.unwrap();
    let url = Some(format!("http://{}/synthesize", faces.address()));
    let config = NetworkVoice { preset: Some(VoicePreset::PiperHttp), url, ..NetworkVoice::default() };
    let http = Http::new(Duration::from_secs(1)).unwrap();
    let first = network::open(&config, &quiet(), None, &http).unwrap().unwrap();
    let voice: Arc<dyn Synthesizer> = Arc::new(Fallback::new(first, offline(folder.path()), Duration::from_secs(30)));
    let (result, heard) = spoken(&voice, say("שלום לך.", Language::He, 1)).await;
    result.unwrap();
    assert!(is_offline(&heard.sound) && options.seen.all().is_empty());
    let (result, heard) = spoken(&voice, say("Hello to you.", Language::En, 1)).await;
    result.unwrap();
    assert_is_marker(&heard.sound, "Hello to you.", "piper-http");
}

#[tokio::test]
async fn a_request_that_is_not_wanted_any_more_is_dropped() {
    let options = VoiceOptions { first_sound: Duration::from_secs(60), ..VoiceOptions::default() };
    for preset in [VoicePreset::OpenAi, VoicePreset::Wyoming] {
        let config = NetworkVoice { first_audio: Duration::from_secs(30), ..NetworkVoice::default() };
        let house = House::with(preset, options.clone(), config, Some("k")).await;
        let before = house.seen().len();
        let stop = CancellationToken::new();
        let (sender, mut receiver) = mpsc::channel(10);
        let speaking = tokio::spawn(house.voice.say(say("Hello there.", Language::En, 1), sender, stop.clone()));
        while house.seen().len() == before {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        speaking.await.unwrap().unwrap();
        assert!(receiver.recv().await.is_none());
    }
}

#[tokio::test]
async fn a_voice_that_cannot_be_reached_while_it_rings_costs_the_caller_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::of(VoicePreset::Azure, VoiceOptions::default()).await;
    let voice: Arc<dyn Synthesizer> =
        Arc::new(Fallback::new(house.voice.clone(), offline(folder.path()), Duration::from_secs(30)));
    let House { _faces: faces, options, .. } = house;
    drop(faces);
    voice.warm(Language::En).await.unwrap();
    let (result, heard) = spoken(&voice, say("Hello there.", Language::En, 1)).await;
    result.unwrap();
    assert!(is_offline(&heard.sound) && options.seen.all().is_empty());
    assert!(!voice.changed_voice(AnswerId { call: 1, answer: 1 }), "the answer began in the other voice");
}
