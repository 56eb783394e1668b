//! How well a caller's question finds the passage that answers it: a folder of a bicycle shop in three languages, and questions that
//! are put otherwise than its texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
fn what_is_no_question_to_the_business_finds_nothing() {
    let knowledge = shop();
    let mut found = BTreeMap::new();
    for (question, _) in questions("irrelevant.questions") {
        let passages = knowledge.search(&question);
        if !passages.is_empty() {
            let headings: Vec<String> = passages.iter().map(|passage| passage.heading.to_string()).collect();
            found.insert(question, headings);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
