//! A language model with the OpenAI chat-completions interface (`POST /v1/chat/completions`, streamed): a cloud's, or one on the
//! customer's own network, which answers with the internet gone.
//!
//! [`Chat`] is a [`LanguageModel`](crate::model::LanguageModel). Not implemented: several choices, refusals as structured output,
//! the Responses API.

mod client;
mod reading;
mod request;
mod response;

pub use client::{Chat, SetupError, key};
