//! `offhook talk` as a program: files as the line, and the sound cards of this machine as far as there are any.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use offhook::call::{self, Local};
use offhook::config::Config;
use offhook::conversation::Phase;
use offhook::daemon::Daemon;
use offhook::loopback::virtual_card::{Room, VirtualCard, VirtualDevice};
use offhook::loopback::{CardSide, Choice, Duplex, Keeper, LoopbackLeg, Notice, files};
use offhook::pcm::{RATE, level, tone, wav};
use offhook::record::{Cause, EndedBy};
use offhook::simulator::{Options, Simulator};
use offhook::timeline::TurnOutcome;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

fn talk(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    command.arg("talk").args(arguments).stdin(Stdio::null()).env_remove("GEMINI_API_KEY");
    command.output().expect("offhook runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A question spoken by espeak-ng.
fn question(folder: &Path) -> PathBuf {
    let file = folder.join("question.wav");
    let spoken =
        Command::new("espeak-ng").args(["-v", "en-us", "-w"]).arg(&file).arg("Are you open on Friday?").status();
    assert!(spoken.expect("espeak-ng runs").success());
    file
}

#[test]
fn a_question_in_a_file_is_answered_into_a_file_and_status_and_json_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, record] =
        [question(folder.path()), folder.path().join("answer.wav"), folder.path().join("call.wav")];
    let [from, to, record] = [&from, &to, &record].map(|path| path.to_str().unwrap());
    let output = talk(&["--from", from, "--to", to, "--record", record, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!((&report["exit"], &report["cause"], &report["simulated"]), (&0.into(), &"hung_up".into(), &true.into()));
    let turns = report["turns"].as_array().unwrap();
    assert_eq!((turns.len(), &turns[0]["outcome"]), (1, &"answered".into()));
    assert!(turns[0]["first_sound_ms"].as_f64().is_some_and(|ms| ms < 1000.0), "{turns:?}");
    let answer = wav::read(&std::fs::read(to).unwrap()).unwrap();
    assert_eq!(answer.rate, RATE);
    assert!(level::active_dbfs(&answer.samples).is_some_and(|level| level > -30.0));
    // The greeting, the question and the answer follow each other: together they are longer than any of them.
    let seconds = answer.samples.len() as f64 / f64::from(RATE);
    let written = report["recordings"].as_array().unwrap();
    assert_eq!(written.len(), 2);
    assert!(written.iter().all(|file| (file["seconds"].as_f64().unwrap() - seconds).abs() < 0.1), "{written:?}");
    assert!(seconds > 5.0 && (report["seconds"].as_f64().unwrap() - seconds).abs() < 2.0, "at real time: {seconds}");
}

#[test]
fn what_cannot_be_said_or_written_ends_with_its_status_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.wav", &wav::write(RATE, 1, &tone::sine(300.0, -20.0, RATE as usize)));
    let broken = file("broken.wav", b"RIFF\x10\0\0\0WAVEfmt ");
    let silent = file("silent.wav", &wav::write(RATE, 1, &[0; 16_000]));
    let nowhere = folder.path().join("no/folder/answer.wav");
    for (arguments, status, remedy) in [
        (vec!["--from", broken.as_str()], 65, "ffmpeg"),
        (vec!["--from", silent.as_str()], 65, "louder"),
        (vec!["--from", "/nonexistent/question.wav"], 66, "can be read"),
        (vec!["--from", good.as_str(), "--to", nowhere.to_str().unwrap()], 73, "can be written"),
        (vec!["--from", good.as_str(), "--config", "/nonexistent/offhook.toml"], 66, "/nonexistent/offhook.toml"),
        (vec!["--input", "no such device at all"], 64, "--list"),
    ] {
        let output = talk(&[&arguments[..], &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        // Without any sound at all in this machine, that is what is said first.
        let is_deaf = status == 64 && output.status.code() == Some(69);
        assert!(output.status.code() == Some(status) || is_deaf, "{arguments:?}: {output:?}");
        assert!(said.contains(remedy) || is_deaf, "{said}");
        let report = json(&output);
        assert!(said.contains(report["problems"][0].as_str().unwrap()), "{report} {said}");
        assert_eq!(report["exit"].as_i64(), output.status.code().map(i64::from));
    }
}

/// ALSA's `null` is there on every machine with libasound, card or not. It is opened, and found to be no clock.
#[test]
fn a_device_without_a_clock_is_stopped_with_a_message_or_not_there_at_all() {
    let output = talk(&["--input", "null", "--output", "null", "--json"]);
    let report = json(&output);
    let problem = report["problems"][0].as_str().unwrap();
    match output.status.code() {
        Some(78) => assert!(problem.contains("faster") || problem.contains("as fast as time passes"), "{problem}"),
        Some(64 | 69) => assert!(problem.contains("--list") || problem.contains("aplay -l"), "{problem}"),
        status => panic!("{status:?}: {output:?}"),
    }
    let output = talk(&["--list"]);
    let listed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(listed.contains("Hz"), "{listed}"),
        Some(69) => assert!(listed.contains("there is no") || listed.contains("local-audio"), "{listed}"),
        status => panic!("{status:?}: {listed}"),
    }
}

/// What the microphone of a test hears: nothing, or a sound from a moment on.
type Said = Arc<Mutex<Option<(f64, Vec<i16>)>>>;

/// A card in process whose time is the machine's: a thread lets it pass.
struct Driven {
    card: VirtualCard,
    began: Instant,
    said: Said,
    notices: mpsc::UnboundedReceiver<Notice>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Driven {
    fn start(side: CardSide, room: Room) -> Self {
        let began = Instant::now();
        let device = |rate, ppm| VirtualDevice { ppm, ..VirtualDevice::new("virtual", rate, 2) };
        let card = VirtualCard::new(began, device(44_100, 80.0), device(48_000, -80.0));
        card.stands_in(room);
        let said = Said::default();
        let heard = said.clone();
        card.hears(move |time| {
            let said = heard.lock().unwrap();
            let sample = said.as_ref().and_then(|(from, sound)| {
                let at = (time - from) * f64::from(RATE);
                (at >= 0.0).then(|| sound.get(at as usize)).flatten().copied()
            });
            f32::from(sample.unwrap_or(0)) / 32768.0
        });
        let (told, notices) = mpsc::unbounded_channel();
        let over = Arc::<AtomicBool>::default();
        let (until, driven) = (over.clone(), card.clone());
        let thread = std::thread::spawn(move || {
            let choices = [Choice::Default, Choice::Default];
            let mut keeper = Keeper::new(Box::new(driven.clone()), choices, side, began);
            let mut due = began;
            while !until.load(Relaxed) {
                driven.advance(Instant::now());
                keeper.tick(Instant::now());
                while let Some(notice) = keeper.poll() {
                    let _ = told.send(notice);
                }
                due += Duration::from_millis(5);
                std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { card, began, said, notices, over, thread: Some(thread) }
    }

    fn says(&self, sound: &[i16]) {
        *self.said.lock().unwrap() = Some((self.began.elapsed().as_secs_f64(), sound.to_vec()));
    }

    /// Whether both devices are opened next, or both lost.
    async fn both(&mut self, opened: bool) -> bool {
        for _ in 0..2 {
            let notice = tokio::time::timeout(Duration::from_secs(10), self.notices.recv()).await;
            let notice = notice.expect("it comes in time").expect("the card is looked after");
            if matches!(notice, Notice::Opened(_)) != opened {
                return false;
            }
        }
        true
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn reaches(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    let reached = phases.wait_for(|phase| *phase == wanted);
    let _ = tokio::time::timeout(Duration::from_secs(20), reached)
        .await
        .expect("it comes in time")
        .expect("the call lasts");
}

/// A loudspeaker that is twice as loud at the microphone as it is, and a card that is pulled out in the middle of an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_over_a_loudspeaker_does_not_hear_itself_and_outlives_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let question = files::read(&question(folder.path())).unwrap();
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let mut config = Config::default();
    config.sip.listen = ([127, 0, 0, 1], 0).into();
    config.gemini.base_url = simulator.base_url();
    let daemon = Daemon::start(config).await.unwrap();
    let (parts, stop) = (daemon.parts(), daemon.stopper());
    let turns = Arc::<Mutex<Vec<TurnOutcome>>>::default();
    let seen = turns.clone();
    let service = tokio::spawn(daemon.serve(move |turn| seen.lock().unwrap().push(turn.outcome)));
    let (leg, side, _keys) = LoopbackLeg::new(Instant::now(), Duplex::Automatic, None);
    let mut driven = Driven::start(side, Room { delay: Duration::from_millis(30), gain: 2.0 });
    let (phase, mut phases) = watch::channel(Phase::Ringing);
    let hang_up = CancellationToken::new();
    let local = Local { name: "talk-test".into(), leg: Box::new(leg), phase, hang_up: hang_up.clone() };
    let talking = tokio::spawn(call::talk(parts, local, stop.child_token()));

    reaches(&mut phases, Phase::Greeting).await;
    reaches(&mut phases, Phase::Listening).await;
    driven.says(&question);
    reaches(&mut phases, Phase::Speaking).await;
    let gone = driven.card.unplug();
    reaches(&mut phases, Phase::Listening).await;
    assert!(driven.both(true).await && driven.both(false).await);
    driven.card.plug(gone);
    assert!(driven.both(true).await);
    driven.says(&question);
    reaches(&mut phases, Phase::Speaking).await;
    reaches(&mut phases, Phase::Listening).await;
    hang_up.cancel();
    let ended = talking.await.unwrap().unwrap();
    stop.cancel();
    service.await.unwrap().unwrap();
    assert_eq!((ended.by, ended.cause, ended.turns), (EndedBy::Peer, Cause::HungUp, 2));
    assert_eq!(
        *turns.lock().unwrap(),
        [TurnOutcome::Answered; 2],
        "nobody cut in, and nobody was heard who did not speak"
    );
}
