//! `offhook evaluate` as an installer and a script meet it: a small corpus, its three reports, and recordings of one's own.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn offhook() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    command.env_remove("OFFHOOK_LOG").arg("evaluate");
    command
}

fn evaluate(arguments: &[&str], folder: &Path) -> Output {
    offhook().args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The figures that every group has, within what they can be.
fn assert_figures(figures: &Value, name: &str) {
    for key in ["cut_offs_percent", "misses_percent", "soft_ends_taken_back_percent"] {
        assert!(
            figures[key].as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent)),
            "{name}.{key}: {figures}"
        );
    }
    let delays = ["decision_p50_ms", "decision_p90_ms", "decision_p99_ms"].map(|key| figures[key].as_f64().unwrap());
    assert!(delays.is_sorted() && delays[2] <= 3000.0, "{name}: {delays:?}");
    assert!(figures["turns"].as_u64().is_some_and(|turns| turns > 0), "{name}");
}

#[test]
fn a_small_corpus_gives_a_table_json_and_a_picture_and_its_own_recordings_give_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--quick", "--json", "--out", "out", "--keep", "--loss", "0"];
    let report = json(&evaluate(&arguments, folder.path()));
    assert_figures(&report["overall"], "overall");
    for language in ["en", "he", "ru"] {
        assert_figures(&report["languages"][language], language);
    }
    for snr in ["clean", "30", "20", "10", "5"] {
        assert_figures(&report["snr"][snr], snr);
    }
    // On a clean line nothing is missed, nobody is cut off in half a second, and nothing is heard where nobody speaks.
    let clean = &report["snr"]["clean"];
    for key in ["cut_offs_percent", "misses_percent", "spurious_starts_per_minute"] {
        assert_eq!(clean[key].as_f64(), Some(0.0), "{key}: {clean}");
    }
    assert!(clean["decision_p50_ms"].as_f64().is_some_and(|ms| (100.0..450.0).contains(&ms)), "{clean}");
    // Waiting longer cuts off less, and costs time.
    let hard: Vec<(f64, f64)> = report["sweep"]["hard_end"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tried| {
            let delay = tried["figures"]["hard_end_p50_ms"].as_f64().unwrap();
            (delay, tried["cut_offs_of_all_pauses_percent"].as_f64().unwrap())
        })
        .collect();
    let (first, last) = (hard.first().unwrap(), hard.last().unwrap());
    assert!(first.0 < last.0 && first.1 > last.1, "{hard:?}");
    assert_eq!(report["policy"]["overall"]["mid_word_cuts"].as_u64(), Some(0));
    assert!(report["goals"].as_array().is_some_and(|goals| goals.iter().all(|goal| goal["met"].is_boolean())));

    let file = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&file("evaluation.json")).unwrap(), report);
    let table = file("evaluation.txt");
    for words in ["overall", "cut-offs by length of the pause", "goals", "overall.decision_p90_ms"] {
        assert!(table.contains(words), "{words} in {table}");
    }
    let picture = file("evaluation.svg");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>") && !picture.contains("NaN"));

    // What `--keep` wrote is labelled, so that it can be heard again as if it were somebody's recordings.
    let again = json(&evaluate(&["--recordings", "out/corpus", "--json"], folder.path()));
    let everything = &report["everything"];
    assert_eq!(again["overall"]["turns"], everything["turns"]);
    assert_eq!(again["overall"]["cut_offs_percent"], everything["cut_offs_percent"]);
    assert_eq!(again["unusable"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_cannot_be_evaluated_is_said_with_a_remedy_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = evaluate(arguments, folder.path());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word} in {said}");
        }
    };
    refused(&["--recordings", "absent"], 66, &["absent"]);
    refused(&["--recordings", "."], 66, &[".wav"]);
    std::fs::write(folder.path().join("broken.wav"), b"MThd").unwrap();
    refused(&["--recordings", "."], 66, &["broken.wav", "not a WAV file"]);
    std::fs::write(folder.path().join("file"), b"").unwrap();
    refused(&["--quick", "--out", "file/out"], 73, &["--out DIR"]);
    refused(&["--quick", "--loss", "51"], 2, &["from 0 to 50"]);
    refused(&["--recordings", ".", "--seed", "3"], 2, &["--seed"]);

    // Without a voice there is no corpus.
    let output = offhook().arg("--quick").env("PATH", folder.path()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("apt install espeak-ng") && said.contains("--recordings"), "{said}");
}
