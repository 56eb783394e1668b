//! A telephone that is plain sockets, and sees of what class (RFC 2474) the datagrams are that come.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::pcm::{PTIME, SILENCE};
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::socket::bind_pair;
use offhook::sdp::{LocalMedia, MediaSecurity, make_offer};

/// Class selector 3 (RFC 4594 §3.1), as the byte of the IP header has it.
const SIGNALLING: u8 = 24 << 2;

/// A socket that is told the class of what it receives.
pub struct Classed(pub UdpSocket);

impl Classed {
    pub fn new(socket: UdpSocket) -> Self {
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

    pub fn at(ip: IpAddr) -> Self {
        Self::new(UdpSocket::bind((ip, 0)).unwrap())
    }

    /// The next datagram and its class.
    pub fn receive(&self) -> (Vec<u8>, u8) {
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
pub struct Peer {
    sip: Classed,
    house: SocketAddr,
    pub rtp: Classed,
    pub rtcp: Classed,
    to: String,
    sequence: u32,
}

impl Peer {
    pub fn of(house: SocketAddr) -> Self {
        let ip = house.ip();
        let (rtp, rtcp) = bind_pair(ip, 0..=0).unwrap();
        let (rtp, rtcp) = (Classed::new(rtp), Classed::new(rtcp));
        Self { sip: Classed::at(ip), house, rtp, rtcp, to: String::new(), sequence: 0 }
    }

    fn send(&self, method: &str, kind: &str, body: &str) {
        let (from, to, sequence) = (self.sip.0.local_addr().unwrap(), self.house, self.sequence);
        let message = format!(
            "{method} sip:620@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method}{}-{sequence}\r\nFrom: <sip:raw@{from}>;tag=raw\r\n\
             To: <sip:620@{to}>{}\r\nCall-ID: {from}\r\nCSeq: {sequence} {method}\r\nContact: <sip:raw@{from}>\r\nMax-Forwards: 70\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
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
    pub fn calls(&mut self) -> u16 {
        let local = self.rtp.0.local_addr().unwrap();
        let media = LocalMedia { address: local.ip(), port: local.port(), session_id: 1, version: 1 };
        let offer = String::from_utf8(make_offer(&media, &Codec::ALL, &MediaSecurity::OFF)).unwrap();
        self.sequence += 1;
        self.send("INVITE", "application/sdp", &offer);
        let answer = self.final_response();
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
        self.to = to[to.find(";tag").unwrap()..].to_owned();
        self.send("ACK", "application/sdp", "");
        let audio = answer.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
        audio.split(' ').next().unwrap().parse().unwrap()
    }

    pub fn hangs_up(&mut self) {
        self.asks("BYE", "application/sdp", "");
    }

    /// A request within the call, which is taken.
    fn asks(&mut self, method: &str, kind: &str, body: &str) {
        self.sequence += 1;
        self.send(method, kind, body);
        let taken = self.final_response();
        assert!(taken.starts_with("SIP/2.0 200"), "{taken}");
    }

    /// Tells of a key in a request, in one of the two forms that there are.
    pub fn tells_of(&mut self, key: char, relay: bool) {
        match relay {
            true => self.asks("INFO", "application/dtmf-relay", &format!("Signal={key}\r\nDuration=100\r\n")),
            false => self.asks("INFO", "application/dtmf", &key.to_string()),
        }
    }

    /// Sends silence for a while, to where the house listens, and in it what `acts` has done at each tick.
    pub fn sounds(&mut self, port: u16, ticks: u32, mut acts: impl FnMut(&mut Self, u32, &mut Sender)) {
        let mut sender = Sender::new(Codec::Pcmu, Some(101.into()));
        let (to, began) = (SocketAddr::new(self.house.ip(), port), Instant::now());
        for tick in 0..ticks {
            std::thread::sleep((began + PTIME * tick).saturating_duration_since(Instant::now()));
            acts(self, tick, &mut sender);
            let mut packet = [0; MAX_PACKET_BYTES];
            let length = sender.packet(&SILENCE, tick == 0, &mut packet);
            self.rtp.0.send_to(&packet[..length], to).unwrap();
        }
    }
}
