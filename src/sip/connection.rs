//! One TCP or TLS connection: a task that reads it, a task that writes it, and what becomes of those who wait for it when
//! it ends (RFC 3261 §18, RFC 5626 §4.4.1).
//!
//! To the stack it is a [`SipConnection::Channel`]. When the connection ends, the channel stays as long as a dialog or a
//! transaction holds on to it: requests that had no answer get a 503 from ourselves at once (RFC 3261 §8.1.3.1), and what
//! belongs to a dialog goes on over a new connection. Not implemented: keeping responses whose connection ended and that
//! the peer's own address does not take (§18.2.2).

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Waker, Poll, ready};
use std::time::{Duration, Instant};

use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::rsip::{self, Method, Request, Response, SipMessage, StatusCode, StatusCodeKind};
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::connection::{TransportReceiver, TransportSender};
use rsipstack::transport::{SipAddr, SipConnection, TransportEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::framing::{Frame, Framing, FramingFault};
use super::streams::{FlowError, Flows, Slot};
use super::wire::{Source, Verdict};
use super::{Counter, Target, Transport};

/// Bytes that may wait to be written; more mean that the peer does not take them.
const QUEUE_BYTES: usize = 256 * 1024;
/// How long nothing of what waits may be taken.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the last bytes may take when we close.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);
/// How long a pong may take (RFC 5626 §4.4.1 allows 10 s).
const PONG_DEADLINE: Duration = Duration::from_secs(3);
/// Requests without final response that are kept in mind, and how long.
const UNANSWERED: usize = 1024;
const UNANSWERED_FOR: Duration = Duration::from_secs(300);
/// Keepalives and answers without state that may wait for the writer.
const CONTROLS: usize = 32;

/// The bytes of a connection.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection that is up, or UDP: where requests go and from where they leave. Cheap to clone.
#[derive(Clone)]
pub(super) struct Flow {
    /// What a transaction is given.
    pub(super) connection: SipConnection,
    /// Under which the stack finds the connection.
    pub(super) destination: SipAddr,
    /// Fires when the connection has ended; that of UDP when the agent has.
    pub(super) closed: CancellationToken,
    /// Our end.
    pub(super) local: SocketAddr,
    /// Absent for UDP.
    pub(super) pinger: Option<Pinger>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.destination, self.local)
    }
}

impl Flow {
    /// Sends a message that the stack takes for a datagram.
    pub(super) async fn send_raw(&self, message: &[u8]) -> Result<(), FlowError> {
        let pinger = self.pinger.as_ref().ok_or(FlowError::Lost)?;
        let bytes = pinger.connection.stamped(message);
        pinger.controls.send(Control::Bytes(bytes)).await.map_err(|_| FlowError::Lost)
    }

    /// Sends a keepalive. On streams it waits for the pong: `false` says that this peer answers none. Over UDP nothing
    /// answers, and it is `false` at once.
    ///
    /// # Errors
    /// [`FlowError::Lost`] when the connection has ended; it is ended here when a peer that used to answer does not.
    pub(super) async fn ping(&self) -> Result<bool, FlowError> {
        match (&self.pinger, &self.connection) {
            (Some(pinger), _) => pinger.ping(&self.closed).await,
            (None, SipConnection::Udp(udp)) => {
                udp.send_raw(b"\r\n\r\n", &self.destination).await.map_err(|_| FlowError::Lost)?;
                Ok(false)
            }
            (None, _) => Ok(false),
        }
    }
}

/// How a flow sends its pings.
#[derive(Clone)]
pub(super) struct Pinger {
    connection: Arc<Connection>,
    controls: mpsc::Sender<Control>,
}

impl Pinger {
    async fn ping(&self, closed: &CancellationToken) -> Result<bool, FlowError> {
        let mut pongs = self.connection.pongs.subscribe();
        self.connection.pong_awaited.store(true, Ordering::Release);
        if self.controls.send(Control::Bytes(b"\r\n\r\n".to_vec())).await.is_err() {
            return Err(FlowError::Lost);
        }
        tokio::select! {
            () = closed.cancelled() => Err(FlowError::Lost),
            pong = pongs.changed() => pong.map(|()| true).map_err(|_| FlowError::Lost),
            () = tokio::time::sleep(PONG_DEADLINE) => {
                self.connection.pong_awaited.store(false, Ordering::Release);
                if !self.connection.answers_pings.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                self.connection.flows.count(Counter::NoPong);
                closed.cancel();
                Err(FlowError::Lost)
            }
        }
    }
}

/// What the writer is told besides the stack's messages.
enum Control {
    Bytes(Vec<u8>),
    /// End the connection when everything is written.
    Close,
}

/// What the tasks of one connection share.
struct Connection {
    flows: Flows,
    peer: SocketAddr,
    local: SocketAddr,
    transport: Transport,
    /// Whom we connected to, with the trunk; nobody when the peer connected to us.
    dialled: Option<Target>,
    closed: CancellationToken,
    pongs: watch::Sender<u64>,
    pong_awaited: AtomicBool,
    answers_pings: AtomicBool,
    unanswered: Mutex<Unanswered>,
}

/// Client requests that were written and have no final response.
#[derive(Default)]
struct Unanswered {
    by_key: HashMap<(String, Method), (Instant, Request)>,
}

impl Unanswered {
    fn sent(&mut self, request: &Request, now: Instant) {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return;
        }
        let Some(branch) = branch(request) else { return };
        if self.by_key.len() >= UNANSWERED {
            self.by_key.retain(|_, (sent_at, _)| now.saturating_duration_since(*sent_at) < UNANSWERED_FOR);
        }
        if self.by_key.len() < UNANSWERED {
            self.by_key.insert((branch, request.method), (now, request.clone()));
        }
    }

    fn answered(&mut self, response: &Response) {
        if response.status_code.kind() == StatusCodeKind::Provisional {
            return;
        }
        let method = response.cseq_header().ok().and_then(|cseq| cseq.method().ok());
        if let (Some(branch), Some(method)) = (branch(response), method) {
            self.by_key.remove(&(branch, method));
        }
    }
}

fn branch(message: &impl HeadersExt) -> Option<String> {
    let via = message.via_header().ok()?.value();
    let top = via.split(',').next()?;
    let branch = top.split(';').skip(1).map(str::trim).find_map(|part| part.strip_prefix("branch="))?;
    Some(branch.to_owned())
}

/// Starts the tasks of a connection, which hand it to the stack. `dialled`: whom we connected to.
pub(super) async fn start(
    flows: &Flows,
    bytes: Box<dyn Bytes>,
    (peer, local, transport): (SocketAddr, SocketAddr, Transport),
    dialled: Option<Target>,
    slot: Option<Slot>,
) -> Result<Flow, FlowError> {
    let destination = sip_addr(peer, transport);
    // The stack's type takes no bounded ones. What comes in is bounded by the gate's rates for its peer, and the writer, which takes all
    // that goes out at once, ends the connection over `QUEUE_BYTES`.
    let (incoming, incoming_out) = mpsc::unbounded_channel();
    let (outgoing, outgoing_out) = mpsc::unbounded_channel();
    let channel = ChannelConnection::create_connection(incoming_out, outgoing, destination.clone(), None);
    let channel = channel.await.map_err(|_| FlowError::Closing)?;
    let closed = CancellationToken::new();
    let connection = Arc::new(Connection {
        flows: flows.clone(),
        peer,
        local,
        transport,
        dialled,
        closed: closed.clone(),
        pongs: watch::channel(0).0,
        pong_awaited: AtomicBool::new(false),
        answers_pings: AtomicBool::new(false),
        unanswered: Mutex::default(),
    });
    let (controls, controls_out) = mpsc::channel(CONTROLS);
    let flow = Flow {
        connection: SipConnection::Channel(channel.clone()),
        destination,
        closed,
        local,
        pinger: Some(Pinger { connection: connection.clone(), controls: controls.clone() }),
    };
    flows.endpoint().transport_layer.add_connection(flow.connection.clone());
    let (reader, writer) = tokio::io::split(bytes);
    let to_stack = ToStack { incoming, channel: channel.clone(), source: flow.destination.clone() };
    tokio::spawn(read(connection.clone(), reader, to_stack, controls));
    tokio::spawn(async move {
        let rest = write(&connection, writer, outgoing_out, controls_out).await;
        connection.closed.cancel();
        drop(slot);
        connection.flows.forget(&connection.closed);
        connection.flows.endpoint().transport_layer.remove_connection(&SipConnection::Channel(channel));
        outlive(&connection, rest).await;
    });
    Ok(flow)
}

/// Where what was read goes.
struct ToStack {
    incoming: TransportSender,
    channel: ChannelConnection,
    source: SipAddr,
}

async fn read(
    connection: Arc<Connection>,
    mut bytes: ReadHalf<Box<dyn Bytes>>,
    to_stack: ToStack,
    controls: mpsc::Sender<Control>,
) {
    let mut framing = Framing::new(Instant::now());
    let mut buffer = vec![0; 8192];
    let fault = loop {
        tokio::select! {
            () = connection.closed.cancelled() => return,
            read = bytes.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    framing.await_pong(connection.pong_awaited.load(Ordering::Acquire));
                    framing.handle_input(Instant::now(), &buffer[..length]);
                }
                // The end, or a connection that the system gave up.
                _ => break None,
            },
            () = tokio::time::sleep_until(framing.poll_timeout().into()) => framing.handle_timeout(Instant::now()),
        }
        match connection.take_frames(&mut framing, &to_stack, &controls) {
            Ok(()) => {}
            Err(fault) => break Some(fault),
        }
    };
    if let Some(fault) = fault {
        let why = if fault == FramingFault::Slow { Counter::SlowMessage } else { Counter::Framing };
        if fault != FramingFault::Idle {
            connection.flows.count(why);
        }
        debug!(peer = %connection.peer, %fault, "SIP connection closed");
        let status = fault.status().filter(|_| !framing.rest().starts_with(b"SIP/"));
        let refusal =
            status.and_then(|status| connection.flows.gate().refusal(framing.rest(), status, connection.source()));
        if let Some(response) = refusal {
            let _ = controls.try_send(Control::Bytes(response));
        }
        // The writer ends the connection; it may have ended already.
        if controls.send(Control::Close).await.is_ok() {
            connection.closed.cancelled().await;
        }
    }
    connection.closed.cancel();
}

impl Connection {
    fn source(&self) -> Source {
        Source { peer: self.peer, transport: self.transport }
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_frames(
        &self,
        framing: &mut Framing,
        to_stack: &ToStack,
        controls: &mpsc::Sender<Control>,
    ) -> Result<(), FramingFault> {
        while let Some(frame) = framing.poll(Instant::now()) {
            match frame? {
                Frame::Message(message) => self.take_message(&message, to_stack, controls),
                Frame::Ping => {
                    self.flows.count(Counter::Keepalive);
                    let _ = controls.try_send(Control::Bytes(b"\r\n".to_vec()));
                }
                Frame::Pong => {
                    self.pong_awaited.store(false, Ordering::Release);
                    self.answers_pings.store(true, Ordering::Relaxed);
                    self.pongs.send_modify(|pongs| *pongs += 1);
                }
            }
        }
        Ok(())
    }

    fn take_message(&self, message: &[u8], to_stack: &ToStack, controls: &mpsc::Sender<Control>) {
        let count = |counter| self.flows.count(counter);
        // The gate counts and reports.
        let message = match self.flows.gate().inspect(message, self.source(), Instant::now()) {
            Verdict::Pass { message, .. } => message,
            Verdict::Answer { response, .. } => {
                if controls.try_send(Control::Bytes(response)).is_err() {
                    count(Counter::Unanswered);
                }
                return;
            }
            Verdict::Drop { .. } => return,
        };
        // The gate lets nothing through that the stack cannot read.
        let Ok(message) = SipMessage::try_from(&message[..]) else { return count(Counter::Malformed) };
        if let SipMessage::Response(response) = &message {
            self.unanswered().answered(response);
        }
        let transport = sip_transport(self.transport);
        let Ok(message) = SipConnection::update_msg_received(message, self.peer, transport) else {
            return count(Counter::Malformed);
        };
        let connection = SipConnection::Channel(to_stack.channel.clone());
        // The stack has stopped when nobody takes it.
        let _ = to_stack.incoming.send(TransportEvent::Incoming(message, connection, to_stack.source.clone()));
    }

    /// What a message of the stack is on the wire.
    fn stamped(&self, message: &[u8]) -> Vec<u8> {
        self.flows.stamp_for(self.peer, self.transport, self.local).apply(message).into_owned()
    }
}

/// What waits to be written.
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// Written, but perhaps not out of the TLS layer.
    flushed: bool,
    progress_at: Instant,
}

impl Outgoing {
    fn push(&mut self, bytes: &[u8]) {
        if self.is_done() {
            self.progress_at = Instant::now();
        }
        self.bytes.extend_from_slice(bytes);
        self.flushed = false;
    }

    fn is_done(&self) -> bool {
        self.flushed
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes until all is out. What was written stays written when the future is dropped.
    fn poll_write(
        &mut self,
        mut bytes: Pin<&mut WriteHalf<Box<dyn Bytes>>>,
        waker: &mut Waker<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.waiting() > 0 {
            let length = ready!(bytes.as_mut().poll_write(waker, &self.bytes[self.written..]))?;
            if length == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.written += length;
            self.progress_at = Instant::now();
        }
        ready!(bytes.as_mut().poll_flush(waker))?;
        self.bytes.clear();
        self.written = 0;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
}

/// Writes until the connection ends; gives back what the stack may still send.
async fn write(
    connection: &Connection,
    mut bytes: WriteHalf<Box<dyn Bytes>>,
    mut messages: TransportReceiver,
    mut controls: mpsc::Receiver<Control>,
) -> TransportReceiver {
    let mut out = Outgoing { bytes: Vec::new(), written: 0, flushed: true, progress_at: Instant::now() };
    let mut closing = false;
    let congested = loop {
        let (idle, deadline) = (out.is_done(), out.progress_at + WRITE_DEADLINE);
        tokio::select! {
            () = connection.closed.cancelled() => break false,
            () = connection.flows.closing().cancelled(), if !closing => closing = true,
            Some(event) = messages.recv() => {
                if let TransportEvent::Incoming(message, ..) = event {
                    if let SipMessage::Request(request) = &message {
                        connection.unanswered().sent(request, Instant::now());
                    }
                    out.push(&connection.stamped(&message.to_bytes()));
                }
            }
            Some(control) = controls.recv() => match control {
                Control::Bytes(bytes) => out.push(&bytes),
                Control::Close => closing = true,
            },
            written = poll_fn(|waker| out.poll_write(Pin::new(&mut bytes), waker)), if !idle => {
                if written.is_err() {
                    break false;
                }
            }
            () = tokio::time::sleep_until(deadline.into()), if !idle => break true,
        }
        if out.waiting() > QUEUE_BYTES {
            break true;
        }
        if closing && out.is_done() {
            break false;
        }
    };
    if congested {
        connection.flows.count(Counter::Congested);
        debug!(peer = %connection.peer, "SIP connection closed: the peer does not take what is sent");
    } else {
        let last = poll_fn(|waker| {
            if !out.is_done() {
                ready!(out.poll_write(Pin::new(&mut bytes), waker))?;
            }
            Pin::new(&mut bytes).poll_shutdown(waker)
        });
        let _ = tokio::time::timeout(CLOSE_DEADLINE, last).await;
    }
    messages
}

/// After the end: answers what waits for an answer, and carries on what belongs to a dialog, until nobody holds the
/// channel any more.
async fn outlive(connection: &Connection, mut messages: TransportReceiver) {
    let unanswered = std::mem::take(&mut connection.unanswered().by_key);
    for (_, (_, request)) in unanswered {
        let in_dialog = request.to_header().is_ok_and(|to| matches!(to.tag(), Ok(Some(_))));
        match in_dialog {
            // The same request with the same branch: to the peer a retransmission.
            true => carry_on(connection, request.into()).await,
            false => fail(connection, &request).await,
        }
    }
    loop {
        let event = tokio::select! {
            event = messages.recv() => event,
            () = connection.flows.closing().cancelled() => return,
        };
        match event {
            Some(TransportEvent::Incoming(message, ..)) => carry_on(connection, message).await,
            Some(_) => {}
            None => return,
        }
    }
}

/// Sends a message over another connection, which is made when there is none.
async fn carry_on(connection: &Connection, message: SipMessage) {
    let target = match (&connection.dialled, &message) {
        (Some(target), _) => Some(target.clone()),
        (None, SipMessage::Request(request)) => {
            connection.flows.locate(&request.destination(), connection.transport).await
        }
        (None, SipMessage::Response(response)) => via_target(response, connection),
    };
    let flow = match &target {
        Some(target) => connection.flows.reach(target).await.ok(),
        None => None,
    };
    let sent = match (&flow, &message) {
        (_, SipMessage::Request(request)) if request.method == Method::Cancel => true,
        (Some(flow), _) => flow.connection.send(message.clone(), Some(&flow.destination)).await.is_ok(),
        (None, _) => false,
    };
    debug!(peer = %connection.peer, ?flow, sent, "SIP message after the end of its connection");
    if let (false, SipMessage::Request(request)) = (sent, &message) {
        fail(connection, request).await;
    }
}

/// Where a response goes whose connection has ended (RFC 3261 §18.2.2): the address of the request, at the Via's port.
fn via_target(response: &Response, connection: &Connection) -> Option<Target> {
    let (_, host) = SipConnection::parse_target_from_via(response.via_header().ok()?).ok()?;
    let default = if connection.transport == Transport::Tls { 5061 } else { 5060 };
    let port = host.port.map_or(default, |port| port.value());
    let address = SocketAddr::new(connection.peer.ip(), port);
    Some(Target { address, transport: connection.transport, name: host.host.to_string() })
}

/// Tells the stack that a request has failed, as RFC 3261 §8.1.3.1 and §17.1.4 ask for.
async fn fail(connection: &Connection, request: &Request) {
    if matches!(request.method, Method::Ack | Method::Cancel) {
        return;
    }
    connection.flows.count(Counter::FlowFailed);
    let endpoint = connection.flows.endpoint();
    let response = endpoint.make_response(request, StatusCode::ServiceUnavailable, None);
    // The ACK of a 503 that nobody sent goes nowhere: both channels are closed from the start and hold nothing.
    let (_, incoming) = mpsc::unbounded_channel();
    let (outgoing, _) = mpsc::unbounded_channel();
    let source = sip_addr(connection.peer, connection.transport);
    if let Ok(nowhere) = ChannelConnection::create_connection(incoming, outgoing, source.clone(), None).await {
        let nowhere = SipConnection::Channel(nowhere);
        if let Err(error) = endpoint.on_received_message(response.into(), nowhere, &source).await {
            debug!(%error, "a failed request has nobody who waits for it");
        }
    }
}

/// The address as the stack names it.
pub(super) fn sip_addr(address: SocketAddr, transport: Transport) -> SipAddr {
    SipAddr { r#type: Some(sip_transport(transport)), addr: address.into() }
}

pub(super) fn sip_transport(transport: Transport) -> rsip::Transport {
    match transport {
        Transport::Udp => rsip::Transport::Udp,
        Transport::Tcp => rsip::Transport::Tcp,
        Transport::Tls => rsip::Transport::Tls,
    }
}
