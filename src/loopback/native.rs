//! The sound cards of this machine, by `cpal`: ALSA on Linux.
//!
//! Not implemented: other hosts than the system's own; exclusive access. A callback works in 32-bit floats, whatever the card's format is.

use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Data, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize,
};

use super::capture::Capture;
use super::card::{Card, CardError, Device, Direction, Fault, Opened, Shape};
use super::lane::Lane;
use super::playback::Playback;
use crate::media::realtime;

/// Callbacks as often as this, where the card can be told.
const PERIODS_A_SECOND: u32 = 100;
/// Opening a card may take so long.
const OPENING: Duration = Duration::from_secs(5);
/// Below the media thread, above everything else.
const PRIORITY: u8 = 45;
/// Samples that are converted at once.
const ROOM: usize = 1 << 14;
/// A card without a clock is held up by so much until it is closed.
const PAUSE: Duration = Duration::from_millis(20);

/// The cards of this machine.
pub struct NativeCard(cpal::Host);

impl NativeCard {
    /// Of the system's own sound.
    pub fn new() -> Self {
        Self(cpal::default_host())
    }

    fn find(&self, device: &Device) -> Result<cpal::Device, CardError> {
        let gone = || CardError::Gone { device: device.name.clone() };
        let default = match device.direction {
            Direction::Input => self.0.default_input_device(),
            Direction::Output => self.0.default_output_device(),
        };
        if let Some(found) = default.filter(|found| device.default && name(found) == device.name) {
            return Ok(found);
        }
        let mut there = self.0.devices().map_err(|error| refusal(&error, &device.name))?;
        there.find(|found| name(found) == device.name).ok_or_else(gone)
    }

    fn format(&self, device: &Device) -> Result<(cpal::Device, cpal::SupportedStreamConfig), CardError> {
        let found = self.find(device)?;
        let config = match device.direction {
            Direction::Input => found.default_input_config(),
            Direction::Output => found.default_output_config(),
        };
        Ok((found, config.map_err(|error| refusal(&error, &device.name))?))
    }
}

impl Default for NativeCard {
    fn default() -> Self {
        Self::new()
    }
}

/// A stream that is closed with this.
struct Stream(#[expect(dead_code, reason = "kept for its drop")] cpal::Stream);

impl Opened for Stream {}

impl Card for NativeCard {
    fn list(&mut self) -> Result<Vec<Device>, CardError> {
        let mut devices = Vec::new();
        let defaults =
            [self.0.default_input_device(), self.0.default_output_device()].map(|device| device.as_ref().map(name));
        for device in self.0.devices().map_err(|error| refusal(&error, "the system's sound"))? {
            let (name, description) = (name(&device), describe(&device));
            let described = |direction, config: Option<cpal::SupportedStreamConfig>, default: &Option<String>| Device {
                name: name.clone(),
                description: description.clone(),
                direction,
                default: default.as_ref() == Some(&name),
                shape: config.map(|config| Shape { rate: config.sample_rate(), channels: config.channels() }),
            };
            if device.supports_input() {
                devices.push(described(Direction::Input, device.default_input_config().ok(), &defaults[0]));
            }
            if device.supports_output() {
                devices.push(described(Direction::Output, device.default_output_config().ok(), &defaults[1]));
            }
        }
        Ok(devices)
    }

    fn shape(&mut self, device: &Device) -> Result<Shape, CardError> {
        let (_, config) = self.format(device)?;
        Ok(Shape { rate: config.sample_rate(), channels: config.channels() })
    }

    fn open_input(&mut self, device: &Device, shape: Shape, capture: Capture) -> Result<Box<dyn Opened>, CardError> {
        let (found, config) = self.format(device)?;
        let lane = capture.lane();
        let errors = move |error| told(&lane, &error);
        let config_of = stream_config(&config, shape);
        let mut listener = Listener { capture, floats: vec![0.0; ROOM], stopped: false, begun: false };
        let data = move |data: &Data, _: &cpal::InputCallbackInfo| listener.hear(data);
        let stream = found
            .build_input_stream_raw(config_of, config.sample_format(), data, errors, Some(OPENING))
            .and_then(|stream| stream.play().map(|()| stream))
            .map_err(|error| refusal(&error, &device.name))?;
        Ok(Box::new(Stream(stream)))
    }

    fn open_output(&mut self, device: &Device, shape: Shape, playback: Playback) -> Result<Box<dyn Opened>, CardError> {
        let (found, config) = self.format(device)?;
        let lane = playback.lane();
        let errors = move |error| told(&lane, &error);
        let config_of = stream_config(&config, shape);
        let mut speaker = Speaker { playback, floats: vec![0.0; ROOM], stopped: false, begun: false };
        let channels = usize::from(shape.channels);
        let data = move |data: &mut Data, _: &cpal::OutputCallbackInfo| speaker.speak(data, channels);
        let stream = found
            .build_output_stream_raw(config_of, config.sample_format(), data, errors, Some(OPENING))
            .and_then(|stream| stream.play().map(|()| stream))
            .map_err(|error| refusal(&error, &device.name))?;
        Ok(Box::new(Stream(stream)))
    }
}

/// What a device is chosen by.
fn name(device: &cpal::Device) -> String {
    device.id().map_or_else(|_| device.to_string(), |id| id.id().to_owned())
}

fn describe(device: &cpal::Device) -> String {
    device.description().map_or_else(|_| device.to_string(), |description| description.to_string())
}

/// Callbacks every 10 ms, where the card takes that.
fn stream_config(config: &cpal::SupportedStreamConfig, shape: Shape) -> StreamConfig {
    let wanted = shape.rate / PERIODS_A_SECOND;
    let buffer_size = match config.buffer_size() {
        SupportedBufferSize::Range { min, max } if (*min..=*max).contains(&wanted) => BufferSize::Fixed(wanted),
        SupportedBufferSize::Range { min, max } if min <= max => BufferSize::Fixed(wanted.clamp(*min, *max)),
        _ => BufferSize::Default,
    };
    StreamConfig { channels: shape.channels, sample_rate: shape.rate, buffer_size }
}

/// Why it cannot be opened.
fn refusal(error: &cpal::Error, device: &str) -> CardError {
    let device = device.to_owned();
    match error.kind() {
        ErrorKind::DeviceBusy => CardError::Busy { device },
        ErrorKind::PermissionDenied => CardError::Permission { device },
        ErrorKind::DeviceNotAvailable | ErrorKind::DeviceChanged | ErrorKind::HostUnavailable => {
            CardError::Gone { device }
        }
        ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation | ErrorKind::InvalidInput => {
            CardError::Unsupported { device, what: error.to_string() }
        }
        _ => CardError::Other { device, what: error.to_string() },
    }
}

/// An open card tells that something is wrong.
fn told(lane: &Lane, error: &cpal::Error) {
    match error.kind() {
        ErrorKind::Xrun => lane.xrun(),
        // It goes on, on another way or less punctually.
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => lane.fail(Fault::Gone),
        _ => lane.fail(Fault::Broken),
    }
}

/// On the card's thread: no call of it may be late.
fn begin(begun: &mut bool) {
    if !std::mem::replace(begun, true) {
        realtime::request(PRIORITY);
    }
}

struct Listener {
    capture: Capture,
    floats: Vec<f32>,
    stopped: bool,
    begun: bool,
}

impl Listener {
    fn hear(&mut self, data: &Data) {
        begin(&mut self.begun);
        if self.stopped {
            std::thread::sleep(PAUSE);
            return;
        }
        let Some(floats) = self.floats.get_mut(..data.len()) else { return };
        if !read(data, floats) {
            self.capture.lane().fail(Fault::Broken);
            self.stopped = true;
            return;
        }
        self.stopped = !self.capture.take(Instant::now(), floats);
    }
}

struct Speaker {
    playback: Playback,
    floats: Vec<f32>,
    stopped: bool,
    begun: bool,
}

impl Speaker {
    fn speak(&mut self, data: &mut Data, channels: usize) {
        begin(&mut self.begun);
        let Some(floats) = self.floats.get_mut(..data.len()) else { return };
        floats.fill(0.0);
        if self.stopped {
            std::thread::sleep(PAUSE);
        } else {
            debug_assert!(floats.len().is_multiple_of(channels.max(1)));
            self.stopped = !self.playback.give(Instant::now(), floats);
        }
        if !write(data, floats) {
            self.playback.lane().fail(Fault::Broken);
            self.stopped = true;
        }
    }
}

/// Calls `$with` with the type of `$data`'s samples; false when it is none that is known here.
macro_rules! of_format {
    ($data:expr, $with:ident, $($argument:expr),*) => {
        match $data.sample_format() {
            SampleFormat::I8 => $with::<i8>($($argument),*),
            SampleFormat::I16 => $with::<i16>($($argument),*),
            SampleFormat::I24 => $with::<cpal::I24>($($argument),*),
            SampleFormat::I32 => $with::<i32>($($argument),*),
            SampleFormat::U8 => $with::<u8>($($argument),*),
            SampleFormat::U16 => $with::<u16>($($argument),*),
            SampleFormat::U32 => $with::<u32>($($argument),*),
            SampleFormat::F32 => $with::<f32>($($argument),*),
            SampleFormat::F64 => $with::<f64>($($argument),*),
            _ => false,
        }
    };
}

fn read(data: &Data, floats: &mut [f32]) -> bool {
    fn of<T: SizedSample>(data: &Data, floats: &mut [f32]) -> bool
    where
        f32: FromSample<T>,
    {
        let Some(samples) = data.as_slice::<T>() else { return false };
        floats.iter_mut().zip(samples).for_each(|(float, sample)| *float = f32::from_sample(*sample));
        true
    }
    of_format!(data, of, data, floats)
}

fn write(data: &mut Data, floats: &[f32]) -> bool {
    fn of<T: SizedSample + FromSample<f32>>(data: &mut Data, floats: &[f32]) -> bool {
        let Some(samples) = data.as_slice_mut::<T>() else { return false };
        samples.iter_mut().zip(floats).for_each(|(sample, float)| *sample = T::from_sample(*float));
        true
    }
    of_format!(data, of, data, floats)
}
