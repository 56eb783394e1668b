//! Who a caller is: a customer looked up by the caller's number, over HTTP or in a file on the box.
//!
//! A customer is given out for exactly one match of the whole number, in international form where there is one. Two matches are none:
//! a caller must not hear another customer's data.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::config;
use crate::config::Unplaced;
use crate::http::{Http, HttpError};
use crate::number::{Country, Forms};
use crate::privacy::Secret;

mod http;
mod sqlite;
mod table;

/// A value that is longer is cut.
const LONGEST_VALUE: usize = 2000;

/// What is known of a customer: names as configured, and values. Not `Debug`: it is customer data.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Customer {
    /// In the order of their names.
    pub fields: Vec<(String, String)>,
}

/// What the CRM says.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// One customer has this number.
    Known(Customer),
    /// None has.
    Unknown,
    /// Several have, or the one who was found has another number.
    Unsure,
}

/// Why the CRM gave no answer. Numbers and values are in no message.
#[derive(Debug, Error)]
pub enum CrmFault {
    /// It refuses our key.
    #[error("the CRM refuses the key (HTTP {status}); check [crm] key_file and headers")]
    Key {
        /// The HTTP status.
        status: u16,
    },
    /// It answers with an error.
    #[error("the CRM answers HTTP {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// It cannot be reached, or the connection broke.
    #[error("the CRM cannot be reached: {problem}")]
    Network {
        /// What happened.
        problem: String,
    },
    /// Its answer is not what can be read.
    #[error("the CRM's answer is not JSON: {problem}")]
    NotJson {
        /// Where and why.
        problem: String,
    },
    /// Its answer is too long.
    #[error("the CRM's answer is longer than [crm] max_bytes ({max})")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The request cannot be written with this caller's number.
    #[error("the CRM's request cannot be written: {problem}")]
    Request {
        /// What is wrong with it.
        problem: String,
    },
    /// The file of customers cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with a remedy.
        problem: String,
    },
}

/// A CRM that cannot be asked as it is configured.
#[derive(Debug, Error)]
pub enum CrmSetupError {
    /// The address.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A placeholder.
    #[error("[crm] key {key}: {problem}")]
    Template {
        /// The configuration key.
        key: &'static str,
        /// What is wrong.
        problem: Unplaced,
    },
    /// A method or header.
    #[error("[crm] key {key}: {problem}")]
    Value {
        /// The configuration key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// The CRM. Cheap to clone.
#[derive(Clone)]
pub struct Crm(Way);

impl std::fmt::Debug for Crm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Way::Http(_) => "Crm(HTTP)",
            Way::Table(_) => "Crm(CSV)",
            Way::Sqlite(_) => "Crm(SQLite)",
        })
    }
}

#[derive(Clone)]
enum Way {
    Http(Arc<http::HttpCrm>),
    Table(Arc<table::Table>),
    Sqlite(Arc<sqlite::SqliteFile>),
}

impl Crm {
    /// The configured CRM; none when there is none. Asks nobody and opens no file.
    ///
    /// # Errors
    /// When it cannot be asked as it is configured.
    pub fn new(
        config: &config::Crm,
        country: Option<&'static Country>,
        key: Option<Secret>,
        http: &Http,
    ) -> Result<Option<Self>, CrmSetupError> {
        let way = if let Some(url) = &config.url {
            Way::Http(Arc::new(http::HttpCrm::new(config, url, country, key, http)?))
        } else if let Some(path) = &config.csv_file {
            Way::Table(Arc::new(table::Table::new(path, config, country)))
        } else if let Some(path) = &config.sqlite_file {
            Way::Sqlite(Arc::new(sqlite::SqliteFile::new(path, config, country)))
        } else {
            return Ok(None);
        };
        Ok(Some(Self(way)))
    }

    /// Looks a number up. Takes as long as the other side does: the asker has a limit.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn look_up(&self, number: &Forms) -> Result<Answer, CrmFault> {
        match &self.0 {
            Way::Http(crm) => crm.look_up(number).await,
            Way::Table(table) => blocking(table.clone(), number, table::Table::look_up).await,
            Way::Sqlite(file) => blocking(file.clone(), number, sqlite::SqliteFile::look_up).await,
        }
    }
}

async fn blocking<T: Send + Sync + 'static>(
    of: Arc<T>,
    number: &Forms,
    look_up: fn(&T, &str) -> Result<Answer, CrmFault>,
) -> Result<Answer, CrmFault> {
    let key = number.key().to_owned();
    let looked = tokio::task::spawn_blocking(move || look_up(&of, &key)).await;
    looked.unwrap_or_else(|_| Err(CrmFault::Network { problem: "the look-up ended early".into() }))
}

/// A value of bounded length; none for an empty one.
fn value(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(LONGEST_VALUE).collect())
}

/// The numbers in one cell, as keys.
fn numbers<'c>(cell: &'c str, country: Option<&'c Country>) -> impl Iterator<Item = String> + 'c {
    let number = move |written: &str| crate::number::normalise(written, None, country);
    cell.split([';', ',', '|']).filter_map(number)
}
