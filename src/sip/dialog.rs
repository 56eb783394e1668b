//! The handles that the owner of a call holds: incoming and outgoing calls, dialogs, and what happens on them.
//!
//! Each is a pair of channels to the task that owns the call, so all futures here may be dropped at any point.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::call::OwnRequest;
use super::transfer::{Notified, Referred};
use super::{Caller, SipError, Warning};

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
    /// No ACK came for our 200, or no PRACK for a reliable provisional response, within 64·T1.
    NoAck,
    /// The session timer ran out: the other side is gone, or has forgotten the call (RFC 4028).
    Expired,
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
            EndReason::Expired => "the session timer ran out",
            EndReason::Refused => "refused by the peer",
            EndReason::Failed => "signalling failed",
        })
    }
}

/// How an incoming call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// 486 Busy Here.
    Busy,
    /// 603 Decline: no other phone of the callee shall ring either.
    Decline,
    /// 488 Not Acceptable Here: the offer holds nothing that we can do; says what is wrong.
    NotAcceptable(Warning),
    /// 480 Temporarily Unavailable.
    Unavailable,
    /// 503 Service Unavailable: something of ours is broken.
    ServiceUnavailable,
}

/// Why we hang up, as the Reason header of the BYE says it (RFC 3326).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ByeReason {
    /// The conversation is over.
    #[default]
    Normal,
    /// Nothing was heard from the peer for too long.
    MediaTimeout,
    /// The peer's answer to our offer cannot be agreed to.
    NotAcceptable,
    /// The session timer ran out.
    SessionExpired,
    /// Something of ours failed.
    Failure,
}

impl ByeReason {
    /// The header's value; the causes are those of Q.850, or a SIP status.
    pub(super) const fn value(self) -> &'static str {
        match self {
            ByeReason::Normal => "Q.850;cause=16;text=\"Normal call clearing\"",
            ByeReason::MediaTimeout => "Q.850;cause=102;text=\"Media timeout\"",
            ByeReason::NotAcceptable => "SIP;cause=488;text=\"The SDP answer cannot be agreed to\"",
            ByeReason::SessionExpired => "Q.850;cause=102;text=\"Session timer expired\"",
            ByeReason::Failure => "Q.850;cause=41;text=\"Temporary failure\"",
        }
    }
}

/// The final response to a request of ours.
#[derive(Debug)]
pub(super) struct OwnResponse {
    pub(super) code: u16,
    /// The CSeq of its last sending.
    pub(super) sequence: u32,
    pub(super) headers: rsipstack::rsip::Headers,
}

/// What the holder of a handle asks the call's task for.
pub(super) enum Command {
    Ring,
    EarlyMedia(Vec<u8>),
    Answer(Vec<u8>, oneshot::Sender<Result<(), SipError>>),
    Reject(Rejection),
    HangUp(ByeReason),
    Offer(Vec<u8>, oneshot::Sender<Result<Vec<u8>, SipError>>),
    Request(OwnRequest, oneshot::Sender<Result<OwnResponse, SipError>>),
    Notifications(mpsc::Sender<Notified>),
    Identity(oneshot::Sender<Result<String, SipError>>),
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

    /// Puts a command whose outcome comes back; may be dropped without harm.
    pub(super) fn ask<T: Send, F: FnOnce(oneshot::Sender<Result<T, SipError>>) -> Command>(
        &self,
        command: F,
    ) -> impl Future<Output = Result<T, SipError>> + Send + use<T, F> {
        let (done, outcome) = oneshot::channel();
        let asked = self.commands.try_send(command(done));
        let ended = self.ended.clone();
        async move {
            if let Err(mpsc::error::TrySendError::Full(_)) = asked {
                return Err(SipError::Failed("too much is asked of the call at once".into()));
            }
            let over = || SipError::Ended(ended.borrow().unwrap_or(EndReason::Failed));
            outcome.await.unwrap_or_else(|_| Err(over()))
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
pub struct IncomingCall {
    /// The Call-ID, unique to this call and fit for a log.
    pub id: String,
    /// Where the INVITE came from.
    pub peer: SocketAddr,
    /// The name of the trunk that it came by; none for an allowed peer that is no trunk's.
    pub trunk: Option<Arc<str>>,
    /// That trunk's place in the options.
    pub trunk_index: Option<usize>,
    /// The INVITE came over TLS.
    pub secure: bool,
    /// Who calls.
    pub caller: Caller,
    /// The user part of the Request-URI: the number dialled.
    pub called: String,
    /// The SDP offer; empty when the peer leaves the offer to us (then the answer comes with the ACK).
    pub offer: Vec<u8>,
    pub(super) control: Control,
}

/// A call that was refused before it was one, because all that may be were in progress.
pub struct RefusedCall {
    /// The Call-ID.
    pub id: String,
    /// The name of the trunk that it came by.
    pub trunk: Option<Arc<str>>,
    /// Who called.
    pub caller: Caller,
    /// The number dialled.
    pub called: String,
    /// What it was answered with.
    pub status: u16,
}

// SDP may hold keys (RFC 4568), and whom somebody calls is nobody's business: both stay out of what can be printed.

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("bytes", &self.sdp.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trying => f.write_str("Trying"),
            Self::Ringing => f.write_str("Ringing"),
            Self::EarlyMedia(sdp) => write!(f, "EarlyMedia({} bytes)", sdp.len()),
        }
    }
}

impl fmt::Debug for DialogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { sdp } => write!(f, "Acknowledged({} bytes)", sdp.len()),
            Self::Offer(offer) => offer.fmt(f),
            Self::Dtmf { duration, .. } => write!(f, "Dtmf({duration:?})"),
            Self::Refer(referred) => referred.fmt(f),
            Self::Replaced(call) => write!(f, "Replaced({call:?})"),
            Self::Ended(reason) => write!(f, "Ended({reason:?})"),
        }
    }
}

impl IncomingCall {
    /// Sends 180 Ringing.
    pub fn ring(&self) {
        // A full queue means that it rings already.
        let _ = self.control.commands.try_send(Command::Ring);
    }

    /// Sends 183 with `sdp`, reliably when the line's rules or the caller ask for it (RFC 3262).
    ///
    /// An answer that goes unreliably must come again, the same, in [`IncomingCall::answer`]. When
    /// [`IncomingCall::offer`] is empty, `sdp` is the offer and the caller's answer comes as
    /// [`DialogEvent::Acknowledged`] with the PRACK; where the response is not reliable that is impossible, and the
    /// caller hears of 180 only.
    pub fn early_media(&self, sdp: Vec<u8>) {
        // A full queue means that the owner floods its own call.
        let _ = self.control.commands.try_send(Command::EarlyMedia(sdp));
    }

    /// The next thing that happens before the answer: an answer with the PRACK, an offer by UPDATE, a digit, the end.
    /// What is not taken here comes from [`Dialog::event`].
    pub async fn event(&mut self) -> DialogEvent {
        self.control.event().await
    }

    /// Sends 200 with `sdp`: the answer, or the offer when [`IncomingCall::offer`] is empty. After reliable early media
    /// the 200 waits for the caller's PRACK and carries no SDP, since the caller has it.
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
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// 100, or another provisional response that tells nothing of the callee.
    Trying,
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
    pub(super) cancel: CancellationToken,
    pub(super) progress: mpsc::Receiver<Progress>,
    pub(super) outcome: oneshot::Receiver<Result<(Control, Vec<u8>), SipError>>,
}

impl OutgoingCall {
    /// The next provisional response; `None` once there will be no more.
    ///
    /// With forked calls several parties may ring and send early media: the last one that says so is to be heard.
    pub async fn progress(&mut self) -> Option<Progress> {
        self.progress.recv().await
    }

    /// Waits for the final answer: the dialog and the SDP of the 200. May be called again when its future was dropped.
    ///
    /// # Errors
    /// [`SipError::Refused`] with the peer's status, [`SipError::Credentials`] when it does not take ours,
    /// [`SipError::NoTarget`] and [`SipError::Unreachable`] when it was not found or not reached, [`SipError::Cancelled`]
    /// after [`OutgoingCall::cancel`], [`SipError::Failed`] when the peer answers nonsense. A peer that does not answer at
    /// all has refused with 408 by our own timer.
    pub async fn answered(&mut self) -> Result<(Dialog, Vec<u8>), SipError> {
        match (&mut self.outcome).await {
            Ok(Ok((control, sdp))) => Ok((Dialog { id: self.id.clone(), control }, sdp)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SipError::Failed("the call's task is gone".into())),
        }
    }

    /// Sends CANCEL, or ends the search for a server; should the 200 cross it, the call is acknowledged and ended with BYE.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What happens on an answered call.
#[non_exhaustive]
pub enum DialogEvent {
    /// The ACK of our 200 came, with its SDP: the peer's answer when the offer was ours, else empty.
    Acknowledged {
        /// The body of the ACK.
        sdp: Vec<u8>,
    },
    /// The peer wants to change the media (re-INVITE, UPDATE or PRACK), or asks for an offer.
    Offer(Offer),
    /// A key was pressed, told by INFO.
    Dtmf {
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// How long it was pressed.
        duration: Duration,
    },
    /// The peer asks us to call somebody in its place.
    Refer(Referred),
    /// Another call wants to take this one's place (RFC 3891); dropping it refuses it with 480. Who takes it checks that it comes
    /// from somebody who may, answers it, and hangs this one up. It counts as the same call.
    Replaced(Box<IncomingCall>),
    /// The call is over. Repeats for ever.
    Ended(EndReason),
}

/// A new offer within a call; dropping it answers with our last SDP.
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
    pub fn refuse(self, warning: Warning) {
        let _ = self.reply.send(Err(Rejection::NotAcceptable(warning)));
    }
}

/// An answered call; dropping it sends BYE.
#[derive(Debug)]
pub struct Dialog {
    id: String,
    pub(super) control: Control,
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

    /// Offers `sdp` in a re-INVITE and gives the peer's answer. One that meets another waits and tries again (RFC 3261
    /// §14.1). Goes out even if the future is dropped.
    ///
    /// # Errors
    /// [`SipError::Refused`] when the peer does not want it (the call goes on as it was), [`SipError::Ended`] when the
    /// call is over, [`SipError::Failed`] while an offer of ours is under way already.
    pub fn offer(&self, sdp: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, SipError>> + Send + use<> {
        self.control.ask(|done| Command::Offer(sdp, done))
    }

    /// Sends BYE (after the ACK, should it still be outstanding: RFC 3261 §15) and waits until it is answered, for
    /// four seconds at most. The BYE goes out even if this future is dropped after its first poll.
    pub async fn hang_up(&mut self) -> EndReason {
        self.hang_up_because(ByeReason::Normal).await
    }

    /// [`Dialog::hang_up`], and tells the peer why.
    pub async fn hang_up_because(&mut self, reason: ByeReason) -> EndReason {
        // A task that is gone has ended the call already.
        let _ = self.control.commands.send(Command::HangUp(reason)).await;
        self.ended().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_sdp_and_who_is_called_is_not_printed() {
        let sdp = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0".to_vec();
        let (reply, _replied) = oneshot::channel();
        let offer = format!("{:?}", DialogEvent::Offer(Offer { sdp: sdp.clone(), reply }));
        let answer = format!("{:?}", DialogEvent::Acknowledged { sdp: sdp.clone() });
        let early = format!("{:?}", Progress::EarlyMedia(sdp.clone()));
        let dial = crate::sip::Dial { to: "+972501234567".into(), offer: sdp.clone(), ..Default::default() };
        let dial = format!("{dial:?}");
        let bytes = format!("{:?}", &sdp[..8]);
        for printed in [offer, answer, early, dial] {
            assert!(!printed.contains("crypto") && !printed.contains("1234567"), "{printed}");
            assert!(!printed.contains(bytes.trim_matches(['[', ']'])), "{printed}");
        }
    }
}
