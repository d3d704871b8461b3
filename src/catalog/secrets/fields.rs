//! The fields of a credential. They are checked against their kind, sealed at rest, and masked in answers.
//!
//! They are stored as JSON. A plain field is a text, a secret one is `{"key": data key id, "sealed": base64}`. A sealed value
//! that does not open is never used as a value.

use crate::{
    catalog::{
        names::{Check, shown},
        secrets::key_ring::{DataKey, Place},
        types::{Error, HIDDEN},
    },
    provider::{CredentialField, KindSpec},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// The data keys that could be opened, by row id.
pub type Keys = HashMap<Uuid, Arc<DataKey>>;

/// A row that holds fields: its table and its id.
#[derive(Clone, Copy)]
pub struct Holder {
    /// The table's name.
    pub table: &'static str,
    /// The row's id.
    pub row: Uuid,
}

impl Holder {
    /// A credential.
    pub fn credential(row: Uuid) -> Self {
        Self { table: "credentials", row }
    }

    /// A config with fields of its own.
    pub fn config(row: Uuid) -> Self {
        Self { table: "lb_configs", row }
    }

    fn field(self, field: &str) -> Place<'_> {
        Place { table: self.table, row: self.row, field }
    }
}

/// One field as it is stored.
#[derive(Serialize, Deserialize, Clone)]
#[serde(untagged)]
enum Stored {
    Plain(String),
    Sealed { key: Uuid, sealed: String },
}

type StoredFields = BTreeMap<String, Stored>;

/// A stored field does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// The warning of a row that holds a secret that does not open.
pub const UNREADABLE: &str = "secret cannot be read";

/// What a set of no fields is stored as.
pub const NONE: &str = "{}";

fn open(stored: &Stored, place: Place<'_>, keys: &Keys) -> Result<SecretString, Unreadable> {
    match stored {
        Stored::Plain(value) => Ok(SecretString::from(value.as_str())),
        Stored::Sealed { key, sealed } => {
            keys.get(key).and_then(|key| key.open(place, sealed)).ok_or(Unreadable)
        }
    }
}

/// All fields of a row in the clear. A secret that is not sealed was not stored by us: it goes nowhere.
pub fn read(
    kind: Option<&KindSpec>,
    json: &str,
    holder: Holder,
    keys: &Keys,
) -> Result<BTreeMap<String, SecretString>, Unreadable> {
    let stored: StoredFields = serde_json::from_str(json).map_err(|_| Unreadable)?;
    let field = |(name, stored): (&String, &Stored)| {
        let secret = kind.and_then(|kind| spec(kind, name)).is_some_and(|field| field.secret);
        if secret && matches!(stored, Stored::Plain(_)) {
            return Err(Unreadable);
        }
        Ok((name.clone(), open(stored, holder.field(name), keys)?))
    };
    stored.iter().map(field).collect()
}

/// The fields with every secret sealed by `to`; none where they are already.
pub fn reseal(json: &str, holder: Holder, keys: &Keys, to: &DataKey) -> Result<Option<String>, Unreadable> {
    let mut fields: StoredFields = serde_json::from_str(json).map_err(|_| Unreadable)?;
    let mut moved = false;
    for (name, field) in &mut fields {
        let place = holder.field(name);
        match field {
            Stored::Sealed { key, .. } if *key != to.id => {}
            _ => continue,
        }
        let value = open(field, place, keys)?;
        // One that cannot be sealed anew is as well kept as one that does not open.
        let sealed = to.seal(place, value.expose_secret()).map_err(|_| Unreadable)?;
        *field = Stored::Sealed { key: to.id, sealed };
        moved = true;
    }
    if moved { serde_json::to_string(&fields).map(Some).map_err(|_| Unreadable) } else { Ok(None) }
}

/// Whether all secrets of a row are sealed by that key.
pub fn are_under(json: &str, key: Uuid) -> bool {
    let under = |field: &Stored| match field {
        Stored::Plain(_) => true,
        Stored::Sealed { key: by, .. } => *by == key,
    };
    serde_json::from_str::<StoredFields>(json).is_ok_and(|fields| fields.values().all(under))
}

/// Whether a row keeps any secret.
pub fn hold_secret(json: &str) -> bool {
    serde_json::from_str::<StoredFields>(json)
        .map_or(true, |fields| fields.values().any(|field| matches!(field, Stored::Sealed { .. })))
}

/// All fields of a row as answers show them: secrets masked, one that does not open as the mask of a short one.
pub fn masked(kind: Option<&KindSpec>, json: &str, holder: Holder, keys: &Keys) -> BTreeMap<String, String> {
    let stored: StoredFields = serde_json::from_str(json).unwrap_or_default();
    stored
        .iter()
        .map(|(name, stored)| (name.clone(), masked_field(kind, name, stored, holder, keys)))
        .collect()
}

fn masked_field(kind: Option<&KindSpec>, name: &str, stored: &Stored, holder: Holder, keys: &Keys) -> String {
    // A field this build does not know is taken for a secret.
    let secret = kind.and_then(|kind| spec(kind, name)).is_none_or(|field| field.secret);
    match open(stored, holder.field(name), keys) {
        Ok(value) if secret => mask(value.expose_secret()),
        Ok(value) => value.expose_secret().to_owned(),
        Err(Unreadable) => SHORT_MASK.to_owned(),
    }
}

fn spec<'a>(kind: &'a KindSpec, name: &str) -> Option<&'a CredentialField> {
    kind.credential_fields.iter().find(|field| field.name == name)
}

/// The mask of a value too short to show any of.
const SHORT_MASK: &str = "********************";
/// The middle of the others.
const MASK: &str = "************";
/// A shorter value, in characters, is not shown at all. Of the others at least twelve characters stay unknown: more than
/// anybody can try.
const LONG: usize = 20;
/// Releases before 0.2 showed some of values that are not shorter.
const WAS_LONG: usize = 16;

/// What answers show of a secret: first 6, 12 asterisks, last 2; of fewer than 20 characters 20 asterisks.
pub fn mask(value: &str) -> String {
    masked_from(LONG, value)
}

fn masked_from(long: usize, value: &str) -> String {
    match value.chars().count() {
        0 => String::new(),
        count if count < long => SHORT_MASK.to_owned(),
        count => {
            let first: String = value.chars().take(6).collect();
            let last: String = value.chars().skip(count - 2).collect();
            format!("{first}{MASK}{last}")
        }
    }
}

/// Whether a text is the mask of that secret, of this release or of one that may run beside it.
fn is_mask(text: &str, value: &str) -> bool {
    !value.is_empty() && (text == mask(value) || text == masked_from(WAS_LONG, value))
}

/// Where new fields go.
pub struct Writing<'a> {
    /// What a credential of this kind holds.
    pub kind: &'static KindSpec,
    /// The row.
    pub holder: Holder,
    /// The row's fields up to now; none for a new row.
    pub stored: Option<&'a str>,
    /// What opens them.
    pub keys: &'a Keys,
    /// What seals new ones.
    pub seal_with: &'a DataKey,
}

/// Fields ready to be stored.
pub struct Written {
    /// For the column.
    pub json: String,
    /// Whether there is any.
    pub any: bool,
    /// Whether a stored secret was kept.
    pub kept: bool,
}

impl Writing<'_> {
    /// Checks what came in, keeps the hidden secrets, seals the new ones. What is wrong goes to `check`, under `path`.
    pub fn write(
        &self,
        given: &BTreeMap<String, String>,
        path: &str,
        check: &mut Check,
    ) -> Result<Written, Error> {
        let mut stored: StoredFields =
            self.stored.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let unknown = given.keys().filter(|name| spec(self.kind, name).is_none());
        // A few names help; a thousand would be a huge answer.
        for name in unknown.take(8) {
            check.add(
                format!("{path}.{}", shown(name)),
                format!("is not a credential field of kind {}", self.kind.name),
            );
        }
        let mut fields = StoredFields::new();
        let mut kept = false;
        for field in self.kind.credential_fields {
            let at = format!("{path}.{}", field.name);
            let old = stored.remove(field.name);
            let value = match (given.get(field.name).map(String::as_str), old) {
                (None, Some(old)) if field.secret => {
                    kept = true;
                    Some(old)
                }
                (Some(value), Some(old)) if field.secret && self.stands_for(value, field.name, &old) => {
                    kept = true;
                    Some(old)
                }
                (None | Some(""), _) if field.default_value.is_empty() => None,
                (None | Some(""), _) => Some(self.store(field, field.default_value)?),
                (Some(value), _) => {
                    let value = trimmed(field, value);
                    check_value(field, value, &at, check);
                    (!value.is_empty()).then(|| self.store(field, value)).transpose()?
                }
            };
            match value {
                Some(value) => drop(fields.insert(field.name.to_owned(), value)),
                None if field.required => check.add(at, format!("Variable {} is required", field.name)),
                None => {}
            }
        }
        let json = serde_json::to_string(&fields).map_err(|_| Error::Internal)?;
        Ok(Written { json, any: !fields.is_empty(), kept })
    }

    fn stands_for(&self, value: &str, name: &str, old: &Stored) -> bool {
        value == HIDDEN
            || match open(old, self.holder.field(name), self.keys) {
                Ok(secret) => is_mask(value, secret.expose_secret()),
                Err(Unreadable) => value == SHORT_MASK,
            }
    }

    fn store(&self, field: &CredentialField, value: &str) -> Result<Stored, Error> {
        if !field.secret {
            return Ok(Stored::Plain(value.to_owned()));
        }
        let sealed = self.seal_with.seal(self.holder.field(field.name), value)?;
        Ok(Stored::Sealed { key: self.seal_with.id, sealed })
    }
}

/// A secret without the blanks that come along when one is copied: they are never meant.
fn trimmed<'v>(field: &CredentialField, value: &'v str) -> &'v str {
    if field.secret { value.trim_matches(|c: char| c.is_whitespace() && !c.is_control()) } else { value }
}

fn check_value(field: &CredentialField, value: &str, at: &str, check: &mut Check) {
    if value.chars().count() > field.max_length {
        check.add(at, format!("is longer than {} characters", field.max_length));
    } else if value.chars().any(char::is_control) {
        check.add(at, "holds a control character");
    } else if !field.options.is_empty() && !field.options.contains(&value) {
        check.add(at, format!("is one of {}", field.options.join(", ")));
    } else if field.secret && value == HIDDEN {
        check.add(at, "is hidden, but no value is stored");
    } else if field.secret && value.contains(MASK) {
        // A mask of something else, such as of a key that was changed meanwhile, is never meant.
        check.add(at, "is a mask, but not that of the stored value");
    }
}

/// Checks fields that are to be validated and not stored. Hidden ones are taken from `stored`.
pub fn to_validate(
    kind: &KindSpec,
    given: &BTreeMap<String, String>,
    stored: &BTreeMap<String, SecretString>,
    path: &str,
    check: &mut Check,
) -> BTreeMap<String, SecretString> {
    for name in given.keys().filter(|name| spec(kind, name).is_none()).take(8) {
        check.add(
            format!("{path}.{}", shown(name)),
            format!("is not a credential field of kind {}", kind.name),
        );
    }
    let mut fields = BTreeMap::new();
    for field in kind.credential_fields {
        let at = format!("{path}.{}", field.name);
        let value = match (given.get(field.name).map(String::as_str), stored.get(field.name)) {
            (None, old) => old.cloned(),
            (Some(value), Some(old))
                if field.secret && (value == HIDDEN || is_mask(value, old.expose_secret())) =>
            {
                Some(old.clone())
            }
            (Some(value), _) => {
                let value = trimmed(field, value);
                check_value(field, value, &at, check);
                (!value.is_empty()).then(|| SecretString::from(value))
            }
        };
        let default = || (!field.default_value.is_empty()).then(|| SecretString::from(field.default_value));
        let value = value.or_else(default);
        match value {
            Some(value) => drop(fields.insert(field.name.to_owned(), value)),
            None if field.required => check.add(at, format!("Variable {} is required", field.name)),
            None => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::{is_mask, mask};

    #[test]
    fn a_mask_of_the_release_before_is_known() {
        let key = "sk-1234567890abcdef";
        assert!(is_mask(&mask(key), key) && is_mask("sk-123************ef", key));
        assert!(!is_mask("sk-123************xx", key) && !is_mask("", key));
    }

    #[test]
    fn masks() {
        for (value, expected) in [
            ("", ""),
            ("x", "********************"),
            ("123456789012345", "********************"),
            ("1234567890123456789", "********************"),
            ("12345678901234567890", "123456************90"),
            ("sk-proj-abcdefghijklmnopqrstuvwxyz", "sk-pro************yz"),
            ("äöüßäöüßäöüßäöüßäöüßäöüßäöüßäöüß", "äöüßäö************üß"),
        ] {
            assert_eq!(mask(value), expected, "{value}");
        }
    }
}
