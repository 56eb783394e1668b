//! Reading the configuration again while calls go on (SIGHUP): what answers callers is built anew for the next ones, or the old goes on.
//!
//! The line stays as it is: what is bound, registered or written to is not taken down under a call. [`kept`] says which sections wait for
//! the next start. Credentials are systemd's: it hands them out anew only when the unit starts.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::call::{GreetingDesk, Parts};
use crate::config::{self, Config, ConfigError};
use crate::voicemail::Store;

use super::StartError;
use super::answering::Answering;

/// Why the configuration that was read again is not used. The one before is.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The file cannot be read, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is right, and what it names does not work.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Lets what must wait for the next start be as it is, and says where that is another than the file's.
fn kept(wanted: &mut Config, running: &Config) -> Vec<&'static str> {
    let mut waiting = Vec::new();
    let mut keep = |name, changed: bool| {
        if changed {
            waiting.push(name);
        }
    };
    keep("[sip]", wanted.sip != running.sip);
    keep("[trunk]", wanted.trunk != running.trunk);
    keep("[status]", wanted.status != running.status);
    keep("[log]", wanted.log != running.log);
    keep("[voicemail]", wanted.voicemail != running.voicemail);
    keep("[limits] state_file", wanted.limits.state_file != running.limits.state_file);
    wanted.sip = running.sip.clone();
    wanted.trunk = running.trunk.clone();
    wanted.status = running.status.clone();
    wanted.log = running.log.clone();
    wanted.voicemail = running.voicemail.clone();
    wanted.limits.state_file = running.limits.state_file.clone();
    waiting
}

/// What the next calls share, as the file has it, and the sections that wait for the next start.
///
/// # Errors
/// When calls cannot be answered so.
pub(super) async fn read(
    file: &Path,
    running: &Parts,
    store: Option<Arc<Store>>,
) -> Result<(Parts, Vec<&'static str>), ReloadError> {
    let mut config = config::load(file)?;
    let waiting = kept(&mut config, &running.config);
    let answering = Answering::build(&config, store, Some(&running.clips)).await?;
    let desk = GreetingDesk::of(&config).map_err(StartError::from)?;
    let greeting_desk = desk.map(|desk| Arc::new(desk.in_place_of(running.greeting_desk.as_deref())));
    let parts = Parts {
        config,
        clips: answering.clips,
        greeting_desk,
        speech: answering.speech,
        speech_loudness: answering.speech_loudness,
        model: answering.model,
        voice: answering.voice,
        sources: answering.sources,
        tools: answering.tools,
        recogniser: answering.recogniser,
        end_of_turn: running.end_of_turn.clone(),
        voicemail: running.voicemail.clone(),
        day: running.day.clone(),
        media: running.media.clone(),
        media_address: running.media_address,
        bind_address: running.bind_address,
        forecast: running.forecast.clone(),
        reports: running.reports.clone(),
        records: running.records.clone(),
    };
    Ok((parts, waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_waits_for_the_next_start_and_is_named_and_the_rest_holds_at_once() {
        let running = Config::default();
        let mut wanted = Config::default();
        wanted.sip.max_calls = 3;
        wanted.limits.state_file = Some("/var/lib/offhook/day".into());
        wanted.limits.requests_per_call = 7;
        wanted.hearing.vad_threshold = 0.7;
        assert_eq!(kept(&mut wanted, &running), ["[sip]", "[limits] state_file"]);
        assert_eq!((wanted.sip, wanted.limits.state_file), (running.sip, None));
        assert_eq!((wanted.limits.requests_per_call, wanted.hearing.vad_threshold), (7, 0.7));
    }
}
