//! An incoming call before its answer: ringing, early media, both reliable where they have to be (RFC 3262), the 200.

use std::time::{Duration, Instant};

use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::rsip::{Header, Headers, Request, StatusCode};
use tokio::sync::oneshot;

use super::super::fields;
use super::super::reliable::{Provisional, Reliable};
use super::super::session_timer::{SessionFields, SessionTimer};
use super::super::shared::{ALLOW, SUPPORTED};
use super::super::{DialogRules, EndReason, SipError};
use super::{Call, Exchange, Phase};
use crate::config::Policy;

/// Whether an INVITE fits the line's rules.
///
/// # Errors
/// 421 when it cannot do what we require, 422 when its session is too short, and the header that says what would do.
pub(in super::super) fn check_invite(headers: &Headers, rules: &DialogRules) -> Result<(), (StatusCode, Header)> {
    if rules.reliable_provisional == Policy::Required && !can(headers, "100rel") {
        return Err((StatusCode::ExtensionRequired, Header::Require("100rel".into())));
    }
    let session = SessionTimer::new(rules).check(&SessionFields::of(headers));
    session.map_err(|minimum| (StatusCode::SessionIntervalTooSmall, minimum))
}

/// The machine for a call's provisional responses when they have to be reliable.
pub(super) fn reliable(invite: &Request, rules: &DialogRules, t1: Duration) -> Option<Reliable> {
    let wanted = match rules.reliable_provisional {
        Policy::Off => false,
        Policy::Optional => fields::lists(&invite.headers, "Require", "100rel"),
        Policy::Required => can(&invite.headers, "100rel"),
    };
    let sequence = invite.cseq_header().and_then(|header| header.seq()).ok()?;
    wanted.then(|| Reliable::new(t1, sequence, fastrand::u32(1..1 << 30)))
}

fn can(headers: &Headers, extension: &str) -> bool {
    fields::lists(headers, "Require", extension) || fields::lists(headers, "Supported", extension)
}

impl Call {
    /// Sends 180.
    pub(super) fn ring(&mut self) {
        if self.phase == Phase::Early && !self.hanging_up {
            self.provisional(None);
        }
    }

    /// Sends 183 with SDP: the answer, or the offer where that is possible.
    pub(super) fn early_media(&mut self, sdp: Vec<u8>) {
        if self.phase != Phase::Early || self.hanging_up {
            return;
        }
        match (self.exchange, &self.reliable) {
            // RFC 3261 §13.2.1: an offer of ours needs a response that is sure to arrive.
            (Exchange::None, None) => return self.provisional(None),
            (Exchange::None, Some(_)) => self.exchange = Exchange::Ours,
            (Exchange::Theirs, _) => {}
            // One offer or answer is all that the responses to an INVITE can carry.
            (Exchange::Ours | Exchange::Done, _) => return,
        }
        self.local_sdp.clone_from(&sdp);
        self.provisional(Some(sdp));
    }

    fn provisional(&mut self, sdp: Option<Vec<u8>>) {
        match &mut self.reliable {
            // More than a handful waiting says nothing new.
            Some(reliable) => drop(reliable.send(Instant::now(), Provisional { sdp })),
            None => self.send_provisional(vec![], sdp),
        }
    }

    /// Sends one as [`Reliable`] wants it, for the first time or again.
    pub(super) fn send_reliably(&self, sequence: u32, provisional: Provisional) {
        let headers = vec![Header::Require("100rel".into()), Header::RSeq(sequence.to_string().into())];
        self.send_provisional(headers, provisional.sdp);
    }

    fn send_provisional(&self, mut headers: Vec<Header>, sdp: Option<Vec<u8>>) {
        headers.push(Header::Allow(ALLOW.into()));
        if sdp.is_some() {
            headers.push(Header::ContentType("application/sdp".into()));
        }
        self.log_failure("ringing", self.dialog.ringing(Some(headers), sdp));
    }

    /// Whether the 200 has to wait: for a PRACK (RFC 3262 §3), or for our answer to an offer in an early UPDATE.
    fn holds_answer(&self) -> bool {
        self.their_offer || self.reliable.as_ref().is_some_and(Reliable::holds_answer)
    }

    /// Answers, as soon as nothing is outstanding that the 200 has to wait for.
    pub(super) fn answer(&mut self, sdp: Vec<u8>, done: oneshot::Sender<Result<(), SipError>>) {
        if self.phase == Phase::Early && !self.hanging_up && self.holds_answer() {
            self.held_answer = Some((sdp, done));
            return;
        }
        let outcome = if self.phase != Phase::Early || self.hanging_up {
            Err(SipError::Ended(EndReason::ByUs))
        } else if self.dialog.state().is_terminated() {
            Err(SipError::Ended(EndReason::Cancelled))
        } else {
            self.accept(sdp)
        };
        let _ = done.send(outcome);
    }

    /// Something that the 200 may have waited for has come.
    pub(super) fn release_answer(&mut self) {
        if !self.holds_answer()
            && let Some((sdp, done)) = self.held_answer.take()
        {
            self.answer(sdp, done);
        }
    }

    /// No provisional response is sent any more.
    pub(super) fn finish_provisional(&mut self) {
        if let Some(reliable) = &mut self.reliable {
            reliable.finish();
        }
    }

    fn accept(&mut self, sdp: Vec<u8>) -> Result<(), SipError> {
        self.finish_provisional();
        let mut headers = vec![Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())];
        headers.extend(self.session_timer.answer(Instant::now(), &self.session));
        // RFC 6337 §3.1.1: an answer that has arrived is not repeated.
        let body = match self.exchange {
            Exchange::Done | Exchange::Ours => None,
            Exchange::Theirs | Exchange::None => {
                let ours = self.exchange == Exchange::None;
                self.exchange = if ours { Exchange::Ours } else { Exchange::Done };
                self.local_sdp.clone_from(&sdp);
                headers.push(Header::ContentType("application/sdp".into()));
                Some(sdp)
            }
        };
        self.dialog.accept(Some(headers), body).map_err(|error| SipError::Failed(error.to_string()))?;
        self.phase = Phase::AwaitingAck;
        Ok(())
    }
}
