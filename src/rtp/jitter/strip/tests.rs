use super::*;
use crate::pcm::telephone::{share_of, sine};

fn strip(tone: &[i16]) -> Strip {
    let mut strip = Strip::new(8000);
    strip.push(tone.len(), Origin::Received).copy_from_slice(tone);
    // Half of it has been played.
    let mut out = vec![0; tone.len() / 2];
    strip.pop(&mut out);
    strip
}

fn rest(strip: &mut Strip) -> Vec<i16> {
    let mut out = vec![0; strip.len()];
    strip.pop(&mut out);
    out
}

/// The steepest step from one sample to the next.
fn steepest(samples: &[i16]) -> i32 {
    samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap()
}

#[test]
fn a_tone_is_shortened_and_lengthened_by_whole_periods_only_and_stays_a_tone() {
    for hz in [100.0, 160.0, 200.0, 310.0, 400.0f32] {
        let tone = sine(hz, -10.0, 1600);
        let period = 8000.0 / hz;
        for most in [80usize, 100, 160] {
            let (mut shorter, mut longer) = (strip(&tone), strip(&tone));
            for (strip, sign) in [(&mut shorter, -1.0f32), (&mut longer, 1.0)] {
                let before = strip.len();
                let changed =
                    if sign < 0.0 { strip.shorten(most, Sound::Speech) } else { strip.lengthen(most, Sound::Speech) };
                assert_eq!(strip.len() as f32, before as f32 + sign * changed as f32);
                assert!(changed <= most);
                // All the periods that fit, to within what a join hides.
                let periods = (most as f32 / period).floor();
                assert!(changed as f32 >= (periods * period).floor() - 4.0, "{hz} Hz, at most {most}: {changed}");
                let last = strip.before(strip.len())[strip.before(strip.len()).len() - 1];
                let heard = [&[last], &rest(strip)[..]].concat();
                assert!(
                    share_of(hz, &heard) > 0.98 && steepest(&heard) <= steepest(&tone) * 11 / 10,
                    "{hz} Hz: {changed}"
                );
            }
        }
    }
}

#[test]
fn noise_is_not_touched_as_speech_but_any_length_may_be_taken_out_of_quiet() {
    let mut random = fastrand::Rng::with_seed(2);
    let noise: Vec<i16> = (0..1600).map(|_| random.i16(-30..=30)).collect();
    let mut strip = strip(&noise);
    assert_eq!((strip.shorten(160, Sound::Speech), strip.lengthen(160, Sound::Speech)), (0, 0));
    for most in [1, 7, 39, 40, 41, 100, 160] {
        assert_eq!((strip.shorten(most, Sound::Quiet), strip.lengthen(most, Sound::Quiet)), (most, most));
    }
    assert_eq!(strip.len(), 800);
    assert!(rest(&mut strip).iter().all(|sample| (-45..=45).contains(sample)));
}

#[test]
fn nothing_is_changed_where_there_is_not_enough_to_join() {
    let mut strip = Strip::new(8000);
    strip.push(30, Origin::Received).fill(5);
    for sound in [Sound::Speech, Sound::Urgent, Sound::Quiet] {
        assert_eq!((strip.shorten(160, sound), strip.lengthen(160, sound)), (0, 0));
    }
    assert_eq!(strip.len(), 30);
}

#[test]
fn what_is_taken_out_knows_where_it_came_from() {
    let mut strip = Strip::new(8000);
    strip.push(10, Origin::Received);
    strip.push(20, Origin::Concealed);
    strip.push(30, Origin::Silence);
    let mut out = [0; 45];
    assert_eq!(strip.pop(&mut out), Share { received: 10, concealed: 20, silence: 15 });
    assert_eq!(strip.pop(&mut out), Share { received: 0, concealed: 0, silence: 15 });
}

#[test]
fn more_than_there_is_room_for_is_cut() {
    let mut strip = Strip::new(8000);
    let room = strip.room();
    assert_eq!(strip.push(room + 100, Origin::Received).len(), room);
    assert_eq!((strip.room(), strip.lengthen(100, Sound::Quiet)), (0, 0));
}
