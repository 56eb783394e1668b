//! The media thread: absolute deadlines on the monotonic clock, four phases of 5 ms, real-time priority where it is granted.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

use crate::pcm::PTIME;

use super::line::Line;
use super::realtime;

/// Calls are spread over this many slots of a ptime.
const PHASES: u64 = 4;
/// Time from one phase to the next.
const PHASE: Duration = Duration::from_millis(5);
/// SCHED_FIFO priority (1–99): above ordinary threads, below the kernel's own.
const PRIORITY: u8 = 50;
/// A tick that starts so much after its deadline counts as late.
const LATE: Duration = Duration::from_millis(2);

enum Control {
    Add(Box<Line>),
    Stop,
}

/// What is counted for the media thread; shared, read at any time.
#[derive(Debug, Default)]
pub struct MediaCounters {
    /// Wake-ups. While this grows, the thread lives: the watchdog is fed from it.
    pub wakes: AtomicU64,
    /// Wake-ups more than 2 ms after their deadline.
    pub late: AtomicU64,
    /// The latest wake-up, in microseconds after its deadline.
    pub worst_lateness_us: AtomicU64,
    /// Ptimes in which a call could not be served at all.
    pub skipped: AtomicU64,
    /// Calls being served.
    pub lines: AtomicUsize,
    /// Whether real-time priority was granted.
    pub realtime: AtomicBool,
}

/// The running media thread. Dropping it stops the thread.
pub struct MediaThread {
    control: Mutex<HeapProd<Control>>,
    returned: Mutex<HeapCons<Box<Line>>>,
    counters: Arc<MediaCounters>,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts the thread for at most `max_lines` calls, and waits until it knows its priority.
    pub fn start(max_lines: usize) -> io::Result<Self> {
        let counters = Arc::new(MediaCounters::default());
        let (control_in, control_out) = HeapRb::new(max_lines + 1).split();
        let (returned_in, returned_out) = HeapRb::new(max_lines).split();
        let (ready_in, ready_out) = std::sync::mpsc::sync_channel(1);
        let of_thread = counters.clone();
        let thread = std::thread::Builder::new().name("offhook-media".into()).spawn(move || {
            of_thread.realtime.store(realtime::request(PRIORITY), Relaxed);
            let mut round = Round {
                phases: std::array::from_fn(|_| Vec::with_capacity(max_lines)),
                control: control_out,
                returned: returned_in,
                counters: of_thread,
            };
            let _ = ready_in.send(());
            round.run();
        })?;
        let _ = ready_out.recv();
        Ok(Self { control: Mutex::new(control_in), returned: Mutex::new(returned_out), counters, thread: Some(thread) })
    }

    /// Hands a call over; gives it back when as many calls as there may be are being handed over already.
    pub fn add(&self, line: Box<Line>) -> Result<(), Box<Line>> {
        self.reap();
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.try_push(Control::Add(line)).map_err(|refused| match refused {
            Control::Add(line) => line,
            Control::Stop => unreachable!("only the call was offered"),
        })
    }

    /// Frees the calls that have left the thread, and with them their sockets.
    pub fn reap(&self) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(line) = returned.try_pop() {
            drop(line);
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &Arc<MediaCounters> {
        &self.counters
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        let _ = self.control.lock().unwrap_or_else(PoisonError::into_inner).try_push(Control::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own state.
struct Round {
    // Boxed, since a call goes from ring to phase and back, and is large.
    #[allow(clippy::vec_box)]
    phases: [Vec<Box<Line>>; PHASES as usize],
    control: HeapCons<Control>,
    returned: HeapProd<Box<Line>>,
    counters: Arc<MediaCounters>,
}

impl Round {
    fn run(&mut self) {
        let start = Instant::now();
        let start_clock = clock_gettime(ClockId::Monotonic);
        let mut slot = 0u64;
        loop {
            slot = self.next_slot(slot);
            let due = Duration::from_millis(slot * PHASE.as_millis() as u64);
            sleep_until(start_clock, due);
            let now = Instant::now();
            let lateness = now.saturating_duration_since(start + due);
            self.counters.wakes.fetch_add(1, Relaxed);
            self.counters.worst_lateness_us.fetch_max(lateness.as_micros() as u64, Relaxed);
            if lateness > LATE {
                self.counters.late.fetch_add(1, Relaxed);
            }
            if !self.take_control() {
                return;
            }
            self.serve(slot);
            slot = self.catch_up(slot, lateness);
        }
    }

    /// The next slot with something in it; at most a ptime away, so that new calls and the watchdog are served.
    fn next_slot(&self, slot: u64) -> u64 {
        (slot + 1..slot + PHASES)
            .find(|&next| !self.phases[(next % PHASES) as usize].is_empty())
            .unwrap_or(slot + PHASES)
    }

    /// False when the thread has to end.
    fn take_control(&mut self) -> bool {
        while let Some(control) = self.control.try_pop() {
            match control {
                Control::Add(line) => {
                    if let Some(emptiest) = self.phases.iter_mut().min_by_key(|lines| lines.len()) {
                        // Every phase was made with room for all calls.
                        emptiest.push(line);
                    }
                    self.counters.lines.fetch_add(1, Relaxed);
                }
                Control::Stop => return false,
            }
        }
        true
    }

    fn serve(&mut self, slot: u64) {
        let lines = &mut self.phases[(slot % PHASES) as usize];
        let mut n = 0;
        while n < lines.len() {
            if lines[n].tick(Instant::now()) {
                n += 1;
                continue;
            }
            let line = lines.swap_remove(n);
            self.counters.lines.fetch_sub(1, Relaxed);
            if let Err(kept) = self.returned.try_push(line) {
                // Nobody has reaped for as many calls as there may be: it says so again in its next tick.
                self.counters.lines.fetch_add(1, Relaxed);
                lines.push(kept);
                return;
            }
        }
    }

    /// After a stall of a ptime or more: the slots that were missed stay empty, nothing is sent in a burst.
    fn catch_up(&mut self, slot: u64, lateness: Duration) -> u64 {
        if lateness < PTIME {
            return slot;
        }
        let missed = (lateness.as_nanos() / PHASE.as_nanos()) as u64;
        for gone in slot + 1..=slot + missed {
            for line in &mut self.phases[(gone % PHASES) as usize] {
                line.skip();
                self.counters.skipped.fetch_add(1, Relaxed);
            }
        }
        slot + missed
    }
}

fn sleep_until(start: Timespec, due: Duration) {
    let nanoseconds = start.tv_nsec as u128 + due.as_nanos();
    let deadline = Timespec {
        tv_sec: start.tv_sec + (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as _,
    };
    // A signal may end the sleep early; a deadline that has passed returns at once.
    while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(rustix::io::Errno::INTR) {}
}
