//! Calls through a real proxy: Kamailio with Record-Route between UDP on one side and TLS on ours.
//!
//! From Debian's kamailio and kamailio-tls-modules. Both callers and callees are agents of our own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use offhook::sip::{Counter, EndReason, IncomingCall, TlsSettings, UserAgent, UserAgentOptions};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(15), future).await.unwrap_or_else(|_| panic!("{what} did not happen within 15 s"))
}

/// A proxy that puts itself into the route of each call, and the files that it needs.
struct Proxy {
    /// Its processes, which do not end with the first of them.
    group: u32,
    _child: Child,
    folder: tempfile::TempDir,
    udp: u16,
    tls: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let killed = std::process::Command::new("kill").args(["-9", "--", &format!("-{}", self.group)]).status();
        assert!(killed.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

impl Proxy {
    /// `routes`: what it does with a new request.
    async fn start(routes: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(folder.path().join("certificate.pem"), signed.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), signed.signing_key.serialize_pem()).unwrap();
        let free = || std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap().port();
        let (udp, tls) = (free(), free());
        let path = folder.path().display();
        let configuration = format!(
            r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
tcp_children=2
enable_tls=yes
auto_aliases=no
listen=udp:127.0.0.1:{udp}
listen=tls:127.0.0.1:{tls}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{path}/certificate.pem")
modparam("tls", "private_key", "{path}/key.pem")
modparam("tls", "verify_certificate", 0)
modparam("tls", "require_certificate", 0)
modparam("rr", "enable_double_rr", 1)
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "No Route");
        exit;
    }}
    record_route();
    {routes}
    t_relay();
}}
"#
        );
        let file = folder.path().join("kamailio.cfg");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new("/usr/sbin/kamailio")
            .args(["-DD", "-E", "-m", "32", "-M", "8", "-f"])
            .arg(&file)
            .arg("-Y")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .expect("kamailio does not run: apt-get install kamailio kamailio-tls-modules");
        let group = child.id().expect("it runs");
        let proxy = Self { group, _child: child, folder, udp, tls };
        let listens = async { while TcpStream::connect(("127.0.0.1", tls)).await.is_err() {} };
        if timeout(Duration::from_secs(15), listens).await.is_err() {
            panic!("kamailio does not listen: {}", proxy.log());
        }
        proxy
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

async fn agent(options: UserAgentOptions) -> (UserAgent, Receiver<IncomingCall>) {
    UserAgent::start(options).await.expect("free ports on loopback")
}

/// Options of an agent that listens on TLS and one that does not, with a certificate for the first.
fn on_tls(folder: &std::path::Path) -> UserAgentOptions {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let mut options = UserAgentOptions::new(ANY_PORT);
    options.tls_certificate_file = Some(folder.join("agent.pem"));
    options.tls_key_file = Some(folder.join("agent.key"));
    std::fs::write(folder.join("agent.pem"), signed.cert.pem()).unwrap();
    std::fs::write(folder.join("agent.key"), signed.signing_key.serialize_pem()).unwrap();
    options.listen_tls = Some(ANY_PORT);
    options
}

#[tokio::test]
async fn a_call_from_udp_reaches_us_over_tls_and_our_bye_goes_back_through_both_hops() {
    let folder = tempfile::tempdir().unwrap();
    let (callee, mut incoming) = agent(on_tls(folder.path())).await;
    let (caller, _none) = agent(UserAgentOptions::new(ANY_PORT)).await;
    let proxy = Proxy::start(&format!("$du = \"sip:{};transport=tls\";", callee.tls_addr().unwrap())).await;
    let mut outgoing = caller.invite(&format!("sip:620@127.0.0.1:{}", proxy.udp), SDP.to_vec()).await.unwrap();
    let call = soon("the call", incoming.recv()).await.unwrap_or_else(|| panic!("{}", proxy.log()));
    let mut answered = call.answer(SDP.to_vec()).await.unwrap();
    let (mut dialog, _) = soon("the answer", outgoing.answered()).await.unwrap();
    soon("the ACK", answered.event()).await;
    assert_eq!(soon("our end", answered.hang_up()).await, EndReason::ByUs, "{}", proxy.log());
    assert_eq!(soon("the caller's end", dialog.ended()).await, EndReason::ByPeer, "{}", proxy.log());
    assert_eq!(callee.counters().of(Counter::ConnectionsIn), 1);
    assert_eq!(callee.counters().of(Counter::ConnectionsOut), 0, "the BYE took the connection of the INVITE");
}

#[tokio::test]
async fn our_call_over_tls_reaches_udp_and_the_bye_comes_back_over_the_connection_that_we_made() {
    let (callee, mut incoming) = agent(UserAgentOptions::new(ANY_PORT)).await;
    let proxy = Proxy::start(&format!("$du = \"sip:{}\";", callee.local_addr())).await;
    let mut options = UserAgentOptions::new(ANY_PORT);
    let ca_file = Some(proxy.folder.path().join("certificate.pem"));
    options.trunk_tls = vec![TlsSettings { ca_file, ..Default::default() }];
    let (caller, _none) = agent(options).await;
    let uri = format!("sip:620@127.0.0.1:{};transport=tls", proxy.tls);
    let mut outgoing = caller.invite(&uri, SDP.to_vec()).await.unwrap();
    let call = soon("the call", incoming.recv()).await.unwrap_or_else(|| panic!("{}", proxy.log()));
    let mut answered = call.answer(SDP.to_vec()).await.unwrap();
    let (mut dialog, _) = soon("the answer", outgoing.answered()).await.unwrap();
    soon("the ACK", answered.event()).await;
    // We listen for no connections: the proxy has but the one that we made.
    assert_eq!(soon("their end", answered.hang_up()).await, EndReason::ByUs, "{}", proxy.log());
    assert_eq!(soon("our end", dialog.ended()).await, EndReason::ByPeer, "{}", proxy.log());
    assert_eq!(caller.counters().of(Counter::ConnectionsOut), 1);
}
