//! `offhook` with a heap that is counted: a bench starts itself as the box, and reads how much of its heap is in use.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The environment variable that names the file into which the box writes.
const FILE: &str = "OFFHOOK_BENCH_HEAP";
const EVERY: Duration = Duration::from_millis(50);

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_add(size, Relaxed);
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What starts this bench as `offhook` that writes its heap into `file`.
pub fn offhook(file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.env(FILE, file);
    command
}

/// Is `offhook`, if this process was started as that.
pub fn run_as_offhook() -> Option<ExitCode> {
    let file = std::env::var_os(FILE)?;
    std::thread::spawn(move || {
        loop {
            let _ = std::fs::write(&file, LIVE_BYTES.load(Relaxed).to_string());
            std::thread::sleep(EVERY);
        }
    });
    Some(offhook::cli::main())
}

/// How much of its heap that process uses, in MB.
pub fn in_use(file: &Path) -> f64 {
    // It is empty while it is written anew.
    let read = || std::fs::read_to_string(file).ok()?.parse::<f64>().ok();
    std::iter::repeat_with(read).take(1000).flatten().next().unwrap_or(f64::NAN) / 1024.0 / 1024.0
}
