//! A CRM that is asked over HTTP, by a request that the installer wrote as a template, and answers in JSON.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::{Answer, CrmFault, CrmSetupError, Customer, value};
use crate::config;
use crate::config::{Placed, Template};
use crate::http::{BaseUrl, Http, chain, in_json_string, percent_encoded};
use crate::number::{Country, Forms, normalise};
use crate::privacy::Secret;

/// The configuration key that an address error names.
const URL: &str = "crm.url";

pub(super) struct HttpCrm {
    client: reqwest::Client,
    method: Method,
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    is_json: bool,
    key: Secret,
    fields: Vec<(String, String)>,
    matches: Option<String>,
    number_field: Option<String>,
    country: Option<&'static Country>,
    max: usize,
}

impl HttpCrm {
    pub fn new(
        config: &config::Crm,
        url: &str,
        country: Option<&'static Country>,
        key: Option<Secret>,
        http: &Http,
    ) -> Result<Self, CrmSetupError> {
        let template =
            |key, text: &str| Template::parse(text).map_err(|problem| CrmSetupError::Template { key, problem });
        let bad = |key, problem: String| CrmSetupError::Value { key, problem };
        let method = Method::from_bytes(config.method.as_bytes()).map_err(|error| bad("method", error.to_string()))?;
        let mut headers = Vec::new();
        for (name, text) in &config.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad("headers", error.to_string()))?;
            headers.push((name, template("headers", text)?));
        }
        let base = BaseUrl::parse_private(URL, &origin(url)?)?;
        let body = config.body.as_deref().map(|body| template("body", body)).transpose()?;
        Ok(Self {
            client: http.to(&base)?,
            method,
            url: template("url", url)?,
            headers,
            is_json: config.body.as_deref().is_some_and(|body| body.trim_start().starts_with(['{', '['])),
            body,
            key: key.unwrap_or_else(|| Secret::new("")),
            fields: config.fields.iter().map(|(name, pointer)| (name.clone(), pointer.clone())).collect(),
            matches: config.matches.clone(),
            number_field: config.number_field.clone(),
            country,
            max: config.max_bytes,
        })
    }

    pub async fn look_up(&self, number: &Forms) -> Result<Answer, CrmFault> {
        let placed = |placed| match placed {
            Placed::Key => self.key.reveal().to_owned(),
            Placed::E164 => number.key().to_owned(),
            Placed::National => number.national.clone(),
            Placed::Digits => number.digits.clone(),
            Placed::Raw => number.raw.clone(),
        };
        let url = self.url.filled(|place| percent_encoded(&placed(place)));
        let url = Url::parse(&url).map_err(|error| CrmFault::Request { problem: error.to_string() })?;
        let mut request = self.client.request(self.method.clone(), url);
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let mut text = HeaderValue::from_str(template.filled(placed).trim()).map_err(|_| CrmFault::Request {
                problem: format!("header {name} has characters that it cannot have"),
            })?;
            text.set_sensitive(true);
            headers.insert(name.clone(), text);
        }
        if let Some(body) = &self.body {
            let kind = if self.is_json { "application/json" } else { "application/x-www-form-urlencoded" };
            headers.entry(reqwest::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
            let body = body.filled(|place| match self.is_json {
                true => in_json_string(&placed(place)),
                false => percent_encoded(&placed(place)),
            });
            request = request.body(body);
        }
        let network = |error: reqwest::Error| CrmFault::Network { problem: chain(&error.without_url()) };
        let mut response = request.headers(headers).send().await.map_err(network)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::NO_CONTENT => return Ok(Answer::Unknown),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(CrmFault::Key { status: status.as_u16() });
            }
            status if !status.is_success() => return Err(CrmFault::Status { status: status.as_u16() }),
            _ => {}
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > self.max {
                return Err(CrmFault::TooLong { max: self.max });
            }
            body.extend_from_slice(&chunk);
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Answer::Unknown);
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|error| CrmFault::NotJson { problem: place_of(&error) })?;
        Ok(self.read(&answer, number))
    }

    fn read(&self, answer: &Value, number: &Forms) -> Answer {
        let lists = match &self.matches {
            Some(pointer) => vec![pointer.as_str()],
            // The list that a field is taken from is a list of customers, unless the installer says which one is.
            None => self.fields.iter().filter_map(|(_, pointer)| outermost_list(answer, pointer)).collect(),
        };
        for list in lists {
            match answer.pointer(list).and_then(Value::as_array).map(Vec::len) {
                Some(0) => return Answer::Unknown,
                Some(several) if several > 1 => return Answer::Unsure,
                _ => {}
            }
        }
        if let Some(pointer) = &self.number_field {
            let theirs = answer.pointer(pointer).and_then(text);
            match theirs.and_then(|theirs| normalise(&theirs, None, self.country)) {
                Some(theirs) if theirs == number.key() => {}
                Some(_) => return Answer::Unsure,
                None => return Answer::Unknown,
            }
        }
        let field = |(name, pointer): &(String, String)| Some((name.clone(), answer.pointer(pointer).and_then(text)?));
        let fields: Vec<_> = self.fields.iter().filter_map(field).collect();
        if fields.is_empty() { Answer::Unknown } else { Answer::Known(Customer { fields }) }
    }
}

/// Scheme, host and port of the template; a placeholder there would let a caller choose who is asked.
fn origin(url: &str) -> Result<String, HttpCrmUrl> {
    let (scheme, rest) = url.split_once("://").ok_or(HttpCrmUrl::Scheme)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme.contains("{{") || host.contains("{{") {
        return Err(HttpCrmUrl::Placeholder);
    }
    Ok(format!("{scheme}://{host}"))
}

/// An address that is no address of a CRM.
enum HttpCrmUrl {
    Scheme,
    Placeholder,
}

impl From<HttpCrmUrl> for CrmSetupError {
    fn from(problem: HttpCrmUrl) -> Self {
        let problem = match problem {
            HttpCrmUrl::Scheme => "not a URL; write it like https://host/path?phone={{caller.e164}}",
            HttpCrmUrl::Placeholder => "a placeholder stands in the host; it may stand behind it only",
        };
        Self::Value { key: "url", problem: problem.into() }
    }
}

/// The first array that a pointer leads through.
fn outermost_list<'p>(answer: &Value, pointer: &'p str) -> Option<&'p str> {
    let ends = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]);
    ends.map(|end| &pointer[..end])
        .find(|part| part.len() < pointer.len() && answer.pointer(part).is_some_and(Value::is_array))
}

/// A value as text; lists and objects as JSON.
fn text(found: &Value) -> Option<String> {
    match found {
        Value::Null => None,
        Value::String(text) => value(text),
        Value::Array(items) if items.is_empty() => None,
        other => value(&other.to_string()),
    }
}

/// Percent-encoded but for what never needs to be (RFC 3986 §2.3).
/// An error of the JSON parser without a piece of the text.
fn place_of(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn crm(change: impl FnOnce(&mut config::Crm)) -> Result<HttpCrm, CrmSetupError> {
        let mut config = config::Crm {
            url: Some("https://crm.example/find?phone={{caller.e164}}".into()),
            fields: [("name".to_owned(), "/data/0/name".to_owned())].into(),
            ..Default::default()
        };
        change(&mut config);
        let http = Http::new(Duration::from_secs(1)).unwrap();
        HttpCrm::new(&config, config.url.as_deref().unwrap(), Country::find("IL"), None, &http)
    }

    fn caller() -> Forms {
        Forms::of("+972501234567", "0501234567", Country::find("IL"))
    }

    fn said(answer: &Answer) -> String {
        match answer {
            Answer::Known(customer) => customer.fields.iter().map(|(name, value)| format!("{name}={value};")).collect(),
            Answer::Unknown => "unknown".into(),
            Answer::Unsure => "unsure".into(),
        }
    }

    #[test]
    fn one_customer_is_given_out_and_two_are_not() {
        let crm = crm(|_| {}).unwrap();
        let read = |answer: Value| said(&crm.read(&answer, &caller()));
        assert_eq!(read(json!({"data": [{"name": "Dana"}]})), "name=Dana;");
        assert_eq!(read(json!({"data": [{"name": "Dana"}, {"name": "Avi"}]})), "unsure");
        assert_eq!(read(json!({"data": []})), "unknown");
        for nothing in [json!({}), json!(null), json!([]), json!("x"), json!({"data": [{"name": null}]})] {
            assert_eq!(read(nothing), "unknown");
        }
    }

    #[test]
    fn lists_within_one_customer_are_no_other_customers() {
        let crm = crm(|config| {
            config.fields = [("order".to_owned(), "/customer/orders/0/state".to_owned())].into();
            config.matches = Some("/customers".into());
        });
        let answer = json!({"customer": {"orders": [{"state": "sent"}, {"state": "open"}]}, "customers": [1]});
        assert_eq!(said(&crm.unwrap().read(&answer, &caller())), "order=sent;");
    }

    #[test]
    fn a_customer_with_another_number_is_not_the_caller() {
        let crm = crm(|config| {
            config.fields = [("name".to_owned(), "/name".to_owned())].into();
            config.number_field = Some("/phone".into());
        })
        .unwrap();
        let read = |phone: Value| said(&crm.read(&json!({"name": "Dana", "phone": phone}), &caller()));
        assert_eq!(read(json!("050-123-4567")), "name=Dana;");
        assert_eq!(read(json!("050-123-4568")), "unsure");
        assert_eq!(read(json!("4567")), "unsure");
        assert_eq!(read(json!(null)), "unknown");
    }

    #[test]
    fn what_a_caller_sends_cannot_leave_its_place() {
        assert_eq!(percent_encoded("+972 5&x=/../é"), "%2B972%205%26x%3D%2F..%2F%C3%A9");
        assert_eq!(in_json_string("a\",\"b\":\"\n"), "a\\\",\\\"b\\\":\\\"\\n");
    }

    #[test]
    fn an_address_that_a_caller_could_choose_is_refused() {
        for url in ["https://{{caller.raw}}/x", "{{key}}://x", "crm.example", "http://crm.example/"] {
            assert!(crm(|config| config.url = Some(url.into())).is_err(), "{url}");
        }
        assert!(crm(|config| config.url = Some("http://127.0.0.1:1/{{caller.digits}}".into())).is_ok());
    }
}
