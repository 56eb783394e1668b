//! A language model as the house sees it: what is asked, what comes back while it still writes, and why there is no answer.
//!
//! Interfaces are rooms of their own ([`crate::gemini`]); who asks knows only [`LanguageModel`].

use std::future::Future;
use std::pin::Pin;

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

/// Somebody who can be asked for an answer.
pub trait LanguageModel: Send + Sync {
    /// Asks, and reports what comes to `out` (some tens of places are enough; a full channel holds the answer up).
    ///
    /// Never tries again once text was passed on. Ends early, with [`FaultClass::Cancelled`], when `stop` is cancelled or nobody
    /// receives: the connection is dropped at once. Time limits for the first and the next text are the asker's, who cancels.
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, stop: CancellationToken) -> Fut<'static, Result<Finish, Fault>>;

    /// Opens the connection, and checks what can be checked: for the moment when the telephone rings, and for doctors.
    fn warm(&self) -> Fut<'_, Result<(), Fault>>;
}
