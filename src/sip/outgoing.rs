//! Places calls: drives the attempts of [`Attempts`] to an answered dialog (RFC 3261 §8.1.3, §13.2, §22; RFC 3263 §4.3).
//!
//! Each attempt is an INVITE with a call task of its own; all have the Call-ID and our tag in common. The dialog that is handed on
//! is that of the attempt that was answered. Reliable provisional responses are acknowledged by the stack, which waits for the PRACK's answer before it looks at the 200.

#![expect(clippy::result_large_err, reason = "the stack's own error, handed on once in a call")]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rsipstack::dialog::invitation::InviteOption;
use rsipstack::rsip::prelude::HasHeaders;
use rsipstack::rsip::{self, Header, Request, Response, StatusCode, StatusCodeKind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span};

use super::attempts::{Act, Attempts, Refusal, host_of};
use super::authorizer::Authorizer;
use super::branch::{self, Ending, Invitation, Reports};
use super::call::Call;
use super::dialog::{Command, Control};
use super::digest::{Challenged, Credentials, Exchange};
use super::nameaddr::percent_decode;
use super::session_timer::SessionTimer;
use super::shared::{ALLOW, CallPermit, SUPPORTED, Shared};
use super::trunk::Trunk;
use super::{ByeReason, Counter, DialogRules, OutgoingCall, Progress, Query, Resolver, SipError, Target, Transport};
use crate::config::{self, HostPort};
use crate::privacy::Secret;

/// Characters that people write into a number to read it better.
const SEPARATORS: &[char] = &[' ', '-', '.', '(', ')', '/', '\u{a0}'];

/// A call to place.
#[derive(Clone, Default)]
pub struct Dial {
    /// A number, as in `+97235551234` or `620`, or a URI, as in `sip:620@192.0.2.1:5060`.
    pub to: String,
    /// The trunk that it goes through; without one only a URI can be called, and its host is asked directly.
    pub trunk: Option<String>,
    /// The SDP offer.
    pub offer: Vec<u8>,
    /// Further headers of the INVITE, name and value, as in `Referred-By`.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("trunk", &self.trunk).finish_non_exhaustive()
    }
}

impl fmt::Debug for OutgoingTrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingTrunk").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What placing calls through a trunk takes.
pub struct OutgoingTrunk {
    pub(super) name: String,
    /// Its place among the trunks of the agent's options, whose TLS settings count.
    place: Option<usize>,
    domain: String,
    from_user: String,
    contact_user: String,
    /// Where requests go first.
    query: Query,
    rules: DialogRules,
    /// Hosts that a redirection may lead to, in small letters.
    hosts: Vec<String>,
    /// The preloaded route (RFC 3608), as header values.
    routes: Mutex<Vec<String>>,
    pub(super) credentials: Option<Arc<Mutex<Credentials>>>,
}

impl OutgoingTrunk {
    /// What the configuration says of a trunk. Without a password challenges are not answered.
    ///
    /// # Errors
    /// When one of its hosts cannot be read; a configuration that was checked has none of those.
    pub fn new(
        name: impl Into<String>,
        trunk: &config::Trunk,
        password: Option<Secret>,
    ) -> Result<Self, config::ServerError> {
        let servers = trunk.servers.iter().map(|server| server.split(';').next().unwrap_or_default().trim().to_owned());
        let servers: Vec<String> = servers.filter(|server| !server.is_empty()).collect();
        let registrar = trunk.registrar.clone();
        let named = [Some(trunk.domain.clone()), registrar, trunk.outbound_proxy.clone()].into_iter().flatten();
        let hosts = named.chain(servers).map(|hop| split_hop(&hop).0.to_ascii_lowercase()).collect();
        let transport = match trunk.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        let routes = trunk.outbound_proxy.iter().map(|proxy| format!("<sip:{proxy}{transport};lr>")).collect();
        Ok(Self {
            name: name.into(),
            place: None,
            domain: trunk.domain.clone(),
            from_user: trunk.from_user.clone().unwrap_or_else(|| trunk.user.clone()),
            contact_user: trunk.contact_user.clone().unwrap_or_else(|| trunk.user.clone()),
            query: Query::of_trunk(trunk)?,
            rules: DialogRules::from(trunk),
            hosts,
            routes: Mutex::new(routes),
            credentials: password.map(|password| Arc::new(Mutex::new(Credentials::new(trunk.auth_id(), password)))),
        })
    }

    /// One of the agent's own trunks: with its credentials and nonces, and the route that its registrar asked for.
    pub(super) fn of(place: usize, trunk: &Trunk) -> Option<Self> {
        let mut own = Self::new(&*trunk.name, &trunk.config, None).ok()?;
        own.credentials = trunk.credentials.clone();
        own.place = Some(place);
        own.set_route(trunk.route());
        Some(own)
    }

    /// Says which of the agent's trunks it is, for its TLS settings.
    #[must_use]
    pub fn at(self, place: usize) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The route that the registrar has asked for (RFC 3608), as header values, in place of the outbound proxy's.
    pub fn set_route(&self, routes: Vec<String>) {
        *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    fn routes(&self) -> Vec<String> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What answers challenges to requests within the trunk's calls.
    pub(super) fn authorizer(&self) -> Option<Arc<dyn Authorizer>> {
        Some(Arc::new(self.credentials.clone()?))
    }

    /// Whether a host is the trunk's, by name.
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.contains(&host.to_ascii_lowercase())
    }

    /// The URI of a number on this trunk.
    pub fn uri_of(&self, number: &str) -> String {
        let user: String = number.chars().filter(|char| !SEPARATORS.contains(char)).collect();
        format!("sip:{}@{}", escaped(&user), self.domain)
    }
}

/// `HOST[:PORT]`, IPv6 in brackets.
fn split_hop(hop: &str) -> (&str, Option<u16>) {
    let end = match hop.rfind(']') {
        Some(bracket) if hop.starts_with('[') => bracket + 1,
        _ => hop.find(':').unwrap_or(hop.len()),
    };
    (&hop[..end], hop[end..].strip_prefix(':').and_then(|port| port.parse().ok()))
}

/// Escapes what a user part may not hold (RFC 3261 §25.1).
fn escaped(user: &str) -> String {
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(char::from(byte)),
            _ if b"-_.!~*'()&=+$,;?/".contains(&byte) => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Host and port of a URI, as a hop; and the transport that it names.
fn hop_of(uri: &str) -> Option<(String, Option<Transport>)> {
    let host = host_of(uri)?;
    let after = &uri[host.as_ptr() as usize - uri.as_ptr() as usize + host.len()..];
    let port: String = after.strip_prefix(':').unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
    let hop = if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") };
    let named = |name: &str| after.to_ascii_lowercase().contains(&format!(";transport={name}"));
    let transport = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
    Some((hop, transport.into_iter().find(|(name, _)| named(name)).map(|(_, transport)| transport)))
}

/// What carries a request to a URI that names `named`, through a trunk that uses `usual`. The offer may hold keys of SRTP: what is to be
/// encrypted is led nowhere else by a URI.
fn transport_of(named: Option<Transport>, usual: Transport) -> Transport {
    named.filter(|_| usual != Transport::Tls).unwrap_or(usual)
}

/// A URI that is fit for the stack, which escapes the user part when it writes it.
pub(super) fn parse_uri(uri: &str) -> Result<rsip::Uri, SipError> {
    let mut parsed = rsip::parse_uri(uri).map_err(|error| SipError::Uri { reason: error.to_string() })?;
    if parsed.scheme != Some(rsip::Scheme::Sip) {
        return Err(SipError::Uri { reason: "only the scheme sip can be called".into() });
    }
    if let Some(auth) = &mut parsed.auth {
        auth.user = percent_decode(&auth.user);
    }
    Ok(parsed)
}

/// Begins a call. `from` and `contact` are the addresses to show without a trunk.
pub(super) fn dial(
    shared: &Arc<Shared>,
    dial: Dial,
    trunk: Option<Arc<OutgoingTrunk>>,
    from: rsip::Uri,
    resolver: Arc<Resolver>,
) -> Result<OutgoingCall, SipError> {
    let number = dial.to.strip_prefix("tel:").unwrap_or(&dial.to);
    let uri = match &trunk {
        _ if host_of(&dial.to).is_some() => dial.to.clone(),
        Some(trunk) if !number.trim().is_empty() && !number.contains(['@', '<', '>', '"']) => trunk.uri_of(number),
        Some(_) => return Err(SipError::Uri { reason: "it is neither a number nor a SIP URI".into() }),
        None => dial.to.clone(),
    };
    let callee = parse_uri(&uri)?;
    let full = || SipError::Full { max_calls: shared.max_calls };
    if shared.closing.is_cancelled() {
        return Err(full());
    }
    let place = trunk.as_ref().and_then(|trunk| trunk.place);
    let permit = shared.permit(place).ok_or_else(full)?;
    shared.counters.count(Counter::CallsOut);
    let (from, contact) = match &trunk {
        Some(trunk) => {
            let mut contact = shared.contact.clone();
            contact.auth = Some(rsip::Auth { user: trunk.contact_user.clone(), password: None });
            (parse_uri(&format!("sip:{}@{}", escaped(&trunk.from_user), trunk.domain))?, contact)
        }
        None => (from, shared.contact.clone()),
    };
    let id = rsipstack::transaction::make_call_id(None, rsipstack::transaction::CallIdFormat::Uuid).value().to_owned();
    let (progress_in, progress) = mpsc::channel(8);
    let (outcome_in, outcome) = oneshot::channel();
    let cancel = CancellationToken::new();
    let may_lead_to: super::attempts::MayLeadTo = match &trunk {
        Some(trunk) => {
            let hosts = trunk.hosts.clone();
            Box::new(move |host| hosts.contains(&host.to_ascii_lowercase()))
        }
        None => {
            let own = host_of(&uri).unwrap_or_default().to_ascii_lowercase();
            Box::new(move |host| host.to_ascii_lowercase() == own)
        }
    };
    let rules = trunk.as_ref().map_or(shared.rules, |trunk| trunk.rules);
    let placing = Placing {
        machine: Attempts::new(uri, may_lead_to, rules.session_expires, fastrand::u32(0..=190)),
        shared: shared.clone(),
        resolver,
        trunk,
        rules,
        dial,
        id: id.clone(),
        tag: rsipstack::transaction::make_tag().to_string(),
        sequence: 0,
        from,
        callee,
        contact,
        exchange: Exchange::default(),
        asked: None,
        permit: Arc::new(permit),
        progress: progress_in,
        cancel: cancel.clone(),
    };
    let span = info_span!("call", id = %id);
    tokio::spawn(async move { placing.run(outcome_in).await }.instrument(span));
    Ok(OutgoingCall { id, cancel, progress, outcome })
}

/// A call that is being placed.
struct Placing {
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    trunk: Option<Arc<OutgoingTrunk>>,
    rules: DialogRules,
    machine: Attempts,
    dial: Dial,
    id: String,
    tag: String,
    sequence: u32,
    from: rsip::Uri,
    callee: rsip::Uri,
    contact: rsip::Uri,
    exchange: Exchange,
    /// Whom the exchange is with.
    asked: Option<(String, Target)>,
    permit: Arc<CallPermit>,
    progress: mpsc::Sender<Progress>,
    cancel: CancellationToken,
}

/// An attempt in progress.
struct Attempt {
    control: Control,
    progress: mpsc::Receiver<Progress>,
    /// None when it has said that there is no answer.
    outcome: Option<oneshot::Receiver<Result<Vec<u8>, SipError>>>,
    /// None when it was said.
    connected: Option<oneshot::Receiver<()>>,
    ended: oneshot::Receiver<Ending>,
    abandon: CancellationToken,
    call: JoinHandle<()>,
}

impl Attempt {
    /// Waits until the call's task has let go of what the next attempt needs: the Call-ID and the tag.
    async fn finished(self) {
        drop(self.control);
        let _ = self.call.await;
    }
}

/// The answered call's control and the SDP of the 200.
pub(super) type Placed = Result<(Control, Vec<u8>), SipError>;

type Looking = JoinHandle<Result<Vec<Target>, String>>;

/// What the driver waits for at present.
enum Doing {
    Nothing,
    Looking(Looking),
    Attempting(Box<Attempt>),
}

/// What came of an attempt.
enum News {
    Connected,
    Looked(Result<Vec<Target>, String>),
    Progress(Progress),
    Answered(Vec<u8>),
    Ended(Ending),
    Cancelled,
    Timeout,
}

impl Placing {
    async fn run(mut self, outcome: oneshot::Sender<Placed>) {
        let mut outcome = Some(outcome);
        let result = self.place(&mut outcome).await;
        if let Err(error) = &result {
            debug!(%error, "not answered");
        }
        if let Some(outcome) = outcome {
            // An answer that nobody takes ends with its control.
            let _ = outcome.send(result);
        }
    }

    async fn place(&mut self, outcome: &mut Option<oneshot::Sender<Placed>>) -> Placed {
        let mut doing = Doing::Nothing;
        loop {
            while let Some(act) = self.machine.poll() {
                doing = self.act(act, doing).await?;
            }
            let news = self.news(&mut doing, outcome.is_some()).await;
            let now = Instant::now();
            match news {
                News::Looked(targets) => {
                    doing = Doing::Nothing;
                    self.machine.handle_targets(now, targets);
                }
                News::Connected => self.machine.handle_connected(),
                News::Progress(Progress::Trying) => self.machine.handle_provisional(now, true),
                News::Progress(said) => {
                    self.machine.handle_provisional(now, false);
                    // A slow reader misses a ring, not the answer.
                    let _ = self.progress.try_send(said);
                }
                News::Answered(sdp) => {
                    if let Some((_, target)) = &self.asked {
                        self.resolver.forgive(target);
                    }
                    let Doing::Attempting(attempt) = doing else { unreachable!("only an attempt is answered") };
                    info!("answered");
                    return Ok((attempt.control, sdp));
                }
                News::Ended(ending) => {
                    if let Doing::Attempting(attempt) = std::mem::replace(&mut doing, Doing::Nothing) {
                        attempt.finished().await;
                    }
                    match ending {
                        Ending::Response(response) => {
                            if response.status_code == StatusCode::ServiceUnavailable {
                                self.penalise();
                            }
                            let refusal = self.refusal(&response);
                            self.machine.handle_refusal(now, refusal);
                        }
                        Ending::Failed(reason) => {
                            self.penalise();
                            debug!(%reason, "an attempt failed");
                            self.machine.handle_failure(now);
                        }
                    }
                }
                News::Cancelled => {
                    // The owner need not wait until the other side has agreed.
                    if let Some(outcome) = outcome.take() {
                        let _ = outcome.send(Err(SipError::Cancelled));
                    }
                    self.machine.cancel(now);
                }
                News::Timeout => self.machine.handle_timeout(now),
            }
        }
    }

    async fn news(&self, doing: &mut Doing, may_be_cancelled: bool) -> News {
        let deadline = self.machine.poll_timeout().map(|(at, _)| at);
        tokio::select! {
            biased;
            news = next(doing) => news,
            () = self.cancel.cancelled(), if may_be_cancelled => News::Cancelled,
            () = self.shared.closing.cancelled(), if may_be_cancelled => News::Cancelled,
            () = until(deadline) => News::Timeout,
        }
    }

    async fn act(&mut self, act: Act, doing: Doing) -> Result<Doing, SipError> {
        match act {
            Act::Resolve { uri } => Ok(Doing::Looking(self.resolve(&uri))),
            Act::Invite { uri, target, minimum } => {
                debug!(%target, "an attempt begins");
                match self.attempt(&uri, &target, minimum) {
                    Ok(attempt) => Ok(Doing::Attempting(Box::new(attempt))),
                    Err(error) => Err(SipError::Failed(error.to_string())),
                }
            }
            Act::Abandon => {
                if let Doing::Attempting(attempt) = doing {
                    // Cancelled by us, it may be a server that is only slow.
                    if !self.cancel.is_cancelled() {
                        self.penalise();
                    }
                    attempt.abandon.cancel();
                    attempt.finished().await;
                }
                Ok(Doing::Nothing)
            }
            Act::Cancel => {
                if let Doing::Attempting(attempt) = &doing {
                    // A full queue holds an order to end already.
                    let _ = attempt.control.commands.try_send(Command::HangUp(ByeReason::Normal));
                }
                Ok(doing)
            }
            Act::Over(outcome) => Err(outcome.into()),
        }
    }

    /// The server of the present attempt is asked last for a while.
    fn penalise(&self) {
        if let Some((_, target)) = &self.asked {
            self.resolver.penalise(target);
        }
    }

    fn resolve(&self, uri: &str) -> Looking {
        let resolver = self.resolver.clone();
        let query = self.query(uri);
        tokio::spawn(async move {
            let resolved = resolver.targets(&query?).await.map_err(|error| error.to_string())?;
            Ok(resolved.targets)
        })
    }

    /// What goes through the trunk goes to its first hop; a redirection to another of its hosts goes there.
    fn query(&self, uri: &str) -> Result<Query, String> {
        let own_host = host_of(uri).unwrap_or_default();
        if let Some(trunk) = &self.trunk
            && (!trunk.routes().is_empty() || own_host.eq_ignore_ascii_case(&trunk.domain))
        {
            return Ok(trunk.query.clone());
        }
        let (hop, transport) = hop_of(uri).ok_or("it is no SIP URI")?;
        let usual = self.trunk.as_ref().map_or(Transport::Udp, |trunk| trunk.query.transport);
        let server: HostPort = hop.parse().map_err(|error: config::ServerError| error.to_string())?;
        Ok(Query::to(server, transport_of(transport, usual)))
    }

    fn attempt(&mut self, uri: &str, target: &Target, minimum: Option<Duration>) -> Result<Attempt, rsipstack::Error> {
        let asked = Some((uri.to_owned(), target.clone()));
        if self.asked != asked {
            // Another server may ask for what the one before was told.
            self.exchange = Exchange::default();
            self.asked = asked;
        }
        let request = self.request(uri, target, minimum)?;
        let shared = self.shared.clone();
        let destination = branch::address_of(target);
        let (states_in, states) = shared.layer.new_dialog_state_channel();
        let (dialog, transaction) = branch::prepare(&shared, request, destination.clone(), states_in)?;
        let (call, control) = Call::new(shared.clone(), dialog.clone(), states, self.rules, self.permit.clone());
        let authorizer = self.trunk.as_ref().and_then(|trunk| trunk.authorizer());
        let call = call.authorized(None, authorizer);
        let (progress_in, progress) = mpsc::channel(8);
        let (outcome_in, outcome) = oneshot::channel();
        let call = call.outgoing(progress_in, outcome_in, self.dial.offer.clone(), destination);
        let (ended_in, ended) = oneshot::channel();
        let (connected_in, connected) = oneshot::channel();
        let reports = Reports { notes: call.notes(), connected: connected_in, ended: ended_in };
        let abandon = CancellationToken::new();
        let flows = match self.trunk.as_ref().and_then(|trunk| trunk.place) {
            Some(place) => shared.flows.for_trunk(place),
            None => shared.flows.clone(),
        };
        let way = flows.reach(target);
        self.shared.spawn(branch::own(shared, dialog, transaction, way, reports, abandon.clone()));
        let call = tokio::spawn(call.run().in_current_span());
        Ok(Attempt { control, progress, outcome: Some(outcome), connected: Some(connected), ended, abandon, call })
    }

    fn request(&mut self, uri: &str, target: &Target, minimum: Option<Duration>) -> Result<Request, rsipstack::Error> {
        self.sequence += 1;
        let mut headers = vec![Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())];
        if let Some(minimum) = minimum {
            self.rules.session_minimum = self.rules.session_minimum.max(minimum);
            self.rules.session_expires = self.rules.session_expires.max(minimum);
        }
        headers.extend(SessionTimer::new(&self.rules).proposal());
        headers.extend(self.dial.headers.iter().map(|(name, value)| Header::Other(name.clone(), value.clone())));
        let routes = self.trunk.as_ref().map(|trunk| trunk.routes()).unwrap_or_default();
        headers.extend(routes.into_iter().map(|route| Header::Route(route.into())));
        let option = InviteOption {
            caller: self.from.clone(),
            callee: self.callee.clone(),
            contact: self.contact.clone(),
            destination: Some(branch::address_of(target)),
            offer: Some(self.dial.offer.clone()),
            headers: Some(headers),
            call_id: Some(self.id.clone()),
            ..Default::default()
        };
        let uri = parse_uri(uri).map_err(|error| rsipstack::Error::Error(error.to_string()))?;
        let mut request =
            branch::request(&self.shared, Invitation { option, tag: &self.tag, sequence: self.sequence, uri })?;
        let trunk = self.trunk.clone();
        if let Some(credentials) = trunk.as_ref().and_then(|trunk| trunk.credentials.as_ref()) {
            let (uri, body) = (request.uri.to_string(), request.body.clone());
            let mut credentials = credentials.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in credentials.authorize(&mut self.exchange, "INVITE", &uri, &body) {
                request.headers.push(Header::Other(name.into(), value));
            }
        }
        Ok(request)
    }

    fn refusal(&mut self, response: &Response) -> Refusal {
        let mut refusal = refusal_of(response);
        if !matches!(refusal.code, 401 | 407) {
            return refusal;
        }
        let trunk = self.trunk.clone();
        let Some(credentials) = trunk.as_ref().and_then(|trunk| trunk.credentials.as_ref()) else {
            refusal.authorized = Some(Err("no password is set for it".into()));
            return refusal;
        };
        let headers = response.headers().iter().map(|header| (header.name(), header.value()));
        let verdict =
            credentials.lock().unwrap_or_else(PoisonError::into_inner).challenged(&mut self.exchange, headers);
        refusal.authorized = Some(match verdict {
            Challenged::Retry => Ok(()),
            Challenged::Rejected => Err("user or password is wrong".into()),
            Challenged::Unsupported(what) => Err(format!("it asks for {}, which is not known here", what.join(", "))),
            Challenged::Unanswerable => Err("its challenge cannot be answered".into()),
        });
        refusal
    }
}

/// What happens next to the look-up or the attempt; nothing without one.
async fn next(doing: &mut Doing) -> News {
    match doing {
        Doing::Nothing => std::future::pending().await,
        Doing::Looking(looking) => match looking.await {
            Ok(targets) => News::Looked(targets),
            Err(panic) => News::Looked(Err(panic.to_string())),
        },
        Doing::Attempting(attempt) => {
            let attempt = &mut **attempt;
            loop {
                tokio::select! {
                    biased;
                    Some(said) = attempt.progress.recv() => return News::Progress(said),
                    Ok(()) = connected(&mut attempt.connected) => {
                        return News::Connected;
                    }
                    answer = answer(&mut attempt.outcome) => match answer {
                        Some(sdp) => return News::Answered(sdp),
                        // Why not, the transaction's end tells better.
                        None => attempt.outcome = None,
                    },
                    ended = &mut attempt.ended => return match ended {
                        Ok(Ending::Response(response)) if response.status_code.kind() == StatusCodeKind::Successful => {
                            let said = match attempt.outcome {
                                Some(_) => answer(&mut attempt.outcome).await,
                                None => None,
                            };
                            match said {
                                Some(sdp) => News::Answered(sdp),
                                None => News::Ended(Ending::Failed("the answer came after the end".into())),
                            }
                        }
                        Ok(ending) => News::Ended(ending),
                        Err(_) => News::Ended(Ending::Failed("the stack has stopped".into())),
                    },
                }
            }
        }
    }
}

/// The SDP of the answer; `None` when there is none. Never without someone who would tell.
async fn answer(outcome: &mut Option<oneshot::Receiver<Result<Vec<u8>, SipError>>>) -> Option<Vec<u8>> {
    match outcome {
        Some(outcome) => outcome.await.ok()?.ok(),
        None => std::future::pending().await,
    }
}

/// The connection is up; told once.
async fn connected(connected: &mut Option<oneshot::Receiver<()>>) -> Result<(), oneshot::error::RecvError> {
    match connected {
        Some(receiver) => {
            let said = receiver.await;
            *connected = None;
            said
        }
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a final response says about the next attempt.
fn refusal_of(response: &Response) -> Refusal {
    let (mut retry_after, mut min_se, mut contacts, mut phrase) = (None, None, Vec::new(), None);
    for header in response.headers().iter() {
        let value = header.value();
        let seconds = || value.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
        match header.name().to_ascii_lowercase().as_str() {
            "retry-after" => retry_after = seconds().map(Duration::from_secs),
            "min-se" => min_se = seconds().map(Duration::from_secs),
            "contact" | "m" => contacts.extend(branch::list_of(value).into_iter().filter_map(contact)),
            "reason" => phrase = value.split_once("text=").map(|(_, text)| text.trim_matches('"').to_owned()),
            _ => {}
        }
    }
    let reason = phrase.unwrap_or_else(|| response.status_code.text().to_owned());
    Refusal { code: response.status_code.code(), reason, retry_after, min_se, contacts, authorized: None }
}

/// A Contact's URI and q (RFC 3261 §20.10); 1 without one.
fn contact(value: &str) -> Option<(String, f32)> {
    let (uri, parameters) = match value.rfind('<') {
        Some(open) => value[open + 1..].split_once('>')?,
        None => value.split_once(';').unwrap_or((value, "")),
    };
    let q = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok()).flatten()
    });
    host_of(uri).map(|_| (uri.trim().to_owned(), q.unwrap_or(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(config: config::Trunk) -> OutgoingTrunk {
        let config = config::Trunk { domain: "Trunk.example".into(), user: "100".into(), ..config };
        OutgoingTrunk::new("main", &config, None).unwrap()
    }

    #[test]
    fn a_number_is_called_at_the_trunks_domain_without_what_only_helps_the_eye() {
        let trunk = trunk(config::Trunk::default());
        assert_eq!(trunk.uri_of("+972 (3) 555-12.34"), "sip:+97235551234@Trunk.example");
        assert_eq!(trunk.uri_of("*72#"), "sip:*72%23@Trunk.example");
    }

    #[test]
    fn an_outbound_proxy_is_a_loose_route_and_the_registrar_may_redirect() {
        let all = config::Trunk {
            registrar: Some("reg.example:5070".into()),
            servers: vec!["a.example;priority=1".into(), "b.example:5062".into()],
            outbound_proxy: Some("proxy.example".into()),
            transport: Transport::Tls,
            ..Default::default()
        };
        let trunk = trunk(all);
        assert_eq!(trunk.routes(), ["<sip:proxy.example;transport=tls;lr>"]);
        assert_eq!(trunk.hosts, ["trunk.example", "reg.example", "proxy.example", "a.example", "b.example"]);
        trunk.set_route(vec!["<sip:edge.example;lr>".into()]);
        assert_eq!(trunk.routes(), ["<sip:edge.example;lr>"]);
    }

    #[test]
    fn a_contact_has_a_q_of_1_unless_it_says_another() {
        assert_eq!(contact("\"a <b>\" <sip:1@h;x=y>;q=0.5"), Some(("sip:1@h;x=y".into(), 0.5)));
        assert_eq!(contact("sip:1@h;expires=3"), Some(("sip:1@h".into(), 1.0)));
        for none in ["*", "", "<sip:1@h", "mailto:a@b"] {
            assert_eq!(contact(none), None, "{none}");
        }
    }

    #[test]
    fn a_uri_chooses_its_transport_but_never_leads_away_from_tls() {
        assert_eq!(transport_of(Some(Transport::Tcp), Transport::Udp), Transport::Tcp);
        assert_eq!(transport_of(Some(Transport::Udp), Transport::Tls), Transport::Tls);
        assert_eq!(transport_of(None, Transport::Tcp), Transport::Tcp);
    }

    #[test]
    fn the_hop_of_a_uri_has_its_port_and_its_transport() {
        assert_eq!(hop_of("sip:1@[::1]:5070;transport=TCP"), Some(("[::1]:5070".into(), Some(Transport::Tcp))));
        assert_eq!(hop_of("sip:1;x=5:6@h;lr"), Some(("h".into(), None)));
    }
}
