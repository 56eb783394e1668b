//! Concealment of lost frames: the last pitch period is repeated and fades to silence over 60 ms (in the manner of G.711 Appendix I).
//!
//! The pitch is found once per loss by correlation over 66–200 Hz. No change of pitch within a loss, no time stretching.

use crate::pcm::{FRAME_SAMPLES, Frame};

/// Longest pitch period: 15 ms.
const PITCH_MAX: usize = 120;
/// Shortest pitch period: 5 ms.
const PITCH_MIN: usize = 40;
/// Samples that are compared to find the period.
const WINDOW: usize = 160;
const HISTORY: usize = PITCH_MAX + WINDOW;
/// The repeated sound is gone after so many samples.
const FADE: usize = 3 * FRAME_SAMPLES;
/// Over so many samples concealment and what follows are mixed.
const OVERLAP: usize = 32;

/// Remembers what was heard last and continues it when frames are missing. Allocates nothing.
#[derive(Debug, Clone)]
pub struct Concealer {
    history: [i16; HISTORY],
    /// One period, joined to itself without a step.
    period: [f32; PITCH_MAX],
    pitch: usize,
    /// What the last good sample lies above the one a period before it; taken off over [`OVERLAP`], so that the beginning makes no step.
    step: f32,
    /// Samples concealed since the last good frame.
    concealed: usize,
}

impl Default for Concealer {
    fn default() -> Self {
        Self::new()
    }
}

impl Concealer {
    /// Has heard only silence so far.
    pub fn new() -> Self {
        Self { history: [0; HISTORY], period: [0.0; PITCH_MAX], pitch: PITCH_MAX, step: 0.0, concealed: 0 }
    }

    /// Takes a frame that was received; after a loss its beginning is mixed with the end of the concealment.
    pub fn good(&mut self, frame: &mut Frame) {
        if self.concealed > 0 {
            for (n, sample) in frame.iter_mut().take(OVERLAP).enumerate() {
                let share = (n as f32 + 0.5) / OVERLAP as f32;
                *sample = (f32::from(*sample) * share + self.continued(n) * (1.0 - share)) as i16;
            }
            self.concealed = 0;
        }
        self.remember(frame);
    }

    /// Fills `frame` with a continuation of what was heard; silence once 60 ms have been concealed.
    pub fn conceal(&mut self, frame: &mut Frame) {
        if self.concealed == 0 {
            self.find_period();
        }
        for (n, sample) in frame.iter_mut().enumerate() {
            *sample = self.continued(n) as i16;
        }
        self.concealed = (self.concealed + FRAME_SAMPLES).min(FADE);
        self.remember(frame);
    }

    /// The concealment's sample `n` samples after what was concealed so far.
    fn continued(&self, n: usize) -> f32 {
        let at = self.concealed + n;
        let gain = 1.0 - at as f32 / FADE as f32;
        if gain <= 0.0 {
            return 0.0;
        }
        let step = self.step * (1.0 - at as f32 / OVERLAP as f32).max(0.0);
        (self.period[at % self.pitch] + step) * gain
    }

    fn remember(&mut self, frame: &Frame) {
        self.history.copy_within(FRAME_SAMPLES.., 0);
        self.history[HISTORY - FRAME_SAMPLES..].copy_from_slice(frame);
    }

    fn find_period(&mut self) {
        let recent = &self.history[HISTORY - WINDOW..];
        let mut best = (f32::MIN, PITCH_MAX);
        for lag in PITCH_MIN..=PITCH_MAX {
            let earlier = &self.history[HISTORY - WINDOW - lag..HISTORY - lag];
            let (mut product, mut energy) = (0.0f32, 1.0f32);
            for (&a, &b) in recent.iter().zip(earlier) {
                product += f32::from(a) * f32::from(b);
                energy += f32::from(b) * f32::from(b);
            }
            let score = product / energy.sqrt();
            if score > best.0 {
                best = (score, lag);
            }
        }
        self.pitch = best.1;
        let start = HISTORY - self.pitch;
        self.step = f32::from(self.history[HISTORY - 1]) - f32::from(self.history[start - 1]);
        let join = self.pitch / 4;
        for n in 0..self.pitch {
            let mut sample = f32::from(self.history[start + n]);
            // The end of the period runs into what stood before its beginning, so that repeating it makes no step.
            if let Some(into) = (n + join).checked_sub(self.pitch) {
                let share = (into as f32 + 0.5) / join as f32;
                let before = f32::from(self.history[start + n - self.pitch]);
                sample = sample * (1.0 - share) + before * share;
            }
            self.period[n] = sample;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::level::rms_dbfs;
    use crate::pcm::tone::{share_of, sine};

    fn frames(samples: &[i16]) -> impl Iterator<Item = Frame> + '_ {
        samples.chunks_exact(FRAME_SAMPLES).map(|chunk| chunk.try_into().unwrap())
    }

    fn after(tone: &[i16]) -> Concealer {
        let mut concealer = Concealer::new();
        for mut frame in frames(tone) {
            concealer.good(&mut frame);
        }
        concealer
    }

    #[test]
    fn a_lost_frame_of_a_tone_sounds_like_the_tone() {
        let mut concealer = after(&sine(160.0, -6.0, 1600));
        let mut lost = [0; FRAME_SAMPLES];
        concealer.conceal(&mut lost);
        assert!(share_of(160.0, &lost) > 0.9, "{}", share_of(160.0, &lost));
        assert!(rms_dbfs(&lost) > -13.0);
    }

    #[test]
    fn concealment_fades_and_is_silent_after_sixty_milliseconds() {
        let mut concealer = after(&sine(200.0, -6.0, 1600));
        let mut levels = Vec::new();
        for _ in 0..5 {
            let mut frame = [1; FRAME_SAMPLES];
            concealer.conceal(&mut frame);
            levels.push(rms_dbfs(&frame));
        }
        assert!(levels[0] > levels[1] && levels[1] > levels[2] && levels[2] > -40.0, "{levels:?}");
        assert_eq!(levels[3..], [-120.0, -120.0]);
    }

    /// The steepest step from one sample to the next.
    fn steepest(samples: &[i16]) -> i32 {
        samples.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap()
    }

    #[test]
    fn neither_the_beginning_nor_the_repetition_nor_the_end_of_a_concealment_clicks() {
        // Mains hum, pitches between whole samples, and two frames lost in a row, so that the phase has run away by their end.
        for hz in [50.0, 56.0, 87.0, 113.0, 131.0, 173.0, 190.0] {
            let tone: Vec<i16> =
                sine(hz, -12.0, 8000).iter().zip(sine(hz * 3.1, -24.0, 8000)).map(|(a, b)| a + b).collect();
            let mut concealer = Concealer::new();
            let mut heard = Vec::new();
            for (n, mut frame) in frames(&tone).enumerate() {
                if n % 5 >= 3 {
                    concealer.conceal(&mut frame);
                } else {
                    concealer.good(&mut frame);
                }
                heard.extend(frame);
            }
            // No step is 6 dB steeper than those of the tone itself.
            let (limit, steepest) = (2 * steepest(&tone), steepest(&heard));
            assert!(steepest <= limit, "{hz} Hz: {steepest} > {limit}");
        }
    }

    #[test]
    fn silence_is_continued_by_silence() {
        let mut concealer = Concealer::new();
        let mut frame = [9; FRAME_SAMPLES];
        concealer.conceal(&mut frame);
        assert_eq!(frame, [0; FRAME_SAMPLES]);
    }
}
