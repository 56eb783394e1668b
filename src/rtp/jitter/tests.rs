//! The jitter buffer in virtual time. Every payload byte is the number of its 10 ms piece, so that what is played can be told.

use proptest::prelude::*;

use super::*;
use crate::rtp::impairment::{Impairment, Profile};

const DELAY: Duration = Duration::from_millis(20);
const QUIET: u8 = 0xff;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A packet of the sender: `ptime` ms beginning at `begin` ms.
fn payload(begin: u64, ptime: u64) -> Vec<u8> {
    (begin * 8..(begin + ptime) * 8).map(|unit| (unit / 80 % 250) as u8).collect()
}

/// Everything that was pulled, one letter and the first byte a frame.
#[derive(Debug, Default)]
struct Heard {
    kinds: String,
    bytes: Vec<u8>,
}

impl Heard {
    fn pull(&mut self, buffer: &mut JitterBuffer, now: Instant) {
        self.kinds.push(match buffer.pull(now) {
            Pulled::Audio(frame) => {
                self.bytes.extend(frame);
                'a'
            }
            Pulled::Lost => 'x',
            Pulled::Silence => '.',
        });
        buffer.check();
    }

    fn count(&self, kind: char) -> usize {
        self.kinds.matches(kind).count()
    }
}

impl JitterBuffer {
    fn check(&self) {
        let waiting = self.slots.iter().filter(|slot| slot.waiting);
        assert_eq!(waiting.map(|slot| u32::from(slot.length - slot.played)).sum::<u32>(), self.buffered);
        assert!(self.filled < FRAME_SAMPLES);
    }
}

type Network = Impairment<(u16, u32, Vec<u8>)>;

/// Plays `count` packets of `ptime` through a network; the first pull is `phase` after the first packet was sent.
fn through(profile: Profile, seed: u64, count: u64, ptime: u64, phase: Duration) -> (Heard, JitterBuffer, Network) {
    let (start, mut network) = (Instant::now(), Impairment::new(profile, seed));
    let mut buffer = JitterBuffer::new(DELAY, QUIET);
    let (first_sequence, first_timestamp) = (65_500u16, u32::MAX - 3_000);
    for n in 0..count {
        let sequence = first_sequence.wrapping_add(n as u16);
        let timestamp = first_timestamp.wrapping_add((n * ptime * 8) as u32);
        network.handle_packet(start + ms(n * ptime), (sequence, timestamp, payload(n * ptime, ptime)));
    }
    let mut heard = Heard::default();
    for tick in 0..count * ptime / 20 + 20 {
        let now = start + phase + ms(tick * 20);
        while let Some((arrival, (sequence, timestamp, payload))) = network.poll(now) {
            buffer.insert(sequence, timestamp, &payload, arrival);
            buffer.check();
        }
        heard.pull(&mut buffer, now);
    }
    (heard, buffer, network)
}

#[test]
fn on_a_clean_line_everything_is_played_within_the_delay_whatever_the_packet_time_and_phase() {
    for ptime in [10, 20, 30, 40, 60] {
        for phase in (0..20).map(ms) {
            let (heard, buffer, _) = through(Profile::default(), 0, 240, ptime, phase);
            assert_eq!(heard.bytes, payload(0, 240 * ptime), "ptime {ptime} phase {phase:?}");
            // The frame after the last may be due before the buffer knows that there is none.
            let talk = heard.kinds.trim_matches('.').trim_end_matches('x');
            assert!(talk.chars().all(|kind| kind == 'a'), "ptime {ptime} phase {phase:?}: {}", heard.kinds);
            let held_back = heard.kinds.find('a').unwrap();
            // Exactly one delay later is still within it; 10 and 30 ms do not make whole frames.
            let most = usize::from(ptime % 20 != 0 || phase.is_zero());
            assert!(held_back <= most, "ptime {ptime} phase {phase:?}: {}", heard.kinds);
            let counters = buffer.counters();
            assert_eq!((counters.lost, counters.late, counters.overflow, counters.reordered), (0, 0, 0, 0));
        }
    }
}

/// A buffer fed by hand: packets of 20 ms at given sequence numbers, timestamps and times.
struct Bench {
    buffer: JitterBuffer,
    start: Instant,
    heard: Heard,
}

impl Bench {
    fn new() -> Self {
        Self { buffer: JitterBuffer::new(DELAY, QUIET), start: Instant::now(), heard: Heard::default() }
    }

    /// Packet `n` of an even stream arrives `at` ms.
    fn packet(&mut self, n: u64, at: u64) {
        self.buffer.insert(n as u16, (n * 160) as u32, &payload(n * 20, 20), self.start + ms(at));
        self.buffer.check();
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
}

#[test]
fn before_the_first_packet_there_is_silence_and_not_loss() {
    let mut bench = Bench::new();
    bench.pull(0);
    bench.pull(20);
    assert_eq!((&bench.heard.kinds[..], bench.buffer.counters()), ("..", JitterCounters::default()));
}

#[test]
fn a_lost_packet_is_concealed_once_and_does_not_shift_what_follows() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    bench.pull(5 * 20 + 5);
    bench.talk(6, 10);
    assert_eq!(bench.heard.kinds, "aaaaaxaaaa");
    assert_eq!(bench.heard.bytes[5 * 160..], payload(120, 80));
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().concealed), (1, 1));
    assert_eq!(bench.buffer.depth(), Duration::ZERO);
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
    assert_eq!(bench.heard.bytes[5 * 160..], payload(160, 40));
    assert_eq!(bench.buffer.counters().lost, 3);
}

#[test]
fn a_frame_half_of_which_is_lost_is_concealed_whole() {
    let mut bench = Bench::new();
    for n in [0u16, 1, 2, 4, 5] {
        bench.buffer.insert(n, u32::from(n) * 80, &payload(u64::from(n) * 10, 10), bench.start);
    }
    for tick in 1..4 {
        bench.pull(tick * 20);
    }
    assert_eq!(bench.heard.kinds, "axa");
    assert_eq!(bench.heard.bytes, [payload(0, 20), payload(40, 20)].concat());
    assert_eq!(bench.buffer.counters().lost, 1);
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
    assert_eq!(bench.heard.bytes, payload(0, 200));
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
    assert_eq!(bench.heard.bytes, payload(0, 120));
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
    assert_eq!(bench.heard.bytes, payload(0, 40));
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
        bench.buffer.insert(n as u16, (n * 160 + 7200) as u32, &payload(n * 20, 20), bench.start + ms(n * 20 + 900));
        bench.pull(n * 20 + 905);
    }
    assert_eq!(bench.heard.kinds, format!("aaaaaxxx{}aaaaa", ".".repeat(42)));
    assert_eq!(bench.heard.bytes, payload(0, 200));
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn a_short_pause_in_the_middle_of_what_is_buffered_is_kept() {
    let mut bench = Bench::new();
    for (n, timestamp) in [(0u16, 0u32), (1, 160), (2, 800), (3, 960)] {
        bench.buffer.insert(n, timestamp, &payload(u64::from(n) * 20, 20), bench.start);
    }
    for tick in 0..7 {
        bench.pull(tick * 20 + 1);
    }
    assert_eq!(bench.heard.kinds, "aa...aa");
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn digits_and_comfort_noise_in_the_sequence_are_silence_and_not_loss() {
    let mut bench = Bench::new();
    bench.talk(0, 5);
    for n in 5..10u64 {
        bench.buffer.insert(n as u16, 800, &[], bench.start + ms(n * 20));
        bench.pull(n * 20 + 5);
    }
    bench.talk(10, 15);
    assert_eq!(bench.heard.kinds, "aaaaa.....aaaaa");
    assert_eq!((bench.buffer.counters().lost, bench.buffer.counters().concealed), (0, 0));
}

#[test]
fn a_sender_that_sets_its_timestamps_anew_is_played_on_without_a_hole() {
    for jump in [1_000_000u32, 0u32.wrapping_sub(1_000_000), 80, 0u32.wrapping_sub(100)] {
        let mut bench = Bench::new();
        bench.talk(0, 5);
        for n in 5..10u64 {
            let timestamp = ((n * 160) as u32).wrapping_add(jump);
            bench.buffer.insert(n as u16, timestamp, &payload(n * 20, 20), bench.start + ms(n * 20));
            bench.pull(n * 20 + 5);
        }
        assert_eq!(bench.heard.kinds, "aaaaaaaaaa", "{jump}");
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
            let mut buffer = JitterBuffer::new(ms(delay), QUIET);
            let start = Instant::now();
            let mut tick = phase;
            for n in 0..=10u64 {
                buffer.insert(n as u16, n as u32 * 160, &payload(n * 20, 20), start + ms(n * 20));
            }
            while buffer.pull(start + ms(tick)) == Pulled::Silence {
                tick += 20;
            }
            assert!(tick <= delay.max(phase) && tick + 20 > delay, "delay {delay} phase {phase}: {tick}");
        }
    }
}

/// Plays a minute of a sender whose clock is off by `parts_per_thousand`.
fn with_drift(parts_per_thousand: i64) -> (Heard, JitterBuffer, Duration) {
    let mut buffer = JitterBuffer::new(DELAY, QUIET);
    let (start, mut heard, mut deepest, mut sent) = (Instant::now(), Heard::default(), Duration::ZERO, 0u64);
    for tick in 0..3000u64 {
        let now = start + ms(tick * 20 + 3);
        loop {
            let arrival = start + Duration::from_micros(sent * (20_000_000 / (1000 + parts_per_thousand)) as u64);
            if arrival > now {
                break;
            }
            buffer.insert(sent as u16, (sent * 160) as u32, &payload(sent * 20, 20), arrival);
            sent += 1;
        }
        heard.pull(&mut buffer, now);
        deepest = deepest.max(buffer.depth());
    }
    (heard, buffer, deepest)
}

#[test]
fn a_sender_whose_clock_is_fast_cannot_fill_the_buffer() {
    let (heard, buffer, deepest) = with_drift(10);
    assert!(deepest <= DELAY + ms(60), "{deepest:?}");
    let counters = buffer.counters();
    assert_eq!((counters.lost, counters.late, heard.count('x')), (0, 0, 0));
    // A minute at 10 ‰ is 0.6 s, 30 frames, less what stays in the buffer.
    assert!((26..=30).contains(&counters.overflow), "{counters:?}");
}

#[test]
fn a_sender_whose_clock_is_slow_costs_a_concealed_frame_now_and_then_and_nothing_is_lost() {
    let (heard, buffer, _) = with_drift(-10);
    assert_eq!((buffer.counters().lost, buffer.counters().overflow), (0, 0));
    assert!((28..=33).contains(&heard.count('x')), "{}", heard.count('x'));
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
    assert!(bench.buffer.depth() <= ms(60), "{:?}", bench.buffer.depth());
    let cut = bench.buffer.counters().overflow;
    assert!((20..=22).contains(&cut), "{cut}");
    for n in 31..900 {
        bench.packet(n - 1, n * 20 - 20);
        bench.pull(n * 20 - 15);
    }
    assert!(bench.buffer.depth() <= ms(20), "{:?}", bench.buffer.depth());
    assert_eq!(bench.buffer.counters().lost, 0);
}

#[test]
fn a_buffer_that_nobody_pulls_takes_packets_for_ever() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        bench.packet(n, n * 20);
    }
    bench.pull(200_000);
    bench.pull(200_020);
    assert_eq!(bench.heard.kinds, "aa");
    assert!(bench.buffer.depth() <= ms(60));
}

#[test]
fn a_payload_that_is_too_long_is_refused() {
    let mut bench = Bench::new();
    bench.buffer.insert(0, 0, &[1; MAX_PAYLOAD_BYTES + 1], bench.start);
    bench.buffer.insert(1, 0, &[1; 70_000], bench.start);
    bench.pull(0);
    assert_eq!((&bench.heard.kinds[..], bench.buffer.counters().overflow), (".", 2));
}

#[test]
fn on_a_bad_line_every_packet_is_played_once_in_order_or_accounted_for() {
    for seed in 0..20 {
        let profile = Profile {
            loss: 0.05,
            burst: if seed % 2 == 0 { 1.0 } else { 3.0 },
            jitter: ms(10),
            reorder: 0.03,
            reorder_by: ms(30),
            duplicate: 0.03,
            ..Profile::default()
        };
        let (heard, buffer, network) = through(profile, seed, 3000, 20, ms(10));
        let (line, counters) = (network.counters(), buffer.counters());
        assert_eq!(counters.received, line.offered - line.lost + line.duplicated);
        // A packet lost after the last one played is not known to be missing.
        assert!(line.lost - counters.lost <= 3, "{line:?} {counters:?}");
        // All pieces ascend: the stream is cut and mended but never out of order.
        let mut pieces = heard.bytes.chunks_exact(80).map(|piece| piece[0]);
        let first = pieces.next().unwrap();
        pieces.fold(first, |before, piece| {
            let ahead = (u32::from(piece) + 250 - u32::from(before)) % 250;
            assert!((1..100).contains(&ahead), "seed {seed}: {before} then {piece}");
            piece
        });
        let played = heard.count('a') as u64;
        let accounted = played + counters.overflow + counters.lost + counters.late;
        assert!((2990..=3000).contains(&accounted), "seed {seed}: played {played}, {counters:?}");
        assert!(played > 2600, "seed {seed}: played {played}, {counters:?}");
    }
}

proptest! {
    #[test]
    fn no_sequence_of_packets_and_pulls_panics_or_breaks_the_books(
        steps in prop::collection::vec(
            (any::<u16>(), any::<u32>(), 0..500usize, 0..200u64, 0..4u8, any::<bool>()), 1..400
        ),
    ) {
        let mut bench = Bench::new();
        let (mut sequence, mut timestamp, mut at) = (0u16, 0u32, 0);
        for (number, stamp, length, pause, kind, pull) in steps {
            match kind {
                0 => (sequence, timestamp) = (number, stamp),
                1 => (sequence, timestamp) = (sequence.wrapping_add(number % 80), timestamp.wrapping_add(stamp % 4000)),
                2 => sequence = sequence.wrapping_sub(number % 80),
                _ => (sequence, timestamp) = (sequence.wrapping_add(1), timestamp.wrapping_add(length as u32)),
            }
            at += pause;
            bench.buffer.insert(sequence, timestamp, &[7; 500][..length], bench.start + ms(at));
            bench.buffer.check();
            if pull {
                bench.pull(at);
            }
        }
        prop_assert!(bench.buffer.counters().lost < 1 << 40);
    }
}
