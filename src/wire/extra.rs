//! Keys of a vendor's objects that the domain types do not name, on their way through.

use serde_json::{Map, Value};
use std::{
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

/// Keys of an object that no field names. Few objects have any, and the others give them no room.
#[derive(Debug, Clone, Default)]
pub struct Keys(Option<Box<Map<String, Value>>>);

static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl Keys {
    /// Adds those of another.
    pub fn extend(&mut self, more: impl IntoIterator<Item = (String, Value)>) {
        for (name, value) in more {
            self.insert(name, value);
        }
    }
}

impl Deref for Keys {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Keys {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl From<Map<String, Value>> for Keys {
    fn from(keys: Map<String, Value>) -> Self {
        Self((!keys.is_empty()).then(|| Box::new(keys)))
    }
}

impl From<Keys> for Map<String, Value> {
    fn from(keys: Keys) -> Self {
        keys.0.map(|keys| *keys).unwrap_or_default()
    }
}

impl From<Keys> for Value {
    fn from(keys: Keys) -> Self {
        Self::Object(keys.into())
    }
}

impl IntoIterator for Keys {
    type Item = (String, Value);
    type IntoIter = <Map<String, Value> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        Map::from(self).into_iter()
    }
}

/// More keys for one of a vendor's objects, and the kinds of provider that they are for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extra {
    /// The keys.
    pub fields: Keys,
    /// The kinds; empty: every kind.
    pub kinds: Vec<String>,
}

/// For every kind of provider, until the driver says whose it is.
impl<T: Into<Keys>> From<T> for Extra {
    fn from(fields: T) -> Self {
        Self { fields: fields.into(), kinds: Vec::new() }
    }
}

impl Extra {
    /// Whether providers of that kind get it.
    #[must_use]
    pub fn is_for(&self, kind: &str) -> bool {
        !self.fields.is_empty() && (self.kinds.is_empty() || self.kinds.iter().any(|own| own == kind))
    }

    /// Adds it to an object that is written for that kind.
    pub fn add_to(&self, object: &mut Map<String, Value>, kind: &str) {
        if self.is_for(kind) {
            add(object, &self.fields);
        }
    }
}

/// Adds keys to an object, in objects within it too. What is there stays.
pub fn add(object: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (object.get_mut(name), value) {
            (None, _) => {
                object.insert(name.clone(), value.clone());
            }
            (Some(Value::Object(own)), Value::Object(value)) => add(own, value),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn keys_are_added_and_none_is_replaced() {
        let mut own = object(json!({"a": 1, "b": {"c": 2}}));
        add(&mut own, &object(json!({"a": 9, "b": {"c": 9, "d": 3}, "e": 4})));
        assert_eq!(Value::from(own), json!({"a": 1, "b": {"c": 2, "d": 3}, "e": 4}));
    }

    #[test]
    fn other_kinds_do_not_get_it() {
        let extra = Extra { fields: object(json!({"a": 1})).into(), kinds: vec!["anthropic".into()] };
        assert!(extra.is_for("anthropic") && !extra.is_for("openai"));
        assert!(Extra { kinds: Vec::new(), ..extra }.is_for("openai"));
        assert!(!Extra::default().is_for("openai"));
    }
}
