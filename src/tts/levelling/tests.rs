//! Phrases that are too loud, too soft, off zero or faint, of voices that are known and of others, in virtual time.

use super::*;
use crate::pcm::tone;
use crate::tts::shape::CEILING;

const TARGET_DBFS: f32 = -20.0;

fn samples(seconds: f32) -> usize {
    (seconds * RATE as f32) as usize
}

/// So many words of 300 ms, the second of each pair 6 dB softer.
fn words(dbfs: f32, count: usize) -> Vec<i16> {
    let word = |n: usize| tone::sine(300.0, dbfs + 3.0 - 6.0 * (n % 2) as f32, samples(0.3));
    (0..count).flat_map(|n| [word(n), vec![0; samples(0.1)]].concat()).collect()
}

/// What comes of a sound that arrives `speed` times as fast as it sounds, in pieces of 100 ms, and when the first of it was there.
fn spoken(loudness: &Loudness, sound: &[i16], speed: f32) -> (Vec<i16>, Duration) {
    let start = Instant::now();
    let mut levelling = Levelling::new(loudness, TARGET_DBFS);
    let (mut out, mut first) = (Vec::new(), None);
    let mut now = start;
    for part in sound.chunks(samples(0.1)) {
        if let Some(at) = levelling.decides_at().filter(|at| *at <= now) {
            levelling.decide(&mut out);
            first.get_or_insert(at - start);
        }
        levelling.push(now, part.to_vec(), &mut out);
        if !out.is_empty() {
            first.get_or_insert(now - start);
        }
        now += Duration::from_millis(100).div_f32(speed);
    }
    levelling.finish(now, &mut out);
    (out, first.unwrap_or(now - start))
}

fn level(sound: &[i16]) -> f32 {
    level::active_dbfs(sound).unwrap()
}

#[test]
fn a_phrase_that_is_there_at_once_has_the_level_whatever_the_voice_did_before() {
    let loudness = Loudness::default();
    for dbfs in [-20.0, -8.0, -30.0, -26.0, -14.0] {
        let first = loudness.known().is_none();
        let (sound, _) = spoken(&loudness, &words(dbfs, 5), 1000.0);
        assert!(first || (level(&sound) - TARGET_DBFS).abs() < 0.1, "{dbfs}: {}", level(&sound));
        assert_eq!(sound.len(), words(dbfs, 5).len());
    }
    // What is almost silent stays so.
    let (faint, _) = spoken(&loudness, &words(-44.0, 2), 1000.0);
    assert!(level(&faint) < TARGET_DBFS - 1.0, "{}", level(&faint));
}

#[test]
fn a_voice_that_streams_is_at_the_level_from_its_second_phrase_on_and_does_not_wait() {
    for dbfs in [-8.0, -20.0, -35.0] {
        let loudness = Loudness::default();
        let (sound, first) = spoken(&loudness, &words(dbfs, 6), 2.0);
        // The first word is 3 dB above the phrase.
        assert!((level(&sound) - TARGET_DBFS).abs() < 4.0, "{dbfs}: {}", level(&sound));
        assert_eq!(first.as_millis(), 50, "200 ms of sound");
        for count in [3, 5, 4, 7] {
            let (sound, first) = spoken(&loudness, &words(dbfs, count), 2.0);
            assert!((level(&sound) - TARGET_DBFS).abs() < 1.0, "{dbfs}: {}", level(&sound));
            assert_eq!(first, Duration::ZERO);
        }
    }
}

#[test]
fn the_gain_is_one_from_the_first_sample_to_the_last() {
    let loudness = Loudness::default();
    for speed in [2.0, 2.0, 1000.0] {
        let sound = words(-30.0, 9);
        let (heard, _) = spoken(&loudness, &sound, speed);
        let gains: Vec<f32> = (0..9)
            .map(|n| samples(0.4) * n + samples(0.05)..samples(0.4) * n + samples(0.25))
            .map(|word| level::rms_dbfs(&heard[word.clone()]) - level::rms_dbfs(&sound[word]))
            .collect();
        assert!(gains.iter().all(|gain| (gain - gains[0]).abs() < 0.1), "{gains:?}");
    }
}

#[test]
fn a_phrase_that_was_to_be_whole_and_is_not_waits_for_fifty_milliseconds_and_the_next_for_none() {
    let loudness = Loudness::default();
    spoken(&loudness, &words(-20.0, 5), 1000.0);
    assert!(loudness.comes_whole());
    let (sound, first) = spoken(&loudness, &words(-20.0, 5), 2.0);
    assert_eq!(first, GATHER);
    assert!((level(&sound) - TARGET_DBFS).abs() < 1.0);
    assert_eq!(spoken(&loudness, &words(-20.0, 5), 2.0).1, Duration::ZERO);
}

#[test]
fn nothing_is_above_the_ceiling_and_direct_current_is_gone() {
    let loudness = Loudness::default();
    for speed in [2.0, 2.0, 1000.0] {
        let mut sound = words(-24.0, 6);
        // A crest of 26 dB.
        for click in 0..20 {
            sound[click * samples(0.1) + 7] = 30_000;
        }
        sound.iter_mut().for_each(|sample| *sample = sample.saturating_add(1500));
        let (heard, _) = spoken(&loudness, &sound, speed);
        assert!(heard.iter().all(|sample| sample.abs() <= CEILING));
        let mean = heard.iter().map(|&sample| f64::from(sample)).sum::<f64>() / heard.len() as f64;
        assert!(mean.abs() < 0.001 * 32768.0, "{mean}");
    }
}

#[test]
fn sound_that_is_never_loud_enough_to_measure_is_not_held_back_for_ever() {
    let mut levelling = Levelling::new(&Loudness::default(), TARGET_DBFS);
    let (now, mut out) = (Instant::now(), Vec::new());
    for _ in 0..100 {
        levelling.push(now, vec![3; samples(0.1)], &mut out);
    }
    assert!(out.len() > samples(7.0));
    assert!(!levelling.finish(now, &mut out), "there is nothing to learn");
    assert_eq!(out.len(), samples(10.0));
}

#[test]
fn a_phrase_that_is_not_needed_yet_is_waited_for_and_has_the_level_however_slowly_it_comes() {
    let loudness = Loudness::default();
    loudness.learn(-20.0, Duration::from_secs(10), false);
    let (start, sound) = (Instant::now(), words(-30.0, 5));
    for (needed_after_ms, decided_after_ms, whole) in
        [(3000, None, true), (900, Some(700), false), (100, Some(0), false)]
    {
        let needed_at = start + Duration::from_millis(needed_after_ms);
        let mut levelling = Levelling::new(&loudness, TARGET_DBFS).needed_at(Some(needed_at));
        let (mut out, mut decided) = (Vec::new(), None);
        // As fast as it sounds: 2 s.
        for (n, part) in sound.chunks(samples(0.1)).enumerate() {
            let now = start + Duration::from_millis(100) * n as u32;
            if levelling.decides_at().is_some_and(|at| at <= now) {
                levelling.decide(&mut out);
            }
            levelling.push(now, part.to_vec(), &mut out);
            if !out.is_empty() {
                decided.get_or_insert(now - start);
            }
        }
        assert_eq!(decided.map(|decided| decided.as_millis()), decided_after_ms);
        levelling.finish(start + Duration::from_secs(2), &mut out);
        assert_eq!((level(&out) - TARGET_DBFS).abs() < 0.1, whole, "{}", level(&out));
        loudness.learn(-20.0, Duration::from_secs(1000), false);
    }
}
