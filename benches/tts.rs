//! Time from the text to the first piece of sound, by the default voice: process started beforehand, and not.
//!
//! `cargo bench --bench tts`; needs espeak-ng.

use std::time::{Duration, Instant};

use offhook::config::{Language, Voice};
use offhook::sentence::Ends;
use offhook::tts::{AnswerId, CommandSynthesizer, Say, Synthesizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 200;

async fn first_piece(voice: &CommandSynthesizer) -> (Duration, Duration) {
    let (sender, mut receiver) = mpsc::channel(64);
    let text = "Of course, your order has left our house and will be with you on Tuesday.".into();
    let begun = Instant::now();
    let say = Say { text, language: Language::En, ends: Ends::Sentence, answer: AnswerId::default() };
    let speaking = tokio::spawn(voice.say(say, sender, CancellationToken::new()));
    receiver.recv().await.expect("espeak-ng is installed");
    let first = begun.elapsed();
    while receiver.recv().await.is_some() {}
    speaking.await.expect("no panic").expect("no fault");
    (first, begun.elapsed())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what:28} p50 {:8.2?}  p95 {:8.2?}", times[times.len() / 2], times[times.len() * 95 / 100]);
}

#[tokio::main]
async fn main() {
    let mut waiting = Vec::new();
    let mut whole = Vec::new();
    let voice = CommandSynthesizer::new(&Voice::default()).expect("the default names a program");
    voice.warm(Language::En).await.expect("espeak-ng is installed");
    for _ in 0..ROUNDS {
        // The next process needs its start-up time, as it has in a call.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (first, all) = first_piece(&voice).await;
        waiting.push(first);
        whole.push(all);
    }
    let mut cold = Vec::new();
    for _ in 0..ROUNDS {
        cold.push(first_piece(&CommandSynthesizer::new(&Voice::default()).expect("as above")).await.0);
    }
    show("first piece, process waiting", waiting);
    show("whole phrase (5 s of speech)", whole);
    show("first piece, process started", cold);
}
