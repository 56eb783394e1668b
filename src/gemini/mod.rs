//! Gemini over HTTP: one request a turn, its answer piece by piece (`streamGenerateContent?alt=sse`, Gemini API v1beta).
//!
//! [`Gemini`] is a [`LanguageModel`](crate::model::LanguageModel). Not implemented: the Interactions API.

mod attempt;
mod cache;
mod client;
mod key;
pub mod live;
mod request;
mod response;
mod schema;
mod thinking;

pub use crate::http::sse;
pub use client::{Gemini, SetupError, patience};
pub use key::key;
pub use thinking::remarks;
