//! The task that owns one call: it turns commands, dialog states and in-dialog requests into SIP (RFC 3261 §12–15).
//!
//! Rule of this file: a transaction is owned by exactly one spawned task that awaits its `receive` and `respond` to
//! the end; `select!` stands over channels only, since the stack's transaction futures are not cancel-safe (the one
//! exception drops the whole transaction, when the stack has stopped).

mod dtmf;
mod early;
mod offers;
mod refer;
mod requests;
mod sending;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::rsip::{Header, Method, Request, Response, StatusCode};
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::{SipAddr, SipConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};

use super::authorizer::Authorizer;
use super::branch;
use super::dialog::{Command, Control, OwnResponse};
use super::reliable::{self, Reliable};
use super::session_timer::{self, SessionFields, SessionTimer};
use super::shared::{CallPermit, Route, Shared, respond};
use super::transfer::Notified;
use super::{ByeReason, Counter, DialogEvent, DialogRules, EndReason, Progress, Rejection, SipError};
pub(super) use early::check_invite;
use offers::OurOffer;
pub(super) use sending::OwnRequest;
use sending::Requests;

/// How long a BYE of ours may stay unanswered before the call is over for its owner and its permit free. The BYE goes
/// on being retransmitted for 64·T1 without them.
const BYE_PATIENCE: Duration = Duration::from_secs(4);
/// Commands, events and notes that may wait for a call's task or owner.
const QUEUE: usize = 8;

/// What the tasks that own transactions tell the call's task.
pub(super) enum Note {
    /// The INVITE transaction is over (for an outgoing call with what is wrong, if anything is).
    Invite(Option<SipError>),
    /// Our BYE was answered, or given up.
    Bye,
    /// A re-INVITE, UPDATE or PRACK with an offer is dealt with; `acked` is false when the ACK of its 200 stayed away.
    Offer { acked: bool, accepted: Option<Accepted> },
    /// The final response to a re-INVITE of ours.
    OurOffer(Result<Box<Response>, SipError>),
    /// The final response to an UPDATE of ours that only refreshes the session.
    Refreshed(Result<Box<Response>, SipError>),
}

/// An offer of the peer that we answered with 200.
#[derive(Debug)]
pub(super) struct Accepted {
    sdp: Vec<u8>,
    session: SessionFields,
}

/// How far the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Early,
    AwaitingAck,
    Up,
}

/// Where it is told that the 200 has gone.
type Answered = oneshot::Sender<Result<(), SipError>>;

/// How far the first exchange of offer and answer is (RFC 3261 §13.2.1, RFC 3262 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// The INVITE had no offer, and we have made none.
    None,
    /// The caller's offer is not answered in a way that is sure to have arrived.
    Theirs,
    /// Our offer is on its way.
    Ours,
    Done,
}

/// The state of one call.
pub(super) struct Call {
    shared: Arc<Shared>,
    dialog: InviteDialog,
    route: Route,
    states: DialogStateReceiver,
    requests: mpsc::Receiver<Box<Transaction>>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<DialogEvent>,
    ended: watch::Sender<Option<EndReason>>,
    notes: mpsc::Sender<Note>,
    notes_in: mpsc::Receiver<Note>,
    /// Outgoing calls only.
    progress: Option<mpsc::Sender<Progress>>,
    outcome: Option<oneshot::Sender<Result<Vec<u8>, SipError>>>,
    phase: Phase,
    hanging_up: bool,
    bye_reason: ByeReason,
    bye_sent: bool,
    /// When the BYE is no longer waited for.
    bye_until: Option<Instant>,
    /// The reason to report whatever the stack says.
    overruled: Option<EndReason>,
    remote_sequence: Option<u32>,
    rules: DialogRules,
    own_requests: Arc<Requests>,
    session_timer: SessionTimer,
    /// What the caller's INVITE says of session timers.
    session: SessionFields,
    /// An incoming call's provisional responses, when they are reliable.
    reliable: Option<Reliable>,
    /// An answer that waits for a PRACK.
    held_answer: Option<(Vec<u8>, Answered)>,
    exchange: Exchange,
    /// An offer of the peer waits for our answer, or our answer for its ACK.
    their_offer: bool,
    our_offer: Option<OurOffer>,
    /// The callee's BYE that overtook our knowledge of its 200.
    held_bye: Option<Transaction>,
    local_sdp: Vec<u8>,
    /// Outgoing calls only: where the INVITE went.
    destination: Option<SipAddr>,
    cancel_sent: bool,
    /// Who looks at the reports about a REFER of ours.
    notifications: Option<mpsc::Sender<Notified>>,
    weak_commands: mpsc::WeakSender<Command>,
    permit: Arc<CallPermit>,
}

impl Call {
    /// The call and the handle to it.
    pub(super) fn new(
        shared: Arc<Shared>,
        dialog: InviteDialog,
        states: DialogStateReceiver,
        rules: DialogRules,
        permit: impl Into<Arc<CallPermit>>,
    ) -> (Self, Control) {
        let (commands_out, commands) = mpsc::channel(QUEUE);
        let (events, events_out) = mpsc::channel(QUEUE);
        let (ended, ended_out) = watch::channel(None);
        let (notes, notes_in) = mpsc::channel(QUEUE);
        let (route, requests) = Route::new(&shared, dialog.id());
        let own_requests = Arc::new(Requests::new(shared.clone(), dialog.clone(), None, None));
        let call = Self {
            shared,
            dialog,
            route,
            states,
            requests,
            commands,
            events,
            ended,
            notes,
            notes_in,
            progress: None,
            outcome: None,
            phase: Phase::Early,
            hanging_up: false,
            bye_reason: ByeReason::Normal,
            bye_sent: false,
            bye_until: None,
            overruled: None,
            remote_sequence: None,
            rules,
            own_requests,
            session_timer: SessionTimer::new(&rules),
            session: SessionFields::default(),
            reliable: None,
            held_answer: None,
            exchange: Exchange::None,
            their_offer: false,
            our_offer: None,
            held_bye: None,
            local_sdp: Vec::new(),
            destination: None,
            cancel_sent: false,
            notifications: None,
            weak_commands: commands_out.downgrade(),
            permit: permit.into(),
        };
        (call, Control { commands: commands_out, events: events_out, ended: ended_out })
    }

    /// Makes it an incoming call: its INVITE.
    pub(super) fn incoming(mut self, invite: &Request) -> Self {
        self.remote_sequence = invite.cseq_header().and_then(|header| header.seq()).ok();
        self.exchange = if invite.body.is_empty() { Exchange::None } else { Exchange::Theirs };
        self.session = SessionFields::of(&invite.headers);
        self.session_timer.allowed(&invite.headers);
        self.reliable = early::reliable(invite, &self.rules, self.shared.t1);
        self
    }

    /// Requests of ours within the dialog are sent on `connection` and answer challenges with `authorizer`.
    pub(super) fn authorized(
        mut self,
        connection: Option<SipConnection>,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Self {
        self.own_requests = Arc::new(Requests::new(self.shared.clone(), self.dialog.clone(), connection, authorizer));
        self
    }

    /// Makes it an outgoing call: where progress and the outcome go, what was offered, and where to.
    pub(super) fn outgoing(
        mut self,
        progress: mpsc::Sender<Progress>,
        outcome: oneshot::Sender<Result<Vec<u8>, SipError>>,
        offer: Vec<u8>,
        destination: SipAddr,
    ) -> Self {
        self.destination = Some(destination);
        self.progress = Some(progress);
        self.outcome = Some(outcome);
        self.local_sdp = offer;
        self.exchange = Exchange::Ours;
        self
    }

    /// Where the task that owns the INVITE transaction says that it is over.
    pub(super) fn notes(&self) -> mpsc::Sender<Note> {
        self.notes.clone()
    }

    /// Runs the call to its end.
    pub(super) async fn run(mut self) {
        self.decode_remote_target();
        let reason = self.serve().await;
        if let Some(outcome) = self.outcome.take() {
            let error = match reason {
                EndReason::Cancelled | EndReason::ByUs => SipError::Cancelled,
                other => SipError::Ended(other),
            };
            let _ = outcome.send(Err(error));
        }
        if reason == EndReason::NoAck {
            self.shared.counters.count(Counter::NoAck);
        }
        debug!(call = %self.route.key.0, %reason, "SIP call over");
        self.ended.send_replace(Some(reason));
    }

    async fn serve(&mut self) -> EndReason {
        let (closing, stopped) = (self.shared.closing.clone(), self.shared.stopped.clone());
        let mut shutting_down = false;
        let mut commands_open = true;
        loop {
            let deadline = self.deadline();
            let due = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into());
            let over = tokio::select! {
                biased;
                state = self.states.recv() => match state {
                    Some(state) => self.on_state(state),
                    None => Some(EndReason::Failed),
                },
                Some(note) = self.notes_in.recv() => self.on_note(note),
                Some(transaction) = self.requests.recv() => {
                    self.on_request(*transaction);
                    None
                }
                command = self.commands.recv(), if commands_open => {
                    match command {
                        Some(command) => self.on_command(command),
                        None => {
                            commands_open = false;
                            self.end(Rejection::Unavailable, ByeReason::Normal);
                        }
                    }
                    None
                }
                () = stopped.cancelled() => Some(EndReason::Failed),
                () = closing.cancelled(), if !shutting_down => {
                    shutting_down = true;
                    self.end(Rejection::ServiceUnavailable, ByeReason::Normal);
                    None
                }
                () = due, if deadline.is_some() => self.on_time(Instant::now()),
            };
            self.drive();
            if let Some(reason) = over {
                return self.overruled.unwrap_or(reason);
            }
        }
    }

    /// When something is due that no message brings.
    fn deadline(&self) -> Option<Instant> {
        let reliable = self.reliable.as_ref().and_then(Reliable::poll_timeout);
        let offer = self.our_offer.as_ref().and_then(OurOffer::due);
        [self.session_timer.poll_timeout(), reliable, offer, self.bye_until].into_iter().flatten().min()
    }

    fn on_time(&mut self, now: Instant) -> Option<EndReason> {
        if self.bye_until.is_some_and(|until| now >= until) {
            return Some(EndReason::ByUs);
        }
        self.session_timer.handle_timeout(now);
        if let Some(reliable) = &mut self.reliable {
            reliable.handle_timeout(now);
        }
        if self.our_offer.as_ref().and_then(OurOffer::due).is_some_and(|due| now >= due) {
            self.send_offer();
        }
        None
    }

    /// Does what the machines ask for.
    fn drive(&mut self) {
        while let Some(output) = self.reliable.as_mut().and_then(Reliable::poll) {
            match output {
                reliable::Output::Send { sequence, provisional } => self.send_reliably(sequence, provisional),
                reliable::Output::Unacknowledged => {
                    self.overruled = Some(EndReason::NoAck);
                    self.log_failure("refusing", self.dialog.reject(Some(StatusCode::ServerTimeOut), None));
                }
            }
        }
        match self.session_timer.poll() {
            Some(session_timer::Output::Refresh(refresh)) => self.refresh_session(refresh),
            Some(session_timer::Output::Expired) => {
                self.overruled = Some(EndReason::Expired);
                self.end(Rejection::Unavailable, ByeReason::SessionExpired);
            }
            None => {}
        }
    }

    fn is_client(&self) -> bool {
        self.dialog.role() == TransactionRole::Client
    }

    fn on_state(&mut self, state: DialogState) -> Option<EndReason> {
        match state {
            DialogState::WaitAck(..) => self.phase = Phase::AwaitingAck,
            DialogState::Trying(_) => {
                self.cancel_if_ending();
                if let (Some(progress), Phase::Early) = (&self.progress, self.phase) {
                    let _ = progress.try_send(Progress::Trying);
                }
            }
            DialogState::Early(_, response) => {
                self.cancel_if_ending();
                if self.is_client() {
                    self.session_timer.allowed(&response.headers);
                    if !response.body.is_empty() && response.header_contains_token("Require", "100rel") {
                        self.exchange = Exchange::Done;
                    }
                }
                if let (Some(progress), Phase::Early) = (&self.progress, self.phase) {
                    let said = match response.body.is_empty() {
                        false => Progress::EarlyMedia(response.body),
                        true if response.status_code == StatusCode::Ringing => Progress::Ringing,
                        true => Progress::Trying,
                    };
                    let _ = progress.try_send(said);
                }
            }
            DialogState::Confirmed(id, response) if self.phase != Phase::Up => {
                self.phase = Phase::Up;
                self.progress = None;
                self.exchange = Exchange::Done;
                if self.is_client() {
                    self.session_timer.allowed(&response.headers);
                    self.session_timer.answered(Instant::now(), &SessionFields::of(&response.headers));
                    self.route.dialog_ids.push(id);
                    self.decode_remote_target();
                    if let Some(outcome) = self.outcome.take() {
                        // Nobody waits any more: the closed command channel ends the call next.
                        let _ = outcome.send(Ok(response.body));
                    }
                } else {
                    let sdp = self.dialog.last_remote_ack().map(|ack| ack.body).unwrap_or_default();
                    let _ = self.events.try_send(DialogEvent::Acknowledged { sdp });
                }
                if let Some(bye) = self.held_bye.take() {
                    self.on_bye(bye);
                } else if self.hanging_up {
                    self.send_bye();
                }
            }
            DialogState::Terminated(_, reason) => return Some(self.on_terminated(reason)),
            _ => {}
        }
        None
    }

    fn on_terminated(&mut self, reason: TerminatedReason) -> EndReason {
        match (reason, self.is_client()) {
            (TerminatedReason::UacCancel, _) => EndReason::Cancelled,
            (TerminatedReason::UacBye, false) | (TerminatedReason::UasBye, true) => EndReason::ByPeer,
            (TerminatedReason::UacBye | TerminatedReason::UasBye, _) => EndReason::ByUs,
            (TerminatedReason::UasDecline, _) => EndReason::ByUs,
            (TerminatedReason::Timeout, _) => EndReason::NoAck,
            (TerminatedReason::UasOther(status) | TerminatedReason::ProxyError(status), true) => {
                if self.hanging_up {
                    return EndReason::Cancelled;
                }
                self.fail(SipError::Refused { code: status.code(), reason: status.text().to_owned() });
                EndReason::Refused
            }
            (TerminatedReason::ProxyAuthRequired, true) => {
                let reason = "credentials are required".to_owned();
                self.fail(SipError::Refused { code: 407, reason });
                EndReason::Refused
            }
            _ => EndReason::Failed,
        }
    }

    fn fail(&mut self, error: SipError) {
        if let Some(outcome) = self.outcome.take() {
            let _ = outcome.send(Err(error));
        }
    }

    fn on_note(&mut self, note: Note) -> Option<EndReason> {
        match note {
            Note::Invite(Some(error)) if self.phase != Phase::Up => {
                self.fail(error);
                Some(EndReason::Failed)
            }
            // The state that ended the transaction was queued before this note, and states are looked at first.
            Note::Invite(None) if self.phase != Phase::Up => Some(EndReason::Failed),
            Note::Invite(_) => None,
            Note::Bye => Some(EndReason::ByUs),
            Note::Offer { acked, accepted } => {
                self.on_their_offer_done(acked, accepted);
                None
            }
            Note::OurOffer(outcome) => {
                self.on_our_offer_done(outcome);
                None
            }
            Note::Refreshed(outcome) => {
                self.on_refreshed(outcome);
                None
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ring => self.ring(),
            Command::EarlyMedia(sdp) => self.early_media(sdp),
            Command::Answer(sdp, done) => self.answer(sdp, done),
            Command::Reject(rejection) => self.end(rejection, ByeReason::Normal),
            Command::HangUp(reason) => self.end(Rejection::Unavailable, reason),
            Command::Offer(sdp, done) => self.offer(sdp, done),
            Command::Request(request, done) => self.request(request, done),
            Command::Notifications(notifications) => self.subscribe(notifications),
            Command::Identity(done) => drop(done.send(Ok(self.identity()))),
        }
    }

    /// Ends the call in the way that its phase asks for: `rejection` or CANCEL, BYE after the ACK, or BYE.
    fn end(&mut self, rejection: Rejection, reason: ByeReason) {
        if self.hanging_up {
            return;
        }
        self.hanging_up = true;
        self.bye_reason = reason;
        match self.phase {
            Phase::Early if self.is_client() => {
                self.fail(SipError::Cancelled);
                self.progress = None;
                self.cancel_if_ending();
            }
            Phase::Early => {
                self.finish_provisional();
                let reason = match &rejection {
                    // Of all header fields the stack lets a refusal have only this one, and writes it as it is.
                    Rejection::NotAcceptable(warning) => Some(format!("SIP;cause=488\r\nWarning: {}", warning.value())),
                    _ => None,
                };
                self.log_failure("rejecting", self.dialog.reject(Some(status_of(&rejection)), reason));
            }
            // RFC 3261 §15: the callee sends no BYE before the ACK; it follows when the ACK comes or has timed out.
            Phase::AwaitingAck => {}
            Phase::Up => self.send_bye(),
        }
    }

    /// RFC 3261 §9.1: a CANCEL goes where the INVITE went, and not before the peer has said a word.
    fn cancel_if_ending(&mut self) {
        let calling = matches!(self.dialog.state(), DialogState::Calling(_));
        if !self.hanging_up || !self.is_client() || calling || std::mem::replace(&mut self.cancel_sent, true) {
            return;
        }
        let (shared, invite) = (self.shared.clone(), self.dialog.initial_request());
        let destination = self.destination.clone();
        self.shared.spawn(async move { branch::cancel(&shared, &invite, destination).await });
    }

    fn send_bye(&mut self) {
        if std::mem::replace(&mut self.bye_sent, true) {
            return;
        }
        self.hanging_up = true;
        self.session_timer.stop();
        self.bye_until = Some(Instant::now() + BYE_PATIENCE);
        let headers = vec![Header::Reason(self.bye_reason.value().into())];
        let bye = OwnRequest { method: Method::Bye, headers, body: vec![] };
        let (requests, notes) = (self.own_requests.clone(), self.notes.clone());
        self.shared.spawn(async move {
            if let Err(error) = requests.send(bye).await {
                // The stack's words quote the message, with the numbers in it.
                warn!("BYE was not delivered");
                debug!(%error, "BYE was not delivered");
            }
            // The call may be over already.
            let _ = notes.send(Note::Bye).await;
        });
    }

    /// Sends a request that is the owner's own affair.
    fn request(&mut self, request: OwnRequest, done: oneshot::Sender<Result<OwnResponse, SipError>>) {
        if self.phase != Phase::Up || self.hanging_up {
            let _ = done.send(Err(SipError::Ended(EndReason::ByUs)));
            return;
        }
        let requests = self.own_requests.clone();
        self.shared.spawn(async move {
            let outcome = requests.send(request).await.map(|(response, _)| OwnResponse {
                code: response.status_code.code(),
                sequence: response.cseq_header().and_then(|header| header.seq()).unwrap_or_default(),
                headers: response.headers,
            });
            let _ = done.send(outcome);
        });
    }

    fn respond(&self, transaction: Transaction, status: StatusCode, headers: Vec<Header>) {
        respond(&self.shared, transaction, status, headers);
    }

    fn log_failure(&self, what: &str, outcome: Result<(), rsipstack::Error>) {
        if let Err(error) = outcome {
            warn!(call = %self.route.key.0, "{what} failed");
            debug!(call = %self.route.key.0, %error, "{what} failed");
        }
    }
}

fn status_of(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::Busy => StatusCode::BusyHere,
        Rejection::Decline => StatusCode::Decline,
        Rejection::NotAcceptable(_) => StatusCode::NotAcceptableHere,
        Rejection::Unavailable => StatusCode::TemporarilyUnavailable,
        Rejection::ServiceUnavailable => StatusCode::ServiceUnavailable,
    }
}
