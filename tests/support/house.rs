//! A whole appliance in this process, with the simulator behind it and the test phone before it. All that it says are tones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offhook::config::{Config, Language};
use offhook::daemon::Daemon;
use offhook::hearing::EndOfTurn;
use offhook::media::MediaCounters;
use offhook::pcm::{FRAME_SAMPLES, RATE, wav};
use offhook::phone::mouth::{Sent, Turn, Utterance};
use offhook::phone::report::CallReport;
use offhook::phone::{CallOptions, PhoneError, known_clips, place};
use offhook::playout::clips::Clips;
use offhook::simulator::{self, Simulator};
use offhook::timeline::TurnReport;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[path = "tones.rs"]
mod tones;
pub use tones::{Sound, stretches};
use tones::{Stretch, tones};
#[allow(unused_imports)]
pub use tones::{sound_of, tones as tone_config};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One call as its caller heard it.
pub struct Call {
    pub report: CallReport,
    /// What was heard, in its order.
    pub heard: Vec<Stretch>,
    /// Both sides, by turns a sample of the caller's and one of the box's.
    pub recording: Vec<i16>,
}

impl Call {
    pub fn sounds(&self) -> Vec<Sound> {
        self.heard.iter().map(|stretch| stretch.sound).collect()
    }
}

/// The appliance and what stands around it.
pub struct House {
    pub simulator: Simulator,
    pub address: SocketAddr,
    /// The same over TLS.
    pub tls: Option<SocketAddr>,
    /// Where the state is told.
    pub status: Option<SocketAddr>,
    pub media: Arc<MediaCounters>,
    clips: Clips,
    reports: Arc<Mutex<Vec<TurnReport>>>,
    stop: CancellationToken,
    service: JoinHandle<Result<(), offhook::daemon::AgentEnded>>,
    folder: TempDir,
}

impl House {
    /// Opens it, after `change` has changed what is usual: a model that is no quicker than a placeholder, tones, no greeting, any ports.
    pub async fn open(change: impl FnOnce(&mut Config, &mut simulator::Options)) -> Self {
        Self::open_with(None, change).await
    }

    /// The same with an end-of-turn model.
    pub async fn open_with(
        end_of_turn: Option<Arc<dyn EndOfTurn>>,
        change: impl FnOnce(&mut Config, &mut simulator::Options),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = tones(folder.path());
        config.sip.listen = (LOOPBACK, 0).into();
        (config.rtp.port_min, config.rtp.port_max) = (0, 0);
        config.conversation.greeting = false;
        let mut cloud = simulator::Options {
            first_token: Duration::from_millis(700),
            tokens_per_second: 200.0,
            ..simulator::Options::default()
        };
        change(&mut config, &mut cloud);
        let simulator = Simulator::start(cloud).await.unwrap();
        config.gemini.base_url = simulator.base_url();
        let clips = Clips::open(&config.placeholder, config.voice.level_dbfs).unwrap();
        let daemon = Daemon::start_with(config, end_of_turn).await.unwrap();
        let (address, media, stop) = (daemon.sip_address(), daemon.media_counters(), daemon.stopper());
        let (tls, status) = (daemon.sip_tls_address(), daemon.status_address());
        let reports = Arc::<Mutex<Vec<TurnReport>>>::default();
        let seen = reports.clone();
        let service = tokio::spawn(daemon.serve(move |report| seen.lock().unwrap().push(report.clone())));
        Self { simulator, address, tls, status, media, clips, reports, stop, service, folder }
    }

    pub fn uri(&self) -> String {
        format!("sip:620@{}", self.address)
    }

    /// A call with patience for tones, not for speech.
    pub fn options(&self, utterances: Vec<Utterance>) -> CallOptions {
        let mut options = CallOptions::new(self.uri(), utterances);
        options.clips = known_clips(&self.clips, Language::En);
        options.bind = Some(LOOPBACK);
        options.script.greeting_wait = Duration::from_millis(200);
        options.script.greeting_quiet = Duration::from_millis(300);
        options.script.answer_quiet = Duration::from_millis(600);
        options.script.answer_wait = Duration::from_millis(4000);
        options
    }

    /// Places a call, and listens to it.
    pub async fn call(&self, mut options: CallOptions) -> Result<Call, PhoneError> {
        static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let file = self.folder.path().join(format!("call-{}.wav", CALLS.fetch_add(1, Relaxed)));
        options.record = Some(file.clone());
        let report = soon("the end of a call", place(options)).await?;
        let recording = both_sides(&std::fs::read(file).unwrap());
        let heard = stretches(&recording.chunks_exact(2).map(|both| both[1]).collect::<Vec<_>>());
        Ok(Call { report, heard, recording })
    }

    /// Waits until the media thread serves no call.
    pub async fn is_empty(&self) {
        until("the media thread has let go of every call", || self.media.lines.load(Relaxed) == 0).await;
    }

    /// Ends the service; gives the reports of all turns.
    pub async fn close(self) -> Vec<TurnReport> {
        self.stop.cancel();
        soon("the end of the service", self.service).await.unwrap().unwrap();
        assert_eq!(self.media.lines.load(Relaxed), 0, "calls are left on the media thread");
        std::mem::take(&mut *self.reports.lock().unwrap())
    }
}

/// Nothing may take longer; a hang is a failure with a name.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(40), future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not come within 40 s"))
}

/// Looks again and again until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        while !is_so() {
            every.tick().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), looking).await;
    ended.unwrap_or_else(|_| panic!("within 10 s it did not become true that {what}"));
}

/// The samples of a stereo recording.
fn both_sides(file: &[u8]) -> Vec<i16> {
    let header = wav::header(file).unwrap().unwrap();
    assert_eq!((header.channels, header.rate), (2, RATE));
    file[header.data_at..].chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
}

/// What a caller says, spoken by espeak-ng.
pub fn say(text: &str) -> Utterance {
    Utterance::prepare(&Turn::Say(text.into()), "en-us").unwrap()
}

/// The samples of an utterance from its first to its last voiced frame.
pub fn samples(utterance: &Utterance) -> Vec<i16> {
    let frame = |n| match utterance.at(n) {
        Some(Sent::Sound(frame)) => frame.to_vec(),
        _ => vec![0; FRAME_SAMPLES],
    };
    (utterance.first..=utterance.last).flat_map(frame).collect()
}

/// A range of UDP ports that holds so many free pairs, each an even port and the one above it.
pub fn free_ports(pairs: u16) -> (u16, u16) {
    let mut random = fastrand::Rng::new();
    for _ in 0..100 {
        let first = random.u16(5000..15_000) * 2;
        let all = first..first + 2 * pairs;
        if all.clone().all(|port| std::net::UdpSocket::bind((LOOPBACK, port)).is_ok()) {
            return (first, all.end - 1);
        }
    }
    panic!("no {} free UDP ports in a row", 2 * pairs);
}
