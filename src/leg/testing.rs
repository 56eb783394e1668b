//! A leg for the tests of other rooms.

use std::time::Instant;

use super::{Dtmf, FrameKind, Leg, LegMedia};
use crate::pcm::Frame;

/// Is silent, and hears nothing.
pub struct Nobody;

impl Leg for Nobody {
    fn hear(&mut self, _: Instant, _: &mut Frame) -> FrameKind {
        FrameKind::Silence
    }

    fn speak(&mut self, _: Instant, _: &Frame, _: bool) {}

    fn skip(&mut self) {}

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        None
    }

    fn renegotiate(&mut self, _: &LegMedia) {}

    fn last_received(&self) -> Instant {
        Instant::now()
    }
}
