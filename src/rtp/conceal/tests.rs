use super::*;
use crate::pcm::level::rms_dbfs;
use crate::pcm::telephone::{share_of, sine};

const FRAME: usize = 160;

fn after(tone: &[i16]) -> Concealer {
    let mut concealer = Concealer::new(8000);
    for frame in tone.chunks_exact(FRAME) {
        concealer.good(&mut frame.to_vec());
    }
    concealer
}

/// The steepest step from one sample to the next.
fn steepest(samples: &[i16]) -> i32 {
    samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap()
}

/// Mains hum, pitches between whole samples, and overtones.
fn hums() -> impl Iterator<Item = (f32, Vec<i16>)> {
    [50.0, 56.0, 87.0, 113.0, 131.0, 173.0, 190.0, 313.0]
        .into_iter()
        .map(|hz| (hz, sine(hz, -12.0, 8000).iter().zip(sine(hz * 3.1, -24.0, 8000)).map(|(a, b)| a + b).collect()))
}

#[test]
fn a_lost_frame_of_a_tone_sounds_like_the_tone() {
    let mut concealer = after(&sine(160.0, -6.0, 1600));
    let mut lost = [0; FRAME];
    concealer.conceal(&mut lost);
    assert!(share_of(160.0, &lost) > 0.95, "{}", share_of(160.0, &lost));
    assert!(rms_dbfs(&lost) > -11.0);
}

#[test]
fn concealment_fades_and_is_silent_after_sixty_milliseconds() {
    let mut concealer = after(&sine(200.0, -6.0, 1600));
    let mut levels = Vec::new();
    for _ in 0..5 {
        let mut frame = [1; FRAME];
        concealer.conceal(&mut frame);
        levels.push(rms_dbfs(&frame));
    }
    assert!(levels[0] > levels[1] && levels[1] > levels[2] && levels[2] > -40.0, "{levels:?}");
    assert_eq!(levels[3..], [-120.0, -120.0]);
}

#[test]
fn neither_the_beginning_nor_the_repetition_nor_the_end_of_a_concealment_clicks() {
    for (hz, tone) in hums() {
        let mut concealer = Concealer::new(8000);
        let mut heard = Vec::new();
        for (n, frame) in tone.chunks_exact(FRAME).enumerate() {
            let mut frame = frame.to_vec();
            // Two frames are lost in a row, so that the phase has run away by their end; the first of them soon after the beginning.
            if n % 5 == 1 || n % 5 == 2 {
                concealer.conceal(&mut frame);
            } else {
                concealer.good(&mut frame);
            }
            heard.extend(frame);
        }
        // No step is 6 dB steeper than those of the tone itself.
        let (limit, steepest) = (2 * steepest(&tone), steepest(&heard));
        assert!(steepest <= limit, "{hz} Hz: {steepest} > {limit}");
    }
}

#[test]
fn silence_is_continued_by_silence() {
    let mut concealer = Concealer::new(8000);
    let mut frame = [9; FRAME];
    concealer.conceal(&mut frame);
    assert_eq!(frame, [0; FRAME]);
}

#[test]
fn a_hole_in_a_tone_is_bridged_in_phase_and_without_a_step() {
    for (hz, tone) in hums() {
        for (hole, length, future) in
            [(800, 160, 160), (800, 160, 480), (1000, 320, 160), (170, 160, 160), (700, 60, 80)]
        {
            let mut strip = tone[..hole + length + future].to_vec();
            strip[hole..hole + length].fill(0);
            Concealment::new(8000).bridge(&mut strip, hole, length);
            assert!(strip[..hole] == tone[..hole] && strip[hole + length..] == tone[hole + length..strip.len()]);
            let (limit, steepest) = (2 * steepest(&tone), steepest(&strip));
            assert!(steepest <= limit, "{hz} Hz, {length} at {hole}, {future} behind: {steepest} > {limit}");
            if hz > 100.0 && hole >= 700 {
                let (bridge, truth) = (&strip[hole..hole + length], &tone[hole..hole + length]);
                let found = likeness(bridge, truth, 1);
                let least = if future < 160 || length > 160 { 0.8 } else { 0.93 };
                assert!(found > least, "{hz} Hz, {length} at {hole}, {future} behind: {found}");
            }
        }
    }
}

#[test]
fn a_hole_between_sound_and_silence_fades_and_a_long_one_is_silent_in_the_middle() {
    let tone = sine(210.0, -6.0, 3000);
    let mut strip = [&tone[..800], &[0; 400]].concat();
    Concealment::new(8000).bridge(&mut strip, 800, 160);
    assert!(rms_dbfs(&strip[800..840]) > rms_dbfs(&strip[920..960]) + 6.0);
    let mut strip = [&tone[..800], &[0; 1400], &tone[..400]].concat();
    Concealment::new(8000).bridge(&mut strip, 800, 1400);
    assert!(strip[1300..1700].iter().all(|&sample| sample == 0));
    assert!(rms_dbfs(&strip[800..900]) > -10.0 && rms_dbfs(&strip[2100..2200]) > -10.0);
}

#[test]
fn it_works_at_every_sample_rate() {
    for rate in [8000u32, 16_000, 24_000, 48_000] {
        let ms = rate as usize / 1000;
        let tone: Vec<i16> = (0..200 * ms)
            .map(|n| (8000.0 * (std::f64::consts::TAU * 170.0 * n as f64 / f64::from(rate)).sin()) as i16)
            .collect();
        let mut strip = tone.clone();
        strip[100 * ms..120 * ms].fill(0);
        Concealment::new(rate).bridge(&mut strip[..160 * ms], 100 * ms, 20 * ms);
        let found = likeness(&strip[100 * ms..120 * ms], &tone[100 * ms..120 * ms], 1);
        assert!(found > 0.98, "{rate}: {found}");
    }
}
