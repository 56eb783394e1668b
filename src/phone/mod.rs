//! The test phone: calls, speaks, listens, and measures what a caller hears, stamped at the socket.
//!
//! ```text
//! mouth ─► caller ─► run (thread, socket) ─► the line
//!            ▲ │                                │
//!   script ──┘ └──► ear ◄── packets, clips ◄────┘
//!                    └──► turn ─► report
//! ```
//!
//! Everything but [`run`] and [`place()`] is without sockets and clock. Not implemented: early media, answering calls.

pub mod caller;
pub mod clips;
pub mod comparison;
pub mod ear;
pub mod mouth;
pub mod packets;
mod place;
mod host_time;
pub mod report;
pub mod rtcp;
pub mod run;
pub mod script;
#[cfg(test)]
mod testing;
pub mod trial;
pub mod turn;

pub use place::{CallOptions, PhoneError, PhoneTrunk, known_clips, place};
