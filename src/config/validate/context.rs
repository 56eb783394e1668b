//! `[knowledge]` and `[crm]`.

use std::time::Duration;

use super::{Complaints, base_url};
use crate::config::{Config, Crm, Template};
use crate::number::Country;

/// Methods that look something up.
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

pub(super) fn context(found: &mut Complaints, config: &Config) {
    knowledge(found, &config.knowledge);
    crm(found, &config.crm);
}

fn knowledge(found: &mut Complaints, knowledge: &crate::config::Knowledge) {
    let mut within = |key: &'static str, value: usize, range: std::ops::RangeInclusive<usize>| {
        found.unless(range.contains(&value), "knowledge", key, || {
            format!("{value} is out of range; take {} to {}", range.start(), range.end())
        });
    };
    within("passages", knowledge.passages, 1..=10);
    within("max_passage_chars", knowledge.max_passage_chars, 100..=2000);
    within("whole_up_to_chars", knowledge.whole_up_to_chars, 0..=6000);
    within("max_files", knowledge.max_files, 1..=100_000);
    within("min_score_percent", knowledge.min_score_percent.into(), 0..=100);
    within("max_bytes", knowledge.max_bytes, 1..=256 << 20);
    let command = &knowledge.pdf_command;
    found.unless(command.is_empty() || command.iter().any(|part| part == "{file}"), "knowledge", "pdf_command", || {
        "does not name \"{file}\", the PDF to read; write it as an argument, or [] to leave PDFs out".into()
    });
}

fn crm(found: &mut Complaints, crm: &Crm) {
    let ways = [crm.url.is_some(), crm.csv_file.is_some(), crm.sqlite_file.is_some()];
    let file = crm.csv_file.is_some() || crm.sqlite_file.is_some();
    found.unless(ways.iter().filter(|way| **way).count() <= 1, "crm", if file { "url" } else { "csv_file" }, || {
        "customers are looked up in one place; keep one of url, csv_file and sqlite_file".into()
    });
    if let Some(url) = &crm.url {
        self::url(found, url);
        for (name, pointer) in &crm.fields {
            self::pointer(found, "fields", &format!("{name}: "), pointer);
        }
    }
    if let Some(pointer) = &crm.matches {
        self::pointer(found, "matches", "", pointer);
    }
    if let Some(pointer) = &crm.number_field {
        self::pointer(found, "number_field", "", pointer);
    }
    let texts = crm.headers.values().map(|text| ("headers", text)).chain(crm.body.iter().map(|text| ("body", text)));
    for (key, text) in texts {
        if let Err(problem) = Template::parse(text) {
            found.unless(false, "crm", key, || problem.to_string());
        }
    }
    let about_the_caller = |text: &String| Template::parse(text).is_ok_and(|template| template.names_the_caller());
    let mut texts = crm.url.iter().chain(&crm.body).chain(crm.headers.values());
    found.unless(crm.url.is_none() || texts.any(about_the_caller), "crm", "url", || {
        "no placeholder names the caller, so everybody would get the same answer; write one, as in \"…?phone={{caller.e164}}\"".into()
    });
    let names = crm.headers.keys();
    for name in names {
        let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        found.unless(good, "crm", "headers", || {
            format!("{name:?} is not a header's name; write it as in {{ Authorization = \"Bearer {{{{key}}}}\" }}")
        });
    }
    found.unless(METHODS.contains(&crm.method.as_str()), "crm", "method", || {
        format!("{:?} is none of {}; take one of them", crm.method, METHODS.join(", "))
    });
    found.unless(!crm.is_configured() || !crm.fields.is_empty(), "crm", "fields", || {
        let example = if crm.url.is_some() { "/data/0/name" } else { "Name" };
        format!("empty, so nothing would be told of a customer; write it as in {{ name = \"{example}\" }}")
    });
    found.unless(crm.fields.len() <= 40, "crm", "fields", || {
        format!("{} are too many; take at most 40", crm.fields.len())
    });
    for topic in &crm.topics {
        found.unless(crm.fields.contains_key(topic), "crm", "topics", || {
            format!("{topic:?} is none of the fields; name it in fields, too")
        });
    }
    for (key, text) in [("table", &crm.table), ("number_column", &crm.number_column)] {
        found.unless(!text.is_empty(), "crm", key, || "empty; write a name".into());
    }
    if let Some(country) = &crm.country {
        found.unless(Country::find(country).is_some(), "crm", "country", || {
            format!("{country:?} is not a country that is known; write two capital letters, as in \"IL\"")
        });
    }
    found.within("crm", "join_ms", crm.join, 50..=10_000);
    found.within("crm", "give_up_ms", crm.give_up, 50..=120_000);
    found.unless(crm.join <= crm.give_up || crm.give_up < Duration::from_millis(50), "crm", "give_up_ms", || {
        format!("shorter than join_ms ({}); take more", crm.join.as_millis())
    });
    found.unless((256..=4 << 20).contains(&crm.max_bytes), "crm", "max_bytes", || {
        format!("{} is out of range; take 256 to 4194304", crm.max_bytes)
    });
}

fn url(found: &mut Complaints, url: &str) {
    if let Err(problem) = Template::parse(url) {
        return found.unless(false, "crm", "url", || problem.to_string());
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if format!("{scheme}{host}").contains("{{") {
        let message = "a placeholder stands in the host; it may stand behind it only";
        return found.unless(false, "crm", "url", || message.into());
    }
    if let Err(message) = base_url(&format!("{scheme}://{host}"), true) {
        found.unless(false, "crm", "url", || message.replace("api_key_file", "key_file"));
    }
}

/// RFC 6901 §3.
fn pointer(found: &mut Complaints, key: &'static str, whose: &str, pointer: &str) {
    let good = (pointer.is_empty() || pointer.starts_with('/'))
        && pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    found.unless(good, "crm", key, || {
        format!(
            "{whose}{pointer:?} is not a JSON pointer; write it as in \"/data/0/name\" (in a name, ~ is ~0 and / is ~1)"
        )
    });
}
