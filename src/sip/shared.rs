//! What the agent, its gate and its calls share, and how single transactions are answered and driven to their end.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::rsip::{self, Header, Method, StatusCode, StatusCodeKind};
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::authorizer::Authorizer;
use super::gate::MergeKey;
use super::limits::RareWarning;
use super::peers::Peers;
use super::streams::Flows;
use super::trunk::Trunk;
use super::{Counters, DialogRules, RefusedCall, fields};
use crate::config::Policy;

/// In-dialog requests that may wait for a call's task.
const QUEUE: usize = 8;

/// The methods that the agent serves, as the Allow header lists them.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY, REFER";

/// The extensions that the agent supports, as the Supported header lists them.
pub(super) const SUPPORTED: &str = "100rel, timer, replaces";

/// The Unsupported header of a 420, when something is required that is not there (RFC 3261 §8.2.2.3).
pub(super) fn unsupported(headers: &rsip::Headers, rules: &DialogRules) -> Option<Header> {
    let known = |tag: &str| match tag.to_ascii_lowercase().as_str() {
        "100rel" => rules.reliable_provisional != Policy::Off,
        "timer" | "replaces" => true,
        _ => false,
    };
    let unknown: Vec<&str> = fields::items(headers, "Require").filter(|tag| !known(tag)).collect();
    (!unknown.is_empty()).then(|| Header::Unsupported(unknown.join(", ").into()))
}

/// What the agent, its gate and its calls share.
pub(super) struct Shared {
    pub(super) layer: Arc<DialogLayer>,
    /// Boxed: a channel has room for 32 of them, large as they are, from its beginning.
    pub(super) routes: Mutex<HashMap<RouteKey, mpsc::Sender<Box<Transaction>>>>,
    pub(super) counters: Arc<Counters>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) max_calls: usize,
    pub(super) peers: Arc<Peers>,
    /// INVITEs that are not answered, or not acknowledged; bounded by `max_pending`.
    pub(super) pending: Mutex<HashSet<MergeKey>>,
    pub(super) max_pending: usize,
    /// That all calls are taken is said once in a while, not for every caller who is refused.
    pub(super) busy: Mutex<RareWarning>,
    /// The order to end all calls.
    pub(super) closing: CancellationToken,
    /// The order to leave the trunks and take no further calls; that to end all calls is one, too.
    pub(super) leaving: CancellationToken,
    /// The stack has stopped: nothing is received and no timer runs any more.
    pub(super) stopped: CancellationToken,
    pub(super) contact: rsip::Uri,
    /// The ways to peers over UDP, TCP and TLS.
    pub(super) flows: Flows,
    pub(super) rules: DialogRules,
    /// T1 (RFC 3261 §17).
    pub(super) t1: Duration,
    /// In the order of the options.
    pub(super) trunks: Vec<Arc<Trunk>>,
    /// Who is told of calls that were refused because there was no room.
    pub(super) refusals: Option<mpsc::Sender<RefusedCall>>,
}

/// The right to one call, on a trunk or on none.
pub(super) struct CallPermit {
    _of_agent: OwnedSemaphorePermit,
    _of_trunk: Option<OwnedSemaphorePermit>,
}

impl Shared {
    /// A permit for a call on a trunk, by its place in the options; none when all are taken.
    pub(super) fn permit(&self, trunk: Option<usize>) -> Option<CallPermit> {
        let trunk = trunk.and_then(|trunk| self.trunks.get(trunk));
        let of_trunk = trunk.map(|trunk| trunk.permits.clone().try_acquire_owned()).transpose().ok()?;
        Some(CallPermit { _of_agent: self.permits.clone().try_acquire_owned().ok()?, _of_trunk: of_trunk })
    }

    /// The trunk that a call from this address to this user of ours belongs to. Several trunks may share an address: then the
    /// one whose user is called, else the first.
    pub(super) fn trunk_of(&self, peer: IpAddr, called: &str) -> Option<usize> {
        let mut trunks = self.peers.trunks_of(peer).peekable();
        let first = trunks.peek().copied();
        let names = |trunk: &usize| {
            let config = self.trunks.get(*trunk).map(|trunk| &trunk.config);
            config.is_some_and(|config| config.contact_user.as_deref().unwrap_or(&config.user) == called)
        };
        trunks.find(names).or(first)
    }

    /// What answers challenges to our requests on a trunk, by its place in the options.
    pub(super) fn authorizer_of(&self, trunk: Option<usize>) -> Option<Arc<dyn Authorizer>> {
        let credentials = self.trunks.get(trunk?)?.credentials.clone()?;
        Some(Arc::new(credentials))
    }

    /// How the dialogs of a trunk are led, by its place in the options.
    pub(super) fn rules_of(&self, trunk: Option<usize>) -> DialogRules {
        let trunk = trunk.and_then(|trunk| self.trunks.get(trunk));
        trunk.map_or(self.rules, |trunk| DialogRules::from(&trunk.config))
    }

    /// Spawns a task that owns a transaction. It is dropped when the stack stops, since it would never end otherwise.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = stopped.cancelled() => {}
            }
        });
    }
}

/// A dialog as an incoming request names it: Call-ID and our own tag.
pub(super) type RouteKey = (String, String);

/// In-dialog requests find their call through this entry; it goes with the call.
pub(super) struct Route {
    shared: Arc<Shared>,
    pub(super) key: RouteKey,
    pub(super) dialog_ids: Vec<DialogId>,
}

impl Route {
    pub(super) fn new(shared: &Arc<Shared>, id: DialogId) -> (Self, mpsc::Receiver<Box<Transaction>>) {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let key = (id.call_id.clone(), id.local_tag.clone());
        shared.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), requests);
        (Self { shared: shared.clone(), key, dialog_ids: vec![id] }, receiver)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        for id in &self.dialog_ids {
            self.shared.layer.remove_dialog(id);
        }
    }
}

/// Answers a request that needs nothing more in a task of its own, which stays until an INVITE's ACK.
pub(super) fn respond(shared: &Shared, mut transaction: Transaction, status: StatusCode, headers: Vec<Header>) {
    shared.spawn(async move {
        if let Err(error) = transaction.reply_with(status, headers, None).await {
            // The stack's words quote the message, with the numbers in it.
            warn!(method = %transaction.original.method, "a SIP request could not be answered: its headers are broken");
            debug!(%error, "a request could not be answered");
        }
        drain(transaction).await;
    });
}

/// The body of the ACK of an answered INVITE; `None` when it stayed away for 64·T1.
pub(super) async fn await_ack(transaction: &mut Transaction) -> Option<Vec<u8>> {
    loop {
        match transaction.receive().await? {
            rsip::SipMessage::Request(ack) if ack.method == Method::Ack => return Some(ack.body),
            _ => {}
        }
    }
}

/// Drives an INVITE server transaction that has its final response until the stack says that it is over.
///
/// Dropped before, it would not retransmit the response when that is lost.
pub(super) async fn drain(mut transaction: Transaction) {
    if transaction.original.method == Method::Invite
        && transaction.last_response.as_ref().is_some_and(|last| last.status_code.kind() != StatusCodeKind::Provisional)
    {
        while !transaction.is_terminated() && transaction.receive().await.is_some() {}
    }
}
