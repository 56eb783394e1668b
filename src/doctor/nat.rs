//! What stands between this box and its servers: the address that each server sees us as, against our own (RFC 3581, RFC 4787).

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use super::Check;
use crate::config::{Transport, TrunkMode};

/// How one server saw one request.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) trunk: String,
    pub(super) mode: TrunkMode,
    pub(super) transport: Transport,
    pub(super) public_address: Option<IpAddr>,
    pub(super) target: SocketAddr,
    /// What the request said it came from.
    pub(super) local: SocketAddr,
    pub(super) seen_as: SocketAddr,
    pub(super) says_received: bool,
    pub(super) altered: Vec<&'static str>,
    /// The server's Date, and when it came.
    pub(super) date: Option<String>,
    pub(super) at: SystemTime,
}

/// One check for each trunk that was answered, and one for what the answers say together.
pub(super) fn checks(views: &[View]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut trunks: Vec<&str> = views.iter().map(|view| view.trunk.as_str()).collect();
    trunks.dedup();
    for trunk in trunks {
        if let Some(view) = views.iter().find(|view| view.trunk == trunk) {
            checks.push(of_trunk(view));
        }
    }
    if let Some((one, other)) = symmetric(views) {
        let finding = format!(
            "{} sees us as {}, {} as {}: the NAT gives each destination another port",
            one.target, one.seen_as, other.target, other.seen_as
        );
        checks.push(Check::ok("nat", "symmetric", finding).warning(
            "registration works, since calls come back on its own way; mode = \"ip-auth\" needs a forwarded port on the router",
        ));
    }
    checks
}

fn of_trunk(view: &View) -> Check {
    let area = format!("trunk {}", view.trunk);
    let said = |finding: String| Check::ok(area, "nat", finding);
    let View { target, local, seen_as, .. } = view;
    if !view.altered.is_empty() {
        let finding = format!("{} came back from {target} other than it left", view.altered.join(" and "));
        return said(finding).warning(
            "a router changes SIP messages: switch its SIP ALG (\"SIP helper\", \"SIP passthrough\") off, or take transport = \"tls\"",
        );
    }
    let through_router = is_private(local.ip()) && !is_private(target.ip());
    if through_router && !view.says_received && view.transport == Transport::Udp {
        return said(format!("{target} takes our private address {local} for its own view of us"))
            .warning("a router seems to change SIP messages: switch its SIP ALG off, or take transport = \"tls\"");
    }
    if let Some(public) = view.public_address.filter(|public| seen_as.ip() != *public && !target.ip().is_loopback()) {
        return said(format!("{target} sees us as {}, public_address is {public}", seen_as.ip()))
            .failure(format!("set public_address = \"{}\", or remove it for a trunk that registers", seen_as.ip()));
    }
    if seen_as.ip() == local.ip() {
        return said(format!("none: {target} sees us as {}, as we do", local.ip()));
    }
    let port = if seen_as.port() == local.port() { "the port stays" } else { "the port changes" };
    let check = said(format!("behind a NAT: we are {}, {target} sees {}; {port}", local.ip(), seen_as.ip()));
    if view.mode == TrunkMode::IpAuth && view.public_address.is_none() {
        return check.failure(format!(
            "mode = \"ip-auth\" behind a NAT takes public_address = \"{}\" and forwarded ports on the router; or take mode = \"register\"",
            seen_as.ip()
        ));
    }
    check
}

/// Two views of the same socket that differ.
fn symmetric(views: &[View]) -> Option<(&View, &View)> {
    let mut udp = views.iter().filter(|view| view.transport == Transport::Udp && view.altered.is_empty());
    let first = udp.next()?;
    let other = udp.find(|view| view.local == first.local && view.seen_as != first.seen_as)?;
    Some((first, other))
}

/// RFC 1918, 3927, 4193, 6598, and loopback: addresses that no server beyond a router sees.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn view(target: &str, seen_as: &str) -> View {
        View {
            trunk: "t".into(),
            mode: TrunkMode::Register,
            transport: Transport::Udp,
            public_address: None,
            target: target.parse().unwrap(),
            local: "192.168.1.20:5071".parse().unwrap(),
            seen_as: seen_as.parse().unwrap(),
            says_received: !seen_as.starts_with("192.168."),
            altered: Vec::new(),
            date: None,
            at: SystemTime::now(),
        }
    }

    fn found(views: &[View]) -> Vec<(State, String)> {
        let shown = |check: Check| (check.state, format!("{} {}", check.finding, check.remedy.unwrap_or_default()));
        checks(views).into_iter().map(shown).collect()
    }

    #[track_caller]
    fn assert_found(view: View, state: State, part: &str) {
        let found = found(&[view]);
        assert!(found.len() == 1 && found[0].0 == state && found[0].1.contains(part), "{found:?}");
    }

    #[test]
    fn each_kind_of_nat_is_told_from_the_others() {
        assert_found(view("192.168.1.1:5060", "192.168.1.20:5071"), State::Ok, "none");
        assert_found(view("198.51.100.1:5060", "203.0.113.5:5071"), State::Ok, "the port stays");
        assert_found(view("198.51.100.1:5060", "203.0.113.5:61000"), State::Ok, "the port changes");
        let two =
            found(&[view("198.51.100.1:5060", "203.0.113.5:61000"), view("198.51.100.2:5060", "203.0.113.5:61001")]);
        assert!(two.len() == 2 && two[1].0 == State::Warning && two[1].1.contains("each destination"), "{two:?}");
        let same =
            found(&[view("198.51.100.1:5060", "203.0.113.5:61000"), view("198.51.100.2:5060", "203.0.113.5:61000")]);
        assert_eq!(same.len(), 1);
    }

    #[test]
    fn a_router_that_meddles_is_suspected() {
        assert_found(view("198.51.100.1:5060", "192.168.1.20:5071"), State::Warning, "ALG");
        let altered = View { altered: vec!["Via"], ..view("198.51.100.1:5060", "203.0.113.5:61000") };
        assert_found(altered, State::Warning, "Via came back");
    }

    #[test]
    fn a_public_address_that_is_not_ours_and_ip_auth_behind_a_nat_fail() {
        let wrong =
            View { public_address: Some([203, 0, 113, 9].into()), ..view("198.51.100.1:5060", "203.0.113.5:61000") };
        assert_found(wrong.clone(), State::Failure, "set public_address = \"203.0.113.5\"");
        let right = View { public_address: Some([203, 0, 113, 5].into()), mode: TrunkMode::IpAuth, ..wrong };
        assert_found(right.clone(), State::Ok, "behind a NAT");
        assert_found(View { public_address: None, ..right }, State::Failure, "forwarded ports");
    }
}
