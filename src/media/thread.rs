//! The media thread: absolute deadlines on the monotonic clock, ten phases of 2 ms, real-time priority where it is granted.

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

use super::lateness::Lateness;
use super::line::Line;
use super::realtime;

/// Calls are spread over this many slots of a ptime, lest one that takes long hold up many.
const PHASES: u64 = 10;
/// Time from one phase to the next.
const PHASE: Duration = Duration::from_millis(2);
/// The next call is given the phase so many further on, of those with the fewest: neighbours in time come last.
const NEXT_PHASE: u64 = 3;
/// SCHED_FIFO priority (1–99): above ordinary threads, below the kernel's own.
const PRIORITY: u8 = 50;
/// A tick that starts so much after its deadline counts as late.
const LATE: Duration = Duration::from_millis(2);

/// Places for each call that may be in progress: one that has ended keeps its place until the thread has let go of it, and the next may have
/// come by then.
const PLACES_PER_CALL: usize = 2;

/// A place on the media thread. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A call in its place; the place is dropped after it.
struct Placed {
    line: Line,
    _place: Place,
}

enum Control {
    Add(Box<Placed>),
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
    /// By how much wake-ups were late.
    pub wake_lateness: Lateness,
    /// By how much the calls' ticks were late: that of the wake-up, and what the calls before took.
    pub tick_lateness: Lateness,
    /// Ptimes in which a call could not be served at all.
    pub skipped: AtomicU64,
    /// Calls being served.
    pub lines: AtomicUsize,
    /// Whether real-time priority was granted.
    pub realtime: AtomicBool,
    /// Whether the process's memory is locked.
    pub locked: AtomicBool,
}

/// The running media thread. Dropping it stops the thread.
pub struct MediaThread {
    control: Mutex<HeapProd<Control>>,
    returned: Mutex<HeapCons<Box<Placed>>>,
    /// How many are free.
    places: Arc<AtomicUsize>,
    counters: Arc<MediaCounters>,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts the thread for at most `max_calls` calls at a time, and waits until it knows its priority.
    pub fn start(max_calls: usize) -> io::Result<Self> {
        let (mut media, mut round) = Self::prepare(max_calls);
        let (ready_in, ready_out) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("offhook-media".into()).spawn(move || {
            realtime::touch_stack();
            round.counters.realtime.store(realtime::request(PRIORITY), Relaxed);
            let _ = ready_in.send(());
            round.run();
        })?;
        let _ = ready_out.recv();
        media.thread = Some(thread);
        Ok(media)
    }

    /// Both sides of a thread that does not run yet, with room everywhere for as many calls as there are places.
    fn prepare(max_calls: usize) -> (Self, Round) {
        let places = max_calls * PLACES_PER_CALL;
        let counters = Arc::new(MediaCounters::default());
        let (control_in, control_out) = HeapRb::new(places + 1).split();
        let (returned_in, returned_out) = HeapRb::new(places).split();
        let round = Round {
            phases: std::array::from_fn(|_| Vec::with_capacity(places)),
            newest: 0,
            control: control_out,
            returned: returned_in,
            counters: counters.clone(),
        };
        let media = Self {
            control: Mutex::new(control_in),
            returned: Mutex::new(returned_out),
            places: Arc::new(places.into()),
            counters,
            thread: None,
        };
        (media, round)
    }

    /// A place for a call that is to be answered; `None` when calls that have ended still take all of them.
    pub fn place(&self) -> Option<Place> {
        self.reap();
        self.places.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok()?;
        Some(Place(self.places.clone()))
    }

    /// Hands a call over to the place that it has.
    pub fn add(&self, line: Line, place: Place) {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        // Every place has its room in the ring; a call that was lost here would be one without media.
        let added = control.try_push(Control::Add(Box::new(Placed { line, _place: place })));
        debug_assert!(added.is_ok(), "more calls than places");
    }

    /// Frees the calls that have left the thread, and with them their sockets.
    pub fn reap(&self) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(placed) = returned.try_pop() {
            drop(placed);
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
    phases: [Vec<Box<Placed>>; PHASES as usize],
    /// That of the call that came last.
    newest: u64,
    control: HeapCons<Control>,
    returned: HeapProd<Box<Placed>>,
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
            self.counters.wake_lateness.record(lateness);
            self.counters.worst_lateness_us.fetch_max(lateness.as_micros() as u64, Relaxed);
            if lateness > LATE {
                self.counters.late.fetch_add(1, Relaxed);
            }
            if !self.take_control() {
                return;
            }
            self.serve(slot, start + due);
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
                    let phases = (1..=PHASES).map(|n| (self.newest + n * NEXT_PHASE) % PHASES);
                    self.newest = phases.min_by_key(|phase| self.phases[*phase as usize].len()).unwrap_or_default();
                    // Every phase was made with room for all places.
                    self.phases[self.newest as usize].push(line);
                    self.counters.lines.fetch_add(1, Relaxed);
                }
                Control::Stop => return false,
            }
        }
        true
    }

    /// Serves the calls that are due at `due`.
    fn serve(&mut self, slot: u64, due: Instant) {
        let lines = &mut self.phases[(slot % PHASES) as usize];
        let mut n = 0;
        while n < lines.len() {
            let now = Instant::now();
            self.counters.tick_lateness.record(now.saturating_duration_since(due));
            if lines[n].line.tick(now) {
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
                line.line.skip();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hearing::{Endpointer, Limits};
    use crate::leg::testing::Nobody;
    use crate::media::{Command, Ports};
    use crate::playout::Mixer;

    fn answered(media: &MediaThread) -> Option<Ports> {
        let place = media.place()?;
        let endpointer = Endpointer::new(Limits::from(&crate::config::Config::default().hearing));
        let (line, ports) = Line::new(Box::new(Nobody), endpointer, Mixer::new(Duration::ZERO), PTIME * 100).unwrap();
        media.add(line, place);
        Some(ports)
    }

    fn come_round(round: &mut Round) {
        for slot in 0..PHASES {
            assert!(round.take_control());
            round.serve(slot, Instant::now());
        }
    }

    #[tokio::test]
    async fn calls_that_come_while_the_thread_lets_go_of_those_before_have_room_and_no_more_than_that() {
        let (media, mut round) = MediaThread::prepare(2);
        let mut before: Vec<Ports> = (0..2).map(|_| answered(&media).unwrap()).collect();
        come_round(&mut round);
        assert_eq!(media.counters().lines.load(Relaxed), 2);
        for ports in &mut before {
            ports.command(Command::Stop);
        }
        let _next: Vec<Ports> = (0..2).map(|_| answered(&media).expect("room for as many again")).collect();
        assert!(answered(&media).is_none(), "one more is to be told before it is answered");
        come_round(&mut round);
        assert_eq!(media.counters().lines.load(Relaxed), 2);
        assert!(before.iter().all(|ports| !ports.is_orphaned()), "they are freed elsewhere");
        let bound = media.place();
        assert!(before.iter().all(Ports::is_orphaned));
        assert!(bound.is_some() && answered(&media).is_some() && media.place().is_none());
        drop(bound);
        assert!(media.place().is_some(), "one that is not answered gives its place back");
    }
}
