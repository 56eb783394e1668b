//! One hop: where a message goes, over what, and under which name.

use std::fmt;
use std::net::SocketAddr;

pub use crate::config::Transport;

/// Where a request is sent: one of the servers that a name stands for (RFC 3263).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// What carries it.
    pub transport: Transport,
    /// The name that was looked up, before SRV: what a TLS certificate must show (RFC 5922). An address when there was no name.
    pub name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        write!(f, "{transport} {} ({})", self.address, self.name)
    }
}
