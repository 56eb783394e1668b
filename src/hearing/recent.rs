//! The last moments heard: the level of each 10 ms, and when each frame arrived.

use std::time::Instant;

use crate::pcm::telephone::{FRAME_SAMPLES, Frame};

/// Samples in one measured level: 10 ms.
pub(super) const HOP_SAMPLES: u64 = 80;
/// Frames that are kept: 640 ms.
const FRAMES: usize = 32;
const HOPS_IN_FRAME: usize = FRAME_SAMPLES / HOP_SAMPLES as usize;
const HOPS: usize = FRAMES * HOPS_IN_FRAME;

/// A ring over the last 640 ms. Positions are samples since the start; what is older has been forgotten.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// Mean square of each hop.
    powers: [f32; HOPS],
    /// Up to which it may be the box's own voice.
    own: [f32; HOPS],
    arrivals: [Option<Instant>; FRAMES],
    frames: u64,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { powers: [0.0; HOPS], own: [0.0; HOPS], arrivals: [None; FRAMES], frames: 0 }
    }

    /// Takes a frame; `own` tells of the power of each hop up to which it may be the box's own voice.
    pub(super) fn push(&mut self, now: Instant, frame: &Frame, mut own: impl FnMut(f32) -> f32) {
        let slot = (self.frames % FRAMES as u64) as usize;
        self.arrivals[slot] = Some(now);
        let hops = frame.chunks_exact(HOP_SAMPLES as usize);
        let first = slot * HOPS_IN_FRAME;
        for ((power, mine), hop) in self.powers[first..].iter_mut().zip(&mut self.own[first..]).zip(hops) {
            *power = hop.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum::<f32>() / HOP_SAMPLES as f32;
            *mine = own(*power);
        }
        self.frames += 1;
    }

    /// Samples heard so far.
    pub(super) const fn heard(&self) -> u64 {
        self.frames * FRAME_SAMPLES as u64
    }

    /// When the last frame arrived.
    pub(super) fn last_arrival(&self) -> Option<Instant> {
        self.arrival(self.heard())
    }

    /// When the last sample before `position` arrived; for what is forgotten, the earliest arrival that is known.
    pub(super) fn arrival(&self, position: u64) -> Option<Instant> {
        let newest = self.frames.checked_sub(1)?;
        let oldest = self.frames.saturating_sub(FRAMES as u64);
        let frame = (position.saturating_sub(1) / FRAME_SAMPLES as u64).clamp(oldest, newest);
        self.arrivals[(frame % FRAMES as u64) as usize]
    }

    /// The mean squares of the 10 ms hops that lie wholly or partly between two positions, with the end of each; latest first. What may
    /// be the box's own voice is silence.
    pub(super) fn levels(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, f32)> {
        self.hops(from, to).map(|(end, power, own)| (end, if power > own { power } else { 0.0 }))
    }

    /// The same without what may be the box's own voice.
    pub(super) fn foreign(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, f32)> {
        self.hops(from, to).filter(|(_, power, own)| power > own || *own == 0.0).map(|(end, power, _)| (end, power))
    }

    fn hops(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, f32, f32)> {
        let newest = self.heard() / HOP_SAMPLES;
        let first = (from / HOP_SAMPLES).max(newest.saturating_sub(HOPS as u64));
        let last = to.div_ceil(HOP_SAMPLES).min(newest);
        (first..last).rev().map(|hop| {
            let slot = (hop % HOPS as u64) as usize;
            ((hop + 1) * HOP_SAMPLES, self.powers[slot], self.own[slot])
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pcm::PTIME;
    use crate::pcm::telephone::SILENCE;

    #[test]
    fn each_sample_is_known_by_the_arrival_of_its_frame() {
        let start = Instant::now();
        let mut recent = Recent::new();
        assert_eq!(recent.arrival(0), None);
        for frame in 0..40 {
            recent.push(start + PTIME * frame, &SILENCE, |_| 0.0);
        }
        assert_eq!(recent.heard(), 6400);
        assert_eq!(recent.arrival(39 * 160), Some(start + PTIME * 38));
        assert_eq!(recent.arrival(39 * 160 + 1), Some(start + PTIME * 39));
        assert_eq!(recent.arrival(1), Some(start + PTIME * 8), "forgotten: the earliest that is known");
        assert_eq!(recent.arrival(u64::MAX), Some(start + Duration::from_millis(780)));
    }

    #[test]
    fn levels_come_latest_first_with_the_end_of_each_hop() {
        let mut recent = Recent::new();
        for frame in 0..40i16 {
            let mut sound = [frame; FRAME_SAMPLES];
            sound[80..].fill(0);
            recent.push(Instant::now(), &sound, |_| 0.0);
        }
        let levels: Vec<_> = recent.levels(6400 - 250, 6400).collect();
        assert_eq!(levels, [(6400, 0.0), (6320, 39.0 * 39.0), (6240, 0.0), (6160, 38.0 * 38.0)]);
        assert_eq!(recent.levels(0, u64::MAX).count(), 64);
    }

    #[test]
    fn what_may_be_the_boxs_own_voice_is_silence_and_no_noise() {
        let mut recent = Recent::new();
        recent.push(Instant::now(), &[10; FRAME_SAMPLES], |power| power);
        recent.push(Instant::now(), &[10; FRAME_SAMPLES], |power| power / 2.0);
        assert_eq!(recent.levels(0, 320).map(|(_, power)| power).collect::<Vec<_>>(), [100.0, 100.0, 0.0, 0.0]);
        assert_eq!(recent.foreign(0, 320).map(|(end, _)| end).collect::<Vec<_>>(), [320, 240]);
    }
}
