//! Where a request goes: the servers of a name in the order in which they are tried (RFC 3263 §4, RFC 2782).
//!
//! ```text
//!   outbound proxy, else servers, else registrar, else domain
//!     ├─ address or port given ──────────────────────────────────┐
//!     ├─ servers of the configuration ─ by priority and weight ──┤
//!     └─ NAPTR that fits the transport ─► SRV ─ likewise ────────┴─► A and AAAA ─► those out of favour last
//! ```
//!
//! The transport is the configuration's: NAPTR records choose among the SRV records of that transport only. Answers are kept for
//! their TTL within 5 s and an hour; while the DNS is silent, old answers are used again, since a box must go on working.
//!
//! Not implemented: the choice of a transport by NAPTR (RFC 3263 §4.1), names of the `.local` domain (RFC 6762), DNSSEC.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Target, Transport};
use crate::config::{HostPort, ServerEntry, ServerError, Trunk};

mod cache;
mod dns;
mod order;
mod penalty;
mod stack;

use cache::{Cache, Known};
use dns::{Dns, Records};
use order::{Ranked, ordered};
use penalty::Penalties;
pub(super) use stack::StackResolver;

/// Time for one question.
const LOOKUP: Duration = Duration::from_secs(2);
/// Time for all questions that one request asks.
const ALL_LOOKUPS: Duration = Duration::from_secs(4);
/// How long the addresses of the other family are waited for when there is one of the preferred family (RFC 8305 §3).
const OTHER_FAMILY: Duration = Duration::from_millis(200);
/// Time for one question when there is an old answer to go on with; the question stays open behind it.
const LOOKUP_OF_KNOWN: Duration = Duration::from_millis(500);
/// Servers that one name may stand for; more are not tried.
const TARGETS: usize = 32;

/// A kind of DNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Servers of a service (RFC 2782).
    Srv,
    /// Services of a domain (RFC 3403).
    Naptr,
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
            Self::Naptr => "NAPTR",
        })
    }
}

/// Why a name stands for no server, and whose fault that is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The configuration, or the domain's owner.
    #[error("the DNS knows no name {name} ({record} record); check its spelling in the configuration")]
    NoSuchName {
        /// The name asked for.
        name: String,
        /// The kind of record asked for.
        record: Record,
    },
    /// The configuration, or the domain's owner.
    #[error(
        "{name} has no {record} record in the DNS; check the name in the configuration, or give the server's address"
    )]
    NoRecord {
        /// The name asked for.
        name: String,
        /// The kind of record asked for.
        record: Record,
    },
    /// The domain's owner: an SRV record says that there is no such service.
    #[error(
        "{name} offers no SIP over this transport (the target of its SRV record is \".\"); choose another transport"
    )]
    NotOffered {
        /// The name of the SRV record.
        name: String,
    },
    /// The name server, or the way to it.
    #[error(
        "no answer from the DNS to the question for {name} ({record} record); check the network and its name server"
    )]
    NoAnswer {
        /// The name asked for.
        name: String,
        /// The kind of record asked for.
        record: Record,
    },
    /// The name server.
    #[error("the DNS failed at {name} ({record} record): {reason}; check the network and its name server")]
    Failed {
        /// The name asked for.
        name: String,
        /// The kind of record asked for.
        record: Record,
        /// What was said.
        reason: String,
    },
    /// This box.
    #[error("this box knows no name server ({reason}); check the network, or give the server's address")]
    NoNameserver {
        /// What was said.
        reason: String,
    },
    /// The peer or the configuration.
    #[error("{name:?} cannot be a name in the DNS; check its spelling")]
    BadName {
        /// The name.
        name: String,
    },
}

impl ResolveError {
    /// Whether it is the DNS's word that there is nothing, and not a failure to get its word.
    fn is_answer(&self) -> bool {
        matches!(self, Self::NoSuchName { .. } | Self::NoRecord { .. } | Self::NotOffered { .. } | Self::BadName { .. })
    }
}

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct ResolverOptions {
    /// The name servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Which family's addresses of a host are tried first: the one that the box listens on.
    pub prefer_ipv6: bool,
    /// What servers of equal priority are drawn with; the same seed gives the same order.
    pub seed: u64,
}

impl Default for ResolverOptions {
    /// The system's name servers, IPv4 first, and a seed of its own.
    fn default() -> Self {
        Self { nameservers: Vec::new(), prefer_ipv6: false, seed: fastrand::u64(..) }
    }
}

/// Which servers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The next hop. Not looked up when there are `servers`.
    pub server: HostPort,
    /// What carries the request.
    pub transport: Transport,
    /// Servers to use in place of what the DNS says of `server`.
    pub servers: Vec<ServerEntry>,
    /// The name that the other side's certificate must show; [`Target::name`] of what is found.
    pub name: String,
}

impl Query {
    /// The servers of a host, as a URI names it.
    pub fn to(server: HostPort, transport: Transport) -> Self {
        Self { name: server.host.clone(), server, transport, servers: Vec::new() }
    }

    /// The first hop of a trunk's requests: its outbound proxy, else its servers, else its registrar, else its domain.
    ///
    /// # Errors
    /// [`ServerError`] when one of these is no server's name.
    pub fn of_trunk(trunk: &Trunk) -> Result<Self, ServerError> {
        let hop = trunk.outbound_proxy.as_deref().or(trunk.registrar.as_deref());
        let servers = match &trunk.outbound_proxy {
            Some(_) => Vec::new(),
            None => trunk.servers.iter().map(|server| server.parse()).collect::<Result<Vec<ServerEntry>, _>>()?,
        };
        let server = match (hop, servers.first()) {
            (None, Some(first)) if trunk.domain.is_empty() => first.server.clone(),
            _ => hop.unwrap_or(&trunk.domain).parse()?,
        };
        let name = trunk.tls_server_name.clone().unwrap_or_else(|| server.host.clone());
        Ok(Self { server, transport: trunk.transport, servers, name })
    }

    /// The servers that are named by their address: nobody need be asked for these.
    pub fn literal_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let configured = self.servers.iter().map(|entry| &entry.server);
        let named = self.servers.is_empty().then_some(&self.server);
        configured.chain(named).filter_map(HostPort::address)
    }

    fn default_port(&self) -> u16 {
        if self.transport == Transport::Tls { 5061 } else { 5060 }
    }

    /// The name of the SRV records (RFC 3263 §4.1).
    fn service(&self) -> String {
        let service = match self.transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
        };
        format!("{service}.{}", self.server.host)
    }

    /// The service of the NAPTR records that fit.
    fn naptr_service(&self) -> &'static str {
        match self.transport {
            Transport::Udp => "SIP+D2U",
            Transport::Tcp => "SIP+D2T",
            Transport::Tls => "SIPS+D2T",
        }
    }
}

/// What led to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An address in the configuration or the URI: nothing was looked up.
    Address,
    /// The servers of the configuration.
    Configuration,
    /// The host's own address records.
    Host,
    /// SRV records.
    Srv,
    /// NAPTR records, and the SRV records that they led to.
    Naptr,
}

/// Servers in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// At least one, at most 32, each once.
    pub targets: Vec<Target>,
    /// When to ask again: the records end, or a server is no longer out of favour.
    pub valid_until: Instant,
    /// What led to them.
    pub source: Source,
    /// The DNS is silent, and these are old answers of it.
    pub stale: bool,
}

/// Looks servers up, remembers what it found and which of them did not answer. Clones share that.
#[derive(Debug, Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dns: Dns,
    prefer_ipv6: bool,
    rng: Mutex<Rng>,
    cache: Mutex<Cache<(String, Record), Records, ResolveError>>,
    penalties: Mutex<Penalties<(SocketAddr, Transport)>>,
}

/// What is known of one host, or of all: addresses, until when, from old answers or not, and what else went wrong.
#[derive(Debug, Default)]
struct Findings {
    until: Option<Instant>,
    stale: bool,
    error: Option<ResolveError>,
}

impl Findings {
    /// Takes the records, if there are some, and takes down how long they last or why there are none.
    fn take(&mut self, known: Known<Records, ResolveError>) -> Option<Records> {
        let error = known.answer.as_ref().err();
        // That there is no such record does not shorten the life of those that there are.
        if error.is_none_or(|error| !error.is_answer()) {
            self.until = Some(self.until.map_or(known.until, |until| until.min(known.until)));
        }
        self.stale |= known.stale && known.answer.is_ok();
        // A host without one family's records is an ordinary one; that nobody answers is worse.
        if let Some(error) = error
            && self.error.as_ref().is_none_or(|worse| worse.is_answer() && !error.is_answer())
        {
            self.error = Some(error.clone());
        }
        known.answer.ok()
    }

    fn merge(&mut self, other: Findings) {
        self.until = [self.until, other.until].into_iter().flatten().min();
        self.stale |= other.stale;
        self.error = self.error.take().or(other.error);
    }
}

impl Resolver {
    /// A resolver that knows nothing yet. Nothing is sent before the first question.
    pub fn new(options: ResolverOptions) -> Self {
        let shared = Shared {
            dns: Dns::new(options.nameservers),
            prefer_ipv6: options.prefer_ipv6,
            rng: Mutex::new(Rng::with_seed(options.seed)),
            cache: Mutex::new(Cache::new()),
            penalties: Mutex::new(Penalties::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The servers to try, one after another. Takes four seconds at most; may be dropped at any point.
    ///
    /// Servers of equal priority are drawn anew each time.
    ///
    /// # Errors
    /// [`ResolveError`] when there is no server at all: what could be found is not an error.
    pub async fn targets(&self, query: &Query) -> Result<Resolved, ResolveError> {
        let deadline = Instant::now() + ALL_LOOKUPS;
        let mut findings = Findings::default();
        let (servers, source) = self.servers(query, &mut findings, deadline).await?;
        let addresses = self.addresses(servers, &mut findings, deadline).await;
        let mut targets: Vec<Target> = Vec::new();
        for address in addresses {
            if targets.len() < TARGETS && !targets.iter().any(|target| target.address == address) {
                targets.push(Target { address, transport: query.transport, name: query.name.clone() });
            }
        }
        if targets.is_empty() {
            let missing = || ResolveError::NoRecord { name: query.server.host.clone(), record: self.address_record() };
            return Err(findings.error.unwrap_or_else(missing));
        }
        let now = Instant::now();
        let back = lock(&self.shared.penalties).sort(&mut targets, |target| (target.address, target.transport), now);
        let valid_until = findings.until.unwrap_or(now + *cache::TTL.end());
        let valid_until = back.map_or(valid_until, |back| valid_until.min(back));
        Ok(Resolved { targets, valid_until, source, stale: findings.stale })
    }

    /// The server did not answer, or answered that it cannot serve: for 30 s, and up to 300 s the more often it happens, it is
    /// tried last.
    pub fn penalise(&self, target: &Target) {
        lock(&self.shared.penalties).penalise((target.address, target.transport), Instant::now());
    }

    /// The server has answered.
    pub fn forgive(&self, target: &Target) {
        lock(&self.shared.penalties).forgive(&(target.address, target.transport));
    }

    /// The network has changed: everything is asked anew, over fresh sockets. Old answers stay for the case that nobody answers.
    pub fn refresh(&self) {
        self.shared.dns.restart();
        lock(&self.shared.cache).expire(Instant::now());
    }

    /// Hosts and ports in the order in which they are tried.
    async fn servers(
        &self,
        query: &Query,
        findings: &mut Findings,
        deadline: Instant,
    ) -> Result<(Vec<Ranked>, Source), ResolveError> {
        let port = |server: &HostPort| server.port.unwrap_or(query.default_port());
        if !query.servers.is_empty() {
            let ranked = |entry: &ServerEntry| Ranked {
                priority: entry.priority,
                weight: entry.weight,
                host: entry.server.host.clone(),
                port: port(&entry.server),
            };
            return Ok((self.draw(query.servers.iter().map(ranked).collect()), Source::Configuration));
        }
        let host = &query.server.host;
        let itself = Ranked { priority: 0, weight: 0, host: host.clone(), port: port(&query.server) };
        if query.server.address().is_some() {
            return Ok((vec![itself], Source::Address));
        }
        if query.server.port.is_some() {
            return Ok((vec![itself], Source::Host));
        }
        let service = query.service();
        // Most NAPTR records lead where one would have looked anyway, so that is asked at once.
        let (naptr, usual) =
            tokio::join!(self.ask(host, Record::Naptr, deadline), self.ask(&service, Record::Srv, deadline));
        let names = match findings.take(naptr) {
            Some(Records::Services(services)) => fitting(services, query.naptr_service()),
            _ => Vec::new(),
        };
        let source = if names.is_empty() { Source::Srv } else { Source::Naptr };
        let mut found = Vec::new();
        let mut lookups = JoinSet::new();
        for name in names.iter().filter(|name| **name != service).cloned() {
            let resolver = self.clone();
            lookups.spawn(async move {
                let answer = resolver.ask(&name, Record::Srv, deadline).await;
                (name, answer)
            });
        }
        if names.is_empty() || names.contains(&service) {
            found.push((service, usual));
        }
        while let Some(looked_up) = lookups.join_next().await {
            found.extend(looked_up);
        }
        // As the NAPTR records order them.
        found.sort_by_key(|(name, _)| names.iter().position(|wanted| wanted == name));
        let mut servers = Vec::new();
        for (name, answer) in found {
            let Some(Records::Servers(ranked)) = findings.take(answer) else { continue };
            if matches!(ranked.as_slice(), [one] if one.host.is_empty()) {
                return Err(ResolveError::NotOffered { name });
            }
            servers.extend(self.draw(ranked.into_iter().filter(|server| !server.host.is_empty()).collect()));
        }
        if servers.is_empty() {
            // What is said of the host itself is the better complaint.
            findings.error = None;
            return Ok((vec![itself], Source::Host));
        }
        Ok((servers, source))
    }

    /// The addresses of servers, in their order; those of the preferred family first within each.
    async fn addresses(&self, servers: Vec<Ranked>, findings: &mut Findings, deadline: Instant) -> Vec<SocketAddr> {
        let mut known: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut lookups = JoinSet::new();
        for server in &servers {
            if known.contains_key(&server.host) {
                continue;
            }
            let numeric: Option<IpAddr> = server.host.parse().ok();
            known.insert(server.host.clone(), numeric.into_iter().collect());
            if numeric.is_none() {
                let (resolver, host) = (self.clone(), server.host.clone());
                lookups.spawn(async move {
                    let (addresses, findings) = resolver.host(&host, deadline).await;
                    (host, addresses, findings)
                });
            }
        }
        let mut complaints = HashMap::new();
        while let Some(looked_up) = lookups.join_next().await {
            let Ok((host, addresses, found)) = looked_up else { continue };
            // In the order of the servers, not of the answers.
            complaints.insert(host.clone(), found);
            known.insert(host, addresses);
        }
        for server in &servers {
            if let Some(found) = complaints.remove(&server.host) {
                findings.merge(found);
            }
        }
        let with_port = |server: &Ranked| {
            let port = server.port;
            let addresses = known.get(&server.host).into_iter().flatten();
            addresses.map(|address| SocketAddr::new(*address, port)).collect::<Vec<_>>()
        };
        servers.iter().flat_map(with_port).collect()
    }

    /// The addresses of one host.
    async fn host(&self, host: &str, deadline: Instant) -> (Vec<IpAddr>, Findings) {
        let preferred = self.address_record();
        let other = if preferred == Record::A { Record::Aaaa } else { Record::A };
        let mut first = std::pin::pin!(self.ask(host, preferred, deadline));
        let mut second = std::pin::pin!(self.ask(host, other, deadline));
        let (first, second) = tokio::select! {
            first = &mut first => match first.answer {
                // A network that swallows questions for the other family must not cost two seconds each time.
                Ok(_) => (first, timeout(OTHER_FAMILY, second).await.ok()),
                Err(_) => (first, Some(second.await)),
            },
            second = &mut second => (first.await, Some(second)),
        };
        let mut findings = Findings::default();
        let mut addresses = Vec::new();
        for known in [Some(first), second].into_iter().flatten() {
            if let Some(Records::Addresses(found)) = findings.take(known) {
                addresses.extend(found);
            }
        }
        (addresses, findings)
    }

    /// What is known, or what the DNS says within the time there is. An answer that comes later is there for the next question.
    async fn ask(&self, name: &str, record: Record, deadline: Instant) -> Known<Records, ResolveError> {
        let question = (name.to_owned(), record);
        let now = Instant::now();
        let patience = {
            let cache = lock(&self.shared.cache);
            if let Some(known) = cache.known(&question, now) {
                return known;
            }
            let patience = if cache.has_old(&question) { LOOKUP_OF_KNOWN } else { LOOKUP };
            patience.min(deadline.saturating_duration_since(now))
        };
        let (shared, asked) = (self.shared.clone(), question.clone());
        let lookup = tokio::spawn(async move {
            let (name, record) = &asked;
            let answer = timeout(LOOKUP, shared.dns.ask(name, *record)).await;
            let silence = || (ResolveError::NoAnswer { name: name.clone(), record: *record }, Duration::ZERO);
            let answer = answer.unwrap_or_else(|_| Err(silence()));
            let mut cache = lock(&shared.cache);
            match answer {
                Err((error, _)) if !error.is_answer() => cache.failed(asked, error, Instant::now()),
                answer => cache.answered(asked, answer, Instant::now()),
            }
        });
        if let Ok(Ok(known)) = timeout(patience, lookup).await {
            return known;
        }
        let error = ResolveError::NoAnswer { name: name.to_owned(), record };
        lock(&self.shared.cache).failed(question, error, Instant::now())
    }

    fn draw(&self, servers: Vec<Ranked>) -> Vec<Ranked> {
        ordered(servers, &mut lock(&self.shared.rng))
    }

    fn address_record(&self) -> Record {
        if self.shared.prefer_ipv6 { Record::Aaaa } else { Record::A }
    }
}

/// Where the SRV records of a service are, best first.
fn fitting(mut services: Vec<dns::Service>, service: &str) -> Vec<String> {
    services.retain(|offered| offered.service == service);
    services.sort_by_key(|offered| offered.rank);
    let mut names: Vec<String> = services.into_iter().map(|offered| offered.replacement).collect();
    names.dedup();
    names.truncate(4);
    names
}

/// A thread that panicked has left nothing half done: each of these is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
