//! The phone's media thread: sends on an absolute 20 ms grid and reads what the kernel has stamped meanwhile.
//!
//! It does not wait on the socket: times of arrival are the kernel's, so reading once a ptime loses nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::caller::{Caller, Talked};
use crate::media::realtime;
use crate::pcm::PTIME;
use crate::rtp::socket;
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol};
use crate::sdp::{Negotiated, SrtpKeys};

/// Below the appliance's media thread (50), above everything else: a phone on the same machine must not disturb what it measures, and
/// packets are stamped by the kernel when they arrive, not when they are read.
const PRIORITY: u8 = 40;
/// Datagrams read in one ptime at most, lest a flood keep the phone from speaking.
const READS: usize = 256;
/// Longest datagram that is looked at, or sent.
const LONGEST_DATAGRAM: usize = 2048;

/// What the thread leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// What was said and heard.
    pub talked: Talked,
    /// Whether real-time scheduling was granted.
    pub realtime: bool,
    /// Whether the caller ended the call, not the other side.
    pub hung_up: bool,
}

/// The sockets of a call, and where they send to.
#[derive(Debug)]
pub struct Wires {
    /// The sound's.
    pub rtp: UdpSocket,
    /// RTCP's.
    pub rtcp: UdpSocket,
    /// Where the sound goes.
    pub remote: SocketAddr,
    /// Where RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// The keys of SRTP, if it is spoken.
    pub keys: Option<SrtpKeys>,
}

impl Wires {
    /// A pair of sockets for what was agreed on.
    pub fn new((rtp, rtcp): (UdpSocket, UdpSocket), agreed: &Negotiated) -> Self {
        Self { rtp, rtcp, remote: agreed.remote, remote_rtcp: agreed.remote_rtcp, keys: agreed.srtp }
    }
}

/// Starts the thread; it ends when the caller hangs up or `over` is set.
pub fn start(wires: Wires, caller: Caller, over: Arc<AtomicBool>) -> io::Result<oneshot::Receiver<Outcome>> {
    let (done, outcome) = oneshot::channel();
    std::thread::Builder::new().name("phone-media".into()).spawn(move || {
        // Nobody waits any more: the call was dropped.
        let _ = done.send(talk(&wires, caller, &over));
    })?;
    Ok(outcome)
}

fn talk(wires: &Wires, mut caller: Caller, over: &AtomicBool) -> Outcome {
    let protection = |protocol| wires.keys.as_ref().map(|keys| Protection::new(protocol, keys));
    let (mut srtp, mut srtcp) = (protection(Protocol::Rtp), protection(Protocol::Rtcp));
    let realtime = realtime::request(PRIORITY);
    let mut due = Instant::now();
    let hung_up = loop {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let now = Instant::now();
        caller.tick(due, now, |packet| send(&wires.rtp, wires.remote, &mut srtp, packet));
        if let Some(report) = caller.rtcp_report(now, SystemTime::now()) {
            send(&wires.rtcp, wires.remote_rtcp, &mut srtcp, &report);
        }
        read(&wires.rtp, wires.remote, &mut srtp, &mut caller, Caller::receive);
        read(&wires.rtcp, wires.remote, &mut srtcp, &mut caller, |caller, at, packet| {
            let wall = SystemTime::now();
            caller.receive_rtcp(at, wall.checked_sub(at.elapsed()).unwrap_or(wall), packet);
        });
        if !caller.stay(Instant::now()) {
            break true;
        }
        if over.load(Ordering::Relaxed) {
            break false;
        }
        due += PTIME;
    };
    read(&wires.rtp, wires.remote, &mut srtp, &mut caller, Caller::receive);
    Outcome { talked: caller.finish(Instant::now()), realtime, hung_up }
}

/// A packet that cannot be sent is lost, as on any line.
fn send(socket: &UdpSocket, remote: SocketAddr, srtp: &mut Option<Protection>, packet: &[u8]) {
    let mut buffer = [0; LONGEST_DATAGRAM + MAX_TRAILER_BYTES];
    let length = packet.len();
    buffer[..length].copy_from_slice(packet);
    if let Ok(length) = srtp.as_mut().map_or(Ok(length), |srtp| srtp.protect(&mut buffer, length)) {
        let _ = socket.send_to(&buffer[..length], remote);
    }
}

fn read(
    socket: &UdpSocket,
    remote: SocketAddr,
    srtp: &mut Option<Protection>,
    caller: &mut Caller,
    mut take: impl FnMut(&mut Caller, Instant, &[u8]),
) {
    let mut buffer = [0; LONGEST_DATAGRAM];
    for _ in 0..READS {
        match socket::receive(socket, &mut buffer) {
            Ok(Some((length, from, at))) => {
                let packet = &mut buffer[..length];
                match srtp.as_mut().map_or(Ok(length), |srtp| srtp.unprotect(packet)) {
                    Ok(length) if from.ip() == remote.ip() => take(caller, at, &packet[..length]),
                    _ => caller.unusable(),
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}
