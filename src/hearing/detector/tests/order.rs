//! Whatever is heard, the events come in an order that the rooms behind can rely on.

use super::*;

/// Where the teller is in its story.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Silent,
    Onset,
    Speaking,
    Probable(u64),
    Soft(u64),
}

fn follow(place: Place, event: Heard) -> Option<Place> {
    use Place::{Onset, Probable, Silent, Soft, Speaking};
    Some(match (place, event) {
        (Silent, Heard::Onset { .. }) => Onset,
        (Onset, Heard::Dismissed { .. }) => Silent,
        (Onset, Heard::Started { .. }) | (Probable(_) | Soft(_), Heard::Resumed { .. }) => Speaking,
        (Speaking, Heard::ProbableEnd { end_sample, .. }) => Probable(end_sample),
        (Speaking, Heard::SoftEnd { end_sample, .. }) => Soft(end_sample),
        (Probable(probable), Heard::SoftEnd { end_sample, .. }) if probable == end_sample => Soft(end_sample),
        (Soft(soft), Heard::HardEnd { end_sample, .. }) if soft == end_sample => Silent,
        (Speaking | Probable(_), Heard::TooLong { .. }) => Silent,
        _ => return None,
    })
}

#[test]
fn every_beginning_is_decided_and_every_end_was_announced_or_taken_back() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut hard_ends = 0;
    for _ in 0..300 {
        let mut ear = Ear::new(Limits { max_utterance: Duration::from_secs(5), ..limits() });
        let noise = [0, QUIET, LOUD / 20, LOUD / 4, LOUD][random.usize(..5)];
        for _ in 0..random.u32(5..40) {
            let voice = random.bool();
            let (probability, amplitude) =
                if voice { (random.f32() * 0.6 + 0.4, LOUD) } else { (random.f32() * random.f32(), noise) };
            ear.hear(random.u64(1..30), probability, if random.u8(..8) == 0 { 30_000 } else { amplitude });
            match random.u8(..12) {
                0 => ear.wait(random.u64(..1200)),
                1 => ear.detector.keep_open(ear.now),
                2 => ear.detector.hint([Hint::Unknown, Hint::Open, Hint::Closed][random.usize(..3)]),
                3 => ear.detector.set_playing(random.bool()),
                _ => {}
            }
            ear.drain();
        }
        ear.wait(5000);
        let mut place = Place::Silent;
        let mut at = 0;
        for (index, &(ms, event)) in ear.told.iter().enumerate() {
            assert!(ms >= at);
            at = ms;
            place = follow(place, event).unwrap_or_else(|| {
                panic!("{:?} in {place:?}: {:#?}", event, &ear.told[index.saturating_sub(8)..=index])
            });
            hard_ends += u32::from(matches!(event, Heard::HardEnd { .. }));
        }
        assert_eq!(place, Place::Silent, "the clock ends what frames do not");
    }
    assert!(hard_ends > 300, "{hard_ends}");
}
