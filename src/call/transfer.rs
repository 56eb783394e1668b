//! Hands the caller to somebody else, in the way that the trunk takes: REFER, or a second leg on the box.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Transferring;
use crate::media::{Command, Ports};
use crate::sip::{Dial, Dialog, EndReason, TransferEvent, UserAgent};

use super::Parts;
use super::bridge::{self, Bridged};

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
    near: &mut Dialog,
    ports: &mut Ports,
    stop: &CancellationToken,
) -> Option<EndReason> {
    let Handover { to, trunk, way } = handover;
    if way != Transferring::Bridge {
        match refer(agent, &to, trunk.as_deref(), near, ports, stop).await {
            Referred::Over(reason) => return Some(reason),
            Referred::Failed => return None,
            Referred::Unsupported if way == Transferring::Refer => return None,
            Referred::Unsupported => {}
        }
    }
    match bridge::bridge(parts, agent, Dial { to, trunk, ..Dial::default() }, near, ports, stop).await {
        Bridged::Over(reason) => Some(reason),
        Bridged::NotReached(_) => None,
    }
}

enum Referred {
    Over(EndReason),
    Failed,
    Unsupported,
}

async fn refer(
    agent: &UserAgent,
    to: &str,
    trunk: Option<&str>,
    near: &mut Dialog,
    ports: &mut Ports,
    stop: &CancellationToken,
) -> Referred {
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
    // What is said from now on nobody needs to hear.
    ports.command(Command::Disarm);
    ports.command(Command::Flush);
    let mut transfer = near.transfer(&uri, None, None);
    let outcome = tokio::select! {
        outcome = transfer.outcome() => outcome,
        ended = bridge::over(near, ports, stop) => {
            return Referred::Over(match ended {
                Some(reason) => reason,
                None => near.hang_up().await,
            });
        }
    };
    match outcome {
        TransferEvent::Succeeded => {
            info!("the caller is in other hands");
            Referred::Over(near.ended().await)
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
