//! Calls somebody for the caller and lets the two talk through the box: for lines on which REFER leads nowhere.
//!
//! Either side's BYE ends both calls. Not implemented: RTCP of the second leg, and changes of its media within the call, which are
//! answered with what was agreed before.

use std::net::UdpSocket;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::codec::Codec;
use crate::leg::rtp::RtpLeg;
use crate::media::{Command, Join, Occurrence, Ports};
use crate::rtp;
use crate::sdp;
use crate::sip::{Dial, Dialog, DialogEvent, EndReason, OutgoingCall, Progress, SipError, UserAgent};

use super::Parts;
use super::outgoing::security_towards;

/// What became of the attempt to let two parties talk.
#[derive(Debug)]
pub(super) enum Bridged {
    /// They talked, or the caller hung up before; the caller's call is over for this reason.
    Over(EndReason),
    /// The other one was not reached; the caller is still there.
    NotReached(NotReached),
}

/// Why the other one was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReached {
    #[error("no free port pair in [rtp] port_min..port_max: {0}")]
    Ports(std::io::Error),
    #[error("the answer: {0}")]
    Sdp(#[from] sdp::SdpError),
    #[error("the call was joined too often")]
    TooOften,
    #[error(transparent)]
    Sip(#[from] SipError),
}

/// Calls `dial` (whose offer is made here), lets the caller hear it ring, and joins the two. `stop` hangs up on both.
pub(super) async fn bridge(
    parts: &Parts,
    agent: &UserAgent,
    dial: Dial,
    near: &mut Dialog,
    ports: &mut Ports,
    stop: &CancellationToken,
) -> Bridged {
    ports.command(Command::Disarm);
    ports.command(Command::Flush);
    // With an order too many the caller hears nothing while it rings.
    let _ = ports.join(Join::Ringing);
    let outcome = match place(parts, agent, dial).await {
        Ok((call, far)) => talk(parts, call, far, near, ports, stop).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(reason) => Bridged::Over(reason),
        Err(error) => {
            warn!(%error, "the one to be called was not reached");
            let _ = ports.join(Join::Nobody);
            Bridged::NotReached(error)
        }
    }
}

/// Our side of the second leg.
struct Far {
    rtp: UdpSocket,
    security: sdp::MediaSecurity,
}

async fn place(parts: &Parts, agent: &UserAgent, dial: Dial) -> Result<(OutgoingCall, Far), NotReached> {
    let trunk = dial.trunk.as_ref().and_then(|name| parts.config.trunk.get(name));
    let security = security_towards(trunk)?;
    let range = parts.config.rtp.port_min..=parts.config.rtp.port_max;
    let (rtp, _rtcp) = rtp::socket::bind_pair(parts.bind_address, range).map_err(NotReached::Ports)?;
    let port = rtp.local_addr().map_err(NotReached::Ports)?.port();
    let local =
        sdp::LocalMedia { address: parts.media_address, port, session_id: u64::from(fastrand::u32(..)), version: 1 };
    let call = agent.dial(Dial { offer: sdp::make_offer(&local, &Codec::ALL, &security), ..dial }).await?;
    Ok((call, Far { rtp, security }))
}

/// Lets the caller hear what an answer describes, early or final.
fn join(parts: &Parts, far: &Far, answer: &[u8], ports: &mut Ports) -> Result<(), NotReached> {
    let negotiated = sdp::parse_answer(answer, &far.security)?;
    let socket = far.rtp.try_clone().map_err(NotReached::Ports)?;
    let (leg, _figures) =
        RtpLeg::new(socket, &negotiated, parts.config.rtp.jitter, Instant::now()).map_err(NotReached::Ports)?;
    ports.join(Join::Leg(Box::new(leg))).map_err(|_| NotReached::TooOften)
}

async fn talk(
    parts: &Parts,
    mut call: OutgoingCall,
    side: Far,
    near: &mut Dialog,
    ports: &mut Ports,
    stop: &CancellationToken,
) -> Result<EndReason, NotReached> {
    let mut early = Vec::new();
    loop {
        tokio::select! {
            progress = call.progress() => match progress {
                // What is wrong with it shows when it comes as the answer.
                Some(Progress::EarlyMedia(sdp)) => if sdp != early && join(parts, &side, &sdp, ports).is_ok() {
                    early = sdp;
                },
                Some(_) => {}
                // There is an answer, or a reason why there is none.
                None => break,
            },
            ended = over(near, ports, stop) => {
                call.cancel();
                return Ok(match ended {
                    Some(reason) => reason,
                    None => near.hang_up().await,
                });
            }
        }
    }
    let (mut far, sdp) = call.answered().await?;
    if !sdp.is_empty()
        && sdp != early
        && let Err(error) = join(parts, &side, &sdp, ports)
    {
        far.hang_up().await;
        return Err(error);
    }
    info!("the caller talks with the one called");
    let ended = tokio::select! {
        ended = over(near, ports, stop) => ended,
        _ = far.ended() => None,
    };
    match ended {
        Some(reason) => {
            far.hang_up().await;
            Ok(reason)
        }
        None => Ok(tokio::join!(near.hang_up(), far.hang_up()).0),
    }
}

/// Waits until the caller has gone, with the reason, or until we hang up.
pub(super) async fn over(near: &mut Dialog, ports: &mut Ports, stop: &CancellationToken) -> Option<EndReason> {
    loop {
        tokio::select! {
            event = near.event() => if let DialogEvent::Ended(reason) = event {
                return Some(reason);
            },
            woken = ports.woken() => {
                let timed_out = std::iter::from_fn(|| ports.event()).any(|event| event.what == Occurrence::MediaTimeout);
                while ports.heard().is_some() {}
                if timed_out || woken.is_err() {
                    return None;
                }
            }
            () = stop.cancelled() => return None,
        }
    }
}
