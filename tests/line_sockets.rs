//! A call's sockets: the class of service of what leaves, the ports that calls take and leave, and IPv6 from end to end.
//!
//! The peer is plain sockets, which see the class of what arrives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use offhook::phone::mouth::{Turn, Utterance};
use offhook::phone::{PhoneError, report::CallReport};
use offhook::rtp::packet::is_rtcp;
use offhook::rtp::socket::bind_pair;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Placeholder, Second};
use house::{House, LOOPBACK, free_ports, say, until};

#[path = "support/peer.rs"]
#[allow(dead_code)]
mod peer;
use peer::{Classed, Peer};

const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Expedited Forwarding (RFC 3246), as the byte of the IP header has it.
const EXPEDITED: u8 = 46 << 2;

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
        let mut peer = Peer::of(house.address);
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
        let mut peer = Peer::of(house.address);
        ports.push(peer.calls());
        peer.hangs_up();
        let port = ports[ports.len() - 1];
        until("its ports are free", || bind_pair(LOOPBACK, port..=port + 1).is_ok()).await;
    }
    let mut different = ports[..3].to_vec();
    different.sort_unstable();
    assert_eq!(different, [first, first + 2, first + 4]);
    // All rest, and a call is taken all the same.
    assert!(different.contains(&ports[3]), "{ports:?}");
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
    let mut peer = Peer::of(house.address);
    peer.calls();
    let refused = house.call(house.options(vec![])).await.err();
    assert!(matches!(refused, Some(PhoneError::Refused { code: 503, .. })), "{refused:?}");
    peer.hangs_up();
    house.is_empty().await;
    until("its ports are free", || bind_pair(LOOPBACK, first..=last).is_ok()).await;
    assert_eq!(Peer::of(house.address).calls(), first);
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
