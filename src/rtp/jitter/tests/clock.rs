//! The delay over time: what makes it grow, what brings it down, and clocks that disagree.

use super::*;

/// Sends packets of 20 ms whose transit in µs is given, pulls every 20 ms; the delay and target of every pull in ms.
fn follow(
    buffer: &mut JitterBuffer,
    seconds: u64,
    skew_ppm: i64,
    mut transit_us: impl FnMut(u64) -> i64,
) -> Vec<(f32, f32)> {
    // A second of voice and pauses, over and over.
    let payload = encoded(&voice(8 * 2000));
    let frames: Vec<&[u8]> = payload.chunks_exact(FRAME).collect();
    let (start, mut waiting, mut sent) = (Instant::now(), Vec::new(), 0u64);
    let mut figures = Vec::new();
    let mut out = [0; FRAME];
    for tick in 0..seconds * 50 {
        let now_us = tick as i64 * 20_000 + 5_000;
        loop {
            let at = sent as i64 * 20_000 - sent as i64 * 20_000 / 1000 * skew_ppm / 1000;
            if at > now_us {
                break;
            }
            waiting.push((at + transit_us(sent), sent));
            sent += 1;
        }
        waiting.sort_unstable();
        while let Some(&(at, n)) = waiting.first().filter(|(at, _)| *at <= now_us) {
            let arrival = start + Duration::from_secs(1) + Duration::from_micros((at + 1_000_000) as u64);
            let content = Content::Speech(Codec::Pcmu, frames[n as usize % frames.len()]);
            buffer.insert(n as u16, (n as u32).wrapping_mul(160), content, arrival);
            waiting.remove(0);
        }
        buffer.pull(start + Duration::from_micros((now_us + 2_000_000) as u64), &mut out);
        figures.push((buffer.delay().as_secs_f32() * 1e3, buffer.target().as_secs_f32() * 1e3));
    }
    figures
}

#[test]
fn packets_that_come_late_raise_the_delay_at_once_and_a_calm_line_brings_it_down_slowly() {
    let mut buffer = buffer();
    let figures = follow(&mut buffer, 120, 0, |n| if (500..1500).contains(&n) { (n % 7) as i64 * 8_000 } else { 0 });
    let delay_at = |second: usize| figures[second * 50].0;
    assert!(delay_at(9) < 20.0, "{}", delay_at(9));
    assert!((48.0..90.0).contains(&delay_at(12)), "{}", delay_at(12));
    assert!(delay_at(31) > 45.0, "{}", delay_at(31));
    assert!(delay_at(119) < 28.0, "{}", delay_at(119));
    let counters = buffer.counters();
    assert!(counters.concealed <= 8 && counters.shortened > 0 && counters.overflow == 0, "{counters:?}");
}

#[test]
fn a_single_packet_that_is_late_does_not_make_the_delay_long() {
    let mut buffer = buffer();
    let figures = follow(&mut buffer, 60, 0, |n| if n == 1000 { 150_000 } else { 0 });
    assert!(figures[1100..].iter().all(|figures| figures.0 < 60.0));
    assert!(figures[2900].0 < 28.0, "{}", figures[2900].0);
}

#[test]
fn the_delay_never_exceeds_the_cap_whatever_the_network_does() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut buffer = buffer();
    let figures = follow(&mut buffer, 60, 0, |_| random.i64(0..400_000));
    // The newest packet that is there may itself be late.
    let most = figures.iter().map(|figures| figures.0).fold(0.0, f32::max);
    assert!(most <= 400.0 && figures.iter().all(|figures| figures.1 <= 160.0), "{most}");
}

#[test]
fn clocks_that_disagree_by_two_hundred_millionths_for_eight_hours_neither_lengthen_the_delay_nor_starve_it() {
    for ppm in [200, -200] {
        let mut buffer = buffer();
        let figures = follow(&mut buffer, 8 * 3600, ppm, |_| 0);
        let counters = buffer.counters();
        let (least, most) = figures[50..]
            .iter()
            .fold((f32::MAX, 0.0f32), |(least, most), (delay, _)| (least.min(*delay), most.max(*delay)));
        assert!(least > 1.5 && most < 32.0, "{ppm}: delay {least} to {most} ms, {counters:?}");
        let lost = counters.lost + counters.late + counters.overflow + counters.concealed;
        assert_eq!(lost, 0, "{ppm}: {counters:?}");
        // 5.76 s in all, none of it more than needed.
        let changed = counters.stretched_samples as i64 - counters.shortened_samples as i64;
        let expected = -ppm * 8 * 3600 * 8000 / 1_000_000;
        assert!((changed - expected).abs() < 400, "{ppm}: {changed} {counters:?}");
        let against = if ppm > 0 { counters.stretched } else { counters.shortened };
        assert!(against < 10, "{ppm}: {counters:?}");
    }
}

#[test]
fn a_fast_sender_by_one_in_a_hundred_is_followed_too() {
    for ppm in [10_000, -10_000] {
        let mut buffer = buffer();
        let figures = follow(&mut buffer, 60, ppm, |_| 0);
        let counters = buffer.counters();
        let most = figures.iter().map(|figures| figures.0).fold(0.0, f32::max);
        assert!(most < 70.0 && counters.lost + counters.late + counters.overflow == 0, "{ppm}: {most} {counters:?}");
        assert!(counters.concealed < 15, "{ppm}: {counters:?}");
    }
}

#[test]
fn the_delay_is_chosen_anew_with_every_talkspurt() {
    let mut bench = Bench::new();
    bench.talk(0, 200);
    // One packet is held up, and with it those behind it: the delay grows by 60 ms.
    for tick in 200..203 {
        bench.pull(tick * 20 + 5);
    }
    for n in 200..220 {
        bench.packet(n, (n * 20).max(4060));
        bench.pull(n * 20 + 65);
    }
    assert!(bench.buffer.delay() >= ms(60), "{:?}", bench.buffer.delay());
    for tick in 223..260 {
        bench.pull(tick * 20 + 5);
    }
    for n in 220..240 {
        bench.stamped(n, (n * 160 + 40 * 160) as u32, n * 20 + 800);
        bench.pull(n * 20 + 805);
    }
    assert!(bench.buffer.delay() <= ms(45), "{:?}", bench.buffer.delay());
}
