//! What systemd is told (sd_notify(3)): ready, alive, how the lines stand, reloading, stopping. Without systemd nothing is told.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{error, warn};

use crate::media::MediaCounters;
use crate::sip::{TrunkState, UserAgent};

/// Trunks that the status names; of more it tells the number.
const TRUNKS_SHOWN: usize = 8;

/// Says how the service stands, and says nothing twice.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    said: String,
    /// What an administrator should see besides: why the last reload was refused.
    remark: Option<String>,
    leaving: bool,
}

impl Supervisor {
    /// Sockets are bound, clips are loaded: calls can come. Whether a trunk has us is told by the status.
    pub(super) fn ready(&mut self, agent: &UserAgent) {
        self.say(agent);
        notify(&[NotifyState::Ready]);
    }

    /// The configuration is being read again.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "no monotonic clock: systemd is not told of the reload"),
        }
    }

    /// It was read, or refused with what is to be remarked; either way calls are taken as before.
    pub(super) fn reloaded(&mut self, agent: &UserAgent, remark: Option<String>) {
        self.remark = remark;
        self.say(agent);
        notify(&[NotifyState::Ready]);
    }

    /// No new calls are taken.
    pub(super) fn stopping(&mut self, agent: &UserAgent) {
        self.leaving = true;
        notify(&[NotifyState::Stopping]);
        self.say(agent);
    }

    /// Tells calls and trunks, when that is news.
    pub(super) fn say(&mut self, agent: &UserAgent) {
        let trunks: Vec<_> = agent.trunks().iter().map(|trunk| (trunk.name().to_owned(), trunk.state())).collect();
        let mut text = status(agent.calls(), &trunks, self.leaving);
        if let Some(remark) = &self.remark {
            let _ = write!(text, "; {remark}");
        }
        if text != self.said {
            notify(&[NotifyState::Status(&text)]);
            self.said = text;
        }
    }
}

/// One line, as `systemctl status` shows it.
fn status(calls: usize, trunks: &[(String, TrunkState)], leaving: bool) -> String {
    let mut text = String::new();
    let plural = if calls == 1 { "" } else { "s" };
    let _ = match leaving {
        true => write!(text, "stopping: {calls} call{plural} to finish, new ones are refused"),
        false => write!(text, "{calls} call{plural}"),
    };
    if trunks.is_empty() {
        text.push_str("; no trunk: only allowed peers can call");
    }
    for (name, state) in trunks.iter().take(TRUNKS_SHOWN) {
        let _ = write!(text, "; trunk {name}: {state}");
    }
    if trunks.len() > TRUNKS_SHOWN {
        let _ = write!(text, "; {} trunks more", trunks.len() - TRUNKS_SHOWN);
    }
    text
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd does not listen");
    }
}

/// Tells systemd that the service lives, but only while the media thread ticks.
pub(super) async fn feed_watchdog(media: Arc<MediaCounters>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit: &Duration| !limit.is_zero()) else { return };
    let every = limit / 3;
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut seen = 0;
    loop {
        every.tick().await;
        let wakes = media.wakes.load(Relaxed);
        if wakes == seen {
            error!("the media thread stands still: the watchdog is not fed");
            continue;
        }
        seen = wakes;
        notify(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_calls_trunks_and_their_trouble_in_one_line() {
        let trunks = [
            ("didww".to_owned(), TrunkState::Registered { until: None }),
            ("pbx".to_owned(), TrunkState::WrongPassword),
        ];
        let text = status(1, &trunks, false);
        assert!(text.starts_with("1 call; trunk didww: reachable; trunk pbx: the password is wrong"), "{text}");
        assert!(!text.contains('\n'));
        assert!(status(2, &[], true).starts_with("stopping: 2 calls to finish"));
    }

    #[test]
    fn a_house_of_many_trunks_has_a_status_that_can_be_read() {
        let trunks: Vec<_> = (0..20).map(|n| (format!("line-{n}"), TrunkState::Stopped)).collect();
        let text = status(0, &trunks, false);
        assert!(text.contains("line-7") && !text.contains("line-8") && text.ends_with("; 12 trunks more"), "{text}");
    }
}
