//! Where one attempt goes, and the secrets that it needs there.

use super::KindSpec;
use crate::wire::{Recipient, Switches};
use secrecy::SecretString;
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Where one attempt goes: an address, a model, and the credential for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The tenant's row id: whose part of what all calls share it uses.
    pub tenant: Uuid,
    /// The API's root, such as `https://api.openai.com/v1`; no trailing slash is needed.
    pub base_url: Url,
    /// The model's name as the provider knows it.
    pub model: String,
    /// The credential's fields; all of them are treated as secrets from here on.
    pub fields: Fields,
    /// What the server does not take, though its kind does.
    pub switches: Switches,
    /// How long a new connection may take; none: as the service is set.
    pub connect_timeout: Option<Duration>,
}

impl Target {
    /// For whom requests to it are written, where it is of that kind.
    #[must_use]
    pub fn recipient<'t>(&'t self, kind: &'t KindSpec) -> Recipient<'t> {
        Recipient { kind: kind.name, model: &self.model, switches: self.switches }
    }
}

/// A credential's fields by name. Clones share them: an attempt copies no secret.
#[derive(Clone, Default)]
pub struct Fields(Arc<Held>);

#[derive(Default)]
struct Held {
    fields: Box<[(Box<str>, SecretString)]>,
    /// The forms in which its secrets may be shown, once somebody has looked for them.
    forms: OnceLock<Arc<Zeroizing<Vec<String>>>>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// The field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.fields.iter().map(|(name, value)| (&**name, value))
    }

    /// What `make` makes of them, the first time: the forms in which their secrets may be shown.
    pub(super) fn forms(&self, make: impl FnOnce() -> Vec<String>) -> Arc<Zeroizing<Vec<String>>> {
        self.0.forms.get_or_init(|| Arc::new(Zeroizing::new(make()))).clone()
    }
}

impl FromIterator<(String, SecretString)> for Fields {
    fn from_iter<T: IntoIterator<Item = (String, SecretString)>>(fields: T) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Self(Arc::new(Held { fields, forms: OnceLock::new() }))
    }
}

impl<const N: usize> From<[(String, SecretString); N]> for Fields {
    fn from(fields: [(String, SecretString); N]) -> Self {
        fields.into_iter().collect()
    }
}
