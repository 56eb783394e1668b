//! Which model may be asked: one that is limited, ill or gone is left alone for a while, so that no caller waits for it.

use std::time::{Duration, Instant};

use super::FaultClass;

/// How long a model that is limited rests when nobody said how long.
const LIMITED: Duration = Duration::from_secs(30);
/// How long a model rests that a person must mend: then a request finds out whether somebody did. A new key is tried at once.
const FOR_GOOD: Duration = Duration::from_secs(3600);
/// Refusals in succession after which a model's requests are taken for wrong; one alone may be due to one conversation.
const REFUSALS: u32 = 2;
/// Failures within [`WINDOW`] after which a model rests.
const FAILURES: u32 = 2;
/// How long a failure is remembered.
const WINDOW: Duration = Duration::from_secs(60);
/// The first rest of a model that fails; each further one is twice as long.
const REST: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST_REST: Duration = Duration::from_secs(120);

/// How a request ended, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended<'a> {
    /// With an answer.
    Well,
    /// With a fault.
    Failed(&'a FaultClass),
    /// It was given up after a long time without any text, or another model that was asked later was sooner.
    Silent,
}

/// One entry a model, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Breaker(Vec<Health>);

#[derive(Debug, Clone)]
struct Health {
    /// Whose key it is asked with.
    account: usize,
    /// Until when it is left alone.
    until: Option<Instant>,
    /// Failures since then.
    failures: Option<(u32, Instant)>,
    refusals: u32,
    /// The key was refused.
    refused: bool,
    /// The next rest.
    rest: Duration,
}

impl Health {
    fn well(account: usize) -> Self {
        Self { account, until: None, failures: None, refusals: 0, refused: false, rest: REST }
    }

    fn rests(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn failed(&mut self, now: Instant) {
        // Requests that left before it was opened say nothing new.
        if self.rests(now) {
            return;
        }
        let (before, since) = self.failures.filter(|(_, since)| now - *since <= WINDOW).unwrap_or((0, now));
        self.failures = Some((before + 1, since));
        if before + 1 >= FAILURES {
            let until = now + self.rest;
            self.until = Some(until);
            self.rest = (self.rest * 2).min(LONGEST_REST);
            // The first failure after the rest is enough for the next.
            self.failures = Some((FAILURES - 1, until));
        }
    }
}

impl Breaker {
    /// `accounts`: for each model the number of its account; models of one account share a key.
    pub(super) fn new(accounts: impl IntoIterator<Item = usize>) -> Self {
        Self(accounts.into_iter().map(Health::well).collect())
    }

    /// The models that may be asked, in order.
    pub(super) fn usable(&self, now: Instant) -> Vec<usize> {
        (0..self.0.len()).filter(|&model| !self.0[model].rests(now)).collect()
    }

    /// The one whose rest ends first: a request that is refused costs the caller less than an apology without having asked.
    pub(super) fn last_resort(&self, now: Instant) -> Option<usize> {
        let resting = (0..self.0.len()).filter(|&model| self.0[model].rests(now));
        resting.min_by_key(|&model| self.0[model].until)
    }

    /// The models whose key was refused, one an account.
    pub(super) fn refused(&self) -> Vec<usize> {
        let first = |&model: &usize| self.0[..model].iter().all(|other| other.account != self.0[model].account);
        (0..self.0.len()).filter(|&model| self.0[model].refused).filter(first).collect()
    }

    /// The model's account has another key: what was refused before says nothing any more.
    pub(super) fn new_key(&mut self, model: usize) {
        let account = self.0[model].account;
        for health in self.0.iter_mut().filter(|health| health.account == account && health.refused) {
            *health = Health::well(account);
        }
    }

    /// Notes how a request to a model ended.
    pub(super) fn note(&mut self, model: usize, now: Instant, ended: Ended<'_>) {
        use FaultClass::*;
        if ended == Ended::Well {
            // Whatever was wrong with the key has been mended.
            self.new_key(model);
        }
        let account = self.0[model].account;
        let health = &mut self.0[model];
        match ended {
            Ended::Well => *health = Health::well(account),
            Ended::Failed(RateLimited { retry_after }) => {
                health.until = Some(now + retry_after.unwrap_or(LIMITED).min(FOR_GOOD));
            }
            Ended::Failed(Auth) => {
                for health in self.0.iter_mut().filter(|health| health.account == account) {
                    health.until = Some(now + FOR_GOOD);
                    health.refused = true;
                }
            }
            Ended::Failed(Gone) => health.until = Some(now + FOR_GOOD),
            Ended::Failed(Config) => {
                health.refusals += 1;
                if health.refusals >= REFUSALS {
                    health.until = Some(now + FOR_GOOD);
                }
            }
            Ended::Failed(Overloaded | Timeout | Truncated | Protocol | Network) | Ended::Silent => health.failed(now),
            Ended::Failed(Empty | Blocked(_) | NoText | Cancelled) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ILL: Ended<'_> = Ended::Failed(&FaultClass::Overloaded);

    fn breaker(models: usize) -> (Breaker, Instant) {
        (Breaker::new(0..models), Instant::now())
    }

    #[test]
    fn a_limited_model_rests_for_as_long_as_it_said_and_thirty_seconds_otherwise() {
        let (mut breaker, now) = breaker(2);
        breaker.note(0, now, Ended::Failed(&FaultClass::RateLimited { retry_after: Some(2 * SECOND) }));
        assert_eq!(breaker.usable(now + SECOND), [1]);
        assert_eq!(breaker.usable(now + 2 * SECOND), [0, 1]);
        breaker.note(0, now, Ended::Failed(&FaultClass::RateLimited { retry_after: None }));
        assert_eq!(breaker.usable(now + 29 * SECOND), [1]);
        assert_eq!(breaker.usable(now + 30 * SECOND), [0, 1]);
        breaker.note(0, now, Ended::Failed(&FaultClass::RateLimited { retry_after: Some(Duration::MAX) }));
        assert_eq!(breaker.usable(now + 3600 * SECOND), [0, 1]);
    }

    #[test]
    fn a_model_that_answers_is_used_again_at_once() {
        let (mut breaker, now) = breaker(2);
        breaker.note(0, now, Ended::Failed(&FaultClass::Gone));
        assert_eq!(breaker.usable(now + 60 * SECOND), [1]);
        breaker.note(0, now, Ended::Well);
        assert_eq!(breaker.usable(now), [0, 1]);
    }

    #[test]
    fn when_all_rest_the_one_that_wakes_first_is_the_last_resort() {
        let (mut breaker, now) = breaker(3);
        for (model, seconds) in [(0, 40), (1, 20), (2, 50)] {
            let after = FaultClass::RateLimited { retry_after: Some(seconds * SECOND) };
            breaker.note(model, now, Ended::Failed(&after));
        }
        assert_eq!((breaker.usable(now), breaker.last_resort(now)), (vec![], Some(1)));
    }

    #[test]
    fn a_wrong_key_closes_the_way_to_every_model_of_the_account_and_to_no_other() {
        let (mut breaker, now) = (Breaker::new([0, 0, 1]), Instant::now());
        breaker.note(0, now, Ended::Failed(&FaultClass::Auth));
        assert_eq!(breaker.usable(now + 3599 * SECOND), [2]);
        assert_eq!(breaker.usable(now + 3600 * SECOND), [0, 1, 2]);
    }

    #[test]
    fn a_new_key_opens_the_way_to_what_its_refusal_closed_and_to_nothing_else() {
        let (mut breaker, now) = (Breaker::new([0, 0, 1, 2]), Instant::now());
        breaker.note(1, now, Ended::Failed(&FaultClass::Auth));
        breaker.note(2, now, Ended::Failed(&FaultClass::Gone));
        breaker.note(3, now, Ended::Failed(&FaultClass::Auth));
        assert_eq!((breaker.usable(now), breaker.refused()), (vec![], vec![0, 3]));
        breaker.new_key(0);
        assert_eq!((breaker.usable(now), breaker.refused()), (vec![0, 1], vec![3]));
    }

    #[test]
    fn an_answer_shows_that_the_key_of_the_whole_account_is_good_again() {
        let (mut breaker, now) = (Breaker::new([0, 0]), Instant::now());
        breaker.note(1, now, Ended::Failed(&FaultClass::Auth));
        breaker.note(0, now, Ended::Well);
        assert_eq!(breaker.usable(now), [0, 1]);
    }

    #[test]
    fn one_refused_request_is_forgiven_and_two_in_succession_are_not() {
        let (mut breaker, now) = breaker(1);
        let refused = Ended::Failed(&FaultClass::Config);
        for ended in [refused, Ended::Well, refused] {
            breaker.note(0, now, ended);
            assert_eq!(breaker.usable(now), [0]);
        }
        breaker.note(0, now, refused);
        assert!(breaker.usable(now + 3599 * SECOND).is_empty());
    }

    #[test]
    fn a_model_that_fails_again_and_again_rests_ever_longer_and_never_beyond_the_bound() {
        let (mut breaker, mut now) = breaker(1);
        breaker.note(0, now, ILL);
        assert_eq!(breaker.usable(now), [0], "one failure is none");
        for seconds in [5, 10, 20, 40, 80, 120, 120] {
            breaker.note(0, now, ILL);
            assert!(breaker.usable(now + (seconds - 1) * SECOND).is_empty(), "{seconds}");
            now += seconds * SECOND;
            assert_eq!(breaker.usable(now), [0], "{seconds}");
        }
        breaker.note(0, now, Ended::Well);
        breaker.note(0, now, ILL);
        assert_eq!(breaker.usable(now), [0], "an answer forgives everything");
    }

    #[test]
    fn failures_that_lie_far_apart_open_nothing() {
        let (mut breaker, now) = breaker(1);
        for minutes in 0..10 {
            let at = now + minutes * 61 * SECOND;
            breaker.note(0, at, Ended::Silent);
            assert_eq!(breaker.usable(at), [0]);
        }
    }

    #[test]
    fn a_dozen_calls_that_fail_together_make_one_rest() {
        let (mut breaker, now) = breaker(1);
        for _ in 0..12 {
            breaker.note(0, now, ILL);
        }
        assert_eq!(breaker.usable(now + 5 * SECOND), [0]);
    }

    #[test]
    fn what_is_not_the_models_fault_keeps_nobody_from_asking() {
        let (mut breaker, now) = breaker(1);
        for class in
            [FaultClass::Empty, FaultClass::Blocked("SAFETY".into()), FaultClass::NoText, FaultClass::Cancelled]
        {
            for _ in 0..5 {
                breaker.note(0, now, Ended::Failed(&class));
            }
            assert_eq!(breaker.usable(now), [0], "{class}");
        }
    }
}
