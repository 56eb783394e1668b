//! Reliable provisional responses of one incoming INVITE (RFC 3262 §3), in virtual time.
//!
//! One response is under way at a time; the next one waits for its PRACK. The offers and answers in them (§5) are the
//! call's affair: [`Reliable::holds_answer`] says that the 200 has to wait. Not implemented: the client's part (the
//! stack sends PRACK), and sending a second response before the first one's PRACK where §3 would allow it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Responses that may wait for the PRACK of the one before; a call has two or three.
const WAITING: usize = 4;

/// A 180, or a 183 with SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provisional {
    pub(super) sdp: Option<Vec<u8>>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Send the response with `RSeq: sequence` and `Require: 100rel`.
    Send { sequence: u32, provisional: Provisional },
    /// No PRACK came for 64·T1: the INVITE is to be refused with a 5xx.
    Unacknowledged,
}

/// A PRACK that matches; the response that it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Whether the response had SDP in it.
    pub(super) carried_sdp: bool,
}

#[derive(Debug)]
struct Sent {
    sequence: u32,
    provisional: Provisional,
    interval: Duration,
    /// None once the final response has gone.
    resend_at: Option<Instant>,
    give_up_at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reliable {
    t1: Duration,
    /// CSeq number of the INVITE.
    invite: u32,
    next: u32,
    sent: Option<Sent>,
    waiting: VecDeque<Provisional>,
    output: Option<Output>,
}

impl Reliable {
    /// `invite` is the CSeq number of the INVITE, `first` the first RSeq, less than 2³¹ and best drawn by lot.
    pub(super) fn new(t1: Duration, invite: u32, first: u32) -> Self {
        let next = first.clamp(1, (1 << 31) - 1);
        Self { t1, invite, next, sent: None, waiting: VecDeque::new(), output: None }
    }

    /// Sends it, after those before it have been acknowledged. False when too many wait, or it is too late.
    pub(super) fn send(&mut self, now: Instant, provisional: Provisional) -> bool {
        if self.waiting.len() >= WAITING || self.sent.as_ref().is_some_and(|sent| sent.resend_at.is_none()) {
            return false;
        }
        self.waiting.push_back(provisional);
        self.send_next(now);
        true
    }

    /// Takes the RAck of a PRACK; none: it matches nothing, and the PRACK gets 481.
    pub(super) fn acknowledge(&mut self, now: Instant, rack: &str) -> Option<Acknowledged> {
        let sent = self.sent.as_ref()?;
        let mut words = rack.split_ascii_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok());
        let matches = number(words.next()) == Some(sent.sequence)
            && number(words.next()) == Some(self.invite)
            && words.next() == Some("INVITE")
            && words.next().is_none();
        let sent = self.sent.take_if(|_| matches)?;
        if matches!(self.output, Some(Output::Send { .. })) {
            self.output = None;
        }
        if sent.resend_at.is_some() {
            self.send_next(now);
        }
        Some(Acknowledged { carried_sdp: sent.provisional.sdp.is_some() })
    }

    /// Whether the 200 must wait, since an offer or answer is on its way in a response without a PRACK (§3).
    pub(super) fn holds_answer(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.provisional.sdp.is_some())
    }

    /// The final response goes: nothing is sent any more; a late PRACK still matches.
    pub(super) fn finish(&mut self) {
        self.waiting.clear();
        self.output = None;
        if let Some(sent) = &mut self.sent {
            sent.resend_at = None;
        }
    }

    /// When [`Reliable::handle_timeout`] is due; changes with every call but this one.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let sent = self.sent.as_ref()?;
        Some(sent.resend_at?.min(sent.give_up_at))
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(sent) = &mut self.sent else { return };
        let Some(resend_at) = sent.resend_at else { return };
        if now >= sent.give_up_at {
            self.finish();
            self.output = Some(Output::Unacknowledged);
        } else if now >= resend_at {
            sent.interval *= 2;
            sent.resend_at = Some(now + sent.interval);
            self.output = Some(Output::Send { sequence: sent.sequence, provisional: sent.provisional.clone() });
        }
    }

    /// What is to be done.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.output.take()
    }

    fn send_next(&mut self, now: Instant) {
        if self.sent.is_some() {
            return;
        }
        let Some(provisional) = self.waiting.pop_front() else { return };
        let sequence = self.next;
        self.next += 1;
        self.output = Some(Output::Send { sequence, provisional: provisional.clone() });
        self.sent = Some(Sent {
            sequence,
            provisional,
            interval: self.t1,
            resend_at: Some(now + self.t1),
            give_up_at: now + self.t1 * 64,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    fn ringing() -> Provisional {
        Provisional { sdp: None }
    }

    fn early_media() -> Provisional {
        Provisional { sdp: Some(b"v=0".to_vec()) }
    }

    fn sequence(reliable: &mut Reliable) -> u32 {
        match reliable.poll() {
            Some(Output::Send { sequence, .. }) => sequence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_response_is_sent_again_at_doubled_times_until_its_prack() {
        let start = Instant::now();
        let mut reliable = Reliable::new(T1, 7, 100);
        assert!(reliable.send(start, ringing()));
        assert_eq!(sequence(&mut reliable), 100);
        let mut times = vec![];
        for _ in 0..3 {
            let at = reliable.poll_timeout().unwrap();
            reliable.handle_timeout(at);
            assert_eq!(sequence(&mut reliable), 100);
            times.push((at - start).as_millis());
        }
        assert_eq!(times, [500, 1500, 3500]);
        assert_eq!(reliable.acknowledge(start, "100 7 INVITE"), Some(Acknowledged { carried_sdp: false }));
        assert_eq!(reliable.poll_timeout(), None);
    }

    #[test]
    fn a_prack_that_matches_nothing_is_none() {
        let now = Instant::now();
        let mut reliable = Reliable::new(T1, 7, 100);
        assert_eq!(reliable.acknowledge(now, "100 7 INVITE"), None);
        reliable.send(now, early_media());
        for rack in ["", "100", "101 7 INVITE", "100 8 INVITE", "100 7 UPDATE", "100 7 INVITE x", "-1 7 INVITE"] {
            assert_eq!(reliable.acknowledge(now, rack), None, "{rack}");
        }
        assert!(reliable.acknowledge(now, "100  7  INVITE").is_some());
        assert_eq!(reliable.acknowledge(now, "100 7 INVITE"), None, "the second time");
    }

    #[test]
    fn the_second_response_waits_for_the_prack_of_the_first() {
        let now = Instant::now();
        let mut reliable = Reliable::new(T1, 1, 5);
        reliable.send(now, ringing());
        assert_eq!(sequence(&mut reliable), 5);
        reliable.send(now, early_media());
        assert_eq!(reliable.poll(), None);
        assert!(!reliable.holds_answer(), "its SDP has not been sent");
        reliable.acknowledge(now, "5 1 INVITE");
        assert_eq!(sequence(&mut reliable), 6);
        assert!(reliable.holds_answer());
        reliable.acknowledge(now, "6 1 INVITE");
        assert!(!reliable.holds_answer());
    }

    #[test]
    fn without_a_prack_the_invite_is_refused_after_64_t1() {
        let start = Instant::now();
        let mut reliable = Reliable::new(T1, 1, 5);
        reliable.send(start, early_media());
        let mut sendings = 0;
        let end = loop {
            match reliable.poll() {
                Some(Output::Send { .. }) => sendings += 1,
                Some(Output::Unacknowledged) => break reliable.poll_timeout(),
                None => {
                    let at = reliable.poll_timeout().unwrap();
                    assert!(at <= start + T1 * 64);
                    reliable.handle_timeout(at);
                }
            }
        };
        assert_eq!((sendings, end), (7, None));
    }

    #[test]
    fn after_the_final_response_nothing_is_sent_but_a_late_prack_matches() {
        let now = Instant::now();
        let mut reliable = Reliable::new(T1, 1, 5);
        reliable.send(now, ringing());
        reliable.send(now, early_media());
        reliable.finish();
        assert_eq!((reliable.poll(), reliable.poll_timeout()), (None, None));
        assert!(!reliable.send(now, ringing()));
        assert!(reliable.acknowledge(now, "5 1 INVITE").is_some());
        assert_eq!(reliable.poll(), None);
    }

    #[test]
    fn the_responses_that_wait_are_bounded() {
        let now = Instant::now();
        let mut reliable = Reliable::new(T1, 1, 5);
        let taken = (0..100).filter(|_| reliable.send(now, ringing())).count();
        assert_eq!(taken, WAITING + 1);
    }
}
