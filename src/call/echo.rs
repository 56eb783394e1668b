//! A call in which the caller hears what he says, through everything that sound passes on its way in and out: to judge a line by, and to
//! measure ours.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::media::{Command, Occurrence, Ports};
use crate::record::{Cause, Draft, EndedBy};
use crate::sip::{ByeReason, DialogEvent, EndReason};

use super::media::StartedMedia;
use super::{Parts, Up, await_freed, end, ending, log_line, until};

/// Echoes an answered call, to its end.
pub(super) async fn echo(parts: &Arc<Parts>, up: Up, draft: &mut Draft, stop: CancellationToken) {
    draft.answered(up.since);
    let Up { mut dialog, media: StartedMedia { mut ports, rtcp, mut agreement }, since } = up;
    ports.command(Command::Answered);
    ports.command(Command::Echo);
    let over = CancellationToken::new();
    let over_at_last = over.clone().drop_guard();
    let line = tokio::spawn(rtcp.run(over));
    let longest = parts.config.limits.longest_call;
    let deadline = (!longest.is_zero()).then(|| since + longest);
    let ended: Result<EndReason, ByeReason> = loop {
        tokio::select! {
            woken = ports.woken() => match woken {
                Ok(()) => if timed_out(&mut ports) {
                    info!("no media arrives: hanging up");
                    break Err(ByeReason::MediaTimeout);
                },
                Err(error) => {
                    warn!(%error, "lost the media thread");
                    break Err(ByeReason::Failure);
                }
            },
            () = until(deadline) => {
                draft.ended(EndedBy::Us, Cause::TooLong);
                break Err(ByeReason::Normal);
            }
            event = dialog.event() => {
                let agreed = match event {
                    DialogEvent::Ended(reason) => break Ok(reason),
                    DialogEvent::Offer(offer) => agreement.reoffered(offer),
                    DialogEvent::Acknowledged { sdp } if !sdp.is_empty() => agreement.answered(&sdp),
                    // A call that only echoes is handed over to nobody: dropped, the request is refused.
                    _ => None,
                };
                if let Some(agreed) = agreed {
                    ports.command(Command::Described((&agreed).into()));
                }
            },
            () = stop.cancelled() => break Err(ByeReason::Normal),
        }
    };
    ending::ended(draft, &ended);
    let counters = ports.counters().clone();
    let freed = async {
        ports.command(Command::Stop);
        let ports = &mut ports;
        await_freed(parts, move || ports.is_orphaned()).await;
        // What the leg counted last has come by now.
        drop(over_at_last);
    };
    let reason = end(&mut dialog, ended, freed).await;
    let quality = line.await.unwrap_or_default().quality;
    log_line(quality, &counters);
    ending::line(draft, &quality, &counters, &agreement);
    debug!(?reason, seconds = since.elapsed().as_secs_f32(), "the echo ended");
}

/// Takes what the media thread tells; true when the caller's sound has stopped.
fn timed_out(ports: &mut Ports) -> bool {
    let mut timed_out = false;
    while ports.heard().is_some() {}
    while let Some(event) = ports.event() {
        timed_out |= event.what == Occurrence::MediaTimeout;
    }
    timed_out
}
