//! What a telephone line does to a voice: 300–3400 Hz, µ-law, lost packets through the concealment that a call has.

use std::sync::OnceLock;

use crate::codec::g711::Law;
use crate::pcm::telephone::{FRAME_SAMPLES, Frame, RATE};
use crate::rtp::conceal::Concealer;

/// Half the length of the band filter, in samples.
const REACH: usize = 100;
const BAND_HZ: [f64; 2] = [300.0, 3400.0];

/// The sound as a telephone passes it (FIR, linear phase, no delay).
pub(super) fn telephone_band(samples: &[i16]) -> Vec<i16> {
    static TAPS: OnceLock<[f32; 2 * REACH + 1]> = OnceLock::new();
    let taps = TAPS.get_or_init(|| {
        std::array::from_fn(|n| {
            let at = n as f64 - REACH as f64;
            let low_pass = |hz: f64| {
                let share = 2.0 * hz / f64::from(RATE);
                if at == 0.0 { share } else { (std::f64::consts::PI * share * at).sin() / (std::f64::consts::PI * at) }
            };
            let hamming = 0.54 + 0.46 * (std::f64::consts::PI * at / (REACH as f64 + 1.0)).cos();
            ((low_pass(BAND_HZ[1]) - low_pass(BAND_HZ[0])) * hamming) as f32
        })
    });
    (0..samples.len())
        .map(|at| {
            let from = at.saturating_sub(REACH);
            let to = (at + REACH + 1).min(samples.len());
            let taps = &taps[from + REACH - at..];
            let sum: f32 = samples[from..to].iter().zip(taps).map(|(&sample, tap)| f32::from(sample) * tap).sum();
            sum.round().clamp(-32768.0, 32767.0) as i16
        })
        .collect()
}

/// The frames that the box hears: through µ-law, of 100 packets `loss_percent` lost, each by itself, and concealed.
pub(super) fn over_the_line(sound: &[i16], loss_percent: f32, random: &mut fastrand::Rng) -> Vec<Frame> {
    let mut concealer = Concealer::new(crate::pcm::telephone::RATE);
    let mut payload = [0; FRAME_SAMPLES];
    sound
        .chunks(FRAME_SAMPLES)
        .map(|samples| {
            let mut frame = [0; FRAME_SAMPLES];
            if random.f32() * 100.0 < loss_percent {
                concealer.conceal(&mut frame);
            } else {
                frame[..samples.len()].copy_from_slice(samples);
                Law::Mu.encode(&frame, &mut payload);
                Law::Mu.decode(&payload, &mut frame);
                concealer.good(&mut frame);
            }
            frame
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::{level, tone};

    #[test]
    fn what_lies_outside_the_telephone_band_is_gone_and_what_lies_inside_stays_where_it_was() {
        for (hz, db) in [(50.0, -60.0), (150.0, -40.0), (3800.0, -40.0)] {
            let heard = telephone_band(&tone::sine_at(RATE, hz, -6.0, 8000));
            assert!(level::rms_dbfs(&heard[800..7200]) < db, "{hz} Hz: {}", level::rms_dbfs(&heard[800..7200]));
        }
        let sound = tone::sine_at(RATE, 1000.0, -6.0, 8000);
        let heard = telephone_band(&sound);
        let off = (800..7200).map(|n| (heard[n] - sound[n]).unsigned_abs()).max().unwrap();
        assert!(off < 400, "{off}");
    }

    #[test]
    fn three_packets_in_a_hundred_are_lost_and_concealed() {
        let sound = tone::sine_at(RATE, 400.0, -12.0, 160 * 2000);
        let mut random = fastrand::Rng::with_seed(1);
        let whole = over_the_line(&sound, 0.0, &mut random);
        let heard = over_the_line(&sound, 3.0, &mut random);
        let changed = whole.iter().zip(&heard).filter(|(whole, heard)| whole != heard).count();
        // The frame after a loss is mixed with the concealment, so it counts too.
        assert!((80..140).contains(&changed), "{changed}");
        assert!(heard.iter().all(|frame| level::rms_dbfs(frame) > -30.0));
    }
}
