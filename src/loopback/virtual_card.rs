//! A sound card in process and in virtual time: its own clock, a microphone that hears a signal and the room, a loudspeaker that is
//! recorded. What the sound card of a machine does well or badly, this one does to order.
//!
//! Time passes only in [`VirtualCard::advance`]; callbacks come then, in their order. The loudspeaker is buffered twice, as ALSA does it: what a
//! callback gives sounds a period later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::card::{Card, CardError, Device, Direction, Fault, Opened, Shape};
use super::playback::Playback;

/// Frames of the loudspeaker that the room remembers.
const ROOM: usize = 200_000;
/// A card that runs away is called so many times in a row at most.
const BURST: u32 = 2000;

/// One device of the card.
#[derive(Debug, Clone)]
pub struct VirtualDevice {
    /// Its name.
    pub name: String,
    /// Its rate and channels.
    pub shape: Shape,
    /// How much faster than true its clock is, in millionths.
    pub ppm: f64,
    /// Time from one callback to the next by its own clock.
    pub period: Duration,
    /// How many times as fast as time it moves sound.
    pub speed: f64,
    /// By how much a callback may be late; each by a different part of it.
    pub jitter: Duration,
    /// What opening it comes to.
    pub refuses: Option<CardError>,
}

impl VirtualDevice {
    /// One with a true clock and callbacks every 10 ms.
    pub fn new(name: &str, rate: u32, channels: u16) -> Self {
        Self {
            name: name.to_owned(),
            shape: Shape { rate, channels },
            ppm: 0.0,
            period: Duration::from_millis(10),
            speed: 1.0,
            jitter: Duration::ZERO,
            refuses: None,
        }
    }

    fn frames(&self) -> usize {
        (f64::from(self.shape.rate) * self.period.as_secs_f64()).round() as usize
    }

    /// True time of so many frames.
    fn lasts(&self, frames: f64) -> f64 {
        frames / (f64::from(self.shape.rate) * (1.0 + self.ppm * 1e-6) * self.speed)
    }
}

/// The way from the loudspeaker to the microphone.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// How long it takes.
    pub delay: Duration,
    /// How loud it comes back, as a factor.
    pub gain: f32,
}

/// What the microphone hears besides the room, by the true time in seconds, full scale ±1.
pub type Signal = Box<dyn FnMut(f64) -> f32 + Send>;

/// A callback's user.
enum User {
    Capture(Capture),
    Playback(Playback),
}

/// An open device.
struct Running {
    id: u64,
    device: VirtualDevice,
    user: User,
    /// True time at which the first frame was, in seconds.
    began: f64,
    callbacks: u64,
    stopped: bool,
    buffer: Vec<f32>,
}

impl Running {
    /// When the next callback is due.
    fn due(&self) -> f64 {
        let number = self.callbacks + 1;
        let late = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let late = late as f64 / (1u64 << 24) as f64 * self.device.jitter.as_secs_f64();
        self.began + self.device.lasts((number * self.device.frames() as u64) as f64) + late
    }
}

/// A card and the room that it stands in.
struct Rig {
    start: Instant,
    now: f64,
    inputs: Vec<VirtualDevice>,
    outputs: Vec<VirtualDevice>,
    running: Vec<Running>,
    opened: u64,
    signal: Signal,
    room: Option<Room>,
    /// What the loudspeaker played: true time and sample.
    played: VecDeque<(f64, f32)>,
    recorded: Option<Vec<(f64, f32)>>,
}

/// A card; its clones are the same one.
#[derive(Clone)]
pub struct VirtualCard(Arc<Mutex<Rig>>);

impl VirtualCard {
    /// A card with one device each way.
    pub fn new(start: Instant, input: VirtualDevice, output: VirtualDevice) -> Self {
        Self(Arc::new(Mutex::new(Rig {
            start,
            now: 0.0,
            inputs: vec![input],
            outputs: vec![output],
            running: Vec::new(),
            opened: 0,
            signal: Box::new(|_| 0.0),
            room: None,
            played: VecDeque::new(),
            recorded: None,
        })))
    }

    fn rig(&self) -> MutexGuard<'_, Rig> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the microphone hears from now on.
    pub fn hears(&self, signal: impl FnMut(f64) -> f32 + Send + 'static) {
        self.rig().signal = Box::new(signal);
    }

    /// The loudspeaker is heard by the microphone.
    pub fn stands_in(&self, room: Room) {
        self.rig().room = Some(room);
    }

    /// Keeps what the loudspeaker plays.
    pub fn record(&self) {
        self.rig().recorded = Some(Vec::new());
    }

    /// What the loudspeaker has played since: true time in seconds, and sample.
    pub fn take_recorded(&self) -> Vec<(f64, f32)> {
        self.rig().recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Pulls the plug: there is no device any more, and the open ones break off.
    pub fn unplug(&self) -> [Vec<VirtualDevice>; 2] {
        let mut rig = self.rig();
        for running in &mut rig.running {
            running.stopped = true;
            match &running.user {
                User::Capture(capture) => capture.lane().fail(Fault::Gone),
                User::Playback(playback) => playback.lane().fail(Fault::Gone),
            }
        }
        [std::mem::take(&mut rig.inputs), std::mem::take(&mut rig.outputs)]
    }

    /// Plugs in what was there, or something else.
    pub fn plug(&self, [inputs, outputs]: [Vec<VirtualDevice>; 2]) {
        let mut rig = self.rig();
        (rig.inputs, rig.outputs) = (inputs, outputs);
    }

    /// Lets the time pass until `now`, and has every callback that is due.
    pub fn advance(&self, now: Instant) {
        self.rig().advance(now);
    }
}

impl Rig {
    fn advance(&mut self, now: Instant) {
        let until = now.saturating_duration_since(self.start).as_secs_f64();
        let mut burst = 0;
        loop {
            let due = self.running.iter().enumerate().filter(|(_, running)| !running.stopped);
            let Some((n, at)) = due.map(|(n, running)| (n, running.due())).min_by(|a, b| a.1.total_cmp(&b.1)) else {
                break;
            };
            burst += 1;
            if at > until || burst > BURST {
                break;
            }
            self.now = at.max(self.now);
            self.call(n, at);
        }
        self.now = until.max(self.now);
    }

    fn call(&mut self, n: usize, at: f64) {
        let now = self.start + Duration::from_secs_f64(at);
        let Self { running, signal, room, played, recorded, .. } = self;
        let Running { device, user, callbacks, stopped, buffer, began, .. } = &mut running[n];
        let (frames, channels) = (device.frames(), usize::from(device.shape.channels));
        let first = *callbacks as f64 * frames as f64;
        *callbacks += 1;
        buffer.clear();
        buffer.resize(frames * channels, 0.0);
        let goes_on = match user {
            User::Capture(capture) => {
                for (k, frame) in buffer.chunks_exact_mut(channels).enumerate() {
                    let time = *began + device.lasts(first + k as f64);
                    let returned =
                        room.map_or(0.0, |room| room.gain * at_time(played, time - room.delay.as_secs_f64()));
                    // A microphone is on one channel.
                    frame[0] = (signal(time) + returned).clamp(-1.0, 1.0);
                }
                capture.take(now, buffer)
            }
            User::Playback(playback) => {
                let goes_on = playback.give(now, buffer);
                for (k, frame) in buffer.chunks_exact(channels).enumerate() {
                    // The callback at the end of a period gives what sounds after the next one.
                    let time = *began + device.lasts(first + (2 * frames + k) as f64);
                    if room.is_some() {
                        played.push_back((time, frame[0]));
                    }
                    if let Some(recorded) = recorded {
                        recorded.push((time, frame[0]));
                    }
                }
                while played.len() > ROOM {
                    played.pop_front();
                }
                goes_on
            }
        };
        *stopped |= !goes_on;
    }
}

/// What was played at a time; silence where nothing was.
fn at_time(played: &VecDeque<(f64, f32)>, time: f64) -> f32 {
    let after = played.partition_point(|(at, _)| *at <= time);
    after
        .checked_sub(1)
        .and_then(|n| played.get(n))
        .filter(|(at, _)| time - at < 1e-3)
        .map_or(0.0, |(_, sample)| *sample)
}

/// Closes a device when it is dropped.
struct Handle {
    card: VirtualCard,
    id: u64,
}

impl Opened for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        self.card.rig().running.retain(|running| running.id != self.id);
    }
}

impl VirtualCard {
    fn find(&self, device: &Device) -> Result<VirtualDevice, CardError> {
        let rig = self.rig();
        let devices = if device.direction == Direction::Input { &rig.inputs } else { &rig.outputs };
        let found = devices.iter().find(|there| there.name == device.name).cloned();
        found.ok_or_else(|| CardError::Gone { device: device.name.clone() })
    }

    fn open(&self, device: &Device, user: User) -> Result<Box<dyn Opened>, CardError> {
        let device = self.find(device)?;
        if let Some(error) = device.refuses {
            return Err(error);
        }
        let mut rig = self.rig();
        rig.opened += 1;
        let (id, began) = (rig.opened, rig.now);
        rig.running.push(Running { id, device, user, began, callbacks: 0, stopped: false, buffer: Vec::new() });
        Ok(Box::new(Handle { card: self.clone(), id }))
    }
}

impl Card for VirtualCard {
    fn list(&mut self) -> Result<Vec<Device>, CardError> {
        let rig = self.rig();
        let named = |device: &VirtualDevice, direction| Device {
            name: device.name.clone(),
            description: "a card in process".to_owned(),
            direction,
            default: false,
            shape: Some(device.shape),
        };
        let inputs = rig.inputs.iter().map(|device| named(device, Direction::Input));
        Ok(inputs.chain(rig.outputs.iter().map(|device| named(device, Direction::Output))).collect())
    }

    fn shape(&mut self, device: &Device) -> Result<Shape, CardError> {
        self.find(device)?.shape.check(&device.name)
    }

    fn open_input(&mut self, device: &Device, _: Shape, capture: Capture) -> Result<Box<dyn Opened>, CardError> {
        self.open(device, User::Capture(capture))
    }

    fn open_output(&mut self, device: &Device, _: Shape, playback: Playback) -> Result<Box<dyn Opened>, CardError> {
        self.open(device, User::Playback(playback))
    }
}
