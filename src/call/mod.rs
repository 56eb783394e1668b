//! One call: answers it, wires what hears, decides, asks, speaks and measures, and frees everything at its end.
//!
//! The only module that knows all others. It decides nothing about turns (that is [`crate::conversation`]) and nothing that has to be
//! quick (that is the media thread): it carries out what the conversation commands, and tells it what happened.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::codec::Codec;
use crate::config::Config;
use crate::conversation::{Generation, Outcome, Seq};
use crate::gemini::{self, Gemini};
use crate::hearing::{Endpointer, Limits};
use crate::leg::rtcp::RtcpLink;
use crate::leg::rtp::RtpLeg;
use crate::media::{Line, MediaThread, Ports};
use crate::playout::Mixer;
use crate::playout::clips::Clips;
use crate::privacy::redact_number;
use crate::rtp;
use crate::sdp;
use crate::sentence::Piece;
use crate::sip::{Dialog, DialogEvent, EndReason, IncomingCall, Offer, Rejection};
use crate::timeline::TurnReport;
use crate::tts::{self, Synthesizer};

mod answer;
#[allow(dead_code, reason = "for the conversation, which does not hand calls on yet")]
mod bridge;
mod dialogue;
mod recordings;
mod speaker;
#[allow(dead_code, reason = "for the conversation, which does not hand calls on yet")]
mod transfer;

use dialogue::Dialogue;

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
    pub clips: Clips,
    /// The language model.
    pub gemini: Gemini,
    /// The voice.
    pub voice: Arc<dyn Synthesizer>,
    /// The media thread.
    pub media: MediaThread,
    /// The address that SDP offers media on.
    pub media_address: IpAddr,
    /// The address that media sockets are bound to.
    pub bind_address: IpAddr,
    /// Where the report of each turn goes. A full channel loses the report.
    pub reports: mpsc::Sender<TurnReport>,
}

/// What a call's own tasks tell it.
pub(crate) enum Work {
    GeminiMark { generation: Generation, mark: gemini::Mark, at: Instant },
    Token { generation: Generation },
    Clause { generation: Generation, at: Instant, piece: Piece },
    AnswerEnded { generation: Generation, outcome: Outcome, fault: Option<gemini::Fault> },
    PhraseStarted { generation: Generation, at: Instant },
    PhraseSounds { generation: Generation, at: Instant },
    PhraseSpoken { generation: Generation, seq: Seq, frames: u32 },
    PhraseFailed { generation: Generation, seq: Seq, fault: tts::Fault },
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the caller's SDP: {0}")]
    Offer(#[from] sdp::SdpError),
    #[error("no free port pair in [rtp] port_min..port_max: {0}")]
    Ports(std::io::Error),
    #[error("the media thread has no room")]
    NoRoom,
    #[error("no event descriptor: {0}")]
    Wake(std::io::Error),
    #[error("SIP: {0}")]
    Sip(#[from] crate::sip::SipError),
}

/// Takes a call from its INVITE to its end. `stop` hangs up.
pub async fn run(parts: Arc<Parts>, incoming: IncomingCall, stop: CancellationToken) {
    let span = info_span!("call", id = %incoming.id);
    async {
        info!(peer = %incoming.peer, caller = redact_number(&incoming.caller.user), "rings");
        let began = Instant::now();
        match answer_call(&parts, incoming).await {
            Ok(answered) => {
                let counters = answered.ports.counters().clone();
                let reason = converse(&parts, answered, stop).await;
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
                info!(
                    ?reason,
                    seconds = began.elapsed().as_secs_f32(),
                    frames = read(&counters.ticks),
                    skipped = read(&counters.skipped),
                    concealed = read(&counters.concealed),
                    underruns = read(&counters.underruns),
                    overruns = read(&counters.event_overruns)
                        + read(&counters.heard_overruns)
                        + read(&counters.command_overruns),
                    "ended"
                );
            }
            Err(error) => warn!(%error, "not answered"),
        }
    }
    .instrument(span)
    .await;
}

/// A call that is up.
struct Answered {
    dialog: Dialog,
    ports: Ports,
    rtcp: RtcpLink,
    /// Answers a re-INVITE or UPDATE: our side of the media stays as it is.
    local: sdp::LocalMedia,
    codec: Codec,
}

async fn answer_call(parts: &Arc<Parts>, incoming: IncomingCall) -> Result<Answered, Unanswered> {
    incoming.ring();
    warm(parts);
    let offer = match sdp::Offer::parse(&incoming.offer) {
        Ok(offer) => offer,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable);
            return Err(error.into());
        }
    };
    let range = parts.config.rtp.port_min..=parts.config.rtp.port_max;
    let (rtp_socket, rtcp_socket) = match rtp::socket::bind_pair(parts.bind_address, range) {
        Ok(pair) => pair,
        Err(error) => {
            incoming.reject(Rejection::ServiceUnavailable);
            return Err(Unanswered::Ports(error));
        }
    };
    let port = rtp_socket.local_addr().map_err(Unanswered::Ports)?.port();
    let local =
        sdp::LocalMedia { address: parts.media_address, port, session_id: u64::from(fastrand::u32(..)), version: 1 };
    let (answer, negotiated) = match offer.answer(&local) {
        Ok(answered) => answered,
        Err(error) => {
            incoming.reject(Rejection::NotAcceptable);
            return Err(error.into());
        }
    };
    let (leg, figures) =
        RtpLeg::new(rtp_socket, &negotiated, parts.config.rtp.jitter, Instant::now()).map_err(Unanswered::Ports)?;
    let rtcp = RtcpLink::new(rtcp_socket, negotiated.remote_rtcp, figures).map_err(Unanswered::Ports)?;
    let (line, ports) = Line::new(
        Box::new(leg),
        Endpointer::new(Limits::from(&parts.config.hearing)),
        Mixer::new(parts.config.placeholder.grace),
        parts.config.rtp.media_timeout,
    )
    .map_err(Unanswered::Wake)?;
    let dialog = incoming.answer(answer).await?;
    // From the 200 OK on there is media in both directions.
    parts.media.add(Box::new(line)).map_err(|_| Unanswered::NoRoom)?;
    Ok(Answered { dialog, ports, rtcp, local, codec: negotiated.codec })
}

/// While it rings, the connection to Gemini is made and the voice is woken.
fn warm(parts: &Arc<Parts>) {
    let parts = parts.clone();
    tokio::spawn(
        async move {
            let (model, voice) =
                tokio::join!(parts.gemini.warm(), parts.voice.warm(parts.config.conversation.language));
            if let Err(fault) = model {
                warn!(%fault, "Gemini does not answer");
            }
            if let Err(fault) = voice {
                warn!(%fault, "the voice does not speak");
            }
        }
        .in_current_span(),
    );
}

async fn converse(parts: &Arc<Parts>, answered: Answered, stop: CancellationToken) -> EndReason {
    let Answered { mut dialog, mut ports, rtcp, mut local, codec } = answered;
    let (work_in, mut work_out) = mpsc::channel(WORK);
    let over = CancellationToken::new();
    let rtcp_over = over.clone().drop_guard();
    tokio::spawn(rtcp.run(over));
    let (phrases_in, phrases_out) = mpsc::channel(dialogue::PHRASES);
    let speech = ports.take_speech().expect("a new call's speech ring has not been taken");
    let speaker = AbortOnDrop(tokio::spawn(speaker::speak(parts.voice.clone(), phrases_out, speech, work_in.clone())));
    let mut dialogue = Dialogue::new(parts.clone(), dialog.id().to_owned(), ports, phrases_in, work_in);
    dialogue.answered(Instant::now());
    // None when we hang up.
    let ended = loop {
        let deadline = dialogue.poll_timeout();
        tokio::select! {
            woken = dialogue.woken() => match woken {
                Ok(()) => if dialogue.take_events() {
                    info!("no media arrives: hanging up");
                    break None;
                },
                Err(error) => {
                    warn!(%error, "lost the media thread");
                    break None;
                }
            },
            Some(work) = work_out.recv() => dialogue.work(work),
            () = until(deadline) => dialogue.handle_timeout(Instant::now()),
            event = dialog.event() => match event {
                // Dropped, it is declined.
                DialogEvent::Refer(_) => info!("asked to call somebody else: declined"),
                DialogEvent::Ended(reason) => break Some(reason),
                DialogEvent::Offer(offer) => if let Some(described) = renegotiate(offer, &mut local, codec) {
                    dialogue.described(&described);
                },
                DialogEvent::Acknowledged { .. } => debug!("acknowledged"),
                DialogEvent::Dtmf { digit, .. } => debug!(%digit, "a key by INFO"),
            },
            () = stop.cancelled() => break None,
        }
    };
    let freed = async {
        dialogue.hung_up(Instant::now()).await;
        drop((speaker, rtcp_over));
        // The media thread hands the call back in the moment after its last event.
        for _ in 0..LOOKS {
            parts.media.reap();
            if dialogue.is_freed() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match ended {
        Some(reason) => {
            freed.await;
            reason
        }
        // A peer that is gone leaves the BYE unanswered for half a minute; nothing else of the call lasts so long.
        None => tokio::join!(dialog.hang_up(), freed).0,
    }
}

/// Answers an offer within the call with our side of the media as it is; the peer's as it is now.
fn renegotiate(offer: Offer, local: &mut sdp::LocalMedia, codec: Codec) -> Option<sdp::Negotiated> {
    if offer.sdp.is_empty() {
        // Dropped unanswered, it is met with our last SDP.
        debug!("the media is to be offered again");
        return None;
    }
    match answer_again(&offer.sdp, local, codec) {
        Ok((answer, negotiated)) => {
            info!(direction = ?negotiated.direction, "media offered again");
            offer.answer(answer);
            Some(negotiated)
        }
        Err(error) => {
            warn!(%error, "a new offer within the call cannot be met");
            offer.refuse();
            None
        }
    }
}

/// Why an offer within a call is refused.
#[derive(Debug, thiserror::Error)]
enum Unmet {
    #[error(transparent)]
    Sdp(#[from] sdp::SdpError),
    #[error("it prefers {} in a call that goes on in {}", .0.name(), .1.name())]
    Codec(Codec, Codec),
}

/// The answer to an offer within a call, in the version that follows (RFC 3264 §8).
fn answer_again(offer: &[u8], local: &mut sdp::LocalMedia, codec: Codec) -> Result<(Vec<u8>, sdp::Negotiated), Unmet> {
    let next = sdp::LocalMedia { version: local.version + 1, ..*local };
    let (answer, negotiated) = sdp::Offer::parse(offer)?.answer(&next)?;
    if negotiated.codec != codec {
        return Err(Unmet::Codec(negotiated.codec, codec));
    }
    *local = next;
    Ok((answer, negotiated))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_within_a_call_is_answered_in_the_next_version_and_changes_no_codec() {
        let media = |version| sdp::LocalMedia { address: [127, 0, 0, 1].into(), port: 4000, session_id: 7, version };
        let mut local = media(1);
        let offer = sdp::make_offer(&media(1), &[Codec::Pcma, Codec::Pcmu]);
        for version in [2, 3] {
            let (answer, _) = answer_again(&offer, &mut local, Codec::Pcma).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains(&format!(" 7 {version} IN ")), "{answer}");
        }
        let refused = answer_again(&offer, &mut local, Codec::Pcmu).unwrap_err();
        assert_eq!(refused.to_string(), "it prefers PCMA in a call that goes on in PCMU");
        assert_eq!(local, media(3), "a refusal is no description");
    }
}
