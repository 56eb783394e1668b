//! The figures of docs/line.md: what the telephone side takes on, loses and costs. Prints one Markdown table a part.
//!
//! `cargo bench --bench line` runs all parts (about a quarter of an hour, ten minutes of it the soak); `-- rate`, `latency`, `loss`, `failover`,
//! `flood`, `hang-up`, `soak` one of them. Needs sipp. Everything stays on loopback; the user agent measured is a process of its own with one
//! worker thread, and in `flood` it is `offhook run`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use offhook::config::{Transport, Trunk};
use offhook::sip::{Dial, OutgoingTrunk, UserAgent, UserAgentOptions};
use offhook::timeline::Percentiles;

const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "--answer") {
        return answer(&arguments[1..]);
    }
    let all = arguments.is_empty();
    let part = |name: &str| all || arguments.iter().any(|argument| argument == name);
    println!("| figure | goal | measured |\n|---|---|---|");
    if part("rate") {
        rate(Duration::from_secs(60));
    }
    if part("latency") {
        latency(400);
    }
    if part("loss") {
        loss(10);
        loss(30);
    }
    if part("hang-up") {
        hang_up(200);
    }
    if part("failover") {
        [Transport::Udp, Transport::Tcp].into_iter().for_each(failover);
    }
    if part("flood") {
        ["garbage", "OPTIONS", "INVITE"].into_iter().for_each(|kind| flood(kind, Duration::from_secs(30)));
    }
    if part("soak") {
        soak(Duration::from_secs(600));
    }
}

/// The measured side: a user agent on one worker thread that answers every call at once. With `bye` it hangs up at once, too, and prints when
/// it decided to (microseconds on the monotonic clock).
fn answer(arguments: &[String]) {
    let hang_up = arguments.iter().any(|argument| argument == "bye");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (agent, mut incoming) = runtime.block_on(async {
        let mut options = UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.max_calls = 4000;
        options.max_calls_per_second = 1000;
        UserAgent::start(options).await.expect("the user agent starts")
    });
    println!("listening {}", agent.local_addr().port());
    runtime.block_on(async move {
        while let Some(call) = incoming.recv().await {
            tokio::spawn(async move {
                call.ring();
                let Ok(mut dialog) = call.answer(ANSWER.into()).await else { return };
                if hang_up {
                    // The ACK has come.
                    dialog.event().await;
                    println!("bye {}", monotonic_us());
                    dialog.hang_up().await;
                } else {
                    dialog.ended().await;
                }
            });
        }
    });
}

fn monotonic_us() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u128 * 1_000_000 + now.tv_nsec as u128 / 1000
}

/// A child that ends with us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Processor time in seconds, resident memory in MB.
    fn cost(&self) -> (f64, f64) {
        let pid = self.0.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kb = line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0);
        ((ticks(11) + ticks(12)) / 100.0, kb / 1024.0)
    }
}

/// Starts the measured side; its process, port, and what it says from then on.
fn agent(mode: &[&str]) -> (Process, u16, std::sync::mpsc::Receiver<String>) {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.arg("--answer").args(mode).stdout(Stdio::piped());
    let mut child = Process(command.spawn().expect("the bench starts itself"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix("listening ")?.parse().ok()).expect("it says its port");
    let (said_in, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.for_each(|line| drop(said_in.send(line))));
    (child, port, said)
}

/// What sipp counted.
#[derive(Debug, Default)]
struct Counted {
    succeeded: u64,
    failed: u64,
    retransmissions: u64,
}

/// sipp's built-in caller against `port`.
fn sipp(port: u16, calls: u64, rate: u64, more: &[&str]) -> Counted {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let statistics = folder.path().join("statistics.csv");
    let mut command = Command::new("sipp");
    command
        .args(["-sn", "uac", "-nostdin", "-d", "100", "-i", "127.0.0.1", "-trace_stat", "-l", "4000"])
        .args(["-m", &calls.to_string(), "-r", &rate.to_string(), "-stf"])
        .arg(&statistics)
        .args(more)
        .arg(format!("127.0.0.1:{port}"))
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = command.status().expect("sipp runs (Debian: sip-tester)");
    let text = std::fs::read_to_string(&statistics).unwrap_or_default();
    let names: Vec<&str> = text.lines().next().unwrap_or_default().split(';').collect();
    let last: Vec<&str> = text.lines().last().unwrap_or_default().split(';').collect();
    let of = |name: &str| {
        let at = names.iter().position(|other| *other == name);
        at.and_then(|at| last.get(at)?.parse().ok()).unwrap_or(u64::MAX)
    };
    Counted {
        succeeded: of("SuccessfulCall(C)"),
        failed: of("FailedCall(C)"),
        retransmissions: of("Retransmissions(C)"),
    }
}

fn row(name: &str, goal: &str, measured: impl std::fmt::Display) {
    println!("| {name} | {goal} | {measured} |");
    let _ = std::io::stdout().flush();
}

fn rate(duration: Duration) {
    let (process, port, _) = agent(&[]);
    let (before, _) = process.cost();
    let calls = 200 * duration.as_secs();
    let counted = sipp(port, calls, 200, &[]);
    let (after, rss) = process.cost();
    let Counted { succeeded, failed, retransmissions } = counted;
    row(
        &format!("200 calls/s for {} s on one worker", duration.as_secs()),
        "all, 0 retransmits",
        format!("{succeeded} answered, {failed} failed, {retransmissions} retransmits, {rss:.0} MB"),
    );
    row("processor time a call, signalling", "≤ 1 ms", format!("{:.2} ms", (after - before) * 1e3 / succeeded as f64));
}

fn loss(percent: u64) {
    let (_process, port, _) = agent(&[]);
    let counted = sipp(port, 400, 20, &["-lost", &percent.to_string()]);
    let goal = if percent <= 10 { "100 %" } else { "≥ 99 %" };
    let share = counted.succeeded as f64 / 4.0;
    row(
        &format!("400 calls at {percent} % packet loss"),
        goal,
        format!("{share:.2} % ({} retransmits)", counted.retransmissions),
    );
}

/// One call's requests, as a plain caller writes them.
struct Caller {
    socket: UdpSocket,
    box_address: SocketAddr,
    number: u64,
}

impl Caller {
    fn new(local: [u8; 4], port: u16) -> Self {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::from(local), 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Self { socket, box_address: SocketAddr::from(([127, 0, 0, 1], port)), number: 0 }
    }

    fn request(&self, method: &str, sequence: &str, tag: &str, body: &str) -> String {
        let (me, number) = (self.socket.local_addr().expect("bound"), self.number);
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let sequence_number = sequence.split(' ').next().unwrap_or_default();
        format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {me};rport;branch=z9hG4bK-{number}-{sequence_number}-{method}\r\n\
             From: <sip:bench@{me}>;tag=b{number}\r\nTo: <sip:620@{to}>{tag}\r\nCall-ID: {number}@{me}\r\nCSeq: {sequence}\r\n\
             Contact: <sip:bench@{me}>\r\nMax-Forwards: 70\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len(),
            to = self.box_address,
        )
    }

    fn send(&self, message: &str) {
        self.socket.send_to(message.as_bytes(), self.box_address).expect("loopback takes it");
    }

    /// The next message of this call that begins so, and when it came; others are passed over.
    fn expect(&self, start: &str) -> (String, Instant) {
        let mut buffer = [0; 8192];
        let call_id = format!("Call-ID: {}@", self.number);
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{start} did not come: {error}"));
            let at = Instant::now();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(start) && message.contains(&call_id) {
                return (message, at);
            }
        }
    }

    fn tag_of(response: &str) -> String {
        let to = response.lines().find(|line| line.to_ascii_lowercase().starts_with("to:")).unwrap_or_default();
        to.split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).unwrap_or_default()
    }

    /// Replies 200 to a request.
    fn ok(&self, request: &str) {
        let copied = ["via:", "from:", "to:", "call-id:", "cseq:"];
        let lines =
            request.lines().filter(|line| copied.iter().any(|name| line.to_ascii_lowercase().starts_with(name)));
        let head: String = lines.map(|line| format!("{line}\r\n")).collect();
        self.send(&format!("SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n"));
    }
}

fn percentiles(values: Vec<f64>) -> String {
    Percentiles::of(values)
        .map_or("–".into(), |p| format!("p50 {:.2} / p99 {:.2} / max {:.2} ms", p.p50, p.p99, p.max))
}

fn latency(calls: u64) {
    let (_process, port, _) = agent(&[]);
    let mut caller = Caller::new([127, 0, 0, 1], port);
    let (mut trying, mut answered) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    for number in 0..calls {
        let due = begin + Duration::from_millis(50) * u32::try_from(number).unwrap_or(0);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        caller.number = number;
        let invite = caller.request("INVITE", "1 INVITE", "", ANSWER);
        let sent = Instant::now();
        caller.send(&invite);
        let ms = |at: Instant| at.duration_since(sent).as_secs_f64() * 1e3;
        // When the call rings at once, 180 may come in place of 100.
        trying.push(ms(caller.expect("SIP/2.0 1").1));
        let (response, at) = caller.expect("SIP/2.0 200");
        answered.push(ms(at));
        let tag = Caller::tag_of(&response);
        caller.send(&caller.request("ACK", "1 ACK", &tag, ""));
        caller.send(&caller.request("BYE", "2 BYE", &tag, ""));
        caller.expect("SIP/2.0 200");
    }
    row("INVITE to 100 (or 180), 20 calls/s", "p99 ≤ 10 ms", percentiles(trying));
    row("INVITE to 200, 20 calls/s", "p99 ≤ 50 ms", percentiles(answered));
}

fn hang_up(calls: u64) {
    let (_process, port, said) = agent(&["bye"]);
    let mut caller = Caller::new([127, 0, 0, 1], port);
    let mut took = Vec::new();
    for number in 0..calls {
        caller.number = number;
        caller.send(&caller.request("INVITE", "1 INVITE", "", ANSWER));
        let (response, _) = caller.expect("SIP/2.0 200");
        caller.send(&caller.request("ACK", "1 ACK", &Caller::tag_of(&response), ""));
        let (bye, _) = caller.expect("BYE ");
        let came = monotonic_us();
        caller.ok(&bye);
        let line = said.recv_timeout(Duration::from_secs(5)).expect("it says when it decided");
        let decided: u128 = line.strip_prefix("bye ").and_then(|us| us.parse().ok()).expect("microseconds");
        took.push(came.saturating_sub(decided) as f64 / 1e3);
    }
    row("hang-up by us to BYE at the peer", "≤ 5 ms", percentiles(took));
}

/// From the order to call until the INVITE is at the second server, the first one being there and silent: a socket that nobody reads.
fn failover(transport: Transport) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let any = ("127.0.0.1", 0);
    let (silent, live) = (UdpSocket::bind(any).expect("a socket"), UdpSocket::bind(any).expect("a socket"));
    let (silent_tcp, live_tcp) = (TcpListener::bind(any).expect("a socket"), TcpListener::bind(any).expect("a socket"));
    let ports = match transport {
        Transport::Udp => [&silent, &live].map(|socket| socket.local_addr().expect("bound").port()),
        _ => [&silent_tcp, &live_tcp].map(|listener| listener.local_addr().expect("bound").port()),
    };
    let servers = ports.iter().zip(1..).map(|(port, rank)| format!("127.0.0.1:{port};priority={rank}")).collect();
    let trunk = Trunk { domain: "bench.invalid".into(), user: "620".into(), servers, transport, ..Trunk::default() };
    let (name, goal) = if transport == Transport::Udp { ("UDP", "≤ 8 s") } else { ("TCP", "≤ 4 s") };
    let took = runtime.block_on(async {
        let (agent, _incoming) =
            UserAgent::start(UserAgentOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)))).await.expect("it starts");
        agent.add_trunk(OutgoingTrunk::new("bench", &trunk, None).expect("a trunk"));
        let dial = Dial { to: "1".into(), trunk: Some("bench".into()), offer: ANSWER.into(), ..Dial::default() };
        let begin = Instant::now();
        let _call = agent.dial(dial).await.expect("it is placed");
        tokio::task::spawn_blocking(move || {
            live.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            let mut buffer = [0; 4096];
            match transport {
                Transport::Udp => live.recv(&mut buffer).is_ok(),
                _ => live_tcp.accept().is_ok_and(|(mut stream, _)| stream.read(&mut buffer).is_ok()),
            }
            .then(|| begin.elapsed())
        })
        .await
        .expect("it waits")
    });
    drop((silent, silent_tcp));
    row(
        &format!("failover of a call over {name}, first server silent"),
        goal,
        took.map_or("never".into(), |took| format!("{:.2} s", took.as_secs_f64())),
    );
}

fn soak(duration: Duration) {
    let (process, port, _) = agent(&[]);
    let done = Arc::new(AtomicBool::new(false));
    let caller = {
        let (done, calls) = (done.clone(), 50 * duration.as_secs());
        std::thread::spawn(move || {
            let counted = sipp(port, calls, 50, &[]);
            done.store(true, Relaxed);
            counted
        })
    };
    let begin = Instant::now();
    let mut resident = Vec::new();
    while !done.load(Relaxed) {
        std::thread::sleep(Duration::from_secs(5));
        // Finished transactions are kept for 32 s: it is full only after that.
        if begin.elapsed() > Duration::from_secs(60) && !done.load(Relaxed) {
            resident.push(process.cost().1);
        }
    }
    let counted = caller.join().expect("sipp ran");
    let least = resident.iter().copied().fold(f64::INFINITY, f64::min);
    let most = resident.iter().copied().fold(0.0, f64::max);
    let (first, last) = (resident.first().copied().unwrap_or(0.0), resident.last().copied().unwrap_or(0.0));
    row(
        &format!("memory over {} min at 50 calls/s", duration.as_secs() / 60),
        "flat, ± 5 %",
        format!("{least:.1} to {most:.1} MB (first {first:.1}, last {last:.1}); {} failed", counted.failed),
    );
}

/// A registrar that says 200 to every REGISTER and remembers when it came.
fn registrar(expires: u64) -> (u16, Arc<std::sync::Mutex<Vec<Instant>>>) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    let port = socket.local_addr().expect("bound").port();
    let seen: Arc<std::sync::Mutex<Vec<Instant>>> = Arc::default();
    let remembered = seen.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !request.starts_with("REGISTER ") {
                continue;
            }
            remembered.lock().expect("not poisoned").push(Instant::now());
            let copied = ["via:", "from:", "to:", "call-id:", "cseq:", "contact:"];
            let lines =
                request.lines().filter(|line| copied.iter().any(|name| line.to_ascii_lowercase().starts_with(name)));
            let head: String = lines.map(|line| format!("{line}\r\n")).collect();
            let response = format!("SIP/2.0 200 OK\r\n{head}Expires: {expires}\r\nContent-Length: 0\r\n\r\n");
            let _ = socket.send_to(response.as_bytes(), from);
        }
    });
    (port, seen)
}

/// `offhook run`, registered and with a call up, while somebody sends 40,000 packets a second at it.
fn flood(kind: &str, duration: Duration) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (registrar, registrations) = registrar(60);
    let (process, port) = appliance(folder.path(), registrar);
    // The caller is an allowed peer, and so is who floods, from another address.
    let caller = Caller::new([127, 0, 0, 3], port);
    let media = UdpSocket::bind(("127.0.0.3", 0)).expect("a socket");
    let offer = ANSWER
        .replace("127.0.0.1", "127.0.0.3")
        .replace("audio 9", &format!("audio {}", media.local_addr().expect("bound").port()));
    caller.send(&caller.request("INVITE", "1 INVITE", "", &offer));
    let (response, _) = caller.expect("SIP/2.0 200");
    caller.send(&caller.request("ACK", "1 ACK", &Caller::tag_of(&response), ""));
    let media_port = response.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let media_port: u16 = media_port.expect("the answer has a port");
    let over = Arc::new(AtomicBool::new(false));
    let heard = listen_and_talk(media, media_port, over.clone());
    std::thread::sleep(Duration::from_secs(2));
    let before = process.cost().1;
    let registered_before = registrations.lock().expect("not poisoned").len();
    let sent = send_flood(kind, port, duration);
    let after = process.cost().1;
    over.store(true, Relaxed);
    let (packets, missing) = heard.join().expect("the talker ran");
    let times = registrations.lock().expect("not poisoned").clone();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    row(
        &format!("{:.0} packets/s of {kind} for {} s", sent as f64 / duration.as_secs_f64(), duration.as_secs()),
        "≤ +20 MB, no RTP lost, no refresh missed",
        format!(
            "{:+.1} MB ({before:.1} → {after:.1}); {packets} packets from the box, {missing} missing; {} refreshes meanwhile, longest gap {:.0} s of 60",
            after - before,
            times.len() - registered_before,
            longest.as_secs_f64()
        ),
    );
}

fn appliance(folder: &Path, registrar: u16) -> (Process, u16) {
    let config = folder.join("offhook.toml");
    let text = format!(
        "[sip]\nlisten = \"127.0.0.1:0\"\nallowed_peers = [\"127.0.0.2\", \"127.0.0.3\"]\n[gemini]\nbase_url = \"http://127.0.0.1:9\"\n\
         [conversation]\ngreeting = false\n[trunk.bench]\ndomain = \"127.0.0.1\"\nregistrar = \"127.0.0.1:{registrar}\"\nuser = \"620\"\n\
         expires_s = 60\nkeepalive = \"off\"\n"
    );
    std::fs::write(&config, text).expect("the temporary folder takes a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    command.args(["run", "--config"]).arg(&config).env("OFFHOOK_LOG", "info").stderr(Stdio::piped());
    let mut child = Process(command.spawn().expect("offhook starts"));
    let mut lines = BufReader::new(child.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let port = lines
        .by_ref()
        .find_map(|line| line.split_once("sip=127.0.0.1:")?.1.split_whitespace().next()?.parse().ok())
        .expect("it says where it listens");
    std::thread::spawn(move || lines.for_each(drop));
    (child, port)
}

/// Sends a packet of silence every 20 ms and counts what comes: packets, and sequence numbers that did not.
fn listen_and_talk(media: UdpSocket, port: u16, over: Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, u64)> {
    let ear = media.try_clone().expect("a second handle");
    ear.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let talking = over.clone();
    std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0u16.. {
            if talking.load(Relaxed) {
                return;
            }
            let mut packet = [0xff; 172];
            packet[..12].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
            packet[2..4].copy_from_slice(&number.to_be_bytes());
            packet[4..8].copy_from_slice(&(u32::from(number) * 160).to_be_bytes());
            let _ = media.send_to(&packet, ("127.0.0.1", port));
            let due = begin + Duration::from_millis(20) * (u32::from(number) + 1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    std::thread::spawn(move || {
        let (mut packets, mut missing, mut expected) = (0, 0, None::<u16>);
        let mut buffer = [0; 2048];
        while !over.load(Relaxed) {
            let Ok(length) = ear.recv(&mut buffer) else { continue };
            if length < 12 {
                continue;
            }
            let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
            missing += expected.map_or(0, |expected| u64::from(sequence.wrapping_sub(expected)));
            expected = Some(sequence.wrapping_add(1));
            packets += 1;
        }
        (packets, missing)
    })
}

/// 40,000 packets a second from an allowed peer, as evenly as it goes; how many left.
fn send_flood(kind: &str, port: u16, duration: Duration) -> u64 {
    let sent = AtomicU64::new(0);
    let mut source = Caller::new([127, 0, 0, 2], port);
    source.socket.set_nonblocking(true).expect("non-blocking");
    let begin = Instant::now();
    let mut answers = [0; 2048];
    while begin.elapsed() < duration {
        let due = (begin.elapsed().as_secs_f64() * 40_000.0) as u64;
        while sent.load(Relaxed) < due {
            source.number = sent.fetch_add(1, Relaxed) + 1;
            let packet = match kind {
                "garbage" => format!("{:x}", source.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(12),
                "OPTIONS" => source.request("OPTIONS", "1 OPTIONS", "", ""),
                _ => source.request("INVITE", "1 INVITE", "", ANSWER),
            };
            let _ = source.socket.send_to(packet.as_bytes(), source.box_address);
            // Answers must not pile up in the kernel.
            let _ = source.socket.recv(&mut answers);
        }
        std::thread::sleep(Duration::from_micros(250));
    }
    sent.load(Relaxed)
}
