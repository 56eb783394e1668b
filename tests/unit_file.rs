//! The units that are shipped, and what else systemd reads, by systemd's own judgement.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use offhook::daemon::DRAIN;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/offhook.service");
const UNITS: [&str; 3] = ["offhook.service", "offhook-health.service", "offhook-health.timer"];

fn ran(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program} does not run ({error}): apt-get install systemd"))
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(name)).unwrap()
}

/// A unit with the program of this build in it, since systemd also looks whether the program is there, and without manual pages, which are
/// not installed here.
fn unit(folder: &Path, name: &str, change: impl FnOnce(String) -> String) -> String {
    let text = read(name);
    let here = text.replace("=/usr/bin/offhook ", concat!("=", env!("CARGO_BIN_EXE_offhook"), " "));
    assert!(here != text || name.ends_with(".timer"), "{name} starts /usr/bin/offhook");
    let here: Vec<_> = here.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    let file = folder.join(name);
    fs::write(&file, change(here.join("\n") + "\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What systemd has to say about the unit itself; it reads others along with it, and talks of them too.
fn complaints(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(|line| line.contains("offhook")).collect::<Vec<_>>().join("\n")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = UNITS.iter().map(|name| unit(folder.path(), name, |text| text)).collect();
    for file in files {
        let output = ran("systemd-analyze", &["verify", &file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(complaints(&output), "");
    }
}

#[test]
fn systemd_would_find_a_key_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let misspelt = unit(folder.path(), "offhook.service", |text| text.replace("WatchdogSec=", "WatchdogSeconds="));
    let output = ran("systemd-analyze", &["verify", &misspelt]);
    assert!(complaints(&output).contains("WatchdogSeconds"), "{}", String::from_utf8_lossy(&output.stderr));
}

/// In tenths, as systemd counts: up to 4.9 is "OK". What remains is the network, which it lives by.
fn is_exposed_at_most(tenths: &str, file: &str) {
    let threshold = format!("--threshold={tenths}");
    let output = ran("systemd-analyze", &["security", "--offline=true", &threshold, "--no-pager", file]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_is_little_exposed_with_sound_and_real_time_and_less_without_sound() {
    let folder = tempfile::tempdir().unwrap();
    is_exposed_at_most("15", &unit(folder.path(), "offhook.service", |text| text));
    for (drop_in, tenths) in [("no-audio.conf", "13"), ("lan-only.conf.example", "14")] {
        let with = |text: String| {
            text.replace("[Install]", &format!("{}\n[Install]", read(&format!("offhook.service.d/{drop_in}"))))
        };
        let file = unit(folder.path(), "offhook.service", with);
        let output = ran("systemd-analyze", &["verify", &file]);
        assert_eq!(complaints(&output), "", "{drop_in}");
        is_exposed_at_most(tenths, &file);
    }
    is_exposed_at_most("15", &unit(folder.path(), "offhook-health.service", |text| text));
}

/// The files of a folder of the source and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The line of the manual that puts the key in its place, with a sudo that, like the real one, passes no variables on.
#[test]
fn the_documented_line_writes_the_key_that_the_installer_has() {
    let manual = fs::read_to_string(Path::new(SOURCE).join("docs/appliance.md")).unwrap();
    let line = manual.lines().find(|line| line.contains("\"$KEY\"")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("gemini.key");
    let line = line.replace("/etc/offhook/secrets.d/gemini.key", key.to_str().unwrap());
    let script = format!("sudo() {{ env -i PATH=\"$PATH\" \"$@\"; }}\n{line}");
    let output = Command::new("sh").args(["-c", &script]).env("KEY", "AIza-a $key").output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(fs::read_to_string(&key).unwrap(), "AIza-a $key");
}

#[test]
fn every_command_line_of_a_unit_is_one_that_the_program_knows() {
    let mut units = Vec::new();
    for file in files(Path::new(FOLDER)) {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Exec")) {
            let Some((_, arguments)) = line.split_once("=/usr/bin/offhook ") else { continue };
            let arguments: Vec<_> = arguments.split(' ').chain(["--help"]).collect();
            let output = ran(env!("CARGO_BIN_EXE_offhook"), &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {line}: {said}", file.display());
            units.push(file.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    units.sort();
    assert_eq!(units, ["offhook-health.service", "offhook.service"], "each service starts the program");
}

#[test]
fn every_unit_that_a_card_or_an_image_enables_is_shipped() {
    let card = fs::read_to_string(Path::new(SOURCE).join("firmware-config/card/user-data")).unwrap();
    let image = fs::read_to_string(Path::new(SOURCE).join("firmware-config/image/layer/offhook.yaml")).unwrap();
    let in_card = card.lines().filter(|line| line.contains("[systemctl,"));
    let in_image = image.lines().filter(|line| line.contains("/enable-units "));
    let words = in_card.chain(in_image).flat_map(|line| line.split([' ', ',', '[', ']']));
    let named: Vec<_> = words.filter(|word| word.starts_with("offhook")).collect();
    assert!(named.len() >= 2, "{named:?}");
    for name in named {
        let file = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        assert!(UNITS.contains(&file.as_str()), "{name}");
    }
}

#[test]
fn every_manual_page_that_a_unit_names_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = ran(env!("CARGO_BIN_EXE_offhook"), &["manual", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for unit in UNITS {
        for page in read(unit).lines().filter_map(|line| line.strip_prefix("Documentation=man:")) {
            let page = folder.path().join(page.replace("(1)", ".1"));
            assert!(fs::read_to_string(&page).unwrap().contains(".SH DESCRIPTION"), "{}", page.display());
        }
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = ran(env!("CARGO_BIN_EXE_offhook"), &["completions", shell]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("simulator"), "{shell}");
    }
}

#[test]
fn a_stop_waits_for_calls_as_long_as_the_program_lets_them_go_on() {
    let text = read("offhook.service");
    let seconds = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap().parse::<u64>().unwrap();
    assert!(seconds >= 120 && seconds >= DRAIN.as_secs() + 8, "{seconds}");
}

#[test]
fn the_user_and_the_folders_are_made_as_systemd_reads_them() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let at = format!("--root={}", root.path().display());
    let output = ran("systemd-sysusers", &[&at, &format!("{FOLDER}/sysusers.d/offhook.conf")]);
    assert!(output.status.success(), "{output:?}");
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(passwd.starts_with("offhook:") && passwd.contains("nologin"), "{passwd}");
    let groups = fs::read_to_string(root.path().join("etc/group")).unwrap();
    assert!(groups.lines().any(|line| line.starts_with("audio:") && line.ends_with(":offhook")), "{groups}");
    let output = ran("systemd-tmpfiles", &["--create", &at, &format!("{FOLDER}/tmpfiles.d/offhook.conf")]);
    assert!(output.status.success(), "{output:?}");
    let secrets = fs::metadata(root.path().join("etc/offhook/secrets.d")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secrets.permissions()) & 0o777, 0o700);
}

#[test]
fn the_unit_waits_for_ready_feeds_a_watchdog_and_does_not_restart_what_cannot_mend() {
    let text = fs::read_to_string(UNIT).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    assert_eq!(value("Type="), Some("notify"));
    assert!(value("WatchdogSec=").is_some() && value("LimitRTPRIO=").is_some());
    let last: Vec<_> = value("RestartPreventExitStatus=").unwrap().split(' ').collect();
    assert!(["64", "66", "78"].iter().all(|code| last.contains(code)), "{last:?}");
}

#[test]
fn the_key_is_looked_for_under_the_name_that_systemd_gives_it() {
    let text = fs::read_to_string(UNIT).unwrap();
    let loaded = text.lines().find_map(|line| line.strip_prefix("LoadCredential=")).unwrap();
    // A folder's files get its ID and an underscore before their names (systemd.exec(5)).
    let id = loaded.strip_suffix(":/etc/offhook/secrets.d").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join(format!("{id}_gemini.key"));
    fs::write(&key, "").unwrap();
    let config = folder.path().join("offhook.toml");
    fs::write(&config, "[sip]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_offhook"));
    run.args(["run", "--config"]).arg(config).env("CREDENTIALS_DIRECTORY", folder.path()).env_remove("GEMINI_API_KEY");
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&*key.to_string_lossy()) && said.contains("is empty"), "{said}");
}
