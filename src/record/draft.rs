//! A call's record while the call goes on. It is handed in when it is dropped: once, whatever ends the call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::warn;

use super::entry::{
    BufferRecord, CallRecord, Cause, Direction, EndedBy, Kind, LineRecord, Outcome, SCHEMA_VERSION, SideRecord, rounded,
};
use super::moment::rfc3339;
use crate::leg::buffering::Buffering;
use crate::leg::quality::{LineQuality, Side};
use crate::privacy::redact_number;

/// Characters of a name or number that are kept: what the other side writes into an INVITE may be very long.
const LONGEST: usize = 256;

/// Where the records of calls are handed in. A full channel loses the record, and that is counted.
#[derive(Debug, Clone)]
pub struct Ledger {
    records: mpsc::Sender<CallRecord>,
    dropped: Arc<AtomicU64>,
    /// Numbers are not masked.
    whole_numbers: bool,
}

impl Ledger {
    /// One in which `room` records may wait, and its other end.
    pub fn new(room: usize, whole_numbers: bool) -> (Self, mpsc::Receiver<CallRecord>) {
        let (records, out) = mpsc::channel(room);
        (Self { records, dropped: Arc::default(), whole_numbers }, out)
    }

    /// How many records were lost.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    fn hand_in(&self, record: CallRecord) {
        if self.records.try_send(record).is_err() {
            self.dropped.fetch_add(1, Relaxed);
            warn!("a call's record was dropped: too many wait to be written");
        }
    }

    fn number(&self, number: &str, others: bool) -> String {
        match others && !self.whole_numbers {
            true => bounded(&redact_number(number)),
            false => bounded(number),
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// What is known of a call when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Its Call-ID.
    pub call: &'a str,
    /// Its trunk.
    pub trunk: Option<&'a str>,
    /// Who called whom.
    pub direction: Direction,
    /// The caller's number; empty when we call.
    pub caller: &'a str,
    /// The number that is called.
    pub called: &'a str,
}

/// The record of a call that goes on.
#[derive(Debug)]
pub struct Draft {
    ledger: Ledger,
    began: Instant,
    answered: Option<Instant>,
    /// When and why it ended; the first that is told.
    ended: Option<(Instant, EndedBy, Cause)>,
    record: CallRecord,
}

impl Draft {
    /// Begins the record of a call that begins.
    pub fn open(ledger: &Ledger, opening: Opening<'_>) -> Self {
        let Opening { call, trunk, direction, caller, called } = opening;
        let record = CallRecord {
            version: SCHEMA_VERSION,
            call: bounded(call),
            trunk: trunk.map(bounded),
            direction,
            kind: Kind::Conversation,
            caller: ledger.number(caller, true),
            called: ledger.number(called, direction == Direction::Out),
            start: rfc3339(SystemTime::now()),
            ring_ms: 0,
            talk_ms: None,
            duration_ms: 0,
            outcome: Outcome::Failed,
            ended_by: EndedBy::Us,
            cause: Cause::Fault,
            status: None,
            codec: None,
            srtp: false,
            turns: 0,
            requests: 0,
            requests_wasted: 0,
            prompt_tokens: 0,
            audio_tokens: 0,
            cached_tokens: 0,
            answer_tokens: 0,
            thought_tokens: 0,
            price: None,
            first_sound_p50_ms: None,
            first_sound_max_ms: None,
            transfers: 0,
            messages: 0,
            line: None,
        };
        Self { ledger: ledger.clone(), began: Instant::now(), answered: None, ended: None, record }
    }

    /// The fields that have no method of their own here.
    pub fn record(&mut self) -> &mut CallRecord {
        &mut self.record
    }

    /// It was answered.
    pub fn answered(&mut self, at: Instant) {
        self.answered = Some(at);
        self.record.outcome = Outcome::Answered;
    }

    /// It was not answered.
    pub fn unanswered(&mut self, outcome: Outcome, by: EndedBy, cause: Cause, status: Option<u16>) {
        (self.record.outcome, self.record.status) = (outcome, status);
        self.ended(by, cause);
    }

    /// It ends now, and why. What is told first counts: what follows is only how.
    pub fn ended(&mut self, by: EndedBy, cause: Cause) {
        self.ended.get_or_insert_with(|| (Instant::now(), by, cause));
    }

    /// What the codec is, and whether the media are encrypted.
    pub fn media(&mut self, codec: &str, srtp: bool) {
        (self.record.codec, self.record.srtp) = (Some(codec.to_owned()), srtp);
    }

    /// What the line was worth; the media thread's counts are added to it by who has them.
    pub fn line(&mut self, quality: &LineQuality) -> &mut LineRecord {
        let side = |side: Side| SideRecord {
            packets: side.packets,
            loss_percent: rounded(f64::from(side.loss) * 100.0, 2),
            jitter_ms: rounded(side.jitter.as_secs_f64() * 1e3, 2),
            r: rounded(f64::from(side.rating), 1),
            mos: rounded(f64::from(side.opinion), 2),
        };
        let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3, 2);
        let buffer = |buffer: Buffering| BufferRecord {
            delay_ms: ms(buffer.delay),
            target_ms: ms(buffer.target),
            stretched: buffer.stretched,
            stretched_ms: ms(buffer.stretched_by),
            shortened: buffer.shortened,
            shortened_ms: ms(buffer.shortened_by),
        };
        let counts = quality.counts;
        self.record.line.insert(LineRecord {
            heard: quality.heard.map(side),
            said: quality.said.map(side),
            round_trip_ms: quality.round_trip.map(ms),
            buffer: quality.buffering.map(buffer),
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            sent: counts.sent,
            ..LineRecord::default()
        })
    }

    /// How long the turns were without a sound, in milliseconds.
    pub fn first_sounds(&mut self, mut ms: Vec<f64>) {
        ms.sort_by(f64::total_cmp);
        self.record.first_sound_p50_ms = (!ms.is_empty()).then(|| ms[(ms.len() - 1) / 2]);
        self.record.first_sound_max_ms = ms.last().copied();
    }

    fn finish(&mut self, now: Instant) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A task that is not finished and does not panic was aborted: that is done when the service ends.
        let unexplained = if std::thread::panicking() { Cause::Fault } else { Cause::Stopped };
        let (at, by, cause) = self.ended.unwrap_or((now, EndedBy::Us, unexplained));
        (self.record.ended_by, self.record.cause) = (by, cause);
        self.record.duration_ms = ms(at.saturating_duration_since(self.began));
        let ring = self.answered.unwrap_or(at).saturating_duration_since(self.began);
        self.record.ring_ms = ms(ring);
        self.record.talk_ms = self.answered.map(|_| self.record.duration_ms.saturating_sub(self.record.ring_ms));
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.finish(Instant::now());
        self.ledger.hand_in(self.record.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(direction: Direction) -> Opening<'static> {
        Opening { call: "c", trunk: None, direction, caller: "+972501234567", called: "+97235551234" }
    }

    #[tokio::test]
    async fn a_call_that_ends_in_a_panic_or_an_abort_is_recorded_once_all_the_same() {
        let (ledger, mut records) = Ledger::new(8, false);
        let draft = Draft::open(&ledger, opening(Direction::In));
        let hung = tokio::spawn(async move {
            let _draft = draft;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        hung.abort();
        assert_eq!(records.recv().await.unwrap().cause, Cause::Stopped);
        let draft = Draft::open(&ledger, opening(Direction::In));
        let panicking = std::thread::spawn(move || {
            let mut draft = draft;
            draft.answered(Instant::now());
            panic!("a fault of ours, on purpose");
        });
        assert!(panicking.join().is_err());
        let record = records.recv().await.unwrap();
        assert_eq!((record.outcome, record.cause, record.ended_by), (Outcome::Answered, Cause::Fault, EndedBy::Us));
        assert!(record.talk_ms.is_some() && records.try_recv().is_err());
    }

    #[test]
    fn others_numbers_are_masked_unless_they_are_wanted_whole_and_lengths_are_bounded() {
        let numbers = |whole, direction| {
            let (ledger, mut records) = Ledger::new(1, whole);
            drop(Draft::open(&ledger, opening(direction)));
            let record = records.try_recv().unwrap();
            (record.caller, record.called)
        };
        assert_eq!(numbers(false, Direction::In), ("…67".into(), "+97235551234".into()));
        assert_eq!(numbers(false, Direction::Out), ("…67".into(), "…34".into()));
        assert_eq!(numbers(true, Direction::Out), ("+972501234567".into(), "+97235551234".into()));
        let (ledger, mut records) = Ledger::new(1, false);
        let long = "x".repeat(60_000);
        drop(Draft::open(&ledger, Opening { called: &long, call: &long, ..opening(Direction::In) }));
        let record = records.try_recv().unwrap();
        assert_eq!((record.called.len(), record.call.len()), (LONGEST, LONGEST));
    }

    #[test]
    fn a_full_ledger_counts_what_it_loses_and_the_first_cause_stays() {
        let (ledger, mut records) = Ledger::new(1, false);
        for _ in 0..3 {
            let mut draft = Draft::open(&ledger, opening(Direction::In));
            draft.ended(EndedBy::Us, Cause::MediaTimeout);
            draft.ended(EndedBy::Peer, Cause::HungUp);
            draft.first_sounds(vec![500.0, 300.0, 400.0, 900.0]);
        }
        let record = records.try_recv().unwrap();
        assert_eq!((record.ended_by, record.cause), (EndedBy::Us, Cause::MediaTimeout));
        assert_eq!((record.first_sound_p50_ms, record.first_sound_max_ms), (Some(400.0), Some(900.0)));
        assert_eq!(ledger.dropped().load(Relaxed), 2);
        assert!(records.try_recv().is_err());
    }
}
