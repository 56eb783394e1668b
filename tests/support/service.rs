//! `offhook run` as a child process, with the simulator in this one behind it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing may take longer; a hang is a failure with a name.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes out of a command's environment what offhook listens to.
pub fn clean(command: &mut Command) {
    for variable in
        ["GEMINI_API_KEY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "OFFHOOK_LOG"]
    {
        command.env_remove(variable);
    }
}

/// Writes a configuration into a folder.
pub fn write_config(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("offhook.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A running service, killed when dropped.
pub struct Service {
    child: Child,
    lines: Receiver<String>,
    /// What it has logged and was looked at.
    pub log: String,
    /// Where it answers SIP.
    pub address: SocketAddr,
}

impl Service {
    /// Starts it, and waits until it says that it is ready.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (line, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut service = Self { child, lines, log: String::new(), address: SocketAddr::from(([0; 4], 0)) };
        let ready = service.logs("ready sip=");
        let address = ready.split("ready sip=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        service.address = address.parse().unwrap();
        service
    }

    /// Waits for a line of the log with this in it.
    pub fn logs(&mut self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log += &line;
                    self.log.push('\n');
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{what:?} was not logged:\n{}", self.log),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without logging {what:?}:\n{}", self.log),
            }
        }
    }

    /// Its process.
    #[allow(dead_code)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as systemd does.
    pub fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end; the log is whole then.
    pub fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log += &line;
                    self.log.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.log),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
