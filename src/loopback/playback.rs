//! The card's side of a loudspeaker: empties the ring, converts from the house's rate and fills all that the card asks for, on the card's own
//! thread. The voice is on the first two channels.

use std::sync::Arc;
use std::time::Instant;

use ringbuf::HeapCons;
use ringbuf::traits::{Consumer, Observer};

use crate::pcm::{PTIME, RATE};

use super::card::Shape;
use super::convert::{Converter, Piece};
use super::home::Home;
use super::lane::Lane;
use super::margin::Margin;
use super::regulator::{Regulation, Regulator};
use super::speed::SpeedGuard;

/// Channels that the voice is on.
const SPOKEN_ON: usize = 2;
/// By this factor what sounded last fades with each sample when there is nothing more: 5 ms.
const FADING: f32 = 0.95;
/// And it comes up again by so much of itself with each: 5 ms.
const RISING: f32 = 1.0 / 80.0;
/// So much silence of the media thread is its end, and no lateness: 100 ms.
const SILENT_SAMPLES: f64 = 0.1 * RATE as f64;

/// Empties the ring of one direction.
pub struct Playback {
    ring: Home<HeapCons<i16>>,
    lane: Arc<Lane>,
    channels: usize,
    rate: u32,
    converter: Converter,
    /// What the last piece came to and was not asked for yet.
    rest: Vec<f32>,
    rest_at: usize,
    /// Samples of silence to play before the ring is emptied on.
    hold: u32,
    last: f32,
    /// How far sound has come up again after there was none.
    gain: f32,
    regulator: Regulator,
    margin: Margin,
    speed: SpeedGuard,
    begun: bool,
}

impl Playback {
    /// For a card of this shape.
    pub(super) fn new(shape: Shape, lane: Arc<Lane>, ring: Home<HeapCons<i16>>) -> Self {
        Self {
            ring,
            channels: usize::from(shape.channels.max(1)),
            rate: shape.rate.max(1),
            converter: Converter::new(RATE, shape.rate, Piece::Out),
            rest: Vec::with_capacity(shape.rate as usize / 100),
            rest_at: 0,
            hold: 0,
            last: 0.0,
            gain: 0.0,
            regulator: Regulator::new(0.0),
            margin: Margin::new(lane.starved()),
            speed: SpeedGuard::new(shape.rate.max(1)),
            begun: false,
            lane,
        }
    }

    /// The lane that it empties, for what the card tells of itself.
    pub fn lane(&self) -> Arc<Lane> {
        self.lane.clone()
    }

    /// Fills what the card is to play: frames of all channels, full scale ±1. False when the card has to be stopped.
    pub fn give(&mut self, now: Instant, interleaved: &mut [f32]) -> bool {
        interleaved.fill(0.0);
        let frames = interleaved.len() / self.channels;
        if let Some(fault) = self.speed.count(now, frames) {
            self.lane.fail(fault);
            return false;
        }
        self.lane.serve(now);
        let Some(is_spoken) = self.regulate(now, frames) else { return true };
        let (channels, mut missing) = (self.channels, 0);
        for frame in interleaved.chunks_exact_mut(channels) {
            let sample = self.next(&mut missing);
            frame.iter_mut().take(SPOKEN_ON).for_each(|out| *out = sample / 32768.0);
        }
        if missing > 0 && is_spoken {
            self.lane.starve();
        }
        true
    }

    fn next(&mut self, missing: &mut usize) -> f32 {
        while self.rest_at >= self.rest.len() {
            self.rest_at = 0;
            self.rest.clear();
            while self.rest.is_empty() {
                let held = self.hold > 0;
                self.hold = self.hold.saturating_sub(1);
                self.last = match (!held).then(|| self.ring.try_pop()).flatten() {
                    Some(sample) => {
                        self.gain = (self.gain + RISING).min(1.0);
                        f32::from(sample) * self.gain
                    }
                    None => {
                        *missing += usize::from(!held);
                        self.gain = 0.0;
                        self.last * FADING
                    }
                };
                if let Some(made) = self.converter.push(self.last) {
                    self.rest.extend_from_slice(made);
                }
            }
        }
        self.rest_at += 1;
        self.rest[self.rest_at - 1]
    }

    /// Whether somebody speaks at present; `None` while nobody has yet.
    fn regulate(&mut self, now: Instant, frames: usize) -> Option<bool> {
        let (held, since_tick) = self.lane.position(now, &*self.ring)?;
        let period = frames as f64 / f64::from(self.rate);
        // A frame comes at once, a ptime after the one before.
        let target = self.margin.with(now, period, self.lane.starved()) + PTIME.as_secs_f64();
        self.regulator.set_target(target);
        let rest = (self.rest.len() - self.rest_at) as f64 / f64::from(self.rate);
        let waiting = self.converter.waiting() as f64 + f64::from(self.hold);
        let delay = (held + since_tick + waiting) / f64::from(RATE) + rest;
        match self.regulator.observe(now, delay) {
            Regulation::Ratio(ratio) => {
                self.converter.set_ratio(ratio);
                self.lane.regulated(self.regulator.mean().unwrap_or(delay), ratio);
            }
            Regulation::Jump(by) => {
                let samples = (by.abs() * f64::from(RATE)).round() as usize;
                if by > 0.0 {
                    let samples = samples.min(self.ring.occupied_len());
                    self.ring.skip(samples);
                } else {
                    self.hold += samples as u32;
                }
                if std::mem::replace(&mut self.begun, true) {
                    self.lane.jumped();
                }
            }
        }
        Some(since_tick < SILENT_SAMPLES)
    }
}
