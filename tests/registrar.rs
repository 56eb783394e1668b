//! Trunks against registrars: SIPp with one scenario each, a registrar of this file's for digests, and Kamailio.
//!
//! SIPp comes from Debian's sip-tester, Kamailio from kamailio.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use md5::Digest as _;
use offhook::config;
use offhook::privacy::Secret;
use offhook::sip::{TrunkHandle, TrunkOptions, TrunkState, UserAgent, UserAgentOptions};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::timeout;

#[path = "support/sipp.rs"]
mod sipp;
use sipp::{Sipp, free_port, soon};

/// A trunk to the registrar at this port.
fn trunk(port: u16) -> config::Trunk {
    config::Trunk {
        domain: "example.org".into(),
        registrar: Some(format!("127.0.0.1:{port}")),
        user: "620".into(),
        ..config::Trunk::default()
    }
}

async fn agent(config: config::Trunk, password: Option<&str>) -> (UserAgent, TrunkHandle) {
    let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.trunks = vec![TrunkOptions { name: "main".into(), config, password: password.map(Secret::new) }];
    let (agent, _incoming) = UserAgent::start(options).await.expect("a free port on loopback");
    let trunk = agent.trunks().remove(0);
    (agent, trunk)
}

/// Waits for a state of that kind.
async fn becomes(trunk: &TrunkHandle, what: &str, wanted: impl Fn(&TrunkState) -> bool) -> TrunkState {
    let mut changes = trunk.changes();
    soon(what, async { changes.wait_for(|state| wanted(state)).await.expect("the trunk lives").clone() }).await
}

async fn registered(trunk: &TrunkHandle) {
    becomes(trunk, "the registration", TrunkState::is_up).await;
}

/// Registers with a scenario, waits for what it does by itself, and unregisters.
async fn plays(scenario: &str, itself: Duration) -> TrunkHandle {
    let port = free_port();
    let registrar = Sipp::serve_on(port, scenario);
    let (agent, trunk) = agent(trunk(port), None).await;
    registered(&trunk).await;
    let first = trunk.state();
    if !itself.is_zero() {
        becomes(&trunk, "the refresh", |state| *state != first && state.is_up()).await;
        let refreshed = trunk.state();
        if itself > Duration::from_secs(2) {
            becomes(&trunk, "the second refresh", |state| *state != refreshed && state.is_up()).await;
        }
    }
    soon("the shutdown", agent.shutdown()).await;
    assert_eq!(trunk.state(), TrunkState::Stopped);
    registrar.succeeds().await;
    trunk
}

#[tokio::test]
async fn reg_basic() {
    plays("reg_basic", Duration::ZERO).await;
}

#[tokio::test]
async fn reg_423() {
    plays("reg_423", Duration::ZERO).await;
}

#[tokio::test]
async fn reg_service_route_path() {
    let trunk = plays("reg_service_route_path", Duration::ZERO).await;
    assert_eq!(trunk.route(), ["<sip:edge.example.org;lr>", "<sip:core.example.org;lr>"]);
    assert_eq!(trunk.server().unwrap().address.ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn reg_expires_shorter() {
    plays("reg_expires_shorter", Duration::from_secs(1)).await;
}

#[tokio::test]
async fn reg_two_contacts() {
    plays("reg_two_contacts", Duration::from_secs(1)).await;
}

#[tokio::test]
async fn reg_rport_change() {
    plays("reg_rport_change", Duration::from_secs(3)).await;
}

#[tokio::test]
async fn reg_403() {
    let port = free_port();
    let registrar = Sipp::serve_on(port, "reg_403");
    let (_agent, trunk) = agent(trunk(port), Some("secret")).await;
    becomes(&trunk, "the refusal", |state| *state == TrunkState::Refused { status: 403 }).await;
    registrar.succeeds().await;
    assert_eq!(trunk.state(), TrunkState::Refused { status: 403 });
}

#[tokio::test]
async fn reg_restart() {
    let port = free_port();
    let registrar = Sipp::serve_on(port, "reg_restart");
    let (agent, trunk) = agent(trunk(port), None).await;
    registered(&trunk).await;
    registrar.succeeds().await;
    becomes(&trunk, "the loss", |state| *state == TrunkState::Unreachable).await;
    let back_at = Instant::now();
    let registrar = Sipp::serve_on(port, "reg_basic");
    registered(&trunk).await;
    println!("registered {:?} after the registrar's start", back_at.elapsed());
    soon("the shutdown", agent.shutdown()).await;
    registrar.succeeds().await;
}

/// A registrar that asks for a password, as many requests as it is given answers for.
struct Digest {
    socket: UdpSocket,
}

impl Digest {
    async fn new() -> (Self, u16) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        (Self { socket }, port)
    }

    /// Answers the next REGISTER with a status and headers; its Authorization, by parameter, when it has one.
    async fn answer(&self, status: &str, headers: &str) -> Option<Vec<(String, String)>> {
        let mut buffer = [0; 8192];
        let (len, peer) = soon("a REGISTER", self.socket.recv_from(&mut buffer)).await.unwrap();
        let request = std::str::from_utf8(&buffer[..len]).unwrap();
        assert!(request.starts_with("REGISTER sip:example.org SIP/2.0\r\n"), "{request}");
        let echoed: String = request
            .split_inclusive("\r\n")
            .filter(|line| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)))
            .collect();
        let response = format!("SIP/2.0 {status}\r\n{echoed}{headers}Content-Length: 0\r\n\r\n");
        self.socket.send_to(response.as_bytes(), peer).await.unwrap();
        let shown = request.lines().find_map(|line| line.strip_prefix("Authorization: Digest "))?;
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        };
        Some(shown.split(", ").map(parameter).collect())
    }
}

fn hash(algorithm: &str, text: &str) -> String {
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match algorithm {
        "MD5" => hexadecimal(&md5::Md5::digest(text)),
        "SHA-256" => hexadecimal(&sha2::Sha256::digest(text)),
        "SHA-512-256" => hexadecimal(&sha2::Sha512_256::digest(text)),
        other => panic!("{other}"),
    }
}

/// Whether an answer is that of the password "secret", by the algorithm and quality that were expected.
fn check(answer: &[(String, String)], algorithm: &str, quality: &str, count: &str) {
    let get = |name: &str| answer.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let plain = algorithm.trim_end_matches("-sess");
    let h = |text: String| hash(plain, &text);
    assert_eq!(get("algorithm"), algorithm, "{answer:?}");
    assert_eq!((get("username"), get("uri"), get("qop"), get("nc")), ("620", "sip:example.org", quality, count));
    let (nonce, client_nonce) = (get("nonce"), get("cnonce"));
    let mut secret = h(format!("620:{}:secret", get("realm")));
    if algorithm.ends_with("-sess") {
        secret = h(format!("{secret}:{nonce}:{client_nonce}"));
    }
    let request = match quality {
        "auth-int" => h(format!("REGISTER:sip:example.org:{}", h(String::new()))),
        _ => h("REGISTER:sip:example.org".to_owned()),
    };
    let expected = match quality {
        "" => h(format!("{secret}:{nonce}:{request}")),
        _ => h(format!("{secret}:{nonce}:{count}:{client_nonce}:{quality}:{request}")),
    };
    assert_eq!(get("response"), expected, "{answer:?}");
}

const MD5: &str = "WWW-Authenticate: Digest realm=\"example.org\", nonce=\"n1\", algorithm=MD5";
const SHA256: &str = "WWW-Authenticate: Digest realm=\"example.org\", nonce=\"n2\", algorithm=SHA-256";

/// What the registrar asks for, and what it is to be answered with.
async fn digest(challenge: &str, algorithm: &str, quality: &str) {
    let (registrar, port) = Digest::new().await;
    let (agent, trunk) = agent(trunk(port), Some("secret")).await;
    let run = async {
        assert_eq!(registrar.answer("401 Unauthorized", challenge).await, None);
        let count = |count: &'static str| if quality.is_empty() { "" } else { count };
        let answer = registrar.answer("200 OK", "Expires: 2\r\n").await.expect("the answer");
        check(&answer, algorithm, quality, count("00000001"));
        // The refresh takes one request.
        let answer = registrar.answer("200 OK", "Expires: 600\r\n").await.expect("the answer at once");
        check(&answer, algorithm, quality, count("00000002"));
    };
    run.await;
    registered(&trunk).await;
    let unregistered = registrar.answer("200 OK", "");
    let (removal, ()) = tokio::join!(unregistered, agent.shutdown());
    check(&removal.expect("the answer at once"), algorithm, quality, if quality.is_empty() { "" } else { "00000003" });
}

#[tokio::test]
async fn reg_digest_md5() {
    digest(&format!("{MD5}, qop=\"auth\"\r\n"), "MD5", "auth").await;
}

#[tokio::test]
async fn reg_digest_without_qop() {
    digest(&format!("{MD5}\r\n"), "MD5", "").await;
}

#[tokio::test]
async fn reg_digest_sha256() {
    digest(&format!("{SHA256}, qop=\"auth\"\r\n"), "SHA-256", "auth").await;
}

#[tokio::test]
async fn reg_digest_sha512_256() {
    let challenge = SHA256.replace("SHA-256", "SHA-512-256");
    digest(&format!("{challenge}, qop=\"auth\"\r\n"), "SHA-512-256", "auth").await;
}

#[tokio::test]
async fn reg_digest_both() {
    digest(&format!("{MD5}, qop=\"auth\"\r\n{SHA256}, qop=\"auth\"\r\n"), "SHA-256", "auth").await;
    digest(&format!("{SHA256}, qop=\"auth\"\r\n{MD5}, qop=\"auth\"\r\n"), "SHA-256", "auth").await;
}

#[tokio::test]
async fn reg_digest_authint() {
    digest(&format!("{MD5}, qop=\"auth,auth-int\"\r\n"), "MD5", "auth").await;
    digest(&format!("{MD5}, qop=\"auth-int\"\r\n"), "MD5", "auth-int").await;
}

#[tokio::test]
async fn reg_digest_sess() {
    let challenge = MD5.replace("MD5", "MD5-sess");
    digest(&format!("{challenge}, qop=\"auth\"\r\n"), "MD5-sess", "auth").await;
}

#[tokio::test]
async fn reg_digest_stale() {
    let (registrar, port) = Digest::new().await;
    let (_agent, trunk) = agent(trunk(port), Some("secret")).await;
    let first = format!("{MD5}, qop=\"auth\"\r\n");
    let second = format!("{SHA256}, qop=\"auth\", stale=true\r\n");
    assert_eq!(registrar.answer("401 Unauthorized", &first).await, None);
    check(&registrar.answer("401 Unauthorized", &second).await.unwrap(), "MD5", "auth", "00000001");
    check(&registrar.answer("200 OK", "").await.unwrap(), "SHA-256", "auth", "00000001");
    registered(&trunk).await;
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let (registrar, port) = Digest::new().await;
    let (_agent, trunk) = agent(trunk(port), Some("secret")).await;
    registrar.answer("401 Unauthorized", &format!("{MD5}, qop=\"auth\"\r\n")).await;
    let again = MD5.replace("n1", "n3");
    registrar.answer("401 Unauthorized", &format!("{again}, qop=\"auth\"\r\n")).await;
    becomes(&trunk, "the refusal", |state| *state == TrunkState::WrongPassword).await;
    let more = timeout(Duration::from_secs(1), registrar.answer("500 Nobody", "")).await;
    assert!(more.is_err(), "nothing more is sent");
    assert!(trunk.state().to_string().contains("password"), "{}", trunk.state());
}

/// Kamailio as a registrar, killed with all of its processes when dropped.
struct Kamailio {
    group: u32,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let killed = std::process::Command::new("kill").args(["-9", "--", &format!("-{}", self.group)]).status();
        assert!(killed.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

impl Kamailio {
    /// With more parameters of modules; it listens when this returns.
    async fn start(port: u16, parameters: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio/registrar.cfg");
        let text = std::fs::read_to_string(source).unwrap();
        let text = text.replace("LISTEN", &format!("udp:127.0.0.1:{port}"));
        let text = text.replace("request_route {", &format!("{parameters}\nrequest_route {{"));
        let file = folder.path().join("kamailio.cfg");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("kamailio")
            .arg("-f")
            .arg(&file)
            .arg("-Y")
            .arg(folder.path())
            .args(["-DD", "-E", "-m", "16", "-M", "4"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .expect("kamailio does not run: apt-get install kamailio");
        let group = child.id().expect("it runs");
        let kamailio = Self { group, _child: child, _folder: folder };
        soon("Kamailio's start", async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(("127.0.0.1", port)).await.unwrap();
            let from = socket.local_addr().unwrap();
            let mut buffer = [0; 2048];
            for sequence in 1.. {
                let ask = format!(
                    "OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{sequence}\r\nMax-Forwards: 7\r\n\
                     From: <sip:x@{from}>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: up{sequence}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                );
                let _ = socket.send(ask.as_bytes()).await;
                if let Ok(Ok(_)) = timeout(Duration::from_millis(50), socket.recv(&mut buffer)).await {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        kamailio
    }
}

#[tokio::test]
async fn kamailio_takes_our_answers_by_either_algorithm() {
    for parameters in ["", "modparam(\"auth\", \"algorithm\", \"SHA-256\")"] {
        let port = free_port();
        let _kamailio = Kamailio::start(port, parameters).await;
        let (agent, trunk) = agent_of(port, "secret").await;
        registered(&trunk).await;
        soon("the shutdown", agent.shutdown()).await;
        let (_agent, wrong) = agent_of(port, "another").await;
        becomes(&wrong, "the refusal", |state| *state == TrunkState::WrongPassword).await;
    }
}

async fn agent_of(port: u16, password: &str) -> (UserAgent, TrunkHandle) {
    agent(trunk(port), Some(password)).await
}

#[tokio::test]
async fn a_kamailio_that_was_away_has_us_again() {
    let port = free_port();
    let kamailio = Kamailio::start(port, "modparam(\"registrar\", \"max_expires\", 10)").await;
    let (_agent, trunk) = agent(trunk(port), Some("secret")).await;
    registered(&trunk).await;
    drop(kamailio);
    becomes(&trunk, "the loss", |state| *state == TrunkState::Unreachable).await;
    let _kamailio = Kamailio::start(port, "").await;
    let back_at = Instant::now();
    registered(&trunk).await;
    println!("registered {:?} after Kamailio answered again", back_at.elapsed());
}
