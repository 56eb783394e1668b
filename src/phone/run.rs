//! The phone's media thread: sends on an absolute 20 ms grid and reads what the kernel has stamped meanwhile.
//!
//! It does not wait on the socket: times of arrival are the kernel's, so reading once a ptime loses nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::oneshot;

use super::caller::{Caller, Talked};
use crate::media::realtime;
use crate::pcm::PTIME;
use crate::rtp::socket;
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol};
use crate::sdp::SrtpKeys;

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

/// Starts the thread; it ends when the caller hangs up or `over` is set. With keys it speaks SRTP.
pub fn start(
    socket: UdpSocket,
    remote: SocketAddr,
    keys: Option<SrtpKeys>,
    caller: Caller,
    over: Arc<AtomicBool>,
) -> io::Result<oneshot::Receiver<Outcome>> {
    let (done, outcome) = oneshot::channel();
    std::thread::Builder::new().name("phone-media".into()).spawn(move || {
        let mut srtp = keys.map(|keys| Protection::new(Protocol::Rtp, &keys));
        // Nobody waits any more: the call was dropped.
        let _ = done.send(talk(&socket, remote, &mut srtp, caller, &over));
    })?;
    Ok(outcome)
}

fn talk(
    socket: &UdpSocket,
    remote: SocketAddr,
    srtp: &mut Option<Protection>,
    mut caller: Caller,
    over: &AtomicBool,
) -> Outcome {
    let realtime = realtime::request(PRIORITY);
    let mut due = Instant::now();
    let hung_up = loop {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let now = Instant::now();
        caller.tick(due, now, |packet| {
            let mut buffer = [0; LONGEST_DATAGRAM + MAX_TRAILER_BYTES];
            buffer[..packet.len()].copy_from_slice(packet);
            let length = packet.len();
            // A packet that cannot be sent is lost, as on any line.
            if let Ok(length) = srtp.as_mut().map_or(Ok(length), |srtp| srtp.protect(&mut buffer, length)) {
                let _ = socket.send_to(&buffer[..length], remote);
            }
        });
        read(socket, remote, srtp, &mut caller);
        if !caller.stay(Instant::now()) {
            break true;
        }
        if over.load(Ordering::Relaxed) {
            break false;
        }
        due += PTIME;
    };
    read(socket, remote, srtp, &mut caller);
    Outcome { talked: caller.finish(Instant::now()), realtime, hung_up }
}

fn read(socket: &UdpSocket, remote: SocketAddr, srtp: &mut Option<Protection>, caller: &mut Caller) {
    let mut buffer = [0; LONGEST_DATAGRAM];
    for _ in 0..READS {
        match socket::receive(socket, &mut buffer) {
            Ok(Some((length, from, at))) => {
                let packet = &mut buffer[..length];
                match srtp.as_mut().map_or(Ok(length), |srtp| srtp.unprotect(packet)) {
                    Ok(length) if from.ip() == remote.ip() => caller.receive(at, &packet[..length]),
                    _ => caller.unusable(),
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}
