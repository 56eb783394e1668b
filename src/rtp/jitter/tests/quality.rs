//! How much of a voice survives a bad line: nothing clicks, no hole stays, and what is heard is like what was sent.

use super::*;
use crate::pcm::tone::{share_of, sine};

/// The best normalised correlation of each sounding 100 ms of `sent` with `heard`, up to 150 ms later; the mean.
fn match_mean(sent: &[i16], heard: &[i16]) -> f64 {
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
