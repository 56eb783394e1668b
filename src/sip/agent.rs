//! The user agent: binds the sockets, starts the stack and the gate, places calls, and shuts all of it down.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::rsip;
use rsipstack::transaction::CallIdFormat;
use rsipstack::transaction::endpoint::EndpointOption;
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipConnection, TransportLayer};
use socket2::SockRef;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::addresses::Addresses;
use super::attempts::host_of;
use super::inbound::Inbound;
use super::peers::Peers;
use super::resolve::StackResolver;
use super::shared::Shared;
use super::socket::GuardedSocket;
use super::streams::{FlowOptions, Flows, Listener, Locator, mark_signalling};
use super::trunk::{self, Trunk, TrunkHandle, TrunkOptions, TrunkParts};
use super::wire::{Calls, Rules, WireGate};
use super::{
    Counters, Dial, DialogRules, InboundUsers, IncomingCall, OutgoingCall, OutgoingTrunk, RefusedCall, Resolver,
    ResolverOptions, SipError, TlsError, TlsSettings, gate, outgoing, tls,
};
use crate::config::HeaderCharset;

/// The timers of RFC 3261 §17 that the rest follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round trip; retransmission starts with it, transactions give up after 64 of it.
    pub t1: Duration,
    /// The longest retransmission interval.
    pub t2: Duration,
    /// The longest time that a message stays in the network.
    pub t4: Duration,
}

impl Default for Timers {
    /// 500 ms, 4 s and 5 s.
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// How a user agent is set up.
#[derive(Debug, Clone)]
pub struct UserAgentOptions {
    /// Where it listens on UDP; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The address to show to peers when it is not the one listened on (static NAT).
    pub public_address: Option<IpAddr>,
    /// From where requests are taken besides the trunks. Empty: from nowhere.
    pub allowed_peers: Vec<IpNet>,
    /// All others get no answer at all instead of 403.
    pub silent_to_strangers: bool,
    /// Who of the allowed peers that are no trunk's may call; none: all of them.
    pub inbound_users: Option<InboundUsers>,
    /// Calls at once, both ways; more get 486.
    pub max_calls: usize,
    /// New calls a second; more get 503 with Retry-After. What else a peer may send follows from it.
    pub max_calls_per_second: u32,
    /// Retransmission timers; other than the default only in tests.
    pub timers: Timers,
    /// The charset of header bytes that are not UTF-8, from peers that are no trunk's.
    pub header_charset: HeaderCharset,
    /// Our own user part, in Contact and in the From of calls that we place.
    pub user: String,
    /// Where it listens on TCP, if anywhere.
    pub listen_tcp: Option<SocketAddr>,
    /// Where it listens on TLS, if anywhere; needs the two files.
    pub listen_tls: Option<SocketAddr>,
    /// Our certificate chain (PEM) for those who connect over TLS.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Connections that peers may have with us at once.
    pub max_connections: usize,
    /// The TLS settings of each trunk, in the order of the trunks.
    pub trunk_tls: Vec<TlsSettings>,
    /// Which optional parts of SIP are used.
    pub rules: DialogRules,
    /// The lines to providers and PBXes. Their TLS settings are used in place of `trunk_tls` when there are any.
    pub trunks: Vec<TrunkOptions>,
    /// How names are looked up.
    pub resolver: ResolverOptions,
    /// Who is told of calls that were refused because there was no room for them; while it is full, nobody is.
    pub refusals: Option<mpsc::Sender<RefusedCall>>,
}

impl UserAgentOptions {
    /// Listens on `listen` for loopback peers, eight calls at once, everything else by default.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            public_address: None,
            allowed_peers: [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
                .map(IpNet::from)
                .to_vec(),
            silent_to_strangers: true,
            inbound_users: None,
            max_calls: 8,
            max_calls_per_second: 30,
            timers: Timers::default(),
            header_charset: HeaderCharset::default(),
            user: "offhook".to_owned(),
            listen_tcp: None,
            listen_tls: None,
            tls_certificate_file: None,
            tls_key_file: None,
            max_connections: 64,
            trunk_tls: Vec::new(),
            rules: DialogRules::default(),
            trunks: Vec::new(),
            resolver: ResolverOptions { prefer_ipv6: listen.is_ipv6(), ..ResolverOptions::default() },
            refusals: None,
        }
    }
}

/// A running user agent. Dropping it ends it as [`UserAgent::shutdown`] does, in the background.
pub struct UserAgent {
    pub(super) shared: Arc<Shared>,
    local: SocketAddr,
    advertised: SocketAddr,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    user: String,
    trunks: Mutex<BTreeMap<String, Arc<OutgoingTrunk>>>,
    resolver: Arc<Resolver>,
    #[cfg(test)]
    pub(super) socket: Arc<GuardedSocket>,
}

impl std::fmt::Debug for UserAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserAgent").field("local", &self.local).finish_non_exhaustive()
    }
}

impl UserAgent {
    /// Binds the sockets and starts to listen. Must run within a tokio runtime.
    ///
    /// The channel is bounded: when as many calls wait in it as may be in progress, or when it was dropped, further
    /// ones are refused.
    ///
    /// # Errors
    /// [`SipError::Bind`] or [`SipError::Listen`] when a port cannot be had, [`SipError::Tls`] when the certificate cannot
    /// be used.
    pub async fn start(options: UserAgentOptions) -> Result<(UserAgent, mpsc::Receiver<IncomingCall>), SipError> {
        let listen = options.listen;
        let bind_error = |source| SipError::Bind { address: listen, source };
        let socket = tokio::net::UdpSocket::bind(listen).await.map_err(bind_error)?;
        let bound = socket.local_addr().map_err(bind_error)?;
        let local = SocketAddr::new(concrete_address(&options), bound.port());
        let advertised = SocketAddr::new(options.public_address.unwrap_or(local.ip()), bound.port());
        let listeners = listeners(&options).await?;
        let listens_on = |at: usize| listeners[at].as_ref().and_then(Listener::local_addr);
        let (tcp, tls) = (listens_on(0), listens_on(1));
        mark_signalling(&SockRef::from(&socket), bound);
        let user_agent = concat!("offhook/", env!("CARGO_PKG_VERSION"));

        let counters = Arc::new(Counters::default());
        let limit = options.max_calls;
        let trunks = options.trunks.iter().map(|trunk| Trunk::new(trunk.clone(), limit).map(Arc::new));
        let trunks = trunks.collect::<Result<Vec<_>, _>>()?;
        let publics = trunks.iter().map(|trunk| trunk.config.public_address).collect();
        // A trunk that is named by its address is known before its first look-up: calls may come in at once.
        let peers_of = |trunk: &Trunk| {
            let literal = trunk.query.literal_addresses().map(IpNet::from);
            trunk.config.allowed_peers.iter().copied().chain(literal).collect()
        };
        let peers_of_trunks = trunks.iter().map(|trunk| peers_of(trunk)).collect();
        let peers = Arc::new(Peers::new(options.allowed_peers.clone(), peers_of_trunks));
        let rules = Rules {
            silent_to_strangers: options.silent_to_strangers,
            calls_per_second: options.max_calls_per_second,
            charset: options.header_charset,
            charsets: trunks.iter().map(|trunk| trunk.config.header_charset).collect(),
            user_agent: user_agent.to_owned(),
        };
        let now = Instant::now();
        let inbound = options.inbound_users.clone().map(|users| Inbound::new(users, &options.user, now));
        let wire = Arc::new(WireGate::new(rules, peers.clone(), counters.clone(), inbound, now));
        let trunk_tls = match trunks.is_empty() {
            true => options.trunk_tls.clone(),
            false => trunks.iter().map(|trunk| TlsSettings::from(&trunk.config)).collect(),
        };
        let addresses = Arc::new(Addresses::new(bound, options.public_address, peers.clone(), publics));
        let locator = Locator::default();
        let sending = (addresses.clone(), locator.clone());
        let socket = Arc::new(GuardedSocket::new(socket, (bound, local), sending, wire.clone()));
        let token = CancellationToken::new();
        let transport = UdpConnection::from_socket(socket.clone(), None, Some(token.child_token()))
            .await
            .map_err(|error| SipError::Failed(error.to_string()))?;
        let udp = SipConnection::from(transport);
        let resolver = Resolver::new(options.resolver.clone());
        let stack_resolver = Box::new(StackResolver(resolver.clone()));
        let transports = TransportLayer::new_with_domain_resolver(token.clone(), stack_resolver);
        transports.add_transport(udp.clone());
        let Timers { t1, t2, t4 } = options.timers;
        let callid_format = CallIdFormat::Uuid;
        let timers = EndpointOption { t1, t2, t4, t1x64: t1 * 64, callid_format, ..Default::default() };
        let endpoint = EndpointBuilder::new()
            .with_user_agent(user_agent)
            .with_cancel_token(token.clone())
            .with_transport_layer(transports)
            .with_option(timers)
            .with_target_locator(Box::new(locator.clone()))
            .build();
        let transactions = endpoint.incoming_transactions().map_err(|error| SipError::Failed(error.to_string()))?;

        let flows = Flows::new(FlowOptions {
            endpoint: endpoint.inner.clone(),
            gate: wire.clone(),
            peers: peers.clone(),
            counters: counters.clone(),
            addresses: addresses.clone(),
            udp,
            resolver: resolver.clone(),
            placeholder: local,
            listen: bound,
            max_connections: options.max_connections,
            trunk_tls,
            closing: token.clone(),
        });
        locator.serve(&flows);
        flows.listen(listeners.into_iter().flatten().collect());

        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            layer: Arc::new(DialogLayer::new(endpoint.inner.clone())),
            routes: Default::default(),
            counters,
            permits: Arc::new(Semaphore::new(options.max_calls)),
            max_calls: options.max_calls,
            peers: peers.clone(),
            pending: Default::default(),
            max_pending: max_pending(&options),
            busy: Default::default(),
            leaving: closing.child_token(),
            closing,
            stopped: CancellationToken::new(),
            contact: own_uri(&options.user, local),
            flows,
            rules: options.rules,
            t1,
            trunks,
            refusals: options.refusals.clone(),
        });
        let calls_in_progress: Weak<dyn Calls> = Arc::downgrade(&shared) as _;
        wire.attach(calls_in_progress);
        let (calls, incoming) = mpsc::channel(options.max_calls.max(1));
        tokio::spawn(async move { endpoint.serve().await });
        tokio::spawn(gate::run(shared.clone(), transactions, calls));
        let parts = TrunkParts {
            endpoint: shared.layer.endpoint.clone(),
            flows: shared.flows.clone(),
            addresses,
            peers,
            resolver: resolver.clone(),
            has_public_address: options.public_address.is_some(),
            closing: shared.leaving.clone(),
        };
        let trunks = trunk::start(&shared.trunks, parts);
        tokio::spawn(stop_when_closing(shared.clone(), socket.clone(), trunks, options.timers, token));
        info!(%local, %advertised, ?tcp, ?tls, "SIP user agent listens");
        let agent = UserAgent {
            shared,
            local,
            advertised,
            tcp,
            tls,
            user: options.user,
            trunks: Mutex::default(),
            resolver: Arc::new(resolver),
            #[cfg(test)]
            socket,
        };
        Ok((agent, incoming))
    }

    /// The ways to peers.
    #[cfg(test)]
    pub(super) fn flows(&self) -> &Flows {
        &self.shared.flows
    }

    /// Where it listens: the port that was bound, and an address that is never unspecified.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where it listens on TCP.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Where it listens on TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// The address that it shows to peers.
    pub fn advertised_addr(&self) -> SocketAddr {
        self.advertised
    }

    /// The trunks, in the order of the options.
    pub fn trunks(&self) -> Vec<TrunkHandle> {
        self.shared.trunks.iter().map(Trunk::handle).collect()
    }

    /// What was refused, repaired and dropped so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// How many calls are in progress, those that still ring included.
    pub fn calls(&self) -> usize {
        self.shared.max_calls - self.shared.permits.available_permits()
    }

    /// Calls `uri` (such as `sip:620@192.0.2.1:5060`) with an SDP offer.
    ///
    /// # Errors
    /// [`SipError::Uri`] when the URI cannot be read, [`SipError::Full`] when there is no call permit.
    pub async fn invite(&self, uri: &str, offer: Vec<u8>) -> Result<OutgoingCall, SipError> {
        self.dial(Dial { to: uri.to_owned(), offer, ..Dial::default() }).await
    }

    /// Places a call, through a trunk or directly. What hinders it on the way comes with [`OutgoingCall::answered`].
    ///
    /// # Errors
    /// [`SipError::Uri`] when the number or URI cannot be read, [`SipError::UnknownTrunk`], [`SipError::Full`] when there is
    /// no call permit.
    pub async fn dial(&self, dial: Dial) -> Result<OutgoingCall, SipError> {
        let trunk = match &dial.trunk {
            None => None,
            Some(name) => Some(self.trunk(name)?),
        };
        outgoing::dial(&self.shared, dial, trunk, own_uri(&self.user, self.advertised), self.resolver.clone())
    }

    /// Lets calls be placed through a trunk; replaces the trunk of the same name.
    pub fn add_trunk(&self, trunk: OutgoingTrunk) {
        let mut trunks = self.trunks.lock().unwrap_or_else(PoisonError::into_inner);
        trunks.insert(trunk.name.clone(), Arc::new(trunk));
    }

    /// The trunk that [`UserAgent::add_trunk`] was given, else the agent's own.
    ///
    /// # Errors
    /// [`SipError::UnknownTrunk`].
    pub fn trunk(&self, name: &str) -> Result<Arc<OutgoingTrunk>, SipError> {
        let trunks = self.trunks.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || {
            let (place, trunk) = self.shared.trunks.iter().enumerate().find(|(_, trunk)| *trunk.name == *name)?;
            OutgoingTrunk::of(place, trunk).map(Arc::new)
        };
        trunks.get(name).cloned().or_else(own).ok_or_else(|| {
            let own = self.shared.trunks.iter().map(|trunk| &*trunk.name);
            let known: Vec<&str> = trunks.keys().map(String::as_str).chain(own).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            SipError::UnknownTrunk { name: name.to_owned(), known }
        })
    }

    /// Whether the host of a URI is one of a trunk's: by name, or by an address that its names resolve to or that may call on it.
    pub fn leads_to(&self, trunk: &str, uri: &str) -> bool {
        let Some(host) = host_of(uri) else { return false };
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let place = self.shared.trunks.iter().position(|own| *own.name == *trunk);
        let by_address = address
            .is_ok_and(|address| place.is_some_and(|place| self.shared.peers.trunks_of(address).any(|at| at == place)));
        by_address || self.trunk(trunk).is_ok_and(|trunk| trunk.has_host(host))
    }

    /// Unregisters from the trunks and answers new calls with 503. Calls in progress go on, also what they place and hand over.
    pub fn withdraw(&self) {
        self.shared.leaving.cancel();
    }

    /// Ends every call (BYE, CANCEL or 503, whatever its state asks for) and stops listening.
    ///
    /// Returns as soon as the peers have answered, and after two seconds at the latest.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        self.shared.stopped.cancelled().await;
    }
}

impl Drop for UserAgent {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

/// Waits for the order to close and for the calls to end, then stops the stack.
async fn stop_when_closing(
    shared: Arc<Shared>,
    socket: Arc<GuardedSocket>,
    trunks: JoinSet<()>,
    timers: Timers,
    stack: CancellationToken,
) {
    shared.closing.cancelled().await;
    // Every call in progress holds a permit until it is over.
    let all = u32::try_from(shared.max_calls).unwrap_or(u32::MAX);
    let patience = Duration::from_secs(2).min(timers.t1 * 64);
    let deadline = tokio::time::Instant::now() + patience;
    // The trunks unregister meanwhile, and give up by themselves.
    let unregistered = tokio::spawn(tokio::time::timeout_at(deadline, trunks.join_all()));
    if tokio::time::timeout_at(deadline, shared.permits.acquire_many(all)).await.is_err() {
        let left = shared.max_calls - shared.permits.available_permits();
        warn!(left, "SIP calls had not ended when the user agent stopped");
    }
    let _ = unregistered.await;
    stack.cancel();
    socket.close();
    shared.stopped.cancel();
}

/// The listeners for TCP and TLS, bound.
async fn listeners(options: &UserAgentOptions) -> Result<[Option<Listener>; 2], SipError> {
    let tcp = match options.listen_tcp {
        Some(address) => Some(Listener::tcp(address, "sip.listen_tcp").await?),
        None => None,
    };
    let tls = match options.listen_tls {
        Some(address) => {
            let files = options.tls_certificate_file.as_deref().zip(options.tls_key_file.as_deref());
            let (certificate_file, key_file) = files.ok_or(TlsError::Half)?;
            let acceptor = TlsAcceptor::from(tls::server(certificate_file, key_file)?);
            Some(Listener::tls(address, "sip.listen_tls", acceptor).await?)
        }
        None => None,
    };
    Ok([tcp, tls])
}

/// How many INVITEs may be unanswered or unacknowledged: each takes about 23 kB.
fn max_pending(options: &UserAgentOptions) -> usize {
    64 + 4 * options.max_calls + 2 * options.max_calls_per_second as usize
}

fn own_uri(user: &str, address: SocketAddr) -> rsip::Uri {
    rsip::Uri {
        scheme: Some(rsip::Scheme::Sip),
        auth: Some(rsip::Auth { user: user.to_owned(), password: None }),
        host_with_port: address.into(),
        ..Default::default()
    }
}

/// What the stack takes for our address: it must be concrete, and is not shown to anybody, since what leaves is stamped for its receiver.
/// A box that starts before its network has one all the same.
fn concrete_address(options: &UserAgentOptions) -> IpAddr {
    let listen = options.listen.ip();
    let loopback = || if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    if !listen.is_unspecified() {
        return listen;
    }
    options.public_address.or_else(|| route_of_peers(options)).unwrap_or_else(loopback)
}

/// The address from which the route to the first peer leaves.
fn route_of_peers(options: &UserAgentOptions) -> Option<IpAddr> {
    let listen = options.listen;
    let same_family = |net: &&IpNet| net.addr().is_ipv4() == listen.is_ipv4() && !net.addr().is_unspecified();
    let target = match options.allowed_peers.iter().find(same_family) {
        Some(net) => net.hosts().next().unwrap_or(net.addr()),
        // Documentation prefixes (RFC 5737, RFC 3849): nothing is sent, only the default route looked up.
        None if listen.is_ipv4() => Ipv4Addr::new(192, 0, 2, 1).into(),
        None => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let probe = std::net::UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).ok()?;
    probe.connect(SocketAddr::new(target, 9)).ok()?;
    Some(probe.local_addr().ok()?.ip())
}
