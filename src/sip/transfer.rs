//! Hands a call to somebody else: REFER with its reports (RFC 3515, 3892, 5589), blind or with Replaces (RFC 3891), both ways.
//!
//! [`Referral`] is the machine of a REFER that we send; a task beside the call's drives it. With success our side of the call gets
//! its BYE at the last report: some providers keep both parties waiting for it. Not implemented: REFER outside a dialog, refreshing
//! the subscription, and leaving it out (RFC 4488), which is only understood when the other side does it.

use std::fmt;
use std::time::{Duration, Instant};

use rsipstack::rsip::{Header, Headers, Method};
use tokio::sync::{mpsc, oneshot};

use super::call::OwnRequest;
use super::dialog::{Command, Dialog, DialogEvent};
use super::{ByeReason, SipError};

/// The first report has to come within so long of the acceptance; otherwise there will be none.
const FIRST_REPORT: Duration = Duration::from_secs(30);
/// Somebody who has not answered by then will not.
const LAST_REPORT: Duration = Duration::from_secs(180);
/// Between "it has worked" and "that was the last report".
const SETTLE: Duration = Duration::from_secs(1);
/// Reports that may wait to be looked at.
const QUEUE: usize = 8;

/// What becomes of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferEvent {
    /// The other side will try.
    Accepted,
    /// The SIP status that it has so far of the one who is called: 100, 180 …
    Progress(u16),
    /// The call is in other hands, and ours is being hung up.
    Succeeded,
    /// It did not come about: the status that the other side had. The call goes on.
    Failed(u16),
    /// The other side does not do this: the status that it refused with, or none when it stays silent. The call goes on.
    Unsupported(Option<u16>),
}

impl TransferEvent {
    /// Whether nothing more comes.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Unsupported(_))
    }
}

/// A report about a REFER, as a NOTIFY brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The `id` of the Event header: the CSeq of the REFER.
    pub(super) id: Option<u32>,
    pub(super) terminated: bool,
    /// The status line of the sipfrag, if there is one.
    pub(super) status: Option<u16>,
}

impl Report {
    /// Reads a NOTIFY; `None` when it is about something else.
    pub(super) fn read(headers: &Headers, body: &[u8]) -> Option<Self> {
        let mut event = None;
        let mut terminated = false;
        for header in headers.iter() {
            let name = header.name();
            if name.eq_ignore_ascii_case("Event") || name.eq_ignore_ascii_case("o") {
                event = Some(header.value());
            } else if name.eq_ignore_ascii_case("Subscription-State") {
                let state = header.value().split(';').next().unwrap_or_default();
                terminated = state.trim().eq_ignore_ascii_case("terminated");
            }
        }
        let mut event = event?.split(';').map(str::trim);
        if !event.next()?.eq_ignore_ascii_case("refer") {
            return None;
        }
        let id = event.find_map(|parameter| parameter.strip_prefix("id=")?.trim().parse().ok());
        let line = std::str::from_utf8(body).ok().and_then(|text| text.trim_start().lines().next()).unwrap_or_default();
        let status = line.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
        Some(Self { id, terminated, status: status.filter(|status| (100..700).contains(status)) })
    }
}

/// A REFER of ours, from its sending to its last report.
#[derive(Debug)]
pub(super) struct Referral {
    state: State,
    deadline: Option<Instant>,
    /// The CSeq of the REFER, once it is known.
    sequence: Option<u32>,
    status: Option<u16>,
    events: std::collections::VecDeque<TransferEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Accepted,
    Over,
}

impl Referral {
    pub(super) fn new() -> Self {
        Self {
            state: State::Sent,
            deadline: None,
            sequence: None,
            status: None,
            events: std::collections::VecDeque::new(),
        }
    }

    /// What is to be told.
    pub(super) fn poll(&mut self) -> Option<TransferEvent> {
        self.events.pop_front()
    }

    /// When [`Referral::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The final response to the REFER, and its CSeq. `reports` is false when the other side will send none (RFC 4488).
    pub(super) fn handle_response(&mut self, now: Instant, code: u16, sequence: u32, reports: bool) {
        if self.state != State::Sent {
            return;
        }
        self.sequence = Some(sequence);
        match code {
            200..300 => {
                self.state = State::Accepted;
                self.events.push_front(TransferEvent::Accepted);
                if !reports {
                    self.over(TransferEvent::Succeeded);
                } else if self.deadline.is_none() {
                    self.deadline = Some(now + FIRST_REPORT);
                }
            }
            _ => self.over(TransferEvent::Unsupported(Some(code))),
        }
    }

    /// A NOTIFY that came within the dialog. False: it belongs to no REFER of ours and gets 481.
    pub(super) fn handle_report(&mut self, now: Instant, report: &Report) -> bool {
        let ours = match (report.id, self.sequence) {
            (Some(id), Some(sequence)) => id == sequence,
            // Before the response its CSeq is not known; without an id there is only this one.
            _ => true,
        };
        if self.state == State::Over || !ours {
            return false;
        }
        self.status = report.status.or(self.status);
        let status = self.status.unwrap_or(100);
        match (report.terminated, status) {
            (true, 200..300) => self.over(TransferEvent::Succeeded),
            (true, _) => self.over(TransferEvent::Failed(status)),
            (false, 200..300) => self.deadline = Some(now + SETTLE),
            (false, 300..) => self.over(TransferEvent::Failed(status)),
            (false, _) => {
                self.deadline = Some(now + LAST_REPORT);
                self.events.push_back(TransferEvent::Progress(status));
            }
        }
        true
    }

    /// The call has ended meanwhile: who hangs up after agreeing has done it.
    pub(super) fn handle_end(&mut self) {
        match self.state {
            State::Accepted => self.over(TransferEvent::Succeeded),
            State::Sent => self.over(TransferEvent::Failed(487)),
            State::Over => {}
        }
    }

    /// The deadline has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        match self.status {
            Some(200..300) => self.over(TransferEvent::Succeeded),
            Some(_) => self.over(TransferEvent::Failed(408)),
            None => self.over(TransferEvent::Unsupported(None)),
        }
    }

    fn over(&mut self, event: TransferEvent) {
        self.state = State::Over;
        self.deadline = None;
        self.events.push_back(event);
    }
}

/// A transfer in progress. Dropping it leaves it to itself; success still ends the call.
#[derive(Debug)]
pub struct Transfer {
    events: mpsc::Receiver<TransferEvent>,
}

impl Transfer {
    /// What happens next; `None` after the last event.
    pub async fn event(&mut self) -> Option<TransferEvent> {
        self.events.recv().await
    }

    /// Waits for the outcome.
    pub async fn outcome(&mut self) -> TransferEvent {
        loop {
            match self.event().await {
                Some(event) if event.is_last() => return event,
                Some(_) => {}
                None => return TransferEvent::Failed(487),
            }
        }
    }
}

/// A NOTIFY within a call, for whoever knows what it is about; the answer says whether it is (200 or 481).
#[derive(Debug)]
pub(super) struct Notified {
    pub(super) report: Report,
    pub(super) known: oneshot::Sender<bool>,
}

impl Dialog {
    /// Asks the peer to call `to` (a SIP URI) and to leave us: a blind transfer, or with `replaces`, the value that
    /// [`Dialog::identity`] gives of another dialog, one in which it takes our place there. `referred_by` is a URI of ours.
    ///
    /// The call goes on until the transfer has succeeded, and is then hung up by us.
    pub fn transfer(&self, to: &str, replaces: Option<&str>, referred_by: Option<&str>) -> Transfer {
        let (events_in, events) = mpsc::channel(QUEUE);
        let (notified_in, notified) = mpsc::channel(QUEUE);
        let mut headers = vec![Header::ReferTo(refer_to(to, replaces).into())];
        if let Some(uri) = referred_by {
            headers.push(Header::ReferredBy(format!("<{uri}>").into()));
        }
        let (done, response) = oneshot::channel();
        let refer = OwnRequest { method: Method::Refer, headers, body: vec![] };
        let asked = self.control.commands.try_send(Command::Notifications(notified_in)).is_ok()
            && self.control.commands.try_send(Command::Request(refer, done)).is_ok();
        if asked {
            let commands = self.control.commands.downgrade();
            tokio::spawn(drive(commands, response, notified, events_in));
        } else {
            let _ = events_in.try_send(TransferEvent::Unsupported(None));
        }
        Transfer { events }
    }

    /// This dialog as a Replaces header names it to our peer's peer (RFC 3891 §6.1).
    ///
    /// # Errors
    /// [`SipError::Ended`] when the call is over.
    pub async fn identity(&self) -> Result<String, SipError> {
        self.control.ask(Command::Identity).await
    }
}

async fn drive(
    commands: mpsc::WeakSender<Command>,
    response: oneshot::Receiver<Result<super::dialog::OwnResponse, SipError>>,
    mut notified: mpsc::Receiver<Notified>,
    events: mpsc::Sender<TransferEvent>,
) {
    let mut machine = Referral::new();
    let mut response = Some(response);
    loop {
        while let Some(event) = machine.poll() {
            if event == TransferEvent::Succeeded
                && let Some(commands) = commands.upgrade()
            {
                let _ = commands.send(Command::HangUp(ByeReason::Normal)).await;
            }
            // Nobody need look.
            let _ = events.try_send(event);
            if event.is_last() {
                return;
            }
        }
        let deadline = machine.poll_timeout();
        tokio::select! {
            biased;
            response = answered(&mut response) => {
                let now = Instant::now();
                match response {
                    Some(Ok(response)) => {
                        let silent = response.headers.iter().any(|header| {
                            header.name().eq_ignore_ascii_case("Refer-Sub")
                                && header.value().trim().eq_ignore_ascii_case("false")
                        });
                        machine.handle_response(now, response.code, response.sequence, !silent);
                    }
                    Some(Err(_)) | None => machine.handle_end(),
                }
            }
            report = notified.recv() => match report {
                Some(Notified { report, known }) => {
                    let _ = known.send(machine.handle_report(Instant::now(), &report));
                }
                None => machine.handle_end(),
            },
            () = until(deadline) => machine.handle_timeout(Instant::now()),
        }
    }
}

/// The response, once; `None` when the call is over before it.
async fn answered<T>(response: &mut Option<oneshot::Receiver<T>>) -> Option<T> {
    match response {
        Some(receiver) => {
            let said = receiver.await.ok();
            *response = None;
            said
        }
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The value of Refer-To; the Replaces header goes into the URI with escapes (RFC 3891 §6.1, RFC 3261 §19.1.1).
fn refer_to(to: &str, replaces: Option<&str>) -> String {
    let to = to.trim_matches(['<', '>', '\r', '\n']);
    match replaces {
        None => format!("<{to}>"),
        Some(replaces) => {
            let escaped: String = replaces.bytes().map(escape).collect();
            format!("<{to}?Replaces={escaped}>")
        }
    }
}

fn escape(byte: u8) -> String {
    match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

/// The peer asks us to call somebody in its place; dropping it refuses with 603.
pub struct Referred {
    /// The URI to call, without the headers in it.
    pub to: String,
    /// The Replaces header that the new INVITE has to carry.
    pub replaces: Option<String>,
    /// Who asks, as the Referred-By header says.
    pub referred_by: Option<String>,
    pub(super) sequence: u32,
    pub(super) accept: oneshot::Sender<bool>,
    pub(super) commands: mpsc::WeakSender<Command>,
}

impl fmt::Debug for Referred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Referred").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Referred {
    /// Accepts with 202 and reports 100 Trying; further reports are up to the caller.
    pub fn accept(self) -> ReferReports {
        let _ = self.accept.send(true);
        let reports = ReferReports { sequence: self.sequence, commands: self.commands };
        reports.report(100, "Trying");
        reports
    }
}

/// Tells the one who has sent a REFER how the call to the other one goes.
#[derive(Debug)]
pub struct ReferReports {
    sequence: u32,
    commands: mpsc::WeakSender<Command>,
}

impl ReferReports {
    /// Sends a NOTIFY with this status; a final status is the last report.
    pub fn report(&self, code: u16, reason: &str) {
        let Some(commands) = self.commands.upgrade() else { return };
        let state = if code < 200 { "active;expires=180" } else { "terminated;reason=noresource" };
        let headers = vec![
            Header::Other("Event".into(), format!("refer;id={}", self.sequence)),
            Header::Other("Subscription-State".into(), state.to_owned()),
            Header::ContentType("message/sipfrag;version=2.0".into()),
        ];
        let body = format!("SIP/2.0 {code} {reason}\r\n").into_bytes();
        let (done, _) = oneshot::channel();
        // A call with so much to do is lost anyway; the subscription ends with it.
        let _ = commands.try_send(Command::Request(OwnRequest { method: Method::Notify, headers, body }, done));
    }
}

/// Reads Refer-To: the URI, and the Replaces header in it.
pub(super) fn read_refer_to(value: &str) -> Option<(String, Option<String>)> {
    let uri = match value.find('<') {
        Some(open) => value[open + 1..].split_once('>')?.0,
        None => value.split(';').next()?,
    };
    let (uri, headers) = uri.split_once('?').unwrap_or((uri, ""));
    super::attempts::host_of(uri)?;
    let replaces = headers.split('&').find_map(|header| {
        let (name, value) = header.split_once('=')?;
        name.eq_ignore_ascii_case("Replaces").then(|| super::nameaddr::percent_decode(value))
    });
    // What would become a header line must not become two.
    let replaces = replaces.filter(|value| !value.contains(['\r', '\n']));
    Some((uri.trim().to_owned(), replaces))
}

impl Referred {
    /// The event that tells of it.
    pub(super) fn event(self) -> DialogEvent {
        DialogEvent::Refer(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: Option<u32>, terminated: bool, status: u16) -> Report {
        Report { id, terminated, status: Some(status) }
    }

    fn events(machine: &mut Referral) -> Vec<TransferEvent> {
        std::iter::from_fn(|| machine.poll()).collect()
    }

    /// A REFER with CSeq 7 that was accepted.
    fn accepted(now: Instant) -> Referral {
        let mut machine = Referral::new();
        machine.handle_response(now, 202, 7, true);
        assert_eq!(events(&mut machine), [TransferEvent::Accepted]);
        machine
    }

    #[test]
    fn the_last_report_of_a_success_ends_it() {
        let now = Instant::now();
        let mut machine = accepted(now);
        assert!(machine.handle_report(now, &report(None, false, 100)));
        assert!(machine.handle_report(now, &report(Some(7), false, 180)));
        assert!(machine.handle_report(now, &report(Some(7), true, 200)));
        let all = [TransferEvent::Progress(100), TransferEvent::Progress(180), TransferEvent::Succeeded];
        assert_eq!(events(&mut machine), all);
        assert!(!machine.handle_report(now, &report(Some(7), true, 200)), "nothing is subscribed to any more");
    }

    #[test]
    fn a_report_may_overtake_the_acceptance() {
        let now = Instant::now();
        let mut machine = Referral::new();
        assert!(machine.handle_report(now, &report(Some(7), false, 100)));
        machine.handle_response(now, 202, 7, true);
        assert_eq!(events(&mut machine), [TransferEvent::Accepted, TransferEvent::Progress(100)]);
    }

    #[test]
    fn a_failure_leaves_the_call_and_tells_the_status() {
        let now = Instant::now();
        let mut machine = accepted(now);
        machine.handle_report(now, &report(Some(7), true, 486));
        assert_eq!(events(&mut machine), [TransferEvent::Failed(486)]);
    }

    #[test]
    fn a_report_about_another_refer_is_none_of_ours() {
        let now = Instant::now();
        let mut machine = accepted(now);
        assert!(!machine.handle_report(now, &report(Some(8), true, 200)));
        assert_eq!(events(&mut machine), []);
    }

    #[test]
    fn who_does_not_know_refer_or_never_reports_does_not_support_it() {
        let now = Instant::now();
        for code in [403, 405, 501] {
            let mut machine = Referral::new();
            machine.handle_response(now, code, 7, true);
            assert_eq!(events(&mut machine), [TransferEvent::Unsupported(Some(code))]);
        }
        let mut machine = accepted(now);
        machine.handle_timeout(now + FIRST_REPORT - Duration::from_millis(1));
        assert_eq!(events(&mut machine), []);
        machine.handle_timeout(now + FIRST_REPORT);
        assert_eq!(events(&mut machine), [TransferEvent::Unsupported(None)]);
    }

    #[test]
    fn a_success_that_is_not_the_last_report_is_waited_out_for_a_second() {
        let now = Instant::now();
        let mut machine = accepted(now);
        machine.handle_report(now, &report(Some(7), false, 200));
        assert_eq!(machine.poll_timeout(), Some(now + SETTLE));
        machine.handle_timeout(now + SETTLE);
        assert_eq!(events(&mut machine), [TransferEvent::Succeeded]);
    }

    #[test]
    fn without_reports_the_acceptance_is_all_there_is() {
        let mut machine = Referral::new();
        machine.handle_response(Instant::now(), 202, 7, false);
        assert_eq!(events(&mut machine), [TransferEvent::Accepted, TransferEvent::Succeeded]);
    }

    #[test]
    fn a_peer_that_hangs_up_after_agreeing_has_done_it() {
        let now = Instant::now();
        let mut machine = accepted(now);
        machine.handle_end();
        assert_eq!(events(&mut machine), [TransferEvent::Succeeded]);
        let mut machine = Referral::new();
        machine.handle_end();
        assert_eq!(events(&mut machine), [TransferEvent::Failed(487)]);
    }

    #[test]
    fn reports_are_read_in_every_shape_and_others_are_left() {
        let read = |event: &str, state: &str, body: &str| {
            let headers: Headers = vec![
                Header::Other("Event".into(), event.into()),
                Header::Other("Subscription-State".into(), state.into()),
            ]
            .into();
            Report::read(&headers, body.as_bytes())
        };
        let full = read("refer;id=93809824", "terminated;reason=noresource", "SIP/2.0 200 OK\r\n");
        assert_eq!(full, Some(report(Some(93_809_824), true, 200)));
        let lean = read("Refer", "active;expires=60", "\r\nSIP/2.0 100");
        assert_eq!(lean, Some(report(None, false, 100)));
        let empty = read("refer", "TERMINATED", "");
        assert_eq!(empty, Some(Report { id: None, terminated: true, status: None }));
        assert_eq!(read("refer", "active", "SIP/2.0 999 Odd").unwrap().status, None);
        assert_eq!(read("message-summary", "active", ""), None);
        assert_eq!(Report::read(&Headers::from(vec![]), b""), None);
    }

    #[test]
    fn replaces_goes_into_refer_to_with_escapes_and_comes_out_again() {
        let replaces = "a@b;to-tag=1;from-tag=2";
        let value = refer_to("sip:620@h;transport=tcp", Some(replaces));
        assert_eq!(value, "<sip:620@h;transport=tcp?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>");
        assert_eq!(read_refer_to(&value), Some(("sip:620@h;transport=tcp".into(), Some(replaces.into()))));
        assert_eq!(read_refer_to("sip:1@h;x=y"), Some(("sip:1@h".into(), None)));
        assert_eq!(read_refer_to("<sip:1@h?Replaces=a%0D%0AX:1>"), Some(("sip:1@h".into(), None)));
        for none in ["", "<sip:1@h", "<tel:+1>", "<https://h>"] {
            assert_eq!(read_refer_to(none), None, "{none}");
        }
    }
}
