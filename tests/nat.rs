//! A box behind a NAT with a short memory, a registrar outside: calls come in, also after the router has started again. From Debian: kamailio,
//! nftables, sip-tester, iproute2.
//!
//! Three network namespaces: the public network with Kamailio and the caller, the router, and the premises with `offhook run`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

#[path = "support/network.rs"]
mod network;
#[path = "support/service.rs"]
mod service;
use network::{Network, Running};
use service::Service;

/// The addresses are from the range for benchmarks (RFC 2544); the premises have a private one.
const PUBLIC: &str =
    "ip link add wan type veth peer name router && ip address add 198.18.0.1/24 dev wan && ip link set wan up";
/// Entries live as long as cheap routers keep them.
const ROUTER: &str = "sysctl -qw net.ipv4.ip_forward=1 net.netfilter.nf_conntrack_udp_timeout=8 net.netfilter.nf_conntrack_udp_timeout_stream=8";

/// The three namespaces, connected.
struct Premises {
    public: Network,
    router: Network,
    home: Network,
}

impl Premises {
    fn new() -> Self {
        let public = Network::new(PUBLIC);
        let router = public.beside("ip link add lan type veth peer name home");
        let home = router.beside("true");
        public.sh(&format!("ip link set router netns {}", router.pid()));
        router.sh(&format!("ip link set home netns {}", home.pid()));
        router.sh("ip address add 198.18.0.2/24 dev router; ip address add 192.168.77.1/24 dev lan; \
             ip link set router up; ip link set lan up");
        home.sh("ip address add 192.168.77.2/24 dev home; ip link set home up; ip route add default via 192.168.77.1");
        let premises = Self { public, router, home };
        premises.router.sh(ROUTER);
        premises.router_maps_to("40000-49999");
        premises
    }

    /// The router starts (again): it remembers nothing, and gives out these ports.
    fn router_maps_to(&self, ports: &str) {
        self.router.sh(&format!(
            "nft flush ruleset; nft add table ip nat; \
             nft 'add chain ip nat after {{ type nat hook postrouting priority 100; }}'; \
             nft add rule ip nat after ip protocol udp oifname router masquerade to :{ports}"
        ));
        // What was mapped before is gone with the interface.
        self.router.sh("ip link set router down; ip link set router up");
        self.router.sh("conntrack -F 2>/dev/null || true");
    }
}

/// Kamailio, whose processes do not end with the first of them.
struct Kamailio(Running);

impl Drop for Kamailio {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.0.0.id())]).status();
    }
}

/// Kamailio outside, and what it logs.
fn kamailio(network: &Network, folder: &Path) -> (Kamailio, Receiver<String>) {
    let config = include_str!("kamailio/registrar.cfg").replace("LISTEN", "udp:198.18.0.1:5060");
    let file = folder.join("kamailio.cfg");
    fs::write(&file, config).unwrap();
    let mut command = network.command("kamailio");
    command.args(["-f", file.to_str().unwrap(), "-Y", folder.to_str().unwrap(), "-m", "16", "-M", "4"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut running = Running::start(&mut command, "apt-get install kamailio");
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let (line, lines) = channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
    (Kamailio(running), lines)
}

/// Waits for a line with this in it.
fn logs(lines: &Receiver<String>, what: &str) -> String {
    let mut seen = String::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) if line.contains(what) => return line,
            Ok(line) => seen += &format!("{line}\n"),
            Err(_) => panic!("Kamailio did not log {what:?}:\n{seen}"),
        }
    }
}

/// sipp calls 620 through Kamailio, `after` some time in which nobody says anything.
fn call(network: &Network, folder: &Path, after: Duration) {
    let scenario = include_str!("sipp/uac_through_proxy.xml").replace("PAUSE_MS", &after.as_millis().to_string());
    let file = folder.join("scenario.xml");
    fs::write(&file, scenario).unwrap();
    let mut sipp = network.command("sipp");
    sipp.args(["-sf", file.to_str().unwrap(), "-m", "1", "-nostdin", "-i", "198.18.0.1", "-p", "5090", "-s", "620"]);
    sipp.args(["-timeout", "60s", "-timeout_error", "-trace_err", "-error_file"]).arg(folder.join("errors.log"));
    sipp.arg("198.18.0.1:5060").current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let status = sipp.status().expect("apt-get install sip-tester");
    let errors = fs::read_to_string(folder.join("errors.log")).unwrap_or_default();
    assert!(status.success(), "the call did not get through: {errors}");
}

fn offhook(network: &Network, folder: &Path) -> Service {
    let secret = folder.join("password");
    fs::write(&secret, "secret\n").unwrap();
    let text = format!(
        "[sip]\nlisten = \"0.0.0.0:5060\"\nallowed_peers = []\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n[trunk.outside]\n\
         mode = \"register\"\ndomain = \"198.18.0.1\"\nuser = \"620\"\npassword_file = \"{}\"\nexpires_s = 120\n\
         keepalive = \"options\"\nkeepalive_s = 5\n",
        secret.display()
    );
    let config = service::write_config(folder, &text);
    let mut run: Command = network.command(env!("CARGO_BIN_EXE_offhook"));
    run.args(["run", "--config", config.to_str().unwrap()]);
    Service::start(run)
}

#[test]
fn calls_come_through_a_nat_that_forgets_and_through_a_router_that_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let premises = Premises::new();
    let (_kamailio, registrar) = kamailio(&premises.public, folder.path());
    let mut service = offhook(&premises.home, folder.path());
    // The first registration shows the port that the router gave; the second one has it in its Contact.
    let seen = |line: &str| line.split("contact ").nth(1).unwrap_or_default().to_owned();
    let line = logs(&registrar, "@198.18.0.2:4");
    assert!(seen(&line).contains("620@198.18.0.2:4"), "{line}");
    // Longer than the router remembers, unless something keeps the way open.
    call(&premises.public, folder.path(), Duration::from_secs(12));
    service.logs("ended reason=");

    premises.router_maps_to("50000-59999");
    let line = logs(&registrar, "@198.18.0.2:5");
    assert!(seen(&line).contains("620@198.18.0.2:5"), "{line}");
    call(&premises.public, folder.path(), Duration::ZERO);
    service.logs("ended reason=");
    service.terminate();
    assert!(service.ended().success(), "{}", service.log);
    // It takes its leave of the registrar.
    logs(&registrar, "expires 0");
}
