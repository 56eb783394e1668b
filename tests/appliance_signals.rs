//! What systemd orders by signals: to let calls finish, and to read the configuration again; and what it is told of both.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use offhook::codec::Codec;
use offhook::sdp::{self, LocalMedia, MediaSecurity};
use offhook::sip::{EndReason, SipError, UserAgent, UserAgentOptions};

#[path = "support/service.rs"]
#[allow(dead_code)]
mod service;
use service::{Service, write_config};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The service under something that listens as systemd does.
struct Watched {
    service: Service,
    told: UnixDatagram,
    config: PathBuf,
    _folder: tempfile::TempDir,
}

fn config(more: &str) -> String {
    format!("[sip]\nlisten = \"127.0.0.1:0\"\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n{more}")
}

impl Watched {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        told.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let config = write_config(folder.path(), &config("[placeholder]\npreset = \"instant\"\n"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        service::clean(&mut command);
        command.args(["run", "--config"]).arg(&config);
        command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("GEMINI_API_KEY", "key");
        let service = Service::start(command);
        let watched = Self { service, told, config, _folder: folder };
        watched.is_told("READY=1");
        watched
    }

    /// Waits until systemd is told this, and gives the whole message.
    fn is_told(&self, what: &str) -> String {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = self.told.recv(&mut buffer).unwrap_or_else(|_| panic!("{what} is not told, but {before:?}"));
            let said = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if said.contains(what) {
                return said;
            }
            before.push(said);
        }
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.service.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn rewrite(&self, folder: &Path, text: &str) {
        let next = folder.join("next.toml");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.config).unwrap();
        self.signal("HUP");
    }

    fn folder(&self) -> &Path {
        self._folder.path()
    }
}

async fn phone() -> UserAgent {
    UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap().0
}

async fn ring(phone: &UserAgent, watched: &Watched) -> Result<offhook::sip::Dialog, SipError> {
    let media = LocalMedia { address: LOOPBACK, port: 9, session_id: 1, version: 1 };
    let uri = format!("sip:offhook@{}", watched.service.address);
    let mut call = phone.invite(&uri, sdp::make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).await?;
    Ok(call.answered().await?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_a_call_finish_refuses_the_next_and_then_ends_with_0() {
    let mut watched = Watched::start();
    let phone = phone().await;
    let mut dialog = ring(&phone, &watched).await.unwrap();
    assert!(watched.is_told("STATUS=1 call").contains("no trunk"));
    watched.signal("TERM");
    watched.is_told("STOPPING=1");
    assert!(watched.is_told("STATUS=").contains("stopping: 1 call to finish"));
    let refused = ring(&phone, &watched).await;
    assert!(matches!(refused, Err(SipError::Refused { code: 503, .. })), "{:?}", refused.err());
    // Only the caller ends it.
    assert_eq!(dialog.hang_up().await, EndReason::ByUs);
    let (status, log) = tokio::task::spawn_blocking(move || {
        let status = watched.service.ended();
        (status, watched.service.log.clone())
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("ended reason=ByPeer"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_configuration_again_and_leaves_a_call_alone() {
    let mut watched = Watched::start();
    let phone = phone().await;
    let mut dialog = ring(&phone, &watched).await.unwrap();
    watched.rewrite(watched.folder(), &config("[hearing]\nvad_threshold = 0.6\n"));
    assert!(watched.is_told("RELOADING=1").contains("MONOTONIC_USEC="));
    watched.is_told("READY=1");
    watched.service.logs("read again and holds for the next calls");
    assert_eq!(dialog.hang_up().await, EndReason::ByUs, "the reload has not ended it");
    let mut next = ring(&phone, &watched).await.unwrap();
    assert_eq!(next.hang_up().await, EndReason::ByUs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_configuration_is_refused_with_its_line_and_the_old_one_goes_on() {
    let mut watched = Watched::start();
    watched.rewrite(watched.folder(), "[sip]\nlisten = \"127.0.0.1:0\"\n[hearing]\nvad_treshold = 0.6\n");
    let refused = watched.service.logs("the new configuration is not used");
    assert!(
        refused.contains("offhook.toml:4: [hearing] key vad_treshold: unknown; did you mean vad_threshold?"),
        "{refused}"
    );
    watched.is_told("RELOADING=1");
    assert!(watched.is_told("STATUS=").contains("the new configuration was refused"));
    watched.is_told("READY=1");
    let mut dialog = ring(&phone().await, &watched).await.unwrap();
    assert_eq!(dialog.hang_up().await, EndReason::ByUs);

    // What is bound stays bound until the next start, and that is said.
    watched.rewrite(watched.folder(), &config("").replace("[gemini]", "max_calls = 3\n[gemini]"));
    watched.service.logs("what changed in [sip] holds after `systemctl restart offhook`");
    assert!(watched.is_told("STATUS=").contains("[sip] changed: restart to use it"));
}
