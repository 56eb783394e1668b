//! Who may be heard while the box speaks: on a loudspeaker its own voice comes back louder than the caller, and would cut itself off.
//!
//! A sans-IO machine, asked once a ptime. `half` duplex shuts the microphone while the loudspeaker sounds and a moment longer; `full` leaves it
//! open, for a headset. `automatic` begins half and becomes full when nothing comes back of a second and a half of loud speech. It measures
//! levels only, so that a caller who speaks meanwhile is taken for an echo: then it stays half for longer. Whoever presses the key to talk is
//! heard in any case, and the loudspeaker is silent meanwhile. Not implemented: subtracting the echo.

use std::str::FromStr;

use serde::Serialize;

use crate::pcm::Frame;

/// Ptimes for which the microphone stays shut after the last sound: the way through both cards, and the room.
const TAIL: u32 = 15;
/// Softer is no sound of the loudspeaker, as a mean square: −55 dBFS.
const AUDIBLE: f32 = 3400.0;
/// Louder sound proves something when nothing of it comes back: −35 dBFS.
const LOUD: f32 = 3.4e5;
/// What is so much softer than the loudspeaker, as a power, did not come from it: −32 dB.
const NOTHING: f32 = 6.3e-4;
/// Ptimes of loud sound that prove a headset.
const PROOF: u32 = 75;

/// What the user knows of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplex {
    /// Both at a time, once nothing is seen to come back.
    #[default]
    Automatic,
    /// Both at a time: a headset.
    Full,
    /// One at a time: a loudspeaker.
    Half,
}

impl FromStr for Duplex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "automatic" | "auto" => Ok(Self::Automatic),
            "full" => Ok(Self::Full),
            "half" => Ok(Self::Half),
            _ => Err("is automatic, full or half".to_owned()),
        }
    }
}

/// What passes in a ptime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passes {
    /// The microphone.
    pub heard: bool,
    /// The loudspeaker.
    pub spoken: bool,
}

/// The gate of one call.
#[derive(Debug, Clone)]
pub struct Gate {
    duplex: Duplex,
    /// Power of what was spoken, newest first.
    spoken: [f32; TAIL as usize],
    proof: u32,
    proven: bool,
}

impl Gate {
    /// For this room.
    pub fn new(duplex: Duplex) -> Self {
        Self { duplex, spoken: [0.0; TAIL as usize], proof: 0, proven: false }
    }

    /// Another card: nothing is known of it.
    pub fn forget(&mut self) {
        (self.proof, self.proven) = (0, false);
    }

    /// Whether both may be heard at a time.
    pub fn is_full(&self) -> bool {
        match self.duplex {
            Duplex::Full => true,
            Duplex::Half => false,
            Duplex::Automatic => self.proven,
        }
    }

    /// What passes while `heard` is what the microphone hears. `key`: whether a key to talk is pressed; `None` where there is none.
    pub fn hear(&mut self, heard: &Frame, key: Option<bool>) -> Passes {
        let loudest = self.spoken.iter().copied().fold(0.0, f32::max);
        // What has sounded for less long than the tail may not have come back yet.
        let settled = self.spoken[TAIL as usize - 1].max(self.spoken[TAIL as usize / 2]);
        if loudest >= LOUD && settled >= LOUD {
            self.proof = if power(heard) <= loudest * NOTHING { self.proof + 1 } else { 0 };
            self.proven |= self.proof >= PROOF;
        }
        match key {
            Some(pressed) => Passes { heard: pressed, spoken: !pressed },
            None => Passes { heard: self.is_full() || loudest < AUDIBLE, spoken: true },
        }
    }

    /// The loudspeaker is given this.
    pub fn speak(&mut self, frame: &Frame) {
        self.spoken.rotate_right(1);
        self.spoken[0] = power(frame);
    }
}

/// Mean square.
pub(super) fn power(frame: &Frame) -> f32 {
    frame.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum::<f32>() / frame.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::SILENCE;

    fn at(dbfs: f32) -> Frame {
        [(32768.0 * 10f32.powf(dbfs / 20.0)) as i16; SILENCE.len()]
    }

    /// So many ptimes in which the box speaks at −20 dBFS and the microphone hears so much of it; whether the last was heard.
    fn speaks(gate: &mut Gate, ptimes: u32, heard: Frame) -> bool {
        let mut passes = false;
        for _ in 0..ptimes {
            gate.speak(&at(-20.0));
            passes = gate.hear(&heard, None).heard;
        }
        passes
    }

    #[test]
    fn on_a_loudspeaker_nothing_is_heard_while_it_sounds_and_for_a_moment_longer() {
        for duplex in [Duplex::Half, Duplex::Automatic] {
            let mut gate = Gate::new(duplex);
            assert!(gate.hear(&at(-25.0), None).heard, "nobody speaks yet");
            assert!(!speaks(&mut gate, 500, at(-18.0)), "{duplex:?}");
            let shut = (0..100).take_while(|_| {
                gate.speak(&SILENCE);
                !gate.hear(&at(-30.0), None).heard
            });
            assert_eq!(shut.count() as u32, TAIL - 1);
        }
    }

    #[test]
    fn a_headset_is_found_out_and_then_the_caller_is_heard_over_the_box() {
        let mut gate = Gate::new(Duplex::Automatic);
        assert!(!speaks(&mut gate, PROOF, at(-60.0)), "not before the proof");
        assert!(speaks(&mut gate, 20, at(-60.0)));
        assert!(speaks(&mut gate, 20, at(-25.0)), "the caller speaks over it");
        gate.forget();
        assert!(!speaks(&mut gate, 1, at(-25.0)));
    }

    #[test]
    fn with_the_key_the_caller_is_heard_and_the_loudspeaker_is_silent_and_without_it_neither() {
        let mut gate = Gate::new(Duplex::Half);
        gate.speak(&at(-20.0));
        assert_eq!(gate.hear(&at(-20.0), Some(true)), Passes { heard: true, spoken: false });
        assert_eq!(gate.hear(&at(-20.0), Some(false)), Passes { heard: false, spoken: true });
    }
}
