//! SIPp as a child process (Debian's sip-tester), playing a scenario of `tests/sipp`.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// Nothing in a test may take longer; a hang is a failure with a name.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(Duration::from_secs(25), future).await;
    within.unwrap_or_else(|_| panic!("{what} did not happen within 25 s"))
}

/// A port for SIPp, which cannot take port 0. The kernel does not give a port that was just free to the next who asks.
pub fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port()
}

/// A SIPp child process for one call, killed when dropped.
pub struct Sipp {
    child: Child,
    port: u16,
}

impl Sipp {
    /// Starts SIPp on a port of loopback.
    pub fn start(port: u16, arguments: &[&str]) -> Self {
        let child = Command::new("sipp")
            .args(["-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin", "-timeout", "20s", "-timeout_error"])
            .args(["-m", "1", "-s", "620"])
            .args(arguments)
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sipp does not run: apt-get install sip-tester");
        Self { child, port }
    }

    /// Waits for a request and plays a scenario.
    pub fn serve(scenario: &str) -> Self {
        Self::serve_on(free_port(), scenario)
    }

    /// The same on a port that was chosen before.
    pub fn serve_on(port: u16, scenario: &str) -> Self {
        Self::start(port, &["-sf", path_of(scenario).to_str().expect("a UTF-8 path")])
    }

    /// Waits for a call and plays a scenario in which some words are replaced.
    pub fn serve_filled(scenario: &str, name: &str, replaced: &[(&str, &str)]) -> Self {
        let mut text = std::fs::read_to_string(path_of(scenario)).unwrap();
        for (from, to) in replaced {
            text = text.replace(from, to);
        }
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{scenario}_{name}.xml"));
        std::fs::write(&file, text).unwrap();
        Self::start(free_port(), &["-sf", file.to_str().expect("a UTF-8 path")])
    }

    /// Calls `peer` and plays a scenario.
    pub fn call(scenario: &str, peer: SocketAddr) -> Self {
        Self::start(free_port(), &["-sf", path_of(scenario).to_str().expect("a UTF-8 path"), &peer.to_string()])
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Waits for the scenario to end well.
    pub async fn succeeds(self) {
        let output = soon("the end of sipp", self.child.wait_with_output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "sipp: {}\n{said}\n{screen}", output.status);
    }
}

fn path_of(scenario: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(scenario).with_extension("xml")
}
