//! What a call knows besides what is said in it: who calls, and what the business's texts say to the question.
//!
//! Both are asked for from the INVITE on, at the same moment, and nobody waits for them: a request takes along what is there when it
//! is built, and what comes later goes with the next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::{Instrument, debug, info, warn};

use crate::config::{self, Config, SecretError, Wanted};
use crate::crm::{Answer, Crm, CrmFault, CrmSetupError, Customer};
use crate::http::Http;
use crate::knowledge::{Knowledge, Passage};
use crate::number::{Country, Forms};
use crate::privacy::Secret;
use crate::sip::Caller;

mod facts;
mod inquiry;

pub use inquiry::{Inquiry, Note};

/// Sources that cannot be used as they are configured.
#[derive(Debug, Error)]
pub enum SourcesError {
    /// The CRM.
    #[error(transparent)]
    Crm(#[from] CrmSetupError),
    /// Its key.
    #[error(transparent)]
    Key(#[from] SecretError),
}

/// Where all calls look things up.
#[derive(Debug)]
pub struct Sources {
    knowledge: Knowledge,
    crm: Option<Crm>,
    config: config::Crm,
    country: Option<&'static Country>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            knowledge: Knowledge::open(&config::Knowledge::default()),
            crm: None,
            config: config::Crm::default(),
            country: None,
        }
    }
}

impl Sources {
    /// What the configuration names; reads the knowledge, asks nobody.
    ///
    /// # Errors
    /// When the CRM cannot be asked as it is configured. A folder or file that is not there (yet) is a warning.
    pub async fn open(config: &Config, http: &Http) -> Result<Self, SourcesError> {
        let country = country(config);
        let key = if config.crm.url.is_some() { key(&config.crm)? } else { None };
        let crm = Crm::new(&config.crm, country, key, http)?;
        let wanted = config.knowledge.clone();
        let read = tokio::task::spawn_blocking(move || Knowledge::open(&wanted)).await;
        let knowledge = read.unwrap_or_else(|_| Knowledge::open(&config::Knowledge::default()));
        Ok(Self { knowledge, crm, config: config.crm.clone(), country })
    }

    /// The passages that answer a question best, best first; for a function that the model may call when nobody wrote the question
    /// down. Takes milliseconds.
    pub fn search(&self, question: &str) -> Vec<Passage> {
        self.knowledge.search(question)
    }

    /// The same as a text for the model: quoted data, and nothing when nothing fits.
    pub fn look_up(&self, question: &str) -> Option<String> {
        facts::block(None, &self.search(question))
    }

    /// Whether there is a folder of texts to search.
    pub fn has_knowledge(&self) -> bool {
        self.knowledge.is_configured()
    }

    /// Whether there is a CRM.
    pub fn has_crm(&self) -> bool {
        self.crm.is_some()
    }

    /// The business's texts.
    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// Asks the CRM about the configured test number; none without a CRM or such a number.
    pub async fn try_crm(&self) -> Option<Result<Answer, CrmFault>> {
        let (crm, number) = (self.crm.as_ref()?, self.config.test_number.as_deref()?);
        let number = Forms::of(number, number, self.country);
        let late = || Err(CrmFault::Network { problem: "no answer within give_up_ms".into() });
        Some(tokio::time::timeout(self.config.give_up, crm.look_up(&number)).await.unwrap_or_else(|_| late()))
    }

    /// The number to ask about.
    fn number(&self, caller: &Caller) -> Result<Forms, &'static str> {
        match &caller.number {
            _ if self.crm.is_none() => Err("no CRM is configured"),
            _ if caller.private => Err("the caller is withheld"),
            None => Err("the caller has no number"),
            Some(_) if self.config.require_asserted && !caller.asserted => Err("no trunk answers for the number"),
            Some(number) => Ok(Forms::of(number, &caller.user, self.country)),
        }
    }
}

/// The key of the CRM: the file, the credential `crm.key`, or the variable `OFFHOOK_CRM_KEY`.
///
/// # Errors
/// When there is one that cannot be used.
pub fn key(config: &config::Crm) -> Result<Option<Secret>, SecretError> {
    Wanted {
        what: "CRM key",
        key: "key_file",
        file: config.key_file.as_deref(),
        credential: "crm.key",
        variable: "OFFHOOK_CRM_KEY",
        ascii: true,
    }
    .find()
}

/// The country in whose form numbers are read: the CRM's, else the one that all trunks have.
fn country(config: &Config) -> Option<&'static Country> {
    let mut trunks = config.trunk.values().map(|trunk| trunk.country.as_deref());
    let first = trunks.next().flatten();
    let one = first.filter(|_| trunks.all(|country| country == first));
    Country::find(config.crm.country.as_deref().or(one)?)
}

/// What is known for one call. Ends its questions when it is dropped.
#[derive(Debug)]
pub struct Briefing {
    sources: Arc<Sources>,
    desk: Arc<Mutex<Desk>>,
    asking: Option<JoinHandle<()>>,
}

/// What has come so far.
#[derive(Default)]
struct Desk {
    customer: Option<Customer>,
    /// For the customer's topics, before anything was said.
    prepared: Vec<Passage>,
    /// What was last said, and what was found for it.
    last: Option<(String, Vec<Passage>)>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("customer", &self.customer.is_some()).finish_non_exhaustive()
    }
}

impl Briefing {
    /// Begins to ask, at the INVITE; comes back at once. `now` is the zero of the limits.
    pub fn begin(sources: &Arc<Sources>, caller: &Caller, now: Instant) -> Self {
        let desk = Arc::<Mutex<Desk>>::default();
        if sources.has_knowledge() {
            let knowledge = sources.knowledge.clone();
            tokio::task::spawn_blocking(move || knowledge.refresh());
        }
        let asking = match sources.number(caller) {
            Ok(number) => {
                let task = ask(sources.clone(), number, desk.clone(), now);
                Some(tokio::spawn(task.in_current_span()))
            }
            Err(why) => {
                if sources.has_crm() {
                    info!(why, "the CRM is not asked");
                }
                None
            }
        };
        Self { sources: sources.clone(), desk, asking }
    }

    /// A briefing that knows nobody, with the same texts; for calls that we place.
    pub fn without_caller(sources: &Arc<Sources>) -> Self {
        Self { sources: sources.clone(), desk: Arc::default(), asking: None }
    }

    /// What there is at this moment, as a block of text for the model: quoted, bounded, and said to be data. Never waits.
    ///
    /// `said` is the text of what the caller said, where somebody wrote it down. Without it the passages are those for what was last
    /// said, else those for the customer's topics, else all of a small knowledge.
    pub fn facts(&self, said: Option<&str>) -> Option<String> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let knowledge = &self.sources.knowledge;
        let passages = match (said.filter(|said| !said.trim().is_empty()), &desk.last) {
            _ if !knowledge.is_configured() => Vec::new(),
            (Some(said), Some((last, found))) if said == last => found.clone(),
            (Some(said), _) => {
                let found = knowledge.search(said);
                // "And on Friday?" finds nothing by itself: what the talk was about is still what it is about.
                match &desk.last {
                    Some((_, before)) if found.is_empty() => before.clone(),
                    _ => {
                        desk.last = Some((said.to_owned(), found.clone()));
                        found
                    }
                }
            }
            (None, Some((_, found))) => found.clone(),
            (None, None) if desk.prepared.is_empty() => knowledge.whole(),
            (None, None) => desk.prepared.clone(),
        };
        facts::block(desk.customer.as_ref(), &passages)
    }
}

impl Drop for Briefing {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

/// Asks the CRM, once, and puts what it says onto the desk.
async fn ask(sources: Arc<Sources>, number: Forms, desk: Arc<Mutex<Desk>>, begun: Instant) {
    let Some(crm) = &sources.crm else { return };
    let mut inquiry = Inquiry::new(begun, sources.config.join, sources.config.give_up);
    debug!("asks the CRM");
    let looking = crm.look_up(&number);
    tokio::pin!(looking);
    while let Some(deadline) = inquiry.poll_timeout() {
        tokio::select! {
            answer = &mut looking => inquiry.handle_answer(Instant::now(), answer),
            () = tokio::time::sleep_until(deadline.into()) => inquiry.handle_timeout(Instant::now()),
        }
        while let Some(note) = inquiry.poll() {
            note.log();
        }
    }
    let Some(customer) = inquiry.take_customer() else { return };
    let topics: Vec<String> = sources
        .config
        .topics
        .iter()
        .filter_map(|topic| customer.fields.iter().find(|(name, _)| name == topic))
        .map(|(_, value)| value.clone())
        .collect();
    desk.lock().unwrap_or_else(PoisonError::into_inner).customer = Some(customer);
    if !topics.is_empty() && sources.has_knowledge() {
        let knowledge = sources.knowledge.clone();
        let prepared = tokio::task::spawn_blocking(move || knowledge.search(&topics.join(" "))).await;
        desk.lock().unwrap_or_else(PoisonError::into_inner).prepared = prepared.unwrap_or_default();
    }
}

impl Note {
    fn log(&self) {
        match self {
            Self::Known { after, late } => info!(ms = after.as_millis(), late, "the CRM knows the caller"),
            Self::Unknown { after } => info!(ms = after.as_millis(), "the CRM does not know the caller"),
            Self::Unsure { after } => warn!(
                ms = after.as_millis(),
                "the CRM has no single customer with the caller's number: nothing is told; see [crm] matches and number_field"
            ),
            Self::Late => warn!("the CRM is late: the call goes on without it"),
            Self::Failed { after, fault } => {
                warn!(ms = after.as_millis(), %fault, "the CRM gave no answer: the call goes on without it");
            }
            Self::GivenUp { after } => {
                warn!(ms = after.as_millis(), "the CRM did not answer: not waited for any longer")
            }
        }
    }
}
