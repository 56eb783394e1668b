//! A trunk at work: carries out what its registration decides, and tells how it stands.
//!
//! One task a trunk owns the machine of `registration.rs`; look-ups, connections and transactions are tasks of their own
//! that end with it, or when the machine has no use for them any more.

mod messages;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rsipstack::rsip::{SipMessage, StatusCodeKind};
use rsipstack::transaction::endpoint::EndpointInnerRef;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::Transaction;
use sha2::Digest as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::messages::{Identity, addresses_of, escaped_user, route_to};
use super::addresses::Addresses;
use super::connection::Flow;
use super::digest::Credentials;
use super::limits::RareWarning;
use super::peers::Peers;
use super::registration::{Input, Output, Registration, RegistrationOptions, Request, Response, Up, Why};
use super::streams::{FlowError, Flows};
use super::{Query, Resolver, SipError, Target, Transport, interfaces};
use crate::config;
use crate::number::Country;
use crate::privacy::Secret;

/// Things that have happened and that the trunk's task has not yet looked at.
const QUEUE: usize = 32;

/// A trunk as the configuration has it.
#[derive(Debug, Clone)]
pub struct TrunkOptions {
    /// Its name in the configuration.
    pub name: String,
    /// Its section.
    pub config: config::Trunk,
    /// Its password, wherever it was found.
    pub password: Option<Secret>,
}

/// How a trunk stands. `Display` says it to a person, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrunkState {
    /// Nothing is known yet.
    Registering,
    /// The other side has us: by registration until the time given, or it answers and knows our address.
    Registered {
        /// When the registration ends unless it is refreshed before; none for `ip-auth`.
        until: Option<Instant>,
    },
    /// The password or the user was refused.
    WrongPassword,
    /// A password is asked for, and none is configured.
    NoPassword,
    /// Only unknown ways of authentication are asked for.
    Unsupported {
        /// The algorithms or schemes.
        asked: Vec<String>,
    },
    /// The registration was refused.
    Refused {
        /// With this status code.
        status: u16,
    },
    /// A server answers, and does not serve.
    Unserved {
        /// With this status code.
        status: u16,
    },
    /// No server answers.
    Unreachable,
    /// The trunk's name stands for no server.
    NotResolved,
    /// The agent has shut down.
    Stopped,
}

impl TrunkState {
    /// Whether calls can come in and go out.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Registered { .. })
    }
}

impl fmt::Display for TrunkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registering => f.write_str("registering"),
            Self::Registered { until: Some(_) } => f.write_str("registered"),
            Self::Registered { until: None } => f.write_str("reachable"),
            Self::WrongPassword => f.write_str("the password is wrong; check user, auth_id and password of the trunk"),
            Self::NoPassword => f.write_str("a password is asked for and none is there; give the trunk its password"),
            Self::Unsupported { asked } => write!(
                f,
                "authentication by {} is asked for; let the other side offer SHA-256 or MD5 digest",
                asked.join(", ")
            ),
            Self::Refused { status } => {
                write!(
                    f,
                    "refused with {status}; check user and domain of the trunk, and the account at the other side"
                )
            }
            Self::Unserved { status: status @ 200..=299 } => {
                write!(f, "the server says {status} and does not keep the registration; ask its operator why")
            }
            Self::Unserved { status } => {
                write!(f, "the server answers {status} and does not serve; it is asked again, its operator knows more")
            }
            Self::Unreachable => f.write_str(
                "no server answers; check the network, the firewall, and the trunk's registrar and transport",
            ),
            Self::NotResolved => f.write_str(
                "its name stands for no server; check domain and registrar of the trunk, and the network's DNS",
            ),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl From<Why> for TrunkState {
    fn from(why: Why) -> Self {
        match why {
            Why::WrongPassword => Self::WrongPassword,
            Why::NoPassword => Self::NoPassword,
            Why::Unsupported(asked) => Self::Unsupported { asked },
            Why::Refused(status) => Self::Refused { status },
            Why::Unserved(status) => Self::Unserved { status },
            Why::Unreachable => Self::Unreachable,
            Why::NotResolved => Self::NotResolved,
        }
    }
}

/// A trunk of a running agent.
#[derive(Debug, Clone)]
pub struct TrunkHandle(Arc<Trunk>);

impl TrunkHandle {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How it stands.
    pub fn state(&self) -> TrunkState {
        self.0.state.borrow().clone()
    }

    /// The server that has us, or had us last.
    pub fn server(&self) -> Option<Target> {
        self.0.target()
    }

    /// The route that requests take which leave over this trunk, as values of Route.
    pub fn route(&self) -> Vec<String> {
        self.0.route()
    }

    /// Tells of each change; the present state counts as seen.
    pub fn changes(&self) -> watch::Receiver<TrunkState> {
        self.0.state.subscribe()
    }
}

/// What the agent's parts know of a trunk.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) name: Arc<str>,
    pub(super) config: config::Trunk,
    /// How callers' numbers are written there.
    pub(super) country: Option<&'static Country>,
    /// One for each call that it may have.
    pub(super) permits: Arc<Semaphore>,
    /// Shared by REGISTER, INVITE and all the rest; none without a password.
    pub(super) credentials: Option<Arc<Mutex<Credentials>>>,
    /// The host part of our address there.
    pub(super) domain: String,
    /// Which servers it has.
    pub(super) query: Query,
    line: Mutex<Option<Up>>,
    state: watch::Sender<TrunkState>,
}

impl Trunk {
    /// `max_calls`: of the whole agent.
    ///
    /// # Errors
    /// [`SipError::Trunk`] when a server's name cannot be one.
    pub(super) fn new(options: TrunkOptions, max_calls: usize) -> Result<Self, SipError> {
        let TrunkOptions { name, config, password } = options;
        let query = Query::of_trunk(&config)
            .map_err(|source| SipError::Trunk { name: name.clone(), reason: source.to_string() })?;
        let domain = match config.domain.is_empty() {
            true => query.server.to_string(),
            false => config.domain.clone(),
        };
        let credentials = password.map(|password| Arc::new(Mutex::new(Credentials::new(config.auth_id(), password))));
        let state = watch::Sender::new(TrunkState::Registering);
        let country = config.country.as_deref().and_then(Country::find);
        let permits = Arc::new(Semaphore::new(config.max_calls.unwrap_or(max_calls)));
        Ok(Self {
            name: name.into(),
            config,
            country,
            permits,
            credentials,
            domain,
            query,
            line: Mutex::default(),
            state,
        })
    }

    pub(super) fn handle(self: &Arc<Self>) -> TrunkHandle {
        TrunkHandle(self.clone())
    }

    /// The server that has us, or had us last.
    pub(super) fn target(&self) -> Option<Target> {
        self.line().as_ref().map(|up| up.target.clone())
    }

    /// The route for requests that leave over this trunk: the registrar's (RFC 3608), else the outbound proxy.
    pub(super) fn route(&self) -> Vec<String> {
        match self.line().as_ref().filter(|up| !up.service_route.is_empty()) {
            Some(up) => up.service_route.clone(),
            None => self.outbound_route().into_iter().collect(),
        }
    }

    fn outbound_route(&self) -> Option<String> {
        let proxy = self.config.outbound_proxy.as_deref()?;
        Some(route_to(proxy, self.config.transport))
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Option<Up>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how it stands, and says so in the log when that is a change.
    fn set(&self, state: TrunkState, up: Option<Up>) {
        let server = up.as_ref().map(|up| up.target.to_string()).unwrap_or_default();
        let moved = up.is_some_and(|up| {
            let before = self.line().replace(up.clone());
            before.is_none_or(|before| before.target != up.target)
        });
        let before = self.state.send_replace(state.clone());
        let changed = std::mem::discriminant(&before) != std::mem::discriminant(&state);
        match &state {
            TrunkState::Registered { .. } if changed || moved => {
                info!(trunk = %self.name, %server, "trunk is up: {state}")
            }
            TrunkState::Registered { .. } => debug!(trunk = %self.name, "registration refreshed"),
            TrunkState::Stopped => info!(trunk = %self.name, "trunk has stopped"),
            TrunkState::Registering => {}
            down if changed || before != *down => warn!(trunk = %self.name, "trunk is down: {down}"),
            _ => {}
        }
    }
}

/// What a trunk's task works with.
#[derive(Clone)]
pub(super) struct TrunkParts {
    pub(super) endpoint: EndpointInnerRef,
    pub(super) flows: Flows,
    pub(super) addresses: Arc<Addresses>,
    pub(super) peers: Arc<Peers>,
    pub(super) resolver: Resolver,
    /// The address to show is configured for all trunks.
    pub(super) has_public_address: bool,
    /// The order to unregister and end.
    pub(super) closing: CancellationToken,
}

/// What the tasks tell the trunk's task.
enum Event {
    Input(Input),
    Reached { attempt: u64, target: Target, flow: Flow },
}

/// A task that ends when it is dropped.
struct Job(AbortHandle);

impl Job {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The task of one trunk.
struct Driver {
    place: usize,
    trunk: Arc<Trunk>,
    parts: TrunkParts,
    identity: Identity,
    machine: Registration,
    events: mpsc::Sender<Event>,
    complaints: Arc<Mutex<RareWarning>>,
    resolving: Option<Job>,
    attempts: HashMap<u64, Job>,
    pinging: Option<Job>,
    /// The way that is in use, and who waits for its end.
    flow: Option<(Target, Flow, Option<Job>)>,
}

/// Starts the agent's trunks; they end when it closes.
pub(super) fn start(trunks: &[Arc<Trunk>], parts: TrunkParts) -> JoinSet<()> {
    let mut running = JoinSet::new();
    if trunks.is_empty() {
        return running;
    }
    let (changed, interfaces) = watch::channel(());
    for (place, trunk) in trunks.iter().enumerate() {
        running.spawn(run(place, trunk.clone(), parts.clone(), interfaces.clone()));
    }
    tokio::spawn(async move {
        let TrunkParts { addresses, resolver, closing, .. } = parts;
        let watched = interfaces::watch(|| {
            addresses.forget_routes();
            resolver.refresh();
            changed.send_replace(());
        });
        closing.run_until_cancelled(watched).await;
    });
    running
}

/// Runs the agent's trunk in this place.
async fn run(place: usize, trunk: Arc<Trunk>, mut parts: TrunkParts, mut interfaces: watch::Receiver<()>) {
    let (events, mut happened) = mpsc::channel(QUEUE);
    let closing = parts.closing.clone();
    parts.flows = parts.flows.for_trunk(place);
    let mut driver = Driver::new(place, trunk, parts, events);
    let mut stopping = false;
    loop {
        while let Some(output) = driver.machine.poll() {
            if !driver.carry_out(output) {
                return;
            }
        }
        let due = driver.machine.poll_timeout();
        let timeout = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled(), if !stopping => {
                stopping = true;
                driver.machine.handle_input(now(), Input::Stop);
            }
            // The driver holds a sender: it never closes.
            Some(event) = happened.recv() => driver.take(event),
            Ok(()) = interfaces.changed() => driver.interfaces_changed(),
            () = timeout => driver.machine.handle_timeout(now()),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Driver {
    fn new(place: usize, trunk: Arc<Trunk>, parts: TrunkParts, events: mpsc::Sender<Event>) -> Self {
        let config = &trunk.config;
        let user = escaped_user(&config.user);
        let address_of_record = match user.is_empty() {
            true => format!("sip:{}", trunk.domain),
            false => format!("sip:{user}@{}", trunk.domain),
        };
        let identity = Identity {
            uri: format!("sip:{}", trunk.domain),
            call_id: format!("{:032x}", fastrand::u128(..)),
            tag: format!("{:08x}", fastrand::u32(..)),
            route: trunk.outbound_route(),
            address_of_record,
        };
        let options = RegistrationOptions {
            registers: config.registers(),
            uri: identity.uri.clone(),
            contact_user: escaped_user(config.contact_user.as_deref().unwrap_or(&config.user)),
            instance: instance_of(&trunk.name, &identity.address_of_record),
            expires: config.expires,
            keepalive: config.keepalive,
            keepalive_interval: config.keepalive_interval,
            learns_address: config.public_address.is_none() && !parts.has_public_address,
            seed: fastrand::u64(..),
        };
        let machine = Registration::new(now(), options, trunk.credentials.clone());
        Self {
            place,
            trunk,
            parts,
            identity,
            machine,
            events,
            complaints: Arc::default(),
            resolving: None,
            attempts: HashMap::new(),
            pinging: None,
            flow: None,
        }
    }

    fn take(&mut self, event: Event) {
        let input = match event {
            Event::Input(Input::Targets(targets)) => {
                self.admit(&targets);
                Input::Targets(targets)
            }
            Event::Input(Input::Response { attempt, response }) => {
                self.attempts.remove(&attempt);
                Input::Response { attempt, response }
            }
            Event::Input(Input::FlowLost(target)) => {
                self.flow = None;
                Input::FlowLost(target)
            }
            Event::Input(input) => input,
            Event::Reached { attempt, target, flow } => {
                let shown = self.shown_on(&target, &flow);
                self.keep(target, flow);
                Input::Reached { attempt, shown }
            }
        };
        self.machine.handle_input(now(), input);
    }

    /// Lets the trunk's servers send us requests, and the one that has us even when its name has other addresses now.
    fn admit(&self, targets: &[Target]) {
        let present = self.trunk.line().as_ref().map(|up| up.target.clone());
        let all: Vec<Target> = targets.iter().cloned().chain(present).collect();
        self.parts.peers.resolved(self.place, addresses_of(&all), now());
    }

    /// Our address as the target is to see it.
    fn shown_on(&self, target: &Target, flow: &Flow) -> SocketAddr {
        let peer = target.address.ip().to_canonical();
        let shown = || self.parts.flows.stamp_for(target.address, target.transport, flow.local).contact;
        if let Some(public) = self.trunk.config.public_address.filter(|_| !peer.is_loopback()) {
            let configured = SocketAddr::new(public, shown().port());
            self.parts.addresses.seen_by(peer, target.transport, flow.local, Some(configured));
            return configured;
        }
        let same = self.flow.as_ref().is_some_and(|(known, before, _)| known == target && before.local == flow.local);
        if target.transport != Transport::Udp && !same {
            // What the other side said of an earlier connection is not true of this one.
            self.parts.addresses.seen_by(peer, target.transport, flow.local, None);
        }
        match target.transport {
            Transport::Udp => self.parts.addresses.shown_to(peer, Transport::Udp),
            Transport::Tcp | Transport::Tls => shown(),
        }
    }

    fn keep(&mut self, target: Target, flow: Flow) {
        let watcher = (target.transport != Transport::Udp).then(|| {
            let (events, closed, target) = (self.events.clone(), flow.closed.clone(), target.clone());
            Job::spawn(async move {
                closed.cancelled().await;
                let _ = events.send(Event::Input(Input::FlowLost(target))).await;
            })
        });
        self.flow = Some((target, flow, watcher));
    }

    /// Ends the connection in use, unless the socket is everybody's.
    fn discard(&mut self) {
        if let Some((target, flow, watcher)) = self.flow.take() {
            // The end of what we end ourselves is no news.
            drop(watcher);
            if target.transport != Transport::Udp {
                flow.closed.cancel();
            }
        }
    }

    fn interfaces_changed(&mut self) {
        let ours = |address: SocketAddr| std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok();
        if self.flow.as_ref().is_some_and(|(target, flow, _)| target.transport != Transport::Udp && !ours(flow.local)) {
            self.discard();
        }
        if let Some((target, flow, _)) = &self.flow
            && self.trunk.config.public_address.is_none()
        {
            self.parts.addresses.seen_by(target.address.ip().to_canonical(), target.transport, flow.local, None);
        }
        self.machine.handle_input(now(), Input::AddressesChanged);
    }

    /// False at the end.
    fn carry_out(&mut self, output: Output) -> bool {
        match output {
            Output::Resolve => self.resolve(),
            Output::Reach { attempt, target } => self.reach(attempt, target),
            Output::Send(request) => self.send(request),
            Output::Abandon { attempt } => _ = self.attempts.remove(&attempt),
            Output::Discard(target) => {
                if self.flow.as_ref().is_some_and(|(known, ..)| *known == target) {
                    self.discard();
                }
            }
            Output::Penalise(target) => self.parts.resolver.penalise(&target),
            Output::SeenAs { target, address } => {
                let peer = target.address.ip().to_canonical();
                let flow = self.flow.as_ref().filter(|(known, ..)| *known == target);
                if let Some((_, flow, _)) = flow {
                    self.parts.addresses.seen_by(peer, target.transport, flow.local, Some(address));
                }
            }
            Output::Keepalive(target) => self.keep_alive(target),
            Output::Up(up) => {
                self.parts.resolver.forgive(&up.target);
                self.trunk.set(TrunkState::Registered { until: up.until }, Some(up));
            }
            Output::Down(why) => self.trunk.set(why.into(), None),
            Output::Stopped => {
                self.trunk.set(TrunkState::Stopped, None);
                return false;
            }
        }
        true
    }

    fn resolve(&mut self) {
        let (resolver, events, trunk) = (self.parts.resolver.clone(), self.events.clone(), self.trunk.clone());
        self.resolving = Some(Job::spawn(async move {
            let input = match resolver.targets(&trunk.query).await {
                Ok(resolved) => Input::Targets(resolved.targets),
                Err(error) => {
                    debug!(trunk = %trunk.name, %error, "the trunk's servers were not found");
                    Input::NotResolved
                }
            };
            let _ = events.send(Event::Input(input)).await;
        }));
    }

    fn reach(&mut self, attempt: u64, target: Target) {
        let (reached, events, name) = (self.parts.flows.reach(&target), self.events.clone(), self.trunk.name.clone());
        let complaints = self.complaints.clone();
        let job = Job::spawn(async move {
            let event = match reached.await {
                Ok(flow) => Event::Reached { attempt, target, flow },
                Err(error) => {
                    let due = complaints.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
                    // What is wrong with certificates does not mend itself.
                    match due.filter(|_| matches!(error, FlowError::Tls { .. })) {
                        Some(_) => warn!(trunk = %name, %error, "a server of the trunk was not reached"),
                        None => debug!(trunk = %name, %error, "a server of the trunk was not reached"),
                    }
                    Event::Input(Input::Failed { attempt })
                }
            };
            let _ = events.send(event).await;
        });
        self.attempts.insert(attempt, job);
    }

    fn send(&mut self, request: Request) {
        let attempt = request.attempt;
        let kept =
            self.flow.as_ref().filter(|(known, flow, _)| *known == request.target && !flow.closed.is_cancelled());
        let kept = kept.map(|(_, flow, _)| flow.clone());
        let (flows, endpoint) = (self.parts.flows.clone(), self.parts.endpoint.clone());
        let (identity, events, name) = (self.identity.clone(), self.events.clone(), self.trunk.name.clone());
        let job = Job::spawn(async move {
            let exchanged = async {
                let flow = match kept {
                    Some(flow) => flow,
                    None => flows.reach(&request.target).await.map_err(|error| error.to_string())?,
                };
                exchange(endpoint, flow, &identity, &request).await
            };
            let input = match exchanged.await {
                Ok(response) => Input::Response { attempt, response },
                Err(error) => {
                    debug!(trunk = %name, error, "a request of the trunk was not answered");
                    Input::Failed { attempt }
                }
            };
            let _ = events.send(Event::Input(input)).await;
        });
        self.attempts.insert(attempt, job);
    }

    fn keep_alive(&mut self, target: Target) {
        let Some((_, flow, _)) = self.flow.as_ref().filter(|(known, ..)| *known == target) else { return };
        let (flow, events) = (flow.clone(), self.events.clone());
        self.pinging = Some(Job::spawn(async move {
            if flow.ping().await.is_err() {
                let _ = events.send(Event::Input(Input::FlowLost(target))).await;
            }
        }));
    }
}

/// Sends a request and waits for its final response, however long the stack does.
async fn exchange(
    endpoint: EndpointInnerRef,
    flow: Flow,
    identity: &Identity,
    request: &Request,
) -> Result<Response, String> {
    let failed = |error: rsipstack::Error| error.to_string();
    let written = identity.write(request, flow.local).map_err(failed)?;
    let key = TransactionKey::from_request(&written, TransactionRole::Client).map_err(failed)?;
    let mut transaction = Transaction::new_client(key, written, endpoint, Some(flow.connection));
    transaction.destination = Some(flow.destination);
    transaction.send().await.map_err(failed)?;
    while let Some(message) = transaction.receive().await {
        if let SipMessage::Response(response) = message
            && response.status_code.kind() != StatusCodeKind::Provisional
        {
            return Ok(messages::read(&response));
        }
    }
    Err("the transaction has ended without a response".to_owned())
}

/// A URN that is this box's and this trunk's, the same after each start (RFC 5626 §4.1, RFC 9562 §5.8).
fn instance_of(name: &str, address_of_record: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = sha2::Sha256::digest(format!("offhook {} {name} {address_of_record}", machine.trim()));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let text = format!("{number:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_a_uuid_that_stays() {
        let instance = instance_of("a", "sip:620@x");
        assert_eq!(instance, instance_of("a", "sip:620@x"));
        assert_ne!(instance, instance_of("b", "sip:620@x"));
        let uuid = instance.strip_prefix("urn:uuid:").unwrap();
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "8");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
    }

    #[test]
    fn a_trunk_tells_its_route_and_its_server() {
        let config = config::Trunk {
            domain: "example.org".into(),
            outbound_proxy: Some("edge:5070".into()),
            ..config::Trunk::default()
        };
        let trunk = Trunk::new(TrunkOptions { name: "a".into(), config, password: None }, 8).unwrap();
        assert_eq!((trunk.target(), trunk.route()), (None, vec!["<sip:edge:5070;lr>".to_owned()]));
        let target = Target { address: ([192, 0, 2, 1], 5060).into(), transport: Transport::Udp, name: "x".into() };
        let up = |route: &[&str]| Up {
            target: target.clone(),
            until: None,
            service_route: route.iter().map(|hop| (*hop).to_owned()).collect(),
            associated_uris: vec![],
        };
        trunk.set(TrunkState::Registered { until: None }, Some(up(&["<sip:a;lr>"])));
        assert_eq!((trunk.target(), trunk.route()), (Some(target.clone()), vec!["<sip:a;lr>".to_owned()]));
        trunk.set(TrunkState::Unreachable, None);
        assert!(!trunk.state.borrow().is_up());
        assert!(trunk.state.borrow().to_string().contains("check"));
    }

    #[test]
    fn a_servers_name_that_cannot_be_one_is_an_error_of_that_trunk() {
        let config = config::Trunk { domain: "sip:user@x".into(), ..config::Trunk::default() };
        let error = Trunk::new(TrunkOptions { name: "main".into(), config, password: None }, 8).unwrap_err();
        assert!(error.to_string().contains("main"), "{error}");
    }
}
