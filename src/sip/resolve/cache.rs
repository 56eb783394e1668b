//! What the DNS said, for as long as it may be believed, and longer while the DNS is silent (RFC 2308, RFC 8767).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lookups that are remembered; the one that expired longest ago makes room.
const REMEMBERED: usize = 512;
/// However short or long a TTL says.
pub(super) const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// How long it is believed that there is no such record; where the DNS does not say, the shortest.
pub(super) const NEGATIVE_TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60);
/// How long the DNS is not asked again while there is an old answer to go on with (RFC 8767 §5: not below 30 s).
pub(super) const STALE_TTL: Duration = Duration::from_secs(30);

/// Answers by question.
#[derive(Debug)]
pub(super) struct Cache<Q, A, E> {
    entries: HashMap<Q, Entry<A, E>>,
}

#[derive(Debug)]
struct Entry<A, E> {
    /// The DNS's last word, be it that there is nothing; an error of ours only where it has never said anything.
    answer: Result<A, E>,
    /// It is the DNS's word.
    said: bool,
    /// The answer is an old one, since the DNS does not give a new one.
    stale: bool,
    until: Instant,
}

/// An answer from the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known<A, E> {
    pub(super) answer: Result<A, E>,
    pub(super) stale: bool,
    pub(super) until: Instant,
}

impl<Q: Eq + std::hash::Hash + Clone, A: Clone, E: Clone> Cache<Q, A, E> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new() }
    }

    /// The answer, if the DNS need not be asked.
    pub(super) fn known(&self, question: &Q, now: Instant) -> Option<Known<A, E>> {
        let entry = self.entries.get(question).filter(|entry| now < entry.until)?;
        Some(Known { answer: entry.answer.clone(), stale: entry.stale, until: entry.until })
    }

    /// Whether there is an answer to go on with while the DNS is silent.
    pub(super) fn has_old(&self, question: &Q) -> bool {
        self.entries.get(question).is_some_and(|entry| entry.said)
    }

    /// The DNS has answered: with records, or that there are none, and how long either may be believed.
    pub(super) fn answered(
        &mut self,
        question: Q,
        answer: Result<(A, Duration), (E, Duration)>,
        now: Instant,
    ) -> Known<A, E> {
        let (answer, ttl) = match answer {
            Ok((answer, ttl)) => (Ok(answer), ttl.clamp(*TTL.start(), *TTL.end())),
            Err((error, ttl)) => (Err(error), ttl.clamp(*NEGATIVE_TTL.start(), *NEGATIVE_TTL.end())),
        };
        self.keep(question, Entry { answer, said: true, stale: false, until: now + ttl })
    }

    /// The DNS has not answered, or not to the point: an old answer is used again, and without one the error stays for a while.
    pub(super) fn failed(&mut self, question: Q, error: E, now: Instant) -> Known<A, E> {
        let old = self.entries.get(&question).filter(|entry| entry.said).map(|entry| entry.answer.clone());
        let entry = match old {
            Some(answer) => Entry { answer, said: true, stale: true, until: now + STALE_TTL },
            None => Entry { answer: Err(error), said: false, stale: false, until: now + *NEGATIVE_TTL.start() },
        };
        self.keep(question, entry)
    }

    /// Everything is asked anew; old answers stay for the case that nobody answers.
    pub(super) fn expire(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.until = entry.until.min(now);
        }
    }

    fn keep(&mut self, question: Q, entry: Entry<A, E>) -> Known<A, E> {
        if !self.entries.contains_key(&question) && self.entries.len() >= REMEMBERED {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.until).map(|(question, _)| question.clone());
            oldest.map(|question| self.entries.remove(&question));
        }
        let known = Known { answer: entry.answer.clone(), stale: entry.stale, until: entry.until };
        self.entries.insert(question, entry);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Cache<&'static str, u8, &'static str>;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_lives_as_long_as_its_ttl_within_5_seconds_and_1_hour() {
        let start = Instant::now();
        for (ttl, lives) in [(0, 5), (60, 60), (86_400, 3600)] {
            let mut cache = Names::new();
            let until = start + lives * SECOND;
            assert_eq!(cache.answered("a", Ok((1, ttl * SECOND)), start), Known { answer: Ok(1), stale: false, until });
            assert_eq!(cache.known(&"a", until - SECOND), Some(Known { answer: Ok(1), stale: false, until }));
            assert_eq!(cache.known(&"a", until), None);
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_asked_for_again_after_5_seconds_to_a_minute() {
        let start = Instant::now();
        for (ttl, lives) in [(0, 5), (20, 20), (3600, 60)] {
            let mut cache = Names::new();
            cache.answered("a", Err(("no such name", ttl * SECOND)), start);
            assert_eq!(cache.known(&"a", start + (lives - 1) * SECOND).unwrap().answer, Err("no such name"));
            assert_eq!(cache.known(&"a", start + lives * SECOND), None);
        }
    }

    #[test]
    fn an_old_answer_is_used_for_as_long_as_the_dns_is_silent() {
        let start = Instant::now();
        let mut cache = Names::new();
        cache.answered("a", Ok((7, 60 * SECOND)), start);
        for failure in 0..100 {
            let now = start + (60 + 30 * failure) * SECOND;
            assert_eq!(cache.known(&"a", now), None, "it is asked for again");
            let until = now + 30 * SECOND;
            assert_eq!(cache.failed("a", "silent", now), Known { answer: Ok(7), stale: true, until });
            assert_eq!(cache.known(&"a", now + 29 * SECOND), Some(Known { answer: Ok(7), stale: true, until }));
        }
        let now = start + 4000 * SECOND;
        assert!(!cache.answered("a", Ok((8, 60 * SECOND)), now).stale);
    }

    #[test]
    fn that_a_name_has_gone_is_an_answer_too_and_a_failure_is_none() {
        let start = Instant::now();
        let mut cache = Names::new();
        cache.answered("a", Ok((7, 5 * SECOND)), start);
        cache.answered("a", Err(("no such name", SECOND)), start + 5 * SECOND);
        assert!(cache.has_old(&"a"));
        assert_eq!(cache.failed("a", "silent", start + 10 * SECOND).answer, Err("no such name"));
        let until = start + 5 * SECOND;
        assert_eq!(cache.failed("b", "silent", start), Known { answer: Err("silent"), stale: false, until });
        assert!(!cache.has_old(&"b"));
        assert_eq!(cache.failed("b", "refused", start + 5 * SECOND).answer, Err("refused"));
    }

    #[test]
    fn after_a_change_of_the_network_everything_is_asked_anew_and_old_answers_stay() {
        let start = Instant::now();
        let mut cache = Names::new();
        cache.answered("a", Ok((7, 60 * SECOND)), start);
        cache.expire(start + SECOND);
        assert_eq!(cache.known(&"a", start + SECOND), None);
        assert_eq!(cache.failed("a", "silent", start + SECOND).answer, Ok(7));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let start = Instant::now();
        let mut cache = Cache::<u32, u8, ()>::new();
        for name in 0..2000 {
            cache.answered(name, Ok((1, 60 * SECOND)), start + name * Duration::from_millis(1));
        }
        assert_eq!(cache.entries.len(), REMEMBERED);
        assert!(cache.known(&1999, start + 3 * SECOND).is_some() && cache.known(&0, start + 3 * SECOND).is_none());
    }
}
