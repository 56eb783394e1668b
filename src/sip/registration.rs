//! One trunk's registration as a machine in virtual time (RFC 3261 §10, 3327, 3608, 5626 for one flow, 3263 §4.3).
//!
//! ```text
//!   Resolve ─► Targets ─► Reach ─► Reached ─► Send ─► Response ─► Up … refresh … Up
//!                           ▲ next target at once: no answer, 408, 5xx      │
//!                           └── after all of them: again within RETRY ──────┘   refused: 5 min, doubling to 1 h
//! ```
//!
//! A trunk that does not register (`ip-auth`) goes the same way with OPTIONS, or with nothing, in place of REGISTER.
//! The machine does no I/O and takes no time from the system: feed it [`Input`]s and time-outs, carry out its
//! [`Output`]s. Not implemented: redirection (3xx counts as a refusal), several flows, GRUU.

mod interface;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) use self::interface::{Input, Kind, Output, RegistrationOptions, Request, Response, Up, Why};
use super::digest::{Challenged, Credentials, Exchange};
use super::{Target, Transport};
use crate::config::Keepalive;

/// Time between two rounds over all targets while none can be reached. With a round's own time it keeps the promise to
/// be reachable within 5 s after the other side or the link is back.
const RETRY: Duration = Duration::from_secs(3);
/// Rounds at that pace while servers answer without serving; then the pause doubles up to the longest.
const PROMPT_ROUNDS: u32 = 20;
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A registrar that takes us for a second or two is not asked more often than this.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// How long one target has for its answer; retransmissions at 0.5, 1.5 and 3.5 s fall into it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(4);
/// How long a connection may take, and one with TLS, whose handshake is a few round trips more.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const TLS_PATIENCE: Duration = Duration::from_secs(4);
/// With many targets that are all down, what each of them gets at least.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long names may take while targets are known from before, and when none are.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RESOLVE_PATIENCE: Duration = Duration::from_secs(6);
/// How long a stop waits for the binding to be removed.
const UNREGISTER_PATIENCE: Duration = Duration::from_millis(1500);
/// After a refusal: the first wait, and the longest.
const REFUSED_WAIT: Duration = Duration::from_secs(5 * 60);
const REFUSED_LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// A refused trunk tries again after a change of our addresses, but not sooner than this after the refusal.
const REFUSED_LEAST_WAIT: Duration = Duration::from_secs(30);
/// The longest Retry-After that is obeyed: a wrong one must not keep the box off the line for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
/// The longest registration that is asked for or believed.
const LONGEST_EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);
/// A registration refused as too brief (423) is asked for anew so often in a row.
const MAX_TOO_BRIEF: u32 = 2;
/// New addresses that are registered at once in a row; a NAT that shows a new one each time waits for the refresh.
const MAX_MOVES: u32 = 2;
/// Targets that are kept of what a name stands for.
const MAX_TARGETS: usize = 16;
/// Without a registration, names are looked up again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// A request on its way.
#[derive(Debug)]
struct Attempt {
    number: u64,
    target: Target,
    removes: bool,
    deadline: Instant,
    /// Known when the target is reached.
    contact: Option<SocketAddr>,
    /// The contact that this request takes out.
    replaces: Option<SocketAddr>,
    exchange: Exchange,
    too_brief: u32,
}

#[derive(Debug)]
struct Binding {
    target: Target,
    contact: SocketAddr,
    until: Instant,
}

#[derive(Debug)]
struct Ping {
    number: u64,
    target: Target,
    deadline: Instant,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Registration {
    options: RegistrationOptions,
    credentials: Option<Arc<Mutex<Credentials>>>,
    random: fastrand::Rng,
    outputs: VecDeque<Output>,
    targets: Vec<Target>,
    /// Targets that had their turn in this round.
    tried: Vec<Target>,
    /// Targets that asked for peace (Retry-After).
    barred: Vec<(Target, Instant)>,
    /// The one that served us last.
    current: Option<Target>,
    round_started: Instant,
    /// All targets have failed at least once since the line was up.
    all_down: bool,
    /// What a server said that is there and does not serve, in this round; and in how many rounds on end.
    unserved: Option<u16>,
    unserved_rounds: u32,
    resolving_until: Option<Instant>,
    attempt: Option<Attempt>,
    attempts: u64,
    sequence: u32,
    binding: Option<Binding>,
    /// When the next round begins.
    next_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    ping: Option<Ping>,
    pings_missed: u32,
    /// What is asked for; grows by 423.
    expires: Duration,
    refusals: u32,
    refused_at: Option<Instant>,
    moves: u32,
    /// The registrar does not take two contacts in one request.
    one_contact: bool,
    /// The other side has no outbound support and says so (439).
    no_outbound: bool,
    /// The last thing said; up is none.
    down: Option<Why>,
    stopping: bool,
}

impl Registration {
    /// A machine that starts at once. `credentials` are those of the trunk, which its other requests use as well.
    pub(super) fn new(
        now: Instant,
        options: RegistrationOptions,
        credentials: Option<Arc<Mutex<Credentials>>>,
    ) -> Self {
        let expires = options.expires.clamp(Duration::from_secs(1), LONGEST_EXPIRES);
        let mut machine = Self {
            random: fastrand::Rng::with_seed(options.seed),
            options,
            credentials,
            outputs: VecDeque::new(),
            targets: Vec::new(),
            tried: Vec::new(),
            barred: Vec::new(),
            current: None,
            round_started: now,
            all_down: false,
            unserved: None,
            unserved_rounds: 0,
            resolving_until: None,
            attempt: None,
            attempts: 0,
            sequence: 0,
            binding: None,
            next_at: None,
            keepalive_at: None,
            ping: None,
            pings_missed: 0,
            expires,
            refusals: 0,
            refused_at: None,
            moves: 0,
            one_contact: false,
            no_outbound: false,
            down: None,
            stopping: false,
        };
        machine.begin(now);
        machine
    }

    /// The next thing to do.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; may change with every input and time-out.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.deadline);
        let ping = self.ping.as_ref().map(|ping| ping.deadline);
        [self.resolving_until, attempt, ping, self.next_at, self.keepalive_at].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.resolving_until) {
            self.not_resolved(now);
        }
        if due(self.attempt.as_ref().map(|attempt| attempt.deadline)) {
            self.no_answer(now);
        }
        if due(self.ping.as_ref().map(|ping| ping.deadline)) {
            self.ping_missed(now);
        }
        if due(self.next_at) {
            self.begin(now);
        }
        if due(self.keepalive_at) {
            self.keep_alive(now);
        }
    }

    /// Something has happened. What belongs to an attempt that is over is ignored.
    pub(super) fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Stop => self.stop(now),
            _ if self.stopping && self.attempt.is_none() => {}
            Input::Targets(targets) if self.resolving_until.is_some() => self.resolved(now, targets),
            Input::NotResolved if self.resolving_until.is_some() => self.not_resolved(now),
            Input::Targets(_) | Input::NotResolved => {}
            Input::Reached { attempt, shown } => self.reached(now, attempt, shown),
            Input::Failed { attempt } if self.is_ping(attempt) => self.ping_missed(now),
            Input::Failed { attempt } => {
                if self.is_current(attempt) {
                    self.no_answer(now);
                }
            }
            Input::Response { attempt, response } if self.is_ping(attempt) => self.pong(now, &response),
            Input::Response { attempt, response } => {
                if self.is_current(attempt) {
                    self.response(now, response);
                }
            }
            Input::FlowLost(target) => self.flow_lost(now, &target),
            Input::AddressesChanged => self.addresses_changed(now),
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.number == number)
    }

    /// No round is under way.
    fn is_idle(&self) -> bool {
        self.attempt.is_none() && self.resolving_until.is_none()
    }

    fn is_ping(&self, number: u64) -> bool {
        self.ping.as_ref().is_some_and(|ping| ping.number == number)
    }

    // One round: look up, then target after target.

    fn begin(&mut self, now: Instant) {
        self.abandon();
        self.next_at = None;
        self.round_started = now;
        self.tried.clear();
        self.barred.retain(|(_, until)| *until > now);
        let patience = if self.targets.is_empty() { FIRST_RESOLVE_PATIENCE } else { RESOLVE_PATIENCE };
        self.resolving_until = Some(now + patience);
        self.outputs.push_back(Output::Resolve);
    }

    fn resolved(&mut self, now: Instant, mut targets: Vec<Target>) {
        if targets.is_empty() {
            return self.not_resolved(now);
        }
        self.resolving_until = None;
        targets.truncate(MAX_TARGETS);
        // The server that has our binding and our connection keeps it while it is one of the servers.
        if let Some(at) = targets.iter().position(|target| Some(target) == self.current.as_ref()) {
            targets[..=at].rotate_right(1);
        }
        self.barred.retain(|(target, _)| targets.contains(target));
        self.targets = targets;
        self.next_target(now);
    }

    fn not_resolved(&mut self, now: Instant) {
        self.resolving_until = None;
        if self.targets.is_empty() {
            self.go_down(Why::NotResolved);
            self.next_at = Some(self.next_round(now));
        } else {
            self.next_target(now);
        }
    }

    fn next_round(&mut self, now: Instant) -> Instant {
        // Who is there and does not serve is asked as often as who is silent, but not for ever.
        let grown = self.unserved_rounds.saturating_sub(PROMPT_ROUNDS).min(4);
        let pause = (RETRY * (1 << grown)).min(LONGEST_RETRY).mul_f64(0.9 + 0.1 * self.random.f64());
        (self.round_started + pause).max(now)
    }

    fn next_target(&mut self, now: Instant) {
        let free = |target: &&Target| {
            !self.tried.contains(target) && !self.barred.iter().any(|(barred, until)| barred == *target && *until > now)
        };
        let Some(target) = self.targets.iter().find(free).cloned() else {
            return self.round_failed(now);
        };
        let connects = if target.transport == Transport::Tls { TLS_PATIENCE } else { CONNECT_PATIENCE };
        let deadline = now + connects.min(self.patience());
        let number = self.number();
        self.outputs.push_back(Output::Reach { attempt: number, target: target.clone() });
        self.attempt = Some(Attempt {
            number,
            target,
            removes: false,
            deadline,
            contact: None,
            replaces: None,
            exchange: Exchange::default(),
            too_brief: 0,
        });
    }

    fn round_failed(&mut self, now: Instant) {
        self.all_down = true;
        match self.unserved.take() {
            Some(status) => {
                self.unserved_rounds += 1;
                self.go_down(Why::Unserved(status));
            }
            None => {
                self.unserved_rounds = 0;
                self.go_down(Why::Unreachable);
            }
        }
        let peace_until = |target: &Target| {
            self.barred
                .iter()
                .find(|(barred, _)| barred == target)
                .map(|(_, until)| *until)
                .filter(|until| *until > now)
        };
        let wakes: Option<Vec<Instant>> = self.targets.iter().map(peace_until).collect();
        let when = match wakes.and_then(|wakes| wakes.into_iter().min()) {
            Some(wake) => wake + Duration::from_secs(1).mul_f64(self.random.f64()),
            None => self.next_round(now),
        };
        self.next_at = Some(when);
    }

    /// What one target gets. While all are down a round must not take longer than one alone would, and the first that
    /// comes back is to hear from us soon even when it is the others' turn.
    fn patience(&self) -> Duration {
        if !self.all_down && self.tried.is_empty() {
            return ANSWER_PATIENCE;
        }
        let targets = u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1);
        (ANSWER_PATIENCE / targets).max(LEAST_PATIENCE)
    }

    fn number(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }

    fn abandon(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.outputs.push_back(Output::Abandon { attempt: attempt.number });
        }
    }

    // One target.

    fn reached(&mut self, now: Instant, number: u64, shown: SocketAddr) {
        if !self.is_current(number) {
            return;
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.contact = Some(shown);
        }
        if self.options.registers || self.options.keepalive == Keepalive::Options {
            self.send(now);
        } else {
            // Nothing is asked of the other side.
            self.served(now, None, &Response::default());
        }
    }

    /// Sends the request of the current attempt, once more with other contents if need be.
    fn send(&mut self, now: Instant) {
        let patience = self.patience();
        let Some(mut attempt) = self.attempt.take() else { return };
        if !attempt.removes {
            attempt.deadline = now + patience;
        }
        let request = match self.options.registers {
            true => self.register(now, &mut attempt),
            false => self.options_request(attempt.number, attempt.target.clone()),
        };
        self.outputs.push_back(Output::Send(request));
        self.attempt = Some(attempt);
    }

    fn register(&mut self, now: Instant, attempt: &mut Attempt) -> Request {
        self.sequence += 1;
        let expires = if attempt.removes { 0 } else { self.expires.as_secs() };
        let mut contacts = Vec::with_capacity(2);
        attempt.replaces = None;
        if let Some(contact) = attempt.contact {
            let uri = self.contact_uri(contact, attempt.target.transport);
            let flow = match self.no_outbound {
                true => String::new(),
                false => format!(";+sip.instance=\"<{}>\";reg-id=1", self.options.instance),
            };
            contacts.push(format!("<{uri}>{flow};expires={expires}"));
            let moved = self.binding.as_ref().filter(|binding| binding.contact != contact && binding.until > now);
            if let Some(binding) = moved.filter(|_| !self.one_contact) {
                let old = self.contact_uri(binding.contact, binding.target.transport);
                contacts.push(format!("<{old}>;expires=0"));
                attempt.replaces = Some(binding.contact);
            }
        }
        let authorization = self
            .with_credentials(|credentials, uri| credentials.authorize(&mut attempt.exchange, "REGISTER", uri, b""));
        Request {
            attempt: attempt.number,
            kind: Kind::Register,
            target: attempt.target.clone(),
            sequence: self.sequence,
            contacts,
            expires: Some(expires),
            authorization: authorization.unwrap_or_default(),
        }
    }

    fn options_request(&mut self, attempt: u64, target: Target) -> Request {
        self.sequence += 1;
        Request {
            attempt,
            kind: Kind::Options,
            target,
            sequence: self.sequence,
            contacts: Vec::new(),
            expires: None,
            authorization: Vec::new(),
        }
    }

    fn with_credentials<T>(&self, ask: impl FnOnce(&mut Credentials, &str) -> T) -> Option<T> {
        let credentials = self.credentials.as_ref()?;
        Some(ask(&mut credentials.lock().unwrap_or_else(PoisonError::into_inner), &self.options.uri))
    }

    fn contact_uri(&self, address: SocketAddr, transport: Transport) -> String {
        let transport = match transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("sip:{}@{address}{transport}", self.options.contact_user)
    }

    fn no_answer(&mut self, now: Instant) {
        let Some(attempt) = &self.attempt else { return };
        self.outputs.push_back(Output::Discard(attempt.target.clone()));
        self.target_failed(now);
    }

    /// The target does not do its service: the next one, at once.
    fn target_failed(&mut self, now: Instant) {
        let Some(Attempt { target, removes, .. }) = &self.attempt else { return };
        let (target, removes) = (target.clone(), *removes);
        self.abandon();
        if removes {
            return self.end();
        }
        self.outputs.push_back(Output::Penalise(target.clone()));
        if self.current.as_ref() == Some(&target) {
            self.current = None;
        }
        self.tried.push(target);
        self.next_target(now);
    }

    fn response(&mut self, now: Instant, response: Response) {
        self.learn_address(&response);
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.removes && !matches!(response.status, 401 | 407) {
            self.attempt = None;
            return self.end();
        }
        if !self.options.registers {
            return match unavailable(response.status) {
                true => self.unavailable(now, &response),
                false => self.served(now, None, &response),
            };
        }
        match response.status {
            200..=299 => self.accepted(now, &response),
            401 | 407 => self.challenged(now, &response),
            423 => {
                let wanted = response.min_expires.unwrap_or_default();
                attempt.too_brief += 1;
                if wanted > self.expires && wanted <= LONGEST_EXPIRES && attempt.too_brief <= MAX_TOO_BRIEF {
                    self.expires = wanted;
                    self.send_anew(now);
                } else {
                    self.refused(now, Why::Refused(423));
                }
            }
            439 if !self.no_outbound => {
                self.no_outbound = true;
                self.send_anew(now);
            }
            status if unavailable(status) => self.unavailable(now, &response),
            _ if attempt.replaces.is_some() => {
                self.one_contact = true;
                self.send_anew(now);
            }
            status => self.refused(now, Why::Refused(status)),
        }
    }

    /// Another request to the same target: its challenges are its own.
    fn send_anew(&mut self, now: Instant) {
        if let Some(attempt) = &mut self.attempt {
            attempt.exchange = Exchange::default();
        }
        self.send(now);
    }

    fn learn_address(&mut self, response: &Response) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(address) = response.seen_as.filter(|_| self.options.learns_address) else { return };
        if Some(address) != attempt.contact && address.port() != 0 && !address.ip().is_unspecified() {
            self.outputs.push_back(Output::SeenAs { target: attempt.target.clone(), address });
            // A contact that is being removed is the one that was registered.
            if !attempt.removes && !matches!(response.status, 200..=299) {
                attempt.contact = Some(address);
            }
        }
    }

    fn challenged(&mut self, now: Instant, response: &Response) {
        let Some(attempt) = &mut self.attempt else { return };
        let headers = response.authentication.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let Some(credentials) = &self.credentials else {
            return self.refused(now, Why::NoPassword);
        };
        let challenged =
            credentials.lock().unwrap_or_else(PoisonError::into_inner).challenged(&mut attempt.exchange, headers);
        match challenged {
            Challenged::Retry => self.send(now),
            Challenged::Rejected => self.refused(now, Why::WrongPassword),
            Challenged::Unsupported(what) => self.refused(now, Why::Unsupported(what)),
            Challenged::Unanswerable => self.refused(now, Why::Refused(response.status)),
        }
    }

    fn unavailable(&mut self, now: Instant, response: &Response) {
        let Some(attempt) = &self.attempt else { return };
        self.unserved = Some(response.status);
        if let Some(wait) = response.retry_after.filter(|wait| !wait.is_zero()) {
            let until = now + wait.min(LONGEST_RETRY_AFTER);
            self.barred.retain(|(target, _)| *target != attempt.target);
            self.barred.push((attempt.target.clone(), until));
        }
        self.target_failed(now);
    }

    /// A refusal by somebody who is there: asking again soon would change nothing.
    fn refused(&mut self, now: Instant, why: Why) {
        let removes = self.attempt.take().is_some_and(|attempt| attempt.removes);
        if removes {
            return self.end();
        }
        self.binding = None;
        self.keepalive_at = None;
        self.ping = None;
        let wait = REFUSED_WAIT.saturating_mul(1 << self.refusals.min(8)).min(REFUSED_LONGEST_WAIT);
        self.refusals += 1;
        self.refused_at = Some(now);
        self.next_at = Some(now + wait.mul_f64(0.95 + 0.1 * self.random.f64()));
        self.go_down(why);
    }

    fn accepted(&mut self, now: Instant, response: &Response) {
        let Some(attempt) = &self.attempt else { return };
        let Some(contact) = attempt.contact else { return };
        let ours = self.contact_uri(contact, attempt.target.transport);
        let granted = granted(response, &ours, &self.options.instance).unwrap_or(self.expires).min(LONGEST_EXPIRES);
        if granted.is_zero() {
            // It took the request and did not keep the binding.
            return self.unavailable(now, response);
        }
        self.with_credentials(|credentials, _| {
            credentials.answered(response.authentication.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        });
        let (target, until) = (attempt.target.clone(), now + granted);
        self.binding = Some(Binding { target, contact, until });
        self.served(now, Some(granted), response);
        // It sees us elsewhere than we said: calls to that contact would be lost in the NAT.
        let moved = self.options.learns_address && response.seen_as.is_some_and(|address| address != contact);
        if !moved {
            self.moves = 0;
        } else if self.moves < MAX_MOVES {
            self.moves += 1;
            self.next_at = Some(now);
        }
    }

    /// The target serves us, for `granted` when that is a registration.
    fn served(&mut self, now: Instant, granted: Option<Duration>, response: &Response) {
        let Some(attempt) = self.attempt.take() else { return };
        self.tried.clear();
        (self.unserved, self.unserved_rounds) = (None, 0);
        (self.all_down, self.refusals, self.refused_at, self.pings_missed) = (false, 0, None, 0);
        let jitter = 0.9 + 0.2 * self.random.f64();
        let again = match (granted, self.options.keepalive) {
            (Some(granted), _) => refresh_after(granted).mul_f64(jitter).max(LEAST_REFRESH),
            (None, Keepalive::Options) => self.options.keepalive_interval.mul_f64(jitter),
            (None, _) => LOOK_AGAIN.mul_f64(jitter),
        };
        self.next_at = Some(now + again);
        let pings = granted.is_some() || self.options.keepalive == Keepalive::Crlf;
        if pings && (self.keepalive_at.is_none() || self.current.as_ref() != Some(&attempt.target)) {
            self.schedule_keepalive(now);
        }
        self.current = Some(attempt.target.clone());
        self.down = None;
        self.outputs.push_back(Output::Up(Up {
            target: attempt.target,
            until: granted.map(|granted| now + granted),
            service_route: response.service_route.clone(),
            associated_uris: response.associated_uris.clone(),
        }));
    }

    fn go_down(&mut self, why: Why) {
        if self.down.as_ref() != Some(&why) {
            self.outputs.push_back(Output::Down(why.clone()));
            self.down = Some(why);
        }
    }

    // Between registrations.

    fn schedule_keepalive(&mut self, now: Instant) {
        let interval = self.options.keepalive_interval;
        let wanted = self.options.keepalive != Keepalive::Off && !interval.is_zero();
        // RFC 5626 §4.4.1: 80 to 100 % of the interval.
        self.keepalive_at = wanted.then(|| now + interval.mul_f64(0.8 + 0.2 * self.random.f64()));
    }

    fn keep_alive(&mut self, now: Instant) {
        self.schedule_keepalive(now);
        let Some(target) = self.current.clone() else { return };
        match self.options.keepalive {
            Keepalive::Crlf => self.outputs.push_back(Output::Keepalive(target)),
            Keepalive::Options if self.options.registers && self.ping.is_none() => self.send_ping(now, target),
            _ => {}
        }
    }

    fn send_ping(&mut self, now: Instant, target: Target) {
        let number = self.number();
        let request = self.options_request(number, target.clone());
        self.outputs.push_back(Output::Send(request));
        self.ping = Some(Ping { number, target, deadline: now + ANSWER_PATIENCE });
    }

    fn pong(&mut self, now: Instant, response: &Response) {
        let Some(ping) = self.ping.take() else { return };
        let missed = std::mem::take(&mut self.pings_missed) > 0;
        let seen = response.seen_as.filter(|_| self.options.learns_address);
        let moved = seen.filter(|address| self.binding.as_ref().is_some_and(|binding| binding.contact != *address));
        if let Some(address) = moved {
            self.outputs.push_back(Output::SeenAs { target: ping.target, address });
        }
        // It was away, and may have lost our binding meanwhile.
        if (missed || moved.is_some()) && self.is_idle() {
            self.begin(now);
        }
    }

    fn ping_missed(&mut self, now: Instant) {
        let Some(ping) = self.ping.take() else { return };
        self.outputs.push_back(Output::Abandon { attempt: ping.number });
        self.pings_missed += 1;
        if self.pings_missed < 2 {
            return self.send_ping(now, ping.target);
        }
        self.outputs.push_back(Output::Discard(ping.target.clone()));
        self.flow_lost(now, &ping.target);
    }

    fn flow_lost(&mut self, now: Instant, target: &Target) {
        self.pings_missed = 0;
        self.ping.take_if(|ping| ping.target == *target);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.target == *target) {
            self.target_failed(now);
        } else if self.current.as_ref() == Some(target) && self.down.is_none() && self.is_idle() && !self.stopping {
            // A server that takes us and hangs up, again and again, is not to make us spin.
            self.next_at = Some(self.next_round(now));
        }
    }

    fn addresses_changed(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        let soonest = self.refused_at.map_or(now, |refused| (refused + REFUSED_LEAST_WAIT).max(now));
        if soonest > now {
            self.next_at = self.next_at.map(|next| next.min(soonest));
            return;
        }
        self.moves = 0;
        self.ping = None;
        self.begin(now);
    }

    fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        // An attempt that was sent may have made a binding.
        let sent = self.attempt.take().and_then(|attempt| {
            self.outputs.push_back(Output::Abandon { attempt: attempt.number });
            Some((attempt.target, attempt.contact?))
        });
        let bound = self.binding.take().map(|binding| (binding.target, binding.contact));
        (self.resolving_until, self.next_at, self.keepalive_at, self.ping) = (None, None, None, None);
        let Some((target, contact)) = bound.or(sent).filter(|_| self.options.registers) else {
            return self.end();
        };
        let number = self.number();
        self.attempt = Some(Attempt {
            number,
            target,
            removes: true,
            deadline: now + UNREGISTER_PATIENCE,
            contact: Some(contact),
            replaces: None,
            exchange: Exchange::default(),
            too_brief: 0,
        });
        self.send(now);
    }

    fn end(&mut self) {
        self.attempt = None;
        self.outputs.push_back(Output::Stopped);
    }
}

/// Whether a status means that this server cannot do it now, and another or a later one may.
fn unavailable(status: u16) -> bool {
    matches!(status, 408 | 429 | 430 | 480 | 500 | 502..=599)
}

/// When to refresh: early enough for a few attempts, and not so early that it becomes a load.
fn refresh_after(granted: Duration) -> Duration {
    let margin = Duration::from_secs(30);
    match granted > 2 * margin {
        true => granted.mul_f64(0.75).min(granted - margin),
        false => granted / 2,
    }
}

/// For how long the registrar took us: what it says of our contact, else of its only one, else of all.
fn granted(response: &Response, ours: &str, instance: &str) -> Option<Duration> {
    let is_ours = |contact: &&String| {
        let uri =
            contact.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(contact.as_str(), |(uri, _)| uri);
        contact.contains(instance) || same_contact(uri, ours)
    };
    let expires = |contact: &String| {
        let parameters = contact.split_once('>').map_or(contact.as_str(), |(_, parameters)| parameters);
        let value = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("expires").then_some(value.trim().trim_matches('"'))
        })?;
        value.parse().ok().map(Duration::from_secs)
    };
    let mine = response.contacts.iter().find(is_ours);
    let only = || response.contacts.first().filter(|_| response.contacts.len() == 1);
    mine.or_else(only).and_then(expires).or(response.expires)
}

/// Whether two contact URIs have the same user, host and port: what a registrar leaves alone.
fn same_contact(one: &str, other: &str) -> bool {
    let bare = |uri: &str| uri.split([';', '?']).next().unwrap_or_default().trim().to_ascii_lowercase();
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests;
