//! Offers within a call: the peer's in re-INVITE, UPDATE and PRACK, ours in re-INVITE, and the refreshes of the session
//! timer, which are offers without news (RFC 3261 §14, RFC 3311, RFC 4028 §7.4).

use std::time::{Duration, Instant};

use rsipstack::rsip::{Header, Method, Response, StatusCode, StatusCodeKind};
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::super::session_timer::{Refresh, SessionFields, glare_delay};
use super::super::shared::{ALLOW, SUPPORTED, await_ack, drain};
use super::super::{ByeReason, DialogEvent, EndReason, Offer, Rejection, SipError};
use super::sending::{OwnRequest, drain_own};
use super::{Accepted, Call, Note, Phase, status_of};

/// How long the owner of a call may think about a re-INVITE; the caller's transaction would wait 32 s, the caller not.
const OFFER_PATIENCE: Duration = Duration::from_secs(2);
/// How often an offer of ours is sent that meets others, or asks for too short a session.
const MOST_TRIES: usize = 5;

type Done = oneshot::Sender<Result<Vec<u8>, SipError>>;

/// An offer of ours.
#[derive(Debug)]
pub(super) struct OurOffer {
    sdp: Vec<u8>,
    /// None: it only refreshes the session.
    done: Option<Done>,
    tries: usize,
    progress: Sending,
}

#[derive(Debug)]
enum Sending {
    /// It waits for the end of the peer's own offer.
    Behind,
    /// It met the peer's offer and waits its time.
    At(Instant),
    UnderWay,
}

impl OurOffer {
    /// When it is to be sent, when time decides that.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.progress {
            Sending::At(at) => Some(at),
            Sending::Behind | Sending::UnderWay => None,
        }
    }

    /// Whether the peer's offers have to stand back for it.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.progress, Sending::UnderWay)
    }
}

impl Call {
    /// Hands an offer to the owner and answers the request with what comes back.
    pub(super) fn on_offer(&mut self, mut transaction: Transaction) {
        self.their_offer = true;
        self.refresh_target(&transaction.original);
        let (reply, replied) = oneshot::channel();
        let offer = Offer { sdp: transaction.original.body.clone(), reply };
        // Nobody looks, or too much waits: the dropped reply channel leads to our last SDP.
        let _ = self.events.try_send(DialogEvent::Offer(offer));
        let (last_sdp, contact) = (self.local_sdp.clone(), self.contact_header());
        let (notes, events) = (self.notes.clone(), self.events.clone());
        let session = SessionFields::of(&transaction.original.headers);
        // PRACK refreshes no session.
        let session_headers = match transaction.original.method {
            Method::PRack => vec![],
            _ => self.session_timer.clone().answer(Instant::now(), &session),
        };
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
                    let mut headers = vec![contact, Header::ContentType("application/sdp".into())];
                    headers.extend([Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())]);
                    headers.extend(session_headers);
                    (StatusCode::OK, headers, Some(sdp))
                }
                Err(rejection) => {
                    let warning = match &rejection {
                        Rejection::NotAcceptable(warning) => vec![Header::Warning(warning.value().into())],
                        _ => vec![],
                    };
                    (status_of(&rejection), warning, None)
                }
            };
            let late_offer = transaction.original.body.is_empty();
            if let Err(error) = transaction.reply_with(status, headers, sdp.clone()).await {
                warn!("a re-INVITE or UPDATE could not be answered");
                debug!(%error, "a re-INVITE or UPDATE could not be answered");
            }
            let accepted = sdp.map(|sdp| Accepted { sdp, session });
            let mut acked = true;
            // Of a refusal the stack keeps the ACK to itself, and the next offer need not wait for it.
            if is_invite && accepted.is_some() {
                let ack = await_ack(&mut transaction).await;
                acked = ack.is_some();
                if let (Some(sdp), true) = (ack, late_offer) {
                    let _ = events.try_send(DialogEvent::Acknowledged { sdp });
                }
            }
            let _ = notes.send(Note::Offer { acked, accepted }).await;
            drain(transaction).await;
        });
    }

    /// The peer's offer is answered, and acknowledged where that is to be.
    pub(super) fn on_their_offer_done(&mut self, acked: bool, accepted: Option<Accepted>) {
        self.their_offer = false;
        if let Some(accepted) = accepted {
            self.local_sdp = accepted.sdp;
            if !self.hanging_up && self.phase == Phase::Up {
                self.session_timer.answer(Instant::now(), &accepted.session);
            }
        }
        if !acked {
            self.overruled = Some(EndReason::NoAck);
            self.send_bye();
        } else if self.our_offer.as_ref().is_some_and(|offer| matches!(offer.progress, Sending::Behind)) {
            self.send_offer();
        }
        self.release_answer();
    }

    /// The owner's offer.
    pub(super) fn offer(&mut self, sdp: Vec<u8>, done: Done) {
        let refused = match self.our_offer.as_mut() {
            _ if self.phase != Phase::Up || self.hanging_up => Some(SipError::Ended(EndReason::ByUs)),
            // A refresh that has not gone yet is done by the owner's offer as well.
            Some(offer) if offer.done.is_some() => Some(SipError::Failed("another offer is under way".into())),
            Some(refresh) if refresh.is_under_way() => Some(SipError::Failed("the session is being refreshed".into())),
            _ => None,
        };
        if let Some(error) = refused {
            let _ = done.send(Err(error));
            return;
        }
        self.our_offer = Some(OurOffer { sdp, done: Some(done), tries: 0, progress: Sending::Behind });
        if !self.their_offer {
            self.send_offer();
        }
    }

    /// Sends our offer, or sends it again.
    pub(super) fn send_offer(&mut self) {
        let Some(offer) = &mut self.our_offer else { return };
        if self.hanging_up {
            self.our_offer = None;
            return;
        }
        if self.their_offer {
            offer.progress = Sending::Behind;
            return;
        }
        offer.tries += 1;
        offer.progress = Sending::UnderWay;
        let mut headers = vec![Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())];
        headers.extend(self.session_timer.proposal());
        headers.push(Header::ContentType("application/sdp".into()));
        let request = OwnRequest { method: Method::Invite, headers, body: offer.sdp.clone() };
        let (requests, notes) = (self.own_requests.clone(), self.notes.clone());
        self.shared.spawn(async move {
            match requests.send(request).await {
                Ok((response, transaction)) => {
                    let _ = notes.send(Note::OurOffer(Ok(Box::new(response)))).await;
                    drain_own(transaction).await;
                }
                Err(error) => drop(notes.send(Note::OurOffer(Err(error))).await),
            }
        });
    }

    /// The final response to our offer, or the reason why there is none.
    pub(super) fn on_our_offer_done(&mut self, outcome: Result<Box<Response>, SipError>) {
        let Some(mut offer) = self.our_offer.take() else { return };
        let now = Instant::now();
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                self.session_timer.refresh_failed(now, 500, &SessionFields::default(), true, 0);
                if let Some(done) = offer.done {
                    let _ = done.send(Err(error));
                }
                return;
            }
        };
        let (code, fields) = (response.status_code.code(), SessionFields::of(&response.headers));
        if response.status_code.kind() == StatusCodeKind::Successful {
            self.accepted_by_peer(now, &response, &fields);
            self.local_sdp = offer.sdp;
            if let Some(done) = offer.done {
                let _ = done.send(Ok(response.body));
            }
            return;
        }
        if self.is_gone(code) {
            if let Some(done) = offer.done {
                let _ = done.send(Err(refused(&response)));
            }
            return;
        }
        let Some(done) = offer.done else {
            let random = fastrand::u32(..);
            return self.session_timer.refresh_failed(now, code, &fields, self.is_client(), random);
        };
        let again = match code {
            491 => Some(now + glare_delay(self.is_client(), fastrand::u32(..))),
            422 => fields.minimum().map(|minimum| {
                self.session_timer.raise_minimum(minimum);
                now
            }),
            _ => None,
        };
        match again {
            Some(at) if offer.tries < MOST_TRIES => {
                (offer.done, offer.progress) = (Some(done), Sending::At(at));
                self.our_offer = Some(offer);
            }
            _ => drop(done.send(Err(refused(&response)))),
        }
    }

    /// Refreshes the session, as the timer asks.
    pub(super) fn refresh_session(&mut self, refresh: Refresh) {
        if self.phase != Phase::Up || self.hanging_up {
            return;
        }
        match refresh {
            Refresh::Reinvite if self.our_offer.is_none() => {
                let (sdp, progress) = (self.local_sdp.clone(), Sending::Behind);
                self.our_offer = Some(OurOffer { sdp, done: None, tries: 0, progress });
                self.send_offer();
            }
            // The owner's own re-INVITE refreshes it, if it is answered; otherwise it is due again.
            Refresh::Reinvite => {
                self.session_timer.refresh_failed(Instant::now(), 491, &SessionFields::default(), true, 0);
            }
            Refresh::Update => {
                let mut headers = vec![Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())];
                headers.extend(self.session_timer.proposal());
                let request = OwnRequest { method: Method::Update, headers, body: vec![] };
                let (requests, notes) = (self.own_requests.clone(), self.notes.clone());
                self.shared.spawn(async move {
                    let outcome = requests.send(request).await.map(|(response, _)| Box::new(response));
                    let _ = notes.send(Note::Refreshed(outcome)).await;
                });
            }
        }
    }

    /// The final response to a refresh by UPDATE.
    pub(super) fn on_refreshed(&mut self, outcome: Result<Box<Response>, SipError>) {
        let now = Instant::now();
        match outcome {
            Ok(response) => {
                let (code, fields) = (response.status_code.code(), SessionFields::of(&response.headers));
                if response.status_code.kind() == StatusCodeKind::Successful {
                    self.accepted_by_peer(now, &response, &fields);
                } else {
                    let random = fastrand::u32(..);
                    self.session_timer.refresh_failed(now, code, &fields, self.is_client(), random);
                }
            }
            Err(_) => self.session_timer.refresh_failed(now, 500, &SessionFields::default(), true, 0),
        }
    }

    fn accepted_by_peer(&mut self, now: Instant, response: &Response, fields: &SessionFields) {
        self.refresh_target(response);
        if !self.hanging_up {
            self.session_timer.allowed(&response.headers);
            self.session_timer.answered(now, fields);
        }
    }

    /// RFC 3261 §12.2.1.2: a dialog that the peer does not know, or a peer that does not answer, ends the call.
    fn is_gone(&mut self, code: u16) -> bool {
        if !matches!(code, 408 | 481) {
            return false;
        }
        self.overruled = Some(EndReason::Expired);
        self.end(Rejection::Unavailable, ByeReason::Failure);
        true
    }
}

fn refused(response: &Response) -> SipError {
    SipError::Refused { code: response.status_code.code(), reason: response.status_code.text().to_owned() }
}
