//! A call of the box to itself on loopback: answered, a second of RTP there and back, hung up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Check;
use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::pcm::telephone::FRAME_SAMPLES;
use crate::rtp::packet::{PacketView, write_packet};
use crate::sdp::{self, LocalMedia, MediaSecurity};
use crate::sip::{IncomingCall, UserAgent, UserAgentOptions};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One second of 20 ms packets.
const PACKETS: u16 = 50;
/// On loopback nothing is lost; a packet or two may be late on a busy box.
const FEW_LOST: u16 = 2;
const PATIENCE: Duration = Duration::from_secs(6);

pub(super) async fn check() -> Check {
    let said = |finding: String| Check::ok("test call", "to itself", finding);
    match timeout(PATIENCE, call()).await {
        Ok(Ok((answered, returned))) => {
            let finding = format!("answered in {} ms, {returned} of {PACKETS} packets came back", answered.as_millis());
            if returned + FEW_LOST >= PACKETS {
                said(finding)
            } else {
                said(finding).warning("this box is too busy for telephony, or a firewall drops packets on loopback")
            }
        }
        Ok(Err(problem)) => {
            said(problem).failure("see what else is wrong; a firewall must not touch loopback (interface lo)")
        }
        Err(_) => said(format!("not over after {} s", PATIENCE.as_secs()))
            .failure("a firewall must not touch loopback (interface lo), and the box must not be overloaded"),
    }
}

/// How long the answer took, and how many packets came back.
async fn call() -> Result<(Duration, u16), String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let nowhere = SocketAddr::new(LOOPBACK, 0);
    let (callee, incoming) = UserAgent::start(UserAgentOptions::new(nowhere)).await.map_err(text)?;
    let (caller, _none) = UserAgent::start(UserAgentOptions::new(nowhere)).await.map_err(text)?;
    let (ours, theirs) = tokio::join!(UdpSocket::bind(nowhere), UdpSocket::bind(nowhere));
    let (ours, theirs) = (ours.map_err(text)?, theirs.map_err(text)?);
    let there = media(&theirs)?;
    let answering = tokio::spawn(answer(incoming, theirs, there));
    let invited = Instant::now();
    let offer = sdp::make_offer(&media(&ours)?, &[Codec::Pcma], &MediaSecurity::OFF);
    let uri = format!("sip:doctor@{}", callee.local_addr());
    let mut call = caller.invite(&uri, offer).await.map_err(text)?;
    let (mut dialog, answer) = call.answered().await.map_err(text)?;
    let answered = invited.elapsed();
    let remote = sdp::parse_answer(&answer, &Codec::ALL, &MediaSecurity::OFF).map_err(text)?.remote;
    let returned = talk(&ours, remote).await.map_err(text)?;
    dialog.hang_up().await;
    answering.abort();
    tokio::join!(caller.shutdown(), callee.shutdown());
    Ok((answered, returned))
}

fn media(socket: &UdpSocket) -> Result<LocalMedia, String> {
    let port = socket.local_addr().map_err(|error| error.to_string())?.port();
    Ok(LocalMedia { address: LOOPBACK, port, session_id: 1, version: 1 })
}

/// Answers one call, and sends back what comes until it is over.
async fn answer(mut incoming: mpsc::Receiver<IncomingCall>, socket: UdpSocket, media: LocalMedia) {
    let Some(call) = incoming.recv().await else { return };
    let Ok((answer, _)) =
        sdp::Offer::parse(&call.offer).and_then(|offer| offer.answer(&media, &Codec::ALL, &MediaSecurity::OFF))
    else {
        return;
    };
    let Ok(mut dialog) = call.answer(answer).await else { return };
    let echo = async {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    };
    tokio::select! {
        () = echo => {}
        _ = dialog.ended() => {}
    }
}

/// Sends a second of silence and counts what comes back.
async fn talk(socket: &UdpSocket, remote: SocketAddr) -> std::io::Result<u16> {
    let ssrc = fastrand::u32(..);
    let payload = [Law::A.silence(); FRAME_SAMPLES];
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut returned) = (0, 0);
    let (mut out, mut back) = ([0; 256], [0; 2048]);
    let end = tokio::time::sleep(Duration::from_millis(1300));
    tokio::pin!(end);
    while returned < PACKETS {
        tokio::select! {
            _ = ticks.tick(), if sent < PACKETS => {
                let packet = PacketView {
                    marker: sent == 0,
                    payload_type: Codec::Pcma.payload_type(),
                    sequence: sent,
                    timestamp: u32::from(sent) * FRAME_SAMPLES as u32,
                    ssrc,
                    payload: &payload,
                };
                let length = write_packet(&mut out, &packet);
                socket.send_to(&out[..length], remote).await?;
                sent += 1;
            }
            received = socket.recv_from(&mut back) => {
                let (length, _) = received?;
                returned += u16::from(PacketView::parse(&back[..length]).is_ok_and(|packet| packet.ssrc == ssrc));
            }
            () = &mut end => break,
        }
    }
    Ok(returned)
}
