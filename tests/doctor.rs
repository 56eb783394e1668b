//! `offhook doctor` as an installer meets it: the program against small SIP servers, each with a fault of its own.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use offhook::simulator::faces::{FaceOptions, Faces};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

#[path = "support/service.rs"]
#[allow(dead_code)]
mod service;

const NUMBER: &str = "972501234567";
const PASSWORD: &str = "hunter2-and-more";
const SMALL: &str = "[sip]\nlisten = \"127.0.0.1:0\"\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n";

fn header<'m>(message: &'m str, name: &str) -> &'m str {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

/// A response to a request, from a server that sees it come from `from`.
fn respond(request: &str, from: SocketAddr, status: &str, more: &str) -> String {
    let via = header(request, "Via").replace(";rport", &format!(";rport={};received={}", from.port(), from.ip()));
    format!(
        "SIP/2.0 {status}\r\nVia: {via}\r\nFrom: {}\r\nTo: {};tag=1\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}Content-Length: 0\r\n\r\n",
        header(request, "From"),
        header(request, "To"),
        header(request, "Call-ID"),
        header(request, "CSeq"),
    )
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A registrar: answers OPTIONS with 200, and REGISTER only to who knows the password.
fn registrar(request: &str, from: SocketAddr) -> String {
    if request.starts_with("OPTIONS") {
        return respond(request, from, "200 OK", "");
    }
    let answer = header(request, "Authorization");
    let part =
        |name: &str| answer.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("");
    let proof =
        [md5_hex(&format!("{NUMBER}:r:{PASSWORD}")), "n1".into(), md5_hex(&format!("REGISTER:{}", part("uri")))];
    match answer {
        "" => respond(request, from, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\"\r\n"),
        _ if part("response") == md5_hex(&proof.join(":")) => {
            respond(request, from, "200 OK", "Contact: <sip:me@192.0.2.1>;expires=60\r\n")
        }
        _ => respond(request, from, &format!("403 No {NUMBER}"), ""),
    }
}

/// A SIP server over UDP, until the test's end, and what it was asked.
fn serve(answer: impl Fn(&str, SocketAddr) -> String + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            socket.send_to(answer(&request, from).as_bytes(), from).unwrap();
            heard.lock().unwrap().push(request);
        }
    });
    (address, asked)
}

/// A trunk that registers at a server.
fn trunk(name: &str, server: SocketAddr, more: &str) -> String {
    format!("[trunk.{name}]\ndomain = \"provider.test\"\nregistrar = \"{server}\"\nuser = \"{NUMBER}\"\n{more}\n")
}

/// A file with the password, and the line of the configuration that names it.
fn password(folder: &Path, password: &str, mode: u32) -> String {
    let file = folder.join(format!("password-{}", md5_hex(password)));
    std::fs::write(&file, password).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    format!("password_file = {file:?}\n")
}

/// The doctor's exit code and its report.
struct Report {
    code: Option<i32>,
    text: String,
    checks: Vec<Value>,
}

fn doctor(folder: &Path, config: &str) -> Report {
    let file = service::write_config(folder, config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    service::clean(&mut command);
    let began = Instant::now();
    let output = command.args(["doctor", "--json", "--config", file.to_str().unwrap()]).output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains(NUMBER), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let report: Value = serde_json::from_str(&text).unwrap();
    let checks = report["checks"].as_array().unwrap().clone();
    Report { code: output.status.code(), text, checks }
}

impl Report {
    #[track_caller]
    fn assert(&self, area: &str, what: &str, state: &str, part: &str) {
        let mut found = self.checks.iter().filter(|check| check["area"] == area && check["what"] == what);
        let good = found.any(|check| check["state"] == state && check.to_string().contains(part));
        assert!(good, "{area}, {what}: {state} with {part:?} is not in {}", self.text);
    }
}

#[test]
fn a_line_on_which_all_is_well_ends_with_0_and_nothing_was_changed_at_the_registrar() {
    let folder = tempfile::tempdir().unwrap();
    let (server, asked) = serve(registrar);
    let config = SMALL.to_owned() + &trunk("good", server, &password(folder.path(), PASSWORD, 0o600));
    let report = doctor(folder.path(), &config);
    assert_eq!(report.code, Some(0), "{}", report.text);
    report.assert("configuration", "file", "ok", "1 trunk");
    report.assert("secrets", "password of trunk good", "ok", "there");
    report.assert("ports", "SIP over UDP", "ok", "free");
    report.assert("ports", "RTP", "ok", "of 128 pairs");
    report.assert("trunk good", "dns", "ok", "nothing to look up");
    report.assert("trunk good", "reachable", "ok", "200 OK");
    report.assert("trunk good", "registration", "ok", "accepted; one phone is registered");
    report.assert("trunk good", "nat", "ok", "none");
    report.assert("test call", "to itself", "ok", "packets came back");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3, "OPTIONS, REGISTER and REGISTER with the proof");
    assert!(asked.iter().all(|request| header(request, "Contact").is_empty()));
}

#[test]
fn a_wrong_password_a_missing_one_an_unknown_user_a_silent_and_a_closed_server_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = serve(registrar);
    let (unknown, _) = serve(|request, from| respond(request, from, "404 Not Found", ""));
    let (again, _) = serve(|request, from| {
        respond(request, from, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\"\r\n")
    });
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (right, wrong) = (password(folder.path(), PASSWORD, 0o644), password(folder.path(), "hunter3", 0o600));
    let config = [
        SMALL.to_owned(),
        trunk("wrong", server, &wrong),
        trunk("none", server, ""),
        trunk("unknown", unknown, &right),
        trunk("again", again, &right),
        trunk("silent", silent.local_addr().unwrap(), &right),
        trunk("closed", closed, &right),
    ];
    let report = doctor(folder.path(), &config.concat());
    assert_eq!(report.code, Some(2), "{}", report.text);
    report.assert("trunk wrong", "registration", "failure", "403");
    report.assert("trunk none", "registration", "failure", "set password_file");
    report.assert("secrets", "password of trunk none", "failure", "not found");
    report.assert("secrets", "password of trunk unknown", "warning", "chmod 600");
    report.assert("trunk unknown", "reachable", "ok", "404");
    report.assert("trunk unknown", "registration", "failure", "no such user");
    report.assert("trunk again", "registration", "failure", "the password is not accepted");
    report.assert("trunk silent", "reachable", "failure", "no answer for 4 s");
    report.assert("trunk silent", "registration", "failure", "no answer for 4 s");
    report.assert("trunk closed", "reachable", "failure", "nothing listens there");
}

#[test]
fn a_configuration_that_is_wrong_is_the_only_finding_and_a_port_of_another_program_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let report = doctor(folder.path(), "[sip]\nmax_cals = 3\n");
    assert_eq!((report.code, report.checks.len()), (Some(2), 1));
    report.assert("configuration", "file", "failure", "offhook.toml:2");
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = SMALL.replace("127.0.0.1:0", &held.local_addr().unwrap().to_string());
    let report = doctor(folder.path(), &config);
    assert_eq!(report.code, Some(2), "{}", report.text);
    let own_name = std::fs::read_to_string("/proc/self/comm").unwrap();
    report.assert("ports", "SIP over UDP", "failure", &format!("held by {}", own_name.trim()));
}

#[test]
fn for_a_person_each_finding_is_a_line_and_its_remedy_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = serve(|request, from| respond(request, from, "503 Full", ""));
    let options = "mode = \"ip-auth\"\n";
    let file = service::write_config(folder.path(), &(SMALL.to_owned() + &trunk("full", server, options)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    service::clean(&mut command);
    let output = command.args(["doctor", "--config", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("warning  trunk full     reachable")).expect(&text);
    assert!(lines[at].contains("503 Full") && lines[at + 1].trim_start().starts_with('→'), "{text}");
    assert_eq!(lines.last(), Some(&"failures: 0, warnings: 1"));
}

/// A file with a key, and the line that names it.
fn key(folder: &Path, key: &str) -> String {
    let file = folder.join(format!("key-{key}"));
    std::fs::write(&file, key).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    format!("api_key_file = {file:?}\n")
}

#[test]
fn a_recogniser_that_hears_us_one_that_refuses_our_key_one_that_is_gone_and_one_without_a_key_are_told_apart() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faces = runtime.block_on(Faces::start(([127, 0, 0, 1], 0).into(), FaceOptions::default())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (any, invalid) = (key(folder.path(), "any"), key(folder.path(), "invalid"));
    let there = format!("base_url = \"http://{}\"\n", faces.address());
    let gone = "base_url = \"http://127.0.0.1:9\"\n";
    for (engine, lines, state, part) in [
        ("deepgram", format!("{there}{any}"), "ok", "can be reached"),
        ("deepgram", format!("{there}{invalid}"), "warning", "check key"),
        ("deepgram", format!("{gone}{any}"), "warning", "check the network"),
        // On the premises no key is asked for; at its maker's nobody is asked without one.
        ("deepgram", there.clone(), "ok", "can be reached"),
        ("deepgram", String::new(), "failure", "put [recogniser] right"),
        ("gemini", format!("{there}{any}"), "ok", "can be reached"),
        ("gemini", format!("{there}{invalid}"), "warning", "check key"),
        ("wyoming", "address = \"127.0.0.1:9\"\n".into(), "warning", "check the network"),
    ] {
        let report = doctor(folder.path(), &format!("{SMALL}[recogniser]\nengine = \"{engine}\"\n{lines}"));
        report.assert("recogniser", engine, state, part);
    }
    let none = doctor(folder.path(), SMALL);
    assert!(none.checks.iter().all(|check| check["area"] != "recogniser"), "{}", none.text);
}

#[test]
fn a_voice_that_speaks_is_told_from_one_that_breaks_and_one_that_is_silent_and_a_cloud_voice_has_another_behind_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faces = runtime.block_on(Faces::start(([127, 0, 0, 1], 0).into(), FaceOptions::default())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    std::fs::write(&tone, offhook::pcm::wav::write(8000, 1, &offhook::pcm::tone::sine(500.0, -12.0, 8000))).unwrap();
    let says = |script: &str| format!("{SMALL}[voice]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n");
    let well = says(&format!("cat >/dev/null; cat {}", tone.display()));
    let report = doctor(folder.path(), &well);
    report.assert("voice", "sh", "ok", "spoke a sentence");
    for (script, part) in
        [("cat >/dev/null; echo no such voice >&2; exit 3", "no such voice"), ("exec sleep 20", "1500")]
    {
        let report = doctor(folder.path(), &says(script));
        report.assert("voice", "sh", "failure", part);
        report.assert("voice", "sh", "failure", "in [voice]");
        assert_eq!(report.code, Some(2), "{}", report.text);
    }
    for (given, state, part) in
        [("any", "ok", "spoke a sentence"), ("invalid", "warning", "the voice of [voice] speaks")]
    {
        let url = format!("http://{}/cognitiveservices/v1", faces.address());
        let azure = format!("[network_voice]\npreset = \"azure\"\nurl = \"{url}\"\n{}", key(folder.path(), given));
        let report = doctor(folder.path(), &format!("{well}{azure}"));
        report.assert("voice", "azure", state, part);
        report.assert("voice", "sh", "ok", "spoke a sentence");
    }
}

/// What a certificate is made of.
struct Shown {
    names: &'static str,
    from: i32,
    to: i32,
    trusted: bool,
}

/// A SIP server over TLS with such a certificate.
fn serve_tls(
    shown: &Shown,
    authority: &CertifiedIssuer<'_, KeyPair>,
    other: &CertifiedIssuer<'_, KeyPair>,
) -> SocketAddr {
    let mut params = CertificateParams::new(vec![shown.names.to_owned()]).unwrap();
    params.not_before = date_time_ymd(shown.from, 1, 1);
    params.not_after = date_time_ymd(shown.to, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, if shown.trusted { authority } else { other }).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let from = tcp.peer_addr().unwrap();
            let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp);
            let mut buffer = [0; 4096];
            // A handshake that the other side breaks off ends the connection.
            while let Ok(length @ 1..) = tls.read(&mut buffer) {
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                tls.write_all(registrar(&request, from).as_bytes()).unwrap();
            }
        }
    });
    address
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn each_fault_of_a_certificate_has_its_own_name_and_remedy() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let (trusted, other) = (authority("one"), authority("other"));
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, trusted.pem()).unwrap();
    let password = password(folder.path(), PASSWORD, 0o600);
    let good = Shown { names: "provider.test", from: 2020, to: 2100, trusted: true };
    let config = [
        ("good", Shown { ..good }),
        ("stranger", Shown { trusted: false, ..good }),
        ("expired", Shown { to: 2021, ..good }),
        ("early", Shown { from: 2090, ..good }),
        ("renamed", Shown { names: "elsewhere.test", ..good }),
    ]
    .map(|(name, shown)| {
        let server = serve_tls(&shown, &trusted, &other);
        let tls = format!("transport = \"tls\"\ntls_ca_file = {ca:?}\ntls_server_name = \"provider.test\"\n{password}");
        trunk(name, server, &tls)
    });
    let report = doctor(folder.path(), &(SMALL.to_owned() + &config.concat()));
    assert_eq!(report.code, Some(2), "{}", report.text);
    report.assert("trunk good", "certificate", "ok", "days left");
    report.assert("trunk good", "reachable", "ok", "over TLS: 200 OK");
    report.assert("trunk good", "registration", "ok", "accepted");
    report.assert("trunk stranger", "certificate", "failure", "tls_ca_file");
    report.assert("trunk expired", "certificate", "failure", "expired");
    report.assert("trunk early", "certificate", "failure", "set the clock");
    report.assert("trunk renamed", "certificate", "failure", "tls_server_name");
    report.assert("trunk renamed", "reachable", "failure", "its certificate");
}
