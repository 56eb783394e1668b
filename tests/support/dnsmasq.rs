//! A real small DNS server on loopback (Debian: dnsmasq-base), with the records that a test gives it and no others.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

/// A running dnsmasq that knows all of the domain `test`. Dropping it ends it.
pub struct Dnsmasq {
    child: Child,
    pub address: SocketAddr,
}

impl Dnsmasq {
    /// Starts it with records as its command line has them, without the dashes: `host-record=sip1.test,192.0.2.1`.
    pub fn start(records: &[&str]) -> Self {
        // The port may be taken between our look at it and its start.
        (0..5).find_map(|_| Self::on(free_port(), records)).expect("dnsmasq starts (Debian: dnsmasq-base)")
    }

    fn on(port: u16, records: &[&str]) -> Option<Self> {
        let mut command = Command::new("dnsmasq");
        command.args(["--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces"]);
        command.args(["--listen-address=127.0.0.1", "--local=/test/", "--local-ttl=60"]);
        command.arg(format!("--port={port}")).args(records.iter().map(|record| format!("--{record}")));
        let mut child = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(Stdio::piped()).spawn().ok()?;
        let log = BufReader::new(child.stderr.take()?);
        // It says this when its sockets are open.
        if log.lines().map_while(Result::ok).any(|line| line.contains("started")) {
            return Some(Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) });
        }
        let _ = child.wait();
        None
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free for UDP and TCP.
fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}
