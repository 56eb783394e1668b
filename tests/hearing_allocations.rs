//! The ear of a call allocates nothing on the media thread: every allocation of the thread is counted.

#![allow(unsafe_code, reason = "a global allocator cannot be had without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use offhook::config;
use offhook::hearing::{Endpointer, Limits};
use offhook::pcm::{FRAME_SAMPLES, PTIME, SILENCE, wav};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count() {
        // A thread that is being torn down has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn ten_thousand_frames_with_turns_keys_and_gaps_allocate_nothing() {
    let speech = wav::read(include_bytes!("data/vad.wav")).unwrap().samples;
    let speech = speech.as_chunks::<FRAME_SAMPLES>().0;
    let mut endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
    let mut now = Instant::now();
    let mut turns = 0;

    let before = ALLOCATIONS.get();
    assert!(before > 0, "the counter counts");
    for index in 0..10_000 {
        now += PTIME;
        // The reference sound, then 1.2 s of silence; now and then a key, a stall, or the box speaking.
        let frame = speech.get(index % (speech.len() + 60)).unwrap_or(&SILENCE);
        endpointer.set_playing(index % 700 > 600);
        endpointer.handle_frame(now, frame);
        if index % 97 == 0 {
            endpointer.keep_open(now);
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
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(turns > 20, "only {turns} turns were heard");
}
