//! Every sound of the box has one level, no peak above −1 dBFS and no direct current, whichever voice speaks and however it comes.

use std::path::Path;

use offhook::config::{Config, Language, Voice};
use offhook::pcm::{level, wav};
use offhook::playout::clips::Clips;
use offhook::sentence::Ends;
use offhook::tts::shape::{CEILING, Gain};
use offhook::tts::{AnswerId, CommandSynthesizer, Say, Synthesizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What is said: long and short, in the languages that espeak-ng can pronounce and in Hebrew, as models write it.
const PHRASES: [(Language, &str); 12] = [
    (Language::En, "Your order has left our house, and it will be with you on Tuesday."),
    (Language::En, "Yes."),
    (Language::En, "The price is forty nine dollars and ninety cents."),
    (Language::En, "Can I do anything else for you?"),
    (Language::Ru, "Ваш заказ уже отправлен, и он придёт во вторник."),
    (Language::Ru, "Да."),
    (Language::Ru, "Могу ли я помочь чем-то ещё?"),
    (Language::Ru, "Одну минуту."),
    (Language::He, "ההזמנה שלך יצאה אתמול, ותגיע ביום שלישי."),
    (Language::He, "כן."),
    (Language::He, "אפשר לעזור בעוד משהו?"),
    (Language::He, "המחיר הוא ארבעים ותשעה שקלים."),
];

/// A phrase of an answer, as a call orders it.
async fn spoken(voice: &impl Synthesizer, text: &str, language: Language, answer: AnswerId) -> Vec<i16> {
    let (sender, mut receiver) = mpsc::channel(2000);
    let say = Say { text: text.into(), language, ends: Ends::Sentence, answer };
    voice.say(say, sender, CancellationToken::new()).await.unwrap();
    let mut sound = Vec::new();
    while let Some(piece) = receiver.recv().await {
        sound.extend(piece);
    }
    sound
}

/// Of full scale.
fn direct_current(sound: &[i16]) -> f64 {
    sound.iter().map(|&sample| f64::from(sample)).sum::<f64>() / sound.len() as f64 / 32768.0
}

#[track_caller]
fn assert_is_matched(sound: &[i16], within_db: f32, what: &str) {
    let level = level::active_dbfs(sound).unwrap();
    let target = Config::default().voice.level_dbfs;
    assert!((level - target).abs() <= within_db, "{what}: {level:.2} dBFS");
    let peak = sound.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
    assert!(peak <= CEILING as u16, "{what}: a sample of {peak}");
    assert!(direct_current(sound).abs() < 0.001, "{what}: direct current {}", direct_current(sound));
    assert!(sound[0].abs() < 100 && sound[sound.len() - 1].abs() < 100, "{what}: begins or ends with a step");
}

#[tokio::test]
async fn each_phrase_of_espeak_has_the_level_of_the_clips() {
    let voice = CommandSynthesizer::new(&Voice::default()).unwrap();
    let answer = AnswerId { call: AnswerId::new_call(), answer: 1 };
    for (n, (language, text)) in PHRASES.into_iter().enumerate() {
        voice.warm(language).await.unwrap();
        let sound = spoken(&voice, text, language, answer).await;
        // The first one may be needed before it is whole.
        assert_is_matched(&sound, if n == 0 { 2.0 } else { 1.0 }, text);
    }
}

#[test]
fn each_clip_has_the_level() {
    for clip in Clips::embedded(Config::default().voice.level_dbfs).iter() {
        assert_is_matched(&clip.frames.concat(), 1.0, &clip.name);
    }
}

/// espeak-ng's own sound of a text at `rate` and at a level, with something added to each sample.
fn recorded(folder: &Path, text: &str, dbfs: f32, direct_current: i16) -> String {
    let output =
        std::process::Command::new("espeak-ng").args(["-v", "en-us", "--stdout", "--", text]).output().unwrap();
    let sound = wav::read(&output.stdout).unwrap();
    let mut samples = sound.samples;
    // Without the limiter of the box: a voice that is too loud has clipped itself.
    let gain = dbfs - level::active_dbfs(&samples).unwrap();
    level::apply_gain(&mut samples, gain);
    samples.iter_mut().for_each(|sample| *sample = sample.saturating_add(direct_current));
    let file = folder.join(format!("{}.wav", text.len()));
    std::fs::write(&file, wav::write(sound.rate, 1, &samples)).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn a_voice_that_is_too_loud_too_soft_or_off_zero_is_matched_like_any_other() {
    let texts = PHRASES.iter().filter(|(language, _)| *language == Language::En).map(|(_, text)| *text);
    let texts: Vec<&str> = texts.collect();
    for (what, off_db, direct_current) in
        [("12 dB too loud", 12.0, 0), ("15 dB too soft", -15.0, 0), ("off zero", 0.0, 3000)]
    {
        let folder = tempfile::tempdir().unwrap();
        let level = Config::default().voice.level_dbfs + off_db;
        // In the order in which they are asked for, the first to measure the voice by.
        let files = ["Good morning, how can I help you today?"].into_iter().chain(texts.iter().copied());
        let files: Vec<String> = files.map(|text| recorded(folder.path(), text, level, direct_current)).collect();
        for (n, file) in files.iter().enumerate() {
            std::fs::rename(file, folder.path().join(format!("{n}.wav"))).unwrap();
        }
        // The processes wait for their text, and read which phrase it is by then.
        let script = format!(
            "cat >/dev/null; cd {0}; n=$(cat next 2>/dev/null || echo 0); echo $((n + 1)) >next; cat $n.wav",
            folder.path().display()
        );
        let command = ["sh", "-c", &script].map(String::from).to_vec();
        let voice = CommandSynthesizer::new(&Voice { command, ..Voice::default() }).unwrap();
        voice.warm(Language::En).await.unwrap();
        let answer = AnswerId { call: AnswerId::new_call(), answer: 1 };
        for (n, text) in texts.iter().enumerate() {
            let sound = spoken(&voice, text, Language::En, answer).await;
            assert_is_matched(&sound, if n == 0 { 2.0 } else { 1.0 }, &format!("{what}: {text}"));
        }
    }
}

/// Noise over the whole scale is the worst that a limiter can meet.
#[test]
fn no_gain_lifts_a_sample_over_the_ceiling() {
    let mut random = fastrand::Rng::with_seed(3);
    for db in [0.0, 6.0, 30.0] {
        let mut sound: Vec<i16> = (0..20_000).map(|_| random.i16(..)).collect();
        Gain::db(db).apply(&mut sound);
        assert!(sound.iter().all(|sample| sample.abs() <= CEILING));
        let flat = sound.windows(2).filter(|pair| pair[0] == pair[1] && pair[0].abs() == CEILING).count();
        assert!(flat < 3, "{db} dB: cut flat at {flat} places");
    }
}
