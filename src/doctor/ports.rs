//! Whether the ports that the configuration names can be had, or are a running offhook's already.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use super::Check;
use crate::config::Config;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![listen("SIP over UDP", config.sip.listen, "udp")];
    let tcp = [("SIP over TCP", config.sip.listen_tcp), ("SIP over TLS", config.sip.listen_tls)];
    checks.extend(tcp.into_iter().filter_map(|(what, address)| Some(listen(what, address?, "tcp"))));
    checks.push(media(config));
    checks
}

fn listen(what: &'static str, address: SocketAddr, protocol: &str) -> Check {
    let bound = match protocol {
        "udp" => UdpSocket::bind(address).map(drop),
        _ => TcpListener::bind(address).map(drop),
    };
    let said = |finding: String| Check::ok("ports", what, finding);
    match bound {
        Ok(()) => said(format!("{address} is free; the service is not running")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match holder(address.port(), protocol) {
            Some(name) if name.starts_with("offhook") => said(format!("{address} is held by a running offhook")),
            Some(name) => said(format!("{address} is held by {name}"))
                .failure(format!("stop {name}, or choose another address in [sip]")),
            None => said(format!("{address} is held by a program that cannot be seen from here"))
                .warning("ask again as root, or look for yourself: ss -lnup"),
        },
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            said(format!("{address}: no such address on this box"))
                .failure("take an address of this box, or 0.0.0.0 for all of them; `ip address` lists them")
        }
        Err(error) => said(format!("{address}: {error}")).failure("choose another address in [sip]"),
    }
}

/// Counts the pairs of the RTP range that can be bound.
fn media(config: &Config) -> Check {
    let (first, last) = (u32::from(config.rtp.port_min).next_multiple_of(2), u32::from(config.rtp.port_max));
    let address = config.sip.listen.ip();
    let bindable = |port: u32| u16::try_from(port).is_ok_and(|port| UdpSocket::bind((address, port)).is_ok());
    let pairs: Vec<u32> = (first..last).step_by(2).collect();
    let free = pairs.iter().filter(|port| bindable(**port) && bindable(**port + 1)).count();
    let finding = format!("{free} of {} pairs of UDP ports from {first} to {last} are free", pairs.len());
    let check = Check::ok("ports", "RTP", finding);
    let wanted = config.sip.max_calls;
    if free == 0 {
        check.failure("stop the program that holds them, or choose other port_min and port_max in [rtp]")
    } else if free < wanted {
        check.warning(format!(
            "max_calls is {wanted}; if these are not calls in progress, choose other port_min and port_max"
        ))
    } else {
        check
    }
}

/// The name of the program that has a socket on a port, as far as we may see it.
fn holder(port: u16, protocol: &str) -> Option<String> {
    let mut inodes = HashSet::new();
    for table in [protocol.to_owned(), format!("{protocol}6")] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(inode)) = (words.get(1), words.get(9)) else { continue };
            let of_line = local.rsplit(':').next().and_then(|digits| u16::from_str_radix(digits, 16).ok());
            if of_line == Some(port) {
                inodes.insert(format!("socket:[{inode}]"));
            }
        }
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let links = descriptors.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
        if links.map(PathBuf::into_os_string).any(|link| link.to_str().is_some_and(|link| inodes.contains(link))) {
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(name.trim().to_owned());
        }
    }
    None
}
