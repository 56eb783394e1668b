//! The service: builds what all calls share, takes calls as they come, tells systemd that it lives, reads its configuration again when it is
//! told to, and ends in order: it lets calls finish, and takes no new ones meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::call::{self, GreetingDesk, Mailbox, Parts};
use crate::chat;
use crate::config::{Config, SecretError, Trunk};
use crate::context::SourcesError;
use crate::gemini::SetupError;
use crate::hearing::EndOfTurn;
use crate::http::HttpError;
use crate::limits::{Day, DayError};
use crate::media::{MediaCounters, MediaThread, realtime};
use crate::playout::SharedForecast;
use crate::playout::clips::ClipError;
use crate::recogniser;
use crate::record::{self, CallRecord, CallsFile, Ledger};
use crate::sip::{
    InboundUsers, InboundUsersError, IncomingCall, RefusedCall, SipError, TrunkOptions, UserAgent, UserAgentOptions,
};
use crate::status::{Metrics, Readings, StatusError, StatusPage};
use crate::timeline::TurnReport;
use crate::tools::ToolError;
use crate::tts;
use crate::voicemail::{Poster, PosterError, Store, StoreError};

mod answering;
mod reload;
mod supervisor;

use answering::Answering;
pub(crate) use answering::voice_key;
pub use reload::ReloadError;
use supervisor::{Supervisor, feed_watchdog};

/// Reports of turns that may wait to be written.
const REPORTS: usize = 256;
/// Records of calls that may wait to be written.
const RECORDS: usize = 256;
/// Calls without a place that may wait to be recorded.
const REFUSALS: usize = 32;
/// How often one of them is recorded at most: a flood of calls is counted, not written down.
const REFUSAL: Duration = Duration::from_millis(50);
/// How often what a call that ended by a fault left on the media thread is freed.
const REAP: Duration = Duration::from_secs(1);
/// How long calls may go on when the service is to end and they are let finish. The unit's TimeoutStopSec is longer by what their
/// farewells take.
pub const DRAIN: Duration = Duration::from_secs(110);
/// How long calls have to say goodbye when the service ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// The SIP user agent ended by itself.
#[derive(Debug, Error)]
#[error("the SIP user agent ended: no call can come any more")]
pub struct AgentEnded;

/// Why the service cannot start. Each is one part that is missing or set wrongly, and its message says which and what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// A clip is missing or cannot be played.
    #[error(transparent)]
    Clips(#[from] ClipError),
    /// The voice does not speak.
    #[error(transparent)]
    Voice(#[from] tts::Fault),
    /// The API key or a trunk's password cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// HTTPS cannot be had.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The section `[gemini]` is wrong.
    #[error(transparent)]
    Gemini(#[from] SetupError),
    /// The section `[chat]` is wrong.
    #[error(transparent)]
    Chat(#[from] chat::SetupError),
    /// The section `[crm]` is wrong.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// The section `[recogniser]` is wrong.
    #[error(transparent)]
    Recogniser(#[from] recogniser::SetupError),
    /// A function that the model may have done is wrong.
    #[error(transparent)]
    Tools(#[from] ToolError),
    /// Messages cannot be kept.
    #[error(transparent)]
    Voicemail(#[from] StoreError),
    /// Nobody can be told of messages.
    #[error(transparent)]
    Webhook(#[from] PosterError),
    /// What the day has cost is not known.
    #[error(transparent)]
    Day(#[from] DayError),
    /// No media thread.
    #[error("the media thread cannot be started: {0}")]
    Media(std::io::Error),
    /// The file of users who may call cannot be read.
    #[error("{path}: {source}; sip.inbound_users_file needs a file that the service may read")]
    InboundUsersFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of users who may call is wrong.
    #[error("{path}: {source}")]
    InboundUsers {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        source: InboundUsersError,
    },
    /// The port of `[status]` cannot be opened.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The SIP port cannot be opened.
    #[error(transparent)]
    Sip(#[from] SipError),
}

/// The running service.
pub struct Daemon {
    parts: Arc<Parts>,
    agent: Arc<UserAgent>,
    incoming: mpsc::Receiver<IncomingCall>,
    reports: mpsc::Receiver<TurnReport>,
    records: mpsc::Receiver<CallRecord>,
    refusals: mpsc::Receiver<RefusedCall>,
    poster: Option<Poster>,
    status: Option<StatusPage>,
    store: Option<Arc<Store>>,
    file: Option<PathBuf>,
    orders: Orders,
    stop: CancellationToken,
}

/// What a running service is told.
#[derive(Clone, Default)]
struct Orders {
    reload: Arc<Notify>,
    drain: CancellationToken,
}

impl Daemon {
    /// Checks everything that can be checked before the first call, and opens the SIP port.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, None).await
    }

    /// The same with a model that judges whether a caller has finished.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_with(config: Config, end_of_turn: Option<Arc<dyn EndOfTurn>>) -> Result<Self, StartError> {
        let language = config.conversation.language;
        let store = config.voicemail.enabled.then(|| Store::open(&config.voicemail)).transpose()?.map(Arc::new);
        let answering = Answering::build(&config, store.clone(), None).await?;
        let greeting_desk = GreetingDesk::of(&config)?.map(Arc::new);
        let saved = Arc::new(Notify::new());
        let poster = match &store {
            Some(store) => Poster::new(&config.voicemail, store.clone(), saved.clone(), &answering.http)?,
            None => None,
        };
        let day = Day::open(config.limits.state_file.as_deref())?;
        let media = MediaThread::start(config.sip.max_calls).map_err(StartError::Media)?;
        if !media.counters().realtime.load(Relaxed) {
            warn!(
                "the media thread has no real-time priority: under load calls may stutter; \
                 grant it with LimitRTPRIO=60 in the unit, or `ulimit -r 60` in the shell"
            );
        }
        media.counters().locked.store(realtime::lock_memory(), Relaxed);
        if !media.counters().locked.load(Relaxed) {
            warn!(
                "memory is not locked: under pressure calls may stutter; \
                 grant it with LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited` in the shell"
            );
        }
        let status = match config.status.listen {
            Some(address) => Some(StatusPage::bind(address).await?),
            None => None,
        };
        let (refusal_in, refusal_out) = mpsc::channel(REFUSALS);
        let (agent, incoming) = UserAgent::start(UserAgentOptions {
            public_address: config.sip.public_address,
            allowed_peers: config.sip.allowed_peers.clone(),
            silent_to_strangers: config.sip.silent_to_strangers,
            inbound_users: config.sip.inbound_users_file.as_deref().map(inbound_users).transpose()?,
            trunks: trunks(&config)?,
            max_calls: config.sip.max_calls,
            max_calls_per_second: config.sip.max_calls_per_second,
            listen_tcp: config.sip.listen_tcp,
            listen_tls: config.sip.listen_tls,
            tls_certificate_file: config.sip.tls_certificate_file.clone(),
            tls_key_file: config.sip.tls_key_file.clone(),
            max_connections: config.sip.max_connections,
            refusals: Some(refusal_in),
            ..UserAgentOptions::new(config.sip.listen)
        })
        .await?;
        // Everywhere stays everywhere: media leave from where the route to each peer does, also when that changes.
        let bind_address: IpAddr = config.sip.listen.ip();
        let (report_in, report_out) = mpsc::channel(REPORTS);
        let (ledger, record_out) = Ledger::new(RECORDS, config.log.calls_file_numbers);
        info!(sip = %agent.local_addr(), calls = config.sip.max_calls, language = language.code(), "ready");
        let parts = Parts {
            media_address: agent.advertised_addr().ip(),
            bind_address,
            config,
            clips: answering.clips,
            greeting_desk,
            speech: answering.speech,
            speech_loudness: answering.speech_loudness,
            model: answering.model,
            voice: answering.voice,
            sources: answering.sources,
            tools: answering.tools,
            recogniser: answering.recogniser,
            voicemail: store.clone().map(|store| Arc::new(Mailbox::new(store, saved))),
            day,
            media: Arc::new(media),
            forecast: SharedForecast::default(),
            end_of_turn,
            reports: report_in,
            records: ledger,
        };
        Ok(Self {
            parts: Arc::new(parts),
            agent: Arc::new(agent),
            incoming,
            poster,
            status,
            reports: report_out,
            records: record_out,
            refusals: refusal_out,
            store,
            file: None,
            orders: Orders::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Where SIP is answered.
    pub fn sip_address(&self) -> SocketAddr {
        self.agent.local_addr()
    }

    /// What its calls share, for a call that no signalling brings.
    pub fn parts(&self) -> Arc<Parts> {
        self.parts.clone()
    }

    /// Where SIP is answered over TLS.
    pub fn sip_tls_address(&self) -> Option<SocketAddr> {
        self.agent.tls_addr()
    }

    /// Where the state is told over HTTP.
    pub fn status_address(&self) -> Option<SocketAddr> {
        self.status.as_ref().map(StatusPage::address)
    }

    /// What is counted on the media thread: how many calls it serves, whether it is on time.
    pub fn media_counters(&self) -> Arc<MediaCounters> {
        self.parts.media.counters().clone()
    }

    /// The end of this ends the service.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The file that the configuration is read from again on SIGHUP.
    #[must_use]
    pub fn reload_from(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }

    /// Takes calls until SIGTERM, which lets calls finish for [`DRAIN`], or SIGINT, which hangs up; so does a second SIGTERM. SIGHUP reads
    /// the configuration again.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_until_signal(self) -> Result<(), AgentEnded> {
        let heard = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        match heard {
            [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] => {
                let (stop, orders) = (self.stop.clone(), self.orders.clone());
                tokio::spawn(async move {
                    loop {
                        tokio::select! {
                            _ = terminate.recv() => match orders.drain.is_cancelled() {
                                false => orders.drain.cancel(),
                                true => stop.cancel(),
                            },
                            _ = interrupt.recv() => stop.cancel(),
                            _ = hangup.recv() => orders.reload.notify_one(),
                        }
                    }
                });
            }
            _ => warn!("signals are not heard; end the service with SIGKILL"),
        }
        self.serve(|_| {}).await
    }

    /// Takes calls until the [stopper](Self::stopper) is cancelled; `each` sees the report of each turn.
    ///
    /// # Errors
    /// When no calls can come any more, though nobody asked for the end.
    pub async fn serve(self, mut each: impl FnMut(&TurnReport) + Send + 'static) -> Result<(), AgentEnded> {
        let Self {
            mut parts,
            agent,
            mut incoming,
            reports,
            records,
            refusals,
            poster,
            status,
            store,
            file,
            orders,
            stop,
        } = self;
        let metrics = Arc::new(Metrics::new(Readings {
            media: parts.media.counters().clone(),
            agent: Arc::downgrade(&agent),
            records_dropped: parts.records.dropped(),
        }));
        let of_turns = metrics.clone();
        let each = move |turn: &TurnReport| {
            of_turns.turn(turn);
            each(turn);
        };
        let poster = poster.map(|poster| tokio::spawn(poster.run()));
        let writer = tokio::spawn(write_reports(reports, parts.config.log.timeline_file.clone(), each));
        let keeper = tokio::spawn(record::write(records, calls_file(&parts.config), {
            let metrics = metrics.clone();
            move |call: &CallRecord| metrics.call(call)
        }));
        if let Some(status) = status {
            tokio::spawn(status.serve(metrics, stop.child_token()));
        }
        let refusals = tokio::spawn(record_refusals(parts.records.clone(), refusals));
        let mut clips = tokio::spawn(parts.clips.clone().watch(parts.config.clone()));
        let watchdog = tokio::spawn(feed_watchdog(parts.media.counters().clone()));
        let mut supervisor = Supervisor::default();
        supervisor.ready(&agent);
        let mut calls = JoinSet::new();
        let mut reload: Option<JoinHandle<_>> = None;
        let mut reap = tokio::time::interval(REAP);
        let mut last_call: Option<tokio::time::Instant> = None;
        while last_call.is_none() || !calls.is_empty() || agent.calls() > 0 {
            let drained = async { tokio::time::sleep_until(last_call.unwrap_or_else(tokio::time::Instant::now)).await };
            tokio::select! {
                _ = reap.tick() => {
                    parts.media.reap();
                    supervisor.say(&agent);
                }
                call = incoming.recv() => match call {
                    Some(call) => { calls.spawn(call::run(parts.clone(), agent.clone(), call, stop.child_token())); }
                    None => {
                        error!("{AgentEnded}");
                        break;
                    }
                },
                Some(ended) = calls.join_next() => if let Err(error) = ended {
                    // The call's parts were dropped with it: its BYE is sent, its ports are free.
                    error!(%error, "a call ended by a fault of ours");
                },
                () = orders.reload.notified(), if reload.is_none() && last_call.is_none() => {
                    if let Some(file) = file.clone() {
                        supervisor.reloading();
                        let (running, store) = (parts.clone(), store.clone());
                        reload = Some(tokio::spawn(async move { reload::read(&file, &running, store).await }));
                    }
                }
                outcome = async { reload.as_mut().expect("asked only while there is one").await }, if reload.is_some() => {
                    reload = None;
                    let (next, remark) = taken_up(outcome);
                    if let Some(next) = next {
                        parts = Arc::new(next);
                        clips.abort();
                        clips = tokio::spawn(parts.clips.clone().watch(parts.config.clone()));
                    }
                    supervisor.reloaded(&agent, remark);
                }
                () = orders.drain.cancelled(), if last_call.is_none() => {
                    info!(calls = agent.calls(), "stopping: calls may finish, new ones are refused; another SIGTERM hangs up");
                    last_call = Some(tokio::time::Instant::now() + DRAIN);
                    agent.withdraw();
                    supervisor.stopping(&agent);
                }
                () = drained, if last_call.is_some() => {
                    warn!(calls = agent.calls(), "calls have not finished in time and are hung up");
                    break;
                }
                () = stop.cancelled() => break,
            }
        }
        let ended = if stop.is_cancelled() || last_call.is_some() { Ok(()) } else { Err(AgentEnded) };
        if last_call.is_none() {
            supervisor.stopping(&agent);
        }
        stop.cancel();
        // The trunks take their leave while calls say goodbye: whoever is killed meanwhile must not stay registered.
        let farewell = tokio::time::timeout(FAREWELL, async { while calls.join_next().await.is_some() {} });
        let _ = tokio::join!(farewell, agent.shutdown());
        calls.shutdown().await;
        if let Some(poster) = poster {
            poster.abort();
        }
        for task in [watchdog, refusals, clips] {
            task.abort();
            let _ = task.await;
        }
        if let Some(reload) = reload {
            reload.abort();
            let _ = reload.await;
        }
        drop(parts);
        let _ = tokio::time::timeout(FAREWELL, async { tokio::join!(writer, keeper) }).await;
        ended
    }
}

/// What a reload came to: what the next calls share, and what an administrator should know.
fn taken_up(
    outcome: Result<Result<(Parts, Vec<&'static str>), ReloadError>, JoinError>,
) -> (Option<Parts>, Option<String>) {
    match outcome {
        Ok(Ok((parts, waiting))) if waiting.is_empty() => {
            info!("the configuration was read again and holds for the next calls");
            (Some(parts), None)
        }
        Ok(Ok((parts, waiting))) => {
            let waiting = waiting.join(", ");
            warn!(
                "the configuration was read again; what changed in {waiting} holds after `systemctl restart offhook`"
            );
            (Some(parts), Some(format!("{waiting} changed: restart to use it")))
        }
        Ok(Err(error)) => {
            error!("the new configuration is not used, the old one goes on: {error}");
            (None, Some("the new configuration was refused: see the log".to_owned()))
        }
        Err(error) => {
            error!(%error, "the new configuration is not used, the old one goes on: reading it failed by a fault of ours");
            (None, Some("the new configuration was refused: see the log".to_owned()))
        }
    }
}

fn inbound_users(path: &Path) -> Result<InboundUsers, StartError> {
    let path = path.to_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) => InboundUsers::parse(&text).map_err(|source| StartError::InboundUsers { path, source }),
        Err(source) => Err(StartError::InboundUsersFile { path, source }),
    }
}

/// The trunks of the configuration with their passwords.
fn trunks(config: &Config) -> Result<Vec<TrunkOptions>, SecretError> {
    let with_password = |(name, trunk): (&String, &Trunk)| {
        let password = trunk.password(name)?;
        Ok(TrunkOptions { name: name.clone(), config: trunk.clone(), password })
    };
    config.trunk.iter().map(with_password).collect()
}

fn calls_file(config: &Config) -> Option<CallsFile> {
    let bytes_max = u64::from(config.log.calls_file_mb) * 1_000_000;
    Some(CallsFile::new(config.log.calls_file.clone()?, bytes_max))
}

/// Records the calls for which there was no room.
async fn record_refusals(records: Ledger, mut refusals: mpsc::Receiver<RefusedCall>) {
    while let Some(refused) = refusals.recv().await {
        call::record_refused(&records, &refused);
        tokio::time::sleep(REFUSAL).await;
    }
}

/// Appends one JSON object a turn to the timeline file, and shows each to `each`.
async fn write_reports(
    mut reports: mpsc::Receiver<TurnReport>,
    file: Option<PathBuf>,
    mut each: impl FnMut(&TurnReport),
) {
    while let Some(report) = reports.recv().await {
        each(&report);
        if let Some(path) = &file
            && let Err(error) = append(path, &report).await
        {
            warn!(path = %path.display(), %error, "a turn's timeline was not written: [log] timeline_file");
        }
    }
}

async fn append(path: &Path, report: &TurnReport) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
    file.write_all(&line).await?;
    file.flush().await
}
