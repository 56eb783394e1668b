//! Voices over the network: HTTP interfaces described by data, and Wyoming servers.
//!
//! Each phrase is one request. Its sound is passed on while it arrives, from the first 60 ms on. Not implemented: interfaces to
//! which text is streamed, and signed requests.

mod answer;
mod delivery;
mod fault;
mod http;
mod recipe;
mod template;
mod wyoming;

pub use fault::{NetworkFault, NetworkFaultKind};
pub use http::HttpVoice;
pub use wyoming::WyomingVoice;

use std::sync::Arc;

use crate::config::{self, VoicePreset};
use crate::http::Http;
use crate::privacy::Secret;

use super::{Fault, Synthesizer};

/// The voice of `[network_voice]`; `None` when there is none.
///
/// # Errors
/// When it cannot be used as it is configured.
pub fn open(
    config: &config::NetworkVoice,
    voice: &config::Voice,
    key: Option<Secret>,
    http: &Http,
) -> Result<Option<Arc<dyn Synthesizer>>, Fault> {
    Ok(match config.preset {
        None => None,
        Some(VoicePreset::Wyoming) => Some(Arc::new(WyomingVoice::new(config, voice)?)),
        Some(preset) => Some(Arc::new(HttpVoice::new(preset, config, voice, key, http)?)),
    })
}
