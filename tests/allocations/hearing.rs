//! The ear of a call: endpointer and voice activity detection.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use offhook::config;
use offhook::hearing::{Endpointer, Hint, Limits};
use offhook::pcm::telephone::{FRAME_SAMPLES, SILENCE};
use offhook::pcm::{PTIME, wav};

#[test]
fn ten_thousand_frames_with_turns_keys_hints_and_gaps_allocate_nothing() {
    let speech = wav::read(include_bytes!("../data/vad.wav")).unwrap().samples;
    let speech = speech.as_chunks::<FRAME_SAMPLES>().0;
    let mut endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
    let mut now = Instant::now();
    let mut turns = 0;

    let counted = measure(|| {
        for index in 0..10_000 {
            now += PTIME;
            // The reference sound, then 1.2 s of silence; now and then a key, a stall, or the box speaking.
            let frame = speech.get(index % (speech.len() + 60)).unwrap_or(&SILENCE);
            endpointer.set_playing(index % 700 > 600);
            endpointer.handle_frame(now, frame);
            if index % 97 == 0 {
                endpointer.keep_open(now);
            }
            if index % 41 == 0 {
                endpointer.hint([Hint::Unknown, Hint::Open, Hint::Closed][index % 3]);
            }
            if index % 333 == 0 {
                now += Duration::from_millis(400);
                endpointer.handle_timeout(now);
            }
            if endpointer.poll_timeout().is_some_and(|due| due <= now) {
                endpointer.handle_timeout(now);
            }
            // Undrained for a while, so that the queue fills to its bound.
            if index % 50 == 0 {
                while let Some(heard) = endpointer.poll() {
                    turns += usize::from(matches!(heard, offhook::hearing::Heard::HardEnd { .. }));
                }
            }
        }
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
    assert!(turns > 20, "only {turns} turns were heard");
}
