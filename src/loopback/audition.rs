//! A sound through a loudspeaker and nothing else, for who wants to hear what the box will say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::leg::Leg;
use crate::pcm::{FRAME_SAMPLES, PTIME, SILENCE};

use super::card::{Card, CardError, Choice, Direction, Opened};
use super::duplex::Duplex;
use super::home::Lender;
use super::keeper::OpenDevice;
use super::lane::Lane;
use super::leg::LoopbackLeg;
use super::playback::Playback;

/// A device that moves no sound for so long does not answer.
const STILL: Duration = Duration::from_secs(2);
/// Silence behind the sound, so that its end is heard, too: more than waits in ring and card.
const TAIL: Duration = Duration::from_millis(300);

/// A sound that is being played.
pub struct Audition {
    leg: LoopbackLeg,
    lane: Arc<Lane>,
    device: OpenDevice,
    sound: Vec<i16>,
    /// Samples played of it and of the tail.
    played: usize,
    moved: Instant,
    /// Kept for its drop.
    _opened: Box<dyn Opened>,
}

impl Audition {
    /// Opens the loudspeaker for `sound`, at the house's rate.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn open(card: &mut dyn Card, choice: &Choice, sound: Vec<i16>, now: Instant) -> Result<Self, CardError> {
        let device = choice.among(&card.list()?, Direction::Output)?;
        let shape = card.shape(&device)?.check(&device.name)?;
        let (leg, side, _) = LoopbackLeg::new(now, Duplex::Full, None);
        let lane = side.output.clone();
        let ring = Lender::new(side.spoken).lend(Duration::ZERO).expect("it was not lent before");
        let opened = card.open_output(&device, shape, Playback::new(shape, lane.clone(), ring))?;
        let device = OpenDevice { direction: Direction::Output, name: device.name, shape };
        Ok(Self { leg, lane, device, sound, played: 0, moved: now, _opened: opened })
    }

    /// Where it is played.
    pub fn device(&self) -> &OpenDevice {
        &self.device
    }

    /// Plays the next ptime of it; false when all was heard. To be called every ptime.
    ///
    /// # Errors
    /// When the device is gone, or moves sound as no device does.
    pub fn tick(&mut self, now: Instant) -> Result<bool, CardError> {
        let name = &self.device.name;
        if let Some(fault) = self.lane.take_fault() {
            return Err(CardError::of_fault(fault, name));
        }
        let served = self.lane.last_served();
        self.moved = served.unwrap_or(self.moved).max(self.moved);
        if now.saturating_duration_since(self.moved) >= STILL {
            return Err(CardError::Stuck { device: name.clone(), seconds: STILL.as_secs() });
        }
        let mut frame = SILENCE;
        // Nothing is lost while the device is not there yet.
        if served.is_some() {
            let rest = &self.sound[self.played.min(self.sound.len())..];
            let length = rest.len().min(FRAME_SAMPLES);
            frame[..length].copy_from_slice(&rest[..length]);
            self.played += FRAME_SAMPLES;
        }
        self.leg.speak(now, &frame, true);
        let frames = self.sound.len().div_ceil(FRAME_SAMPLES) + TAIL.div_duration_f32(PTIME) as usize;
        Ok(self.played < frames * FRAME_SAMPLES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::virtual_card::{VirtualCard, VirtualDevice};
    use crate::pcm::{RATE, level, tone};

    fn card(start: Instant, output: VirtualDevice) -> VirtualCard {
        VirtualCard::new(start, VirtualDevice::new("microphone", 48_000, 1), output)
    }

    #[test]
    fn a_sound_is_heard_to_its_end_and_then_it_is_over() {
        let start = Instant::now();
        let mut card = card(start, VirtualDevice::new("loudspeaker", 44_100, 2));
        card.record();
        let sound = tone::sine(440.0, -6.0, RATE as usize);
        let mut audition = Audition::open(&mut card, &Choice::Default, sound, start).unwrap();
        assert_eq!((audition.device().name.as_str(), audition.device().shape.rate), ("loudspeaker", 44_100));
        let mut ticks = 0;
        loop {
            let now = start + Duration::from_millis(7) + PTIME * ticks;
            card.advance(now);
            ticks += 1;
            if !audition.tick(now).unwrap() {
                break;
            }
        }
        assert!((65..80).contains(&ticks), "{ticks} ticks for a second and its tail");
        let heard: Vec<i16> = card.take_recorded().iter().map(|(_, sample)| (sample * 32767.0) as i16).collect();
        let sounding = heard.iter().filter(|sample| sample.unsigned_abs() > 300).count();
        assert!((42_000..45_500).contains(&sounding), "a second of it: {sounding} samples");
        assert!((level::rms_dbfs(&heard[20_000..40_000]) + 9.0).abs() < 0.5);
    }

    #[test]
    fn no_device_a_device_that_stands_still_and_one_without_a_clock_are_told_apart() {
        let start = Instant::now();
        let mut there = card(start, VirtualDevice::new("loudspeaker", 48_000, 2));
        let missing = Audition::open(&mut there, &Choice::Named("hat".into()), Vec::new(), start);
        assert!(matches!(missing.err(), Some(CardError::NotFound { .. })));
        let mut audition = Audition::open(&mut there, &Choice::Default, vec![1; 16_000], start).unwrap();
        let mut outcome = Ok(true);
        for tick in 0..110 {
            outcome = audition.tick(start + PTIME * tick);
            if outcome.is_err() {
                break;
            }
        }
        assert!(matches!(outcome, Err(CardError::Stuck { .. })), "{outcome:?}");
    }
}
