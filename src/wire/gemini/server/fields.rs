//! The objects of a request, field by field.
//!
//! Protobuf's JSON takes each name in two spellings, and null for what is not given
//! (<https://protobuf.dev/programming-guides/json/>). Google also takes one object in place of a list of them, as its own
//! examples write it (<https://ai.google.dev/gemini-api/docs/text-generation>, system instructions). Errors name a field as
//! the reference spells it.

use crate::wire::{
    FieldError,
    tree::{Tree, begin},
};
use serde::de::DeserializeSeed as _;
use serde_json::{Map, Value};

/// What is said of a field that nobody reads: it is new, or only Google acts on it.
pub(super) const UNTOLD: &str = "cannot be said to a provider of another kind";

/// An object, whose fields are taken out one by one. Whatever is left at its end is refused.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The object that a request's body is.
    pub(super) fn read(body: &[u8]) -> Result<Self, FieldError> {
        begin();
        let mut json = serde_json::Deserializer::from_slice(body);
        let value = Tree::Counted.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        let value = value.map_err(|error| FieldError::new("", format!("is not JSON: {error}")))?;
        Self::of(value, String::new())
    }

    pub(super) fn of(value: Value, path: String) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(FieldError::new(path, "must be an object")),
        }
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where a field of it stands.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error of that field.
    pub(super) fn wrong(&self, name: &str, why: impl Into<String>) -> FieldError {
        FieldError::new(self.at(name), why)
    }

    /// Takes a field, in either spelling.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        let value = self.map.shift_remove(name).or_else(|| self.map.shift_remove(&spelled(name)))?;
        (!value.is_null()).then_some(value)
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, FieldError> {
        self.any(name).map(|value| Self::of(value, self.at(name))).transpose()
    }

    /// Takes a list of objects.
    pub(super) fn objects(&mut self, name: &str) -> Result<Vec<Self>, FieldError> {
        match self.any(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let path = self.at(name);
                let items = items.into_iter().enumerate();
                items.map(|(place, item)| Self::of(item, format!("{path}[{place}]"))).collect()
            }
            Some(one) => Self::of(one, self.at(name)).map(|one| vec![one]),
        }
    }

    /// Takes a text; an absent one is empty.
    pub(super) fn text(&mut self, name: &str) -> Result<String, FieldError> {
        match self.any(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(name, "must be a text")),
        }
    }

    /// Takes the name of one of several things, in upper case.
    pub(super) fn choice(&mut self, name: &str) -> Result<String, FieldError> {
        self.text(name).map(|text| text.to_ascii_uppercase())
    }

    /// Takes a list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, FieldError> {
        let items = match self.any(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(one) => vec![one],
        };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts.collect::<Option<_>>().ok_or_else(|| self.wrong(name, "must be a list of texts"))
    }

    /// Takes a number, as it is written. Protobuf's JSON also takes it as a text.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<Value>, FieldError> {
        let number = match self.any(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => Some(number),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(|number| Some(number.into())).ok_or_else(|| self.wrong(name, "must be a number"))
    }

    /// Takes a whole number, which may be written as `3.0`.
    pub(super) fn whole(&mut self, name: &str) -> Result<Option<Value>, FieldError> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        if number.is_i64() || number.is_u64() {
            return Ok(Some(number));
        }
        let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
        whole
            .map(|float| Some((float as i64).into()))
            .ok_or_else(|| self.wrong(name, "must be a whole number"))
    }

    /// Takes a truth value; an absent one is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, FieldError> {
        match self.any(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// Takes what changes no answer.
    pub(super) fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.any(name);
        }
    }

    /// Takes what only Google acts on, under the names of the reference.
    pub(super) fn keep(&mut self, names: &[&str], kept: &mut Map<String, Value>) {
        for name in names {
            if let Some(value) = self.any(name) {
                kept.insert((*name).to_owned(), value);
            }
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn end(self) -> Result<(), FieldError> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(self.wrong(name, UNTOLD)),
            None => Ok(()),
        }
    }
}

/// An object of these fields. What is large is not copied.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// `top_p` of `topP`.
fn spelled(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn both_spellings_are_taken_and_null_is_nothing() {
        let mut body = fields(&json!({
            "topP": 0.5, "max_output_tokens": "7", "thinkingConfig": null, "stop_sequences": ["a"], "contents": {"role": "user"},
        }));
        assert_eq!(body.number("topP").unwrap(), Some(json!(0.5)));
        assert_eq!(body.number("maxOutputTokens").unwrap(), Some(json!(7)));
        assert!(body.object("thinkingConfig").unwrap().is_none());
        assert_eq!(body.texts("stopSequences").unwrap(), ["a"]);
        let contents = body.objects("contents").unwrap();
        assert_eq!((contents.len(), contents[0].path()), (1, "contents"));
        body.end().unwrap();
    }

    #[test]
    fn what_is_not_taken_or_of_another_type_is_named() {
        let body = fields(&json!({"nothing": null, "new_field": 1}));
        assert_eq!(body.end().unwrap_err(), FieldError::new("new_field", UNTOLD));
        let mut body =
            fields(&json!({"contents": [{}, 5], "text": 1, "flag": "x", "number": [], "texts": [1]}));
        assert_eq!(body.objects("contents").unwrap_err().field, "contents[1]");
        assert_eq!(body.text("text").unwrap_err().field, "text");
        assert_eq!(body.flag("flag").unwrap_err().field, "flag");
        assert_eq!(body.number("number").unwrap_err().field, "number");
        assert_eq!(body.texts("texts").unwrap_err().field, "texts");
        for body in ["", "[]", "{} x", "{\"a\":", "5"] {
            assert_eq!(Fields::read(body.as_bytes()).unwrap_err().field, "", "{body}");
        }
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(1 << 20));
        assert!(Fields::read(many.as_bytes()).unwrap_err().why.contains("too many values"));
    }
}
