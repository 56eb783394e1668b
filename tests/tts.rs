//! The voice that is a program: espeak-ng as it is, and programs that misbehave.

use std::path::Path;
use std::time::{Duration, Instant};

use offhook::config::{Language, Voice};
use offhook::pcm::{level, tone, wav};
use offhook::sentence::Ends;
use offhook::tts::{AnswerId, CommandSynthesizer, Fault, Say, Synthesizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn say(text: &str, ends: Ends) -> Say {
    Say { text: text.into(), language: Language::En, ends, answer: AnswerId::default() }
}

async fn spoken(voice: &CommandSynthesizer, say: Say) -> Result<Vec<Vec<i16>>, Fault> {
    let (sender, mut receiver) = mpsc::channel(4);
    let collecting = tokio::spawn(async move {
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.recv().await {
            pieces.push(piece);
        }
        pieces
    });
    voice.say(say, sender, CancellationToken::new()).await?;
    Ok(collecting.await.unwrap())
}

/// A voice that is a shell script.
fn script(script: &str) -> Voice {
    Voice { command: ["sh", "-c", script].map(String::from).to_vec(), ..Voice::default() }
}

async fn fault(text: &str) -> Fault {
    let voice = Voice { first_audio: Duration::from_millis(300), stall: Duration::from_millis(100), ..script(text) };
    spoken(&CommandSynthesizer::new(&voice).unwrap(), say("Hello.", Ends::Sentence)).await.unwrap_err()
}

fn wav_file(folder: &Path, rate: u32, samples: &[i16]) -> String {
    let file = folder.join(format!("{rate}-{}-{}.wav", samples.len(), samples[0]));
    std::fs::write(&file, wav::write(rate, 1, samples)).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn espeak_speaks_every_language_at_the_level_asked_for() {
    let settings = Voice::default();
    let voice = CommandSynthesizer::new(&settings).unwrap();
    for (language, text) in [
        (Language::En, "Your order has left our house, and it will be with you on Tuesday."),
        (Language::Ru, "Ваш заказ уже отправлен, и он придёт во вторник."),
        (Language::He, "רגע אחד, אני בודק את ההזמנה שלך."),
    ] {
        voice.warm(language).await.unwrap();
        let pieces =
            spoken(&voice, Say { text: text.into(), language, ends: Ends::Sentence, answer: AnswerId::default() })
                .await
                .unwrap();
        assert!(pieces.iter().all(|piece| (320..=960).contains(&piece.len())), "{language:?}");
        let sound = pieces.concat();
        let level = level::active_dbfs(&sound).unwrap();
        assert!((level - settings.level_dbfs).abs() < 3.0, "{language:?}: {level}");
        assert!(level::peak_dbfs(&sound) < -0.1);
        let first = sound.iter().position(|s| s.unsigned_abs() > 200).unwrap();
        assert!(first <= 160, "{language:?}: {first} samples of silence at the start");
        let last = sound.iter().rposition(|s| s.unsigned_abs() > 200).unwrap();
        let pause = sound.len() - 1 - last;
        assert!((3200..=3280).contains(&pause), "{language:?}: a pause of {pause} samples");
    }
}

#[tokio::test]
async fn a_clause_is_followed_by_a_shorter_pause_than_a_sentence() {
    let voice = CommandSynthesizer::new(&Voice::default()).unwrap();
    let clause = spoken(&voice, say("Of course", Ends::Clause)).await.unwrap().concat().len();
    let sentence = spoken(&voice, say("Of course", Ends::Sentence)).await.unwrap().concat().len();
    assert_eq!(sentence - clause, 1920);
}

#[tokio::test]
async fn text_without_a_word_is_silently_nothing() {
    let voice = CommandSynthesizer::new(&script("exit 3")).unwrap();
    assert!(spoken(&voice, say("**  …", Ends::Sentence)).await.unwrap().is_empty());
}

#[tokio::test]
async fn any_rate_comes_out_at_the_rate_of_the_house() {
    let folder = tempfile::tempdir().unwrap();
    for rate in [8000u32, 16000, 22050, 24000, 44100] {
        let sine = tone::sine_at(rate, 500.0, -12.0, rate as usize);
        let file = wav_file(folder.path(), rate, &sine);
        let voice = CommandSynthesizer::new(&script(&format!("cat >/dev/null; cat {file}"))).unwrap();
        voice.warm(Language::En).await.unwrap();
        let sound = spoken(&voice, say("x", Ends::Clause)).await.unwrap().concat();
        assert!(sound.len().abs_diff(16_000 + 1280) <= 2, "{rate}: {}", sound.len());
        assert!(tone::share_of(500.0, &sound[100..7900]) > 0.99, "{rate}");
        assert!((level::active_dbfs(&sound[..16_000]).unwrap() + 20.0).abs() < 0.5, "{rate}");
    }
}

#[tokio::test]
async fn a_voice_that_writes_bare_samples_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let sine = tone::sine_at(22050, 500.0, -12.0, 22050);
    let file = wav_file(folder.path(), 22050, &sine);
    // As Piper does with --output-raw.
    let command_answer = "raw:22050".parse().unwrap();
    let voice = Voice { command_answer, ..script(&format!("cat >/dev/null; tail -c +45 {file}")) };
    let voice = CommandSynthesizer::new(&voice).unwrap();
    voice.check(Language::En).await.unwrap();
    let sound = spoken(&voice, say("x", Ends::Clause)).await.unwrap().concat();
    assert!(sound.len().abs_diff(16_000 + 1280) <= 2, "{}", sound.len());
    assert!(tone::share_of(500.0, &sound[100..7900]) > 0.99);
}

/// The command of the documentation in which this program stands, run with a stand-in of that name.
fn documented(program: &str, folder: &Path, stand_in: &str) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let docs = include_str!("../docs/answering.md");
    let line = docs.lines().find(|line| line.starts_with("command = ") && line.contains(program)).unwrap();
    let command: Vec<String> = serde_json::from_str(line.strip_prefix("command = ").unwrap()).unwrap();
    let file = folder.join(program);
    std::fs::write(&file, format!("#!/bin/sh\n{stand_in}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.display(), std::env::var("PATH").unwrap());
    ["env".to_owned(), path].into_iter().chain(command).collect()
}

#[tokio::test]
async fn the_command_lines_of_piper_and_flite_are_those_that_they_take() {
    let folder = tempfile::tempdir().unwrap();
    let sine = |rate: u32| tone::sine_at(rate, 500.0, -12.0, rate as usize);
    let file = |rate| wav_file(folder.path(), rate, &sine(rate));
    // Piper reads lines and writes bare samples; flite speaks an argument, and waits for ever where it is to read and to write a pipe.
    let piper = format!(
        "[ \"$*\" = '--model en_US --output-raw' ] || exit 2\nread -r text\n[ \"$text\" = 'Good morning.' ] && tail -c +45 {}",
        file(22_050)
    );
    let flite =
        format!("[ \"$*\" = '-voice en_US -t Good morning. -o /dev/stdout' ] || exit 2\nexec cat {}", file(16_000));
    for (program, stand_in, answer) in [("piper", piper, "raw:22050"), ("flite", flite, "wav")] {
        let command = documented(program, folder.path(), &stand_in);
        let voice = Voice { command, command_answer: answer.parse().unwrap(), en: "en_US".into(), ..Voice::default() };
        let voice = CommandSynthesizer::new(&voice).unwrap();
        let sound = spoken(&voice, say("Good morning.", Ends::Clause)).await.unwrap().concat();
        assert!(sound.len().abs_diff(16_000 + 1280) <= 2, "{program}: {}", sound.len());
        assert!(tone::share_of(500.0, &sound[100..7900]) > 0.99, "{program}");
    }
}

#[tokio::test]
async fn the_sound_is_given_while_the_program_still_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = wav_file(folder.path(), 8000, &tone::sine_at(8000, 500.0, -12.0, 8000));
    let gate = folder.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let text = format!("cat >/dev/null; head -c 8044 {file}; read x <{}; tail -c +8045 {file}", gate.display());
    let settings = Voice { stall: Duration::from_secs(20), ..script(&text) };
    let voice = CommandSynthesizer::new(&settings).unwrap();
    let (sender, mut receiver) = mpsc::channel(100);
    let speaking = tokio::spawn(voice.say(say("x", Ends::Clause), sender, CancellationToken::new()));
    let mut samples = 0;
    while samples < 3000 {
        samples += receiver.recv().await.unwrap().len();
    }
    std::fs::write(&gate, "on\n").unwrap();
    while let Some(piece) = receiver.recv().await {
        samples += piece.len();
    }
    speaking.await.unwrap().unwrap();
    assert_eq!(samples, 16_000 + 1280);
}

#[tokio::test]
async fn a_process_waits_for_each_phrase_and_one_that_died_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = wav_file(folder.path(), 8000, &tone::sine_at(8000, 500.0, -12.0, 1600));
    let log = folder.path().join("pids");
    let voice = script(&format!("echo $$ >>{}; cat >/dev/null; cat {file}", log.display()));
    let voice = CommandSynthesizer::new(&voice).unwrap();
    let pids = || -> Vec<u32> {
        std::fs::read_to_string(&log).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect()
    };
    // One that measures the level and one that waits.
    voice.warm(Language::En).await.unwrap();
    while pids().len() < 2 {
        tokio::task::yield_now().await;
    }
    spoken(&voice, say("x", Ends::Clause)).await.unwrap();
    while pids().len() < 3 {
        tokio::task::yield_now().await;
    }
    let waiting = pids()[2];
    assert!(std::process::Command::new("kill").args(["-9", &waiting.to_string()]).status().unwrap().success());
    while is_alive(waiting) {
        tokio::task::yield_now().await;
    }
    assert_eq!(spoken(&voice, say("x", Ends::Clause)).await.unwrap().concat().len(), 3200 + 1280);
}

/// Neither gone nor waiting to be reaped.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn cancelling_and_hanging_up_kill_the_process_and_are_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = wav_file(folder.path(), 8000, &tone::sine_at(8000, 500.0, -12.0, 8000));
    for hang_up in [false, true] {
        let log = folder.path().join(format!("pid{hang_up}"));
        let text = format!("cat >/dev/null; echo $$ >{}; cat {file}; exec tail -f /dev/null", log.display());
        let voice = CommandSynthesizer::new(&Voice { stall: Duration::from_secs(30), ..script(&text) }).unwrap();
        let (sender, mut receiver) = mpsc::channel(2);
        let stop = CancellationToken::new();
        let speaking = tokio::spawn(voice.say(say("x", Ends::Clause), sender, stop.clone()));
        receiver.recv().await.unwrap();
        let pid = std::fs::read_to_string(&log).unwrap().trim().parse().unwrap();
        assert!(is_alive(pid));
        let asked = Instant::now();
        if hang_up {
            drop(receiver);
        } else {
            stop.cancel();
        }
        speaking.await.unwrap().unwrap();
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    assert!(matches!(fault("cat >/dev/null; echo no such voice >&2; exit 3").await, Fault::Exit { note, status, .. }
        if note == "no such voice" && status.contains('3')));
    assert!(matches!(fault("exit 4").await, Fault::Exit { .. }));
    assert!(matches!(fault("cat >/dev/null; echo usage: voice").await, Fault::NotSound { .. }));
    assert!(matches!(fault("cat >/dev/null").await, Fault::NotSound { .. }));
    assert!(matches!(fault("exec tail -f /dev/null").await, Fault::Late { .. }));
    assert!(matches!(fault("exec tail -f /dev/null >&-").await, Fault::Stalled { .. } | Fault::Exit { .. }));
    let folder = tempfile::tempdir().unwrap();
    let silence = wav_file(folder.path(), 8000, &[0; 8000]);
    assert!(matches!(fault(&format!("cat >/dev/null; cat {silence}")).await, Fault::Silent { .. }));
    let sound = wav_file(folder.path(), 8000, &tone::sine_at(8000, 500.0, -12.0, 8000));
    let stalls = format!("cat >/dev/null; cat {sound}; exec tail -f /dev/null");
    assert!(matches!(fault(&stalls).await, Fault::Stalled { .. }));
    let endless = format!("cat >/dev/null; head -c 40 {sound}; printf '\\377\\377\\377\\177'; exec yes");
    assert!(matches!(fault(&endless).await, Fault::TooLong { .. }));
}

#[tokio::test]
async fn a_missing_program_is_named_with_its_remedy() {
    let nothing = Voice { command: vec![], ..Voice::default() };
    assert!(matches!(CommandSynthesizer::new(&nothing), Err(Fault::NoCommand)));
    let voice = Voice { command: vec!["/nowhere/espeak-ng".into()], ..Voice::default() };
    let error = CommandSynthesizer::new(&voice).unwrap().check(Language::En).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/espeak-ng") && error.contains("apt-get install espeak-ng"), "{error}");
}
