//! Whether the model that hears and speaks by itself can be reached and takes our key.

use std::time::Duration;

use super::Check;
use crate::config::Config;
use crate::gemini::{self, live::SpeechDialogue};
use crate::http::Http;

/// Time for an answer; it is asked while others are.
const PATIENCE: Duration = Duration::from_secs(8);

/// One line; none where there is no such model.
pub(super) async fn check(config: &Config) -> Option<Check> {
    if !config.live.enabled {
        return None;
    }
    let line = |finding: String| Check::ok("live", config.live.model.clone(), finding);
    // What is wrong with the key has a line of its own.
    let key = gemini::key(&config.gemini).ok().flatten();
    // The process-wide provider of TLS.
    let made = Http::new(config.gemini.connect).map_err(gemini::SetupError::from);
    let speech = match made.and_then(|_| gemini::live::from_config(config, key)) {
        Ok(speech) => speech?,
        Err(error) => return Some(line(error.to_string()).failure("put [live] right")),
    };
    Some(match tokio::time::timeout(PATIENCE, speech.warm()).await {
        Ok(Ok(())) => line("it can be spoken to".into()),
        Ok(Err(fault)) => line(fault.to_string())
            .warning("check the network, [live] and the key of [gemini]; until then answers are written and read out"),
        Err(_) => line(format!("no answer within {} s", PATIENCE.as_secs())).warning("check the network and [live]"),
    })
}
