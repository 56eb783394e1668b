//! The folder and the voice with a memory.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::*;

fn sound(seed: i16, samples: usize) -> Vec<i16> {
    (0..samples).map(|n| (n as i16).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn key(n: u8) -> Key {
    [n; 32]
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_is_kept_is_there_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("voice");
    let store = Store::open(&place, 1 << 20).unwrap();
    store.write(&key(1), &sound(1, 1000)).unwrap();
    assert_eq!(store.read(&key(1)).unwrap(), sound(1, 1000));
    assert_eq!(store.read(&key(2)), None);
    let again = Store::open(&place, 1 << 20).unwrap();
    assert_eq!((again.len(), again.bytes()), (1, store.bytes()));
    assert_eq!(again.read(&key(1)).unwrap(), sound(1, 1000));
}

#[test]
fn the_folder_is_bounded_and_what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let each = (HEAD + 2000) as u64;
    let store = Store::open(folder.path(), 3 * each).unwrap();
    for n in 1..=3 {
        store.write(&key(n), &sound(0, 1000)).unwrap();
    }
    store.read(&key(1)).unwrap();
    store.write(&key(4), &sound(0, 1000)).unwrap();
    assert!(store.read(&key(2)).is_none());
    assert!([1, 3, 4].into_iter().all(|n| store.read(&key(n)).is_some()));
    assert_eq!((names(folder.path()), store.bytes()), (3, 3 * each));
    store.write(&key(5), &sound(0, 100_000)).unwrap();
    assert_eq!(store.len(), 3, "what is larger than all room is not kept");
    let smaller = Store::open(folder.path(), each).unwrap();
    assert_eq!((smaller.len(), names(folder.path())), (1, 1));
}

#[test]
fn a_file_torn_at_any_place_or_damaged_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 1 << 20).unwrap();
    store.write(&key(1), &sound(3, 40)).unwrap();
    let path = store.path(&key(1));
    let whole = fs::read(&path).unwrap();
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    for at in [0, 9, HEAD, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        cases.push(damaged);
    }
    cases.push([&whole[..], &[0, 0]].concat());
    for case in cases {
        fs::write(&path, case).unwrap();
        let store = Store::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(store.read(&key(1)), None);
        assert_eq!((store.len(), store.bytes(), names(folder.path())), (0, 0, 0));
    }
}

#[test]
fn what_a_power_cut_left_unfinished_is_swept_and_strangers_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("12-3.{UNFINISHED}")), b"OHVOICE1").unwrap();
    fs::write(folder.path().join("README"), b"mine").unwrap();
    let store = Store::open(folder.path(), 100).unwrap();
    assert!(store.is_empty() && names(folder.path()) == 1);
}

/// Says a second of sound, and counts.
#[derive(Default)]
struct Counting(Arc<AtomicUsize>);

impl Synthesizer for Counting {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, _: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let said = self.0.fetch_add(1, Relaxed);
        Box::pin(async move {
            for _ in 0..50 {
                let _ = out.send(vec![said as i16 + say.text.len() as i16; FRAME_SAMPLES]).await;
            }
            Ok(())
        })
    }

    fn identity(&self, language: Language) -> Option<String> {
        (language != Language::He).then(|| "counting".into())
    }

    fn warm(&self, _: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

async fn spoken(voice: &Cached, text: &str, language: Language, call: u64) -> Vec<i16> {
    let (out, mut pieces) = mpsc::channel(1000);
    let say = Say { text: text.into(), language, ends: Ends::Sentence, answer: AnswerId { call, answer: 1 } };
    voice.say(say, out, CancellationToken::new()).await.unwrap();
    let mut sound = Vec::new();
    while let Some(piece) = pieces.recv().await {
        assert!((FRAME_SAMPLES..=3 * FRAME_SAMPLES).contains(&piece.len()));
        sound.extend(piece);
    }
    sound
}

#[tokio::test]
async fn a_phrase_is_kept_when_it_is_said_in_a_second_call() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 1 << 20).unwrap();
    let counting = Counting::default();
    let said = counting.0.clone();
    let voice = Cached::new(Arc::new(counting), store.clone());
    for (call, kept, times) in [(1, 0, 1), (1, 0, 2), (2, 1, 3), (3, 1, 3), (1, 1, 3)] {
        assert_eq!(spoken(&voice, "One moment, please.", Language::En, call).await.len(), 50 * FRAME_SAMPLES);
        assert_eq!((store.len(), said.load(Relaxed)), (kept, times), "call {call}");
    }
    // Another language, text or ending is another phrase, and a voice without an identity is not kept.
    spoken(&voice, "One moment, please.", Language::Ru, 4).await;
    for call in 5..8 {
        spoken(&voice, "One moment, please.", Language::He, call).await;
    }
    assert_eq!((store.len(), said.load(Relaxed)), (1, 7));
}

#[tokio::test]
async fn configured_phrases_are_spoken_once_and_found_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let phrases = ["Hello.".to_owned(), "Goodbye.".to_owned(), "**Hello.**".to_owned(), "…".to_owned()];
    for (start, times) in [(1, 2), (2, 0)] {
        let counting = Counting::default();
        let said = counting.0.clone();
        let voice = Cached::new(Arc::new(counting), Store::open(folder.path(), 1 << 20).unwrap());
        assert_eq!(voice.fill(Language::En, &phrases).await.unwrap(), 4);
        assert_eq!(said.load(Relaxed), times, "start {start}");
    }
}

#[tokio::test]
async fn a_hit_starts_within_a_ptime() {
    let folder = tempfile::tempdir().unwrap();
    let voice = Cached::new(Arc::new(Counting::default()), Store::open(folder.path(), 1 << 24).unwrap());
    let phrases: Vec<String> = (0..50).map(|n| format!("Phrase number {n}.")).collect();
    voice.fill(Language::En, &phrases).await.unwrap();
    let mut times = Vec::new();
    for phrase in &phrases {
        let (out, mut pieces) = mpsc::channel(1000);
        let (text, answer) = (phrase.as_str().into(), AnswerId { call: 1, answer: 1 });
        let say = Say { text, language: Language::En, ends: Ends::Sentence, answer };
        let begun = Instant::now();
        let speaking = tokio::spawn(voice.say(say, out, CancellationToken::new()));
        pieces.recv().await.unwrap();
        times.push(begun.elapsed());
        speaking.await.unwrap().unwrap();
    }
    times.sort();
    println!("cache hit to first piece: p50 {:?}, p95 {:?}", times[25], times[47]);
    assert!(times[25] <= crate::pcm::PTIME, "{times:?}");
}

#[test]
fn pieces_are_whole() {
    for length in [1, 319, 320, 640, 800, 959, 960, 1000, 16_000, 16_001] {
        let sound = sound(0, length);
        let pieces: Vec<&[i16]> = pieces(&sound).collect();
        assert_eq!(pieces.concat(), sound);
        assert!(
            length < FRAME_SAMPLES
                || pieces.iter().all(|piece| (FRAME_SAMPLES..=3 * FRAME_SAMPLES).contains(&piece.len())),
            "{length}"
        );
    }
    assert_eq!(pieces(&[]).count(), 0);
}
