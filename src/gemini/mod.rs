//! Gemini over HTTP: one request a turn, its answer piece by piece (`streamGenerateContent?alt=sse`, Gemini API v1beta).
//!
//! [`Gemini`] is a [`LanguageModel`](crate::model::LanguageModel). Not implemented: the Interactions API, functions with parameters or
//! results.

mod attempt;
mod breaker;
mod client;
mod key;
pub mod sse;
mod wire;

pub use client::{Gemini, SetupError};
pub use key::key;
