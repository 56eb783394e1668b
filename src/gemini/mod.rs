//! Gemini over HTTP: one request a turn, its answer piece by piece (`streamGenerateContent?alt=sse` or `interactions`, Gemini API v1beta).
//!
//! [`Gemini`] is a [`LanguageModel`](crate::model::LanguageModel).

mod attempt;
mod cache;
mod client;
mod interactions;
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
