//! Opens both devices, watches them, and takes them up again when they are back. Without a clock or thread of its own: see [`super::Keeping`].
//!
//! What the user must mend is told once, and what may pass is tried again every second. ALSA reads its configuration once in a process: a card
//! that comes back is found again by name, but a changed `asound.conf` wants a restart.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringbuf::{HeapCons, HeapProd};
use serde::Serialize;

use super::capture::Capture;
use super::card::{Card, CardError, Choice, Direction, Opened, Shape};
use super::home::Lender;
use super::leg::CardSide;
use super::playback::Playback;

/// How often a device that is gone is looked for.
const RETRY: Duration = Duration::from_secs(1);
/// A device that was told to close has so long to do so.
const CLOSING: Duration = Duration::from_secs(2);
/// An open device that does not move any sound for so long is gone, whether or not it says so.
const STILL: Duration = Duration::from_secs(2);

/// Something that the user should know.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A device is open.
    Opened(OpenDevice),
    /// A device is not there any more, or cannot be opened; it is tried again when that may help.
    Lost {
        /// Which.
        direction: Direction,
        /// Why, and what to do.
        error: CardError,
    },
}

/// A device that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenDevice {
    /// What it is for.
    pub direction: Direction,
    /// What it is called.
    pub name: String,
    /// How it moves sound.
    pub shape: Shape,
}

/// One direction.
struct Side {
    direction: Direction,
    choice: Choice,
    /// Kept for its drop.
    open: Option<(Box<dyn Opened>, String, Instant)>,
    /// When it is tried next; `None` when that is in vain.
    retry: Option<Instant>,
    /// What was told last, so that it is told once.
    told: Option<CardError>,
    /// It was open before.
    was_open: bool,
}

impl Side {
    fn new(direction: Direction, choice: Choice, now: Instant) -> Self {
        Self { direction, choice, open: None, retry: Some(now), told: None, was_open: false }
    }
}

/// The keeper of a call's card.
pub struct Keeper {
    card: Box<dyn Card>,
    sides: [Side; 2],
    heard: Lender<HeapProd<i16>>,
    spoken: Lender<HeapCons<i16>>,
    shared: super::Shared,
    notices: VecDeque<Notice>,
}

impl Keeper {
    /// For the devices that were chosen.
    pub fn new(card: Box<dyn Card>, [input, output]: [Choice; 2], side: CardSide, now: Instant) -> Self {
        let CardSide { heard, spoken, input: in_lane, output: out_lane, desk } = side;
        Self {
            card,
            sides: [Side::new(Direction::Input, input, now), Side::new(Direction::Output, output, now)],
            heard: Lender::new(heard),
            spoken: Lender::new(spoken),
            shared: super::Shared { input: in_lane, output: out_lane, desk },
            notices: VecDeque::new(),
        }
    }

    /// What is to be told.
    pub fn poll(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether both devices are open, or will never be.
    pub fn is_settled(&self) -> bool {
        self.sides.iter().all(|side| side.open.is_some() || side.retry.is_none())
    }

    /// Looks after both. To be called every 50 ms or so; opening may take long.
    pub fn tick(&mut self, now: Instant) {
        for n in 0..self.sides.len() {
            self.watch(n, now);
            if self.sides[n].open.is_none() && self.sides[n].retry.is_some_and(|at| at <= now) {
                self.open(n, now);
            }
        }
    }

    fn watch(&mut self, n: usize, now: Instant) {
        let Some((_, name, since)) = &self.sides[n].open else { return };
        let lane = if n == 0 { &self.shared.input } else { &self.shared.output };
        let served = lane.last_served().unwrap_or(*since).max(*since);
        let fault = lane.take_fault().map(|fault| CardError::of_fault(fault, name));
        let still = now.saturating_duration_since(served) >= STILL;
        let Some(error) = fault.or_else(|| still.then(|| CardError::Gone { device: name.clone() })) else { return };
        self.sides[n].open = None;
        self.lost(n, error, now);
    }

    fn lost(&mut self, n: usize, error: CardError, now: Instant) {
        let side = &mut self.sides[n];
        // Who was there may come back under a name that nobody knows now; who never was is not waited for.
        let comes_back = error.may_pass() && side.was_open;
        side.retry = comes_back.then(|| now + RETRY);
        if side.told.as_ref() != Some(&error) {
            let is_news = side.told.is_none() || !comes_back;
            side.told = Some(error.clone());
            if is_news {
                self.notices.push_back(Notice::Lost { direction: side.direction, error });
            }
        }
    }

    fn open(&mut self, n: usize, now: Instant) {
        match self.try_open(n) {
            Ok((opened, device)) => {
                let side = &mut self.sides[n];
                side.open = Some((opened, device.name.clone(), now));
                (side.told, side.was_open) = (None, true);
                self.shared.desk.renew();
                self.notices.push_back(Notice::Opened(device));
            }
            Err(error) => self.lost(n, error, now),
        }
    }

    fn try_open(&mut self, n: usize) -> Result<(Box<dyn Opened>, OpenDevice), CardError> {
        let side = &self.sides[n];
        let (direction, devices) = (side.direction, self.card.list()?);
        let device = side.choice.among(&devices, direction)?;
        let shape = self.card.shape(&device)?.check(&device.name)?;
        let stuck = || CardError::Stuck { device: device.name.clone(), seconds: CLOSING.as_secs() };
        let opened = match direction {
            Direction::Input => {
                let ring = self.heard.lend(CLOSING).ok_or_else(stuck)?;
                self.shared.input.take_fault();
                self.card.open_input(&device, shape, Capture::new(shape, self.shared.input.clone(), ring))?
            }
            Direction::Output => {
                let ring = self.spoken.lend(CLOSING).ok_or_else(stuck)?;
                self.shared.output.take_fault();
                self.card.open_output(&device, shape, Playback::new(shape, self.shared.output.clone(), ring))?
            }
        };
        Ok((opened, OpenDevice { direction, name: device.name.clone(), shape }))
    }
}
