//! One of the installer's functions: an HTTP request made of a template, and what the model is told of the answer.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::schema::Schema;
use super::template::{CALLER, Json, Template};
use super::{ToolError, cut};
use crate::config::{self, Wanted};
use crate::http::{BaseUrl, Http, percent_encoded};
use crate::privacy::Secret;

/// The most that is read of an answer.
const MOST_BYTES: usize = 512 * 1024;

/// A function that is ready to be called.
pub(super) struct HttpTool {
    pub(super) schema: Schema,
    pub(super) description: String,
    pub(super) side_effects: bool,
    pub(super) confirm: bool,
    pub(super) say: Option<String>,
    client: reqwest::Client,
    method: Method,
    url: Template,
    /// Scheme, host and port of every request.
    origin: String,
    headers: Vec<(HeaderName, Template)>,
    secrets: Vec<(HeaderName, Secret)>,
    body: Option<Json>,
    timeout: Duration,
    result: String,
    result_bytes: usize,
}

impl HttpTool {
    pub(super) fn new(name: &str, config: &config::HttpTool, http: &Http) -> Result<Self, ToolError> {
        let wrong = |key: &'static str, problem: String| ToolError::Wrong { tool: name.to_owned(), key, problem };
        let schema = Schema::new(&config.parameters).map_err(|problem| wrong("parameters", problem))?;
        let url = Template::new(&config.url).map_err(|problem| wrong("url", problem))?;
        let (origin, base) = origin(&config.url).map_err(|problem| wrong("url", problem))?;
        let mut headers = Vec::new();
        for (field, value) in &config.headers {
            headers.push((
                field.parse().map_err(|_| wrong("headers", format!("{field:?} is not a header field's name")))?,
                Template::new(value).map_err(|problem| wrong("headers", problem))?,
            ));
        }
        let mut secrets = Vec::new();
        for (field, file) in &config.secret_header_files {
            let field = field
                .parse()
                .map_err(|_| wrong("secret_header_files", format!("{field:?} is not a header field's name")))?;
            let what = format!("secret of the tool {name}");
            let wanted = Wanted {
                what: &what,
                key: "secret_header_files",
                file: Some(file),
                credential: "",
                variable: "",
                ascii: false,
            };
            if let Some(secret) = wanted.find()? {
                secrets.push((field, secret));
            }
        }
        let body = config.body.as_deref().map(Json::new).transpose().map_err(|problem| wrong("body", problem))?;
        let known = |argument: &&str| *argument != CALLER && !schema.names().any(|name| name == *argument);
        let unknown = |key: &'static str, argument: &str| {
            wrong(key, format!("{{{{{argument}}}}} is not among the properties of `parameters`"))
        };
        if let Some(argument) = url.arguments().find(known) {
            return Err(unknown("url", argument));
        }
        if let Some(argument) = headers.iter().flat_map(|(_, value)| value.arguments()).find(known) {
            return Err(unknown("headers", argument));
        }
        if let Some(argument) = body.iter().flat_map(Json::arguments).find(|argument| known(argument)) {
            return Err(unknown("body", argument));
        }
        if schema.names().any(|name| name == CALLER) {
            return Err(wrong(
                "parameters",
                format!("{CALLER:?} is the caller's number, and not for the model to say"),
            ));
        }
        if !config.result.is_empty() && !config.result.starts_with('/') {
            return Err(wrong("result", "a JSON pointer begins with a slash, as in \"/order/status\"".into()));
        }
        Ok(Self {
            schema,
            description: config.description.clone(),
            side_effects: config.side_effects,
            confirm: config.confirm,
            say: config.say.clone(),
            client: http.to(&base)?,
            method: config.method.parse().map_err(|_| wrong("method", format!("{:?} is none", config.method)))?,
            url,
            origin,
            headers,
            secrets,
            body,
            timeout: config.timeout,
            result: config.result.clone(),
            result_bytes: config.result_bytes,
        })
    }

    /// Makes the request. The result is what the model is told, or the reason why there is nothing to tell.
    pub(super) async fn call(&self, args: &Value, caller: &str, key: Option<String>) -> Result<Value, String> {
        let mut args = args.as_object().cloned().unwrap_or_default();
        args.insert(CALLER.into(), caller.into());
        let request = self.request(&args, key)?;
        let asking = async {
            let mut response = request.send().await.map_err(|error| match error.is_timeout() {
                true => "it took too long".to_owned(),
                false => "it could not be reached".to_owned(),
            })?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("it answered with HTTP status {}", status.as_u16()));
            }
            let mut body = Vec::new();
            while let Some(bytes) = response.chunk().await.map_err(|_| "its answer broke off".to_owned())? {
                body.extend_from_slice(&bytes);
                if body.len() > MOST_BYTES {
                    return Err("its answer is too long".to_owned());
                }
            }
            Ok(body)
        };
        let body = tokio::time::timeout(self.timeout, asking).await.map_err(|_| "it took too long".to_owned())??;
        self.told(&body)
    }

    fn request(&self, args: &Map<String, Value>, key: Option<String>) -> Result<reqwest::RequestBuilder, String> {
        let text = self.url.fill(args, percent_encoded);
        let url = Url::parse(&text).map_err(|_| "the arguments make no address".to_owned())?;
        // Percent-encoding leaves dots alone: a segment of them would lead elsewhere.
        let raw = text.get(self.origin.len()..).unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
        let astray = raw.split('/').skip(1).any(|segment| matches!(segment, "." | ".."));
        let empty = raw.trim_end_matches('/').split('/').skip(1).any(str::is_empty);
        if url.origin().ascii_serialization() != self.origin
            || astray
            || (empty && self.url.arguments().next().is_some())
        {
            return Err("the arguments make no address".to_owned());
        }
        let mut request = self.client.request(self.method.clone(), url);
        for (field, value) in &self.headers {
            let value = HeaderValue::from_str(&value.fill(args, str::to_owned))
                .map_err(|_| "an argument has characters in it that it cannot have".to_owned())?;
            request = request.header(field.clone(), value);
        }
        for (field, secret) in &self.secrets {
            let mut value =
                HeaderValue::from_str(secret.reveal()).map_err(|_| "a secret of it is malformed".to_owned())?;
            value.set_sensitive(true);
            request = request.header(field.clone(), value);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &self.body {
            request = request.json(&body.fill(args));
        }
        Ok(request)
    }

    fn told(&self, body: &[u8]) -> Result<Value, String> {
        let value = match serde_json::from_slice::<Value>(body) {
            Ok(value) => match value.pointer(&self.result) {
                Some(part) => part.clone(),
                None => return Err("there is nothing of the kind".to_owned()),
            },
            Err(_) if self.result.is_empty() => Value::String(String::from_utf8_lossy(body).into_owned()),
            Err(_) => return Err("its answer was not understood".to_owned()),
        };
        let shown = value.to_string();
        Ok(if shown.len() <= self.result_bytes {
            value
        } else {
            let text = value.as_str().unwrap_or(&shown);
            Value::String(format!("{} (the rest is left out)", cut(text, self.result_bytes)))
        })
    }
}

/// The origin of every request: no argument stands in it.
fn origin(url: &str) -> Result<(String, BaseUrl), String> {
    let host = url.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_none_or(|host| host.contains("{{")) {
        return Err("an argument may stand in path and query only; write it like https://host/path/{{argument}}".into());
    }
    if url.contains('#') {
        return Err("a fragment is never sent; leave it out".into());
    }
    let parsed =
        Url::parse(&url.replace("{{", "").replace("}}", "")).map_err(|error| format!("not a URL ({error})"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a user name or password belongs into secret_header_files".into());
    }
    let origin = parsed.origin().ascii_serialization();
    let base = BaseUrl::parse_private("url", &origin).map_err(|error| error.to_string())?;
    Ok((origin, base))
}

/// The same for the same doing in the same call, so that the other side can tell a repetition.
pub(super) fn idempotency_key(call: &str, name: &str, args: &Value) -> String {
    let digest = Sha256::digest(format!("{call}\n{name}\n{args}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
