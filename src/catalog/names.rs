//! Checks names, texts and addresses. Every request passes through here, lookups included.
//!
//! An error never repeats the value that it refuses: the value may be huge, or a secret in the wrong field.

use crate::{
    catalog::types::{Error, ModelKey, Violation},
    provider::guard::{self, Networks},
};
use std::borrow::Cow;
use url::Url;

/// The longest free text and model name, in characters.
const TEXT: usize = 256;
/// The longest address, in bytes.
const ADDRESS: usize = 2048;

/// Collects what is wrong with a request, so that one answer names every field.
#[derive(Debug, Default)]
pub struct Check(Vec<Violation>);

impl Check {
    /// Notes one field.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Notes a refusal and goes on; anything but [`Error::Invalid`] ends the request.
    pub fn note<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Invalid(violations)) => {
                self.0.extend(violations);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// A free text: up to 256 characters, none of them control.
    pub fn text(&mut self, field: &str, value: &str) {
        if value.chars().count() > TEXT {
            self.add(field, "is longer than 256 characters");
        } else if value.chars().any(char::is_control) {
            self.add(field, "holds a control character");
        }
    }

    /// A free text that must be there.
    pub fn required_text(&mut self, field: &str, value: &str) {
        if value.trim().is_empty() {
            self.add(field, "is required");
        } else {
            self.text(field, value);
        }
    }

    /// An address that may be called from here; the empty one is left to the caller.
    pub fn address(&mut self, field: &str, value: &str, networks: Networks) -> Option<Url> {
        if value.is_empty() {
            return None;
        }
        if value.len() > ADDRESS {
            self.add(field, "is longer than 2048 bytes");
            return None;
        }
        match guard::check_url(value, networks) {
            Ok(url) => Some(url),
            Err(reason) => {
                self.add(field, reason);
                None
            }
        }
    }

    /// All that was noted, as the refusal it is.
    pub fn into_error(self) -> Error {
        Error::Invalid(self.0)
    }

    /// Ok where nothing was noted.
    pub fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

fn identifier(field: &str, name: &str) -> Result<(), Error> {
    let starts = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let follows = |c: u8| starts(c) || matches!(c, b'.' | b'_' | b'-');
    let bytes = name.as_bytes();
    match bytes.first() {
        None => Err(Error::invalid(field, "is required")),
        Some(&first) if bytes.len() <= 63 && starts(first) && bytes.iter().all(|&c| follows(c)) => Ok(()),
        Some(_) => Err(Error::invalid(field, "must match [a-z0-9][a-z0-9._-]{0,62}")),
    }
}

/// A tenant's id.
pub fn tenant(field: &str, id: &str) -> Result<(), Error> {
    identifier(field, id)
}

/// The one spelling of a provider's name: Dify's `langgenius/x/x` is `x`.
pub fn canonical(provider: &str) -> &str {
    let mut parts = provider.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("langgenius"), Some(plugin), Some(name), None) if plugin == name => name,
        _ => provider,
    }
}

/// A provider's name in its one spelling.
pub fn provider<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let name = canonical(name);
    identifier(field, name).map(|()| name)
}

/// A model's name: 1 to 256 characters, none of them control.
pub fn model(field: &str, name: &str) -> Result<(), Error> {
    let mut check = Check::default();
    if name.is_empty() {
        check.add(field, "is required");
    } else {
        check.text(field, name);
    }
    check.finish()
}

/// The ways to read a name as `provider/model`: the first slash ends the provider, or the third that of Dify's
/// `langgenius/x/x`. Names of models may hold slashes.
pub fn readings(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let long = name.strip_prefix("langgenius/").and_then(|rest| {
        let (plugin, rest) = rest.split_once('/')?;
        rest.split_once('/').filter(|(provider, _)| *provider == plugin)
    });
    [name.split_once('/'), long].into_iter().flatten().filter(|(_, model)| !model.is_empty())
}

/// What [`readings`] reads as that model, in each of its spellings.
pub fn spellings(key: &ModelKey) -> [String; 2] {
    let ModelKey { provider, model, .. } = key;
    [format!("{provider}/{model}"), format!("langgenius/{provider}/{provider}/{model}")]
}

/// A model's key in its one spelling. Violations are under `key`, as every request that takes one calls it.
pub fn key(key: &ModelKey) -> Result<Cow<'_, ModelKey>, Error> {
    key_parts(key).map_err(|error| error.under("key"))
}

/// As [`key`], with violations relative to the key.
pub fn key_parts(key: &ModelKey) -> Result<Cow<'_, ModelKey>, Error> {
    let mut check = Check::default();
    check.note(tenant("tenant_id", &key.tenant))?;
    let provider = check.note(provider("provider", &key.provider))?;
    check.note(model("model", &key.model))?;
    check.finish()?;
    Ok(match provider {
        Some(name) if name != key.provider => {
            Cow::Owned(ModelKey { provider: name.to_owned(), ..key.clone() })
        }
        _ => Cow::Borrowed(key),
    })
}

/// Caller's text for an error message: short, and without control characters.
pub fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "0", "acme", "a.b_c-d", &"a".repeat(63)] {
            assert!(tenant("id", good).is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", ".a", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
            assert!(tenant("id", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_long_dify_name_is_the_short_one() {
        assert_eq!(provider("p", "langgenius/openai/openai").unwrap(), "openai");
        assert_eq!(provider("p", "openai").unwrap(), "openai");
        assert!(provider("p", "langgenius/openai/gemini").is_err());
        assert!(provider("p", "other/openai/openai").is_err());
        assert!(provider("p", "langgenius/openai/openai/x").is_err());
    }

    #[test]
    fn a_name_is_read_as_provider_and_model() {
        let read = |name: &'static str| readings(name).collect::<Vec<_>>();
        assert_eq!(read("openai/gpt-4o"), [("openai", "gpt-4o")]);
        assert_eq!(read("openrouter/meta/llama"), [("openrouter", "meta/llama")]);
        assert_eq!(read("langgenius/x/x/m/1"), [("langgenius", "x/x/m/1"), ("x", "m/1")]);
        assert_eq!(read("langgenius/x/y/m"), [("langgenius", "x/y/m")]);
        assert_eq!(read("langgenius/x/x"), [("langgenius", "x/x")]);
        assert_eq!(read("langgenius/x/x/"), [("langgenius", "x/x/")]);
        for none in ["", "gpt-4o", "openai/"] {
            assert_eq!(read(none), [], "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_spelling_of_a_model_is_read_as_it(provider in "[a-z0-9][a-z0-9._-]{0,9}", model in "[^\\p{Cc}]{1,9}") {
            let key = ModelKey {
                tenant: String::new(),
                provider: provider.clone(),
                model_type: crate::provider::ModelType::Llm,
                model: model.clone(),
            };
            for name in spellings(&key) {
                proptest::prop_assert!(readings(&name).any(|read| read == (provider.as_str(), model.as_str())), "{name}");
            }
        }
    }

    #[test]
    fn refused_values_are_not_repeated() {
        let huge = "X".repeat(100_000);
        let error = provider("provider", &huge).unwrap_err();
        assert!(error.to_string().len() < 200);
        assert!(model("model", &huge).unwrap_err().to_string().len() < 200);
        assert!(shown(&huge).len() <= 64);
    }
}
