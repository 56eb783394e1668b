//! What is looked up for a call: `[knowledge]`, the business's texts, and `[crm]`, who the caller is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ms;

/// `[knowledge]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Knowledge {
    /// A folder of Markdown, text and PDF files; absent: none.
    pub folder: Option<PathBuf>,
    /// Passages that a request takes along.
    pub passages: usize,
    /// The share of the question's weight that a passage must have.
    pub min_score_percent: u8,
    /// Longest passage.
    pub max_passage_chars: usize,
    /// Without text of what the caller said, all of the knowledge is taken along if it is no longer than this.
    pub whole_up_to_chars: usize,
    /// Files that are read.
    pub max_files: usize,
    /// Bytes of text that are read.
    pub max_bytes: usize,
    /// A program that writes the text of the PDF `{file}` to standard output; empty: PDFs are left out.
    pub pdf_command: Vec<String>,
}

impl Default for Knowledge {
    fn default() -> Self {
        Self {
            folder: None,
            passages: 3,
            min_score_percent: 30,
            max_passage_chars: 600,
            whole_up_to_chars: 4000,
            max_files: 1000,
            max_bytes: 16 << 20,
            pdf_command: ["pdftotext", "-q", "-enc", "UTF-8", "{file}", "-"].map(String::from).to_vec(),
        }
    }
}

/// `[crm]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crm {
    /// Where the CRM is asked, with the caller's number as a placeholder; absent: no CRM is asked over HTTP.
    pub url: Option<String>,
    /// The request's method.
    pub method: String,
    /// The request's headers.
    pub headers: BTreeMap<String, String>,
    /// The request's body.
    pub body: Option<String>,
    /// A file that holds what `{{key}}` stands for. Otherwise the systemd credential `crm.key`, then the variable `OFFHOOK_CRM_KEY`.
    pub key_file: Option<PathBuf>,
    /// A CSV file of customers instead; its first line names the columns.
    pub csv_file: Option<PathBuf>,
    /// An SQLite file of customers instead.
    pub sqlite_file: Option<PathBuf>,
    /// The table of the SQLite file.
    pub table: String,
    /// The column of telephone numbers.
    pub number_column: String,
    /// What the model is told, by name: a JSON pointer (RFC 6901) into the answer, or a column of the file.
    pub fields: BTreeMap<String, String>,
    /// JSON pointer to the list of customers in the answer, of which there must be exactly one.
    pub matches: Option<String>,
    /// JSON pointer to the customer's number in the answer, which must be the caller's.
    pub number_field: Option<String>,
    /// Fields whose values the knowledge is searched for before the caller has said anything.
    pub topics: Vec<String>,
    /// Country in whose form numbers without a plus are read and `{{caller.national}}` is written; absent: the trunks', if they have one.
    pub country: Option<String>,
    /// Only callers for whose number the trunk answers are asked about.
    pub require_asserted: bool,
    /// Within this time from the INVITE the CRM is expected to answer; later counts as late.
    #[serde(rename = "join_ms", with = "ms")]
    pub join: Duration,
    /// A late answer is waited for so long, for a later turn.
    #[serde(rename = "give_up_ms", with = "ms")]
    pub give_up: Duration,
    /// Longest answer.
    pub max_bytes: usize,
    /// A number that `offhook doctor` asks about.
    pub test_number: Option<String>,
}

impl Default for Crm {
    fn default() -> Self {
        Self {
            url: None,
            method: "GET".into(),
            headers: BTreeMap::new(),
            body: None,
            key_file: None,
            csv_file: None,
            sqlite_file: None,
            table: "customers".into(),
            number_column: "phone".into(),
            fields: BTreeMap::new(),
            matches: None,
            number_field: None,
            topics: Vec::new(),
            country: None,
            require_asserted: false,
            join: Duration::from_millis(600),
            give_up: Duration::from_secs(10),
            max_bytes: 65_536,
            test_number: None,
        }
    }
}

impl Knowledge {
    /// The floor under a passage's score, 0 to 1.
    pub fn min_score(&self) -> f32 {
        f32::from(self.min_score_percent) / 100.0
    }
}

impl Crm {
    /// Whether customers are looked up anywhere.
    pub fn is_configured(&self) -> bool {
        self.url.is_some() || self.csv_file.is_some() || self.sqlite_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn problem(text: &str) -> String {
        let all = parse(text).expect_err("refused").0;
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all[0].to_string()
    }

    const HTTP: &str =
        "[crm]\nurl = \"https://crm.example/find?phone={{caller.e164}}\"\nfields = { name = \"/name\" }\n";

    #[test]
    fn a_crm_over_http_or_in_a_file_is_taken_as_it_is_documented() {
        let crm =
            parse(&format!("{HTTP}headers = {{ Authorization = \"Bearer {{{{key}}}}\" }}\nmatches = \"/data\"\n"))
                .unwrap()
                .crm;
        assert!(crm.is_configured() && crm.headers["Authorization"] == "Bearer {{key}}");
        for file in ["csv_file = \"/x.csv\"", "sqlite_file = \"/x.db\""] {
            assert!(
                parse(&format!("[crm]\n{file}\nfields = {{ name = \"Full name\" }}\ntopics = [\"name\"]\n")).is_ok()
            );
        }
        assert!(!parse("").unwrap().crm.is_configured());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_remedy() {
        for (change, remedy) in [
            ("headers = { a = \"{{caller.e146}}\" }", "did you mean {{caller.e164}}?"),
            ("body = \"{{key\"", "no end"),
            ("headers = { \"a b\" = \"x\" }", "not a header's name"),
            ("method = \"DELETE\"", "none of GET, POST, PUT"),
            ("matches = \"data\"", "write it as in \"/data/0/name\""),
            ("number_field = \"/a~2b\"", "not a JSON pointer"),
            ("topics = [\"orders\"]", "none of the fields"),
            ("csv_file = \"/x.csv\"", "keep one of url, csv_file and sqlite_file"),
            ("country = \"XX\"", "two capital letters"),
            ("give_up_ms = 100", "shorter than join_ms (600)"),
            ("max_bytes = 1", "256 to 4194304"),
            ("table = \"\"", "write a name"),
        ] {
            let problem = problem(&format!("{HTTP}{change}\n"));
            let line = if change.starts_with("csv_file") { "2" } else { "4" };
            assert!(
                problem.starts_with(&format!("{line}: [crm] key ")) && problem.contains(remedy),
                "{change}: {problem}"
            );
        }
        for (url, remedy) in [
            ("https://crm.example/all", "no placeholder names the caller"),
            ("https://{{caller.raw}}/x", "behind it only"),
            ("http://crm.example/{{caller.raw}}", "write https"),
            ("https://x:hunter2@crm.example/{{caller.raw}}", "a key belongs into key_file"),
            ("https://crm.example/{{caller.rau}}?token=hunter2", "did you mean {{caller.raw}}?"),
        ] {
            let all =
                parse(&format!("[crm]\nurl = \"{url}\"\nfields = {{ name = \"/name\" }}\n")).expect_err("refused");
            let problem = all.to_string();
            assert!(problem.starts_with("2: [crm] key url: ") && problem.contains(remedy), "{url}: {problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(problem("[crm]\ncsv_file = \"/x.csv\"\n").contains("nothing would be told of a customer"));
    }

    #[test]
    fn a_knowledge_that_cannot_be_is_refused_with_a_remedy() {
        for (change, remedy) in [
            ("passages = 0", "take 1 to 10"),
            ("min_score_percent = 101", "take 0 to 100"),
            ("pdf_command = [\"pdftotext\"]", "does not name \"{file}\""),
            ("max_passage_chars = 10", "100 to 2000"),
        ] {
            let problem = problem(&format!("[knowledge]\n{change}\n"));
            assert!(problem.starts_with("2: [knowledge] key ") && problem.contains(remedy), "{change}: {problem}");
        }
    }
}
