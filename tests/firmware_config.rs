//! What turns a bare Raspberry Pi into the appliance: what is put into its boot files, and that each file has the shape its reader wants.
//! What needs the reader itself is in tests/appliance_boot.rs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const CONFIG: &str = "# For more options see rptl.io/configtxt\ndtparam=audio=on\n[cm4]\notg_mode=1\n[all]\n";
const CMDLINE: &str =
    "console=serial0,115200 console=tty1 root=PARTUUID=4e2a-02 rootfstype=ext4 fsck.repair=no rootwait\n";

struct Boot(tempfile::TempDir);

impl Boot {
    fn new(config: &str, cmdline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.txt"), config).unwrap();
        fs::write(folder.path().join("cmdline.txt"), cmdline).unwrap();
        Self(folder)
    }

    fn fragments(&self, order: &str) -> Output {
        let script = Path::new(SOURCE).join("firmware-config/boot-fragments");
        Command::new(script).arg(order).arg(self.0.path()).output().unwrap()
    }

    fn does(&self, order: &str) {
        let output = self.fragments(order);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}

#[test]
fn what_is_added_to_the_boot_files_stands_there_once_and_is_taken_out_whole() {
    let boot = Boot::new(CONFIG, CMDLINE);
    boot.does("add");
    let once = (boot.read("config.txt"), boot.read("cmdline.txt"));
    boot.does("add");
    assert_eq!((boot.read("config.txt"), boot.read("cmdline.txt")), once);
    assert!(once.0.starts_with(CONFIG) && once.0.ends_with("# offhook end\n"), "{}", once.0);
    for line in ["dtparam=watchdog=on", "dtparam=audio=off", "kernel_watchdog_timeout=60", "disable_splash=1"] {
        assert_eq!(once.0.lines().filter(|have| *have == line).count(), 1, "{line}");
    }
    // One line, others' words as they were, ours in place of another value.
    assert_eq!(once.1.lines().count(), 1);
    let words: BTreeSet<_> = once.1.split_whitespace().collect();
    assert!(
        words.is_superset(
            &["root=PARTUUID=4e2a-02", "console=tty1", "threadirqs", "fsck.repair=yes", "panic=10"].into()
        )
    );
    assert!(!words.contains("fsck.repair=no"));
    boot.does("remove");
    assert_eq!(boot.read("config.txt"), CONFIG);
    assert_eq!(boot.read("cmdline.txt"), CMDLINE.replace(" fsck.repair=no", ""));
    assert_eq!(fs::read_dir(boot.0.path()).unwrap().count(), 2, "nothing is left beside them");
}

#[test]
fn a_boot_file_that_an_editor_has_touched_is_taken_as_it_is() {
    // Ends of line of another system, none at the end, and a part of ours that somebody has cut through.
    let config = "dtparam=audio=on\r\n# offhook begin\r\ndtparam=watchdog=on\r\n# offhook end\r\ngpu_mem=16\r\n# offhook begin\nhalf=1";
    let boot = Boot::new(config, "root=/dev/mmcblk0p2 panic=5 rootwait\r\n");
    boot.does("add");
    let text = boot.read("config.txt");
    assert!(text.contains("dtparam=audio=on\r\ngpu_mem=16\r\n# offhook begin\nhalf=1\n"), "{text:?}");
    assert_eq!(text.matches("dtparam=watchdog=on").count(), 1, "{text:?}");
    let line = boot.read("cmdline.txt");
    assert!(
        line.starts_with("root=/dev/mmcblk0p2 rootwait ") && line.contains("panic=10") && !line.contains('\r'),
        "{line:?}"
    );
}

#[test]
fn a_folder_that_is_no_boot_partition_is_left_alone_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let output = Boot(folder).fragments("add");
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is this a Raspberry Pi's boot partition?"));
    assert_eq!(Boot::new(CONFIG, CMDLINE).fragments("ad").status.code(), Some(64));
}

#[test]
fn the_firmware_would_read_every_line_of_the_fragment() {
    let text = fs::read_to_string(Path::new(SOURCE).join("firmware-config/config.txt.d/offhook.txt")).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        // The firmware reads 98 characters of a line.
        assert!(
            line.len() <= 98 && (line == "[all]" || line.split_once('=').is_some_and(|(key, _)| !key.contains(' '))),
            "{line}"
        );
    }
    assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| !line.contains(' ')), "no spaces around =");
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(Path::new(SOURCE).join(folder)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_gateway_is_a_trunk_that_the_program_takes() {
    let gateways = files("firmware-config/gateways");
    assert!(gateways.len() >= 3, "{gateways:?}");
    for path in gateways {
        let config = offhook::config::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.trunk.len(), 1, "{}", path.display());
    }
}

#[test]
fn what_systemd_and_its_like_read_is_sections_and_keys() {
    let known = [
        ("systemd/system.conf.d", "[Manager]", ["RuntimeWatchdogSec", "RebootWatchdogSec"].as_slice()),
        (
            "systemd/journald.conf.d",
            "[Journal]",
            &["Storage", "RuntimeMaxUse", "RateLimitIntervalSec", "RateLimitBurst"],
        ),
        (
            "firmware-config/time",
            "[Time]",
            &[
                "NTP",
                "FallbackNTP",
                "PollIntervalMinSec",
                "PollIntervalMaxSec",
                "ConnectionRetrySec",
                "SaveIntervalSec",
            ],
        ),
    ];
    for (folder, section, keys) in known {
        for path in files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
            assert_eq!(lines.next(), Some(section), "{}", path.display());
            for line in lines {
                assert!(line.split_once('=').is_some_and(|(key, _)| keys.contains(&key)), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn every_rule_for_devices_is_matches_and_assignments_that_udev_knows() {
    let keys = ["SUBSYSTEM", "KERNEL", "ACTION", "TEST", "SYMLINK", "RUN"];
    for path in files("systemd/udev") {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // KEY, or KEY{name}; an operator; a value in quotes; and a comma before the next.
            for part in line.split("\", ") {
                let (key, value) = part.split_once('"').unwrap_or_else(|| panic!("{part}"));
                let key = key.trim_end_matches(['=', '!', '+']);
                let name = key.split('{').next().unwrap();
                assert!(
                    keys.contains(&name) || ["ENV", "ATTR"].contains(&name) && key.ends_with('}'),
                    "{key} in {line}"
                );
                assert!(!value.trim_end_matches('"').contains('"'), "{value}");
            }
        }
    }
}
