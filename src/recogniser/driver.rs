//! Drives a streaming engine for one call: connects, passes on what is heard and told, and connects anew when that breaks.
//!
//! A connection that ends while nobody waits for a text is no loss. One that ends within an utterance is made anew at once, and the
//! utterance is said again from its beginning; only when that fails, too, the engine is lost, until it comes back. Connecting is tried a
//! few times with growing pauses, then the call goes on without. What needs a person (a refused key) is not tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, warn};

use super::orders::{Order, orders};
use super::transcript::Transcript;
use super::{Listening, Recognised, Recogniser, Recognition, hopeless};
use crate::gemini::live::provider::Provider;
use crate::model::{Fault, FaultClass, Fut, Stage};
use crate::pcm::samples_in;
use crate::websocket::{Broken, Message, Socket};

/// Pauses before each try to connect, after the first failed; then the call goes on without.
const PAUSES_MS: [u64; 6] = [0, 200, 500, 1000, 2000, 4000];
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// An engine that does not say it is ready is none.
const READY: Duration = Duration::from_secs(3);
/// A message that cannot be written for so long goes nowhere.
const WRITING: Duration = Duration::from_secs(2);
/// Sound that is kept of an utterance to be said again; what is longer is not.
const LONGEST: Duration = Duration::from_secs(60);
/// Before the time at which the other side wants to be left.
const EARLY: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 16 * 1024;

/// What an engine told. Shown in tests only.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Got {
    /// Sound may be sent.
    Ready,
    /// Words that replace the last interim ones.
    Interim(String),
    /// Words that stand.
    Settled { text: String, language: Option<String> },
    /// Everything up to an end was told.
    Confirmed,
    /// The connection will be closed then.
    Leaving(Duration),
}

/// The language of one connection, without its socket.
pub(super) trait Protocol: Send {
    /// What is said first.
    fn opening(&mut self, out: &mut Vec<Message>);
    /// Whether [`Got::Ready`] comes before sound may be sent.
    fn greets(&self) -> bool;
    fn started(&mut self, out: &mut Vec<Message>);
    fn audio(&mut self, samples: &[i16], out: &mut Vec<Message>);
    fn ended(&mut self, out: &mut Vec<Message>);
    /// What keeps the connection open, after how long without a message of ours.
    fn keep_alive(&self) -> Option<(Duration, Message)>;
    /// Whether the connection takes no further sound.
    fn is_spent(&self) -> bool;
    /// Takes a message, or some bytes where there are none.
    fn take(&mut self, message: &Message, out: &mut Vec<Got>) -> Result<(), Fault>;
}

/// An engine as it is reached.
pub(super) trait Interface: Send + Sync + 'static {
    fn provider(&self) -> &Provider;
    fn connect(&self) -> Fut<'_, Result<Wire, Broken>>;
    fn protocol(&self) -> Box<dyn Protocol>;
}

/// A connection.
pub(super) enum Wire {
    WebSocket(Box<Socket>),
    Tcp(TcpStream),
}

impl Wire {
    async fn send(&mut self, message: Message) -> Result<(), Broken> {
        let sending = async {
            match self {
                Self::WebSocket(socket) => socket.send(message).await,
                Self::Tcp(stream) => {
                    stream.write_all(message.bytes()).await.map_err(|error| Broken::Network(error.to_string()))
                }
            }
        };
        let late = Broken::Network("nothing can be sent any more".into());
        tokio::time::timeout(WRITING, sending).await.unwrap_or(Err(late))
    }

    /// Cancel-safe.
    async fn receive(&mut self) -> Result<Message, Broken> {
        match self {
            Self::WebSocket(socket) => socket.receive().await,
            Self::Tcp(stream) => {
                let mut bytes = Vec::with_capacity(READ_BYTES);
                match stream.read_buf(&mut bytes).await {
                    Ok(0) => Err(Broken::Closed { code: 1006, reason: String::new() }),
                    Ok(_) => Ok(Message::Binary(bytes.into())),
                    Err(error) => Err(Broken::Network(error.to_string())),
                }
            }
        }
    }

    async fn close(self) {
        if let Self::WebSocket(socket) = self {
            socket.close().await;
        }
    }
}

/// A streaming engine.
pub struct Streaming {
    interface: Arc<dyn Interface>,
}

impl Streaming {
    /// An engine over an interface.
    #[expect(private_bounds, reason = "interfaces are made in this room")]
    pub fn new(interface: impl Interface) -> Self {
        Self { interface: Arc::new(interface) }
    }
}

impl Recogniser for Streaming {
    fn open(&self, out: mpsc::Sender<Recognition>) -> Box<dyn Listening> {
        let (listening, orders) = orders();
        let driver = Driver {
            interface: self.interface.clone(),
            orders,
            out,
            transcript: Transcript::new(),
            sound: Vec::new(),
            mute: 0,
        };
        tokio::spawn(driver.run().in_current_span());
        Box::new(listening)
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async {
            let provider = self.interface.provider();
            let broken = |broken| provider.broken(Stage::Request, &broken);
            let mut wire = self.interface.connect().await.map_err(broken)?;
            let mut protocol = self.interface.protocol();
            let mut opening = Vec::new();
            protocol.opening(&mut opening);
            for message in opening {
                wire.send(message).await.map_err(broken)?;
            }
            let mut got = Vec::new();
            let greeted = async {
                while protocol.greets() && !got.contains(&Got::Ready) {
                    let message = wire.receive().await.map_err(broken)?;
                    protocol.take(&message, &mut got)?;
                }
                Ok(())
            };
            let late = || Err(provider.fault(FaultClass::Timeout, Stage::Waiting, None, "it does not get ready"));
            tokio::time::timeout(READY, greeted).await.unwrap_or_else(|_| late())?;
            wire.close().await;
            Ok(())
        })
    }

    fn name(&self) -> &str {
        &self.interface.provider().name
    }
}

struct Driver {
    interface: Arc<dyn Interface>,
    orders: mpsc::Receiver<Order>,
    out: mpsc::Sender<Recognition>,
    transcript: Transcript,
    /// The utterance so far.
    sound: Vec<i16>,
    /// Ends in a row to which nothing at all was said.
    mute: u32,
}

/// Why a connection is left.
enum Left {
    /// The call is over.
    Over,
    /// It did what it was for.
    Spent,
    Broken(Fault),
}

impl Driver {
    async fn run(mut self) {
        let mut failures: usize = 0;
        loop {
            let interface = self.interface.clone();
            let connecting = interface.connect();
            let Some(connected) = self.meanwhile(connecting).await else { return };
            let (since, stood) = (Instant::now(), connected.is_ok());
            let left = match connected {
                Ok(wire) => self.listen(wire).await,
                Err(broken) => Left::Broken(interface.provider().broken(Stage::Request, &broken)),
            };
            let fault = match left {
                Left::Over => return,
                Left::Spent => {
                    failures = 0;
                    continue;
                }
                Left::Broken(fault) => fault,
            };
            if stood && !self.transcript.is_open() && !hopeless(&fault) {
                debug!(%fault, "the recogniser is connected anew when the caller speaks");
                let Some(order) = self.orders.recv().await else { return };
                self.keep(&order);
                continue;
            }
            failures = if since.elapsed() >= GOOD { 0 } else { failures + 1 };
            let pause = PAUSES_MS.get(failures.saturating_sub(1)).copied().filter(|_| !hopeless(&fault));
            match pause {
                Some(_) if failures <= 1 => debug!(%fault, "the recogniser is connected anew"),
                Some(_) => warn!(%fault, failures, "the recogniser cannot be reached; trying again"),
                None => warn!(%fault, failures, "the call goes on without the recogniser"),
            }
            if failures > 1 || pause.is_none() {
                self.tell(Recognised::Lost(fault)).await;
            }
            match pause {
                Some(ms) => {
                    if self.meanwhile(tokio::time::sleep(Duration::from_millis(ms))).await.is_none() {
                        return;
                    }
                }
                None => {
                    while self.orders.recv().await.is_some() {}
                    return;
                }
            }
        }
    }

    /// Keeps what is heard until `future` ends; `None` when the call is over.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            let deadline = self.transcript.poll_timeout();
            tokio::select! {
                order = self.orders.recv() => self.keep(&order?),
                done = &mut future => return Some(done),
                () = until(deadline) => {
                    self.transcript.handle_timeout(Instant::now());
                    self.tell_all().await;
                }
            }
        }
    }

    /// Takes part of what is to be told again over the next connection.
    fn keep(&mut self, order: &Order) {
        match order {
            Order::Started(utterance) => {
                self.sound.clear();
                self.transcript.started(*utterance);
            }
            Order::Audio(samples) => {
                if (self.sound.len() + samples.len()) as u64 <= samples_in(LONGEST) {
                    self.sound.extend_from_slice(samples);
                }
                self.transcript.went_on();
            }
            Order::Ended => self.transcript.ended(Instant::now()),
        }
    }

    async fn listen(&mut self, mut wire: Wire) -> Left {
        let interface = self.interface.clone();
        let provider = interface.provider();
        let mut protocol = interface.protocol();
        let mut ready = !protocol.greets();
        let opened = Instant::now();
        let (mut messages, mut got) = (Vec::new(), Vec::new());
        let mut last_sent = opened;
        let mut leave_at: Option<Instant> = None;
        // Whether this connection knows of the utterance.
        let mut begun = false;
        protocol.opening(&mut messages);
        if ready {
            begun = self.repeat(&mut *protocol, &mut messages);
        }
        loop {
            let stage = if ready { Stage::Waiting } else { Stage::Request };
            for message in messages.drain(..) {
                if let Err(broken) = wire.send(message).await {
                    return Left::Broken(provider.broken(stage, &broken));
                }
                last_sent = Instant::now();
            }
            if leave_at.is_some_and(|at| !self.transcript.is_open() || at <= Instant::now())
                || (protocol.is_spent() && !self.transcript.is_open())
            {
                wire.close().await;
                return Left::Spent;
            }
            let keep_alive = protocol.keep_alive();
            let alive = keep_alive.as_ref().map(|(every, _)| last_sent + *every);
            let deadline = [self.transcript.poll_timeout(), alive, leave_at, (!ready).then_some(opened + READY)];
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(order) = order else {
                        wire.close().await;
                        return Left::Over;
                    };
                    self.keep(&order);
                    match order {
                        Order::Started(_) | Order::Audio(_) if protocol.is_spent() => return Left::Spent,
                        _ if !ready => {}
                        Order::Started(_) => {
                            begun = true;
                            protocol.started(&mut messages);
                        }
                        // It goes on, and its beginning went to a connection that is gone.
                        _ if !begun => begun = self.repeat(&mut *protocol, &mut messages),
                        Order::Audio(samples) => protocol.audio(&samples, &mut messages),
                        Order::Ended => protocol.ended(&mut messages),
                    }
                }
                message = wire.receive() => {
                    let taken = match message {
                        Ok(message) => protocol.take(&message, &mut got),
                        Err(_) if protocol.is_spent() && !self.transcript.is_open() => return Left::Spent,
                        Err(broken) => Err(provider.broken(stage, &broken)),
                    };
                    for got in got.drain(..) {
                        let now = Instant::now();
                        self.mute = 0;
                        match got {
                            Got::Ready if !ready => {
                                ready = true;
                                begun = self.repeat(&mut *protocol, &mut messages);
                            }
                            Got::Ready => {}
                            Got::Interim(text) => self.transcript.interim(now, &text),
                            Got::Settled { text, language } => self.transcript.settled(now, &text, language),
                            Got::Confirmed => self.transcript.confirmed(now),
                            Got::Leaving(after) => leave_at = Some(now + after.saturating_sub(EARLY)),
                        }
                    }
                    self.tell_all().await;
                    if let Err(fault) = taken {
                        return Left::Broken(fault);
                    }
                }
                () = until(deadline.into_iter().flatten().min()) => {
                    let now = Instant::now();
                    if !ready && now >= opened + READY {
                        let note = "it does not get ready";
                        return Left::Broken(provider.fault(FaultClass::Timeout, stage, None, note));
                    }
                    if let Some((every, message)) = keep_alive.filter(|(every, _)| now >= last_sent + *every) {
                        debug_assert!(!every.is_zero());
                        messages.push(message);
                    }
                    if self.transcript.handle_timeout(now) {
                        self.mute += 1;
                    }
                    self.tell_all().await;
                    // Once it may have been a noise.
                    if self.mute > 1 {
                        self.mute = 0;
                        let note = "it says nothing to what it hears";
                        let fault = provider.fault(FaultClass::Timeout, Stage::Waiting, None, note);
                        self.tell(Recognised::Lost(fault.clone())).await;
                        return Left::Broken(fault);
                    }
                }
            }
        }
    }

    /// Says an utterance again whose text is not whole; false when there is none.
    fn repeat(&mut self, protocol: &mut dyn Protocol, messages: &mut Vec<Message>) -> bool {
        if !self.transcript.is_open() {
            return false;
        }
        self.transcript.again();
        protocol.started(messages);
        protocol.audio(&self.sound, messages);
        if self.transcript.is_ended() {
            protocol.ended(messages);
        }
        true
    }

    async fn tell_all(&mut self) {
        while let Some(recognition) = self.transcript.poll() {
            match recognition.what {
                Recognised::Interim(_) => drop(self.out.try_send(recognition)),
                // The call may be over.
                _ => drop(self.out.send(recognition).await),
            }
        }
    }

    async fn tell(&mut self, what: Recognised) {
        drop(self.out.send(Recognition { utterance: self.transcript.utterance(), what }).await);
    }
}

/// Ends at `deadline`; never without one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
