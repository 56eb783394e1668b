//! Texts with `{{argument}}` in them, filled in so that an argument never becomes anything but a value in its place.

use serde_json::{Map, Value};

/// The number that called, as signalling told it; not an argument of the model's.
pub(super) const CALLER: &str = "caller";

/// A text, split at its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Argument(String),
}

impl Template {
    /// Splits a text. The argument's name is what stands between the braces, without blanks.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.split_once("}}").ok_or_else(|| format!("{{{{ without }}}} in {text:.60?}"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Argument(name.trim().to_owned()));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The arguments that it names.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Argument(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with each argument as `escape` writes it; one that was not given is empty.
    pub(super) fn fill(&self, args: &Map<String, Value>, escape: impl Fn(&str) -> String) -> String {
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Argument(name) => args.get(name).map(|value| escape(&text_of(value))).unwrap_or_default(),
        };
        self.0.iter().map(fill).collect()
    }

    /// The argument that is all there is of it.
    fn lone(&self) -> Option<&str> {
        match &self.0[..] {
            [Part::Argument(name)] => Some(name),
            _ => None,
        }
    }
}

/// What an argument is in the middle of a text.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A JSON text whose strings are templates.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Value(Value),
    Text(Template),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str(text)
            .map_err(|error| format!("not JSON ({error}); an argument stands in a string, as in \"{{{{name}}}}\""))?;
        Self::of(&value)
    }

    fn of(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::new(text)?),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect::<Result<_, _>>()?),
            Value::Object(all) => {
                let entry = |(name, value): (&String, &Value)| Ok((name.clone(), Self::of(value)?));
                Self::Object(all.iter().map(entry).collect::<Result<_, String>>()?)
            }
            other => Self::Value(other.clone()),
        })
    }

    /// The arguments that it names.
    pub(super) fn arguments(&self) -> Vec<&str> {
        match self {
            Self::Value(_) => Vec::new(),
            Self::Text(template) => template.arguments().collect(),
            Self::List(items) => items.iter().flat_map(Self::arguments).collect(),
            Self::Object(all) => all.iter().flat_map(|(_, value)| value.arguments()).collect(),
        }
    }

    /// The value; a string that is nothing but an argument becomes it with its type, or `null` when it was not given.
    pub(super) fn fill(&self, args: &Map<String, Value>) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Text(template) => match template.lone() {
                Some(name) => args.get(name).cloned().unwrap_or_default(),
                None => Value::String(template.fill(args, str::to_owned)),
            },
            Self::List(items) => items.iter().map(|item| item.fill(args)).collect(),
            Self::Object(all) => all.iter().map(|(name, value)| (name.clone(), value.fill(args))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::percent_encoded;

    fn args(args: Value) -> Map<String, Value> {
        args.as_object().unwrap().clone()
    }

    #[test]
    fn an_argument_stays_within_its_path_segment_or_query_value() {
        let template = Template::new("https://h/orders/{{id}}/lines?q={{ q }}&x=1").unwrap();
        assert_eq!(template.arguments().collect::<Vec<_>>(), ["id", "q"]);
        let args = args(json!({"id": "../../admin?x#y", "q": "a&b=c d\u{5d0}\r\n"}));
        assert_eq!(
            template.fill(&args, percent_encoded),
            "https://h/orders/..%2F..%2Fadmin%3Fx%23y/lines?q=a%26b%3Dc%20d%D7%90%0D%0A&x=1"
        );
    }

    #[test]
    fn an_argument_cannot_leave_its_json_string_and_keeps_its_type_where_it_is_alone() {
        let body =
            Json::new(r#"{"n": "{{n}}", "text": "for {{who}}!", "list": ["{{n}}", 1], "none": "{{none}}"}"#).unwrap();
        assert_eq!(body.arguments().len(), 4);
        let filled = body.fill(&args(json!({"n": 3, "who": "x\", \"admin\": true, \"y\": \"{{n}}"})));
        assert_eq!(
            filled,
            json!({"n": 3, "text": "for x\", \"admin\": true, \"y\": \"{{n}}!", "list": [3, 1], "none": null})
        );
    }

    #[test]
    fn what_is_not_closed_or_not_json_is_refused() {
        assert!(Template::new("a {{b").is_err());
        assert!(Json::new("{\"a\": {{b}}}").unwrap_err().contains("stands in a string"));
        assert_eq!(Template::new("no arguments }}").unwrap().fill(&Map::new(), percent_encoded), "no arguments }}");
    }
}
