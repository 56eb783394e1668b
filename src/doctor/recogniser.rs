//! Whether the recogniser can be reached and takes our key.

use std::time::Duration;

use super::Check;
use crate::config::{Config, Engine};
use crate::http::Http;
use crate::recogniser;

/// Time for an answer; it is asked while others are.
const PATIENCE: Duration = Duration::from_secs(8);

/// One line; none where there is no recogniser.
pub(super) async fn check(config: &Config) -> Option<Check> {
    let engine = config.recogniser.engine;
    if engine == Engine::None {
        return None;
    }
    let line = |finding: String| Check::ok("recogniser", engine.name(), finding);
    let made = Http::new(config.recogniser.connect)
        .map_err(recogniser::SetupError::from)
        .and_then(|http| recogniser::from_config(config, &http));
    let engine = match made {
        Ok(Some(engine)) => engine,
        Ok(None) => return None,
        Err(error) => return Some(line(error.to_string()).failure("put [recogniser] right")),
    };
    Some(match tokio::time::timeout(PATIENCE, engine.warm()).await {
        Ok(Ok(())) => line(format!("{} can be reached", engine.name())),
        Ok(Err(fault)) => {
            let remedy = match fault.permanent() {
                true => "check key, model and languages in [recogniser]; until then the model is given the sound",
                false => "check the network and [recogniser]; while it is gone the model is given the sound",
            };
            line(fault.to_string()).warning(remedy)
        }
        Err(_) => {
            line(format!("no answer within {} s", PATIENCE.as_secs())).warning("check the network and [recogniser]")
        }
    })
}
