//! A leg's RTCP against a peer of its own: on the port above and on the port of RTP (RFC 5761), and what the line comes to at the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use offhook::codec::Codec;
use offhook::leg::quality::LineQuality;
use offhook::leg::rtcp::{Outcome, RtcpLink, RtcpMedia};
use offhook::leg::rtp::RtpLeg;
use offhook::leg::{FrameKind, Leg};
use offhook::pcm::{PTIME, SILENCE};
use offhook::rtp::rtcp::Reporter;
use offhook::rtp::sender::{MAX_PACKET_BYTES, Sender};
use offhook::rtp::socket;
use offhook::rtp::statistics::Reception;
use offhook::sdp::{Direction, Negotiated};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Ticks of a call: the leg reports every fiftieth.
const TICKS: u32 = 200;
/// Of the packets of either side every tenth is lost.
const LOST: u32 = 10;

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// A call in which both sides speak for four seconds and lose every tenth packet; then the leg's RTCP runs until the peer has answered a
/// report of its. What it came to, and from which port of the leg the peer was told.
async fn call(rtcp_mux: bool) -> (Outcome, bool) {
    let (rtp, rtcp) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let (their_rtp, their_rtcp) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let (leg_at, leg_rtcp_at) = (address(&rtp), address(&rtcp));
    let agreed = Negotiated {
        codec: Codec::Pcma,
        telephone_event: None,
        remote: address(&their_rtp),
        remote_rtcp: if rtcp_mux { address(&their_rtp) } else { address(&their_rtcp) },
        rtcp_mux,
        ptime: PTIME,
        direction: Direction::SendRecv,
        srtp: None,
        secure_profile: false,
    };
    let began = Instant::now();
    let (mut leg, outlets) = RtpLeg::new(rtp, &agreed, Duration::from_millis(40), began).unwrap();
    let mut theirs = Sender::new(Codec::Pcma, None);
    let mut reception = None;
    let mut packet = [0; MAX_PACKET_BYTES];
    let (mut frame, mut heard) = (SILENCE, 0);
    for tick in 0..TICKS {
        let length = theirs.packet(&SILENCE, tick == 0, &mut packet);
        if tick % LOST != 5 {
            their_rtp.send_to(&packet[..length], leg_at).unwrap();
        }
        let now = began + PTIME * tick;
        heard += u32::from(leg.hear(now, &mut frame) == FrameKind::Speech);
        leg.speak(now, &SILENCE, true);
        let mut datagram = [0; 512];
        let (_, from, arrival) = socket::receive(&their_rtp, &mut datagram).unwrap().expect("one packet a tick");
        assert_eq!(from, leg_at);
        let (sequence, ssrc) = (u16::from_be_bytes([datagram[2], datagram[3]]), datagram[8..12].try_into().unwrap());
        let reception: &mut Reception =
            reception.get_or_insert_with(|| Reception::new(u32::from_be_bytes(ssrc), sequence, arrival));
        if tick % LOST != 5 {
            reception.packet(sequence);
        }
    }
    assert!(heard > TICKS / 2, "{heard}");
    let (_agreed, agreed) = watch::channel(RtcpMedia::from(&agreed));
    let over = CancellationToken::new();
    let link = tokio::spawn(RtcpLink::new(rtcp, agreed, outlets).unwrap().run(over.clone()));
    let (mut reporter, told_at) = (Reporter::anonymous(), if rtcp_mux { their_rtp } else { their_rtcp });
    let told_at = tokio::net::UdpSocket::from_std(told_at).unwrap();
    let mut bytes = [0; 1500];
    let (length, from) = told_at.recv_from(&mut bytes).await.unwrap();
    assert!((200..=201).contains(&bytes[1]), "packet type {}", bytes[1]);
    let ssrc = theirs.figures().ssrc;
    let told = reporter.handle_datagram(Instant::now(), SystemTime::now(), ssrc, &bytes[..length]).unwrap();
    let lost = told.report.expect("a block about us").cumulative_lost;
    assert_eq!(lost, TICKS / LOST);
    let figures = reception.unwrap().figures();
    let report = reporter.report(Instant::now(), SystemTime::now(), &theirs.figures(), Some(&figures));
    told_at.send_to(&report, if rtcp_mux { leg_at } else { leg_rtcp_at }).await.unwrap();
    if rtcp_mux {
        leg.hear(began + PTIME * TICKS, &mut frame);
    }
    // The next report of the leg comes after it has read ours.
    told_at.recv_from(&mut bytes).await.unwrap();
    over.cancel();
    (link.await.unwrap(), from == leg_at)
}

fn is_what_happened(quality: LineQuality) {
    for side in [quality.heard, quality.said] {
        let side = side.expect("both sides told");
        assert!((side.loss - 0.1).abs() < 0.011 && (2.5..3.7).contains(&side.opinion), "{side:?}");
    }
    let round_trip = quality.round_trip.expect("our report was echoed");
    assert!(round_trip < Duration::from_secs(1), "{round_trip:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_go_to_the_port_above_and_the_call_knows_what_its_line_was_worth() {
    let (outcome, from_rtp) = call(false).await;
    assert!(!from_rtp);
    assert_eq!((outcome.counters.received, outcome.counters.malformed), (1, 0));
    is_what_happened(outcome.quality);
}

#[tokio::test(start_paused = true)]
async fn reports_share_the_port_of_rtp_where_that_was_agreed_on() {
    let (outcome, from_rtp) = call(true).await;
    assert!(from_rtp);
    assert_eq!((outcome.counters.received, outcome.counters.malformed), (1, 0));
    is_what_happened(outcome.quality);
}
