//! What all calls of a day have cost, over restarts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use super::Cost;

const DAY_S: u64 = 86_400;

/// The file that keeps the sum cannot be used.
#[derive(Debug, Error)]
pub enum DayError {
    /// It cannot be read or written.
    #[error("{}: {source}; [limits] state_file must be in a folder that the service may write to", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else. A budget that nobody knows is not a new one.
    #[error("{}: not a day's sum ({problem}); remove it to begin the day anew", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        problem: String,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    /// Days since 1970, in UTC.
    day: u64,
    tokens: u64,
    /// Money, in millionths; a file without it is of a version that counted none.
    #[serde(default)]
    micros: u64,
}

impl Sum {
    /// The sum as it stands then. A clock that goes back a little does not give the budget back.
    fn at(self, now: SystemTime) -> Self {
        let day = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY_S;
        // A clock that was far ahead and was set right must not hold a day's budget for years.
        if day > self.day || day + 1 < self.day { Self { day, ..Self::default() } } else { self }
    }
}

/// The day's sum, shared by all calls. Clones are the same sum.
#[derive(Debug, Clone)]
pub struct Day(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    file: Option<PathBuf>,
    sum: Mutex<Sum>,
    writing: Mutex<()>,
}

impl Day {
    /// The sum as `file` has it; without a file it begins at nothing.
    ///
    /// # Errors
    /// When there is a file that cannot be used, or none can be written.
    pub fn open(file: Option<&Path>) -> Result<Self, DayError> {
        let sum = file.map_or(Ok(Sum::default()), read)?;
        let day =
            Self(Arc::new(Inside { file: file.map(Path::to_owned), sum: Mutex::new(sum), writing: Mutex::new(()) }));
        day.save()?;
        Ok(day)
    }

    /// What the day has cost.
    pub fn cost(&self, now: SystemTime) -> Cost {
        let Sum { tokens, micros, .. } = self.lock().at(now);
        Cost { tokens, micros }
    }

    /// Something has cost so much. The file is written aside.
    pub fn add(&self, now: SystemTime, cost: Cost) {
        if cost == Cost::default() {
            return;
        }
        {
            let mut sum = self.lock();
            *sum = sum.at(now);
            sum.tokens = sum.tokens.saturating_add(cost.tokens);
            sum.micros = sum.micros.saturating_add(cost.micros);
        }
        if self.0.file.is_some() {
            let day = self.clone();
            let write = move || {
                if let Err(error) = day.save() {
                    warn!(%error, "what the day has cost was not written down");
                }
            };
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(write)),
                Err(_) => write(),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sum> {
        self.0.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<(), DayError> {
        let Some(path) = &self.0.file else { return Ok(()) };
        // The last one to write has the newest sum.
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = *self.lock();
        write(path, &sum).map_err(|source| DayError::Io { path: path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Sum, DayError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| DayError::Malformed { path: path.into(), problem: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Sum::default()),
        Err(source) => Err(DayError::Io { path: path.into(), source }),
    }
}

/// Whole, durable, and only then under its name.
fn write(path: &Path, sum: &Sum) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&serde_json::to_vec(sum)?)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::limits::{Bound, Spent};
    use crate::model::Usage;

    fn at(hours: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY_S + hours * 3600)
    }

    #[test]
    fn a_day_of_calls_is_bounded_over_a_restart_and_the_next_day_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("day.json");
        let limits = config::Limits { tokens_per_day: 100_000, ..Default::default() };
        let mut day = Day::open(Some(&file)).unwrap();
        let mut taken = Vec::new();
        // A call of ten requests every hour for two days; the service restarts every fifth hour.
        for hour in 0..48 {
            if hour % 5 == 4 {
                day = Day::open(Some(&file)).unwrap();
            }
            let mut call = Spent::default();
            while call.requests < 10 && call.bound(&limits, day.cost(at(hour))).is_none() {
                let usage = Usage { prompt: 900, answer: 90, thoughts: 10, ..Usage::default() };
                call.request();
                call.add(Cost::of(&usage));
                day.add(at(hour), Cost::of(&usage));
            }
            taken.push(call.requests);
        }
        let full = [[10; 10].as_slice(), &[0; 14]].concat();
        assert_eq!(taken, [full.clone(), full].concat());
        assert_eq!(Spent::default().bound(&limits, day.cost(at(47))), Some(Bound::DayTokens));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_back_and_one_that_was_years_ahead_takes_nothing() {
        let day = Day::open(None).unwrap();
        let cost = Cost { tokens: 700, micros: 50 };
        day.add(at(24), cost);
        assert_eq!([day.cost(at(23)), day.cost(at(24))], [cost, cost]);
        day.add(at(24 * 4000), cost);
        assert_eq!(day.cost(at(24)), Cost::default());
    }

    #[test]
    fn a_days_money_is_bounded_over_a_restart_and_a_file_that_knows_only_tokens_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("day.json");
        fs::write(&file, "{\"day\":20000,\"tokens\":12}").unwrap();
        let limits = config::Limits { money_per_day: 0.25, ..Default::default() };
        let day = Day::open(Some(&file)).unwrap();
        assert_eq!(day.cost(at(3)), Cost { tokens: 12, micros: 0 });
        day.add(at(3), Cost { tokens: 0, micros: 249_999 });
        let day = Day::open(Some(&file)).unwrap();
        assert_eq!(Spent::default().bound(&limits, day.cost(at(4))), None);
        day.add(at(5), Cost { tokens: 0, micros: 1 });
        let day = Day::open(Some(&file)).unwrap();
        assert_eq!(Spent::default().bound(&limits, day.cost(at(23))), Some(Bound::DayMoney));
        assert_eq!(Spent::default().bound(&limits, day.cost(at(24))), None);
    }

    #[test]
    fn a_file_that_says_nothing_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("day.json");
        for text in ["", "{}", "{\"day\":1,\"tokens\":-1}", "[]"] {
            fs::write(&file, text).unwrap();
            let error = Day::open(Some(&file)).unwrap_err().to_string();
            assert!(error.contains("day.json") && error.contains("remove it"), "{error}");
        }
        assert!(matches!(Day::open(Some(&folder.path().join("none/day.json"))), Err(DayError::Io { .. })));
    }
}
