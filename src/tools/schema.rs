//! What a function is to be told: the part of JSON Schema (draft 2020-12) that language models take, checked before anything leaves the box.
//!
//! Implemented: `type`, `properties`, `required`, `enum`, `items`, `minimum`, `maximum`, `minLength`, `maxLength`, `minItems`, `maxItems`.
//! `description`, `title`, `format`, `default` and `examples` are told to the model and not checked. Everything else (`pattern`, `$ref`,
//! `oneOf` …) is refused when the configuration is read. Arguments that are not named in `properties` are refused, always.

use serde_json::{Map, Value};

/// Nested objects and lists.
const DEEPEST: usize = 8;
/// All arguments of a call, as JSON.
const MOST_BYTES: usize = 8 * 1024;

const CHECKED: [&str; 12] = [
    "type",
    "properties",
    "required",
    "enum",
    "items",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "additionalProperties",
];
const TOLD: [&str; 5] = ["description", "title", "format", "default", "examples"];
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/// A schema whose every keyword is understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schema(Map<String, Value>);

impl Schema {
    /// Reads the schema of a function's arguments: of type "object".
    pub(super) fn new(schema: &Map<String, Value>) -> Result<Self, String> {
        let mut schema = schema.clone();
        schema.entry("type").or_insert_with(|| "object".into());
        if schema["type"] != "object" {
            return Err("the type of all arguments together is \"object\"".into());
        }
        understood(&schema, 0)?;
        Ok(Self(schema))
    }

    /// As the model is told it; `None` when there is nothing to tell.
    pub(super) fn parameters(&self) -> Option<Value> {
        let nothing = self.0.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty);
        (!nothing).then(|| Value::Object(self.0.clone()))
    }

    /// The names of the arguments.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.get("properties").and_then(Value::as_object).into_iter().flat_map(|all| all.keys().map(String::as_str))
    }

    /// Whether a call may be made with these arguments; otherwise what the model should know about it.
    pub(super) fn check(&self, args: &Value) -> Result<(), String> {
        if args.to_string().len() > MOST_BYTES {
            return Err(format!("the arguments are longer than {MOST_BYTES} bytes"));
        }
        valid(&self.0, args, "the arguments", 0)
    }
}

fn understood(schema: &Map<String, Value>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("nested more than {DEEPEST} deep"));
    }
    for (keyword, value) in schema {
        let good = match keyword.as_str() {
            "type" => value.as_str().is_some_and(|kind| TYPES.contains(&kind)),
            "properties" => value.is_object(),
            "required" => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
            "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
            "items" => value.is_object(),
            "minimum" | "maximum" => value.is_number(),
            "minLength" | "maxLength" | "minItems" | "maxItems" => value.is_u64(),
            "additionalProperties" => value == &Value::Bool(false),
            other if TOLD.contains(&other) => true,
            other => {
                return Err(format!("the keyword {other:?} is not supported; take {}", CHECKED.join(", ")));
            }
        };
        if !good {
            return Err(format!("{keyword:?} has a value that is not supported"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !properties.is_some_and(|all| all.contains_key(name)) {
            return Err(format!("{name:?} is required and not among the properties"));
        }
    }
    for inner in properties.into_iter().flat_map(|all| all.values()).chain(schema.get("items")) {
        match inner {
            Value::Object(inner) => understood(inner, depth + 1)?,
            _ => return Err("a property is described by a table, as in { type = \"string\" }".into()),
        }
    }
    Ok(())
}

fn valid(schema: &Map<String, Value>, value: &Value, place: &str, depth: usize) -> Result<(), String> {
    if depth > DEEPEST + 1 {
        return Err(format!("{place}: nested too deep"));
    }
    let kind = schema.get("type").and_then(Value::as_str);
    let right = match kind {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some(_) => value.is_null(),
    };
    if !right {
        return Err(format!("{place}: must be of type {}", kind.unwrap_or_default()));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        return Err(format!("{place}: must be one of {}", Value::Array(allowed.clone())));
    }
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let within = |size: f64, least: &str, most: &str| {
        bound(least).is_none_or(|least| size >= least) && bound(most).is_none_or(|most| size <= most)
    };
    let bounded = match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| within(number, "minimum", "maximum")),
        Value::String(text) => within(text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(items) => within(items.len() as f64, "minItems", "maxItems"),
        _ => true,
    };
    if !bounded {
        return Err(format!("{place}: too small or too large"));
    }
    if let (Value::Array(items), Some(Value::Object(each))) = (value, schema.get("items")) {
        for item in items {
            valid(each, item, &format!("an item of {place}"), depth + 1)?;
        }
    }
    let Value::Object(given) = value else { return Ok(()) };
    let properties = schema.get("properties").and_then(Value::as_object);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !given.contains_key(name) {
            return Err(format!("{place}: {name} is missing"));
        }
    }
    for (name, value) in given {
        match properties.and_then(|all| all.get(name)) {
            Some(Value::Object(inner)) => valid(inner, value, name, depth + 1)?,
            _ => return Err(format!("{place}: {name:.40} is not known")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(schema: Value) -> Result<Schema, String> {
        Schema::new(schema.as_object().unwrap())
    }

    #[test]
    fn arguments_that_are_not_as_described_never_leave() {
        let schema = schema(json!({"type": "object", "required": ["day"], "properties": {
            "day": {"type": "string", "enum": ["monday", "friday"]},
            "people": {"type": "integer", "minimum": 1, "maximum": 8},
            "name": {"type": "string", "minLength": 1, "maxLength": 5},
            "dishes": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
        }}))
        .unwrap();
        for good in
            [json!({"day": "monday"}), json!({"day": "friday", "people": 8.0, "name": "דנה", "dishes": ["a", "b"]})]
        {
            assert_eq!(schema.check(&good), Ok(()));
        }
        for (bad, complaint) in [
            (json!({}), "day is missing"),
            (json!(null), "must be of type object"),
            (json!([1]), "must be of type object"),
            (json!({"day": "sunday"}), "must be one of"),
            (json!({"day": "monday", "people": 0}), "people: too small or too large"),
            (json!({"day": "monday", "people": 1.5}), "must be of type integer"),
            (json!({"day": "monday", "people": "2"}), "must be of type integer"),
            (json!({"day": "monday", "name": "Daniel"}), "too small or too large"),
            (json!({"day": "monday", "dishes": ["a", "b", "c"]}), "too small or too large"),
            (json!({"day": "monday", "dishes": [1]}), "an item of dishes: must be of type string"),
            (json!({"day": "monday", "url": "http://evil"}), "url is not known"),
            (json!({"day": "x".repeat(9000)}), "longer than"),
        ] {
            let told = schema.check(&bad).unwrap_err();
            assert!(told.contains(complaint), "{told}");
        }
    }

    #[test]
    fn a_keyword_that_is_not_checked_is_refused_rather_than_passed_over() {
        for (bad, complaint) in [
            (json!({"properties": {"a": {"type": "string", "pattern": "^x"}}}), "\"pattern\" is not supported"),
            (json!({"oneOf": []}), "\"oneOf\" is not supported"),
            (json!({"type": "string"}), "\"object\""),
            (json!({"required": ["a"]}), "not among the properties"),
            (json!({"properties": {"a": "string"}}), "described by a table"),
            (json!({"properties": {"a": {"type": "text"}}}), "not supported"),
            (json!({"additionalProperties": true}), "not supported"),
        ] {
            let told = schema(bad).unwrap_err();
            assert!(told.contains(complaint), "{told}");
        }
        assert_eq!(schema(json!({})).unwrap().parameters(), None);
    }
}
