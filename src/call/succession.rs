//! The conversation goes on over another call: one that replaces its call (RFC 3891), or one that its peer asks us to place (RFC 3515).
//!
//! A task of its own brings the other call up, with media of its own, while the conversation goes on over the one before; then the call
//! takes it over. Not implemented: an INVITE with Replaces and without an offer, which is refused with 488.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use crate::sdp::{MediaSecurity, Negotiated};
use crate::sip::{Dial, Dialog, IncomingCall, Progress, ReferReports, Referred, Rejection, SipError, UserAgent};

use super::media::{BoundMedia, StartedLeg, warning};
use super::{Parts, Unanswered};

/// How long who has sent a REFER may take to hang up when it has worked.
const LEAVE: Duration = Duration::from_secs(5);

/// The line that a call is on.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The trunk's name; none for a peer that is no trunk's.
    pub trunk: Option<Arc<str>>,
    /// Where its signalling comes from.
    pub peer: IpAddr,
    /// The number at the other end, as signalling told it.
    pub caller: Arc<str>,
}

/// A call that is up and takes over the conversation.
pub(super) struct Successor {
    pub dialog: Dialog,
    pub leg: StartedLeg,
    pub agreed: Negotiated,
    /// What becomes of the dialog before.
    pub patience: Duration,
}

/// Brings successors up, for one call.
pub(super) struct Succession {
    parts: Arc<Parts>,
    agent: Arc<UserAgent>,
    origin: Origin,
    /// Boxed: a channel has room for 32, of which a call seldom needs one.
    successors: mpsc::Sender<Box<Successor>>,
    /// One at a time.
    turn: Arc<Semaphore>,
    /// Ends what is not up yet.
    stop: CancellationToken,
}

impl Succession {
    pub fn new(
        parts: Arc<Parts>,
        agent: Arc<UserAgent>,
        origin: Origin,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Box<Successor>>) {
        let (successors, comes) = mpsc::channel(1);
        (Self { parts, agent, origin, successors, turn: Arc::new(Semaphore::new(1)), stop }, comes)
    }

    /// Another call wants to take the place of this one.
    pub fn replaced(&self, incoming: IncomingCall) {
        // Who may take part in the call is who has it already: its trunk, or without one the very peer.
        let may = match &self.origin.trunk {
            Some(trunk) => incoming.trunk.as_ref() == Some(trunk),
            None => incoming.trunk.is_none() && incoming.peer.ip() == self.origin.peer,
        };
        if !may {
            warn!(peer = %incoming.peer, "another line wants to take the call over: refused");
            return incoming.reject(Rejection::Decline);
        }
        let Ok(turn) = self.turn.clone().try_acquire_owned() else { return incoming.reject(Rejection::Busy) };
        let (parts, successors) = (self.parts.clone(), self.successors.clone());
        let task = async move {
            match answer(&parts, incoming).await {
                // Without a call the dialog ends with this.
                Ok(successor) => drop(successors.send(Box::new(successor)).await),
                Err(error) => warn!(%error, "the call is not taken over"),
            }
        };
        self.spawn(turn, task);
    }

    /// The peer asks us to call somebody in its place; only a trunk's may, and only on its trunk.
    pub fn referred(&self, referred: Referred) {
        let trunk = self.origin.trunk.clone().filter(|trunk| self.agent.leads_to(trunk, &referred.to));
        let Some(trunk) = trunk else {
            info!("asked to call somebody else: declined");
            return;
        };
        let Ok(turn) = self.turn.clone().try_acquire_owned() else {
            info!("asked to call somebody else while that is being done: declined");
            return;
        };
        info!("called away: places a call");
        let (parts, agent, successors) = (self.parts.clone(), self.agent.clone(), self.successors.clone());
        let (peer, stop) = (self.origin.peer, self.stop.clone());
        self.spawn(turn, async move {
            let mut headers = Vec::new();
            headers.extend(referred.replaces.clone().map(|value| ("Replaces".to_owned(), value)));
            headers.extend(referred.referred_by.clone().map(|value| ("Referred-By".to_owned(), value)));
            let dial = Dial { to: referred.to.clone(), trunk: Some(trunk.to_string()), headers, ..Dial::default() };
            let reports = referred.accept();
            match place(&parts, &agent, dial, peer, &reports, stop).await {
                Ok(successor) => {
                    let _ = successors.send(Box::new(successor)).await;
                    reports.report(200, "OK");
                }
                Err(error) => {
                    warn!(%error, "called away in vain: the call goes on");
                    let (code, reason) = match &error {
                        Unanswered::Sip(SipError::Refused { code, reason }) => (*code, reason.as_str()),
                        Unanswered::Sip(SipError::Cancelled) => (487, "Request Terminated"),
                        _ => (503, "Service Unavailable"),
                    };
                    reports.report(code, reason);
                }
            }
        });
    }

    fn spawn(&self, turn: OwnedSemaphorePermit, task: impl Future<Output = ()> + Send + 'static) {
        let task = async move {
            task.await;
            drop(turn);
        };
        tokio::spawn(task.in_current_span());
    }
}

/// Lets the peer of a dialog hang up, and does so itself when that takes too long.
pub(super) fn leave(mut dialog: Dialog, patience: Duration) {
    tokio::spawn(
        async move {
            if tokio::time::timeout(patience, dialog.ended()).await.is_err() {
                dialog.hang_up().await;
            }
        }
        .in_current_span(),
    );
}

/// Answers a call that takes another's place, at once.
async fn answer(parts: &Parts, incoming: IncomingCall) -> Result<Successor, Unanswered> {
    let trunk = incoming.trunk.as_deref().and_then(|name| parts.config.trunk.get(name));
    let security = match MediaSecurity::on(trunk, incoming.secure) {
        Ok(security) => security,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable(warning(&error)));
            return Err(error.into());
        }
    };
    let mut media = match BoundMedia::bind(parts, incoming.peer.ip(), trunk, security) {
        Ok(media) => media,
        Err(error) => {
            incoming.reject(error.rejection());
            return Err(error);
        }
    };
    let (answer, agreed) = match media.exchange().answer(&incoming.offer) {
        Ok(answered) => answered,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable(warning(&error)));
            return Err(error.into());
        }
    };
    let leg = media.leg(parts, &agreed)?;
    let dialog = incoming.answer(answer).await?;
    Ok(Successor { dialog, leg, agreed, patience: Duration::ZERO })
}

/// Places the call that the peer asks for, and tells it how that goes.
async fn place(
    parts: &Parts,
    agent: &UserAgent,
    dial: Dial,
    peer: IpAddr,
    reports: &ReferReports,
    stop: CancellationToken,
) -> Result<Successor, Unanswered> {
    let trunk = dial.trunk.as_ref().and_then(|name| parts.config.trunk.get(name));
    let mut media = BoundMedia::bind(parts, peer, trunk, MediaSecurity::through(trunk)?)?;
    let offer = media.exchange().offer();
    let mut call = agent.dial(Dial { offer, ..dial }).await?;
    let (dialog, sdp) = loop {
        tokio::select! {
            progress = call.progress() => match progress {
                Some(Progress::Ringing) => reports.report(180, "Ringing"),
                Some(_) => {}
                None => break call.answered().await?,
            },
            () = stop.cancelled() => {
                call.cancel();
                break call.answered().await?;
            }
        }
    };
    // Without an agreement the dialog ends with its handle.
    let agreed = media.exchange().answered(&sdp)?;
    Ok(Successor { dialog, leg: media.leg(parts, &agreed)?, agreed, patience: LEAVE })
}
