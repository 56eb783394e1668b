//! Hands the caller to somebody else, in the way that the trunk takes: REFER, or a second leg on the box.
//!
//! While a REFER is under way the caller hears nothing of us.

use tracing::{info, warn};

use crate::config::Transferring;
use crate::sip::{ByeReason, Dial, TransferEvent, UserAgent};

use super::Parts;
use super::bridge::{self, Near, Over};

/// Where to, and how.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    /// A number or a SIP URI.
    pub to: String,
    /// The trunk that the call came on; without one only a URI can be reached.
    pub trunk: Option<String>,
    /// The trunk's way.
    pub way: Transferring,
}

/// Hands the caller over. `None`: it did not come about and the conversation goes on.
pub(super) async fn hand_over(
    parts: &Parts,
    agent: &UserAgent,
    handover: Handover,
    near: &mut Near<'_>,
) -> Option<Over> {
    let Handover { to, trunk, way } = handover;
    if way != Transferring::Bridge {
        match refer(agent, &to, trunk.as_deref(), near).await {
            Referred::Over(over) => return Some(over),
            Referred::Failed => return None,
            Referred::Unsupported if way == Transferring::Refer => return None,
            Referred::Unsupported => {}
        }
    }
    bridge::bridge(parts, agent, Dial { to, trunk, ..Dial::default() }, near)
        .await
        .inspect_err(|error| warn!(%error, "the one to be called was not reached"))
        .ok()
}

enum Referred {
    Over(Over),
    Failed,
    Unsupported,
}

async fn refer(agent: &UserAgent, to: &str, trunk: Option<&str>, near: &mut Near<'_>) -> Referred {
    let uri = match trunk.map(|name| agent.trunk(name)) {
        _ if to.starts_with("sip:") => to.to_owned(),
        Some(Ok(trunk)) => trunk.uri_of(to),
        Some(Err(error)) => {
            warn!(%error, "the caller cannot be handed over");
            return Referred::Failed;
        }
        None => {
            warn!("a caller who came on no trunk can only be handed to a SIP URI");
            return Referred::Failed;
        }
    };
    let mut transfer = near.dialog.transfer(&uri, None, None);
    let outcome = tokio::select! {
        // A peer that hangs up after agreeing has done it.
        biased;
        outcome = transfer.outcome() => outcome,
        over = near.over() => return Referred::Over(over),
    };
    match outcome {
        TransferEvent::Succeeded => {
            info!("the caller is in other hands");
            // The BYE is on its way already.
            Referred::Over(Err(ByeReason::Normal))
        }
        TransferEvent::Unsupported(status) => {
            info!(?status, "the other side does not transfer");
            Referred::Unsupported
        }
        other => {
            warn!(?other, "the transfer failed");
            Referred::Failed
        }
    }
}
