//! The session timer of one dialog, for both roles, in virtual time (RFC 4028).
//!
//! [`SessionTimer`] says what the messages carry, when to refresh, and when the other side is gone. Times other than
//! those in the messages: a refresh of ours goes at half of the interval (§7.2), BYE goes `min(32 s, ⅓)` before the end
//! when the other side's refresh stays away (§10), and a refresh that met another request is tried again as RFC 3261
//! §14.1 says. Not implemented: the part of proxies.

use std::time::{Duration, Instant};

use rsipstack::rsip::{Header, Headers};

use super::fields;
use super::rules::DialogRules;
use crate::config::Refresher;

/// No session may be shorter (§4), whatever anybody says.
const SHORTEST: Duration = Duration::from_secs(90);
/// A refresh that failed for no clear reason is not tried again before.
const RETRY_AT_LEAST: Duration = Duration::from_secs(5);

/// Who sends the refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Us,
    Peer,
}

/// What a message says of session timers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SessionFields {
    /// Session-Expires.
    expires: Option<Duration>,
    /// Its `refresher`: true for the client of the transaction.
    client_refreshes: Option<bool>,
    /// Min-SE.
    minimum: Option<Duration>,
    /// The sender knows the extension.
    supported: bool,
}

impl SessionFields {
    /// Reads them; a number that is none counts as absent.
    pub(super) fn of(headers: &Headers) -> Self {
        let seconds = |name| {
            let number = fields::value(headers, name)?.split(';').next()?.trim();
            number.parse::<u32>().ok().map(|number| Duration::from_secs(number.into()))
        };
        let refresher =
            fields::value(headers, "Session-Expires").and_then(|value| fields::parameter(value, "refresher"));
        Self {
            expires: seconds("Session-Expires"),
            client_refreshes: refresher.and_then(|who| match who.to_ascii_lowercase().as_str() {
                "uac" => Some(true),
                "uas" => Some(false),
                _ => None,
            }),
            minimum: seconds("Min-SE"),
            supported: fields::lists(headers, "Supported", "timer") || fields::lists(headers, "Require", "timer"),
        }
    }

    /// The Min-SE of a 422.
    pub(super) fn minimum(&self) -> Option<Duration> {
        self.minimum
    }
}

/// With what a refresh is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    Update,
    Reinvite,
}

/// What the timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Send a refresh with the fields of [`SessionTimer::proposal`].
    Refresh(Refresh),
    /// Nobody refreshed: the call is to be ended.
    Expired,
}

#[derive(Debug, Clone)]
struct Running {
    interval: Duration,
    refresher: Side,
    /// None while a refresh of ours is under way, or none of ours is due.
    refresh_at: Option<Instant>,
    end_at: Instant,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct SessionTimer {
    interval: Duration,
    minimum: Duration,
    wish: Refresher,
    /// The peer takes UPDATE.
    updates: bool,
    running: Option<Running>,
    output: Option<Output>,
}

impl SessionTimer {
    pub(super) fn new(rules: &DialogRules) -> Self {
        Self {
            interval: rules.session_expires,
            minimum: rules.session_minimum,
            wish: rules.session_refresher,
            updates: false,
            running: None,
            output: None,
        }
    }

    /// The Allow fields of a message of the peer; without any nothing changes.
    pub(super) fn allowed(&mut self, headers: &Headers) {
        if fields::value(headers, "Allow").is_some() {
            self.updates = fields::lists(headers, "Allow", "UPDATE");
        }
    }

    /// What an INVITE, re-INVITE or UPDATE of ours carries, `Supported` excepted (§7.1, §7.4).
    pub(super) fn proposal(&self) -> Vec<Header> {
        let interval = self.running.as_ref().map_or(self.interval, |running| running.interval);
        if interval.is_zero() {
            return vec![];
        }
        let refresher = match (&self.running, self.wish) {
            (Some(Running { refresher: Side::Us, .. }), _) | (None, Refresher::Uac) => ";refresher=uac",
            (Some(Running { refresher: Side::Peer, .. }), _) | (None, Refresher::Uas) => ";refresher=uas",
            (None, Refresher::Auto) => "",
        };
        let expires = format!("{}{refresher}", interval.max(self.minimum).as_secs());
        vec![Header::SessionExpires(expires.into()), Header::MinSE(self.minimum.as_secs().to_string().into())]
    }

    /// A 422 came to a request of ours: the next [`SessionTimer::proposal`] asks for at least `minimum` (§7.4).
    pub(super) fn raise_minimum(&mut self, minimum: Duration) {
        // A day is the longest that anybody can mean.
        self.minimum = self.minimum.max(minimum.min(Duration::from_secs(86_400)));
        if let Some(running) = &mut self.running {
            running.interval = running.interval.max(self.minimum);
        }
    }

    /// Holds a request of the peer against our minimum.
    ///
    /// # Errors
    /// The Min-SE field of the 422 that it gets (§9).
    pub(super) fn check(&self, request: &SessionFields) -> Result<(), Header> {
        match request.expires {
            Some(expires) if request.supported && expires < self.minimum => {
                Err(Header::MinSE(self.minimum.as_secs().to_string().into()))
            }
            _ => Ok(()),
        }
    }

    /// The peer's INVITE, re-INVITE or UPDATE gets its 2xx: what that carries (§9). Starts the timer anew.
    pub(super) fn answer(&mut self, now: Instant, request: &SessionFields) -> Vec<Header> {
        let ours = Some(self.interval).filter(|interval| !interval.is_zero());
        let interval = match (request.expires.filter(|_| request.supported), ours) {
            (Some(theirs), Some(ours)) => theirs.min(ours.max(request.minimum.unwrap_or_default())),
            (Some(theirs), None) => theirs,
            (None, Some(ours)) => ours.max(request.minimum.unwrap_or_default()),
            (None, None) => {
                self.running = None;
                return vec![];
            }
        };
        let interval = interval.max(self.minimum.min(SHORTEST));
        let present = self.running.as_ref().map(|running| running.refresher);
        // A peer without the extension refreshes nothing (§9, table 2).
        let refresher = match (request.supported, request.client_refreshes, present, self.wish) {
            (false, ..) => Side::Us,
            (true, Some(client), ..) => {
                if client {
                    Side::Peer
                } else {
                    Side::Us
                }
            }
            (true, None, Some(present), _) => present,
            (true, None, None, Refresher::Uac) => Side::Peer,
            (true, None, None, Refresher::Auto | Refresher::Uas) => Side::Us,
        };
        self.start(now, interval, refresher);
        let who = if refresher == Side::Peer { "uac" } else { "uas" };
        let mut headers = vec![Header::SessionExpires(format!("{};refresher={who}", interval.as_secs()).into())];
        if request.supported {
            headers.push(Header::Require("timer".into()));
        }
        headers
    }

    /// The 2xx to an INVITE, re-INVITE or UPDATE of ours (§7.2). Starts the timer anew.
    pub(super) fn answered(&mut self, now: Instant, response: &SessionFields) {
        match response.expires {
            Some(expires) => {
                let refresher = if response.client_refreshes == Some(false) { Side::Peer } else { Side::Us };
                self.start(now, expires.max(self.minimum.min(SHORTEST)), refresher);
            }
            // The peer does not know the extension: we refresh on our own account.
            None if !self.interval.is_zero() => self.start(now, self.interval.max(self.minimum), Side::Us),
            None => self.running = None,
        }
    }

    /// A refresh of ours got `status` for its final response. `random` spreads the next try after a 491, which waits
    /// longer for the side that `owns_call_id` (RFC 3261 §14.1).
    pub(super) fn refresh_failed(
        &mut self,
        now: Instant,
        status: u16,
        response: &SessionFields,
        owns_call_id: bool,
        random: u32,
    ) {
        let Some(running) = &mut self.running else { return };
        match status {
            408 | 481 => {
                self.running = None;
                self.output = Some(Output::Expired);
            }
            491 => running.refresh_at = Some(now + glare_delay(owns_call_id, random)),
            422 if response.minimum.is_some_and(|minimum| minimum > self.minimum) => {
                running.refresh_at = Some(now);
                self.raise_minimum(response.minimum.unwrap_or(SHORTEST));
            }
            405 | 501 if self.updates => {
                self.updates = false;
                running.refresh_at = Some(now);
            }
            _ => {
                let rest = running.end_at.saturating_duration_since(now);
                running.refresh_at = Some(now + (rest / 2).max(RETRY_AT_LEAST));
            }
        }
    }

    /// The call is over, or is being ended: nothing is asked for any more.
    pub(super) fn stop(&mut self) {
        self.running = None;
        self.output = None;
    }

    /// When [`SessionTimer::handle_timeout`] is due; changes with every call but this one.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(running.refresh_at.map_or(running.end_at, |refresh_at| refresh_at.min(running.end_at)))
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        if now >= running.end_at {
            self.running = None;
            self.output = Some(Output::Expired);
        } else if running.refresh_at.is_some_and(|refresh_at| now >= refresh_at) {
            running.refresh_at = None;
            self.output = Some(Output::Refresh(if self.updates { Refresh::Update } else { Refresh::Reinvite }));
        }
    }

    /// What is to be done.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.output.take()
    }

    fn start(&mut self, now: Instant, interval: Duration, refresher: Side) {
        let (refresh_at, end_at) = match refresher {
            Side::Us => (Some(now + interval / 2), now + interval),
            Side::Peer => (None, now + interval - (interval / 3).min(Duration::from_secs(32))),
        };
        self.output = None;
        self.running = Some(Running { interval, refresher, refresh_at, end_at });
    }
}

/// How long a request that got 491 waits before it is tried again (RFC 3261 §14.1), in steps of 10 ms.
pub(super) fn glare_delay(owns_call_id: bool, random: u32) -> Duration {
    let (first, steps) = if owns_call_id { (2100, 190) } else { (0, 200) };
    Duration::from_millis(u64::from(first + random % (steps + 1) * 10))
}

#[cfg(test)]
mod tests;
