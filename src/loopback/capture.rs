//! The card's side of a microphone: mixes its channels, converts to the house's rate, and fills the ring, on the card's own thread.
//!
//! Converting here and not in a worker saves a worker's wait, which is a period, and allocates nothing. Channels that have never held
//! anything but digital silence do not count in the mix: a microphone on one of eight is not 18 dB softer.

use std::sync::Arc;
use std::time::Instant;

use ringbuf::HeapProd;
use ringbuf::traits::Producer;

use crate::pcm::RATE;

use super::card::Shape;
use super::convert::{Converter, Piece};
use super::home::Home;
use super::lane::Lane;
use super::margin::Margin;
use super::regulator::{Regulation, Regulator};
use super::speed::SpeedGuard;

/// Fills the ring of one direction.
pub struct Capture {
    ring: Home<HeapProd<i16>>,
    lane: Arc<Lane>,
    channels: usize,
    rate: u32,
    /// Channels that have held something.
    live: u32,
    converter: Converter,
    regulator: Regulator,
    margin: Margin,
    speed: SpeedGuard,
    begun: bool,
}

impl Capture {
    /// For a card of this shape.
    pub(super) fn new(shape: Shape, lane: Arc<Lane>, ring: Home<HeapProd<i16>>) -> Self {
        Self {
            ring,
            channels: usize::from(shape.channels.max(1)),
            rate: shape.rate.max(1),
            live: 0,
            converter: Converter::new(shape.rate, RATE, Piece::In),
            regulator: Regulator::new(0.0),
            margin: Margin::new(lane.starved()),
            speed: SpeedGuard::new(shape.rate.max(1)),
            begun: false,
            lane,
        }
    }

    /// The lane that it fills, for what the card tells of itself.
    pub fn lane(&self) -> Arc<Lane> {
        self.lane.clone()
    }

    /// Takes what the card has recorded: frames of all channels, full scale ±1. False when the card has to be stopped.
    pub fn take(&mut self, now: Instant, interleaved: &[f32]) -> bool {
        let frames = interleaved.len() / self.channels;
        if let Some(fault) = self.speed.count(now, frames) {
            self.lane.fail(fault);
            return false;
        }
        self.lane.serve(now);
        let (mut lost, channels) = (0, self.channels);
        for frame in interleaved.chunks_exact(channels) {
            let sample = self.mix(frame);
            let Some(made) = self.converter.push(sample * 32768.0) else { continue };
            for &sample in made {
                // Before the first tick nobody listens, and what is not taken is nobody's loss.
                lost += usize::from(self.ring.try_push(whole(sample)).is_err());
            }
        }
        self.regulate(now, frames, lost);
        true
    }

    fn mix(&mut self, frame: &[f32]) -> f32 {
        if let [sample] = frame {
            return *sample;
        }
        for (n, sample) in frame.iter().enumerate() {
            self.live |= u32::from(*sample != 0.0) << n.min(31);
        }
        frame.iter().sum::<f32>() / self.live.count_ones().max(1) as f32
    }

    fn regulate(&mut self, now: Instant, frames: usize, lost: usize) {
        let Some((held, since_tick)) = self.lane.position(now, &*self.ring) else { return };
        self.lane.overrun(lost);
        // Everything in seconds: a callback brings so much at once, and the next tick must find a frame although the next callback is
        // still to come.
        let period = frames as f64 / f64::from(self.rate);
        self.regulator.set_target(self.margin.with(now, period, self.lane.starved()));
        let waiting = self.converter.waiting() as f64 / f64::from(self.rate);
        let delay = (held - since_tick) / f64::from(RATE) + waiting;
        match self.regulator.observe(now, delay) {
            Regulation::Ratio(ratio) => {
                self.converter.set_ratio(ratio);
                self.lane.regulated(self.regulator.mean().unwrap_or(delay), ratio);
            }
            Regulation::Jump(by) => {
                let samples = (by.abs() * f64::from(RATE)).round() as u32;
                if by > 0.0 {
                    self.lane.leave_out(samples);
                } else {
                    for _ in 0..samples {
                        let _ = self.ring.try_push(0);
                    }
                }
                if std::mem::replace(&mut self.begun, true) {
                    self.lane.jumped();
                }
            }
        }
    }
}

/// A sample of the house.
pub(super) fn whole(sample: f32) -> i16 {
    sample.round().clamp(-32768.0, 32767.0) as i16
}
