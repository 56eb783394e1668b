//! The connections to and from peers: listeners with their caps, dialling, and one place to ask for the way to a target
//! (RFC 3261 §18, RFC 5923).
//!
//! [`Flows::reach`] gives the listener's own socket for UDP, and for TCP and TLS the connection that is up or a new one;
//! all who ask for the same target wait for the same dial. Not implemented: reuse of a connection that a peer made for
//! requests of ours outside its dialogs (RFC 5923), and WebSocket.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rsipstack::rsip;
use rsipstack::transaction::endpoint::{EndpointInnerRef, TargetLocator};
use rsipstack::transport::{SipAddr, SipConnection};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::addresses::Addresses;
use super::connection::{self, Bytes, Flow, sip_addr};
use super::large::{LargeRequests, Way};
use super::limits::RareWarning;
use super::peers::{Peer, Peers};
use super::stamp::Stamp;
use super::tls::ClientTls;
use super::wire::WireGate;
use super::{Counter, Counters, Query, Resolver, SipError, Target, TlsError, TlsSettings, Transport};
use crate::config::HostPort;

/// Connections that one address that is no trunk's may always have with us, however few there are for all.
const CONNECTIONS_PER_SOURCE: usize = 8;
/// How long a peer's TLS handshake may take.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take to come about, and its TLS handshake after that.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(3);
/// When the system looks whether a silent peer is there, and when it gives up one that acknowledges nothing.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Class selector 3 (RFC 4594 §3.1: signalling) as the TOS byte has it.
const SIGNALLING_TOS: u32 = 24 << 2;

/// Why a target cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum FlowError {
    /// The system or the peer refused the connection.
    #[error("cannot connect to {target}: {source}; is the server running there, and does a firewall let SIP through?")]
    Connect { target: Target, source: Arc<io::Error> },
    /// Nobody answered.
    #[error("no connection to {target} within {} s; is the address right, and does a firewall let SIP through?", .after.as_secs())]
    TimedOut { target: Target, after: Duration },
    /// The connection stands, TLS does not.
    #[error("no TLS with {target}: {source}")]
    Tls { target: Target, source: Arc<TlsError> },
    /// It was there and has ended.
    #[error("the connection has ended")]
    Lost,
    /// The agent has stopped.
    #[error("the user agent has stopped")]
    Closing,
}

/// What connections are made with.
pub(super) struct FlowOptions {
    pub(super) endpoint: EndpointInnerRef,
    pub(super) gate: Arc<WireGate>,
    pub(super) peers: Arc<Peers>,
    pub(super) counters: Arc<Counters>,
    pub(super) addresses: Arc<Addresses>,
    /// The socket of the UDP listener, and what the stack takes for our address.
    pub(super) udp: SipConnection,
    /// Looks up the names that peers give us.
    pub(super) resolver: Resolver,
    pub(super) placeholder: SocketAddr,
    /// Where we listen on UDP, perhaps everywhere: connections leave from the same address.
    pub(super) listen: SocketAddr,
    pub(super) max_connections: usize,
    /// By the place of the trunk.
    pub(super) trunk_tls: Vec<TlsSettings>,
    pub(super) closing: CancellationToken,
}

/// The ways to peers. Clones share them; each may speak for a trunk.
#[derive(Clone)]
pub(super) struct Flows {
    inner: Arc<Inner>,
    trunk: Option<usize>,
}

struct Inner {
    options: FlowOptions,
    /// Our ports for TCP and TLS.
    ports: OnceLock<(Option<u16>, Option<u16>)>,
    table: Mutex<Table>,
    large: Mutex<LargeRequests>,
    warnings: Mutex<HashMap<&'static str, RareWarning>>,
}

/// A target for one trunk, whose certificates are its own.
type Key = (Target, Option<usize>);
type Dialled = Option<Result<Flow, FlowError>>;

#[derive(Default)]
struct Table {
    live: HashMap<Key, Flow>,
    dials: HashMap<Key, watch::Receiver<Dialled>>,
    /// Connections that peers made.
    sources: HashMap<IpAddr, usize>,
    accepted: usize,
    tls: HashMap<Option<usize>, ClientTls>,
}

/// A place among the connections that peers may make, given back when dropped.
pub(super) struct Slot {
    inner: Weak<Inner>,
    source: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut table = inner.table();
        table.accepted -= 1;
        if let Some(count) = table.sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                table.sources.remove(&self.source);
            }
        }
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that listens for connections; bound before anything is started.
pub(super) struct Listener {
    socket: TcpListener,
    transport: Transport,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Listens on `address`, which the configuration has under `key`.
    pub(super) async fn tcp(address: SocketAddr, key: &'static str) -> Result<Self, SipError> {
        let error = |source| SipError::Listen { key, address, source };
        let socket = TcpListener::bind(address).await.map_err(error)?;
        mark_signalling(&SockRef::from(&socket), address);
        Ok(Self { socket, transport: Transport::Tcp, tls: None })
    }

    /// The same with TLS over it.
    pub(super) async fn tls(address: SocketAddr, key: &'static str, tls: TlsAcceptor) -> Result<Self, SipError> {
        let listener = Self::tcp(address, key).await?;
        Ok(Self { transport: Transport::Tls, tls: Some(tls), ..listener })
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// Puts the class of signalling on what a socket sends; a network that has no use for it ignores it.
pub(super) fn mark_signalling(socket: &SockRef<'_>, local: SocketAddr) {
    // A socket of IPv6 that sends IPv4 has the class of that as an option of its own.
    let both = || socket.set_tclass_v6(SIGNALLING_TOS).and(socket.set_tos_v4(SIGNALLING_TOS));
    let marked = if local.is_ipv6() { both() } else { socket.set_tos_v4(SIGNALLING_TOS) };
    if let Err(error) = marked {
        debug!(%error, "SIP packets go out without their class");
    }
}

impl Flows {
    pub(super) fn new(options: FlowOptions) -> Self {
        let (table, large, warnings) = Default::default();
        Self { inner: Arc::new(Inner { options, ports: OnceLock::new(), table, large, warnings }), trunk: None }
    }

    /// The same ways, with the certificates of a trunk.
    pub(super) fn for_trunk(&self, trunk: usize) -> Self {
        Self { inner: self.inner.clone(), trunk: Some(trunk) }
    }

    /// Starts to take connections. Once only.
    pub(super) fn listen(&self, listeners: Vec<Listener>) {
        let port = |transport| {
            let listener = listeners.iter().find(|listener| listener.transport == transport);
            listener.and_then(Listener::local_addr).map(|address| address.port())
        };
        let _ = self.inner.ports.set((port(Transport::Tcp), port(Transport::Tls)));
        for listener in listeners {
            tokio::spawn(accept(self.clone(), listener));
        }
    }

    /// The way to a target: the one there is, or a new one.
    ///
    /// # Errors
    /// [`FlowError`], after five seconds at the latest.
    pub(super) fn reach(&self, target: &Target) -> Pin<Box<dyn Future<Output = Result<Flow, FlowError>> + Send>> {
        let flows = self.clone();
        let target = target.clone();
        Box::pin(async move {
            if flows.options().closing.is_cancelled() {
                return Err(FlowError::Closing);
            }
            if target.address.is_ipv6() && flows.options().listen.is_ipv4() {
                let source = Arc::new(std::io::ErrorKind::Unsupported.into());
                return Err(FlowError::Connect { target, source });
            }
            if target.transport == Transport::Udp {
                return Ok(flows.udp(target.address));
            }
            let mut dial = match flows.find_or_dial((target, flows.trunk)) {
                Ok(flow) => return Ok(flow),
                Err(dial) => dial,
            };
            match dial.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Err(FlowError::Closing)),
                Err(_) => Err(FlowError::Closing),
            }
        })
    }

    fn udp(&self, peer: SocketAddr) -> Flow {
        let options = self.options();
        Flow {
            connection: options.udp.clone(),
            destination: sip_addr(peer, Transport::Udp),
            closed: options.closing.clone(),
            local: options.placeholder,
            pinger: None,
        }
    }

    /// The live connection, or the dial to wait for.
    fn find_or_dial(&self, key: Key) -> Result<Flow, watch::Receiver<Dialled>> {
        let mut table = self.inner.table();
        if let Some(flow) = table.live.get(&key).filter(|flow| !flow.closed.is_cancelled()) {
            return Ok(flow.clone());
        }
        if let Some(dial) = table.dials.get(&key) {
            return Err(dial.clone());
        }
        let (outcome, dial) = watch::channel(None);
        table.dials.insert(key.clone(), dial.clone());
        // A task of its own: who asked first may go away.
        let flows = self.clone();
        tokio::spawn(async move {
            let result = flows.dial(&key.0).await;
            let mut table = flows.inner.table();
            table.dials.remove(&key);
            // One that has ended already was not there when it was to be forgotten.
            if let Some(flow) = result.as_ref().ok().filter(|flow| !flow.closed.is_cancelled()) {
                table.live.insert(key, flow.clone());
            }
            drop(table);
            let _ = outcome.send(Some(result));
        });
        Err(dial)
    }

    /// A connection there that some trunk has.
    fn of_any_trunk(&self, target: &Target) -> Option<Flow> {
        let table = self.inner.table();
        let same = |other: &Target| other.address == target.address && other.transport == target.transport;
        let mut live = table.live.iter().filter(|((other, _), flow)| same(other) && !flow.closed.is_cancelled());
        live.next().map(|(_, flow)| flow.clone())
    }

    async fn dial(&self, target: &Target) -> Result<Flow, FlowError> {
        let failed = |source: io::Error| FlowError::Connect { target: target.clone(), source: Arc::new(source) };
        let late = |after| FlowError::TimedOut { target: target.clone(), after };
        let socket = match target.address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .map_err(failed)?;
        let from = self.options().listen.ip();
        if !from.is_unspecified() && from.is_ipv4() == target.address.is_ipv4() {
            socket.bind(SocketAddr::new(from, 0)).map_err(failed)?;
        }
        mark_signalling(&SockRef::from(&socket), target.address);
        let connected = timeout(CONNECT_DEADLINE, socket.connect(target.address)).await;
        let stream = connected.map_err(|_| late(CONNECT_DEADLINE))?.map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?;
        set_options(&stream);
        let bytes: Box<dyn Bytes> = match target.transport {
            Transport::Tls => {
                let failed = |source: TlsError| {
                    self.count(Counter::Handshake);
                    FlowError::Tls { target: target.clone(), source: Arc::new(source) }
                };
                let tls = self.client_tls().await.map_err(failed)?;
                let handshake = timeout(HANDSHAKE_DEADLINE, tls.connect(&target.name, stream)).await;
                Box::new(handshake.map_err(|_| late(HANDSHAKE_DEADLINE))?.map_err(failed)?)
            }
            Transport::Udp | Transport::Tcp => Box::new(stream),
        };
        self.count(Counter::ConnectionsOut);
        debug!(%target, %local, "SIP connection made");
        let ends = (target.address, local, target.transport);
        connection::start(self, bytes, ends, Some(target.clone()), None).await
    }

    /// The trunk's TLS; its files are read once it works, and again while they do not.
    async fn client_tls(&self) -> Result<ClientTls, TlsError> {
        if let Some(tls) = self.inner.table().tls.get(&self.trunk) {
            return Ok(tls.clone());
        }
        // Without a trunk there is no telling whose settings count, unless there is but one.
        let all = &self.options().trunk_tls;
        let of_trunk = all.get(self.trunk.unwrap_or(0)).filter(|_| self.trunk.is_some() || all.len() == 1);
        let settings = of_trunk.cloned().unwrap_or_default();
        let read = tokio::task::spawn_blocking(move || ClientTls::new(&settings)).await;
        let tls = read.unwrap_or(Err(TlsError::NoRoots))?;
        self.inner.table().tls.insert(self.trunk, tls.clone());
        Ok(tls)
    }

    /// A connection has ended: nobody gets it any more.
    pub(super) fn forget(&self, closed: &CancellationToken) {
        debug_assert!(closed.is_cancelled());
        self.inner.table().live.retain(|_, flow| !flow.closed.is_cancelled());
    }

    /// Where a URI leads that a peer gave us, over `transport` unless it says another.
    pub(super) async fn locate(&self, uri: &rsip::Uri, transport: Transport) -> Option<Target> {
        use rsip::uri::ParamsExt;
        let transport = match (uri.transport(), &uri.scheme) {
            (Some(rsip::Transport::Udp), _) => Transport::Udp,
            (Some(rsip::Transport::Tls), _) | (_, Some(rsip::Scheme::Sips)) => Transport::Tls,
            (Some(rsip::Transport::Tcp), _) => Transport::Tcp,
            _ => transport,
        };
        let default = if transport == Transport::Tls { 5061 } else { 5060 };
        let port = uri.host_with_port.port.map_or(default, |port| port.value());
        let (name, address) = match &uri.host_with_port.host {
            rsip::Host::IpAddr(address) => (address.to_string(), SocketAddr::new(*address, port)),
            rsip::Host::Domain(name) => {
                let name = name.to_string();
                let server = HostPort { host: name, port: uri.host_with_port.port.map(|port| port.value()) };
                let found = self.options().resolver.targets(&Query::to(server, transport)).await.ok()?;
                return found.targets.into_iter().next();
            }
        };
        Some(Target { address, transport, name })
    }

    /// What a message is stamped with that goes to `peer` from `local`.
    pub(super) fn stamp_for(&self, peer: SocketAddr, transport: Transport, local: SocketAddr) -> Stamp {
        let options = self.options();
        let (tcp, tls) = self.inner.ports.get().copied().unwrap_or_default();
        let listening = match transport {
            Transport::Udp => None,
            Transport::Tcp => tcp,
            Transport::Tls => tls,
        };
        let peer = peer.ip().to_canonical();
        Stamp {
            placeholder: options.placeholder,
            transport,
            sent_by: options.addresses.sent_by(peer, local, listening),
            contact: options.addresses.shown_on(peer, transport, local, listening),
        }
    }

    /// Sends a request to a UDP peer over TCP, if that is how it should go; otherwise it remains to be sent.
    async fn send_large(&self, request: &[u8], peer: SocketAddr) -> bool {
        let now = std::time::Instant::now;
        let way = self.large().way(request, peer, now());
        let flow = match way {
            Way::Datagram => return false,
            Way::Swallowed => return true,
            Way::Over(flow) => flow,
            Way::Connect => {
                let target = Target { address: peer, transport: Transport::Tcp, name: peer.ip().to_string() };
                match self.reach(&target).await {
                    Ok(flow) => flow,
                    Err(error) => {
                        debug!(%error, "a large SIP request goes over UDP");
                        self.large().refused(peer, now());
                        return false;
                    }
                }
            }
        };
        let sent = flow.send_raw(request).await.is_ok();
        if sent {
            self.large().sent(request, flow, now());
        }
        sent
    }

    fn large(&self) -> MutexGuard<'_, LargeRequests> {
        self.inner.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn endpoint(&self) -> &EndpointInnerRef {
        &self.options().endpoint
    }

    pub(super) fn gate(&self) -> &WireGate {
        &self.options().gate
    }

    pub(super) fn closing(&self) -> &CancellationToken {
        &self.options().closing
    }

    pub(super) fn count(&self, counter: Counter) {
        self.options().counters.count(counter);
    }

    fn options(&self) -> &FlowOptions {
        &self.inner.options
    }

    /// A place for a connection from there, if there is one.
    fn admit(&self, source: IpAddr) -> Result<Slot, Counter> {
        let options = self.options();
        // A PBX that opens a connection for each call is one address; so are the phones behind a NAT.
        let most = match options.peers.of(source) {
            None => return Err(Counter::RejectedConnection),
            Some(Peer::Trunk(_)) => options.max_connections,
            Some(Peer::Allowed) => (options.max_connections / 2).max(CONNECTIONS_PER_SOURCE),
        };
        let mut table = self.inner.table();
        let from_source = table.sources.get(&source).copied().unwrap_or(0);
        if from_source >= most || table.accepted >= options.max_connections {
            return Err(Counter::ConnectionLimit);
        }
        table.accepted += 1;
        *table.sources.entry(source).or_default() += 1;
        Ok(Slot { inner: Arc::downgrade(&self.inner), source })
    }

    fn warn(&self, why: Counter, peer: SocketAddr) {
        let mut warnings = self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = warnings.entry(why.name()).or_default().due(std::time::Instant::now()) {
            warn!(%peer, reason = why.name(), suppressed, "SIP connection refused");
        }
    }

    /// Takes a connection that a peer made, unless it is one too many.
    async fn take(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        tls: Option<TlsAcceptor>,
        slot: Slot,
    ) {
        let Ok(local) = stream.local_addr() else { return };
        set_options(&stream);
        let bytes: Box<dyn Bytes> = match tls {
            None => Box::new(stream),
            Some(tls) => match timeout(ACCEPT_DEADLINE, tls.accept(stream)).await {
                Ok(Ok(stream)) => Box::new(stream),
                failed => {
                    self.count(Counter::Handshake);
                    debug!(%peer, error = ?failed.map(|handshake| handshake.err()), "TLS handshake failed");
                    return;
                }
            },
        };
        self.count(Counter::ConnectionsIn);
        debug!(%peer, %local, "SIP connection taken");
        let _ = connection::start(&self, bytes, (peer, local, transport), None, Some(slot)).await;
    }
}

async fn accept(flows: Flows, listener: Listener) {
    let closing = flows.closing().clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = closing.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                flows.count(Counter::SocketError);
                debug!(%error, "a SIP connection could not be taken");
                // Out of descriptors, most likely: trying again at once would be a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match flows.admit(peer.ip().to_canonical()) {
            Ok(slot) => {
                let taken = flows.clone().take(stream, peer, listener.transport, listener.tls.clone(), slot);
                tokio::spawn(taken);
            }
            Err(why) => {
                flows.count(why);
                flows.warn(why, peer);
            }
        }
    }
}

/// What every connection has: nothing waits to be sent, and a peer that is gone is noticed.
fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE_INTERVAL).with_retries(3);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT)));
    if let Err(error) = set {
        debug!(%error, "a TCP option could not be set");
    }
}

/// The connections for those who are there before them: the socket, and the stack, which asks where it would dial itself.
#[derive(Clone, Default)]
pub(super) struct Locator(Arc<OnceLock<Weak<Inner>>>);

impl Locator {
    pub(super) fn serve(&self, flows: &Flows) {
        let _ = self.0.set(Arc::downgrade(&flows.inner));
    }

    /// Whether a datagram went over a connection instead.
    pub(super) async fn send_large(&self, message: &[u8], peer: SocketAddr) -> bool {
        match self.0.get().and_then(Weak::upgrade).filter(|_| !message.starts_with(b"SIP/")) {
            Some(inner) => Flows { inner, trunk: None }.send_large(message, peer).await,
            None => false,
        }
    }
}

#[async_trait::async_trait]
impl TargetLocator for Locator {
    async fn locate(&self, uri: &rsip::Uri) -> rsipstack::Result<SipAddr> {
        let named = SipAddr::try_from(uri)?;
        let stream = matches!(named.r#type, Some(rsip::Transport::Tcp | rsip::Transport::Tls))
            || uri.scheme == Some(rsip::Scheme::Sips);
        let inner = self.0.get().and_then(Weak::upgrade).filter(|_| stream);
        let Some(inner) = inner else { return Ok(named) };
        let flows = Flows { inner, trunk: None };
        let unreachable = |why: String| rsipstack::Error::TransportLayerError(why, named.clone());
        let target = flows.locate(uri, Transport::Udp).await;
        let target = target.ok_or_else(|| unreachable("the name has no address".to_owned()))?;
        if let Some(flow) = flows.of_any_trunk(&target) {
            return Ok(flow.destination);
        }
        let flow = flows.reach(&target).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(flow.destination)
    }
}

#[cfg(test)]
mod tests;
