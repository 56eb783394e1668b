//! The handles that the owner of a call holds: incoming and outgoing calls, dialogs, and what happens on them.
//!
//! Each is a pair of channels to the task that owns the call, so all futures here may be dropped at any point.

use std::fmt;
use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Party, SipError};

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The peer sent BYE.
    ByPeer,
    /// We rejected it or sent BYE.
    ByUs,
    /// It was cancelled before the answer (CANCEL, or BYE in an early dialog).
    Cancelled,
    /// No ACK came for our 200 within 64·T1.
    NoAck,
    /// The peer refused our INVITE.
    Refused,
    /// The stack gave up: no answer, or a message that cannot be worked with.
    Failed,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndReason::ByPeer => "ended by the peer",
            EndReason::ByUs => "ended by us",
            EndReason::Cancelled => "cancelled before the answer",
            EndReason::NoAck => "no ACK came for the answer",
            EndReason::Refused => "refused by the peer",
            EndReason::Failed => "signalling failed",
        })
    }
}

/// How an incoming call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// 486 Busy Here.
    Busy,
    /// 603 Decline: no other phone of the callee shall ring either.
    Decline,
    /// 488 Not Acceptable Here: the offer holds nothing that we can do.
    NotAcceptable,
    /// 480 Temporarily Unavailable.
    Unavailable,
    /// 503 Service Unavailable: something of ours is broken.
    ServiceUnavailable,
}

/// What the holder of a handle asks the call's task for.
#[derive(Debug)]
pub(super) enum Command {
    Ring,
    Answer(Vec<u8>, oneshot::Sender<Result<(), SipError>>),
    Reject(Rejection),
    HangUp,
}

/// Commands to the call's task, events from it, and how it ended.
///
/// The task takes a closed command channel for a dropped handle and ends the call.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: mpsc::Receiver<DialogEvent>,
    pub(super) ended: watch::Receiver<Option<EndReason>>,
}

impl Control {
    async fn ended(&self) -> EndReason {
        ended(self.ended.clone()).await
    }

    /// What happens next; what happened before the end comes before it.
    async fn event(&mut self) -> DialogEvent {
        // Not the closed channel tells of the end: whoever waits for the ACK of a re-INVITE keeps it open for half a minute.
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => event,
            reason = ended(self.ended.clone()) => DialogEvent::Ended(reason),
        }
    }

    fn end_reason(&self) -> EndReason {
        self.ended.borrow().unwrap_or(EndReason::Failed)
    }
}

async fn ended(mut ended: watch::Receiver<Option<EndReason>>) -> EndReason {
    // The task gone without a word: it panicked.
    ended.wait_for(Option::is_some).await.ok().and_then(|reason| *reason).unwrap_or(EndReason::Failed)
}

/// A call that came in and has had its 100 Trying; dropping it refuses it with 480.
#[derive(Debug)]
pub struct IncomingCall {
    /// The Call-ID, unique to this call and fit for a log.
    pub id: String,
    /// Where the INVITE came from.
    pub peer: SocketAddr,
    /// Who calls, as the From header says.
    pub caller: Party,
    /// The user part of the Request-URI: the number dialled.
    pub called: String,
    /// The SDP offer; empty when the peer leaves the offer to us (then the answer comes with the ACK).
    pub offer: Vec<u8>,
    pub(super) control: Control,
}

impl IncomingCall {
    /// Sends 180 Ringing.
    pub fn ring(&self) {
        // A full queue means that it rings already.
        let _ = self.control.commands.try_send(Command::Ring);
    }

    /// Sends 200 with `sdp`: the answer, or the offer when [`IncomingCall::offer`] is empty.
    ///
    /// Retransmits it until the ACK comes; without one the dialog ends with [`EndReason::NoAck`].
    ///
    /// # Errors
    /// [`SipError::Ended`] when the caller cancelled in the meantime.
    pub async fn answer(self, sdp: Vec<u8>) -> Result<Dialog, SipError> {
        let (done, answered) = oneshot::channel();
        let asked = self.control.commands.send(Command::Answer(sdp, done)).await.is_ok();
        match answered.await {
            Ok(outcome) if asked => outcome.map(|()| Dialog { id: self.id, control: self.control }),
            _ => Err(SipError::Ended(self.control.end_reason())),
        }
    }

    /// Refuses the call.
    pub fn reject(self, rejection: Rejection) {
        // Should the queue be full of rings, the drop that follows refuses the call all the same.
        let _ = self.control.commands.try_send(Command::Reject(rejection));
    }

    /// Waits until the call is over before it was answered: the caller cancelled, or the agent shuts down.
    pub async fn cancelled(&self) {
        self.control.ended().await;
    }
}

/// What the peer of an outgoing call says before the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// 180: the phone rings.
    Ringing,
    /// 183 or another provisional response with SDP: early media.
    EarlyMedia(Vec<u8>),
}

/// A call that we placed and that is not answered yet; dropping it cancels it.
#[derive(Debug)]
pub struct OutgoingCall {
    /// The Call-ID.
    pub id: String,
    pub(super) control: Option<Control>,
    pub(super) progress: mpsc::Receiver<Progress>,
    pub(super) outcome: oneshot::Receiver<Result<Vec<u8>, SipError>>,
}

impl OutgoingCall {
    /// The next provisional response; `None` once there will be no more.
    pub async fn progress(&mut self) -> Option<Progress> {
        self.progress.recv().await
    }

    /// Waits for the final answer: the dialog and the SDP of the 200. May be called again when its future was dropped.
    ///
    /// # Errors
    /// [`SipError::Refused`] with the peer's status, [`SipError::Cancelled`] after [`OutgoingCall::cancel`],
    /// [`SipError::Failed`] when the peer does not answer at all (refused with 408 by our own timer) or answers nonsense.
    pub async fn answered(&mut self) -> Result<(Dialog, Vec<u8>), SipError> {
        let sdp = match (&mut self.outcome).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(SipError::Failed("the call's task is gone".into())),
        };
        match self.control.take() {
            Some(control) => Ok((Dialog { id: self.id.clone(), control }, sdp)),
            None => Err(SipError::Failed("the answer was taken before".into())),
        }
    }

    /// Sends CANCEL; should the 200 cross it, the call is acknowledged and ended with BYE.
    pub fn cancel(&self) {
        if let Some(control) = &self.control {
            let _ = control.commands.try_send(Command::HangUp);
        }
    }
}

/// What happens on an answered call.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialogEvent {
    /// The ACK of our 200 came, with its SDP: the peer's answer when the offer was ours, else empty.
    Acknowledged {
        /// The body of the ACK.
        sdp: Vec<u8>,
    },
    /// The peer wants to change the media (re-INVITE or UPDATE), or asks for an offer.
    Offer(Offer),
    /// The call is over. Repeats for ever.
    Ended(EndReason),
}

/// A new offer within a call; dropping it answers with our last SDP.
#[derive(Debug)]
pub struct Offer {
    /// The offered SDP; empty when the peer asks us to offer.
    pub sdp: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<Vec<u8>, Rejection>>,
}

impl Offer {
    /// Answers 200 with `sdp`.
    pub fn answer(self, sdp: Vec<u8>) {
        // Gone receiver: the call ended or the two seconds in which an answer is waited for are over.
        let _ = self.reply.send(Ok(sdp));
    }

    /// Refuses the change with 488; the call goes on as it was.
    pub fn refuse(self) {
        let _ = self.reply.send(Err(Rejection::NotAcceptable));
    }
}

/// An answered call; dropping it sends BYE.
#[derive(Debug)]
pub struct Dialog {
    id: String,
    control: Control,
}

impl Dialog {
    /// The Call-ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next thing that happens.
    ///
    /// A [`DialogEvent::Offer`] that waits here for more than two seconds is answered with our last SDP.
    pub async fn event(&mut self) -> DialogEvent {
        self.control.event().await
    }

    /// Waits until the call is over; new offers are meanwhile answered with our last SDP.
    pub async fn ended(&mut self) -> EndReason {
        loop {
            if let DialogEvent::Ended(reason) = self.event().await {
                return reason;
            }
        }
    }

    /// Sends BYE (after the ACK, should it still be outstanding: RFC 3261 §15) and waits until it is answered or
    /// has timed out. The BYE goes out even if this future is dropped after its first poll.
    pub async fn hang_up(&mut self) -> EndReason {
        // A task that is gone has ended the call already.
        let _ = self.control.commands.send(Command::HangUp).await;
        self.ended().await
    }
}
