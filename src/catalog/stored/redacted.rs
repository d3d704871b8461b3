//! Serializes columns for audit events, without secrets.

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// Stands for a secret, whatever it holds.
const SECRET: &str = "[secret]";

/// A credential's stored fields: plain ones as they are, of sealed ones that they are there.
pub(in crate::catalog) fn fields<S: Serializer>(json: &str, to: S) -> Result<S::Ok, S::Error> {
    let stored: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    to.collect_map(stored.into_iter().map(|(name, value)| match value {
        Value::String(plain) => (name, plain),
        _ => (name, SECRET.to_owned()),
    }))
}

/// A column that holds JSON.
pub(in crate::catalog) fn json<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(text).unwrap_or_default().serialize(to)
}
