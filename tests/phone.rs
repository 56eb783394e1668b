//! The test phone against a far side whose every frame is known, over real SIP and RTP on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offhook::codec::{Codec, Encoder, HouseDecoder};
use offhook::pcm::{FRAME_SAMPLES, PTIME, RATE, level, tone, wav};
use offhook::phone::clips::{ClipRole, KnownClip};
use offhook::phone::mouth::Utterance;
use offhook::phone::report::CallReport;
use offhook::phone::script::ScriptOptions;
use offhook::phone::{CallOptions, PhoneError, place};
use offhook::rtp::impairment::{ImpairmentCounters, Profile};
use offhook::rtp::packet::{PacketView, write_packet};
use offhook::rtp::socket;
use offhook::sdp;
use offhook::sip::{IncomingCall, Rejection, UserAgent, UserAgentOptions};

#[path = "support/relay.rs"]
mod relay;
use relay::Relay;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Silence after which the far side replies, in frames.
const HANGOVER: usize = 15;
/// Voiced frames after which it stops for the caller.
const ONSET: usize = 4;

fn chirp(from_hz: f32, samples: usize) -> Vec<i16> {
    let mut phase = 0.0f32;
    (0..samples)
        .map(|n| {
            phase += std::f32::consts::TAU * (from_hz + n as f32 * 0.05) / RATE as f32;
            (phase.sin() * 8000.0) as i16
        })
        .collect()
}

fn clip() -> Vec<i16> {
    chirp(900.0, 30 * FRAME_SAMPLES)
}

fn answer() -> Vec<i16> {
    chirp(300.0, 60 * FRAME_SAMPLES)
}

/// Greets, replies to each utterance with clip, 100 ms of silence and answer, and stops for whoever speaks over it.
fn bot(socket: &UdpSocket, remote: SocketAddr, over: &AtomicBool) {
    let frames = |sound: Vec<i16>| sound.chunks(FRAME_SAMPLES).rev().map(<[i16]>::to_vec).collect::<Vec<_>>();
    let reply = frames([clip(), vec![0; 5 * FRAME_SAMPLES], answer()].concat());
    let mut playing = frames(chirp(500.0, 20 * FRAME_SAMPLES));
    let (mut voiced, mut silent, mut spoken) = (0, 0, false);
    let (mut encoder, mut decoder) = (Encoder::new(Codec::Pcmu), HouseDecoder::new(Codec::Pcmu));
    let start = Instant::now();
    for n in 0u32..1500 {
        std::thread::sleep((start + PTIME * n).saturating_duration_since(Instant::now()));
        let mut buffer = [0; 1500];
        while let Ok(Some((length, _, _))) = socket::receive(socket, &mut buffer) {
            let mut sound = [0; FRAME_SAMPLES];
            let packet = PacketView::parse(&buffer[..length]).unwrap();
            decoder.decode(Codec::Pcma, packet.payload, &mut sound);
            (voiced, silent) = if level::rms_dbfs(&sound) > -45.0 { (voiced + 1, 0) } else { (0, silent + 1) };
            if voiced == ONSET {
                playing.clear();
                spoken = true;
            }
            if spoken && silent == HANGOVER {
                playing = reply.clone();
                spoken = false;
            }
        }
        let frame = playing.pop().unwrap_or_else(|| vec![0; FRAME_SAMPLES]);
        let mut payload = [0; 160];
        encoder.encode(Codec::Pcma, &frame, &mut payload);
        let packet = PacketView {
            marker: false,
            payload_type: Codec::Pcma.payload_type(),
            sequence: 65_500u16.wrapping_add(n as u16),
            timestamp: n.wrapping_mul(160),
            ssrc: 77,
            payload: &payload,
        };
        let length = write_packet(&mut buffer, &packet);
        let _ = socket.send_to(&buffer[..length], remote);
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Answers a call with [`bot`] over such a network; hangs up after `patience`.
async fn serve(call: IncomingCall, patience: Duration, network: Profile) -> ImpairmentCounters {
    let (rtp, _rtcp) = socket::bind_pair(LOOPBACK, 0..=0).unwrap();
    let port = rtp.local_addr().unwrap().port();
    let media = |port| sdp::LocalMedia { address: LOOPBACK, port, session_id: 1, version: 1 };
    let offer = sdp::Offer::parse(&call.offer).unwrap();
    let caller = offer.answer(&media(port), &Codec::ALL, &sdp::MediaSecurity::OFF).unwrap().1.remote;
    let relay = Relay::start(caller, (LOOPBACK, port).into(), network, 7);
    let (answer, agreed) = offer.answer(&media(relay.near.port()), &Codec::ALL, &sdp::MediaSecurity::OFF).unwrap();
    assert_eq!(agreed.codec, Codec::Pcma);
    call.ring();
    let mut dialog = call.answer(answer).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let (over, far) = (over.clone(), relay.far);
        move || bot(&rtp, far, &over)
    });
    if tokio::time::timeout(patience, dialog.ended()).await.is_err() {
        dialog.hang_up().await;
    }
    over.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    relay.stop()
}

fn options(uri: String, turns: usize) -> CallOptions {
    let question = Utterance::from_sound(&tone::sine(440.0, -12.0, 30 * FRAME_SAMPLES), "tone").unwrap();
    let clip = KnownClip::new("wait", ClipRole::Placeholder, clip()).unwrap();
    CallOptions {
        codecs: vec![Codec::Pcma],
        clips: [clip].into_iter().collect(),
        script: ScriptOptions {
            greeting_quiet: Duration::from_millis(300),
            answer_quiet: Duration::from_millis(300),
            ..ScriptOptions::default()
        },
        ..CallOptions::new(uri, vec![question; turns])
    }
}

/// Places a call to a far side that behaves so.
async fn call(
    change: impl FnOnce(CallOptions) -> CallOptions,
    turns: usize,
    patience: Duration,
    network: Profile,
) -> (CallReport, ImpairmentCounters) {
    let (agent, mut incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
    let uri = format!("sip:bot@{}", agent.local_addr());
    let far_side = tokio::spawn(async move { serve(incoming.recv().await.unwrap(), patience, network).await });
    let report = place(change(options(uri, turns))).await.unwrap();
    let counters = far_side.await.unwrap();
    agent.shutdown().await;
    (report, counters)
}

/// A figure is what the far side did, give or take the 20 ms grids of both and a machine that is busy.
fn assert_near(figure: Option<f64>, expected: f64) {
    let figure = figure.expect("the figure is there");
    assert!((figure - expected).abs() < 60.0, "{figure} is not {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_turns_and_a_barge_in_are_measured_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("call.wav");
    let record = Some(file.clone());
    let barge_in = Some((1, Duration::from_millis(500)));
    let change =
        |options: CallOptions| CallOptions { record, script: ScriptOptions { barge_in, ..options.script }, ..options };
    let (report, _) = call(change, 2, Duration::from_secs(20), Profile::default()).await;
    assert_eq!((report.turns.len(), report.ended_by), (2, "caller"));
    assert_near(report.greeting_end_ms.zip(report.greeting_start_ms).map(|(end, start)| end - start), 380.0);
    for turn in &report.turns {
        assert_eq!(turn.placeholder.as_deref(), Some("wait"));
        assert_near(turn.first_sound_ms, 310.0);
        assert_near(turn.answer_start_ms, 310.0 + 700.0);
        assert_eq!(turn.spoke_over_caller_ms, 0.0);
    }
    let [first, second] = &report.turns[..] else { unreachable!() };
    assert!(first.answer_interrupted && !second.answer_interrupted);
    assert_near(second.barge_in_stop_ms, 70.0);
    assert_near(second.answer_end_ms, 310.0 + 700.0 + 59.0 * 20.0);
    assert_eq!((report.packets.lost, report.packets.ssrc_changes, report.packets.timestamp_jumps), (0, 0, 0));

    let sound = wav::read(&std::fs::read(&file).unwrap()).unwrap();
    let seconds = sound.samples.len() as f64 / f64::from(RATE);
    assert!((seconds - report.duration_ms / 1000.0).abs() < 0.2, "{seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_duplicates_and_delay_of_the_network_are_counted_and_do_not_hide_the_answer() {
    let delay = Duration::from_millis(100);
    let network = Profile { loss: 0.05, duplicate: 0.05, delay, ..Profile::default() };
    let (report, network) = call(|options| options, 1, Duration::from_secs(20), network).await;
    let packets = &report.packets;
    // What was lost before the first and after the last packet nobody can know; what is still delayed at the end is not heard.
    assert!(
        network.lost > 2 && packets.lost <= network.lost && packets.lost + 3 >= network.lost,
        "{packets:?} {network:?}"
    );
    assert!(packets.duplicates > 2 && packets.duplicates <= network.duplicated, "{packets:?} {network:?}");
    assert_eq!(packets.timestamp_jumps, 0);
    // A constant delay is none of a buffer's business; with packets missing it waits for the one behind the hole.
    assert!(packets.buffer_delay_ms.is_some_and(|ms| (1.0..90.0).contains(&ms)), "{packets:?}");
    assert!(packets.buffer_target_ms.is_some_and(|ms| ms >= 20.0), "{packets:?}");
    let [turn] = &report.turns[..] else { panic!("{report:?}") };
    assert_eq!(turn.placeholder.as_deref(), Some("wait"));
    assert_near(turn.first_sound_ms, 410.0);
    assert_near(turn.answer_start_ms, 410.0 + 700.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_side_that_hangs_up_ends_the_call() {
    let (report, _) = call(|options| options, 1, Duration::from_millis(300), Profile::default()).await;
    assert_eq!((report.turns.len(), report.ended_by), (0, "callee"));
    assert!(report.greeting_start_ms.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_far_side_is_named_as_busy() {
    let (agent, mut incoming) = UserAgent::start(UserAgentOptions::new((LOOPBACK, 0).into())).await.unwrap();
    let uri = format!("sip:bot@{}", agent.local_addr());
    let far_side = tokio::spawn(async move { incoming.recv().await.unwrap().reject(Rejection::Busy) });
    let error = place(options(uri, 1)).await.unwrap_err();
    assert!(matches!(error, PhoneError::Busy { code: 486, .. }), "{error}");
    far_side.await.unwrap();
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_side_that_is_not_there_is_given_up() {
    let nobody = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let uri = format!("sip:bot@{}", nobody.local_addr().unwrap());
    let options = CallOptions { ring: Duration::from_millis(200), ..options(uri, 1) };
    let error = place(options).await.unwrap_err();
    assert!(matches!(error, PhoneError::NoAnswer { .. }), "{error}");
    let error = place(self::options("mailto:x".into(), 1)).await.unwrap_err();
    assert!(matches!(error, PhoneError::Uri(_)), "{error}");
}
