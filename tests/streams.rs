//! SIP over TCP and TLS against real parts: SIPp, openssl, raw sockets, and the agent itself.
//!
//! SIPp comes from Debian's sip-tester, openssl from the package of its name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use offhook::sip::{Counter, EndReason, IncomingCall, SipError, Timers, TlsSettings, UserAgent, UserAgentOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
const ANSWER: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50000 RTP/AVP 8\r\n";
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn options() -> UserAgentOptions {
    let mut options = UserAgentOptions::new(ANY_PORT);
    options.timers =
        Timers { t1: Duration::from_millis(40), t2: Duration::from_millis(160), t4: Duration::from_millis(160) };
    options.listen_tcp = Some(ANY_PORT);
    options.max_calls_per_second = 1000;
    options
}

async fn agent_with(options: UserAgentOptions) -> (UserAgent, Receiver<IncomingCall>) {
    UserAgent::start(options).await.expect("free ports on loopback")
}

async fn agent() -> (UserAgent, Receiver<IncomingCall>, SocketAddr) {
    let (agent, incoming) = agent_with(options()).await;
    let address = agent.tcp_addr().expect("it listens on TCP");
    (agent, incoming, address)
}

/// Nothing in here may take longer; a hang is a failure with a name.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} did not happen within 30 s"))
}

async fn next_call(incoming: &mut Receiver<IncomingCall>) -> IncomingCall {
    soon("an incoming call", incoming.recv()).await.expect("the agent runs")
}

/// A port that was just free.
fn free_port() -> u16 {
    std::net::TcpListener::bind(ANY_PORT).and_then(|socket| socket.local_addr()).unwrap().port()
}

/// It listens over TCP in any case, and two that look for a port by themselves at once may find the same.
fn sipp(arguments: &[&str], peer: &str) -> Child {
    let port = (!arguments.contains(&"-p")).then(|| ["-p".to_owned(), free_port().to_string()]);
    Command::new("sipp")
        .args(["-i", "127.0.0.1", "-nostdin", "-timeout", "15s", "-timeout_error", "-t", "t1", "-s", "620"])
        .args(arguments)
        .args(port.into_iter().flatten())
        .arg(peer)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("sipp does not run: apt-get install sip-tester")
}

async fn succeeds(sipp: Child) {
    let output = soon("the end of sipp", sipp.wait_with_output()).await.unwrap();
    let (said, screen) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "sipp: {}\n{said}\n{screen}", output.status);
}

fn scenario(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(name).with_extension("xml");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// A peer that speaks SIP by hand over one connection.
struct Peer {
    stream: BufReader<TcpStream>,
    local: SocketAddr,
}

/// A message as it was on the wire.
struct Heard {
    head: String,
    body: Vec<u8>,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }
}

impl Peer {
    async fn connect(to: SocketAddr) -> Self {
        Self::of(TcpStream::connect(to).await.unwrap())
    }

    fn of(stream: TcpStream) -> Self {
        let local = stream.local_addr().unwrap();
        Self { stream: BufReader::new(stream), local }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next message, which the independent parser must read.
    async fn hear(&mut self) -> Heard {
        soon("a message", async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(self.stream.read_line(&mut head).await.unwrap() > 0, "the connection ended after {head:?}");
            }
            let mut heard = Heard { head, body: Vec::new() };
            let length = heard.header("Content-Length").parse().expect("a Content-Length");
            heard.body.resize(length, 0);
            self.stream.read_exact(&mut heard.body).await.unwrap();
            let whole = [heard.head.as_bytes(), &heard.body].concat();
            rsip::SipMessage::try_from(&whole[..]).unwrap_or_else(|error| panic!("{error}: {}", heard.head));
            heard
        })
        .await
    }

    /// The next message that begins so; others before it are passed over.
    async fn hear_one(&mut self, start: &str) -> Heard {
        loop {
            let heard = self.hear().await;
            if heard.head.starts_with(start) {
                return heard;
            }
        }
    }

    async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = soon("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    fn request(&self, method: &str, contact: SocketAddr, to_tag: &str, body: &[u8]) -> Vec<u8> {
        let local = self.local;
        let head = format!(
            "{method} sip:620@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{method}{};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@127.0.0.1>;tag=1\r\nTo: <sip:620@127.0.0.1>{to_tag}\r\n\
             Call-ID: {}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@{contact};transport=tcp>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
            to_tag.len(),
            local.port(),
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn invite(&self) -> Vec<u8> {
        self.request("INVITE", self.local, "", OFFER)
    }

    /// A 200 to a request that was heard.
    async fn ok(&mut self, request: &Heard) {
        let response = format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
            request.header("Via"),
            request.header("From"),
            request.header("To"),
            request.header("Call-ID"),
            request.header("CSeq"),
        );
        self.say(response).await;
    }
}

#[tokio::test]
async fn a_caller_over_tcp_is_answered_and_hangs_up() {
    let (agent, mut incoming, address) = agent().await;
    let caller = sipp(&["-sn", "uac", "-d", "20", "-m", "1"], &address.to_string());
    let mut dialog = next_call(&mut incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    assert_eq!(soon("the BYE", dialog.ended()).await, EndReason::ByPeer);
    succeeds(caller).await;
    assert_eq!(agent.counters().of(Counter::ConnectionsIn), 1);
}

#[tokio::test]
async fn our_bye_goes_over_the_callers_connection() {
    let (agent, mut incoming, address) = agent().await;
    let caller = sipp(&["-sf", &scenario("uac_bye_by_us"), "-m", "1"], &address.to_string());
    let mut dialog = next_call(&mut incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    soon("the ACK", dialog.event()).await;
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    succeeds(caller).await;
    assert_eq!(agent.counters().of(Counter::ConnectionsOut), 0);
}

#[tokio::test]
async fn a_hundred_calls_share_one_connection() {
    let mut options = options();
    options.max_calls = 100;
    let (agent, mut incoming) = agent_with(options).await;
    let address = agent.tcp_addr().unwrap().to_string();
    let caller = sipp(&["-sn", "uac", "-d", "20", "-m", "100", "-r", "50"], &address);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let call = next_call(&mut incoming).await;
        calls.spawn(async move { call.answer(ANSWER.to_vec()).await.unwrap().ended().await });
    }
    for reason in soon("the end of all calls", calls.join_all()).await {
        assert_eq!(reason, EndReason::ByPeer);
    }
    succeeds(caller).await;
    assert_eq!(agent.counters().of(Counter::ConnectionsIn), 1);
}

#[tokio::test]
async fn we_call_over_tcp() {
    let (agent, _incoming, _) = agent().await;
    let port = free_port();
    let callee = sipp(&["-sn", "uas", "-m", "1", "-p", &port.to_string()], "127.0.0.1");
    // SIPp says nothing when it listens.
    soon("sipp listening", async { while TcpStream::connect(("127.0.0.1", port)).await.is_err() {} }).await;
    let mut outgoing = agent.invite(&format!("sip:620@127.0.0.1:{port};transport=tcp"), OFFER.to_vec()).await.unwrap();
    let (mut dialog, _) = soon("the answer", outgoing.answered()).await.unwrap();
    assert_eq!(soon("the end", dialog.hang_up()).await, EndReason::ByUs);
    succeeds(callee).await;
    assert_eq!(agent.counters().of(Counter::ConnectionsOut), 1);
}

#[tokio::test]
async fn what_goes_over_tcp_shows_the_address_and_transport_of_tcp() {
    let (_agent, mut incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    peer.say(peer.invite()).await;
    let call = next_call(&mut incoming).await;
    let mut dialog = call.answer(ANSWER.to_vec()).await.unwrap();
    let ok = peer.hear_one("SIP/2.0 200").await;
    assert!(ok.header("Contact").contains(&format!("@{address};transport=tcp>")), "{}", ok.head);
    assert!(ok.header("Via").contains(&format!("{};branch", peer.local)), "{}", ok.head);
    let tag = ok.header("To").split_once(";tag=").unwrap().1.to_owned();
    peer.say(peer.request("ACK", peer.local, &format!(";tag={tag}"), b"")).await;
    soon("the ACK", dialog.event()).await;
    let ended = tokio::spawn(async move { dialog.hang_up().await });
    let bye = peer.hear_one("BYE ").await;
    assert!(bye.header("Via").starts_with(&format!("SIP/2.0/TCP {address};")), "{}", bye.head);
    assert!(bye.header("Via").contains(";rport"), "{}", bye.head);
    peer.ok(&bye).await;
    assert_eq!(soon("the end", ended).await.unwrap(), EndReason::ByUs);
}

#[tokio::test]
async fn a_bye_is_dialled_anew_when_the_callers_connection_is_gone() {
    let (agent, mut incoming, address) = agent().await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let contact = listener.local_addr().unwrap();
    let mut peer = Peer::connect(address).await;
    peer.say(peer.request("INVITE", contact, "", OFFER)).await;
    let mut dialog = next_call(&mut incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    let ok = peer.hear_one("SIP/2.0 200").await;
    let tag = ok.header("To").split_once(";tag=").unwrap().1.to_owned();
    peer.say(peer.request("ACK", contact, &format!(";tag={tag}"), b"")).await;
    soon("the ACK", dialog.event()).await;
    drop(peer);
    let ended = tokio::spawn(async move { dialog.hang_up().await });
    let (stream, _) = soon("a connection to the Contact", listener.accept()).await.unwrap();
    let mut peer = Peer::of(stream);
    let bye = peer.hear_one("BYE ").await;
    peer.ok(&bye).await;
    assert_eq!(soon("the end", ended).await.unwrap(), EndReason::ByUs);
    assert_eq!(agent.counters().of(Counter::ConnectionsOut), 1);
}

#[tokio::test]
async fn a_call_fails_at_once_when_its_connection_ends() {
    // Timers as in the field: nothing but the end of the connection can be as quick.
    let mut options = options();
    options.timers = Timers::default();
    let (agent, _incoming) = agent_with(options).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let uri = format!("sip:620@{};transport=tcp", listener.local_addr().unwrap());
    let mut outgoing = agent.invite(&uri, OFFER.to_vec()).await.unwrap();
    let mut peer = Peer::of(soon("a connection", listener.accept()).await.unwrap().0);
    peer.hear_one("INVITE ").await;
    let began = Instant::now();
    drop(peer);
    let error = soon("the failure", outgoing.answered()).await.unwrap_err();
    assert!(matches!(error, SipError::Refused { code: 503, .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(agent.counters().of(Counter::FlowFailed), 1);
}

#[tokio::test]
async fn a_refused_connection_fails_the_call_at_once() {
    let mut options = options();
    options.timers = Timers::default();
    let (agent, _incoming) = agent_with(options).await;
    let uri = format!("sip:620@127.0.0.1:{};transport=tcp", free_port());
    let began = Instant::now();
    let mut outgoing = agent.invite(&uri, OFFER.to_vec()).await.unwrap();
    soon("the failure", outgoing.answered()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_hebrew_name_is_read_over_tcp_as_over_udp() {
    let (agent, mut incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    let invite = peer.invite();
    let at = invite.windows(6).position(|six| six == b"From: ").unwrap() + 6;
    let mut hebrew = invite[..at].to_vec();
    hebrew.extend_from_slice(b"\"\xf9\xec\xe5\xed\" ");
    hebrew.extend_from_slice(&invite[at..]);
    peer.say(&hebrew).await;
    let call = next_call(&mut incoming).await;
    assert_eq!(call.caller.display.as_deref(), Some("\u{5e9}\u{5dc}\u{5d5}\u{5dd}"));
    assert_eq!(agent.counters().of(Counter::RepairedCharset), 1);
}

#[tokio::test]
async fn a_keepalive_is_answered_and_what_follows_it_is_read() {
    let (agent, _incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    peer.say("\r\n\r\n").await;
    let mut pong = [0; 2];
    soon("the pong", peer.stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"\r\n");
    let options = peer.request("OPTIONS", peer.local, "", b"");
    peer.say([&options[..], &options.replace_branch()].concat()).await;
    peer.hear_one("SIP/2.0 200").await;
    peer.hear_one("SIP/2.0 200").await;
    assert_eq!(agent.counters().of(Counter::Keepalive), 1);
}

/// The same request in another transaction.
trait ReplaceBranch {
    fn replace_branch(&self) -> Vec<u8>;
}

impl ReplaceBranch for Vec<u8> {
    fn replace_branch(&self) -> Vec<u8> {
        let text = String::from_utf8(self.clone()).unwrap();
        text.replace("z9hG4bK", "z9hG4bKother").replace("CSeq: 1", "CSeq: 2").into_bytes()
    }
}

#[tokio::test]
async fn a_request_without_content_length_gets_400_and_the_end() {
    let (agent, _incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    let request = String::from_utf8(peer.request("OPTIONS", peer.local, "", b"")).unwrap();
    peer.say(request.replace("Content-Length: 0\r\n", "")).await;
    let answer = peer.hear().await;
    assert!(answer.head.starts_with("SIP/2.0 400 Missing Content-Length"), "{}", answer.head);
    peer.is_closed().await;
    assert_eq!(agent.counters().of(Counter::Framing), 1);
}

#[tokio::test]
async fn a_body_that_is_too_long_gets_513_and_the_end_and_garbage_the_end() {
    let (agent, _incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    let request = String::from_utf8(peer.request("OPTIONS", peer.local, "", b"")).unwrap();
    peer.say(request.replace("Content-Length: 0", "Content-Length: 18446744073709551615")).await;
    let answer = peer.hear().await;
    assert!(answer.head.starts_with("SIP/2.0 513 "), "{}", answer.head);
    peer.is_closed().await;
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "\0\0\0\0"] {
        let mut peer = Peer::connect(address).await;
        peer.say(garbage).await;
        peer.is_closed().await;
    }
    assert_eq!(agent.counters().of(Counter::Framing), 4);
}

#[tokio::test]
async fn strangers_are_closed_before_anything_is_read() {
    let mut options = options();
    options.allowed_peers = vec!["192.0.2.0/24".parse().unwrap()];
    let (agent, _incoming) = agent_with(options).await;
    Peer::connect(agent.tcp_addr().unwrap()).await.is_closed().await;
    assert_eq!(agent.counters().of(Counter::RejectedConnection), 1);
}

#[tokio::test]
async fn connections_are_capped_in_all_and_per_address_and_the_places_come_back() {
    let mut options = options();
    options.max_connections = 10;
    options.allowed_peers = vec!["127.0.0.0/8".parse().unwrap()];
    let (agent, _incoming) = agent_with(options).await;
    let address = agent.tcp_addr().unwrap();
    let from = |last: u8| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        let mut peer = Peer::of(socket.connect(address).await.unwrap());
        // An answer shows that it has its place.
        peer.stream.write_all(b"\r\n\r\n").await.ok()?;
        let mut pong = [0; 2];
        let read = soon("an answer or the end", peer.stream.read_exact(&mut pong)).await;
        read.is_ok().then_some(peer)
    };
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(from(1).await.expect("one of eight"));
    }
    assert!(from(1).await.is_none(), "the ninth from one address");
    held.push(from(2).await.expect("another address"));
    held.push(from(3).await.expect("the tenth in all"));
    assert!(from(4).await.is_none(), "the eleventh in all");
    assert_eq!(agent.counters().of(Counter::ConnectionLimit), 2);
    held.clear();
    soon("the places back", async { while from(1).await.is_none() {} }).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_with_its_key() {
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let mut options = options();
    options.listen_tcp = taken.local_addr().ok();
    let error = UserAgent::start(options).await.unwrap_err().to_string();
    assert!(error.contains("sip.listen_tcp") && error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
}

/// An offer that makes an INVITE too large for a datagram.
fn large_offer() -> Vec<u8> {
    [OFFER, "a=x-filler:0123456789\r\n".repeat(70).as_bytes()].concat()
}

/// A UDP socket and a listener for TCP with the same port.
async fn same_ports() -> (tokio::net::UdpSocket, TcpListener) {
    loop {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        if let Ok(socket) = tokio::net::UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (socket, listener);
        }
    }
}

#[tokio::test]
async fn a_large_invite_goes_over_tcp_with_its_cancel() {
    let (agent, _incoming, _) = agent().await;
    let (socket, listener) = same_ports().await;
    let uri = format!("sip:620@{}", socket.local_addr().unwrap());
    let outgoing = agent.invite(&uri, large_offer()).await.unwrap();
    let mut peer = Peer::of(soon("a connection", listener.accept()).await.unwrap().0);
    let invite = peer.hear_one("INVITE ").await;
    assert!(invite.header("Via").starts_with("SIP/2.0/TCP "), "{}", invite.head);
    assert!(invite.header("Contact").contains(";transport=tcp>"), "{}", invite.head);
    let ringing = format!(
        "SIP/2.0 180 Ringing\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=2\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Content-Length: 0\r\n\r\n",
        invite.header("Via"),
        invite.header("From"),
        invite.header("To"),
        invite.header("Call-ID"),
        invite.header("CSeq")
    );
    peer.say(ringing).await;
    drop(outgoing);
    // Retransmissions have no place on a connection.
    let cancel = peer.hear().await;
    assert!(cancel.head.starts_with("CANCEL "), "{}", cancel.head);
    assert_eq!(cancel.header("Via"), invite.header("Via"));
    assert!(socket.try_recv(&mut [0; 10]).is_err(), "something went over UDP");
}

#[tokio::test]
async fn a_large_invite_goes_over_udp_when_tcp_is_refused_or_ends() {
    let (agent, _incoming, _) = agent().await;
    let mut buffer = vec![0; 65_536];
    // Refused.
    let (socket, listener) = same_ports().await;
    drop(listener);
    let uri = format!("sip:620@{}", socket.local_addr().unwrap());
    let _outgoing = agent.invite(&uri, large_offer()).await.unwrap();
    let length = soon("the INVITE", socket.recv(&mut buffer)).await.unwrap();
    assert!(length > 1300 && String::from_utf8_lossy(&buffer[..length]).contains("Via: SIP/2.0/UDP "));
    // Taken, and closed by something that is no SIP.
    let (socket, listener) = same_ports().await;
    let uri = format!("sip:620@{}", socket.local_addr().unwrap());
    let _outgoing = agent.invite(&uri, large_offer()).await.unwrap();
    drop(soon("a connection", listener.accept()).await.unwrap());
    soon("the INVITE", socket.recv(&mut buffer)).await.unwrap();
    assert!(buffer.starts_with(b"INVITE "));
}

/// Certificate and key for `name`, signed by themselves, as files.
struct Identity {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    fn of(name: &str) -> Self {
        let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, signed.cert.pem()).unwrap();
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        Self { _folder: folder, certificate, key }
    }

    fn serve(&self, options: &mut UserAgentOptions) {
        options.listen_tls = Some(ANY_PORT);
        options.tls_certificate_file = Some(self.certificate.clone());
        options.tls_key_file = Some(self.key.clone());
    }
}

#[tokio::test]
async fn two_agents_talk_over_tls() {
    let identity = Identity::of("127.0.0.1");
    let mut serving = options();
    identity.serve(&mut serving);
    let (callee, mut incoming) = agent_with(serving).await;
    let mut calling = options();
    calling.trunk_tls = vec![TlsSettings { ca_file: Some(identity.certificate.clone()), ..Default::default() }];
    let (caller, _none) = agent_with(calling).await;
    let uri = format!("sip:620@{};transport=tls", callee.tls_addr().unwrap());
    let mut outgoing = caller.invite(&uri, OFFER.to_vec()).await.unwrap();
    let mut answered = next_call(&mut incoming).await.answer(ANSWER.to_vec()).await.unwrap();
    let (mut dialog, sdp) = soon("the answer", outgoing.answered()).await.unwrap();
    assert_eq!(sdp, ANSWER);
    soon("the ACK", answered.event()).await;
    assert_eq!(soon("the end", answered.hang_up()).await, EndReason::ByUs);
    assert_eq!(soon("the end", dialog.ended()).await, EndReason::ByPeer);
    assert_eq!(caller.counters().of(Counter::ConnectionsOut), 1);
    assert_eq!(callee.counters().of(Counter::ConnectionsIn), 1);
    assert_eq!(callee.counters().of(Counter::ConnectionsOut), 0);
}

#[tokio::test]
async fn openssl_is_answered_however_the_bytes_are_split() {
    let identity = Identity::of("127.0.0.1");
    let mut serving = options();
    identity.serve(&mut serving);
    let (agent, _incoming) = agent_with(serving).await;
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-verify_ip", "127.0.0.1", "-CAfile"])
        .arg(&identity.certificate)
        .args(["-connect", &agent.tls_addr().unwrap().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl does not run: apt-get install openssl");
    let mut input = client.stdin.take().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    for number in 1..=3 {
        let request = format!(
            "OPTIONS sip:620@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5061;branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:620@127.0.0.1>\r\nCall-ID: openssl\r\n\
             CSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        // One byte, three bytes, nine bytes a record.
        for piece in request.as_bytes().chunks(3usize.pow(number - 1)) {
            input.write_all(piece).await.unwrap();
            input.flush().await.unwrap();
        }
        let mut answer = String::new();
        soon("the answer", async {
            while !answer.ends_with("\r\n\r\n") {
                assert!(output.read_line(&mut answer).await.unwrap() > 0, "the connection ended after {answer:?}");
            }
        })
        .await;
        assert!(answer.starts_with("SIP/2.0 200") && answer.contains(&format!("CSeq: {number} OPTIONS")), "{answer}");
    }
}

#[tokio::test]
async fn shutting_down_ends_the_connections() {
    let (agent, _incoming, address) = agent().await;
    let mut peer = Peer::connect(address).await;
    peer.say("\r\n\r\n").await;
    let mut pong = [0; 2];
    soon("the pong", peer.stream.read_exact(&mut pong)).await.unwrap();
    agent.shutdown().await;
    peer.is_closed().await;
    soon("the port free", async { while TcpStream::connect(address).await.is_ok() {} }).await;
}
