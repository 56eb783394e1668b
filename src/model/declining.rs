//! A refusal for its content, said as a polite sentence: it is no technical fault, and the caller need not hear an apology for one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Ask, Delta, Event, Fault, FaultClass, Finish, Fut, LanguageModel, Mark, Permit, Stage};

/// What is said in place of an answer to a request.
pub type Sentence = dyn Fn(&Ask) -> &'static str + Send + Sync;

/// A model that declines where another refuses.
#[derive(Clone)]
pub struct Declining {
    model: Arc<dyn LanguageModel>,
    sentence: Arc<Sentence>,
}

impl Declining {
    /// Answers as `model` does, and with `sentence` when that refuses a request or withholds its whole answer.
    pub fn new(model: Arc<dyn LanguageModel>, sentence: Arc<Sentence>) -> Self {
        Self { model, sentence }
    }
}

impl LanguageModel for Declining {
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
        let sentence = (self.sentence)(&ask);
        let asking = self.model.ask_within(ask, permit, out.clone(), stop);
        Box::pin(async move {
            let fault = match asking.await {
                Err(fault) if matches!(fault.class, FaultClass::Blocked(_)) && fault.stage < Stage::Answering => fault,
                result => return result,
            };
            warn!(%fault, "the model refuses; the caller is told so politely");
            let now = Instant::now();
            for event in [
                Event::Mark(Mark::FirstToken, now),
                Event::Delta(Delta::Text(sentence.into())),
                Event::Mark(Mark::FullResponse, now),
                Event::Delta(Delta::Finished(Finish::Safety)),
            ] {
                if out.send(event).await.is_err() {
                    return Err(Fault { class: FaultClass::Cancelled, stage: Stage::Answering, ..fault });
                }
            }
            Ok(Finish::Safety)
        })
    }

    fn has_new_key(&self) -> bool {
        self.model.has_new_key()
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        self.model.warm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails in one way.
    struct Fails(FaultClass, Stage);

    impl LanguageModel for Fails {
        fn ask(&self, _: Ask, _: mpsc::Sender<Event>, _: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
            let (class, stage) = (self.0.clone(), self.1);
            Box::pin(async move { Err(Fault { class, stage, model: "m".into(), http: None, note: String::new() }) })
        }

        fn warm(&self) -> Fut<'_, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }
    }

    async fn asked(class: FaultClass, stage: Stage) -> (Result<Finish, FaultClass>, Vec<Delta>) {
        let model = Declining::new(Arc::new(Fails(class, stage)), Arc::new(|_: &Ask| "I'm sorry, no."));
        let (out, mut events) = mpsc::channel(8);
        let ask = Ask { system: "".into(), contents: vec![], functions: [].into() };
        let result = model.ask(ask, out, CancellationToken::new()).await.map_err(|fault| fault.class);
        let mut deltas = Vec::new();
        while let Some(event) = events.recv().await {
            if let Event::Delta(delta) = event {
                deltas.push(delta);
            }
        }
        (result, deltas)
    }

    #[tokio::test]
    async fn a_refusal_becomes_an_answer() {
        let (result, deltas) = asked(FaultClass::Blocked("SAFETY".into()), Stage::Waiting).await;
        assert_eq!(result, Ok(Finish::Safety));
        assert_eq!(deltas, [Delta::Text("I'm sorry, no.".into()), Delta::Finished(Finish::Safety)]);
    }

    #[tokio::test]
    async fn nothing_is_added_to_what_was_said_and_a_fault_stays_a_fault() {
        for (class, stage) in
            [(FaultClass::Blocked("SAFETY".into()), Stage::Answering), (FaultClass::Overloaded, Stage::Waiting)]
        {
            assert_eq!(asked(class.clone(), stage).await, (Err(class), vec![]));
        }
    }
}
