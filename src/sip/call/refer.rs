//! REFER and NOTIFY within a call, and INVITEs that want to replace it: to whom they go and how they are answered (RFC 3515, 3891).

use rsipstack::rsip::StatusCode;
use rsipstack::rsip::prelude::HeadersExt;
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::{mpsc, oneshot};

use super::super::Counter;
use super::super::gate::{Door, new_call};
use super::super::replaces::Replaces;
use super::super::shared::respond;
use super::super::transfer::{Notified, Referred, Report, read_refer_to};
use super::{Call, Phase};

impl Call {
    /// Who has sent a REFER looks at its reports; without anybody they get 481.
    pub(super) fn on_notify(&mut self, transaction: Transaction) {
        let report = Report::read(&transaction.original.headers, &transaction.original.body);
        let (known, answer) = oneshot::channel();
        let asked = match (&self.notifications, report) {
            (Some(notifications), Some(report)) => notifications.try_send(Notified { report, known }).is_ok(),
            _ => false,
        };
        if !asked {
            return self.respond(transaction, StatusCode::CallTransactionDoesNotExist, vec![]);
        }
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            let status = match answer.await {
                Ok(true) => StatusCode::OK,
                _ => StatusCode::CallTransactionDoesNotExist,
            };
            respond(&shared, transaction, status, vec![]);
        });
    }

    /// The owner of the call decides.
    pub(super) fn on_refer(&mut self, transaction: Transaction) {
        let request = &transaction.original;
        let value = |name: &str| {
            let mut values = request.headers.iter().filter(|header| header.name().eq_ignore_ascii_case(name));
            values.next().map(|header| header.value().to_owned()).filter(|_| values.next().is_none())
        };
        let Some((to, replaces)) = value("Refer-To").or_else(|| value("r")).and_then(|to| read_refer_to(&to)) else {
            return self.respond(transaction, StatusCode::BadRequest, vec![]);
        };
        if self.phase != Phase::Up || self.hanging_up {
            return self.respond(transaction, StatusCode::Decline, vec![]);
        }
        let (accept, accepted) = oneshot::channel();
        let sequence = request.cseq_header().and_then(|header| header.seq()).unwrap_or_default();
        let referred_by = value("Referred-By").or_else(|| value("b"));
        let commands = self.weak_commands.clone();
        let referred = Referred { to, replaces, referred_by, sequence, accept, commands };
        // Nobody looks, or too much waits: the dropped reply channel refuses.
        let _ = self.events.try_send(referred.event());
        let (shared, contact) = (self.shared.clone(), self.contact_header());
        self.shared.spawn(async move {
            let (status, headers) = match accepted.await {
                Ok(true) => (StatusCode::Accepted, vec![contact]),
                _ => (StatusCode::Decline, vec![]),
            };
            respond(&shared, transaction, status, headers);
        });
    }

    /// An INVITE that wants to take this call's place (RFC 3891 §3); its owner decides.
    pub(super) fn on_replacing(&mut self, transaction: Transaction) {
        let dialog = self.dialog.id();
        let replaces = Replaces::of(&transaction.original.headers).ok().flatten();
        let ours = replaces.filter(|replaces| replaces.from_tag == dialog.remote_tag && self.phase != Phase::Early);
        let refusal = match ours {
            None => Some((Counter::NoDialog, StatusCode::CallTransactionDoesNotExist)),
            Some(_) if self.hanging_up => Some((Counter::NoDialog, StatusCode::Decline)),
            Some(replaces) if replaces.early_only => Some((Counter::Busy, StatusCode::BusyHere)),
            Some(_) => None,
        };
        match refusal {
            Some((why, status)) => self.refuse(transaction, why, status, vec![]),
            None => new_call(&self.shared, transaction, Door::InPlace(&self.events, self.permit.clone())),
        }
    }

    /// The value of a Replaces header for this dialog: the other side compares `to-tag` with its own (RFC 3891 §3).
    pub(super) fn identity(&self) -> String {
        let id = self.dialog.id();
        format!("{};to-tag={};from-tag={}", id.call_id, id.remote_tag, id.local_tag)
    }

    pub(super) fn subscribe(&mut self, notifications: mpsc::Sender<Notified>) {
        self.notifications = Some(notifications);
    }
}
