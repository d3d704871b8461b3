//! Credentials: named sets of secrets, of a provider or of one model of it.

use crate::provider::ModelType;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What a masked secret may be sent back as, to keep the stored value.
pub const HIDDEN: &str = "[__HIDDEN__]";

/// What a credential belongs to: a provider, or one model of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialOwner {
    /// The provider's name.
    pub provider: String,
    /// The model, where it belongs to one.
    pub model: Option<(ModelType, String)>,
}

/// A credential to be stored.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// What it belongs to.
    pub owner: CredentialOwner,
    /// For people.
    pub name: String,
    /// By field name, in the clear.
    pub fields: BTreeMap<String, String>,
    /// Make it the active one.
    pub activate: bool,
}

/// A change of a credential; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct CredentialChange {
    /// For people.
    pub name: Option<String>,
    /// The new fields; masked or hidden secrets keep the stored value.
    pub fields: Option<BTreeMap<String, String>>,
    /// Refused where it is neither 0 nor current.
    pub revision: i64,
}

/// A credential as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// Its row id.
    pub id: Uuid,
    /// The tenant.
    pub tenant: String,
    /// What it belongs to.
    pub owner: CredentialOwner,
    /// For people.
    pub name: String,
    /// By field name, secrets masked.
    pub fields: BTreeMap<String, String>,
    /// Whether it serves without balancing.
    pub active: bool,
    /// Counts changes.
    pub revision: i64,
    /// What is wrong with it; empty: nothing.
    pub warning: String,
}
