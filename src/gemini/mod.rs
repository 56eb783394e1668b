//! Gemini over HTTP: one request a turn, its answer piece by piece (`streamGenerateContent?alt=sse`, Gemini API v1beta).
//!
//! [`Gemini::ask`] sends an [`Ask`] and reports [`Event`]s while the model writes; what fails is a [`Fault`]. Not implemented: the
//! Interactions API, the Live API, functions with parameters or results.

mod ask;
mod attempt;
mod breaker;
mod client;
mod fault;
mod key;
pub mod sse;
mod wire;

pub use ask::{Ask, Content, Delta, END_CALL, Event, Finish, Function, Mark, Usage};
pub use client::{Gemini, SetupError};
pub use fault::{Fault, FaultClass, Stage};
pub use key::key;
