//! Keys of a vendor's objects that the domain types do not name, on their way through.

use serde_json::{Map, Value};

/// More keys for one of a vendor's objects, and the kinds of provider that they are for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extra {
    /// The keys.
    pub fields: Map<String, Value>,
    /// The kinds; empty: every kind.
    pub kinds: Vec<String>,
}

/// For every kind of provider, until the driver says whose it is.
impl From<Map<String, Value>> for Extra {
    fn from(fields: Map<String, Value>) -> Self {
        Self { fields, kinds: Vec::new() }
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
        let extra = Extra { fields: object(json!({"a": 1})), kinds: vec!["anthropic".into()] };
        assert!(extra.is_for("anthropic") && !extra.is_for("openai"));
        assert!(Extra { kinds: Vec::new(), ..extra }.is_for("openai"));
        assert!(!Extra::default().is_for("openai"));
    }
}
