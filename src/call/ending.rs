//! What a call's record says of its end, its media and its cost: the words of signalling and conversation in those of the record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::conversation::Ending;
use crate::leg::quality::LineQuality;
use crate::media::LineCounters;
use crate::record::{Cause, Direction, Draft, DroppedOnRings, EndedBy, Ledger, LineRecord, Opening, Outcome};
use crate::sip::{ByeReason, EndReason, IncomingCall, RefusedCall, SipError};

use super::media::Agreement;
use super::tally::Tally;
use super::{Parts, Unanswered};

/// The record of a call that comes in.
pub(super) fn draft_of(parts: &Parts, call: &IncomingCall) -> Draft {
    Draft::open(
        &parts.records,
        Opening {
            call: &call.id,
            trunk: call.trunk.as_deref(),
            direction: Direction::In,
            caller: &call.caller.user,
            called: &call.called,
        },
    )
}

/// Records a call that signalling refused because there was no room for it.
pub fn record_refused(records: &Ledger, call: &RefusedCall) {
    let opening = Opening {
        call: &call.id,
        trunk: call.trunk.as_deref(),
        direction: Direction::In,
        caller: &call.caller.user,
        called: &call.called,
    };
    Draft::open(records, opening).unanswered(Outcome::Refused, EndedBy::Us, Cause::Busy, Some(call.status));
}

/// It was not answered, or not for long enough to be a call.
pub(super) fn unanswered(draft: &mut Draft, error: &Unanswered) {
    use EndedBy::{Peer, Us};
    let incoming = draft.record().direction == Direction::In;
    let refused = |cause, status| match incoming {
        true => (Outcome::Refused, Us, cause, Some(status)),
        false => (Outcome::Failed, Us, cause, None),
    };
    let (outcome, by, cause, status) = match error {
        Unanswered::NoRoom => refused(Cause::Busy, 486),
        Unanswered::Sdp(_) => refused(Cause::NotAcceptable, 488),
        Unanswered::Ports(_) | Unanswered::Wake(_) => refused(Cause::NoResources, 503),
        Unanswered::Sip(SipError::Refused { code, .. }) => {
            let cause = if matches!(code, 486 | 600) { Cause::Busy } else { Cause::Refused };
            (Outcome::Refused, Peer, cause, Some(*code))
        }
        Unanswered::Sip(SipError::Cancelled) => (Outcome::Cancelled, Us, Cause::Stopped, None),
        Unanswered::Sip(SipError::Ended(EndReason::Cancelled)) => {
            (Outcome::Cancelled, Peer, Cause::Cancelled, Some(487))
        }
        Unanswered::Sip(SipError::Ended(EndReason::ByUs)) => refused(Cause::Stopped, 480),
        Unanswered::Sip(SipError::Ended(reason)) | Unanswered::Ended(reason) => {
            let (by, cause) = ended_by_signalling(*reason);
            (Outcome::Failed, by, cause, None)
        }
        Unanswered::Sip(_) => (Outcome::Failed, Us, Cause::Signalling, None),
    };
    draft.unanswered(outcome, by, cause, status);
}

/// Why an answered call is over: as signalling tells it, or as we wanted it.
pub(super) fn ended(draft: &mut Draft, ended: &Result<EndReason, ByeReason>) {
    let (by, cause) = match ended {
        Ok(reason) => ended_by_signalling(*reason),
        Err(ByeReason::MediaTimeout) => (EndedBy::Us, Cause::MediaTimeout),
        Err(ByeReason::Normal) => (EndedBy::Us, Cause::Stopped),
        Err(ByeReason::NotAcceptable) => (EndedBy::Us, Cause::NotAcceptable),
        Err(ByeReason::SessionExpired) => (EndedBy::Us, Cause::SessionExpired),
        Err(ByeReason::Failure) => (EndedBy::Us, Cause::Fault),
    };
    draft.ended(by, cause);
}

fn ended_by_signalling(reason: EndReason) -> (EndedBy, Cause) {
    match reason {
        EndReason::ByPeer => (EndedBy::Peer, Cause::HungUp),
        EndReason::ByUs => (EndedBy::Us, Cause::Stopped),
        EndReason::Cancelled => (EndedBy::Peer, Cause::Cancelled),
        EndReason::NoAck => (EndedBy::Us, Cause::NoAck),
        EndReason::Expired => (EndedBy::Us, Cause::SessionExpired),
        EndReason::Refused => (EndedBy::Peer, Cause::Refused),
        EndReason::Failed => (EndedBy::Us, Cause::Signalling),
    }
}

/// The conversation wants it to end.
pub(super) const fn cause_of(why: Ending) -> Cause {
    match why {
        Ending::Silence => Cause::Silence,
        Ending::Goodbye => Cause::Goodbye,
        Ending::Trouble => Cause::Trouble,
        Ending::Message => Cause::Message,
        Ending::TooLong => Cause::TooLong,
    }
}

/// What the line was worth, what the media thread counted, and what was agreed on.
pub(super) fn line(draft: &mut Draft, quality: &LineQuality, counters: &LineCounters, agreement: &Agreement) {
    counts(draft, quality, counters);
    if let Some(agreed) = agreement.agreed() {
        draft.media(agreed.codec.name(), agreed.srtp.is_some());
    }
}

/// The same where nothing had to be agreed on.
pub(super) fn counts(draft: &mut Draft, quality: &LineQuality, counters: &LineCounters) {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let line = draft.line(quality);
    *line = LineRecord {
        frames: read(&counters.ticks),
        concealed: read(&counters.concealed),
        skipped: read(&counters.skipped),
        underruns: read(&counters.underruns),
        dropped: DroppedOnRings {
            events: read(&counters.event_overruns),
            heard: read(&counters.heard_overruns),
            commands: read(&counters.command_overruns),
            keys: read(&counters.key_overruns),
        },
        ..std::mem::take(line)
    };
}

/// What the turns were, and what they cost.
pub(super) fn tally(draft: &mut Draft, tally: &Tally) {
    let record = draft.record();
    (record.turns, record.requests, record.requests_wasted) = (tally.turns, tally.requests, tally.wasted);
    let usage = tally.usage;
    (record.prompt_tokens, record.audio_tokens, record.cached_tokens) = (usage.prompt, usage.audio, usage.cached);
    (record.answer_tokens, record.thought_tokens) = (usage.answer, usage.thoughts);
    (record.price, record.messages) = (tally.price(), tally.messages);
    draft.first_sounds(tally.first_sounds_ms.clone());
}
