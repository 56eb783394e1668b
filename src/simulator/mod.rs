//! The stand-in for the cloud: Gemini's HTTP interface on this machine, with scripted answers, and delays and faults to order.
//!
//! It serves `POST /v1beta/models/{model}:streamGenerateContent`, `POST /v1beta/interactions` and `GET /v1beta/models/{model}`, and refuses what the real one
//! refuses. It understands nothing: answers follow the number of the caller's turns.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Language;

mod check;
mod connection;
pub mod faces;
mod fault;
mod interactions;
mod plan;
mod refusal;
mod script;

pub use check::Heard;
pub use fault::{Fault, NAMES, Order, UnknownFault};
pub use script::answers;

/// Connections at once; more are closed.
const MOST_CONNECTIONS: usize = 256;
/// Requests that are remembered.
const MOST_SEEN: usize = 1000;

/// How the simulator behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// From the whole request to the first token.
    pub first_token: Duration,
    /// Tokens a second after that; infinite for all at once.
    pub tokens_per_second: f64,
    /// Language of the answers.
    pub language: Language,
    /// The functions that are called where a function is called (`S4`), with their arguments.
    pub calls: Vec<(String, serde_json::Value)>,
    /// What goes wrong, and in which request.
    pub faults: Vec<Order>,
    /// Decides where tokens are cut and what ids are given.
    pub seed: u64,
    /// How often what is kept (`cachedContents`) can be used before it is forgotten.
    pub kept_uses: u32,
    /// Whether a request without a key is refused, as the real interface does. Any key will do, but `invalid`.
    pub key_required: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            first_token: Duration::from_millis(500),
            tokens_per_second: 60.0,
            language: Language::En,
            calls: vec![("order_status".into(), serde_json::json!({"order": "test"}))],
            faults: Vec::new(),
            seed: 1,
            kept_uses: u32::MAX,
            key_required: true,
        }
    }
}

/// What has happened so far. Only requests for an answer are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that were taken.
    pub requests: u32,
    /// Those that are being answered.
    pub in_flight: u32,
    /// Those whose asker closed the connection before the end.
    pub cancelled: u32,
    /// When the last of those connections was seen to be closed.
    pub cancelled_at: Option<Instant>,
    /// Connections taken.
    pub connections: u32,
    /// Beginnings of requests that were kept.
    pub kept: u32,
}

/// A request that was not refused, without what was said in it as sound.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its number, from 1.
    pub number: u32,
    /// The model that was asked.
    pub model: String,
    /// How it was answered.
    pub fault: Fault,
    /// Whether the key stood in the URL, where it should not.
    pub key_in_url: bool,
    /// Entries of the conversation.
    pub contents: usize,
    /// Those of them that are the caller's.
    pub caller_turns: usize,
    /// The sounds.
    pub audio: Vec<Heard>,
    /// Size of the whole body.
    pub body_bytes: usize,
    /// The body as JSON, each sound replaced by its size.
    pub json: String,
    /// When it was whole.
    pub received: Instant,
}

/// A running simulator. It ends when dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    counts: watch::Receiver<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    counts: watch::Sender<Counts>,
    seen: Mutex<VecDeque<Seen>>,
    kept: Mutex<Vec<Kept>>,
}

/// The beginning of requests, kept for those to come.
#[derive(Debug)]
struct Kept {
    functions: Vec<String>,
    uses: u32,
}

impl Simulator {
    /// Starts it on the present tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let (sender, counts) = watch::channel(Counts::default());
        let shared = Arc::new(Shared { options, counts: sender, seen: Mutex::default(), kept: Mutex::default() });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, counts, task })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL to configure.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until what has happened is as wanted.
    pub async fn reached(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.counts.clone();
        *counts.wait_for(wanted).await.expect("the sender lives as long as the simulator")
    }

    /// The requests so far, oldest first; at most the last thousand.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().iter().cloned().collect()
    }

    /// Ends it: every connection is closed.
    pub async fn shutdown(mut self) {
        self.task.abort();
        // It was aborted; there is nothing else to learn from it.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                    shared.counts.send_modify(|counts| counts.connections += 1);
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = connection::serve(stream, &shared).await {
                            tracing::debug!(%error, "a connection to the simulator ended");
                        }
                    });
                }
                Ok(_) => tracing::warn!("the simulator has {MOST_CONNECTIONS} connections and takes no more"),
                Err(error) => {
                    // Out of descriptors, most likely; an accept that fails at once must not spin.
                    tracing::warn!(%error, "the simulator cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// Counts a request; gives its number.
    fn begin(&self) -> u32 {
        let mut number = 0;
        self.counts.send_modify(|counts| {
            counts.requests += 1;
            counts.in_flight += 1;
            number = counts.requests;
        });
        number
    }

    fn end(&self) {
        self.counts.send_modify(|counts| counts.in_flight -= 1);
    }

    fn cancelled(&self) {
        self.counts.send_modify(|counts| {
            counts.cancelled += 1;
            counts.cancelled_at = Some(Instant::now());
        });
    }

    fn log(&self, seen: Seen) {
        let mut all = self.seen();
        if all.len() == MOST_SEEN {
            all.pop_front();
        }
        all.push_back(seen);
    }

    /// Keeps the beginning of requests; gives its name.
    fn keep(&self, functions: Vec<String>) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.push(Kept { functions, uses: 0 });
        self.counts.send_modify(|counts| counts.kept += 1);
        format!("cachedContents/{}", kept.len())
    }

    /// The functions that are offered in what is kept under a name; `None` when there is nothing, or not any more.
    fn kept(&self, name: &str) -> Option<Vec<String>> {
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let number: usize = name.strip_prefix("cachedContents/")?.parse().ok()?;
        let kept = kept.get_mut(number.checked_sub(1)?)?;
        kept.uses += 1;
        (kept.uses <= self.options.kept_uses).then(|| kept.functions.clone())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, VecDeque<Seen>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
