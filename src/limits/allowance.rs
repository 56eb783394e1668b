//! What one call may still ask for, shared by all that asks for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::warn;

use super::{Bound, Cost, Day, Spent};
use crate::config;

/// What the time is. Days are told apart by it.
type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// A call's budget, and its part of the day's. Clones are the same budget.
#[derive(Clone)]
pub struct Allowance(Arc<Inside>);

struct Inside {
    limits: config::Limits,
    day: Day,
    clock: Box<Clock>,
    so_far: Mutex<SoFar>,
}

#[derive(Debug, Default)]
struct SoFar {
    spent: Spent,
    /// Somebody was told that it is used up.
    told: bool,
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance").field("so_far", &*self.so_far()).field("day", &self.0.day).finish_non_exhaustive()
    }
}

impl Allowance {
    /// A new call's.
    pub fn new(limits: &config::Limits, day: Day) -> Self {
        Self::with_clock(limits, day, SystemTime::now)
    }

    /// The same by another clock.
    pub fn with_clock(
        limits: &config::Limits,
        day: Day,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inside { limits: limits.clone(), day, clock: Box::new(clock), so_far: Mutex::default() }))
    }

    /// Counts a request that is about to leave.
    ///
    /// # Errors
    /// The bound that does not let it.
    pub fn request(&self) -> Result<(), Bound> {
        let today = self.0.day.cost((self.0.clock)());
        let mut so_far = self.so_far();
        if let Some(bound) = so_far.spent.bound(&self.0.limits, today) {
            if !std::mem::replace(&mut so_far.told, true) {
                warn!(?bound, "the budget is used up: [limits]");
            }
            return Err(bound);
        }
        so_far.spent.request();
        Ok(())
    }

    /// Something has cost so much.
    pub fn charge(&self, cost: Cost) {
        self.so_far().spent.add(cost);
        self.0.day.add((self.0.clock)(), cost);
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.0.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
