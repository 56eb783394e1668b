//! One INVITE of ours on the wire: the dialog to be, its CANCEL, and the branches that nobody wants (RFC 3261 §9.1, §13.2.2.4).
//!
//! A transaction is owned by one task, [`own`]. The stack takes the first 2xx for the dialog; every other one, and one that comes
//! after the attempt was given up, is acknowledged by the stack and ended here with a BYE.

#![expect(clippy::result_large_err, reason = "the stack's own error, handed on once in a call")]

use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog::{DialogInner, DialogStateSender};
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::rsip::prelude::{HasHeaders, HeadersExt, ToTypedHeader};
use rsipstack::rsip::{self, Header, Method, Request, Response, SipMessage, StatusCodeKind};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipAddr;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::call::Note;
use super::connection::Flow;
use super::shared::Shared;
use super::streams::FlowError;
use super::{SipError, Target, Transport};

/// Longer than any answer to an INVITE is waited for (timer C and 64·T1).
const FORGET: Duration = Duration::from_secs(220);

/// How an INVITE transaction of ours went.
pub(super) enum Ending {
    /// A final response, perhaps of our own timer.
    Response(Box<Response>),
    /// It could not be sent, or its answer could not be worked with.
    Failed(String),
}

/// The INVITE of one attempt: all attempts of a call have the Call-ID and the tag in common, each has its CSeq (§8.1.3.5).
pub(super) struct Invitation<'a> {
    /// What goes into From, To, Contact, Route and the body, and further headers.
    pub(super) option: InviteOption,
    pub(super) tag: &'a str,
    pub(super) sequence: u32,
    /// The Request-URI, which a redirection may have made another one than that of To.
    pub(super) uri: rsip::Uri,
}

/// The request, before it has an answer to a challenge.
pub(super) fn request(shared: &Shared, invitation: Invitation<'_>) -> Result<Request, rsipstack::Error> {
    let Invitation { option, tag, sequence, uri } = invitation;
    let mut request = shared.layer.make_invite_request(&option)?;
    let from = request.from_header()?.typed()?.with_tag(tag.to_owned().into());
    request.headers.unique_push(from.into());
    // The stack makes it `sips` over TLS (RFC 3261 §8.1.1.8 wants that of sips URIs alone); the rest is stamped on the way out.
    request.headers.unique_push(rsip::typed::Contact::from(option.contact.clone()).into());
    request.headers.unique_push(rsip::typed::CSeq { seq: sequence, method: Method::Invite }.into());
    request.body = option.offer.unwrap_or_default();
    request.headers.unique_push(Header::ContentLength((request.body.len() as u32).into()));
    request.uri = uri;
    Ok(request)
}

/// The dialog that a request may make, and the transaction that [`own`] drives.
pub(super) fn prepare(
    shared: &Shared,
    request: Request,
    destination: SipAddr,
    states: DialogStateSender,
) -> Result<(InviteDialog, Transaction), rsipstack::Error> {
    let endpoint = shared.layer.endpoint.clone();
    let key = TransactionKey::from_request(&request, TransactionRole::Client)?;
    let mut transaction = Transaction::new_client(key, request.clone(), endpoint.clone(), None);
    transaction.destination = Some(destination);
    let id = DialogId::try_from(&transaction)?;
    let contact = request.contact_header()?.typed()?.uri;
    let events = transaction.tu_sender.clone();
    let inner = DialogInner::new(TransactionRole::Client, id, request, endpoint, states, None, Some(contact), events)?;
    Ok((InviteDialog::from_inner(Arc::new(inner)), transaction))
}

/// Where the task that owns a transaction of ours says how it goes.
pub(super) struct Reports {
    /// The call's task.
    pub(super) notes: mpsc::Sender<Note>,
    /// The way to the server is open: a connection, or nothing that has to be opened.
    pub(super) connected: oneshot::Sender<()>,
    pub(super) ended: oneshot::Sender<Ending>,
}

/// Opens the way to the server, then owns an INVITE transaction to its end.
///
/// `abandoned` ends the attempt at once. The peer is not told before it has said a word (§9.1): the transaction lives on for as
/// long as an answer may come, which is then cancelled or ended.
pub(super) async fn own(
    shared: Arc<Shared>,
    dialog: InviteDialog,
    mut transaction: Transaction,
    way: impl Future<Output = Result<Flow, FlowError>>,
    reports: Reports,
    abandoned: CancellationToken,
) {
    let Reports { notes, connected, ended } = reports;
    let way = match abandoned.run_until_cancelled(way).await {
        Some(way) => way.map_err(|error| error.to_string()),
        None => Err("given up".to_owned()),
    };
    match way {
        Ok(flow) => {
            transaction.connection = Some(flow.connection);
            transaction.destination = Some(flow.destination);
        }
        Err(reason) => {
            // The call's task or the driver may be over already.
            let _ = notes.send(Note::Invite(Some(SipError::Failed(reason.clone())))).await;
            let _ = ended.send(Ending::Failed(reason));
            return;
        }
    }
    let _ = connected.send(());
    // Dropping the stack's future here loses at most a response that is on its way to being looked at; its sender repeats it.
    let outcome = tokio::select! {
        biased;
        () = abandoned.cancelled() => None,
        outcome = dialog.process_invite(&mut transaction) => Some(outcome),
    };
    let (ending, wanted) = match outcome {
        Some(Ok((id, Some(response)))) => (Ok(response), Some(id.remote_tag)),
        Some(Ok((_, None))) => (Err("the transaction ended without a response".to_owned()), None),
        Some(Err(error)) => (Err(error.to_string()), None),
        None => (Err("the attempt was given up".to_owned()), None),
    };
    let problem = ending.as_ref().err().map(|reason| SipError::Failed(reason.clone()));
    let successful = ending.as_ref().is_ok_and(|response| response.status_code.kind() == StatusCodeKind::Successful);
    let _ = notes.send(Note::Invite(problem)).await;
    let _ = ended.send(ending.map_or_else(Ending::Failed, |response| Ending::Response(Box::new(response))));
    if successful || wanted.is_none() {
        // The whole transaction goes with the future.
        let _ = tokio::time::timeout(FORGET, end_other_branches(&shared, transaction, wanted)).await;
    }
}

/// Receives what the transaction still gets, and ends each dialog of it but the one whose tag is `wanted`.
async fn end_other_branches(shared: &Arc<Shared>, mut transaction: Transaction, wanted: Option<String>) {
    let mut cancelled = wanted.is_some();
    let mut ended: Vec<String> = wanted.into_iter().collect();
    while !transaction.is_terminated() {
        let Some(message) = transaction.receive().await else { return };
        let SipMessage::Response(response) = message else { continue };
        match response.status_code.kind() {
            StatusCodeKind::Provisional if !std::mem::replace(&mut cancelled, true) => {
                let (invite, destination) = (transaction.original.clone(), transaction.destination.clone());
                let of = shared.clone();
                shared.spawn(async move { cancel(&of, &invite, destination).await });
            }
            StatusCodeKind::Successful => {
                let tag = response.to_header().ok().and_then(|to| to.tag().ok().flatten());
                let tag = tag.map(|tag| tag.value().to_owned()).unwrap_or_default();
                if !ended.contains(&tag) {
                    ended.push(tag);
                    debug!("a 2xx that is not wanted is ended");
                    let connection = transaction.connection.clone().filter(|connection| connection.is_reliable());
                    match bye(shared, &transaction.original, &response) {
                        Ok(request) => drive(shared, request, None, connection),
                        Err(error) => debug!(%error, "a 2xx that is not wanted cannot be ended"),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Sends the CANCEL of an INVITE where that went, and waits until it is answered (§9.1). Call it after a provisional response.
pub(super) async fn cancel(shared: &Shared, invite: &Request, destination: Option<SipAddr>) {
    let mut request = invite.clone();
    request.method = Method::Cancel;
    request.body.clear();
    request.headers.retain(|header| {
        matches!(
            header,
            Header::Via(_)
                | Header::From(_)
                | Header::To(_)
                | Header::CallId(_)
                | Header::MaxForwards(_)
                | Header::Route(_)
                | Header::UserAgent(_)
        )
    });
    let Ok(sequence) = invite.cseq_header().and_then(|cseq| cseq.seq()) else { return };
    request.headers_mut().push(rsip::typed::CSeq { seq: sequence, method: Method::Cancel }.into());
    let Ok(key) = TransactionKey::from_request(&request, TransactionRole::Client) else { return };
    let mut transaction = Transaction::new_client(key, request, shared.layer.endpoint.clone(), None);
    transaction.destination = destination;
    if let Err(error) = transaction.send().await {
        debug!(%error, "CANCEL was not sent");
        return;
    }
    while transaction.receive().await.is_some() {}
}

/// The BYE of a dialog that a 2xx has made and that nothing else knows of.
fn bye(shared: &Shared, invite: &Request, response: &Response) -> Result<Request, rsipstack::Error> {
    let target = response
        .typed_contact_headers()?
        .first()
        .map(|contact| contact.uri.clone())
        .ok_or_else(|| rsipstack::Error::Error("the 2xx has no Contact".into()))?;
    let transport = invite.top_via_header()?.typed()?;
    let via = shared.layer.endpoint.get_via(
        Some(SipAddr { r#type: Some(transport.transport), addr: transport.uri.host_with_port.clone() }),
        None,
    )?;
    let sequence = invite.cseq_header()?.seq()? + 1;
    let mut headers: Vec<Header> = vec![
        via.into(),
        Header::MaxForwards(70.into()),
        Header::From(invite.from_header()?.clone()),
        Header::To(response.to_header()?.clone()),
        Header::CallId(invite.call_id_header()?.clone()),
        rsip::typed::CSeq { seq: sequence, method: Method::Bye }.into(),
        Header::UserAgent(shared.layer.endpoint.user_agent.clone().into()),
        Header::ContentLength(0.into()),
    ];
    let recorded = response.headers().iter().filter_map(|header| match header {
        Header::RecordRoute(route) => Some(route.value()),
        _ => None,
    });
    let mut routes: Vec<&str> = recorded.flat_map(list_of).collect();
    // §12.1.2: the client's route set is the recorded one in reverse.
    routes.reverse();
    headers.extend(routes.into_iter().map(|route| Header::Route(route.into())));
    Ok(Request { method: Method::Bye, uri: target, version: rsip::Version::V2, headers: headers.into(), body: vec![] })
}

/// Sends a request whose answer nobody waits for.
fn drive(
    shared: &Shared,
    request: Request,
    destination: Option<SipAddr>,
    connection: Option<rsipstack::transport::SipConnection>,
) {
    let endpoint = shared.layer.endpoint.clone();
    shared.spawn(async move {
        let Ok(key) = TransactionKey::from_request(&request, TransactionRole::Client) else { return };
        let mut transaction = Transaction::new_client(key, request, endpoint, connection);
        if destination.is_some() {
            transaction.destination = destination;
        }
        match transaction.send().await {
            Ok(()) => while transaction.receive().await.is_some() {},
            Err(error) => debug!(%error, "a request was not sent"),
        }
    });
}

/// The values of a comma-separated header, quotes and brackets respected.
pub(super) fn list_of(value: &str) -> Vec<&str> {
    let (mut values, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            b',' if !bracketed => {
                values.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    values.push(&value[start..]);
    values.into_iter().map(str::trim).filter(|value| !value.is_empty()).collect()
}

/// A target as the stack names it.
pub(super) fn address_of(target: &Target) -> SipAddr {
    let transport = match target.transport {
        Transport::Udp => rsip::Transport::Udp,
        Transport::Tcp => rsip::Transport::Tcp,
        Transport::Tls => rsip::Transport::Tls,
    };
    SipAddr { r#type: Some(transport), addr: target.address.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_or_brackets_does_not_end_a_value() {
        assert_eq!(
            list_of(r#""a, \", b" <sip:1@h;x=1,2>;q=0.5 , <sip:2@h>,,sip:3@h"#),
            [r#""a, \", b" <sip:1@h;x=1,2>;q=0.5"#, "<sip:2@h>", "sip:3@h"]
        );
        assert_eq!(list_of("  "), [""; 0]);
    }
}
