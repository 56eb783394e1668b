//! `offhook clips` as somebody meets it who wants the box to speak with his own voice.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use offhook::pcm::{RATE, tone, wav};
use serde_json::Value;

#[path = "support/service.rs"]
#[allow(dead_code)]
mod service;

/// An installer's desk: a configuration that names a folder for own clips.
struct Desk {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[clips]\nfolder = {:?}\n", folder.path().join("own"));
        let config = service::write_config(folder.path(), &text);
        Self { folder, config }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn clips(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        service::clean(&mut command);
        command.arg("clips").args(arguments).output().unwrap()
    }

    /// With the configuration.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.clips(&[arguments, &["--config", self.config.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, part: &str) {
        let output = self.clips(&[arguments, &["--config", self.config.to_str().unwrap()]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }

    /// A greeting of 1.2 s in stereo, soft, off zero, with a second of silence before it, in the form of this name's ending.
    fn recording(&self, name: &str) -> String {
        let word = tone::sine_at(44_100, 500.0, -30.0, 22_050);
        let mono = [&vec![0; 44_100][..], &word, &vec![0; 8820], &word, &vec![0; 30_000]].concat();
        let stereo: Vec<i16> = mono.iter().flat_map(|&sample| [sample + 400, sample + 400]).collect();
        let (source, path) = (self.path("source.wav"), self.path(name));
        std::fs::write(&source, wav::write(44_100, 2, &stereo)).unwrap();
        if name != "source.wav" {
            let made = Command::new("sox").args([&source, &path]).status().unwrap();
            assert!(made.success());
        }
        path
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.says(&["list", "--json"])).unwrap()
    }

    fn greetings(&self) -> Vec<Value> {
        let greeting = |clip: &Value| clip["kind"] == "greeting" && clip["language"] == "en";
        self.list().into_iter().filter(greeting).collect()
    }
}

#[test]
fn a_recording_in_any_form_becomes_the_greeting_tight_level_and_with_cut_points() {
    let desk = Desk::new();
    assert_eq!(desk.greetings()[0]["from"], "built in");
    for name in ["source.wav", "g.ogg", "g.flac"] {
        let file = desk.recording(name);
        desk.says(&["import", &file, "--id", "hello", "--lang", "en", "--kind", "greeting", "--text", "Hello"]);
        let [greeting] = &desk.greetings()[..] else { panic!("{:?}", desk.greetings()) };
        assert_eq!((&greeting["id"], &greeting["from"]), (&"hello".into(), &"own".into()), "{name}");
        let length = greeting["length_ms"].as_u64().unwrap();
        assert!(length.abs_diff(1210) < 15, "{name}: {length} ms");
        assert!((greeting["level_dbfs"].as_f64().unwrap() + 20.0).abs() < 1.0, "{name}: {greeting}");
        assert!(greeting["cut_points_ms"].as_array().unwrap().len() > 3, "{name}: {greeting}");
    }
    let mp3 = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/okay.mp3");
    desk.says(&["import", mp3.to_str().unwrap(), "--id", "okay", "--lang", "ru"]);
    let okay = desk.list().into_iter().find(|clip| clip["id"] == "okay").unwrap();
    assert!(okay["length_ms"].as_u64().unwrap().abs_diff(300) < 60, "{okay}");
    let said = desk.says(&["check"]);
    assert!(said.contains("50 clips, 0 faults"), "{said}");
    let out = desk.path("out.wav");
    desk.says(&["play", "hello", "--to", &out]);
    let sound = wav::read(&std::fs::read(&out).unwrap()).unwrap();
    assert!(sound.rate == RATE && tone::share_of(500.0, &sound.samples[400..7600]) > 0.9);
    desk.says(&["remove", "hello"]);
    assert_eq!(desk.greetings()[0]["from"], "built in");
}

#[test]
fn each_persona_speaks_with_its_own_set() {
    let desk = Desk::new();
    let file = desk.recording("source.wav");
    desk.says(&["import", &file, "--id", "shop", "--lang", "en", "--kind", "greeting", "--set", "shop"]);
    assert_eq!(desk.greetings()[0]["from"], "built in");
    let text = std::fs::read_to_string(&desk.config).unwrap() + "set = \"shop\"\n";
    std::fs::write(&desk.config, text).unwrap();
    assert_eq!(desk.greetings()[0]["id"], "shop");
}

#[test]
fn what_cannot_be_a_clip_is_refused_with_its_remedy_and_changes_nothing() {
    let desk = Desk::new();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(desk.path(name), bytes).unwrap();
        desk.path(name)
    };
    let import = |file: &str, code, part: &str| {
        desk.fails(&["import", file, "--id", "a", "--lang", "en", "--kind", "greeting"], code, part);
    };
    import(&desk.path("none.wav"), 66, "none.wav");
    import(&write("letter.pdf", b"%PDF-1.7"), 65, "ffmpeg");
    import(&write("silent.wav", &wav::write(RATE, 1, &[0; 32_000])), 65, "no sound");
    import(&write("long.wav", &wav::write(8000, 1, &vec![500; 8000 * 7200])), 65, "longer than 60 s");
    let flac = std::fs::read(desk.recording("g.flac")).unwrap();
    import(&write("broken.flac", &flac[..200]), 65, "broken.flac");
    desk.fails(&["import", &desk.recording("g.ogg"), "--id", "../a", "--lang", "en"], 64, "../a");
    assert_eq!(desk.greetings()[0]["from"], "built in");
    desk.fails(&["play", "nothing", "--to", &desk.path("x.wav")], 66, "nothing");
    desk.fails(&["remove", "nothing"], 66, "nothing");
    std::fs::write(&desk.config, "").unwrap();
    desk.fails(&["import", &desk.recording("g.ogg"), "--id", "a", "--lang", "en"], 78, "[clips]");
}

#[test]
fn texts_are_spoken_in_the_configured_voice_and_what_fails_is_named() {
    let desk = Desk::new();
    let text = ["--text", "Good morning, this is the bakery.", "--id", "morning", "--kind", "greeting", "--lang", "en"];
    desk.says(&[&["render"][..], &text].concat());
    assert_eq!(desk.greetings()[0]["id"], "morning");
    assert!(desk.says(&["check"]).contains(" 0 faults"));
    let config = std::fs::read_to_string(&desk.config).unwrap() + "[voice]\ncommand = [\"false\"]\n";
    std::fs::write(&desk.config, config).unwrap();
    desk.fails(&[&["render"][..], &text].concat(), 69, "morning (en)");
}

#[test]
fn a_folder_in_which_something_is_wrong_fails_its_check() {
    let desk = Desk::new();
    let folder = desk.path("set");
    std::fs::create_dir(&folder).unwrap();
    let manifest =
        "[[clip]]\nname = \"a\"\nfile = \"a.wav\"\nlanguage = \"en\"\nkind = \"placeholder\"\ntext = \"x\"\n";
    std::fs::write(Path::new(&folder).join("manifest.toml"), manifest).unwrap();
    let soft = [vec![0; 1600], tone::sine(500.0, -35.0, 8000)].concat();
    std::fs::write(Path::new(&folder).join("a.wav"), wav::write(RATE, 1, &soft)).unwrap();
    for part in ["-38.0 dBFS", "100 ms of silence", "no cut points", "3 faults"] {
        desk.fails(&["check", &folder], 65, part);
    }
    let listed = desk.clips(&[&folder, "--write-cuts"]);
    assert!(listed.status.success() && Path::new(&folder).join("a.cuts.toml").exists());
    desk.fails(&["check", &folder], 65, "2 faults");
}
