//! The systemd unit that is shipped, by systemd's own judgement.

use std::path::Path;
use std::process::{Command, Output};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/offhook.service");

fn systemd_analyze(arguments: &[&str]) -> Output {
    let output = Command::new("systemd-analyze").args(arguments).output();
    output.unwrap_or_else(|error| panic!("systemd-analyze does not run ({error}): apt-get install systemd"))
}

/// The unit with the program of this build in it, since systemd also looks whether the program is there.
fn unit(folder: &Path, change: impl FnOnce(String) -> String) -> String {
    let text = std::fs::read_to_string(UNIT).unwrap();
    let here = text.replace("ExecStart=/usr/bin/offhook ", concat!("ExecStart=", env!("CARGO_BIN_EXE_offhook"), " "));
    assert_ne!(here, text, "the unit starts /usr/bin/offhook");
    let file = folder.join("offhook.service");
    std::fs::write(&file, change(here)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What systemd has to say about the unit itself; it reads others along with it, and talks of them too.
fn complaints(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(|line| line.contains("offhook")).collect::<Vec<_>>().join("\n")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let output = systemd_analyze(&["verify", &unit(folder.path(), |text| text)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(complaints(&output), "");
}

#[test]
fn systemd_would_find_a_key_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let misspelt = unit(folder.path(), |text| text.replace("WatchdogSec=", "WatchdogSeconds="));
    let output = systemd_analyze(&["verify", &misspelt]);
    assert!(complaints(&output).contains("WatchdogSeconds"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_unit_is_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit(folder.path(), |text| text);
    // In tenths; systemd calls up to 4.9 "OK" and up to 2.4 "SAFE". What remains is the network, which it lives by.
    let output = systemd_analyze(&["security", "--offline=true", "--threshold=20", "--no-pager", &unit]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_waits_for_ready_feeds_a_watchdog_and_does_not_restart_what_cannot_mend() {
    let text = std::fs::read_to_string(UNIT).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    assert_eq!(value("Type="), Some("notify"));
    assert!(value("WatchdogSec=").is_some() && value("LimitRTPRIO=").is_some());
    let last: Vec<_> = value("RestartPreventExitStatus=").unwrap().split(' ').collect();
    assert!(["64", "66", "78"].iter().all(|code| last.contains(code)), "{last:?}");
}

#[test]
fn the_key_is_looked_for_under_the_name_that_systemd_gives_it() {
    let text = std::fs::read_to_string(UNIT).unwrap();
    let loaded = text.lines().find_map(|line| line.strip_prefix("LoadCredential=")).unwrap();
    // A folder's files get its ID and an underscore before their names (systemd.exec(5)).
    let id = loaded.strip_suffix(":/etc/offhook/secrets.d").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join(format!("{id}_gemini.key"));
    std::fs::write(&key, "").unwrap();
    let config = folder.path().join("offhook.toml");
    std::fs::write(&config, "[sip]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_offhook"));
    run.args(["run", "--config"]).arg(config).env("CREDENTIALS_DIRECTORY", folder.path()).env_remove("GEMINI_API_KEY");
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&*key.to_string_lossy()) && said.contains("is empty"), "{said}");
}
