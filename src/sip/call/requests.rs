//! Requests of the peer within a dialog, early ones included (RFC 3261 §12.2.2; UPDATE: 3311, PRACK: 3262, INFO: 6086).
//!
//! Each answer runs in the task that owns its transaction.

use std::time::Instant;

use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::rsip::{Header, Method, StatusCode};
use rsipstack::transaction::transaction::Transaction;
use tracing::{debug, warn};

use super::super::session_timer::SessionFields;
use super::super::shared::{ALLOW, SUPPORTED, unsupported};
use super::super::{Counter, DialogEvent, EndReason, fields};
use super::dtmf::{self, Info};
use super::{Call, Exchange, OurOffer, Phase};

impl Call {
    pub(super) fn on_request(&mut self, transaction: Transaction) {
        let request = &transaction.original;
        if request.method == Method::Invite && request.to_header().is_ok_and(|to| matches!(to.tag(), Ok(None))) {
            return self.on_replacing(transaction);
        }
        if !self.is_from_peer(&transaction) {
            return self.refuse(transaction, Counter::NoDialog, StatusCode::CallTransactionDoesNotExist, vec![]);
        }
        let sequence = request.cseq_header().and_then(|header| header.seq()).ok();
        if sequence.is_none() || sequence <= self.remote_sequence {
            return self.refuse(transaction, Counter::OutOfOrder, StatusCode::ServerInternalError, vec![]);
        }
        self.remote_sequence = sequence;
        // A BYE that asks for the impossible ends the call all the same.
        if request.method != Method::Bye
            && let Some(unsupported) = unsupported(&request.headers, &self.rules)
        {
            return self.refuse(transaction, Counter::Extension, StatusCode::BadExtension, vec![unsupported]);
        }
        self.session_timer.allowed(&request.headers);
        match request.method {
            Method::Bye => self.on_bye(transaction),
            Method::Options => {
                let mut headers = vec![Header::Allow(ALLOW.into()), Header::Accept("application/sdp".into())];
                headers.push(Header::Supported(SUPPORTED.into()));
                self.respond(transaction, StatusCode::OK, headers);
            }
            Method::Info => self.on_info(transaction),
            Method::Invite | Method::Update => self.on_change(transaction),
            Method::PRack => self.on_prack(transaction),
            Method::Notify => self.on_notify(transaction),
            Method::Refer => self.on_refer(transaction),
            _ => {
                let allow = vec![Header::Allow(ALLOW.into())];
                self.refuse(transaction, Counter::Method, StatusCode::MethodNotAllowed, allow);
            }
        }
    }

    pub(super) fn refuse(&self, transaction: Transaction, why: Counter, status: StatusCode, headers: Vec<Header>) {
        self.shared.counters.count(why);
        self.respond(transaction, status, headers);
    }

    /// RFC 3261 §12.2.2: the tag in From is the peer's. While a call of ours is early it may have several peers.
    fn is_from_peer(&self, transaction: &Transaction) -> bool {
        if self.is_client() && self.phase == Phase::Early {
            return true;
        }
        let tag = transaction.original.from_header().ok().and_then(|from| from.tag().ok().flatten());
        tag.is_some_and(|tag| tag.value() == self.dialog.id().remote_tag)
    }

    /// A re-INVITE or UPDATE.
    fn on_change(&mut self, transaction: Transaction) {
        let request = &transaction.original;
        let session = SessionFields::of(&request.headers);
        if let Err(minimum) = self.session_timer.check(&session) {
            return self.respond(transaction, StatusCode::SessionIntervalTooSmall, vec![minimum]);
        }
        let retry_after = || vec![Header::RetryAfter(fastrand::u32(1..=10).to_string().into())];
        let is_update = request.method == Method::Update;
        if is_update && request.body.is_empty() {
            self.refresh_target(request);
            let mut headers = vec![self.contact_header(), Header::Allow(ALLOW.into())];
            headers.push(Header::Supported(SUPPORTED.into()));
            if self.phase == Phase::Up && !self.hanging_up {
                headers.extend(self.session_timer.answer(Instant::now(), &session));
            }
            return self.respond(transaction, StatusCode::OK, headers);
        }
        // RFC 3261 §14.2 and RFC 3311 §5.2: one exchange at a time.
        let ours = self.exchange == Exchange::Ours || self.our_offer.as_ref().is_some_and(OurOffer::is_under_way);
        if ours {
            return self.respond(transaction, StatusCode::RequestPending, vec![]);
        }
        let theirs = self.their_offer || self.exchange != Exchange::Done;
        if theirs || (!is_update && self.phase == Phase::Early) {
            return self.respond(transaction, StatusCode::ServerInternalError, retry_after());
        }
        if !is_sdp(&transaction) {
            let accept = vec![Header::Accept("application/sdp".into())];
            return self.refuse(transaction, Counter::Unsupported, StatusCode::UnsupportedMediaType, accept);
        }
        self.on_offer(transaction);
    }

    fn on_prack(&mut self, transaction: Transaction) {
        let rack = fields::value(&transaction.original.headers, "RAck").unwrap_or_default();
        let acknowledged = self.reliable.as_mut().and_then(|reliable| reliable.acknowledge(Instant::now(), rack));
        let Some(acknowledged) = acknowledged else {
            return self.refuse(transaction, Counter::NoDialog, StatusCode::CallTransactionDoesNotExist, vec![]);
        };
        let body = &transaction.original.body;
        if !body.is_empty() && !is_sdp(&transaction) {
            let accept = vec![Header::Accept("application/sdp".into())];
            self.refuse(transaction, Counter::Unsupported, StatusCode::UnsupportedMediaType, accept);
        } else {
            let had_answered = self.exchange == Exchange::Done || self.exchange == Exchange::Theirs;
            let was_ours = self.exchange == Exchange::Ours;
            if acknowledged.carried_sdp {
                self.exchange = Exchange::Done;
            }
            match (body.is_empty(), self.exchange) {
                (true, _) => self.respond(transaction, StatusCode::OK, vec![]),
                // RFC 3262 §5: the answer to our offer, or a new offer after our answer.
                (false, Exchange::Done) if was_ours => {
                    let _ = self.events.try_send(DialogEvent::Acknowledged { sdp: body.clone() });
                    self.respond(transaction, StatusCode::OK, vec![]);
                }
                (false, Exchange::Done) if had_answered && !self.their_offer => self.on_offer(transaction),
                _ => self.respond(transaction, StatusCode::NotAcceptableHere, vec![]),
            }
        }
        self.release_answer();
    }

    fn on_info(&mut self, transaction: Transaction) {
        let request = &transaction.original;
        let kind = fields::value(&request.headers, "Content-Type").unwrap_or_default();
        match dtmf::read(kind, &request.body) {
            Info::Unknown => {
                let accept = vec![Header::Accept(dtmf::ACCEPT.into())];
                return self.refuse(transaction, Counter::Unsupported, StatusCode::UnsupportedMediaType, accept);
            }
            Info::Nothing => {}
            Info::Digit(digit, duration) => {
                // An owner who does not look misses digits.
                let _ = self.events.try_send(DialogEvent::Dtmf { digit, duration });
            }
        }
        self.respond(transaction, StatusCode::OK, vec![]);
    }

    pub(super) fn on_bye(&mut self, mut transaction: Transaction) {
        let mut dialog = self.dialog.clone();
        if self.phase == Phase::Early {
            if self.is_client() {
                // The stack acknowledges the 200 before it tells of it; without a 200 the BYE goes with the call.
                self.held_bye = Some(transaction);
                return;
            }
            // RFC 3261 §15.1.2: BYE in an early dialog ends the INVITE with 487.
            self.overruled = Some(EndReason::Cancelled);
            self.finish_provisional();
            self.respond(transaction, StatusCode::OK, vec![]);
            self.log_failure("ending the INVITE", dialog.reject(Some(StatusCode::RequestTerminated), None));
            return;
        }
        if self.bye_sent {
            return self.respond(transaction, StatusCode::OK, vec![]);
        }
        self.session_timer.stop();
        self.shared.spawn(async move {
            if let Err(error) = dialog.handle(&mut transaction).await {
                warn!("BYE could not be answered");
                debug!(%error, "BYE could not be answered");
            }
        });
    }
}

/// No body, or one that says that it is SDP.
fn is_sdp(transaction: &Transaction) -> bool {
    let kind = fields::value(&transaction.original.headers, "Content-Type").unwrap_or_default();
    transaction.original.body.is_empty()
        || kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/sdp"))
}
