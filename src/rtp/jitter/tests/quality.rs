//! How much of a voice survives a bad line: nothing clicks, no hole stays, and what is heard is like what was sent.

use super::*;
use crate::pcm::telephone::{share_of, sine};

/// The best normalised correlation of each sounding 100 ms of `sent` with `heard`, up to 150 ms later; the mean.
pub(super) fn match_mean(sent: &[i16], heard: &[i16]) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for begin in (0..sent.len() - 800).step_by(800) {
        let window = &sent[begin..begin + 800];
        if rms_dbfs(window) < -50.0 {
            continue;
        }
        let best = (0..1200usize.min(heard.len() - begin - 800))
            .map(|lag| {
                let other = &heard[begin + lag..][..800];
                let (mut product, mut of_window, mut of_other) = (0i64, 1i64, 1i64);
                for (&a, &b) in window.iter().zip(other) {
                    let (a, b) = (i64::from(a), i64::from(b));
                    product += a * b;
                    of_window += a * a;
                    of_other += b * b;
                }
                product as f64 / (of_window as f64 * of_other as f64).sqrt()
            })
            .fold(0.0, f64::max);
        sum += best;
        count += 1;
    }
    sum / f64::from(count)
}

#[test]
fn a_voice_stays_what_it_is_on_bad_lines() {
    let payload = encoded(&voice(8 * 8_000));
    let sent = decoded(&payload);
    let burst = Profile { loss: 0.05, burst: 2.5, ..Profile::default() };
    let jitter = Profile { jitter: ms(10), reorder: 0.03, reorder_by: ms(30), ..Profile::default() };
    for (profile, least) in [
        (Profile { loss: 0.05, ..Profile::default() }, 0.98),
        (burst, 0.96),
        (Profile { loss: 0.2, ..Profile::default() }, 0.93),
        (jitter, 0.98),
        (Profile { loss: 0.05, ..jitter }, 0.96),
        (Profile { loss: 0.2, jitter: ms(20), ..jitter }, 0.88),
    ] {
        let (heard, _, _) = through(profile, 5, &payload, 20, ms(7));
        let found = match_mean(&sent, &heard.samples);
        assert!(found > least, "{found} for {profile:?}");
    }
}

#[test]
fn at_five_percent_loss_no_hole_of_twenty_milliseconds_stays() {
    let payload = encoded(&sine(200.0, -10.0, 8 * 60_000));
    let (heard, buffer, _) = through(Profile { loss: 0.05, ..Profile::default() }, 3, &payload, 20, ms(7));
    let end = heard.samples.len() - 30 * FRAME;
    let quietest = heard.samples[..end].chunks(FRAME).map(rms_dbfs).fold(0.0, f32::min);
    assert!(quietest > -25.0, "{quietest}");
    assert!((100..200).contains(&buffer.counters().lost), "{:?}", buffer.counters());
}

#[test]
fn nothing_clicks_whatever_the_line_does() {
    // Mains hum, pitches between whole samples, and overtones.
    for (seed, hz) in [50.0, 56.0, 87.0, 113.0, 131.0, 173.0, 190.0, 313.0].into_iter().enumerate() {
        let tone: Vec<i16> =
            sine(hz, -12.0, 8 * 10_000).iter().zip(sine(hz * 3.1, -24.0, 8 * 10_000)).map(|(a, b)| a + b).collect();
        let payload = encoded(&tone);
        let limit = 2 * steepest(&decoded(&payload));
        for profile in [
            Profile { loss: 0.1, ..Profile::default() },
            Profile { loss: 0.1, burst: 4.0, ..Profile::default() },
            Profile { loss: 0.02, jitter: ms(15), reorder: 0.05, reorder_by: ms(50), ..Profile::default() },
        ] {
            let (heard, buffer, _) = through(profile, seed as u64, &payload, 20, ms(11));
            let begin = heard.samples.iter().position(|&sample| sample != 0).unwrap();
            let steepest = steepest(&heard.samples[begin..]);
            assert!(steepest <= limit, "{hz} Hz: {steepest} > {limit} {profile:?} {:?}", buffer.counters());
        }
    }
}

#[test]
fn a_tone_keeps_its_frequency_while_the_delay_is_changed() {
    let payload = encoded(&sine(310.0, -10.0, 8 * 60_000));
    let profile = Profile { jitter: ms(12), ..Profile::default() };
    let (heard, buffer, _) = through(profile, 1, &payload, 20, ms(11));
    assert!(buffer.counters().shortened + buffer.counters().stretched > 5, "{:?}", buffer.counters());
    let begin = heard.samples.iter().position(|&sample| sample != 0).unwrap();
    let end = heard.samples.len() - 25 * FRAME;
    let shares: Vec<f32> = heard.samples[begin..end].chunks_exact(800).map(|piece| share_of(310.0, piece)).collect();
    let mean = shares.iter().sum::<f32>() / shares.len() as f32;
    assert!(mean > 0.99, "{mean}");
}

/// A call as it may come: talkspurts of any packet time, with and without comfort noise, digits, pauses, on a line of any kind.
fn any_call(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let tone: Vec<i16> = sine(random.u32(80..350) as f32, -12.0, 8 * 2000);
    let (payload, limit) = (encoded(&tone), 2 * steepest(&tone));
    let profile = Profile {
        loss: [0.0, 0.02, 0.1, 0.3][random.usize(..4)],
        burst: random.f64() * 4.0,
        delay: ms(random.u64(..100)),
        jitter: ms([0, 2, 10, 30][random.usize(..4)]),
        reorder: [0.0, 0.05][random.usize(..2)],
        reorder_by: ms(random.u64(..150)),
        duplicate: [0.0, 0.05][random.usize(..2)],
    };
    let name = format!("seed {seed}: {profile:?}");
    let (start, mut network, mut buffer) = (Instant::now(), Impairment::new(profile, seed), buffer());
    let skew = 1.0 + (random.f64() - 0.5) / 1000.0;
    let (mut sequence, mut at, first) = (random.u16(..), 0u64, random.u32(..));
    while at < 8 * 20_000 {
        let ptime = 80 * [1, 2, 3, 4, 6][random.usize(..5)];
        let end = at + random.u64(800..8 * 3000);
        while at < end {
            let begin = at as usize % 8000;
            let sent = start + Duration::from_secs_f64(at as f64 / 8000.0 * skew);
            let timestamp = first.wrapping_add(at as u32);
            network.handle_packet(sent, (sequence, timestamp, Some(payload[begin..begin + ptime as usize].to_vec())));
            (sequence, at) = (sequence.wrapping_add(1), at + ptime);
        }
        // Comfort noise, a digit, or nothing but a gap in the timestamps.
        if random.bool() {
            let sent = start + Duration::from_secs_f64(at as f64 / 8000.0 * skew);
            network.handle_packet(sent, (sequence, first.wrapping_add(at as u32), None));
            sequence = sequence.wrapping_add(1);
        }
        at += random.u64(..8 * 1500);
    }
    let mut heard = Heard::default();
    for tick in 0..(at / 160 + 50) {
        let now = start + ms(tick * 20 + 3);
        while let Some((arrival, (sequence, timestamp, payload))) = network.poll(now) {
            let content = match &payload {
                Some(payload) => Content::Speech(Codec::Pcmu, payload),
                None if sequence % 2 == 0 => Content::ComfortNoise(&[60, 110]),
                None => Content::Event,
            };
            buffer.insert(sequence, timestamp, content, arrival);
        }
        heard.pull(&mut buffer, now);
        let depth = buffer.depth();
        assert!(depth <= CAP + ms(120), "{name}: {depth:?} at {tick} {} {:?}", buffer.playing, buffer.strip.len());
    }
    let counters = buffer.counters();
    assert!(heard.kinds.ends_with("...."), "{name}: {}", heard.kinds);
    assert!(counters.late + counters.overflow < counters.received / 4, "{name}: {counters:?}");
    // The first packet of all is played as it is.
    let begin = heard.samples.iter().position(|&sample| sample != 0).unwrap();
    let steepest = steepest(&heard.samples[begin..]);
    // Where sounds that have nothing to do with each other meet, the join is steeper than either.
    assert!(steepest <= limit.max(6000), "{name}: {steepest} > {limit} {counters:?}");
    assert!(rms_dbfs(&heard.samples) > -30.0, "{name}");
    let expected = network.counters().offered - network.counters().lost;
    assert_eq!(counters.received, expected + network.counters().duplicated, "{name}");
    if profile.loss == 0.0 && profile.jitter <= ms(2) && profile.reorder == 0.0 {
        assert_eq!((counters.lost, counters.late, counters.overflow), (0, 0, 0), "{name}: {counters:?}");
    }
}

/// `OFFHOOK_JITTER_CALLS=100000 cargo test --release --lib any_call` for more.
#[test]
fn any_call_on_any_line_is_heard_without_a_click_and_within_bounds() {
    let calls = std::env::var("OFFHOOK_JITTER_CALLS").ok().and_then(|calls| calls.parse().ok());
    (0..calls.unwrap_or(100)).for_each(any_call);
}
