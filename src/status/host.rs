//! By which names this machine may be asked.

use std::net::IpAddr;

use crate::config::HostPort;

/// Its names.
#[derive(Debug)]
pub(super) struct Hosts {
    name: Option<String>,
}

impl Hosts {
    /// By the name that the kernel has for it.
    pub fn of_this_machine() -> Self {
        Self::named(&std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default())
    }

    fn named(name: &str) -> Self {
        let name = name.trim().trim_end_matches('.').to_ascii_lowercase();
        Self { name: Some(name).filter(|name| !name.is_empty()) }
    }

    /// Whether a Host header names this machine: an address, `localhost`, its name, or its name in the network's own domain
    /// (`NAME.local`). None of these can lead a browser here on behalf of another site.
    pub fn are_ours(&self, host: &str) -> bool {
        let Ok(HostPort { host, .. }) = host.parse::<HostPort>() else { return false };
        let is_name = |name: &String| host == *name || host.strip_suffix(".local") == Some(name);
        host.parse::<IpAddr>().is_ok() || host == "localhost" || self.name.as_ref().is_some_and(is_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_this_machines_names_are_ours() {
        let hosts = Hosts::named("Box7\n");
        for ours in ["127.0.0.1", "192.168.1.9:8080", "[::1]:8080", "localhost:80", "LOCALHOST", "box7", "Box7.local:1"]
        {
            assert!(hosts.are_ours(ours), "{ours}");
        }
        let strange =
            ["", "evil.example", "box7.evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "local"];
        for strange in strange {
            assert!(!hosts.are_ours(strange), "{strange}");
        }
        let nameless = Hosts::named("");
        assert!(!nameless.are_ours("") && !nameless.are_ours(".local") && nameless.are_ours("10.0.0.1"));
    }
}
