//! One call of the test phone from INVITE to BYE.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::caller::{Agreed, Caller, Talked};
use super::clips::{ClipRole, KnownClip};
use super::host_time::HostTime;
use super::mouth::Utterance;
use super::report::{CallReport, OwnReport, PacketReport, SentReport};
use super::run::{Outcome, PhoneThread, Wires};
use super::script::ScriptOptions;
use super::turn::{measure, ms_between};
use crate::codec::Codec;
use crate::config::{Language, Policy, Trunk};
use crate::pcm::{RATE, level, wav};
use crate::playout::clips::{Clip, Clips};
use crate::privacy::Secret;
use crate::rtp::socket;
use crate::sdp;
use crate::sip::{
    Dial, OutgoingCall, OutgoingTrunk, Query, Resolver, ResolverOptions, SipError, UserAgent, UserAgentOptions,
};

/// How long the BYE is waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// A call to place.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Who to call, as in `sip:620@192.0.2.10:5060`; on a trunk a number will do.
    pub uri: String,
    /// The trunk to call through.
    pub trunk: Option<Arc<PhoneTrunk>>,
    /// User part of our own address.
    pub from: String,
    /// Local address; `None` takes the one from which the route leaves.
    pub bind: Option<IpAddr>,
    /// Nobody answers for so long: give up.
    pub ring: Duration,
    /// Codecs to offer, most wanted first.
    pub codecs: Vec<Codec>,
    /// Offer no telephone events: keys are pressed as tones.
    pub tone_keys: bool,
    /// Offer SRTP, and nothing else; without it, what the trunk wants. The keys are in the SDP, which UDP does not hide.
    pub srtp: bool,
    /// What the caller says, turn by turn.
    pub utterances: Arc<[Utterance]>,
    /// Clips that the other side may play.
    pub clips: Arc<[KnownClip]>,
    /// The caller's manners. The number of turns in it is that of `utterances`.
    pub script: ScriptOptions,
    /// The far side echoes: what comes back is compared with what was said.
    pub echo: bool,
    /// Where to write a stereo recording: left the caller, right the other side.
    pub record: Option<PathBuf>,
    /// The thread that speaks and hears. Calls that are placed at the same time should share one; `None` starts one for this call.
    pub thread: Option<Arc<PhoneThread>>,
}

impl CallOptions {
    /// Calls `uri` and says `utterances`; everything else by default.
    pub fn new(uri: impl Into<String>, utterances: Vec<Utterance>) -> Self {
        Self {
            uri: uri.into(),
            trunk: None,
            from: "caller".into(),
            bind: None,
            ring: Duration::from_secs(30),
            codecs: Codec::ALL.to_vec(),
            tone_keys: false,
            srtp: false,
            utterances: utterances.into(),
            clips: Arc::new([]),
            script: ScriptOptions::default(),
            echo: false,
            record: None,
            thread: None,
        }
    }
}

/// An offer of ours as a telephone makes it that knows no telephone events.
fn without_events(offer: Vec<u8>) -> Vec<u8> {
    let offer = String::from_utf8_lossy(&offer).into_owned();
    let lines = offer.lines().filter(|line| !line.starts_with("a=rtpmap:101 ") && !line.starts_with("a=fmtp:101 "));
    let lines = lines.map(|line| match line.strip_suffix(" 101") {
        Some(media) if line.starts_with("m=") => media,
        _ => line,
    });
    lines.flat_map(|line| [line, "\r\n"]).collect::<String>().into_bytes()
}

/// A trunk of a configuration, for a call through it.
#[derive(Debug)]
pub struct PhoneTrunk {
    /// Its name there.
    pub name: String,
    /// Its section.
    pub trunk: Trunk,
    /// What challenges are answered with.
    pub password: Option<Secret>,
}

impl PhoneTrunk {
    /// The addresses of its servers, the first one first.
    async fn servers(&self) -> Result<Vec<SocketAddr>, PhoneError> {
        let query = Query::of_trunk(&self.trunk).map_err(|error| PhoneError::Trunk(error.to_string()))?;
        let resolved = Resolver::new(ResolverOptions::default()).targets(&query).await;
        let resolved = resolved.map_err(|error| PhoneError::Trunk(error.to_string()))?;
        Ok(resolved.targets.into_iter().map(|target| target.address).collect())
    }
}

/// Why a call was not completed.
#[derive(Debug, Error)]
pub enum PhoneError {
    /// The URI is none.
    #[error("{0:?} is no SIP URI; write it like sip:620@192.0.2.10:5060")]
    Uri(String),
    /// The host has no address, or no way leads there.
    #[error("{host}: {cause}")]
    Host {
        /// The host of the URI.
        host: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The trunk's servers are not to be found.
    #[error("the trunk: {0}")]
    Trunk(String),
    /// 486 or 600: try again later.
    #[error("the other side is busy: {code} {reason}")]
    Busy {
        /// SIP status.
        code: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// Any other refusal.
    #[error("the other side refused the call: {code} {reason}{}", remedy(*code))]
    Refused {
        /// SIP status.
        code: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// Nobody answered.
    #[error("nobody answered within {} ms; is the service running and reachable over UDP at that address and port?", .after.as_millis())]
    NoAnswer {
        /// How long was waited.
        after: Duration,
    },
    /// The other side's SDP cannot be worked with.
    #[error("the other side's answer: {0}")]
    Sdp(#[from] sdp::SdpError),
    /// Signalling failed.
    #[error(transparent)]
    Sip(SipError),
    /// No socket for the sound, or no thread.
    #[error("no media: {0}")]
    Socket(std::io::Error),
    /// The media thread is gone.
    #[error("the phone's media thread ended without a result; this is a bug")]
    Thread,
    /// The recording cannot be written.
    #[error("{}: {cause}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

fn remedy(code: u16) -> &'static str {
    match code {
        403 => " (is this address among its allowed peers?)",
        404 => " (it does not know this number)",
        408 => " (is the service running and reachable over UDP at that address and port?)",
        488 => " (no codec in common, or SRTP wanted by one side only)",
        _ => "",
    }
}

impl From<SipError> for PhoneError {
    fn from(error: SipError) -> Self {
        match error {
            SipError::Refused { code: code @ (486 | 600), reason } => Self::Busy { code, reason },
            SipError::Refused { code, reason } => Self::Refused { code, reason },
            error => Self::Sip(error),
        }
    }
}

/// The clips of a set in a language that a test phone should know from speech.
pub fn known_clips(set: &Clips, language: Language) -> Arc<[KnownClip]> {
    let known = |clip: &Clip, role| {
        let samples = clip.frames.iter().flatten().copied().take(clip.voiced_samples).collect();
        KnownClip::new(clip.name.clone(), role, samples)
    };
    let placeholders = set.placeholders(language).iter().filter_map(|clip| known(clip, ClipRole::Placeholder));
    placeholders.chain(set.apology(language).and_then(|clip| known(clip, ClipRole::Apology))).collect()
}

/// Places a call, speaks its turns, and measures. Must run within a tokio runtime; the sound has a thread outside of it.
pub async fn place(options: CallOptions) -> Result<CallReport, PhoneError> {
    let remotes = match &options.trunk {
        Some(trunk) => trunk.servers().await?,
        None => resolve(&options.uri).await?,
    };
    let host_error = |cause| PhoneError::Host { host: host_of(&options.uri).unwrap_or_default().0, cause };
    let local = match options.bind {
        Some(local) => local,
        None => socket::route_from(remotes[0].ip()).map_err(host_error)?,
    };
    let mut agent = UserAgentOptions::new(SocketAddr::new(local, 0));
    agent.allowed_peers = remotes.iter().map(|remote| remote.ip().into()).collect();
    agent.max_calls = 1;
    agent.user = options.from.clone();
    if let Some(PhoneTrunk { trunk, .. }) = options.trunk.as_deref() {
        agent.allowed_peers.extend(&trunk.allowed_peers);
    }
    let (agent, _incoming) = UserAgent::start(agent).await?;
    if let Some(PhoneTrunk { name, trunk, password }) = options.trunk.as_deref() {
        let trunk = OutgoingTrunk::new(name.clone(), trunk, password.clone());
        agent.add_trunk(trunk.map_err(|error| PhoneError::Trunk(error.to_string()))?);
    }
    let sockets = socket::bind_pair(local, 0..=0).map_err(PhoneError::Socket)?;
    let port = sockets.0.local_addr().map_err(PhoneError::Socket)?.port();
    let media = sdp::LocalMedia { address: local, port, session_id: u64::from(fastrand::u32(..)), version: 1 };

    let host_before = HostTime::now();
    let invited = Instant::now();
    let security = match options.srtp {
        true => sdp::MediaSecurity::new(Policy::Required, false, true)?,
        false => sdp::MediaSecurity::through(options.trunk.as_deref().map(|trunk| &trunk.trunk))?,
    };
    let offer = sdp::make_offer(&media, &options.codecs, &security);
    let dial = Dial {
        to: options.uri.clone(),
        trunk: options.trunk.as_ref().map(|trunk| trunk.name.clone()),
        offer: if options.tone_keys { without_events(offer) } else { offer },
        ..Dial::default()
    };
    let mut call = agent.dial(dial).await?;
    let report = talk(&options, &security, &mut call, invited, sockets, host_before).await;
    drop(call);
    agent.shutdown().await;
    report
}

async fn talk(
    options: &CallOptions,
    security: &sdp::MediaSecurity,
    call: &mut OutgoingCall,
    invited: Instant,
    sockets: (UdpSocket, UdpSocket),
    host_before: HostTime,
) -> Result<CallReport, PhoneError> {
    let Ok(answered) = tokio::time::timeout(options.ring, call.answered()).await else {
        call.cancel();
        return Err(PhoneError::NoAnswer { after: options.ring });
    };
    let (mut dialog, answer) = answered?;
    let answered = Instant::now();
    let agreed = match sdp::parse_answer(&answer, &options.codecs, security) {
        Ok(agreed) => agreed,
        Err(error) => {
            let _ = tokio::time::timeout(GOODBYE, dialog.hang_up()).await;
            return Err(error.into());
        }
    };
    let sound = Agreed { codec: agreed.codec, events: agreed.telephone_event };
    let caller =
        Caller::new(answered, sound, options.utterances.clone(), options.clips.clone(), options.script.clone());
    let over = Over(Arc::new(AtomicBool::new(false)));
    let wires = Wires::new(sockets, &agreed);
    let thread = match &options.thread {
        Some(thread) => thread.clone(),
        None => Arc::new(PhoneThread::start().map_err(PhoneError::Socket)?),
    };
    let mut outcome = thread.talk(wires, caller, over.0.clone());
    let outcome = tokio::select! {
        outcome = &mut outcome => outcome,
        _ = dialog.ended() => {
            over.0.store(true, Ordering::Relaxed);
            outcome.await
        }
    };
    let _ = tokio::time::timeout(GOODBYE, dialog.hang_up()).await;
    let outcome = outcome.map_err(|_| PhoneError::Thread)?;
    let (outcome, echo) = match options.echo {
        true => tokio::task::spawn_blocking(|| {
            let echo = outcome.talked.echo();
            (outcome, echo)
        })
        .await
        .map_err(|_| PhoneError::Thread)?,
        false => (outcome, None),
    };
    if let Some(path) = &options.record {
        write_recording(path, &outcome)?;
    }
    let steal = HostTime::now().steal_percent_since(host_before);
    Ok(CallReport { echo, ..report(options, invited, &outcome, steal) })
}

/// Ends the talk when the call's future is dropped.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn write_recording(path: &Path, outcome: &Outcome) -> Result<(), PhoneError> {
    let file = wav::write(RATE, 2, &outcome.talked.recording());
    std::fs::write(path, file).map_err(|cause| PhoneError::Record { path: path.to_owned(), cause })
}

fn report(options: &CallOptions, invited: Instant, outcome: &Outcome, host_steal_percent: f64) -> CallReport {
    let talked = &outcome.talked;
    let (spoken, ear) = (&talked.spoken, &talked.ear);
    let first_word = spoken.first().map(|spoken| spoken.started);
    let mut greeting = ear.since(talked.answered);
    greeting.first = greeting.first.filter(|first| first_word.is_none_or(|word| *first < word));
    let greeting_end = ear.last_voiced(talked.answered, first_word);
    let since_answer = |at: Instant| ms_between(talked.answered, at);
    let late = |quantile: f64| talked.late.value_at_quantile(quantile) as f64 / 1000.0;
    CallReport {
        uri: options.uri.clone(),
        answered_ms: ms_between(invited, talked.answered),
        duration_ms: since_answer(talked.ended),
        ended_by: if outcome.hung_up { "caller" } else { "callee" },
        greeting_start_ms: greeting.first.map(since_answer),
        greeting_end_ms: greeting_end.map(since_answer),
        turns: (0..spoken.len())
            .map(|n| measure(n + 1, &spoken[n], spoken.get(n + 1).map(|next| next.started), ear))
            .collect(),
        packets: received(talked),
        sent: sent(talked),
        echo: None,
        own: OwnReport {
            realtime: outcome.realtime,
            sent: talked.sent,
            late_p50_ms: late(0.5),
            late_p99_ms: late(0.99),
            late_max_ms: talked.late.max() as f64 / 1000.0,
            host_steal_percent,
            unusable: talked.unusable,
        },
    }
}

/// What came from the far side.
fn received(talked: &Talked) -> PacketReport {
    let way = talked.told.one_way_ms;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    PacketReport {
        buffer_delay_ms: talked.buffering.map(|buffer| ms(buffer.delay)),
        buffer_target_ms: talked.buffering.map(|buffer| ms(buffer.target)),
        buffer_stretched_ms: talked.buffering.map(|buffer| ms(buffer.stretched_by)),
        buffer_shortened_ms: talked.buffering.map(|buffer| ms(buffer.shortened_by)),
        level_dbfs: level::active_dbfs(talked.ear.samples()),
        one_way_p50_ms: way.map(|way| way.0),
        one_way_p99_ms: way.map(|way| way.1),
        one_way_max_ms: way.map(|way| way.2),
        ..talked.ear.packets().report()
    }
}

/// What went to the far side, and what it says became of it.
fn sent(talked: &Talked) -> SentReport {
    let interval = |quantile: f64| talked.interval.value_at_quantile(quantile) as f64 / 1000.0;
    let told = talked.told.report;
    SentReport {
        packets: talked.sent,
        interval_deviation_p50_ms: interval(0.5),
        interval_deviation_p99_ms: interval(0.99),
        interval_deviation_p999_ms: interval(0.999),
        interval_deviation_max_ms: interval(1.0),
        level_dbfs: level::active_dbfs(&talked.said),
        lost: told.map(|told| told.cumulative_lost),
        jitter_ms: talked.told.jitter.map(|jitter| jitter.as_secs_f64() * 1e3),
        round_trip_ms: talked.told.round_trip.map(|trip| trip.as_secs_f64() * 1e3),
    }
}

/// Host and port of a SIP URI.
fn host_of(uri: &str) -> Option<(String, u16)> {
    let rest = uri.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case("sip:")).and(uri.get(4..))?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let authority = rest.split([';', '?']).next().filter(|authority| !authority.is_empty())?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    Some((host.to_owned(), port.map_or(Some(5060), |port| port.parse().ok())?))
}

async fn resolve(uri: &str) -> Result<Vec<SocketAddr>, PhoneError> {
    let (host, port) = host_of(uri).ok_or_else(|| PhoneError::Uri(uri.to_owned()))?;
    let found = tokio::net::lookup_host((host.as_str(), port)).await;
    let found: Vec<_> = found.map_err(|cause| PhoneError::Host { host: host.clone(), cause })?.collect();
    if found.is_empty() {
        return Err(PhoneError::Host { host, cause: std::io::ErrorKind::NotFound.into() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, Encoder, HouseDecoder};
    use crate::pcm::{Frame, PTIME, SILENCE};
    use crate::phone::clips::Label;
    use crate::phone::ear::{Ear, Packet};

    #[test]
    fn a_uri_has_a_host_and_a_port() {
        assert_eq!(host_of("sip:620@192.0.2.10:5070;transport=udp"), Some(("192.0.2.10".into(), 5070)));
        assert_eq!(host_of("SIP:pbx.example"), Some(("pbx.example".into(), 5060)));
        assert_eq!(host_of("sip:1@[::1]:5062"), Some(("::1".into(), 5062)));
        for bad in ["", "sip:", "tel:+1", "sip:1@host:99999", "sip:1@[::1", "siש", "http://x"] {
            assert_eq!(host_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_built_in_clip_is_known_and_told_from_the_others_and_from_the_greeting() {
        for (language, codec) in
            Language::ALL.into_iter().flat_map(|l| [Codec::Pcmu, Codec::G722].map(|codec| (l, codec)))
        {
            let set = Clips::embedded(-20.0);
            let clips = known_clips(&set, language);
            let start = Instant::now();
            let heard = |sound: &[Frame]| {
                let mut ear = Ear::new(clips.clone(), 0);
                let (mut encoder, mut decoder) = (Encoder::new(Codec::Pcmu), HouseDecoder::new(Codec::Pcmu));
                for (n, frame) in [&[SILENCE; 10], sound, &[SILENCE; 10]].concat().iter().enumerate() {
                    let (mut payload, mut sound) = ([0; 160], SILENCE);
                    encoder.encode(codec, frame, &mut payload);
                    decoder.decode(codec, &payload, &mut sound);
                    let (at, timestamp) = (start + PTIME * n as u32, 160 * n as u32);
                    ear.hear(Packet { at, sequence: n as u16, timestamp, ssrc: 1, sound: &sound });
                }
                ear.finish();
                let voiced = ear.heard().iter().map(|heard| heard.label).filter(|label| *label != Label::Silent);
                voiced.collect::<Vec<_>>()
            };
            for clip in set.placeholders(language).iter().chain(set.apology(language)) {
                let own = clips.iter().position(|known| known.name == clip.name).unwrap();
                let labels = heard(&clip.frames);
                assert!(
                    labels.len() > 10 && labels.iter().all(|label| *label == Label::Clip(own)),
                    "{} {codec:?}",
                    clip.name
                );
            }
            let greeting = heard(&set.greeting(language).unwrap().frames);
            assert!(greeting.iter().all(|label| *label == Label::Speech), "{language:?}");
        }
    }

    #[test]
    fn a_busy_line_is_told_from_a_refusal_with_its_remedy() {
        let refused = |code| PhoneError::from(SipError::Refused { code, reason: "No".into() });
        assert!(matches!(refused(486), PhoneError::Busy { .. }));
        assert!(refused(403).to_string().contains("allowed peers"));
    }
}
