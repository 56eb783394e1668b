//! Until when what a voice has said of an answer lasts at least, so that its next phrase is not needed sooner.
//!
//! Sans-IO. It is the earliest that can be: as if each piece were heard as soon as it was sent.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::AnswerId;
use crate::pcm;

/// Answers that are remembered: more than there are calls.
const MOST: usize = 512;

/// The answers that one voice speaks.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<(AnswerId, Instant)>>);

impl Pace {
    /// So many samples of the answer were passed on. What nobody hears, call 0, is not counted.
    pub fn sent(&self, now: Instant, answer: AnswerId, samples: usize) {
        if answer.call == 0 {
            return;
        }
        let mut answers = self.answers();
        let place = answers.iter().position(|(known, _)| *known == answer);
        let begins = place.and_then(|place| answers.remove(place)).map_or(now, |(_, until)| until.max(now));
        if answers.len() == MOST {
            answers.pop_front();
        }
        answers.push_back((answer, begins + pcm::duration(samples as u64)));
    }

    /// Until when the sound of the answer so far lasts; `None` when there is none.
    pub fn lasts_until(&self, answer: AnswerId) -> Option<Instant> {
        self.answers().iter().rev().find(|(known, _)| *known == answer).map(|(_, until)| *until)
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<(AnswerId, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pcm::samples_in;

    #[test]
    fn an_answer_lasts_as_long_as_its_sound_and_a_gap_in_it_is_not_made_up_for() {
        let (pace, start, second) = (Pace::default(), Instant::now(), Duration::from_secs(1));
        let one = AnswerId { call: 1, answer: 1 };
        assert_eq!(pace.lasts_until(one), None);
        (0..2).for_each(|_| pace.sent(start, one, samples_in(second) as usize));
        assert_eq!(pace.lasts_until(one), Some(start + 2 * second));
        pace.sent(start + 5 * second, one, samples_in(second) as usize);
        assert_eq!(pace.lasts_until(one), Some(start + 6 * second));
        assert_eq!(pace.lasts_until(AnswerId { call: 1, answer: 2 }), None);
        pace.sent(start, AnswerId::default(), 100);
        assert_eq!(pace.lasts_until(AnswerId::default()), None);
        (2..MOST as u64 + 2).for_each(|call| pace.sent(start, AnswerId { call, answer: 1 }, 100));
        assert_eq!(pace.answers().len(), MOST);
        assert_eq!(pace.lasts_until(one), None);
    }
}
