//! What the agent takes on, what it refuses, what belongs to a call in progress, and whose call it is.
//!
//! RFC 3261 §8.2 (the order of the checks), §12.2.2. [`judge`] is asked on the wire, where refusals cost nothing; what comes as
//! a transaction is a call or belongs to one, as a rule. Not implemented: Max-Forwards (a user agent server is the last hop).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::rsip::transport::Transport;
use rsipstack::rsip::{Header, Method, Request, Scheme, StatusCode, Uri};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipConnection;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::call::{Call, Note, check_invite};
use super::identity::Identification;
use super::nameaddr::{percent_decode, uri_user};
use super::replaces::{Malformed, Replaces};
use super::shared::{ALLOW, CallPermit, RouteKey, SUPPORTED, Shared, drain, respond, unsupported};
use super::wire::{Calls, Room};
use super::{Caller, Counter, DialogEvent, DialogRules, IncomingCall, RefusedCall};
use crate::config::IdentityHeader;

/// What a request outside of any dialog gets.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    NewCall,
    InDialog,
    Respond(StatusCode, Vec<Header>, Option<Counter>),
}

/// An INVITE as it arrives twice when it was forked on the way and merged again (§8.2.2.2).
pub(super) type MergeKey = (String, String, u32);

/// Takes transactions from the stack until it stops.
pub(super) async fn run(shared: Arc<Shared>, mut incoming: TransactionReceiver, calls: mpsc::Sender<IncomingCall>) {
    let stopped = shared.stopped.clone();
    // The stack keeps a sender of this channel itself: it never closes.
    while let Some(Some(transaction)) = stopped.run_until_cancelled(incoming.recv()).await {
        match shared.judge(peer_of(&transaction).ip(), &transaction.original) {
            Verdict::InDialog => in_dialog(&shared, transaction),
            Verdict::NewCall => match Replaces::of(&transaction.original.headers) {
                Ok(None) => new_call(&shared, transaction, Door::New(&calls)),
                Ok(Some(replaces)) => to_call(&shared, transaction, Some((replaces.call_id, replaces.to_tag))),
                Err(Malformed) => refuse(&shared, transaction, Counter::Malformed, StatusCode::BadRequest, vec![]),
            },
            Verdict::Respond(status, headers, why) => {
                if let Some(why) = why {
                    refuse(&shared, transaction, why, status, headers);
                } else {
                    respond(&shared, transaction, status, headers);
                }
            }
        }
    }
}

fn refuse(shared: &Shared, transaction: Transaction, why: Counter, status: StatusCode, headers: Vec<Header>) {
    shared.counters.count(why);
    debug!(method = %transaction.original.method, status = status.code(), reason = why.name(), "SIP request refused");
    respond(shared, transaction, status, headers);
}

impl Calls for Shared {
    fn closing(&self) -> bool {
        self.leaving.is_cancelled()
    }

    fn has_dialog(&self, call_id: &str, local_tag: &str) -> bool {
        let key = (call_id.to_owned(), local_tag.to_owned());
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    fn has_invite(&self, call_id: &str, from_tag: &str, sequence: u32) -> bool {
        let key = (call_id.to_owned(), from_tag.to_owned(), sequence);
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn judge(&self, peer: IpAddr, request: &Request) -> Verdict {
        judge(request, &self.rules_of(self.trunk_of(peer, &called_user(&request.uri))))
    }

    fn room(&self, peer: IpAddr, request: &Request) -> Room {
        let trunk = self.trunk_of(peer, &called_user(&request.uri)).and_then(|trunk| self.trunks.get(trunk));
        let full =
            self.permits.available_permits() == 0 || trunk.is_some_and(|trunk| trunk.permits.available_permits() == 0);
        // A call that takes the place of another counts as that one.
        let replaces = || Replaces::of(&request.headers).ok().flatten();
        if full && !replaces().is_some_and(|dialog| self.has_dialog(&dialog.call_id, &dialog.to_tag)) {
            return Room::Busy;
        }
        match self.pending.lock().unwrap_or_else(PoisonError::into_inner).len() < self.max_pending {
            true => Room::Free,
            false => Room::Overloaded,
        }
    }

    fn refused(&self, peer: SocketAddr, request: &Request) {
        let Some(refusals) = &self.refusals else { return };
        let called = called_user(&request.uri);
        let trunk = self.trunk_of(peer.ip(), &called);
        let id = request.call_id_header().map(|id| id.value().to_owned()).unwrap_or_default();
        let refused = RefusedCall {
            id,
            trunk: trunk.and_then(|trunk| self.trunks.get(trunk)).map(|trunk| trunk.name.clone()),
            caller: caller_of(self, trunk, request),
            called,
            status: StatusCode::BusyHere.code(),
        };
        // Of a flood of calls only some are told of; all are counted.
        let _ = refusals.try_send(refused);
    }
}

pub(super) fn judge(request: &Request, rules: &DialogRules) -> Verdict {
    let served =
        [Method::Invite, Method::Bye, Method::Cancel, Method::Options, Method::Info, Method::Update, Method::PRack];
    let to_tag = request.to_header().ok().and_then(|to| to.tag().ok().flatten());
    if to_tag.is_some() {
        return Verdict::InDialog;
    }
    if !served.contains(&request.method) {
        let headers = vec![Header::Allow(ALLOW.into())];
        return Verdict::Respond(StatusCode::MethodNotAllowed, headers, Some(Counter::Method));
    }
    let known_scheme = match &request.uri.scheme {
        None | Some(Scheme::Sip | Scheme::Sips) => true,
        Some(Scheme::Other(other)) => other.eq_ignore_ascii_case("tel"),
    };
    if !known_scheme {
        return Verdict::Respond(StatusCode::UnsupportedUriScheme, vec![], Some(Counter::Unsupported));
    }
    // CANCEL never comes here.
    if let Some(unsupported) = unsupported(&request.headers, rules) {
        return Verdict::Respond(StatusCode::BadExtension, vec![unsupported], Some(Counter::Extension));
    }
    match request.method {
        Method::Invite if !takes_sdp(request) => {
            Verdict::Respond(StatusCode::NotAcceptable, vec![], Some(Counter::Unsupported))
        }
        Method::Invite if !body_is_sdp(request) => {
            let headers = vec![Header::Accept("application/sdp".into()), Header::AcceptEncoding("identity".into())];
            Verdict::Respond(StatusCode::UnsupportedMediaType, headers, Some(Counter::Unsupported))
        }
        Method::Invite => match check_invite(&request.headers, rules) {
            Ok(()) => Verdict::NewCall,
            Err((status, header)) => Verdict::Respond(status, vec![header], Some(Counter::Extension)),
        },
        Method::Options => {
            let headers = vec![
                Header::Allow(ALLOW.into()),
                Header::Accept("application/sdp".into()),
                Header::Supported(SUPPORTED.into()),
            ];
            Verdict::Respond(StatusCode::OK, headers, None)
        }
        _ => Verdict::Respond(StatusCode::CallTransactionDoesNotExist, vec![], Some(Counter::NoDialog)),
    }
}

/// §8.2.3: no body, or SDP that is not compressed.
fn body_is_sdp(request: &Request) -> bool {
    if request.body.is_empty() {
        return true;
    }
    request.headers.iter().all(|header| match header {
        Header::ContentType(kind) => {
            let kind = kind.value().split(';').next().unwrap_or_default();
            kind.trim().eq_ignore_ascii_case("application/sdp")
        }
        Header::ContentEncoding(encoding) => encoding.value().trim().eq_ignore_ascii_case("identity"),
        _ => true,
    })
}

/// §20.1: whether the answer may be SDP. An Accept header without a value accepts nothing.
fn takes_sdp(request: &Request) -> bool {
    let mut accepts = request.headers.iter().filter_map(|header| match header {
        Header::Accept(accept) => Some(accept.value()),
        _ => None,
    });
    let sdp = |value: &str| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|accepted| kind.eq_ignore_ascii_case(accepted))
    };
    let Some(first) = accepts.next() else { return true };
    std::iter::once(first).chain(accepts).flat_map(|value| value.split(',')).any(sdp)
}

fn in_dialog(shared: &Shared, transaction: Transaction) {
    let request = &transaction.original;
    let key = request
        .call_id_header()
        .ok()
        .map(|id| id.value().to_owned())
        .zip(request.to_header().ok().and_then(|to| to.tag().ok().flatten()).map(|tag| tag.value().to_owned()));
    to_call(shared, transaction, key);
}

/// Hands a request to the call whose business it is, 481 without one.
fn to_call(shared: &Shared, transaction: Transaction, key: Option<RouteKey>) {
    let route = key.and_then(|key| {
        let routes = shared.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(&key).cloned()
    });
    let Some(route) = route else {
        refuse(shared, transaction, Counter::NoDialog, StatusCode::CallTransactionDoesNotExist, vec![]);
        return;
    };
    match route.try_send(Box::new(transaction)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(transaction)) => {
            let headers = vec![Header::RetryAfter("1".into())];
            refuse(shared, *transaction, Counter::OutOfOrder, StatusCode::ServerInternalError, headers);
        }
        Err(mpsc::error::TrySendError::Closed(transaction)) => {
            refuse(shared, *transaction, Counter::NoDialog, StatusCode::CallTransactionDoesNotExist, vec![]);
        }
    }
}

fn merge_key(request: &Request) -> Option<MergeKey> {
    let from_tag = request.from_header().ok()?.tag().ok()??.value().to_owned();
    Some((request.call_id_header().ok()?.value().to_owned(), from_tag, request.cseq_header().ok()?.seq().ok()?))
}

/// Where a call that comes in goes.
pub(super) enum Door<'c> {
    /// To whoever takes calls.
    New(&'c mpsc::Sender<IncomingCall>),
    /// To the owner of the call that it replaces, whose permit it has too.
    InPlace(&'c mpsc::Sender<DialogEvent>, Arc<CallPermit>),
}

/// A place in the queue of whoever takes the call.
enum Slot<'c> {
    New(mpsc::Permit<'c, IncomingCall>),
    InPlace(mpsc::Permit<'c, DialogEvent>),
}

impl Door<'_> {
    fn slot(&self) -> Option<Slot<'_>> {
        match self {
            Self::New(calls) => calls.try_reserve().ok().map(Slot::New),
            Self::InPlace(events, _) => events.try_reserve().ok().map(Slot::InPlace),
        }
    }
}

impl Slot<'_> {
    fn send(self, call: IncomingCall) {
        match self {
            Self::New(slot) => slot.send(call),
            Self::InPlace(slot) => slot.send(DialogEvent::Replaced(Box::new(call))),
        }
    }
}

/// Makes a call of an INVITE.
pub(super) fn new_call(shared: &Arc<Shared>, transaction: Transaction, door: Door<'_>) {
    let refuse = |transaction, why, status| refuse(shared, transaction, why, status, vec![]);
    let Some(key) = merge_key(&transaction.original) else {
        return refuse(transaction, Counter::Malformed, StatusCode::BadRequest);
    };
    if shared.pending.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
        return refuse(transaction, Counter::Merged, StatusCode::LoopDetected);
    }
    if shared.leaving.is_cancelled() {
        return refuse(transaction, Counter::Closing, StatusCode::ServiceUnavailable);
    }
    let peer = peer_of(&transaction);
    let called = called_user(&transaction.original.uri);
    let trunk = shared.trunk_of(peer.ip(), &called);
    // There was room when the wire looked; two may have come for the last place.
    let permit = match &door {
        Door::New(_) => shared.permit(trunk).map(Arc::new),
        Door::InPlace(_, permit) => Some(permit.clone()),
    };
    let Some(permit) = permit else {
        let due = shared.busy.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
        match due {
            Some(suppressed) => {
                warn!(%peer, max_calls = shared.max_calls, suppressed, "SIP calls are refused with 486: all permitted calls are in progress")
            }
            None => debug!(%peer, "a SIP call is refused with 486"),
        }
        shared.refused(peer, &transaction.original);
        return refuse(transaction, Counter::Busy, StatusCode::BusyHere);
    };
    let Some(slot) = door.slot() else {
        warn!("a SIP call was refused with 503: nobody takes calls");
        return refuse(transaction, Counter::Closing, StatusCode::ServiceUnavailable);
    };
    let (states_in, states) = shared.layer.new_dialog_state_channel();
    let contact = Some(shared.contact.clone());
    let dialog = match shared.layer.get_or_create_server_invite(&transaction, states_in, None, contact) {
        Ok(dialog) => dialog,
        Err(error) => {
            debug!(%error, "an INVITE makes no dialog");
            return refuse(transaction, Counter::Malformed, StatusCode::BadRequest);
        }
    };
    let request = &transaction.original;
    let (call, control) = Call::new(shared.clone(), dialog.clone(), states, shared.rules_of(trunk), permit);
    let call = call.incoming(request).authorized(transaction.connection.clone(), shared.authorizer_of(trunk));
    let incoming = IncomingCall {
        id: key.0.clone(),
        peer,
        trunk: trunk.and_then(|trunk| shared.trunks.get(trunk)).map(|trunk| trunk.name.clone()),
        trunk_index: trunk,
        secure: is_secure(&transaction),
        caller: caller_of(shared, trunk, request),
        called,
        offer: request.body.clone(),
        control,
    };
    info!(call = %incoming.id, %peer, trunk = incoming.trunk.as_deref(), "SIP call comes in");
    shared.counters.count(Counter::CallsIn);
    shared.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    let notes = call.notes();
    let pending = PendingInvite { shared: shared.clone(), key };
    shared.spawn(async move {
        own_invite(dialog, transaction, notes).await;
        drop(pending);
    });
    tokio::spawn(call.run());
    slot.send(incoming);
}

/// An INVITE in progress; it counts until this is dropped.
struct PendingInvite {
    shared: Arc<Shared>,
    key: MergeKey,
}

impl Drop for PendingInvite {
    fn drop(&mut self) {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn caller_of(shared: &Shared, trunk: Option<usize>, request: &Request) -> Caller {
    let trunk = trunk.and_then(|trunk| shared.trunks.get(trunk));
    let identification = Identification {
        headers: trunk.map_or(&[IdentityHeader::From], |trunk| &trunk.config.identity_headers[..]),
        trusted: trunk.is_some(),
        country: trunk.and_then(|trunk| trunk.country),
    };
    let lines: Vec<String> = request.headers.iter().map(ToString::to_string).collect();
    let headers = lines.iter().filter_map(|line| line.split_once(':'));
    identification.caller(headers.map(|(name, value)| (name.trim(), value.trim())))
}

/// Owns the INVITE server transaction to its end: 100, the responses that the call's task asks for, ACK or CANCEL.
async fn own_invite(mut dialog: InviteDialog, mut transaction: Transaction, notes: mpsc::Sender<Note>) {
    if let Err(error) = dialog.handle(&mut transaction).await {
        // The stack's words quote the message, with the numbers in it.
        warn!("an INVITE transaction failed");
        debug!(%error, "an INVITE transaction failed");
    }
    // The call's task may be over already.
    let _ = notes.send(Note::Invite(None)).await;
    drain(transaction).await;
}

/// The number dialled. The stack keeps `%` escapes and would escape them again when it writes the URI.
fn called_user(uri: &Uri) -> String {
    match &uri.auth {
        Some(auth) => percent_decode(auth.user.split(';').next().unwrap_or_default()),
        None => uri_user(&uri.to_string()),
    }
}

fn peer_of(transaction: &Transaction) -> SocketAddr {
    // A stream of ours is known by its peer's address.
    let address = |connection: &SipConnection| match connection {
        SipConnection::Channel(_) => Some(connection.get_addr().clone()),
        _ => connection.get_remote_addr().cloned(),
    };
    transaction
        .connection
        .as_ref()
        .and_then(address)
        .and_then(|address| address.get_socketaddr().ok())
        .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}

fn is_secure(transaction: &Transaction) -> bool {
    let address = transaction.connection.as_ref().map(SipConnection::get_addr);
    address.and_then(|address| address.r#type) == Some(Transport::Tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsipstack::rsip::SipMessage;

    /// A request outside any dialog, with some of it replaced.
    fn request(method: &str, replacements: &[(&str, &str)]) -> Request {
        let mut text = format!(
            "{method} sip:620@box SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:1@a>;tag=1\r\n\
             To: <sip:620@box>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContent-Type: application/sdp\r\n\
             Content-Length: 4\r\n\r\nv=0\n"
        );
        for (from, to) in replacements {
            text = text.replace(from, to);
        }
        match SipMessage::try_from(text.as_str()) {
            Ok(SipMessage::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn status(method: &str, replacements: &[(&str, &str)]) -> u16 {
        match judge(&request(method, replacements), &DialogRules::default()) {
            Verdict::NewCall => 0,
            Verdict::InDialog => 1,
            Verdict::Respond(status, ..) => status.code(),
        }
    }

    #[test]
    fn each_request_outside_a_dialog_gets_its_status() {
        assert_eq!(status("INVITE", &[]), 0);
        assert_eq!(status("INVITE", &[("v=0\n", ""), ("Length: 4", "Length: 0")]), 0);
        assert_eq!(status("INVITE", &[("sip:620@box SIP", "tel:+9725 SIP")]), 0);
        assert_eq!(status("INVITE", &[("application/sdp", "Application/SDP; charset=x")]), 0);
        assert_eq!(status("INVITE", &[("application/sdp", "text/plain")]), 415);
        assert_eq!(status("INVITE", &[("Content-Type", "Content-Encoding: gzip\r\nContent-Type")]), 415);
        assert_eq!(status("INVITE", &[("sip:620@box SIP", "soap.beep:x SIP"), ("soap.beep", "nobody")]), 416);
        assert_eq!(status("INVITE", &[("Content-Type", "Require: 100rel, x\r\nContent-Type")]), 420);
        assert_eq!(status("OPTIONS", &[]), 200);
        assert_eq!(status("INVITE", &[("Content-Type", "Accept: text/nobodyKnowsThis\r\nContent-Type")]), 406);
        assert_eq!(status("INVITE", &[("Content-Type", "Accept: text/plain, application/*;q=0.1\r\nContent-Type")]), 0);
        assert_eq!(status("BYE", &[]), 481);
        for method in ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE", "REFER", "NOTIFY"] {
            assert_eq!(status(method, &[]), 405, "{method}");
        }
        assert_eq!(status("REFER", &[("To: <sip:620@box>", "To: <sip:620@box>;tag=x")]), 1);
    }

    #[test]
    fn the_number_dialled_is_unescaped() {
        assert_eq!(called_user(&request("INVITE", &[("sip:620@", "sip:6%320;phone-context=x@")]).uri), "620");
        assert_eq!(
            called_user(&request("INVITE", &[("sip:620@box SIP", "tel:+97235551234;x=y SIP")]).uri),
            "+97235551234"
        );
        assert_eq!(called_user(&request("INVITE", &[("sip:620@box SIP", "sip:box SIP")]).uri), "");
    }
}
