//! `offhook messages` as somebody meets it who wants to hear what callers have left.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use offhook::config::Voicemail;
use offhook::voicemail::{Ended, Note, Recording, Store};
use serde_json::Value;

#[path = "support/service.rs"]
#[allow(dead_code)]
mod service;

const NUMBER: &str = "+972501234567";

/// A box on which somebody has left a message, and somebody else a wish.
struct Machine {
    folder: tempfile::TempDir,
    config: PathBuf,
    store: Store,
    message: String,
    wish: String,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let messages = folder.path().join("messages");
        let text = format!(
            "[sip]\nlisten = \"127.0.0.1:0\"\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n[voicemail]\nenabled = true\nfolder = {messages:?}\n"
        );
        let config = service::write_config(folder.path(), &text);
        let store = Store::open(&Voicemail { enabled: true, folder: messages, ..Voicemail::default() }).unwrap();
        let at = |second: u64| UNIX_EPOCH + Duration::from_secs(1_795_374_900 + second);
        let from = || Note { caller: NUMBER.into(), call: "a@b".into() };
        let recording = Recording { samples: vec![1000; 24_000], ended: Ended::Silence, wide: false };
        let message = store.save(at(0), from(), &recording).unwrap().id;
        let wish = store.note(at(60), from(), "tomorrow morning").unwrap().id;
        Self { folder, config, store, message, wish }
    }

    fn messages(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        service::clean(&mut command);
        command.args(["messages", "--config", self.config.to_str().unwrap()]).args(arguments).output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.messages(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, part: &str) {
        let output = self.messages(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{part:?} is not in: {said}");
    }
}

#[test]
fn the_list_is_one_line_a_message_without_whole_numbers_and_whole_as_json() {
    let house = Machine::new();
    let list = house.says(&["list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 2 && !list.contains(NUMBER), "{list}");
    assert!(lines[0].starts_with(&house.message) && lines[0].ends_with(" 1.5 s"), "{list}");
    assert!(lines[1].starts_with(&house.wish) && lines[1].ends_with("wants to be called back"), "{list}");
    let all: Value = serde_json::from_str(&house.says(&["list", "--json"])).unwrap();
    assert_eq!((&all[0]["id"], &all[0]["caller"]), (&house.message.as_str().into(), &NUMBER.into()));
    assert_eq!((&all[1]["kind"], &all[1]["wish"]), (&"call-back".into(), &"tomorrow morning".into()));
    let one: Value = serde_json::from_str(&house.says(&["show", &house.message])).unwrap();
    assert_eq!(one, all[0]);
}

#[test]
fn the_sound_is_written_into_a_new_file_and_never_over_another() {
    let house = Machine::new();
    let file = house.folder.path().join("out.wav");
    let file = file.to_str().unwrap();
    house.says(&["export", &house.message, file]);
    assert_eq!(std::fs::read(file).unwrap(), house.store.sound(&house.message).unwrap());
    house.fails(&["export", &house.message, file], 73, "out.wav");
    // A wish has no sound.
    let other = house.folder.path().join("other.wav");
    house.fails(&["export", &house.wish, other.to_str().unwrap()], 66, &house.wish);
    assert!(!other.exists());
}

#[test]
fn what_is_deleted_is_gone_with_its_sound_and_the_rest_stays() {
    let house = Machine::new();
    house.says(&["delete", &house.message]);
    let list = house.says(&["list"]);
    assert!(!list.contains(&house.message) && list.contains(&house.wish), "{list}");
    assert_eq!(std::fs::read_dir(house.store.folder()).unwrap().count(), 1);
    house.fails(&["delete", &house.message], 66, &house.message);
    house.fails(&["show", &house.message], 66, &house.message);
    house.fails(&["delete", "../offhook"], 66, "../offhook");
    assert!(house.config.exists());
}
