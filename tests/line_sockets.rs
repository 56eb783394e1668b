//! A call's sockets: the class of service of what leaves, the ports that calls take and leave, and IPv6 from end to end.
//!
//! The peer is plain sockets, which see the class of what arrives.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use offhook::codec::Codec;
use offhook::phone::mouth::{Turn, Utterance};
use offhook::phone::{PhoneError, report::CallReport};
use offhook::rtp::packet::is_rtcp;
use offhook::rtp::socket::bind_pair;
use offhook::sdp::{LocalMedia, MediaSecurity, make_offer};

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Placeholder, Second};
use house::{House, LOOPBACK, free_ports, say, until};

const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Expedited Forwarding (RFC 3246) and class selector 3 (RFC 4594 §3.1), as the byte of the IP header has them.
const EXPEDITED: u8 = 46 << 2;
const SIGNALLING: u8 = 24 << 2;

/// A socket that is told the class of what it receives.
struct Classed(UdpSocket);

impl Classed {
    fn new(socket: UdpSocket) -> Self {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (level, option) = match socket.local_addr().unwrap() {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        };
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option's value is the c_int that is pointed to.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
        Self(socket)
    }

    fn at(ip: IpAddr) -> Self {
        Self::new(UdpSocket::bind((ip, 0)).unwrap())
    }

    /// The next datagram and its class.
    fn receive(&self) -> (Vec<u8>, u8) {
        let (mut bytes, mut control) = (vec![0u8; 4096], [0u64; 16]);
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: a plain C structure for which all zeroes is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in `message` is to a local, with its true length, and all outlive the call.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        assert!(length >= 0, "nothing came: {}", io::Error::last_os_error());
        bytes.truncate(length as usize);
        // SAFETY: recvmsg left whole control messages, which the macros walk.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !header.is_null() {
            // SAFETY: the macros return only headers that lie wholly within the control buffer.
            let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_TOS)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            {
                // SAFETY: IPv4's class is one byte, IPv6's a c_int; the first byte of either on this side of the network is the class.
                let class = unsafe {
                    let value = libc::CMSG_DATA(header);
                    if level == libc::IPPROTO_IP { *value } else { value.cast::<libc::c_int>().read_unaligned() as u8 }
                };
                return (bytes, class);
            }
            // SAFETY: as for the first header.
            header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
        }
        panic!("the kernel told no class");
    }
}

/// A peer that calls, and sees what comes.
struct Peer {
    sip: Classed,
    house: SocketAddr,
    rtp: Classed,
    rtcp: Classed,
    to: String,
}

impl Peer {
    fn of(house: &House) -> Self {
        let ip = house.address.ip();
        let (rtp, rtcp) = bind_pair(ip, 0..=0).unwrap();
        let (rtp, rtcp) = (Classed::new(rtp), Classed::new(rtcp));
        Self { sip: Classed::at(ip), house: house.address, rtp, rtcp, to: String::new() }
    }

    fn send(&self, method: &str, sequence: u32, body: &str) {
        let (from, to) = (self.sip.0.local_addr().unwrap(), self.house);
        let message = format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method}{}\r\nFrom: <sip:raw@{from}>;tag=raw\r\n\
             To: <sip:620@{to}>{}\r\nCall-ID: {from}\r\nCSeq: {sequence} {method}\r\nContact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            from.port(),
            self.to,
            body.len()
        );
        self.sip.0.send_to(message.as_bytes(), to).unwrap();
    }

    /// The final response, all responses having the class of signalling.
    fn final_response(&self) -> String {
        loop {
            let (message, class) = self.sip.receive();
            let message = String::from_utf8(message).unwrap();
            assert_eq!(class, SIGNALLING, "{message}");
            if message.starts_with("SIP/2.0 ") && !message.starts_with("SIP/2.0 1") {
                return message;
            }
        }
    }

    /// Calls, and takes the answer; gives the port that the house listens at.
    fn calls(&mut self) -> u16 {
        let local = self.rtp.0.local_addr().unwrap();
        let media = LocalMedia { address: local.ip(), port: local.port(), session_id: 1, version: 1 };
        let offer = String::from_utf8(make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).unwrap();
        self.send("INVITE", 1, &offer);
        let answer = self.final_response();
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
        self.to = to[to.find(";tag").unwrap()..].to_owned();
        self.send("ACK", 1, "");
        let audio = answer.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
        audio.split(' ').next().unwrap().parse().unwrap()
    }

    fn hangs_up(&self) {
        self.send("BYE", 2, "");
        assert!(self.final_response().starts_with("SIP/2.0 200"));
    }
}

async fn house_at(ip: IpAddr) -> House {
    House::open(|config, _| {
        config.sip.listen = (ip, 0).into();
        config.sip.allowed_peers = vec![ip.into()];
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_and_its_reports_leave_expedited_and_signalling_as_signalling_over_both_protocols() {
    for ip in [LOOPBACK, LOOPBACK_6] {
        let house = house_at(ip).await;
        let mut peer = Peer::of(&house);
        peer.calls();
        for _ in 0..5 {
            let (packet, class) = peer.rtp.receive();
            assert_eq!((class, is_rtcp(&packet)), (EXPEDITED, false), "sound over {ip}");
        }
        let (report, class) = peer.rtcp.receive();
        assert_eq!((class, is_rtcp(&report)), (EXPEDITED, true), "a report over {ip}");
        peer.hangs_up();
        house.close().await;
    }
}

#[test]
fn a_socket_for_both_protocols_marks_what_it_sends_over_either() {
    let (rtp, _) = bind_pair(Ipv6Addr::UNSPECIFIED.into(), 0..=0).unwrap();
    for ip in [LOOPBACK, LOOPBACK_6] {
        let peer = Classed::at(ip);
        let port = peer.0.local_addr().unwrap().port();
        let shown = if ip.is_ipv4() { Ipv4Addr::LOCALHOST.to_ipv6_mapped().into() } else { ip };
        rtp.send_to(b"sound", (shown, port)).unwrap();
        assert_eq!(peer.receive(), (b"sound".to_vec(), EXPEDITED), "to {ip}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_has_ports_that_none_had_before_it_as_long_as_there_are_such() {
    let (first, last) = free_ports(3);
    let house = House::open(|config, _| (config.rtp.port_min, config.rtp.port_max) = (first, last)).await;
    let mut ports = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::of(&house);
        ports.push(peer.calls());
        peer.hangs_up();
        house.is_empty().await;
        // What is still under way to a call that has ended reaches nobody.
        let ended: SocketAddr = (LOOPBACK, *ports.last().unwrap()).into();
        peer.rtp.0.send_to(b"late", ended).unwrap();
    }
    let mut different = ports[..3].to_vec();
    different.sort_unstable();
    assert_eq!(different, [first, first + 2, first + 4]);
    // All rest; the one that has rested longest comes first.
    assert_eq!(ports[3], ports[0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_for_which_there_are_no_ports_is_told_so_and_the_next_one_has_room() {
    let (first, last) = free_ports(1);
    let house = House::open(|config, _| {
        config.sip.max_calls = 2;
        (config.rtp.port_min, config.rtp.port_max) = (first, last);
    })
    .await;
    let mut peer = Peer::of(&house);
    peer.calls();
    let refused = house.call(house.options(vec![])).await.err();
    assert!(matches!(refused, Some(PhoneError::Refused { code: 503, .. })), "{refused:?}");
    peer.hangs_up();
    house.is_empty().await;
    until("its ports are free", || bind_pair(LOOPBACK, first..=last).is_ok()).await;
    assert_eq!(Peer::of(&house).calls(), first);
    house.close().await;
}

fn was_whole(report: &CallReport) {
    let (packets, sent) = (&report.packets, &report.sent);
    assert_eq!(
        (packets.lost, packets.restarts, packets.ssrc_changes, report.own.unusable),
        (0, 0, 0, 0),
        "{packets:?}"
    );
    assert!(sent.round_trip_ms.is_some() && sent.lost == Some(0), "reports come and go: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_ipv6_is_heard_both_ways_reported_on_and_keyed_in_to() {
    let house = house_at(LOOPBACK_6).await;
    let mut options = house.options(vec![say("Are you open on Friday afternoon?"), say("And on Sunday?")]);
    options.bind = Some(LOOPBACK_6);
    let call = house.call(options).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer, Placeholder, Second]);
    was_whole(&call.report);
    let (heard, spoken) = (house.simulator.seen()[0].audio[0].duration, call.report.turns[0].spoken_ms);
    let more = heard.as_secs_f64() * 1000.0 - spoken;
    assert!((0.0..800.0).contains(&more), "{spoken} ms came as {heard:?}");

    let mut options = house.options(vec![Utterance::prepare(&Turn::Dtmf("62#".into()), "en-us").unwrap()]);
    options.bind = Some(LOOPBACK_6);
    let call = house.call(options).await.unwrap();
    assert!(call.sounds().contains(&Answer), "{:?}", call.heard);
    let asked = house.simulator.seen().pop().unwrap().json;
    assert!(asked.contains("(The caller pressed: 62#)"), "{asked}");
    house.close().await;
}
