//! Time to find the passages for a question, in 10,000 passages of three languages whose words are as unevenly frequent as real ones:
//! by the clock, and by the processor's time, which others on the machine do not lengthen.
//!
//! `cargo bench --bench retrieval`

use std::time::Instant;

use fastrand::Rng;
use offhook::knowledge::{Index, Passage};
use offhook::timeline::Percentiles;
use rustix::time::{ClockId, clock_gettime};

const PASSAGES: usize = 10_000;
const QUESTIONS: usize = 3000;
/// Words that a language has.
const VOCABULARY: usize = 20_000;

/// Letters of a word in each language.
const LETTERS: [&str; 3] = ["abdefgiklmnoprstuvy", "אבגדהוזחטיכלמנסעפצקרשת", "абвгдезиклмнопрстуфхыя"];

fn word(random: &mut Rng, letters: &[char]) -> String {
    let length = random.usize(3..10);
    (0..length).map(|_| letters[random.usize(..letters.len())]).collect()
}

/// A word by Zipf's law: the n-th most frequent is n times rarer than the first.
fn pick<'w>(random: &mut Rng, words: &'w [String]) -> &'w str {
    let at = (words.len() as f64).powf(random.f64()) as usize;
    &words[at.min(words.len()) - 1]
}

/// Milliseconds of processor time that this thread has had.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1000.0 + time.tv_nsec as f64 / 1e6
}

fn main() {
    let mut random = Rng::with_seed(5);
    let vocabularies: Vec<Vec<String>> = LETTERS
        .iter()
        .map(|letters| {
            let letters: Vec<char> = letters.chars().collect();
            (0..VOCABULARY).map(|_| word(&mut random, &letters)).collect()
        })
        .collect();
    let text = |random: &mut Rng, language: usize, words: usize| -> String {
        let words: Vec<&str> = (0..words).map(|_| pick(random, &vocabularies[language])).collect();
        words.join(" ")
    };
    let passages: Vec<Passage> = (0..PASSAGES)
        .map(|number| {
            let words = random.usize(30..80);
            let text = text(&mut random, number % 3, words);
            Passage { source: "generated.md".into(), heading: "".into(), text: text.into() }
        })
        .collect();
    let begun = Instant::now();
    let index = Index::new(passages);
    println!("{PASSAGES} passages indexed in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let mut found = 0;
    for (language, name) in ["en", "he", "ru"].into_iter().enumerate() {
        let (mut clock, mut own) = (Vec::new(), Vec::new());
        for _ in 0..QUESTIONS / 3 {
            let words = random.usize(3..12);
            let question = text(&mut random, language, words);
            let (begun, had) = (Instant::now(), processor());
            found += index.search(&question, 3, 0.3).len();
            own.push(processor() - had);
            clock.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        for (what, times) in [("clock", clock), ("processor", own)] {
            let Some(ms) = Percentiles::of(times) else { return };
            println!(
                "{name} {what:<9}: p50 {:.2} ms  p95 {:.2} ms  p99 {:.2} ms  max {:.2} ms",
                ms.p50, ms.p95, ms.p99, ms.max
            );
        }
    }
    println!("{found} passages found");
}
