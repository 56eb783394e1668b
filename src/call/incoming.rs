//! Answers a call that comes in: with the offer in its INVITE, or with one of ours whose answer comes in the ACK (RFC 3264 §4); at once,
//! after ringing, or after early media.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::{Answering, Config, Trunk};
use crate::pcm::tone::Ringback;
use crate::sdp::MediaSecurity;
use crate::sip::{ByeReason, Dialog, DialogEvent, EndReason, IncomingCall, Rejection, SipError};

use super::media::{BoundMedia, StartedMedia, warning};
use super::{Parts, Unanswered, Up};

/// Media before or after the media thread serves them.
#[expect(clippy::large_enum_variant, reason = "one a call, and not kept")]
enum Media {
    Bound(BoundMedia),
    Started(StartedMedia),
}

/// Answers the call as its trunk wants it.
pub(super) async fn answer(
    parts: &Arc<Parts>,
    mut incoming: IncomingCall,
    stop: &CancellationToken,
) -> Result<Up, Unanswered> {
    let trunk = trunk_of(&parts.config, &incoming);
    let (answering, ring) = trunk.map_or((Answering::AtOnce, Duration::ZERO), |trunk| (trunk.answer, trunk.ring));
    let security = match MediaSecurity::on(trunk, incoming.secure) {
        Ok(security) => security,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable(warning(&error)));
            return Err(error.into());
        }
    };
    let late = incoming.offer.is_empty();
    if answering != Answering::EarlyMedia || late {
        incoming.ring();
    }
    let mut media = match BoundMedia::bind(parts, incoming.peer.ip(), trunk, security) {
        Ok(media) => media,
        Err(error) => {
            incoming.reject(error.rejection());
            return Err(error);
        }
    };
    if late {
        if answering != Answering::AtOnce {
            wait(&mut incoming, ring, stop).await?;
        }
        return answer_late(parts, incoming, media, stop).await;
    }
    let (answer, agreed) = match media.exchange().answer(&incoming.offer) {
        Ok(answered) => answered,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable(warning(&error)));
            return Err(error.into());
        }
    };
    let media = match answering {
        Answering::AtOnce => Media::Bound(media),
        Answering::Ring => {
            wait(&mut incoming, ring, stop).await?;
            Media::Bound(media)
        }
        Answering::EarlyMedia => {
            let ringback = Ringback::of_country(trunk.and_then(|trunk| trunk.country.as_deref()));
            let started = media.start(parts, &agreed, Some(ringback))?;
            incoming.early_media(answer.clone());
            wait(&mut incoming, ring, stop).await?;
            Media::Started(started)
        }
    };
    let dialog = incoming.answer(answer).await?;
    // From the 200 on there are media in both directions.
    let media = match media {
        Media::Bound(media) => media.start(parts, &agreed, None)?,
        Media::Started(media) => media,
    };
    Ok(Up { dialog, media, since: Instant::now() })
}

/// The trunk that a call came in on; none for a peer that is allowed besides the trunks.
fn trunk_of<'a>(config: &'a Config, incoming: &IncomingCall) -> Option<&'a Trunk> {
    config.trunk.get(incoming.trunk.as_deref()?)
}

/// Lets it ring, as long as the caller has the patience.
async fn wait(incoming: &mut IncomingCall, ring: Duration, stop: &CancellationToken) -> Result<(), Unanswered> {
    let answering = tokio::time::sleep(ring);
    tokio::pin!(answering);
    loop {
        tokio::select! {
            () = &mut answering => return Ok(()),
            // An offer before the answer is met with our last SDP; nobody listens to keys yet.
            event = incoming.event() => if let DialogEvent::Ended(reason) = event {
                return Err(SipError::Ended(reason).into());
            },
            () = stop.cancelled() => return Err(SipError::Ended(EndReason::ByUs).into()),
        }
    }
}

/// Answers an INVITE without SDP with our offer; the media start when the ACK brings the answer.
async fn answer_late(
    parts: &Arc<Parts>,
    incoming: IncomingCall,
    mut media: BoundMedia,
    stop: &CancellationToken,
) -> Result<Up, Unanswered> {
    let offer = media.exchange().offer();
    let mut dialog = incoming.answer(offer).await?;
    let answer = acknowledged(&mut dialog, stop).await?;
    match media.exchange().answered(&answer) {
        Ok(agreed) => Ok(Up { dialog, media: media.start(parts, &agreed, None)?, since: Instant::now() }),
        Err(error) => {
            // The ports are free before a BYE that nobody answers is given up.
            drop(media);
            dialog.hang_up_because(ByeReason::NotAcceptable).await;
            Err(error.into())
        }
    }
}

/// The SDP of the ACK.
async fn acknowledged(dialog: &mut Dialog, stop: &CancellationToken) -> Result<Vec<u8>, Unanswered> {
    loop {
        tokio::select! {
            event = dialog.event() => match event {
                DialogEvent::Acknowledged { sdp } => return Ok(sdp),
                DialogEvent::Ended(reason) => return Err(Unanswered::Ended(reason)),
                // Nothing is agreed that could be changed: dropped, it is met with our offer.
                _ => {}
            },
            () = stop.cancelled() => return Err(Unanswered::Ended(dialog.hang_up().await)),
        }
    }
}
