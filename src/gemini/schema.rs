//! JSON Schema as Gemini takes it for a function's `parameters` (`Schema` of the Gemini API v1beta, a part of OpenAPI 3.0.3).
//!
//! Keywords that the interface does not know are left out, since it refuses them: what a function is told is checked again by
//! whoever carries it out. Not implemented: `$ref`, `allOf`, `additionalProperties`, tuples.

use serde_json::{Map, Value, json};

/// Levels below which a schema is cut off; the interface refuses far fewer.
const DEEPEST: usize = 16;
/// Keywords that are the same on both sides.
const SAME: [&str; 14] = [
    "title",
    "description",
    "nullable",
    "required",
    "pattern",
    "propertyOrdering",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
];

/// What a function takes; `None` when it takes nothing, since an object without properties is refused.
pub(super) fn parameters(schema: &Value) -> Option<Value> {
    let filled = schema.get("properties").and_then(Value::as_object).is_some_and(|properties| !properties.is_empty());
    filled.then(|| converted(schema, DEEPEST))
}

fn converted(schema: &Value, deeper: usize) -> Value {
    let Some(schema) = schema.as_object().filter(|_| deeper > 0) else { return json!({"type": "STRING"}) };
    let mut out: Map<String, Value> =
        SAME.iter().filter_map(|&name| Some((name.to_owned(), schema.get(name)?.clone()))).collect();
    let kind = kind(schema, &mut out);
    // An enumeration is one of strings, whatever it says.
    let only = schema.get("const").map(std::slice::from_ref);
    let values = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice).or(only);
    if let Some(values) = values.filter(|_| kind == Some("STRING")) {
        out.insert("enum".into(), values.iter().filter(|value| value.is_string()).cloned().collect());
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        let known = match kind {
            Some("STRING") => format == "date-time",
            Some("NUMBER") => ["float", "double"].contains(&format),
            Some("INTEGER") => ["int32", "int64"].contains(&format),
            _ => false,
        };
        if known {
            out.insert("format".into(), format.into());
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let each = properties.iter().map(|(name, schema)| (name.clone(), converted(schema, deeper - 1)));
        out.insert("properties".into(), Value::Object(each.collect()));
    }
    match schema.get("items") {
        Some(items) => drop(out.insert("items".into(), converted(items, deeper - 1))),
        None if kind == Some("ARRAY") => drop(out.insert("items".into(), json!({"type": "STRING"}))),
        None => {}
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(*name)?.as_array()) {
        out.insert("anyOf".into(), choices.iter().map(|choice| converted(choice, deeper - 1)).collect());
    }
    Value::Object(out)
}

/// Writes the type, of which one may be `null`.
fn kind(schema: &Map<String, Value>, out: &mut Map<String, Value>) -> Option<&'static str> {
    let (name, nullable) = match schema.get("type") {
        Some(Value::String(name)) => (Some(name.as_str()), false),
        Some(Value::Array(names)) => {
            let mut others = names.iter().filter_map(Value::as_str).filter(|name| !name.eq_ignore_ascii_case("null"));
            (others.next(), names.iter().any(|name| name == "null"))
        }
        _ if schema.contains_key("properties") => (Some("object"), false),
        _ if schema.contains_key("enum") || schema.contains_key("const") => (Some("string"), false),
        _ => (None, false),
    };
    if nullable {
        out.insert("nullable".into(), true.into());
    }
    let kind = match name?.to_ascii_lowercase().as_str() {
        "string" => "STRING",
        "number" => "NUMBER",
        "integer" => "INTEGER",
        "boolean" => "BOOLEAN",
        "array" => "ARRAY",
        "object" => "OBJECT",
        "null" => "NULL",
        _ => return None,
    };
    out.insert("type".into(), kind.into());
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_in_capitals_at_every_depth() {
        let schema = json!({"type": "object", "required": ["order"], "properties": {
            "order": {"type": "string", "description": "Its number"},
            "lines": {"type": "array", "items": {"type": "object", "properties": {"count": {"type": "integer"}}}}}});
        let expected = json!({"type": "OBJECT", "required": ["order"], "properties": {
            "order": {"type": "STRING", "description": "Its number"},
            "lines": {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"count": {"type": "INTEGER"}}}}}});
        assert_eq!(parameters(&schema), Some(expected));
    }

    #[test]
    fn keywords_that_the_interface_refuses_are_left_out() {
        let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "additionalProperties": false, "properties": {
                "when": {"type": ["string", "null"], "format": "date", "examples": ["x"], "default": "y"},
                "at": {"type": "string", "format": "date-time"},
                "size": {"type": "integer", "enum": [1, 2], "exclusiveMinimum": 0},
                "kind": {"const": "a"}, "many": {"type": "array"}}});
        let expected = json!({"type": "OBJECT", "properties": {
            "when": {"type": "STRING", "nullable": true}, "at": {"type": "STRING", "format": "date-time"},
            "size": {"type": "INTEGER"}, "kind": {"type": "STRING", "enum": ["a"]},
            "many": {"type": "ARRAY", "items": {"type": "STRING"}}}});
        assert_eq!(parameters(&schema), Some(expected));
    }

    #[test]
    fn choices_stay_choices() {
        let schema = json!({"properties": {"x": {"oneOf": [{"type": "string"}, {"type": "number"}]}}});
        assert_eq!(
            parameters(&schema),
            Some(json!({"type": "OBJECT", "properties": {"x": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}}}))
        );
    }

    #[test]
    fn a_function_that_takes_nothing_has_no_parameters() {
        for schema in [json!({"type": "object", "properties": {}}), json!({"type": "object"}), json!(null), json!([])] {
            assert_eq!(parameters(&schema), None, "{schema}");
        }
    }

    #[test]
    fn a_schema_without_end_is_cut_off() {
        let mut schema = json!({"type": "string"});
        for _ in 0..100 {
            schema = json!({"type": "object", "properties": {"a": schema}});
        }
        let text = parameters(&schema).unwrap().to_string();
        assert!(text.matches("OBJECT").count() <= DEEPEST && text.contains("STRING"), "{text}");
    }
}
