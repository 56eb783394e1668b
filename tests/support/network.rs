//! Networks of a test's own: namespaces without a name that belong to processes which end with this one, so that nothing is left of them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::service;

/// A child process that is killed when dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command, remedy: &str) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{:?} does not run ({error}): {remedy}", command.get_program())))
    }

    /// Waits for the first line that it prints.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network of its own, for as long as it lives.
pub struct Network {
    holder: Running,
    /// Whether it has users of its own too, among whom we are root.
    users: bool,
}

impl Network {
    /// As the root that we are, else as one among users of our own. `set_up` is a shell's text.
    pub fn new(set_up: &str) -> Self {
        let hold = |users: bool| {
            let mut unshare = Command::new("unshare");
            if users {
                unshare.args(["--user", "--map-root-user"]);
            }
            unshare.arg("--net");
            Self::hold(unshare, users, set_up)
        };
        let as_root = match hold(false) {
            Ok(network) => return network,
            Err(said) => said,
        };
        hold(true).unwrap_or_else(|among_users| {
            panic!(
                "no network namespace with a veth pair is to be had.\n\
                 As root: {as_root}In a user namespace: {among_users}\
                 It takes `ip` (apt-get install iproute2), and CAP_SYS_ADMIN and CAP_NET_ADMIN or user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1)"
            )
        })
    }

    /// Another network beside this one, with the same users.
    #[allow(dead_code)]
    pub fn beside(&self, set_up: &str) -> Self {
        let mut unshare = self.command("unshare");
        unshare.arg("--net");
        Self::hold(unshare, self.users, set_up).unwrap_or_else(|said| panic!("no second network namespace: {said}"))
    }

    fn hold(mut unshare: Command, users: bool, set_up: &str) -> Result<Self, String> {
        unshare.args(["sh", "-c", &format!("ip link set lo up && {set_up} && echo up && exec cat")]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = Running::start(&mut unshare, "apt-get install util-linux");
        if holder.first_line() == "up\n" {
            return Ok(Self { holder, users });
        }
        let mut said = String::new();
        holder.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        Err(said)
    }

    /// The process that holds it.
    #[allow(dead_code)]
    pub fn pid(&self) -> u32 {
        self.holder.0.id()
    }

    /// A command that runs in it.
    pub fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.holder.0.id().to_string(), "--net"]);
        if self.users {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        nsenter.arg("--").arg(program).stdin(Stdio::null());
        service::clean(&mut nsenter);
        nsenter
    }

    /// Runs a shell's text in it, which must succeed.
    #[allow(dead_code)]
    pub fn sh(&self, text: &str) {
        let output = self.command("sh").args(["-ec", text]).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
