//! How well a caller's question finds the passage that answers it: a folder of a bicycle shop in three languages, and questions that
//! are put otherwise than its texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use offhook::config;
use offhook::knowledge::Knowledge;

const LANGUAGES: [&str; 3] = ["en", "he", "ru"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/knowledge")
}

fn shop() -> Knowledge {
    Knowledge::open(&config::Knowledge { folder: Some(data()), ..Default::default() })
}

fn questions(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(data().join(file)).unwrap();
    let split = |line: &str| {
        let (question, heading) = line.split_once('\t').unwrap_or((line, ""));
        (question.to_owned(), heading.to_owned())
    };
    text.lines().map(split).collect()
}

/// How many of a language's questions find their passage among the first `among`.
fn hits(knowledge: &Knowledge, language: &str, among: usize) -> (usize, usize) {
    let questions = questions(&format!("{language}.questions"));
    let mut hits = 0;
    for (question, heading) in &questions {
        let found = knowledge.search(question);
        let good = found.iter().take(among).any(|passage| passage.heading.ends_with(&format!(" › {heading}")));
        hits += usize::from(good);
        if !good {
            let instead: Vec<&str> = found.iter().map(|passage| &*passage.heading).collect();
            println!("{language}: {question} → {instead:?} instead of {heading}");
        }
    }
    (hits, questions.len())
}

#[test]
fn nine_of_ten_questions_find_their_passage_among_the_first_three() {
    let knowledge = shop();
    for language in LANGUAGES {
        let (first, all) = hits(&knowledge, language, 1);
        let (three, _) = hits(&knowledge, language, 3);
        println!("recall {language}: @1 {first}/{all}, @3 {three}/{all}");
        assert!(all >= 20);
        assert!(three * 10 >= all * 9, "{language}: {three} of {all}");
    }
}

#[test]
fn what_is_no_question_to_the_business_finds_next_to_nothing() {
    let knowledge = shop();
    let mut found = BTreeMap::new();
    for (question, _) in questions("irrelevant.questions") {
        let passages = knowledge.search(&question);
        if !passages.is_empty() {
            let headings: Vec<String> = passages.iter().map(|passage| passage.heading.to_string()).collect();
            found.insert(question, headings);
        }
    }
    println!("found for what is no question: {found:#?}");
    assert!(found.len() <= 2, "{found:#?}");
}

/// Makes a file as old as if it had been written so long ago.
fn settle(file: &Path, seconds: u64) {
    let past = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(past).unwrap();
}

fn first(knowledge: &Knowledge, question: &str) -> Option<String> {
    knowledge.search(question).first().map(|passage| passage.text.to_string())
}

#[test]
fn a_text_that_changed_is_found_after_the_next_look_and_a_folder_that_went_leaves_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    let file = texts.join("prices.md");
    std::fs::write(&file, "A cake costs forty shekels.").unwrap();
    let knowledge = Knowledge::open(&config::Knowledge { folder: Some(texts.clone()), ..Default::default() });
    let before = knowledge.index();
    assert_eq!(first(&knowledge, "what does a cake cost").as_deref(), Some("A cake costs forty shekels."));
    assert!(!knowledge.refresh(), "nothing has changed");
    std::fs::write(&file, "A cake costs fifty").unwrap();
    assert!(!knowledge.refresh(), "it may still be being written");
    std::fs::write(&file, "A cake costs fifty shekels.").unwrap();
    settle(&file, 5);
    assert!(knowledge.refresh());
    assert_eq!(first(&knowledge, "what does a cake cost").as_deref(), Some("A cake costs fifty shekels."));
    assert_eq!(&*before.passages()[0].text, "A cake costs forty shekels.", "who holds the old one keeps it whole");
    std::fs::remove_dir_all(&texts).unwrap();
    assert!(!knowledge.refresh() && first(&knowledge, "cake").is_some());
}

#[test]
fn what_cannot_be_read_is_left_out_and_the_rest_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("a.txt", b"Cakes are baked daily.");
    write("b.txt", b"\xff\xfe\x00");
    write("c.pdf", b"Bread is baked at night.\x0cRolls in the morning.");
    write("d.jpg", b"Muffins");
    write("e.md", "Tarts cost ten. ".repeat(100).as_bytes());
    write(".hidden.md", b"Secrets are hidden.");
    let wanted = config::Knowledge {
        folder: Some(folder.path().into()),
        max_bytes: 200,
        pdf_command: ["cat", "{file}"].map(String::from).into(),
        ..Default::default()
    };
    let knowledge = Knowledge::open(&wanted);
    assert!(first(&knowledge, "cakes").is_some() && first(&knowledge, "bread").is_some(), "{:?}", knowledge.index());
    for left in ["muffins", "tarts", "secrets"] {
        assert_eq!(first(&knowledge, left), None, "{left}");
    }
    let no_program = config::Knowledge { pdf_command: vec!["/nonexistent".into(), "{file}".into()], ..wanted.clone() };
    let knowledge = Knowledge::open(&no_program);
    assert!(first(&knowledge, "cakes").is_some() && first(&knowledge, "bread").is_none());
    let failing = config::Knowledge { pdf_command: vec!["false".into(), "{file}".into()], ..wanted };
    assert!(first(&Knowledge::open(&failing), "bread").is_none());
}
