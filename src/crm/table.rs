//! Customers in a CSV file (RFC 4180; commas, semicolons or tabs), read into RAM and read again when the file has changed.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::{Answer, CrmFault, Customer, numbers, value};
use crate::config;
use crate::number::Country;

/// No file of customers is larger.
const MAX_BYTES: u64 = 64 << 20;
/// A file that changed so recently may still be being written: what was read before is used.
const SETTLED: Duration = Duration::from_secs(1);

pub(super) struct Table {
    path: PathBuf,
    number_column: String,
    /// Names that the model is told, and columns.
    fields: Vec<(String, String)>,
    country: Option<&'static Country>,
    read: Mutex<Option<Rows>>,
}

struct Rows {
    print: (SystemTime, u64),
    customers: HashMap<String, Row>,
}

enum Row {
    One(Customer),
    Several,
}

impl Table {
    pub fn new(path: &Path, config: &config::Crm, country: Option<&'static Country>) -> Self {
        Self {
            path: path.into(),
            number_column: config.number_column.clone(),
            fields: config.fields.iter().map(|(name, column)| (name.clone(), column.clone())).collect(),
            country,
            read: Mutex::new(None),
        }
    }

    pub fn look_up(&self, key: &str) -> Result<Answer, CrmFault> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fresh(read.as_ref()) {
            Ok(None) => {}
            Ok(Some(rows)) => {
                info!(numbers = rows.customers.len(), "customers read");
                *read = Some(rows);
            }
            Err(fault) if read.is_some() => warn!(%fault, "the customers that were read before stay"),
            Err(fault) => return Err(fault),
        }
        let row = read.as_ref().and_then(|rows| rows.customers.get(key));
        Ok(match row {
            Some(Row::One(customer)) if !customer.fields.is_empty() => Answer::Known(customer.clone()),
            Some(Row::Several) => Answer::Unsure,
            _ => Answer::Unknown,
        })
    }

    /// The file's rows, if they are not those that are known.
    fn fresh(&self, known: Option<&Rows>) -> Result<Option<Rows>, CrmFault> {
        let failed = |problem: String| CrmFault::File { path: self.path.clone(), problem };
        let mut file = std::fs::File::open(&self.path)
            .map_err(|error| failed(format!("{error}; check [crm] csv_file and that the service may read it")))?;
        let about = file.metadata().map_err(|error| failed(error.to_string()))?;
        let print = (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len());
        if let Some(known) = known {
            let settled = print.0.elapsed().is_ok_and(|age| age >= SETTLED);
            if known.print == print || !settled {
                return Ok(None);
            }
        }
        if print.1 > MAX_BYTES {
            return Err(failed(format!("larger than {MAX_BYTES} bytes; use an SQLite file for so many customers")));
        }
        let mut bytes = Vec::new();
        (&mut file).take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| failed("not UTF-8; save it as \"CSV UTF-8\"".into()))?;
        Ok(Some(Rows { print, customers: self.rows(&text).map_err(failed)? }))
    }

    fn rows(&self, text: &str) -> Result<HashMap<String, Row>, String> {
        let text = text.trim_start_matches('\u{feff}');
        let head = text.lines().next().unwrap_or_default();
        let count = |delimiter: &u8| head.bytes().filter(|byte| byte == delimiter).count();
        let delimiter = *b",;\t".iter().max_by_key(|delimiter| count(delimiter)).unwrap_or(&b',');
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let head = reader.headers().map_err(|error| error.to_string())?.clone();
        let column = |name: &str| {
            let found = head.iter().position(|column| column.eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let all: Vec<&str> = head.iter().take(20).collect();
                format!("has no column {name:?}; its first line names {}", all.join(", "))
            })
        };
        let number = column(&self.number_column)?;
        let fields: Vec<(&str, usize)> = self
            .fields
            .iter()
            .map(|(name, wanted)| Ok((name.as_str(), column(wanted)?)))
            .collect::<Result<_, String>>()?;
        let mut customers: HashMap<String, Row> = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let field = |(name, at): &(&str, usize)| Some(((*name).to_owned(), value(record.get(*at)?)?));
            let customer = Customer { fields: fields.iter().filter_map(field).collect() };
            for key in numbers(record.get(number).unwrap_or_default(), self.country) {
                let row = customers.entry(key).or_insert_with(|| Row::One(customer.clone()));
                // The same customer in two lines is one.
                if matches!(row, Row::One(other) if *other != customer) {
                    *row = Row::Several;
                }
            }
        }
        Ok(customers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\u{feff}Phone;Name;Order\n050-123-4567;\"Levi; Dana\";4721\n+972-52-111-2222 , 03-5551234;Avi;\n\
                        0541111111;One;1\n0541111111;Two;2\n0542222222;Same;1\n0542222222;Same;1\n;Nobody;9\n620;Office;\n";

    fn table(path: &Path) -> Table {
        let fields = [("name".to_owned(), "name".to_owned()), ("order".to_owned(), "Order".to_owned())];
        Table::new(path, &config::Crm { fields: fields.into(), ..Default::default() }, Country::find("IL"))
    }

    fn said(table: &Table, key: &str) -> String {
        match table.look_up(key) {
            Ok(Answer::Known(customer)) => {
                customer.fields.into_iter().map(|(name, value)| name + "=" + &value + ";").collect()
            }
            Ok(Answer::Unknown) => "unknown".into(),
            Ok(Answer::Unsure) => "unsure".into(),
            Err(fault) => fault.to_string(),
        }
    }

    fn settle(path: &Path, seconds: u64) {
        let past = SystemTime::now() - Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
    }

    #[test]
    fn a_customer_is_found_by_the_number_in_whatever_form_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("customers.csv");
        std::fs::write(&path, FILE).unwrap();
        let table = table(&path);
        assert_eq!(said(&table, "+972501234567"), "name=Levi; Dana;order=4721;");
        assert_eq!(said(&table, "+972521112222"), "name=Avi;");
        assert_eq!(said(&table, "+97235551234"), "name=Avi;");
        assert_eq!(said(&table, "620"), "name=Office;");
        // Never by a part of it.
        for other in ["501234567", "4567", "+97250123456", "+9725012345670", "", "+972541111112"] {
            assert_eq!(said(&table, other), "unknown", "{other}");
        }
    }

    #[test]
    fn two_customers_with_one_number_are_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("customers.csv");
        std::fs::write(&path, FILE).unwrap();
        let table = table(&path);
        assert_eq!(said(&table, "+972541111111"), "unsure");
        assert_eq!(said(&table, "+972542222222"), "name=Same;order=1;");
    }

    #[test]
    fn a_file_that_changed_is_read_again_and_a_broken_one_leaves_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("customers.csv");
        let table = table(&path);
        assert!(said(&table, "+972501234567").contains("csv_file"));
        std::fs::write(&path, FILE).unwrap();
        assert!(said(&table, "+972501234567").starts_with("name=Levi"));
        std::fs::write(&path, FILE.replace("Levi; ", "Cohen; ")).unwrap();
        assert!(said(&table, "+972501234567").starts_with("name=Levi"), "it may still be being written");
        settle(&path, 30);
        assert!(said(&table, "+972501234567").starts_with("name=Cohen"));
        for (age, broken) in [(20, "name,order\nx,y\n".as_bytes()), (10, b"\xff\xfe\x00")] {
            std::fs::write(&path, broken).unwrap();
            settle(&path, age);
            assert!(said(&table, "+972501234567").starts_with("name=Cohen"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(said(&table, "+972501234567").starts_with("name=Cohen"));
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("customers.csv");
        std::fs::write(&path, "telephone,name\n1,2\n").unwrap();
        let said = said(&table(&path), "1");
        assert!(said.contains("no column \"phone\"") && said.contains("telephone, name"), "{said}");
    }
}
