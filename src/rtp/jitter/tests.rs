//! The jitter buffer in virtual time, fed with a voice whose every sample is known.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::pcm::level::rms_dbfs;
use crate::rtp::impairment::{Impairment, Profile};

mod clock;
mod opus;
mod quality;

const DELAY: Duration = Duration::from_millis(20);
const FRAME: usize = 160;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn buffer() -> JitterBuffer {
    JitterBuffer::new(DELAY, 8000, 8000)
}

/// A voice: a gliding pitch with twelve harmonics, in syllables, with a pause of 300 ms every two seconds, over a soft background.
fn voice(samples: usize) -> Vec<i16> {
    let (mut random, mut phase) = (fastrand::Rng::with_seed(1), 0.0f32);
    (0..samples)
        .map(|n| {
            let time = n as f32 / 8000.0;
            let hz = 130.0 + 30.0 * (time * 1.3).sin() + 8.0 * (time * 9.0).sin();
            phase = (phase + hz / 8000.0).fract();
            let syllable = 0.55 - 0.45 * (time * 8.0 * std::f32::consts::PI).cos();
            let speaks = if time % 2.0 < 1.7 { syllable } else { 0.0 };
            let voiced: f32 = (1..=12)
                .map(|k| {
                    let formant = 1.0 / (1.0 + (k as f32 * hz / 500.0 - 1.2 - (time * 2.0).sin() * 0.5).powi(2));
                    (std::f32::consts::TAU * phase * k as f32).sin() * formant
                })
                .sum();
            (voiced * speaks * 3000.0) as i16 + random.i16(-12..=12)
        })
        .collect()
}

fn encoded(samples: &[i16]) -> Vec<u8> {
    let mut payload = vec![0; samples.len()];
    crate::codec::g711::Law::Mu.encode(samples, &mut payload);
    payload
}

fn decoded(payload: &[u8]) -> Vec<i16> {
    let mut samples = vec![0; payload.len()];
    crate::codec::g711::Law::Mu.decode(payload, &mut samples);
    samples
}

/// The steepest step from one sample to the next.
fn steepest(samples: &[i16]) -> i32 {
    samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap_or(0)
}

/// Everything that was pulled, one letter a frame.
#[derive(Debug, Default)]
struct Heard {
    kinds: String,
    samples: Vec<i16>,
}

impl Heard {
    fn pull(&mut self, buffer: &mut JitterBuffer, now: Instant) {
        let mut out = [0; FRAME];
        self.kinds.push(match buffer.pull(now, &mut out) {
            FrameKind::Speech => 'a',
            FrameKind::Concealed => 'x',
            FrameKind::Silence => '.',
        });
        self.samples.extend(out);
        buffer.packets.check();
    }

    fn count(&self, kind: char) -> usize {
        self.kinds.matches(kind).count()
    }
}

type Network = Impairment<(u16, u32, Vec<u8>)>;

/// Plays `payload` in packets of `ptime` ms through a network; the first pull is `phase` after the first packet was sent.
fn through(
    profile: Profile,
    seed: u64,
    payload: &[u8],
    ptime: usize,
    phase: Duration,
) -> (Heard, JitterBuffer, Network) {
    let (start, mut network, mut buffer) = (Instant::now(), Impairment::new(profile, seed), buffer());
    let (first_sequence, first_timestamp) = (65_500u16, u32::MAX - 3_000);
    for (n, packet) in payload.chunks_exact(ptime * 8).enumerate() {
        let sequence = first_sequence.wrapping_add(n as u16);
        let timestamp = first_timestamp.wrapping_add((n * ptime * 8) as u32);
        network.handle_packet(start + ms((n * ptime) as u64), (sequence, timestamp, packet.to_vec()));
    }
    let mut heard = Heard::default();
    for tick in 0..payload.len() / FRAME + 20 {
        let now = start + phase + ms(tick as u64 * 20);
        while let Some((arrival, (sequence, timestamp, payload))) = network.poll(now) {
            buffer.insert(sequence, timestamp, Content::Speech(Codec::Pcmu, &payload), arrival);
        }
        heard.pull(&mut buffer, now);
        assert!(buffer.depth() <= CAP + ms(60), "{:?}", buffer.depth());
    }
    (heard, buffer, network)
}

#[test]
fn on_a_clean_line_every_sample_is_played_as_it_was_sent_whatever_the_packet_time_and_phase() {
    let payload = encoded(&voice(8 * 4800));
    let sent = decoded(&payload);
    for ptime in [10, 20, 30, 40, 60] {
        for phase in (0..20).map(ms) {
            let (heard, buffer, _) = through(Profile::default(), 0, &payload, ptime, phase);
            let name = format!("ptime {ptime} phase {phase:?}: {}", heard.kinds);
            let held_back = heard.kinds.find('a').unwrap();
            // A tick that comes less than 3 ms after the packet is too close. Packets of 10 and 30 ms may begin within a frame.
            assert_eq!(held_back, usize::from(phase < ms(3)), "{name}");
            let lead = if ptime % 20 != 0 && (ms(3)..ms(13)).contains(&phase) { FRAME / 2 } else { 0 };
            assert!(heard.samples[held_back * FRAME + lead..][..sent.len()] == sent, "{name}");
            assert_eq!(heard.count('a'), sent.len() / FRAME, "{name}");
            let counters = buffer.counters();
            assert_eq!((counters.lost, counters.late, counters.overflow, counters.reordered), (0, 0, 0, 0), "{name}");
            assert_eq!((counters.stretched, counters.shortened), (0, 0), "{name}");
        }
    }
}

/// A buffer fed by hand: packets of 20 ms at given sequence numbers, timestamps and times.
struct Bench {
    buffer: JitterBuffer,
    start: Instant,
    heard: Heard,
    payload: &'static [u8],
}

/// Half a minute of voice.
static VOICE: LazyLock<Vec<u8>> = LazyLock::new(|| encoded(&voice(8 * 30_000)));

impl Bench {
    fn new() -> Self {
        Self { buffer: buffer(), start: Instant::now(), heard: Heard::default(), payload: &VOICE }
    }

    /// What was sent, as the far side of a perfect line hears it.
    fn sent(&self, packets: std::ops::Range<usize>) -> Vec<i16> {
        decoded(&self.payload[packets.start * FRAME..packets.end * FRAME])
    }

    /// Packet `n` of an even stream arrives `at` ms.
    fn packet(&mut self, n: u64, at: u64) {
        self.stamped(n, (n * 160) as u32, at);
    }

    /// Packet `n`, with a timestamp of its own.
    fn stamped(&mut self, n: u64, timestamp: u32, at: u64) {
        let begin = n as usize * FRAME % self.payload.len();
        let content = Content::Speech(Codec::Pcmu, &self.payload[begin..begin + FRAME]);
        self.buffer.insert(n as u16, timestamp, content, self.start + ms(at));
        self.buffer.packets.check();
    }

    fn pull(&mut self, at: u64) {
        self.heard.pull(&mut self.buffer, self.start + ms(at));
    }

    /// Packets `from..to` arrive and are pulled, each 5 ms after it arrived.
    fn talk(&mut self, from: u64, to: u64) {
        for n in from..to {
            self.packet(n, n * 20);
            self.pull(n * 20 + 5);
        }
    }

    /// The frames heard from `frame` on are packets `from..to`, but for the join at their beginning.
    fn assert_heard(&self, frame: usize, packets: std::ops::Range<usize>) {
        let join = 40;
        let sent = self.sent(packets);
        assert_eq!(self.heard.samples[frame * FRAME + join..][..sent.len() - join], sent[join..]);
    }
}

#[test]
fn before_the_first_packet_there_is_silence_and_not_loss() {
    let mut bench = Bench::new();
    bench.pull(0);
    bench.pull(20);
    assert_eq!((&bench.heard.kinds[..], bench.buffer.counters()), ("..", JitterCounters::default()));
    assert!(bench.heard.samples.iter().all(|&sample| sample == 0));
}

#[test]
fn a_lost_packet_is_concealed_once_and_does_not_shift_what_follows() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.pull(5 * 20 + 5);
    bench.talk(6, 10);
    assert_eq!(bench.heard.kinds, "aaaaaxaaaa");
    bench.assert_heard(6, 6..10);
    let counters = bench.buffer.counters();
    assert_eq!((counters.lost, counters.concealed, counters.concealed_samples), (1, 1, 160));
    assert_eq!(bench.buffer.depth(), Duration::ZERO);
}

#[test]
fn a_hole_whose_end_is_known_is_bridged_and_what_follows_is_untouched() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.packet(6, 100);
    bench.packet(7, 100);
    for tick in 5..8 {
        bench.pull(tick * 20 + 5);
    }
    assert_eq!(bench.heard.kinds, "aaaaaxaa");
    assert_eq!(bench.heard.samples[6 * FRAME..], bench.sent(6..8));
}

#[test]
fn three_packets_lost_in_a_row_take_three_frames_even_if_one_of_them_was_waited_for() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.pull(105);
    bench.packet(8, 124);
    bench.packet(9, 124);
    for tick in 6..10 {
        bench.pull(tick * 20 + 5);
    }
    assert_eq!(bench.heard.kinds, "aaaaaxxxaa");
    bench.assert_heard(8, 8..10);
    assert_eq!(bench.buffer.counters().lost, 3);
}

#[test]
fn a_frame_half_of_which_is_lost_counts_as_concealed_and_its_other_half_is_played() {
    let mut bench = Bench::new();
    for n in [0usize, 1, 2, 4, 5] {
        let content = Content::Speech(Codec::Pcmu, &bench.payload[n * 80..][..80]);
        bench.buffer.insert(n as u16, n as u32 * 80, content, bench.start);
    }
    for tick in 1..4 {
        bench.pull(tick * 20);
    }
    assert_eq!(bench.heard.kinds, "axa");
    let sent = bench.sent(0..3);
    assert_eq!((&bench.heard.samples[..240], &bench.heard.samples[320..]), (&sent[..240], &sent[320..]));
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().concealed_samples), (1, 80));
}

#[test]
fn a_packet_that_comes_a_tick_too_late_is_played_nevertheless() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.pull(105);
    bench.packet(5, 110);
    bench.packet(6, 120);
    for n in 7..12 {
        bench.pull(n * 20 - 15);
        bench.packet(n, n * 20);
    }
    assert_eq!(bench.heard.kinds, "aaaaaxaaaaa");
    bench.assert_heard(6, 5..10);
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().late), (0, 0));
}

#[test]
fn a_packet_that_comes_after_its_successor_was_played_is_late_and_no_longer_lost() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.packet(6, 100);
    bench.pull(105);
    bench.pull(125);
    bench.packet(5, 126);
    assert_eq!(bench.heard.kinds, "aaaaaxa");
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().late), (0, 1));
    bench.packet(5, 127);
    assert_eq!((bench.buffer.counters().late, bench.buffer.counters().duplicate), (1, 1));
}

#[test]
fn duplicates_and_packets_out_of_order_do_not_disturb() {
    let mut bench = Bench::new();
    bench.talk(0, 3);
    for n in [4, 3, 3, 4, 5, 2] {
        bench.packet(n, 61);
    }
    for tick in 3..6 {
        bench.pull(tick * 20 + 5);
    }
    assert_eq!(bench.heard.samples, bench.sent(0..6));
    let counters = bench.buffer.counters();
    assert_eq!((counters.duplicate, counters.reordered, counters.lost, counters.late), (3, 1, 0, 0));
}

#[test]
fn packets_swapped_at_the_very_beginning_are_played_in_order() {
    let mut bench = Bench::new();
    bench.packet(1, 0);
    bench.packet(0, 1);
    bench.pull(5);
    bench.pull(25);
    assert_eq!(bench.heard.samples, bench.sent(0..2));
}

#[test]
fn a_pause_of_the_sender_is_silence_and_not_loss() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    for tick in 5..50 {
        bench.pull(tick * 20 + 5);
    }
    // The sequence goes on, the timestamp says a second has passed.
    for n in 5..10u64 {
        bench.stamped(n, (n * 160 + 7200) as u32, n * 20 + 900);
        bench.pull(n * 20 + 905);
    }
    assert_eq!(bench.heard.kinds, format!("aaaaaxxx{}aaaaa", ".".repeat(42)));
    bench.assert_heard(50, 5..10);
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn a_short_pause_in_the_middle_of_what_is_buffered_is_kept() {
    let mut bench = Bench::new();
    for (n, timestamp) in [(0, 0), (1, 160), (2, 800), (3, 960)] {
        bench.stamped(n, timestamp, 0);
    }
    for tick in 0..7 {
        bench.pull(tick * 20 + 1);
    }
    assert_eq!(bench.heard.kinds, "aa...aa");
    bench.assert_heard(5, 2..4);
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn digits_in_the_sequence_are_silence_and_not_loss() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    for n in 5..10u64 {
        bench.buffer.insert(n as u16, 800, Content::Event, bench.start + ms(n * 20));
        bench.pull(n * 20 + 5);
    }
    bench.talk(10, 15);
    assert_eq!(bench.heard.kinds, "aaaaa.....aaaaa");
    bench.assert_heard(10, 10..15);
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().concealed), (0, 0));
}

#[test]
fn comfort_noise_is_heard_at_its_level_for_as_long_as_the_sender_is_silent() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.buffer.insert(5, 800, Content::ComfortNoise(&[50]), bench.start + ms(100));
    for tick in 5..55 {
        bench.pull(tick * 20 + 5);
    }
    for n in 6..10u64 {
        bench.stamped(n, (n * 160 + 7840) as u32, n * 20 + 980);
        bench.pull(n * 20 + 985);
    }
    assert_eq!(bench.heard.kinds, format!("aaaaa{}aaaa", ".".repeat(50)));
    let level = rms_dbfs(&bench.heard.samples[10 * FRAME..54 * FRAME]);
    assert!((level + 50.0).abs() < 1.0, "{level}");
    // Neither the beginning nor the end of the noise is a step.
    let voice = steepest(&bench.sent(0..10));
    assert!(steepest(&bench.heard.samples) <= voice, "{} > {voice}", steepest(&bench.heard.samples));
    bench.assert_heard(55, 6..10);
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().concealed), (0, 0));
}

#[test]
fn after_speech_without_comfort_noise_the_background_goes_on_as_it_was() {
    let mut bench = Bench::new();
    // The first two seconds end with a pause, in which there is only background.
    bench.talk(0, 100);
    for tick in 100..140 {
        bench.pull(tick * 20 + 5);
    }
    let (before, after) = (&bench.heard.samples[90 * FRAME..99 * FRAME], &bench.heard.samples[110 * FRAME..]);
    let (before, after) = (rms_dbfs(before), rms_dbfs(after));
    assert!(bench.heard.kinds.ends_with("xxx.....................................") && (before - after).abs() < 3.0);
}

#[test]
fn a_sender_that_sets_its_timestamps_anew_is_played_on_without_a_hole() {
    for jump in [1_000_000u32, 0u32.wrapping_sub(1_000_000), 80, 0u32.wrapping_sub(100)] {
        let mut bench = Bench::new();
        bench.talk(0, 5);
        for n in 5..10 {
            bench.stamped(n, ((n * 160) as u32).wrapping_add(jump), n * 20);
            bench.pull(n * 20 + 5);
        }
        assert_eq!(bench.heard.kinds, "aaaaaaaaaa", "{jump}");
        bench.assert_heard(5, 5..10);
        assert_eq!(bench.buffer.counters().lost, 0);
    }
}

#[test]
fn a_sender_that_restarts_its_sequence_is_followed() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    for (n, at) in [(40_005, 5), (40_006, 6), (3, 7), (4, 8)] {
        bench.packet(n, at * 20);
        bench.pull(at * 20 + 5);
    }
    assert_eq!(bench.heard.kinds, "aaaaaaaaa");
    assert_eq!((bench.buffer.counters().restarts, bench.buffer.counters().lost), (2, 0));
}

#[test]
fn after_an_outage_of_seconds_playout_begins_anew_and_the_hole_counts_as_lost() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.talk(205, 210);
    assert_eq!(bench.heard.kinds, "aaaaaaaaaa");
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().restarts), (200, 1));
}

#[test]
fn a_new_source_begins_as_if_nothing_had_been() {
    let mut bench = Bench::new();
    bench.talk(1000, 1005);
    bench.buffer.reset();
    bench.pull(20_105);
    for n in 0..5 {
        bench.packet(n, 20_120 + n * 20);
        bench.pull(20_125 + n * 20);
    }
    assert_eq!(bench.heard.kinds, "aaaaa.aaaaa");
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn the_configured_delay_is_kept_and_not_exceeded() {
    for delay in [0, 20, 40, 60, 100] {
        for phase in 0..20 {
            let mut buffer = JitterBuffer::new(ms(delay), 8000, 8000);
            let start = Instant::now();
            let mut tick = phase;
            for n in 0..=10u16 {
                let content = Content::Speech(Codec::Pcmu, &[7; FRAME]);
                buffer.insert(n, u32::from(n) * 160, content, start + ms(u64::from(n) * 20));
            }
            while buffer.pull(start + ms(tick), &mut [0; FRAME]) == FrameKind::Silence {
                tick += 20;
            }
            // A tick within 3 ms of the packet is too close to be relied on.
            let least = delay.saturating_sub(20).max(3);
            assert!((least..least + 20).contains(&tick), "delay {delay} phase {phase}: {tick}");
        }
    }
}

#[test]
fn what_piled_up_during_a_stall_is_cut_at_once_and_the_delay_comes_down_again() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    for tick in 5..30 {
        bench.pull(tick * 20 + 5);
    }
    for n in 5..30 {
        bench.packet(n, 600);
    }
    bench.pull(605);
    bench.pull(625);
    assert!(bench.buffer.depth() <= ms(40), "{:?}", bench.buffer.depth());
    let cut = bench.buffer.counters().overflow;
    assert!((20..=25).contains(&cut), "{cut}");
    for n in 32..900 {
        bench.packet(n - 2, n * 20 - 40);
        bench.pull(n * 20 - 35);
    }
    assert!(bench.buffer.depth() <= ms(25), "{:?}", bench.buffer.depth());
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn a_buffer_that_nobody_pulls_takes_packets_for_ever() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        bench.packet(n, n * 20);
    }
    bench.pull(200_000);
    assert_eq!(bench.heard.kinds, "a");
    assert!(bench.buffer.depth() <= ms(60), "{:?}", bench.buffer.depth());
}

#[test]
fn a_payload_that_is_too_long_is_refused() {
    let mut bench = Bench::new();
    for payload in [&[1; MAX_PAYLOAD_BYTES + 1][..], &[1; 70_000]] {
        bench.buffer.insert(0, 0, Content::Speech(Codec::Pcmu, payload), bench.start);
        bench.buffer.insert(1, 0, Content::ComfortNoise(payload), bench.start);
    }
    bench.pull(0);
    assert_eq!((&bench.heard.kinds[..], bench.buffer.counters().overflow), (".", 4));
}

#[test]
fn on_a_bad_line_every_packet_is_played_or_accounted_for() {
    let payload = encoded(&voice(8 * 60_000));
    for seed in 0..10 {
        let profile = Profile {
            loss: 0.05,
            burst: if seed % 2 == 0 { 1.0 } else { 3.0 },
            jitter: ms(10),
            reorder: 0.03,
            reorder_by: ms(30),
            duplicate: 0.03,
            ..Profile::default()
        };
        let (_, buffer, network) = through(profile, seed, &payload, 20, ms(10));
        let (line, counters) = (network.counters(), buffer.counters());
        assert_eq!(counters.received, line.offered - line.lost + line.duplicated);
        assert_eq!(counters.duplicate, line.duplicated);
        // A packet lost after the last one played is not known to be missing.
        assert!(line.lost - counters.lost <= 3, "{line:?} {counters:?}");
        // Time is made up, left out or played again only where the counters say so.
        let played = (3000 - line.lost - counters.late - counters.overflow) * FRAME as u64;
        let sounding = buffer.received_samples + counters.concealed_samples;
        let accounted = played + counters.concealed_samples + counters.stretched_samples - counters.shortened_samples;
        // What is played again may be silence.
        let least = accounted - counters.stretched_samples - 2 * FRAME as u64;
        assert!(
            (least..=accounted + 2 * FRAME as u64).contains(&sounding),
            "seed {seed}: {accounted} {sounding} {counters:?}"
        );
        assert!(counters.concealed < 280, "seed {seed}: {counters:?}");
    }
}

proptest! {
    #[test]
    fn no_sequence_of_packets_and_pulls_panics_or_breaks_the_books(
        steps in prop::collection::vec(
            (any::<u16>(), any::<u32>(), 0..500usize, 0..200u64, 0..8u8, any::<bool>()), 1..400
        ),
    ) {
        let mut bench = Bench::new();
        let (mut sequence, mut timestamp, mut at) = (0u16, 0u32, 0);
        for (number, stamp, length, pause, kind, pull) in steps {
            match kind {
                0 => (sequence, timestamp) = (number, stamp),
                1 => (sequence, timestamp) = (sequence.wrapping_add(number % 80), timestamp.wrapping_add(stamp % 4000)),
                2 => sequence = sequence.wrapping_sub(number % 80),
                3 => timestamp = timestamp.wrapping_add(stamp % 2000),
                _ => (sequence, timestamp) = (sequence.wrapping_add(1), timestamp.wrapping_add(length as u32)),
            }
            at += pause;
            let payload = &bench.payload[..length];
            let content = match number % 9 {
                0 => Content::Event,
                1 => Content::ComfortNoise(payload),
                _ => Content::Speech(Codec::Pcma, payload),
            };
            bench.buffer.insert(sequence, timestamp, content, bench.start + ms(at));
            bench.buffer.packets.check();
            if pull {
                bench.pull(at);
                // Timestamps that overlap and holes between them may add up.
                prop_assert!(!bench.buffer.playing || bench.buffer.depth() <= CAP * 2, "{:?}", bench.buffer.depth());
            }
        }
        prop_assert!(bench.buffer.counters().lost < 1 << 40);
    }
}
