//! Whether the voices speak: each says a sentence to nobody.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Check;
use crate::config::Config;
use crate::daemon;
use crate::gemini;
use crate::http::Http;
use crate::tts::{CommandSynthesizer, Fault, Synthesizer, network};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let language = config.conversation.language;
    let program = config.voice.command.first().cloned().unwrap_or_default();
    let command = async {
        let voice = CommandSynthesizer::new(&config.voice)?;
        // Tells of a voice that cannot read the language, too.
        voice.warm(language).await
    };
    let network = async {
        let gemini = gemini::key(&config.gemini).ok().flatten();
        let setup = |problem: String| Fault::Setup { key: "api_key_file", problem };
        let key = daemon::voice_key(config, gemini.as_ref()).map_err(|error| setup(error.to_string()))?;
        let http = Http::new(config.gemini.connect).map_err(|error| setup(error.to_string()))?;
        match network::open(&config.network_voice, &config.voice, key, &http)? {
            Some(voice) => voice.check(language).await,
            None => Ok(()),
        }
    };
    let mut checks = vec![timed(program, command).await];
    if let Some(preset) = config.network_voice.preset {
        let check = timed(preset.name().to_owned(), network).await;
        // The other voice is there for this.
        checks.push(match check.state {
            super::State::Failure => check.warning("see [network_voice]; until then the voice of [voice] speaks"),
            _ => check,
        });
    }
    checks
}

async fn timed(what: String, speaking: impl Future<Output = Result<(), Fault>>) -> Check {
    let begun = Instant::now();
    let said = |finding: String| Check::ok("voice", what.clone(), finding);
    match timeout(PATIENCE, speaking).await {
        Ok(Ok(())) => said(format!("spoke a sentence in {} ms", begun.elapsed().as_millis())),
        Ok(Err(fault)) => said(fault.to_string()).failure("put right what it says, in [voice]"),
        Err(_) => said(format!("silent for {} s", PATIENCE.as_secs())).failure("try the command of [voice] by hand"),
    }
}
