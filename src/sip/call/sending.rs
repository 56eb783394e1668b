//! Requests of ours within a dialog (RFC 3261 §12.2.1), built and sent here with a CSeq of our own.
//!
//! The stack's dialog takes a 401 or 407 without a password of its own for the end of the call, so its `request`, `bye`
//! and `reinvite` are not used once the dialog stands. The Via is a placeholder that is stamped when the request
//! leaves; the way is the first Route's or the remote target's, unless the flow of the INVITE is kept. Not implemented: strict routers (a Route without `lr`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::rsip::{self, Header, Method, Response, SipMessage, StatusCode, StatusCodeKind};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipConnection;

use super::super::SipError;
use super::super::authorizer::{Authorization, Authorizer};
use super::super::shared::Shared;

/// Sendings of one request, challenges and stale nonces included.
const MOST_SENDINGS: usize = 4;

/// One request, without what the dialog adds.
#[derive(Debug, Clone)]
pub(in super::super) struct OwnRequest {
    pub(in super::super) method: Method,
    pub(in super::super) headers: Vec<Header>,
    pub(in super::super) body: Vec<u8>,
}

/// What sending within one dialog takes.
pub(in super::super) struct Requests {
    shared: Arc<Shared>,
    dialog: InviteDialog,
    /// The flow that the INVITE came on, when it is one that lasts (RFC 5626).
    connection: Option<SipConnection>,
    authorizer: Option<Arc<dyn Authorizer>>,
    /// The last CSeq that was given out here.
    sequence: AtomicU32,
}

impl Requests {
    pub(super) fn new(
        shared: Arc<Shared>,
        dialog: InviteDialog,
        connection: Option<SipConnection>,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Self {
        let connection = connection.filter(SipConnection::is_reliable);
        Self { shared, dialog, connection, authorizer, sequence: AtomicU32::new(0) }
    }

    /// Sends it and waits for its final response, answering challenges on the way. A peer that says nothing for 64·T1
    /// counts as 408. Whoever gets the transaction of an INVITE must drain it, for the ACKs of repeated 200s.
    ///
    /// # Errors
    /// [`SipError::Failed`] when it cannot be sent at all.
    pub(in super::super) async fn send(&self, request: OwnRequest) -> Result<(Response, Transaction), SipError> {
        let mut authorization = self.authorizer.as_ref().map(|authorizer| authorizer.begin());
        let mut sendings = 0;
        loop {
            sendings += 1;
            let mut transaction = self.transaction(&request, authorization.as_deref_mut())?;
            transaction.send().await.map_err(failed)?;
            let response = final_response(&mut transaction).await;
            let response = response.ok_or_else(|| SipError::Failed("the SIP stack has stopped".into()))?;
            if let Some(authorization) = &mut authorization {
                let fields: Vec<(&str, &str)> =
                    response.headers.iter().map(|header| (header.name(), header.value())).collect();
                let challenge = StatusCode::Unauthorized == response.status_code
                    || StatusCode::ProxyAuthenticationRequired == response.status_code;
                if !challenge {
                    authorization.answered(&fields);
                } else if authorization.challenged(&fields) && sendings < MOST_SENDINGS {
                    continue;
                }
            }
            return Ok((response, transaction));
        }
    }

    /// The next CSeq: higher than any of ours and of the stack's.
    fn next_sequence(&self) -> u32 {
        let stack = self.dialog.snapshot().local_cseq;
        let next = |last: u32| last.max(stack).saturating_add(1);
        let updated = self.sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        updated.map_or(stack, next)
    }

    fn transaction(
        &self,
        request: &OwnRequest,
        authorization: Option<&mut (dyn Authorization + 'static)>,
    ) -> Result<Transaction, SipError> {
        let endpoint = &self.shared.layer.endpoint;
        let dialog = self.dialog.snapshot();
        let is_alive =
            |connection: &&SipConnection| !connection.cancel_token().is_some_and(|token| token.is_cancelled());
        let connection = self.connection.as_ref().filter(is_alive).cloned();

        let (local, remote) = match dialog.role {
            TransactionRole::Client => (dialog.from.to_string(), dialog.to.to_string()),
            TransactionRole::Server => (dialog.to.to_string(), dialog.from.to_string()),
        };
        let sequence = rsip::typed::CSeq { seq: self.next_sequence(), method: request.method };
        let mut headers: Vec<Header> = vec![
            Header::Via(endpoint.get_via(None, None).map_err(failed)?.into()),
            Header::MaxForwards(70.into()),
            Header::From(local.into()),
            Header::To(remote.into()),
            Header::CallId(dialog.id.call_id.clone().into()),
            Header::CSeq(sequence.into()),
            Header::UserAgent(endpoint.user_agent.clone().into()),
        ];
        headers.extend(dialog.route_set.iter().cloned().map(Header::Route));
        let targets = matches!(request.method, Method::Invite | Method::Update | Method::Refer | Method::Notify);
        if let Some(contact) = dialog.local_contact.filter(|_| targets) {
            headers.push(rsip::typed::Contact::from(contact).into());
        }
        if let Some(authorization) = authorization {
            let uri = dialog.remote_uri.to_string();
            for (name, value) in authorization.headers(&request.method.to_string(), &uri, &request.body) {
                headers.push(match name {
                    "Proxy-Authorization" => Header::ProxyAuthorization(value.into()),
                    _ => Header::Authorization(value.into()),
                });
            }
        }
        headers.extend(request.headers.iter().cloned());
        let length = u32::try_from(request.body.len()).unwrap_or(u32::MAX);
        headers.push(Header::ContentLength(length.into()));
        let built = rsip::Request {
            method: request.method,
            uri: dialog.remote_uri,
            version: rsip::Version::V2,
            headers: headers.into(),
            body: request.body.clone(),
        };
        let key = TransactionKey::from_request(&built, TransactionRole::Client).map_err(failed)?;
        Ok(Transaction::new_client(key, built, endpoint.clone(), connection))
    }
}

fn failed(error: rsipstack::Error) -> SipError {
    SipError::Failed(error.to_string())
}

async fn final_response(transaction: &mut Transaction) -> Option<Response> {
    loop {
        match transaction.receive().await? {
            SipMessage::Response(response) if response.status_code.kind() != StatusCodeKind::Provisional => {
                return Some(response);
            }
            _ => {}
        }
    }
}

/// Acknowledges what is left of repeated 200s to an INVITE of ours.
pub(super) async fn drain_own(mut transaction: Transaction) {
    if transaction.original.method == Method::Invite {
        while !transaction.is_terminated() && transaction.receive().await.is_some() {}
    }
}
