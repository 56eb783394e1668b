//! Several models as one: asked in their order, the next one when one fails or is slow, and never another once text was passed on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Ended};
use super::{
    Ask, Delta, Event, Fault, FaultClass, Finish, FunctionCall, Further, Fut, LanguageModel, Mark, Permit, Stage,
};

/// Events of one model that may wait for the race.
const EVENTS: usize = 32;
/// Calls that are held back until the answer is sure.
const MOST_CALLS: usize = 64;

/// A model that may be asked.
#[derive(Clone)]
pub struct Candidate {
    /// Its name, for logs.
    pub name: Arc<str>,
    /// Whose key it is asked with: when a key is refused, no model of the account is asked.
    pub account: Arc<str>,
    /// The model.
    pub model: Arc<dyn LanguageModel>,
}

/// How long models are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// When a model has given no text for so long, the next one is asked besides it; the first that speaks is heard. `None`: never.
    pub hedge: Option<Duration>,
    /// A request that is given up after so long without any text counts as failed: who asks usually gives up before a model does.
    pub silent: Duration,
    /// Time for the whole answer.
    pub whole: Duration,
}

/// The first of several models that answers.
///
/// Each model is tried once, in order, while nothing was said; a lone one twice. One that is limited, ill or gone is passed over for a
/// while. Marks come once, and calls only when the answer that they belong to is whole or has begun to speak.
#[derive(Clone)]
pub struct FirstOf(Arc<Inner>);

struct Inner {
    candidates: Vec<Candidate>,
    patience: Patience,
    breaker: Mutex<Breaker>,
}

impl FirstOf {
    /// Models in the order in which they are tried; at least one.
    ///
    /// # Panics
    /// Without any model.
    pub fn new(candidates: Vec<Candidate>, patience: Patience) -> Self {
        assert!(!candidates.is_empty(), "there must be a model to ask");
        let account = |candidate: &Candidate| {
            candidates.iter().position(|other| other.account == candidate.account).unwrap_or_default()
        };
        let breaker = Mutex::new(Breaker::new(candidates.iter().map(account)));
        Self(Arc::new(Inner { candidates, patience, breaker }))
    }
}

impl LanguageModel for FirstOf {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        self.ask_within(ask, Arc::new(|_| true), out, stop)
    }

    fn ask_within(
        &self,
        ask: Ask,
        permit: Permit,
        out: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Fut<'static, Result<Finish, Fault>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let mut race = Race::new(&inner, ask, permit, out.clone());
            let (class, note) = tokio::select! {
                biased;
                () = stop.cancelled() => (FaultClass::Cancelled, "stopped"),
                result = race.run() => return result,
                () = out.closed() => (FaultClass::Cancelled, "nobody listens"),
                () = tokio::time::sleep(inner.patience.whole) => (FaultClass::Timeout, "the whole answer took too long"),
            };
            Err(Fault { class, stage: race.stage, model: race.asked(), http: None, note: note.into() })
        })
    }

    /// Opens the connection to the first model of each account; fails when all of them do.
    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            let inner = &*self.0;
            inner.take_new_keys();
            let usable = inner.breaker().usable(Instant::now().into_std());
            let mut chosen: Vec<usize> = Vec::new();
            for model in usable.into_iter().chain(0..inner.candidates.len()) {
                let account = &inner.candidates[model].account;
                if chosen.iter().all(|&other| inner.candidates[other].account != *account) {
                    chosen.push(model);
                }
            }
            let each = chosen.iter().map(|&model| inner.warm(model)).collect();
            let mut results = all(each).await.into_iter();
            let first = results.next().unwrap_or(Ok(()));
            let others = results.any(|result| result.is_ok());
            match first {
                Err(fault) if others => {
                    warn!(%fault, "the first model cannot be reached; another can");
                    Ok(())
                }
                first => first,
            }
        })
    }
}

impl Inner {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note(&self, model: usize, ended: Ended<'_>) {
        self.breaker().note(model, Instant::now().into_std(), ended);
    }

    /// Who has a new key may be asked at once.
    fn take_new_keys(&self) {
        let refused = self.breaker().refused();
        for model in refused {
            let Candidate { name, model: asked, .. } = &self.candidates[model];
            if asked.has_new_key() {
                info!(model = %name, "there is a new key; it is asked again");
                self.breaker().new_key(model);
            }
        }
    }

    fn warm(&self, model: usize) -> Fut<'_, Result<(), Fault>> {
        let Candidate { name, model: asked, .. } = &self.candidates[model];
        Box::pin(async move {
            let late = || Fault {
                class: FaultClass::Timeout,
                stage: Stage::Request,
                model: name.clone(),
                http: None,
                note: "no answer to the first request".into(),
            };
            let result = tokio::time::timeout(self.patience.whole, asked.warm()).await;
            let result = result.unwrap_or_else(|_| Err(late()));
            // That it is there does not say that it answers.
            if let Err(fault) = &result {
                self.note(model, Ended::Failed(&fault.class));
            }
            result
        })
    }
}

/// Waits for all of them at once.
async fn all<T>(mut futures: Vec<Fut<'_, T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// A model that is being asked. When it is dropped before it has ended, it did well if it spoke, and a long silence is held against it.
struct Attempt<'a> {
    inner: &'a Inner,
    model: usize,
    began: Instant,
    asking: Fut<'static, Result<Finish, Fault>>,
    events: mpsc::Receiver<Event>,
    ended: Option<Result<Finish, Fault>>,
    drained: bool,
    /// Calls that were not passed on yet.
    held: Vec<FunctionCall>,
    /// It has said something.
    spoke: bool,
    /// How it did is known, or does not matter.
    settled: bool,
}

enum Happened {
    Event(Event),
    Ended(Result<Finish, Fault>),
}

impl<'a> Attempt<'a> {
    fn new(inner: &'a Inner, model: usize, ask: Ask) -> Self {
        let (out, events) = mpsc::channel(EVENTS);
        let asking = inner.candidates[model].model.ask(ask, out, CancellationToken::new());
        let began = Instant::now();
        Self {
            inner,
            model,
            began,
            asking,
            events,
            ended: None,
            drained: false,
            held: Vec::new(),
            spoke: false,
            settled: false,
        }
    }

    /// What happens next; its end after all its events. Cancel-safe.
    async fn next(&mut self) -> Happened {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv(), if !self.drained => match event {
                    Some(event) => return Happened::Event(event),
                    None => self.drained = true,
                },
                result = &mut self.asking, if self.ended.is_none() => self.ended = Some(result),
                else => return match self.ended.take() {
                    Some(result) => Happened::Ended(result),
                    None => std::future::pending().await,
                },
            }
        }
    }

    fn note(&mut self, ended: Ended<'_>) {
        self.settled = true;
        self.inner.note(self.model, ended);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        match self.settled {
            true => {}
            // The caller has cut it off.
            false if self.spoke => self.note(Ended::Well),
            false if self.began.elapsed() >= self.inner.patience.silent => self.note(Ended::Silent),
            false => {}
        }
    }
}

async fn next(attempt: &mut Option<Attempt<'_>>) -> Happened {
    match attempt {
        Some(attempt) => attempt.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One request, until somebody has answered it.
struct Race<'a> {
    inner: &'a Inner,
    ask: Ask,
    permit: Permit,
    out: mpsc::Sender<Event>,
    /// The model that is being asked, and the one that is asked besides it.
    running: [Option<Attempt<'a>>; 2],
    waiting: VecDeque<usize>,
    /// When another model is asked besides the one that runs.
    hedge: Option<Instant>,
    /// The model that was asked last.
    last: usize,
    /// Whether a lone model may be asked a second time.
    again: bool,
    /// Whether one that rests may be asked, because all others take no sound.
    resort: bool,
    sent: bool,
    stage: Stage,
    /// Why nobody has answered so far.
    fault: Option<Fault>,
}

impl<'a> Race<'a> {
    fn new(inner: &'a Inner, ask: Ask, permit: Permit, out: mpsc::Sender<Event>) -> Self {
        let now = Instant::now().into_std();
        inner.take_new_keys();
        let mut waiting: VecDeque<usize> = inner.breaker().usable(now).into();
        if waiting.is_empty() {
            waiting.extend(inner.breaker().last_resort(now));
        }
        let again = waiting.len() == 1;
        Self {
            inner,
            ask,
            permit,
            out,
            running: [None, None],
            waiting,
            hedge: None,
            last: 0,
            again,
            resort: true,
            sent: false,
            stage: Stage::Request,
            fault: None,
        }
    }

    fn asked(&self) -> Arc<str> {
        self.inner.candidates[self.last].name.clone()
    }

    async fn run(&mut self) -> Result<Finish, Fault> {
        let first = self.waiting.pop_front().unwrap_or_default();
        self.start(0, first);
        loop {
            let [first, second] = &mut self.running;
            let (slot, happened) = tokio::select! {
                biased;
                happened = next(first) => (0, happened),
                happened = next(second) => (1, happened),
                () = until(self.hedge) => {
                    self.ask_besides();
                    continue;
                }
            };
            match happened {
                Happened::Event(event) => self.event(slot, event).await?,
                Happened::Ended(result) => {
                    if let Some(result) = self.ended(slot, result) {
                        return result;
                    }
                }
            }
        }
    }

    fn start(&mut self, slot: usize, model: usize) {
        self.last = model;
        self.running[slot] = Some(Attempt::new(self.inner, model, self.ask.clone()));
        let alone = self.running[1 - slot].is_none() && !self.waiting.is_empty();
        self.hedge = self.inner.patience.hedge.filter(|_| alone).map(|after| Instant::now() + after);
    }

    fn ask_besides(&mut self) {
        self.hedge = None;
        let slot = usize::from(self.running[0].is_some());
        if self.running[slot].is_none()
            && !self.waiting.is_empty()
            && (self.permit)(Further::Another)
            && let Some(model) = self.waiting.pop_front()
        {
            debug!(slow = %self.asked(), besides = %self.inner.candidates[model].name, "no text yet; another model is asked besides");
            self.start(slot, model);
        }
    }

    async fn event(&mut self, slot: usize, event: Event) -> Result<(), Fault> {
        match event {
            Event::Mark(Mark::RequestSent, _) if std::mem::replace(&mut self.sent, true) => Ok(()),
            Event::Mark(Mark::RequestSent, _) => self.pass(event).await,
            Event::Delta(Delta::Call(call)) => {
                self.alone(slot);
                match &mut self.running[slot] {
                    Some(attempt) if self.stage < Stage::Answering => {
                        if attempt.held.len() < MOST_CALLS {
                            attempt.held.push(call);
                        }
                        Ok(())
                    }
                    _ => self.pass(Event::Delta(Delta::Call(call))).await,
                }
            }
            Event::Mark(Mark::FirstToken, _) | Event::Delta(Delta::Text(_)) => {
                self.alone(slot);
                self.stage = Stage::Answering;
                if let Some(attempt) = &mut self.running[slot] {
                    attempt.spoke = true;
                }
                self.release(slot).await?;
                self.pass(event).await
            }
            Event::Mark(Mark::FullResponse, _) | Event::Delta(Delta::Usage(_) | Delta::Finished(_)) => {
                self.alone(slot);
                self.release(slot).await?;
                self.pass(event).await
            }
        }
    }

    /// The one in the slot is heard; the other is dropped. If that was asked first, it was too slow.
    fn alone(&mut self, slot: usize) {
        self.hedge = None;
        let Some(mut other) = self.running[1 - slot].take() else { return };
        let overtaken = self.running[slot].as_ref().is_some_and(|attempt| other.began < attempt.began);
        other.settled = true;
        if overtaken {
            other.note(Ended::Silent);
        }
    }

    /// Passes on the calls that were held back.
    async fn release(&mut self, slot: usize) -> Result<(), Fault> {
        let held = self.running[slot].as_mut().map(|attempt| std::mem::take(&mut attempt.held)).unwrap_or_default();
        for call in held {
            self.pass(Event::Delta(Delta::Call(call))).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, event: Event) -> Result<(), Fault> {
        self.out.send(event).await.map_err(|_| Fault {
            class: FaultClass::Cancelled,
            stage: self.stage,
            model: self.asked(),
            http: None,
            note: "nobody listens".into(),
        })
    }

    /// Sees to a model that has ended; gives the end of the race.
    fn ended(&mut self, slot: usize, result: Result<Finish, Fault>) -> Option<Result<Finish, Fault>> {
        let mut attempt = self.running[slot].take()?;
        let fault = match result {
            Ok(finish) => {
                attempt.note(Ended::Well);
                return Some(Ok(finish));
            }
            Err(fault) => fault,
        };
        attempt.note(Ended::Failed(&fault.class));
        let spoke = self.stage == Stage::Answering || fault.stage == Stage::Answering;
        if spoke || matches!(fault.class, FaultClass::Cancelled | FaultClass::Blocked(_)) {
            return Some(Err(fault));
        }
        if fault.class == FaultClass::Auth {
            let account = |model: usize| &self.inner.candidates[model].account;
            self.waiting.retain(|&model| account(model) != account(attempt.model));
        }
        let next = match &self.running[1 - slot] {
            Some(other) => Some(other.model),
            None => self.next(&fault),
        };
        if let Some(next) = next {
            let next = &self.inner.candidates[next].name;
            match fault.class {
                FaultClass::NoText => debug!(%fault, %next, "a model takes no sound; another is asked"),
                _ => warn!(%fault, %next, "a model did not answer; another is asked"),
            }
        }
        // That a model does not take sound is no reason for there being no answer.
        if self.fault.as_ref().is_none_or(|fault| fault.class == FaultClass::NoText) {
            self.fault = Some(fault);
        }
        match (next, &self.running[1 - slot]) {
            (_, Some(_)) => None,
            (Some(next), None) => {
                self.start(slot, next);
                None
            }
            (None, None) => self.fault.take().map(Err),
        }
    }

    /// Whom to ask after a fault, when nobody is being asked.
    fn next(&mut self, fault: &Fault) -> Option<usize> {
        // One that takes no sound has made no request.
        let made = fault.class != FaultClass::NoText;
        if !self.waiting.is_empty() {
            return if made && !(self.permit)(Further::Another) { None } else { self.waiting.pop_front() };
        }
        let only_deaf = self.fault.as_ref().is_none_or(|fault| fault.class == FaultClass::NoText);
        if fault.class == FaultClass::NoText && only_deaf && std::mem::take(&mut self.resort) {
            return self.inner.breaker().last_resort(Instant::now().into_std());
        }
        (std::mem::take(&mut self.again) && fault.retryable() && (self.permit)(Further::Again)).then_some(self.last)
    }
}

#[cfg(test)]
mod tests;
