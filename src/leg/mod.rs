//! A leg: one way in for a caller, in the one shape the media thread knows, a frame each way every ptime.

use std::net::SocketAddr;
use std::time::Instant;

use crate::pcm::Frame;

pub mod rtcp;
pub mod rtp;

pub use crate::rtp::dtmf::Dtmf;
pub use crate::rtp::receiver::FrameKind;

/// One way in. Every call comes from the media thread: no implementation may allocate, lock, wait or log.
pub trait Leg: Send {
    /// Takes in what has arrived and gives the next frame of the caller's sound.
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind;

    /// Sends the next frame of our sound; `sounding` is false for silence.
    fn speak(&mut self, now: Instant, frame: &Frame, sounding: bool);

    /// A ptime passed in which nothing could be sent: its place on the time line stays empty.
    fn skip(&mut self);

    /// The next key the caller pressed.
    fn poll_dtmf(&mut self) -> Option<Dtmf>;

    /// Presses a key towards the far side; without effect where it takes none.
    fn dial(&mut self, _key: Dtmf) {}

    /// The far side has moved: packets go there from now on.
    fn redirect(&mut self, remote: SocketAddr);

    /// When something was last received; the start of the leg if nothing ever was.
    fn last_received(&self) -> Instant;
}
