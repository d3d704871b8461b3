//! JSON that stands as text in a message: an object whose keys keep their order, and numbers their digits.

use super::status;
use crate::wire::{Extra, Tree};
use serde::de::DeserializeSeed;
use serde_json::{Deserializer, Map, Value};
use tonic::Status;

/// Keys of requests that Rota writes itself, for whatever provider.
pub(super) const REQUEST: &[&str] = &["model", "messages", "contents", "stream"];
/// The same of messages.
pub(super) const MESSAGE: &[&str] = &["role", "content", "parts", "tool_calls", "tool_call_id"];
/// The same of parts, tools and calls of tools.
pub(super) const PIECE: &[&str] = &["type", "name", "id"];

/// Reads an object; an empty text is an empty one. No key may stand twice, and none of the `reserved` may be there.
pub(super) fn object(text: &str, field: &str, reserved: &[&str]) -> Result<Map<String, Value>, Status> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    let Ok(Value::Object(object)) = strict(text) else {
        return Err(status::invalid(field, "must be a JSON object in which no key stands twice"));
    };
    match object.keys().find(|name| reserved.contains(&name.as_str())) {
        Some(name) => {
            Err(status::invalid(field, format!("must not hold `{name}`, which Rota writes itself")))
        }
        None => Ok(object),
    }
}

/// Reads any JSON.
pub(super) fn value(text: &str, field: &str) -> Result<Value, Status> {
    strict(text).map_err(|_| status::invalid(field, "must be JSON in which no key stands twice"))
}

/// Reads more keys for a vendor's object. Where no kinds are named, it is for those of the request.
pub(super) fn extra(
    text: &str,
    kinds: Vec<String>,
    of_request: &[String],
    field: &str,
    reserved: &[&str],
) -> Result<Extra, Status> {
    let fields = object(text, field, reserved)?;
    let kinds = if kinds.is_empty() { of_request.to_vec() } else { kinds };
    Ok(Extra { fields: fields.into(), kinds })
}

/// The text of an object; empty where nothing is in it.
pub(super) fn text(object: &Map<String, Value>) -> String {
    if object.is_empty() { String::new() } else { serde_json::to_string(object).unwrap_or_default() }
}

/// The text of any JSON.
pub(super) fn value_text(value: Option<&Value>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Any JSON in which no key stands twice, at any depth.
fn strict(text: &str) -> serde_json::Result<Value> {
    let mut json = Deserializer::from_str(text);
    let value = Tree::Strict.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_order_and_its_digits() {
        let written = r#"{"z":12345678901234567890123,"a":{"y":1.50,"b":[9007199254740993,null,true]}}"#;
        assert_eq!(text(&object(written, "f", REQUEST).unwrap()), written);
        assert_eq!(text(&object("", "f", REQUEST).unwrap()), "");
    }

    #[test]
    fn what_is_ambiguous_or_reserved_is_refused() {
        for wrong in ["[]", "1", "{", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}", "{\"model\":\"m\"}"] {
            let error = object(wrong, "f", REQUEST).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{wrong}");
        }
    }
}
