//! Fetches one answer: the model's text as it is written, through the cutter, to the conversation.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::conversation::{Generation, Outcome};
use crate::model::{Ask, Delta, Event, Fault, Finish, LanguageModel};
use crate::sentence::{Cutter, Options, Piece};

use super::{Work, until};

/// Deltas between the model's reader and the cutter.
const DELTAS: usize = 64;

/// Asks, and reports everything through `work`; returns when the answer is whole, has failed, or is not wanted any more.
pub(super) async fn fetch(
    model: Arc<dyn LanguageModel>,
    ask: Ask,
    generation: Generation,
    work: mpsc::Sender<Work>,
    stop: CancellationToken,
) {
    let (delta_in, mut delta_out) = mpsc::channel(DELTAS);
    let mut cutter = Cutter::new(Options::default());
    let asking = model.ask(ask, delta_in, stop.clone());
    tokio::pin!(asking);
    let mut ended: Option<Result<Finish, Fault>> = None;
    let (mut spoke, mut called) = (false, false);
    loop {
        while let Some(piece) = cutter.poll() {
            spoke = true;
            clause(&work, generation, piece).await;
        }
        let deadline = cutter.poll_timeout().map(|(at, _)| at);
        tokio::select! {
            // Text before the end of the text.
            biased;
            event = delta_out.recv() => match event {
                Some(Event::Delta(Delta::Text(text))) => {
                    let now = Instant::now();
                    let _ = work.send(Work::Token { generation }).await;
                    cutter.push(now, &text);
                }
                Some(Event::Mark(mark, at)) => {
                    let _ = work.send(Work::GeminiMark { generation, mark, at }).await;
                }
                Some(Event::Delta(Delta::Call(call))) => {
                    called = true;
                    let _ = work.send(Work::FunctionCalled { generation, name: call.name }).await;
                }
                Some(Event::Delta(Delta::Usage(usage))) => drop(work.send(Work::Usage(usage)).await),
                Some(Event::Delta(Delta::Finished(_))) => {}
                None => break,
            },
            result = &mut asking, if ended.is_none() => ended = Some(result),
            () = until(deadline) => cutter.handle_timeout(Instant::now()),
        }
    }
    let result = match ended {
        Some(result) => result,
        None => asking.await,
    };
    if stop.is_cancelled() {
        return;
    }
    match &result {
        Ok(Finish::MaxTokens) | Err(_) => cutter.finish_at_sentence(),
        Ok(_) => cutter.finish(),
    }
    while let Some(piece) = cutter.poll() {
        spoke = true;
        clause(&work, generation, piece).await;
    }
    let outcome = match &result {
        Ok(_) if spoke || called => Outcome::Complete,
        Err(_) if spoke => Outcome::Truncated,
        _ => Outcome::Failed,
    };
    let _ = work.send(Work::AnswerEnded { generation, outcome, fault: result.err() }).await;
}

async fn clause(work: &mpsc::Sender<Work>, generation: Generation, piece: Piece) {
    let _ = work.send(Work::Clause { generation, at: Instant::now(), piece }).await;
}
