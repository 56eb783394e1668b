//! Calls somebody for the caller and lets the two talk through the box: for lines on which REFER leads nowhere.
//!
//! Either side's BYE ends both calls, and so does either side's silence. Each leg has its own RTCP, and what it agrees on within the
//! call it agrees on with the box. Not implemented: passing the hold of one side on to the other as SDP; the other hears what there is
//! to hear, music or nothing.

use std::net::IpAddr;

use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::leg::{Dtmf, LegMedia};
use crate::media::{Command, Join, Occurrence, Ports};
use crate::pcm::tone::Ringback;
use crate::sdp;
use crate::sip::{ByeReason, Dial, Dialog, DialogEvent, EndReason, OutgoingCall, Progress, SipError, UserAgent};

use super::media::{Agreement, BoundMedia, StartedLeg};
use super::{Parts, Unanswered};

/// The caller's side of a call whose conversation rests.
pub(super) struct Near<'c> {
    pub dialog: &'c mut Dialog,
    pub ports: &'c mut Ports,
    pub agreement: &'c mut Agreement,
    /// Hangs up.
    pub stop: &'c CancellationToken,
    /// Where the caller's call came from.
    pub peer: IpAddr,
}

/// How the caller's call is over: by the other side, or why it is to be hung up.
pub(super) type Over = Result<EndReason, ByeReason>;

/// Why the other one was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReached {
    #[error("the answer: {0}")]
    Sdp(#[from] sdp::SdpError),
    #[error("the call was joined too often")]
    TooOften,
    #[error(transparent)]
    Media(#[from] Unanswered),
    #[error(transparent)]
    Sip(#[from] SipError),
}

/// Calls `dial` (whose offer is made here), lets the caller hear it ring, and joins the two. The caller's call is not hung up here.
///
/// # Errors
/// When the other one was not reached; the caller is alone again.
pub(super) async fn bridge(
    parts: &Parts,
    agent: &UserAgent,
    dial: Dial,
    near: &mut Near<'_>,
) -> Result<Over, NotReached> {
    let trunk = dial.trunk.as_ref().and_then(|name| parts.config.trunk.get(name));
    let ringback = Ringback::of_country(trunk.and_then(|trunk| trunk.country.as_deref()));
    // With an order too many the caller hears nothing while it rings.
    let _ = near.ports.join(Join::Ringing(ringback));
    let outcome = match place(parts, agent, dial, near.peer).await {
        Ok((call, far)) => talk(parts, call, far, near).await,
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        let _ = near.ports.join(Join::Nobody);
    }
    outcome
}

/// The media of the second leg.
struct Far {
    bound: Option<BoundMedia>,
    /// Once there is an answer, early or final; and what ends the RTCP.
    joined: Option<(Agreement, DropGuard)>,
}

async fn place(parts: &Parts, agent: &UserAgent, dial: Dial, peer: IpAddr) -> Result<(OutgoingCall, Far), NotReached> {
    let trunk = dial.trunk.as_ref().and_then(|name| parts.config.trunk.get(name));
    let mut bound = BoundMedia::bind(parts, peer, trunk, sdp::MediaSecurity::through(trunk)?)?;
    let offer = bound.exchange().offer();
    let call = agent.dial(Dial { offer, ..dial }).await?;
    Ok((call, Far { bound: Some(bound), joined: None }))
}

impl Far {
    /// Lets the two hear what an answer describes.
    fn describe(&mut self, parts: &Parts, ports: &mut Ports, sdp: &[u8]) -> Result<(), NotReached> {
        if let Some((agreement, _)) = &mut self.joined {
            agreement.answer(sdp)?;
            return Ok(());
        }
        let Some(mut bound) = self.bound.take() else { return Ok(()) };
        let agreed = match bound.exchange().answered(sdp) {
            Ok(agreed) => agreed,
            Err(error) => {
                self.bound = Some(bound);
                return Err(error.into());
            }
        };
        let StartedLeg { leg, rtcp, agreement } = bound.leg(parts, &agreed)?;
        ports.join(Join::Leg(leg)).map_err(|_| NotReached::TooOften)?;
        let over = CancellationToken::new();
        self.joined = Some((agreement, over.clone().drop_guard()));
        tokio::spawn(rtcp.run(over));
        Ok(())
    }

    /// Tells the media thread what is agreed on.
    fn tell(&self, ports: &mut Ports, answered: bool) {
        let agreed = self.joined.as_ref().and_then(|(agreement, _)| agreement.agreed());
        if let Some(agreed) = agreed {
            // The ring is full only when the media thread stands still.
            let _ = ports.join(Join::Described { media: LegMedia::from(&agreed), answered });
        }
    }

    /// What happens on the second call once it is answered; the reason when that is its end.
    fn event(&mut self, ports: &mut Ports, event: DialogEvent) -> Option<EndReason> {
        let Some((agreement, _)) = &mut self.joined else { return None };
        let agreed = match event {
            DialogEvent::Ended(reason) => return Some(reason),
            DialogEvent::Offer(offer) => agreement.reoffered(offer),
            DialogEvent::Acknowledged { sdp } if !sdp.is_empty() => agreement.answered(&sdp),
            _ => None,
        };
        if agreed.is_some() {
            self.tell(ports, true);
        }
        None
    }
}

async fn talk(parts: &Parts, mut call: OutgoingCall, mut far: Far, near: &mut Near<'_>) -> Result<Over, NotReached> {
    loop {
        tokio::select! {
            progress = call.progress() => match progress {
                // What is wrong with it shows when it comes as the answer.
                Some(Progress::EarlyMedia(sdp)) => match far.describe(parts, near.ports, &sdp) {
                    Ok(()) => far.tell(near.ports, false),
                    Err(error) => warn!(%error, "early media cannot be agreed to"),
                },
                Some(_) => {}
                // There is an answer, or a reason why there is none.
                None => break,
            },
            over = near.over() => {
                call.cancel();
                return Ok(over);
            }
        }
    }
    let (mut other, sdp) = call.answered().await?;
    // The answer in a reliable provisional response was the answer (RFC 3262 §5).
    if !(sdp.is_empty() && far.joined.is_some())
        && let Err(error) = far.describe(parts, near.ports, &sdp)
    {
        hang_up(other, ByeReason::NotAcceptable);
        return Err(error);
    }
    far.tell(near.ports, true);
    info!("the caller talks with the one called");
    let over = loop {
        tokio::select! {
            over = near.over() => break over,
            event = other.event() => if far.event(near.ports, event).is_some() {
                info!("the one called has hung up");
                return Ok(Err(ByeReason::Normal));
            },
        }
    };
    hang_up(other, over.err().unwrap_or_default());
    Ok(over)
}

/// Ends the second call without waiting for its peer.
fn hang_up(mut dialog: Dialog, reason: ByeReason) {
    tokio::spawn(async move { dialog.hang_up_because(reason).await });
}

impl Near<'_> {
    /// Waits until the caller has gone, or there is a reason to hang up. Cancel-safe.
    pub async fn over(&mut self) -> Over {
        loop {
            tokio::select! {
                event = self.dialog.event() => match event {
                    DialogEvent::Ended(reason) => return Ok(reason),
                    DialogEvent::Offer(offer) => {
                        let agreed = self.agreement.reoffered(offer);
                        self.describe(agreed);
                    }
                    DialogEvent::Acknowledged { sdp } if !sdp.is_empty() => {
                        let agreed = self.agreement.answered(&sdp);
                        self.describe(agreed);
                    }
                    DialogEvent::Dtmf { digit, duration } => drop(self.ports.join(Join::Key(Dtmf { digit, duration }))),
                    // Whoever wants to take the caller elsewhere waits until we are done.
                    _ => {}
                },
                woken = self.ports.woken() => {
                    let timed_out =
                        std::iter::from_fn(|| self.ports.event()).any(|event| event.what == Occurrence::MediaTimeout);
                    while self.ports.heard().is_some() {}
                    if timed_out {
                        info!("no media arrives: hanging up");
                        return Err(ByeReason::MediaTimeout);
                    }
                    if let Err(error) = woken {
                        warn!(%error, "lost the media thread");
                        return Err(ByeReason::Failure);
                    }
                }
                () = self.stop.cancelled() => return Err(ByeReason::Normal),
            }
        }
    }

    fn describe(&mut self, agreed: Option<sdp::Negotiated>) {
        if let Some(agreed) = agreed {
            self.ports.command(Command::Described(LegMedia::from(&agreed)));
        }
    }
}
