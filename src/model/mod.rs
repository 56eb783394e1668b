//! A language model as the house sees it: what is asked, what comes back while it still writes, and why there is no answer.
//!
//! Interfaces are rooms of their own ([`crate::gemini`]); who asks knows only [`LanguageModel`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod ask;
mod breaker;
mod declining;
mod fault;
mod first_of;

pub use ask::{Ask, Content, Delta, END_CALL, Event, Finish, Function, FunctionCall, FunctionResult, Mark, Usage};
pub use declining::{Declining, Sentence};
pub use fault::{Fault, FaultClass, Stage};
pub use first_of::{Candidate, FirstOf, Patience};

/// A boxed future, so that a model or a voice can be chosen at run time.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request besides the first that a single [`LanguageModel::ask_within`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Further {
    /// To another model, because one failed or is slow.
    Another,
    /// To the same model, because it failed.
    Again,
}

/// Whether a further request may be made; that it may is used up by the question.
pub type Permit = Arc<dyn Fn(Further) -> bool + Send + Sync>;

/// Somebody who can be asked for an answer.
pub trait LanguageModel: Send + Sync {
    /// Asks, and reports what comes to `out` (some tens of places are enough; a full channel holds the answer up).
    ///
    /// Never tries again once text was passed on. Ends early, with [`FaultClass::Cancelled`], when `stop` is cancelled or nobody
    /// receives: the connection is dropped at once. Time limits for the first and the next text are the asker's, who cancels.
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>>;

    /// The same where each request besides the first must be permitted. Who makes none need not care.
    fn ask_within(
        &self,
        ask: Ask,
        permit: Permit,
        out: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Fut<'static, Result<Finish, Fault>> {
        let _ = permit;
        self.ask(ask, out, stop)
    }

    /// Looks whether the key is another one than that with which it was last asked; from then on that one is used.
    fn has_new_key(&self) -> bool {
        false
    }

    /// Opens the connection, and checks what can be checked: for the moment when the telephone rings, and for doctors.
    fn warm(&self) -> Fut<'_, Result<(), Fault>>;
}
