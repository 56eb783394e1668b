//! The media plane: one thread that ticks, and bounded lock-free rings to everything else.
//!
//! ```text
//!            ┌──────────── media thread, each call every 20 ms ────────────┐
//!  leg ────► │ hear ─► endpointer ─► mixer ─► speak                        │ ────► leg
//!            └───┬──────────┬──────────▲──▲─────────────────────────────────┘
//!         heard ring   event ring   speech ring  command ring          (ringbuf, single producer, single consumer)
//!                ▼          ▼          │  │
//!            ┌───────────────── the call's tasks, on tokio ────────────────┐
//! ```
//!
//! Every ring is bounded. Whoever finds one full drops the newest element and counts it; nobody waits on the media thread's side.

mod bridge;
mod dialling;
mod lateness;
mod line;
mod ports;
pub mod realtime;
mod thread;

pub use bridge::Join;
pub use dialling::{Keys, KeysError};
pub use lateness::Lateness;
pub use line::{Line, LineCounters};
pub use ports::{Command, Event, HeardFrame, Occurrence, Ports};
pub use thread::{MediaCounters, MediaThread, Place};
