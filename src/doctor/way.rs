//! How a question gets to a server and its answer back: one UDP socket for all of them, so that its NAT can be seen; a connection for
//! each over TCP and TLS.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::sip::{Answer, ByteStream, Probe, branch_of};

/// When a request over UDP is sent again (RFC 3261 §17.1.2.1), after the time before.
const RETRANSMISSIONS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2500)];
/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for an answer on a connection.
const ANSWER: Duration = Duration::from_secs(3);
/// A longer answer is none.
const LONGEST_BYTES: usize = 65_536;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// Nothing came for so long.
    NoAnswer(Duration),
    /// The host is there, and nothing listens.
    Refused,
    /// The system, or the other side, ended it.
    Failed(String),
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Failed(error.to_string()),
        }
    }
}

type Waiting = Arc<Mutex<HashMap<String, mpsc::Sender<Vec<u8>>>>>;

/// The UDP socket that all questions leave from.
#[derive(Debug, Clone)]
pub(super) struct UdpLine(Result<Arc<Line>, String>);

#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    waiting: Waiting,
    receiving: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

impl UdpLine {
    /// A free port on the address that the service listens on.
    pub(super) async fn open(address: IpAddr) -> Self {
        let open = async {
            let socket = Arc::new(UdpSocket::bind((address, 0)).await?);
            let local = socket.local_addr()?;
            let waiting = Waiting::default();
            let receiving = tokio::spawn(receive(socket.clone(), waiting.clone()));
            io::Result::Ok(Arc::new(Line { socket, local, waiting, receiving }))
        };
        Self(open.await.map_err(|error| format!("no UDP port on {address}: {error}")))
    }
}

/// Gives each answer to who asked.
async fn receive(socket: Arc<UdpSocket>, waiting: Waiting) {
    let mut buffer = vec![0; LONGEST_BYTES];
    loop {
        // An error belongs to a datagram that could not be delivered; its sender waits in vain.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = &buffer[..length];
        let asker = branch_of(bytes)
            .and_then(|branch| waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&branch).cloned());
        if let Some(asker) = asker {
            let _ = asker.try_send(bytes.to_vec());
        }
    }
}

/// The way to one server.
pub(super) enum Way {
    Udp { line: Arc<Line>, target: SocketAddr, local: SocketAddr },
    Stream { stream: Box<dyn ByteStream>, local: SocketAddr, read: Vec<u8> },
}

impl Way {
    pub(super) fn udp(line: &UdpLine, target: SocketAddr) -> Result<Self, Silence> {
        let line = line.0.clone().map_err(Silence::Failed)?;
        let port = line.local.port();
        if line.local.is_ipv4() != target.is_ipv4() {
            let family = if target.is_ipv4() { "IPv6" } else { "IPv4" };
            return Err(Silence::Failed(format!("not asked: the box listens on {family} alone")));
        }
        let mut local = line.local;
        if local.ip().is_unspecified() {
            // Nothing is sent: the system only says where it would leave from.
            let route = std::net::UdpSocket::bind(SocketAddr::new(local.ip(), 0))?;
            route.connect(target)?;
            local = SocketAddr::new(route.local_addr()?.ip(), port);
        }
        Ok(Self::Udp { line, target, local })
    }

    pub(super) async fn tcp(target: SocketAddr) -> Result<TcpStream, Silence> {
        let connected = timeout(CONNECT, TcpStream::connect(target)).await;
        Ok(connected.map_err(|_| Silence::NoAnswer(CONNECT))??)
    }

    pub(super) fn stream(stream: impl ByteStream + 'static, local: SocketAddr) -> Self {
        Self::Stream { stream: Box::new(stream), local, read: Vec::new() }
    }

    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::Udp { local, .. } | Self::Stream { local, .. } => *local,
        }
    }

    /// Asks, and waits for the final answer and how long it took.
    pub(super) async fn ask(&mut self, probe: &mut Probe) -> Result<(Answer, Duration), Silence> {
        let request = probe.request(self.local());
        let asked = Instant::now();
        let answer = match self {
            Self::Udp { line, target, .. } => {
                let (give, mut answers) = mpsc::channel(8);
                let branch = probe.branch().to_owned();
                line.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(branch.clone(), give);
                let answer = over_udp(&line.socket, *target, &request, probe, &mut answers).await;
                line.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&branch);
                answer?
            }
            Self::Stream { stream, read, .. } => {
                let exchange = over_stream(stream.as_mut(), read, &request, probe);
                timeout(ANSWER, exchange).await.map_err(|_| Silence::NoAnswer(ANSWER))??
            }
        };
        Ok((answer, asked.elapsed()))
    }
}

async fn over_udp(
    socket: &UdpSocket,
    target: SocketAddr,
    request: &[u8],
    probe: &Probe,
    answers: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<Answer, Silence> {
    for wait in RETRANSMISSIONS {
        socket.send_to(request, target).await?;
        let answer = async {
            loop {
                let bytes = answers.recv().await?;
                if let Some(answer) = probe.answer(&bytes) {
                    return Some(answer);
                }
            }
        };
        if let Ok(Some(answer)) = timeout(wait, answer).await {
            return Ok(answer);
        }
    }
    // A connected socket hears of a closed port (ICMP), which the shared one does not.
    let own = UdpSocket::bind(SocketAddr::new(socket.local_addr()?.ip(), 0)).await?;
    own.connect(target).await?;
    own.send(b"\r\n\r\n").await?;
    match timeout(Duration::from_millis(300), own.recv(&mut [0; 64])).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(Silence::Refused),
        _ => Err(Silence::NoAnswer(RETRANSMISSIONS.iter().sum())),
    }
}

async fn over_stream(
    stream: &mut dyn ByteStream,
    read: &mut Vec<u8>,
    request: &[u8],
    probe: &Probe,
) -> Result<Answer, Silence> {
    stream.write_all(request).await?;
    stream.flush().await?;
    loop {
        while let Some(length) = message_length(read) {
            let message: Vec<u8> = read.drain(..length).collect();
            if let Some(answer) = probe.answer(&message) {
                return Ok(answer);
            }
        }
        if read.len() > LONGEST_BYTES {
            return Err(Silence::Failed("what came back is not SIP".into()));
        }
        if stream.read_buf(read).await? == 0 {
            return Err(Silence::Failed("the server closed the connection".into()));
        }
    }
}

/// The length of the first message (RFC 3261 §18.3), when all of it is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]);
    let body = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim();
        let named = name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("l");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head.saturating_add(body.unwrap_or(0))).filter(|length| *length <= bytes.len())
}
