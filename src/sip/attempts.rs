//! Which server is asked next when we place a call: RFC 3263 §4.3 (failover), RFC 3261 §8.1.3.4 (3xx), §22.2 (digest), RFC 4028 §7.4 (422).
//!
//! A sans-IO machine. A call that we place is a series of attempts, one INVITE each, until one of them rings through or nothing is
//! left to try. Not implemented: 305 Use Proxy, 380 Alternative Service, trying several contacts at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{SipError, Target, Transport};

/// A target that has said nothing for so long is given up while there is another one: four sendings over UDP.
const NO_ANSWER: Duration = Duration::from_millis(3500);
/// A connection that is not up by then is given up.
const CONNECT: Duration = Duration::from_secs(2);
/// A cancelled INVITE is waited for so long: 64·T1.
const CANCELLED: Duration = Duration::from_secs(32);
/// How long somebody may ring, or a proxy look for somebody: less than the stack's timer C (RFC 3261 §16.6), after which it forgets the call.
const RINGING: Duration = Duration::from_secs(170);
/// Longest Retry-After that is waited for; a caller would not wait longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Redirections in one call.
const REDIRECTIONS: usize = 5;
/// INVITEs in one call, whatever the reasons.
const ATTEMPTS: usize = 24;
/// Challenges answered in a row, a stale nonce and a second realm included.
const CHALLENGES: usize = 4;
/// Times that the same target is asked again after 491, 422 or 503 with Retry-After.
const REPEATS: usize = 3;

/// What an attempt runs into when it waits too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// No connection.
    Connect,
    /// Connected, or sent, and not a word from the other side.
    NoAnswer,
    /// The time that the other side asked us to wait is over.
    Again,
    /// Somebody has said a word, and nobody has answered since.
    Ringing,
    /// The other side does not end what was cancelled (RFC 3261 §9.1).
    Cancel,
}

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    /// Look up the targets of a URI.
    Resolve {
        /// The URI.
        uri: String,
    },
    /// Send an INVITE.
    Invite {
        /// The Request-URI.
        uri: String,
        /// Where to.
        target: Target,
        /// A Min-SE that a server asked for with 422.
        minimum: Option<Duration>,
    },
    /// Give the attempt in progress up, for another one or for good.
    Abandon,
    /// Cancel the attempt in progress, which then ends with a response.
    Cancel,
    /// Nothing more is tried.
    Over(Outcome),
}

/// Why the attempts have ended without an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// A final response that leaves nothing to try.
    Refused { code: u16, reason: String },
    /// The credentials were not taken, or there are none.
    Credentials { code: u16, reason: String },
    /// No name led anywhere.
    NoTarget { reason: String },
    /// Nobody was reached.
    Unreachable { tried: usize },
    /// By ourselves.
    Cancelled,
}

impl From<Outcome> for SipError {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Refused { code, reason } => Self::Refused { code, reason },
            Outcome::Credentials { code, reason } => Self::Credentials { code, reason },
            Outcome::NoTarget { reason } => Self::NoTarget { reason },
            Outcome::Unreachable { tried } => Self::Unreachable { tried },
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// A final response that is no 2xx, as far as the next attempt depends on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) min_se: Option<Duration>,
    /// Contact URIs with their q.
    pub(super) contacts: Vec<(String, f32)>,
    /// Of 401 and 407: whether there is an answer to the challenge, or why not.
    pub(super) authorized: Option<Result<(), String>>,
}

/// Whether a redirection may lead to this host.
pub(super) type MayLeadTo = Box<dyn Fn(&str) -> bool + Send + Sync>;

enum State {
    Idle,
    Resolving,
    /// An INVITE is on its way, or was answered with a 1xx.
    Trying {
        target: Target,
        /// Any 1xx has come: it is not abandoned any more.
        heard: bool,
        /// A 1xx other than 100 has come: a phone rings.
        rings: bool,
    },
    /// The same target is asked again later.
    Waiting(Target),
    Cancelling,
    Over,
}

/// The attempts of one call.
pub(super) struct Attempts {
    may_lead_to: MayLeadTo,
    /// Our wish for Session-Expires; nought without one.
    session_expires: Duration,
    /// Spreads the wait after 491.
    jitter: Duration,
    uri: String,
    targets: VecDeque<Target>,
    /// Contacts of redirections that were not tried yet, best first.
    contacts: VecDeque<String>,
    seen: Vec<String>,
    redirections: usize,
    invites: usize,
    challenges: usize,
    repeats: usize,
    minimum: Option<Duration>,
    state: State,
    deadline: Option<(Instant, Timer)>,
    refusal: Option<Outcome>,
    /// It was cancelled since nobody answered, not by the owner's wish.
    unanswered: bool,
    acts: VecDeque<Act>,
}

impl Attempts {
    /// Begins with `uri`. `random` in 0..=190 spreads the wait after a 491 in steps of 10 ms.
    pub(super) fn new(uri: String, may_lead_to: MayLeadTo, session_expires: Duration, random: u32) -> Self {
        Self {
            may_lead_to,
            session_expires,
            jitter: Duration::from_millis(2100 + u64::from(random.min(190)) * 10),
            seen: vec![uri.clone()],
            acts: VecDeque::from([Act::Resolve { uri: uri.clone() }]),
            uri,
            targets: VecDeque::new(),
            contacts: VecDeque::new(),
            redirections: 0,
            invites: 0,
            challenges: 0,
            repeats: 0,
            minimum: None,
            state: State::Resolving,
            deadline: None,
            refusal: None,
            unanswered: false,
        }
    }

    /// What to do next; drain it after every call.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// When [`Attempts::handle_timeout`] wants to be called; may change with every call.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.deadline
    }

    /// The targets of the URI that was to be resolved, best first; none: why.
    pub(super) fn handle_targets(&mut self, now: Instant, targets: Result<Vec<Target>, String>) {
        if !matches!(self.state, State::Resolving) {
            return;
        }
        match targets {
            Ok(targets) => self.targets = targets.into(),
            Err(reason) => {
                self.refusal.get_or_insert(Outcome::NoTarget { reason });
            }
        }
        self.next_target(now);
    }

    /// The connection to the target is up.
    pub(super) fn handle_connected(&mut self) {
        if let Some((at, Timer::Connect)) = self.deadline {
            self.deadline = (!self.targets.is_empty()).then(|| (at - CONNECT + NO_ANSWER, Timer::NoAnswer));
        }
    }

    /// A provisional response has come.
    pub(super) fn handle_provisional(&mut self, now: Instant, is_100: bool) {
        if let State::Trying { heard, rings, .. } = &mut self.state {
            if !std::mem::replace(heard, true) {
                self.deadline = Some((now + RINGING, Timer::Ringing));
            }
            *rings |= !is_100;
        }
    }

    /// The attempt could not be sent, or its connection broke.
    pub(super) fn handle_failure(&mut self, now: Instant) {
        match &self.state {
            State::Cancelling => self.cancelled(),
            State::Trying { .. } => self.next_target(now),
            _ => {}
        }
    }

    /// A final response other than 2xx. `code` 408 may be our own timer B.
    pub(super) fn handle_refusal(&mut self, now: Instant, refusal: Refusal) {
        let (target, rings) = match &self.state {
            State::Trying { target, rings, .. } => (target.clone(), *rings),
            State::Cancelling => return self.cancelled(),
            _ => return,
        };
        self.deadline = None;
        let Refusal { code, reason, retry_after, min_se, contacts, authorized } = refusal;
        match code {
            401 | 407 => {
                self.challenges += 1;
                match authorized {
                    Some(Ok(())) if self.challenges <= CHALLENGES => self.invite(now, target),
                    Some(Err(reason)) => self.over(Outcome::Credentials { code, reason }),
                    Some(Ok(())) => {
                        let reason = "the other side asks for them again and again".to_owned();
                        self.over(Outcome::Credentials { code, reason });
                    }
                    None => self.over(Outcome::Refused { code, reason }),
                }
            }
            422 if self.raise_minimum(min_se) => self.invite(now, target),
            491 if self.may_repeat() => self.wait(now, self.jitter, target),
            503 if !self.targets.is_empty() => {
                self.refusal = Some(Outcome::Refused { code, reason });
                self.next_target(now);
            }
            503 if retry_after.is_some_and(|after| after <= PATIENCE) && self.may_repeat() => {
                self.wait(now, retry_after.unwrap_or_default(), target);
            }
            // A phone that rang and was not picked up: another server would only make it ring again.
            408 if !rings => {
                self.refusal = Some(Outcome::Refused { code, reason });
                self.next_target(now);
            }
            300..=302 => {
                self.redirect(contacts);
                self.refusal = Some(Outcome::Refused { code, reason });
                self.next_contact();
            }
            600.. => self.over(Outcome::Refused { code, reason }),
            _ => {
                // §8.1.3.4: the next contact of the redirection, if there was one.
                self.refusal = Some(Outcome::Refused { code, reason });
                self.next_contact();
            }
        }
    }

    /// The owner does not want the call any more.
    pub(super) fn cancel(&mut self, now: Instant) {
        match self.state {
            State::Trying { heard: true, .. } => {
                self.state = State::Cancelling;
                self.deadline = Some((now + CANCELLED, Timer::Cancel));
                self.acts.push_back(Act::Cancel);
            }
            State::Trying { heard: false, .. } => {
                self.acts.push_back(Act::Abandon);
                self.over(Outcome::Cancelled);
            }
            State::Cancelling | State::Over => {}
            State::Idle | State::Resolving | State::Waiting(_) => self.over(Outcome::Cancelled),
        }
    }

    /// The deadline has come; a call too early or too many does nothing.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some((_, timer)) = self.deadline.filter(|(at, _)| *at <= now) else { return };
        self.deadline = None;
        match (timer, std::mem::replace(&mut self.state, State::Idle)) {
            (Timer::Again, State::Waiting(target)) => self.invite(now, target),
            (Timer::Connect | Timer::NoAnswer, State::Trying { heard: false, .. }) => {
                self.acts.push_back(Act::Abandon);
                self.next_target(now);
            }
            (Timer::Ringing, State::Trying { .. }) => {
                self.unanswered = true;
                self.state = State::Cancelling;
                self.deadline = Some((now + CANCELLED, Timer::Cancel));
                self.acts.push_back(Act::Cancel);
            }
            (Timer::Cancel, State::Cancelling) => {
                self.acts.push_back(Act::Abandon);
                self.cancelled();
            }
            (_, state) => self.state = state,
        }
    }

    /// What was cancelled is over: by the owner's wish, or since nobody answered.
    fn cancelled(&mut self) {
        self.over(match self.unanswered {
            true => Outcome::Refused { code: 408, reason: "nobody answered".into() },
            false => Outcome::Cancelled,
        });
    }

    fn may_repeat(&mut self) -> bool {
        self.repeats += 1;
        self.repeats <= REPEATS
    }

    /// RFC 4028 §7.4: the session interval may not be below the server's minimum.
    fn raise_minimum(&mut self, min_se: Option<Duration>) -> bool {
        match min_se {
            // A day is the longest that anybody can mean.
            Some(min_se) if min_se > Duration::from_secs(86_400) => false,
            Some(min_se) if min_se > self.minimum.unwrap_or(self.session_expires) && self.may_repeat() => {
                self.minimum = Some(min_se);
                true
            }
            _ => false,
        }
    }

    fn wait(&mut self, now: Instant, wait: Duration, target: Target) {
        self.state = State::Waiting(target);
        self.deadline = Some((now + wait, Timer::Again));
    }

    fn redirect(&mut self, mut contacts: Vec<(String, f32)>) {
        self.redirections += 1;
        if self.redirections > REDIRECTIONS {
            return;
        }
        contacts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let mut best_first = Vec::new();
        for (uri, _) in contacts {
            let allowed = host_of(&uri).is_some_and(|host| (self.may_lead_to)(host));
            if allowed && !self.seen.contains(&uri) && self.seen.len() < ATTEMPTS {
                self.seen.push(uri.clone());
                best_first.push(uri);
            }
        }
        for uri in best_first.into_iter().rev() {
            self.contacts.push_front(uri);
        }
    }

    fn next_contact(&mut self) {
        self.targets.clear();
        match self.contacts.pop_front() {
            Some(uri) => {
                self.uri = uri.clone();
                self.challenges = 0;
                self.state = State::Resolving;
                self.acts.push_back(Act::Resolve { uri });
            }
            None => {
                let tried = self.invites;
                let outcome = self.refusal.take().unwrap_or(Outcome::Unreachable { tried });
                self.over(outcome);
            }
        }
    }

    fn next_target(&mut self, now: Instant) {
        self.deadline = None;
        match self.targets.pop_front() {
            Some(target) => {
                self.challenges = 0;
                self.repeats = 0;
                self.invite(now, target);
            }
            None => self.next_contact(),
        }
    }

    fn invite(&mut self, now: Instant, target: Target) {
        self.invites += 1;
        if self.invites > ATTEMPTS {
            let tried = self.invites - 1;
            let outcome = self.refusal.take().unwrap_or(Outcome::Unreachable { tried });
            return self.over(outcome);
        }
        self.deadline = match target.transport {
            // The last target has until timer B.
            Transport::Udp if self.targets.is_empty() => None,
            Transport::Udp => Some((now + NO_ANSWER, Timer::NoAnswer)),
            Transport::Tcp | Transport::Tls => Some((now + CONNECT, Timer::Connect)),
        };
        self.state = State::Trying { target: target.clone(), heard: false, rings: false };
        self.acts.push_back(Act::Invite { uri: self.uri.clone(), target, minimum: self.minimum });
    }

    fn over(&mut self, outcome: Outcome) {
        self.state = State::Over;
        self.deadline = None;
        self.acts.push_back(Act::Over(outcome));
    }
}

/// The host of a SIP URI, in brackets if it is an IPv6 address; `None` for another scheme.
pub(super) fn host_of(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
        return None;
    }
    let rest = rest.split(['?', '>']).next().unwrap_or_default();
    let authority = rest.rsplit_once('@').map_or(rest, |(_, authority)| authority);
    let authority = authority.split(';').next().unwrap_or_default();
    let host = match authority.find(']') {
        Some(end) if authority.starts_with('[') => &authority[..=end],
        _ => authority.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(n: u8, transport: Transport) -> Target {
        Target { address: ([192, 0, 2, n], 5060).into(), transport, name: "trunk.example".into() }
    }

    fn udp(n: u8) -> Target {
        target(n, Transport::Udp)
    }

    fn machine() -> Attempts {
        Attempts::new("sip:620@trunk.example".into(), Box::new(|host| host == "trunk.example"), secs(1800), 0)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn refusal(code: u16) -> Refusal {
        Refusal { code, reason: "No".into(), ..Default::default() }
    }

    fn acts(machine: &mut Attempts) -> Vec<Act> {
        std::iter::from_fn(|| machine.poll()).collect()
    }

    /// The only thing to do: an INVITE there.
    fn invited(machine: &mut Attempts) -> (String, Target) {
        match acts(machine).pop() {
            Some(Act::Invite { uri, target, .. }) => (uri, target),
            other => panic!("{other:?}"),
        }
    }

    fn over(machine: &mut Attempts) -> Outcome {
        match acts(machine).pop() {
            Some(Act::Over(outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// A machine that has sent its first INVITE.
    fn inviting(now: Instant, targets: Vec<Target>) -> Attempts {
        let mut machine = machine();
        assert_eq!(acts(&mut machine), [Act::Resolve { uri: "sip:620@trunk.example".into() }]);
        let first = targets[0].clone();
        machine.handle_targets(now, Ok(targets));
        assert_eq!(invited(&mut machine).1, first);
        machine
    }

    fn timeout(machine: &mut Attempts) -> Instant {
        let (at, _) = machine.poll_timeout().expect("a deadline");
        machine.handle_timeout(at);
        at
    }

    #[test]
    fn a_silent_udp_server_is_left_within_8_s_even_when_two_are_silent() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2), udp(3)]);
        machine.handle_timeout(start + secs(1));
        assert_eq!(machine.poll(), None, "too early");
        timeout(&mut machine);
        assert_eq!(acts(&mut machine)[0], Act::Abandon);
        let at = timeout(&mut machine);
        assert_eq!(invited(&mut machine).1, udp(3));
        assert!(at - start <= secs(8), "{:?}", at - start);
        assert_eq!(machine.poll_timeout(), None, "the last one has until timer B");
        machine.handle_refusal(at, refusal(408));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 408, reason: "No".into() });
    }

    #[test]
    fn a_stream_that_does_not_connect_is_left_after_2_s_and_a_mute_one_within_4_s() {
        let start = Instant::now();
        let tcp = |n| target(n, Transport::Tcp);
        let mut machine = inviting(start, vec![tcp(1), tcp(2), tcp(3)]);
        assert_eq!(timeout(&mut machine) - start, secs(2));
        assert_eq!(invited(&mut machine).1, tcp(2));
        machine.handle_connected();
        let at = timeout(&mut machine);
        assert!(at - start - secs(2) <= secs(4), "{:?}", at - start);
        assert_eq!(invited(&mut machine).1, tcp(3));
        assert_eq!(timeout(&mut machine) - at, secs(2), "no connection, no timer B");
        assert_eq!(over(&mut machine), Outcome::Unreachable { tried: 3 });
    }

    #[test]
    fn a_server_that_has_said_a_word_is_not_abandoned() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, true);
        machine.handle_timeout(start + secs(60));
        assert_eq!(machine.poll(), None);
    }

    #[test]
    fn a_call_that_nobody_answers_is_cancelled_before_the_stack_forgets_it() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, true);
        machine.handle_provisional(start + secs(60), false);
        assert_eq!(timeout(&mut machine) - start, RINGING);
        assert_eq!(acts(&mut machine), [Act::Cancel]);
        machine.handle_refusal(start + RINGING, refusal(487));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 408, reason: "nobody answered".into() });
    }

    #[test]
    fn a_phone_that_nobody_picks_up_does_not_ring_again_by_another_server() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, false);
        machine.handle_refusal(start, refusal(408));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 408, reason: "No".into() });
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, true);
        machine.handle_refusal(start, refusal(408));
        assert_eq!(invited(&mut machine).1, udp(2), "the server itself did not get through");
    }

    #[test]
    fn a_503_leads_to_the_next_server_and_a_busy_callee_does_not() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_refusal(start, Refusal { retry_after: Some(secs(1)), ..refusal(503) });
        assert_eq!(invited(&mut machine).1, udp(2));
        machine.handle_refusal(start, refusal(486));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 486, reason: "No".into() });
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_refusal(start, refusal(486));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 486, reason: "No".into() });
    }

    #[test]
    fn the_only_server_is_asked_again_when_its_retry_after_is_short() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        machine.handle_refusal(start, Refusal { retry_after: Some(secs(3)), ..refusal(503) });
        assert_eq!(machine.poll(), None);
        assert_eq!(timeout(&mut machine) - start, secs(3));
        assert_eq!(invited(&mut machine).1, udp(1));
        machine.handle_refusal(start, Refusal { retry_after: Some(secs(3600)), ..refusal(503) });
        assert_eq!(over(&mut machine), Outcome::Refused { code: 503, reason: "No".into() });
    }

    #[test]
    fn a_server_that_says_503_with_retry_after_for_ever_is_left() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        let mut asked = 1;
        loop {
            machine.handle_refusal(start, Refusal { retry_after: Some(secs(0)), ..refusal(503) });
            if machine.poll_timeout().is_none() {
                break;
            }
            timeout(&mut machine);
            invited(&mut machine);
            asked += 1;
        }
        assert_eq!(asked, 1 + REPEATS);
    }

    #[test]
    fn a_challenge_is_answered_at_the_same_server_and_rejected_credentials_end_it() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_refusal(start, Refusal { authorized: Some(Ok(())), ..refusal(407) });
        assert_eq!(invited(&mut machine).1, udp(1));
        machine.handle_refusal(start, Refusal { authorized: Some(Err("wrong".into())), ..refusal(407) });
        assert_eq!(over(&mut machine), Outcome::Credentials { code: 407, reason: "wrong".into() });
        let mut machine = inviting(start, vec![udp(1)]);
        for _ in 0..CHALLENGES {
            machine.handle_refusal(start, Refusal { authorized: Some(Ok(())), ..refusal(401) });
            invited(&mut machine);
        }
        machine.handle_refusal(start, Refusal { authorized: Some(Ok(())), ..refusal(401) });
        assert!(matches!(over(&mut machine), Outcome::Credentials { code: 401, .. }));
    }

    #[test]
    fn a_session_interval_that_is_too_small_is_raised_once_for_each_minimum() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        machine.handle_refusal(start, Refusal { min_se: Some(secs(3600)), ..refusal(422) });
        let Some(Act::Invite { minimum, .. }) = machine.poll() else { panic!("no INVITE") };
        assert_eq!(minimum, Some(secs(3600)));
        machine.handle_refusal(start, Refusal { min_se: Some(secs(3600)), ..refusal(422) });
        assert_eq!(over(&mut machine), Outcome::Refused { code: 422, reason: "No".into() });
    }

    #[test]
    fn after_491_it_asks_again_between_2_1_and_4_s() {
        let start = Instant::now();
        for (random, wait) in [(0, 2100), (190, 4000), (9999, 4000)] {
            let mut machine = Attempts::new("sip:1@h".into(), Box::new(|_| true), secs(0), random);
            machine.handle_targets(start, Ok(vec![udp(1)]));
            machine.handle_refusal(start, refusal(491));
            assert_eq!(timeout(&mut machine) - start, Duration::from_millis(wait));
            assert_eq!(invited(&mut machine).1, udp(1));
        }
    }

    #[test]
    fn contacts_of_a_redirection_are_tried_by_q_and_never_outside_the_trunk() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        let contact = |uri: &str, q| (uri.to_owned(), q);
        let contacts = vec![
            contact("sip:low@trunk.example", 0.1),
            contact("sip:premium@elsewhere.example", 1.0),
            contact("sip:high@trunk.example:5070;transport=udp", 0.9),
        ];
        machine.handle_refusal(start, Refusal { contacts, ..refusal(302) });
        let high = "sip:high@trunk.example:5070;transport=udp";
        assert_eq!(acts(&mut machine), [Act::Resolve { uri: high.into() }]);
        machine.handle_targets(start, Ok(vec![udp(7)]));
        assert_eq!(invited(&mut machine), (high.into(), udp(7)));
        machine.handle_refusal(start, refusal(480));
        assert_eq!(acts(&mut machine), [Act::Resolve { uri: "sip:low@trunk.example".into() }]);
        machine.handle_targets(start, Err("no such name".into()));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 480, reason: "No".into() });
    }

    #[test]
    fn a_redirection_loop_ends_and_so_does_a_long_chain() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        let contacts = vec![("sip:620@trunk.example".to_owned(), 1.0)];
        machine.handle_refusal(start, Refusal { contacts, ..refusal(302) });
        assert_eq!(over(&mut machine), Outcome::Refused { code: 302, reason: "No".into() });

        let mut machine = inviting(start, vec![udp(1)]);
        let mut followed = 0;
        loop {
            let contacts = vec![(format!("sip:{followed}@trunk.example"), 1.0)];
            machine.handle_refusal(start, Refusal { contacts, ..refusal(301) });
            match machine.poll() {
                Some(Act::Resolve { .. }) => followed += 1,
                Some(Act::Over(_)) => break,
                other => panic!("{other:?}"),
            }
            machine.handle_targets(start, Ok(vec![udp(1)]));
            invited(&mut machine);
        }
        assert_eq!(followed, REDIRECTIONS);
    }

    #[test]
    fn a_6xx_ends_it_although_contacts_are_left() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1)]);
        let contacts = vec![("sip:1@trunk.example".to_owned(), 1.0), ("sip:2@trunk.example".to_owned(), 0.5)];
        machine.handle_refusal(start, Refusal { contacts, ..refusal(300) });
        acts(&mut machine);
        machine.handle_targets(start, Ok(vec![udp(1)]));
        acts(&mut machine);
        machine.handle_refusal(start, refusal(603));
        assert_eq!(over(&mut machine), Outcome::Refused { code: 603, reason: "No".into() });
    }

    #[test]
    fn a_call_can_be_cancelled_at_any_point() {
        let start = Instant::now();
        let mut machine = machine();
        acts(&mut machine);
        machine.cancel(start);
        assert_eq!(over(&mut machine), Outcome::Cancelled);
        machine.handle_targets(start, Ok(vec![udp(1)]));
        assert_eq!(machine.poll(), None);

        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, true);
        machine.cancel(start);
        assert_eq!(acts(&mut machine), [Act::Cancel]);
        machine.handle_refusal(start, Refusal { authorized: Some(Ok(())), ..refusal(401) });
        assert_eq!(over(&mut machine), Outcome::Cancelled);

        let mut machine = inviting(start, vec![udp(1)]);
        machine.handle_refusal(start, refusal(491));
        machine.cancel(start);
        assert_eq!(over(&mut machine), Outcome::Cancelled);
        machine.handle_timeout(start + secs(10));
        assert_eq!(machine.poll(), None);
    }

    #[test]
    fn who_has_not_said_a_word_gets_no_cancel_and_who_does_not_heed_it_is_left() {
        let start = Instant::now();
        let given_up = [Act::Abandon, Act::Over(Outcome::Cancelled)];
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.cancel(start);
        assert_eq!(acts(&mut machine), given_up);
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_provisional(start, false);
        machine.cancel(start);
        assert_eq!(acts(&mut machine), [Act::Cancel]);
        assert_eq!(timeout(&mut machine) - start, CANCELLED);
        assert_eq!(acts(&mut machine), given_up);
    }

    #[test]
    fn a_broken_flow_leads_to_the_next_server() {
        let start = Instant::now();
        let mut machine = inviting(start, vec![udp(1), udp(2)]);
        machine.handle_failure(start);
        assert_eq!(invited(&mut machine).1, udp(2));
        machine.handle_failure(start);
        assert_eq!(over(&mut machine), Outcome::Unreachable { tried: 2 });
    }

    #[test]
    fn a_host_is_found_in_every_form_of_a_uri() {
        assert_eq!(host_of("sip:+972;ext=5@Host.example:5070;transport=tcp?x=y"), Some("Host.example"));
        assert_eq!(host_of("sips:[2001:db8::1]:5061"), Some("[2001:db8::1]"));
        assert_eq!(host_of("sip:a%40b@h"), Some("h"));
        for none in ["tel:+1", "sip:", "sip:1@", "", "mailto:a@b"] {
            assert_eq!(host_of(none), None, "{none}");
        }
    }
}
