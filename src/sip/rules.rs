//! What of the optional parts of SIP is used on the calls of one line: session timers and reliable provisional responses.

use std::time::Duration;

use crate::config::{Policy, Refresher, Trunk};

/// How the dialogs with one peer are led; the fields are those of [`Trunk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialogRules {
    /// Session-Expires that we ask for; zero: no session timer unless the other side wants one.
    pub session_expires: Duration,
    /// Shortest Session-Expires that we take.
    pub session_minimum: Duration,
    /// Who refreshes when the other side leaves it to us.
    pub session_refresher: Refresher,
    /// RFC 3262 on calls that come in. `Off` refuses callers who require it (420), `Optional` uses it for them alone,
    /// `Required` uses it whenever the caller can and refuses those who cannot (421).
    pub reliable_provisional: Policy,
}

impl Default for DialogRules {
    fn default() -> Self {
        Self::from(&Trunk::default())
    }
}

impl From<&Trunk> for DialogRules {
    fn from(trunk: &Trunk) -> Self {
        Self {
            session_expires: trunk.session_expires,
            session_minimum: trunk.session_minimum,
            session_refresher: trunk.session_refresher,
            reliable_provisional: trunk.reliable_provisional,
        }
    }
}
