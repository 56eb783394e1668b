//! Hearing (temporary face until the room is there).
use std::time::Instant;
/// x
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Heard {
    /// x
    Started {
        /// x
        onset_sample: u64,
    },
    /// x
    SoftEnd {
        /// x
        speech_end: Instant,
        /// x
        end_sample: u64,
    },
    /// x
    Resumed,
    /// x
    HardEnd,
}
/// x
pub struct Endpointer;
impl Endpointer {
    /// x
    pub fn keep_open(&mut self, _n: Instant) {}
    /// x
    pub fn set_playing(&mut self, _n: bool) {}
    /// x
    pub fn handle_frame(&mut self, _n: Instant, _f: &crate::pcm::Frame) {}
    /// x
    pub fn poll(&mut self) -> Option<Heard> {
        None
    }
}
