//! An object of a client's request, taken apart field by field. Each error names the field by its path.

use crate::wire::FieldError;
use serde_json::{Map, Value};

/// An object and the path to it.
pub(super) struct Object {
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    pub(super) fn new(value: Value, path: impl Into<String>) -> Result<Self, FieldError> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            _ => Err(FieldError::new(path, "must be an object")),
        }
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, name: &str, why: &str) -> FieldError {
        FieldError::new(self.at(name), why)
    }

    /// Takes a field out. Null is the same as none.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be text")),
        }
    }

    pub(super) fn required_text(&mut self, name: &str) -> Result<String, FieldError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, FieldError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, FieldError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(name, "must be a list")),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, FieldError> {
        let path = self.at(name);
        self.take(name).map(|value| Self::new(value, path)).transpose()
    }

    pub(super) fn required_object(&mut self, name: &str) -> Result<Self, FieldError> {
        self.object(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        let mut fields = self.fields;
        fields.retain(|_, value| !value.is_null());
        fields
    }
}
