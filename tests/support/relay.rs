//! A UDP relay that puts a bad network between two RTP sockets on loopback (there is no netem here).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use offhook::rtp::impairment::{Impairment, ImpairmentCounters, Profile};
use offhook::rtp::socket;

/// How often the sockets are looked at.
const STEP: Duration = Duration::from_millis(1);

/// A relay that runs until it is stopped.
pub struct Relay {
    /// Where the one side sends to; it hears the other side from there.
    pub near: SocketAddr,
    /// Where the other side sends to.
    pub far: SocketAddr,
    over: Arc<AtomicBool>,
    thread: JoinHandle<ImpairmentCounters>,
}

impl Relay {
    /// Passes on what `near_side` and `far_side` send; the way from far to near is as bad as `profile` says, the other is perfect.
    /// A near side that is not known yet is where its first packet comes from.
    pub fn start(near_side: impl Into<Option<SocketAddr>>, far_side: SocketAddr, profile: Profile, seed: u64) -> Self {
        let near_side = near_side.into();
        let bind = || socket::bind_pair(IpAddr::V4(Ipv4Addr::LOCALHOST), 0..=0).unwrap().0;
        let (near, far) = (bind(), bind());
        let over = Arc::new(AtomicBool::new(false));
        let (near_at, far_at) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let thread = std::thread::spawn({
            let over = over.clone();
            move || relay(&near, &far, (near_side, far_side), Impairment::new(profile, seed), &over)
        });
        Self { near: near_at, far: far_at, over, thread }
    }

    /// Stops it and tells what became of the packets from far to near.
    pub fn stop(self) -> ImpairmentCounters {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn relay(
    near: &UdpSocket,
    far: &UdpSocket,
    (mut near_side, far_side): (Option<SocketAddr>, SocketAddr),
    mut network: Impairment<Vec<u8>>,
    over: &AtomicBool,
) -> ImpairmentCounters {
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        while let Ok(Some((length, from, _))) = socket::receive(near, &mut buffer) {
            near_side.get_or_insert(from);
            let _ = far.send_to(&buffer[..length], far_side);
        }
        while let Ok(Some((length, _, at))) = socket::receive(far, &mut buffer) {
            network.handle_packet(at, buffer[..length].to_vec());
        }
        while let Some((_, packet)) = network.poll(Instant::now()) {
            if let Some(near_side) = near_side {
                let _ = near.send_to(&packet, near_side);
            }
        }
        std::thread::sleep(STEP);
    }
    network.counters()
}
