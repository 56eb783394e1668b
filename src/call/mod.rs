//! One call: answers or places it, wires what hears, decides, asks, speaks and measures, and frees everything at its end.
//!
//! The only module that knows all others. It decides nothing about turns (that is [`crate::conversation`]) and nothing that has to be
//! quick (that is the media thread): it carries out what the conversation commands, and tells it what happened.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::clips::Library;
use crate::config::Config;
use crate::context::{Briefing, Sources};
use crate::conversation::{Generation, Outcome, Seq};
use crate::gemini::live::{SpeechDialogue, Told};
use crate::hearing::{EndOfTurn, Hint};
use crate::leg::buffering::Buffering;
use crate::leg::quality::{LineQuality, Side};
use crate::limits::Day;
use crate::media::{Join, Keys, LineCounters, MediaThread, Ports};
use crate::model::{self, LanguageModel};
use crate::playout::SharedForecast;
use crate::privacy::redact_number;
use crate::recogniser::{Recogniser, Recognition};
use crate::record::{Cause, Draft, EndedBy, Kind, Ledger};
use crate::sdp;
use crate::sentence::Piece;
use crate::sip::{ByeReason, Dialog, DialogEvent, EndReason, IncomingCall, Rejection, UserAgent};
use crate::timeline::TurnReport;
use crate::tools::{Control, Toolbox};
use crate::tts::{self, Loudness, Synthesizer};

mod answer;
mod bridge;
mod briefing;
mod dialogue;
mod echo;
mod ending;
mod greeting;
mod incoming;
mod keypad;
mod listening;
mod local;
mod mailbox;
mod media;
mod open;
mod outgoing;
pub mod prompt;
mod recordings;
mod speaker;
mod speech;
mod succession;
mod tally;
mod transfer;

use bridge::Near;
use dialogue::Dialogue;
pub use ending::record_refused;
pub use greeting::GreetingDesk;
pub use local::{Local, LocalEnd, talk};
pub use mailbox::Mailbox;
use media::{StartedLeg, StartedMedia};
pub use outgoing::place;
use succession::{Origin, Succession, Successor};
use tally::Tally;
use transfer::Handover;

/// Reports from a call's tasks that may wait for it.
const WORK: usize = 256;

/// How often, and how many times, a call that has ended looks whether the media thread has handed it back.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 500;

/// What all calls share.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// Greetings, placeholders, apologies.
    pub clips: Arc<Library>,
    /// Where the greeting is recorded by telephone.
    pub greeting_desk: Option<Arc<GreetingDesk>>,
    /// How quick the answers of all calls have been.
    pub forecast: SharedForecast,
    /// Judges whether a caller has finished, besides silence.
    pub end_of_turn: Option<Arc<dyn EndOfTurn>>,
    /// Turns the caller's words into text, besides the model that can be given the sound.
    pub recogniser: Option<Arc<dyn Recogniser>>,
    /// A model that hears and speaks by itself, which is asked before the one that writes.
    pub speech: Option<Arc<dyn SpeechDialogue>>,
    /// How loud that model's voice is by itself, as far as it was heard.
    pub speech_loudness: Loudness,
    /// The language model.
    pub model: Arc<dyn LanguageModel>,
    /// The voice.
    pub voice: Arc<dyn Synthesizer>,
    /// Where callers and questions are looked up.
    pub sources: Arc<Sources>,
    /// What the model may have done.
    pub tools: Arc<Toolbox>,
    /// Messages that callers leave.
    pub voicemail: Option<Arc<Mailbox>>,
    /// What the day has cost.
    pub day: Day,
    /// The media thread.
    pub media: Arc<MediaThread>,
    /// The address that SDP offers media on.
    pub media_address: IpAddr,
    /// The address that media sockets are bound to.
    pub bind_address: IpAddr,
    /// Where the report of each turn goes. A full channel loses the report.
    pub reports: mpsc::Sender<TurnReport>,
    /// Where the record of each call goes.
    pub records: Ledger,
}

/// What a call's own tasks tell it.
pub(crate) enum Work {
    Judged { hint: Hint },
    Recognised(Recognition),
    GeminiMark { generation: Generation, mark: model::Mark, at: Instant },
    Token { generation: Generation },
    Clause { generation: Generation, at: Instant, piece: Piece },
    Controlled { generation: Generation, control: Control },
    ToolsRun { generation: Generation },
    ToolsDone { generation: Generation },
    Press { keys: Keys },
    Aside { generation: Generation, piece: Piece },
    Used { usage: model::Usage },
    Told(Told),
    ErrandsDone { generation: Generation, results: Vec<model::FunctionResult> },
    AnswerEnded { generation: Generation, outcome: Outcome, fault: Option<model::Fault> },
    PhraseStarted { generation: Generation, at: Instant },
    PhraseSounds { generation: Generation, at: Instant },
    PhraseSpoken { generation: Generation, seq: Seq, voiced: u32 },
    PhraseFailed { generation: Generation, seq: Seq, fault: tts::Fault },
}

/// Takes a call from its INVITE to its end. `stop` hangs up.
pub async fn run(parts: Arc<Parts>, agent: Arc<UserAgent>, incoming: IncomingCall, stop: CancellationToken) {
    let span = info_span!("call", id = %incoming.id);
    async {
        info!(peer = %incoming.peer, caller = redact_number(&incoming.caller.user), "rings");
        let mut draft = ending::draft_of(&parts, &incoming);
        if parts.config.sip.echo_number.as_deref() == Some(incoming.called.as_str()) {
            draft.record().kind = Kind::Echo;
            match incoming::answer(&parts, incoming, &stop).await {
                Ok(up) => echo::echo(&parts, up, &mut draft, stop).await,
                Err(error) => not_answered(&mut draft, &error),
            }
            return;
        }
        if let Some(desk) = parts.greeting_desk.as_ref().filter(|desk| desk.is_for(&incoming.called)) {
            greeting::take(&parts, desk, incoming, &mut draft, stop).await;
            return;
        }
        warm(&parts);
        let briefing = Briefing::begin(&parts.sources, &incoming.caller, Instant::now());
        let caller = incoming.caller.user.as_str().into();
        let origin = Origin { trunk: incoming.trunk.clone(), peer: incoming.peer.ip(), caller };
        match incoming::answer(&parts, incoming, &stop).await {
            Ok(up) => {
                converse(&parts, agent, origin, up, briefing, &mut draft, stop).await;
            }
            Err(error) => not_answered(&mut draft, &error),
        }
    }
    .instrument(span)
    .await;
}

fn not_answered(draft: &mut Draft, error: &Unanswered) {
    warn!(%error, "not answered");
    ending::unanswered(draft, error);
}

/// Why a call did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The far side's SDP cannot be agreed to.
    #[error("the far side's SDP: {0}")]
    Sdp(#[from] sdp::SdpError),
    /// No ports.
    #[error("no free port pair in [rtp] port_min..port_max: {0}")]
    Ports(std::io::Error),
    /// Too many calls have just ended.
    #[error("the media thread has not let go of the calls before; one that comes a moment later has room")]
    NoRoom,
    /// No descriptor.
    #[error("no event descriptor: {0}")]
    Wake(std::io::Error),
    /// Signalling says no, or is over.
    #[error("SIP: {0}")]
    Sip(#[from] crate::sip::SipError),
    /// It ended before there were media.
    #[error("the call was over before its media were agreed on: {0}")]
    Ended(EndReason),
}

impl Unanswered {
    /// What a caller is told of it.
    fn rejection(&self) -> Rejection {
        match self {
            Self::NoRoom => Rejection::Busy,
            _ => Rejection::ServiceUnavailable,
        }
    }
}

/// A call that is answered, and its media.
struct Up {
    dialog: Dialog,
    media: StartedMedia,
    since: Instant,
}

/// While it rings, the connection to Gemini is made and the voice is woken.
fn warm(parts: &Arc<Parts>) {
    let parts = parts.clone();
    tokio::spawn(
        async move {
            let (model, voice) = tokio::join!(parts.model.warm(), parts.voice.warm(parts.config.conversation.language));
            if let Err(fault) = model {
                warn!(%fault, "the model does not answer");
            }
            if let Err(fault) = voice {
                warn!(%fault, "the voice does not speak");
            }
        }
        .in_current_span(),
    );
}

/// A conversation over media that are up, and who speaks in it.
struct Talk {
    dialogue: Dialogue,
    /// What its tasks tell.
    work: mpsc::Receiver<Work>,
    speaker: AbortOnDrop,
}

impl Talk {
    fn begin(parts: &Arc<Parts>, id: String, caller: String, briefing: Briefing, mut ports: Ports) -> Self {
        let (work_in, work) = mpsc::channel(WORK);
        let (phrases_in, phrases_out) = mpsc::channel(dialogue::PHRASES);
        let speech = ports.take_speech().expect("a new call's speech ring has not been taken");
        let speaker = tokio::spawn(speaker::speak(parts.voice.clone(), phrases_out, speech, work_in.clone()));
        let dialogue = Dialogue::new(parts.clone(), id, caller, briefing, ports, phrases_in, work_in);
        Self { dialogue, work, speaker: AbortOnDrop(speaker) }
    }
}

/// Holds the conversation of an answered call, to its end.
async fn converse(
    parts: &Arc<Parts>,
    agent: Arc<UserAgent>,
    origin: Origin,
    up: Up,
    briefing: Briefing,
    draft: &mut Draft,
    stop: CancellationToken,
) -> EndReason {
    draft.answered(up.since);
    let Up { mut dialog, media: StartedMedia { ports, rtcp, mut agreement }, since } = up;
    let counters = ports.counters().clone();
    let over = CancellationToken::new();
    let mut rtcp_over = over.clone().drop_guard();
    let mut line = tokio::spawn(rtcp.run(over));
    let (id, caller) = (dialog.id().to_owned(), origin.caller.to_string());
    let Talk { mut dialogue, mut work, speaker } = Talk::begin(parts, id, caller, briefing, ports);
    if let Some(agreed) = agreement.agreed() {
        dialogue.described(Instant::now(), &agreed);
    }
    dialogue.answered(Instant::now());
    let succeeding = stop.child_token();
    let _succeeding = succeeding.clone().drop_guard();
    let (succession, mut successors) = Succession::new(parts.clone(), agent.clone(), origin.clone(), succeeding);
    // Why we hang up, when it is we who do.
    let ended: Result<EndReason, ByeReason> = loop {
        let deadline = dialogue.poll_timeout();
        tokio::select! {
            woken = dialogue.woken() => match woken {
                Ok(()) => if dialogue.take_events() {
                    info!("no media arrives: hanging up");
                    break Err(ByeReason::MediaTimeout);
                },
                Err(error) => {
                    warn!(%error, "lost the media thread");
                    break Err(ByeReason::Failure);
                }
            },
            Some(work) = work.recv() => dialogue.work(work),
            () = until(deadline) => dialogue.handle_timeout(Instant::now()),
            event = dialog.event() => match event {
                DialogEvent::Refer(referred) => succession.referred(referred),
                DialogEvent::Replaced(incoming) => succession.replaced(*incoming),
                DialogEvent::Ended(reason) => break Ok(reason),
                DialogEvent::Offer(offer) => if let Some(agreed) = agreement.reoffered(offer) {
                    dialogue.described(Instant::now(), &agreed);
                },
                DialogEvent::Acknowledged { sdp } if !sdp.is_empty() => if let Some(agreed) = agreement.answered(&sdp) {
                    dialogue.described(Instant::now(), &agreed);
                },
                DialogEvent::Acknowledged { .. } => debug!("acknowledged"),
                DialogEvent::Dtmf { digit, .. } => dialogue.key_by_signalling(digit),
            },
            Some(successor) = successors.recv() => {
                let Successor { dialog: next, leg, agreed, patience } = *successor;
                let StartedLeg { leg, rtcp, agreement: next_agreement } = leg;
                if dialogue.ports().join(Join::Successor(leg)).is_err() {
                    warn!("the call was taken over too often: it goes on as it was");
                    continue;
                }
                info!(id = next.id(), "goes on over another call");
                succession::leave(std::mem::replace(&mut dialog, next), patience);
                agreement = next_agreement;
                let over = CancellationToken::new();
                rtcp_over = over.clone().drop_guard();
                line = tokio::spawn(rtcp.run(over));
                dialogue.described(Instant::now(), &agreed);
            }
            () = stop.cancelled() => break Err(ByeReason::Normal),
        }
        if let Some(why) = dialogue.take_hang_up() {
            info!(?why, "hangs up");
            draft.ended(EndedBy::Us, ending::cause_of(why));
            break Err(ByeReason::Normal);
        }
        if let Some(to) = dialogue.take_transfer() {
            info!("hands the caller over");
            draft.record().transfers += 1;
            let trunk = origin.trunk.as_deref().map(str::to_owned);
            let way = trunk.as_ref().and_then(|name| parts.config.trunk.get(name)).map(|trunk| trunk.transfer);
            let handover = Handover { to: to.to_string(), trunk, way: way.unwrap_or_default() };
            let (dialog, agreement, stop) = (&mut dialog, &mut agreement, &stop);
            let mut near = Near { dialog, ports: dialogue.ports(), agreement, stop, peer: origin.peer };
            if let Some(over) = transfer::hand_over(parts, &agent, handover, &mut near).await {
                if over == Err(ByeReason::Normal) {
                    draft.ended(EndedBy::Us, Cause::Transferred);
                }
                break over;
            }
            // The hold may have come and gone meanwhile.
            if let Some(agreed) = agreement.agreed() {
                dialogue.described(Instant::now(), &agreed);
            }
            dialogue.transfer_failed(Instant::now());
        }
    };
    ending::ended(draft, &ended);
    let freed = async {
        dialogue.hung_up(Instant::now()).await;
        drop((speaker, rtcp_over));
        let dialogue = &mut dialogue;
        await_freed(parts, move || dialogue.is_freed()).await;
    };
    let reason = end(&mut dialog, ended, freed).await;
    let quality = line.await.unwrap_or_default().quality;
    log_line(quality, &counters);
    ending::line(draft, &quality, &counters, &agreement);
    let tally = dialogue.tally();
    ending::tally(draft, tally);
    log_tally(&reason, since, tally);
    reason
}

/// Ends a call that the other side has ended, or that we end for this reason, and frees what belongs to it.
async fn end(dialog: &mut Dialog, ended: Result<EndReason, ByeReason>, freed: impl Future<Output = ()>) -> EndReason {
    match ended {
        Ok(reason) => {
            freed.await;
            reason
        }
        // A peer that is gone leaves the BYE unanswered for half a minute; nothing else of the call lasts so long.
        Err(why) => tokio::join!(dialog.hang_up_because(why), freed).0,
    }
}

/// Waits, not for ever, until the media thread has handed a call back that it was told to let go of.
async fn await_freed(parts: &Parts, mut is_freed: impl FnMut() -> bool) {
    // It does so in the moment after the call's last event.
    for _ in 0..LOOKS {
        parts.media.reap();
        if is_freed() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the turns of a call were, and what they cost.
fn log_tally(reason: &dyn std::fmt::Debug, since: Instant, tally: &Tally) {
    info!(
        ?reason,
        seconds = since.elapsed().as_secs_f32(),
        turns = tally.turns,
        requests = tally.requests,
        requests_wasted = tally.wasted,
        prompt_tokens = tally.usage.prompt,
        audio_tokens = tally.usage.audio,
        cached_tokens = tally.usage.cached,
        answer_tokens = tally.usage.answer,
        thought_tokens = tally.usage.thoughts,
        price = tally.price(),
        speculative = tally.speculative,
        "ended"
    );
}

/// What the line was worth, and what the media thread counted.
fn log_line(quality: LineQuality, counters: &LineCounters) {
    let percent = |side: Option<Side>| side.map(|side| side.loss * 100.0);
    let jitter = |side: Option<Side>| side.map(|side| side.jitter.as_secs_f32() * 1e3);
    let opinion = |side: Option<Side>| side.map(|side| side.opinion);
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    let buffer = |of: fn(&Buffering) -> Duration| quality.buffering.as_ref().map(|did| of(did).as_secs_f32() * 1e3);
    info!(
        frames = read(&counters.ticks),
        heard_loss_percent = percent(quality.heard),
        heard_jitter_ms = jitter(quality.heard),
        heard_mos = opinion(quality.heard),
        said_loss_percent = percent(quality.said),
        said_jitter_ms = jitter(quality.said),
        said_mos = opinion(quality.said),
        round_trip_ms = quality.round_trip.map(|trip| trip.as_secs_f32() * 1e3),
        buffer_delay_ms = buffer(|did| did.delay),
        buffer_target_ms = buffer(|did| did.target),
        buffer_stretched_ms = buffer(|did| did.stretched_by),
        buffer_shortened_ms = buffer(|did| did.shortened_by),
        skipped = read(&counters.skipped),
        concealed = read(&counters.concealed),
        underruns = read(&counters.underruns),
        overruns = read(&counters.event_overruns)
            + read(&counters.heard_overruns)
            + read(&counters.command_overruns)
            + read(&counters.key_overruns),
        "the line"
    );
}

/// Ends at `deadline`; never without one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// A task that ends with its call.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
