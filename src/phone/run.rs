//! The phones' media thread: each phone sends on its own absolute grid of 20 ms and reads what the kernel has stamped meanwhile.
//!
//! Phones of one process share a thread, however many they are: a thread each at real-time priority would take the processor from the box
//! that they measure, when both are on one machine. It does not wait on the sockets: times of arrival are the kernel's, so reading once a
//! ptime loses nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use super::caller::{Caller, Talked};
use crate::media::realtime;
use crate::pcm::PTIME;
use crate::rtp::socket;
use crate::rtp::srtp::{MAX_TRAILER_BYTES, Protection, Protocol};
use crate::sdp::{Negotiated, SrtpKeys};

/// Below the appliance's media thread (50), above everything else: a phone on the same machine must not disturb what it measures, and
/// packets are stamped by the kernel when they arrive, not when they are read.
const PRIORITY: u8 = 40;
/// Datagrams read in one ptime at most, lest a flood keep the phones from speaking.
const READS: usize = 256;
/// Longest datagram that is looked at, or sent.
const LONGEST_DATAGRAM: usize = 2048;
/// From the phase of one phone within the ptime to that of the next, as a part of the ptime: by the golden section any number of them in a
/// row is spread evenly.
const PHASE_STEP: f64 = 0.618_033_988_749_895;

/// What a call leaves behind.
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

/// A thread that speaks and hears for any number of phones. It ends when this is dropped and the last of its calls is over.
#[derive(Debug)]
pub struct PhoneThread(Sender<Box<Phone>>);

impl PhoneThread {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says when it has no thread.
    pub fn start() -> io::Result<Self> {
        let (phones_in, phones_out) = channel();
        std::thread::Builder::new().name("phone-media".into()).spawn(move || run(&phones_out))?;
        Ok(Self(phones_in))
    }

    /// Talks on a line until the caller hangs up or `over` is set.
    pub fn talk(&self, wires: Wires, caller: Caller, over: Arc<AtomicBool>) -> Talking {
        let (done, ended) = oneshot::channel();
        let protection = |protocol| wires.keys.as_ref().map(|keys| Protection::new(protocol, keys));
        let (srtp, srtcp) = (protection(Protocol::Rtp), protection(Protocol::Rtcp));
        let phone = Phone { due: Instant::now(), caller, wires, srtp, srtcp, over, done };
        // The thread outlives this handle, unless it has panicked; then the call ends without a result.
        let _ = self.0.send(Box::new(phone));
        Talking(ended)
    }
}

/// Talks on a thread of its own.
///
/// # Errors
/// What the system says when it has no thread.
pub fn start(wires: Wires, caller: Caller, over: Arc<AtomicBool>) -> io::Result<Talking> {
    Ok(PhoneThread::start()?.talk(wires, caller, over))
}

/// A call that goes on; its outcome when it is over, an error when the thread is gone.
#[derive(Debug)]
pub struct Talking(oneshot::Receiver<Ended>);

impl Future for Talking {
    type Output = Result<Outcome, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.0).poll(cx));
        // Settled here and not on the thread, where others talk on.
        Poll::Ready(ended.map(|Ended { phone, at, realtime, hung_up }| {
            let (caller, _sockets) = phone;
            Outcome { talked: caller.finish(at), realtime, hung_up }
        }))
    }
}

/// What the thread gives back. The sockets are closed elsewhere, too.
#[derive(Debug)]
struct Ended {
    phone: (Caller, Wires),
    at: Instant,
    realtime: bool,
    hung_up: bool,
}

/// One phone as the thread owns it.
struct Phone {
    /// When it sends next.
    due: Instant,
    caller: Caller,
    wires: Wires,
    srtp: Option<Protection>,
    srtcp: Option<Protection>,
    over: Arc<AtomicBool>,
    done: oneshot::Sender<Ended>,
}

fn run(arrivals: &Receiver<Box<Phone>>) {
    let realtime = realtime::request(PRIORITY);
    let mut phones = Phones { start: Instant::now(), taken: 0, waiting: VecDeque::new() };
    loop {
        let Some(due) = phones.next_due() else {
            let Ok(phone) = arrivals.recv() else { return };
            phones.take(phone, Instant::now());
            continue;
        };
        match arrivals.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(phone) => phones.take(phone, Instant::now()),
            Err(RecvTimeoutError::Timeout) => phones.serve(realtime),
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                phones.serve(realtime);
            }
        }
    }
}

/// The phones of a thread.
struct Phones {
    start: Instant,
    /// How many there ever were.
    taken: u32,
    /// By the time at which they are due. All have the same period, so whoever was served is the last one again.
    waiting: VecDeque<Box<Phone>>,
}

impl Phones {
    fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|phone| phone.due)
    }

    fn take(&mut self, mut phone: Box<Phone>, now: Instant) {
        phone.due = next_in_phase(self.start, self.taken, now);
        self.taken = self.taken.wrapping_add(1);
        self.put(phone);
    }

    fn put(&mut self, phone: Box<Phone>) {
        let place = self.waiting.iter().rposition(|other| other.due <= phone.due).map_or(0, |before| before + 1);
        self.waiting.insert(place, phone);
    }

    /// Serves the one that is due.
    fn serve(&mut self, realtime: bool) {
        let Some(mut phone) = self.waiting.pop_front() else { return };
        match phone.tick() {
            None => {
                phone.due += PTIME;
                self.put(phone);
            }
            Some(hung_up) => {
                let Phone { mut caller, wires, mut srtp, done, .. } = *phone;
                read(&wires.rtp, wires.remote, &mut srtp, &mut caller, Caller::receive);
                // Nobody waits any more when the call was dropped.
                let _ = done.send(Ended { phone: (caller, wires), at: Instant::now(), realtime, hung_up });
            }
        }
    }
}

/// The first time after `now` in the phase of the phone with this number.
fn next_in_phase(start: Instant, number: u32, now: Instant) -> Instant {
    let phase = PTIME.mul_f64((f64::from(number) * PHASE_STEP).fract());
    let passed = now.saturating_duration_since(start).saturating_sub(phase);
    let ptimes = passed.as_nanos().div_ceil(PTIME.as_nanos()) as u64;
    start + phase + Duration::from_nanos(ptimes * PTIME.as_nanos() as u64)
}

impl Phone {
    /// One ptime; at the call's end whether the caller hung up.
    fn tick(&mut self) -> Option<bool> {
        let Self { wires, caller, srtp, srtcp, .. } = self;
        let now = Instant::now();
        caller.tick(self.due, now, |packet| send(&wires.rtp, wires.remote, srtp, packet));
        if let Some(report) = caller.rtcp_report(now, SystemTime::now()) {
            send(&wires.rtcp, wires.remote_rtcp, srtcp, &report);
        }
        read(&wires.rtp, wires.remote, srtp, caller, Caller::receive);
        read(&wires.rtcp, wires.remote, srtcp, caller, |caller, at, packet| {
            let wall = SystemTime::now();
            caller.receive_rtcp(at, wall.checked_sub(at.elapsed()).unwrap_or(wall), packet);
        });
        if !caller.stay(Instant::now()) {
            return Some(true);
        }
        self.over.load(Ordering::Relaxed).then_some(false)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_spread_evenly_over_the_ptime_and_none_waits_longer_than_that() {
        let start = Instant::now();
        let now = start + Duration::from_micros(1_234_567);
        for many in [8u32, 50, 200] {
            let mut due: Vec<Instant> = (0..many).map(|number| next_in_phase(start, number, now)).collect();
            due.sort();
            assert!(due[0] >= now && due[due.len() - 1] < now + PTIME, "{many}");
            let around = due.iter().skip(1).copied().chain([due[0] + PTIME]);
            let widest = due.iter().zip(around).map(|(one, next)| next - *one).max().unwrap();
            assert!(widest < PTIME * 2 / many, "{many}: {widest:?}");
        }
    }

    #[test]
    fn a_phone_stays_in_its_phase() {
        let start = Instant::now();
        let first = next_in_phase(start, 3, start);
        assert_eq!(next_in_phase(start, 3, first), first);
        assert_eq!(next_in_phase(start, 3, first + Duration::from_nanos(1)), first + PTIME);
    }
}
