//! A call that no signalling has brought: over any leg that there is already, as a microphone with a loudspeaker. The conversation is the same.
//!
//! There is nobody to hand a caller over to: that fails as it would on a line that is busy.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::context::Briefing;
use crate::conversation::Phase;
use crate::hearing::{Endpointer, Limits};
use crate::leg::Leg;
use crate::leg::quality::LineQuality;
use crate::media::Line;
use crate::playout::Mixer;
use crate::record::{Cause, Direction, Draft, EndedBy, Opening};

use super::{Parts, Talk, Unanswered, await_freed, ending, log_line, log_tally, until, warm};

/// How a call without signalling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalEnd {
    /// Who ended it.
    pub by: EndedBy,
    /// Why.
    pub cause: Cause,
    /// The caller's turns.
    pub turns: u32,
}

/// A call over a leg.
pub struct Local {
    /// What it is called in log, record and timeline.
    pub name: String,
    /// The leg.
    pub leg: Box<dyn Leg>,
    /// Where the conversation stands is told here.
    pub phase: watch::Sender<Phase>,
    /// The caller hangs up.
    pub hang_up: CancellationToken,
}

/// Talks until the caller hangs up or the conversation ends the call. `stop` ends it with the service.
///
/// # Errors
/// When there is no room on the media thread, or no descriptor.
pub async fn talk(parts: Arc<Parts>, local: Local, stop: CancellationToken) -> Result<LocalEnd, Unanswered> {
    let span = info_span!("call", id = %local.name);
    async {
        info!("talks without a line");
        warm(&parts);
        let opening =
            Opening { call: &local.name, trunk: None, direction: Direction::In, caller: "", called: "loopback" };
        let mut draft = Draft::open(&parts.records, opening);
        let ended = converse(&parts, local, &mut draft, stop).await;
        ended.inspect_err(|error| ending::unanswered(&mut draft, error))
    }
    .instrument(span)
    .await
}

async fn converse(
    parts: &Arc<Parts>,
    local: Local,
    draft: &mut Draft,
    stop: CancellationToken,
) -> Result<LocalEnd, Unanswered> {
    let Local { name, leg, phase, hang_up } = local;
    let place = parts.media.place().ok_or(Unanswered::NoRoom)?;
    let endpointer = Endpointer::new(Limits::from(&parts.config.hearing));
    let mixer = Mixer::new(parts.config.placeholder.grace);
    let (line, ports) = Line::new(leg, endpointer, mixer, parts.config.rtp.media_timeout).map_err(Unanswered::Wake)?;
    parts.media.add(line, place);
    let since = Instant::now();
    draft.answered(since);
    let counters = ports.counters().clone();
    let briefing = Briefing::without_caller(&parts.sources);
    let Talk { mut dialogue, mut work, speaker } = Talk::begin(parts, name, String::new(), briefing, ports);
    dialogue.answered(Instant::now());
    let (by, cause) = loop {
        let deadline = dialogue.poll_timeout();
        tokio::select! {
            woken = dialogue.woken() => match woken {
                Ok(()) => if dialogue.take_events() {
                    info!("no sound arrives: hanging up");
                    break (EndedBy::Us, Cause::MediaTimeout);
                },
                Err(error) => {
                    warn!(%error, "lost the media thread");
                    break (EndedBy::Us, Cause::Fault);
                }
            },
            Some(work) = work.recv() => dialogue.work(work),
            () = until(deadline) => dialogue.handle_timeout(Instant::now()),
            () = hang_up.cancelled() => break (EndedBy::Peer, Cause::HungUp),
            () = stop.cancelled() => break (EndedBy::Us, Cause::Stopped),
        }
        if let Some(why) = dialogue.take_hang_up() {
            info!(?why, "hangs up");
            break (EndedBy::Us, ending::cause_of(why));
        }
        if dialogue.take_transfer().is_some() {
            info!("there is nobody to hand the caller over to");
            draft.record().transfers += 1;
            dialogue.transfer_failed(Instant::now());
        }
        phase.send_if_modified(|told| std::mem::replace(told, dialogue.phase()) != *told);
    };
    draft.ended(by, cause);
    dialogue.hung_up(Instant::now()).await;
    drop(speaker);
    let freed = &mut dialogue;
    await_freed(parts, move || freed.is_freed()).await;
    let quality = LineQuality::default();
    log_line(quality, &counters);
    ending::counts(draft, &quality, &counters);
    let tally = dialogue.tally();
    ending::tally(draft, tally);
    log_tally(&cause, since, tally);
    Ok(LocalEnd { by, cause, turns: tally.turns })
}
