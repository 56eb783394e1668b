//! Fetches one answer: the model's text as it is written, through the cutter, to the conversation; and what it wants done on the way.
//!
//! Functions that change nothing begin when the model names them. What has side effects begins when the model has ended that part of its
//! answer (a second model may have been asked meanwhile) and the caller's turn is committed; an answer that is dropped before has done
//! nothing. With the results the model is asked again, under the same name, [`MOST_ROUNDS`] times at most, and the last time without
//! functions to call. Every request passes through the call's budget: the first, one of each round, and those that follow upon a failure.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::conversation::{Generation, Outcome};
use crate::limits::{Allowance, Cost};
use crate::model::{
    Ask, Content, Delta, Event, Fault, FaultClass, Finish, FunctionCall, FunctionResult, Further, LanguageModel, Permit,
};
use crate::sentence::{Cutter, Ends, Options, Piece};
use crate::tools::{self, Guard, Occasion, Sorted, Toolbox};

use super::{Work, until};

/// Deltas between the model's reader and the cutter.
const DELTAS: usize = 64;
/// How often an answer may want something done before it is given: with a model of 700 ms, a caller who hears nothing has waited 3.7 s then.
const MOST_ROUNDS: usize = 3;
/// Functions of one round; more are refused.
const MOST_CALLS: usize = 8;
/// A function that takes longer is bridged with words of its own.
const SAY_AFTER: Duration = Duration::from_millis(500);

/// What an answer is made with.
pub(super) struct Fetch {
    pub model: Arc<dyn LanguageModel>,
    pub ask: Ask,
    /// Ends it.
    pub stop: CancellationToken,
    /// What the call may still cost.
    pub allowance: Allowance,
    /// What may follow upon a failure.
    pub attempt: Attempt,
    pub errands: Errands,
    /// What must not be said.
    pub guard: Option<Guard>,
}

/// What the functions that an answer calls are run with.
pub(super) struct Errands {
    pub generation: Generation,
    pub work: mpsc::Sender<Work>,
    /// Whether the caller's turn is committed.
    pub committed: watch::Receiver<bool>,
    pub toolbox: Arc<Toolbox>,
    pub occasion: Occasion,
    /// What was said meanwhile in this answer.
    pub said: HashSet<String>,
}

/// Which of a turn's requests for an answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// On the chance that the caller has finished: when it fails before that is known, it is made again then, and not before.
    Early,
    /// When the caller has finished.
    Due,
    /// After an early one that had failed: it is the second try that a model is given.
    Repeated,
}

/// What one request came to.
struct Round {
    text: String,
    calls: Calls,
    result: Result<Finish, Fault>,
    revealed: bool,
}

/// The functions that were called at a time.
#[derive(Default)]
pub(super) struct Calls {
    all: Vec<Called>,
    /// What changes nothing and runs already: the places of its calls, and what came of them.
    running: JoinSet<(usize, Value)>,
    /// One of them is for the call itself: to end it, to hand it over.
    pub controls: bool,
}

/// A function that was called.
struct Called {
    call: FunctionCall,
    sorted: Sorted,
}

impl Called {
    /// Whether the model waits for what comes of it.
    fn is_awaited(&self) -> bool {
        !matches!(self.sorted, Sorted::Control(_))
    }
}

/// Asks, and reports everything through `work`; returns when the answer is whole, has failed, or is not wanted any more.
pub(super) async fn fetch(mut fetch: Fetch) {
    let mut spoke_ever = false;
    for round_number in 0.. {
        if fetch.allowance.request().is_err() {
            let generation = fetch.errands.generation;
            let ended = Work::AnswerEnded { generation, outcome: Outcome::Unaffordable, fault: None };
            fetch.errands.report(ended).await;
            return;
        }
        let Some(round) = fetch.round(round_number).await else { return };
        let spoke = !round.text.trim().is_empty();
        spoke_ever |= spoke;
        let goes_on = round.result.is_ok() && !round.revealed && round.calls.all.iter().any(Called::is_awaited);
        if !goes_on || round_number == MOST_ROUNDS {
            let outcome = outcome(&round, spoke, spoke_ever);
            let fault = round.result.err();
            fetch.errands.report(Work::AnswerEnded { generation: fetch.errands.generation, outcome, fault }).await;
            return;
        }
        let generation = fetch.errands.generation;
        fetch.errands.report(Work::ToolsRun { generation }).await;
        let stop = fetch.stop.clone();
        let contents = tokio::select! {
            // What changes nothing is dropped; what has side effects is done to its end.
            () = stop.cancelled() => return,
            contents = fetch.run(round) => contents,
        };
        fetch.ask.contents.extend(contents);
        if round_number + 1 == MOST_ROUNDS {
            fetch.ask.functions = [].into();
        }
        fetch.errands.report(Work::ToolsDone { generation }).await;
    }
}

fn outcome(round: &Round, spoke: bool, spoke_ever: bool) -> Outcome {
    match &round.result {
        _ if round.revealed && spoke => Outcome::Truncated,
        _ if round.revealed => Outcome::Refused,
        Ok(Finish::Safety) if !spoke => Outcome::Refused,
        Ok(_) if spoke_ever || round.calls.controls => Outcome::Complete,
        Ok(_) => Outcome::Failed,
        Err(_) if spoke => Outcome::Truncated,
        Err(fault) => match fault.class {
            FaultClass::Auth | FaultClass::Gone => Outcome::Hopeless,
            FaultClass::Blocked(_) => Outcome::Refused,
            _ => Outcome::Failed,
        },
    }
}

impl Fetch {
    /// One request. `None` when nobody wants it any more.
    async fn round(&mut self, number: usize) -> Option<Round> {
        let (delta_in, mut delta_out) = mpsc::channel(DELTAS);
        let mut cutter = Cutter::new(Options::default());
        let generation = self.errands.generation;
        let asking = self.model.ask_within(self.ask.clone(), self.permit(number), delta_in, self.stop.clone());
        tokio::pin!(asking);
        let mut ended: Option<Result<Finish, Fault>> = None;
        let mut round =
            Round { text: String::new(), calls: Calls::default(), result: Ok(Finish::Stop), revealed: false };
        loop {
            if !self.speak(&mut cutter, &mut round).await {
                return Some(round);
            }
            let deadline = cutter.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                // Text before the end of the text.
                biased;
                event = delta_out.recv() => match event {
                    Some(Event::Delta(Delta::Text(text))) => {
                        let now = Instant::now();
                        self.errands.report(Work::Token { generation }).await;
                        cutter.push(now, &text);
                    }
                    Some(Event::Mark(mark, at)) if number == 0 => {
                        self.errands.report(Work::GeminiMark { generation, mark, at }).await;
                    }
                    Some(Event::Mark(..)) => {}
                    Some(Event::Delta(Delta::Call(call))) => {
                        let asked = self.ask.contents.len();
                        self.errands.called(&mut round.calls, call, asked).await;
                    }
                    Some(Event::Delta(Delta::Usage(usage))) => {
                        self.allowance.charge(Cost::of(&usage));
                        self.errands.report(Work::Used { usage }).await;
                    }
                    Some(Event::Delta(Delta::Finished(_))) => {}
                    None => break,
                },
                result = &mut asking, if ended.is_none() => ended = Some(result),
                () = until(deadline) => cutter.handle_timeout(Instant::now()),
            }
        }
        round.result = match ended {
            Some(result) => result,
            None => asking.await,
        };
        if self.stop.is_cancelled() {
            return None;
        }
        match &round.result {
            Ok(Finish::MaxTokens) | Err(_) => cutter.finish_at_sentence(),
            Ok(_) => cutter.finish(),
        }
        self.speak(&mut cutter, &mut round).await;
        Some(round)
    }

    /// What a model that fails, or is slow, may be followed by in a round.
    fn permit(&self, round_number: usize) -> Permit {
        let (allowance, committed, attempt) = (self.allowance.clone(), self.errands.committed.clone(), self.attempt);
        Arc::new(move |further| {
            let is_wanted = match (attempt, further) {
                _ if round_number > 0 => true,
                (Attempt::Due, _) | (Attempt::Early, Further::Another) => true,
                (Attempt::Early, Further::Again) => *committed.borrow(),
                (Attempt::Repeated, _) => false,
            };
            is_wanted && allowance.request().is_ok()
        })
    }

    /// Passes on what can be spoken. False when it must not be.
    async fn speak(&mut self, cutter: &mut Cutter, round: &mut Round) -> bool {
        while let Some(piece) = cutter.poll() {
            if self.guard.as_mut().is_some_and(|guard| guard.reveals(&piece.text)) {
                warn!("an answer that repeats the system instruction is cut off: [limits] guarded_words");
                round.revealed = true;
                return false;
            }
            round.text.push_str(&piece.text);
            round.text.push(' ');
            let generation = self.errands.generation;
            self.errands.report(Work::Clause { generation, at: Instant::now(), piece }).await;
        }
        true
    }

    /// Runs what was called, and gives what the model is told of it.
    async fn run(&mut self, mut round: Round) -> [Content; 2] {
        let told = self.errands.run(&mut round.calls).await;
        let calls = round.calls.all.into_iter().map(|called| called.call).collect();
        [Content::Calls { text: round.text.trim().to_owned(), calls }, Content::Results(told)]
    }
}

impl Errands {
    /// The model wants something done. `asked`: what it was asked with so far, for calls without a name of their own.
    pub async fn called(&self, calls: &mut Calls, mut call: FunctionCall, asked: usize) {
        // It comes again when a second model had to be asked: the last one gets the result. When a model wants the same twice at once, only
        // the first is signed, and without a signature it may not come back.
        let is_signed = |call: &FunctionCall| call.raw.get("thoughtSignature").is_some();
        if let Some(known) =
            calls.all.iter_mut().find(|known| known.call.name == call.name && known.call.args == call.args)
        {
            if is_signed(&call) || !is_signed(&known.call) {
                known.call = call;
            }
            return;
        }
        let place = calls.all.len();
        if call.id.is_empty() {
            call.id = format!("call-{}-{asked}-{place}", self.generation);
        }
        let mut sorted = self.toolbox.sort(&call);
        if place >= MOST_CALLS {
            sorted = Sorted::Refused(tools::error("too many functions at once"));
        }
        match &sorted {
            Sorted::Control(control) => {
                calls.controls = true;
                self.report(Work::Controlled { generation: self.generation, control: control.clone() }).await;
            }
            Sorted::Run { effects: false } => self.start(&mut calls.running, place, &call),
            Sorted::Run { effects: true } | Sorted::Refused(_) => {}
        }
        calls.all.push(Called { call, sorted });
    }

    fn start(&self, running: &mut JoinSet<(usize, Value)>, place: usize, call: &FunctionCall) {
        let (toolbox, call, occasion) = (self.toolbox.clone(), call.clone(), self.occasion.clone());
        running.spawn(async move { (place, toolbox.run(&call, &occasion).await) });
    }

    /// Runs what was called, says something meanwhile, and gives what the model is told of it.
    pub async fn run(&mut self, calls: &mut Calls) -> Vec<FunctionResult> {
        let Calls { all, running, .. } = calls;
        let mut results: Vec<Option<Value>> = vec![None; all.len()];
        for (place, called) in all.iter().enumerate() {
            match &called.sorted {
                Sorted::Refused(told) => results[place] = Some(told.clone()),
                Sorted::Control(_) => results[place] = Some(self.toolbox.run(&called.call, &self.occasion).await),
                Sorted::Run { .. } => {}
            }
        }
        let with_effects = |called: &Called| called.sorted == Sorted::Run { effects: true };
        if all.iter().any(with_effects) {
            // An answer that is dropped before drops this with it; a sender that is gone means the same.
            if self.committed.wait_for(|committed| *committed).await.is_err() {
                std::future::pending::<()>().await;
            }
            for (place, called) in all.iter().enumerate().filter(|(_, called)| with_effects(called)) {
                self.start(running, place, &called.call);
            }
        }
        let say_at = Instant::now() + SAY_AFTER;
        let mut saying = all.iter().find_map(|called| self.toolbox.say(&called.call.name)).map(str::to_owned);
        saying = saying.filter(|text| !self.said.contains(text));
        loop {
            tokio::select! {
                joined = running.join_next() => match joined {
                    Some(Ok((place, told))) => results[place] = Some(told),
                    Some(Err(problem)) => warn!(%problem, "a function of the model's broke off"),
                    None => break,
                },
                () = until(Some(say_at)), if saying.is_some() => if let Some(text) = saying.take() {
                    self.said.insert(text.clone());
                    let piece = Piece { text, ends: Ends::Sentence };
                    self.report(Work::Aside { generation: self.generation, piece }).await;
                },
            }
        }
        let told = all.iter().zip(results).map(|(called, told)| FunctionResult {
            id: called.call.id.clone(),
            name: called.call.name.clone(),
            response: told.unwrap_or_else(|| tools::error("it failed")),
        });
        told.collect()
    }

    pub async fn report(&self, work: Work) {
        // The call may be over.
        let _ = self.work.send(work).await;
    }
}

#[cfg(test)]
mod tests;
