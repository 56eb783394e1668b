//! The sockets of a call: a pair of UDP ports (RFC 3550 §11: RTP even, RTCP one above), and receiving with the kernel's time stamp.
//!
//! The only file of the room with IO. Packets leave with DSCP EF (RFC 3246) and arrive stamped by the kernel (SO_TIMESTAMPNS), so that
//! jitter is measured on the wire and not on our ticks. Linux only. Received DSCP and ECN are not looked at.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// DSCP 46, Expedited Forwarding, in the upper six bits of the traffic class.
const EXPEDITED_FORWARDING: u32 = 46 << 2;
/// About 0.4 s of one call, should the media thread be held up.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// A stamp older than this is a clock that was set, not a packet that waited.
const OLDEST_STAMP: Duration = Duration::from_secs(1);
/// Two clocks that are read within this are read at the same moment: reading one takes some tens of nanoseconds.
const ONE_MOMENT: Duration = Duration::from_micros(5);
/// How often two clocks are read to find one such moment.
const CLOCK_READINGS: u32 = 4;
/// How often an even port with a free neighbour is asked of the kernel, for the range `0..=0`.
const ANY_PORT_ATTEMPTS: u32 = 64;

/// Binds the first even port of `range` that is free, for RTP, and the one above it for RTCP, both non-blocking. The range `0..=0` takes any
/// ports. Calls take theirs by turns, from [`super::ports`].
///
/// # Errors
/// `AddrInUse` when no pair of the range is free; whatever else the system says, at once.
pub fn bind_pair(address: IpAddr, range: RangeInclusive<u16>) -> io::Result<(UdpSocket, UdpSocket)> {
    if range == (0..=0) {
        return bind_any(address);
    }
    let first = u32::from(*range.start()).next_multiple_of(2).max(2);
    let pairs = (u32::from(*range.end()) + 1).saturating_sub(first) / 2;
    for n in 0..pairs {
        let port = (first + n * 2) as u16;
        match bind(address, port).and_then(|rtp| Ok((rtp, bind(address, port + 1)?))) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!(
            "no free pair of UDP ports in {}-{} on {address}; widen rtp.port_min and rtp.port_max",
            range.start(),
            range.end()
        ),
    ))
}

/// The local address from which packets to `peer` leave; nothing is sent.
///
/// # Errors
/// When no route leads there.
pub fn route_from(peer: IpAddr) -> io::Result<IpAddr> {
    let any = if peer.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let probe = UdpSocket::bind(SocketAddr::new(any, 0))?;
    probe.connect(SocketAddr::new(peer, 9))?;
    Ok(probe.local_addr()?.ip())
}

fn bind_any(address: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..ANY_PORT_ATTEMPTS {
        let rtp = bind(address, 0)?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 {
            continue;
        }
        match bind(address, port + 1) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            rtcp => return Ok((rtp, rtcp?)),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free pair of UDP ports on {address}")))
}

fn bind(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(address, port)), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_tclass_v6(EXPEDITED_FORWARDING)?;
    }
    // Also that of IPv6: to an IPv4 address it sends IPv4, whose class is an option of its own.
    socket.set_tos_v4(EXPEDITED_FORWARDING)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    stamp(&socket)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket.into())
}

/// Asks the kernel to stamp what arrives. It begins a moment after the first socket of the machine asks; until then packets bear the
/// time of reading.
fn stamp(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open while `socket` lives, and the option's value is the c_int that is pointed to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for the control message that carries a `timespec`, aligned as the kernel wants it.
#[repr(align(8))]
struct Control([u8; 64]);

/// Takes one datagram from a socket of [`bind_pair`] without waiting and without allocating: its length in `buffer`, its source, and
/// when the kernel received it. `None` when nothing waits. A longer datagram is cut to `buffer`.
///
/// # Errors
/// What the system says, except that an interrupted call is repeated and an ICMP refusal of something sent earlier is passed over.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr, Instant)>> {
    loop {
        // SAFETY: both are plain C structures for which all zeroes is a value.
        let (mut source, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = (&raw mut source).cast();
        message.msg_namelen = size_of_val(&source) as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: every pointer in `message` is to a local or to `buffer`, with its true length, and all outlive the call.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => continue,
                _ => return Err(error),
            }
        }
        let Some(from) = address(&source) else { continue };
        return Ok(Some((length as usize, from, arrival(&message))));
    }
}

fn address(source: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(source.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, and a sockaddr_storage has room and alignment for one.
            let v4 = unsafe { &*(&raw const *source).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in6, and a sockaddr_storage has room and alignment for one.
            let v6 = unsafe { &*(&raw const *source).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical();
            Some(SocketAddr::new(ip, u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}

/// When the kernel received the message; the present when it did not say.
fn arrival(message: &libc::msghdr) -> Instant {
    let Some(stamp) = kernel_stamp(message) else { return Instant::now() };
    let (now, clock) = one_moment(Instant::now, || {
        let mut clock = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours. The clock is there on every Linux; where it is not, the stamp counts for nothing.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut clock) };
        clock
    });
    let age = nanoseconds(&clock).saturating_sub(nanoseconds(&stamp));
    // A clock set in between makes ages below zero or beyond reason.
    let age = Duration::from_nanos(age.clamp(0, OLDEST_STAMP.as_nanos() as i64) as u64);
    now.checked_sub(age).unwrap_or(now)
}

/// Two clocks, read at the same moment: whoever is interrupted between them reads them again. After a few times the best has to do.
fn one_moment<C>(mut now: impl FnMut() -> Instant, mut clock: impl FnMut() -> C) -> (Instant, C) {
    let mut reading = || {
        let before = now();
        let clock = clock();
        (now().saturating_duration_since(before), before, clock)
    };
    let mut best = reading();
    for _ in 1..CLOCK_READINGS {
        if best.0 <= ONE_MOMENT {
            break;
        }
        let next = reading();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1 + best.0 / 2, best.2)
}

fn kernel_stamp(message: &libc::msghdr) -> Option<libc::timespec> {
    // SAFETY: recvmsg left msg_control and msg_controllen describing whole control messages, which the CMSG macros walk.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros return only headers that lie wholly within the control buffer.
        let found = unsafe { (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS };
        if found {
            // SAFETY: a message of this type carries one timespec; it is read unaligned because only the header's place is promised.
            return Some(unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() });
        }
        // SAFETY: as for the first header.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // c_long and time_t are narrower on 32-bit machines
fn nanoseconds(time: &libc::timespec) -> i64 {
    i64::from(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Four pairs that were free a moment ago.
    fn free_range() -> RangeInclusive<u16> {
        loop {
            let first = bind_any(LOOPBACK).unwrap().0.local_addr().unwrap().port();
            let ports = first..first.saturating_add(8);
            if first < 60_000 && ports.clone().all(|port| bind(LOOPBACK, port).is_ok()) {
                return first..=first + 7;
            }
        }
    }

    fn received(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr, Instant) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(received) = receive(socket, buffer).unwrap() {
                return received;
            }
            assert!(Instant::now() < deadline, "nothing arrived on loopback");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_pair_is_an_even_port_and_the_one_above_it() {
        let (rtp, rtcp) = bind_pair(LOOPBACK, 0..=0).unwrap();
        let port = rtp.local_addr().unwrap().port();
        assert_eq!((port % 2, rtcp.local_addr().unwrap().port()), (0, port + 1));
    }

    #[test]
    fn a_range_gives_each_pair_once_and_then_names_the_keys_to_widen() {
        let range = free_range();
        let pairs: Vec<_> = (0..4).map(|_| bind_pair(LOOPBACK, range.clone()).unwrap()).collect();
        assert!(pairs.iter().all(|(rtp, _)| range.contains(&rtp.local_addr().unwrap().port())));
        let error = bind_pair(LOOPBACK, range.clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("rtp.port_min"), "{error}");
        drop(pairs);
        bind_pair(LOOPBACK, range).unwrap();
    }

    #[test]
    fn a_range_without_a_whole_pair_is_refused() {
        assert!(bind_pair(LOOPBACK, 20_001..=20_002).is_err());
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = 20_010..=20_000;
        assert!(bind_pair(LOOPBACK, backwards).is_err());
        assert!(bind_pair(LOOPBACK, 65_535..=65_535).is_err());
    }

    #[test]
    fn what_arrives_has_its_source_and_a_stamp_from_before_it_was_read() {
        for address in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok((ours, _)) = bind_pair(address, 0..=0) else { continue };
            let (theirs, _) = bind_pair(address, 0..=0).unwrap();
            let mut buffer = [0; 16];
            assert!(receive(&ours, &mut buffer).unwrap().is_none());
            // The kernel begins to stamp a moment after the first socket of the machine asks for it.
            let stamped = (0..50).any(|_| {
                let before = Instant::now();
                theirs.send_to(b"hello", ours.local_addr().unwrap()).unwrap();
                let sent = Instant::now();
                while sent.elapsed() < Duration::from_millis(30) {
                    std::thread::yield_now();
                }
                let (length, from, arrival) = received(&ours, &mut buffer);
                assert_eq!((&buffer[..length], from), (&b"hello"[..], theirs.local_addr().unwrap()));
                // The two clocks are read a moment apart, and a busy machine stretches the moment.
                let slack = Duration::from_millis(20);
                arrival + slack >= before && arrival <= sent + slack
            });
            assert!(stamped);
        }
    }

    #[test]
    fn two_clocks_are_read_anew_when_something_came_between_and_the_closest_pair_counts() {
        let zero = Instant::now();
        let at = |us: u64| zero + Duration::from_micros(us);
        let read = |times: &[u64]| {
            let (mut times, mut clock) = (times.iter().copied(), 0);
            let moment = one_moment(
                || at(times.next().unwrap()),
                || {
                    clock += 1;
                    clock
                },
            );
            assert_eq!(times.next(), None);
            moment
        };
        assert_eq!(read(&[10, 12]), (at(11), 1));
        assert_eq!(read(&[10, 4010, 4012, 4014]), (at(4013), 2));
        assert_eq!(read(&[0, 900, 1000, 1100, 1200, 1600, 1700, 1900]), (at(1050), 2));
    }

    #[test]
    fn an_empty_datagram_and_one_too_long_are_no_errors() {
        let (ours, _) = bind_pair(LOOPBACK, 0..=0).unwrap();
        let (theirs, _) = bind_pair(LOOPBACK, 0..=0).unwrap();
        let mut buffer = [0; 8];
        theirs.send_to(&[], ours.local_addr().unwrap()).unwrap();
        theirs.send_to(&[7; 100], ours.local_addr().unwrap()).unwrap();
        assert_eq!(received(&ours, &mut buffer).0, 0);
        assert_eq!(received(&ours, &mut buffer).0, 8);
    }

    #[test]
    fn packets_leave_for_expedited_forwarding() {
        let (socket, _) = bind_pair(LOOPBACK, 0..=0).unwrap();
        assert_eq!(Socket::from(socket).tos_v4().unwrap(), 0xb8);
    }
}
