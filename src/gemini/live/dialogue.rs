//! The speech-to-speech dialogue over the Live API: one connection at a time, and the next one in its place when it breaks or is to be left.
//!
//! The API gives handles to resume a conversation with. A connection that breaks is replaced within 1.5 s, and an utterance that it cut,
//! or to which nothing was said yet, is said again. Without a handle, and without a new connection in time, the dialogue is lost.
//!
//! What the server still says of a turn that the caller has cut off is not told: it lasts until the server tells of that turn's end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{Instrument, debug, warn};

use super::provider::Provider;
use super::{Opening, SpeechDialogue, Talking, Told, wire};
use crate::http::BaseUrl;
use crate::model::{Fault, FaultClass, FunctionResult, Fut, Stage};
use crate::pcm::resample::StreamResampler;
use crate::pcm::{RATE, samples_in};
use crate::privacy::Secret;
use crate::websocket::{Broken, Message, Socket};

/// Orders that may wait: frames of 20 ms, so about 20 s.
const ORDERS: usize = 1024;
/// From a broken connection to the next that is ready.
const RECONNECT: Duration = Duration::from_millis(1500);
/// For the first connection.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection that broke so soon after it was made counts as one that was not.
const GOOD: Duration = Duration::from_secs(2);
/// Connections in a row that may break so soon.
const MOST_BROKEN: u32 = 2;
/// Before the time at which the other side wants to be left.
const EARLY: Duration = Duration::from_secs(2);
/// So long after the caller begins the server may not know of it yet; no answer to an utterance comes so soon after it has begun.
const UNAWARE: Duration = Duration::from_millis(500);
/// Sound that is kept of an utterance to be said again.
const LONGEST: Duration = Duration::from_secs(60);
/// Sound of one message, at 16 kHz: 40 ms.
const PIECE_SAMPLES: usize = 640;
/// Most sound in one message when an utterance is said again: 1 s.
const LONGEST_PIECE_SAMPLES: usize = 16_000;

/// Gemini, heard and speaking.
#[derive(Debug, Clone)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: BaseUrl,
    provider: Provider,
    model: String,
}

impl Live {
    /// A dialogue with a model; the network is not touched.
    pub fn new(base: BaseUrl, key: Secret, model: &str) -> Self {
        let provider = Provider { name: model.into(), key };
        Self(Arc::new(Inner { base, provider, model: model.into() }))
    }
}

impl SpeechDialogue for Live {
    fn open(&self, opening: Opening, out: mpsc::Sender<Told>) -> Box<dyn Talking> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let driver = Driver {
            inner: self.0.clone(),
            opening,
            orders: receiver,
            out,
            handle: None,
            sound: Vec::new(),
            utterance: Utterance::None,
            answering: false,
            cut: None,
            spoken: false,
        };
        tokio::spawn(driver.run().in_current_span());
        Box::new(Orders { orders, speaking: false, dropped: 0 })
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        let opening = Opening {
            model: self.0.model.clone(),
            voice: None,
            system: "You answer the telephone.".into(),
            functions: [].into(),
        };
        Box::pin(async move {
            let socket = self.0.connected(&opening, None, CONNECT).await?;
            socket.close().await;
            Ok(())
        })
    }
}

impl Inner {
    /// A connection that may be spoken on.
    async fn connected(&self, opening: &Opening, handle: Option<&str>, limit: Duration) -> Result<Socket, Fault> {
        let fault = |broken: Broken| self.provider.broken(Stage::Request, &broken);
        let connecting = async {
            let mut socket = wire::connect(&self.base, &self.provider.key, limit).await.map_err(fault)?;
            socket.send(wire::dialogue(opening, handle)).await.map_err(fault)?;
            loop {
                let message = socket.receive().await.map_err(fault)?;
                let told = wire::Told::read(&message).map_err(|note| self.protocol(&note))?;
                if told.setup_complete.is_some() {
                    return Ok(socket);
                }
            }
        };
        tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(fault(Broken::Late { limit })))
    }

    fn protocol(&self, note: &str) -> Fault {
        self.provider.fault(FaultClass::Protocol, Stage::Waiting, None, note)
    }
}

/// What the dialogue is told.
enum Order {
    Started,
    Audio(Vec<i16>),
    Ended,
    Results(Vec<FunctionResult>),
}

/// The call's end.
struct Orders {
    orders: mpsc::Sender<Order>,
    speaking: bool,
    dropped: u64,
}

impl Orders {
    fn order(&mut self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.dropped += 1;
        }
    }
}

impl Talking for Orders {
    fn started(&mut self) {
        self.speaking = true;
        self.order(Order::Started);
    }

    fn audio(&mut self, samples: &[i16]) {
        if self.speaking {
            self.order(Order::Audio(samples.to_vec()));
        }
    }

    fn ended(&mut self) {
        if std::mem::take(&mut self.speaking) {
            self.order(Order::Ended);
        }
    }

    fn results(&mut self, results: Vec<FunctionResult>) {
        self.order(Order::Results(results));
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Utterance {
    /// There is none that has to be said again.
    None,
    Spoken,
    /// It has ended, and nothing was said to it.
    Ended,
}

struct Driver {
    inner: Arc<Inner>,
    opening: Opening,
    orders: mpsc::Receiver<Order>,
    out: mpsc::Sender<Told>,
    /// With what the conversation can be resumed.
    handle: Option<String>,
    /// The utterance so far.
    sound: Vec<i16>,
    utterance: Utterance,
    /// Something was said of an answer whose turn is not over.
    answering: bool,
    /// When the caller has cut off a turn of whose end the server has not told yet.
    cut: Option<Instant>,
    /// The model knows something that another conversation would not.
    spoken: bool,
}

/// Why a connection is left.
enum Left {
    /// The call is over.
    Over,
    /// The other side wants it.
    Asked,
    Broken(Fault),
}

impl Driver {
    async fn run(mut self) {
        let mut limit = CONNECT;
        let mut broken = 0;
        loop {
            let inner = self.inner.clone();
            let (opening, handle) = (self.opening.clone(), self.handle.clone());
            let connecting = inner.connected(&opening, handle.as_deref(), limit);
            let Some(connected) = self.meanwhile(connecting).await else { return };
            let since = Instant::now();
            let left = match connected {
                Ok(socket) => self.talk(socket).await,
                Err(fault) => return self.lose(fault).await,
            };
            limit = RECONNECT;
            match left {
                Left::Over => return,
                Left::Asked => debug!("the dialogue goes on over another connection"),
                Left::Broken(fault) => {
                    broken = if since.elapsed() < GOOD { broken + 1 } else { 1 };
                    let forgets = self.spoken && self.handle.is_none();
                    if fault.permanent() || forgets || broken > MOST_BROKEN {
                        return self.lose(fault).await;
                    }
                    warn!(%fault, "the connection of the dialogue broke");
                    if std::mem::take(&mut self.answering) {
                        self.tell(Told::CutOff).await;
                    }
                }
            }
        }
    }

    /// Keeps what is heard until `future` ends; `None` when the call is over.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                order = self.orders.recv() => self.keep(&order?).await,
                done = &mut future => return Some(done),
            }
        }
    }

    async fn keep(&mut self, order: &Order) {
        match order {
            Order::Started => {
                self.cut = (self.answering || self.utterance == Utterance::Ended).then(Instant::now);
                // Who goes on after an end to which nothing was said goes on with the same.
                if self.utterance != Utterance::Ended {
                    self.sound.clear();
                }
                (self.utterance, self.answering) = (Utterance::Spoken, false);
                self.tell(Told::Listening).await;
            }
            Order::Audio(samples) if ((self.sound.len() + samples.len()) as u64) <= samples_in(LONGEST) => {
                self.sound.extend_from_slice(samples);
            }
            Order::Ended if self.utterance == Utterance::Spoken => self.utterance = Utterance::Ended,
            _ => {}
        }
    }

    async fn talk(&mut self, mut socket: Socket) -> Left {
        let inner = self.inner.clone();
        let mut mouth = Mouth::new();
        let mut ear = StreamResampler::new(RATE, wire::HEARS);
        let mut pending = Vec::new();
        let mut messages = Vec::new();
        let mut leave_at: Option<Instant> = None;
        self.tell(Told::Ready).await;
        if self.utterance != Utterance::None {
            messages.push(wire::activity_start());
            let mut sound = Vec::new();
            ear.push(&self.sound, &mut sound);
            if self.utterance == Utterance::Ended {
                ear.finish(&mut sound);
            }
            messages.extend(sound.chunks(LONGEST_PIECE_SAMPLES).map(wire::audio));
            if self.utterance == Utterance::Ended {
                messages.push(wire::activity_end());
            }
        }
        loop {
            for message in messages.drain(..) {
                if let Err(broken) = socket.send(message).await {
                    return Left::Broken(inner.provider.broken(Stage::Waiting, &broken));
                }
            }
            let idle = self.utterance == Utterance::None && !self.answering;
            if leave_at.is_some_and(|at| idle || at <= Instant::now()) && self.handle.is_some() {
                socket.close().await;
                return Left::Asked;
            }
            let deadline = leave_at.filter(|_| self.handle.is_some());
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(order) = order else {
                        socket.close().await;
                        return Left::Over;
                    };
                    self.keep(&order).await;
                    match order {
                        Order::Started => {
                            ear.finish(&mut pending);
                            pending.clear();
                            messages.push(wire::activity_start());
                        }
                        Order::Audio(samples) => {
                            ear.push(&samples, &mut pending);
                            if pending.len() >= PIECE_SAMPLES {
                                messages.push(wire::audio(&pending));
                                pending.clear();
                            }
                        }
                        Order::Ended => {
                            ear.finish(&mut pending);
                            if !pending.is_empty() {
                                messages.push(wire::audio(&pending));
                                pending.clear();
                            }
                            messages.push(wire::activity_end());
                        }
                        Order::Results(results) => messages.push(wire::tool_response(&results)),
                    }
                }
                message = socket.receive() => match message {
                    Ok(message) => match self.take(&mut mouth, &message).await {
                        Ok(leave) => leave_at = leave.map(|after| Instant::now() + after).or(leave_at),
                        Err(fault) => return Left::Broken(fault),
                    },
                    Err(broken) => return Left::Broken(inner.provider.broken(Stage::Waiting, &broken)),
                },
                () = until(deadline) => {}
            }
        }
    }

    /// Takes a message; gives after what time the connection is to be left.
    async fn take(&mut self, mouth: &mut Mouth, message: &Message) -> Result<Option<Duration>, Fault> {
        let inner = self.inner.clone();
        let told = wire::Told::read(message).map_err(|note| inner.protocol(&note))?;
        let leave = told.go_away.map(|leave| leave.time_left().saturating_sub(EARLY));
        if let Some(error) = told.error {
            let body = serde_json::json!({"message": error.message}).to_string();
            return Err(inner.provider.refused(Stage::Waiting, error.code.unwrap_or(500), &body));
        }
        if let Some(update) = told.session_resumption_update {
            self.handle = update.handle().or(self.handle.take());
        }
        if let Some(usage) = told.usage_metadata {
            self.tell(Told::Used(usage.usage())).await;
        }
        let is_cut = self.cut.is_some_and(|at| at.elapsed() < UNAWARE);
        if is_cut && told.server_content.as_ref().is_some_and(|content| content.turn_complete) {
            self.cut = None;
        }
        if let Some(content) = told.server_content {
            if let Some(words) = content.input_transcription.filter(|words| !words.text.is_empty()) {
                self.tell(Told::Heard(words.text)).await;
            }
            if content.interrupted {
                mouth.be_silent();
                self.answering = false;
                self.tell(Told::Interrupted).await;
            }
            if is_cut {
                return Ok(leave);
            }
            if let Some(words) = content.output_transcription.filter(|words| !words.text.is_empty()) {
                self.tell(Told::Said(words.text)).await;
            }
            for sound in content.model_turn.iter().flat_map(wire::ModelTurn::sounds) {
                let (rate, samples) = sound.map_err(|note| inner.protocol(note))?;
                // What still comes of an answer that the caller has cut off is not heard.
                if self.utterance != Utterance::Spoken {
                    (self.utterance, self.answering, self.spoken) = (Utterance::None, true, true);
                    let sound = mouth.take(rate, &samples);
                    if !sound.is_empty() {
                        self.tell(Told::Sound(sound)).await;
                    }
                }
            }
            if content.generation_complete {
                let sound = mouth.rest();
                if !sound.is_empty() {
                    self.tell(Told::Sound(sound)).await;
                }
                self.tell(Told::Complete).await;
            }
            if content.turn_complete {
                self.answering = false;
                // Also a turn to which nothing was said is over; one that has begun meanwhile is not.
                if self.utterance == Utterance::Ended {
                    self.utterance = Utterance::None;
                }
                self.tell(Told::TurnOver).await;
            }
        }
        if let Some(calls) = told.tool_call.filter(|_| !is_cut) {
            if self.utterance == Utterance::Ended {
                self.utterance = Utterance::None;
            }
            (self.answering, self.spoken) = (true, true);
            self.tell(Told::Calls(calls.calls())).await;
        }
        if let Some(withdrawn) = told.tool_call_cancellation {
            self.tell(Told::Withdrawn(withdrawn.ids)).await;
        }
        Ok(leave)
    }

    async fn lose(mut self, fault: Fault) {
        self.tell(Told::Lost(fault)).await;
    }

    async fn tell(&mut self, told: Told) {
        // The call may be over.
        drop(self.out.send(told).await);
    }
}

/// What the model says, at our rate.
struct Mouth {
    rate: u32,
    resampler: StreamResampler,
}

impl Mouth {
    fn new() -> Self {
        Self { rate: RATE, resampler: StreamResampler::new(RATE, RATE) }
    }

    fn take(&mut self, rate: u32, samples: &[i16]) -> Vec<i16> {
        if rate != self.rate {
            *self = Self { rate, resampler: StreamResampler::new(rate, RATE) };
        }
        let mut sound = Vec::new();
        self.resampler.push(samples, &mut sound);
        sound
    }

    fn rest(&mut self) -> Vec<i16> {
        let mut sound = Vec::new();
        self.resampler.finish(&mut sound);
        sound
    }

    fn be_silent(&mut self) {
        self.rest();
    }
}

/// Ends at `deadline`; never without one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
