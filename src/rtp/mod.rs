//! RTP and RTCP (RFC 3550), telephone events (RFC 4733): from datagrams to frames and back.
//!
//! ```text
//! datagram ─► (srtp) ─► packet ─► receiver ┬─► jitter ─► decode ─► conceal ─► frame
//!                                         └─► dtmf ─► digit
//! frame ─► sender (encode, header) ─► (srtp) ─► datagram
//! ```
//!
//! Everything here but [`socket`] and [`ports`] is without IO and without a clock: time is an argument. [`receiver`], [`sender`], [`srtp`] and what
//! they are made of run on the media thread and allocate nothing after construction; [`rtcp`] runs beside it.

mod comfort_noise;
pub mod conceal;
pub mod dtmf;
pub mod impairment;
pub mod jitter;
pub mod packet;
pub mod ports;
pub mod quality;
mod pitch;
pub mod receiver;
pub mod rtcp;
pub mod sender;
pub mod socket;
pub mod srtp;
pub mod statistics;
