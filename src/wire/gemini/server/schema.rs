//! Schemas. Gemini's own are a part of OpenAPI's (API reference, "Schema"); the other kinds take JSON Schema.

use serde_json::{Map, Value};

/// OpenAPI's formats of numbers, and Gemini's for texts that have values. They tell JSON Schema nothing.
const FORMATS: &[&str] = &["enum", "int32", "int64", "float", "double"];

/// Counts, which protobuf's JSON writes as texts.
const COUNTS: &[&str] = &["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// The JSON Schema that says the same. `closed`: objects have no properties but those that they name, as in Gemini's answers;
/// others want that said (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs>).
pub(super) fn json_schema(schema: Value, closed: bool) -> Value {
    let Value::Object(schema) = schema else { return schema };
    let (mut out, mut nullable, mut order) = (Map::new(), false, Vec::new());
    for (name, value) in schema {
        let name = camel(&name);
        match (name.as_str(), value) {
            ("type", Value::String(kind)) if kind.eq_ignore_ascii_case("TYPE_UNSPECIFIED") => {}
            ("type", Value::String(kind)) => {
                out.insert(name, kind.to_ascii_lowercase().into());
            }
            ("nullable", value) => nullable = value == true,
            ("format", Value::String(format)) if FORMATS.contains(&format.as_str()) => {}
            ("propertyOrdering", Value::Array(names)) => order = names,
            ("example", value) => {
                out.insert("examples".into(), Value::Array(vec![value]));
            }
            ("ref", value) => {
                out.insert("$ref".into(), value);
            }
            ("properties" | "defs", Value::Object(schemas)) => {
                let schemas = schemas.into_iter().map(|(name, schema)| (name, json_schema(schema, closed)));
                let name = if name == "defs" { "$defs".to_owned() } else { name };
                out.insert(name, Value::Object(schemas.collect()));
            }
            ("anyOf" | "prefixItems", Value::Array(schemas)) => {
                let schemas = schemas.into_iter().map(|schema| json_schema(schema, closed));
                out.insert(name, schemas.collect());
            }
            ("items" | "additionalProperties", value) => {
                out.insert(name, json_schema(value, closed));
            }
            (_, Value::String(text)) if COUNTS.contains(&name.as_str()) => {
                let count = text.parse().map_or(Value::String(text), Value::Number);
                out.insert(name, count);
            }
            (_, value) => {
                out.insert(name, value);
            }
        }
    }
    sort(&mut out, &order);
    if closed && out.contains_key("properties") {
        out.entry("additionalProperties").or_insert(false.into());
    }
    if nullable {
        allow_null(&mut out);
    }
    out.into()
}

/// The model writes properties in the order of the schema, or in the one that `propertyOrdering` says
/// (<https://ai.google.dev/gemini-api/docs/structured-output>).
fn sort(schema: &mut Map<String, Value>, order: &[Value]) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let first = order.iter().filter_map(Value::as_str);
    let mut sorted: Map<String, Value> =
        first.filter_map(|name| properties.shift_remove_entry(name)).collect();
    sorted.append(properties);
    *properties = sorted;
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
    if let Some(kind @ Value::String(_)) = schema.get_mut("type") {
        *kind = Value::Array(vec![kind.take(), "null".into()]);
    } else if let Some(Value::Array(kinds)) = schema.get_mut("anyOf") {
        kinds.push(serde_json::json!({"type": "null"}));
    }
}

/// The reference's spelling of a field's name.
fn camel(name: &str) -> String {
    const SPELLINGS: &[(&str, &str)] = &[
        ("property_ordering", "propertyOrdering"),
        ("any_of", "anyOf"),
        ("prefix_items", "prefixItems"),
        ("additional_properties", "additionalProperties"),
        ("min_items", "minItems"),
        ("max_items", "maxItems"),
        ("min_length", "minLength"),
        ("max_length", "maxLength"),
        ("min_properties", "minProperties"),
        ("max_properties", "maxProperties"),
    ];
    let found = SPELLINGS.iter().find(|(own, _)| *own == name);
    found.map_or(name, |(_, reference)| *reference).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn geminis_schemas_become_json_schemas() {
        let table = [
            (json!({"type": "STRING"}), json!({"type": "string"})),
            (json!({"type": "string", "minLength": "3"}), json!({"type": "string", "minLength": 3})),
            (json!({"type": "TYPE_UNSPECIFIED", "description": "d"}), json!({"description": "d"})),
            (
                json!({"type": "STRING", "format": "enum", "enum": ["A"], "nullable": true}),
                json!({"type": ["string", "null"], "enum": ["A", null]}),
            ),
            (
                json!({"type": "STRING", "format": "date-time"}),
                json!({"type": "string", "format": "date-time"}),
            ),
            (
                json!({"any_of": [{"type": "INTEGER", "format": "int32"}], "nullable": true}),
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            ),
            (
                json!({"type": "ARRAY", "items": {"type": "NUMBER"}, "min_items": "1", "example": [1]}),
                json!({"type": "array", "items": {"type": "number"}, "minItems": 1, "examples": [[1]]}),
            ),
            (
                json!({"defs": {"p": {"type": "BOOLEAN"}}, "properties": {"type": {"ref": "#/defs/p"}}}),
                json!({"$defs": {"p": {"type": "boolean"}}, "properties": {"type": {"$ref": "#/defs/p"}}}),
            ),
            (
                json!({"type": "object", "additionalProperties": true}),
                json!({"type": "object", "additionalProperties": true}),
            ),
            (json!("x"), json!("x")),
        ];
        for (schema, expected) in table {
            assert_eq!(json_schema(schema.clone(), false), expected, "{schema}");
        }
    }

    #[test]
    fn properties_stand_in_their_order_and_objects_are_closed() {
        let schema = json!({
            "type": "OBJECT", "propertyOrdering": ["b", "x", "a"], "required": ["a"],
            "properties": {"a": {"type": "STRING"}, "c": {"type": "OBJECT", "properties": {}}, "b": {"type": "OBJECT"}},
        });
        let expected = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "b": {"type": "object"}, "a": {"type": "string"},
                "c": {"type": "object", "properties": {}, "additionalProperties": false},
            },
            "additionalProperties": false,
        });
        assert_eq!(json_schema(schema, true).to_string(), expected.to_string());
    }
}
