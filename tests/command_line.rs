//! The program as an installer and systemd meet it: messages, exit codes, log, readiness, watchdog, SIGTERM.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use offhook::codec::Codec;
use offhook::phone::mouth::{Turn, Utterance};
use offhook::phone::{CallOptions, place};
use offhook::sdp::{self, LocalMedia, MediaSecurity};
use offhook::simulator::{Options, Simulator, answers};
use offhook::sip::{EndReason, UserAgent, UserAgentOptions};

#[path = "support/service.rs"]
mod service;
use service::{Service, write_config};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Everything that a service on loopback needs; the model is not there.
const SMALL: &str = "[sip]\nlisten = \"127.0.0.1:0\"\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n";

/// The program, with nothing of the surroundings that would change what it does.
fn offhook() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    service::clean(&mut command);
    command
}

fn run(arguments: &[&str]) -> Output {
    offhook().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `offhook run` with this configuration ends with: its exit code, and what it says beside its log.
fn refusal(config: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = write_config(folder.path(), &config.replace("FOLDER", folder.path().to_str().unwrap()));
    let output = run(&["run", "--config", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    // One message; what the log says besides is no error.
    assert_eq!(said.matches("offhook: ").count(), 1, "{said}");
    assert!(!said.contains("ERROR") && !said.contains("panicked"), "{said}");
    assert_eq!(text(&output.stdout), "");
    (output.status.code(), said)
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn every_subcommand_explains_itself() {
    for command in [
        "",
        "demo",
        "run",
        "check",
        "doctor",
        "clips",
        "call",
        "evaluate",
        "knowledge",
        "messages",
        "simulator",
        "completions",
    ] {
        let arguments: Vec<_> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Usage: offhook"), "{command}");
    }
    assert!(text(&run(&["--version"]).stdout).starts_with("offhook "));
    assert_ne!(run(&["dance"]).status.code(), Some(0));
}

#[test]
fn the_configuration_that_is_shipped_is_good() {
    let output = run(&["check", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-config/offhook.toml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with(": good\n"));
}

#[test]
fn a_configuration_that_is_not_there_ends_with_66_and_names_the_file() {
    for command in ["check", "run"] {
        let output = run(&[command, "--config", "/nonexistent/offhook.toml"]);
        assert_eq!(output.status.code(), Some(66), "{command}");
        assert_says(&text(&output.stderr), &["offhook: ", "/nonexistent/offhook.toml"]);
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
}

#[test]
fn a_configuration_that_is_wrong_ends_with_78_and_names_file_line_key_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_config(folder.path(), "[sip]\nlisten = \"127.0.0.1:0\"\nmax_cals = 3\n");
    for command in ["check", "run"] {
        let output = run(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert_says(&text(&output.stderr), &[&format!("{}:3", file.display()), "max_cals", "max_calls"]);
    }
    let (code, said) = refusal("[hearing]\nhard_end_ms = 100\n");
    assert_eq!(code, Some(78));
    assert_says(&said, &["offhook.toml:2", "hard_end_ms"]);
    let (code, said) = refusal("[sip]\nlisten = 5060 oops\n");
    assert_eq!(code, Some(78));
    assert_says(&said, &["offhook.toml:2"]);
}

#[test]
fn a_model_beyond_loopback_without_a_key_ends_with_78_and_says_where_a_key_goes() {
    let (code, said) = refusal("[sip]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(code, Some(78));
    assert_says(&said, &["api_key_file", "GEMINI_API_KEY"]);
}

#[test]
fn a_clip_that_is_missing_or_no_sound_ends_with_66_and_names_the_file() {
    let (code, said) = refusal(&format!("{SMALL}[placeholder]\nclip = \"/nonexistent/wait.wav\"\n"));
    assert_eq!(code, Some(66));
    assert_says(&said, &["/nonexistent/wait.wav", "placeholder.clip"]);
    let (code, said) = refusal(&format!("{SMALL}[placeholder]\nclip = \"FOLDER/offhook.toml\"\n"));
    assert_eq!(code, Some(66));
    assert_says(&said, &["offhook.toml", "not a WAV file"]);
    let (code, said) = refusal(&format!("{SMALL}[placeholder]\nclips = \"FOLDER\"\n"));
    assert_eq!(code, Some(66));
    assert_says(&said, &["manifest.toml"]);
}

#[test]
fn a_key_file_that_is_missing_or_empty_ends_with_66_and_names_the_file() {
    let (code, said) = refusal(&format!("{SMALL}api_key_file = \"/nonexistent/gemini.key\"\n"));
    assert_eq!(code, Some(66));
    assert_says(&said, &["/nonexistent/gemini.key"]);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("empty.key");
    std::fs::write(&key, "\n").unwrap();
    let (code, said) = refusal(&format!("{SMALL}api_key_file = {key:?}\n"));
    assert_eq!(code, Some(66));
    assert_says(&said, &["empty.key", "is empty"]);
}

#[test]
fn a_voice_that_is_not_installed_or_does_not_speak_ends_with_69() {
    let (code, said) = refusal(&format!("{SMALL}[voice]\ncommand = [\"no-such-voice\"]\n"));
    assert_eq!(code, Some(69));
    assert_says(&said, &["no-such-voice", "voice.command"]);
    let (code, said) = refusal(&format!("{SMALL}[voice]\ncommand = [\"true\"]\n"));
    assert_eq!(code, Some(69));
    assert_says(&said, &["true"]);
}

#[test]
fn a_sip_port_in_use_ends_with_71_and_names_the_address() {
    let taken = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let (code, said) = refusal(&SMALL.replace("127.0.0.1:0", &address.to_string()));
    assert_eq!(code, Some(71));
    assert_says(&said, &[&address.to_string(), "listen"]);
}

/// The lines of the configuration that the simulator prints for its faces, interface by interface. The simulator lives as long as the child.
fn faces() -> (std::process::Child, Vec<String>) {
    let mut command = offhook();
    command.args(["simulator", "--faces"]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut blocks = vec![String::new()];
    for line in lines.map_while(Result::ok) {
        match line.as_str() {
            "" => blocks.push(String::new()),
            line => *blocks.last_mut().unwrap() += &format!("{line}\n"),
        }
        if line.starts_with("webhook_url") {
            break;
        }
    }
    assert!(blocks[0].starts_with("listening on http://127.0.0.1:"), "{blocks:?}");
    // What is said to all of them.
    assert!(blocks[1].contains("GEMINI_API_KEY"), "{blocks:?}");
    (child, blocks.split_off(2))
}

#[test]
fn what_the_simulator_prints_for_each_face_is_a_configuration_with_which_it_is_heard_and_speaks() {
    let (mut simulator, blocks) = faces();
    assert_eq!(blocks.len(), 16, "{blocks:?}");
    let judged = std::thread::scope(|scope| {
        let judging: Vec<_> = blocks[1..].iter().map(|block| scope.spawn(|| judge(&blocks[0], block))).collect();
        judging.into_iter().map(|judged| judged.join().unwrap()).collect::<Vec<_>>()
    });
    simulator.kill().unwrap();
    simulator.wait().unwrap();
    let asked = judged.iter().filter(|reached| **reached).count();
    assert_eq!(asked, 11, "four recognisers and seven voices are asked by the doctor");
}

/// Checks a configuration that uses one face; true when the doctor has asked it.
fn judge(gemini: &str, block: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[sip]\nlisten = \"127.0.0.1:0\"\n{gemini}{block}");
    let file = write_config(folder.path(), &text);
    let run = |command: &str, more: &[&str]| {
        let mut offhook = offhook();
        for key in ["GEMINI_API_KEY", "DEEPGRAM_API_KEY", "OPENAI_API_KEY", "OFFHOOK_VOICE_KEY"] {
            offhook.env(key, "any");
        }
        offhook.args([command, "--config", file.to_str().unwrap()]).args(more).output().unwrap()
    };
    let checked = run("check", &[]);
    assert_eq!(checked.status.code(), Some(0), "{block}{}", self::text(&checked.stderr));
    let Some(area) = ["recogniser", "network_voice"].into_iter().find(|area| block.contains(&format!("[{area}]")))
    else {
        return false;
    };
    let report: serde_json::Value = serde_json::from_slice(&run("doctor", &["--json"]).stdout).unwrap();
    let area = area.strip_prefix("network_").unwrap_or(area);
    let checks: Vec<_> = report["checks"].as_array().unwrap().iter().filter(|check| check["area"] == area).collect();
    assert!(!checks.is_empty() && checks.iter().all(|check| check["state"] == "ok"), "{block}{checks:?}");
    true
}

async fn simulator() -> Simulator {
    let options = Options { first_token: Duration::from_millis(200), tokens_per_second: 300.0, ..Options::default() };
    Simulator::start(options).await.unwrap()
}

fn config_for(simulator: &Simulator, folder: &Path, more: &str) -> String {
    let config = format!(
        "[sip]\nlisten = \"127.0.0.1:0\"\n[gemini]\nbase_url = \"{}\"\n[conversation]\ngreeting = false\n{more}",
        simulator.base_url()
    );
    write_config(folder, &config).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_no_number_no_words_and_no_whole_message_are_in_the_log() {
    const KEY: &str = "AIzaSyTHIS-IS-THE-KEY-0123456789abcdef";
    const NUMBER: &str = "0501234567";
    // Whoever asks for the SIP stack's own log by name would get whole messages.
    const LOG: &str = "trace,rsipstack=trace,rsipstack::transaction=trace,rsipstack::transport=trace,[call]=trace";
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    let timeline = folder.path().join("timeline.jsonl");
    let more = format!("[log]\ntimeline_file = {timeline:?}\n");
    let config = config_for(&simulator, folder.path(), &more);
    let mut command = offhook();
    command.args(["run", "--config", &config]).env("GEMINI_API_KEY", KEY).env("OFFHOOK_LOG", LOG);
    let mut service = Service::start(command);

    let question = Utterance::prepare(&Turn::Say("Are you open on Friday?".into()), "en-us").unwrap();
    let mut options = CallOptions::new(format!("sip:offhook@{}", service.address), vec![question]);
    options.from = NUMBER.into();
    options.bind = Some(LOOPBACK);
    options.script.greeting_wait = Duration::from_millis(200);
    let report = place(options).await.unwrap();
    assert!(report.turns[0].answer_start_ms.is_some(), "{report:?}");
    service.terminate();
    assert!(service.ended().success(), "{}", service.log);

    let log = &service.log;
    assert!(log.contains("TRACE") && log.contains("DEBUG") && log.contains("ended"), "it was asked for everything");
    assert!(!log.contains(KEY), "the key is in the log");
    for part in ["CSeq: ", "Via: SIP", "a=rtpmap", "RIFF", "UklGR"] {
        assert!(!log.contains(part), "{part:?} is in the log");
    }
    let words = answers(offhook::config::Language::En)[0].split(',').next().unwrap();
    for line in log.lines().filter(|line| ["INFO", "WARN", "ERROR"].iter().any(|level| line.contains(level))) {
        assert!(!line.contains(NUMBER) && !line.contains(words), "above DEBUG: {line}");
    }
    let seen = simulator.seen();
    assert!(seen.iter().all(|seen| !seen.key_in_url && !seen.json.contains(KEY)));

    let turns = std::fs::read_to_string(timeline).unwrap();
    assert_eq!(turns.lines().count(), 1);
    let turn: serde_json::Value = serde_json::from_str(&turns).unwrap();
    assert_eq!((&turn["turn"], &turn["outcome"]), (&1.into(), &"answered".into()));
    assert!(turn["gemini_first_token_ms"].is_number() && !turns.contains(words));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_ready_alive_and_stopping_and_a_second_sigterm_hangs_up_and_ends_with_0() {
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("systemd is told something within 20 s");
        text(&buffer[..length])
    };
    let config = config_for(&simulator, folder.path(), "");
    let mut command = offhook();
    command.args(["run", "--config", &config]).env("NOTIFY_SOCKET", folder.path().join("notify"));
    command.env("WATCHDOG_USEC", "600000");
    let mut service = Service::start(command);
    // The watchdog is fed from the same moment on.
    let first = [heard(), heard(), heard()];
    assert!(first.iter().any(|said| said.contains("READY=1")), "{first:?}");
    assert!(first.iter().any(|said| said.contains("WATCHDOG=1")), "{first:?}");

    let (caller, _incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
    let media = LocalMedia { address: LOOPBACK, port: 9, session_id: 1, version: 1 };
    let uri = format!("sip:offhook@{}", service.address);
    let mut call = caller.invite(&uri, sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).await.unwrap();
    let (mut dialog, _) = call.answered().await.unwrap();
    service.terminate();
    while !heard().contains("STOPPING=1") {}
    service.terminate();
    assert_eq!(dialog.ended().await, EndReason::ByPeer);
    let status = tokio::task::spawn_blocking(move || (service.ended(), service)).await.unwrap();
    assert_eq!(status.0.code(), Some(0), "{}", status.1.log);
}
