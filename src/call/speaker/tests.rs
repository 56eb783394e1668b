//! The speaker with scripted voices, in virtual time.

use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Split};

use super::*;
use crate::pcm::{self, PTIME};
use crate::sentence::Ends;
use crate::tts::Fut;

/// Makes no sound; while `waits`, it only ends when it is stopped.
struct Mute {
    waits: bool,
}

impl Synthesizer for Mute {
    fn say(&self, _: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let waits = self.waits;
        Box::pin(async move {
            if waits {
                stop.cancelled().await;
            }
            drop(out);
            Ok(())
        })
    }

    fn warm(&self, _: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

fn phrase(generation: Generation, seq: Seq, text: &str, stop: &CancellationToken) -> Phrase {
    let say = Say { text: text.into(), language: Language::En, ends: Ends::Sentence, answer: AnswerId::default() };
    Phrase { generation, seq, say, stop: stop.clone(), sound: None }
}

/// What comes into the ring of one phrase for a mute voice.
async fn queued(waits: bool) -> Vec<SpeechFrame> {
    let (ring_in, mut ring_out) = HeapRb::new(8).split();
    let (work_in, mut work_out) = mpsc::channel(8);
    let (phrases_in, phrases_out) = mpsc::channel(1);
    let stop = CancellationToken::new();
    phrases_in.send(phrase(3, 1, "\u{1f44d}", &stop)).await.ok();
    drop(phrases_in);
    let speaking = tokio::spawn(speak(Arc::new(Mute { waits }), phrases_out, ring_in, work_in));
    assert!(matches!(work_out.recv().await, Some(Work::PhraseStarted { .. })));
    if waits {
        stop.cancel();
    }
    speaking.await.unwrap();
    ring_out.pop_iter().collect()
}

#[tokio::test]
async fn a_phrase_with_nothing_to_speak_ends_in_its_place() {
    let queued = queued(false).await;
    let [mark] = &queued[..] else { panic!("{queued:?}") };
    assert!((mark.generation, mark.seq, mark.end_of_phrase) == (3, 1, true));
}

#[tokio::test]
async fn a_phrase_that_is_stopped_before_its_first_sound_leaves_nothing() {
    assert!(queued(true).await.is_empty());
}

/// Speaks a phrase whose text is its length in milliseconds: silent for `latency`, then `speed` times as fast as it sounds.
struct Scripted {
    latency: Duration,
    speed: f64,
    parallel: usize,
    /// Texts in the order in which they were begun, and how many were being spoken at most.
    begun: Arc<Mutex<(Vec<String>, usize, usize)>>,
    /// From when on the answers are in another voice, told by their loudness.
    changed: Arc<Mutex<bool>>,
}

impl Scripted {
    fn new(parallel: usize) -> Self {
        let latency = Duration::from_millis(250);
        Self { latency, speed: 1.5, parallel, begun: Arc::default(), changed: Arc::default() }
    }
}

impl Synthesizer for Scripted {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let (latency, speed, begun) = (self.latency, self.speed, self.begun.clone());
        let loudness = if *self.changed.lock().unwrap() { 4000 } else { 8000 };
        Box::pin(async move {
            let ms: u64 = say.text.parse().unwrap();
            {
                let mut begun = begun.lock().unwrap();
                begun.0.push(say.text.to_string());
                begun.1 += 1;
                begun.2 = begun.2.max(begun.1);
            }
            let speaking = async {
                tokio::time::sleep(latency).await;
                for _ in 0..ms / 40 {
                    tokio::time::sleep(Duration::from_secs_f64(0.04 / speed)).await;
                    let _ = out.send(vec![loudness; pcm::samples_in(2 * PTIME) as usize]).await;
                }
            };
            tokio::select! {
                () = speaking => {}
                () = stop.cancelled() => {}
            }
            begun.lock().unwrap().1 -= 1;
            Ok(())
        })
    }

    fn parallel(&self) -> usize {
        self.parallel
    }

    fn changed_voice(&self, _: AnswerId) -> bool {
        *self.changed.lock().unwrap()
    }

    fn warm(&self, _: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

/// Plays phrases of these lengths as the media thread would, a frame every ptime; the longest silence between two of them.
async fn longest_gap(voice: Scripted, lengths_ms: &[u64]) -> Duration {
    let (ring_in, mut ring_out) = HeapRb::new(500).split();
    let (work_in, mut work_out) = mpsc::channel(1000);
    let (phrases_in, phrases_out) = mpsc::channel(64);
    let stop = CancellationToken::new();
    for (seq, ms) in lengths_ms.iter().enumerate() {
        phrases_in.send(phrase(1, seq as Seq, &ms.to_string(), &stop)).await.ok();
    }
    tokio::spawn(speak(Arc::new(voice), phrases_out, ring_in, work_in));
    tokio::spawn(async move { while work_out.recv().await.is_some() {} });
    let mut tick = tokio::time::interval(PTIME);
    let (mut silent, mut longest, mut heard, mut order) = (0, 0, 0u64, Vec::new());
    while heard < lengths_ms.iter().sum() {
        tick.tick().await;
        let mut frame = ring_out.try_pop();
        while frame.is_some_and(|frame| frame.end_of_phrase) {
            frame = ring_out.try_pop();
        }
        match frame {
            Some(frame) => {
                if heard > 0 {
                    longest = longest.max(silent);
                }
                (silent, heard) = (0, heard + 20);
                order.push(frame.seq);
            }
            None => silent += 1,
        }
    }
    assert!(order.is_sorted(), "phrases are mixed up");
    PTIME * longest
}

#[tokio::test(start_paused = true)]
async fn between_the_sentences_of_a_voice_of_one_and_a_half_times_real_time_is_no_gap() {
    for parallel in [1, 2] {
        for lengths in [&[800, 2400, 1200, 3000, 1000][..], &[1600; 6], &[4000, 800, 4000, 800]] {
            let gap = longest_gap(Scripted::new(parallel), lengths).await;
            println!("parallel {parallel}, phrases of {lengths:?} ms: longest gap {gap:?}");
            assert!(gap <= Duration::from_millis(120), "{parallel} {lengths:?}: {gap:?}");
        }
    }
    // Shorter than what a request costs: only a voice that takes two at once keeps up.
    let short = [240u64; 8];
    let gap = longest_gap(Scripted::new(2), &short).await;
    println!("parallel 2, phrases of 240 ms: longest gap {gap:?}");
    assert!(gap <= Duration::from_millis(120), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_phrases_are_synthesised_at_once_than_the_voice_allows() {
    for (parallel, most) in [(1, 1), (2, 2), (9, 3)] {
        let voice = Scripted::new(parallel);
        let begun = voice.begun.clone();
        longest_gap(voice, &[1000, 1040, 1080, 1120, 1160]).await;
        let begun = begun.lock().unwrap();
        assert_eq!(begun.0, ["1000", "1040", "1080", "1120", "1160"]);
        assert_eq!(begun.2, most);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_synthesised_ahead_goes_with_its_answer() {
    let voice = Scripted::new(2);
    let begun = voice.begun.clone();
    let (ring_in, mut ring_out) = HeapRb::new(500).split();
    let (work_in, _work_out) = mpsc::channel(1000);
    let (phrases_in, phrases_out) = mpsc::channel(64);
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    for seq in 0..4 {
        phrases_in.send(phrase(1, seq, "2000", &first)).await.ok();
    }
    tokio::spawn(speak(Arc::new(voice), phrases_out, ring_in, work_in));
    tokio::time::sleep(Duration::from_millis(400)).await;
    first.cancel();
    phrases_in.send(phrase(2, 0, "1000", &second)).await.ok();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let frames: Vec<SpeechFrame> = ring_out.pop_iter().collect();
    let answers: Vec<Generation> = frames.iter().map(|frame| frame.generation).collect();
    assert!(answers.is_sorted() && answers.contains(&2), "{answers:?}");
    assert_eq!(begun.lock().unwrap().0, ["2000", "2000", "1000"]);
    assert_eq!(frames.iter().filter(|frame| frame.generation == 2).count(), 51);
}

#[tokio::test(start_paused = true)]
async fn a_phrase_synthesised_ahead_in_a_voice_that_was_given_up_is_spoken_anew() {
    let voice = Scripted::new(2);
    let (begun, changed) = (voice.begun.clone(), voice.changed.clone());
    let (ring_in, mut ring_out) = HeapRb::new(500).split();
    let (work_in, _work_out) = mpsc::channel(1000);
    let (phrases_in, phrases_out) = mpsc::channel(64);
    let stop = CancellationToken::new();
    for seq in 0..2 {
        phrases_in.send(phrase(1, seq, "1000", &stop)).await.ok();
    }
    tokio::spawn(speak(Arc::new(voice), phrases_out, ring_in, work_in));
    tokio::time::sleep(Duration::from_millis(500)).await;
    *changed.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_millis(3000)).await;
    let frames: Vec<SpeechFrame> = ring_out.pop_iter().collect();
    for frame in frames.iter().filter(|frame| !frame.end_of_phrase) {
        let expected = if frame.seq == 0 { 8000 } else { 4000 };
        assert_eq!(frame.samples[0], expected, "phrase {}", frame.seq);
    }
    assert_eq!(begun.lock().unwrap().0.len(), 3);
}

/// Makes no sound, and notes in which language it was to.
struct Languages(Arc<Mutex<Vec<Language>>>);

impl Synthesizer for Languages {
    fn say(&self, say: Say, _: mpsc::Sender<Vec<i16>>, _: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        self.0.lock().unwrap().push(say.language);
        Box::pin(async { Ok(()) })
    }

    fn warm(&self, _: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_caller_is_answered_in_the_voice_of_the_language_that_is_spoken() {
    let languages = Arc::new(Mutex::new(Vec::new()));
    let (ring_in, _ring_out) = HeapRb::new(50).split();
    let (work_in, _work_out) = mpsc::channel(50);
    let (phrases_in, phrases_out) = mpsc::channel(8);
    let stop = CancellationToken::new();
    for (seq, text) in ["14.", "Конечно,", "03-1234567.", "בטח.", "OK."].into_iter().enumerate() {
        phrases_in.send(phrase(1, seq as Seq, text, &stop)).await.ok();
    }
    drop(phrases_in);
    speak(Arc::new(Languages(languages.clone())), phrases_out, ring_in, work_in).await;
    let [en, he, ru] = Language::ALL;
    assert_eq!(*languages.lock().unwrap(), [en, ru, ru, he, en]);
}
