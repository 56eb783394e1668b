//! The task that owns one call: it turns commands, dialog states and in-dialog requests into SIP (RFC 3261 §12–15).
//!
//! Rule of this file: a transaction is owned by exactly one spawned task that awaits its `receive` and `respond` to
//! the end; `select!` stands over channels only, since the stack's transaction futures are not cancel-safe (the one
//! exception drops the whole transaction, when the stack has stopped).

use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::dialog::{Dialog as StackDialog, DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::rsip::prelude::{HeadersExt, ToTypedHeader};
use rsipstack::rsip::{self, Header, Method, StatusCode};
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tracing::{debug, warn};

use super::dialog::{Command, Control};
use super::nameaddr::percent_decode;
use super::shared::{ALLOW, Route, Shared, await_ack, drain, respond};
use super::{Counter, DialogEvent, EndReason, Offer, Progress, Rejection, SipError};

/// How long the owner of a call may think about a re-INVITE; the caller's transaction would wait 32 s, the caller not.
const OFFER_PATIENCE: Duration = Duration::from_secs(2);
/// Commands, events and notes that may wait for a call's task or owner.
const QUEUE: usize = 8;

/// What the tasks that own transactions tell the call's task.
pub(super) enum Note {
    /// The INVITE transaction is over (for an outgoing call with what is wrong, if anything is).
    Invite(Option<SipError>),
    /// Our BYE was answered, or given up.
    Bye,
    /// A re-INVITE or UPDATE is dealt with; `acked` is false when the ACK of its 200 stayed away.
    Offer { acked: bool, sdp: Option<Vec<u8>> },
}

/// How far the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Early,
    AwaitingAck,
    Up,
}

/// The state of one call.
pub(super) struct Call {
    shared: Arc<Shared>,
    dialog: InviteDialog,
    route: Route,
    states: DialogStateReceiver,
    requests: mpsc::Receiver<Transaction>,
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
    bye_sent: bool,
    /// The reason to report whatever the stack says.
    overruled: Option<EndReason>,
    remote_sequence: Option<u32>,
    offer_pending: bool,
    /// The callee's BYE that overtook our knowledge of its 200.
    held_bye: Option<Transaction>,
    local_sdp: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Call {
    /// The call and the handle to it. `remote_sequence` is the CSeq of an incoming INVITE.
    pub(super) fn new(
        shared: Arc<Shared>,
        dialog: InviteDialog,
        states: DialogStateReceiver,
        remote_sequence: Option<u32>,
        permit: OwnedSemaphorePermit,
    ) -> (Self, Control) {
        let (commands_out, commands) = mpsc::channel(QUEUE);
        let (events, events_out) = mpsc::channel(QUEUE);
        let (ended, ended_out) = watch::channel(None);
        let (notes, notes_in) = mpsc::channel(QUEUE);
        let (route, requests) = Route::new(&shared, dialog.id());
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
            bye_sent: false,
            overruled: None,
            remote_sequence,
            offer_pending: false,
            held_bye: None,
            local_sdp: Vec::new(),
            _permit: permit,
        };
        (call, Control { commands: commands_out, events: events_out, ended: ended_out })
    }

    /// Makes it an outgoing call: where progress and the outcome go, and what was offered.
    pub(super) fn outgoing(
        mut self,
        progress: mpsc::Sender<Progress>,
        outcome: oneshot::Sender<Result<Vec<u8>, SipError>>,
        offer: Vec<u8>,
    ) -> Self {
        self.progress = Some(progress);
        self.outcome = Some(outcome);
        self.local_sdp = offer;
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
            let over = tokio::select! {
                biased;
                state = self.states.recv() => match state {
                    Some(state) => self.on_state(state),
                    None => Some(EndReason::Failed),
                },
                Some(note) = self.notes_in.recv() => self.on_note(note),
                Some(transaction) = self.requests.recv() => {
                    self.on_request(transaction);
                    None
                }
                command = self.commands.recv(), if commands_open => {
                    match command {
                        Some(command) => self.on_command(command),
                        None => {
                            commands_open = false;
                            self.end(Rejection::Unavailable);
                        }
                    }
                    None
                }
                () = stopped.cancelled() => Some(EndReason::Failed),
                () = closing.cancelled(), if !shutting_down => {
                    shutting_down = true;
                    self.end(Rejection::ServiceUnavailable);
                    None
                }
            };
            if let Some(reason) = over {
                return self.overruled.unwrap_or(reason);
            }
        }
    }

    fn is_client(&self) -> bool {
        self.dialog.role() == TransactionRole::Client
    }

    fn on_state(&mut self, state: DialogState) -> Option<EndReason> {
        match state {
            DialogState::WaitAck(..) => self.phase = Phase::AwaitingAck,
            DialogState::Early(_, response) => {
                if let (Some(progress), Phase::Early) = (&self.progress, self.phase) {
                    let said = match response.body.is_empty() {
                        false => Some(Progress::EarlyMedia(response.body)),
                        true if response.status_code == StatusCode::Ringing => Some(Progress::Ringing),
                        true => None,
                    };
                    if let Some(said) = said {
                        let _ = progress.try_send(said);
                    }
                }
            }
            DialogState::Confirmed(id, response) if self.phase != Phase::Up => {
                self.phase = Phase::Up;
                self.progress = None;
                if self.is_client() {
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
            Note::Offer { acked, sdp } => {
                self.offer_pending = false;
                if let Some(sdp) = sdp {
                    self.local_sdp = sdp;
                }
                if !acked {
                    self.overruled = Some(EndReason::NoAck);
                    self.send_bye();
                }
                None
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ring => {
                if self.phase == Phase::Early && !self.hanging_up {
                    self.log_failure("ringing", self.dialog.ringing(None, None));
                }
            }
            Command::Answer(sdp, done) => {
                let outcome = if self.phase != Phase::Early || self.hanging_up {
                    Err(SipError::Ended(EndReason::ByUs))
                } else if self.dialog.state().is_terminated() {
                    Err(SipError::Ended(EndReason::Cancelled))
                } else {
                    let headers = vec![Header::ContentType("application/sdp".into()), Header::Allow(ALLOW.into())];
                    self.local_sdp = sdp.clone();
                    self.dialog.accept(Some(headers), Some(sdp)).map_err(|error| SipError::Failed(error.to_string()))
                };
                if outcome.is_ok() {
                    self.phase = Phase::AwaitingAck;
                }
                let _ = done.send(outcome);
            }
            Command::Reject(rejection) => self.end(rejection),
            Command::HangUp => self.end(Rejection::Unavailable),
        }
    }

    /// Ends the call in the way that its phase asks for: `rejection` or CANCEL, BYE after the ACK, or BYE.
    fn end(&mut self, rejection: Rejection) {
        if self.hanging_up {
            return;
        }
        self.hanging_up = true;
        match self.phase {
            Phase::Early if self.is_client() => {
                self.fail(SipError::Cancelled);
                self.progress = None;
                let dialog = self.dialog.clone();
                self.shared.spawn(async move {
                    if let Err(error) = dialog.cancel().await {
                        debug!(%error, "CANCEL was not accepted");
                    }
                });
            }
            Phase::Early => {
                self.log_failure("rejecting", self.dialog.reject(Some(status_of(rejection)), None));
            }
            // RFC 3261 §15: the callee sends no BYE before the ACK; it follows when the ACK comes or has timed out.
            Phase::AwaitingAck => {}
            Phase::Up => self.send_bye(),
        }
    }

    fn send_bye(&mut self) {
        if std::mem::replace(&mut self.bye_sent, true) {
            return;
        }
        self.hanging_up = true;
        let (dialog, notes) = (self.dialog.clone(), self.notes.clone());
        self.shared.spawn(async move {
            if let Err(error) = dialog.bye().await {
                warn!(%error, "BYE was not delivered");
            }
            let _ = notes.send(Note::Bye).await;
        });
    }

    /// An in-dialog request; each answer runs in the task that owns its transaction.
    fn on_request(&mut self, transaction: Transaction) {
        let sequence = transaction.original.cseq_header().and_then(|header| header.seq()).ok();
        if sequence.is_none() || sequence <= self.remote_sequence {
            self.shared.counters.count(Counter::OutOfOrder);
            self.respond(transaction, StatusCode::ServerInternalError, vec![]);
            return;
        }
        self.remote_sequence = sequence;
        match transaction.original.method {
            Method::Bye => self.on_bye(transaction),
            Method::Options => {
                let headers = vec![Header::Allow(ALLOW.into()), Header::Accept("application/sdp".into())];
                self.respond(transaction, StatusCode::OK, headers);
            }
            Method::Info => self.respond(transaction, StatusCode::OK, vec![]),
            Method::Update if transaction.original.body.is_empty() => {
                let contact = self.contact_header();
                self.refresh_target(&transaction.original);
                self.respond(transaction, StatusCode::OK, vec![contact]);
            }
            // RFC 3261 §14.2 and RFC 3311 §5.2: one exchange at a time; the first one is ours to answer.
            Method::Invite | Method::Update if self.offer_pending || self.phase == Phase::Early => {
                self.respond(transaction, StatusCode::ServerInternalError, vec![Header::RetryAfter("2".into())]);
            }
            Method::Invite | Method::Update => self.on_offer(transaction),
            // Never asked for: our provisional responses are not reliable.
            Method::PRack => self.respond(transaction, StatusCode::CallTransactionDoesNotExist, vec![]),
            _ => {
                self.shared.counters.count(Counter::Method);
                self.respond(transaction, StatusCode::MethodNotAllowed, vec![Header::Allow(ALLOW.into())]);
            }
        }
    }

    fn on_bye(&mut self, mut transaction: Transaction) {
        let mut dialog = self.dialog.clone();
        if self.phase == Phase::Early {
            if self.is_client() {
                // The stack acknowledges the 200 before it tells of it; without a 200 the BYE goes with the call.
                self.held_bye = Some(transaction);
                return;
            }
            // RFC 3261 §15.1.2: BYE in an early dialog ends the INVITE with 487.
            self.overruled = Some(EndReason::Cancelled);
            self.respond(transaction, StatusCode::OK, vec![]);
            self.log_failure("ending the INVITE", dialog.reject(Some(StatusCode::RequestTerminated), None));
            return;
        }
        self.shared.spawn(async move {
            if let Err(error) = dialog.handle(&mut transaction).await {
                warn!("BYE could not be answered");
                debug!(%error, "BYE could not be answered");
            }
        });
    }

    fn on_offer(&mut self, mut transaction: Transaction) {
        self.offer_pending = true;
        self.refresh_target(&transaction.original);
        let (reply, replied) = oneshot::channel();
        let offer = Offer { sdp: transaction.original.body.clone(), reply };
        // Nobody looks, or too much waits: the dropped reply channel leads to our last SDP.
        let _ = self.events.try_send(DialogEvent::Offer(offer));
        let (last_sdp, contact) = (self.local_sdp.clone(), self.contact_header());
        let (notes, events) = (self.notes.clone(), self.events.clone());
        self.shared.spawn(async move {
            let is_invite = transaction.original.method == Method::Invite;
            if is_invite {
                let _ = transaction.send_trying().await;
            }
            let answer = match tokio::time::timeout(OFFER_PATIENCE, replied).await {
                Ok(Ok(answer)) => answer,
                _ => Ok(last_sdp),
            };
            let (status, headers, sdp) = match answer {
                Ok(sdp) => {
                    let headers = vec![contact, Header::ContentType("application/sdp".into())];
                    (StatusCode::OK, headers, Some(sdp))
                }
                Err(rejection) => (status_of(rejection), vec![], None),
            };
            let accepted = status == StatusCode::OK;
            let late_offer = transaction.original.body.is_empty();
            if let Err(error) = transaction.reply_with(status, headers, sdp.clone()).await {
                warn!("a re-INVITE or UPDATE could not be answered");
                debug!(%error, "a re-INVITE or UPDATE could not be answered");
            }
            let mut acked = true;
            if is_invite {
                let ack = await_ack(&mut transaction).await;
                acked = ack.is_some() || !accepted;
                if let (Some(sdp), true, true) = (ack, late_offer, accepted) {
                    let _ = events.try_send(DialogEvent::Acknowledged { sdp });
                }
            }
            let _ = notes.send(Note::Offer { acked, sdp }).await;
            drain(transaction).await;
        });
    }

    fn respond(&self, transaction: Transaction, status: StatusCode, headers: Vec<Header>) {
        respond(&self.shared, transaction, status, headers);
    }

    fn contact_header(&self) -> Header {
        rsip::typed::Contact::from(self.shared.contact.clone()).into()
    }

    /// RFC 3261 §12.2.2: the Contact of a target refresh request is where later requests go.
    fn refresh_target(&self, request: &rsip::Request) {
        if let Ok(header) = request.contact_header()
            && let Ok(contact) = header.clone().typed()
        {
            self.set_target(contact.uri);
        }
    }

    fn set_target(&self, mut uri: rsip::Uri) {
        if let Some(auth) = &mut uri.auth {
            auth.user = percent_decode(&auth.user);
        }
        let contact = self.dialog.snapshot().remote_contact;
        StackDialog::Invite(self.dialog.clone()).set_remote_target(uri, contact);
    }

    /// The stack escapes the user part when it writes a URI but does not resolve the escapes when it reads one.
    fn decode_remote_target(&self) {
        let uri = self.dialog.snapshot().remote_uri;
        if uri.auth.as_ref().is_some_and(|auth| auth.user.contains('%')) {
            self.set_target(uri);
        }
    }

    fn log_failure(&self, what: &str, outcome: Result<(), rsipstack::Error>) {
        if let Err(error) = outcome {
            warn!(call = %self.route.key.0, %error, "{what} failed");
        }
    }
}

fn status_of(rejection: Rejection) -> StatusCode {
    match rejection {
        Rejection::Busy => StatusCode::BusyHere,
        Rejection::Decline => StatusCode::Decline,
        Rejection::NotAcceptable => StatusCode::NotAcceptableHere,
        Rejection::Unavailable => StatusCode::TemporarilyUnavailable,
        Rejection::ServiceUnavailable => StatusCode::ServiceUnavailable,
    }
}
