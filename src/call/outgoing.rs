//! Places a call through the user agent and holds the same conversation as on one that came in.
//!
//! Early media of the far side open the way for the sound and are not listened to: a ringing tone is no caller. The greeting comes after the
//! 200. Forked answers end in the first one that is acknowledged; the media follow its SDP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::context::Briefing;
use crate::pcm::tone::Ringback;
use crate::record::{Direction, Draft, Opening};
use crate::sdp::MediaSecurity;
use crate::sip::{ByeReason, Dial, EndReason, OutgoingCall, Progress, SipError, UserAgent};

use super::media::{BoundMedia, StartedMedia};
use super::succession::Origin;
use super::{Parts, Unanswered, Up, converse, ending, warm};

/// Calls as `dial` says, whose offer is made here, and talks until the call is over. `peer` is the address of the trunk's server, or of the
/// URI's host: the media leave from where the route to it does. `stop` cancels or hangs up.
///
/// # Errors
/// When nobody answers, the answer cannot be agreed to, or the trunk wants SRTP and its signalling cannot carry the keys.
pub async fn place(
    parts: Arc<Parts>,
    agent: Arc<UserAgent>,
    dial: Dial,
    peer: IpAddr,
    stop: CancellationToken,
) -> Result<EndReason, Unanswered> {
    let trunk = dial.trunk.as_ref().and_then(|name| parts.config.trunk.get(name));
    let mut media = BoundMedia::bind(&parts, peer, trunk, MediaSecurity::through(trunk)?)?;
    let through = dial.trunk.as_deref().map(Arc::from);
    let (offer, number) = (media.exchange().offer(), dial.to.clone());
    let call = agent.dial(Dial { offer, ..dial }).await?;
    let span = info_span!("call", id = %call.id);
    async {
        info!("places a call");
        warm(&parts);
        let trunk = through.as_deref();
        let opening = Opening { call: &call.id, trunk, direction: Direction::Out, caller: "", called: &number };
        let mut draft = Draft::open(&parts.records, opening);
        let up = answered(&parts, call, media, &stop).await;
        let up = up.inspect_err(|error| ending::unanswered(&mut draft, error))?;
        let origin = Origin { trunk: through, peer, caller: number.into() };
        Ok(converse(&parts, agent, origin, up, Briefing::without_caller(&parts.sources), &mut draft, stop).await)
    }
    .instrument(span)
    .await
}

/// Media before or after the media thread serves them.
#[expect(clippy::large_enum_variant, reason = "one a call, and not kept")]
enum Media {
    Bound(BoundMedia),
    Early(StartedMedia),
}

async fn answered(
    parts: &Parts,
    mut call: OutgoingCall,
    media: BoundMedia,
    stop: &CancellationToken,
) -> Result<Up, Unanswered> {
    let mut media = Media::Bound(media);
    loop {
        let progress = tokio::select! {
            progress = call.progress() => progress,
            () = stop.cancelled() => {
                call.cancel();
                break;
            }
        };
        match progress {
            None => break,
            Some(Progress::EarlyMedia(sdp)) => media = early(parts, media, &sdp)?,
            Some(_) => {}
        }
    }
    let outcome = tokio::select! {
        outcome = call.answered() => outcome,
        () = stop.cancelled() => {
            call.cancel();
            call.answered().await
        }
    };
    let (mut dialog, sdp) = outcome?;
    let started = match media {
        // The answer in a provisional response may have been the answer (RFC 3262 §5).
        Media::Early(media) if sdp.is_empty() => Ok(media),
        Media::Early(mut media) => media.agreement.answer(&sdp).map(|_| media),
        Media::Bound(mut media) => match media.exchange().answered(&sdp) {
            Ok(agreed) => Ok(media.start(parts, &agreed, None)?),
            Err(error) => Err(error),
        },
    };
    match started {
        Ok(media) => Ok(Up { dialog, media, since: Instant::now() }),
        Err(error) => {
            dialog.hang_up_because(ByeReason::NotAcceptable).await;
            Err(error.into())
        }
    }
}

/// Opens the media that a provisional response describes. One that makes no sense is passed over: the 200 decides.
fn early(parts: &Parts, media: Media, sdp: &[u8]) -> Result<Media, Unanswered> {
    match media {
        Media::Bound(mut bound) => match bound.exchange().answered(sdp) {
            Ok(agreed) => Ok(Media::Early(bound.start(parts, &agreed, Some(Ringback::SILENT))?)),
            Err(error) => {
                warn!(%error, "early media cannot be agreed to");
                Ok(Media::Bound(bound))
            }
        },
        Media::Early(mut started) => {
            if let Some(agreed) = started.agreement.answered(sdp) {
                started.describe(&agreed);
            }
            Ok(Media::Early(started))
        }
    }
}

impl Unanswered {
    /// The SIP status of the refusal, if there was one; for whoever wants to try again.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Sip(SipError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }
}
