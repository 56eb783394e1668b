//! Customers in a table of an SQLite file, opened read-only for each look-up, so that whoever writes it is never in the way for long.
//!
//! Numbers stand in it in any form, so every row's number is read and compared; no index helps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Answer, CrmFault, Customer, numbers, value};
use crate::config;
use crate::number::Country;

/// Rows that are compared; a larger table is not one to go through in a call.
const MAX_ROWS: usize = 500_000;
/// How long a writer is waited for.
const BUSY: Duration = Duration::from_millis(250);

pub(super) struct SqliteFile {
    path: PathBuf,
    query: String,
    names: Vec<String>,
    country: Option<&'static Country>,
}

impl SqliteFile {
    pub fn new(path: &Path, config: &config::Crm, country: Option<&'static Country>) -> Self {
        let columns = [&config.number_column].into_iter().chain(config.fields.values());
        let columns: Vec<String> = columns.map(|column| format!("customer.{}", quoted(column))).collect();
        Self {
            path: path.into(),
            query: format!("SELECT {} FROM {} AS customer", columns.join(", "), quoted(&config.table)),
            names: config.fields.keys().cloned().collect(),
            country,
        }
    }

    pub fn look_up(&self, key: &str) -> Result<Answer, CrmFault> {
        self.rows(key).map_err(|problem| CrmFault::File { path: self.path.clone(), problem })
    }

    fn rows(&self, key: &str) -> Result<Answer, String> {
        let remedy =
            |error: rusqlite::Error| format!("{error}; check [crm] sqlite_file, table, number_column and fields");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Connection::open_with_flags(&self.path, flags).map_err(remedy)?;
        file.busy_timeout(BUSY).map_err(remedy)?;
        let mut query = file.prepare(&self.query).map_err(remedy)?;
        let mut rows = query.query([]).map_err(remedy)?;
        let mut found: Option<Customer> = None;
        let mut compared = 0;
        while let Some(row) = rows.next().map_err(remedy)? {
            compared += 1;
            if compared > MAX_ROWS {
                return Err(format!("more than {MAX_ROWS} rows; give the box a smaller table"));
            }
            let number = text(row.get_ref(0).map_err(remedy)?).unwrap_or_default();
            if !numbers(&number, self.country).any(|number| number == key) {
                continue;
            }
            let field = |(at, name): (usize, &String)| Some((name.clone(), text(row.get_ref(at + 1).ok()?)?));
            let customer = Customer { fields: self.names.iter().enumerate().filter_map(field).collect() };
            match &found {
                Some(other) if *other != customer => return Ok(Answer::Unsure),
                _ => found = Some(customer),
            }
        }
        Ok(found.filter(|customer| !customer.fields.is_empty()).map_or(Answer::Unknown, Answer::Known))
    }
}

/// A name in a statement. SQLite takes a quoted name that is no column for a text, unless a table's name stands before it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(found: ValueRef<'_>) -> Option<String> {
    match found {
        ValueRef::Null | ValueRef::Blob(_) => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => value(&String::from_utf8_lossy(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path) -> PathBuf {
        let path = folder.join("customers.db");
        let file = Connection::open(&path).unwrap();
        file.execute_batch(
            "CREATE TABLE \"my people\" (tel TEXT, \"full name\" TEXT, debt REAL, visits INTEGER);
             INSERT INTO \"my people\" VALUES ('050-123 4567', 'Dana Levi', 12.5, 3), ('+972521112222', 'Avi', NULL, NULL),
             ('054-1111111', 'One', 1, 1), ('972541111111', 'Two', 2, 2);",
        )
        .unwrap();
        path
    }

    fn said(path: &Path, key: &str, change: impl FnOnce(&mut config::Crm)) -> String {
        let fields = [("name", "full name"), ("owes", "debt"), ("visits", "visits")];
        let mut config = config::Crm {
            table: "my people".into(),
            number_column: "tel".into(),
            fields: fields.map(|(name, column)| (name.to_owned(), column.to_owned())).into(),
            ..Default::default()
        };
        change(&mut config);
        match SqliteFile::new(path, &config, Country::find("IL")).look_up(key) {
            Ok(Answer::Known(customer)) => {
                customer.fields.into_iter().map(|(name, value)| name + "=" + &value + ";").collect()
            }
            Ok(Answer::Unknown) => "unknown".into(),
            Ok(Answer::Unsure) => "unsure".into(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_customer_is_found_by_the_number_in_whatever_form_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        assert_eq!(said(&path, "+972501234567", |_| {}), "name=Dana Levi;owes=12.5;visits=3;");
        assert_eq!(said(&path, "+972521112222", |_| {}), "name=Avi;");
        assert_eq!(said(&path, "+972541111111", |_| {}), "unsure");
        assert_eq!(said(&path, "4567", |_| {}), "unknown");
    }

    #[test]
    fn a_table_or_file_that_is_not_there_is_told_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        assert!(said(&path, "1", |config| config.table = "x\"; DROP TABLE y".into()).contains("no such table"));
        assert!(said(&path, "1", |config| config.number_column = "phone".into()).contains("phone"));
        let missing = folder.path().join("missing.db");
        assert!(said(&missing, "1", |_| {}).contains("sqlite_file") && !missing.exists());
    }
}
