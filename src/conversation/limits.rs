//! What a conversation is allowed, and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;

/// What the conversation is allowed, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From a request to its first text.
    pub first_token: Duration,
    /// Between two pieces of text.
    pub between_tokens: Duration,
    /// From a request to the end of its text.
    pub whole_answer: Duration,
    /// Exchanges that are remembered; older ones are forgotten.
    pub history_exchanges: usize,
    /// Whether the call opens with a greeting.
    pub greeting: bool,
    /// Whether a placeholder is armed for each turn.
    pub placeholder: bool,
    /// Whether an answer is asked for before the soft end, on the chance that the caller has finished.
    pub speculation: bool,
    /// A voice over ours that lasts so long is a barge-in; at zero every sound is.
    pub barge_in: Duration,
    /// A caller who says nothing for so long is asked whether anybody is there, and after as long again the call ends; zero: never.
    pub silence_prompt: Duration,
    /// The person to whom the caller may be handed over.
    pub transfer_to: Option<Arc<str>>,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            first_token: config.gemini.first_token,
            between_tokens: config.gemini.between_tokens,
            whole_answer: config.gemini.whole_answer,
            history_exchanges: config.conversation.history_exchanges,
            greeting: config.conversation.greeting,
            placeholder: config.placeholder.enabled,
            speculation: config.conversation.speculation,
            barge_in: config.conversation.barge_in,
            silence_prompt: config.conversation.silence_prompt,
            transfer_to: config.conversation.transfer_to.as_deref().map(Arc::from),
        }
    }
}
