//! A request's JSON, read with the path of each field at hand. An error names the field as OpenAI's do:
//! `messages[2].content`. A field that is null counts as absent, as it does there.

use crate::wire::{
    FieldError,
    tree::{self, tree},
};
use serde_json::{Map, Value};
use std::fmt;

/// Where a value stands in the request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'p> {
    /// It is the whole request.
    Root,
    /// Under a key of an object.
    Key(&'p Path<'p>, &'p str),
    /// In a list.
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, name) => f.write_str(name),
            Self::Key(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, place) => write!(f, "{parent}[{place}]"),
        }
    }
}

impl<'p> Path<'p> {
    pub(super) fn key(&'p self, name: &'p str) -> Self {
        Self::Key(self, name)
    }

    pub(super) fn item(&'p self, place: usize) -> Self {
        Self::Item(self, place)
    }

    /// What is wrong with the value there.
    pub(super) fn wrong(&self, why: impl Into<String>) -> FieldError {
        FieldError::new(self.to_string(), why)
    }
}

/// An object of a request. What is read is taken out of it.
pub(super) struct Fields<'p> {
    at: &'p Path<'p>,
    fields: Map<String, Value>,
}

impl<'p> Fields<'p> {
    /// The request as a whole. It holds only so many values: a tree of JSON takes up to a hundred times what its text does.
    pub(super) fn body(body: &[u8]) -> Result<Self, FieldError> {
        tree::begin();
        let mut text = serde_json::Deserializer::from_slice(body);
        let value = tree(&mut text).and_then(|value| text.end().map(|()| value));
        let value = value.map_err(|error| Path::Root.wrong(format!("the body cannot be read: {error}")))?;
        match value {
            Value::Object(fields) => Ok(Self { at: &Path::Root, fields }),
            _ => Err(Path::Root.wrong("the body is not a JSON object")),
        }
    }

    /// The object that stands there.
    pub(super) fn of(value: Value, at: &'p Path<'p>) -> Result<Self, FieldError> {
        match value {
            Value::Object(fields) => Ok(Self { at, fields }),
            _ => Err(at.wrong("is not an object")),
        }
    }

    /// What is wrong with a field of it.
    pub(super) fn wrong(&self, name: &str, why: impl Into<String>) -> FieldError {
        self.at.key(name).wrong(why)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "is not a string")),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, FieldError> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.wrong(name, "is required and must not be empty"))
    }

    /// A list; empty where there is none.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, FieldError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(name, "is not a list")),
        }
    }

    /// A number that counts something.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u32>, FieldError> {
        let count = |value: Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
        match self.take(name) {
            None => Ok(None),
            Some(value) => match count(value) {
                Some(count) => Ok(Some(count)),
                None => Err(self.wrong(name, "is not a whole number that can stand there")),
            },
        }
    }

    /// Whether something is wanted.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, FieldError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "is not a boolean")),
        }
    }

    /// One text, or a list of them.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, FieldError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(items)) => {
                let at = self.at.key(name);
                let text = |(place, item): (usize, Value)| match item {
                    Value::String(text) => Ok(text),
                    _ => Err(at.item(place).wrong("is not a string")),
                };
                items.into_iter().enumerate().map(text).collect()
            }
            Some(_) => Err(self.wrong(name, "is neither a string nor a list of strings")),
        }
    }

    /// What is left, without nulls.
    pub(super) fn rest(mut self) -> Map<String, Value> {
        self.fields.retain(|_, value| !value.is_null());
        self.fields
    }

    /// Refuses a field that is there.
    pub(super) fn refuse(&mut self, name: &str, why: &str) -> Result<(), FieldError> {
        match self.take(name) {
            None => Ok(()),
            Some(_) => Err(self.wrong(name, why)),
        }
    }

    /// What a field is, where it is there.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_as_openai_does() {
        let (messages, root) = ("messages", Path::Root);
        let messages = root.key(messages);
        let second = messages.item(2);
        let content = second.key("content");
        assert_eq!(content.item(0).key("text").to_string(), "messages[2].content[0].text");
        assert_eq!(root.wrong("why").field, "");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "1", "null", "{", "{} x", "{\"a\":}", "\u{feff}{}"] {
            assert!(Fields::body(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Fields::body(deep.as_bytes()).is_err());
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(1 << 20));
        assert!(Fields::body(many.as_bytes()).is_err());
    }

    #[test]
    fn a_field_of_a_wrong_type_is_refused_and_null_is_none() {
        let mut fields = Fields::body(br#"{"a": null, "b": 1, "c": ["x", 2], "d": -1, "e": 1.5}"#).unwrap();
        assert_eq!(fields.text("a"), Ok(None));
        assert_eq!(fields.text("b").unwrap_err().field, "b");
        assert_eq!(fields.texts("c").unwrap_err().field, "c[1]");
        assert!(fields.count("d").is_err() && fields.count("e").is_err());
        assert!(fields.rest().is_empty());
    }
}
