//! The same work for many items on several threads, with word of how far it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::EvaluationError;

/// Called as work goes on: what is being done, how many items are done, of how many. From several threads.
pub type Progress<'a> = &'a (dyn Fn(&str, usize, usize) + Sync);

/// Does `work` for each item and keeps their order. The first failure ends it.
pub(super) fn each<I: Sync, T: Send>(
    what: &str,
    items: &[I],
    threads: usize,
    progress: Progress,
    work: impl Fn(&I) -> Result<T, EvaluationError> + Sync,
) -> Result<Vec<T>, EvaluationError> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    progress(what, 0, items.len());
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let worker = || {
            let mut results = Vec::new();
            while let Some((index, item)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, items.get(index)?)))
            {
                match work(item) {
                    Ok(result) => results.push((index, result)),
                    Err(error) => {
                        next.store(items.len(), Ordering::Relaxed);
                        *failure.lock().expect("no worker panics with the lock") = Some(error);
                        break;
                    }
                }
                progress(what, done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            }
            results
        };
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    if let Some(error) = failure.into_inner().expect("no worker panics with the lock") {
        return Err(error);
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_a_failure_ends_the_work() {
        let items: Vec<usize> = (0..100).collect();
        let told = AtomicUsize::new(0);
        let progress = |_: &str, done: usize, all: usize| {
            assert!(done <= all && all == 100);
            told.fetch_add(1, Ordering::Relaxed);
        };
        let doubled = each("doubling", &items, 4, &progress, |&n| Ok(2 * n)).unwrap();
        assert_eq!(doubled, (0..100).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(told.load(Ordering::Relaxed), 101);
        let failed = each("failing", &items, 4, &|_, _, _| {}, |&n| {
            if n == 50 { Err(EvaluationError::Voice { voice: "x".into(), note: String::new() }) } else { Ok(n) }
        });
        assert!(matches!(failed, Err(EvaluationError::Voice { .. })));
    }
}
