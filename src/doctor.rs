//! The doctor: looks at everything between this box and a caller, and says what it found and what to do about it.
//!
//! Everything is asked at once and bounded: the whole takes 20 s at most. Nothing that is asked changes anything: the registration
//! of a running service stays as it is. No secret and no whole number is in what is said.
//!
//! So far the line is looked at: configuration, secrets, clock, ports, and for each trunk DNS, reachability, certificate,
//! password and NAT; a call of the box to itself; and the voices.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Config};
use crate::sip::{Resolver, ResolverOptions};

mod certificate;
mod clock;
mod context;
mod live;
mod nat;
mod own_call;
mod ports;
mod recogniser;
mod secrets;
mod thread;
mod trunk;
mod voice;
mod way;

/// Everything that is not finished then is said to hang.
const PATIENCE: Duration = Duration::from_secs(18);

/// How good or bad it is. The worst decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Calls may come, but something should be looked at.
    Warning,
    /// Calls will not come, or not be served.
    Failure,
}

impl State {
    /// The word that is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to: `configuration`, `ports`, `trunk NAME`, …
    pub area: Cow<'static, str>,
    /// What was looked at.
    pub what: Cow<'static, str>,
    /// How it is.
    pub state: State,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// It is as it should be.
    pub fn ok(
        area: impl Into<Cow<'static, str>>,
        what: impl Into<Cow<'static, str>>,
        finding: impl Into<String>,
    ) -> Self {
        Self { area: area.into(), what: what.into(), state: State::Ok, finding: finding.into(), remedy: None }
    }

    /// It should be looked at.
    #[must_use]
    pub fn warning(self, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, remedy: Some(remedy.into()), ..self }
    }

    /// It must be put right.
    #[must_use]
    pub fn failure(self, remedy: impl Into<String>) -> Self {
        Self { state: State::Failure, remedy: Some(remedy.into()), ..self }
    }
}

/// The worst of some checks.
pub fn worst(checks: &[Check]) -> State {
    checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
}

/// Looks at a configuration and at everything that it names; in a fixed order.
pub async fn examine(file: &Path) -> Vec<Check> {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(error) => {
            let lines = error.to_string().replace('\n', " · ");
            let remedy = "put it right and ask again: nothing else can be looked at before";
            return vec![Check::ok("configuration", "file", lines).failure(remedy)];
        }
    };
    let mut checks = vec![configuration(file, &config)];
    checks.extend(secrets::checks(&config));
    checks.extend(clock::check(file));
    checks.extend(ports::checks(&config));
    checks.extend(thread::check());
    let deadline = Instant::now() + PATIENCE;
    let mut asked = JoinSet::new();
    let prefer_ipv6 = config.sip.listen.is_ipv6();
    let resolver = Resolver::new(ResolverOptions { prefer_ipv6, ..ResolverOptions::default() });
    let line = way::UdpLine::open(config.sip.listen.ip()).await;
    let mut names = Vec::new();
    for (name, trunk) in &config.trunk {
        names.push(format!("trunk {name}"));
        let place = names.len() - 1;
        let visit = trunk::Visit {
            name: name.clone(),
            trunk: trunk.clone(),
            public_address: trunk.public_address.or(config.sip.public_address),
            resolver: resolver.clone(),
            line: line.clone(),
        };
        asked.spawn(async move { (place, visit.checks().await) });
    }
    names.push("context".into());
    let place = names.len() - 1;
    let looked_up = config.clone();
    asked.spawn(async move { (place, (context::checks(looked_up).await, Vec::new())) });
    names.push("voice".into());
    let (place, all) = (names.len() - 1, config.clone());
    asked.spawn(async move { (place, (voice::checks(&all).await, Vec::new())) });
    names.push("recogniser".into());
    let (place, named) = (names.len() - 1, config.clone());
    asked.spawn(async move { (place, (recogniser::check(&named).await.into_iter().collect(), Vec::new())) });
    names.push("live".into());
    let (place, named) = (names.len() - 1, config.clone());
    asked.spawn(async move { (place, (live::check(&named).await.into_iter().collect(), Vec::new())) });
    names.push("test call".into());
    let place = names.len() - 1;
    asked.spawn(async move { (place, (vec![own_call::check().await], Vec::new())) });

    let mut found: Vec<Option<Vec<Check>>> = names.iter().map(|_| None).collect();
    let mut views = Vec::new();
    while let Ok(Some(done)) = timeout_at(deadline, asked.join_next()).await {
        if let Ok((place, (checks, seen))) = done {
            found[place] = Some(checks);
            views.extend(seen);
        }
    }
    for (name, found) in names.into_iter().zip(found) {
        let hung = || {
            let check = Check::ok(name.clone(), "all", format!("not finished after {} s", PATIENCE.as_secs()));
            vec![check.failure("ask again; if it stays so, this is a fault of offhook: please report it")]
        };
        checks.extend(found.unwrap_or_else(hung));
    }
    checks.extend(nat::checks(&views));
    checks.extend(clock::against_servers(&views));
    // What belongs together stands together.
    let order: Vec<Cow<'static, str>> = checks.iter().map(|check| check.area.clone()).collect();
    checks.sort_by_key(|check| order.iter().position(|area| *area == check.area));
    checks
}

fn configuration(file: &Path, config: &Config) -> Check {
    let trunks = match config.trunk.len() {
        0 => "no trunk: only calls from allowed peers".to_owned(),
        1 => "1 trunk".to_owned(),
        count => format!("{count} trunks"),
    };
    Check::ok("configuration", "file", format!("{}: {trunks}", file.display()))
}
