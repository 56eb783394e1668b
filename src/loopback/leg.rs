//! The leg of somebody at a microphone: takes a frame from one ring and gives one to the other every ptime.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};

use crate::leg::{Dtmf, FrameKind, Leg, LegMedia};
use crate::pcm::{FRAME_SAMPLES, Frame, SILENCE};

use super::Shared;
use super::desk::{Desk, Keys, desk};
use super::duplex::{Duplex, Gate};
use super::lane::Lane;
use super::tape::TapeHead;

/// How long a key is said to have been held.
const HELD: Duration = Duration::from_millis(100);
/// Samples over which sound that breaks off fades, and comes up again: 5 ms.
const FADE: usize = 80;

/// Both rings' ends that a card uses, and what is counted.
pub struct CardSide {
    /// To be filled by a microphone.
    pub(super) heard: HeapProd<i16>,
    /// To be emptied by a loudspeaker.
    pub(super) spoken: HeapCons<i16>,
    /// The microphone's direction.
    pub input: Arc<Lane>,
    /// The loudspeaker's.
    pub output: Arc<Lane>,
    /// Levels and switches.
    pub desk: Arc<Desk>,
}

impl CardSide {
    /// What both ends go on sharing.
    pub fn shared(&self) -> Shared {
        Shared { input: self.input.clone(), output: self.output.clone(), desk: self.desk.clone() }
    }
}

/// The way in of one call over a card.
pub struct LoopbackLeg {
    heard: HeapCons<i16>,
    spoken: HeapProd<i16>,
    input: Arc<Lane>,
    output: Arc<Lane>,
    desk: Arc<Desk>,
    keys: HeapCons<char>,
    gate: Gate,
    tape: Option<TapeHead>,
    began: Instant,
    begun: bool,
    /// What was heard last did not end in silence.
    last: i16,
    /// What is heard next comes out of silence.
    rises: bool,
    speaks: bool,
}

impl LoopbackLeg {
    /// A leg for a room of this kind, and what belongs to its other end.
    pub fn new(now: Instant, duplex: Duplex, tape: Option<TapeHead>) -> (Self, CardSide, Keys) {
        let (input, heard_in, heard) = Lane::new(now);
        let (output, spoken, spoken_out) = Lane::new(now);
        let (desk, keys_in, keys) = desk();
        let card = CardSide {
            heard: heard_in,
            spoken: spoken_out,
            input: input.clone(),
            output: output.clone(),
            desk: desk.clone(),
        };
        let leg = Self {
            heard,
            spoken,
            input,
            output,
            desk,
            keys,
            gate: Gate::new(duplex),
            tape,
            began: now,
            begun: false,
            last: 0,
            rises: true,
            speaks: true,
        };
        (leg, card, keys_in)
    }

    /// The next frame as the card gave it.
    fn take(&mut self, frame: &mut Frame) -> FrameKind {
        if !std::mem::replace(&mut self.begun, true) {
            // What was recorded before the call is nobody's.
            self.heard.clear();
            self.input.take_surplus();
        }
        let surplus = self.input.take_surplus() as usize;
        if surplus > 0 {
            self.heard.skip(surplus.min(self.heard.occupied_len()));
            self.rises = true;
        }
        if self.heard.occupied_len() < FRAME_SAMPLES {
            // Before the first sound there is nothing to miss.
            if self.input.last_served().is_some() {
                self.input.starve();
            }
            let last = i32::from(std::mem::take(&mut self.last));
            for (n, sample) in frame.iter_mut().take(FADE).enumerate() {
                *sample = (last * (FADE - n) as i32 / FADE as i32) as i16;
            }
            self.rises = true;
            return if last == 0 { FrameKind::Silence } else { FrameKind::Concealed };
        }
        self.heard.pop_slice(frame);
        self.last = frame[FRAME_SAMPLES - 1];
        if std::mem::take(&mut self.rises) {
            for (n, sample) in frame.iter_mut().take(FADE).enumerate() {
                *sample = (i32::from(*sample) * n as i32 / FADE as i32) as i16;
            }
        }
        FrameKind::Speech
    }
}

impl Leg for LoopbackLeg {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        *frame = SILENCE;
        let kind = self.take(frame);
        self.input.tick(now);
        if self.desk.take_renewed() {
            self.gate.forget();
        }
        let passes = self.gate.hear(frame, self.desk.key());
        self.desk.heard(frame, !passes.heard, self.gate.is_full());
        self.speaks = passes.spoken;
        if !passes.heard {
            *frame = SILENCE;
        }
        if let Some(tape) = &mut self.tape {
            tape.heard(frame);
        }
        kind
    }

    fn is_wide(&self) -> bool {
        true
    }

    fn speak(&mut self, now: Instant, frame: &Frame, _: bool) {
        let frame = if self.speaks { frame } else { &SILENCE };
        self.gate.speak(frame);
        self.desk.spoken(frame);
        let taken = self.spoken.push_slice(frame);
        // While there is no card nobody misses it.
        if taken < FRAME_SAMPLES && self.output.last_served().is_some_and(|at| now.saturating_duration_since(at) < HELD)
        {
            self.output.overrun(FRAME_SAMPLES - taken);
        }
        self.output.tick(now);
        if let Some(tape) = &mut self.tape {
            tape.spoken(frame);
        }
    }

    /// Sound that was not taken in this ptime stays where it is, and the regulation makes good what was not given.
    fn skip(&mut self) {}

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        self.keys.try_pop().map(|digit| Dtmf { digit, duration: HELD })
    }

    /// There is nothing to agree on with a card.
    fn renegotiate(&mut self, _: &LegMedia) {}

    fn last_received(&self) -> Instant {
        self.input.last_served().unwrap_or(self.began)
    }
}
