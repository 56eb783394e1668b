//! A leg: one way in for a caller, in the one shape the media thread knows, a frame each way every ptime.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::codec::{Codec, TelephoneEvents};
use crate::pcm::Frame;
use crate::sdp::{Direction, Negotiated, SrtpKeys};

pub mod buffering;
pub mod quality;
pub mod rtcp;
pub mod rtp;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::rtp::dtmf::Dtmf;
pub use crate::rtp::receiver::FrameKind;

/// What both sides have agreed on, as far as a leg must know it. Plain values, so that a running leg takes them on without allocating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegMedia {
    /// The codec of both directions.
    pub codec: Codec,
    /// Telephone events, if the peer takes them.
    pub telephone_event: Option<TelephoneEvents>,
    /// Where the peer wants packets; `None`: where it had them before (`c=0.0.0.0`).
    pub remote: Option<SocketAddr>,
    /// Who sends, from our point of view.
    pub direction: Direction,
    /// The keys of SRTP; `None`: plain RTP. The same ones again change nothing.
    pub srtp: Option<SrtpKeys>,
    /// RTCP comes on the port of RTP (RFC 5761).
    pub rtcp_mux: bool,
    /// The time of a packet that the peer asks for.
    pub ptime: Duration,
}

impl From<&Negotiated> for LegMedia {
    fn from(negotiated: &Negotiated) -> Self {
        Self {
            codec: negotiated.codec,
            telephone_event: negotiated.telephone_event,
            remote: (!negotiated.remote.ip().is_unspecified()).then_some(negotiated.remote),
            direction: negotiated.direction,
            srtp: negotiated.srtp,
            rtcp_mux: negotiated.rtcp_mux,
            ptime: negotiated.ptime,
        }
    }
}

/// One way in. Every call comes from the media thread: no implementation may allocate, lock, wait or log.
pub trait Leg: Send {
    /// Takes in what has arrived and gives the next frame of the caller's sound.
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind;

    /// Whether what is heard at present has more than the telephone band.
    fn is_wide(&self) -> bool {
        false
    }

    /// Sends the next frame of our sound; `sounding` is false for silence. While the far side does not want to hear us, the frame goes
    /// nowhere, and all that is sent is what keeps the way to it open.
    fn speak(&mut self, now: Instant, frame: &Frame, sounding: bool);

    /// A ptime passed in which nothing could be sent: its place on the time line stays empty.
    fn skip(&mut self);

    /// The next key the caller pressed.
    fn poll_dtmf(&mut self) -> Option<Dtmf>;

    /// Presses a key towards the far side, in place of what is spoken meanwhile; without effect where the far side has no use for keys.
    fn dial(&mut self, _key: Dtmf) {}

    /// Both sides have agreed anew: on another codec, another address, other keys, on hold.
    fn renegotiate(&mut self, media: &LegMedia);

    /// The call leaves the media thread: what was counted since the last report is told.
    fn leave(&mut self, _now: Instant) {}

    /// When something was last received; the start of the leg if nothing ever was.
    fn last_received(&self) -> Instant;
}
