//! Names of servers as an installer writes them: `HOST[:PORT]`, and with the rank that SRV records have (RFC 2782).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// Why a text names no server. It goes on with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServerError {
    /// There is no host in it.
    #[error("{0:?} names no host; write it as in \"sip.example.com\" or \"192.0.2.1:5060\"")]
    Host(String),
    /// An IPv6 address cannot be told from its port.
    #[error("{0:?} is an IPv6 address without brackets; write it as in \"[2001:db8::1]:5060\"")]
    Brackets(String),
    /// The port is none.
    #[error("{0:?} is no port; take 1 to 65535, or leave it out")]
    Port(String),
    /// Something behind a semicolon is not known.
    #[error("{0:?} is not known; a server may have \";priority=N\" and \";weight=N\", each from 0 to 65535")]
    Parameter(String),
    /// It is a URI.
    #[error("{0:?} has more than a host and a port; leave out \"sip:\", the user and \"transport=\"")]
    Uri(String),
}

/// A host, as a name or an address, and a port where one is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name without a dot at its end, or an address without brackets; names in lower case.
    pub host: String,
    /// The port, when it was written.
    pub port: Option<u16>,
}

impl HostPort {
    /// The address, when the host is no name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let text = text.trim();
        if text.contains(['@', '/']) || ["sip:", "sips:"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(ServerError::Uri(text.to_owned()));
        }
        let no_host = || ServerError::Host(text.to_owned());
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(no_host)?;
            let address: Ipv6Addr = host.parse().map_err(|_| no_host())?;
            let port = match rest.strip_prefix(':') {
                Some(digits) => Some(port(digits)?),
                None if rest.is_empty() => None,
                None => return Err(no_host()),
            };
            return Ok(Self { host: address.to_string(), port });
        }
        if text.matches(':').count() > 1 {
            return Err(ServerError::Brackets(text.to_owned()));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, digits)) => (host, Some(port(digits)?)),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host(host) {
            return Err(no_host());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address(), self.port) {
            (Some(address), Some(port)) => SocketAddr::new(address, port).fmt(f),
            (Some(IpAddr::V6(address)), None) => write!(f, "[{address}]"),
            (_, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

/// One server of a trunk, ranked as an SRV record is: lower priorities first, among equals by weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerEntry {
    /// Which server.
    pub server: HostPort,
    /// A server is used when none with a lower number answers.
    pub priority: u16,
    /// Its share among those with the same priority.
    pub weight: u16,
}

impl FromStr for ServerEntry {
    type Err = ServerError;

    /// Reads `HOST[:PORT][;priority=N][;weight=N]`; priority and weight are 0 when they are not given.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        let mut parts = text.split(';').map(str::trim);
        let server = parts.next().unwrap_or_default().parse()?;
        let mut entry = Self { server, priority: 0, weight: 0 };
        for part in parts {
            let unknown = || ServerError::Parameter(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            let place = match name.trim() {
                "priority" => &mut entry.priority,
                "weight" => &mut entry.weight,
                _ => return Err(unknown()),
            };
            *place = value.trim().parse().map_err(|_| unknown())?;
        }
        Ok(entry)
    }
}

fn port(digits: &str) -> Result<u16, ServerError> {
    let port = digits.parse().ok().filter(|port| *port != 0 && !digits.starts_with('+'));
    port.ok_or_else(|| ServerError::Port(digits.to_owned()))
}

/// A name that the DNS can hold (RFC 1123 §2.1; with the underscore that some networks use), or an IPv4 address.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && (!numeric || text.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<(String, u16, u16), ServerError> {
        text.parse().map(|entry: ServerEntry| (entry.server.to_string(), entry.priority, entry.weight))
    }

    #[test]
    fn a_server_has_a_host_and_maybe_a_port_and_a_rank() {
        assert_eq!(entry("Sip.Example.com."), Ok(("sip.example.com".into(), 0, 0)));
        assert_eq!(entry("192.0.2.1:5070;priority=10;weight=60"), Ok(("192.0.2.1:5070".into(), 10, 60)));
        assert_eq!(entry(" pbx ; weight=5 ; priority=1 "), Ok(("pbx".into(), 1, 5)));
        assert_eq!(entry("[2001:DB8::1]"), Ok(("[2001:db8::1]".into(), 0, 0)));
        assert_eq!(entry("[2001:db8::1]:5061;weight=1"), Ok(("[2001:db8::1]:5061".into(), 0, 1)));
    }

    #[test]
    fn what_names_no_server_is_refused_with_its_remedy() {
        for (text, remedy) in [
            ("", "names no host"),
            ("a b", "names no host"),
            ("300.0.2.1", "names no host"),
            ("[192.0.2.1]", "names no host"),
            ("[2001:db8::1]5060", "names no host"),
            ("2001:db8::1", "brackets"),
            ("sip:pbx.example.com", "leave out \"sip:\""),
            ("620@pbx.example.com", "leave out"),
            ("pbx:", "65535"),
            ("pbx:0", "65535"),
            ("pbx:+5060", "65535"),
            ("pbx:70000", "65535"),
            ("pbx;priorty=1", "priority=N"),
            ("pbx;priority=70000", "65535"),
            ("pbx;", "priority=N"),
        ] {
            let error = entry(text).unwrap_err().to_string();
            assert!(error.contains(remedy), "{text:?}: {error}");
        }
    }
}
