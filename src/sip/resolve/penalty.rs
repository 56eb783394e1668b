//! Servers that did not answer are tried last for a while: 30 s, doubled each time up to 300 s, until they answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);
/// Servers that are remembered; the one whose penalty ends first makes room.
const REMEMBERED: usize = 256;

/// Which servers are out of favour, and until when.
#[derive(Debug)]
pub(super) struct Penalties<T> {
    penalties: HashMap<T, Penalty>,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    length: Duration,
    until: Instant,
}

impl<T: Eq + Hash + Clone> Penalties<T> {
    pub(super) fn new() -> Self {
        Self { penalties: HashMap::new() }
    }

    /// The server did not answer. Several requests that fail together count as one failure.
    pub(super) fn penalise(&mut self, server: T, now: Instant) {
        let before = self.penalties.get(&server).copied();
        if before.is_some_and(|penalty| now < penalty.until) {
            return;
        }
        if before.is_none() && self.penalties.len() >= REMEMBERED {
            let soonest =
                self.penalties.iter().min_by_key(|(_, penalty)| penalty.until).map(|(server, _)| server.clone());
            soonest.map(|server| self.penalties.remove(&server));
        }
        let length = before.map_or(SHORTEST, |penalty| (penalty.length * 2).min(LONGEST));
        self.penalties.insert(server, Penalty { length, until: now + length });
    }

    /// The server has answered.
    pub(super) fn forgive(&mut self, server: &T) {
        self.penalties.remove(server);
    }

    /// Puts those out of favour behind the others, the one that comes back first before the rest. Says when the first comes back.
    pub(super) fn sort<E>(&self, servers: &mut [E], server: impl Fn(&E) -> T, now: Instant) -> Option<Instant> {
        let until = |entry: &E| {
            let penalty = self.penalties.get(&server(entry))?;
            Some(penalty.until).filter(|until| now < *until)
        };
        // Stable: the order of the others stays.
        servers.sort_by_key(until);
        servers.iter().filter_map(until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn order(penalties: &Penalties<char>, now: Instant) -> String {
        let mut servers = ['a', 'b', 'c'];
        penalties.sort(&mut servers, |server| *server, now);
        servers.iter().collect()
    }

    #[test]
    fn a_bad_server_goes_to_the_end_and_comes_back_after_30_seconds() {
        let start = Instant::now();
        let mut penalties = Penalties::new();
        assert_eq!(order(&penalties, start), "abc");
        penalties.penalise('a', start);
        assert_eq!(order(&penalties, start), "bca");
        assert_eq!(penalties.sort(&mut ['b', 'a'], |server| *server, start), Some(start + 30 * SECOND));
        assert_eq!(penalties.sort(&mut ['b', 'c'], |server| *server, start), None);
        assert_eq!(order(&penalties, start + 29 * SECOND), "bca");
        assert_eq!(order(&penalties, start + 30 * SECOND), "abc");
    }

    #[test]
    fn each_failure_after_a_penalty_doubles_the_next_up_to_300_seconds() {
        let mut now = Instant::now();
        let mut penalties = Penalties::new();
        for seconds in [30, 60, 120, 240, 300, 300] {
            penalties.penalise('b', now);
            assert_eq!(order(&penalties, now + (seconds - 1) * SECOND), "acb", "{seconds}");
            now += seconds * SECOND;
            assert_eq!(order(&penalties, now), "abc", "{seconds}");
        }
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let start = Instant::now();
        let mut penalties = Penalties::new();
        for after in 0..20 {
            penalties.penalise('a', start + after * SECOND);
        }
        assert_eq!(order(&penalties, start + 30 * SECOND), "abc");
    }

    #[test]
    fn an_answer_forgives_all_of_it() {
        let start = Instant::now();
        let mut penalties = Penalties::new();
        penalties.penalise('a', start);
        penalties.penalise('a', start + 30 * SECOND);
        penalties.forgive(&'a');
        assert_eq!(order(&penalties, start + 30 * SECOND), "abc");
        penalties.penalise('a', start + 40 * SECOND);
        assert_eq!(order(&penalties, start + 70 * SECOND), "abc", "it starts with 30 s again");
    }

    #[test]
    fn when_all_are_bad_the_one_that_comes_back_first_is_tried_first() {
        let start = Instant::now();
        let mut penalties = Penalties::new();
        penalties.penalise('b', start);
        penalties.penalise('a', start + SECOND);
        penalties.penalise('c', start + 2 * SECOND);
        assert_eq!(order(&penalties, start + 3 * SECOND), "bac");
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut penalties = Penalties::new();
        for server in 0..10_000_u32 {
            penalties.penalise(server, start + server * Duration::from_millis(1));
        }
        assert_eq!(penalties.penalties.len(), REMEMBERED);
        let mut servers = [9_999, 0];
        penalties.sort(&mut servers, |server| *server, start + 10 * SECOND);
        assert_eq!(servers, [0, 9_999], "the latest are remembered");
    }
}
