//! What a conversation is allowed, and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use super::Remedy;
use crate::config::Config;

/// After a voice's own time for its first sound: for another voice that takes its place.
const OFFLINE_VOICE: Duration = Duration::from_millis(700);
/// Silence that a caller takes for a dead line; a clip lasts about as long again.
const QUIET: Duration = Duration::from_millis(1500);
/// After the time that the functions have themselves.
const TOOLS_MARGIN: Duration = Duration::from_millis(1000);

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
    /// From an answer's first phrase to its first sound; then the voice is taken for dead.
    pub first_sound: Duration,
    /// A wait in silence is bridged after so long.
    pub quiet: Duration,
    /// Functions that the model called may take so long.
    pub tools: Duration,
    /// An answer is cut off when about so much speech of it was asked for; zero: never.
    pub longest_answer: Duration,
    /// A call is ended after so long; zero: never.
    pub longest_call: Duration,
    /// Turns in a row without an answer from which on more is done than to apologise.
    pub apologies: u32,
    /// What is done, in its order.
    pub remedies: [Option<Remedy>; 3],
    /// Whether a message can be taken.
    pub voicemail: bool,
    /// Whether every call is for the machine that takes messages.
    pub messages_only: bool,
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
            first_sound: config.voice.first_audio + OFFLINE_VOICE,
            quiet: QUIET,
            tools: config.longest_round() + TOOLS_MARGIN,
            longest_answer: config.limits.longest_answer,
            longest_call: config.limits.longest_call,
            apologies: config.ladder.apologies,
            remedies: std::array::from_fn(|n| config.ladder.remedies.get(n).copied()),
            voicemail: config.voicemail.enabled,
            messages_only: config.voicemail.enabled && config.voicemail.always,
        }
    }
}
